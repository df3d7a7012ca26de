"""What a run writes while it answers: the model's text as it comes, notes beside it, and a word of what it waits for.

Whatever a model, a tool or an endpoint says is foreign. On a terminal none of it reaches the screen raw: characters
that would move the cursor, change the terminal or turn the order of the text around are shown as U+FFFD. Text that goes
into a file or a pipe is left as it came.

A status is a line that the next one takes the place of. It is fitted to the width of the moment, so that it is one line
and can be wiped off.
"""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from typing import TextIO

from rich.cells import cell_len, set_cell_size

#: Kinds of characters that do something to a terminal, or to the order of a line, instead of being seen.
_ACTIVE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
#: Of these kinds, what letters and pictures are joined with.
_JOINERS = "\u200c\u200d"

_DIM, _BOLD, _RED, _PLAIN = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[0m"
_WIPE = "\r\x1b[K"

#: Characters of a note; more of a tool's result or of an error says nothing in one line.
NOTE = 200


def safe(text: str, keep: str = "\n\t") -> str:
    """The text as a terminal may have it: nothing in it acts, but for the characters to `keep`."""
    if text.isprintable():
        return text
    return "".join(
        each
        if each in keep or each in _JOINERS or unicodedata.category(each) not in _ACTIVE
        else ""
        if each == "\r"  # of the end of a line
        else "\N{REPLACEMENT CHARACTER}"
        for each in text
    )


def brief(text: str, length: int = NOTE) -> str:
    """How a text begins, in one line that a terminal may have."""
    words = safe(" ".join(text[: length * 4].split()), "")
    return words if len(words) <= length else words[: length - 1] + "…"


def fitted(words: str, width: int) -> str:
    """One line of at most `width` columns; wide characters take two."""
    return words if cell_len(words) <= width else set_cell_size(words, max(0, width - 1)) + "…"


def moves(stream: TextIO) -> bool:
    """Whether it is a terminal whose cursor can be moved."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def has_colour(stream: TextIO) -> bool:
    """Whether it is a terminal, and nobody has asked for no colour."""
    return moves(stream) and not os.environ.get("NO_COLOR")


def print_note(words: str) -> None:
    """One line on standard error, dimmed on a terminal."""
    Screen(sys.stdout, sys.stderr).note(words)


class Screen:
    """Where a run is shown.

    Args:
        answer: where the model's text goes.
        notes: where everything else goes; may be the same.
    """

    def __init__(self, answer: TextIO, notes: TextIO) -> None:
        self._answer = answer
        self._notes = notes
        self._is_terminal = answer.isatty()
        self._moves = moves(notes)
        self._coloured = has_colour(notes)
        self._is_open = False  # the answer stands in the middle of a line
        self._has_status = False

    def text(self, piece: str) -> None:
        """More of the answer."""
        if not piece:
            return
        self._wipe()
        self._is_open = not piece.endswith("\n")
        self._write(self._answer, safe(piece) if self._is_terminal else piece)

    def end_line(self) -> None:
        """What comes next begins a line."""
        self._wipe()
        if self._is_open:
            self._is_open = False
            self._write(self._answer, "\n")

    def note(self, words: str, depth: int = 0) -> None:
        """One dim line beside the answer, its beginning if it is long."""
        self.say("  " * depth + brief(words), _DIM)

    def complain(self, words: str) -> None:
        """One line about what went wrong."""
        self.say(f"greenroom: {brief(words, 1_000)}", _RED)

    def emphasise(self, words: str) -> None:
        """What somebody is to decide about, whole."""
        self.say(words, _BOLD)

    def say(self, words: str, style: str = "") -> None:
        """A text, whole."""
        self.end_line()
        self._write(self._notes, self._styled(safe(words), style) + "\n")

    def status(self, words: str) -> bool:
        """What is waited for, until something else is written. False where it cannot be shown: in the middle of a line,
        or where no cursor can be moved.
        """
        if not self._moves or self._is_open:
            return False
        width = shutil.get_terminal_size().columns
        self._write(self._notes, _WIPE + self._styled(fitted(brief(words), width - 1), _DIM))
        self._has_status = True
        return True

    def interrupt(self, words: str) -> None:
        """A status below what the terminal has shown of the key that was pressed. From a signal handler, which may find
        the streams in the middle of a write: so past them.
        """
        self._is_open, self._has_status = False, self._moves
        said = self._styled(words, _DIM) if self._moves else ""
        os.write(self._notes.fileno(), f"\n{said}".encode())

    def _styled(self, words: str, style: str) -> str:
        return f"{style}{words}{_PLAIN}" if style and self._coloured else words

    @property
    def prompt_style(self) -> tuple[str, str]:
        """What switches the style of a prompt on and off."""
        return (_BOLD, _PLAIN) if self._coloured else ("", "")

    def _wipe(self) -> None:
        if self._has_status:
            self._has_status = False
            self._write(self._notes, _WIPE)

    def _write(self, stream: TextIO, text: str) -> None:
        stream.write(text)
        stream.flush()
