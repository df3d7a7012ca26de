"""A load report as the lines of a table, for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from .asked import load_in_words
from .results import Distribution, LoadReport
from .units import number, per_second, seconds, share, size
from .verdict import judge

#: Classes of errors that are shown; the report has all of them.
ERRORS = 5
_LATENCIES = {
    "run": "run_latency",
    "request": "request_latency",
    "first token": "first_token",
    "per output token": "per_token",
    "between pieces": "between_pieces",
    "admission": "gate_wait",
    "late start": "start_delay",
    "overhead": "overhead",
}


def rows(report: LoadReport) -> list[tuple[str, str]]:
    """The table: label and value of each line."""
    lines = [("", judge(report).headline)]
    if report.about:
        lines.append(("workload", report.about))
    lines += [("load", _load(report)), ("endpoint", _endpoint(report))]
    lines += [("runs", _counts(report.runs)), ("requests", _requests(report)), ("throughput", _throughput(report))]
    for name, field in _LATENCIES.items():
        spread: Distribution | None = getattr(report, field)
        # In a closed loop nothing arrives, so nothing can be late.
        if spread is not None and not (name == "late start" and report.mode == "closed"):
            lines.append((name, _spread(spread)))
    lines += [("CPU", _cpu(report)), ("memory", _memory(report))]
    if report.connections is not None:
        lines.append(("connections", f"{number(report.connections)} at most"))
    if report.server is not None:
        lines.append(("simulated server", f"{share(report.server['cpu_share'])} of a core"))
    for error in report.errors[:ERRORS]:
        status = f" {error.status}" if error.status is not None else ""
        lines.append((f"{error.where} error", f"{number(error.count)} {error.kind}{status}: {error.example}"))
    if len(report.errors) > ERRORS:
        lines.append(("", f"and {len(report.errors) - ERRORS} more classes of errors"))
    lines += [("warning", each) for each in report.warnings]
    return lines


def _load(report: LoadReport) -> str:
    words = f"{load_in_words(report)}, {seconds(report.window)} measured"
    return f"{words} after {seconds(report.warm_up)} of warm-up" if report.warm_up else words


def _endpoint(report: LoadReport) -> str:
    target = "simulated model" if report.target == "simulated" else f"{report.model} at {report.target}"
    return f"{target}{', streamed' if report.streamed else ''}; on {report.backend}"


def _counts(counts: Mapping[str, int]) -> str:
    named = [f"{number(count)} {name.replace('_', ' ')}" for name, count in counts.items() if count]
    return ", ".join(named) or "none"


def _requests(report: LoadReport) -> str:
    words = _counts(report.requests)
    if report.retries:
        words += f"; {number(report.retries)} retries"
    return f"{words}; {number(report.tool_calls)} tool calls" if report.tool_calls else words


def _throughput(report: LoadReport) -> str:
    words = f"{per_second(report.runs_per_second)} runs, {per_second(report.requests_per_second)} requests"
    if report.tokens_per_second is not None:
        words += f", {per_second(report.tokens_per_second)} output tokens"
    return words


def _spread(spread: Distribution) -> str:
    values = [("p50", spread.p50), ("p90", spread.p90), ("p99", spread.p99), ("max", spread.maximum)]
    return "".join(f"{name} {seconds(value):<12}" for name, value in values).rstrip()


def _cpu(report: LoadReport) -> str:
    share_of_core = f"{share(report.cpu_share)} of a core"
    return share_of_core if report.cpu_per_run is None else f"{seconds(report.cpu_per_run)} per run, {share_of_core}"


def _memory(report: LoadReport) -> str:
    if report.memory_peak is None:
        return "not known"
    words = f"{size(report.memory_peak)} at the peak, {number(report.peak_in_flight)} runs in flight at most"
    return words if report.memory_per_run is None else f"{size(report.memory_per_run)} per run; {words}"
