"""The event loop as threads see it: the way in, and a clock that may have to be held."""

from .running_loop import RunningLoop, clocks

__all__ = ["RunningLoop", "clocks"]
