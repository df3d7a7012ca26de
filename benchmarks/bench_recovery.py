"""How long until a new process has taken over what another one left unfinished, and until all of it has ended?

Run: python benchmarks/bench_recovery.py [--backend asyncio|trio] [--count 10000] [--json]

A process that begins `--count` runs is killed (`SIGKILL`) when each has done one turn: a reply with two tool calls,
their results, and the next request in flight. The contender then opens the file and recovers. Its model answers nobody
before `recover()` has returned, and everybody at once after that: both parts are the runtime's and the disk's own time.

- *recover, ms per run* is CPU time of the process until `recover()` returns, by runs; *recover s* the time that passes.
- *to the end* is what follows: two more turns of each run, on the journal as well.
- *open s* is the opening of the file, where its log is looked through.
- *KiB* is what the process grew by until `recover()` returned, by runs.
- *read alone* reads the same journals and makes nothing of them: the floor.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import anyio
from bench_idle import resident
from bench_journal import FOLDER, Instant, fsync_p50
from bench_run import ANSWER, INSTRUCTIONS, PLAN, TOOLS
from runner import Contender, main

from greenroom import Agent, System
from greenroom.journal import SqliteJournal, decode
from greenroom.providers import ModelReply, ModelRequest

LEAVE = "--leave"


class Later(Instant):
    """Answers when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = anyio.Event()

    async def complete(self, request: ModelRequest) -> ModelReply:
        await self.may.wait()
        return await super().complete(request)


class Halting(Instant):
    """Answers the first request of each run, and no further one; kills the process when all have made two."""

    def __init__(self, runs: int) -> None:
        super().__init__()
        self._left = runs

    async def complete(self, request: ModelRequest) -> ModelReply:
        if not any(message.role == "assistant" for message in request.messages):
            return await super().complete(request)
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)
        await anyio.sleep_forever()
        raise AssertionError


def agent_with(model: Instant) -> Agent[Any, str]:
    return Agent("weather", model, instructions=INSTRUCTIONS, tools=list(TOOLS.values()))


async def leave(path: str, count: int) -> None:
    """Begin runs, and die of the last one."""
    agent = agent_with(Halting(count))
    async with System(max_running=count, journal=SqliteJournal(path, durability="none")) as system:
        async with anyio.create_task_group() as group:
            for number in range(count):
                group.start_soon(system.start, agent, PLAN.prompt(f"Run {number}: weather?"))
        await anyio.sleep_forever()


def left_by_a_process(folder: str, count: int) -> Path:
    """The journal of a process that was killed."""
    path = Path(folder, "runs.db")
    done = subprocess.run([sys.executable, __file__, LEAVE, str(path), str(count)], check=False)
    assert done.returncode == -signal.SIGKILL, f"it was to be killed, and ended with {done.returncode}"
    return path


async def recover(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]
    with TemporaryDirectory(dir=FOLDER, prefix="bench-recovery-") as folder:
        path, pace = left_by_a_process(folder, count), fsync_p50(folder)
        model = Later()
        agent = agent_with(model)
        began = perf_counter()
        async with System(max_running=count, journal=SqliteJournal(path)) as system:
            opened, before, cpu = perf_counter(), resident(), process_time()
            recovery = await system.recover([agent])
            recovered, cpu_recovered = perf_counter(), process_time()
            assert len(recovery) == count, recovery
            grown = resident() - before
            go_on, cpu_on = perf_counter(), process_time()
            model.may.set()
            for run in recovery:
                assert (await run.result()).output == ANSWER
            ended, cpu_ended = perf_counter(), process_time()
    return {
        "recover, ms per run": (cpu_recovered - cpu) / count * 1e3,
        "recover s": recovered - opened,
        "to the end, ms per run": (cpu_ended - cpu_on) / count * 1e3,
        "to the end s": ended - go_on,
        "open s": opened - began,
        "KiB": grown / count / 1024,
        "fsync p50 ms": pace,
    }


async def read_alone(options: Mapping[str, int]) -> dict[str, float]:
    count = options["count"]
    with TemporaryDirectory(dir=FOLDER, prefix="bench-recovery-") as folder:
        path, pace = left_by_a_process(folder, count), fsync_p50(folder)
        began = perf_counter()
        async with SqliteJournal(path) as journal:
            opened, before, cpu = perf_counter(), resident(), process_time()
            records = 0
            for each in await journal.runs(unfinished=True):
                records += sum(len(decode(entry)) for entry in await journal.read(each.run_id))
            assert records >= 6 * count, records  # begun, replied, two intents, two results
            seconds, spent = perf_counter() - opened, process_time() - cpu
            grown = resident() - before
    return {
        "recover, ms per run": spent / count * 1e3,
        "recover s": seconds,
        "open s": opened - began,
        "KiB": max(grown, 0) / count / 1024,
        "fsync p50 ms": pace,
    }


CONTENDERS = [Contender("recover", recover), Contender("read alone", read_alone)]

if __name__ == "__main__":
    if sys.argv[1:2] == [LEAVE]:
        anyio.run(leave, sys.argv[2], int(sys.argv[3]))
        sys.exit("nothing has killed it")
    main(
        "CPU time until a run that was left unfinished is taken over",
        CONTENDERS,
        baseline="read alone",
        repeats=1,
        warm_up=0,
        rounds=2,
        count=10_000,
    )
