"""What blocking code holds of a run and of a conversation: the handles of `Run` and `Conversation`, without await.

They keep the asynchronous handle and the thread of its System. What is only a request or a look (`stop`, `send`,
`approve`, `status`) goes straight to the handle, which takes it from any thread; what waits is a call into the loop. A
run that has ended needs no loop: its result, and the events that are kept, can be had also after its System.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from typing_extensions import Unpack

from ..actors import Node
from ..actors.ref import check_seconds
from ..providers import Message, Part, Usage
from .approvals import PendingCall
from .conversation import Conversation
from .events import AnyEvent
from .held_block import HeldBlock
from .history import Prompt
from .inbox import Letter, When
from .machine import StopMode
from .questions import PendingQuestion
from .readers import EventReader, TextReader
from .result import Messages, OutputT, RunResult
from .run import Run, RunSnapshot, RunStatus
from .run_options import ConversationKeywords
from .run_stream import RunStream
from .system_thread import SystemThread
from .thread_reading import Reading, has_events, has_text

T = TypeVar("T")


class ThreadRun(Generic[OutputT]):
    """One run of an agent, for blocking code. Get it from ``system.start(…)`` or ``system.stream(…)``.

    Any number of threads may use it. Iterating it gives its events: ``for event in run``.
    """

    __slots__ = ("_first", "_run", "_thread")

    def __init__(self, thread: SystemThread, run: Run[OutputT], first: EventReader | None = None) -> None:
        self._thread = thread
        self._run = run
        #: A reader that has followed the run from its beginning; whoever asks first for events has it.
        self._first = [first] if first is not None else []

    @property
    def id(self) -> str:
        """The run's id."""
        return self._run.id

    @property
    def status(self) -> RunStatus:
        """``running``, or how it ended."""
        return self._run.status

    @property
    def usage(self) -> Usage:
        """Tokens used so far, subagents included."""
        return self._run.usage

    @property
    def pending(self) -> tuple[PendingCall, ...]:
        """The tool calls, of the run and its subagents, that wait for an approval at this moment."""
        return self._run.pending

    def result(self, timeout: float | None = None) -> RunResult[OutputT]:
        """Block until the end and return the result. An interrupt, such as Ctrl-C, leaves the run alone.

        Args:
            timeout: seconds to wait at most; the run goes on (default: until the end). With 0 nobody waits: a tool may
                ask that of any run.

        Raises:
            TimeoutError: the run has not ended by then.
            AgentError, ProviderError: as for `Run.result`.
            SystemClosed: the System ended, and the run has not.
            WouldDeadlock: a tool of this System waits for a run that is no subagent of its own.
            TypeError, ValueError: `timeout` is no length of time.
        """
        check_seconds("run.result(timeout=)", timeout)
        cell = self._run._cell
        if timeout != 0:
            self._thread.refuse_waiting("run.result()", cell)  # also of one that has ended: that may be luck
        result = cell.result
        if result is None or (cell.exit is None and not cell.forsaken):
            return self._thread.call("run.result()", self._run.result, timeout)
        if cell.error is not None:
            raise cell.error.with_traceback(None)
        return result

    def snapshot(self) -> RunSnapshot:
        """How far the run is, as `Run.snapshot` says."""

        async def snapshot() -> RunSnapshot:
            return self._run.snapshot()

        return self._thread.call("run.snapshot()", snapshot)

    def events(self, since: int = 0, *, deltas: bool = True) -> Iterator[AnyEvent]:
        """Follow the run and its subagents, as `Run.events` does; blocks until there is one. Raises the run's error
        after the last event.

        The run goes on while this thread is on its way here. So of a run that was started with `start`, what is
        streamed before (deltas) is not seen; of one in a `stream` block all is.
        """
        first = self._take_first() if since == 0 and deltas else None
        follow = (lambda: first) if first is not None else lambda: self._run.events(since, deltas=deltas)
        return Reading(self._thread, "run.events()", self._run, follow, has_events)

    def text(self) -> Iterator[str]:
        """Follow the answer's text, piece by piece, as `Run.text` does; blocks until there is some."""
        first = self._take_first()

        def follow() -> TextReader:
            reader = self._run.text()
            if first is not None:
                first.log.drop(first)
            return reader

        return Reading(self._thread, "run.text()", self._run, follow, has_text)

    def objects(self) -> Iterator[Any]:
        """Follow the answer as it grows, as `Run.objects` does; blocks until there is more."""
        return Reading(self._thread, "run.objects()", self._run, self._run.objects, lambda _: False)

    def _take_first(self) -> EventReader | None:
        try:
            return self._first.pop()
        except IndexError:
            return None

    def let_go(self) -> None:
        """The block that gave this handle has ended: drop the reader that nobody wanted."""
        first = self._take_first()
        if first is not None:
            self._thread.post(first.log.drop, first)

    def __iter__(self) -> Iterator[AnyEvent]:
        return self.events()

    def stop(self, mode: StopMode = "now", *, reason: str = "user", grace: float | None = None) -> Self:
        """Ask the run to end, as `Run.stop` does, at once; ``run.stop().result()`` waits for it too."""
        self._run.stop(mode, reason=reason, grace=grace)
        return self

    def approve(self, call_id: str, *, run_id: str | None = None, turn: int | None = None) -> None:
        """Let a tool call run that waits for an approval, as `Run.approve` does."""
        self._run.approve(call_id, run_id=run_id, turn=turn)

    def deny(
        self, call_id: str, reason: str = "not approved", *, run_id: str | None = None, turn: int | None = None
    ) -> None:
        """Refuse a tool call that waits for an approval, as `Run.deny` does."""
        self._run.deny(call_id, reason, run_id=run_id, turn=turn)

    @property
    def questions(self) -> tuple[PendingQuestion, ...]:
        """What tools of the run and its subagents ask the user at this moment, oldest first."""
        return self._run.questions

    def answer(self, question_id: str, text: str) -> None:
        """Answer a question that a tool asks the user, as `Run.answer` does."""
        self._run.answer(question_id, text)

    def send(self, message: str | Message | Part | Sequence[str | Part], when: When = "asap") -> Letter:
        """Send a message of the user into the run, as `Run.send` does, at once. What is returned says in `delivered`
        whether it is in the conversation, and in `error` whether the run has ended before.
        """
        return self._run.send(message, when)

    def pause(self) -> None:
        """Have the run finish the step at hand and begin nothing until `resume`, as `Run.pause` does."""
        self._run.pause()

    def resume(self) -> None:
        """Have a paused run go on."""
        self._run.resume()

    def tree(self) -> Node:
        """The run, its open tool calls and its subagents, at this moment."""

        async def tree() -> Node:
            return self._run.tree()

        return self._thread.call("run.tree()", tree)

    def __repr__(self) -> str:
        return f"<ThreadRun {self.id}: {self.status}>"


class ThreadStream(Generic[OutputT]):
    """``with system.stream(agent, "…") as run: for event in run: …``: starts a run, and sees to its end."""

    __slots__ = ("_held", "_run", "_thread")

    def __init__(self, thread: SystemThread, stream: Callable[[], RunStream[OutputT]]) -> None:
        self._thread = thread
        self._held = HeldBlock(thread, "system.stream()", lambda: _followed(stream()))
        self._run: ThreadRun[OutputT] | None = None

    def __enter__(self) -> ThreadRun[OutputT]:
        run, first = self._held.enter()
        self._run = ThreadRun(self._thread, run, first)
        return self._run

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            self._held.leave(exc is not None)
        finally:
            if self._run is not None:
                self._run.let_go()


@asynccontextmanager
async def _followed(stream: RunStream[OutputT]) -> AsyncGenerator[tuple[Run[OutputT], EventReader]]:
    """A stream, followed before its run has taken a step."""
    async with stream as run:
        yield run, run.events()


class ThreadConversation(Generic[OutputT]):
    """A conversation with one agent, for blocking code. Get it from ``system.conversation(agent, "c1")``.

    Any number of threads may use it: what they ask is answered in order.
    """

    __slots__ = ("_chat", "_thread")

    def __init__(self, thread: SystemThread, chat: Conversation[OutputT]) -> None:
        self._thread = thread
        self._chat = chat

    @property
    def id(self) -> str:
        """The conversation's id."""
        return self._chat.id

    @property
    def messages(self) -> Messages:
        """What was said so far, as far as it was read."""
        return self._chat.messages

    @property
    def run(self) -> ThreadRun[OutputT] | None:
        """The run that is at work, or None."""
        run = self._chat.run
        return ThreadRun(self._thread, run) if run is not None else None

    def load(self) -> Messages:
        """Read what was said so far, as `Conversation.load` does."""
        self._thread.refuse_waiting("chat.load()")
        return self._thread.call("chat.load()", self._chat.load)

    def ask(self, prompt: Prompt, **options: Unpack[ConversationKeywords]) -> RunResult[OutputT]:
        """Say something and block until the answer is there, as `Conversation.ask` does. An interrupt stops the run."""
        self._thread.refuse_waiting("chat.ask()")
        return self._thread.call("chat.ask()", lambda: self._chat.ask(prompt, **options))

    @property
    def questions(self) -> tuple[PendingQuestion, ...]:
        """What the run that is at work asks the user at this moment."""
        return self._chat.questions

    def answer(self, question_id: str, text: str) -> None:
        """Answer a question of the run that is at work, as `Run.answer` does."""
        self._chat.answer(question_id, text)

    def send(self, prompt: Prompt) -> None:
        """Say something without waiting for the answer, as `Conversation.send` does."""

        async def send() -> None:
            self._chat.send(prompt)

        self._thread.call("chat.send()", send)

    def __repr__(self) -> str:
        return f"<ThreadConversation {self.id!r}: {len(self.messages)} messages>"
