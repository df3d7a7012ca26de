"""An answer of Ollama's, line by line: each line is an object with a piece of the message, the last one has ``done``.

A tool call comes whole in one line, with its arguments as an object (text where a gateway rewrote it). An error is a
line with ``error`` and status 200. Only ``done`` makes an answer whole. A ``done_reason`` of ``stop`` beside tool calls
is told as ``tool_calls``, for there is no word of the server's for it. Pure.

The hot path is a line with a little text: one typed decode, one list append, one event.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from ..errors import BadResponse, ContextOverflow, ProviderError, StreamInterrupted
from ..framing import WireEvent
from ..messages import Message, Part, ProviderData, Text, Thinking, ToolCall
from ..openai_messages import UNDECODABLE, parse_arguments
from ..vocabulary import ModelEvent, ModelReply, StopReason, TextDelta, ThinkingDelta, ToolCallDelta, Usage
from .wire_errors import error_object, excerpt, make_error

#: Whose thoughts go back: those of this format.
FAMILY = "ollama"

_STOP_REASONS: dict[str, StopReason] = {"stop": "stop", "length": "length"}
_OVERFLOW = re.compile(r"exceed\w* (the )?(model'?s )?(max\w* )?context", re.IGNORECASE)
_NO_HEADERS: Mapping[str, str] = {}


class Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None


class Call(msgspec.Struct):
    id: Any = None
    function: Function | None = None


class Said(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[Call] | None = None


class Chunk(msgspec.Struct):
    """A line of a stream, or a whole answer."""

    model: str | None = None
    message: Said | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: Any = None
    eval_count: Any = None
    error: Any = None


decode_chunk = msgspec.json.Decoder(Chunk).decode


class OllamaStreamDecoder:
    """Decodes one streamed answer."""

    def __init__(self) -> None:
        self.done = False
        self._last = Chunk()
        self._texts: list[tuple[type[Text | Thinking], list[str]]] = []
        self._calls: list[ToolCall] = []

    def feed(self, event: WireEvent) -> list[ModelEvent]:
        """Decode one line.

        Raises:
            ProviderError: the line is an error of the server, or is not of this wire format.
        """
        if self.done:
            return []
        try:
            chunk = decode_chunk(event.data)
        except UNDECODABLE as error:
            raise self._not_a_chunk(event.data, str(error)) from None
        if chunk.error is not None:
            raise told(event.data, partial=self.partial())
        if chunk.message is None and not chunk.done:
            raise self._not_a_chunk(event.data, "it has no message")
        self._last = chunk
        self.done = chunk.done
        return self._take(chunk.message) if chunk.message is not None else []

    def _take(self, said: Said) -> list[ModelEvent]:
        events: list[ModelEvent] = []
        if said.thinking:
            self._gather(Thinking, said.thinking)
            events.append(ThinkingDelta(said.thinking))
        if said.content:
            self._gather(Text, said.content)
            events.append(TextDelta(said.content))
        for call in read_calls(said) if said.tool_calls else ():
            events.append(ToolCallDelta(len(self._calls), call.raw, call.id, call.name))
            self._calls.append(call)
        return events

    def _gather(self, kind: type[Text | Thinking], text: str) -> None:
        if self._texts and self._texts[-1][0] is kind:
            self._texts[-1][1].append(text)
        else:
            self._texts.append((kind, [text]))

    def _not_a_chunk(self, data: bytes, why: str) -> BadResponse:
        return BadResponse(
            f"a line of the stream is not of Ollama's chat ({why}): {excerpt(data)}", partial=self.partial()
        )

    def finish(self, *, clean: bool) -> ModelReply:
        """Fold what came into the reply.

        Raises:
            StreamInterrupted: the answer is not whole; `partial` holds what came.
        """
        if not self.done:
            what = "the stream ended without its last line" if clean else "the stream was cut"
            raise StreamInterrupted(what, partial=self.partial())
        return make_reply([*self._parts(), *self._calls], self._last)

    def partial(self) -> Message | None:
        """What has come so far, or None for nothing. Its tool calls have no `arguments`: they must not run."""
        parts = self._parts()
        parts += [ToolCall(call.id, call.name, None, call.raw) for call in self._calls]
        return Message("assistant", tuple(parts), True, _stamp(parts, self._last.model)) if parts else None

    def _parts(self) -> list[Part]:
        return [kind("".join(pieces)) for kind, pieces in self._texts]


def make_reply(parts: list[Part], last: Chunk) -> ModelReply:
    """The reply of these parts; `last` is the line, or the answer, that says how it ended."""
    message = Message("assistant", tuple(parts), False, _stamp(parts, last.model))
    reason = _STOP_REASONS.get(last.done_reason) if last.done_reason is not None else None
    if reason == "stop" and message.tool_calls:
        reason = "tool_calls"
    return ModelReply(message, reason, _usage(last), last.model, None, last.done_reason)


def read_calls(said: Said) -> list[ToolCall]:
    """The tool calls of a line or an answer."""
    calls: list[ToolCall] = []
    for call in said.tool_calls or ():
        function = call.function or Function()
        arguments = function.arguments
        if isinstance(arguments, str):
            raw = arguments
        else:
            raw = "" if arguments is None else msgspec.json.encode(arguments).decode()
        identity = call.id if isinstance(call.id, str) and call.id else None
        calls.append(ToolCall(identity, function.name or "", parse_arguments(raw), raw))
    return calls


def told(data: bytes, *, partial: Message | None = None) -> ProviderError:
    """The error inside a success."""
    try:
        error = error_object(msgspec.json.decode(data))
    except UNDECODABLE:
        error = None
    error = error if error is not None else {"message": excerpt(data)}
    return sharpened(make_error(error, status=200, headers=_NO_HEADERS, now=0.0, partial=partial))


def sharpened(error: ProviderError) -> ProviderError:
    """The error, as a ContextOverflow where its words say so."""
    if isinstance(error, ContextOverflow) or not _OVERFLOW.search(error.message):
        return error
    return ContextOverflow(
        error.message, status=error.status, code=error.code, request_id=error.request_id, partial=error.partial
    )


def _stamp(parts: list[Part], model: str | None) -> ProviderData | None:
    return ProviderData(FAMILY, model) if any(type(part) is Thinking for part in parts) else None


def _usage(last: Chunk) -> Usage | None:
    counts = {"prompt_eval_count": last.prompt_eval_count, "eval_count": last.eval_count}
    told = {name: count for name, count in counts.items() if type(count) is int}
    if not told:
        return None
    return Usage(told.get("prompt_eval_count"), told.get("eval_count"), raw=cast("dict[str, Any]", told))
