"""The seam between a wire format and the HTTP below it.

A dialect is pure: it encodes a request into a path and a body, and decodes bodies, stream events and error bodies. It
opens no connection, reads no clock and knows no key. What it needs of the outside (the response's headers, the
wall clock for a Retry-After date) is an argument.

A stream is decoded by an object of its own, which is fed one event at a time and closed by `finish` (the body ended as
its framing said) or `interrupted` (it did not). Only the dialect knows whether an answer is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from .errors import ProviderError
from .framing import Framer, WireEvent
from .messages import Message
from .vocabulary import ModelEvent, ModelReply, ModelRequest


class Encoded(msgspec.Struct, frozen=True, gc=False):
    """A request as it goes on the wire: the `path` below the base URL (with its query), and the JSON `body`."""

    path: str
    body: bytes


class StreamDecoder(Protocol):
    """Decodes one streamed answer.

    One whose format tells of usage before the end has a `usage` too: what was told so far, or None.
    """

    @property
    def done(self) -> bool:
        """Whether the terminal marker has come: nothing of worth follows it."""
        ...

    def feed(self, event: WireEvent) -> list[ModelEvent]:
        """Decode one event.

        Raises:
            ProviderError: the event is an error of the provider, or is not of this wire format.
        """
        ...

    def finish(self, *, clean: bool) -> ModelReply:
        """Fold what came into the reply. `clean`: the body ended as its framing said.

        Raises:
            StreamInterrupted: the answer is not whole; `partial` holds what came.
        """
        ...

    def partial(self) -> Message | None:
        """What has come so far, or None for nothing. Its tool calls have no `arguments`: they must not run."""
        ...


class Dialect(Protocol):
    """One wire format."""

    @property
    def family(self) -> str:
        """Whose `provider_data` this dialect may open."""
        ...

    @property
    def stream_type(self) -> str:
        """The content type of a streamed answer, without parameters."""
        ...

    def encode(self, request: ModelRequest, *, stream: bool) -> Encoded: ...

    def takes_schema(self, schema: dict[str, Any], *, tools: bool) -> bool:
        """Whether a request with this `output_schema` has the server hold the model to it, streamed or not.

        Otherwise the schema is told in words. `tools`: requests have tools too.
        """
        ...

    def decode(self, body: bytes) -> ModelReply:
        """Decode a whole answer with a status of success.

        Raises:
            ProviderError: the body holds an error, or is not of this wire format.
        """
        ...

    def framer(self) -> Framer:
        """What cuts one streamed answer into events."""
        ...

    def decoder(self) -> StreamDecoder:
        """A decoder for one streamed answer."""
        ...

    def read_error(self, status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> ProviderError:
        """Read an answer with a status of failure. `headers` have lower-case names; `now` is wall-clock seconds."""
        ...
