"""The handle of one run: follow it, stop it, wait for it."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias

import anyio

from ..actors import Node
from ..actors.ref import check_seconds
from ..providers import Usage
from .machine import STOP_MODES, StopMode
from .readers import EventReader, TextReader
from .result import OutputT, RunResult

if TYPE_CHECKING:
    from .run_cell import RunCell

RunStatus: TypeAlias = Literal["running", "completed", "stopped", "limited", "waiting", "failed"]


class Run(Generic[OutputT]):
    """One run of an agent. Get it from ``agent.stream(…)`` or ``system.start(…)``.

    Iterating it gives its events: ``async for event in run``.
    """

    __slots__ = ("__weakref__", "_cell")

    def __init__(self, cell: RunCell) -> None:
        self._cell = cell

    @property
    def id(self) -> str:
        """The run's id."""
        return self._cell.name

    @property
    def status(self) -> RunStatus:
        """``running``, or how it ended."""
        result = self._cell.result
        return result.status if result is not None else "running"

    @property
    def usage(self) -> Usage:
        """Tokens used so far, subagents included."""
        return self._cell.usage

    def events(self, since: int = 0) -> EventReader:
        """Follow the run and its subagents: lifecycle events after `since` that are still kept (the latest 1,000), then
        everything as it happens. Raises the run's error after the last event.
        """
        return self._cell.voice.log.follow(since)

    def text(self) -> TextReader:
        """Follow the answer's text, piece by piece; none of it twice. Raises the run's error at the end.

        Who comes late gets the text of the turn at hand, or of the last one, whole; of earlier turns nothing.
        """
        cell = self._cell
        return TextReader(cell.voice.log, cell.name, cell.shown, cell.voice.turn)

    def __aiter__(self) -> EventReader:
        return self.events()

    async def result(self) -> RunResult[OutputT]:
        """Wait for the end and return the result. Cancelling this wait leaves the run alone.

        Raises:
            AgentError: the run was limited or failed; `error.result` is what it had reached.
            ProviderError: a model call failed for good; it has `result` too.
            WouldDeadlock: a tool or subagent of the run waits for it.
        """
        cell = self._cell
        cell.refuse_deadlock()
        await cell.wait_ended()
        if cell.error is not None:
            # All who wait are given one object: its traceback must not grow with each of them.
            raise cell.error.with_traceback(None)
        assert cell.result is not None
        return cell.result

    def stop(self, mode: StopMode = "now", *, reason: str = "user", grace: float | None = None) -> Stopping[OutputT]:
        """Ask the run to end. It returns a result with ``status="stopped"`` and a valid history.

        The request is made at once, from any thread; asking again changes nothing, except that it may be more urgent.
        What is returned may be awaited for the result.

        Args:
            mode: ``now`` cancels what it is doing; ``after_tools`` lets running tools finish; ``after_turn`` lets the
                model finish its reply, and the tools that it calls.
            reason: the result's `reason`.
            grace: seconds after which whoever awaits the return value kills the run's task.

        Raises:
            ValueError: an unknown mode.
            TypeError: a reason that is no text, a grace that is no number.
        """
        if mode not in STOP_MODES:
            raise ValueError(f"stop({mode!r}) is not one of {', '.join(map(repr, STOP_MODES))}")
        if not isinstance(reason, str):
            raise TypeError(f"stop(reason=) takes a word, not {reason!r}")
        check_seconds("stop(grace=)", grace)
        self._cell.stage.home.run(self._cell.stop_run, mode, reason)
        return Stopping(self, grace)

    def tree(self) -> Node:
        """The run, its open tool calls and its subagents, at this moment."""
        return self._cell.node(anyio.current_time())

    def __repr__(self) -> str:
        return f"<Run {self.id} of {self._cell.agent.name!r}: {self.status}>"


class Stopping(Generic[OutputT]):
    """The end that was asked for, to be awaited for the `RunResult`, or ignored."""

    __slots__ = ("_grace", "_run")

    def __init__(self, run: Run[OutputT], grace: float | None) -> None:
        self._run = run
        self._grace = grace

    def __await__(self) -> Generator[Any, Any, RunResult[OutputT]]:
        return self._wait().__await__()

    async def _wait(self) -> RunResult[OutputT]:
        if self._grace is not None:
            with anyio.move_on_after(self._grace):
                return await self._run.result()
            self._run._cell.kill()
        return await self._run.result()

    def __repr__(self) -> str:
        return f"<the end of {self._run!r}, asked for: await it for the result, or ignore it>"
