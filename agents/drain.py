"""The end of a System's work in order: nothing new begins, and what is under way comes to a good place to stop.

With a journal that outlives the System a good place is the end of a step: a model's reply is there, a tool has its
result. Each run is held as by a pause; once it has come to rest, it is suspended, to go on elsewhere. Without such a
journal a run that is suspended would be lost, so each has the time to come to its end.

When the time is over, what is left is stopped. What a stop cuts short is done again, or not, as after a crash.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import anyio
import msgspec

from . import pause

if TYPE_CHECKING:
    from .run_cell import RunCell
    from .stage import RunStage


class Drained(msgspec.Struct, frozen=True):
    """What became of the runs that a `drain` found, by their ids.

    Attributes:
        ended: came to their end in time.
        suspended: finished their step, and go on when somebody recovers them from the journal.
        cut: were at work when the time was over, and were stopped there; with a journal that outlives the System they
            go on too.
    """

    ended: tuple[str, ...] = ()
    suspended: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()


class Drain:
    """The drain of one stage; from its making on the stage takes no new runs."""

    __slots__ = ("_runs_found", "_stage", "_suspends")

    def __init__(self, stage: RunStage) -> None:
        self._stage = stage
        self._suspends = stage.journal.survives
        self._runs_found: list[RunCell] = list(self._runs())

    async def perform(self, timeout: float) -> Drained:
        """Hold all runs, and wait until none is left; after `timeout` seconds, cut what is."""
        if self._suspends:
            for run in self._runs():
                pause.hold(run)
                self.look_at(run)
        with anyio.move_on_after(timeout):
            await self._stage.pool.wait_empty()
        cut = self._runs()
        for run in cut:
            run.request_stop("system")
        await self._stage.pool.wait_empty()
        return _account(self._runs_found, cut)

    def add(self, run: RunCell) -> None:
        """A run below another has become one of its own."""
        self._runs_found.append(run)
        if self._suspends:
            pause.hold(run)

    def look_at(self, run: RunCell) -> None:
        """Something has come to rest in this run, or below it: suspend the whole if all of it has."""
        while run.run_parent is not None:
            run = run.run_parent
        if self._suspends and run.is_idle:
            run.request_stop("system")

    def _runs(self) -> Sequence[RunCell]:
        return cast("Sequence[RunCell]", self._stage.pool.cells())


def _account(runs: Sequence[RunCell], cut: Sequence[RunCell]) -> Drained:
    late = {run.name for run in cut}
    suspended = [run.name for run in runs if run.name not in late and run.suspended]
    ended = [run.name for run in runs if run.name not in late and not run.suspended]
    return Drained(tuple(ended), tuple(suspended), tuple(late))
