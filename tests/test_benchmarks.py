"""The benchmarks work, and see what they are there to see. No figure is judged here: machines differ."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from greenroom.mailbox import Mailbox

from .benchmark_modules import FOLDER, load

NAMES = ("tell", "ask", "spawn", "restart", "idle", "stop", "fan_in", "control", "cancel")
NAMES += (
    "provider",
    "provider_memory",
    "scripted",
    "stream",
    "tool_call",
    "process_tool",
    "journal_store",
    "journal",
    "recovery",
    "in_flight",
)
TINY = dict.fromkeys(("supervisors", "children", "group", "waiting"), 2) | {
    "count": 20,
    "runs": 20,
    "chunks": 7,
    "in_flight": 8,
    "senders": 4,
    "messages": 5,
    "rounds_of_chaos": 6,
    "first_seed": 0,
    "instant": 0,
    "latency_ms": 5,
}


goals, runner, bench_cancel = load("goals"), load("runner"), load("bench_cancel")
CONTENDERS = {f"bench_{name}.py": load(f"bench_{name}").CONTENDERS for name in NAMES}
#: That of the whole run is not run here: what it does, the demo and the peers' tests do too.
KNOWN = {**CONTENDERS, "bench_run.py": load("bench_run").CONTENDERS}


# -- they run


#: Each contender on one backend, by turns: they are scripts, and to run all on both takes a minute.
TURNS = [
    (file, each, each.backends[place % len(each.backends)])
    for file, contenders in CONTENDERS.items()
    for place, each in enumerate(contenders)
]


@pytest.mark.parametrize(
    ("contender", "backend"),
    [pytest.param(each, backend, id=f"{file[6:-3]}-{each.name}-{backend}") for file, each, backend in TURNS],
)
def test_a_contender_measures_something(contender: Any, backend: str) -> None:
    figures = anyio.run(contender.measure, TINY, backend=backend)
    assert figures
    # The memory of a process that has done much else may shrink while twenty actors are started in it.
    assert all(value >= 0 or what == "KiB" for what, value in figures.items())


def test_a_table_compares_every_repeat_of_every_process() -> None:
    options = ["--backend", "asyncio", "--only", "tell_nowait", "--repeats", "2", "--rounds", "2", "--count", "64"]
    done = subprocess.run(
        [sys.executable, FOLDER / "bench_tell.py", *options, "--json"], capture_output=True, text=True, check=True
    )
    rows = [row for row in json.loads(done.stdout)["rows"] if row["backend"] == "asyncio"]
    assert [row["contender"] for row in rows] == ["tell_nowait", "anyio stream"]
    assert [len(row["repeats"]) for row in rows] == [4, 4]


@pytest.mark.parametrize(("worst", "first"), [(False, "1"), (True, "3")])
def test_noise_is_compared_by_its_best_and_a_fault_by_its_worst_repeat(worst: bool, first: str) -> None:
    about = {"question": "?", "date": "", "python": "", "versions": {}, "options": {}, "baseline": "it"}
    rows = [{"backend": "trio", "contender": "it", "repeats": [{"n": 2.0}, {"n": 1.0}, {"n": 3.0}]}]
    line = runner._table(about, rows, worst).splitlines()[-1]
    assert line.split()[2] == first


# -- the goals


@pytest.mark.parametrize("goal", goals.GOALS, ids=lambda goal: goal.what)
def test_a_goal_names_what_there_is(goal: Any) -> None:
    contenders = {each.name: each for each in KNOWN[goal.file]}
    for case in goal.cases():
        assert set(goal.backends) <= set(contenders[case.contender].backends)
    assert set(goal.options) <= set(TINY)


def test_a_goal_is_met_on_every_backend_or_not_at_all() -> None:
    goal = goals.Goal("idle", (7, 6), "bench_idle.py", "actor", unit="KiB")
    assert goals.verdict(goal, {"asyncio": 7.0, "trio": 6.0}) == "met"
    assert goals.verdict(goal, {"asyncio": 7.0, "trio": 6.1}) == "NOT MET on trio"
    assert goals.verdict(goal, {"asyncio": 7.1, "trio": None}) == "NOT MET"
    assert goals.verdict(goal, {"asyncio": None, "trio": None}) == "-"


def test_a_ratio_is_of_best_repeats_and_a_count_is_of_the_worst() -> None:
    speed = goals.ratio("tell", 0.25, "f", "tell", "stream")
    fault = goals.none_of("lost", "messages", "f", "tell")
    figures = {
        ("trio", goals.Case("f", "tell")): [3.0, 1.0, 2.0],
        ("trio", goals.Case("f", "stream")): [8.0, 4.0],
    }
    assert goals.figure(speed, "trio", figures) == 0.25
    assert goals.figure(fault, "trio", figures) == 3.0


def test_a_goal_may_be_about_another_figure_than_the_first() -> None:
    repeat = {"KiB": 40.0, "peak MB": 480.0}
    assert goals.Case("f", "to the end").figure(repeat) == 40.0
    assert goals.Goal("many", (500, 500), "f", "to the end", column="peak MB").cases()[0].figure(repeat) == 480.0


# -- what must not happen


def test_the_books_show_each_kind_of_fault() -> None:
    first, second, third = (0, 0), (0, 1), (0, 2)

    def found(told: set[Any], refused: set[Any], got: list[Any]) -> dict[str, int]:
        return {kind: count for kind, count in bench_cancel.compare(told, refused, got).items() if count}

    assert found({first, second}, {third}, [first, second]) == {}
    assert found({first, second}, set(), [second]) == {"lost": 1}
    assert found({first}, set(), [first, first]) == {"doubled": 1}
    assert found({first, second}, set(), [second, first]) == {"reordered": 1}
    assert found({first}, {second}, [first, second]) == {"ghosts": 1}


class Forgetful(Mailbox):
    """Lets go of a message before it has arrived."""

    __slots__ = ()

    async def receive(self) -> Any:
        received = await super().receive()
        await checkpoint()
        return received


class Rash(Mailbox):
    """Has enqueued a message whose send is then cancelled."""

    __slots__ = ()

    async def send(self, envelope: Any) -> None:
        await super().send(envelope)
        await checkpoint()


@pytest.mark.parametrize("attempt", ["by_scope", "natively"])
@pytest.mark.parametrize(("kind", "faults"), [(Mailbox, set()), (Forgetful, {"lost"}), (Rash, {"ghosts"})])
def test_random_cancellation_shows_what_a_mailbox_does_wrong(
    monkeypatch: pytest.MonkeyPatch, attempt: str, kind: type[Mailbox], faults: set[str]
) -> None:
    monkeypatch.setattr(bench_cancel, "Mailbox", kind)

    async def rounds() -> dict[str, int]:
        play = partial(bench_cancel.one_round, kind=bench_cancel.mailbox, attempt=getattr(bench_cancel, attempt))
        found = sum([await play(seed) for seed in range(20)], bench_cancel.Counter())
        return {name: count for name, count in found.items() if count}

    assert set(anyio.run(rounds)) == faults | {"cancelled"}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_nothing_is_handled_between_a_signal_and_its_effect(backend: str) -> None:
    ours, theirs = ([], [])
    for each in CONTENDERS["bench_control.py"]:
        if backend in each.backends:
            figures = anyio.run(each.measure, TINY, backend=backend)
            (ours if each.name in ("stop", "death of a monitored actor") else theirs).append(figures)
    assert [each["data messages before it"] for each in ours] == [0, 0]
    assert [each["data messages before it"] for each in theirs] == [1026, 1026]
