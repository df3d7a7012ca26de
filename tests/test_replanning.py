"""A model that works for long is told every so many turns to look at its plan: when, in which words, and once only."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest

from greenroom import Agent, Chronicle, Drained, MemoryJournal, System, tool
from greenroom.agents.machine import (
    Begin,
    CallModel,
    Finish,
    Machine,
    Replied,
    Rules,
    StopAsked,
    ToolDone,
)
from greenroom.agents.reminders import REPLAN_PROMPT
from greenroom.journal import Said
from greenroom.providers import Message, ModelReply, ToolCall, ToolResult, assistant, user
from greenroom.testing import Interruption, interrupt_everywhere
from greenroom.testing import run as play

from .crashes.memory import Lines, RecordingJournal, check_told, virtual

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@tool(replay="safe")
async def look(at: int = 0) -> str:
    """Look."""
    await anyio.sleep(1)
    return "seen"


def looks(*numbers: int) -> list[Any]:
    """Lines that look here and there, one after the other."""
    return [[("look", {"at": number})] for number in numbers]


def helper(*lines: Any, **options: Any) -> Agent[Any, Any]:
    return Agent("helper", Lines(*lines), **{"tools": [look], "replan_every": 2, **options})


def shape(messages: Any) -> list[str]:
    """The conversation as a word for each message; a reminder is ``plan``."""
    return ["plan" if message.text == REPLAN_PROMPT else message.role for message in messages]


TURN = ["assistant", "tool"]


# -- when


@backends
def test_before_the_model_call_after_every_so_many_turns(backend: str) -> None:
    async def scenario() -> None:
        heard: list[Any] = []
        hooked: list[Any] = []
        agent = helper(*looks(1, 2, 3, 4, 5), "Done.", hooks={"on_replan": hooked.append})
        result = await agent.run("Go", on_event=heard.append)
        expected = ["user", *TURN, *TURN, "plan", *TURN, *TURN, "plan", *TURN, "assistant"]
        assert shape(result.messages) == expected
        assert [(event.turns, event.turn) for event in heard if event.type == "agent.replanning"] == [(2, 3), (4, 5)]
        assert [event.turns for event in hooked] == [2, 4]

    play(scenario, backend=backend)


@backends
def test_never_unless_it_is_asked_for_and_in_words_of_ones_own(backend: str) -> None:
    async def scenario() -> None:
        for options, words in (({"replan_every": None}, []), ({"replan_prompt": "Think!"}, ["Think!"])):
            agent = helper(*looks(1, 2, 3), "Done.", **options)
            result = await agent.run("Go")
            assert [message.text for message in result.messages if message.role == "user"] == ["Go", *words]

    play(scenario, backend=backend)


@backends
def test_counted_for_each_run(backend: str) -> None:
    """The turns of the history are not its own."""

    async def scenario() -> None:
        first = await helper(*looks(1), "Done.").run("Go")
        agent = helper("", "", *looks(1), "Done.", replan_every=3)
        second = await agent.run("Go", history=first)
        assert "plan" not in shape(second.messages)

    play(scenario, backend=backend)


@backends
def test_a_message_of_the_user_has_the_last_word(backend: str) -> None:
    async def scenario() -> None:
        journal = MemoryJournal(keep=True)
        async with System(journal=journal) as system:
            run = await system.start(helper(*looks(1, 2), "Done.", replan_every=1), "Go")
            await anyio.sleep(0.5)
            run.send("Hurry")
            result = await run.result()
        await check_told(journal, result)
        assert [message.text for message in result.messages if message.role == "user"] == [
            *("Go", REPLAN_PROMPT, "Hurry", REPLAN_PROMPT),
        ]

    play(scenario, backend=backend)


def machine(**rules: Any) -> Machine:
    def refuse(call: ToolCall) -> ToolResult | None:
        return ToolResult(call.id or "", "no", call.name, True, "unknown_tool") if call.name == "nope" else None

    def text_of(message: Message) -> str:
        return message.text

    made = Machine(Rules(refuse, text_of, **{"replan_every": 1, **rules}), (), (user("hello"),))
    made.handle(Begin())
    return made


def calls(*names: str) -> Replied:
    made = [ToolCall(f"id-{place}", name, {}, "{}") for place, name in enumerate(names)]
    return Replied(ModelReply(assistant(tool_calls=made)))


def done(place: int) -> ToolDone:
    return ToolDone(ToolResult(f"id-{place}", "ok"))


def test_never_between_a_call_and_its_result() -> None:
    run = machine()
    run.handle(calls("a", "b"))
    run.handle(done(1))
    assert shape(run.messages) == ["user", "assistant", "tool"]
    assert run.handle(done(0)) == [CallModel()]
    assert shape(run.messages) == ["user", "assistant", "tool", "tool", "plan"]


def test_also_after_calls_that_could_not_run() -> None:
    run = machine()
    assert run.handle(calls("nope")) == [CallModel()]
    assert shape(run.messages) == ["user", "assistant", "tool", "plan"]


def test_not_where_the_run_ends() -> None:
    """At its last turn, when it was stopped, with its answer, and after an answer that was suspended or sent back."""
    run = machine(turns=2)
    run.handle(calls("a"))
    assert run.handle(done(0)) == [CallModel()]
    run.handle(calls("a"))
    assert run.handle(done(0)) == [Finish("limited", "turns")]
    assert shape(run.messages) == ["user", "assistant", "tool", "plan", "assistant", "tool"]
    run = machine()
    run.handle(calls("a"))
    run.handle(StopAsked("after_tools", "user"))
    assert run.handle(done(0)) == [Finish("stopped", "user")]
    assert shape(run.messages) == ["user", "assistant", "tool"]
    run = machine()
    assert run.handle(Replied(ModelReply(assistant("so far"), "pause"))) == [CallModel()]
    assert run.handle(Replied(ModelReply(assistant("done")))) == [Finish("completed", "answered", "done")]
    assert shape(run.messages) == ["user", "assistant", "assistant"]


def test_a_silent_machine_reminds_of_nothing() -> None:
    run = machine(silent=True)
    run.handle(calls("a"))
    assert run.handle(done(0)) == [CallModel()]
    assert (shape(run.messages), run.take_unwritten(), run.take_unsaid()) == (["user", "assistant", "tool"], (), ())


# -- a crash


async def recovered(journal: RecordingJournal, agent: Agent[Any, Any]) -> Any:
    """The result of the run after its recovery by this agent, and what was heard."""
    heard: list[Any] = []
    async with System(journal=journal, sources=virtual()) as system:
        [run] = await system.recover([agent], on_event=heard.append, max_claims=1_000)
        result = await run.result()
    await check_told(journal, result)
    return result, heard


@backends
def test_from_every_prefix_to_the_same_conversation(backend: str) -> None:
    async def scenario() -> None:
        agent = helper(*looks(1), ["nope"], *looks(3, 4), "Done.", "Done faster.")
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(agent, "Go", run_id="r")
            run.send("And hurry", "idle")
            run.send("Now")
            expected = await run.result()
        await check_told(journal, expected)
        assert shape(expected.messages).count("plan") == 2
        for number in range(3, len(journal.written)):
            result, _ = await recovered(journal.after(number), agent)
            assert result.messages == expected.messages, number

    play(scenario, backend=backend)


@pytest.mark.parametrize("change", [{"replan_every": None}, {"replan_every": 1}, {"replan_prompt": "Other words."}])
@pytest.mark.parametrize("then", [2, None])
@backends
def test_what_was_said_stays_whatever_the_agent_would_say_today(
    then: int | None, change: dict[str, Any], backend: str
) -> None:
    """Up to the last request that was made; from there on it is as the agent is today."""

    async def scenario() -> None:
        lines = [*looks(1, 2, 3, 4), "Done."]
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(helper(*lines, replan_every=then), "Go", run_id="r")
            await anyio.sleep(0.5)
            run.send("And hurry")
            await run.result()
        for number in range(1, len(journal.written)):
            again = journal.after(number)
            before = list(await _messages(again))
            result, heard = await recovered(again, helper(*lines, **change))
            assert list(result.messages)[: len(before)] == before, number
            texts = [message.text for message in result.messages if message.role == "user"]
            later = [event.turns for event in heard if event.type == "agent.replanning"]
            said = [message.text for message in before if message.role == "user"]
            due = [text for text in texts if text == "And hurry" and text not in said]
            assert len(texts) == len(said) + len(later) + len(due), number

    play(scenario, backend=backend)


async def _messages(journal: RecordingJournal) -> tuple[Message, ...]:
    return Chronicle(await journal.read("r")).messages


@backends
def test_a_drain_at_the_turn_keeps_it(backend: str) -> None:
    """The run rests right after its turn: result and journal say the same, and it is said once."""

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper(*looks(1, 2, 3), "Done.")
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(agent, "Go", run_id="r")
            await anyio.sleep(1.5)
            assert await system.drain(100) == Drained(suspended=("r",))
            cut = await run.result()
        told = await check_told(journal, cut)
        assert shape(cut.messages)[-1] == "plan"
        assert [each.why for each in told.records if isinstance(each, Said)] == ["replan"]
        result, _ = await recovered(journal, agent)
        assert shape(result.messages).count("plan") == 1

    play(scenario, backend=backend)


@pytest.mark.parametrize("how", ["stop", "after_turn", "system"])
@backends
def test_interrupted_at_every_step(how: str, backend: str) -> None:
    """The journal tells the conversation, and what goes on from it has each reminder once."""

    async def scenario(interruption: Interruption) -> None:
        journal = RecordingJournal()
        agent = helper(*looks(1, 2, 3), "Done.", replan_every=1)
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(agent, "Go", run_id="r")
            acts = {
                "stop": run.stop,
                "after_turn": partial(run.stop, "after_turn"),
                "system": partial(run._cell.request_stop, "system"),
            }
            interruption.arm(acts[how])
            result = await run.result()
        told = await check_told(journal, result)
        if told.standing == "suspended":
            result, _ = await recovered(journal, agent)
            assert shape(result.messages) == ["user", *[*TURN, "plan"] * 3, "assistant"]

    interrupt_everywhere(scenario, backend=backend)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"replan_every": 0}, ValueError, "replan_every= must be at least 1 turns, or None to turn it off, not 0"),
        ({"replan_every": True}, TypeError, "replan_every= takes a number of turns, at least 1, or None, not True"),
        ({"replan_every": "3"}, TypeError, "replan_every= takes a number of turns"),
        ({"replan_prompt": 3}, TypeError, "replan_prompt= takes text, not 3"),
        ({"replan_prompt": " "}, ValueError, "replan_prompt= must not be empty"),
        ({"replan_interval": 3}, TypeError, "write replan_every=3"),
    ],
)
def test_wrong_options_are_one_line(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        Agent("helper", Lines("Done."), **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
