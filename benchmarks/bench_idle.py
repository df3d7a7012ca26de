"""How much memory does an idle supervised actor take, or a waiting run, against a bare task that waits on a stream?

Run: python benchmarks/bench_idle.py [--backend asyncio|trio] [--count 100000] [--json]

Resident memory of the process with all of them parked, less that before, divided by their number. Linux only (/proc).
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Mapping
from pathlib import Path
from time import process_time
from typing import Any

import anyio
import trio
from runner import Contender, main

from greenroom import Actor, Agent, Context, System
from greenroom.actors import ActorSystem
from greenroom.providers import ModelReply, ModelRequest, Provider


class Idle(Actor):
    """Waits for a message that does not come."""

    async def receive(self, message: Any, context: Context) -> None:
        return None


class Silent(Provider):
    """A model that does not answer. It has no connection: what that takes is the transport's."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        await anyio.sleep_forever()
        raise AssertionError


def resident() -> int:
    """Bytes of this process in memory, garbage excluded."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _each(before: int, began: float, count: int) -> dict[str, float]:
    spent = process_time() - began
    return {"KiB": (resident() - before) / count / 1024, "start, CPU us": spent / count * 1e6}


async def actor(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]
    async with ActorSystem() as system:
        before, began = resident(), process_time()
        refs = [await system.spawn(Idle, name=f"idle-{number}") for number in range(count)]
        for ref in refs:
            await ref.tell(None)  # one that was never told anything has no task yet
        await anyio.wait_all_tasks_blocked()
        figures = _each(before, began, count)
        for ref in refs:
            ref.kill()  # the quick way: what an orderly stop costs is another question
    return figures


async def dormant(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]
    async with ActorSystem() as system:
        before, began = resident(), process_time()
        for number in range(count):
            await system.spawn(Idle, name=f"idle-{number}")
        await anyio.wait_all_tasks_blocked()
        figures = _each(before, began, count)
        for node in system.tree().children:
            ref = system.actor(node.name)
            assert ref is not None
            ref.kill()
    return figures


async def run(options: Mapping[str, int]) -> dict[str, float]:
    count = min(options["count"], 4_000)  # a System wants a descriptor for each
    agent = Agent("idle", Silent())
    async with System(max_running=count) as system:
        before, began = resident(), process_time()
        runs = [await system.start(agent, "Say something.") for _ in range(count)]
        await anyio.wait_all_tasks_blocked()
        figures = _each(before, began, count)
        for each in runs:
            each.stop()
    return figures


async def task_and_stream(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]
    before, began = resident(), process_time()
    ends: list[Any] = []
    async with anyio.create_task_group() as group:
        for _ in range(count):
            send, receive = anyio.create_memory_object_stream[None](1024)
            ends += (send, receive)
            group.start_soon(receive.receive)
        await anyio.wait_all_tasks_blocked()
        figures = _each(before, began, count)
        group.cancel_scope.cancel()
    for end in ends:
        end.close()
    return figures


async def task(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]
    before, began = resident(), process_time()
    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(anyio.sleep_forever)
        await anyio.wait_all_tasks_blocked()
        figures = _each(before, began, count)
        group.cancel_scope.cancel()
    return figures


async def asyncio_task_and_queue(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]
    before, began = resident(), process_time()
    tasks = [asyncio.create_task(asyncio.Queue[None](1024).get()) for _ in range(count)]
    await anyio.wait_all_tasks_blocked()
    figures = _each(before, began, count)
    for each in tasks:
        each.cancel()
    await asyncio.wait(tasks)
    return figures


async def trio_task_and_channel(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]
    before, began = resident(), process_time()
    ends: list[Any] = []
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            send, receive = trio.open_memory_channel[None](1024)
            ends += (send, receive)
            nursery.start_soon(receive.receive)
        await anyio.wait_all_tasks_blocked()
        figures = _each(before, began, count)
        nursery.cancel_scope.cancel()
    return figures


CONTENDERS = [
    Contender("actor", actor),
    Contender("agent run, waiting for its model", run),
    Contender("task and anyio stream", task_and_stream),
    Contender("task", task),
    Contender("task and asyncio.Queue", asyncio_task_and_queue, ("asyncio",)),
    Contender("task and trio channel", trio_task_and_channel, ("trio",)),
]

if __name__ == "__main__":
    main(
        "Memory of one idle actor or waiting run",
        CONTENDERS,
        baseline="task and anyio stream",
        repeats=1,
        warm_up=0,
        erlang={"gen_server": "idle"},
        count=20_000,
    )
