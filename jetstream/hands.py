"""The messages that one receiver has taken, and those whose senders wait for room. Pure.

A message has an id, because its sender offers it again and again until it has an answer. It is answered when it is in
the hands; one that was taken before is answered again, and is not taken twice. Who waits keeps their place in the line
for as long as they go on offering.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple

#: How many ids of messages are remembered that were taken.
REMEMBERED = 10_000
#: Seconds after which somebody who does not offer any more has left the line.
GONE = 5.0


class _Offer(NamedTuple):
    message: bytes
    answer_to: str
    until: float


class Hands:
    """They hold `capacity` messages.

    Attributes:
        held: what was taken and not looked at, oldest first.
    """

    __slots__ = ("_capacity", "_line", "_taken", "held")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._line: OrderedDict[bytes, _Offer] = OrderedDict()
        self._taken: OrderedDict[bytes, None] = OrderedDict()
        self.held: deque[bytes] = deque()

    def offer(self, name: bytes, message: bytes, answer_to: str, now: float) -> bool:
        """Whether it is taken, now or before. Else it waits."""
        if name in self._taken:
            return True
        if name not in self._line and len(self.held) < self._capacity and not self._line:
            self._take(name, message)
            return True
        self._line[name] = _Offer(message, answer_to, now + GONE)
        return False

    def withdraw(self, name: bytes) -> None:
        """Its sender does not wait any more."""
        self._line.pop(name, None)

    def look_at_next(self, now: float) -> tuple[bytes, list[str]]:
        """The oldest message, and whom to answer because theirs have been taken in its place."""
        message = self.held.popleft()
        answers: list[str] = []
        while self._line and len(self.held) < self._capacity:
            name, offer = self._line.popitem(last=False)
            if offer.until > now:
                self._take(name, offer.message)
                answers.append(offer.answer_to)
        return message, answers

    def close(self) -> list[str]:
        """Whom to refuse."""
        waiting = [offer.answer_to for offer in self._line.values()]
        self._line.clear()
        return waiting

    def _take(self, name: bytes, message: bytes) -> None:
        self.held.append(message)
        self._taken[name] = None
        if len(self._taken) > REMEMBERED:
            self._taken.popitem(last=False)
