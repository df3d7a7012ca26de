"""What a number in an option may be, for records that check themselves when they are made."""

from __future__ import annotations

from math import isfinite
from typing import Any, TypeGuard


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a finite number; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether it is an int; True and False are none, and neither is 1.0."""
    return isinstance(value, int) and not isinstance(value, bool)
