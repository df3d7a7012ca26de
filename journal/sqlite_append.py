"""Entries of a batch into the tables.

Fencing is part of the transaction: an entry is stored by changing its run's row *where* epoch and length are what its
writer takes them for. A row that does not answer to that refuses this claim alone. All entries of a batch go in
together; where that fails, the batch is done again, *carefully*: run by run, each in a savepoint.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from functools import partial

from .errors import Conflict, Damaged, Fenced, JournalError, JournalFailed, RunExists, RunFinished, UnknownRun
from .sqlite_batch import Entry, RunState
from .sqlite_rows import RunRow, entry_checksum, is_whole_entry, names_checksum, run_checksum
from .sqlite_tables import Tables, is_damage

_INSERT_RUN = f"INSERT INTO runs VALUES ({', '.join('?' * len(RunRow._fields))})"
_UPDATE_RUN = (
    "UPDATE runs SET length = ?, size = ?, finished = ?, changed = ?, owner = ?, checksum = ?"
    " WHERE number = ? AND epoch = ? AND length = ? AND finished = 0"
)
_INSERT_ENTRY = "INSERT INTO entries (run, sequence, epoch, checksum, bytes) VALUES (?, ?, ?, ?, ?)"
_FIND_ENTRY = "SELECT sequence, epoch, checksum, bytes FROM entries WHERE run = ? AND sequence = ?"


class Careful(Exception):
    """Something went wrong with one of the batch: do it again, one by one."""


class Appending:
    """The appends of one transaction, which is open."""

    __slots__ = ("_before", "_careful", "_now", "_tables", "_tally", "refused")

    def __init__(self, tables: Tables, now: float, careful: bool) -> None:
        self._tables = tables
        self._now = now
        self._careful = careful
        self._tally: tuple[int, int] | None = None
        self._before: dict[RunState, tuple[bool, int, int, int, int]] = {}
        #: Who is refused, and what each is told, if the transaction succeeds.
        self.refused: dict[RunState, Callable[[], JournalError]] = {}

    def undo(self) -> None:
        """The transaction has failed: what is known of the runs is again what it was."""
        for state, before in self._before.items():
            state.is_new, state.number, state.names, state.length, state.size = before

    def forget_tally(self) -> None:
        """Somebody else may have counted the runs."""
        self._tally = None

    def append(self, gathered: Iterable[tuple[RunState, list[Entry]]]) -> None:
        """Store these entries of runs.

        Raises:
            Careful: it has to be done again, carefully.
            sqlite3.Error: nothing can be stored.
        """
        rows: list[tuple[int, int, int, int, bytes]] = []
        for state, entries in gathered:
            if state.refused is not None or state in self.refused:
                continue
            before = (state.is_new, state.number, state.names, state.length, state.size)
            self._before.setdefault(state, before)
            if self._careful:
                self._append_alone(state, entries, before)
                continue
            try:
                rows += self._append_to(state, entries)
            except JournalError as error:
                self.refused[state] = again(error)
            except sqlite3.DatabaseError as error:
                raise _careful(error) from error
        if rows:
            try:
                self._tables.connection.executemany(_INSERT_ENTRY, rows)
            except sqlite3.DatabaseError as error:
                raise _careful(error) from error
        if self._tally is not None:
            try:
                self._tables.count(*self._tally)
            except JournalError:
                raise Careful from None

    def _append_alone(self, state: RunState, entries: list[Entry], before: tuple[bool, int, int, int, int]) -> None:
        connection, tally, me = self._tables.connection, self._tally, self._tables.me
        connection.execute("SAVEPOINT alone")
        try:
            connection.executemany(_INSERT_ENTRY, self._append_to(state, entries))
            if self._tally is not None:
                self._tables.count(*self._tally)
        except (JournalError, sqlite3.DatabaseError) as error:
            if not isinstance(error, JournalError | sqlite3.IntegrityError) and not is_damage(error):
                raise
            connection.execute("ROLLBACK TO alone")
            state.is_new, state.number, state.names, state.length, state.size = before
            self._tally, self._tables.me = tally, me
            self.refused[state] = again(
                error if isinstance(error, JournalError) else self._tables.damaged(str(error), state.run_id)
            )
        connection.execute("RELEASE alone")

    def _append_to(self, state: RunState, entries: list[Entry]) -> list[tuple[int, int, int, int, bytes]]:
        """Write the run's row; the rows of its entries."""
        if state.is_new:
            return self._create(state, entries)
        if not state.number:
            self._find(state)
        first = entries[0].sequence
        if first != state.length or entries[-1].sequence != first + len(entries) - 1:
            entries = self._without_repeated(state, entries)
            if not entries:
                return []
        former = state.length
        length, size = former + len(entries), state.size
        for entry in entries:
            size += len(entry.data)
        finished = int(entries[-1].final)
        owner = 0 if finished else self._tables.owner()
        number, epoch, now = state.number, state.epoch, self._now
        checksum = run_checksum(state.names, number, epoch, length, size, finished, now, owner)
        changed = self._tables.connection.execute(
            _UPDATE_RUN, (length, size, finished, now, owner, checksum, number, epoch, former)
        )
        if changed.rowcount != 1:
            return self._append_elsewhere(state, entries)
        state.length, state.size = length, size
        return _rows(number, epoch, entries)

    def _append_elsewhere(self, state: RunState, entries: list[Entry]) -> list[tuple[int, int, int, int, bytes]]:
        """The row is not what it was: find out why."""
        row = self._row(state)
        if row.number == state.number and row.length == state.length:
            if row.finished:
                raise RunFinished(state.run_id)
            raise self._tables.damaged("its row cannot be found through its number", state.run_id)
        self._find(state)
        return self._append_to(state, entries)

    def _create(self, state: RunState, entries: list[Entry]) -> list[tuple[int, int, int, int, bytes]]:
        entries = _without_twins(state, entries)
        last, runs = self._tally or self._tables.tally()
        number, now = last + 1, self._now
        names = names_checksum(state.run_id, state.parent_id, state.conversation_id, now)
        size = sum([len(entry.data) for entry in entries])
        length, finished = len(entries), int(entries[-1].final)
        owner = 0 if finished else self._tables.owner()
        checksum = run_checksum(names, number, 1, length, size, finished, now, owner)
        parent, conversation = state.parent_id, state.conversation_id
        row = (number, state.run_id, 1, length, size, finished, parent, conversation, now, now, owner, checksum)
        try:
            self._tables.connection.execute(_INSERT_RUN, row)
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_UNIQUE:
                raise RunExists(state.run_id) from None
            raise self._tables.damaged(f"a run cannot have the number {number}", state.run_id) from error
        self._tally = (number, runs + 1)
        state.is_new, state.number, state.names, state.length, state.size = False, number, names, length, size
        return _rows(number, 1, entries)

    def _find(self, state: RunState) -> None:
        """A claim that was made by hand, or under another opening of the journal."""
        row = self._row(state)
        state.number, state.length, state.size = row.number, row.length, row.size
        state.names = names_checksum(row.id, row.parent, row.conversation, row.created)

    def _row(self, state: RunState) -> RunRow:
        row = self._tables.row(state.run_id)
        if row is None:
            raise UnknownRun(state.run_id)
        if row.epoch != state.epoch:
            raise Fenced(state.run_id, state.epoch)
        return row

    def _without_repeated(self, state: RunState, entries: list[Entry]) -> list[Entry]:
        """Entries less those that are there already, under the same epoch or an earlier one."""
        row = self._row(state)
        fresh: list[Entry] = []
        for entry in entries:
            if entry.sequence >= state.length:
                fresh.append(entry)
                continue
            found = self._tables.connection.execute(_FIND_ENTRY, (state.number, entry.sequence)).fetchone()
            if found is None or not is_whole_entry(state.number, *found):
                raise self._tables.damaged("it is not what was written", state.run_id, entry.sequence)
            if found[3] != entry.data:
                raise (RunFinished(state.run_id) if row.finished else Conflict(state.run_id, entry.sequence))
        return _without_twins(state, fresh)


def _without_twins(state: RunState, entries: list[Entry]) -> list[Entry]:
    """Entries that follow `state.length` less those that repeat each other."""
    fresh: list[Entry] = []
    for entry in entries:
        place = entry.sequence - state.length
        if place == len(fresh):
            fresh.append(entry)
        elif place > len(fresh) or fresh[place].data != entry.data:
            raise Conflict(state.run_id, entry.sequence)
    return fresh


def _rows(number: int, epoch: int, entries: list[Entry]) -> list[tuple[int, int, int, int, bytes]]:
    return [
        (number, sequence, epoch, entry_checksum(number, sequence, epoch, data), data)
        for _, sequence, data, _ in entries
    ]


def _careful(error: sqlite3.DatabaseError) -> Exception:
    """What to raise for an error that may be about one run."""
    return Careful() if isinstance(error, sqlite3.IntegrityError) or is_damage(error) else error


def again(error: JournalError) -> Callable[[], JournalError]:
    """What makes such an error anew: one that is raised twice would collect the tracebacks of both."""
    if isinstance(error, Conflict):
        return partial(Conflict, error.run_id, error.sequence)
    if isinstance(error, Fenced):
        return partial(Fenced, error.run_id, error.epoch)
    if isinstance(error, RunExists | UnknownRun | RunFinished):
        return partial(type(error), error.run_id)
    if isinstance(error, Damaged):
        return partial(Damaged, error.what, path=error.path, run_id=error.run_id, sequence=error.sequence)
    return partial(JournalFailed, str(error))
