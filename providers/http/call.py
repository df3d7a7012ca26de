"""One POST to a model's endpoint, with its deadlines, a bounded body and typed errors.

**Deadlines** are on by default, and each wait has one: a wait, not a call, because what is there already needs no
cancel scope, and those are dear. `idle` bounds the wait for the next piece that the caller counts as progress, so
comments that only keep a connection alive do not extend it. `total` bounds everything. No cancel scope outlives a call
into this module: the caller's own code runs between reads, outside all.

**No generator, no task.** A call is an object with `open`, `read`, `drain` and `close`; each can be cancelled at any
await, and `close` gives the connection's slot back in every case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx
import msgspec

from ..errors import BadResponse, ConnectionFailed, InvalidRequest, ProviderError, Stalled, StreamInterrupted
from ..keywords import Keywords
from .connections import Connections
from .failures import HTTPX_ERRORS, NotHttpx, to_httpx
from .foreign import ForeignBody
from .inflate import Inflate
from .transport import NEVER, Body, FreeListTransport, Target

MAX_BODY = 64 * 1024 * 1024
MAX_ERROR_BODY = 256 * 1024
DRAIN_TIMEOUT = 1.0
#: Seconds for the body of a failure: what has failed is known by then.
ERROR_BODY_TIMEOUT = 10.0
_DRAIN_BYTES = 256 * 1024


class Timeouts(msgspec.Struct, metaclass=Keywords, frozen=True, kw_only=True):
    """Deadlines of a model call, in seconds; None turns one off.

    Args:
        connect: for name, TCP and TLS together.
        first_byte: from the request sent to the first byte of an answer.
        idle: between two pieces of an answer. Comments that keep a stream alive are not pieces.
        total: for the whole call, waiting for a free connection included.
    """

    connect: float | None = 10.0
    first_byte: float | None = 120.0
    idle: float | None = 60.0
    total: float | None = 600.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0):
                raise ValueError(f"Timeouts({name}=) must be greater than zero or None, not {value!r}")


class Address(msgspec.Struct, frozen=True):
    """A URL, also in the form that our transport takes."""

    url: httpx.URL
    target: Target

    @property
    def host(self) -> bytes:
        """Host and port, as the ``Host`` header says them."""
        return self.url.netloc.rpartition(b"@")[2]

    def __str__(self) -> str:
        return str(self.url)


class Call:
    """One POST and its answer.

    `open` sends and returns at the head of the answer; `status` and `headers` are there then. `read` gives the next
    bytes and None at the end. Always `close` it: a body that was not read to its end costs the connection.
    """

    __slots__ = (
        "_answer",
        "_body",
        "_client",
        "_ended",
        "_headers",
        "_inflate",
        "_stamp",
        "_timeouts",
        "_total_at",
        "_unreadable",
        "_url",
        "headers",
        "status",
    )

    def __init__(
        self,
        client: httpx.AsyncClient | Connections,
        url: Address,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        timeouts: Timeouts,
        stamp: Callable[[ProviderError, Mapping[str, str]], ProviderError],
    ) -> None:
        self._client = client
        self._url = url
        self._headers = headers
        self._body = body
        self._timeouts = timeouts
        self._stamp = stamp
        self._answer: Body | ForeignBody | None = None
        self._inflate: Inflate | None = None
        self._ended = False
        self._unreadable = False  # the body of a failure
        self._total_at = 0.0
        self.status = 0
        #: Of the answer, with names in lower case.
        self.headers: Mapping[str, str] = {}

    async def open(self) -> None:
        """Send the request and wait for the head of the answer.

        Raises:
            ConnectionFailed: no connection.
            Stalled: no answer in time.
            StreamInterrupted: the connection was lost before an answer.
        """
        total = self._timeouts.total
        self._total_at = anyio.current_time() + total if total is not None else NEVER
        try:
            self._answer = answer = await self._send()
        except Exception as error:
            translated = self.failed(self._translate(_known(error)))
            # What the library says of a request that it refuses may quote a header.
            raise translated from (None if isinstance(translated, InvalidRequest) else error)
        self.status = answer.status
        self.headers = headers = _named(answer.headers)
        encoding = headers.get("content-encoding")
        if encoding and encoding != "identity":
            try:
                self._inflate = Inflate(encoding)
            except BadResponse as error:
                if answer.status == 200:
                    raise self.failed(error) from None
                self._unreadable = True

    async def _send(self) -> Body | ForeignBody:
        client, url, timeouts = self._client, self._url, self._timeouts
        transport = client.transport(url.url) if isinstance(client, Connections) else None
        if isinstance(transport, FreeListTransport):
            return await transport.exchange(
                url.target,
                [*self._headers, (b"content-length", b"%d" % len(self._body))],
                self._body,
                connect=timeouts.connect,
                first_byte=timeouts.first_byte,
                deadline=self._total_at,
            )
        # httpcore looks this dictionary up again when the body is read, whose waits are bounded here.
        waits = {"connect": timeouts.connect, "read": timeouts.first_byte, "write": timeouts.first_byte, "pool": None}
        with anyio.CancelScope(deadline=self._total_at):
            response = await self._send_foreign(transport, {"timeout": waits})
            waits["read"] = None
            return ForeignBody(response)
        raise httpx.ReadTimeout("no answer in time")

    async def _send_foreign(
        self, transport: httpx.AsyncBaseTransport | None, extensions: dict[str, Any]
    ) -> httpx.Response:
        client, url, headers, body = self._client, self._url.url, self._headers, self._body
        if transport is not None:
            request = httpx.Request("POST", url, headers=headers, content=body, extensions=extensions)
            return await transport.handle_async_request(request)
        assert not isinstance(client, Connections)
        request = client.build_request("POST", url, headers=headers, content=body, extensions=extensions)
        return await client.send(request, stream=True, follow_redirects=False)

    def deadline(self) -> float:
        """The moment at which a wait for the next piece, begun now, is a stall."""
        idle = self._timeouts.idle
        return self._total_at if idle is None else min(self._total_at, anyio.current_time() + idle)

    async def read(self, deadline: float) -> bytes | None:
        """The next bytes of the body, or None at its end.

        Raises:
            Stalled: `deadline` has passed.
            StreamInterrupted: the connection was lost.
            BadResponse: the body is not encoded as it says.
        """
        answer = self._answer
        if self._ended or answer is None:
            return None
        try:
            chunk = await answer.read(deadline)
            if chunk is None:
                self._ended = True
                if self._inflate is not None:
                    self._inflate.end()
            elif self._inflate is not None:
                chunk = self._inflate.feed(chunk)
            return chunk
        except BadResponse as error:
            raise self.failed(error) from None
        except Exception as error:
            known = _known(error)
            self._ended = True
            if isinstance(known, httpx.TimeoutException):
                by_total = deadline >= self._total_at
                name, limit = ("total", self._timeouts.total) if by_total else ("idle", self._timeouts.idle)
                raise self.failed(Stalled(f"nothing more within {name}={limit:g} s")) from error
            raise self.failed(self._translate(known)) from error

    async def read_all(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            BadResponse: it is larger than `limit` bytes.
        """
        chunks: list[bytes] = []
        size = 0
        while (chunk := await self.read(self.deadline())) is not None:
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise self.failed(BadResponse(f"the body is larger than {limit} bytes"))
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def read_some(self, limit: int) -> bytes:
        """What can be had of the body of a failure: at most `limit` bytes, not for long, and no error in no case.

        The status and the headers have said what has failed; the body is there to be quoted.
        """
        deadline = min(self.deadline(), anyio.current_time() + ERROR_BODY_TIMEOUT)
        body = bytearray()
        try:
            while not self._unreadable and len(body) < limit and (chunk := await self.read(deadline)) is not None:
                body += chunk
        except ProviderError:
            pass
        return bytes(body[:limit])

    async def drain(self) -> bool:
        """Read what is left, so that the connection can be used again, but not for long. True: the body ended well."""
        deadline = min(self._total_at, anyio.current_time() + DRAIN_TIMEOUT)
        left = _DRAIN_BYTES
        try:
            while left > 0:
                chunk = await self.read(deadline)
                if chunk is None:
                    return True
                left -= len(chunk)
        except Stalled:
            # Nothing was lost: a server that keeps its stream open after the end only loses the connection.
            return True
        except ProviderError:
            return False
        return True

    async def close(self) -> None:
        """Give the connection back, or close it when the body was not read to its end. Never raises for the network."""
        answer, self._answer = self._answer, None
        if answer is None or (self._ended and isinstance(answer, Body)):
            return  # an answer of ours that has ended, well or not, has given its connection back
        with anyio.move_on_after(5.0, shield=True):
            try:
                await answer.aclose()
            except Exception:
                pass  # the answer has been used or given up; how its connection ends is nobody's business

    def failed(self, error: ProviderError) -> ProviderError:
        """The error with what is known of this call in it, and without what nobody may see."""
        return self._stamp(error, self.headers)

    def _translate(self, error: Exception) -> ProviderError:
        total = self._timeouts.total
        match error:
            case httpx.TimeoutException() if total is not None and anyio.current_time() >= self._total_at:
                return Stalled(f"no answer within total={total:g} s")
            case httpx.ConnectTimeout():
                return ConnectionFailed(f"no connection to {self._where()} within connect={self._timeouts.connect:g} s")
            case httpx.PoolTimeout():
                return ConnectionFailed("no free connection in the client's pool")
            case httpx.TimeoutException():
                limit = self._timeouts.first_byte
                return Stalled(f"no answer within first_byte={limit:g} s" if limit else "no answer in time")
            case httpx.ConnectError():
                refused = "certificate" in str(error).lower()
                return ConnectionFailed(f"no connection to {self._where()}: {error}", retryable=not refused)
            case NotHttpx():
                return BadResponse(f"{self._where()} does not answer in HTTP: {error}")
            case httpx.ProxyError():
                return ConnectionFailed(f"the proxy refused: {error}")
            case httpx.UnsupportedProtocol() | httpx.InvalidURL() | httpx.LocalProtocolError():
                return InvalidRequest(f"the request cannot be sent: {error}")
            case _:
                return StreamInterrupted(f"the connection to {self._where()} was lost: {error}")

    def _where(self) -> str:
        return self._url.url.netloc.decode("ascii", "replace").rpartition("@")[2]


def _known(error: Exception) -> httpx.HTTPError | httpx.InvalidURL:
    """The error itself, or the namesake of one that a compatible fork of httpx raised; others are raised again."""
    if isinstance(error, (httpx.HTTPError, httpx.InvalidURL)):
        return error
    if isinstance(error, tuple(HTTPX_ERRORS)):
        return to_httpx(error)
    namesake = getattr(httpx, type(error).__name__, None) if type(error).__module__.startswith("httpx") else None
    if isinstance(namesake, type) and issubclass(namesake, httpx.TransportError):
        return namesake(str(error))
    raise error


def _named(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    named: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        named[key] = f"{named[key]}, {text}" if key in named else text
    return named


def check_client(client: Any) -> None:
    """Refuse what cannot send a request.

    Raises:
        TypeError: it is not an ``httpx.AsyncClient``, nor compatible with one.
    """
    if client is None:
        return
    able = all(callable(getattr(client, name, None)) for name in ("build_request", "send"))
    if not able or isinstance(client, (type, httpx.Client)):
        shown = client.__name__ if isinstance(client, type) else type(client).__name__
        what = f"the class {shown} itself" if isinstance(client, type) else shown
        raise TypeError(f"client= must be an httpx.AsyncClient, not {what}")


def endpoint(base_url: str, path: str) -> Address:
    """The URL of `path` below `base_url`; a query in the base URL stays behind the path.

    Raises:
        TypeError: the base URL is not a string.
        ValueError: the base URL is not an http or https URL with a host, or holds a password.
    """
    if not isinstance(base_url, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"base_url must be a string like https://host/v1, not {type(base_url).__name__}")
    try:
        parts = urlsplit(base_url.strip())
        port = parts.port
    except ValueError:
        parts, port = None, None
    if parts is not None and "@" in parts.netloc:
        raise ValueError(
            "base_url must not hold a user and a password, which would show in logs: pass api_key=, or headers= with "
            "an 'Authorization'"
        )
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        shown = "(not shown: it holds an '@')" if "@" in base_url else repr(base_url)
        raise ValueError(f"base_url must be like https://host/v1 or http://localhost:8000/v1, not {shown}")
    query = f"?{parts.query}" if parts.query else ""
    try:
        url = httpx.URL(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}{path}{query}")
    except httpx.InvalidURL as error:
        raise ValueError(f"base_url must be like https://host/v1, not {base_url!r}: {error}") from None
    return Address(url, Target.of(url))
