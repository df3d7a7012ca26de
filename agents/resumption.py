"""How a run goes on that was begun by another process, or by a call of its parent's that runs once more.

A resumption is made from what somebody has read of the run's journal. When the run takes its place it *claims* itself,
which fences off whoever had it; where the journal has grown since it was read, it is read again. Then it writes down
that it goes on, and only when that is durable does it do anything.

A run that is over already goes on to its recorded end without claiming anything: for a parent that asks once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from .. import journal
from ..providers import Message, ToolResult
from .chronicle import Chronicle
from .fingerprint import changes
from .handoff import last_of
from .limits import Limits

if TYPE_CHECKING:
    from .agent import Agent
    from .run_cell import RunCell
    from .tool_cell import ToolCell


class Resumption:
    """Takes a run up from its journal.

    Args:
        agent: who goes on with it.
        entries: what was read.
        suspect: whether the process before may have died of this run.
        epoch: that in which it was found; somebody who has claimed it since keeps it.

    Attributes:
        settled: set when the run is ours, or it is known that it is not; then `error` says why.
        claims: how often it has been taken over, this time included.
        changes: what has become different about the agent.

    Raises:
        BadRecord: the entries are no journal of a run.
    """

    __slots__ = ("_agent", "_epoch", "changes", "chronicle", "claims", "entries", "error", "settled", "suspect")

    def __init__(
        self, agent: Agent[Any, Any], entries: Sequence[bytes], *, suspect: bool = False, epoch: int | None = None
    ) -> None:
        self._agent = agent
        self._epoch = epoch
        self.suspect = suspect
        self.settled = anyio.Event()
        self.error: journal.JournalError | None = None
        self._read(entries)

    def _read(self, entries: Sequence[bytes]) -> None:
        self.entries = entries
        self.chronicle = Chronicle(entries)
        self.claims = self.chronicle.resumptions + 1
        agent = last_of(self._agent, self.chronicle.handed_over) or self._agent
        self.changes = changes(self.chronicle.fingerprint, agent.fingerprint)

    @property
    def began_at(self) -> float:
        """When the run began, in seconds since the epoch."""
        return self.chronicle.began.at

    @property
    def goes_on_with(self) -> Agent[Any, Any]:
        """The agent that it was handed over to, or else its own.

        Raises:
            LookupError: it no longer hands over to that one.
        """
        names = self.chronicle.handed_over
        found = last_of(self._agent, names)
        if found is None:
            raise LookupError(
                f"the run was handed over to {names[-1]!r}, whom agent {self._agent.name!r} no longer knows"
            )
        return found

    def is_of(self, caller: ToolCell, agent: str, history: Sequence[Message], prompt: Sequence[Message]) -> bool:
        """Whether this is what a call asks for that runs once more and starts a run: not over, or with an answer."""
        began, ended = self.chronicle.began, self.chronicle.ended
        return (
            (began.parent_id, began.call_id, began.agent) == (caller.run.name, caller.call_id, agent)
            and (ended is None or ended.status == "completed")
            and bytes_of(input_of(self.chronicle)) == bytes_of((tuple(history), tuple(prompt)))
        )

    async def take_over(self, run: RunCell) -> None:
        """Claim the run and write down that it goes on; not durable yet.

        Raises:
            JournalError: it has ended meanwhile, or cannot be had.
        """
        if self.chronicle.ended is not None:
            return
        entries = await run.diary.reclaim(self._epoch)
        if len(entries) != len(self.entries):
            self._read(entries)
        now = run.diary.clock()
        record = journal.Resumed(self.suspect, self.chronicle.was_asking(now), list(self.changes), now)
        run.diary.write(record)
        self.entries = [*self.entries, journal.encode(record)]


def input_of(chronicle: Chronicle) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """The messages before a run, and its own."""
    began = chronicle.began
    return tuple(map(_message, began.history)), tuple(map(_message, began.prompt))


def kept_by(chronicle: Chronicle) -> tuple[ToolResult, ...] | None:
    """Of a run that went on with calls that waited: the results of their siblings."""
    kept = chronicle.began.kept
    return tuple(msgspec.convert(each, ToolResult) for each in kept) if kept is not None else None


def limits_of(chronicle: Chronicle) -> Limits:
    """The limits that a run was started with."""
    limits = chronicle.began.limits
    return msgspec.convert(limits, Limits) if limits is not None else Limits()


def bytes_of(input: tuple[tuple[Message, ...], tuple[Message, ...]]) -> bytes:
    """The messages before a run, and its own, as one value to compare."""
    # As it is in a journal, where some values are written as near to what they were as it can.
    began = journal.Began("", "", list(input[0]), list(input[1]))
    return journal.encode(began)


def _message(builtin: Any) -> Message:
    return msgspec.convert(builtin, Message)
