"""Getting units of a budget from the server, a portion at a time. On the far side.

The record of the budget (`shares`) is read, changed, and stored if nobody has stored another one meanwhile. What time
it is says the server, so the clocks of the machines do not matter. A portion is good for a short time, which is counted
from the moment before the request for it; an answer that is later than that brings nothing, and the next portion is
good for longer.
"""

from __future__ import annotations

import asyncio
import base64
import random
import secrets
from collections.abc import Callable
from datetime import datetime
from time import monotonic
from typing import Any

import anyio
import msgspec

from ..exchange import Allowance
from .dispatcher import NOT_FOUND
from .errors import EngineError, EngineRefused
from .line import Line
from .shares import Claim, OtherClock, Shares

#: Which part of a period a portion is good for, and which part of a budget it is at most unless one needs more.
GOOD_FOR, PORTION = 0.04, 0.1
#: The server's number for a record that somebody else has changed.
CHANGED = 10071
#: Seconds after which the server is asked again what time it is.
CLOCK_AGE = 30.0
#: Seconds for which it is known that somebody needs many units.
CLAIM = 2.0
#: Seconds to wait when the server does not answer.
PAUSE = 0.1


class ServerClock:
    """The clock of the server that leads a stream."""

    __slots__ = ("_clock", "_line", "_stream")

    def __init__(self, line: Line, stream: str) -> None:
        self._line = line
        self._stream = stream
        self._clock: OtherClock | None = None

    async def read(self) -> OtherClock:
        """As it goes, asked lately.

        Raises:
            EngineError: there is no answer.
        """
        if self._clock is None or self._clock.age(monotonic()) > CLOCK_AGE:
            asked = monotonic()
            said = await self._line.link.ask_json(f"$JS.API.STREAM.INFO.{self._stream}")
            self._clock = OtherClock(_seconds(said["ts"]), asked, monotonic())
        return self._clock

    def forget(self) -> None:
        """Another server may lead by now."""
        self._clock = None


class Grants:
    """Units of one budget.

    Args:
        line: to the server.
        stream: its name.
        subject: where the record is.
        allowance: the budget.
        clock: of the server.
        granted: gets the units of a portion, and the moment until which they are good, by the monotonic clock.
    """

    __slots__ = (
        *("_allowance", "_changed", "_clock", "_good_for", "_granted", "_head", "_line", "_runs", "_size", "_stream"),
        *("_subject", "_who"),
    )

    def __init__(
        self,
        line: Line,
        stream: str,
        subject: str,
        allowance: Allowance,
        clock: ServerClock,
        granted: Callable[[int, float], object],
    ) -> None:
        self._line = line
        self._stream = stream
        self._subject = subject
        self._allowance = allowance
        self._clock = clock
        self._granted = granted
        self._good_for = GOOD_FOR * allowance.period
        self._who = secrets.token_hex(6)
        self._head = 0
        self._size = 0
        self._changed = asyncio.Event()
        self._runs = False

    def want(self, head: int, size: int) -> None:
        """Somebody waits for `head` units; more are of use, up to `size`. 0 when nobody waits any more."""
        self._head = head
        self._size = max(head, size)
        self._changed.set()
        if head and not self._runs:
            self._runs = True
            self._line.start(self._run)

    def came_late(self) -> None:
        """A portion was no good any more when it was there."""
        self._good_for = min(2 * self._good_for, max(4.0, self._allowance.period))

    async def _run(self) -> None:
        try:
            tries = 0
            while self._head:
                await self._line.link.until_connected()
                try:
                    tries = 0 if await self._try() else tries + 1
                except EngineError:
                    self._clock.forget()
                    await anyio.sleep(PAUSE)
                if tries:  # somebody else was faster
                    await anyio.sleep(random.random() * 0.002 * min(tries, 8))
        finally:
            self._runs = False

    async def _try(self) -> bool:
        """False if somebody else has changed the record."""
        head, size, budget = self._head, self._size, self._allowance.units
        clock = await self._clock.read()
        revision, shares = await self._read()
        began = monotonic()
        now = clock.at(began)
        at = shares.free_at(now.earliest, head, budget, self._who)
        if at > now.earliest:
            return await self._wait(revision, shares, at, head)
        while size > head and shares.free_at(now.earliest, size, budget, self._who) > now.earliest:
            size = max(head, size // 2)
        until = now.latest + self._good_for + self._allowance.period
        changed = shares.with_taken(now.earliest, size, until, self._allowance.period / 50, self._who)
        if not await self._write(revision, changed):
            return False
        took = monotonic() - began
        if took < self._good_for:
            least = GOOD_FOR * self._allowance.period
            self._good_for = max(least, 4 * took, 0.9 * self._good_for) if self._good_for > least else least
            self._head = 0
            self._granted(size, began + self._good_for_then(until, now.latest))
        else:
            self.came_late()
        return True

    def _good_for_then(self, until: float, latest: float) -> float:
        return until - latest - self._allowance.period

    async def _wait(self, revision: int, shares: Shares, at: float, head: int) -> bool:
        clock = await self._clock.read()
        now = clock.at(monotonic())
        delay = at - now.earliest + random.random() * GOOD_FOR * self._allowance.period / 2
        if shares.claim is not None and shares.claim.who != self._who:
            delay = min(delay, CLAIM / 8)  # he may have what he needs before long
        if head > PORTION * self._allowance.units:
            claim = Claim(self._who, head, now.latest + CLAIM)
            claimed = shares.with_claim(now.earliest, claim)
            if claimed is not None and not await self._write(revision, claimed):
                return False
            delay = min(delay, CLAIM / 2)
        self._changed.clear()
        with anyio.move_on_after(max(delay, 0.0)):
            while (self._head, self._size) == (head, self._size):
                await self._changed.wait()
                self._changed.clear()
        return True

    async def _read(self) -> tuple[int, Shares]:
        """The record, with its revision."""
        request = {"last_by_subj": self._subject}
        try:
            said = await self._line.link.ask_json(f"$JS.API.STREAM.MSG.GET.{self._stream}", request)
        except EngineRefused as error:
            if error.error != NOT_FOUND:
                raise
            return 0, Shares()
        message: dict[str, Any] = said["message"]
        return message["seq"], msgspec.msgpack.decode(base64.b64decode(message["data"]), type=Shares)

    async def _write(self, revision: int, shares: Shares) -> bool:
        """Whether nobody else has changed it."""
        link = self._line.link
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        try:
            link.understood(await link.ask(self._subject, msgspec.msgpack.encode(shares), headers))
        except EngineRefused as error:
            if error.error != CHANGED:
                raise
            return False
        return True


def _seconds(text: str) -> float:
    """Of a time as the server writes it, such as ``2026-01-02T03:04:05.678901234Z``."""
    whole, _, rest = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{rest or 0}")
