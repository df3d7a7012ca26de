"""A load test from beginning to end: the model, the System, the session, the report.

report = await load_test(support, concurrency=50, duration=30)
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
import msgspec
import sniffio

from ...actors.exits import sole
from ...agents import System
from ...agents.arguments import read_model
from ...providers import ModelRequest, OpenAIChat, Provider, RateLimited, Timeouts, shared_connections, user
from ..faults import Faults
from ..latency import Latency
from ..process import SimulatedServer, simulated_server
from ..report import present_memory
from ..stats import Stats
from .demand import DRAIN, Demand, Spacing, read_demand
from .measured import MeasuredProvider
from .progress import Progress, progress_of
from .recorder import Recorder
from .reporting import Setting, make_report
from .results import LoadReport, Stage
from .session import Session
from .workloads import BadWorkload, Surroundings, Workload, in_a_line, where
from .workloads import workload as made

#: Of the simulated model: a median, a 99th percentile, and time between the pieces of a streamed answer.
LATENCY = "200ms-600ms+10ms"
#: A stall of the simulated server costs `idle`.
TIMEOUTS = Timeouts(connect=10.0, first_byte=60.0, idle=2.0, total=120.0)
#: Failures of one request in a row; fewer than agents have attempts by default, so that every run can complete.
IN_A_ROW = 2
_SETTLE = 5.0


async def load_test(
    workload: Workload | Callable[[Any], Any],
    *,
    model: Provider | str | None = None,
    concurrency: int | None = None,
    rate: float | None = None,
    arrivals: Spacing | None = None,
    ramp: float = 0.0,
    stages: str | Sequence[Stage | tuple[float, float]] | None = None,
    duration: float | None = None,
    count: int | None = None,
    warm_up: float = 0.0,
    max_in_flight: int | None = None,
    drain: float = DRAIN,
    connections: int | None = None,
    streams: bool = False,
    seed: int = 1,
    latency: Latency | None = None,
    faults: float | Faults | None = None,
    until: anyio.Event | None = None,
    watch: Callable[[Progress], None] | None = None,
    options: Mapping[str, Any] | None = None,
    secrets: Sequence[str] = (),
    clock: Callable[[], float] = time.perf_counter,
) -> LoadReport:
    """Run a workload under load, and report.

    Args:
        workload: a `Workload`, or a coroutine function of an `Iteration`.
        model: who is asked: a `Provider`, or a string such as ``"openai:gpt-5-mini"``; by default the simulated model,
            in a process of its own.
        concurrency: runs in flight, in a closed loop (default 100, where `rate` and `stages` are not given).
        rate: arrivals per second, in an open loop.
        arrivals: of an open loop: ``poisson`` (default), at random distances, or ``even``.
        ramp: seconds in which the load grows from nothing (default 0).
        stages: the course of the load: text such as ``"10s:50,30s:200"``, as `--stages` has it, or a list of
            `Stage` or (seconds, runs in flight).
        duration: seconds that are measured (default 10, where no count is given).
        count: runs that are measured; together with a duration, whichever is over first ends the test.
        warm_up: seconds before that which are not measured (default 0).
        max_in_flight: runs in flight at most, in an open loop (default 1,000); others wait, and their wait counts.
        drain: seconds that runs have to end once nothing arrives any more (default 30); then they are cut.
        connections: to the endpoint, at most (default: one for each run that may be in flight, times the workload's
            width).
        streams: whether answers are streamed and read, also where the workload does not ask for it.
        seed: of arrivals, of the workload's random numbers, and of the simulated model.
        latency: of the simulated model (default ``200ms-600ms+10ms``).
        faults: the share of requests (0 to 1) that the simulated model fails, or `Faults` (default: none).
        until: ends the test early when it is set: runs are cut, and the report says ``interrupted``.
        watch: called with a `Progress` now and then. It must not block.
        options: kept in the report as what the test was asked for.
        secrets: texts that must not be quoted from errors.
        clock: seconds; for tests.

    Raises:
        TypeError, ValueError: an argument that cannot work; the message names it.
        ProviderError: the endpoint does not answer one request before the load begins.
        BadWorkload: the workload's setup fails.
        DescriptorLimit: the process may not open so many connections.
        OSError, RuntimeError: the simulated server cannot be started.
    """
    demand = read_demand(
        concurrency=concurrency,
        rate=rate,
        arrivals=arrivals,
        ramp=ramp,
        stages=stages,
        duration=duration,
        count=count,
        warm_up=warm_up,
        max_in_flight=max_in_flight,
        drain=drain,
    )
    what = workload if isinstance(workload, Workload) else made(workload)
    if connections is not None and (not isinstance(connections, int) or connections < 1):
        raise ValueError(f"connections must be a whole number, 1 or more, not {connections!r}")
    if model is not None and (latency is not None or faults is not None):
        raise ValueError("latency and faults are of the simulated model: leave out model")
    injected = faults if isinstance(faults, Faults) else Faults.of(faults or 0.0, in_a_row=IN_A_ROW)
    recorder = Recorder(clock, secrets)
    backend = _backend()
    async with _bare(), AsyncExitStack() as stack:
        server: SimulatedServer | None = None
        if model is None:
            pace = latency if latency is not None else Latency.parse(LATENCY)
            server = await stack.enter_async_context(simulated_server(faults=injected, latency=pace, seed=seed))
            provider: Provider = OpenAIChat("simulated", base_url=server.base_url, timeouts=TIMEOUTS)
        else:
            provider = read_model(model)
            await _probe_until(provider, until)
        setting = Setting(
            began=time.time(),
            target="simulated" if server is not None else address_of(provider),
            model=provider.model,
            backend=backend,
            seed=seed,
            streams=streams,
            options=options if options is not None else {},
            memory_before=present_memory(),
        )
        before = await server.stats() if server is not None else None
        async with (
            System(name="load", max_running=connections or demand.room * what.width) as system,
            shared_connections() as shared,
        ):
            measured = MeasuredProvider(provider, recorder, tagged=server is not None)
            around = Surroundings(
                *(system, measured, recorder, seed), simulated=server is not None, streams=streams, connections=shared
            )
            session = Session(demand, what, around)
            async with _set_up(what, around) as failures:
                await session.perform(until, _watching(watch, demand))
        if server is not None and before is not None:
            setting = msgspec.structs.replace(setting, server=(before, await _settled(server)))
        report = make_report(demand, what, setting, session)
        return msgspec.structs.replace(report, warnings=(*report.warnings, *failures))


async def probe(provider: Provider) -> None:
    """Ask the endpoint once. One that refuses because it is busy is there, and knows the key and the model.

    Raises:
        ProviderError: it does not answer.
    """
    try:
        await provider.complete(ModelRequest([user("Say OK.")]))
    except RateLimited:
        pass


async def _probe_until(provider: Provider, until: anyio.Event | None) -> None:
    """Probe; not for longer than the test is wanted."""
    async with anyio.create_task_group() as group:
        if until is not None:
            group.start_soon(_cancel_at, until, group.cancel_scope)
        await probe(provider)
        group.cancel_scope.cancel()


async def _cancel_at(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def address_of(provider: Provider) -> str:
    """Where a provider's endpoint is, without what may be secret; its name where it has no address."""
    base_url = getattr(provider, "base_url", None)
    if not isinstance(base_url, str):
        return provider.name
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port is not None else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


def _watching(watch: Callable[[Progress], None] | None, demand: Demand) -> Callable[[Session], None] | None:
    if watch is None:
        return None
    return lambda session: watch(progress_of(session, demand.ends, demand.count))


def _backend() -> str:
    name = sniffio.current_async_library()
    return "uvloop" if name == "asyncio" and "uvloop" in sys.modules and _on_uvloop() else name


def _on_uvloop() -> bool:
    return type(anyio.lowlevel.current_token().native_token).__module__.partition(".")[0] == "uvloop"


@asynccontextmanager
async def _set_up(workload: Workload, around: Surroundings) -> AsyncGenerator[list[str]]:
    """The workload's setup around the block. Its end may fail, which must not cost the report: it is a line in it.

    Raises:
        BadWorkload: the setup fails.
    """
    failures: list[str] = []
    try:
        block = workload.setup()
        around.shared = await block.__aenter__()
    except Exception as error:
        raise BadWorkload(f"the setup of workload {workload.name} failed: {in_a_line(error)}{where(error)}") from error
    try:
        yield failures
    except BaseException:
        await block.__aexit__(*sys.exc_info())
        raise
    try:
        await block.__aexit__(None, None, None)
    except Exception as error:
        failures.append(f"the end of the workload's setup failed: {in_a_line(error)}{where(error)}")


@asynccontextmanager
async def _bare() -> AsyncGenerator[None]:
    """What fails leaves as it is, not wrapped in the groups of tasks that it has come through."""
    try:
        yield
    except BaseExceptionGroup as errors:
        raise sole(errors) from None


async def _settled(server: SimulatedServer) -> Stats:
    """The server's counts once it has noticed that nobody waits for an answer any more."""
    stats = await server.stats()
    with anyio.move_on_after(_SETTLE):
        while stats.in_flight:
            await anyio.sleep(0.02)
            stats = await server.stats()
    return stats
