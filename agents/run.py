"""The handle of one run: follow it, stop it, wait for it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias

import msgspec

from ..actors import Node
from ..providers import Message, Part, Usage
from . import pause
from .approvals import PendingCall
from .inbox import Letter, When, read_letter, take, take_or_return
from .machine import StopMode
from .object_reader import ObjectReader
from .questions import PendingQuestion, answer_question
from .questions import asked_by as questions_by
from .readers import EventReader, TextReader
from .result import OutputT, RunResult
from .stop_token import check_stop
from .tool_admission import answer_call, asked_by
from .waiting import waiting_for

if TYPE_CHECKING:
    from .run_cell import RunCell

RunStatus: TypeAlias = Literal["running", "completed", "stopped", "limited", "waiting", "failed"]


class RunSnapshot(msgspec.Struct, frozen=True):
    """How far a run is.

    Attributes:
        text: what its answer says in the turn at hand, as far as somebody has it streamed.
        seq: the sequence number of the last event; all that `text` says was in an event up to that one.
    """

    text: str
    seq: int


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
        return self._cell.spending.usage

    def snapshot(self) -> RunSnapshot:
        """How far the run is, at this moment: for whoever shows it to somebody who comes late, and then goes on with
        the events behind `RunSnapshot.seq`.

        Raises:
            RuntimeError: called from another thread.
        """
        self._cell.stage.home.refuse_elsewhere("snapshot()")
        return RunSnapshot(self._cell.shown, self._cell.voice.count)

    def events(self, since: int = 0, *, deltas: bool = True) -> EventReader:
        """Follow the run and its subagents: lifecycle events after `since` that are still kept (the latest 1,000), then
        everything as it happens. Where others are gone, it begins with an `EventsDropped`. Raises the run's error after
        the last event.

        Args:
            since: the sequence number of the last event that is known (default 0: none).
            deltas: whether answers are followed as they grow (default). Without, only lifecycle events come, and the
                run asks its model for whole replies, unless somebody else wants more.
        """
        return self._cell.voice.log.follow(since, deltas)

    def text(self) -> TextReader:
        """Follow the answer's text, piece by piece; none of it twice. Raises the run's error at the end.

        Who comes late gets the text of the turn at hand, or of the last one, whole; of earlier turns nothing.
        """
        cell = self._cell
        return TextReader(cell.voice.log, cell.name, cell.shown, cell.voice.turn)

    def objects(self) -> ObjectReader:
        """Follow a typed answer as it grows: the part of it that is there, as plain dictionaries, lists and so on, and
        at last the run's output, read and checked. Raises the run's error at the end; a run that was stopped has no
        output. A slow reader gets the latest part. An answer that is sent back gives way to the next one.

        Raises:
            TypeError: the agent answers with text: use `text`.
        """
        cell = self._cell
        agent = cell.agent
        called = agent.asking.called
        if called is None:
            raise TypeError(f"agent {agent.name!r} answers with text, not with an object: use run.text()")

        def output() -> tuple[bool, Any]:
            result = cell.result
            return (True, result.output) if result is not None and result.status == "completed" else (False, None)

        return ObjectReader(
            cell.voice.log, cell.name, called.name, agent.output_key, output, cell.shown, cell.voice.turn
        )

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
        async with waiting_for((cell,)):
            await cell.wait_over()
        if cell.error is not None:
            try:
                # All who wait are given one object: its traceback must not grow with each of them.
                raise cell.error.with_traceback(None)
            finally:
                del self, cell  # this frame is in the traceback, and the run has the error
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
            grace: seconds that it may take. A gentle mode then becomes ``now``; by default it takes as long as it
                takes. Of ``now``, the run's task is then killed, and what cannot be killed is named in the result's
                `outlived`; by default the System's grace (5 seconds outside any).

        Raises:
            ValueError: an unknown mode.
            TypeError: a reason that is no text, a grace that is no number.
        """
        check_stop(mode, reason, grace)
        self._cell.stage.home.run(self._cell.stop_run, mode, reason, grace)
        return Stopping(self)

    @property
    def pending(self) -> tuple[PendingCall, ...]:
        """The tool calls, of the run and its subagents, that wait for an approval at this moment."""
        return asked_by(self._cell)

    def approve(self, call_id: str, *, run_id: str | None = None, turn: int | None = None) -> None:
        """Let a tool call run that waits for an approval. From any thread, at once.

        Args:
            call_id: the call, as `approval.requested` and `pending` name it: of this run, else of a subagent.
            run_id: the subagent, where several wait with the same call id.
            turn: the turn of the call. Some models give their calls the same ids in each turn: then an answer that
                comes late is for no call but the one that was meant.

        Raises:
            StaleApproval: no such call waits: it was answered, has expired, or was given up with its run.
            ValueError: several subagents wait with this call id.
        """
        answer_call(self._cell, call_id, True, run_id, turn)

    def deny(
        self, call_id: str, reason: str = "not approved", *, run_id: str | None = None, turn: int | None = None
    ) -> None:
        """Refuse a tool call that waits for an approval; the model is told the reason. As `approve`."""
        if not isinstance(reason, str):
            raise TypeError(f"deny(reason=) takes a text, not {reason!r}")
        answer_call(self._cell, call_id, reason or False, run_id, turn)

    @property
    def questions(self) -> tuple[PendingQuestion, ...]:
        """What tools of the run and its subagents ask the user at this moment, oldest first."""
        return questions_by(self._cell)

    def answer(self, question_id: str, text: str) -> None:
        """Answer a question that a tool asks the user with `RunContext.ask_user`. From any thread, at once.

        Args:
            question_id: the question, as `message.asked` and `questions` name it: of this run, or of a subagent.
            text: the answer.

        Raises:
            StaleQuestion: no such question is open: it was answered, has expired, or was withdrawn with its call.
            TypeError: an answer that is no text.
        """
        answer_question(self._cell, question_id, text)

    def send(self, message: str | Message | Part | Sequence[str | Part], when: When = "asap") -> Letter:
        """Send a message of the user into the run.

        It is sent at once, from any thread, and keeps its place behind those sent before. What is returned may be
        awaited, until the message is in the conversation, or ignored: a run that ends before it gets to a message
        makes it a dead letter.

        Args:
            message: text, parts, or a user message.
            when: ``asap`` puts it into the next request, after the results of the tool calls that are open; a run that
                is about to complete goes on instead. ``idle`` waits until the run would complete, and has it go on.

        Raises:
            RunEnded: the run has ended; the error carries the message.
            TypeError, ValueError: what cannot be sent.
        """
        cell = self._cell
        letter = Letter(cell, read_letter(message, when), when)
        if cell.result is not None or (cell.stage.home.here and not take(cell, letter)):
            raise letter.refused()
        if not cell.stage.home.here:
            cell.stage.home.run(take_or_return, cell, letter)
        return letter

    def pause(self) -> None:
        """Have the run, and its subagents, finish the step at hand and begin no model call and no tool until `resume`.

        A run that was paused is still so when it is recovered from its journal.

        At once, from any thread. A stop ends a paused run like any other.
        """
        self._cell.stage.home.run(pause.pause, self._cell)

    def resume(self) -> None:
        """Have a paused run go on. From any thread; one that is not paused does not mind."""
        self._cell.stage.home.run(pause.resume, self._cell)

    def tree(self) -> Node:
        """The run, its open tool calls and its subagents, at this moment.

        Raises:
            RuntimeError: called from another thread.
        """
        home = self._cell.stage.home
        home.refuse_elsewhere("tree()")
        return self._cell.node(home.now())

    def __repr__(self) -> str:
        return f"<Run {self.id} of {self._cell.agent.name!r}: {self.status}>"


class Stopping(Generic[OutputT]):
    """The end that was asked for, to be awaited for the `RunResult`, or ignored."""

    __slots__ = ("_run",)

    def __init__(self, run: Run[OutputT]) -> None:
        self._run = run

    def __await__(self) -> Generator[Any, Any, RunResult[OutputT]]:
        return self._run.result().__await__()

    def __repr__(self) -> str:
        return f"<the end of {self._run!r}, asked for: await it for the result, or ignore it>"
