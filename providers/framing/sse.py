"""Server-sent events, from bytes to events, by the rules of the WHATWG HTML standard. Pure: no I/O, no clock.

Lines end at CR, LF or CRLF and at nothing else (a U+2028 inside JSON is data). A CR at the end of one chunk
may be half of a CRLF, so the parser remembers to swallow the LF that may open the next. Bytes are cut into
lines before anything is decoded; therefore a character that is split between chunks is whole again when it is
read. One byte order mark at the very beginning is skipped.

An event is dispatched by an empty line. What follows the last empty line is an unfinished event: the standard
drops it, and `close` hands it out, for a caller who knows that the body ended cleanly.

Events are bounded (16 MiB unless told otherwise), and so is each line, comments too: a server that never ends a line
cannot fill the memory. The line begun is gathered in one growing buffer, so that one-byte chunks cost neither a copy
of what came before nor an object each. A stream that breaks the bound is `BadResponse`, now and at every later call;
the events before the fault are handed out first, however the bytes were chunked.
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

    __slots__ = ("_data", "_event", "_fault", "_id", "_line", "_max", "_opening", "_size", "_skip_lf", "retry")

    def __init__(self, *, max_event: int = DEFAULT_MAX_EVENT) -> None:
        self._max = max_event
        self._opening: bytes | None = b""  # what may yet be a byte order mark; None once that is settled
        self._line = bytearray()  # the line begun and not ended
        self._size = 0  # bytes of the lines of the event begun
        self._data: list[bytes] = []
        self._event = ""
        self._id = ""
        self._skip_lf = False
        self._fault: BadResponse | None = None
        self.retry: int | None = None

    def feed(self, chunk: bytes) -> list[WireEvent]:
        """Take the next bytes and return the events that they completed.

        Raises:
            BadResponse: an event is larger than the bound.
        """
        if self._fault is not None:
            raise self._fault
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
        events: list[WireEvent] = []
        try:
            if lines:
                if self._line:
                    lines[0] = bytes(self._line) + lines[0]
                    self._line.clear()
                self._read(lines, events)
            if rest:
                self._line += rest
                self._check(len(self._line))
        except BadResponse as fault:
            self._fault = fault
            self._data, self._line = [], bytearray()
            if not events:
                raise
        return events

    def close(self) -> WireEvent | None:
        """Tell that the bytes have ended. Returns the event that was begun and not ended, or None.

        The standard drops that event. It is worth reading only when the body ended as its framing said.

        Raises:
            BadResponse: an event is larger than the bound.
        """
        if self._fault is not None:
            raise self._fault
        if self._line:
            line = bytes(self._line)
            self._line.clear()
            self._read([line], [])
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

    def _check(self, size: int) -> None:
        """Refuse a line of this size, if with it the event is too large."""
        if self._size + size > self._max:
            raise BadResponse(f"a server-sent event is larger than {self._max} bytes")

    def _read(self, lines: list[bytes], events: list[WireEvent]) -> None:
        for line in lines:
            if not line:
                if self._data:
                    events.append(self._dispatch())
                self._event = ""
                self._size = 0
                continue
            size = len(line)
            self._check(size)
            if line.startswith(b"data:"):
                self._size += size
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line[0] != 58:  # a line that begins with a colon is a comment
                self._size += size
                self._field(line)

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
