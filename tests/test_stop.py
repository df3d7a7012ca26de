"""The stop ladder, stop tokens, polled stop signals, pauses: everything that asks a run to end, or to wait."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import ref

import anyio
import pytest

from greenroom import Agent, RunContext, RunEnded, StopToken, System
from greenroom.agents.events import TERMINAL
from greenroom.journal import Claim, Ended, MemoryJournal, decode
from greenroom.providers import ModelReply, ModelRequest, Provider, Scripted, assistant, call
from greenroom.testing import run as in_fresh_loop

pytestmark = pytest.mark.anyio

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Deaf:
    """Code that swallows every cancellation until it is released."""

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self.released = False
        self.swallowed = 0

    async def wait(self) -> str:
        self.reached.set()
        while not self.released:
            try:
                await anyio.sleep(0.005)
            except BaseException:
                self.swallowed += 1
        return "all is well"


def tool_of(wait: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[str]]:
    async def work() -> str:
        """Work."""
        return str(await wait())

    return work


async def shielded(seconds: float) -> str:
    """Heed no cancellation for so long."""
    with anyio.CancelScope(shield=True):
        await anyio.sleep(seconds)
    return "done"


def causes(result: Any) -> list[str | None]:
    return [each.cause for message in result.messages for each in message.tool_results]


def check_once(heard: list[Any]) -> None:
    """INV2: every run that began has one last event."""
    started = [event.run_id for event in heard if event.type == "run.started"]
    ended = [event.run_id for event in heard if isinstance(event, TERMINAL)]
    assert sorted(started) == sorted(ended)


# -- the ladder


@BACKENDS
def test_a_grace_holds_although_nobody_awaits_the_stop(backend: str) -> None:
    """Two seconds after the stop the task is killed; what is shielded from that is named."""

    async def scenario() -> None:
        async with System() as system:
            agent = Agent("a", Scripted([call("work")]), tools=[tool_of(lambda: shielded(60))])
            run = await system.start(agent, "Go")
            await anyio.sleep(1)
            run.stop(reason="enough", grace=2)
            began = anyio.current_time()
            result = await run.result()
            assert 2 <= anyio.current_time() - began < 2.2
            assert (result.status, result.reason, result.outlived) == ("stopped", "enough", ("work:call_1",))
            assert causes(result) == ["cancelled"]

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_what_ends_within_the_grace_is_not_killed(backend: str) -> None:
    """A tool that needs a second to put things away has it."""

    async def scenario() -> None:
        async with System() as system:
            agent = Agent("a", Scripted([call("work")]), tools=[tool_of(lambda: shielded(2))])
            run = await system.start(agent, "Go")
            await anyio.sleep(1)
            began = anyio.current_time()
            result = await run.stop(grace=2)
            assert anyio.current_time() - began == pytest.approx(1)
            assert (result.status, result.outlived, causes(result)) == ("stopped", (), ["cancelled"])

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_the_grace_of_a_plain_stop_is_the_systems(backend: str) -> None:
    """`System(grace=)`; without a System it is five seconds."""

    async def scenario() -> None:
        agent = Agent("a", Scripted([call("work")], [call("work")]), tools=[tool_of(lambda: shielded(60))])
        async with System(grace=3) as system:
            run = await system.start(agent, "Go")
            await anyio.sleep(1)
            began = anyio.current_time()
            await run.stop()
            assert 3 <= anyio.current_time() - began < 3.2
        async with agent.stream("Go") as run:
            await anyio.sleep(1)
            began = anyio.current_time()
            assert (await run.stop()).outlived == ("work:call_2",)
            assert 5 <= anyio.current_time() - began < 5.2

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
@pytest.mark.parametrize("mode", ["after_tools", "after_turn"])
def test_a_gentle_stop_becomes_urgent_when_its_grace_is_over(backend: str, mode: Any) -> None:
    """The tool is cancelled then, and heeds it at once: nothing is killed, and its true cause is told."""

    async def scenario() -> None:
        async with System() as system:
            agent = Agent("a", Scripted([call("work")], "never"), tools=[tool_of(lambda: anyio.sleep(60))])
            run = await system.start(agent, "Go")
            await anyio.sleep(1)
            run.stop(mode, reason="budget", grace=4)
            began = anyio.current_time()
            result = await run.result()
            assert anyio.current_time() - began == pytest.approx(4, abs=0.01)
            assert (result.status, result.reason, causes(result)) == ("stopped", "budget", ["cancelled"])

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_a_gentle_stop_without_a_grace_takes_as_long_as_it_takes(backend: str) -> None:
    """A tool of an hour is waited for; its result counts."""

    async def scenario() -> None:
        async with System() as system:
            agent = Agent("a", Scripted([call("work")], "never"), tools=[tool_of(lambda: anyio.sleep(3600))])
            run = await system.start(agent, "Go")
            await anyio.sleep(1)
            result = await run.stop("after_tools")
            assert (result.status, causes(result)) == ("stopped", [None])
            assert anyio.current_time() - run._cell.started_at == pytest.approx(3600)

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_asking_again_may_only_shorten_the_grace(backend: str) -> None:
    """Sixty seconds, then two, then sixty again: it is two. A gentler mode changes nothing."""

    async def scenario() -> None:
        async with System() as system:
            agent = Agent("a", Scripted([call("work")]), tools=[tool_of(lambda: shielded(100))])
            run = await system.start(agent, "Go")
            await anyio.sleep(1)
            began = anyio.current_time()
            for mode, grace in (("after_turn", 1), ("now", 60), ("now", 2), ("now", 60), ("after_tools", 0)):
                run.stop(mode, grace=grace)
            await run.result()
            assert 2 <= anyio.current_time() - began < 2.2

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
@pytest.mark.parametrize("from_a_thread", [False, True])
def test_code_that_swallows_its_cancellation_is_named(
    backend: str, from_a_thread: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Scenario 48: whoever waits gets the result, its late value is dropped, the log says so once."""

    async def scenario() -> None:
        deaf = Deaf()
        heard: list[Any] = []
        async with System() as system:
            agent = Agent("a", Scripted([call("work")], "no"), tools=[tool_of(deaf.wait)])
            run = await system.start(agent, "Go", on_event=heard.append)
            events = run.events()
            await deaf.reached.wait()
            if from_a_thread:
                thread = threading.Thread(target=lambda: run.stop(grace=0.05))
                thread.start()
                thread.join()
            else:
                run.stop(grace=0.05)
            with anyio.fail_after(5):
                result = await run.result()
                assert [event async for event in events][-1].outlived == ("work:call_1",)
            assert deaf.swallowed
            assert (result.status, result.outlived, causes(result)) == ("stopped", ("work:call_1",), ["cancelled"])
            assert run.id in str(system.tree())  # its task keeps the group open, and its place in the tree
            deaf.released = True
        assert await run.result() is result
        assert "all is well" not in str(result.messages)
        check_once(heard)

    with caplog.at_level(logging.WARNING, "greenroom"):
        in_fresh_loop(scenario, backend=backend, virtual_time=False)
    assert len([record for record in caplog.records if "does not heed" in record.message]) == 1


@BACKENDS
def test_deaf_code_three_levels_deep_is_named_with_its_run(backend: str) -> None:
    """Scenario 55: every level has its result, leaves first."""

    async def scenario() -> None:
        deaf = Deaf()
        heard: list[Any] = []
        leaf = Agent("leaf", Scripted([call("work")]), tools=[tool_of(deaf.wait)])
        middle = Agent("middle", Scripted([call("leaf", prompt="Go")]), tools=[leaf])
        root = Agent("root", Scripted([call("middle", prompt="Go")]), tools=[middle])
        async with System() as system:
            run = await system.start(root, "Go", on_event=heard.append)
            await deaf.reached.wait()
            with anyio.fail_after(5):
                result = await run.stop(reason="enough", grace=0.02)
            ended = [event for event in heard if isinstance(event, TERMINAL)]
            assert [event.agent for event in ended] == ["leaf", "middle", "root"]
            assert {event.reason for event in ended} == {"enough"}
            assert ended[0].outlived == ("work:call_1",)
            assert result.outlived == (f"{ended[1].run_id}/{ended[0].run_id}/work:call_1",)
            deaf.released = True
        check_once(heard)

    in_fresh_loop(scenario, backend=backend, virtual_time=False)


class DeafModel(Provider):
    """A provider that cannot be cancelled."""

    name, model = "deaf", "deaf-1"

    def __init__(self, deaf: Deaf) -> None:
        self.deaf = deaf

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Answer at last."""
        return ModelReply(assistant(await self.deaf.wait()), "stop")


@BACKENDS
def test_a_deaf_provider_is_named(backend: str) -> None:
    """What it answers at last is in no history."""

    async def scenario() -> None:
        deaf = Deaf()
        heard: list[Any] = []
        async with System() as system:
            run = await system.start(Agent("a", DeafModel(deaf)), "Go", on_event=heard.append)
            await deaf.reached.wait()
            with anyio.fail_after(5):
                result = await run.stop(grace=0.02)
            deaf.released = True
        assert (result.status, result.outlived, len(result.messages)) == ("stopped", ("deaf:deaf-1",), 1)
        check_once(heard)

    in_fresh_loop(scenario, backend=backend, virtual_time=False)


@BACKENDS
def test_a_deaf_observer_is_named(backend: str) -> None:
    """The run is named itself where its own task is held up."""

    async def scenario() -> None:
        deaf = Deaf()

        async def observe(event: Any) -> None:
            await deaf.wait()

        async with System() as system:
            agent = Agent("a", Scripted("fine"), hooks={"on_model_end": observe})
            run = await system.start(agent, "Go")
            await deaf.reached.wait()
            with anyio.fail_after(5):
                result = await run.stop(grace=0.02)
            deaf.released = True
        assert result.status == "stopped"
        assert len(result.outlived) == 1

    in_fresh_loop(scenario, backend=backend, virtual_time=False)


@BACKENDS
def test_an_observer_that_hangs_is_killed_after_the_grace(backend: str) -> None:
    """It is no step that a stop cancels; it heeds the kill, so nothing has outlived the run."""

    async def scenario() -> None:
        async def observe(event: Any) -> None:
            await anyio.sleep(60)

        async with System() as system:
            tools = [tool_of(lambda: anyio.sleep(0))]
            agent = Agent("a", Scripted([call("work")]), tools=tools, hooks={"on_tool_end": observe})
            run = await system.start(agent, "Go")
            await anyio.sleep(1)
            began = anyio.current_time()
            result = await run.stop(reason="enough", grace=1)
            assert anyio.current_time() - began == pytest.approx(1)
        assert (result.status, result.reason, result.outlived) == ("stopped", "enough", ())
        assert causes(result) == [None]

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_a_run_that_is_given_up_gives_its_messages_back(backend: str) -> None:
    """Whoever waits for the delivery does not wait for the deaf tool."""

    async def scenario() -> None:
        async with System() as system:
            agent = Agent("a", Scripted([call("work")]), tools=[tool_of(lambda: shielded(60))])
            run = await system.start(agent, "Go")
            await anyio.sleep(1)
            letter = run.send("too late")
            run.stop(grace=1)
            began = anyio.current_time()
            with pytest.raises(RunEnded):
                await letter
            assert anyio.current_time() - began < 1.2
            with pytest.raises(RunEnded):
                run.send("much too late")

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_a_closing_system_climbs_the_ladder(backend: str) -> None:
    """Leaving the block stops the runs; a deaf one gives its result after the grace, and keeps the block open."""

    async def scenario() -> None:
        deaf = Deaf()
        results: list[Any] = []

        async def follow(run: Any) -> None:
            results.append(await run.result())
            deaf.released = True

        async with anyio.create_task_group() as group, System(grace=0.05) as system:
            agent = Agent("a", Scripted([call("work")]), tools=[tool_of(deaf.wait)])
            run = await system.start(agent, "Go")
            await deaf.reached.wait()
            group.start_soon(follow, run)
        assert [(result.reason, result.outlived) for result in results] == [("system", ("work:call_1",))]

    in_fresh_loop(scenario, backend=backend, virtual_time=False)


@BACKENDS
def test_a_killed_run_keeps_what_its_finished_tools_returned(backend: str) -> None:
    """Scenario 54: the call that was done is kept; the stubborn one is cancelled, and both have their last event."""

    async def scenario() -> None:
        heard: list[Any] = []

        async def quick() -> str:
            """Be quick."""
            return "quick"

        async with System() as system:
            script = Scripted([call("quick"), call("work")])
            agent = Agent("a", script, tools=[quick, tool_of(lambda: shielded(60))])
            run = await system.start(agent, "Go", on_event=heard.append)
            await anyio.sleep(1)
            result = await run.stop(grace=1)
        assert causes(result) == [None, "cancelled"]
        ends = [(event.type, event.tool) for event in heard if event.type in ("tool.completed", "tool.failed")]
        assert ends == [("tool.completed", "quick"), ("tool.failed", "work")]
        assert heard[-1].type == "run.stopped"

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_a_first_stop_that_is_more_urgent_keeps_its_reason(backend: str) -> None:
    """Also before the run has begun."""

    async def scenario() -> None:
        async with System() as system:
            run = await system.start(Agent("a", Scripted("no")), "Go")
            run.stop("now", reason="first")
            run.stop("after_turn", reason="second")
            assert (await run.result()).reason == "first"

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_a_more_urgent_stop_does_not_change_why(backend: str) -> None:
    """Asking again changes nothing, except that it may be more urgent."""

    async def scenario() -> None:
        async def work() -> str:
            """Work."""
            run.stop("after_turn", reason="budget")
            run.stop("now")
            await anyio.sleep_forever()
            return "late"

        async with System() as system:
            run = await system.start(Agent("a", Scripted([call("work")]), tools=[work]), "Go")
            result = await run.result()
            assert (result.status, result.reason) == ("stopped", "budget")

    in_fresh_loop(scenario, backend=backend)


class Written(MemoryJournal):
    """A journal that keeps what was written after its run is over."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []

    def append(self, claim: Claim, entry: bytes, *, final: bool = False, sequence: int | None = None) -> int:
        """Keep it."""
        self.records += decode(entry)
        return super().append(claim, entry, final=final, sequence=sequence)


@BACKENDS
@pytest.mark.parametrize("seconds", [2, 60])
def test_a_killed_run_is_over_in_its_journal(backend: str, seconds: float) -> None:
    """Nobody goes on with a run that was stopped, also where it had to be killed, or given up."""

    async def scenario() -> None:
        journal = Written()
        async with System(journal=journal) as system:
            agent = Agent("a", Scripted([call("work")]), tools=[tool_of(lambda: shielded(seconds))])
            run = await system.start(agent, "Go")
            await anyio.sleep(1)
            await run.stop(reason="enough", grace=0.95)
        ended = journal.records[-1]
        assert isinstance(ended, Ended)
        assert (ended.status, ended.reason) == ("stopped", "enough")
        assert len([record for record in journal.records if isinstance(record, Ended)]) == 1

    in_fresh_loop(scenario, backend=backend)


def test_nothing_of_a_steered_run_is_left_to_the_collector() -> None:
    """Ladder, poll, inbox and token let go of the run, and it of them."""

    async def never(context: RunContext[None]) -> bool:
        return False

    async def one(token: StopToken) -> None:
        async with System() as system:
            agent = Agent("a", Scripted([call("work")]), tools=[tool_of(lambda: anyio.sleep(60))])
            run = await system.start(agent, "Go", stop=token, stop_when=never)
            cells.append(ref(run._cell))
            await anyio.sleep(1)
            run.send("too late")
            run.pause()
            run.resume()
            await run.stop()

    async def scenario() -> None:
        token = StopToken()
        await one(token)
        await anyio.sleep(1)

    cells: list[Any] = []
    gc.collect()
    gc.disable()
    try:
        in_fresh_loop(scenario, backend="asyncio")
        assert [cell() for cell in cells] == [None]
    finally:
        gc.enable()


# -- stop tokens


@BACKENDS
def test_a_token_stops_many_runs(backend: str) -> None:
    """Those that work, in whatever way they were started, and those that were still to begin."""

    async def scenario() -> None:
        token = StopToken()
        models = [Scripted(*[[call("work")]] * 8) for _ in range(4)]
        agents = [Agent("a", model, tools=[tool_of(lambda: anyio.sleep(60))]) for model in models]
        results: list[Any] = []

        async def run_it() -> None:
            results.append(await agents[0].run("Go", stop=token))

        async def map_it() -> None:
            results.extend(await agents[1].map(["1", "2", "3"], concurrency=1, stop=token))

        async with System() as system, anyio.create_task_group() as group:
            group.start_soon(run_it)
            group.start_soon(map_it)
            started = await system.start(agents[2], "Go", stop=token)
            async with agents[3].stream("Go", stop=token) as streamed:
                await anyio.sleep(1)
                assert not token.stopped
                token.stop(reason="budget")
                results += [await started.result(), await streamed.result()]
        assert [(result.status, result.reason) for result in results] == [("stopped", "budget")] * 6
        assert (token.stopped, token.reason) == (True, "budget")
        assert [len(model.requests) for model in models] == [1, 1, 1, 1]

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
@pytest.mark.parametrize("mode", ["now", "after_tools", "after_turn"])
def test_a_run_with_a_stopped_token_makes_no_request(backend: str, mode: Any) -> None:
    """Scenario 59: pre-cancelled. Its result is like that of any stopped run."""

    async def scenario() -> None:
        token = StopToken()
        token.stop(mode, reason="early")
        token.stop("after_turn", reason="late")
        model = Scripted("never")
        result = await Agent("a", model).run("Go", stop=token)
        assert (result.status, result.reason, model.requests) == ("stopped", "early", [])
        assert [message.role for message in result.messages] == ["user"]

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_a_token_passes_on_mode_and_grace(backend: str) -> None:
    """First gently, then urgently, then without patience."""

    async def scenario() -> None:
        token = StopToken()
        async with System() as system:
            agent = Agent("a", Scripted([call("work")], "no"), tools=[tool_of(lambda: shielded(60))])
            run = await system.start(agent, "Go", stop=token)
            await anyio.sleep(1)
            token.stop("after_tools", reason="first")
            await anyio.sleep(1)
            assert run.status == "running"
            token.stop("now", grace=1)
            result = await run.result()
            assert (result.outlived, run.status) == (("work:call_1",), "stopped")

    in_fresh_loop(scenario, backend=backend)


async def test_a_token_keeps_nothing_of_its_runs() -> None:
    """Neither those that have ended nor those that were never started."""
    token = StopToken()
    agent = Agent("a", Scripted(*["fine"] * 50))
    async with System() as system:
        runs = [await system.start(agent, "Go", stop=token) for _ in range(50)]
        for run in runs:
            await run.result()
        assert len(token._runs) == 0
    agent.stream("Go", stop=token)
    assert len(token._runs) == 0


@BACKENDS
def test_a_token_stops_from_any_thread(backend: str) -> None:
    """Also one that races with runs that begin and end."""

    async def scenario() -> None:
        token = StopToken()
        agent = Agent("a", Scripted(*[[call("work")]] * 100), tools=[tool_of(lambda: anyio.sleep(30))])
        async with System() as system:
            runs = [await system.start(agent, "Go", stop=token) for _ in range(20)]
            threads = [threading.Thread(target=token.stop) for _ in range(5)]
            for thread in threads:
                thread.start()
            runs += [await system.start(agent, "Go", stop=token) for _ in range(20)]
            with anyio.fail_after(5):
                assert {(await run.result()).status for run in runs} == {"stopped"}
            for thread in threads:
                thread.join()

    in_fresh_loop(scenario, backend=backend, virtual_time=False)


def test_what_is_no_token() -> None:
    """One clear line."""
    agent = Agent("a", Scripted())
    wrong: Any = "now"
    with pytest.raises(TypeError, match="stop= takes a StopToken"):
        agent.run("Go", stop=wrong)
    with pytest.raises(ValueError, match="'later'"):
        StopToken().stop("later")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="grace"):
        StopToken().stop(grace=-1)


# -- polled stops


@BACKENDS
@pytest.mark.parametrize("busy_with", ["model", "tool", "slot"])
def test_a_polled_stop(backend: str, busy_with: str) -> None:
    """Asked at once and every three seconds, whatever the run is busy with; the reason says so."""

    async def scenario() -> None:
        asked: list[float] = []
        began = anyio.current_time()

        async def stop_when(context: RunContext[str]) -> bool:
            assert context.deps == "deps"
            asked.append(anyio.current_time() - began)
            return len(asked) == 4

        async def reply(request: ModelRequest) -> str:
            await anyio.sleep(60)
            return "no"

        model = Scripted([call("work")]) if busy_with == "tool" else Scripted(reply, reply)
        agent = Agent("a", model, tools=[tool_of(lambda: anyio.sleep(60))], stop_when=stop_when, deps_type=str)
        async with System(max_running=1) as system:
            if busy_with == "slot":
                await system.start(agent.with_(stop_when=None), "first")
            run = await system.start(agent, "Go", deps="deps")
            result = await run.result()
        assert (result.status, result.reason) == ("stopped", "stop_when")
        assert asked == pytest.approx([0, 3, 6, 9], abs=0.01)

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_a_poll_is_never_asked_twice_at_once(backend: str) -> None:
    """A slow one is waited for; the seconds count from its answer. `run(stop_poll=)` goes before the agent's."""

    async def scenario() -> None:
        at_work = 0
        asked: list[float] = []
        began = anyio.current_time()

        async def stop_when(context: RunContext[None]) -> bool:
            nonlocal at_work
            at_work += 1
            assert at_work == 1
            asked.append(anyio.current_time() - began)
            await anyio.sleep(10)
            at_work -= 1
            return False

        agent = Agent("a", Scripted([call("work")], "fine"), tools=[tool_of(lambda: anyio.sleep(30))])
        result = await agent.run("Go", stop_when=stop_when, stop_poll=1)
        assert result.status == "completed"
        assert asked == pytest.approx([0, 11, 22])
        assert anyio.current_time() - began == pytest.approx(30)  # a poll under way is cancelled

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_a_poll_that_fails_is_asked_again(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once in a row, heard each time, and not fatal."""

    async def scenario() -> None:
        asked = 0

        async def stop_when(context: RunContext[None]) -> bool:
            nonlocal asked
            asked += 1
            if asked in (1, 2, 4):
                raise ConnectionError("no database")
            return asked == 5

        heard: list[Any] = []
        agent = Agent("a", Scripted([call("work")]), tools=[tool_of(lambda: anyio.sleep(60))], stop_when=stop_when)
        result = await agent.run("Go", on_event=heard.append)
        assert (result.reason, asked) == ("stop_when", 5)
        failures = [event.error for event in heard if event.type == "run.stop_poll_failed"]
        assert failures == ["ConnectionError: no database"] * 3

    with caplog.at_level(logging.WARNING, "greenroom"):
        in_fresh_loop(scenario, backend=backend)
    assert len([record for record in caplog.records if "stop_when" in record.message]) == 2


@BACKENDS
def test_a_poll_answers_true_or_false(backend: str) -> None:
    """What a store holds is neither: ``b"0"`` would stop the run."""

    async def scenario() -> None:
        async def stop_when(context: RunContext[None]) -> Any:
            return b"0"

        heard: list[Any] = []
        agent = Agent("a", Scripted([call("work")], "fine"), tools=[tool_of(lambda: anyio.sleep(5))])
        result = await agent.run("Go", stop_when=stop_when, stop_poll=2, on_event=heard.append)
        assert result.status == "completed"
        failures = {event.error for event in heard if event.type == "run.stop_poll_failed"}
        assert failures == {"TypeError: stop_when must return True or False, not b'0'"}

    in_fresh_loop(scenario, backend=backend)


async def test_a_run_that_is_not_polled_has_one_task() -> None:
    """And one that is has one more, until its end."""
    tasks: list[int] = []

    async def reply(request: ModelRequest) -> str:
        tasks.append(len(anyio.get_running_tasks()))
        return "fine"

    async def never(context: RunContext[None]) -> bool:
        return False

    agent = Agent("a", Scripted(reply, reply))
    before = len(anyio.get_running_tasks())
    await agent.run("Go")
    await agent.run("Go", stop_when=never)
    assert [count - before for count in tasks] == [1, 2]
    assert len(anyio.get_running_tasks()) == before


def test_what_cannot_be_polled() -> None:
    """One clear line, from the agent and from the run."""
    wrong: Any = lambda context: True  # noqa: E731
    with pytest.raises(TypeError, match="stop_when= takes a coroutine function"):
        Agent("a", Scripted(), stop_when=wrong)
    with pytest.raises(TypeError, match="stop_when= takes a coroutine function"):
        Agent("a", Scripted()).run("Go", stop_when=wrong)
    with pytest.raises(ValueError, match="above 0"):
        Agent("a", Scripted(), stop_poll=0)

    class Flag:
        async def __call__(self, context: RunContext[Any]) -> bool:
            return False

    Agent("a", Scripted(), stop_when=Flag())


@BACKENDS
def test_an_observer_that_hangs_is_named(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """The run's own code heeds everything: the log names who does not, and the result says the same."""

    async def hang(_event: Any) -> None:
        await anyio.sleep_forever()

    async def scenario() -> None:
        async with System(grace=0.3) as system:
            run = await system.start(Agent("a", Scripted("Hi")), "Go", on_event=hang)
            await anyio.sleep(0.1)
            result = await run.stop()
            assert (result.status, result.outlived) == ("stopped", (run.id,))
            (record,) = caplog.records
            name = f"{test_an_observer_that_hangs_is_named.__name__}.<locals>.hang"
            assert record.getMessage() == (
                f"run {run.id} has ended, but its observer {name} has not returned from run.stopped"
            )

    with caplog.at_level(logging.WARNING, "greenroom"):
        in_fresh_loop(scenario, backend=backend)
