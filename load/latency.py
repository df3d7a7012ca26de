"""How long the simulated model thinks: a log-normal distribution given by its median and its 99th percentile.

Response times of real models are skewed: most are near the median, a few take several times as long. A
log-normal distribution has that shape, and two numbers that people know of their own service fix it. No
randomness lives here: `draw` turns a uniform number, given by the caller, into seconds.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import msgspec

from .durations import parse_seconds

_NORMAL = NormalDist()
_Z99 = _NORMAL.inv_cdf(0.99)


class Latency(msgspec.Struct, frozen=True):
    """The time to a response, in seconds.

    Args:
        median: half of the responses begin within this time; default 0.05. Zero answers at once.
        p99: 99 of 100 responses begin within this time; default 0.2. Equal to `median`, the time is constant.
        per_chunk: time between two pieces of a streamed response; default 0, all pieces leave together.

    Raises:
        ValueError: a negative or infinite time, or `p99` below `median`.
    """

    median: float = 0.05
    p99: float = 0.2
    per_chunk: float = 0.0

    def __post_init__(self) -> None:
        for name, seconds in (("median", self.median), ("p99", self.p99), ("per_chunk", self.per_chunk)):
            if not 0.0 <= seconds < math.inf:
                raise ValueError(f"{name} must be zero or more seconds, not {seconds!r}")
        if self.p99 < self.median:
            raise ValueError(f"p99 ({self.p99:g} s) must not be below the median ({self.median:g} s)")

    @classmethod
    def parse(cls, text: str) -> Latency:
        """Read ``"50ms"`` (always), ``"50ms-200ms"`` (median to p99), or either with ``"+5ms"`` (per chunk).

        Units are us, ms, s, m and h; a bare number is seconds.

        Raises:
            ValueError: `text` has another form, or its numbers make no distribution.
        """
        times, plus, chunk = text.partition("+")
        median, dash, p99 = times.partition("-")
        try:
            first = parse_seconds(median)
            return cls(first, parse_seconds(p99) if dash else first, parse_seconds(chunk) if plus else 0.0)
        except ValueError as error:
            raise ValueError(f"not a latency: {text!r} ({error}); write 50ms, 50ms-200ms or 50ms-200ms+5ms") from None

    def draw(self, u: float) -> float:
        """Seconds until the response begins, for `u` strictly between 0 and 1."""
        if self.p99 == self.median or self.median == 0.0:
            return self.median
        return self.median * math.exp(math.log(self.p99 / self.median) / _Z99 * _NORMAL.inv_cdf(u))
