"""The clock, the dice and the ids of a system, in one place so that tests can replace them."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable


class Sources:
    """Where time, chance and names come from.

    Args:
        clock: seconds since the epoch (default ``time.time``).
        chance: a number in [0, 1) for jitter (default a generator of its own).
        prefix: starts every run id; by default eight random hexadecimal digits, so that ids differ between processes.
    """

    __slots__ = ("_count", "_prefix", "chance", "clock")

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] | None = None,
        prefix: str | None = None,
    ) -> None:
        self.clock = clock
        self.chance = chance if chance is not None else random.Random().random
        self._prefix = prefix if prefix is not None else secrets.token_hex(4)
        self._count = 0

    def run_id(self) -> str:
        """An id for the next run."""
        self._count += 1
        return f"run-{self._prefix}-{self._count}"
