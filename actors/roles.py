"""What a cell and those around it expect of each other: the stage it plays on, and the parent that owns it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Protocol

from ..mailbox import Budget
from .dead_letters import DeadLetters
from .exits import Exit
from .home import Home
from .reports import Reports
from .timers import Timers

if TYPE_CHECKING:
    from .cell import Cell


class Stop:
    """The control signal that asks an actor to end. If `watched`, whoever asked kills it when its time is over."""

    __slots__ = ("reason", "watched")

    def __init__(self, reason: str | None, *, watched: bool = False) -> None:
        self.reason = reason
        self.watched = watched


class Verdict(enum.Enum):
    """What follows the end of an incarnation."""

    FINAL = "final"
    AGAIN = "again"
    WAIT = "wait"


class Stage(Protocol):
    """What a system gives each of its cells."""

    home: Home
    dead_letters: DeadLetters
    outside: Budget
    context: Context


class ActorStage(Stage, Protocol):
    """What it gives those that are actors and supervisors besides."""

    @property
    def is_open(self) -> bool:
        """Whether new actors are taken."""
        ...

    timers: Timers
    reports: Reports
    #: A number in [0, 1) for the jitter of backoffs.
    chance: Callable[[], float]


class Parent(Protocol):
    """What a cell asks of whoever owns it. None of these may block."""

    def child_started(self, child: Cell, /) -> None:
        """An incarnation of the child is ready."""

    def child_down(self, child: Cell, exit: Exit, in_place: bool, /) -> Verdict:
        """An incarnation is over. `in_place` says whether it may start again in its own task (AGAIN)."""
        ...

    def child_dismissed(self, child: Cell, /) -> None:
        """Somebody asked a child to stop that waits for its next incarnation (WAIT)."""


class ActorParent(Parent, Protocol):
    """What an actor asks of its supervisor besides."""

    def wake_child(self, child: Cell, /) -> None:
        """Something has come for a dormant child, which needs its task now."""
