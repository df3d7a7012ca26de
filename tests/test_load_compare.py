"""Two load reports side by side: what counts as a change, what is said of it, and what the command exits with."""

from __future__ import annotations

import math
import random
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from greenroom.cli import status_of
from greenroom.cli_load_compare import WIDTH
from greenroom.load.shares import parse_share
from greenroom.load.tester.compare import Comparison, Figure, compare, judge_comparison
from greenroom.load.tester.compare_page import compare_page
from greenroom.load.tester.noise import (
    ANYWHERE,
    CONFIDENCE,
    GRAIN,
    Interval,
    difference_interval,
    growth_interval,
    quantile_interval,
    quantile_ranks,
    rate_interval,
    ratio_interval,
    share_interval,
)
from greenroom.load.tester.page import page
from greenroom.load.tester.results import LoadReport, write_report

from .test_cli import COMMAND, environment
from .test_load_page import (
    ATTACKS,
    NOTHING,
    Reading,
    assert_within,
    course_of,
    drawings,
    log_normal,
    moment,
    report,
    rows_of,
    spoken,
    spread_of,
)

# -- noise


def beyond(count: int, q: float, most: int) -> float:
    """The probability that at most so many of `count` samples are above the quantile."""
    return math.fsum(math.comb(count, i) * (1 - q) ** i * q ** (count - i) for i in range(most + 1))


@settings(max_examples=60)
@given(st.integers(1, 300), st.sampled_from([0.5, 0.9, 0.99, 0.999]))
def test_the_ranks_of_a_quantile_are_the_tightest_that_are_sure(count: int, q: float) -> None:
    tail = (1 - CONFIDENCE) / 2
    least, most = quantile_ranks(count, q)
    # Above the sample of rank `most` the quantile lies only if at most count - most samples are beyond it.
    if most is None:
        assert beyond(count, q, 0) > tail
    else:
        assert beyond(count, q, count - most) <= tail * (1 + 1e-9)
        assert beyond(count, q, count - most + 1) > tail * (1 - 1e-9)
    if least is None:
        assert 1 - beyond(count, q, count - 1) > tail * (1 - 1e-9)
    else:
        assert 1 - beyond(count, q, count - least) <= tail * (1 + 1e-9)
        assert 1 - beyond(count, q, count - least - 1) > tail * (1 - 1e-9)


def test_ranks_known_from_tables() -> None:
    assert quantile_ranks(8, 0.5) == (1, 8)
    assert quantile_ranks(7, 0.5) == (None, None)
    assert quantile_ranks(527, 0.99)[1] is None
    assert quantile_ranks(528, 0.99) == (516, 528)


@pytest.mark.parametrize(("q", "border"), [(0.5, 866), (0.99, 59_700)])
def test_where_the_ranks_are_approximate_they_go_on_as_before(q: float, border: int) -> None:
    widths = [
        most - least
        for n in range(border - 20, border + 20)
        for least, most in [quantile_ranks(n, q)]
        if least and most
    ]
    assert len(widths) == 40
    assert max(abs(a - b) for a, b in pairwise(widths)) <= 3


def test_the_interval_of_a_quantile_covers_it_as_often_as_it_says() -> None:
    draw = random.Random(5)
    covered = sum(
        not quantile_interval(spread_of([draw.expovariate(1) for _ in range(100)]), 0.5).excludes(math.log(2))
        for _ in range(400)
    )
    assert 0.98 <= covered / 400 <= 1


def test_the_interval_of_a_quantile_is_open_where_samples_are_missing() -> None:
    few = quantile_interval(spread_of([0.1 * i for i in range(1, 21)]), 0.99)
    assert few.high == math.inf
    assert few.low == pytest.approx(1.8, rel=0.03)
    assert quantile_interval(spread_of([0.1]), 0.5) == ANYWHERE
    assert quantile_interval(msgspec.structs.replace(spread_of([0.1] * 1000), buckets=()), 0.5) == ANYWHERE


def test_a_buckets_width_is_part_of_the_interval() -> None:
    interval = quantile_interval(spread_of([0.1] * 100_000), 0.5)
    assert interval.low <= 0.1 <= interval.high
    assert interval.high == 0.1  # no sample is above the largest
    assert interval.high / interval.low == pytest.approx(1.01, abs=0.011)


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert share_interval(0, 100) == Interval(0.0, pytest.approx(0.0622, abs=1e-4))
    assert share_interval(3, 100).low == pytest.approx(0.0076, abs=1e-4)
    assert share_interval(3, 100).high == pytest.approx(0.1109, abs=1e-4)
    assert share_interval(100, 100).high == 1.0
    assert share_interval(0, 0) == Interval(0.0, 1.0)


def test_the_interval_of_a_rate_is_students() -> None:
    # Nine seconds with these counts: mean 100, standard deviation 10; the t of 8 degrees at 99 % is 3.355.
    counts = [90.0, 110.0] * 4 + [100.0]
    interval = rate_interval(100.0, counts, [1.0] * 9)
    half = 3.355 * 10 / math.sqrt(9)
    assert (interval.low, interval.high) == (pytest.approx(100 - half, abs=0.1), pytest.approx(100 + half, abs=0.1))
    assert rate_interval(100.0, counts[:4], [1.0] * 4) == ANYWHERE
    assert rate_interval(100.0, [0.0] * 9, [1.0] * 9) == ANYWHERE
    assert rate_interval(100.0, counts, [0.0] * 9) == ANYWHERE


def test_a_rate_is_by_what_it_is_counted_by() -> None:
    """Seconds of different length with the same rate do not vary."""
    lengths = [1.0, 2.0, 0.5, 3.0, 1.5, 0.1]
    interval = rate_interval(50.0, [50 * each for each in lengths], lengths)
    assert interval.low == pytest.approx(50.0)
    assert interval.high == pytest.approx(50.0)


def test_memory_is_not_told_apart_within_a_grain() -> None:
    assert growth_interval(40_000.0, 1_000) == Interval(40_000.0 - GRAIN / 1000, 40_000.0 + GRAIN / 1000)
    assert growth_interval(1_000.0, 10).low == 0.0
    assert growth_interval(1_000.0, 0).high == 1_000.0 + GRAIN


def test_ratios_and_differences_of_intervals() -> None:
    ratio = ratio_interval(1.0, Interval(0.9, 1.1), 2.0, Interval(1.8, 2.2))
    assert ratio.low == pytest.approx(2 * math.exp(-math.hypot(math.log(2 / 1.8), math.log(1.1))))
    assert ratio.high == pytest.approx(2 * math.exp(math.hypot(math.log(1.1), math.log(1 / 0.9))))
    assert ratio_interval(1.0, ANYWHERE, 2.0, Interval(2.0, 2.0)) == ANYWHERE
    assert ratio_interval(1.0, Interval(1.0, 1.0), 9.0, Interval(8.0, math.inf)) == Interval(
        pytest.approx(8.0), math.inf
    )
    assert ratio_interval(0.0, Interval(0.0, 0.1), 1.0, Interval(0.5, 2.0)) == Interval(5.0, math.inf)
    assert ratio_interval(0.0, Interval(0.0, 0.0), 1.0, Interval(0.5, 2.0)) == Interval(math.inf, math.inf)
    assert ratio_interval(0.0, Interval(0.0, 0.0), 1.0, Interval(0.0, 2.0)) == ANYWHERE
    assert ratio_interval(1.0, Interval(0.0, 2.0), 0.0, Interval(0.0, 0.0)) == ANYWHERE
    assert ratio_interval(5e-324, Interval(5e-324, 5e-324), 1e9, Interval(1e9, 1e9)) == Interval(math.inf, math.inf)
    assert ratio_interval(1e9, Interval(1e9, 1e9), 5e-324, Interval(5e-324, 5e-324)).high < 1e-300
    difference = difference_interval(0.1, Interval(0.07, 0.14), 0.2, Interval(0.16, 0.25))
    assert difference == Interval(
        pytest.approx(0.1 - math.hypot(0.04, 0.04)), pytest.approx(0.1 + math.hypot(0.05, 0.03))
    )


# -- what has changed


def changes(comparison: Comparison) -> dict[str, str]:
    return {each.name: each.change for each in comparison.figures}


def figure(comparison: Comparison, name: str) -> Figure:
    return next(each for each in comparison.figures if each.name == name)


def slower(factor: float, seed: int = 9) -> LoadReport:
    """A report of runs that take so many times as long."""
    return report(
        run_latency=log_normal(2_000, 0.3 * factor, 1.2 * factor, seed),
        runs_per_second=200.0 / factor,
        timeline=course_of(seed, rate=200.0 / factor),
    )


def test_a_report_is_equal_to_itself() -> None:
    comparison = compare(report(), report())
    assert set(changes(comparison).values()) == {"equal"}
    assert (comparison.differences, comparison.doubts) == ((), ())
    assert judge_comparison(comparison).headline == "No figure has changed by more than the noise"


def test_the_same_test_again_has_changed_in_nothing() -> None:
    pairs = [compare(report(seed), report(seed + 100)) for seed in range(10, 30)]
    found = [each for comparison in pairs for each in changes(comparison).values()]
    assert sum(each in ("better", "worse") for each in found) <= 0.01 * len(found)
    assert found.count("unclear") > 0.5 * len(found)


def test_what_takes_longer_is_worse_and_the_other_way_round_better() -> None:
    there, back = compare(report(), slower(1.3)), compare(slower(1.3), report())
    for name in ("run p50", "run p90", "runs per second"):
        assert changes(there)[name] == "worse"
        assert changes(back)[name] == "better"
    assert changes(there)["request p50"] == "equal"
    assert figure(there, "run p50").ratio == pytest.approx(1.3, rel=0.06)
    assert figure(there, "runs per second").ratio == pytest.approx(1 / 1.3)
    assert figure(there, "runs per second").worsening == pytest.approx(1 - 1 / 1.3)
    assert figure(back, "runs per second").worsening < 0
    verdict = judge_comparison(there)
    assert (verdict.tone, judge_comparison(back).tone) == ("bad", "good")
    assert verdict.headline.startswith("B is worse in ")
    assert judge_comparison(back).headline.endswith("figures and worse in none")


def test_a_small_change_of_few_samples_is_noise_and_of_many_is_none() -> None:
    def pair(count: int) -> Figure:
        a, b = (report(run_latency=log_normal(count, median, 4 * median, 3)) for median in (0.30, 0.33))
        return figure(compare(a, b), "run p50")

    assert pair(60).change == "unclear"
    assert pair(60).change_shown() == "within the noise"
    assert pair(20_000).change == "worse"


def test_a_slowest_hundredth_of_few_runs_is_not_judged() -> None:
    few = report(run_latency=spread_of([0.05 * i for i in range(1, 21)]))
    found = figure(compare(few, report()), "run p99")
    assert found.change == "unclear"
    assert found.change_shown() == "too few samples"
    assert found.interval_shown() == "? to " + found.interval_shown().rpartition(" ")[2]


def test_but_far_worse_is_seen_with_few_runs_too() -> None:
    many, few = report(), report(run_latency=spread_of([30.0 + i for i in range(20)]))
    assert figure(compare(many, few), "run p99").change == "worse"


def test_rates_vary_as_the_timeline_did() -> None:
    def with_rates(rates: list[int]) -> LoadReport:
        mean = sum(rates) / len(rates)
        return report(
            timeline=tuple(moment(float(i), ended=each) for i, each in enumerate(rates, 1)), runs_per_second=mean
        )

    calm, wild = [199, 201] * 6, [120, 280] * 6
    assert figure(compare(with_rates(calm), with_rates([180] * 12)), "runs per second").change == "worse"
    assert figure(compare(with_rates(wild), with_rates([180] * 12)), "runs per second").change == "unclear"
    assert figure(compare(with_rates(calm[:3]), with_rates([100] * 12)), "runs per second").change == "unclear"


def test_only_the_steady_part_says_how_a_rate_varies() -> None:
    ramp = tuple(moment(float(i), "ramp", ended=20 * i) for i in range(1, 10))
    steady = tuple(moment(float(i), ended=200) for i in range(10, 20))
    a, b = report(timeline=ramp + steady), report(timeline=ramp + steady, runs_per_second=180.0)
    assert figure(compare(a, b), "runs per second").change == "worse"


def test_processor_time_is_by_run() -> None:
    a, b = report(), report(cpu_per_run=0.0030)
    assert figure(compare(a, b), "CPU per run").change == "worse"
    assert figure(compare(a, b), "CPU per run").ratio == pytest.approx(3.0 / 1.9)


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [((2_000, 0), (1_999, 1), "unclear"), ((2_000, 0), (1_940, 60), "worse"), ((1_940, 60), (2_000, 0), "better")],
)
def test_failures_are_held_against_each_other(before: tuple[int, int], after: tuple[int, int], change: str) -> None:
    a, b = (report(runs={"arrived": 2_000, "completed": fine, "failed": bad}) for fine, bad in (before, after))
    found = figure(compare(a, b), "runs that failed")
    assert found.change == change
    assert found.worsening == {"unclear": math.inf, "worse": math.inf, "better": -1.0}[change]
    assert found.interval_shown() == ""


def test_memory_is_judged_by_the_runs_in_flight() -> None:
    def change(in_flight: int, grown: float) -> str:
        a, b = (report(memory_per_run=each, peak_in_flight=in_flight) for each in (40_000.0, grown))
        return figure(compare(a, b), "memory per run").change

    assert change(100, 50_000.0) == "unclear"
    assert change(5_000, 50_000.0) == "worse"


def test_what_one_report_has_not_is_missing_and_what_neither_has_is_left_out() -> None:
    comparison = compare(report(), report(first_token=None, tokens_per_second=None))
    assert changes(comparison)["first token p50"] == "missing"
    assert figure(comparison, "first token p50").change_shown() == "not in both"
    assert "first token p50" not in {each.name for each in comparison.compared}
    assert "per output token p50" not in changes(comparison)


def test_nothing_is_compared_with_a_test_in_which_nothing_ended() -> None:
    comparison = compare(report(), report(**NOTHING))
    assert comparison.compared == []
    assert comparison.doubts == ("B: no run ended in the measured window",)
    assert judge_comparison(comparison).tone == "bad"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=8), st.lists(st.floats(0, 1e4), min_size=1, max_size=8))
@example([0.0], [0.0, 0.0, 5.0])
@example([5e-324], [1e4])
def test_better_and_worse_change_places_with_the_reports(a: list[float], b: list[float]) -> None:
    one, other = report(run_latency=spread_of(a * 40)), report(run_latency=spread_of(b * 40))
    opposite = {"better": "worse", "worse": "better"}
    there, back = changes(compare(one, other)), changes(compare(other, one))
    assert back == {name: opposite.get(change, change) for name, change in there.items()}


# -- what is not alike

UNLIKE: dict[str, dict[str, Any]] = {
    "workload": {"workload": "chat"},
    "load": {"concurrency": 200},
    "max in flight": {"max_in_flight": 50},
    "endpoint": {"target": "https://models.example/v1"},
    "model": {"model": "other"},
    "streamed": {"streamed": False},
    "platform": {"platform": "Darwin arm64"},
    "cores": {"cores": 8},
    "option steps": {"options": {"concurrency": 100, "steps": 5}},
    "option faults": {"options": {"concurrency": 100, "steps": 3, "faults": 0.1}},
}
ALSO: dict[str, dict[str, Any]] = {
    "greenroom": {"greenroom": "0.2.0"},
    "python": {"python": "CPython 3.13.0"},
    "backend": {"backend": "trio"},
    "seed": {"seed": 2},
    "duration": {"duration": 20.0},
    "count": {"count": 5},
    "warm up": {"warm_up": 2.0},
    "anyio": {"libraries": {"anyio": "4.15.0"}},
    "trio": {"libraries": {"anyio": "4.14.0", "trio": "0.30"}},
}


@pytest.mark.parametrize("name", [*UNLIKE, *ALSO])
def test_what_is_different_is_named(name: str) -> None:
    comparison = compare(report(), report(**{**UNLIKE, **ALSO}[name]))
    assert [(each.name, each.unlike) for each in comparison.differences] == [(name, name in UNLIKE)]
    assert comparison.differences[0].a != comparison.differences[0].b


def test_what_matters_most_comes_first() -> None:
    comparison = compare(report(), report(greenroom="0.2.0", cores=8, backend="trio", workload="chat"))
    assert [each.name for each in comparison.differences] == ["workload", "cores", "greenroom", "backend"]
    verdict = judge_comparison(comparison)
    assert verdict.tone == "caution"
    assert "not alike (workload, cores)" in verdict.words


def test_where_a_report_went_is_no_difference() -> None:
    options = {"concurrency": 100, "steps": 3, "json": "b.json", "html": "b.html", "max_errors": "1%"}
    assert compare(report(), report(options=options)).differences == ()


def test_warnings_of_both_are_doubts() -> None:
    comparison = compare(report(warnings=("the server was full",)), report(warnings=("x", "y")))
    assert comparison.doubts == ("A: the server was full", "B: x", "B: y")


# -- the command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with reports; the working directory."""
    monkeypatch.chdir(tmp_path)
    for name, each in {"a": report(), "again": report(50), "slow": slower(1.3), "empty": report(**NOTHING)}.items():
        (tmp_path / f"{name}.json").write_bytes(write_report(each))
        (tmp_path / f"{name}.html").write_text(page(each), encoding="utf-8")
    return tmp_path


def test_the_command_prints_differences_figures_and_a_verdict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "b.json").write_bytes(write_report(msgspec.structs.replace(slower(1.3), cores=8, greenroom="0.2.0")))
    assert status_of(["load", "compare", "a.json", "b.json"]) == 0
    said, complaints = capsys.readouterr()
    assert complaints == ""
    lines = said.splitlines()
    places = [next(i for i, line in enumerate(lines) if words in line) for words in (
        "a.json", "b.json", "not alike", "cores", "Also different", "greenroom", "runs per second", "B is worse in",
    )]  # fmt: skip
    assert places == sorted(places)
    assert re.search(r"^ +cores +2 +8$", said, re.MULTILINE)
    assert re.search(r"^ +run p50 .* ms .* ms +1\.\d\dx +1\.\d\d to 1\.\d\d +worse$", said, re.MULTILINE)
    assert max(map(len, lines)) <= WIDTH


def test_a_page_is_taken_for_its_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(["load", "compare", "a.json", "slow.json"]) == 0
    from_json = capsys.readouterr().out
    assert status_of(["load", "compare", "a.html", "slow.html"]) == 0
    assert capsys.readouterr().out.splitlines()[3:] == from_json.splitlines()[3:]


@pytest.mark.parametrize(
    ("other", "limit", "status"),
    [
        ("a.json", "0%", 0),
        ("again.json", "10%", 0),
        ("slow.json", "10%", 1),
        ("slow.json", "0.1", 1),
        ("slow.json", "150%", 0),
        ("empty.json", "10%", 1),
    ],
)
def test_the_limit_decides_the_status(
    folder: Path, capsys: pytest.CaptureFixture[str], other: str, limit: str, status: int
) -> None:
    assert status_of(["load", "compare", "a.json", other, "--max-worse", limit]) == status
    complaints = capsys.readouterr().err
    assert len(complaints.splitlines()) == status
    if other == "slow.json" and status:
        assert complaints.startswith(f"greenroom: worse by more than {limit}: runs per second (200/s, now 154/s)")
        assert "request" not in complaints
    assert status_of(["load", "compare", "a.json", other]) == 0


def test_a_limit_holds_nothing_that_may_be_noise(folder: Path) -> None:
    few = report(run_latency=spread_of([0.3, 0.9, 1.5]), timeline=(moment(1.0),), runs_per_second=50.0)
    (folder / "few.json").write_bytes(write_report(few))
    assert status_of(["load", "compare", "a.json", "few.json", "--max-worse", "10%"]) == 0


def damage(folder: Path) -> dict[str, tuple[str, list[str]]]:
    """Files that are no report, and words that the one line about each must have."""
    data = write_report(report())
    (folder / "cut.json").write_bytes(data[:1000])
    (folder / "newer.json").write_bytes(data.replace(b'"format":1', b'"format":99', 1))
    (folder / "other.json").write_bytes(b'{"name": "something else"}')
    (folder / "wrong.json").write_bytes(data.replace(b'"cores":2', b'"cores":"many"', 1))
    (folder / "bytes.json").write_bytes(b"\xff\xfe\x00")
    (folder / "nothing.json").write_bytes(b"")
    (folder / "other.html").write_text("<html><body>hello</body></html>")
    (folder / "both.html").write_text(compare_page(report(), report()))
    (folder / "cut.html").write_text(page(report()).replace('"cores":2', '"cores":', 1))
    return {
        "missing.json": ("missing.json", ["missing.json: No such file"]),
        ".": (".", ["Is a directory"]),
        "cut.json": ("cut.json", ["no load report"]),
        "newer.json": ("newer.json", ["format 99", "newer"]),
        "other.json": ("other.json", ["no load report"]),
        "wrong.json": ("wrong.json", ["damaged", "cores"]),
        "bytes.json": ("bytes.json", ["no load report"]),
        "nothing.json": ("nothing.json", ["no load report"]),
        "other.html": ("other.html", ["a page without a load report"]),
        "both.html": ("both.html", ["compares two"]),
        "cut.html": ("cut.html", ["no load report"]),
    }


DAMAGED = ("missing.json", ".", "cut.json", "newer.json", "other.json", "wrong.json", "bytes.json", "nothing.json")


@pytest.mark.parametrize("name", [*DAMAGED, "other.html", "both.html", "cut.html"])
def test_what_is_no_report_is_told_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    file, words = damage(folder)[name]
    for arguments in ([file, "a.json"], ["a.json", file]):
        assert status_of(["load", "compare", *arguments]) == 2
        said, complaints = capsys.readouterr()
        assert said == ""
        assert len(complaints.splitlines()) == 1
        assert all(each in complaints for each in [f"greenroom: {file}: ", *words])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max-worse", "10"], "--max-worse: '10' is no share; write 10% or 0.1"),
        (["--max-worse", "lots"], "--max-worse: 'lots' is no share"),
        (["--max-worse", "-5%"], "--max-worse"),
        (["--html", "nowhere/x.html"], "--html: nowhere/x.html cannot be written: No such file or directory"),
        (["--html", "."], "--html: . cannot be written: Is a directory"),
        (["third.json"], "third.json"),
    ],
)
def test_bad_options_are_told_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert status_of(["load", "compare", "a.json", "slow.json", *arguments]) == 2
    said, complaints = capsys.readouterr()
    assert said == ""
    assert len(complaints.splitlines()) == 1
    assert words in complaints


def test_shares_are_percents_or_parts_of_one() -> None:
    assert [parse_share(text) for text in ("10%", "0.1", " 2.5 % ", ".5", "150%", "1", "0")] == [
        *(0.1, 0.1, 0.025, 0.5, 1.5, 1.0, 0.0)
    ]
    for text in ("", "%", "10", "1e3%", "-1%", "nan", "ten"):
        with pytest.raises(ValueError, match=r"is no share; write 10% or 0\.1"):
            parse_share(text)


def test_what_others_wrote_moves_no_cursor_and_sets_no_style(folder: Path) -> None:
    said = "[red]x[/red] [/b] \x1b[2J\x9b0m :smile: \u202e"
    (folder / "b.json").write_bytes(write_report(spoken(said)))
    done = subprocess.run(
        [*COMMAND, "load", "compare", "a.json", "b.json"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "[red]x[/red] [/b] \ufffd[2J\ufffd0m :smile: \ufffd" in done.stdout
    assert all(each.isprintable() for each in done.stdout.splitlines())


# -- its page


def test_the_page_of_a_comparison_shows_what_the_command_prints(folder: Path) -> None:
    assert status_of(["load", "compare", "a.json", "slow.json", "--html", "both.html"]) == 0
    text = (folder / "both.html").read_text(encoding="utf-8")
    rows = {row[0]: row[1:] for row in rows_of(text, "Figures")}
    for each in compare(report(), slower(1.3)).figures:
        shown = rows[each.name]
        assert shown[0].endswith(each.change_shown())
        assert shown[1:] == [each.ratio_shown(), each.shown(each.a), each.shown(each.b), each.interval_shown()]
    assert rows["run p50"][0] == "\N{BLACK UP-POINTING TRIANGLE} worse"
    assert rows["runs per second"][0] == "\N{BLACK DOWN-POINTING TRIANGLE} worse"
    words = Reading(text).words
    assert "a.json" in words
    assert "slow.json" in words
    assert judge_comparison(compare(report(), slower(1.3))).headline in words


def test_the_page_draws_both_distributions_in_one_plot() -> None:
    text = compare_page(report(), slower(1.3))
    plots = drawings(text)
    assert [plot.attrib["aria-labelledby"].split()[0] for plot in plots] == [
        "run-latency-title",
        "request-latency-title",
        "first-token-title",
    ]
    for plot in plots:
        assert_within(plot)
        looks = [each.attrib.get("class", "") for each in plot.iter()]
        assert looks.count("line tone-first") == 1
        assert looks.count("line tone-second") == 1
    assert len(drawings(compare_page(report(), report(first_token=None)))) == 2


def test_the_page_says_first_what_is_not_alike() -> None:
    text = compare_page(report(), report(cores=8, greenroom="0.2.0"))
    assert rows_of(text, "Not alike")[1:] == [["cores", "2", "8"]]
    assert rows_of(text, "Also different")[1:] == [["greenroom", "0.1.0", "0.2.0"]]
    assert text.index("Not alike</h2>") < text.index("Also different</h2>") < text.index("Figures</h2>")
    assert "Not alike" not in compare_page(report(), report())


def test_the_page_of_two_empty_reports_is_readable() -> None:
    text = compare_page(report(**NOTHING), report(**NOTHING))
    assert "Nothing can be compared" in Reading(text).words
    assert drawings(text) == []


@pytest.mark.parametrize("attack", ATTACKS)
def test_text_of_others_changes_no_element_of_the_page(attack: str) -> None:
    text = compare_page(report(), spoken(f"x{attack}"), names=(attack, attack))
    reading = Reading(text)
    assert reading.shape == Reading(compare_page(report(), spoken("x"), names=("x", "x"))).shape
    assert reading.comments == []
    assert {found.get("type") for element, found in reading.elements if element == "script"} == {"application/json"}
    assert "'unsafe-inline'" not in text
    for each in drawings(text):
        assert isinstance(each, ElementTree.Element)
