"""What does it cost to tell a supervised actor something, against sending through a raw stream or queue?

Run: python benchmarks/bench_tell.py [--backend asyncio|trio] [--count 100000] [--json]

One sender, one receiver, a bound of 1,024 messages. Both sides are counted, and so is handling each message (adding 1).
A raw stream yields at every send and at every receive; a tell yields at every 64th message. That is the difference.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from time import process_time
from typing import Any

import anyio
import trio
from runner import Contender, main

from greenroom import Actor, ActorRef, Context
from greenroom.actors import ActorSystem

BOUND = 1024


class Counter(Actor):
    """Counts what it is told; answers the count."""

    def __init__(self) -> None:
        self.count = 0

    async def receive(self, message: Any, context: Context) -> int:
        self.count += 1
        return self.count


class Forwarder(Actor):
    """Tells another actor as many messages as it is asked to."""

    def __init__(self, target: ActorRef[Any]) -> None:
        self.target = target

    async def receive(self, message: int, context: Context) -> None:
        for _ in range(message):
            await self.target.tell(None)


def _each(began: float, count: int) -> dict[str, float]:
    return {"CPU us": (process_time() - began) / count * 1e6}


async def tell(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]
    async with ActorSystem() as system:
        ref = await system.spawn(Counter, capacity=BOUND)
        began = process_time()
        for _ in range(count):
            await ref.tell(None)
        assert await ref.ask(None) == count + 1
        return _each(began, count)


async def tell_from_actor(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]
    async with ActorSystem() as system:
        ref = await system.spawn(Counter, capacity=BOUND)
        sender = await system.spawn(lambda: Forwarder(ref))
        began = process_time()
        await sender.ask(count)
        assert await ref.ask(None) == count + 1
        return _each(began, count)


async def tell_nowait(options: Mapping[str, int]) -> dict[str, float]:
    count = math.ceil(options["count"] / BOUND) * BOUND
    async with ActorSystem() as system:
        ref = await system.spawn(Counter, capacity=BOUND)
        began = process_time()
        for sent in range(1, count + 1):
            ref.tell_nowait(None)
            if not sent % BOUND:
                while ref.statistics().depth:
                    await anyio.lowlevel.checkpoint()
        return _each(began, count)


async def raw_stream(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]
    send, receive = anyio.create_memory_object_stream[None](BOUND)
    total = 0

    async def consume() -> None:
        nonlocal total
        async with receive:
            async for _ in receive:
                total += 1

    began = process_time()
    async with anyio.create_task_group() as group:
        group.start_soon(consume)
        async with send:
            for _ in range(count):
                await send.send(None)
    assert total == count
    return _each(began, count)


async def asyncio_queue(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]
    queue: asyncio.Queue[None] = asyncio.Queue(BOUND)
    total = 0

    async def consume() -> None:
        nonlocal total
        while total < count:
            await queue.get()
            total += 1

    began = process_time()
    async with asyncio.TaskGroup() as group:
        group.create_task(consume())
        for _ in range(count):
            await queue.put(None)
    return _each(began, count)


async def trio_channel(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]
    send, receive = trio.open_memory_channel[None](BOUND)
    total = 0

    async def consume() -> None:
        nonlocal total
        async for _ in receive:
            total += 1

    began = process_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        async with send:
            for _ in range(count):
                await send.send(None)
    assert total == count
    return _each(began, count)


CONTENDERS = [
    Contender("tell", tell),
    Contender("tell, from an actor", tell_from_actor),
    Contender("tell_nowait", tell_nowait),
    Contender("anyio stream", raw_stream),
    Contender("asyncio.Queue", asyncio_queue, ("asyncio",)),
    Contender("trio channel", trio_channel, ("trio",)),
]

if __name__ == "__main__":
    main(
        "CPU time of one message to an actor, both sides",
        CONTENDERS,
        baseline="anyio stream",
        erlang={"gen_server:cast": "tell"},
        count=50_000,
    )
