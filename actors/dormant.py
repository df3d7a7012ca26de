"""Actors that have no task yet, because they have nothing to do.

An actor without code for its start and its end does nothing before something comes for it. So it has no task before: it
costs a quarter of one that has, and one that is told something at once never parks. Nobody can tell the difference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .actor import Actor

if TYPE_CHECKING:
    from .cell import Cell


class Dormant:
    """Stands in a dormant actor's mailbox where a parked receiver's event would: whoever sets it starts the task."""

    __slots__ = ("_cell", "_wake")

    def __init__(self, cell: Cell, wake: Callable[[Cell], None]) -> None:
        self._cell = cell
        self._wake = wake

    def set(self) -> None:
        """A message has come, or a signal."""
        self._wake(self._cell)


def may_lie_dormant(start: object) -> bool:
    """Whether nobody can tell that it has no task yet: an Actor class without code for its start and its end."""
    return (
        isinstance(start, type)
        and issubclass(start, Actor)
        and start.started is Actor.started
        and start.stopping is Actor.stopping
        and start.__init__ is Actor.__init__
        and start.__new__ is Actor.__new__
    )
