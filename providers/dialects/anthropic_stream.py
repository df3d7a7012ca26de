"""A streamed answer of Anthropic's Messages API, event by event. Pure.

A message begins (``message_start``), its blocks begin, grow and end one after another, each under its index, and the
message ends: ``message_delta`` brings the stop reason and the last word on usage, ``message_stop`` is the end. Pings
may stand anywhere, and so may types of events, blocks and deltas that are yet unknown: an unknown event is passed over,
an unknown block is kept as it came, and what an unknown delta brings is added to it.

The argument text of a call comes in pieces and may be cut off by the limit of tokens; it is parsed at the end and never
mended. A call without a piece has no arguments, which is the empty object. The usage of the beginning holds until a
later event says otherwise, field by field.

An error is an event of its own, with status 200. An answer is whole once its stop reason has come.

The hot path is a delta with a little text: one typed decode, one list append, one event.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from ..errors import BadResponse, ProviderError, StreamInterrupted
from ..framing import WireEvent
from ..messages import Message, Part, ServerItem
from ..openai_messages import UNDECODABLE, parse_arguments
from ..vocabulary import ModelEvent, ModelReply, TextDelta, ThinkingDelta, ToolCallDelta, Usage
from .anthropic_answer import (
    error_in,
    finished_call,
    make_reply,
    make_usage,
    read_block,
    stamp,
    thought,
    unfinished_call,
    without_nothing,
)
from .wire_errors import excerpt

_EVENTS = (
    *("message_start", "message_delta", "message_stop", "error"),
    *("content_block_start", "content_block_delta", "content_block_stop"),
)
#: Fields of a message that are kept with it.
KEPT = ("stop_details", "container", "context_management")


class Delta(msgspec.Struct, gc=False):
    """What a block grows by, or how the message ends."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    signature: str | None = None
    stop_reason: str | None = None


class Event(msgspec.Struct):
    """Any event; each type has some of the fields."""

    type: str = ""
    index: int | None = None
    delta: Delta | None = None
    content_block: dict[str, Any] | None = None
    message: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_decode_event = msgspec.json.Decoder(Event).decode


class _Block:
    """A block that is being gathered: how it began, and the pieces of its text or arguments."""

    __slots__ = ("call", "ended", "kind", "pieces", "start")

    def __init__(self, start: dict[str, Any], kind: str) -> None:
        self.start = start
        self.kind = kind
        self.pieces: list[str] = []
        self.call = -1  # its position among the tool calls
        self.ended = False

    def part(self, *, whole: bool) -> Part:
        """The part that it is; a call of an answer that is not `whole` has no arguments."""
        text = "".join(self.pieces)
        match self.kind:
            case "text":
                return read_block({**self.start, "text": text})
            case "thinking":
                return thought(text, self.start)
            case "tool_use":
                # A call that did not end and of which nothing came may have had arguments.
                sure = whole and (self.ended or bool(text))
                return finished_call(self.start, text) if sure else unfinished_call(self.start, text)
            case kind:
                arguments = parse_arguments(text) if text else None
                held = self.start if arguments is None else {**self.start, "input": arguments}
                return ServerItem(kind, held)


class AnthropicStreamDecoder:
    """Decodes one streamed answer; see the module's text for what it copes with."""

    def __init__(self, family: str) -> None:
        self.done = False
        self._family = family
        self._blocks: list[_Block] = []
        self._open: dict[int, _Block] = {}
        self._calls = 0
        self._message: dict[str, Any] = {}
        self._usage: dict[str, Any] | None = None
        self._extras: dict[str, Any] = {}
        self._stop_reason: str | None = None

    @property
    def usage(self) -> Usage | None:
        """What was counted so far: the input from the beginning on."""
        return make_usage(self._usage)

    def feed(self, event: WireEvent) -> list[ModelEvent]:
        """Decode one event.

        Raises:
            ProviderError: the event is an error of the provider, or is not of this wire format.
        """
        data = event.data
        if self.done or not data:
            return []
        try:
            item = _decode_event(data)
        except UNDECODABLE as error:
            return self._unreadable(event, str(error))
        try:
            return self._take(item, item.type or event.event, data)
        except RecursionError:
            raise BadResponse(f"an event is nested too deeply: {excerpt(data)}", partial=self.partial()) from None

    def _take(self, item: Event, kind: str, data: bytes) -> list[ModelEvent]:
        if kind == "content_block_delta" and item.delta is not None:
            return self._grow(item.delta, item.index, data)
        if kind == "error" or item.error is not None:
            raise self._error(data)
        if kind == "content_block_start" and item.content_block is not None:
            return self._begin(item.content_block, item.index)
        if kind == "content_block_stop":
            return self._end(item.index)
        if kind == "message_start" and item.message is not None:
            return self._start(item.message)
        if kind == "message_delta":
            self._take_end(item, data)
        elif kind == "message_stop":
            self.done = True
        return []

    def _unreadable(self, event: WireEvent, why: str) -> list[ModelEvent]:
        """An event whose fields are not those of the format: an unknown type may use them otherwise."""
        data = event.data
        if data.strip() == b"[DONE]":  # gateways between this format and another
            return []
        try:
            parsed: Any = msgspec.json.decode(data)
        except UNDECODABLE:
            parsed = None
            known = event.event in _EVENTS or event.event == "message"
        else:
            kind: Any = cast("dict[str, Any]", parsed).get("type") if isinstance(parsed, dict) else None
            known = (kind if isinstance(kind, str) and kind else event.event) in (*_EVENTS, "message")
        if not known:
            return []
        if event.event == "error" or (isinstance(parsed, dict) and "error" in parsed):
            raise self._error(data)
        raise BadResponse(
            f"an event of the stream is not of a message ({why}): {excerpt(data)}", partial=self.partial()
        )

    def _error(self, data: bytes) -> ProviderError:
        partial = self.partial()
        return (
            error_in(data, partial)
            or error_in(msgspec.json.encode({"error": {"message": excerpt(data)}}), partial)
            or BadResponse(excerpt(data), partial=partial)
        )

    def _start(self, message: dict[str, Any]) -> list[ModelEvent]:
        self._message = message
        usage: Any = message.get("usage")
        if isinstance(usage, dict):
            self._usage = cast("dict[str, Any]", usage)
        self._keep(message)
        return []

    def _keep(self, holder: dict[str, Any]) -> None:
        for key in KEPT:
            if holder.get(key) is not None:
                self._extras[key] = holder[key]

    def _take_end(self, item: Event, data: bytes) -> None:
        if item.delta is not None and item.delta.stop_reason:
            self._stop_reason = item.delta.stop_reason
        if item.usage is not None:
            known = self._usage or {}
            self._usage = known | {
                key: value for key, value in item.usage.items() if value is not None or key not in known
            }
        whole = self._untyped(data)
        self._keep(whole)
        if item.delta is not None:
            self._keep(whole["delta"])

    def _untyped(self, data: bytes) -> dict[str, Any]:
        """An event with all its fields, also those that have no place in `Event`."""
        try:
            return msgspec.json.decode(data)
        except UNDECODABLE as error:
            raise BadResponse(f"an event of the stream is not JSON ({error})", partial=self.partial()) from None

    def _begin(self, start: dict[str, Any], index: int | None) -> list[ModelEvent]:
        kind: Any = start.get("type")
        if not isinstance(kind, str) or not kind:
            raise BadResponse("a block of the stream has no type", partial=self.partial())
        block = self._add(start, kind, index)
        said: Any = start.get(kind)
        if kind == "tool_use":
            block.call, self._calls = self._calls, self._calls + 1
            shown = unfinished_call(start, "")
            return [ToolCallDelta(block.call, "", shown.id, shown.name)]
        if kind in ("text", "thinking") and isinstance(said, str) and said:
            block.pieces.append(said)
            return [TextDelta(said) if kind == "text" else ThinkingDelta(said)]
        return []

    def _add(self, start: dict[str, Any], kind: str, index: int | None) -> _Block:
        block = _Block(start, kind)
        self._blocks.append(block)
        self._open[len(self._blocks) - 1 if index is None else index] = block
        return block

    def _block(self, index: int | None) -> _Block | None:
        if index is None:
            return self._blocks[-1] if self._blocks else None
        return self._open.get(index)

    def _grow(self, delta: Delta, index: int | None, data: bytes) -> list[ModelEvent]:
        block = self._block(index)
        kind = delta.type
        if kind == "text_delta" and delta.text is not None:
            if block is None:
                block = self._add({"type": "text"}, "text", index)
            if block.kind == "text":
                if not delta.text:
                    return []
                block.pieces.append(delta.text)
                return [TextDelta(delta.text)]
        elif kind == "thinking_delta" and delta.thinking is not None:
            if block is None:
                block = self._add({"type": "thinking"}, "thinking", index)
            if block.kind == "thinking":
                if not delta.thinking:
                    return []
                block.pieces.append(delta.thinking)
                return [ThinkingDelta(delta.thinking)]
        if block is None:
            raise BadResponse(f"a piece of the stream has no block: {excerpt(data)}", partial=self.partial())
        if kind == "input_json_delta" and delta.partial_json is not None:
            if not delta.partial_json:
                return []
            block.pieces.append(delta.partial_json)
            return [ToolCallDelta(block.call, delta.partial_json)] if block.kind == "tool_use" else []
        if kind == "signature_delta" and delta.signature is not None:
            block.start = {**block.start, "signature": delta.signature}
        elif kind == "citations_delta":
            known: Any = block.start.get("citations")
            citation: Any = self._untyped(data)["delta"].get("citation")
            block.start = {**block.start, "citations": [*(known if isinstance(known, list) else []), citation]}
        else:
            self._add_unknown(block, self._untyped(data)["delta"])
        return []

    def _add_unknown(self, block: _Block, delta: dict[str, Any]) -> None:
        """Let a block grow by what a delta of an unknown type says: text by text, lists by lists."""
        if block.kind in ("text", "thinking", "tool_use"):
            return  # these are whole without it
        grown = dict(block.start)
        for key, value in delta.items():
            if key == "type" or value is None:
                continue
            before = grown.get(key)
            if (isinstance(before, str) and isinstance(value, str)) or (
                isinstance(before, list) and isinstance(value, list)
            ):
                grown[key] = cast("Any", before) + value
            else:
                grown[key] = value
        block.start = grown

    def _end(self, index: int | None) -> list[ModelEvent]:
        block = self._block(index)
        if block is None or block.ended:
            return []
        block.ended = True
        if block.kind != "tool_use" or block.pieces:
            return []
        # No piece came: the arguments are those that the block began with, which are none.
        given = block.start.get("input")
        raw = given if isinstance(given, str) else msgspec.json.encode(given if given is not None else {}).decode()
        block.pieces.append(raw)
        return [ToolCallDelta(block.call, raw)]

    def finish(self, *, clean: bool) -> ModelReply:
        """Fold what came into the reply.

        Raises:
            StreamInterrupted: the answer is not whole; `partial` holds what came.
        """
        if self._stop_reason is None and not self.done:
            raise StreamInterrupted(
                "the stream ended without a stop reason" if clean else "the stream was cut", partial=self.partial()
            )
        return make_reply(
            self._parts(whole=True),
            family=self._family,
            model=self._message.get("model"),
            identity=self._message.get("id"),
            stop_reason=self._stop_reason,
            usage=self._usage,
            extras=self._extras,
        )

    def partial(self) -> Message | None:
        """What has come so far, or None for nothing. Its tool calls have no `arguments`: they must not run."""
        parts = without_nothing(self._parts(whole=False))
        model: Any = self._message.get("model")
        named = model if isinstance(model, str) else None
        return Message("assistant", parts, True, stamp(parts, self._family, named)) if parts else None

    def _parts(self, *, whole: bool) -> list[Part]:
        return [block.part(whole=whole) for block in self._blocks]
