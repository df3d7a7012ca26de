"""``greenroom run`` as a conversation: real processes on pseudo-terminals, with Ctrl-C as a key."""

from __future__ import annotations

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

from greenroom.load import Call, Latency, Plan, Turn, simulated_server

from .terminal import CTRL_C, CTRL_D, ENTER, UP, Terminal, children_of, on_terminal

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
        terminal.press(CTRL_D)
        assert terminal.ended() == 0
    assert "Traceback" not in terminal.text
    assert "Warning" not in terminal.text


def test_a_tool_that_fails_does_not_end_the_conversation(folder: Path, address: str) -> None:
    with chat(folder, address, tools="broken") as terminal:
        terminal.press("go" + ENTER)
        terminal.see("broken failed: RuntimeError: no sky today\n")
        terminal.see("The tool said: RuntimeError: no sky today\n")
        terminal.see(PROMPT)
        terminal.press("/exit" + ENTER)
        assert terminal.ended() == 0


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


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said(folder: Path, address: str, backend: str) -> None:
    with chat(folder, address, "--backend", backend) as terminal:
        terminal.press(plan(answer="word " * 400))
        terminal.see("]]\n")
        terminal.see("word word word")
        terminal.press(CTRL_C)
        terminal.see("stopped, ")
        terminal.see(PROMPT)
        terminal.press("/history" + ENTER)
        terminal.see("model: word word word")
        terminal.see(PROMPT)
        terminal.press("go on" + ENTER)
        terminal.see("You said: go on\n")
        terminal.see(PROMPT)
        terminal.press(CTRL_C)
        assert terminal.ended() == 0


def test_ctrl_c_stops_a_tool(folder: Path, address: str, backend: str) -> None:
    with chat(folder, address, "--backend", backend, tools="hang") as terminal:
        terminal.press("go" + ENTER)
        terminal.see("hang()\n")
        terminal.press(CTRL_C)
        terminal.see("hang cancelled: ")
        terminal.see("stopped, ")
        terminal.see(PROMPT)


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
        terminal.press(CTRL_D)
        terminal.see("greenroom: interrupted\n")  # it does not end by itself, ever
        assert terminal.ended() == 130


def test_ctrl_c_twice_ends_the_program(folder: Path, address: str, backend: str) -> None:
    with chat(folder, address, "--backend", backend, tools="stubborn") as terminal:
        terminal.press("go" + ENTER)
        terminal.see("stubborn()\n")
        terminal.press(CTRL_C)
        terminal.see("Ctrl-C once more ends the program")
        terminal.press(CTRL_C)
        terminal.see("greenroom: interrupted\n")
        assert terminal.ended() == 130


def test_ctrl_c_drops_the_line_that_is_typed(folder: Path, address: str) -> None:
    with chat(folder, address) as terminal:
        terminal.press("not this")
        terminal.see("not this")
        terminal.press(CTRL_C)
        terminal.see(PROMPT)
        terminal.press("but this" + ENTER)
        terminal.see("You said: but this\n")
        terminal.see(PROMPT)
        terminal.press(CTRL_C)
        assert terminal.ended() == 0
    assert "You said: not" not in terminal.text


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_in_order_and_leaves_the_answer_to_go_on(
    folder: Path, address: str, backend: str, number: int, status: int
) -> None:
    options = ("--backend", backend, "--conversation", "c1", "--journal", "chat.db")
    with chat(folder, address, *options, tools="hang") as terminal:
        terminal.press("go" + ENTER)
        terminal.see("hang()\n")
        os.kill(terminal.process.pid, number)
        terminal.see("greenroom: ended by SIG")
        assert terminal.ended() == status
        lflag = termios.tcgetattr(terminal.theirs)[3]
    assert lflag & termios.ECHO
    assert lflag & termios.ICANON
    command = [*COMMAND, "--model", "any", "--base-url", address, *options]
    with on_terminal(command, folder, environment(folder)) as again:
        again.see("the answer that was cut short goes on")
        again.see("The tool said: outcome unknown")
        again.see(PROMPT)


# -- what is asked


def test_a_call_is_approved_after_its_arguments_were_shown(folder: Path, address: str, backend: str) -> None:
    with chat(folder, address, "--backend", backend, tools="delete") as terminal:
        terminal.press(plan(calling("delete", path="a.txt", text="one\n  two"), answer="{result}!"))
        terminal.see("May delete run?\n  path: a.txt\n  text:\n    one\n      two\n")
        terminal.see(CHOICES)
        terminal.press("perhaps" + ENTER)
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


def test_always_is_for_one_tool_until_the_next_conversation(folder: Path, address: str) -> None:
    with chat(folder, address, tools="delete") as terminal:
        terminal.press(plan(calling("delete", path="a"), calling("delete", path="b"), answer="{result}!"))
        terminal.see(CHOICES)
        terminal.press("a" + ENTER)
        assert CHOICES not in terminal.see("b is gone!\n")
        terminal.see(PROMPT)
        terminal.press("/new" + ENTER)
        terminal.see("a new conversation\n")
        terminal.see(PROMPT)
        terminal.press(plan(calling("delete", path="c")))
        terminal.see(CHOICES)


@pytest.mark.parametrize("keys", [CTRL_C, "/stop" + ENTER])
def test_the_answer_is_stopped_where_an_approval_is_asked(folder: Path, address: str, backend: str, keys: str) -> None:
    with chat(folder, address, "--backend", backend, tools="delete") as terminal:
        terminal.press(plan(calling("delete", path="a")))
        terminal.see(CHOICES)
        terminal.press(keys)
        terminal.see("stopped, ")
        terminal.see(PROMPT)
    assert "is gone" not in terminal.text


def test_the_end_of_input_refuses(folder: Path, address: str) -> None:
    with chat(folder, address, tools="delete") as terminal:
        terminal.press(plan(calling("delete", path="a"), answer="{result}!"))
        terminal.see(CHOICES)
        terminal.press(CTRL_D)
        terminal.see("denied: not approved!\n")
        terminal.see(PROMPT)


def test_what_is_typed_ahead_approves_nothing(folder: Path, address: str) -> None:
    with chat(folder, address, tools="delete") as terminal:
        terminal.press(plan(calling("delete", path="a"), answer="{result}!") + "y" + ENTER)
        terminal.see(CHOICES)
        terminal.press("n" + ENTER)
        terminal.see("denied: not approved!\n")
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


def test_no_colour_where_nobody_wants_any(folder: Path, address: str) -> None:
    with chat(folder, address, tools="weather", NO_COLOR="1") as terminal:
        terminal.press("go" + ENTER)
        terminal.see("The tool said: ")
        terminal.see(PROMPT)
        terminal.press(CTRL_D)
        assert terminal.ended() == 0
    assert b"\x1b[2m" not in terminal.raw
    assert b"\x1b[1m" not in terminal.raw


def test_several_lines_that_are_pasted_are_one_message(folder: Path, address: str) -> None:
    with chat(folder, address) as terminal:
        terminal.press("\x1b[200~first line\nsecond line\x1b[201~" + ENTER)
        terminal.see("You said: first line\nsecond line\n")
        terminal.see(PROMPT)


def test_wide_characters_and_another_size_of_the_window(folder: Path, address: str) -> None:
    with chat(folder, address, size=(24, 40)) as terminal:
        terminal.resize(30, 100)
        terminal.press("日本語の長い文章です 🙂" + ENTER)
        terminal.see("You said: 日本語の長い文章です 🙂\n")
        terminal.see(PROMPT)


# -- commands


def test_commands_are_few_and_say_what_they_do(folder: Path, address: str) -> None:
    with chat(folder, address, tools="weather") as terminal:
        for command, words in {
            "/help": "Ctrl-C stops an answer, or drops the line that is typed; Ctrl-D ends.\n",
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
    "no such folder": (["--workspace", "nowhere"], "nowhere"),
    "an empty command": (["--mcp", ""], "--mcp: "),
    "a quote that does not end": (["--mcp", "python 'a"], "--mcp: "),
    "a URL without a host": (["--mcp", "http://"], "--mcp: "),
    "an empty id": (["--conversation", ""], "--conversation"),
}


@pytest.mark.parametrize("name", MISUSES)
def test_options_that_cannot_be_are_one_line(folder: Path, name: str) -> None:
    options, words = MISUSES[name]
    done = answered(folder, "hello", "--model", "any", "--base-url", NOWHERE, *options)
    assert (done.returncode, done.stdout) == (2, b"")
    (line,) = done.stderr.decode().splitlines()
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
    with chat(folder, address, *options) as terminal:
        assert "2 messages so far" in terminal.text
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
    options = ("--conversation", "c1", "--journal", "chat.db")
    with chat(folder, address, *options, tools="hang") as terminal:
        terminal.press("go" + ENTER)
        terminal.see("hang()\n")
        command = [*COMMAND, "--model", "any", "--base-url", address, *options]
        with on_terminal(command, folder, environment(folder)) as other:
            other.see("greenroom: the last answer of conversation c1 has not ended: another process is at work on it")
            assert other.ended() == 1
        terminal.press(CTRL_C)
        terminal.see("stopped, ")
        terminal.see(PROMPT)


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


def test_one_answer_belongs_to_its_conversation(folder: Path, address: str) -> None:
    options = ("--model", "any", "--base-url", address, "--conversation", "c1")
    for _ in range(2):
        assert answered(folder, "hello", *options).stdout == b"You said: hello\n"
    with chat(folder, address, "--conversation", "c1") as terminal:
        assert "4 messages so far" in terminal.text


def test_nothing_is_kept_unless_somebody_says_so(folder: Path, address: str) -> None:
    with chat(folder, address) as terminal:
        terminal.press("hello" + ENTER)
        terminal.see("You said: hello\n")
        terminal.see(PROMPT)
        terminal.press(CTRL_D)
        assert terminal.ended() == 0
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == ["chat_tools.py"]


# -- one answer, without a terminal


def answered(folder: Path, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=environment(folder), input=given, capture_output=True, check=False
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
def test_a_pipe_without_a_prompt_is_one_line(folder: Path, given: bytes, words: str) -> None:
    done = answered(folder, "--model", "any", "--base-url", NOWHERE, given=given)
    assert (done.returncode, done.stdout) == (2, b"")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("greenroom: ")
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


def test_one_answer_on_a_terminal_asks_too(folder: Path, address: str, backend: str) -> None:
    prompt = Plan((calling("delete", path="a"),), "{result}!").prompt()
    command = [*COMMAND, prompt, "--model", "any", "--base-url", address, "--backend", backend]
    with on_terminal([*command, "--tools", "chat_tools:delete"], folder, environment(folder)) as terminal:
        terminal.see(CHOICES)
        terminal.press("yes" + ENTER)
        terminal.see("a is gone!\n")
        assert terminal.ended() == 0


def test_ctrl_c_ends_one_answer(folder: Path, address: str, backend: str) -> None:
    command = [*COMMAND, "go", "--model", "any", "--base-url", address, "--backend", backend]
    with on_terminal([*command, "--tools", "chat_tools:hang"], folder, environment(folder)) as terminal:
        terminal.see("hang()\n")
        terminal.press(CTRL_C)
        terminal.see("greenroom: interrupted\n")
        assert terminal.ended() == 130
