"""Traces in files: a line for each event, whatever happens to the writer, and the way back."""

from __future__ import annotations

import errno
import gc
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from greenroom import Agent, RunContext, System, events
from greenroom.agents.events import AnyEvent, Event
from greenroom.providers import InvalidRequest, Scripted, Usage, call
from greenroom.telemetry import JsonlTrace, read_trace, without_contents

pytestmark = pytest.mark.anyio

SECRET = "a heron at noon"


async def search(words: str, context: RunContext) -> str:
    """Search."""
    context.emit({"halfway": words})
    return f"found {words}"


def helper() -> Agent[Any, Any]:
    usage = Usage(10, 4, raw={"prompt_tokens": 10, "note": SECRET})
    script = Scripted([call("search", words=SECRET)], SECRET, usage=usage)
    return Agent("helper", script, tools=[search], instructions=SECRET)


def completed(number: int, text: str = "") -> events.RunCompleted:
    facts: dict[str, Any] = {"agent": "a", "reason": "answered", "usage": Usage(), "text": text}
    return events.RunCompleted(seq=number, time=0.0, run_id="r", path=("r",), **facts)


def progress(value: Any) -> events.ToolProgress:
    return events.ToolProgress(seq=1, time=0.0, run_id="r", path=("r",), call_id="c", tool="t", progress=value)


# -- writing and reading


async def test_what_is_written_is_read_back_as_it_was(tmp_path: Path) -> None:
    heard: list[Any] = []
    with JsonlTrace(tmp_path / "trace.jsonl", contents=True) as trace:
        async with System(on_event=[heard.append, trace]):
            await helper().run(SECRET, user_id="u")
    assert list(read_trace(tmp_path / "trace.jsonl")) == heard
    assert len(heard) > 10
    assert trace.lost == 0


async def test_one_run_alone_is_traced(tmp_path: Path) -> None:
    with JsonlTrace(tmp_path / "trace.jsonl") as trace:
        await helper().run("Go", on_event=trace)
        await helper().run("Go")
    assert len({event.run_id for event in read_trace(tmp_path / "trace.jsonl")}) == 1


async def test_pieces_of_answers_are_left_out_unless_they_are_asked_for(tmp_path: Path) -> None:
    for deltas in (False, True):
        path = tmp_path / f"{deltas}.jsonl"
        with JsonlTrace(path, contents=True, deltas=deltas) as trace:
            await helper().run("Go", on_event=trace)
        assert any(isinstance(event, events.ModelTextDelta) for event in read_trace(path)) == deltas


async def test_contents_are_nowhere_unless_they_are_asked_for(tmp_path: Path) -> None:
    with JsonlTrace(tmp_path / "trace.jsonl", deltas=True) as trace:
        async with System(on_event=trace):
            await helper().run(SECRET, on_event=lambda _: None)
            with pytest.raises(InvalidRequest):
                await Agent("helper", Scripted(InvalidRequest(SECRET))).run(SECRET)
    assert SECRET not in (tmp_path / "trace.jsonl").read_text()
    told = list(read_trace(tmp_path / "trace.jsonl"))
    assert [event.error for event in told if isinstance(event, events.RunFailed)] == ["InvalidRequest"]
    assert [event.usage.input_tokens for event in told if isinstance(event, events.RunCompleted)] == [20]


def test_a_line_is_there_at_once_and_old_ones_stay(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    for number in range(3):
        with JsonlTrace(path) as trace:
            trace(completed(number))
            assert [event.seq for event in read_trace(path)] == list(range(number + 1))


@pytest.mark.skipif(os.name == "nt", reason="modes of files are POSIX's")
def test_a_new_file_is_its_owners_alone_and_an_old_one_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").touch(0o640)
    for name, mode in (("new.jsonl", 0o600), ("old.jsonl", 0o640)):
        with JsonlTrace(tmp_path / name):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode


def test_threads_and_traces_of_the_same_file_do_not_part_lines(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    with JsonlTrace(path, contents=True) as one, JsonlTrace(path, contents=True) as two:

        def write(trace: JsonlTrace, first: int) -> None:
            for number in range(first, first + 200):
                trace(completed(number, "x" * (number % 7) * 1_000))

        threads = [threading.Thread(target=write, args=(one if n % 2 else two, n * 200)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(event.seq for event in read_trace(path)) == list(range(800))


KILLED = """
import os, signal, sys
sys.path[:0] = []
from greenroom import events
from greenroom.providers import Usage
from greenroom.telemetry import JsonlTrace
trace = JsonlTrace(sys.argv[1])
trace(events.TurnStarted(seq=1, time=0.0, run_id="r", path=("r",)))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_line_outlives_its_process(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [event.type for event in read_trace(path)] == ["turn.started"]


# -- what is damaged


def test_a_torn_end_is_left_out_and_the_next_writer_begins_a_new_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "trace.jsonl"
    with JsonlTrace(path) as trace:
        trace(completed(1))
        trace(completed(2))
    path.write_bytes(path.read_bytes()[:-20])
    assert [event.seq for event in read_trace(path)] == [1]
    assert caplog.records == []
    with JsonlTrace(path) as trace:
        trace(completed(3))
    assert [event.seq for event in read_trace(path)] == [1, 3]
    assert [record.getMessage() for record in caplog.records] == [
        f"trace {path}: 1 torn lines were left out, the first is line 2"
    ]


@pytest.mark.parametrize("line", [b'{"type":"run.unheard_of","seq":1}', b'{"type":"turn.started"}', b"[]", b"1"])
def test_a_whole_line_that_is_no_event_is_refused_with_its_place(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(completed(1).to_json() + b"\n\n" + line + b"\n")
    told = read_trace(path)
    assert next(told).seq == 1
    with pytest.raises(ValueError, match=r"trace\.jsonl:3: no event of this version: "):
        next(told)


def test_what_is_missing_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_trace(tmp_path / "none.jsonl"))
    with pytest.raises(FileNotFoundError):
        JsonlTrace(tmp_path / "none" / "trace.jsonl")
    with pytest.raises(IsADirectoryError):
        JsonlTrace(tmp_path)


# -- what cannot be written


class FullDisk:
    """A file whose disk takes so many bytes more."""

    closed = False

    def __init__(self, file: Any, left: int) -> None:
        self.file, self.left = file, left

    def write(self, data: bytes) -> int:
        taken = data[: self.left]
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.left -= len(taken)
        return self.file.write(taken)

    def close(self) -> None:
        self.file.close()


async def test_a_full_disk_fails_no_run_and_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "trace.jsonl"
    trace = JsonlTrace(path)
    disk: Any = FullDisk(trace._file, 200)
    trace._file = disk
    async with System(on_event=trace):
        result = await helper().run("Go")
        assert result.status == "completed"
        lost = trace.lost
        assert lost > 5
        disk.left = 10_000
        await helper().run("Go", run_id="later")
    trace.close()
    assert trace.lost == lost
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        f"trace {path}: an event could not be written and is lost: OSError"
    ]
    told = list(read_trace(path))
    assert [event.type for event in told if event.run_id != "later"] == ["run.started"]
    assert told[-1].type == "run.completed"
    assert told[1].seq == 1  # the torn line has ended before it


def test_a_closed_trace_loses_what_comes_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trace = JsonlTrace(tmp_path / "trace.jsonl")
    trace.close()
    trace.close()
    trace(completed(1))
    trace(completed(2))
    assert trace.lost == 2
    assert len(caplog.records) == 1
    assert repr(trace) == f"<JsonlTrace {str(tmp_path / 'trace.jsonl')!r}, closed>"


class Secretive:
    """A value that nobody can show."""

    def __repr__(self) -> str:
        raise ValueError("no")


def circle() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ({"a": [1, None, "x"]}, {"a": [1, None, "x"]}),
        (complex(1, 2), "(1+2j)"),
        ({1: float("nan")}, {"1": None}),
        (Secretive(), None),
        ("\ud800", None),
        (1 << 70, 1 << 70),
        (circle(), None),
    ],
)
def test_progress_that_is_no_json_loses_at_most_itself(tmp_path: Path, value: Any, read: Any) -> None:
    with JsonlTrace(tmp_path / "trace.jsonl", contents=True) as trace:
        trace(progress(value))
    (event,) = read_trace(tmp_path / "trace.jsonl")
    assert (event, trace.lost) == (progress(read), 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": 1}, r"^JsonlTrace takes the path of a file, not 1"),
        ({"path": "x", "contents": "yes"}, r"^contents= takes True or False, not 'yes'"),
        ({"path": "x", "deltas": None}, r"^deltas= takes True or False, not None"),
    ],
)
def test_wrong_arguments_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError, match=message):
        JsonlTrace(**arguments)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_kept_in_memory(tmp_path: Path) -> None:
    with JsonlTrace(tmp_path / "trace.jsonl") as trace:
        for number in range(1_000):
            trace(progress([number]))
        gc.collect()
        assert [each for each in gc.get_objects() if isinstance(each, events.ToolProgress)] == []


# -- without contents


def filled(kind: type[Event]) -> Event:
    """An event of this kind, with the secret in each field that takes text."""
    samples: list[Any] = [SECRET, 7, 7.0, True, [SECRET], {"raw": {"x": SECRET}}]
    facts: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.name in Event.__struct_fields__:
            continue
        for sample in samples:
            try:
                facts[field.name] = msgspec.convert(sample, field.type)
            except msgspec.ValidationError:
                continue
            break
    return kind(seq=1, time=0.0, run_id="r", path=("r",), **facts)


#: What may hold text although no contents are wanted: ids, names and words of ours.
NAMES = {
    *("agent", "answer", "call_id", "cause", "heir", "how", "kind", "limit", "message_id", "model", "next_model"),
    *("next_provider", "outcome", "outlived", "output_tool", "pending", "provider", "question_id", "reason", "source"),
    *("stop_reason", "to", "tool", "tools", "when"),
}


@pytest.mark.parametrize("kind", get_args(AnyEvent), ids=lambda kind: kind.__name__)
def test_an_event_without_contents_has_its_ids_and_nothing_that_was_said(kind: type[Event]) -> None:
    event = filled(kind)
    bare = without_contents(event)
    assert type(bare) is kind
    for name in kind.__struct_fields__:
        if SECRET in str(getattr(bare, name)):
            assert name in NAMES
    assert msgspec.convert(bare.to_dict(), kind) == bare


def test_words_of_people_are_contents_under_any_name() -> None:
    facts: dict[str, Any] = {"seq": 1, "time": 0.0, "run_id": "r", "path": ("r",), "call_id": "c", "tool": "t"}
    denied = without_contents(events.ApprovalResolved(answer="denied", reason=SECRET, **facts))
    assert (denied.answer, denied.reason) == ("denied", None)
    asked = without_contents(events.ApprovalRequested(question=SECRET, arguments={"x": SECRET}, **facts))
    assert (asked.question, asked.arguments) == ("", None)
    facts = {"seq": 1, "time": 0.0, "run_id": "r", "path": ("r",)}
    stopped = without_contents(events.RunStopped(agent="a", reason="user", usage=Usage(), **facts))
    assert stopped.reason == "user"
    failed = events.RunFailed(agent="a", reason="error", usage=Usage(1, raw={"x": 1}), error=f"E: {SECRET}", **facts)
    assert (without_contents(failed).error, without_contents(failed).usage) == ("E", Usage(1))
    retried = events.ModelRetrying(model="m", attempt=1, delay=1.0, kind="k", error=f"E: {SECRET}", **facts)
    assert without_contents(retried).error == ""
    turn = events.TurnStarted(**facts)
    assert without_contents(turn) is turn


def test_a_trace_is_lines_of_json(tmp_path: Path) -> None:
    with JsonlTrace(tmp_path / "trace.jsonl", contents=True) as trace:
        trace(completed(1, "two\nlines"))
    (line,) = (tmp_path / "trace.jsonl").read_text().splitlines()
    assert json.loads(line) == json.loads(completed(1, "two\nlines").to_json())
