"""A terminal for tests: a program on a pseudo-terminal, keys that are pressed, and what can be seen.

The program is the leader of a session of its own, with the terminal for its controlling one, so that Ctrl-C is a key
here as it is at a desk.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CTRL_C, CTRL_D, CTRL_Z, ENTER, UP = "\x03", "\x04", "\x1a", "\r", "\x1b[A"
#: Seconds that something to be seen may take, on a machine that is busy with other things.
PATIENCE = 30.0
#: What takes the terminal and becomes the program.
_TAKE = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
_CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\x01|\x02|\x1b(?:\[[0-9;?]*)?$")  # the last: one that is cut off


def plain(raw: bytes) -> str:
    """What was written, without the codes that style it or move the cursor."""
    return _CODES.sub("", raw.decode(errors="replace")).replace("\r", "")


class Terminal:
    """A program and its terminal.

    Attributes:
        process: the program.
        raw: the bytes that it has written so far.
    """

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str], size: tuple[int, int]):
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self.theirs = theirs
        self.raw = b""
        self._seen = 0
        self._is_open = True
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE, *command],
            cwd=folder,
            env={"TERM": "xterm", "LANG": "C.UTF-8", **environment},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )

    @property
    def text(self) -> str:
        """All that was written, without the codes that style it or move the cursor."""
        return plain(self.raw)

    def press(self, keys: str) -> None:
        """Press keys. What was written until now is no answer to them."""
        self._read(0.0)
        self._seen = len(self.text)
        os.write(self._ours, keys.encode())

    def see(self, words: str) -> str:
        """Wait until the words stand there, behind the last key and what was seen; returns the text up to them."""
        until = time.monotonic() + PATIENCE
        while True:
            text = self.text
            found = text.find(words, self._seen)
            if found >= 0:
                before, self._seen = text[self._seen : found], found + len(words)
                return before
            ended = self.process.poll() is not None
            if not self._read(0.2) and (ended or time.monotonic() > until):
                raise AssertionError(f"{words!r} is not to be seen in {text[self._seen :]!r}; all: {text!r}")

    def ended(self) -> int:
        """Wait for the end; returns the exit status."""
        until = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            if time.monotonic() > until:
                raise AssertionError(f"it does not end; all: {self.text!r}")
            self._read(0.05)
        while self._read(0.0):
            pass
        assert self.process.returncode is not None
        return self.process.returncode

    def modes(self) -> list[Any]:
        """The modes of the terminal."""
        return termios.tcgetattr(self.theirs)

    def resize(self, rows: int, columns: int) -> None:
        """Make the window another one."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.killpg(self.process.pid, signal.SIGWINCH)

    def hang_up(self) -> int:
        """Close the window, with the program in it; returns its exit status."""
        os.close(self._ours)
        os.close(self.theirs)
        self._is_open = False
        return self.process.wait(PATIENCE)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        try:
            piece = os.read(self._ours, 65536)
        except OSError:  # nobody has the terminal any more
            return False
        self.raw += piece
        return bool(piece)

    def close(self) -> None:
        """Kill what is left."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self._is_open:
            os.close(self._ours)
            os.close(self.theirs)


@contextmanager
def on_terminal(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], size: tuple[int, int] = (50, 200)
) -> Generator[Terminal]:
    """Start a program on a terminal of so many rows and columns."""
    terminal = Terminal(command, folder, environment, size)
    try:
        yield terminal
    finally:
        terminal.close()


def children_of(pid: int) -> list[int]:
    """The processes that `pid` has started and that still are; Linux only."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
        if parent == pid:
            found.append(int(path.parent.name))
    return found
