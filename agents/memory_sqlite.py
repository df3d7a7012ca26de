"""Notes in a file, with SQLite's full-text search.

One thread has the file and does one thing after the other; whoever wants something waits in its own event loop, and no
loop ever waits for the disk. So one store serves any number of loops and threads. Whoever is cancelled waits no longer:
what the thread has not begun is never done, what it has begun comes to its end, as one transaction.

The thread begins with the first use and ends with `close`, or when nobody has the store any more.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeAlias

from anyio import Event, move_on_after
from anyio.lowlevel import checkpoint_if_cancelled

from ..loops import RunningLoop
from ..providers.checks import is_number
from .memory import (
    LIMIT,
    MAX_LENGTH,
    MAX_NOTES,
    MemoryFailed,
    Note,
    check_bounds,
    check_note_id,
    check_query,
    check_scope,
    read_text,
)
from .memory_file import MemoryFile

#: Seconds that closing waits for a disk that does not answer, besides the time for other processes.
DISK_TIMEOUT = 10.0


class SqliteMemory:
    """Notes in a file: ``memory = SqliteMemory("notes.db")``, for `Agent(memory=…)` or by itself.

    The file is opened at the first use; ``async with memory:`` or ``await memory.close()`` closes it, and using the
    store again opens it again. It may be used from any event loop and thread, and several processes may have the file
    open. The file and the two that SQLite keeps beside it lie on a local disk; they are readable and writable by their
    user alone.

    What was remembered outlives the process, however that ends. When the machine dies, the last notes may be lost.

    Args:
        path: the file; it is made if there is none.
        max_length: characters of one note (default 2000).
        max_notes: notes of one scope (default 1000); then the one goes that was remembered longest ago.
        busy_timeout: seconds to wait for another process that writes (default 5); then `MemoryFailed`.
        clock: seconds since 1970.

    Raises:
        TypeError, ValueError: an argument that cannot work.

    Its methods raise `MemoryFailed` for what is wrong with the file: `NotAMemory` when it is something else,
    `NewerMemory` when a later version has written it.
    """

    __slots__ = (
        *("__weakref__", "_busy_timeout", "_clock", "_lock", "_max_length", "_max_notes", "_worker"),
        "path",
    )

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_length: int = MAX_LENGTH,
        max_notes: int = MAX_NOTES,
        busy_timeout: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"path is a text or a Path, not {path!r}")
        if not os.fspath(path) or os.fspath(path) == ":memory:":
            raise ValueError("path is that of a file; notes in this process are LocalMemory()")
        check_bounds(max_length, max_notes)
        if not is_number(busy_timeout):
            raise TypeError(f"busy_timeout= takes a number of seconds, not {busy_timeout!r}")
        if busy_timeout < 0:
            raise ValueError(f"busy_timeout= takes seconds, 0 or more, not {busy_timeout!r}")
        self.path = os.path.abspath(path)
        self._max_length = max_length
        self._max_notes = max_notes
        self._busy_timeout = busy_timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._worker: _Worker | None = None

    async def remember(self, text: str, *, scope: str | None) -> str:
        """See `Memory.remember`."""
        text = read_text(text, self._max_length)
        check_scope(scope)
        return await self._ask(partial(_remember, text, scope or ""))

    async def recall(self, query: str, *, scope: str | None, limit: int = LIMIT) -> list[Note]:
        """See `Memory.recall`."""
        check_query(query, limit)
        check_scope(scope)
        return await self._ask(partial(_recall, query, scope or "", limit))

    async def forget(self, note_id: str, *, scope: str | None) -> bool:
        """See `Memory.forget`."""
        check_note_id(note_id)
        check_scope(scope)
        return await self._ask(partial(_forget, note_id, scope or ""))

    async def close(self) -> None:
        """Do what was asked for, then close the file. Closing what is closed is harmless.

        Raises:
            MemoryFailed: the disk does not answer; the thread is left behind.
        """
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is None or worker.process != os.getpid():
            return
        job = _Job(MemoryFile.close)
        worker.jobs.put(job)
        worker.dismiss()
        patience = self._busy_timeout + DISK_TIMEOUT
        with move_on_after(patience, shield=True):
            await job.wait()
            worker.thread.join()
            return
        raise MemoryFailed(f"the disk of the notes {self.path} has not answered for {patience:g} seconds")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except MemoryFailed:
            if exc is None:
                raise

    async def _ask(self, function: Callable[[MemoryFile], Any]) -> Any:
        await checkpoint_if_cancelled()
        job = _Job(function)
        with self._lock:  # so that nothing comes behind the end of a thread
            worker = self._worker
            if worker is None or worker.process != os.getpid():  # threads do not come along when a process forks
                file = MemoryFile(self.path, self._busy_timeout, self._max_notes, self._clock)
                worker = self._worker = _Worker(self, file)
            worker.jobs.put(job)
        return await job.wait()

    def __repr__(self) -> str:
        return f"<SqliteMemory {self.path}>"


def _remember(text: str, scope: str, file: MemoryFile) -> str:
    return file.remember(text, scope)


def _recall(query: str, scope: str, limit: int, file: MemoryFile) -> list[Note]:
    return file.recall(query, scope, limit)


def _forget(note_id: str, scope: str, file: MemoryFile) -> bool:
    return file.forget(note_id, scope)


class _Job:
    """Something to do in the thread. Make it in the event loop that waits for it."""

    __slots__ = ("_done", "_error", "_function", "_given_up", "_loop", "_result")

    def __init__(self, function: Callable[[MemoryFile], Any]) -> None:
        self._function = function
        self._loop = RunningLoop()
        self._done = Event()
        self._given_up = False
        self._result: Any = None
        self._error: BaseException | None = None

    async def wait(self) -> Any:
        """The result, or what was raised. Cancelling gives the job up."""
        try:
            with self._loop.outside:
                await self._done.wait()
        except BaseException:
            self._given_up = True
            raise
        error, self._error = self._error, None
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error  # its traceback holds this frame

    def perform(self, file: MemoryFile) -> None:
        """Do it, in the thread, unless nobody waits for it any more."""
        if self._given_up:
            return
        try:
            self._result = self._function(file)
        except BaseException as error:
            self._error = error
        self._loop.run(self._done.set)


_Jobs: TypeAlias = "SimpleQueue[_Job | None]"


class _Worker:
    """The thread of one opening of a store. It does not hold the store."""

    __slots__ = ("dismiss", "jobs", "process", "thread")

    def __init__(self, store: SqliteMemory, file: MemoryFile) -> None:
        self.process = os.getpid()
        self.jobs: _Jobs = SimpleQueue()
        #: Let the thread end when it has done what lies in front of it.
        self.dismiss = weakref.finalize(store, self.jobs.put, None)
        self.dismiss.atexit = False
        self.thread = threading.Thread(target=_work, args=(self.jobs, file), name="greenroom-memory", daemon=True)
        self.thread.start()


def _work(jobs: _Jobs, file: MemoryFile) -> None:
    while (job := jobs.get()) is not None:
        job.perform(file)
        del job  # it holds an event loop
    file.close()
