"""The message loop of an ordinary actor.

Control first, then data, a real checkpoint at every 64th message, parked when both lanes are empty. The loop takes from
the lanes itself: one call less per message, and nothing between the pop and the handler that could lose the message.

A stop takes effect between two messages: the one at hand is finished first. Whoever wants an end to that sets a grace,
after which the actor is killed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from anyio import CancelScope
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from ..mailbox import DEFAULT_CAPACITY, MESSAGES_PER_CHECKPOINT, Budget, Envelope, Overflow
from .actor import Actor
from .cell import Cell
from .crashes import is_crash
from .dead_letters import late
from .errors import LinkBroken
from .exits import Down, Exit, LinkDown, text_of
from .ref import ActorRef, check_ref
from .roles import ActorParent, ActorStage, Stop
from .timers import Timer, TimerGroup, check_delay
from .whereabouts import is_below

#: Seconds that `stopping` may take by default. It is shielded, so this bounds how long a cancelled parent waits for it.
CLEANUP_TIME = 5.0
#: The signal of an actor that ends itself.
DONE = Stop(None)


class ActorCell(Cell):
    """Runs the incarnations of the actor that `make` makes."""

    __slots__ = ("_cleanup", "_cleanup_time", "_make", "monitored", "timers")

    parent: ActorParent
    stage: ActorStage

    def __init__(
        self,
        id: str,
        name: str,
        make: Callable[[], Actor],
        parent: ActorParent,
        stage: ActorStage,
        *,
        capacity: int = DEFAULT_CAPACITY,
        overflow: Overflow = "wait",
        cleanup_time: float = CLEANUP_TIME,
    ) -> None:
        super().__init__(id, name, parent, stage, capacity=capacity, overflow=overflow)
        self._make = make
        self._cleanup: CancelScope | None = None
        self._cleanup_time = cleanup_time
        #: Watched refs, each with the callback that was registered for it; made at the first `monitor`.
        self.monitored: dict[ActorRef[Any], Callable[[Cell], None]] | None = None
        #: What the actor will send itself; made at the first `send_after`.
        self.timers: TimerGroup | None = None

    def lie_dormant(self) -> None:
        """Be ready without a task until something comes."""
        self.mailbox.await_first(self)
        self.announce_started()

    def set(self) -> None:
        """Something has come, while dormant. The cell itself is the `Wake` of its mailbox: a thing less to be kept."""
        self.parent.wake_child(self)

    async def perform(self) -> None:
        actor = self._make()
        if not isinstance(actor, Actor):
            raise TypeError(f"what starts {self.name!r} made a {type(actor).__name__}, which is no Actor")
        crash: Exit | None = None
        # The cell must not hold it: that would be a cycle, and work for the collector at each end.
        context = ActorContext(self)
        starts = type(actor).started is not Actor.started
        if starts and self.restarts:
            await checkpoint_if_cancelled()  # a restart in place has not looked
        try:
            if starts:
                await actor.started(context)
            if not self.announced:
                self.announce_started()
            # The loop stands here, not in a coroutine of its own: it is what an idle actor is made of.
            mailbox = self.mailbox
            lanes = mailbox.lanes
            receive = actor.receive
            budget = MESSAGES_PER_CHECKPOINT
            while True:
                if lanes.control:
                    signal = lanes.control.popleft()
                    if type(signal) is Stop:
                        return
                    if await self._is_broken(signal, actor, context):
                        return
                elif lanes.data:
                    envelope = self.current = lanes.data.popleft()
                    if lanes.tickets:
                        mailbox.admit()
                    value = await receive(envelope.message, context)
                    if envelope.reply is not None and not envelope.reply.succeed(value):
                        self._late(envelope, value)
                    self.current = None
                    budget -= 1
                    if not budget:
                        budget = MESSAGES_PER_CHECKPOINT
                        await checkpoint()
                else:
                    envelope = value = None  # an idle actor keeps no message alive
                    await mailbox.parked().wait()
                    budget = MESSAGES_PER_CHECKPOINT
        except BaseException as error:
            if is_crash(error):
                crash = Exit("crashed", error)
                if isinstance(error, TypeError) and not inspect.iscoroutinefunction(actor.receive):
                    error.add_note(f"receive() of {type(actor).__name__} must be an async def")
            raise
        finally:
            try:
                if type(actor).stopping is not Actor.stopping and not self._killed:
                    await self._clean_up(actor, context, crash)
            finally:
                if self.monitored is not None:
                    self._unmonitor_all()
                if self.timers is not None:
                    self.timers.cancel()

    async def _is_broken(self, signal: Down | LinkDown, actor: Actor, context: ActorContext) -> bool:
        """Have the actor hear of the end of another one. True if it shares its fate."""
        if type(signal) is Down:
            if self.monitored is not None and self.monitored.pop(signal.ref, None) is not None:
                await actor.receive(signal, context)
            return False
        if actor.trap_exits:
            await actor.receive(signal, context)
            return False
        return self._shares_the_fate(signal)

    def _shares_the_fate(self, down: Down | LinkDown) -> bool:
        """Whether the end of a linked actor stops this one.

        Raises:
            LinkBroken: it is a crash of this one.
        """
        if down.exit.kind == "normal":
            return False
        if down.exit.kind == "shutdown":
            if self._stop is None:
                self._stop = Stop(f"linked to {down.ref.name!r}")
            return True
        raise LinkBroken(self.name, down.ref.name, down.exit) from down.exit.error

    def link_broke(self, cell: Cell, exit: Exit) -> None:
        self.mailbox.signal(LinkDown(cell.ref, exit))

    def _forget_stops(self) -> None:
        """Whatever the last incarnation did not live to read was for that one alone."""
        if self.mailbox.lanes.control:
            self.mailbox.lanes.control.clear()

    async def _clean_up(self, actor: Actor, context: ActorContext, crash: Exit | None) -> None:
        """Run `stopping`, shielded for a bounded time. Its own failure never hides the first one.

        The bound is a timer of the system's, not a deadline of each shield: ten thousand actors may clean up at once.
        """
        self.state = "stopping"
        try:
            with CancelScope(shield=True) as scope:
                self._cleanup = scope
                if self._stop is not None and self._stop.watched:
                    await actor.stopping(context, crash)
                else:
                    bound = self.stage.timers.after(self._cleanup_time, scope.cancel)
                    try:
                        await actor.stopping(context, crash)
                    finally:
                        bound.cancel()
            if scope.cancelled_caught:
                self._killed = True  # cut short, which is no orderly end
        except Exception as error:
            if crash is None or crash.error is None:
                raise
            crash.error.add_note(f"{self.name!r} also failed while stopping: {type(error).__name__}: {text_of(error)}")
        finally:
            self._cleanup = None

    def waits_for_caller(self, budget: Budget) -> bool:
        return is_below(budget.owner)

    def kill(self) -> None:
        super().kill()
        if self._cleanup is not None:
            self._cleanup.cancel()  # the shield is against the end of the parent, not against a kill

    def _late(self, envelope: Envelope, value: Any) -> None:
        self.stage.dead_letters.add(late(value, self.name, envelope))

    def unmonitor(self, ref: ActorRef[Any]) -> None:
        """Watch an actor no more."""
        tell = (self.monitored or {}).pop(ref, None)
        if tell is not None:
            ref._cell.unwatch(tell)

    def _unmonitor_all(self) -> None:
        for ref in list(self.monitored or ()):
            self.unmonitor(ref)


class ActorContext:
    """The `Context` of one actor."""

    __slots__ = ("_cell",)

    def __init__(self, cell: ActorCell) -> None:
        self._cell = cell

    @property
    def ref(self) -> ActorRef[Any]:
        return self._cell.ref

    @property
    def sender(self) -> str | None:
        current = self._cell.current
        return current.sender if current is not None else None

    @property
    def restarts(self) -> int:
        return self._cell.restarts

    def stop(self) -> None:
        self._cell.mailbox.signal(DONE)

    def monitor(self, ref: ActorRef[Any]) -> None:
        check_ref("monitor()", ref)
        cell = self._cell
        if cell.monitored is None:
            cell.monitored = {}
        if ref in cell.monitored:
            return

        def tell(watched: Cell) -> None:
            if watched.exit is not None:
                cell.mailbox.signal(Down(ref, watched.exit))

        cell.monitored[ref] = tell
        if ref._cell.exit is None:
            ref._cell.watch(tell)
        else:
            tell(ref._cell)

    def unmonitor(self, ref: ActorRef[Any]) -> None:
        self._cell.unmonitor(ref)

    def link(self, ref: ActorRef[Any]) -> None:
        check_ref("link()", ref)
        mine, other = self._cell, ref._cell
        if other is mine:
            return
        if other.exit is not None:
            mine.link_broke(other, other.exit)
            return
        for one, peer in ((mine, other), (other, mine)):
            if one.links is None:
                one.links = {}
            one.links[peer] = None

    def unlink(self, ref: ActorRef[Any]) -> None:
        check_ref("unlink()", ref)
        mine, other = self._cell, ref._cell
        for one, peer in ((mine, other), (other, mine)):
            if one.links is not None:
                one.links.pop(peer, None)
        control = mine.mailbox.lanes.control
        if control:
            kept = [signal for signal in control if type(signal) is not LinkDown or signal.ref != ref]
            control.clear()
            control.extend(kept)

    def send_after(self, delay: float, message: Any) -> Timer:
        cell = self._cell
        check_delay(delay)
        timer = cell.stage.timers.after(delay, cell.post, Envelope(message, None, cell.name))
        if cell.timers is None:
            cell.timers = TimerGroup()
        cell.timers.add(timer)
        return timer
