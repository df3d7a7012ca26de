"""The end of a System's work in order: what is under way comes to a good place, and nothing new begins."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from greenroom import Agent, Drained, MemoryJournal, Recovery, Retry, RunContext, System, SystemDraining, tool
from greenroom.journal import Claim, Listed
from greenroom.providers import Overloaded, Scripted
from greenroom.testing import Interruption, interrupt_everywhere
from greenroom.testing import run as play

from .crashes.memory import PRICES, Lines, RecordingJournal, check_told, story, virtual

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@tool(replay="safe")
async def look() -> str:
    """Look."""
    await anyio.sleep(10)
    return "seen"


async def charge() -> str:
    """Charge."""
    await anyio.sleep(10)
    return "charged"


@tool(replay="safe", needs_approval=True)
async def ship() -> str:
    """Ship."""
    return "shipped"


def helper(*lines: Any, name: str = "helper", seconds: float = 1.0, **options: Any) -> Agent[Any, str]:
    """An agent whose model takes a second for each line."""
    options = {"tools": [look, charge, ship], "prices": PRICES, **options}
    return Agent(name, Lines(*lines, seconds=seconds), **options)


def system_on(journal: MemoryJournal, **options: Any) -> System:
    """A System on the virtual clock."""
    return System(journal=journal, sources=virtual(), **options)


async def finish(journal: MemoryJournal, *agents: Agent[Any, Any]) -> dict[str, Any]:
    """Recover what was left, and have it come to its end: the outputs."""
    async with system_on(journal) as system:
        recovery = await system.recover(agents)
        assert not recovery.left
        assert not recovery.parked
        results = [await run.result() for run in recovery]
    for result in results:
        await check_told(journal, result)
    return {result.run_id: result.output for result in results}


@backends
def test_nothing_to_drain(backend: str) -> None:
    """At once, and then nothing new is taken."""

    async def scenario() -> None:
        async with System() as system:
            assert await system.drain() == Drained()
            assert await system.drain(0) == Drained()
            with pytest.raises(SystemDraining):
                await system.start(helper("x"), "Go")
            with pytest.raises(SystemDraining):
                await helper("x").run("Go")
            with pytest.raises(SystemDraining):
                await system.recover([helper("x")])

    play(scenario, backend=backend)


@backends
def test_without_a_journal_that_survives_runs_come_to_their_end(backend: str) -> None:
    """A run that is suspended in memory would be lost."""

    async def scenario() -> None:
        async with System() as system:
            run = await system.start(helper(["look"], ["look"], "Done."), "Go", run_id="r")
            await anyio.sleep(0.5)
            drained = await system.drain(100)
            assert (drained, anyio.current_time()) == (Drained(ended=("r",)), pytest.approx(23.0, abs=0.1))
            assert (await run.result()).output == "Done."

    play(scenario, backend=backend)


@backends
def test_without_one_what_is_left_at_the_deadline_is_stopped(backend: str) -> None:
    """And its result says so."""

    async def scenario() -> None:
        async with System() as system:
            run = await system.start(helper(["look"], "Done."), "Go", run_id="r")
            await anyio.sleep(0.5)
            assert await system.drain(5) == Drained(cut=("r",))
            assert anyio.current_time() == pytest.approx(5.5, abs=0.1)
            result = await run.result()
            assert (result.status, result.reason) == ("stopped", "system")

    play(scenario, backend=backend)


@backends
@pytest.mark.parametrize(
    ("moment", "took", "turns", "outcomes"), [(0.5, 0.5, 1, 0), (5.0, 6.0, 1, 1), (11.5, 0.5, 2, 1)]
)
def test_a_run_finishes_its_step_and_is_suspended(
    moment: float, took: float, turns: int, outcomes: int, backend: str
) -> None:
    """A model call comes to its reply, a tool to its result; both are kept, and nothing is begun."""

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper(["charge"], ["charge"], "Done.")
        async with system_on(journal) as system:
            run = await system.start(agent, "Go", run_id="r")
            await anyio.sleep(moment)
            began = anyio.current_time()
            assert await system.drain(100) == Drained(suspended=("r",))
            assert anyio.current_time() - began == pytest.approx(took, abs=0.1)
            result = await run.result()
            assert (result.status, result.reason) == ("stopped", "system")
            told = await check_told(journal, result)
            assert (told.standing, told.turns) == ("suspended", turns)
            assert sum(len(message.tool_results) for message in told.messages) == outcomes
        assert await finish(journal, helper(["charge"], ["charge"], "Done.")) == {"r": "Done."}
        messages = (await story(journal, "r")).messages
        assert [each.content for message in messages for each in message.tool_results] == ["charged", "charged"]
        assert (await story(journal, "r")).suspicion == 0

    play(scenario, backend=backend)


@backends
def test_tools_side_by_side_all_come_to_their_results(backend: str) -> None:
    """Those that have not begun wait for whoever goes on."""

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper(["charge", "charge", "charge"], "Done.", parallel_tools=2)
        async with system_on(journal) as system:
            run = await system.start(agent, "Go", run_id="r")
            await anyio.sleep(5)
            assert await system.drain(100) == Drained(suspended=("r",))
            assert len((await story(journal, "r")).at_work) == 0
            await check_told(journal, await run.result())
        assert await finish(journal, agent) == {"r": "Done."}
        messages = (await story(journal, "r")).messages
        assert [each.content for message in messages for each in message.tool_results] == ["charged"] * 3

    play(scenario, backend=backend)


@backends
@pytest.mark.parametrize("timeout", [0, 3])
@pytest.mark.parametrize(("moment", "unknown"), [(0.5, False), (5.0, True)])
def test_what_the_deadline_cuts_goes_on_as_after_a_crash(
    moment: float, unknown: bool, timeout: float, backend: str
) -> None:
    """A tool that must not run twice has an unknown outcome; a model call was paid for, perhaps."""

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper(["charge"], "Done.", seconds=6.0 if not unknown else 1.0)
        async with system_on(journal) as system:
            run = await system.start(agent, "Go", run_id="r")
            await anyio.sleep(moment)
            assert await system.drain(timeout) == Drained(cut=("r",))
            result = await run.result()
            assert (result.cost is None) is not unknown
            told = await story(journal, "r")
            assert (told.standing, told.cost is None) == ("suspended", not unknown)
        assert await finish(journal, agent) == {"r": "Done."}
        told = await story(journal, "r")
        [outcome] = [each for message in told.messages for each in message.tool_results]
        assert outcome.cause == ("outcome_unknown" if unknown else None)
        assert (told.cost is None) is not unknown

    play(scenario, backend=backend)


@backends
def test_a_subagent_finishes_its_step(backend: str) -> None:
    """The whole tree is suspended; above it the call goes on with the same subagent."""

    async def scenario() -> None:
        journal = RecordingJournal()
        expert = helper(["charge"], "expertise", name="expert")
        boss = helper([("expert", {"prompt": "?"}), "charge"], "Done.", tools=[expert, charge], name="boss")
        async with system_on(journal) as system:
            await system.start(boss, "Go", run_id="r")
            await anyio.sleep(5)  # both charge
            assert await system.drain(100) == Drained(suspended=("r",))
            assert anyio.current_time() == pytest.approx(12.0, abs=0.1)
        assert [each.run_id for each in await journal.runs(unfinished=True)] == ["r", "r.1.0.1"]
        assert await finish(journal, boss) == {"r": "Done."}
        below = await story(journal, "r.1.0.1")
        assert below.standing == "completed"
        assert [each.content for message in below.messages for each in message.tool_results] == ["charged"]

    play(scenario, backend=backend)


@backends
def test_a_tool_that_needs_another_subagent_is_held(backend: str) -> None:
    """Scenario 42: what a step at work begins below is part of the tree: it begins nothing, and is suspended."""

    @tool(replay="safe")
    async def work() -> str:
        """Work, then ask."""
        await anyio.sleep(5)
        return (await helper("Advice.", name="adviser").run("?")).output

    async def scenario() -> None:
        journal = RecordingJournal()
        boss = helper(["work"], "Done.", tools=[work], name="boss")
        async with system_on(journal) as system:
            await system.start(boss, "Go", run_id="r")
            await anyio.sleep(2)
            assert await system.drain(100) == Drained(suspended=("r",))
        assert await finish(journal, boss) == {"r": "Done."}

    play(scenario, backend=backend)


@backends
def test_runs_that_wait_for_their_turn(backend: str) -> None:
    """They have begun nothing: they are suspended at once, and begin elsewhere."""

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper(["charge"], "Done.")
        async with system_on(journal, max_running=1) as system:
            for name in "abc":
                await system.start(agent, "Go", run_id=name)
            await anyio.sleep(5)
            drained = await system.drain(100)
            assert (drained.ended, sorted(drained.suspended), drained.cut) == ((), ["a", "b", "c"], ())
        assert await finish(journal, agent) == {"a": "Done.", "b": "Done.", "c": "Done."}

    play(scenario, backend=backend)


@backends
def test_a_run_that_waits_for_an_approval_is_suspended_at_once(backend: str) -> None:
    """Its question goes on elsewhere."""

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper(["ship"], "Done.")
        async with system_on(journal) as system:
            await system.start(agent, "Go", run_id="r")
            await anyio.sleep(5)
            assert await system.drain(100) == Drained(suspended=("r",))
            assert anyio.current_time() == pytest.approx(5, abs=0.1)
        async with system_on(journal) as system:
            [run] = await system.recover([agent])
            await anyio.sleep(1)
            run.approve("c0-0")
            assert (await run.result()).output == "Done."

    play(scenario, backend=backend)


@backends
def test_an_approval_beside_a_call_at_work(backend: str) -> None:
    """The call comes to its result first."""

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper(["ship", "charge"], "Done.")
        async with system_on(journal) as system:
            await system.start(agent, "Go", run_id="r")
            await anyio.sleep(5)
            assert await system.drain(100) == Drained(suspended=("r",))
            assert anyio.current_time() == pytest.approx(11, abs=0.1)
        async with system_on(journal) as system:
            [run] = await system.recover([agent])
            await anyio.sleep(1)
            run.approve("c0-0")
            result = await run.result()
            assert [each.content for message in result.messages for each in message.tool_results] == [
                "shipped",
                "charged",
            ]

    play(scenario, backend=backend)


@backends
def test_a_run_in_a_pause_between_two_tries(backend: str) -> None:
    """Suspended at once; the rest of the pause passes elsewhere."""

    async def scenario() -> None:
        journal = RecordingJournal()
        script = Scripted(Overloaded("busy", retry_after=30.0), "Done.")
        agent = Agent("helper", script, retry=Retry(base=0.0))
        async with system_on(journal) as system:
            await system.start(agent, "Go", run_id="r")
            await anyio.sleep(10)
            assert await system.drain(100) == Drained(suspended=("r",))
            assert anyio.current_time() == pytest.approx(10, abs=0.1)
        assert await finish(journal, agent) == {"r": "Done."}
        assert anyio.current_time() == pytest.approx(30, abs=0.1)
        assert len(script.requests) == 2

    play(scenario, backend=backend)


@backends
@pytest.mark.parametrize("moment", [0.0, 0.5, 5.0])
def test_a_paused_run_stays_paused_elsewhere(moment: float, backend: str) -> None:
    """Paused before, or while it is at work."""

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper(["charge"], "Done.")
        async with system_on(journal) as system:
            run = await system.start(agent, "Go", run_id="r")
            await anyio.sleep(moment)
            run.pause()
            await anyio.sleep(moment)
            assert await system.drain(100) == Drained(suspended=("r",))
        async with system_on(journal) as system:
            [run] = await system.recover([agent])
            await anyio.sleep(1000)
            assert run.tree().state == "paused"
            run.resume()
            assert (await run.result()).output == "Done."

    play(scenario, backend=backend)


@backends
def test_a_run_that_drains_is_not_paused_elsewhere(backend: str) -> None:
    """The hold is the System's."""

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper(["charge"], "Done.")
        async with system_on(journal) as system:
            await system.start(agent, "Go", run_id="r")
            await anyio.sleep(5)
            await system.drain(100)
        assert "Held" not in [type(record).__name__ for record in (await story(journal, "r")).records]
        assert await finish(journal, agent) == {"r": "Done."}

    play(scenario, backend=backend)


@backends
def test_draining_twice(backend: str) -> None:
    """Both wait for the same; the shorter deadline cuts."""

    async def scenario() -> None:
        journal = RecordingJournal()
        async with system_on(journal) as system:
            await system.start(helper(["charge"], "Done."), "Go", run_id="r")
            await anyio.sleep(5)
            said: list[Drained] = []

            async def drain(timeout: float) -> None:
                said.append(await system.drain(timeout))

            async with anyio.create_task_group() as group:
                group.start_soon(drain, 100)
                group.start_soon(drain, 2)
            assert anyio.current_time() == pytest.approx(7, abs=0.1)
            assert Drained(cut=("r",)) in said

    play(scenario, backend=backend)


@backends
def test_a_drain_that_is_cancelled(backend: str) -> None:
    """Only the waiting ends: the System drains, and leaves nothing new in."""

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper(["charge"], ["charge"], "Done.")
        async with system_on(journal) as system:
            await system.start(agent, "Go", run_id="r")
            await anyio.sleep(5)
            with anyio.move_on_after(1):
                await system.drain(100)
            with pytest.raises(SystemDraining):
                await system.start(agent, "Go")
            assert await system.drain(100) == Drained(suspended=("r",))
        assert await finish(journal, agent) == {"r": "Done."}

    play(scenario, backend=backend)


@backends
def test_a_run_that_is_told_to_stop_meanwhile_ends(backend: str) -> None:
    """A stop is a stop: it is over, and nobody goes on with it."""

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper(["charge"], "Done.")
        async with system_on(journal) as system:
            run = await system.start(agent, "Go", run_id="r")
            await anyio.sleep(5)
            async with anyio.create_task_group() as group:
                group.start_soon(system.drain, 100)
                await anyio.sleep(1)
                result = await run.stop(reason="enough")
            assert (result.status, result.reason) == ("stopped", "enough")
            await check_told(journal, result)
        assert await finish(journal, agent) == {}

    play(scenario, backend=backend)


@backends
def test_messages_that_came_meanwhile_are_kept(backend: str) -> None:
    """What was sent into a run is in its journal, and gets its turn elsewhere."""

    async def scenario() -> None:
        journal = RecordingJournal()
        agent = helper(["charge"], "An answer.", "Another.")
        async with system_on(journal) as system:
            run = await system.start(agent, "Go", run_id="r")
            await anyio.sleep(5)
            async with anyio.create_task_group() as group:
                group.start_soon(system.drain, 100)
                await anyio.sleep(1)
                run.send("More?", "idle")
        assert await finish(journal, agent) == {"r": "Another."}

    play(scenario, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_drain_cancelled_at_every_step(backend: str) -> None:
    """Nothing is lost, nothing is done twice, wherever it is interrupted."""

    async def scenario(interruption: Interruption) -> None:
        journal = RecordingJournal()
        charged: list[str] = []

        async def bill(context: RunContext[Any]) -> str:
            """Bill."""
            charged.append(context.idempotency_key)
            await anyio.sleep(0.01)
            return "billed"

        expert = Agent("expert", Lines(["bill"], "expertise"), tools=[bill])
        agent = Agent("boss", Lines(["bill", ("expert", {"prompt": "?"})], ["bill"], "Done."), tools=[bill, expert])
        async with system_on(journal) as system:
            await system.start(agent, "Go", run_id="r")
            await anyio.sleep(0.002)
            with anyio.CancelScope() as scope:
                interruption.arm(scope.cancel)
                await system.drain(100)
        outputs = await finish(journal, agent)
        told = await story(journal, "r")
        assert outputs in ({"r": "Done."}, {})
        assert told.messages[-1].text == "Done."
        assert len(charged) == len(set(charged))
        results = [each for message in told.messages for each in message.tool_results]
        assert len(results) == 3
        if not interruption.fired:
            assert len(charged) == 3

    assert interrupt_everywhere(scenario, backend=backend) > 5


class Slow(RecordingJournal):
    """Takes a second for one kind of question."""

    slow = ""

    async def _take_time(self, what: str) -> None:
        if what == self.slow:
            await anyio.sleep(1)

    async def claim(self, run_id: str, *, after: int | None = None) -> Claim:
        await self._take_time("claim")
        return await super().claim(run_id, after=after)

    async def durable(self, claim: Claim) -> None:
        await self._take_time("durable")
        await super().durable(claim)

    async def read(self, run_id: str) -> list[bytes]:
        await self._take_time("read")
        return await super().read(run_id)

    async def runs(self, **asked: Any) -> list[Listed]:
        await self._take_time("runs")
        return await super().runs(**asked)


@backends
@pytest.mark.parametrize(
    ("slow", "moment"), [("runs", 0.5), ("read", 0.5), ("read", 1.5), ("claim", 0.5), ("read", 3.5), ("durable", 0.5)]
)
def test_a_drain_amid_a_recovery(slow: str, moment: float, backend: str) -> None:
    """Nothing goes on in a System that has drained: what had not begun is left, what had is suspended again."""

    async def scenario() -> None:
        agent = helper(["charge"], "Done.")
        journal = Slow()
        async with system_on(journal) as system:
            for run_id in ("r1", "r2"):
                await system.start(agent, "Go", run_id=run_id)
            await anyio.sleep(5)
            died = journal.after(len(journal.written))
        died.slow = slow
        asked = len(agent.provider.asked)  # type: ignore[attr-defined]
        async with system_on(died) as system:
            recovered: list[Recovery] = []

            async def recover() -> None:
                recovered.append(await system.recover([agent]))

            async with anyio.create_task_group() as group:
                group.start_soon(recover)
                await anyio.sleep(moment)
                drained = await system.drain(100)
                assert not system.find("r1")
                assert not system.find("r2")
            await anyio.sleep(10)
            assert len(system.pool) == 0
            assert {run.id for run in recovered[0]} | set(recovered[0].left) == {"r1", "r2"}
            if slow in ("runs", "read") and moment < 2:  # none was claimed yet
                assert drained == Drained()
                assert set(recovered[0].left.values()) == {"the System is draining and starts nothing new"}
                assert {each.epoch for each in await died.runs()} == {1}
            else:
                assert set(drained.suspended) == {"r1", "r2"}
            assert len(agent.provider.asked) == asked  # type: ignore[attr-defined]
        died.slow = ""
        assert await finish(died, agent) == {"r1": "Done.", "r2": "Done."}

    play(scenario, backend=backend)


@backends
def test_a_drain_amid_a_start(backend: str) -> None:
    """A run whose beginning is not durable yet does not begin any more, and nobody has to recover it."""

    async def scenario() -> None:
        agent = helper("Not said.")
        journal = Slow()
        journal.slow = "durable"
        async with system_on(journal) as system:
            refused: list[SystemDraining] = []

            async def start() -> None:
                with pytest.raises(SystemDraining) as caught:
                    await system.start(agent, "Go", run_id="r")
                refused.append(caught.value)

            async with anyio.create_task_group() as group:
                group.start_soon(start)
                await anyio.sleep(0.5)
                assert await system.drain(100) == Drained()
            assert len(refused) == 1
            await anyio.sleep(10)
        assert agent.provider.asked == []  # type: ignore[attr-defined]
        assert not await journal.runs(unfinished=True)

    play(scenario, backend=backend)
