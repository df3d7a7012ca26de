"""Figures as people read them: three digits that count, and a unit that fits.

The unit is chosen after rounding, so nothing reads 1,000 ms. What is not known is a dash, never a zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

#: Writes one quantity.
Unit: TypeAlias = Callable[[float], str]

UNKNOWN = "\N{EN DASH}"

_TIMES = ((1e-6, "µs"), (1e-3, "ms"), (1.0, "s"))
_SIZES = ((1.0, "B"), (1024.0, "KiB"), (1024.0**2, "MiB"), (1024.0**3, "GiB"), (1024.0**4, "TiB"))


def number(value: float) -> str:
    """A count or a rate: whole from 100 on, below with three digits."""
    if not math.isfinite(value):
        return UNKNOWN
    if value == int(value) or abs(value) >= 99.95:
        return f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.3g}"
    if 0 < abs(value) < 0.001:
        return f"{value:.1e}"
    return _three_digits(value)


def seconds(value: float) -> str:
    """A time: ``312 µs``, ``31.2 ms``, ``3.12 s``, ``5 min 12 s``, ``3 h 20 min``."""
    if not math.isfinite(value) or abs(value) >= 1e9:
        return UNKNOWN if not math.isfinite(value) else f"{value:.3g} s"
    if value < 0:
        return f"-{seconds(-value)}"
    if value == 0:
        return "0 s"
    if value < 99.95:
        size, name = next(each for each in _TIMES if value / each[0] < 999.5 or each[1] == "s")
        return f"{_three_digits(value / size)} {name}"
    if value < 3_599.5:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(round(value / 60), 60)
    return f"{hours:,} h {rest} min" if rest else f"{hours:,} h"


def size(value: float) -> str:
    """Bytes: ``512 B``, ``41.3 KiB``, ``1.20 GiB``."""
    if not math.isfinite(value):
        return UNKNOWN
    if value < 0:
        return f"-{size(-value)}"
    unit, name = next((each for each in _SIZES if value / each[0] < 999.5), _SIZES[-1])
    return f"{value:,.0f} B" if unit == 1.0 else f"{_three_digits(value / unit)} {name}"


def share(value: float) -> str:
    """A share of one, in percent; what is not quite all or not quite nothing does not read as if it were."""
    if not math.isfinite(value):
        return UNKNOWN
    percent = value * 100
    if abs(percent - round(percent)) < 1e-9 and (percent > 0.5 or percent == 0):
        return f"{percent:,.0f} %"
    if 0 < percent < 0.01:
        return "< 0.01 %"
    if 99.95 <= percent < 100:
        return f"{min(math.floor(percent * 100) / 100, 99.99):.2f} %"
    return f"{_three_digits(percent)} %"


def ratio(value: float) -> str:
    """How many times another: ``1.08x``."""
    return f"{value:.2f}x" if value < 99.995 else "> 99x"


def per_second(value: float) -> str:
    """A rate."""
    return f"{number(value)}/s"


def known(unit: Unit, value: float | None) -> str:
    """A quantity, or the dash."""
    return UNKNOWN if value is None else unit(value)


def _three_digits(value: float) -> str:
    large = abs(value)
    decimals = 0 if large >= 99.95 else 1 if large >= 9.995 else 2 if large >= 0.9995 else 3
    return f"{value:,.{decimals}f}"
