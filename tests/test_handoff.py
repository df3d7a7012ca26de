"""Handing a conversation over to another agent, and back."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
import pytest

from greenroom import (
    Agent,
    AgentFrozen,
    Chronicle,
    Deny,
    LimitExceeded,
    Limits,
    MemoryJournal,
    ModelRetry,
    RunContext,
    System,
    ask_before,
    tool,
)
from greenroom import journal as journal_records
from greenroom.agents import events
from greenroom.agents.attempt import Attempt
from greenroom.providers import ModelReply, ModelRequest, ToolCall
from greenroom.testing import Interruption, interrupt_everywhere
from greenroom.testing import run as play

from .crashes.memory import COST, PRICES, USED, Lines, RecordingJournal, check_told, virtual

each_backend = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Model(Lines):
    """Notes what it is asked."""

    def __init__(self, name: str, *lines: Any) -> None:
        super().__init__(*lines)
        self.model = name
        self.requests: list[ModelRequest] = []

    async def complete(self, request: ModelRequest) -> ModelReply:
        self.requests.append(request)
        return await super().complete(request)


class Answer(msgspec.Struct, frozen=True):
    """A typed answer."""

    number: int


@tool(replay="safe")
async def look(context: RunContext[Any]) -> str:
    """Look."""
    await context.sleep(1.0)
    return f"{context.agent} sees {context.deps}"


@tool
async def once() -> str:
    """Not twice."""
    await anyio.sleep(1.0)
    return "done"


def desk(*lines: Any, **options: Any) -> Agent[Any, Any]:
    """Whom the conversation is handed over to after its first turn."""
    options = {"instructions": "You are the desk.", "tools": [look], "prices": PRICES, **options}
    return Agent("desk", Model("m", None, *(lines or (["look"], "From the desk."))), **options)


def front(to: Agent[Any, Any], *lines: Any, **options: Any) -> Agent[Any, Any]:
    """Who hands over."""
    options = {"instructions": "You are the front.", "tools": [look, to.as_handoff()], "prices": PRICES, **options}
    return Agent("front", Model("m", *(lines or (["transfer_to_desk"],))), **options)


def results(messages: Any) -> list[Any]:
    """All results of tools."""
    return [each for message in messages for each in message.tool_results]


@each_backend
def test_the_other_one_goes_on(backend: str) -> None:
    """Its instructions, model, tools, settings, output and hooks; the history, deps, ids and limits stay."""

    async def scenario() -> None:
        told: list[str] = []
        heard: list[Any] = []
        second = desk(
            ["look"],
            '{"number": 7}',
            output=Answer,
            settings={"temperature": 0.5},
            hooks={"on_tool_end": lambda e: told.append(e.tool)},
        )
        first = front(second, hooks={"on_tool_start": lambda e: told.append(f"front {e.tool}")})
        result = await first.run("Go", deps="deps", user_id="u", run_id="r", on_event=heard.append)
        assert (result.output, result.agent, result.run_id) == (Answer(7), "desk", "r")
        models: Any = second.provider
        request = models.requests[0]
        assert request.instructions.startswith("You are the desk.")
        assert [spec.name for spec in request.tools][:1] == ["look"]
        assert request.settings.temperature == 0.5
        assert [message.role for message in request.messages] == ["user", "assistant", "tool"]
        assert [each.content for each in results(result.messages)] == [
            "desk goes on with the conversation.",
            "desk sees deps",
        ]
        assert told == ["front transfer_to_desk", "look"]
        assert result.usage == USED + USED + USED
        assert result.cost == pytest.approx(3 * COST)
        (handed,) = [event for event in heard if isinstance(event, events.AgentHandedOver)]
        assert (handed.agent, handed.to, handed.run_id, handed.user_id) == ("front", "desk", "r", "u")
        assert [event.run_id for event in heard] == ["r"] * len(heard)

    play(scenario, backend=backend)


@each_backend
def test_there_and_back_again(backend: str) -> None:
    """Two agents that name each other: the second is given the tool when the first is made."""

    async def scenario() -> None:
        second = Agent("desk", Model("m", None, ["transfer_to_front"], None, "From the desk."))
        first = Agent(
            "front", Model("m", ["transfer_to_desk"], None, ["transfer_to_desk"]), tools=[second.as_handoff()]
        )
        second.tool(first.as_handoff())
        heard: list[Any] = []
        journal = MemoryJournal(keep=True)
        async with System(journal=journal) as system:
            run = await system.start(first, "Go", run_id="r", on_event=heard.append)
            result = await run.result()
            assert (result.output, result.agent) == ("From the desk.", "desk")
            told = await check_told(journal, result)
            assert told.handed_over == ["desk", "front", "desk"]
            steps = [each.name for each in told.trace().children if each.kind == "handoff"]
            assert steps == [f"handed over to agent {name}" for name in told.handed_over]
            tree = run.tree()
            assert tree.detail["agent"] == "desk"
        assert [event.to for event in heard if isinstance(event, events.AgentHandedOver)] == told.handed_over
        with pytest.raises(AgentFrozen):
            second.tool(look)

    play(scenario, backend=backend)


def test_a_tool_that_is_made_is_added_as_it_is() -> None:
    """Its options belong where it is made."""
    agent = Agent("a", Lines("x"))
    assert agent.tool(look) is look
    assert agent.tools == (look,)
    with pytest.raises(TypeError, match="tool 'once' is made already: give its options where it is made"):
        agent.tool(timeout=3)(once)
    assert agent.tools == (look,)


@each_backend
def test_two_in_one_reply(backend: str) -> None:
    """The first hands over; the second is refused, in a history that is whole."""

    async def scenario() -> None:
        second, third = desk("From the desk."), Agent("cellar", Model("m", "never"))
        first = Agent(
            "front",
            Model("m", ["transfer_to_desk", "transfer_to_cellar"]),
            tools=[second.as_handoff(), third.as_handoff()],
        )
        result = await first.run("Go")
        assert (result.output, result.agent) == ("From the desk.", "desk")
        one, two = results(result.messages)
        assert (one.is_error, two.is_error, two.cause) == (False, True, "invalid")
        assert two.content == "not run: another call of the same reply has handed the conversation over"

    play(scenario, backend=backend)


@each_backend
def test_beside_other_calls(backend: str) -> None:
    """They come to their ends first, as calls of the first agent."""

    async def scenario() -> None:
        result = await front(desk("From the desk."), ["transfer_to_desk", "look"]).run("Go", deps="x")
        assert [each.content for each in results(result.messages)] == [
            "desk goes on with the conversation.",
            "front sees x",
        ]

    play(scenario, backend=backend)


@each_backend
@pytest.mark.parametrize("how", ["policy", "denied", "approved", "unknown"])
def test_guards(backend: str, how: str) -> None:
    """A handoff is a tool call: it may be judged, and one that does not run hands over nothing."""

    async def scenario() -> None:
        second = desk("From the desk.")
        hand = second.as_handoff()
        first = Agent(
            "front",
            Model("m", ["transfer_to_desk" if how != "unknown" else "transfer_to_nobody"], "From the front."),
            tools=[hand],
            policy=(lambda call, context: Deny("no")) if how == "policy" else None,
        )
        asks = how in ("denied", "approved")
        asked: list[str] = []
        async with System() as system:
            run = await system.start(first, "Go", policy=ask_before("transfer_to_desk") if asks else None)
            if asks:
                async for event in run:
                    if isinstance(event, events.ApprovalRequested):
                        asked.append(event.tool)
                        assert [each.tool for each in run.pending] == ["transfer_to_desk"]
                        if how == "approved":
                            run.approve(event.call_id)
                        else:
                            run.deny(event.call_id, "no")
            result = await run.result()
        assert asked == (["transfer_to_desk"] if asks else [])
        assert result.agent == ("desk" if how == "approved" else "front")

    play(scenario, backend=backend)


@each_backend
def test_who_goes_on_is_guarded_too(backend: str) -> None:
    """By its own policy and by that of the run; and its calls may be approved."""

    async def scenario() -> None:
        judged: list[str] = []

        def judge(call: ToolCall, context: RunContext[Any]) -> Any:
            judged.append(f"{context.agent} {call.name}")
            return Deny("not here") if call.name == "look" else None

        @tool(needs_approval=True)
        async def ship() -> str:
            """Ship."""
            return "shipped"

        second = desk(["look"], ["ship"], "From the desk.", tools=[look, ship])
        async with System() as system:
            run = await system.start(front(second), "Go", policy=judge)
            async for event in run:
                if isinstance(event, events.ApprovalRequested):
                    run.approve(event.call_id)
            result = await run.result()
        assert judged == ["front transfer_to_desk", "desk look", "desk ship"]
        assert [each.content for each in results(result.messages)][-1] == "shipped"

    play(scenario, backend=backend)


@each_backend
def test_limits_go_on(backend: str) -> None:
    """The run's limits hold for all of its agents together; those of the second agent are for runs of its own."""

    async def scenario() -> None:
        second = desk(["look"], ["look"], ["look"], limits=Limits(turns=1))
        with pytest.raises(LimitExceeded) as caught:
            await front(second).run("Go", limits=Limits(turns=3))
        assert (caught.value.limit, caught.value.used) == ("turns", 3)
        result = caught.value.result
        assert result is not None
        assert result.agent == "desk"

    play(scenario, backend=backend)


@each_backend
def test_a_stop_at_the_handoff(backend: str) -> None:
    """The run has ended before anybody else could go on."""

    async def scenario() -> None:
        async with System() as system:
            run = await system.start(front(desk(), ["transfer_to_desk", "look"]), "Go")
            await anyio.sleep(0.5)
            result = await run.stop("after_tools")
        assert (result.status, result.agent) == ("stopped", "front")
        assert len(results(result.messages)) == 2

    play(scenario, backend=backend)


@each_backend
def test_a_conversation_begins_with_the_first_agent_again(backend: str) -> None:
    """What was said by both is the history; who goes on is decided anew."""

    async def scenario() -> None:
        second = Agent("desk", Model("m", None, "From the desk."))
        first = Agent("front", Model("m", ["transfer_to_desk"], None, "From the front."), tools=[second.as_handoff()])
        async with System() as system:
            chat = system.conversation(first, "c1")
            one, two = await chat.ask("one"), await chat.ask("two")
        assert [one.agent, two.agent] == ["desk", "front"]
        assert len(two.messages) == 6

    play(scenario, backend=backend)


@each_backend
def test_an_answer_that_is_sent_back(backend: str) -> None:
    """The second one's validators judge its answers; the first one's were for its own."""

    async def scenario() -> None:
        def picky(output: Answer) -> Answer:
            if output.number < 7:
                raise ModelRetry("more")
            return Answer(output.number * 10)

        second = desk('{"number": 1}', '{"number": 7}', output=Answer, validators=[picky], output_retries=1)
        first = front(second, "seven", ["transfer_to_desk"], output=int, output_retries=1)
        second.provider.lines = (None, *second.provider.lines)  # type: ignore[attr-defined]
        result = await first.run("Go")
        assert result.output == Answer(70)

    play(scenario, backend=backend)


def knot(*, tools: Any = (look, once)) -> list[Agent[Any, Any]]:
    """Two agents that hand over to each other, with other calls beside."""
    second = Agent(
        "desk",
        Lines(None, ["look"], '{"number": "x"}', ["once", "transfer_to_front"]),
        tools=[*tools],
        output=Answer,
        output_retries=2,
        prices=PRICES,
    )
    first = Agent(
        "front",
        Lines(["transfer_to_desk", "look", "transfer_to_desk"], None, None, None, ["look"], "The end."),
        tools=[*tools, second.as_handoff()],
        prices=PRICES,
    )
    second.tool(first.as_handoff())
    return [first, second]


@each_backend
def test_a_crash_anywhere(backend: str) -> None:
    """Whatever was written last, the run goes on with the agent that has it, and comes to the same end."""

    async def record() -> tuple[RecordingJournal, Any]:
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(knot()[0], "Go", run_id="r", deps="d")
            return journal, await run.result()

    async def go_on(journal: RecordingJournal, number: int, due: Any) -> None:
        crashed = journal.after(number)
        async with System(journal=crashed, sources=virtual()) as system:
            recovery = await system.recover(knot(), deps="d", max_claims=1_000)
            assert not recovery.left
            assert not recovery.changed
            (run,) = recovery
            result = await run.result()
            assert run._cell.restarts == 0
        assert (result.output, result.agent) == ("The end.", "front")
        known = [each.content for each in results(result.messages) if each.cause != "outcome_unknown"]
        expected = [each.content for each in results(due.messages)]
        assert [each for each in expected if each in known] == (
            expected if len(known) == len(expected) else [each for each in expected if each != "done"]
        )
        told = await check_told(crashed, result)
        assert told.handed_over == ["desk", "front"]

    journal, due = play(record, backend=backend)
    assert [each.content for each in results(due.messages)] == [
        "desk goes on with the conversation.",
        "front sees d",
        "not run: another call of the same reply has handed the conversation over",
        "desk sees d",
        "done",
        "front goes on with the conversation.",
        "front sees d",
    ]
    for number in range(1, len(journal.written)):
        play(go_on, journal, number, due, backend=backend)


@each_backend
def test_what_was_sent_back_to_the_first_does_not_count_for_the_second(backend: str) -> None:
    """Neither at once nor after a crash, although the second one is allowed less."""

    def agents() -> Agent[Any, Any]:
        replies = (None, None, None, '{"number": "x"}', ["look"], '{"number": 7}')
        second = Agent("desk", Lines(*replies), tools=[look], output=Answer, output_retries=1)
        asked = ("seven", "eight", ["transfer_to_desk"])
        return Agent("front", Lines(*asked), tools=[second.as_handoff()], output=int, output_retries=2)

    async def record() -> RecordingJournal:
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(agents(), "Go", run_id="r")
            assert (await run.result()).output == Answer(7)
        return journal

    async def go_on(journal: RecordingJournal, number: int) -> None:
        crashed = journal.after(number)
        async with System(journal=crashed, sources=virtual()) as system:
            (run,) = await system.recover([agents()], max_claims=1_000)
            result = await run.result()
            assert (result.output, run._cell.restarts) == (Answer(7), 0)
            await check_told(crashed, result)

    journal = play(record, backend=backend)
    for number in range(1, len(journal.written)):
        play(go_on, journal, number, backend=backend)


@each_backend
def test_a_restart_in_place(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever our own code fails, the run goes on with the agent that has it."""

    async def scenario(number: int) -> bool:
        seen = 0
        call_model = Attempt._call_model

        async def fail(attempt: Attempt) -> Any:
            nonlocal seen
            seen += 1
            if seen == number:
                raise RuntimeError("our own code has failed")
            return await call_model(attempt)

        with monkeypatch.context() as patch:
            patch.setattr(Attempt, "_call_model", fail)
            journal = MemoryJournal(keep=True)
            async with System(journal=journal, sources=virtual()) as system:
                run = await system.start(knot()[0], "Go", run_id="r", deps="d")
                result = await run.result()
            assert (result.output, result.agent, run._cell.restarts) == ("The end.", "front", int(seen > 6))
            assert len(results(result.messages)) == 7
            await check_told(journal, result)
        return seen > 6

    number = 1
    while play(scenario, number, backend=backend):
        number += 1
    assert number == 7


@each_backend
def test_an_agent_that_is_no_longer_handed_over_to(backend: str) -> None:
    """The run is left, with the reason; one whose agent has changed goes on and says what has."""

    async def scenario() -> None:
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            await system.start(front(desk()), "Go", run_id="r", deps="d")
            await anyio.sleep(0.5)
            crashed = journal.after(len(journal.written))
        async with System(journal=crashed, sources=virtual()) as system:
            second = desk()
            first = front(second.with_(name="bureau"), tools=[look])
            recovery = await system.recover([first])
            assert recovery.left == {"r": "it was handed over to 'desk', to whom its agent no longer does"}
            other = front(desk(instructions="You are another desk.", tools=[look, once]))
            recovery = await system.recover([other], deps="d")
            assert recovery.changed == {"r": ("tool 'once' is new", "the instructions are others")}
            assert (await recovery[0].result()).output == "From the desk."
            story = Chronicle(await crashed.read("r"))
            (record,) = [each for each in story.records if isinstance(each, journal_records.HandedOver)]
            assert record.agent == "desk"

    play(scenario, backend=backend)


@each_backend
def test_a_subagent_may_hand_over(backend: str) -> None:
    """It is a run like any other; its output is that of whoever has it in the end."""

    async def scenario() -> None:
        asker = Agent("asker", Lines([("front", {"prompt": "?"})], "End"), tools=[front(desk("From the desk."))])
        result = await asker.run("Go")
        assert [each.content for each in results(result.messages)] == ["From the desk."]
        assert result.usage.input_tokens == 40

    play(scenario, backend=backend)


@each_backend
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_interrupted_at_every_step(backend: str, how: str) -> None:
    """There is one end, with the agent that had it, and the journal says the same."""

    async def scenario(interruption: Interruption) -> None:
        journal = MemoryJournal(keep=True)
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(knot()[0], "Go", run_id="r")
            interruption.arm(run.stop if how == "stop" else run._cell.kill)
            result = await run.result()
            told = await check_told(journal, result)
            assert result.agent == (["front", *told.handed_over])[-1]
            asked = [call.id for message in result.messages for call in message.tool_calls]
            assert asked == [each.call_id for each in results(result.messages)]

    assert interrupt_everywhere(scenario, backend=backend) > 30
