"""A follower of a topic at a NATS server: what it knows is in `feed`, here is the hearing, the reading and the waiting.

It listens from its first step on. It reads only when its reader wants more, so one that is not read from costs what it
keeps in memory, and one that is forgotten stops listening.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple
from weakref import ref

import anyio
from anyio.lowlevel import checkpoint
from nats.aio.msg import Msg

from ..exchange import Missed, Stream
from ..exchange.bell import Bell
from ..loops import RunningLoop
from .errors import EngineError
from .events import Events
from .feed import Feed, Step, Word, decoded
from .line import Line
from .listening import Listening


class _Ears(NamedTuple):
    """What listens for a follower. Of the far side."""

    listening: Listening
    stop_watching: Callable[[], None]


class Follower(Stream[tuple[int, bytes]]):
    """The events of one topic, from wherever its reader is.

    Args:
        line: to the server.
        events: the stream.
        topic: its name.
        after: the number of the last event that is known, or None.
    """

    __slots__ = (
        *("__weakref__", "_bell", "_closed", "_ears", "_events", "_feed", "_line", "_loop"),
        *("_scope", "_steps", "_topic"),
    )

    def __init__(self, line: Line, events: Events, topic: str, after: int | None) -> None:
        self._ears: _Ears | None = None
        self._feed = Feed(topic, after)
        self._line = line
        self._events = events
        self._topic = topic
        self._bell = Bell()
        self._steps = anyio.Lock()
        self._scope: anyio.CancelScope | None = None
        self._closed = False
        self._loop = RunningLoop()

    async def __anext__(self) -> tuple[int, bytes]:
        await checkpoint()
        while not self._closed:
            step = self._feed.next()
            if isinstance(step, tuple):
                return step
            if isinstance(step, Missed):
                raise step
            if step is Step.OVER:
                break
            if step is Step.READ:
                await self._read()
            else:
                await self._bell.wait(self._feed.look_at)
                if self._feed.look_at <= anyio.current_time():
                    self._feed.look_again()
        raise StopAsyncIteration

    async def _read(self) -> None:
        async with self._steps:
            if self._feed.next() is not Step.READ or self._closed:  # somebody else was faster
                return
            with anyio.CancelScope() as self._scope:
                if self._ears is None:
                    me: ref[Follower] = ref(self)
                    with anyio.CancelScope(shield=True):
                        self._ears = await self._line.call(_listen, self._line, self._events, self._topic, me)
                if self._feed.pause:
                    await anyio.sleep(self._feed.pause)
                words, complete = await self._line.call(self._events.read, self._topic, self._feed.position)
                self._feed.read(words, complete, anyio.current_time())
            if self._closed:
                self._stop_listening()

    def hear(self, word: Word) -> None:
        self._feed.hear(word)
        self._bell.ring()

    def start_over(self) -> None:
        self._feed.start_over()
        self._bell.ring()

    async def aclose(self) -> None:
        self._closed = True
        if self._scope is not None:
            self._scope.cancel()
        self._bell.ring()
        self._stop_listening()

    def _stop_listening(self) -> None:
        ears, self._ears = self._ears, None
        if ears is not None:
            with suppress(EngineError):  # the line was closed, and all listening with it
                self._line.post(_stop, self._line, ears)

    def __del__(self) -> None:
        ears = self._ears
        if ears is not None:  # the collector comes at any moment, in any thread
            self._loop.run(self._stop_listening)


# -- on the far side


async def _listen(line: Line, events: Events, topic: str, follower: ref[Follower]) -> _Ears:
    def take(message: Msg) -> None:
        with suppress(struct.error):  # somebody else's
            line.home(_tell, follower, decoded(message.data))

    def start_over() -> None:
        line.home(_tell, follower, None)

    return _Ears(await line.link.listen(events.all_of(topic), take), line.link.watch(start_over))


def _stop(line: Line, ears: _Ears) -> None:
    ears.stop_watching()
    line.start(ears.listening.stop)


# -- at home


def _tell(follower: ref[Follower], word: Word | None) -> None:
    found = follower()
    if found is not None and word is not None:
        found.hear(word)
    elif found is not None:
        found.start_over()
