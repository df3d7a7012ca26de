"""Memory: what an agent remembers from one run to another, as notes.

A note is a short text in a *scope*: the user that a run works for, by its id, or None, the common scope of runs that
work for nobody in particular. Whoever asks names a scope and reaches the notes of that one alone.

What is looked for is plain text. It comes from models and users, so nothing in it is ever syntax; `memory_words` says
what a word is. A note fits when it has one of the words, and the best ones come first: rare words count more than
common ones, and a word in a short note more than in a long one (BM25). Among equals the newest comes first. Text
without any word asks for nothing in particular, and gets the newest notes.

This module has the protocol, what all stores share, and the store in this process. `memory_sqlite` is the one in a
file, `memory_tools` what a model has of them, `auto_recall` what is recalled by itself.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec
from anyio.lowlevel import checkpoint

from ..providers.checks import is_whole
from .memory_words import ranked, terms_of, words_of

#: Characters of one note, and notes of one scope, unless a store is told otherwise.
MAX_LENGTH = 2000
MAX_NOTES = 1000
#: Notes that are recalled, unless somebody asks for more or fewer.
LIMIT = 5


class MemoryFailed(Exception):
    """Notes could not be read or written; the text says why, and what would help."""


class Note(msgspec.Struct, frozen=True):
    """Something that was remembered.

    Attributes:
        id: what it is forgotten by; no other note of the store has or had it.
        text: what was remembered, without spaces around it.
        at: when it was remembered last, in seconds since 1970.
    """

    id: str
    text: str
    at: float


class Memory(Protocol):
    """Where notes are kept. Whatever has these methods is one; `greenroom.testing.MEMORY_CHECKS` are its tests.

    A store is used by any number of runs at once, and by several event loops in threads of their own if an agent is.
    Cancelling a method ends the waiting; a change that was under way has happened or it has not, never in part.
    """

    async def remember(self, text: str, *, scope: str | None) -> str:
        """Keep a note, and give its id. A text that is there already in this scope is the same note, as new again.

        Args:
            text: what to remember; spaces around it do not count.
            scope: a user's id, or None.

        Raises:
            TypeError, ValueError: no text, an empty one, or one that is too long for the store; no scope.
            MemoryFailed: it could not be stored.
        """
        ...

    async def recall(self, query: str, *, scope: str | None, limit: int = LIMIT) -> list[Note]:
        """The notes of this scope that fit, the best first; for a query without words the newest.

        Args:
            query: any text.
            scope: a user's id, or None.
            limit: how many at most (default 5).

        Raises:
            TypeError, ValueError: no text, no scope, or a limit below 1.
            MemoryFailed: it could not be read.
        """
        ...

    async def forget(self, note_id: str, *, scope: str | None) -> bool:
        """Drop a note of this scope; False if it has none of that id.

        Raises:
            TypeError, ValueError: no id, or no scope.
            MemoryFailed: it could not be dropped.
        """
        ...


class LocalMemory:
    """Notes in this process; they end with it. Usable from any thread and event loop.

    Args:
        max_length: characters of one note (default 2000).
        max_notes: notes of one scope (default 1000); then the one goes that was remembered longest ago.
        clock: seconds since 1970.
    """

    __slots__ = ("_clock", "_count", "_lock", "_max_length", "_max_notes", "_scopes")

    def __init__(
        self, *, max_length: int = MAX_LENGTH, max_notes: int = MAX_NOTES, clock: Callable[[], float] = time.time
    ) -> None:
        check_bounds(max_length, max_notes)
        self._max_length = max_length
        self._max_notes = max_notes
        self._clock = clock
        self._count = 0
        self._lock = threading.Lock()
        #: By text, in the order in which they were remembered last.
        self._scopes: dict[str | None, dict[str, _Kept]] = {}

    async def remember(self, text: str, *, scope: str | None) -> str:
        """See `Memory.remember`."""
        text = read_text(text, self._max_length)
        check_scope(scope)
        await checkpoint()
        words = Counter(words_of(text))
        with self._lock:
            kept = self._scopes.setdefault(scope, {})
            known = kept.pop(text, None)
            if known is None:
                self._count += 1
            note_id = known.note.id if known is not None else f"n{self._count}"
            kept[text] = _Kept(Note(note_id, text, self._clock()), words)
            while len(kept) > self._max_notes:
                del kept[next(iter(kept))]
        return note_id

    async def recall(self, query: str, *, scope: str | None, limit: int = LIMIT) -> list[Note]:
        """See `Memory.recall`."""
        check_query(query, limit)
        check_scope(scope)
        await checkpoint()
        with self._lock:
            newest_first = [*self._scopes.get(scope, {}).values()][::-1]
        terms = terms_of(query)
        if not terms or not newest_first:
            return [each.note for each in newest_first[:limit]]
        words = [each.words for each in newest_first]
        average = sum(each.total() for each in words) / len(words)
        return [newest_first[position].note for position in ranked(terms, words, len(words), average)[:limit]]

    async def forget(self, note_id: str, *, scope: str | None) -> bool:
        """See `Memory.forget`."""
        check_note_id(note_id)
        check_scope(scope)
        await checkpoint()
        with self._lock:
            kept = self._scopes.get(scope, {})
            text = next((text for text, each in kept.items() if each.note.id == note_id), None)
            if text is None:
                return False
            del kept[text]
            if not kept:
                del self._scopes[scope]
        return True

    def __repr__(self) -> str:
        return f"<LocalMemory: notes in {len(self._scopes)} scopes>"


class _Kept(NamedTuple):
    """A note, and its words with how often each is there."""

    note: Note
    words: Counter[str]


# -- what every store checks


def read_text(text: object, max_length: int) -> str:
    """The text of a note, without spaces around it.

    Raises:
        TypeError, ValueError: it is none, or one that cannot be kept.
    """
    if not isinstance(text, str):
        raise TypeError(f"a note is text, not {type(text).__name__}")
    text = text.strip()
    if not text:
        raise ValueError("a note must not be empty")
    if len(text) > max_length:
        raise ValueError(f"a note has at most {max_length:,} characters, not {len(text):,}: say it shorter")
    if not _is_storable(text):
        raise ValueError("a note must be text that UTF-8 can hold; this one has half a surrogate pair")
    return text


def check_scope(scope: object) -> None:
    """Refuse what is no scope.

    Raises:
        TypeError, ValueError: neither None nor an id.
    """
    if scope is None:
        return
    if not isinstance(scope, str):
        raise TypeError(f"scope= takes a user's id as text, or None, not {scope!r}")
    if not scope:
        raise ValueError("scope= must not be empty: give None for the notes of nobody in particular")
    if not _is_storable(scope):
        raise ValueError(f"scope= must be text that UTF-8 can hold, not {scope!r}")


def check_query(query: object, limit: object) -> None:
    """Refuse what cannot be looked for.

    Raises:
        TypeError, ValueError: the query is no text, or the limit no number from 1.
    """
    if not isinstance(query, str):
        raise TypeError(f"a query is text, not {type(query).__name__}")
    if not is_whole(limit):
        raise TypeError(f"limit= takes a whole number, at least 1, not {limit!r}")
    if limit < 1:
        raise ValueError(f"limit= takes a whole number, at least 1, not {limit!r}")


def check_note_id(note_id: object) -> None:
    """Refuse what is no id.

    Raises:
        TypeError: it is no text.
    """
    if not isinstance(note_id, str):
        raise TypeError(f"a note's id is text, not {note_id!r}")


def check_bounds(max_length: object, max_notes: object) -> None:
    """Refuse bounds of a store that leave no room.

    Raises:
        TypeError, ValueError: no whole number, or one below 1.
    """
    for name, value in (("max_length", max_length), ("max_notes", max_notes)):
        if not is_whole(value):
            raise TypeError(f"{name}= takes a whole number, at least 1, not {value!r}")
        if value < 1:
            raise ValueError(f"{name}= takes a whole number, at least 1, not {value!r}")


def check_memory(memory: object) -> None:
    """Refuse what is no store.

    Raises:
        TypeError: it lacks a method, or is a class.
    """
    methods = ("remember", "recall", "forget")
    if isinstance(memory, type) or not all(callable(getattr(memory, each, None)) for each in methods):
        raise TypeError(f"memory= takes a store such as LocalMemory() or SqliteMemory('notes.db'), not {memory!r}")


def _is_storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
