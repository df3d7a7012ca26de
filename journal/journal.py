"""The log of a run as a protocol of bytes: claim it, append to it, read it.

One owner writes. A run is *created* by its first owner and *claimed* by each later one; a claim raises the run's
*epoch*, and every append compares (epoch, sequence), so a former owner that wakes up late is refused with `Fenced` and
cannot overwrite what its successor did. Repeating an entry that is there, at its sequence, succeeds and stores nothing:
a writer that does not know whether its entry arrived may write it again.

A run begins with its first entry; before that, nobody else sees that it was created. It ends with an entry that is
`final`, and takes no more.

`append` assigns the sequence and enqueues synchronously; only waiting for durability may be cancelled. A journal that
stores elsewhere may learn only later that an entry is refused: `durable` raises it then, and every later `append`.
Nothing that was appended behind a refused entry is stored.

A journal is an async context manager; whoever makes it opens and closes it, or gives it to a System, which does. It
belongs to the event loop that it is opened in, and all of its methods are called there.
"""

from __future__ import annotations

from math import isnan, nan
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec

from .owners import Owner


class Claim:
    """The right to append to one run: its epoch, and the sequence of the next entry.

    One that is made by hand stands for the claim with that epoch, as after a restart: it may repeat what is there
    already.
    """

    __slots__ = ("epoch", "next", "noted", "run_id")

    def __init__(self, run_id: str, epoch: int, next: int) -> None:
        self.run_id = run_id
        self.epoch = epoch
        self.next = next
        #: What the journal that works with this claim knows about it. Nobody else's.
        self.noted: Any = None

    def __repr__(self) -> str:
        return f"<Claim of {self.run_id!r}, epoch {self.epoch}, next {self.next}>"


class Listed(msgspec.Struct, frozen=True):
    """What a journal knows about a run without understanding its entries.

    Attributes:
        run_id: its id.
        epoch: how often it was created or claimed.
        length: its number of entries.
        size: their bytes together.
        finished: whether its last entry is there.
        parent_id: the run that it is part of.
        conversation_id: the conversation that it is part of.
        created_at: when its first entry was stored, in seconds since 1970.
        changed_at: when its last entry was stored, likewise.
        owner: who has claimed it; None once it was released or finished.
    """

    run_id: str
    epoch: int
    length: int
    size: int
    finished: bool
    parent_id: str | None
    conversation_id: str | None
    created_at: float
    changed_at: float
    owner: Owner | None


def check_moment(before: object) -> float:
    """The moment, as a number.

    Raises:
        TypeError: it is none.
    """
    try:
        moment = nan if isinstance(before, bool) or not isinstance(before, int | float) else float(before)
    except OverflowError:
        moment = nan
    if isnan(moment):
        raise TypeError(
            f"before= is a moment in seconds since 1970, such as time.time() - 30 * 86_400, not {before!r:.80}"
        )
    return moment


class Journal(Protocol):
    """Where runs are written down. `greenroom.testing` has a suite of tests for whoever writes another one."""

    @property
    def survives(self) -> bool:
        """Whether what is durable outlives this object, so that runs may go on from it after a restart."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether it is open: between the beginning and the end of ``async with``."""
        ...

    async def __aenter__(self) -> Self:
        """Open it.

        Raises:
            CannotOpen: there is no way; `NotAJournal` and `NewerFormat` are such errors.
            Damaged: what is there cannot be trusted.
        """
        ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Store what was appended, then close."""

    def create(self, run_id: str, *, parent_id: str | None = None, conversation_id: str | None = None) -> Claim:
        """Become the first owner of a new run. It is there for others from its first entry on.

        Raises:
            RunExists: the journal has such a run. One that stores elsewhere may say so only in `durable`.
        """
        ...

    async def claim(self, run_id: str, *, after: int | None = None) -> Claim:
        """Become the owner of a run; the former owner is fenced off.

        Args:
            run_id: the run.
            after: the epoch that it was found in, for whoever wants it only if nobody else has claimed it since.

        Raises:
            Fenced: somebody has.
            UnknownRun: there is no such run.
            RunFinished: it has its last entry.
        """
        ...

    def append(self, claim: Claim, entry: bytes, *, final: bool = False, sequence: int | None = None) -> int:
        """Enqueue an entry and return its sequence.

        Args:
            claim: the right to it.
            entry: any bytes.
            final: whether it is the run's last one.
            sequence: below `claim.next`, the entry that is repeated; its final is not looked at. Default: the next.

        Raises:
            Fenced: the run was claimed by another owner since.
            RunFinished: the run has its last entry.
            Conflict: another entry has this sequence.
            JournalFailed: this entry, or one before it, cannot be stored.
            JournalClosed: the journal is not open.
        """
        ...

    async def durable(self, claim: Claim) -> None:
        """Wait until everything appended under `claim` would survive a crash, as far as this journal promises that.

        May be cancelled; that changes nothing about what is stored.

        Raises:
            RunExists: the run was not new.
            Fenced, RunFinished, Conflict, JournalFailed: as for `append`.
        """

    async def read(self, run_id: str) -> list[bytes]:
        """All entries of a run, oldest first, with all that was appended through this object; empty for an unknown run.

        Raises:
            Damaged: not everything is there as it was written.
        """
        ...

    async def runs(
        self,
        *,
        unfinished: bool = False,
        conversation_id: str | None = None,
        run_id: str | None = None,
        parent_id: str | None = None,
    ) -> list[Listed]:
        """The runs, in the order in which they were created.

        Args:
            unfinished: only those that have no last entry.
            conversation_id: only those of this conversation.
            run_id: only this one.
            parent_id: only the subagents of this run.

        Raises:
            Damaged: at least one cannot be listed; `others` has those that can.
        """
        ...

    async def prune(self, before: float) -> int:
        """Forget what ended before the moment `before`, in seconds since 1970; how many runs that were.

        A run and all of its subagents are forgotten together, when its own last entry is older and all of them have
        ended: what a run that is not over has had done is never forgotten. A run whose parent the journal does not
        know, or has known only since, is nobody's subagent.

        Done in small steps, each whole, so that it keeps nobody waiting.

        Raises:
            TypeError: `before` is no moment: ``time.time() - 30 * 86_400`` is that of thirty days ago.
        """
        ...

    def release(self, claim: Claim) -> None:
        """The owner lets go: its run is over, or lies where somebody may claim it.

        A journal that keeps nothing beyond the process may forget the run.
        """
