"""What can go wrong with a journal. Each text says what to do, where there is something to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .journal import Listed


class JournalError(Exception):
    """Something about a journal."""


class Fenced(JournalError):
    """The run has another owner now: nothing of this one is stored any more."""

    def __init__(self, run_id: str, epoch: int) -> None:
        super().__init__(f"run {run_id!r} was claimed again (epoch {epoch} is over); this owner must stop")
        self.run_id = run_id
        self.epoch = epoch


class RunExists(JournalError):
    """A new run was to have the id of one that the journal knows."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"the journal already has a run {run_id!r}: give another run_id=, or none")
        self.run_id = run_id


class UnknownRun(JournalError):
    """The journal has no such run; `why` says more, where more is known."""

    def __init__(self, run_id: str, why: str = "") -> None:
        super().__init__(f"the journal has no run {run_id!r}" + (f": {why}" if why else ""))
        self.run_id = run_id


class RunFinished(JournalError):
    """The run's last entry is written: nothing comes after it."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id!r} has ended: its journal takes no more entries")
        self.run_id = run_id


class Conflict(JournalError):
    """An entry was written again, and is another one than what is there. Two writers share one claim."""

    def __init__(self, run_id: str, sequence: int) -> None:
        super().__init__(
            f"entry {sequence} of run {run_id!r} is not the one that the journal has; this owner must stop"
        )
        self.run_id = run_id
        self.sequence = sequence


class JournalClosed(JournalError):
    """The journal is not open."""


class JournalFailed(JournalError):
    """What was appended could not be stored; the text says why. The run can be claimed again when that is mended."""


class CannotOpen(JournalError):
    """The journal's file cannot be opened; the text says which and what would help."""


class NotAJournal(CannotOpen):
    """The file is something else."""


class NewerFormat(CannotOpen):
    """A later version has written this."""


class Damaged(JournalError):
    """What is stored is not what was written; the text says where.

    Attributes:
        path: the file, or "" where there is none.
        run_id: the run, as far as it is known.
        sequence: the entry, as far as it is known.
        others: of `runs`: what it would have returned without the damage, as far as that can be read.
    """

    def __init__(
        self,
        what: str,
        *,
        path: str = "",
        run_id: str | None = None,
        sequence: int | None = None,
        others: tuple[Listed, ...] = (),
    ) -> None:
        place = "" if run_id is None else f", run {run_id!r}"
        place += "" if sequence is None else f", entry {sequence}"
        super().__init__(f"{path or 'the journal'}{place} is damaged: {what}")
        self.what = what
        self.path = path
        self.run_id = run_id
        self.sequence = sequence
        self.others = others
