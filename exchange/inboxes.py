"""What was left at addresses for whoever comes next. Pure."""

from __future__ import annotations

from collections import deque


class Inboxes:
    """Messages by address, oldest first, each for `age` seconds.

    Raises:
        ValueError: an age that is no time.
    """

    __slots__ = ("_age", "_inboxes", "_order")

    def __init__(self, age: float) -> None:
        if not age > 0:
            raise ValueError(f"left_age must be more than 0 seconds, not {age}")
        self._age = age
        self._inboxes: dict[str, deque[tuple[float, bytes]]] = {}
        self._order: deque[tuple[float, str]] = deque()  # of all messages, also of those that are forgotten

    def __len__(self) -> int:
        """At how many addresses there is something."""
        return len(self._inboxes)

    def leave(self, at: str, message: bytes, now: float) -> None:
        """Put a message behind those that are there."""
        self._forget_old(now)
        until = now + self._age
        self._inboxes.setdefault(at, deque()).append((until, message))
        self._order.append((until, at))

    def count(self, at: str, now: float) -> int:
        """How many there are."""
        self._forget_old(now)
        return len(self._inboxes.get(at, ()))

    def first(self, at: str, now: float) -> tuple[float, bytes] | None:
        """The oldest message there, with the moment of its end, which tells it from others."""
        self._forget_old(now)
        inbox = self._inboxes.get(at)
        return inbox[0] if inbox else None

    def forget(self, at: str, message: tuple[float, bytes]) -> None:
        """Forget a message that was the first, unless it is forgotten."""
        inbox = self._inboxes.get(at)
        if inbox and inbox[0] is message:
            inbox.popleft()
            if not inbox:
                del self._inboxes[at]

    def _forget_old(self, now: float) -> None:
        while self._order and self._order[0][0] <= now:
            _, at = self._order.popleft()
            inbox = self._inboxes.get(at)
            if inbox and inbox[0][0] <= now:
                self.forget(at, inbox[0])
