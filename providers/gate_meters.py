"""What is left of a limit on requests or tokens: of one that the user set, and of one that the provider told. Pure.

The user's is exact: what was let in within the last minute is known, and no 60 seconds get more than the limit. The
provider's is reckoned from its last word.
"""

from __future__ import annotations

from collections import deque
from math import inf

from .rate_headers import Rate, Subject

#: Seconds of the windows that a user's limits are about.
WINDOW = 60.0
#: Seconds after which one call goes to look whether the provider's last word still holds.
LOOK = 60.0


class Window:
    """At most `limit` in any 60 seconds, of what was let in."""

    __slots__ = ("_entries", "_total", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._entries: deque[list[float]] = deque()  # time, amount
        self._total = 0.0

    @staticmethod
    def following(before: Window | None, limit: int | None) -> Window | None:
        """The window for a limit, which remembers what the one before it has seen."""
        if limit is None:
            return None
        window = before if before is not None else Window(limit)
        window.limit = limit
        return window

    def delay(self, now: float, amount: float) -> float:
        """Seconds until so much more fits. What is more than the whole limit goes when nothing else has."""
        entries = self._entries
        while entries and entries[0][0] + WINDOW <= now:
            self._total -= entries.popleft()[1]
        over = self._total + min(amount, self.limit) - self.limit
        if over <= 0:
            return 0.0
        for time, each in entries:
            over -= each
            if over <= 0:
                return time + WINDOW - now
        return entries[-1][0] + WINDOW - now if entries else 0.0

    def charge(self, now: float, amount: float) -> list[float]:
        """Count so much as let in; returns the entry to correct it by."""
        entry = [now, float(amount)]
        self._entries.append(entry)
        self._total += amount
        return entry

    def correct(self, entry: list[float], amount: float) -> None:
        """Count another amount instead, if the entry still counts."""
        if self._entries and entry[0] >= self._entries[0][0]:
            self._total += amount - entry[1]
            entry[1] = float(amount)


class Learned:
    """What is left of one of the provider's limits, as far as is known.

    Tickets are numbered in the order of their admission, and so are the tokens that they were expected to use: how much
    has gone since the provider's last word is a difference of two counts.
    """

    __slots__ = ("_at", "_limit", "_mark", "_number", "_pace", "_remaining", "subject")

    def __init__(self, subject: Subject) -> None:
        self.subject: Subject = subject
        self._limit = inf
        self._remaining = inf
        self._pace = 0.0  # per second
        self._at = 0.0
        self._mark = 0  # what had been let in when this was told
        self._number = 0  # the ticket whose answer told it

    def learn(self, rate: Rate, number: int, spent: int, now: float) -> None:
        """Take the provider's word, from the answer to the ticket of this number and these tokens."""
        if number < self._number:
            return  # an older call: its answer was overtaken by that of a later one
        self._number = number
        self._mark = spent if self.subject == "tokens" else number
        self._remaining = rate.remaining
        self._at = now
        if rate.limit is not None:
            self._limit = rate.limit
            gone = rate.limit - rate.remaining
            if rate.reset and gone > 0:
                self._pace = gone / rate.reset
            elif not self._pace:
                self._pace = rate.limit / WINDOW
        elif rate.reset:
            self._pace = 1 / rate.reset
        else:
            self._remaining = inf  # a number that says nothing about the time

    def delay(self, now: float, cost: int, admitted: int, spent: int) -> float:
        """Seconds until a call of this cost fits, but never more than a minute after the last word of the provider."""
        missing = self._need(cost) - self._left(now, admitted, spent)
        if missing <= 0:
            return 0.0
        grown = missing / self._pace if self._pace else inf
        return max(0.0, min(grown, self._at + LOOK - now))

    def look(self, now: float, cost: int, admitted: int, spent: int) -> None:
        """A call is let in. If it does not fit, it goes to look, and the next one waits for what it finds."""
        if self._left(now, admitted, spent) < self._need(cost):
            self._remaining = self._need(cost)
            self._mark = spent if self.subject == "tokens" else admitted
            self._at = now

    def _left(self, now: float, admitted: int, spent: int) -> float:
        left = min(self._limit, self._remaining + self._pace * (now - self._at))
        if self.subject == "output_tokens":
            return left  # how much a call will say is not known before
        return left - ((spent if self.subject == "tokens" else admitted) - self._mark)

    def _need(self, cost: int) -> float:
        return max(1.0, min(cost, self._limit)) if self.subject == "tokens" else 1.0
