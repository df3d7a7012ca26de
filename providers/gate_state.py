"""Who may go to a provider now, and who waits: the pure core of a gate. Time and chance are arguments.

A call asks for a `Ticket`. It is let in at once or stands in line, first come, first served; in the end it leaves. Four
things keep a ticket waiting:

- **A freeze.** When the provider refuses a call (429, or "overloaded" with a Retry-After), nobody goes until the time
  that it asked for is over, plus a little of chance, never less. Calls that were on their way at that moment and are
  refused as well belong to the same wave: they can only make the freeze longer.
- **A ramp.** After a freeze one call goes, or after a brief one half as many as were at work, or a few. Each that is
  answered makes room for two, so that those who waited do not come back in one wave. What counts is calls without an
  answer, not open ones: an answer may stream for a minute. A call that fails in another way is an answer too: it was
  not refused. The ramp is over when as many could go as the freeze had met, and nobody waits.
- **A ceiling.** Some providers count the calls that are open at once, and tell nobody. Two refused waves in a row of
  which about as many calls were taken are such a provider: no more are let in at once than were taken. A brief refusal
  says nothing of the kind. The ceiling grows by an eighth after many answers under it, and each time that it proves
  right it grows half as fast. A wave that it does not explain takes it away.
- **Limits of the user**: calls inside at once, and requests and tokens in any 60 seconds.
- **Limits that the provider tells** with each answer: what is left, and when all of it is there again. Between two
  answers the rest is reckoned: it grows at the pace that the last answer implies, and shrinks with each call let in
  since. Where the reckoning is wrong it costs a delay of at most a minute, after which one call goes to look, or a
  refusal, and then the freeze holds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum
from math import inf
from typing import Any

import msgspec

from .checks import is_whole
from .gate_meters import Book, Learned, Window
from .keywords import Keywords
from .notices import WaitReason
from .rate_headers import Rate

#: Seconds of a freeze where the provider asked for none; doubled with each wave in a row.
FREEZE = 1.0
#: A provider that wants to be left alone for less than so many seconds has refused this one call, and is not full.
BRIEF = 1.0
#: Calls that go after a brief refusal in any case: one of the first of many may be the one that is refused.
FEW = 8
#: Seconds that a freeze lasts at most, before one call goes to look.
MAX_FREEZE = 60.0
#: Under a ceiling it takes so many answers for each call that is let in at once before more are tried; and at most.
ROUNDS, MAX_ROUNDS = 16, 1024
#: Seconds that are no wait: sums of times are not exact, and a wait that is shorter than their error would never end.
TICK = 1e-6


class GateLimits(msgspec.Struct, metaclass=Keywords, frozen=True, kw_only=True):
    """What one account of a provider is asked at most. None: no limit of ours.

    Args:
        concurrency: calls at the same time; a streamed one lasts until its stream ends.
        requests_per_minute: calls in any 60 seconds.
        tokens_per_minute: tokens in any 60 seconds: estimated when a call goes, corrected when its usage is known.

    Raises:
        ValueError: a limit that is no whole number above 0.
    """

    concurrency: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and (not is_whole(value) or value < 1):
                raise ValueError(f"GateLimits({name}=) must be a whole number above 0, or None, not {value!r}")


class Place(Enum):
    """Where a ticket is."""

    WAITING = "waiting"
    INSIDE = "inside"
    LEFT = "left"


class Ticket:
    """One call's way through the gate.

    Attributes:
        place: where it is.
        cost: the tokens that it is expected to use.
        since: when it asked.
        waiter: what the skin wakes.
        number: its place in the order of admission, from 1.
    """

    __slots__ = ("answered", "cost", "entry", "number", "place", "since", "waiter")

    def __init__(self, cost: int, since: float) -> None:
        self.place = Place.WAITING
        self.cost = cost
        self.since = since
        self.waiter: Any = None
        self.number = 0
        self.answered = False
        self.entry: list[float] | None = None  # in the window of tokens


class GateState:
    """The state of one gate."""

    __slots__ = (
        "_admitted",
        "_brief",
        "_ceiling",
        "_credit",
        "_goal",
        "_learned",
        "_limits",
        "_mark",
        "_open",
        "_open_cost",
        "_peak",
        "_refusals",
        "_requests",
        "_rounds",
        "_spent",
        "_taken",
        "_tokens",
        "_unanswered",
        "_waves",
        "_width",
        "frozen_until",
        "inside",
        "queue",
        "troubled_since",
    )

    def __init__(self, limits: GateLimits | None = None) -> None:
        #: Tickets inside.
        self.inside = 0
        #: Tickets in line, in order.
        self.queue: OrderedDict[Ticket, None] = OrderedDict()
        #: Nobody goes before.
        self.frozen_until = -inf
        #: Since when the provider has refused and answered nobody; None when it answers.
        self.troubled_since: float | None = None
        self._limits = GateLimits()
        self._requests: Window | None = None
        self._tokens: Window | None = None
        self._learned: dict[str, Learned] = {}
        self._admitted = 0
        self._spent = 0
        # Of those who are inside without an answer, and what they are expected to use.
        self._open = 0
        self._open_cost = 0
        # The ramp: how many may be without an answer (None: any number), how many are, how many it has to reach; the
        # last ticket that was let in before the freeze; freezes in a row.
        self._width: int | None = None
        self._unanswered = 0
        self._goal = 0
        self._mark = 0
        self._waves = 0
        # The ceiling: how many may be inside at once (None: any number); answers for each of them before it grows, and
        # answers since it has; how many the last wave met inside, how many of them it refused, and how many were taken
        # of the wave before it, or are known to be taken.
        self._ceiling: int | None = None
        self._rounds = ROUNDS
        self._credit = 0
        self._peak = 0
        self._refusals = 0
        self._taken: int | None = None
        # Whether every refusal of the last wave was a brief one.
        self._brief = False
        if limits is not None:
            self.limit(limits)

    # -- asking

    @property
    def is_free(self) -> bool:
        """Whether there is nothing that could keep a ticket waiting, whatever the time."""
        return (
            self._width is None
            and not self.queue
            and not self._learned
            and self._requests is None
            and self._tokens is None
            and (self._limits.concurrency is None or self.inside < self._limits.concurrency)
            and (self._ceiling is None or self.inside < self._ceiling)
        )

    @property
    def is_idle(self) -> bool:
        """Whether it may be forgotten: nobody is there, and the provider is in no trouble."""
        return not self.inside and not self.queue and self._width is None

    @property
    def counts_tokens(self) -> bool:
        """Whether the cost of a ticket matters."""
        return self._tokens is not None or any(each.subject == "tokens" for each in self._learned.values())

    @property
    def head(self) -> Ticket | None:
        """The first in line."""
        return next(iter(self.queue), None)

    def ask(self, now: float, cost: int = 0) -> Ticket:
        """A ticket: inside already, or last in line."""
        ticket = Ticket(cost, now)
        if self.queue or self.blocked(now, cost)[0]:
            self.queue[ticket] = None
        else:
            self._let_in(ticket, now)
        return ticket

    def ask_free(self) -> Ticket:
        """A ticket inside, where the gate `is_free`; needs no clock."""
        ticket = Ticket(0, 0.0)
        ticket.place = Place.INSIDE
        self._admitted += 1
        ticket.number = self._admitted
        self.inside += 1
        self._open += 1
        return ticket

    def blocked(self, now: float, cost: int) -> tuple[float, WaitReason]:
        """In how many seconds a ticket could enter (0: now; infinite: time alone is no help), and what it waits for."""
        if self.frozen_until - now > TICK:
            return self.frozen_until - now, "frozen"
        if self._width is not None and self._unanswered >= self._width:
            return inf, "ramp"
        if self._limits.concurrency is not None and self.inside >= self._limits.concurrency:
            return inf, "concurrency"
        if self._ceiling is not None and self.inside >= self._ceiling:
            return inf, "concurrency"
        wait = 0.0
        if self._requests is not None:
            wait = self._requests.delay(now, 1)
        if self._tokens is not None:
            wait = max(wait, self._tokens.delay(now, cost))
        for learned in self._learned.values():
            wait = max(wait, learned.delay(now, cost, self._admitted, self._spent))
        return (wait if wait > TICK else 0.0), "rate"

    def admit(self, now: float) -> list[Ticket]:
        """Let in whoever may go now, in order."""
        admitted: list[Ticket] = []
        while self.queue:
            ticket = next(iter(self.queue))
            if self.blocked(now, ticket.cost)[0]:
                break
            del self.queue[ticket]
            self._let_in(ticket, now)
            admitted.append(ticket)
        return admitted

    def next_time(self, now: float) -> float:
        """When to call `admit` again, should nothing happen before; infinite when only that would help."""
        head = self.head
        return inf if head is None else now + self.blocked(now, head.cost)[0]

    def is_hopeless(self, ticket: Ticket, now: float, patience: float) -> bool:
        """Whether a ticket has waited for so many seconds while the provider answered nobody."""
        return self.hopeless_at(ticket, patience) <= now

    def hopeless_at(self, ticket: Ticket, patience: float) -> float:
        """When the ticket `is_hopeless`, as things are."""
        return inf if self.troubled_since is None else max(ticket.since, self.troubled_since) + patience

    # -- what came of it

    def answered(self, ticket: Ticket) -> None:
        """The provider has answered this call, or failed in another way than by refusing it."""
        if ticket.answered or ticket.place is not Place.INSIDE:
            return
        ticket.answered = True
        self._open -= 1
        self._open_cost -= ticket.cost
        if self._ceiling is not None and self.inside >= self._ceiling:
            self._grow(self._ceiling)
        if self._width is None or ticket.number <= self._mark:
            return
        if self._waves:
            self._learn()
        self._unanswered -= 1
        self._width += 1
        self._waves = 0
        self.troubled_since = None
        if self._width >= self._goal and not self.queue:
            self._width = None
            self._goal = 0

    def refused(self, ticket: Ticket, now: float, retry_after: float | None, chance: float) -> None:
        """The provider has refused this call: nobody goes for a while.

        Args:
            ticket: of the call.
            now: the time.
            retry_after: seconds that the provider asked for, or None.
            chance: a number from 0 up to and without 1.
        """
        brief = retry_after is not None and 0 < retry_after < BRIEF
        same_wave = self._width is not None and ticket.number <= self._mark
        if same_wave:
            self._refusals += 1
            self._brief = self._brief and brief
            if retry_after is None:
                return
        else:
            self._peak = self.inside
            self._refusals = 1
            self._brief = brief
            self._waves += 1
            self._mark = self._admitted
            self._width = max(FEW, self.inside // 2) if brief else 1
            self._unanswered = 0
            self._goal = max(self._goal, self.inside + len(self.queue))
            if self.troubled_since is None:
                self.troubled_since = now
        if retry_after is None or (not retry_after and self._waves > 1):
            # Nothing was asked for; or "at once", which has been tried.
            pause = FREEZE * 2 ** min(self._waves - 1, 16)
        else:
            pause = retry_after
        pause = min(pause, MAX_FREEZE)
        spread = pause if brief else max(pause, FREEZE)
        self.frozen_until = max(self.frozen_until, now + pause + chance * spread / 4)

    def observe(self, ticket: Ticket, rates: Iterable[Rate], now: float) -> None:
        """Take what the answer to this call told of the provider's limits."""
        own = not ticket.answered and ticket.place is Place.INSIDE
        book = Book(self._admitted, self._spent, self._open - own, self._open_cost - own * ticket.cost)
        for rate in rates:
            known = self._learned.get(rate.name)
            if known is None:
                known = self._learned[rate.name] = Learned(rate.subject)
            known.learn(rate, ticket.number, ticket.cost, now, book)

    def used(self, ticket: Ticket, tokens: int) -> None:
        """Correct what the call was expected to use."""
        if self._tokens is not None and ticket.entry is not None:
            self._tokens.correct(ticket.entry, tokens)

    def leave(self, ticket: Ticket) -> None:
        """The call is over, or will not be made. Leaving twice changes nothing."""
        if ticket.place is Place.WAITING:
            del self.queue[ticket]
        elif ticket.place is Place.INSIDE:
            self.inside -= 1
            if not ticket.answered:
                self._open -= 1
                self._open_cost -= ticket.cost
                if self._width is not None and ticket.number > self._mark:
                    self._unanswered -= 1
        ticket.place = Place.LEFT

    def limit(self, limits: GateLimits) -> None:
        """Set the user's limits. What has happened within the last minute is only known to limits that stay."""
        self._limits = limits
        self._requests = Window.following(self._requests, limits.requests_per_minute)
        self._tokens = Window.following(self._tokens, limits.tokens_per_minute)

    def _learn(self) -> None:
        """The last wave is over, and calls are answered again: compare how many of it were taken with the one before.

        What the gate cannot see (a call that was sent later than it was let in) makes the numbers inexact by some.
        """
        if self._brief:
            return  # single calls were refused, however many were inside
        taken = self._peak - self._refusals
        before = self._taken
        if before is not None and taken > 0 and abs(taken - before) <= max(1, before // 4):
            self._rounds = ROUNDS if self._ceiling is None else min(2 * self._rounds, MAX_ROUNDS)
            self._ceiling = min(taken, before)
        else:
            self._ceiling, self._rounds = None, ROUNDS
        self._taken = taken if taken > 0 else None
        self._credit = 0

    def _grow(self, ceiling: int) -> None:
        """One more answer while as many as may be are inside."""
        self._credit += 1
        if self._credit >= ceiling * self._rounds:
            self._taken = ceiling
            self._ceiling = ceiling + max(1, ceiling // 8)
            self._credit = 0

    def _let_in(self, ticket: Ticket, now: float) -> None:
        for learned in self._learned.values():
            learned.look(now, ticket.cost, self._admitted, self._spent)
        ticket.place = Place.INSIDE
        self._admitted += 1
        self._spent += ticket.cost
        ticket.number = self._admitted
        self.inside += 1
        self._open += 1
        self._open_cost += ticket.cost
        if self._width is not None:
            self._unanswered += 1
        if self._requests is not None:
            self._requests.charge(now, 1)
        if self._tokens is not None:
            ticket.entry = self._tokens.charge(now, ticket.cost)
