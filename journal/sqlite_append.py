"""Entries of a batch into the tables.

Fencing is part of the transaction: an entry is stored by changing its run's row *where* epoch and length are what its
writer takes them for. All entries of a batch go in together, in few statements. Where that does not do what it should,
the batch is done again, *carefully*: run by run, each in a savepoint, so that whoever is refused is refused alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from .errors import Conflict, Damaged, Fenced, JournalError, JournalFailed, RunExists, RunFinished, UnknownRun
from .sqlite_batch import Entry, RunState
from .sqlite_rows import RunRow, entry_checksum, is_whole_entry, names_checksum, run_checksum
from .sqlite_tables import READING, Tables, is_damage, said

#: Rows in one statement. Each statement gives the interpreter away and has to get it back, which takes its time where
#: the event loop is busy; and a statement for each number of rows would have to be prepared.
ROWS = (32, 8, 2, 1)
#: "UPDATE … FROM" is there from this version on.
_FROM = (3, 33, 0)

_INSERT_RUN = f"INSERT INTO runs VALUES {{}}({', '.join('?' * len(RunRow._fields))})"
_INSERT_ENTRY = "INSERT INTO entries (run, sequence, epoch, checksum, bytes) VALUES {}(?, ?, ?, ?, ?)"
_UPDATE_RUN = (
    "UPDATE runs SET length = ?4, size = ?5, finished = ?6, changed = ?7, owner = ?8, checksum = ?9"
    " WHERE number = ?1 AND epoch = ?2 AND length = ?3 AND finished = 0"
)
_UPDATE_RUNS = (
    "UPDATE runs SET length = new.column4, size = new.column5, finished = new.column6, changed = new.column7,"
    " owner = new.column8, checksum = new.column9 FROM (VALUES {}(?, ?, ?, ?, ?, ?, ?, ?, ?)) AS new"
    " WHERE number = new.column1 AND epoch = new.column2 AND length = new.column3 AND finished = 0"
)


def _statements(text: str) -> dict[int, str]:
    """The statement for each number of rows."""
    head, row = text.split("{}")
    row, end = row[: row.index(")") + 1], row[row.index(")") + 1 :]
    return {count: head + ", ".join([row] * count) + end for count in ROWS}


_RUNS, _ENTRIES = _statements(_INSERT_RUN), _statements(_INSERT_ENTRY)
_UPDATES = (_statements(_UPDATE_RUNS) if sqlite3.sqlite_version_info >= _FROM else {}) | {1: _UPDATE_RUN}


def _statements_for(texts: dict[int, str], rows: list[tuple[Any, ...]]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """As few statements as there are for so many rows."""
    start = 0
    for count in ROWS:
        text = texts.get(count)
        while text is not None and len(rows) - start >= count:
            yield text, tuple(chain.from_iterable(rows[start : start + count]))
            start += count


_FIND_ENTRY = "SELECT sequence, epoch, checksum, bytes FROM entries WHERE run = ? AND sequence = ?"


class _Rows(NamedTuple):
    """What is about to be written, as the values of statements."""

    runs: list[tuple[Any, ...]]
    updates: list[tuple[Any, ...]]
    entries: list[tuple[Any, ...]]

    def add(self, number: int, epoch: int, entries: list[Entry]) -> None:
        for _, sequence, data, _ in entries:
            self.entries.append((number, sequence, epoch, entry_checksum(number, sequence, epoch, data), data))


class Careful(Exception):
    """Something went wrong with one of the batch: do it again, one by one."""


class Appending:
    """The appends of one transaction, which is open."""

    __slots__ = ("_before", "_careful", "_now", "_tables", "refused")

    def __init__(self, tables: Tables, now: float, careful: bool) -> None:
        self._tables = tables
        self._now = now
        self._careful = careful
        self._before: dict[RunState, tuple[bool, int, int, int, int]] = {}
        #: Who is refused, and what each is told, if the transaction succeeds.
        self.refused: dict[RunState, Callable[[], JournalError]] = {}

    def undo(self) -> None:
        """The transaction has failed: what is known of the runs is again what it was."""
        for state, before in self._before.items():
            state.is_new, state.number, state.names, state.length, state.size = before

    def append(self, gathered: Iterable[tuple[RunState, list[Entry]]]) -> None:
        """Store these entries of runs.

        Raises:
            Careful: it has to be done again, carefully.
            sqlite3.Error: nothing can be stored.
        """
        rows = _Rows([], [], [])
        for state, entries in gathered:
            if state.refused is not None or state in self.refused:
                continue
            self._before.setdefault(state, (state.is_new, state.number, state.names, state.length, state.size))
            if self._careful:
                self._append_alone(state, entries)
                continue
            try:
                self._prepare(state, entries, rows)
            except JournalError as error:
                self.refused[state] = again(error)
            except READING as error:
                raise _careful(error) from error
        try:
            self._write(rows)
        except JournalError:
            raise Careful from None
        except READING as error:
            raise _careful(error) from error

    def _append_alone(self, state: RunState, entries: list[Entry]) -> None:
        connection, me = self._tables.connection, self._tables.me
        before = (state.is_new, state.number, state.names, state.length, state.size)
        connection.execute("SAVEPOINT alone")
        try:
            rows = _Rows([], [], [])
            row = None if state.is_new else self._find(state)
            self._prepare(state, entries, rows)
            if row is not None and row.finished and rows.entries:
                raise RunFinished(state.run_id)
            self._write(rows)
        except (JournalError, *READING) as error:
            if not isinstance(error, JournalError | sqlite3.IntegrityError) and not is_damage(error):
                raise
            connection.execute("ROLLBACK TO alone")
            state.is_new, state.number, state.names, state.length, state.size = before
            self._tables.counted, self._tables.me = None, me
            self.refused[state] = again(self._told(error, state))
        connection.execute("RELEASE alone")

    def _told(self, error: Exception, state: RunState) -> JournalError:
        if isinstance(error, JournalError):
            return error
        if state.is_new and getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_CONSTRAINT_UNIQUE:
            return RunExists(state.run_id)
        return self._tables.damaged(said(error), state.run_id)

    def _prepare(self, state: RunState, entries: list[Entry], rows: _Rows) -> None:
        """What has to be written for these entries."""
        if state.is_new:
            self._create(state, entries, rows)
            return
        if not state.number:
            self._find(state)
        first = entries[0].sequence
        if first != state.length or entries[-1].sequence != first + len(entries) - 1:
            entries = self._without_repeated(state, entries)
            if not entries:
                return
        former = state.length
        length, size = former + len(entries), state.size
        for entry in entries:
            size += len(entry.data)
        finished = int(entries[-1].final)
        owner = 0 if finished else self._tables.owner()
        number, epoch, now = state.number, state.epoch, self._now
        checksum = run_checksum(state.names, number, epoch, length, size, finished, now, owner)
        rows.updates.append((number, epoch, former, length, size, finished, now, owner, checksum))
        rows.add(number, epoch, entries)
        state.length, state.size = length, size

    def _create(self, state: RunState, entries: list[Entry], rows: _Rows) -> None:
        entries = _without_twins(state, entries)
        last, runs = self._tables.tally()
        number, now = last + 1, self._now
        names = names_checksum(state.run_id, state.parent_id, state.conversation_id, now)
        size = sum([len(entry.data) for entry in entries])
        length, finished = len(entries), int(entries[-1].final)
        owner = 0 if finished else self._tables.owner()
        checksum = run_checksum(names, number, 1, length, size, finished, now, owner)
        parent, conversation = state.parent_id, state.conversation_id
        row = (number, state.run_id, 1, length, size, finished, parent, conversation, now, now, owner, checksum)
        rows.runs.append(row)
        rows.add(number, 1, entries)
        self._tables.counted = (number, runs + 1)
        state.is_new, state.number, state.names, state.length, state.size = False, number, names, length, size

    def _write(self, rows: _Rows) -> None:
        execute = self._tables.connection.execute
        for statement, values in _statements_for(_RUNS, rows.runs):
            execute(statement, values)
        changed = 0
        for statement, values in _statements_for(_UPDATES, rows.updates):
            changed += execute(statement, values).rowcount
        if changed != len(rows.updates):
            raise self._tables.damaged("the row of a run cannot be found through its number")
        for statement, values in _statements_for(_ENTRIES, rows.entries):
            execute(statement, values)
        self._tables.write_tally()

    def _find(self, state: RunState) -> RunRow:
        """Look the run up: a claim may be made by hand, or under another opening of the journal."""
        row = self._row(state)
        state.number, state.length, state.size = row.number, row.length, row.size
        state.names = names_checksum(row.id, row.parent, row.conversation, row.created)
        return row

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


def _careful(error: Exception) -> Exception:
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
