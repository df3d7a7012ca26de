"""The children of one incarnation of a supervisor: who they are, in start order, and how often they came back.

Here the rules of `restart.decide` meet the particulars of a child: its own window of restarts, where it has one, and
its backoff. Nothing here awaits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from .backoff import Pace
from .cell import Cell
from .exits import Exit
from .restart import Child, Forget, Intensity, Plan, RestartGroup, decide
from .spec import ChildSpec, Supervisor


class ChildCount(msgspec.Struct, frozen=True):
    """The direct children of a supervisor, counted.

    `specs` are all that it knows of, `active` those of which an incarnation is running, starting or stopping.
    """

    specs: int
    active: int
    supervisors: int
    workers: int


class Ruling(NamedTuple):
    """What is to be done about an end, in how many seconds, and the window that its restart was counted in."""

    plan: Plan
    delay: float
    window: Intensity


class Roster:
    """The children, by id.

    Args:
        supervisor: the description that the children are held to.
    """

    __slots__ = ("_intensity", "_paces", "_supervisor", "_windows", "cells", "specs")

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._intensity = Intensity(supervisor.intensity, supervisor.period)
        #: Of the children that have one of their own.
        self._windows: dict[str, Intensity] = {}
        self._paces: dict[str, Pace] = {}
        self.specs: dict[str, ChildSpec] = {}
        #: In start order.
        self.cells: dict[str, Cell] = {}

    def add(self, spec: ChildSpec, cell: Cell) -> None:
        """List a child at the end of the order. Its `spec` may be that of others as well, and have another id."""
        self.specs[cell.id] = spec
        self.cells[cell.id] = cell

    def strike_off(self, id: str) -> None:
        """Know nothing of a child any more, neither of its past."""
        del self.specs[id], self.cells[id]
        if self._windows:
            self._windows.pop(id, None)
        if self._paces:
            self._paces.pop(id, None)

    def clear(self) -> None:
        """Let go of all."""
        self.specs.clear()
        self.cells.clear()

    def rule(self, child: Cell, exit: Exit, now: float, chance: Callable[[], float]) -> Ruling:
        """Decide about the end of a child, and count its restart if there is to be one."""
        supervisor = self._supervisor
        spec = self.specs[child.id]
        window = self._intensity if spec.intensity is None else self._window_of(child.id, spec.intensity, spec.period)
        if spec.restart == "temporary":
            return Ruling(Forget(), 0.0, window)
        own = Child(child.id, spec.restart, child.dismissed)
        # Only the group strategies look at the siblings.
        siblings = () if supervisor.strategy == "one_for_one" else self._siblings()
        plan = decide(supervisor.strategy, siblings, window, own, exit, now)
        if spec.backoff is None or not isinstance(plan, RestartGroup):
            return Ruling(plan, 0.0, window)
        pace = self._paces.get(child.id)
        if pace is None:
            pace = self._paces[child.id] = Pace(spec.backoff)
        return Ruling(plan, pace.next_delay(now, chance(), was_ready=child.announced), window)

    def _window_of(self, id: str, limit: int, period: float) -> Intensity:
        window = self._windows.get(id)
        if window is None:
            window = self._windows[id] = Intensity(limit, period)
        return window

    def _siblings(self) -> list[Child]:
        return [Child(id, spec.restart) for id, spec in self.specs.items()]

    def is_last_significant(self, id: str) -> bool:
        """Whether the end of this significant child of its own accord ends the supervisor."""
        if self._supervisor.auto_shutdown == "any_significant":
            return True
        return not any(spec.significant for each, spec in self.specs.items() if each != id)

    def count(self) -> ChildCount:
        """How many there are."""
        supervisors = sum(isinstance(spec.start, Supervisor) for spec in self.specs.values())
        return ChildCount(
            specs=len(self.specs),
            active=sum(not cell.is_down for cell in self.cells.values()),
            supervisors=supervisors,
            workers=len(self.specs) - supervisors,
        )
