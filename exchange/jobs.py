"""The jobs of a dispatcher: who waits, until when, and who is being worked on. Pure.

Each job has a number, which is its place in the line for as long as it is not done. What is given back for later lies
in a heap by its moment and goes to its place when that has come.
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf


class Job:
    """One job. It is in somebody's hands if `taken`; `attempt` counts how often it was."""

    __slots__ = ("attempt", "data", "number", "run_id", "taken")

    def __init__(self, run_id: str, data: bytes, number: int) -> None:
        self.run_id = run_id
        self.data = data
        self.number = number
        self.attempt = 0
        self.taken = False


class Jobs:
    """At most `capacity` jobs that are not done.

    Raises:
        ValueError: a capacity below 1.
    """

    __slots__ = ("_count", "_jobs", "_later", "_line", "capacity")

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be 1 or more, not {capacity}")
        self.capacity = capacity
        self._count = 0
        self._jobs: dict[str, Job] = {}
        self._line: list[tuple[int, Job]] = []
        self._later: list[tuple[float, int, Job]] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, run_id: str, data: bytes) -> bool:
        """Put a job in the line, unless it is there already. False if there is no room."""
        if run_id in self._jobs:
            return True
        if len(self._jobs) >= self.capacity:
            return False
        self._count += 1
        job = self._jobs[run_id] = Job(run_id, data, self._count)
        heappush(self._line, (job.number, job))
        return True

    @property
    def next_at(self) -> float:
        """From when on there is a job to be had: -inf for at once, inf for never."""
        if self._line:
            return -inf
        return self._later[0][0] if self._later else inf

    def take(self, now: float) -> Job | None:
        """The job that has come first, if there is one to be had."""
        while self._later and self._later[0][0] <= now:
            _, number, job = heappop(self._later)
            heappush(self._line, (number, job))
        if not self._line:
            return None
        _, job = heappop(self._line)
        job.taken = True
        job.attempt += 1
        return job

    def settle(self, job: Job, attempt: int, back_at: float | None) -> bool:
        """A job is done (None), or is to be had again from that moment on. False if it is not in those hands."""
        if not job.taken or job.attempt != attempt:
            return False
        job.taken = False
        if back_at is None:
            del self._jobs[job.run_id]
        else:
            heappush(self._later, (back_at, job.number, job))
        return True
