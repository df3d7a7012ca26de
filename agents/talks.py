"""What was said in conversations, and whose turn it is in each.

The runs of a conversation follow each other: each takes its turn before it begins, goes on from what the one before has
come to, and gives the turn back when it is over. They are numbered, and a run's id is made of the conversation's id and
its number. So two processes that go on from the same place want the same id; the journal lets one of them have it, and
the other reads again and goes on from there.

A conversation in which nothing happens costs no memory: with a journal that outlives the System it lies there, and is
read when somebody goes on with it. Without one, its System keeps the latest ones.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from weakref import WeakValueDictionary

import anyio

from ..actors import WouldDeadlock
from ..journal import Damaged, JournalError, Listed
from .chronicle import Chronicle
from .errors import ConversationBusy
from .place import current_place
from .run import Run
from .run_options import WhenBusy

if TYPE_CHECKING:
    from ..providers import Message
    from .run_cell import RunCell
    from .stage import RunStage

#: Conversations that a System without a lasting journal keeps.
KEPT = 1_000

_log = logging.getLogger("greenroom")


class Talk:
    """One conversation, as all who take part in it share it.

    Args:
        id: its id.
        lasting: whether the journal keeps it.

    Attributes:
        count: its runs so far.
        messages: what was said in them.
        loaded: whether both are known.
        run: the one that has the turn, once it is enrolled.
    """

    __slots__ = ("__weakref__", "_lasting", "_turn", "count", "id", "loaded", "messages", "run")

    def __init__(self, id: str, lasting: bool) -> None:
        self.id = id
        self._lasting = lasting
        self._turn = anyio.Semaphore(1, fast_acquire=True)
        self.count = 0
        self.messages: tuple[Message, ...] = ()
        self.loaded = not lasting
        self.run: Run[Any] | None = None

    def run_id(self, number: int) -> str:
        """The id of its run with this number."""
        return f"{quote(self.id, safe=' ')}.{number}"

    def _number_of(self, run_id: str) -> int | None:
        """The number of a run with this id, or None of one that was not started here."""
        number = run_id.rpartition(".")[2]
        return int(number) if number.isdecimal() and self.run_id(int(number)) == run_id else None

    async def enter(self, when_busy: WhenBusy = "wait") -> None:
        """Wait for the turn. First come, first served.

        Raises:
            ConversationBusy: somebody has it, and the caller would not wait.
            WouldDeadlock: the caller is a tool of the run that has it.
        """
        try:
            self._turn.acquire_nowait()
            return
        except anyio.WouldBlock:
            pass
        self._refuse_to_wait(when_busy)
        await self._turn.acquire()

    def _refuse_to_wait(self, when_busy: WhenBusy) -> None:
        run = self.run
        if when_busy == "refuse":
            raise ConversationBusy(self.id, run.id if run is not None else self.run_id(self.count + 1), here=True)
        place = current_place.get()
        asking = place.run if place is not None else None
        if run is not None and asking is not None and run._cell in asking.line():
            raise WouldDeadlock(f"a tool of run {run.id!r} would wait for its end: it is of the same conversation")

    def leave(self) -> None:
        """Give the turn back."""
        self._turn.release()

    def ended(self, cell: RunCell) -> None:
        """The run that had the turn is over: the next one goes on from what it has come to."""
        self._look()
        if self.run is not None:  # it never came to be ours
            self._ask_again()
        self.leave()

    def _ask_again(self) -> None:
        """What has become of the last run is to be read, where it is written."""
        self.run = None
        self.loaded = not self._lasting

    def _look(self) -> None:
        """Go on from what the last run has come to, if it has come to its end."""
        run = self.run
        if run is None or run.status == "running":
            return
        result = run._cell.result
        number = self._number_of(run.id)
        if result is None or number is None or run._cell.suspended or isinstance(run._cell.error, JournalError):
            self._ask_again()  # it goes on elsewhere, where it has the say
        else:
            self.run = None
            self.count = number
            self.messages = tuple(result.messages)

    async def load(self, stage: RunStage, when_busy: WhenBusy = "wait") -> None:
        """Learn what was said, unless that is known: from the run that is at work here, or from the journal.

        Raises:
            ConversationBusy: the last run has not ended, and is not here; or it is, and the caller would not wait.
            WouldDeadlock: the caller is a tool of that run.
        """
        if self.loaded:
            return
        last, self.count = await self._last(stage)
        if last is not None and not last.finished:
            cell: Any = stage.pool.find(last.run_id)
            if cell is None:  # it may have ended while its conversation was read
                last, self.count = await self._last(stage)
            else:
                self.run = Run(cell)
                self._refuse_to_wait(when_busy)
                await cell.wait_over()
                self.loaded = True
                self._look()
                if self.loaded:
                    return
        if last is not None and not last.finished:
            raise ConversationBusy(self.id, last.run_id)
        if last is not None:
            self.messages = Chronicle(await stage.journal.read(last.run_id)).messages
        self.loaded = True

    async def _last(self, stage: RunStage) -> tuple[Listed | None, int]:
        """The last run of the conversation in the journal, and its number."""
        last, count = None, 0
        try:
            listed = await stage.journal.runs(conversation_id=self.id)
        except Damaged as damaged:
            # One of ours that is not listed keeps its number: the next run could not have it.
            _log.error("conversation %s: %s", self.id, damaged)
            listed = damaged.others
        for each in listed:
            number = self._number_of(each.run_id)
            if number is not None and number > count:
                last, count = each, number
        return last, count


class Talks:
    """The conversations of one System.

    Args:
        lasting: whether the journal keeps them.
    """

    __slots__ = ("_kept", "_live", "lasting")

    def __init__(self, lasting: bool) -> None:
        self._live: WeakValueDictionary[str, Talk] = WeakValueDictionary()
        self._kept: OrderedDict[str, Talk] = OrderedDict()
        self.lasting = lasting

    def get(self, id: str) -> Talk:
        """The conversation with this id."""
        talk = self._live.get(id)
        if talk is None:
            talk = self._live[id] = Talk(id, self.lasting)
        if not self.lasting:
            self._kept[id] = talk
            self._kept.move_to_end(id)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return talk
