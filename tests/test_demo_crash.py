"""The crash demo: processes are killed, all runs come to their end, what is wrong is noticed, and nothing stays."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from greenroom import cli, cli_demo
from greenroom.journal import Began, Ended, Happened, Intended, Record, Replied, Resumed, Retrying, encode
from greenroom.load import Latency, Plan, simulated_server
from greenroom.load.crash_account import UNKNOWN, Account, Life, account, story_of
from greenroom.load.crash_orders import CONTRACTS, answer_of, name_of, run_id_of
from greenroom.load.crash_report import crash_rows
from greenroom.load.demo_crash import CrashReport, demo_crash
from greenroom.load.sink import Effect, Sink, effects_in
from greenroom.load.stats import Stats
from greenroom.providers import ModelReply, ToolCall, ToolResult, assistant

COMMAND = [sys.executable, "-P", "-W", "error", "-X", "dev", "-m", "greenroom", "demo", "--crash"]
QUICK = "20ms-100ms"
BACKENDS = ["asyncio", "trio"]
LINUX = pytest.mark.skipif(not Path("/proc").exists(), reason="looks at /proc")


# -- the whole, as a user starts it


def table_of(printed: str) -> dict[str, str]:
    """The rows of the table, by label."""
    lines = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in printed.splitlines() if "  " in line.strip()]
    return {line[0]: line[1] for line in lines if len(line) == 2}


@pytest.mark.parametrize(("backend", "kills"), [("asyncio", 1), ("trio", 1), ("asyncio", 3)])
def test_every_run_of_processes_that_were_killed_is_accounted_for(backend: str, kills: int, tmp_path: Path) -> None:
    """Scenario 71 at the size of the demo: in an empty folder, which stays empty, and so does the temporary one."""
    options = ["--runs", "60", "--backend", backend, "--latency", QUICK, "--kills", str(kills)]
    folder, temporary = tmp_path / "here", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run(
        [*COMMAND, *options],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        env=environment,
    )
    unexpected = [line for line in done.stderr.splitlines() if not re.match(r"process \d+: |Executing <Task", line)]
    assert unexpected == []
    assert done.returncode == 0
    table = table_of(done.stdout)
    assert table["runs"].startswith("60 (")
    assert re.match(rf"{kills} process(es)?, after \d+", table["killed"])
    assert len(re.findall(r"\b(\d+) of \1\b", table["resumed"])) == kills
    assert (table["completed"], table["not completed"], table["lost"], table["doubled"]) == ("60", "0", "0", "0")
    assert table["model calls"] == "240 recorded, 0 of them repeated"
    assert table["keyed tools"].startswith("120 calls, 120 effects")
    assert table["never tools"].startswith("120 calls, ")
    assert table["counts"] == "journal, server and effects agree"
    assert table["backend"].startswith(f"{backend}, on CPython ")
    assert [*folder.iterdir(), *temporary.iterdir()] == []


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


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def demo_at_work(tmp_path: Path, backend: str) -> subprocess.Popen[str]:
    """A demo whose first process is at work."""
    command = [*COMMAND, "--runs", "40", "--backend", backend, "--latency", "5s"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    assert process.stderr is not None
    while "runs begun" not in process.stderr.readline():
        assert process.poll() is None
    return process


@LINUX
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interrupted_demo_leaves_one_line_and_neither_a_process_nor_a_file(backend: str, tmp_path: Path) -> None:
    with demo_at_work(tmp_path, backend) as process:
        started = children_of(process.pid)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert printed == ""
    assert [line for line in errors.splitlines() if not line.startswith("Executing <Task")] == [
        "greenroom: interrupted"
    ]
    assert len(started) == 2
    assert [pid for pid in started if is_alive(pid)] == []
    assert [*tmp_path.iterdir()] == []


@LINUX
def test_nothing_of_a_demo_outlives_it_when_it_is_killed_itself(tmp_path: Path) -> None:
    with demo_at_work(tmp_path, "asyncio") as process:
        started = children_of(process.pid)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 30
        while any(map(is_alive, started)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert len(started) == 2


def test_how_often_to_kill_needs_something_to_kill(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.status_of(["demo", "--kills", "2"]) == 2
    assert "--crash" in capsys.readouterr().err


def test_a_latency_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.status_of(["demo", "--crash", "--latency", "soon"]) == 2
    assert "--latency" in capsys.readouterr().err


@pytest.mark.anyio
@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
async def test_a_process_that_ends_by_itself_ends_the_demo(anyio_backend_name: str) -> None:
    def end(line: str) -> None:
        if "begun" in line:
            os.kill(int(line.split()[1].rstrip(":")), signal.SIGTERM)

    with pytest.raises(RuntimeError, match="ended by itself"):
        await demo_crash(runs=5, latency=Latency.parse("5s"), backend=anyio_backend_name, tell=end)


@pytest.mark.anyio
async def test_a_demo_without_a_kill_has_nothing_in_flight(anyio_backend_name: str) -> None:
    report = await demo_crash(runs=8, kills=0, faults=0.0, latency=Latency.parse("1ms"), backend=anyio_backend_name)
    found = report.account
    assert found.disagreements == []
    assert (found.statuses["completed"], found.recorded, report.server.ok, found.resumed) == (8, 32, 32, 0)
    assert (found.asked_again, found.answered_twice, found.in_flight, found.unknown) == (0, 0, 0, 0)
    assert found.effects == found.requests == found.calls == {"safe": 8, "keyed": 16, "never": 16}


def test_a_disagreement_is_named_and_ends_the_command_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def short_of_all(**_: Any) -> CrashReport:
        return report_of(account(30, {}, [], {}, [Life(runs=30, unfinished=30, seconds=0.1)]))

    monkeypatch.setattr(cli_demo, "demo_crash", short_of_all)
    assert cli.status_of(["demo", "--crash", "--runs", "30"]) == 1
    printed = capsys.readouterr()
    assert table_of(printed.out)["lost"] == "30"
    assert table_of(printed.out)["counts"] == "DO NOT AGREE"
    assert "greenroom: not accounted for: order-0 has 0 ends" in printed.err
    assert "greenroom: not accounted for: 10 more" in printed.err


# -- the witnesses


@pytest.mark.anyio
async def test_the_server_counts_whole_answers_by_run_and_turn() -> None:
    async with simulated_server(latency=Latency(0.0, 0.0)) as server, httpx.AsyncClient() as client:
        messages: list[dict[str, str]] = [{"role": "user", "content": Plan(answer="Yes.").prompt()}]
        body: dict[str, Any] = {"model": "m", "user": "somebody", "messages": messages}
        for _ in range(2):
            assert (await client.post(f"{server.base_url}/chat/completions", json=body)).status_code == 200
        messages += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "And now?"}]
        assert (await client.post(f"{server.base_url}/chat/completions", json={**body, "tools": 3})).status_code == 400
        assert (await client.post(f"{server.base_url}/chat/completions", json=body)).status_code == 200
        assert (await client.post(f"http://{server.host}:{server.port}/answers")).status_code == 405
        assert await server.answers() == {"somebody": [3]}


def test_a_sink_keeps_what_two_writers_have_said(tmp_path: Path) -> None:
    first, second = Effect("ship", 1), Effect("charge", 2, "k")
    with Sink(tmp_path / "effects") as one, Sink(tmp_path / "effects") as other:
        one.take(first)
        other.take(second)
        one.take(first)
    assert effects_in(tmp_path / "effects") == [first, second, first]


# -- the account


def replied(*names: str, text: str = "") -> Replied:
    return Replied(ModelReply(assistant(text, tool_calls=[ToolCall(f"{each}-1", each, {}) for each in names])))


def happened(name: str, cause: str | None = None) -> Happened:
    return Happened(ToolResult(f"{name}-1", "?", name, cause is not None, cause))


#: The records of a run that nothing has happened to.
QUIET: list[Record] = [
    Began(run_id_of(0), "orders", [], []),
    replied("stock", "reserve"),
    Intended("stock-1"),
    Intended("reserve-1"),
    happened("stock"),
    happened("reserve"),
    replied("charge", "ship"),
    Intended("charge-1"),
    Intended("ship-1"),
    happened("charge"),
    happened("ship"),
    replied("notify"),
    Intended("notify-1"),
    happened("notify"),
    replied(text=answer_of(0)),
    Ended("completed", "done"),
]
EFFECTS = [Effect(name, 0, f"key of {name}" if CONTRACTS[name] == "keyed" else None) for name in CONTRACTS]
ONCE = {name_of(0): [1, 1, 1, 1]}
TAKEN = Life(runs=1, unfinished=1, seconds=0.5, gap=1.0)


def killed(before: type[Record], number: int, **resumed: Any) -> list[Record]:
    """The records with a crash before the `number`-th of a kind."""
    places = [place for place, record in enumerate(QUIET) if isinstance(record, before)]
    place = places[number - 1]
    return [*QUIET[:place], Resumed(**resumed), *QUIET[place:]]


def judge(
    records: list[Record],
    effects: list[Effect] | None = None,
    answers: dict[str, list[int]] | None = None,
    lives: int = 1,
) -> Account:
    story = story_of([encode(record) for record in records])
    effects, answers = EFFECTS if effects is None else effects, ONCE if answers is None else answers
    return account(1, {run_id_of(0): story}, effects, answers, [TAKEN] * lives)


def report_of(found: Account) -> CrashReport:
    life = Life(runs=1, unfinished=1, seconds=0.5, answers=7)
    return CrashReport(
        backend="asyncio", lives=(life, TAKEN), account=found, server=Stats(), journal=10, file=100, seconds=1.0
    )


def test_a_run_that_nothing_happened_to_is_accounted_for() -> None:
    found = judge(QUIET)
    assert found.disagreements == []
    assert (found.recorded, found.asked_again, found.in_flight, found.resumed) == (4, 0, 0, 0)


def test_a_call_in_flight_is_asked_again_and_may_have_been_answered() -> None:
    """The third request was in flight: its answer may have come to nobody."""
    records = killed(Replied, 3, asking=True)
    for given in (1, 2):
        found = judge(records, answers={name_of(0): [1, 1, given, 1]}, lives=2)
        assert found.disagreements == []
        assert (found.asked_again, found.answered_twice, found.repeated) == (1, given - 1, 0)
    found = judge(records, answers={name_of(0): [1, 1, 3, 1]}, lives=2)
    assert (found.answered_twice, found.repeated) == (1, 1)
    assert found.disagreements == ["order-0: turn 3 was answered 3 times, 2 would be right"]


def test_a_recorded_reply_that_was_asked_for_again_is_noticed() -> None:
    """The tools of the second turn were at work: the model had not been asked."""
    found = judge(killed(Happened, 3), answers={name_of(0): [1, 2, 1, 1]}, lives=2)
    assert (found.repeated, found.answered_twice, found.in_flight) == (1, 0, 2)
    assert found.disagreements == ["order-0: turn 2 was answered 2 times, 1 would be right"]


def test_a_try_that_was_given_up_may_have_been_answered() -> None:
    place = next(place for place, record in enumerate(QUIET) if isinstance(record, Replied))
    records = [*QUIET[:place], Retrying(1, 0.0), *QUIET[place:]]
    found = judge(records, answers={name_of(0): [2, 1, 1, 1]})
    assert (found.disagreements, found.tries, found.answered_twice) == ([], 1, 1)


def test_a_keyed_call_that_ran_twice_has_one_effect() -> None:
    twice = [*EFFECTS, Effect("charge", 0, "key of charge")]
    found = judge(killed(Happened, 3), twice, lives=2)
    assert (found.disagreements, found.requests["keyed"], found.effects["keyed"]) == ([], 3, 2)


@pytest.mark.parametrize("took", [True, False])
def test_a_call_that_may_not_run_twice_has_had_its_effect_or_not_and_the_model_was_told(took: bool) -> None:
    records = [happened("ship", UNKNOWN) if record == happened("ship") else record for record in killed(Happened, 3)]
    effects = [effect for effect in EFFECTS if took or effect.tool != "ship"]
    found = judge(records, effects, lives=2)
    assert (found.disagreements, found.unknown, found.took_effect) == ([], 1, int(took))


def without(tool: str) -> Callable[[], Account]:
    return lambda: judge(QUIET, [effect for effect in EFFECTS if effect.tool != tool])


#: What goes wrong, and a word of what is said about it.
WRONG: dict[str, tuple[Callable[[], Account], str]] = {
    "lost": (lambda: judge(QUIET[:-1]), "0 ends"),
    "doubled": (lambda: judge([*QUIET, QUIET[-1]]), "2 ends"),
    "no result": (lambda: judge([each for each in QUIET if each != happened("notify")]), "no result"),
    "two results": (lambda: judge([*QUIET[:-2], happened("notify"), *QUIET[-2:]]), "no result or two"),
    "a reply less": (lambda: judge([each for each in QUIET if each != QUIET[11]]), "3 replies"),
    "another answer": (lambda: judge([*QUIET[:-2], replied(text="No."), QUIET[-1]]), "'No.'"),
    "invented": (lambda: judge(QUIET, answers={name_of(0): [1, 1, 1]}), "has not given it"),
    "safe never ran": (without("stock"), "stock (safe)"),
    "keyed never ran": (without("charge"), "charge (keyed)"),
    "never-tool never ran": (without("notify"), "notify (never)"),
    "another key": (lambda: judge(QUIET, [*EFFECTS, Effect("charge", 0, "another")]), "had 2 effects"),
    "ran twice": (lambda: judge(QUIET, [*EFFECTS, Effect("ship", 0)]), "had 2 effects"),
    "failed": (
        lambda: judge([happened("ship", "failed") if each == happened("ship") else each for each in QUIET]),
        "['failed']",
    ),
    "a stranger": (lambda: judge(QUIET, [*EFFECTS, Effect("ship", 7)]), "order 7"),
    "not resumed": (lambda: judge(QUIET, lives=2), "recorded as resumed: 0"),
    "not taken over": (
        lambda: account(0, {}, [], {}, [TAKEN, Life(runs=0, unfinished=1, seconds=0.1, refused={"r": "parked"})]),
        "did not go on with r: parked",
    ),
    "not asked for": (lambda: account(0, {"r": story_of([])}, [], {}, [TAKEN]), "nobody asked for it"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_noticed(name: str) -> None:
    wrong, word = WRONG[name]
    assert word in " ".join(wrong().disagreements)


def test_the_table_says_what_was_in_flight() -> None:
    table = dict(crash_rows(report_of(judge(killed(Replied, 3, asking=True), lives=2))))
    assert table["runs"] == "1 (1 in flight when their process was killed)"
    assert table["resumed"] == "1 of 1 in 0.50 s (1.0 s after the kill)"
    assert table["in flight"].startswith("1 model calls, asked again")


@pytest.mark.anyio
async def test_no_temporary_file_stays_when_a_demo_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with anyio.CancelScope() as scope:
        await demo_crash(runs=3, latency=Latency.parse("5s"), tell=lambda _: scope.cancel())
    assert scope.cancelled_caught
    assert [*tmp_path.iterdir()] == []
