"""What every quota must do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import anyio

from ..exchange import Allowance, Quota
from .looking import A_WHILE, PATIENCE, refused

#: Opens another door to the quota with these budgets.
MakeQuota: TypeAlias = Callable[[Mapping[str, Allowance]], AbstractAsyncContextManager[Quota]]


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


async def passes(quota: Quota, name: str, amount: int = 1) -> bool:
    """Whether units can be taken now."""
    with anyio.move_on_after(A_WHILE):
        await quota.take(name, amount)
        return True
    return False


QUOTA_CHECKS: tuple[Callable[[MakeQuota], Awaitable[None]], ...] = (
    free_units_are_taken_at_once,
    units_are_free_again_after_a_period,
    the_bound_holds_for_all_together,
    who_comes_first_goes_first,
    whoever_is_cancelled_has_taken_nothing,
    what_has_no_budget_has_no_limit,
    a_quota_refuses_what_makes_no_sense,
)
