"""``greenroom load compare``: two load reports side by side, on the terminal and as a page.

As `diff` does, it exits with 2 where it cannot read what it is given. 1 says that ``--max-worse`` was exceeded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .agents.trace import one_line, printable
from .cli_run import Misuse
from .load.shares import parse_share
from .load.tester.asked import load_in_words
from .load.tester.compare import Comparison, compare, judge_comparison
from .load.tester.compare_page import compare_page
from .load.tester.document import open_report_or_page
from .load.tester.results import BadReport, LoadReport
from .load.tester.units import number, seconds
from .load.tester.unlike import Difference
from .load.tester.verdict import ENDED

#: Columns where the reader is a program, which has no width of its own.
WIDTH = 120
_LOOKS = {"better": "green", "worse": "red"}


def compare_reports(
    a: str,
    b: str,
    /,
    *,
    html: str | None = None,
    max_worse: Annotated[str | None, Parameter(show_default=False)] = None,
) -> int:
    """Hold one load report against another: what has become better or worse, and what of it is more than noise.

    Args:
        a: The report to hold against: a file that --json wrote, or a page that --html wrote.
        b: The report to look at.
        html: Write the comparison as a page to this file.
        max_worse: Exit with status 1 if a figure has become worse beyond the noise and by more than this, such as 10%.
    """
    limit = None if max_worse is None else _limit(max_worse)
    try:
        reports = open_report_or_page(a), open_report_or_page(b)
    except BadReport as error:
        raise Misuse(printable(str(error))) from None
    comparison = compare(*reports)
    if html is not None:
        _write(html, compare_page(*reports, names=(a, b)))
    _print(_head((a, b), reports), *_differences(comparison), *_figures(comparison), _last(comparison))
    sys.stdout.flush()
    return 0 if limit is None else _hold(comparison, limit, str(max_worse))


def _limit(text: str) -> float:
    try:
        return parse_share(text)
    except ValueError as error:
        raise Misuse(f"--max-worse: {error}") from None


def _write(path: str, page: str) -> None:
    try:
        Path(path).write_text(page, encoding="utf-8")
    except OSError as error:
        raise Misuse(f"--html: {printable(path)} cannot be written: {error.strerror or error}") from None


def _hold(comparison: Comparison, limit: float, said: str) -> int:
    """Judge by the limit; returns the exit status."""
    if not comparison.compared:
        print("greenroom: no figure was measured in both tests, so none can be held to --max-worse", file=sys.stderr)
        return 1
    worse = comparison.worse_by_more_than(limit)
    if worse:
        named = ", ".join(f"{each.name} ({each.shown(each.a)}, now {each.shown(each.b)})" for each in worse)
        print(f"greenroom: worse by more than {said.strip()}: {named}", file=sys.stderr)
    return 1 if worse else 0


# -- what is printed: what others have written is `Text`, in which the terminal's markup means nothing


def _print(*parts: Table | Text | Padding) -> None:
    if sys.stdout.isatty():
        Console(highlight=False).print(Group(*parts))
        return
    console = Console(highlight=False, width=WIDTH)
    with console.capture() as captured:
        console.print(Group(*parts))
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _head(names: tuple[str, str], reports: tuple[LoadReport, LoadReport]) -> Padding:
    table = Table.grid(padding=(0, 2))
    for letter, name, report in zip("AB", names, reports, strict=True):
        ended = sum(report.runs.get(outcome, 0) for outcome in ENDED)
        words = f"{report.workload}, {load_in_words(report)}, {number(ended)} runs in {seconds(report.window)}"
        table.add_row(Text(letter, "bold"), Text(printable(name)), Text(one_line(words)))
    return Padding(table, (0, 1))


def _differences(comparison: Comparison) -> Iterable[Text | Table]:
    unlike = [each for each in comparison.differences if each.unlike]
    others = [each for each in comparison.differences if not each.unlike]
    if unlike:
        yield Text("\n These tests are not alike; figures may differ for these reasons alone:", "bold yellow")
        yield _side_by_side(unlike)
    if others:
        yield Text("\n Also different:", "bold")
        yield _side_by_side(others)
    if comparison.doubts:
        yield Text("\n" + "\n".join(f" {one_line(each)}" for each in comparison.doubts), "yellow")


def _side_by_side(differences: Sequence[Difference]) -> Table:
    table = Table.grid(padding=(0, 3))
    for each in differences:
        table.add_row("", Text(one_line(each.name)), Text(one_line(each.a)), Text(one_line(each.b)))
    return table


def _figures(comparison: Comparison) -> Iterable[Table]:
    if not comparison.compared:
        return
    table = Table(box=SIMPLE_HEAD)
    table.add_column("")
    for name in ("A", "B", "B / A", "interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("B is")
    for each in comparison.figures:
        look = _LOOKS.get(each.change, "dim")
        table.add_row(
            each.name,
            each.shown(each.a),
            each.shown(each.b),
            each.ratio_shown(),
            each.interval_shown(),
            Text(each.change_shown(), look),
        )
    yield table


def _last(comparison: Comparison) -> Padding:
    verdict = judge_comparison(comparison)
    return Padding(Text(printable(f"{verdict.headline}. {verdict.words}".strip())), (0, 1))
