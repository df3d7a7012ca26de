"""One budget as all machines see it: a small record at the server. Pure.

It says which units are not free, and until when, by the server's clock. A unit that is handed out may be spent until
some time later, and is free again one period after that; so no period, wherever it begins, sees more than the budget.

Who needs many units at once says so in the record, once, for a short time. Others leave them for him meanwhile, or they
would never be free together.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import msgspec


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """Somebody waits for so many units, and has said so lately."""

    who: str
    units: int
    until: float


class Shares(msgspec.Struct, frozen=True, array_like=True):
    """What is not free, by the moment at which it is; and who is first in line, if he needs many.

    Attributes:
        taken: moments, in order, with the units that are free again then.
        claim: for many units.
    """

    taken: tuple[tuple[float, int], ...] = ()
    claim: Claim | None = None

    def free_at(self, now: float, units: int, budget: int, who: str) -> float:
        """From when on somebody may have so many units: `now` for at once. It may be worth to look again before."""
        claim = self.claim
        needed = units
        if claim is not None and claim.who != who and claim.until > now:
            needed += claim.units
            if needed > budget:
                return claim.until
        free = budget - sum([each for moment, each in self.taken if moment > now])
        if free >= needed:
            return now
        for moment, each in self.taken:
            if moment > now:
                free += each
                if free >= needed:
                    return moment
        return inf

    def with_taken(self, now: float, units: int, until: float, grain: float, who: str) -> Shares:
        """After somebody has taken units, which are free again at `until`. Moments that are no further apart than
        `grain` become one, the later."""
        taken = [each for each in self.taken if each[0] > now]
        taken.append((until, units))
        taken.sort()
        merged: list[tuple[float, int]] = []
        for moment, each in reversed(taken):
            if merged and merged[-1][0] - moment <= grain:
                merged[-1] = (merged[-1][0], merged[-1][1] + each)
            else:
                merged.append((moment, each))
        claim = self.claim
        if claim is not None and (claim.who == who or claim.until <= now):
            claim = None
        return Shares(tuple(reversed(merged)), claim)

    def with_claim(self, now: float, claim: Claim) -> Shares | None:
        """After somebody has said that he needs many; None if another one has, and is first."""
        if self.claim is not None and self.claim.who != claim.who and self.claim.until > now:
            return None
        return Shares(self.taken, claim)


class Moment(NamedTuple):
    """Now, by another clock: between these two."""

    earliest: float
    latest: float


class OtherClock:
    """A clock that was read once, and what it shows since then.

    Args:
        shown: what it showed, in seconds.
        asked: our own time when it was asked.
        answered: our own time when the answer was there.
    """

    #: How much faster or slower than ours it may be.
    DRIFT = 0.0002

    __slots__ = ("_answered", "_asked", "_shown")

    def __init__(self, shown: float, asked: float, answered: float) -> None:
        self._shown = shown
        self._asked = asked
        self._answered = answered

    def at(self, ours: float) -> Moment:
        """What it shows at a moment of ours."""
        drift = self.DRIFT * (ours - self._asked)
        return Moment(self._shown + ours - self._answered - drift, self._shown + ours - self._asked + drift)

    def age(self, ours: float) -> float:
        """For how many seconds it was not read."""
        return ours - self._answered
