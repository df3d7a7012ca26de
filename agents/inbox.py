"""Messages that are sent to a run while it works: accepted, queued, delivered, or given back.

The machine decides where in the conversation a message may stand. Here is what lies around that: who waits for a
message, what the journal and the events are told, and what becomes of those that the run did not get to.

A message is *queued* once the run has taken it, and *delivered* once it is in the conversation, right before the next
request goes out. A run that ends before gives it back: whoever awaits it gets `RunEnded`, and it is a dead letter.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import anyio

from .. import journal
from ..actors import DeadLetter
from ..journal import JournalError
from ..providers import Message, Part
from . import events
from .errors import RunEnded
from .history import read_prompt
from .machine import Asking, Machine, Sent, State

if TYPE_CHECKING:
    from .run_cell import RunCell

When: TypeAlias = Literal["asap", "idle"]


def read_letter(message: str | Message | Part | Sequence[str | Part], when: object) -> Message:
    """The one user message that was meant.

    Raises:
        TypeError: it is neither text, nor parts, nor one message.
        ValueError: a message of another role, or an unknown `when`.
    """
    if when not in get_args(When):
        raise ValueError(f"send(when={when!r}) is not one of {', '.join(map(repr, get_args(When)))}")
    read = read_prompt(message)
    if len(read) != 1:
        raise TypeError(f"send() takes one message, not {len(read)}: send them one after the other")
    if read[0].role != "user":
        raise ValueError(f"send() takes a message of the user, not one of role {read[0].role!r}")
    return read[0]


class Letter:
    """A message on its way to a run. Ignore it, or await it until it is in the conversation.

    Awaiting it raises:
        RunEnded: the run ended before; the error carries the message.
        WouldDeadlock: a tool of the run waits for it.
    """

    __slots__ = ("_done", "_run", "delivered", "error", "id", "message", "when", "written")

    def __init__(self, run: RunCell, message: Message, when: When) -> None:
        self._run = run
        self._done: anyio.Event | None = None
        self.message = message
        self.when: When = when
        #: Its number among the messages that the run has taken, as text; empty before it was taken.
        self.id = ""
        #: Whether it is in the conversation.
        self.delivered = False
        self.error: RunEnded | None = None
        #: Whether it is in the run's journal.
        self.written = False

    def settle(self, error: RunEnded | None = None) -> None:
        """It is in the conversation, or will never be."""
        self.delivered = error is None
        self.error = error
        if self._done is not None:
            self._done.set()

    def refused(self) -> RunEnded:
        """The error for a run that has ended."""
        return RunEnded(f"run {self._run.name!r} has ended and takes no messages", self.message)

    def __await__(self) -> Generator[Any, Any, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        if self.error is None and not self.delivered:
            self._run.refuse_deadlock()
            if self._done is None:
                self._done = anyio.Event()
            await self._done.wait()
        if self.error is not None:
            raise self.error.with_traceback(None)

    def __repr__(self) -> str:
        """Without the message, which may hold what no log should."""
        state = "delivered" if self.delivered else "not delivered" if self.error is not None else "on its way"
        return f"<Letter to run {self._run.name!r}: {state}>"


def take(run: RunCell, letter: Letter) -> bool:
    """Take a message that somebody sends into a run; False where it has ended, or is about to."""
    machine = run.machine
    if run.result is not None or run.is_concluded or (machine is not None and machine.state is State.DONE):
        return False
    try:
        of(run).take(letter)
    except JournalError:
        return False
    return True


def take_or_return(run: RunCell, letter: Letter) -> None:
    """The same for a sender in another thread, who cannot be told at once."""
    if not take(run, letter):
        letter.settle(letter.refused())
        run.stage.dead_letters.add(DeadLetter(letter.message, run.name, None, "closed"))


def of(run: RunCell) -> Inbox:
    """The inbox of a run, made at its first message."""
    if run.inbox is None:
        run.inbox = Inbox(run)
    return run.inbox


class Inbox:
    """The messages that one run has taken and not delivered. Belongs to the loop's thread."""

    __slots__ = ("_early", "_letters", "_run", "count")

    def __init__(self, run: RunCell) -> None:
        self._run = run
        #: How many messages the run has taken.
        self.count = 0
        self._letters: dict[str, Letter] = {}
        self._early: list[Letter] = []

    def take(self, letter: Letter) -> None:
        """Queue a message."""
        self.count += 1
        letter.id = str(self.count)
        self._write(letter)
        machine = self._run.machine
        if machine is None or machine.state is State.READY:
            self._early.append(letter)
        else:
            machine.handle(Sent(letter.id, letter.when, letter.message))
        self._letters[letter.id] = letter
        facts = {"message_id": letter.id, "when": letter.when, "text": letter.message.text}
        self._run.voice.mention(events.MessageQueued, **facts)

    def open(self, machine: Machine) -> None:
        """Hand over what came while there was no machine to take it."""
        early, self._early = self._early, []
        for letter in early:
            if machine.state is not State.DONE:
                self._write(letter)
                machine.handle(Sent(letter.id, letter.when, letter.message))

    def _write(self, letter: Letter) -> None:
        """Write a message down, as soon as the run can write."""
        diary = self._run.diary
        if not letter.written and diary.is_open:
            self._run.write(journal.Sent(letter.id, letter.when, letter.message, diary.clock()))
            letter.written = True

    async def deliver(self, machine: Machine) -> None:
        """Put into the conversation what the next request is to hold."""
        while due := machine.due:
            self._run.write(journal.Delivered([sent.id for sent in due], self._run.diary.clock()))
            machine.handle(Asking())
            for sent in due:
                letter = self._letters.pop(sent.id, None)
                if letter is not None:
                    letter.settle()
            for sent in due:
                await self._run.voice.say(events.MessageDelivered, message_id=sent.id, text=sent.message.text)

    def close(self) -> None:
        """The run has ended: give back what it did not get to."""
        letters, self._letters, self._early = self._letters, {}, []
        name = self._run.name
        if self._run.is_suspended:
            for letter in letters.values():
                said = f"run {name!r} was suspended before it got to this message, which is in its journal"
                letter.settle(RunEnded(said, letter.message))
            return
        for letter in letters.values():
            letter.settle(RunEnded(f"run {name!r} ended before it got to this message", letter.message))
            self._run.stage.dead_letters.add(DeadLetter(letter.message, name, None, "closed"))
