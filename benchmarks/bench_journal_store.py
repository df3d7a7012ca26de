"""What does it cost to write a run down, by durability and by how many runs write at the same time?

Run: python benchmarks/bench_journal_store.py [--backend asyncio|trio] [--runs 3000] [--json]

A run is one of three requests as a journal sees it: it is created, and writes six entries of 0.3 to 1.5 KB, each of
which it waits for. CPU time is that of the whole process, the journal's thread included. *memory* does the same with
`MemoryJournal`, which never waits: what the others have above it is what the file costs.

What a disk takes for an fsync decides how many runs a second can be written down, so its median (8 KB, then fdatasync,
in the same folder) stands beside it. The folder is a temporary one: ``TMPDIR=/dev/shm`` takes the disk out.

*sync* does a twentieth of the runs.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

from anyio import create_task_group
from runner import Contender, main

from greenroom.journal import Journal, MemoryJournal, SqliteJournal

ENTRIES = [os.urandom(size) for size in (600, 900, 300, 1500, 300, 700)]
IN_FLIGHT = (1, 100, 1000)


async def _write(journal: Journal, names: list[str]) -> None:
    """Runs one after the other, until there are no more names."""
    last = len(ENTRIES) - 1
    while names:
        claim = journal.create(names.pop())
        for number, entry in enumerate(ENTRIES):
            journal.append(claim, entry, final=number == last)
            await journal.durable(claim)
        journal.release(claim)


async def _measure(journal: Journal, runs: int, in_flight: int) -> dict[str, float]:
    names = [os.urandom(16).hex() for _ in range(runs)]
    began, cpu = perf_counter(), process_time()
    async with create_task_group() as group:
        for _ in range(in_flight):
            group.start_soon(_write, journal, names)
    cpu, took = process_time() - cpu, perf_counter() - began
    return {"CPU us": cpu / runs * 1e6, "runs/s": runs / took}


async def in_memory(in_flight: int, options: Mapping[str, int]) -> dict[str, float]:
    return await _measure(MemoryJournal(), options["runs"], in_flight)


async def in_file(durability: Any, in_flight: int, options: Mapping[str, int]) -> dict[str, float]:
    runs = max(1, options["runs"] // (20 if durability == "sync" else 1))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "runs.journal"
        async with SqliteJournal(path, durability=durability) as journal:
            figures = await _measure(journal, runs, in_flight)
            assert len(await journal.runs()) == runs
        return {**figures, "bytes": path.stat().st_size / runs, "fsync ms": _fsync(Path(folder) / "probe") * 1e3}


def _fsync(path: Path, count: int = 50) -> float:
    """The median of what the disk takes, in seconds."""
    times: list[float] = []
    sync = getattr(os, "fdatasync", os.fsync)
    with path.open("wb", buffering=0) as file:
        for _ in range(count):
            file.write(b"x" * 8192)
            began = perf_counter()
            sync(file.fileno())
            times.append(perf_counter() - began)
    return statistics.median(times)


def _contenders(name: str, measure: Callable[..., Awaitable[dict[str, float]]]) -> list[Contender]:
    return [Contender(f"{name}, {count} in flight", partial(measure, count)) for count in IN_FLIGHT]


CONTENDERS = [
    *_contenders("memory", in_memory),
    *(each for name in ("none", "group", "sync") for each in _contenders(name, partial(in_file, name))),
]

if __name__ == "__main__":
    main(
        "Writing down one run of three requests: six entries, six waits",
        CONTENDERS,
        baseline="memory, 100 in flight",
        repeats=3,
        runs=3_000,
    )
