"""What a response's headers say of the provider's rate limits. Pure.

Two dialects are in use, and many variations of them:

- ``x-ratelimit-limit-requests: 10000``, ``x-ratelimit-remaining-requests: 9999``, ``x-ratelimit-reset-requests: 6ms``
  (OpenAI and those who follow it; the last one is a duration such as ``1s``, ``6m0s`` or ``2m59.56s``, elsewhere a
  number of seconds or a moment in seconds or milliseconds since 1970; the subject may have a period behind it, as in
  ``requests-day``, or be missing);
- ``anthropic-ratelimit-requests-limit``, ``…-remaining``, and ``…-reset`` with a moment in RFC 3339.

So a name is read by its words: one of *limit*, *remaining* and *reset*, and the rest is the subject. A moment is
compared with the response's own Date, so that a skewed clock here does no harm. What cannot be read is not there.

Sources: https://platform.openai.com/docs/guides/rate-limits, https://docs.anthropic.com/en/api/rate-limits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Literal, TypeAlias

import msgspec

Subject: TypeAlias = Literal["requests", "tokens", "output_tokens"]

_NAME = re.compile(r"(?:x-|anthropic-)?ratelimit-([a-z-]+)", re.IGNORECASE)
_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?"
)
_SECONDS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
#: Numbers from here on are moments since 1970 in seconds, and from the second on in milliseconds: both are in 2001.
_MOMENT, _MOMENT_MS = 1e9, 1e12


class Rate(msgspec.Struct, frozen=True):
    """One limit, as the provider tells it.

    `name` tells limits of one subject apart. `remaining` is what was left when the answer was made; `reset` is in how
    many seconds all of `limit` is there again. None: not told.
    """

    name: str
    subject: Subject
    limit: float | None
    remaining: float
    reset: float | None


def read_rates(headers: Mapping[str, str], *, now: float) -> list[Rate]:
    """The limits that a response tells of; none of them where it tells none.

    Args:
        headers: of the response; names in any case.
        now: wall-clock seconds since 1970, for a moment in a response without a Date.
    """
    told: dict[str, dict[str, str]] = {}
    for header, value in headers.items():
        found = _NAME.fullmatch(header)
        if found is None:
            continue
        words = found[1].lower().split("-")
        fields = [word for word in words if word in ("limit", "remaining", "reset")]
        if len(fields) == 1:
            words.remove(fields[0])
            told.setdefault("-".join(words), {})[fields[0]] = value
    return [rate for name, fields in told.items() if (rate := _rate(name, fields, headers, now)) is not None]


def _rate(name: str, fields: Mapping[str, str], headers: Mapping[str, str], now: float) -> Rate | None:
    subject = _subject(name)
    remaining = _number(fields.get("remaining"))
    if subject is None or remaining is None:
        return None
    limit = _number(fields.get("limit"))
    return Rate(name, subject, limit if limit else None, remaining, _reset(fields.get("reset"), headers, now))


def _subject(name: str) -> Subject | None:
    if not name or "request" in name:
        return "requests"
    if "token" in name:
        return "output_tokens" if "output" in name else "tokens"
    return None  # images, audio: nothing that every request uses


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return max(0.0, number) if isfinite(number) else None


def _reset(text: str | None, headers: Mapping[str, str], now: float) -> float | None:
    if text is None:
        return None
    text = text.strip()
    number = _number(text)
    if number is not None and number < _MOMENT:
        return number
    if number is not None:
        moment: float | None = number / 1000 if number >= _MOMENT_MS else number
    else:
        duration = _DURATION.fullmatch(text) if text else None
        if duration is not None:
            return sum(float(part) * unit for part, unit in zip(duration.groups(), _SECONDS, strict=True) if part)
        moment = _moment(text)
    return None if moment is None else max(0.0, moment - _sent(headers, now))


def _moment(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _sent(headers: Mapping[str, str], now: float) -> float:
    """When the response was made, by its maker's clock."""
    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError, IndexError, OverflowError):
        return now
