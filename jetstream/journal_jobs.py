"""What home asks of the writer of a run, and what is known of a claim."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeAlias

import anyio

from ..journal import JournalError
from .frames import Frame

#: Makes the error that somebody is told, each time anew: one that is raised twice would collect both tracebacks.
Refusal: TypeAlias = Callable[[], JournalError]


class Refused(Exception):
    """The journal says no; `refusal` says how."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self.refusal = refusal


class Hold:
    """What is known here about a claim.

    Home has `appended`, `settled`, `refused` and `ended`; the far side has the rest from the first entry on.
    """

    __slots__ = (
        *("_changed", "appended", "conversation_id", "ended", "epoch", "failed", "is_new", "opening", "parent_id"),
        *("refused", "run_id", "settled"),
    )

    def __init__(self, run_id: str, epoch: int, opening: Any) -> None:
        self.run_id = run_id
        self.epoch = epoch
        #: The opening of the journal that it belongs to.
        self.opening = opening
        self.is_new = False
        self.parent_id: str | None = None
        self.conversation_id: str | None = None
        #: How many entries were appended, and of how many it is known what became of them.
        self.appended = 0
        self.settled = 0
        #: What every further call gets; set for good.
        self.refused: Refusal | None = None
        #: Whether its last entry is on its way.
        self.ended = False
        #: `refused`, as the far side knows it.
        self.failed: Refusal | None = None
        self._changed: anyio.Event | None = None

    def settle(self, count: int, refusal: Refusal | None) -> None:
        """So many more entries are stored, or refused. At home."""
        self.settled += count
        self.refused = self.refused or refusal
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def until_settled(self, outside: AbstractContextManager[None]) -> None:
        """Wait for all that was appended before, in that block (see `RunningLoop`). At home."""
        mark = self.appended
        while self.settled < mark and self.refused is None:
            if self._changed is None:
                self._changed = anyio.Event()
            with outside:
                await self._changed.wait()


class Entry(NamedTuple):
    """An entry to be stored, or to be found there already."""

    hold: Hold
    sequence: int
    data: bytes
    final: bool


class Taking:
    """Somebody wants to be the owner.

    Attributes:
        after: the epoch that the run was found in, for whoever wants it only then.
        is_unwanted: whether whoever wanted it has gone.
        frame: the frame that makes them the owner, once there is one.
        refusal: why not.
        over: set when it is known, at home.
    """

    __slots__ = ("after", "frame", "is_unwanted", "over", "refusal")

    def __init__(self, after: int | None) -> None:
        self.after = after
        self.is_unwanted = False
        self.frame: Frame | None = None
        self.refusal: Refusal | None = None
        self.over = anyio.Event()


class Leaving(NamedTuple):
    """The owner of that epoch lets go."""

    epoch: int


class Mark(NamedTuple):
    """Somebody wants to know when all before it is done; told on the far side."""

    reached: Callable[[], object]


Job: TypeAlias = Entry | Taking | Leaving | Mark
