"""The message loop of an ordinary actor.

Control first, then data, a real checkpoint at every 64th message, parked when both lanes are empty. The loop takes from
the lanes itself: one call less per message, and nothing between the pop and the handler that could lose the message.

A stop takes effect between two messages: the one at hand is finished first. Whoever wants an end to that sets a grace,
after which the actor is killed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anyio import CancelScope, current_time
from anyio.lowlevel import checkpoint

from ..mailbox import DEFAULT_CAPACITY, MESSAGES_PER_CHECKPOINT, Envelope, Overflow
from .actor import Actor
from .cell import Cell, Parent, Stage, Stop
from .dead_letters import DeadLetter
from .exits import Down, Exit
from .ref import ActorRef

#: Seconds that `stopping` may take by default. It is shielded, so this bounds how long a cancelled parent waits for it.
CLEANUP_TIME = 5.0


class ActorCell(Cell):
    """Runs the incarnations of the actor that `make` makes."""

    __slots__ = ("_cleanup", "_cleanup_time", "_context", "_make", "monitored")

    def __init__(
        self,
        id: str,
        name: str,
        make: Callable[[], Actor],
        parent: Parent,
        stage: Stage,
        *,
        capacity: int = DEFAULT_CAPACITY,
        overflow: Overflow = "wait",
        cleanup_time: float = CLEANUP_TIME,
    ) -> None:
        super().__init__(id, name, parent, stage, capacity=capacity, overflow=overflow)
        self._make = make
        self._cleanup: CancelScope | None = None
        self._cleanup_time = cleanup_time
        self._context = ActorContext(self)
        #: Watched refs, each with the callback that was registered for it; made at the first `monitor`.
        self.monitored: dict[ActorRef[Any], Callable[[Cell], None]] | None = None

    async def perform(self) -> None:
        actor = self._make()
        if not isinstance(actor, Actor):
            raise TypeError(f"what starts {self.name!r} made a {type(actor).__name__}, which is no Actor")
        crash: Exit | None = None
        try:
            if type(actor).started is not Actor.started:
                await actor.started(self._context)
            self.announce_started()
            await self._serve(actor)
        except Exception as error:
            crash = Exit("crashed", error)
            raise
        finally:
            self._unmonitor_all()
            if type(actor).stopping is not Actor.stopping and not self._killed:
                await self._clean_up(actor, crash)

    async def _serve(self, actor: Actor) -> None:
        mailbox = self.mailbox
        lanes = mailbox.lanes
        receive = actor.receive
        context = self._context
        budget = MESSAGES_PER_CHECKPOINT
        while True:
            if lanes.control:
                signal = lanes.control.popleft()
                if type(signal) is Stop:
                    return
                if self.monitored is not None and self.monitored.pop(signal.ref, None) is not None:
                    await receive(signal, context)
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
                await mailbox.park()
                budget = MESSAGES_PER_CHECKPOINT

    async def _clean_up(self, actor: Actor, crash: Exit | None) -> None:
        """Run `stopping`, shielded for a bounded time. Its own failure never hides the first one."""
        try:
            with CancelScope(shield=True, deadline=current_time() + self._cleanup_time) as scope:
                self._cleanup = scope
                await actor.stopping(self._context, crash)
            if scope.cancelled_caught:
                self._killed = True  # cut short, which is no orderly end
        except Exception as error:
            if crash is None or crash.error is None:
                raise
            crash.error.add_note(f"{self.name!r} also failed while stopping: {type(error).__name__}: {error}")
        finally:
            self._cleanup = None

    def kill(self) -> None:
        super().kill()
        if self._cleanup is not None:
            self._cleanup.cancel()  # the shield is against the end of the parent, not against a kill

    def _late(self, envelope: Envelope, value: Any) -> None:
        self.stage.dead_letters.add(DeadLetter(value, envelope.sender or "outside", self.name, "late"))

    def _unmonitor_all(self) -> None:
        if self.monitored is not None:
            for ref in list(self.monitored):
                self._context.unmonitor(ref)


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
        self._cell.mailbox.signal(Stop(None))

    def monitor(self, ref: ActorRef[Any]) -> None:
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
        tell = (self._cell.monitored or {}).pop(ref, None)
        if tell is not None:
            ref._cell.unwatch(tell)
