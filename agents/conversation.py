"""A conversation: runs one after the other, each going on from the one before.

Here is the handle of one; what its handles share, and whose turn it is, is in `talks`.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import Unpack

from .errors import RunEnded, StaleQuestion
from .history import Prompt, read_prompt
from .launch import Launch
from .options import refuse_unknown
from .questions import PendingQuestion, read_answer
from .result import Messages, OutputT, RunResult
from .run_options import ConversationKeywords
from .talks import Talk

if TYPE_CHECKING:
    from .agent import Agent
    from .run import Run
    from .system import System


_log = logging.getLogger("greenroom")


class Conversation(Generic[OutputT]):
    """A conversation with one agent. Get it from ``system.conversation(agent, "c1")``.

    Any number of tasks may use it: what they ask is answered in order.
    """

    __slots__ = ("_agent", "_options", "_system", "_talk")

    def __init__(self, system: System, agent: Agent[Any, OutputT], talk: Talk, options: ConversationKeywords) -> None:
        self._system = system
        self._agent = agent
        self._talk = talk
        self._options = options

    @property
    def id(self) -> str:
        """The conversation's id."""
        return self._talk.id

    @property
    def messages(self) -> Messages:
        """What was said so far, as far as it was read: all of it once something was asked, or after `load`."""
        return Messages(self._talk.messages)

    @property
    def run(self) -> Run[OutputT] | None:
        """The run that is at work, or None."""
        run = self._talk.run
        return run if run is not None and run.status == "running" else None

    @property
    def questions(self) -> tuple[PendingQuestion, ...]:
        """What the run that is at work, and its subagents, ask the user at this moment."""
        run = self.run
        return run.questions if run is not None else ()

    def answer(self, question_id: str, text: str) -> None:
        """Answer a question of the run that is at work, as `Run.answer` does. From any thread, at once.

        Raises:
            StaleQuestion: no such question is open.
            TypeError: an answer that is no text.
        """
        run = self.run
        if run is None:
            raise StaleQuestion(f"conversation {self.id!r}", read_answer(question_id, text)[0])
        run.answer(question_id, text)

    async def load(self) -> Messages:
        """Read what was said so far, also by other processes, and return it.

        Raises:
            ConversationBusy: the last run is at work elsewhere, or waits to be recovered.
            SystemClosed, RuntimeError: the System is not open, or lives in another event loop.
        """
        self._system.refuse_elsewhere()
        await self._talk.enter()
        try:
            await self._talk.load(self._system.stage)
        finally:
            self._talk.leave()
        return self.messages

    async def ask(self, prompt: Prompt, **options: Unpack[ConversationKeywords]) -> RunResult[OutputT]:
        """Say something and wait for the answer. Whoever asks meanwhile waits for their turn, or is refused where they
        would rather be (``when_busy="refuse"``).

        Whatever comes of it, an answer, a stop, an error, the conversation goes on from there. Cancelling stops the
        run.

        Args:
            prompt: as for `Agent.run`.
            options: as for `System.start`; they go before those that the conversation was made with.

        Raises:
            AgentError, ProviderError: as `Agent.run` does.
            ConversationBusy: the last run is at work elsewhere, or waits to be recovered; or somebody has the turn, and
                this one would not wait.
            SystemBusy: as many runs wait for their turn as may.
            SystemClosed, RuntimeError: the System is not open, or lives in another event loop.
        """
        refuse_unknown("ask", options, ConversationKeywords.__annotations__)
        self._system.refuse_elsewhere()
        self._system.stage.refuse_when_draining()
        settings: dict[str, Any] = {**self._options, **options}
        launch = Launch(self._agent, prompt, system=self._system, conversation_id=self.id, talk=self._talk, **settings)
        run: Run[Any] = await self._system.launch(launch)
        try:
            return await run.result()
        finally:
            # Whoever waits may be cancelled by a scope, or by asyncio alone, which no scope knows of.
            if run.status == "running":
                run.stop("now", reason="abandoned")

    def send(self, prompt: Prompt) -> None:
        """Say something without waiting for the answer: to the run that is at work, else to a new one.

        What comes of it is told to `on_event`, and stands in `messages`. Errors are logged.

        Raises:
            TypeError: what cannot be sent.
            SystemClosed: the System is not open.
            RuntimeError: this is not the thread of its event loop.
        """
        read_prompt(prompt)
        self._system.stage.home.refuse_elsewhere("conversation.send()")
        run = self.run
        if run is not None:
            with suppress(RunEnded):  # it has ended a moment ago
                run.send(prompt)  # type: ignore[arg-type]
                return
        system = self._system
        system.group.create_task(self._ask_unheard(prompt), name=f"conversation {self.id}", context=system.context)

    async def _ask_unheard(self, prompt: Prompt) -> None:
        try:
            await self.ask(prompt)
        except Exception as error:
            _log.warning("conversation %s: %s: %s", self.id, type(error).__name__, error)

    def __repr__(self) -> str:
        return f"<Conversation {self.id!r} with {self._agent.name!r}: {len(self._talk.messages)} messages>"
