"""A load report as a page: one file of HTML that can be mailed, kept beside a build, and opened from a disk.

The order is that of a reader's questions. Did it go well, and how fast was it: a sentence and six figures. May I
believe it: the warnings. What happened when: the plots. How much exactly: the tables. Of what: the options, the machine
and the versions. The page holds its report as JSON as well; ``greenroom load compare`` takes the page for the file.
"""

from __future__ import annotations

from collections.abc import Iterable

from .asked import facts
from .document import document, shown, verdict_box
from .figures import figures
from .markup import Markup, join, tag
from .page_tables import asked, errors, latencies, outcomes, resources
from .plots import figure
from .results import Distribution, LoadReport
from .units import UNKNOWN, known, number, per_second, seconds, share, size
from .verdict import BAD, ENDED, judge


def page(report: LoadReport) -> str:
    """The report as a page of HTML, whole in itself: it loads nothing, runs no script, and shows what others have
    written as text.

    Raises:
        ValueError: the report cannot be written as JSON.
    """
    return document(
        f"{report.workload}: load report",
        [
            _heading(report),
            verdict_box(judge(report), report.warnings),
            _tiles(report),
            *_plots(report),
            *latencies(report),
            *outcomes(report),
            *errors(report),
            *resources(report),
            *asked(report),
            _footer(report),
        ],
        {"load-report": report},
    )


# -- first


def _heading(report: LoadReport) -> Markup:
    return tag(
        "header",
        tag("p", "greenroom load report", class_="from"),
        tag("h1", shown(report.workload)),
        tag("p", shown(report.about)) if report.about else "",
        tag("ul", *(tag("li", f"{name} ", tag("b", shown(value))) for name, value in facts(report)), class_="facts"),
    )


def _tiles(report: LoadReport) -> Markup:
    failed, ended = report.runs.get("failed", 0), sum(report.runs.get(name, 0) for name in ENDED)
    # Without streaming nobody sees a first token; then the whole answer is what a request is judged by.
    name, answers = ("First token", report.first_token) if report.first_token else ("Request", report.request_latency)
    rates = [f"{number(report.requests_per_second)} requests/s"]
    if report.tokens_per_second is not None:
        rates.append(f"{number(report.tokens_per_second)} tokens/s")
    overhead = [] if report.overhead is None else [f"overhead {seconds(report.overhead.p50)}"]
    peak = [] if report.memory_peak is None else [f"{size(report.memory_peak)} at the peak"]
    return tag(
        "dl",
        _tile("Runs", per_second(report.runs_per_second), *rates),
        _spread("Run latency, median", report.run_latency),
        _spread(f"{name}, median", answers),
        _tile(
            "Runs failed",
            share(report.failures) if ended else UNKNOWN,
            f"{number(failed)} of {number(ended)}",
            f"{number(report.retries)} {'retry' if report.retries == 1 else 'retries'}",
            look="figure bad" if report.failures > BAD else "figure",
        ),
        _tile("CPU per run", known(seconds, report.cpu_per_run), f"{share(report.cpu_share)} of a core", *overhead),
        _tile(
            "Memory per run", known(size, report.memory_per_run), f"{number(report.peak_in_flight)} in flight", *peak
        ),
        class_="tiles",
        aria_label="Headline figures",
    )


def _spread(name: str, spread: Distribution | None) -> Markup:
    if spread is None:
        return _tile(name, UNKNOWN, "not measured")
    p99 = join("p99 ", tag("b", seconds(spread.p99)))
    return _tile(name, seconds(spread.p50), p99, f"max {seconds(spread.maximum)}")


def _tile(name: str, figure: str, *more: str, look: str = "figure") -> Markup:
    lines = [tag("dd", each, class_="more") for each in more]
    return tag("div", tag("dt", name), tag("dd", figure, class_=look), *lines, class_="tile")


# -- what happened when


def _plots(report: LoadReport) -> Iterable[Markup]:
    plots = figures(report)
    if not plots:
        return
    yield tag("h2", "What happened")
    yield tag("div", *map(figure, plots), class_="plots")
    phases = dict.fromkeys(zone.name for plot in plots for zone in plot.zones)
    shaded = f"Shaded: {', '.join(phases)}. " if phases else ""
    yield tag("p", shaded, tag("span", "Point at a plot to read its figures.", class_="screen"), class_="note")


def _footer(report: LoadReport) -> Markup:
    return tag(
        "footer",
        f"Written by greenroom {report.greenroom}. The report lies in this page as JSON: ",
        tag("code", "greenroom load compare this.html other.html"),
        " shows what has changed.",
    )
