"""What does a run pay for being written down? One agent run with its journal in memory, and in a file.

Run: python benchmarks/bench_journal.py [--backend asyncio|trio] [--in-flight 1000] [--runs 2000] [--instant 1] [--json]

A run is the one of `bench_run.py`: three requests over real HTTP, three tool calls, started with `system.start`. Of it
seven entries are stored; the run waits for six of them before it goes on: its beginning, each reply with what it calls,
what the tools came to, the end. CPU time is that of the whole process: the thread that writes the file is in it.

- *memory* is the default of a System: records are made and kept, no file.
- *none*, *group* and *sync* are the three durabilities of `SqliteJournal`.
- *fsync p50* is what one write of 4 KiB and its fsync take at that moment on that disk, in a file of its own.
- *wall ms* is the time that the runs took together, by runs; *durable runs/s* the same upside down. With a model that
  takes 50 ms for each of three replies, *in flight* runs cannot be done in less than 150 ms.

`--instant 1` has a model in the process that answers at once, without HTTP, so that only the runs are left: that is how
many of them can be stored in a second, and what a profiler should look at. The file lies in a temporary folder of the
working directory, or in `GREENROOM_BENCH_FOLDER`: a temporary folder of the system may be memory.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import anyio
import msgspec
from anyio.lowlevel import checkpoint
from bench_run import ANSWER, INSTRUCTIONS, PLAN, TOOLS, agent_of
from runner import Contender, main

from greenroom import Agent, System
from greenroom.journal import MemoryJournal, SqliteJournal
from greenroom.load import Latency, simulated_server
from greenroom.providers import Message, ModelReply, ModelRequest, Provider, ToolCall, Usage, assistant

#: Where the files are.
FOLDER = os.environ.get("GREENROOM_BENCH_FOLDER", ".")
MEMORY = "memory"


class Instant(Provider):
    """The simulated model's conversation without the model: it answers at once."""

    name = model = "instant"

    def __init__(self) -> None:
        self._turns: list[Message] = []
        for number, turn in enumerate(PLAN.turns):
            calls: list[ToolCall] = []
            for place, each in enumerate(turn.calls):
                assert isinstance(each.arguments, dict)
                raw = msgspec.json.encode(each.arguments).decode()
                calls.append(ToolCall(f"call_{number}_{place}", each.tool or "", each.arguments, raw))
            self._turns.append(assistant(tool_calls=calls))
        self._turns.append(assistant(ANSWER))

    async def complete(self, request: ModelRequest) -> ModelReply:
        await checkpoint()
        assert not any(result.is_error for message in request.messages for result in message.tool_results)
        asked = sum(message.role == "assistant" for message in request.messages)
        return ModelReply(self._turns[asked], usage=Usage(input_tokens=100, output_tokens=20), model="instant")


def fsync_p50(folder: str | Path, count: int = 15) -> float:
    """Milliseconds that a write of 4 KiB and its fsync take."""
    path, taken = Path(folder, "fsync"), list[float]()
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for _ in range(count):
            os.write(file, b"x" * 4096)
            began = perf_counter()
            os.fsync(file)
            taken.append((perf_counter() - began) * 1e3)
    finally:
        os.close(file)
        path.unlink()
    return median(taken)


@asynccontextmanager
async def agent_for(instant: bool) -> AsyncGenerator[Agent[Any, str]]:
    """The agent of `bench_run.py`."""
    if instant:
        yield Agent("weather", Instant(), instructions=INSTRUCTIONS, tools=list(TOOLS.values()))
        return
    async with simulated_server(latency=Latency(0.05, 0.05)) as server:
        yield agent_of(server)


async def runs_in(system: System, agent: Agent[Any, str], runs: int, in_flight: int) -> None:
    """So many runs, and so many of them at any time."""
    prompts = iter([PLAN.prompt(f"Run {number}: weather?") for number in range(runs)])

    async def work() -> None:
        for prompt in prompts:
            run = await system.start(agent, prompt)
            assert (await run.result()).output == ANSWER

    async with anyio.create_task_group() as group:
        for _ in range(in_flight):
            group.start_soon(work)


async def measure(durability: str, options: Mapping[str, int]) -> dict[str, float]:
    """One repeat, with a journal and a file of its own."""
    runs, in_flight = options["runs"], min(options["in_flight"], options["runs"])
    with TemporaryDirectory(dir=FOLDER, prefix="bench-journal-") as folder:
        pace = fsync_p50(folder)
        path = Path(folder, "runs.db")
        journal = MemoryJournal() if durability == MEMORY else SqliteJournal(path, durability=durability)  # type: ignore[arg-type]
        async with agent_for(bool(options["instant"])) as agent, journal:
            async with System(max_running=in_flight, journal=journal) as system:
                cpu, wall = process_time(), perf_counter()
                await runs_in(system, agent, runs, in_flight)
                cpu, wall = process_time() - cpu, perf_counter() - wall
            size = 0
            if durability != MEMORY:
                listed = await journal.runs()
                assert len(listed) == runs, f"{len(listed)} of {runs} runs are in the journal"
                assert all(each.finished for each in listed)
                size = sum(each.size for each in listed)
        file = path.stat().st_size if path.exists() else 0
    return {
        "CPU ms per run": cpu / runs * 1e3,
        "wall ms": wall / runs * 1e3,
        "durable runs/s": runs / wall if durability != MEMORY else 0.0,
        "bytes of entries": size / runs,
        "bytes of file": file / runs,
        "fsync p50 ms": pace,
    }


CONTENDERS = [Contender(each, partial(measure, each)) for each in (MEMORY, "none", "group", "sync")]

if __name__ == "__main__":
    main(
        "CPU time of one agent run that is written down: three requests, three tool calls",
        CONTENDERS,
        baseline=MEMORY,
        repeats=3,
        rounds=3,
        runs=1_000,
        in_flight=100,
        instant=0,
    )
