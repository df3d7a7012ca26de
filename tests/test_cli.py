"""The command line: what it says, what it exits with, and that an error is one line."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import anyio
import pytest

from greenroom import __version__
from greenroom.cli import status_of
from greenroom.load import Call, Latency, Plan, Turn, simulated_server

from .wire import json_answer, serve

COMMAND = [sys.executable, "-P", "-W", "error", "-X", "dev", "-m", "greenroom"]
TOOLS = '''
def weather(city: str) -> str:
    """Weather in a city."""
    return f"{city}: 21 degrees"

async def broken(city: str) -> str:
    raise RuntimeError("no sky today")

class Private: ...

def unsupported(thing: Private) -> str:
    return ""

number = 3
'''
#: An address that refuses connections at once.
NOWHERE = "http://127.0.0.1:9/v1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder with modules of tools."""
    (tmp_path / "sky_tools.py").write_text(TOOLS)
    (tmp_path / "raising_tools.py").write_text("raise RuntimeError('not\\ntoday')")
    (tmp_path / "needing_tools.py").write_text("import no_such_module")
    return tmp_path


def environment(**changes: str) -> dict[str, str]:
    """The environment without keys and without what changes output."""
    hidden = ("OPENAI_API_KEY", "GROQ_API_KEY", "PYTHONPATH", "FORCE_COLOR", "COLUMNS")
    return {name: value for name, value in os.environ.items() if name not in hidden} | changes


def greenroom(folder: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


# -- errors


#: Arguments, exit status, and words that the one line must have.
ERRORS = {
    "unknown model": (["run", "hi", "--model", "gpt5-mini"], 2, ["unknown model 'gpt5-mini'", "vendor:model"]),
    "nearly simulated": (["run", "hi", "--model", "simulatd"], 2, ["'simulatd'", "did you mean simulated?"]),
    "unknown vendor": (["run", "hi", "--model", "opanai:x"], 2, ["'opanai'", "did you mean 'openai'?"]),
    "missing key": (["run", "hi", "--model", "groq:x"], 1, ["set GROQ_API_KEY"]),
    "bad URL": (["run", "hi", "--base-url", "localhost:8000"], 2, ["https://host/v1", "'localhost:8000'"]),
    "empty prompt": (["run", " "], 2, ["the prompt is empty"]),
    "tool without colon": (["run", "hi", "--tools", "sky_tools"], 2, ["module:function"]),
    "no such module": (["run", "hi", "--tools", "sky_toolz:weather"], 2, ["there is no module 'sky_toolz'"]),
    "no such function": (["run", "hi", "--tools", "sky_tools:wether"], 2, ["did you mean weather?"]),
    "not a function": (["run", "hi", "--tools", "sky_tools:number"], 2, ["number is of type int, not a function"]),
    "module that raises": (["run", "hi", "--tools", "raising_tools:x"], 2, ["RuntimeError: not today", "tools.py:1)"]),
    "module that needs": (["run", "hi", "--tools", "needing_tools:x"], 2, ["needing_tools needs", "'no_such_module'"]),
    "unsupported tool": (["run", "hi", "--tools", "sky_tools:unsupported"], 2, ["parameter 'thing'", "Private"]),
    "tool given twice": (["run", "hi", "--tools", "sky_tools:weather", "sky_tools:weather"], 2, ["two tools"]),
    "bad backend": (["demo", "--backend", "curio"], 2, ["--backend", '"asyncio", "trio"']),
    "bad number": (["demo", "--runs", "many"], 2, ["--runs", '"many"']),
    "number too small": (["demo", "--runs", "0"], 2, ["--runs", ">= 1"]),
    "share above 1": (["demo", "--faults", "1.5"], 2, ["--faults", "<= 1"]),
    "bad latency": (["demo", "--latency", "soon"], 2, ["--latency", "'soon'", "50ms-200ms+5ms"]),
    "unknown option": (["demo", "--rnus", "3"], 2, ["--rnus"]),
    "unknown command": (["dmeo"], 2, ['"dmeo"', "demo, run"]),
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
    assert status_of(arguments) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("greenroom: ")
    assert [each for each in words if each not in line] == []


def test_without_a_prompt_and_a_terminal_there_is_nothing_to_do(folder: Path) -> None:
    done = greenroom(folder, "run")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "greenroom: the prompt is empty\n")


@pytest.mark.parametrize("name", ["missing key", "unsupported tool", "bad number"])
def test_a_process_that_fails_says_one_line_and_no_traceback(name: str, folder: Path) -> None:
    arguments, status, words = ERRORS[name]
    done = greenroom(folder, *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("greenroom: ")
    assert [each for each in words if each not in line] == []


def test_an_endpoint_that_is_down_is_tried_again_and_then_named(folder: Path) -> None:
    done = greenroom(folder, "run", "hi", "--model", "any", "--base-url", NOWHERE, "--backend", "trio")
    assert (done.returncode, done.stdout) == (1, "")
    *notes, last = done.stderr.splitlines()
    assert [note.startswith("trying again in ") for note in notes] == [True, True]
    assert last.startswith("greenroom: openai: no connection to 127.0.0.1:9: ")


# -- help


def test_the_version(folder: Path) -> None:
    done = greenroom(folder, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"greenroom {__version__}\n", "")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["demo", "--help"], ["run", "--help"]])
def test_help_fits_a_screen(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(arguments) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert 5 < len(printed.out.splitlines()) <= 30
    assert printed.out.lstrip().startswith(" ".join(["Usage: greenroom", *arguments[:-1]]))


# -- greenroom run


ASKED = Plan(
    turns=(
        Turn((Call("weather", {"city": "Tokyo"}),), text="Let me see."),
        Turn((Call("broken", {"city": "Tokyo"}), Call("weather", {"city": "Kyoto"}))),
    ),
    answer="In the end: {result}, so take a hat and no umbrella.",
).prompt("What is the weather?")


@pytest.mark.anyio
async def test_the_answer_is_streamed_and_tools_are_noted_beside_it(folder: Path, anyio_backend: str) -> None:
    arguments = ["run", ASKED, "--model", "some-model", "--backend", anyio_backend]
    tools = ["--tools", "sky_tools:weather", "sky_tools:broken"]
    async with simulated_server(latency=Latency.parse("5ms+20ms")) as server:
        command = [*COMMAND, *arguments, "--base-url", server.base_url, *tools]
        async with await anyio.open_process(
            command, cwd=folder, env=environment(), stdin=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            pieces = [piece async for piece in process.stdout]
            notes = b"".join([piece async for piece in process.stderr])
        assert (await server.stats()).conversations_finished == 1
    text = b"".join(pieces).decode()
    assert text == "Let me see.\nIn the end: Kyoto: 21 degrees, so take a hat and no umbrella.\n"
    assert len(pieces) > 3, "the text came in one go"
    lines = notes.decode().splitlines()
    assert lines[0] == "weather(city='Tokyo')"
    assert sorted(lines[1:3]) == ["broken(city='Tokyo')", "weather(city='Kyoto')"]
    assert lines[3:] == ["broken failed: RuntimeError: no sky today"]
    assert process.returncode == 0


@pytest.mark.anyio
async def test_a_limit_is_named_by_its_option(folder: Path, anyio_backend: str) -> None:
    async with simulated_server(latency=Latency(0.0, 0.0)) as server:
        arguments = ["run", ASKED, "--model", "openai:gpt-x", "--base-url", server.base_url, "--limit-turns", "1"]
        done = await anyio.to_thread.run_sync(
            lambda: greenroom(
                folder, *arguments, "--tools", "sky_tools:weather", "--backend", anyio_backend, OPENAI_API_KEY="k"
            )
        )
    assert (done.returncode, done.stdout) == (1, "Let me see.\n")
    assert done.stderr.splitlines() == ["weather(city='Tokyo')", "greenroom: no answer within --limit-turns 1"]


@pytest.mark.anyio
async def test_a_key_goes_to_another_address_only_when_it_is_named(folder: Path) -> None:
    said = {"choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}
    async with serve(json_answer(said)) as server:
        for more in ((), ("--key-variable", "OPENAI_API_KEY")):
            command = ("run", "hello", "--base-url", server.url, *more)
            done = await anyio.to_thread.run_sync(partial(greenroom, folder, *command, OPENAI_API_KEY="sk-of-the-test"))
            assert (done.returncode, done.stdout) == (0, "hi\n")
    assert [request.headers.get("authorization") for request in server.requests] == [None, "Bearer sk-of-the-test"]


@pytest.mark.anyio
async def test_a_reader_that_goes_away_ends_the_command_quietly(folder: Path, anyio_backend: str) -> None:
    def read_a_little(command: list[str]) -> tuple[int, bytes]:
        with subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.read(1)
            process.stdout.close()
            errors = process.stderr.read()
        return process.returncode, errors

    async with simulated_server(latency=Latency.parse("1ms+20ms")) as server:
        prompt = Plan(answer="word " * 100).prompt("Talk.")
        command = [*COMMAND, "run", prompt, "--model", "any", "--base-url", server.base_url, "--backend", anyio_backend]
        assert await anyio.to_thread.run_sync(read_a_little, command) == (1, b"")
