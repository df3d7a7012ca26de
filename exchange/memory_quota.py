"""A quota within one process: how much is left is in `meter`, here is the line.

Who is first in line watches the clock for all; who leaves the line, with what it wanted or without, lets the next one
be first. Units are taken after the last await, so whoever is cancelled, by scope or natively, has taken none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import anyio

from ..mailbox import Budget
from .meter import Allowance, Meter


class MemoryQuota:
    """Budgets in memory, exact: no period sees more than the units of a budget.

    Args:
        allowances: the budgets by name.

    Raises:
        ValueError: a budget without units, or with a period that is no time.
    """

    __slots__ = ("_budget", "_lines")

    def __init__(self, allowances: Mapping[str, Allowance]) -> None:
        self._lines = {name: _Line(allowance) for name, allowance in allowances.items()}
        self._budget = Budget()

    async def take(self, name: str, amount: int = 1) -> None:
        if amount < 1:
            raise ValueError(f"amount must be 1 or more, not {amount}")
        line = self._lines.get(name)
        if line is not None and amount > line.units:
            raise ValueError(f"{amount} units at once are more than all of the budget {name!r}, which has {line.units}")
        await self._budget.spend()
        if line is not None:
            await line.take(amount)


class _Line:
    """Those who wait for units of one budget."""

    __slots__ = ("_meter", "_waiting", "units")

    def __init__(self, allowance: Allowance) -> None:
        self._meter = Meter(allowance)
        self._waiting: deque[anyio.Event] = deque()
        self.units = allowance.units

    async def take(self, amount: int) -> None:
        now = anyio.current_time()
        if not self._waiting and self._meter.free_at(now, amount) <= now:
            self._meter.charge(now, amount)
            return
        turn = anyio.Event()
        self._waiting.append(turn)
        try:
            if self._waiting[0] is not turn:
                await turn.wait()
            while (free_at := self._meter.free_at(now := anyio.current_time(), amount)) > now:
                await anyio.sleep_until(free_at)
            self._meter.charge(now, amount)
        finally:
            was_first = self._waiting[0] is turn
            self._waiting.remove(turn)
            if was_first and self._waiting:
                self._waiting[0].set()
