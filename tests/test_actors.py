"""One actor: messages in, answers out, and every way in which it can end."""

from __future__ import annotations

import gc
import logging
import math
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from greenroom.actors import (
    Actor,
    ActorDied,
    ActorError,
    ActorRef,
    ActorStopped,
    ActorSystem,
    AskTimeout,
    Context,
    Down,
    Exit,
    StartFailed,
    StrayCancellation,
    WouldDeadlock,
)
from greenroom.mailbox import MailboxClosed, MailboxFull

pytestmark = pytest.mark.anyio


class Boom(Exception):
    """What our actors crash with."""


async def settle() -> None:
    """Let everybody run until all wait. Nothing here depends on time, so a number of rounds is enough, and quick."""
    for _ in range(50):
        await checkpoint()


class Scripted(Actor):
    """Does what it is told: a message is a function of the context, or an exception to raise."""

    def __init__(self) -> None:
        self.story: list[Any] = []

    async def receive(self, message: Any, context: Context) -> Any:
        """Do it."""
        if isinstance(message, BaseException):
            raise message
        if callable(message):
            return await message(context)
        self.story.append(message)
        return list(self.story)


class Gate:
    """A place where a handler waits until the test lets it go on."""

    def __init__(self) -> None:
        self.entered = anyio.Event()
        self.open = anyio.Event()

    async def __call__(self, _context: Context) -> str:
        """Wait here."""
        self.entered.set()
        await self.open.wait()
        return "through"


class Log(Actor):
    """Writes down its callbacks, and can be told to fail in them."""

    lines: list[str]
    fail_in: str | None = None
    slow_stopping = False

    async def started(self, context: Context) -> None:
        """Prepare."""
        self.lines.append(f"started {context.restarts}")
        if self.fail_in == "started":
            raise Boom("started")

    async def receive(self, message: Any, context: Context) -> Any:
        """Handle a script's message."""
        if message == "finish":
            context.stop()
            return None
        if message == "sleep":
            await anyio.sleep(math.inf)
        raise message

    async def stopping(self, _context: Context, exit: Exit | None) -> None:
        """Clean up."""
        self.lines.append(f"stopping {exit}")
        if self.slow_stopping:
            await anyio.sleep(math.inf)
        await checkpoint()
        self.lines.append("cleaned up")
        if self.fail_in == "stopping":
            raise Boom("stopping")


def log_actor(**attributes: Any) -> tuple[type[Log], list[str]]:
    """A Log class of its own, and the lines its actors will write."""
    lines: list[str] = []
    return type("Log", (Log,), {"lines": lines, **attributes}), lines


@asynccontextmanager
async def actor(
    make: Callable[[], Actor] = Scripted, **options: Any
) -> AsyncIterator[tuple[ActorSystem, ActorRef[Any]]]:
    """A system with one actor called "it"."""
    async with ActorSystem(intensity=100) as system:
        yield system, await system.spawn(make, name="it", **options)


def letters(system: ActorSystem) -> list[tuple[Any, str]]:
    """The dead letters: message and reason."""
    return [(letter.message, letter.reason) for letter in system.dead_letters]


class TestMessages:
    """Tell and ask."""

    async def test_tell_and_ask(self) -> None:
        """What was told is handled in order; what receive returns answers an ask."""
        async with actor() as (_, it):
            await it.tell("a")
            it.tell_nowait("b")
            assert await it.ask("c") == ["a", "b", "c"]

    async def test_one_message_at_a_time(self) -> None:
        """Scenario 13: a handler that awaits in the middle never overlaps with itself and sees its own last write."""

        class Account(Actor):
            balance = 0

            async def receive(self, _message: Any, _context: Context) -> int:
                before = self.balance
                await checkpoint()
                self.balance = before + 1
                return self.balance

        async with actor(Account) as (_, it), anyio.create_task_group() as group:
            for _ in range(1000):
                group.start_soon(it.tell, "deposit")
            await settle()
            assert await it.ask("deposit") == 1001

    async def test_the_sender_is_known(self) -> None:
        """The context names the actor that sent the message at hand."""

        async def who(context: Context) -> str | None:
            return context.sender

        async def pass_on(_context: Context) -> str | None:
            return await other.ask(who)

        async with actor() as (system, it):
            other = await system.spawn(Scripted)
            assert await it.ask(pass_on) == "it"
            assert await it.ask(who) is None

    async def test_a_full_mailbox_refuses_who_may_not_wait(self) -> None:
        """`tell_nowait` raises; `fail` makes `tell` and `ask` raise too."""
        gate = Gate()
        async with actor(capacity=1, overflow="fail") as (_, it):
            it.tell_nowait(gate)
            await gate.entered.wait()
            await it.tell("waiting")
            for send in (it.tell, it.ask):
                with pytest.raises(MailboxFull, match="'it' is full"):
                    await send("too many")
            with pytest.raises(MailboxFull):
                it.tell_nowait("too many")
            gate.open.set()

    async def test_a_dropped_question_is_answered(self) -> None:
        """Scenario 2: the asker of a question that the overflow policy dropped is told, and it is a dead letter."""
        gate = Gate()
        async with actor(capacity=1, overflow="drop_newest") as (system, it):
            it.tell_nowait(gate)
            await gate.entered.wait()
            it.tell_nowait("waiting")
            with pytest.raises(MailboxFull):
                await it.ask("dropped")
            assert letters(system) == [("dropped", "dropped")]
            gate.open.set()

    async def test_statistics_name_and_state(self) -> None:
        """A ref tells what its mailbox holds and whether its actor lives."""
        gate = Gate()
        async with actor(capacity=5) as (_, it):
            it.tell_nowait(gate)
            await gate.entered.wait()
            it.tell_nowait("waiting")
            assert (it.name, it.alive, it.exit, it.statistics().depth) == ("it", True, None, 1)
            assert repr(it) == "<ActorRef 'it' running>"
            gate.open.set()
        assert (it.alive, str(it.exit), it.statistics().closed) == (False, "shutdown (shutdown)", True)


class TestAskEnds:
    """Scenario 12: request and reply have an end."""

    async def test_the_callee_crashes(self) -> None:
        """The asker gets ActorDied with the crash as its cause."""
        async with actor() as (_, it):
            with pytest.raises(ActorDied, match="crashed: Boom: bang") as caught:
                await it.ask(Boom("bang"))
            assert isinstance(caught.value.__cause__, Boom)
            assert caught.value.exit.kind == "crashed"

    async def test_the_callee_is_stopped(self) -> None:
        """Those whose question still waits in the mailbox get ActorStopped."""
        gate = Gate()
        async with actor() as (_, it), anyio.create_task_group() as group:
            it.tell_nowait(gate)
            await gate.entered.wait()
            group.start_soon(self._expect, ActorStopped, it)
            await settle()
            it.stop(reason="enough")
            gate.open.set()

    async def test_the_callee_is_killed(self) -> None:
        """The question at hand and those that wait get ActorDied."""
        gate = Gate()
        async with actor(restart="temporary") as (_, it), anyio.create_task_group() as group:
            group.start_soon(self._expect, ActorDied, it, gate)
            await gate.entered.wait()
            group.start_soon(self._expect, ActorDied, it)
            await settle()
            await it.kill()

    @staticmethod
    async def _expect(error: type[ActorError], it: ActorRef[Any], message: Any = "question") -> None:
        with pytest.raises(error):
            await it.ask(message)

    async def test_the_callee_has_ended(self) -> None:
        """A question to a closed address fails at once and is a dead letter."""
        async with actor() as (system, it):
            await it.stop()
            with pytest.raises(ActorStopped, match="has ended"):
                await it.ask("late")
            assert letters(system) == [("late", "closed")]

    async def test_the_callee_died_before(self) -> None:
        """Asked after a crash, it still tells the cause."""
        async with actor(restart="temporary") as (_, it):
            await it.tell(Boom("long ago"))
            await it.wait()
            with pytest.raises(ActorDied) as caught:
                await it.ask("late")
            assert isinstance(caught.value.__cause__, Boom)

    async def test_a_late_reply_is_a_dead_letter(self) -> None:
        """After a timeout the answer goes to the dead letters, and never to a later ask."""
        gate = Gate()
        async with actor() as (system, it):
            with pytest.raises(AskTimeout, match=r"'it' did not answer within 0\.001 s"):
                await it.ask(gate, timeout=0.001)
            gate.open.set()
            assert await it.ask("next") == ["next"]
            (letter,) = system.dead_letters
            assert (letter.message, letter.reason, letter.sender) == ("through", "late", "it")

    async def test_the_timeout_covers_the_wait_for_room(self) -> None:
        """A question that could not even be sent times out as well, and is never handled."""
        gate = Gate()
        async with actor(capacity=1) as (_, it):
            it.tell_nowait(gate)
            await gate.entered.wait()
            it.tell_nowait("first")
            with pytest.raises(TimeoutError):
                await it.ask("never", timeout=0.001)
            gate.open.set()
            assert await it.ask("next") == ["first", "next"]

    async def test_an_answer_in_time(self) -> None:
        """A generous timeout changes nothing."""
        async with actor() as (_, it):
            assert await it.ask("quick", timeout=60) == ["quick"]

    async def test_asking_oneself(self) -> None:
        """An actor that would wait for itself is told so instead."""

        async def ask_myself(context: Context) -> Any:
            await context.ref.ask("me")

        async with actor() as (_, it):
            with pytest.raises(ActorDied) as caught:
                await it.ask(ask_myself)
            assert isinstance(caught.value.__cause__, WouldDeadlock)


class TestCrash:
    """What a crash takes with it, and what it leaves."""

    async def test_address_and_mailbox_outlive_a_crash(self) -> None:
        """Scenario 14: the rest is handled by a new incarnation; only the poison message is gone, with its cause."""
        gate = Gate()
        async with actor() as (system, it):
            for message in ("lost state", gate, Boom("poison"), "a"):
                it.tell_nowait(message)
            gate.open.set()
            assert await it.ask("b") == ["a", "b"]
            (letter,) = system.dead_letters
            assert (letter.reason, letter.cause, letter.recipient) == ("crashed", "crashed: Boom: poison", "it")

    async def test_an_asked_poison_message_is_no_dead_letter(self) -> None:
        """Its asker got the cause."""
        async with actor() as (system, it):
            with pytest.raises(ActorDied):
                await it.ask(Boom("poison"))
            assert letters(system) == []

    async def test_a_mailbox_full_of_poison_lets_others_run(self) -> None:
        """An actor that crashes over and over yields at every 64th time, however many restarts are allowed."""
        async with ActorSystem(intensity=1000) as system:
            it = await system.spawn(Scripted)
            for _ in range(1000):
                it.tell_nowait(Boom("again"))
            for _ in range(5):
                await checkpoint()
            assert it.statistics().depth >= 1000 - 5 * 64

    async def test_a_stray_cancelled_exception_is_a_crash(self) -> None:
        """Scenario 34: raised though nobody cancelled, it neither cancels siblings nor passes for a kill."""
        async with actor(restart="temporary") as (system, it):
            sibling = await system.spawn(Scripted)
            monitor = it.monitor()
            with pytest.raises(ActorDied) as caught:
                await it.ask(raise_cancelled)
            assert isinstance(caught.value.__cause__, StrayCancellation)
            assert (await monitor.wait()).exit.kind == "crashed"
            assert await sibling.ask("alive") == ["alive"]

    async def test_after_a_stray_cancelled_exception_a_new_task_goes_on(self) -> None:
        """It is restarted like any crash, and the mailbox is kept."""
        async with actor() as (_, it):
            it.tell_nowait(raise_cancelled)
            assert await it.ask("after") == ["after"]

    async def test_a_handler_that_swallows_its_kill_was_killed(self) -> None:
        """Scenario 48: whoever catches the cancellation and goes on does not turn a kill into a normal end."""

        async def swallow(context: Context) -> str:
            try:
                await anyio.sleep(math.inf)
            except anyio.get_cancelled_exc_class():
                context.stop()
            return "fine"

        async with actor(restart="temporary") as (_, it):
            it.tell_nowait(swallow)
            await settle()
            it.kill()
            assert (await it.wait()).kind == "killed"

    async def test_a_handler_that_crashes_over_its_kill(self) -> None:
        """It does not live on in its cancelled task: the next incarnation has a new one."""

        async def object(_context: Context) -> None:
            try:
                await anyio.sleep(math.inf)
            except anyio.get_cancelled_exc_class():
                raise Boom("objection") from None

        async with actor() as (_, it):
            it.tell_nowait(object)
            await settle()
            await it.kill()
            assert await it.ask("after") == ["after"]
            assert it._cell.restarts == 1

    async def test_a_kill_names_the_message_at_hand(self) -> None:
        """It is a dead letter with the reason `killed`."""
        async with actor(restart="temporary") as (system, it):
            gate = Gate()
            it.tell_nowait(gate)
            await gate.entered.wait()
            await it.kill()
            assert letters(system) == [(gate, "killed")]

    async def test_a_stop_that_was_wanted_by_a_lost_incarnation(self) -> None:
        """`context.stop()` and then a crash: the new incarnation is not stopped by what the old one wanted."""

        async def stop_and_crash(context: Context) -> None:
            context.stop()
            raise Boom("first")

        async with actor() as (_, it):
            it.tell_nowait(stop_and_crash)
            assert await it.ask("after") == ["after"]

    async def test_a_factory_that_makes_no_actor(self) -> None:
        """It is named in the error."""
        async with ActorSystem() as system:
            with pytest.raises(StartFailed, match="'it' made a list, which is no Actor"):
                await system.spawn(list, name="it")  # type: ignore[arg-type]


async def raise_cancelled(_context: Context) -> None:
    """Raise what the backend raises for a cancellation, without one."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await checkpoint()
        except anyio.get_cancelled_exc_class() as error:
            stray = error
    raise stray


class Panic(BaseException):
    """What wants to get past ``except Exception``."""


class TestAnythingRaised:
    """What is neither a cancellation nor an interrupt is a crash, whatever its type."""

    async def test_it_is_a_crash_of_this_actor_alone(self) -> None:
        """The asker hears the cause, the actor is restarted, the sibling keeps its state."""
        async with ActorSystem() as system:
            it, sibling = await system.spawn(Scripted, name="it"), await system.spawn(Scripted, name="sibling")
            await sibling.tell("kept")
            with pytest.raises(ActorDied) as caught:
                await it.ask(Panic("boom"))
            assert isinstance(caught.value.__cause__, Panic)
            assert await it.ask("fresh") == ["fresh"]
            assert await sibling.ask("more") == ["kept", "more"]

    async def test_a_group_of_them_is_a_crash_too(self) -> None:
        """As long as nothing in it must stop the process."""
        async with ActorSystem() as system:
            it = await system.spawn(Scripted, name="it")
            with pytest.raises(ActorDied):
                await it.ask(BaseExceptionGroup("several", [Panic("one"), ValueError("two")]))
            assert await it.ask("fresh") == ["fresh"]


class TestCleanup:
    """Scenario 19: the `stopping` hook."""

    async def test_on_its_own_end(self) -> None:
        """An actor that ends itself cleans up once."""
        make, lines = log_actor()
        async with actor(make) as (_, it):
            await it.tell("finish")
            assert await it.wait() == Exit("normal")
        assert lines == ["started 0", "stopping None", "cleaned up"]

    async def test_on_a_crash(self) -> None:
        """The hook is told of the crash; the next incarnation has its own."""
        make, lines = log_actor()
        async with actor(make) as (_, it):
            await it.tell(Boom("bang"))
            await settle()
        assert lines == [
            "started 0",
            "stopping crashed: Boom: bang",
            "cleaned up",
            "started 1",
            "stopping None",
            "cleaned up",
        ]

    async def test_on_a_stop(self) -> None:
        """Asked to stop, it cleans up once."""
        make, lines = log_actor()
        async with actor(make) as (_, it):
            await it.stop()
            assert lines == ["started 0", "stopping None", "cleaned up"]

    async def test_when_the_parent_dies(self) -> None:
        """Cancelled together with everything around it, the hook still runs, shielded."""
        make, lines = log_actor()
        with anyio.CancelScope() as scope:
            async with actor(make) as (_, it):
                it.tell_nowait("sleep")
                await settle()
                scope.cancel()
                await anyio.sleep(math.inf)
        assert lines == ["started 0", "stopping None", "cleaned up"]
        assert it.exit is not None
        assert it.exit.kind == "killed"

    async def test_the_shield_is_bounded(self) -> None:
        """A hook that never ends holds a dying parent for its shutdown time, no longer."""
        make, lines = log_actor(slow_stopping=True)
        with anyio.fail_after(5), anyio.CancelScope() as scope:
            async with actor(make, shutdown=0.01):
                await settle()
                scope.cancel()
                await anyio.sleep(math.inf)
        assert lines == ["started 0", "stopping None"]

    async def test_not_after_a_kill(self) -> None:
        """A kill leaves no time for anything."""
        make, lines = log_actor()
        async with actor(make, restart="temporary") as (_, it):
            await settle()
            await it.kill()
        assert lines == ["started 0"]

    async def test_a_kill_ends_the_hook(self) -> None:
        """The shield does not protect a hook from a kill that comes while it runs."""
        make, lines = log_actor(slow_stopping=True)
        async with actor(make) as (_, it):
            await settle()
            with anyio.fail_after(5):
                await it.stop(grace=0.01)
            assert it.exit == Exit("killed")
        assert lines == ["started 0", "stopping None"]

    async def test_a_hook_that_is_cut_short(self) -> None:
        """An end whose cleanup ran out of time was no orderly end."""
        make, _ = log_actor(slow_stopping=True)
        async with actor(make, restart="temporary", shutdown=0.001) as (_, it):
            await it.tell("finish")
            assert await it.wait() == Exit("killed")

    async def test_a_crash_in_the_hook_does_not_hide_the_first_cause(self) -> None:
        """The first cause stays the cause; the second is a note on it."""
        make, _ = log_actor(fail_in="stopping")
        async with actor(make, restart="temporary") as (_, it):
            await it.tell(Boom("first"))
            exit = await it.wait()
            assert str(exit.error) == "first"
            assert exit.error is not None
            assert exit.error.__notes__ == ["'it' also failed while stopping: Boom: stopping"]

    async def test_a_crash_in_the_hook_alone(self) -> None:
        """An orderly end whose cleanup fails is a crash."""
        make, _ = log_actor(fail_in="stopping")
        async with actor(make, restart="temporary") as (_, it):
            await it.stop()
            assert str(it.exit) == "crashed: Boom: stopping"

    async def test_after_a_failed_start(self) -> None:
        """What `started` had prepared before it failed can be undone."""
        make, lines = log_actor(fail_in="started")
        async with ActorSystem() as system:
            with pytest.raises(StartFailed):
                await system.spawn(make)
        assert lines == ["started 0", "stopping crashed: Boom: started", "cleaned up"]


class Watcher(Actor):
    """Monitors whom it is told to, and keeps the notices."""

    def __init__(self) -> None:
        self.notices: list[Any] = []

    async def receive(self, message: Any, context: Context) -> Any:
        """Handle a request, or a notice."""
        match message:
            case Down():
                self.notices.append((message.ref.name, message.exit.kind))
            case ("watch", ref):
                context.monitor(ref)
            case ("unwatch", ref):
                context.unmonitor(ref)
            case ("kill then unwatch", ref):
                ref.kill()
                await settle()
                assert not ref.alive
                context.unmonitor(ref)
            case _:
                return self.notices
        return None


class TestMonitor:
    """Scenario 20: one notice for each end."""

    @pytest.mark.parametrize("how", ["normal", "shutdown", "killed", "crashed"])
    async def test_a_notice_for_each_way_to_end(self, how: str) -> None:
        """The notice carries the reason, and comes once."""
        make, _ = log_actor()
        async with actor(make, restart="temporary") as (system, it):
            watcher = await system.spawn(Watcher)
            await watcher.ask(("watch", it))
            await watcher.ask(("watch", it))
            ends = {
                "normal": it.tell,
                "shutdown": lambda _: it.stop(),
                "killed": lambda _: it.kill(),
                "crashed": it.tell,
            }
            await ends[how]("finish" if how == "normal" else Boom("x"))
            await settle()
            assert await watcher.ask("notices") == [("it", how)]

    async def test_a_restart_is_no_end(self) -> None:
        """While the address lives, there is no notice."""
        async with actor() as (system, it):
            watcher = await system.spawn(Watcher)
            await watcher.ask(("watch", it))
            await it.tell(Boom("x"))
            assert await it.ask("again") == ["again"]
            assert await watcher.ask("notices") == []

    async def test_monitoring_the_dead(self) -> None:
        """The notice comes at once."""
        async with actor() as (system, it):
            watcher = await system.spawn(Watcher)
            await it.stop()
            await watcher.ask(("watch", it))
            assert await watcher.ask("notices") == [("it", "shutdown")]

    async def test_unmonitor_suppresses_a_queued_notice(self) -> None:
        """A notice that waits in the control lane is not delivered after all."""
        async with actor(restart="temporary") as (system, it):
            watcher = await system.spawn(Watcher)
            await watcher.ask(("watch", it))
            await watcher.ask(("kill then unwatch", it))
            assert await watcher.ask("notices") == []

    async def test_unmonitor_before_the_end(self) -> None:
        """Nothing comes, and the watched actor forgets the watcher; a second time is harmless."""
        async with actor() as (system, it):
            watcher = await system.spawn(Watcher)
            for message in (("watch", it), ("unwatch", it), ("unwatch", it)):
                await watcher.ask(message)
            await it.stop()
            assert await watcher.ask("notices") == []

    async def test_a_notice_overtakes_messages(self) -> None:
        """Scenario 7: it is handled before what waits in the mailbox, even if that is full."""
        order: list[Any] = []

        class Busy(Actor):
            async def receive(self, message: Any, context: Context) -> None:
                order.append(type(message).__name__ if isinstance(message, Down) else message)
                if message == "watch":
                    context.monitor(it)
                    await it.kill()

        async with actor(restart="temporary") as (system, it):
            busy = await system.spawn(Busy, capacity=2)
            busy.tell_nowait("watch")
            busy.tell_nowait("message")
            await settle()
        assert order == ["watch", "Down", "message"]

    async def test_from_outside(self) -> None:
        """Code that is no actor awaits the notice, before or after the end."""
        async with actor() as (_, it):
            before = it.monitor()
            it.stop(reason="done")
            assert (await before.wait()).exit == Exit("shutdown", reason="done")
            assert (await it.monitor().wait()).ref is it

    async def test_a_cancelled_monitor(self) -> None:
        """Waiting on it is an error rather than a wait without end."""
        async with actor() as (_, it):
            monitor = it.monitor()
            monitor.cancel()
            with pytest.raises(ActorError, match="was cancelled"):
                await monitor.wait()


class TestDeadLetters:
    """Scenario 11: bounded and visible."""

    async def test_they_are_counted_exactly_and_kept_boundedly(self, caplog: pytest.LogCaptureFixture) -> None:
        """Ten thousand tells to a dead address: an exact count, the latest hundred, five lines of log."""
        async with actor() as (system, it):
            await it.stop()
            for n in range(10_000):
                with pytest.raises(MailboxClosed):
                    it.tell_nowait(n)
            assert (system.dead_letters.count, len(system.dead_letters)) == (10_000, 10_000)
            assert [letter.message for letter in system.dead_letters] == list(range(9_900, 10_000))
        assert caplog.text.count("dead letter number") == 5

    async def test_waiting_tellers_of_an_actor_that_ends(self) -> None:
        """Scenario 10: each is woken with the error, and each message is one dead letter."""
        gate = Gate()
        async with actor(capacity=1) as (system, it), anyio.create_task_group() as group:
            it.tell_nowait(gate)
            await gate.entered.wait()
            it.tell_nowait("queued")
            for n in range(10):
                group.start_soon(self._tell_the_dead, it, n)
            await settle()
            it.stop()
            gate.open.set()
            await it.wait()
            await settle()
            assert sorted(map(str, letters(system))) == sorted(
                [str(("queued", "closed")), *(str((n, "closed")) for n in range(10))]
            )

    @staticmethod
    async def _tell_the_dead(it: ActorRef[Any], message: int) -> None:
        with pytest.raises(MailboxClosed):
            await it.tell(message)


class TestStop:
    """Asking an actor to end."""

    async def test_the_message_at_hand_is_finished(self) -> None:
        """Scenario 7: the stop overtakes the rest, which goes to the dead letters."""
        gate = Gate()
        async with actor() as (system, it), anyio.create_task_group() as group:
            it.tell_nowait(gate)
            it.tell_nowait("rest")
            await gate.entered.wait()
            group.start_soon(wait, it)
            it.stop()
            await settle()
            assert it.alive
            gate.open.set()
            assert (await it.wait()).kind == "shutdown"
            assert letters(system) == [("rest", "closed")]

    async def test_a_hundred_stops_are_one(self) -> None:
        """Scenario 23: many tasks, before and after the end: one transition, no error, the same outcome for all."""
        make, lines = log_actor()
        exits: list[Exit | None] = []

        async def stop(n: int) -> None:
            await it.stop(reason=f"reason {n}")
            exits.append(it.exit)

        async with actor(make) as (_, it):
            async with anyio.create_task_group() as group:
                for n in range(100):
                    group.start_soon(stop, n)
            await it.stop()
            assert len(exits) == 100
            assert len(set(map(str, exits))) == 1
        assert lines == ["started 0", "stopping None", "cleaned up"]

    async def test_before_the_start(self) -> None:
        """Scenario 23: a stop right after the spawn is not lost."""
        async with actor() as (_, it):
            it.stop()
            assert (await it.wait()).kind == "shutdown"

    async def test_from_another_thread(self) -> None:
        """The request finds its way into the loop; after the end it asks nobody for anything."""
        async with actor() as (_, it):
            thread = threading.Thread(target=it.stop)
            thread.start()
            assert (await it.wait()).kind == "shutdown"
            await anyio.to_thread.run_sync(it.stop)
            thread.join()

    async def test_after_the_loop_is_gone(self, anyio_backend: str) -> None:
        """A ref that outlived its loop may be stopped from any thread without effect."""
        refs: list[ActorRef[Any]] = []

        async def main() -> None:
            async with actor() as (_, it):
                refs.append(it)

        def use() -> None:
            anyio.run(main, backend=anyio_backend)

        await anyio.to_thread.run_sync(use)
        refs[0].stop()
        refs[0].kill()

    async def test_grace_then_kill(self) -> None:
        """Scenario 39: whoever waits with a grace kills what has not ended by then; and it stays down."""
        gate = Gate()
        async with actor() as (_, it):
            it.tell_nowait(gate)
            await gate.entered.wait()
            await it.stop(grace=0.001, reason="impatience")
            assert it.exit == Exit("killed", reason="impatience")

    async def test_a_crash_after_the_request(self) -> None:
        """An actor that crashes over its last message is not restarted: it was asked to stop."""
        gate = Gate()

        async def crash(context: Context) -> None:
            await gate(context)
            raise Boom("at last")

        async with actor() as (_, it):
            it.tell_nowait(crash)
            await gate.entered.wait()
            it.stop()
            gate.open.set()
            assert str(await it.wait()) == "crashed: Boom: at last"

    async def test_a_permanent_actor_returns(self) -> None:
        """Awaiting the stop waits for that incarnation; the next one has the same address."""
        async with actor(restart="permanent") as (_, it):
            await it.ask("state")
            await it.stop()
            assert await it.ask("new") == ["new"]

    async def test_waiting_for_oneself(self) -> None:
        """`await ref.stop()` and `await ref.wait()` inside the actor would never return."""

        async def stop_myself(context: Context) -> None:
            await context.ref.stop()

        async def wait_for_myself(context: Context) -> None:
            await context.ref.wait()

        for message in (stop_myself, wait_for_myself):
            async with actor(restart="temporary") as (_, it):
                it.tell_nowait(message)
                exit = await it.wait()
                assert isinstance(exit.error, WouldDeadlock)


async def wait(ref: ActorRef[Any]) -> None:
    """Wait for an end beside everybody else."""
    await ref.wait()


class TestLateAwait:
    """What `stop` and `kill` return is about the incarnation that was asked, whenever it is awaited."""

    async def test_of_a_stop_with_a_grace(self) -> None:
        """The next incarnation of a permanent actor is not killed for it."""
        async with actor(restart="permanent") as (_, it):
            ending = it.stop(grace=0.001)
            await settle()
            assert it._cell.restarts == 1
            await ending
            await settle()
            assert await it.ask("alive") == ["alive"]
            assert it._cell.restarts == 1

    async def test_of_a_kill(self) -> None:
        """It does not wait for the next incarnation's end."""
        async with actor() as (_, it):
            ending = it.kill()
            await settle()
            with anyio.fail_after(5):
                await ending
            assert await it.ask("alive") == ["alive"]


class TestItself:
    """An actor may talk to itself as long as it does not wait for itself."""

    async def test_telling_with_a_full_mailbox(self) -> None:
        """It would wait for room that only it can make."""

        async def tell(_context: Context) -> None:
            refs[0].tell_nowait("fills it")
            await refs[0].tell("more")

        refs: list[ActorRef[Any]] = []
        async with actor(capacity=1, restart="temporary") as (_, it):
            refs.append(it)
            it.tell_nowait(tell)
            with anyio.fail_after(5):
                exit = await it.wait()
            assert isinstance(exit.error, WouldDeadlock)
            assert "its mailbox is full" in str(exit.error)

    async def test_a_task_of_its_own_in_somebody_elses_group(self) -> None:
        """The actor does not wait for that one, so it may ask the actor, and wait for its end."""
        answers: list[Any] = []

        async def talk() -> None:
            answers.append(await refs[0].ask("from outside"))
            await refs[0].stop()
            answers.append("stopped")

        async def begin(_context: Context) -> None:
            tasks.start_soon(talk)

        refs: list[ActorRef[Any]] = []
        async with actor() as (_, it), anyio.create_task_group() as tasks:
            refs.append(it)
            await it.ask(begin)
        assert answers == [["from outside"], "stopped"]

    async def test_a_task_in_a_group_of_its_own(self) -> None:
        """The actor waits for that one."""

        async def wait_for_it() -> None:
            await refs[0].wait()

        async def begin(_context: Context) -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait_for_it)

        refs: list[ActorRef[Any]] = []
        async with actor(restart="temporary") as (_, it):
            refs.append(it)
            await it.tell(begin)
            with anyio.fail_after(5):
                error: Any = (await it.wait()).error
            assert isinstance(error.exceptions[0], WouldDeadlock)


class TestOtherThreads:
    """Only `stop` and `kill` may come from another thread."""

    @pytest.mark.parametrize("how", ["tell_nowait", "send_after"])
    async def test_the_rest_is_refused(self, how: str) -> None:
        """In one sentence, which says the way; nothing is queued."""
        async with actor() as (system, it):

            def call() -> None:
                if how == "tell_nowait":
                    it.tell_nowait("hello")
                else:
                    system.send_after(0.0, it, "hello")

            with pytest.raises(RuntimeError, match=r"belongs to the system's event loop.*from_thread"):
                await anyio.to_thread.run_sync(call)
            assert await it.ask("alive") == ["alive"]


class TestWhatIsKept:
    """A long life leaves nothing behind."""

    async def test_of_a_crashed_incarnation(self, caplog: pytest.LogCaptureFixture) -> None:
        """Neither the actor nor the message that it crashed over."""
        caplog.set_level(logging.CRITICAL, logger="greenroom")  # records of the log would keep it

        class Message(Boom):
            pass

        message = Message("x")
        gone = weakref.ref(message)
        async with ActorSystem(on_report=lambda _report: None) as system:
            it = await system.spawn(Scripted)
            await it.tell(message)
            del message
            await it.ask("alive")
            system.dead_letters._latest.clear()
            gc.collect()
            assert gone() is None

    async def test_of_a_monitor_that_was_forgotten(self) -> None:
        """Nobody can ask it any more."""
        async with actor() as (_, it):
            for _ in range(10):
                it.monitor()
            gc.collect()
            assert not it._cell._watchers

    async def test_of_a_monitor_that_was_cancelled(self) -> None:
        """Nothing, at once."""
        async with actor() as (_, it):
            monitor = it.monitor()
            monitor.cancel()
            assert not it._cell._watchers

    async def test_of_a_message_that_was_handled(self) -> None:
        """An idle actor keeps neither it nor its answer."""

        class Message:
            pass

        class Forgetful(Actor):
            async def receive(self, message: Any, _context: Context) -> Any:
                return None

        message = Message()
        gone = weakref.ref(message)
        async with ActorSystem() as system:
            it = await system.spawn(Forgetful)
            await it.tell(message)
            del message
            await settle()
            assert gone() is None


class TestOddErrors:
    """What is no Exception is a crash too."""

    @pytest.mark.parametrize("error", [GeneratorExit, Panic])
    async def test_it_is_one(self, error: type[BaseException]) -> None:
        """And the hook hears of it."""
        seen: list[Any] = []

        class Odd(Actor):
            async def receive(self, message: Any, _context: Context) -> None:
                raise message

            async def stopping(self, _context: Context, exit: Any) -> None:
                seen.append(exit)

        async with ActorSystem() as system:
            it = await system.spawn(Odd, restart="temporary")
            await it.tell(error("odd"))
            assert (await it.wait()).kind == "crashed"
        assert [exit.kind for exit in seen if exit is not None] == (["crashed"] if error is Panic else [])

    async def test_a_receive_that_is_no_coroutine_function(self) -> None:
        """The error says what to write."""

        class Plain(Actor):
            def receive(self, message: Any, context: Context) -> Any:  # pyright: ignore
                return None

        async with ActorSystem() as system:
            it = await system.spawn(Plain, restart="temporary")
            await it.tell("x")
            error = (await it.wait()).error
            assert error is not None
            assert error.__notes__ == ["receive() of Plain must be an async def"]
