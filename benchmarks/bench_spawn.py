"""What does it cost to start a supervised actor and have it end, against a bare task of the same anyio?

Run: python benchmarks/bench_spawn.py [--backend asyncio|trio] [--count 2000] [--json]

`--count` tasks are alive at once, except where each start is waited for. More of them cost more each, bare ones too:
the cyclic garbage collector looks at all that live.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import process_time
from typing import Any

import anyio
from runner import Contender, main

from greenroom import Actor, Context
from greenroom.actors import ActorSystem


class OneMessage(Actor):
    """Ends after its first message."""

    async def receive(self, message: Any, context: Context) -> None:
        context.stop()


class Brief(Actor):
    """Ends as soon as it has started. It has a `started`, so that whoever spawns it waits until it is ready."""

    async def started(self, context: Context) -> None:
        context.stop()


def _each(began: float, count: int) -> dict[str, float]:
    return {"CPU us": (process_time() - began) / count * 1e6}


async def one_message(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]
    async with ActorSystem() as system:
        began = process_time()
        refs = [await system.spawn(OneMessage, restart="temporary") for _ in range(count)]
        for ref in refs:
            await ref.tell(None)
        for ref in refs:
            if ref.alive:
                await ref.wait()
        return _each(began, count)


async def with_start(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]
    async with ActorSystem() as system:
        began = process_time()
        for _ in range(count):
            await system.spawn(Brief, restart="temporary")
        return _each(began, count)


async def task(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]

    async def nothing() -> None:
        return None

    began = process_time()
    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(nothing)
    return _each(began, count)


async def task_with_stream(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]
    began = process_time()
    async with anyio.create_task_group() as group:
        for _ in range(count):
            send, receive = anyio.create_memory_object_stream[None](16)
            group.start_soon(receive.receive)
            send.send_nowait(None)
            send.close()
    return _each(began, count)


async def task_with_handshake(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]

    async def ready(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        task_status.started()

    began = process_time()
    async with anyio.create_task_group() as group:
        for _ in range(count):
            await group.start(ready)
    return _each(began, count)


if __name__ == "__main__":
    main(
        "CPU time of starting a child and of its end",
        [
            Contender("actor, one message", one_message),
            Contender("actor, waits until started", with_start),
            Contender("tg.start_soon, nothing", task),
            Contender("tg.start_soon, one message", task_with_stream),
            Contender("tg.start, nothing", task_with_handshake),
        ],
        baseline="tg.start_soon, nothing",
        count=2_000,
    )
