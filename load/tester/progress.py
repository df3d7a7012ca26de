"""How a test goes, for whoever watches it: numbers, and a line of words."""

from __future__ import annotations

from math import isfinite

import msgspec

from .results import Phase
from .session import Session
from .units import number, per_second, seconds


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A test at one moment.

    Attributes:
        at: seconds since it began.
        ends: seconds after which nothing arrives any more; infinite where only a count was asked for.
        count: runs that were asked for; None where only a duration was.
        arrived: runs that have arrived after the warm-up.
        phase: as in `Moment`.
        ended, failed: runs, since the beginning.
        in_flight, waiting: runs at this moment.
        requests, retries: since the beginning.
        runs_per_second: of the last interval of the timeline.
        p50, p99: latency of runs in the window so far, in seconds; None before the first has ended.
        first_token: median time to first token likewise.
    """

    at: float
    ends: float
    count: int | None
    arrived: int
    phase: Phase
    ended: int
    failed: int
    in_flight: int
    waiting: int
    requests: int
    retries: int
    runs_per_second: float
    p50: float | None
    p99: float | None
    first_token: float | None

    @property
    def share(self) -> float:
        """How much of the test is over, from 0 to 1; of its duration or its count, whichever is further."""
        by_time = self.at / self.ends if self.ends else 1.0
        return min(max(by_time, self.arrived / self.count if self.count else 0.0), 1.0)


def progress_of(session: Session, ends: float, count: int | None) -> Progress:
    """How a session stands."""
    recorder = session.recorder
    counts, at = recorder.counts, session.at()
    last = session.sampler.moments[-1] if session.sampler.moments else None
    return Progress(
        at=at,
        ends=ends,
        count=count,
        arrived=session.arrived,
        phase=session.phase(at),
        ended=counts.ended,
        failed=counts.failed,
        in_flight=counts.in_flight,
        waiting=counts.waiting,
        requests=counts.requests,
        retries=counts.retries,
        runs_per_second=last.ended / last.seconds if last is not None else 0.0,
        p50=recorder.run_latency.quantile(0.5),
        p99=recorder.run_latency.quantile(0.99),
        first_token=recorder.first_token.quantile(0.5),
    )


def line_of(progress: Progress) -> str:
    """A test at one moment, in words."""
    goal = f" of {seconds(progress.ends)}" if isfinite(progress.ends) else ""
    parts = [f"{seconds(progress.at)}{goal}, {progress.phase}: {number(progress.in_flight)} in flight"]
    if progress.waiting:
        parts.append(f"{number(progress.waiting)} waiting")
    goal = f" of {number(progress.count)}" if progress.count else ""
    parts += [f"{number(progress.ended)}{goal} ended", per_second(progress.runs_per_second)]
    if progress.failed:
        parts.append(f"{number(progress.failed)} failed")
    if progress.retries:
        parts.append(f"{number(progress.retries)} retries")
    if progress.p50 is not None and progress.p99 is not None:
        parts.append(f"p50 {seconds(progress.p50)}, p99 {seconds(progress.p99)}")
    if progress.first_token is not None:
        parts.append(f"first token {seconds(progress.first_token)}")
    return ", ".join(parts)
