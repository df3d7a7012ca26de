"""``greenroom runs``: what it prints, what it exits with, and what it leaves alone. Mostly in processes of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from greenroom import Agent, Archive, SqliteJournal, System, tool
from greenroom.cli import status_of
from greenroom.cli_run import Misuse
from greenroom.cli_runs import seconds_in
from greenroom.journal import Began, Ended, Happened, Held, Intended, Parked, Record, Replied, Suspended, encode
from greenroom.providers import ModelReply, Scripted, ToolCall, ToolResult, Usage, assistant, call, user

from .test_cli import COMMAND, environment
from .test_views import spoil

AGENTS = '''
import sys
import anyio
from greenroom import Agent, tool
from greenroom.agents.stage import open_system
from greenroom.providers import Scripted, call

@tool(replay="keyed")
async def pay(to: str) -> str:
    """Pay somebody."""
    return f"paid {to}"

@tool
async def hang() -> str:
    """Take very long."""
    await anyio.sleep(60)
    return "done"

@tool
async def await_drain() -> str:
    """Wait until the process is to end."""
    while open_system().stage.draining is None:
        await anyio.sleep(0.01)
    return "drained"

@tool
async def ignore_drain() -> str:
    """Take no notice of it, but say so."""
    await await_drain.function()
    print("draining", file=sys.stderr, flush=True)
    await anyio.sleep(60)

def replies(*replies):
    """What is left to say, judged by what was said."""
    def answer(request):
        return replies[sum(message.role == "assistant" for message in request.messages)]
    return Scripted(*[answer] * 10)

clerk = Agent("clerk", replies([call("pay", to="Ann")], "Ann has her money."), tools=[pay])
slow = Agent("slow", replies([call("hang")], "It took long."), tools=[hang])
heedful = Agent("heedful", replies([call("await_drain")], "It is over."), tools=[await_drain])
heedless = Agent("heedless", replies([call("ignore_drain")], "It is over."), tools=[ignore_drain])
failing = Agent("failing", replies())
number = 3
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with a module of agents; the working directory."""
    (tmp_path / "staff.py").write_text(AGENTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    return tmp_path


@pytest.fixture(autouse=True)
def forgotten_modules() -> Iterator[None]:
    yield
    sys.modules.pop("staff", None)


def began(run_id: str, agent: str = "clerk", at: float = 1_000_000.0, **facts: Any) -> Began:
    return Began(run_id, agent, [], [user(f"Question of {run_id}")], at, **facts)


def replied(*content: Any, at: float = 1_000_001.0, tokens: int | None = 100) -> Replied:
    texts = [part for part in content if isinstance(part, str)]
    calls = [part for part in content if isinstance(part, ToolCall)]
    return Replied(ModelReply(assistant(*texts, tool_calls=calls), usage=Usage(total_tokens=tokens)), at, 0.25)


PAY = ToolCall("c", "pay", {"to": "Ann"})
#: Runs by name; the last record of the last entry says how each stands.
STORIES: dict[str, list[list[Record]]] = {
    "run-aa-1": [[began("run-aa-1")], [replied("Fine."), Ended("completed", "answered", 1_000_002.5)]],
    "run-aa-2": [[began("run-aa-2", conversation_id="talk")], [replied(PAY), Intended("c", 1_000_001.0)]],
    "run-aa-2.1.0.1": [[began("run-aa-2.1.0.1", "helper", parent_id="run-aa-2", call_id="c")]],
    "run-bb-1": [[began("run-bb-1", "slow")], [Suspended(1_000_002.0)]],
    "run-bb-2": [[began("run-bb-2")], [Parked("its process died 3 times in a row", 1_000_002.0)]],
    "other": [[began("other", "failing")], [Ended("failed", "error", 1_000_003.0, "BadResponse: no\nanswer")]],
}


async def write(path: Path, stories: dict[str, list[list[Record]]], clock: Callable[[], float] = lambda: 1e6) -> None:
    async with SqliteJournal(path, clock=clock) as journal:
        for run_id, story in stories.items():
            beginning = story[0][0]
            assert isinstance(beginning, Began)
            facts = {"parent_id": beginning.parent_id, "conversation_id": beginning.conversation_id}
            claim = journal.create(run_id, **facts)
            for records in story:
                journal.append(claim, encode(*records), final=isinstance(records[-1], Ended))
            journal.release(claim)


@pytest.fixture
def file(folder: Path) -> str:
    """A journal with the stories, whose process has ended."""
    anyio.run(write, folder / "runs.db", STORIES)
    return "runs.db"


Said = tuple[int, list[str], list[str]]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> Said:
    """Exit status, lines of output and of errors."""
    status = status_of(["runs", *arguments])
    printed = capsys.readouterr()
    return status, printed.out.splitlines(), printed.err.splitlines()


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "runs", *arguments],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


# -- list


def test_the_unfinished_runs_are_listed_newest_first(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = said(capsys, "list", file)
    assert out == [
        "ID        AGENT  STATUS       TURNS  TOKENS  STARTED           TOOK",
        "run-bb-2  clerk  parked           0       -  1970-01-12 13:46  0.0s",
        "run-bb-1  slow   suspended        0       -  1970-01-12 13:46  0.0s",
        "run-aa-2  clerk  interrupted      1     100  1970-01-12 13:46  0.0s",
    ]
    assert (status, err) == (0, ["2 more not shown: --all shows them"])


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--all"], ["other", "run-bb-2", "run-bb-1", "run-aa-2", "run-aa-1"]),
        (["--all", "--limit", "2"], ["other", "run-bb-2"]),
        (["--status", "failed", "parked"], ["other", "run-bb-2"]),
        (["--status", "interrupted", "--subagents"], ["run-aa-2.1.0.1", "run-aa-2"]),
        (["--conversation", "talk"], ["run-aa-2"]),
        (["--conversation", "none"], []),
    ],
)
def test_the_list_can_be_narrowed(
    options: list[str], ids: list[str], file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = said(capsys, "list", file, *options)
    assert (status, [line.split()[0] for line in out[1:]]) == (0, ids)
    status, out, err = said(capsys, "list", file, *options, "--json")
    assert ([row["run_id"] for row in json.loads("\n".join(out))], err) == (ids, [])


def test_a_list_in_json_has_what_is_known(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(capsys, "list", file, "--status", "interrupted", "--json")
    (row,) = json.loads("\n".join(out))
    assert (row["agent"], row["turns"], row["tokens"], row["cost"]) == ("clerk", 1, 100, 0.25)
    assert (row["conversation_id"], row["parent_id"], row["process"]) == ("talk", None, None)
    assert row["started_at"].startswith("1970-01-12T13:46:40")


def test_an_empty_journal_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    anyio.run(write, folder / "runs.db", {})
    assert said(capsys, "list", "runs.db") == (0, ["no runs"], [])


def test_long_names_are_whole_for_a_program(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "r" * 90
    anyio.run(write, folder / "runs.db", {name: [[began(name, "a" * 50)]]})
    _, out, _ = said(capsys, "list", "runs.db")
    assert out[1].split()[:2] == [name, "a" * 50]


def test_what_a_model_says_moves_no_cursor(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither in the tree nor in the conversation."""
    evil = "\x1b[2Jgone\r\x07\x9b1m"
    anyio.run(write, folder / "runs.db", {evil: [[began(evil)], [replied(evil, ToolCall("c", evil, {evil: evil}))]]})
    for arguments in (("list", "runs.db"), ("show", "runs.db", evil), ("show", "runs.db", evil, "--messages")):
        _, out, _ = said(capsys, *arguments)
        assert any("gone" in line for line in out)
        assert "".join(out).isprintable()
    assert all(each.isprintable() for line in said(capsys, "stop", "runs.db", "x" + evil)[2] for each in line)


# -- show


def test_a_run_is_shown(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = said(capsys, "show", file, "run-aa-2")
    assert (status, err) == (0, [])
    assert out == [
        "run           run-aa-2",
        "agent         clerk",
        "status        interrupted: its process has ended",
        "started       1970-01-12 13:46:40",
        "last entry    1970-01-12 13:46:40",
        "turns         1",
        "tokens        100",
        "cost          $0.2500",
        "conversation  talk",
        out[9],
        "",
        "run run-aa-2 of agent clerk, unfinished, 100 tokens, $0.2500",
        "├─ user: Question of run-aa-2",
        "└─ turn 1, 100 tokens, $0.2500, 1.0 s",
        "   └─ pay(to='Ann')",
        "      └─ run run-aa-2.1.0.1 of agent helper, unfinished",
        "         └─ user: Question of run-aa-2.1.0.1",
    ]
    assert re.fullmatch(r"journal       2 entries, \d+ bytes", out[9])


def test_a_run_is_shown_by_the_beginning_of_its_id(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its subagents begin so too, and do not count where it is meant."""
    assert said(capsys, "show", file, "run-aa-2")[1][0] == "run           run-aa-2"
    assert said(capsys, "show", file, "run-aa-2.")[1][0] == "run           run-aa-2.1.0.1"
    assert said(capsys, "show", file, "oth")[1][3] == "error         BadResponse: no�answer"


def test_a_conversation_is_shown_in_full(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(capsys, "show", file, "run-aa-2", "--messages")
    assert out == ["user:", "  Question of run-aa-2", "assistant:", '  calls pay {"to":"Ann"}']
    _, out, _ = said(capsys, "show", file, "run-aa-1", "--messages", "--json")
    assert [message["role"] for message in json.loads("\n".join(out))] == ["user", "assistant"]


def test_a_run_in_json_has_its_story_and_its_trace(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(capsys, "show", file, "run-aa-2", "--json")
    story = json.loads("\n".join(out))
    assert (story["status"], story["usage"]["total_tokens"], story["conversation_id"]) == ("interrupted", 100, "talk")
    assert [child["run_id"] for child in story["children"]] == ["run-aa-2.1.0.1"]
    assert [step["name"] for step in story["trace"]["children"]] == ["user", "turn 1"]


# -- errors


#: Arguments, exit status, and words that the one line must have.
ERRORS: dict[str, tuple[list[str], int, list[str]]] = {
    "missing file": (["list", "nothing.db"], 1, ["there is no file", "nothing.db"]),
    "folder": (["list", "."], 1, ["is a folder"]),
    "foreign file": (["show", "staff.py", "x"], 1, ["staff.py", "not a journal"]),
    "unknown id": (["show", "runs.db", "run-aa-9"], 2, ["no run 'run-aa-9'", "did you mean run-aa-2"]),
    "id like none": (["tail", "runs.db", "?"], 2, ["no run '?'", "runs list --all"]),
    "no id": (["show", "runs.db", ""], 2, ["no run ''"]),
    "ambiguous id": (["stop", "runs.db", "run-"], 2, ["several runs", "run-aa-1, run-aa-2, run-bb-1 and 1 more"]),
    "option mistyped": (["list", "runs.db", "--jsom"], 2, ["--jsom"]),
    "unknown status": (["list", "runs.db", "--status", "done"], 2, ["--status", '"done"']),
    "limit too small": (["list", "runs.db", "--limit", "0"], 2, ["--limit", ">= 1"]),
    "unknown command": (["lits"], 2, ['"lits"']),
    "no file": (["list"], 2, ["FILE"]),
    "stop of a subagent": (["stop", "runs.db", "run-aa-2.1"], 2, ["is a subagent of run-aa-2: stop that"]),
    "stop of the finished": (["stop", "runs.db", "run-aa-1"], 2, ["has ended: completed (answered)"]),
    "stop without a reason": (["stop", "runs.db", "run-aa-2", "--reason", ""], 2, ["--reason: must not be empty"]),
    "resume of nothing": (["resume", "runs.db", "--agents", "staff:clerk"], 2, ["which runs?"]),
    "resume without agents": (["resume", "runs.db", "run-aa-2"], 2, ["--agents"]),
    "resume of the finished": (["resume", "runs.db", "other", "--agents", "staff:clerk"], 2, ["has ended: failed"]),
    "no such module": (["resume", "runs.db", "run-aa-2", "--agents", "stuff:clerk"], 2, ["there is no module 'stuff'"]),
    "no such agent": (["resume", "runs.db", "run-aa-2", "--agents", "staff:clark"], 2, ["did you mean clerk?"]),
    "no agent": (["resume", "runs.db", "run-aa-2", "--agents", "staff:number"], 2, ["of type int, not an Agent"]),
    "another agent": (
        ["resume", "runs.db", "run-bb-1", "--agents", "staff:clerk"],
        2,
        ["is of agent 'slow'", "only clerk"],
    ),
    "no length of time": (["prune", "runs.db", "--older-than", "soon"], 2, ["--older-than: 'soon'", "30d"]),
    "no age": (["prune", "runs.db"], 2, ["--older-than"]),
    "prune of nothing": (["prune", "nothing.db", "--older-than", "1d"], 1, ["there is no file"]),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_one_clear_line(name: str, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, status, words = ERRORS[name]
    before = sorted(os.listdir())
    printed = said(capsys, *arguments)
    (line,) = printed[2]
    assert (printed[0], printed[1]) == (status, [])
    assert line.startswith("greenroom: ")
    assert [each for each in words if each not in line] == []
    assert set(os.listdir()) - set(before) <= {"runs.db-wal", "runs.db-shm", "__pycache__"}


@pytest.mark.parametrize("name", ["missing file", "no such module", "option mistyped"])
def test_a_process_that_fails_says_one_line_and_no_traceback(name: str, file: str, folder: Path) -> None:
    arguments, status, words = ERRORS[name]
    done = command(*arguments, folder=folder)
    assert (done.returncode, done.stdout) == (status, "")
    (line,) = done.stderr.splitlines()
    assert [each for each in words if each not in line] == []


def test_a_newer_journal_is_refused_with_the_remedy(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Scenario 82: of the file, and of one run in it."""
    anyio.run(write, Path(file), {"new": [[Began("new", "a", [], [], format=99)]]})
    status, out, err = said(capsys, "list", file)
    assert (status, len(out)) == (1, 5)
    assert [line for line in out if "damaged" in line and line.startswith("new ")] != []
    assert "upgrade greenroom" in err[-1]
    status, out, err = said(capsys, "show", file, "new")
    assert (status, out) == (1, [])
    assert "upgrade greenroom" in err[0]


def test_a_damaged_run_hides_no_other(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Scenario 76: it is listed, named on standard error, and the exit status says so."""
    spoil(Path(file), "run-aa-2")
    status, out, err = said(capsys, "list", file)
    assert (status, [line.split()[2] for line in out[1:]]) == (1, ["parked", "suspended", "damaged"])
    assert [line for line in err if "run 'run-aa-2', entry 0 is damaged" in line] != []
    assert said(capsys, "list", file, "--status", "damaged")[1][1].split()[0] == "run-aa-2"
    for verb in ("show", "tail", "stop"):
        status, out, err = said(capsys, verb, file, "run-aa-2")
        assert (status, out) == (1, [])
        assert "run 'run-aa-2', entry 0 is damaged" in err[0]
    assert said(capsys, "show", file, "run-aa-1")[0] == 0


def test_a_damaged_line_in_the_list_of_runs_refuses_no_other(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Scenario 76: neither a stop nor a resumption of another run."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("UPDATE runs SET size = 1 WHERE id = 'run-bb-1'")
    assert said(capsys, "stop", file, "run-aa-2") == (0, ["run-aa-2 stopped, and 1 subagent of it"], [])
    status, out, _ = said(capsys, "resume", file, "run-bb-2", "--agents", "staff:clerk")
    assert (status, out) == (1, ["Ann has her money."])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("arguments", [["list"], ["show", "run-aa-2"], ["tail", "run-aa-1"], ["--help"]])
def test_output_that_cannot_be_written_is_one_line(arguments: list[str], file: str, folder: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "runs", *arguments[:1], *([file] if arguments != ["--help"] else []), *arguments[1:]],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    words = "greenroom: the output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, words)


@pytest.mark.parametrize("arguments", [[], ["list"], ["show"], ["tail"], ["resume"], ["stop"], ["prune"]])
def test_help_fits_a_screen(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = said(capsys, *arguments, "--help")
    assert (status, err) == (0, [])
    assert 5 < len(out) <= 30
    assert max(map(len, out)) <= 80
    assert out[0].startswith(" ".join(["Usage: greenroom runs", *arguments]))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("1.5h", 5400), ("30d", 2_592_000), ("2w", 1_209_600), ("0d", 0)]
)
def test_a_length_of_time(text: str, seconds: float) -> None:
    assert seconds_in(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1y", "1d2h", "infd", "9" * 400 + "d"])
def test_no_length_of_time(text: str) -> None:
    with pytest.raises(Misuse, match="--older-than"):
        seconds_in(text)


# -- stop


def test_a_run_that_nobody_has_is_stopped(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "stop", file, "run-aa-2", "--reason", "too dear") == (
        0,
        ["run-aa-2 stopped, and 1 subagent of it"],
        [],
    )
    _, out, _ = said(capsys, "show", file, "run-aa-2", "--messages")
    assert out[-1].startswith("  pay (outcome unknown): outcome unknown: the run crashed")
    assert said(capsys, "show", file, "run-aa-2")[1][2] == "status        stopped (too dear)"
    assert said(capsys, "show", file, "run-aa-2.1.0.1")[1][2] == "status        stopped (abandoned)"


#: A process that has a run at work until it is killed, or told that the run is not its own any more.
OWNER = """
import anyio, sys
sys.path.insert(0, ".")
from greenroom import Fenced, System
from staff import slow, clerk, tool
import staff

async def main():
    async with System(journal="runs.db") as system:
        run = await system.start(slow, "Go", run_id="owned")
        async for event in run:
            if type(event).__name__ == "ToolStarted":
                print("at work", flush=True)
                break
        await run.result()

anyio.run(main)
"""


@contextmanager
def owner(folder: Path) -> Iterator[subprocess.Popen[str]]:
    (folder / "owner.py").write_text(OWNER)
    process = subprocess.Popen(
        [sys.executable, "owner.py"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "at work\n"
            yield process
        finally:
            process.kill()
            process.communicate()


def test_a_run_of_a_live_process_is_left_to_it_unless_forced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It can be listed and shown while it is at work; its process is fenced off by a stop with --force."""
    with owner(folder) as process:
        at_work = f"process {process.pid} is at work on run owned"
        assert said(capsys, "list", "runs.db")[1][1].split()[:3] == ["owned", "slow", "running"]
        assert said(capsys, "show", "runs.db", "owned")[1][2] == f"status        running in process {process.pid}"
        (error,) = refused(said(capsys, "stop", "runs.db", "owned"), 1)
        assert at_work in error
        assert "--force" in error
        (error,) = refused(said(capsys, "resume", "runs.db", "owned", "--agents", "staff:slow"), 2)
        assert at_work in error
        assert said(capsys, "stop", "runs.db", "owned", "--force") == (0, ["owned stopped"], [])
        assert process.poll() is None
    assert said(capsys, "list", "runs.db", "--all")[1][1].split()[2] == "stopped"


def refused(printed: Said, status: int) -> list[str]:
    """The lines of errors of a command that did nothing."""
    assert printed[:2] == (status, [])
    return printed[2]


# -- resume


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_runs_whose_process_died_go_on(
    backend: str, file: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also parked ones; what is noted stands on standard error, the answer alone on standard output."""
    done = command("resume", file, "run-aa-2", "--agents", "staff:clerk", "--backend", backend, folder=folder)
    assert (done.returncode, done.stdout) == (0, "Ann has her money.\n"), done.stderr
    assert [line.partition(",")[0] for line in done.stderr.splitlines()] == ["goes on", "pay(to='Ann')"]
    agents = ["--agents", "staff:clerk", "staff:slow", "--backend", backend]
    assert said(capsys, "resume", file, "run-bb-2", "run-bb-2", *agents)[:2] == (0, ["Ann has her money."])
    assert [line.split()[0] for line in said(capsys, "list", file)[1][1:]] == ["run-bb-1"]


def test_several_runs_are_told_apart_and_a_failure_shows_in_the_status(
    file: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stories: dict[str, list[list[Record]]] = {"bad": [[began("bad", "failing")]]}
    anyio.run(write, folder / "runs.db", stories)
    agents = ["--agents", "staff:clerk", "staff:failing"]
    status, out, err = said(capsys, "resume", file, "run-aa-2", "bad", *agents)
    assert (status, out[:2]) == (1, ["run-aa-2: completed (answered)", "Ann has her money."])
    assert "run-aa-2: pay(to='Ann')" in err
    assert [line for line in err if line.startswith("greenroom: run bad: ")] != []


PAUSED: dict[str, list[list[Record]]] = {
    "held": [[began("held")], [Held(True, 1_000_001.0)], [Suspended(1_000_002.0)]],
    "died": [[began("died")], [Held(True, 1_000_001.0)]],
    "let-go": [[began("let-go")], [Held(True, 1_000_001.0)], [Held(False, 1_000_002.0)]],
}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_run_that_was_paused_says_so_and_goes_on(
    backend: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    anyio.run(write, folder / "runs.db", PAUSED)
    listed = [line.split()[:3] for line in said(capsys, "list", "runs.db")[1][1:]]
    assert listed == [
        ["let-go", "clerk", "interrupted"],
        ["died", "clerk", "paused"],
        ["held", "clerk", "paused"],
    ]
    assert said(capsys, "show", "runs.db", "held")[1][2].split()[:2] == ["status", "paused"]
    assert len(said(capsys, "list", "runs.db", "--status", "paused")[1]) == 3
    done = command(
        *("resume", "runs.db", "held", "died", "--agents", "staff:clerk", "--backend", backend), folder=folder
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "held: completed (answered)",
        "Ann has her money.",
        "died: completed (answered)",
        "Ann has her money.",
    ]


@contextmanager
def resuming(folder: Path, run_id: str, agent: str, backend: str = "asyncio") -> Iterator[subprocess.Popen[str]]:
    """A process that resumes a run of an agent, and has begun with its tool."""
    anyio.run(write, folder / "runs.db", {run_id: [[began(run_id, agent)]]})
    process = subprocess.Popen(
        [*COMMAND, "runs", "resume", "runs.db", run_id, "--agents", f"staff:{agent}", "--backend", backend],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == "goes on\n"
            assert process.stderr.readline().endswith("()\n")
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c_lets_a_resumed_run_finish_its_step(
    backend: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scenario 42: then it can be resumed again, from there."""
    with resuming(folder, "r", "heedful", backend) as process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "greenroom: interrupted\n")
    assert said(capsys, "list", "runs.db")[1][1].split()[2] == "suspended"
    assert said(capsys, "show", "runs.db", "r", "--messages")[1][-2:] == ["tool:", "  await_drain: drained"]
    again = said(capsys, "resume", "runs.db", "r", "--agents", "staff:heedful", "--backend", backend)
    assert again == (0, ["It is over."], ["goes on"])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_second_ctrl_c_ends_a_resumption_at_once(
    backend: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scenario 43: the run can still be resumed."""
    with resuming(folder, "r", "heedless", backend) as process:
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.readline() == "draining\n"  # two signals at once would be one
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "Traceback" not in err
    assert said(capsys, "list", "runs.db")[1][1].split()[2] in ("suspended", "interrupted")


# -- tail


def test_an_ended_run_is_told_from_its_beginning(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "tail", file, "run-aa-1") == (
        0,
        [
            "13:46:40  run run-aa-1 of agent clerk",
            "13:46:40  user: Question of run-aa-1",
            "13:46:41  turn 1, 100 tokens, $0.2500, 1.0 s",
            "13:46:41  assistant: Fine.",
            "13:46:42  completed (answered)",
        ],
        [],
    )


@contextmanager
def tailing(folder: Path, run_id: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, "runs", "tail", "runs.db", run_id],
        cwd=folder,
        env=environment(TZ="UTC"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_a_run_is_followed_while_another_process_writes(file: str, folder: Path) -> None:
    async def grow(process: subprocess.Popen[str]) -> list[str]:
        """Write an entry only when the one before was shown."""
        read = partial(anyio.to_thread.run_sync, process.stdout.readline)  # type: ignore[union-attr]
        lines = [await read() for _ in range(4)]
        async with SqliteJournal(file) as journal:
            claim = await journal.claim("run-aa-2")
            journal.append(claim, encode(Happened(ToolResult("c", "paid", "pay"), 1_000_003.0)))
            lines.append(await read())
            journal.append(
                claim, encode(replied("Done.", at=1_000_004.0), Ended("completed", "answered", 1e6)), final=True
            )
            lines += [await read() for _ in range(3)]
        return lines

    with tailing(folder, "run-aa-2") as process:
        lines = anyio.run(grow, process)
        assert process.wait(30) == 0
    assert [line[10:].rstrip() for line in lines] == [
        "run run-aa-2 of agent clerk",
        "user: Question of run-aa-2",
        "turn 1, 100 tokens, $0.2500, 1.0 s",
        "pay(to='Ann')",
        "pay(to='Ann'), 2.0 s: paid",
        "turn 2, 100 tokens, $0.2500, 1.0 s",
        "assistant: Done.",
        "completed (answered)",
    ]


def test_following_ends_quietly_at_ctrl_c(file: str, folder: Path) -> None:
    with tailing(folder, "run-bb-1") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().endswith("run run-bb-1 of agent slow\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == "greenroom: interrupted\n"


# -- prune


def aged(days: float) -> Callable[[], float]:
    return lambda: time.time() - days * 86_400


ENDED = Ended("completed", "answered", 1.0)


def test_only_old_runs_that_have_ended_are_forgotten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scenario 83: with their subagents; never one that is unfinished, nor a subagent of one that stays."""
    path = folder / "runs.db"
    old: dict[str, list[list[Record]]] = {
        "gone": [[began("gone")]],
        "gone.1": [[began("gone.1", parent_id="gone")], [ENDED]],
        "parked": [[began("parked")], [Parked("it kills")]],
        "gone-too": [[began("gone-too")], [ENDED]],
    }
    anyio.run(write, path, old, aged(40))
    anyio.run(write, path, {"parked.1": [[began("parked.1", parent_id="parked")], [ENDED]]}, aged(35))
    anyio.run(write, path, {"young": [[began("young")], [ENDED]]}, aged(1))

    async def end(run_id: str) -> None:
        async with SqliteJournal(path, clock=aged(39)) as journal:
            journal.append(await journal.claim(run_id), encode(ENDED), final=True)

    anyio.run(end, "gone")
    assert said(capsys, "prune", "runs.db", "--older-than", "50d") == (0, ["0 runs forgotten, 6 kept"], [])
    assert said(capsys, "prune", "runs.db", "--older-than", "30d") == (0, ["3 runs forgotten, 3 kept"], [])
    _, out, _ = said(capsys, "list", "runs.db", "--all", "--subagents", "--json")
    assert [row["run_id"] for row in json.loads("\n".join(out))] == ["young", "parked.1", "parked"]


#: Prunes, and dies in the middle of the third step: its deletions are made and not committed.
PRUNING = """
import os, signal, sys
from greenroom.cli import status_of
from greenroom.journal.sqlite_store import Store

steps, prune = 0, Store.prune

def dying(store, *arguments):
    global steps
    pruned = prune(store, *arguments)
    steps += 1
    if steps == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return pruned

Store.prune = dying
sys.exit(status_of(["runs", "prune", "runs.db", "--older-than", "30d"]))
"""


def test_pruning_survives_the_death_of_its_process(folder: Path) -> None:
    """Scenario 83: what is there is whole, unfinished runs are untouched, and pruning again finishes the work."""
    path = folder / "runs.db"
    stories: dict[str, list[list[Record]]] = {}
    for number in range(450):
        run_id = f"run-{number}"
        stories[run_id] = [[began(run_id)], [replied("Fine."), ENDED] if number % 9 else [replied(PAY), Intended("c")]]
    anyio.run(write, path, stories, aged(40))

    async def look() -> tuple[int, list[str]]:
        """How many have ended, and the ids of the others; everything is readable."""
        async with Archive(path) as archive:
            listed = await archive.runs()
            for each in listed:
                assert await archive.read(each.run_id) == [encode(*entry) for entry in stories[each.run_id]]
        return sum(each.finished for each in listed), [each.run_id for each in listed if not each.finished]

    unfinished = [f"run-{number}" for number in range(0, 450, 9)]
    died = subprocess.run([sys.executable, "-c", PRUNING], cwd=folder, env=environment(), check=False, timeout=60)
    assert died.returncode == -signal.SIGKILL
    assert anyio.run(look) == (200, unfinished)
    done = command("prune", "runs.db", "--older-than", "30d", folder=folder)
    assert (done.returncode, done.stdout) == (0, "200 runs forgotten, 50 kept\n"), done.stderr
    assert anyio.run(look) == (0, unfinished)


# -- a real journal


@pytest.mark.anyio
async def test_a_run_of_a_system_is_shown_as_it_was(folder: Path) -> None:
    @tool
    async def weather(city: str) -> str:
        """The weather."""
        return f"{city}: rain"

    agent = Agent("helper", Scripted([call("weather", city="Oslo")], "Rain."), tools=[weather])
    async with System(journal="runs.db") as system:
        run = await system.start(agent, "Oslo?", run_id="r", user_id="ann", tags=["test"], metadata={"order": 7})
        await run.result()
        done = await anyio.to_thread.run_sync(partial(command, "show", "runs.db", "r", folder=folder))
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert lines[2] == "status        completed (answered)"
    assert {"user          ann", "tags          test", 'metadata      {"order":7}'} <= set(lines)
    assert "│  └─ weather(city='Oslo'), " in done.stdout
    assert max(map(len, lines)) <= 80
