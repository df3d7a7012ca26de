"""From the bytes of a streamed answer to its events. Pure: no I/O, no clock."""

from .event import DEFAULT_MAX_EVENT, Framer, WireEvent
from .event_stream import EventStreamFramer
from .ndjson import NDJSONFramer
from .sse import SSEParser

__all__ = ["DEFAULT_MAX_EVENT", "EventStreamFramer", "Framer", "NDJSONFramer", "SSEParser", "WireEvent"]
