"""Runs that go on from their journal: in one process, with virtual clocks, from every place where one may have died.

`crashes/memory.py` gives the journal as it was after any number of its entries; to go on from there is what another
process would do. What needs real processes is in the tests of crashes and of takeovers.
"""

from __future__ import annotations

import logging
import sqlite3
from base64 import b64decode
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenroom import (
    Agent,
    Chronicle,
    MemoryJournal,
    Retry,
    Run,
    RunContext,
    RunResult,
    StaleApproval,
    System,
    tool,
)
from greenroom.agents.closure import end_one, end_run
from greenroom.agents.replay import UNKNOWN
from greenroom.journal import Began, Claim, Damaged, Held, Replied, Resumed, Retrying, Slept, Spent, decode, encode
from greenroom.providers import Fallback, ModelReply, ModelRequest, Overloaded, Scripted, Stalled
from greenroom.testing import Interruption, interrupt_everywhere
from greenroom.testing import run as play

from .crashes.memory import COST, PRICES, USED, Lines, RecordingJournal, check_told, story, virtual

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What goes on is logged, and captured."""
    caplog.set_level(logging.WARNING, "greenroom")


# -- what the runs are made of


class Number(msgspec.Struct, frozen=True):
    """A typed answer."""

    number: int


@tool(replay="safe")
async def look() -> str:
    """Look."""
    await anyio.sleep(0.01)
    return "seen"


@tool(replay="safe")
async def nap(context: RunContext[Any]) -> str:
    """Sleep twice."""
    await context.sleep(1.0)
    await context.sleep(2.0)
    return "rested"


@tool(replay="safe")
async def fail() -> str:
    """Fail."""
    raise ValueError("no")


@tool(replay="safe")
async def halt(context: RunContext[Any], mode: str) -> str:
    """Have the own run stopped, once its handle is there."""
    await anyio.sleep(0.01)
    context.deps[context.run_id].stop(mode, reason="enough")
    await anyio.sleep(0.05)
    return "halted"


def expert() -> Agent[Any, str]:
    """A subagent."""
    return Agent("expert", Lines(["look", "nap"], "expertise"), tools=[look, nap], prices=PRICES, deps_type=None)


def helper(*lines: Any, name: str = "helper", **options: Any) -> Agent[Any, str]:
    """An agent that says these lines."""
    options = {"tools": [look, nap, fail, halt, expert()], "prices": PRICES, **options}
    return Agent(name, Lines(*lines), **options)


def asked(agent: Agent[Any, Any]) -> list[int]:
    """What its model was asked for."""
    provider: Any = agent.provider
    return provider.asked


class Handles(dict[str, Run[Any]]):
    """What tools reach their own run by."""


async def begin(
    agent: Agent[Any, Any], journal: MemoryJournal, letters: tuple[tuple[str, Any], ...] = ()
) -> RunResult[Any]:
    """The undisturbed run."""
    handles = Handles()
    async with System(journal=journal, sources=virtual()) as system:
        handles["r"] = await system.start(agent, "Go", run_id="r", deps=handles)
        for text, when in letters:
            handles["r"].send(text, when)
        return await handles["r"].result()


async def go_on(agent: Agent[Any, Any], journal: MemoryJournal) -> RunResult[Any] | None:
    """Recover the run and have it come to its end; None if it had."""
    handles = Handles()
    async with System(journal=journal, sources=virtual()) as system:
        recovery = await system.recover([agent], deps=handles, max_claims=1_000)
        assert not recovery.left
        assert not recovery.parked
        if not recovery:
            return None
        [handles["r"]] = recovery
        result = await handles["r"].result()
    await check_told(journal, result)
    return result


# -- every prefix


Made = Callable[[], Agent[Any, Any]]
Letters = tuple[tuple[str, Any], ...]


async def check_every_prefix(make: Made, letters: Letters = ()) -> int:
    """Die after each entry, go on, and come to the same end; the number of entries.

    Letters are there first: a message that was not written down is lost with the process.
    """
    journal = RecordingJournal()
    expected = await begin(make(), journal, letters)
    await check_told(journal, expected)
    for number in range(1 + len(letters), len(journal.written) + 1):
        again = journal.after(number)
        before = await story(again, "r")
        agent = make()
        result = await go_on(agent, again)
        told = await story(again, "r")
        try:
            assert told.messages == tuple(expected.messages)
            assert (told.standing, told.reason) == (expected.status, expected.reason)
            assert told.usage == expected.usage
            assert (result is None) is (before.ended is not None)
            assert all(turn >= before.turns for turn in asked(agent))
            unfinished = [each.run_id for each in await again.runs(unfinished=True)]
            assert not unfinished
        except BaseException as error:
            error.add_note(f"died after entry {number} of {len(journal.written)}: {journal.written[number - 1]}")
            raise
    return len(journal.written)


PROGRAMS: dict[str, tuple[Made, Letters]] = {
    "an answer": (partial(helper, "Done."), ()),
    "tools side by side": (partial(helper, ["look", "nap", "fail"], "Done."), ()),
    "one after the other": (partial(helper, ["look", "nap"], "Done.", parallel_tools=False), ()),
    "tools over turns": (partial(helper, ["look"], ["nap"], ["fail"], "Done."), ()),
    "refused calls": (partial(helper, ["nobody", "look"], [("look", {"x": 1})], "Done."), ()),
    "a subagent": (partial(helper, [("expert", {"prompt": "?"}), "look"], "Done."), ()),
    "two subagents": (
        partial(helper, [("expert", {"prompt": "a"}), ("expert", {"prompt": "b"})], [("expert", {"prompt": "c"})], "."),
        (),
    ),
    "an output that is mended": (
        partial(helper, "x", ["look"], "{}", '{"number": 7}', output=Number, output_retries=2),
        (),
    ),
    "messages": (partial(helper, ["look"], "A.", "B.", "C."), (("one", "asap"), ("two", "idle"))),
    "a stop in a tool": (partial(helper, [("halt", {"mode": "now"})], "Not said."), ()),
    "a gentle stop": (partial(helper, ["look", ("halt", {"mode": "after_tools"})], "Not said."), ()),
    "a gentler stop": (partial(helper, ["nap", ("halt", {"mode": "after_turn"})], "Not said."), ()),
}


@backends
@pytest.mark.parametrize("name", PROGRAMS)
def test_from_every_prefix_to_the_same_end(name: str, backend: str) -> None:
    """Scenarios 71, 74: tools that may run again make a crash invisible, wherever it was."""
    make, letters = PROGRAMS[name]
    assert play(check_every_prefix, make, letters, backend=backend) >= 2


calls = st.sampled_from(["look", "nap", "fail", "nobody", ("expert", {"prompt": "?"}), ("look", {"x": 1})])
stops = st.sampled_from(["now", "after_tools", "after_turn"]).map(lambda mode: ("halt", {"mode": mode}))
turns = st.lists(st.lists(calls, min_size=1, max_size=3), max_size=3)
letters = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["asap", "idle"])), max_size=2).map(tuple)


@backends
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(turns=turns, letters=letters, stop=st.none() | stops, width=st.booleans())
def test_any_program_from_every_prefix(backend: str, turns: Any, letters: Letters, stop: Any, width: Any) -> None:
    """Scenario 71 for programs that hypothesis makes up."""
    lines: list[Any] = [*turns, "A.", "B.", "C.", "D."]
    if stop is not None:
        lines.insert(len(turns) // 2, [stop])
    make = partial(helper, *lines, parallel_tools=width, tool_retries=10)
    play(check_every_prefix, make, letters, backend=backend)


# -- what must not run twice


def entries_of(journal: RecordingJournal, *kinds: str) -> list[int]:
    """How long the journal was right after each entry that has records of these kinds, and of no others."""
    found: list[int] = []
    for number, each in enumerate(journal.written, 1):
        if [type(record).__name__ for record in decode(each.entry)] == list(kinds):
            found.append(number)
    return found


@backends
def test_what_may_have_happened_is_said_to_be_unknown(backend: str) -> None:
    """Scenario 72: a tool that says nothing about `replay` runs at most once."""

    async def scenario() -> None:
        ran: list[str] = []

        async def charge() -> str:
            """Charge."""
            ran.append("charge")
            return "charged"

        @tool(replay="keyed")
        async def pay(context: RunContext[Any]) -> str:
            """Pay."""
            ran.append(context.idempotency_key)
            return "paid"

        def make() -> Agent[Any, str]:
            return helper(["look"], ["charge", "pay"], "Done.", tools=[look, charge, pay])

        journal = RecordingJournal()
        await begin(make(), journal)
        assert sorted(ran) == ["charge", "r:2:c1-1"]
        [number] = entries_of(journal, "Replied", "Intended", "Intended")
        ran.clear()
        again = journal.after(number)
        agent = make()
        result = await go_on(agent, again)
        assert result is not None
        assert result.output == "Done."
        [charged, paid] = [each for message in result.messages[-3:-1] for each in message.tool_results]
        assert (charged.content, charged.cause, charged.is_error) == (UNKNOWN, "outcome_unknown", True)
        assert paid.content == "paid"
        assert ran == ["r:2:c1-1"]
        assert asked(agent) == [2]

    play(scenario, backend=backend)


# -- a run that kills its process


@backends
def test_a_run_that_kills_its_process_is_parked(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """Scenario 79: after so many deaths in a row, with the reason; others go on; its id brings it back."""

    async def scenario() -> None:
        journal = RecordingJournal()
        deadly = tool(replay="safe")(_hang)
        poison = helper(["_hang"], "Survived.", name="poison", tools=[deadly])
        other = helper("Fine.", name="other")
        other.provider.seconds = 100.0  # type: ignore[attr-defined]
        async with System(journal=journal, sources=virtual()) as system:
            await system.start(poison, "Go", run_id="p")
            await system.start(other, "Go", run_id="o")
            await anyio.sleep(1)
            died = journal.after(len(journal.written))
        for claims in (1, 2, 3):
            async with System(journal=died, sources=virtual()) as system:
                recovery = await system.recover([poison, other], max_claims=3)
                assert (len(recovery), recovery.parked) == (2, {}), claims
                assert (await story(died, "p")).suspicion == claims
                assert (await story(died, "o")).suspicion == 0
                await anyio.sleep(1)
                died, journal = died.after(len(died.written)), died
        other.provider.seconds = 0.0  # type: ignore[attr-defined]
        async with System(journal=died, sources=virtual()) as system:
            recovery = await system.recover([poison, other], max_claims=3)
            assert [run.id for run in recovery] == ["o"]
            assert recovery.parked == {"p": "its process died 4 times in a row while it was at work: _hang"}
            assert (await recovery[0].result()).output == "Fine."
            parked = await story(died, "p")
            assert (parked.standing, parked.reason) == ("parked", recovery.parked["p"])
            # Nobody but who asks for it has it back.
            assert (await system.recover([poison, other])).parked == recovery.parked
            Gate.opened = True
            [run] = await system.recover([poison, other], run_ids=["p"])
            assert (await run.result()).output == "Survived."
            await check_told(died, await run.result())

    Gate.opened = False
    play(scenario, backend=backend)
    assert "run p is parked" in caplog.text


class Gate:
    """Whether `_hang` goes on."""

    opened = False


async def _hang() -> str:
    """Hang."""
    await anyio.sleep(0.001 if Gate.opened else 10_000)
    return "gone on"


@backends
def test_an_outcome_takes_the_suspicion_away(backend: str) -> None:
    """Scenario 79: what has come further since is not the reason."""

    async def scenario() -> None:
        journal = RecordingJournal()
        await begin(helper(["look"], ["look"], ["look"], ["look"], ["look"], "Done."), journal)
        died = journal.after(entries_of(journal, "Replied", "Intended")[0])
        for _ in range(4):
            agent = helper(["look"], ["look"], ["look"], ["look"], ["look"], "Done.")
            async with System(journal=died, sources=virtual()) as system:
                assert len(await system.recover([agent], max_claims=2)) == 1
                await anyio.sleep(0.015)  # one outcome, and the next call at work
                died = died.after(len(died.written))
        assert (await story(died, "r")).suspicion == 0

    play(scenario, backend=backend)


# -- an agent that has changed


def _search(query: str) -> str:
    """Search."""
    return "found"


def _search_deeply(query: str, depth: int = 1) -> str:
    """Search."""
    return "found deeply"


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "a tool removed": ({"tools": [look]}, "tool 'search' is gone"),
    "a tool renamed": ({"tools": [look, tool(name="find")(_search)]}, "tool 'search' is gone; tool 'find' is new"),
    "a schema changed": (
        {"tools": [look, tool(name="search")(_search_deeply)]},
        "tool 'search' has another description or arguments",
    ),
    "a prompt changed": ({"instructions": "Be brief."}, "the instructions are others"),
    "an output type": ({"output": Number}, "the output type is another"),
}


@backends
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_agent_goes_on_and_says_so(change: str, backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """Scenario 80: in the recovery, in the event, in the log; nothing of it is silent."""
    options, said = CHANGES[change]
    search = tool(name="search")(_search)

    async def scenario() -> None:
        former = Agent(
            "helper", Lines(["look"], '{"number": 7}'), tools=[look, search], instructions="Be kind.", prices=PRICES
        )
        journal = RecordingJournal()
        await begin(former, journal)
        died = journal.after(entries_of(journal, "Replied", "Intended")[0])
        later: Any = {"tools": [look, search], "instructions": "Be kind.", **options}
        agent = Agent("helper", Lines(["look"], '{"number": 7}'), prices=PRICES, **later)
        heard: list[Any] = []
        async with System(journal=died, sources=virtual()) as system:
            recovery = await system.recover([agent], on_event=heard.append)
            assert "; ".join(recovery.changed["r"]) == said
            assert (await recovery[0].result()).status == "completed"
        [event] = [each for each in heard if each.type == "run.recovered"]
        assert (event.changes, event.claims) == (recovery.changed["r"], 1)
        [resumed] = [record for record in (await story(died, "r")).records if isinstance(record, Resumed)]
        assert tuple(resumed.changes) == recovery.changed["r"]

    play(scenario, backend=backend)
    assert f"run r goes on with a changed agent: {said}" in caplog.text


@backends
def test_another_model(backend: str) -> None:
    """Scenario 80."""

    async def scenario() -> None:
        journal = RecordingJournal()
        await begin(helper(["look"], "Done."), journal)
        died = journal.after(entries_of(journal, "Replied", "Intended")[0])
        agent = helper(["look"], "Done.")
        agent.provider.model = "m-2"
        async with System(journal=died, sources=virtual()) as system:
            recovery = await system.recover([helper(["look"], "Done.").with_(model=agent.provider)])
            assert recovery.changed == {"r": ("the model was lines:m, and is lines:m-2",)}
            assert (await recovery[0].result()).output == "Done."

    play(scenario, backend=backend)


@backends
def test_a_call_in_flight_of_a_tool_that_is_gone(backend: str) -> None:
    """Scenario 80: its outcome is unknown, also if it might have run again; one that had not begun is refused."""

    async def scenario() -> None:
        journal = RecordingJournal()
        await begin(helper(["look", "nap"], "Done.", parallel_tools=False), journal)
        died = journal.after(entries_of(journal, "Replied", "Intended")[0])
        result = await go_on(helper(["look", "nap"], "Done.", tools=[fail]), died)
        assert result is not None
        [first, second] = [each for message in result.messages for each in message.tool_results]
        assert (first.cause, first.content) == ("outcome_unknown", UNKNOWN)
        assert second.cause == "unknown_tool"
        assert result.output == "Done."

    play(scenario, backend=backend)


@backends
def test_an_agent_that_is_not_here(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """Scenario 80: the run is left, and said to be; its own agent goes on with it."""

    async def scenario() -> None:
        journal = RecordingJournal()
        await begin(helper(["look"], "Done."), journal)
        died = journal.after(2)
        async with System(journal=died, sources=virtual()) as system:
            recovery = await system.recover([helper("x", name="other")])
            assert (len(recovery), recovery.left) == (0, {"r": "its agent 'helper' is not among agents="})
        assert len(died.written) == 2
        assert (await go_on(helper(["look"], "Done."), died)) is not None

    play(scenario, backend=backend)
    assert "run r is not recovered" in caplog.text


@backends
def test_a_system_that_knows_its_agents_recovers_with_them(backend: str) -> None:
    async def scenario() -> None:
        journal = RecordingJournal()
        await begin(helper(["look"], "Done."), journal)
        agent = helper(["look"], "Done.")
        async with System(journal=journal.after(2), sources=virtual(), agents=[agent]) as system:
            assert dict(system.agents) == {"helper": agent}
            recovery = await system.recover()
            assert [(await run.result()).output for run in recovery.runs] == ["Done."]
        async with System(journal=journal.after(2), sources=virtual()) as system:
            with pytest.raises(TypeError, match=r"recover\(\[agent, …\]\), or System\(agents=\[agent, …\]\)"):
                await system.recover()

    play(scenario, backend=backend)


def test_the_agents_of_a_system_are_a_list_of_different_ones() -> None:
    agent = helper("x")
    with pytest.raises(TypeError, match=r"agents= takes a list of agents: write \[helper\]"):
        System(agents=agent)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two agents are called 'helper'"):
        System(agents=[agent, helper("y")])


# -- waits


async def dies_at(agent: Agent[Any, Any], moment: float, **options: Any) -> RecordingJournal:
    """The journal of a run whose process dies at this moment."""
    journal = RecordingJournal()
    async with System(journal=journal, sources=virtual()) as system:
        await system.start(agent, "Go", run_id="r", **options)
        await anyio.sleep(moment)
        return journal.after(len(journal.written))


async def goes_on_after(
    agent: Agent[Any, Any], died: RecordingJournal, seconds: float, act: Callable[[Run[Any]], Any] | None = None
) -> tuple[RunResult[Any], float]:
    """Have nothing happen for a while, then go on; the result, and how long it took from there."""
    await anyio.sleep(seconds)
    began = anyio.current_time()
    async with System(journal=died, sources=virtual()) as system:
        [run] = await system.recover([agent])
        if act is not None:
            await anyio.sleep(1)
            act(run)
        result = await run.result()
        took = anyio.current_time() - began
    await check_told(died, result)
    return result, took


@backends
@pytest.mark.parametrize(("away", "rest"), [(0.0, 60.0), (20.0, 40.0), (100.0, 0.0)])
def test_a_sleep_goes_on_until_its_moment(away: float, rest: float, backend: str) -> None:
    """Scenario 81: the rest of it, not the whole; none of it if the moment has passed."""

    @tool(replay="safe")
    async def long(context: RunContext[Any]) -> str:
        """Sleep."""
        await context.sleep(40)
        await context.sleep(60)
        return "rested"

    async def scenario() -> None:
        agent = helper(["long"], "Done.", tools=[long])
        died = await dies_at(agent, 40.002)  # right after the second sleep has begun
        sleeps = [record for record in (await story(died, "r")).records if isinstance(record, Slept)]
        assert [record.number for record in sleeps] == [1, 2]
        result, took = await goes_on_after(agent, died, away)
        assert result.output == "Done."
        assert took == pytest.approx(rest, abs=0.01)

    play(scenario, backend=backend)


@backends
@pytest.mark.parametrize(("away", "rest"), [(0.0, 30.0), (10.0, 20.0), (100.0, 0.0)])
def test_a_pause_between_two_tries_goes_on(away: float, rest: float, backend: str) -> None:
    """Scenario 81: and the tries that were made count."""

    async def scenario() -> None:
        script = Scripted(Overloaded("busy", retry_after=30.0), "Done.")
        agent = Agent("helper", script, retry=Retry(attempts=2, base=0.0))
        died = await dies_at(agent, 0.0001)
        [retrying] = [record for record in (await story(died, "r")).records if isinstance(record, Retrying)]
        assert retrying.until == pytest.approx(1030.0)
        result, took = await goes_on_after(agent, died, away)
        assert result.output == "Done."
        assert took == pytest.approx(rest, abs=0.01)
        assert len(script.requests) == 2

    play(scenario, backend=backend)


@backends
def test_tries_that_were_made_count(backend: str) -> None:
    """Scenario 81: a crash brings no new tries."""

    async def scenario() -> None:
        agent = Agent("helper", Scripted(Overloaded("busy", retry_after=30.0), Overloaded("still"), "Not said."))
        agent = agent.with_(retry=Retry(attempts=2, base=0.0))
        died = await dies_at(agent, 0.0001)
        with pytest.raises(Overloaded, match="still"):
            await goes_on_after(agent, died, 0.0)
        told = await story(died, "r")
        assert (told.standing, told.reason) == ("failed", "error")

    play(scenario, backend=backend)


@tool(replay="safe", needs_approval=True)
async def ship() -> str:
    """Ship."""
    return "shipped"


@backends
@pytest.mark.parametrize("answer", ["approve", "deny"])
def test_an_approval_can_still_be_given(answer: str, backend: str) -> None:
    """Scenario 81: hours later, in another process."""

    async def scenario() -> None:
        agent = helper(["ship", "look"], "Done.", tools=[ship, look], approval_timeout=7200.0)
        died = await dies_at(agent, 10.0)
        result, took = await goes_on_after(agent, died, 3600.0, lambda run: getattr(run, answer)("c0-0"))
        said = result.messages[2].tool_results[0].content
        assert said == ("shipped" if answer == "approve" else "denied: not approved")
        assert took < 2
        assert result.output == "Done."

    play(scenario, backend=backend)


@backends
@pytest.mark.parametrize(("away", "rest"), [(0.0, 90.0), (60.0, 30.0), (500.0, 0.0)])
def test_the_time_for_an_approval_goes_on(away: float, rest: float, backend: str) -> None:
    """Scenario 81: the rest of it; then nobody can give it."""

    async def scenario() -> None:
        agent = helper(["ship"], "Done.", tools=[ship], approval_timeout=100.0)
        died = await dies_at(agent, 10.0)
        result, took = await goes_on_after(agent, died, away)
        assert result.messages[2].tool_results[0].cause == "denied"
        assert took == pytest.approx(rest, abs=0.01)

    play(scenario, backend=backend)


@backends
def test_an_approval_that_was_given_is_not_asked_for_again(backend: str) -> None:
    """Scenario 81: the answer is in the journal, also if the call had not begun."""

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper(["ship"], "Done.", tools=[ship])
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(agent, "Go", run_id="r")
            await anyio.sleep(1)
            run.approve("c0-0")
            await run.result()
        [number] = entries_of(journal, "Answered")
        died = journal.after(number)

        def stale(run: Run[Any]) -> None:
            with pytest.raises(StaleApproval):
                run.approve("c0-0")

        result, _ = await goes_on_after(agent, died, 0.0, stale)
        assert result.messages[2].tool_results[0].content == "shipped"

    play(scenario, backend=backend)


@backends
def test_a_paused_run_stays_paused(backend: str) -> None:
    """Scenario 81: until somebody has it go on."""

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper(["look"], "Done.")
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(agent, "Go", run_id="r")
            run.pause()
            await anyio.sleep(1)
            died = journal.after(len(journal.written))
        assert any(isinstance(record, Held) for record in (await story(died, "r")).records)
        calls = len(asked(agent))
        async with System(journal=died, sources=virtual()) as system:
            [run] = await system.recover([agent])
            await anyio.sleep(1000)
            assert len(asked(agent)) == calls
            assert run.tree().state == "paused"
            run.resume()
            assert (await run.result()).output == "Done."
        assert (await go_on(agent, died)) is None

    play(scenario, backend=backend)


# -- a model call under way


@backends
def test_a_stream_that_was_cut_by_a_crash_is_asked_for_once_more(backend: str) -> None:
    """Scenario 75: what had come of it is dropped; one of two attempts is unknown, and so is the sum."""

    async def scenario() -> None:
        async def slow(_: Any) -> str:
            await anyio.sleep(100)
            return "A long answer."

        agent = Agent("helper", Scripted(slow, "An answer.", usage=USED, model="m"), prices=PRICES)
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(agent, "Go", run_id="r")
            async with anyio.create_task_group() as group:
                group.start_soon(_follow, run)
                await anyio.sleep(1)
                died = journal.after(len(journal.written))
                group.cancel_scope.cancel()
        assert not any("A long" in repr(record) for record in (await story(died, "r")).records)
        result = await go_on(agent, died)
        assert result is not None
        assert [message.text for message in result.messages] == ["Go", "An answer."]
        assert (result.usage, result.cost) == (USED, None)

    play(scenario, backend=backend)


async def _follow(run: Run[Any]) -> None:
    async for _ in run.text():
        pass


@backends
def test_what_is_known_to_have_cost_something_is_counted(backend: str) -> None:
    """Scenario 75: a crash amid tools loses no number, and makes none up."""

    async def scenario() -> None:
        journal = RecordingJournal()
        await begin(helper(["look"], [("expert", {"prompt": "?"})], "Done."), journal)
        died = journal.after(entries_of(journal, "Replied", "Intended")[0])
        result = await go_on(helper(["look"], [("expert", {"prompt": "?"})], "Done."), died)
        assert result is not None
        assert result.cost == pytest.approx(5 * COST)

    play(scenario, backend=backend)


@backends
def test_a_try_after_a_pause_may_have_cost_something(backend: str) -> None:
    """Scenario 75: whether the process died in the pause or in the try after it, nobody knows."""

    async def scenario() -> None:
        async def slow(_: Any) -> str:
            await anyio.sleep(100)
            return "Not said."

        agent = Agent(
            "helper", Scripted(Overloaded("busy", retry_after=5.0), slow, "Done.", usage=USED, model="m"), prices=PRICES
        )
        died = await dies_at(agent, 20.0)
        result, _ = await goes_on_after(agent, died, 0.0)
        assert (result.output, result.cost) == ("Done.", None)

    play(scenario, backend=backend)


@backends
@pytest.mark.parametrize("mode", ["now", "after_tools", "after_turn"])
def test_a_model_call_that_was_cut(mode: Any, backend: str) -> None:
    """The journal of a stopped run says as much about its cost as its result does."""

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper(["look"], "Done.")
        agent.provider.seconds = 10.0  # type: ignore[attr-defined]
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(agent, "Go", run_id="r")
            await anyio.sleep(15)
            result = await run.stop(mode)
        assert (result.cost is None) is (mode != "after_turn")
        await check_told(journal, result)

    play(scenario, backend=backend)


@backends
def test_a_failure_has_cost_something(backend: str) -> None:
    """A call that failed for good is in the journal with what it has cost, if that is known."""

    async def scenario() -> None:
        for error, cost in ((Stalled("silent"), None), (Overloaded("busy"), 0.0)):
            journal = RecordingJournal()
            async with System(journal=journal, sources=virtual()) as system:
                agent = Agent("helper", Scripted(error, usage=USED, model="m"), retry=Retry(attempts=1), prices=PRICES)
                run = await system.start(agent, "Go", run_id="r")
                with pytest.raises(type(error)) as caught:
                    await run.result()
            assert caught.value.result is not None
            assert caught.value.result.cost == cost
            await check_told(journal, caught.value.result)

    play(scenario, backend=backend)


@backends
def test_a_provider_that_was_given_up_may_have_cost_something(backend: str) -> None:
    """The reply of another provider does not say what the first one has cost."""

    async def scenario() -> None:
        journal = RecordingJournal()
        first, second = Scripted(Stalled("silent"), model="m"), Scripted("Done.", usage=USED, model="m")
        async with System(journal=journal, sources=virtual()) as system:
            agent = Agent("helper", Fallback([first, second]), prices=PRICES)
            result = await (await system.start(agent, "Go", run_id="r")).result()
        assert (result.output, result.cost) == ("Done.", None)
        await check_told(journal, result)

    play(scenario, backend=backend)


# -- subagents of calls that do not run again


async def delegate() -> str:
    """Have the middle one do it."""
    return (await MIDDLE.run("?")).output


async def delegate_more() -> str:
    """Have two experts do it."""
    for _ in range(2):
        await expert().run("?")
    return "delegated"


MIDDLE: Agent[Any, str] = Agent(
    "middle", Lines(["delegate_more"], "Done below."), tools=[delegate_more], prices=PRICES, deps_type=None
)


async def check_sums(journal: MemoryJournal, exact: bool = False) -> None:
    """All have ended, and each run says what was used in it and below it; of the cost, that or nothing."""
    own: dict[str, int] = {}
    for each in await journal.runs():
        told = await story(journal, each.run_id)
        assert told.ended is not None
        own[each.run_id] = sum(isinstance(record, Replied) for record in told.records)
    for run_id in own:
        told = await story(journal, run_id)
        replies = sum(number for other, number in own.items() if other == run_id or other.startswith(f"{run_id}."))
        assert (told.usage.input_tokens or 0) == 10 * replies, run_id
        assert told.cost in (None, pytest.approx(replies * COST)), run_id
        assert not exact or told.cost is not None, run_id


@backends
@pytest.mark.parametrize("how", ["recover", "end"])
def test_what_lost_subagents_have_used_is_counted(how: str, backend: str) -> None:
    """Scenario 72: also two levels below a call with an unknown outcome, or in a run that is ended for good."""

    async def scenario() -> None:
        journal = RecordingJournal()
        await begin(helper(["delegate"], "Done.", tools=[delegate]), journal)
        await check_sums(journal, exact=True)
        for number in range(1, len(journal.written) + 1):
            died = journal.after(number)
            before = [await story(died, each.run_id) for each in await died.runs()]
            if before[0].ended is not None:
                continue
            if how == "recover":
                result = await go_on(helper(["delegate"], "Done.", tools=[delegate]), died)
                assert result is not None
                assert result.output == "Done."
            else:
                await end_run(died, "r", "enough", lambda: 1_000.0)
            asking = [each.run_id for each in before if each.ended is None and each.was_asking(1_000.0)]
            try:
                await check_sums(died, exact=not asking)
                assert ((await story(died, "r")).cost is None) is bool(asking)
            except BaseException as error:
                error.add_note(f"died after entry {number} of {len(journal.written)}")
                raise

    play(scenario, backend=backend)


@backends
@pytest.mark.parametrize("how", ["recover", "end"])
def test_a_lost_subagent_that_cannot_be_read(how: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario 76: the run that it worked for goes on, or ends; what it has cost nobody knows."""

    async def scenario() -> None:
        journal = RecordingJournal()
        await begin(helper(["delegate"], "Done.", tools=[delegate]), journal)
        [ended] = [number for number, each in enumerate(journal.written, 1) if each.final and each.run_id == "r.1.0.1"]
        died = journal.after(ended)
        plain = died.read

        async def read(self: MemoryJournal, run_id: str) -> list[bytes]:
            if run_id == "r.1.0.1":
                raise Damaged("it is not what was written", run_id=run_id)
            return await plain(run_id)

        with monkeypatch.context() as patch:
            patch.setattr(RecordingJournal, "read", read)
            if how == "recover":
                result = await go_on(helper(["delegate"], "Done.", tools=[delegate]), died)
                assert result is not None
                assert (result.output, result.cost) == ("Done.", None)
            else:
                await end_run(died, "r", "enough", lambda: 1_000.0)
                assert (await story(died, "r")).cost is None

    play(scenario, backend=backend)


@backends
def test_a_subagent_whose_run_has_ended_ends(backend: str) -> None:
    """With what it has used, and what it had below it; one that a later version has written is left."""

    async def scenario() -> None:
        journal = RecordingJournal()
        await begin(helper(["delegate"], "Done.", tools=[delegate]), journal)
        lengths = enumerate(journal.written, 1)
        [ended] = [number for number, each in lengths if each.final and each.run_id == "r.1.0.1.1.0.1"]
        died = journal.after(ended)
        await end_one(died, "r", "enough", lambda: 1_000.0)
        claim = died.create("r.1.0.2", parent_id="r")
        died.append(claim, encode(Began("r.1.0.2", "later", [], [], parent_id="r", format=99)))
        async with System(journal=died, sources=virtual()) as system:
            recovery = await system.recover([helper("x")])
            assert (len(recovery), list(recovery.left)) == (0, ["r.1.0.2"])
            assert "upgrade greenroom" in recovery.left["r.1.0.2"]
        told = await story(died, "r.1.0.1")
        assert (told.standing, told.reason, told.open_calls) == ("stopped", "abandoned", ())
        assert told.cost == pytest.approx(3 * COST)

    play(scenario, backend=backend)


# -- what is left, and why


async def three_runs(journal: MemoryJournal | Path) -> None:
    """Runs of three users, each amid its tool when its process ends."""
    async with System(journal=journal, sources=virtual()) as system:
        for number in range(3):
            await system.start(
                helper(["nap"], "Done."),
                "Go",
                run_id=f"r{number}",
                user_id=f"u{number}",
                conversation_id=f"c{number}",
            )
        await anyio.sleep(0.5)


@backends
def test_a_run_without_its_deps_is_left_alone(backend: str) -> None:
    """The others go on; the recovery says why, and another one may have them."""

    def deps_for(unfinished: Any) -> Any:
        return {"u0": 0, "u2": 2}[unfinished.user_id]

    async def scenario() -> None:
        journal = RecordingJournal()
        await three_runs(journal)
        epoch = [each.epoch for each in await journal.runs()]
        async with System(journal=journal, sources=virtual()) as system:
            recovery = await system.recover([helper(["nap"], "Done.")], deps_for=deps_for)
            assert [run.id for run in recovery] == ["r0", "r2"]
            assert recovery.left == {"r1": "deps_for= raised KeyError: 'u1'"}
            assert (await journal.runs())[1].epoch == epoch[1]
            [run] = await system.recover([helper(["nap"], "Done.")], deps=1)
            for each in (run, *recovery):
                await check_told(journal, await each.result())
        assert not await journal.runs(unfinished=True)

    play(scenario, backend=backend)


@backends
def test_whoever_asks_for_a_run_hears_why_it_is_left(backend: str) -> None:
    """A subagent, a run at work here, one that has ended, one that nobody knows: none is passed over in silence."""

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper([("expert", {"prompt": "?"})], "Done.")
        async with System(journal=journal, sources=virtual()) as system:
            await system.start(agent, "Go", run_id="r")
            await anyio.sleep(0.5)  # the subagent naps
        assert [each.run_id for each in await journal.runs(unfinished=True)] == ["r", "r.1.0.1"]
        unknown = "the journal has no unfinished run of that id"
        async with System(journal=journal, sources=virtual()) as system:
            recovery = await system.recover([agent], run_ids=["r.1.0.1", "nobody"])
            assert recovery.left == {"r.1.0.1": "it is a subagent, and goes on with 'r'", "nobody": unknown}
            assert len(recovery) == 0
            [run] = await system.recover([agent], run_ids=["r"])
            await anyio.sleep(0.1)
            recovery = await system.recover([agent], run_ids=["r", "r.1.0.1"])
            assert (len(recovery), set(recovery.left)) == (0, {"r", "r.1.0.1"})
            assert recovery.left["r"] == "it is at work here"
            again = await system.recover([agent])
            assert (len(again), again.left) == (0, {})
            assert (await run.result()).output == "Done."
            assert (await system.recover([agent], run_ids=["r"])).left == {"r": unknown}

    play(scenario, backend=backend)


@backends
@pytest.mark.parametrize("run_ids", [None, ["r0", "r2"]])
def test_a_damaged_run_keeps_no_other_from_going_on(run_ids: Any, backend: str, tmp_path: Path) -> None:
    """Scenario 76: also where its line in the list of runs is damaged. It is left, by its name."""
    file = tmp_path / "runs.db"

    async def scenario() -> None:
        await three_runs(file)
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("UPDATE runs SET conversation = 'c9' WHERE id = 'r1'")
        async with System(journal=file, sources=virtual()) as system:
            recovery = await system.recover([helper(["nap"], "Done.")], run_ids=run_ids)
            assert [run.id for run in recovery] == ["r0", "r2"]
            assert list(recovery.left) == ["r1"]
            assert "run 'r1' is damaged" in recovery.left["r1"]
            for run in recovery:
                assert (await run.result()).output == "Done."

    play(scenario, backend=backend)


def _loop() -> dict[str, Any]:
    loop: dict[str, Any] = {"n": 1}
    loop["me"] = [loop]
    return loop


def _looks_like_a_loop(kept: Any) -> bool:
    return kept["n"] == 1 and kept["me"][0]["me"][0]["n"] == 1


METADATA: dict[str, tuple[Any, Any]] = {
    "holds itself": (_loop(), _looks_like_a_loop),
    "odd keys": ({(1, 2): "x", None: "y", 3: "z"}, {(1, 2): "x", None: "y", 3: "z"}),
    "an object": ([object(), {"deep": object()}], ["<object>", {"deep": "<object>"}]),
    "an object with odd keys": (
        {(1, 2): "x", None: object(), 3: "z"},
        {"<tuple>": "x", "<NoneType>": "<object>", 3: "z"},
    ),
    "half a surrogate pair": ({"\ud800": "\ud800"}, {"?": "?"}),
    "a big number": (2**70, str(2**70)),
}


@backends
@pytest.mark.parametrize("kind", METADATA)
def test_metadata_of_any_kind(kind: str, backend: str) -> None:
    """It is written as near to what it was as it can; the run works, its journal is readable, and it goes on."""
    value, expected = METADATA[kind]

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper(["look"], "Done.")
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(agent, "Go", run_id="r", metadata={"it": value, "n": 1})
            await check_told(journal, await run.result())
        for number in range(1, len(journal.written) + 1):
            died = journal.after(number)
            told = (await story(died, "r")).began
            assert told.metadata["n"] == 1
            kept = told.metadata["it"]
            assert expected(kept) if callable(expected) else kept == expected
            await go_on(agent, died)
            assert (await story(died, "r")).standing == "completed"

    play(scenario, backend=backend)


@backends
@pytest.mark.parametrize("how", ["close", "stop", "drain"])
def test_a_run_that_leaves_its_pause_asks_nobody(how: str, backend: str) -> None:
    """What it has cost is still known: no request was made, and the journal speaks of none."""

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper(["look"], "Done.")
        heard: list[str] = []
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(agent, "Go", run_id="r", on_event=lambda event: heard.append(event.type))
            await anyio.sleep(0.005)
            run.pause()
            await anyio.sleep(1)
            assert run.tree().state == "paused"
            if how == "stop":
                await run.stop()
            elif how == "drain":
                await system.drain(10)
        assert (asked(agent), heard.count("turn.started")) == ([0], 1)
        told = await check_told(journal, await run.result())
        assert told.cost == pytest.approx(COST)
        assert not any(isinstance(record, Spent) for record in told.records)
        if how == "stop":
            return
        async with System(journal=journal, sources=virtual()) as system:
            [run] = await system.recover([agent])
            run.resume()
            result = await run.result()
        assert asked(agent) == [0, 1]
        assert (await check_told(journal, result)).cost == pytest.approx(2 * COST)

    play(scenario, backend=backend)


@backends
def test_a_run_that_is_stopped_as_it_comes_to_its_model_asks_nobody(backend: str) -> None:
    """Scenario 75: whoever is stopped before a request was made has cost nothing."""

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper("Not said.")
        async with System(journal=journal, sources=virtual()) as system:
            run: Run[Any]

            def hear(event: Any) -> None:
                if event.type == "turn.started":
                    run.stop()

            run = await system.start(agent, "Go", run_id="r", on_event=hear)
            result = await run.result()
        assert (result.status, result.cost, asked(agent)) == ("stopped", 0.0, [])
        await check_told(journal, result)

    play(scenario, backend=backend)


# -- interrupted at every step


class Bill:
    """An agent whose tool must not run twice, and what it did."""

    def __init__(self) -> None:
        self.charged: list[str] = []

        async def charge(context: RunContext[Any]) -> str:
            """Charge."""
            self.charged.append(context.idempotency_key)
            await checkpoint()
            return "charged"

        self.expert = Agent("expert", Lines(["charge"], "expertise", seconds=0), tools=[charge])
        lines = Lines(["charge", ("expert", {"prompt": "?"})], ["charge"], "Done.", seconds=0)
        self.agent = Agent("boss", lines, tools=[charge, self.expert], prices=PRICES)

    async def finish(self, journal: RecordingJournal) -> Chronicle:
        """Recover what is left; the whole story. Nothing was lost, nothing done twice."""
        async with System(journal=journal, sources=virtual()) as system:
            recovery = await system.recover([self.agent])
            assert not recovery.left
            for run in recovery:
                await check_told(journal, await run.result())
        told = await story(journal, "r")
        self.check(told)
        assert not await journal.runs(unfinished=True)
        return told

    def check(self, told: Chronicle) -> None:
        """Each call has one outcome, and was done once where that is known."""
        assert len(self.charged) == len(set(self.charged))
        calls = [each.id for message in told.messages for each in message.tool_calls]
        results = [each for message in told.messages for each in message.tool_results]
        assert calls == [each.call_id for each in results]
        done = [each for each in results if each.content == "charged"]
        assert len(self.charged) >= len(done)


@backends
def test_a_start_cancelled_at_every_step(backend: str) -> None:
    """Whoever is cancelled while he starts a run has started it, or not: its journal says which."""

    async def scenario(interruption: Interruption) -> None:
        bill, journal = Bill(), RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            started: Run[Any] | None = None
            with anyio.CancelScope() as scope:
                interruption.arm(scope.cancel)
                started = await system.start(bill.agent, "Go", run_id="r")
                await started.result()
            if started is not None:
                assert (await started.result()).output == "Done."
        listed = await journal.runs(run_id="r")
        assert (started is not None) <= bool(listed)
        assert not await journal.runs(unfinished=True)
        if listed:
            told = await story(journal, "r")
            assert told.standing == ("completed" if started is not None else "stopped")

    assert interrupt_everywhere(scenario, backend=backend) > 5


@backends
def test_a_recovery_cancelled_at_every_step(backend: str) -> None:
    """What was not taken over is still there, and what was goes on."""

    async def scenario(interruption: Interruption) -> None:
        bill, journal = Bill(), RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(bill.agent, "Go", run_id="r")
            await run.result()
        died = journal.after(entries_of(journal, "Replied", "Intended", "Intended")[0])
        bill.charged.clear()
        async with System(journal=died, sources=virtual()) as system:
            with anyio.CancelScope() as scope:
                interruption.arm(scope.cancel)
                recovery = await system.recover([bill.agent])
                for each in recovery:
                    await each.result()
            await system.drain(1000)
        told = await bill.finish(died)
        assert (told.standing, told.messages[-1].text) == ("completed", "Done.")

    assert interrupt_everywhere(scenario, backend=backend) > 5


@backends
@pytest.mark.parametrize("how", ["stop", "after_tools", "after_turn", "kill", "close"])
def test_a_run_interrupted_at_every_step(how: str, backend: str) -> None:
    """Whatever ends it, journal and result tell the same; what is to go on goes on, and nothing is done twice."""

    async def scenario(interruption: Interruption) -> None:
        bill, journal = Bill(), RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            run = await system.start(bill.agent, "Go", run_id="r")
            with anyio.CancelScope() as scope:
                acts: dict[str, Callable[[], Any]] = {
                    "stop": run.stop,
                    "kill": run._cell.kill,
                    "close": scope.cancel,
                }
                interruption.arm(acts.get(how, partial(run.stop, how)))  # type: ignore[arg-type]
                await run.result()
        await check_told(journal, await run.result())
        told = await bill.finish(journal)
        if how in ("close", "kill"):
            assert (told.standing, told.messages[-1].text) == ("completed", "Done.")
        else:
            assert told.standing in ("stopped", "completed")

    assert interrupt_everywhere(scenario, backend=backend) > 5


# -- journals of other versions


@backends
@pytest.mark.parametrize("format", [1])
def test_a_journal_of_an_earlier_version_goes_on(format: int, backend: str) -> None:
    """Scenario 82: a run amid a subagent's sleep, with a message that waits, as that format has it."""
    file = Path(__file__).parent / "crashes" / f"format-{format}.json"

    async def scenario() -> None:
        journal = RecordingJournal()
        claims: dict[str, Any] = {}
        for run_id, parent_id, entry in msgspec.json.decode(file.read_bytes()):
            if run_id not in claims:
                claims[run_id] = journal.create(run_id, parent_id=parent_id)
            journal.append(claims[run_id], b64decode(entry))
        lines = (["look", "fail"], [("expert", {"prompt": "?"}), "nobody"], "Done.", "And done.")
        result = await go_on(helper(*lines), journal)
        assert result is not None
        assert (result.output, result.messages[-2].text) == ("And done.", "By the way.")
        assert not await journal.runs(unfinished=True)

    play(scenario, backend=backend)


@backends
def test_a_journal_of_a_later_version_is_left(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """Scenario 82: with a message that says what to do; the other runs go on."""

    async def scenario() -> None:
        journal = RecordingJournal()
        claim = journal.create("later")
        journal.append(claim, encode(Began("later", "helper", [], [], format=99)))
        await begin(helper("Done."), journal)
        died = journal.after(2)
        async with System(journal=died, sources=virtual()) as system:
            recovery = await system.recover([helper("Done.")])
            assert [run.id for run in recovery] == ["r"]
            assert "upgrade greenroom" in recovery.left["later"]
        assert len(await died.read("later")) == 1

    play(scenario, backend=backend)
    assert "upgrade greenroom" in caplog.text


class Awaited(MemoryJournal):
    """Knows what was waited for: an entry that nobody waited for may not be there after a crash."""

    def __init__(self) -> None:
        super().__init__(keep=True)
        self.waited = 0

    async def durable(self, claim: Claim) -> None:
        """Nothing takes time here."""
        await super().durable(claim)
        self.waited = claim.next


@backends
def test_the_model_hears_of_nothing_that_is_not_durable(backend: str) -> None:
    """Scenario 74: a tool's outcome is waited for before the next request goes out."""
    journal = Awaited()
    heard: list[tuple[int, int]] = []

    class Listening(Lines):
        async def complete(self, request: ModelRequest) -> ModelReply:
            heard.append((journal.waited, len(await journal.read("r"))))
            return await super().complete(request)

    @tool
    async def look() -> str:
        """Look."""
        return "seen"

    async def scenario() -> None:
        async with System(journal=journal) as system:
            run = await system.start(Agent("a", Listening(["look"], ["look"], "Done."), tools=[look]), "Go", run_id="r")
            await run.result()

    play(scenario, backend=backend)
    assert [written for _, written in heard] == [1, 3, 5]
    assert all(waited == written for waited, written in heard)
