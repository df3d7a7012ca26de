"""Server-sent events, from bytes to events, by the rules of the WHATWG HTML standard. Pure: no I/O, no clock.

Lines end at CR, LF or CRLF and at nothing else (a U+2028 inside JSON is data). A CR at the end of one chunk
may be half of a CRLF, so the parser remembers to swallow the LF that may open the next. Bytes are cut into
lines before anything is decoded; therefore a character that is split between chunks is whole again when it is
read. One byte order mark at the very beginning is skipped.

An event is dispatched by an empty line. What follows the last empty line is an unfinished event: the standard
drops it, and `close` hands it out, for a caller who knows that the body ended cleanly.

Events are bounded (16 MiB unless told otherwise): a server that never ends a line cannot fill the memory. A
long line is gathered as a list of pieces, so that one-byte chunks cost no copy of what came before.
"""

from __future__ import annotations

from ..errors import BadResponse
from .event import DEFAULT_MAX_EVENT, WireEvent

_BOM = b"\xef\xbb\xbf"


class SSEParser:
    """Feed it chunks as they come; it answers with the events that they completed.

    Args:
        max_event: the largest event in bytes.

    `retry` is the reconnection time in milliseconds that the server asked for, or None.
    """

    __slots__ = ("_data", "_event", "_id", "_max", "_opening", "_pieces", "_size", "_skip_lf", "retry")

    def __init__(self, *, max_event: int = DEFAULT_MAX_EVENT) -> None:
        self._max = max_event
        self._opening: bytes | None = b""  # what may yet be a byte order mark; None once that is settled
        self._pieces: list[bytes] = []  # the line begun and not ended
        self._size = 0  # bytes of the event and the line begun
        self._data: list[bytes] = []
        self._event = ""
        self._id = ""
        self._skip_lf = False
        self.retry: int | None = None

    def feed(self, chunk: bytes) -> list[WireEvent]:
        """Take the next bytes and return the events that they completed.

        Raises:
            BadResponse: an event is larger than the bound.
        """
        if self._opening is not None:
            chunk = self._open(self._opening, chunk)
        if not chunk:
            return []
        if self._skip_lf:
            self._skip_lf = False
            if chunk[0] == 10:
                chunk = chunk[1:]
        if b"\r" in chunk:
            self._skip_lf = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if not lines:
            self._grow(len(rest))
            self._pieces.append(rest)
            return []
        if self._pieces:
            self._size -= sum(map(len, self._pieces))
            lines[0] = b"".join([*self._pieces, lines[0]])
            self._pieces = []
        events = self._read(lines)
        if rest:
            self._grow(len(rest))
            self._pieces.append(rest)
        return events

    def close(self) -> WireEvent | None:
        """Tell that the bytes have ended. Returns the event that was begun and not ended, or None.

        The standard drops that event. It is worth reading only when the body ended as its framing said.
        """
        if self._pieces:
            line = b"".join(self._pieces)
            self._pieces = []
            self._read([line])
        left = self._dispatch() if self._data else None
        self._event = ""
        self._size = 0
        return left

    def _open(self, begun: bytes, chunk: bytes) -> bytes:
        """Skip a byte order mark, which may come in pieces."""
        opening = begun + chunk
        if len(opening) < len(_BOM) and _BOM.startswith(opening):
            self._opening = opening
            return b""
        self._opening = None
        return opening.removeprefix(_BOM)

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._max:
            raise BadResponse(f"a server-sent event is larger than {self._max} bytes")

    def _read(self, lines: list[bytes]) -> list[WireEvent]:
        events: list[WireEvent] = []
        for line in lines:
            if not line:
                if self._data:
                    events.append(self._dispatch())
                self._event = ""
                self._size = 0
            elif line.startswith(b"data:"):
                self._grow(len(line))
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line[0] != 58:  # a line that begins with a colon is a comment
                self._grow(len(line))
                self._field(line)
        return events

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"event":
                self._event = value.decode("utf-8", "replace")
            case b"data":
                self._data.append(value)
            case b"id":
                if b"\0" not in value:
                    self._id = value.decode("utf-8", "replace")
            case b"retry":
                if value.isdigit():
                    self.retry = int(value[:18])
            case _:
                pass

    def _dispatch(self) -> WireEvent:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data = []
        return WireEvent(data, self._event or "message", self._id)
