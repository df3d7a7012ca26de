"""The soak: a growth is told from noise and from one step; a short soak finds what is planted, and only that."""

from __future__ import annotations

import json
import logging
import random
import sys
from array import array
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from greenroom.agents import events, talks

from .benchmark_modules import load

soak, samples, slope, workload = (load(name) for name in ("soak", "soak_samples", "soak_slope", "soak_workload"))


# -- the slope


def noisy(count: int, growth: float, seed: int, noise: float = 10.0) -> list[float]:
    dice = random.Random(seed)
    return [1_000 + growth * place + dice.gauss(0, noise) for place in range(count)]


def found(values: Sequence[float], rate: float = 0.5, least: float = 3.0) -> bool:
    at = range(len(values))
    return slope.grows(slope.slope_of(at, values), slope.Bound(rate, least), at[-1])


@pytest.mark.parametrize("count", [8, 12, 80])
def test_a_flat_noisy_series_does_not_grow(count: int) -> None:
    assert not [seed for seed in range(300) if found(noisy(count, 0.0, seed), rate=0.0, least=-1e9)]


@pytest.mark.parametrize(("count", "growth"), [(8, 50.0), (12, 10.0), (80, 1.5)])
def test_a_growth_is_found_under_noise(count: int, growth: float) -> None:
    assert sum(found(noisy(count, growth, seed)) for seed in range(100)) > 95


def test_a_slow_growth_without_noise_is_found_where_its_bound_is_lower() -> None:
    values = [float(place) for place in range(10)]
    assert slope.slope_of(range(10), values) == (1.0, 1.0, 1.0)
    assert found(values, rate=0.9)
    assert not found(values, rate=1.0)
    assert not found(values, rate=0.9, least=9.0)


def test_one_step_is_no_growth() -> None:
    """What is made once, late, and stays."""
    for place in range(1, 12):
        assert not found([0.0] * place + [100.0] * (12 - place))


def test_a_series_that_shrinks_does_not_grow() -> None:
    assert not found([float(-place) for place in range(12)])


@pytest.mark.parametrize("count", [0, 1, 7])
def test_too_few_samples_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"at least 8 samples, not {count}"):
        slope.slope_of(range(count), [0.0] * count)


def test_two_samples_at_one_place_are_refused() -> None:
    with pytest.raises(ValueError, match="two samples were taken at 3"):
        slope.slope_of([1, 2, 3, 3, 4, 5, 6, 7], [0.0] * 8)


# -- the samples


class Planted:
    """What a leak keeps."""


def test_a_sample_sees_objects_that_stay_and_is_none_itself() -> None:
    """Of a lap to the next one, what is planted grows, and nothing that sampling itself makes."""
    kept: list[Planted] = []
    taken = samples.Samples(9, {"kept": lambda: len(kept)})
    for lap in range(9):
        kept += [Planted() for _ in range(25)]
        taken.take(lap * 100 + 100)
    leaks = taken.leaks(1)
    assert leaks.pop("kept") == pytest.approx((250.0, 250.0, 250.0))
    assert leaks.pop(f"{__name__}.Planted") == pytest.approx((250.0, 250.0, 250.0))
    assert set(leaks) <= {"blocks"}
    assert taken.series["resident, KiB"][8] > 1_000


def test_memory_that_is_no_object_is_seen() -> None:
    """One block of bytes has no type that the collector knows; malloc and the system do."""
    before = samples.malloc_kib(), samples.resident_kib()
    kept = bytes(50_000) * 1_000
    after = samples.malloc_kib(), samples.resident_kib()
    assert len(kept) == 50_000_000
    assert after[1] - before[1] > 40_000
    assert after[0] - before[0] > 40_000 or after[0] == 0.0


def test_types_of_one_name_are_one_series() -> None:
    def make() -> type:
        return type("Twin", (), {})

    first, second = make(), make()
    twins = [first(), second(), second()]
    taken = samples.Samples(1, {})
    taken.take(100)
    assert taken.series[f"{__name__}.Twin"][0] == len(twins)


# -- the account


def test_a_run_that_does_not_end_or_ends_twice_is_told() -> None:
    common: dict[str, Any] = {"seq": 1, "time": 0.0, "path": ("a",), "turn": 0}
    account = soak.Account()
    account.asked = 2
    account.kinds["plain"]["completed"] += 1
    for run_id in ("a", "b"):
        account.hear(make(events.RunStarted, run_id=run_id, **common))
    for run_id in ("a", "a", "c"):
        account.hear(make(events.RunCompleted, run_id=run_id, **common))
    assert account.disagreements() == [
        "2 runs were asked for, and 1 ended",
        "runs that had not begun: 1 completed",
        "1 runs began or ended twice",
        "1 runs never ended: b",
    ]


def test_a_run_that_is_stopped_before_its_turn_only_ends() -> None:
    account = soak.Account()
    for run_id in ("a", "b"):
        account.hear(make(events.RunStopped, seq=1, time=0.0, path=("a",), turn=0, run_id=run_id))
    assert account.disagreements() == []
    account.lap_over()
    account.begun += 1
    assert account.disagreements() == ["1 runs began, and 0 of them said that they ended"]


def make(kind: Any, **facts: Any) -> Any:
    """An event with whatever else it needs left empty."""
    missing = {name: None for name in kind.__struct_fields__ if name not in facts}
    return kind(**missing, **facts)


def test_too_few_laps_are_refused_before_anything_begins() -> None:
    with pytest.raises(ValueError, match="80 runs in laps of 10 are too few: 8 laps behind the warm-up are needed"):
        anyio.run(lambda: soak.soak(runs=80, lap=10, in_flight=4))


# -- the whole


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_short_soak_accounts_for_every_run_and_finds_what_is_planted(
    backend: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """400 runs. Nothing grows but what the test keeps: one object for each result."""
    monkeypatch.setattr(talks, "KEPT", 20)
    caplog.set_level(logging.CRITICAL, logger="greenroom")
    kept: list[Planted] = []

    def keep(_result: Any) -> None:
        kept.append(Planted())

    async def run() -> Any:
        return await soak.soak(runs=400, lap=40, in_flight=40, keep=keep)

    report = anyio.run(run, backend=backend)
    account = report.account
    assert report.disagreements == []
    assert account.asked == account.outcomes.total() == 400
    assert account.begun + account.unbegun.total() == account.ended.total() > 400
    assert {"completed", "stopped", "limited", "failed", "cancelled"} <= {*account.outcomes}
    assert {name for name, ended in account.kinds.items() if not ended} == set()
    assert account.kinds["crash"].keys() <= {"completed"}
    planted = report.leaks.pop(f"{__name__}.Planted")
    assert planted.low > 500
    assert set(report.leaks) <= {"blocks"}  # each of them takes one
    assert "NOT SOUND" not in soak.table(report)
    assert "  GROWS" not in soak.table(report).replace(f"{__name__}.Planted", "")


# -- the command


def report_of(growth: float, **account: Any) -> Any:
    """A report without a soak: one series, which grows so much with each lap."""
    taken = samples.Samples(10, {"tasks": lambda: 0})
    taken.series = {
        name: array("d", [1.0] * 10) for name in (*samples.NAMES, "tasks", "builtins.dict", "builtins.list")
    }
    taken.series["tasks"] = array("d", [5.0 + growth * lap for lap in range(10)])
    taken.runs, taken.taken = array("d", [1_000.0 * lap for lap in range(1, 11)]), 10
    books = soak.Account()
    books.asked = account.get("asked", 1)
    books.kinds["plain"]["completed"] += 1
    return soak.Report(books, taken, 2, 1.0, 1.0)


@pytest.mark.parametrize(
    ("report", "status", "last"),
    [
        (report_of(0.0), 0, "nothing grows, and every run has ended once"),
        (report_of(1.0), 1, "NOT SOUND"),
        (report_of(0.0, asked=2), 1, "NOT SOUND"),
    ],
    ids=["sound", "grows", "lost"],
)
def test_the_status_is_1_where_something_grows_or_is_lost(
    report: Any,
    status: int,
    last: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, logger="greenroom")  # as the program does, for good

    async def soaked(**_: Any) -> Any:
        return report

    monkeypatch.setattr(soak, "soak", soaked)
    monkeypatch.setattr(sys, "argv", ["soak.py"])
    assert soak.main() == status
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == last
    tasks = next(line for line in printed if line.startswith("tasks"))
    assert tasks.endswith("GROWS") == ("tasks" in report.leaks)
    monkeypatch.setattr(sys, "argv", ["soak.py", "--json"])
    assert soak.main() == status
    told = json.loads(capsys.readouterr().out)
    assert (told["sound"], told["series"]["tasks"][9]) == (not status, report.samples.series["tasks"][9])


def test_each_kind_of_run_comes_up_and_the_same_seed_makes_the_same() -> None:
    def errands(seed: int) -> list[Any]:
        return [workload.Errand(seed, number, workload.NAMES, workload.WEIGHTS) for number in range(2_000)]

    first, again, other = errands(1), errands(1), errands(2)
    assert {each.kind for each in first} == set(workload.KINDS)
    assert [(each.kind, each.dice.random()) for each in first] == [(each.kind, each.dice.random()) for each in again]
    assert [each.kind for each in first] != [each.kind for each in other]
