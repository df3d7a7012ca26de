"""What is left of the limits that a run and those above it have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from .ledger import BOUNDS, dollars
from .limits import Limits

if TYPE_CHECKING:
    from .run_cell import RunCell
    from .tool_cell import ToolCell


def remaining(run: RunCell) -> Limits:
    """The least that is left of each limit, of a run and of those above it."""
    left: dict[str, Any] = {"turns": None, "depth": None}
    ledger = run.spending.ledger
    if ledger is not None:
        left.update({name: ledger.left(name) for name in BOUNDS})
        if left["cost"] is not None:
            left["cost"] = dollars(left["cost"])
    turns = run.options.limits.turns
    if turns is not None:
        left["turns"] = max(0, turns - (run.machine.turn if run.machine is not None else 0))
    for level, each in enumerate(run.line()):
        depth = each.options.limits.depth
        if depth is not None:
            here = max(0, depth - level)
            left["depth"] = here if left["depth"] is None else min(left["depth"], here)
    ends = _wall_times(run)
    if ends:
        left["wall_time"] = max(0.0, min(ends) - run.stage.home.now())
    return Limits(**left, warn_at=run.options.limits.warn_at)


def bounded(limits: Limits, above: RunCell) -> Limits:
    """The limits of a run that may outlive those above it: what they have left holds for it wherever it goes.

    Args:
        limits: its own.
        above: the run that it is begun below.
    """
    left: dict[str, float | None] = {"depth": None, "wall_time": None}
    ledger = above.spending.ledger
    if ledger is not None:
        left.update({name: ledger.left(name, returned=True) for name in BOUNDS})
        if left["cost"] is not None:
            left["cost"] = dollars(left["cost"])
        if left["children"] is not None:
            left["children"] = max(0, left["children"] - 1)  # it is one of them
    for level, each in enumerate(above.line(), 1):
        depth = each.options.limits.depth
        if depth is not None:
            left["depth"] = _least(left["depth"], max(0, depth - level))
    for end in _wall_times(above):
        left["wall_time"] = _least(left["wall_time"], max(0.0, end - above.stage.home.now()))
    changed: dict[str, Any] = {name: _least(getattr(limits, name), most) for name, most in left.items()}
    return msgspec.structs.replace(limits, **changed)


def _least(one: float | None, other: float | None) -> float | None:
    return min(one, other) if one is not None and other is not None else one if other is None else other


def deadline(run: RunCell, call: ToolCell | None) -> float | None:
    """When a call, its run or one above is to end, on the event loop's clock; None if there is no such moment."""
    ends = _wall_times(run)
    while True:
        if call is not None and call.deadline is not None:
            ends.append(call.deadline)
        above = run.run_parent
        if above is None:
            return min(ends, default=None)
        run, call = above, run.caller


def _wall_times(run: RunCell) -> list[float]:
    return [each.wall_time.ends_at for each in run.line() if each.wall_time is not None]
