"""The end of a run's time: one task beside the run, which ends with it; a run without ``Limits(wall_time=)`` has none.

The time counts from when the run begins to work. Of a run that was recovered, the time that it had worked before counts
too; the time in which nobody worked on it does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup

from .errors import LimitExceeded

if TYPE_CHECKING:
    from .run_cell import RunCell


class WallTime:
    """The time of one run.

    Args:
        run: whose it is.
        seconds: how long it may work.
        worked: how long it has worked in other processes.

    Attributes:
        ends_at: when it is over, on the event loop's clock.
    """

    __slots__ = ("_run", "_scope", "_seconds", "ends_at")

    def __init__(self, run: RunCell, seconds: float, worked: float) -> None:
        self._run = run
        self._seconds = seconds
        self._scope = CancelScope()
        self.ends_at = run.stage.home.now() + seconds - worked

    def start_in(self, group: TaskGroup) -> None:
        """Begin."""
        group.create_task(self._wait(), name=f"{self._run.name}: wall_time", context=self._run.stage.context)

    def end(self) -> None:
        """The run has ended."""
        self._scope.cancel()

    async def _wait(self) -> None:
        if self._scope.cancel_called:
            return
        with self._scope:
            await anyio.sleep_until(self.ends_at)
            self._run.stop_at_limit(LimitExceeded("wall_time", self._seconds, self._seconds))
