"""Subagents of a tool call that does not run again: what they have used is counted.

Their ids are made from the call's place, so they are found one after the other, and theirs below them; runs that a tool
has given ids of its own are not.
"""

from __future__ import annotations

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


async def used_below(shelf: Journal, run_id: str, place: str, now: float, lost: Lost) -> None:
    """Count what the subagents of a call have used.

    Args:
        shelf: where they are.
        run_id, place: whose call it is, and where it stands, as in the ids of its runs.
        now: seconds since the epoch.
        lost: what they are added to.
    """
    number = 1
    while True:
        try:
            entries = await shelf.read(f"{run_id}.{place}.{number}")
            if not entries:
                return
            told = Chronicle(entries)
        except UNREADABLE:
            lost.cost = None  # nobody knows how many there were behind it
            return
        lost.add(told, now)
        if told.ended is None:
            for below in told.places_at_work:
                await used_below(shelf, told.run_id, below, now, lost)
        number += 1
