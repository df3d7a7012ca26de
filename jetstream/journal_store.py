"""The journal's stream, as it is read: the last frame of a run, all of them, what there is, and forgetting. On the far
side.

What decides is always asked of the stream's leader: the last frame of a run. All frames are read from whichever server
is near, up to that one, so a server that lags behind is noticed and asked again.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable
from typing import Any

import anyio
from nats.aio.msg import Msg

from ..journal import Damaged
from .errors import EngineAway, EngineError, EngineRefused
from .frames import HEADER, Frame, Unreadable, entries_of, read_meta
from .journal_lists import Found
from .link import Link
from .questions import TRY, status
from .streams import persist
from .subjects import subject

#: Frames that are asked for at a time, and their bytes.
BATCH, BATCH_BYTES = 256, 8 << 20
#: Headers that are asked for at a time.
HEADERS = 500
#: How many subjects are purged at the same time.
PURGES = 16
#: Seconds after which the server forgets a listing that nobody goes on with.
LISTING = 10

#: The server's numbers for what is not there: a message, a stream.
NO_MESSAGE = 10037


class Store:
    """The stream.

    Args:
        link: the connection.
        prefix: what names begin with.
        stream: its name.
        patience: seconds for trying to get an answer.
    """

    __slots__ = ("link", "patience", "prefix", "stream")

    def __init__(self, link: Link, prefix: str, stream: str, patience: float) -> None:
        self.link = link
        self.prefix = prefix
        self.stream = stream
        self.patience = patience

    @property
    def path(self) -> str:
        """What an error calls it."""
        return f"the stream {self.stream}"

    def subject(self, run_id: str) -> str:
        """Where the frames of a run are."""
        return subject(self.prefix, "journal", run_id)

    async def last(self, run_id: str) -> Frame | None:
        """A run's last frame, as the leader has it; None if there is none.

        Raises:
            EngineError: the server does not answer, or says no.
            Damaged: it is no frame of this run.
        """
        return await persist(self.patience, self._last, run_id)

    async def _last(self, run_id: str) -> Frame | None:
        try:
            said = await self.link.ask_json(
                f"$JS.API.STREAM.MSG.GET.{self.stream}", {"last_by_subj": self.subject(run_id)}
            )
        except EngineRefused as error:
            if error.error == NO_MESSAGE:
                return None
            raise
        message: dict[str, Any] = said["message"]
        headers = _headers(base64.b64decode(message.get("hdrs", "")))
        return self._frame(message["seq"], headers.get(HEADER), base64.b64decode(message.get("data", "")), run_id)

    def _frame(self, sequence: int, text: str | None, body: bytes, run_id: str) -> Frame:
        try:
            meta = read_meta(text)
        except Unreadable as error:
            raise Damaged(str(error), path=self.path, run_id=run_id) from None
        if meta.run != run_id:
            raise Damaged(f"message {sequence} is one of run {meta.run!r}", path=self.path, run_id=run_id)
        return Frame(sequence, meta, body)

    async def entries(self, run_id: str) -> list[bytes]:
        """All entries of a run that are there now.

        Raises:
            EngineError: the server does not answer, or says no.
            Damaged: they are not as they were written.
        """
        frames = await persist(self.patience, self._frames, run_id)
        try:
            return entries_of(frames)
        except Unreadable as error:
            raise Damaged(str(error), path=self.path, run_id=run_id) from None

    async def _frames(self, run_id: str) -> list[Frame]:
        """All frames of a run.

        Raises:
            EngineAway: not all of them are where they were asked for.
        """
        last = await self._last(run_id)
        if last is None or last.born == last.sequence:
            return [] if last is None else [last]
        frames: list[Frame] = []
        next = last.born
        while next <= last.sequence:
            request = {"next_by_subj": self.subject(run_id), "seq": next, "batch": BATCH, "max_bytes": BATCH_BYTES}
            answers = await self.link.ask_for_many(f"$JS.API.DIRECT.GET.{self.stream}", json.dumps(request).encode())
            if len(answers) < 2:
                raise EngineAway(
                    f"the server that was asked for run {run_id!r:.100} does not have all of it: try again"
                )
            for each in answers[:-1]:
                headers = each.headers or {}
                sequence = int(headers["Nats-Sequence"])
                if sequence <= last.sequence:
                    frames.append(self._frame(sequence, headers.get(HEADER), each.data, run_id))
                next = sequence + 1
        return frames

    # -- all runs

    async def listed(self) -> list[Found]:
        """The last frame of each run, without its entries, in the order in which the runs began.

        Raises:
            EngineError: the server does not answer, or says no.
        """
        return await persist(self.patience, self._listed)

    async def _listed(self) -> list[Found]:
        info = await self.link.ask_json(f"$JS.API.STREAM.INFO.{self.stream}")
        newest: int = info["state"]["last_seq"]
        found: list[Found] = []
        name = f"l{secrets.token_hex(8)}"
        all_runs = f"{self.prefix}.journal.*"
        config = {
            "name": name,
            "deliver_policy": "last_per_subject",
            "filter_subject": all_runs,
            "ack_policy": "none",
            "headers_only": True,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": LISTING * 1_000_000_000,
        }
        request = {"stream_name": self.stream, "config": config, "action": "create"}
        said = await self.link.ask_json(f"$JS.API.CONSUMER.CREATE.{self.stream}.{name}.{all_runs}", request)
        pending: int = said["num_pending"]
        while pending:
            messages = await self._pull(name, min(pending, HEADERS))
            for each in messages:
                sequence, pending = _place(each.reply)
                found.append(Found(sequence, each.subject, (each.headers or {}).get(HEADER)))
        await self.link.say(f"$JS.API.CONSUMER.DELETE.{self.stream}.{name}")
        if not any(each.sequence >= newest for each in found) and newest and await self._has(newest):
            raise EngineAway("the server that lists the runs does not have all of them yet: try again")
        return found

    async def _pull(self, consumer: str, count: int) -> list[Msg]:
        """So many messages of a consumer that has them."""
        messages: list[Msg] = []
        over = anyio.Event()

        def take(message: Msg) -> None:
            if not status(message):
                messages.append(message)
                if len(messages) < count:
                    return
            over.set()

        inbox = self.link.new_inbox()
        listening = await self.link.listen(inbox, take)
        request = {"batch": count, "expires": int(TRY * 1e9)}
        try:
            await self.link.say(
                f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{consumer}", json.dumps(request).encode(), reply=inbox
            )
            with anyio.move_on_after(TRY):
                await over.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await listening.stop()
        if len(messages) < count:
            raise self.link.away()
        return messages

    async def _has(self, sequence: int) -> bool:
        """Whether the leader has that message, which may have been purged."""
        try:
            await self.link.ask_json(f"$JS.API.STREAM.MSG.GET.{self.stream}", {"seq": sequence})
        except EngineRefused as error:
            if error.error == NO_MESSAGE:
                return False
            raise
        return True

    # -- forgetting

    async def forget(self, runs: Iterable[Found]) -> None:
        """Forget these runs, up to the message that was found.

        Raises:
            EngineError: the server does not answer, or says no.
        """
        places = anyio.CapacityLimiter(PURGES)
        refused: list[EngineError] = []

        async def purge(run: Found) -> None:
            async with places:
                if not refused:
                    request = {"filter": run.subject, "seq": run.sequence + 1}
                    try:
                        await persist(self.patience, self.link.ask_json, f"$JS.API.STREAM.PURGE.{self.stream}", request)
                    except EngineError as error:
                        refused.append(error)

        async with anyio.create_task_group() as group:
            for each in runs:
                group.start_soon(purge, each)
        if refused:
            raise refused[0]


def _headers(block: bytes) -> dict[str, str]:
    """Those of a message, of which the first line is none."""
    found: dict[str, str] = {}
    for line in block.decode(errors="replace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            found[name] = value.strip()
    return found


def _place(reply: str) -> tuple[int, int]:
    """A message's sequence in the stream and how many are behind it, from where its acknowledgement would go."""
    parts = reply.split(".")
    return (int(parts[5]), int(parts[8])) if len(parts) == 9 else (int(parts[7]), int(parts[10]))
