"""What does it cost to start a supervised actor and have it end, against a bare task of the same anyio?

Run: python benchmarks/bench_spawn.py [--backend asyncio|trio] [--count 10000] [--in-flight 2000] [--json]

`--count` tasks in waves of `--in-flight`, which are alive at once; a wave begins when the last one has ended. More of
them cost more each, bare ones too: the cyclic garbage collector looks at all that live. So there are two questions:

- *quiet waves*, ``--in-flight 2000`` (the default): what a start and an end cost by themselves.
- *the burst*, ``--in-flight 10000``: all of the 10,000 at once, against 10,000 empty tasks in one task group.

Where each start is waited for, one is alive at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from time import process_time
from typing import Any

import anyio
import trio
from anyio.streams.memory import MemoryObjectReceiveStream
from runner import Contender, main

from greenroom import Actor, Context
from greenroom.actors import ActorSystem, Restart


class OneMessage(Actor):
    """Ends after its first message."""

    async def receive(self, message: Any, context: Context) -> None:
        context.stop()


class Brief(Actor):
    """Ends as soon as it has started. It has a `started`, so that whoever spawns it waits until it is ready."""

    async def started(self, context: Context) -> None:
        context.stop()


async def nothing() -> None:
    return None


def waves(options: Mapping[str, int]) -> Iterator[range]:
    """The tasks of each wave."""
    count, size = options["count"], options["in_flight"]
    return (range(begin, min(begin + size, count)) for begin in range(0, count, size))


def _each(began: float, options: Mapping[str, int]) -> dict[str, float]:
    return {"CPU us": (process_time() - began) / options["count"] * 1e6}


async def one_message(options: Mapping[str, int]) -> dict[str, float]:
    return await _one_message(options, "transient")


async def one_message_temporary(options: Mapping[str, int]) -> dict[str, float]:
    return await _one_message(options, "temporary")


async def _one_message(options: Mapping[str, int], restart: Restart) -> dict[str, float]:
    async with ActorSystem() as system:
        began = process_time()
        for wave in waves(options):
            refs = [await system.spawn(OneMessage, restart=restart) for _ in wave]
            for ref in refs:
                await ref.tell(None)
            for ref in refs:
                if ref.alive:
                    await ref.wait()
        return _each(began, options)


async def with_start(options: Mapping[str, int]) -> dict[str, float]:
    async with ActorSystem() as system:
        began = process_time()
        for _ in range(options["count"]):
            await system.spawn(Brief)
        return _each(began, options)


async def task(options: Mapping[str, int]) -> dict[str, float]:
    began = process_time()
    for wave in waves(options):
        async with anyio.create_task_group() as group:
            for _ in wave:
                group.start_soon(nothing)
    return _each(began, options)


async def task_with_stream(options: Mapping[str, int]) -> dict[str, float]:
    async def one(receive: MemoryObjectReceiveStream[None]) -> None:
        with receive:
            await receive.receive()

    began = process_time()
    for wave in waves(options):
        async with anyio.create_task_group() as group:
            for _ in wave:
                send, receive = anyio.create_memory_object_stream[None](16)
                group.start_soon(one, receive)
                send.send_nowait(None)
                send.close()
    return _each(began, options)


async def task_with_handshake(options: Mapping[str, int]) -> dict[str, float]:
    async def ready(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        task_status.started()

    began = process_time()
    for wave in waves(options):
        async with anyio.create_task_group() as group:
            for _ in wave:
                await group.start(ready)
    return _each(began, options)


async def asyncio_task(options: Mapping[str, int]) -> dict[str, float]:
    began = process_time()
    for wave in waves(options):
        async with asyncio.TaskGroup() as group:
            for _ in wave:
                group.create_task(nothing())
    return _each(began, options)


async def trio_task(options: Mapping[str, int]) -> dict[str, float]:
    began = process_time()
    for wave in waves(options):
        async with trio.open_nursery() as nursery:
            for _ in wave:
                nursery.start_soon(nothing)
    return _each(began, options)


CONTENDERS = [
    Contender("actor, one message", one_message),
    Contender("temporary actor, one message", one_message_temporary),
    Contender("actor, waits until started", with_start),
    Contender("tg.start_soon, nothing", task),
    Contender("tg.start_soon, one message", task_with_stream),
    Contender("tg.start, nothing", task_with_handshake),
    Contender("asyncio.TaskGroup, nothing", asyncio_task, ("asyncio",)),
    Contender("trio nursery, nothing", trio_task, ("trio",)),
]

if __name__ == "__main__":
    main(
        "CPU time of starting a child and of its end",
        CONTENDERS,
        baseline="tg.start_soon, nothing",
        erlang={"supervisor:start_child, one message": "supervised_spawn", "spawn_monitor, nothing": "spawn"},
        count=10_000,
        in_flight=2_000,
    )
