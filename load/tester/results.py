"""What a load test found: plain data, written as JSON and read back.

Times are in seconds, sizes in bytes, everything else is a count, unless a field says otherwise; the wall time is ISO
8601 in UTC. A *run* of a report is one call of the workload's function, from its arrival to its end, whatever agents it
runs; a *request* is one request to the model, tries that failed among them.

A field that is None was not measured: no answer was streamed, the endpoint counted no tokens, the system does not say.
That is never written as zero. `FORMAT` counts up when an older reader would misread a report; fields that only come
on top do not change it, and a reader passes over those that it does not know.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

FORMAT = 1

Mode: TypeAlias = Literal["closed", "open"]
Phase: TypeAlias = Literal["warm-up", "ramp", "steady", "drain"]
EndedBy: TypeAlias = Literal["duration", "count", "interrupted"]


class BadReport(ValueError):
    """A file is no load report, or not one that this version can read; the text says why, in one line."""


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """Samples of one quantity, in seconds.

    Attributes:
        count: how many; at least 1.
        mean, minimum, maximum: exact.
        p50, p90, p95, p99, p999: so much of the samples is at or below it (0.5, 0.9, 0.95, 0.99, 0.999), within 1 %.
        buckets: where the samples lie: the upper bound of a bucket and the samples in it, ascending, without the
            empty ones. A bound is at most 1 % above every sample of its bucket.
    """

    count: int
    mean: float
    minimum: float
    maximum: float
    p50: float
    p90: float
    p95: float
    p99: float
    p999: float
    buckets: tuple[tuple[float, int], ...] = ()


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One interval of the timeline.

    Attributes:
        at: its end, in seconds since the test began.
        seconds: its length.
        phase: ``warm-up`` (nothing is measured), ``ramp`` (the target changes), ``steady``, or ``drain`` (nothing
            arrives any more).
        started: runs that began in it.
        ended: runs that ended in it, however.
        failed: of these, those that failed.
        in_flight: runs at work at its end.
        waiting: runs that have arrived and not begun, at its end.
        target: what was asked for at its end: runs in flight (closed loop) or arrivals per second (open loop); None
            in the drain.
        requests: requests to the model that ended in it.
        retries: tries after the first that were announced in it.
        tokens: output tokens of the requests that ended in it.
        run_p50, run_p99: latency of the runs that ended in it, in seconds; None where there was none.
        first_token_p50, first_token_p99: time to first token, in seconds; None where there was none.
        cpu: processor time of the tester's process, as a share of one core (1.0 is one core full).
        memory: resident bytes of the tester's process at its end; None where the system does not say.
    """

    at: float
    seconds: float
    phase: Phase
    started: int
    ended: int
    failed: int
    in_flight: int
    waiting: int
    target: float | None
    requests: int
    retries: int
    tokens: int
    run_p50: float | None
    run_p99: float | None
    first_token_p50: float | None
    first_token_p99: float | None
    cpu: float
    memory: int | None


class Stage(msgspec.Struct, frozen=True):
    """One leg of a load that changes: within `seconds` it goes in a straight line to `target`.

    Attributes:
        seconds: how long the leg is.
        target: runs in flight (closed loop) or arrivals per second (open loop) at its end.
    """

    seconds: float
    target: float


class ErrorClass(msgspec.Struct, frozen=True, kw_only=True):
    """Failures of one class, in the measured window.

    Attributes:
        where: ``request`` (one try of a request to the model) or ``run`` (what a run failed with in the end).
        kind: the class in a word: a `ProviderError`'s `kind`, else the name of the exception.
        status: the HTTP status, where there was one.
        count: how many.
        example: the message of the first one, in one line, without secrets.
    """

    where: Literal["request", "run"]
    kind: str
    status: int | None
    count: int
    example: str


class LoadReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a load test found. Figures are of the measured window, which the warm-up is not part of.

    A run belongs to the window by its arrival: those that arrived in it are followed to their end, also when that is
    in the drain after it. A request belongs to it when it begins in it. Rates and the processor's time are those of the
    window itself.

    Attributes:
        format: of this record, see `FORMAT`.
        greenroom, python, platform: what ran: versions, and the system in words.
        cores: of the machine, as far as this process may use them.
        libraries: versions, by name.
        began: when the test began, ISO 8601 in UTC.
        seconds: from there to the end of the drain.
        window: length of the measured window.
        workload: its name.
        about: what it does, in a line.
        options: what the test was asked for, as it was given, without secrets.
        target: ``simulated``, or the endpoint's URL without credentials and query.
        model: the model's name.
        backend: ``asyncio``, ``uvloop`` or ``trio``.
        seed: of arrivals, workload and simulated model.
        streamed: whether answers were streamed.
        mode: ``closed``: so many runs in flight, a new one begins when one ends; ``open``: runs arrive at a rate,
            whatever became of those before.
        concurrency: runs in flight that were asked for; None in an open loop.
        rate: arrivals per second that were asked for; None in a closed loop.
        arrivals: ``poisson`` or ``even`` spacing; None in a closed loop.
        ramp: seconds in which the load grows from nothing to its target.
        stages: the legs of the load, where it was given as such; `ramp` is then 0.
        duration: seconds that were asked for, None where only a count was.
        count: runs that were asked for, None where only a duration was.
        warm_up: seconds at the beginning that are not measured.
        max_in_flight: runs in flight at most; None where nothing bounds them but `concurrency`.
        ended_by: ``duration`` or ``count`` (whichever came first), or ``interrupted``.
        runs: by what became of them: ``arrived`` is the sum of the others: ``completed``, ``failed``, ``limited`` (a
            limit of the agent), ``stopped`` (by the workload itself), ``cut`` (in flight when the test was ended),
            ``never_begun`` (waiting when it was ended).
        requests: by what became of them: ``ok``, ``rate_limited`` (429), ``server_errors`` (5xx), ``interrupted``
            (connection lost during the answer), ``stalled`` (a deadline passed), ``unconnected`` (nothing was sent),
            ``refused`` (for what was asked: 4xx), ``other`` (a reply that cannot be read, and the like), ``cut`` (given
            up because its run was).
        errors: by class, most frequent first.
        retries: tries after the first.
        tool_calls: calls of tools that ended.
        gate_waits: requests that had to wait for their admission to the provider.
        tokens: ``input`` and ``output``, as the endpoint counted them; a name is missing where it did not.
        run_latency: of completed runs, from their (intended) arrival to their end.
        request_latency: of requests that were answered, from sending to the last byte.
        first_token: of streamed requests, from sending to the first piece of content.
        per_token: of streamed requests: from the first piece to the last, by output tokens less one (TPOT).
        between_pieces: time between two pieces of one streamed answer (ITL).
        gate_wait: of the requests that had to wait for their admission.
        start_delay: how much later than it arrived each run began.
        overhead: of completed runs: the time within agent runs in which no request, tool, gate or pause between tries
            was waited for, that is what the runtime added.
        runs_per_second: runs that ended in the window, by its length; whether they completed or not.
        requests_per_second: requests that ended in the window, by its length.
        tokens_per_second: output tokens of those, by its length; None where the endpoint did not count them.
        cpu_seconds: processor time of the tester's process in the window.
        cpu_share: that by the window's length: 1.0 is one core full.
        cpu_per_run: that by the runs that ended in the window; None where none did.
        memory_before: resident bytes before the first run; None where the system does not say.
        memory_peak: most resident bytes seen.
        memory_per_run: growth at the peak, by `peak_in_flight`; None where that is below 10.
        peak_in_flight: most runs at work at once.
        connections: most connections to the endpoint open at once; None where nobody knows.
        server: what the simulated server counted, its processor time (``cpu_seconds``) and that as a share of one
            core during the test (``cpu_share``); None at a real endpoint.
        warnings: what makes the figures doubtful, each one line.
        timeline: the course of the test.
    """

    format: int = FORMAT
    greenroom: str
    python: str
    platform: str
    cores: int
    libraries: dict[str, str] = {}
    began: str
    seconds: float
    window: float
    workload: str
    about: str = ""
    options: dict[str, Any] = {}
    target: str
    model: str
    backend: str
    seed: int
    streamed: bool = False
    mode: Mode
    concurrency: int | None = None
    rate: float | None = None
    arrivals: Literal["poisson", "even"] | None = None
    ramp: float = 0.0
    stages: tuple[Stage, ...] = ()
    duration: float | None = None
    count: int | None = None
    warm_up: float = 0.0
    max_in_flight: int | None = None
    ended_by: EndedBy
    runs: dict[str, int]
    requests: dict[str, int]
    errors: tuple[ErrorClass, ...] = ()
    retries: int = 0
    tool_calls: int = 0
    gate_waits: int = 0
    tokens: dict[str, int] = {}
    run_latency: Distribution | None = None
    request_latency: Distribution | None = None
    first_token: Distribution | None = None
    per_token: Distribution | None = None
    between_pieces: Distribution | None = None
    gate_wait: Distribution | None = None
    start_delay: Distribution | None = None
    overhead: Distribution | None = None
    runs_per_second: float = 0.0
    requests_per_second: float = 0.0
    tokens_per_second: float | None = None
    cpu_seconds: float = 0.0
    cpu_share: float = 0.0
    cpu_per_run: float | None = None
    memory_before: int | None = None
    memory_peak: int | None = None
    memory_per_run: float | None = None
    peak_in_flight: int = 0
    connections: int | None = None
    server: dict[str, float] | None = None
    warnings: tuple[str, ...] = ()
    timeline: tuple[Moment, ...] = ()

    @property
    def failures(self) -> float:
        """The share of runs (0 to 1) that failed, of those that came to an end of their own; 0 where none did."""
        failed = self.runs.get("failed", 0)
        ended = failed + sum(self.runs.get(name, 0) for name in ("completed", "limited", "stopped"))
        return failed / ended if ended else 0.0


class _Head(msgspec.Struct, frozen=True):
    """What is looked at before the rest is believed."""

    format: int
    runs: dict[str, int]
    timeline: tuple[Any, ...]


def write_report(report: LoadReport) -> bytes:
    """The report as JSON, one line, in UTF-8; `read_report` reads it."""
    return msgspec.json.encode(report)


def read_report(data: bytes | str) -> LoadReport:
    """The report that `write_report` wrote.

    Raises:
        BadReport: it is damaged, of another format, or no report at all.
    """
    try:
        head = msgspec.json.decode(data, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadReport(f"no load report: {_line(error)}") from None
    if head.format != FORMAT:
        newer = head.format > FORMAT
        remedy = "it is of a newer greenroom, read it with that one" if newer else "test again with this greenroom"
        raise BadReport(f"a load report of format {head.format}, not {FORMAT}: {remedy}")
    try:
        return msgspec.json.decode(data, type=LoadReport)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadReport(f"a damaged load report: {_line(error)}") from None


def open_report(path: str | Path) -> LoadReport:
    """The report in a file.

    Raises:
        BadReport: the file cannot be opened, or holds none; the text names it.
    """
    try:
        return read_report(Path(path).read_bytes())
    except OSError as error:
        raise BadReport(f"{path}: {error.strerror or error}") from None
    except BadReport as error:
        raise BadReport(f"{path}: {error}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
