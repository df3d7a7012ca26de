"""The tool calls of one reply, side by side, each a child actor.

While they run, the run is parked on its mailbox inside their task group. Endings and progress arrive there as control
signals, in the order in which they happened; the machine is told of each ending when it comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from anyio import create_task_group
from anyio.abc import TaskGroup

from .. import journal
from ..mailbox import Envelope
from ..providers import ToolCall, ToolResult
from . import events
from .machine import Effect, Machine, State, ToolDone, cancelled
from .tool_cell import ToolCell

if TYPE_CHECKING:
    from .run_cell import RunCell


class ToolEnded:
    """A call has its result."""

    __slots__ = ("cell",)

    def __init__(self, cell: ToolCell) -> None:
        self.cell = cell


class Progress:
    """A call reports on itself."""

    __slots__ = ("cell", "progress")

    def __init__(self, cell: ToolCell, progress: Any) -> None:
        self.cell = cell
        self.progress = progress


class ToolBatch:
    """Carries out one `CallTools` effect for `run`. `cells` are the calls that run now, by id."""

    __slots__ = ("_cut", "_machine", "_run", "cells")

    def __init__(self, run: RunCell, machine: Machine, *, cut: bool) -> None:
        self._run = run
        self._machine = machine
        self._cut = cut
        self.cells: dict[str, ToolCell] = {}

    async def perform(self, calls: Sequence[ToolCall]) -> list[Effect]:
        """Run the calls; returns what the machine wants when all have ended."""
        queue = deque(calls)
        width = self._run.agent.tools_at_once
        effects: list[Effect] = []
        async with create_task_group() as group:
            while self._machine.state is State.ACTING:
                while queue and not self._cut and (width is None or len(self.cells) < width):
                    await self._start(group, queue.popleft())
                while queue and self._cut:
                    effects = self._done(cancelled(queue.popleft()))
                if self.cells:
                    effects = await self._next_ending() or effects
        return effects

    def cancel(self) -> None:
        """Give all calls up: those that run at their next await, those that wait at once."""
        self._cut = True
        for cell in tuple(self.cells.values()):
            cell.request_stop(None)

    def result_of(self, call: ToolCall) -> ToolResult:
        """The result of a call as far as it is known: for a run that is cut off before it could take it."""
        cell = self.cells.get(call.id or "")
        return cell.result if cell is not None and cell.result is not None else cancelled(call)

    async def _start(self, group: TaskGroup, call: ToolCall) -> None:
        run = self._run
        cell = ToolCell(run, run.agent.toolbox[call.name], call)
        self.cells[cell.call_id] = cell
        run.write(journal.Intended(cell.call_id))
        await run.voice.say(events.ToolStarted, call_id=cell.call_id, tool=call.name, arguments=call.arguments)
        if self._cut:
            cell.request_stop(None)
        cell.spawn_in(group)

    async def _next_ending(self) -> list[Effect]:
        signal = await self._run.mailbox.receive()
        if isinstance(signal, Envelope):
            if signal.reply is not None:
                signal.reply.fail(TypeError("a run takes no messages of its own: use its Run handle"))
            return []
        if not isinstance(signal, ToolEnded | Progress):
            return []  # a stop: its effect was taken when it was asked for
        cell = signal.cell
        if self.cells.get(cell.call_id) is not cell:
            return []  # of a call that is over, or left from an attempt that crashed
        if isinstance(signal, Progress):
            facts: dict[str, Any] = {"call_id": cell.call_id, "tool": cell.tool.name, "progress": signal.progress}
            await self._run.voice.say(events.ToolProgress, **facts)
            return []
        del self.cells[cell.call_id]
        assert cell.result is not None
        effects = self._done(cell.result)
        await self._report(cell, cell.result)
        return effects

    def _done(self, result: ToolResult) -> list[Effect]:
        self._run.write(journal.Happened(msgspec.to_builtins(result)))
        return self._machine.handle(ToolDone(result))

    async def _report(self, cell: ToolCell, result: ToolResult) -> None:
        voice = self._run.voice
        facts: dict[str, Any] = {"call_id": cell.call_id, "tool": cell.tool.name}
        if cell.outlived:
            self._run.outlived.append(f"{cell.tool.name}:{cell.call_id}")
            await voice.say(events.ToolOutlived, **facts)
        facts.update(result=result.content, seconds=cell.seconds)
        if result.is_error:
            await voice.say(events.ToolErrored, cause=result.cause or "failed", **facts)
        else:
            await voice.say(events.ToolCompleted, **facts)
