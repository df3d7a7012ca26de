"""One answer of an HTTP/1.1 server, from bytes to its head and its body (RFC 9112). Pure: no I/O, no clock.

Bytes are fed as they come, and what they are good for is taken at once: all that is there of the body is one piece,
however many chunks it came in. So a read that brought twenty server-sent events costs what a read with one costs.

What is read leniently is what servers get wrong and nobody can take for something else: lines that end without a
carriage return, header lines that are folded, a status without a reason. Whatever says how long the body is, is read
strictly, because whoever gets that wrong reads somebody else's answer: two lengths, a coding that is not ``chunked``,
a size that is no number, all end the connection. So do bytes behind the answer.

What has no end is bounded: a head, a line with the size of a chunk, and the trailer, at 100 KiB each.
"""

from __future__ import annotations

import re

import msgspec

from .failures import BrokenBody, NotHttp
from .request import TOKEN

#: Bytes of a head, of the line with the size of a chunk, and of a trailer.
MAX_HEAD = 100 * 1024
_OPENING = b"HTTP/"
_BLANK = re.compile(rb"\n\r?\n")
_FIELDS = rb"(?:\r?\n%b:[^\0\r\n]*)*" % TOKEN
_HEAD = re.compile(rb"HTTP/([0-9]\.[0-9]) ([1-9][0-9]{2})(?: ([^\0\r\n]*))?(%b)\r?" % _FIELDS)
_TRAILER = re.compile(rb"%b\r?" % _FIELDS)
# No two neighbours of a pattern may take the same bytes, or a line of blanks costs the square of its length.
_FOLD = re.compile(rb"\r?\n[ \t]+")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,20})(?:;[^\0\r\n]*+|[ \t]*+)\r\n")
_LENGTH = re.compile(rb"[0-9]{1,20}")


class Head(msgspec.Struct, frozen=True, gc=False):
    """The head of an answer. Names of headers are in lower case."""

    status: int
    reason: bytes
    version: bytes
    headers: list[tuple[bytes, bytes]]


class Answer:
    """Feed it what the server sends; it answers with the head, then with the body.

    Args:
        method: of the request, which decides whether there is a body.

    Attributes:
        ended: whether the body is whole.
        closes: whether the connection ends with this answer.
    """

    __slots__ = ("_between", "_buffer", "_chunked", "_left", "_method", "_searched", "_trailing", "closes", "ended")

    def __init__(self, method: str) -> None:
        self._method = method
        self._buffer = b""
        self._searched = 0  # of a head or a trailer: how far there is no end of it
        self._chunked = False
        #: Bytes to come, of the body or of the chunk at hand; None: all until the connection ends.
        self._left: int | None = 0
        self._between = False  # of a chunked body: behind a chunk, before its line end
        self._trailing = False  # of a chunked body: behind the last chunk
        self.ended = False
        self.closes = False

    @property
    def is_clean(self) -> bool:
        """Whether the answer is whole, and nothing follows it."""
        return self.ended and not self._buffer

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._buffer = self._buffer + data if self._buffer else data

    def close(self) -> None:
        """Tell that the connection has ended, once everything was taken.

        Raises:
            BrokenBody: the body is not whole.
        """
        if self._left is not None or self._chunked:
            raise BrokenBody("the connection ended before the body did")
        self.ended = True

    # -- the head

    def head(self) -> Head | None:
        """The head of the answer, or None as long as it is not there.

        Raises:
            NotHttp: what comes is none.
        """
        while (block := self._block(self._buffer.startswith(_OPENING[: len(self._buffer)]))) is not None:
            head = _read_head(block)
            if head.status >= 200:
                self._frame(head)
                return head
            if head.status == 101:
                raise NotHttp("the server speaks another protocol from here on, which nobody has asked for")
        return None

    def _block(self, is_possible: bool) -> bytes | None:
        """The lines up to an empty one, without it, or None as long as they are not there."""
        buffer = self._buffer
        end = _BLANK.search(buffer, self._searched) if is_possible else None
        if end is not None and end.start() <= MAX_HEAD:
            self._buffer, self._searched = buffer[end.end() :], 0
            return buffer[: end.start()]
        if not is_possible:
            raise NotHttp(f"it begins with {buffer[:24]!r}")
        if len(buffer) > MAX_HEAD:
            raise NotHttp(f"its head is longer than {MAX_HEAD} bytes")
        self._searched = max(0, len(buffer) - 2)
        return None

    def _frame(self, head: Head) -> None:
        """Find out how long the body is."""
        lengths: set[bytes] = set()
        codings: list[bytes] = []
        self.closes = head.version < b"1.1"
        for name, value in head.headers:
            if name == b"content-length":
                lengths |= {length.strip(b" \t") for length in value.split(b",")}
            elif name == b"transfer-encoding":
                codings.append(value.lower())
            elif name == b"connection":
                self.closes = self.closes or b"close" in value.lower()
        if len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths)):
            raise NotHttp("its length is not one number")
        if codings and codings != [b"chunked"]:
            raise NotHttp("its transfer encoding is not 'chunked'")
        if self._method == "HEAD" or head.status in (204, 304):
            self.ended = True
        elif codings:
            self._chunked = True
            self.closes = self.closes or bool(lengths)  # one who says both may have meant the other
        elif lengths:
            self._left = int(lengths.pop())
            self.ended = not self._left
        else:
            self._left = None
            self.closes = True

    # -- the body

    def take(self) -> bytes:
        """What is there of the body, in one piece, which may be empty.

        Raises:
            BrokenBody: the body is not chunked as it says.
        """
        if self._chunked:
            return self._take_chunks()
        buffer, left = self._buffer, self._left
        if self.ended or not buffer:
            return b""
        if left is None:
            self._buffer = b""
            return buffer
        piece, self._buffer = (buffer, b"") if len(buffer) <= left else (buffer[:left], buffer[left:])
        self._left = left - len(piece)
        self.ended = not self._left
        return piece

    def _take_chunks(self) -> bytes:
        pieces: list[bytes] = []
        buffer, at, end = self._buffer, 0, len(self._buffer)
        left = self._left or 0
        try:
            while at < end and not self.ended:
                if left:
                    piece = buffer[at : at + left]
                    pieces.append(piece)
                    at += len(piece)
                    left -= len(piece)
                    self._between = not left
                elif self._between:
                    if not buffer.startswith(b"\r\n", at):
                        if buffer[at:] == b"\r":
                            break
                        raise BrokenBody("a chunk of the body is longer than it says")
                    at += 2
                    self._between = False
                elif self._trailing:
                    at = self._end_at(buffer, at)
                    break
                else:
                    size = _SIZE.match(buffer, at)
                    if size is None:
                        if buffer.find(b"\n", at) >= 0 or end - at > MAX_HEAD:
                            raise BrokenBody("the size of a chunk of the body is no number")
                        break
                    at = size.end()
                    left = int(size[1], 16)
                    self._trailing = not left
        except BrokenBody:
            if not pieces:
                raise
            # What was whole before the damage is handed out first, as if it had come by itself; then this is met again.
        self._left = left
        self._buffer = buffer[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _end_at(self, buffer: bytes, at: int) -> int:
        """Where the answer ends behind its last chunk; `at` itself as long as it does not."""
        if buffer.startswith((b"\r\n", b"\n"), at):
            self.ended = True
            return buffer.index(b"\n", at) + 1
        blank = _BLANK.search(buffer, at)
        if blank is None:
            if len(buffer) - at > MAX_HEAD:
                raise BrokenBody("the trailer of the body is too long")
            return at
        if _TRAILER.fullmatch(b"\n" + buffer[at : blank.start()]) is None:
            raise BrokenBody("the trailer of the body is not of HTTP")
        self.ended = True
        return blank.end()


def _read_head(block: bytes) -> Head:
    if b"\n " in block or b"\n\t" in block:
        block = _FOLD.sub(b" ", block)
    head = _HEAD.fullmatch(block)
    if head is None:
        raise NotHttp(f"the head of its answer is damaged: {block[:80]!r}")
    version, status, reason, fields = head.groups()
    headers: list[tuple[bytes, bytes]] = []
    for line in fields.split(b"\n")[1:]:
        name, _, value = line.partition(b":")
        headers.append((name.lower(), value.strip(b" \t\r")))
    return Head(int(status), (reason or b"").strip(), version, headers)
