"""What is measured as it happens: counters, histograms, and examples of what failed.

Nothing is kept for each run or request, so a test of a million runs takes the memory of one of a thousand. There are
two sets of numbers. `Counts` go up from the first run to the last; whoever wants those of a stretch of time takes the
difference of two snapshots, as the timeline and the rates of the measured window do. The distributions, outcomes and
errors are those of the *sample*: runs that arrived, and requests that began, in the measured window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, cast

import msgspec

from ...actors.exits import sole
from ...agents import LimitExceeded
from ...agents.trace import printable
from ...providers import ProviderError, Usage
from .histogram import Histogram
from .meter import Meter
from .results import ErrorClass

#: Characters of an error's message that a report quotes.
EXAMPLE = 300
#: Classes of errors that are told apart; further ones count as ``others``.
CLASSES = 50

_OUTCOMES = {
    "rate_limit": "rate_limited",
    "overloaded": "server_errors",
    "interrupted": "interrupted",
    "stalled": "stalled",
    "connection": "unconnected",
    "auth": "refused",
    "invalid_request": "refused",
    "context_overflow": "refused",
    "content_filter": "refused",
}


class Counts(msgspec.Struct):
    """Counts since the beginning of the test, and how many runs there are now (`in_flight`, `waiting`).

    `requests` and `tokens` (output tokens) are of requests that have ended.
    """

    arrived: int = 0
    started: int = 0
    ended: int = 0
    failed: int = 0
    in_flight: int = 0
    waiting: int = 0
    requests: int = 0
    retries: int = 0
    tokens: int = 0


class Recorder:
    """What a load test has measured so far.

    Args:
        now: the clock, in seconds.
        secrets: texts that must not show in examples of errors.

    Attributes:
        measuring: whether what begins at this moment belongs to the sample.
        counts: since the beginning.
        recent_runs, recent_first: latencies of runs, and times to first token, since `take_recent`.
    """

    def __init__(self, now: Callable[[], float], secrets: Sequence[str] = ()) -> None:
        self.now = now
        self.measuring = False
        self.counts = Counts()
        self.peak_in_flight = 0
        self.recent_runs = Histogram()
        self.recent_first = Histogram()
        self.runs: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.retries = 0
        self.tool_calls = 0
        self.streamed = 0
        self.run_latency = Histogram()
        self.request_latency = Histogram()
        self.first_token = Histogram()
        self.per_token = Histogram()
        self.between_pieces = Histogram()
        self.gate_wait = Histogram()
        self.start_delay = Histogram()
        self.overhead = Histogram()
        self._secrets = sorted((each for each in secrets if each), key=len, reverse=True)
        self._errors: Counter[tuple[str, str, int | None]] = Counter()
        self._examples: dict[tuple[str, str, int | None], str] = {}

    # -- runs

    def run_arrived(self, waits: bool) -> None:
        """A run is to begin, at once or when there is room for it."""
        self.counts.arrived += 1
        self.counts.waiting += waits

    def run_started(self, arrival: float, begun: float, waited: bool, sampled: bool) -> None:
        """A run begins that was to begin at `arrival`."""
        counts = self.counts
        counts.started += 1
        counts.waiting -= waited
        counts.in_flight += 1
        if counts.in_flight > self.peak_in_flight:
            self.peak_in_flight = counts.in_flight
        if sampled:
            self.start_delay.record(begun - arrival)

    def run_ended(self, arrival: float, meter: Meter, outcome: str, error: BaseException | None, sampled: bool) -> None:
        """A run has ended. `outcome` is a key of `LoadReport.runs`; `error` is what it has failed with."""
        ended = self.now()
        outcome = "stopped" if outcome == "waiting" else outcome  # nobody is there to approve anything
        counts = self.counts
        counts.in_flight -= 1
        counts.ended += 1
        counts.failed += outcome == "failed"
        if outcome == "completed":
            self.recent_runs.record(ended - arrival)
        if not sampled:
            return
        self.runs[outcome] += 1
        if outcome == "completed":
            self.run_latency.record(ended - arrival)
            self.overhead.record(meter.overhead)
        if error is not None:
            self._note("run", error)

    # -- requests

    def request_ended(
        self, seconds: float, waited: float, usage: Usage | None, error: BaseException | None, sampled: bool
    ) -> None:
        """A request has ended, `seconds` after it was made; `waited` of them at the gate."""
        counts = self.counts
        counts.requests += 1
        tokens = usage.output_tokens if usage is not None else None
        if tokens is not None:
            counts.tokens += tokens
        if not sampled:
            return
        if waited:
            self.gate_wait.record(waited)
        if error is None:
            self.requests["ok"] += 1
            self.request_latency.record(seconds - waited)
            if usage is not None:
                self._use("input", usage.input_tokens)
                self._use("output", tokens)
            return
        outcome = outcome_of(error)
        self.requests[outcome] += 1
        if outcome != "cut":
            self._note("request", error)

    def first_piece(self, seconds: float, sampled: bool) -> None:
        """The first piece of a streamed answer has come so long after its request was sent."""
        self.recent_first.record(seconds)
        if sampled:
            self.first_token.record(seconds)

    def retrying(self) -> None:
        """A request failed and is made again."""
        self.counts.retries += 1
        self.retries += self.measuring

    def tool_ended(self) -> None:
        """A tool call has a result."""
        self.tool_calls += self.measuring

    def _use(self, name: str, tokens: int | None) -> None:
        if tokens is not None:
            self.tokens[name] += tokens

    # -- what it adds up to

    def snapshot(self) -> Counts:
        """The counts as they are now."""
        return msgspec.structs.replace(self.counts)

    def take_recent(self) -> tuple[Histogram, Histogram]:
        """Latencies of runs, and times to first token, since this was asked last."""
        taken = self.recent_runs, self.recent_first
        self.recent_runs, self.recent_first = Histogram(), Histogram()
        return taken

    def errors(self) -> tuple[ErrorClass, ...]:
        """What has failed, by class, most frequent first."""
        found = [
            ErrorClass(
                where="run" if where == "run" else "request",
                kind=kind,
                status=status,
                count=count,
                example=self._examples[where, kind, status],
            )
            for (where, kind, status), count in self._errors.items()
        ]
        return tuple(sorted(found, key=lambda each: (-each.count, each.where, each.kind, each.status or 0)))

    def _note(self, where: Literal["request", "run"], error: BaseException) -> None:
        error = _bare(error)
        status = error.status if isinstance(error, ProviderError) else None
        key = where, error.kind if isinstance(error, ProviderError) else type(error).__name__, status
        if key not in self._errors and len(self._errors) >= CLASSES:
            key = where, "others", None
        if key not in self._errors:
            self._examples[key] = self._in_a_line(error)
        self._errors[key] += 1

    def _in_a_line(self, error: BaseException) -> str:
        try:
            words = " ".join(str(error).split())
        except Exception:
            words = "its message cannot be read"
        for secret in self._secrets:
            words = words.replace(secret, "[key]")
        words = printable(words)
        return words if len(words) <= EXAMPLE else words[: EXAMPLE - 1] + "…"


def outcome_of(error: BaseException) -> str:
    """The key of `LoadReport.requests` that an error counts under."""
    if isinstance(error, ProviderError):
        return _OUTCOMES.get(error.kind, "other")
    return "other" if isinstance(error, Exception) else "cut"


def outcome_of_run(error: BaseException) -> str:
    """The key of `LoadReport.runs` that an error of its code counts under; a cancellation is none."""
    return "limited" if isinstance(_bare(error), LimitExceeded) else "failed"


def _bare(error: BaseException) -> BaseException:
    """The one error in a group, if there is just one."""
    return sole(cast("BaseExceptionGroup[BaseException]", error)) if isinstance(error, BaseExceptionGroup) else error
