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


class Actor:
    """A behaviour. Subclass it, write `receive`, and spawn the class: ``await system.spawn(Counter)``."""

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
