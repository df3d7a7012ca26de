"""How many messages are handled between a signal to an actor whose mailbox is full, and what the signal does?

Run: python benchmarks/bench_control.py [--backend asyncio|trio] [--waiting 10] [--json]

The actor is in the middle of a message. 1,024 more fill its mailbox, and `--waiting` senders wait for room. Then it is
asked to stop, or an actor dies that it monitors; then it goes on. The message at hand is finished; how many others are
handled before it stops, or hears of the death? The CPU time is that from the signal to its effect. A stream or queue
has one lane: a signal can only be sent after the data. The senders that wait are cancelled there in the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from time import process_time
from typing import Any

import anyio
import trio
from runner import Contender, main

from greenroom import Actor, ActorRef, Context, Down, MailboxClosed
from greenroom.actors import ActorSystem

BOUND = 1024
SIGNAL = "signal"


class Busy(Actor):
    """Finishes its first message when it may; counts the others until it hears of a death."""

    def __init__(self, gate: anyio.Event, handled: list[Any], watched: ActorRef[Any] | None = None) -> None:
        self.gate = gate
        self.handled = handled
        self.watched = watched

    async def started(self, context: Context) -> None:
        if self.watched is not None:
            context.monitor(self.watched)

    async def receive(self, message: Any, context: Context) -> None:
        if isinstance(message, Down):
            context.stop()
        elif self.gate.is_set():
            self.handled.append(message)
        else:
            await self.gate.wait()


class Idle(Actor):
    """Waits for a message that does not come."""

    async def receive(self, message: Any, context: Context) -> None:
        return None


def _figures(handled: list[Any], began: float) -> dict[str, float]:
    return {"data messages before it": len(handled), "CPU us": (process_time() - began) * 1e6}


async def stop(options: Mapping[str, int]) -> dict[str, float]:
    gate, handled = anyio.Event(), list[Any]()
    async with ActorSystem() as system, anyio.create_task_group() as group:
        ref = await system.spawn(lambda: Busy(gate, handled), capacity=BOUND)
        await _fill(ref, options["waiting"], group)
        began = process_time()
        ref.stop()
        gate.set()
        await ref.wait()
        return _figures(handled, began)


async def down(options: Mapping[str, int]) -> dict[str, float]:
    gate, handled = anyio.Event(), list[Any]()
    async with ActorSystem() as system, anyio.create_task_group() as group:
        watched = await system.spawn(Idle, restart="temporary")
        ref = await system.spawn(lambda: Busy(gate, handled, watched), capacity=BOUND)
        await _fill(ref, options["waiting"], group)
        began = process_time()
        await watched.kill()
        gate.set()
        await ref.wait()
        return _figures(handled, began)


async def _fill(ref: ActorRef[Any], waiting: int, group: anyio.abc.TaskGroup) -> None:
    """Fill the mailbox while the actor is in its first message, and let senders wait for room."""

    async def late() -> None:
        try:
            await ref.tell(None)
        except MailboxClosed:
            pass

    await ref.tell(None)
    await anyio.wait_all_tasks_blocked()
    for _ in range(BOUND):
        ref.tell_nowait(None)
    for _ in range(waiting):
        group.start_soon(late)
    await anyio.wait_all_tasks_blocked()
    found = ref.statistics()
    assert (found.depth, found.waiting_senders) == (BOUND, waiting), found


async def anyio_stream(options: Mapping[str, int]) -> dict[str, float]:
    send, receive = anyio.create_memory_object_stream[Any](BOUND)
    with send, receive:
        return await _one_lane(options["waiting"], send.send_nowait, send.send, receive.receive)


async def asyncio_queue(options: Mapping[str, int]) -> dict[str, float]:
    queue: asyncio.Queue[Any] = asyncio.Queue(BOUND)
    return await _one_lane(options["waiting"], queue.put_nowait, queue.put, queue.get)


async def trio_channel(options: Mapping[str, int]) -> dict[str, float]:
    send, receive = trio.open_memory_channel[Any](BOUND)
    with send, receive:
        return await _one_lane(options["waiting"], send.send_nowait, send.send, receive.receive)


async def _one_lane(
    waiting: int,
    put_nowait: Callable[[Any], None],
    put: Callable[[Any], Coroutine[Any, Any, None]],
    get: Callable[[], Awaitable[Any]],
) -> dict[str, float]:
    gate, over, handled = anyio.Event(), anyio.Event(), list[Any]()

    async def work() -> None:
        await get()
        await gate.wait()
        while (message := await get()) is not SIGNAL:
            handled.append(message)
        over.set()

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        put_nowait(None)
        await anyio.wait_all_tasks_blocked()
        for _ in range(BOUND):
            put_nowait(None)
        for _ in range(waiting):
            group.start_soon(put, None)
        await anyio.wait_all_tasks_blocked()
        began = process_time()
        group.start_soon(put, SIGNAL)
        gate.set()
        await over.wait()
        figures = _figures(handled, began)
        group.cancel_scope.cancel()
    return figures


CONTENDERS = [
    Contender("stop", stop),
    Contender("death of a monitored actor", down),
    Contender("anyio stream", anyio_stream),
    Contender("asyncio.Queue", asyncio_queue, ("asyncio",)),
    Contender("trio channel", trio_channel, ("trio",)),
]

if __name__ == "__main__":
    main(
        "Data messages handled before a control signal",
        CONTENDERS,
        baseline="anyio stream",
        worst=True,
        rounds=1,
        waiting=10,
    )
