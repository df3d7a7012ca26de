"""Connections on last-in-first-out free lists, under an httpx transport.

httpx's own pool looks at every connection for every request, which is quadratic in the number of concurrent
requests. Here a request takes the connection that was used last, or opens one, or waits:

- **One bound.** `limit` counts slots; a slot is a connection in use, one being opened, or an idle one. Where
  the bound is reached and only another host's connections are idle, the oldest of those is closed for its
  slot.
- **Decide without awaiting.** `_take`, `_give_back` and `_free` are synchronous and leave the books whole;
  what has to be closed travels with the lease, and the taker closes it. So a cancellation can fall only
  between decisions.
- **First come, first served.** A connection or slot that comes free is handed to the oldest waiter itself, not
  to whoever runs next. A waiter that is cancelled after the hand-over, even in the same tick, gives it back.
- **Read to the end or close.** A connection goes back to its list only when its response was read to the end.
- **One retry.** Servers close idle connections when they like. A *reused* connection that fails before any byte of a
  response is replaced once by a fresh one; nothing else is sent twice.

The response body is an iterator object. httpcore's own is an async generator inside another; left in the
middle, on trio they warn when collected. So an unread body is left by closing the socket under it and then
running the generators out.
"""

from __future__ import annotations

import ssl
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Self, cast

import anyio
import anyio.abc
import anyio.streams.tls
import httpcore
import httpx
import msgspec

from .failures import HTTPX_ERRORS, to_httpx
from .wire import Wire

CLOSE_TIMEOUT = 2.0
_Origin = tuple[bytes, bytes, int]


class TransportStatistics(msgspec.Struct, frozen=True):
    """What a transport holds now (`leased`, `idle`, `waiting`) and what it has done since it was made."""

    limit: int
    leased: int
    idle: int
    waiting: int
    opened: int
    reused: int
    retried: int


class _Connection:
    """An open connection and when it became idle."""

    __slots__ = ("http", "idle_since", "wire")

    def __init__(self, http: httpcore.AsyncHTTP11Connection, wire: Wire) -> None:
        self.http = http
        self.wire = wire
        self.idle_since = 0.0

    async def close(self) -> None:
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
            await self.http.aclose()


class _Lease:
    """A slot, with the idle connection that came with it if there was one, and what must be closed first."""

    __slots__ = ("connection", "origin", "stale")

    def __init__(self, origin: _Origin, connection: _Connection | None) -> None:
        self.origin = origin
        self.connection = connection
        self.stale: list[_Connection] = []


class _Waiter:
    __slots__ = ("event", "lease", "origin")

    def __init__(self, origin: _Origin) -> None:
        self.origin = origin
        self.event = anyio.Event()
        self.lease: _Lease | None = None


class FreeListTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 over free lists of connections, at most `limit` open at once.

    Args:
        limit: connections open at the same time, over all hosts.
        ssl_context: gives the context for https, when one is needed first.
        idle_expiry: seconds after which an unused connection is not used again.
    """

    def __init__(
        self,
        *,
        limit: int,
        ssl_context: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        idle_expiry: float = 60.0,
    ) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        self._limit = limit
        self._ssl_context = ssl_context
        self._idle_expiry = idle_expiry
        self._slots = 0
        self._idle: dict[_Origin, deque[_Connection]] = {}
        self._idle_count = 0
        self._waiters: OrderedDict[_Waiter, None] = OrderedDict()
        self._closed = False
        self._opened = 0
        self._reused = 0
        self._retried = 0

    def statistics(self) -> TransportStatistics:
        """How many connections there are, and who waits."""
        return TransportStatistics(
            self._limit,
            self._slots - self._idle_count,
            self._idle_count,
            len(self._waiters),
            self._opened,
            self._reused,
            self._retried,
        )

    def raise_limit(self, limit: int) -> None:
        """Allow more connections; a smaller number than the present one changes nothing."""
        self._limit = max(self._limit, limit)
        while self._waiters and self._slots < self._limit:
            self._slots += 1
            self._hand_over(None)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        scheme = url.raw_scheme
        origin = (scheme, url.raw_host, url.port or (443 if scheme == b"https" else 80))
        lease = self._take(origin) or await self._wait(origin)
        try:
            for stale in lease.stale:
                await stale.close()
            wire_request = httpcore.Request(
                request.method,
                httpcore.URL(scheme=scheme, host=origin[1], port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
            connection = lease.connection
            if connection is not None:
                self._reused += 1
                connection.wire.received = 0
                try:
                    response = await connection.http.handle_async_request(wire_request)
                except (httpcore.NetworkError, httpcore.RemoteProtocolError):
                    if connection.wire.received:
                        raise
                    self._retried += 1
                    connection = lease.connection = None
                else:
                    return self._respond(lease, connection, response)
            connection = lease.connection = await self._connect(origin, request)
            response = await connection.http.handle_async_request(wire_request)
            return self._respond(lease, connection, response)
        except BaseException as error:
            try:
                if lease.connection is not None:
                    await lease.connection.close()
            finally:
                self._free()
            if isinstance(error, tuple(HTTPX_ERRORS)):
                raise to_httpx(error) from error
            raise

    def _respond(self, lease: _Lease, connection: _Connection, response: httpcore.Response) -> httpx.Response:
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=Body(self, lease, connection, response),
            extensions=cast("dict[str, Any]", response.extensions),  # pyright: ignore[reportUnknownMemberType]
        )

    async def _connect(self, origin: _Origin, request: httpx.Request) -> _Connection:
        scheme, host, port = origin
        timeout = request.extensions.get("timeout", {}).get("connect")
        try:
            with anyio.fail_after(timeout):
                stream: anyio.abc.ByteStream = await anyio.connect_tcp(host.decode("ascii"), port)
                if scheme == b"https":
                    stream = await self._start_tls(stream, host.decode("ascii"))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"no connection within {timeout} s") from error
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream, ssl.SSLError, ValueError) as error:
            raise httpcore.ConnectError(str(error) or type(error).__name__) from error
        self._opened += 1
        wire = Wire(stream)
        http_origin = httpcore.Origin(scheme=scheme, host=host, port=port)
        return _Connection(httpcore.AsyncHTTP11Connection(origin=http_origin, stream=wire), wire)

    async def _start_tls(self, stream: anyio.abc.ByteStream, host: str) -> anyio.abc.ByteStream:
        try:
            return await anyio.streams.tls.TLSStream.wrap(
                stream,
                server_side=False,
                hostname=host,
                ssl_context=self._ssl_context(),
                standard_compatible=False,
            )
        except BaseException:
            await anyio.aclose_forcefully(stream)
            raise

    # The books: nothing below awaits, except `_wait`.

    def _take(self, origin: _Origin) -> _Lease | None:
        """A lease, or None when every slot is taken."""
        if self._closed:
            raise httpx.TransportError("the transport is closed")
        stale: list[_Connection] = []
        idle = self._idle.get(origin)
        found: _Connection | None = None
        if idle:
            now = anyio.current_time()
            while idle and found is None:
                candidate = idle.pop()
                self._idle_count -= 1
                if now - candidate.idle_since > self._idle_expiry or candidate.wire.has_ended():
                    stale.append(candidate)
                    self._slots -= 1
                else:
                    found = candidate
        if found is None:
            if self._slots >= self._limit:
                evicted = self._evict()
                if evicted is None:
                    return None
                stale.append(evicted)
            self._slots += 1
        lease = _Lease(origin, found)
        lease.stale = stale
        return lease

    def _evict(self) -> _Connection | None:
        """The longest unused idle connection, taken off its list."""
        lists = [idle for idle in self._idle.values() if idle]
        if not lists:
            return None
        self._idle_count -= 1
        self._slots -= 1
        return min(lists, key=lambda idle: idle[0].idle_since).popleft()

    async def _wait(self, origin: _Origin) -> _Lease:
        waiter = _Waiter(origin)
        self._waiters[waiter] = None
        try:
            await waiter.event.wait()
        except BaseException:
            lease = waiter.lease
            if lease is None:
                self._waiters.pop(waiter, None)
                raise
            if lease.connection is None:
                self._free()
            else:
                self._give_back(lease.origin, lease.connection)
            for stale in lease.stale:
                await stale.close()
            raise
        if waiter.lease is None:
            raise httpx.TransportError("the transport was closed")
        return waiter.lease

    def _give_back(self, origin: _Origin, connection: _Connection) -> None:
        """Take a connection back that is ready for another request."""
        connection.idle_since = anyio.current_time()
        if self._waiters:
            self._hand_over((origin, connection))
            return
        self._idle.setdefault(origin, deque()).append(connection)
        self._idle_count += 1

    def _free(self) -> None:
        """Take a slot back whose connection is gone."""
        if self._waiters:
            self._hand_over(None)
        else:
            self._slots -= 1

    def _hand_over(self, offer: tuple[_Origin, _Connection] | None) -> None:
        waiter, _ = self._waiters.popitem(last=False)
        waiter.lease = _Lease(waiter.origin, None)
        if offer is not None:
            origin, connection = offer
            if origin == waiter.origin:
                waiter.lease.connection = connection
            else:
                waiter.lease.stale.append(connection)
        waiter.event.set()

    async def finish(self, lease: _Lease, connection: _Connection, *, reusable: bool) -> None:
        """End a lease: back to the list when the response was read to its end, else closed."""
        if reusable and connection.http.is_idle() and not self._closed:
            self._give_back(lease.origin, connection)
            return
        try:
            await connection.close()
        finally:
            self._free()

    async def aclose(self) -> None:
        """Close the idle connections now and the others as their responses end. Waiters get an error."""
        self._closed = True
        idle = [connection for connections in self._idle.values() for connection in connections]
        self._idle.clear()
        self._idle_count = 0
        self._slots -= len(idle)
        while self._waiters:
            self._waiters.popitem(last=False)[0].event.set()
        for connection in idle:
            await connection.close()

    async def __aenter__(self) -> Self:
        return self


class Body(httpx.AsyncByteStream):
    """The bytes of one response, and the way its connection goes back."""

    def __init__(
        self, transport: FreeListTransport, lease: _Lease, connection: _Connection, response: httpcore.Response
    ) -> None:
        self._transport = transport
        self._lease = lease
        self._connection = connection
        self._response = response
        self._chunks: AsyncIterator[bytes] | None = None
        self._ended = False
        self._intact = True  # whether the socket was left open

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._ended:
            raise StopAsyncIteration
        if self._chunks is None:
            self._chunks = aiter(self._response.stream)  # type: ignore[arg-type]
        try:
            return await anext(self._chunks)
        except BaseException as error:
            # The generators have run out, so the response may be closed without leaving one suspended.
            await self._end()
            if isinstance(error, tuple(HTTPX_ERRORS)):
                raise to_httpx(error) from error
            raise

    async def aclose(self) -> None:
        if self._ended:
            return
        if self._chunks is None:
            await self._end()
            return
        with anyio.CancelScope(shield=True):
            self._intact = False
            try:
                await self._connection.close()
                while True:
                    await anext(self._chunks)
            except (StopAsyncIteration, *HTTPX_ERRORS):
                pass
            finally:
                await self._end()

    async def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        try:
            with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
                await self._response.aclose()
        finally:
            await self._transport.finish(self._lease, self._connection, reusable=self._intact)
