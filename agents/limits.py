"""How much a run may use, and how often a crashed one is started again."""

from __future__ import annotations

import msgspec

from ..providers.checks import is_number, is_whole


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one run. None means no bound, zero means zero.

    Args:
        turns: model replies, each with the tools it calls (default 50).

    Raises:
        ValueError: a bound that is negative or not a whole number.
    """

    turns: int | None = 50

    def __post_init__(self) -> None:
        if self.turns is not None and (not is_whole(self.turns) or self.turns < 0):
            raise ValueError(f"Limits(turns=) must be 0 or more whole turns, or None for no limit, not {self.turns!r}")


class Supervision(msgspec.Struct, frozen=True, kw_only=True):
    """How often a run that crashed goes on from its journal. The budget is the run's own.

    A crash is an error in the code around the run: a function for instructions, a provider, our own. What a tool
    raises is no crash, and neither is a model call that fails.

    Args:
        intensity: restarts within `period` (default 2).
        period: the sliding window in seconds (default 60).
    """

    intensity: int = 2
    period: float = 60.0

    def __post_init__(self) -> None:
        if not is_whole(self.intensity) or self.intensity < 0:
            raise ValueError(f"Supervision(intensity=) must be a whole number, 0 or more, not {self.intensity!r}")
        if not is_number(self.period) or self.period <= 0:
            raise ValueError(f"Supervision(period=) must be above 0 seconds, not {self.period!r}")
