"""From what a session has measured to a report."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from .. import stats
from .demand import Demand
from .doubts import doubts
from .results import LoadReport
from .session import Session
from .workloads import Workload

#: Runs in flight below which their memory cannot be told from noise.
ENOUGH = 10
_LIBRARIES = ("anyio", "trio", "uvloop", "httpx", "httpcore", "h11", "msgspec")


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """Where and with what a test was made; the fields mean what they mean in `LoadReport`.

    `began` is seconds since 1970; `server` are the simulated server's counts before and after.
    """

    began: float
    target: str
    model: str
    backend: str
    seed: int
    streams: bool
    options: Mapping[str, Any]
    memory_before: int | None
    server: tuple[stats.Stats, stats.Stats] | None = None


def make_report(demand: Demand, workload: Workload, setting: Setting, session: Session) -> LoadReport:
    """The report of a test that is over."""
    recorder, sampler = session.recorder, session.sampler
    window = session.window_ended - session.window_began
    seconds = session.ended - session.began
    ended = session.after.ended - session.before.ended
    tokens = session.after.tokens - session.before.tokens
    ends = dict(recorder.runs)
    ends["never_begun"] = session.arrived - sum(ends.values())
    rate = _per_second(window)
    peak, before = sampler.memory_peak, setting.memory_before
    grown = max(peak - before, 0) if peak is not None and before is not None else None
    report = LoadReport(
        greenroom=_version("greenroom") or "",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=platform.platform(),
        cores=_cores(),
        libraries={name: found for name in _LIBRARIES if (found := _version(name)) is not None},
        began=datetime.fromtimestamp(setting.began, UTC).isoformat(timespec="milliseconds"),
        seconds=seconds,
        window=window,
        workload=workload.name,
        about=workload.about,
        options=dict(setting.options),
        target=setting.target,
        model=setting.model,
        backend=setting.backend,
        seed=setting.seed,
        streamed=recorder.streamed > 0,
        mode=demand.mode,
        concurrency=demand.concurrency,
        rate=demand.rate,
        arrivals=demand.arrivals,
        ramp=demand.ramp,
        stages=demand.stages,
        duration=demand.duration,
        count=demand.count,
        warm_up=demand.warm_up,
        max_in_flight=demand.room if demand.mode == "open" else None,
        ended_by=session.ended_by,
        runs={"arrived": session.arrived, **{name: number for name, number in ends.items() if number}},
        requests=dict(recorder.requests),
        errors=recorder.errors(),
        retries=recorder.retries,
        tool_calls=recorder.tool_calls,
        gate_waits=recorder.gate_wait.count,
        tokens=dict(recorder.tokens),
        run_latency=recorder.run_latency.distribution(),
        request_latency=recorder.request_latency.distribution(),
        first_token=recorder.first_token.distribution(),
        per_token=recorder.per_token.distribution(),
        between_pieces=recorder.between_pieces.distribution(),
        gate_wait=recorder.gate_wait.distribution(),
        start_delay=recorder.start_delay.distribution(),
        overhead=recorder.overhead.distribution(),
        runs_per_second=ended * rate,
        requests_per_second=(session.after.requests - session.before.requests) * rate,
        tokens_per_second=tokens * rate if "output" in recorder.tokens else None,
        cpu_seconds=session.cpu,
        cpu_share=session.cpu * rate,
        cpu_per_run=session.cpu / ended if ended else None,
        memory_before=before,
        memory_peak=peak,
        memory_per_run=grown / recorder.peak_in_flight
        if grown is not None and recorder.peak_in_flight >= ENOUGH
        else None,
        peak_in_flight=recorder.peak_in_flight,
        connections=sampler.connections_peak or None,
        server=_served(setting.server, seconds),
        timeline=tuple(sampler.moments),
    )
    waited = any(moment.waiting for moment in sampler.moments)
    lag = sampler.lag.total / sampler.lag.count if sampler.lag.count else 0.0
    warnings = doubts(report, waited=waited, short_of_connections=sampler.connections_short, lag=lag)
    return msgspec.structs.replace(report, warnings=warnings)


def _per_second(window: float) -> float:
    return 1 / window if window > 0 else 0.0


def _served(counts: tuple[stats.Stats, stats.Stats] | None, seconds: float) -> dict[str, float] | None:
    """What the simulated server did in the whole test."""
    if counts is None:
        return None
    before, after = counts
    # Who asks for the counts has connections and requests of its own among them.
    own = ("other", "connections", "connections_open")
    served = {name: value for name, value in msgspec.structs.asdict(after).items() if value and name not in own}
    served["requests"] = after.requests
    served["cpu_seconds"] = after.cpu_seconds - before.cpu_seconds
    served["cpu_share"] = served["cpu_seconds"] / seconds if seconds > 0 else 0.0
    return served


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
