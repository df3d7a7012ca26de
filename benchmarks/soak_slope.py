"""Does a series grow? Theil-Sen's slope, with Sen's interval around it.

The slope is the median of the slopes of all pairs of samples. It takes no notice of a few samples that lie anywhere,
and a single step (something that is made once, late) does not look like a growth. Memory is no noise of the
well-behaved kind, for which least squares would be better.

The interval is Sen's, from the distribution of Kendall's tau: the slopes of that many pairs on both sides of the
median. It is taken wide (99.9 %), because a soak asks about some hundred series at once. A series grows if it does so
at the lower end of its interval, and by more than its bound allows.

Pure: no I/O. Source: P. K. Sen, Estimates of the regression coefficient based on Kendall's tau, JASA 63, 1968.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import sqrt
from typing import NamedTuple

#: Of the normal distribution: 99.9 % lie within it on both sides.
_Z = 3.29
#: Fewer samples have no interval of that width: even the steepest growth could be chance.
FEWEST = 8


class Slope(NamedTuple):
    """Growth per unit of the abscissa: the best guess, and the ends of its interval."""

    guess: float
    low: float
    high: float


class Bound(NamedTuple):
    """What is no growth: at most `rate` per unit of the abscissa, or at most `least` over all samples."""

    rate: float
    least: float


def slope_of(at: Sequence[float], values: Sequence[float]) -> Slope:
    """The slope of `values`, which were taken at `at`.

    Raises:
        ValueError: fewer than `FEWEST` samples, or two at one place.
    """
    count = len(values)
    if count < FEWEST:
        raise ValueError(f"a slope needs at least {FEWEST} samples, not {count}")
    slopes: list[float] = []
    for first, second in combinations(range(count), 2):
        apart = at[second] - at[first]
        if apart == 0:
            raise ValueError(f"two samples were taken at {at[first]:g}")
        slopes.append((values[second] - values[first]) / apart)
    slopes.sort()
    pairs = len(slopes)
    aside = int((pairs - _Z * sqrt(count * (count - 1) * (2 * count + 5) / 18)) / 2)
    middle = (slopes[(pairs - 1) // 2] + slopes[pairs // 2]) / 2
    return Slope(middle, slopes[aside], slopes[pairs - 1 - aside])


def grows(slope: Slope, bound: Bound, length: float) -> bool:
    """Whether a slope, over samples that span `length`, is a growth beyond what is allowed."""
    return slope.low > bound.rate and slope.low * length > bound.least
