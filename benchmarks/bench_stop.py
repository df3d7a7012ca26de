"""What does it cost to stop a tree of actors in order, against cancelling the same nested task groups?

Run: python benchmarks/bench_stop.py [--backend asyncio|trio] [--supervisors 100] [--children 100] [--json]

An orderly stop asks one actor after the other, in reverse order of their start, and waits for each; a cancellation
reaches all at once and lets nobody finish.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter, process_time
from typing import Any

import anyio
from runner import Contender, main

from greenroom import Actor, ActorRef, ChildSpec, Context, Supervisor
from greenroom.actors import ActorSystem


class Idle(Actor):
    """Waits for a message that does not come."""

    async def receive(self, message: Any, context: Context) -> None:
        return None


class Tidy(Idle):
    """Cleans up when it stops."""

    async def stopping(self, context: Context, exit: Any) -> None:
        return None


def tree(options: Mapping[str, int], kind: type[Actor]) -> Supervisor:
    group = Supervisor([ChildSpec(f"child-{number}", kind) for number in range(options["children"])])
    return Supervisor([ChildSpec(f"group-{number}", group) for number in range(options["supervisors"])])


def _figures(cpu: float, wall: float, options: Mapping[str, int]) -> dict[str, float]:
    count = options["supervisors"] * (options["children"] + 1)
    return {"CPU us per actor": (process_time() - cpu) / count * 1e6, "wall ms": (perf_counter() - wall) * 1e3}


async def stop(options: Mapping[str, int]) -> dict[str, float]:
    return await _ended(options, Idle, lambda ref: ref.stop())


async def stop_tidy(options: Mapping[str, int]) -> dict[str, float]:
    return await _ended(options, Tidy, lambda ref: ref.stop())


async def kill(options: Mapping[str, int]) -> dict[str, float]:
    return await _ended(options, Idle, lambda ref: ref.kill())


async def _ended(options: Mapping[str, int], kind: type[Actor], end: Any) -> dict[str, float]:
    async with ActorSystem() as system:
        top: ActorRef[Any] = await system.spawn(tree(options, kind), name="top", restart="temporary")
        await anyio.wait_all_tasks_blocked()
        cpu, wall = process_time(), perf_counter()
        await end(top)
        return _figures(cpu, wall, options)


async def cancel(options: Mapping[str, int]) -> dict[str, float]:
    async def group() -> None:
        async with anyio.create_task_group() as children:
            for _ in range(options["children"]):
                children.start_soon(anyio.sleep_forever)

    async with anyio.create_task_group() as top:
        for _ in range(options["supervisors"]):
            top.start_soon(group)
        await anyio.wait_all_tasks_blocked()
        cpu, wall = process_time(), perf_counter()
        top.cancel_scope.cancel()
    return _figures(cpu, wall, options)


if __name__ == "__main__":
    main(
        "CPU time of the end of a tree of actors",
        [
            Contender("stop, in order", stop),
            Contender("stop, each cleans up", stop_tidy),
            Contender("kill", kill),
            Contender("cancel of nested groups", cancel),
        ],
        baseline="cancel of nested groups",
        repeats=3,
        supervisors=100,
        children=100,
    )
