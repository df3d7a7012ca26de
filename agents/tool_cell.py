"""One tool call as a child actor of its run.

The call runs in its own task inside **one** cancel scope, which carries its deadline and is what a stop cancels.
Whatever happens, the call ends with one `ToolResult` that tells its true cause; nothing that a tool raises leaves
this module, so a failing call can neither end its run nor disturb its siblings.

A plain function runs in a thread. A thread cannot be cancelled: when its call is given up, the call ends, the thread
is named as having outlived it, and what it returns later is dropped.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from anyio import CancelScope, get_cancelled_exc_class

from ..actors.cell import Cell
from ..actors.crashes import is_cancelled, is_crash
from ..actors.tree import Node
from ..providers import ToolCall, ToolResult
from .context import RunContext
from .errors import ModelRetry, ToolFailed
from .place import Place, current_place
from .threads import ThreadCall
from .tool import Tool

if TYPE_CHECKING:
    from .run_cell import RunCell


class ToolCell(Cell):
    """Runs one call of one tool for `run`."""

    __slots__ = ("_cut", "_in_thread", "_scope", "call", "call_id", "deadline", "result", "run", "seconds", "tool")

    kind = "tool"

    def __init__(self, run: RunCell, tool: Tool[..., Any], call: ToolCall) -> None:
        super().__init__(call.id or "", f"{run.name}/{tool.name}:{call.id}", run, run.stage, capacity=1)
        self.run = run
        self.tool = tool
        self.call = call
        self.call_id = call.id or ""
        self.deadline: float | None = None
        self.result: ToolResult | None = None
        self.seconds = 0.0
        self._scope: CancelScope | None = None
        self._cut = False
        self._in_thread: ThreadCall | None = None

    @property
    def outlived(self) -> bool:
        """Whether the call was given up while its thread goes on."""
        return self._in_thread is not None and self._in_thread.runs

    def request_stop(self, reason: str | None) -> None:
        """Give the call up at its next await."""
        self._cut = True
        if self._scope is not None:
            self._scope.cancel()

    async def perform(self) -> None:
        self.announce_started()
        current_place.set(Place(self.run, self.call_id))
        began = anyio.current_time()
        timeout = self.tool.timeout
        if timeout is not None:
            self.deadline = began + timeout
        result: ToolResult | None = None
        with CancelScope(deadline=self.deadline if self.deadline is not None else float("inf")) as scope:
            self._scope = scope
            if self._cut:
                scope.cancel()
            result = await self._invoke()
        self._scope = None
        self.seconds = anyio.current_time() - began
        if self._cut:
            # A tool that swallowed the cancellation does not turn a stop into a success.
            result = self.crash_result(None)
        elif scope.cancel_called:
            waited = self._in_thread is not None and self._in_thread.waits
            place = " waiting for a free thread" if waited else ""
            result = self._error(f"timed out after {timeout:g} s{place}", "timed_out")
        elif is_cancelled():
            result = self.crash_result(None)  # the same, where everything around it was cancelled
        self.result = result

    async def _invoke(self) -> ToolResult | None:
        try:
            arguments = self.tool.arguments(self.call)
            if self.tool.context_parameter is not None:
                arguments[self.tool.context_parameter] = RunContext(self.run, self)
            if self.tool.where == "thread":
                self._in_thread = ThreadCall(partial(self.tool.function, **arguments))
                value = await self.run.stage.threads.run(self._in_thread, self._depth())
            else:
                value = self.tool.function(**arguments)
            if inspect.isawaitable(value):
                value = await value
            return self.tool.result(self.call_id, value)
        except ModelRetry as hint:
            return self._error(str(hint) or "try again with other arguments", "invalid")
        except ToolFailed as failure:
            return self._error(str(failure) or "the tool failed", "failed")
        except BaseException as error:
            # A tool that raises GeneratorExit by itself only fails: nothing is awaited after this.
            if not is_crash(error) and not isinstance(error, GeneratorExit):
                raise
            if isinstance(error, get_cancelled_exc_class()):
                text = f"{type(error).__name__} raised by the tool, though nobody had cancelled it"
                return self._error(text, "failed")
            return self._error(_described(error), "failed")

    def _depth(self) -> int:
        """How many runs are above ours."""
        depth = 0
        run = self.run.run_parent
        while run is not None:
            depth += 1
            run = run.run_parent
        return depth

    def _error(self, text: str, cause: str) -> ToolResult:
        return ToolResult(self.call_id, self.tool.cut(text), self.tool.name, True, cause)

    def crash_result(self, error: BaseException | None) -> ToolResult:
        """The result of a call whose task ended without one: it was killed, or our own code failed."""
        if error is None:
            return self._error("cancelled: the run was stopped before this call finished", "cancelled")
        return self._error(_described(error), "failed")

    def node(self, now: float) -> Node:
        node = super().node(now)
        runs = tuple(cell.node(now) for cell in self.run.subruns(self.call_id))
        return Node(f"{self.tool.name}:{self.call_id}", node.kind, node.state, node.age, children=runs)


def _described(error: BaseException) -> str:
    """The type and the message of an error, also of one that cannot say its message."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return f"{type(error).__name__} (its message cannot be shown)"
