"""Things to do later: one queue of deadlines, and one task that sleeps until the next of them.

A task for each timer would cost a hundred times a timer. The queue is a heap; a timer that is cancelled stays in it
until it is due, or until such dead entries are more than half of it.

What a timer does must not block and must not raise: the runtime puts a message or a signal into a mailbox, or cancels a
scope. The task is started by the first timer and lives until the last actor of the system has ended. It is shielded:
while everything around is cancelled, the time that actors have to clean up is measured here. Timers belong to the
system's event loop.
"""

from __future__ import annotations

import heapq
import math
import sys
from collections.abc import Callable
from typing import Any

import anyio
from anyio import CancelScope

#: Dead entries that a queue keeps whatever its size.
_FEW = 64


def check_delay(value: object) -> None:
    """Refuse what is no time to wait before sending.

    Raises:
        TypeError: it is no number.
        ValueError: it is below 0, or not finite.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"send_after() takes a delay in seconds, not {value!r}")
    if not 0 <= value <= sys.float_info.max:  # a whole number may be too large to be a float
        raise ValueError(f"send_after() takes a delay of 0 seconds or more, and a finite one, not {value!r}")


class Timer:
    """One thing that will be done later, unless it is cancelled."""

    __slots__ = ("_action", "_args", "_queue", "deadline")

    def __init__(
        self, queue: TimerQueue, deadline: float, action: Callable[..., object], args: tuple[Any, ...]
    ) -> None:
        #: When, on the event loop's clock (`anyio.current_time`).
        self.deadline = deadline
        self._queue = queue
        self._action: Callable[..., object] | None = action
        self._args = args

    @property
    def active(self) -> bool:
        """Whether it is still to come."""
        return self._action is not None

    def cancel(self) -> bool:
        """Do not do it. False if it was done, or cancelled, before."""
        if self._action is None:
            return False
        self._action, self._args = None, ()
        self._queue.forget_one()
        return True

    def fire(self) -> None:
        """Do it now. For the queue."""
        action, args = self._action, self._args
        self._action, self._args = None, ()
        if action is not None:
            action(*args)

    def __repr__(self) -> str:
        return f"<Timer for {self.deadline:g}{'' if self.active else ', over'}>"


class TimerGroup:
    """Timers of one owner, to be cancelled together."""

    __slots__ = ("_room", "_timers")

    def __init__(self) -> None:
        self._timers: list[Timer] = []
        self._room = 16

    def add(self, timer: Timer) -> None:
        """Take one in; those that are over are let go now and then."""
        if len(self._timers) >= self._room:
            self._timers = [each for each in self._timers if each.active]
            self._room = max(16, 2 * len(self._timers))
        self._timers.append(timer)

    def cancel(self) -> None:
        """Cancel all that are still to come."""
        timers, self._timers = self._timers, []
        for timer in timers:
            timer.cancel()


class TimerQueue:
    """Timers in the order of their deadlines, those of one deadline in the order of their making. Knows no clock."""

    __slots__ = ("_dead", "_heap", "_made")

    def __init__(self) -> None:
        #: Each behind its deadline and its number, which tuples compare faster than objects would.
        self._heap: list[tuple[float, int, Timer]] = []
        self._dead = 0
        self._made = 0

    def __len__(self) -> int:
        return len(self._heap) - self._dead

    def add(self, deadline: float, action: Callable[..., object], args: tuple[Any, ...]) -> Timer:
        """Queue one."""
        self._made += 1
        timer = Timer(self, deadline, action, args)
        heapq.heappush(self._heap, (deadline, self._made, timer))
        return timer

    def forget_one(self) -> None:
        """One in the heap was cancelled."""
        self._dead += 1
        if self._dead > _FEW and self._dead * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].active]
            heapq.heapify(self._heap)
            self._dead = 0

    def clear(self) -> None:
        """Cancel all."""
        for _deadline, _number, timer in tuple(self._heap):
            timer.cancel()
        self._heap.clear()
        self._dead = 0

    def next_deadline(self) -> float:
        """When the next one is due; infinity when there is none."""
        heap = self._heap
        while heap and not heap[0][2].active:
            heapq.heappop(heap)
            self._dead -= 1
        return heap[0][0] if heap else math.inf

    def pop_due(self, now: float) -> Timer | None:
        """Take the next one that is due, or None."""
        return heapq.heappop(self._heap)[2] if self.next_deadline() <= now else None


class Timers:
    """The timers of one system.

    Args:
        start: starts the task that waits, given its coroutine function.
        now: the event loop's clock, in seconds.
    """

    __slots__ = ("_asleep_until", "_now", "_queue", "_scope", "_start", "_started", "_wake")

    def __init__(self, start: Callable[[Callable[[], Any]], object], now: Callable[[], float]) -> None:
        self._queue = TimerQueue()
        self._now = now
        self._start = start
        self._started = False
        self._wake: anyio.Event | None = None
        #: What the task waits for, which may have been cancelled since: to wake it for that would cost more.
        self._asleep_until = math.inf
        self._scope = CancelScope(shield=True)

    def __len__(self) -> int:
        return len(self._queue)

    def after(self, delay: float, action: Callable[..., object], *args: Any) -> Timer:
        """Call `action(*args)` in `delay` seconds."""
        timer = self._queue.add(self._now() + delay, action, args)
        if not self._started:
            self._started = True
            self._start(self._run)
        elif timer.deadline < self._asleep_until and self._wake is not None:
            self._wake.set()
        return timer

    def close(self) -> None:
        """End the task; what is still to come never will."""
        self._scope.cancel()

    async def _run(self) -> None:
        queue = self._queue
        try:
            with self._scope:
                while True:
                    while (timer := queue.pop_due(self._now())) is not None:
                        timer.fire()
                    self._wake = anyio.Event()
                    self._asleep_until = queue.next_deadline()
                    with CancelScope(deadline=self._asleep_until):
                        await self._wake.wait()
        finally:
            queue.clear()
