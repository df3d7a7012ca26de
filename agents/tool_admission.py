"""What comes before a tool call runs: is it allowed, does somebody approve it, is it its turn.

It happens in the call's own task, so a call that waits holds up none of its siblings, and in this order: the policy,
the question, the gate. A call that waits for an answer has taken nothing, neither a lock nor a place. What the run must
write down or say is said by the run: the call signals where it is, and goes on when it is told to.

Whoever judges a call (policy, `needs_approval`, approver) is a guard: what it raises fails the run.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import anyio
from anyio import CancelScope

from ..actors import WouldDeadlock
from ..actors.crashes import is_crash
from ..providers import ToolResult
from .approvals import EXPIRED, Answer, Approvals, Approver, PendingCall, Question, denied, read_answer
from .context import RunContext
from .errors import StaleApproval
from .machine import cancelled
from .policy import Ask, Deny, Policy, judge

if TYPE_CHECKING:
    from .run_cell import RunCell
    from .run_options import RunOptions
    from .tool_cell import ToolCell


class Asked:
    """A call waits for an answer."""

    __slots__ = ("cell", "question")

    def __init__(self, cell: ToolCell, question: Question) -> None:
        self.cell = cell
        self.question = question


class Resolved:
    """A call waits no more: it has an answer, or it expired."""

    __slots__ = ("cell", "question")

    def __init__(self, cell: ToolCell, question: Question) -> None:
        self.cell = cell
        self.question = question


class Admitted:
    """A call has all that it needs, and is about to run."""

    __slots__ = ("cell",)

    def __init__(self, cell: ToolCell) -> None:
        self.cell = cell


class GuardRaised(Exception):
    """A guard has raised its ``__cause__``."""


def policies_of(run: RunCell) -> tuple[Policy, ...]:
    """What judges a run's calls: its agent's policy, and those that it and the runs above it were started with."""
    own = (run.agent.policy,) if run.agent.policy is not None else ()
    given = [options.policy for options in _options_in_force(run) if options.policy is not None]
    return (*own, *given) if given else own


def is_guarded(run: RunCell) -> bool:
    """Whether a run, or one above it, was started with a policy."""
    return any(options.policy is not None for options in _options_in_force(run))


def approver_of(run: RunCell) -> Approver | None:
    """Who answers for a run: the approver that it, or the nearest run above it, was started with."""
    return next((options.approve for options in _options_in_force(run) if options.approve is not None), None)


def approvals_of(run: RunCell) -> Approvals:
    """What the tree of this run asks. In the loop's thread only: it may have to be made."""
    *_, root = run.line()
    if root.approvals is None:
        root.approvals = Approvals()
    return root.approvals


def asked_by(run: RunCell) -> tuple[PendingCall, ...]:
    """The calls of a run, and of those below it, that wait for an answer. From any thread."""
    *_, root = run.line()
    return root.approvals.pending(run.name) if root.approvals is not None else ()


def answer_call(run: RunCell, call_id: str, answer: Answer, below: str | None, turn: int | None = None) -> None:
    """Answer a call of a run, or of one below it. From any thread.

    Raises:
        StaleApproval: no such call waits.
        ValueError: several do.
    """
    *_, root = run.line()
    if root.approvals is None:
        raise StaleApproval(f"run {run.name!r}", call_id)
    run.stage.home.run(root.approvals.answer(run.name, call_id, answer, below, turn).tell)


def _options_in_force(run: RunCell) -> Iterator[RunOptions]:
    """What a run and those above it were started with, also those that it has outlived; nearest first."""
    for each in run.line():
        yield each.options
        yield from each.heritage


async def admit(cell: ToolCell) -> ToolResult | None:
    """Wait until the call may run; returns None then, else the result of a call that must not.

    A call that has to be approved while nobody is there to ask has no result either: it `pends`.

    Raises:
        GuardRaised: nobody can say whether the call may run.
    """
    verdict = await _verdict(cell)
    given = cell.run.past.answers.get(cell.call_id)
    if isinstance(verdict, Deny):
        return denied(cell.call, verdict.reason)
    if given is not None and given is not True:
        return denied(cell.call, given)
    if isinstance(verdict, Ask) and given is None:
        refused = await _ask(cell, verdict.question)
        if refused is not None or cell.pends:
            return refused
    return await _enter(cell)


async def _verdict(cell: ToolCell) -> Any:
    """What the policies and the tool itself say."""
    try:
        verdict: Any = await judge(policies_of(cell.run), cell.call, RunContext(cell.run, cell))
        needed: Any = cell.tool.rules.needs_approval
        if callable(needed) and not isinstance(verdict, Deny):
            needed = needed(cell.tool.arguments(cell.call))
            if inspect.isawaitable(needed):
                needed = await needed
            if not isinstance(needed, bool | str):
                raise TypeError(f"needs_approval returns True, False or a question, not {needed!r}")
    except BaseException as error:
        raise _of_guard(error) from error
    if needed and not isinstance(verdict, Deny | Ask):
        return Ask(needed if isinstance(needed, str) else "")
    return verdict


def _of_guard(error: BaseException) -> BaseException:
    return GuardRaised() if is_crash(error) else error


async def _ask(cell: ToolCell, text: str) -> ToolResult | None:
    """Ask somebody; the result of a call that nobody has approved."""
    run = cell.run
    if run.wanted is not None:
        return cancelled(cell.call)  # the run is to end when what runs has ended, and this does not run yet
    approver = approver_of(run)
    if approver is None and not run.voice.reachable:
        cell.pends = True
    said = text or f"May {cell.tool.name} run?"
    asked = PendingCall(cell.call_id, cell.tool.name, cell.call.arguments or {}, said, run.name, run.voice.turn)
    scope = CancelScope()
    question = cell.question = Question(asked, run.voice.path, scope.cancel)
    if cell.pends:
        question.closed = True
        run.mailbox.signal(Asked(cell, question))
        return None
    timeout, question.until = _time_to_answer(cell)
    if timeout is not None:
        scope.deadline = anyio.current_time() + timeout
    with scope:
        approvals_of(run).ask(question)
        run.mailbox.signal(Asked(cell, question))
        if approver is not None:
            try:
                answer = await _approver_says(approver, asked)
            except GuardRaised:
                if not scope.cancel_called:
                    raise
                # It was told that nobody waits for its answer. What it makes of that is nobody's concern.
            else:
                # One that keeps the loop busy, or shields itself, may answer when its time is over.
                in_time = anyio.current_time() < scope.deadline
                if approvals_of(run).withdraw(question) and in_time:
                    question.answer = answer
        else:
            await anyio.sleep_forever()
    # Not cancelled from elsewhere: there is an answer, or the time is over. Nobody can answer from here on.
    approvals_of(run).withdraw(question)
    await cell.report(Resolved(cell, question))
    if question.answer is None:
        return denied(cell.call, EXPIRED.format(run.agent.approval_timeout or 0.0))
    return None if question.answer is True else denied(cell.call, question.answer)


def _time_to_answer(cell: ToolCell) -> tuple[float | None, float | None]:
    """Seconds for an answer, and their end on the wall clock. Of a question that was asked before a crash: the rest."""
    run = cell.run
    timeout, now = run.agent.approval_timeout, run.stage.sources.clock()
    if cell.call_id in run.past.asked:
        until = run.past.asked[cell.call_id]
        if until is None:
            return None, None
        left = max(0.0, until - now)
        return min(left, timeout) if timeout is not None else left, until  # a clock may have been set back
    return timeout, now + timeout if timeout is not None else None


async def _approver_says(approver: Any, asked: PendingCall) -> Answer:
    try:
        answer = approver(asked)
        if inspect.isawaitable(answer):
            answer = await answer
        return read_answer(answer)
    except BaseException as error:
        raise _of_guard(error) from error


async def _enter(cell: ToolCell) -> ToolResult | None:
    """Wait for the call's turn at the gate, and have the run say that it begins."""
    gate, rules = cell.run.stage.gate, cell.tool.rules
    key = rules.lock
    if callable(key):
        try:
            key = key(cell.tool.arguments(cell.call))
            hash(key)
        except Exception as error:
            return cell.error_of(error)
    if key is not None or rules.limit is not None or gate.everyone is not None:
        cell.passes = gate.make_pass(cell.tool, rules.limit, key, cell.pass_above())
        try:
            await cell.passes.enter()
        except WouldDeadlock as error:
            return cell.error_of(error)
    await cell.report(Admitted(cell))
    return None
