"""Calls that wait for somebody's word: what is asked, who may answer, and until when.

A question is open from the moment it is asked until one of these comes first: an answer, its expiry, or the end of the
call that waits (a stop, a crash). Whoever comes second finds it closed: an answer to it is refused with `StaleApproval`
and runs nothing. Answers come from any thread, so what is open is kept under a lock, and the thread that takes a
question out of it has the say.

The questions of a tree of runs are kept by its root, so that the root's handle can answer for its subagents.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from threading import Lock
from typing import Any, TypeAlias

import msgspec

from ..providers import Message, ToolCall, ToolResult
from .errors import StaleApproval

#: True: it may run. False, or a text that says why: it must not.
Answer: TypeAlias = "bool | str"
Approver: TypeAlias = "Callable[[PendingCall], Awaitable[Answer] | Answer]"

EXPIRED = "expired: nobody has approved this call within {:g} s"


class PendingCall(msgspec.Struct, frozen=True):
    """A tool call that waits for an approval, and what is asked; `turn` is that of its run, of `run_id`."""

    call_id: str
    tool: str
    arguments: dict[str, Any]
    question: str
    run_id: str
    turn: int = 0


class Question:
    """An open question.

    Attributes:
        asked: what is asked.
        path: the runs from the root to the one that asks.
        answer: None until there is one.
        closed: whether nobody can answer any more.
        said: whether the run has said that it is asked, and not yet how it ended.
        until: when it expires, in seconds since the epoch; None if never.
    """

    __slots__ = ("_tell", "answer", "asked", "closed", "path", "said", "until")

    def __init__(self, asked: PendingCall, path: tuple[str, ...], tell: Callable[[], None]) -> None:
        self.asked = asked
        self.path = path
        self.answer: Answer | None = None
        self.closed = False
        self.said = False
        self.until: float | None = None
        self._tell = tell

    def tell(self) -> None:
        """Wake whoever waits for the answer."""
        self._tell()


class Approvals:
    """The open questions of one tree of runs. Its methods may be called from any thread."""

    __slots__ = ("_lock", "_open")

    def __init__(self) -> None:
        self._lock = Lock()
        self._open: dict[tuple[str, str], Question] = {}

    def ask(self, question: Question) -> None:
        """Open a question."""
        with self._lock:
            self._open[question.asked.run_id, question.asked.call_id] = question

    def answer(
        self, run: str, call_id: str, answer: Answer, below: str | None = None, turn: int | None = None
    ) -> Question:
        """Close a question with an answer.

        Args:
            run: whose handle is used: its own questions come first, then those of the runs below it.
            call_id: the call.
            answer: the answer.
            below: the run that asks, if it is to be no other.
            turn: the turn of the call, likewise.

        Raises:
            StaleApproval: no such question is open.
            ValueError: several runs below ask of a call with that id.
        """
        with self._lock:
            found = [
                question
                for question in self._open.values()
                if question.asked.call_id == call_id
                and run in question.path
                and (below is None or question.asked.run_id == below)
                and (turn is None or question.asked.turn == turn)
            ]
            own = [question for question in found if question.asked.run_id == run]
            if len(own or found) > 1:
                names = ", ".join(question.asked.run_id for question in found)
                raise ValueError(f"the runs {names} all wait for an answer to call {call_id!r}: say which with run_id=")
            if not found:
                raise StaleApproval(f"run {run!r}", call_id)
            question = (own or found)[0]
            question.answer = answer
            self._close(question)
        return question

    def withdraw(self, question: Question) -> bool:
        """Close a question without an answer; False when it has one, or was withdrawn before."""
        with self._lock:
            if question.closed:
                return False
            self._close(question)
            return True

    def _close(self, question: Question) -> None:
        question.closed = True
        del self._open[question.asked.run_id, question.asked.call_id]

    def pending(self, run: str) -> tuple[PendingCall, ...]:
        """What is asked by a run and those below it."""
        with self._lock:
            return tuple([question.asked for question in self._open.values() if run in question.path])


def read_answer(value: object) -> Answer:
    """An answer as somebody gave it.

    Raises:
        TypeError: neither True, False nor a text.
    """
    if not isinstance(value, bool | str):
        raise TypeError(f"an approval is True, False, or a text that says why not, not {value!r}")
    return value


def check_approve(approve: object) -> None:
    """Refuse what cannot answer.

    Raises:
        TypeError: it is no function.
    """
    if approve is not None and not callable(approve):
        raise TypeError(f"approve= takes a function of the call that waits, not {approve!r}")


def denied(call: ToolCall, answer: Answer) -> ToolResult:
    """The result of a call that was not approved."""
    reason = answer if isinstance(answer, str) and answer else "not approved"
    return ToolResult(call.id or "", f"denied: {reason}", call.name, True, "denied")


def resume(
    messages: Sequence[Message], approvals: Mapping[str, object]
) -> tuple[tuple[Message, ...], tuple[ToolResult, ...], dict[str, Answer]]:
    """Where a run that ended waiting goes on.

    Returns:
        The conversation up to the message whose calls wait, the results that its other calls have, and the answers.

    Raises:
        StaleApproval: an answer to a call that does not wait at the end of this history.
        TypeError: approvals of another shape.
    """
    if not isinstance(approvals, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"approvals= takes a dictionary, {{call_id: True}}, not {approvals!r}")
    answers = {id: read_answer(answer) for id, answer in approvals.items()}
    end = len(messages)
    while end and messages[end - 1].role == "tool":
        end -= 1
    results = [result for message in messages[end:] for result in message.tool_results]
    waiting = {result.call_id for result in results if result.cause == "pending"}
    for id in answers:
        if id not in waiting:
            raise StaleApproval("the history", id)
    if not waiting:
        raise ValueError("approvals={} goes on with nothing: no call waits at the end of the history")
    return tuple(messages[:end]), tuple(result for result in results if result.cause != "pending"), answers
