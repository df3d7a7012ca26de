"""The addresses of NATS servers, apart from the secrets in them. Pure.

``nats://user:password@host:4222`` and ``nats://token@host:4222`` are taken apart at once: the client library gets plain
addresses, and the secret goes nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast
from urllib.parse import SplitResult, unquote, urlsplit

_SCHEMES = ("nats", "tls", "ws", "wss")
_FORM = "'nats://host:4222', or a list of such addresses"
PORT = 4222


class Servers(NamedTuple):
    """Where to connect to.

    Attributes:
        urls: the addresses without secrets.
        names: hosts and ports, for texts.
        user, password, token: what the server asks for; None where the addresses do not say.
    """

    urls: tuple[str, ...]
    names: str
    user: str | None
    password: str | None
    token: str | None

    def __repr__(self) -> str:
        return f"<NATS at {self.names}>"


def servers_at(servers: object) -> Servers:
    """The servers that an argument ``servers=`` names.

    Raises:
        TypeError: it is neither a text nor a list of texts.
        ValueError: one is no address of a NATS server, or they hold different secrets.
    """
    if not isinstance(servers, Sequence) or isinstance(servers, bytes | bytearray | memoryview):
        raise TypeError(f"servers= takes {_FORM}, not {type(cast('object', servers)).__name__}")
    texts: list[str] = []
    for each in [servers] if isinstance(servers, str) else cast("Sequence[object]", servers):
        if not isinstance(each, str):
            raise TypeError(f"servers= takes {_FORM}, not a list with {type(each).__name__}")
        texts.append(each)
    if not texts:
        raise ValueError(f"servers= takes {_FORM}, not an empty list")
    parts = [_split(text) for text in texts]
    if len({each.scheme in ("ws", "wss") for each in parts}) > 1:
        raise ValueError("servers= takes addresses of one kind: either nats:// and tls://, or ws:// and wss://")
    secrets = {(each.username, each.password) for each in parts if each.username}
    if len(secrets) > 1:
        raise ValueError("servers= has addresses with different users or tokens; one connection has one")
    user, password = next(iter(secrets), (None, None))
    places = [_place(each) for each in parts]
    urls = tuple(f"{each.scheme}://{place}" for each, place in zip(parts, places, strict=True))
    if user is None or password is None:
        return Servers(urls, ", ".join(places), None, None, None if user is None else unquote(user))
    return Servers(urls, ", ".join(places), unquote(user), unquote(password), None)


def _split(text: str) -> SplitResult:
    """Never says the text: it may hold a password."""
    whole = text if "://" in text else f"nats://{text}"
    try:
        parts = urlsplit(whole)
        port, host = parts.port, parts.hostname
    except ValueError:
        port, host, parts = None, None, urlsplit("")
    if parts.scheme not in _SCHEMES or not host or port == 0 or any(each.isspace() for each in text):
        raise ValueError(f"servers= takes {_FORM}; one of those given is no such address")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"servers= takes {_FORM}, with nothing behind the port; options are arguments of their own")
    return parts


def _place(parts: SplitResult) -> str:
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or PORT}"
