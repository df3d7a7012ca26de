"""The contract between an actor and the runtime: three callbacks, and a context to act through.

::

    started(context)            once per incarnation, before the first message; failing here is failing to start
    receive(message, context)   one message at a time; what it returns answers an `ask`
    stopping(context, exit)     once, after the last message: on its own end, a crash, a stop, the end of the parent

An actor is a behaviour and its state: it knows no loop, no task and no other actor but through refs. It is made by a
factory (its class, or any callable without arguments), because a restart makes a new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from .exits import Exit

if TYPE_CHECKING:
    from .ref import ActorRef
    from .timers import Timer


class Context(Protocol):
    """What an actor may ask of the runtime."""

    @property
    def ref(self) -> ActorRef[Any]:
        """The actor's own address, to give to others."""
        ...

    @property
    def sender(self) -> str | None:
        """The name of the actor that sent the message at hand; None for code outside any actor."""
        ...

    @property
    def restarts(self) -> int:
        """How often this actor has been restarted: 0 in its first incarnation."""
        ...

    def stop(self) -> None:
        """End normally after the message at hand."""

    def monitor(self, ref: ActorRef[Any]) -> None:
        """Have a `Down` delivered to `receive` when `ref` ends. It overtakes waiting messages and is never dropped."""

    def unmonitor(self, ref: ActorRef[Any]) -> None:
        """Take back a `monitor`, a queued notice included."""

    def link(self, ref: ActorRef[Any]) -> None:
        """Share the fate of the actor `ref`, and have it share this one's, until one incarnation of either is over.

        What follows from the end of one for the other, which finishes the message at hand before:

        - it returned (``normal``): nothing;
        - it was stopped (``shutdown``): the other is stopped too;
        - it crashed or was killed: the other crashes with `LinkBroken`, and its supervisor does what it does about
          crashes. So an actor that is restarted has no links; it links again in `started`.

        An actor with `trap_exits` gets a `LinkDown` as a message instead, whatever the end. Linking to an actor that
        has ended has the same effect at once.
        """

    def unlink(self, ref: ActorRef[Any]) -> None:
        """Take back a `link`, a queued notice of it included."""

    def send_after(self, delay: float, message: Any) -> Timer:
        """Send `message` to the actor itself in `delay` seconds.

        It then takes its place behind what waits in the mailbox; where that is full it waits for room, like a sender.
        The timer ends with the incarnation that set it.

        Raises:
            ValueError: a delay below 0, or none.
        """
        ...


class Actor:
    """A behaviour. Subclass it, write `receive`, and spawn the class: ``await system.spawn(Counter)``.

    Attributes:
        trap_exits: whether the end of a linked actor is a message (`LinkDown`) instead of sharing its fate (default
            False). May be set in `started`.
    """

    trap_exits: bool = False

    async def started(self, context: Context) -> None:
        """Prepare. An exception here means that the actor did not start."""

    async def receive(self, message: Any, context: Context) -> Any:
        """Handle one message. An exception is a crash: the supervisor decides what follows."""
        raise NotImplementedError(f"{type(self).__name__} must define receive()")

    async def stopping(self, context: Context, exit: Exit | None) -> None:
        """Clean up. It runs at most once per incarnation, also after a failed `started`, but not after a kill.

        It may take as long as the actor has to stop (`shutdown`, by default 5 seconds), even while everything around
        it is being cancelled.

        Args:
            context: as in `receive`.
            exit: the crash that led here, or None.
        """
