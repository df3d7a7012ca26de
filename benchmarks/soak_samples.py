"""What is looked at in a soak when no run is at work: memory, objects by type, tasks, threads, descriptors, registries.

A sample must not be a growth of its own: numbers go into arrays that are as long as the soak has laps from the start.
Registries have no public size; they are looked up where they are.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
from soak_slope import Bound, Slope, grows, slope_of

from greenroom import System
from greenroom.agents.threads import THREADS
from greenroom.providers.gate import shared_gates
from greenroom.providers.http import Connections

#: What may grow with each 1,000 runs, and at all, before it counts as a leak. Resident memory has more room than what
#: is in use of it: malloc has an arena for each few threads, and these come to their sizes slowly. And how many
#: connections are idle after a lap is chance.
RESIDENT, HEAP, BLOCKS = Bound(48.0, 4_096.0), Bound(8.0, 1_024.0), Bound(10.0, 2_000.0)
COUNT = Bound(0.5, 3.0)
#: Objects of one type. A cache that fills up slowly is no leak, so long as it is a small one.
OBJECTS = Bound(1.0, 20.0)
NAMES: dict[str, Bound] = {"resident, KiB": RESIDENT, "malloc in use, KiB": HEAP, "blocks": BLOCKS}
PAGE = os.sysconf("SC_PAGE_SIZE")


class Samples:
    """The series of a soak.

    Args:
        laps: how many samples there will be.
        probes: sizes to look at, by name.
    """

    def __init__(self, laps: int, probes: Mapping[str, Callable[[], float]]) -> None:
        self._laps = laps
        self._probes = probes
        self.runs = array("d", [0.0] * laps)
        self.series: dict[str, array[float]] = {}
        self.garbage = 0
        self.taken = 0

    @property
    def named(self) -> list[str]:
        """The series that are no count of objects of one type."""
        return [*NAMES, *self._probes]

    def take(self, runs: int) -> None:
        """Look at everything. `runs` is how many there have been."""
        self.garbage += gc.collect()
        for name, probe in self._probes.items():
            self._enter(name, probe())
        objects = Counter(map(type, gc.get_objects()))
        for kind in [*objects]:
            self._enter(f"{kind.__module__}.{kind.__qualname__}", objects.pop(kind))
        del objects
        self._enter("blocks", sys.getallocatedblocks())
        self._enter("malloc in use, KiB", malloc_kib())
        self._enter("resident, KiB", resident_kib())
        self.runs[self.taken] = runs
        self.taken += 1

    def _enter(self, name: str, value: float) -> None:
        series = self.series.get(name)
        if series is None:
            series = self.series[name] = array("d", [0.0] * self._laps)
        series[self.taken] += value  # types of one name are one series

    def slopes(self, warm_up: int) -> dict[str, Slope]:
        """Growth per 1,000 runs of each series that is not the same all the time, behind so many samples."""
        at = [runs / 1_000 for runs in self.runs[warm_up : self.taken]]
        found: dict[str, Slope] = {}
        for name, series in self.series.items():
            values = series[warm_up : self.taken]
            if min(values) != max(values):
                found[name] = slope_of(at, values)
        return found

    def leaks(self, warm_up: int) -> dict[str, Slope]:
        """Those that grow."""
        length = (self.runs[self.taken - 1] - self.runs[warm_up]) / 1_000
        slopes = self.slopes(warm_up)
        return {name: slope for name, slope in slopes.items() if grows(slope, self.bound(name), length)}

    def bound(self, name: str) -> Bound:
        """What the series may grow by."""
        return NAMES.get(name, COUNT if name in self._probes else OBJECTS)


class _MallocInfo(ctypes.Structure):
    """What glibc tells of malloc: `struct mallinfo2`."""

    _fields_ = [
        *[(name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")],
        *[(name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")],
    ]


def _mallinfo() -> Callable[[], Any] | None:
    told = getattr(ctypes.CDLL(None), "mallinfo2", None)  # of glibc 2.33 and later
    if told is not None:
        told.restype = _MallocInfo
    return told


_told_by_malloc = _mallinfo()


def malloc_kib() -> float:
    """KiB that are in use of what malloc has; Python's small objects have memory of their own. 0 if it cannot tell."""
    if _told_by_malloc is None:
        return 0.0
    told = _told_by_malloc()
    return (told.uordblks + told.hblkhd) / 1_024


def resident_kib() -> float:
    """KiB of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1_024


def probes_of(system: System, connections: Connections, group: Any) -> dict[str, Callable[[], float]]:
    """What there is to count of one System, by name; `group` is a supervisor that lives as long as it."""
    stage, root = system.stage, system._root
    queue, talks, letters = stage.queue, system.talks, system.dead_letters
    journal: Any = stage.journal
    assert root is not None
    assert queue is not None

    def rosters() -> list[Any]:
        return [root._roster, group._cell._roster]

    def gates() -> list[Any]:
        return [gate.state for gate in shared_gates()._gates.values()]

    probes: dict[str, Callable[[], float]] = {
        "tasks": lambda: len(anyio.get_running_tasks()),
        "threads": threading.active_count,
        "descriptors": lambda: len(os.listdir("/proc/self/fd")),
        "connections, leased": lambda: connections.statistics().leased,
        "connections, idle": lambda: connections.statistics().idle,
        "runs, known": lambda: len(system.pool),
        "runs, let in": lambda: queue._booked,
        "runs, at work": lambda: system.max_running - queue._free,
        "conversations": lambda: len(talks._kept),
        "dead letters, kept": lambda: len(letters._latest),
        "actors": lambda: sum(len(each.cells) + len(each.specs) for each in rosters()),
        "restart windows": lambda: sum(len(each._windows) + len(each._paces) for each in rosters()),
        "restarts, remembered": lambda: sum(len(each._intensity.stamps) for each in rosters()),
        "mailboxes": lambda: sum(len(each.mailbox.lanes.data) for each in group._cell.children()),
        "timers": lambda: len(system.timers),
        "gates": lambda: len(gates()),
        "gates, calls": lambda: sum(len(each.queue) + each.inside for each in gates()),
        "tool locks": lambda: len(stage.gate._keys) + len(stage.gate._waiting),
        "thread places, taken": lambda: sum(THREADS - each.value for each in stage.threads._slots.values()),
    }
    if not journal.survives:
        probes["journal, runs"] = lambda: len(journal._runs)
    return probes
