"""What a write-ahead log of SQLite holds, told from its bytes. https://sqlite.org/fileformat2.html, section 4.

A log is a header and frames; a frame is a page with its number, the salts of the header, and a checksum over
everything before it. A frame that ends a transaction (a *commit frame*) says how large the database is then. After a
checkpoint SQLite begins again at the front with other salts, so old frames behind new ones are normal, and so are
zeroes that a file system has left.

SQLite itself reads up to the first frame that is not whole and drops what follows without a word. At the end of the log
that is right: a crash has torn the last transaction. In the middle it drops transactions that were stored long ago.
The two are told apart here by what follows: a writer that waits for the disk has never more than one transaction on its
way.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

HEADER = 32
FRAME = 24
#: SQLite's page, if the header does not tell.
_PAGE = 4096
_MAGIC = 0x377F0682
_VERSION = 3007000
_MASK = 0xFFFFFFFF

_header = struct.Struct(">8I")
_frame = struct.Struct(">6I")


class Walk(NamedTuple):
    """What a walk through a log has found.

    Attributes:
        end: where the last whole transaction ends, in bytes.
        frames: the frames until there.
        bad: the first frame that should be whole and is not, counted from 1; 0 is the header; None if there is none.
        offset: where that is, in bytes.
        commits: the commit frames of this log from there on.
        left_out: bytes of this log behind `end`, which SQLite does not read.
    """

    end: int
    frames: int
    bad: int | None
    offset: int
    commits: int
    left_out: int

    @property
    def is_damaged(self) -> bool:
        """Whether transactions are lost that were stored: the bad place is not in the last one."""
        return self.bad is not None and self.commits > 1


def walk(log: bytes) -> Walk:
    """Walk through a log as SQLite does when it recovers, and look at what it would leave out."""
    if len(log) < HEADER:
        return Walk(0, 0, None, 0, 0, len(log))
    magic, version, page, _, salt_1, salt_2, sum_1, sum_2 = _header.unpack_from(log)
    words = ">I" if magic & 1 else "<I"
    sound = magic & ~1 == _MAGIC and version == _VERSION and _is_page(page)
    sums = _checksum(log[: HEADER - 8], words, 0, 0) if sound else (0, 0)
    if not sound or sums != (sum_1, sum_2):
        return _without_header(log, page if _is_page(page) else _PAGE)
    whole = committed = 0
    step = FRAME + page
    for offset in range(HEADER, len(log) - step + 1, step):
        number_of_page, size, frame_1, frame_2, sum_1, sum_2 = _frame.unpack_from(log, offset)
        if frame_1 != salt_1 or frame_2 != salt_2 or not number_of_page:
            break
        sums = _checksum(log[offset : offset + 8], words, *sums)
        sums = _checksum(log[offset + FRAME : offset + step], words, *sums)
        if sums != (sum_1, sum_2):
            break
        whole += 1
        if size:
            committed = whole
    end = HEADER + committed * step
    bad, commits, last = _rest(log, HEADER + whole * step, step, salt_1, salt_2)
    if bad is None:
        # Frames that are whole and were never committed are a torn transaction, too.
        return Walk(end, committed, None, 0, 0, (whole - committed) * step)
    return Walk(end, committed, (bad - HEADER) // step + 1, bad, commits, last - end)


def _is_page(size: int) -> bool:
    return 512 <= size <= 65536 and size & (size - 1) == 0


def _without_header(log: bytes, page: int) -> Walk:
    """The header is not whole. If there are frames of one log, they tell whether it ever was."""
    if len(log) < HEADER + FRAME:
        return Walk(0, 0, None, 0, 0, len(log))
    _, _, salt_1, salt_2, _, _ = _frame.unpack_from(log, HEADER)
    if not (salt_1 or salt_2):
        return Walk(0, 0, None, 0, 0, 0 if not any(log[:HEADER]) else HEADER)
    _, commits, last = _rest(log, HEADER, FRAME + page, salt_1, salt_2)
    return Walk(0, 0, 0, 0, commits, last)


def _rest(log: bytes, start: int, step: int, salt_1: int, salt_2: int) -> tuple[int | None, int, int]:
    """The first frame of this log from `start` on, how many of them commit, and where the last one ends."""
    first: int | None = None
    commits = last = 0
    for offset in range(start, len(log) - FRAME + 1, step):
        _, size, frame_1, frame_2, _, _ = _frame.unpack_from(log, offset)
        # One changed bit hits one of the salts.
        if frame_1 != salt_1 and frame_2 != salt_2:
            continue
        if first is None:
            first = offset
        commits += bool(size)
        last = min(offset + step, len(log))
    return (first if first is None else start), commits, last


def _checksum(data: bytes, words: str, first: int, second: int) -> tuple[int, int]:
    numbers = struct.unpack(f"{words[0]}{len(data) // 4}I", data)
    for index in range(0, len(numbers), 2):
        first = (first + numbers[index] + second) & _MASK
        second = (second + numbers[index + 1] + first) & _MASK
    return first, second
