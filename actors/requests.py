"""What wakes a supervisor's task: the control signals that its children, and others, send it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from ..mailbox import Reply
from .cell import Cell
from .restart import RestartGroup
from .roles import Stop
from .spec import ChildSpec


class ChildChanged:
    """A child that the supervisor waits for has changed its state."""

    __slots__ = ()


class ChildWanted:
    """Somebody waits for a child that the supervisor starts when it has time."""

    __slots__ = ("cell", "id", "reply", "spec")

    def __init__(self, id: str, spec: ChildSpec) -> None:
        self.id = id
        self.spec = spec
        self.reply = Reply()
        self.cell: Cell | None = None


class ChildUnwanted:
    """Somebody wants a child stopped for good."""

    __slots__ = ("id", "reply")

    def __init__(self, id: str) -> None:
        self.id = id
        self.reply = Reply()


class Restarts:
    """A plan that the supervisor's task is to carry out: stop and forget now, start when it is `due`.

    `cells` are the children that it was made for: meanwhile another one may have got the id of one that ended.
    """

    __slots__ = ("cells", "due", "plan")

    def __init__(self, plan: RestartGroup, due: float, cells: Mapping[str, Cell]) -> None:
        self.plan = plan
        self.due = due
        self.cells = cells


Signal: TypeAlias = "Stop | Restarts | ChildWanted | ChildUnwanted | ChildChanged"
CHANGED = ChildChanged()
