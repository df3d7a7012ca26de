"""What is left of the limits that a run and those above it have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .ledger import BOUNDS
from .limits import Limits

if TYPE_CHECKING:
    from .run_cell import RunCell
    from .tool_cell import ToolCell


def line(run: RunCell) -> Iterator[RunCell]:
    """A run and those above it, up to the root."""
    each: RunCell | None = run
    while each is not None:
        yield each
        each = each.run_parent


def remaining(run: RunCell) -> Limits:
    """The least that is left of each limit, of a run and of those above it."""
    left: dict[str, Any] = {"turns": None, "depth": None}
    ledger = run.spending.ledger
    if ledger is not None:
        left.update({name: ledger.left(name) for name in BOUNDS})
        if left["cost"] is not None:
            left["cost"] /= 1_000_000_000
    turns = run.options.limits.turns
    if turns is not None:
        left["turns"] = max(0, turns - (run.machine.turn if run.machine is not None else 0))
    for level, each in enumerate(line(run)):
        depth = each.options.limits.depth
        if depth is not None:
            here = max(0, depth - level)
            left["depth"] = here if left["depth"] is None else min(left["depth"], here)
    ends = _wall_times(run)
    if ends:
        left["wall_time"] = max(0.0, min(ends) - run.stage.home.now())
    return Limits(**left, warn_at=run.options.limits.warn_at)


def deadline(run: RunCell, call: ToolCell | None) -> float | None:
    """When a call, its run or one above is to end, on the event loop's clock; None if there is no such moment."""
    ends = _wall_times(run)
    while True:
        if call is not None and call.deadline is not None:
            ends.append(call.deadline)
        above = run.run_parent
        if above is None:
            return min(ends, default=None)
        run, call = above, above.tool_call(run.call_id)


def _wall_times(run: RunCell) -> list[float]:
    return [each.wall_time.ends_at for each in line(run) if each.wall_time is not None]
