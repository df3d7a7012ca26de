"""A wire over a NATS server: messages to whoever is there, messages that are left, and events.

A message is a request to the subject of its address. The server itself says when nobody listens there. A receiver
answers when it has the message in its hands; until then the sender asks again, with the same name, so that no message
comes twice (`receiver`). What is left goes to a stream (`inbox`). Events are said without waiting for anything, and a
stream in the server's memory keeps the last ones (`events`, `follower`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from contextlib import AsyncExitStack, suppress
from math import inf
from time import monotonic
from typing import Self

import anyio

from ..exchange import NobodyThere, Stream
from ..exchange.stream import as_bytes
from .errors import EngineAway, EngineError, EngineRefused, NobodyAnswers
from .events import Events
from .feed import END, EVENT, STATE, Word, encoded
from .follower import Follower
from .inbox import Inboxes
from .line import Line
from .outbox import Outbox
from .questions import TRY
from .receiver import MESSAGE, NAMED, TAKEN, WITHDRAWN, Receiver
from .settings import Settings
from .subjects import subject

#: Seconds after the connection came back in which receivers may not be back yet.
COMING_BACK = 3.0
#: Seconds between two tries in such a case.
PAUSE = 0.1
#: Bytes that an event has besides its own.
HEAD = 200


class _Topic:
    """A topic that is emitted to here."""

    __slots__ = ("forget_at", "is_over", "last", "life")

    def __init__(self) -> None:
        self.life = secrets.randbits(64)
        self.last = 0
        self.forget_at = inf
        self.is_over = False


class JetStreamWire:
    """Messages and events over a NATS server: ``async with JetStreamWire(line) as wire:``.

    Args:
        line: to the server. One that is not open is opened for the block.
        settings: what names begin with, and how safely what is left is stored.
        capacity: how many messages wait at an address before senders do.
        kept: how many events of a topic are kept.
        age: for how many seconds events are kept.
        left_age: for how many seconds a message is kept that was left.
        patience: seconds for which a server that does not answer is asked again.

    Raises:
        ValueError: a number that cannot work.
    """

    __slots__ = (
        *("_back_at", "_capacity", "_events", "_inbox", "_line", "_outbox", "_over", "_age", "_patience", "_settings"),
        *("_stack", "_stop_watching", "_topics"),
    )

    def __init__(
        self,
        line: Line,
        settings: Settings | None = None,
        *,
        capacity: int = 1_000,
        kept: int = 1_000,
        age: float = 900.0,
        left_age: float = 7 * 86_400.0,
        patience: float = 30.0,
    ) -> None:
        if capacity < 1 or kept < 1:
            raise ValueError(f"capacity and kept must be 1 or more, not {capacity} and {kept}")
        if not (0.1 <= age < inf and 0.1 <= left_age < inf and 0 < patience < inf):
            raise ValueError(
                f"age and left_age must be seconds from 0.1 up, patience above 0, not {age}, {left_age} and {patience}"
            )
        self._line = line
        self._settings = settings or Settings()
        self._capacity = capacity
        self._age = age
        self._patience = patience
        self._events = Events(line, self._settings, kept, age, patience)
        self._inbox = Inboxes(line, self._settings, left_age, patience)
        self._topics: dict[str, _Topic] = {}
        self._over: deque[tuple[float, str]] = deque()  # topics to be forgotten then
        self._outbox: Outbox | None = None
        self._back_at = -inf
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Find the streams, or make them.

        Raises:
            EngineError: there is no server, or it has no such streams and cannot have them.
        """
        self._stack = await self._line.borrow(self._open)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            outbox, self._outbox = self._outbox, None
            if outbox is not None:
                with suppress(EngineError), anyio.CancelScope(shield=True), anyio.move_on_after(TRY):
                    await self._line.call(self._close, outbox)
        finally:
            await self._stack.aclose()

    async def send(self, to: str, message: bytes) -> None:
        outbox = self._opened()
        name = secrets.token_bytes(NAMED)
        if not await self._line.call(self._send, self._subject(to), name, as_bytes(message), outbox):
            raise NobodyThere(to)

    async def leave(self, at: str, message: bytes) -> None:
        self._opened()
        await self._line.call(self._inbox.leave, at, as_bytes(message))

    def receive(self, at: str) -> Receiver:
        return Receiver(self._line, self._subject(at), at, self._capacity, self._inbox, self._opened())

    def emit(self, topic: str, event: bytes) -> int:
        data = as_bytes(event)
        outbox = self._opened()
        most = self._line.link.client.max_payload - HEAD
        if len(data) > most:
            raise EngineRefused(
                f"an event of {len(data):,} bytes is too large for the NATS server, which takes {most:,}:"
                " raise its max_payload",
                413,
            )
        found = self._topics.get(topic)
        if found is None:
            found = self._topics[topic] = _Topic()
        found.forget_at = inf
        found.is_over = False
        found.last += 1
        self._say(outbox, topic, Word(EVENT, found.last, found.life, data))
        return found.last

    def end(self, topic: str) -> None:
        outbox = self._opened()
        now = anyio.current_time()
        self._forget(now)
        found = self._topics.get(topic)
        if found is None:
            self._say(outbox, topic, Word(END, 0, 0))
            return
        found.is_over = True
        found.forget_at = now + self._age
        self._over.append((found.forget_at, topic))
        self._say(outbox, topic, Word(END, found.last, found.life))

    def follow(self, topic: str, after: int | None = None) -> Stream[tuple[int, bytes]]:
        if after is not None and after < 0:
            raise ValueError(f"after must be 0 or more, not {after}")
        self._opened()
        return Follower(self._line, self._events, topic, after)

    def _opened(self) -> Outbox:
        if self._outbox is None:
            raise EngineError("this wire is not open: open it with `async with`")
        return self._outbox

    def _subject(self, at: str) -> str:
        return subject(self._settings.prefix, "at", at)

    def _say(self, outbox: Outbox, topic: str, word: Word) -> None:
        self._line.post(outbox.put, self._events.subject(topic, word.what), encoded(word))

    def _forget(self, now: float) -> None:
        while self._over and self._over[0][0] <= now:
            moment, topic = self._over.popleft()
            if topic in self._topics and self._topics[topic].forget_at == moment:
                del self._topics[topic]

    def _say_how_far(self) -> None:
        """After a loss of the connection: followers may have missed the last events, and the end."""
        outbox = self._outbox
        if outbox is not None:
            for topic, found in self._topics.items():
                self._say(outbox, topic, Word(END if found.is_over else STATE, found.last, found.life))

    # -- on the far side

    async def _open(self) -> None:
        await self._events.make()
        await self._inbox.make()
        self._outbox = Outbox(self._line.link, self._line.start)
        self._stop_watching = self._line.link.watch(self._on_back)

    async def _close(self, outbox: Outbox) -> None:
        self._stop_watching()
        await outbox.flush()

    def _on_back(self) -> None:
        self._back_at = monotonic()
        self._line.start(self._make_anew)

    async def _make_anew(self) -> None:
        await self._events.make()
        self._line.home(self._say_how_far)

    async def _send(self, to: str, name: bytes, message: bytes, outbox: Outbox) -> bool:
        """Whether it was taken."""
        link = self._line.link
        request = MESSAGE + name + message
        try:
            while True:
                with anyio.move_on_after(self._patience) as lost:
                    await link.until_connected()
                if lost.cancelled_caught:
                    raise link.away()
                try:
                    return (await link.ask(to, request)).data == TAKEN
                except NobodyAnswers:
                    if monotonic() > self._back_at + COMING_BACK:
                        return False
                    await anyio.sleep(PAUSE)
                except EngineAway:
                    continue  # it waits for room, or the connection broke
        except asyncio.CancelledError:
            outbox.put(to, WITHDRAWN + name)
            raise
