"""What does a crash cost until the next question is answered, against a question without one?

Run: python benchmarks/bench_restart.py [--backend asyncio|trio] [--count 5000] [--group 10] [--json]

An actor is told to crash; its supervisor restarts it; the next question is answered by the new incarnation, whose
address and mailbox are the old ones. A group restart stops and starts all `--group` children of a ``one_for_all``
supervisor; it is divided by nothing, so the figure is that of the whole group. By hand there is no supervisor: a loop
in one task catches the exception and begins again.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import process_time
from typing import Any

import anyio
from runner import Contender, main

from greenroom import Actor, ActorDied, ActorRef, ChildSpec, Context, Supervisor
from greenroom.actors import ActorSystem

CRASH = "crash"
#: More restarts than there will be.
ENDLESS = 1_000_000_000


class Crash(Exception):
    """What the actor fails with."""


class Fragile(Actor):
    """Answers with what it was asked; crashes when it is told to."""

    async def receive(self, message: Any, context: Context) -> Any:
        if message is CRASH:
            raise Crash
        return message


class Member(Fragile):
    """One of a group; says when it has started."""

    def __init__(self, starts: Starts) -> None:
        self.starts = starts

    async def started(self, context: Context) -> None:
        self.starts.add()


class Starts:
    """Counts the starts of a group, and wakes whoever waits for the last one."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.left = size
        self.event = anyio.Event()

    def add(self) -> None:
        self.left -= 1
        if not self.left:
            self.event.set()

    async def wait(self) -> None:
        await self.event.wait()
        self.left = self.size
        self.event = anyio.Event()


def _each(began: float, options: Mapping[str, int]) -> dict[str, float]:
    return {"CPU us": (process_time() - began) / options["count"] * 1e6}


async def ask(options: Mapping[str, int]) -> dict[str, float]:
    async with ActorSystem() as system:
        ref = await system.spawn(Fragile)
        began = process_time()
        for number in range(options["count"]):
            assert await ref.ask(number) == number
        return _each(began, options)


async def restart(options: Mapping[str, int]) -> dict[str, float]:
    async with ActorSystem(intensity=ENDLESS, period=1.0) as system:
        ref = await system.spawn(Fragile)
        began = process_time()
        for number in range(options["count"]):
            await ref.tell(CRASH)
            assert await ref.ask(number) == number
        figures = _each(began, options)
        assert system.tree().children[0].restarts == options["count"]
    return figures


async def restart_after_ask(options: Mapping[str, int]) -> dict[str, float]:
    async with ActorSystem(intensity=ENDLESS, period=1.0) as system:
        ref = await system.spawn(Fragile)
        began = process_time()
        for number in range(options["count"]):
            try:
                await ref.ask(CRASH)
            except ActorDied:
                assert await ref.ask(number) == number
        return _each(began, options)


async def restart_group(options: Mapping[str, int]) -> dict[str, float]:
    starts = Starts(options["group"])
    children = [ChildSpec(f"member-{number}", lambda: Member(starts)) for number in range(options["group"])]
    group = Supervisor(children, strategy="one_for_all", intensity=ENDLESS, period=1.0)
    async with ActorSystem() as system:
        await system.spawn(group, name="group")
        await starts.wait()
        first: ActorRef[Any] | None = system.actor("group/member-0")
        last: ActorRef[Any] | None = system.actor(f"group/member-{options['group'] - 1}")
        assert first is not None
        assert last is not None
        began = process_time()
        for number in range(options["count"]):
            await first.tell(CRASH)
            await starts.wait()
            assert await last.ask(number) == number
        return _each(began, options)


async def by_hand(options: Mapping[str, int]) -> dict[str, float]:
    class Question:
        def __init__(self, message: Any) -> None:
            self.message = message
            self.answer: Any = None
            self.answered = anyio.Event()

    send, receive = anyio.create_memory_object_stream[Question](1024)
    fragile = Fragile()
    context: Any = None

    async def serve() -> None:
        nonlocal fragile
        while True:
            try:
                async for question in receive:
                    question.answer = await fragile.receive(question.message, context)
                    question.answered.set()
                return
            except Crash:
                fragile = Fragile()

    with send, receive:
        async with anyio.create_task_group() as group:
            group.start_soon(serve)
            began = process_time()
            for number in range(options["count"]):
                await send.send(Question(CRASH))
                question = Question(number)
                await send.send(question)
                await question.answered.wait()
                assert question.answer == number
            figures = _each(began, options)
            send.close()
    return figures


CONTENDERS = [
    Contender("ask, no crash", ask),
    Contender("crash, restart, next answer", restart),
    Contender("crash of an ask, restart, next answer", restart_after_ask),
    Contender("crash, restart of the group, next answer", restart_group),
    Contender("crash, by hand on a stream, next answer", by_hand),
]

if __name__ == "__main__":
    main(
        "CPU time of a crash, its restart and the next answer",
        CONTENDERS,
        baseline="ask, no crash",
        erlang={"gen_server, crash, restart, next answer": "restart"},
        count=5_000,
        group=10,
    )
