"""``greenroom run`` as a conversation: real processes on pseudo-terminals, with Ctrl-C as a key."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import termios
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

if sys.platform == "win32":
    pytest.skip("needs pseudo-terminals", allow_module_level=True)

from anyio.from_thread import start_blocking_portal

from greenroom.cli import status_of
from greenroom.load import Call, Latency, Plan, Turn, simulated_server

from .terminal import CTRL_C, CTRL_D, CTRL_Z, ENTER, UP, Terminal, children_of, on_terminal

COMMAND = [sys.executable, "-P", "-W", "error", "-X", "dev", "-m", "greenroom", "run"]
NOWHERE = "http://127.0.0.1:9/v1"
PROMPT = "> "
CHOICES = "or no and why: "
TOOLS = '''
import anyio
from greenroom import RunContext, tool

@tool
async def weather(city: str) -> str:
    """Weather in a city."""
    return f"{city}: 21 degrees"

@tool
async def broken() -> str:
    """Breaks."""
    raise RuntimeError("no sky today")

@tool(needs_approval=True)
async def delete(path: str, text: str = "") -> str:
    """Delete a file."""
    return f"{path} is gone"

@tool
async def ask(context: RunContext) -> str:
    """Ask the user."""
    return "the user said " + await context.ask_user("Which one?")

@tool
async def hang() -> str:
    """Hangs."""
    await anyio.sleep_forever()

@tool
async def stubborn() -> str:
    """Hangs, and does not heed its cancellation."""
    while True:
        try:
            await anyio.sleep(60)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(60)

@tool
async def rude() -> str:
    """Returns what a terminal must not get."""
    return "\\x1b]0;stolen\\x07\\x1b[2Jclean"
'''

#: A command that takes long.
SLOW_COMMAND = """
import sys, time
from greenroom import cli, cli_chat

words, usage = cli_chat._COMMANDS["/usage"]

def slow(chat):
    print("it takes long", flush=True)
    time.sleep(60)

cli_chat._COMMANDS["/usage"] = words, slow
sys.exit(cli.status_of(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def address() -> Generator[str]:
    """The base URL of a simulated model that answers at once, and writes as fast as one reads."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(simulated_server(latency=Latency.parse("2ms+10ms"))) as server,
    ):
        yield server.base_url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder with a module of tools."""
    (tmp_path / "chat_tools.py").write_text(TOOLS)
    return tmp_path


@pytest.fixture
def odd_modules(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of a user that hold no tools."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (folder / "ends_itself.py").write_text("import sys\nsys.exit(3)\n")
    (folder / "no_tool.py").write_text("from greenroom import tool\n\n\n@tool\ndef x(**more):\n    pass\n")


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    """The event loop."""
    return request.param


def environment(folder: Path, **changes: str) -> dict[str, str]:
    """The environment without keys and without what changes output, and with data in the test's own folder."""
    hidden = ("OPENAI_API_KEY", "PYTHONPATH", "FORCE_COLOR", "NO_COLOR", "COLUMNS", "LINES", "TERM", "LANG", "LC_ALL")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**kept, "XDG_DATA_HOME": str(folder / "data"), **changes}


@contextmanager
def chat(
    folder: Path, address: str, *options: str, tools: str = "", size: tuple[int, int] = (50, 200), **variables: str
) -> Generator[Terminal]:
    """A conversation that has begun."""
    command = [*COMMAND, "--model", "any", "--base-url", address, *options]
    if tools:
        command += ["--tools", *[f"chat_tools:{each}" for each in tools.split()]]
    with on_terminal(command, folder, environment(folder, **variables), size) as terminal:
        terminal.see("Ctrl-D ends")
        terminal.see(PROMPT)
        yield terminal


def shows_keys(terminal: Terminal) -> bool:
    """Whether the terminal shows keys, and takes them line by line."""
    lflag = terminal.modes()[3]
    return bool(lflag & termios.ECHO and lflag & termios.ICANON)


def plan(*turns: Turn, answer: str = "Done.", **options: Any) -> str:
    """A line that has the model do just that."""
    made = json.loads(Plan(turns, answer, **options).prompt().removeprefix("[[plan ").removesuffix("]]"))
    return f"[[plan {json.dumps(made)}]]{ENTER}"  # in ASCII, so that what is typed is not what is looked for


def calling(tool: str, **arguments: Any) -> Turn:
    """A reply that calls one tool."""
    return Turn((Call(tool, arguments),))


# -- answers


def test_answers_are_streamed_with_what_tools_do_and_what_it_used(folder: Path, address: str, backend: str) -> None:
    with chat(folder, address, "--backend", backend, tools="weather broken") as terminal:
        terminal.press(plan(calling("weather", city="Kyoto"), answer="It is {result}, so take a hat."))
        terminal.see("weather(city='Kyoto')\n")
        terminal.see("weather → Kyoto: 21 degrees (")
        terminal.see("It is Kyoto: 21 degrees, so take a hat.\n")
        terminal.see(" tokens in, ")
        terminal.see(" out, 2 turns, ")
        terminal.see(PROMPT)
        terminal.press("and now?" + ENTER)
        terminal.see("weather(city='text')")  # without a plan, the model calls the first tool
        terminal.see("The tool said: text: 21 degrees\n")
        terminal.see(PROMPT)
        terminal.press("/history" + ENTER)
        terminal.see("model: It is Kyoto: 21 degrees, so take a hat.\n")
        terminal.see("you: and now?\n")
        terminal.see(PROMPT)
        terminal.press(plan(calling("broken"), answer="{result}!"))
        terminal.see("broken failed: RuntimeError: no sky today\n")  # and the conversation goes on
        terminal.see("RuntimeError: no sky today!\n")
        terminal.see(PROMPT)
        terminal.press("/exit" + ENTER)
        assert terminal.ended() == 0
    assert "Traceback" not in terminal.text
    assert "Warning" not in terminal.text


def test_an_endpoint_that_is_down_is_one_line(folder: Path) -> None:
    with chat(folder, NOWHERE) as terminal:
        for _ in range(2):
            terminal.press("hello" + ENTER)
            terminal.see("greenroom: openai: no connection to 127.0.0.1:9: ")
            terminal.see(PROMPT)
        # What it waited for has been wiped off: only the error is left of each answer.
        left = terminal.text.split("hello\n")[1]
        assert left.replace("\n", "").endswith(f"attempts failed{PROMPT}hello") or left.count("greenroom: ") == 1
        assert terminal.raw.count(b"trying again in") == terminal.raw.count(b"\r\x1b[K\x1b[2mtrying again in") == 4
        terminal.press(CTRL_D)
        assert terminal.ended() == 0


def test_without_a_key_it_says_what_to_do(folder: Path) -> None:
    with on_terminal(COMMAND, folder, environment(folder)) as terminal:
        terminal.see(PROMPT)
        terminal.press("hi" + ENTER)
        terminal.see("set OPENAI_API_KEY")
        terminal.see("--model simulated needs none\n")
        terminal.see(PROMPT)


def test_the_simulated_model_needs_no_key_and_leaves_no_process(folder: Path, backend: str) -> None:
    command = [*COMMAND, "--model", "simulated", "--backend", backend]
    with on_terminal(command, folder, environment(folder)) as terminal:
        terminal.see(PROMPT)
        servers = children_of(terminal.process.pid)
        terminal.press("hello there" + ENTER)
        terminal.see("You said: hello there\n")
        terminal.see(PROMPT)
        terminal.press(CTRL_D)
        assert terminal.ended() == 0
    assert [pid for pid in servers if Path(f"/proc/{pid}").exists()] == []
    assert servers or not Path("/proc").exists()


# -- Ctrl-C


def test_ctrl_c_stops_what_is_at_work_and_not_the_program(folder: Path, address: str, backend: str) -> None:
    with chat(folder, address, "--backend", backend, tools="hang") as terminal:
        terminal.press(plan(answer="word " * 400))
        terminal.see("]]\n")
        terminal.see("word word word")
        terminal.press(CTRL_C)
        terminal.see("stopped, ")
        terminal.see(PROMPT)
        terminal.press("/history" + ENTER)
        terminal.see("model: word word word")  # what was said is kept
        terminal.see(PROMPT)
        terminal.press("go" + ENTER)
        terminal.see("hang()\n")
        terminal.press(CTRL_C)
        terminal.see("hang cancelled: ")
        terminal.see("stopped, ")
        terminal.see(PROMPT)
        terminal.press("not this")
        terminal.see("not this")
        terminal.press(CTRL_C)
        terminal.see(PROMPT)
        terminal.press(plan(answer="But that."))
        terminal.see("But that.\n")
        terminal.see(PROMPT)
        for _ in range(2):  # one may have been meant for an answer that has just ended
            terminal.press(CTRL_C)
            terminal.see("Ctrl-C once more, or Ctrl-D, ends the program\n")
            terminal.see(PROMPT)
            terminal.press("/usage" + ENTER)
            terminal.see(PROMPT)
        terminal.press(CTRL_C)
        terminal.see(PROMPT)
        terminal.press(CTRL_C)
        assert terminal.ended() == 0
    assert "You said: not" not in terminal.text


def test_ctrl_c_in_a_command_ends_the_command(folder: Path, address: str) -> None:
    """As at any moment between an answer and the prompt."""
    (folder / "slow_command.py").write_text(SLOW_COMMAND)
    program = [sys.executable, "-P", "slow_command.py", "run", "--model", "any", "--base-url", address]
    with on_terminal(program, folder, environment(folder)) as terminal:
        terminal.see(PROMPT)
        terminal.press("/usage" + ENTER)
        terminal.see("it takes long")
        terminal.press(CTRL_C)
        terminal.see("Ctrl-C once more, or Ctrl-D, ends the program\n")
        terminal.see(PROMPT)
        terminal.press("hello" + ENTER)
        terminal.see("You said: hello\n")


def test_ctrl_c_gives_up_what_does_not_end(folder: Path, address: str, backend: str) -> None:
    """After the grace the prompt is there again, and says what could not be ended."""
    with chat(folder, address, "--backend", backend, tools="stubborn") as terminal:
        terminal.press("go" + ENTER)
        terminal.see("stubborn()\n")
        terminal.press(CTRL_C)
        terminal.see("stopped, ")
        terminal.see("still at work, and given up: stubborn")
        terminal.see("does not heed its cancellation\n")  # what is logged waits for the end of the answer
        terminal.see(PROMPT)


def test_ctrl_c_twice_ends_the_program(folder: Path, address: str, backend: str) -> None:
    with chat(folder, address, "--backend", backend, tools="stubborn") as terminal:
        terminal.press("go" + ENTER)
        terminal.see("stubborn()\n")
        terminal.press(CTRL_C)
        terminal.see("Ctrl-C once more ends the program")
        terminal.press(CTRL_C)
        terminal.see("greenroom: interrupted\n")
        assert terminal.ended() == 130


@pytest.mark.parametrize(("number", "status", "loop"), [(signal.SIGTERM, 143, "asyncio"), (signal.SIGHUP, 129, "trio")])
def test_a_signal_ends_it_in_order_and_leaves_the_answer_to_go_on(
    folder: Path, address: str, number: int, status: int, loop: str
) -> None:
    options = ("--backend", loop, "--conversation", "c1", "--journal", "chat.db")
    with chat(folder, address, *options, tools="hang") as terminal:
        terminal.press("go" + ENTER)
        terminal.see("hang()\n")
        os.kill(terminal.process.pid, number)
        terminal.see("greenroom: ended by SIG")
        assert terminal.ended() == status
        assert shows_keys(terminal)
    command = [*COMMAND, "--model", "any", "--base-url", address, *options]
    with on_terminal(command, folder, environment(folder)) as again:
        again.see("the answer that was cut short goes on")
        again.see("The tool said: outcome unknown")
        again.see(PROMPT)
        again.press("a line")
        again.see("a line")
        if number == signal.SIGHUP:
            assert again.hang_up() == status
        else:
            os.kill(again.process.pid, number)
            again.see("\ngreenroom: ended by SIG")  # not behind what is typed
            assert again.ended() == status
            assert shows_keys(again)


def test_ctrl_z_gives_the_terminal_back_and_the_line_stays(folder: Path, address: str) -> None:
    """Under a shell that does not put the terminal right by itself."""
    command = shlex.join([*COMMAND, "--model", "any", "--base-url", address])
    with on_terminal(["/bin/sh", "-i"], folder, environment(folder, PS1="SHELL ")) as terminal:
        terminal.see("SHELL ")
        terminal.press(command + ENTER)
        terminal.see("Ctrl-D ends")
        terminal.see(PROMPT)
        terminal.press("begun")
        terminal.see("begun")
        terminal.press(CTRL_Z)
        terminal.see("SHELL ")
        assert shows_keys(terminal)
        terminal.press("fg" + ENTER)
        terminal.see(f"{PROMPT}begun")
        terminal.press(" and ended" + ENTER)
        terminal.see("You said: begun and ended\n")
        terminal.see(PROMPT)
        terminal.press(plan(answer="word " * 200))
        terminal.see("]]\n")
        terminal.see("word word")
        terminal.press(CTRL_Z)
        terminal.see("SHELL ")
        assert shows_keys(terminal)
        terminal.press("fg" + ENTER)
        terminal.see(" 1 turn, ")
        terminal.see(PROMPT)
        terminal.press(CTRL_D)
        terminal.see("SHELL ")
        assert shows_keys(terminal)


def test_what_is_typed_while_an_answer_comes_is_the_next_message(folder: Path, address: str, backend: str) -> None:
    with chat(folder, address, "--backend", backend) as terminal:
        terminal.press(plan(answer="word " * 100))
        terminal.see("]]\n")
        terminal.see("word word")
        terminal.press("and then?" + ENTER + "half a")
        assert "and then?" not in terminal.see(" 1 turn, ")  # it does not stand in the answer
        terminal.see(f"{PROMPT}and then?\n")
        terminal.see("You said: and then?\n")
        terminal.see(f"{PROMPT}half a")
        terminal.press(" line" + ENTER)
        terminal.see("You said: half a line\n")
        terminal.see(PROMPT)
        terminal.press(CTRL_D)
        assert terminal.ended() == 0
        assert shows_keys(terminal)


# -- what is asked


def test_a_call_is_approved_after_its_arguments_were_shown(folder: Path, address: str, backend: str) -> None:
    with chat(folder, address, "--backend", backend, tools="delete") as terminal:
        terminal.press(plan(calling("delete", path="a.txt", text="one\n  two"), answer="{result}!"))
        terminal.see("May delete run?\n  path: a.txt\n  text:\n    one\n      two\n")
        terminal.see(CHOICES)
        terminal.press("perhaps")
        terminal.see("perhaps")  # what is typed shows
        terminal.press(ENTER)
        terminal.see(CHOICES)  # that was no answer
        terminal.press("y" + ENTER)
        terminal.see("a.txt is gone!\n")
        terminal.see(PROMPT)
        terminal.press(plan(calling("delete", path="b.txt"), answer="{result}!"))
        terminal.see(CHOICES)
        terminal.press("no, it is needed" + ENTER)
        terminal.see("delete denied: it is needed\n")
        terminal.see("denied: it is needed!\n")
        terminal.see(PROMPT)
        terminal.press(UP)
        terminal.see("b.txt")  # answers are not among what can be said again
        terminal.press(CTRL_C)


def test_an_approval_is_for_one_call_or_a_tool_or_nothing(folder: Path, address: str, backend: str) -> None:
    with chat(folder, address, "--backend", backend, tools="delete") as terminal:
        terminal.press(plan(calling("delete", path="a"), answer="{result}!") + "y" + ENTER)
        terminal.see(CHOICES)  # what was typed ahead approves nothing
        terminal.press("n" + ENTER)
        terminal.see("denied: not approved!\n")
        terminal.see(PROMPT)
        terminal.press(plan(calling("delete", path="b"), answer="{result}!"))
        terminal.see(CHOICES)
        terminal.press(CTRL_D)
        terminal.see("denied: not approved!\n")
        terminal.see(PROMPT)
        assert "is gone" not in terminal.text
        terminal.press(plan(calling("delete", path="c"), calling("delete", path="d"), answer="{result}!"))
        terminal.see(CHOICES)
        terminal.press("a" + ENTER)
        assert CHOICES not in terminal.see("d is gone!\n")
        terminal.see(PROMPT)
        terminal.press("/new" + ENTER)
        terminal.see("a new conversation\n")
        terminal.see(PROMPT)
        terminal.press(plan(calling("delete", path="e")))
        terminal.see(CHOICES)  # again


def test_an_answer_that_is_stopped_asks_nothing_more(folder: Path, address: str, backend: str) -> None:
    with chat(folder, address, "--backend", backend, tools="delete ask") as terminal:
        several = Turn((Call("delete", {"path": "a"}), Call("delete", {"path": "b"}), Call("ask", {})))
        for keys in (CTRL_C, "/stop" + ENTER):
            terminal.press(plan(several))
            terminal.see(CHOICES)
            terminal.press(keys)
            before = terminal.see("stopped, ")
            assert CHOICES not in before
            assert "asks: " not in before
            assert "too late" not in before
            terminal.see(PROMPT)
    assert "is gone" not in terminal.text


def test_a_question_of_a_tool_is_answered(folder: Path, address: str, backend: str) -> None:
    with chat(folder, address, "--backend", backend, tools="ask") as terminal:
        terminal.press("go" + ENTER)
        terminal.see("ask asks: Which one?\n")
        terminal.see("answer: ")
        terminal.press("the blue ône" + ENTER)
        terminal.see("The tool said: the user said the blue ône\n")
        terminal.see(PROMPT)
        terminal.press("again" + ENTER)
        terminal.see("answer: ")
        terminal.press(CTRL_C)
        terminal.see("stopped, ")
        terminal.see(PROMPT)


# -- the terminal


def test_nothing_foreign_acts_on_the_terminal(folder: Path, address: str) -> None:
    """Neither what a model writes, nor what a tool returns, nor what is to be approved."""
    with chat(folder, address, tools="rude delete") as terminal:
        evil = "\x1b]0;stolen\x07 \x9b2J \x1b[2J \u202e backwards"
        terminal.press(plan(calling("rude"), calling("delete", path=evil), answer=f"{evil} the end."))
        terminal.see("rude → \ufffd]0;stolen\ufffd\ufffd[2Jclean")
        terminal.see(CHOICES)
        terminal.press("y" + ENTER)
        terminal.see("\ufffd backwards the end.\n")
        terminal.see(PROMPT)
        terminal.press("/history" + ENTER)
        terminal.see("the end.\n")
        terminal.see(PROMPT)
    for bytes_ in (b"\x1b]0;", b"\x1b[2J", "\x9b".encode(), "\u202e".encode(), b"\x07"):
        assert bytes_ not in terminal.raw


@pytest.mark.parametrize("variable", ["NO_COLOR", "TERM"])
def test_no_colour_where_nobody_wants_any(folder: Path, address: str, variable: str) -> None:
    wanted: Any = {variable: "dumb"}
    with chat(folder, address, tools="weather", **wanted) as terminal:
        terminal.press("go" + ENTER)
        terminal.see("The tool said: ")
        terminal.see(PROMPT)
        if variable == "TERM":
            terminal.press("first line\nsecond line" + ENTER)  # a paste without any marks
            terminal.see("first line")
            terminal.see("weather(city='text')")
            terminal.see(PROMPT)
            assert terminal.text.count("weather(city='text')") == 2  # one message
        terminal.press(CTRL_D)
        assert terminal.ended() == 0
    assert b"\x1b[2m" not in terminal.raw
    assert b"\x1b[1m" not in terminal.raw
    assert variable != "TERM" or b"\x1b" not in terminal.raw
    # Nothing is kept unless somebody says so.
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == ["chat_tools.py"]


def test_pastes_and_wide_characters_and_another_size_of_the_window(folder: Path, address: str) -> None:
    with chat(folder, address, size=(24, 40)) as terminal:
        pasted = "first line\nsecond line"
        if b"\x1b[?2004h" in terminal.raw:  # a terminal that was asked to marks what is pasted
            pasted = f"\x1b[200~{pasted}\x1b[201~"
        terminal.press(pasted + ENTER)
        terminal.see("You said: first line\nsecond line\n")
        terminal.see(PROMPT)
        terminal.resize(30, 100)
        terminal.press("日本語の長い文章です 🙂" + ENTER)
        terminal.see("You said: 日本語の長い文章です 🙂\n")
        terminal.see(PROMPT)


# -- commands


def test_commands_are_few_and_say_what_they_do(folder: Path, address: str) -> None:
    with chat(folder, address, tools="weather") as terminal:
        for command, words in {
            "/help": "Ctrl-C stops an answer, or drops the line that is typed; Ctrl-D, or Ctrl-C twice, ends.\n",
            "/tools": "weather              Weather in a city.\n",
            "/usage": "0 answers: nothing",
            "/history": "nothing was said yet\n",
            "/stop": "nothing is at work",
            "/foo": "greenroom: there is no command /foo; /help lists them\n",
        }.items():
            terminal.press(command + ENTER)
            terminal.see(words)
            terminal.see(PROMPT)
        terminal.press("/etc/hosts holds what?" + ENTER)
        terminal.see("The tool said: ")  # a path is no command
        terminal.see(PROMPT)
        terminal.press("/usage" + ENTER)
        terminal.see("1 answer: ")
        terminal.see(" tokens in, ")
        terminal.see(PROMPT)
        terminal.press("/exit" + ENTER)
        assert terminal.ended() == 0


# -- ready-made tools


SERVER = """
from mcp.server import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("little")

@server.tool()
def add(a: int, b: int) -> int:
    "Add two numbers."
    return a + b

@server.tool(annotations=ToolAnnotations(readOnlyHint=True))
def look(at: str) -> str:
    "Look at something."
    return f"{at} is fine"

server.run("stdio")
"""


def test_servers_and_a_folder_ask_before_they_change_anything(folder: Path, address: str, backend: str) -> None:
    pytest.importorskip("mcp")
    (folder / "little.py").write_text(SERVER)
    (folder / "work").mkdir()
    (folder / "work" / "a.txt").write_text("what is in it")
    options = ("--mcp", f"{sys.executable} little.py", "--workspace", "work", "--allow", "shell,edit_file")
    with chat(folder, address, "--backend", backend, *options) as terminal:
        terminal.press("/tools" + ENTER)
        terminal.see("those of little, workspace, which are known once the first answer has begun\n")
        terminal.see(PROMPT)
        terminal.press(plan(calling("look", at="it"), calling("read_file", path="a.txt"), answer="{result}!"))
        before = terminal.see("what is in it!\n")
        assert CHOICES not in before
        assert "look → it is fine (" in before
        terminal.see(PROMPT)
        turns = [calling("add", a=2, b=3), calling("shell", command="echo $((20 + 3)); touch b.txt")]
        terminal.press(plan(*turns, answer="{result}!"))
        terminal.see("  a: 2\n  b: 3\n")
        terminal.see(CHOICES)
        terminal.press("y" + ENTER)
        terminal.see("add → 5 (")
        terminal.see("  command: echo $((20 + 3)); touch b.txt\n")
        terminal.see(CHOICES)
        assert not (folder / "work" / "b.txt").exists()
        terminal.press("y" + ENTER)
        terminal.see("shell → 23")
        terminal.see(PROMPT)
        assert (folder / "work" / "b.txt").exists()
        terminal.press("/tools" + ENTER)
        listed = terminal.see("read_file ") + terminal.see(PROMPT)
        assert [each for each in ("add  ", "look  ", "shell ", "edit_file ", "tasks ") if each not in listed] == []
        servers = children_of(terminal.process.pid)
        terminal.press(CTRL_D)
        assert terminal.ended() == 0
    assert [pid for pid in servers if Path(f"/proc/{pid}").exists()] == []
    assert servers or not Path("/proc").exists()


def test_tasks_are_listed(folder: Path, address: str) -> None:
    (folder / "work").mkdir()
    tasks = [{"id": "1", "text": "look", "state": "done"}, {"id": "2", "text": "leap", "state": "pending"}]
    with chat(folder, address, "--workspace", "work") as terminal:
        terminal.press(plan(calling("tasks", tasks=tasks)))
        terminal.see("  [x] look\n")
        terminal.see("  [ ] leap\n")
        terminal.see("Done.\n")
        terminal.see(PROMPT)


def test_a_server_that_does_not_start_is_one_line(folder: Path, address: str) -> None:
    pytest.importorskip("mcp")
    with chat(folder, address, "--mcp", "no-such-program --at-all") as terminal:
        terminal.press("hello" + ENTER)
        terminal.see("greenroom: ")
        terminal.see("no-such-program")
        terminal.see(PROMPT)
        terminal.press(CTRL_D)
        assert terminal.ended() == 0
    assert "Traceback" not in terminal.text


MISUSES = {
    "a tool that there is not": (["--workspace", ".", "--allow", "shell,fly"], "not 'fly'"),
    "tools without a folder": (["--allow", "shell"], "name one with --workspace"),
    "no such folder": (["--workspace", "nowhere"], "there is no folder 'nowhere': make it, or name another one"),
    "an empty command": (["--mcp", ""], "--mcp: "),
    "a quote that does not end": (["--mcp", "python 'a"], "--mcp: "),
    "a URL without a host": (["--mcp", "http://"], "--mcp: "),
    "an empty id": (["--conversation", ""], "--conversation"),
    "an empty file": (["--journal", ""], "--journal takes the path of a file, not ''"),
    "no file": (["--conversation", "c", "--journal", ":memory:"], "--journal takes the path of a file"),
    "an empty variable": (["--key-variable", ""], "--key-variable takes the name"),
    "bytes that are no text": (["--instructions", "caf\udce9"], "--instructions is no text in UTF-8"),
    "a prompt without quotes": (["world"], "nothing takes 'world': put the whole prompt in quotes"),
    "a prompt like an option": (["-1 degrees"], "stands behind --"),
    "a program for a tool": (["--tools", "ends_itself:x"], "ends_itself cannot be imported: SystemExit: 3 ("),
    "a tool that cannot be": (["--tools", "no_tool:x"], "no_tool.py:4)"),  # the user's file, not the library's
}


@pytest.mark.usefixtures("odd_modules")
@pytest.mark.parametrize("name", MISUSES)
def test_options_that_cannot_be_are_one_line(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options, words = MISUSES[name]
    monkeypatch.chdir(folder)
    assert status_of(["run", "hello", "--model", "any", "--base-url", NOWHERE, *options]) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert said.out == ""
    assert line.startswith("greenroom: ")
    assert words in line


# -- conversations that are kept


def test_a_conversation_goes_on_in_another_process(folder: Path, address: str, backend: str) -> None:
    options = ("--backend", backend, "--conversation", "c1")
    with chat(folder, address, *options) as terminal:
        file = folder / "data" / "greenroom" / "chats.db"
        assert f"conversation c1 is kept in {file}\n" in terminal.text
        terminal.press("remember me" + ENTER)
        terminal.see("You said: remember me\n")
        terminal.see(PROMPT)
        terminal.press(CTRL_D)
        assert terminal.ended() == 0
    assert file.parent.stat().st_mode & 0o077 == 0
    done = answered(folder, "hello", "--model", "any", "--base-url", address, *options)  # one answer belongs to it too
    assert (done.returncode, done.stdout) == (0, b"You said: hello\n")
    with chat(folder, address, *options) as terminal:
        assert "4 messages so far" in terminal.text
        terminal.press(UP)
        terminal.see("hello")
        terminal.press(UP)
        terminal.see("remember me")
        terminal.press(CTRL_C)
        terminal.see(PROMPT)
        terminal.press("/history" + ENTER)
        terminal.see("you: remember me\nmodel: You said: remember me\n")


def test_an_answer_goes_on_after_the_process_was_killed(folder: Path, address: str, backend: str) -> None:
    options = ("--backend", backend, "--conversation", "c1", "--journal", "chat.db")
    with chat(folder, address, *options, tools="hang") as terminal:
        terminal.press("go" + ENTER)
        terminal.see("hang()\n")
        terminal.process.kill()
        assert terminal.ended() == -signal.SIGKILL
    with on_terminal(
        [*COMMAND, "--model", "any", "--base-url", address, *options, "--tools", "chat_tools:hang"],
        folder,
        environment(folder),
    ) as again:
        again.see("the answer that was cut short goes on")
        again.see("The tool said: outcome unknown")
        again.see("4 messages so far")
        again.see(PROMPT)


def test_a_conversation_that_another_process_holds_is_not_taken(folder: Path, address: str) -> None:
    with chat(folder, address, "--journal", "chat.db") as terminal:
        id = terminal.text.partition("conversation ")[2].partition(" is kept in chat.db")[0]
        options = ("--conversation", id, "--journal", "chat.db")
        busy = f"greenroom: the last answer of conversation {id} has not ended: another process is at work on it, or "
        more = f"`greenroom run --conversation {id} --journal chat.db` on a terminal goes on with it\n"
        with chat(folder, address, *options, tools="hang") as other:
            other.press("go" + ENTER)
            other.see("hang()\n")
            terminal.press("hello" + ENTER)
            terminal.see(busy + more)
            terminal.see(PROMPT)
            command = [*COMMAND, "--model", "any", "--base-url", address, *options]
            with on_terminal(command, folder, environment(folder)) as late:
                late.see(busy)
                assert late.ended() == 1
            other.press(CTRL_C)
            other.see("stopped, ")
            other.see(PROMPT)
        terminal.press("hello" + ENTER)
        terminal.see("You said: hello\n")


def test_a_file_alone_keeps_a_new_conversation_and_says_its_id(folder: Path, address: str) -> None:
    with chat(folder, address, "--journal", "chat.db") as terminal:
        id = terminal.text.partition("conversation ")[2].partition(" is kept in chat.db")[0]
        terminal.press("hello" + ENTER)
        terminal.see("You said: hello\n")
        terminal.see(PROMPT)
    with closing(sqlite3.connect(folder / "chat.db")) as file:
        tables = [name for (name,) in file.execute("select name from sqlite_master where type = 'table'")]
        kept = str([[*file.execute(f"select * from {name}")] for name in tables])
    assert len(id) > 10
    assert id in kept


def test_a_file_that_cannot_be_is_one_line(folder: Path, address: str) -> None:
    done = answered(folder, "hi", "--model", "any", "--base-url", address, "--journal", "nowhere/chat.db")
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("greenroom: ")
    assert "nowhere" in line


# -- one answer, without a terminal


def answered(folder: Path, *arguments: str, given: bytes = b"", **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(folder, **variables),
        input=given,
        capture_output=True,
        check=False,
    )


def test_a_prompt_comes_from_a_pipe(folder: Path, address: str, backend: str) -> None:
    given = "wie geht ës\n".encode()
    done = answered(folder, "--model", "any", "--base-url", address, "--backend", backend, given=given)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, "You said: wie geht ës\n", b"")


def test_a_conversation_needs_a_terminal_to_write_to(folder: Path) -> None:
    command = ["/bin/sh", "-c", f"{shlex.join(COMMAND)} --model any --base-url {NOWHERE} > out.txt"]
    with on_terminal(command, folder, environment(folder)) as terminal:
        terminal.see("greenroom: there is no prompt: write one, or pipe one in")
        assert terminal.ended() == 2
    assert (folder / "out.txt").read_text() == ""


@pytest.mark.parametrize(
    ("given", "words"),
    [(b"", "the prompt is empty"), (b" \n", "the prompt is empty"), (b"\xff\xfe", "no text in UTF-8")],
)
def test_a_pipe_without_a_prompt_is_one_line(
    given: bytes, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert status_of(["run", "--model", "any", "--base-url", NOWHERE]) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert said.out == ""
    assert line.startswith("greenroom: ")
    assert words in line


def test_a_prompt_is_text_in_any_locale_and_nothing_else(folder: Path, address: str) -> None:
    plain: Any = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    options = ("--model", "any", "--base-url", address)
    done = answered(folder, "hé", *options, **plain)
    assert (done.returncode, done.stdout) == (0, b"You said: h?\n")  # this locale cannot show it
    done = answered(folder, os.fsdecode(b"caf\xe9"), *options)
    assert (done.returncode, done.stderr) == (2, b"greenroom: the prompt is no text in UTF-8\n")


@pytest.mark.parametrize(("closed", "status", "words"), [("2>&-", 0, "You said: hi\n"), (">&-", 2, "is closed")])
def test_where_a_stream_is_closed(folder: Path, address: str, closed: str, status: int, words: str) -> None:
    command = f"{shlex.join([*COMMAND, 'hi', '--model', 'any', '--base-url', address])} {closed}"
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    (line,) = (done.stdout + done.stderr).splitlines(keepends=True)
    assert words in line


def test_what_goes_into_a_pipe_is_what_the_model_wrote(folder: Path, address: str) -> None:
    text = "\x1b[2Jraw\r\n"
    done = answered(folder, Plan((), text).prompt(), "--model", "any", "--base-url", address)
    assert done.stdout == text.encode()


def test_where_nobody_sits_nothing_waits_for_an_answer(folder: Path, address: str, backend: str) -> None:
    prompt = Plan((calling("delete", path="a"), calling("ask")), "{result}").prompt()
    done = answered(
        folder, prompt, "--model", "any", "--base-url", address, "--backend", backend,
        "--tools", "chat_tools:delete", "chat_tools:ask",
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout == b"the user said nobody is at a terminal to answer; go on without asking\n"
    assert b"delete is refused: nobody is at a terminal to approve it; --yes approves every call\n" in done.stderr


def test_yes_approves_every_call(folder: Path, address: str) -> None:
    prompt = Plan((calling("delete", path="a"),), "{result}").prompt()
    done = answered(folder, prompt, "--model", "any", "--base-url", address, "--tools", "chat_tools:delete", "--yes")
    assert (done.returncode, done.stdout) == (0, b"a is gone\n")


@pytest.mark.parametrize(
    ("keys", "status", "words"),
    [
        ("yes" + ENTER, 0, "a is gone!\n"),
        ("/stop" + ENTER, 1, "greenroom: there is no answer: the run was stopped (user)\n"),
        (CTRL_C, 130, "greenroom: interrupted\n"),
    ],
)
def test_one_answer_on_a_terminal_asks_too(
    folder: Path, address: str, backend: str, keys: str, status: int, words: str
) -> None:
    prompt = Plan((calling("delete", path="a"),), "{result}!").prompt()
    command = [*COMMAND, prompt, "--model", "any", "--base-url", address, "--backend", backend]
    with on_terminal([*command, "--tools", "chat_tools:delete"], folder, environment(folder)) as terminal:
        terminal.see(CHOICES)
        terminal.press(keys)
        terminal.see(words)
        assert terminal.ended() == status


def test_ctrl_c_ends_one_answer(folder: Path, address: str, backend: str) -> None:
    command = [*COMMAND, "go", "--model", "any", "--base-url", address, "--backend", backend]
    with on_terminal([*command, "--tools", "chat_tools:hang"], folder, environment(folder)) as terminal:
        terminal.see("hang()\n")
        terminal.press(CTRL_C)
        terminal.see("greenroom: interrupted\n")
        assert terminal.ended() == 130
