"""What a framing cuts a body into, and what every framing can do.

A streamed answer is a row of events, whatever separates them on the wire: empty lines (`sse`), line ends (`ndjson`) or
lengths and checksums (`event_stream`). A dialect sees the events only.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

DEFAULT_MAX_EVENT = 16 * 1024 * 1024


class WireEvent(msgspec.Struct, frozen=True, gc=False):
    """One event: its `data` as bytes, its `event` type and the last seen `id`, where the framing has them."""

    data: bytes
    event: str = "message"
    id: str = ""

    @property
    def text(self) -> str:
        """The data as text; bytes that are not UTF-8 become U+FFFD."""
        return self.data.decode("utf-8", "replace")


class Framer(Protocol):
    """Cuts one body into events. However its bytes are chunked, the events are the same."""

    def feed(self, chunk: bytes) -> list[WireEvent]:
        """Take the next bytes and return the events that they completed.

        Raises:
            BadResponse: an event is larger than the bound, or the bytes are not of this framing.
        """
        ...

    def close(self) -> WireEvent | None:
        """Tell that the bytes have ended. Returns the event that was begun and not ended, or None."""
        ...
