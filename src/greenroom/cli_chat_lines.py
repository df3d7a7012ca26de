"""Lines that somebody types: with the line editing of the standard library's `readline` where there is one.

They are read in the main thread, because only there Ctrl-C leaves a read that waits. Several lines that are pasted are
one text: a new `readline` that is told so asks the terminal to put marks around what is pasted. Of an older one, its
stand-in or a plain terminal they come one by one, so the lines that are there at once are put together here.

Ctrl-Z hands the terminal back as it was before, and a line that was begun stands there again afterwards. Keys that are
pressed while an answer is written do not show in it; they show where the next line is typed.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TextIO

from .cli_chat_screen import moves
from .cli_chat_signals import Signals
from .cli_loop import Interrupted

try:
    import readline
except ImportError:  # Windows
    readline: Any = None
try:
    import termios
except ImportError:
    termios: Any = None

#: Seconds in which the next line of a pasted text comes.
_PASTE = 0.03
#: What `readline` is told of characters that take no room in a prompt.
_NO_ROOM = "\001{}\002"
#: The first `readline` that knows of marks around what is pasted.
_MARKS = 0x0801
_LFLAG = 3


class LeftLine(Exception):
    """Ctrl-C was pressed while a line was typed; `typed` is what stood there."""

    def __init__(self, typed: str) -> None:
        super().__init__()
        self.typed = typed


class _Suspended(Exception):
    """Ctrl-Z was pressed while a line was typed."""


class Lines:
    """The terminal as something that is read.

    Args:
        signals: who gets Ctrl-C.
        notes: where a prompt is written if standard output is no terminal.
    """

    def __init__(self, signals: Signals, notes: TextIO) -> None:
        self._signals = signals
        self._notes = notes
        self._edited = sys.stdout.isatty()
        #: The modes in which the terminal shows keys, while it does not.
        self._shown: list[Any] | None = None
        self._pastes_whole = self._edited and _knows_marks() and moves(sys.stdout)
        if readline is not None:
            readline.set_auto_history(False)
            if self._pastes_whole:
                readline.parse_and_bind("set enable-bracketed-paste on")  # Python has switched it off

    def read(self, prompt: str, *, style: tuple[str, str] = ("", ""), fresh: bool = False) -> str:
        """One line, or several that were pasted.

        Args:
            prompt: what stands before it.
            style: what switches the prompt's style on and off.
            fresh: whether what was typed before the prompt is thrown away, because it cannot be meant for it.

        Raises:
            LeftLine: Ctrl-C.
            EOFError: Ctrl-D, or the terminal is gone.
            Interrupted: another signal; what comes next begins a line.
        """
        if fresh and termios is not None:
            with suppress(termios.error):
                termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
        try:
            with self._signals.instead(_leave), self._seen():
                lines = [self._line(prompt, style)]
                while self._edited and not self._pastes_whole and _is_more():
                    lines.append(self._line("", ("", "")))
        except Interrupted:
            with suppress(OSError):  # the terminal may be gone
                self._notes.write("\n")
                self._notes.flush()
            raise
        return "\n".join(lines).encode(errors="replace").decode()  # half a character is none

    def remember(self, text: str) -> None:
        """Offer a text again, where the arrow keys go through what was said."""
        if readline is not None and text.strip():
            readline.add_history(text)

    def _line(self, prompt: str, style: tuple[str, str]) -> str:
        if not self._edited:
            self._notes.write(prompt)
            self._notes.flush()
            line = sys.stdin.readline()
            if not line:
                raise EOFError
            return line.rstrip("\n")
        on, off = (_NO_ROOM.format(each) if readline is not None and each else each for each in style)
        begun = ""
        while True:
            try:
                with _suspendable(begun):
                    return input(f"{on}{prompt}{off}")
            except UnicodeDecodeError:
                self._notes.write("that was no text in the terminal's encoding; once more\n")
            except _Suspended:
                begun = _typed()
                before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)  # what it means to any program
                signal.raise_signal(signal.SIGTSTP)
                signal.signal(signal.SIGTSTP, before)

    @contextmanager
    def unseen(self) -> Generator[None]:
        """The block in which the terminal does not show keys that are pressed; a line that is read meanwhile does."""
        if termios is None or readline is None:
            yield
            return
        with suppress(termios.error):  # the terminal may be gone
            self._shown = termios.tcgetattr(sys.stdin.fileno())
        before = signal.getsignal(signal.SIGTSTP)
        try:
            self._hide()
            if before == signal.SIG_DFL:  # else whoever has started us wants no stops
                signal.signal(signal.SIGTSTP, self._suspend)
            yield
        finally:
            signal.signal(signal.SIGTSTP, before)
            self._show()
            self._shown = None

    @contextmanager
    def _seen(self) -> Generator[None]:
        """The block in which they show again: `readline` shows them only where the terminal would."""
        self._show()
        try:
            yield
        finally:
            self._hide()

    def _show(self) -> None:
        if self._shown is not None:
            _set_modes(self._shown)

    def _hide(self) -> None:
        if self._shown is not None:
            modes = [*self._shown]
            modes[_LFLAG] &= ~termios.ECHO
            _set_modes(modes)

    def _suspend(self, number: int, _frame: FrameType | None) -> None:
        """Ctrl-Z while an answer is on its way: hand out the terminal as it was."""
        self._show()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        signal.signal(number, self._suspend)  # here it goes on
        self._hide()


def _leave() -> None:
    raise LeftLine(_typed())


def _typed() -> str:
    """What stands on the line that is being typed."""
    return readline.get_line_buffer() if readline is not None else ""


def _knows_marks() -> bool:
    return (
        readline is not None
        and "libedit" not in (readline.__doc__ or "")
        and getattr(readline, "_READLINE_VERSION", 0) >= _MARKS
    )


@contextmanager
def _suspendable(begun: str) -> Generator[None]:
    """The block in which a line is typed, with what is `begun` of it, and Ctrl-Z raises `_Suspended`: only Python's own
    end of a read gives the terminal back its modes.
    """
    if readline is None or not hasattr(signal, "SIGTSTP"):
        yield
        return
    before = signal.getsignal(signal.SIGTSTP)
    if before == signal.SIG_IGN:  # whoever has started us wants no stops
        yield
        return
    readline.set_startup_hook(lambda: readline.insert_text(begun))
    try:
        signal.signal(signal.SIGTSTP, _suspend)
        yield
    finally:
        signal.signal(signal.SIGTSTP, before)
        readline.set_startup_hook(None)


def _set_modes(modes: list[Any]) -> None:
    """Set those of the terminal, unless it is gone or somebody else has it: who sets them then is stopped."""
    terminal = sys.stdin.fileno()
    with suppress(termios.error, OSError):
        if os.tcgetpgrp(terminal) == os.getpgrp():
            termios.tcsetattr(terminal, termios.TCSANOW, modes)


def _suspend(_number: int, _frame: FrameType | None) -> None:
    raise _Suspended


def _is_more() -> bool:
    return bool(select.select([sys.stdin], [], [], _PASTE)[0])
