"""How far a measured figure may lie from what it would be if the test had gone on for ever.

* A **quantile** has a distribution-free interval: how many of n samples lie below the true quantile is binomial, so
  the interval goes from one sample to another, whose ranks follow from n and the quantile alone. Where there are too
  few samples to have one beyond the quantile, it is open: nobody can tell the 99th percentile from 20 runs. The ranks
  are exact up to some hundred samples beyond the quantile and normal approximations above that. A bucket's own width
  (1 %) is part of the interval.
* A **share** has Wilson's score interval.
* A **rate** and a **cost per run** have the interval of a mean: the intervals of the timeline are taken as its samples.
* **Memory per run** is what the process has grown by. It grows in whole pieces, some of which have nothing to do with
  runs, so `GRAIN` bytes more or less, by the runs in flight, mean nothing.

The first three take samples as independent. Runs that shared one moment of a slow server are not, so the intervals are
rather too narrow: who wants to be sure repeats the test. Two intervals become one of the ratio or the difference of the
figures by the method of variance estimates recovery, which adds up the squared distances to the ends (on a logarithmic
scale for a ratio).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from statistics import NormalDist

import msgspec

from .results import Distribution

#: How sure an interval is. With a dozen figures side by side, 95 % would call one of them changed by mere chance.
CONFIDENCE = 0.99
#: Buckets are at most so much wider than the samples in them.
RESOLUTION = 0.01
#: Parts of a timeline below which nothing is said of how it varies.
LEAST_PARTS = 5
#: Bytes that a process may have grown by, or not, whatever its runs do.
GRAIN = 2 * 1024 * 1024

_TAIL = (1 - CONFIDENCE) / 2
_Z = NormalDist().inv_cdf(1 - _TAIL)
#: Where the exact probabilities would be too small to be written as numbers.
_EXACT = 600.0


class Interval(msgspec.Struct, frozen=True):
    """Where a figure lies, as sure as `CONFIDENCE`. `low` may be 0 and `high` infinite, where nobody can say."""

    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Whether the figure is another than this value."""
        return not self.low <= value <= self.high


#: Nothing is known.
ANYWHERE = Interval(0.0, math.inf)


def quantile_interval(spread: Distribution, q: float) -> Interval:
    """The interval of a quantile."""
    below = list(accumulate(samples for _, samples in spread.buckets))
    if not below or below[-1] <= 0:
        return ANYWHERE  # the report does not say where the samples lie
    least, most = quantile_ranks(below[-1], q)
    return Interval(
        0.0 if least is None else _at_rank(spread, below, least) / (1 + RESOLUTION),
        math.inf if most is None else min(_at_rank(spread, below, most), spread.maximum),
    )


def _at_rank(spread: Distribution, below: Sequence[int], rank: int) -> float:
    """The upper bound of the bucket in which the sample of this rank, counted from 1, lies."""
    return next(bound for (bound, _), reached in zip(spread.buckets, below, strict=True) if reached >= rank)


def quantile_ranks(count: int, q: float) -> tuple[int | None, int | None]:
    """The ranks, counted from 1, of the samples that enclose the true quantile; None where no sample does."""
    # `beyond` samples of `count` lie above the quantile: binomial with 1 - q. A sample of rank r is at or below the
    # quantile when at most count - r are beyond it.
    if -count * math.log(q) > _EXACT:
        middle, width = count * (1 - q), _Z * math.sqrt(count * q * (1 - q))
        fewest, many = math.floor(middle - width - 0.5), math.ceil(middle + width + 0.5)
    else:
        fewest, many = _exact_tails(count, q)
    most = count - fewest if fewest >= 0 else None
    least = count - many + 1 if many <= count else None
    return least, most


def _exact_tails(count: int, q: float) -> tuple[int, int]:
    """The largest number beyond the quantile that has a lower tail no heavier than it may be (-1: there is none), and
    the smallest that has such an upper tail (count + 1: there is none)."""
    fewest, many = -1, count + 1
    probability, reached = q**count, 0.0
    for beyond in range(count + 1):
        if reached >= 1 - _TAIL:
            many = beyond
            break
        reached += probability
        if reached <= _TAIL:
            fewest = beyond
        probability *= (count - beyond) / (beyond + 1) * (1 - q) / q
    return fewest, many


def share_interval(part: int, whole: int) -> Interval:
    """The interval of a share of `whole`."""
    if whole <= 0:
        return Interval(0.0, 1.0)
    share, square = part / whole, _Z * _Z / whole
    middle = (share + square / 2) / (1 + square)
    half = _Z * math.sqrt(share * (1 - share) / whole + square / whole / 4) / (1 + square)
    return Interval(max(middle - half, 0.0) if part else 0.0, min(middle + half, 1.0) if part < whole else 1.0)


def rate_interval(rate: float, amounts: Sequence[float], per: Sequence[float]) -> Interval:
    """The interval of a rate, from what the parts of a timeline had; with too few parts, anywhere.

    Args:
        rate: what was measured over all.
        amounts: what was counted, or spent, in each part.
        per: what it is counted by in each: seconds, or runs.
    """
    parts, total = len(amounts), math.fsum(per)
    if parts < LEAST_PARTS or total <= 0:
        return ANYWHERE
    mean = math.fsum(amounts) / total
    if mean <= 0:
        return ANYWHERE
    squares = math.fsum((amount - mean * each) ** 2 for amount, each in zip(amounts, per, strict=True))
    error = math.sqrt(squares * parts / (parts - 1)) / total
    half = rate * min(_student(parts - 1) * error / mean, 1.0)
    return Interval(rate - half, rate + half)


def _student(degrees: int) -> float:
    """The quantile of Student's t distribution (Cornish and Fisher's expansion, within 1 % from four degrees on)."""
    z = _Z
    return (
        z
        + (z**3 + z) / (4 * degrees)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
    )


def growth_interval(per_run: float, in_flight: int) -> Interval:
    """The interval of the memory of a run."""
    grain = GRAIN / max(in_flight, 1)
    return Interval(max(per_run - grain, 0.0), per_run + grain)


def ratio_interval(a: float, in_a: Interval, b: float, in_b: Interval) -> Interval:
    """The interval of b / a."""
    if a <= 0 or b <= 0:  # has no logarithm: from the outermost ends
        return Interval(_divided(in_b.low, in_a.high), _divided(in_b.high, in_a.low, math.inf))
    change = math.log(b) - math.log(a)
    low = change - math.hypot(_apart(b, in_b.low), _apart(in_a.high, a))
    high = change + math.hypot(_apart(in_b.high, b), _apart(a, in_a.low))
    return Interval(_raised(low), _raised(high))


def _divided(above: float, below: float, of_nothing: float = 0.0) -> float:
    """A ratio; that of two zeros may be anything."""
    if below > 0:
        return above / below
    return math.inf if above > 0 else of_nothing


def _raised(logarithm: float) -> float:
    """Back from the logarithmic scale, on which everything has room."""
    return math.exp(logarithm) if logarithm < 700 else math.inf


def _apart(above: float, below: float) -> float:
    """The distance on a logarithmic scale; infinite where an end is open."""
    if below <= 0 or math.isinf(above):
        return math.inf
    return max(math.log(above) - math.log(below), 0.0)


def difference_interval(a: float, in_a: Interval, b: float, in_b: Interval) -> Interval:
    """The interval of b - a."""
    low = math.hypot(b - in_b.low, in_a.high - a)
    high = math.hypot(in_b.high - b, a - in_a.low)
    return Interval(b - a - low, b - a + high)
