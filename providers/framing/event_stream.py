"""AWS event streams (``application/vnd.amazon.eventstream``), from bytes to events. Pure: no I/O, no clock.

A message is binary, and all its numbers are big-endian::

    total length  4   | of the whole message, these four bytes and the last four with it
    headers       4   | length of the headers
    checksum      4   | CRC-32 of the eight bytes before
    headers           | name length 1, name, type 1, value; one after another
    payload           | what is left
    checksum      4   | CRC-32 of all bytes before

Both checksums are checked, the first as soon as its twelve bytes are there: a length that cannot be believed is never
waited for. Messages are bounded (16 MiB unless told otherwise). A stream that breaks a rule is `BadResponse`, now and
at every later call, because there is no way to find the next message in it. The messages before the fault are handed
out first, however the bytes were chunked.

How a message becomes a `WireEvent`:

===============  ==============  ===================  ==========================================
message type     `id`            `event`              `data`
===============  ==============  ===================  ==========================================
``event``        ``event``       ``:event-type``      the payload
``exception``    ``exception``   ``:exception-type``  the payload, a JSON object with a message
``error``        ``error``       ``:error-code``      the payload; without one ``{"message": …}`` from
                                                      ``:error-message``
===============  ==============  ===================  ==========================================

So `event` is the bare name, and `id` tells an event from an exception of the same name. A message without
``:message-type`` is an event. AWS describes the framing under "Event Stream Encoding" in the manual of Amazon
Transcribe: https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html
"""

from __future__ import annotations

from struct import Struct
from zlib import crc32

import msgspec

from ..errors import BadResponse
from .event import DEFAULT_MAX_EVENT, WireEvent

_PRELUDE = Struct(">III")
_CHECKSUM = Struct(">I")
_SHORT = Struct(">H")
_SMALLEST = _PRELUDE.size + _CHECKSUM.size
_SHOWN = 80
_KEPT_HEADERS = 64  # a stream has a handful of different header blocks; a server that varies them gains nothing

_BYTES, _STRING = 6, 7
#: Bytes of a value by its type: true, false, byte, short, integer, long, timestamp, UUID.
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}


class EventStreamFramer:
    """Feed it chunks as they come; it answers with the messages that they completed.

    Args:
        max_event: the largest message in bytes.
    """

    __slots__ = ("_buffer", "_fault", "_known", "_max", "_need")

    def __init__(self, *, max_event: int = DEFAULT_MAX_EVENT) -> None:
        self._max = max_event
        self._buffer = bytearray()
        self._need = _PRELUDE.size  # bytes to wait for: a prelude, then its message
        self._fault: BadResponse | None = None
        self._known: dict[bytes, tuple[str, str, str]] = {}  # header blocks that were read already

    def feed(self, chunk: bytes) -> list[WireEvent]:
        """Take the next bytes and return the messages that they completed.

        Raises:
            BadResponse: a checksum is wrong, a length is impossible or above the bound, or a header cannot be read.
        """
        if self._fault is not None:
            raise self._fault
        self._buffer += chunk
        events: list[WireEvent] = []
        if len(self._buffer) >= self._need:
            try:
                self._cut(bytes(self._buffer), events)
            except BadResponse as fault:
                self._fault = fault
                if not events:
                    raise
        return events

    def close(self) -> None:
        """Tell that the bytes have ended. A message that was begun and not ended is never handed out.

        Raises:
            BadResponse: the bytes broke a rule, and the last `feed` had messages to hand out first.
        """
        self._buffer.clear()
        if self._fault is not None:
            raise self._fault

    def _cut(self, held: bytes, events: list[WireEvent]) -> None:
        """Move the whole messages from the buffer, which is `held`, to `events`."""
        start = 0
        self._need = _PRELUDE.size
        while len(held) - start >= _PRELUDE.size:
            total, size = self._prelude(held, start)
            if len(held) - start < total:
                self._need = total
                break
            end = start + total - _CHECKSUM.size
            if crc32(memoryview(held)[start:end]) != _CHECKSUM.unpack_from(held, end)[0]:
                raise BadResponse(f"a message of the event stream has a wrong checksum: {_shown(held[start:end])}")
            opening = start + _PRELUDE.size
            events.append(self._event(held[opening : opening + size], held[opening + size : end]))
            start += total
        del self._buffer[:start]

    def _prelude(self, held: bytes, start: int) -> tuple[int, int]:
        """Length of the message and of its headers."""
        total, size, checksum = _PRELUDE.unpack_from(held, start)
        if crc32(held[start : start + 8]) != checksum:
            raise BadResponse(
                f"the body is not an event stream, its prelude has a wrong checksum: {_shown(held[start:])}"
            )
        if total > self._max:
            raise BadResponse(f"a message of the event stream is larger than {self._max} bytes")
        if total < _SMALLEST + size:
            raise BadResponse(f"a message of the event stream has the impossible length {total} with {size} of headers")
        return total, size

    def _event(self, block: bytes, payload: bytes) -> WireEvent:
        known = self._known.get(block)
        if known is None:
            known = _read(block)
            if len(self._known) < _KEPT_HEADERS:
                self._known[block] = known
        event, kind, message = known
        if kind == "error" and not payload:
            payload = msgspec.json.encode({"message": message})
        return WireEvent(payload, event, kind)


def _read(block: bytes) -> tuple[str, str, str]:
    """What a header block says: name of the event, message type, error message."""
    headers = _headers(block)
    kind = headers.get(":message-type", "event")
    named = {"exception": ":exception-type", "error": ":error-code"}.get(kind, ":event-type")
    return headers.get(named, ""), kind, headers.get(":error-message", "")


def _headers(block: bytes) -> dict[str, str]:
    """The headers whose values are text; those of other types are skipped.

    Raises:
        BadResponse: the block ends inside a header, or holds an unknown type.
    """
    headers: dict[str, str] = {}
    at, end = 0, len(block)
    while at < end:
        value = at + 2 + block[at]  # a length of one byte, the name, a type of one byte
        if value > end:
            raise BadResponse("a message of the event stream ends inside the name of a header")
        kind = block[value - 1]
        if kind in (_BYTES, _STRING):
            if value + _SHORT.size > end:
                raise BadResponse("a message of the event stream ends inside a header")
            size = _SHORT.unpack_from(block, value)[0]
            value += _SHORT.size
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            raise BadResponse(f"a message of the event stream has a header of the unknown type {kind}")
        if value + size > end:
            raise BadResponse("a message of the event stream ends inside a header")
        if kind == _STRING:
            name = block[at + 1 : at + 1 + block[at]].decode("utf-8", "replace")
            headers[name] = block[value : value + size].decode("utf-8", "replace")
        at = value + size
    return headers


def _shown(data: bytes) -> str:
    """The beginning of some bytes for an error message: often they are text of a gateway."""
    return repr(data[:_SHOWN].decode("utf-8", "replace"))
