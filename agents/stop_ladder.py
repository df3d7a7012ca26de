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

from math import inf
from typing import TYPE_CHECKING

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup

from .machine import StopMode

if TYPE_CHECKING:
    from .run_cell import RunCell

#: Seconds that a killed run has to end before it is given up.
LAST = 0.1

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
                    await run.give_up()
                case _:
                    return
