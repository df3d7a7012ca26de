"""The tables of a load report's page: the figures whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .asked import option_in_words
from .document import cell, head, row_head, shown, table
from .markup import Markup, tag
from .results import Distribution, LoadReport
from .units import UNKNOWN, known, number, seconds, share, size

#: Latencies: name, field of the report, what it is.
LATENCIES = (
    ("run", "run_latency", "completed runs, from their intended arrival to their end"),
    ("request", "request_latency", "answered requests to the model, from sending to the last byte"),
    ("first token", "first_token", "streamed requests, from sending to the first piece of content"),
    ("per output token", "per_token", "streamed requests, first piece to last, by output tokens less one"),
    ("between pieces", "between_pieces", "from one piece of a streamed answer to the next"),
    ("admission", "gate_wait", "requests that had to wait until the provider's limits let them be sent"),
    ("late start", "start_delay", "how much later than it arrived a run began"),
    ("overhead", "overhead", "time in completed runs in which no model, tool, admission or retry was waited for"),
)

#: What becomes of runs and of requests.
RUNS = {
    "completed": "",
    "failed": "ended with an error",
    "limited": "reached a limit of the agent",
    "stopped": "by the workload itself",
    "cut": "still at work when the test was ended",
    "never_begun": "still waiting to begin when the test was ended",
}
REQUESTS = {
    "ok": "",
    "rate_limited": "429",
    "server_errors": "5xx",
    "interrupted": "the connection was lost during the answer",
    "stalled": "a deadline passed",
    "unconnected": "nothing could be sent",
    "refused": "any other refusal",
    "cut": "given up because its run was",
    "other": "the reply could not be read, and the like",
}
_GOOD = ("completed", "ok")


def latencies(report: LoadReport) -> Iterable[Markup]:
    """Every latency with its percentiles."""
    measured: list[tuple[str, Distribution, str]] = [
        (name, spread, more) for name, field, more in LATENCIES if (spread := getattr(report, field)) is not None
    ]
    if report.mode == "closed":  # nothing arrives there, so nothing begins late
        measured = [each for each in measured if each[1] is not report.start_delay]
    if not measured:
        return
    names = ("samples", "mean", "min", "p50", "p90", "p95", "p99", "p99.9", "max")
    yield tag("h2", "Latencies")
    yield table(
        [head(""), *(head(name, numeric=True) for name in names)],
        (
            [
                row_head(name, more),
                cell(number(each.count)),
                *(cell(seconds(value)) for value in (each.mean, each.minimum)),
                *(cell(seconds(value)) for value in (each.p50, each.p90, each.p95, each.p99, each.p999, each.maximum)),
            ]
            for name, each, more in measured
        ),
        "Latencies",
    )
    yield tag("p", "p99: 99 of 100 samples are at or below it. Percentiles are exact within 1 %.", class_="note")


def outcomes(report: LoadReport) -> Iterable[Markup]:
    """What became of runs and of requests."""
    yield tag("h2", "Outcomes")
    arrived = {name: count for name, count in report.runs.items() if name != "arrived"}
    yield tag(
        "div",
        _outcome_table("Runs", RUNS, arrived),
        _outcome_table("Requests", REQUESTS, report.requests),
        class_="pair",
    )


def _outcome_table(title: str, known_names: Mapping[str, str], counts: Mapping[str, int]) -> Markup:
    first = next(iter(known_names))
    names = [name for name in known_names if counts.get(name) or name == first]
    names += [name for name in counts if name not in known_names and counts[name]]
    total = sum(counts.values())
    rows = [
        [
            row_head(name.replace("_", " "), known_names.get(name, "")),
            cell(number(counts.get(name, 0))),
            cell(share(counts.get(name, 0) / total) if total else UNKNOWN),
            tag("td", _bar(counts.get(name, 0) / total if total else 0.0, name in _GOOD)),
        ]
        for name in names
    ]
    heads = [head(title), head(number(total), numeric=True), head("share", numeric=True), head("")]
    return table(heads, rows, title)


def _bar(part: float, good: bool) -> Markup:
    return tag(
        "svg",
        tag("rect", x=0, y=3, width=100, height=6, rx=1.5, class_="track"),
        tag("rect", x=0, y=3, width=max(min(part, 1.0) * 100, 1.0 if part > 0 else 0.0), height=6, class_="part"),
        viewBox="0 0 100 12",
        preserveAspectRatio="none",
        class_=f"bar tone-{'request' if good else 'failed'}",
        aria_hidden="true",
    )


def errors(report: LoadReport) -> Iterable[Markup]:
    """What went wrong, by class."""
    if not report.errors:
        return
    heads = [
        head("class"),
        head("of"),
        head("status", numeric=True),
        head("count", numeric=True),
        head("the first one said"),
    ]
    rows = [
        [
            row_head(each.kind),
            tag("td", each.where),
            cell(UNKNOWN if each.status is None else str(each.status)),
            cell(number(each.count)),
            tag("td", shown(each.example), class_="said"),
        ]
        for each in report.errors
    ]
    yield tag("h2", "Errors")
    yield table(heads, rows, "Errors")


def resources(report: LoadReport) -> Iterable[Markup]:
    """What the test took, and what the simulated server counted."""
    tokens = report.tokens
    rows = [
        (
            "processor",
            f"{seconds(report.cpu_seconds)}, {share(report.cpu_share)} of a core",
            "of the tester's process, in the window",
        ),
        ("memory before", known(size, report.memory_before), "resident, before the first run"),
        ("memory at most", known(size, report.memory_peak), "resident"),
        ("runs at once", number(report.peak_in_flight), "at most"),
        ("connections", known(number, report.connections), "open at once, at most"),
        ("tokens in", known(number, tokens.get("input")), "as the endpoint counted them"),
        ("tokens out", known(number, tokens.get("output")), "as the endpoint counted them"),
        ("tool calls", number(report.tool_calls), ""),
        ("retries", number(report.retries), "tries of a request after the first"),
        ("admission waits", number(report.gate_waits), "requests that had to wait for their admission"),
    ]
    yield tag("h2", "Resources")
    tester = _plain_table("The tester", rows)
    if report.server is None:
        yield tester
        return
    units = {"cpu_seconds": seconds, "cpu_share": share, "bytes_in": size, "bytes_out": size}
    served = [
        (name.replace("_", " "), units.get(name, number)(value), "") for name, value in report.server.items() if value
    ]
    yield tag("div", tester, _plain_table("The simulated server", served), class_="pair")


def asked(report: LoadReport) -> Iterable[Markup]:
    """The options, and what ran where."""
    options = [(name, option_in_words(value), "") for name, value in report.options.items() if value is not None]
    ran = [
        ("greenroom", report.greenroom, ""),
        ("python", report.python, ""),
        *((name, version, "") for name, version in report.libraries.items()),
        ("platform", report.platform, ""),
        ("cores", number(report.cores), "that the tester may use"),
        ("seed", str(report.seed), ""),
    ]
    yield tag("h2", "What ran")
    yield tag("div", _plain_table("Options", options), _plain_table("Versions and machine", ran), class_="pair")


def _plain_table(title: str, rows: Iterable[tuple[str, str, str]]) -> Markup:
    """Names and values."""
    lines = [[row_head(name, more), tag("td", shown(value), class_="words")] for name, value, more in rows]
    return table([head(title), head("")], lines, title)
