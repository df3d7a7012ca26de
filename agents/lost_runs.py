"""Subagents that nobody goes on with: what they have used is counted, and which of them have not ended is told.

Those that a call waits for have ids that are made from its place, so they are found one after the other, and theirs
below them; runs that a tool has given ids of its own are not. Those in the background are written down. One that may
outlive its run is none of them.
"""

from __future__ import annotations

from collections.abc import Container

import msgspec

from ..journal import BadRecord, Damaged, Journal
from ..providers import Usage
from .chronicle import Chronicle
from .ledger import Amount
from .recorded_use import used_in

#: What is wrong with a run that cannot be read.
UNREADABLE = (Damaged, BadRecord, msgspec.ValidationError)


class Lost:
    """What subagents have used.

    Attributes:
        usage: tokens, or None if nothing is known.
        cost: US dollars, or None where a part of it is not known.
        spent: what they count for against limits, themselves included.
        unfinished: the ids of those that have not ended.
    """

    __slots__ = ("cost", "spent", "unfinished", "usage")

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.cost: float | None = 0.0
        self.spent = Amount()
        self.unfinished: list[str] = []

    def add(self, told: Chronicle, now: float) -> None:
        """Count one of them."""
        self.usage = told.usage if self.usage is None else self.usage + told.usage
        known = told.ended is not None or not told.was_asking(now)
        self.cost = self.cost + told.cost if self.cost is not None and told.cost is not None and known else None
        self.spent += Amount(children=1) + used_in(told.records)
        if told.ended is None:
            self.unfinished.append(told.run_id)


async def used_under(shelf: Journal, told: Chronicle, now: float, lost: Lost) -> None:
    """Count what the subagents of a run have used that it has not written down.

    Args:
        shelf: where they are.
        told: the run.
        now: seconds since the epoch.
        lost: what they are added to.
    """
    for place in told.places_at_work:
        await used_below(shelf, told.run_id, place, told.spawned, now, lost)
    for spawned in told.spawned.values():
        if spawned.orphan == "stop" and spawned.run_id not in told.returned:
            await used_by(shelf, spawned.run_id, now, lost)


async def used_below(shelf: Journal, run_id: str, place: str, spawned: Container[str], now: float, lost: Lost) -> None:
    """Count what the subagents of a call have used that it waited for.

    Args:
        shelf, now, lost: as for `used_under`.
        run_id, place: whose call it is, and where it stands, as in the ids of its runs.
        spawned: the ids of those that it did not wait for.
    """
    number = 1
    while True:
        below = f"{run_id}.{place}.{number}"
        if below not in spawned and not await used_by(shelf, below, now, lost):
            return
        number += 1


async def used_by(shelf: Journal, run_id: str, now: float, lost: Lost) -> bool:
    """Count what one run has used, and those below it; False where it is not there, or cannot be read."""
    try:
        entries = await shelf.read(run_id)
        if not entries:
            return False
        told = Chronicle(entries)
    except UNREADABLE:
        lost.cost = None  # nor does anybody know how many there were behind it
        return False
    lost.add(told, now)
    if told.ended is None:
        await used_under(shelf, told, now, lost)
    return True
