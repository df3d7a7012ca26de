"""`Fallback`: several providers that answer as one.

    agent = Agent("helper", Fallback(["anthropic:claude-sonnet-4-5", "openai:gpt-5-mini"]))

A call asks the first provider that is in good health, and when that fails in a way that another may mend, the next one,
each at most once. The run hears of each switch (`model.fallback`). Once a piece of a streamed answer has been handed
out, nothing is switched: what was shown is not shown again by somebody else.

Health is shared by everybody in the event loop who asks the same account, or, for a provider that has none, the same
object: one run's 429 keeps all the others away until its Retry-After is over, and then one of them tries. What counts
and how is in `health`. A gate that is frozen counts as a rest, so nobody stands in line while somebody else is free.

When nobody has answered, the last error that another try may mend is raised (or the last, if none may), with all of
them as its `causes`.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Hashable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from math import inf
from types import TracebackType
from typing import Any, NamedTuple, Self

import anyio

from .checks import is_number, is_whole
from .connect import connect
from .endpoint import Endpoint
from .errors import AuthError, Overloaded, ProviderError
from .health import Claim, is_ill, passes_on
from .health_book import HealthBook, health_book, health_key
from .notices import FellBack, listening
from .provider import ModelStream, Provider
from .vocabulary import ModelEvent, ModelReply, ModelRequest, Usage


class Fallback(Provider):
    """Asks the next provider when one cannot answer.

    Args:
        providers: in the order of preference; a string is read by `connect`.
        failures: so many failures in a row send a provider to rest (default 3). One that says with a Retry-After how
            long it will be out rests at once.
        cooldown: seconds of rest, where the provider does not say (default 30).

    Raises:
        TypeError: something that is neither a provider nor a string.
        ValueError: no provider at all, or a number that cannot be one.
    """

    name = "fallback"

    def __init__(self, providers: Iterable[Provider | str], *, failures: int = 3, cooldown: float = 30.0) -> None:
        if isinstance(providers, (str, Provider)) or not isinstance(providers, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"Fallback takes a list of providers: Fallback([first, second]), not {providers!r}")
        self.providers: tuple[Provider, ...] = tuple(_provider(each) for each in providers)
        if not self.providers:
            raise ValueError("Fallback needs at least one provider")
        if not is_whole(failures) or failures < 1:
            raise ValueError(f"Fallback(failures=) must be a whole number above 0, not {failures!r}")
        if not is_number(cooldown) or cooldown < 0:
            raise ValueError(f"Fallback(cooldown=) must be seconds, zero or more, not {cooldown!r}")
        self.model = self.providers[0].model
        self.failures = failures
        self.cooldown = float(cooldown)
        self._entered: list[AsyncExitStack] = []

    async def complete(self, request: ModelRequest) -> ModelReply:
        asked = _Round(self)
        while True:
            attempt = asked.next()
            try:
                await asked.tell(attempt)
                reply = await attempt.provider.complete(request)
            except ProviderError as error:
                asked.failed(attempt, error)
            except BaseException:
                attempt.given_up()
                raise
            else:
                attempt.succeeded()
                return reply

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[ModelStream]:
        return _FallbackStream(self, request)

    def takes_schema(self, schema: dict[str, Any], *, tools: bool) -> bool:
        """Whether all of them hold the model to this `output_schema`: nobody knows who will be asked."""
        return all(each.takes_schema(schema, tools=tools) for each in self.providers)

    async def aclose(self) -> None:
        """Close all providers."""
        for each in self.providers:
            await each.aclose()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for each in self.providers:
                await stack.enter_async_context(each)
            self._entered.append(stack.pop_all())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._entered:
            await self._entered.pop().__aexit__(exc_type, exc, tb)

    def __repr__(self) -> str:
        return f"Fallback({list(self.providers)!r})"


def _provider(given: Any) -> Provider:
    if isinstance(given, str):
        return connect(given)
    if not isinstance(given, Provider):
        raise TypeError(f"Fallback takes providers, and strings such as 'openai:gpt-5-mini', not {given!r}")
    return given


class _FallbackStream:
    """The answer of the first provider that has begun to give one."""

    def __init__(self, owner: Fallback, request: ModelRequest) -> None:
        self._request = request
        self._round = _Round(owner)
        self._attempt: _Attempt | None = None  # until it is known how it ended
        self._context: AbstractAsyncContextManager[ModelStream] | None = None
        self._stream: ModelStream | None = None
        self._events: AsyncIterator[ModelEvent] | None = None
        self._shown = False

    @property
    def reply(self) -> ModelReply:
        if self._stream is None:
            raise RuntimeError("the reply is there once the events have been read to their end")
        return self._stream.reply

    @property
    def usage(self) -> Usage | None:
        """What the provider at hand has counted so far, if it tells."""
        return getattr(self._stream, "usage", None)

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        context, self._context = self._context, None
        attempt, self._attempt = self._attempt, None
        self._events = None
        if attempt is not None:
            attempt.given_up()
        if context is not None:
            await context.__aexit__(exc_type, exc, tb)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ModelEvent:
        while True:
            if self._events is None:
                raise RuntimeError("the stream was read outside its block")
            try:
                event = await anext(self._events)
            except StopAsyncIteration:
                if self._attempt is not None:
                    self._attempt.succeeded()
                    self._attempt = None
                raise
            except ProviderError as error:
                attempt, self._attempt = self._attempt, None
                if attempt is None:
                    raise
                if self._shown:
                    attempt.failed(error)
                    raise
                self._round.failed(attempt, error)
                context, self._context = self._context, None
                if context is not None:
                    await context.__aexit__(None, None, None)
            else:
                self._shown = True
                return event
            await self._open()

    async def _open(self) -> None:
        """Open the stream of the next provider that opens one."""
        while True:
            attempt = self._round.next()
            try:
                await self._round.tell(attempt)
                context = attempt.provider.stream(self._request)
                self._stream = await context.__aenter__()
            except ProviderError as error:
                self._round.failed(attempt, error)
            except BaseException:
                attempt.given_up()
                raise
            else:
                self._attempt, self._context, self._events = attempt, context, aiter(self._stream)
                return


class _Passed(NamedTuple):
    """A provider that was passed over: it has failed, or it rests for so many seconds."""

    provider: Provider
    kind: str
    why: str
    rest: float | None = None


class _Round:
    """One call: whom to ask next, and what those before have said."""

    __slots__ = ("_causes", "_left", "_owner", "_passed", "_told")

    def __init__(self, owner: Fallback) -> None:
        self._owner = owner
        self._left = list(owner.providers)
        self._causes: list[ProviderError] = []
        self._passed: list[_Passed] = []
        self._told = 0  # of those that were passed over

    def next(self) -> _Attempt:
        """The next provider that may be asked.

        Raises:
            ProviderError: there is none.
        """
        book, now = health_book(), anyio.current_time()
        while self._left:
            provider = self._left.pop(0)
            key = health_key(provider)
            health = book.of(key, provider)
            frozen: float = provider.frozen_for if isinstance(provider, Endpoint) else 0.0
            claim = None if frozen else health.claim(now)
            if claim is not None:
                return _Attempt(provider, self._owner, book, key, claim)
            rest = max(frozen, health.rest(now))
            kind = health.kind or "rate_limit"
            book.tidy(key)
            self._passed.append(_Passed(provider, kind, _resting(rest, kind), rest))
        raise self._sum()

    def failed(self, attempt: _Attempt, error: ProviderError) -> None:
        """Take a failure; returns if another provider may mend it, else raises it."""
        attempt.failed(error)
        if not passes_on(error):
            raise error
        self._causes.append(error)
        self._passed.append(_Passed(attempt.provider, error.kind, str(error)))

    async def tell(self, attempt: _Attempt) -> None:
        """Tell the listener who was passed over for this one."""
        passed = self._passed[self._told :]
        self._told = len(self._passed)
        listener = listening.get()
        if listener is not None:
            following = attempt.provider
            for each in passed:
                name, model = each.provider.name, each.provider.model
                await listener.hear(FellBack(name, model, following.name, following.model, each.kind, each.why))

    def _sum(self) -> ProviderError:
        """The error of a call that nobody has answered."""
        rests = [each.rest for each in self._passed if each.rest is not None]
        ending = [rest for rest in rests if rest < inf]
        mendable = [error for error in self._causes if error.retryable]
        if self._causes:
            error = _copied((mendable or self._causes)[-1])
        else:
            made = Overloaded if ending else AuthError
            error = made("no provider may be asked now: each rests, or has refused its key", provider=self._owner.name)
        error.causes = tuple(self._causes)
        error.retryable = bool(mendable or ending)
        # Whoever says when bounds the wait for the others, but not for those who do not say.
        waits = [each.retry_after for each in mendable] + [rest or None for rest in ending]
        told = [wait for wait in waits if wait is not None]
        error.retry_after = min(told) if len(told) == len(waits) and told else None
        for each in self._passed:
            error.add_note(f"{each.provider.name}:{each.provider.model} ({each.kind}): {each.why}")
        return error


class _Attempt:
    """One provider that is being asked. It ends once: well, badly, or nobody knows how."""

    __slots__ = ("_book", "_claim", "_key", "_owner", "provider")

    def __init__(self, provider: Provider, owner: Fallback, book: HealthBook, key: Hashable, claim: Claim) -> None:
        self.provider = provider
        self._owner = owner
        self._book = book
        self._key = key
        self._claim = claim

    def succeeded(self) -> None:
        self._book.of(self._key, self.provider).succeeded(self._claim)
        self._book.tidy(self._key)

    def failed(self, error: ProviderError) -> None:
        if not is_ill(error):
            self.succeeded()
            return
        health, owner = self._book.of(self._key, self.provider), self._owner
        renewed = isinstance(self.provider, Endpoint) and self.provider.is_signed
        health.failed(
            self._claim,
            error,
            anyio.current_time(),
            failures=owner.failures,
            cooldown=owner.cooldown,
            renewed=renewed,
        )

    def given_up(self) -> None:
        self._book.of(self._key, self.provider).given_up(self._claim)
        self._book.tidy(self._key)


def _resting(rest: float, kind: str) -> str:
    if rest == inf:
        return "it has refused its key, and is not asked again with it"
    if not rest:
        return f"one call tries it, after {kind}"
    return f"it rests for {rest:.3g} s, after {kind}"


def _copied(error: ProviderError) -> ProviderError:
    """The error as an object of its own: the one at hand may be raised again and again, and be somebody's cause."""
    try:
        copied = copy.copy(error)
    except Exception:  # a subclass that is not made from its message alone
        return error
    copied.__notes__ = list(getattr(error, "__notes__", ()))
    return copied
