"""Jobs, messages, events and budgets between runs: what every exchange must do, and more of those in one process.

The pure cores are compared step by step with models of plain lists. The skins play programs that hypothesis makes up,
and are interrupted at every step by a scope and by asyncio's own cancellation: nothing is lost, nothing is doubled.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from math import inf
from typing import Any, Literal, NamedTuple

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from greenroom.exchange import (
    Allowance,
    Delivery,
    MemoryDispatcher,
    MemoryQuota,
    MemoryWire,
    Missed,
    NobodyThere,
    Saturated,
    Stream,
)
from greenroom.exchange.jobs import Job, Jobs
from greenroom.exchange.meter import Meter
from greenroom.exchange.topics import Topic
from greenroom.testing import (
    DISPATCHER_CHECKS,
    QUOTA_CHECKS,
    WIRE_CHECKS,
    Interruption,
    explore,
    interrupt_everywhere,
    run,
)

BACKENDS = ("asyncio", "trio")


# -- what every exchange must do


def doors(factory: Callable[..., Any]) -> Callable[..., Any]:
    """Opens the same one every time."""
    made: list[Any] = []

    @asynccontextmanager
    async def make(*args: Any) -> AsyncIterator[Any]:
        if not made:
            made.append(factory(*args))
        yield made[0]

    return make


CHECKS = [
    *((check, MemoryDispatcher) for check in DISPATCHER_CHECKS),
    *((check, lambda capacity, kept: MemoryWire(capacity=capacity, kept=kept)) for check in WIRE_CHECKS),
    *((check, MemoryQuota) for check in QUOTA_CHECKS),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("check", "factory"), CHECKS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_exchange_in_memory_does_what_every_one_must(check: Any, factory: Any, backend: str) -> None:
    run(check, doors(factory), backend=backend)


@pytest.mark.parametrize(("check", "factory"), CHECKS, ids=lambda value: getattr(value, "__name__", ""))
def test_it_does_so_in_every_order(check: Any, factory: Any) -> None:
    explore(lambda: check(doors(factory)), seeds=5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MemoryDispatcher(0),
        lambda: MemoryWire(capacity=0),
        lambda: MemoryWire(kept=0),
        lambda: MemoryWire(left_age=0.0),
        lambda: Topic(0),
        lambda: MemoryQuota({"a": Allowance(0, 1.0)}),
        lambda: MemoryQuota({"a": Allowance(1, 0.0)}),
        lambda: MemoryQuota({"a": Allowance(1, inf)}),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="more"):
        make()


# -- the cores against lists


def kind_of(name: str) -> str:
    return "large" if name.isupper() else "small"


class JobsMachine(RuleBasedStateMachine):
    """Jobs of two kinds that are submitted, taken, given back and done."""

    @initialize(capacity=st.integers(1, 4))
    def make(self, capacity: int) -> None:
        self.jobs = Jobs(capacity)
        self.capacity = capacity
        self.now = 0.0
        # Not done, as they came: [id, bytes, attempt, to be had from, or None while in hand]. Capitals are a kind.
        self.model: list[list[Any]] = []
        self.hands: list[tuple[Job, int]] = []
        self.former: list[tuple[Job, int]] = []

    @rule(name=st.sampled_from("abcDEF"), data=st.binary(max_size=2))
    def submit(self, name: str, data: bytes) -> None:
        known = any(each[0] == name for each in self.model)
        expected = known or len(self.model) < self.capacity
        assert self.jobs.add(name, data, kind_of(name)) is expected
        if expected and not known:
            self.model.append([name, data, 0, self.now])

    @rule(kinds=st.sampled_from([("small",), ("small", "large"), ("large", "unknown"), ("unknown",)]))
    def take(self, kinds: tuple[str, ...]) -> None:
        mine = [each for each in self.model if kind_of(each[0]) in kinds]
        ready = [each for each in mine if each[3] is not None and each[3] <= self.now]
        assert (self.jobs.next_at(kinds) <= self.now) is bool(ready)
        job = self.jobs.take(self.now, kinds)
        if not ready:
            assert job is None
            return
        assert job is not None
        ready[0][2:] = [ready[0][2] + 1, None]
        assert [job.run_id, job.data, job.attempt] == ready[0][:3]
        self.hands.append((job, job.attempt))

    @precondition(lambda self: self.hands)
    @rule(data=st.data(), delay=st.sampled_from([None, 0.0, 0.0, 1.0, 2.5]))
    def settle(self, data: st.DataObject, delay: float | None) -> None:
        hand = data.draw(st.sampled_from(self.hands))
        self.hands.remove(hand)
        self.former.append(hand)
        (entry,) = [each for each in self.model if each[0] == hand[0].run_id]
        if delay is None:
            self.model.remove(entry)
        else:
            entry[3] = self.now + delay
        assert self.jobs.settle(*hand, None if delay is None else self.now + delay)

    @precondition(lambda self: self.former)
    @rule(data=st.data(), back_at=st.sampled_from([None, 0.0]))
    def settle_late(self, data: st.DataObject, back_at: float | None) -> None:
        assert not self.jobs.settle(*data.draw(st.sampled_from(self.former)), back_at)

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def both_agree(self) -> None:
        assert len(self.jobs) == len(self.model) <= self.capacity
        for kinds in (("small",), ("large",), ("large", "small")):
            moments = [each[3] for each in self.model if each[3] is not None and kind_of(each[0]) in kinds]
            at = self.jobs.next_at(kinds)
            assert at == min(moments, default=inf) or (at == -inf and min(moments) <= self.now)
        assert len(self.jobs._kinds) <= 2


class TopicMachine(RuleBasedStateMachine):
    """Events that are emitted, and looked at by their numbers."""

    @initialize(kept=st.integers(1, 5))
    def make(self, kept: int) -> None:
        self.topic = Topic(kept)
        self.kept = kept
        self.model: list[bytes] = []

    @rule(event=st.binary(max_size=2))
    def emit(self, event: bytes) -> None:
        self.model.append(event)
        assert self.topic.add(event) == len(self.model)

    @invariant()
    def both_agree(self) -> None:
        first = max(1, len(self.model) - self.kept + 1)
        assert (self.topic.first, self.topic.last) == (first, len(self.model))
        kept = range(first, len(self.model) + 1)
        assert [self.topic[number] for number in kept] == self.model[first - 1 :]
        for number in (first - 1, len(self.model) + 1):
            with pytest.raises(IndexError):
                self.topic[number]


class MeterMachine(RuleBasedStateMachine):
    """Units that are taken as time goes by."""

    @initialize(units=st.integers(1, 6), period=st.sampled_from([0.1, 0.3, 1.0, 7.0]))
    def make(self, units: int, period: float) -> None:
        self.meter = Meter(Allowance(units, period))
        self.units, self.period = units, period
        self.now = 0.0
        self.taken: list[tuple[float, int]] = []

    def used(self, at: float) -> int:
        return sum(amount for moment, amount in self.taken if moment + self.period > at)

    @rule(data=st.data(), wait=st.booleans())
    def take(self, data: st.DataObject, wait: bool) -> None:
        amount = data.draw(st.integers(1, self.units))
        moments = [self.now, *(moment + self.period for moment, _ in self.taken if moment + self.period > self.now)]
        expected = min(at for at in moments if self.used(at) + amount <= self.units)
        assert self.meter.free_at(self.now, amount) == expected
        if wait or expected == self.now:
            self.now = expected
            assert self.meter.free_at(self.now, amount) == self.now  # who waits until then need not wait again
            self.meter.charge(self.now, amount)
            self.taken.append((self.now, amount))

    @rule(seconds=st.floats(0.01, 2.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def no_period_sees_more(self) -> None:
        assert all(self.used(moment) <= self.units for moment, _ in self.taken[-1:])


TestJobs = JobsMachine.TestCase
TestTopic = TopicMachine.TestCase
TestMeter = MeterMachine.TestCase
for case in (TestJobs, TestTopic, TestMeter):
    case.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


# -- tasks that are cancelled

Way = Literal["by scope", "natively"]


class Worker:
    """A task that can be cancelled in either way; natively where there is such a thing."""

    def __init__(self, group: Any, play: Callable[[], Any]) -> None:
        self._play = play
        self.scope = anyio.CancelScope()
        self.native: asyncio.Task[None] | None = None
        self.ended = False
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            group.start_soon(self._live)
        else:
            self.native = asyncio.create_task(self._live())
            self.native.add_done_callback(self._note)

    async def _live(self) -> None:
        try:
            with self.scope:
                await self._play()
        finally:
            self.ended = True

    def _note(self, task: asyncio.Task[None]) -> None:
        self.ended = True  # also of one that was cancelled before its first step
        if not task.cancelled():
            task.result()

    def cancel(self, way: Way) -> None:
        if way == "natively" and self.native is not None:
            self.native.cancel()
        else:
            self.scope.cancel()

    def cancel_twice(self) -> None:
        assert self.native is not None
        self.native.cancel()
        asyncio.get_running_loop().call_soon(self.native.cancel)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it is so, by the clock."""
    with anyio.fail_after(1_000):
        while not holds():
            await anyio.sleep(0.1)


def cancellations(worker: Worker, way: str) -> Callable[[], object]:
    return {
        "by scope": worker.scope.cancel,
        "natively": partial(worker.cancel, "natively"),
        "twice": worker.cancel_twice,
    }[way]


WAYS = [("asyncio", "by scope"), ("asyncio", "natively"), ("asyncio", "twice"), ("trio", "by scope")]
everywhere = pytest.mark.parametrize(("backend", "way"), WAYS)


@everywhere
def test_a_taker_is_cancelled_at_every_step(backend: str, way: str) -> None:
    """Scenario: a taker with a room of two works through jobs that come now and later. All jobs are done once by it or
    by its successor, and the room is free again."""

    async def scenario(interruption: Interruption) -> None:
        dispatcher = MemoryDispatcher(10)
        room = anyio.CapacityLimiter(2)
        done: list[str] = []
        attempts: dict[str, list[int]] = {}

        async def work(delivery: Delivery) -> None:
            with delivery:
                attempts.setdefault(delivery.run_id, []).append(delivery.attempt)
                await anyio.sleep(0.5)
                if delivery.run_id == "b" and delivery.attempt == 1:
                    delivery.release(1.0)
                    return
                delivery.done()
                done.append(delivery.run_id)

        async def take() -> None:
            async with dispatcher.deliveries(room) as deliveries, anyio.create_task_group() as hands:
                async for delivery in deliveries:
                    hands.start_soon(work, delivery)

        async def finished() -> None:
            while len(dispatcher):
                await anyio.sleep(0.25)

        async with anyio.create_task_group() as group:
            first = Worker(group, take)
            interruption.arm(cancellations(first, way))
            for name in "abcd":
                await dispatcher.submit(name, name.encode())
                await checkpoint()
            await anyio.sleep(0.7)
            await dispatcher.submit("e", b"e")
            await anyio.sleep(3)
            if not interruption.fired:
                await finished()
                first.scope.cancel()
            await until(lambda: first.ended)
            assert room.borrowed_tokens == 0
            second = Worker(group, take)
            await finished()
            second.scope.cancel()
        assert sorted(done) == list("abcde")
        assert room.borrowed_tokens == 0
        for seen in attempts.values():
            assert seen == sorted(set(seen))

    assert interrupt_everywhere(scenario, backend=backend) > 20


@everywhere
def test_a_submitter_is_cancelled_at_every_step(backend: str, way: str) -> None:
    """Scenario: one that submits for ever is cancelled. What it knows to be submitted is there, and nothing else."""

    async def scenario(interruption: Interruption) -> None:
        dispatcher = MemoryDispatcher(1_000)
        sent: list[str] = []

        async def submit() -> None:
            for number in range(200):
                await dispatcher.submit(f"{number}", b"")
                sent.append(f"{number}")

        async with anyio.create_task_group() as group:
            worker = Worker(group, submit)
            interruption.arm(cancellations(worker, way))
            while not worker.ended:
                await checkpoint()
        assert len(dispatcher) == len(sent)
        assert interruption.fired or len(sent) == 200

    interrupt_everywhere(scenario, backend=backend)


@everywhere
@pytest.mark.parametrize("who", ["sender", "receiver"])
def test_a_message_is_interrupted_at_every_step(backend: str, way: str, who: str) -> None:
    """Scenario: two senders and a receiver with small hands, of which one is cancelled. What a sender was told to be
    sent is received in order, once, and what it was not told is not."""

    async def scenario(interruption: Interruption) -> None:
        wire = MemoryWire(capacity=2)
        sent: dict[str, list[bytes]] = {"a": [], "b": []}
        got: list[bytes] = []
        ready = anyio.Event()

        async def send(name: str) -> None:
            await until(lambda: ready.is_set() or receiver.ended)
            try:
                for number in range(6):
                    message = f"{name}{number}".encode()
                    await wire.send("there", message)
                    sent[name].append(message)
            except NobodyThere:
                pass

        async def receive() -> None:
            block = wire.receive("there")
            try:
                async with block as messages:
                    ready.set()
                    async for message in messages:
                        got.append(message)
                        await checkpoint()
            finally:
                with anyio.CancelScope(shield=True):
                    got.extend([message async for message in block])  # type: ignore[attr-defined]
                ready.set()

        async with anyio.create_task_group() as group:
            receiver = Worker(group, receive)
            senders = [Worker(group, partial(send, name)) for name in "ab"]
            interruption.arm(cancellations(receiver if who == "receiver" else senders[0], way))
            await until(lambda: all(sender.ended for sender in senders))
            receiver.scope.cancel()
            await until(lambda: receiver.ended)
        for name in "ab":
            assert [message for message in got if message.startswith(name.encode())] == sent[name]
        with pytest.raises(NobodyThere):
            await wire.send("there", b"")

    if way != "twice" or who == "sender":  # a second cancellation may hit the look at what is left
        assert interrupt_everywhere(scenario, backend=backend) > 10


@everywhere
def test_a_follower_is_cancelled_at_every_step(backend: str, way: str) -> None:
    """Scenario: a slow follower is cancelled and goes on with the same iterator. Every number comes once, as an event
    or as missed."""

    async def scenario(interruption: Interruption) -> None:
        wire = MemoryWire(kept=3)
        follower = wire.follow("topic")
        seen: list[int] = []

        async def follow() -> None:
            while True:
                try:
                    async for number, _ in follower:
                        seen.append(number)
                        await checkpoint()
                    return
                except Missed as missed:
                    seen.extend(range(missed.first, missed.last + 1))

        async with anyio.create_task_group() as group:
            worker = Worker(group, follow)
            interruption.arm(cancellations(worker, way))
            for burst in (1, 2, 5, 1, 4):
                for _ in range(burst):
                    wire.emit("topic", b"")
                await checkpoint()
            wire.end("topic")
            await until(lambda: worker.ended)
            await follow()
        assert seen == list(range(1, 14))

    assert interrupt_everywhere(scenario, backend=backend) > 10


@everywhere
@pytest.mark.parametrize("victim", range(3))
def test_a_quota_is_interrupted_at_every_step(backend: str, way: str, victim: int) -> None:
    """Scenario: three wait for units and one of them is cancelled. Those behind move up, and no unit is lost."""

    async def scenario(interruption: Interruption) -> None:
        quota = MemoryQuota({"a": Allowance(4, 10.0)})
        await quota.take("a", 3)
        got: list[tuple[int, float]] = []

        async def take(number: int, amount: int) -> None:
            await anyio.sleep(number / 10)  # one after the other
            await quota.take("a", amount)
            got.append((number, anyio.current_time()))

        async with anyio.create_task_group() as group:
            takers = [Worker(group, partial(take, number, amount)) for number, amount in enumerate((2, 3, 1))]
            interruption.arm(cancellations(takers[victim], way))
            await until(lambda: all(taker.ended for taker in takers))
        numbers = [number for number, _ in got]
        assert numbers == sorted(numbers)
        assert {0, 1, 2} - set(numbers) <= ({victim} if interruption.fired else set())
        moments = {number: moment for number, moment in got if number != victim}
        if victim not in numbers:
            assert moments == {1: 10.0, 2: 10.0} if victim == 0 else {0: 10.0, **moments}
        await anyio.sleep(30)
        with anyio.fail_after(1):
            await quota.take("a", 4)

    assert interrupt_everywhere(scenario, backend=backend) > 5


# -- programs that hypothesis makes up


class Act(NamedTuple):
    """One thing that is done to a dispatcher."""

    word: Literal["submit", "start", "cancel", "close", "done", "release", "wait"]
    which: int = 0
    way: Way = "by scope"
    delay: float = 0.0


ACTS = st.builds(
    Act,
    st.sampled_from(
        ["submit", "submit", "submit", "start", "start", "cancel", "close", "done", "done", "release", "forget", "wait"]
    ),
    st.integers(0, 5),
    st.sampled_from(["by scope", "natively"]),
    st.sampled_from([0.0, 0.0, 1.5, 3.0]),
)


class Taker:
    """An iterator with a room, and at most one task that waits at it."""

    def __init__(self, dispatcher: MemoryDispatcher, room: anyio.CapacityLimiter) -> None:
        self.room = room
        self.stream: Stream[Delivery] = dispatcher.deliveries(room)
        self.worker: Worker | None = None
        self.hands: list[Delivery] = []
        self.closed = False

    async def take(self) -> None:
        async for delivery in self.stream:
            self.hands.append(delivery)


class Play:
    """A program in progress, with a list of jobs that are not done as its model."""

    def __init__(self, capacity: int, group: Any) -> None:
        self.dispatcher = MemoryDispatcher(capacity)
        self.capacity = capacity
        self.group = group
        self.takers = [Taker(self.dispatcher, anyio.CapacityLimiter(size)) for size in (1, 2)]
        self.model: dict[str, list[float]] = {}  # deliveries so far, and from when on it may be had
        self.given: list[Delivery] = []

    async def act(self, act: Act) -> None:
        taker = self.takers[act.which % len(self.takers)]
        match act.word:
            case "submit":
                name = "abcdef"[act.which]
                full = name not in self.model and len(self.model) >= self.capacity
                try:
                    await self.dispatcher.submit(name, name.encode())
                    assert not full
                    self.model.setdefault(name, [0, 0.0])
                except Saturated:
                    assert full
            case "start" if not taker.closed and (taker.worker is None or taker.worker.ended):
                taker.worker = Worker(self.group, taker.take)
            case "cancel" if taker.worker is not None:
                taker.worker.cancel(act.way)
            case "close":
                await taker.stream.aclose()
                for delivery in taker.hands:
                    self.model[delivery.run_id][1] = anyio.current_time()
                taker.hands.clear()
                self.takers[act.which % len(self.takers)] = Taker(self.dispatcher, taker.room)
            case "done" if taker.hands:
                delivery = taker.hands.pop(act.which % len(taker.hands))
                delivery.done()
                del self.model[delivery.run_id]
            case "release" if taker.hands:
                delivery = taker.hands.pop(act.which % len(taker.hands))
                delivery.release(act.delay)
                self.model[delivery.run_id][1] = anyio.current_time() + act.delay
            case "wait":
                await anyio.sleep(act.delay)
            case _:
                pass

    def compare(self) -> None:
        """Everybody waits."""
        now = anyio.current_time()
        assert len(self.dispatcher) == len(self.model)
        in_hand = [delivery.run_id for taker in self.takers for delivery in taker.hands]
        assert len(in_hand) == len(set(in_hand))
        for taker in self.takers:
            for delivery in taker.hands:
                entry = self.model[delivery.run_id]
                if delivery not in self.given:
                    self.given.append(delivery)
                    assert entry[1] <= now
                    assert delivery.attempt > entry[0]
                    entry[0] = delivery.attempt
            assert taker.room.borrowed_tokens == len(taker.hands)
            waits = taker.worker is not None and not taker.worker.ended
            if waits and taker.room.available_tokens:
                assert [name for name, (_, at) in self.model.items() if at <= now and name not in in_hand] == []


async def play(capacity: int, program: list[list[Act]]) -> None:
    async with anyio.create_task_group() as group:
        this = Play(capacity, group)
        for acts in program:
            for act in acts:
                await this.act(act)
            await anyio.sleep(0.25)
            this.given = [each for each in this.given if any(each in taker.hands for taker in this.takers)]
            this.compare()
        for taker in this.takers:
            await taker.stream.aclose()
            taker.hands.clear()
        await anyio.sleep(5)
        async with this.dispatcher.deliveries(capacity) as deliveries:
            left = [await anext(deliveries) for _ in this.model]
            assert [each.run_id for each in left] == list(this.model)
            for each in left:
                each.done()
        assert len(this.dispatcher) == 0


@settings(max_examples=150, deadline=None)
@given(
    capacity=st.integers(1, 4),
    program=st.lists(st.lists(ACTS, min_size=1, max_size=4), max_size=15),
    backend=st.sampled_from(BACKENDS),
    seed=st.integers(0, 1_000),
)
def test_takers_lose_and_double_nothing(capacity: int, program: list[list[Act]], backend: str, seed: int) -> None:
    """Scenario: takers come, are cancelled and leave while jobs are submitted, given back and done."""
    run(play, capacity, program, backend=backend, seed=seed)


class Take(NamedTuple):
    """Somebody who wants units, and when; and when they are cancelled, if they are."""

    at: float
    amount: int
    cancelled_at: float | None
    way: Way


TAKES = st.builds(
    Take,
    st.integers(0, 40).map(lambda number: number / 8),
    st.integers(1, 4),
    st.none() | st.integers(0, 80).map(lambda number: number / 8 + 1 / 16),
    st.sampled_from(["by scope", "natively"]),
)


def expected_moments(takes: list[Take], units: int, period: float) -> list[float | None]:
    """When each of them gets its units: the first in line as soon as there are enough."""
    taken: list[tuple[float, int]] = []
    moments: list[float | None] = []
    free_from = 0.0
    for take in takes:
        at = max(take.at, free_from)
        while sum(amount for moment, amount in taken if moment + period > at) + take.amount > units:
            at = min(moment + period for moment, _ in taken if moment + period > at)
        if take.cancelled_at is not None and max(take.at, take.cancelled_at) < at:
            moments.append(None)
            # It held up those behind until it left.
            free_from = max(free_from, take.cancelled_at)
            continue
        free_from = at
        taken.append((at, take.amount))
        moments.append(at)
    return moments


@settings(max_examples=150, deadline=None)
@given(takes=st.lists(TAKES, max_size=10), backend=st.sampled_from(BACKENDS))
def test_a_quota_is_what_a_list_says(takes: list[Take], backend: str) -> None:
    """Scenario: many want units of one budget, and some are cancelled while they wait."""
    units, period = 4, 2.0
    takes = sorted(takes, key=lambda take: take.at)
    for number, each in enumerate(takes):  # two things never happen at the same moment
        at = None if each.cancelled_at is None or each.cancelled_at < each.at else each.cancelled_at + number / 500
        takes[number] = each._replace(cancelled_at=at)

    async def scenario() -> None:
        quota = MemoryQuota({"a": Allowance(units, period)})
        got: list[float | None] = [None] * len(takes)

        async def take(number: int) -> None:
            await quota.take("a", takes[number].amount)
            got[number] = anyio.current_time()

        async def cancel(worker: Worker, at: float, way: Way) -> None:
            await anyio.sleep_until(at)
            worker.cancel(way)

        async with anyio.create_task_group() as group:
            workers: list[Worker] = []
            for number, each in enumerate(takes):
                await anyio.sleep_until(each.at)
                workers.append(Worker(group, partial(take, number)))
                await anyio.sleep_until(each.at + 1e-6 * number)  # it stands in line before the next one comes
                if each.cancelled_at is not None:
                    group.start_soon(cancel, workers[-1], each.cancelled_at, each.way)
            await until(lambda: all(worker.ended for worker in workers))
        expected = expected_moments(takes, units, period)
        for mine, theirs in zip(got, expected, strict=True):
            assert (mine is None) == (theirs is None)
            assert mine is None or theirs is None or abs(mine - theirs) < 1e-3

    run(scenario, backend=backend)


# -- details of those in memory


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_taker_that_waits_for_a_job_takes_no_room(backend: str) -> None:
    """Scenario: a process shares its room between jobs and its own work."""

    async def scenario() -> None:
        dispatcher = MemoryDispatcher()
        room = anyio.CapacityLimiter(1)
        async with dispatcher.deliveries(room) as deliveries, anyio.create_task_group() as group:
            group.start_soon(anext, deliveries)
            await anyio.sleep(1)
            room.acquire_on_behalf_of_nowait("own work")
            await dispatcher.submit("a", b"")
            await anyio.sleep(1)
            assert len(dispatcher) == 1
            room.release_on_behalf_of("own work")

    run(scenario, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_topic_that_is_over_is_forgotten_later(backend: str) -> None:
    """Scenario: a process runs for a year, and so do runs that say nothing for a week."""

    async def scenario() -> None:
        wire = MemoryWire(age=900)
        wire.emit("quiet", b"")
        for number in range(100):
            assert wire.emit(f"{number}", b"event") == 1
            wire.end(f"{number}")
            await anyio.sleep(100)
        assert len(wire._strong) <= 11
        await anyio.sleep(7 * 86_400)
        wire.emit("last", b"")
        wire.end("last")
        assert set(wire._strong) == {"quiet", "last"}
        assert len(wire._over) == 1
        assert wire.emit("quiet", b"") == 2
        assert wire.emit("0", b"") == 1

    run(scenario, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_topic_that_was_opened_again_is_not_forgotten(backend: str) -> None:
    """Scenario: a run is over, goes on, is over again; it is forgotten once, counted from the last end."""

    async def scenario() -> None:
        wire = MemoryWire(age=900)
        for number in range(1, 4):
            assert wire.emit("a", b"") == number
            wire.end("a")
            await anyio.sleep(500)
        wire.end("other")
        assert wire.emit("a", b"") == 4
        await anyio.sleep(5_000)
        wire.end("other")
        assert wire.emit("a", b"") == 5
        wire.end("a")
        wire.end("a")
        follower = wire.follow("a")
        await anyio.sleep(5_000)
        wire.end("other")
        assert wire.emit("a", b"") == 6  # somebody follows it
        wire.end("a")
        assert [number async for number, _ in follower] == [1, 2, 3, 4, 5, 6]

    run(scenario, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_topics_that_nobody_emits_to_cost_nothing(backend: str) -> None:
    """Scenario: somebody asks for runs that never were."""

    async def scenario() -> None:
        wire = MemoryWire()
        for number in range(100):
            async with wire.follow(f"{number}"):
                pass
        gc.collect()
        assert not wire._topics
        assert not wire._strong

    run(scenario, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_nobody_comes_for_is_forgotten_later(backend: str) -> None:
    """Scenario: stops are left for runs that are over, for years; one that is in hand meanwhile is not given twice."""

    async def scenario() -> None:
        wire = MemoryWire(left_age=100)
        for number in range(50):
            await wire.leave(f"{number}", b"stop")
            await anyio.sleep(10)
        assert len(wire._inboxes) == 10
        async with wire.receive("new") as messages:
            for message in (b"1", b"2"):
                await wire.leave("new", message)
            assert await anext(messages) == b"1"
            await anyio.sleep(99)
            await wire.leave("new", b"3")
            await anyio.sleep(10)
            assert await anext(messages) == b"3"
        assert len(wire._inboxes) == 0

    run(scenario, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_task_receives_at_an_address(backend: str) -> None:
    """Scenario: two tasks wait at one iterator. The second is told; otherwise one of them would wait for ever."""

    async def scenario() -> None:
        wire = MemoryWire()
        block = wire.receive("a")
        async with block as messages, anyio.create_task_group() as group:
            group.start_soon(anext, messages)
            await anyio.sleep(1)
            with pytest.raises(anyio.BusyResourceError):
                await anext(messages)
            await wire.send("a", b"")
        with pytest.raises(RuntimeError, match="receive"):
            await block.__aenter__()

    run(scenario, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_leaving_the_block_ends_who_waits_in_it(backend: str) -> None:
    """Scenario: the block is left while another task waits at its iterator."""

    async def scenario() -> None:
        wire = MemoryWire()
        got: list[bytes] = []

        async def read(messages: Any) -> None:
            got.extend([message async for message in messages])

        async with anyio.create_task_group() as group, wire.receive("a") as messages:
            group.start_soon(read, messages)
            await anyio.sleep(1)
            await wire.send("a", b"last")
        assert got == [b"last"]

    run(scenario, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_readers_let_others_run(backend: str) -> None:
    """Scenario: one that is never at its end still hears a cancellation."""

    async def scenario() -> None:
        wire, dispatcher, quota = MemoryWire(), MemoryDispatcher(), MemoryQuota({})

        async def echo() -> None:
            wire.emit("a", b"")
            async for _ in wire.follow("a"):
                wire.emit("a", b"")

        async def letters() -> None:
            async with wire.receive("a") as messages:
                await wire.send("a", b"")
                async for _ in messages:
                    await wire.send("a", b"")

        async def jobs() -> None:
            await dispatcher.submit("a", b"")
            async for delivery in dispatcher.deliveries(1):
                delivery.release()

        async def submit() -> None:
            while True:
                await dispatcher.submit("b", b"")

        async def units() -> None:
            while True:
                await quota.take("a")

        for endless in (echo, letters, jobs, submit, units):
            async with anyio.create_task_group() as group:
                group.start_soon(endless)
                for _ in range(10):
                    await checkpoint()
                group.cancel_scope.cancel()

    run(scenario, backend=backend)


def test_errors_say_what_to_do() -> None:
    assert str(Saturated("r", 5)) == "run 'r' was not taken: 5 jobs are not done yet; submit it again later"
    assert "learn what happened from the journal" in str(Missed("t", 1, 2))
    assert "nobody receives at 'a'" in str(NobodyThere("a"))
    assert repr(Missed("t", 1, 2).first) == "1"
