"""Whose turn it is: how many runs are at work at once, and how many may wait for that.

A run is *booked* from its start to its end, and has a *place* while it works. Who finds none free waits, first come,
first served; or, where that is asked for, users take turns, so that one with a thousand runs does not keep out one
with a single run. A place goes from hand to hand: nobody who comes later can take it in between.

Subagents need no place of their own: their run has one.
"""

from __future__ import annotations

from collections import OrderedDict

import anyio

from .errors import SystemBusy


class _Waiting:
    """A run that waits for a place."""

    __slots__ = ("come", "has_place")

    def __init__(self) -> None:
        self.come = anyio.Event()
        self.has_place = False


class RunQueue:
    """The places of one System. Belongs to its event loop.

    Args:
        running: places.
        queued: how many runs may wait; None for any number.
        fair: whether users take turns.
    """

    __slots__ = ("_booked", "_fair", "_free", "_queued", "_running", "_users")

    def __init__(self, running: int, queued: int | None = None, *, fair: bool = False) -> None:
        self._running = running
        self._queued = queued
        self._fair = fair
        self._free = running
        self._booked = 0
        #: Who waits, by user, in the order of their turns.
        self._users: OrderedDict[str | None, OrderedDict[_Waiting, None]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Runs that wait for a place."""
        return sum(map(len, self._users.values()))

    def book(self) -> None:
        """Let a run in.

        Raises:
            SystemBusy: as many wait as may.
        """
        if self._queued is not None and self._booked >= self._running + self._queued:
            raise SystemBusy(self._running, self._queued)
        self._booked += 1

    def let_in(self) -> None:
        """Let a run in that must not be refused, because it has begun before."""
        self._booked += 1

    def strike(self) -> None:
        """A run that was let in is over."""
        self._booked -= 1

    def enter_now(self) -> bool:
        """Take a place if one is free; False if not."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def enter(self, user_id: str | None) -> None:
        """Wait for a place. Cancelling it leaves none taken."""
        if self.enter_now():
            return
        user = user_id if self._fair else None
        line = self._users.setdefault(user, OrderedDict())
        waiting = _Waiting()
        line[waiting] = None
        try:
            await waiting.come.wait()
        except BaseException:
            if waiting.has_place:
                self.leave()
            else:
                del line[waiting]
                if not line:
                    del self._users[user]
            raise

    def leave(self) -> None:
        """Give a place back: to the next one, if anybody waits."""
        if not self._users:
            self._free += 1
            return
        user, line = self._users.popitem(last=False)
        waiting, _ = line.popitem(last=False)
        if line:
            self._users[user] = line  # behind all others
        waiting.has_place = True
        waiting.come.set()
