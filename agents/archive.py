"""A journal's file, to be looked at: by whoever has the file, without its agents, also while a System works with it.

An archive never writes. It reads what is durable, so it may be a moment behind the System whose journal it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self, TypeVar

import msgspec
from anyio import CancelScope, Lock, sleep, to_thread

from ..journal import BadRecord, Damaged, JournalClosed, JournalReader, Listed, Record, UnknownRun, decode
from .chronicle import Chronicle

T = TypeVar("T")

#: Seconds between two looks at a file that somebody follows.
POLL = 0.2


class Shelf(Protocol):
    """What chronicles are read from: a `Journal`, an `Archive`."""

    async def read(self, run_id: str) -> list[bytes]: ...

    async def runs(self) -> list[Listed]: ...


class Archive:
    """The runs in a journal's file: ``async with Archive("runs.db") as archive:``.

    Args:
        path: the file of a `SqliteJournal`.
        busy_timeout: seconds to wait where another process has the file for itself, which takes moments.
    """

    __slots__ = ("_busy_timeout", "_file", "_lock", "path")

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout: float = 5.0) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"path is a text or a Path, not {path!r}")
        if not os.fspath(path):
            raise ValueError("path is that of a file, and is empty")
        if not busy_timeout >= 0:
            raise ValueError(f"busy_timeout is in seconds, 0 or more, not {busy_timeout!r}")
        self.path = os.path.abspath(path)
        self._busy_timeout = busy_timeout
        self._file: JournalReader | None = None
        self._lock = Lock()

    async def __aenter__(self) -> Self:
        """Open it.

        Raises:
            CannotOpen: there is no such file, it may not be read, is something else, or of a later version.
            Damaged: it is not as it was written.
        """
        if self._file is not None:
            raise RuntimeError(f"the archive {self.path} is open already")
        with CancelScope(shield=True):  # a connection that nobody gets would stay open
            self._file = await to_thread.run_sync(JournalReader, self.path, self._busy_timeout)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with CancelScope(shield=True):
            async with self._lock:
                file, self._file = self._file, None
                if file is not None:
                    await to_thread.run_sync(file.close)

    async def runs(
        self, *, unfinished: bool = False, conversation_id: str | None = None, run_id: str | None = None
    ) -> list[Listed]:
        """What is known of the runs without reading them, in the order in which they were created.

        Args:
            unfinished: only those that have not ended.
            conversation_id: only those of this conversation.
            run_id: only this one.

        Raises:
            Damaged: at least one cannot be listed; `others` has those that can.
        """
        return await self._ask(lambda file: file.runs(unfinished, conversation_id, run_id))

    async def read(self, run_id: str) -> list[bytes]:
        """The entries of a run, as `Journal.read` gives them; none of an unknown one."""
        return await self._ask(lambda file: file.read(run_id))

    async def chronicle(self, run_id: str) -> Chronicle:
        """The story of a run, with those of its subagents.

        Raises:
            UnknownRun: there is no such run.
            Damaged: not all of it is there as it was written.
            BadRecord: a later version has written it.
        """
        return await read_chronicle(self, run_id)

    def follow(self, run_id: str) -> Following:
        """The records of a run, those that are there and then those that come: ``async for records in …``.

        Ends with the run. The file is looked at every 0.2 seconds, at its records only where it has changed.
        """
        return Following(self, run_id)

    async def version(self) -> int:
        """A number that is another one whenever anybody has changed the file."""
        return await self._ask(lambda file: file.version())

    async def _ask(self, question: Callable[[JournalReader], T]) -> T:
        async with self._lock:
            file = self._file
            if file is None:
                raise JournalClosed("the archive is not open: enter it with `async with`")
            return await to_thread.run_sync(question, file)

    def __repr__(self) -> str:
        return f"<Archive {self.path}: {'open' if self._file is not None else 'not open'}>"


class Following:
    """What `Archive.follow` gives: an iterator over lists of records."""

    __slots__ = ("_archive", "_ended", "_known", "_run_id", "_seen")

    def __init__(self, archive: Archive, run_id: str) -> None:
        self._archive = archive
        self._run_id = run_id
        self._known = 0
        self._seen = -1
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Record]:
        """The records that came together.

        Raises:
            UnknownRun: there is no such run, or it was forgotten meanwhile.
            Damaged, BadRecord: it cannot be read.
        """
        while not self._ended:
            version = await self._archive.version()
            if version == self._seen:
                await sleep(POLL)
                continue
            listed = await self._archive.runs(run_id=self._run_id)
            if not listed:
                raise UnknownRun(self._run_id)
            if listed[0].length == self._known:
                self._ended = listed[0].finished
                self._seen = version
                continue
            # It may grow while it is read: whether this was all is seen by the next look.
            entries = await self._archive.read(self._run_id)
            fresh, self._known = entries[self._known :], len(entries)
            return [record for entry in fresh for record in decode(entry)]
        raise StopAsyncIteration


async def read_chronicle(shelf: Shelf, run_id: str) -> Chronicle:
    """The story of a run, with those of its subagents. A subagent that cannot be read does not hide the run.

    Raises:
        UnknownRun: there is no such run.
        Damaged, BadRecord: it cannot be read.
    """
    entries = await shelf.read(run_id)
    if not entries:
        raise UnknownRun(run_id)
    unreadable: dict[str, str] = {}
    try:
        listed: Sequence[Listed] = await shelf.runs()
    except Damaged as error:
        listed = [each for each in error.others if isinstance(each, Listed)]
        if error.run_id is not None and error.run_id.startswith(f"{run_id}."):
            unreadable[error.run_id] = str(error)
    below: dict[str, list[str]] = {}
    for each in listed:
        if each.parent_id is not None:
            below.setdefault(each.parent_id, []).append(each.run_id)
    return await _with_children(shelf, run_id, entries, below, unreadable)


async def _with_children(
    shelf: Shelf, run_id: str, entries: Sequence[bytes], below: dict[str, list[str]], unreadable: dict[str, str]
) -> Chronicle:
    children: list[Chronicle] = []
    for child in below.get(run_id, ()):
        try:
            if written := await shelf.read(child):  # else it was forgotten meanwhile
                children.append(await _with_children(shelf, child, written, below, {}))
        except (Damaged, BadRecord) as error:
            unreadable[child] = str(error)
    try:
        return Chronicle(entries, children=children, unreadable=unreadable)
    except msgspec.ValidationError as error:
        raise BadRecord(f"run {run_id!r} was written by another version: {error}") from error
