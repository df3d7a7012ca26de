"""The journal in memory: it outlives crashes of runs, not of the process.

It keeps a run as long as its owner needs it, so that a process that runs for a year does not fill up. With `keep`
it keeps all of them, and so does what a file would: it outlives the System that used it. That is for tests.

It is always ready; opening and closing it does nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from . import owners
from .errors import Conflict, Fenced, RunExists, RunFinished, UnknownRun
from .journal import Claim, Listed, check_moment
from .owners import Owner


class _Run:
    """What is kept of one run."""

    __slots__ = ("changed_at", "conversation_id", "created_at", "entries", "epoch", "finished", "owner", "parent_id")

    def __init__(self, parent_id: str | None, conversation_id: str | None, owner: Owner | None, now: float) -> None:
        self.epoch = 1
        self.entries: list[bytes] = []
        self.finished = False
        self.parent_id = parent_id
        self.conversation_id = conversation_id
        self.owner = owner
        self.created_at = self.changed_at = now


class MemoryJournal:
    """A journal in memory.

    Args:
        keep: whether runs stay after their owners released them.
        clock: seconds since 1970.
    """

    __slots__ = ("_clock", "_me", "_runs", "is_open", "survives")

    def __init__(self, *, keep: bool = False, clock: Callable[[], float] = time.time) -> None:
        self.survives = keep
        self.is_open = False
        self._clock = clock
        self._runs: dict[str, _Run] = {}
        self._me: Owner | None = None

    async def __aenter__(self) -> Self:
        self._me = owners.opened()
        self.is_open = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.is_open = False
        if self._me is not None:
            owners.closed(self._me)
            self._me = None

    def create(self, run_id: str, *, parent_id: str | None = None, conversation_id: str | None = None) -> Claim:
        if run_id in self._runs:
            raise RunExists(run_id)
        claim = Claim(run_id, 1, 0)
        claim.noted = (parent_id, conversation_id)
        return claim

    async def claim(self, run_id: str, *, after: int | None = None) -> Claim:
        run = self._runs.get(run_id)
        if run is None:
            raise UnknownRun(run_id)
        if run.finished:
            raise RunFinished(run_id)
        if after is not None and run.epoch != after:
            raise Fenced(run_id, after)
        run.epoch += 1
        run.owner = self._me
        return Claim(run_id, run.epoch, len(run.entries))

    def append(self, claim: Claim, entry: bytes, *, final: bool = False, sequence: int | None = None) -> int:
        run = self._runs.get(claim.run_id)
        if run is None or claim.noted is not None:
            run = self._begin(claim)
        if run.epoch != claim.epoch:
            raise Fenced(claim.run_id, claim.epoch)
        place = claim.next if sequence is None else sequence
        if not 0 <= place <= claim.next:
            raise ValueError(f"sequence must be at most {claim.next}, the next one of this claim, not {place}")
        if place < len(run.entries):
            if run.entries[place] != entry:
                raise RunFinished(claim.run_id) if run.finished else Conflict(claim.run_id, place)
        elif run.finished:
            raise RunFinished(claim.run_id)
        elif place > len(run.entries):
            raise Conflict(claim.run_id, place)
        else:
            run.entries.append(bytes(entry))
            run.changed_at = self._clock()
            if final:
                run.finished, run.owner = True, None
        claim.next = max(claim.next, place + 1)
        return place

    def _begin(self, claim: Claim) -> _Run:
        """A run begins with its first entry."""
        if claim.noted is None:
            raise UnknownRun(claim.run_id)
        if claim.run_id in self._runs:
            raise RunExists(claim.run_id)
        parent_id, conversation_id = claim.noted
        claim.noted = None
        run = self._runs[claim.run_id] = _Run(parent_id, conversation_id, self._me, self._clock())
        return run

    async def durable(self, claim: Claim) -> None:
        run = self._runs.get(claim.run_id)
        if run is not None and (claim.noted is not None or run.epoch != claim.epoch):
            raise RunExists(claim.run_id) if claim.noted is not None else Fenced(claim.run_id, claim.epoch)

    async def read(self, run_id: str) -> list[bytes]:
        run = self._runs.get(run_id)
        return [] if run is None else run.entries.copy()

    async def runs(
        self,
        *,
        unfinished: bool = False,
        conversation_id: str | None = None,
        run_id: str | None = None,
        parent_id: str | None = None,
    ) -> list[Listed]:
        return [
            Listed(
                each_id,
                run.epoch,
                len(run.entries),
                sum(map(len, run.entries)),
                run.finished,
                run.parent_id,
                run.conversation_id,
                run.created_at,
                run.changed_at,
                run.owner,
            )
            for each_id, run in self._runs.items()
            if not (unfinished and run.finished)
            and (conversation_id is None or run.conversation_id == conversation_id)
            and (run_id is None or each_id == run_id)
            and (parent_id is None or run.parent_id == parent_id)
        ]

    async def prune(self, before: float) -> int:
        before = check_moment(before)
        roots: dict[str, str] = {}
        kept: set[str] = set()
        for run_id, run in self._runs.items():  # a subagent is younger than the run that it works for
            root = roots[run_id] = run_id if run.parent_id is None else roots.get(run.parent_id, run_id)
            if not run.finished or (root == run_id and run.changed_at >= before):
                kept.add(root)
        old = [run_id for run_id, root in roots.items() if root not in kept]
        for run_id in old:
            del self._runs[run_id]
        return len(old)

    def release(self, claim: Claim) -> None:
        run = self._runs.get(claim.run_id)
        if run is None or run.epoch != claim.epoch or claim.noted is not None:
            return
        if self.survives:
            run.owner = None
        else:
            del self._runs[claim.run_id]

    def __len__(self) -> int:
        """How many runs it keeps."""
        return len(self._runs)
