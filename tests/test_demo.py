"""The demo: its counts agree, a wrong count is noticed, and nothing survives it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from greenroom import cli_demo
from greenroom.load import Latency, Stats
from greenroom.load.attempts import Attempts
from greenroom.load.demo import demo
from greenroom.load.reconcile import reconcile
from greenroom.load.report import Report, percentile, rows
from greenroom.load.tally import Tally

COMMAND = [sys.executable, "-P", "-W", "error", "-X", "dev", "-m", "greenroom", "demo"]
#: Fast replies, and streams slow enough to be stopped in the middle.
QUICK = "5ms-20ms+20ms"
BACKENDS = ["asyncio", "trio"]


# -- the whole, as a user starts it


def table_of(printed: str) -> dict[str, str]:
    """The rows of the table, by label."""
    lines = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in printed.splitlines() if "  " in line.strip()]
    return {line[0]: line[1] for line in lines}


def unexpected(errors: str) -> list[str]:
    """Lines on standard error that are not progress; asyncio's debug mode also says which step was slow."""
    return [line for line in errors.splitlines() if not re.match(r"\d+ of 60 runs ended, |Executing <Task", line)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_demo_accounts_for_every_run_and_warns_of_nothing(backend: str) -> None:
    command = [*COMMAND, "--runs", "60", "--backend", backend, "--latency", QUICK]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert unexpected(done.stderr) == []
    assert done.returncode == 0
    table = table_of(done.stdout)
    number = {label: int(value.split()[0]) for label, value in table.items() if value.split()[0].isdecimal()}
    assert table["runs"].startswith("60 (and 18 subagents; ")
    assert number["completed"] + number["stopped"] + number["failed"] == 60
    assert 1 <= number["stopped"] + number["failed"] <= 3  # three are stopped, on a very busy machine too late
    assert (number["lost"], number["restarts"]) == (0, 2)
    assert table["tool calls"] == "210 (3 crashed, and the model was told)"
    assert number["requests, client"] == number["requests, server"] > 216
    assert number["retries"] > 0
    assert table["counts"] == "client and server agree"
    assert table["run latency"].startswith("p50 ")
    assert table["CPU per run"].endswith("ms (of the client's process)")
    assert table["backend"].startswith(f"{backend}, on CPython ")


def children_of(pid: int) -> list[int]:
    """The processes that `pid` has started and that still are; Linux only."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
        if parent == pid:
            found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(os.name != "posix", reason="a signal is sent")
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interrupted_demo_ends_soon_with_one_line_and_no_orphan(backend: str) -> None:
    command = [*COMMAND, "--runs", "200", "--backend", backend]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while not re.match(r"\d+ of 200 runs ended, [1-9]\d* in flight", process.stderr.readline()):
            assert process.poll() is None
        servers = children_of(process.pid)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=30)
        took = time.monotonic() - began
    assert process.returncode == 130
    assert printed == ""
    assert [line for line in errors.splitlines() if not line.startswith("Executing <Task")] == [
        "greenroom: interrupted"
    ]
    assert took < 5.0  # usually a quarter of a second; the machine may be busy
    assert [pid for pid in servers if Path(f"/proc/{pid}").exists()] == []
    assert servers or not Path("/proc").exists()


# -- the function


@pytest.mark.anyio
async def test_without_faults_every_number_is_known() -> None:
    """40 runs of three requests, four of which have three subagents of two requests; nothing survives the call."""
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir())) if descriptors.exists() else 0
    seen: list[int] = []
    report = await demo(
        runs=40, faults=0.0, latency=Latency.parse(QUICK), watch=lambda tally: seen.append(tally.said.total())
    )
    assert report.disagreements == []
    tally, server = report.tally, report.server
    assert (tally.launched, tally.accounted, tally.lost, tally.begun) == (40, 40, 0, 52)
    assert tally.outcomes == {"completed": 38, "stopped": 2}
    assert (tally.restarts, tally.tool_crashes, tally.retries, report.resent) == (1, 3, 0, 0)
    assert (tally.attempts, server.requests) == (144, 144)
    assert (tally.calls, tally.tools_done, tally.tools_failed) == (140, 137, 3)
    assert server.runs_started == 52
    assert seen[-1] == 40
    if descriptors.exists():
        assert len(list(descriptors.iterdir())) == before
    assert [each.name for each in threading.enumerate() if not each.daemon and "AnyIO" not in each.name] == [
        "MainThread"
    ]


def test_a_disagreement_is_named_and_ends_the_command_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def short_of_one(**_: Any) -> Report:
        tally, attempts, server = agreeing()
        tally.launched += 1
        disagreements = reconcile(tally, attempts, 1, server, calls_at_once=3)
        return report_of(tally, attempts, server, disagreements)

    monkeypatch.setattr(cli_demo, "demo", short_of_one)
    assert cli_demo.run_demo(runs=3, backend="asyncio", faults=0.0, seed=1, latency="0s") == 1
    printed = capsys.readouterr()
    assert table_of(printed.out)["lost"] == "1"
    assert table_of(printed.out)["counts"] == "DO NOT AGREE"
    assert "greenroom: not accounted for: runs asked for: 3, runs with exactly one outcome: 2" in printed.err


# -- reconciliation


def agreeing() -> tuple[Tally, Attempts, Stats]:
    """Counts of two runs that agree, without any room for interpretation; one request was resent."""
    tally = Tally(
        launched=2,
        settled=Counter("ab"),
        outcomes=Counter(completed=2),
        said=Counter(completed=2),
        begun=2,
        ends=Counter("ab"),
        completed=2,
        first_replies=2,
        in_flight_max=2,
        attempts=9,
        replies=6,
        retries=3,
        calls=6,
        tools_started=6,
        tools_done=5,
        tools_failed=1,
        tool_crashes=1,
        run_crashes=1,
        restarts=1,
        seconds=[1.0, 2.0],
    )
    attempts = Attempts(ok=6, rate_limited=1, server_errors=1, interrupted=1)
    server = Stats(
        requests=10,
        ok=6,
        rate_limited=1,
        server_errors=1,
        resets=2,
        conversations_started=2,
        conversations_finished=2,
        runs_started=2,
        runs_finished=2,
        tool_calls=6,
    )
    return tally, attempts, server


def report_of(tally: Tally, attempts: Attempts, server: Stats, disagreements: list[str]) -> Report:
    return Report(
        backend="asyncio",
        tally=tally,
        attempts=attempts,
        resent=1,
        server=server,
        seconds=2.0,
        cpu_seconds=0.01,
        memory=None,
        disagreements=disagreements,
    )


def test_counts_that_agree_say_nothing() -> None:
    tally, attempts, server = agreeing()
    assert reconcile(tally, attempts, 1, server, calls_at_once=3) == []


#: Counts that tell something and of which no other tells anything.
TOLD = {"in_flight_max", "connections", "connections_open", "bytes_in", "bytes_out", "other"}


def fields_of(kind: type[msgspec.Struct]) -> list[str]:
    return [each.name for each in msgspec.structs.fields(kind) if each.type is int and each.name not in TOLD]


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize(
    ("side", "field"),
    [
        *[(0, name) for name in fields_of(Tally)],
        *[(1, name) for name in fields_of(Attempts)],
        *[(2, name) for name in fields_of(Stats)],
    ],
)
def test_one_count_that_is_off_by_one_is_noticed(side: int, field: str, change: int) -> None:
    counts = agreeing()
    setattr(counts[side], field, getattr(counts[side], field) + change)
    assert reconcile(*counts[:2], 1, counts[2], calls_at_once=3)


@pytest.mark.parametrize("resent", [0, 2])
def test_a_resent_request_that_only_one_side_has_is_noticed(resent: int) -> None:
    tally, attempts, server = agreeing()
    lines = reconcile(tally, attempts, resent, server, calls_at_once=3)
    assert f"requests sent by the client: {9 + resent}, received by the server: 10" in lines


@pytest.mark.parametrize("field", ["settled", "ends"])
@pytest.mark.parametrize("names", ["a", "abb", "aab"])
def test_a_run_with_no_outcome_or_two_is_lost(field: str, names: str) -> None:
    tally, attempts, server = agreeing()
    setattr(tally, field, Counter(names))
    assert tally.lost == 1
    lines = reconcile(tally, attempts, 1, server, calls_at_once=3)
    assert "runs asked for: 2, runs with exactly one outcome: 1" in lines


@pytest.mark.parametrize("outcomes", [Counter(completed=1, stopped=1), Counter(completed=1), Counter(completed=3)])
def test_a_result_that_the_events_contradict_is_noticed(outcomes: Counter[str]) -> None:
    tally, attempts, server = agreeing()
    tally.outcomes = outcomes
    assert reconcile(tally, attempts, 1, server, calls_at_once=3)


def with_one_cut() -> tuple[Tally, Attempts, Stats]:
    """A third run, stopped during its only request; the server's outcome of it is still to be added."""
    tally, attempts, server = agreeing()
    tally.launched, tally.begun, tally.attempts = 3, 3, 10
    tally.settled, tally.ends = Counter("abc"), Counter("abc")
    tally.outcomes, tally.said = Counter(completed=2, stopped=1), Counter(completed=2, stopped=1)
    attempts.cut = 1
    server.requests = 11
    return tally, attempts, server


@pytest.mark.parametrize("outcome", ["aborted", "ok", "resets", "stalled", "rate_limited", "server_errors"])
def test_an_attempt_that_was_cut_may_meet_any_outcome_at_the_server(outcome: str) -> None:
    tally, attempts, server = with_one_cut()
    setattr(server, outcome, getattr(server, outcome) + 1)
    assert reconcile(tally, attempts, 1, server, calls_at_once=3) == []


def test_an_attempt_that_was_cut_has_exactly_one_outcome_at_the_server() -> None:
    tally, attempts, server = with_one_cut()
    server.aborted, server.requests = 2, 12
    assert reconcile(tally, attempts, 1, server, calls_at_once=3) == [
        "requests sent by the client: 11, received by the server: 12",
        "requests stalled or aborted at the server: 2, by the client's count: 0 to 1",
    ]


def test_the_answer_of_a_cut_attempt_may_have_been_served_whole_and_no_other() -> None:
    tally, attempts, server = with_one_cut()
    server.ok += 1
    server.conversations_started = server.conversations_finished = server.runs_started = server.runs_finished = 3
    assert reconcile(tally, attempts, 1, server, calls_at_once=3) == []
    server.conversations_finished = 4
    assert reconcile(tally, attempts, 1, server, calls_at_once=3) == [
        "final answers served: 4, by the client's count: 2 to 3"
    ]


# -- the report


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(n) for n in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 99), percentile(values, 100)) == (50.0, 99.0, 100.0)
    assert (percentile([3.0], 50), percentile([], 99)) == (3.0, 0.0)


def test_the_table_names_each_cause_of_failure() -> None:
    tally, attempts, server = agreeing()
    tally.outcomes = Counter({"completed": 7, "interrupted": 2, "stalled": 1})
    table = dict(rows(report_of(tally, attempts, server, [])))
    assert table["failed"] == "3 (interrupted 2, stalled 1)"
    assert table["memory per run"].startswith("unknown")
    assert table["requests, client"] == "10 (ok 6, 429 1, 500 1, reset 2, stalled 0, cut 0)"
