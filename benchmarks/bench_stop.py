"""What does it cost to stop a tree of actors in order, against cancelling the same nested tasks?

Run: python benchmarks/bench_stop.py [--backend asyncio|trio] [--supervisors 100] [--children 100] [--json]

An orderly stop asks one actor after the other, in reverse order of their start, and waits for each; a cancellation
reaches all at once and lets nobody finish. Where it says *cleanup*, every actor or task has one, and a repeat in which
one of them did not run fails: a `stopping` there, a ``finally`` here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter, process_time
from typing import Any

import anyio
import trio
from runner import Contender, main

from greenroom import Actor, ActorRef, ChildSpec, Context, Supervisor
from greenroom.actors import ActorSystem


class Idle(Actor):
    """Waits for a message that does not come."""

    async def receive(self, message: Any, context: Context) -> None:
        return None


class Tidy(Idle):
    """Cleans up when it stops."""

    def __init__(self, cleanups: list[None]) -> None:
        self.cleanups = cleanups

    async def stopping(self, context: Context, exit: Any) -> None:
        self.cleanups.append(None)


def tree(options: Mapping[str, int], make: Callable[[], Actor]) -> Supervisor:
    group = Supervisor([ChildSpec(f"child-{number}", make) for number in range(options["children"])])
    return Supervisor([ChildSpec(f"group-{number}", group) for number in range(options["supervisors"])])


def _figures(cpu: float, wall: float, options: Mapping[str, int]) -> dict[str, float]:
    count = options["supervisors"] * (options["children"] + 1)
    return {"CPU us per actor": (process_time() - cpu) / count * 1e6, "wall ms": (perf_counter() - wall) * 1e3}


def _check(cleanups: list[None], options: Mapping[str, int]) -> None:
    assert len(cleanups) == options["supervisors"] * options["children"], f"{len(cleanups)} cleanups"


async def stop(options: Mapping[str, int]) -> dict[str, float]:
    return await _ended(options, Idle, lambda ref: ref.stop())


async def stop_tidy(options: Mapping[str, int]) -> dict[str, float]:
    cleanups: list[None] = []
    figures = await _ended(options, lambda: Tidy(cleanups), lambda ref: ref.stop())
    _check(cleanups, options)
    return figures


async def kill(options: Mapping[str, int]) -> dict[str, float]:
    return await _ended(options, Idle, lambda ref: ref.kill())


async def _ended(options: Mapping[str, int], make: Callable[[], Actor], end: Any) -> dict[str, float]:
    async with ActorSystem() as system:
        top: ActorRef[Any] = await system.spawn(tree(options, make), name="top", restart="temporary")
        await anyio.wait_all_tasks_blocked()
        cpu, wall = process_time(), perf_counter()
        await end(top)
        return _figures(cpu, wall, options)


async def cancel(options: Mapping[str, int]) -> dict[str, float]:
    return await _cancelled(options, anyio.sleep_forever)


async def cancel_tidy(options: Mapping[str, int]) -> dict[str, float]:
    cleanups: list[None] = []
    figures = await _cancelled(options, lambda: tidy(anyio.sleep_forever, cleanups))
    _check(cleanups, options)
    return figures


async def tidy(wait: Callable[[], Awaitable[Any]], cleanups: list[None]) -> None:
    """A bare task that cleans up."""
    try:
        await wait()
    finally:
        cleanups.append(None)


async def _cancelled(options: Mapping[str, int], live: Callable[[], Awaitable[None]]) -> dict[str, float]:
    async def group() -> None:
        async with anyio.create_task_group() as children:
            for _ in range(options["children"]):
                children.start_soon(live)

    async with anyio.create_task_group() as top:
        for _ in range(options["supervisors"]):
            top.start_soon(group)
        await anyio.wait_all_tasks_blocked()
        cpu, wall = process_time(), perf_counter()
        top.cancel_scope.cancel()
    return _figures(cpu, wall, options)


async def asyncio_cancel_tidy(options: Mapping[str, int]) -> dict[str, float]:
    cleanups: list[None] = []
    never: asyncio.Event = asyncio.Event()

    async def group() -> None:
        async with asyncio.TaskGroup() as children:
            for _ in range(options["children"]):
                children.create_task(tidy(never.wait, cleanups))

    async def groups() -> None:
        async with asyncio.TaskGroup() as children:
            for _ in range(options["supervisors"]):
                children.create_task(group())

    top = asyncio.create_task(groups())
    await anyio.wait_all_tasks_blocked()
    cpu, wall = process_time(), perf_counter()
    top.cancel()
    await asyncio.wait([top])
    figures = _figures(cpu, wall, options)
    _check(cleanups, options)
    return figures


async def trio_cancel_tidy(options: Mapping[str, int]) -> dict[str, float]:
    cleanups: list[None] = []

    async def group() -> None:
        async with trio.open_nursery() as children:
            for _ in range(options["children"]):
                children.start_soon(tidy, trio.sleep_forever, cleanups)

    async with trio.open_nursery() as top:
        for _ in range(options["supervisors"]):
            top.start_soon(group)
        await anyio.wait_all_tasks_blocked()
        cpu, wall = process_time(), perf_counter()
        top.cancel_scope.cancel()
    figures = _figures(cpu, wall, options)
    _check(cleanups, options)
    return figures


CONTENDERS = [
    Contender("stop", stop),
    Contender("stop, each a cleanup", stop_tidy),
    Contender("kill", kill),
    Contender("nested cancel", cancel),
    Contender("nested cancel, each a cleanup", cancel_tidy),
    Contender("asyncio.TaskGroups, each a cleanup", asyncio_cancel_tidy, ("asyncio",)),
    Contender("trio nurseries, each a cleanup", trio_cancel_tidy, ("trio",)),
]

if __name__ == "__main__":
    main(
        "CPU time of the end of a tree of actors",
        CONTENDERS,
        baseline="nested cancel, each a cleanup",
        repeats=3,
        erlang={"supervisors' shutdown, each a cleanup": "stop"},
        supervisors=100,
        children=100,
    )
