"""One process of the crash demo, as a program: ``python -P -m greenroom.load.crash_worker '{"runs": 1000, …}'``.

Its one argument is the JSON of `Work`. It begins the runs, or goes on with those that a process before it has left
unfinished, and says on standard output what it has come to, each time as one line of JSON (`News`). It is there to be
killed at any moment, and knows nothing of that. Like the simulated server it ends when its standard input does, so that
it does not outlive who started it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from typing import Any, Literal

import anyio
import msgspec

from ..agents import Run, System
from ..providers import OpenAIChat, Timeouts
from .attempts import Attempts, Counted
from .crash_orders import order_agent, prompt_of, run_id_of
from .sink import Sink

#: A stall of the server costs `idle`; it must be longer than a busy event loop takes for one round.
TIMEOUTS = Timeouts(connect=10.0, first_byte=60.0, idle=2.0, total=120.0)


class Work(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a worker has to do.

    Args:
        runs: how many runs there are, at work at the same time.
        recovers: whether to go on with them rather than to begin them.
        max_claims: as for `System.recover`.
        journal, sink: the files.
        base_url: of the simulated model.
        backend: the event loop.
    """

    runs: int
    recovers: bool
    max_claims: int
    journal: str
    sink: str
    base_url: str
    backend: str


class News(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker has come to.

    Attributes:
        what: all runs have durably begun; all that were unfinished are taken over; all have ended.
        runs: how many.
        seconds: how long that took.
        unfinished: runs that the journal called unfinished before they were taken over.
        refused: why runs were not taken over, by run.
    """

    what: Literal["began", "recovered", "ended"]
    runs: int
    seconds: float
    unfinished: int = 0
    refused: dict[str, str] = {}


def main(arguments: list[str]) -> int:
    """Do the work; returns the exit status."""
    work = msgspec.json.decode(arguments[0], type=Work)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch_input, name="stdin", daemon=True).start()
    # What a kill has cut off, and what it has left unknown, is no news here: the demo counts it.
    logging.getLogger("greenroom").setLevel(logging.ERROR)
    try:
        anyio.run(_work, work, backend=work.backend)
    except (OSError, RuntimeError) as error:
        print(f"greenroom: {error}", file=sys.stderr)
        return 1
    return 0


def _watch_input() -> None:
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass
    os._exit(1)  # a worker may be killed at any moment


async def _work(work: Work) -> None:
    provider = Counted(OpenAIChat("simulated", base_url=work.base_url, timeouts=TIMEOUTS), Attempts())
    with Sink(work.sink) as sink:
        agent = order_agent(provider, sink)
        async with System(name="demo", max_running=work.runs, journal=work.journal) as system:
            began = time.perf_counter()
            runs = await (_recover(system, agent, work) if work.recovers else _begin(system, agent, work))
            for run in runs:
                try:
                    await run.result()
                except Exception:
                    pass  # the journal says how it has ended
            _tell(News("ended", len(runs), time.perf_counter() - began))


async def _begin(system: System, agent: Any, work: Work) -> list[Run[str]]:
    runs: list[Run[str]] = []

    async def start(order: int) -> None:
        runs.append(await system.start(agent, prompt_of(order), run_id=run_id_of(order)))

    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        for order in range(work.runs):
            group.start_soon(start, order)
    _tell(News("began", len(runs), time.perf_counter() - began))
    return runs


async def _recover(system: System, agent: Any, work: Work) -> list[Run[Any]]:
    listed = await system.stage.journal.runs(unfinished=True)
    began = time.perf_counter()
    recovery = await system.recover([agent], max_claims=work.max_claims)
    seconds = time.perf_counter() - began
    _tell(News("recovered", len(recovery), seconds, len(listed), {**recovery.left, **recovery.parked}))
    return list(recovery)


def _tell(news: News) -> None:
    print(msgspec.json.encode(news).decode(), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
