"""What a load test was asked for, in words: for a page's head, and for what two reports do not have in common."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from .results import LoadReport
from .units import known, number, seconds


def load_in_words(report: LoadReport) -> str:
    """The load: ``100 in flight``, ``50 per second, at random, from 0 within 10.0 s``."""
    closed = report.mode == "closed"
    if report.stages:
        legs = ", ".join(f"in {seconds(each.seconds)} to {number(each.target)}" for each in report.stages)
        return f"{legs} {'in flight' if closed else 'per second'}"
    words = f"{known(number, report.concurrency)} in flight" if closed else f"{known(number, report.rate)} per second"
    if not closed and report.arrivals is not None:
        words += {"poisson": ", at random", "even": ", evenly"}[report.arrivals]
    return words + (f", from 0 within {seconds(report.ramp)}" if report.ramp else "")


def facts(report: LoadReport) -> list[tuple[str, str]]:
    """What was tested, and how long, in a few words each."""
    window = seconds(report.window)
    return [
        ("load", load_in_words(report)),
        ("measured", f"{window}, after {seconds(report.warm_up)} of warm-up" if report.warm_up else window),
        ("endpoint", report.target),
        ("model", report.model + (", streamed" if report.streamed else "")),
        ("backend", report.backend),
        ("began", _moment(report.began)),
    ]


def _moment(began: str) -> str:
    try:
        at = datetime.fromisoformat(began)
    except ValueError:
        return began
    return f"{at:%Y-%m-%d %H:%M:%S} {at:%Z}".strip()


def option_in_words(value: Any) -> str:
    """The value of an option: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
