"""The mailbox: bounds, order, overflow, cancellation, and who yields when."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from greenroom.mailbox import (
    MESSAGES_PER_CHECKPOINT,
    Budget,
    Envelope,
    Lanes,
    Mailbox,
    MailboxClosed,
    MailboxFull,
    Overflow,
    Reply,
    current_budget,
)

pytestmark = pytest.mark.anyio


async def settle() -> None:
    """Let everybody run until all wait. Nothing here depends on time, so a number of rounds is enough, and quick."""
    for _ in range(50):
        await checkpoint()


def messages(mailbox: Mailbox) -> list[Any]:
    """What waits in the data lane, oldest first."""
    return [envelope.message for envelope in mailbox.lanes.data]


class Undelivered:
    """Takes what a mailbox drops."""

    def __init__(self) -> None:
        self.letters: list[tuple[Any, str]] = []

    def __call__(self, mailbox: Mailbox, envelope: Envelope, reason: str) -> None:
        self.letters.append((envelope.message, reason))


class Senders:
    """Tasks that each send one message, and how each of them ended."""

    def __init__(self, mailbox: Mailbox, group: TaskGroup) -> None:
        self.mailbox = mailbox
        self.group = group
        self.scopes: dict[Any, anyio.CancelScope] = {}
        self.tasks: dict[Any, asyncio.Task[Any] | None] = {}
        self.outcomes: dict[Any, str] = {}

    async def start(self, message: Any) -> None:
        """Start a sender and let it run until it has sent or waits."""
        self.group.start_soon(self._send, message)
        await settle()

    async def _send(self, message: Any) -> None:
        with anyio.CancelScope() as self.scopes[message]:
            self.tasks[message] = native_task()
            try:
                await self.mailbox.send(Envelope(message))
                self.outcomes[message] = "sent"
            except MailboxClosed:
                self.outcomes[message] = "closed"
            except anyio.get_cancelled_exc_class():
                self.outcomes[message] = "cancelled"
                if self.scopes[message].cancel_called:
                    raise  # a native cancellation ends here instead, so that the group lives on

    def cancel(self, message: Any, kind: str) -> None:
        """Cancel a sender by its scope or, on asyncio, natively."""
        task = self.tasks[message]
        if kind == "native" and task is not None:
            task.cancel()
        else:
            self.scopes[message].cancel()


def native_task() -> asyncio.Task[Any] | None:
    """The running asyncio task, or None on trio."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


@asynccontextmanager
async def senders_of(mailbox: Mailbox, count: int = 0) -> AsyncIterator[Senders]:
    """Senders of the messages 0, 1, … each parked in turn; all are cancelled at the end."""
    async with anyio.create_task_group() as group:
        senders = Senders(mailbox, group)
        for message in range(count):
            await senders.start(message)
        yield senders
        group.cancel_scope.cancel()


@pytest.fixture(params=["scope", "native"])
def kind(request: pytest.FixtureRequest, anyio_backend: str) -> str:
    """How a task is cancelled."""
    if request.param == "native" and anyio_backend == "trio":
        pytest.skip("trio has no native cancellation")
    return request.param


class TestLanes:
    """The pure state."""

    def test_refuses_a_capacity_below_one(self) -> None:
        """A mailbox that can hold nothing is a mistake."""
        with pytest.raises(ValueError, match="capacity of at least 1"):
            Lanes(0)

    def test_takes_messages_up_to_its_capacity(self) -> None:
        """An offer beyond the bound is declined and leaves nothing behind."""
        lanes = Lanes(2)
        assert [lanes.offer(Envelope(n)) for n in range(3)] == [True, True, False]
        assert (len(lanes.data), lanes.accepted) == (2, 2)

    def test_control_needs_no_capacity(self) -> None:
        """Signals are taken by a full mailbox, in order."""
        lanes = Lanes(1)
        lanes.offer(Envelope("data"))
        lanes.signal("first")
        lanes.signal("second")
        assert list(lanes.control or ()) == ["first", "second"]

    def test_nobody_overtakes_a_waiting_ticket(self) -> None:
        """While a sender waits, a new offer is declined even if there is room."""
        lanes = Lanes(1)
        lanes.offer(Envelope("first"))
        lanes.wait("ticket")
        lanes.data.popleft()
        assert not lanes.offer(Envelope("overtaking"))

    def test_a_reserved_place_counts_against_the_bound(self) -> None:
        """The place of an admitted sender is not given away a second time."""
        lanes = Lanes(1)
        lanes.offer(Envelope("first"))
        lanes.wait("ticket")
        assert lanes.admit() is None
        lanes.data.popleft()
        assert lanes.admit() == "ticket"
        assert not lanes.offer(Envelope("thief"))
        lanes.redeem(Envelope("second"))
        assert [envelope.message for envelope in lanes.data] == ["second"]

    def test_a_forgone_place_is_free_again(self) -> None:
        """An admitted sender that was cancelled leaves room for the next."""
        lanes = Lanes(1)
        lanes.wait("ticket")
        lanes.admit()
        lanes.forgo()
        assert lanes.offer(Envelope("next"))

    def test_a_withdrawn_ticket_is_never_admitted(self) -> None:
        """A sender that gave up waiting leaves the queue."""
        lanes = Lanes(1)
        lanes.wait("gone")
        lanes.wait("waiting")
        lanes.withdraw("gone")
        assert lanes.admit() == "waiting"

    def test_close_hands_back_what_was_never_handled(self) -> None:
        """The messages and the tickets come back, once."""
        lanes = Lanes(1)
        lanes.offer(Envelope("unhandled"))
        lanes.wait("ticket")
        undelivered, tickets = lanes.close()
        assert ([envelope.message for envelope in undelivered], tickets) == (["unhandled"], ["ticket"])
        assert lanes.close() == ([], [])


class TestBound:
    """Room, and who gets it."""

    async def test_a_sender_waits_for_room(self) -> None:
        """Scenario 1: N sends return, one waits, one receive admits it, and the length never exceeds N."""
        mailbox = Mailbox(3)
        async with senders_of(mailbox, 4) as senders:
            assert (messages(mailbox), senders.outcomes.get(3)) == ([0, 1, 2], None)
            assert (await mailbox.receive()).message == 0
            await settle()
            assert (messages(mailbox), senders.outcomes[3]) == ([1, 2, 3], "sent")

    async def test_waiting_senders_are_admitted_first_come_first_served(self) -> None:
        """Scenario 4: a hundred waiting senders get the places in the order in which they came."""
        mailbox = Mailbox(1)
        async with senders_of(mailbox, 101):
            assert [(await mailbox.receive()).message for _ in range(101)] == list(range(101))

    async def test_a_newcomer_does_not_overtake(self) -> None:
        """A send right after a receive queues behind those that wait, and a send that may not wait is refused."""
        mailbox = Mailbox(1)
        async with senders_of(mailbox, 2) as senders:
            await mailbox.receive()
            with pytest.raises(MailboxFull):
                mailbox.send_nowait(Envelope("overtaking"))
            await senders.start("newcomer")
            assert [(await mailbox.receive()).message for _ in range(2)] == [1, "newcomer"]

    async def test_order_per_sender(self) -> None:
        """Scenario 3: ten thousand messages of one sender, some of them waiting, arrive in send order."""
        mailbox = Mailbox(7)

        async def send_all() -> None:
            for n in range(10_000):
                await mailbox.send(Envelope(n))

        async with anyio.create_task_group() as group:
            group.start_soon(send_all)
            assert [(await mailbox.receive()).message for _ in range(10_000)] == list(range(10_000))


class TestOverflow:
    """Scenario 2: what a full mailbox does with one more; a drop is never silent."""

    async def test_fail_names_address_and_capacity(self) -> None:
        """Under `fail` the sender gets a typed error, both ways of sending."""
        mailbox = Mailbox(1, overflow="fail", address="desk")
        await mailbox.send(Envelope("first"))
        with pytest.raises(MailboxFull, match="'desk' is full") as caught:
            await mailbox.send(Envelope("second"))
        assert (caught.value.address, caught.value.capacity) == ("desk", 1)
        with pytest.raises(MailboxFull):
            mailbox.send_nowait(Envelope("third"))

    @pytest.mark.parametrize(
        ("overflow", "kept", "dropped"), [("drop_newest", ["old"], "new"), ("drop_oldest", ["new"], "old")]
    )
    async def test_drops_are_reported(self, overflow: Overflow, kept: list[str], dropped: str) -> None:
        """The message that is dropped goes to `undelivered` and is counted."""
        undelivered = Undelivered()
        mailbox = Mailbox(1, overflow=overflow, undelivered=undelivered)
        await mailbox.send(Envelope("old"))
        await mailbox.send(Envelope("new"))
        assert messages(mailbox) == kept
        assert undelivered.letters == [(dropped, "dropped")]
        assert mailbox.statistics().dropped == 1

    async def test_drop_policies_hold_without_waiting_too(self) -> None:
        """`send_nowait` obeys the same policy."""
        mailbox = Mailbox(1, overflow="drop_oldest")
        mailbox.send_nowait(Envelope("old"))
        mailbox.send_nowait(Envelope("new"))
        assert messages(mailbox) == ["new"]

    async def test_an_unknown_policy_is_refused(self) -> None:
        """The vocabulary is closed."""
        with pytest.raises(ValueError, match="overflow='explode' is not one of wait, fail"):
            Mailbox(overflow="explode")  # type: ignore[arg-type]


class TestControl:
    """Signals before data."""

    async def test_signals_overtake_a_full_mailbox(self) -> None:
        """Scenario 7: with ten thousand messages waiting and no room, a signal is what comes next."""
        mailbox = Mailbox(10_000)
        for n in range(10_000):
            mailbox.send_nowait(Envelope(n))
        mailbox.signal("stop")
        assert await mailbox.receive() == "stop"
        assert (await mailbox.receive()).message == 0

    async def test_signals_are_never_dropped(self) -> None:
        """Scenario 7: no overflow policy touches the control lane."""
        mailbox = Mailbox(1, overflow="drop_oldest")
        mailbox.signal("child-exit")
        for n in range(3):
            await mailbox.send(Envelope(n))
        assert await mailbox.receive() == "child-exit"

    async def test_a_signal_wakes_the_receiver(self) -> None:
        """A parked receiver does not wait for data."""
        mailbox = Mailbox()
        async with anyio.create_task_group() as group:
            group.start_soon(wait_all_blocked_then, mailbox.signal, "stop")
            assert await mailbox.receive() == "stop"

    async def test_a_receiver_of_signals_leaves_data_alone(self) -> None:
        """`receive_signal` sleeps through messages and hands out the signal."""
        mailbox = Mailbox()
        async with anyio.create_task_group() as group:
            mailbox.send_nowait(Envelope("data"))
            group.start_soon(wait_all_blocked_then, mailbox.signal, "stop")
            assert await mailbox.receive_signal() == "stop"
        assert messages(mailbox) == ["data"]

    async def test_a_closed_mailbox_ignores_signals(self) -> None:
        """A signal to an actor that has ended is no error and leaves nothing behind."""
        mailbox = Mailbox()
        mailbox.close()
        mailbox.signal("stop")
        assert mailbox.statistics().control == 0


async def wait_all_blocked_then(function: Callable[..., Any], *args: Any) -> None:
    """Call `function` once everybody else waits."""
    await settle()
    function(*args)


class TestClose:
    """The end of the actor."""

    async def test_sending_to_a_closed_mailbox_fails_at_once(self) -> None:
        """Scenario 9: a typed error that names the address, however one sends."""
        mailbox = Mailbox(address="desk")
        mailbox.close()
        with pytest.raises(MailboxClosed, match="'desk' is closed"):
            await mailbox.send(Envelope("late"))
        with pytest.raises(MailboxClosed):
            mailbox.send_nowait(Envelope("late"))

    async def test_waiting_senders_are_woken(self) -> None:
        """Scenario 10: ten waiting senders are told that it is closed; none has enqueued anything."""
        mailbox = Mailbox(1)
        async with senders_of(mailbox, 11) as senders:
            assert [envelope.message for envelope in mailbox.close()] == [0]
            await settle()
            assert [senders.outcomes[n] for n in range(1, 11)] == ["closed"] * 10
            assert (messages(mailbox), mailbox.lanes.reserved) == ([], 0)

    async def test_a_sender_admitted_just_before_the_close_is_told_too(self) -> None:
        """Its place is gone with the mailbox, so its message was not taken."""
        mailbox = Mailbox(1)
        async with senders_of(mailbox, 2) as senders:
            await mailbox.receive()
            mailbox.close()
            await settle()
            assert senders.outcomes[1] == "closed"
            assert (messages(mailbox), mailbox.lanes.reserved) == ([], 0)


class TestCancellation:
    """A send that raised has enqueued nothing; a send that returned has enqueued one message."""

    async def test_a_cancelled_sender_has_sent_nothing(self, kind: str) -> None:
        """Scenario 5: cancelled while waiting, the message is never delivered and the next sender gets the place."""
        mailbox = Mailbox(1)
        async with senders_of(mailbox, 3) as senders:
            senders.cancel(1, kind)
            await settle()
            assert senders.outcomes[1] == "cancelled"
            assert [(await mailbox.receive()).message for _ in range(2)] == [0, 2]

    @pytest.mark.parametrize("order", ["admit, cancel", "cancel, admit"])
    async def test_a_sender_cancelled_in_the_tick_of_its_admission(self, kind: str, order: str) -> None:
        """Scenario 5: in one tick, admission and cancellation: raised and not delivered, or returned and delivered."""
        mailbox = Mailbox(1)
        async with senders_of(mailbox, 3) as senders:
            if order == "cancel, admit":
                senders.cancel(1, kind)
            assert (await mailbox.receive()).message == 0  # does not yield
            if order == "admit, cancel":
                senders.cancel(1, kind)
            await settle()
            delivered = messages(mailbox)
            assert delivered == ([1] if senders.outcomes[1] == "sent" else [2])
            assert mailbox.lanes.reserved == 0

    async def test_a_receiver_cancelled_in_the_tick_of_the_hand_over(self, kind: str) -> None:
        """Scenario 6: the message is received, or it stays queued for the next receive."""
        mailbox = Mailbox()
        received: list[Any] = []
        scope = anyio.CancelScope()
        tasks: list[asyncio.Task[Any] | None] = []

        async def receive() -> None:
            tasks.append(native_task())
            with scope:
                try:
                    received.append(await mailbox.receive())
                except anyio.get_cancelled_exc_class():
                    if kind == "scope":
                        raise

        async with anyio.create_task_group() as group:
            group.start_soon(receive)
            await settle()
            mailbox.send_nowait(Envelope("precious"))
            task = tasks[0]
            if kind == "native" and task is not None:
                task.cancel()
            else:
                scope.cancel()
        assert [envelope.message for envelope in received] + messages(mailbox) == ["precious"]
        assert received == [] or kind == "scope"

    async def test_a_cancelled_wait_leaves_no_trace(self, kind: str) -> None:
        """After all waiting senders are cancelled the mailbox is as if they had never come."""
        mailbox = Mailbox(1)
        async with senders_of(mailbox, 4) as senders:
            for n in range(1, 4):
                senders.cancel(n, kind)
            await settle()
            assert mailbox.statistics().waiting_senders == 0
            await mailbox.receive()
            mailbox.send_nowait(Envelope("next"))
            assert messages(mailbox) == ["next"]


class Stress:
    """Senders and a receiver that are cancelled at random, and a count of what happened to each message."""

    def __init__(self, seed: int, capacity: int) -> None:
        self.random = random.Random(seed)
        self.mailbox = Mailbox(capacity)
        self.sent: dict[int, list[int]] = {}
        self.handled: list[tuple[int, int]] = []
        self.most = 0
        self.victims: dict[str, tuple[anyio.CancelScope, asyncio.Task[Any] | None]] = {}
        self.senders_left = 0

    async def _shield(self, name: str, function: Callable[[], Any]) -> bool:
        """Run one cancellable step; whether it returned."""
        with anyio.CancelScope() as scope:
            self.victims[name] = (scope, native_task())
            try:
                await function()
                return True
            except anyio.get_cancelled_exc_class():
                if scope.cancel_called:
                    raise
                task = native_task()
                assert task is not None
                while task.uncancel():
                    pass
            finally:
                del self.victims[name]
        return False

    async def send(self, sender: int, count: int) -> None:
        """Send 0, 1, … and note those whose send returned."""
        for n in range(count):
            # Noted in the tick in which the send returned, as a caller would act on it.
            async def step(n: int = n) -> None:
                await self.mailbox.send(Envelope((sender, n)))
                self.sent.setdefault(sender, []).append(n)

            await self._shield(f"sender {sender}", step)
        self.senders_left -= 1
        if not self.senders_left:
            self.mailbox.signal("over")

    async def receive(self) -> None:
        """Receive until the senders are done, some time after that until nothing is left."""

        async def step() -> None:
            self.most = max(self.most, len(self.mailbox.lanes.data) + self.mailbox.lanes.reserved)
            got = await self.mailbox.receive()
            if got == "over":
                self.over = True
            else:
                self.handled.append(got.message)

        self.over = False
        while not self.over or self.mailbox.lanes.data:
            await self._shield("receiver", step)
            if self.random.random() < 0.2:
                await checkpoint()

    async def cancel(self) -> None:
        """Cancel somebody at random, sometimes in the very tick of an admission."""
        while not self.over or self.mailbox.lanes.data:
            await checkpoint()
            for name in self.random.sample(sorted(self.victims), min(2, len(self.victims))):
                scope, task = self.victims[name]
                if task is not None and self.random.random() < 0.5:
                    task.cancel()
                else:
                    scope.cancel()

    async def run(self, senders: int, count: int) -> None:
        """One round."""
        self.over = False
        self.senders_left = senders
        async with anyio.create_task_group() as group:
            for sender in range(senders):
                group.start_soon(self.send, sender, count)
            group.start_soon(self.receive)
            group.start_soon(self.cancel)


@pytest.mark.parametrize("capacity", [1, 2, 7])
async def test_random_cancellation_loses_doubles_and_reorders_nothing(capacity: int) -> None:
    """Scenarios 5, 6: a hundred seeded rounds; what was sent is what is handled, in order, within the bound."""
    for seed in range(100):
        stress = Stress(seed, capacity)
        await stress.run(senders=5, count=6)
        handled: dict[int, list[int]] = {}
        for sender, n in stress.handled:
            handled.setdefault(sender, []).append(n)
        assert handled == stress.sent, f"seed {seed}"
        assert stress.most <= capacity, f"seed {seed}"
        assert (stress.mailbox.lanes.reserved, stress.mailbox.statistics().waiting_senders) == (0, 0)


class TestBudget:
    """Telling does not yield, but nobody runs for ever."""

    async def test_a_sender_yields_at_every_64th_message(self) -> None:
        """Another task runs at every 64th message (on trio, whose order is random, at every 128th at the latest)."""
        mailbox = Mailbox(1000)
        depths: list[int] = []
        await self._run_beside(mailbox, depths, [mailbox])
        steps = [after - before for before, after in itertools.pairwise(depths)]
        assert MESSAGES_PER_CHECKPOINT <= max(steps) <= 2 * MESSAGES_PER_CHECKPOINT

    async def test_a_sender_that_fans_out_yields_too(self) -> None:
        """The budget is the sender's: a thousand mailboxes that get one message each make no difference."""
        mailboxes = [Mailbox(outside=Budget()) for _ in range(1000)]
        depths: list[int] = []
        current_budget.set(Budget("fan"))
        await self._run_beside(mailboxes[0], depths, mailboxes)
        assert len(depths) >= 1000 // MESSAGES_PER_CHECKPOINT // 2

    @staticmethod
    async def _run_beside(mailbox: Mailbox, depths: list[int], mailboxes: list[Mailbox]) -> None:
        """Send a thousand messages in turn to `mailboxes`, beside a task that notes the depth whenever it may run."""
        done = False

        async def look() -> None:
            while not done:
                depths.append(len(mailbox.lanes.data))
                await checkpoint()

        async with anyio.create_task_group() as group:
            group.start_soon(look)
            for n in range(1000):
                await mailboxes[n % len(mailboxes)].send(Envelope(n))
            done = True

    async def test_a_tight_loop_can_be_cancelled(self) -> None:
        """Scenario 47: a deadline around a sender that never waits for room ends it."""
        mailbox = Mailbox(1, overflow="drop_oldest")
        with anyio.move_on_after(0.001) as scope:
            while True:
                await mailbox.send(Envelope("again"))
        assert scope.cancelled_caught


class TestPost:
    """`Mailbox.post`: for the runtime, which cannot wait and has nobody to raise at."""

    async def test_with_room_it_enqueues_and_wakes_the_receiver(self) -> None:
        """Like a `send`, but at once."""
        mailbox = Mailbox(2)
        async with anyio.create_task_group() as group:
            received: list[Any] = []

            async def receive() -> None:
                received.append((await mailbox.receive()).message)

            group.start_soon(receive)
            await settle()
            mailbox.post(Envelope("posted"))
            await settle()
            assert (received, mailbox.statistics().accepted) == (["posted"], 1)

    @pytest.mark.parametrize("capacity", [1, 3])
    async def test_under_wait_it_takes_its_turn_among_senders(self, capacity: int) -> None:
        """Scenario 5: one queue for both, in the order in which they came; the bound holds at every moment."""
        mailbox = Mailbox(capacity)
        async with anyio.create_task_group() as group:
            senders = Senders(mailbox, group)
            for n in range(capacity):
                mailbox.post(Envelope(f"room {n}"))
            for n in range(3):
                await senders.start(f"sent {n}")
                mailbox.post(Envelope(f"posted {n}"))
            assert mailbox.statistics().waiting_senders == 6
            assert mailbox.statistics().depth == capacity
            order: list[Any] = []
            for _ in range(capacity + 6):
                order.append((await mailbox.receive()).message)
                assert len(mailbox.lanes.data) + mailbox.lanes.reserved <= capacity
                await settle()
        waiting = [f"{how} {n}" for n in range(3) for how in ("sent", "posted")]
        assert order == [*(f"room {n}" for n in range(capacity)), *waiting]
        assert set(senders.outcomes.values()) == {"sent"}

    async def test_behind_a_sender_that_is_cancelled(self) -> None:
        """Scenario 6: a sender that went away, or goes in the very tick in which it is admitted, keeps nobody back."""
        for meanwhile in (True, False):
            mailbox = Mailbox(1)
            async with anyio.create_task_group() as group:
                senders = Senders(mailbox, group)
                mailbox.post(Envelope("first"))
                await senders.start("sender")
                mailbox.post(Envelope("posted"))
                senders.scopes["sender"].cancel()
                if not meanwhile:
                    await settle()
                assert (await mailbox.receive()).message == "first"
                await settle()
                assert messages(mailbox) == ["posted"]
                assert senders.outcomes == {"sender": "cancelled"}
                assert (mailbox.lanes.reserved, mailbox.statistics().waiting_senders) == (0, 0)

    @pytest.mark.parametrize(
        ("overflow", "left", "lost"),
        [("fail", ["old"], ["new"]), ("drop_newest", ["old"], ["new"]), ("drop_oldest", ["new"], ["old"])],
    )
    async def test_without_room_under_the_other_policies(
        self, overflow: Overflow, left: list[str], lost: list[str]
    ) -> None:
        """Scenario 3: one of the two is reported as dropped, and counted; nothing is raised."""
        undelivered = Undelivered()
        mailbox = Mailbox(1, overflow=overflow, undelivered=undelivered)
        mailbox.post(Envelope("old"))
        mailbox.post(Envelope("new"))
        assert messages(mailbox) == left
        assert undelivered.letters == [(message, "dropped") for message in lost]
        assert (mailbox.dropped, mailbox.statistics().waiting_senders) == (1, 0)

    async def test_a_closed_mailbox(self) -> None:
        """It is reported as closed, whether it was posted afterwards or waited for room."""
        undelivered = Undelivered()
        mailbox = Mailbox(1, undelivered=undelivered)
        for message in ("in", "waits 1", "waits 2"):
            mailbox.post(Envelope(message))
        assert [envelope.message for envelope in mailbox.close()] == ["in"]
        mailbox.post(Envelope("late"))
        assert undelivered.letters == [("waits 1", "closed"), ("waits 2", "closed"), ("late", "closed")]
        assert (mailbox.lanes.reserved, mailbox.statistics().accepted) == (0, 1)

    async def test_it_never_yields(self) -> None:
        """Ten thousand in one go, without a task for any of them."""
        mailbox = Mailbox(10)
        for n in range(10_000):
            mailbox.post(Envelope(n))
        assert mailbox.statistics().waiting_senders == 9_990
        assert [(await mailbox.receive()).message for _ in range(10_000)] == list(range(10_000))
        assert mailbox.statistics().waiting_senders == 0


async def test_statistics() -> None:
    """The record counts what waits, who waits, and what was taken and dropped."""
    mailbox = Mailbox(2)
    async with senders_of(mailbox, 3):
        mailbox.signal("stop")
        seen = mailbox.statistics()
        assert (seen.depth, seen.capacity, seen.control) == (2, 2, 1)
        assert (seen.waiting_senders, seen.accepted, seen.dropped, seen.closed) == (1, 2, 0, False)
    mailbox.close()
    assert mailbox.statistics().closed


class TestReply:
    """A slot filled once."""

    async def test_a_value_reaches_the_asker(self) -> None:
        """`wait` returns what `succeed` was given."""
        reply = Reply()
        assert reply.succeed(7)
        assert await reply.wait() == 7

    async def test_an_error_is_raised_at_the_asker(self) -> None:
        """`wait` raises what `fail` was given."""
        reply = Reply()
        assert reply.fail(KeyError("gone"))
        with pytest.raises(KeyError, match="gone"):
            await reply.wait()

    async def test_the_first_answer_counts(self) -> None:
        """A second answer is refused, whichever kind it is."""
        reply = Reply()
        reply.succeed("first")
        assert not reply.succeed("second")
        assert not reply.fail(KeyError())
        assert await reply.wait() == "first"

    async def test_an_abandoned_slot_takes_no_answer(self) -> None:
        """Whoever answers too late is told so."""
        reply = Reply()
        assert reply.waiting
        with anyio.move_on_after(0):
            await reply.wait()
        assert not reply.waiting
        assert not reply.succeed("late")


def test_an_envelope_says_how_and_by_whom() -> None:
    """The representation shows no contents: they may be secret."""
    assert repr(Envelope("pw", None, "clerk")) == "<Envelope told str by clerk>"
    assert repr(Envelope("pw")) == "<Envelope told str by outside>"
