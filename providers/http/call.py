"""One POST to a model's endpoint, with its deadlines, a bounded body and typed errors.

**Deadlines** are on by default. `connect` and `first_byte` are enforced by the transport, per wait. `idle` bounds the
wait for the next piece that the caller counts as progress, so comments that only keep a connection alive do not extend
it. `total` bounds everything. No cancel scope outlives a call into this module: the caller's own code runs between
reads, outside all.

**No generator, no task.** A call is an object with `open`, `read`, `drain` and `close`; each can be cancelled at any
await, and `close` gives the connection's slot back in every case.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx
import msgspec

from ..errors import BadResponse, ConnectionFailed, InvalidRequest, ProviderError, Stalled, StreamInterrupted
from .connections import Connections
from .inflate import Inflate
from .transport import Body

MAX_BODY = 64 * 1024 * 1024
MAX_ERROR_BODY = 256 * 1024
DRAIN_TIMEOUT = 1.0
_DRAIN_BYTES = 256 * 1024


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
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


class Call:
    """One POST and its response.

    `open` sends and returns at the head of the response; `status` and `headers` are there then. `read` gives the next
    bytes and None at the end. Always `close` it: a body that was not read to its end costs the connection.
    """

    def __init__(
        self,
        client: httpx.AsyncClient | Connections,
        url: httpx.URL,
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
        self._response: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None
        self._inflate: Inflate | None = None
        self._ended = False
        self._total_at = 0.0
        self.status = 0
        self.headers: Mapping[str, str] = {}

    async def open(self) -> None:
        """Send the request and wait for the head of the response.

        Raises:
            ConnectionFailed: no connection.
            Stalled: no answer in time.
            StreamInterrupted: the connection was lost before an answer.
        """
        timeouts = self._timeouts
        now = anyio.current_time()
        self._total_at = now + timeouts.total if timeouts.total is not None else float("inf")
        # httpcore looks this dictionary up again when the body is read: see below.
        waits = {"connect": timeouts.connect, "read": timeouts.first_byte, "write": timeouts.first_byte, "pool": None}
        response: httpx.Response | None = None
        try:
            with anyio.CancelScope(deadline=self._total_at):
                response = await self._send({"timeout": waits})
        except Exception as error:
            translated = self._fail(self._translate(_known(error)))
            # What the library says of a request that it refuses may quote a header.
            raise translated from (None if isinstance(translated, InvalidRequest) else error)
        if response is None:
            raise self._fail(Stalled(f"no answer within total={timeouts.total:g} s"))
        waits["read"] = None
        self._response = response
        self.status = response.status_code
        self.headers = response.headers
        encoding = response.headers.get("content-encoding")
        if encoding and encoding != "identity":
            try:
                self._inflate = Inflate(encoding)
            except BadResponse as error:
                raise self._fail(error) from None

    async def _send(self, extensions: dict[str, Any]) -> httpx.Response:
        client, url, headers, body = self._client, self._url, self._headers, self._body
        if isinstance(client, Connections):
            request = httpx.Request("POST", url, headers=headers, content=body, extensions=extensions)
            return await client.transport(url).handle_async_request(request)
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
        if self._ended or self._response is None:
            return None
        if self._chunks is None:
            self._chunks = aiter(self._response.stream)  # type: ignore[arg-type]
        try:
            with anyio.CancelScope(deadline=deadline) as scope:
                try:
                    chunk = await anext(self._chunks)
                except StopAsyncIteration:
                    self._ended = True
                    if self._inflate is not None:
                        self._inflate.end()
                    return None
                return chunk if self._inflate is None else self._inflate.feed(chunk)
        except zlib.error as error:
            raise self._fail(BadResponse(f"the body is not encoded as it says: {error}")) from error
        except Exception as error:
            translated = self._translate(_known(error))
            self._ended = True
            raise self._fail(translated) from error
        assert scope.cancelled_caught
        self._ended = True
        by_total = deadline >= self._total_at
        name, limit = ("total", self._timeouts.total) if by_total else ("idle", self._timeouts.idle)
        raise self._fail(Stalled(f"nothing more within {name}={limit:g} s"))

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
                raise self._fail(BadResponse(f"the body is larger than {limit} bytes"))
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

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
        response, self._response = self._response, None
        if response is None:
            return
        with anyio.move_on_after(5.0, shield=True):
            if not self._ended and self._chunks is not None and not isinstance(response.stream, Body):
                await _run_out(response, self._chunks)
            try:
                await response.aclose()
            except Exception:
                pass  # the answer has been used or given up; how its connection ends is nobody's business

    def _fail(self, error: ProviderError) -> ProviderError:
        return self._stamp(error, self.headers)

    def _translate(self, error: Exception) -> ProviderError:
        match error:
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
            case httpx.ProxyError():
                return ConnectionFailed(f"the proxy refused: {error}")
            case httpx.UnsupportedProtocol() | httpx.InvalidURL() | httpx.LocalProtocolError():
                return InvalidRequest(f"the request cannot be sent: {error}")
            case _:
                return StreamInterrupted(f"the connection to {self._where()} was lost: {error}")

    def _where(self) -> str:
        return self._url.netloc.decode("ascii", "replace").rpartition("@")[2]


def _known(error: Exception) -> httpx.HTTPError | httpx.InvalidURL:
    """The error itself, or the namesake of one that a compatible fork of httpx raised; others are raised again."""
    if isinstance(error, (httpx.HTTPError, httpx.InvalidURL)):
        return error
    namesake = getattr(httpx, type(error).__name__, None) if type(error).__module__.startswith("httpx") else None
    if isinstance(namesake, type) and issubclass(namesake, httpx.TransportError):
        return namesake(str(error))
    raise error


async def _run_out(response: httpx.Response, chunks: AsyncIterator[bytes]) -> None:
    """Leave a body of httpx's own transports: close the socket, then run its generators out, or trio warns of them."""
    network = response.extensions.get("network_stream")
    if network is None:
        return
    try:
        await network.aclose()
        while True:
            await anext(chunks)
    except Exception:
        pass  # whatever the closed socket makes of it: nobody wants this body any more


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


def endpoint(base_url: str, path: str) -> httpx.URL:
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
        return httpx.URL(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}{path}{query}")
    except httpx.InvalidURL as error:
        raise ValueError(f"base_url must be like https://host/v1, not {base_url!r}: {error}") from None
