"""An actor whose work is its children: it starts them in order, restarts them by rule, and stops them in reverse.

::

    start        children in order, each ready before the next; a first start that fails stops those before it
    supervise    one control signal at a time: a group to restart, a child wanted, stop; or give up
    stop         children in reverse order, each fully ended before the next is asked; grace, then kill

What to do about an ended child is decided by `restart.decide`, at once, when the child reports its end; most decisions
end there (a temporary child is forgotten, a crashed ``one_for_one`` child goes on in its own task). What needs waiting
is ordered and done by the supervisor's own task. It waits by reading its control lane and nothing else, so it hears a
stop while it starts, restarts or waits out a grace. From the moment of the request on nothing new is started.

A restart that must wait for its backoff is a timer: the group is stopped at once, and when the time has come the timer
puts the rest of the plan into the control lane. Meanwhile the supervisor is as free as ever.

Cancellation from outside is a kill: the group ends all children together, and the supervisor after them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from anyio import CancelScope, create_task_group
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from ..mailbox import MESSAGES_PER_CHECKPOINT, Budget, current_budget
from .actor_cell import ActorCell
from .cell import Cell
from .descent import Descent
from .dormant import may_lie_dormant
from .errors import BadChildSpec, LinkBroken, NameTaken, RestartLimit, StartFailed, SystemClosed, WouldDeadlock
from .exits import KILLED, SHUTDOWN, Exit
from .ref import ActorRef
from .reports import Report, ReportKind
from .requests import CHANGED, ChildUnwanted, ChildWanted, Restarts, Signal
from .restart import GiveUp, RestartGroup
from .roles import ActorStage, Parent, Verdict
from .roster import ChildCount, Roster
from .spec import ChildSpec, Supervisor
from .supervisor_ref import SupervisorRef
from .timers import Timer
from .tree import Node
from .whereabouts import is_below


class SupervisorCell(Cell):
    """Carries out a `Supervisor`."""

    __slots__ = (
        "_abandoned",
        "_awaited",
        "_busy",
        "_deferred",
        "_descent",
        "_failure",
        "_group",
        "_later",
        "_lost",
        "_regrouping",
        "_removing",
        "_roster",
        "_stopping",
        "supervisor",
    )

    kind = "supervisor"
    stage: ActorStage

    def __init__(self, id: str, name: str, supervisor: Supervisor, parent: Parent, stage: ActorStage) -> None:
        super().__init__(id, name, parent, stage)
        self.supervisor = supervisor
        self._reset()

    @property
    def ref(self) -> SupervisorRef:
        return SupervisorRef(self)

    @property
    def _title(self) -> str:
        return f"supervisor {self.name!r}" if self.name else "the system"

    def _reset(self) -> None:
        """A new incarnation knows nothing of the children of the last one."""
        self._roster = Roster(self.supervisor)
        self._deferred: deque[Signal] = deque()
        #: The children that wait for their time to be started again.
        self._later: dict[str, Timer] = {}
        #: The significant child that has ended while others were still being started.
        self._lost: str | None = None
        self._group: TaskGroup | None = None
        #: The child whose next change of state must wake the supervisor's task.
        self._awaited: Cell | None = None
        self._descent = Descent(self.stage.home.now, self._look_again)
        #: Children that a plan, or a request, will stop or is stopping: their ends are part of it.
        self._regrouping: set[str] = set()
        #: The one among them that will not return, whatever its restart type.
        self._removing: str | None = None
        #: Children that were killed because nobody knows of them.
        self._abandoned: set[str] = set()
        #: Why the supervisor gave up.
        self._failure: RestartLimit | StartFailed | LinkBroken | None = None
        #: Whether nothing new may start: a stop was asked for, or the supervisor gave up, or it is over.
        self._stopping = self.stop_requested
        #: Whether the supervisor's task is in the middle of something; if not, others may add a child at once.
        self._busy = True

    # -- the life of one incarnation

    async def perform(self) -> None:
        if self.restarts:
            await checkpoint()  # whoever cancelled everything may have done so while the last incarnation crashed
        self._reset()
        left = KILLED
        try:
            async with create_task_group() as group:
                self._group = group
                try:
                    await self._supervise()
                except BaseException:
                    self._stopping = True  # cancelled: what the children do from here on is the end
                    self._group = None
                    for cell in self.children():
                        if cell.is_dormant:  # there is no task that could be told
                            cell.close(KILLED)
                    raise
            left = SHUTDOWN
        finally:
            self._stopping = True
            for timer in self._later.values():
                timer.cancel()
            for cell in self.children():
                cell.close(left)  # those that waited for a restart which will not come
            self._roster.clear()
            self._refuse_the_rest()
        if self._failure is not None:
            raise self._failure

    async def _supervise(self) -> None:
        """Start, supervise, stop."""
        await self._start_all(self.supervisor.children)
        if not self._stopping:
            self.announce_started()
        if self._lost is not None:
            self._end_with(self._lost)
        while not self._stopping:
            self._busy = False
            signal: Signal = self._deferred.popleft() if self._deferred else await self.mailbox.receive_signal()
            self._busy = True
            if isinstance(signal, Restarts):
                await self._restart(signal)
            elif isinstance(signal, ChildWanted):
                self._answer(signal)
            elif isinstance(signal, ChildUnwanted):
                await self._remove(signal)
            del signal  # an idle supervisor keeps no child alive that it has answered for
        await self._stop_all(reversed(self.children()))

    def _look_again(self) -> None:
        """Wake the supervisor's task: what it waits for may have come."""
        self.mailbox.signal(CHANGED)

    async def _next_change(self) -> None:
        """Wait until something has changed; what asks for more than a look is kept for later."""
        signal: Signal = await self.mailbox.receive_signal()
        if isinstance(signal, Restarts | ChildWanted | ChildUnwanted):
            self._deferred.append(signal)

    def stand_down(self, reason: str | None, *, watched: bool = False) -> None:
        super().stand_down(reason, watched=watched)
        self._stopping = self._stopping or self.stop_requested

    def link_broke(self, cell: Cell, exit: Exit) -> None:
        if exit.kind == "shutdown":
            self.stand_down(f"linked to {cell.name!r}")
        elif exit.kind != "normal" and not self._stopping:
            self._give_up(LinkBroken(self.name, cell.name, exit), exit.error)

    def _give_up(self, error: RestartLimit | StartFailed | LinkBroken, cause: BaseException | None) -> None:
        error.__cause__ = cause
        self._failure = error
        self.state = "stopping"
        self._stopping = True
        self._look_again()

    # -- starting

    async def _start_all(self, specs: Sequence[ChildSpec]) -> None:
        for spec in specs:
            if self._stopping:
                return
            cell = self._launch(spec.id, spec)
            await self._until_up(cell)
            if cell.exit is not None and not cell.ready and not self._stopping:
                self._give_up(StartFailed(cell.name, cell.exit), cell.exit.error)

    def _launch(self, id: str, spec: ChildSpec) -> Cell:
        """Make the child `id` and put its task into the group; it is not ready yet.

        Raises:
            NameTaken: there is a child with that id.
        """
        name = f"{self.name}/{id}" if self.name else id
        if id in self._roster.specs:
            raise NameTaken(name)
        assert self._group is not None
        start = spec.start
        cell: Cell
        if isinstance(start, Supervisor):
            cell = SupervisorCell(id, name, start, self, self.stage)
        else:
            cell = ActorCell(
                id,
                name,
                start,
                self,
                self.stage,
                capacity=spec.capacity,
                overflow=spec.overflow,
                cleanup_time=spec.grace,
            )
        self._roster.add(spec, cell)
        if isinstance(cell, ActorCell) and may_lie_dormant(start):
            cell.lie_dormant()
        else:
            cell.spawn_in(self._group, self.stage.context)
        return cell

    async def _until_up(self, cell: Cell, left: Sequence[Cell] = ()) -> None:
        """Wait until a child is ready or over, or until that does not matter any more.

        Args:
            cell: the child, whose task has been started.
            left: in a restart, what there is left to start, this child included.
        """
        self._awaited = cell
        while cell.is_coming_up and not self._stopping:
            if left and self._is_overtaken(left):
                break
            await self._next_change()
        self._awaited = None

    def _answer(self, wanted: ChildWanted) -> None:
        if not wanted.reply.waiting:
            return  # whoever wanted it was cancelled
        try:
            wanted.cell = self._launch(wanted.id, wanted.spec)
        except NameTaken as error:
            wanted.reply.fail(error)
        else:
            wanted.reply.succeed(wanted.cell)

    # -- restarting

    def _begin(self, plan: RestartGroup, delay: float) -> None:
        """Have a plan carried out. It takes the place of those that still wait for their time to start the same."""
        self._regrouping.update(plan.stop)
        if self._later:
            for id in plan.start:
                self._call_off(id)
        cells = {id: self._roster.cells[id] for id in (*plan.stop, *plan.start, *plan.forget)}
        self.mailbox.signal(Restarts(plan, self.stage.home.now() + delay if delay else 0.0, cells))

    def _call_off(self, id: str) -> None:
        timer = self._later.pop(id, None)
        if timer is not None:
            timer.cancel()

    async def _restart(self, restarts: Restarts) -> None:
        plan = restarts.plan
        stop = [cell for id in plan.stop if (cell := self._meant(restarts, id)) is not None]
        self._regrouping.update(cell.id for cell in stop)  # an earlier plan may have finished with some of them
        await self._stop_all(stop)
        self._regrouping.difference_update(cell.id for cell in stop)
        for id in plan.forget:
            if self._meant(restarts, id) is not None:
                self._forget(id)
        left = [cell for id in plan.start if (cell := self._meant(restarts, id)) is not None]
        delay = restarts.due - self.stage.home.now() if restarts.due else 0.0
        if delay > 0:
            if not self._stopping and not self._is_overtaken(left):
                later = Restarts(RestartGroup((), plan.start), restarts.due, restarts.cells)
                timer = self.stage.timers.after(delay, self.mailbox.signal, later)
                self._later.update(dict.fromkeys(plan.start, timer))
            return
        while left:
            cell = left[0]
            if cell.state == "restarting":  # else stopped by somebody meanwhile, or started by a newer plan
                if self._stopping or self._is_overtaken(left):
                    return
                assert self._group is not None
                cell.spawn_in(self._group, self.stage.context)
                await self._until_up(cell, left)
                if cell.state == "restarting":
                    return  # it crashed again while it started, and its end was decided on: a new plan is in the lane
            del left[0]

    def _meant(self, restarts: Restarts, id: str) -> Cell | None:
        """The child that a plan calls `id`, if it is still there."""
        cell = self._roster.cells.get(id)
        return cell if cell is restarts.cells[id] else None

    def _is_overtaken(self, left: Sequence[Cell]) -> bool:
        """Whether a newer plan covers all that the one at hand has left to start: a child that is up has crashed since.

        Finishing the older one first could wait for ever, for a child that asks the crashed one while it starts.
        """
        if self.supervisor.strategy == "one_for_one":
            return False
        ids = {cell.id for cell in left if self._roster.cells.get(cell.id) is cell}
        waiting = (*self._deferred, *(self.mailbox.lanes.control or ()))
        return any(isinstance(signal, Restarts) and ids <= set(signal.plan.start) for signal in waiting)

    def _forget(self, id: str, exit: Exit | None = None) -> None:
        """Have a child that is down end for good, by default as it ended last."""
        cell = self._roster.cells.get(id)
        if cell is not None:
            self._roster.strike_off(id)
            cell.close(exit or cell.last_exit or SHUTDOWN)

    # -- stopping

    async def _stop_all(self, cells: Iterable[Cell]) -> None:
        """One after the other, in this order: ask, wait for the grace, kill, wait.

        The end of one child asks the next one (`child_down`). The supervisor's task is not woken for each; it looks
        after the graces alone.
        """
        descent = self._descent
        descent.begin((cell, self._roster.specs[cell.id]) for cell in cells)
        try:
            while descent.leaving is not None:
                with CancelScope(deadline=descent.watch()):
                    await self._next_change()
        finally:
            left = descent.end()
            if left is not None:  # cancelled: its cleanup goes on, and somebody must watch its time
                self.stage.timers.after(max(0.0, left.until - self.stage.home.now()), left.cell.kill)

    async def _remove(self, unwanted: ChildUnwanted) -> None:
        cell = self._roster.cells.get(unwanted.id)
        if cell is not None:
            was_down = cell.is_down
            self._regrouping.add(cell.id)
            self._removing = cell.id
            try:
                await self._stop_all([cell])
            except BaseException:
                unwanted.reply.fail(self._closed())
                raise
            finally:
                self._removing = None
            self._regrouping.discard(cell.id)
            self._forget(cell.id, SHUTDOWN if was_down else None)
        unwanted.reply.succeed(cell is not None)

    def _closed(self) -> SystemClosed:
        return SystemClosed(f"{self._title} is stopping, and all its children with it")

    def _refuse_the_rest(self) -> None:
        """Answer the requests for children that nobody will start."""
        control = self.mailbox.lanes.control
        for signal in (*self._deferred, *(control or ())):
            if isinstance(signal, ChildWanted | ChildUnwanted):
                signal.reply.fail(self._closed())
        self._deferred.clear()
        if control:
            control.clear()

    # -- what children and others call; never blocks

    def child_started(self, child: Cell) -> None:
        if self._awaited is child:
            self._look_again()

    def wake_child(self, child: Cell) -> None:
        if self._group is not None:
            child.spawn_in(self._group, self.stage.context)

    def child_down(self, child: Cell, exit: Exit, in_place: bool) -> Verdict:
        if self._awaited is child:
            self._look_again()
        if child.cancelled:
            self._stopping = True  # whatever cancelled the child has cancelled the supervisor too
        if child.id in self._abandoned:
            self._abandoned.discard(child.id)
            verdict = Verdict.FINAL
        elif self._stopping:
            self._report_shutdown_error(child, exit)
            verdict = Verdict.FINAL
        elif not child.ready:
            # A first start that failed is no crash to be restarted: whoever wanted the child hears of it.
            verdict = Verdict.FINAL
        elif child.id in self._regrouping:
            restart = self._roster.specs[child.id].restart
            dismissed = restart == "transient" and child.dismissed
            returns = restart != "temporary" and not dismissed and child.id != self._removing
            self._report_shutdown_error(child, exit, returns=returns)
            verdict = Verdict.FINAL if dismissed else Verdict.WAIT
        else:
            verdict = self._judge(child, exit, in_place)
        if verdict is Verdict.FINAL:
            if self._roster.specs[child.id].significant and child.ready and not self._stopping:
                self._lose_significant(child.id)
            self._regrouping.discard(child.id)
            self._roster.strike_off(child.id)
        if self._descent.leaving is child and not child.cancelled and not self._killed:
            self._descent.ask_next()
        return verdict

    def _judge(self, child: Cell, exit: Exit, in_place: bool) -> Verdict:
        if exit.error is None and not child.was_killed:
            restart = self._roster.specs[child.id].restart
            if restart == "temporary" or (restart == "transient" and exit.kind == "normal"):
                return Verdict.FINAL  # nothing to decide or to report; most ends are like this
        ruling = self._roster.rule(child, exit, self.stage.home.now(), self.stage.chance)
        plan, delay = ruling.plan, ruling.delay
        if isinstance(plan, RestartGroup):
            if exit.kind != "shutdown":
                self._report("child_ended", child, exit, restarts=True, delay=delay)
            if in_place and not delay and self.supervisor.strategy == "one_for_one":
                return Verdict.AGAIN
            self._begin(plan, delay)
            return Verdict.WAIT
        if isinstance(plan, GiveUp):
            self._report("gave_up", child, exit)
            window = ruling.window
            self._give_up(RestartLimit(self.name or "the system", child.name, window.limit, window.period), exit.error)
        elif exit.kind in ("crashed", "killed"):
            self._report("child_ended", child, exit)
        return Verdict.FINAL

    def _lose_significant(self, id: str) -> None:
        if not self._roster.is_last_significant(id):
            return
        if self.state == "starting":
            self._lost = id  # the others are started first
        else:
            self._end_with(id)

    def _end_with(self, id: str) -> None:
        self.stand_down(f"significant child {id!r} has ended")

    def _report(self, kind: ReportKind, child: Cell, exit: Exit, *, restarts: bool = False, delay: float = 0.0) -> None:
        if exit.kind == "killed" and not child.was_killed:
            return  # with everything around it; there is nothing wrong with the child
        self.stage.reports.add(
            Report(kind, self.name or "the system", child.name, exit, restarts, delay), self.stage.home.now()
        )

    def _report_shutdown_error(self, child: Cell, exit: Exit, *, returns: bool = False) -> None:
        """A child that was to stop with its group or its supervisor crashed, or did not listen."""
        expected = self._roster.specs[child.id].shutdown == "kill"
        if exit.kind == "crashed" or (exit.kind == "killed" and not expected):
            self._report("shutdown_error", child, exit, restarts=returns)

    def child_dismissed(self, child: Cell) -> None:
        if self._roster.specs[child.id].restart == "transient":
            if self._roster.specs[child.id].significant:
                self._lose_significant(child.id)
            self._forget(child.id, SHUTDOWN)

    def kill_all(self) -> None:
        """Kill the supervisor and everything below it, cleanups included."""
        for cell in self.children():
            if isinstance(cell, SupervisorCell):
                cell.kill_all()
            else:
                cell.kill()
        self.kill()

    def kill(self) -> None:
        self._stopping = True  # its group is about to close
        super().kill()

    async def start_child(self, spec: ChildSpec) -> ActorRef[Any]:
        """Add a child at the end of the order and wait until it is ready. See `SupervisorRef.start_child`."""
        if not isinstance(spec, ChildSpec):
            raise BadChildSpec(f"start_child() takes a ChildSpec, not {spec!r}")
        self.supervisor.check(spec)
        self.stage.home.refuse_elsewhere("start_child()")
        return await self.start_checked(spec.id, spec)

    async def start_checked(self, id: str, spec: ChildSpec) -> ActorRef[Any]:
        """`start_child` in the loop's own thread, by a spec that is known to be one, whichever id that has."""
        at_once = not self._busy
        if self._busy and self._waits_for_caller():
            # Where a restart concerns one child alone, there is no order that the new child could disturb.
            if not self.announced or self.supervisor.strategy != "one_for_one":
                raise self._would_deadlock()
            at_once = True
        budget = current_budget.get(self.stage.outside)
        budget.left -= 1  # Budget.spend, without the call
        if budget.left <= 0:
            budget.left = MESSAGES_PER_CHECKPOINT
            await checkpoint()
        if self._stopping or not self.stage.is_open:
            raise SystemClosed(f"{self._title} takes no new children: it is not running, or the system is closing")
        cell = self._launch(id, spec) if at_once else await self._launched_later(id, spec)
        if cell.is_coming_up:
            try:
                await cell.wait_up()
            except BaseException:
                self._abandon(cell)
                raise
        if cell.exit is not None and not cell.ready:
            raise StartFailed(cell.name, cell.exit) from cell.exit.error
        return cell.ref

    def _waits_for_caller(self) -> bool:
        """Whether the caller is inside a child whose start or end the supervisor waits for at this moment."""
        budget = current_budget.get(None)
        if budget is None:
            return False
        waited_for = (self._awaited, self._descent.leaving)
        return any(cell is not None and cell.contains(budget) for cell in waited_for) and is_below(budget.owner)

    def _would_deadlock(self) -> WouldDeadlock:
        return WouldDeadlock(f"{self._title} is asked something by a child that it waits for")

    def waits_for_caller(self, budget: Budget) -> bool:
        return is_below(budget.owner)

    async def _launched_later(self, id: str, spec: ChildSpec) -> Cell:
        wanted = ChildWanted(id, spec)
        self.mailbox.signal(wanted)
        try:
            return await wanted.reply.wait()
        except BaseException:
            if wanted.cell is not None:  # started in the very tick of the cancellation
                self._abandon(wanted.cell)
            raise

    def _abandon(self, cell: Cell) -> None:
        """End a child that nobody knows of: whoever wanted it was cancelled. Its end is no matter for a decision.

        One that is ready already may clean up. One that is not may never be.
        """
        if cell.state == "restarting":
            self._forget(cell.id, KILLED)
        elif cell.exit is None:
            self._abandoned.add(cell.id)
            if cell.announced:
                cell.stand_down("abandoned")
            else:
                cell.kill()

    def contains(self, budget: Budget) -> bool:
        return budget is self.budget or any(cell.contains(budget) for cell in self._roster.cells.values())

    async def stop_child(self, id: str) -> bool:
        """Stop a child for good. See `SupervisorRef.stop_child`."""
        await current_budget.get(self.stage.outside).spend()
        if self._stopping:
            raise SystemClosed(f"{self._title} is not running")
        if self._waits_for_caller():
            raise self._would_deadlock()
        cell = self._roster.cells.get(id)
        if cell is not None:
            cell.refuse_deadlock()
        unwanted = ChildUnwanted(id)
        self.mailbox.signal(unwanted)
        return await unwanted.reply.wait()

    def count(self) -> ChildCount:
        """How many children there are."""
        return self._roster.count()

    def child(self, id: str) -> ActorRef[Any] | None:
        """The address of the child with this id."""
        cell = self._roster.cells.get(id)
        return cell.ref if cell is not None else None

    @property
    def takes_children(self) -> bool:
        """Whether new children may be started."""
        return not self._stopping

    def has(self, id: str) -> bool:
        """Whether there is a child with this id."""
        return id in self._roster.cells

    def children(self) -> tuple[Cell, ...]:
        """The children in start order."""
        return tuple(self._roster.cells.values())

    def node(self, now: float) -> Node:
        node = super().node(now)
        return Node(
            node.name,
            node.kind,
            node.state,
            node.age,
            restarts=node.restarts,
            children=tuple(cell.node(now) for cell in self._roster.cells.values()),
        )
