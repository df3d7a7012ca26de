"""One tool call as a child actor of its run.

The call runs in its own task and is given up with it. Where there is something to do afterwards, for it has a deadline,
is asked for before it runs or has a process to end, it runs in **one** cancel scope inside its task; nowhere else,
since a scope costs about as much as all the rest of a call.

Whatever happens, the call ends with one `ToolResult` that tells its true cause; nothing that a tool raises leaves this
module, so a failing call can neither end its run nor disturb its siblings.

A tool may be tried again within its call: there is one intent and one outcome, however many attempts lie between them.

What must be asked or waited for before a call begins is in `tool_admission`; only calls that have anything of the kind
go through it. The deadline counts from when the call runs.

A plain function runs in a thread. A thread cannot be cancelled: when its call is given up, the call ends, the thread
is named as having outlived it, and what it returns later is dropped. A process is ended by force, after the step, and
the call ends when it is dead.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from anyio import CancelScope, get_cancelled_exc_class

from .. import journal
from ..actors.cell import Cell
from ..actors.crashes import is_cancelled, is_crash, stray
from ..actors.exits import NORMAL, Exit
from ..actors.tree import Node
from ..providers import ToolCall, ToolResult, delay
from . import events
from .approvals import Question
from .begun import Begun
from .context import RunContext
from .diary import Diary
from .errors import ModelRetry, ToolFailed, described
from .machine import STOPPED
from .place import Place, current_place
from .processes import ProcessCall, ProcessError, is_one_of
from .questions import Asker
from .spans import in_tool_span
from .tally import Tally
from .threads import ThreadCall
from .tool import Tool
from .tool_admission import Admitted, GuardRaised, Resolved, admit, approvals_of
from .tool_gate import Pass
from .tool_watch import call_watched, watched

if TYPE_CHECKING:
    from .run_cell import RunCell

_log = logging.getLogger("greenroom")


#: Causes of results that `on_error` is for.
FAILURES = ("failed", "timed_out")


class ToolCell(Cell):
    """Runs one call of one tool for `run`; a `governed` one after it was admitted."""

    __slots__ = (
        "_begun",
        "_blocked",
        "_children",
        "_cut",
        "_go",
        "_in_process",
        "_in_thread",
        "_performs",
        "_scope",
        "again",
        "asker",
        "attempt",
        "call",
        "call_id",
        "deadline",
        "failure",
        "governed",
        "guard",
        "passes",
        "pends",
        "question",
        "result",
        "run",
        "seconds",
        "sleeps",
        "started",
        "tally",
        "tool",
        "unfinished",
        "waits",
    )

    kind = "tool"

    def __init__(self, run: RunCell, tool: Tool[..., Any], call: ToolCall, *, governed: bool = False) -> None:
        super().__init__(call.id or "", f"{run.name}/{tool.name}:{call.id}", run, run.stage, capacity=1)
        self.run = run
        self.tool = tool
        self.call = call
        self.call_id = call.id or ""
        self.deadline: float | None = None
        self.result: ToolResult | None = None
        self.seconds = 0.0
        #: The try at hand, from 1.
        self.attempt = 1
        self.governed = governed
        #: Whether the call had begun before a crash, how many runs and sleeps it has begun since, and the diaries of
        #: runs that have neither ended nor gone on with it.
        self.again = self.call_id in run.past.again
        self._children = self.sleeps = 0
        self._begun: Begun | None = None
        self.unfinished: list[Diary] = []
        #: The runs in the background that it waits for, by wait.
        self.waits: list[tuple[RunCell, ...]] = []
        #: What it asks the user; made at its first question.
        self.asker: Asker | None = None
        #: What its subagents have used.
        self.tally = (run.spending.interrupted.pop(self.call_id, None) if self.again else None) or Tally()
        #: Whether the run has said that it runs.
        self.started = False
        #: Whether it has no result because nobody is there to approve it.
        self.pends = False
        #: The question it waits for, and what it holds at the gate.
        self.question: Question | None = None
        self.passes: Pass | None = None
        #: What its guard raised, and what the tool raised where that is to fail the run.
        self.guard: BaseException | None = None
        self.failure: BaseException | None = None
        self._go: anyio.Event | None = None
        self._scope: CancelScope | None = None
        self._performs = False
        self._cut: str | None = None
        self._blocked = False
        self._in_thread: ThreadCall | None = None
        self._in_process: ProcessCall | None = None

    @property
    def outlived(self) -> bool:
        """Whether the call was given up while its thread goes on, or its process, which was killed."""
        if self._in_process is not None:
            return self._in_process.outlived
        return self._in_thread is not None and self._in_thread.runs

    @property
    def on_error(self) -> str:
        """What a failure of the call does."""
        return self.tool.rules.on_error or self.run.agent.on_tool_error

    def next_child(self) -> int:
        """A number for the next run that it starts: the same ones, in order, when the call runs once more."""
        self._children += 1
        return self._children

    async def sleep(self, seconds: float) -> None:
        """Sleep, until the moment that is written down: the first time it is now and so many seconds."""
        run = self.run
        self.sleeps += 1
        now = run.diary.clock()
        until = run.past.naps.get((self.call_id, self.sleeps))
        if until is None:
            until = now + seconds
            run.write(journal.Slept(self.call_id, self.sleeps, until, now))
        await anyio.sleep(max(0.0, min(until - now, seconds)))  # a clock may have been set back

    async def begun(self) -> Begun:
        """What the call had begun before a crash."""
        if self._begun is None:
            found = await Begun.of(self)
            self._begun = self._begun or found  # several may have asked at once
        return self._begun

    def happened(self, result: ToolResult, at: float) -> journal.Happened:
        """The record of its outcome, with what its subagents have used."""
        tally = self.tally
        spent = tally.spent if self.run.spending.ledger is not None else None
        return journal.Happened(result, at, tally.usage, tally.cost, spent)

    async def ask(self, question: str, timeout: float | None) -> str:
        """Ask the user something, and wait for the answer."""
        if self.asker is None:
            self.asker = Asker(self)
        return await self.asker.ask(question, timeout)

    @property
    def is_idle(self) -> bool:
        """Whether it only waits, for the user or for idle runs in the background, and can do so once more when it is
        cut off now.
        """
        if self.tool.replay == "never" and self.started:
            return False
        if self.waits:
            return all(run.is_idle for runs in self.waits for run in runs)
        return self.asker is not None and self.asker.waits

    def request_stop(self, reason: str | None) -> None:
        """Give the call up at its next await; what it asks is withdrawn at once. `reason` is for the model."""
        self._cut = self._cut or reason or STOPPED
        self.withdraw()
        if self._scope is not None:
            self._scope.cancel()
        elif self._performs and self._handle is not None:
            self._handle.cancel()

    def withdraw(self) -> None:
        """Nobody can answer from here on."""
        if self.question is not None:
            approvals_of(self.run).withdraw(self.question)
        if self.asker is not None:
            self.asker.withdraw()

    async def report(self, signal: Admitted | Resolved) -> None:
        """Have the run say where the call is; returns when the run lets it go on."""
        self._go = anyio.Event()
        self.run.mailbox.signal(signal)
        await self._go.wait()

    def let_go(self) -> None:
        """Let a call go on that has reported."""
        if self._go is not None:
            self._go.set()

    def pass_above(self) -> Pass | None:
        """What the nearest call above this one holds at the gate, if any holds something."""
        run = self.run
        while run.run_parent is not None:
            caller = run.run_parent.tool_call(run.call_id)
            if caller is not None and caller.passes is not None:
                return caller.passes
            run = run.run_parent
        return None

    async def perform(self) -> None:
        self.announce_started()
        current_place.set(Place(self.run, self.call_id))
        result: ToolResult | None = None
        now = self.stage.home.now
        began = now()
        timeout = self.tool.timeout
        try:
            if self._cut:
                pass  # given up before it has begun
            elif self.governed or timeout is not None or self.tool.where == "process":
                with CancelScope() as self._scope:
                    if self.governed:
                        result = await self._admit()
                        began = now()
                    # A stop may have come between the run's leave to go on and this task's turn to take it.
                    if result is None and not self.pends and not self._cut:
                        if timeout is not None:
                            self.deadline = self._scope.deadline = began + timeout
                        result = await self._work()
            else:
                self._performs = True
                result = await self._work()
        finally:
            timed_out = self._is_timed_out
            self._scope, self._performs = None, False
            try:
                if self._in_process is not None:
                    await self._in_process.end()
            finally:
                if self.passes is not None:
                    self.passes.leave()
                self.withdraw()
            self.seconds = now() - began
        if self._cut:
            # A tool that swallowed the cancellation does not turn a stop into a success.
            result = self.crash_result(None)
            self.guard = None
        elif timed_out:
            waited = self._in_process or self._in_thread
            place = f" waiting for a free {self.tool.where}" if waited is not None and waited.waits else ""
            text = f"timed out after {timeout:g} s{place}"
            result = self._error(text, "timed_out")
            self.failure = TimeoutError(text) if self.on_error == "fail" else None
        elif self.stage.home.is_cancelled():
            result = self.crash_result(None)  # the same, where everything around it was cancelled
        self.pends = self.pends and result is None
        self.result = result

    def _work(self) -> Coroutine[Any, Any, ToolResult | None]:
        instruments = self.run.stage.instruments
        return self.invoke() if instruments is None else in_tool_span(instruments, self)

    def _exit_of_return(self) -> Exit:
        return NORMAL  # `perform` has looked for a cancellation, and its result tells

    @property
    def _is_timed_out(self) -> bool:
        return self._scope is not None and self._scope.cancel_called

    async def _admit(self) -> ToolResult | None:
        try:
            return await admit(self)
        except GuardRaised as error:
            self.guard = error.__cause__
            assert self.guard is not None
            return self._error(f"not run: it could not be judged: {described(self.guard)}", "denied")

    def cut_by(self) -> str | None:
        """Why the call that runs is cut short, ``cancelled`` or ``timed_out``; None if it is not."""
        if self._cut:
            return "cancelled"
        if self._is_timed_out:
            return "timed_out"
        return "cancelled" if is_cancelled() else None

    async def invoke(self) -> ToolResult | None:
        """Try the call, as often as its rules say."""
        rules = self.tool.rules
        if rules.retry is None:
            return await self._attempt(self.on_error == "fail")
        while True:
            self.failure = None
            result = await self._attempt(True)
            error = self.failure
            if error is None or isinstance(error, ToolFailed) or not is_one_of(error, rules.retry_on):
                return result
            pause = delay(self.attempt, retry_after=None, jitter=self.run.stage.sources.chance(), policy=rules.retry)
            if pause is None:
                return result
            facts: dict[str, Any] = {"attempt": self.attempt, "delay": pause, "error": described(error)}
            del error
            self.run.voice.mention(events.ToolRetrying, call_id=self.call_id, tool=self.tool.name, **facts)
            await anyio.sleep(pause)
            self.attempt += 1
            if self.asker is not None:
                self.asker.begin_again()

    async def _attempt(self, keep_failure: bool) -> ToolResult | None:
        try:
            arguments = self.tool.arguments(self.call)
            if self.tool.where == "process":
                self._in_process = ProcessCall(self.run.stage.processes, self.tool, self.call)
                return await self._in_process.run()
            if self.tool.context_parameter is not None:
                arguments[self.tool.context_parameter] = RunContext(self.run, self)
            if self.tool.where == "thread":
                self._in_thread = ThreadCall(partial(self.tool.function, **arguments))
                value = await self.run.stage.threads.run(self._in_thread, self._depth())
            else:
                value = call_watched(self.tool.function, arguments, self._has_blocked)
            if inspect.iscoroutine(value):
                value = await watched(value, self._has_blocked)
            elif inspect.isawaitable(value):
                value = await value
            return self.tool.result(self.call_id, value)
        except ModelRetry as hint:
            return self._error(str(hint) or "try again with other arguments", "invalid")
        except ToolFailed as failure:
            self.failure = failure if keep_failure else None
            return self._error(str(failure) or "the tool failed", "failed")
        except ProcessError as error:
            self.failure = error if keep_failure else None
            return self._error(str(error), "failed")
        except BaseException as error:
            # A tool that raises GeneratorExit by itself only fails: nothing is awaited after this. SystemExit ends a
            # thread and nothing else, so it does here: command-line parsers raise it over wrong arguments.
            fails = isinstance(error, GeneratorExit) or (isinstance(error, SystemExit) and self.tool.where == "thread")
            if not fails and not is_crash(error):
                raise
            self.failure = stray(self.name, error) if keep_failure else None
            if isinstance(error, get_cancelled_exc_class()):
                text = f"{type(error).__name__} raised by the tool, though nobody had cancelled it"
                return self._error(text, "failed")
            return self._error(described(error), "failed")

    def _has_blocked(self, seconds: float) -> None:
        """Say once that the tool has kept everybody waiting."""
        if self._blocked:
            return
        self._blocked = True
        name = self.tool.name
        _log.warning(
            "tool %r blocked the event loop for %.2g s (call %s of run %s): no other run went on meanwhile; "
            "await what it waits for, or make it a plain def, which runs in a thread",
            *(name, seconds, self.call_id, self.run.name),
        )
        self.run.voice.mention(events.ToolBlocked, call_id=self.call_id, tool=name, seconds=seconds)

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
            return self._error(f"cancelled: {self._cut or STOPPED}", "cancelled")
        return self.error_of(error)

    def error_of(self, error: BaseException) -> ToolResult:
        """The result of a call that failed with this."""
        return self._error(described(error), "failed")

    def node(self, now: float) -> Node:
        node = super().node(now)
        runs = tuple(cell.node(now) for cell in self.run.subruns(self.call_id))
        return Node(f"{self.tool.name}:{self.call_id}", node.kind, node.state, node.age, children=runs)
