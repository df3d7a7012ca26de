"""The file of a journal, opened so that it is only read.

Nothing is written, not even where whoever had the file has died: what SQLite would mend on opening is read as it would
be after mending. Readers and the owner do not wait for each other. SQLite keeps two small files beside the journal
while it is read, and leaves them there.

All of it blocks, and is for one thread at a time.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

from . import sqlite_file as files
from .errors import CannotOpen, NotAJournal
from .journal import Listed
from .owners import Owner
from .sqlite_store import Asked, Store
from .sqlite_tables import primary_code

T = TypeVar("T")

#: Whoever reads owns nothing.
_NOBODY = Owner(0, 0, "", "", "")
#: What passes: another process makes the file its log, mends it, or is the last to close it.
_PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL}
_PAUSE = 0.005


class JournalReader:
    """The journal in a file, to be read: what `SqliteJournal` has of it, and nothing that writes. All of it blocks.

    Args:
        path: the file, as an absolute path.
        busy_timeout: seconds to wait for a process that has it for itself.

    Raises:
        CannotOpen: there is no such file, it may not be read, is something else, or of a later version.
        Damaged: it is not as it was written.
    """

    def __init__(self, path: str, busy_timeout: float) -> None:
        self.path = path
        self._busy_timeout = busy_timeout
        _check_path(path)
        files._check_log(path)
        self._store = self._connect("mode=ro")
        try:
            self._check()
        except CannotOpen:
            self.close()
            if os.access(os.path.dirname(path), os.W_OK) or _has_log(path):
                raise
            # Nobody can have it open for writing where no log can be made.
            self._store = self._connect("mode=ro&immutable=1")
            try:
                self._check()
            except BaseException:
                self.close()
                raise
        except BaseException:
            self.close()
            raise

    def _connect(self, how: str) -> Store:
        address = f"file:{quote(self.path)}?{how}"
        try:
            connection = sqlite3.connect(
                address, uri=True, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise files._translated(error, self.path) from error
        connection.text_factory = files._text
        return Store(connection, self.path, _NOBODY, time.time)

    def _check(self) -> None:
        if not self._reading(lambda store: files._is_journal(store.connection, self.path)):
            raise NotAJournal(f"{self.path} is empty: no journal was made in it")

    def _reading(self, question: Callable[[Store], T]) -> T:
        """The answer, from one state of the file."""
        deadline = time.monotonic() + self._busy_timeout
        connection = self._store.connection
        while True:
            try:
                connection.execute("BEGIN")
                try:
                    return question(self._store)
                finally:
                    connection.execute("COMMIT")
            except sqlite3.Error as error:
                if primary_code(error) not in _PASSING or time.monotonic() > deadline:
                    raise files._translated(error, self.path) from error
                time.sleep(_PAUSE)

    def read(self, run_id: str) -> list[bytes]:
        """All entries of a run; none of an unknown one."""
        return self._reading(lambda store: store.read(run_id))

    def runs(self, unfinished: bool, conversation_id: str | None, run_id: str | None) -> list[Listed]:
        """The runs, in the order in which they were created."""
        return self._reading(lambda store: store.runs(Asked(unfinished, conversation_id, run_id, None)))

    def version(self) -> int:
        """A number that is another one whenever anybody has changed the file."""
        return self._reading(lambda store: store.connection.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        self._store.connection.close()


def _check_path(path: str) -> None:
    if os.path.isdir(path):
        raise CannotOpen(f"{path} is a folder: give the path of a file in it")
    if not os.path.exists(path):
        raise CannotOpen(f"there is no file {path}")
    if not os.access(path, os.R_OK):
        raise CannotOpen(f"the journal {path} may not be read by this user")
    if 0 < os.path.getsize(path) < files.SMALLEST:
        raise NotAJournal(f"{path} is not a journal: it is too short; give another path")


def _has_log(path: str) -> bool:
    try:
        return os.path.getsize(f"{path}-wal") > 0
    except OSError:
        return False
