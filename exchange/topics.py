"""The events of one topic that are kept: a ring. Pure."""

from __future__ import annotations


class Topic:
    """The last `kept` events.

    Attributes:
        last: the number of the newest event; 0 before there is one.
    """

    __slots__ = ("_kept", "_ring", "last")

    def __init__(self, kept: int) -> None:
        if kept < 1:
            raise ValueError(f"kept must be 1 or more, not {kept}")
        self._kept = kept
        self._ring: list[bytes] = []
        self.last = 0

    def add(self, event: bytes) -> int:
        """Number an event and keep it, in the place of the oldest when there are enough."""
        if self.last < self._kept:
            self._ring.append(event)
        else:
            self._ring[self.last % self._kept] = event
        self.last += 1
        return self.last

    @property
    def first(self) -> int:
        """The number of the oldest event that is kept; of the first one before there is any."""
        return max(1, self.last - self._kept + 1)

    def __getitem__(self, number: int) -> bytes:
        """An event that is kept."""
        if not self.first <= number <= self.last:
            raise IndexError(number)
        return self._ring[(number - 1) % self._kept]
