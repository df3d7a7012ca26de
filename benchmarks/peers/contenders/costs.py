"""What a pass costs: processor time, memory, and how many tools were called in it.

Standard library only.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from time import perf_counter, process_time

from weather_tools import calls_made


@dataclass
class Pass:
    """What one pass did and cost.

    Attributes:
        runs: asked for.
        cpu: seconds of processor time of this process.
        wall: seconds.
        tool_calls: that the tools here have seen.
        wrong: runs with another answer than was planned.
        failed: runs that raised.
        pieces: of text, of all streamed answers.
        reason: of the first that was wrong or failed.
        rss: resident memory at its highest since the service was warm, in bytes; 0 where the system does not say.
    """

    runs: int
    cpu: float = 0.0
    wall: float = 0.0
    tool_calls: int = 0
    wrong: int = 0
    failed: int = 0
    pieces: int = 0
    reason: str = ""
    rss: int = 0


class Measured:
    """Fills in what a block cost."""

    def __init__(self, found: Pass) -> None:
        self._found = found

    def __enter__(self) -> None:
        gc.collect()  # nobody pays for what was before
        self._calls, self._cpu, self._wall = calls_made(), process_time(), perf_counter()

    def __exit__(self, *_: object) -> None:
        found = self._found
        found.cpu, found.wall = process_time() - self._cpu, perf_counter() - self._wall
        found.tool_calls, found.rss = calls_made() - self._calls, memory("VmHWM")


def memory(what: str) -> int:
    """Bytes of resident memory, now (`VmRSS`) or at their highest (`VmHWM`); 0 where there is no such file.

    `ru_maxrss` will not do: a new process begins with its parent's.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith(what)), 0)
    except OSError:
        return 0


def forget_peak() -> bool:
    """Begin anew with `VmHWM`: imports may have taken more for a moment than runs ever do. False: it cannot be."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as refs:
            refs.write("5")
    except OSError:
        return False
    return True
