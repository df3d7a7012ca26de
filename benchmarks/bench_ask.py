"""What does it cost to ask a supervised actor something, against the least that two tasks need to answer each other?

Run: python benchmarks/bench_ask.py [--backend asyncio|trio] [--count 10000] [--json]

The least is two wakes: a ping-pong over one `anyio.Event` in each direction, or over what the backend itself has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import process_time
from typing import Any

import anyio
import trio
import trio.testing
from runner import Contender, main

from greenroom import Actor, Context
from greenroom.actors import ActorSystem


class Echo(Actor):
    """Answers with what it was asked."""

    async def receive(self, message: Any, context: Context) -> Any:
        return message


async def ask(options: Mapping[str, int]) -> dict[str, float]:
    return await _ask(options["count"], None)


async def ask_with_timeout(options: Mapping[str, int]) -> dict[str, float]:
    return await _ask(options["count"], 60.0)


async def _ask(count: int, timeout: float | None) -> dict[str, float]:
    async with ActorSystem() as system:
        ref = await system.spawn(Echo)
        began = process_time()
        for number in range(count):
            assert await ref.ask(number, timeout=timeout) == number
        return {"CPU us": (process_time() - began) / count * 1e6}


async def events(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]
    ping, pong = anyio.Event(), anyio.Event()

    async def answer() -> None:
        nonlocal ping
        for _ in range(count):
            await ping.wait()
            ping = anyio.Event()
            pong.set()

    async with anyio.create_task_group() as group:
        group.start_soon(answer)
        await anyio.wait_all_tasks_blocked()
        began = process_time()
        for _ in range(count):
            ping.set()
            await pong.wait()
            pong = anyio.Event()
        return {"CPU us": (process_time() - began) / count * 1e6}


async def streams(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]
    ask, asked = anyio.create_memory_object_stream[int](1)
    reply, replied = anyio.create_memory_object_stream[int](1)

    async def answer() -> None:
        for _ in range(count):
            await reply.send(await asked.receive())

    with ask, asked, reply, replied:
        async with anyio.create_task_group() as group:
            group.start_soon(answer)
            began = process_time()
            for number in range(count):
                await ask.send(number)
                assert await replied.receive() == number
            return {"CPU us": (process_time() - began) / count * 1e6}


async def futures(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]
    loop = asyncio.get_running_loop()
    ping, pong = loop.create_future(), loop.create_future()

    async def answer() -> None:
        nonlocal ping
        for _ in range(count):
            number = await ping
            ping = loop.create_future()
            pong.set_result(number)

    async with asyncio.TaskGroup() as group:
        group.create_task(answer())
        await asyncio.sleep(0)
        began = process_time()
        for number in range(count):
            ping.set_result(number)
            assert await pong == number
            pong = loop.create_future()
        return {"CPU us": (process_time() - began) / count * 1e6}


async def trio_events(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]
    ping, pong = trio.Event(), trio.Event()

    async def answer() -> None:
        nonlocal ping
        for _ in range(count):
            await ping.wait()
            ping = trio.Event()
            pong.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        await trio.testing.wait_all_tasks_blocked()
        began = process_time()
        for _ in range(count):
            ping.set()
            await pong.wait()
            pong = trio.Event()
        return {"CPU us": (process_time() - began) / count * 1e6}


CONTENDERS = [
    Contender("ask", ask),
    Contender("ask with timeout", ask_with_timeout),
    Contender("anyio.Event ping-pong", events),
    Contender("two anyio streams", streams),
    Contender("asyncio.Future ping-pong", futures, ("asyncio",)),
    Contender("trio.Event ping-pong", trio_events, ("trio",)),
]

if __name__ == "__main__":
    main(
        "CPU time of one question and its answer",
        CONTENDERS,
        baseline="anyio.Event ping-pong",
        erlang={"gen_server:call": "ask"},
        count=10_000,
    )
