"""The bytes of an HTTP/1.1 request (RFC 9112). Pure: no I/O.

A request goes out whole, so its body has a length and is never chunked. What is given is checked once more, whoever
made it: a line break in a value would be a header of its own, and a length that is not the body's would make a request
out of what follows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from .failures import Unsendable

Headers = Sequence[tuple[bytes, bytes]]

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_HEAD = re.compile(rb"%b [\x21-\x7e]+ HTTP/1\.1\r\n(?:%b: [^\0\r\n]*\r\n)+\r\n" % (TOKEN, TOKEN))


class Request(msgspec.Struct, frozen=True, gc=False):
    """A request as it goes on the wire. `closes`: it asks for the connection to be closed after its answer."""

    data: bytes
    method: str
    closes: bool


def written(method: str, path: bytes, headers: Headers, body: bytes) -> Request:
    """A request with these headers, which hold the host, and the length of a body that is not empty.

    Raises:
        Unsendable: it is none that can be sent.
    """
    fields = b"".join([b"%b: %b\r\n" % field for field in headers])
    head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode("latin-1", "replace"), path, fields)
    # A line break in a value makes a line that looks like any other: they are counted. So does a name with a colon.
    if _HEAD.fullmatch(head) is None or head.count(b"\n") != len(headers) + 2 or method == "CONNECT":
        raise Unsendable("a name or a value in the head of the request is not of HTTP")
    hosts, length, closes = 0, None, False
    for name, value in headers:
        if b":" in name:
            raise Unsendable("the name of a header holds a colon")
        match name.lower():
            case b"host":
                hosts += 1
            case b"content-length":
                if length is not None:
                    raise Unsendable("the request has two lengths")
                length = value
            case b"transfer-encoding":
                raise Unsendable("a request goes out whole, without a transfer encoding")
            case b"connection":
                closes = closes or b"close" in value.lower()
            case _:
                pass
    if hosts != 1:
        raise Unsendable(f"a request has one Host header, not {hosts}")
    if (length or b"0") != b"%d" % len(body):
        raise Unsendable("the length in the head of the request is not that of its body")
    return Request(head + body, method, closes)
