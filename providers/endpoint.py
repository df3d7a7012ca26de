"""A provider over HTTP: a dialect, an endpoint and a key make `complete` and `stream`.

This is the thin skin between the pure dialect and `http`: it decides nothing about bytes or sockets. It adds
the key to the headers at the first call, joins the event loop's connections for the length of a call, reads an
answer's content type, and stamps every error with the provider's name and request id, and with no key in it. Before a
call takes anything it passes the gate of its account.

A provider object holds no state of a loop or a run; any number of runs on any number of loops may share it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self, cast

import msgspec

from .dialect import Dialect, StreamDecoder
from .dialects.wire_errors import excerpt
from .errors import AuthError, BadResponse, InvalidRequest, ProviderError, RateLimited, Stalled, StreamInterrupted
from .gate import Account, Gate, shared_gates
from .gate_state import Ticket
from .http import (
    MAX_BODY,
    MAX_ERROR_BODY,
    AsyncClient,
    Call,
    Connections,
    SharedConnections,
    Timeouts,
    check_client,
    endpoint,
    shared_connections,
)
from .openai_messages import UNDECODABLE
from .provider import Provider
from .secrets import secrets_in, take_out
from .signing import Signer, UnsignedRequest, check_signer, signature
from .vocabulary import ModelEvent, ModelReply, ModelRequest, Usage, events_of

_REQUEST_IDS = ("x-request-id", "request-id", "apim-request-id", "cf-ray")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
SSE = "text/event-stream"
#: Bytes of a streamed answer: far more than any model says, and less than a memory.
MAX_STREAM = 256 * 1024 * 1024
_MARK = b"\xef\xbb\xbf"
#: How a stream of server-sent events can begin, and how it cannot.
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
_NO_EVENTS = (b"{", b"[", b"<")


class Endpoint(Provider):
    """A model behind HTTP.

    Args:
        dialect: its wire format.
        name: the vendor's short name.
        model: the model's name there.
        base_url: below which the dialect's paths lie.
        api_key: the key, or None to look up `key_variable` at each call.
        key_variable: the environment variable that holds the key, or None where no key is needed.
        client: a user's own HTTP client; it is never closed here.
        timeouts: deadlines; None for the defaults.
        headers: added to every request; they replace ours of the same name.
        wall_clock: seconds since 1970, to read a Retry-After date where the response has no Date.
        key_header: the header that carries the key; ``authorization`` carries it as a bearer token.
        own_headers: what this wire format wants in every request.
        signer: called with each request for more headers; see `signing`.

    Raises:
        TypeError: an argument is of a type that has no meaning here.
        ValueError: `base_url` cannot be used, or a header cannot be sent.
    """

    def __init__(
        self,
        dialect: Dialect,
        *,
        name: str,
        model: str,
        base_url: str,
        api_key: str | None,
        key_variable: str | None,
        client: AsyncClient | None,
        timeouts: Timeouts | None,
        headers: Mapping[str, str] | None,
        wall_clock: Callable[[], float] = time.time,
        key_header: str = "authorization",
        own_headers: Mapping[str, str] | None = None,
        signer: Signer | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self.base_url = base_url
        self.timeouts = _checked_timeouts(timeouts)
        check_client(client)
        self._dialect = dialect
        self._key = _checked_key(api_key)
        self._key_variable = key_variable
        self._client = client
        self._extra_headers = _checked_headers(headers)
        self._key_header = key_header
        self._own_headers = own_headers or {}
        self._signer = check_signer(signer)
        self._wall_clock = wall_clock
        self._url_path = ""
        self._url = endpoint(base_url, "")
        self._held = secrets_in(self._extra_headers, base_url)
        self._prepared: tuple[str | None, list[tuple[bytes, bytes]]] | None = None
        self._account: tuple[str | None, Account] | None = None
        self._entered: list[SharedConnections] = []

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Answer `request` in one piece.

        Raises:
            ProviderError: the call failed; `retryable` says whether another try may help.
        """
        gate, ticket = await self._enter(request)
        reply: ModelReply | None = None
        try:
            reply = await self._complete(request, gate, ticket)
            return reply
        except ProviderError as error:
            gate.failed(ticket, error)
            raise
        finally:
            gate.leave(ticket, reply.usage if reply is not None else None)

    async def _complete(self, request: ModelRequest, gate: Gate, ticket: Ticket) -> ModelReply:
        membership = SharedConnections(None)
        call = await self._call(request, membership, stream=False)
        try:
            await call.open()
            if call.status != 200:
                gate.observe(ticket, call.headers, self._wall_clock)
                raise await self._failure(call)
            gate.answered(ticket, call.headers, self._wall_clock)
            body = await call.read_all(MAX_BODY)
            try:
                return self._read_body(body, content_type(call.headers))
            except ProviderError as error:
                raise call.failed(error) from None
        finally:
            try:
                await call.close()
            finally:
                await membership.leave()

    def stream(self, request: ModelRequest) -> EndpointStream:
        """Answer `request` piece by piece: ``async with provider.stream(request) as events``."""
        return EndpointStream(self, request)

    def takes_schema(self, schema: dict[str, Any], *, tools: bool) -> bool:
        """Whether the server holds the model to this `output_schema`, as far as its wire format and its name tell."""
        return self._dialect.takes_schema(schema, tools=tools)

    @property
    def family(self) -> str:
        """The family of its wire format; see `Dialect`."""
        return self._dialect.family

    @property
    def account(self) -> Account:
        """Who is asked, and as whom: whoever has the same account shares its gate and its health."""
        key = self._current_key()
        if self._account is None or self._account[0] != key:
            self._account = key, Account(self.name, self.model, self.base_url, self._secrets())
        return self._account[1]

    @property
    def is_signed(self) -> bool:
        """Whether each request is signed anew, so that one which is refused says nothing of the next."""
        return self._signer is not None

    @property
    def frozen_for(self) -> float:
        """Seconds for which the gate lets nobody in, because the provider has refused; 0 for none."""
        return shared_gates().of(self.account).frozen_for

    async def aclose(self) -> None:
        """Leave the connections that ``async with`` joined. A user's own client stays open."""
        while self._entered:
            await self._entered.pop().leave()

    async def __aenter__(self) -> Self:
        if self._client is None:
            membership = shared_connections()
            membership.join()
            self._entered.append(membership)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._entered:
            await self._entered.pop().leave()

    # For the stream below, which is the other half of this class.

    async def _enter(self, request: ModelRequest) -> tuple[Gate, Ticket]:
        """Pass the gate; the caller leaves it."""
        gate = shared_gates().of(self.account)
        return gate, gate.try_enter(request) or await gate.wait(request, self.timeouts.total)

    async def _call(self, request: ModelRequest, membership: SharedConnections, *, stream: bool) -> Call:
        """A call ready to be opened; joins the connections when everything else is in order."""
        headers = self._headers()
        try:
            encoded = self._dialect.encode(request, stream=stream)
        except (TypeError, ValueError, msgspec.EncodeError) as error:
            raise InvalidRequest(str(error), provider=self.name) from error
        if encoded.path != self._url_path:
            self._url, self._url_path = endpoint(self.base_url, encoded.path), encoded.path
        url, stamp = self._url, self._stamp
        if self._signer is not None:
            added = await self._sign(self._signer, headers, str(url), encoded.body)
            headers = [*(pair for pair in headers if pair[0].decode("ascii") not in added), *_encoded(added)]
            stamp = partial(stamp, signed=secrets_in(added))
        connections: AsyncClient | Connections = self._client if self._client is not None else membership.join()
        return Call(connections, url, headers, encoded.body, self.timeouts, stamp)

    async def _sign(self, signer: Signer, headers: list[tuple[bytes, bytes]], url: str, body: bytes) -> dict[str, str]:
        """The headers that the signer adds to those of a request."""
        named = {name.decode("ascii"): value.decode("latin-1") for name, value in headers}
        try:
            return _checked_headers(await signature(signer, UnsignedRequest("POST", url, named, body)), "signer=")
        except ProviderError:
            raise
        except Exception as error:
            raise AuthError(f"the request could not be signed ({type(error).__name__})", provider=self.name) from error

    def _headers(self) -> list[tuple[bytes, bytes]]:
        key = self._current_key()
        if key is None and self._key_variable is not None:
            raise AuthError(f"no API key: set {self._key_variable} or pass api_key= or signer=", provider=self.name)
        if self._prepared is None or self._prepared[0] != key:
            named = {
                "content-type": "application/json",
                "accept": f"application/json, {self._dialect.stream_type}",
                "accept-encoding": "identity",
                "user-agent": "greenroom",
                **self._own_headers,
            }
            if key:
                if not _is_sendable(key):
                    origin = "api_key=" if self._key is not None else self._key_variable
                    raise AuthError(
                        f"the API key from {origin} holds a character that HTTP cannot carry, for example a line "
                        "break in its middle: set it again",
                        provider=self.name,
                    )
                named[self._key_header] = f"Bearer {key}" if self._key_header == "authorization" else key
            named |= {name.lower(): value for name, value in self._extra_headers.items()}
            self._prepared = key, [(b"host", self._url.host), *_encoded(named)]
        return self._prepared[1]

    def _current_key(self) -> str | None:
        """The key without the white space that copying or a file left around it, or None."""
        if self._key is not None or self._key_variable is None:
            return self._key
        return os.environ.get(self._key_variable, "").strip() or None

    def _read_body(self, body: bytes, kind: str) -> ModelReply:
        """The reply in a whole body: some servers stream without being asked, and gateways name either form wrongly."""
        streamed = kind == self._dialect.stream_type
        body = body.removeprefix(_MARK)
        opening = body[:64].lstrip()
        if self._dialect.stream_type == SSE:
            streamed = opening.startswith(_FIELDS) or (streamed and not opening.startswith(_NO_EVENTS))
        elif opening.startswith(b"\0"):
            streamed = True  # a length: no text begins so
        return self._fold(body) if streamed else self._dialect.decode(body)

    def _fold(self, body: bytes) -> ModelReply:
        """The reply in the whole body of a stream."""
        decoder, framer = self._dialect.decoder(), self._dialect.framer()
        for event in framer.feed(body):
            decoder.feed(event)
        left = framer.close()
        if left is not None and _is_whole(left.data):
            decoder.feed(left)
        return decoder.finish(clean=True)

    async def _failure(self, call: Call) -> ProviderError:
        """The error that a response of failure tells."""
        if 300 <= call.status < 400:
            return call.failed(
                BadResponse(
                    f"the endpoint redirects (status {call.status}); redirects are not followed, because they "
                    "would take the key along: set base_url to the final address",
                    status=call.status,
                )
            )
        body = (await call.read_some(MAX_ERROR_BODY)).removeprefix(_MARK)
        if call.status < 300:
            return call.failed(
                BadResponse(f"the endpoint answered with status {call.status}: {excerpt(body)}", status=call.status)
            )
        error = self._dialect.read_error(call.status, call.headers, body, now=self._wall_clock())
        advice = call.headers.get("x-should-retry")
        if advice == "false" or (advice == "true" and not isinstance(error, RateLimited)):
            # OpenAI and Anthropic know better than a status tells; but a quota that is used up stays so.
            error.retryable = advice == "true"
        if isinstance(error, AuthError) and self._key is None and self._signer is None:
            known = self._key_variable
            error.hint = f"the key is read from {known}" if known else "no key was sent: pass api_key="
        return call.failed(error)

    def _stamp(self, error: ProviderError, headers: Mapping[str, str], signed: tuple[str, ...] = ()) -> ProviderError:
        """Name the provider and the request, and take out of what the provider said what nobody may see."""
        error.provider = self.name
        if error.request_id is None:
            error.request_id = next((headers[name] for name in _REQUEST_IDS if name in headers), None)
        take_out(error, (*self._secrets(), *signed))
        return error

    def _secrets(self) -> tuple[str, ...]:
        key = self._current_key()
        return (key, *self._held) if key else self._held


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]


def _is_sendable(value: str) -> bool:
    """Whether a header can carry it."""
    return value.isprintable() and (value.isascii() or max(value) <= "\xff")


def _checked_key(key: Any) -> str | None:
    if key is not None and not isinstance(key, str):
        raise TypeError(f"api_key= must be a string, not {type(key).__name__}")
    if key is not None and not key.strip():
        raise ValueError("api_key= is empty: leave it out to have it looked up, or where none is needed")
    return None if key is None else key.strip()


def content_type(headers: Mapping[str, str]) -> str:
    """The content type of a response, in lower case and without parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _checked_headers(headers: Any, origin: str = "headers=") -> dict[str, str]:
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise TypeError(f"{origin} must be a dictionary of strings, not {type(headers).__name__}")
    checked: dict[str, str] = {}
    for name, value in cast("Mapping[Any, Any]", headers).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(
                f"{origin} must be a dictionary of strings, but {name!r} is given a value of type "
                f"{type(value).__name__}"
            )
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{origin}: {name!r} is no name of a header")
        checked[name] = value.strip()
        if not _is_sendable(checked[name]):
            raise ValueError(f"{origin}: the value of {name!r} holds a character that HTTP cannot carry")
    return checked


def _checked_timeouts(timeouts: Any) -> Timeouts:
    if timeouts is None:
        return Timeouts()
    if not isinstance(timeouts, Timeouts):
        raise TypeError(f"timeouts= must be Timeouts(…), not {type(timeouts).__name__}")
    return timeouts


class EndpointStream:
    """The events of one streamed answer; see `ModelStream`.

    The block holds no cancel scope. Leaving it early closes the connection, whatever has been read.
    """

    def __init__(self, owner: Endpoint, request: ModelRequest) -> None:
        self._owner = owner
        self._request = request
        self._membership = SharedConnections(None)
        self._call: Call | None = None
        self._gate: Gate | None = None
        self._ticket: Ticket | None = None
        self._framer = owner._dialect.framer()
        self._decoder: StreamDecoder | None = None
        self._ready: list[ModelEvent] = []  # decoded and not yet handed out, last one first
        self._failed: ProviderError | None = None
        self._reply: ModelReply | None = None
        self._whole = False
        self._opening: bytearray | None = bytearray()  # the body so far, until the first event
        self._size = 0  # bytes of the body so far

    @property
    def reply(self) -> ModelReply:
        """The whole answer, once the events have ended."""
        if self._reply is None or self._ready:
            raise RuntimeError("the reply is there once the events have been read to their end")
        return self._reply

    @property
    def usage(self) -> Usage | None:
        """What the provider has counted so far; None as long as it has told nothing."""
        return getattr(self._decoder, "usage", None)

    async def __aenter__(self) -> Self:
        owner = self._owner
        self._gate, self._ticket = gate, ticket = await owner._enter(self._request)
        try:
            self._call = call = await owner._call(self._request, self._membership, stream=True)
            await call.open()
            if call.status != 200:
                gate.observe(ticket, call.headers, owner._wall_clock)
                raise await owner._failure(call)
            gate.answered(ticket, call.headers, owner._wall_clock)
            kind = content_type(call.headers)
            if "html" in kind:
                body = await call.read_some(MAX_ERROR_BODY)
                raise call.failed(BadResponse(f"expected an event stream and got {kind}: {excerpt(body)}", status=200))
            self._whole = kind.endswith("json") and kind != owner._dialect.stream_type
        except BaseException as error:
            if isinstance(error, ProviderError):
                gate.failed(ticket, error)
            await self._close()
            raise
        self._decoder = owner._dialect.decoder()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._close()

    async def _close(self) -> None:
        call, self._call = self._call, None
        try:
            if call is not None:
                await call.close()
        finally:
            if self._gate is not None and self._ticket is not None:
                self._gate.leave(self._ticket, self._reply.usage if self._reply is not None else None)
            await self._membership.leave()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ModelEvent:
        while not self._ready:
            if self._failed is not None:
                error, self._failed = self._failed, None
                raise error
            if self._reply is not None or self._decoder is None:
                raise StopAsyncIteration
            call = self._call
            if call is None:
                raise RuntimeError("the stream was read after its block had ended")
            try:
                await (self._read_whole(call) if self._whole else self._read(call, self._decoder))
            except ProviderError as error:
                self._fail(error, call, self._decoder)
        return self._ready.pop()

    def _fail(self, error: ProviderError, call: Call, decoder: StreamDecoder) -> None:
        """Keep the error for when the decoded events are handed out; a cut behind the finish reason is none."""
        if isinstance(error, (StreamInterrupted, Stalled)):
            try:
                self._reply = decoder.finish(clean=False)
                return
            except ProviderError:
                pass
        if error.partial is None:
            error.partial = decoder.partial()
        self._decoder = None
        self._failed = call.failed(error)
        if self._gate is not None and self._ticket is not None:
            self._gate.failed(self._ticket, error)

    async def _read(self, call: Call, decoder: StreamDecoder) -> None:
        """Read until there is something to hand out, an error, or the end."""
        deadline, progress = call.deadline(), False
        out: list[ModelEvent] = []
        try:
            while not out:
                chunk = await call.read(deadline)
                if chunk is None:
                    self._end(decoder, out)
                    break
                self._size += len(chunk)
                if self._size > MAX_STREAM:
                    raise BadResponse(f"the stream is longer than {MAX_STREAM} bytes", status=200)
                for event in self._framer.feed(chunk):
                    self._opening = None
                    out += decoder.feed(event)
                    progress = progress or bool(event.data)
                if decoder.done:
                    self._reply = decoder.finish(clean=await call.drain())
                    break
                if progress and not out:
                    deadline, progress = call.deadline(), False
                if self._opening is not None and len(self._opening) < MAX_ERROR_BODY:
                    self._opening += chunk
        finally:
            self._ready = out[::-1]

    def _end(self, decoder: StreamDecoder, out: list[ModelEvent]) -> None:
        """The body has ended as its framing said."""
        sse = self._owner._dialect.stream_type == SSE
        opening = bytes(self._opening or b"").removeprefix(_MARK)
        if sse and opening[:64].lstrip().startswith(_NO_EVENTS):
            # Not an event stream at all, whatever its content type says.
            self._reply = self._owner._dialect.decode(opening)
            out += events_of(self._reply)
            return
        left = self._framer.close()
        if left is not None and _is_whole(left.data):
            out += decoder.feed(left)
        self._reply = decoder.finish(clean=True)

    async def _read_whole(self, call: Call) -> None:
        """A server that ignores ``stream`` answers with one JSON body; another calls its stream JSON."""
        body = await call.read_all(MAX_BODY)
        self._reply = self._owner._read_body(body, content_type(call.headers))
        self._ready = events_of(self._reply)[::-1]


def _is_whole(data: bytes) -> bool:
    """Whether an event that lacks its empty line at the end of a body is an event all the same."""
    if data.strip() == b"[DONE]":
        return True
    try:
        msgspec.json.decode(data)
    except UNDECODABLE:
        return False
    return True
