"""A dispatcher within one process: what becomes of its jobs is in `jobs`, here is the waiting.

A taker looks for a job, waits for room, and looks again: it takes room only when there is a job, and a job only when it
has room. The job leaves the line after the last await, so a taker that is cancelled, by scope or natively, has taken
nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import anyio

from ..loops import RunningLoop
from ..mailbox import Budget
from .bell import Bell
from .dispatcher import Delivery, Room, kinds_in, places_in
from .errors import Saturated
from .jobs import Job, Jobs
from .stream import Stream, as_bytes


class MemoryDispatcher:
    """Jobs in memory. They do not outlive the process. A taker that waits for a job takes no room.

    Args:
        capacity: how many jobs that are not done it holds.

    Raises:
        ValueError: a capacity below 1.
    """

    __slots__ = ("_bell", "_budget", "_jobs")

    def __init__(self, capacity: int = 10_000) -> None:
        self._jobs = Jobs(capacity)
        self._bell = Bell()
        self._budget = Budget()

    def __len__(self) -> int:
        """How many jobs are not done."""
        return len(self._jobs)

    async def submit(self, run_id: str, job: bytes, *, kind: str = "") -> None:
        data = as_bytes(job)
        await self._budget.spend()
        if not self._jobs.add(run_id, data, kind):
            raise Saturated(run_id, self._jobs.capacity)
        self._bell.ring()

    def deliveries(self, free: Room | int, kinds: Collection[str] = ("",)) -> Stream[Delivery]:
        return _Deliveries(self._jobs, self._bell, free, kinds)


class _Deliveries(Stream[Delivery]):
    """One taker: what it has in its hands, and the place in the room that each of these takes."""

    __slots__ = ("_bell", "_closed", "_free", "_held", "_jobs", "_kinds", "_loop", "_scopes")

    def __init__(self, jobs: Jobs, bell: Bell, free: Room | int, kinds: Collection[str]) -> None:
        self._held: dict[object, tuple[Job, int]] = {}
        self._free = places_in(free)
        self._kinds = kinds_in(kinds)
        self._jobs = jobs
        self._bell = bell
        self._scopes: set[anyio.CancelScope] = set()  # of those who wait for room
        self._closed = False
        self._loop = RunningLoop()

    async def __anext__(self) -> Delivery:
        place = object()
        while True:
            while not self._closed and (moment := self._jobs.next_at(self._kinds)) > anyio.current_time():
                await self._bell.wait(moment)
            if self._closed:
                raise StopAsyncIteration
            if await self._enter(place):
                job = None if self._closed else self._jobs.take(anyio.current_time(), self._kinds)
                if job is not None:
                    self._held[place] = (job, job.attempt)
                    return Delivery(
                        job.run_id,
                        job.data,
                        job.attempt,
                        partial(self._settle, place),
                        is_lost=partial(self._is_lost, place),
                        kind=job.kind,
                    )
                self._free.release_on_behalf_of(place)

    async def _enter(self, place: object) -> bool:
        """Wait for room. False if this was closed meanwhile."""
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                await self._free.acquire_on_behalf_of(place)
                return True
            finally:
                self._scopes.discard(scope)
        return False

    def _settle(self, place: object, delay: float | None) -> None:
        held = self._held.pop(place, None)
        if held is None:  # it was closed before
            return
        job, attempt = held
        self._jobs.settle(job, attempt, None if delay is None else anyio.current_time() + delay)
        self._free.release_on_behalf_of(place)
        self._bell.ring()

    def _is_lost(self, place: object) -> bool:
        return place not in self._held

    def _close(self) -> None:
        self._closed = True
        for place in list(self._held):
            self._settle(place, 0.0)
        for scope in self._scopes:
            scope.cancel()
        self._bell.ring()

    async def aclose(self) -> None:
        self._close()

    def __del__(self) -> None:
        if self._held:  # nobody has it or a delivery of it; the collector comes at any moment, in any thread
            self._loop.run(self._close)
