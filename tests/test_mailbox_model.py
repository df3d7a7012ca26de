"""The lanes, and a mailbox in an event loop, against models of plain lists: whatever is done, both agree.

The lanes are driven step by step. The mailbox is driven by a program that hypothesis writes: a list of rounds, each of
which does a few things without yielding and then lets everybody run until all wait. What is promised is compared after
each round: the contents in order, who waits, who was sent away, what was dropped, and that nothing was lost or doubled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import anyio
import pytest
from anyio.abc import TaskGroup
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from greenroom.mailbox import OVERFLOWS, Envelope, Lanes, Mailbox, MailboxClosed, MailboxFull, Overflow
from greenroom.testing import run


class LanesMachine(RuleBasedStateMachine):
    """Senders, a receiver and the runtime at one mailbox, each step chosen by hypothesis."""

    @initialize(capacity=st.integers(1, 4))
    def make(self, capacity: int) -> None:
        """An empty mailbox, and an empty model of it."""
        self.lanes = Lanes(capacity)
        self.capacity = capacity
        self.data: list[int] = []
        self.control: list[int] = []
        self.waiting: list[str] = []
        self.admitted: list[str] = []
        self.count = 0
        self.taken: list[int] = []

    def _next(self) -> int:
        self.count += 1
        return self.count

    def _is_full(self) -> bool:
        return len(self.data) + len(self.admitted) >= self.capacity

    @precondition(lambda self: not self.lanes.closed)
    @rule()
    def send(self) -> None:
        """A sender offers a message and waits if it is declined."""
        message = self._next()
        expected = not self._is_full() and not self.waiting
        assert self.lanes.offer(Envelope(message)) is expected
        if expected:
            self.data.append(message)
        else:
            ticket = f"ticket {message}"
            self.lanes.wait(ticket)
            self.waiting.append(ticket)

    @precondition(lambda self: not self.lanes.closed)
    @rule()
    def signal(self) -> None:
        """The runtime sends a signal, which is always taken."""
        signal = self._next()
        self.lanes.signal(signal)
        self.control.append(signal)

    @rule()
    def receive(self) -> None:
        """The receiver takes the next thing and lets the oldest ticket in."""
        if self.lanes.control:
            assert self.lanes.control.popleft() == self.control.pop(0)
        elif self.lanes.data:
            message = self.lanes.data.popleft().message
            assert message == self.data.pop(0)
            self.taken.append(message)
            self._admit()

    def _admit(self) -> None:
        expected: Any = self.waiting[0] if self.waiting and not self._is_full() else None
        assert self.lanes.admit() == expected
        if expected is not None:
            self.admitted.append(self.waiting.pop(0))

    @rule()
    def park(self) -> None:
        """The receiver parks, with or without anything waiting."""
        self.lanes.rest()

    @precondition(lambda self: self.admitted)
    @rule(data=st.data())
    def redeem(self, data: st.DataObject) -> None:
        """An admitted sender wakes, in whatever order the loop wakes them, and uses its place unless it is closed."""
        self.admitted.remove(data.draw(st.sampled_from(self.admitted)))
        if self.lanes.closed:
            self.lanes.forgo()
            return
        message = self._next()
        self.lanes.redeem(Envelope(message))
        self.data.append(message)

    @precondition(lambda self: self.admitted)
    @rule(data=st.data())
    def cancel_admitted(self, data: st.DataObject) -> None:
        """An admitted sender is cancelled before it woke: its place goes to the next."""
        self.admitted.remove(data.draw(st.sampled_from(self.admitted)))
        self.lanes.forgo()
        self._admit()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel_waiting(self, data: st.DataObject) -> None:
        """A waiting sender gives up."""
        ticket = data.draw(st.sampled_from(self.waiting))
        self.lanes.withdraw(ticket)
        self.waiting.remove(ticket)

    @precondition(lambda self: self.count > 8)
    @rule()
    def close(self) -> None:
        """The actor ends; everybody who waits is woken and will find it closed."""
        undelivered, tickets = self.lanes.close()
        assert [envelope.message for envelope in undelivered] == self.data
        assert tickets == self.waiting
        self.admitted += self.waiting
        self.data, self.waiting = [], []

    @invariant()
    def both_agree(self) -> None:
        """Contents, queue, places and bound are those of the model."""
        assert [envelope.message for envelope in self.lanes.data] == self.data
        assert list(self.lanes.control or ()) == self.control
        assert list(self.lanes.tickets or ()) == self.waiting
        assert self.lanes.reserved == len(self.admitted)
        assert self.lanes.accepted >= len(self.taken) + len(self.data)
        assert len(self.data) <= self.capacity

    @invariant()
    def nobody_waits_beside_a_free_place(self) -> None:
        """Scenario 4: if there is room, no sender is left waiting."""
        assert not self.waiting or self._is_full()


TestLanesAgainstAModel = LanesMachine.TestCase
TestLanesAgainstAModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


# -- a mailbox in an event loop

Word = Literal["start a sender", "start a receiver", "send_nowait", "post", "signal", "receive", "cancel", "close"]
Way = Literal["by scope", "natively"]


class Act(NamedTuple):
    """One thing to do. What cannot be done when its turn comes is left out.

    Attributes:
        word: what. A sender or receiver that is to be cancelled at once is so before its first step.
        whom: of "cancel": which of those that wait, counted from the one that waits longest; the receiver is the last.
        way: of a cancellation.
    """

    word: Word
    whom: int = 0
    way: Way | None = None

    def __repr__(self) -> str:
        words = [self.word, *[str(self.whom)] * (self.word == "cancel"), *[self.way] * (self.way is not None)]
        return f"<{' '.join(map(str, words))}>"


class Program(NamedTuple):
    """What is done to one mailbox."""

    capacity: int
    overflow: Overflow
    seed: int
    rounds: list[tuple[Act, ...]]


class Task:
    """A sender or receiver that runs in a task of its own, or a posted message that waits for room without one.

    Attributes:
        outcome: ``sent``, ``full``, ``closed``, ``cancelled``, or what was received; None as long as it waits.
    """

    def __init__(self, message: int | None, *, posted: bool = False) -> None:
        self.message = message
        self.posted = posted
        self.outcome: Any = None
        self.is_cancelled = False
        self._scope = anyio.CancelScope()
        self._native: asyncio.Task[None] | None = None

    def start(self, group: TaskGroup, mailbox: Mailbox) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            group.start_soon(self._live, mailbox)
        else:
            self._native = asyncio.create_task(self._live(mailbox))
            self._native.add_done_callback(self._note)

    async def _live(self, mailbox: Mailbox) -> None:
        with self._scope:
            try:
                if self.message is None:
                    got = await mailbox.receive()
                    self.outcome = ("received", got.message if isinstance(got, Envelope) else got)
                else:
                    await mailbox.send(Envelope(self.message))
                    self.outcome = "sent"
            except MailboxFull:
                self.outcome = "full"
            except MailboxClosed:
                self.outcome = "closed"
        if self._scope.cancelled_caught:
            self.outcome = "cancelled"

    def _note(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self.outcome = "cancelled"

    def cancel(self, way: Way) -> None:
        """Cancel it; natively where there is such a thing."""
        self.is_cancelled = True
        if way == "natively" and self._native is not None:
            self._native.cancel()
        else:
            self._scope.cancel()

    def __repr__(self) -> str:
        return f"sender of {self.message}" if self.message is not None else "receiver"


class Model:
    """A mailbox as it should be.

    Attributes:
        data, control: what is in the lanes.
        waiting: who waits for room, in order.
        admitted: who has been given a place in this round, and has not run yet.
        receiver: who waits for something to receive.
        letters: what was not delivered, and why.
        out: the numbers of messages that have left it, received or returned by the close.
    """

    def __init__(self, capacity: int, overflow: Overflow) -> None:
        self.capacity = capacity
        self.overflow: Overflow = overflow
        self.data: list[int] = []
        self.control: list[int] = []
        self.waiting: list[Task] = []
        self.admitted: list[Task] = []
        self.receiver: Task | None = None
        self.letters: list[tuple[int, str]] = []
        self.out: list[int] = []
        self.accepted = self.dropped = 0
        self.closed = False

    @property
    def is_full(self) -> bool:
        """Whether there is no room for a newcomer."""
        return bool(self.waiting) or len(self.data) + len(self.admitted) >= self.capacity

    def put(self, message: int) -> None:
        """Take a message."""
        self.data.append(message)
        self.accepted += 1

    def drop_for(self, message: int) -> None:
        """What the two policies that drop do when it is full."""
        self.dropped += 1
        if self.overflow == "drop_oldest":
            self.letters.append((self.data.pop(0), "dropped"))
            self.put(message)
        else:
            self.letters.append((message, "dropped"))

    def offer(self, message: int) -> str:
        """What becomes of a message that comes now: ``sent``, ``full`` or ``closed``."""
        if self.closed:
            return "closed"
        if not self.is_full:
            self.put(message)
        elif self.overflow in ("wait", "fail"):
            return "full"
        else:
            self.drop_for(message)
        return "sent"

    def post(self, message: int) -> None:
        """The same for a message that nobody waits with."""
        if self.overflow == "wait" and not self.closed and self.is_full:
            self.waiting.append(Task(message, posted=True))
            return
        outcome = self.offer(message)
        if outcome != "sent":
            self.letters.append((message, "closed" if outcome == "closed" else "dropped"))
            self.dropped += outcome == "full"

    def take(self) -> int:
        """Receive what comes next, and give the place to whoever waits longest."""
        if self.control:
            return self.control.pop(0)
        message = self.data.pop(0)
        self.out.append(message)
        self.admit()
        return message

    def admit(self) -> None:
        """Give a free place away. A posted message is in it at once."""
        if self.waiting and len(self.data) + len(self.admitted) < self.capacity:
            first = self.waiting.pop(0)
            if first.posted:
                assert first.message is not None
                self.put(first.message)
            else:
                self.admitted.append(first)

    def close(self) -> list[int]:
        """End. Returns what was in it."""
        self.closed = True
        self.letters += [(task.message, "closed") for task in self.waiting if task.posted and task.message is not None]
        self.admitted += [task for task in self.waiting if not task.posted]
        self.waiting = []
        left, self.data = self.data, []
        self.out += left
        return left


class Performance:
    """A program in progress, on a mailbox and on the model."""

    def __init__(self, program: Program, group: TaskGroup) -> None:
        self.letters: list[tuple[int, str]] = []
        self.mailbox = Mailbox(program.capacity, overflow=program.overflow, undelivered=self._note)
        self.model = Model(program.capacity, program.overflow)
        self.group = group
        self.count = 0
        self.newcomer: Task | None = None
        self.tasks: list[Task] = []

    def _note(self, _mailbox: Mailbox, envelope: Envelope, reason: str) -> None:
        self.letters.append((envelope.message, reason))

    def _next(self) -> Envelope:
        self.count += 1
        return Envelope(self.count)

    async def play(self, acts: Sequence[Act]) -> None:
        """One round. Whoever is started ends it, so that it finds the mailbox as the model has it."""
        self.newcomer = None
        for act in acts:
            if act.word.startswith("start"):
                self.start(act)
                break
            await self.do(act)
        await anyio.sleep(1)
        self.settle()
        self.compare()

    def start(self, act: Act) -> None:
        """Start a sender, or a receiver if there is none."""
        if self.model.admitted or (self.model.receiver is not None and self.model.data):
            return  # others run in this round, and who comes first is up to the event loop
        task = Task(self._next().message if act.word == "start a sender" else None)
        if task.message is None:
            if self.model.receiver is not None:
                return
            self.model.receiver = task
        else:
            self.newcomer = task
        self.tasks.append(task)
        task.start(self.group, self.mailbox)
        if act.way is not None:
            task.cancel(act.way)

    async def do(self, act: Act) -> None:
        """Do something that does not yield, and compare what it says."""
        mailbox, model = self.mailbox, self.model
        match act.word:
            case "send_nowait":
                envelope = self._next()
                said = "sent"
                try:
                    mailbox.send_nowait(envelope)
                except MailboxFull:
                    said = "full"
                except MailboxClosed:
                    said = "closed"
                assert said == model.offer(envelope.message)
            case "post":
                envelope = self._next()
                mailbox.post(envelope)
                model.post(envelope.message)
            case "signal":
                signal = self._next().message
                mailbox.signal(signal)
                model.control += [signal] * (not model.closed)
            case "receive":
                if (model.receiver is None or model.receiver.is_cancelled) and (model.control or model.data):
                    got = await mailbox.receive()
                    assert (got.message if isinstance(got, Envelope) else got) == model.take()
            case "cancel":
                tasks = [task for task in (*model.admitted, *model.waiting) if not task.posted]
                tasks += [model.receiver] if model.receiver is not None else []
                if tasks:
                    tasks[act.whom % len(tasks)].cancel(act.way or "by scope")
            case _:
                assert [envelope.message for envelope in mailbox.close()] == model.close()

    # -- what the tasks have done

    def settle(self) -> None:
        """Have the model's tasks do what they can do. Where the order is the event loop's, the mailbox tells it."""
        model = self.model
        self.dismiss_the_cancelled()
        seen = [envelope.message for envelope in self.mailbox.lanes.data]
        receiver = model.receiver
        if receiver is not None and receiver.outcome is not None and not model.control and not model.data:
            # It waited for one of those that were let in in this round.
            first = [task for task in model.admitted if receiver.outcome == ("received", task.message)]
            self.redeem(first)
        self.let_receive()
        self.fill()
        self.redeem(sorted(model.admitted, key=lambda task: seen.index(task.message) if task.message in seen else -1))
        self.let_receive()
        self.fill()
        self.redeem(list(model.admitted))
        if self.newcomer is not None:
            self.arrive(self.newcomer)
            self.let_receive()

    def dismiss_the_cancelled(self) -> None:
        """A cancelled one has done nothing, or had done what it was to do. Which of both, only it knows."""
        model = self.model
        for tasks in (model.waiting, model.admitted):
            for task in list(tasks):
                assert task.posted or not task.is_cancelled or task.outcome is not None, f"{task} does not end"
                if task.outcome == "cancelled":
                    assert task.is_cancelled
                    tasks.remove(task)
        if model.receiver is not None and model.receiver.outcome == "cancelled":
            assert model.receiver.is_cancelled
            model.receiver = None

    def fill(self) -> None:
        """Nobody waits beside a free place."""
        model = self.model
        while model.waiting and len(model.data) + len(model.admitted) < model.capacity:
            model.admit()

    def redeem(self, tasks: list[Task]) -> None:
        """Have these use their places, in this order."""
        model = self.model
        for task in tasks:
            model.admitted.remove(task)
            assert task.outcome == ("closed" if model.closed else "sent"), task
            if not model.closed:
                assert task.message is not None
                model.put(task.message)

    def let_receive(self) -> None:
        """Have the receiver take what comes next."""
        model = self.model
        if model.receiver is not None and (model.control or model.data):
            assert model.receiver.outcome == ("received", model.take())
            model.receiver = None

    def arrive(self, task: Task) -> None:
        """Have the sender that was started in this round do what it can."""
        model = self.model
        assert task.message is not None
        if task.outcome == "cancelled":
            assert task.is_cancelled
            return
        expected = model.offer(task.message)
        if expected == "full" and model.overflow == "wait":
            assert (task.outcome, task.is_cancelled) == (None, False)
            model.waiting.append(task)
        else:
            assert task.outcome == expected

    # -- the comparison

    def compare(self) -> None:
        """Everybody waits: both are the same."""
        mailbox, model = self.mailbox, self.model
        seen = mailbox.statistics()
        assert [envelope.message for envelope in mailbox.lanes.data] == model.data
        assert list(mailbox.lanes.control or ()) == model.control
        assert self.letters == model.letters
        assert (seen.depth, seen.control, seen.closed) == (len(model.data), len(model.control), model.closed)
        assert (seen.accepted, seen.dropped) == (model.accepted, model.dropped)
        assert (seen.waiting_senders, mailbox.lanes.reserved) == (len(model.waiting), 0)
        assert all(task.outcome is None for task in model.waiting)
        assert model.receiver is None or model.receiver.outcome is None
        assert model.admitted == []
        assert seen.depth <= model.capacity
        driven_out = seen.dropped if model.overflow == "drop_oldest" else 0
        assert len(model.out) + len(model.data) + driven_out == model.accepted


async def perform(program: Program) -> None:
    """Play a program. A failure says after which round."""
    async with anyio.create_task_group() as group:
        performance = Performance(program, group)
        try:
            for number, acts in enumerate(program.rounds):
                try:
                    await performance.play(acts)
                except AssertionError as error:
                    error.add_note(f"in round {number}, {acts}, of {program}")
                    raise
        finally:
            for task in performance.tasks:
                task.cancel("by scope")
            await anyio.sleep(1)


ways = st.sampled_from(["by scope", "natively"])
cancels = st.builds(Act, st.just("cancel"), st.integers(0, 3), ways)
acts = st.one_of(
    st.sampled_from([Act("start a sender"), Act("receive"), Act("post")]),
    st.sampled_from([Act("start a sender"), Act("receive"), Act("send_nowait"), Act("signal")]),
    st.sampled_from([*[Act("start a sender")] * 3, Act("start a receiver"), Act("receive")]),
    st.builds(Act, st.sampled_from(["start a sender", "start a sender", "start a receiver"]), st.just(0), ways),
    cancels,
)
#: Several things at once; often somebody is let in, or handed something, and cancelled, in this order or the other.
rounds = st.one_of(
    acts.map(lambda act: (act,)),
    st.tuples(acts, acts, acts),
    st.tuples(st.just(Act("receive")), st.sampled_from([Act("send_nowait"), Act("post")])),
    st.sampled_from([(Act("start a receiver"),), (Act("post"),), (Act("receive"), Act("receive"))]),
    st.tuples(st.sampled_from([Act("receive"), Act("send_nowait"), Act("signal")]), cancels),
    st.tuples(cancels, st.sampled_from([Act("receive"), Act("send_nowait"), Act("signal")]), acts),
)
closes = st.one_of(
    st.just([]),
    st.tuples(
        st.lists(acts, max_size=2).map(lambda before: (*before, Act("close"))),
        st.lists(rounds, max_size=3),
    ).map(lambda both: [both[0], *both[1]]),
)


def write(
    capacity: int,
    overflow: Overflow,
    seed: int,
    crowd: int,
    body: list[tuple[Act, ...]],
    end: list[tuple[Act, ...]],
) -> Program:
    """A program that begins with so many senders more than there is room for."""
    senders = [(Act("start a sender"),)] * (capacity + crowd if crowd else 0)
    return Program(capacity, overflow, seed, [*senders, *body, *end])


programs = st.builds(
    write,
    st.integers(1, 4),
    st.sampled_from([*OVERFLOWS, "wait", "wait", "wait"]),
    st.integers(0, 1000),
    st.sampled_from([0, 0, 1, 2, 3]),
    st.integers(1, 30).flatmap(lambda length: st.lists(rounds, min_size=length, max_size=length)),
    closes,
)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@settings(max_examples=200, deadline=None)
@given(program=programs)
def test_a_mailbox_against_a_model(loop: str, program: Program) -> None:
    """Scenarios 1, 2, 5, 6, 10: more than 3,000 rounds on each backend, in orders that a seed gives."""
    run(partial(perform, program), backend=loop, seed=program.seed)
