"""Single keys from a terminal, in an event loop; and the terminal as it was afterwards, whatever happens.

The terminal is switched to hand out each key as it is pressed, without showing it. Ctrl-C stays a signal. Ctrl-Z is
switched off: a shell that took over in between would find the terminal in the wrong state.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from typing import Any

import anyio

try:
    import termios
except ImportError:  # Windows
    termios: Any = None

_IFLAG, _OFLAG, _CFLAG, _LFLAG, _ISPEED, _OSPEED, _CC = range(7)
#: The value of a control character that is switched off.
_OFF = b"\x00"


def has_keys(fd: int) -> bool:
    """Whether single keys can be read there."""
    return termios is not None and os.isatty(fd)


@contextmanager
def single_keys(fd: int) -> Generator[None]:
    """The block in which the terminal hands out single keys."""
    before = termios.tcgetattr(fd)
    changed = termios.tcgetattr(fd)
    changed[_LFLAG] &= ~(termios.ECHO | termios.ICANON)
    changed[_CC][termios.VMIN], changed[_CC][termios.VTIME] = 1, 0
    changed[_CC][termios.VSUSP] = _OFF
    try:
        termios.tcsetattr(fd, termios.TCSADRAIN, changed)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSAFLUSH, before)  # keys that nobody has read are not for the shell


async def pressed(fd: int) -> AsyncIterator[str]:
    """Each key as it is pressed. Ends where the terminal has gone."""
    while True:
        await anyio.wait_readable(fd)
        try:
            keys = os.read(fd, 64)
        except OSError:
            return
        if not keys:
            return
        if not keys.startswith(b"\x1b"):  # of an arrow key or a paste, the rest is no letter that was meant
            for key in keys.decode(errors="replace"):
                yield key
