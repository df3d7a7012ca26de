"""Anthropic's Messages API as Amazon Bedrock carries it. Pure.

The body is the same without the model, which is part of the path, and with a version of its own. Whether the answer is
streamed is a path, too. A stream is AWS's binary framing; each ``chunk`` of it holds one event of Anthropic's stream as
base64, and an exception ends it. Errors have AWS's shape, their type is in a header.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModelWithResponseStream.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from ..dialect import Encoded
from ..errors import BadResponse, ProviderError
from ..framing import EventStreamFramer, WireEvent
from ..messages import Message
from ..openai_messages import UNDECODABLE
from ..vocabulary import ModelEvent, ModelReply, ModelRequest
from .anthropic import AnthropicDialect
from .anthropic_stream import AnthropicStreamDecoder
from .wire_errors import error_object, excerpt, make_error, read_error

_VERSION = "bedrock-2023-05-31"
_NO_HEADERS: Mapping[str, str] = {}
#: The status of an exception inside a stream.
_STATUSES = {
    "internalserverexception": 500,
    "modelstreamerrorexception": 502,  # AWS says 424, and: retry your request
    "modeltimeoutexception": 504,
    "serviceunavailableexception": 503,
    "throttlingexception": 429,
    "validationexception": 400,
}


class _Chunk(msgspec.Struct, gc=False):
    data: bytes = msgspec.field(name="bytes")


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_encode = msgspec.json.Encoder().encode


class BedrockAnthropicDialect(AnthropicDialect):
    """The Messages API on Bedrock. Thinking is signed by Anthropic there too, so it is one family."""

    stream_type = "application/vnd.amazon.eventstream"

    def encode(self, request: ModelRequest, *, stream: bool) -> Encoded:
        """The path and the JSON body of a request.

        Raises:
            ValueError: the conversation holds something that this format cannot carry.
        """
        action = "invoke-with-response-stream" if stream else "invoke"
        path = f"/model/{quote(self.model, safe='')}/{action}"
        return Encoded(path, _encode({"anthropic_version": _VERSION, **self.body(request)}))

    def framer(self) -> EventStreamFramer:
        """What cuts one streamed answer into events."""
        return EventStreamFramer()

    def decoder(self) -> BedrockAnthropicStreamDecoder:
        """A decoder for one streamed answer."""
        return BedrockAnthropicStreamDecoder(self.family)

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> ProviderError:
        """Read an answer with a status of failure."""
        error = read_error(status, headers, body, now=now)
        kind = headers.get("x-amzn-errortype")
        if kind and error.code is None:
            error.code = error.error_type = kind
        if status == 424:
            error.retryable = True  # the model failed, not the request
        return error


class BedrockAnthropicStreamDecoder:
    """Decodes one streamed answer of Bedrock."""

    def __init__(self, family: str) -> None:
        self._inner = AnthropicStreamDecoder(family)

    @property
    def done(self) -> bool:
        """Whether the terminal marker has come: nothing of worth follows it."""
        return self._inner.done

    def feed(self, event: WireEvent) -> list[ModelEvent]:
        """Decode one event.

        Raises:
            ProviderError: the event is an error of the provider, or is not of this wire format.
        """
        if event.id in ("exception", "error"):
            raise self._exception(event)
        if event.event != "chunk":
            return []  # a type that is yet unknown
        try:
            data = _decode_chunk(event.data).data
        except UNDECODABLE as error:
            raise BadResponse(
                f"a chunk of the stream holds no bytes ({error}): {excerpt(event.data)}", partial=self.partial()
            ) from None
        return self._inner.feed(WireEvent(data))

    def _exception(self, event: WireEvent) -> ProviderError:
        try:
            told = error_object(msgspec.json.decode(event.data))
        except UNDECODABLE:
            told = None
        error: dict[str, Any] = {"message": excerpt(event.data) or event.event, **(told or {})}
        error.setdefault("type", event.event)
        status = _STATUSES.get(event.event.lower())
        if status is not None:
            error["status_code"] = status
        return make_error(error, status=200, headers=_NO_HEADERS, now=0.0, partial=self.partial())

    def finish(self, *, clean: bool) -> ModelReply:
        """Fold what came into the reply. `clean`: the body ended as its framing said.

        Raises:
            StreamInterrupted: the answer is not whole; `partial` holds what came.
        """
        return self._inner.finish(clean=clean)

    def partial(self) -> Message | None:
        """What has come so far, or None for nothing. Its tool calls have no `arguments`: they must not run."""
        return self._inner.partial()
