"""How seconds are distributed, in bounded memory, with an error of less than 1 %.

A log-linear histogram, as HDR histograms are: each doubling of the value is cut into 128 buckets of equal width, so a
bucket is at most 1/128 (0.8 %) as wide as the values in it. Only buckets with samples take memory, and from a
nanosecond to years there are some nine thousand. Two histograms add up to the one of all their samples, exactly.

Pure.
"""

from __future__ import annotations

from itertools import accumulate
from math import ceil, frexp, ldexp

from .results import Distribution

#: Below a nanosecond nothing is told apart.
_LEAST = 1e-9


class Histogram:
    """Samples in seconds.

    Attributes:
        count: how many.
        total: their sum.
        minimum, maximum: the smallest and the largest, exact; infinite and 0 without samples.
    """

    __slots__ = ("_buckets", "count", "maximum", "minimum", "total")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.total = 0.0
        self.minimum = float("inf")
        self.maximum = 0.0

    def record(self, seconds: float) -> None:
        """Add a sample; one below 0, which only a clock that was set back gives, counts as 0."""
        if seconds < 0.0:
            seconds = 0.0
        self.count += 1
        self.total += seconds
        if seconds < self.minimum:
            self.minimum = seconds
        if seconds > self.maximum:
            self.maximum = seconds
        mantissa, exponent = frexp(seconds if seconds > _LEAST else _LEAST)
        # The mantissa is from 0.5 up to and without 1: times 256, the 128 buckets of this doubling.
        index = (exponent << 7) + int(mantissa * 256.0)
        buckets = self._buckets
        buckets[index] = buckets.get(index, 0) + 1

    def add(self, other: Histogram) -> None:
        """Add all samples of another one."""
        self.count += other.count
        self.total += other.total
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        for index, count in other._buckets.items():
            self._buckets[index] = self._buckets.get(index, 0) + count

    def quantile(self, share: float) -> float | None:
        """What so much of the samples (0 to 1) does not exceed, or up to 1 % more; None without any."""
        return self._quantiles((share,))[0] if self.count else None

    def buckets(self) -> tuple[tuple[float, int], ...]:
        """The upper bound of each bucket that is not empty, ascending, and the samples in it."""
        found: dict[float, int] = {}
        for index, count in sorted(self._buckets.items()):
            bound = min(
                _upper(index), self.maximum
            )  # where the maximum begins a bucket, that is the last one's bound too
            found[bound] = found.get(bound, 0) + count
        return tuple(found.items())

    def distribution(self) -> Distribution | None:
        """What a report says of the samples; None without any."""
        if not self.count:
            return None
        p50, p90, p95, p99, p999 = self._quantiles((0.5, 0.9, 0.95, 0.99, 0.999))
        return Distribution(
            count=self.count,
            mean=min(max(self.total / self.count, self.minimum), self.maximum),
            minimum=self.minimum,
            maximum=self.maximum,
            p50=p50,
            p90=p90,
            p95=p95,
            p99=p99,
            p999=p999,
            buckets=self.buckets(),
        )

    def _quantiles(self, shares: tuple[float, ...]) -> list[float]:
        """The quantiles for ascending shares."""
        ordered = sorted(self._buckets.items())
        reached = list(accumulate(count for _, count in ordered))
        found: list[float] = []
        place = 0
        for share in shares:
            rank = min(max(ceil(share * self.count), 1), self.count)
            while reached[place] < rank:
                place += 1
            found.append(max(min(_upper(ordered[place][0]), self.maximum), self.minimum))
        return found


def _upper(index: int) -> float:
    """The upper bound of a bucket."""
    # Within a doubling the position is 128 to 255, so one of 128 stands for each doubling's own number plus one.
    doubling, position = (index >> 7) - 1, (index & 127) + 128
    return ldexp((position + 1) / 256.0, doubling)
