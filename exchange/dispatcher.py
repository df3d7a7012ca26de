"""Giving jobs to whoever has room for them: the protocol, and what a taker gets.

A dispatcher holds a bounded number of jobs that are *not done*: waiting, given back for later, or being worked on. One
more is refused at once, because a queue that makes its callers wait only hides that there is too much work. Jobs have
the ids of runs; while a job is not done its id stands for it, so whoever does not know whether it arrived submits it
again.

A job is handed out at least once, never to two takers that are both there. Who has it is a *delivery*, and its first
word counts: done, or given back. A taker that leaves without one gives it back: it closes its iterator, or drops it
together with its deliveries. What was done is for the journal to say, in which only one owner of a run can write: a job
that comes a second time does no harm.

A job has a *kind*, which says who can do it: a process takes jobs of the kinds that it names. An id has one kind for as
long as its job is not done.

First come, first served within a kind: a job that is given back has its old place in the line, and its next delivery is
the next attempt.

Who has a job must be there: of a process that was stopped for long, or cut off, nobody knows whether it comes back, and
its job goes to somebody else. Its delivery is *lost* then, and its words are without effect.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import inf
from typing import Protocol, Self, cast

import anyio

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
        is_lost: whether it is in somebody else's hands by now, or may be.
        kind: of the job.
    """

    __slots__ = ("_is_lost", "_settle", "attempt", "job", "kind", "run_id")

    def __init__(
        self,
        run_id: str,
        job: bytes,
        attempt: int,
        settle: Callable[[float | None], object],
        *,
        is_lost: Callable[[], bool],
        kind: str = "",
    ) -> None:
        self._settle: Callable[[float | None], object] | None = settle
        self._is_lost: Callable[[], bool] | None = is_lost
        self.run_id = run_id
        self.job = job
        self.attempt = attempt
        self.kind = kind

    def __repr__(self) -> str:
        return f"<Delivery of {self.run_id!r}, attempt {self.attempt}>"

    @property
    def lost(self) -> bool:
        """Whether the job may be in somebody else's hands, although its word was not said: its taker was closed, or was
        not heard of for too long. What is still done for it is done for nothing."""
        return self._is_lost is not None and self._is_lost()

    def done(self) -> None:
        """The job need not be delivered again. Without effect if it was given back, or is lost."""
        self._say(None)

    def release(self, delay: float = 0.0) -> None:
        """Give it back; it is delivered again after so many seconds. Without effect if it is done, or lost.

        Raises:
            ValueError: a delay that is no number of seconds from 0 up.
        """
        if not 0 <= delay < inf:
            raise ValueError(f"delay must be 0 seconds or more, not {delay}")
        self._say(delay)

    def _say(self, word: float | None) -> None:
        settle, self._settle, self._is_lost = self._settle, None, None
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

    async def submit(self, run_id: str, job: bytes, *, kind: str = "") -> None:
        """Have the job done by somebody who takes that kind. Never waits for room. Without effect while a job of that
        id is not done.

        Cancelled, it may have been submitted or not: it may be repeated.

        Raises:
            Saturated: there are as many jobs as there may be, of all kinds together.
        """
        ...

    def deliveries(self, free: Room | int, kinds: Collection[str] = ("",)) -> Stream[Delivery]:
        """Jobs as they come, as many at a time as there is room for. Closing it gives back what it has handed out.

        Its block belongs around the task group in which its deliveries are worked on, so that these end first: who is
        done with a job that was given back has no way to say so, and the job comes again.

        Args:
            free: a delivery takes one place in it until its word is said, and a taker that waits one more at most. A
                number stands for so many places.
            kinds: of which kinds; by default those that were submitted without one.

        Raises:
            TypeError: `kinds` is one text, or holds something else than texts.
            ValueError: a number below 1, or no kinds.
        """
        ...


def places_in(free: Room | int) -> Room:
    """The room that an argument ``free=`` means.

    Raises:
        ValueError: a number below 1.
    """
    if not isinstance(free, int):
        return free
    if free < 1:
        raise ValueError(f"free must be 1 or more, not {free}")
    return anyio.CapacityLimiter(free)


def kinds_in(kinds: object) -> tuple[str, ...]:
    """The kinds that an argument ``kinds=`` names, each once.

    Raises:
        TypeError: it is one text, or holds something else than texts.
        ValueError: there are none.
    """
    if isinstance(kinds, str) or not isinstance(kinds, Collection):
        raise TypeError(f"kinds takes a collection of texts, such as ('writer',), not {kinds!r:.100}")
    found: dict[str, None] = {}
    for each in cast("Collection[object]", kinds):
        if not isinstance(each, str):
            raise TypeError(f"kinds takes a collection of texts, not one with {each!r:.100}")
        found[each] = None
    if not found:
        raise ValueError("kinds must name one kind or more: without any, no job would ever come")
    return tuple(found)
