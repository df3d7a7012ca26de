"""The page of a load report: what it shows, that it is whole in itself, and that nothing in it is obeyed."""

from __future__ import annotations

import math
import random
import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.load.tester.document import report_in
from greenroom.load.tester.figures import TIPS, figures, spread_plot
from greenroom.load.tester.histogram import Histogram
from greenroom.load.tester.markup import Markup, clean, join, tag
from greenroom.load.tester.page import page
from greenroom.load.tester.plots import HEIGHT, WIDTH, Plot, Tip, svg
from greenroom.load.tester.results import BadReport, Distribution, ErrorClass, LoadReport, Moment, Phase, Stage
from greenroom.load.tester.scales import MOST, Scale, course, linear, logarithmic
from greenroom.load.tester.units import UNKNOWN, number, per_second, ratio, seconds, share, size
from greenroom.load.tester.verdict import judge

MEBIBYTE = 1024 * 1024


# -- reports


def spread_of(samples: list[float]) -> Distribution:
    histogram = Histogram()
    for each in samples:
        histogram.record(each)
    spread = histogram.distribution()
    assert spread is not None
    return spread


@cache
def log_normal(count: int, median: float, p99: float, seed: int) -> Distribution:
    draw = random.Random(seed)
    sigma = math.log(p99 / median) / 2.326
    return spread_of([median * math.exp(sigma * draw.gauss(0, 1)) for _ in range(count)])


def moment(at: float, phase: Phase = "steady", **changes: Any) -> Moment:
    plain = Moment(
        at=at,
        seconds=1.0,
        phase=phase,
        started=200,
        ended=200,
        failed=0,
        in_flight=100,
        waiting=0,
        target=100.0,
        requests=600,
        retries=0,
        tokens=8_000,
        run_p50=0.3,
        run_p99=1.2,
        first_token_p50=0.05,
        first_token_p99=0.2,
        cpu=0.47,
        memory=120 * MEBIBYTE,
    )
    return msgspec.structs.replace(plain, **changes)


def course_of(seed: int, rate: float = 200.0, failed: int = 0) -> tuple[Moment, ...]:
    draw = random.Random(seed)
    phases: list[Phase] = ["warm-up", "ramp", *["steady"] * 10, "drain"]
    return tuple(
        moment(float(i), phase, ended=round(rate * draw.uniform(0.95, 1.05)), failed=failed)
        for i, phase in enumerate(phases, 1)
    )


def report(draw: int = 1, **changes: Any) -> LoadReport:
    """A report of a good test."""
    plain = LoadReport(
        greenroom="0.1.0",
        python="CPython 3.12.3",
        platform="Linux x86_64",
        cores=2,
        libraries={"anyio": "4.14.0"},
        began="2026-11-21T03:50:12.491+00:00",
        seconds=13.0,
        window=11.0,
        workload="tools",
        about="Three requests, and three calls of tools.",
        options={"concurrency": 100, "steps": 3},
        target="simulated",
        model="sim-1",
        backend="asyncio",
        seed=1,
        streamed=True,
        mode="closed",
        concurrency=100,
        duration=11.0,
        warm_up=1.0,
        ended_by="duration",
        runs={"arrived": 2_000, "completed": 2_000},
        requests={"ok": 6_000},
        tool_calls=6_000,
        tokens={"input": 900_000, "output": 80_000},
        run_latency=log_normal(2_000, 0.3, 1.2, draw),
        request_latency=log_normal(6_000, 0.09, 0.35, draw + 1),
        first_token=log_normal(6_000, 0.05, 0.2, draw + 2),
        start_delay=log_normal(2_000, 0.0002, 0.004, draw + 3),
        overhead=log_normal(2_000, 0.0009, 0.006, draw + 4),
        runs_per_second=200.0,
        requests_per_second=600.0,
        tokens_per_second=8_000.0,
        cpu_seconds=5.17,
        cpu_share=0.47,
        cpu_per_run=0.0019,
        memory_before=88 * MEBIBYTE,
        memory_peak=121 * MEBIBYTE,
        memory_per_run=41.3 * 1024,
        peak_in_flight=1_000,
        connections=100,
        server={"requests": 6_000.0, "cpu_share": 0.52, "bytes_out": 3.0 * MEBIBYTE},
        timeline=course_of(draw),
    )
    return msgspec.structs.replace(plain, **changes)


NOTHING: dict[str, Any] = {
    **dict.fromkeys(["run_latency", "request_latency", "first_token", "start_delay", "overhead"]),
    **dict.fromkeys(["tokens_per_second", "cpu_per_run", "memory_per_run", "server", "connections"]),
    **dict.fromkeys(["runs_per_second", "requests_per_second", "cpu_share", "cpu_seconds", "window"], 0.0),
    "seconds": 0.2,
    "runs": {"arrived": 0},
    "requests": {},
    "tokens": {},
    "peak_in_flight": 0,
    "timeline": (),
}
FAILED: dict[str, Any] = {
    "runs": {"arrived": 2_000, "completed": 1_940, "failed": 60},
    "requests": {"ok": 5_900, "rate_limited": 100},
    "errors": (ErrorClass(where="request", kind="rate_limit", status=429, count=100, example="slow down"),),
    "timeline": course_of(1, failed=6),
}


# -- reading a page

VOID = {"meta", "br", "hr"}


class Reading(HTMLParser):
    """What a browser sees: elements with their attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.comments: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs))
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    @property
    def words(self) -> str:
        """The same, with a space between elements."""
        return " ".join(" ".join(self.texts).split())

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        """The elements and the names of their attributes."""
        return [(name, tuple(sorted(attributes))) for name, attributes in self.elements]


def drawings(text: str) -> list[ElementTree.Element]:
    """The plots of a page, as XML."""
    found = re.findall(r"<svg [^>]*role=\"img\".*?</svg>", text, re.DOTALL)
    return [ElementTree.fromstring(each) for each in found]


def rows_of(text: str, caption: str) -> list[list[str]]:
    """The cells of the table with this caption, by row."""
    table = re.search(rf'<table aria-label="{caption}">(.*?)</table>', text, re.DOTALL)
    assert table is not None
    rows = re.findall(r"<tr>(.*?)</tr>", table[1], re.DOTALL)
    return [[Reading(cell).words for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)] for row in rows]


# -- whole in itself

PAGES = {
    "good": report(),
    "failed": report(**FAILED, warnings=("the tester used 97 % of its core",)),
    "open loop": report(mode="open", concurrency=None, rate=240.0, arrivals="poisson", ended_by="count"),
    "stages": report(stages=(Stage(10.0, 50.0), Stage(30.0, 200.0))),
    "empty": report(**NOTHING, ended_by="interrupted"),
    "one run": report(runs={"arrived": 1, "completed": 1}, run_latency=spread_of([0.367]), timeline=course_of(1)[3:4]),
    "instant": report(run_latency=spread_of([0.0]), overhead=spread_of([0.0, 0.0])),
    "no clock of memory": report(memory_before=None, memory_peak=None, timeline=(moment(1.0, memory=None),)),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_asks_for_nothing_and_runs_nothing(name: str) -> None:
    reading = Reading(page(PAGES[name]))
    assert {element for element, _ in reading.elements}.isdisjoint(
        {"a", "img", "link", "iframe", "object", "embed", "form", "base", "use", "image", "video", "audio", "template"}
    )
    attributes = {name for _, found in reading.elements for name in found}
    assert not [each for each in attributes if each.startswith("on")]
    assert attributes.isdisjoint({"src", "href", "srcset", "style", "action", "xlink:href", "background", "data"})
    assert [found["type"] for element, found in reading.elements if element == "script"] == ["application/json"]
    assert reading.comments == []
    assert not re.search(r"url\(|@import|expression\(", page(PAGES[name]))


def test_the_policy_allows_the_one_style_and_nothing_else() -> None:
    text = page(report())
    reading = Reading(text)
    policy = next(
        found["content"] for _, found in reading.elements if found.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    digest = b64encode(sha256(style[1].encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    names = [element for element, _ in reading.elements]
    assert names.index("meta") < names.index("style")
    assert text.index("Content-Security-Policy") < text.index("<title>")


def test_the_page_says_its_encoding_first_and_fits_a_phone() -> None:
    text = page(report())
    assert text.startswith('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>')
    assert '<meta name="viewport" content="width=device-width, initial-scale=1"/>' in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


# -- nothing in it is obeyed

ATTACKS = [
    *("</script>", "<script>alert(1)</script>", "<!--", "-->", "]]>", "</style>", "</title>", "<svg/onload=x>"),
    *('" onmouseover="x', "' style='x", "&lt;", "&", "\\u003c", "\x00", "\x1b[31m", "\u202e", "\u2028", "\ufffe", "`"),
]
hostile = st.lists(st.sampled_from(ATTACKS) | st.text(max_size=3), max_size=4).map(lambda parts: "x" + "".join(parts))
sayable = hostile.filter(lambda text: text.isascii() or not re.search("[\ud800-\udfff]", text))


def spoken(text: str) -> LoadReport:
    """A report in which everything that somebody else may have written is this."""
    return report(
        **dict.fromkeys(["run_latency", "request_latency", "first_token", "start_delay", "overhead"], spread_of([0.1])),
        workload=text,
        about=text,
        target=text,
        model=text,
        platform=text,
        python=text,
        greenroom=text,
        began=text,
        libraries={text: text},
        options={text: [text], "plain": text},
        warnings=(text, text),
        errors=(ErrorClass(where="run", kind=text, status=500, count=1, example=text),),
        runs={"arrived": 2, "completed": 1, text: 1},
        requests={"ok": 1, text: 2},
        server={text: 3.0},
        timeline=(moment(1.0, "ramp"), moment(2.0)),
    )


SHAPE = Reading(page(spoken("x"))).shape


@settings(max_examples=40, deadline=None)
@given(sayable)
def test_text_of_others_changes_no_element(text: str) -> None:
    written = page(spoken(text))
    reading = Reading(written)
    assert reading.shape == SHAPE
    assert reading.comments == []
    assert re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", written) is None
    written.encode()


@settings(max_examples=40, deadline=None)
@given(sayable)
def test_the_report_in_a_page_is_the_report(text: str) -> None:
    assert report_in(page(spoken(text))) == spoken(text)


@pytest.mark.parametrize("attack", [each for each in ATTACKS if each.isprintable()])
def test_what_others_wrote_is_shown(attack: str) -> None:
    said = " ".join(f"said: {attack}".split())
    assert Reading(page(spoken(f"said: {attack}"))).text.count(said) >= 8


def test_the_report_in_a_page_has_nothing_that_means_something_to_html() -> None:
    """Neither `</script ` nor `<!--<script` may stand there, whatever follows."""
    data = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page(spoken("".join(ATTACKS))), re.DOTALL)
    assert data is not None
    assert set(data[1]).isdisjoint("<>&")


def test_a_page_without_a_report_is_told() -> None:
    with pytest.raises(BadReport, match="without a load report"):
        report_in("<html><script type='application/json'>{}</script></html>")


@given(st.text(st.characters(codec=None), max_size=20))
def test_a_tag_is_well_formed_whatever_is_in_it(text: str) -> None:
    element = ElementTree.fromstring(tag("b", text, title=text, data_more=Markup(text)))
    assert "".join(element.itertext()) == clean(text).replace("\r\n", "\n").replace("\r", "\n")
    for value in element.attrib.values():
        assert " ".join(value.split()) == " ".join(clean(text).split())


def test_a_tag_escapes_text_and_keeps_markup() -> None:
    inner = tag("i", "a < b & c")
    assert inner == "<i>a &lt; b &amp; c</i>"
    assert tag("p", inner, "<i>", class_="x") == '<p class="x"><i>a &lt; b &amp; c</i>&lt;i&gt;</p>'
    assert join("<", inner, by=" & ") == "&lt; &amp; <i>a &lt; b &amp; c</i>"


def test_attributes_are_named_and_written() -> None:
    made = tag("rect", x=1.0, y=2.126, aria_hidden="true", class_=None, hidden=False, open=True, title='"<>')
    assert made == '<rect x="1" y="2.13" aria-hidden="true" open="open" title="&quot;&lt;&gt;"></rect>'
    assert tag("br") == "<br/>"


# -- what is shown


def test_the_headline_figures_are_those_of_the_report() -> None:
    given = report(
        run_latency=Distribution(
            count=100, mean=0.15, minimum=0.1, maximum=3.0, p50=0.1, p90=0.1, p95=0.1, p99=2.0, p999=3.0
        ),
        runs={"arrived": 102, "completed": 100, "failed": 2},
        retries=1,
    )
    tiles = re.search(r'<dl class="tiles".*?</dl>', page(given), re.DOTALL)
    assert tiles is not None
    text = Reading(tiles[0]).words
    for words in (
        "Runs 200/s 600 requests/s 8,000 tokens/s",
        "Run latency, median 100 ms p99 2.00 s max 3.00 s",
        "Runs failed 1.96 % 2 of 102 1 retry",
        "CPU per run 1.90 ms 47 % of a core overhead ",
        "Memory per run 41.3 KiB 1,000 in flight 121 MiB at the peak",
    ):
        assert words in text
    assert 'class="figure bad">1.96 %<' in tiles[0]


def test_first_token_is_a_headline_only_where_it_was_seen() -> None:
    assert "First token, median" in page(report())
    without = page(report(first_token=None))
    assert "First token" not in without
    assert "Request, median" in without


def test_the_table_of_latencies_has_the_percentiles() -> None:
    given = report(mode="open", rate=100.0, concurrency=None)
    rows = rows_of(page(given), "Latencies")
    assert rows[0][1:] == ["samples", "mean", "min", "p50", "p90", "p95", "p99", "p99.9", "max"]
    shown = {row[0].split(" ", 1)[0]: row[1:] for row in rows[1:]}
    assert len(rows) == 6
    spread = given.run_latency
    assert spread is not None
    values = (spread.mean, spread.minimum, spread.p50, spread.p90, spread.p95, spread.p99, spread.p999, spread.maximum)
    assert shown["run"] == [number(spread.count), *map(seconds, values)]
    assert {"request", "first", "late", "overhead"} < set(shown)


def test_nothing_is_late_in_a_closed_loop() -> None:
    assert "late start" not in page(report())


def test_outcomes_are_counted_and_shared() -> None:
    text = page(report(runs={"arrived": 10, "completed": 6, "failed": 3, "cut": 1, "limited": 0}, requests={}))
    assert [row[:3] for row in rows_of(text, "Runs")] == [
        ["Runs", "10", "share"],
        ["completed", "6", "60 %"],
        ["failed ended with an error", "3", "30 %"],
        ["cut still at work when the test was ended", "1", "10 %"],
    ]
    assert rows_of(text, "Requests")[1][:3] == ["ok", "0", UNKNOWN]


def test_errors_are_shown_with_an_example() -> None:
    text = page(report(**FAILED))
    assert rows_of(text, "Errors")[1] == ["rate_limit", "request", "429", "100", "slow down"]
    assert "Errors</h2>" not in page(report())


def test_resources_options_and_versions_are_shown() -> None:
    text = page(report(connections=None))
    tester = {row[0]: row[1] for row in rows_of(text, "The tester")[1:]}
    assert tester["connections open at once, at most"] == UNKNOWN
    assert tester["tokens in as the endpoint counted them"] == "900,000"
    server = {row[0]: row[1] for row in rows_of(text, "The simulated server")[1:]}
    assert server == {"requests": "6,000", "cpu share": "52 %", "bytes out": "3.00 MiB"}
    assert rows_of(text, "Options")[1:] == [["concurrency", "100"], ["steps", "3"]]
    assert ["anyio", "4.14.0"] in rows_of(text, "Versions and machine")
    assert "The simulated server" not in page(report(server=None))


def test_warnings_come_before_the_figures() -> None:
    text = page(report(warnings=("the server was full",)))
    assert text.index("the server was full") < text.index('class="tiles"') < text.index("<svg")


def test_the_head_says_what_was_tested() -> None:
    text = Reading(page(report())).text
    assert "load 100 in flight" in text
    assert "measured 11.0 s, after 1.00 s of warm-up" in text
    assert "began 2026-11-21 03:50:12 UTC" in text
    open_loop = report(mode="open", concurrency=None, rate=50.0, arrivals="even", ramp=10.0, began="long ago")
    assert "load 50 per second, evenly, from 0 within 10.0 s" in Reading(page(open_loop)).text
    assert "began long ago" in Reading(page(open_loop)).text
    assert "load in 10.0 s to 50, in 30.0 s to 200 in flight" in Reading(page(PAGES["stages"])).text


def test_an_empty_report_is_readable() -> None:
    text = page(PAGES["empty"])
    assert drawings(text) == []
    words = Reading(text).text
    assert "Interrupted after 200 ms: no run ended in the measured window" in words
    assert "nan" not in words
    assert "None" not in words.replace("None had begun", "")


VERDICTS = {
    "good": ({}, "good", "All 2,000 runs completed"),
    "one": ({"runs": {"completed": 1}}, "good", "One run, completed"),
    "limited": ({"runs": {"completed": 5, "limited": 1}}, "good", "6 runs ended, none failed"),
    "few failed": ({"runs": {"completed": 999, "failed": 1}}, "caution", "0.100 % of runs failed (1 of 1,000)"),
    "many failed": ({"runs": {"completed": 9, "failed": 1}}, "bad", "10 % of runs failed (1 of 10)"),
    "a warning": ({"warnings": ("x",)}, "caution", "All 2,000 runs completed, but read the warning first"),
    "warnings": ({"warnings": ("x", "y")}, "caution", "All 2,000 runs completed, but read the 2 warnings first"),
    "interrupted": ({"ended_by": "interrupted"}, "caution", "Interrupted after 13.0 s, none failed"),
    "interrupted, failed": (
        {"ended_by": "interrupted", "runs": {"completed": 1, "failed": 1}},
        "bad",
        "Interrupted after 13.0 s. 50 % of runs failed (1 of 2)",
    ),
    "nothing": ({"runs": {"cut": 3, "never_begun": 2}}, "bad", "No run ended in the measured window"),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_the_verdict_says_how_it_went(name: str) -> None:
    changes, tone, headline = VERDICTS[name]
    given = report(**changes)
    verdict = judge(given)
    assert (verdict.tone, verdict.headline) == (tone, headline)
    text = page(given)
    assert f'class="verdict {tone}"' in text
    assert headline in Reading(text).text
    assert verdict.words in Reading(text).text


def test_the_verdict_claims_no_percentile_of_few_runs() -> None:
    assert "99 of 100 at most" in judge(report()).words
    few = judge(report(run_latency=spread_of([0.5, 1.0, 2.0]))).words
    assert "99 of 100" not in few
    assert "the slowest 2.00 s" in few
    assert "It took 500 ms." in judge(report(run_latency=spread_of([0.5]))).words


# -- plots


@pytest.mark.parametrize("name", PAGES)
def test_drawings_are_well_formed_named_and_within_their_frame(name: str) -> None:
    text = page(PAGES[name])
    assert len(drawings(text)) == len(figures(PAGES[name]))
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    for drawing in drawings(text):
        labels = drawing.attrib["aria-labelledby"].split()
        named = {child.attrib.get("id"): child for child in drawing}
        assert [named[label].tag.rpartition("}")[2] for label in labels] == ["title", "desc"]
        assert all(named[label].text for label in labels)
        assert_within(drawing)


def assert_within(drawing: ElementTree.Element) -> None:
    for element in drawing.iter():
        for names, most in ((("x", "x1", "x2", "cx"), WIDTH), (("y", "y1", "y2", "cy"), HEIGHT)):
            assert all(-1 <= float(element.attrib[name]) <= most + 1 for name in names if name in element.attrib)
        if "width" in element.attrib:
            assert float(element.attrib["x"]) + float(element.attrib["width"]) <= WIDTH + 1
        numbers = [float(each) for each in re.findall(r"-?[\d.]+(?:e-?\d+)?", element.attrib.get("d", ""))]
        assert all(
            -1 <= x <= WIDTH + 1 and -1 <= y <= HEIGHT + 1 for x, y in zip(numbers[::2], numbers[1::2], strict=True)
        )


def test_every_plot_is_there_for_what_was_measured() -> None:
    names = [plot.name for plot in figures(report())]
    assert names == ["latency", "throughput", "latency-course", "in-flight", "processor", "memory"]
    assert "memory" not in [plot.name for plot in figures(PAGES["no clock of memory"])]
    assert figures(PAGES["empty"]) == []
    assert [plot.name for plot in figures(report(timeline=()))] == ["latency"]


def plot_of(given: LoadReport, name: str) -> Plot:
    return next(plot for plot in figures(given) if plot.name == name)


def test_the_plots_draw_what_was_asked_for_where_it_belongs() -> None:
    def series(given: LoadReport, name: str) -> list[str]:
        return [each.name for each in plot_of(given, name).series]

    closed, opened = report(), PAGES["open loop"]
    assert series(closed, "throughput") == ["ended"]
    assert series(opened, "throughput") == ["ended", "asked for"]
    assert series(closed, "in-flight") == ["in flight", "asked for"]
    assert series(opened, "in-flight") == ["in flight"]
    waiting = report(timeline=(moment(1.0, waiting=3), moment(2.0)))
    assert series(waiting, "in-flight") == ["in flight", "waiting to begin", "asked for"]
    assert series(report(**FAILED), "throughput") == ["ended", "failed"]
    plain = report(timeline=(moment(1.0, first_token_p50=None, first_token_p99=None),))
    assert series(plain, "latency-course") == ["run p50", "run p99"]


def test_throughput_is_by_the_length_of_an_interval() -> None:
    given = report(timeline=(moment(1.0), moment(1.5, seconds=0.5, ended=200)), seconds=1.5)
    assert plot_of(given, "throughput").series[0].points == ((0.0, 200.0), (1.0, 200.0), (1.0, 400.0), (1.5, 400.0))


def test_phases_are_shaded_and_named() -> None:
    plot = plot_of(report(), "throughput")
    assert [(zone.start, zone.end, zone.name) for zone in plot.zones] == [
        (0.0, 1.0, "warm-up"),
        (1.0, 2.0, "ramp"),
        (12.0, 13.0, "drain"),
    ]
    assert "Shaded: warm-up, ramp, drain." in Reading(page(report())).text


def test_an_interval_without_samples_is_a_gap() -> None:
    gap = report(timeline=(moment(1.0), moment(2.0), moment(3.0, run_p50=None), moment(4.0), moment(5.0, run_p50=None)))
    drawing = ElementTree.fromstring(svg(plot_of(gap, "latency-course")))
    first = next(each for each in drawing if each.tag.endswith("}g") and "tips" not in each.attrib.get("class", ""))
    kinds = [each.tag.rpartition("}")[2] for each in first]
    assert kinds == ["path", "circle"]
    assert first[0].attrib["d"].count("M") == 1


def test_latencies_far_apart_are_drawn_on_a_logarithmic_axis() -> None:
    assert plot_of(report(), "latency-course").y.log is False
    wide = report(timeline=(moment(1.0, run_p50=0.001, run_p99=60.0),))
    assert plot_of(wide, "latency-course").y.log is True


def test_a_long_timeline_is_drawn_whole_and_told_in_parts() -> None:
    given = report(timeline=tuple(moment(float(i)) for i in range(1, 1001)), seconds=1000.0)
    plot = plot_of(given, "throughput")
    assert len(plot.series[0].points) == 2_000
    assert 40 <= len(plot.tips) <= TIPS
    assert plot.tips[0].start == 0.0
    assert plot.tips[-1].end == 1000.0
    assert all(a.end == b.start for a, b in zip(plot.tips, plot.tips[1:], strict=False))


def test_a_tip_tells_the_interval() -> None:
    given = report(timeline=(moment(1.0, failed=5, retries=2), moment(2.0)))
    assert plot_of(given, "throughput").tips[0].lines == (
        "1.00 s, steady",
        "ended 200/s",
        "failed 5/s",
        "requests 600/s",
        "retries 2",
        "tokens 8,000/s",
    )


@pytest.mark.parametrize("at", [0.0, 0.45, 0.55, 1.0])
def test_what_is_told_stays_within_the_drawing(at: float) -> None:
    plot = plot_of(report(), "throughput")
    tip = Tip(at * plot.x.high, at * plot.x.high, ("a headline", "a line with many words in it, more than there are"))
    drawing = ElementTree.fromstring(svg(msgspec.structs.replace(plot, tips=(tip,))))
    assert_within(drawing)
    assert "".join(drawing.itertext()).endswith("".join(tip.lines))


def test_a_distribution_is_drawn_where_its_samples_lie() -> None:
    spread = spread_of([i / 1000 for i in range(1, 1001)])
    plot = spread_plot("latency", "Latency", [("run", spread, "run")])
    line = plot.series[0]
    xs, ys = [x for x, _ in line.points], [y or 0.0 for _, y in line.points]
    assert xs == sorted(xs)
    assert ys == sorted(ys)
    assert (xs[0], ys[0]) == (0.001, 0.0)
    assert (xs[-1], ys[-1]) == (1.0, pytest.approx(3.0))
    # At 90 % stands one nine, at 99 % two.
    assert [round(y, 3) for _, y in line.marks] == [0.301, 1.0, 2.0, 3.0]
    assert [x for x, _ in line.marks] == [spread.p50, spread.p90, spread.p99, spread.p999]
    for q, label in ((0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %")):
        height = next(value for value, words in plot.y.ticks if words == label)
        reached = next(x for x, y in line.points if (y or 0.0) >= height - 0.02)
        assert reached == pytest.approx(q, rel=0.05)
    assert line.note == f"p50 {seconds(spread.p50)} · p99 {seconds(spread.p99)}"


def test_a_distribution_tells_the_share_below() -> None:
    spread = spread_of([0.13] * 900 + [0.7] * 100)
    tips = spread_plot("latency", "Latency", [("run", spread, "run")]).tips
    assert {tip.lines[1] for tip in tips} == {"run 0 %", "run 90 %", "run 100 %"}
    assert [tip.lines[1] for tip in tips] == sorted(
        (tip.lines[1] for tip in tips), key=lambda words: float(words[4:-2])
    )


def test_a_distribution_without_buckets_is_drawn_roughly() -> None:
    spread = msgspec.structs.replace(spread_of([0.1, 0.2, 0.3]), buckets=())
    plot = spread_plot("latency", "Latency", [("run", spread, "run")])
    assert [x for x, _ in plot.series[0].points] == [spread.minimum, spread.p50, spread.maximum]
    assert_within(ElementTree.fromstring(svg(plot)))


counts = st.integers(0, 10**9)
times = st.none() | st.floats(0, 1e6)
moments = st.builds(
    Moment,
    at=st.floats(0, 1e6),
    seconds=st.floats(0, 100),
    phase=st.sampled_from(["warm-up", "ramp", "steady", "drain"]),
    target=st.none() | st.floats(0, 1e6),
    memory=st.none() | st.integers(0, 10**13),
    cpu=st.floats(0, 64),
    **dict.fromkeys(["started", "ended", "failed", "in_flight", "waiting", "requests", "retries", "tokens"], counts),
    **dict.fromkeys(["run_p50", "run_p99", "first_token_p50", "first_token_p99"], times),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(moments, max_size=6), st.lists(st.floats(0, 1e5), min_size=1, max_size=20))
def test_whatever_was_measured_can_be_drawn(timeline: list[Moment], samples: list[float]) -> None:
    ordered = tuple(sorted(timeline, key=lambda each: each.at))
    for plot in figures(report(timeline=ordered, run_latency=spread_of(samples))):
        assert_within(ElementTree.fromstring(svg(plot)))


# -- axes

values = st.floats(0, 1e30, allow_nan=False)


def assert_sound(scale: Scale) -> None:
    ticks = [value for value, _ in scale.ticks]
    labels = [label for _, label in scale.ticks if label]
    assert scale.low < scale.high
    assert ticks == sorted(set(ticks))
    assert all(scale.low * (1 - 1e-9) <= value <= scale.high * (1 + 1e-9) for value in ticks)
    assert 2 <= len(labels) <= MOST
    places = [scale.place(value) for value in ticks]
    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)


@given(values)
def test_a_linear_axis_is_sound(high: float) -> None:
    for scale in (linear(high), linear(high, seconds)):
        assert_sound(scale)
        if high > 1:
            assert len({label for _, label in scale.ticks}) == len(scale.ticks)
        assert scale.low == 0.0
        assert scale.high >= min(high, 1e17) * (1 - 1e-9)
        steps = [b - a for (a, _), (b, _) in zip(scale.ticks, scale.ticks[1:], strict=False)]
        assert max(steps) == pytest.approx(min(steps))


@given(st.floats(1, 1e15))
def test_an_axis_of_bytes_has_ticks_at_powers_of_two(high: float) -> None:
    scale = linear(high, size)
    step = scale.ticks[1][0]
    assert math.log2(step) == int(math.log2(step))
    assert scale.high >= high * (1 - 1e-8)


@given(values)
def test_the_axis_of_time_ends_where_the_test_did(high: float) -> None:
    scale = course(high)
    ticks = [value for value, _ in scale.ticks]
    assert ticks == sorted(set(ticks))
    assert len(ticks) <= MOST
    assert ticks[-1] <= scale.high * (1 + 1e-9)
    if 1e-9 < high < 1e17:
        assert scale.high == high


@given(values, values)
def test_a_logarithmic_axis_is_sound(a: float, b: float) -> None:
    low, high = sorted((a, b))
    scale = logarithmic(low, high, seconds)
    assert scale.log
    ticks = [value for value, _ in scale.ticks]
    assert ticks == sorted(set(ticks))
    assert sum(1 for _, label in scale.ticks if label) <= MOST
    if 1e-11 < high < 1e17:
        assert scale.high >= high * (1 - 1e-8)
        assert scale.low <= max(low, high * 1e-9) * (1 + 1e-8)
        assert [scale.place(value) for value in ticks] == sorted(scale.place(value) for value in ticks)


def test_axes_have_round_ticks() -> None:
    assert [label for _, label in linear(99.0).ticks] == ["0", "20", "40", "60", "80", "100"]
    assert [label for _, label in linear(0.3, seconds).ticks] == ["0 s", "100 ms", "200 ms", "300 ms"]
    assert [label for _, label in linear(100.0 * MEBIBYTE, size).ticks] == [
        "0 B",
        "32 MiB",
        "64 MiB",
        "96 MiB",
        "128 MiB",
    ]
    assert [label for _, label in course(300.0).ticks] == ["0 min", "1 min", "2 min", "3 min", "4 min", "5 min"]
    assert [label for _, label in course(86_400.0).ticks] == ["0 h", "6 h", "12 h", "18 h", "24 h"]
    assert [label for _, label in logarithmic(0.3, 0.9, seconds).ticks] == ["200 ms", "500 ms", "1 s"]
    wide = logarithmic(0.001, 3.0, seconds)
    assert [label for _, label in wide.ticks if label] == ["1 ms", "10 ms", "100 ms", "1 s"]
    assert len(wide.ticks) == 12


def test_a_value_lies_on_its_axis() -> None:
    assert linear(100.0).place(25.0) == 0.25
    assert [linear(100.0).place(value) for value in (-5.0, 0.0, 100.0, 1e9)] == [0.0, 0.0, 1.0, 1.0]
    axis = logarithmic(0.01, 1.0)
    assert axis.place(0.1) == pytest.approx(0.5)
    assert [axis.place(value) for value in (0.0, -1.0, 0.001, 5.0)] == [0.0, 0.0, 0.0, 1.0]


# -- figures in words

WORDS = [
    *((seconds, value, words) for value, words in [(0.0, "0 s"), (3.12e-7, "0.312 µs"), (3.12e-4, "312 µs")]),
    *((seconds, value, words) for value, words in [(0.0312, "31.2 ms"), (0.9994, "999 ms"), (0.9996, "1.00 s")]),
    *((seconds, value, words) for value, words in [(59.96, "60.0 s"), (100.0, "1 min 40 s"), (3599.6, "1 h")]),
    *((seconds, value, words) for value, words in [(7261.0, "2 h 1 min"), (-0.5, "-500 ms"), (math.inf, UNKNOWN)]),
    *((number, value, words) for value, words in [(0, "0"), (2_431, "2,431"), (1234.5, "1,234"), (12.34, "12.3")]),
    *((number, value, words) for value, words in [(0.083, "0.083"), (99.96, "100"), (1e-5, "1.0e-05")]),
    *((size, value, words) for value, words in [(0.0, "0 B"), (512.0, "512 B"), (42_291.2, "41.3 KiB")]),
    *((size, value, words) for value, words in [(121.0 * MEBIBYTE, "121 MiB"), (-2048.0, "-2.00 KiB")]),
    *((share, value, words) for value, words in [(0.0, "0 %"), (1.0, "100 %"), (0.47, "47 %"), (0.0296, "2.96 %")]),
    *((share, value, words) for value, words in [(1e-6, "< 0.01 %"), (0.99999, "99.99 %"), (0.99961, "99.96 %")]),
    *((ratio, value, words) for value, words in [(1.0, "1.00x"), (0.934, "0.93x"), (math.inf, "> 99x")]),
    (per_second, 203.4, "203/s"),
]


@pytest.mark.parametrize(("unit", "value", "words"), WORDS)
def test_figures_read_well(unit: Any, value: float, words: str) -> None:
    assert unit(value) == words


@given(st.floats(0, 1e12))
def test_a_time_reads_as_what_it_is(value: float) -> None:
    """Back from words to a number, it is the same within 1 %."""
    factors = {"µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
    words = seconds(value).replace(",", "").split()
    total = sum(float(amount) * factors[unit] for amount, unit in zip(words[::2], words[1::2], strict=True))
    assert total == pytest.approx(value, rel=0.009, abs=6e-10)
