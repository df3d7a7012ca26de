"""What goes from one run to another, or to whoever watches it: the protocol.

A *message* goes to an address, where at most one receives at a time. It is taken or refused, and the sender knows
which: a send that returned has put one message into the receiver's hands, one that was refused none; one that was
cancelled may have, but never two. Those hands hold so many; senders get room in the order in which they came, and two
that get it at the same moment put their messages there in either order.

A message can be *left* at an address instead: for whoever receives there now, or comes next. What was left comes before
what is sent, oldest first, and is forgotten when its receiver asks for the next message or leaves in order; one that
fails or dies with it in its hands has it come again, to itself or to the next. So it comes at least once.

An *event* is emitted under a topic, to whoever follows. Emitting never waits: a topic keeps its last events, numbered
from 1, and a follower reads them at its own pace. An event is kept from a moment after it was emitted on. A follower
that is so slow that events are gone before it comes to them is told which: its iterator raises `Missed` in their place,
once, and goes on after them. It raises rather than yields, so that who has not thought of it stops at the gap instead
of reading over it, and who has calls on.

A topic is emitted to from one place at a time, for it is a run's and a run has one owner. That owner ends it too, so
that followers end and it can be forgotten. Its numbers count within its life. Whoever remembers one for longer, such as
a browser that comes back after a restart, must remember the life too: name the topic after the run and its epoch.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol, Self

from .stream import Stream


class Inbox(Protocol):
    """The messages at an address, for who receives there: an iterator, for one task."""

    @property
    def ready(self) -> int:
        """How many messages can be had without waiting; there may be more. What was left before its block was entered
        is ready then, some dozens at least."""
        ...

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> bytes: ...


class Wire(Protocol):
    """Messages and events. `greenroom.testing` has a suite of tests for whoever writes another one."""

    async def send(self, to: str, message: bytes) -> None:
        """Give a message to whoever receives at that address, waiting while their hands are full.

        Raises:
            NobodyThere: nobody receives there, or who did left while this waited.
        """
        ...

    async def leave(self, at: str, message: bytes) -> None:
        """Leave a message for whoever receives at that address, now or next, also when this sender is long gone. It is
        there when this returns, and is kept for some days.

        Cancelled, it may have been left or not.
        """
        ...

    def receive(self, at: str) -> AbstractAsyncContextManager[Inbox]:
        """Be there, as long as the block lasts. The iterator is for one task.

        What was sent, taken and not looked at can still be had from the iterator after the block; then it ends. What
        was left and not looked at stays where it is, for the next one.

        Raises:
            AddressTaken: at the beginning of the block: somebody receives there. Whose process hangs does not count;
                should it go on, it may be given messages that the new one was given too.
        """
        ...

    def emit(self, topic: str, event: bytes) -> int:
        """Tell whoever follows, and return the event's number. Never waits."""
        ...

    def end(self, topic: str) -> None:
        """Say that nothing more comes: iterators of followers end after the last event. Another event opens it again.
        Also for a topic that another process has emitted to, which may be dead.

        What is kept can be followed for some time, then the topic is forgotten, and its next number is 1.
        """
        ...

    def follow(self, topic: str, after: int | None = None) -> Stream[tuple[int, bytes]]:
        """Events with their numbers: those that are kept, then those to come, until the topic ends.

        Its iterator raises `Missed` where events are not kept any more, and goes on.

        Args:
            topic: which. It need not exist yet; whether anything will come is for the journal to say.
            after: the number of the last event that is known; None for all that are kept, whatever was before. One that
                the topic has not reached is of a former life, so it stands for 0: numbers are seen to begin anew.

        Raises:
            ValueError: a number below 0.
        """
        ...
