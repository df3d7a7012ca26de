"""A Gemini answer, whole or streamed, chunk by chunk. Pure.

A stream is a row of whole answers in small: each chunk is a `GenerateContentResponse` with the parts that are new. A
body in one piece is read as a stream of one chunk; a server asked to stream without ``alt=sse`` sends a JSON array of
the chunks, which is read likewise.

- **Signatures.** Any part may carry a ``thoughtSignature``, also a text that is empty. Google wants each back on the
  very part that brought it, so a signed part is never joined with its neighbours. They go into `details` (a thought's
  own into its `signature`).
- **Tool calls** come whole, each in one part, with or without an id. An id that the model gave is kept in `details` as
  well, because whoever runs the calls gives ids to those without, and only the model's own go back.
- **Parts of other kinds** (code that the provider ran, calls of its own tools, images) become `ServerItem`s, as they
  came.
- **Usage** grows from chunk to chunk: the last object holds.
- **Errors** come inside a stream with status 200.

There is no terminal marker. A finish reason makes an answer whole, and so does the news that the prompt was blocked;
without either a stream was cut, however cleanly its body ended. Chunks may follow the finish reason.

https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse
"""

from __future__ import annotations

from typing import Any, TypeAlias, cast

import msgspec

from ..errors import BadResponse, StreamInterrupted
from ..framing import WireEvent
from ..messages import Message, Part, ProviderData, ServerItem, Text, Thinking, ToolCall
from ..openai_messages import UNDECODABLE, parse_arguments
from ..vocabulary import ModelEvent, ModelReply, StopReason, TextDelta, ThinkingDelta, ToolCallDelta, Usage
from .gemini_errors import answered_error
from .gemini_wire import Candidate, Chunk, FunctionCall, WirePart, decode_chunks, make_usage
from .wire_errors import excerpt

_STOP_REASONS: dict[str, StopReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "IMAGE_OTHER": "error",
    "NO_IMAGE": "error",
    "LANGUAGE": "error",
    "MALFORMED_FUNCTION_CALL": "error",
    "MALFORMED_RESPONSE": "error",
    "UNEXPECTED_TOOL_CALL": "error",
    "TOO_MANY_TOOL_CALLS": "error",
    "MISSING_THOUGHT_SIGNATURE": "error",
    "OTHER": "error",
}
_UNSPECIFIED = "FINISH_REASON_UNSPECIFIED"

#: Keys of a part that say something about it; the other one is its kind.
_ABOUT = {"thought", "thoughtSignature", "partMetadata", "videoMetadata", "mediaResolution"}
#: What a candidate says about its whole text.
_SOURCES = ("groundingMetadata", "citationMetadata", "urlContextMetadata")


class _Run:
    """Unsigned text of one kind that is being gathered."""

    __slots__ = ("pieces", "thought")

    def __init__(self, thought: bool, text: str) -> None:
        self.thought = thought
        self.pieces = [text]

    @property
    def part(self) -> Text | Thinking:
        text = "".join(self.pieces)
        return Thinking(text) if self.thought else Text(text)


_Gathered: TypeAlias = "_Run | Text | Thinking | ToolCall | ServerItem"


class GeminiStreamDecoder:
    """Decodes one answer; see the module's text for what it copes with.

    Args:
        family, model: with which a message is stamped that holds anything for its provider alone.
    """

    #: No marker ends these streams, and something may follow the finish reason.
    done = False

    def __init__(self, family: str, model: str) -> None:
        self._family = family
        self._asked = model
        self._gathered: list[_Gathered] = []
        self._open: _Run | None = None
        self._calls = 0
        self._finish: str | None = None
        self._blocked = False
        self._usage: dict[str, Any] | None = None
        self._model: str | None = None
        self._id: str | None = None
        self._sources: dict[str, Any] = {}

    @property
    def usage(self) -> Usage | None:
        """What was counted so far; most chunks tell it."""
        return make_usage(self._usage)

    def feed(self, event: WireEvent) -> list[ModelEvent]:
        """Decode one event.

        Raises:
            ProviderError: the event is an error of the provider, or is not of this wire format.
        """
        data = event.data
        try:
            chunks = decode_chunks(data)
        except UNDECODABLE as error:
            # Proxies add the marker of another format, and events of a type of their own.
            if data.strip() in (b"", b"[DONE]") or event.event not in ("message", "error"):
                return []
            raise answered_error(data, partial=self.partial()) or BadResponse(
                f"an event of the stream is not a Gemini answer ({error}): {excerpt(data)}", partial=self.partial()
            ) from None
        if type(chunks) is Chunk:
            return self.take(chunks, data, None)
        return [each for index, chunk in enumerate(chunks) for each in self.take(chunk, data, index)]

    def take(self, chunk: Chunk, data: bytes, index: int | None) -> list[ModelEvent]:
        """Take a decoded chunk. `data` is the JSON that it was decoded from, `index` its place there in an array.

        Raises:
            ProviderError: the chunk is an error of the provider, or holds what this decoder cannot read.
        """
        if chunk.error is not None:
            raise answered_error(data, partial=self.partial()) or BadResponse(
                f"an error that cannot be read: {excerpt(data)}", partial=self.partial()
            )
        if self._model is None and chunk.modelVersion:
            self._model = chunk.modelVersion
        if self._id is None and chunk.responseId:
            self._id = str(chunk.responseId)
        if chunk.usageMetadata is not None:
            self._usage = chunk.usageMetadata
        if chunk.promptFeedback is not None and chunk.promptFeedback.blockReason:
            self._blocked = True
        events: list[ModelEvent] = []
        for place, candidate in enumerate(chunk.candidates or ()):
            if candidate.index:  # another candidate than the first
                continue
            content = candidate.content
            if content is not None and content.parts:
                self._take_parts(content.parts, events, data, (index, place))
            if candidate.groundingMetadata or candidate.citationMetadata or candidate.urlContextMetadata:
                self._take_sources(candidate)
            if candidate.finishReason and candidate.finishReason != _UNSPECIFIED:
                self._finish = candidate.finishReason
        return events

    def _take_parts(
        self, parts: list[WirePart], events: list[ModelEvent], data: bytes, where: tuple[int | None, int]
    ) -> None:
        for place, part in enumerate(parts):
            if part.functionCall is not None:
                self._take_call(part.functionCall, part.thoughtSignature, events)
            elif part.text is not None:
                self._take_text(part.text, part.thought is True, part.thoughtSignature, events)
            else:
                self._take_other(self._dug(data, where, place))

    def _take_text(self, text: str, thought: bool, signature: str | None, events: list[ModelEvent]) -> None:
        if text:
            events.append(ThinkingDelta(text) if thought else TextDelta(text))
        if signature:
            self._close(_signed(text, signature, thought))
        elif text:
            if self._open is not None and self._open.thought is thought:
                self._open.pieces.append(text)
            else:
                self._open = _Run(thought, text)
                self._gathered.append(self._open)

    def _take_call(self, call: FunctionCall, signature: str | None, events: list[ModelEvent]) -> None:
        if call.partialArgs is not None or call.willContinue:
            raise BadResponse(
                "the arguments of a function call come in pieces, which is read only where nobody asks for "
                "streamFunctionCallArguments",
                partial=self.partial(),
            )
        raw = bytes(call.args).decode("utf-8", "replace")
        raw = "{}" if raw in ("", "null") else raw
        identity = str(call.id) if call.id else None
        details = {"id": identity} if identity else {}
        if signature:
            details["thoughtSignature"] = signature
        name = call.name or ""
        self._close(ToolCall(identity, name, parse_arguments(raw), raw, cast("dict[str, Any]", details) or None))
        events.append(ToolCallDelta(self._calls, raw, identity, name))
        self._calls += 1

    def _dug(self, data: bytes, where: tuple[int | None, int], place: int) -> dict[str, Any]:
        """A part as it came. It is there: the typed decoding has found it."""
        try:
            body: Any = msgspec.json.decode(data)
        except UNDECODABLE as error:
            raise BadResponse(
                f"a part of the answer cannot be read ({error}): {excerpt(data)}", partial=self.partial()
            ) from None
        chunk = body if where[0] is None else body[where[0]]
        return cast("dict[str, Any]", chunk["candidates"][where[1]]["content"]["parts"][place])

    def _take_sources(self, candidate: Candidate) -> None:
        for name in _SOURCES:
            if source := getattr(candidate, name):
                self._sources[name] = source

    def _take_other(self, part: dict[str, Any]) -> None:
        kind = next((key for key in part if key not in _ABOUT), None)
        if kind is not None:
            self._close(ServerItem(kind, part))
        elif isinstance(signature := part.get("thoughtSignature"), str):
            self._close(_signed("", signature, part.get("thought") is True))

    def _close(self, part: _Gathered) -> None:
        """Add a part that nothing is joined to."""
        self._gathered.append(part)
        self._open = None

    def finish(self, *, clean: bool) -> ModelReply:
        """Fold what came into the reply.

        Raises:
            StreamInterrupted: there was no finish reason; `partial` holds what came.
        """
        if self._finish is None and not self._blocked:
            raise StreamInterrupted(
                "the stream ended without a finish reason" if clean else "the stream was cut", partial=self.partial()
            )
        return self.reply()

    def reply(self) -> ModelReply:
        """What came, as a reply, whole or not."""
        parts = tuple([each.part if type(each) is _Run else cast("Part", each) for each in self._gathered])
        message = Message("assistant", parts, False, self._stamp(parts))
        return ModelReply(message, self._stop_reason(), make_usage(self._usage), self._model, self._id, self._finish)

    def _stop_reason(self) -> StopReason | None:
        if self._finish is None:
            return "content_filter" if self._blocked else None
        reason = _STOP_REASONS.get(self._finish)
        return "tool_calls" if reason == "stop" and self._calls else reason

    def _stamp(self, parts: tuple[Part, ...]) -> ProviderData | None:
        """The model of the stamp is the one that was asked for: a name like ``…-latest`` stays comparable."""
        if self._sources or any(_is_private(part) for part in parts):
            return ProviderData(self._family, self._asked, self._sources or None)
        return None

    def partial(self) -> Message | None:
        """What has come so far, or None for nothing. Its tool calls have no `arguments`: they must not run."""
        parts: list[Part] = []
        for each in self._gathered:
            match each:
                case _Run():
                    parts.append(each.part)
                case Text() if each.text:
                    parts.append(Text(each.text))
                case Thinking() if each.text:
                    parts.append(Thinking(each.text))
                case ToolCall():
                    parts.append(ToolCall(each.id, each.name, None, each.raw))
                case _:
                    pass  # what only the provider understands is worth nothing in half an answer
        return Message("assistant", tuple(parts), True) if parts else None


def _signed(text: str, signature: str, thought: bool) -> Text | Thinking | ServerItem:
    if not thought:
        return Text(text, {"thoughtSignature": signature})
    if text:
        return Thinking(text, signature)
    # No reasoning was made visible, so none is claimed.
    return ServerItem("text", {"text": "", "thought": True, "thoughtSignature": signature})


def _is_private(part: Part) -> bool:
    match part:
        case ServerItem():
            return True
        case Thinking():
            return part.signature is not None
        case Text() | ToolCall():
            return part.details is not None
        case _:
            return False
