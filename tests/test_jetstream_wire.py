"""The wire over NATS: what every wire must do, and what happens when the server or a receiver fails."""

from __future__ import annotations

import struct
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from greenroom.exchange import Missed, NobodyThere
from greenroom.jetstream.errors import EngineAway, EngineError, EngineRefused
from greenroom.jetstream.feed import END, EVENT, ROOM, STATE, Feed, Step, Word, decoded, encoded
from greenroom.jetstream.hands import GONE, REMEMBERED, Hands
from greenroom.jetstream.left import AHEAD, Left
from greenroom.jetstream.line import Line
from greenroom.jetstream.settings import Settings
from greenroom.jetstream.wire import JetStreamWire
from greenroom.testing import WIRE_CHECKS
from greenroom.testing.looking import comes, rest, soon

from .nats_server import NatsServer, fresh_prefix, nats_url  # noqa: F401 - a fixture

pytestmark = pytest.mark.anyio


def doors(url: str, **arguments: Any) -> Callable[..., AbstractAsyncContextManager[JetStreamWire]]:
    """Each with a connection of its own."""
    settings = Settings(prefix=fresh_prefix())

    @asynccontextmanager
    async def make(capacity: int, kept: int) -> AsyncIterator[JetStreamWire]:
        async with JetStreamWire(Line(url), settings, capacity=capacity, kept=kept, **arguments) as wire:
            yield wire

    return make


@pytest.mark.parametrize("check", WIRE_CHECKS, ids=lambda check: check.__name__)
async def test_it_does_what_every_wire_must(check: Any, nats_url: str) -> None:  # noqa: F811
    await check(doors(nats_url))


# -- what one follower knows


def words(*numbers: int, life: int = 1) -> list[tuple[int, Word]]:
    return [(10 * number, Word(EVENT, number, life, b"%d" % number)) for number in numbers]


def handed_out(feed: Feed) -> list[Any]:
    """What there is: numbers, ranges that were missed; and what to do next."""
    found: list[Any] = []
    while True:
        step = feed.next()
        if isinstance(step, Step):
            return [*found, step]
        found.append((step.first, step.last) if isinstance(step, Missed) else step[0])


def read_all(feed: Feed, reads: list[list[tuple[int, Word]]], pauses: list[float] | None = None) -> list[Any]:
    """What there is, when each reading finds the next of these, and the others nothing."""
    found: list[Any] = []
    while (got := handed_out(feed))[-1] is Step.READ:
        found += got[:-1]
        if pauses is not None:
            pauses.append(feed.pause)
        feed.read(reads.pop(0) if reads else [], True, 0.0)
    return [*found, *got]


def test_a_follower_that_hears_while_it_reads_repeats_nothing() -> None:
    """Scenario: events are emitted while what is kept is read, one of them twice seen."""
    feed = Feed("t", 2)
    assert feed.next() is Step.READ
    for word in (4, 5):
        feed.hear(Word(EVENT, word, 1))
    feed.read(words(1, 2, 3, 4), True, 0.0)
    assert handed_out(feed) == [3, 4, 5, Step.WAIT]
    feed.hear(Word(EVENT, 5, 1))
    feed.hear(Word(EVENT, 6, 1))
    assert handed_out(feed) == [6, Step.WAIT]


def test_a_gap_is_read_again_before_it_is_missed() -> None:
    """Scenario: the server tells listeners of an event before it has stored the one before; another is lost."""
    feed = Feed("t", None)
    feed.read(words(1), True, 0.0)
    assert handed_out(feed) == [1, Step.WAIT]
    feed.hear(Word(EVENT, 4, 1))
    pauses: list[float] = []
    got = read_all(feed, [[], words(2)], pauses)
    assert got == [2, (3, 3), 4, Step.WAIT]
    assert pauses[0] == 0.0
    assert 0.5 < sum(pauses) < 1.0
    feed.hear(Word(EVENT, 6, 1))
    assert read_all(feed, [words(5)], pauses) == [5, 6, Step.WAIT]


def test_a_stream_that_begins_anew_is_read_from_its_beginning() -> None:
    """Scenario: the server was started again. Its stream is a new one, and the numbers of its messages are small."""
    feed = Feed("t", None)
    feed.read([(500, Word(EVENT, 1, 1, b""))], True, 0.0)
    assert feed.position == 501
    assert handed_out(feed) == [1, Step.WAIT]
    feed.start_over()
    assert (feed.next(), feed.position) == (Step.READ, 1)
    assert read_all(feed, [[(2, Word(END, 2, 1))]]) == [(2, 2), Step.OVER]
    feed.hear(Word(EVENT, 5, 1))
    assert (feed.next(), feed.position) == (Step.READ, 1)


def test_a_slow_follower_keeps_little_in_memory() -> None:
    """Scenario: thousands of events come while nobody reads. They are read from the stream when somebody does."""
    feed = Feed("t", None)
    feed.read([], True, 0.0)
    for number in range(1, 5_000):
        feed.hear(Word(EVENT, number, 1, b"x"))
    assert len(feed._ready) + len(feed._heard) <= 2 * ROOM
    got = handed_out(feed)
    assert got == [*range(1, ROOM + 1), Step.READ]
    assert read_all(feed, [words(*range(4_900, 5_000))]) == [(ROOM + 1, 4_899), *range(4_900, 5_000), Step.WAIT]


def test_a_new_life_begins_anew_and_a_former_one_is_not_heeded() -> None:
    """Scenario: a run has a new owner, which emits under the same topic; the old one was stopped, and goes on for a
    moment."""
    feed = Feed("t", None)
    feed.read(words(1, 2, 3), True, 0.0)
    feed.hear(Word(EVENT, 1, 2))
    feed.hear(Word(EVENT, 4, 1))
    feed.hear(Word(END, 4, 1))
    feed.hear(Word(EVENT, 2, 2))
    assert handed_out(feed) == [1, 2, 3, 1, 2, Step.WAIT]
    feed.hear(Word(END, 0, 0))
    assert handed_out(feed) == [Step.OVER]


def test_what_is_known_of_a_former_life_stands_for_nothing() -> None:
    """Whether the topic is read, or heard of first."""
    feed = Feed("t", 7)
    feed.read(words(2, 3), True, 0.0)
    assert feed.next() is Step.READ
    assert feed.position == 1
    feed.read(words(2, 3), True, 0.0)
    assert handed_out(feed) == [(1, 1), 2, 3, Step.WAIT]
    feed = Feed("t", 7)
    feed.read([], True, 0.0)
    feed.hear(Word(EVENT, 1, 1))
    assert handed_out(feed) == [1, Step.WAIT]
    feed = Feed("t", 7)
    feed.read([], True, 0.0)
    feed.hear(Word(EVENT, 8, 1))
    assert handed_out(feed) == [8, Step.WAIT]


def test_how_far_a_topic_is_shows_what_was_missed() -> None:
    """Scenario: the last events before a loss of the connection are gone, and so is the end."""
    for what, step in ((STATE, Step.WAIT), (END, Step.OVER)):
        feed = Feed("t", None)
        feed.read(words(1), True, 0.0)
        assert feed.next() == (1, b"1")
        feed.hear(Word(what, 3, 1))
        assert read_all(feed, []) == [(2, 3), step]


def test_words_survive_the_way() -> None:
    for word in (Word(EVENT, 1, 2**64 - 1, b"\x00x"), Word(END, 2**40, 5), Word(STATE, 0, 1)):
        assert decoded(encoded(word)) == word
    with pytest.raises(struct.error):
        decoded(b"short")


# -- what one receiver knows


def test_hands_take_each_message_once() -> None:
    """Scenario: answers are lost, so senders ask again: with hands that have room, that are full, and long after."""
    hands = Hands(2)
    assert hands.offer(b"a", b"1", "x", 0.0)
    assert hands.offer(b"a", b"1", "x", 0.0)
    assert hands.offer(b"b", b"2", "x", 0.0)
    assert not hands.offer(b"c", b"3", "old", 0.0)
    assert not hands.offer(b"d", b"4", "x", 0.0)
    assert not hands.offer(b"c", b"3", "new", 1.0)
    assert hands.look_at_next(1.0) == (b"1", ["new"])
    assert hands.offer(b"c", b"3", "newer", 1.0)
    hands.withdraw(b"d")
    assert hands.look_at_next(1.0) == (b"2", [])
    assert [*hands.held] == [b"3"]
    for number in range(REMEMBERED + 10):
        assert hands.offer(b"%d" % number, b"", "x", 1.0)
        hands.look_at_next(1.0)
    assert len(hands._taken) == REMEMBERED


def test_who_does_not_ask_any_more_has_left_the_line() -> None:
    """Scenario: a sender dies while it waits for room."""
    hands = Hands(1)
    hands.offer(b"a", b"1", "x", 0.0)
    hands.offer(b"dead", b"2", "x", 0.0)
    hands.offer(b"alive", b"3", "there", 0.0)
    hands.offer(b"alive", b"3", "there", GONE - 1)
    hands.offer(b"late", b"4", "late", GONE)
    assert hands.look_at_next(GONE) == (b"1", ["there"])
    assert hands.close() == ["late"]
    assert hands.close() == []


def test_what_was_left_is_known_in_order_and_once() -> None:
    """Scenario: messages are left while the stream is read, and some are told of that had been read."""
    left = Left()
    begun = left.begin()
    left.told(7, 5, b"7")  # while it is read
    left.read(begun, (5, b"5"))
    left.read(left.begin(), (7, b"7"))
    left.told(7, 5, b"7")
    left.read(left.begin(), None)
    assert not left.behind
    left.told(8, 7, b"8")
    left.told(12, 10, b"12")  # 10 was not told
    assert left.behind
    left.read(left.begin(), (10, b"10"))
    begun = left.begin()
    left.told(12, 10, b"12")
    left.read(begun, None)  # it was asked before that
    assert left.behind
    left.read(left.begin(), (12, b"12"))
    left.read(left.begin(), None)
    assert [left.next()[0] for _ in range(len(left))] == [5, 7, 8, 10, 12]
    left.look_again()
    assert (left.behind, left.position) == (True, 13)


def test_no_more_is_known_ahead_than_there_is_room_for() -> None:
    left = Left()
    left.read(left.begin(), None)
    for number in range(1, 2 * AHEAD):
        left.told(number, number - 1, b"")
    assert len(left) == AHEAD
    assert left.behind
    assert left.position == AHEAD + 1


# -- faults


async def test_what_is_left_outlives_the_server_and_who_left_it(tmp_path: Path) -> None:
    """Scenario: a stop is left, its sender ends, the server is killed and started again; then somebody comes."""
    with NatsServer(tmp_path) as server:
        make = doors(server.url)
        async with make(10, 10) as one:
            await one.leave("run", b"stop")
        await anyio.to_thread.run_sync(server.restart)
        async with make(10, 10) as other, other.receive("run") as messages:
            assert messages.ready == 1
            assert await soon(messages) == b"stop"


async def test_a_wire_survives_the_death_of_its_server(tmp_path: Path) -> None:
    """Scenario: the server is killed and started again. Messages find their receiver, what is left is heard at once,
    and followers are told what they have missed, or that a topic is over."""
    with NatsServer(tmp_path) as server:
        make = doors(server.url)
        async with (
            make(10, 10) as one,
            make(10, 10) as other,
            other.receive("a") as messages,
            other.follow("over") as over,
            other.follow("on") as going_on,
        ):
            for topic, follower in (("over", over), ("on", going_on)):
                one.emit(topic, b"1")
                assert await soon(follower) == (1, b"1")
            await one.send("a", b"before")
            server.kill()
            for topic in ("over", "on"):
                one.emit(topic, b"2")
            one.end("over")
            async with anyio.create_task_group() as group:
                group.start_soon(one.send, "a", b"sent meanwhile")
                group.start_soon(one.leave, "a", b"left meanwhile")
                await anyio.to_thread.run_sync(server.start)
                assert await soon(messages) == b"before"
                got = {await soon(messages), await soon(messages)}
                assert got == {b"sent meanwhile", b"left meanwhile"}
            one.emit("on", b"3")
            for follower, expected in ((over, {2}), (going_on, {2, 3})):
                seen: set[int] = set()
                with anyio.fail_after(20):
                    while not seen >= expected:
                        try:
                            seen.add((await anext(follower))[0])
                        except Missed as missed:
                            seen.update(range(missed.first, missed.last + 1))
                assert seen == expected
            assert await rest(over) == []
            await one.send("a", b"after")
            assert await soon(messages) == b"after"
            assert not await comes(messages)


@pytest.mark.skipif(sys.platform == "win32", reason="nothing can be stopped there")
async def test_no_message_comes_twice_when_answers_are_late(tmp_path: Path) -> None:
    """Scenario: the server stands still for longer than a sender waits for an answer."""
    with NatsServer(tmp_path) as server:
        make = doors(server.url)
        async with make(10, 10) as one, make(10, 10) as other, other.receive("a") as messages:
            await one.send("a", b"0")
            server.pause()
            async with anyio.create_task_group() as group:
                group.start_soon(one.send, "a", b"1")
                await anyio.sleep(2.5)  # the first try is over
                server.go_on()
            await one.send("a", b"2")
            assert [await soon(messages) for _ in range(3)] == [b"0", b"1", b"2"]
            assert not await comes(messages)


async def test_who_is_cancelled_while_sending_is_not_waited_for(nats_url: str) -> None:  # noqa: F811
    """Scenario: a sender in a long line gives up. Those behind move up at once."""
    make = doors(nats_url)
    async with make(1, 10) as one, make(1, 10) as other, other.receive("a") as messages:
        await one.send("a", b"0")
        with anyio.move_on_after(0.1):
            await one.send("a", b"gives up")
        async with anyio.create_task_group() as group:
            group.start_soon(one.send, "a", b"1")
            await anyio.sleep(0.1)
            assert [await soon(messages), await soon(messages)] == [b"0", b"1"]


# -- details


async def test_an_event_that_is_too_large_is_refused(nats_url: str) -> None:  # noqa: F811
    """By name, and so is a message; the connection goes on."""
    async with doors(nats_url)(10, 10) as wire, wire.receive("a") as messages:
        large = b"x" * 2**21
        with pytest.raises(EngineRefused, match="max_payload"):
            wire.emit("t", large)
        for give in (wire.send, wire.leave):
            with pytest.raises(EngineRefused, match="max_payload"):
                await give("a", large)
        await wire.send("a", b"small")
        assert await soon(messages) == b"small"


async def test_a_wire_must_be_open(nats_url: str) -> None:  # noqa: F811
    wire = JetStreamWire(Line(nats_url), Settings(prefix=fresh_prefix()))
    for _ in range(2):
        for what in (lambda: wire.emit("t", b""), lambda: wire.end("t"), lambda: wire.receive("a")):
            with pytest.raises(EngineError, match="async with"):
                what()
        with pytest.raises(EngineError, match="async with"):
            wire.follow("t")
        with pytest.raises(EngineError, match="async with"):
            await wire.send("a", b"")
        async with wire:
            with pytest.raises(NobodyThere):
                await wire.send("a", b"")


async def test_a_server_that_is_gone_is_an_error_in_time(tmp_path: Path) -> None:
    """Scenario: nobody is there any more, and whoever wants something is told so when their patience is over."""
    with NatsServer(tmp_path) as server:
        async with doors(server.url, patience=0.3)(10, 10) as wire:
            server.kill()
            with anyio.fail_after(10):
                for give in (wire.send, wire.leave):
                    with pytest.raises(EngineAway, match=r"127\.0\.0\.1"):
                        await give("a", b"")
                with pytest.raises(EngineAway, match=r"127\.0\.0\.1"):
                    await anext(wire.follow("t"))


@pytest.mark.parametrize(
    "arguments", [{"capacity": 0}, {"kept": 0}, {"age": 0.0}, {"left_age": -1.0}, {"patience": 0.0}], ids=str
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"more|from 0\.1"):
        JetStreamWire(Line("nats://localhost"), **arguments)
