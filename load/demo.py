"""The demo: many runs at once over real HTTP, with faults, crashes and stops, and every one of them accounted for.

    report = await demo(runs=1000, faults=0.05, seed=1, watch=print)

A simulated model server is started as a process of its own; all runs live in one `System`. What comes back is a
`Report`, whose `disagreements` are empty only if each run has exactly one outcome and the counts of the client and of
the server agree; `reconcile` says what that means.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import anyio

from ..agents import Run, System, events
from ..providers import OpenAIChat, Timeouts, shared_connections
from .attempts import Attempts, Counted
from .faults import Faults
from .latency import Latency
from .orders import CALLS_AT_ONCE, TURNS, Order, OrderAgent, order_agent
from .process import SimulatedServer, simulated_server
from .reconcile import reconcile
from .report import Report, peak_memory, present_memory
from .stats import Stats
from .tally import Tally, cause_of

#: Runs at work at once; more wait for their turn.
MAX_RUNNING = 1_000
#: A stall of the server costs `idle`; it must be longer than a busy event loop takes for one round.
TIMEOUTS = Timeouts(connect=10.0, first_byte=60.0, idle=2.0, total=120.0)
#: Failures of one request in a row; fewer than `orders.RETRY` has attempts, so that every run can complete.
IN_A_ROW = 2
#: Of the simulated model: slow enough, as real ones are, for a thousand runs to be in flight at the same time.
LATENCY = "1s-3s+10ms"
_SETTLE_TIMEOUT = 10.0


class Beside(Protocol):
    """What goes on in the System of a demo beside its runs.

    Attributes:
        by_hand: how many runs it has stopped. What such a run had under way, the server may not have seen; so where
            there are any, the counts of both sides are not compared.
    """

    by_hand: int

    def heard(self, event: events.Event) -> None:
        """An event of a run."""

    async def attend(self, system: System, tally: Tally, attempts: Attempts) -> None:
        """Do it; cancelled when the last run has ended."""


async def demo(
    *,
    runs: int = 1_000,
    faults: float = 0.05,
    seed: int = 1,
    latency: Latency | None = None,
    watch: Callable[[Tally], None] | None = None,
    interval: float = 0.1,
    beside: Beside | None = None,
) -> Report:
    """Run the demo.

    Args:
        runs: how many; each makes three requests, a tenth of them start three subagents.
        faults: share of requests (0 to 1) that the server answers with 429, 500, a reset or a stall.
        seed: another seed is another model: other faults and delays.
        latency: of the simulated model; default `LATENCY`.
        watch: called with the counts so far, now and then, and once at the end.
        interval: seconds between two such calls.
        beside: what goes on beside the runs, default nothing.
    """
    tally, attempts = Tally(), Attempts()
    injected, pace = Faults.of(faults, in_a_row=IN_A_ROW), latency or Latency.parse(LATENCY)
    async with simulated_server(faults=injected, latency=pace, seed=seed) as server:
        provider = Counted(OpenAIChat("simulated", base_url=server.base_url, timeouts=TIMEOUTS), attempts)
        agent = order_agent(provider, tally)
        memory, began, cpu = present_memory(), time.perf_counter(), time.process_time()
        resent = await _run_all(agent, runs, tally, attempts, watch, interval, beside)
        seconds, cpu_seconds, peak = time.perf_counter() - began, time.process_time() - cpu, peak_memory()
        stats = await _final_stats(server)
    by_hand = beside.by_hand if beside is not None else 0
    return Report(
        backend=anyio.get_cancelled_exc_class().__module__.partition(".")[0],
        tally=tally,
        attempts=attempts,
        resent=resent,
        server=stats,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        memory=None if memory is None or peak is None else max(peak - memory, 0),
        disagreements=[] if by_hand else reconcile(tally, attempts, resent, stats, calls_at_once=CALLS_AT_ONCE),
        by_hand=by_hand,
    )


async def _run_all(
    agent: OrderAgent,
    runs: int,
    tally: Tally,
    attempts: Attempts,
    watch: Callable[[Tally], None] | None,
    interval: float,
    beside: Beside | None,
) -> int:
    """Run all orders to their ends; returns how many requests the transport sent a second time."""
    heard = beside.heard if beside is not None else None
    async with (
        System(name="demo", max_running=min(runs, MAX_RUNNING), on_event=heard) as system,
        shared_connections() as connections,
        anyio.create_task_group() as watching,
    ):
        if watch is not None:
            watching.start_soon(_watch, watch, tally, interval)
        if beside is not None:
            watching.start_soon(beside.attend, system, tally, attempts)
        async with anyio.create_task_group() as streams:
            started: list[Run[str]] = []
            for number in range(runs):
                order = Order(number)
                tally.launched += 1
                if order.is_stopped:
                    streams.start_soon(_stream_and_stop, agent, order, tally)
                else:
                    started.append(await system.start(agent, order.prompt(), deps=order))
            started.reverse()
            while started:
                await _settle(started.pop(), tally)
        if watch is not None:
            watch(tally)
        watching.cancel_scope.cancel()
        return connections.statistics().retried
    raise AssertionError("no block of the demo swallows an exception")


async def _stream_and_stop(agent: OrderAgent, order: Order, tally: Tally) -> None:
    """Follow a run as a user would who has seen enough after a few words."""
    async with agent.stream(order.prompt(), deps=order) as run:
        pieces = 0
        try:
            async for _ in run.text():
                pieces += 1
                if pieces == order.pieces_wanted:
                    run.stop("now")
        except Exception:
            pass  # it is the run's own error, which its result raises again
        await _settle(run, tally)


async def _settle(run: Run[str], tally: Tally) -> None:
    """Wait for the end of a run and write down its one outcome."""
    try:
        result = await run.result()
        cause = result.status
    except Exception as error:
        result, cause = getattr(error, "result", None), cause_of(error)
    tally.settle(run.id, result, cause, TURNS, run.tree().restarts)


async def _watch(watch: Callable[[Tally], None], tally: Tally, interval: float) -> None:
    while True:
        watch(tally)
        await anyio.sleep(interval)


async def _final_stats(server: SimulatedServer) -> Stats:
    """The server's counts once it has noticed that all connections are closed."""
    stats = await server.stats()
    with anyio.move_on_after(_SETTLE_TIMEOUT):
        while stats.in_flight or stats.connections_open > 1:
            await anyio.sleep(0.05)
            stats = await server.stats()
    return stats
