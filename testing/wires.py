"""What every wire must do with messages; what with events is in `wire_events`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeAlias, cast

import anyio

from ..exchange import AddressTaken, NobodyThere, Wire
from .journals import ODD_IDS
from .looking import A_WHILE, ODD_BYTES, PATIENCE, after, comes, refused, soon

#: Opens another door to the wire on which so many messages wait at an address and so many events are kept of a topic.
MakeWire: TypeAlias = Callable[[int, int], AbstractAsyncContextManager[Wire]]


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


async def what_is_left_waits_for_whoever_comes(make: MakeWire) -> None:
    """Whatever the address and the bytes, in order, before what is sent; also more than hands hold."""
    async with make(2, 10) as one, make(2, 10) as other:
        for address in ODD_IDS:
            for message in ODD_BYTES:
                await one.leave(address, message)
        for address in ODD_IDS:
            async with other.receive(address) as messages:
                assert messages.ready == len(ODD_BYTES)
                await one.send(address, b"sent")
                assert [await soon(messages) for _ in range(len(ODD_BYTES) + 1)] == [*ODD_BYTES, b"sent"]
            async with other.receive(address) as messages:
                assert messages.ready == 0
                assert not await comes(messages)


async def what_is_left_reaches_who_is_there_at_once(make: MakeWire) -> None:
    """Through whichever door, whether they wait or not; and nothing of it reaches another address."""
    async with make(10, 10) as one, make(10, 10) as other, one.receive("a") as messages, one.receive("b") as others:
        with anyio.fail_after(PATIENCE):
            for number in range(5):
                async with anyio.create_task_group() as group:
                    group.start_soon(after, 0.02, partial(other.leave, "a", b"%d" % number))
                    began = anyio.current_time()
                    assert await soon(messages) == b"%d" % number
                    assert anyio.current_time() < began + 0.5
            for message in (b"first", b"second"):
                await other.leave("a", message)
            assert [await soon(messages), await soon(messages)] == [b"first", b"second"]
            assert messages.ready == others.ready == 0
            assert not await comes(others)


async def what_is_left_is_forgotten_when_it_was_dealt_with(make: MakeWire) -> None:
    """A receiver that asks for the next one has dealt with it, and one that leaves in order. One that fails has not."""
    async with make(10, 10) as one, make(10, 10) as other:
        for message in (b"1", b"2", b"3", b"4", b"5"):
            await one.leave("a", message)
        with refused(ZeroDivisionError):
            async with one.receive("a") as messages:
                assert [await soon(messages), await soon(messages)] == [b"1", b"2"]
                raise ZeroDivisionError
        async with other.receive("a") as messages:
            assert [await soon(messages), await soon(messages)] == [b"2", b"3"]
        async with one.receive("a") as messages:
            assert await soon(messages) == b"4"
            with anyio.CancelScope() as scope:
                scope.cancel()
                await anyio.sleep(1)
            assert await soon(messages) == b"5"
            assert not await comes(messages)  # this forgets it, too
            await one.leave("a", b"6")
            assert await soon(messages) == b"6"
        assert [message async for message in messages] == []
        async with other.receive("a") as messages:
            assert not await comes(messages)


async def what_was_left_and_not_looked_at_stays(make: MakeWire) -> None:
    """For the next one, while what was sent is had by who took it."""
    async with make(10, 10) as one:
        await one.leave("a", b"left first")
        async with one.receive("a") as messages:
            await one.send("a", b"sent")
            await one.leave("a", b"left then")
        assert [message async for message in messages] == [b"sent"]
        async with one.receive("a") as messages:
            assert [await soon(messages), await soon(messages)] == [b"left first", b"left then"]


async def a_wire_refuses_what_makes_no_sense(make: MakeWire) -> None:
    """Before anything happens."""
    async with make(10, 10) as one, one.receive("a") as messages:
        with refused(TypeError):
            await one.send("a", cast("Any", "text"))
        with refused(TypeError):
            await one.leave("a", cast("Any", None))
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


WIRE_MESSAGE_CHECKS: tuple[Callable[[MakeWire], Awaitable[None]], ...] = (
    messages_come_in_the_order_in_which_they_were_sent,
    a_message_to_nobody_is_refused,
    senders_wait_while_hands_are_full,
    what_was_taken_can_be_had_after_the_block,
    an_address_has_one_receiver,
    a_cancelled_receiver_loses_nothing,
    a_cancelled_sender_leaves_the_line,
    what_is_left_waits_for_whoever_comes,
    what_is_left_reaches_who_is_there_at_once,
    what_is_left_is_forgotten_when_it_was_dealt_with,
    what_was_left_and_not_looked_at_stays,
    a_wire_refuses_what_makes_no_sense,
)
