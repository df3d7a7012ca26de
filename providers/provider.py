"""The seam between an agent and a model.

A provider answers a `ModelRequest` with a `ModelReply`. `complete` is the one method to write; `stream` gives the same
answer piece by piece and defaults to one piece. A provider holds no conversation and knows no actor: the same object
serves any number of runs at once.

    async with provider.stream(request) as events:
        async for event in events: ...
    events.reply                          # the whole answer, once the events have ended
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Protocol, Self

from .vocabulary import ModelEvent, ModelReply, ModelRequest, events_of


class ModelStream(Protocol):
    """The events of one answer, and its `reply` once they have ended.

    `reply` before the end raises RuntimeError. A stream may have a `usage` too: what the provider has counted so far,
    or None as long as it has told nothing.
    """

    @property
    def reply(self) -> ModelReply: ...

    def __aiter__(self) -> AsyncIterator[ModelEvent]: ...

    async def __anext__(self) -> ModelEvent: ...


class Provider:
    """Talks to one model. Subclass it and write `complete`; override `stream` where the endpoint can stream."""

    #: The vendor's short name, for messages and telemetry, for example ``openai``.
    name: str = "provider"
    #: The model's name at that vendor.
    model: str = ""
    #: Whether it holds the model to a request's `output_schema`. From one that does not, an agent has a typed answer
    #: by a tool.
    structured_output: bool = False

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Answer `request` in one piece.

        Raises:
            ProviderError: the call failed; `retryable` says whether another try may help.
        """
        raise NotImplementedError(f"{type(self).__name__} must define complete()")

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[ModelStream]:
        """Answer `request` piece by piece; by default in one piece, made by `complete`."""
        return _OnePiece(self, request)

    def takes_schema(self, schema: dict[str, Any], *, tools: bool) -> bool:
        """Whether it holds the model to this `output_schema`; by default what `structured_output` says.

        Args:
            schema: the JSON schema of an object.
            tools: whether requests have tools too.
        """
        return self.structured_output

    async def aclose(self) -> None:
        """Release what this provider holds. Calling it twice is harmless."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"


class _OnePiece:
    """A stream over a provider that can only complete."""

    def __init__(self, provider: Provider, request: ModelRequest) -> None:
        self._provider = provider
        self._request = request
        self._reply: ModelReply | None = None
        self._events: list[ModelEvent] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    @property
    def reply(self) -> ModelReply:
        if self._reply is None or self._events:
            raise RuntimeError("the reply is there once the events have been read to their end")
        return self._reply

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ModelEvent:
        if self._events is None:
            self._reply = await self._provider.complete(self._request)
            self._events = events_of(self._reply)[::-1]
        if not self._events:
            raise StopAsyncIteration
        return self._events.pop()
