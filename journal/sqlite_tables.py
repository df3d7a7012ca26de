"""The rows of runs: how they are found, and how it is known that they are what was written.

Nothing is believed because SQLite says so. A row is compared with its checksum, and that there is no row is only said
when the index has none, the table has none, and the tally agrees. That takes a walk through the table, so it is done in
a table of up to `WALKED` runs. In a larger one an index is asked, and what it has around the place where it looked is
compared with the table: a search that was led astray by a changed key ends beside that key. What is not noticed there
is an index from which a row has vanished without a trace; `rows` looks at the whole table and does not need it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Literal

import msgspec

from .errors import Damaged
from .journal import Listed
from .owners import Owner
from .sqlite_rows import RUN_COLUMNS, RunRow, owner_checksum, tally_checksum

ALTERED = "its row is not what was written"
_ASTRAY = "its row cannot be found through the index"

#: Runs up to which the whole table is looked at, which takes some milliseconds.
WALKED = 1000


class Tables:
    """The file of an open journal, within a transaction."""

    def __init__(self, connection: sqlite3.Connection, path: str, owner: Owner) -> None:
        self.connection = connection
        self.path = path
        self._owner = owner
        self._owners: dict[int, Owner] = {}
        #: The number of this owner's row, 0 as long as it has none.
        self.me = 0
        #: A tally that is not written yet.
        self.counted: tuple[int, int] | None = None

    def row(self, run_id: str) -> RunRow | None:
        """The row of a run, if there is such a run.

        Raises:
            Damaged: it is not what was written, or cannot be found any more.
        """
        values = self.connection.execute(f"SELECT {RUN_COLUMNS} FROM runs WHERE id = ?", (run_id,)).fetchone()
        if values is None:
            self._make_sure(run_id)
            return None
        row = RunRow(*values)
        if row.id != run_id or not row.is_whole():
            raise self.damaged(ALTERED, run_id)
        return row

    def _make_sure(self, run_id: str) -> None:
        """That the index has no such run may be the index's fault."""
        if self.tally()[1] > WALKED:
            if self._numbers("id", run_id):
                raise self.damaged(_ASTRAY, run_id)
            return
        count = found = 0
        for number, each in self.connection.execute("SELECT number, id FROM runs NOT INDEXED"):
            count += 1
            if each == run_id:
                found = number
        if found:
            raise self.damaged(_ASTRAY, run_id)
        if count != (runs := self.tally()[1]):
            raise self.damaged(f"it is not there, and of {runs} runs {runs - count} are missing", run_id)

    def rows_with(self, column: Literal["conversation", "parent"], value: str) -> list[RunRow]:
        """The rows of a conversation, or of the subagents of a run, in the order of creation.

        Raises:
            Damaged: one is not what was written, or cannot be found any more.
        """
        if self.tally()[1] <= WALKED:
            return [row for row in self.rows() if getattr(row, column) == value]
        rows = [self._row_of(number) for number in self._numbers(column, value)]
        whole = [row for row in rows if row.is_whole() and getattr(row, column) == value]
        if len(whole) < len(rows):
            first = next(row for row in rows if row not in whole)
            raise self.damaged(ALTERED, str(first.id), others=whole)
        return whole

    def children(self, parent: RunRow) -> list[RunRow]:
        """The rows of its subagents, in the order of creation. They are younger: what is older has another parent."""
        values = self.connection.execute(
            f"SELECT {RUN_COLUMNS} FROM runs WHERE parent = ? AND number > ? ORDER BY number",
            (parent.id, parent.number),
        )
        return [RunRow(*each) for each in values]

    def _numbers(self, column: str, value: str) -> list[int]:
        """The numbers of the rows that an index has with this value.

        Raises:
            Damaged: the index has something else around them than the table.
        """
        numbers: list[int] = []
        beside: list[tuple[str, int]] = self.connection.execute(
            f"SELECT {column}, number FROM runs WHERE {column} < ? ORDER BY {column} DESC, number DESC LIMIT 1",
            (value,),
        ).fetchall()
        cursor = self.connection.execute(
            f"SELECT {column}, number FROM runs WHERE {column} >= ? ORDER BY {column}, number", (value,)
        )
        for found, number in cursor:
            if found != value:
                beside.append((found, number))
                break
            numbers.append(number)
        cursor.close()
        for found, number in beside:
            if getattr(self._row_of(number), column) != found:
                raise self.damaged("an index of its runs is not what was written")
        return numbers

    def _row_of(self, number: int) -> RunRow:
        values = self.connection.execute(
            f"SELECT {RUN_COLUMNS} FROM runs NOT INDEXED WHERE number = ?", (number,)
        ).fetchone()
        if values is None:
            raise self.damaged("an index of its runs has one that is not there")
        return RunRow(*values)

    def rows(self) -> list[RunRow]:
        """All rows, in the order of creation."""
        values = self.connection.execute(f"SELECT {RUN_COLUMNS} FROM runs NOT INDEXED ORDER BY number").fetchall()
        rows = [RunRow(*each) for each in values]
        whole = [row for row in rows if row.is_whole()]
        if len(whole) < len(rows):
            first = next(row for row in rows if not row.is_whole())
            raise self.damaged(ALTERED, str(first.id), others=whole)
        try:
            runs = self.tally()[1]
        except Damaged as error:
            raise self.damaged(error.what, others=whole) from None
        if len(rows) != runs:
            raise self.damaged(f"{runs} runs were written, {len(rows)} are there", others=whole)
        if len({row.id for row in rows}) != len(rows):
            raise self.damaged("two runs have the same id", others=whole)
        return rows

    def tally(self) -> tuple[int, int]:
        """The last number that was given to a run, and how many runs there are."""
        if self.counted is not None:
            return self.counted
        found = self.connection.execute("SELECT last, runs, checksum FROM tally").fetchall()
        if len(found) != 1 or found[0][2] != tally_checksum(*found[0][:2]):
            raise self.damaged("the number of its runs is not what was written")
        return found[0][0], found[0][1]

    def write_tally(self) -> None:
        """Write what was `counted`."""
        if self.counted is None:
            return
        changed = self.connection.execute(
            "UPDATE tally SET last = ?, runs = ?, checksum = ?", (*self.counted, tally_checksum(*self.counted))
        )
        if changed.rowcount != 1:
            raise self.damaged("the number of its runs is not there")
        self.counted = None

    def set_owner(self, row: RunRow, epoch: int, owner: int) -> None:
        """Change the epoch and the owner in a row."""
        row = row._replace(epoch=epoch, owner=owner).with_checksum()
        changed = self.connection.execute(
            "UPDATE runs SET epoch = ?, owner = ?, checksum = ? WHERE number = ?",
            (row.epoch, row.owner, row.checksum, row.number),
        )
        if changed.rowcount != 1:
            raise self.damaged("its row cannot be found through its number", row.id)

    # -- owners

    def owner(self) -> int:
        """The number of the row that says who this is."""
        if not self.me:
            data = msgspec.json.encode(self._owner)
            cursor = self.connection.execute(
                "INSERT INTO owners (owner, checksum) VALUES (?, ?)", (data, owner_checksum(data))
            )
            self.me = cursor.lastrowid or 0
        return self.me

    def _owner_of(self, row: RunRow) -> Owner:
        owner = self._owners.get(row.owner)
        if owner is None:
            found = self.connection.execute(
                "SELECT owner, checksum FROM owners WHERE number = ?", (row.owner,)
            ).fetchone()
            if found is None or type(found[0]) is not bytes or found[1] != owner_checksum(found[0]):
                raise self.damaged("its owner is not what was written", row.id)
            owner = self._owners[row.owner] = msgspec.json.decode(found[0], type=Owner)
        return owner

    # -- what is said about them

    def listed(self, row: RunRow) -> Listed:
        return Listed(
            row.id,
            row.epoch,
            row.length,
            row.size,
            bool(row.finished),
            row.parent,
            row.conversation,
            row.created,
            row.changed,
            self._owner_of(row) if row.owner else None,
        )

    def damaged(
        self, what: str, run_id: str | None = None, sequence: int | None = None, others: Sequence[RunRow] = ()
    ) -> Damaged:
        listed: list[Listed] = []
        for row in others:
            try:
                listed.append(self.listed(row))
            except (Damaged, sqlite3.DatabaseError):  # one error at a time
                continue
        return Damaged(what, path=self.path, run_id=run_id, sequence=sequence, others=tuple(listed))


#: Of which SQLite complains when the file is not as it should be; also of sizes beyond all bounds.
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG}
#: What a question can end with that is damage, or no error of SQLite at all.
READING = (sqlite3.DatabaseError, MemoryError)


def is_damage(error: BaseException) -> bool:
    """Whether it says that the file is not as it should be. A changed size asks for more memory than there is."""
    return primary_code(error) in _DAMAGE or isinstance(error, MemoryError)


def said(error: BaseException) -> str:
    """What SQLite says, in words."""
    return str(error) or "a size in it is beyond what memory holds"


def primary_code(error: BaseException) -> int:
    """SQLite's code for what happened, without its details; 0 if it is not from SQLite."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
