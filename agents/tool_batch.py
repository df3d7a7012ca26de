"""The tool calls of one reply, side by side, each a child actor.

While they run, the run is parked on its mailbox inside their task group. Endings and progress arrive there as control
signals, in the order in which they happened; the machine is told of each ending when it comes. Calls that something has
to be asked or waited for (`tool_admission`) say by signals how far they are, and are let go.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from anyio import create_task_group
from anyio.abc import TaskGroup

from .. import journal
from ..mailbox import Envelope
from ..providers import ToolCall, ToolResult
from . import events, pause
from .approvals import Question
from .errors import GuardFailed, LimitExceeded, ToolError, described
from .handoff import refused, second_handoffs
from .ledger import Amount
from .machine import Aborted, Effect, Machine, State, ToolDone, ToolPends, cancelled
from .model_budget import limited
from .questions import Changed
from .questions import Question as UserQuestion
from .tool_admission import Admitted, Asked, Resolved, policies_of
from .tool_cell import FAILURES, STOPPED, ToolCell

if TYPE_CHECKING:
    from .agent import Agent
    from .run_cell import RunCell


_log = logging.getLogger("greenroom")


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


#: Why the other calls of a reply are given up, where one of them fails.
SIBLING_FAILED = "another call of the same reply failed"


class ToolBatch:
    """Carries out one `CallTools` effect for `run`. `cells` are the calls that are open now, by id.

    At most as many run at once as the agent says. A call that waits for an approval does not count; once it is
    approved it goes on before those that have not begun.
    """

    __slots__ = ("_claimed", "_cut", "_governed", "_idle", "_machine", "_ready", "_run", "_width", "cells", "handoff")

    def __init__(self, run: RunCell, machine: Machine, *, cut: bool) -> None:
        self._run = run
        self._machine = machine
        #: Why the calls are given up, once they are.
        self._cut = STOPPED if cut else None
        self._width = run.agent.tools_at_once
        #: Whether every call has to be admitted, whatever its tool says.
        self._governed = bool(run.past.answers or policies_of(run)) or run.stage.gate.everyone is not None
        #: Calls that do not count, because they wait for an approval or for the end of a pause; and those of them that
        #: wait for us, with whether they begin then.
        self._idle: set[str] = set()
        self._ready: dict[ToolCell, bool] = {}
        #: Calls that are counted against a limit and have not begun.
        self._claimed: set[str] = set()
        self.cells: dict[str, ToolCell] = {}
        #: Whom the conversation is handed over to.
        self.handoff: Agent[Any, Any] | None = run.past.handoff

    async def perform(self, calls: Sequence[ToolCall]) -> list[Effect]:
        """Run the calls; returns what the machine wants when all have ended."""
        over = self._claim(calls)
        if over is not None:
            return self._machine.handle(limited(over))
        try:
            second = second_handoffs(calls, self._run.toolbox)
            effects: list[Effect] = []
            for call in second:
                effects = self._done(refused(call))
            queue = deque([call for call in calls if call not in second])
            async with create_task_group() as group:
                while self._machine.state is State.ACTING:
                    held = pause.holds(self._run)
                    if not held or len(self.cells) == len(self._idle):
                        await pause.tell(self._run)
                    if held and self._run.stage.draining is not None:
                        self._run.stage.draining.look_at(self._run)  # what is left may only wait for the user
                    while self._ready and not held and self._has_room:
                        await self._let_go(next(iter(self._ready)))
                    fresh: list[ToolCell] = []
                    while queue and not self._cut and self._has_room and not pause.holds(self._run):
                        fresh.append(self._make(queue.popleft()))
                    if fresh:
                        await self._start(group, fresh)
                    while queue and self._cut:
                        effects = self._done(cancelled(queue.popleft(), self._cut))
                    if self.cells or queue:
                        effects = await self._next_ending() or effects
            return effects
        finally:
            self._give_back()

    def _claim(self, calls: Sequence[ToolCall]) -> LimitExceeded | None:
        """Count the calls that have not begun yet, all of them or none."""
        spending = self._run.spending
        if spending.ledger is None:
            return None
        fresh = {call.id or "" for call in calls} - self._run.past.again
        over = spending.claim(Amount(tool_calls=len(fresh)))
        if over is None:
            self._claimed = fresh
        return over

    def _give_back(self) -> None:
        """No call will begin any more: those that have not do not count."""
        unused, self._claimed = len(self._claimed), set[str]()
        if unused:
            self._run.spending.return_claim(Amount(tool_calls=unused))

    @property
    def is_idle(self) -> bool:
        """Whether each call waits: to be let go, for the user, or for runs of its own that do nothing."""
        waiting = self._idle | {call_id for call_id, cell in self.cells.items() if cell.is_idle}
        for run in self._run.subruns():
            if run.orphan is not None:
                continue
            if not run.is_idle:
                return False
            waiting.add(run.call_id or "")
        return all(call_id in waiting for call_id in self.cells)

    @property
    def _has_room(self) -> bool:
        return self._width is None or len(self.cells) - len(self._idle) < self._width

    def cancel(self, reason: str = STOPPED) -> None:
        """Give all calls up: those that run at their next await, those that wait at once."""
        self._cut = self._cut or reason
        for cell in tuple(self.cells.values()):
            cell.request_stop(reason)

    def withdraw(self) -> None:
        """Give up the calls that wait for an approval: they do not run, so they would not end by themselves."""
        for cell in tuple(self.cells.values()):
            if cell.question is not None and not cell.question.closed:
                cell.request_stop(None)

    def result_of(self, call: ToolCall) -> ToolResult:
        """The result of a call as far as it is known: for a run that is cut off before it could take it."""
        cell = self.cells.get(call.id or "")
        return cell.result if cell is not None and cell.result is not None else cancelled(call)

    def tell_cut_off(self) -> None:
        """Say how the open calls end, of a run that is cut off before it could take their results."""
        voice = self._run.voice
        for cell in self.cells.values():
            result = self.result_of(cell.call)
            facts: dict[str, Any] = {"call_id": cell.call_id, "tool": cell.tool.name}
            if cell.question is not None and cell.question.said:
                voice.mention(events.ApprovalResolved, answer="withdrawn", **facts)
            self._mention_questions(cell)
            if cell.exit is not None and cell.outlived:
                self._run.outlived += (f"{cell.tool.name}:{cell.call_id}",)
                voice.mention(events.ToolOutlived, **facts)
            facts.update(result=result.content, seconds=cell.seconds)
            if result.is_error:
                voice.mention(events.ToolErrored, cause=result.cause or "failed", **facts)
            else:
                voice.mention(events.ToolCompleted, **facts)

    def _mention_questions(self, cell: ToolCell) -> None:
        """Say how the questions of a call end that is cut off."""
        if cell.asker is not None:
            cell.asker.withdraw()
            for question in cell.asker.asked:
                if question.said:
                    self._run.voice.mention(events.QuestionAnswered, **_end_of(question))

    def _make(self, call: ToolCall) -> ToolCell:
        run = self._run
        tool = run.toolbox[call.name]
        cell = ToolCell(run, tool, call, governed=self._governed or not tool.rules.plain)
        self.cells[cell.call_id] = cell
        return cell

    async def _start(self, group: TaskGroup, cells: Sequence[ToolCell]) -> None:
        """Start calls side by side. Those that nothing has to be asked or waited for begin."""
        await self._begin(*[cell for cell in cells if not cell.governed])
        for cell in cells:
            if self._cut:
                cell.request_stop(self._cut)
            cell.spawn_in(group)

    async def _begin(self, *cells: ToolCell) -> None:
        """Write down and say that calls run now. The intents are durable, and so is the reply that made the calls."""
        at = self._run.diary.clock()
        self._run.write(*[journal.Intended(cell.call_id, at) for cell in cells])
        self._claimed.difference_update([cell.call_id for cell in cells])
        await self._run.diary.durable()
        for cell in cells:
            cell.started = True
            facts: dict[str, Any] = {"call_id": cell.call_id, "tool": cell.tool.name}
            await self._run.voice.say(events.ToolStarted, arguments=cell.call.arguments, **facts)

    async def _next_ending(self) -> list[Effect]:
        signal = await self._run.mailbox.receive()
        if isinstance(signal, Envelope):
            if signal.reply is not None:
                signal.reply.fail(TypeError("a run takes no messages of its own: use its Run handle"))
            return []
        if not isinstance(signal, ToolEnded | Progress | Asked | Resolved | Admitted | Changed):
            return []  # a stop: its effect was taken when it was asked for
        cell = signal.cell
        if self.cells.get(cell.call_id) is not cell:
            return []  # of a call that is over, or left from an attempt that crashed
        match signal:
            case ToolEnded():
                return await self._ended(cell)
            case Progress():
                facts: dict[str, Any] = {"call_id": cell.call_id, "tool": cell.tool.name, "progress": signal.progress}
                await self._run.voice.say(events.ToolProgress, **facts)
            case Asked():
                self._idle.add(cell.call_id)
                await self._tell_asked(signal.question)
            case Resolved():
                await self._resolved(cell, signal.question)
            case Changed():
                await self._tell_question(cell, signal.question)
            case Admitted():
                self._idle.add(cell.call_id)
                self._ready[cell] = True
                if not pause.holds(self._run):
                    await self._let_go(cell)
        return []

    async def _let_go(self, cell: ToolCell) -> None:
        """Let a call go on that waits for us: to the gate, or to its beginning."""
        self._idle.discard(cell.call_id)
        if self._ready.pop(cell) and not self._cut:
            await self._begin(cell)
        cell.let_go()

    async def _ended(self, cell: ToolCell) -> list[Effect]:
        """Take the result of a call, or the lack of one."""
        del self.cells[cell.call_id]
        self._idle.discard(cell.call_id)
        self._ready.pop(cell, None)
        question = cell.question
        if cell.pends:
            assert question is not None
            self._run.pending += (question.asked,)
            return self._machine.handle(ToolPends(cell.call_id))
        result = cell.result
        assert result is not None
        if question is not None and question.said:
            await self._tell_resolved(question)
        if cell.asker is not None:
            for asked in tuple(cell.asker.asked):
                await self._tell_question(cell, asked)
        if result.is_error:
            error = self._fatal(cell, result)
            if error is not None:
                self._machine.handle(Aborted(error))
            if error is not None or (cell.on_error == "cancel" and result.cause in FAILURES):
                self.cancel(SIBLING_FAILED)
        effects = self._done(result, cell)
        await self._report(cell, result)
        return effects

    def _fatal(self, cell: ToolCell, result: ToolResult) -> BaseException | None:
        """The error of a call that fails the run."""
        cause, cell.guard = cell.guard, None
        kind = GuardFailed
        if cause is None and cell.on_error == "fail" and result.cause in FAILURES:
            cause, kind = cell.failure, ToolError
        cell.failure = None
        if cause is None:
            return None
        error = kind(cell.tool.name, cell.call_id, described(cause))
        error.__cause__ = cause
        return error

    async def _tell_question(self, cell: ToolCell, question: UserQuestion) -> None:
        """Say what there is to say of what a call asks the user."""
        assert cell.asker is not None
        if question not in cell.asker.asked:
            return  # all is said
        run, asked = self._run, question.asked
        if not question.said:
            question.said = True
            facts: dict[str, Any] = {"call_id": asked.call_id, "tool": asked.tool, "question": asked.question}
            await run.voice.say(events.QuestionAsked, question_id=asked.question_id, **facts)
        if question.closed:
            cell.asker.asked.remove(question)
            await run.voice.say(events.QuestionAnswered, **_end_of(question))

    async def _tell_asked(self, question: Question) -> None:
        question.said = True
        asked = question.asked
        if asked.call_id not in self._run.past.asked:
            self._run.write(journal.Asked(asked.call_id, question.until, self._run.diary.clock()))
        facts: dict[str, Any] = {"question": asked.question, "arguments": asked.arguments}
        await self._run.voice.say(events.ApprovalRequested, call_id=asked.call_id, tool=asked.tool, **facts)

    async def _resolved(self, cell: ToolCell, question: Question) -> None:
        """Write an answer down, say it, and let the call go on when there is room."""
        answer = question.answer
        if answer is not None:
            self._run.write(journal.Answered(cell.call_id, answer, self._run.diary.clock()))
        await self._tell_resolved(question, None if answer is not None else "expired")
        if answer is True:
            self._ready[cell] = False
        else:
            cell.let_go()

    async def _tell_resolved(self, question: Question, word: str | None = None) -> None:
        question.said = False
        answer, asked = question.answer, question.asked
        word = word or ("withdrawn" if answer is None else "approved" if answer is True else "denied")
        reason = answer if isinstance(answer, str) else None
        facts: dict[str, Any] = {"answer": word, "reason": reason}
        await self._run.voice.say(events.ApprovalResolved, call_id=asked.call_id, tool=asked.tool, **facts)

    def _done(self, result: ToolResult, cell: ToolCell | None = None) -> list[Effect]:
        """Tell journal and machine of a result. What a suspension has cut short is done again, so it has none."""
        run = self._run
        if result.cause == "cancelled" and (run.is_suspended or (run.goes_on and run.stage.home.is_cancelled())):
            return self._machine.handle(ToolDone(result))
        at = run.diary.clock()
        if cell is None:
            run.write(journal.Happened(result, at))
        else:
            run.write(cell.happened(result, at))
            if not result.is_error:
                self.handoff = self.handoff or cell.tool.handoff
            for diary in cell.unfinished:
                diary.close("stopped", "abandoned")
        return self._machine.handle(ToolDone(result))

    async def _report(self, cell: ToolCell, result: ToolResult) -> None:
        voice = self._run.voice
        facts: dict[str, Any] = {"call_id": cell.call_id, "tool": cell.tool.name}
        if cell.outlived:
            self._run.outlived += (f"{cell.tool.name}:{cell.call_id}",)
            _log.warning(
                "tool %r goes on in its %s although its call was given up (call %s of run %s); its result is dropped",
                *(cell.tool.name, cell.tool.where, cell.call_id, self._run.name),
            )
            await voice.say(events.ToolOutlived, **facts)
        facts.update(result=result.content, seconds=cell.seconds)
        if result.is_error:
            await voice.say(events.ToolErrored, cause=result.cause or "failed", **facts)
        else:
            await voice.say(events.ToolCompleted, **facts)


def _end_of(question: UserQuestion) -> dict[str, Any]:
    """How a question to the user has ended, for its event."""
    asked = question.asked
    facts: dict[str, Any] = {"question_id": asked.question_id, "call_id": asked.call_id, "tool": asked.tool}
    return {**facts, "outcome": question.outcome, "text": question.answer or ""}
