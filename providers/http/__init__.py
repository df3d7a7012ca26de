"""The one place that knows the HTTP library, so that another can take its place.

`wire` is a socket, `transport` the free lists over it, `connections` what an event loop shares, `call` one request
with its deadlines.
"""

import httpx

from .call import MAX_BODY, MAX_ERROR_BODY, Call, Timeouts, check_client, endpoint
from .connections import Connections, SharedConnections, shared_connections, shared_ssl_context
from .transport import FreeListTransport, TransportStatistics

AsyncClient = httpx.AsyncClient

__all__ = [
    "MAX_BODY",
    "MAX_ERROR_BODY",
    "AsyncClient",
    "Call",
    "Connections",
    "FreeListTransport",
    "SharedConnections",
    "Timeouts",
    "TransportStatistics",
    "check_client",
    "endpoint",
    "shared_connections",
    "shared_ssl_context",
]
