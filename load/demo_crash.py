"""The crash demo: many runs in flight, their process killed in the middle, and every one of them accounted for.

    report = await demo_crash(runs=1000, kills=1, seed=1, tell=print)

The runs are at work in a process of their own (`crash_worker`), with a journal in a file. When the simulated server has
given a share of all answers, that process is killed, as by ``kill -9``; another one goes on with what the journal calls
unfinished, and may be killed as well. After the last one has come to its end, the journal, the server and the sink of
all effects are compared (`crash_account`). Nothing is left behind: neither a file nor a process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from ..journal import SqliteJournal
from .crash_account import Account, Life, Story, account, story_of
from .crash_orders import TURNS
from .crash_worker import News, Work
from .demo import IN_A_ROW, LATENCY
from .faults import Faults
from .latency import Latency
from .process import SimulatedServer, simulated_server
from .sink import effects_in
from .stats import Stats

#: Times that a run may be suspected of its process's death, as `System.recover` has it; here it never is the reason.
_MAX_CLAIMS = 3
_POLL = 0.02


class CrashReport(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one crash demo.

    Attributes:
        backend: the event loop of the processes that were killed: ``asyncio`` or ``trio``.
        lives: those processes, in their order.
        account: what came of the runs.
        server: what the server counted.
        journal: bytes of the journal's entries; `file` of the file that they are in.
        seconds: how long all of it took.
    """

    backend: str
    lives: tuple[Life, ...]
    account: Account
    server: Stats
    journal: int
    file: int
    seconds: float


async def demo_crash(
    *,
    runs: int = 1_000,
    kills: int = 1,
    faults: float = 0.05,
    seed: int = 1,
    latency: Latency | None = None,
    backend: str = "asyncio",
    tell: Callable[[str], object] | None = None,
) -> CrashReport:
    """Run the crash demo.

    Args:
        runs: how many; each makes four requests and five tool calls.
        kills: how many processes are killed before one may come to its end.
        faults: share of requests (0 to 1) that the server answers with 429, 500, a reset or a stall.
        seed: another seed is another model: other faults and delays.
        latency: of the simulated model; default `demo.LATENCY`.
        backend: the event loop of the processes that are killed.
        tell: called with a line for each thing that happens.

    Raises:
        RuntimeError: a process ended by itself; its own words are on standard error.
    """
    tell = tell or (lambda _: None)
    injected, pace = Faults.of(faults, in_a_row=IN_A_ROW), latency or Latency.parse(LATENCY)
    began = time.perf_counter()
    with TemporaryDirectory(prefix="greenroom-demo-", ignore_cleanup_errors=True) as folder:
        journal, sink = os.path.join(folder, "runs.db"), os.path.join(folder, "effects")
        async with simulated_server(faults=injected, latency=pace, seed=seed) as server:
            lives: list[Life] = []
            died: float | None = None
            for number in range(kills + 1):
                work = Work(
                    runs=runs,
                    recovers=number > 0,
                    max_claims=max(_MAX_CLAIMS, kills + 1),
                    journal=journal,
                    sink=sink,
                    base_url=server.base_url,
                    backend=backend,
                )
                # Spread evenly over all answers but the last ones, with which runs end.
                mark = runs * (TURNS - 1) * (number + 1) // (kills + 1) if number < kills else None
                life = await _live(work, server, died, mark, tell)
                lives.append(life)
                died = time.perf_counter()
            stats, answers = await server.stats(), await server.answers()
        stories, size = await _read(journal)
        found = account(runs, stories, effects_in(sink), answers, lives)
        file = Path(journal).stat().st_size
    return CrashReport(
        backend=backend,
        lives=tuple(lives),
        account=found,
        server=stats,
        journal=size,
        file=file,
        seconds=time.perf_counter() - began,
    )


async def _live(
    work: Work, server: SimulatedServer, died: float | None, mark: int | None, tell: Callable[[str], object]
) -> Life:
    """One process from its start until it has ended, or was killed once the server had given `mark` answers."""
    async with _worker(work) as worker:
        first = await worker.news()
        gap = time.perf_counter() - died if died is not None else 0.0
        name, what = f"process {worker.process.pid}", "taken over" if work.recovers else "begun"
        tell(f"{name}: {first.runs:,} runs {what} in {first.seconds:.2f} s")
        answers = None
        if mark is None:
            last = await worker.news()
            tell(f"{name}: all {last.runs:,} have ended, after {last.seconds:.1f} s")
        else:
            answers = await worker.wait_for(server, mark)
            worker.process.kill()
            tell(f"{name}: killed (SIGKILL) after {answers:,} of {work.runs * TURNS:,} answers")
    unfinished = first.unfinished if work.recovers else work.runs
    return Life(
        runs=first.runs, unfinished=unfinished, seconds=first.seconds, gap=gap, answers=answers, refused=first.refused
    )


class _Worker:
    """A process at work."""

    def __init__(self, process: Process) -> None:
        assert process.stdout is not None
        self.process = process
        self._lines = BufferedByteReceiveStream(process.stdout)

    async def news(self) -> News:
        """What it says next."""
        try:
            return msgspec.json.decode(await self._lines.receive_until(b"\n", 1_000_000), type=News)
        except (anyio.IncompleteRead, anyio.EndOfStream):
            raise self._over(await self.process.wait()) from None

    async def wait_for(self, server: SimulatedServer, answers: int) -> int:
        """Wait until the server has given so many whole answers; how many they are by then."""
        while (given := (await server.stats()).ok) < answers:
            if self.process.returncode is not None:
                raise self._over(self.process.returncode)
            await anyio.sleep(_POLL)
        return given

    def _over(self, status: int) -> RuntimeError:
        return RuntimeError(f"a process of the demo ended by itself (exit status {status})")


@asynccontextmanager
async def _worker(work: Work) -> AsyncGenerator[_Worker]:
    """Start a worker. It does not outlive the block, which waits for one that was killed or is at its end."""
    command = [sys.executable, "-P", "-m", "greenroom.load.crash_worker", msgspec.json.encode(work).decode()]
    flags = subprocess.CREATE_NEW_PROCESS_GROUP if sys.platform == "win32" else 0
    process = await anyio.open_process(command, stderr=None, creationflags=flags, start_new_session=os.name == "posix")
    try:
        yield _Worker(process)
        await process.wait()
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.aclose()


async def _read(path: str) -> tuple[dict[str, Story], int]:
    """What the journal says of all runs, and how many bytes that is."""
    async with SqliteJournal(path) as journal:
        listed = await journal.runs()
        stories = {each.run_id: story_of(await journal.read(each.run_id)) for each in listed}
    return stories, sum(each.size for each in listed)
