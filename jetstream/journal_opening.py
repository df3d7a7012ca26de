"""What there is of a journal while it is open, and what is asked of it."""

from __future__ import annotations

from typing import NamedTuple

from ..journal import Listed, Owner
from ..loops import RunningLoop
from .frames import listed
from .journal_lists import Known, known_runs, old_families
from .journal_store import Store
from .writers import Writers


class Opening(NamedTuple):
    """What there is while a journal is open. Its methods are for the far side, and see all that was appended before.

    Attributes:
        me: the owner that it claims runs for.
        store: the stream. On the far side.
        writers: on the far side.
        here: the event loop that it belongs to.
        thread: that event loop's.
        owns_line: whether the line is to be closed with it.
    """

    me: Owner
    store: Store
    writers: Writers
    here: RunningLoop
    thread: int
    owns_line: bool

    async def entries(self, run_id: str) -> list[bytes]:
        """All entries of a run."""
        await self.writers.settled(run_id)
        return await self.store.entries(run_id)

    async def one(self, run_id: str) -> list[Listed]:
        """What is known about a run; nothing if there is none."""
        await self.writers.settled(run_id)
        last = await self.store.last(run_id)
        return [listed(last)] if last is not None and last.meta.length else []

    async def all(self) -> Known:
        """All runs."""
        await self.writers.settled()
        return known_runs(await self.store.listed(), self.store.path)

    async def prune(self, before: float) -> int:
        """Forget the families that ended before a moment; how many runs that were.

        Raises:
            Damaged: a run cannot be read, which may be the one that others belong to. Nothing is forgotten.
        """
        known = await self.all()
        if known.damage is not None:
            raise known.damage
        below, tops = old_families(known.listed, before)
        for places in (below, tops):
            await self.store.forget([known.found[place] for place in places])
        return len(below) + len(tops)
