"""Lines that somebody types: with the line editing of the standard library's `readline` where there is one.

They are read in the main thread, because only there Ctrl-C leaves a read that waits. Of several lines that are pasted,
a new `readline` makes one text by itself; an older one, or its stand-in, hands them out one by one, so the lines that
are there at once are put together here.
"""

from __future__ import annotations

import select
import sys
from contextlib import suppress
from typing import Any, TextIO

from .cli_chat_signals import Signals

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


class LeftLine(Exception):
    """Ctrl-C was pressed while a line was typed; `typed` is what stood there."""

    def __init__(self, typed: str) -> None:
        super().__init__()
        self.typed = typed


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
        self._pastes_whole = readline is not None and "libedit" not in (readline.__doc__ or "")
        if readline is not None:
            readline.set_auto_history(False)

    def read(self, prompt: str, *, style: tuple[str, str] = ("", ""), fresh: bool = False) -> str:
        """One line, or several that were pasted.

        Args:
            prompt: what stands before it.
            style: what switches the prompt's style on and off.
            fresh: whether what was typed before the prompt is thrown away, because it cannot be meant for it.

        Raises:
            LeftLine: Ctrl-C.
            EOFError: Ctrl-D, or the terminal is gone.
        """
        if fresh and termios is not None:
            with suppress(termios.error):
                termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
        with self._signals.instead(_leave):
            lines = [self._line(prompt, style)]
            while self._edited and not self._pastes_whole and _is_more():
                lines.append(self._line("", ("", "")))
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
        while True:
            try:
                return input(f"{on}{prompt}{off}")
            except UnicodeDecodeError:
                self._notes.write("that was no text in the terminal's encoding; once more\n")


def _leave() -> None:
    raise LeftLine(readline.get_line_buffer() if readline is not None else "")


def _is_more() -> bool:
    return bool(select.select([sys.stdin], [], [], _PASTE)[0])
