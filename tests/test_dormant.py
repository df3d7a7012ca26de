"""An actor that was never told anything has no task, and nobody can tell."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from greenroom.actors import (
    Actor,
    ActorDied,
    ActorRef,
    ActorStopped,
    ActorSystem,
    ChildSpec,
    Context,
    Exit,
    Supervisor,
    SupervisorRef,
)
from greenroom.mailbox import MailboxClosed

from .cast import settle

pytestmark = pytest.mark.anyio


class Echo(Actor):
    """Answers with what it is asked; ends itself when told ``end``, hangs when told ``hang``."""

    async def receive(self, message: Any, context: Context) -> Any:
        if message == "end":
            context.stop()
        if message == "hang":
            await anyio.sleep(math.inf)
        return message


class Starting(Echo):
    """Has a start of its own."""

    async def started(self, context: Context) -> None:
        return None


class Ending(Echo):
    """Has an end of its own."""

    async def stopping(self, context: Context, exit: Exit | None) -> None:
        return None


class Made(Echo):
    """Is made by code of its own."""

    def __init__(self) -> None:
        self.made = True


def tasks() -> set[int]:
    return {task.id for task in anyio.get_running_tasks()}


async def tasks_of(start: Any) -> int:
    """How many tasks a newly spawned actor has."""
    async with ActorSystem() as system:
        await settle()
        before = tasks()
        await system.spawn(start)
        await settle()
        return len(tasks() - before)


@asynccontextmanager
async def stage(**options: Any) -> AsyncIterator[tuple[ActorSystem, SupervisorRef, ActorRef[Any]]]:
    """A system with a supervisor and one dormant child called ``echo``."""
    async with ActorSystem() as system:
        top = await system.spawn(Supervisor([ChildSpec("echo", Echo, **options)]), name="top")
        ref = top.child("echo")
        assert ref is not None
        yield system, top, ref


@pytest.mark.parametrize(
    ("start", "count"),
    [(Echo, 0), (Starting, 1), (Ending, 1), (Made, 1), (lambda: Echo(), 1)],
    ids=["neither", "a start", "an end", "a constructor", "a function"],
)
async def test_only_an_actor_without_code_for_its_start_and_end_is_dormant(start: Any, count: int) -> None:
    assert await tasks_of(start) == count


async def test_it_is_listed_as_any_other() -> None:
    async with stage() as (system, top, ref):
        node = next(node for node in system.tree().children if node.name == "top")
        assert [(each.name, each.state) for each in node.children] == [("top/echo", "running")]
        assert top.count().active == 1
        assert ref.alive


async def test_the_first_message_gives_it_a_task() -> None:
    async with stage() as (_, _, ref):
        assert await ref.ask(1) == 1
        assert await ref.ask(2) == 2


async def test_a_stop_ends_it_and_leaves_its_supervisor_to_its_rules() -> None:
    async with stage(restart="permanent") as (_, top, ref):
        await ref.stop()
        assert ref.alive
        assert await ref.ask("again") == "again"
        assert await top.stop_child("echo")
        assert ref.exit is not None
        assert ref.exit.kind == "shutdown"


async def test_a_kill_is_a_kill() -> None:
    async with stage() as (_, top, ref):
        await ref.kill()
        assert await ref.ask("restarted") == "restarted"
        assert top.count().active == 1
    async with stage(restart="temporary") as (_, _, ref):
        await ref.kill()
        assert (await ref.wait()).kind == "killed"


async def test_it_hears_of_the_end_of_a_linked_actor() -> None:
    async with ActorSystem() as system:
        dormant = await system.spawn(Echo, name="dormant")

        class Linker(Actor):
            async def receive(self, message: Any, context: Context) -> None:
                context.link(dormant)

        linker = await system.spawn(Linker, name="linker")
        await linker.ask("link")
        await linker.stop()
        assert (await dormant.wait()).kind == "shutdown"


async def test_a_timer_wakes_it() -> None:
    async with ActorSystem() as system:
        ref = await system.spawn(Echo)
        system.send_after(0.0, ref, "end")
        assert (await ref.wait()).kind == "normal"


async def test_cancellation_from_above_ends_it() -> None:
    """There is no task that could be cancelled; who waits for it hears of the end all the same."""
    ends: list[object] = []
    with anyio.CancelScope() as scope:
        async with stage() as (_, _, ref), anyio.create_task_group() as group:

            async def watch() -> None:
                with anyio.CancelScope(shield=True):
                    ends.append((await ref.monitor().wait()).exit.kind)

            group.start_soon(watch)
            await settle()
            scope.cancel()
    assert ends == ["killed"]
    with pytest.raises(MailboxClosed):
        ref.tell_nowait("late")


async def test_messages_while_everything_is_cancelled_are_refused_and_never_crash() -> None:
    """A cleanup holds the supervisor's group open; the dormant sibling has ended before."""
    told: list[str] = []

    class Slow(Actor):
        async def receive(self, message: Any, context: Context) -> None:
            return None

        async def stopping(self, context: Context, exit: Exit | None) -> None:
            await settle()
            try:
                await dormant.ask("anybody there?")
            except (ActorDied, ActorStopped) as error:
                told.append(type(error).__name__)

    dormant: Any = None
    with anyio.CancelScope() as scope:
        async with ActorSystem() as system:
            top = await system.spawn(Supervisor([ChildSpec("slow", Slow), ChildSpec("echo", Echo)]), name="top")
            dormant = top.child("echo")
            await settle()
            scope.cancel()
    assert told == ["ActorDied"]
    assert [letter.reason for letter in system.dead_letters] == ["closed"]


async def test_an_ended_actor_is_freed_at_once() -> None:
    """Nothing about it is work for the cyclic collector."""
    async with ActorSystem() as system:
        gc.collect()
        gc.disable()
        try:
            ref = await system.spawn(Echo)
            await ref.tell("end")
            await ref.wait()
            cell = weakref.ref(ref._cell)
            del ref
            await settle()
            assert cell() is None
        finally:
            gc.enable()


async def test_a_permanent_actor_that_ends_itself_is_not_restarted_in_a_cancelled_system() -> None:
    made: list[int] = []

    class Once(Actor):
        def __init__(self) -> None:
            made.append(len(made))

        async def receive(self, message: Any, context: Context) -> None:
            scope.cancel()
            context.stop()

    with anyio.CancelScope() as scope:
        async with ActorSystem() as system:
            ref = await system.spawn(Once, restart="permanent")
            await ref.tell("end")
            await anyio.sleep(math.inf)
    assert made == [0]
