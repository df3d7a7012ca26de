"""How much a run may use, and how often a crashed one is started again."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one run. None means no bound, zero means zero.

    Args:
        turns: model replies, each with the tools it calls (default 50).

    Raises:
        ValueError: a negative bound.
    """

    turns: int | None = 50

    def __post_init__(self) -> None:
        if self.turns is not None and self.turns < 0:
            raise ValueError(f"Limits(turns=) must be 0 or more, or None for no limit, not {self.turns!r}")


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
        if self.intensity < 0:
            raise ValueError(f"Supervision(intensity=) must be 0 or more, not {self.intensity!r}")
        if not self.period > 0:
            raise ValueError(f"Supervision(period=) must be above 0 seconds, not {self.period!r}")
