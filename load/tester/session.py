"""One load test as it goes: runs begin when the schedule says so, are followed to their end, and are cut at last.

In a closed loop there are workers, each of which runs one iteration after the other; in an open loop each arrival is a
task of its own, as long as there is room, and waits for another one's end where there is none. What waits is charged
for its waiting, because its latency counts from its arrival.

Nothing arrives any more when the duration is over, when as many runs as were asked for have arrived, or when somebody
has ended the test. Then the runs that are in flight have the time of the drain to end; an interrupted test cuts them at
once. A test of a duration measures up to the end of the duration, and follows the runs that arrived until then; a test
of a count measures until the last run has ended.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from random import Random

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from ...actors.crashes import is_crash
from .arrivals import arrivals, even, poisson, workers
from .demand import Demand
from .measured import metering
from .meter import Meter
from .recorder import Counts, Recorder, outcome_of_run
from .results import EndedBy, Phase
from .sampling import Sampler, interval_for, keep_looking
from .workloads import Iteration, Surroundings, Workload

#: Arrivals that are begun in one go, when the tester is late, before others get their turn.
AT_ONCE = 32


class Session:
    """Carries out one test.

    Args:
        demand: the load.
        workload: what is run.
        around: what the iterations share.

    Attributes:
        began: when the test began, by the recorder's clock; so are the other moments.
        ended: when everything was over.
        window_began, window_ended: the measured window; equal where nothing was measured.
        before, after: the counts at both.
        cpu: processor time of the process in between, in seconds.
        arrived: runs that have arrived in the window.
        ended_by: why nothing arrives any more.
        sampler: the course of the test; there once it has begun.
    """

    sampler: Sampler

    def __init__(self, demand: Demand, workload: Workload, around: Surroundings) -> None:
        self._demand = demand
        self._function = workload.function
        self._around = around
        self.recorder: Recorder = around.recorder
        self._now = around.recorder.now
        self._number = 0
        self.arrived = 0
        self._arrived_all: float | None = None
        # Closed loop: workers there are, and how many there may be. Open loop: places taken, and who waits for one.
        self._working = 0
        self._allowed = 0
        self._taken = 0
        self._waiting: deque[tuple[int, float]] = deque()
        self._arriving = CancelScope()
        self._runs = CancelScope()
        self.began = self.ended = self.window_began = self.window_ended = 0.0
        self.before = self.after = Counts()
        self.cpu = 0.0
        self._cpu_before = 0.0
        self.ended_by: EndedBy = "duration"

    async def perform(self, until: anyio.Event | None = None, watch: Callable[[Session], None] | None = None) -> None:
        """Carry out the test; it ends early when `until` is set. `watch` is called now and then."""
        demand = self._demand
        self.began = self.window_began = self.window_ended = self._now()
        interval = interval_for(None if demand.duration is None else demand.ends)
        connections = self._around.connections
        self.sampler = Sampler(self.recorder, self.began, self.phase, self.target, interval, connections)
        if demand.warm_up == 0:
            self._open_window()
        async with anyio.create_task_group() as around:
            around.start_soon(keep_looking, self.sampler, None if watch is None else lambda: watch(self))
            if until is not None:
                around.start_soon(self._heed, until)
            if demand.warm_up > 0:
                around.start_soon(self._warm_up)
            with self._runs:
                async with anyio.create_task_group() as group:
                    with self._arriving:
                        if until is not None and until.is_set():
                            self.ended_by = "interrupted"
                        else:
                            await (self._closed_loop(group) if demand.mode == "closed" else self._open_loop(group))
                    self._end_arrivals()
            self._close_window()
            around.cancel_scope.cancel()
        self.recorder.counts.waiting = 0
        self.ended = self._now()
        self.sampler.end()

    # -- the course

    def at(self) -> float:
        """Seconds since the test began."""
        return self._now() - self.began

    def phase(self, at: float) -> Phase:
        """The phase at a moment, in seconds since the test began."""
        if self._arrived_all is not None and at >= self._arrived_all:
            return "drain"
        if at < self._demand.warm_up:
            return "warm-up"
        return "ramp" if self._demand.profile.changes_at(at) else "steady"

    def target(self, at: float) -> float | None:
        """What is asked for at a moment likewise; None in the drain."""
        return None if self.phase(at) == "drain" else self._demand.profile.target(at)

    async def _warm_up(self) -> None:
        await self._sleep_until(self._demand.warm_up)
        if self._arrived_all is None:
            self._open_window()

    def _open_window(self) -> None:
        self.recorder.measuring = True
        self._cpu_before = time.process_time()
        self.before = self.recorder.snapshot()
        self.window_began = self._now()

    def _close_window(self) -> None:
        if self.recorder.measuring:
            self.recorder.measuring = False
            self.cpu = time.process_time() - self._cpu_before
            self.after = self.recorder.snapshot()
            self.window_ended = self._now()

    def _end_arrivals(self) -> None:
        """Nothing arrives any more."""
        self._arrived_all = self.at()
        self._allowed = 0
        if self.ended_by != "count":
            self._close_window()
        if self.ended_by == "interrupted":
            self._runs.cancel()
        else:
            self._runs.deadline = anyio.current_time() + self._demand.drain

    async def _heed(self, until: anyio.Event) -> None:
        await until.wait()
        self.ended_by = "interrupted"
        self._arriving.cancel()
        if self._arrived_all is not None:
            self._runs.cancel()  # it was at the drain already

    def _is_sampled(self, arrival: float) -> bool:
        return arrival - self.began >= self._demand.warm_up

    def _take_number(self, arrival: float) -> int | None:
        """The number of a run that arrives; None if there were enough."""
        count = self._demand.count
        if self._is_sampled(arrival):
            if self.arrived == count:
                return None
            self.arrived += 1
            if self.arrived == count:
                self.ended_by = "count"
                self._arriving.cancel()
        self._number += 1
        return self._number - 1

    async def _sleep_until(self, at: float) -> None:
        """Sleep until so many seconds after the beginning."""
        left = at - self.at()
        if left > 0:
            await anyio.sleep(left)

    # -- closed loop

    async def _closed_loop(self, group: TaskGroup) -> None:
        ends = self._demand.ends
        for at, number in workers(self._demand.profile):
            if at >= ends:
                break
            await self._sleep_until(at)
            self._allowed = number
            while self._working < number:
                self._working += 1
                group.start_soon(self._work)
        await (anyio.sleep_forever() if ends == float("inf") else self._sleep_until(ends))

    async def _work(self) -> None:
        """One worker: iterations, one after the other, for as long as there is room for it."""
        try:
            while self._working <= self._allowed:
                begun = self._now()
                number = self._take_number(begun)
                if number is None:
                    break
                self.recorder.run_arrived(waits=False)
                await self._iterate(number, begun, waited=False)
                await checkpoint()  # it may have waited for nothing, and others must get their turn
        finally:
            self._working -= 1

    # -- open loop

    async def _open_loop(self, group: TaskGroup) -> None:
        demand = self._demand
        gaps = even() if demand.arrivals == "even" else poisson(Random(f"{self._around.seed}:arrivals").random)
        late = 0
        for at in arrivals(demand.profile, gaps):
            if at >= demand.ends:
                break
            if at > self.at():
                await self._sleep_until(at)
                late = 0
            elif (late := late + 1) % AT_ONCE == 0:
                await checkpoint()
            arrival = self.began + at
            number = self._take_number(arrival)
            if number is None:
                return
            self._arrive(group, number, arrival)
        await self._sleep_until(demand.ends)

    def _arrive(self, group: TaskGroup, number: int, arrival: float) -> None:
        full = self._taken >= self._demand.room
        self.recorder.run_arrived(waits=full)
        if full:
            self._waiting.append((number, arrival))
        else:
            self._taken += 1
            group.start_soon(self._fill_place, number, arrival)

    async def _fill_place(self, number: int, arrival: float) -> None:
        """Run what has arrived, and then who waits for its place."""
        try:
            await self._iterate(number, arrival, waited=False)
            while self._waiting:
                number, arrival = self._waiting.popleft()
                await self._iterate(number, arrival, waited=True)
                await checkpoint()
        finally:
            self._taken -= 1

    # -- one run

    async def _iterate(self, number: int, arrival: float, *, waited: bool) -> None:
        recorder, meter, sampled = self.recorder, Meter(number), self._is_sampled(arrival)
        it = Iteration(number, self._around, meter)
        metering.set(meter)
        recorder.run_started(arrival, self._now(), waited, sampled)
        outcome, error = "cut", None
        try:
            await self._function(it)
            outcome = it.status
        except BaseException as raised:
            # A workload that exits must not take the report along.
            if not (is_crash(raised) or isinstance(raised, SystemExit)):
                raise
            outcome, error = outcome_of_run(raised), raised
        finally:
            recorder.run_ended(arrival, meter, outcome, error, sampled)
