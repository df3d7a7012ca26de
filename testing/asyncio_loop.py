"""An asyncio event loop for tests: virtual time, an order of tasks that follows from a seed, a hook before each step.

This module alone knows the inside of asyncio's loop: the queue of what is ready, the handles in it, and the point
between input/output and the callbacks at which the queue is put into another order.

**Time.** The selector is where a loop waits. Ours first looks whether anything is there, and otherwise moves the clock
to the next timer instead of waiting, unless something holds the clock.

**Order.** asyncio promises no order among tasks, but it does among callbacks: the bytes of a connection arrive before
its end. So only steps of tasks change places, and only with those next to them in the queue. Before they are shuffled
they are put into the order in which the tasks began, because sets of tasks, and so cancellation, have none.
"""

from __future__ import annotations

import asyncio
import math
import random
import selectors
import threading
from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from .clock import Holds, register
from .deadlock import PATIENCE, Deadlock, Outsiders
from .observer import Observer
from .thread_waits import threads_at_work


class Loop(asyncio.SelectorEventLoop):
    """The event loop. Give a function that makes one to `asyncio.Runner` as `loop_factory`.

    Args:
        virtual_time: whether time jumps to the next timer when nothing can run. It begins at 0.
        seed: what the order of tasks follows from; None leaves it to asyncio.
        observer: who wants to know of the steps, and of errors that nobody retrieved.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _clock_resolution: float

    def __init__(self, *, virtual_time: bool, seed: int | None, observer: Observer | None = None) -> None:
        self._now = 0.0 if virtual_time else None
        self._holds = Holds()
        self._in_executors = 0
        self._random = None if seed is None else random.Random(seed)
        self._order: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        self._observer = observer
        self._plain = self._random is None and (observer is None or observer.before_step is None)
        self._outsiders = Outsiders()
        super().__init__(_Selector(self._wait))
        if virtual_time:
            register(self, self._holds)

    # -- time

    def time(self) -> float:
        return super().time() if self._now is None else self._now

    def _wait(self, timeout: float | None, registered: int) -> float | None:
        """For how long to wait for real, given that nothing is ready. None is for ever.

        Args:
            timeout: seconds to the next timer, at most a day; None if there is none.
            registered: the descriptors that are waited for.
        """
        if timeout is not None and self._now is None:
            return timeout
        if self._held():
            return None
        due = math.inf if timeout is None else self._scheduled[0].when()
        if due < math.inf:  # a sleep for ever is a timer, too
            self._now = due
            # Late in time neighbouring numbers lie further apart than the tolerance with which asyncio compares times.
            self._clock_resolution = max(self._clock_resolution, math.ulp(due))
            return 0.0
        if registered > 1:  # one is the loop's own, through which other threads wake it
            return None
        if self._outsiders.may_call():
            return PATIENCE
        tasks = sorted(asyncio.all_tasks(self), key=lambda task: self._order.get(task, 0))
        raise Deadlock((task.get_name(), task.get_coro()) for task in tasks)

    def _held(self) -> bool:
        if self._holds.told.count:
            return True
        threads = self._holds.outside.count + self._in_executors
        if not threads and not any(getattr(thread, "loop", None) is self for thread in threading.enumerate()):
            return False  # anyio has no thread for this loop either; to look at all tasks would cost more
        return threads + threads_at_work(task.get_coro() for task in asyncio.all_tasks(self)) > 0

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        future = super().run_in_executor(executor, func, *args)
        self._in_executors += 1
        future.add_done_callback(self._out_of_executor)
        return future

    def _out_of_executor(self, future: object) -> None:
        self._in_executors -= 1

    async def shutdown_default_executor(self, *args: Any) -> None:
        with self._holds.told:  # it waits for threads, and some versions of Python give them a deadline
            await super().shutdown_default_executor(*args)

    # -- order

    def _call_soon(self, callback: Any, args: Any, context: Any) -> asyncio.Handle:
        task = None if self._plain else getattr(callback, "__self__", None)
        if not isinstance(task, asyncio.Task):
            loop: Any = super()
            return loop._call_soon(callback, args, context)
        if self._random is not None and task not in self._order:
            self._order[task] = len(self._order)
        handle = _Step(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def _process_events(self, event_list: Any) -> None:
        loop: Any = super()
        loop._process_events(event_list)
        if self._random is not None:
            self._shuffle(self._random)

    def _shuffle(self, source: random.Random) -> None:
        # Other threads may append meanwhile, so what is there now is taken out and put back in front.
        ready = [self._ready.popleft() for _ in range(len(self._ready))]
        begin = 0
        for end in range(len(ready) + 1):
            if end < len(ready) and isinstance(ready[end], _Step):
                continue
            if end - begin > 1:
                group = sorted(ready[begin:end], key=self._began)
                source.shuffle(group)
                ready[begin:end] = group
            begin = end + 1
        self._ready.extendleft(reversed(ready))

    def _began(self, step: asyncio.Handle) -> int:
        task = _task_of(step)
        return 0 if task is None else self._order[task]

    # -- who watches

    def before_step(self) -> None:
        """Call the observer, as a callback of the loop: a cancellation from there reaches the step that comes next."""
        if self._observer is not None and self._observer.before_step is not None:
            self._observer.before_step()

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        if self._observer is None:
            super().default_exception_handler(context)
            return
        about = [repr(context[key]) for key in ("exception", "task", "future", "handle") if context.get(key)]
        self._observer.complaints.append(": ".join([context["message"], *about]))


class _Step(asyncio.Handle):
    """A step of a task, in the queue of what is ready."""

    __slots__ = ()

    def _run(self) -> None:
        step: Any = self
        step._loop.before_step()
        if not step._cancelled:
            step = super()
            step._run()


def _task_of(step: Any) -> asyncio.Task[Any] | None:
    """The task; none if the step was cancelled, which empties it."""
    return None if step._callback is None else step._callback.__self__


class _Selector(selectors.DefaultSelector):
    """Looks whether something is ready, and asks how long to wait when nothing is."""

    def __init__(self, wait: Callable[[float | None, int], float | None]) -> None:
        super().__init__()
        self._wait = wait

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        return super().select(self._wait(timeout, len(self.get_map())))
