"""What was left at one address, as its receiver gets to know it. Pure.

What is left while the receiver is there is told to it at once, with its number in the stream and that of the one
before. So it knows whether it has missed any. If it has, or has too many in its hands, it reads from the stream: then
it is *behind*.
"""

from __future__ import annotations

from collections import deque

#: How many messages are known ahead.
AHEAD = 64


class Left:
    """Messages with their numbers in the stream, in order.

    Attributes:
        behind: whether the stream has to be read.
        position: the number from which on to read.
    """

    __slots__ = ("_ahead", "_told", "behind", "position")

    def __init__(self) -> None:
        self._ahead: deque[tuple[int, bytes]] = deque()
        self._told = 0
        self.behind = True
        self.position = 1

    def __len__(self) -> int:
        """How many messages are known."""
        return len(self._ahead)

    @property
    def has_room(self) -> bool:
        """Whether more are to be known ahead."""
        return len(self._ahead) < AHEAD

    def told(self, number: int, before: int, message: bytes) -> None:
        """A message was left now; the one before it has the number `before`."""
        self._told += 1
        if number < self.position:
            return
        if self.behind or before >= self.position or not self.has_room:
            self.behind = True
            return
        self._add(number, message)

    def look_again(self) -> None:
        """Some may have been left without a word."""
        self._told += 1
        self.behind = True

    def begin(self) -> int:
        """Before the stream is read at `position`; its result is for `read`."""
        return self._told

    def read(self, begun: int, found: tuple[int, bytes] | None) -> None:
        """What the stream has from there on, if anything."""
        if found is not None:
            self._add(*found)
        elif begun == self._told:
            self.behind = False  # else something came since, and it may be one that was not there yet

    def next(self) -> tuple[int, bytes]:
        """The oldest one that is known."""
        return self._ahead.popleft()

    def _add(self, number: int, message: bytes) -> None:
        self._ahead.append((number, message))
        self.position = number + 1
