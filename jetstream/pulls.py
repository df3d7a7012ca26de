"""Asking for one job of several kinds at a time. On the far side.

Each kind has a consumer at the server, which whoever takes that kind asks. Of several kinds the first look is at one
after the other, so that no more comes than is wanted. Only when none has a job all are asked to send the next one that
comes; the first is taken, and the others need not send any more. What comes too much all the same is given back.

Questions end by themselves after `EXPIRES` seconds and are asked again, also when the connection was lost meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic

import anyio
import msgspec
from nats.aio.msg import Msg

from .errors import EngineError
from .leases import Job, Leases
from .line import Line
from .listening import Listening
from .questions import status
from .streams import persist
from .subjects import token

#: Seconds that a question waits at the server.
EXPIRES = 5.0
#: Seconds to wait after an answer that is none.
PAUSE = 0.1
#: Days after which the server forgets a consumer that nobody asks. Jobs are in the stream, and stay.
FORGOTTEN = 30

_NOW = msgspec.json.encode({"batch": 1, "no_wait": True})
_NEXT = msgspec.json.encode({"batch": 1, "expires": int(EXPIRES * 1e9)})
_NOTHING = ("404", "408")

_log = logging.getLogger("greenroom")


class Consumers:
    """The consumers of a stream of jobs, made when they are first needed.

    Args:
        line: to the server.
        stream: its name.
        subject: what its subjects begin with; the kind follows, then the job.
        replicas: how many servers hold them.
        within: seconds for trying to make one.
    """

    __slots__ = ("_known", "_lease", "_line", "_replicas", "_subject", "_within", "stream")

    def __init__(self, line: Line, stream: str, subject: str, lease: float, replicas: int, within: float) -> None:
        self.stream = stream
        self._line = line
        self._subject = subject
        self._lease = lease
        self._replicas = replicas
        self._within = within
        self._known: set[str] = set()

    def forget(self, kinds: Sequence[str]) -> None:
        """They may be gone."""
        self._known.difference_update(kinds)

    async def make(self, kinds: Sequence[str]) -> None:
        """See that they are there.

        Raises:
            EngineError: they cannot be made.
        """
        for kind in kinds:
            if kind not in self._known:
                name = token(kind)
                config = {
                    "name": name,
                    "durable_name": name,
                    "filter_subject": f"{self._subject}.{name}.*",
                    "deliver_policy": "all",
                    "ack_policy": "explicit",
                    "ack_wait": int(self._lease * 1e9),
                    "max_deliver": -1,
                    "max_ack_pending": -1,
                    "max_waiting": 100_000,
                    "inactive_threshold": FORGOTTEN * 86_400 * 10**9,
                    "num_replicas": self._replicas,
                }
                request = {"stream_name": self.stream, "config": config}
                subject = f"$JS.API.CONSUMER.DURABLE.CREATE.{self.stream}.{name}"
                await persist(self._within, self._line.link.ask_json, subject, request)
                self._known.add(kind)


class Pulls:
    """What one taker asks for.

    Args:
        line: to the server.
        consumers: of the stream.
        leases: where what comes is held.
        kinds: which jobs.
        arrive: gets each job that was wanted.
    """

    __slots__ = (
        *("_arrive", "_asked", "_asked_at", "_came", "_changed", "_closed", "_consumers", "_inbox", "_kinds"),
        *("_leases", "_line", "_listening", "_over", "_scope", "_troubled", "_wanted"),
    )

    def __init__(
        self, line: Line, consumers: Consumers, leases: Leases, kinds: Sequence[str], arrive: Callable[[Job], object]
    ) -> None:
        self._line = line
        self._consumers = consumers
        self._leases = leases
        self._kinds = list(kinds)
        self._arrive = arrive
        self._listening: Listening | None = None
        self._inbox = ""
        self._asked: set[str] = set()  # the consumers whose answer has not come
        self._asked_at = 0.0
        self._changed = asyncio.Event()
        self._wanted = 0
        self._came = 0
        self._troubled = False
        self._closed = False
        # Of the task that asks, while there is one. This is made at home, and nothing of anyio's may be.
        self._scope: anyio.CancelScope | None = None
        self._over: asyncio.Event | None = None

    def want(self) -> None:
        """One more job."""
        self._wanted += 1
        if self._over is None and not self._closed:
            self._over = asyncio.Event()
            self._line.start(self._run, self._over)

    async def close(self) -> None:
        """Ask no more. What was on its way is given back."""
        self._closed = True
        if self._scope is not None:
            self._scope.cancel()
        if self._over is not None:
            await self._over.wait()
        await self._stop_listening()

    async def leave(self, jobs: list[Job]) -> None:
        """Ask no more, and give these back. In this order, or they would come here again."""
        await self.close()
        await self._leases.give_back_now(jobs)

    async def _run(self, over: asyncio.Event) -> None:
        stop_watching = self._line.link.watch(self._ask_anew)
        try:
            with anyio.CancelScope() as self._scope:
                while self._wanted and not self._closed:
                    await self._line.link.until_connected()
                    await self._leases.until_given_back()
                    self._troubled = False
                    try:
                        await self._consumers.make(self._kinds)
                        await self._ask_for_one()
                    except EngineError as error:
                        _log.warning("no jobs can be had: %s", error)
                        self._troubled = True
                    if self._troubled:
                        self._consumers.forget(self._kinds)
                        await self._stop_listening()
                        await anyio.sleep(PAUSE)
        finally:
            stop_watching()
            over.set()
            self._over = self._scope = None

    async def _ask_for_one(self) -> None:
        """Until something has come, or there is trouble."""
        if len(self._kinds) > 1:
            for _ in range(len(self._kinds)):
                kind = self._kinds.pop(0)
                self._kinds.append(kind)  # the next time the others are first
                if await self._ask([kind], _NOW) or self._troubled:
                    return
        while not await self._ask(self._kinds, _NEXT) and not self._troubled:
            pass

    async def _ask(self, kinds: Sequence[str], question: bytes) -> bool:
        """Whether one of them has sent a job."""
        if self._listening is None:
            self._inbox = self._line.link.new_inbox()
            self._listening = await self._line.link.listen(f"{self._inbox}.*", self._take)
        came = self._came
        self._asked = {token(kind) for kind in kinds}
        self._asked_at = monotonic()
        for name in [*self._asked]:
            subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._consumers.stream}.{name}"
            await self._line.link.say(subject, question, reply=f"{self._inbox}.{name}")
        with anyio.move_on_after(EXPIRES + 1):
            while self._asked and self._came == came and not self._troubled:
                self._changed.clear()
                await self._changed.wait()
        if self._asked:  # they need not answer any more
            await self._stop_listening()
        return self._came > came

    def _ask_anew(self) -> None:
        self._troubled = True
        self._changed.set()

    def _take(self, message: Msg) -> None:
        """An answer."""
        self._changed.set()
        if not message.reply:
            self._asked.discard(message.subject.rpartition(".")[2])
            self._troubled = self._troubled or status(message) not in _NOTHING
            return
        told = message.reply.split(".")
        consumer, attempt, number = told[-6:-3] if len(told) == 9 else told[5:8]
        self._asked.discard(consumer)
        run_id, kind, data = msgspec.msgpack.decode(message.data, type=tuple[str, str, bytes])
        job = Job(
            run_id,
            data,
            kind,
            int(attempt),
            number=int(number),
            word_to=message.reply,
            heard=self._leases.came(self._asked_at),
            lease=self._leases.lease,
        )
        self._leases.take(job)
        if not self._wanted or self._closed:
            self._leases.give_back(job, 0.0)
            return
        self._wanted -= 1
        self._came += 1
        self._arrive(job)

    async def _stop_listening(self) -> None:
        """What is on its way is still taken; so this is not to be cut short."""
        listening, self._listening = self._listening, None
        self._asked = set()
        with anyio.CancelScope(shield=True):
            if listening is not None and self._line.link.is_connected:
                await listening.drain()
            elif listening is not None:
                await listening.stop()
