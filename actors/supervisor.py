"""An actor whose work is its children: it starts them in order, restarts them by rule, and stops them in reverse.

::

    start        children in order, each ready before the next; a first start that fails stops those before it
    supervise    one control signal at a time: a group to restart, a child wanted, stop; or give up
    stop         children in reverse order, each fully ended before the next is asked; grace, then kill

What to do about an ended child is decided by `restart.decide`, at once, when the child reports its end; most decisions
end there (a temporary child is forgotten, a crashed ``one_for_one`` child goes on in its own task). What needs waiting
is ordered and done by the supervisor's own task. It waits by reading its control lane and nothing else, so it hears a
stop while it starts, restarts or waits out a grace. From the moment of the request on nothing new is started.

Cancellation from outside is a kill: the group ends all children together, and the supervisor after them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import anyio
from anyio import create_task_group
from anyio.abc import TaskGroup

from ..mailbox import Budget, Reply, current_budget
from .actor import Actor
from .actor_cell import ActorCell
from .cell import Cell, Parent, Stage, Stop, Verdict
from .errors import NameTaken, RestartLimit, StartFailed, SystemClosed
from .exits import KILLED, SHUTDOWN, Exit
from .ref import ActorRef
from .restart import Child, GiveUp, Intensity, RestartGroup, decide
from .spec import DEFAULT_SHUTDOWN, ChildSpec, Supervisor
from .tree import Node


class _ChildChanged:
    """A child that the supervisor waits for has changed its state."""

    __slots__ = ()


class _ChildWanted:
    """Somebody waits for a child that the supervisor starts when it has time."""

    __slots__ = ("cell", "reply", "spec")

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.reply = Reply()
        self.cell: Cell | None = None


_Signal: TypeAlias = "Stop | RestartGroup | _ChildWanted | _ChildChanged"
_CHANGED = _ChildChanged()


class SupervisorCell(Cell):
    """Carries out a `Supervisor`."""

    __slots__ = (
        "_awaited",
        "_busy",
        "_cells",
        "_deferred",
        "_failure",
        "_group",
        "_intensity",
        "_regrouping",
        "_specs",
        "_stopping",
        "supervisor",
    )

    kind = "supervisor"

    def __init__(self, id: str, name: str, supervisor: Supervisor, parent: Parent, stage: Stage) -> None:
        super().__init__(id, name, parent, stage)
        self.supervisor = supervisor
        self._reset()

    @property
    def ref(self) -> SupervisorRef:
        return SupervisorRef(self)

    def _reset(self) -> None:
        """A new incarnation knows nothing of the children of the last one."""
        self._specs: dict[str, ChildSpec] = {}
        #: The children in start order.
        self._cells: dict[str, Cell] = {}
        self._deferred: deque[_Signal] = deque()
        self._intensity = Intensity(self.supervisor.intensity, self.supervisor.period)
        self._group: TaskGroup | None = None
        #: The child whose next change of state must wake the supervisor's task.
        self._awaited: Cell | None = None
        #: Children that a decided, unfinished group restart will stop: their ends are part of it.
        self._regrouping: set[str] = set()
        #: Why the supervisor gave up.
        self._failure: RestartLimit | StartFailed | None = None
        #: Whether nothing new may start: a stop was asked for, or the supervisor gave up, or it is over.
        self._stopping = self.stop_requested
        #: Whether the supervisor's task is in the middle of something; if not, others may add a child at once.
        self._busy = True

    # -- the life of one incarnation

    async def perform(self) -> None:
        self._reset()
        left = KILLED
        try:
            async with create_task_group() as group:
                self._group = group
                await self._supervise()
            left = SHUTDOWN
        finally:
            self._stopping = True
            for cell in tuple(self._cells.values()):
                cell.close(left)  # those that waited for a restart which will not come
            self._cells.clear()
            self._specs.clear()
            self._refuse_the_rest()
        if self._failure is not None:
            raise self._failure

    async def _supervise(self) -> None:
        """Start, supervise, stop."""
        await self._start_all(self.supervisor.children)
        if not self._stopping:
            self.announce_started()
        while not self._stopping:
            self._busy = False
            signal: _Signal = self._deferred.popleft() if self._deferred else await self.mailbox.receive_signal()
            self._busy = True
            if isinstance(signal, RestartGroup):
                await self._restart(signal)
            elif isinstance(signal, _ChildWanted):
                self._answer(signal)
        await self._stop_all(reversed(tuple(self._cells.values())))

    async def _next_change(self) -> None:
        """Wait until something has changed; what asks for more than a look is kept for later."""
        signal: _Signal = await self.mailbox.receive_signal()
        if isinstance(signal, RestartGroup | _ChildWanted):
            self._deferred.append(signal)

    def stand_down(self, reason: str | None) -> None:
        super().stand_down(reason)
        self._stopping = self._stopping or self.stop_requested

    def _give_up(self, error: RestartLimit | StartFailed, cause: BaseException | None) -> None:
        error.__cause__ = cause
        self._failure = error
        self._stopping = True
        self.mailbox.signal(_CHANGED)

    # -- starting

    async def _start_all(self, specs: Sequence[ChildSpec]) -> None:
        for spec in specs:
            if self._stopping:
                return
            cell = self._launch(spec)
            await self._until_up(cell)
            if cell.exit is not None and not cell.ready and not self._stopping:
                self._give_up(StartFailed(cell.name, cell.exit), cell.exit.error)

    def _launch(self, spec: ChildSpec) -> Cell:
        """Make the child and put its task into the group; it is not ready yet.

        Raises:
            NameTaken: there is a child with that id.
        """
        name = f"{self.name}/{spec.id}" if self.name else spec.id
        if spec.id in self._specs:
            raise NameTaken(name)
        assert self._group is not None
        start = spec.start
        cell: Cell
        if isinstance(start, Supervisor):
            cell = SupervisorCell(spec.id, name, start, self, self.stage)
        else:
            cell = ActorCell(
                spec.id,
                name,
                start,
                self,
                self.stage,
                capacity=spec.capacity,
                overflow=spec.overflow,
                cleanup_time=_grace(spec),
            )
        self._specs[spec.id] = spec
        self._cells[spec.id] = cell
        cell.spawn_in(self._group, self.stage.context)
        return cell

    async def _until_up(self, cell: Cell, *, restarting: bool = False) -> None:
        self._awaited = cell
        while cell.state == "starting" and not self._stopping and not (restarting and self._is_overtaken()):
            await self._next_change()
        self._awaited = None

    def _answer(self, wanted: _ChildWanted) -> None:
        if not wanted.reply.waiting:
            return  # whoever wanted it was cancelled
        try:
            wanted.cell = self._launch(wanted.spec)
        except NameTaken as error:
            wanted.reply.fail(error)
        else:
            wanted.reply.succeed(wanted.cell)

    # -- restarting

    async def _restart(self, plan: RestartGroup) -> None:
        self._regrouping.update(plan.stop, plan.start)  # an earlier plan may have finished with some of them
        await self._stop_all([self._cells[id] for id in plan.stop if id in self._cells])
        for id in plan.forget:
            self._forget(id)
        for id in plan.start:
            cell = self._cells.get(id)
            if cell is None:
                continue
            if self._stopping or self._is_overtaken():
                return
            self._regrouping.discard(id)
            if cell.dismissed and self._specs[id].restart == "transient":
                self._forget(id)  # stopped by somebody while it waited here
                continue
            assert self._group is not None
            cell.spawn_in(self._group, self.stage.context)
            await self._until_up(cell, restarting=True)
            if cell.state == "restarting":
                return  # it crashed again while it started, and its end was decided on: a new plan is in the lane

    def _is_overtaken(self) -> bool:
        """Whether a child that is up has crashed since: the newer plan covers all that the older has left to start.

        Finishing the older one first could wait for ever, for a child that asks the crashed one while it starts.
        """
        group = self.supervisor.strategy != "one_for_one"
        return group and any(isinstance(signal, RestartGroup) for signal in self._deferred)

    def _forget(self, id: str) -> None:
        self._regrouping.discard(id)
        self._specs.pop(id, None)
        cell = self._cells.pop(id, None)
        if cell is not None:
            cell.close(SHUTDOWN)

    # -- stopping

    async def _stop_all(self, cells: Iterable[Cell]) -> None:
        """One after the other: ask, wait for the grace, kill, wait."""
        for cell in cells:
            if cell.is_down:
                continue
            spec = self._specs[cell.id]
            if spec.shutdown != "kill":
                cell.stand_down("shutdown")
                with anyio.move_on_after(_grace(spec)):
                    await self._until_down(cell)
            if not cell.is_down:
                cell.kill()
                await self._until_down(cell)

    async def _until_down(self, cell: Cell) -> None:
        self._awaited = cell
        while not cell.is_down:
            await self._next_change()
        self._awaited = None

    def _refuse_the_rest(self) -> None:
        """Answer the requests for children that nobody will start."""
        control = self.mailbox.lanes.control
        for signal in (*self._deferred, *(control or ())):
            if isinstance(signal, _ChildWanted):
                signal.reply.fail(SystemClosed(f"supervisor {self.name!r} takes no new children: it is stopping"))
        self._deferred.clear()
        if control:
            control.clear()

    # -- what children and others call; never blocks

    def child_started(self, child: Cell) -> None:
        if self._awaited is child:
            self.mailbox.signal(_CHANGED)

    def child_down(self, child: Cell, exit: Exit, in_place: bool) -> Verdict:
        if self._awaited is child:
            self.mailbox.signal(_CHANGED)
        if child.id in self._regrouping and not self._stopping:
            return Verdict.WAIT
        # A first start that failed is no crash to be restarted: whoever wanted the child hears of it.
        verdict = Verdict.FINAL if self._stopping or not child.ready else self._judge(child, exit, in_place)
        if verdict is Verdict.FINAL:
            del self._specs[child.id], self._cells[child.id]
        return verdict

    def _judge(self, child: Cell, exit: Exit, in_place: bool) -> Verdict:
        supervisor = self.supervisor
        if self._specs[child.id].restart == "temporary":
            return Verdict.FINAL  # nothing to decide, and most children are of this type
        own = Child(child.id, self._specs[child.id].restart, child.dismissed)
        # Only the group strategies look at the siblings.
        siblings = () if supervisor.strategy == "one_for_one" else self._siblings()
        plan = decide(supervisor.strategy, siblings, self._intensity, own, exit, anyio.current_time())
        if isinstance(plan, RestartGroup):
            if in_place and supervisor.strategy == "one_for_one":
                return Verdict.AGAIN
            self._regrouping.update(plan.stop, plan.start)
            self.mailbox.signal(plan)
            return Verdict.WAIT
        if isinstance(plan, GiveUp):
            name = self.name or "the system"
            self._give_up(RestartLimit(name, child.name, supervisor.intensity, supervisor.period), exit.error)
        return Verdict.FINAL

    def _siblings(self) -> list[Child]:
        return [Child(id, self._specs[id].restart) for id in self._cells]

    def kill(self) -> None:
        self._stopping = True  # its group is about to close
        super().kill()

    async def start_child(self, spec: ChildSpec) -> ActorRef[Any]:
        """Add a child at the end of the order and wait until it is ready. See `SupervisorRef.start_child`."""
        await current_budget.get(self.stage.outside).spend()
        if self._stopping:
            raise SystemClosed(f"supervisor {self.name or 'of the system'!r} takes no new children: it is not running")
        if self._busy:
            cell = await self._launched_later(spec)
        else:
            cell = self._launch(spec)
        if not _starts_at_once(spec):
            try:
                await cell.wait_up()
            except BaseException:
                cell.kill()
                raise
        if cell.exit is not None and not cell.ready:
            raise StartFailed(cell.name, cell.exit) from cell.exit.error
        return cell.ref

    async def _launched_later(self, spec: ChildSpec) -> Cell:
        wanted = _ChildWanted(spec)
        self.mailbox.signal(wanted)
        try:
            return await wanted.reply.wait()
        except BaseException:
            if wanted.cell is not None:  # started in the very tick of the cancellation
                wanted.cell.kill()
            raise

    def contains(self, budget: Budget) -> bool:
        return budget is self.budget or any(cell.contains(budget) for cell in self._cells.values())

    def child(self, id: str) -> ActorRef[Any] | None:
        """The address of the child with this id."""
        cell = self._cells.get(id)
        return cell.ref if cell is not None else None

    def children(self) -> tuple[Cell, ...]:
        """The children in start order."""
        return tuple(self._cells.values())

    def node(self, now: float) -> Node:
        node = super().node(now)
        return Node(
            node.name,
            node.kind,
            node.state,
            node.age,
            restarts=node.restarts,
            children=tuple(cell.node(now) for cell in self._cells.values()),
        )


def _grace(spec: ChildSpec) -> float:
    """Seconds that the child has to stop, and its cleanup to run."""
    if isinstance(spec.shutdown, int | float):
        return spec.shutdown
    return float("inf") if isinstance(spec.start, Supervisor) else DEFAULT_SHUTDOWN


def _starts_at_once(spec: ChildSpec) -> bool:
    """Whether starting the child cannot fail or take time: an Actor class without code of its own for that."""
    start = spec.start
    return (
        isinstance(start, type)
        and issubclass(start, Actor)
        and start.started is Actor.started
        and start.__init__ is Actor.__init__
        and start.__new__ is Actor.__new__
    )


class SupervisorRef(ActorRef[Any]):
    """The address of a supervisor: one can give it children, not messages."""

    __slots__ = ()

    _cell: SupervisorCell

    async def start_child(self, spec: ChildSpec) -> ActorRef[Any]:
        """Start a child after those that are there, and wait until it is ready.

        Raises:
            NameTaken: the supervisor has a child with that id.
            StartFailed: the child's `started` failed; the failure is the ``__cause__``.
            SystemClosed: the supervisor is stopping or has ended.
        """
        return await self._cell.start_child(spec)

    def child(self, id: str) -> ActorRef[Any] | None:
        """The address of the child with this id, or None."""
        return self._cell.child(id)
