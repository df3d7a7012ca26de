"""Opening the file of a journal: what it must be, how it is made, and what is said when it cannot be used.

The write-ahead log beside it is looked at first (`wal.py`), because SQLite drops what follows a bad place in it, and
the last one to close the file removes the log.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time

from .errors import CannotOpen, Damaged, JournalError, NewerFormat, NotAJournal
from .sqlite_rows import APPLICATION, FORMAT, SCHEMA, tally_checksum
from .sqlite_tables import is_damage, primary_code
from .wal import Walk, walk

_SYNCHRONOUS = {"sync": "FULL", "group": "FULL", "none": "OFF"}
_TABLES = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
#: The least that SQLite writes; it takes a shorter file for an empty one.
SMALLEST = 512
#: How often a log is read that seems damaged: another process may write it at this moment.
LOOKS = 5

_log = logging.getLogger("greenroom")


def open_file(path: str, durability: str, busy_timeout: float) -> sqlite3.Connection:
    """A connection in autocommit, to a file that is a journal. In a thread: it may take its time.

    Raises:
        CannotOpen: and what would help.
        Damaged: it is not as it was written.
    """
    _check_path(path)
    torn = _check_log(path)
    connection: sqlite3.Connection | None = None
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
        connection.text_factory = _text
        _prepare(connection, path, durability, time.monotonic() + busy_timeout)
        if torn:
            _say_what_is_left_out(connection, path)
    except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
        if connection is not None:
            connection.close()
        raise _translated(error, path) from error
    except BaseException:
        if connection is not None:
            connection.close()
        raise
    return connection


def _text(data: bytes) -> str:
    """One changed text must not hide the rows around it."""
    return data.decode("utf-8", "surrogateescape")


def _check_path(path: str) -> None:
    folder = os.path.dirname(path)
    if os.path.isdir(path):
        raise CannotOpen(f"{path} is a folder: give the path of a file in it")
    if not os.path.isdir(folder):
        raise CannotOpen(f"there is no folder {folder} for the journal {path}: make it first")
    if os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK):
        raise CannotOpen(f"the journal {path} is read-only for this user: let it read and write the file")
    if os.path.exists(path) and 0 < os.path.getsize(path) < SMALLEST:
        raise NotAJournal(f"{path} is not a journal: it is too short; give another path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CannotOpen(
            f"the journal {path} lies in a folder that is read-only for this user: SQLite makes two files beside it"
        )


def _translated(error: OSError | sqlite3.Error | UnicodeDecodeError, path: str) -> JournalError:
    code = primary_code(error)
    if code == sqlite3.SQLITE_NOTADB:
        return NotAJournal(f"{path} is not a journal ({error}): give another path")
    if isinstance(error, UnicodeDecodeError):  # Python could not even read the message, which names a changed table
        return Damaged("its tables are not what was written", path=path)
    if is_damage(error):
        return Damaged(str(error), path=path)
    if code == sqlite3.SQLITE_BUSY:
        return CannotOpen(f"another process has locked the journal {path} for too long: see what it does")
    if code == sqlite3.SQLITE_READONLY:
        return CannotOpen(
            f"the journal {path} is read-only: give this user permission to write the file and its folder"
        )
    return CannotOpen(f"cannot open the journal {path}: {error}")


# -- the log


def _check_log(path: str) -> bool:
    """Whether the end of the log is torn, as far as that can be told while others may write it.

    Raises:
        Damaged: more than the end is lost.
    """
    found = _walk(path)
    for _ in range(LOOKS):
        if not found.is_damaged:
            break
        found = _walk(path)
    if found.is_damaged:
        place = "its header" if not found.bad else f"frame {found.bad}"
        raise Damaged(
            f"the log {path}-wal is not what was written: {place}, at byte {found.offset}; {found.commits}"
            " transactions from there on would be lost",
            path=path,
        )
    if found.frames and not (os.path.exists(path) and os.path.getsize(path)):
        raise Damaged(f"the file is empty, but its log {path}-wal is not", path=path)
    return found.left_out > 0


def _walk(path: str) -> Walk:
    try:
        with open(f"{path}-wal", "rb") as file:
            return walk(file.read())
    except FileNotFoundError:
        return walk(b"")


def _say_what_is_left_out(connection: sqlite3.Connection, path: str) -> None:
    """Look again while nobody writes; then begin a new log, so that nothing of the torn end is met again."""
    connection.execute("BEGIN IMMEDIATE")
    left_out = _walk(path).left_out
    connection.execute("COMMIT")
    if left_out:
        _log.warning(
            "the last transaction of the journal %s was torn: %d bytes of its log are left out", path, left_out
        )
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


# -- the tables


def _prepare(connection: sqlite3.Connection, path: str, durability: str, deadline: float) -> None:
    while True:
        try:
            _enter(connection, path, durability)
            return
        except sqlite3.OperationalError as error:
            # Whoever makes a file its log, or the last one to close it, has it for itself; SQLite waits for neither.
            if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _enter(connection: sqlite3.Connection, path: str, durability: str) -> None:
    connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")
    if durability != "none":  # on macOS, an fsync as others know it
        connection.execute("PRAGMA fullfsync = 1")
        connection.execute("PRAGMA checkpoint_fullfsync = 1")
    connection.execute("PRAGMA wal_autocheckpoint = 0")  # see `Store.checkpoint`
    connection.execute("BEGIN")  # what is looked at must be of one moment: another process may be making it
    try:
        is_journal = _is_journal(connection, path)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise CannotOpen(f"the journal {path} lies where SQLite has no write-ahead log (a network share?): move it")
    if not is_journal:
        _make(connection, path)


def _is_journal(connection: sqlite3.Connection, path: str) -> bool:
    """False for an empty file."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    tables = dict(connection.execute(_TABLES))
    if (application, version, tables) == (0, 0, {}):
        return False
    if application != APPLICATION:
        raise NotAJournal(f"{path} is a database of something else, not a journal: give another path")
    if version > FORMAT:
        raise NewerFormat(f"{path} has format {version}, this version reads up to {FORMAT}: upgrade greenroom")
    if version != FORMAT or tables != SCHEMA:
        raise Damaged("its tables are not what was written", path=path)
    return True


def _make(connection: sqlite3.Connection, path: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _is_journal(connection, path):  # another process may have been faster
            for statement in SCHEMA.values():
                connection.execute(statement)
            connection.execute("INSERT INTO tally VALUES (0, 0, ?)", (tally_checksum(0, 0),))
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
