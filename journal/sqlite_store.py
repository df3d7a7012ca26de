"""Batches into transactions, questions into queries. Runs in the writer thread, which alone has the connection.

A transaction that writes begins with the write lock, so what is read in it holds until its end. None is open while the
thread waits for work.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .errors import Damaged, Fenced, JournalError, RunFinished, UnknownRun
from .journal import Listed
from .owners import Owner
from .sqlite_append import Appending, Careful
from .sqlite_batch import Call, Entry, Job, Release, RunState
from .sqlite_rows import RUN_COLUMNS, RunRow, is_whole_entry
from .sqlite_tables import ALTERED, READING, Tables, is_damage, said

# A step of pruning ends behind so many runs looked at, so many forgotten, or so many bytes of these. A run goes with
# all below it, so it may be more in the end.
LOOKED_AT = 2000
PRUNED = 100
PRUNED_BYTES = 1_000_000

#: Bytes of the log, estimated, after which it is brought into the file. SQLite's own rule would do that before anybody
#: hears that the transaction is stored, and keep to itself that it failed.
LOGGED = 4_000_000

_LOOKED_AT = "SELECT max(number), count(*) FROM (SELECT number FROM runs WHERE number > ? ORDER BY number LIMIT ?)"
_OLD_ROOTS = (
    f"SELECT {RUN_COLUMNS} FROM runs AS run WHERE number > ? AND number <= ? AND finished AND changed < ?"
    " AND (parent IS NULL OR NOT EXISTS"
    " (SELECT 1 FROM runs AS above WHERE above.id = run.parent AND above.number < run.number))"
    " ORDER BY number"
)
_ENTRIES = "SELECT sequence, epoch, checksum, bytes FROM entries WHERE run = ? ORDER BY sequence"

# What a transaction and an entry cost there, besides the entry's bytes.
_COMMIT, _ENTRY = 12_000, 250


class Pruned(NamedTuple):
    """What one step of pruning did: how many runs are gone, where the next step begins, and what was in the way."""

    runs: int
    last: int | None
    damaged: Damaged | None


class Asked(NamedTuple):
    """Which runs are asked for, as of `Journal.runs`."""

    unfinished: bool
    conversation_id: str | None
    run_id: str | None
    parent_id: str | None

    def takes(self, listed: Listed) -> bool:
        """Whether a run is one of them."""
        return (
            not (self.unfinished and listed.finished)
            and self.conversation_id in (None, listed.conversation_id)
            and self.parent_id in (None, listed.parent_id)
        )


class Store:
    """The file of an open journal.

    Args:
        connection: to a file that was looked at, in autocommit.
        path: for messages.
        owner: who this is.
        clock: seconds since 1970.
    """

    def __init__(self, connection: sqlite3.Connection, path: str, owner: Owner, clock: Callable[[], float]) -> None:
        self.connection = connection
        self.path = path
        self._clock = clock
        self._tables = Tables(connection, path, owner)
        self._logged = 0
        self._identity = _identity(path)

    # -- transactions

    def run(self, jobs: Sequence[Job]) -> None:
        """Do all jobs in one transaction. A job that fails alone says so in its call or its claim's state.

        Raises:
            sqlite3.Error: none of it was done.
            OSError: it would be written to a file that nobody finds any more.
        """
        try:
            self._transaction(jobs, careful=False)
        except Careful:
            self._transaction(jobs, careful=True)

    def _transaction(self, jobs: Sequence[Job], careful: bool) -> None:
        writes = any(not isinstance(job, Call) or job.writes for job in jobs)
        if writes and _identity(self.path) != self._identity:
            raise OSError("the file was deleted, moved or replaced while it was open")
        appending = Appending(self._tables, self._clock(), careful)
        me = self._tables.me
        self.connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
        if writes:
            self._logged += _COMMIT
        try:
            self._do(jobs, appending)
            if not self.connection.in_transaction:
                raise _rolled_back()
            self.connection.execute("COMMIT")
        except BaseException:
            appending.undo()
            self._tables.me, self._tables.counted = me, None
            self._roll_back()
            raise
        for state, why in appending.refused.items():
            state.refused = why

    def _roll_back(self) -> None:
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        except sqlite3.Error:  # what has failed before says it all
            pass

    def _do(self, jobs: Sequence[Job], appending: Appending) -> None:
        gathered: dict[RunState, list[Entry]] = {}
        for job in jobs:
            if isinstance(job, Entry):
                self._logged += _ENTRY + len(job.data)
                known = gathered.get(job.state)
                if known is None:
                    gathered[job.state] = [job]
                else:
                    known.append(job)
                continue
            if gathered:
                appending.append(gathered.items())
                gathered.clear()
            if isinstance(job, Release):
                self._release(job)
            else:
                self._answer(job)
        if gathered:
            appending.append(gathered.items())

    def _answer(self, call: Call) -> None:
        """A call that fails changes nothing."""
        me = self._tables.me
        call.result = call.error = None
        if call.writes:
            self.connection.execute("SAVEPOINT answer")
        try:
            call.result = call.function(self)
        except (JournalError, *READING) as error:
            if not isinstance(error, JournalError) and not is_damage(error):
                raise
            call.error = error if isinstance(error, JournalError) else self._tables.damaged(said(error))
            if not self.connection.in_transaction:
                raise _rolled_back() from error
            if call.writes:
                self._tables.me, self._tables.counted = me, None
                self.connection.execute("ROLLBACK TO answer")
        if call.writes:
            self.connection.execute("RELEASE answer")

    def _release(self, job: Release) -> None:
        try:
            row = self._tables.row(job.run_id)
            if row is not None and row.epoch == job.epoch and row.owner and not row.finished:
                self._tables.set_owner(row, row.epoch, 0)
        except (JournalError, *READING) as error:
            if not isinstance(error, JournalError) and not is_damage(error):
                raise
            # Whoever claims or reads the run next is told.

    # -- what is asked

    def claim(self, run_id: str, after: int | None) -> tuple[int, int]:
        """The epoch of a new claim, and the number of entries."""
        row = self._tables.row(run_id)
        if row is None:
            raise UnknownRun(run_id)
        if row.finished:
            raise RunFinished(run_id)
        if after is not None and row.epoch != after:
            raise Fenced(run_id, after)
        self._tables.set_owner(row, row.epoch + 1, self._tables.owner())
        return row.epoch + 1, row.length

    def read(self, run_id: str) -> list[bytes]:
        """All entries of a run."""
        row = self._tables.row(run_id)
        if row is None:
            return []
        entries: list[bytes] = []
        damaged = self._tables.damaged
        try:
            for sequence, epoch, checksum, data in self.connection.execute(_ENTRIES, (row.number,)):
                if sequence != len(entries):
                    raise damaged("it is missing", run_id, len(entries))
                if not is_whole_entry(row.number, sequence, epoch, checksum, data):
                    raise damaged("it is not what was written", run_id, sequence)
                entries.append(data)
        except READING as error:
            if not is_damage(error):
                raise
            raise damaged(said(error), run_id, len(entries)) from error
        if len(entries) != row.length:
            raise damaged(f"{row.length} entries were written, {len(entries)} are there", run_id, len(entries))
        return entries

    def runs(self, asked: Asked) -> list[Listed]:
        """Those that answer to all of it."""
        try:
            if asked.run_id is not None:
                row = self._tables.row(asked.run_id)
                rows = [] if row is None else [row]
            elif asked.parent_id is not None:
                rows = self._tables.rows_with("parent", asked.parent_id)
            elif asked.conversation_id is not None:
                rows = self._tables.rows_with("conversation", asked.conversation_id)
            else:
                rows = self._tables.rows()
        except Damaged as error:
            others = [each for each in error.others if isinstance(each, Listed)]
            error.others = tuple(each for each in others if asked.takes(each))
            raise
        return [listed for listed in map(self._tables.listed, rows) if asked.takes(listed)]

    def prune(self, before: float, after: int) -> Pruned:
        """Forget some finished runs that are nobody's subagents, from the one behind number `after` on, with all below.

        Where a run below is unfinished, or one is damaged, all of them stay.
        """
        last, looked_at = self.connection.execute(_LOOKED_AT, (after, LOOKED_AT)).fetchone()
        found = self.connection.execute(_OLD_ROOTS, (after, last, before)).fetchall()
        done = looked_at < LOOKED_AT
        size = 0
        old: list[RunRow] = []
        damaged: Damaged | None = None
        for root in map(RunRow._make, found):
            if len(old) >= PRUNED or size >= PRUNED_BYTES:
                last, done = root.number - 1, False
                break
            try:
                family = self._family(root)
            except Damaged as error:
                damaged = damaged or error
                continue
            old += family
            size += sum(row.length * _ENTRY + row.size for row in family)
        self._forget(old)
        self._logged += size
        return Pruned(len(old), None if done else last, damaged)

    def _forget(self, rows: Sequence[RunRow]) -> None:
        if not rows:
            return
        for row in rows:
            self.connection.execute("DELETE FROM entries WHERE run = ?", (row.number,))
            self.connection.execute("DELETE FROM runs WHERE number = ?", (row.number,))
        last, runs = self._tables.tally()
        self._tables.counted = (last, runs - len(rows))
        self._tables.write_tally()

    def _family(self, root: RunRow) -> list[RunRow]:
        """An old root and all below it; nothing if they have to stay.

        Raises:
            Damaged: one of them is.
        """
        rows = [root]
        for row in rows:  # it grows meanwhile
            if not row.is_whole():
                raise self._tables.damaged(ALTERED, str(row.id))
            if not row.finished:
                return []
            rows += self._tables.children(row)
        if root.parent is not None:  # the index did not find that run, see `Tables.row`
            above = self._tables.row(root.parent)
            if above is not None and above.number < root.number:
                return []
        return rows

    # -- the log

    def checkpoint_if_due(self) -> None:
        """Bring the log into the file when it has grown."""
        if self._logged >= LOGGED:
            self._logged = 0
            self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def checkpoint(self) -> None:
        """Bring all of the log into the file, unless somebody reads it."""
        self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _rolled_back() -> sqlite3.DatabaseError:
    """What it means that a transaction is no longer open: SQLite ends it by itself where it meets damage."""
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _identity(path: str) -> tuple[int, int]:
    """Which file has this name; (0, 0) if none."""
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)
