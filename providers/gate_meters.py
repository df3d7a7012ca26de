"""What is left of a limit on requests or tokens: of one that the user set, and of one that the provider told. Pure.

The user's is exact: what was let in within the last minute is known, and no 60 seconds get more than the limit. The
provider's is reckoned from its last word.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import NamedTuple

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


class Book(NamedTuple):
    """Tickets that were let in so far and their tokens, and those among them that are open: without an answer."""

    admitted: int
    spent: int
    open: int
    open_cost: int


class Learned:
    """What is left of one of the provider's limits, as far as is known.

    Tickets are numbered in the order of their admission, and so are the tokens that they were expected to use: how much
    has gone since the provider's last word is a difference of two counts.

    Answers come in any order, and the provider counts calls in another one. So a word is taken to know nothing of the
    calls that were open when it came. When one of them is answered it tells which of the two it was: it was counted
    later if less was left then, and that is the word to hold on to; otherwise the word had known of it already.
    """

    __slots__ = ("_at", "_limit", "_mark", "_open", "_pace", "_remaining", "_seen", "_told", "subject")

    def __init__(self, subject: Subject) -> None:
        self.subject: Subject = subject
        self._limit = inf
        self._remaining = inf
        self._pace = 0.0  # per second
        self._at = 0.0
        self._mark = 0  # what had been let in when this was told, without the calls that it does not know of
        self._seen = 0  # the last ticket that had been let in then
        self._open = 0  # calls that were open then and still are
        self._told = inf

    def learn(self, rate: Rate, number: int, cost: int, now: float, book: Book) -> None:
        """Take the provider's word, from the answer to the ticket of this number and cost; it is not open any more."""
        if number <= self._seen and rate.remaining >= self._told:
            if self._open:
                self._open -= 1
                self._mark += cost if self.subject == "tokens" else 1
            return
        self._seen = book.admitted
        self._open = book.open
        self._mark = book.spent - book.open_cost if self.subject == "tokens" else book.admitted - book.open
        self._told = self._remaining = rate.remaining
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
            self._open = 0
            self._at = now

    def _left(self, now: float, admitted: int, spent: int) -> float:
        left = min(self._limit, self._remaining + self._pace * (now - self._at))
        if self.subject == "output_tokens":
            return left  # how much a call will say is not known before
        return left - ((spent if self.subject == "tokens" else admitted) - self._mark)

    def _need(self, cost: int) -> float:
        return max(1.0, min(cost, self._limit)) if self.subject == "tokens" else 1.0
