"""What a run has used outlives its process and its crashes, and is counted once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from greenroom import (
    Agent,
    LimitExceeded,
    Limits,
    MemoryJournal,
    Retry,
    RunContext,
    SqliteJournal,
    System,
    events,
    tool,
)
from greenroom.agents.ledger import Amount
from greenroom.agents.recorded_use import used_in
from greenroom.agents.run_cell import RunCell
from greenroom.agents.tool_batch import ToolBatch
from greenroom.agents.tool_cell import ToolCell
from greenroom.journal import Replied, decode
from greenroom.providers import ModelReply, ModelRequest, Overloaded, Provider, Stalled, Usage, assistant
from greenroom.testing import run as play

from .crashes.memory import COST, PRICES, Lines, RecordingJournal, check_told, virtual

each_backend = pytest.mark.parametrize("backend", ["asyncio", "trio"])

#: Every limit that is counted, so far away that none is reached.
WIDE = Limits(requests=900, tool_calls=900, children=900, total_tokens=900_000, cost=900.0)


@tool(replay="safe")
async def look() -> str:
    """Look."""
    await anyio.sleep(0.01)
    return "seen"


def expert(**options: Any) -> Agent[Any, str]:
    return Agent("expert", Lines(["look"], "expertise"), tools=[look], prices=PRICES, **options)


def boss(*lines: Any, **options: Any) -> Agent[Any, str]:
    tools = options.pop("tools", [look, expert()])
    return Agent("boss", Lines(*lines), tools=tools, prices=PRICES, **options)


class Found:
    """The runs that were made, by name; the last one of each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs: dict[str, RunCell] = {}
        begin = RunCell.__init__

        def init(cell: RunCell, *args: Any, **options: Any) -> None:
            begin(cell, *args, **options)
            self.runs[cell.name] = cell

        monkeypatch.setattr(RunCell, "__init__", init)

    def used(self, name: str) -> Amount:
        ledger = self.runs[name].spending.ledger
        assert ledger is not None
        assert ledger.set_aside == Amount()
        return ledger.used


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Found:
    return Found(monkeypatch)


async def recorded(journal: MemoryJournal, run_id: str) -> Amount:
    """What a run has used of its limits, as its journal says."""
    return used_in([record for entry in await journal.read(run_id) for record in decode(entry)])


LINES = (["look", ("expert", {"prompt": "?"})], [("expert", {"prompt": "!"}), "look", "look"], "done")


@each_backend
def test_a_run_that_goes_on_has_used_what_it_had(backend: str, found: Found) -> None:
    """From whatever entry: the same counts at the end, but for a request that was under way, which is one more."""

    async def scenario() -> None:
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            handle = await system.start(boss(*LINES), "Go", run_id="r", limits=WIDE)
            expected = await handle.result()
        whole = found.used("r")
        assert whole == Amount(7, 7, 2, 70, 14, 84, round(7 * COST * 1e9))
        assert expected.usage.input_tokens == 70
        for number in range(1, len(journal.written) + 1):
            again = journal.after(number)
            async with System(journal=again, sources=virtual()) as system:
                for handle in await system.recover([boss(*LINES)]):
                    result = await handle.result()
                    assert result.output == "done"
                    used = found.used("r")
                    assert 0 <= used.requests - whole.requests <= 3, number
                    assert used - Amount(requests=used.requests - whole.requests) == whole, number
                    assert result.usage == expected.usage
                    told = await recorded(again, "r")
                    assert told + Amount(requests=used.requests - told.requests) == used

    play(scenario, backend=backend)


@each_backend
def test_a_limit_counts_what_was_used_in_another_process(backend: str, tmp_path: Path) -> None:
    """Two requests before the crash and two after it are four; the journal is a file."""

    async def scenario() -> None:
        numbers = iter(range(100))

        @tool(replay="safe")
        async def count() -> str:
            """Count."""
            number = next(numbers)
            if crashing and number == 1:
                reached.set()
                await anyio.sleep_forever()
            return str(number)

        def agent() -> Agent[Any, Any]:
            return Agent("a", Lines(*[["count"]] * 9, "done"), tools=[count], limits=Limits(requests=4, tool_calls=9))

        reached, crashing = anyio.Event(), True
        async with System(journal=SqliteJournal(tmp_path / "runs.db")) as system:
            await system.start(agent(), "Go", run_id="r")
            await reached.wait()
        crashing = False
        async with System(journal=SqliteJournal(tmp_path / "runs.db")) as system:
            [handle] = await system.recover([agent()])
            with pytest.raises(LimitExceeded) as caught:
                await handle.result()
        assert (caught.value.limit, caught.value.used, caught.value.allowed) == ("requests", 4, 4)
        assert caught.value.result is not None
        assert sum(message.role == "assistant" for message in caught.value.result.messages) == 4

    play(scenario, backend=backend, virtual_time=False)


class Hanging(Provider):
    """Plays lines by the number of calls; one of them hangs."""

    name, model = "hanging", "m"

    def __init__(self, *lines: Any) -> None:
        self.lines = lines
        self.asked = 0
        self.hangs = anyio.Event()

    async def complete(self, request: ModelRequest) -> ModelReply:
        line = self.lines[self.asked]
        self.asked += 1
        if line is None:
            self.hangs.set()
            await anyio.sleep_forever()
        if isinstance(line, BaseException):
            raise line
        return ModelReply(assistant(line) if isinstance(line, str) else assistant(tool_calls=[line]), None, None, "m")


@each_backend
def test_tries_and_cut_calls_count_after_a_crash_as_before(backend: str, found: Found) -> None:
    """What was set aside for a try of which nobody knows anything is written down, and counts in the next process."""

    async def scenario() -> None:
        journal = MemoryJournal(keep=True)
        model = Hanging(Overloaded("busy"), Stalled("silence"), None)

        def agent(model: Provider) -> Agent[Any, Any]:
            return Agent("a", model, retry=Retry(base=1.0), settings={"max_tokens": 100}, limits=WIDE, prices=PRICES)

        async with System(journal=journal, sources=virtual()) as system:
            await system.start(agent(model), "Go", run_id="r")
            await model.hangs.wait()
        before = found.used("r")
        assert (before.requests, before.output_tokens) == (3, 200)
        async with System(journal=journal, sources=virtual()) as system:
            [handle] = await system.recover([agent(Hanging("Done"))])
            result = await handle.result()
        after = found.used("r")
        # The answer told no usage: it is estimated, and written down so.
        assert (after.requests, after.output_tokens) == (4, 200 + 5)
        assert after.cost > before.cost > 0
        assert result.cost is None
        records = [record for entry in await journal.read("r") for record in decode(entry)]
        assert [record.spent["output_tokens"] for record in records if isinstance(record, Replied)] == [5]
        assert used_in(records) == after

    play(scenario, backend=backend)


@each_backend
def test_a_request_under_way_counts_as_one_after_a_crash(backend: str, found: Found) -> None:
    """Nobody wrote down that it came to anything."""

    async def scenario() -> None:
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            await (await system.start(boss("done"), "Go", run_id="r", limits=Limits(requests=2))).result()
        async with System(journal=journal.after(1), sources=virtual()) as system:
            [handle] = await system.recover([boss("done")])
            assert (await handle.result()).output == "done"
        assert found.used("r").requests == 2

    play(scenario, backend=backend)


@each_backend
def test_what_subagents_of_a_lost_call_have_used_counts(backend: str, found: Found) -> None:
    """A call whose outcome is unknown had asked somebody: that was used all the same."""

    async def scenario() -> None:
        reached = anyio.Event()
        journal = MemoryJournal(keep=True)

        @tool
        async def ask() -> str:
            """Ask somebody, and hang."""
            await expert().run("?")
            reached.set()
            await anyio.sleep_forever()
            return ""

        def agent() -> Agent[Any, Any]:
            return boss(["ask"], "done", tools=[ask])

        async with System(journal=journal, sources=virtual()) as system:
            handle = await system.start(agent(), "Go", run_id="r", limits=WIDE)
            await reached.wait()
            before = found.used("r")
            copied = MemoryJournal(keep=True)
            for name in ("r", "r.1.0.1"):
                claim = copied.create(name, parent_id=None if name == "r" else "r", conversation_id=None)
                entries = await journal.read(name)
                for place, entry in enumerate(entries):
                    copied.append(claim, entry, final=name != "r" and place == len(entries) - 1)
            handle.stop()
        assert before == Amount(3, 2, 1, 30, 6, 36, round(3 * COST * 1e9))
        async with System(journal=copied, sources=virtual()) as system:
            [handle] = await system.recover([agent()])
            result = await handle.result()
            await check_told(copied, result)
        assert found.used("r") == before + Amount(1, 0, 0, 10, 2, 12, round(COST * 1e9))
        assert await recorded(copied, "r") == found.used("r")

    play(scenario, backend=backend)


@pytest.fixture
def crash_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own code fails once: when the run ``r`` takes the result of its first call."""
    left = iter([True])
    ended = ToolBatch._ended

    async def fail(batch: ToolBatch, cell: ToolCell) -> Any:
        if batch._run.name == "r" and next(left, False):
            raise RuntimeError("our own code has failed")
        return await ended(batch, cell)

    monkeypatch.setattr(ToolBatch, "_ended", fail)


@each_backend
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("moment", [0.0005, 0.0015, 0.0025, 0.008, 0.0125, 0.0135])
@pytest.mark.usefixtures("crash_once")
def test_a_restart_in_place_counts_nothing_twice(backend: str, found: Found, keep: bool, moment: float) -> None:
    """The root crashes while a subagent of a subagent is at work: what they had used is counted once, everywhere."""

    async def scenario() -> None:
        heard: list[Any] = []

        @tool(replay="safe")
        async def tick() -> str:
            """Tick."""
            await anyio.sleep(moment)
            return "ticked"

        inner = expert()
        middle = Agent("middle", Lines([("expert", {"prompt": "?"})], "asked"), tools=[inner], prices=PRICES)
        root = Agent("root", Lines([("middle", {"prompt": "?"}), "tick"], "done"), tools=[middle, tick], prices=PRICES)
        models: list[Any] = [agent.provider for agent in (root, middle, inner)]
        journal = MemoryJournal(keep=keep)
        async with System(journal=journal, sources=virtual()) as system:
            limits = msgspec.structs.replace(WIDE, children=2)
            handle = await system.start(root, "Go", run_id="r", limits=limits, on_event=heard.append)
            result = await handle.result()
            assert result.output == "done"
            told = [each.content for message in result.messages for each in message.tool_results]
            assert told == ["asked", "ticked"]
            if keep:
                assert (await recorded(journal, "r")).requests == found.used("r").requests
        assert sum(isinstance(event, events.RunRestarted) for event in heard) == 1
        used = found.used("r")
        assert used.requests == sum(len(each.asked) for each in models)
        assert used.children == 2
        assert used.tool_calls == 2 + 1 + 1 if keep else used.tool_calls <= 2 + 2 + 2
        assert (result.usage.input_tokens or 0) <= used.input_tokens
        if keep:
            middle_used = next(found.used(name) for name in found.runs if name.count(".") == 3)
            assert used.requests == middle_used.requests + 2
            assert middle_used.children == 1

    play(scenario, backend=backend)


@each_backend
@pytest.mark.usefixtures("crash_once")
def test_a_restart_in_place_counts_calls_once(backend: str, found: Found) -> None:
    """Calls that had begun run once more and count once; those that had not are not counted until they begin."""

    async def scenario() -> None:
        ran: list[str] = []

        @tool(replay="safe")
        async def quick() -> str:
            """Be quick."""
            ran.append("quick")
            return "quick"

        @tool(replay="safe")
        async def slow() -> str:
            """Be slow."""
            ran.append("slow")
            await anyio.sleep(5)
            return "slow"

        agent = boss(["slow", "quick", "quick", "slow"], "done", tools=[quick, slow], parallel_tools=2)
        async with System(sources=virtual()) as system:
            handle = await system.start(agent, "Go", run_id="r", limits=Limits(tool_calls=4))
            assert (await handle.result()).output == "done"
        assert sorted(ran) == ["quick", "quick", "quick", "slow", "slow", "slow"]
        assert found.used("r").tool_calls == 4

    play(scenario, backend=backend)


@each_backend
def test_time_that_was_worked_counts_in_the_next_process(backend: str) -> None:
    """And neither the time between them, nor a wait for a place."""

    async def scenario() -> None:
        journal = MemoryJournal(keep=True)
        told: list[float | None] = []

        @tool(replay="safe")
        async def nap(context: RunContext[Any]) -> str:
            """Sleep."""
            told.append(context.remaining.wall_time)
            await context.sleep(40)
            return "rested"

        def agent() -> Agent[Any, Any]:
            return Agent("a", Lines(["nap"], "done", seconds=0), tools=[nap])

        busy = Agent("busy", Lines("done", seconds=30))
        async with System(journal=journal, sources=virtual(), max_running=1) as system:
            first = await system.start(busy, "Go")
            await system.start(agent(), "Go", run_id="r", limits=Limits(wall_time=50))
            await first.result()
            await anyio.sleep(10)
        await anyio.sleep(1_000)
        async with System(journal=journal, sources=virtual()) as system:
            [handle] = await system.recover([agent()])
            assert (await handle.result()).output == "done"
        assert told == [50, pytest.approx(40)]

        async with System(journal=journal, sources=virtual()) as system:
            await system.start(agent(), "Go", run_id="s", limits=Limits(wall_time=15))
            await anyio.sleep(10)
        began = anyio.current_time()
        async with System(journal=journal, sources=virtual()) as system:
            [handle] = await system.recover([agent()])
            with pytest.raises(LimitExceeded) as caught:
                await handle.result()
            assert (caught.value.limit, caught.value.allowed) == ("wall_time", 15)
            assert anyio.current_time() - began == pytest.approx(5)

    play(scenario, backend=backend)


@each_backend
def test_a_stop_for_the_time_is_one_also_after_a_crash(backend: str) -> None:
    """A process that dies while the run ends at its limit: the next one ends it with the same words."""

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = Agent("boss", Lines("done", seconds=100))
        async with System(journal=journal, sources=virtual()) as system:
            handle = await system.start(agent, "Go", run_id="r", limits=Limits(wall_time=3))
            with pytest.raises(LimitExceeded):
                await handle.result()
        for number in range(2, len(journal.written)):
            async with System(journal=journal.after(number), sources=virtual()) as system:
                [handle] = await system.recover([agent])
                with pytest.raises(LimitExceeded) as caught:
                    await handle.result()
                assert (caught.value.limit, caught.value.used, caught.value.allowed) == ("wall_time", 3, 3)
                assert caught.value.result is not None
                assert (caught.value.result.status, caught.value.result.reason) == ("limited", "wall_time")

    play(scenario, backend=backend)


def test_records_without_amounts_count_what_was_told() -> None:
    """Of a run that was not bounded when it was written; the total is that of the provider, or the sum."""
    reply = ModelReply(assistant("x"), "stop", Usage(10, 5), "m")
    other = ModelReply(assistant("x"), "stop", Usage(10, 5, 17), "m")
    assert used_in([Replied(reply, 0.0, 1e-6), Replied(other, 0.0)]) == Amount(2, 0, 0, 20, 10, 32, 1_000)
    assert used_in([Replied(ModelReply(assistant("x")), 0.0)]) == Amount(requests=1)
