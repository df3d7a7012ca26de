"""A conversation: runs one after the other, each going on from the one before.

A conversation that nobody holds and in which nothing runs costs no memory: with a journal that outlives the System it
lies there, and the next message *thaws* it, in this process or another. Without one, its System keeps the latest ones.

Its runs are numbered, and a run's id is made of the conversation's id and its number. So two processes that go on from
the same place want the same id; the journal lets one of them have it, and the other reads again and goes on from there.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic
from urllib.parse import quote
from weakref import WeakValueDictionary

import anyio
from typing_extensions import Unpack

from ..actors.crashes import is_crash
from ..journal import Damaged, JournalError, RunExists
from .chronicle import Chronicle
from .errors import ConversationBusy, RunEnded
from .history import Prompt, read_prompt
from .options import refuse_unknown
from .result import Messages, OutputT, RunResult
from .run_options import ConversationKeywords

if TYPE_CHECKING:
    from ..providers import Message
    from .agent import Agent
    from .run import Run
    from .system import System


#: Conversations that a System without a lasting journal keeps.
KEPT = 1_000

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

    async def load(self) -> Messages:
        """Read what was said so far, also by other processes, and return it.

        Raises:
            ConversationBusy: the last run is at work elsewhere, or waits to be recovered.
        """
        async with self._talk.lock:
            await self._talk.load(self._system)
        return self.messages

    async def ask(self, prompt: Prompt, **options: Unpack[ConversationKeywords]) -> RunResult[OutputT]:
        """Say something and wait for the answer. Whoever asks meanwhile waits for their turn.

        Whatever comes of it, an answer, a stop, an error, the conversation goes on from there. Cancelling stops the
        run.

        Args:
            prompt: as for `Agent.run`.
            options: as for `System.start`; they go before those that the conversation was made with.

        Raises:
            AgentError, ProviderError: as `Agent.run` does.
            ConversationBusy: the last run is at work elsewhere, or waits to be recovered.
        """
        refuse_unknown("ask", options, ConversationKeywords.__annotations__)
        self._system.stage.refuse_when_draining()
        async with self._talk.lock:
            run = await self._start(prompt, options)
            try:
                return await run.result()
            except BaseException as error:
                if not is_crash(error):
                    run.stop("now", reason="abandoned")
                raise
            finally:
                self._talk.look()

    def send(self, prompt: Prompt) -> None:
        """Say something without waiting for the answer: to the run that is at work, else to a new one.

        What comes of it is told to `on_event`, and stands in `messages`. Errors are logged.

        Raises:
            TypeError: what cannot be sent.
            SystemClosed: the System is not open.
        """
        read_prompt(prompt)
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

    async def _start(self, prompt: Prompt, options: ConversationKeywords) -> Run[OutputT]:
        talk, system = self._talk, self._system
        settings: dict[str, Any] = {**self._options, **options, "conversation_id": talk.id}
        tried = ""
        while True:
            await talk.load(system)
            run_id = talk.run_id(talk.count + 1)
            try:
                run = await system.start(self._agent, prompt, history=talk.messages, run_id=run_id, **settings)
            except RunExists:
                if run_id == tried:
                    raise  # it is no run of this conversation
                tried, talk.loaded = run_id, False  # another process was faster: go on from there
            else:
                talk.run = run
                return run

    def __repr__(self) -> str:
        return f"<Conversation {self.id!r} with {self._agent.name!r}: {len(self._talk.messages)} messages>"


class Talk:
    """What the handles of one conversation share."""

    __slots__ = ("__weakref__", "count", "id", "loaded", "lock", "messages", "run")

    def __init__(self, id: str) -> None:
        self.id = id
        self.lock = anyio.Lock()
        #: Its runs so far, what was said in them, and whether that is known.
        self.count = 0
        self.messages: tuple[Message, ...] = ()
        self.loaded = False
        self.run: Run[Any] | None = None

    def run_id(self, number: int) -> str:
        """The id of its run with this number."""
        return f"{quote(self.id, safe=' ')}.{number}"

    def number_of(self, run_id: str) -> int | None:
        """The number of a run with this id, or None of one that was not started here."""
        number = run_id.rpartition(".")[2]
        return int(number) if number.isdecimal() and self.run_id(int(number)) == run_id else None

    def look(self) -> None:
        """Go on from what the last run has come to, if it has come to its end."""
        run = self.run
        if run is None or run.status == "running":
            return
        self.run = None
        result = run._cell.result
        number = self.number_of(run.id)
        if result is None or number is None or run._cell.suspended or isinstance(run._cell.error, JournalError):
            self.loaded = False  # it goes on elsewhere, where it has the say
        else:
            self.count = number
            self.messages = tuple(result.messages)

    async def load(self, system: System) -> None:
        """Learn what was said, unless that is known: from the run that is at work here, or from the journal.

        Raises:
            ConversationBusy: the last run has not ended, and is not here.
        """
        if self.run is not None:
            await self.run._cell.wait_over()
            self.look()
        if self.loaded:
            return
        journal = system.stage.journal
        last, count = None, 0
        try:
            listed = await journal.runs(conversation_id=self.id)
        except Damaged as damaged:
            # One of ours that is not listed keeps its number: the next run could not have it.
            _log.error("conversation %s: %s", self.id, damaged)
            listed = damaged.others
        for each in listed:
            number = self.number_of(each.run_id)
            if number is not None and number > count:
                last, count = each, number
        if last is not None and not last.finished:
            self.run = system.find(last.run_id)
            if self.run is None:
                raise ConversationBusy(self.id, last.run_id)
            await self.run._cell.wait_over()
            self.look()
        elif last is not None:
            self.messages = Chronicle(await journal.read(last.run_id)).messages
            self.count = count
        self.loaded = True


class Talks:
    """The conversations of one System.

    Args:
        lasting: whether the journal keeps them.
    """

    __slots__ = ("_kept", "_lasting", "_live")

    def __init__(self, lasting: bool) -> None:
        self._live: WeakValueDictionary[str, Talk] = WeakValueDictionary()
        self._kept: OrderedDict[str, Talk] = OrderedDict()
        self._lasting = lasting

    def get(self, id: str) -> Talk:
        """The conversation with this id."""
        talk = self._live.get(id)
        if talk is None:
            talk = self._live[id] = Talk(id)
        if not self._lasting:
            talk.loaded = True
            self._kept[id] = talk
            self._kept.move_to_end(id)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return talk
