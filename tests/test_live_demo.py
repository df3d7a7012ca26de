"""``greenroom demo --live``: the picture as text, and real processes on pseudo-terminals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

if sys.platform == "win32":
    pytest.skip("needs pseudo-terminals", allow_module_level=True)

from rich.console import Console

from greenroom.actors import Node
from greenroom.cli_live import LiveDemo
from greenroom.cli_live_tree import FEW, doing, lines_of
from greenroom.load.attempts import Attempts
from greenroom.load.tally import Tally

from .terminal import CTRL_C, Terminal, children_of, on_terminal, plain

COMMAND = [sys.executable, "-P", "-W", "error", "-X", "dev", "-m", "greenroom", "demo", "--live"]
BACKENDS = ["asyncio", "trio"]
ALTERNATE, MAIN = b"\x1b[?1049h", b"\x1b[?1049l"


def run(number: int, *children: Node, agent: str = "orders", state: str = "running", **facts: Any) -> Node:
    detail = {"agent": agent, "turn": 1}
    return Node(f"run-{number}", "run", state, 1000.0 - number, detail=detail, children=children, **facts)


def tree(*children: Node) -> Node:
    return Node("demo", "system", "open", 12.0, children=children)


def drawn(node: Node, rows: int = 24) -> list[str]:
    return [line.plain for line in lines_of(node, rows)]


# -- the tree as lines


def test_few_runs_are_shown_one_by_one() -> None:
    clerk = Node("clerk:c1", "tool", "running", 0.5, children=(run(9, agent="clerk"),))
    keepers = Node("carriers", "supervisor", "running", 12.0, children=(
        Node("carriers/north", "actor", "restarting", 12.0, depth=7, restarts=1),
    ))  # fmt: skip
    assert drawn(tree(run(1, clerk), keepers)) == [
        "demo system  open  12.0 s",
        "├─ carriers supervisor  running  12.0 s",
        "│  └─ north actor  restarting  12.0 s  7 waiting  1 restart",
        "└─ run-1 orders  running  16 min 39 s  turn 1",
        "   └─ clerk:c1 tool  running  500 ms",
        "      └─ run-9 clerk  running  16 min 31 s  turn 1",
    ]


def test_many_runs_are_counted_by_what_they_do() -> None:
    tool = Node("ship:c1", "tool", "running", 0.5)
    runs = [run(n) for n in range(80)] + [run(n, tool, restarts=1) for n in range(80, 100)]
    queued = [Node(f"run-{n}", "run", "starting", 1.0, detail={"agent": "orders", "turn": 0}) for n in range(100, 150)]
    lines = drawn(tree(*runs, *queued))
    assert lines[1] == "└─ 150 runs of orders, 20 restarts"
    assert lines[2].endswith("  80 asking the model  20 using tools  50 waiting")
    assert lines[3].split() == ["turn", "1:", "100", "tool", "ship:", "20"]
    assert lines[4].startswith("   ├─ run-0 orders")  # the oldest, with what is below them
    assert lines[-1] == "   └─ … 148 younger"


def test_agents_are_counted_apart() -> None:
    lines = drawn(tree(*[run(n) for n in range(FEW + 1)], *[run(n, agent="clerk") for n in range(FEW + 2)]))
    assert [line for line in lines if "runs of" in line] == ["├─ 6 runs of orders", "└─ 7 runs of clerk"]


@pytest.mark.parametrize(
    ("node", "what"),
    [
        (run(1), "asking the model"),
        (run(1, Node("ship:c1", "tool", "running", 0.1)), "using tools"),
        (run(1, state="stopping"), "ending"),
        (run(1, state="restarting"), "waiting"),
        (run(1, state="paused"), "waiting"),
        (Node("run-1", "run", "running", 0.1, detail={"agent": "a", "turn": 0}), "waiting"),
    ],
)
def test_what_a_run_is_doing(node: Node, what: str) -> None:
    assert doing(node) == what


def leaf(kind: str, state: str, agent: str) -> Node:
    return Node("x:1", kind, state, 1.0, detail={"agent": agent} if kind == "run" else {})


def branch(kind: str, below: list[Node]) -> Node:
    return Node("y", kind, "running", 1.0, detail={"agent": "a"}, children=tuple(below))


_LEAVES = st.builds(
    leaf,
    st.sampled_from(["run", "tool", "actor", "supervisor"]),
    st.sampled_from(["starting", "running", "restarting", "stopping", "ended"]),
    st.sampled_from(["a", "b"]),
)
_NODES: st.SearchStrategy[Node] = st.recursive(
    _LEAVES,
    lambda children: st.builds(branch, st.sampled_from(["run", "tool"]), st.lists(children, max_size=12)),
    max_leaves=60,
)


@given(st.lists(_NODES, max_size=30), st.integers(1, 40))
def test_any_tree_fits_into_the_rows_there_are(nodes: Sequence[Node], rows: int) -> None:
    lines = drawn(tree(*nodes), rows)
    assert 1 <= len(lines) <= rows
    whole = drawn(tree(*nodes), 10_000)
    if len(whole) > rows:
        assert lines[-1] == f"… {len(whole) - rows + 1} more lines"


@pytest.mark.parametrize(("rows", "columns"), [(24, 80), (10, 40), (4, 20), (60, 200)])
def test_a_picture_has_the_size_of_the_window(rows: int, columns: int) -> None:
    console = Console(width=columns, height=rows, force_terminal=True, color_system=None)
    live = LiveDemo(1000, "asyncio", console)
    picture = live.picture(tree(*[run(n) for n in range(1000)]), Tally(), Attempts(ok=10_000))
    with console.capture() as captured:
        console.print(picture)
    lines = captured.get().splitlines()
    assert len(lines) == rows
    assert max(map(len, lines)) <= columns
    assert lines[-1].lstrip().startswith("k kill")


# -- the whole, on a terminal


def live(
    tmp_path: Path, *options: str, size: tuple[int, int] = (24, 80), program: Sequence[str] = COMMAND, **variables: str
) -> Any:
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    return on_terminal([*program, "--faults", "0", *options], tmp_path, environment | variables, size)


def is_as_before(terminal: Terminal, before: list[Any]) -> int:
    """Whether the terminal shows its main screen and its cursor, and echoes lines."""
    after = terminal.modes()
    shown = terminal.raw.rfind(MAIN) > terminal.raw.rfind(ALTERNATE) >= 0
    cursor = terminal.raw.rfind(b"\x1b[?25h") > terminal.raw.rfind(b"\x1b[?25l")
    return shown and cursor and after == before and after[3] & termios.ICANON and after[3] & termios.ECHO


@pytest.mark.parametrize("backend", BACKENDS)
def test_keys_kill_stop_and_end(tmp_path: Path, backend: str) -> None:
    with live(tmp_path, "--runs", "60", "--latency", "20s-20s", "--backend", backend) as terminal:
        before = terminal.modes()
        terminal.see("60 runs of orders")
        terminal.see("k kill a carrier")
        servers = children_of(terminal.process.pid)
        terminal.press("k")
        terminal.see("'carriers/north' ended (killed); it is started again in 1 s")
        terminal.see("north actor  restarting")
        terminal.see("1 restart")
        terminal.see("north actor  running")  # it is back
        terminal.press("s")
        terminal.see("is stopped")
        terminal.see("1 of 60 runs ended")
        terminal.press("x\x1b[A")  # means nothing
        terminal.press("q")
        assert terminal.ended() == 0
        assert is_as_before(terminal, before)
    table = plain(terminal.raw[terminal.raw.rfind(MAIN) :])
    for words in (
        "stopped            60",
        "lost               0",
        "not compared, because runs were stopped by hand (60)",
    ):
        assert words in table
    assert "Traceback" not in terminal.text
    assert [pid for pid in servers if Path(f"/proc/{pid}").exists()] == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_ends_by_itself_with_the_table(tmp_path: Path, backend: str) -> None:
    with live(tmp_path, "--runs", "40", "--latency", "50ms-100ms+5ms", "--backend", backend) as terminal:
        before = terminal.modes()
        assert terminal.ended() == 0
        assert is_as_before(terminal, before)
    table = plain(terminal.raw[terminal.raw.rfind(MAIN) :])
    assert "client and server agree" in table
    assert "lost               0" in table


@pytest.mark.parametrize(
    ("how", "backend"), [("Ctrl-C", "asyncio"), ("Ctrl-C", "trio"), ("SIGTERM", "asyncio"), ("SIGHUP", "trio")]
)
def test_an_interrupt_leaves_the_terminal_as_it_was(tmp_path: Path, backend: str, how: str) -> None:
    with live(tmp_path, "--runs", "20", "--latency", "20s-20s", "--backend", backend) as terminal:
        before = terminal.modes()
        terminal.see("20 runs of orders")
        assert not terminal.modes()[3] & termios.ICANON
        if how == "Ctrl-C":
            terminal.press(CTRL_C)
            terminal.see("greenroom: interrupted\n")
        else:
            os.kill(terminal.process.pid, getattr(signal, how))
            terminal.see(f"greenroom: ended by {how}\n")
        assert terminal.ended() == {"Ctrl-C": 130, "SIGTERM": 143, "SIGHUP": 129}[how]
        assert is_as_before(terminal, before)


CRASHING = """
import sys
from greenroom import cli, cli_live

drawn = []
whole = cli_live.lines_of

def crash(tree, rows):
    drawn.append(tree)
    if len(drawn) > 2:
        raise ZeroDivisionError("a bug")
    return whole(tree, rows)

cli_live.lines_of = crash
sys.exit(cli.status_of(sys.argv[1:]))
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_crash_leaves_the_terminal_as_it_was(tmp_path: Path, backend: str) -> None:
    program = [sys.executable, "-P", "-c", CRASHING, "demo", "--live"]
    options = ("--runs", "20", "--latency", "20s-20s", "--backend", backend)
    with live(tmp_path, *options, program=program) as terminal:
        before = terminal.modes()
        terminal.see("ZeroDivisionError: a bug")
        assert terminal.ended() == 1
        assert is_as_before(terminal, before)


def test_pictures_are_few(tmp_path: Path) -> None:
    """Some in a second, and fewer where drawing takes long."""
    with live(tmp_path, "--runs", "300", "--latency", "2s-2s") as terminal:
        assert terminal.ended() == 0
        seconds = float(terminal.text.partition("duration           ")[2].partition(" s,")[0])
    pictures = terminal.text.count("k kill a carrier")
    assert 3 <= pictures <= 4 * seconds + 3


def test_a_closed_window_ends_it_in_order(tmp_path: Path) -> None:
    with live(tmp_path, "--runs", "20", "--latency", "20s-20s") as terminal:
        terminal.see("20 runs of orders")
        servers = children_of(terminal.process.pid)
        assert terminal.hang_up() == 129
    assert [pid for pid in servers if Path(f"/proc/{pid}").exists()] == []


def test_a_terminal_that_cannot_be_drawn_on_is_one_line(tmp_path: Path) -> None:
    with live(tmp_path, TERM="dumb") as terminal:
        assert terminal.ended() == 2
    assert terminal.text == "greenroom: --live needs a terminal to draw on\n"


@pytest.mark.parametrize(
    ("options", "words"), [(["--live"], "--live needs a terminal to draw on"), (["--live", "--crash"], "two demos")]
)
def test_without_a_terminal_it_is_one_line(options: list[str], words: str) -> None:
    command = [sys.executable, "-P", "-m", "greenroom", "demo", *options]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("greenroom: ")
    assert words in line
