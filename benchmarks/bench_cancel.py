"""Is a message ever lost, doubled, reordered or sent by a ghost, when sends and receives are cancelled at random?

Run: python benchmarks/bench_cancel.py [--backend asyncio|trio] [--rounds-of-chaos 1000] [--first-seed 0] [--json]

In a round eight senders send twelve numbered messages each through one mailbox with room for 1, 2 or 7, while another
task cancels whichever send or receive it draws, by its scope or natively by ``asyncio.Task.cancel``. Then every sender
sends one message more and nobody cancels: a mailbox that had lost a place or a wake-up would stand still there, and the
benchmark fails. Afterwards the books are compared:

- *lost*: the send returned, the message was never received.
- *doubled*: received more than once.
- *reordered*: received before an earlier message of the same sender.
- *ghosts*: the send was cancelled, the message was received all the same.

`actor` is the whole way: its senders `tell`, and the actor itself, which nobody cancels, handles the messages.
All choices are made by dice with the round's seed; on trio the order of tasks within a tick is trio's own choice.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import process_time
from typing import Any, NamedTuple, TypeAlias

import anyio
import trio
from anyio.lowlevel import checkpoint
from runner import Contender, main

from greenroom import Actor, Context
from greenroom.actors import ActorSystem
from greenroom.mailbox import Envelope, Mailbox

BOUNDS = (1, 2, 7)
#: Seconds after which a round in which nobody cancels any more has failed.
STANDSTILL = 10.0
SENDERS = 8
MESSAGES = 12
#: At most so many checkpoints between two receives, or two sends: each side has rounds in which it waits for the other.
RECEIVE_PACES = (0, 1, 6)
SEND_PACES = (2, 30)

#: The sender's number, and its message's.
Item: TypeAlias = tuple[int, int]
#: What cancels the operations that are under way.
UnderWay: TypeAlias = dict[object, Callable[[], object]]
#: Runs an operation that may be cancelled; its result in a tuple, or None if it was cancelled.
Attempt: TypeAlias = Callable[[Callable[[], Awaitable[Any]], UnderWay], Awaitable[tuple[Any] | None]]


class Box(NamedTuple):
    """The two ends of what is tried. Without `receive`, whoever owns it adds to `got`."""

    send: Callable[[Item], Coroutine[Any, Any, None]]
    receive: Callable[[], Awaitable[Item]] | None
    got: list[Item]


Kind: TypeAlias = Callable[[int, Callable[[], Awaitable[None]]], AbstractAsyncContextManager[Box]]


# -- what is tried


@asynccontextmanager
async def mailbox(bound: int, _pause: Callable[[], Awaitable[None]]) -> AsyncGenerator[Box]:
    box = Mailbox(bound)

    async def receive() -> Item:
        return (await box.receive()).message

    async def send(item: Item) -> None:
        await box.send(Envelope(item))

    yield Box(send, receive, [])


@asynccontextmanager
async def actor(bound: int, pause: Callable[[], Awaitable[None]]) -> AsyncGenerator[Box]:
    got: list[Item] = []

    class Collector(Actor):
        async def receive(self, message: Any, context: Context) -> None:
            got.append(message)
            await pause()

    async with ActorSystem() as system:
        ref = await system.spawn(Collector, capacity=bound)
        yield Box(ref.tell, None, got)


@asynccontextmanager
async def anyio_stream(bound: int, _pause: Callable[[], Awaitable[None]]) -> AsyncGenerator[Box]:
    send, receive = anyio.create_memory_object_stream[Item](bound)
    with send, receive:
        yield Box(send.send, receive.receive, [])


@asynccontextmanager
async def asyncio_queue(bound: int, _pause: Callable[[], Awaitable[None]]) -> AsyncGenerator[Box]:
    queue: asyncio.Queue[Item] = asyncio.Queue(bound)
    yield Box(queue.put, queue.get, [])


@asynccontextmanager
async def trio_channel(bound: int, _pause: Callable[[], Awaitable[None]]) -> AsyncGenerator[Box]:
    send, receive = trio.open_memory_channel[Item](bound)
    with send, receive:
        yield Box(send.send, receive.receive, [])


# -- how an operation is cancelled


async def by_scope(operation: Callable[[], Awaitable[Any]], under_way: UnderWay) -> tuple[Any] | None:
    with anyio.CancelScope() as scope:
        under_way[scope] = scope.cancel
        try:
            return (await operation(),)
        finally:
            del under_way[scope]
    return None


async def natively(operation: Callable[[], Awaitable[Any]], under_way: UnderWay) -> tuple[Any] | None:
    async def operate() -> Any:
        return await operation()

    task = asyncio.get_running_loop().create_task(operate())
    under_way[task] = task.cancel
    try:
        await asyncio.wait([task])
    finally:
        del under_way[task]
    return None if task.cancelled() else (task.result(),)


# -- a round


async def one_round(seed: int, kind: Kind, attempt: Attempt) -> Counter[str]:
    """Send, receive and cancel; returns what went wrong, and how many sends and receives were cancelled."""
    dice = random.Random(seed)
    receive_pace, send_pace = dice.choice(RECEIVE_PACES), dice.choice(SEND_PACES)

    async def pause(pace: int = receive_pace) -> None:
        for _ in range(dice.randint(0, pace)):
            await checkpoint()

    async with kind(BOUNDS[seed % len(BOUNDS)], pause) as box:
        told: set[Item] = set()
        refused: set[Item] = set()
        under_way: UnderWay = {}
        senders, receiving, cancelled = SENDERS, box.receive is not None, 0

        async def send_all(sender: int) -> None:
            nonlocal senders
            for number in range(MESSAGES):
                item = (sender, number)
                sent = await attempt(lambda item=item: box.send(item), under_way)
                (refused if sent is None else told).add(item)
                await pause(send_pace)
            senders -= 1

        async def receive_all(receive: Callable[[], Awaitable[Item]]) -> None:
            nonlocal cancelled, receiving
            while senders:
                received = await attempt(receive, under_way)
                if received is None:
                    cancelled += 1
                else:
                    box.got.append(received[0])
                await pause()
            receiving = False

        async with anyio.create_task_group() as group:
            for sender in range(SENDERS):
                group.start_soon(send_all, sender)
            if box.receive is not None:
                group.start_soon(receive_all, box.receive)
            while senders or receiving:
                await checkpoint()
                if under_way and (not senders or dice.random() < 0.5):
                    dice.choice(list(under_way.values()))()

        last = {(sender, MESSAGES) for sender in range(SENDERS)}
        with anyio.move_on_after(STANDSTILL):
            async with anyio.create_task_group() as group:
                for item in last:
                    group.start_soon(box.send, item)
                while not last <= set(box.got):
                    if box.receive is not None:
                        box.got.append(await box.receive())
                    else:
                        await checkpoint()

        assert last <= set(box.got), f"round {seed} stands still: {box.got}"
    return compare(told | last, refused, box.got) + Counter(cancelled=cancelled + len(refused))


def compare(told: set[Item], refused: set[Item], got: list[Item]) -> Counter[str]:
    """What the books of both sides say."""
    received = set(got)
    latest = dict.fromkeys(range(SENDERS), -1)
    reordered = 0
    for sender, number in got:
        reordered += number < latest[sender]
        latest[sender] = max(latest[sender], number)
    return Counter(
        lost=len(told - received),
        doubled=len(got) - len(received),
        reordered=reordered,
        ghosts=len(refused & received),
    )


def contender(name: str, kind: Kind, attempt: Attempt, *backends: str) -> Contender:
    async def measure(options: Mapping[str, int]) -> dict[str, float]:
        rounds, first = options["rounds_of_chaos"], options["first_seed"]
        total: Counter[str] = Counter()
        began = process_time()
        for seed in range(first, first + rounds):
            total.update(await one_round(seed, kind, attempt))
        spent = process_time() - began
        wrong = {each: float(total[each]) for each in ("lost", "doubled", "reordered", "ghosts")}
        return {
            "all that is wrong": sum(wrong.values()),
            **wrong,
            "cancelled": total["cancelled"],
            "CPU us per round": spent / rounds * 1e6,
        }

    return Contender(name, measure, backends or ("asyncio", "trio"))


CONTENDERS = [
    contender("mailbox, by scope", mailbox, by_scope),
    contender("mailbox, by Task.cancel", mailbox, natively, "asyncio"),
    contender("actor, by scope", actor, by_scope),
    contender("actor, by Task.cancel", actor, natively, "asyncio"),
    contender("anyio stream, by scope", anyio_stream, by_scope),
    contender("anyio stream, by Task.cancel", anyio_stream, natively, "asyncio"),
    contender("asyncio.Queue, by Task.cancel", asyncio_queue, natively, "asyncio"),
    contender("trio channel, by scope", trio_channel, by_scope, "trio"),
]

if __name__ == "__main__":
    main(
        "What goes wrong when sends and receives are cancelled at random",
        CONTENDERS,
        baseline="anyio stream, by scope",
        repeats=1,
        warm_up=0,
        rounds=1,
        worst=True,
        rounds_of_chaos=1_000,
        first_seed=0,
    )
