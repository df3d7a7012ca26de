"""The rungs above a stop that was asked for: urge, kill, give up.

::

    after_turn, after_tools ──grace──> now ──grace──> the task is killed ──LAST──> given up
         (asked)                    (cancelled)     (every await fails)       (the end is written without it)

Code that heeds its cancellation never sees the second rung. What swallows it, or shields itself for ever, cannot be
ended in Python: whoever waits for the run gets its result all the same, in which it is named, and its task keeps its
group open until it ends by itself.

A ladder stands from the first stop with a grace to the run's end; a run that nobody stops has none. Its rungs are
deadlines. Those of a run in its System's own group are among the System's timers, where ten thousand that are stopped
at once cost ten thousand entries in a heap. A run in its caller's group may outlive the System's timers, so it has
timers of its own, whose one task is in that group.
"""

from __future__ import annotations

import dataclasses
import logging
from math import inf
from typing import TYPE_CHECKING

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup

from ..actors.timers import Timer, Timers
from . import events
from .machine import StopAsked, StopMode
from .orphans import hand_over_orphans

if TYPE_CHECKING:
    from .run_cell import RunCell

#: Seconds that a killed run has to end before it is given up.
LAST = 0.1
#: Seconds that observers have to hear of the end of a run that was cancelled.
FAREWELL = 1.0

_log = logging.getLogger("greenroom")

_URGE, _KILL, _GIVE_UP, _TOP = range(4)


class StopLadder:
    """The ladder of one run. Belongs to the loop's thread."""

    __slots__ = ("_at", "_group", "_next", "_own", "_run", "_rung")

    def __init__(self, run: RunCell) -> None:
        self._run = run
        #: The next rung, and when it is climbed.
        self._rung = _URGE
        self._at = inf
        self._next: Timer | None = None
        #: The group of the run, and timers in it, where those of the System are not to be relied on.
        self._group: TaskGroup | None = None
        self._own: Timers | None = None

    def ask(self, mode: StopMode, grace: float, group: TaskGroup) -> None:
        """Have the next rung climbed in `grace` seconds, unless what was asked before is more urgent."""
        rung = _KILL if mode == "now" else _URGE
        at = self._run.stage.home.now() + grace
        if rung < self._rung or (rung == self._rung and at >= self._at):
            return
        self._group = group
        self._set(rung, grace)

    def fall(self) -> None:
        """The run has ended: nobody climbs any further."""
        self._rung = _TOP
        if self._next is not None:
            self._next.cancel()
        self._close()

    def _close(self) -> None:
        if self._own is not None:
            self._own.close()

    def _set(self, rung: int, delay: float) -> None:
        self._rung, self._at = rung, self._run.stage.home.now() + delay
        if self._next is not None:
            self._next.cancel()
        self._next = self._timers().after(delay, self._climb) if delay < inf else None

    def _timers(self) -> Timers:
        stage, group = self._run.stage, self._group
        assert group is not None
        if stage.timers is not None and group is stage.group:
            return stage.timers
        if self._own is None:
            name = f"{self._run.name}: stop"
            # Whoever asks may be in another thread, or in no task at all: the context is not theirs.
            self._own = Timers(lambda run: group.create_task(run(), name=name, context=stage.context), stage.home.now)
        return self._own

    def _climb(self) -> None:
        run, self._next = self._run, None
        match self._rung:
            case 0:
                self._set(_KILL, run.stage.grace)
                run.urge()
            case 1:
                self._set(_GIVE_UP, LAST)
                run.kill()
            case 2:
                self._rung = _TOP
                assert self._group is not None
                self._group.create_task(give_up(run), name=f"{run.name}: given up", context=run.stage.context)
                self._close()
            case _:
                return


async def give_up(run: RunCell) -> None:
    """Write the end of a run although its task goes on: something in it swallows its cancellation. Leaves first."""
    hand_over_orphans(run)
    for below in run.subruns():
        await give_up(below)
    if run.exit is not None or run.forsaken:
        return
    run.forsaken = True
    if run.equipment is not None:
        run.equipment.kill()
    _log.warning("run %s has ended, but %s", run.name, _name_survivors(run))
    if run.result is not None:
        run.result = dataclasses.replace(run.result, outlived=run.outlived)
    with CancelScope(shield=True, deadline=anyio.current_time() + FAREWELL):
        if run.result is None:
            run.settle_cut_off()
            await run.voice.publish(run.last_event())
    if run.inbox is not None:
        run.inbox.close()
    run.voice.log.end(run.error)
    run._notify()


def _name_survivors(run: RunCell) -> str:
    """Name what goes on although the run's task was killed, in the run and in words."""
    batch, provider = run.batch, run.agent.provider
    stuck = [cell for cell in batch.cells.values() if cell.exit is None] if batch is not None else []
    for cell in stuck:
        below = [f"{each.name}/{name}" for each in run.subruns(cell.call_id) for name in each.outlived]
        run.outlived += tuple(below) or (f"{cell.tool.name}:{cell.call_id}",)
        run.voice.mention(events.ToolOutlived, call_id=cell.call_id, tool=cell.tool.name)
    told = run.voice.telling
    if not stuck:
        run.outlived += (f"{provider.name}:{provider.model}" if run.call is not None and told is None else run.name,)
        if told is not None:
            observer, event = told
            name = getattr(observer, "__qualname__", None) or type(observer).__qualname__
            return f"its observer {name} has not returned from {event.type}"
    return f"{', '.join(run.outlived)} does not heed its cancellation"


def stop_in_force(run: RunCell) -> StopAsked | None:
    """What was asked of a run, or else what ends a run above and it with that."""
    above: RunCell | None = run
    while above is not None:
        if above.wanted is not None and (above is run or above.wanted.mode == "now"):
            return above.wanted
        above = above.run_parent
    return None
