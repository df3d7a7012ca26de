"""Shares as people write them: ``10%``, or ``0.1``."""

from __future__ import annotations

import re

_SHARE = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<percent>%)?")


def parse_share(text: str) -> float:
    """Read a share of one; percents may be more than 100, a bare number must not be above 1.

    Raises:
        ValueError: `text` has another form, or is a bare number above 1, which might have been meant as percents.
    """
    match = _SHARE.fullmatch(text.strip())
    if match is None or (float(match["number"]) > 1 and not match["percent"]):
        raise ValueError(f"{text!r} is no share; write 10% or 0.1")
    return float(match["number"]) / (100 if match["percent"] else 1)
