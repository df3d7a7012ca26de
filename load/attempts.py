"""A provider that counts: how each request to the model ended, as seen from the client's last line of code.

It stands between agents and a real provider and changes nothing but one field: every request names its conversation
to the server (the body's `user`), after the first line of the first message. So client and server count the same
things under the same names, and a request that one of them has and the other has not is found.

An attempt that its run did not wait for (a stop, a cancellation) has no outcome here: it is counted as cut.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Self

import msgspec

from ..providers import ModelEvent, ModelReply, ModelRequest, ModelSettings, ModelStream, Provider, ProviderError


class Attempts(msgspec.Struct, kw_only=True):
    """Requests by outcome. Written in place by `Counted`.

    Attributes:
        ok: answered whole.
        rate_limited: refused with 429.
        server_errors: refused with 5xx.
        interrupted: the connection was lost during the answer.
        stalled: given up after a deadline.
        unconnected: no connection was made, so nothing was sent.
        refused: refused for what was asked.
        cut: given up because the run was stopped.
        open: without an outcome yet.
    """

    ok: int = 0
    rate_limited: int = 0
    server_errors: int = 0
    interrupted: int = 0
    stalled: int = 0
    unconnected: int = 0
    refused: int = 0
    cut: int = 0
    open: int = 0

    @property
    def total(self) -> int:
        """All requests begun."""
        return sum(getattr(self, name) for name in self.__struct_fields__)

    def end(self, error: BaseException | None) -> None:
        """Count the outcome of an open attempt."""
        self.open -= 1
        name = "ok" if error is None else outcome_of(error)
        setattr(self, name, getattr(self, name) + 1)


_OUTCOMES = {
    "rate_limit": "rate_limited",
    "overloaded": "server_errors",
    "interrupted": "interrupted",
    "stalled": "stalled",
    "connection": "unconnected",
}


def outcome_of(error: BaseException) -> str:
    """The field of `Attempts` that an error counts under."""
    return _OUTCOMES.get(error.kind, "refused") if isinstance(error, ProviderError) else "cut"


class Counted(Provider):
    """`provider`, counted into `attempts`."""

    def __init__(self, provider: Provider, attempts: Attempts) -> None:
        self.name = provider.name
        self.model = provider.model
        self._provider = provider
        self._attempts = attempts

    def takes_schema(self, schema: dict[str, Any], *, tools: bool) -> bool:
        return self._provider.takes_schema(schema, tools=tools)

    async def complete(self, request: ModelRequest) -> ModelReply:
        self._attempts.open += 1
        error: BaseException | None = None
        try:
            return await self._provider.complete(_named(request))
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._attempts.end(error)

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[ModelStream]:
        return _CountedStream(self._provider.stream(_named(request)), self._attempts)


class _CountedStream:
    def __init__(self, block: AbstractAsyncContextManager[ModelStream], attempts: Attempts) -> None:
        self._block = block
        self._attempts = attempts
        self._events: ModelStream | None = None
        self._ended = False
        self._error: BaseException | None = None

    async def __aenter__(self) -> Self:
        self._attempts.open += 1
        try:
            self._events = await self._block.__aenter__()
        except BaseException as error:
            self._attempts.end(error)
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await self._block.__aexit__(None, None, None)
        finally:
            left = None if self._ended else self._error or GeneratorExit()
            self._attempts.end(left)

    @property
    def reply(self) -> ModelReply:
        assert self._events is not None
        return self._events.reply

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ModelEvent:
        assert self._events is not None
        try:
            return await self._events.__anext__()
        except StopAsyncIteration:
            self._ended = True
            raise
        except BaseException as error:
            self._error = error
            raise


def _named(request: ModelRequest) -> ModelRequest:
    name = request.messages[0].text.partition("\n")[0]
    settings = msgspec.structs.replace(request.settings, extra={"user": name})
    assert isinstance(settings, ModelSettings)
    return ModelRequest(
        request.messages,
        tools=request.tools,
        instructions=request.instructions,
        settings=settings,
        output_schema=request.output_schema,
    )
