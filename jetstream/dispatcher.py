"""A dispatcher on NATS JetStream: a work queue that holds a bounded number of jobs, each once.

The stream keeps a job until it is done, refuses a second one of the same subject, which is the run's, and refuses any
when it is full. So whoever submits is told at once, and nobody counts. A job whose taker is not heard of for a lease
goes to somebody else; what this process has in its hands is in `leases.py`, and how it asks for more in `pulls.py`.
How a taker waits for them is in `deliveries.py`.

The subject of a job is that of its kind and its run. So an id has one kind as long as its job is not done: under
another kind it would be another job.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from contextlib import AsyncExitStack, suppress
from typing import Self

import anyio
import msgspec

from ..exchange import Delivery, Room, Saturated, Stream
from ..exchange.stream import as_bytes
from .deliveries import Deliveries
from .errors import EngineError, EngineRefused
from .leases import Leases
from .line import Line
from .pulls import Consumers
from .questions import TRY
from .settings import Settings
from .streams import make_stream, persist
from .subjects import stream, token

#: The server's numbers for a stream that takes no more, and for a message that is not there.
FULL, NOT_FOUND = 10077, 10037
#: Seconds in which the server knows a submission that is tried again.
KNOWN = 120


class JetStreamDispatcher:
    """Jobs at a NATS server: ``async with JetStreamDispatcher(line) as dispatcher:``.

    At the end of the block it waits until the server knows which jobs are done, at most for a few seconds. Streams of
    deliveries end before that.

    Args:
        line: to the server. One that is not open is opened for the block.
        settings: what names begin with, and how safely jobs are stored.
        capacity: how many jobs that are not done there may be. The last one who opens a dispatcher says it for all.
        lease: seconds after which a job whose taker is not heard of goes to somebody else.
        patience: seconds for which a server that does not answer is asked again.

    Raises:
        ValueError: a capacity below 1; a lease below half a second; a patience that is no time.
    """

    __slots__ = ("_capacity", "_consumers", "_lease", "_leases", "_line", "_patience", "_settings", "_stack", "_stream")

    def __init__(
        self,
        line: Line,
        settings: Settings | None = None,
        *,
        capacity: int = 10_000,
        lease: float = 30.0,
        patience: float = 30.0,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be 1 or more, not {capacity}")
        if not 0.5 <= lease < 86_400:
            raise ValueError(f"lease must be seconds from 0.5 to a day, not {lease}")
        if not 0 < patience < float("inf"):
            raise ValueError(f"patience must be more than 0 seconds, not {patience}")
        self._line = line
        self._settings = settings or Settings()
        self._capacity = capacity
        self._lease = lease
        self._patience = patience
        self._stream = stream(self._settings.prefix, "jobs")
        self._stack = AsyncExitStack()
        self._consumers: Consumers | None = None
        self._leases: Leases | None = None

    async def __aenter__(self) -> Self:
        """Find the stream, or make it.

        Raises:
            EngineError: there is no server, or it has no such stream and cannot have one.
        """
        self._stack = await self._line.borrow(self._open)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            leases, self._leases = self._leases, None
            if leases is not None:
                with suppress(EngineError), anyio.CancelScope(shield=True), anyio.move_on_after(TRY):
                    await self._line.call(leases.close)
        finally:
            await self._stack.aclose()

    async def submit(self, run_id: str, job: bytes, *, kind: str = "") -> None:
        self._opened()
        message = msgspec.msgpack.encode((run_id, kind, as_bytes(job)))
        if not await self._line.call(self._submit, f"{self._subject}.{token(kind)}.{token(run_id)}", message):
            raise Saturated(run_id, self._capacity)

    def deliveries(self, free: Room | int, kinds: Collection[str] = ("",)) -> Stream[Delivery]:
        return Deliveries(self._line, *self._opened(), free, kinds)

    @property
    def _subject(self) -> str:
        return f"{self._settings.prefix}.job"

    def _opened(self) -> tuple[Consumers, Leases]:
        if self._consumers is None or self._leases is None:
            raise EngineError("this dispatcher is not open: open it with `async with`")
        return self._consumers, self._leases

    # -- on the far side

    async def _open(self) -> None:
        link = self._line.link
        config = {
            "name": self._stream,
            "subjects": [f"{self._subject}.*.*"],
            "retention": "workqueue",
            "storage": "file",
            "discard": "new",
            "discard_new_per_subject": True,
            "max_msgs": self._capacity,
            "max_msgs_per_subject": 1,
            "duplicate_window": KNOWN * 10**9,
        }
        found = await make_stream(link, self._settings, config, self._patience)
        if found["max_msgs"] != self._capacity:
            changed = {**found, "max_msgs": self._capacity}
            await persist(self._patience, link.ask_json, f"$JS.API.STREAM.UPDATE.{self._stream}", changed)
        replicas: int = found["num_replicas"]
        self._consumers = Consumers(self._line, self._stream, self._subject, self._lease, replicas, self._patience)
        self._leases = Leases(link, self._line.start, self._lease)
        self._line.start(self._leases.live)

    async def _submit(self, subject: str, message: bytes) -> bool:
        """Whether it is there now."""
        headers = {"Nats-Msg-Id": secrets.token_hex(12)}
        return await persist(self._patience, self._try_to_submit, subject, message, headers)

    async def _try_to_submit(self, subject: str, message: bytes, headers: dict[str, str]) -> bool:
        link = self._line.link
        try:
            link.understood(await link.ask(subject, message, headers))
        except EngineRefused as error:
            if error.error != FULL:
                raise
            return "per subject" in str(error) or await self._is_there(subject)
        return True

    async def _is_there(self, subject: str) -> bool:
        try:
            await self._line.link.ask_json(f"$JS.API.STREAM.MSG.GET.{self._stream}", {"last_by_subj": subject})
        except EngineRefused as error:
            if error.error != NOT_FOUND:
                raise
            return False
        return True
