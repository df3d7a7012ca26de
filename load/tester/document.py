"""A page of its own file: it works from a disk, offline, and asks for nothing.

The reports that a page shows lie in it as JSON, so that the page is as good as the file: `report_in` reads one back.
What could end the script element there is written as JSON's own escapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .markup import Markup, join, tag
from .page_style import POLICY, STYLE
from .results import BadReport, LoadReport, read_report, write_report
from .verdict import Verdict

#: How the element of a report's data begins, as `document` writes it.
_DATA = re.compile(r'<script type="application/json" id="[\w-]+" class="load-report">(.*?)</script>', re.DOTALL)
#: Signs before a verdict, so that it is not told by colour alone.
_SIGNS = {"good": "✓", "caution": "!", "bad": "✕"}


def document(title: str, body: Iterable[Markup], reports: Mapping[str, LoadReport]) -> str:
    """A whole page.

    Args:
        title: of the window.
        body: what it shows.
        reports: those that it is made from, each with an id of its own.
    """
    top = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        # Markup as it is: an element of this kind knows no references.
        tag("style", Markup(STYLE)),
    )
    data = (
        tag("script", Markup(_embedded(report)), type="application/json", id=name, class_="load-report")
        for name, report in reports.items()
    )
    page = tag("html", top, "\n", tag("body", tag("main", join(*body, by="\n")), "\n", *data), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def _embedded(report: LoadReport) -> str:
    """The report's JSON without a character that means something to HTML: such stand only within its strings."""
    written = write_report(report).decode()
    return written.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def report_in(page: str) -> LoadReport:
    """The report that a page was made from.

    Raises:
        BadReport: it holds none, or several, or a damaged one.
    """
    found = _DATA.findall(page)
    if not found:
        raise BadReport("a page without a load report")
    if len(found) > 1:
        raise BadReport("a page that compares two load reports: give one of these instead")
    return read_report(found[0])


def open_report_or_page(path: str | Path) -> LoadReport:
    """The report in a file: one of its own, or a page made from one.

    Raises:
        BadReport: the file cannot be opened, or holds none; the text names it.
    """
    try:
        data = Path(path).read_bytes()
        return report_in(data.decode("utf-8", "replace")) if data.lstrip()[:1] == b"<" else read_report(data)
    except OSError as error:
        raise BadReport(f"{path}: {error.strerror or error}") from None
    except BadReport as error:
        raise BadReport(f"{path}: {error}") from None


def verdict_box(verdict: Verdict, warnings: Sequence[str]) -> Markup:
    """What comes first: how it went, in a sentence, and what makes that doubtful."""
    sign = tag("span", _SIGNS[verdict.tone], class_="sign", aria_hidden="true")
    doubts = [tag("li", tag("span", "!", class_="sign", aria_hidden="true"), shown(each)) for each in warnings]
    return tag(
        "section",
        tag(
            "div",
            tag("strong", sign, verdict.headline),
            tag("p", verdict.words) if verdict.words else "",
            class_=f"verdict {verdict.tone}",
        ),
        tag("ul", *doubts, class_="warnings", aria_label="Warnings") if doubts else "",
        aria_label="Verdict",
    )


def table(heads: Sequence[Markup], rows: Iterable[Sequence[Markup]], caption: str) -> Markup:
    """Rows of cells under their heads, in a box that scrolls where the page is too narrow."""
    return tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", *heads)),
            tag("tbody", *(tag("tr", *row) for row in rows)),
            aria_label=caption,
        ),
        class_="wide",
        tabindex="0",  # what scrolls must be reachable without a mouse
        role="region",
        aria_label=caption,
    )


def head(words: str, *, numeric: bool = False) -> Markup:
    """The head of a column."""
    return tag("th", words, scope="col", class_="number" if numeric else None)


def row_head(words: str, more: str = "") -> Markup:
    """The first cell of a row, and what it means."""
    return tag("th", shown(words), tag("small", more) if more else "", scope="row")


def cell(value: str, look: str = "number") -> Markup:
    """A cell with a figure, or with what `look` says."""
    return tag("td", value, class_=look)


def shown(words: str) -> Markup:
    """What somebody else has written: its direction of writing does not reach beyond it."""
    return tag("bdi", words)
