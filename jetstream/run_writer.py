"""What is appended to one run, on its way into the stream. On the far side.

A run has one writer here, and its jobs are done in order, whoever they are from: appending, claiming, letting go. One
frame is on its way at a time; what is appended meanwhile is the next one. Each frame says which message of its run it
follows, and the server refuses it if that is not the last one. So whoever has lost the run finds out by its next frame,
and a frame that is sent again, because nobody knows whether it arrived, is there once.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import msgspec

from ..journal import Conflict, Damaged, Fenced, JournalError, JournalFailed, Owner, RunExists, RunFinished, UnknownRun
from .errors import EngineError, EngineRefused
from .frames import HEADER, Frame, Meta, bare, fillings, following, meta_text
from .journal_jobs import Entry, Hold, Job, Leaving, Mark, Refusal, Refused, Taking
from .journal_store import Store
from .questions import header_size
from .streams import persist

#: The header that says which message of the same subject is the last one.
EXPECTED = "Nats-Expected-Last-Subject-Sequence"
#: The server's numbers for: it is another one.
ANOTHER = (10071, 10164)
#: Bytes by which the headers of a run's frames differ, at most, and the least that is left beside them.
SLACK, LEAST = 200, 512

_log = logging.getLogger("greenroom")


class Superseded(Exception):
    """Another frame came first."""


class Desk(NamedTuple):
    """What all writers of a journal share.

    Attributes:
        store: the stream.
        me: the owner that they write for.
        clock: seconds since 1970.
        new_name: a name for a frame that no other has.
        home: calls a function at home.
    """

    store: Store
    me: Owner
    clock: Callable[[], float]
    new_name: Callable[[], str]
    home: Callable[..., None]


class RunWriter:
    """Does the jobs of one run.

    Attributes:
        run_id: the run.
        is_working: whether there is a task that does them.
        is_held: whether somebody here is its owner, as far as is known; then it is worth keeping.
    """

    __slots__ = ("_desk", "_headers", "_jobs", "_last", "is_held", "is_working", "run_id")

    def __init__(self, run_id: str, desk: Desk) -> None:
        self.run_id = run_id
        self.is_working = False
        self.is_held = False
        self._desk = desk
        self._jobs: deque[Job] = deque()
        #: Bytes of a frame's headers, at most, once that is known.
        self._headers = 0
        #: The run's last frame, as far as is known here.
        self._last: Frame | None = None

    def put(self, job: Job) -> None:
        self._jobs.append(job)

    async def work(self) -> None:
        """Do all jobs that there are. Cancelled, it gives them up, and whoever waits is told so."""
        try:
            while self._jobs:
                job = self._jobs.popleft()
                if isinstance(job, Entry):
                    await self._append(job.hold, self._gathered(job))
                elif isinstance(job, Taking):
                    await self._take(job)
                elif isinstance(job, Leaving):
                    await self._leave(job.epoch)
                else:
                    job.reached()
        finally:
            self._give_up()
            self.is_working = False

    def _give_up(self) -> None:
        while self._jobs:
            job = self._jobs.popleft()
            if isinstance(job, Entry):
                self._settle(job.hold, 1, closed)
            elif isinstance(job, Taking):
                self._answer(job, closed)
            elif isinstance(job, Mark):
                job.reached()

    # -- appending

    def _gathered(self, first: Entry) -> list[Entry]:
        """All entries of the same claim that come next."""
        entries = [first]
        while self._jobs and isinstance(job := self._jobs[0], Entry) and job.hold is first.hold:
            entries.append(job)
            self._jobs.popleft()
        return entries

    async def _append(self, hold: Hold, entries: list[Entry]) -> None:
        refusal = hold.failed
        try:
            if refusal is None:
                await self._store(hold, entries)
        except Exception as error:
            refusal = self._refusal(error)
        except BaseException:
            self._settle(hold, len(entries), closed)
            raise
        self.is_held = refusal is None and not (self._last is not None and self._last.meta.final)
        self._settle(hold, len(entries), refusal)

    def _settle(self, hold: Hold, count: int, refusal: Refusal | None) -> None:
        hold.failed = hold.failed or refusal
        self._desk.home(hold.settle, count, refusal)

    async def _store(self, hold: Hold, entries: list[Entry]) -> None:
        """
        Raises:
            Refused: the journal says no.
            EngineError: the server does, or does not answer.
        """
        while True:
            fresh = await self._fresh(hold, entries)
            if not fresh:
                return
            try:
                await self._store_fresh(hold, fresh)
                return
            except Superseded:  # by somebody with the same claim, or by another owner: what is fresh is to be seen
                continue

    async def _store_fresh(self, hold: Hold, fresh: list[Entry]) -> None:
        meta = self._meta(hold)
        divided = [*fillings([each.data for each in fresh], self._room(meta))]
        for filling in divided:
            ends = filling is divided[-1] and fresh[-1].final
            name, me, now = self._desk.new_name(), self._desk.me, self._desk.clock()
            meta = await self._publish(following(meta, filling, name, me, now, ends=ends), filling.body)
            if filling.ended:  # a run that has the beginning of an entry is none yet
                hold.is_new = False

    def _meta(self, hold: Hold) -> Meta:
        """What a run was before the next frame."""
        if self._last is not None and not hold.is_new:
            return msgspec.structs.replace(self._last.meta, born=self._last.born)
        now = self._desk.clock()
        parent, conversation = hold.parent_id, hold.conversation_id
        return Meta(self.run_id, "", 1, 0, 0, now, now, parent=parent, conversation=conversation)

    def _room(self, meta: Meta) -> int:
        """Bytes of a frame's body."""
        most = self._desk.store.link.max_payload
        if not self._headers:  # of all frames of a run they are nearly the same
            text = meta_text(msgspec.structs.replace(meta, frame=self._desk.new_name(), owner=self._desk.me))
            self._headers = header_size({HEADER: text, EXPECTED: ""}) + SLACK
        room = most - self._headers
        if room < LEAST:
            raise Refused(
                partial(
                    JournalFailed,
                    f"run {self.run_id!r:.100} cannot be stored: the NATS server takes messages of {most:,} bytes, and"
                    " that is not enough for its ids alone: raise the server's max_payload",
                )
            )
        return room

    async def _fresh(self, hold: Hold, entries: list[Entry]) -> list[Entry]:
        """Those that are not there yet.

        Raises:
            Refused: one can never be there.
            EngineError: nobody can tell.
        """
        length = await self._length(hold)
        fresh: list[Entry] = []
        stored: list[bytes] | None = None
        for entry in entries:
            place = entry.sequence - length
            if place < 0:
                if stored is None:
                    stored = await self._desk.store.entries(self.run_id)
                if entry.sequence >= len(stored) or stored[entry.sequence] != entry.data:
                    raise Refused(self._finished() or partial(Conflict, self.run_id, entry.sequence))
            elif place < len(fresh):
                if fresh[place].data != entry.data:
                    raise Refused(partial(Conflict, self.run_id, entry.sequence))
            elif place > len(fresh):
                raise Refused(partial(Conflict, self.run_id, entry.sequence))
            else:
                fresh.append(entry)
        if fresh and (finished := self._finished()) is not None:
            raise Refused(finished)
        return fresh

    def _finished(self) -> Refusal | None:
        ended = self._last is not None and self._last.meta.final
        return partial(RunFinished, self.run_id) if ended else None

    async def _length(self, hold: Hold) -> int:
        """How many entries the run has, of which `hold` has to be the owner."""
        if self._not_owner(hold) is not None:  # as far as is known here; that may be long ago, or nothing
            await self._look()
        refusal = self._not_owner(hold)
        if refusal is not None:
            raise Refused(refusal)
        return 0 if hold.is_new or self._last is None else self._last.meta.length

    def _not_owner(self, hold: Hold) -> Refusal | None:
        last = self._last
        begun = last is not None and last.meta.length > 0
        if hold.is_new:
            return partial(RunExists, self.run_id) if begun else None
        if last is None or not begun:
            return partial(UnknownRun, self.run_id)
        return partial(Fenced, self.run_id, hold.epoch) if last.meta.epoch != hold.epoch else None

    # -- the owner

    async def _take(self, taking: Taking) -> None:
        refusal: Refusal | None = None
        try:
            await self._look()
            while not taking.is_unwanted:
                try:
                    taking.frame = await self._claim(taking.after)
                    self.is_held = True
                    break
                except Superseded:
                    continue
        except Exception as error:
            refusal = self._refusal(error)
        except BaseException:
            self._answer(taking, closed)
            raise
        self._answer(taking, refusal)

    def _answer(self, taking: Taking, refusal: Refusal | None) -> None:
        taking.refusal = refusal
        self._desk.home(taking.over.set)
        if taking.is_unwanted and taking.frame is not None:
            self._jobs.append(Leaving(taking.frame.meta.epoch))

    async def _claim(self, after: int | None) -> Frame:
        last = self._last
        if last is None or not last.meta.length:
            raise Refused(partial(UnknownRun, self.run_id))
        if (finished := self._finished()) is not None:
            raise Refused(finished)
        epoch = last.meta.epoch
        if after is not None and epoch != after:
            raise Refused(partial(Fenced, self.run_id, after))
        await self._publish(bare(last, self._desk.new_name(), epoch + 1, self._desk.me), b"")
        assert self._last is not None
        return self._last

    async def _leave(self, epoch: int) -> None:
        """Nobody waits for it. Whoever finds the run with an owner that is gone takes it all the same."""
        try:
            if self._last is None or self._last.meta.epoch != epoch:
                await self._look()
            while (last := self._last) is not None and last.meta.epoch == epoch:
                self.is_held = False
                if last.meta.owner is None:
                    break
                try:
                    await self._publish(bare(last, self._desk.new_name(), epoch, None), b"")
                except Superseded:
                    continue
        except Exception as error:
            self.is_held = False
            self._refusal(error)

    # -- the stream

    async def _look(self) -> None:
        self._last = await self._desk.store.last(self.run_id)

    async def _publish(self, meta: Meta, body: bytes) -> Meta:
        """Put a frame behind the last one.

        Raises:
            Superseded: there is another one, which is the last one now.
            EngineError: the server says no, or does not answer.
        """
        expected = self._last.sequence if self._last is not None else 0
        headers = {HEADER: meta_text(meta), EXPECTED: str(expected)}
        store = self._desk.store
        try:
            said = await persist(store.patience, self._send, store.subject(self.run_id), body, headers)
        except EngineRefused as error:
            if error.error not in ANOTHER:
                raise
            await self._look()
            if self._last is None or self._last.meta.frame != meta.frame:
                raise Superseded from None
        else:
            self._last = Frame(said["seq"], meta, b"")
        return msgspec.structs.replace(meta, born=self._last.born)

    async def _send(self, subject: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
        link = self._desk.store.link
        return link.understood(await link.ask(subject, body, headers))

    def _refusal(self, error: Exception) -> Refusal:
        if isinstance(error, Refused):
            return error.refusal
        if isinstance(error, Damaged):
            return partial(Damaged, error.what, path=error.path, run_id=error.run_id, sequence=error.sequence)
        if not isinstance(error, EngineError):
            _log.error("a mistake of the journal on NATS", exc_info=error)
        return partial(JournalFailed, f"run {self.run_id!r:.100} cannot be stored: {error}")


def closed() -> JournalError:
    """What is told of what was on its way when the journal was closed."""
    return JournalFailed("the journal was closed before this was stored: see that the NATS server can be reached")
