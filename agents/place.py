"""Where in the tree of runs the present code stands.

Code inside a tool that runs another agent makes a subagent of the run that called the tool, without passing anything
along. The context variable holds a small object with a weak reference: contexts outlive their tasks, and must not
keep runs alive.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING
from weakref import ref

if TYPE_CHECKING:
    from .run_cell import RunCell


class Place:
    """A tool call of a run."""

    __slots__ = ("_run", "call_id")

    def __init__(self, run: RunCell, call_id: str) -> None:
        self._run = ref(run)
        self.call_id = call_id

    @property
    def run(self) -> RunCell | None:
        """The run, while it lives."""
        run = self._run()
        return run if run is not None and run.exit is None else None


current_place: ContextVar[Place | None] = ContextVar("greenroom_place", default=None)


async def regain_places() -> None:
    """Before a tool goes on after subagents that may have been cut short: wait for its turn again."""
    place = current_place.get()
    run = place.run if place is not None else None
    if place is not None and run is not None and run.stage.home.here:
        await run.regain(place.call_id)
