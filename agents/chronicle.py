"""What a run's journal says, read into one value. Nothing is done for it, no agent is needed.

The conversation is put together from the records alone, exactly as the run had it. So a journal can be looked at by
whoever has the file, and what a machine makes of the same records can be checked against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec

from ..journal import (
    BadRecord,
    Began,
    Checked,
    Checking,
    Delivered,
    Ended,
    HandedOver,
    Happened,
    Held,
    Intended,
    Parked,
    Record,
    Replied,
    Resumed,
    Retrying,
    Returned,
    Said,
    Sent,
    Spawned,
    Spent,
    Started,
    Summarised,
    Suspended,
    decode,
)
from ..providers import Message, ModelReply, ToolCall, ToolResult, Usage
from .machine import with_distinct_ids
from .result import utc
from .trace import Trace
from .tracer import trace_of

#: How a run stands: ``unfinished`` until it has ended, been suspended or parked.
Standing: TypeAlias = Literal[
    "unfinished", "suspended", "parked", "completed", "stopped", "limited", "waiting", "failed"
]


class Chronicle:
    """The story of one run.

    Args:
        entries: its journal, oldest first.
        children: the stories of its subagents.
        unreadable: why the story of a subagent is missing, by run id.

    Attributes:
        children: the stories of its subagents, where whoever made this has looked for them, in the order in which they
            began.
        unreadable: why the story of a subagent is not among them, by run id.
        began: how it began.
        records: everything that was written down, in order.
        messages: the conversation, as far as it is known.
        ended: how it ended, or None.
        turns: model replies.
        usage: tokens, those of its subagents' calls included.
        cost: US dollars, or None where a part of it is not known.
        resumptions: how often it went on in another process.
        paused: whether it is to wait until somebody resumes it.
        suspicion: how often in a row, without anything having come of it, its process died while a tool of it was at
            work.
        at_work: calls that have begun and have no outcome.
        handed_over: the agents that it went on with, one after the other.
        fingerprint: what the last of its agents was like.
        spawned: what it has begun in the background, by run id; the ids of those that it has written the use of are in
            `returned`.
        worked: seconds in which a process was at work on it, or it waited there.

    Raises:
        BadRecord: the entries are no journal of a run.
    """

    def __init__(
        self,
        entries: Sequence[bytes],
        *,
        children: Sequence[Chronicle] = (),
        unreadable: Mapping[str, str] | None = None,
    ) -> None:
        self.children = tuple(children)
        self.unreadable = dict(unreadable or {})
        self.records: list[Record] = [record for entry in entries for record in decode(entry)]
        if not self.records or not isinstance(self.records[0], Began):
            raise BadRecord("the journal of a run starts with its beginning; this one does not")
        self.began = self.records[0]
        self.ended: Ended | None = None
        self.turns = 0
        self.usage = Usage()
        self.cost: float | None = 0.0
        self.resumptions = 0
        self.suspicion = 0
        self.paused = False
        self.at_work: set[str] = set()
        self.worked = 0.0
        self.handed_over: list[str] = []
        self.fingerprint: Any = self.began.fingerprint
        self.spawned: dict[str, Spawned] = {}
        self.returned: set[str] = set()
        self._last = self.began.at
        self._standing: Standing = "unfinished"
        self._checking = False
        self._parked = ""
        self._messages = [msgspec.convert(each, Message) for each in (*self.began.history, *self.began.prompt)]
        self._sent: dict[str, Message] = {}
        self._calls: tuple[str, ...] = ()
        self._results: dict[str, ToolResult] = {}
        if self.began.kept is not None:
            self._calls = _ids(self._messages[-1])
            self._results = {result.call_id: result for result in _results(self.began.kept)}
        for record in self.records[1:]:
            self._read(record)

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.began.run_id

    @property
    def agent(self) -> str:
        """The name of its agent."""
        return self.began.agent

    @property
    def started_at(self) -> datetime:
        """When it began (UTC)."""
        return utc(self.began.at)

    @property
    def ended_at(self) -> datetime | None:
        """When it ended (UTC); None as long as it has not."""
        return utc(self.ended.at) if self.ended is not None else None

    @property
    def standing(self) -> Standing:
        """How the run stands."""
        return self._standing

    @property
    def reason(self) -> str:
        """Why it ended, or why it was parked; empty otherwise."""
        return self.ended.reason if self.ended is not None else self._parked

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation, with the results that are there, in the order of their calls."""
        return (*self._messages, *self._result_messages())

    def trace(self) -> Trace:
        """What happened, step by step, subagents included: ``print(chronicle.trace())``."""
        return trace_of(self)

    def to_dict(self) -> dict[str, Any]:
        """The story as plain dictionaries, lists and strings, with those of its subagents; without its trace."""
        return msgspec.json.decode(self.to_json())

    def to_json(self) -> bytes:
        """The same as JSON."""
        return msgspec.json.encode(self._facts())

    def _facts(self) -> dict[str, Any]:
        began = self.began
        return {
            "run_id": began.run_id,
            "agent": began.agent,
            "status": self.standing,
            "reason": self.reason,
            "error": self.ended.error if self.ended is not None else None,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "turns": self.turns,
            "usage": self.usage,
            "cost": self.cost,
            "resumptions": self.resumptions,
            "user_id": began.user_id,
            "conversation_id": began.conversation_id,
            "parent_id": began.parent_id,
            "call_id": began.call_id,
            "tags": began.tags,
            "metadata": began.metadata,
            "messages": self.messages,
            "children": [child._facts() for child in self.children],
            "unreadable": self.unreadable,
        }

    def __repr__(self) -> str:
        return f"<Chronicle of run {self.run_id!r}: {self.standing}, {len(self.records)} records>"

    @property
    def open_calls(self) -> tuple[ToolCall, ...]:
        """The calls of the last reply that have no outcome."""
        calls = {call.id: call for message in self._messages for call in message.tool_calls}
        return tuple([calls[id] for id in self._calls if id not in self._results])

    def was_asking(self, now: float) -> bool:
        """Whether the process may have died while the model was asked: nobody knows what that has cost.

        `now` is in seconds since the epoch: a pause before another try may be over, and then there was one.
        """
        last = next(record for record in reversed(self.records) if not isinstance(record, Returned))
        if self._calls or self._checking or isinstance(last, Suspended):
            return False
        return not isinstance(last, Retrying) or last.until <= now

    @property
    def places_at_work(self) -> list[str]:
        """Where the calls stand that have begun and have no outcome, as in the ids of their runs."""
        return [f"{self.turns}.{place}" for place, id in enumerate(self._calls) if id in self.at_work]

    def _result_messages(self) -> list[Message]:
        return [Message("tool", (self._results[id],)) for id in self._calls if id in self._results]

    def _close_turn(self) -> None:
        self._messages += self._result_messages()
        self._calls, self._results = (), {}
        self.at_work.clear()

    def _spend(self, usage: Any, cost: float | None) -> None:
        if usage is not None:
            self.usage += msgspec.convert(usage, Usage)
        self.cost = self.cost + cost if self.cost is not None and cost is not None else None

    def _read(self, record: Record) -> None:
        self._standing = "unfinished"
        if not isinstance(record, Resumed | Started):
            self.worked += max(0.0, record.at - self._last)  # a clock may have been set back
        self._last = record.at
        if isinstance(record, Checking | Checked | Said | Replied):
            self._checking = isinstance(record, Checking)
        match record:
            case Replied():
                self._close_turn()
                self.turns += 1
                reply = msgspec.convert(record.reply, ModelReply)
                self._spend(reply.usage, record.cost)
                message = with_distinct_ids(reply.message, self.turns)
                self._messages.append(message)
                self._calls = _ids(message)
            case Said():
                self._close_turn()
                self._messages.append(msgspec.convert(record.message, Message))
            case Intended():
                self.at_work.add(record.call_id)
            case Happened():
                self._spend(record.usage, record.cost)
                result = msgspec.convert(record.result, ToolResult)
                self.at_work.discard(result.call_id)
                self._results.setdefault(result.call_id, result)
                if result.cause != "outcome_unknown":
                    self.suspicion = 0
                if all(id in self._results for id in self._calls):
                    self._close_turn()
            case Sent():
                self._sent[record.message_id] = msgspec.convert(record.message, Message)
            case Delivered():
                self._messages += [self._sent.pop(id) for id in record.message_ids if id in self._sent]
            case Retrying() | Spent() | Summarised():
                self._spend(record.usage, record.cost)
            case Spawned():
                self.spawned[record.run_id] = record
            case Returned():
                self._spend(record.usage, record.cost)
                self.returned.add(record.run_id)
            case Suspended():
                self._standing = "suspended"
                self.suspicion = 0
            case Resumed():
                self.resumptions += 1
                self.suspicion += record.suspect
                if record.asking:
                    self._spend(None, None)
            case HandedOver():
                self.handed_over.append(record.agent)
                self.fingerprint = record.fingerprint
            case Held():
                self.paused = record.paused
            case Parked():
                self._standing, self._parked = "parked", record.reason
            case Ended():
                self.ended = record
                self._standing = record.status  # type: ignore[assignment]
            case _:
                pass


def _ids(message: Message) -> tuple[str, ...]:
    return tuple(call.id or "" for call in message.tool_calls)


def _results(kept: Sequence[Any]) -> list[ToolResult]:
    return [msgspec.convert(each, ToolResult) for each in kept]
