"""The rungs above a stop that was asked for: urge, kill, give up.

::

    after_turn, after_tools ──grace──> now ──grace──> the task is killed ──LAST──> given up
         (asked)                    (cancelled)     (every await fails)       (the end is written without it)

Code that heeds its cancellation never sees the second rung. What swallows it, or shields itself for ever, cannot be
ended in Python: whoever waits for the run gets its result all the same, in which it is named, and its task keeps its
group open until it ends by itself.

A ladder is climbed by one task beside the run, in the same group, from the first stop that has a grace to the run's
end. A run that nobody stops has none.
"""

from __future__ import annotations

import dataclasses
import logging
from math import inf
from typing import TYPE_CHECKING

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup

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

    __slots__ = ("_at", "_rest", "_run", "_rung", "_stands")

    def __init__(self, run: RunCell) -> None:
        self._run = run
        #: The next rung, and when it is climbed.
        self._rung = _URGE
        self._at = inf
        self._rest: CancelScope | None = None
        self._stands = False

    def ask(self, mode: StopMode, grace: float, group: TaskGroup) -> None:
        """Have the next rung climbed in `grace` seconds, unless what was asked before is more urgent."""
        rung = _KILL if mode == "now" else _URGE
        stage = self._run.stage
        at = stage.home.now() + grace
        if rung < self._rung or (rung == self._rung and at >= self._at):
            return
        self._rung, self._at = rung, at
        if self._rest is not None:
            self._rest.deadline = at
        elif not self._stands and at < inf:
            self._stands = True
            # Whoever asks may be in another thread, or in no task at all: the context is not theirs.
            group.create_task(self._climb(), name=f"{self._run.name}: stop", context=stage.context)

    def fall(self) -> None:
        """The run has ended: nobody climbs any further."""
        self._rung = _TOP
        if self._rest is not None:
            self._rest.cancel()

    async def _climb(self) -> None:
        while self._rung < _TOP:
            with CancelScope(deadline=self._at) as self._rest:
                await anyio.sleep_forever()
            self._rest = None
            if anyio.current_time() < self._at:
                continue  # asked anew, or the run has ended
            run = self._run
            match self._rung:
                case 0:
                    self._rung, self._at = _KILL, anyio.current_time() + run.stage.grace
                    run.urge()
                case 1:
                    self._rung, self._at = _GIVE_UP, anyio.current_time() + LAST
                    run.kill()
                case 2:
                    self._rung = _TOP
                    await give_up(run)
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
    _log.warning("run %s has ended, but %s", run.name, _name_survivors(run))
    if run.result is not None:
        run.result = dataclasses.replace(run.result, outlived=tuple(run.outlived))
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
        run.outlived += below or [f"{cell.tool.name}:{cell.call_id}"]
        run.voice.mention(events.ToolOutlived, call_id=cell.call_id, tool=cell.tool.name)
    told = run.voice.telling
    if not stuck:
        run.outlived.append(f"{provider.name}:{provider.model}" if run.call is not None and told is None else run.name)
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
