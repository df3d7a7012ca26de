"""What a demo found, as numbers and as the lines of a table."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from .attempts import Attempts
from .stats import Stats
from .tally import Tally


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one demo.

    Attributes:
        backend: the event loop: ``asyncio`` or ``trio``.
        tally: what the client counted.
        attempts: what its provider counted.
        resent: requests that its transport sent a second time.
        server: what the server counted.
        seconds: from the first run's start to the last one's end.
        cpu_seconds: processor time of the client's process in that time.
        memory: bytes that the client's process grew by at its peak; None where the system does not say.
        disagreements: lines that name the numbers that do not agree; empty when all is accounted for.
        by_hand: runs that somebody has stopped by hand; where there are any, the counts are not compared.
    """

    backend: str
    tally: Tally
    attempts: Attempts
    resent: int
    server: Stats
    seconds: float
    cpu_seconds: float
    memory: int | None
    disagreements: list[str]
    by_hand: int = 0

    @property
    def causes(self) -> dict[str, int]:
        """Failed runs by cause."""
        outcomes = self.tally.outcomes
        return {cause: outcomes[cause] for cause in sorted(outcomes) if cause not in ("completed", "stopped")}


def percentile(values: list[float], percent: float) -> float:
    """The smallest value that so many percent of `values` do not exceed; 0.0 for no values."""
    if not values:
        return 0.0
    rank = -(-len(values) * percent // 100)
    return sorted(values)[max(int(rank) - 1, 0)]


def rows(report: Report) -> list[tuple[str, str]]:
    """The table: label and value of each line."""
    tally, server = report.tally, report.server
    runs = max(tally.launched, 1)
    causes = report.causes
    failed = f"{sum(causes.values()):,}"
    if causes:
        failed += " (" + ", ".join(f"{cause} {number:,}" for cause, number in causes.items()) + ")"
    subagents = tally.begun - tally.launched
    agree = "client and server agree" if not report.disagreements else "DO NOT AGREE"
    if report.by_hand:
        agree = f"not compared, because runs were stopped by hand ({report.by_hand:,})"
    memory = "unknown" if report.memory is None else f"{report.memory / max(tally.in_flight_max, 1) / 1024:,.0f} KiB"
    return [
        ("runs", f"{tally.launched:,} (and {subagents:,} subagents; {tally.in_flight_max:,} in flight at most)"),
        ("completed", f"{tally.outcomes['completed']:,}"),
        ("stopped", f"{tally.outcomes['stopped']:,}"),
        ("failed", failed),
        ("lost", f"{tally.lost:,}"),
        ("restarts", f"{tally.restarts:,}"),
        ("tool calls", f"{tally.calls:,} ({tally.tools_failed:,} crashed, and the model was told)"),
        ("requests, client", _requests_of_client(report)),
        ("requests, server", _requests_of_server(server)),
        ("retries", f"{tally.retries:,}"),
        ("counts", agree),
        ("run latency", f"p50 {percentile(tally.seconds, 50):.2f} s, p99 {percentile(tally.seconds, 99):.2f} s"),
        ("duration", f"{report.seconds:.1f} s, {runs / max(report.seconds, 1e-9):,.0f} runs/s"),
        ("CPU per run", f"{report.cpu_seconds / runs * 1000:.1f} ms (of the client's process)"),
        ("memory per run", f"{memory} (growth at the peak, by runs in flight)"),
        ("backend", f"{report.backend}, on {versions(report.backend)}"),
    ]


def _requests_of_client(report: Report) -> str:
    attempts = report.attempts
    parts = [
        f"ok {attempts.ok:,}",
        f"429 {attempts.rate_limited:,}",
        f"500 {attempts.server_errors:,}",
        f"reset {attempts.interrupted + report.resent:,}",
        f"stalled {attempts.stalled:,}",
        f"cut {attempts.cut:,}",
    ]
    if attempts.unconnected:
        parts.append(f"not sent {attempts.unconnected:,}")
    if attempts.refused:
        parts.append(f"refused {attempts.refused:,}")
    return f"{attempts.total - attempts.unconnected + report.resent:,} ({', '.join(parts)})"


def _requests_of_server(server: Stats) -> str:
    parts = [
        f"ok {server.ok:,}",
        f"429 {server.rate_limited:,}",
        f"500 {server.server_errors:,}",
        f"reset {server.resets:,}",
        f"stalled {server.stalled:,}",
        f"aborted {server.aborted:,}",
    ]
    if server.refused:
        parts.append(f"refused {server.refused:,}")
    return f"{server.requests:,} ({', '.join(parts)})"


def versions(backend: str) -> str:
    """What ran: the interpreter and the libraries that matter."""
    names = ["greenroom", "anyio", *(["trio"] if backend == "trio" else []), "httpx"]
    return ", ".join([f"{platform.python_implementation()} {platform.python_version()}", *map(_version, names)])


def _version(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} (not installed as a package)"


def peak_memory() -> int | None:
    """The most memory that this process has had, in bytes; None where the system does not say."""
    try:
        import resource  # absent on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def present_memory() -> int | None:
    """The memory that this process has now, in bytes; where the system does not say, the most that it has had."""
    try:
        import resource

        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except (ImportError, OSError):
        return peak_memory()
