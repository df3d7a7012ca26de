"""The plots of a load report: what of it is drawn, and in which units.

How latencies are spread is drawn as a cumulative distribution whose upright axis counts nines: as much room lies
between 90 % and 99 % as between 99 % and 99.9 %, for the slow runs are what one looks for. The others show the course
of the test, one value for each interval of its timeline; intervals that are too many for the width are drawn all the
same, and only what is told of them when they are pointed at is thinned out.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, groupby, pairwise
from typing import TypeAlias

from .plots import Plot, Point, Series, Tip, Tone, Zone
from .results import Distribution, LoadReport, Moment
from .scales import Scale, course, linear, logarithmic
from .units import Unit, number, per_second, seconds, share, size

#: Places of a plot that tell something, at most.
TIPS = 60
#: How much higher than its highest value an axis is at least: the names of the phases stand there.
HEADROOM = 1.1
#: Points of a distribution's line, at most.
POINTS = 300
#: Latencies of a timeline that differ by more than this factor are drawn on a logarithmic axis.
WIDE = 30

#: Percentiles that are marked, and ticks of the axis that counts nines.
MARKED = (0.5, 0.9, 0.99, 0.999)
_NINES = ((0.0, ""), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %"))

#: The axis of a processor that is not fuller than one core.
_QUARTERS = ((0.0, "0 %"), (0.25, "25 %"), (0.5, "50 %"), (0.75, "75 %"), (1.0, "100 %"))

_Told: TypeAlias = tuple[str, Unit, Callable[[Moment], float | None]]


def figures(report: LoadReport) -> list[Plot]:
    """The plots that the report has data for."""
    latencies_of: list[tuple[str, Distribution | None, Tone]] = [
        ("run", report.run_latency, "run"),
        ("request", report.request_latency, "request"),
        ("first token", report.first_token, "token"),
    ]
    spread: list[tuple[str, Distribution, Tone]] = [
        (name, each, tone) for name, each, tone in latencies_of if each is not None and each.count
    ]
    plots = [spread_plot("latency", "Latency: share of samples at or below it", spread)] if spread else []
    if report.timeline:
        plots += [throughput(report), latencies(report), in_flight(report), processor(report)]
        if any(each.memory is not None for each in report.timeline):
            plots.append(memory(report))
    return plots


# -- how samples are spread


def spread_plot(name: str, title: str, spread: Sequence[tuple[str, Distribution, Tone]]) -> Plot:
    """The cumulative distributions of latencies, each with its name and colour; at least one."""
    measured = [value for _, each, _ in spread for value in (each.minimum, each.p50, each.maximum) if value > 0]
    x = logarithmic(min(measured, default=0.0), max(measured, default=0.0), seconds)
    most = max(each.count for _, each, _ in spread)
    y = _nines(most)
    about = "; ".join(
        f"{name}: half within {seconds(each.p50)}, 99 % within {seconds(each.p99)}" for name, each, _ in spread
    )
    return Plot(
        name=name,
        title=title,
        about=f"Cumulative distributions of latency. {about}.",
        x=x,
        y=y,
        series=tuple(
            Series(
                name=name,
                points=_steps_up(each, y.high),
                tone=tone,
                marks=tuple((_quantile(each, q), _nine(q, y.high)) for q in MARKED if each.count * (1 - q) >= 1),
                note=f"p50 {seconds(each.p50)} · p99 {seconds(each.p99)}",
            )
            for name, each, tone in spread
        ),
        tips=_spread_tips(x, spread),
    )


def _nines(count: int) -> Scale:
    """The axis on which 90 %, 99 % and 99.9 % stand at equal distances; it ends where one sample of all is left."""
    high = max(math.log10(max(count, 1)), 2.05)
    return Scale(0.0, high, tuple((_nine(q, high), label) for q, label in _NINES if _nine(q, math.inf) <= high))


def _nine(q: float, high: float) -> float:
    return min(-math.log10(1 - q), high) if q < 1 else high


def _quantile(spread: Distribution, q: float) -> float:
    return {0.5: spread.p50, 0.9: spread.p90, 0.99: spread.p99, 0.999: spread.p999}[q]


def _steps_up(spread: Distribution, high: float) -> tuple[Point, ...]:
    """The distribution's line: from its smallest sample to its largest."""
    total = sum(samples for _, samples in spread.buckets)
    if not total:
        return ((spread.minimum, 0.0), (spread.p50, _nine(0.5, high)), (spread.maximum, high))
    points: list[Point] = [(spread.minimum, 0.0)]
    least = high / POINTS  # a step that cannot be seen waits for the next
    for (bound, _), below in zip(spread.buckets, accumulate(samples for _, samples in spread.buckets), strict=True):
        y = _nine(below / total, high)
        reached = points[-1][1] or 0.0
        if y - reached >= least or below == total:
            x = min(bound, spread.maximum)
            points += [(x, reached), (x, y)]
    return tuple(points)


def _spread_tips(x: Scale, spread: Sequence[tuple[str, Distribution, Tone]]) -> tuple[Tip, ...]:
    edges = [x.low * (x.high / x.low) ** (i / TIPS) for i in range(TIPS + 1)]
    below = [_below(each) for _, each, _ in spread]
    tips: list[Tip] = []
    for start, end in pairwise(edges):
        at = math.sqrt(start * end)
        lines = (f"{name} {share(each(at))}" for (name, _, _), each in zip(spread, below, strict=True))
        tips.append(Tip(start, end, (f"within {seconds(at)}", *lines)))
    return tuple(tips)


def _below(spread: Distribution) -> Callable[[float], float]:
    """What tells which share of the samples is at or below a value."""
    bounds = [bound for bound, _ in spread.buckets]
    counts = [0, *accumulate(samples for _, samples in spread.buckets)]
    return lambda value: 1.0 if value >= spread.maximum else counts[bisect_right(bounds, value)] / max(counts[-1], 1)


# -- the course of the test


def throughput(report: LoadReport) -> Plot:
    """Runs per second, those that failed among them."""
    ended = _level(report, lambda each: each.ended / each.seconds if each.seconds else None)
    failed = _level(report, lambda each: each.failed / each.seconds if each.seconds else None)
    series = [Series(name="ended", points=ended, tone="run", area=True)]
    if any(each.failed for each in report.timeline):
        series.append(Series(name="failed", points=failed, tone="failed", area=True))
    if report.mode == "open":
        asked = _level(report, lambda each: each.target)
        series.append(Series(name="asked for", points=asked, tone="asked", dashed=True))
    told: list[_Told] = [
        ("ended", per_second, lambda each: each.ended / each.seconds if each.seconds else None),
        ("failed", per_second, lambda each: each.failed / each.seconds if each.seconds else None),
        ("requests", per_second, lambda each: each.requests / each.seconds if each.seconds else None),
        ("retries", number, lambda each: each.retries),
    ]
    if any(each.tokens for each in report.timeline):
        told.append(("tokens", per_second, lambda each: each.tokens / each.seconds if each.seconds else None))
    about = (
        f"{per_second(report.runs_per_second)} in the measured window; {number(report.runs.get('failed', 0))} failed."
    )
    return _course("throughput", "Throughput: runs per second", about, report, series, number, told)


def latencies(report: LoadReport) -> Plot:
    """Latency of runs, and time to first token, in the course of the test."""
    wanted: list[tuple[str, Tone, bool, Callable[[Moment], float | None]]] = [
        ("run p50", "run", False, lambda each: each.run_p50),
        ("run p99", "run", True, lambda each: each.run_p99),
        ("first token p50", "token", False, lambda each: each.first_token_p50),
        ("first token p99", "token", True, lambda each: each.first_token_p99),
    ]
    drawn = [
        Series(name=name, points=_middles(report, read), tone=tone, dashed=dashed)
        for name, tone, dashed, read in wanted
    ]
    series = [each for each in drawn if any(y is not None for _, y in each.points)]
    told: list[_Told] = [(name, seconds, read) for name, _, _, read in wanted]
    about = "How latency went in the course of the test."
    values = [y for each in series for _, y in each.points if y]
    y = logarithmic(min(values), max(values), seconds) if values and max(values) > WIDE * min(values) else None
    return _course("latency-course", "Latency of what ended", about, report, series, seconds, told, y)


def in_flight(report: LoadReport) -> Plot:
    """Runs at work, those that wait to begin, and how many were asked for."""
    series = [
        Series(
            name="in flight", points=((0.0, 0.0), *_ends(report, lambda each: each.in_flight)), tone="run", area=True
        )
    ]
    if any(each.waiting for each in report.timeline):
        waiting = _ends(report, lambda each: each.waiting)
        series.append(Series(name="waiting to begin", points=waiting, tone="waiting"))
    if report.mode == "closed":
        asked = _ends(report, lambda each: each.target)
        series.append(Series(name="asked for", points=asked, tone="asked", dashed=True))
    told: list[_Told] = [
        ("in flight", number, lambda each: each.in_flight),
        ("waiting", number, lambda each: each.waiting),
        ("began", number, lambda each: each.started),
    ]
    about = f"At most {number(report.peak_in_flight)} runs at work at once."
    return _course("in-flight", "Runs in flight", about, report, series, number, told)


def processor(report: LoadReport) -> Plot:
    """Processor time of the tester's own process."""
    series = [Series(name="tester's process", points=_level(report, lambda each: each.cpu), tone="plain", area=True)]
    about = f"The tester used {share(report.cpu_share)} of one core in the measured window."
    told: list[_Told] = [("CPU", share, lambda each: each.cpu)]
    high = max(each.cpu for each in report.timeline)
    y = Scale(0.0, 1.25, _QUARTERS) if high <= 1.25 else linear(high, share)
    title = "Processor: share of one core"
    return _course("processor", title, about, report, series, share, told, y, ((1.0, "one core is full"),))


def memory(report: LoadReport) -> Plot:
    """Resident memory of the tester's own process."""
    points = ((0.0, report.memory_before), *_ends(report, lambda each: each.memory))
    series = [Series(name="tester's process", points=points, tone="plain", area=True)]
    about = "" if report.memory_peak is None else f"At most {size(report.memory_peak)}."
    told: list[_Told] = [("resident", size, lambda each: each.memory)]
    return _course("memory", "Memory: resident bytes", about, report, series, size, told)


def _course(
    name: str,
    title: str,
    about: str,
    report: LoadReport,
    series: Sequence[Series],
    unit: Unit,
    told: Sequence[_Told],
    y: Scale | None = None,
    rules: tuple[tuple[float, str], ...] = (),
) -> Plot:
    """A plot over the time of the test."""
    highest = max((y for each in series for _, y in each.points if y is not None), default=0.0)
    return Plot(
        name=name,
        title=title,
        about=about,
        x=course(max(report.seconds, report.timeline[-1].at)),
        y=y or linear(max(highest * HEADROOM, 4.0 if unit is number else 0.0), unit),
        series=tuple(series),
        zones=_zones(report.timeline),
        rules=rules,
        tips=_course_tips(report.timeline, told),
    )


def _level(report: LoadReport, read: Callable[[Moment], float | None]) -> tuple[Point, ...]:
    """Values that hold for a whole interval each."""
    return tuple(point for each in report.timeline for point in ((_start(each), read(each)), (each.at, read(each))))


def _ends(report: LoadReport, read: Callable[[Moment], float | None]) -> tuple[Point, ...]:
    """Values of the end of each interval."""
    return tuple((each.at, read(each)) for each in report.timeline)


def _middles(report: LoadReport, read: Callable[[Moment], float | None]) -> tuple[Point, ...]:
    """Values of an interval that stand for no one moment of it."""
    return tuple(((_start(each) + each.at) / 2, read(each)) for each in report.timeline)


def _start(moment: Moment) -> float:
    return max(moment.at - moment.seconds, 0.0)


def _zones(timeline: Sequence[Moment]) -> tuple[Zone, ...]:
    """The phases, but for the steady one."""
    phases = [(phase, list(moments)) for phase, moments in groupby(timeline, lambda each: each.phase)]
    return tuple(Zone(_start(each[0]), each[-1].at, phase) for phase, each in phases if phase != "steady")


def _course_tips(timeline: Sequence[Moment], told: Sequence[_Told]) -> tuple[Tip, ...]:
    every = math.ceil(len(timeline) / TIPS)
    tips: list[Tip] = []
    for first in range(0, len(timeline), every):
        each = timeline[first]
        lines = [f"{name} {unit(value)}" for name, unit, read in told if (value := read(each)) is not None]
        end = timeline[min(first + every, len(timeline)) - 1].at
        tips.append(Tip(_start(each), end, (f"{seconds(each.at)}, {each.phase}", *lines)))
    return tuple(tips)
