"""``greenroom load`` as a user starts it: what it prints and writes, how it ends, and that an error is one line."""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from rich.console import Console

from greenroom import cli_load, cli_load_watch
from greenroom.cli import status_of
from greenroom.load.tester import BadReport, LoadReport, open_report, read_report, write_report
from greenroom.load.tester.doubts import doubts
from greenroom.load.tester.progress import Progress, line_of
from greenroom.load.tester.summary import rows

from .load_models import Model, virtual
from .test_demo import BACKENDS, children_of
from .wire import json_answer, serve

COMMAND = [sys.executable, "-P", "-W", "error", "-X", "dev", "-m", "greenroom", "load"]
QUICK = ["--latency", "5ms-20ms+1ms"]
#: An address that refuses connections at once.
NOWHERE = "http://127.0.0.1:9/v1"

FILE = '''
import anyio
from greenroom import Agent
from greenroom.load import Iteration, workload

async def stock(item: int) -> int:
    """How many there are."""
    return item + 1

agent = Agent("support", "openai:gpt-5-mini", tools=[stock])

@workload
async def support(it: Iteration) -> None:
    """A customer asks."""
    await it.run(agent, f"Item {it.random.randint(1, 9)}?")

@workload
async def careless(it: Iteration) -> None:
    await anyio.sleep(0.001)
    if it.number % 4 == 0:
        raise ValueError(f"no order {it.number}")
'''

STUBBORN = """
from pathlib import Path

import anyio
from greenroom.load import workload

@workload
async def stubborn(it):
    with anyio.CancelScope(shield=True):
        while not Path("released").exists():
            await anyio.sleep(0.05)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_load.py").write_text(FILE)
    (tmp_path / "nul.py").write_bytes(b"x = 1\0")
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(3)\n")
    return tmp_path


def environment() -> dict[str, str]:
    hidden = ("OPENAI_API_KEY", "GROQ_API_KEY", "PYTHONPATH", "FORCE_COLOR", "COLUMNS")
    return {name: value for name, value in os.environ.items() if name not in hidden}


def greenroom(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def complaints(errors: str) -> list[str]:
    """Lines on standard error that are not progress; asyncio's debug mode also says which step was slow."""
    return [line for line in errors.splitlines() if " in flight, " not in line and not line.startswith("Executing <")]


def wait_for(words: str, process: subprocess.Popen[str]) -> None:
    """Wait until it says this on standard error."""
    assert process.stderr is not None
    while words not in process.stderr.readline():
        assert process.poll() is None


def table_of(printed: str) -> dict[str, str]:
    lines = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in printed.splitlines() if "  " in line.strip()]
    return {line[0]: line[-1] for line in lines}


# -- the whole


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_test_is_printed_and_written_and_warns_of_nothing(backend: str, folder: Path) -> None:
    options = ["--count", "60", "--concurrency", "10", "--backend", backend, "--json", "a.json", "--html", "a.html"]
    done = greenroom(folder, *QUICK, *options, "--steps", "2", "--max-errors", "0%", "--max-p99", "1m")
    assert (complaints(done.stderr), done.returncode) == ([], 0)
    report = open_report(folder / "a.json")
    assert report.runs == {"arrived": 60, "completed": 60}
    assert report.server is not None
    assert report.requests == {"ok": 180}
    assert (report.server["requests"], report.server["ok"], report.server["tool_calls"]) == (180, 180, 120)
    assert report.server["runs_finished"] == 60
    assert (report.backend, report.workload, report.target, report.seed) == (backend, "tools", "simulated", 1)
    assert report.options == {
        "workload": "tools",
        "count": 60,
        "concurrency": 10,
        "steps": 2,
        "latency": "5ms-20ms+1ms",
        "seed": 1,
        "backend": backend,
        "json": "a.json",
        "html": "a.html",
        "max_errors": "0%",
        "max_p99": "1m",
    }
    table = table_of(done.stdout)
    assert table["runs"] == "60 arrived, 60 completed"
    assert table["requests"] == "180 ok; 120 tool calls"
    assert table["run"].startswith("p50 ")
    assert "late start" not in table
    assert "<!doctype html>" in (folder / "a.html").read_text().lower()


def test_json_on_standard_output_is_all_that_is_there(folder: Path) -> None:
    done = greenroom(folder, "stream", *QUICK, "--pieces", "5", "--count", "4", "--json", "-", "--rate", "100")
    assert (complaints(done.stderr), done.returncode) == ([], 0)
    (line,) = done.stdout.splitlines()
    report = read_report(line)
    assert (report.mode, report.rate, report.streamed, report.runs["completed"]) == ("open", 100.0, True, 4)


def test_a_workload_of_a_file_is_run_with_the_simulated_model(folder: Path) -> None:
    done = greenroom(folder, "my_load.py:support", *QUICK, "--count", "20", "--stream", "--faults", "0.1")
    assert done.returncode == 0
    assert complaints(done.stderr) == []
    assert table_of(done.stdout)["workload"] == "A customer asks."


def test_more_errors_than_may_be_are_status_1_and_show_an_example(folder: Path) -> None:
    done = greenroom(folder, "my_load.py:careless", "--count", "40", "--max-errors", "20%", "--max-p99", "1us")
    assert done.returncode == 1
    assert complaints(done.stderr)[0] == "greenroom: 25 % of the runs failed, more than --max-errors 20%"
    assert re.fullmatch(r"greenroom: 1 run in 100 took .* longer than --max-p99 1us", complaints(done.stderr)[1])
    assert table_of(done.stdout)["run error"] == "10 ValueError: no order 0"


@pytest.mark.skipif(os.name != "posix", reason="a signal is sent")
@pytest.mark.parametrize(("backend", "number"), [("asyncio", signal.SIGINT), ("trio", signal.SIGTERM)])
def test_a_signal_ends_the_test_and_the_report_is_written(backend: str, number: int, folder: Path) -> None:
    load = ["--concurrency", "5", "--duration", "10m", "--warm-up", "0s"]
    options = ["chat", "--latency", "100ms", *load, "--backend", backend, "--json", "a.json"]
    with subprocess.Popen(
        [*COMMAND, *options], cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(", p50 ", process)
        servers = children_of(process.pid)
        began = time.monotonic()
        process.send_signal(number)
        printed, errors = process.communicate(timeout=30)
        took = time.monotonic() - began
    assert process.returncode == 128 + number
    assert complaints(errors) == [
        "greenroom: ending the test; once more to end at once",
        "greenroom: interrupted; the report is of what was measured until then",
    ]
    report = open_report(folder / "a.json")
    assert report.ended_by == "interrupted"
    assert 0 < report.runs["completed"] < report.runs["arrived"]
    assert sum(report.runs.values()) == 2 * report.runs["arrived"]
    assert "the test was interrupted" in printed
    assert took < 10.0  # usually a fraction of a second; the machine may be busy
    assert servers or not Path("/proc").exists()
    assert [pid for pid in servers if Path(f"/proc/{pid}").exists()] == []


@pytest.mark.skipif(os.name != "posix", reason="a signal is sent")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_second_signal_ends_everything_at_once(backend: str, folder: Path) -> None:
    """A workload that will not be cancelled holds up the first one."""
    (folder / "stubborn.py").write_text(STUBBORN)
    options = ["stubborn.py", "--duration", "10m", "--concurrency", "2", "--backend", backend, "--json", "a.json"]
    with subprocess.Popen(
        [*COMMAND, *options], cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(" in flight, ", process)
        process.send_signal(signal.SIGINT)
        wait_for("once more to end at once", process)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)  # until it has been heard; nothing can be seen of that from outside
        (folder / "released").touch()
        printed, errors = process.communicate(timeout=30)
    assert (process.returncode, printed) == (130, "")
    assert complaints(errors) == ["greenroom: interrupted"]
    assert not (folder / "a.json").exists()


@pytest.mark.parametrize("closed", ["1>&-", "1>&- --json -"])
def test_a_closed_standard_output_costs_no_file(closed: str, folder: Path) -> None:
    command = f"exec {shlex.join(COMMAND)} chat --count 20 --html a.html {' '.join(QUICK)} {closed}"
    result = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True, timeout=60
    )
    assert (result.returncode, complaints(result.stderr)) == (0, [])
    assert (folder / "a.html").exists()


def test_a_reader_that_goes_away_costs_no_file(folder: Path) -> None:
    command = [*COMMAND, "chat", "--count", "20", *QUICK, "--json", "-", "--html", "a.html"]
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        command, cwd=folder, env=environment(), stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(writing)
    assert (process.returncode, complaints(process.stderr)) == (1, [])
    assert (folder / "a.html").exists()


def test_progress_that_nobody_reads_any_more_costs_no_test() -> None:
    shown: list[float] = []

    def gone(stand: Progress) -> None:
        shown.append(stand.at)
        raise BrokenPipeError

    watch = cli_load_watch._seldom(1.0, gone, at_once=True)
    for at in (0.0, 0.5, 1.0):
        watch(standing(at))
    assert shown == [0.0, 1.0]


# -- errors

#: Arguments, exit status, and words that the one line must have.
ERRORS = {
    "unknown workload": (["nope"], 2, ["there is no workload 'nope'", "chat, tools, fanout, context, stream"]),
    "missing file": (["nope.py"], 2, ["nope.py: there is no such file"]),
    "several workloads": (["my_load.py"], 2, ["several workloads", "my_load.py:support"]),
    "no such workload": (["my_load.py:suport"], 2, ["did you mean support?"]),
    "option of another": (["chat", "--steps", "3"], 2, ["workload chat takes no --steps", "option of tools"]),
    "option with a file": (["my_load.py:support", "--steps", "3"], 2, ["--steps is an option of a built-in"]),
    "two kinds of load": (["--rate", "5", "--concurrency", "3"], 2, ["--concurrency and --rate", "one of them"]),
    "no time": (["--duration", "soon"], 2, ["--duration: 'soon' is not a time", "1m30s"]),
    "no rate": (["--rate", "0"], 2, ["--rate must be above 0 runs per second"]),
    "no stages": (["--stages", "10s"], 2, ["greenroom: --stages: '10s'", "'10s' has no colon", "10s:50,30s:200"]),
    "stages and more": (["--stages", "10s:5", "--duration", "3s"], 2, ["--stages say", "leave out --duration"]),
    "closed loop": (["--max-in-flight", "3"], 2, ["--max-in-flight is for an open loop"]),
    "number too small": (["--concurrency", "0"], 2, ["--concurrency", ">= 1"]),
    "latency": (["--latency", "soon"], 2, ["--latency", "'soon'", "50ms-200ms+5ms"]),
    "latency of an endpoint": (["--model", "openai:x", "--latency", "1s"], 2, ["--latency is of the simulated model"]),
    "faults of an endpoint": (["--model", "openai:x", "--faults", "0"], 2, ["--faults is of the simulated model"]),
    "address alone": (["--base-url", NOWHERE], 2, ["--model"]),
    "key alone": (["--key-variable", "KEY"], 2, ["--key-variable is for an endpoint"]),
    "unknown model": (["--model", "gpt5-mini"], 2, ["unknown model 'gpt5-mini'", "vendor:model"]),
    "bad address": (["--base-url", "localhost:1", "--model", "x"], 2, ["'localhost:1'"]),
    "unreachable": (["--base-url", NOWHERE, "--model", "x"], 1, ["does not answer", "no connection to 127.0.0.1:9"]),
    "missing key": (["--model", "groq:x"], 1, ["does not answer", "set GROQ_API_KEY"]),
    "no place": (["--json", "no/a.json"], 2, ["--json no/a.json: there is no folder"]),
    "no name": (["--json", "--html", "a.html"], 2, ["--json takes the name of a file, not --html"]),
    "a folder": (["--html", "."], 2, ["--html .: is a folder"]),
    "no name at all": (["--html", ""], 2, ["--html takes the name of a file, not an empty text"]),
    "one place for two": (["--json", "a", "--html", "./a"], 2, ["--json and --html both name ./a", "overwrite"]),
    "too many steps": (["tools", "--steps", "100000000"], 2, ["--steps must be at most 1,000"]),
    "too many tokens": (["context", "--tokens", "10000001"], 2, ["--tokens must be at most 10,000,000"]),
    "no source": (["nul.py"], 2, ["nul.py: ", "null bytes"]),
    "a file that exits": (["exits.py"], 2, ["exits.py cannot be imported: SystemExit: 3 (", "exits.py:2)"]),
    "no share": (["--max-errors", "few"], 2, ["--max-errors", "'few'", "10%"]),
    "no limit": (["--max-p99", "soon"], 2, ["--max-p99: 'soon' is not a time"]),
    "too many": (["--concurrency", "100000000"], 1, ["descriptors", "lower --concurrency"]),
    "unknown option": (["--conurrency", "3"], 2, ["--conurrency"]),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_one_clear_line(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, status, words = ERRORS[name]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for variable in ("OPENAI_API_KEY", "GROQ_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    assert status_of(["load", *arguments]) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("greenroom: ")
    assert [each for each in words if each not in line] == []


def test_an_absent_uvloop_is_one_line_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli_load, "find_spec", lambda name: None)
    assert status_of(["load", "--backend", "uvloop"]) == 2
    assert capsys.readouterr().err == (
        "greenroom: --backend uvloop: uvloop is not installed; pip install 'greenroom[uvloop]'\n"
    )


REFUSALS = {
    "wrong key": (401, "wrong key sk-very-secret", ["KEY_OF_THE_TEST", "401"]),
    "no such model": (404, "the model `x` does not exist", ["404", "the model `x` does not exist"]),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", REFUSALS)
async def test_what_an_endpoint_refuses_is_told_before_the_load(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, message, words = REFUSALS[name]
    monkeypatch.setenv("KEY_OF_THE_TEST", "sk-very-secret")
    answer = json_answer({"error": {"message": message}}, status=status)
    async with serve(answer) as server:
        asked = ["load", "--base-url", server.url, "--model", "x", "--key-variable", "KEY_OF_THE_TEST"]
        assert await anyio.to_thread.run_sync(status_of, asked) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert [each for each in words if each not in line] == []
    assert "sk-very-secret" not in line


# -- help and list


def test_help_is_grouped_and_every_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(["load", "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Usage: greenroom load")
    places = [printed.index(f"─ {title}") for title in ("Load", "Workload", "Endpoint", "Simulated model", "Report")]
    assert places == sorted(places)
    for name in cli_load.Wanted.__struct_fields__[1:]:
        assert re.search(rf"--{name.replace('_', '-')} +\S+", printed), name
    assert len(printed.splitlines()) <= 90


def test_the_workloads_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(["load", "list"]) == 0
    table = table_of(capsys.readouterr().out)
    assert list(table)[-5:] == ["chat", "tools", "fanout", "context", "stream"]
    assert table["tools"].endswith("(--steps)")


# -- the report as text


@pytest.fixture
def report() -> LoadReport:
    return virtual(Model(0.5), concurrency=3, count=30)


def test_a_report_is_read_as_it_was_written(report: LoadReport, tmp_path: Path) -> None:
    data = write_report(report)
    assert read_report(data) == read_report(data.decode()) == report
    (tmp_path / "a.json").write_bytes(data)
    assert open_report(tmp_path / "a.json") == report


def damaged(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def damage(data: bytes) -> bytes:
        decoded = msgspec.json.decode(data)
        change(decoded)
        return msgspec.json.encode(decoded)

    return damage


DAMAGE = {
    "empty": (lambda data: b"", "no load report"),
    "cut": (lambda data: data[: len(data) // 2], "no load report"),
    "not text": (lambda data: b"\xff\xfe\x00", "no load report"),
    "other JSON": (lambda data: b'{"format": 1}', "no load report"),
    "a list": (lambda data: b"[]", "no load report"),
    "newer": (damaged(lambda report: report.update(format=2)), "format 2, not 1: it is of a newer greenroom"),
    "older": (damaged(lambda report: report.update(format=0)), "format 0, not 1: test again"),
    "a wrong type": (damaged(lambda report: report.update(seconds="many")), "a damaged load report: Expected `float`"),
    "a lost field": (damaged(lambda report: report.pop("mode")), "a damaged load report"),
    "a bad bucket": (damaged(lambda report: report["run_latency"].update(buckets=[[1]])), "a damaged load report"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_no_report_is_one_line_that_names_the_file(name: str, report: LoadReport, tmp_path: Path) -> None:
    damage, words = DAMAGE[name]
    path = tmp_path / "a.json"
    path.write_bytes(damage(write_report(report)))
    with pytest.raises(BadReport) as caught:
        open_report(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadReport, match=r"nope\.json: No such file"):
        open_report(tmp_path / "nope.json")


def test_a_field_of_a_later_version_is_passed_over(report: LoadReport) -> None:
    data = damaged(lambda decoded: decoded.update(weather="fine"))(write_report(report))
    assert read_report(data) == report


def test_the_table_shows_what_there_is_and_no_more(report: LoadReport) -> None:
    table = dict(rows(report))
    assert table["runs"] == "30 arrived, 30 completed"
    assert table["endpoint"] == "slow at test; on asyncio"
    assert table["run"].split() == ["p50", "500", "ms", "p90", "500", "ms", "p99", "500", "ms", "max", "500", "ms"]
    assert not {"first token", "per output token", "warning", "run error", "simulated server"} & set(table)
    late = msgspec.structs.replace(report, warnings=("one", "two"), tool_calls=3, retries=2)
    assert [value for label, value in rows(late) if label == "warning"] == ["one", "two"]
    assert dict(rows(late))["requests"] == "30 ok; 2 retries; 3 tool calls"


def standing(at: float) -> Progress:
    return Progress(
        at=at,
        ends=11.0,
        count=None,
        arrived=10,
        phase="steady",
        ended=1_234,
        failed=0,
        in_flight=100,
        waiting=0,
        requests=5_000,
        retries=0,
        runs_per_second=98.25,
        p50=None,
        p99=None,
        first_token=None,
    )


def test_progress_is_one_line_that_leaves_out_what_is_nothing() -> None:
    stand = standing(2.0)
    assert line_of(stand) == "2.00 s of 11.0 s, steady: 100 in flight, 1,234 ended, 98.2/s"
    more = msgspec.structs.replace(
        stand, ends=float("inf"), count=2_000, failed=3, waiting=7, retries=5, p50=0.25, p99=1.5, first_token=0.1
    )
    assert line_of(more) == (
        "2.00 s, steady: 100 in flight, 7 waiting, 1,234 of 2,000 ended, 98.2/s, 3 failed, 5 retries, "
        "p50 250 ms, p99 1.50 s, first token 100 ms"
    )


# -- what makes figures doubtful


def doubtful(report: LoadReport, waited: bool = False, short: bool = False, lag: float = 0.0, **changes: Any) -> str:
    changed = msgspec.structs.replace(report, **changes)
    return " | ".join(doubts(changed, waited=waited, short_of_connections=short, lag=lag))


def test_figures_in_order_are_not_doubted(report: LoadReport) -> None:
    assert doubtful(report) == ""


def test_each_doubt_has_a_line(report: LoadReport) -> None:
    spread = report.run_latency
    assert spread is not None
    late = msgspec.structs.replace(spread, p99=0.02)
    assert "the tester used 97 % of its core" in doubtful(report, cpu_share=0.97)
    assert "the tester was 15 ms behind on average" in doubtful(report, lag=0.015)
    assert "the simulated server used 95 % of its core" in doubtful(report, server={"cpu_share": 0.95})
    assert "began more than 20 ms late" in doubtful(report, start_delay=late)
    assert "as many as may be" in doubtful(report, waited=True, start_delay=late, max_in_flight=5)
    assert "waited for a free connection" in doubtful(report, short=True)
    assert "only 19 runs completed" in doubtful(report, runs={"completed": 19})
    assert "only 1 run completed" in doubtful(report, runs={"completed": 1})
    assert "no run completed: percentiles" in doubtful(report, runs={})
    assert "shorter than two runs" in doubtful(report, window=0.9)
    assert "2 % of the runs failed" in doubtful(report, runs={"completed": 98, "failed": 2})
    assert doubtful(report, runs={"completed": 99, "failed": 1}) == ""
    assert "3 runs had not ended" in doubtful(report, runs={"completed": 90, "cut": 1, "never_begun": 2})
    assert "interrupted" in doubtful(report, ended_by="interrupted")


# -- watching on a terminal


def test_a_terminal_gets_a_bar_and_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(
        cli_load_watch,
        "Console",
        lambda stderr: Console(file=written, force_terminal=True, width=200, legacy_windows=False),
    )
    monkeypatch.setattr(cli_load_watch, "LIVE_INTERVAL", 0.0)
    with cli_load_watch.watching() as watch:
        virtual(Model(0.5), concurrency=3, duration=3, watch=watch)
    assert "100%" in written.getvalue() or "9" in written.getvalue()
    assert "3 in flight" in written.getvalue()
