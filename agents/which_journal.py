"""Which journal a System was given."""

from __future__ import annotations

import os
from typing import cast

from ..journal import Journal, MemoryJournal, SqliteJournal


def read_journal(journal: object) -> Journal:
    """The journal that was meant.

    Raises:
        TypeError: neither a file's name nor a `Journal`.
    """
    if journal is None:
        return MemoryJournal()
    if isinstance(journal, str | os.PathLike):
        return SqliteJournal(cast("str | os.PathLike[str]", journal))
    methods = ("create", "claim", "append", "durable", "read", "runs", "release")
    if isinstance(journal, type) or not all(callable(getattr(journal, each, None)) for each in methods):
        raise TypeError(f"journal= takes a file's name or a Journal, not {journal!r}")
    return cast("Journal", journal)
