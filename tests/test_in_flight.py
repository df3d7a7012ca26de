"""Many runs at once: what each of them holds while it waits, and what it leaves behind when all are stopped."""

from __future__ import annotations

import gc
from collections import Counter, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from greenroom import Agent, LimitExceeded, Limits, StopToken, System, tool
from greenroom.actors.timers import Timer
from greenroom.providers import ModelReply, ModelRequest, OpenAIChat, Provider, Scripted, call
from greenroom.providers.notices import heard_by
from greenroom.testing import run as in_fresh_loop

COUNT = 40
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Silent(Provider):
    """A model that does not answer."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        await anyio.sleep_forever()
        raise AssertionError


class Stubborn(Provider):
    """One that does not heed its cancellation."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(100)
        raise AssertionError


def types() -> Counter[type]:
    """The objects that the collector knows, by type. Collect first what is to be gone."""
    return Counter(map(type, gc.get_objects()))


@asynccontextmanager
async def silent_server() -> AsyncGenerator[str]:
    """The base URL of a server that takes every request and answers none."""

    async def take(stream: SocketStream) -> None:
        async with stream:
            async for _ in stream:
                pass

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, take)
        yield f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/v1"
        group.cancel_scope.cancel()


@BACKENDS
def test_runs_that_are_stopped_at_once_have_no_task_each_to_watch_over_it(backend: str) -> None:
    """Their graces are deadlines in one heap, with one task for all of them."""

    async def scenario() -> None:
        token = StopToken()
        async with System() as system:
            runs = [await system.start(Agent("a", Silent()), "Go", stop=token) for _ in range(COUNT)]
            await anyio.wait_all_tasks_blocked()
            before = len(anyio.get_running_tasks())
            token.stop()
            assert len(anyio.get_running_tasks()) <= before + 1
            assert {(await run.result()).status for run in runs} == {"stopped"}
            assert len(system.timers) == 0

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_of_many_that_do_not_heed_their_stop_each_is_given_up_in_time(backend: str) -> None:
    """Also the one that was given less time than those before it."""

    async def scenario() -> None:
        ends: list[tuple[int, float]] = []

        async def end(number: int, run: Any) -> None:
            assert (await run.result()).status == "stopped"
            ends.append((number, anyio.current_time() - began))

        async with System() as system, anyio.create_task_group() as group:
            runs = [await system.start(Agent("a", Stubborn()), "Go") for _ in range(5)]
            await anyio.wait_all_tasks_blocked()
            began = anyio.current_time()
            for number, run in enumerate(runs):
                run.stop(grace=10 - number)
                group.start_soon(end, number, run)
        assert [number for number, _ in ends] == [4, 3, 2, 1, 0]
        assert [took for _, took in ends] == pytest.approx([6, 7, 8, 9, 10], abs=0.5)

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_a_grace_that_was_shortened_is_over_once(backend: str) -> None:
    """Ten seconds for the turn, then one: after that one the run has the System's grace, whole."""

    async def scenario() -> None:
        async with System(grace=20) as system:
            run = await system.start(Agent("a", Stubborn()), "Go")
            await anyio.wait_all_tasks_blocked()
            began = anyio.current_time()
            run.stop("after_turn", grace=10)
            await run.stop("after_turn", grace=1)
            assert anyio.current_time() - began == pytest.approx(21, abs=0.5)

    in_fresh_loop(scenario, backend=backend)


@pytest.mark.anyio
async def test_calls_that_are_cut_off_leave_nothing_of_a_run_to_the_collector() -> None:
    """Neither the connection of each, nor the frames and the conversation behind it."""
    async with silent_server() as url, System() as system:
        agent = Agent("a", OpenAIChat("m", base_url=url, api_key="none"))
        first = await system.start(agent, "The first one")
        await anyio.wait_all_tasks_blocked()
        await first.stop()
        gc.collect()
        before = types()
        gc.disable()
        try:
            runs = [await system.start(agent, "Go") for _ in range(COUNT)]
            await anyio.wait_all_tasks_blocked()
            while runs:
                assert (await runs.pop().stop()).status == "stopped"
            await anyio.wait_all_tasks_blocked()
            left = types() - before
        finally:
            gc.enable()
    # A few cancelled timers stay in their heap; on asyncio also those of the loop, with the context that each was in.
    may_stay = {Timer, heard_by}
    assert [kind for kind in left if kind.__module__.startswith("greenroom") and kind not in may_stay] == []
    assert [kind for kind in left if kind.__name__ in ("coroutine", "frame", "traceback")] == []


async def cancelled(system: System) -> None:
    """Given up by whoever waited for it."""
    with anyio.move_on_after(1):
        await Agent("a", Silent()).run("Go", system=system)


async def limited(system: System) -> None:
    agent = Agent("a", Scripted([call("look")]), tools=[look], limits=Limits(turns=1))
    with pytest.raises(LimitExceeded):
        await (await system.start(agent, "Go")).result()


async def late(system: System) -> None:
    """Its tool was cut off by a timeout."""
    agent = Agent("a", Scripted([call("wait")], "Done."), tools=[wait])
    assert (await (await system.start(agent, "Go")).result()).output == "Done."


@tool
async def look() -> str:
    """Look."""
    return "seen"


@tool(timeout=1)
async def wait() -> str:
    """Wait."""
    await anyio.sleep_forever()
    raise AssertionError


@pytest.mark.parametrize(
    ("backend", "way"),
    [
        ("asyncio", limited),
        ("asyncio", late),
        ("trio", cancelled),  # on asyncio, anyio's task group itself leaves a circle for each task that was cancelled
        ("trio", limited),
        ("trio", late),
    ],
    ids=lambda each: each if isinstance(each, str) else each.__name__,
)
def test_a_run_that_does_not_end_well_leaves_nothing_to_the_collector(backend: str, way: Any) -> None:
    """An error is held by the run, and its traceback holds frames: none of them may hold the error, or the run."""

    async def scenario() -> None:
        async with System() as system:
            await way(system)
            gc.collect()
            gc.disable()
            try:
                for _ in range(COUNT):
                    await way(system)
                assert gc.collect() < COUNT  # less than one object for each
            finally:
                gc.enable()

    in_fresh_loop(scenario, backend=backend)


def test_a_waiting_run_holds_no_empty_queue() -> None:
    """An empty deque takes 0.7 KiB. On asyncio the events of the backend have some; on trio there is nothing else."""

    async def scenario() -> None:
        async with System() as system:
            agent = Agent("a", Silent())
            await system.start(agent, "The first one")
            await anyio.wait_all_tasks_blocked()
            gc.collect()
            before = types()[deque]
            runs = [await system.start(agent, "Go") for _ in range(COUNT)]
            await anyio.wait_all_tasks_blocked()
            assert types()[deque] - before < COUNT
            for run in runs:
                run.stop()

    in_fresh_loop(scenario, backend="trio")
