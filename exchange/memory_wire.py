"""A wire within one process.

Messages lie in a `Mailbox`, which hands over places instead of messages, so that a cancelled sender has sent nothing.
A follower has no buffer: it has a number, and reads what its topic keeps. So a follower that was forgotten costs
nothing, and emitting costs the same for a thousand followers as for none.

A topic that is over is forgotten some time later, with its count. One that somebody follows although nothing was
emitted under it is known only as long as somebody does.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Self
from weakref import WeakValueDictionary

import anyio

from ..mailbox import Budget, Envelope, Mailbox, MailboxClosed
from .bell import Bell
from .errors import AddressTaken, Missed, NobodyThere
from .inboxes import Inboxes
from .stream import Stream, as_bytes
from .topics import Topic


class MemoryWire:
    """Messages and events in memory. A send that was cancelled has sent nothing.

    Args:
        capacity: how many messages wait at an address before senders do.
        kept: how many events of a topic are kept.
        age: for how many seconds a topic is kept that is over.
        left_age: for how many seconds a message is kept that was left.

    Raises:
        ValueError: a capacity or a `kept` below 1, a `left_age` that is no time.
    """

    __slots__ = ("_age", "_budget", "_capacity", "_inboxes", "_kept", "_mailboxes", "_over", "_strong", "_topics")

    def __init__(
        self, *, capacity: int = 1_000, kept: int = 1_000, age: float = 900.0, left_age: float = 7 * 86_400.0
    ) -> None:
        if capacity < 1 or kept < 1:
            raise ValueError(f"capacity and kept must be 1 or more, not {capacity} and {kept}")
        self._capacity = capacity
        self._kept = kept
        self._age = age
        self._inboxes = Inboxes(left_age)
        self._budget = Budget()
        self._mailboxes: dict[str, Mailbox] = {}
        self._topics: WeakValueDictionary[str, _Topic] = WeakValueDictionary()
        self._strong: dict[str, _Topic] = {}  # those that were emitted to
        self._over: deque[tuple[float, str]] = deque()  # to be forgotten then

    async def send(self, to: str, message: bytes) -> None:
        envelope = Envelope(as_bytes(message))
        mailbox = self._mailboxes.get(to)
        if mailbox is None:
            raise NobodyThere(to)
        try:
            await mailbox.send(envelope)
        except MailboxClosed:
            raise NobodyThere(to) from None

    async def leave(self, at: str, message: bytes) -> None:
        data = as_bytes(message)
        await self._budget.spend()
        self._inboxes.leave(at, data, anyio.current_time())
        mailbox = self._mailboxes.get(at)
        if mailbox is not None:
            mailbox.wake()

    def receive(self, at: str) -> _Messages:
        return _Messages(self._mailboxes, self._inboxes, at, self._capacity)

    def emit(self, topic: str, event: bytes) -> int:
        data = as_bytes(event)
        found = self._strong.get(topic)
        if found is None:
            found = self._strong[topic] = self._topic(topic)
        found.forget_at = inf
        number = found.add(data)
        found.bell.ring()
        return number

    def end(self, topic: str) -> None:
        now = anyio.current_time()
        while self._over and self._over[0][0] <= now:
            moment, name = self._over.popleft()
            if name in self._strong and self._strong[name].forget_at == moment:
                del self._strong[name]
        found = self._topic(topic)
        found.forget_at = now + self._age
        found.bell.ring()
        if topic in self._strong:
            self._over.append((found.forget_at, topic))

    def follow(self, topic: str, after: int | None = None) -> Stream[tuple[int, bytes]]:
        if after is not None and after < 0:
            raise ValueError(f"after must be 0 or more, not {after}")
        return _Follower(topic, self._topic(topic), after)

    def _topic(self, name: str) -> _Topic:
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = _Topic(self._kept)
        return topic


class _Topic(Topic):
    """A topic whose followers wait, and the moment to forget it: inf while it is not over."""

    __slots__ = ("__weakref__", "bell", "forget_at")

    def __init__(self, kept: int) -> None:
        super().__init__(kept)
        self.bell = Bell()
        self.forget_at = inf


class _Follower(Stream[tuple[int, bytes]]):
    """The number of the next event to read."""

    __slots__ = ("_budget", "_closed", "_name", "_next", "_topic")

    def __init__(self, name: str, topic: _Topic, after: int | None) -> None:
        self._name = name
        self._topic = topic
        self._next = topic.first if after is None else after + 1 if after <= topic.last else 1
        self._closed = False
        self._budget = Budget()

    async def __anext__(self) -> tuple[int, bytes]:
        await self._budget.spend()
        topic = self._topic
        while self._next > topic.last and not self._closed and topic.forget_at == inf:
            await topic.bell.wait()
        if self._closed or self._next > topic.last:
            raise StopAsyncIteration
        number = self._next
        if number < topic.first:
            self._next = topic.first
            raise Missed(self._name, number, topic.first - 1)
        self._next = number + 1
        return number, topic[number]

    async def aclose(self) -> None:
        self._closed = True
        self._topic.bell.ring()


class _Messages(Stream[bytes]):
    """The receiver at an address: the block, and the iterator in it."""

    __slots__ = ("_at", "_budget", "_busy", "_in_hand", "_inboxes", "_left", "_mailbox", "_mailboxes")

    def __init__(self, mailboxes: dict[str, Mailbox], inboxes: Inboxes, at: str, capacity: int) -> None:
        self._mailboxes = mailboxes
        self._inboxes = inboxes
        self._at = at
        self._mailbox = Mailbox(capacity, address=at)
        self._in_hand: tuple[float, bytes] | None = None  # of what was left
        self._left: deque[Envelope] | None = None  # after the block
        self._budget = Budget()
        self._busy = False

    async def __aenter__(self) -> Self:
        if self._left is not None:
            raise RuntimeError("this block has been left: call receive() again")
        if self._at in self._mailboxes:
            raise AddressTaken(self._at)
        self._mailboxes[self._at] = self._mailbox
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if exc_info[0] is None:
            self._put_away()
        await self.aclose()

    async def aclose(self) -> None:
        if self._left is None:
            del self._mailboxes[self._at]
            self._left = deque(self._mailbox.close())
            self._mailbox.wake()

    @property
    def ready(self) -> int:
        if self._left is not None:
            return len(self._left)
        in_hand = self._in_hand is not None
        return self._inboxes.count(self._at, anyio.current_time()) - in_hand + len(self._mailbox.lanes.data)

    async def __anext__(self) -> bytes:
        if self._busy:
            raise anyio.BusyResourceError("receiving from")
        self._busy = True
        try:
            await self._budget.spend()
            if self._left is None:
                self._put_away()
            while self._left is None:
                self._in_hand = self._inboxes.first(self._at, anyio.current_time())
                if self._in_hand is not None:
                    return self._in_hand[1]
                if self._mailbox.lanes.data:
                    break
                await self._mailbox.park()
        finally:
            self._busy = False
        if self._left is None:
            return (await self._mailbox.receive()).message  # it is there: nothing is awaited
        if not self._left:
            raise StopAsyncIteration
        return self._left.popleft().message

    def _put_away(self) -> None:
        """What was in hand need not come again."""
        in_hand, self._in_hand = self._in_hand, None
        if in_hand is not None:
            self._inboxes.forget(self._at, in_hand)
