"""What every wire must do with events. What was emitted is kept a moment later, so these checks wait for a while."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from ..exchange import Missed, NobodyThere, Wire
from .journals import ODD_IDS
from .looking import A_WHILE, ODD_BYTES, after, comes, refused, rest, soon
from .wires import MakeWire


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
        await anyio.sleep(A_WHILE)
        for topic in ODD_IDS:
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
        await anyio.sleep(A_WHILE)
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
        await anyio.sleep(A_WHILE)
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
        await anyio.sleep(A_WHILE)
        assert await rest(slow) == [(1, b"first")]
        assert await rest(slow) == []
        assert await rest(one.follow("a")) == [(1, b"first")]
        assert one.emit("a", b"second") == 2
        await anyio.sleep(A_WHILE)
        async with one.follow("a") as late:
            assert [await soon(late), await soon(late)] == [(1, b"first"), (2, b"second")]
            assert not await comes(late)
            one.end("a")
            assert await rest(late) == []


async def a_topic_can_be_ended_through_another_door(make: MakeWire) -> None:
    """By the next owner of a run, whose former one is dead: for who follows, and for who comes later."""
    async with make(10, 10) as one, make(10, 10) as other, one.follow("a") as waiting:
        for number in (1, 2):
            one.emit("a", b"%d" % number)
            assert await soon(waiting) == (number, b"%d" % number)
        async with anyio.create_task_group() as group:
            group.start_soon(after, A_WHILE, lambda: ended(other, "a"))
            assert await rest(waiting) == []
        await anyio.sleep(A_WHILE)
        assert await rest(other.follow("a", 1)) == [(2, b"2")]
        other.end("never heard of")
        await anyio.sleep(A_WHILE)
        assert one.emit("a", b"3") == 3
        await anyio.sleep(A_WHILE)
        assert await soon(waiting) == (3, b"3")


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


async def ended(wire: Wire, topic: str) -> None:
    wire.end(topic)


async def after_a_while_emit(wire: Wire, topic: str, events: tuple[bytes, ...]) -> None:
    await anyio.sleep(A_WHILE)
    for event in events:
        wire.emit(topic, event)


WIRE_EVENT_CHECKS: tuple[Callable[[MakeWire], Awaitable[None]], ...] = (
    events_are_numbered_by_topic,
    a_follower_gets_what_is_kept_then_what_comes,
    followers_do_not_share,
    a_late_follower_is_told_what_it_missed,
    a_slow_follower_loses_nothing_silently,
    a_number_of_a_former_life_stands_for_nothing,
    followers_end_with_their_topic,
    a_topic_can_be_ended_through_another_door,
    closing_a_follower_ends_it,
    a_cancelled_follower_goes_on,
)
