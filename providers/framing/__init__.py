"""From the bytes of a streamed answer to its events. Pure: no I/O, no clock."""

from .event import DEFAULT_MAX_EVENT, Framer, WireEvent
from .sse import SSEParser

__all__ = ["DEFAULT_MAX_EVENT", "Framer", "SSEParser", "WireEvent"]
