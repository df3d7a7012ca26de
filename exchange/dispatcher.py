"""Giving jobs to whoever has room for them: the protocol, and what a taker gets.

A dispatcher holds a bounded number of jobs that are *not done*: waiting, given back for later, or being worked on. One
more is refused at once, because a queue that makes its callers wait only hides that there is too much work. Jobs have
the ids of runs; while a job is not done its id stands for it, so whoever does not know whether it arrived submits it
again.

A job is handed out at least once, never to two takers that are both there. Who has it is a *delivery*, and its first
word counts: done, or given back. A taker that leaves without one gives it back: it closes its iterator, or drops it
together with its deliveries. What was done is for the journal to say, in which only one owner of a run can write: a job
that comes a second time does no harm.

First come, first served: a job that is given back has its old place in the line, and its next delivery is the next
attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol, Self

from .stream import Stream


class Delivery:
    """A job in the hands of its taker.

    As a block it is given back at the end, unless it was done.

    Args:
        run_id: whose job it is.
        job: the job.
        attempt: which delivery of this job it is, from 1.
        settle: called once at most, with what becomes of it: None if it is done, else the seconds after which it may
            be delivered again.
    """

    __slots__ = ("_settle", "attempt", "job", "run_id")

    def __init__(self, run_id: str, job: bytes, attempt: int, settle: Callable[[float | None], object]) -> None:
        self._settle: Callable[[float | None], object] | None = settle
        self.run_id = run_id
        self.job = job
        self.attempt = attempt

    def __repr__(self) -> str:
        return f"<Delivery of {self.run_id!r}, attempt {self.attempt}>"

    def done(self) -> None:
        """The job need not be delivered again. Without effect if it was given back."""
        self._say(None)

    def release(self, delay: float = 0.0) -> None:
        """Give it back; it is delivered again after so many seconds. Without effect if it is done.

        Raises:
            ValueError: a delay that is no number of seconds from 0 up.
        """
        if not 0 <= delay < inf:
            raise ValueError(f"delay must be 0 seconds or more, not {delay}")
        self._say(delay)

    def _say(self, word: float | None) -> None:
        settle, self._settle = self._settle, None
        if settle is not None:
            settle(word)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


class Room(Protocol):
    """Free room that takers share with others: an `anyio.CapacityLimiter`, or something like it."""

    async def acquire_on_behalf_of(self, borrower: object, /) -> None: ...

    def release_on_behalf_of(self, borrower: object, /) -> None: ...


class Dispatcher(Protocol):
    """Where jobs wait. `greenroom.testing` has a suite of tests for whoever writes another one."""

    async def submit(self, run_id: str, job: bytes) -> None:
        """Have the job done by somebody. Never waits for room. Without effect while a job of that id is not done.

        Cancelled, it may have been submitted or not: it may be repeated.

        Raises:
            Saturated: there are as many jobs as there may be.
        """
        ...

    def deliveries(self, free: Room | int) -> Stream[Delivery]:
        """Jobs as they come, as many at a time as there is room for. Closing it gives back what it has handed out.

        Its block belongs around the task group in which its deliveries are worked on, so that these end first: who is
        done with a job that was given back has no way to say so, and the job comes again.

        Args:
            free: a delivery takes one place in it until its word is said, and a taker that waits one more at most. A
                number stands for so many places.

        Raises:
            ValueError: a number below 1.
        """
        ...
