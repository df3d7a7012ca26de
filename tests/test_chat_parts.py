"""What a chat shows, as text: what is safe for a terminal, what fits into a line, and words for what happened."""

from __future__ import annotations

import io
import signal
import sys
import unicodedata
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from greenroom import events
from greenroom.cli_chat import command_in, spoken
from greenroom.cli_chat_asking import described
from greenroom.cli_chat_screen import Screen, brief, fitted, has_colour, safe
from greenroom.cli_chat_signals import Signals
from greenroom.cli_chat_turn import Spent, more_for, spent, tasks_in, waits_for, words_for
from greenroom.cli_loop import Interrupted, run_interruptible
from greenroom.providers import ToolCall, Usage, assistant, user

FACTS: dict[str, Any] = {"seq": 1, "time": 0.0, "run_id": "r", "path": ("r",)}


class Tty(io.StringIO):
    """A terminal that writes down what it gets."""

    def isatty(self) -> bool:
        return True


# -- what may reach a terminal


@given(st.text())
def test_what_is_safe_holds_nothing_that_acts(text: str) -> None:
    shown = safe(text)
    acting = [each for each in shown if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert set(acting) <= set("\n\t\u200c\u200d")
    assert safe(shown) == shown


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_what_does_nothing_is_left_as_it_is(text: str) -> None:
    assert safe(text) == text


def test_letters_and_pictures_of_all_kinds_are_seen() -> None:
    for text in ("日本語\u3000です", "1\u202f000\u00a0€", "👩\u200d🔬", "क्\u200dष", "e\u0301"):
        assert safe(text) == text
    assert safe("one\r\ntwo\rthree") == "one\ntwothree"
    assert safe("\x1b]52;c;aGk=\x07") == "\ufffd]52;c;aGk=\ufffd"
    assert safe("\u2066a\u202eb") == "\ufffda\ufffdb"


@given(st.text(), st.integers(2, 60))
def test_a_line_fits_in_columns_not_in_characters(text: str, width: int) -> None:
    assert cell_len(fitted(brief(text), width)) <= width
    assert "\n" not in brief(text)


def test_wide_characters_take_two_columns() -> None:
    assert fitted("日本語です", 10) == "日本語です"
    assert fitted("日本語です", 7) == "日本語…"


def test_a_status_is_one_line_that_is_wiped_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Tty()
    screen = Screen(terminal, terminal)
    assert screen.status("waiting for something that has a long name")
    screen.text("Hi")
    assert not screen.status("in the middle of a line")
    screen.note("a note")
    assert terminal.getvalue() == "\r\x1b[Kwaiting for someth…\r\x1b[KHi\na note\n"


def test_a_file_gets_what_was_written_and_no_status(capsys: pytest.CaptureFixture[str]) -> None:
    answer, notes = io.StringIO(), io.StringIO()
    screen = Screen(answer, notes)
    assert not screen.status("waiting")
    screen.text("\x1b[2J")
    screen.complain("two\nlines")
    screen.text("the end\n")
    screen.end_line()
    assert answer.getvalue() == "\x1b[2J\nthe end\n"
    assert notes.getvalue() == "greenroom: two lines\n"


@pytest.mark.parametrize(
    ("term", "no_color", "coloured"),
    [("xterm", "", True), ("xterm", "1", False), ("dumb", "", False), ("xterm", "0", False)],
)
def test_who_wants_no_colour_gets_none(
    monkeypatch: pytest.MonkeyPatch, term: str, no_color: str, coloured: bool
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("NO_COLOR", no_color)
    assert has_colour(Tty()) is coloured
    assert not has_colour(io.StringIO())


# -- words


def test_what_tools_do_in_words() -> None:
    call_: dict[str, Any] = {**FACTS, "call_id": "c", "tool": "look"}
    assert words_for(events.ToolStarted(**call_, arguments={"at": "it"})) == "look(at='it')"
    assert (
        words_for(events.ToolErrored(**call_, result="OSError: gone", cause="failed")) == "look failed: OSError: gone"
    )
    assert words_for(events.ToolErrored(**call_, result="denied: no", cause="denied")) == "look denied: no"
    late = events.ToolErrored(**call_, result="timed out: after 1 s", cause="timed_out")
    assert words_for(late) == "look timed out: after 1 s"
    assert more_for(events.ToolCompleted(**call_, result="a\nb", seconds=1.25)) == "look → a b (1.2 s)"
    assert words_for(events.ToolCompleted(**call_, result="a")) is None
    assert waits_for(events.ToolProgress(**call_, progress="half")) == "look: half"


def test_tasks_are_no_status() -> None:
    tasks = [{"id": "1", "text": "look", "state": "in_progress"}, {"id": "2", "text": "leap", "state": "done"}]
    event = events.ToolProgress(**FACTS, call_id="c", tool="tasks", progress={"tasks": tasks})
    assert tasks_in(event) == ["[>] look", "[x] leap"]
    assert waits_for(event) is None


@pytest.mark.parametrize("progress", [{"tasks": "many"}, {"tasks": [1]}, {"tasks": [{"text": 1}]}, None, ["tasks"]])
def test_progress_of_another_shape_is_no_list(progress: Any) -> None:
    assert tasks_in(events.ToolProgress(**FACTS, call_id="c", tool="t", progress=progress)) == []


def test_what_was_used_in_words() -> None:
    assert spent(Usage(), None) == "tokens unknown"
    assert spent(Usage(1200, 30, 1230, cached_input_tokens=1000), 0.0123) == (
        "1,200 tokens in (1,000 cached), 30 out, $0.0123"
    )
    assert Spent().line() == "nothing"


def test_arguments_are_shown_whole() -> None:
    long = "x" * 5_000
    assert described({"path": long, "text": "a\n b", "n": 3, "flags": ["é", None]}) == [
        f"path: {long}",
        "text:",
        "  a",
        "   b",
        "n: 3",
        'flags: ["é",null]',
    ]


def test_a_name_cannot_pass_for_another_argument() -> None:
    assert described({"path\ntext": "a"}) == ["path text: a"]


@pytest.mark.skipif(sys.platform == "win32", reason="has no hangups")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_hangup_ends_a_command_unless_it_is_ignored(backend: str) -> None:
    async def command() -> str:
        with anyio.fail_after(10):
            while signal.getsignal(signal.SIGTERM) == default:  # until it listens
                await checkpoint()
            assert signal.getsignal(signal.SIGHUP) != signal.SIG_DFL
            signal.raise_signal(signal.SIGHUP)
            if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
                await anyio.sleep_forever()
        return "to its end"

    default = signal.getsignal(signal.SIGTERM)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with pytest.raises(Interrupted) as caught:
            run_interruptible(command, backend)
        assert caught.value.status == 129
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # by nohup
        assert run_interruptible(command, backend) == "to its end"
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(sys.platform == "win32", reason="has no hangups")
def test_a_conversation_leaves_ignored_signals_alone() -> None:
    before = {each: signal.signal(each, signal.SIG_IGN) for each in (signal.SIGHUP, signal.SIGINT)}
    try:
        with Signals().installed():
            for each in before:
                signal.raise_signal(each)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with Signals().installed():
            with pytest.raises(Interrupted):
                signal.raise_signal(signal.SIGHUP)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_a_message_is_no_command() -> None:
    assert [command_in(each) for each in ("/help", "/HELP", "/nonsense")] == ["/help", "/help", "/nonsense"]
    assert [command_in(each) for each in ("hello", "/etc/hosts", "/help me", "/", "//", "/1")] == [None] * 6


def test_history_in_lines() -> None:
    assert spoken(user("one\ntwo")) == ["you: one", "  two"]
    assert spoken(assistant("so", tool_calls=[ToolCall("c", "look", {"at": 1})])) == [
        "model: so",
        "  calls look",
    ]
    assert len(spoken(user("x" * 10_000))[0]) < 2_100
