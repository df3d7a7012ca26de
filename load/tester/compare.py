"""Two load reports side by side: what has changed, and what of it is more than noise.

Before any figure comes what the tests do not have in common, for two figures tell nothing of a change in the code when
the load, the model or the machine was another. Each pair of figures then has a ratio, an interval of it (`noise` says
how sure, and of what) and a verdict: *better* and *worse* are said only where the interval excludes that nothing has
changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias

import msgspec

from .noise import (
    ANYWHERE,
    Interval,
    difference_interval,
    growth_interval,
    quantile_interval,
    rate_interval,
    ratio_interval,
    share_interval,
)
from .results import Distribution, LoadReport, Moment
from .units import Unit, known, per_second, ratio, seconds, share, size
from .unlike import Difference, differences
from .verdict import ENDED, Verdict

Kind: TypeAlias = Literal["time", "size", "rate", "share"]
Change: TypeAlias = Literal["better", "worse", "unclear", "equal", "missing"]

UNITS: dict[Kind, Unit] = {"time": seconds, "size": size, "rate": per_second, "share": share}

#: Latencies that are compared: name, field of the report, quantiles.
_SPREADS = (
    ("run", "run_latency", (0.5, 0.9, 0.99)),
    ("request", "request_latency", (0.5, 0.99)),
    ("first token", "first_token", (0.5, 0.99)),
    ("per output token", "per_token", (0.5, 0.99)),
    ("overhead", "overhead", (0.5, 0.99)),
)
_PERCENTILES = {0.5: "p50", 0.9: "p90", 0.99: "p99"}


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of two reports.

    Attributes:
        name: what it is.
        kind: its unit: seconds, bytes, per second, or a share of one.
        higher_is_better: which way is good.
        a, b: its values; None where it was not measured.
        interval: of ``b / a`` (of ``b - a`` for a share); None where one of the two is missing.
        change: what has become of it from `a` to `b`: ``unclear`` is a change within the noise, ``missing`` a figure
            that one of the two does not have.
    """

    name: str
    kind: Kind
    higher_is_better: bool
    a: float | None
    b: float | None
    interval: Interval | None
    change: Change

    @property
    def ratio(self) -> float | None:
        """`b` by `a`; infinite where only `a` is zero, None where it cannot be said."""
        if self.a is None or self.b is None or (self.a <= 0 and self.b <= 0):
            return None
        return self.b / self.a if self.a > 0 else math.inf

    @property
    def worsening(self) -> float:
        """By which share of `a` it has become worse (0.1 is 10 %); not above 0 where it has not."""
        if self.ratio is None:
            return 0.0
        return 1 - self.ratio if self.higher_is_better else self.ratio - 1

    def shown(self, value: float | None) -> str:
        """A value of it, for people."""
        return known(UNITS[self.kind], value)

    def ratio_shown(self) -> str:
        """The ratio, for people."""
        return known(ratio, self.ratio)

    def interval_shown(self) -> str:
        """The interval of the ratio, for people."""
        if self.interval is None or self.kind == "share":
            return ""
        low, high = (f"{each:.2f}" if each < 100 else "?" for each in (self.interval.low, self.interval.high))
        return f"{low if self.interval.low > 0 else '?'} to {high}"

    def change_shown(self) -> str:
        """The verdict, for people."""
        if self.change == "unclear":
            few = self.interval is not None and (math.isinf(self.interval.high) or self.interval.low <= 0)
            return "too few samples" if few and self.kind == "time" else "within the noise"
        return "not in both" if self.change == "missing" else self.change


class Comparison(msgspec.Struct, frozen=True):
    """Two reports side by side.

    Attributes:
        differences: what the tests do not have in common, what matters most first.
        doubts: why figures of either may mislead, each a line.
        figures: those that at least one of the reports has.
    """

    differences: tuple[Difference, ...]
    doubts: tuple[str, ...]
    figures: tuple[Figure, ...]

    def worse_by_more_than(self, limit: float) -> list[Figure]:
        """The figures that have become worse beyond the noise, and by more than this share."""
        return [each for each in self.figures if each.change == "worse" and each.worsening > limit]

    @property
    def compared(self) -> list[Figure]:
        """The figures that both reports have."""
        return [each for each in self.figures if each.change != "missing"]


def compare(a: LoadReport, b: LoadReport) -> Comparison:
    """What has changed from one load test to another."""
    return Comparison(tuple(differences(a, b)), (*_doubts(a, "A"), *_doubts(b, "B")), tuple(_figures(a, b)))


def _doubts(report: LoadReport, which: str) -> Iterator[str]:
    if not any(report.runs.get(name, 0) for name in ENDED):
        yield f"{which}: no run ended in the measured window"
    yield from (f"{which}: {warning}" for warning in report.warnings)


def judge_comparison(comparison: Comparison) -> Verdict:
    """What a comparison says in a sentence or two."""
    compared = comparison.compared
    if not compared:
        return Verdict("bad", "Nothing can be compared", "No figure was measured in both tests.")
    worse = [each for each in compared if each.change == "worse"]
    better = [each for each in compared if each.change == "better"]
    if worse:
        headline = f"B is worse in {len(worse)} of {len(compared)} figures"
        headline += f" and better in {len(better)}" if better else ""
    elif better:
        headline = f"B is better in {len(better)} of {len(compared)} figures and worse in none"
    else:
        headline = "No figure has changed by more than the noise"
    changed = worse or better
    words = ""
    if changed:
        most = max(changed, key=lambda each: abs(each.worsening))
        words = f"Most of all {most.name}: {most.shown(most.a)} in A, {most.shown(most.b)} in B."
    if unlike := [each.name for each in comparison.differences if each.unlike]:
        why = f"The tests are not alike ({', '.join(unlike)}): figures may differ for that reason alone."
        return Verdict("caution", headline, f"{why} {words}".strip())
    return Verdict("bad" if worse else "good", headline, words)


# -- figures


def _figures(a: LoadReport, b: LoadReport) -> Iterator[Figure]:
    found = [
        _rate("runs per second", "rate", a, b, lambda each: each.runs_per_second or None, _runs_in_time),
        _rate("tokens per second", "rate", a, b, lambda each: each.tokens_per_second or None, _tokens_in_time),
        _failures(a, b),
        *_quantiles(a, b),
        _rate("CPU per run", "time", a, b, lambda each: each.cpu_per_run, _cpu_by_runs),
        _memory(a, b),
    ]
    return (each for each in found if each.a is not None or each.b is not None)


def _quantiles(a: LoadReport, b: LoadReport) -> Iterator[Figure]:
    for name, field, quantiles in _SPREADS:
        in_a: Distribution | None = getattr(a, field)
        in_b: Distribution | None = getattr(b, field)
        for q in quantiles:
            percentile = _PERCENTILES[q]
            values = [None if each is None else float(getattr(each, percentile)) for each in (in_a, in_b)]
            intervals = [ANYWHERE if each is None else quantile_interval(each, q) for each in (in_a, in_b)]
            yield _figure(f"{name} {percentile}", "time", False, values, intervals)


_Parts: TypeAlias = Callable[[Sequence[Moment]], tuple[list[float], list[float]]]


def _runs_in_time(moments: Sequence[Moment]) -> tuple[list[float], list[float]]:
    return [each.ended for each in moments], [each.seconds for each in moments]


def _tokens_in_time(moments: Sequence[Moment]) -> tuple[list[float], list[float]]:
    return [each.tokens for each in moments], [each.seconds for each in moments]


def _cpu_by_runs(moments: Sequence[Moment]) -> tuple[list[float], list[float]]:
    return [each.cpu * each.seconds for each in moments], [each.ended for each in moments]


def _rate(
    name: str, kind: Kind, a: LoadReport, b: LoadReport, read: Callable[[LoadReport], float | None], parts: _Parts
) -> Figure:
    values = [read(each) for each in (a, b)]
    intervals = [
        ANYWHERE if value is None else rate_interval(value, *parts([m for m in each.timeline if m.phase == "steady"]))
        for value, each in zip(values, (a, b), strict=True)
    ]
    return _figure(name, kind, kind == "rate", values, intervals)


def _failures(a: LoadReport, b: LoadReport) -> Figure:
    ended = [sum(each.runs.get(name, 0) for name in ENDED) for each in (a, b)]
    values = [each.failures if count else None for each, count in zip((a, b), ended, strict=True)]
    intervals = [share_interval(each.runs.get("failed", 0), count) for each, count in zip((a, b), ended, strict=True)]
    return _figure("runs that failed", "share", False, values, intervals)


def _memory(a: LoadReport, b: LoadReport) -> Figure:
    intervals = [growth_interval(each.memory_per_run or 0.0, each.peak_in_flight) for each in (a, b)]
    return _figure("memory per run", "size", False, (a.memory_per_run, b.memory_per_run), intervals)


def _figure(
    name: str,
    kind: Kind,
    higher_is_better: bool,
    values: Sequence[float | None],
    intervals: Sequence[Interval],
) -> Figure:
    (a, b), (in_a, in_b) = values, intervals
    interval: Interval | None = None
    change: Change = "missing"
    if a is not None and b is not None:
        interval = difference_interval(a, in_a, b, in_b) if kind == "share" else ratio_interval(a, in_a, b, in_b)
        change = _judge(a, b, higher_is_better, interval.excludes(0.0 if kind == "share" else 1.0))
    return Figure(name=name, kind=kind, higher_is_better=higher_is_better, a=a, b=b, interval=interval, change=change)


def _judge(a: float, b: float, higher_is_better: bool, beyond_noise: bool) -> Change:
    if a == b:
        return "equal"
    if not beyond_noise:
        return "unclear"
    return "better" if (b > a) == higher_is_better else "worse"
