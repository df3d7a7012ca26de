"""The axes of a plot: where a value lies between 0 and 1, and where the ticks are.

Ticks stand at round values: 1, 2 or 5 times a power of ten; for times of minutes and hours at 15 and 30, for bytes at
powers of two. On a logarithmic axis they stand at 1, 2 and 5 times each power of ten, and where there is no room only
the powers of ten have a label. At most `MOST` have one.

Values that an axis cannot hold, such as zero on a logarithmic one, lie at its edge.
"""

from __future__ import annotations

import math
import re

import msgspec

from .units import Unit, number, seconds, size

#: Labels of an axis, at most, and how many are aimed at.
MOST, WANTED = 9, 5
#: On a logarithmic axis more than these make room for the powers of ten alone.
MOST_LOG = 7
#: A logarithmic axis spans no more decades than this; what is lower lies at its edge.
DECADES = 9
#: Values beyond these are not told apart: an axis must end somewhere, whatever a file says.
LEAST, GREATEST = 1e-12, 1e18

_SLACK = 1e-9
#: Seconds between ticks where they are no powers of ten.
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400)


class Scale(msgspec.Struct, frozen=True):
    """One axis.

    Attributes:
        low, high: the values at its ends; `low` is below `high`.
        ticks: values, ascending, and their labels; an empty one is a tick that is only drawn.
        log: whether equal distances are equal ratios.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def place(self, value: float) -> float:
        """Where the value lies, from 0 (at `low`) to 1 (at `high`)."""
        if not value > self.low:
            return 0.0
        if not value < self.high:
            return 1.0
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear(high: float, unit: Unit = number) -> Scale:
    """From zero to a round value that is at least `high`."""
    high = _sound(high)
    step = 2.0 ** math.ceil(math.log2(high / WANTED)) if unit is size else _round_step(high / WANTED)
    count = max(math.ceil(high / step - _SLACK), 2)
    return Scale(0.0, count * step, tuple((i * step, _label(unit, i * step)) for i in range(count + 1)))


def course(high: float) -> Scale:
    """The time of a test, from zero to exactly `high` seconds."""
    high = _sound(high)
    step = _round_step(high / WANTED)
    if high > _STEPS[0] * WANTED:
        step = next((each for each in _STEPS if each * (MOST - 2) >= high), _round_step(high / WANTED))
    count = math.floor(high / step + _SLACK)
    return Scale(0.0, high, tuple((i * step, _clock(i * step, step)) for i in range(count + 1)))


def logarithmic(low: float, high: float, unit: Unit = number) -> Scale:
    """From a round value that is at most `low` to one that is at least `high`."""
    high = _sound(high)
    low = min(max(low, high * 10.0**-DECADES), high)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    marks = [_tidy(factor * 10.0**power) for power in powers for factor in (1, 2, 5)]
    first = max(i for i, each in enumerate(marks) if each <= low * (1 + _SLACK))
    last = min(i for i, each in enumerate(marks) if each >= high * (1 - _SLACK) and i > first)
    ticks = marks[first : last + 1]
    named = ticks
    if len(named) > MOST_LOG:
        named = [each for i, each in enumerate(ticks, first) if i % 3 == 0]  # powers of ten
    while len(named) > MOST:
        named = named[::2]
    labels = ((each, _label(unit, each) if each in named else "") for each in ticks)
    return Scale(marks[first], marks[last], tuple(labels), log=True)


def _sound(high: float) -> float:
    """An upper end that can be drawn."""
    return high if LEAST < high < GREATEST else GREATEST if high >= GREATEST else 1.0


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is at least so much."""
    power = 10.0 ** math.floor(math.log10(least))
    return _tidy(next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= least * (1 - _SLACK)))


def _label(unit: Unit, value: float) -> str:
    """The value of a tick, which is round: what stands after its point says nothing if it is zero."""
    return re.sub(r"\.0+(?!\d)|(\.\d*?[1-9])0+(?!\d)", r"\1", unit(_tidy(value)))


def _clock(value: float, step: float) -> str:
    """A time in the unit that the whole axis has."""
    if step >= 60:
        return f"{value / 3600:,.0f} h" if step >= 3_600 else f"{value / 60:,.0f} min"
    return _label(seconds, value)


def _tidy(value: float) -> float:
    """Without the noise of binary fractions."""
    return float(f"{value:.12g}")
