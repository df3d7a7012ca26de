"""What a running program shows of its agents: log lines, spans and metrics, traces in files.

*Observers* hear events: `log_events` writes log lines, `JsonlTrace` a file. They are given as ``on_event=``, to a
System for all of its runs or to a single run. *Instruments* are around the work itself, in its task: `bind_ids` and
`OpenTelemetry`. They are given to a System as ``instruments=[…]``.

What people, models and tools have said, called *contents*, is in none of these unless ``contents=True`` says so.

Nothing here is loaded by ``import greenroom``, and the libraries are loaded when what needs them is made:
``greenroom[structlog]`` for log lines, ``greenroom[otel]`` for spans and metrics.
"""

from ..agents.instruments import Instrument, ModelSpan, RunSpan, ToolSpan
from .contents import without_contents
from .jsonl import JsonlTrace, read_trace
from .log_lines import bind_ids, log_events
from .otel import OpenTelemetry

__all__ = [
    "Instrument",
    "JsonlTrace",
    "ModelSpan",
    "OpenTelemetry",
    "RunSpan",
    "ToolSpan",
    "bind_ids",
    "log_events",
    "read_trace",
    "without_contents",
]
