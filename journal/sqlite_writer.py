"""The one thread that works with the file: batch by batch, in order.

It holds neither the journal nor its claims. A journal that nobody has any more closes the queue; then the thread writes
what is left and ends.

What fails alone is told to whom it concerns; what fails a transaction, to everybody in it. When the disk does not do
what it should, the journal as a whole is *broken* and stays so: an fsync that failed says nothing about what a second
one would return, so there is none.
"""

from __future__ import annotations

import ctypes
import sqlite3
import threading
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from anyio import CancelScope, Event, move_on_after

from ..loops import RunningLoop
from . import owners
from .errors import Damaged, JournalError, JournalFailed
from .owners import Owner
from .sqlite_batch import Call, Entry, Job, Queue, RunState
from .sqlite_file import open_file
from .sqlite_retention import Retention
from .sqlite_store import Store
from .sqlite_tables import is_damage, primary_code, said

Why: TypeAlias = Callable[[], JournalError]


#: What may be better next time.
_PASSING = {
    sqlite3.SQLITE_FULL: "disk full: {} could not be written; claim the run again when there is room",
    sqlite3.SQLITE_BUSY: "another process has locked the journal {} for too long; claim the run again",
    sqlite3.SQLITE_READONLY: "the journal {} has become read-only; claim the run again when that is mended",
}


class Broken(NamedTuple):
    """Why nothing works any more, and whether it is the disk's fault."""

    why: Why
    by_disk: bool


class Writer:
    """One opening of a journal's file. Make it in the event loop.

    Args:
        path, durability, clock, busy_timeout, retention, disk_timeout: those of the journal.
    """

    __slots__ = (
        *("__weakref__", "_ended", "_finalizer", "_outside", "_path", "_patience", "_thread"),
        *("queue", "states"),
    )

    def __init__(
        self,
        path: str,
        durability: str,
        clock: Callable[[], float],
        busy_timeout: float,
        retention: float | None,
        disk_timeout: float,
    ) -> None:
        loop = RunningLoop()
        owner = owners.opened()
        self._path = path
        self._patience = busy_timeout + disk_timeout
        self._outside = loop.outside
        self._ended = Event()
        #: The claim that is at work on each run, as far as this opening knows.
        self.states: dict[str, RunState] = {}
        self.queue = Queue(durability == "sync", loop.outside, self.states.__len__)
        self._thread = threading.Thread(
            target=_work,
            args=(
                self.queue,
                loop,
                partial(_open, path, durability, busy_timeout, owner, clock),
                None if retention is None else Retention(retention, clock),
                self._ended.set,
            ),
            name="greenroom-journal",
            daemon=True,
        )
        self._finalizer = weakref.finalize(self, _abandon, self.queue, owner)
        self._finalizer.atexit = False

    async def open(self) -> None:
        """Raises what opening the file raises."""
        call = Call(_nothing, writes=False)
        self._thread.start()
        try:
            await self.queue.ask(call)
        except BaseException:
            self._finalizer()
            if call.error is not None:
                self._thread.join()
            raise

    async def close(self) -> None:
        """Store what is waiting, then end.

        Raises:
            JournalFailed: it could not be stored, or the disk does not answer.
        """
        hangs = False
        with CancelScope(shield=True), self._outside:
            try:
                hangs = not await self._patiently(partial(self.queue.ask, Call(_nothing, writes=False)))
            finally:
                self._finalizer()
                hangs = hangs or not await self._patiently(self._ended.wait)
                if not hangs:
                    self._thread.join()
        if hangs:  # the thread is left behind
            raise JournalFailed(
                f"the disk of the journal {self._path} has not answered for {self._patience:g} seconds: what was not"
                " durable may not be stored; see what is wrong with it, then open the journal again"
            )

    async def _patiently(self, wait: Callable[[], Awaitable[object]]) -> bool:
        """Wait as long as the thread gets on; whether it was worth it."""
        while True:
            taken = self.queue.taken
            with move_on_after(self._patience):
                await wait()
                return True
            if self.queue.taken == taken:
                return False


def _abandon(queue: Queue, owner: Owner) -> None:
    """Nobody has the journal any more."""
    queue.close()
    owners.closed(owner)


def _nothing(store: Store) -> None:
    pass


# -- in the thread


def _open(path: str, durability: str, busy_timeout: float, owner: Owner, clock: Callable[[], float]) -> Store:
    return Store(open_file(path, durability, busy_timeout), path, owner, clock)


def _work(
    queue: Queue,
    loop: RunningLoop,
    open_store: Callable[[], Store],
    retention: Retention | None,
    ended: Callable[[], object],
) -> None:
    try:
        _work_on(queue, loop, open_store, retention)
    finally:
        loop.run(ended)


def _work_on(queue: Queue, loop: RunningLoop, open_store: Callable[[], Store], retention: Retention | None) -> None:
    batch = queue.take()  # the question whether it is open
    if batch is None:
        return
    try:
        store = open_store()
    except BaseException as error:
        for job in batch.jobs:
            if isinstance(job, Call):
                job.error = error
        loop.run(batch.settle)
        return
    broken: Broken | None = None
    while batch is not None:
        if batch.jobs:
            if broken is None:
                broken = _run(store, batch.jobs)
            else:
                _fail(batch.jobs, broken.why)
            loop.run(batch.settle)
        if broken is None:
            broken = _attempt(store, store.checkpoint_if_due)
        if broken is None and retention is not None:
            broken = _attempt(store, partial(retention.step, store))
        batch = queue.take(wait=broken is not None or retention is None or not retention.is_at_work)
    _close(store, broken)


def _run(store: Store, jobs: list[Job]) -> Broken | None:
    """Do these jobs."""
    try:
        store.run(jobs)
    except BaseException as error:
        why, broken = _judged(store, error)
        _fail(jobs, why)
        return broken
    return None


def _attempt(store: Store, function: Callable[[], None]) -> Broken | None:
    """Do what nobody waits for."""
    try:
        function()
    except BaseException as error:
        return _judged(store, error)[1]
    return None


def _judged(store: Store, error: BaseException) -> tuple[Why, Broken | None]:
    """What everybody is told whom an error concerns, and whether the journal is broken as a whole."""
    path, code = store.path, primary_code(error)
    if is_damage(error):
        return partial(Damaged, said(error), path=path), None
    if text := _PASSING.get(code):
        return partial(JournalFailed, text.format(path)), None
    what = str(error) if code else f"{type(error).__name__}: {error}"
    text = f"the journal {path} cannot be written any more ({what}); open it again when that is mended"
    why = partial(JournalFailed, text)
    return why, Broken(why, by_disk=code != 0)


def _fail(jobs: list[Job], why: Why) -> None:
    for job in jobs:
        if isinstance(job, Call):
            job.error = job.error or why()  # it may know better what is damaged
        elif isinstance(job, Entry) and job.state.refused is None:
            job.state.refused = why


def _close(store: Store, broken: Broken | None) -> None:
    if broken is None:
        broken = _attempt(store, store.checkpoint)
    connection = store.connection
    if broken is not None and broken.by_disk:
        # SQLite's last checkpoint would ask again for what has failed.
        setconfig: Any = getattr(connection, "setconfig", None)
        if setconfig is None:  # before Python 3.12: it stays open, also when the interpreter ends
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
            return
        setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)  # type: ignore[attr-defined]
    connection.close()
