"""What is left of a budget: each unit is free again one period after it was taken. Pure.

So no period, wherever it begins, sees more than the budget. A bucket that is refilled steadily would need less memory,
but lets through nearly twice the budget in the first period, and those who count on the other side count periods.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import NamedTuple


class Allowance(NamedTuple):
    """So many units per so many seconds."""

    units: int
    period: float


class Meter:
    """The units of one budget that are not free.

    Raises:
        ValueError: a budget without units, or with a period that is no time.
    """

    __slots__ = ("_free", "_taken", "allowance")

    def __init__(self, allowance: Allowance) -> None:
        if allowance.units < 1 or not 0 < allowance.period < inf:
            raise ValueError(f"a budget has 1 unit or more, per more than 0 seconds: not {allowance}")
        self.allowance = allowance
        self._free = allowance.units
        self._taken: deque[tuple[float, int]] = deque()  # free again at, amount

    def free_at(self, now: float, amount: int) -> float:
        """From when on so much is free, if nobody takes any before; a moment that is not after `now` for at once."""
        taken = self._taken
        while taken and taken[0][0] <= now:
            self._free += taken.popleft()[1]
        free = self._free
        if free >= amount:
            return now
        for moment, each in taken:
            free += each
            if free >= amount:
                return moment
        return inf

    def charge(self, now: float, amount: int) -> None:
        """Take units that are free."""
        self._free -= amount
        self._taken.append((now + self.allowance.period, amount))
