"""Reading HTTP/1.1 requests out of bytes, and the few response heads that the simulated server sends.

Sans-IO: `RequestReader.feed` takes whatever the socket gave and returns the requests that have become
complete, in order. How the bytes were cut makes no difference. The first malformed or oversized request comes
out as a `BadRequest`; after it nothing more is read, because where the next request would begin is unknown.

The reader is strict where leniency would hide a client's bug (bare line feeds, folded headers, two lengths),
and small: of the headers it looks at those which frame the body or end the connection, and at nothing else.
"""

from __future__ import annotations

import re
from typing import TypeAlias

import msgspec

#: Bytes of a request line with its headers.
HEAD_LIMIT = 16 * 1024
#: Bytes of a request body: a long conversation with documents in it.
BODY_LIMIT = 8 * 1024 * 1024

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([!-~]+) HTTP/1\.([01])")
_HEADERS = re.compile(rb"(?:\r\n" + _TOKEN + rb":[^\r\n\0]*)*")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")
_CHUNK_LINE_LIMIT = 256

_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
}


class Request(msgspec.Struct, frozen=True, gc=False):
    """One complete request, `target` as sent; `keep_alive`: the connection may carry another."""

    method: str
    target: str
    body: bytes
    keep_alive: bool


class BadRequest(msgspec.Struct, frozen=True, gc=False):
    """Bytes that are no acceptable request: the status to answer (400, 413, 431) and why."""

    status: int
    reason: str


Incoming: TypeAlias = Request | BadRequest


class _Bad(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.answer = BadRequest(status, reason)


class _Head(msgspec.Struct, gc=False):
    method: str
    target: str
    keep_alive: bool
    #: Bytes of the body, or None: it comes in chunks.
    length: int | None


class RequestReader:
    """Turns the bytes of one connection into requests.

    Args:
        head_limit: bytes of request line and headers, above which the answer is 431.
        body_limit: bytes of a body, above which the answer is 413.
    """

    __slots__ = ("_body", "_body_limit", "_buffer", "_dead", "_head", "_head_limit", "_in_trailer")

    def __init__(self, *, head_limit: int = HEAD_LIMIT, body_limit: int = BODY_LIMIT) -> None:
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._body = bytearray()  # of a chunked request, what has been put together
        self._in_trailer = False
        self._dead = False
        self._head_limit = head_limit
        self._body_limit = body_limit

    def feed(self, data: bytes) -> list[Incoming]:
        """The requests that `data` completes; a `BadRequest` is the last ever."""
        found: list[Incoming] = []
        if self._dead:
            return found
        self._buffer += data
        try:
            while (request := self._next()) is not None:
                found.append(request)
        except _Bad as bad:
            self._dead = True
            self._buffer.clear()
            found.append(bad.answer)
        return found

    def _next(self) -> Request | None:
        if self._head is None:
            self._head = self._read_head()
            if self._head is None:
                return None
        head = self._head
        body = self._read_chunks() if head.length is None else self._read_sized(head.length)
        if body is None:
            return None
        self._head = None
        return Request(head.method, head.target, body, head.keep_alive)

    def _read_head(self) -> _Head | None:
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):  # RFC 9112 2.2: an empty line before a request is to be skipped
            del buffer[:2]
        window = self._head_limit + 4
        end = buffer.find(b"\r\n\r\n", 0, window)
        if end < 0:
            if _BARE_LF.search(buffer, 0, window):
                raise _Bad(400, "a line ends without a carriage return")
            if len(buffer) >= window:
                raise _Bad(431, f"the headers are longer than {self._head_limit} bytes")
            return None
        head = _parse_head(bytes(buffer[:end]))
        if head.length is not None and head.length > self._body_limit:
            raise _Bad(413, f"the body is longer than {self._body_limit} bytes")
        del buffer[: end + 4]
        return head

    def _read_sized(self, length: int) -> bytes | None:
        buffer = self._buffer
        if len(buffer) < length:
            return None
        body = bytes(buffer[:length])
        del buffer[:length]
        return body

    def _read_chunks(self) -> bytes | None:
        buffer = self._buffer
        while not self._in_trailer:
            end = buffer.find(b"\r\n", 0, _CHUNK_LINE_LIMIT)
            if end < 0:
                if len(buffer) >= _CHUNK_LINE_LIMIT:
                    raise _Bad(400, "the size line of a chunk is too long")
                return None
            match = _CHUNK_SIZE.fullmatch(buffer, 0, end)
            if match is None:
                raise _Bad(400, "a chunk begins without its size")
            size = int(match[1], 16)
            if len(self._body) + size > self._body_limit:
                raise _Bad(413, f"the body is longer than {self._body_limit} bytes")
            begin, stop = end + 2, end + 2 + size
            if size == 0:
                del buffer[:begin]
                self._in_trailer = True
                break
            if len(buffer) < stop + 2:
                return None
            if not buffer.startswith(b"\r\n", stop):
                raise _Bad(400, "a chunk is longer than its size")
            self._body += buffer[begin:stop]
            del buffer[: stop + 2]
        return self._read_trailer()

    def _read_trailer(self) -> bytes | None:
        buffer = self._buffer
        if buffer.startswith(b"\r\n"):
            end = 2
        else:
            end = buffer.find(b"\r\n\r\n", 0, self._head_limit + 4) + 4
            if end < 4:
                if len(buffer) >= self._head_limit + 4:
                    raise _Bad(431, f"the trailer is longer than {self._head_limit} bytes")
                return None
        del buffer[:end]
        body = bytes(self._body)
        self._body.clear()
        self._in_trailer = False
        return body


def _parse_head(raw: bytes) -> _Head:
    line_end = raw.find(b"\r\n")
    if line_end < 0:
        line_end = len(raw)
    line = _REQUEST_LINE.fullmatch(raw, 0, line_end)
    if line is None:
        raise _Bad(400, "the first line is not an HTTP/1.1 request")
    if _HEADERS.fullmatch(raw, line_end) is None:
        raise _Bad(400, "a header line is malformed")
    keep_alive = line[3] == b"1"
    length: int | None = 0
    seen_length = seen_encoding = seen_host = False
    for field in raw[line_end + 2 :].split(b"\r\n"):
        name, _, value = field.partition(b":")
        name = name.lower()
        if name == b"content-length":
            value = value.strip()
            if not value.isdigit() or len(value) > 18 or (seen_length and int(value) != length):
                raise _Bad(400, "Content-Length is not one number")
            length, seen_length = int(value), True
        elif name == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                raise _Bad(400, "the only transfer encoding known here is chunked")
            seen_encoding = True
        elif name == b"connection":
            options = value.lower()
            keep_alive = b"keep-alive" in options if not keep_alive else b"close" not in options
        elif name == b"host":
            seen_host = True
    if seen_encoding and seen_length:
        raise _Bad(400, "a body has either a Content-Length or a Transfer-Encoding")
    if not seen_host and line[3] == b"1":
        raise _Bad(400, "the Host header is missing")
    return _Head(line[1].decode(), line[2].decode(), keep_alive, None if seen_encoding else length)


def response(status: int, body: bytes, *extra: bytes, close: bool = False) -> bytes:
    """A whole response with a JSON `body`. `extra` are encoded header lines without their line ends."""
    lines = [_SIZED_HEADS[status] + b"%d" % len(body), *extra]
    if close:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def stream_head(*extra: bytes) -> bytes:
    """The head of a streamed response, whose body follows in `chunk`s and ends with `LAST_CHUNK`."""
    return b"\r\n".join((_STREAM_HEAD, *extra)) + b"\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """`data` (not empty) as one chunk of a streamed body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"

_SIZED_HEADS = {
    status: f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: ".encode()
    for status, reason in _REASONS.items()
}
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked"
)
