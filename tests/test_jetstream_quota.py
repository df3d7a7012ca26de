"""The quota over NATS: what every quota must do, and what happens when the server fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from greenroom.exchange import Allowance
from greenroom.jetstream.errors import EngineError
from greenroom.jetstream.line import Line
from greenroom.jetstream.quota import JetStreamQuota
from greenroom.jetstream.settings import Settings
from greenroom.jetstream.shares import Claim, OtherClock, Shares
from greenroom.testing import QUOTA_CHECKS

from .nats_server import NatsServer, fresh_prefix, nats_url  # noqa: F401 - a fixture

pytestmark = pytest.mark.anyio


def doors(url: str) -> Callable[..., AbstractAsyncContextManager[JetStreamQuota]]:
    """Each with a connection of its own."""
    settings = Settings(prefix=fresh_prefix())

    @asynccontextmanager
    async def make(allowances: Mapping[str, Allowance]) -> AsyncIterator[JetStreamQuota]:
        async with JetStreamQuota(Line(url), allowances, settings) as quota:
            yield quota

    return make


@pytest.mark.parametrize("check", QUOTA_CHECKS, ids=lambda check: check.__name__)
async def test_it_does_what_every_quota_must(check: Any, nats_url: str) -> None:  # noqa: F811
    await check(doors(nats_url))


# -- many machines


async def test_eight_replicas_use_what_there_is_and_no_more(nats_url: str) -> None:  # noqa: F811
    """Scenario: eight replicas share 400 calls per second, and each could use them all."""
    units, period, seconds = 400, 1.0, 3.8
    make = doors(nats_url)
    taken: list[float] = []

    async def take(quota: JetStreamQuota) -> None:
        while True:
            await quota.take("calls")
            taken.append(monotonic())

    async with AsyncExitStack() as stack:
        quotas = [await stack.enter_async_context(make({"calls": Allowance(units, period)})) for _ in range(8)]
        began = monotonic()
        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as group:
                for quota in quotas:
                    for _ in range(3):
                        group.start_soon(take, quota)
        assert monotonic() < began + seconds + 1
    for start in range(0, len(taken), 7):
        within = sum(1 for each in taken[start:] if each < taken[start] + period)
        assert within <= units
    # Four bursts: at once, and after each period.
    assert len(taken) >= 0.9 * units * 4


async def test_who_needs_much_is_not_overtaken_for_ever(nats_url: str) -> None:  # noqa: F811
    """Scenario: one wants the whole budget at once, others take single units all the time."""
    make = doors(nats_url)
    budget = {"a": Allowance(20, 0.4)}

    async def nibble(quota: JetStreamQuota) -> None:
        while True:
            await quota.take("a")

    async with (
        make(budget) as one,
        make(budget) as other,
        make(budget) as third,
        anyio.create_task_group() as group,
    ):
        group.start_soon(nibble, one)
        group.start_soon(nibble, other)
        await anyio.sleep(0.5)
        with anyio.fail_after(15):
            for _ in range(2):
                await third.take("a", 20)
        group.cancel_scope.cancel()


async def test_a_budget_is_as_used_as_it_was_when_its_server_is_back(tmp_path: Path) -> None:
    """Scenario: the server is killed while somebody waits. Nobody gets more for that, and whoever waits goes on."""
    with NatsServer(tmp_path) as server:
        make = doors(server.url)
        async with make({"a": Allowance(4, 2.0)}) as one, make({"a": Allowance(4, 2.0)}) as other:
            await one.take("a", 4)
            began = monotonic()
            async with anyio.create_task_group() as group:
                group.start_soon(other.take, "a", 2)
                await anyio.sleep(0.1)
                server.kill()
                group.start_soon(one.take, "a", 2)
                await anyio.to_thread.run_sync(server.start)
            assert began + 1.95 < monotonic() < began + 8
            with anyio.move_on_after(0.3):
                await one.take("a")
                raise AssertionError("more than there is")


async def test_a_quota_must_be_open(nats_url: str) -> None:  # noqa: F811
    quota = JetStreamQuota(Line(nats_url), {"a": Allowance(1, 1.0)}, Settings(prefix=fresh_prefix()))
    with pytest.raises(EngineError, match="async with"):
        await quota.take("a")
    with pytest.raises(ValueError, match="patience"):
        JetStreamQuota(Line(nats_url), {}, patience=0.0)
    with pytest.raises(ValueError, match="1 unit"):
        JetStreamQuota(Line(nats_url), {"a": Allowance(0, 1.0)})


# -- the record


class SharesMachine(RuleBasedStateMachine):
    """Portions that are taken by several, as time goes by, against a list."""

    @initialize(budget=st.integers(1, 12))
    def make(self, budget: int) -> None:
        self.budget, self.period, self.good_for = budget, 10.0, 0.5
        self.shares = Shares()
        self.now = 1_000.0
        self.spent: list[tuple[float, int]] = []

    @rule(who=st.sampled_from("abc"), units=st.integers(1, 12), late=st.floats(0.0, 1.0))
    def take(self, who: str, units: int, late: float) -> None:
        """Spent at any moment as long as the portion is good."""
        at = self.shares.free_at(self.now, units, self.budget, who)
        if at > self.now:
            assert units > self.budget or at < inf
            return
        assert units <= self.budget
        until = self.now + self.good_for + self.period
        shares = self.shares.with_taken(self.now, units, until, self.period / 50, who)
        self.shares = msgspec.msgpack.decode(msgspec.msgpack.encode(shares), type=Shares)
        self.spent.append((self.now + late * self.good_for, units))

    @rule(who=st.sampled_from("abc"), units=st.integers(1, 12))
    def claim(self, who: str, units: int) -> None:
        if units <= self.budget:
            claimed = self.shares.with_claim(self.now, Claim(who, units, self.now + 2.0))
            self.shares = self.shares if claimed is None else claimed

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 4.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def no_period_sees_more(self) -> None:
        for start, _ in self.spent:
            assert sum(units for moment, units in self.spent if start <= moment < start + self.period) <= self.budget
        assert len(self.shares.taken) <= 60

    @invariant()
    def all_is_free_in_the_end(self) -> None:
        later = self.now + self.period + self.good_for + self.period / 50 + 2.0
        assert self.shares.free_at(later, self.budget, self.budget, "anybody") == later


TestShares = SharesMachine.TestCase
TestShares.settings = hypothesis_settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_who_claims_many_is_first() -> None:
    """Others leave them for him until he has them, or is not heard of."""
    shares = Shares().with_claim(0.0, Claim("a", 6, 2.0))
    assert shares is not None
    assert shares.with_claim(1.0, Claim("b", 8, 3.0)) is None
    assert shares.free_at(1.0, 4, 10, "b") == 1.0
    assert shares.free_at(1.0, 5, 10, "b") > 1.0
    assert shares.free_at(1.0, 10, 10, "a") == 1.0
    assert shares.free_at(2.0, 10, 10, "b") == 2.0
    assert shares.with_taken(1.0, 6, 12.0, 0.1, "a").claim is None
    assert shares.with_taken(1.0, 1, 12.0, 0.1, "b").claim == shares.claim


def test_another_clock_is_known_within_bounds() -> None:
    clock = OtherClock(1_000.0, asked=10.0, answered=10.4)
    assert clock.at(10.4) == pytest.approx((1_000.0, 1_000.4), abs=1e-3)
    earliest, latest = clock.at(110.4)
    assert earliest < 1_100.0 < 1_100.4 < latest < earliest + 0.5
    assert clock.age(12.4) == pytest.approx(2.0)
