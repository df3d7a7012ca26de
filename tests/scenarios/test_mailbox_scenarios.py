"""Scenarios 1 to 14: mailboxes under every order of their senders and receivers, and disturbed at every step.

A scenario with several forms takes every second seed for each; those with great numbers take few, and say so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from inspect import isawaitable
from typing import Any

import anyio
import pytest
from anyio import create_task_group
from anyio.lowlevel import checkpoint

from greenroom import Agent, System
from greenroom.actors import (
    Actor,
    ActorDied,
    ActorEnded,
    ActorRef,
    ActorStopped,
    ActorSystem,
    AskTimeout,
    Backoff,
    ChildSpec,
    Context,
    DeadLetter,
    Down,
    LinkDown,
    Supervisor,
)
from greenroom.agents.events import TERMINAL
from greenroom.mailbox import (
    OVERFLOWS,
    Budget,
    Envelope,
    Mailbox,
    MailboxClosed,
    MailboxFull,
    MailboxStatistics,
    Overflow,
    current_budget,
)
from greenroom.providers import ModelReply, ModelRequest, Provider, Scripted
from greenroom.testing import Interruption, explore, interrupt_everywhere

from ..cast import Boom, Player, child, kind
from .cast import TICK, Gate, Victim, Way, each_cancellation, letters, player, rest

each_backend = pytest.mark.parametrize("loop", ["asyncio", "trio"])


def waiting_in(mailbox: Mailbox) -> list[Any]:
    """The messages in the data lane, oldest first."""
    return [envelope.message for envelope in mailbox.lanes.data]


async def take_all(mailbox: Mailbox) -> list[Any]:
    """Receive as long as there is something, letting those that waited for room send theirs."""
    taken: list[Any] = []
    while mailbox.statistics().depth or mailbox.statistics().waiting_senders:
        taken.append((await mailbox.receive()).message)
        await rest()
    return taken


async def outcome_of(function: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
    """What it returns, or the exception that it raises."""
    try:
        return await function(*args, **options)
    except Exception as error:
        return error


# -- 1 to 4: bound, overflow, order


def test_01_the_bound_holds(seeds: range) -> None:
    """Scenario 1: of N+1 senders N return and one waits; one receive admits it, and nobody else; never more than N."""

    async def scenario() -> None:
        mailbox = Mailbox(3)
        came: list[int] = []
        sent: list[int] = []
        depths: list[int] = []

        async def send(n: int) -> None:
            came.append(n)
            await mailbox.send(Envelope(n))
            depths.append(mailbox.statistics().depth)
            sent.append(n)

        async with create_task_group() as group:
            for n in range(4):
                group.start_soon(send, n)
            await rest()
            before = mailbox.statistics()
            assert (sent, before.depth, before.waiting_senders) == (came[:3], 3, 1)
            assert (await mailbox.receive()).message == came[0]
            with pytest.raises(MailboxFull):
                mailbox.send_nowait(Envelope("thief"))  # the place is the waiting one's
            await rest()
            after = mailbox.statistics()
            assert (sent, after.depth, after.waiting_senders) == (came, 3, 0)
        assert waiting_in(mailbox) == came[1:]
        assert depths == [1, 2, 3, 3]

    explore(scenario, seeds=seeds)


FULL = ("it", 2)
#: For each policy: how each message ended before room was made, and in the end; what was handled; what was dropped.
VISIBLE: dict[Overflow, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "wait": ({"4": FULL}, {"2": "2", "3": "sent", "4": FULL, "5": "5"}, "12356", ""),
    "fail": ({"3": FULL, "4": FULL, "5": FULL}, {"2": "2", "3": FULL, "4": FULL, "5": FULL}, "12", "6"),
    "drop_newest": (
        {"3": "sent", "4": "sent", "5": FULL},
        {"2": "2", "3": "sent", "4": "sent", "5": FULL},
        "12",
        "3456",
    ),
    "drop_oldest": (
        {"2": FULL, "3": "sent", "4": "sent"},
        {"2": FULL, "3": "sent", "4": "sent", "5": "5"},
        "56",
        "1234",
    ),
}


@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_02_overflow_policies_differ_visibly(overflow: Overflow, seeds: range) -> None:
    """Scenario 2: told, told without waiting, asked or sent later; what is dropped is counted, and a dead letter."""
    at_first, at_last, handled, dropped = VISIBLE[overflow]

    async def scenario() -> None:
        gate = Gate()
        ends: dict[str, Any] = {}

        async def send(message: str, by: Callable[[Any], Awaitable[Any]]) -> None:
            try:
                answer = await by(message)
            except MailboxFull as error:
                ends[message] = (error.address, error.capacity)
            else:
                ends[message] = "sent" if answer is None else answer

        async def send_at_once(message: str) -> None:
            it.tell_nowait(message)

        async with player(capacity=2, overflow=overflow) as (system, it, lines), create_task_group() as group:
            it.tell_nowait(gate)
            await gate.entered.wait()
            it.tell_nowait("1")
            for message, by in (("2", it.ask), ("3", it.tell), ("4", send_at_once), ("5", it.ask)):
                group.start_soon(send, message, by)
                await rest()
            system.send_after(0, it, "6")
            await rest()
            assert ends == at_first
            seen = it.statistics()
            assert (seen.depth, seen.waiting_senders) == (2, 3 if overflow == "wait" else 0)
            gate.open.set()
            await rest()
            assert ends == at_last
            # Those that waited for room were let in one by one, but between senders no order is promised.
            assert lines[:4] == ["it starts", "it ready", *(f"it: {message}" for message in handled[:2])]
            assert sorted(lines[4:]) == [f"it: {message}" for message in handled[2:]]
            assert letters(system) == [(message, "dropped") for message in dropped]
            assert it.statistics().dropped == system.dead_letters.count == len(dropped)

    explore(scenario, seeds=seeds[::2])


def sending_in_order(count: int, senders: int, capacity: int) -> Callable[[], Awaitable[None]]:
    """A scenario in which each sender's messages must be handled in the order in which it sent them."""

    async def scenario() -> None:
        handled: dict[int, list[int]] = {sender: [] for sender in range(senders)}

        class Reader(Actor):
            async def receive(self, message: tuple[int, int], context: Context) -> None:
                handled[message[0]].append(message[1])
                if not message[1] % 3:
                    await checkpoint()

        async def send(sender: int) -> None:
            for n in range(count):
                await reader.tell((sender, n))

        async with ActorSystem() as system, create_task_group() as group:
            reader = await system.spawn(Reader, capacity=capacity)
            for sender in range(senders):
                group.start_soon(send, sender)
            await rest()
        assert handled == {sender: list(range(count)) for sender in range(senders)}

    return scenario


def test_03_order_per_sender(seeds: range) -> None:
    """Scenario 3: three senders of eight messages, most of which wait, in every order."""
    explore(sending_in_order(8, senders=3, capacity=2), seeds=seeds)


def test_03_order_of_ten_thousand(seeds: range) -> None:
    """Scenario 3: ten thousand messages of one sender, under three seeds."""
    explore(sending_in_order(10_000, senders=1, capacity=100), seeds=seeds[:3])


def waiting_fairly(count: int) -> Callable[[], Awaitable[None]]:
    """A scenario in which so many senders wait, and each receive admits the one that came first, and no other."""

    async def scenario() -> None:
        mailbox = Mailbox(1)
        mailbox.send_nowait(Envelope("first"))
        came: list[int] = []
        sent: list[int] = []

        async def send(n: int) -> None:
            current_budget.set(Budget())  # all others have one together, and every 64th steps aside
            came.append(n)
            await mailbox.send(Envelope(n))
            sent.append(n)

        async with create_task_group() as group:
            for n in range(count):
                group.start_soon(send, n)
            await rest()
            assert (len(came), sent) == (count, [])
            for turn in range(count):
                await mailbox.receive()
                await rest()
                assert sent == came[: turn + 1]

    return scenario


def test_04_fair_waiting_senders(seeds: range) -> None:
    """Scenario 4: in every order of their coming, first come is first served, one for each free place."""
    explore(waiting_fairly(8), seeds=seeds)


def test_04_a_hundred_waiting_senders(seeds: range) -> None:
    """Scenario 4: a hundred, under five seeds."""
    explore(waiting_fairly(100), seeds=seeds[:5])


# -- 5, 6: cancellation


@each_cancellation
@pytest.mark.parametrize("receiver", ["a message at a time", "all at once"])
def test_05_a_sender_cancelled_at_every_step(loop: str, way: Way, receiver: str, seeds: range) -> None:
    """Scenario 5: from before it begins, while it waits, until it has returned; with others ahead of it and behind."""
    outcomes: set[str] = set()

    async def scenario(interruption: Interruption) -> None:
        mailbox = Mailbox(1)
        mailbox.send_nowait(Envelope("first"))
        taken: list[str] = []
        async with create_task_group() as group:
            group.start_soon(mailbox.send, Envelope("ahead"))
            victim = Victim(group, way, mailbox.send, Envelope("victim"))
            group.start_soon(mailbox.send, Envelope("behind"))
            interruption.arm(victim.cancel)
            for _ in range(3):
                await checkpoint()
            for _ in range(8):
                if mailbox.statistics().depth:
                    taken.append((await mailbox.receive()).message)
                if receiver == "a message at a time" or not mailbox.statistics().depth:
                    await checkpoint()
            outcome = await victim.wait()
            await rest()
            taken += await take_all(mailbox)
        outcomes.add(outcome)
        assert outcome == "returned" or interruption.fired
        delivered = ["victim"] if outcome == "returned" else []
        assert taken[0] == "first"
        assert sorted(taken) == sorted(["first", "ahead", "behind", *delivered])
        seen = mailbox.statistics()
        assert (mailbox.lanes.reserved, seen.waiting_senders, seen.accepted) == (0, 0, len(taken))

    for seed in seeds[:10]:
        assert interrupt_everywhere(scenario, backend=loop, seed=seed) > 8
    assert outcomes == {"returned", "cancelled"}


@each_cancellation
@pytest.mark.parametrize("order", ["admit, cancel", "cancel, admit"])
def test_05_cancelled_in_the_tick_of_its_admission(loop: str, way: Way, order: str, seeds: range) -> None:
    """Scenario 5: raised and never delivered, or returned and delivered once; the place is lost in neither case."""

    async def scenario() -> None:
        mailbox = Mailbox(1)
        mailbox.send_nowait(Envelope("first"))
        async with create_task_group() as group:
            victim = Victim(group, way, mailbox.send, Envelope("victim"))
            await rest()
            group.start_soon(mailbox.send, Envelope("next"))
            await rest()
            if order == "cancel, admit":
                victim.cancel()
            assert (await mailbox.receive()).message == "first"  # does not yield
            if order == "admit, cancel":
                victim.cancel()
            outcome = await victim.wait()
            await rest()
            assert waiting_in(mailbox) == ["victim" if outcome == "returned" else "next"]
            assert outcome == "cancelled" or way == "scope"
            assert await take_all(mailbox) == (["victim", "next"] if outcome == "returned" else ["next"])
        assert mailbox.lanes.reserved == 0

    explore(scenario, seeds=seeds, backends=[loop])


@each_cancellation
@pytest.mark.parametrize("how", ["tell", "ask"])
def test_05_a_cancelled_sender_to_an_actor(loop: str, way: Way, how: str, seeds: range) -> None:
    """Scenario 5: told, what was cancelled is never handled; asked, it may be, but then its answer is a dead letter."""
    outcomes: set[str] = set()

    async def scenario(interruption: Interruption) -> None:
        gate = Gate()
        async with player(capacity=1) as (system, it, lines), create_task_group() as group:
            it.tell_nowait(gate)
            await gate.entered.wait()
            it.tell_nowait("first")
            victim = Victim(group, way, getattr(it, how), "victim")
            interruption.arm(victim.cancel)
            await checkpoint()
            gate.open.set()
            outcome = await victim.wait()
            await rest()
            assert await it.ask("last") == "last"
            handled = [line.removeprefix("it: ") for line in lines[2:]]
            answered = [] if outcome == "returned" or "victim" not in handled else [("victim", "late")]
            assert letters(system) == answered
        outcomes.add(outcome)
        assert handled in (["first", "victim", "last"], ["first", "last"])
        if how == "tell" or outcome == "returned":
            assert handled.count("victim") == (outcome == "returned")

    for seed in seeds[:5]:
        assert interrupt_everywhere(scenario, backend=loop, seed=seed) > 5
    assert outcomes == {"returned", "cancelled"}


def test_05_a_deadline_of_asyncio(seeds: range) -> None:
    """Scenario 5: `asyncio.timeout` cancels natively; it expires in the very moment in which room appears."""

    async def scenario() -> None:
        mailbox = Mailbox(1)
        mailbox.send_nowait(Envelope("first"))
        timed_out = False
        taken: list[Any] = []

        async def receive() -> None:
            await asyncio.sleep(1)
            taken.append((await mailbox.receive()).message)

        async with create_task_group() as group:
            group.start_soon(receive)
            try:
                async with asyncio.timeout(1):
                    await mailbox.send(Envelope("victim"))
            except TimeoutError:
                timed_out = True
        assert taken == ["first"]
        assert waiting_in(mailbox) == ([] if timed_out else ["victim"])
        assert (mailbox.lanes.reserved, mailbox.statistics().waiting_senders) == (0, 0)

    explore(scenario, seeds=seeds, backends=["asyncio"])


@each_cancellation
def test_06_a_receiver_cancelled_at_every_step(loop: str, way: Way, seeds: range) -> None:
    """Scenario 6: what it has not received the next receiver gets, in order, signals first."""
    outcomes: set[str] = set()

    async def scenario(interruption: Interruption) -> None:
        mailbox = Mailbox(2)
        taken: list[Any] = []

        async def receive() -> None:
            got = await mailbox.receive()
            taken.append(got.message if isinstance(got, Envelope) else got)

        async with create_task_group() as group:
            victim = Victim(group, way, receive)
            interruption.arm(victim.cancel)
            await checkpoint()
            mailbox.send_nowait(Envelope(1))
            await checkpoint()
            mailbox.signal("signal")
            await mailbox.send(Envelope(2))
            await mailbox.send(Envelope(3)) if victim.outcome == "returned" else None
            outcome = await victim.wait()
            by_victim = list(taken)
            while mailbox.statistics().depth or mailbox.statistics().control:
                await receive()
        outcomes.add(outcome)
        assert by_victim == ([1] if outcome == "returned" else []) or by_victim == ["signal"]
        assert [got for got in taken if got != "signal"] == [1, 2, 3][: mailbox.statistics().accepted]
        assert taken.count("signal") == 1
        assert len(by_victim) == (outcome == "returned")

    for seed in seeds[:10]:
        assert interrupt_everywhere(scenario, backend=loop, seed=seed) > 3
    assert outcomes == {"returned", "cancelled"}


@each_cancellation
@pytest.mark.parametrize("order", ["send, cancel", "cancel, send"])
def test_06_cancelled_in_the_tick_of_the_hand_over(loop: str, way: Way, order: str, seeds: range) -> None:
    """Scenario 6: the message is received, or the next receiver gets it."""

    async def scenario() -> None:
        mailbox = Mailbox()
        async with create_task_group() as group:
            victim = Victim(group, way, mailbox.receive)
            await rest()
            if order == "cancel, send":
                victim.cancel()
            mailbox.send_nowait(Envelope("precious"))
            if order == "send, cancel":
                victim.cancel()
            outcome = await victim.wait()
            other = victim.value if outcome == "returned" else await mailbox.receive()
            assert other.message == "precious"
            assert outcome == "cancelled" or (way, order) == ("scope", "send, cancel") or loop == "trio"
        assert mailbox.statistics().depth == 0

    explore(scenario, seeds=seeds, backends=[loop])


@each_backend
def test_06_an_actor_killed_at_every_step(loop: str, seeds: range) -> None:
    """Scenario 6: each message is handled once, in order, or it was at hand, and is a dead letter."""

    async def scenario(interruption: Interruption) -> None:
        handled: list[int] = []

        class Reader(Actor):
            async def receive(self, message: int, context: Context) -> None:
                await checkpoint()
                handled.append(message)

        async def send() -> None:
            for n in range(6):
                await reader.tell(n)

        async with ActorSystem() as system, create_task_group() as group:
            reader = await system.spawn(Reader, name="reader", restart="permanent", capacity=2)
            group.start_soon(send)
            interruption.arm(reader.kill)
            await rest()
            lost = [letter.message for letter in system.dead_letters]
            assert letters(system) == [(message, "killed") for message in lost]
        assert len(lost) <= int(interruption.fired)
        assert sorted(handled + lost) == list(range(6))
        assert handled == sorted(handled)

    for seed in seeds[:10]:
        assert interrupt_everywhere(scenario, backend=loop, seed=seed) > 10


# -- 7, 8: signals


class Queue:
    """An actor with a full mailbox, busy with one message; what it does next is in its `lines`."""

    def __init__(self, overflow: Overflow) -> None:
        self.overflow: Overflow = overflow
        self.lines: list[str] = []
        self.gate = Gate()
        self.ref: ActorRef[Any]

    async def fill(self, system: ActorSystem, messages: int, *watched: ActorRef[Any], link: bool = False) -> None:
        """Start it, have it watch others, and fill it."""
        name = self.overflow
        self.ref = await system.spawn(
            lambda: Player(name, self.lines, trap_exits=True),
            name=name,
            restart="temporary",
            capacity=messages,
            overflow=name,
        )
        for other in watched:
            await self.ref.ask(partial(_follow, other, link))
        self.ref.tell_nowait(self.gate)
        await self.gate.entered.wait()
        self.lines.clear()
        for n in range(messages):
            self.ref.tell_nowait(n)
        assert self.ref.statistics().depth == self.ref.statistics().capacity == messages

    def add_one_more(self) -> None:
        """Send a message too many, which the policy deals with."""
        try:
            self.ref.tell_nowait("one more")
        except MailboxFull:
            assert self.overflow in ("wait", "fail")
        except MailboxClosed:
            assert kind(self.ref) == "killed"


def overtaking(signal: str, messages: int, *policies: Overflow) -> Callable[[], Awaitable[None]]:
    """A scenario in which a signal reaches actors whose mailboxes are full."""

    async def scenario() -> None:
        async with ActorSystem() as system:
            watched = await system.spawn(Player, name="watched", restart="temporary")
            queues = [Queue(overflow) for overflow in policies]
            for queue in queues:
                await queue.fill(system, messages, *[watched] * (signal in ("down", "link")), link=signal == "link")
            for queue in queues:
                if signal in ("stop", "kill"):
                    getattr(queue.ref, signal)()
            if signal in ("down", "link"):
                watched.kill()
            await rest()
            for queue in queues:
                queue.add_one_more()
                queue.gate.open.set()
            await rest()
            for queue in queues:
                check_overtaking(signal, queue, messages)
            lost = {"stop": messages + 1, "kill": messages + 2}.get(signal, 1)
            refused = sum(queue.overflow in ("wait", "fail") for queue in queues) if signal != "kill" else 0
            assert system.dead_letters.count == lost * len(queues) - refused

    return scenario


def check_overtaking(signal: str, queue: Queue, messages: int) -> None:
    """Nothing was handled between the message at hand and the signal."""
    name, lines = queue.overflow, queue.lines
    if signal == "stop":
        assert lines == [f"{name} stops", f"{name} gone"]
        assert kind(queue.ref) == "shutdown"
    elif signal == "kill":
        assert lines == []
        assert kind(queue.ref) == "killed"
    else:
        first = Down if signal == "down" else LinkDown
        assert lines[0].startswith(f"{name}: {first.__name__}(ref=<ActorRef 'watched' ended>, exit=Exit(kind='killed'")
        data: list[Any] = list(range(messages))
        if name == "drop_oldest":
            data = [*data[1:], "one more"]
        assert lines[1:] == [f"{name}: {message}" for message in data]


def _follow(other: ActorRef[Any], link: bool, context: Context) -> None:
    if link:
        context.link(other)
    else:
        context.monitor(other)


@pytest.mark.parametrize("signal", ["stop", "kill", "down", "link"])
def test_07_signals_overtake_a_full_mailbox(signal: str, seeds: range) -> None:
    """Scenario 7: handled before the next message, without room, and dropped by no policy."""
    explore(overtaking(signal, 3, *OVERFLOWS), seeds=seeds[::2])


@pytest.mark.parametrize("signal", ["stop", "kill", "down", "link"])
def test_07_signals_overtake_ten_thousand_messages(signal: str, seeds: range) -> None:
    """Scenario 7: ten thousand, under one seed."""
    explore(overtaking(signal, 10_000, "wait"), seeds=seeds[:1])


def test_07_a_stop_needs_no_room_among_waiting_senders(seeds: range) -> None:
    """Scenario 7: senders that wait before the stop are behind it all the same."""

    async def scenario() -> None:
        gate = Gate()
        async with player(capacity=1) as (system, it, lines), create_task_group() as group:
            it.tell_nowait(gate)
            await gate.entered.wait()
            for n in range(4):
                group.start_soon(outcome_of, it.tell, n)
            await rest()
            it.stop()
            gate.open.set()
            await rest()
            assert lines[2:] == ["it stops", "it gone"]
            assert sorted(letters(system)) == [(n, "closed") for n in range(4)]

    explore(scenario, seeds=seeds)


class Slow(Provider):
    """A model that takes a minute."""

    name = "slow"
    model = "slow"

    def __init__(self) -> None:
        self.ends: list[str] = []

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Answer, at last."""
        try:
            await anyio.sleep(60)
        except anyio.get_cancelled_exc_class():
            self.ends.append("cancelled")
            raise
        self.ends.append("answered")
        return await Scripted("At last.").complete(request)


def test_08_a_stop_signal_is_not_a_user_message(seeds: range) -> None:
    """Scenario 8: a run that reads no mailbox during its model call is stopped in it, at that very moment.

    There is one outcome, which every waiter gets, one last event, and a history that can be sent.
    """

    async def scenario() -> None:
        heard: list[Any] = []
        results: list[Any] = []
        model = Slow()

        async def wait() -> None:
            results.append(await run.result())

        async with System() as system, create_task_group() as group:
            run = await system.start(Agent("patient", model), "Go", on_event=heard.append)
            for _ in range(2):
                group.start_soon(wait)
            await rest()
            assert model.ends == []
            moment = anyio.current_time()
            run.stop("now", reason="enough")
            result = await run.result()
            assert anyio.current_time() == moment
        assert (result.status, result.reason, model.ends) == ("stopped", "enough", ["cancelled"])
        assert results == [result, result]
        assert len([event for event in heard if isinstance(event, TERMINAL)]) == 1
        assert isinstance(heard[-1], TERMINAL)
        asked = [call.id for message in result.messages for call in message.tool_calls]
        assert asked == [result.call_id for message in result.messages for result in message.tool_results] == []

    explore(scenario, seeds=seeds[:50])


# -- 9 to 11: closed


async def end(it: ActorRef[Any], how: str) -> None:
    """Have a temporary actor end in this way."""
    if how == "shutdown":
        it.stop(reason="enough")
    elif how == "killed":
        it.kill()
    else:
        it.tell_nowait("finish" if how == "normal" else Boom("crash"))
    await rest()
    assert kind(it) == how


ENDS = ["normal", "shutdown", "killed", "crashed"]


@pytest.mark.parametrize("how", ENDS)
def test_09_a_closed_mailbox(how: str, seeds: range) -> None:
    """Scenario 9: however it ended, who sends hears so at once; what was fired and forgotten is a dead letter."""

    async def scenario() -> None:
        async with player(restart="temporary", capacity=1) as (system, it, _lines):
            await end(it, how)
            others = system.dead_letters.count  # the message that it crashed over
            moment = anyio.current_time()
            for n in range(3):
                with pytest.raises(MailboxClosed, match="'it' is closed") as caught:
                    await it.tell(("told", n))
                assert caught.value.address == "it"
                with pytest.raises(MailboxClosed, match="'it' is closed"):
                    it.tell_nowait(("told at once", n))
                with pytest.raises(ActorEnded) as ended:
                    await it.ask(("asked", n))
                assert type(ended.value) is (ActorDied if how in ("killed", "crashed") else ActorStopped)
                assert (ended.value.name, ended.value.exit) == ("it", it.exit)
                assert type(ended.value.__cause__) is (Boom if how == "crashed" else type(None))
                it._cell.post(Envelope(("posted", n)))
            assert anyio.current_time() == moment
            assert system.dead_letters.count == others + 12
            words = ("told", "told at once", "asked", "posted")
            assert letters(system)[others:] == [((word, n), "closed") for n in range(3) for word in words]

    explore(scenario, seeds=seeds)


def test_09_an_idle_actor_hears_of_everything(seeds: range) -> None:
    """Scenario 9, the other way round: while it lives, whatever is sent in whatever way wakes its receiver."""

    async def scenario() -> None:
        async with player() as (system, it, lines):
            for n, send in enumerate((it.tell, it.ask, it.tell_nowait, partial(system.send_after, 0, it))):
                await rest()
                sent = send(n)
                if isawaitable(sent):
                    await sent
            await rest()
            assert lines[2:] == [f"it: {n}" for n in range(4)]

    explore(scenario, seeds=seeds)


def test_09_a_mailbox_is_open_between_incarnations(seeds: range) -> None:
    """Scenario 9: only the end for good closes it; an actor in its backoff takes messages, and handles them later."""

    async def scenario() -> None:
        backoff = Backoff(4.0, jitter=0)
        async with player(restart="permanent", backoff=backoff, capacity=1) as (system, it, lines):
            await it.tell(Boom("crash"))
            await rest()
            crashed = anyio.current_time() - TICK
            async with create_task_group() as group:
                group.start_soon(it.tell, "told")
                await rest()
                group.start_soon(it.tell, "waits for room")
                await rest()
                seen = it.statistics()
                assert (seen.depth, seen.waiting_senders, seen.closed) == (1, 1, False)
            assert anyio.current_time() == crashed + 4
            await rest()
            assert lines[4:] == ["it starts", "it ready", "it: told", "it: waits for room"]
            assert [reason for _, reason in letters(system)] == ["crashed"]

    explore(scenario, seeds=seeds)


@pytest.mark.parametrize("how", [*ENDS, "the system's end"])
def test_10_waiting_senders_on_close(how: str, seeds: range) -> None:
    """Scenario 10: ten are woken with "closed", whatever the end, and ten dead letters are counted."""

    async def scenario() -> None:
        gate = Gate()
        outcomes: list[Any] = []

        async def last(context: Context) -> None:
            await gate(context)
            if how == "normal":
                context.stop()
            if how == "crashed":
                raise Boom("crash")

        async def send(n: int) -> None:
            outcomes.append(await outcome_of(it.tell, n))

        async def open_later() -> None:
            await anyio.sleep(1)
            gate.open.set()

        async with create_task_group() as group, player(restart="temporary", capacity=1) as (system, it, lines):
            it.tell_nowait(last)
            await gate.entered.wait()
            it.tell_nowait("queued")
            for n in range(10):
                group.start_soon(send, n)
            system.send_after(0, it, "posted")
            await rest()
            assert (outcomes, it.statistics().waiting_senders) == ([], 11)
            if how == "shutdown":
                it.stop()
            if how == "killed":
                it.kill()
            if how == "the system's end":
                group.start_soon(open_later)
            else:
                gate.open.set()
                await rest()
                assert kind(it) == how
                assert len(outcomes) == 10
        assert [type(outcome) for outcome in outcomes] == [MailboxClosed] * 10
        assert it.statistics() == MailboxStatistics(
            depth=0, capacity=1, control=0, waiting_senders=0, accepted=2, dropped=0, closed=True
        )
        assert kind(it) == ("shutdown" if how == "the system's end" else how)
        assert not any(line.startswith("it: ") for line in lines)
        buried = [(message, reason) for message, reason in letters(system) if message is not last]
        assert sorted(map(str, buried)) == sorted(
            map(str, [("queued", "closed"), ("posted", "closed"), *((n, "closed") for n in range(10))])
        )
        assert system.dead_letters.count == 12 + (how in ("crashed", "killed"))

    explore(scenario, seeds=seeds[::2])


class Counted:
    """A message; `alive` are those that somebody still holds."""

    alive = 0

    def __init__(self) -> None:
        Counted.alive += 1

    def __del__(self) -> None:
        Counted.alive -= 1


@pytest.mark.parametrize(("loop", "power"), [("asyncio", 6), ("trio", 4)])
def test_11_dead_letters_are_bounded_and_visible(loop: str, power: int, caplog: pytest.LogCaptureFixture) -> None:
    """Scenario 11: a million sends to a dead address, under one seed: an exact count, a hundred kept, seven lines.

    On trio ten thousand: nothing here depends on the event loop.
    """
    caplog.set_level(logging.WARNING, "greenroom")

    async def scenario() -> None:
        async with player() as (system, it, _lines):
            await it.stop()
            for _ in range(10**power):
                try:
                    it.tell_nowait(Counted())
                except MailboxClosed:
                    pass
            assert system.dead_letters.count == len(system.dead_letters) == 10**power
            assert len(list(system.dead_letters)) == 100
            assert Counted.alive == 100

    explore(scenario, seeds=[0], backends=[loop])
    numbers = [record.args[0] for record in caplog.records if isinstance(record.args, tuple)]
    assert numbers == [10**each for each in range(power + 1)]


# -- 12: request and reply


@pytest.mark.parametrize("how", ENDS)
def test_12_the_callee_ends(how: str, seeds: range) -> None:
    """Scenario 12: asked before, queued, waiting for room or asked afterwards: each asker hears how it ended."""

    async def scenario() -> None:
        gate = Gate()
        boom = Boom("the reason")
        ends: dict[str, Any] = {}

        async def last(context: Context) -> str:
            await gate(context)
            if how == "normal":
                context.stop()
            if how == "crashed":
                raise boom
            return "done"

        async def ask(message: Any, name: str) -> None:
            ends[name] = await outcome_of(it.ask, message)

        async with player(restart="temporary", capacity=1) as (system, it, lines), create_task_group() as group:
            for message, name in ((last, "at hand"), ("never", "queued"), ("never", "waiting")):
                group.start_soon(ask, message, name)
                await rest()
            assert ends == {}
            if how == "shutdown":
                it.stop(reason="enough")
            if how == "killed":
                it.kill()
            gate.open.set()
            await rest()
            await ask("never", "afterwards")
            exit = it.exit
            assert exit is not None
            assert (exit.kind, exit.reason) == (how, "enough" if how == "shutdown" else None)
            if how in ("normal", "shutdown"):
                assert ends.pop("at hand") == "done"
            died = how in ("killed", "crashed")
            assert set(ends) == {"queued", "waiting", "afterwards"} | ({"at hand"} if died else set())
            for error in ends.values():
                assert type(error) is (ActorDied if died else ActorStopped)
                assert (error.name, error.exit) == ("it", exit)
                assert error.__cause__ is (boom if how == "crashed" else None)
            # An asker that has an answer, or the reason why there is none, lost nothing; the others never got in.
            assert letters(system) == [("never", "closed")] * 2
            assert "it: never" not in lines

    explore(scenario, seeds=seeds)


def test_12_the_callee_is_restarted_meanwhile(seeds: range) -> None:
    """Scenario 12: the question at hand dies with its incarnation; the next ones answer those that waited."""

    async def scenario() -> None:
        ends: dict[str, Any] = {}

        async def ask(message: Any) -> None:
            ends[str(message)] = await outcome_of(it.ask, message)

        async with player(capacity=1) as (system, it, _lines), create_task_group() as group:
            gate = Gate()
            it.tell_nowait(gate)
            await gate.entered.wait()
            for message in (Boom("one"), "queued", Boom("two"), "waiting"):
                group.start_soon(ask, message)
                await rest()
            gate.open.set()
            await rest()
            assert await it.ask(lambda context: context.restarts) == 2
            assert (ends["queued"], ends["waiting"]) == ("queued", "waiting")
            for name in ("one", "two"):
                error = ends[name]
                assert (type(error), error.exit.kind, str(error.__cause__)) == (ActorDied, "crashed", name)
            assert letters(system) == []

    explore(scenario, seeds=seeds)


@pytest.mark.parametrize("where", ["in its handler", "in the mailbox", "before the mailbox"])
def test_12_no_answer_in_time(where: str, seeds: range) -> None:
    """Scenario 12: the timeout is exact, wherever the question is; what comes late reaches the dead letters alone."""

    async def scenario() -> None:
        gate = Gate()
        async with player(capacity=1) as (system, it, lines):
            if where != "in its handler":
                it.tell_nowait(gate)
                await gate.entered.wait()
            if where == "before the mailbox":
                it.tell_nowait("first")
            moment = anyio.current_time()
            with pytest.raises(AskTimeout, match=r"'it' did not answer within 2 s") as caught:
                await it.ask(gate if where == "in its handler" else "too slow", timeout=2)
            assert anyio.current_time() == moment + 2
            assert (caught.value.name, caught.value.seconds) == ("it", 2)
            assert isinstance(caught.value, TimeoutError)
            assert it.statistics().waiting_senders == 0
            gate.open.set()
            assert await it.ask("next", timeout=2) == "next"
            handled = [line.removeprefix("it: ") for line in lines[2:]]
            late = {"in its handler": "through", "in the mailbox": "too slow"}.get(where)
            assert list(system.dead_letters) == ([DeadLetter(late, "outside", "it", "late")] if late else [])
            assert handled == {"in the mailbox": ["too slow", "next"], "before the mailbox": ["first", "next"]}.get(
                where, ["next"]
            )

    explore(scenario, seeds=seeds)


def test_12_a_reply_in_the_moment_of_its_timeout(seeds: range) -> None:
    """Scenario 12: whoever wins, the asker gets its own answer or none, and a late one is a dead letter, once."""
    results: set[str] = set()

    class Sleeper(Actor):
        async def receive(self, message: int, context: Context) -> int:
            await anyio.sleep(1)
            return message

    async def scenario() -> None:
        missed: list[int] = []
        async with ActorSystem() as system:
            sleeper = await system.spawn(Sleeper)
            for n in range(6):
                try:
                    assert await sleeper.ask(n, timeout=1) == n
                    results.add("in time")
                except AskTimeout:
                    missed.append(n)
                    results.add("late")
                assert await sleeper.ask(n + 100, timeout=3) == n + 100
            assert letters(system) == [(n, "late") for n in missed]

    explore(scenario, seeds=seeds)
    assert "late" in results


@pytest.mark.parametrize("overflow", ["fail", "drop_newest", "drop_oldest"])
def test_12_the_mailbox_is_full(overflow: Overflow, seeds: range) -> None:
    """Scenario 12: an asker whose question does not get in, or is thrown out, hears so at once; the next is heard."""

    async def scenario() -> None:
        gate = Gate()
        ends: dict[str, Any] = {}

        async def ask(message: str) -> None:
            ends[message] = await outcome_of(it.ask, message)

        async with player(capacity=1, overflow=overflow) as (system, it, lines), create_task_group() as group:
            it.tell_nowait(gate)
            await gate.entered.wait()
            for message in ("older", "newer"):
                group.start_soon(ask, message)
                await rest()
            loser, winner = ("older", "newer") if overflow == "drop_oldest" else ("newer", "older")
            assert set(ends) == {loser}
            assert type(ends[loser]) is MailboxFull
            assert (ends[loser].address, ends[loser].capacity) == ("it", 1)
            gate.open.set()
            await rest()
            assert ends[winner] == winner
            assert await it.ask("later") == "later"
            assert lines[2:] == [f"it: {winner}", "it: later"]
            assert letters(system) == ([] if overflow == "fail" else [(loser, "dropped")])

    explore(scenario, seeds=seeds)


@pytest.mark.parametrize("how", ["stop", "kill"])
@each_backend
def test_12_a_callee_that_ends_at_every_step(loop: str, how: str, seeds: range) -> None:
    """Scenario 12: every ask of several askers has one end, and every answer belongs to its question."""

    async def scenario(interruption: Interruption) -> None:
        ends: list[tuple[int, Any]] = []

        async def ask(n: int) -> None:
            ends.append((n, await outcome_of(it.ask, n)))

        class Echo(Actor):
            async def receive(self, message: int, context: Context) -> int:
                await checkpoint()
                return message

        async with ActorSystem() as system:
            it = await system.spawn(Echo, restart="temporary", capacity=1)
            async with create_task_group() as group:
                interruption.arm(getattr(it, how))
                for n in range(4):
                    group.start_soon(ask, n)
            await rest()
            expected = ActorStopped if how == "stop" else ActorDied
            assert sorted(n for n, _ in ends) == [0, 1, 2, 3]
            for n, outcome in ends:
                assert outcome == n or (interruption.fired and type(outcome) is expected)
            assert {reason for _, reason in letters(system)} <= {"closed"}

    for seed in seeds[:5]:
        assert interrupt_everywhere(scenario, backend=loop, seed=seed) > 10


@each_cancellation
@pytest.mark.parametrize("crashes", [False, True])
def test_12_an_asker_cancelled_at_every_step(loop: str, way: Way, crashes: bool, seeds: range) -> None:
    """Scenario 12: what was answered to nobody is a dead letter, with its cause if the answer was a crash.

    It is one too if it comes when the asker is cancelled already and does not know it yet. The next ask gets its own.
    """
    outcomes: set[Any] = set()

    async def scenario(interruption: Interruption) -> None:
        handled: list[str] = []

        async def slowly(_context: Context) -> str:
            await checkpoint()
            handled.append("slowly")
            if crashes:
                raise Boom("poison")
            return "slow answer"

        async with player(capacity=1) as (system, it, _lines), create_task_group() as group:
            victim = Victim(group, way, it.ask, slowly)
            interruption.arm(victim.cancel)
            outcome = await victim.wait()
            assert await it.ask("next") == "next"
            if outcome == "cancelled":
                lost = (slowly, "crashed") if crashes else ("slow answer", "late")
                assert letters(system) == [lost] * len(handled)
            else:
                assert type(outcome) is ActorDied if crashes else victim.value == "slow answer"
                assert (handled, letters(system)) == (["slowly"], [])
        outcomes.add((outcome == "cancelled", len(handled)))

    for seed in seeds[:10]:
        assert interrupt_everywhere(scenario, backend=loop, seed=seed) > 3
    assert outcomes >= {(False, 1), (True, 1)}


# -- 13, 14: the handler


def one_at_a_time(count: int) -> Callable[[], Awaitable[None]]:
    """A scenario of so many concurrent senders to a handler that awaits between its read and its write."""

    async def scenario() -> None:
        inside = 0
        balances: list[int] = []

        class Account(Actor):
            balance = 0

            async def receive(self, message: int, context: Context) -> int:
                nonlocal inside
                inside += 1
                assert inside == 1
                before = self.balance
                for _ in range(message % 3):
                    await checkpoint()
                assert self.balance == before
                self.balance = before + 1
                balances.append(self.balance)
                assert inside == 1
                inside -= 1
                return self.balance

        async with ActorSystem() as system:
            account = await system.spawn(Account, capacity=5)
            async with create_task_group() as group:
                for n in range(count):
                    group.start_soon(account.ask if n % 2 else account.tell, n)
            assert await account.ask(1) == count + 1
        assert balances == list(range(1, count + 2))

    return scenario


def test_13_one_message_at_a_time(seeds: range) -> None:
    """Scenario 13: a handler never overlaps with itself and sees its own last write, in every order of senders."""
    explore(one_at_a_time(12), seeds=seeds)


def test_13_a_thousand_senders(seeds: range) -> None:
    """Scenario 13: a thousand, under two seeds."""
    explore(one_at_a_time(1000), seeds=seeds[:2])


POISONINGS = ["crash", "kill", "crash with backoff", "crash of a sibling"]


@pytest.mark.parametrize("how", POISONINGS)
def test_14_a_restart_keeps_the_address_and_the_mailbox(how: str, seeds: range) -> None:
    """Scenario 14: what waits behind the poison, in the mailbox or for room, is handled, once and in order.

    The poison is not handled again; it is a dead letter with its cause. Stopped with its group, nothing is lost.
    """

    async def scenario() -> None:
        lines: list[str] = []
        doses: list[int] = []
        gate = Gate()

        async def poison(context: Context) -> None:
            doses.append(context.restarts)
            await gate(context)
            if how in ("crash", "crash with backoff"):
                raise Boom("poison")

        async with ActorSystem() as system, create_task_group() as group:
            top = await system.spawn(
                Supervisor(
                    [
                        ChildSpec(
                            "it",
                            partial(Player, "it", lines),
                            capacity=3,
                            backoff=Backoff(2.0, jitter=0) if how == "crash with backoff" else None,
                        ),
                        ChildSpec("sibling", Player),
                    ],
                    strategy="one_for_all" if how == "crash of a sibling" else "one_for_one",
                ),
                name="top",
            )
            it = child(top, "it")
            await it.tell("a")
            it.tell_nowait(poison)
            await gate.entered.wait()
            it.tell_nowait("b")
            asked = Victim(group, "scope", it.ask, "c")
            await rest()
            it.tell_nowait("d")
            told = Victim(group, "scope", it.tell, "e")
            await rest()
            assert it.statistics().waiting_senders == 1
            if how == "kill":
                it.kill()
            if how == "crash of a sibling":
                child(top, "sibling").tell_nowait(Boom("sibling"))
                await rest()
            gate.open.set()
            moment = anyio.current_time()
            assert (await asked.wait(), asked.value) == ("returned", "c")
            assert anyio.current_time() == moment + 2 * (how == "crash with backoff")
            await rest()
            assert told.outcome == "returned"
            assert await it.ask(lambda context: context.restarts) == 1
            assert child(top, "it") == it
            assert it.alive
            assert doses == [0]
            first = [] if how == "kill" else ["it stops", "it gone"]  # a kill leaves no time for that
            heard = [f"it: {message}" for message in "bcde"]
            assert lines == ["it starts", "it ready", "it: a", *first, "it starts", "it ready", *heard]
            causes = {"crash": "crashed: Boom: poison", "crash with backoff": "crashed: Boom: poison", "kill": "killed"}
            cause = causes.get(how)
            lost = [DeadLetter(poison, "top/it", None, cause.partition(":")[0], cause)] if cause else []
            assert [letter for letter in system.dead_letters if letter.recipient == "top/it"] == lost

    explore(scenario, seeds=seeds[::2])


def test_14_asked_poison(seeds: range) -> None:
    """Scenario 14: its asker got the cause, so it is no dead letter, and it is not handled again either."""

    async def scenario() -> None:
        async with player() as (system, it, lines), create_task_group() as group:
            asked = Victim(group, "scope", it.ask, Boom("poison"))
            await it.tell("rest")
            await rest()
            assert isinstance(asked.outcome, ActorDied)
            assert str(asked.outcome.__cause__) == "poison"
            assert sorted(lines) == sorted(
                ["it starts", "it ready", "it stops", "it gone", "it starts", "it ready", "it: rest"]
            )
            assert letters(system) == []

    explore(scenario, seeds=seeds)
