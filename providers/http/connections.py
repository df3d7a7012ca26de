"""The connections that all providers of one event loop share.

They are made by the first user, counted, and closed when the last user leaves; two event loops never share, because the
variable that holds them belongs to the loop. The only thing global to the process is one SSL context per TLS
configuration: making one costs 20 ms.

A transport of one's own makes httpx forget ``HTTPS_PROXY`` and its kin. So where the environment names a proxy for a
host, that host is reached by httpx's own transport for that proxy.
"""

from __future__ import annotations

import os
import ssl
import urllib.request

import anyio
import httpx
from anyio.lowlevel import RunVar

from .transport import FreeListTransport, TransportStatistics

DEFAULT_LIMIT = 500
_PROXY_NAMES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")

_ssl_contexts: dict[tuple[str | None, str | None], ssl.SSLContext] = {}


def shared_ssl_context() -> ssl.SSLContext:
    """The process's SSL context for the present TLS configuration, made at the first use."""
    key = (os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    context = _ssl_contexts.get(key)
    if context is None:
        context = _ssl_contexts.setdefault(key, httpx.create_ssl_context())
        context.set_alpn_protocols(["http/1.1"])
    return context


class Connections:
    """The connections of one event loop, shared by everyone who joined.

    Get it with `shared_connections`. `limit` is the number of connections open at once; requests beyond it
    wait in order.
    """

    def __init__(self, *, limit: int = DEFAULT_LIMIT) -> None:
        self.users = 0
        self._limit = limit
        self._direct = FreeListTransport(limit=limit, ssl_context=shared_ssl_context)
        self._proxied: dict[str, httpx.AsyncHTTPTransport] = {}
        # Only the environment is asked, and once, and by name: looking through it costs as much as sending a request.
        self._proxies = urllib.request.getproxies_environment() if any(map(os.environ.get, _PROXY_NAMES)) else {}

    def statistics(self) -> TransportStatistics:
        """The state of the free lists, without the connections through a proxy."""
        return self._direct.statistics()

    def raise_limit(self, limit: int) -> None:
        """Allow more connections at once; never fewer."""
        self._limit = max(limit, self._limit)
        self._direct.raise_limit(limit)

    def transport(self, url: httpx.URL) -> httpx.AsyncBaseTransport:
        """The transport that reaches this URL: a proxy's where the environment names one."""
        proxy = self._proxy(url.scheme, url.host) if self._proxies else None
        if proxy is None:
            return self._direct
        transport = self._proxied.get(proxy)
        if transport is None:
            limits = httpx.Limits(max_connections=self._limit, max_keepalive_connections=self._limit)
            transport = httpx.AsyncHTTPTransport(proxy=proxy, verify=shared_ssl_context(), limits=limits)
            self._proxied[proxy] = transport
        return transport

    def _proxy(self, scheme: str, host: str) -> str | None:
        proxy = self._proxies.get(scheme) or self._proxies.get("all")
        if proxy is None or urllib.request.proxy_bypass(host):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"

    async def aclose(self) -> None:
        """Close all idle connections."""
        with anyio.CancelScope(shield=True):
            for transport in (self._direct, *self._proxied.values()):
                await transport.aclose()


_shared: RunVar[Connections | None] = RunVar("greenroom_connections", None)


class SharedConnections:
    """Membership in the event loop's `Connections`, as an async context manager; see `shared_connections`."""

    __slots__ = ("_limit", "connections")

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self.connections: Connections | None = None

    def join(self) -> Connections:
        """Join, making the connections if nobody has."""
        connections = _shared.get()
        if connections is None:
            connections = Connections(limit=self._limit or DEFAULT_LIMIT)
            _shared.set(connections)
        elif self._limit is not None:
            connections.raise_limit(self._limit)
        connections.users += 1
        self.connections = connections
        return connections

    async def leave(self) -> None:
        """Leave; the last one out closes. Leaving twice is harmless."""
        connections, self.connections = self.connections, None
        if connections is None:
            return
        connections.users -= 1
        if connections.users == 0:
            if _shared.get() is connections:
                _shared.set(None)
            await connections.aclose()

    async def __aenter__(self) -> Connections:
        return self.join()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.leave()


def shared_connections(limit: int | None = None) -> SharedConnections:
    """Join the connections that all providers of this event loop share, for the length of an ``async with`` block.

    Args:
        limit: connections open at once, by default 500. Where others have joined before, it can only raise theirs.
    """
    return SharedConnections(limit)
