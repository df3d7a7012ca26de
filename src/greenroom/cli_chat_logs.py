"""What the library logs while somebody sits at the terminal: kept until it can be shown between two lines.

It is logged in other threads, and must not go across what is being written or typed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager

from .cli_chat_screen import Screen, brief

#: Lines that are kept; of more, the latest.
_KEPT = 20


class Told(logging.Handler):
    """Gives each line to a function."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        self._tell(brief(record.getMessage()))


class Logs:
    """Lines that wait to be shown."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._waiting: deque[str] = deque(maxlen=_KEPT)
        self.add = self._waiting.append

    def show(self) -> None:
        """Show them, from the thread that has the terminal."""
        while self._waiting:
            self._screen.note(self._waiting.popleft())


@contextmanager
def logs_to(tell: Callable[[str], None]) -> Generator[None]:
    """The block in which the library's warnings go to a function, in whatever thread, and nowhere else."""
    log = logging.getLogger("greenroom")
    told, spread = Told(tell), log.propagate
    log.addHandler(told)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(told)
        log.propagate = spread


@contextmanager
def shown_logs(screen: Screen) -> Generator[Logs]:
    """The block in which they wait; what is left is shown at its end."""
    logs = Logs(screen)
    with logs_to(logs.add):
        try:
            yield logs
        finally:
            logs.show()
