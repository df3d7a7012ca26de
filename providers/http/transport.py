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

`exchange` is for our own calls: bytes in, a `Body` out, and every wait in it has an end. `handle_async_request` is the
same for an httpx client. A body is an object, not a generator, and may be left in the middle.
"""

from __future__ import annotations

import ssl
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Self

import anyio
import anyio.abc
import anyio.streams.tls
import httpcore
import httpx
import msgspec

from .answer import Head
from .failures import HTTPX_ERRORS, to_httpx
from .request import Headers, written
from .wire import Wire

CLOSE_TIMEOUT = 2.0
NEVER = float("inf")
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


class _Lease:
    """A slot, with the idle connection that came with it if there was one, and what must be closed first."""

    __slots__ = ("connection", "origin", "stale")

    def __init__(self, origin: _Origin, connection: Wire | None) -> None:
        self.origin = origin
        self.connection = connection
        self.stale: list[Wire] = []


class _Waiter:
    __slots__ = ("event", "lease", "origin")

    def __init__(self, origin: _Origin) -> None:
        self.origin = origin
        self.event = anyio.Event()
        self.lease: _Lease | None = None


class Target(msgspec.Struct, frozen=True):
    """Where a request goes: `path` is what its first line says, with the query."""

    origin: _Origin
    path: bytes
    method: str = "POST"

    @classmethod
    def of(cls, url: httpx.URL, method: str = "POST") -> Target:
        scheme = url.raw_scheme
        return cls((scheme, url.raw_host, url.port or (443 if scheme == b"https" else 80)), url.raw_path, method)


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
        self._idle: dict[_Origin, deque[Wire]] = {}
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
        target, waits = Target.of(request.url, request.method), request.extensions.get("timeout", {})
        body = b"".join([chunk async for chunk in request.stream])  # type: ignore[union-attr]
        headers = request.headers.raw
        if "transfer-encoding" in request.headers:
            headers = [field for field in headers if field[0].lower() != b"transfer-encoding"]
            headers.append((b"content-length", str(len(body)).encode()))
        try:
            answer = await self.exchange(
                target, headers, body, connect=waits.get("connect"), first_byte=waits.get("read")
            )
        except tuple(HTTPX_ERRORS) as error:
            raise to_httpx(error) from error
        extensions = {"http_version": b"HTTP/" + answer.head.version, "reason_phrase": answer.head.reason}
        return httpx.Response(answer.status, headers=answer.headers, stream=answer, extensions=extensions)

    async def exchange(
        self,
        target: Target,
        headers: Headers,
        body: bytes,
        *,
        connect: float | None = None,
        first_byte: float | None = None,
        deadline: float = NEVER,
    ) -> Body:
        """Send one request and wait for the head of its answer. Its body must be read to its end, or closed.

        Args:
            target: where to.
            headers: all of them, with the host and the length of the body.
            body: what to send.
            connect: seconds for name, TCP and TLS.
            first_byte: seconds from the request sent to the head of the answer.
            deadline: the moment at which everything is given up.

        Raises:
            httpcore.PoolTimeout, httpcore.ConnectTimeout, httpcore.ReadTimeout: a wait was too long.
            httpcore.NetworkError, httpcore.ProtocolError: the connection failed.
            httpx.TransportError: the transport is closed.
        """
        origin = target.origin
        lease = self._take(origin) or await self._wait(origin, deadline)
        try:
            for stale in lease.stale:
                await _close(stale)
            request = written(target.method, target.path, headers, body)
            connection = lease.connection
            if connection is not None:
                self._reused += 1
                connection.deadline = _until(first_byte, deadline)
                try:
                    return Body(self, lease, connection, await connection.request(request))
                except (httpcore.NetworkError, httpcore.RemoteProtocolError):
                    if connection.received:
                        raise
                    self._retried += 1
                    lease.connection = None
                    await _close(connection)
            connection = lease.connection = await self._connect(origin, connect, deadline)
            connection.deadline = _until(first_byte, deadline)
            return Body(self, lease, connection, await connection.request(request))
        except BaseException:
            try:
                if lease.connection is not None:
                    await _close(lease.connection)
            finally:
                self._free()
            raise

    async def _connect(self, origin: _Origin, timeout: float | None, deadline: float) -> Wire:
        scheme, host, port = origin
        try:
            with anyio.CancelScope(deadline=_until(timeout, deadline)):
                stream: anyio.abc.ByteStream = await anyio.connect_tcp(host.decode("ascii"), port)
                if scheme == b"https":
                    stream = await self._start_tls(stream, host.decode("ascii"))
                self._opened += 1
                return Wire(stream)
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream, ssl.SSLError, ValueError) as error:
            raise httpcore.ConnectError(str(error) or type(error).__name__) from error
        raise httpcore.ConnectTimeout("no connection in time")

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
        stale: list[Wire] = []
        idle = self._idle.get(origin)
        found: Wire | None = None
        if idle:
            now = anyio.current_time()
            while idle and found is None:
                candidate = idle.pop()
                self._idle_count -= 1
                if now - candidate.idle_since > self._idle_expiry or candidate.has_ended():
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

    def _evict(self) -> Wire | None:
        """The longest unused idle connection, taken off its list."""
        lists = [idle for idle in self._idle.values() if idle]
        if not lists:
            return None
        self._idle_count -= 1
        self._slots -= 1
        return min(lists, key=lambda idle: idle[0].idle_since).popleft()

    async def _wait(self, origin: _Origin, deadline: float) -> _Lease:
        waiter = _Waiter(origin)
        self._waiters[waiter] = None
        with anyio.CancelScope(deadline=deadline):
            return await self._wait_for(waiter)
        raise httpcore.PoolTimeout("no free connection in time")

    async def _wait_for(self, waiter: _Waiter) -> _Lease:
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
                await _close(stale)
            raise
        if waiter.lease is None:
            raise httpx.TransportError("the transport was closed")
        return waiter.lease

    def _give_back(self, origin: _Origin, connection: Wire) -> None:
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

    def _hand_over(self, offer: tuple[_Origin, Wire] | None) -> None:
        waiter, _ = self._waiters.popitem(last=False)
        waiter.lease = _Lease(waiter.origin, None)
        if offer is not None:
            origin, connection = offer
            if origin == waiter.origin:
                waiter.lease.connection = connection
            else:
                waiter.lease.stale.append(connection)
        waiter.event.set()

    def take_back(self, lease: _Lease, connection: Wire) -> bool:
        """End a lease whose answer was read to its end. False: its connection cannot be used again."""
        if self._closed or not connection.renew():
            return False
        self._give_back(lease.origin, connection)
        return True

    async def discard(self, connection: Wire) -> None:
        """End a lease and its connection."""
        try:
            await _close(connection)
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
            await _close(connection)

    async def __aenter__(self) -> Self:
        return self


class Body(httpx.AsyncByteStream):
    """The answer of one exchange: its `status`, its `headers` (names in lower case), and the bytes of its body."""

    __slots__ = ("_connection", "_lease", "_transport", "head")

    def __init__(self, transport: FreeListTransport, lease: _Lease, connection: Wire, head: Head) -> None:
        self._transport = transport
        self._lease = lease
        self._connection: Wire | None = connection
        self.head = head

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return self.head.headers

    async def read(self, deadline: float) -> bytes | None:
        """The next bytes, or None at the end.

        Raises:
            httpcore.ReadTimeout: nothing came until `deadline`.
            httpcore.NetworkError, httpcore.ProtocolError: the connection failed.
        """
        connection = self._connection
        if connection is None:
            return None
        connection.deadline = deadline
        try:
            chunk = await connection.read()
        except BaseException:
            await self.aclose()
            raise
        if chunk is None:
            self._connection = None
            if not self._transport.take_back(self._lease, connection):
                await self._transport.discard(connection)
        return chunk

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self.read(NEVER)
        except tuple(HTTPX_ERRORS) as error:
            raise to_httpx(error) from error
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Close the connection, unless the body was read to its end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._transport.discard(connection)


def _until(seconds: float | None, deadline: float) -> float:
    """The earlier of `deadline` and so many seconds from now."""
    return deadline if seconds is None else min(deadline, anyio.current_time() + seconds)


async def _close(connection: Wire) -> None:
    with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
        await connection.aclose()
