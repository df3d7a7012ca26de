"""JSON lines (``application/x-ndjson``), from bytes to events. Pure: no I/O, no clock.

A line ends at LF or CRLF and at nothing else: a U+2028 or a lone CR inside JSON is data. Bytes are cut into lines
before anything is decoded, so a character that is split between chunks is whole again when it is read. Blank lines are
skipped, and one byte order mark at the very beginning.

Lines are bounded (16 MiB unless told otherwise): a server that never ends a line cannot fill the memory. A line that is
larger is `BadResponse`, now and at every later call; the lines before it are handed out first, however the bytes were
chunked.
"""

from __future__ import annotations

from ..errors import BadResponse
from .event import DEFAULT_MAX_EVENT, WireEvent

_BOM = b"\xef\xbb\xbf"


class NDJSONFramer:
    """Feed it chunks as they come; it answers with the lines that they completed, each an event of type ``message``.

    Args:
        max_event: the largest line in bytes.
    """

    __slots__ = ("_begun", "_fault", "_first", "_max")

    def __init__(self, *, max_event: int = DEFAULT_MAX_EVENT) -> None:
        self._max = max_event
        self._begun = bytearray()  # the line begun and not ended
        self._fault: BadResponse | None = None
        self._first = True

    def feed(self, chunk: bytes) -> list[WireEvent]:
        """Take the next bytes and return the lines that they completed.

        Raises:
            BadResponse: a line is larger than the bound.
        """
        if self._fault is not None:
            raise self._fault
        lines = chunk.split(b"\n")
        rest = lines.pop()
        events: list[WireEvent] = []
        for line in lines:
            if self._begun:
                line = bytes(self._begun) + line
                self._begun.clear()
            if len(line) > self._max:
                return self._refuse(events)
            event = self._event(line)
            if event is not None:
                events.append(event)
        self._begun += rest
        return self._refuse(events) if len(self._begun) > self._max else events

    def close(self) -> WireEvent | None:
        """Tell that the bytes have ended. Returns the line that was begun and not ended, or None.

        Raises:
            BadResponse: a line is larger than the bound, and the last `feed` had lines to hand out first.
        """
        if self._fault is not None:
            raise self._fault
        line = bytes(self._begun)
        self._begun.clear()
        return self._event(line)

    def _event(self, line: bytes) -> WireEvent | None:
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        return WireEvent(line.removesuffix(b"\r")) if line and not line.isspace() else None

    def _refuse(self, events: list[WireEvent]) -> list[WireEvent]:
        self._begun.clear()
        self._fault = BadResponse(f"a line of the stream is larger than {self._max} bytes")
        if not events:
            raise self._fault
        return events
