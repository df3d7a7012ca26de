"""Restart strategies and escalation: scenarios 24 to 37, in many orders of the tasks, on a virtual clock."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from greenroom.actors import (
    ActorDied,
    ActorRef,
    ActorSystem,
    AutoShutdown,
    Backoff,
    ChildCount,
    ChildSpec,
    Context,
    ExitKind,
    Restart,
    RestartLimit,
    Strategy,
    StrayCancellation,
    Supervisor,
    SupervisorRef,
    SystemClosed,
)
from greenroom.testing import Interruption, explore, interrupt_everywhere

from ..cast import Boom, child, hang, kind
from .cast import STRATEGIES, TICK, Moments, Troupe, crash, refreshed, rest, some, staged, starts, stops

each_strategy = pytest.mark.parametrize("strategy", STRATEGIES)
each_backend = pytest.mark.parametrize("loop", ["asyncio", "trio"])


async def linger(_context: Context) -> None:
    """Take a few steps."""
    for _ in range(2):
        await checkpoint()


def gave_up(ref: ActorRef[Any], name: str, cause: BaseException | None) -> bool:
    """Whether a supervisor has ended because its child `name` ended once too often, from `cause`."""
    error = ref.exit.error if ref.exit is not None else None
    assert isinstance(error, RestartLimit)
    return kind(ref) == "crashed" and error.child == name and error.__cause__ is cause


# -- whom a restart concerns


def test_one_for_one(seeds: range) -> None:
    """Scenario 24: only the crashed child has a new incarnation; its sibling keeps identity and state."""

    async def scenario() -> None:
        troupe = Troupe()
        async with staged(troupe, troupe.parts("ab")) as top:
            a, b = child(top, "a"), child(top, "b")
            before = await b.ask("self")
            before.notes.append("remembered")
            await crash(a)
            assert troupe.take() == [*stops("a"), *starts("a")]
            assert (child(top, "a"), child(top, "b")) == (a, b)
            assert await a.ask("self") is troupe.made["a"][1]
            assert await b.ask("self") is before
            assert before.notes == ["remembered"]
            assert (await refreshed(a), await refreshed(b)) == (1, 0)
            assert {id: len(made) for id, made in troupe.made.items()} == {"a": 2, "b": 1}
            assert sorted(troupe.running()) == ["a", "b"]

    explore(scenario, seeds=seeds)


@pytest.mark.parametrize("first", "abc")
def test_one_for_all(seeds: range, first: str) -> None:
    """Scenario 25: the others stop in reverse start order, then all start in start order; nobody is there twice."""

    async def scenario() -> None:
        troupe = Troupe()
        others = "abc".replace(first, "")
        async with staged(troupe, troupe.parts("abc"), "one_for_all") as top:
            troupe.onstage.clear()
            await crash(child(top, first))
            assert troupe.take() == [*stops(first + others[::-1]), *starts("abc")]
            assert troupe.onstage == [("a", ("a",)), ("b", ("a", "b")), ("c", ("a", "b", "c"))]
            for id in "abc":
                assert await child(top, id).ask("self") is troupe.made[id][1]
                assert await refreshed(child(top, id)) == 1
            assert sorted(troupe.running()) == ["a", "b", "c"]

    explore(scenario, seeds=some(seeds, 3))


def test_rest_for_one(seeds: range) -> None:
    """Scenario 26: b crashes; d and c stop in that order, b, c, d start in that order, a is untouched."""

    async def scenario() -> None:
        troupe = Troupe()
        async with staged(troupe, troupe.parts("abcd"), "rest_for_one") as top:
            before = await child(top, "a").ask("self")
            troupe.onstage.clear()
            await crash(child(top, "b"))
            assert troupe.take() == [*stops("bdc"), *starts("bcd")]
            assert troupe.onstage == [("b", ("a", "b")), ("c", ("a", "b", "c")), ("d", ("a", "b", "c", "d"))]
            assert await child(top, "a").ask("self") is before
            assert [await refreshed(child(top, id)) for id in "abcd"] == [0, 1, 1, 1]

    explore(scenario, seeds=seeds)


# -- which ends are followed by a restart

ENDS: dict[ExitKind, Callable[[ActorRef[Any]], object]] = {
    "normal": lambda ref: ref.tell_nowait("finish"),
    "shutdown": lambda ref: ref.stop(),
    "crashed": lambda ref: ref.tell_nowait(Boom("of itself")),
    "killed": lambda ref: ref.kill(),
}
RETURNS: dict[Restart, tuple[ExitKind, ...]] = {
    "permanent": ("normal", "shutdown", "crashed", "killed"),
    "transient": ("crashed", "killed"),
    "temporary": (),
}


@each_strategy
def test_permanent_transient_temporary(seeds: range, strategy: Strategy) -> None:
    """Scenario 27: the table of restart type and end, with kills besides.

    One that returns has used one restart, no more and no less: the next one is one too many. One that does not has used
    none, and its specification is forgotten: its id is free.
    """

    async def scenario() -> None:
        async def act(system: ActorSystem, restart: Restart, end: ExitKind) -> None:
            troupe = Troupe()
            returns = end in RETURNS[restart]
            supervisor = Supervisor(
                [troupe.part("a", restart), troupe.part("b")], strategy=strategy, intensity=1 if returns else 0
            )
            top = await system.spawn(supervisor, name=f"{restart}-{end}", restart="temporary")
            a, b = child(top, "a"), child(top, "b")
            ENDS[end](a)
            await rest()
            case = (restart, end)
            if returns:
                assert a.alive, case
                assert child(top, "a") == a
                assert await refreshed(a) == 1, case
                ENDS[end](a)
                await rest()
                assert kind(top) == "crashed", case
                assert (kind(a), kind(b)) == (end, "shutdown"), case
                assert len(troupe.made["a"]) == 2, case
            else:
                assert kind(a) == end, case
                assert top.child("a") is None, case
                assert top.count() == ChildCount(1, 1, 0, 1)
                assert (len(troupe.made["a"]), len(troupe.made["b"])) == (1, 1), case
                again = await top.start_child(troupe.part("a"))
                assert again != a
                assert top.alive

        async with ActorSystem() as system, anyio.create_task_group() as group:
            for restart, ends in RETURNS.items():
                assert set(ends) <= set(ENDS)
                for end in ENDS:
                    group.start_soon(act, system, restart, end)

    explore(scenario, seeds=some(seeds, 3))


@each_strategy
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_awaiting_the_stop_of_a_child_that_returns(seeds: range, strategy: Strategy, how: str) -> None:
    """Scenario 27: awaiting the stop of a permanent child ends when that incarnation is over, not later."""

    async def scenario() -> None:
        troupe = Troupe()
        async with staged(troupe, troupe.parts("ab"), strategy) as top:
            a = child(top, "a")
            clock = Moments()
            await (a.stop() if how == "stop" else a.kill())
            assert clock.now == 0
            assert a.alive
            await rest()
            assert await refreshed(a) == 1

    explore(scenario, seeds=some(seeds, 6))


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_temporary_bystander_stays_dead(seeds: range, strategy: Strategy) -> None:
    """Scenario 28: stopped with the group, it is not started again, and neither its end nor its absence counts."""

    async def scenario() -> None:
        troupe = Troupe()
        children = [troupe.part("a"), troupe.part("t", "temporary"), troupe.part("c")]
        async with staged(troupe, children, strategy, intensity=2, restart="temporary") as top:
            t = child(top, "t")
            await crash(child(top, "a"))
            assert troupe.take() == [*stops("act"), *starts("ac")]
            assert kind(t) == "shutdown"
            assert top.child("t") is None
            assert top.count() == ChildCount(2, 2, 0, 2)
            assert troupe.told() == [("child_ended", "top/a", "crashed: Boom: top/a crashes")]
            await top.start_child(troupe.part("t", "temporary"))
            await crash(child(top, "t"))  # of its own, it concerns nobody
            assert troupe.take() == [*starts("t"), *stops("t")]
            await crash(child(top, "a"))
            assert troupe.take() == [*stops("ac"), *starts("ac")]
            assert top.alive
            last = await crash(child(top, "a"))
            assert gave_up(top, "top/a", last)

    explore(scenario, seeds=some(seeds, 2))


# -- how often

R, T = 3, 4.0
#: When a child crashes, and whether that is one too many in the end: more than R inside T seconds, the ends included.
SCHEDULES: dict[str, tuple[tuple[float, ...], bool]] = {
    "R at once": ((0, 0, 0), False),
    "R + 1 at once": ((0, 0, 0, 0), True),
    "R inside T": ((0, 1, 4), False),
    "R + 1 inside exactly T": ((0, 1, 2, 4), True),
    "R + 1 just outside T": ((0, 1, 2, 4 + TICK), False),
    "it slides": ((0, 1, 2, 4 + TICK, 5 + TICK, 6 + TICK), False),
    "it slides, then one too many": ((0, 1, 2, 4 + TICK, 5 + TICK, 6 + TICK, 8 + TICK), True),
    "it slides, then just not": ((0, 1, 2, 4 + TICK, 5 + TICK, 6 + TICK, 8 + 2 * TICK), False),
    "evenly, inside": ((0, T / R, 2 * T / R, T), True),
    "evenly, for long": (tuple(n * (T / R + TICK) for n in range(12)), False),
}


@each_strategy
def test_intensity_and_period_are_exact(seeds: range, strategy: Strategy) -> None:
    """Scenario 29: crash R + 1 inside T stops all children and the supervisor, and spread over more it does not."""

    async def scenario() -> None:
        async def act(system: ActorSystem, name: str) -> None:
            moments, one_too_many = SCHEDULES[name]
            troupe = Troupe()
            top = await system.spawn(
                Supervisor(troupe.parts("ab"), strategy=strategy, intensity=R, period=T),
                name=name,
                restart="temporary",
            )
            a, b = child(top, "a"), child(top, "b")
            clock = Moments()
            for number, moment in enumerate(moments, 1):
                await clock.at(moment)
                last = Boom(f"{number} of {name}")
                with pytest.raises(Boom) as caught:
                    await _cause(a.ask(last))
                assert caught.value is last
                assert clock.now == moment
                dies = one_too_many and number == len(moments)
                if not dies:
                    assert await refreshed(a) == number, name
                    assert clock.now == moment
                else:
                    await top.wait()
                    assert clock.now == moment
                    assert gave_up(top, f"{name}/a", last), name
                    assert (kind(a), kind(b)) == ("crashed", "shutdown"), name
                    assert len(troupe.made["a"]) == number, name
                    assert troupe.lines[-2:] == stops("b"), name
            if not one_too_many:
                assert top.alive, name

        async with ActorSystem() as system, anyio.create_task_group() as group:
            for name in SCHEDULES:
                group.start_soon(act, system, name)

    explore(scenario, seeds=some(seeds, 3))


async def _cause(asking: Awaitable[Any]) -> Any:
    """Raise the crash itself that an ask died of."""
    try:
        return await asking
    except ActorDied as error:
        raise error.__cause__ or error from None


def test_no_restart_is_allowed_at_all(seeds: range) -> None:
    """Scenario 29: with R = 0 the first crash is one too many."""

    async def scenario() -> None:
        troupe = Troupe()
        async with staged(troupe, troupe.parts("abc"), intensity=0, restart="temporary") as top:
            boom = await crash(child(top, "b"))
            assert troupe.take() == stops("bca")
            assert gave_up(top, "top/b", boom)
            assert not troupe.running()

    explore(scenario, seeds=seeds)


@each_strategy
def test_intensity_is_per_supervisor(seeds: range, strategy: Strategy) -> None:
    """Scenario 30: R + 1 different children that crash once each are one too many as well."""

    async def scenario() -> None:
        troupe = Troupe()
        async with staged(troupe, troupe.parts("abcd"), strategy, intensity=3, restart="temporary") as top:
            for id in "abc":
                await crash(child(top, id))
                assert top.alive
            last = await crash(child(top, "d"))
            assert gave_up(top, "top/d", last)
            assert not troupe.running()

    explore(scenario, seeds=some(seeds, 4))


def test_a_child_with_an_intensity_of_its_own_counts_apart(seeds: range) -> None:
    """Scenario 30: neither do its restarts use up its supervisor's, nor the other way round."""

    async def scenario() -> None:
        troupe = Troupe()
        a = ChildSpec("a", troupe.part("a").start, restart="permanent", intensity=2, period=5)
        async with staged(troupe, [a, troupe.part("b")], intensity=1, restart="temporary") as top:
            for id in "aba":
                await crash(child(top, id))
                assert top.alive
            last = await crash(child(top, "a"))
            assert gave_up(top, "top/a", last)

    explore(scenario, seeds=some(seeds, 2))


@each_strategy
def test_a_failed_restart_counts(seeds: range, strategy: Strategy) -> None:
    """Scenario 31: each attempt to start again is one restart, and the last of them ends in escalation."""

    async def scenario() -> None:
        troupe = Troupe()

        def refuse(context: Context) -> None:
            if context.restarts:
                raise Boom(f"start {context.restarts}")

        children = [troupe.part("x"), troupe.part("a", beginning=refuse), troupe.part("y")]
        async with staged(troupe, children, strategy, intensity=3, restart="temporary") as top:
            await crash(child(top, "a"))
            assert len(troupe.made["a"]) == 1 + 3
            error = top.exit.error if top.exit is not None else None
            assert isinstance(error, RestartLimit)
            assert (error.child, str(error.__cause__)) == ("top/a", "start 3")
            kinds = [report.kind for report in troupe.reports if report.supervisor == "top"]
            assert kinds == [*["child_ended"] * 3, "gave_up"]
            assert not troupe.running()

    explore(scenario, seeds=some(seeds, 4))


@each_strategy
@pytest.mark.parametrize("slowly", [False, True])
def test_a_supervisor_that_restarts_over_and_over_hears_a_stop(seeds: range, strategy: Strategy, slowly: bool) -> None:
    """Scenario 31: while a child fails to start again and again, without end, a stop takes effect all the same."""

    async def scenario() -> None:
        troupe = Troupe()
        clock = Moments()

        async def refuse(context: Context) -> None:
            if context.restarts:
                if slowly:
                    await checkpoint()
                raise Boom

        children = [troupe.part("x"), troupe.part("a", beginning=refuse), troupe.part("y")]
        async with staged(troupe, children, strategy, intensity=10**6) as top:
            at = clock.now
            child(top, "a").tell_nowait(Boom())
            while len(troupe.made["a"]) < 10:
                await checkpoint()
            top.stop()
            began = len(troupe.made["a"])
            exit = await top.wait()
            assert exit.kind == "shutdown"
            assert clock.now == at
            # One attempt may be under way already.
            assert len(troupe.made["a"]) <= began + 1
            assert not troupe.running()

    explore(scenario, seeds=some(seeds, 10))


# -- backoff


def test_backoff(seeds: range) -> None:
    """Scenario 32: delays grow within their band, as the seed has it, begin again after a quiet time, can be cut."""
    backoff = Backoff(1, 8, jitter=0.25, reset=100)

    async def scenario() -> None:
        troupe = Troupe()
        system = ActorSystem(chance=random.Random(7).random, on_report=troupe.reports.append)
        chance = random.Random(7).random
        clock = Moments()
        async with system:
            top = await system.spawn(
                Supervisor([troupe.part("a", backoff=backoff), troupe.part("b")], intensity=100), name="top"
            )
            a, b = child(top, "a"), child(top, "b")
            for middle in (1, 2, 4, 8, 8):
                delay = backoff.delay({1: 0, 2: 1, 4: 2, 8: 3}[middle], chance())
                assert 0.75 * middle <= delay <= 1.25 * middle
                await self_timed_restart(troupe, clock, a, delay)
            await anyio.sleep(101)
            await self_timed_restart(troupe, clock, a, backoff.delay(0, chance()))
            assert troupe.reports[-1].delay == backoff.delay(0, _nth(7, 6))
            assert [report.restarts for report in troupe.reports] == [True] * 6
            await crash(a)
            assert await refreshed(b) == 0  # the supervisor and the siblings are as free as ever
            began = clock.now
            await top.stop()
            assert clock.now == began
            assert kind(a) == "shutdown"
            assert [len(made) for made in troupe.made.values()] == [7, 1]

    explore(scenario, seeds=some(seeds, 2))


async def self_timed_restart(troupe: Troupe, clock: Moments, ref: ActorRef[Any], delay: float) -> None:
    """Have a child crash, and see that it is started again after `delay` seconds and not before."""
    troupe.take()
    ref.tell_nowait(Boom())
    began = clock.now
    await clock.at(began + delay - TICK)
    assert troupe.take() == stops("a")
    await clock.at(began + delay + TICK)
    assert troupe.take() == starts("a")


def _nth(seed: int, number: int) -> float:
    source = random.Random(seed)
    return [source.random() for _ in range(number)][-1]


def test_a_backoff_ends_with_its_supervisor(seeds: range) -> None:
    """Scenario 32: the wait of one incarnation of a supervisor does not cut short a wait of the next."""

    async def scenario() -> None:
        troupe = Troupe()
        inner = Supervisor([troupe.part("a", backoff=Backoff(1, jitter=0))])
        async with staged(troupe, [ChildSpec("inner", inner)]) as top:
            clock = Moments()
            group = child(top, "inner")
            await crash(child(group, "a"))
            await clock.at(0.5)
            group.kill()
            await rest()
            await crash(child(group, "a"))
            troupe.take()
            await clock.at(1.5)
            assert troupe.take() == []
            await clock.at(1.5 + 2 * TICK)
            assert troupe.take() == starts("a")

    explore(scenario, seeds=some(seeds, 2))


# -- escalation


@each_strategy
def test_escalation(seeds: range, strategy: Strategy) -> None:
    """Scenario 33: the parent sees one failure with its cause, and the siblings obey the parent's strategy only."""

    async def scenario() -> None:
        troupe = Troupe()
        inner = ChildSpec("i", Supervisor(troupe.parts("mn"), intensity=0))
        children = [troupe.part("x"), inner, troupe.part("y")]
        async with staged(troupe, children, strategy, intensity=1, restart="temporary") as top:
            boom = await crash(child(child(top, "i"), "m"))
            assert (
                troupe.take()
                == {
                    "one_for_one": [*stops("mn"), *starts("mn")],
                    "one_for_all": [*stops("mnyx"), *starts("xmny")],
                    "rest_for_one": [*stops("mny"), *starts("mny")],
                }[strategy]
            )
            first, second = troupe.reports
            assert (first.kind, first.child, first.exit.error) == ("gave_up", "top/i/m", boom)
            assert (second.kind, second.supervisor, second.child) == ("child_ended", "top", "top/i")
            assert isinstance(second.exit.error, RestartLimit)
            assert (second.exit.error.child, second.exit.error.__cause__) == ("top/i/m", boom)
            again = await crash(child(child(top, "i"), "n"))
            assert troupe.take() == stops("nmyx")
            error = top.exit.error if top.exit is not None else None
            assert isinstance(error, RestartLimit)
            assert error.child == "top/i"
            assert isinstance(error.__cause__, RestartLimit)
            assert error.__cause__.child == "top/i/n"
            assert error.__cause__.__cause__ is again

    explore(scenario, seeds=some(seeds, 3))


def test_escalation_up_to_the_block(seeds: range) -> None:
    """Scenario 33: where nobody is left to restart, the block is cancelled and raises the whole chain."""

    async def scenario() -> None:
        troupe = Troupe()
        boom = Boom("of m")
        reached: list[str] = []
        with pytest.raises(RestartLimit) as caught:
            async with staged(
                troupe,
                [ChildSpec("i", Supervisor(troupe.parts("mn"), intensity=0)), troupe.part("y")],
                intensity=0,
            ) as top:
                child(child(top, "i"), "m").tell_nowait(boom)
                try:
                    await anyio.sleep(math.inf)
                finally:
                    reached.append("end")
        chain = [caught.value]
        while chain[-1].__cause__ is not None:
            chain.append(chain[-1].__cause__)
        assert [getattr(error, "child", error) for error in chain] == ["top", "top/i", "top/i/m", boom]
        assert reached == ["end"]
        assert troupe.lines == stops("mny")

    explore(scenario, seeds=seeds)


# -- what is no crash


@each_strategy
def test_being_stopped_is_no_crash(seeds: range, strategy: Strategy) -> None:
    """Scenario 34: a child that its parent stops, or kills after its grace, uses no restart and does not return."""

    async def scenario() -> None:
        troupe = Troupe()
        children = [*troupe.parts("ab"), troupe.part("c", ending=hang, shutdown=1), troupe.part("d", shutdown="kill")]
        async with staged(troupe, children, strategy, intensity=0) as top:
            for id, ended in (("a", "shutdown"), ("c", "killed"), ("d", "killed")):
                ref = child(top, id)
                assert await top.stop_child(id)
                assert kind(ref) == ended
            await rest()
            assert top.count() == ChildCount(1, 1, 0, 1)
            b = child(top, "b")
            await top.stop()
            assert (kind(b), kind(top)) == ("shutdown", "shutdown")
            assert all(len(made) == 1 for made in troupe.made.values())

    explore(scenario, seeds=some(seeds, 3))


def test_being_stopped_with_the_group_is_no_crash(seeds: range) -> None:
    """Scenario 34: three siblings that stop with their group use no restart; the one that crashed used the only one."""

    async def scenario() -> None:
        troupe = Troupe()
        children = [*troupe.parts("abc"), troupe.part("d", ending=hang, shutdown=1)]
        async with staged(troupe, children, "one_for_all", intensity=1, restart="temporary") as top:
            await crash(child(top, "a"))
            await anyio.sleep(1)
            assert [await refreshed(child(top, id)) for id in "abcd"] == [1, 1, 1, 1]
            last = await crash(child(top, "a"))
            await anyio.sleep(1)
            assert gave_up(top, "top/a", last)

    explore(scenario, seeds=seeds)


@each_strategy
def test_the_callers_timeout_is_no_crash(seeds: range, strategy: Strategy) -> None:
    """Scenario 34: neither around an ask, nor in the handler, nor around a start that hangs, nor around everything."""

    async def scenario() -> None:
        async def bounded(_context: Context) -> str:
            with anyio.move_on_after(1):
                await anyio.sleep(math.inf)
            return "timed out"

        troupe = Troupe()
        with anyio.move_on_after(10) as around:
            async with staged(troupe, troupe.parts("ab"), strategy, intensity=0) as top:
                a = child(top, "a")
                with anyio.move_on_after(1) as scope:
                    await a.ask(hang)
                assert scope.cancelled_caught
                assert await child(top, "b").ask(bounded) == "timed out"
                with anyio.move_on_after(1) as scope:
                    await top.start_child(troupe.part("late", beginning=hang))
                assert scope.cancelled_caught
                await rest()
                assert top.child("late") is None
                assert top.count() == ChildCount(2, 2, 0, 2)
                await anyio.sleep(math.inf)
        assert around.cancelled_caught
        assert (kind(a), kind(top)) == ("killed", "killed")
        assert [len(made) for made in troupe.made.values()] == [1, 1, 1]
        assert troupe.reports == []

    explore(scenario, seeds=some(seeds, 3))


@each_backend
@pytest.mark.parametrize("busy", [False, True])
def test_a_cancelled_start_leaves_no_child(loop: str, busy: bool) -> None:
    """Scenario 34: at whatever moment the caller is cancelled, there is a child that it got, or there is none.

    Also in the very tick in which the child is ready: it is permanent, yet is not brought back.
    """

    async def scenario(interruption: Interruption) -> None:
        troupe = Troupe()
        async with staged(troupe, [troupe.part("a", ending=linger)], "one_for_all", intensity=1) as top:
            if busy:
                child(top, "a").tell_nowait(Boom())  # the supervisor has something else to do first
            ref: ActorRef[Any] | None = None
            with anyio.CancelScope() as scope:
                interruption.arm(scope.cancel)
                ref = await top.start_child(troupe.part("late", beginning=linger))
            await rest()
            assert (top.child("late") is not None) is (ref is not None)
            assert top.count().specs == (1 if ref is None else 2)
            assert top.alive

    assert interrupt_everywhere(scenario, backend=loop) > 5


async def raise_a_stray(_context: Context) -> None:
    """Raise the backend's cancelled exception outside of its scope."""
    kept: list[BaseException] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await checkpoint()
        except anyio.get_cancelled_exc_class() as error:
            kept.append(error)
    raise kept[0]


def test_a_stray_cancellation_is_a_crash(seeds: range) -> None:
    """Scenario 34: raised by the child itself, without a scope, it uses a restart, and the sibling is not cancelled."""

    async def scenario() -> None:
        troupe = Troupe()
        async with staged(troupe, troupe.parts("ab"), intensity=1, restart="temporary") as top:
            a = child(top, "a")
            a.tell_nowait(raise_a_stray)
            await rest()
            assert (await refreshed(a), await refreshed(child(top, "b"))) == (1, 0)
            assert isinstance(troupe.reports[0].exit.error, StrayCancellation)
            a.tell_nowait(raise_a_stray)
            await rest()
            error = top.exit.error if top.exit is not None else None
            assert isinstance(error, RestartLimit)
            assert isinstance(error.__cause__, StrayCancellation)

    explore(scenario, seeds=seeds)


# -- in one tick


async def fall_together(*refs: ActorRef[Any]) -> list[Boom]:
    """Have these crash in one tick. Returns their crashes in the order in which they happened."""
    gate = anyio.Event()
    fallen: list[Boom] = []

    async def fall(context: Context) -> None:
        await gate.wait()
        fallen.append(Boom(context.ref.name))
        raise fallen[-1]

    for ref in refs:
        ref.tell_nowait(fall)
    await rest()
    gate.set()
    await rest()
    return fallen


def test_siblings_crash_together_one_for_one(seeds: range) -> None:
    """Scenario 35: both are restarted, which counts two; each cause is reported.

    The design has one report for each end, not a group of causes.
    """

    async def scenario() -> None:
        troupe = Troupe()
        async with staged(troupe, troupe.parts("abc"), intensity=2, restart="temporary") as top:
            fallen = await fall_together(child(top, "a"), child(top, "b"))
            assert [(report.kind, report.exit.error) for report in troupe.reports] == [
                ("child_ended", error) for error in fallen
            ]
            assert [await refreshed(child(top, id)) for id in "abc"] == [1, 1, 0]
            last = await crash(child(top, "c"))
            assert gave_up(top, "top/c", last)

    explore(scenario, seeds=seeds)


def test_siblings_crash_together_one_for_all(seeds: range) -> None:
    """Scenario 35: one restart of the group repairs both, and counts one; the second cause is a `shutdown_error`."""

    async def scenario() -> None:
        troupe = Troupe()
        async with staged(troupe, troupe.parts("abc"), "one_for_all", intensity=1, restart="temporary") as top:
            first, second = await fall_together(child(top, "a"), child(top, "b"))
            assert [(report.kind, report.exit.error) for report in troupe.reports] == [
                ("child_ended", first),
                ("shutdown_error", second),
            ]
            assert [await refreshed(child(top, id)) for id in "abc"] == [1, 1, 1]
            last = await crash(child(top, "c"))
            assert gave_up(top, "top/c", last)

    explore(scenario, seeds=seeds)


def test_siblings_crash_together_rest_for_one(seeds: range) -> None:
    """Scenario 35: the crash of the earlier one covers a later crash of the later one, but not the other way round."""
    orders: set[str] = set()

    async def scenario() -> None:
        troupe = Troupe()
        async with staged(troupe, troupe.parts("abc"), "rest_for_one", intensity=2, restart="temporary") as top:
            first, second = await fall_together(child(top, "a"), child(top, "b"))
            orders.add(str(first))
            covered = str(first) == "top/a"
            assert [(report.kind, report.exit.error) for report in troupe.reports] == [
                ("child_ended", first),
                ("shutdown_error" if covered else "child_ended", second),
            ]
            assert [len(made) for made in troupe.made.values()] == [2, 2, 2]
            if covered:
                await crash(child(top, "c"))
                assert top.alive
            last = await crash(child(top, "c"))
            assert gave_up(top, "top/c", last)

    explore(scenario, seeds=seeds)
    assert orders == {"top/a", "top/b"} or len(seeds) < 20


@each_strategy
def test_siblings_crash_together_once_too_often(seeds: range, strategy: Strategy) -> None:
    """Scenario 35: the first crash is what the supervisor gives up for, and the second is not lost."""

    async def scenario() -> None:
        troupe = Troupe()
        async with staged(troupe, troupe.parts("abc"), strategy, intensity=0, restart="temporary") as top:
            first, second = await fall_together(child(top, "a"), child(top, "b"))
            assert [(report.kind, report.exit.error) for report in troupe.reports if report.supervisor == "top"] == [
                ("gave_up", first),
                ("shutdown_error", second),
            ]
            assert gave_up(top, str(first), first)
            assert [len(made) for made in troupe.made.values()] == [1, 1, 1]

    explore(scenario, seeds=some(seeds, 3))


# -- a significant child


@pytest.mark.parametrize("end", ["normal", "shutdown", "crashed", "killed"])
def test_auto_shutdown(seeds: range, end: ExitKind) -> None:
    """Scenario 37: the supervisor ends with the first, or the last, of its significant children, however those end.

    Their siblings stop in order; the supervisor's end is an orderly one.
    """

    async def scenario() -> None:
        ways: tuple[tuple[AutoShutdown, str, str], ...] = (
            ("any_significant", "t", "bua"),
            ("all_significant", "tu", "ba"),
        )
        for auto, ends, left in ways:
            troupe = Troupe()
            async with ActorSystem() as system:
                top = await system.spawn(
                    Supervisor(
                        [
                            troupe.part("a"),
                            *troupe.parts("tu", "temporary", significant=True),
                            *troupe.parts("bc", "temporary"),
                        ],
                        auto_shutdown=auto,
                    )
                )
                ENDS[end](child(top, "c"))  # not significant
                await rest()
                for id in ends:
                    assert top.alive
                    ENDS[end](child(top, id))
                    await rest()
                assert kind(top) == "shutdown"
                assert troupe.lines[-2 * len(left) :] == stops(left)
                assert all(len(made) == 1 for made in troupe.made.values())

    explore(scenario, seeds=some(seeds, 8))


# -- a stop in the middle of a restart


class Cut:
    """A group in the middle of its restart, and what may be seen of it from outside while something ends it."""

    def __init__(self, strategy: Strategy) -> None:
        self.troupe = Troupe()
        self.strategy: Strategy = strategy
        self.top: SupervisorRef
        self.refs: list[ActorRef[Any]] = []
        self.exits: list[str] = []
        #: Whether the group was cut off in its restart, and how many lines there were then.
        self.made = False
        self.mark = 0
        #: Who was starting then.
        self.starting: set[str] = set()
        self._over = False

    async def play(self, interruption: Interruption, cut: Callable[[SupervisorRef], object]) -> None:
        """Have b crash, and arm the cut for the restart that follows."""
        troupe = self.troupe
        children = troupe.parts("abcd", beginning=linger, ending=linger)
        async with staged(troupe, children, self.strategy, restart="temporary") as top:
            self.top = top
            self.refs = [top, *(child(top, id) for id in "abcd")]
            for ref in self.refs:
                ref._cell.watch(self._look)
            interruption.arm(partial(self._cut, cut))
            child(top, "b").tell_nowait(Boom())
            try:
                await rest()
            except anyio.get_cancelled_exc_class():
                self._note()  # asyncio's own cancellation reaches the block only now
                raise
            self._over = True
            if not self.made:
                self._note()
                top.stop()
            await top.wait()

    def _look(self, cell: Any) -> None:
        if cell.exit is not None:
            self.exits.append(cell.name)

    def _cut(self, cut: Callable[[SupervisorRef], object]) -> None:
        if not self._over:
            self.made = True
            self._note()
            cut(self.top)

    def _note(self) -> None:
        self.mark = len(self.troupe.lines)
        self.starting = {cell.id for cell in self.top._cell.children() if cell.state == "starting"}

    def check(self, end: ExitKind) -> None:
        """Nothing new was started after the cut, each has one exit, and no task is left."""
        troupe = self.troupe
        assert kind(self.top) == end
        assert sorted(self.exits) == ["top", "top/a", "top/b", "top/c", "top/d"]
        assert not troupe.running()
        after = troupe.lines[self.mark :]
        # One that had been started already, but had not run yet, begins.
        begun = [line[0] for line in after if line.endswith(" starts")]
        assert set(begun) <= self.starting, after
        assert len(begun) <= 1
        for id in "abcd":
            assert after.count(f"{id} stops") <= 1
            assert after.count(f"{id} stops") <= after.count(f"{id} gone") or end == "killed"
        if end == "shutdown":
            self.check_order(after)

    def check_order(self, after: list[str]) -> None:
        """From right to left, each gone before the next is asked."""
        events = [(line[0], line[2:]) for line in after if line.endswith(("stops", "gone"))]
        if [line for line in self.troupe.lines[: self.mark] if line[0] == "b"] in ([], ["b stops"]):
            # b was in its cleanup after the crash, or about to be; that waits for nobody.
            events = [event for event in events if event[0] != "b"]
        asked = [id for id, word in events if word == "stops"]
        gone = [id for id, word in events if word == "gone"]
        assert asked == sorted(asked, reverse=True), after
        assert gone == sorted(gone, reverse=True), after
        for (id, word), (other, next_word) in pairwise(events):
            assert (id == other) if word == "stops" else (next_word == "stops"), after


CUTS: dict[str, Callable[[anyio.CancelScope, SupervisorRef], object]] = {
    "stop": lambda _scope, top: top.stop(),
    "kill": lambda _scope, top: top.kill(),
    "scope": lambda scope, _top: scope.cancel(),
}


@each_backend
@each_strategy
@pytest.mark.parametrize("how", CUTS)
def test_stop_during_a_restart(loop: str, strategy: Strategy, how: str) -> None:
    """Scenario 36: at every moment of the restart of a group: nothing new starts, all stop in order, each ends once."""

    async def scenario(interruption: Interruption) -> None:
        cut = Cut(strategy)
        with anyio.CancelScope() as scope:
            await cut.play(interruption, lambda top: CUTS[how](scope, top))
        cut.check("killed" if how != "stop" and cut.made else "shutdown")
        assert scope.cancelled_caught is (how == "scope" and cut.made)

    assert interrupt_everywhere(scenario, backend=loop, seed=3) > 20


@each_strategy
@pytest.mark.parametrize("times", [1, 2])
def test_native_cancellation_during_a_restart(strategy: Strategy, times: int) -> None:
    """Scenario 36: asyncio's own cancellation of the task with the block, once and twice."""

    async def scenario(interruption: Interruption) -> None:
        cut = Cut(strategy)
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[None]] = []

        def cancel(_top: SupervisorRef) -> None:
            tasks[0].cancel()
            if times == 2:
                loop.call_soon(tasks[0].cancel)

        tasks.append(asyncio.create_task(cut.play(interruption, cancel)))
        await asyncio.wait(tasks)
        assert tasks[0].cancelled() is cut.made
        cut.check("killed" if cut.made else "shutdown")

    assert interrupt_everywhere(scenario, seed=3) > 20


@each_strategy
def test_stop_while_a_restarted_child_hangs_in_its_start(seeds: range, strategy: Strategy) -> None:
    """Scenario 36: the stop is heard at once; the one that hangs has its grace, and those after it never start."""

    async def hang_again(context: Context) -> None:
        if context.restarts:
            await anyio.sleep(math.inf)

    async def scenario() -> None:
        troupe = Troupe()
        children = [troupe.part("a"), troupe.part("b", beginning=hang_again, shutdown=2), troupe.part("c")]
        async with staged(troupe, children, strategy) as top:
            refs = [child(top, id) for id in "abc"]
            await crash(refs[1])
            made = {"one_for_one": [1, 2, 1], "one_for_all": [2, 2, 1], "rest_for_one": [1, 2, 1]}[strategy]
            assert [len(each) for each in troupe.made.values()] == made
            clock = Moments()
            await top.stop()
            assert clock.now == 2
            assert [kind(ref) for ref in refs] == ["shutdown", "killed", "shutdown"]
            assert [len(each) for each in troupe.made.values()] == made

    explore(scenario, seeds=some(seeds, 3))


@each_strategy
def test_a_child_wanted_after_the_stop_is_refused(seeds: range, strategy: Strategy) -> None:
    """Scenario 36: what asks for a new child while the group is stopping gets an answer, and no child."""

    async def scenario() -> None:
        troupe = Troupe()
        children = troupe.parts("ab", beginning=linger, ending=linger)
        async with staged(troupe, children, strategy, restart="temporary") as top:
            child(top, "a").tell_nowait(Boom())
            await checkpoint()
            top.stop()
            with pytest.raises(SystemClosed):
                await top.start_child(troupe.part("new"))
            await top.wait()
            assert "new" not in troupe.made

    explore(scenario, seeds=some(seeds, 3))
