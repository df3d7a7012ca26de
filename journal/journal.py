"""The log of a run as a protocol of bytes: claim it, append to it, read it.

One owner writes. `claim` raises the run's *epoch* and hands out a `Claim`; every append compares (epoch, sequence),
so a former owner that wakes up late is refused with `Fenced` and cannot overwrite what its successor did. `append`
assigns the sequence and enqueues synchronously; only waiting for durability may be cancelled.

The in-memory journal keeps a run as long as the process needs it: a crashed run starts again from it.
"""

from __future__ import annotations

from typing import Protocol


class Fenced(Exception):
    """The run has another owner now: nothing of this one is stored any more."""

    def __init__(self, run_id: str, epoch: int) -> None:
        super().__init__(f"run {run_id!r} was claimed again (epoch {epoch} is over); this owner must stop")
        self.run_id = run_id
        self.epoch = epoch


class Claim:
    """The right to append to one run: its epoch, and the sequence of the next record."""

    __slots__ = ("epoch", "next", "run_id")

    def __init__(self, run_id: str, epoch: int, next: int) -> None:
        self.run_id = run_id
        self.epoch = epoch
        self.next = next


class Journal(Protocol):
    """Where runs are written down."""

    async def claim(self, run_id: str) -> Claim:
        """Become the owner of a run, new or known; the former owner is fenced off."""
        ...

    def append(self, claim: Claim, record: bytes) -> int:
        """Enqueue a record and return its sequence.

        Raises:
            Fenced: the run was claimed by another owner since.
        """
        ...

    async def durable(self, claim: Claim) -> None:
        """Wait until everything appended under `claim` would survive a crash, as far as this journal promises that."""

    async def read(self, run_id: str) -> list[bytes]:
        """All records of a run, oldest first; empty for an unknown run."""
        ...

    def release(self, claim: Claim) -> None:
        """The run has ended: a journal that keeps nothing beyond the process may forget it."""


class MemoryJournal:
    """A journal in memory: it outlives crashes of runs, not of the process."""

    __slots__ = ("_epochs", "_records")

    def __init__(self) -> None:
        self._epochs: dict[str, int] = {}
        self._records: dict[str, list[bytes]] = {}

    async def claim(self, run_id: str) -> Claim:
        epoch = self._epochs.get(run_id, 0) + 1
        self._epochs[run_id] = epoch
        records = self._records.setdefault(run_id, [])
        return Claim(run_id, epoch, len(records))

    def append(self, claim: Claim, record: bytes) -> int:
        if self._epochs.get(claim.run_id) != claim.epoch:
            raise Fenced(claim.run_id, claim.epoch)
        sequence = claim.next
        self._records[claim.run_id].append(record)
        claim.next = sequence + 1
        return sequence

    async def durable(self, claim: Claim) -> None:
        return None

    async def read(self, run_id: str) -> list[bytes]:
        return list(self._records.get(run_id, ()))

    def release(self, claim: Claim) -> None:
        if self._epochs.get(claim.run_id) == claim.epoch:
            del self._epochs[claim.run_id]
            del self._records[claim.run_id]

    def __len__(self) -> int:
        return len(self._records)
