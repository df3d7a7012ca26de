"""What does a message cost when very many send to one actor whose mailbox is full, against a raw stream or queue?

Run: python benchmarks/bench_fan_in.py [--backend asyncio|trio] [--senders 1000] [--messages 200] [--json]

Every sender sends as fast as it may; there is room for 1,024, so nearly all of them wait in the queue for it. Both
sides are counted, and so are the senders' own tasks; only actors that send have been started before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import process_time
from typing import Any

import anyio
import trio
from runner import Contender, main

from greenroom import Actor, ActorRef, Context
from greenroom.actors import ActorSystem

BOUND = 1024


class Sink(Actor):
    """Counts what it is told, and says when that was all."""

    def __init__(self, expected: int, done: anyio.Event) -> None:
        self.left = expected
        self.done = done

    async def receive(self, message: Any, context: Context) -> None:
        self.left -= 1
        if not self.left:
            self.done.set()


class Sender(Actor):
    """Tells the sink as many messages as it is told to."""

    def __init__(self, sink: ActorRef[Any]) -> None:
        self.sink = sink

    async def receive(self, message: int, context: Context) -> None:
        for _ in range(message):
            await self.sink.tell(None)


def _each(began: float, options: Mapping[str, int]) -> dict[str, float]:
    return {"CPU us": (process_time() - began) / (options["senders"] * options["messages"]) * 1e6}


async def from_tasks(options: Mapping[str, int]) -> dict[str, float]:
    senders, messages, done = options["senders"], options["messages"], anyio.Event()
    async with ActorSystem() as system:
        sink = await system.spawn(lambda: Sink(senders * messages, done), capacity=BOUND)

        async def send() -> None:
            for _ in range(messages):
                await sink.tell(None)

        began = process_time()
        async with anyio.create_task_group() as group:
            for _ in range(senders):
                group.start_soon(send)
        await done.wait()
        return _each(began, options)


async def from_actors(options: Mapping[str, int]) -> dict[str, float]:
    senders, messages, done = options["senders"], options["messages"], anyio.Event()
    async with ActorSystem() as system:
        sink = await system.spawn(lambda: Sink(senders * messages, done), capacity=BOUND)
        actors = [await system.spawn(lambda: Sender(sink)) for _ in range(senders)]
        began = process_time()
        for actor in actors:
            await actor.tell(messages)
        await done.wait()
        return _each(began, options)


async def raw_stream(options: Mapping[str, int]) -> dict[str, float]:
    senders, messages = options["senders"], options["messages"]
    into, out = anyio.create_memory_object_stream[None](BOUND)

    async def send() -> None:
        for _ in range(messages):
            await into.send(None)

    began = process_time()
    with into, out:
        async with anyio.create_task_group() as group:
            for _ in range(senders):
                group.start_soon(send)
            for _ in range(senders * messages):
                await out.receive()
    return _each(began, options)


async def asyncio_queue(options: Mapping[str, int]) -> dict[str, float]:
    senders, messages = options["senders"], options["messages"]
    queue: asyncio.Queue[None] = asyncio.Queue(BOUND)

    async def send() -> None:
        for _ in range(messages):
            await queue.put(None)

    began = process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(senders):
            group.create_task(send())
        for _ in range(senders * messages):
            await queue.get()
    return _each(began, options)


async def trio_channel(options: Mapping[str, int]) -> dict[str, float]:
    senders, messages = options["senders"], options["messages"]
    into, out = trio.open_memory_channel[None](BOUND)

    async def send() -> None:
        for _ in range(messages):
            await into.send(None)

    began = process_time()
    with into, out:
        async with trio.open_nursery() as nursery:
            for _ in range(senders):
                nursery.start_soon(send)
            for _ in range(senders * messages):
                await out.receive()
    return _each(began, options)


CONTENDERS = [
    Contender("tell, from tasks", from_tasks),
    Contender("tell, from actors", from_actors),
    Contender("anyio stream", raw_stream),
    Contender("asyncio.Queue", asyncio_queue, ("asyncio",)),
    Contender("trio channel", trio_channel, ("trio",)),
]

if __name__ == "__main__":
    main(
        "CPU time of one message of very many senders to one actor, both sides",
        CONTENDERS,
        baseline="anyio stream",
        repeats=2,
        warm_up=0,
        erlang={"gen_server:cast, no bound": "fan_in"},
        senders=1_000,
        messages=200,
    )
