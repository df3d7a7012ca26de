"""A streamed answer of Bedrock's ConverseStream, event by event. Pure.

``messageStart``, then blocks (``contentBlockStart`` for tools only, ``contentBlockDelta``, ``contentBlockStop``), each
with its ``contentBlockIndex``; ``messageStop`` with the stop reason; ``metadata`` with the usage. An exception ends the
stream wherever it stands. A stop reason makes an answer whole; without the metadata behind it the usage is not known.
The field ``p`` is padding against listeners.

The hot path is a delta with a little text: one typed decode, one list append, one event.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, cast

import msgspec

from ..errors import BadResponse, StreamInterrupted
from ..framing import WireEvent
from ..messages import Message, Part, ServerItem, Text, Thinking, ToolCall
from ..openai_messages import UNDECODABLE, parse_arguments
from ..vocabulary import ModelEvent, ModelReply, TextDelta, ThinkingDelta, ToolCallDelta
from .bedrock_blocks import is_server_tool, make_call, make_reply, read_block, stamp
from .bedrock_errors import read_exception
from .wire_errors import excerpt


class _Reasoning(msgspec.Struct, gc=False, rename="camel"):
    text: str | None = None
    signature: str | None = None
    redacted_content: str | None = None


class _ToolInput(msgspec.Struct, gc=False):
    input: Any = None


class _Delta(msgspec.Struct, rename="camel"):
    text: str | None = None
    reasoning_content: _Reasoning | None = None
    tool_use: _ToolInput | None = None
    tool_result: Any = None
    citation: Any = None
    image: Any = None


class _DeltaEvent(msgspec.Struct, rename="camel"):
    delta: _Delta
    content_block_index: int = 0


class _StartEvent(msgspec.Struct, rename="camel"):
    start: dict[str, Any] | None = None
    content_block_index: int = 0


class _StopEvent(msgspec.Struct, rename="camel"):
    content_block_index: int = 0


class _MessageStop(msgspec.Struct, rename="camel"):
    stop_reason: str | None = None


class _Metadata(msgspec.Struct, rename="camel"):
    usage: dict[str, Any] | None = None
    service_tier: Any = None


_decode_delta = msgspec.json.Decoder(_DeltaEvent).decode
_decode_start = msgspec.json.Decoder(_StartEvent).decode
_decode_stop = msgspec.json.Decoder(_StopEvent).decode
_decode_message_stop = msgspec.json.Decoder(_MessageStop).decode
_decode_metadata = msgspec.json.Decoder(_Metadata).decode


class _Block:
    """A block that is being gathered: fragments of its text, and what else belongs to it."""

    __slots__ = ("call", "ended", "items", "kind", "pieces", "signature", "start")

    def __init__(self, kind: str, start: dict[str, Any], call: int) -> None:
        self.kind = kind
        self.start = start
        self.call = call  # its place among the calls of the caller's tools; -1 for any other block
        self.pieces: list[str] = []
        self.signature = ""
        self.items: list[Any] = []
        self.ended = False

    @property
    def of_server(self) -> bool:
        """Whether nobody but Bedrock can do anything with it, and nothing at all with half of it."""
        return self.kind not in ("text", "reasoningContent", "toolUse") or (self.kind == "toolUse" and self.call < 0)

    def part(self) -> Part | None:
        text = "".join(self.pieces)
        match self.kind:
            case "text" if self.items:
                cited = {"content": [{"text": text}], "citations": self.items} if text else {"citations": self.items}
                return read_block({"citationsContent": cited})
            case "text":
                return Text(text) if text else None
            case "reasoningContent":
                return Thinking(text, self.signature or None) if text or self.signature else None
            case "redactedContent":
                return ServerItem(self.kind, {"reasoningContent": {"redactedContent": _joined(self.pieces)}})
            case "toolUse" if self.call >= 0:
                return make_call(self.start, text)
            case "toolUse":
                return read_block({"toolUse": {**self.start, "input": parse_arguments(text) or {}}})
            case "toolResult":
                return ServerItem(self.kind, {"toolResult": {**self.start, "content": self.items}})
            case kind:
                held: dict[str, Any] = dict(self.start)
                for item in self.items:
                    held |= cast("dict[str, Any]", item) if isinstance(item, dict) else {}
                return ServerItem(kind, {kind: held})


class ConverseStreamDecoder:
    """Decodes one streamed answer."""

    def __init__(self, model: str) -> None:
        self.done = False
        self._model = model
        self._blocks: list[_Block] = []
        self._open: dict[tuple[int, str], _Block] = {}
        self._calls = 0
        self._stop: str | None = None
        self._usage: dict[str, Any] | None = None
        self._tier: Any = None

    def feed(self, event: WireEvent) -> list[ModelEvent]:
        """Decode one event.

        Raises:
            ProviderError: the event is an exception of the provider, or is not of this wire format.
        """
        if event.id in ("exception", "error"):
            raise read_exception(event, partial=self.partial())
        try:
            if event.event == "contentBlockDelta":
                return self._take(_decode_delta(event.data))
            return self._other(event)
        except UNDECODABLE as error:
            raise BadResponse(
                f"an event of the stream is not of Converse ({event.event}: {error}): {excerpt(event.data)}",
                partial=self.partial(),
            ) from None

    def _other(self, event: WireEvent) -> list[ModelEvent]:
        match event.event:
            case "contentBlockStart":
                started = _decode_start(event.data)
                return self._begin(started.content_block_index, started.start or {})
            case "contentBlockStop":
                index = _decode_stop(event.data).content_block_index
                for key in [key for key in self._open if key[0] == index]:
                    self._open.pop(key).ended = True
            case "messageStop":
                self._stop = _decode_message_stop(event.data).stop_reason
            case "metadata":
                metadata = _decode_metadata(event.data)
                self._usage, self._tier = metadata.usage, metadata.service_tier
                self.done = self._stop is not None
            case _:
                pass
        return []

    def _begin(self, index: int, start: dict[str, Any]) -> list[ModelEvent]:
        kind = next((key for key, value in start.items() if isinstance(value, dict)), None)
        if kind is None:
            return []
        held = cast("dict[str, Any]", start[kind])
        block = self._add(index, kind, held)
        if block.call < 0:
            return []
        call = make_call(held, "")
        return [ToolCallDelta(block.call, "", call.id, call.name)]

    def _take(self, event: _DeltaEvent) -> list[ModelEvent]:
        delta, index = event.delta, event.content_block_index
        if delta.text is not None:
            self._block(index, "text").pieces.append(delta.text)
            return [TextDelta(delta.text)] if delta.text else []
        if delta.reasoning_content is not None:
            return self._think(index, delta.reasoning_content)
        if delta.tool_use is not None:
            block = self._block(index, "toolUse")
            given = delta.tool_use.input
            text = given if isinstance(given, str) else "" if given is None else msgspec.json.encode(given).decode()
            block.pieces.append(text)
            return [ToolCallDelta(block.call, text)] if block.call >= 0 and text else []
        result: Any = delta.tool_result
        if delta.citation is not None:
            self._block(index, "text").items.append(delta.citation)
        elif isinstance(result, list):
            self._block(index, "toolResult").items += cast("list[Any]", result)
        elif delta.image is not None:
            self._block(index, "image").items.append(delta.image)
        return []

    def _think(self, index: int, thought: _Reasoning) -> list[ModelEvent]:
        if thought.redacted_content is not None:
            self._block(index, "redactedContent").pieces.append(thought.redacted_content)
            return []
        block = self._block(index, "reasoningContent")
        block.signature += thought.signature or ""
        if not thought.text:
            return []
        block.pieces.append(thought.text)
        return [ThinkingDelta(thought.text)]

    def _block(self, index: int, kind: str) -> _Block:
        """The open block with this index, which begins with its first delta where nothing began it."""
        return self._open.get((index, kind)) or self._add(index, kind, {})

    def _add(self, index: int, kind: str, start: dict[str, Any]) -> _Block:
        call = -1
        if kind == "toolUse" and not is_server_tool(start):
            call, self._calls = self._calls, self._calls + 1
        block = self._open[index, kind] = _Block(kind, start, call)
        self._blocks.append(block)
        return block

    def finish(self, *, clean: bool) -> ModelReply:
        """Fold what came into the reply.

        Raises:
            StreamInterrupted: the answer is not whole; `partial` holds what came.
        """
        if self._stop is None:
            what = "the stream ended without a stop reason" if clean else "the stream was cut"
            raise StreamInterrupted(what, partial=self.partial())
        parts = [block.part() for block in self._blocks]
        known = [part for part in parts if part is not None]
        return make_reply(known, self._model, self._stop, self._usage, self._tier)

    def partial(self) -> Message | None:
        """What has come so far, or None for nothing. Its tool calls have no `arguments`: they must not run."""
        parts: list[Part] = []
        for block in self._blocks:
            part = block.part() if block.ended or not block.of_server else None
            if isinstance(part, ToolCall):
                part = ToolCall(part.id, part.name, None, part.raw)
            if part is not None:
                parts.append(part)
        return Message("assistant", tuple(parts), True, stamp(parts, self._model)) if parts else None


def _joined(pieces: list[str]) -> str:
    """One blob of base64 from the blobs of the deltas."""
    if len(pieces) == 1:
        return pieces[0]
    try:
        return base64.b64encode(b"".join([base64.b64decode(piece, validate=True) for piece in pieces])).decode()
    except (binascii.Error, ValueError):
        return "".join(pieces)
