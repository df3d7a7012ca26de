"""A comparison of two load reports as a page, made as that of one report is."""

from __future__ import annotations

from collections.abc import Iterable

from .asked import facts
from .compare import Comparison, Figure, compare, judge_comparison
from .document import cell, document, head, row_head, shown, table, verdict_box
from .figures import spread_plot
from .markup import Markup, join, tag
from .noise import CONFIDENCE
from .plots import Plot, figure
from .results import LoadReport
from .units import share
from .verdict import ENDED


def compare_page(a: LoadReport, b: LoadReport, names: tuple[str, str] = ("A", "B")) -> str:
    """Two reports side by side as one page of HTML, whole in itself.

    Args:
        a: the report that is held against.
        b: the report that is looked at.
        names: what they are called beside their letters, such as the names of their files.

    Raises:
        ValueError: a report cannot be written as JSON.
    """
    comparison = compare(a, b)
    return document(
        f"{b.workload}: two load reports",
        [
            _heading(a, b, names),
            verdict_box(judge_comparison(comparison), comparison.doubts),
            *_differences(comparison),
            *_figures(comparison),
            *_plots(a, b),
            tag("footer", f"Written by greenroom. Both reports lie in this page as JSON. {NOISE}"),
        ],
        {"load-report-a": a, "load-report-b": b},
    )


#: How sure a verdict is.
NOISE = (
    f"Better and worse are said where the {share(CONFIDENCE)} interval of the change excludes that there is none: "
    "of percentiles from the ranks of the samples, of rates and costs from the intervals of the timeline, of the share "
    "that failed by Wilson's score."
)


def _heading(a: LoadReport, b: LoadReport, names: tuple[str, str]) -> Markup:
    sides = [(letter, name, report) for letter, name, report in zip("AB", names, (a, b), strict=True)]
    return tag(
        "header",
        tag("p", "two greenroom load reports", class_="from"),
        tag("h1", "A against B"),
        *(_side(letter, name, report) for letter, name, report in sides),
    )


def _side(letter: str, name: str, report: LoadReport) -> Markup:
    ended = sum(report.runs.get(each, 0) for each in ENDED)
    words = [("workload", report.workload), *facts(report), ("runs", f"{ended:,}")]
    return tag(
        "section",
        tag("h3", f"{letter} ", shown(name if name != letter else "")),
        tag("ul", *(tag("li", f"{key} ", tag("b", shown(value))) for key, value in words), class_="facts"),
        class_="side",
    )


def _differences(comparison: Comparison) -> Iterable[Markup]:
    unlike = [each for each in comparison.differences if each.unlike]
    others = [each for each in comparison.differences if not each.unlike]
    for title, found in (("Not alike", unlike), ("Also different", others)):
        if found:
            heads = [head(""), head("A"), head("B")]
            rows = [[row_head(each.name), cell(shown(each.a), "words"), cell(shown(each.b), "words")] for each in found]
            yield tag("h2", title)
            yield table(heads, rows, title)


def _figures(comparison: Comparison) -> Iterable[Markup]:
    if not comparison.compared:
        return
    # The verdict stands beside the name, where a phone shows it too.
    heads = [head(""), head("B is")]
    heads += [head(name, numeric=True) for name in ("B / A", "A", "B", f"{share(CONFIDENCE)} interval of B / A")]
    rows = [
        [
            row_head(each.name),
            cell(join(_sign(each), each.change_shown()), _look(each)),
            cell(each.ratio_shown()),
            cell(each.shown(each.a)),
            cell(each.shown(each.b)),
            cell(each.interval_shown()),
        ]
        for each in comparison.figures
    ]
    yield tag("h2", "Figures")
    yield table(heads, rows, "Figures")


def _sign(figure: Figure) -> str:
    if figure.change not in ("better", "worse") or figure.a is None or figure.b is None:
        return ""
    return "\N{BLACK UP-POINTING TRIANGLE} " if figure.b > figure.a else "\N{BLACK DOWN-POINTING TRIANGLE} "


def _look(figure: Figure) -> str:
    return figure.change if figure.change in ("better", "worse") else "unclear"


def _plots(a: LoadReport, b: LoadReport) -> Iterable[Markup]:
    drawn: list[Plot] = []
    for name, field in (("Run", "run_latency"), ("Request", "request_latency"), ("First token", "first_token")):
        in_a, in_b = getattr(a, field), getattr(b, field)
        if in_a is not None and in_b is not None:
            title = f"{name} latency: share of samples at or below it"
            drawn.append(spread_plot(field.replace("_", "-"), title, [("A", in_a, "first"), ("B", in_b, "second")]))
    if drawn:
        yield tag("h2", "How latencies are spread")
        yield tag("div", *map(figure, drawn), class_="plots")
