"""Children that stop one after the other, in order: the end of each asks the next one.

Whoever owns them is not woken for each. It wakes when the time of the one that has been asked is over, to kill it, and
when the last one has ended. Nothing here awaits.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from .cell import Cell
from .spec import ChildSpec


class Unwatched(NamedTuple):
    """A child that has been asked to stop, and until when it has time."""

    cell: Cell
    until: float


class Descent:
    """The way down of some children.

    Args:
        now: the clock, in seconds.
        wake: has the owner call `watch` again, or see that `leaving` is None.
    """

    __slots__ = ("_next", "_now", "_until", "_wake", "_watched_until", "leaving")

    def __init__(self, now: Callable[[], float], wake: Callable[[], None]) -> None:
        self._now = now
        self._wake = wake
        self._next: deque[tuple[Cell, ChildSpec]] = deque()
        #: The child that has been asked, until its end.
        self.leaving: Cell | None = None
        self._until = math.inf
        self._watched_until = math.inf

    def begin(self, children: Iterable[tuple[Cell, ChildSpec]]) -> None:
        """Ask the first of these."""
        self._next = deque(children)
        self.ask_next()

    def ask_next(self) -> None:
        """Ask the next one that is not down. To be called at the end of the one that is leaving."""
        while self._next:
            cell, spec = self._next.popleft()
            if cell.is_down:
                continue
            self.leaving = cell
            if spec.shutdown == "kill":
                self._until = math.inf
                cell.kill()
            else:
                self._until = self._now() + spec.grace
                cell.stand_down("shutdown", watched=True)
            if self._until < self._watched_until:
                self._wake()
            return
        self.leaving = None
        self._wake()

    def watch(self) -> float:
        """Kill the one that is leaving if its time is over. Returns when to call this again, unless woken before."""
        if self.leaving is not None and self._until <= self._now():
            self._until = math.inf
            self.leaving.kill()
        self._watched_until = self._until
        return self._until

    def end(self) -> Unwatched | None:
        """Ask nobody any more. Returns the child that is still leaving and has a time, if there is one."""
        self._next.clear()
        cell, self.leaving = self.leaving, None
        return Unwatched(cell, self._until) if cell is not None and self._until < math.inf else None
