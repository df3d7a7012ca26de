"""What everybody else holds of an actor: its address.

A ref stays valid across restarts and after the end; what it then answers is `MailboxClosed` or `ActorEnded`. `tell`,
`ask` and `monitor` belong to the system's event loop. `stop` and `kill` may be called from any thread.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from ..mailbox import Envelope, MailboxClosed, MailboxStatistics, Reply, current_budget
from .dead_letters import DeadLetter
from .errors import ActorError, AskTimeout, WouldDeadlock, ended
from .exits import Down, Exit
from .whereabouts import is_below

if TYPE_CHECKING:
    from .cell import Cell

M = TypeVar("M", contravariant=True)


def check_seconds(what: str, value: object) -> None:
    """Refuse what is no length of time; None is none.

    Raises:
        TypeError: it is no number.
        ValueError: it is below 0, or not a number at all (nan).
    """
    if value is None:
        return
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{what} takes seconds, or None, not {value!r}")
    # Not nan, and no whole number that is too large to be a float.
    if not (0 <= value <= sys.float_info.max or value == float("inf")):
        raise ValueError(f"{what} takes seconds, 0 or more, not {value!r}")


def check_ref(what: str, value: object) -> None:
    """Refuse what is no address.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, ActorRef):
        raise TypeError(f"{what} takes the ActorRef of an actor, as spawn() returns it, not {value!r}")


class ActorRef(Generic[M]):
    """The address of one actor that takes messages of type `M`."""

    __slots__ = ("__weakref__", "_cell")

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorRef) and other._cell is self._cell

    def __hash__(self) -> int:
        return hash(self._cell)

    @property
    def name(self) -> str:
        """The actor's name, unique among the live actors of its system."""
        return self._cell.name

    @property
    def alive(self) -> bool:
        """Whether the actor has not ended yet."""
        return self._cell.exit is None

    @property
    def exit(self) -> Exit | None:
        """How the actor ended, or None while it lives."""
        return self._cell.exit

    def statistics(self) -> MailboxStatistics:
        """What its mailbox holds now."""
        return self._cell.mailbox.statistics()

    async def tell(self, message: M) -> None:
        """Send `message`; wait while the mailbox is full. Yields at every 64th message of the sender.

        Raises:
            MailboxClosed: the actor has ended; the message is a dead letter.
            MailboxFull: no room, and the mailbox does not let senders wait.
            WouldDeadlock: the actor sends to itself, and its mailbox is full.
        """
        budget = current_budget.get(None)
        cell = self._cell
        cell.stage.home.refuse_elsewhere("tell()")
        if budget is cell.budget and cell.mailbox.would_wait() and is_below(cell.name):
            raise WouldDeadlock(
                f"{cell.name!r} sends to itself, and its mailbox is full: use tell_nowait, or send_after"
            )
        envelope = Envelope(message, None, budget.owner if budget is not None else None)
        try:
            await self._cell.mailbox.send(envelope)
        except MailboxClosed:
            self._bury(envelope)
            raise

    def tell_nowait(self, message: M) -> None:
        """Send `message` at once.

        Raises:
            MailboxClosed: the actor has ended; the message is a dead letter.
            MailboxFull: no room.
            RuntimeError: called from another thread.
        """
        self._cell.stage.home.refuse_elsewhere("tell_nowait()")
        budget = current_budget.get(None)
        envelope = Envelope(message, None, budget.owner if budget is not None else None)
        try:
            self._cell.mailbox.send_nowait(envelope)
        except MailboxClosed:
            self._bury(envelope)
            raise

    async def ask(self, message: M, *, timeout: float | None = None) -> Any:
        """Send `message` and wait for what the actor's `receive` returns for it.

        Args:
            message: the question.
            timeout: seconds to wait for room and answer together; None waits as long as the actor lives.

        Raises:
            ActorStopped: the actor was stopped, or returned, before it answered.
            ActorDied: it crashed (the crash is the ``__cause__``) or was killed.
            AskTimeout: no answer in time; a late one becomes a dead letter.
            MailboxFull: no room, and the mailbox does not let senders wait.
            WouldDeadlock: the actor asks itself.
        """
        if timeout is None:
            return await self._ask(message)
        check_seconds("ask(timeout=)", timeout)
        with anyio.move_on_after(timeout) as scope:
            return await self._ask(message)
        assert scope.cancelled_caught
        raise AskTimeout(self.name, timeout)

    async def _ask(self, message: M) -> Any:
        cell = self._cell
        cell.stage.home.refuse_elsewhere("ask()")
        budget = current_budget.get(None)
        if budget is cell.budget and is_below(cell.name):
            raise WouldDeadlock(f"{cell.name!r} asks itself")
        envelope = Envelope(message, Reply(), budget.owner if budget is not None else None)
        try:
            await cell.mailbox.send(envelope)
        except MailboxClosed:
            self._bury(envelope)
            assert cell.exit is not None
            raise ended(cell.name, cell.exit) from cell.exit.error
        reply = envelope.reply
        assert reply is not None
        try:
            return await reply.wait()
        except BaseException:
            if reply.missed:
                cell.bury_missed(envelope)
            raise

    def _bury(self, envelope: Envelope) -> None:
        cell = self._cell
        cell.stage.dead_letters.add(DeadLetter(envelope.message, cell.name, envelope.sender, "closed"))

    def stop(self, *, grace: float | None = None, reason: str | None = None) -> Ending:
        """Ask the actor to end. It finishes the message at hand and leaves the rest to the dead letters.

        The request is made at once, from any thread, and overtakes every message; asking again changes nothing. The
        returned object may be awaited: ``await ref.stop()``. With `grace`, whoever awaits it kills an actor that has
        not ended after that many seconds. Only a ``permanent`` actor is started again after a stop.
        """
        check_seconds("stop(grace=)", grace)
        self._cell.stage.home.run(self._cell.request_stop, reason)
        return Ending(self._cell, grace)

    def kill(self) -> Ending:
        """Cancel the actor's task, for good: every later await in it is cancelled too. From any thread.

        An actor that waits for its restart has no task; nothing happens to it. `stop` calls the restart off.
        """
        self._cell.stage.home.run(self._cell.kill)
        return Ending(self._cell, None)

    async def wait(self) -> Exit:
        """Wait for the end for good; restarts do not count.

        Raises:
            WouldDeadlock: the actor, or a descendant of it, waits for itself.
        """
        cell = self._cell
        cell.refuse_deadlock()
        return await cell.wait_ended()

    def monitor(self) -> Monitor:
        """Watch for the end. An actor that wants the notice as a message uses its context's `monitor`."""
        return Monitor(self)

    def __repr__(self) -> str:
        return f"<ActorRef {self.name!r} {self._cell.state}>"


class Ending:
    """The end that was asked for, to be awaited or ignored. Awaiting it waits until the actor is down.

    A supervisor starts a ``permanent`` child again after a stop, and a ``transient`` one after a kill; `ActorRef.wait`
    waits for the end for good.
    """

    __slots__ = ("_cell", "_grace", "_incarnation")

    def __init__(self, cell: Cell, grace: float | None) -> None:
        self._cell = cell
        self._grace = grace
        self._incarnation = cell.restarts

    def __await__(self) -> Generator[Any, Any, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        cell = self._cell
        cell.refuse_deadlock()
        if self._grace is not None:
            with anyio.move_on_after(self._grace):
                return await cell.wait_down(self._incarnation)
            if cell.restarts == self._incarnation:
                cell.kill()
        return await cell.wait_down(self._incarnation)

    def __repr__(self) -> str:
        return f"<the end of {self._cell.name!r}, asked for: await it, or ignore it>"


class Monitor:
    """A watch on one actor: ``down = await monitor.wait()``."""

    __slots__ = ("__weakref__", "_cancelled", "_down", "_event", "_ref", "_watch")

    def __init__(self, ref: ActorRef[Any]) -> None:
        self._ref = ref
        self._down: Down | None = None
        self._event = anyio.Event()
        self._cancelled = False
        cell = ref._cell
        # The actor must not keep a monitor that everybody else has dropped.
        weak = weakref.ref(self, lambda _: cell.unwatch(look))

        def look(cell: Cell) -> None:
            monitor = weak()
            if monitor is not None:
                monitor._look(cell)

        self._watch = look
        if cell.exit is None:
            cell.watch(look)
        self._look(cell)

    def _look(self, cell: Cell) -> None:
        if cell.exit is not None and not self._cancelled:
            self._down = Down(self._ref, cell.exit)
            self._event.set()

    async def wait(self) -> Down:
        """Wait for the notice.

        Raises:
            ActorError: the monitor was cancelled.
        """
        await self._event.wait()
        if self._cancelled or self._down is None:
            raise ActorError(f"this monitor of {self._ref.name!r} was cancelled")
        return self._down

    def cancel(self) -> None:
        """Stop watching."""
        self._cancelled = True
        self._ref._cell.unwatch(self._watch)
        self._event.set()
