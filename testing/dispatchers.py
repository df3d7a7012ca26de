"""What every dispatcher must do."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias, cast

import anyio

from ..exchange import Delivery, Dispatcher, Saturated, Stream
from .journals import ODD_IDS
from .looking import A_WHILE, ODD_BYTES, PATIENCE, after, comes, eventually, refused, soon

#: Opens another door to the dispatcher that holds so many jobs.
MakeDispatcher: TypeAlias = Callable[[int], AbstractAsyncContextManager[Dispatcher]]


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
        await anyio.sleep(A_WHILE)  # another process knows it a moment later
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


async def a_taker_gets_jobs_of_its_kinds(make: MakeDispatcher) -> None:
    """Whatever these are called, in order within each; the others wait for somebody else, and count."""
    async with make(len(ODD_IDS) + 3) as one, make(len(ODD_IDS) + 3) as other:
        async with one.deliveries(5, ("b", "c")) as deliveries:
            await one.submit("a1", b"", kind="a")
            await one.submit("1", b"")
            assert not await comes(deliveries)
            for run_id in ("b1", "c1", "b2"):
                await other.submit(run_id, run_id.encode(), kind=run_id[0])
            taken = [await soon(deliveries) for _ in range(3)]
            assert sorted((each.kind, each.run_id, each.job) for each in taken) == [
                ("b", "b1", b"b1"),
                ("b", "b2", b"b2"),
                ("c", "c1", b"c1"),
            ]
            assert [each.run_id for each in taken if each.kind == "b"] == ["b1", "b2"]
            assert not await comes(deliveries)
            for each in taken:
                each.done()
        async with other.deliveries(5) as deliveries:
            delivery = await soon(deliveries)
            assert (delivery.run_id, delivery.kind) == ("1", "")
            delivery.done()
            assert not await comes(deliveries)
        for kind in ODD_IDS:
            await eventually(lambda kind=kind: one.submit(f"of {kind}", b"", kind=kind), Saturated)
        for kind in ODD_IDS:
            async with other.deliveries(1, {kind}) as deliveries:
                delivery = await soon(deliveries)
                assert (delivery.run_id, delivery.kind) == (f"of {kind}", kind)
                delivery.done()


async def a_taker_of_many_kinds_takes_no_more_than_it_can(make: MakeDispatcher) -> None:
    """Scenario: jobs of three kinds wait, and come, for a taker with one place. What it has no room for is there for
    others, and none of its kinds waits for ever."""
    async with make(100) as one, make(100) as other, one.deliveries(1, ["a", "b", "c"]) as small:
        waiting: list[str] = []

        async def take() -> None:
            delivery = await soon(small)
            waiting.append(delivery.kind)
            delivery.done()

        for _ in range(3):
            async with anyio.create_task_group() as group:
                group.start_soon(take)
                await anyio.sleep(A_WHILE)
                for kind in "abc":
                    await other.submit(kind, b"", kind=kind)
            seen = set(waiting[-1:])
            async with other.deliveries(3, ("a", "b", "c")) as deliveries:
                for _ in range(2):
                    delivery = await soon(deliveries)
                    seen.add(delivery.kind)
                    delivery.done()
            assert seen == {"a", "b", "c"}
        for kind in "aaaaabbbbbccccc":
            await other.submit(f"{kind}{len(waiting)}", b"", kind=kind)
            waiting.append("")
        got = [await soon(small)]
        for _ in range(14):
            got[-1].done()
            got.append(await soon(small))
        got[-1].done()
        for kind in "abc":
            mine = [each.run_id for each in got if each.kind == kind]
            assert mine == sorted(mine, key=lambda run_id: int(run_id[1:]))
            assert len(mine) == 5


async def a_delivery_says_whether_it_is_lost(make: MakeDispatcher) -> None:
    """It is, when its taker was closed before its word was said; one whose word was said is not."""
    async with make(10) as one:
        for run_id in "abc":
            await one.submit(run_id, b"")
        async with one.deliveries(3) as deliveries:
            kept, done, released = [await soon(deliveries) for _ in range(3)]
            done.done()
            released.release(3600)
            assert [each.lost for each in (kept, done, released)] == [False] * 3
        assert [each.lost for each in (kept, done, released)] == [True, False, False]
        kept.done()
        assert not kept.lost
        async with one.deliveries(3) as deliveries:
            assert ((await soon(deliveries)).run_id) == "a"


async def a_dispatcher_refuses_what_makes_no_sense(make: MakeDispatcher) -> None:
    """Before anything happens."""
    async with make(10) as one:
        with refused(TypeError):
            await one.submit("a", cast("Any", "text"))
        with refused(ValueError):
            one.deliveries(0)
        with refused(ValueError):
            one.deliveries(1, ())
        for kinds in ("text", ["a", 5], 5):
            with refused(TypeError):
                one.deliveries(1, cast("Any", kinds))
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
    a_taker_gets_jobs_of_its_kinds,
    a_taker_of_many_kinds_takes_no_more_than_it_can,
    a_delivery_says_whether_it_is_lost,
    a_dispatcher_refuses_what_makes_no_sense,
)
