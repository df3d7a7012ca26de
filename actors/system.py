"""The root of the tree: opens the group that everything runs in, and closes it in order.

::

    ActorSystem ── root supervisor ── actors that were spawned, in start order      counts against the intensity
               └── pools            ── temporary children                           never escalate

`async with ActorSystem()` ends in one of three ways. The block ends: the pools stop in parallel, then the actors in
reverse order, each with its grace. The block is cancelled, or interrupted: everything is cancelled at once. The root
supervisor gives up: the block is cancelled and one `RestartLimit` is raised after everything has ended. The block's own
exception leaves bare, never wrapped in a group.

With `signals=True` a SIGINT or SIGTERM is the first of these ways: the block is cancelled, everything ends in order,
and the program goes on behind the block. A second signal is the second way, and ends in `SystemExit`.

No word here is about models or agents; `agents/system.py` builds the public `System` on this.
"""

from __future__ import annotations

import inspect
import random
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import copy_context
from types import TracebackType
from typing import Any, Literal, Self, overload

import anyio
from anyio import CancelScope, create_task_group
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from ..mailbox import DEFAULT_CAPACITY, Budget, Envelope, Overflow, current_budget
from .actor import Actor
from .backoff import Backoff
from .cell import Cell
from .dead_letters import DeadLetters
from .errors import BadChildSpec, SystemClosed
from .exits import Exit, sole
from .home import Home
from .pool import Pool
from .ref import ActorRef, check_ref, check_seconds
from .reports import Report, Reports
from .restart import Restart
from .roles import Verdict
from .signals import SignalWatch
from .spec import ChildSpec, Supervisor
from .supervisor import SupervisorCell
from .supervisor_ref import SupervisorRef
from .timers import Timer, Timers, check_delay
from .tree import Node


class ActorSystem:
    """An async context manager that owns a tree of actors in one event loop.

    Args:
        name: for the tree and the logs.
        intensity: restarts of spawned actors allowed within `period` before the system gives up (default 3).
        period: the sliding window in seconds (default 5).
        grace: seconds that pooled children have to stop before they are killed (default 5).
        signals: whether SIGINT and SIGTERM end the block and close the system in order (default False). Only in the
            main thread.
        on_report: called with each `Report` of a supervisor: who ended badly, why, and what follows. Reports are
            logged in any case.
        chance: a number in [0, 1) for the jitter of backoffs (default: a random generator of its own).
    """

    def __init__(
        self,
        *,
        name: str = "system",
        intensity: int = 3,
        period: float = 5.0,
        grace: float = 5.0,
        signals: bool = False,
        on_report: Callable[[Report], object] | None = None,
        chance: Callable[[], float] | None = None,
    ) -> None:
        for what, function in (("on_report", on_report), ("chance", chance)):
            if function is not None and (not callable(function) or inspect.iscoroutinefunction(function)):
                raise TypeError(f"{what}= takes a plain function, not {function!r}")
        check_seconds("grace=", grace)
        self.name = name
        self._signals = signals
        self._watch: SignalWatch | None = None
        self.grace = grace
        self.dead_letters = DeadLetters()
        self.outside = Budget()
        self.reports = Reports(on_report)
        self.chance = chance if chance is not None else random.Random().random
        self.pool = Pool()
        self._supervisor = Supervisor(intensity=intensity, period=period)
        self._lifetime: AbstractAsyncContextManager[None] | None = None
        self._root: SupervisorCell | None = None
        self._group: TaskGroup | None = None
        self._escalated: BaseException | None = None
        self._closing = False
        self._counts: dict[str, int] = {}
        #: What the actor spawned last was started by; the next one of its kind shares it.
        self._last_spec: ChildSpec | None = None

    # -- life

    async def __aenter__(self) -> Self:
        if self._lifetime is not None:
            raise SystemClosed(f"{self.name!r} was opened before; a system is opened once")
        self._lifetime = self._live()
        await self._lifetime.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        assert self._lifetime is not None
        return await self._lifetime.__aexit__(exc_type, exc, tb)

    @asynccontextmanager
    async def _live(self) -> AsyncGenerator[None]:
        failure: BaseException | None = None
        try:
            async with create_task_group() as group:
                self._open(group)
                body = CancelScope()
                if self._signals:
                    self._watch = SignalWatch(lambda: self._interrupt(body), lambda: self._insist(group))
                    await group.start(self._watch.run)
                try:
                    with body:
                        yield
                except Exception as error:
                    # A block that answers its cancellation with an error of its own does not hide why.
                    failure = self._escalated or error
                await self._shut_down()
        except BaseExceptionGroup as errors:
            raise sole(errors) from None
        finally:
            self._closing = True
            self._group = None
            # A run belongs to its caller's group as well, which the end of ours does not reach.
            at_once = self._watch is not None and self._watch.second is not None
            await self.pool.kill(0.0 if at_once else self.grace)
        if failure is not None and self._escalated not in (None, failure):
            failure.add_note(f"while {self.name!r} was shutting down: {self._escalated}")
        failure = failure or self._escalated
        if failure is not None:
            raise failure
        if self._watch is not None and self._watch.second is not None:
            raise SystemExit(128 + self._watch.second)

    def _open(self, group: TaskGroup) -> None:
        self.home = Home()
        self.context = copy_context()
        self.opened_at = anyio.current_time()
        self._group = group
        self.timers = Timers(lambda run: group.create_task(run(), context=self.context), self.home.now)
        self._root = SupervisorCell("", "", self._supervisor, self, self)
        self._root.spawn_in(group, self.context)

    async def _shut_down(self) -> None:
        self._closing = True
        await self.pool.stop(self.grace, "system")
        assert self._root is not None
        self._root.request_stop("system")
        await self._root.wait_ended()
        if self._watch is not None:
            self._watch.close()

    def _interrupt(self, body: CancelScope) -> None:
        """The first signal: end the block, as soon as that is in order."""

        def end() -> None:
            self._closing = True
            body.cancel()

        self.wind_down(end)

    def wind_down(self, end: Callable[[], None]) -> None:
        """Bring things to a good end before the block is ended by a signal; then call `end`."""
        end()

    def _insist(self, group: TaskGroup) -> None:
        assert self._root is not None
        self._root.kill_all()
        for cell in self.pool.cells():
            cell.kill()
        group.cancel_scope.cancel()

    def child_started(self, _child: Cell, /) -> None:
        return None

    def child_down(self, _child: Cell, exit: Exit, _in_place: bool, /) -> Verdict:
        """The root supervisor has ended: in order, cancelled, or because it gave up."""
        self.timers.close()
        self.reports.close()
        if exit.kind == "crashed" and self._group is not None:
            self._escalated = self.escalation(exit.error) if exit.error is not None else None
            self._group.cancel_scope.cancel()
        return Verdict.FINAL

    def child_dismissed(self, _child: Cell, /) -> None:
        return None

    def escalation(self, error: BaseException) -> BaseException:
        """What the block is told when the root supervisor has given up with `error`."""
        return error

    def not_open(self) -> SystemClosed:
        """The error for using a system outside its block."""
        return SystemClosed(f"{self.name!r} is not open: use it as `async with {type(self).__name__}() as system:`")

    # -- what others use

    @property
    def is_open(self) -> bool:
        """Whether new actors are taken."""
        return self._group is not None and not self._closing and self._root is not None and self._root.takes_children

    @property
    def interrupted_by(self) -> signal.Signals | None:
        """The signal that ended the block (``signals=True``), or None."""
        return self._watch.first if self._watch is not None else None

    @property
    def group(self) -> TaskGroup:
        """The group that pooled children run in.

        Raises:
            SystemClosed: the system is not open.
        """
        if self._group is None or self._closing:
            raise self.not_open()
        return self._group

    def unique_name(self, stem: str) -> str:
        """A name for the next actor called `stem` that no live actor has: stem-1, stem-2 …"""
        count = self._counts.get(stem, 0) + 1
        root = self._root
        while (name := f"{stem}-{count}") in self.pool or (root is not None and root.has(name)):
            count += 1
        self._counts[stem] = count
        return name

    @overload
    async def spawn(
        self,
        start: Supervisor,
        *,
        name: str | None = None,
        restart: Restart = "transient",
        backoff: Backoff | None = None,
    ) -> SupervisorRef: ...

    @overload
    async def spawn(
        self,
        start: Callable[[], Actor],
        *,
        name: str | None = None,
        restart: Restart = "transient",
        shutdown: float | Literal["kill"] | None = None,
        capacity: int = DEFAULT_CAPACITY,
        overflow: Overflow = "wait",
        backoff: Backoff | None = None,
    ) -> ActorRef[Any]: ...

    async def spawn(
        self,
        start: Callable[[], Actor] | Supervisor,
        *,
        name: str | None = None,
        restart: Restart = "transient",
        shutdown: float | Literal["kill"] | None = None,
        capacity: int = DEFAULT_CAPACITY,
        overflow: Overflow = "wait",
        backoff: Backoff | None = None,
    ) -> ActorRef[Any]:
        """Start an actor, or a supervised group, under the root and wait until it is ready.

        Args:
            start: an `Actor` class, a callable that makes an actor, or a `Supervisor`.
            name: unique among the live actors; by default the class's name and a number.
            restart, shutdown, capacity, overflow, backoff: see `ChildSpec`.

        Raises:
            BadChildSpec: an argument that cannot work.
            NameTaken: a live actor has that name.
            StartFailed: its `started` failed; the failure is the ``__cause__``.
            SystemClosed: the system is not open.
        """
        if self._root is None or self._closing:
            await checkpoint()  # whoever tries for ever must let the others end
            raise self.not_open()
        self.home.refuse_elsewhere("spawn()")
        if name is None:
            name = self.unique_name(_stem_of(start))
        elif not isinstance(name, str) or not name or "/" in name:
            raise BadChildSpec(f"name must be text, not empty and without a slash, not {name!r}")
        spec = self._last_spec
        if spec is None or not spec.says(start, restart, shutdown, capacity, overflow, backoff):
            spec = ChildSpec(
                name, start, restart=restart, shutdown=shutdown, capacity=capacity, overflow=overflow, backoff=backoff
            )
            # A class stays anyhow; what a function has in its closure must not be kept for this.
            self._last_spec = spec if isinstance(start, type) else None
        return await self._root.start_checked(name, spec)

    def send_after(self, delay: float, ref: ActorRef[Any], message: Any) -> Timer:
        """Send `message` to an actor in `delay` seconds, unless the returned timer is cancelled before.

        It then takes its place behind what waits in the mailbox; where that is full it waits for room, like a sender.
        If the actor has ended by then it is a dead letter. What is still to come when the system closes is dropped.

        Raises:
            ValueError: a delay below 0, or not finite.
            SystemClosed: the system is not open.
        """
        check_delay(delay)
        check_ref("send_after()", ref)
        if not self.is_open:
            raise self.not_open()
        self.home.refuse_elsewhere("send_after()")
        return self.timers.after(delay, ref._cell.post, Envelope(message, None, current_budget.get(self.outside).owner))

    def actor(self, name: str) -> ActorRef[Any] | None:
        """The address of the live actor with this name, or None. A nested one is called ``supervisor/child``."""
        ref = self._root.ref if self._root is not None else None
        for step in name.split("/"):
            ref = ref.child(step) if isinstance(ref, SupervisorRef) else None
        return ref

    def tree(self) -> Node:
        """The live tree at this moment."""
        now = anyio.current_time()
        state = "open" if self.is_open else "closing" if self._group is not None else "closed"
        return Node(
            self.name,
            "system",
            state,
            now - self.opened_at if self._root is not None else 0.0,
            children=tuple([cell.node(now) for cell in self._residents()]),
        )

    def _residents(self) -> list[Cell]:
        """What the tree has below the system itself."""
        children = self._root.children() if self._root is not None else ()
        return [*children, *self.pool.cells()]


def _stem_of(start: object) -> str:
    """What actors made by this are called, before the number."""
    name = getattr(start, "__name__", type(start).__name__)
    return name.lower() if name.isidentifier() else "actor"
