"""What a tool asks the user while it runs: `RunContext.ask_user`, answered by `Run.answer`.

A question is open from the moment it is asked until one of these comes first: an answer, its expiry, or the end of the
wait (a stop, the tool's own timeout, a crash). Whoever comes second finds it closed: an answer to it is refused with
`StaleQuestion`. Answers come from any thread, so what is open is kept under a lock, and the thread that takes a
question out of it has the say. The questions of a tree of runs are kept by its root, so that the root's handle can
answer for its subagents.

An answer that was taken is written down at once, in the loop's thread, and is durable before the tool goes on. So a
call that runs again, after a crash or as another try, has the answers that were given to its first questions: they are
known by their number within the call, and by their text. A question that was open is asked again under the same id, and
waits only as long as was left.

A call that waits for the user is at work: it keeps its place and its locks, its timeout counts, and a pause waits for
it. A drain does not: a call that may run again is suspended with its run, and asks again elsewhere.

The wait is in the tool's own task. What is to be heard of a question is said by the run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING

import anyio
import msgspec
from anyio import CancelScope
from anyio.lowlevel import checkpoint_if_cancelled

from .. import journal
from ..journal import JournalError
from .errors import StaleQuestion, ToolFailed
from .result import utc
from .tool_rules import check_timeout

if TYPE_CHECKING:
    from .run_cell import RunCell
    from .tool_cell import ToolCell

#: What the model is told where nobody can answer.
NOBODY = "nobody is there to answer: this run was started without a handle, as by agent.run(…); go on without asking"


class PendingQuestion(msgspec.Struct, frozen=True):
    """What a tool asks the user.

    Attributes:
        question_id: what `Run.answer` takes; the same after a crash.
        run_id: the run that asks.
        path: the runs from the root to it.
        call_id, tool: the call that waits.
        question: the text.
        asked_at: when it was asked (UTC).
        expires_at: when the wait is over (UTC); None if never.
    """

    question_id: str
    run_id: str
    path: tuple[str, ...]
    call_id: str
    tool: str
    question: str
    asked_at: datetime
    expires_at: datetime | None = None


class Recorded(msgspec.Struct, frozen=True):
    """A question as it was written down: its text, until when (seconds since the epoch), and the answer if any."""

    question: str
    until: float | None
    answer: str | None = None


class Question:
    """A question that is open, or was.

    Attributes:
        asked: what is asked.
        number: its place among those of its call, from 1.
        answer: None until there is one.
        closed: whether nobody can answer any more.
        expired: whether it was closed because its time was over.
        said: whether the run has said that it is asked.
    """

    __slots__ = ("_tell", "answer", "asked", "closed", "expired", "number", "said")

    def __init__(self, asked: PendingQuestion, number: int, tell: Callable[[Question], None]) -> None:
        self.asked = asked
        self.number = number
        self.answer: str | None = None
        self.closed = False
        self.expired = False
        self.said = False
        self._tell = tell

    @property
    def outcome(self) -> str:
        """How it ended, once it is closed."""
        return "answered" if self.answer is not None else "expired" if self.expired else "withdrawn"

    def tell(self) -> None:
        """Take the answer to whoever waits for it. In the loop's thread."""
        self._tell(self)


class Questions:
    """The open questions of one tree of runs. Its methods may be called from any thread."""

    __slots__ = ("_lock", "_open")

    def __init__(self) -> None:
        self._lock = Lock()
        self._open: dict[str, Question] = {}

    def ask(self, question: Question) -> None:
        """Open a question."""
        with self._lock:
            self._open[question.asked.question_id] = question

    def answer(self, run: str, question_id: str, text: str) -> Question:
        """Close a question with an answer, by the handle of the run that asks or of one above it.

        Raises:
            StaleQuestion: no such question is open.
        """
        with self._lock:
            question = self._open.get(question_id)
            if question is None or run not in question.asked.path:
                raise StaleQuestion(f"run {run!r}", question_id)
            question.answer = text
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
        if self._open.get(question.asked.question_id) is question:
            del self._open[question.asked.question_id]

    def pending(self, run: str) -> tuple[PendingQuestion, ...]:
        """What is asked by a run and those below it, oldest first."""
        with self._lock:
            return tuple([each.asked for each in self._open.values() if run in each.asked.path])


def questions_of(run: RunCell) -> Questions:
    """What the tree of this run asks. In the loop's thread only: it may have to be made."""
    *_, root = run.line()
    if root.questions is None:
        root.questions = Questions()
    return root.questions


def asked_by(run: RunCell) -> tuple[PendingQuestion, ...]:
    """The open questions of a run, and of those below it. From any thread."""
    *_, root = run.line()
    return root.questions.pending(run.name) if root.questions is not None else ()


def is_reachable(run: RunCell) -> bool:
    """Whether anybody could answer: somebody has a handle of the run or of one above it, or hears its events and can
    find it in its System.
    """
    if run.voice.reachable:
        return True
    return run.stage.group is not None and any(each.options.on_event is not None for each in run.line())


def answer_question(run: RunCell, question_id: object, text: object) -> None:
    """Answer a question of a run, or of one below it. From any thread.

    Raises:
        StaleQuestion: no such question is open.
        TypeError: the id or the answer is no text.
    """
    question_id, text = read_answer(question_id, text)
    *_, root = run.line()
    if root.questions is None:
        raise StaleQuestion(f"run {run.name!r}", question_id)
    run.stage.home.run(root.questions.answer(run.name, question_id, text).tell)


def read_question(question: object, timeout: object) -> tuple[str, float | None]:
    """A question, and for how many seconds it is asked.

    Raises:
        TypeError, ValueError: a question that is no text, or empty; a time that is none.
    """
    if not isinstance(question, str):
        raise TypeError(f"ask_user(question) takes text, not {question!r}")
    if not question.strip():
        raise ValueError(f"ask_user(question) takes a question, not {question!r}")
    return question, check_timeout("ask_user(timeout=)", timeout)


def read_answer(question_id: object, text: object) -> tuple[str, str]:
    """The id of a question and the answer to it.

    Raises:
        TypeError: one of them is no text.
    """
    if not isinstance(question_id, str):
        raise TypeError(f"answer(question_id=) takes the question_id of a question, a text, not {question_id!r}")
    if not isinstance(text, str):
        raise TypeError(f"answer(text=) takes text, not {type(text).__name__}: write answer({question_id!r}, str(…))")
    return question_id, text


class Changed:
    """The control signal that something is to be said of a question of this call."""

    __slots__ = ("cell", "question")

    def __init__(self, cell: ToolCell, question: Question) -> None:
        self.cell = cell
        self.question = question


class Asker:
    """What one tool call asks the user. Belongs to the loop's thread.

    Attributes:
        asked: the questions that were opened and whose end has not been said.
    """

    __slots__ = ("_cell", "_count", "_known", "_wakes", "asked")

    def __init__(self, cell: ToolCell) -> None:
        self._cell = cell
        self._count = 0
        # What was asked before, by number; and what wakes those who wait.
        self._known = dict(cell.run.past.questions.get(cell.call_id, {}))
        self._wakes: dict[Question, CancelScope] = {}
        self.asked: list[Question] = []

    def begin_again(self) -> None:
        """The call is tried once more, from its first question on. What has no answer is asked anew."""
        self._count = 0
        self._known = {number: each for number, each in self._known.items() if each.answer is not None}

    @property
    def waits(self) -> bool:
        """Whether a question of the call is open."""
        return any(not question.closed for question in self.asked)

    def withdraw(self) -> None:
        """Nobody can answer from here on."""
        for question in self.asked:
            questions_of(self._cell.run).withdraw(question)

    async def ask(self, text: str, timeout: float | None) -> str:
        """Ask, and wait for the answer.

        Raises:
            ToolFailed: nobody is there to answer.
            TimeoutError: nobody has answered in time.
        """
        run = self._cell.run
        await checkpoint_if_cancelled()
        number = self._number_of(text)
        known = self._known.get(number)
        if known is not None and known.answer is not None:
            return known.answer
        if not is_reachable(run):
            raise ToolFailed(NOBODY)
        now = run.diary.clock()
        if known is None:
            known = self._known[number] = Recorded(text, now + timeout if timeout is not None else None)
            run.write(journal.Questioned(self._cell.call_id, number, text, known.until, now))
        answer = await self._wait_for(number, known, now, timeout)
        if answer is None:
            raise TimeoutError(f"nobody has answered the question within {timeout or 0:g} s")
        await run.diary.durable()
        return answer

    def _number_of(self, text: str) -> int:
        """Which question of the call this is. One that was asked before has the number that it had."""
        while True:
            self._count += 1
            known = self._known.get(self._count)
            if known is None or known.question == text:
                return self._count

    async def _wait_for(self, number: int, known: Recorded, now: float, timeout: float | None) -> str | None:
        """The answer; None where the time is over before there is one."""
        run = self._cell.run
        scope = CancelScope()
        if known.until is not None:
            left = known.until - now
            left = min(left, timeout) if timeout is not None else left  # a clock may have been set back
            scope.deadline = anyio.current_time() + max(0.0, left)
        question = Question(self._described(number, known, now), number, self._wake)
        self.asked.append(question)
        self._wakes[question] = scope
        questions = questions_of(run)
        questions.ask(question)
        run.mailbox.signal(Changed(self._cell, question))
        try:
            with scope:
                await anyio.sleep_forever()
            # Not cancelled from elsewhere: there is an answer, or the time is over.
            question.expired = questions.withdraw(question)
        finally:
            questions.withdraw(question)
            self._record(question)
            del self._wakes[question]
            run.mailbox.signal(Changed(self._cell, question))
        return question.answer

    def _described(self, number: int, known: Recorded, now: float) -> PendingQuestion:
        cell, run = self._cell, self._cell.run
        return PendingQuestion(
            f"{run.place_of(cell)}.q{number}",
            run.name,
            run.voice.path,
            cell.call_id,
            cell.tool.name,
            known.question,
            utc(now),
            utc(known.until) if known.until is not None else None,
        )

    def _wake(self, question: Question) -> None:
        """Write an answer down, and wake who waits for it, unless they have found it by themselves."""
        scope = self._wakes.get(question)
        if scope is not None:
            self._record(question)
            scope.cancel()

    def _record(self, question: Question) -> None:
        """Write the answer down, once. An answer to a call that has ended is not of this turn any more."""
        run, cell, number = self._cell.run, self._cell, question.number
        known = self._known.get(number)
        if question.answer is None or known is None or known.answer is not None:
            return
        self._known[number] = msgspec.structs.replace(known, answer=question.answer)
        if run.tool_call(cell.call_id) is cell:
            with suppress(JournalError):  # the run finds out by itself
                run.write(journal.AnsweredQuestion(cell.call_id, number, question.answer, run.diary.clock()))
