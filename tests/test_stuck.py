"""A model that goes round in circles is told so, and then its run fails: what counts as the same, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest

from greenroom import Agent, AgentError, MemoryJournal, Run, RunResult, Stuck, System, ToolCallInvalid, tool
from greenroom.agents.machine import Begin, CallModel, Finish, Machine, Rejected, Replied, Rules
from greenroom.agents.reminders import Repeating, Streak, stuck
from greenroom.journal import Said
from greenroom.providers import Message, ModelReply, Scripted, ToolCall, ToolResult, assistant, call, user
from greenroom.testing import Interruption, interrupt_everywhere
from greenroom.testing import run as play

from .crashes.memory import Lines, RecordingJournal, check_told, virtual

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@tool(replay="safe")
async def look(at: int = 0) -> str:
    """Look."""
    await anyio.sleep(1)
    return "seen"


@tool(replay="safe")
async def find(what: str = "") -> str:
    """Find."""
    return "found"


SAME = [("look", {"at": 1})]
OTHER = [("look", {"at": 2})]


def helper(*lines: Any, **options: Any) -> Agent[Any, Any]:
    return Agent("helper", Lines(*lines), **{"tools": [look, find], "stuck_after": 3, **options})


def is_told(message: Any) -> bool:
    return message.role == "user" and "in the same way" in message.text


# -- what becomes of it


@backends
def test_it_is_told_once_and_then_the_run_fails(backend: str) -> None:
    async def scenario() -> None:
        heard: list[Any] = []
        hooked: list[Any] = []
        journal = MemoryJournal(keep=True)
        agent = helper(*[SAME] * 9, hooks={"on_stuck": hooked.append})
        async with System(journal=journal) as system:
            run = await system.start(agent, "Go", on_event=heard.append)
            with pytest.raises(Stuck) as caught:
                await run.result()
        error = caught.value
        assert isinstance(error, AgentError)
        assert (error.tools, error.repeats) == (("look",), 6)
        assert "6 turns in a row called 'look' in the same way" in str(error)
        assert "stuck_after=" in str(error)
        assert "\n" not in str(error)
        result = error.result
        assert result is not None
        assert (result.status, result.reason) == ("failed", "error")
        await check_told(journal, result)
        roles = ["told" if is_told(message) else message.role for message in result.messages]
        turn = ["assistant", "tool"]
        assert roles == ["user", *turn * 3, "told", *turn * 3]
        [said] = [event for event in heard if event.type == "agent.stuck"]
        assert (said.repeats, said.tools, said.turn) == (3, ("look",), 4)
        assert hooked == [said]
        assert heard[-1].type == "run.failed"

    play(scenario, backend=backend)


@backends
def test_a_model_that_does_something_else_goes_on(backend: str) -> None:
    """And is told anew when it goes round in circles again."""

    async def scenario() -> None:
        agent = helper(*[SAME] * 5, OTHER, *[SAME] * 5, "Done.")
        result = await agent.run("Go")
        assert result.status == "completed"
        told = [place for place, message in enumerate(result.messages) if is_told(message)]
        assert told == [7, 20]

    play(scenario, backend=backend)


@backends
def test_by_default_after_ten_turns_and_never_if_one_says_so(backend: str) -> None:
    async def scenario() -> None:
        agent = Agent("helper", Lines(*[SAME] * 49, "Done."), tools=[look])
        with pytest.raises(Stuck) as caught:
            await agent.run("Go")
        assert caught.value.repeats == 20
        result = await agent.with_(stuck_after=None).run("Go")
        assert result.status == "completed"
        assert not [message for message in result.messages if is_told(message)]

    play(scenario, backend=backend)


@backends
def test_calls_that_cannot_run_fail_the_run_as_before(backend: str) -> None:
    async def scenario() -> None:
        with pytest.raises(ToolCallInvalid):
            await helper(*[["nope"]] * 9).run("Go")
        with pytest.raises(Stuck):
            await helper(*[["nope"]] * 9, tool_retries=20).run("Go")

    play(scenario, backend=backend)


@backends
def test_it_is_not_told_two_things_at_once(backend: str) -> None:
    """That it goes round in circles says more than to look at its plan."""

    async def scenario() -> None:
        result = await helper(*[SAME] * 4, "Done.", replan_every=3, replan_prompt="Plan!").run("Go")
        assert [is_told(message) for message in result.messages if message.role == "user"] == [False, True]

    play(scenario, backend=backend)


# -- what is the same


def turn(streak: Streak, *calls: ToolCall, results: list[str] | None = None, **more: Any) -> int:
    """Count a turn; how often it has come."""
    texts = results if results is not None else ["ok"] * len(calls)
    streak.count(
        calls, [ToolResult(each.id or "", text, each.name, **more) for each, text in zip(calls, texts, strict=True)]
    )
    return streak.repeats


def test_ids_and_the_order_of_calls_do_not_matter() -> None:
    streak = Streak()
    assert turn(streak, call("a", x=1), call("b")) == 1
    assert turn(streak, ToolCall("other", "b", {}, "{}"), ToolCall("ids", "a", {"x": 1}, '{"x": 1}')) == 2
    assert turn(streak, call("a", x=2), call("a", x=1)) == 1
    assert turn(streak, call("a", x=1), call("a", x=2)) == 2
    assert streak.tools == ("a",)


@pytest.mark.parametrize(
    ("other", "options"),
    [
        ((call("b"),), {}),
        ((call("a", x=1),), {}),
        ((call("a"), call("a")), {}),
        ((call("a"),), {"results": ["something new"]}),
        ((call("a"),), {"is_error": True}),
        ((ToolCall("1", "a", None, "{"),), {}),
    ],
)
def test_what_differs_in_anything_begins_a_new_count(other: tuple[ToolCall, ...], options: dict[str, Any]) -> None:
    streak = Streak()
    turn(streak, call("a"))
    assert turn(streak, call("a")) == 2
    assert turn(streak, *other, **options) == 1
    assert turn(streak, call("a")) == 1


def test_arguments_are_compared_by_their_value_not_their_text() -> None:
    streak = Streak()
    turn(streak, ToolCall("1", "a", {"x": 1, "y": [1, {"z": None}]}, '{"x":1,"y":[1,{"z":null}]}'))
    assert turn(streak, ToolCall("2", "a", {"y": [1, {"z": None}], "x": 1}, '{ "y": [1, {"z": null}], "x": 1 }')) == 2


def machine(read: Callable[[Message], Any] = lambda message: message.text, **rules: Any) -> Machine:
    made = Machine(Rules(_refuse, read, stuck_after=2, tool_retries=100, **rules), (), (user("x"),))
    made.handle(Begin())
    return made


def _refuse(call: ToolCall) -> ToolResult | None:
    return ToolResult(call.id or "", "no", call.name, True, "unknown_tool")


def says(text: str) -> Replied:
    return Replied(ModelReply(assistant(text)))


def calls(name: str) -> Replied:
    return Replied(ModelReply(assistant(tool_calls=[ToolCall("1", name, {}, "{}")])))


def test_an_answer_in_between_breaks_the_row() -> None:
    """One that is sent back does; a part of one that the provider suspended is no answer yet."""

    def reject(message: Message) -> str:
        raise Rejected("mend it")

    run = machine(read=reject)
    assert run.handle(calls("a")) == [CallModel()]
    assert run.handle(says("the answer")) == [CallModel()]
    assert run.handle(calls("a")) == [CallModel()]
    assert not run.take_unsaid()
    assert run.handle(Replied(ModelReply(assistant("so far"), "pause"))) == [CallModel()]
    assert run.handle(calls("a")) == [CallModel()]
    [reminder] = run.take_unsaid()
    assert (reminder.why, reminder.repeats) == ("stuck", 2)


def test_the_end_names_the_tools_and_comes_before_a_limit() -> None:
    run = machine(turns=4)
    for _ in range(3):
        assert run.handle(calls("a")) == [CallModel()]
    [finish] = run.handle(calls("a"))
    assert isinstance(finish, Finish)
    assert finish.status == "failed"
    assert isinstance(finish.error, Repeating)
    assert (finish.error.repeats, finish.error.tools) == (4, ("a",))


def test_several_tools_are_named_in_a_sentence() -> None:
    streak = Streak()
    turn(streak, call("a"), call("b"), call("c"), call("a"))
    assert "called 'a', 'b' and 'c' in the same way" in stuck(streak).message.text


# -- a crash


async def ended(run: Run[Any]) -> RunResult[Any]:
    """What the run had reached, however it has ended."""
    with suppress(Stuck):
        return await run.result()
    assert run._cell.result is not None
    return run._cell.result


async def recovered(journal: RecordingJournal, agent: Agent[Any, Any]) -> Any:
    heard: list[Any] = []
    async with System(journal=journal, sources=virtual()) as system:
        [run] = await system.recover([agent], on_event=heard.append, max_claims=1_000)
        result = await ended(run)
    await check_told(journal, result)
    return result, heard


@backends
def test_from_every_prefix_to_the_same_end(backend: str) -> None:
    """What was counted before a crash is counted after it; what was said is not said again."""

    async def scenario() -> None:
        agent = helper(*[SAME] * 4, OTHER, *[SAME] * 9)
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(agent, "Go", run_id="r")
            with pytest.raises(Stuck) as caught:
                await run.result()
        expected = caught.value.result
        assert expected is not None
        assert [each.why for each in (await check_told(journal, expected)).records if isinstance(each, Said)] == [
            *("stuck", "stuck"),
        ]
        for number in range(1, len(journal.written)):
            result, _ = await recovered(journal.after(number), agent)
            assert result.messages == expected.messages, number
            assert result.status == "failed"

    play(scenario, backend=backend)


@pytest.mark.parametrize("change", [None, 2, 5])
@backends
def test_a_changed_patience_tells_before_it_fails(change: int | None, backend: str) -> None:
    """A model that has repeated itself for longer than it may today hears of it first."""

    async def scenario() -> None:
        lines = [*[SAME] * 12, "Done."]
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            await (await system.start(helper(*lines, stuck_after=None), "Go", run_id="r")).result()
        for number in range(1, len(journal.written), 3):
            result, heard = await recovered(journal.after(number), helper(*lines, stuck_after=change))
            told = [event for event in heard if event.type == "agent.stuck"]
            if result.status == "failed":
                assert len(told) == 1
                assert change is not None
                assert sum(is_told(message) for message in result.messages) == 1
            elif change is None:
                assert told == []

    play(scenario, backend=backend)


@pytest.mark.parametrize("how", ["stop", "system"])
@backends
def test_interrupted_at_every_step(how: str, backend: str) -> None:
    async def scenario(interruption: Interruption) -> None:
        journal = RecordingJournal()
        agent = helper(*[SAME] * 9, stuck_after=2)
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(agent, "Go", run_id="r")
            acts = {"stop": run.stop, "system": partial(run._cell.request_stop, "system")}
            interruption.arm(acts[how])
            result = await ended(run)
        told = await check_told(journal, result)
        if told.standing == "suspended":
            result, _ = await recovered(journal, agent)
            assert (result.status, sum(is_told(message) for message in result.messages)) == ("failed", 1)

    interrupt_everywhere(scenario, backend=backend)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"stuck_after": 1}, ValueError, "stuck_after= must be at least 2 turns, or None to turn it off, not 1"),
        ({"stuck_after": False}, TypeError, "stuck_after= takes a number of turns, at least 2, or None, not False"),
        ({"stuck_detection": True}, TypeError, "stuck_after=10, or stuck_after=None"),
    ],
)
def test_wrong_options_are_one_line(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        Agent("helper", Scripted("Done."), **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
