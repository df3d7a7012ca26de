"""A budget that many share: the protocol."""

from __future__ import annotations

from typing import Protocol


class Quota(Protocol):
    """Named budgets of so many units per period. `greenroom.testing` has a suite of tests for another one.

    In no `t` seconds are more than ``units * (1 + t / period)`` taken. What an implementation shares between machines
    it may hand on in portions; what it keeps within one may be exact.
    """

    async def take(self, name: str, amount: int = 1) -> None:
        """Wait until so many units are free and take them. They need not be given back.

        Who comes first goes first, also if somebody behind would be content with less. Cancelled while it waits, it has
        taken none. A name that has no budget has no limit.

        Raises:
            ValueError: an amount below 1, or above the whole budget, so that it would never be free.
        """
        ...
