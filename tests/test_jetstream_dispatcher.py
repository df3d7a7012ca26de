"""The dispatcher on NATS JetStream: what every one must do, and what happens when the server or a taker fails."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest

from greenroom.exchange import Saturated
from greenroom.jetstream.dispatcher import JetStreamDispatcher
from greenroom.jetstream.errors import EngineAway, EngineError
from greenroom.jetstream.leases import Job, Leases
from greenroom.jetstream.line import Line
from greenroom.jetstream.settings import Settings
from greenroom.testing import DISPATCHER_CHECKS
from greenroom.testing.looking import comes, soon

from .nats_server import NatsServer, fresh_prefix, nats_url  # noqa: F401 - a fixture

pytestmark = pytest.mark.anyio


def doors(url: str, **arguments: Any) -> Callable[..., AbstractAsyncContextManager[JetStreamDispatcher]]:
    """Each with a connection of its own."""
    settings = Settings(prefix=fresh_prefix())

    @asynccontextmanager
    async def make(capacity: int) -> AsyncIterator[JetStreamDispatcher]:
        async with JetStreamDispatcher(Line(url), settings, capacity=capacity, **arguments) as dispatcher:
            yield dispatcher

    return make


@pytest.mark.parametrize("check", DISPATCHER_CHECKS, ids=lambda check: check.__name__)
async def test_it_does_what_every_dispatcher_must(check: Any, nats_url: str) -> None:  # noqa: F811
    await check(doors(nats_url))


# -- leases


@asynccontextmanager
async def opened(url: str, prefix: str, **arguments: Any) -> AsyncIterator[JetStreamDispatcher]:
    async with JetStreamDispatcher(Line(url), Settings(prefix=prefix), **arguments) as dispatcher:
        yield dispatcher


async def test_a_job_stays_with_who_has_it(nats_url: str) -> None:  # noqa: F811
    """Scenario: a run takes much longer than a lease."""
    prefix = fresh_prefix()
    async with opened(nats_url, prefix, lease=0.6) as one, opened(nats_url, prefix, lease=0.6) as other:
        await one.submit("long", b"")
        async with one.deliveries(1) as deliveries, other.deliveries(1) as others:
            delivery = await soon(deliveries)
            with anyio.move_on_after(1.5):
                await anext(others)
                raise AssertionError("it was given to somebody else")
            assert not delivery.lost
            delivery.done()
        async with other.deliveries(1) as others:
            assert not await comes(others)


async def test_the_jobs_of_a_process_that_died_go_to_another(nats_url: str) -> None:  # noqa: F811
    """Scenario: the connection of a process ends without a word."""
    prefix = fresh_prefix()
    line = Line(nats_url)
    async with opened(nats_url, prefix, lease=0.6) as other, AsyncExitStack() as stack:
        async with line:
            one = JetStreamDispatcher(line, Settings(prefix=prefix), lease=0.6)
            await one.__aenter__()
            await one.submit("a", b"job")
            deliveries = one.deliveries(1)
            stack.push_async_callback(deliveries.aclose)
            delivery = await soon(deliveries)
        async with other.deliveries(1) as others:
            again = await soon(others)
            assert (again.run_id, again.job, again.attempt) == ("a", b"job", 2)
            assert delivery.lost
            delivery.done()
            again.done()
        await one.__aexit__()


@pytest.mark.skipif(sys.platform == "win32", reason="nothing can be stopped there")
async def test_words_about_a_lost_job_have_no_effect(tmp_path: Path) -> None:
    """Scenario: the server is not heard of for longer than a lease, so nobody knows who has the job."""
    with NatsServer(tmp_path) as server:
        async with opened(server.url, "lost", lease=0.6) as one, one.deliveries(3) as deliveries:
            for run_id in "abc":
                await one.submit(run_id, b"")
            done, released, kept = [await soon(deliveries) for _ in range(3)]
            server.pause()
            with anyio.fail_after(5):
                while not (done.lost and released.lost and kept.lost):
                    await anyio.sleep(0.05)
            done.done()
            released.release(3600)
            assert not done.lost
            server.go_on()
            again = [await soon(deliveries) for _ in range(2)]
            kept.done()
            again.append(await soon(deliveries))
            assert sorted(each.run_id for each in again) == ["a", "b", "c"]
            assert all(each.attempt >= 2 and not each.lost for each in again)
            for each in again:
                each.done()


def test_a_message_that_may_have_come_long_ago_is_not_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario: a process is stopped while it waits for a job. When it goes on it finds one, and nobody knows since
    when. Its own heartbeat says when it ran for the last time."""
    now = 100.0
    monkeypatch.setattr("greenroom.jetstream.leases.monotonic", lambda: now)
    leases = Leases(cast("Any", None), lambda *_: None, 30.0)
    assert leases.came(asked_at=99.5) == 100.0
    leases._before, leases._beat = 140.0, 141.0
    now = 200.0
    assert leases.came(asked_at=139.0) == 140.0
    assert leases.came(asked_at=199.0) == 199.0
    job = Job("r", b"", "", 1, number=1, word_to="x", heard=leases.came(139.0), lease=30.0)
    assert job.is_lost
    now = 169.9
    assert not job.is_lost


# -- the server goes away


async def test_nothing_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    """Scenario: the server dies while jobs are submitted, waited for and done, and comes back a second later. Every job
    is done, and most of them once."""
    with NatsServer(tmp_path) as server:
        done: list[str] = []
        async with opened(server.url, "killed", lease=3.0) as one, opened(server.url, "killed", lease=3.0) as other:

            async def work(dispatcher: JetStreamDispatcher) -> None:
                async with dispatcher.deliveries(5) as deliveries:
                    async for delivery in deliveries:
                        await anyio.sleep(0.01)
                        if not delivery.lost:
                            delivery.done()
                            done.append(delivery.run_id)

            async def fail() -> None:
                await anyio.sleep(0.1)
                server.kill()
                await anyio.sleep(0.3)
                await anyio.to_thread.run_sync(server.start)

            with anyio.fail_after(30):
                async with anyio.create_task_group() as group:
                    group.start_soon(work, one)
                    group.start_soon(work, other)
                    group.start_soon(fail)
                    for number in range(60):
                        await one.submit(f"{number}", b"")
                        await anyio.sleep(0.01)
                    while len(set(done)) < 60:
                        await anyio.sleep(0.02)
                    group.cancel_scope.cancel()
            assert len(done) <= 60 + 10  # what the server had heard of, and had not yet stored, when it was killed
            async with one.deliveries(1) as deliveries:
                assert not await comes(deliveries)


# -- details


async def test_takers_that_come_and_go_hold_nothing_up(nats_url: str) -> None:  # noqa: F811
    """Scenario: takers of two kinds are opened and closed while jobs come. What was on its way to one that left goes to
    another at once, and not after a lease."""
    prefix = fresh_prefix()
    done: list[str] = []
    async with opened(nats_url, prefix) as one, opened(nats_url, prefix) as other:

        async def come_and_go(dispatcher: JetStreamDispatcher) -> None:
            while True:
                with anyio.move_on_after(0.01):
                    async with dispatcher.deliveries(2, ("a", "b")) as deliveries:
                        async for delivery in deliveries:
                            done.append(delivery.run_id)
                            delivery.done()

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(come_and_go, one)
                group.start_soon(come_and_go, other)
                for number in range(60):
                    await one.submit(f"{number}", b"", kind="ab"[number % 2])
                    await anyio.sleep(0.003)
                while len(set(done)) < 60:
                    await anyio.sleep(0.02)
                group.cancel_scope.cancel()
    assert len(done) <= 65


async def test_a_job_that_came_for_who_was_cancelled_is_kept(nats_url: str) -> None:  # noqa: F811
    """For the next one who waits there; and it is given back when the taker leaves."""
    prefix = fresh_prefix()
    async with opened(nats_url, prefix) as one, opened(nats_url, prefix) as other:
        async with one.deliveries(1) as deliveries:
            for attempt in (1, 2):
                assert not await comes(deliveries)
                await one.submit("a", b"")
                await anyio.sleep(0.1)
                async with other.deliveries(1) as others:
                    assert not await comes(others)
                if attempt == 1:
                    (await soon(deliveries)).done()
        async with other.deliveries(1) as others:
            assert (await soon(others)).attempt == 2


async def test_the_last_one_who_opens_says_how_many(nats_url: str) -> None:  # noqa: F811
    prefix = fresh_prefix()
    async with opened(nats_url, prefix, capacity=5) as one, opened(nats_url, prefix, capacity=1) as other:
        await one.submit("a", b"")
        with pytest.raises(Saturated, match="1 jobs"):
            await other.submit("b", b"")
        async with opened(nats_url, prefix, capacity=2):
            await one.submit("b", b"")


async def test_one_line_serves_several(nats_url: str) -> None:  # noqa: F811
    """And is left open by those who found it open."""
    async with Line(nats_url) as line:
        settings = Settings(prefix=fresh_prefix())
        for number in range(2):
            async with JetStreamDispatcher(line, settings) as dispatcher:
                await dispatcher.submit(f"{number}", b"")
        assert line.is_open
    assert not line.is_open


async def test_a_dispatcher_must_be_open(nats_url: str) -> None:  # noqa: F811
    dispatcher = JetStreamDispatcher(Line(nats_url), Settings(prefix=fresh_prefix()))
    for _ in range(2):
        with pytest.raises(EngineError, match="async with"):
            await dispatcher.submit("a", b"")
        with pytest.raises(EngineError, match="async with"):
            dispatcher.deliveries(1)
        async with dispatcher:
            await dispatcher.submit("a", b"")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [({"capacity": 0}, "capacity must be 1"), ({"lease": 0.1}, "lease must be"), ({"patience": 0.0}, "patience must")],
    ids=str,
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        JetStreamDispatcher(Line("nats://localhost"), **arguments)


async def test_a_server_that_is_gone_is_an_error_in_time(tmp_path: Path) -> None:
    """Scenario: nobody is there any more. Whoever submits is told so when their patience is over."""
    with NatsServer(tmp_path) as server:
        async with opened(server.url, "gone", patience=0.3) as one:
            server.kill()
            with pytest.raises(EngineAway, match=r"127\.0\.0\.1"), anyio.fail_after(5):
                await one.submit("a", b"")
