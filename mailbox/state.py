"""Two lanes and a bound: what a mailbox holds, decided without awaiting.

Data waits in FIFO order under a bound; control signals wait in a lane of their own that is served first and needs no
capacity. A deque takes 0.7 KiB even when it is empty, so each lane is made when it is needed, and the data lane is let
go when the receiver parks: thousands of idle actors hold none.

A sender that finds no room leaves a *ticket*. When room appears, the oldest ticket is *admitted*: a place is reserved
for it, and the sender puts its message there after it has woken (`redeem`). It is the place that is handed over, not
the message: a sender that was cancelled while waiting has enqueued nothing, and gives its place to the next one
(`forgo`). Reserved places count against the bound, and nobody overtakes a waiting ticket.

The tickets are opaque here. Parking and waking tasks is the mailbox's business (`mailbox.py`); nothing in this module
awaits, sleeps or looks at a clock.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Literal, TypeAlias

from .envelope import Envelope

Overflow: TypeAlias = Literal["wait", "fail", "drop_newest", "drop_oldest"]
OVERFLOWS: tuple[Overflow, ...] = ("wait", "fail", "drop_newest", "drop_oldest")


#: The data lane of an idle mailbox.
NOTHING: tuple[()] = ()


class Lanes:
    """The contents of one mailbox.

    Args:
        capacity: how many data messages may wait, at least 1.

    Raises:
        ValueError: a capacity below 1.
    """

    __slots__ = ("accepted", "capacity", "closed", "control", "data", "reserved", "tickets")

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a mailbox needs a capacity of at least 1, not {capacity}")
        self.capacity = capacity
        self.data: deque[Envelope] | tuple[()] = NOTHING
        self.control: deque[Any] | None = None
        self.tickets: deque[Any] | None = None
        self.reserved = 0
        self.accepted = 0
        self.closed = False

    def offer(self, envelope: Envelope) -> bool:
        """Take a data message if there is room and nobody waits before it."""
        if len(self.data) + self.reserved >= self.capacity or self.tickets:
            return False
        self._put(envelope)
        return True

    def _put(self, envelope: Envelope) -> None:
        if self.data:
            self.data.append(envelope)
        else:
            self.data = deque((envelope,))
        self.accepted += 1

    def rest(self) -> None:
        """Let go of a data lane that is empty."""
        if not self.data:
            self.data = NOTHING

    def signal(self, signal: Any) -> None:
        """Take a control signal; there is always room."""
        if self.control is None:
            self.control = deque()
        self.control.append(signal)

    def wait(self, ticket: Any) -> None:
        """Join the queue of senders that found no room."""
        if self.tickets is None:
            self.tickets = deque()
        self.tickets.append(ticket)

    def admit(self) -> Any | None:
        """Reserve a free place for the oldest ticket and return that ticket, or None when there is neither."""
        if self.tickets and len(self.data) + self.reserved < self.capacity:
            self.reserved += 1
            return self.tickets.popleft()
        return None

    def redeem(self, envelope: Envelope) -> None:
        """Put a message in its reserved place."""
        self.reserved -= 1
        self._put(envelope)

    def forgo(self) -> None:
        """Give up a reserved place."""
        self.reserved -= 1

    def withdraw(self, ticket: Any) -> None:
        """Leave the queue of waiting senders."""
        if self.tickets:
            self.tickets.remove(ticket)

    def close(self) -> tuple[list[Envelope], list[Any]]:
        """Take nothing more. Returns the messages that were never handled, and the tickets to wake."""
        self.closed = True
        if not self.data and not self.tickets:
            self.data = NOTHING
            return [], []
        undelivered = list(self.data)
        self.data = NOTHING
        tickets = list(self.tickets) if self.tickets else []
        self.reserved += len(tickets)
        self.tickets = None
        return undelivered, tickets
