"""An answer of Cohere's, event by event. Pure.

Each event is an object with its ``type``: ``message-start`` (the id), ``content-start`` / ``content-delta`` /
``content-end`` (text or thinking), ``tool-plan-delta``, ``tool-call-start`` / ``tool-call-delta`` / ``tool-call-end``,
``citation-start`` / ``citation-end``, and ``message-end`` with the finish reason and the usage. What has another type
is passed over. Blocks of content and tool calls have an ``index`` each; a fragment without one belongs to what was
begun last.

Only ``message-end`` with a finish reason makes an answer whole; ``[DONE]`` behind it says nothing more. An ``error``
beside the finish reason is raised.

The plan that some models make before they call tools is no answer text: it is a `ServerItem` of kind ``tool_plan``, and
a citation is one of kind ``citation``.

The hot path is an event with a little text: one typed decode, one list append, one event.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from ..errors import BadResponse, StreamInterrupted
from ..framing import WireEvent
from ..messages import Message, Part, ProviderData, ServerItem, Text, Thinking, ToolCall
from ..openai_messages import UNDECODABLE, parse_arguments
from ..vocabulary import ModelEvent, ModelReply, StopReason, TextDelta, ThinkingDelta, ToolCallDelta, Usage
from .cohere_errors import finish_error, told
from .wire_errors import excerpt

#: Whose plans, citations and thoughts go back: those of this format.
FAMILY = "cohere"

_STOP_REASONS: dict[str, StopReason] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR_TOXIC": "content_filter",
    "ERROR": "error",
    "TIMEOUT": "error",
}


_TYPES = {
    *("message", "message-start", "message-end", "content-start", "content-delta", "content-end", "tool-plan-delta"),
    *("tool-call-start", "tool-call-delta", "tool-call-end", "citation-start", "citation-end", "error"),
}


class Content(msgspec.Struct, gc=False):
    text: str | None = None
    thinking: str | None = None


class Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None


class Call(msgspec.Struct):
    id: Any = None
    function: Function | None = None


class Said(msgspec.Struct):
    """The ``message`` of a delta."""

    content: Content | list[Any] | None = None
    tool_plan: str | None = None
    tool_calls: Call | list[Any] | None = None
    citations: Any = None


class Delta(msgspec.Struct):
    message: Said | None = None
    finish_reason: str | None = None
    usage: Any = None
    error: Any = None


class Event(msgspec.Struct):
    type: str | None = None
    id: Any = None
    index: Any = None
    delta: Delta | None = None


_decode = msgspec.json.Decoder(Event).decode


class _OpenCall:
    """A tool call that is being gathered."""

    __slots__ = ("id", "index", "name", "pieces")

    def __init__(self, index: Any, identity: str | None, name: str) -> None:
        self.index = index
        self.id = identity
        self.name = name
        self.pieces: list[str] = []


class _Gathered:
    """The fragments of a text of one kind."""

    __slots__ = ("kind", "pieces")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.pieces: list[str] = []

    def part(self) -> Part:
        text = "".join(self.pieces)
        if self.kind == "text":
            return Text(text)
        return Thinking(text) if self.kind == "thinking" else plan_item(text)


class CohereStreamDecoder:
    """Decodes one streamed answer."""

    def __init__(self, model: str) -> None:
        self.done = False
        self._model = model
        self._gathered: list[_Gathered | ServerItem] = []
        self._begun: _Gathered | None = None
        self._calls: list[_OpenCall] = []
        self._id: str | None = None
        self._finish: str | None = None
        self._usage: dict[str, Any] | None = None

    def feed(self, event: WireEvent) -> list[ModelEvent]:
        """Decode one event.

        Raises:
            ProviderError: the event is an error of the provider, or is not of this wire format.
        """
        data = event.data
        if self.done or not data or data.strip() == b"[DONE]":
            self.done = self.done or bool(data)
            return []
        try:
            read = _decode(data)
        except UNDECODABLE as error:
            if event.event not in _TYPES:
                return []  # an event of somebody on the way
            raise BadResponse(
                f"an event of the stream is not of Cohere's chat ({error}): {excerpt(data)}", partial=self.partial()
            ) from None
        kind, delta = read.type, read.delta
        if kind is None or kind == "error":
            raise told(data, partial=self.partial())
        if kind == "message-start":
            self._id = read.id if isinstance(read.id, str) else None
        if delta is None:
            return []
        if kind == "message-end":
            self._end(delta)
            return []
        return self._take(read, delta.message) if delta.message is not None else []

    def _end(self, delta: Delta) -> None:
        self._finish = delta.finish_reason
        usage: Any = delta.usage
        self._usage = cast("dict[str, Any]", usage) if isinstance(usage, dict) else None
        failed = finish_error(delta.finish_reason, delta.error, partial=self.partial())
        if failed is not None:
            raise failed
        self.done = self._finish is not None

    def _take(self, event: Event, said: Said) -> list[ModelEvent]:
        content = said.content
        if isinstance(content, Content):
            if content.text:
                self._gather("text", content.text)
                return [TextDelta(content.text)]
            if content.thinking:
                self._gather("thinking", content.thinking)
                return [ThinkingDelta(content.thinking)]
            return []
        if said.tool_plan:
            self._gather("tool_plan", said.tool_plan)
        if isinstance(said.tool_calls, Call):
            return self._take_call(event, said.tool_calls)
        citation: Any = said.citations
        if event.type == "citation-start" and isinstance(citation, dict):
            self._gathered.append(ServerItem("citation", cast("dict[str, Any]", citation)))
        return []

    def _gather(self, kind: str, text: str) -> None:
        begun = self._begun  # citations come between two fragments of the text that they are about
        if begun is None or begun.kind != kind:
            begun = self._begun = _Gathered(kind)
            self._gathered.append(begun)
        begun.pieces.append(text)

    def _take_call(self, event: Event, delta: Call) -> list[ModelEvent]:
        function = delta.function or Function()
        raw = arguments_text(function.arguments)
        if event.type == "tool-call-start" or not self._calls:
            identity = delta.id if isinstance(delta.id, str) and delta.id else None
            call = _OpenCall(event.index, identity, function.name or "")
            self._calls.append(call)
            shown = ToolCallDelta(len(self._calls) - 1, raw, call.id, call.name)
        else:
            calls = self._calls
            known = [place for place, call in enumerate(calls) if event.index is not None and call.index == event.index]
            place = known[-1] if known else len(calls) - 1
            call = calls[place]
            shown = ToolCallDelta(place, raw)
            if not raw:
                return []
        call.pieces.append(raw)
        return [shown]

    def finish(self, *, clean: bool) -> ModelReply:
        """Fold what came into the reply.

        Raises:
            StreamInterrupted: the answer is not whole; `partial` holds what came.
        """
        if self._finish is None:
            what = "the stream ended without a finish reason" if clean else "the stream was cut"
            raise StreamInterrupted(what, partial=self.partial())
        parts = self._parts()
        for call in self._calls:
            raw = "".join(call.pieces)
            parts.append(ToolCall(call.id, call.name, parse_arguments(raw), raw))
        return make_reply(parts, self._model, self._id, self._finish, self._usage)

    def partial(self) -> Message | None:
        """What has come so far, or None for nothing. Its tool calls have no `arguments`: they must not run."""
        parts = self._parts()
        parts += [ToolCall(call.id, call.name, None, "".join(call.pieces)) for call in self._calls]
        return Message("assistant", tuple(parts), True, _stamp(parts, self._model)) if parts else None

    def _parts(self) -> list[Part]:
        return [each if isinstance(each, ServerItem) else each.part() for each in self._gathered]


def plan_item(plan: str) -> ServerItem:
    """What the model wants to do with its tools, as it goes back."""
    return ServerItem("tool_plan", {"tool_plan": plan})


def arguments_text(arguments: Any) -> str:
    """The argument text of a call, which some gateways send as an object."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else msgspec.json.encode(arguments).decode()


def make_reply(
    parts: list[Part], model: str, identity: str | None, finish: str | None, usage: dict[str, Any] | None
) -> ModelReply:
    """The reply of these parts. `model` is the one asked for: an answer does not name it."""
    message = Message("assistant", tuple(parts), False, _stamp(parts, model))
    reason = _STOP_REASONS.get(finish) if finish is not None else None
    if reason == "stop" and message.tool_calls:
        reason = "tool_calls"
    return ModelReply(message, reason, make_usage(usage), None, identity, finish)


def make_usage(raw: dict[str, Any] | None) -> Usage | None:
    """Read a usage object. ``tokens`` is what the model saw; ``billed_units``, which leaves some out, is the spare."""
    if raw is None:
        return None
    counted: Any = raw.get("tokens") or raw.get("billed_units")
    tokens = cast("dict[str, Any]", counted) if isinstance(counted, dict) else {}
    return Usage(
        _count(tokens.get("input_tokens")),
        _count(tokens.get("output_tokens")),
        cached_input_tokens=_count(raw.get("cached_tokens")),
        raw=raw,
    )


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)  # the API's own description calls them numbers, not integers
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _stamp(parts: list[Part], model: str) -> ProviderData | None:
    kept = any(type(part) in (Thinking, ServerItem) for part in parts)
    return ProviderData(FAMILY, model) if kept else None
