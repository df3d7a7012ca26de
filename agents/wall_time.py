"""The end of a run's time: one task beside the run, which ends with it; a run without ``Limits(wall_time=)`` has none.

The time counts from when the run begins to work. Of a run that was recovered, the time that it had worked before counts
too; the time in which nobody worked on it does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup

from . import events
from .errors import LimitExceeded
from .limits import Limits

if TYPE_CHECKING:
    from .run_cell import RunCell


class WallTime:
    """The time of one run.

    Args:
        run: whose it is.
        limits: how long it may work, and from when on that is said.
        worked: how long it has worked in other processes.

    Attributes:
        ends_at: when it is over, on the event loop's clock.
    """

    __slots__ = ("_run", "_scope", "_seconds", "_warn_at", "ends_at")

    def __init__(self, run: RunCell, limits: Limits, worked: float) -> None:
        assert limits.wall_time is not None
        self._run = run
        self._seconds = limits.wall_time
        self._scope = CancelScope()
        self.ends_at = run.stage.home.now() + self._seconds - worked
        #: When to say that it is nearly over; None for never, or where that moment had come before.
        self._warn_at: float | None = None
        if limits.warn_at is not None and worked < limits.warn_at * self._seconds:
            self._warn_at = self.ends_at - (1 - limits.warn_at) * self._seconds

    def start_in(self, group: TaskGroup) -> None:
        """Begin. Where no time is left, nothing is begun any more."""
        if self.ends_at <= self._run.stage.home.now():
            self._run.stop_at_limit(self._error())
            return
        group.create_task(self._wait(), name=f"{self._run.name}: wall_time", context=self._run.stage.context)

    def end(self) -> None:
        """The run has ended."""
        self._scope.cancel()

    async def _wait(self) -> None:
        if self._scope.cancel_called:
            return
        run, seconds = self._run, self._seconds
        with self._scope:
            if self._warn_at is not None:
                await anyio.sleep_until(self._warn_at)
                used = seconds - (self.ends_at - self._warn_at)
                run.voice.mention(events.LimitWarning, limit="wall_time", used=used, allowed=seconds)
            await anyio.sleep_until(self.ends_at)
            run.stop_at_limit(self._error())

    def _error(self) -> LimitExceeded:
        return LimitExceeded("wall_time", self._seconds, self._seconds)
