"""The file of a `SqliteMemory`: tables, searches, and what is said when it cannot be used. All of it blocks.

`notes` has what was remembered, `search` (FTS5) knows which notes have a word, as `memory_words` makes them. The number
of its scope is part of each word: whoever looks for something meets the notes of one scope alone, so it takes as long
as these are many, however many the others have. That is also why they are ranked here: FTS5 would count the notes of
all scopes. A note's words are stored, so that it can be taken out of the index whatever a later version takes for them.

A connection that has failed is closed, and the next use opens another one.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from .memory import MemoryFailed, Note
from .memory_words import ranked, terms_of, words_of

T = TypeVar("T")

#: "grmn", in the header of the file.
APPLICATION = 0x67726D6E
FORMAT = 1
SCHEMA = (
    # A scope is never empty, so "" stands for None.
    "CREATE TABLE scopes (number INTEGER PRIMARY KEY, scope TEXT NOT NULL UNIQUE)",
    # Of the notes of a scope the highest `turn` is the newest: the clock may be set back. `size` counts the `words`.
    (
        "CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, scope INTEGER NOT NULL, text TEXT NOT NULL,"
        " at REAL NOT NULL, turn INTEGER NOT NULL, words TEXT NOT NULL, size INTEGER NOT NULL, UNIQUE (scope, text))"
    ),
    "CREATE INDEX notes_by_turn ON notes (scope, turn, size)",
    # In this tokenizer all that is not ASCII belongs to a word, so the words that we make are left as they are. Only
    # which notes have a word is asked, not where in them.
    (
        "CREATE VIRTUAL TABLE search USING fts5"
        " (words, content = 'notes', content_rowid = 'id', tokenize = 'ascii', detail = none, columnsize = 0)"
    ),
)
#: The least that SQLite writes; it takes a shorter file for an empty one.
_SMALLEST = 512
_PAUSE = 0.005
_NOTE_ID = re.compile(r"n([1-9][0-9]{0,17})")
#: More than anybody has.
_MOST = 2**31

_NEWEST = "SELECT id, text, at FROM notes WHERE scope = ? ORDER BY turn DESC LIMIT ?"
_INSERT = "INSERT INTO notes (scope, text, at, turn, words, size) VALUES (?, ?, ?, ?, ?, ?) RETURNING id"
_TOO_MANY = "SELECT id, words FROM notes WHERE scope = ? ORDER BY turn DESC LIMIT -1 OFFSET ?"
_FOUND = (  # a cross join, so that the index is asked once, and not for each note of the scope
    "SELECT notes.id, notes.text, notes.at, notes.words FROM search CROSS JOIN notes ON notes.id = search.rowid"
    " WHERE search MATCH ? AND notes.scope = ? ORDER BY notes.turn DESC"
)


class NotAMemory(MemoryFailed):
    """The file is something else."""


class NewerMemory(MemoryFailed):
    """A later version has written the file."""


class MemoryFile:
    """The notes in a file, for one thread. It is opened at the first use.

    Args:
        path: the file, as an absolute path; it is made if there is none.
        busy_timeout: seconds to wait for another process that writes.
        max_notes: notes of one scope.
        clock: seconds since 1970.
    """

    def __init__(self, path: str, busy_timeout: float, max_notes: int, clock: Callable[[], float]) -> None:
        self.path = path
        self._busy_timeout = busy_timeout
        self._max_notes = max_notes
        self._clock = clock
        self._connection: sqlite3.Connection | None = None

    def remember(self, text: str, scope: str) -> str:
        """Keep a note, and give its id."""

        def work(connection: sqlite3.Connection) -> int:
            place = _place(connection, scope)
            if place is None:
                ((place,),) = connection.execute("INSERT INTO scopes (scope) VALUES (?) RETURNING number", (scope,))
            ((turn,),) = connection.execute("SELECT coalesce(max(turn), 0) + 1 FROM notes WHERE scope = ?", (place,))
            known = connection.execute("SELECT id FROM notes WHERE scope = ? AND text = ?", (place, text)).fetchone()
            now = self._clock()
            if known is not None:
                connection.execute("UPDATE notes SET at = ?, turn = ? WHERE id = ?", (now, turn, known[0]))
                return known[0]
            found = [f"{place}x{word}" for word in words_of(text)]
            words = " ".join(found)
            values = (place, text, now, turn, words, len(found))
            ((note,),) = connection.execute(_INSERT, values)
            connection.execute("INSERT INTO search (rowid, words) VALUES (?, ?)", (note, words))
            for oldest in connection.execute(_TOO_MANY, (place, self._max_notes)).fetchall():
                _drop(connection, *oldest)
            return note

        return f"n{self._transaction(work)}"

    def recall(self, query: str, scope: str, limit: int) -> list[Note]:
        """The notes that fit."""

        def work(connection: sqlite3.Connection) -> list[tuple[int, str, float]]:
            place = _place(connection, scope)
            if place is None:
                return []
            terms = [f"{place}x{term}" for term in terms_of(query)]
            if not terms:
                return connection.execute(_NEWEST, (place, min(limit, _MOST))).fetchall()
            found = connection.execute(_FOUND, (" OR ".join([f'"{term}"' for term in terms]), place)).fetchall()
            if not found:
                return []
            ((count, average),) = connection.execute("SELECT count(*), avg(size) FROM notes WHERE scope = ?", (place,))
            best = ranked(terms, [Counter(words.split()) for *_, words in found], count, average)
            return [found[position][:3] for position in best[:limit]]

        return [Note(f"n{number}", text, at) for number, text, at in self._transaction(work, "BEGIN")]

    def forget(self, note_id: str, scope: str) -> bool:
        """Drop a note; False if there is none."""
        matched = _NOTE_ID.fullmatch(note_id)
        if matched is None:
            return False
        number = int(matched[1])

        def work(connection: sqlite3.Connection) -> bool:
            place = _place(connection, scope)
            found = connection.execute(
                "SELECT id, words FROM notes WHERE id = ? AND scope = ?", (number, place)
            ).fetchone()
            if found is not None:
                _drop(connection, *found)
            return found is not None

        return self._transaction(work)

    def close(self) -> None:
        """Close the file, if it is open."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _transaction(self, work: Callable[[sqlite3.Connection], T], begin: str = "BEGIN IMMEDIATE") -> T:
        """What `work` gives, from one state of the file, or one change of it."""
        try:
            if self._connection is None:
                self._connection = _opened(self.path, self._busy_timeout)
            self._connection.execute(begin)
            result = work(self._connection)
            self._connection.execute("COMMIT")
            return result
        except BaseException as error:
            self.close()  # which takes back what was not committed
            if isinstance(error, OSError | sqlite3.Error):
                raise _translated(error, self.path) from error
            raise


def _place(connection: sqlite3.Connection, scope: str) -> int | None:
    """The number of a scope, if there is one."""
    row = connection.execute("SELECT number FROM scopes WHERE scope = ?", (scope,)).fetchone()
    return row[0] if row is not None else None


def _drop(connection: sqlite3.Connection, number: int, words: str) -> None:
    connection.execute("INSERT INTO search (search, rowid, words) VALUES ('delete', ?, ?)", (number, words))
    connection.execute("DELETE FROM notes WHERE id = ?", (number,))


# -- opening


def _opened(path: str, busy_timeout: float) -> sqlite3.Connection:
    """A connection in autocommit, to a file that holds notes."""
    _check_path(path)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, path, time.monotonic() + busy_timeout)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_path(path: str) -> None:
    folder = os.path.dirname(path)
    if os.path.isdir(path):
        raise MemoryFailed(f"{path} is a folder: give the path of a file in it")
    if not os.path.isdir(folder):
        raise MemoryFailed(f"there is no folder {folder} for the notes {path}: make it first")
    if os.path.exists(path) and 0 < os.path.getsize(path) < _SMALLEST:
        raise NotAMemory(f"{path} holds no notes: it is too short for a database; give another path")


def _prepare(connection: sqlite3.Connection, path: str, deadline: float) -> None:
    while True:
        try:
            _enter(connection, path)
            return
        except sqlite3.OperationalError as error:
            # Whoever makes a file its log, or is the last to close it, has it for itself; SQLite waits for neither.
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            time.sleep(_PAUSE)


def _enter(connection: sqlite3.Connection, path: str) -> None:
    connection.execute("BEGIN")  # all that is looked at is of one moment
    is_memory = _is_memory(connection, path)
    connection.execute("COMMIT")
    # The death of the process loses nothing that was remembered, that of the machine may lose the last notes.
    connection.execute("PRAGMA synchronous = NORMAL")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise MemoryFailed(f"the notes {path} lie where SQLite has no write-ahead log (a network share?): move them")
    if not is_memory:
        _make(connection, path)


def _is_memory(connection: sqlite3.Connection, path: str) -> bool:
    """False for an empty file."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if (application, version, tables) == (0, 0, set()):
        return False
    if application != APPLICATION:
        raise NotAMemory(f"{path} is a database of something else, it holds no notes: give another path")
    if version > FORMAT:
        raise NewerMemory(f"{path} has format {version}, this version reads up to {FORMAT}: upgrade greenroom")
    if version != FORMAT or not tables.issuperset({"scopes", "notes", "search"}):
        raise MemoryFailed(f"the notes {path} are damaged: their tables are not what was written")
    return True


def _make(connection: sqlite3.Connection, path: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    if not _is_memory(connection, path):  # another process may have been faster
        for statement in SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.execute("COMMIT")


def _primary_code(error: sqlite3.Error) -> int:
    """What SQLite calls the failure, without its details; 0 if Python found it."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _translated(error: OSError | sqlite3.Error, path: str) -> MemoryFailed:
    code = _primary_code(error) if isinstance(error, sqlite3.Error) else 0
    if "no such module" in str(error):
        return MemoryFailed(
            "the SQLite of this Python has no full-text search (FTS5): use LocalMemory(), or another Python"
        )
    if code == sqlite3.SQLITE_NOTADB:
        return NotAMemory(f"{path} is no database, it holds no notes: give another path")
    if code == sqlite3.SQLITE_BUSY:
        return MemoryFailed(f"another process has locked the notes {path} for too long: see what it does")
    if code == sqlite3.SQLITE_FULL:
        return MemoryFailed(f"disk full: the notes {path} could not be written")
    if code == sqlite3.SQLITE_READONLY or isinstance(error, PermissionError):
        return MemoryFailed(f"the notes {path} are read-only: let this user write the file and its folder")
    if code == sqlite3.SQLITE_CORRUPT:
        return MemoryFailed(f"the notes {path} are damaged: {error}")
    return MemoryFailed(f"cannot use the notes {path}: {error}")
