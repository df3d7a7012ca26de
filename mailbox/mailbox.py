"""The queue of one actor: parks and wakes its senders and its one receiver around the lanes.

Sending and receiving complete without yielding as long as they can; see `budget.py` for when a sender yields all the
same. The receiver is woken through one `anyio.Event`, made only while it is parked; a message leaves its lane only
after that wait has returned. So neither kind of cancellation, by scope or natively by ``asyncio.Task.cancel``, loses or
doubles a message: a send that raised has enqueued nothing, a send that returned has enqueued one message.

An overflow is never silent: what is dropped goes to `undelivered`, with the reason.

Nothing here may be called from another thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import anyio
import msgspec
from anyio.lowlevel import checkpoint

from .budget import MESSAGES_PER_CHECKPOINT, Budget, current_budget
from .envelope import Envelope
from .errors import MailboxClosed, MailboxFull
from .state import OVERFLOWS, Lanes, Overflow

DEFAULT_CAPACITY = 1024


class MailboxStatistics(msgspec.Struct, frozen=True):
    """A mailbox at one moment: counts of messages, and of senders that wait for room."""

    depth: int
    capacity: int
    control: int
    waiting_senders: int
    accepted: int
    dropped: int
    closed: bool


def _discard(mailbox: Mailbox, envelope: Envelope, reason: str) -> None:  # noqa: ARG001 - the default of `undelivered`
    return None


class Wake(Protocol):
    """What a mailbox sets when something has come for who waits: an `anyio.Event`, or what stands for one."""

    def set(self) -> None: ...


class _Posted:
    """A message that waits for room without a task: in the queue of senders it stands where a sender's event would."""

    __slots__ = ("_envelope", "_mailbox")

    def __init__(self, mailbox: Mailbox, envelope: Envelope) -> None:
        self._mailbox = mailbox
        self._envelope = envelope

    def set(self) -> None:
        """It is its turn, or the mailbox has closed."""
        self._mailbox.redeem(self._envelope)


class Mailbox:
    """A bounded queue with a control lane that overtakes it.

    Args:
        capacity: how many messages may wait (default 1,024).
        overflow: what a full mailbox does with one more: ``wait`` parks the sender in FIFO order (default), ``fail``
            raises `MailboxFull`, ``drop_newest`` and ``drop_oldest`` report one message to `undelivered`.
        address: the owner's name, for errors.
        undelivered: called with this mailbox and each message that the overflow policy dropped, and the word
            ``dropped``; and with a posted one that found the mailbox closed, and the word ``closed``.
        outside: the yield budget of senders that are no actors.

    Raises:
        ValueError: a capacity below 1 or an unknown overflow.
    """

    __slots__ = ("_outside", "_undelivered", "_wake", "address", "dropped", "lanes", "overflow")

    def __init__(
        self,
        capacity: int = DEFAULT_CAPACITY,
        *,
        overflow: Overflow = "wait",
        address: str = "mailbox",
        undelivered: Callable[[Mailbox, Envelope, str], None] = _discard,
        outside: Budget | None = None,
    ) -> None:
        if overflow not in OVERFLOWS:
            raise ValueError(f"overflow={overflow!r} is not one of {', '.join(OVERFLOWS)}")
        self.lanes = Lanes(capacity)
        self.overflow: Overflow = overflow
        self.address = address
        self.dropped = 0
        self._undelivered = undelivered
        self._outside = outside if outside is not None else Budget()
        self._wake: Wake | None = None

    # -- sending

    def would_wait(self) -> bool:
        """Whether a sender would have to wait for room now."""
        lanes = self.lanes
        is_full = len(lanes.data) + lanes.reserved >= lanes.capacity or lanes.tickets
        return bool(is_full) and self.overflow == "wait" and not lanes.closed

    def send_nowait(self, envelope: Envelope) -> None:
        """Enqueue at once.

        Raises:
            MailboxFull: no room, or others wait for it (under ``wait`` and ``fail``).
            MailboxClosed: the actor has ended.
        """
        lanes = self.lanes
        if lanes.closed:
            raise MailboxClosed(self.address)
        if not lanes.offer(envelope) and not self._drop_for(envelope):
            raise MailboxFull(self.address, lanes.capacity)
        wake = self._wake
        if wake is not None:
            self._wake = None
            wake.set()

    async def send(self, envelope: Envelope) -> None:
        """Enqueue, waiting for room under ``wait``. Yields at every 64th message of the sending actor.

        Raises:
            MailboxFull: no room (under ``fail``).
            MailboxClosed: the actor has ended, or ended while this sender waited.
        """
        budget = current_budget.get(self._outside)
        budget.left -= 1  # Budget.spend, without the call
        if budget.left <= 0:
            budget.left = MESSAGES_PER_CHECKPOINT
            await checkpoint()
        lanes = self.lanes
        if lanes.closed:
            raise MailboxClosed(self.address)
        if not lanes.offer(envelope) and not self._drop_for(envelope):
            if self.overflow == "fail":
                raise MailboxFull(self.address, lanes.capacity)
            await self._wait_for_room()
            if lanes.closed:
                lanes.forgo()
                raise MailboxClosed(self.address)
            lanes.redeem(envelope)
        wake = self._wake
        if wake is not None:
            self._wake = None
            wake.set()

    def post(self, envelope: Envelope) -> None:
        """Enqueue now, or as soon as there is room: in the queue of waiting senders, but without a task that waits.

        For the runtime, which cannot wait and has nobody to raise at: what does not get in goes to `undelivered`.
        """
        lanes = self.lanes
        if lanes.closed:
            self._undelivered(self, envelope, "closed")
        elif lanes.offer(envelope):
            self._wake_receiver()
        elif self.overflow == "wait":
            lanes.wait(_Posted(self, envelope))
        elif self._drop_for(envelope):
            self._wake_receiver()
        else:
            self.dropped += 1
            self._undelivered(self, envelope, "dropped")

    def redeem(self, envelope: Envelope) -> None:
        """Put a posted message in the place that was kept for it."""
        if self.lanes.closed:
            self.lanes.forgo()
            self._undelivered(self, envelope, "closed")
        else:
            self.lanes.redeem(envelope)
            self._wake_receiver()

    def _wake_receiver(self) -> None:
        wake = self._wake
        if wake is not None:
            self._wake = None
            wake.set()

    def signal(self, signal: Any) -> None:
        """Put a control signal before all data. Never waits, never fails; a closed mailbox ignores it."""
        if self.lanes.closed:
            return
        self.lanes.signal(signal)
        wake = self._wake
        if wake is not None:
            self._wake = None
            wake.set()

    def _drop_for(self, envelope: Envelope) -> bool:
        """Whether the overflow policy settled the matter by dropping a message."""
        if self.overflow == "drop_newest":
            self.dropped += 1
            self._undelivered(self, envelope, "dropped")
            return True
        if self.overflow == "drop_oldest":
            self.dropped += 1
            if self.lanes.data:  # always so: under this policy no places are reserved
                self._undelivered(self, self.lanes.data.popleft(), "dropped")
            return self.lanes.offer(envelope)
        return False

    async def _wait_for_room(self) -> None:
        ticket = anyio.Event()
        self.lanes.wait(ticket)
        try:
            await ticket.wait()
        except BaseException:
            if ticket.is_set():  # admitted in the very tick of the cancellation: the place goes to the next
                self.lanes.forgo()
                self.admit()
            else:
                self.lanes.withdraw(ticket)
            raise

    def admit(self) -> None:
        """Let the sender that waits longest use a place that has become free."""
        ticket = self.lanes.admit()
        if ticket is not None:
            ticket.set()

    # -- receiving

    async def receive(self) -> Any:
        """Wait for the next thing: a control signal if there is one, else an `Envelope`. For one receiver."""
        lanes = self.lanes
        while True:
            if lanes.control:
                return lanes.control.popleft()
            if lanes.data:
                envelope = lanes.data.popleft()
                if lanes.tickets:
                    self.admit()
                return envelope
            await self.park()

    async def receive_signal(self) -> Any:
        """Wait for the next control signal, leaving data where it is. For one receiver."""
        lanes = self.lanes
        while not lanes.control:
            await self.park()
        return lanes.control.popleft()

    async def park(self) -> None:
        """Wait until something is sent. The receiver looks at its lanes first, and again afterwards."""
        await self.parked().wait()

    def parked(self) -> anyio.Event:
        """What a receiver that has looked at its lanes waits for, to look again.

        One that was cancelled leaves its event behind; whoever sets it wakes nobody, and the next wait has a new one.
        """
        self.lanes.rest()
        self._wake = wake = anyio.Event()
        return wake

    def await_first(self, wake: Wake) -> None:
        """Have `wake` set by the first thing that comes, for a receiver that does not exist yet."""
        self._wake = wake

    def wake(self) -> None:
        """Wake the receiver, if it waits, though nothing has come."""
        self._wake_receiver()

    def close(self) -> list[Envelope]:
        """Take nothing more: wake the waiting senders with `MailboxClosed`, and return what was never handled."""
        self._wake = None  # nothing comes any more; and it may be the owner
        undelivered, tickets = self.lanes.close()
        for ticket in tickets:
            ticket.set()
        return undelivered

    def statistics(self) -> MailboxStatistics:
        """What the mailbox holds now."""
        lanes = self.lanes
        return MailboxStatistics(
            depth=len(lanes.data),
            capacity=lanes.capacity,
            control=len(lanes.control) if lanes.control else 0,
            waiting_senders=len(lanes.tickets) if lanes.tickets else 0,
            accepted=lanes.accepted,
            dropped=self.dropped,
            closed=lanes.closed,
        )
