"""The journal on NATS JetStream: what home has of it.

One stream holds all runs, a subject each (`frames.py`). `append` hands an entry to the writer of its run
(`run_writer.py`) on the far side, and `durable` waits until the writer has settled it. What is known here of a claim is
in its `Hold`.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable, Coroutine
from math import inf
from types import TracebackType
from typing import Any, Self, TypeVar, TypeVarTuple

import anyio

from ..journal import (
    CannotOpen,
    Claim,
    Damaged,
    JournalClosed,
    JournalFailed,
    Listed,
    Owner,
    RunFinished,
    owners,
)
from ..journal.journal import check_moment
from ..loops import RunningLoop
from .errors import EngineError
from .journal_jobs import Entry, Hold, Leaving, Taking
from .journal_lists import Known
from .journal_opening import Opening
from .journal_store import Store
from .line import Line
from .run_writer import Desk
from .settings import Settings
from .streams import make_stream
from .subjects import stream
from .writers import Writers

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: Bytes of one entry.
LARGEST = 100_000_000

_CLOSED = "the journal is not open: enter it with `async with`, or give it to a System"


class JetStreamJournal:
    """A journal on a NATS server: ``async with JetStreamJournal(Line("nats://localhost:4222")) as journal:``.

    Any number of processes on any number of machines may have it open. What is durable is in the server's stream
    ``<prefix>_JOURNAL``; what that survives is for the server to say, see `Settings.durable`.

    While the server cannot be reached, whoever waits goes on waiting, up to `patience`.

    Args:
        line: the connection. If it is open already it stays open; else it is opened and closed with the journal.
        settings: the names, and how safely runs are stored.
        patience: seconds for which something is tried again that the server does not answer (default 60). After that
            it fails with `JournalFailed`: an entry that could not be stored ends its claim.
        close_timeout: seconds that closing waits, at most, for what was appended (default 10). After that it fails with
            `JournalFailed`, so that a System ends also where its server does not come back.
        clock: seconds since 1970.

    Raises:
        TypeError, ValueError: an argument that cannot work.
    """

    __slots__ = ("__weakref__", "_clock", "_close_timeout", "_line", "_opening", "_patience", "_settings")

    #: What is durable outlives this object.
    survives = True

    def __init__(
        self,
        line: Line,
        settings: Settings | None = None,
        *,
        patience: float = 60.0,
        close_timeout: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(line, Line):
            raise TypeError(f"line= takes a Line('nats://localhost:4222'), not {type(line).__name__}")
        if settings is not None and not isinstance(settings, Settings):
            raise TypeError(f"settings= takes Settings(prefix=…), not {type(settings).__name__}")
        for name, seconds in (("patience", patience), ("close_timeout", close_timeout)):
            if not isinstance(seconds, int | float) or isinstance(seconds, bool):
                raise TypeError(f"{name}= is a number of seconds, not {seconds!r}")
            if not 0 <= seconds < inf:
                raise ValueError(f"{name}= is in seconds, 0 or more, not {seconds!r}")
        self._line = line
        self._settings = settings or Settings()
        self._patience = patience
        self._close_timeout = close_timeout
        self._clock = clock
        self._opening: Opening | None = None

    def __repr__(self) -> str:
        return f"<JetStreamJournal {self._settings.prefix!r} at {self._line.servers.names}>"

    @property
    def is_open(self) -> bool:
        return self._opening is not None

    async def __aenter__(self) -> Self:
        if self._opening is not None:
            raise RuntimeError(f"{self!r} is open already")
        owns_line = not self._line.is_open
        me = owners.opened()
        try:
            if owns_line:
                await self._line.__aenter__()
            try:
                store, writers = await self._line.call(self._open, me)
            except BaseException:
                if owns_line:
                    await self._line.__aexit__(None, None, None)
                raise
        except BaseException as error:
            owners.closed(me)
            if isinstance(error, EngineError):
                raise CannotOpen(f"the journal {self._settings.prefix!r} cannot be opened: {error}") from error
            raise
        self._opening = Opening(me, store, writers, RunningLoop(), threading.get_ident(), owns_line)
        return self

    async def _open(self, me: Owner) -> tuple[Store, Writers]:
        prefix = self._settings.prefix
        link, name = self._line.link, stream(prefix, "journal")
        config: dict[str, Any] = {
            "name": name,
            "subjects": [f"{prefix}.journal.*"],
            "retention": "limits",
            "storage": "file",
            "discard": "new",  # whatever limits somebody sets: what is there is never thrown away for something new
            "allow_direct": True,
        }
        await make_stream(link, self._settings, config, min(self._patience, 10.0))
        store = Store(link, prefix, name, self._patience)
        numbers, series = itertools.count(1), f"{me.opening}{secrets.token_hex(4)}"
        desk = Desk(store, me, self._clock, lambda: f"{series}.{next(numbers):x}", self._line.home)
        return store, Writers(desk, self._line.start)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        opening, self._opening = self._opening, None
        if opening is None:
            return
        stored = True
        try:
            with anyio.CancelScope(shield=True):
                try:
                    if self._line.is_open:
                        stored = await self._line.call(opening.writers.close, self._close_timeout)
                finally:
                    if opening.owns_line:
                        await self._line.__aexit__(None, None, None)
        finally:
            owners.closed(opening.me)
        if not stored and exc is None:
            raise JournalFailed(
                f"the NATS server at {self._line.servers.names} has not stored all that was appended in"
                f" {self._close_timeout:g} s: see that it can be reached; what it has not stored is lost"
            )

    def create(self, run_id: str, *, parent_id: str | None = None, conversation_id: str | None = None) -> Claim:
        opening = self._opened()
        _check_texts(run_id, parent_id, conversation_id)
        hold = Hold(run_id, 1, opening)
        hold.is_new = True
        hold.parent_id, hold.conversation_id = parent_id, conversation_id
        claim = Claim(run_id, 1, 0)
        claim.noted = hold
        return claim

    async def claim(self, run_id: str, *, after: int | None = None) -> Claim:
        opening = self._opened()
        _check_texts(run_id)
        taking = Taking(after)
        self._line.post(opening.writers.put, run_id, taking)
        try:
            with opening.here.outside:
                await taking.over.wait()
        except BaseException:
            taking.is_unwanted = True  # first: whoever takes it from now on gives it back
            if taking.frame is not None:
                self._line.post(opening.writers.put, run_id, Leaving(taking.frame.meta.epoch))
            raise
        if taking.refusal is not None or taking.frame is None:
            raise taking.refusal() if taking.refusal is not None else JournalClosed(_CLOSED)
        meta = taking.frame.meta
        claim = Claim(run_id, meta.epoch, meta.length)
        claim.noted = Hold(run_id, meta.epoch, opening)
        return claim

    def append(self, claim: Claim, entry: bytes, *, final: bool = False, sequence: int | None = None) -> int:
        opening = self._opened()
        hold: Hold | None = claim.noted
        if hold is None or hold.opening is not opening:
            hold = _adopted(claim, opening)
        if hold.refused is not None:
            raise hold.refused()
        if type(entry) is not bytes:
            entry = bytes(memoryview(entry))  # what the caller may change is copied; a number or a text is refused
        if len(entry) > LARGEST:
            raise ValueError(f"an entry has at most {LARGEST:,} bytes, not {len(entry):,}")
        following = claim.next
        if sequence is None:
            sequence = following
        elif not 0 <= sequence <= following:
            raise ValueError(f"sequence must be at most {following}, the next one of this claim, not {sequence}")
        if sequence == following:
            if hold.ended:
                raise RunFinished(claim.run_id)
            claim.next = following + 1
            hold.ended = final
        hold.appended += 1
        self._line.post(opening.writers.put, claim.run_id, Entry(hold, sequence, entry, final))
        return sequence

    async def durable(self, claim: Claim) -> None:
        hold: Hold | None = claim.noted
        if hold is None:
            return
        await hold.until_settled(hold.opening.here.outside)
        if hold.refused is not None:
            raise hold.refused()

    async def read(self, run_id: str) -> list[bytes]:
        opening = self._opened()
        _check_texts(run_id)
        return await self._asked("read", opening.entries, run_id)

    async def runs(
        self,
        *,
        unfinished: bool = False,
        conversation_id: str | None = None,
        run_id: str | None = None,
        parent_id: str | None = None,
    ) -> list[Listed]:
        opening = self._opened()
        _check_texts(run_id, conversation_id, parent_id)
        if run_id is not None:
            known = Known([], await self._asked("listed", opening.one, run_id), None)
        else:
            known = await self._asked("listed", opening.all)
        chosen = [
            each
            for each in known.listed
            if not (unfinished and each.finished)
            and (conversation_id is None or each.conversation_id == conversation_id)
            and (parent_id is None or each.parent_id == parent_id)
        ]
        if known.damage is not None:
            raise Damaged(known.damage.what, path=known.damage.path, others=tuple(chosen))
        return chosen

    async def prune(self, before: float) -> int:
        before = check_moment(before)
        opening = self._opened()
        return await self._asked("pruned", opening.prune, before)

    def release(self, claim: Claim) -> None:
        opening = self._opening
        if opening is None or not self._line.is_open:
            return
        hold: Hold | None = claim.noted
        if (
            hold is not None
            and hold.opening is opening
            and (hold.ended or hold.refused is not None or (hold.is_new and not hold.appended))
        ):
            return
        self._line.post(opening.writers.put, claim.run_id, Leaving(claim.epoch))

    async def _asked(self, what: str, function: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
        try:
            return await self._line.call(function, *args)
        except EngineError as error:
            raise JournalFailed(f"the journal {self._settings.prefix!r} cannot be {what}: {error}") from error

    def _opened(self) -> Opening:
        if self._opening is None or not self._line.is_open:
            raise JournalClosed(_CLOSED)
        if threading.get_ident() != self._opening.thread:
            raise RuntimeError(
                "this journal belongs to the event loop that has opened it, which is in another thread: open another"
                " JetStreamJournal here"
            )
        return self._opening


def _check_texts(*texts: str | None) -> None:
    """Refuse here what cannot be sent: on the far side it would be an error of ours."""
    for text in texts:
        if text is not None:
            text.encode()


def _adopted(claim: Claim, opening: Opening) -> Hold:
    """A claim that was made by hand or under another opening: what it is worth says the stream."""
    before: Hold | None = claim.noted
    hold = claim.noted = Hold(claim.run_id, claim.epoch, opening)
    if before is not None and before.is_new and not before.appended:
        hold.is_new = True
        hold.parent_id, hold.conversation_id = before.parent_id, before.conversation_id
    return hold
