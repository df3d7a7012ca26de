"""Instruments and a clock for trio in tests: virtual time, an order of tasks that follows from a seed, a hook per step.

This module alone knows the inside of trio's scheduler: the random source that shuffles a batch of tasks, and the switch
that puts the batch into the order in which the tasks began before it does. Both belong to the process, so a seed is
for one run at a time; they are put back after it.

trio has a clock that jumps when nothing can run. Whether it may is asked each time that nothing is ready, when trio
wants to know how long to sleep. That clock cannot be subclassed, so the method is replaced on the instance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import trio
from trio._core import _run as trio_scheduler
from trio.testing import MockClock

from .clock import Holds, register
from .deadlock import PATIENCE, Deadlock, Outsiders
from .observer import Observer
from .thread_waits import frames_of, threads_at_work

_scheduler: Any = trio_scheduler


class Conductor(trio.abc.Instrument):
    """The instrument. `clock` is to be given to the same run; None is trio's own.

    Args:
        virtual_time: whether time jumps to the next deadline when nothing can run. It begins at 0.
        seed: what the order of tasks follows from; None leaves it to trio.
        observer: who wants to know of the steps.
    """

    def __init__(self, *, virtual_time: bool, seed: int | None, observer: Observer | None = None) -> None:
        self.clock = MockClock() if virtual_time else None
        self._seed = seed
        self._observer = observer
        self._holds = Holds()
        self._outsiders = Outsiders()
        self._before: tuple[Any, bool] | None = None
        if self.clock is not None:
            self._until = self.clock.deadline_to_sleep_time
            setattr(self.clock, "deadline_to_sleep_time", self._sleep_time)  # noqa: B010 - it is a method

    def before_run(self) -> None:
        if self.clock is not None:
            register(trio.lowlevel.current_trio_token(), self._holds)
        if self._seed is not None:
            self._before = _scheduler._r.getstate(), _scheduler._ALLOW_DETERMINISTIC_SCHEDULING
            _scheduler._r.seed(self._seed)
            _scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True

    def after_run(self) -> None:
        if self._before is not None:
            state, _scheduler._ALLOW_DETERMINISTIC_SCHEDULING = self._before
            _scheduler._r.setstate(state)
            self._before = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._observer is not None and self._observer.before_step is not None and not _is_trios(task):
            self._observer.before_step()

    def _sleep_time(self, deadline: float) -> float:
        """For how long to wait for real, and whether to jump then. Asked when no task is ready."""
        seconds = self._until(deadline)
        if seconds <= 0:
            return seconds
        held = self._held()
        self._let_jump(not held and deadline < math.inf)
        if held or deadline < math.inf:
            return seconds
        return self._at_rest(seconds)

    def _let_jump(self, may: bool) -> None:
        assert self.clock is not None
        threshold = 0.0 if may else math.inf
        if self.clock.autojump_threshold != threshold:
            self.clock.autojump_threshold = threshold

    def _held(self) -> bool:
        if self._holds.told.count or self._holds.outside.count:
            return True
        return trio.testing.active_thread_count() > 0 and threads_at_work(task.coro for task in _tasks()) > 0

    def _at_rest(self, seconds: float) -> float:
        """Nothing has a deadline. Whether that is for ever is known only where trio says what it waits for."""
        give_up = None if self._observer is None else self._observer.give_up
        if give_up is None:
            return seconds
        if self._outsiders.may_call():
            return PATIENCE
        statistics: Any = trio.lowlevel.current_statistics()
        io = statistics.io_statistics
        if io.backend != "epoll" or io.tasks_waiting_read + io.tasks_waiting_write > 1:  # one is trio's own
            return seconds
        tasks = list(_tasks())
        if statistics.run_sync_soon_queue_size or any(map(_waits_for_rest, tasks)):
            return seconds
        deadlock = Deadlock((task.name, task.coro) for task in tasks if not _is_trios(task))
        if not give_up(deadlock):  # once is enough, except for what is shielded
            for task in tasks:
                if not _is_trios(task) and not any(nursery.child_tasks for nursery in task.child_nurseries):
                    trio.lowlevel.reschedule(task, _scheduler.Error(deadlock))
        return 0.0


def _tasks() -> Iterator[trio.lowlevel.Task]:
    """All tasks of this run."""
    root = trio.lowlevel.current_root_task()
    pending = [] if root is None else [root]
    while pending:
        task = pending.pop()
        yield task
        for nursery in task.child_nurseries:
            pending.extend(sorted(nursery.child_tasks, key=lambda each: each.name))


def _waits_for_rest(task: trio.lowlevel.Task) -> bool:
    return any(frame.f_code.co_name == "wait_all_tasks_blocked" for frame in frames_of(task.coro))


def _is_trios(task: trio.lowlevel.Task) -> bool:
    return task.name in ("<init>", "<TrioToken.run_sync_soon task>")
