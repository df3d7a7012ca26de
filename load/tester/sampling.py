"""The course of a test: a `Moment` for each interval, and the most that was seen of memory and connections.

Intervals begin short, so that a short test has a course too, and double when there are too many of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio

from ...providers import Connections
from ..report import present_memory
from .histogram import Histogram
from .recorder import Counts, Recorder
from .results import Moment, Phase

#: Seconds between two looks; what is between them is not seen of memory, connections, and progress.
LOOK = 0.125
SHORTEST = 0.25
#: Moments after which the interval doubles, and again after as many.
MOMENTS = 120


class Sampler:
    """Watches a test. `look` is called at any time, and makes a moment when the interval is over.

    Args:
        recorder: what is read.
        began: when the test began, by the recorder's clock.
        phase: the phase at a moment of the test, in seconds since it began.
        target: the target likewise.
        interval: seconds.
        connections: those of the event loop.
    """

    def __init__(
        self,
        recorder: Recorder,
        began: float,
        phase: Callable[[float], Phase],
        target: Callable[[float], float | None],
        interval: float,
        connections: Connections | None,
    ) -> None:
        self.now = recorder.now
        self.moments: list[Moment] = []
        self.memory_peak: int | None = None
        self.connections_peak = 0
        #: How much later than it was to be each look in the measured window was: how far the event loop is behind.
        self.lag = Histogram()
        #: Whether requests have had to wait for a connection.
        self.connections_short = False
        self._recorder = recorder
        self._began = began
        self._phase = phase
        self._target = target
        self._interval = interval
        self._connections = connections
        self._doubles_at = MOMENTS
        self._before: Counts = recorder.snapshot()
        self._since = 0.0
        self._cpu = time.process_time()

    def look(self, late: float = 0.0) -> None:
        """See how things stand, so many seconds late, and close the interval if it is over."""
        if self._recorder.measuring:
            self.lag.record(late)
        memory = self._look_around()
        if self._recorder.now() - self._began - self._since >= self._interval:
            self._close(memory)

    def end(self) -> None:
        """Close the last interval."""
        memory = self._look_around()
        if self._recorder.now() - self._began > self._since:
            self._close(memory)

    def _look_around(self) -> int | None:
        memory = present_memory()
        if memory is not None:
            self.memory_peak = max(memory, self.memory_peak or 0)
        if self._connections is not None:
            statistics = self._connections.statistics()
            self.connections_peak = max(self.connections_peak, statistics.leased + statistics.idle)
            self.connections_short = self.connections_short or statistics.waiting > 0
        return memory

    def _close(self, memory: int | None) -> None:
        recorder = self._recorder
        at, cpu, now = recorder.now() - self._began, time.process_time(), recorder.snapshot()
        before, seconds = self._before, at - self._since
        runs, first = recorder.take_recent()
        self.moments.append(
            Moment(
                at=at,
                seconds=seconds,
                phase=self._phase(at - seconds / 2),
                started=now.started - before.started,
                ended=now.ended - before.ended,
                failed=now.failed - before.failed,
                in_flight=now.in_flight,
                waiting=now.waiting,
                target=self._target(at),
                requests=now.requests - before.requests,
                retries=now.retries - before.retries,
                tokens=now.tokens - before.tokens,
                run_p50=runs.quantile(0.5),
                run_p99=runs.quantile(0.99),
                first_token_p50=first.quantile(0.5),
                first_token_p99=first.quantile(0.99),
                cpu=(cpu - self._cpu) / seconds,
                memory=memory,
            )
        )
        self._before, self._since, self._cpu = now, at, cpu
        if len(self.moments) >= self._doubles_at:
            self._interval *= 2
            self._doubles_at += MOMENTS


def interval_for(seconds: float | None) -> float:
    """The first interval for a test of so many seconds; None for one that is not known."""
    return SHORTEST if seconds is None else min(max(seconds / 60, SHORTEST), 60.0)


async def keep_looking(sampler: Sampler, watch: Callable[[], None] | None) -> None:
    """Look again and again, until it is cancelled; `watch` is called after each look."""
    now = sampler.now
    while True:
        before = now()
        await anyio.sleep(LOOK)
        sampler.look(now() - before - LOOK)
        if watch is not None:
            watch()
