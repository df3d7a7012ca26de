"""What every wire must do with messages; what with events is in `wire_events`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias, cast

import anyio

from ..exchange import AddressTaken, NobodyThere, Wire
from .journals import ODD_IDS
from .looking import A_WHILE, ODD_BYTES, PATIENCE, comes, refused, soon

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


WIRE_MESSAGE_CHECKS: tuple[Callable[[MakeWire], Awaitable[None]], ...] = (
    messages_come_in_the_order_in_which_they_were_sent,
    a_message_to_nobody_is_refused,
    senders_wait_while_hands_are_full,
    what_was_taken_can_be_had_after_the_block,
    an_address_has_one_receiver,
    a_cancelled_receiver_loses_nothing,
    a_cancelled_sender_leaves_the_line,
    a_wire_refuses_what_makes_no_sense,
)
