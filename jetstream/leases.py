"""Jobs in our hands: saying that we still have them, and what becomes of them. On the far side.

The server gives a job to somebody else when it has not heard of it for a lease. So it hears of all of them every third
of a lease. For each kind one answer is asked for, of the last word: the server reads the words of one connection in
order, so it has read the others too.

A job is *lost* when no answer came for a lease, by the clock of this machine. Then it may be somebody else's, and
nothing is said about it any more. The time counts from the moment at which the word was sent. For a job that has just
come, that is a moment at which it cannot have been on its way yet: a process that was stopped finds messages that came
long ago, and must not take them for new ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

import anyio

from .errors import EngineError
from .link import Link

ACK, NAK, PROGRESS = b"+ACK", b"-NAK", b"+WPI"
#: Seconds between two tries to say that a job is done.
AGAIN = 0.05


class Job:
    """A job in our hands.

    Attributes:
        word_to: the subject where the server hears of it.
        number: its place in the line of all jobs.
        heard: the last moment at which it was ours for certain, by the monotonic clock.
    """

    __slots__ = ("_lease", "attempt", "data", "heard", "kind", "number", "run_id", "word_to")

    def __init__(
        self,
        run_id: str,
        data: bytes,
        kind: str,
        attempt: int,
        *,
        number: int,
        word_to: str,
        heard: float,
        lease: float,
    ) -> None:
        self.run_id = run_id
        self.data = data
        self.kind = kind
        self.attempt = attempt
        self.number = number
        self.word_to = word_to
        self.heard = heard
        self._lease = lease

    @property
    def is_lost(self) -> bool:
        """Whether it may be somebody else's."""
        return monotonic() >= self.heard + self._lease


class Leases:
    """All jobs in the hands of this process.

    Args:
        link: the connection.
        start: starts a task.
        lease: seconds, as the server counts them.
    """

    __slots__ = ("_beat", "_before", "_going_back", "_link", "_scope", "_start", "_words", "held", "lease")

    def __init__(self, link: Link, start: Callable[..., None], lease: float) -> None:
        self.lease = lease
        self.held: dict[str, Job] = {}
        self._link = link
        self._start: Callable[..., None] = start
        self._going_back: list[asyncio.Event] = []
        self._scope: anyio.CancelScope | None = None
        self._words = 0
        self._beat = self._before = monotonic()

    def came(self, asked_at: float) -> float:
        """A moment after which a job that has come now was given to us, if it was asked for then."""
        return max(asked_at, self._before)

    def take(self, job: Job) -> None:
        """It is in our hands from now on."""
        self.held[job.word_to] = job

    def done(self, job: Job) -> None:
        """It need not come again. That is said until the server has heard it, or the lease is over."""
        if self.held.pop(job.word_to, None) is not None:
            self._words += 1
            self._start(self._say_done, job)

    def give_back(self, job: Job, delay: float) -> None:
        """It may come again, to anybody, after so many seconds."""
        if self.held.pop(job.word_to, None) is not None:
            self._words += 1
            heard = asyncio.Event()
            self._going_back.append(heard)
            self._start(self._say_back, job, delay, heard)

    async def give_back_now(self, jobs: list[Job]) -> None:
        """They may come again at once, in their old order. A server that is there has heard it when this returns."""
        mine = [job for job in jobs if self.held.pop(job.word_to, None) is not None and not job.is_lost]
        if self._link.is_connected:  # else they come again when the lease is over
            with suppress(EngineError):
                await self._say(NAK, sorted(mine, key=lambda job: job.number))

    async def until_given_back(self) -> None:
        """Wait until the server has heard of what was given back. Who asks for a job before would get a later one."""
        while self._going_back:
            await self._going_back[0].wait()

    async def close(self) -> None:
        """Give back what is in our hands, and wait until nothing is left to be said."""
        if self._scope is not None:
            self._scope.cancel()
        await self.give_back_now([*self.held.values()])
        while self._words:
            await anyio.sleep(AGAIN / 5)

    async def live(self) -> None:
        """Keep what is in our hands. A task."""
        pause = min(1.0, self.lease / 6)
        next_word = monotonic() + self.lease / 3
        with anyio.CancelScope() as self._scope:
            while True:
                await anyio.sleep(pause)
                self._before, self._beat = self._beat, monotonic()
                if self._beat >= next_word and await self._say_all():
                    next_word = self._beat + self.lease / 3

    async def _say_all(self) -> bool:
        """Whether all of them were heard."""
        kinds: dict[str, list[Job]] = {}
        for job in self.held.values():
            if not job.is_lost:
                kinds.setdefault(job.kind, []).append(job)
        heard = True
        for jobs in kinds.values():
            now = monotonic()
            try:
                await self._say(PROGRESS, jobs)
            except EngineError:
                heard = False
            else:
                for job in jobs:
                    if not job.is_lost:
                        job.heard = now
        return heard

    async def _say(self, word: bytes, jobs: list[Job]) -> None:
        """Of jobs of one kind, or one after the other."""
        for job in jobs[:-1]:
            await self._link.say(job.word_to, word)
        if jobs:
            await self._link.ask(jobs[-1].word_to, word)

    async def _say_back(self, job: Job, delay: float, heard: asyncio.Event) -> None:
        try:
            await self._link.until_connected()
            if not job.is_lost:
                with suppress(EngineError):  # if it was not heard, the lease will end: a second word may hit another
                    await self._link.ask(job.word_to, _back(delay))
        finally:
            self._going_back.remove(heard)
            self._words -= 1
            heard.set()

    async def _say_done(self, job: Job) -> None:
        try:
            while not job.is_lost:
                await self._link.until_connected()
                try:
                    await self._link.ask(job.word_to, ACK)
                    return
                except EngineError:
                    await anyio.sleep(AGAIN)
        finally:
            self._words -= 1


def _back(delay: float) -> bytes:
    return NAK if delay <= 0 else b'%s {"delay": %d}' % (NAK, delay * 1e9)
