"""Lengths of time as people write them: ``50ms``, ``1.5s``, ``10m``, ``1h30m``. Pure."""

from __future__ import annotations

import re

_PIECE = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>us|ms|s|m|h)?\s*")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3_600.0, None: 1.0}


def parse_seconds(text: str) -> float:
    """Read ``"50ms"``, ``"2.5s"``, ``"1h30m"``; a bare number is seconds.

    Raises:
        ValueError: `text` has another form.
    """
    stripped = text.strip()
    whole = _PIECE.fullmatch(stripped)
    if whole is not None:
        return float(whole["number"]) * _SECONDS[whole["unit"]]
    seconds, position, smallest = 0.0, 0, float("inf")
    while position < len(stripped):
        piece = _PIECE.match(stripped, position)
        # Of several, each has a unit, and a smaller one than that before it.
        if piece is None or piece["unit"] is None or _SECONDS[piece["unit"]] >= smallest:
            raise ValueError(f"{stripped!r} is not a time")
        smallest, position = _SECONDS[piece["unit"]], piece.end()
        seconds += float(piece["number"]) * smallest
    if not stripped:
        raise ValueError(f"{stripped!r} is not a time")
    return seconds
