"""What every dispatcher, wire and quota must do, as checks that any implementation can run under its own tests.

A check is an async function that takes `make`. Each call of `make` returns a block that opens another door to the same
dispatcher, wire or quota, as another process would have; it is empty when the check begins. What one process has only
one of may be the same object behind all doors. A check fails with an `AssertionError`, or with what was raised.

Checks run in virtual time as well as in real time. That something does not happen is watched for `A_WHILE`, and what
must happen is waited for `PATIENCE`.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeAlias, TypeVar, cast

import anyio

from ..exchange import (
    AddressTaken,
    Allowance,
    Delivery,
    Dispatcher,
    Missed,
    NobodyThere,
    Quota,
    Saturated,
    Stream,
    Wire,
)
from .journals import ODD_IDS

T = TypeVar("T")

#: Opens another door to the dispatcher that holds so many jobs.
MakeDispatcher: TypeAlias = Callable[[int], AbstractAsyncContextManager[Dispatcher]]
#: Opens another door to the wire on which so many messages wait at an address and so many events are kept of a topic.
MakeWire: TypeAlias = Callable[[int, int], AbstractAsyncContextManager[Wire]]
#: Opens another door to the quota with these budgets.
MakeQuota: TypeAlias = Callable[[Mapping[str, Allowance]], AbstractAsyncContextManager[Quota]]

#: Seconds.
A_WHILE, PATIENCE = 0.2, 20.0
ODD_BYTES = (b"", b"\x00", b"\r\n", bytes(range(256)), b"x" * 100_000)


# -- dispatchers


async def jobs_come_in_the_order_in_which_they_came(make: MakeDispatcher) -> None:
    """With their ids and bytes, whatever these are."""
    jobs = dict(zip(ODD_IDS, ODD_BYTES * 3, strict=False))
    async with make(100) as one, make(100) as other:
        for run_id, job in jobs.items():
            await one.submit(run_id, job)
        async with other.deliveries(100) as deliveries:
            taken = [await soon(deliveries) for _ in jobs]
            assert [(each.run_id, each.job) for each in taken] == list(jobs.items())
            assert {each.attempt for each in taken} == {1}
            for each in taken:
                each.done()


async def a_waiting_taker_gets_what_comes(make: MakeDispatcher) -> None:
    """Through whichever door."""
    async with (
        make(10) as one,
        make(10) as other,
        other.deliveries(1) as deliveries,
        anyio.create_task_group() as group,
    ):
        group.start_soon(after, A_WHILE, lambda: one.submit("r", b"job"))
        taken = await soon(deliveries)
        assert (taken.run_id, taken.job) == ("r", b"job")
        taken.done()


async def a_full_dispatcher_refuses_at_once(make: MakeDispatcher) -> None:
    """What is worked on and what lies there for later count, what is done does not."""
    async with make(3) as one, make(3) as other, one.deliveries(3) as deliveries:
        for run_id in "abc":
            await one.submit(run_id, b"")
        first, second = await soon(deliveries), await soon(deliveries)
        second.release(3600)
        for dispatcher in (one, other):
            with refused(Saturated), anyio.fail_after(PATIENCE):
                await dispatcher.submit("d", b"")
        first.done()
        await eventually(lambda: one.submit("d", b""), Saturated)
        assert [(await soon(deliveries)).run_id for _ in range(2)] == ["c", "d"]


async def a_job_is_there_once_until_it_is_done(make: MakeDispatcher) -> None:
    """Its id stands for it. What was submitted first holds. Then it may come again as a new one."""
    async with make(1) as one, make(1) as other, other.deliveries(2) as deliveries:
        for dispatcher in (one, other, one):
            await dispatcher.submit("r", b"first")
            await dispatcher.submit("r", b"another")
        taken = await soon(deliveries)
        assert (taken.job, taken.attempt) == (b"first", 1)
        await one.submit("r", b"another")
        assert not await comes(deliveries)
        taken.release(A_WHILE)
        await one.submit("r", b"another")
        taken = await soon(deliveries)
        assert (taken.job, taken.attempt) == (b"first", 2)
        taken.done()
        await eventually(lambda: one.submit("next", b""), Saturated)
        (await soon(deliveries)).done()
        await eventually(lambda: one.submit("r", b"new"), Saturated)
        taken = await soon(deliveries)
        assert (taken.job, taken.attempt) == (b"new", 1)
        taken.done()


async def a_taker_gets_as_many_as_it_has_room_for(make: MakeDispatcher) -> None:
    """The others wait for whoever has more room."""
    async with make(10) as one, make(10) as other, one.deliveries(2) as small, other.deliveries(2) as large:
        for run_id in "abcd":
            await one.submit(run_id, b"")
        first, second = await soon(small), await soon(small)
        assert not await comes(small)
        assert (await soon(large)).run_id == "c"
        first.done()
        assert (await soon(small)).run_id == "d"
        second.release(3600)
        await one.submit("e", b"")
        assert (await soon(small)).run_id == "e"


async def room_may_be_shared(make: MakeDispatcher) -> None:
    """With whatever else uses it. It is all free at the end."""
    room = anyio.CapacityLimiter(2)
    async with make(10) as one:
        for run_id in "abc":
            await one.submit(run_id, b"")
        async with one.deliveries(room) as deliveries:
            room.acquire_on_behalf_of_nowait("other work")
            first = await soon(deliveries)
            assert room.borrowed_tokens == 2
            assert not await comes(deliveries)
            room.release_on_behalf_of("other work")
            assert (await soon(deliveries)).run_id == "b"
            first.done()
            assert (await soon(deliveries)).run_id == "c"
        assert room.borrowed_tokens == 0


async def what_is_given_back_comes_again(make: MakeDispatcher) -> None:
    """Before what came later, as the next attempt."""
    async with make(10) as one, make(10) as other, one.deliveries(1) as deliveries:
        await one.submit("a", b"job")
        await other.submit("b", b"")
        for attempt in range(1, 5):
            taken = await soon(deliveries)
            assert (taken.run_id, taken.job, taken.attempt) == ("a", b"job", attempt)
            taken.release()
        async with other.deliveries(1) as others:
            assert (await soon(others)).attempt == 5


async def what_is_given_back_for_later_comes_later(make: MakeDispatcher) -> None:
    """Not before its time, and it holds nothing up meanwhile."""
    async with make(10) as one, one.deliveries(5) as deliveries:
        await one.submit("a", b"")
        await one.submit("b", b"")
        began = anyio.current_time()
        (await soon(deliveries)).release(3 * A_WHILE)
        assert (await soon(deliveries)).run_id == "b"
        assert anyio.current_time() < began + 3 * A_WHILE
        taken = await soon(deliveries)
        assert (taken.run_id, taken.attempt) == ("a", 2)
        assert anyio.current_time() >= began + 3 * A_WHILE - 0.05


async def a_taker_that_leaves_gives_back(make: MakeDispatcher) -> None:
    """What it has not said a word about, in the old order. Afterwards its words are without effect."""
    async with make(10) as one, make(10) as other:
        for run_id in "abcd":
            await one.submit(run_id, b"")
        async with one.deliveries(3) as deliveries:
            late, done, dropped = [await soon(deliveries) for _ in range(3)]
            done.done()
        late.done()
        dropped.release(3600)
        async with other.deliveries(3) as deliveries:
            taken = [await soon(deliveries) for _ in range(3)]
            assert [(each.run_id, each.attempt) for each in taken] == [("a", 2), ("c", 2), ("d", 1)]
            late.done()
            for each in taken:
                each.done()
            assert not await comes(deliveries)


async def a_cancelled_taker_gives_back(make: MakeDispatcher) -> None:
    """As any that leaves; and one that is cancelled while it waits takes nothing with it."""
    async with make(10) as one:
        await one.submit("a", b"")

        async def take() -> None:
            async with one.deliveries(2) as deliveries:
                async for _ in deliveries:
                    taken.set()

        for attempt in range(1, 4):
            taken = anyio.Event()
            async with anyio.create_task_group() as group:
                group.start_soon(take)
                with anyio.fail_after(PATIENCE):
                    await taken.wait()
                await anyio.sleep(A_WHILE)  # it waits for another one
                group.cancel_scope.cancel()
            async with one.deliveries(1) as deliveries:
                delivery = await soon(deliveries)
                assert delivery.attempt == 2 * attempt


async def an_iterator_goes_on_after_a_cancellation(make: MakeDispatcher) -> None:
    """And what it has handed out stays where it is."""
    async with make(10) as one, one.deliveries(2) as deliveries:
        await one.submit("a", b"")
        first = await soon(deliveries)
        assert not await comes(deliveries)
        await one.submit("b", b"")
        assert (await soon(deliveries)).run_id == "b"
        first.done()


async def closing_wakes_who_waits(make: MakeDispatcher) -> None:
    """For a job, and for room. A second time changes nothing, and what is closed hands out no more."""
    for count in (0, 2):
        async with make(10) as one, one.deliveries(1) as deliveries:
            for number in range(count):
                await one.submit(f"{number}", b"")
            seen: list[Delivery] = []

            async def take(deliveries: Stream[Delivery] = deliveries, seen: list[Delivery] = seen) -> None:
                async for delivery in deliveries:
                    seen.append(delivery)

            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as group:
                    group.start_soon(take)
                    group.start_soon(after, A_WHILE, deliveries.aclose)
            assert len(seen) == count // 2
            await deliveries.aclose()
            assert [each async for each in deliveries] == []


async def a_delivery_is_a_block(make: MakeDispatcher) -> None:
    """Left without a word, or by an error, it is given back."""
    async with make(10) as one, one.deliveries(1) as deliveries:
        await one.submit("a", b"")
        with await soon(deliveries):
            pass
        with refused(ZeroDivisionError), await soon(deliveries):
            raise ZeroDivisionError
        with await soon(deliveries) as delivery:
            assert delivery.attempt == 3
            delivery.done()
        assert not await comes(deliveries)


async def the_first_word_counts(make: MakeDispatcher) -> None:
    """Whatever is said later."""
    async with make(10) as one, one.deliveries(2) as deliveries:
        await one.submit("a", b"")
        await one.submit("b", b"")
        first, second = await soon(deliveries), await soon(deliveries)
        first.release()
        first.done()
        second.done()
        second.release()
        taken = await soon(deliveries)
        assert (taken.run_id, taken.attempt) == ("a", 2)
        first.done()
        assert not await comes(deliveries)
        taken.release()
        assert (await soon(deliveries)).attempt == 3


async def an_abandoned_taker_gives_back(make: MakeDispatcher) -> None:
    """When nobody has its iterator or a delivery of it any more. As long as somebody has one of these, it stays."""
    async with make(10) as one, one.deliveries(2) as others:
        await one.submit("a", b"")
        await one.submit("b", b"")
        abandoned = one.deliveries(2)
        assert (await soon(abandoned)).run_id == "a"
        delivery = await soon(abandoned)
        assert not await comes(others)
        del abandoned
        gc.collect()
        assert not await comes(others)
        del delivery
        gc.collect()
        assert [(each.run_id, each.attempt) for each in (await soon(others), await soon(others))] == [
            ("a", 2),
            ("b", 2),
        ]


async def many_takers_share_the_work(make: MakeDispatcher) -> None:
    """Nothing is lost, nothing is done twice, and nobody has more than it has room for."""
    count, done = 200, list[str]()
    finished = anyio.Event()

    async def work(dispatcher: Dispatcher) -> None:
        in_hand = 0

        async def do(delivery: Delivery) -> None:
            nonlocal in_hand
            in_hand += 1
            assert in_hand <= 3
            await anyio.sleep(0.001)
            in_hand -= 1
            if delivery.attempt == 1 and delivery.run_id.endswith("7"):
                delivery.release(0.002)
                return
            delivery.done()
            done.append(delivery.run_id)
            if len(done) == count:
                finished.set()

        async with dispatcher.deliveries(3) as deliveries, anyio.create_task_group() as hands:
            async for delivery in deliveries:
                hands.start_soon(do, delivery)

    async with make(50) as one, make(50) as other:
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                for dispatcher in (one, other, one, other):
                    group.start_soon(work, dispatcher)
                for number in range(count):
                    await eventually(lambda number=number: one.submit(f"{number}", b""), Saturated, pause=0.001)
                await finished.wait()
                group.cancel_scope.cancel()
    assert sorted(done, key=int) == [f"{number}" for number in range(count)]


async def a_dispatcher_refuses_what_makes_no_sense(make: MakeDispatcher) -> None:
    """Before anything happens."""
    async with make(10) as one:
        with refused(TypeError):
            await one.submit("a", cast("Any", "text"))
        with refused(ValueError):
            one.deliveries(0)
        await one.submit("a", b"")
        async with one.deliveries(1) as deliveries:
            delivery = await soon(deliveries)
            for delay in (-1.0, float("nan"), float("inf")):
                with refused(ValueError):
                    delivery.release(delay)
            delivery.release()
            assert (await soon(deliveries)).attempt == 2


DISPATCHER_CHECKS: tuple[Callable[[MakeDispatcher], Awaitable[None]], ...] = (
    jobs_come_in_the_order_in_which_they_came,
    a_waiting_taker_gets_what_comes,
    a_full_dispatcher_refuses_at_once,
    a_job_is_there_once_until_it_is_done,
    a_taker_gets_as_many_as_it_has_room_for,
    room_may_be_shared,
    what_is_given_back_comes_again,
    what_is_given_back_for_later_comes_later,
    a_taker_that_leaves_gives_back,
    a_cancelled_taker_gives_back,
    an_iterator_goes_on_after_a_cancellation,
    closing_wakes_who_waits,
    a_delivery_is_a_block,
    the_first_word_counts,
    an_abandoned_taker_gives_back,
    many_takers_share_the_work,
    a_dispatcher_refuses_what_makes_no_sense,
)


# -- wires


async def messages_come_in_the_order_in_which_they_were_sent(make: MakeWire) -> None:
    """Whatever the address and the bytes."""
    async with make(10, 10) as one, make(10, 10) as other:
        for address in ODD_IDS:
            async with other.receive(address) as messages:
                for message in ODD_BYTES:
                    await one.send(address, message)
                assert [await soon(messages) for _ in ODD_BYTES] == list(ODD_BYTES)


async def a_message_to_nobody_is_refused(make: MakeWire) -> None:
    """Before somebody is there and after they have left. Whoever comes next finds nothing."""
    async with make(10, 10) as one, make(10, 10) as other:
        for _ in range(2):
            with refused(NobodyThere), anyio.fail_after(PATIENCE):
                await one.send("a", b"lost")
            async with other.receive("a") as messages, other.receive("b"):
                assert not await comes(messages)
                await one.send("a", b"taken")
                assert await soon(messages) == b"taken"


async def senders_wait_while_hands_are_full(make: MakeWire) -> None:
    """They get in as they came, and nobody else is held up."""
    async with make(2, 10) as one, make(2, 10) as other, other.receive("a") as messages, other.receive("b") as others:
        sent: list[int] = []

        async def send(number: int) -> None:
            await one.send("a", b"%d" % number)
            sent.append(number)

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                for number in range(5):
                    group.start_soon(send, number)
                    await anyio.sleep(A_WHILE)
                assert sent == [0, 1]
                await one.send("b", b"not full")
                assert await soon(others) == b"not full"
                for number in range(5):
                    assert await soon(messages) == b"%d" % number
                    await anyio.sleep(A_WHILE)  # two that are let in together may come in either order
        assert sorted(sent) == [0, 1, 2, 3, 4]


async def what_was_taken_can_be_had_after_the_block(make: MakeWire) -> None:
    """Each message whose sender was told so, and none of the others."""
    async with make(2, 10) as one:
        outcomes: dict[bytes, bool] = {}

        async def send(message: bytes) -> None:
            try:
                await one.send("a", message)
                outcomes[message] = True
            except NobodyThere:
                outcomes[message] = False

        async with anyio.create_task_group() as group, one.receive("a") as messages:
            for message in (b"0", b"1", b"2", b"3", b"4"):
                group.start_soon(send, message)
                await anyio.sleep(A_WHILE)
            assert await soon(messages) == b"0"
        left = [message async for message in messages]
        assert [b"0", *left] == [message for message, taken in outcomes.items() if taken]
        assert len(outcomes) == 5
        assert not outcomes[b"4"]


async def an_address_has_one_receiver(make: MakeWire) -> None:
    """The next one may come when it has left."""
    async with make(10, 10) as one:
        async with one.receive("a") as messages:
            with refused(AddressTaken):
                async with one.receive("a"):
                    pass
            await one.send("a", b"first")
            assert await soon(messages) == b"first"
        async with one.receive("a") as messages:
            await one.send("a", b"second")
            assert await soon(messages) == b"second"


async def a_cancelled_receiver_loses_nothing(make: MakeWire) -> None:
    """Its iterator goes on."""
    async with make(10, 10) as one, one.receive("a") as messages:
        for number in range(3):
            assert not await comes(messages)
            await one.send("a", b"%d" % number)
            assert await soon(messages) == b"%d" % number


async def a_cancelled_sender_leaves_the_line(make: MakeWire) -> None:
    """Those behind move up, and nothing comes twice."""
    async with make(1, 10) as one, one.receive("a") as messages:
        await one.send("a", b"0")
        with anyio.move_on_after(A_WHILE) as scope:
            await one.send("a", b"cancelled")
        assert scope.cancelled_caught
        async with anyio.create_task_group() as group:
            group.start_soon(one.send, "a", b"1")
            got = [await soon(messages)]
            while got[-1] != b"1":
                got.append(await soon(messages))
            assert got in ([b"0", b"1"], [b"0", b"cancelled", b"1"])
        assert not await comes(messages)


async def events_are_numbered_by_topic(make: MakeWire) -> None:
    """From 1. Addresses are something else."""
    async with make(10, 10) as one:
        assert [one.emit("a", b"") for _ in range(3)] == [1, 2, 3]
        assert [one.emit("b", b"") for _ in range(2)] == [1, 2]
        assert one.emit("a", b"") == 4
        with refused(NobodyThere):
            await one.send("a", b"")


async def a_follower_gets_what_is_kept_then_what_comes(make: MakeWire) -> None:
    """After the number that it knows, with no gap and no repetition in between."""
    async with make(10, 100) as one, make(10, 100) as other:
        for topic in ODD_IDS:
            for number in range(1, 6):
                assert one.emit(topic, b"%d" % number) == number
            for after, first in ((None, 1), (0, 1), (2, 3), (4, 5), (5, 6)):
                async with other.follow(topic, after) as follower:
                    seen = [await soon(follower) for _ in range(first, 6)]
                    assert seen == [(number, b"%d" % number) for number in range(first, 6)]
        async with other.follow("a") as early, anyio.create_task_group() as group:
            group.start_soon(after_a_while_emit, one, "a", (b"live", *ODD_BYTES))
            got = [await soon(early) for _ in range(1 + len(ODD_BYTES))]
            assert got == list(enumerate((b"live", *ODD_BYTES), 1))


async def followers_do_not_share(make: MakeWire) -> None:
    """Each gets everything, at its own pace; one that is forgotten is in nobody's way."""
    async with make(10, 100) as one, one.follow("a") as fast, one.follow("a") as slow:
        one.follow("a")
        for number in range(1, 6):
            one.emit("a", b"%d" % number)
            assert await soon(fast) == (number, b"%d" % number)
        assert [await soon(slow) for _ in range(5)] == [(number, b"%d" % number) for number in range(1, 6)]
        assert not await comes(fast)
        one.emit("a", b"6")
        assert await soon(fast) == await soon(slow) == (6, b"6")


async def a_late_follower_is_told_what_it_missed(make: MakeWire) -> None:
    """Once, if it says what it knows; then it gets what is kept."""
    async with make(10, 4) as one, make(10, 4) as other:
        for number in range(1, 11):
            one.emit("a", b"%d" % number)
        kept = [(number, b"%d" % number) for number in range(7, 11)]
        for after in (0, 2, 5):
            async with other.follow("a", after) as follower:
                with refused(Missed) as caught:
                    await soon(follower)
                missed = caught[0]
                assert isinstance(missed, Missed)
                assert (missed.topic, missed.first, missed.last) == ("a", after + 1, 6)
                assert [await soon(follower) for _ in range(4)] == kept
        for after in (None, 6):
            async with other.follow("a", after) as follower:
                assert [await soon(follower) for _ in range(4)] == kept


async def a_slow_follower_loses_nothing_silently(make: MakeWire) -> None:
    """Each number is an event or in a `Missed`, in order; and nobody waits for it."""
    async with make(10, 4) as one, one.follow("a") as follower:
        covered: list[int] = []
        for total in (3, 20, 21, 40):
            while one.emit("a", b"event") < total:
                pass
            while not covered or covered[-1] < total:
                try:
                    number, event = await soon(follower)
                    assert event == b"event"
                    covered.append(number)
                except Missed as missed:
                    covered += range(missed.first, missed.last + 1)
        assert covered == list(range(1, 41))


async def a_number_of_a_former_life_stands_for_nothing(make: MakeWire) -> None:
    """Whoever knows more than there is sees the numbers begin anew."""
    async with make(10, 10) as one, one.follow("a", 7) as early:
        one.emit("a", b"first")
        assert await soon(early) == (1, b"first")
        async with one.follow("a", 2) as late:
            assert await soon(late) == (1, b"first")


async def followers_end_with_their_topic(make: MakeWire) -> None:
    """After the last event: who waits, who is slow, and who comes later. Another event opens it again."""
    async with make(10, 10) as one, one.follow("a") as waiting, one.follow("a") as slow:
        one.emit("a", b"first")
        assert await soon(waiting) == (1, b"first")
        async with anyio.create_task_group() as group:
            group.start_soon(after, A_WHILE, lambda: ended(one, "a"))
            assert await rest(waiting) == []
        assert await rest(slow) == [(1, b"first")]
        assert await rest(slow) == []
        assert await rest(one.follow("a")) == [(1, b"first")]
        assert one.emit("a", b"second") == 2
        async with one.follow("a") as late:
            assert [await soon(late), await soon(late)] == [(1, b"first"), (2, b"second")]
            assert not await comes(late)
            one.end("a")
            assert await rest(late) == []


async def closing_a_follower_ends_it(make: MakeWire) -> None:
    """Also for whoever waits at it. The others go on."""
    async with make(10, 10) as one, one.follow("a") as other:
        follower = one.follow("a")
        async with anyio.create_task_group() as group:
            group.start_soon(after, A_WHILE, follower.aclose)
            assert await rest(follower) == []
        one.emit("a", b"first")
        await follower.aclose()
        assert await rest(follower) == []
        assert await soon(other) == (1, b"first")


async def a_cancelled_follower_goes_on(make: MakeWire) -> None:
    """With the next number."""
    async with make(10, 10) as one, one.follow("a") as follower:
        for number in range(1, 4):
            assert not await comes(follower)
            one.emit("a", b"")
            assert (await soon(follower))[0] == number


async def a_wire_refuses_what_makes_no_sense(make: MakeWire) -> None:
    """Before anything happens."""
    async with make(10, 10) as one, one.receive("a") as messages:
        with refused(TypeError):
            await one.send("a", cast("Any", "text"))
        with refused(TypeError):
            one.emit("a", cast("Any", 5))
        with refused(ValueError):
            one.follow("a", -1)
        changing: Any = bytearray(b"before")
        await one.send("a", changing)
        one.emit("a", changing)
        changing[:] = b"after!"
        assert await soon(messages) == b"before"
        async with one.follow("a") as follower:
            assert await soon(follower) == (1, b"before")


WIRE_CHECKS: tuple[Callable[[MakeWire], Awaitable[None]], ...] = (
    messages_come_in_the_order_in_which_they_were_sent,
    a_message_to_nobody_is_refused,
    senders_wait_while_hands_are_full,
    what_was_taken_can_be_had_after_the_block,
    an_address_has_one_receiver,
    a_cancelled_receiver_loses_nothing,
    a_cancelled_sender_leaves_the_line,
    events_are_numbered_by_topic,
    a_follower_gets_what_is_kept_then_what_comes,
    followers_do_not_share,
    a_late_follower_is_told_what_it_missed,
    a_slow_follower_loses_nothing_silently,
    a_number_of_a_former_life_stands_for_nothing,
    followers_end_with_their_topic,
    closing_a_follower_ends_it,
    a_cancelled_follower_goes_on,
    a_wire_refuses_what_makes_no_sense,
)


# -- quotas


async def free_units_are_taken_at_once(make: MakeQuota) -> None:
    """All that the budget has, by one or by many, through whichever door."""
    budgets = {"one": Allowance(5, 3600.0), "many": Allowance(5, 3600.0)}
    async with make(budgets) as one, make(budgets) as other:
        with anyio.fail_after(PATIENCE):
            await one.take("one", 5)
            for quota in (one, other, one, other, one):
                await quota.take("many")
        for quota in (one, other):
            for name in budgets:
                assert not await passes(quota, name)


async def units_are_free_again_after_a_period(make: MakeQuota) -> None:
    """Not before, and not much later."""
    async with make({"a": Allowance(2, 1.0)}) as one:
        began = anyio.current_time()
        for _ in range(6):
            await one.take("a")
        with anyio.fail_after(PATIENCE):
            await one.take("a", 2)
        assert began + 2.0 <= anyio.current_time() <= began + 5.0


async def the_bound_holds_for_all_together(make: MakeQuota) -> None:
    """In every stretch of time; and most of what may be had is had."""
    units, period = 10, 0.5
    taken: list[tuple[float, int]] = []

    async def take(quota: Quota, amounts: tuple[int, ...]) -> None:
        for amount in amounts:
            await quota.take("a", amount)
            taken.append((anyio.current_time(), amount))

    async with make({"a": Allowance(units, period)}) as one, make({"a": Allowance(units, period)}) as other:
        began = anyio.current_time()
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                for quota in (one, other, one, other):
                    group.start_soon(take, quota, (1, 2, 3, 1, 5, 1, 2))
        assert sum(amount for _, amount in taken) == 60
        assert anyio.current_time() <= began + 10 * period
    for index, (start, _) in enumerate(taken):
        total = 0
        for moment, amount in taken[index:]:
            total += amount
            assert total <= units * (1 + (moment - start) / period) + 0.5


async def who_comes_first_goes_first(make: MakeQuota) -> None:
    """Also if those behind would be content with less."""
    order: list[int] = []

    async def take(amount: int) -> None:
        await quota.take("a", amount)
        order.append(amount)

    async with make({"a": Allowance(4, 2.0)}) as quota:
        await quota.take("a", 3)
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                for amount in (4, 1, 2):
                    group.start_soon(take, amount)
                    await anyio.sleep(A_WHILE)
                assert order == []
        assert order == [4, 1, 2]


async def whoever_is_cancelled_has_taken_nothing(make: MakeQuota) -> None:
    """First in line or not; those behind move up."""
    async with make({"a": Allowance(4, 2.0)}) as one:
        await one.take("a", 3)
        began = anyio.current_time()
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group, anyio.create_task_group() as impatient:
                impatient.start_soon(one.take, "a", 4)
                await anyio.sleep(A_WHILE)
                group.start_soon(one.take, "a", 1)
                await anyio.sleep(A_WHILE)
                impatient.start_soon(one.take, "a", 4)
                await anyio.sleep(A_WHILE)
                impatient.cancel_scope.cancel()
        assert anyio.current_time() < began + 1.9  # the small one went when the large one before it had left
        with anyio.fail_after(PATIENCE):
            await one.take("a", 3)
        assert not await passes(one, "a", 4)


async def what_has_no_budget_has_no_limit(make: MakeQuota) -> None:
    """Budgets do not touch each other."""
    async with make({"a": Allowance(1, 3600.0), "b": Allowance(1, 3600.0)}) as one:
        await one.take("a")
        with anyio.fail_after(PATIENCE):
            await one.take("b")
            for _ in range(100):
                await one.take("unknown", 1_000_000)
        assert not await passes(one, "a")


async def a_quota_refuses_what_makes_no_sense(make: MakeQuota) -> None:
    """It would wait for ever otherwise."""
    async with make({"a": Allowance(3, 3600.0)}) as one:
        for name, amount in (("a", 4), ("a", 0), ("a", -1), ("unknown", 0)):
            with refused(ValueError), anyio.fail_after(PATIENCE):
                await one.take(name, amount)
        with anyio.fail_after(PATIENCE):
            await one.take("a", 3)


QUOTA_CHECKS: tuple[Callable[[MakeQuota], Awaitable[None]], ...] = (
    free_units_are_taken_at_once,
    units_are_free_again_after_a_period,
    the_bound_holds_for_all_together,
    who_comes_first_goes_first,
    whoever_is_cancelled_has_taken_nothing,
    what_has_no_budget_has_no_limit,
    a_quota_refuses_what_makes_no_sense,
)


# -- how to look at them


async def soon(stream: AsyncIterator[T]) -> T:
    """The next thing, which must come."""
    with anyio.fail_after(PATIENCE):
        return await anext(stream)


async def comes(stream: AsyncIterator[object]) -> bool:
    """Whether something comes."""
    with anyio.move_on_after(A_WHILE):
        await anext(stream)
        return True
    return False


async def rest(stream: AsyncIterator[T]) -> list[T]:
    """What comes until the end, which must come."""
    with anyio.fail_after(PATIENCE):
        return [each async for each in stream]


async def passes(quota: Quota, name: str, amount: int = 1) -> bool:
    """Whether units can be taken now."""
    with anyio.move_on_after(A_WHILE):
        await quota.take(name, amount)
        return True
    return False


async def after(delay: float, function: Callable[[], Awaitable[object]]) -> None:
    await anyio.sleep(delay)
    await function()


async def ended(wire: Wire, topic: str) -> None:
    wire.end(topic)


async def after_a_while_emit(wire: Wire, topic: str, events: tuple[bytes, ...]) -> None:
    await anyio.sleep(A_WHILE)
    for event in events:
        wire.emit(topic, event)


async def eventually(function: Callable[[], Awaitable[object]], kind: type[Exception], *, pause: float = 0.01) -> None:
    """Call it until it does not raise such an error."""
    with anyio.fail_after(PATIENCE):
        while True:
            try:
                await function()
            except kind:
                await anyio.sleep(pause)
            else:
                return


@contextmanager
def refused(kind: type[Exception]) -> Generator[list[Exception]]:
    """The block raises such an error, which is in the list then."""
    caught: list[Exception] = []
    try:
        yield caught
    except kind as error:
        caught.append(error)
        return
    raise AssertionError(f"{kind.__name__} was not raised")
