"""A stop that is asked for elsewhere: `stop_when`, polled while a run works.

    async def cancelled(context) -> bool:
        return await redis.exists(f"cancel:{context.run_id}") == 1

    Agent("helper", …, stop_when=cancelled, stop_poll=3.0)

It is asked at the run's start and then every so many seconds after its last answer, so never twice at once, whatever
the run is busy with. One that fails does not end the run: the failure is logged, heard as an event, and it is asked
again. The polling is one task beside the run, which ends with it; without `stop_when` there is none.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup

from ..actors.crashes import is_crash
from . import events
from .context import RunContext
from .errors import described

if TYPE_CHECKING:
    from .run_cell import RunCell

StopWhen: TypeAlias = "Callable[[RunContext[Any]], Awaitable[bool]]"

#: Seconds between two polls, by default.
STOP_POLL = 3.0

_log = logging.getLogger("greenroom")


def check_stop_when(stop_when: object, stop_poll: object) -> None:
    """Refuse what cannot be polled.

    Raises:
        TypeError: no coroutine function, or no number of seconds.
        ValueError: no time between two polls.
    """
    if stop_when is not None and not inspect.iscoroutinefunction(
        stop_when if inspect.isroutine(stop_when) else getattr(stop_when, "__call__", None)  # noqa: B004 - its function
    ):
        raise TypeError(
            f"stop_when= takes a coroutine function: async def stop_when(context) -> bool, not {stop_when!r}"
        )
    if stop_poll is None:
        return
    if not isinstance(stop_poll, int | float) or isinstance(stop_poll, bool):
        raise TypeError(f"stop_poll= takes a number of seconds, not {stop_poll!r}")
    if not 0 < stop_poll < math.inf:
        raise ValueError(f"stop_poll= takes a number of seconds above 0, not {stop_poll!r}")


class StopPoll:
    """The polling of one run. Make it where the run is started."""

    __slots__ = ("_every", "_failed", "_run", "_scope", "_stop_when")

    def __init__(self, run: RunCell, stop_when: StopWhen, every: float) -> None:
        self._run = run
        self._stop_when = stop_when
        self._every = every
        self._scope = CancelScope()
        self._failed = False

    def start_in(self, group: TaskGroup) -> None:
        """Begin."""
        group.create_task(self._poll(), name=f"{self._run.name}: stop_when")

    def end(self) -> None:
        """The run has ended."""
        self._scope.cancel()

    async def _poll(self) -> None:
        if self._scope.cancel_called:
            return
        with self._scope:
            while not await self._wants_stop():
                await anyio.sleep(self._every)
            self._run.stop_run("now", "stop_when")

    async def _wants_stop(self) -> bool:
        try:
            wanted: Any = await self._stop_when(RunContext(self._run))
            if not isinstance(wanted, bool):
                # What a store holds may be true in Python whatever it says: b"0" is.
                raise TypeError(f"stop_when must return True or False, not {wanted!r}")
        except BaseException as error:
            if not is_crash(error):
                raise
            if self._scope.cancel_called:
                return False  # what it raised while it was cancelled is nobody's concern
            what = described(error)
            if not self._failed:  # the first of a row: an outage must not fill the log
                _log.warning("stop_when of run %s failed and is asked again: %s", self._run.name, what)
            self._failed = True
            await self._run.voice.say(events.StopPollFailed, error=what)
            return False
        self._failed = False
        return wanted
