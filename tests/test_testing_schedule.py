"""The order of tasks as a function of a seed."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from trio._core import _run as trio_scheduler

from greenroom.testing import explore, run

each_backend = pytest.mark.parametrize("loop", ["asyncio", "trio"])


def interleaving(loop: str, seed: int | None) -> list[str]:
    """What ten tasks do in which order: they start, yield, wait for each other, and are cancelled all at once."""
    log: list[str] = []

    async def work(name: int, event: anyio.Event) -> None:
        for round in range(3):
            log.append(f"{name}.{round}")
            await checkpoint()
        await event.wait()
        log.append(f"{name} woken")
        try:
            await anyio.sleep_forever()
        finally:
            log.append(f"{name} cancelled")

    async def main() -> None:
        event = anyio.Event()
        async with anyio.create_task_group() as group:
            for name in range(10):
                group.start_soon(work, name, event)
            await anyio.sleep(1)
            event.set()
            await anyio.sleep(1)
            group.cancel_scope.cancel()

    run(main, backend=loop, seed=seed)
    assert len(log) == 50
    return log


@each_backend
@given(st.integers())
@settings(deadline=None, max_examples=20)
def test_a_seed_is_one_order(loop: str, seed: int) -> None:
    """The same seed is the same run, also where many are cancelled at once: scopes keep their tasks in sets."""
    assert interleaving(loop, seed) == interleaving(loop, seed)


@each_backend
def test_seeds_are_many_orders(loop: str) -> None:
    logs = [interleaving(loop, seed) for seed in range(50)]
    assert len({tuple(log) for log in logs}) == 50
    for begin, end in ((0, 10), (30, 40), (40, 50)):  # the first steps, the wakings, the cancellations
        assert len({tuple(log[begin:end]) for log in logs}) > 40


def test_asyncio_keeps_its_own_order_without_a_seed() -> None:
    log = interleaving("asyncio", None)
    assert log[:30] == [f"{name}.{round}" for round in range(3) for name in range(10)]
    assert log[30:40] == [f"{name} woken" for name in range(10)]


def test_what_is_no_task_stays_where_it_is() -> None:
    """Tasks change places with their neighbours only: never with a callback, nor past one."""

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        log: list[str] = []

        async def note(name: str) -> None:
            log.append(name)

        tasks: list[asyncio.Task[None]] = []
        for batch in "abc":
            tasks.extend(loop.create_task(note(f"{batch}{number}")) for number in range(4))
            loop.call_soon(log.append, f"{batch} called")
            loop.call_soon(log.append, f"{batch} called again")
        await asyncio.gather(*tasks)
        return log

    orders: set[tuple[str, ...]] = set()
    for seed in range(20):
        log = run(main, seed=seed)
        assert [word[0] for word in log] == [batch for batch in "abc" for _ in range(6)]
        for begin, batch in ((0, "a"), (6, "b"), (12, "c")):
            assert log[begin + 4 : begin + 6] == [f"{batch} called", f"{batch} called again"]
        orders.add(tuple(log))
    assert len(orders) == 20


@each_backend
def test_bytes_arrive_in_order_whatever_the_seed(loop: str) -> None:
    """A connection's data comes before its end."""
    data = bytes(range(256)) * 256

    async def receive(stream: Any) -> bytes:
        async with stream:
            return b"".join([chunk async for chunk in stream])

    async def main() -> None:
        received: list[bytes] = []

        async def serve(stream: Any) -> None:
            received.append(await receive(stream))
            if len(received) == 3:
                group.cancel_scope.cancel()

        async def send(port: int) -> None:
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                for begin in range(0, len(data), 8192):
                    await stream.send(data[begin : begin + 8192])

        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            for _ in range(3):
                group.start_soon(send, listener.extra(anyio.abc.SocketAttribute.local_port))
        assert received == [data] * 3

    for seed in range(5):
        run(main, backend=loop, seed=seed)


def test_the_scheduler_of_trio_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed is for one run; what comes after it is as random as before."""
    scheduler: Any = trio_scheduler
    monkeypatch.setattr(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", False)  # hypothesis, too, has it set
    before = scheduler._r.getstate(), scheduler._ALLOW_DETERMINISTIC_SCHEDULING

    async def main() -> None:
        assert scheduler._ALLOW_DETERMINISTIC_SCHEDULING
        assert scheduler._r.getstate() != before[0]

    run(main, backend="trio", seed=1)
    assert (scheduler._r.getstate(), scheduler._ALLOW_DETERMINISTIC_SCHEDULING) == before
    with pytest.raises(ZeroDivisionError):
        run(fail, backend="trio", seed=1)
    assert (scheduler._r.getstate(), scheduler._ALLOW_DETERMINISTIC_SCHEDULING) == before


async def fail() -> None:
    raise ZeroDivisionError


# -- explore


class Account:
    """A balance that two may change at once."""

    def __init__(self) -> None:
        self.balance = 0

    async def deposit(self) -> None:
        """Safe: nothing comes between."""
        await checkpoint()
        self.balance += 1

    async def careless_deposit(self) -> None:
        """Whatever is deposited at the wrong moment is lost."""
        before = self.balance
        await checkpoint()
        self.balance = before + 1


async def lost_update() -> None:
    account = Account()
    async with anyio.create_task_group() as group:
        group.start_soon(account.careless_deposit)
        group.start_soon(account.deposit)
    assert account.balance == 2, "a deposit is lost"


async def no_lost_update() -> None:
    account = Account()
    async with anyio.create_task_group() as group:
        group.start_soon(account.deposit)
        group.start_soon(account.deposit)
    assert account.balance == 2


def passes(loop: str, seed: int | None) -> bool:
    try:
        run(lost_update, backend=loop, seed=seed)
    except AssertionError:
        return False
    return True


@each_backend
def test_an_update_is_lost_in_some_orders_only(loop: str) -> None:
    """`explore` finds it, and says how to see it again."""
    found = [passes(loop, seed) for seed in range(30)]
    assert 0 < sum(found) < 30
    first = found.index(False)
    with pytest.raises(AssertionError, match="a deposit is lost") as caught:
        explore(lost_update, backends=[loop])
    assert caught.value.__notes__ == [
        f"on {loop} with seed {first}: run(lost_update, backend={loop!r}, seed={first})",
    ]


def test_asyncio_never_shows_that_by_itself() -> None:
    """First come, first served: which is why such a bug passes a thousand ordinary tests."""
    assert all(passes("asyncio", None) for _ in range(10))


def test_explore_runs_every_seed_on_every_backend() -> None:
    seen: list[str] = []

    async def scenario() -> None:
        seen.append("trio" if trio.lowlevel.in_trio_run() else "asyncio")
        await no_lost_update()

    explore(scenario, seeds=3)
    assert seen == ["asyncio"] * 3 + ["trio"] * 3
    seen.clear()
    explore(scenario, seeds=[7, 8], backends=["trio"])
    assert seen == ["trio", "trio"]
    seen.clear()
    explore(scenario)
    assert len(seen) == 400


def test_the_note_says_that_time_was_real() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        explore(fail, seeds=[5], backends=["trio"], virtual_time=False)
    assert caught.value.__notes__ == [
        "on trio with seed 5: run(fail, backend='trio', seed=5, virtual_time=False)",
    ]
