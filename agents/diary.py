"""What one run writes down.

Facts are *held* until the next one that has to be stored, and go into its entry: a reply waits for the intents that it
implies. Nothing that depends on a fact is done before the fact is durable.

A run has a diary from the moment it is enrolled until its end is written, or until another owner has it.
"""

from __future__ import annotations

from collections.abc import Callable

from ..journal import Claim, Ended, Journal, JournalError, Record, encode


class Diary:
    """The records of one run in `journal`, written with `clock`."""

    __slots__ = ("_claim", "_held", "_journal", "clock", "is_over", "run_id")

    def __init__(self, journal: Journal, run_id: str, clock: Callable[[], float]) -> None:
        self._journal = journal
        self._claim: Claim | None = None
        self._held: tuple[Record, ...] = ()
        self.run_id = run_id
        self.clock = clock
        #: Whether the last entry is written.
        self.is_over = False

    @property
    def is_open(self) -> bool:
        """Whether the run may write."""
        return self._claim is not None

    @property
    def survives(self) -> bool:
        """Whether what is written outlives the System."""
        return self._journal.survives

    def begin(self, *records: Record, parent_id: str | None, conversation_id: str | None) -> None:
        """Enrol a new run with its first entry.

        Raises:
            RunExists: the id is taken.
        """
        self._claim = self._journal.create(self.run_id, parent_id=parent_id, conversation_id=conversation_id)
        self.write(*records)

    async def reclaim(self, after: int | None = None) -> list[bytes]:
        """Become the owner of a known run, and read its entries.

        Args:
            after: the epoch that it was found in: somebody who has claimed it since keeps it. One that is ours already
                is claimed only if it still is.

        Raises:
            JournalError: it cannot be had.
        """
        if self._claim is not None:
            after = self._claim.epoch
        self._claim = await self._journal.claim(self.run_id, after=after)
        return await self._journal.read(self.run_id)

    def hold(self, *records: Record) -> None:
        """Write with the next entry."""
        self._held += records

    def write(self, *records: Record, final: bool = False) -> None:
        """Write an entry of what is held and these. Without either, nothing.

        Raises:
            JournalError: another owner has the run, or the journal cannot store.
        """
        if self._held:
            records = (*self._held, *records)
            self._held = ()
        if records and self._claim is not None and not self.is_over:
            self.is_over = final
            self._journal.append(self._claim, encode(*records), final=final)

    async def durable(self) -> None:
        """Wait until all that is written would be there after a crash.

        Raises:
            JournalError: it is not, and will not be.
        """
        if self._claim is not None:
            await self._journal.durable(self._claim)

    async def end(self, status: str, reason: str, error: str | None = None) -> None:
        """Write the last entry, and wait until it is durable."""
        self.write(Ended(status, reason, self.clock(), error), final=True)
        await self.durable()

    def close(self, status: str, reason: str) -> None:
        """Write the last entry of a run that is over without having said so; another owner has the say."""
        try:
            self.write(Ended(status, reason, self.clock()), final=True)
        except JournalError:
            pass
        self.release()

    def release(self) -> None:
        """Let the run go: it is over, or goes on elsewhere."""
        claim, self._claim = self._claim, None
        self._held = ()
        if claim is not None:
            self._journal.release(claim)

    def forget(self) -> None:
        """Another owner has the run, or it cannot be stored: write nothing more."""
        self.release()
