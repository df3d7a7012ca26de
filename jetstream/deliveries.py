"""A taker of jobs at a NATS server, at home: waiting for room first, then for a job.

A job that arrives for somebody who was cancelled is kept for the next one who waits. One that arrives when the taker
has left is given back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from weakref import ref

import anyio

from ..exchange import Delivery, Room, Stream
from ..exchange.bell import Bell
from ..exchange.dispatcher import kinds_in, places_in
from ..loops import RunningLoop
from .errors import EngineError
from .leases import Job, Leases
from .line import Line
from .pulls import Consumers, Pulls
from .questions import TRY


class Deliveries(Stream[Delivery]):
    """One taker: what has arrived, what it has in its hands, and the place in the room that each of these takes."""

    __slots__ = (
        *("__weakref__", "_arrived", "_bell", "_closed", "_free", "_held", "_kinds", "_leases", "_line", "_loop"),
        *("_pulls", "_scopes", "_waiting", "_wanted"),
    )

    def __init__(
        self, line: Line, consumers: Consumers, leases: Leases, free: Room | int, kinds: Collection[str]
    ) -> None:
        self._closed = True  # until there is something to close
        self._held: dict[object, Job] = {}
        self._arrived: deque[Job] = deque()
        self._free = places_in(free)
        self._line = line
        self._leases = leases
        self._bell = Bell()
        self._scopes: set[anyio.CancelScope] = set()  # of those who wait for room
        self._waiting = 0
        self._wanted = 0
        self._loop = RunningLoop()
        self._pulls = Pulls(line, consumers, leases, kinds_in(kinds), partial(_arrive, ref(self), line, leases))
        self._closed = False

    async def __anext__(self) -> Delivery:
        place = object()
        if self._closed or not await self._enter(place):
            raise StopAsyncIteration
        self._waiting += 1
        try:
            job = await self._next_job()
        except BaseException:
            self._free.release_on_behalf_of(place)
            raise
        finally:
            self._waiting -= 1
        self._held[place] = job
        return Delivery(
            job.run_id,
            job.data,
            job.attempt,
            partial(self._settle, place),
            is_lost=partial(self._is_lost, place),
            kind=job.kind,
        )

    async def _enter(self, place: object) -> bool:
        """Wait for room. False if this was closed meanwhile."""
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                await self._free.acquire_on_behalf_of(place)
            finally:
                self._scopes.discard(scope)
            if not self._closed:
                return True
            self._free.release_on_behalf_of(place)
        return False

    async def _next_job(self) -> Job:
        while not self._closed:
            while self._arrived:
                job = self._arrived.popleft()
                if not job.is_lost:
                    return job
            if self._wanted < self._waiting:
                self._wanted += 1
                self._line.post(self._pulls.want)
            await self._bell.wait()
        raise StopAsyncIteration

    def arrive(self, job: Job) -> bool:
        """Whether this takes it."""
        if self._closed:
            return False
        self._wanted -= 1
        self._arrived.append(job)
        self._bell.ring()
        return True

    def _settle(self, place: object, delay: float | None) -> None:
        job = self._held.pop(place, None)
        if job is None:  # it was closed before
            return
        self._free.release_on_behalf_of(place)
        with suppress(EngineError):  # the line was closed, and nothing is ours any more
            if delay is None:
                self._line.post(self._leases.done, job)
            else:
                self._line.post(self._leases.give_back, job, delay)

    def _is_lost(self, place: object) -> bool:
        job = self._held.get(place)
        return job is None or job.is_lost

    def _close(self) -> list[Job]:
        """What is to be given back."""
        self._closed = True
        jobs = [*self._held.values(), *self._arrived]
        for place in self._held:
            self._free.release_on_behalf_of(place)
        self._held.clear()
        self._arrived.clear()
        for scope in self._scopes:
            scope.cancel()
        self._bell.ring()
        return jobs

    async def aclose(self) -> None:
        if not self._closed:
            jobs = self._close()
            with suppress(EngineError), anyio.CancelScope(shield=True), anyio.move_on_after(2 * TRY):
                await self._line.call(self._pulls.leave, jobs)

    def _forsake(self) -> None:
        with suppress(EngineError):
            self._line.post(self._line.start, self._pulls.leave, self._close())

    def __del__(self) -> None:
        if not self._closed and (self._held or self._arrived or self._wanted):
            # Nobody has it or a delivery of it; the collector comes at any moment, in any thread.
            self._loop.run(self._forsake)


def _arrive(taker: ref[Deliveries], line: Line, leases: Leases, job: Job) -> None:
    line.home(_hand_over, taker, line, leases, job)


def _hand_over(to: ref[Deliveries], line: Line, leases: Leases, job: Job) -> None:
    """A job has come home."""
    taker = to()
    if taker is None or not taker.arrive(job):
        with suppress(EngineError):
            line.post(leases.give_back, job, 0.0)
