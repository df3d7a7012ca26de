"""What the rows of a journal's file look like, and the checksums by which a changed one is known.

A run is one row, an entry another; entries are only ever added behind each other, so that one transaction touches few
pages however many runs it is about. Fifty entries of fifty runs were measured at 16 pages, and at 44 in a table that is
kept in the order of runs (WITHOUT ROWID), with a file half as large again; doing without the index would save 3.

A run's row has a checksum over everything it means, an entry's row one over its run, its place, its epoch and its
bytes. `tally` counts the runs, so that one that vanished is missed.
"""

from __future__ import annotations

import zlib
from struct import Struct
from typing import Any, NamedTuple

#: "grn1", in the header of the file.
APPLICATION = 0x67726E31
FORMAT = 1

SCHEMA = {
    "owners": "CREATE TABLE owners (number INTEGER PRIMARY KEY, owner BLOB NOT NULL, checksum INTEGER NOT NULL)",
    "tally": "CREATE TABLE tally (last INTEGER NOT NULL, runs INTEGER NOT NULL, checksum INTEGER NOT NULL)",
    "runs": (
        "CREATE TABLE runs (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, epoch INTEGER NOT NULL,"
        " length INTEGER NOT NULL, size INTEGER NOT NULL, finished INTEGER NOT NULL, parent TEXT, conversation TEXT,"
        " created REAL NOT NULL, changed REAL NOT NULL, owner INTEGER NOT NULL, checksum INTEGER NOT NULL)"
    ),
    # Most runs have neither a parent nor a conversation; those have no place in an index.
    "runs_of_parent": "CREATE INDEX runs_of_parent ON runs (parent) WHERE parent IS NOT NULL",
    "runs_of_conversation": "CREATE INDEX runs_of_conversation ON runs (conversation) WHERE conversation IS NOT NULL",
    "entries": (
        "CREATE TABLE entries (place INTEGER PRIMARY KEY, run INTEGER NOT NULL, sequence INTEGER NOT NULL,"
        " epoch INTEGER NOT NULL, checksum INTEGER NOT NULL, bytes BLOB NOT NULL)"
    ),
    "entries_of_run": "CREATE UNIQUE INDEX entries_of_run ON entries (run, sequence)",
}

_TALLY = Struct("<qq")
_RUN = Struct("<qqqqqdq")
_ENTRY = Struct("<qqq")


class RunRow(NamedTuple):
    """A row of `runs`, in the order of its columns."""

    number: int
    id: str
    epoch: int
    length: int
    size: int
    finished: int
    parent: str | None
    conversation: str | None
    created: float
    changed: float
    owner: int
    checksum: int

    def is_whole(self) -> bool:
        """Whether it is what was written."""
        try:
            return self.checksum == self._right_checksum()
        except Exception:  # a changed row may hold values of any type
            return False

    def with_checksum(self) -> RunRow:
        """The row, with the checksum that it should have."""
        return self._replace(checksum=self._right_checksum())

    def _right_checksum(self) -> int:
        names = names_checksum(self.id, self.parent, self.conversation, self.created)
        return run_checksum(
            names, self.number, self.epoch, self.length, self.size, self.finished, self.changed, self.owner
        )


RUN_COLUMNS = ", ".join(RunRow._fields)


def names_checksum(run_id: str, parent: str | None, conversation: str | None, created: float) -> int:
    """Of the part of a run's row that never changes."""
    return zlib.crc32(repr((run_id, parent, conversation, created)).encode())


def run_checksum(
    names: int, number: int, epoch: int, length: int, size: int, finished: int, changed: float, owner: int
) -> int:
    return zlib.crc32(_RUN.pack(number, epoch, length, size, finished, changed, owner), names)


def entry_checksum(run: int, sequence: int, epoch: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(_ENTRY.pack(run, sequence, epoch)))


def owner_checksum(data: bytes) -> int:
    return zlib.crc32(data)


def tally_checksum(last: int, runs: int) -> int:
    return zlib.crc32(_TALLY.pack(last, runs))


def is_whole_entry(run: int, sequence: Any, epoch: Any, checksum: Any, data: Any) -> bool:
    """Whether these columns are what was written, as the entry of this run and place."""
    try:
        return type(data) is bytes and checksum == entry_checksum(run, sequence, epoch, data)
    except Exception:  # as above
        return False
