"""Gates of provider accounts: the core as data, the waiting on both backends, and runs behind it (scenarios 84, 92)."""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable, Iterable
from itertools import pairwise
from math import inf
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from greenroom import Agent, Retry, System
from greenroom.agents import Sources
from greenroom.events import GateOpened, GateWaiting
from greenroom.providers import (
    GateLimits,
    ModelRequest,
    OpenAIChat,
    Overloaded,
    ProviderError,
    RateLimited,
    Timeouts,
    Usage,
    connect,
    user,
)
from greenroom.providers.connect import NATIVE
from greenroom.providers.gate import Account, Gate, Gates, estimate, shared_gates
from greenroom.providers.gate_state import MAX_FREEZE, GateState, Place, Ticket
from greenroom.providers.rate_headers import Rate, read_rates
from greenroom.providers.vendors import VENDORS
from greenroom.testing import explore, interrupt_everywhere, run

from .wire import delta, events, serve, sse_answer

BACKENDS = ("asyncio", "trio")
NOW = 1_800_000_000.0


# -- what the headers say


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("6ms", 0.006),
        ("0s", 0.0),
        ("1s", 1.0),
        ("7.66s", 7.66),
        ("6m0s", 360.0),
        ("2m59.56s", 179.56),
        ("1h2m3s", 3723.0),
        ("1d", 86400.0),
        ("12.5", 12.5),
        ("1800000030", 30.0),
        ("1800000030000", 30.0),
        ("2027-01-15T08:00:30Z", 30.0),
        ("2027-01-15T08:00:30+00:00", 30.0),
        ("2027-01-15T07:00:00Z", 0.0),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("-5", 0.0),
        ("s", None),
        ("X-RATELIMIT-RESET-TOKENS-XXX", None),
    ],
)
def test_a_reset_in_every_form(reset: str, seconds: float | None) -> None:
    headers = {"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": reset}
    (rate,) = read_rates(headers, now=NOW)
    assert rate.reset == (None if seconds is None else pytest.approx(seconds, abs=1e-6))


def test_the_headers_of_openai() -> None:
    headers = {
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-limit-tokens": "30000000",
        "x-ratelimit-remaining-requests": "9999",
        "x-ratelimit-remaining-tokens": "29999993",
        "x-ratelimit-reset-requests": "6ms",
        "x-ratelimit-reset-tokens": "0s",
        "x-ratelimit-limit-input-images": "50000",
        "x-ratelimit-remaining-input-images": "49999",
    }
    assert read_rates(headers, now=NOW) == [
        Rate("requests", "requests", 10000.0, 9999.0, 6 * 0.001),
        Rate("tokens", "tokens", 30000000.0, 29999993.0, 0.0),
    ]


def test_the_headers_of_anthropic_by_their_own_clock() -> None:
    """The moment is compared with the response's Date: our clock may be wrong by hours."""
    headers = httpx.Headers(
        {
            "Date": "Fri, 15 Jan 2027 08:00:00 GMT",
            "Anthropic-RateLimit-Requests-Limit": "4000",
            "Anthropic-RateLimit-Requests-Remaining": "0",
            "Anthropic-RateLimit-Requests-Reset": "2027-01-15T08:00:10Z",
            "anthropic-ratelimit-output-tokens-limit": "80000",
            "anthropic-ratelimit-output-tokens-remaining": "79000",
            "anthropic-ratelimit-output-tokens-reset": "2027-01-15T08:00:01Z",
        }
    )
    assert read_rates(headers, now=NOW + 9999) == [
        Rate("requests", "requests", 4000.0, 0.0, 10.0),
        Rate("output-tokens", "output_tokens", 80000.0, 79000.0, 1.0),
    ]


def test_other_headers_with_a_period_or_without_a_subject() -> None:
    headers = {
        "x-ratelimit-limit-requests-day": "14400",
        "x-ratelimit-remaining-requests-day": "14399",
        "x-ratelimit-reset-requests-day": "33011.2",
        "X-RateLimit-Limit": "20",
        "X-RateLimit-Remaining": "19",
        "x-ratelimit-over-limit": "no",
        "ratelimit-policy": "20;w=60",
    }
    assert read_rates(headers, now=NOW) == [
        Rate("requests-day", "requests", 14400.0, 14399.0, 33011.2),
        Rate("", "requests", 20.0, 19.0, None),
    ]


@given(
    st.dictionaries(
        st.sampled_from(["x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "date"]), st.text()
    )
)
def test_hostile_headers_are_not_there_or_numbers(headers: dict[str, str]) -> None:
    for rate in read_rates(headers, now=NOW):
        assert 0 <= rate.remaining < inf
        assert rate.reset is None or 0 <= rate.reset < inf


# -- the core


class GateMachine(RuleBasedStateMachine):
    """Any order of calls that come, are answered, refused, cancelled and leave, beside a plain book of who is where."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.concurrency: int | None = None
        self.per_minute: int | None = None
        self.state = GateState()
        self.waiting: list[Ticket] = []
        self.inside: list[Ticket] = []
        self.let_in: list[float] = []
        self.frozen_until = -inf

    def came_in(self, tickets: Iterable[Ticket]) -> None:
        for ticket in tickets:
            assert ticket is self.waiting.pop(0), "first come, first served"
            self.enter(ticket)

    def enter(self, ticket: Ticket) -> None:
        assert ticket.place is Place.INSIDE
        assert self.now >= self.frozen_until - 1e-5
        assert self.state._ceiling is None or self.state.inside <= self.state._ceiling
        self.inside.append(ticket)
        self.let_in.append(self.now)

    def admit(self) -> None:
        self.came_in(self.state.admit(self.now))

    @rule(concurrency=st.none() | st.integers(1, 4), per_minute=st.none() | st.integers(1, 6))
    @precondition(lambda self: not self.let_in)
    def limit(self, concurrency: int | None, per_minute: int | None) -> None:
        self.concurrency, self.per_minute = concurrency, per_minute
        self.state.limit(GateLimits(concurrency=concurrency, requests_per_minute=per_minute))

    @rule(cost=st.integers(0, 50))
    def ask(self, cost: int) -> None:
        free = self.state.is_free
        ticket = self.state.ask(self.now, cost)
        if ticket.place is Place.WAITING:
            assert not free
            self.waiting.append(ticket)
        else:
            assert not self.waiting, "nobody overtakes"
            self.enter(ticket)

    @rule()
    @precondition(lambda self: self.state.is_free)
    def ask_free(self) -> None:
        self.enter(self.state.ask_free())

    @rule(seconds=st.sampled_from([0.001, 0.5, 1.0, 7.0, 60.0, 61.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.admit()

    @rule()
    @precondition(lambda self: self.waiting)
    def wait_as_told(self) -> None:
        """Whoever waits until the time that it is told does get in then, or for a reason that is not the time."""
        until = self.state.next_time(self.now)
        if until < inf:
            self.now = until
            before = len(self.inside)
            self.admit()
            assert len(self.inside) > before or self.state.next_time(self.now) > self.now

    @rule(data=st.data())
    @precondition(lambda self: self.inside)
    def answer(self, data: Any) -> None:
        self.state.answered(data.draw(st.sampled_from(self.inside)))
        self.admit()

    @rule(data=st.data(), retry_after=st.none() | st.sampled_from([0.0, 1.0, 20.0, 1e9]), chance=st.floats(0, 0.999))
    @precondition(lambda self: self.inside)
    def refuse(self, data: Any, retry_after: float | None, chance: float) -> None:
        before = self.state.frozen_until
        self.state.refused(data.draw(st.sampled_from(self.inside)), self.now, retry_after, chance)
        assert self.state.frozen_until >= before
        if retry_after is not None:
            assert self.state.frozen_until >= self.now + min(retry_after, MAX_FREEZE)
        assert self.state.frozen_until <= max(before, self.now + MAX_FREEZE * 1.25)
        self.frozen_until = self.state.frozen_until
        self.admit()

    @rule(data=st.data(), remaining=st.integers(0, 5), reset=st.none() | st.sampled_from([0.0, 1.0, 30.0]))
    @precondition(lambda self: self.inside)
    def observe(self, data: Any, remaining: int, reset: float | None) -> None:
        rate = Rate("requests", "requests", 5.0, float(remaining), reset)
        self.state.observe(data.draw(st.sampled_from(self.inside)), [rate], self.now)
        self.admit()

    @rule(data=st.data(), again=st.booleans())
    @precondition(lambda self: self.inside or self.waiting)
    def leave(self, data: Any, again: bool) -> None:
        """At its end, or because it was cancelled, wherever it is."""
        ticket = data.draw(st.sampled_from([*self.inside, *self.waiting]))
        (self.inside if ticket in self.inside else self.waiting).remove(ticket)
        self.state.leave(ticket)
        assert ticket.place is Place.LEFT
        if again:
            self.state.leave(ticket)
        self.admit()

    @invariant()
    def the_books_agree(self) -> None:
        assert self.state.inside == len(self.inside)
        assert list(self.state.queue) == self.waiting
        assert self.state.head is (self.waiting[0] if self.waiting else None)
        if self.concurrency is not None:
            assert len(self.inside) <= self.concurrency
        if self.per_minute is not None:
            recent = [time for time in self.let_in if time > self.now - 59.999]
            assert len(recent) <= self.per_minute

    @invariant()
    def nobody_is_forgotten(self) -> None:
        """Whoever waits is let in by time alone, or somebody is inside whose leaving will do it."""
        if self.waiting:
            assert self.state.next_time(self.now) < inf or self.inside
            assert self.state.admit(self.now) == []

    def teardown(self) -> None:
        """When all have gone and time passes, everybody gets in."""
        for _ in range(2000):
            if not self.waiting:
                break
            for ticket in self.inside:
                self.state.answered(ticket)
                self.state.leave(ticket)
            self.inside.clear()
            self.now = max(self.now, min(self.state.next_time(self.now), self.now + 1000))
            self.admit()
        assert not self.waiting


GateMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestGateMachine = GateMachine.TestCase


def leave_answered(state: GateState, tickets: Iterable[Ticket]) -> None:
    for ticket in tickets:
        state.answered(ticket)
        state.leave(ticket)


def test_after_a_freeze_the_calls_double() -> None:
    state = GateState()
    first = [state.ask(0.0) for _ in range(100)]
    state.refused(first[0], 1.0, 10.0, 0.0)
    late = [state.ask(2.0) for _ in range(50)]
    assert all(ticket.place is Place.WAITING for ticket in late)
    leave_answered(state, first)
    assert state.admit(10.9) == []
    waves: list[int] = []
    while state.queue:
        wave = state.admit(11.0)
        waves.append(len(wave))
        leave_answered(state, wave)
    assert waves == [1, 2, 4, 8, 16, 19]


def test_after_a_brief_refusal_half_as_many_go_on() -> None:
    """It concerned this one call: a thousand runs must not come down to one for a pause of fifty milliseconds."""
    state = GateState()
    first = [state.ask(0.0) for _ in range(100)]
    state.refused(first[0], 1.0, 0.05, 0.999)
    assert 1.05 <= state.frozen_until < 1.0625 + 0.001
    late = [state.ask(1.01) for _ in range(100)]
    assert all(ticket.place is Place.WAITING for ticket in late)
    assert len(state.admit(1.1)) == 50


def test_brief_refusals_of_single_calls_are_no_ceiling() -> None:
    """However alike the numbers of calls are that were taken: it is chance which one is refused."""
    state, now = GateState(), 0.0
    for _ in range(4):
        tickets = [state.ask(now) for _ in range(80)]
        inside = [ticket for ticket in tickets if ticket.place is Place.INSIDE]
        state.refused(inside[0], now, 0.05, 0.0)
        state.leave(inside[0])
        now += 1.0
        state.admit(now)
        while any(ticket.place is not Place.LEFT for ticket in tickets):
            leave_answered(state, [ticket for ticket in tickets if ticket.place is Place.INSIDE])
            state.admit(now)
        assert state._ceiling is None


def test_one_of_the_first_calls_may_be_refused_briefly() -> None:
    """The others, which come right behind it, need not begin with one."""
    state = GateState()
    first, *_ = [state.ask(0.0) for _ in range(2)]
    state.refused(first, 0.0, 0.05, 0.0)
    state.leave(first)
    for _ in range(300):
        state.ask(0.0)
    assert len(state.admit(0.1)) == 8


def test_a_ramp_is_not_over_while_those_who_were_refused_still_pause() -> None:
    """Nobody waits at the gate yet, for all pause before their next attempt: they find it narrow when they come."""
    state = GateState()
    first = [state.ask(0.0) for _ in range(100)]
    for ticket in first:
        state.refused(ticket, 1.0, 10.0, 0.0)
        state.leave(ticket)
    leave_answered(state, [state.ask(11.0)])
    assert [state.ask(11.0).place for _ in range(4)] == [Place.INSIDE] * 2 + [Place.WAITING] * 2


def test_a_call_of_the_same_wave_makes_a_freeze_longer_and_nothing_else() -> None:
    state = GateState()
    first, second, third = [state.ask(0.0) for _ in range(3)]
    state.refused(first, 1.0, 10.0, 0.0)
    state.refused(second, 1.1, None, 0.0)
    assert state.frozen_until == 11.0
    state.refused(third, 2.0, 20.0, 0.0)
    assert state.frozen_until == 22.0
    assert state.ask(22.0).place is Place.INSIDE
    assert state.ask(22.0).place is Place.WAITING


def test_freezes_in_a_row_get_longer_up_to_a_minute_and_an_answer_ends_the_row() -> None:
    state, now, pauses = GateState(), 0.0, list[float]()
    for _ in range(9):
        ticket = state.ask(now)
        state.refused(ticket, now, None, 0.0)
        state.leave(ticket)
        pauses.append(state.frozen_until - now)
        now = state.frozen_until
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    leave_answered(state, [state.ask(now)])
    state.refused(state.ask(now), now, None, 0.0)
    assert state.frozen_until - now == 1.0


def test_what_the_provider_asks_for_holds_however_often_it_refuses() -> None:
    """It knows better than we do. "At once" is no word that holds twice."""
    for retry_after, expected in ((0.3, [0.3, 0.3, 0.3, 0.3]), (0.0, [0.0, 2.0, 4.0, 8.0])):
        state, now, pauses = GateState(), 0.0, list[float]()
        for _ in range(4):
            ticket = state.ask(now)
            state.refused(ticket, now, retry_after, 0.0)
            state.leave(ticket)
            pauses.append(pytest.approx(state.frozen_until - now))
            now = state.frozen_until
        assert pauses == expected


class Crowded:
    """A provider that takes so many calls at once and refuses the others. Its calls last for ever, or until `end`."""

    def __init__(self, taken: int) -> None:
        self.taken = taken
        self.state = GateState()
        self.now = 0.0
        self.most = 0

    def wave(self) -> int:
        """Let in as many as may go now; returns how many were refused."""
        self.now = max(self.now, self.state.frozen_until)
        tickets = self.state.admit(self.now)
        self.most = len(tickets)
        for ticket in tickets[self.taken :]:
            self.state.refused(ticket, self.now, 1.0, 0.0)
            self.state.leave(ticket)
            self.state.ask(self.now)
        leave_answered(self.state, tickets[: self.taken])
        return max(0, len(tickets) - self.taken)

    def line(self, count: int) -> None:
        """So many more who want to go, none of them at once."""
        first = self.state.ask(self.now)
        self.state.refused(first, self.now, 1.0, 0.0)
        self.state.leave(first)
        for _ in range(count):
            self.state.ask(self.now)


def test_a_provider_that_counts_open_calls_is_learned_in_two_waves() -> None:
    """Its next wave comes when the ceiling is tried, and each time later."""
    crowd = Crowded(20)
    crowd.line(20_000)
    refused = [crowd.wave() for _ in range(400)]
    waves = [index for index, count in enumerate(refused) if count]
    assert refused[waves[0]] == refused[waves[1]] == 12, "1, 2, 4, 8, 16, 32: twelve are too many"
    assert all(refused[index] == 2 for index in waves[2:]), "22 are tried"
    gaps = [later - earlier for earlier, later in pairwise(waves[1:])]
    assert all(later > earlier * 1.5 for earlier, later in pairwise(gaps))
    assert len(waves) <= 6


def test_a_ceiling_grows_with_its_provider_and_goes_when_it_explains_nothing() -> None:
    crowd = Crowded(20)
    crowd.line(100_000)
    while crowd.state._ceiling is None:
        crowd.wave()
    assert crowd.state._ceiling == 20
    crowd.taken = 40
    while crowd.state._ceiling is not None and crowd.state._ceiling < 40:
        assert crowd.wave() == 0
    assert crowd.most >= 32
    crowd.taken = 3
    crowd.wave()
    crowd.wave()
    assert crowd.state._ceiling is None


def test_chance_only_adds() -> None:
    for retry_after, most in ((0.0, 0.25), (8.0, 10.0), (3600.0, 75.0)):
        pauses: list[float] = []
        for chance in (0.0, 0.5, 0.999):
            state = GateState()
            state.refused(state.ask(0.0), 0.0, retry_after, chance)
            pauses.append(state.frozen_until)
        assert pauses[0] == min(retry_after, MAX_FREEZE)
        assert all(a < b <= most for a, b in pairwise(pauses))


def test_a_stream_that_is_answered_makes_room_while_it_lasts() -> None:
    """After a freeze a minute of streaming must not hold up the next call."""
    state = GateState()
    state.refused(state.ask(0.0), 0.0, 1.0, 0.0)
    probe, second, third = [state.ask(1.0) for _ in range(3)]
    assert [each.place for each in (probe, second, third)] == [Place.INSIDE, Place.WAITING, Place.WAITING]
    state.answered(probe)
    assert state.admit(1.0) == [second, third]


def test_a_probe_that_is_cancelled_lets_the_next_one_try() -> None:
    state = GateState()
    state.refused(state.ask(0.0), 0.0, 1.0, 0.0)
    probe, second = state.ask(1.0), state.ask(1.0)
    state.leave(probe)
    assert state.admit(1.0) == [second]
    assert state.ask(1.0).place is Place.WAITING


def test_what_the_provider_has_left_is_kept_to() -> None:
    """Three are left, and one comes back each second: three go, and then one each second."""
    state = GateState()
    told = state.ask(0.0)
    state.observe(told, [Rate("requests", "requests", 60.0, 3.0, 57.0)], 0.0)
    tickets = [state.ask(0.0) for _ in range(6)]
    assert [ticket.place for ticket in tickets] == [Place.INSIDE] * 3 + [Place.WAITING] * 3
    assert state.next_time(0.0) == pytest.approx(1.0)
    assert state.admit(0.99) == []
    assert state.admit(1.0) == [tickets[3]]
    assert state.next_time(1.0) == pytest.approx(2.0)


@given(st.randoms(use_true_random=False))
def test_a_limit_is_kept_in_whatever_order_calls_are_counted_and_answered(dice: random.Random) -> None:
    """Twenty in an hour, and a hundred who want to go: twenty go, and none is refused. Any may be counted first."""
    state, used = GateState(), 0
    uncounted, counted, let_in = list[Ticket](), list[tuple[Ticket, int]](), 1
    first = state.ask(0.0)
    state.answered(first)
    state.observe(first, [Rate("requests", "requests", 20.0, 19.0, 3600.0)], 0.0)
    state.leave(first)
    used = 1
    uncounted += [ticket for ticket in [state.ask(0.0) for _ in range(100)] if ticket.place is Place.INSIDE]
    let_in += len(uncounted)
    while uncounted or counted:
        if uncounted and (not counted or dice.random() < 0.5):
            ticket = uncounted.pop(dice.randrange(len(uncounted)))
            used += 1
            assert used <= 20, "the provider has refused one"
            counted.append((ticket, 20 - used))
            continue
        ticket, left = counted.pop(dice.randrange(len(counted)))
        state.answered(ticket)
        state.observe(ticket, [Rate("requests", "requests", 20.0, float(left), 3600.0)], 0.0)
        state.leave(ticket)
        admitted = state.admit(0.0)
        uncounted += admitted
        let_in += len(admitted)
    assert let_in == 20


@given(st.randoms(use_true_random=False))
def test_others_of_the_account_are_known_by_what_they_leave(dice: random.Random) -> None:
    """The same with somebody else who uses ten of forty meanwhile: the words that come late are the stale ones."""
    state, used, others, refused = GateState(), 1, 10, 0
    uncounted, counted = list[Ticket](), list[tuple[Ticket, int]]()
    first = state.ask(0.0)
    state.answered(first)
    state.observe(first, [Rate("requests", "requests", 40.0, 39.0, 3600.0)], 0.0)
    state.leave(first)
    queue = [state.ask(0.0) for _ in range(100)]
    uncounted += [ticket for ticket in queue if ticket.place is Place.INSIDE]
    while uncounted or counted:
        if others and dice.random() < 0.5:
            others -= 1
            used += 1
        if uncounted and (not counted or dice.random() < 0.5):
            ticket = uncounted.pop(dice.randrange(len(uncounted)))
            used += 1
            refused += used > 40
            counted.append((ticket, max(0, 40 - used)))
            continue
        ticket, left = counted.pop(dice.randrange(len(counted)))
        state.answered(ticket)
        state.observe(ticket, [Rate("requests", "requests", 40.0, float(left), 3600.0)], 0.0)
        state.leave(ticket)
        uncounted += state.admit(0.0)
    assert refused <= 10, "no more than the others have taken before we could know"


def test_an_answer_that_was_overtaken_says_nothing() -> None:
    state = GateState()
    slow, quick = state.ask(0.0), state.ask(0.0)
    state.observe(quick, [Rate("requests", "requests", 10.0, 0.0, 60.0)], 1.0)
    state.observe(slow, [Rate("requests", "requests", 10.0, 10.0, 0.0)], 2.0)
    assert state.ask(2.0).place is Place.WAITING


def test_a_wrong_number_costs_a_minute_and_no_wave() -> None:
    """Nothing left for five hours: after a minute one call goes to look, and the others wait for what it finds."""
    state = GateState()
    state.observe(state.ask(0.0), [Rate("requests", "requests", 5.0, 0.0, 18_000.0)], 0.0)
    first, second = state.ask(1.0), state.ask(1.0)
    assert state.next_time(1.0) == pytest.approx(60.0)
    assert state.admit(60.0) == [first]
    assert state.admit(60.0) == []
    state.observe(first, [Rate("requests", "requests", 5.0, 5.0, 0.0)], 61.0)
    assert state.admit(61.0) == [second]


def test_tokens_in_a_minute_are_corrected_when_they_are_known() -> None:
    state = GateState(GateLimits(tokens_per_minute=100))
    first = state.ask(0.0, 80)
    second = state.ask(0.0, 60)
    assert second.place is Place.WAITING
    state.used(first, 30)
    assert state.admit(0.0) == [second]
    state.used(second, 100)
    third = state.ask(30.0, 10)
    assert third.place is Place.WAITING
    assert state.next_time(30.0) == 60.0
    assert state.admit(60.0) == [third]


def test_a_call_above_the_whole_limit_goes_alone() -> None:
    state = GateState(GateLimits(tokens_per_minute=100))
    assert state.ask(0.0, 5000).place is Place.INSIDE
    assert state.ask(1.0, 5000).place is Place.WAITING
    assert len(state.admit(60.0)) == 1


@pytest.mark.parametrize("fields", [{"concurrency": 0}, {"requests_per_minute": 1.5}, {"tokens_per_minute": True}])
def test_a_limit_is_checked_when_it_is_made(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"GateLimits\({next(iter(fields))}=\) must be a whole number above 0"):
        GateLimits(**fields)


# -- the waiting

REQUEST = ModelRequest([user("hello")])
ACCOUNT = Account("acme", "m", "http://acme", ("secret-key",))


def gate(limits: GateLimits | None = None) -> Gate:
    return Gate(ACCOUNT, lambda: 0.0, limits or GateLimits())


async def entered(gate: Gate, patience: float | None = None) -> Ticket:
    return gate.try_enter(REQUEST) or await gate.wait(REQUEST, patience)


def test_an_account_does_not_show_its_key() -> None:
    assert "secret" not in f"{ACCOUNT!r} {ACCOUNT} {gate()!r}"


def test_calls_go_in_the_order_in_which_they_came() -> None:
    async def scenario() -> None:
        door, order = gate(GateLimits(concurrency=1)), list[int]()

        async def call(number: int) -> None:
            ticket = await entered(door)
            order.append(number)
            await anyio.sleep(1)
            door.leave(ticket)

        async with anyio.create_task_group() as group:
            for number in range(9):
                group.start_soon(call, number)
                await anyio.wait_all_tasks_blocked()
        assert order == list(range(9))
        assert anyio.current_time() == 9.0
        assert door.state.is_idle

    for backend in BACKENDS:
        run(scenario, backend=backend)


def test_cancelled_at_every_step_nothing_is_lost() -> None:
    """One of five is cancelled, waiting or inside, at every step of anybody: the others get in, and nothing leaks."""

    async def scenario(interruption: Any) -> None:
        door, done = gate(GateLimits(concurrency=1)), list[int]()
        scope = anyio.CancelScope()

        async def call(number: int, own: anyio.CancelScope) -> None:
            with own:
                ticket = await entered(door)
                try:
                    await anyio.sleep(1)
                    if number == 0:
                        door.failed(ticket, RateLimited("slow down", retry_after=5.0))
                finally:
                    door.leave(ticket)
                done.append(number)

        interruption.arm(scope.cancel)
        with anyio.fail_after(100):
            async with anyio.create_task_group() as group:
                for number in range(5):
                    group.start_soon(call, number, scope if number == 2 else anyio.CancelScope())
        assert set(done) >= {0, 1, 3, 4}
        assert not door.state.inside
        assert not door.state.queue

    for backend in BACKENDS:
        assert interrupt_everywhere(scenario, backend=backend) > 10


def test_whoever_watches_the_clock_may_go() -> None:
    """The first in line waits for the freeze to end; when it is cancelled, the next one takes over."""

    async def scenario() -> None:
        door, entries = gate(), list[float]()
        ticket = await entered(door)
        door.failed(ticket, RateLimited("wait", retry_after=10.0))
        door.leave(ticket)
        first = anyio.CancelScope()

        async def call(scope: anyio.CancelScope) -> None:
            with scope:
                ticket = await entered(door)
                entries.append(anyio.current_time())
                door.answered(ticket, {}, lambda: NOW)
                door.leave(ticket)

        async with anyio.create_task_group() as group:
            group.start_soon(call, first)
            await anyio.wait_all_tasks_blocked()
            for _ in range(3):
                group.start_soon(call, anyio.CancelScope())
            await anyio.sleep(1)
            first.cancel()
        assert entries == [10.0] * 3

    for backend in BACKENDS:
        run(scenario, backend=backend)


def test_the_clock_is_watched_while_calls_last() -> None:
    """Whoever is let in by the time passes the watch on, although nobody leaves."""

    async def scenario() -> None:
        door, entries = gate(GateLimits(requests_per_minute=1)), list[float]()

        async def call() -> None:
            await entered(door)
            entries.append(anyio.current_time())
            await anyio.sleep(1000)

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(call)
        assert entries == [0.0, 60.0, 120.0, 180.0]

    for backend in BACKENDS:
        run(scenario, backend=backend)


def test_news_of_the_provider_wake_the_first_in_line() -> None:
    """The answer of an open call tells that it had been counted: the place that was kept for it is free."""

    async def scenario() -> None:
        door = gate()
        told, later = await entered(door), await entered(door)
        one, nine = ({"x-ratelimit-remaining-requests": left, "x-ratelimit-reset-requests": "40"} for left in "19")
        door.answered(told, one, lambda: NOW)
        async with anyio.create_task_group() as group:
            group.start_soon(entered, door)
            await anyio.sleep(1)
            door.answered(later, nine, lambda: NOW)
            await anyio.wait_all_tasks_blocked()
            assert door.state.inside == 3
        assert anyio.current_time() == 1.0

    for backend in BACKENDS:
        run(scenario, backend=backend)


def test_in_every_order_of_the_tasks(seeds: Iterable[int]) -> None:
    """Two at once; one is cancelled, one is refused, and all others get in."""

    async def scenario() -> None:
        door, done, inside = gate(GateLimits(concurrency=2)), list[int](), set[int]()

        async def call(number: int, scope: anyio.CancelScope) -> None:
            with scope:
                ticket = await entered(door)
                inside.add(number)
                assert len(inside) <= 2
                try:
                    await anyio.sleep(0.5 + number % 2)
                    if number == 3:
                        door.failed(ticket, RateLimited("wait", retry_after=2.0))
                finally:
                    inside.discard(number)
                    door.leave(ticket)
                done.append(number)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                scopes = [anyio.CancelScope() for _ in range(8)]
                for number in range(8):
                    group.start_soon(call, number, scopes[number])
                await anyio.sleep(1)
                scopes[5].cancel()
        assert {0, 1, 2, 3, 4, 6, 7} <= set(done)
        assert not door.state.inside
        assert not door.state.queue

    explore(scenario, seeds=seeds)


def test_who_waits_in_vain_is_told_so() -> None:
    """The provider refuses whoever tries: nobody waits for ever, and whoever is answered ends the trouble for all."""

    async def scenario() -> None:
        door = gate()
        door.failed(ticket := await entered(door), RateLimited("no", retry_after=60.0))
        door.leave(ticket)
        failed: list[tuple[float, bool, str]] = []

        async def call() -> None:
            try:
                ticket = await entered(door, patience=100.0)
            except RateLimited as error:
                failed.append((anyio.current_time(), error.retryable, error.message.partition(",")[0]))
            else:
                door.failed(ticket, RateLimited("no", retry_after=60.0))
                door.leave(ticket)

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(call)
        assert failed == [(100.0, True, "waited 100 s to be let in")] * 4
        assert door.state.troubled_since == 0.0
        ticket = await entered(door)
        door.answered(ticket, {}, lambda: NOW)
        door.leave(ticket)
        assert door.state.troubled_since is None

    for backend in BACKENDS:
        run(scenario, backend=backend)


def test_a_long_line_behind_our_own_limit_is_waited_for() -> None:
    """Patience is for a provider that refuses, not for those who are in front."""

    async def scenario() -> None:
        door = gate(GateLimits(concurrency=1))

        async def call() -> None:
            ticket = await entered(door, patience=10.0)
            await anyio.sleep(100)
            door.leave(ticket)

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(call)
        assert anyio.current_time() == 500.0

    for backend in BACKENDS:
        run(scenario, backend=backend)


def test_what_a_failure_means() -> None:
    async def scenario() -> None:
        for error, freezes in (
            (RateLimited("x"), True),
            (RateLimited("spent", retryable=False), False),
            (Overloaded("x", status=503), False),
            (Overloaded("x", status=529, retry_after=3.0), True),
            (ProviderError("x"), False),
        ):
            door = gate()
            ticket = await entered(door)
            door.failed(ticket, error)
            door.leave(ticket)
            assert (door.frozen_for > 0) is freezes, error

    run(scenario)


def test_limits_come_from_the_name_or_the_address_and_go_with_their_owner() -> None:
    gates, dice = Gates(), lambda: 0.5
    gates.rule("a", {"acme": GateLimits(concurrency=3)}, dice)
    door = gates.of(ACCOUNT)
    assert door is gates.of(Account("acme", "m", "http://acme", ("secret-key",)))
    assert door is not gates.of(ACCOUNT._replace(secrets=("other-key",)))
    assert door is not gates.of(ACCOUNT._replace(model="other"))

    def bound() -> int:
        count = 0
        while door.state.ask(0.0).place is Place.INSIDE and count < 20:
            count += 1
        for ticket in list(door.state.queue):
            door.state.leave(ticket)
        return count

    assert bound() == 3
    gates.rule("b", {"http://acme": GateLimits(concurrency=5)}, dice)
    assert bound() == 2
    gates.unrule("b")
    gates.unrule("a")
    assert bound() == 20


def test_gates_are_forgotten_when_there_are_many() -> None:
    gates = Gates()
    busy = gates.of(ACCOUNT)
    busy.state.ask_free()
    for number in range(2500):
        gates.of(ACCOUNT._replace(secrets=(str(number),)))
    assert len(gates._gates) <= 1001
    assert gates.of(ACCOUNT) is busy


def test_the_tokens_of_a_request_are_estimated() -> None:
    assert estimate(ModelRequest([user("x" * 400)], instructions="y" * 40)) == 111


# -- behind the gate: providers and runs


def chat(handle: Callable[[Any], Awaitable[httpx.Response]], model: str = "m", **more: Any) -> OpenAIChat:
    """A provider whose server is a function; its waits are those of the clock in use."""
    client = httpx.AsyncClient(transport=httpx.MockTransport(handle))  # type: ignore[arg-type]
    return OpenAIChat(model, base_url="http://acme/v1", api_key="secret-key", client=client, **more)


def answer(text: str = "hello", **headers: str) -> httpx.Response:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 40, "completion_tokens": 10, "total_tokens": 50}
    body = {"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(200, json={**body, "usage": usage}, headers=named)


def refusal(status: int = 429, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"error": {"message": "slow down"}}, headers=named)


@pytest.mark.parametrize("streamed", [False, True])
def test_five_hundred_runs_and_one_refusal_are_no_second_wave(streamed: bool) -> None:
    """Scenario 92. All are refused at once, for 10 s: nobody comes before, and then one, two, four."""

    async def scenario() -> None:
        busy, refused_at, arrivals = 0, list[float](), list[tuple[float, int]]()

        async def handle(request: httpx.Request) -> httpx.Response:
            nonlocal busy
            busy += 1
            arrivals.append((anyio.current_time(), busy))
            try:
                if not refused_at or anyio.current_time() == refused_at[0]:
                    refused_at.append(anyio.current_time())
                    return refusal(retry_after="10")
                await anyio.sleep(0.25)
                if streamed:
                    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}
                    content = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
                    return httpx.Response(200, text=content, headers={"content-type": "text/event-stream"})
                return answer("hi")
            finally:
                busy -= 1

        agent = Agent("helper", chat(handle), retry=Retry(attempts=3))
        heard: list[Any] = []
        listen: Any = heard.append if streamed else None
        async with System() as system:
            runs = [await system.start(agent, "Go", on_event=listen) for _ in range(500)]
            results = [await each.result() for each in runs]
        assert {result.output for result in results} == {"hi"}
        after = [(time, count) for time, count in arrivals if time > 0]
        assert len(after) == 500, "nobody is refused twice"
        start = min(time for time, _ in after)
        assert 10.0 <= start <= 12.5
        for quarter, most in enumerate((1, 2, 4, 8, 16)):
            begin = start + quarter * 0.25 - 1e-6
            assert sum(1 for time, _ in after if begin <= time < begin + 0.25) <= most
        assert start + 30 > anyio.current_time()
        if streamed:
            waited = [event for event in heard if isinstance(event, GateWaiting)]
            opened = [event for event in heard if isinstance(event, GateOpened)]
            assert len(waited) == len(opened) > 100
            assert {event.reason for event in waited} <= {"frozen", "ramp"}

    for backend in BACKENDS:
        run(scenario, backend=backend)


def test_five_hundred_runs_at_a_provider_that_takes_twenty_at_once() -> None:
    """It says nothing of it and refuses the others: none of the runs may fail of that, and refusals become rare."""

    async def scenario() -> None:
        busy, refusals = 0, list[float]()

        async def handle(request: httpx.Request) -> httpx.Response:
            nonlocal busy
            busy += 1
            try:
                if busy > 20:
                    await anyio.sleep(0.005)
                    refusals.append(anyio.current_time())
                    return refusal(retry_after="1")
                await anyio.sleep(0.2)
                return answer("hi")
            finally:
                busy -= 1

        agent = Agent("helper", chat(handle))
        async with System(sources=Sources(chance=random.Random(7).random)) as system:
            runs = [await system.start(agent, "Go") for _ in range(500)]
            results = [await each.result() for each in runs]
        assert {result.output for result in results} == {"hi"}
        later = [time for time in refusals if time > 0.5]
        assert len(later) <= 40
        assert anyio.current_time() < 14

    for backend in BACKENDS:
        run(scenario, backend=backend)


def test_a_pause_between_attempts_holds_nothing() -> None:
    """With room for one call, another run goes while the first one waits to try again."""

    async def scenario() -> None:
        asked: list[tuple[float, str]] = []

        async def handle(request: httpx.Request) -> httpx.Response:
            prompt = json.loads(request.content)["messages"][-1]["content"]
            asked.append((anyio.current_time(), prompt))
            return refusal(500) if len(asked) == 1 else answer()

        agent = Agent("helper", chat(handle), retry=Retry(base=8.0))
        async with System(gates={"openai": GateLimits(concurrency=1)}, sources=Sources(chance=lambda: 0.0)) as system:
            first = await system.start(agent, "one")
            second = await system.start(agent, "two")
            await second.result()
            assert anyio.current_time() == 0.0
            await first.result()
        assert asked == [(0.0, "one"), (0.0, "two"), (4.0, "one")]

    for backend in BACKENDS:
        run(scenario, backend=backend)


def test_a_run_that_waits_says_so_and_can_be_stopped() -> None:
    """It holds no place: who comes next is not held up."""

    async def scenario() -> None:
        async def handle(request: httpx.Request) -> httpx.Response:
            await anyio.sleep(10)
            return answer()

        agent = Agent("helper", chat(handle))
        heard: list[Any] = []
        async with System(gates={"http://acme/v1": GateLimits(concurrency=1)}) as system:
            first = await system.start(agent, "one")
            await anyio.sleep(1)
            second = await system.start(agent, "two", on_event=heard.append)
            third = await system.start(agent, "three", on_event=heard.append)
            await anyio.sleep(1)
            result = await second.stop(reason="enough")
            assert (result.status, anyio.current_time()) == ("stopped", 2.0)
            assert (await first.result()).status == (await third.result()).status == "completed"
        assert anyio.current_time() == 20.0
        waiting = [event for event in heard if isinstance(event, GateWaiting)]
        assert [(event.reason, event.delay, event.ahead) for event in waiting] == [
            ("concurrency", None, 0),
            ("concurrency", None, 1),
        ]
        (opened,) = [event for event in heard if isinstance(event, GateOpened)]
        assert (opened.run_id, opened.waited) == (third.id, 9.0)
        assert [event.provider for event in (*waiting, opened)] == ["openai"] * 3

    for backend in BACKENDS:
        run(scenario, backend=backend)


def test_a_run_is_stopped_at_every_step_of_its_wait() -> None:
    async def scenario(interruption: Any) -> None:
        async def handle(request: httpx.Request) -> httpx.Response:
            await anyio.sleep(1)
            return answer()

        provider = chat(handle)
        agent = Agent("helper", provider)
        async with System(gates={"openai": GateLimits(concurrency=1)}) as system:
            first = await system.start(agent, "one")
            second = await system.start(agent, "two")
            third = await system.start(agent, "three")
            interruption.arm(second.stop)
            for each in (first, third):
                assert (await each.result()).status == "completed"
            assert (await second.result()).status in ("completed", "stopped")
            assert shared_gates().of(provider.account).state.is_idle

    for backend in BACKENDS:
        assert interrupt_everywhere(scenario, backend=backend) > 10


@pytest.mark.anyio
async def test_a_stream_that_is_left_or_cut_leaves_the_gate() -> None:
    said, refused = events(delta(content="hi"), done=False), events({"error": {"code": "rate_limit_exceeded"}})
    async with serve(sse_answer([said], ending="stall"), sse_answer([said, refused])) as server:
        provider = OpenAIChat("m", base_url=server.url)
        state = shared_gates().of(provider.account).state
        async with provider.stream(REQUEST) as stream:
            assert state.inside == 1
            await anext(stream)
        assert state.is_idle
        with pytest.raises(RateLimited):
            async with provider.stream(REQUEST) as stream:
                async for _ in stream:
                    pass
        assert state.inside == 0
        assert provider.frozen_for > 0, "a refusal inside a stream is one, too"


def test_the_headers_of_answers_slow_the_next_calls_down() -> None:
    async def scenario() -> None:
        times: list[float] = []

        async def handle(request: httpx.Request) -> httpx.Response:
            times.append(anyio.current_time())
            return answer(
                x_ratelimit_limit_requests="60", x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="1m0s"
            )

        provider = chat(handle)
        async with anyio.create_task_group() as group:
            await provider.complete(REQUEST)
            for _ in range(3):
                group.start_soon(provider.complete, REQUEST)
        assert times == [0.0, pytest.approx(1.0), pytest.approx(2.0), pytest.approx(3.0)]

    for backend in BACKENDS:
        run(scenario, backend=backend)


def test_requests_and_tokens_in_a_minute() -> None:
    """The usage that is reported corrects what was expected: 50 tokens each, so four fit into 200."""

    async def scenario() -> None:
        times: list[float] = []

        async def handle(request: httpx.Request) -> httpx.Response:
            times.append(anyio.current_time())
            return answer()

        agent = Agent("helper", chat(handle))
        async with System(gates={"openai": GateLimits(tokens_per_minute=200)}):
            for _ in range(6):
                await agent.run("x")
        assert times == [0.0] * 4 + [60.0] * 2
        times.clear()
        began = anyio.current_time()
        async with System(gates={"openai": GateLimits(requests_per_minute=3)}):
            await agent.map(["x"] * 7)
        assert [time - began for time in times] == [0.0] * 3 + [60.0] * 3 + [120.0]
        await agent.map(["x"] * 7)
        assert anyio.current_time() == began + 120.0, "the limits went with their System"

    for backend in BACKENDS:
        run(scenario, backend=backend)


def test_runs_outside_a_system_share_a_gate_too() -> None:
    async def scenario() -> None:
        times: list[float] = []

        async def handle(request: httpx.Request) -> httpx.Response:
            times.append(anyio.current_time())
            return refusal(retry_after="5") if len(times) == 1 else answer()

        agent = Agent("helper", chat(handle), retry=Retry(attempts=1))
        with pytest.raises(RateLimited):
            await agent.run("x")
        await agent.run("x")
        assert times[0] == 0.0
        assert 5.0 <= times[1] <= 6.25

    for backend in BACKENDS:
        run(scenario, backend=backend)


def test_a_provider_that_never_answers_again_fails_its_runs_in_the_end() -> None:
    async def scenario() -> None:
        async def handle(request: httpx.Request) -> httpx.Response:
            return refusal(retry_after="60")

        agent = Agent("helper", chat(handle, timeouts=Timeouts(total=300.0)), retry=Retry(attempts=2))
        async with System() as system:
            runs = [await system.start(agent, "x") for _ in range(50)]
            for each in runs:
                with pytest.raises(RateLimited):
                    await each.result()
        assert anyio.current_time() < 1000

    for backend in BACKENDS:
        run(scenario, backend=backend)


@pytest.mark.parametrize("gates", [["openai"], {"openai": 5}, {1: GateLimits()}])
def test_gates_are_checked_when_a_system_is_made(gates: Any) -> None:
    with pytest.raises(TypeError, match="gates= takes"):
        System(gates=gates)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("opnai", "openai"),
        ("OpenAI", "openai"),
        ("antropic", "anthropic"),
        ("google", "gemini"),
        ("openai-responses", "openai"),
        ("openai:gpt-5-mini", "openai"),
        ("mistal", "mistral"),
        (" openai", "openai"),
    ],
)
def test_limits_under_a_mistyped_name_are_refused(name: str, meant: str) -> None:
    """Nobody would notice that they never apply."""
    with pytest.raises(ValueError, match=f"{name!r}.*{meant!r}|{meant!r}.*{name!r}"):
        System(gates={name: GateLimits(concurrency=1)})


@pytest.mark.parametrize("name", ["acme", "openai-eu", "openai2", "my-openai", "http://openai.example/v1", "local"])
def test_limits_under_a_name_of_ones_own_are_taken(name: str) -> None:
    System(gates={name: GateLimits(concurrency=1)})


@pytest.mark.parametrize("vendor", sorted({*VENDORS, *NATIVE}))
def test_every_vendor_has_a_name_that_limits_can_go_by(vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"vertex": {"project": "p", "signer": lambda _: {}}, "azure": {"base_url": "https://x.openai.azure.com"}}
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    System(gates={connect(f"{vendor}:m", **options.get(vendor, {})).name: GateLimits(concurrency=1)})


def test_usage_without_a_total_counts_its_parts() -> None:
    async def scenario() -> None:
        door = gate(GateLimits(tokens_per_minute=100))
        ticket = await entered(door)
        door.leave(ticket, Usage(input_tokens=90, output_tokens=9))
        assert door.state.blocked(anyio.current_time(), 2) == (60.0, "rate")

    run(scenario)
