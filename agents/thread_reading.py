"""What blocking code iterates: the events and the text of a run, and results as they come."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ..actors import SystemClosed
from .held_block import HeldBlock
from .many import CompletedRuns
from .readers import EventReader, Reader, TextReader
from .run import Run
from .system_thread import SystemThread

T = TypeVar("T")


class ThreadCompleted(Generic[T]):
    """``with system.as_completed(…) as results: for index, result in results: …``.

    Leaving the block early cancels the runs that are left. Any number of threads may iterate: each result goes to one.
    """

    __slots__ = ("_held", "_results", "_thread")

    def __init__(self, thread: SystemThread, held: HeldBlock[CompletedRuns[T]]) -> None:
        self._thread = thread
        self._held = held
        self._results: CompletedRuns[T] | None = None

    def __enter__(self) -> Self:
        self._results = self._held.enter()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._held.leave(exc is not None)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[int, T]:
        results = self._results
        if results is None:
            raise RuntimeError("as_completed is a block: `with system.as_completed(…) as results:`")

        async def take() -> tuple[int, T] | None:
            return await anext(results, None)

        found = self._thread.call("system.as_completed()", take)
        if found is None:
            raise StopIteration
        return found


class Reading(Iterator[T], Generic[T]):
    """Iterates what a reader in the loop reads: everything that is there at once, so that not each item is a call."""

    __slots__ = ("_come", "_has_more", "_lock", "_over", "_reader", "_run", "_thread", "_what")

    def __init__(
        self,
        thread: SystemThread,
        what: str,
        run: Run[Any],
        follow: Callable[[], AsyncIterator[T]],
        has_more: Callable[[Any], bool],
    ) -> None:
        self._thread = thread
        self._what = what
        self._run = run
        self._has_more = has_more
        self._come: deque[T] = deque()
        self._over = False
        self._lock = threading.Lock()
        self._reader: AsyncIterator[T] | None = None

        async def begin() -> None:
            self._reader = follow()

        self._call(begin)

    def __next__(self) -> T:
        with self._lock:
            if not self._come and not self._over:
                self._thread.refuse_waiting(self._what, self._run._cell)
                self._call(self._take)
            if not self._come:
                raise StopIteration
            return self._come.popleft()

    async def _take(self) -> None:
        """Wait for one, and take what is there. An interrupt loses nothing, since all of it is kept here at once."""
        assert self._reader is not None
        try:
            self._come.append(await anext(self._reader))
            while self._has_more(self._reader):
                self._come.append(await anext(self._reader))
        except StopAsyncIteration:
            self._over = True

    def _call(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            self._thread.call(self._what, function)
        except SystemClosed:
            if self._run._cell.exit is None:
                raise
            _perform(function())  # the run has ended, so there is nothing to wait for

    def __del__(self) -> None:
        # The loop has weak references to its readers: one must not vanish in another thread while it looks at them.
        reader = getattr(self, "_reader", None)
        if isinstance(reader, Reader):
            self._thread.post(reader.log.drop, reader)


def _perform(coroutine: Coroutine[Any, Any, None]) -> None:
    """Perform what waits for nothing, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise AssertionError("a reader of a run that has ended waits")


def has_events(reader: EventReader) -> bool:
    """Whether it has an event without waiting."""
    return bool(reader._buffer)


def has_text(reader: TextReader) -> bool:
    """Whether it has text without waiting."""
    return bool(reader._pieces)
