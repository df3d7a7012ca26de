"""What goes wrong on a connection: httpcore's errors and ours of the same kinds; and as httpx's, which is what a
transport under httpx must raise.
"""

from __future__ import annotations

import httpcore
import httpx


class NotHttp(httpcore.RemoteProtocolError):
    """What came instead of the head of an answer is none: another protocol, or a head without end."""


class BrokenBody(httpcore.RemoteProtocolError):
    """The body of an answer is not framed as its head says, or not whole."""


class Unsendable(httpcore.LocalProtocolError):
    """A request that HTTP cannot carry."""


class NotHttpx(httpx.RemoteProtocolError):
    """The same for httpx."""


HTTPX_ERRORS: dict[type[Exception], type[httpx.TransportError]] = {
    httpcore.ConnectTimeout: httpx.ConnectTimeout,
    httpcore.ReadTimeout: httpx.ReadTimeout,
    httpcore.WriteTimeout: httpx.WriteTimeout,
    httpcore.PoolTimeout: httpx.PoolTimeout,
    httpcore.ConnectError: httpx.ConnectError,
    httpcore.ReadError: httpx.ReadError,
    httpcore.WriteError: httpx.WriteError,
    NotHttp: NotHttpx,
    httpcore.RemoteProtocolError: httpx.RemoteProtocolError,
    httpcore.LocalProtocolError: httpx.LocalProtocolError,
    httpcore.UnsupportedProtocol: httpx.UnsupportedProtocol,
    httpcore.ConnectionNotAvailable: httpx.TransportError,
}


def to_httpx(error: BaseException) -> httpx.TransportError:
    """The httpx error for an httpcore error."""
    return next(ours for theirs, ours in HTTPX_ERRORS.items() if isinstance(error, theirs))(str(error))
