"""What others hold of a supervisor: one gives it children, not messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .ref import ActorRef
from .roster import ChildCount
from .spec import ChildSpec

if TYPE_CHECKING:
    from .supervisor import SupervisorCell


class SupervisorRef(ActorRef[Any]):
    """The address of a supervisor: one can give it children, not messages."""

    __slots__ = ()

    _cell: SupervisorCell

    async def tell(self, message: Any) -> None:
        """Refused: a supervisor takes no messages.

        Raises:
            TypeError: always.
        """
        raise self._no_messages()

    def tell_nowait(self, message: Any) -> None:
        """Refused, like `tell`."""
        raise self._no_messages()

    async def ask(self, message: Any, *, timeout: float | None = None) -> Any:
        """Refused, like `tell`."""
        raise self._no_messages()

    def _no_messages(self) -> TypeError:
        return TypeError(
            f"supervisor {self.name!r} takes no messages: send them to a child, which child(id) gives the address of"
        )

    async def start_child(self, spec: ChildSpec) -> ActorRef[Any]:
        """Start a child after those that are there, and wait until it is ready.

        Raises:
            NameTaken: the supervisor has a child with that id.
            StartFailed: the child's `started` failed; the failure is the ``__cause__``.
            SystemClosed: the supervisor is stopping or has ended, or the system is closing.
            BadChildSpec: the child is significant, and the supervisor has no ``auto_shutdown``.
            WouldDeadlock: the caller is a child whose start or end the supervisor waits for.
        """
        return await self._cell.start_child(spec)

    async def stop_child(self, id: str) -> bool:
        """Stop a child for good, whatever its restart type, and forget its specification: its id is free again.

        The supervisor does it, as it stops all its children: asked, given its grace, then killed. It starts and
        restarts nothing else meanwhile.

        Returns:
            Whether there was such a child.

        Raises:
            SystemClosed: the supervisor is stopping or has ended.
            WouldDeadlock: the caller lives inside that child.
        """
        return await self._cell.stop_child(id)

    def child(self, id: str) -> ActorRef[Any] | None:
        """The address of the child with this id, or None."""
        return self._cell.child(id)

    def count(self) -> ChildCount:
        """How many children it has at this moment."""
        return self._cell.count()
