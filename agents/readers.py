"""Following a run from outside: a log of its events, and readers that each take them at their own pace.

A run publishes into its log synchronously and never waits for a reader. A reader has a buffer with two bounds. Beyond
the first, deltas are merged into the one before, or dropped and counted in an `EventsDropped` that stands where they
were. At
the second, the reader is detached: it gets what it has, then a `ReaderDetached` that names the sequence to go on from.

Readers are held weakly: one that is forgotten in the middle costs nothing. They are iterator objects, not async
generators, because an abandoned generator warns on trio.
"""

from __future__ import annotations

from collections import deque
from typing import Self
from weakref import WeakSet

import anyio
import msgspec

from .events import DELTAS, AnyEvent, Event, EventsDropped, ModelTextDelta, ModelThinkingDelta

#: Buffered events beyond which a reader's deltas are merged or dropped.
DELTA_BOUND = 256
#: Buffered events at which a reader is detached.
READER_BOUND = 10_000
#: Lifecycle events that a log keeps for readers that come later.
KEPT = 1_000


class ReaderDetached(Exception):
    """This reader was too slow: follow again with ``run.events(since=error.since)``."""

    def __init__(self, since: int) -> None:
        super().__init__(f"the reader fell behind and was detached; follow again with run.events(since={since})")
        self.since = since


class EventLog:
    """The events of one run and of the runs below it."""

    __slots__ = ("_ended", "_error", "_kept", "_readers")

    def __init__(self) -> None:
        # Both are made at their first use: most runs are never followed.
        self._kept: deque[Event] | None = None
        self._readers: WeakSet[EventReader] | None = None
        self._ended = False
        self._error: BaseException | None = None

    @property
    def followed(self) -> bool:
        """Whether anybody reads now."""
        return bool(self._readers)

    def publish(self, event: Event) -> None:
        """Hand an event to every reader."""
        if type(event) not in DELTAS:
            if self._kept is None:
                self._kept = deque(maxlen=KEPT)
            self._kept.append(event)
        for reader in tuple(self._readers or ()):
            reader.push(event)

    def end(self, error: BaseException | None) -> None:
        """Nothing more will come. Readers raise `error` after the last event, if there is one."""
        self._ended = True
        self._error = error
        for reader in tuple(self._readers or ()):
            reader.finish()

    def raise_error(self) -> None:
        """Raise what the run raises, if it does."""
        if self._error is not None:
            raise self._error

    def follow(self, since: int) -> EventReader:
        """A reader of all kept events after `since`, and of everything to come."""
        reader = EventReader(self)
        for event in self._kept or ():
            if event.seq > since:
                reader.push(event)
        if self._ended:
            reader.finish()
        else:
            if self._readers is None:
                self._readers = WeakSet()
            self._readers.add(reader)
        return reader

    def drop(self, reader: EventReader) -> None:
        """Forget a reader."""
        if self._readers is not None:
            self._readers.discard(reader)


class EventReader:
    """Iterates the events of a run; raises the run's error after the last one.

    Raises:
        ReaderDetached: the reader fell too far behind.
    """

    __slots__ = ("__weakref__", "_buffer", "_detached", "_dropped", "_finished", "_last", "_log", "_wake")

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._buffer: deque[Event] = deque()
        self._wake: anyio.Event | None = None
        self._finished = False
        self._detached = False
        self._dropped: Event | None = None
        self._last = 0

    def push(self, event: Event) -> None:
        """Take an event; never waits."""
        buffer = self._buffer
        if len(buffer) >= DELTA_BOUND and type(event) in DELTAS:
            self._squeeze(event)
        elif len(buffer) >= READER_BOUND:
            self._detached = True
            self._log.drop(self)
            self.finish()
        else:
            buffer.append(event)
        if self._wake is not None:
            self._wake.set()

    def _squeeze(self, delta: Event) -> None:
        """Merge a delta into the last event, or count it as dropped."""
        last = self._buffer[-1]
        if (
            isinstance(delta, ModelTextDelta | ModelThinkingDelta)
            and type(last) is type(delta)
            and isinstance(last, ModelTextDelta | ModelThinkingDelta)
            and (last.run_id, last.turn) == (delta.run_id, delta.turn)
        ):
            self._buffer[-1] = msgspec.structs.replace(last, seq=delta.seq, text=last.text + delta.text)
        elif isinstance(last, EventsDropped):
            self._buffer[-1] = msgspec.structs.replace(last, seq=delta.seq, count=last.count + 1)
        else:
            common = {name: getattr(delta, name) for name in Event.__struct_fields__}
            self._buffer.append(EventsDropped(**common, count=1))

    def finish(self) -> None:
        """Nothing more will come."""
        self._finished = True
        if self._wake is not None:
            self._wake.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AnyEvent:
        while not self._buffer:
            if self._detached:
                raise ReaderDetached(self._last)
            if self._finished:
                self._log.raise_error()
                raise StopAsyncIteration
            self._wake = anyio.Event()
            try:
                await self._wake.wait()
            finally:
                self._wake = None
        event = self._buffer.popleft()
        self._last = event.seq
        return event  # type: ignore[return-value]


class TextReader:
    """Iterates the answer's text as it comes, of one run without its subagents."""

    __slots__ = ("_reader", "_run_id")

    def __init__(self, reader: EventReader, run_id: str) -> None:
        self._reader = reader
        self._run_id = run_id

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while True:
            event = await self._reader.__anext__()
            if isinstance(event, ModelTextDelta) and event.run_id == self._run_id:
                return event.text
