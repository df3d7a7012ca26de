"""A quota over a NATS server: portions of shared budgets, spent here.

How a portion is had is in `grants`, what all machines see of a budget in `shares`. Here is the line of those who wait,
as in a quota within one process: who is first asks, and units are taken after the last await, so whoever is cancelled
has taken none. What is left of a portion is for the next ones, until it is no good any more.

Portions follow the demand: one that was spent in time is followed by a larger one, and one that was not by a smaller
one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from math import ceil
from time import monotonic
from typing import Self

import anyio
from anyio.lowlevel import checkpoint

from ..exchange import Allowance
from ..exchange.bell import Bell
from ..exchange.meter import Meter
from .errors import EngineError
from .grants import PORTION, Grants, ServerClock
from .line import Line
from .settings import Settings
from .streams import make_stream
from .subjects import stream, subject


class JetStreamQuota:
    """Budgets that all machines on one NATS server share: ``async with JetStreamQuota(line, allowances) as quota:``.

    All of them name the same budgets. Of a budget, up to a twenty-fifth is lost to the distance between them.

    Args:
        line: to the server. One that is not open is opened for the block.
        allowances: the budgets by name.
        settings: what names begin with, and how safely it is stored what was taken.
        patience: seconds for which a server that does not answer is asked again when this opens. Later, whoever takes
            units waits for as long as it is away.

    Raises:
        ValueError: a budget without units, or with a period that is no time.
    """

    __slots__ = ("_line", "_lines", "_patience", "_settings", "_stack", "_stream")

    def __init__(
        self,
        line: Line,
        allowances: Mapping[str, Allowance],
        settings: Settings | None = None,
        *,
        patience: float = 30.0,
    ) -> None:
        if not 0 < patience < float("inf"):
            raise ValueError(f"patience must be more than 0 seconds, not {patience}")
        self._line = line
        self._settings = settings or Settings()
        self._patience = patience
        self._stream = stream(self._settings.prefix, "quota")
        clock = ServerClock(line, self._stream)
        self._lines = {
            name: _Line(line, self._stream, subject(self._settings.prefix, "quota", name), Meter(each).allowance, clock)
            for name, each in allowances.items()
        }
        self._stack: AsyncExitStack | None = None

    async def __aenter__(self) -> Self:
        """Find the stream, or make it.

        Raises:
            EngineError: there is no server, or it has no such stream and cannot have one.
        """
        self._stack = await self._line.borrow(self._make)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    async def take(self, name: str, amount: int = 1) -> None:
        if amount < 1:
            raise ValueError(f"amount must be 1 or more, not {amount}")
        line = self._lines.get(name)
        if line is not None and amount > line.units:
            raise ValueError(f"{amount} units at once are more than all of the budget {name!r}, which has {line.units}")
        if self._stack is None:
            raise EngineError("this quota is not open: open it with `async with`")
        await checkpoint()
        if line is not None:
            await line.take(amount)

    async def _make(self) -> None:
        config = {
            "name": self._stream,
            "subjects": [f"{self._settings.prefix}.quota.*"],
            "retention": "limits",
            "storage": "file",
            "discard": "old",
            "max_msgs_per_subject": 1,
            "allow_direct": False,
        }
        await make_stream(self._line.link, self._settings, config, self._patience)


class _Line:
    """Those who wait for units of one budget, and what is left of the portion."""

    __slots__ = ("_bell", "_good_until", "_grants", "_left", "_line", "_most", "_portion", "_size", "_waiting", "units")

    def __init__(self, line: Line, stream: str, subject: str, allowance: Allowance, clock: ServerClock) -> None:
        self.units = allowance.units
        self._line = line
        self._grants = Grants(line, stream, subject, allowance, clock, partial(line.home, self._granted))
        self._bell = Bell()
        self._waiting: deque[tuple[anyio.Event, int]] = deque()
        self._left = 0
        self._good_until = 0.0
        self._most = ceil(PORTION * allowance.units)
        self._portion = 1
        self._size = 0  # of the last portion

    async def take(self, amount: int) -> None:
        if not self._waiting and self._spend(amount):
            return
        turn = (anyio.Event(), amount)
        self._waiting.append(turn)
        try:
            if self._waiting[0] is not turn:
                await turn[0].wait()
            while not self._spend(amount):
                waiting = min(sum([each for _, each in self._waiting]), self._most)
                self._line.post(self._grants.want, amount, max(waiting, self._portion))
                await self._bell.wait()
        finally:
            was_first = self._waiting[0] is turn
            self._waiting.remove(turn)
            if was_first and self._waiting:
                self._waiting[0][0].set()
            elif not self._waiting:
                with suppress(EngineError):
                    self._line.post(self._grants.want, 0, 0)

    def _spend(self, amount: int) -> bool:
        if self._left and monotonic() >= self._good_until:
            if self._left == self._size:
                self._line.post(self._grants.came_late)
            self._portion = max(1, self._size - self._left)
            self._left = 0
        if self._left < amount:
            return False
        self._left -= amount
        if not self._left:
            self._portion = min(2 * self._portion, self._most)
        return True

    def _granted(self, units: int, good_until: float) -> None:
        self._left = self._size = units
        self._good_until = good_until
        self._bell.ring()
