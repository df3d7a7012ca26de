"""Following a run from outside: a log of its events, and readers that each take them at their own pace.

A run publishes into its log synchronously and never waits for a reader. An event reader has a buffer with two bounds.
Beyond the first, deltas are merged into the one before, or dropped and counted in an `EventsDropped` that stands where
they were. At the second, the reader is detached: it gets what it has, then a `ReaderDetached` that names the sequence
to go on from. A log keeps its latest lifecycle events only; who asks for more than it has gets an `EventsDropped` for
what is gone. A text reader buffers nothing but text, which merges without loss: it is never detached.

Readers are held weakly: one that is forgotten in the middle costs nothing. They are iterator objects, not async
generators, because an abandoned generator warns on trio.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Self
from weakref import ref

import anyio
import msgspec
from anyio.lowlevel import checkpoint_if_cancelled

from ..providers.checks import is_whole
from .events import DELTAS, AnyEvent, Event, EventsDropped, ModelTextDelta, ModelThinkingDelta, RunCompleted

#: Buffered deltas beyond which a reader's further ones are merged or dropped.
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

    __slots__ = ("_ended", "_error", "_gone", "_gone_until", "_kept", "_readers")

    def __init__(self) -> None:
        # Made at its first use: most runs are never followed.
        self._kept: list[Event] | None = None
        #: How many lifecycle events are not kept any more, and the sequence number of the last of them.
        self._gone, self._gone_until = 0, 0
        #: A tuple, so that whoever goes through it minds no reader that comes or goes meanwhile.
        self._readers: tuple[ref[Reader], ...] = ()
        self._ended = False
        self._error: BaseException | None = None

    @property
    def followed(self) -> bool:
        """Whether anybody reads now who wants deltas."""
        return any((reader := known()) is not None and reader.deltas for known in self._readers)

    def publish(self, event: Event) -> None:
        """Hand an event to every reader."""
        if type(event) not in DELTAS:
            if self._kept is None:
                self._kept = []
            elif len(self._kept) >= KEPT:
                self._gone_until = self._kept.pop(0).seq
                self._gone += 1
            self._kept.append(event)
        for known in self._readers:
            if (reader := known()) is not None:
                reader.push(event)

    def end(self, error: BaseException | None) -> None:
        """Nothing more will come. Readers raise `error` after the last event, if there is one."""
        self._ended = True
        self._error = error
        for known in self._readers:
            if (reader := known()) is not None:
                reader.finish()

    def raise_error(self) -> None:
        """Raise what the run raises, if it does."""
        if self._error is not None:
            raise self._error

    def follow(self, since: int, deltas: bool = True) -> EventReader:
        """A reader of all kept events after `since`, and of everything to come.

        Raises:
            TypeError, ValueError: `since` is no sequence number.
        """
        if not is_whole(since):
            raise TypeError(f"events(since=) takes the sequence number of an event, or 0, not {since!r}")
        if since < 0:
            raise ValueError(f"events(since=) takes the sequence number of an event, or 0, not {since!r}")
        reader = EventReader(self, deltas)
        self.join(reader, since)
        return reader

    def join(self, reader: Reader, since: int) -> None:
        """Give a reader all kept events after `since`, and everything to come; first of all, what is gone of them."""
        if self._kept and since < self._gone_until:
            until = self._gone_until
            reader.push(_dropped(self._kept[0], until, min(self._gone, until - since)))
        for event in self._kept or ():
            if event.seq > since:
                reader.push(event)
        if self._ended:
            reader.finish()
        else:
            self._readers = (*self._others(reader), ref(reader))

    def drop(self, reader: Reader) -> None:
        """Forget a reader."""
        self._readers = self._others(reader)

    def _others(self, reader: Reader) -> tuple[ref[Reader], ...]:
        """The readers that are still there, without this one."""
        return tuple([known for known in self._readers if known() not in (None, reader)])


class Reader:
    """One who reads a log, and waits where there is nothing to read.

    Args:
        log: the log.
        deltas: whether it wants deltas; a run that has no such reader need not stream.
    """

    __slots__ = ("__weakref__", "_finished", "_wake", "deltas", "log")

    def __init__(self, log: EventLog, deltas: bool = True) -> None:
        self.log = log
        self.deltas = deltas
        self._wake: anyio.Event | None = None
        self._finished = False

    def __aiter__(self) -> Self:
        return self

    def push(self, event: Event) -> None:
        """Take what is of use of an event; never waits."""
        raise NotImplementedError

    def finish(self) -> None:
        """Nothing more will come."""
        self._finished = True
        self._tell()

    def _tell(self) -> None:
        if self._wake is not None:
            self._wake.set()
            self._wake = None

    async def _more(self) -> None:
        """Wait for more, or raise what comes at the end. Cancelling it loses nothing."""
        if self._finished:
            self.log.raise_error()
            raise StopAsyncIteration
        if self._wake is None:
            self._wake = anyio.Event()
        # asyncio cancels only who waits; one who is woken at each turn of the loop never does when that is looked at.
        await checkpoint_if_cancelled()
        await self._wake.wait()


class EventReader(Reader):
    """Iterates the events of a run; raises the run's error after the last one.

    Raises:
        ReaderDetached: the reader fell too far behind.
    """

    __slots__ = ("_buffer", "_deltas", "_detached", "_last")

    def __init__(self, log: EventLog, deltas: bool = True) -> None:
        super().__init__(log, deltas)
        self._buffer: deque[Event] = deque()
        self._deltas = 0  # of them in the buffer
        self._detached = False
        self._last = 0

    @property
    def waiting(self) -> int:
        """Events that are there to be read without a wait."""
        return len(self._buffer)

    def push(self, event: Event) -> None:
        """Take an event; never waits."""
        if type(event) in DELTAS:
            if not self.deltas:
                return
            if self._deltas < DELTA_BOUND:
                self._append(event)
                self._deltas += 1
            else:
                self._squeeze(event)
        else:
            self._append(event)
        self._tell()

    def _append(self, event: Event) -> None:
        if len(self._buffer) < READER_BOUND:
            self._buffer.append(event)
        else:
            self._detached = self._finished = True
            self.log.drop(self)

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
            self._append(_dropped(delta, delta.seq, 1))

    async def __anext__(self) -> AnyEvent:
        while not self._buffer:
            if self._detached:
                raise ReaderDetached(self._last)
            await self._more()
        event = self._buffer.popleft()
        if type(event) in DELTAS:
            self._deltas -= 1
        self._last = event.seq
        return event  # type: ignore[return-value]


def _dropped(place: Event, seq: int, count: int) -> EventsDropped:
    """That so many events are missing, up to this number, at the place of an event."""
    common: dict[str, Any] = {name: getattr(place, name) for name in Event.__struct_fields__}
    common["seq"] = seq
    return EventsDropped(**common, count=count)


class TextReader(Reader):
    """Iterates the text of one run without its subagents as it comes; raises the run's error after the last piece.

    What the model says in a turn that nobody followed from its beginning is not streamed. If that was the last turn,
    the answer comes at the end, whole. So does one that comes by an output tool, as JSON.

    Args:
        log: the run's log.
        run_id: the run.
        shown, turn: what has been streamed of the turn at hand before this reader came.
    """

    __slots__ = ("_pieces", "_run_id", "_turn")

    def __init__(self, log: EventLog, run_id: str, shown: str = "", turn: int = 0) -> None:
        super().__init__(log)
        self._run_id = run_id
        self._pieces: deque[str] = deque([shown] if shown else ())
        self._turn = turn if shown else -1  # the last one of which there was text
        self.log.join(self, 0)

    def push(self, event: Event) -> None:
        """Take the text of an event, if it has any for us; never waits."""
        if isinstance(event, ModelTextDelta):
            if event.run_id == self._run_id:
                self._turn = event.turn
                self._append(event.text)
        elif isinstance(event, RunCompleted) and event.run_id == self._run_id and self._lacks(event):
            self._append(event.text)

    def _lacks(self, end: RunCompleted) -> bool:
        """Whether the answer was not streamed as text."""
        return end.turn != self._turn or end.output_tool is not None

    def _append(self, text: str) -> None:
        if not text:
            return
        if len(self._pieces) >= DELTA_BOUND:
            self._pieces = deque(["".join(self._pieces)])
        self._pieces.append(text)
        self._tell()

    async def __anext__(self) -> str:
        while not self._pieces:
            await self._more()
        return self._pieces.popleft()
