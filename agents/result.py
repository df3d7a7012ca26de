"""What a run ends with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic

import msgspec
from typing_extensions import TypeVar

from ..providers import Message, StopReason, ToolCall, Usage, message_to_openai
from .approvals import PendingCall
from .machine import Status
from .trace import Trace
from .tracer import trace_of_result

OutputT = TypeVar("OutputT", default=str)


class Messages(tuple[Message, ...]):
    """A conversation: a tuple of messages that can show itself in other shapes."""

    __slots__ = ()

    def __new__(cls, messages: Iterable[Message] = ()) -> Messages:
        return super().__new__(cls, messages)

    def simplified(self) -> list[dict[str, str]]:
        """Who said what, as ``{"role": …, "content": …}``; tool calls and their results are left out."""
        return [
            {"role": message.role, "content": message.text}
            for message in self
            if message.role in ("user", "assistant") and message.text
        ]

    def to_openai(self) -> list[dict[str, Any]]:
        """The conversation as OpenAI chat messages."""
        return [entry for message in self for entry in message_to_openai(message)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult(Generic[OutputT]):
    """The outcome of one run. `str(result)` is its text.

    Attributes:
        output: the answer, of the agent's output type. A run that did not complete has its last text, or None.
        status: ``completed``, ``stopped``, ``limited``, ``waiting`` or ``failed``.
        reason: why it ended: ``answered``, ``user``, ``abandoned``, ``system``, ``turns``, ``error`` …
        usage: tokens of all model calls, subagents included.
        cost: US dollars, subagents included; None where a price, or what was billed, is not known for any part of it.
        messages: the whole conversation, valid for the next request.
        new_messages: what this run added, its prompt included.
        started_at: when it began (UTC).
        ended_at: when it ended (UTC).
        outlived: what still ran when it ended: a tool call as ``tool:call_id`` (behind the ids of its runs, where it is
            a subagent's), a provider as ``name:model``, or the run's own id where its observers held it up.
        error: what went wrong, in one line, of a run that failed or reached a limit.
        pending: the tool calls that wait for an approval, of a run that ended for want of one: go on with
            ``agent.run(history=result, approvals={call.call_id: True for call in result.pending})``.
    """

    output: OutputT
    status: Status
    reason: str
    usage: Usage
    messages: Messages
    new_messages: Messages
    run_id: str
    agent: str
    started_at: datetime
    ended_at: datetime
    conversation_id: str | None = None
    cost: float | None = None
    outlived: tuple[str, ...] = ()
    stop_reason: StopReason | None = None
    pending: tuple[PendingCall, ...] = ()
    error: str | None = None

    @property
    def text(self) -> str:
        """The text of the model's last message; the JSON of an answer that came by an output tool."""
        answer = self.answer_call
        if answer is not None:
            return answer.raw or msgspec.json.encode(answer.arguments).decode()
        return next((message.text for message in reversed(self.new_messages) if message.role == "assistant"), "")

    @property
    def answer_call(self) -> ToolCall | None:
        """The call of an output tool that the answer came by, or None."""
        if self.status != "completed":
            return None
        taken: set[str] = set()
        for message in reversed(self.new_messages):
            taken.update(result.call_id for result in message.tool_results if result.cause == "accepted")
            if message.role == "assistant":
                return next((call for call in message.tool_calls if call.id in taken), None)
        return None

    def __str__(self) -> str:
        return self.text

    def trace(self) -> Trace:
        """The conversation step by step: ``print(result.trace())``. A run's `Chronicle` also knows how long each took,
        what its subagents did, and what became of it in between.
        """
        return trace_of_result(self)

    def to_dict(self) -> dict[str, Any]:
        """The result as plain dictionaries, lists and strings."""
        return msgspec.json.decode(self.to_json())

    def to_json(self) -> bytes:
        """The result as JSON."""
        return msgspec.json.encode({name: getattr(self, name) for name in self.__slots__})


def utc(seconds: float) -> datetime:
    """The moment that is `seconds` after the epoch."""
    return datetime.fromtimestamp(seconds, UTC)
