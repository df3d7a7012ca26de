"""How much a run may use, and how often a crashed one is started again."""

from __future__ import annotations

from math import ceil, isfinite

import msgspec

from ..providers.checks import is_number, is_whole
from ..providers.keywords import Keywords

#: Limits that are counts, and what they count.
_COUNTS = {
    "turns": "turns",
    "requests": "requests",
    "tool_calls": "tool calls",
    "input_tokens": "tokens",
    "output_tokens": "tokens",
    "total_tokens": "tokens",
    "depth": "levels",
    "children": "subagents",
}


class Limits(msgspec.Struct, metaclass=Keywords, frozen=True, kw_only=True):
    """Bounds of one run and of all its subagents together. None means no bound, zero means zero.

    A limit is looked at *before* each call, and what the call may come to is set aside until it is over. So calls side
    by side do not overspend together. A subagent has limits of its own, and those of every run above it hold too.

    Args:
        turns: model replies, each with the tools it calls, of this run alone (default 50).
        requests: requests to models, further tries included.
        tool_calls: tool calls that run. A reply whose calls do not all fit has none of them run.
        input_tokens, output_tokens, total_tokens: as providers report them. Before a call, its input is estimated from
            its text, and as many output tokens are set aside as ``settings.max_tokens`` allows it, by default 4,096.
            Where fewer are left, it is asked for that many at most.
        cost: US dollars. A model whose price is not known is not asked.
        wall_time: seconds from when the run begins to work; then it is cut short. A run that is recovered goes on with
            what was left when it had last written something down.
        depth: levels of subagents below this run (default 8).
        children: subagents, at whatever depth, in all.
        warn_at: share of a limit at which `LimitWarning` is said (default 0.8), or None.

    Raises:
        ValueError: a bound that is negative or no number of its kind.
    """

    turns: int | None = 50
    requests: int | None = None
    tool_calls: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cost: float | None = None
    wall_time: float | None = None
    depth: int | None = 8
    children: int | None = None
    warn_at: float | None = 0.8

    def __post_init__(self) -> None:
        for name, what in _COUNTS.items():
            value = getattr(self, name)
            if value is not None and (not is_whole(value) or value < 0):
                raise ValueError(f"Limits({name}=) must be 0 or more whole {what}, or None for no limit, not {value!r}")
        for name, unit in (("cost", "US dollars"), ("wall_time", "seconds")):
            value = getattr(self, name)
            if value is not None and (not is_number(value) or value < 0 or not isfinite(value)):
                raise ValueError(f"Limits({name}=) must be 0 or more {unit}, or None for no limit, not {value!r}")
        if self.warn_at is not None and (not is_number(self.warn_at) or not 0 < self.warn_at <= 1):
            raise ValueError(
                f"Limits(warn_at=) must be a share above 0, at most 1, or None for no warning, not {self.warn_at!r}"
            )

    @property
    def bounds_use(self) -> bool:
        """Whether anything is bounded that a run and its subagents use together."""
        return not (
            self.requests is None
            and self.tool_calls is None
            and self.children is None
            and self.input_tokens is None
            and self.output_tokens is None
            and self.total_tokens is None
            and self.cost is None
        )

    @property
    def turn_to_warn_at(self) -> int | None:
        """The turn with which `turns` is used up to `warn_at`."""
        if self.turns is None or self.warn_at is None:
            return None
        return ceil(round(self.warn_at * self.turns, 6))


class Supervision(msgspec.Struct, metaclass=Keywords, frozen=True, kw_only=True):
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
