"""One supervised actor: its mailbox, its place in the tree, its incarnations and its end.

::

                 ┌────────────── spawn_in() ──────────────┐
                 v                                        │
    starting ──announce_started()──> running ──stop──> stopping
        │                               │                 │
        └──────────── perform() is over, the parent gives its verdict ────────────┐
                 │                      │                                         │
               AGAIN                  WAIT                                      FINAL
        perform() once more,   restarting: the task is over, the mailbox    ended: mailbox closed,
        in the same task       stays open, the parent starts a new task     watchers told

A subclass writes `perform`, which is the whole life of one incarnation: a message loop, a supervisor, an agent run.
What `perform` raises ends **here**: this is the only place that turns an exception into an `Exit`. The task ends with
an exception only for true cancellation, `KeyboardInterrupt` and `SystemExit`. A `perform` that swallows its
cancellation and returns was killed all the same.

A backend's cancelled exception that arrives while nobody cancelled is a crash. Raised bare, it would silently cancel
the whole task group; so it becomes a `StrayCancellation`, and is never restarted in place, because nobody knows what
state the task is in.

The address and the mailbox outlive incarnations; only the message whose handling crashed is gone. Links and the timers
of an actor belong to one incarnation and end with it. The parent is a narrow protocol (`Parent`) that answers
synchronously, so that no cancellation can come between an end and its verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any, Literal, TypeAlias

import anyio
from anyio import TaskHandle
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from ..mailbox import DEFAULT_CAPACITY, Budget, Envelope, Mailbox, Overflow, current_budget
from .crashes import is_cancelled, is_crash, is_ordinary_group, stray
from .dead_letters import DeadLetter, late
from .errors import WouldDeadlock, ended
from .exits import KILLED, NORMAL, Exit
from .ref import ActorRef
from .roles import Parent, Stage, Stop, Verdict
from .tree import Node

CellState: TypeAlias = Literal["starting", "running", "stopping", "restarting", "ended"]


class Cell:
    """The runtime side of one actor. Everybody else holds its `ref`.

    Args:
        id: the name within the parent.
        name: the name within the system.
    """

    __slots__ = (
        "__weakref__",
        "_handle",
        "_killed",
        "_stop",
        "_watchers",
        "announced",
        "budget",
        "cancelled",
        "current",
        "dismissed",
        "exit",
        "id",
        "last_exit",
        "links",
        "mailbox",
        "name",
        "parent",
        "ready",
        "restarts",
        "stage",
        "started_at",
        "state",
    )

    kind = "actor"

    def __init__(
        self,
        id: str,
        name: str,
        parent: Parent,
        stage: Stage,
        *,
        capacity: int = DEFAULT_CAPACITY,
        overflow: Overflow = "wait",
    ) -> None:
        self.id = id
        self.name = name
        self.parent = parent
        self.stage = stage
        self.budget = Budget(name)
        self.mailbox = Mailbox(
            capacity, overflow=overflow, address=name, undelivered=stage.dead_letters, outside=stage.outside
        )
        self.state: CellState = "starting"
        #: Whether this incarnation has been ready, and whether any has.
        self.announced = False
        self.ready = False
        #: The final exit; None while the actor may still handle messages.
        self.exit: Exit | None = None
        #: How the incarnation before ended, of one that waits for the next.
        self.last_exit: Exit | None = None
        self.restarts: int = 0
        self.started_at = stage.home.now()
        #: The message that is being handled.
        self.current: Envelope | None = None
        self._handle: TaskHandle[None] | None = None
        #: Called whenever an incarnation is ready or over, the last one included.
        self._watchers: dict[Callable[[Cell], None], None] | None = None
        self._stop: Stop | None = None
        self._killed = False
        #: Whether it ended because everything around it was cancelled.
        self.cancelled = False
        #: The incarnations whose end concerns this one, and the other way round; made at the first link.
        self.links: dict[Cell, None] | None = None
        #: Whether somebody asked for the end since the last start. A supervisor may ask for a pause only.
        self.dismissed = False

    @property
    def ref(self) -> ActorRef[Any]:
        """The address, made when it is asked for: a cell that held it would be work for the cyclic collector."""
        return ActorRef(self)

    # -- what a subclass writes

    async def perform(self) -> None:
        """Live one incarnation. Call `announce_started` when ready."""
        raise NotImplementedError

    # -- life

    @property
    def is_dormant(self) -> bool:
        """Whether it is ready and has had no task yet."""
        return self.announced and self._handle is None and not self.is_down

    def spawn_in(self, group: TaskGroup, context: Context | None = None) -> None:
        """Start a task for the next incarnation. `context` is the context it copies, by default the caller's."""
        if self.is_dormant:
            self._handle = group.create_task(self.main(), name=self.name or self.kind, context=context)
            return
        if self.state == "restarting":
            self.restarts += 1
            self._stop = None
            self._killed = False
            self.dismissed = False
            self.last_exit = None
            self._forget_stops()
        self.state = "starting"
        self.announced = False
        self._handle = group.create_task(self.main(), name=self.name or self.kind, context=context)

    def _forget_stops(self) -> None:
        """Drop stop signals that an earlier incarnation did not live to read."""
        control = self.mailbox.lanes.control
        if control:
            kept = [signal for signal in control if type(signal) is not Stop]
            control.clear()
            control.extend(kept)

    def announce_started(self) -> None:
        """Say that this incarnation is ready."""
        if self.state == "starting":
            self.state = "running"
        self.announced = self.ready = True
        self.parent.child_started(self)
        self._notify()

    async def main(self) -> None:
        """The body of the task: incarnations, until the verdict is not AGAIN."""
        current_budget.set(self.budget)
        again = False
        while True:
            in_place = False
            try:
                if again:
                    await self.budget.spend()  # an actor that crashes over and over must let others run
                await self.perform()
                exit = self._exit_of_return()
                in_place = exit.kind == "normal"
            except BaseException as error:
                if not is_crash(error) and not isinstance(error, GeneratorExit):
                    self.cancelled = not self._killed
                    self._over(self._exit_of_cancellation(error), in_place=False)
                    if is_ordinary_group(error):
                        await checkpoint()  # a scope would not know its cancellation inside a group
                    raise
                exit = Exit("crashed", stray(self.name, error))
                # Without a context it was not raised while a cancellation was being dealt with. The look is not free.
                self.cancelled = not self._killed and error.__context__ is not None and is_cancelled()
                in_place = isinstance(error, Exception) and not (self._stop or self._killed or self.cancelled)
            again = self._over(exit, in_place) is Verdict.AGAIN
            if not again:
                return
            del exit  # its error holds the frames of what crashed, and the message

    def _exit_of_return(self) -> Exit:
        """What the return of `perform` means: nobody turns a kill into a success by swallowing it."""
        if self._stop is None:
            if self._killed:
                return KILLED
            self.cancelled = self.stage.home.is_cancelled()
            return KILLED if self.cancelled else NORMAL
        return Exit("killed" if self._killed else "shutdown", reason=self._stop.reason)

    def _exit_of_cancellation(self, error: BaseException) -> Exit:
        if self._stop is not None:
            return Exit("killed", reason=self._stop.reason)
        return Exit("killed", reason=None if is_cancelled() else type(error).__name__)

    def _over(self, exit: Exit, in_place: bool) -> Verdict:
        """End the incarnation: settle the message at hand, ask the parent, act on its verdict."""
        envelope, self.current = self.current, None
        if envelope is not None:
            self._fail(envelope, exit, exit.kind if exit.kind in ("crashed", "killed") else "closed", exit)
        if self.links:
            self._break_links(exit)
        before = self._stop
        verdict = self.parent.child_down(self, exit, in_place)
        # Whoever hears of the end may ask for a stop on the spot, which is then meant for the next incarnation.
        stop = self._stop if self._stop is not before else None
        if verdict is Verdict.AGAIN:
            self.state = "starting" if stop is None else "stopping"
            self.announced = False
            self.restarts += 1
            self._forget_stops()
            if stop is not None:
                self.mailbox.signal(stop)
        elif verdict is Verdict.WAIT:
            self._handle = None
            self.state = "restarting"
            self.last_exit = exit
            self._notify()
            if stop is not None:
                self.parent.child_dismissed(self)
        elif verdict is Verdict.FINAL:
            self.close(exit)
        return verdict

    def _break_links(self, exit: Exit) -> None:
        """Tell the linked actors that this incarnation is over."""
        linked, self.links = self.links, None
        for cell in linked or ():
            if cell.links is not None:
                cell.links.pop(self, None)
            cell.link_broke(self, exit)

    def link_broke(self, cell: Cell, exit: Exit) -> None:
        """A linked actor has ended, in whatever way. A subclass that can be linked says what follows."""

    def close(self, exit: Exit) -> None:
        """End for good: close the mailbox, tell everybody, let go. Harmless when it has ended already."""
        if self.exit is not None:
            return
        self.state = "ended"
        self.exit = exit
        self._handle = None
        if self.links:
            self._break_links(exit)  # made while it waited for an incarnation that will not come
        for envelope in self.mailbox.close():
            self._fail(envelope, exit, "closed")
        self._notify()
        self._watchers = None

    def _fail(self, envelope: Envelope, exit: Exit, reason: str, cause: Exit | None = None) -> None:
        """Tell the asker of a message that will not be answered; without one, it is a dead letter."""
        reply = envelope.reply
        if reply is None or not reply.fail(ended(self.name, exit), (reason, cause)):
            self._bury(envelope, reason, str(cause) if cause is not None else None)

    def bury_missed(self, envelope: Envelope) -> None:
        """Account for an answer, or a failure, that its asker was cancelled too early to get."""
        assert envelope.reply is not None
        fate: tuple[str, Exit | None] | None = envelope.reply.fate
        if fate is not None:
            reason, cause = fate
            self._bury(envelope, reason, str(cause) if cause is not None else None)
        elif envelope.reply.answered:
            self.stage.dead_letters.add(late(envelope.reply.value, self.name, envelope))

    def post(self, envelope: Envelope) -> None:
        """Deliver a message that nobody waits with; an actor that has ended makes it a dead letter."""
        if self.exit is not None:
            self._bury(envelope, "closed")
        else:
            self.mailbox.post(envelope)

    def _bury(self, envelope: Envelope, reason: str, cause: str | None = None) -> None:
        self.stage.dead_letters.add(DeadLetter(envelope.message, self.name, envelope.sender, reason, cause))

    def _notify(self) -> None:
        watchers = self._watchers
        if watchers:
            for tell in tuple(watchers):
                tell(self)

    # -- what others ask of it; only in the loop's own thread

    def request_stop(self, reason: str | None) -> None:
        """Ask the actor to end after what it is doing. Asking again changes nothing."""
        self.dismissed = True
        if self.state == "restarting":
            self.parent.child_dismissed(self)
        else:
            self.stand_down(reason)

    def stand_down(self, reason: str | None, *, watched: bool = False) -> None:
        """Ask this incarnation to end; its supervisor may want another one. See `Stop` for `watched`."""
        if self.state in ("ended", "restarting") or self._stop is not None:
            return
        self._stop = stop = Stop(reason, watched=watched)
        self.state = "stopping"
        self.mailbox.signal(stop)

    def kill(self) -> None:
        """Cancel the task for good: every later await in it is cancelled too."""
        if self.is_dormant:
            self.mailbox.wake()
        if self._handle is not None:
            self._killed = True
            self._handle.cancel()

    @property
    def was_killed(self) -> bool:
        """Whether somebody killed this incarnation; a cancellation of everything around it is no such kill."""
        return self._killed

    @property
    def stop_requested(self) -> bool:
        """Whether this incarnation has been asked to stop."""
        return self._stop is not None

    def watch(self, tell: Callable[[Cell], None]) -> None:
        """Have `tell` called whenever an incarnation is ready, or over and not restarted in place; until the end."""
        if self._watchers is None:
            self._watchers = {}
        self._watchers[tell] = None

    def unwatch(self, tell: Callable[[Cell], None]) -> None:
        """Take back a `watch`."""
        if self._watchers is not None:
            self._watchers.pop(tell, None)

    @property
    def is_down(self) -> bool:
        """Whether no incarnation is running."""
        return self.state in ("ended", "restarting")

    @property
    def is_coming_up(self) -> bool:
        """Whether an incarnation has been started and is neither ready nor over, also one that is to stop already."""
        return not self.announced and not self.is_down

    async def wait_up(self) -> None:
        """Wait until the incarnation that was started is ready, or over."""
        await self._wait_until(lambda: not self.is_coming_up)

    async def wait_down(self, incarnation: int) -> None:
        """Wait until this incarnation, by its number, is over."""
        await self._wait_until(lambda: self.is_down or self.restarts != incarnation)

    async def wait_ended(self) -> Exit:
        """Wait for the end for good."""
        await self._wait_until(lambda: self.exit is not None)
        assert self.exit is not None
        return self.exit

    async def _wait_until(self, true: Callable[[], bool]) -> None:
        if true():
            await checkpoint()
            return
        event = anyio.Event()

        def look(_cell: Cell) -> None:
            if true():
                event.set()

        self.watch(look)
        try:
            await event.wait()
        finally:
            self.unwatch(look)

    def refuse_deadlock(self) -> None:
        """Raise `WouldDeadlock` when the caller is this actor, or one that lives inside it."""
        budget = current_budget.get(None)
        if budget is not None and self.contains(budget) and self.waits_for_caller(budget):
            raise WouldDeadlock(f"{budget.owner!r} waits for the end of {self.name!r}, which waits for it")

    def waits_for_caller(self, budget: Budget) -> bool:
        """Whether the running task, which has the budget of an actor in here, is one that this actor waits for."""
        return True

    def contains(self, budget: Budget) -> bool:
        """Whether the task with this budget is the actor's own, or belongs to one of its descendants."""
        return budget is self.budget

    def node(self, now: float) -> Node:
        """This cell in a snapshot of the tree."""
        return Node(
            name=self.name,
            kind=self.kind,
            state=self.state,
            age=now - self.started_at,
            depth=len(self.mailbox.lanes.data),
            restarts=self.restarts,
        )
