"""Who may ask: the address that was asked for, the page that asks, and the token. Pure: headers in, a verdict out.

A service on loopback is reached by every page that a browser on the same machine shows. So three things are looked at
before anything is done:

- *Host*: a name that an attacker has made to point here (DNS rebinding) is none of ours.
- *Origin* and ``Sec-Fetch-Site``: a page of another site may neither change nor read anything, unless its origin is
  allowed.
- The *token*. With one, every request has it (``Authorization: Bearer``). Without one, a browser has to show the token
  of the page when it changes something: a random word of this process, which is given to our own page only. Programs
  without a browser's headers need none; but what they send is JSON, which a form of a page cannot send.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256
from urllib.parse import urlsplit

import msgspec

from .problems import Problem

#: The header with the token of the page.
PAGE_TOKEN = "X-Greenroom-Token"
#: Names of this machine for itself.
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
#: Addresses that say nothing about anybody's runs, so they need no token: probes of a load balancer, and the page.
OPEN = ("/health", "/ready", "/", "/live")
#: Methods that change nothing.
SAFE = ("GET", "HEAD", "OPTIONS")
#: Headers of which there must not be two.
ONCE = ("host", "origin", "authorization", "content-type", "idempotency-key", "last-event-id", PAGE_TOKEN.lower())
#: What a page of another site that is allowed may send; clients made by others announce themselves in headers that
#: begin so.
SENT = ("Accept", "Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID")
SENT_PREFIX = "x-stainless-"
#: What it may read.
SHOWN = "Location, Retry-After, Idempotent-Replayed, X-Request-Id, X-Should-Retry"
#: Bytes of all headers together.
HEADER_BOUND = 32_768

#: Headers of all answers.
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class Guard(msgspec.Struct, frozen=True):
    """The rules of one service.

    Attributes:
        token: what every request has to show; None for none.
        page_token: what a browser has to show without one.
        hosts: names that the service is reached by, without ports; None for any.
        origins: of other sites whose pages may use the service.
    """

    token: str | None
    page_token: str
    hosts: Collection[str] | None
    origins: Collection[str] = ()

    def __repr__(self) -> str:
        return f"<Guard: {'with' if self.token is not None else 'without'} a token>"

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Let a request pass, or not.

        Args:
            method, path: of the request; the path below what the service is mounted under.
            headers: by their names in small letters.

        Raises:
            Problem: it may not.
        """
        self._check_host(headers)
        foreign = self._check_origin(method, headers)
        if self.token is not None:
            if not is_open(path) and not (foreign and is_preflight(method, headers)):
                self._check_token(headers, self.token)
        elif method not in SAFE:
            self._check_change(headers, foreign)

    def _check_host(self, headers: Mapping[str, str]) -> None:
        if self.hosts is None:
            return
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if name.lower() not in self.hosts:
            said = "the service is not reached by this name: Service(allowed_hosts=[…]) says by which"
            raise Problem(421, "forbidden", said, "Host")

    def _check_origin(self, method: str, headers: Mapping[str, str]) -> bool:
        """Refuse a page of another site; True for one that is allowed to be of another."""
        origin = headers.get("origin")
        if origin is not None:
            if origin in self.origins:
                return True
            if _host_of(origin) != headers.get("host", "").lower():
                raise Problem(403, "forbidden", "pages of this origin may not use the service", "Origin")
            return False
        site = headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin") and not (
            method in SAFE and headers.get("sec-fetch-mode") == "navigate"  # somebody follows a link to here
        ):
            raise Problem(403, "forbidden", "pages of other sites may not use the service", "Sec-Fetch-Site")
        return False

    def _check_token(self, headers: Mapping[str, str], token: str) -> None:
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not same(shown.strip(), token):
            said = "this needs the token of the service: Authorization: Bearer …"
            raise Problem(401, "unauthorized", said, "Authorization", {"WWW-Authenticate": "Bearer"})

    def _check_change(self, headers: Mapping[str, str], foreign: bool) -> None:
        by_browser = "origin" in headers or any(name.startswith("sec-fetch-") for name in headers)
        if by_browser and not foreign and not same(headers.get(PAGE_TOKEN.lower(), ""), self.page_token):
            raise Problem(403, "forbidden", f"a browser has to show the token of the page in {PAGE_TOKEN}", PAGE_TOKEN)
        kind = headers.get("content-type")
        if kind is not None and kind.partition(";")[0].strip().lower() != "application/json":
            raise Problem(415, "unsupported_media_type", "send the body as application/json", "Content-Type")

    def cross_origin(self, headers: Mapping[str, str]) -> dict[str, str]:
        """What a browser is told about a page of another site that may use the service."""
        origin = headers.get("origin")
        if origin is None or origin not in self.origins:
            return {"Vary": "Origin"} if self.origins else {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": SHOWN,
            "Vary": "Origin",
        }

    def preflight(self, headers: Mapping[str, str]) -> dict[str, str]:
        """What a browser is told that asks before it does what a page of another site wants."""
        wanted = [name.strip() for name in headers.get("access-control-request-headers", "").lower().split(",")]
        more = [name for name in wanted if re.fullmatch(rf"{SENT_PREFIX}[a-z-]{{1,64}}", name)]
        return {
            **self.cross_origin(headers),
            "Access-Control-Allow-Methods": "GET, POST",
            "Access-Control-Allow-Headers": ", ".join([*SENT, *more]),
            "Access-Control-Max-Age": "600",
        }


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by their names in small letters.

    Raises:
        Problem: there is too much of them, two of a kind of which the verdict depends on one, or two lengths of a body.
    """
    headers: dict[str, str] = {}
    size = 0
    for name, value in raw:
        size += len(name) + len(value)
        if size > HEADER_BOUND:
            raise Problem(431, "too_large", f"the headers have at most {HEADER_BOUND:,} bytes together")
        word = name.decode("latin-1").lower()
        if word in headers and word in ONCE:
            raise Problem(400, "invalid_request", f"the header {word} is there twice", word)
        headers[word] = value.decode("latin-1")
    if "transfer-encoding" in headers and "content-length" in headers:
        # A proxy before us may have gone by the other one, and what it took for a body come as a request.
        said = "the body has two lengths: send Content-Length or Transfer-Encoding, not both"
        raise Problem(400, "invalid_request", said, "Content-Length", {"Connection": "close"})
    return headers


def _host_of(origin: str) -> str | None:
    """The host, with its port, that an origin names; None of what is none."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme and parts.netloc else None


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser asks, before a page of another site does something, whether it may."""
    return method == "OPTIONS" and "access-control-request-method" in headers


def is_open(path: str) -> bool:
    """Whether an address needs no token."""
    return path in OPEN or path.startswith("/live/")


def same(shown: str, wanted: str) -> bool:
    """Whether two secrets are the same, in a time that says nothing about where they differ."""
    return hmac.compare_digest(sha256(shown.encode()).digest(), sha256(wanted.encode()).digest())
