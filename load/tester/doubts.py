"""What makes the figures of a load test doubtful: one line each, for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from .results import LoadReport

#: From this share of a core on, times are also those of whoever measures.
FULL = 0.9
#: Runs that begin so much later than they arrive, and an event loop that is so much behind, in seconds, say that the
#: tester is too slow.
LATE = 0.010
#: Below so many runs, percentiles say little.
FEW = 20
#: The share of runs above which failures change what the rest says.
FAILING = 0.01


def doubts(report: LoadReport, *, waited: bool, short_of_connections: bool, lag: float) -> tuple[str, ...]:
    """The warnings for a report that is complete but for them.

    Args:
        report: the figures.
        waited: whether runs had to wait because `max_in_flight` was reached.
        short_of_connections: whether requests had to wait for a connection.
        lag: how far the tester's event loop was behind, in seconds, on average.
    """
    return tuple(_doubts(report, waited, short_of_connections, lag))


def _doubts(report: LoadReport, waited: bool, short_of_connections: bool, lag: float) -> Iterator[str]:
    runs, latency = report.runs, report.run_latency
    completed = runs.get("completed", 0)
    if report.ended_by == "interrupted":
        yield "the test was interrupted: these are the figures up to then"
    if report.failures > FAILING:
        yield f"{_percent(report.failures)} of the runs failed; latencies are of those that completed"
    if report.cpu_share > FULL:
        yield (
            f"the tester used {_percent(report.cpu_share)} of its core: times include its own queue; "
            "ask for less load, or test from several processes"
        )
    elif lag > LATE:
        yield (
            f"the tester was {lag * 1000:.0f} ms behind on average, and times include that: "
            "the machine has other work, the load comes in bursts, or the workload blocks the event loop"
        )
    server = report.server.get("cpu_share", 0.0) if report.server is not None else 0.0
    if server > FULL:
        yield f"the simulated server used {_percent(server)} of its core: times include its queue"
    delay = report.start_delay
    if delay is not None and delay.p99 > LATE:
        if waited:
            yield (
                f"{_max_in_flight(report)} runs were in flight, as many as may be: others waited, 1 in 100 of them "
                f"more than {delay.p99:.3g} s; their latencies include it"
            )
        else:
            yield f"1 in 100 runs began more than {delay.p99 * 1000:.0f} ms late: the tester is too slow for this load"
    if short_of_connections:
        yield "requests waited for a free connection: allow more of them, or give the workload its width"
    if completed < FEW:
        ended = f"only {completed} run{'s' * (completed != 1)}" if completed else "no run"
        yield f"{ended} completed: percentiles of so few say little"
    elif latency is not None and report.window < 2 * latency.p50:
        yield "the window is shorter than two runs: throughput and CPU per run are those of a beginning"
    unfinished = runs.get("cut", 0) + runs.get("never_begun", 0)
    if unfinished and report.ended_by != "interrupted":
        yield f"{unfinished} runs had not ended when the drain was over: the longest latencies are missing"


def _max_in_flight(report: LoadReport) -> str:
    return f"{report.max_in_flight:,}" if report.max_in_flight is not None else "too many"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
