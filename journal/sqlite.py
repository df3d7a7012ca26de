"""The journal in a file, with SQLite: what the event loop has of it.

`append` puts an entry into the batch that is being filled; one thread makes a transaction of each batch
(`sqlite_writer.py`, `sqlite_store.py`), and `durable` waits for the batch of the claim's last entry. What is known here
of a claim is in its `RunState`.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Literal, Self, TypeAlias, get_args

from .errors import Damaged, Fenced, JournalClosed, JournalError, RunExists, RunFinished
from .journal import Claim, Listed, check_moment
from .sqlite_batch import Call, Entry, Queue, Release, RunState
from .sqlite_store import Asked, Pruned, Store
from .sqlite_writer import Writer

#: Bytes of one entry; SQLite's own limit is not far away.
LARGEST = 500_000_000

_CLOSED = "the journal is not open: enter it with `async with`, or give it to a System"

Durability: TypeAlias = Literal["sync", "group", "none"]


class SqliteJournal:
    """A journal in a file: ``async with SqliteJournal("runs.journal") as journal:``.

    Several processes may have the file open. The file and the two that SQLite keeps beside it lie on a local disk; they
    are readable and writable by their user alone.

    Args:
        path: the file; it is made if there is none.
        durability: what `durable` waits for.

            - ``"sync"``: each entry is a transaction of its own and its own fsync.
            - ``"group"``: whatever entries of all runs came together is one transaction and one fsync. As safe, and
              far faster when many runs write.
            - ``"none"``: transactions without fsync. What is durable survives the death of the process (also
              ``kill -9``), but not of the machine.
        clock: seconds since 1970.
        busy_timeout: seconds to wait for another process that has locked the file.
        retention: seconds that finished runs are kept; None (the default) keeps them for ever. Older ones are pruned
            when the journal is opened and then about once an hour as long as it is used, without keeping anybody
            waiting. A conversation goes on from its last run, so this is how long one may rest.
        disk_timeout: seconds that closing waits, in addition to `busy_timeout`, for a disk that stores nothing
            (default 10); then it fails with `JournalFailed`, so that a System ends also where its disk hangs.
    """

    __slots__ = (
        *("__weakref__", "_busy_timeout", "_clock", "_disk_timeout", "_durability", "_retention", "_thread", "_writer"),
        "path",
    )

    #: What is durable outlives this object.
    survives = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "group",
        clock: Callable[[], float] = time.time,
        busy_timeout: float = 5.0,
        retention: float | None = None,
        disk_timeout: float = 10.0,
    ) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"path is a text or a Path, not {path!r}")
        if durability not in get_args(Durability):
            raise ValueError(f"durability is one of {', '.join(get_args(Durability))}, not {durability!r}")
        if not os.fspath(path) or os.fspath(path) == ":memory:":
            raise ValueError("path is that of a file; a journal in memory is MemoryJournal(keep=True)")
        if not busy_timeout >= 0:
            raise ValueError(f"busy_timeout is in seconds, 0 or more, not {busy_timeout!r}")
        if retention is not None and not 0 <= retention < math.inf:
            raise ValueError(f"retention is in seconds, 0 or more, or None to keep all runs, not {retention!r}")
        if not disk_timeout >= 0:
            raise ValueError(f"disk_timeout is in seconds, 0 or more, not {disk_timeout!r}")
        self.path = os.path.abspath(path)
        self._durability = durability
        self._clock = clock
        self._busy_timeout = busy_timeout
        self._retention = retention
        self._disk_timeout = disk_timeout
        self._writer: Writer | None = None
        self._thread = 0

    @property
    def is_open(self) -> bool:
        return self._writer is not None

    async def __aenter__(self) -> Self:
        if self._writer is not None:
            raise RuntimeError(f"the journal {self.path} is open already")
        writer = Writer(
            self.path, self._durability, self._clock, self._busy_timeout, self._retention, self._disk_timeout
        )
        await writer.open()
        self._writer = writer
        self._thread = threading.get_ident()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                await writer.close()
            except JournalError:
                if exc is None:
                    raise

    def create(self, run_id: str, *, parent_id: str | None = None, conversation_id: str | None = None) -> Claim:
        writer = self._opened()
        self._check_new(writer, run_id)
        _check_texts(run_id, parent_id, conversation_id)
        state = RunState(run_id, 1, writer.queue)
        state.is_new = True
        state.parent_id, state.conversation_id = parent_id, conversation_id
        claim = Claim(run_id, 1, 0)
        claim.noted = state
        return claim

    async def claim(self, run_id: str, *, after: int | None = None) -> Claim:
        writer = self._opened()
        _check_texts(run_id)
        epoch, length = await writer.queue.ask(
            Call(partial(_claim, run_id, after), writes=True, unwanted=partial(_let_go, writer.queue, run_id))
        )
        claim = Claim(run_id, epoch, length)
        claim.noted = RunState(run_id, epoch, writer.queue)
        former = writer.states.get(run_id)
        if former is not None and former.epoch < epoch:
            former.refused = partial(Fenced, run_id, former.epoch)
        if former is None or former.epoch < epoch:
            writer.states[run_id] = claim.noted
        return claim

    def append(self, claim: Claim, entry: bytes, *, final: bool = False, sequence: int | None = None) -> int:
        writer = self._opened()
        state: RunState | None = claim.noted
        if state is None or state.queue is not writer.queue:
            state = self._adopt(writer, claim)
        if state.refused is not None:
            raise state.refused()
        if type(entry) is not bytes:
            entry = bytes(memoryview(entry))  # what the caller may change is copied; a number or a text is refused
        if len(entry) > LARGEST:
            raise ValueError(f"an entry has at most {LARGEST:,} bytes, not {len(entry):,}")
        following = claim.next
        if sequence is None:
            sequence = following
        elif not 0 <= sequence <= following:
            raise ValueError(f"sequence must be at most {following}, the next one of this claim, not {sequence}")
        if sequence == following:
            if state.ended:
                raise RunFinished(claim.run_id)
            if following == 0 and state.is_new:
                self._check_new(writer, claim.run_id)
                writer.states[claim.run_id] = state
            claim.next = following + 1
            if final:
                state.ended = True
                if writer.states.get(claim.run_id) is state:
                    del writer.states[claim.run_id]
        state.batch = writer.queue.put(Entry(state, sequence, entry, final))
        return sequence

    def _check_new(self, writer: Writer, run_id: str) -> None:
        """That nobody is at work on such a run here; what else there is says the file."""
        known = writer.states.get(run_id)
        if known is not None and known.refused is None:
            raise RunExists(run_id)

    def _adopt(self, writer: Writer, claim: Claim) -> RunState:
        """A claim that was made by hand or under another opening: what it is worth says the file."""
        before: RunState | None = claim.noted
        state = claim.noted = RunState(claim.run_id, claim.epoch, writer.queue)
        if before is not None and before.is_new and before.batch is None:
            state.is_new = True
            state.parent_id, state.conversation_id = before.parent_id, before.conversation_id
        return state

    async def durable(self, claim: Claim) -> None:
        state: RunState | None = claim.noted
        if state is None:
            return
        batch = state.batch
        if batch is not None and not batch.is_settled:
            await state.queue.wait(batch)
        if state.refused is not None:
            raise state.refused()

    async def read(self, run_id: str) -> list[bytes]:
        _check_texts(run_id)
        return await self._opened().queue.ask(Call(partial(_read, run_id), writes=False))

    async def runs(
        self,
        *,
        unfinished: bool = False,
        conversation_id: str | None = None,
        run_id: str | None = None,
        parent_id: str | None = None,
    ) -> list[Listed]:
        _check_texts(run_id, conversation_id, parent_id)
        question = partial(_runs, Asked(unfinished, conversation_id, run_id, parent_id))
        return await self._opened().queue.ask(Call(question, writes=False))

    async def prune(self, before: float) -> int:
        before = check_moment(before)
        queue = self._opened().queue
        count, last = 0, 0
        damaged: Damaged | None = None
        while last is not None:
            pruned: Pruned = await queue.ask(Call(partial(_prune, before, last), writes=True))
            count, last, damaged = count + pruned.runs, pruned.last, damaged or pruned.damaged
        if damaged is not None:
            raise damaged
        return count

    def release(self, claim: Claim) -> None:
        writer = self._writer
        if writer is None:
            return
        state: RunState | None = claim.noted
        if state is not None and state.queue is writer.queue:
            if writer.states.get(claim.run_id) is state:
                del writer.states[claim.run_id]
            if state.ended or state.refused is not None or (state.is_new and state.batch is None):
                return
        writer.queue.put(Release(claim.run_id, claim.epoch), wake=False)

    def _opened(self) -> Writer:
        if self._writer is None:
            raise JournalClosed(_CLOSED)
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                f"this journal belongs to the event loop that has opened it, which is in another thread: open another"
                f" SqliteJournal({self.path!r}) here"
            )
        return self._writer


def _check_texts(*texts: str | None) -> None:
    """Refuse here what SQLite can neither store nor look for: in the thread it would be an error of ours."""
    for text in texts:
        if text is not None:
            text.encode()


def _claim(run_id: str, after: int | None, store: Store) -> tuple[int, int]:
    return store.claim(run_id, after)


def _let_go(queue: Queue, run_id: str, result: tuple[int, int]) -> None:
    """Whoever wanted the claim has gone."""
    queue.put(Release(run_id, result[0]), wake=False)


def _read(run_id: str, store: Store) -> list[bytes]:
    return store.read(run_id)


def _runs(asked: Asked, store: Store) -> list[Listed]:
    return store.runs(asked)


def _prune(before: float, after: int, store: Store) -> Pruned:
    return store.prune(before, after)
