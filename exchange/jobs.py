"""The jobs of a dispatcher: who waits, until when, and who is being worked on. Pure.

Each kind of jobs has a line of its own. Each job has a number, which is its place in the line for as long as it is not
done. What is given back for later lies in a heap by its moment and goes to its place when that has come.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from math import inf


class Job:
    """One job. It is in somebody's hands if `taken`; `attempt` counts how often it was."""

    __slots__ = ("attempt", "data", "kind", "number", "run_id", "taken")

    def __init__(self, run_id: str, data: bytes, kind: str, number: int) -> None:
        self.run_id = run_id
        self.data = data
        self.kind = kind
        self.number = number
        self.attempt = 0
        self.taken = False


class Jobs:
    """At most `capacity` jobs that are not done.

    Raises:
        ValueError: a capacity below 1.
    """

    __slots__ = ("_count", "_jobs", "_kinds", "capacity")

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be 1 or more, not {capacity}")
        self.capacity = capacity
        self._count = 0
        self._jobs: dict[str, Job] = {}
        self._kinds: dict[str, _Kind] = {}  # those of which jobs wait

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, run_id: str, data: bytes, kind: str = "") -> bool:
        """Put a job in the line, unless it is there already. False if there is no room."""
        if run_id in self._jobs:
            return True
        if len(self._jobs) >= self.capacity:
            return False
        self._count += 1
        job = self._jobs[run_id] = Job(run_id, data, kind, self._count)
        self._of(kind).put(job)
        return True

    def next_at(self, kinds: Iterable[str]) -> float:
        """From when on there is a job of these kinds to be had: -inf for at once, inf for never."""
        return min((self._kinds[kind].next_at for kind in kinds if kind in self._kinds), default=inf)

    def take(self, now: float, kinds: Iterable[str]) -> Job | None:
        """The job of these kinds that has come first, if there is one to be had."""
        firsts = [(number, kind) for kind in kinds if (number := self._of(kind).first(now)) is not None]
        job: Job | None = None
        if firsts:
            job = self._kinds[min(firsts)[1]].take()
            job.taken = True
            job.attempt += 1
        for kind in kinds:
            if not self._kinds[kind]:
                del self._kinds[kind]
        return job

    def settle(self, job: Job, attempt: int, back_at: float | None) -> bool:
        """A job is done (None), or is to be had again from that moment on. False if it is not in those hands."""
        if not job.taken or job.attempt != attempt:
            return False
        job.taken = False
        if back_at is None:
            del self._jobs[job.run_id]
        else:
            self._of(job.kind).put_later(back_at, job)
        return True

    def _of(self, kind: str) -> _Kind:
        return self._kinds.setdefault(kind, _Kind())


class _Kind:
    """The jobs of one kind that wait."""

    __slots__ = ("_later", "_line")

    def __init__(self) -> None:
        self._line: list[tuple[int, Job]] = []
        self._later: list[tuple[float, int, Job]] = []

    def __bool__(self) -> bool:
        return bool(self._line or self._later)

    def put(self, job: Job) -> None:
        heappush(self._line, (job.number, job))

    def put_later(self, moment: float, job: Job) -> None:
        heappush(self._later, (moment, job.number, job))

    @property
    def next_at(self) -> float:
        if self._line:
            return -inf
        return self._later[0][0] if self._later else inf

    def first(self, now: float) -> int | None:
        """The number of the job that is first in line, when those whose moment has come are in it."""
        while self._later and self._later[0][0] <= now:
            self.put(heappop(self._later)[2])
        return self._line[0][0] if self._line else None

    def take(self) -> Job:
        return heappop(self._line)[1]
