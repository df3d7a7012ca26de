"""What a supervisor knows of its children: who they are, whose end is its own, how often each may come back."""

from __future__ import annotations

import math
import random
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import anyio
import pytest
from anyio.lowlevel import checkpoint

from greenroom.actors import (
    Actor,
    ActorRef,
    ActorStopped,
    ActorSystem,
    AutoShutdown,
    Backoff,
    BadChildSpec,
    ChildCount,
    ChildSpec,
    Context,
    Report,
    Restart,
    RestartLimit,
    StartFailed,
    Strategy,
    Supervisor,
    SupervisorRef,
    SystemClosed,
    WouldDeadlock,
)
from greenroom.actors.spec import time_to_stop
from greenroom.testing import Interruption, backend, explore, interrupt_everywhere

from .cast import Boom, Player, child, hang, kind, settle

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Time is virtual: a wait costs none, and ends when it should."""
    return backend(request.param)


def player(
    id: str,
    lines: list[str] | None = None,
    *,
    beginning: Callable[[Context], Any] | None = None,
    ending: Callable[[Context], Any] | None = None,
    **options: Any,
) -> ChildSpec:
    """The specification of a player."""
    return ChildSpec(id, lambda: Player(id, lines, beginning=beginning, ending=ending), **options)


@asynccontextmanager
async def group(
    children: Sequence[ChildSpec],
    strategy: Strategy = "one_for_one",
    *,
    intensity: int = 100,
    period: float = 5.0,
    auto_shutdown: AutoShutdown = "never",
    restart: Restart = "temporary",
    reports: list[Report] | None = None,
) -> AsyncIterator[SupervisorRef]:
    """A supervisor with these children, in a system of its own."""
    told = (reports if reports is not None else []).append
    async with ActorSystem(on_report=told, chance=lambda: 0.5) as system:
        supervisor = Supervisor(
            children, strategy=strategy, intensity=intensity, period=period, auto_shutdown=auto_shutdown
        )
        yield await system.spawn(supervisor, name="top", restart=restart)


async def crash(top: ActorRef[Any], *ids: str) -> None:
    """Have children crash in one tick, and see them end."""
    for id in ids:
        child(top, id).tell_nowait(Boom(id))
    await settle()


class TestStopChild:
    """`SupervisorRef.stop_child`."""

    @pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
    async def test_for_good_whatever_its_restart_type(self, restart: Restart) -> None:
        """It stops in order, does not come back, and nobody else notices."""
        lines: list[str] = []
        async with group([player(id, lines, restart=restart) for id in "abc"], intensity=0) as top:
            b = child(top, "b")
            lines.clear()
            assert await top.stop_child("b") is True
            assert (lines, kind(b), top.child("b")) == (["b stops", "b gone"], "shutdown", None)
            await anyio.sleep(10)
            assert lines == ["b stops", "b gone"]
            assert await child(top, "a").ask("alive") == await child(top, "c").ask("alive") == "alive"

    async def test_its_id_is_free_again(self) -> None:
        """At once, for a child with another specification, which takes its place at the end of the order."""
        lines: list[str] = []
        async with group([player(id, lines) for id in "abc"]) as top:
            before = child(top, "b")
            await top.stop_child("b")
            after = await top.start_child(player("b", lines, restart="permanent"))
            assert (before.alive, after.alive, before == after) == (False, True, False)
            lines.clear()
        assert [line for line in lines if line.endswith("gone")] == ["b gone", "c gone", "a gone"]

    async def test_its_past_is_forgotten(self) -> None:
        """A successor begins with windows and backoffs of its own."""
        reports: list[Report] = []
        spec = player("a", intensity=1, period=1000, backoff=Backoff(1, 100, jitter=0))
        async with group([spec], reports=reports) as top:
            await crash(top, "a")
            await anyio.sleep(2)
            await top.stop_child("a")
            await top.start_child(spec)
            await crash(top, "a")
            await anyio.sleep(2)
            assert child(top, "a").alive
            assert [report.delay for report in reports] == [1, 1]

    async def test_there_is_no_such_child(self) -> None:
        """False, also for one that has ended or was stopped before."""
        async with group([player("a"), player("b")]) as top:
            assert await top.stop_child("nobody") is False
            assert await top.stop_child("a") is True
            assert await top.stop_child("a") is False
            await child(top, "b").stop()
            assert await top.stop_child("b") is False

    async def test_asked_by_many_at_once(self) -> None:
        """One of them is told that there was one."""
        answers: list[bool] = []
        async with group([player("a")]) as top, anyio.create_task_group() as tasks:

            async def ask() -> None:
                answers.append(await top.stop_child("a"))

            for _ in range(10):
                tasks.start_soon(ask)
            await settle()
            assert sorted(answers) == [False] * 9 + [True]

    async def test_a_child_in_its_backoff(self) -> None:
        """It ends at once, and its restart is off."""
        lines: list[str] = []
        async with group([player("a", lines, restart="permanent", backoff=Backoff(5, 5, jitter=0))]) as top:
            a = child(top, "a")
            await crash(top, "a")
            assert await top.stop_child("a") is True
            assert (kind(a), top.child("a"), anyio.current_time()) == ("shutdown", None, 0)
            await anyio.sleep(10)
            assert lines.count("a starts") == 1

    @pytest.mark.parametrize(
        ("shutdown", "seconds"), [(3.0, 3.0), (None, 5.0), ("kill", 0.0), (0, 0.0)], ids=["3", "default", "kill", "0"]
    )
    async def test_a_child_that_hangs(self, shutdown: float | Literal["kill"] | None, seconds: float) -> None:
        """Asked, given its grace, then killed: not before and not after, and its exit says so."""
        async with group([player("a", shutdown=shutdown), player("b")]) as top:
            a = child(top, "a")
            await a.tell("hang")
            await settle()
            assert await top.stop_child("a") is True
            assert anyio.current_time() == pytest.approx(seconds)
            assert (kind(a), top.child("a")) == ("killed", None)
            assert await child(top, "b").ask("alive") == "alive"

    async def test_a_child_that_crashes_over_it(self) -> None:
        """Its exit is that crash, and the crash is reported; it does not come back."""

        def fail(_context: Context) -> None:
            raise Boom("while stopping")

        reports: list[Report] = []
        async with group([player("a", ending=fail, restart="permanent")], reports=reports, intensity=0) as top:
            a = child(top, "a")
            assert await top.stop_child("a") is True
            assert str(a.exit) == "crashed: Boom: while stopping"
            assert [(report.kind, report.child, report.restarts) for report in reports] == [
                ("shutdown_error", "top/a", False)
            ]
            assert (top.child("a"), top.alive) == (None, True)

    async def test_a_supervisor(self) -> None:
        """With its subtree, in reverse order."""
        lines: list[str] = []
        inner = Supervisor([player("x", lines), player("y", lines)])
        async with group([ChildSpec("inner", inner)]) as top:
            lines.clear()
            assert await top.stop_child("inner") is True
            assert lines == ["y stops", "y gone", "x stops", "x gone"]
            assert top.child("inner") is None

    async def test_messages_that_wait_are_dead_letters(self) -> None:
        """Whoever asked is told that it was stopped."""
        async with group([player("a")]) as top, anyio.create_task_group() as tasks:
            a = child(top, "a")
            await a.tell(lambda _context: anyio.sleep(1))
            await settle()

            async def ask() -> None:
                with pytest.raises(ActorStopped):
                    await a.ask("question")

            tasks.start_soon(ask)
            await settle()
            await top.stop_child("a")

    async def test_from_inside(self) -> None:
        """An actor that has itself stopped would wait for itself; so would a descendant."""

        async def stop(_context: Context) -> None:
            with pytest.raises(WouldDeadlock):
                await tops[0].stop_child("inner")
            with pytest.raises(WouldDeadlock):
                await child(tops[0], "inner").stop()
            assert await tops[0].stop_child("other") is True

        tops: list[SupervisorRef] = []
        async with group([ChildSpec("inner", Supervisor([player("leaf")])), player("other")]) as top:
            tops.append(top)
            await child(child(top, "inner"), "leaf").ask(stop)
            assert (child(top, "inner").alive, top.child("other")) == (True, None)

    async def test_an_actor_stops_itself_through_its_supervisor(self) -> None:
        async with group([player("a")]) as top:

            async def stop(_context: Context) -> None:
                with pytest.raises(WouldDeadlock):
                    await top.stop_child("a")

            await child(top, "a").ask(stop)
            assert child(top, "a").alive

    async def test_during_a_group_restart(self) -> None:
        """It waits for its turn; the child is started with its group, and then stopped for good."""
        lines: list[str] = []
        slow = player("slow", lines, ending=lambda _context: anyio.sleep(1))
        async with group([player("a", lines), player("b", lines), slow], "one_for_all") as top:
            lines.clear()
            await crash(top, "a")
            assert await top.stop_child("b") is True
            await settle()
            assert top.child("b") is None
            assert [line for line in lines if line.startswith("b")][-2:] == ["b stops", "b gone"]
            await anyio.sleep(5)
            assert [child(top, id)._cell.state for id in ("a", "slow")] == ["running", "running"]

    async def test_others_crash_meanwhile(self) -> None:
        """Their restarts wait until the child is gone, or happen in place; nothing is lost."""
        for strategy in ("one_for_one", "one_for_all", "rest_for_one"):
            slow = player("slow", ending=lambda _context: anyio.sleep(2))
            async with group([player("a"), slow, player("z")], strategy) as top, anyio.create_task_group() as tasks:
                tasks.start_soon(top.stop_child, "slow")
                await anyio.sleep(1)
                await crash(top, "a", "z")
                await anyio.sleep(3)
                assert top.child("slow") is None
                assert [child(top, id)._cell.state for id in "az"] == ["running", "running"]
                assert [child(top, id)._cell.restarts for id in "az"] == [1, 1]

    async def test_a_caller_that_is_cancelled(self) -> None:
        """Nobody waits any more, but what was asked for is done."""
        async with group([player("a", ending=lambda _context: anyio.sleep(2), restart="permanent")]) as top:
            with anyio.move_on_after(1) as scope:
                await top.stop_child("a")
            assert scope.cancelled_caught
            assert child(top, "a").alive
            await anyio.sleep(2)
            assert top.child("a") is None
            assert await (await top.start_child(player("a"))).ask("new") == "new"

    async def test_a_supervisor_that_stops_meanwhile(self) -> None:
        """The caller waits no longer than the child takes, and gets its answer or hears of the stop."""
        async with group([player("a", ending=lambda _context: anyio.sleep(2))]) as top:
            answers: list[Any] = []

            async def ask(id: str) -> None:
                try:
                    answers.append(await top.stop_child(id))
                except SystemClosed:
                    answers.append("closed")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, "a")
                await settle()
                tasks.start_soon(ask, "nobody")
                await settle()
                await top.stop()
            assert (anyio.current_time(), answers) == (2, [True, "closed"])
            with pytest.raises(SystemClosed, match="supervisor 'top' is not running"):
                await top.stop_child("a")

    @pytest.mark.parametrize("how", ["kill", "give up", "cancel"])
    async def test_a_supervisor_that_dies_meanwhile(self, how: str) -> None:
        """The caller does not wait for what will never be done."""
        outcomes: list[Any] = []
        with anyio.CancelScope() as scope:
            async with group([player("a", ending=hang, shutdown=1000), player("b")], intensity=0) as top:

                async def ask() -> None:
                    with anyio.CancelScope(shield=True), anyio.fail_after(2000):
                        try:
                            outcomes.append(await top.stop_child("a"))
                        except SystemClosed:
                            outcomes.append("closed")

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(ask)
                    await settle()
                    if how == "kill":
                        top.kill()
                    elif how == "give up":
                        await crash(top, "b")
                    else:
                        scope.cancel()
        # A supervisor that gave up still stops its children in order.
        assert outcomes == [True if how == "give up" else "closed"]

    def test_at_every_step(self) -> None:
        """Wherever the supervisor is killed or stopped in between, the caller gets an answer or an error."""

        async def scenario(interruption: Interruption, act: str) -> None:
            async with group([player("a"), player("b")], "one_for_all") as top:
                interruption.arm(top.kill if act == "kill" else top.stop)
                top.child("b") and child(top, "b").tell_nowait(Boom("x"))
                try:
                    assert await top.stop_child("a") in (True, False)
                except SystemClosed:
                    pass

        for act in ("kill", "stop"):

            async def armed(interruption: Interruption, act: str = act) -> None:
                await scenario(interruption, act)

            for name in ("asyncio", "trio"):
                assert interrupt_everywhere(armed, backend=name, seed=1) > 5


class TestStartChild:
    """`SupervisorRef.start_child`."""

    async def test_starting_without_end_lets_others_run(self) -> None:
        """A start that waits for nothing yields at every 64th time all the same."""
        rounds = 0

        class Idle(Actor):
            async def receive(self, message: object, context: Context) -> None:
                return None

        async def others() -> None:
            nonlocal rounds
            while True:
                await checkpoint()
                rounds += 1

        async with group([]) as top, anyio.create_task_group() as tasks:
            tasks.start_soon(others)
            await checkpoint()
            before = rounds
            for number in range(640):
                await top.start_child(ChildSpec(f"idle-{number}", Idle))
            assert rounds - before >= 8
            tasks.cancel_scope.cancel()

    def test_a_child_that_nobody_came_to_know_may_clean_up(self) -> None:
        """It was ready when the one that wanted it was cancelled: it is stopped, not killed."""
        abandoned: list[str] = []

        async def scenario(interruption: Interruption) -> None:
            lines: list[str] = []
            known = False
            async with (
                group([player("a", ending=lambda _context: settle())]) as top,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(top.stop_child, "a")  # keeps the supervisor busy, so that it starts the child later
                await checkpoint()
                with anyio.CancelScope() as scope:
                    interruption.arm(scope.cancel)
                    await top.start_child(player("b", lines))
                    known = True
                await settle()
                if not known and "b ready" in lines:
                    assert lines == ["b starts", "b ready", "b stops", "b gone"]
                    assert top.child("b") is None
                    abandoned.append("b")

        for name in ("asyncio", "trio"):
            assert interrupt_everywhere(scenario, backend=name, seed=1) > 5
        assert abandoned

    async def test_the_successor_of_a_child_that_left_its_group_during_a_restart_is_restarted(self) -> None:
        """A plan still had the old one to stop when it ended for good; the new one is no part of that plan."""
        for _ in range(10):  # trio may run the two in either order
            async with group([player("a", restart="permanent"), player("b")], "one_for_all") as top:
                child(top, "a").tell_nowait(Boom())
                child(top, "b").stop()
                await settle()
                assert top.child("b") is None
                await top.start_child(player("b", restart="permanent"))
                await crash(top, "b")
                assert await child(top, "b").ask("alive") == "alive"

    def test_a_supervisor_is_not_restarted_in_a_cancelled_system(self) -> None:
        """Wherever the cancellation comes: children are not started once more, only to be killed."""
        between: list[int] = []

        async def scenario(interruption: Interruption) -> None:
            lines: list[str] = []
            with anyio.CancelScope() as scope:
                async with group([player("a", lines)], intensity=0, restart="permanent") as top:

                    def cancel() -> None:
                        if top.count().specs == 0:  # the last incarnation is over, the next has started nobody
                            between.append(lines.count("a starts"))
                            lines.append("cancelled")
                        scope.cancel()

                    child(top, "a").tell_nowait(Boom())
                    interruption.arm(cancel)
                    await settle()
            if "cancelled" in lines:
                assert "a starts" not in lines[lines.index("cancelled") :]

        for name in ("asyncio", "trio"):
            assert interrupt_everywhere(scenario, backend=name, seed=1) > 5
        assert between


class TestCount:
    """`SupervisorRef.count`. Scenario 18."""

    async def test_of_each_kind(self) -> None:
        """Scenario 18: supervisors and workers, up or not, of the direct children alone."""
        inner = Supervisor([player("x"), player("y")])
        specs = [player("a"), player("b"), ChildSpec("inner", inner), player("c", backoff=Backoff(5, 5))]
        async with group(specs) as top:
            assert top.count() == ChildCount(specs=4, active=4, supervisors=1, workers=3)
            await crash(top, "c")
            assert top.count() == ChildCount(specs=4, active=3, supervisors=1, workers=3)
            await anyio.sleep(7)
            assert top.count().active == 4
            await child(top, "b").stop()
            assert top.count() == ChildCount(specs=3, active=3, supervisors=1, workers=2)
            await top.start_child(player("d"))
            await top.stop_child("inner")
            assert top.count() == ChildCount(specs=3, active=3, supervisors=0, workers=3)

    async def test_a_child_that_starts_or_stops_is_active(self) -> None:
        """As it says: running, starting or stopping."""
        specs = [player("a", ending=lambda _context: anyio.sleep(1))]
        async with group(specs) as top, anyio.create_task_group() as tasks:
            tasks.start_soon(top.start_child, player("b", beginning=lambda _context: anyio.sleep(1)))
            child(top, "a").stop()
            await settle()
            assert top.count() == ChildCount(specs=2, active=2, supervisors=0, workers=2)
            await anyio.sleep(2)
            assert top.count() == ChildCount(specs=1, active=1, supervisors=0, workers=1)

    async def test_after_the_end(self) -> None:
        """There is nothing to count."""
        async with group([player("a")]) as top:
            await top.stop()
            assert top.count() == ChildCount(specs=0, active=0, supervisors=0, workers=0)

    def test_it_does_not_lie(self, seeds: range) -> None:
        """Scenario 18: start, stop and crash at random; at every quiet moment the counts are the model's."""
        for strategy in ("one_for_one", "one_for_all", "rest_for_one"):

            async def scenario(strategy: Strategy = strategy) -> None:
                dice = random.Random(5)
                model: dict[str, Restart] = {}
                async with group([], strategy) as top:
                    for n in range(60):
                        step = dice.choice(["start", "start", "stop", "end", "crash", "stop_child"])
                        id = dice.choice(list(model)) if model and step != "start" else f"c{n}"
                        if step == "start":
                            model[id] = dice.choice(["permanent", "transient", "temporary"])
                            await top.start_child(player(id, restart=model[id]))
                        elif id not in model:
                            continue
                        elif step == "stop_child":
                            assert await top.stop_child(id)
                            del model[id]
                        else:
                            await _end(child(top, id), step)
                            _follow(model, strategy, id, step)
                        await anyio.sleep(0.1)
                        count = top.count()
                        assert list(top._cell._roster.specs) == list(model), f"after {step} {id}"
                        assert (count.specs, count.active) == (len(model), len(model))
                        assert (count.supervisors, count.workers) == (0, len(model))

            explore(scenario, seeds=seeds[:10])


async def _end(ref: ActorRef[Any], step: str) -> None:
    if step == "crash":
        await ref.tell(Boom("x"))
    elif step == "end":
        await ref.tell("finish")
    else:
        ref.stop()


def _follow(model: dict[str, Restart], strategy: str, id: str, step: str) -> None:
    """What OTP's rules make of the end of a child: whoever is left, in start order."""
    restart = model[id]
    returns = restart == "permanent" or (restart == "transient" and step == "crash")
    if not returns:
        del model[id]
    elif strategy != "one_for_one":
        ids = list(model)
        affected = ids if strategy == "one_for_all" else ids[ids.index(id) :]
        for each in affected:
            if model[each] == "temporary":
                del model[each]


class TestSignificant:
    """Scenario 37: `significant` children and `auto_shutdown`."""

    @pytest.mark.parametrize(
        ("restart", "how", "ends"),
        [
            ("transient", "end", True),
            ("transient", "stop", True),
            ("transient", "crash", False),
            ("temporary", "end", True),
            ("temporary", "stop", True),
            ("temporary", "crash", True),
        ],
    )
    async def test_any(self, restart: Restart, how: str, ends: bool) -> None:
        """Scenario 37: the first one that ends and does not come back ends the supervisor, in order."""
        lines: list[str] = []
        specs = [player("a", lines), player("s", lines, restart=restart, significant=True), player("z", lines)]
        async with group(specs, auto_shutdown="any_significant") as top:
            lines.clear()
            await _end(child(top, "s"), how)
            await settle()
            assert top.alive is not ends
            if ends:
                assert str(top.exit) == "shutdown (significant child 's' has ended)"
                assert lines == ["s stops", "s gone", "z stops", "z gone", "a stops", "a gone"]
            else:
                assert lines == ["s stops", "s gone", "s starts", "s ready"]

    async def test_all(self) -> None:
        """Scenario 37: the last of them; the others may end before, and others that are not significant after."""
        specs = [player("a"), *(player(id, significant=True) for id in "xyz")]
        async with group(specs, auto_shutdown="all_significant") as top:
            await child(top, "a").stop()
            for id in "zx":
                await child(top, id).tell("finish")
                await settle()
                assert top.alive
            await child(top, "y").tell("finish")
            await settle()
            assert str(top.exit) == "shutdown (significant child 'y' has ended)"

    @pytest.mark.parametrize("auto_shutdown", ["any_significant", "all_significant"])
    async def test_an_ordinary_child(self, auto_shutdown: AutoShutdown) -> None:
        """Its end is nobody else's."""
        specs = [player("a", restart="temporary"), player("s", significant=True)]
        async with group(specs, auto_shutdown=auto_shutdown) as top:
            await crash(top, "a")
            assert top.alive

    @pytest.mark.parametrize("auto_shutdown", ["any_significant", "all_significant"])
    async def test_stopped_for_good_by_the_supervisor(self, auto_shutdown: AutoShutdown) -> None:
        """That is no end of its own accord."""
        async with group([player("a"), player("s", significant=True)], auto_shutdown=auto_shutdown) as top:
            assert await top.stop_child("s")
            await settle()
            assert top.alive

    async def test_stopped_with_its_group(self) -> None:
        """A temporary one that is dropped when a sibling crashes has not ended of its own accord."""
        specs = [player("a"), player("s", restart="temporary", significant=True)]
        async with group(specs, "one_for_all", auto_shutdown="any_significant") as top:
            await crash(top, "a")
            assert (top.alive, top.child("s")) == (True, None)

    async def test_one_that_is_added_later(self) -> None:
        """It counts like the others."""
        async with group([player("s", significant=True)], auto_shutdown="all_significant") as top:
            await top.start_child(player("t", significant=True))
            await child(top, "s").stop()
            await settle()
            assert top.alive
            await child(top, "t").stop()
            await settle()
            assert kind(top) == "shutdown"

    async def test_the_parent_obeys_its_own_rules(self) -> None:
        """A transient supervisor is done with that, a permanent one comes back."""
        for restart, alive in (("transient", False), ("permanent", True)):
            specs = [player("s", significant=True)]
            async with group(specs, auto_shutdown="any_significant", restart=restart) as top:
                await child(top, "s").stop()
                await settle()
                assert top.alive is alive

    async def test_its_end_goes_up_through_significant_supervisors(self) -> None:
        """A supervisor that ended so is a significant child that has ended."""
        inner = Supervisor([player("s", significant=True)], auto_shutdown="any_significant")
        specs = [ChildSpec("inner", inner, significant=True), player("a")]
        async with group(specs, auto_shutdown="any_significant") as top:
            await child(child(top, "inner"), "s").tell("finish")
            await settle()
            assert str(top.exit) == "shutdown (significant child 'inner' has ended)"

    async def test_several_end_in_one_tick(self) -> None:
        """Scenario 35: the supervisor ends once."""
        specs = [player(id, significant=True) for id in "xyz"]
        async with group(specs, auto_shutdown="any_significant") as top:
            for id in "xyz":
                child(top, id).stop()
            await settle()
            assert kind(top) == "shutdown"

    async def test_a_first_start_that_fails(self) -> None:
        """It is a failure to start, with its cause: no end that the supervisor would follow."""

        def fail(_context: Context) -> None:
            raise Boom("cannot")

        bad = player("s", beginning=fail, significant=True)
        with pytest.raises(StartFailed, match="'top' did not start") as caught:
            async with group([bad], auto_shutdown="any_significant"):
                pytest.fail("the group is not there")
        inner = caught.value.__cause__
        assert isinstance(inner, StartFailed)
        assert inner.name == "top/s"
        assert isinstance(inner.__cause__, Boom)

    async def test_a_later_first_start_that_fails(self) -> None:
        """The caller is told; the supervisor lives on."""

        def fail(_context: Context) -> None:
            raise Boom("cannot")

        async with group([player("a")], auto_shutdown="any_significant") as top:
            with pytest.raises(StartFailed, match="cannot"):
                await top.start_child(player("s", beginning=fail, significant=True))
            await settle()
            assert (top.alive, top.count().specs) == (True, 1)

    def test_bad_specs(self) -> None:
        """Scenario 17: what can have no effect is refused where it is written."""
        with pytest.raises(BadChildSpec, match="child 'a' cannot be significant and permanent"):
            player("a", restart="permanent", significant=True)
        with pytest.raises(BadChildSpec, match="child 'a' is significant, but nothing follows from that"):
            Supervisor([player("a", significant=True)])
        with pytest.raises(BadChildSpec, match="auto_shutdown must be one of never, any_significant, all_sig"):
            Supervisor(auto_shutdown="sometimes")  # type: ignore[arg-type]

    async def test_a_bad_child_that_is_added_later(self) -> None:
        async with group([]) as top:
            with pytest.raises(BadChildSpec, match="child 's' is significant, but nothing follows from that"):
                await top.start_child(player("s", significant=True))
            assert top.count().specs == 0


class TestIntensityOfAChild:
    """`intensity` and `period` of one child."""

    async def test_it_is_counted_for_itself(self) -> None:
        """Scenario 29: it may crash more often than its supervisor allows, and counts nothing there."""
        specs = [player("own", intensity=5, period=10), player("a")]
        async with group(specs, intensity=1, period=10) as top:
            for _ in range(5):
                await crash(top, "own")
            await crash(top, "a")
            assert [child(top, id)._cell.restarts for id in ("own", "a")] == [5, 1]
            await crash(top, "own")
            error = top.exit and top.exit.error
            assert isinstance(error, RestartLimit)
            assert (error.child, error.intensity, error.period) == ("top/own", 5, 10)
            assert isinstance(error.__cause__, Boom)

    async def test_it_may_be_stricter(self) -> None:
        """Scenario 29: one more than its own, and the supervisor gives up although its own window is empty."""
        async with group([player("own", intensity=0), player("a")], intensity=100) as top:
            await crash(top, "own")
            error = top.exit and top.exit.error
            assert isinstance(error, RestartLimit)
            assert (error.child, error.intensity, error.period) == ("top/own", 0, 5)

    async def test_the_window_slides(self) -> None:
        """Scenario 29: exactly at the period it is still inside, a moment later it is not."""
        for wait, alive in ((10.0, False), (10.001, True)):
            async with group([player("own", intensity=1, period=10)]) as top:
                await crash(top, "own")
                await anyio.sleep(wait)
                await crash(top, "own")
                assert top.alive is alive

    async def test_those_without_share_the_supervisors(self) -> None:
        """Scenario 30: different children count together, those with a window of their own apart."""
        specs = [player("own", intensity=5), *(player(id) for id in "abc")]
        async with group(specs, intensity=2) as top:
            await crash(top, "own", "a", "b")
            await crash(top, "own")
            assert top.alive
            await crash(top, "c")
            assert isinstance(top.exit and top.exit.error, RestartLimit)

    async def test_in_a_group(self) -> None:
        """It is the crash that is counted, in the window of the child that crashed."""
        async with group([player("own", intensity=3), player("a")], "one_for_all", intensity=0) as top:
            for _ in range(3):
                await crash(top, "own")
            assert (child(top, "a")._cell.restarts, top.alive) == (3, True)
            await crash(top, "a")
            assert isinstance(top.exit and top.exit.error, RestartLimit)

    async def test_a_restarted_supervisor_begins_anew(self) -> None:
        """The windows belong to its incarnation."""
        inner = Supervisor([player("own", intensity=1, period=1000)])
        async with group([ChildSpec("inner", inner)]) as top:
            for _ in range(2):
                await crash(child(top, "inner"), "own")
            assert child(top, "inner")._cell.restarts == 1
            await crash(child(top, "inner"), "own")
            assert child(top, "inner")._cell.restarts == 1


class TestShutdownWarning:
    """Scenario 40: a supervisor that is killed before its children have had their time."""

    def test_a_time_that_is_too_short(self) -> None:
        """It warns, with both times, where the specification is written."""
        inner = Supervisor([player("a", shutdown=2), player("b"), player("c", shutdown="kill")])
        words = (
            "supervisor 'inner' is killed 3 s after it was asked to stop, but its children may take 7 s: "
            "leave shutdown= out, and it waits for them"
        )
        with pytest.warns(UserWarning, match=words) as caught:
            ChildSpec("inner", inner, shutdown=3)
        assert [warning.filename for warning in caught] == [__file__]

    def test_no_time_at_all(self) -> None:
        """Killing a supervisor kills its children."""
        with pytest.warns(UserWarning, match="'inner' is killed 0 s after"):
            ChildSpec("inner", Supervisor([player("a")]), shutdown="kill")

    @pytest.mark.parametrize("shutdown", [None, 5, 6.5, math.inf])
    def test_a_time_that_is_enough(self, shutdown: float | None) -> None:
        """No warning; by default it waits as long as it takes."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            spec = ChildSpec("inner", Supervisor([player("a")]), shutdown=shutdown)
            ChildSpec("empty", Supervisor(), shutdown="kill")
            ChildSpec("actor", Player, shutdown=0.1)
        assert spec.grace == (math.inf if shutdown is None else shutdown)

    def test_the_time_that_a_tree_needs(self) -> None:
        """Children stop one after the other, so their times add up; a supervisor with a time of its own takes that."""
        deep = Supervisor([player("a"), player("b", shutdown=1)])
        tree = Supervisor([ChildSpec("deep", deep), ChildSpec("timed", deep, shutdown=7), player("c", shutdown=0)])
        assert (time_to_stop(deep), time_to_stop(tree)) == (6, 13)
        assert time_to_stop(Supervisor([player("a", shutdown=math.inf)])) == math.inf

    async def test_the_time_that_it_says_is_the_time_that_it_takes(self) -> None:
        """Scenario 40: with every child hanging, the orderly stop of the tree takes that long and no longer."""
        deep = Supervisor([player(id, ending=hang, shutdown=2) for id in "ab"])
        tree = Supervisor([ChildSpec("deep", deep), player("c", ending=hang, shutdown=1)])
        async with ActorSystem() as system:
            top = await system.spawn(tree, name="top")
            await top.stop()
            assert anyio.current_time() == time_to_stop(tree) == 5
            assert kind(top) == "shutdown"

    async def test_what_it_warns_of(self) -> None:
        """With a shorter time its children are killed with it."""
        lines: list[str] = []
        with pytest.warns(UserWarning, match="'inner' is killed 1 s after"):
            inner = ChildSpec("inner", Supervisor([player("a", lines), player("b", lines, ending=hang)]), shutdown=1)
        async with group([inner]) as top:
            b = child(child(top, "inner"), "b")
            await top.stop()
            assert anyio.current_time() >= 1
            assert kind(b) == "killed"
            assert kind(top) == "shutdown"


def test_the_lives_of_a_group_balance() -> None:
    """What starts stops: whatever is done to a group of children, each start has its end, in any schedule."""

    async def scenario() -> None:
        lines: list[str] = []
        async with (
            group([player(id, lines) for id in "abc"], "rest_for_one") as top,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(top.stop_child, "b")
            child(top, "a").tell_nowait(Boom("x"))
            tasks.start_soon(top.start_child, player("d", lines))
            tasks.start_soon(top.stop_child, "c")
        counts = Counter(line.partition(" ")[2] for line in lines)
        assert counts["starts"] == counts["ready"] == counts["gone"]

    explore(scenario, seeds=50)


class TestTalkingToASupervisor:
    """It takes children, not messages."""

    @pytest.mark.parametrize("how", ["tell", "ask", "tell_nowait"])
    async def test_is_refused(self, how: str) -> None:
        """At once, with the way to its children."""
        async with ActorSystem() as system:
            top = await system.spawn(Supervisor([]), name="top")
            with pytest.raises(TypeError, match=r"supervisor 'top' takes no messages.*child\(id\)"):
                result = getattr(top, how)("hello")
                await result

    async def test_of_no_description(self) -> None:
        """A child must be described."""
        async with ActorSystem() as system:
            top = await system.spawn(Supervisor([]), name="top")
            with pytest.raises(BadChildSpec, match="takes a ChildSpec, not 'worker'"):
                await top.start_child("worker")  # pyright: ignore


class TestSpawningWhileBeingStarted:
    """A child may start others of the same one_for_one supervisor, in each of its incarnations."""

    @pytest.mark.parametrize("backoff", [None, Backoff(1.0, jitter=0)])
    async def test_in_a_restart(self, backoff: Backoff | None) -> None:
        """Also while the supervisor waits for it."""

        async def spawn(context: Any) -> None:
            await system.spawn(Player, name=f"helper-{context.restarts}")

        async with ActorSystem() as system:
            it = await system.spawn(lambda: Player(beginning=spawn), backoff=backoff)
            await it.tell(Boom("x"))
            assert await it.ask("alive") == "alive"
            assert system.actor("helper-1") is not None

    async def test_in_a_restart_of_a_group(self) -> None:
        """There the order of the children would be another: it is refused."""

        async def want(context: Any) -> None:
            if context.restarts:
                await tops[0].start_child(ChildSpec("more", Player))

        tops: list[SupervisorRef] = []
        async with ActorSystem() as system:
            group = Supervisor([ChildSpec("a", lambda: Player(beginning=want))], strategy="one_for_all", intensity=1)
            tops.append(await system.spawn(group, restart="temporary"))
            await child(tops[0], "a").tell(Boom("x"))
            error = (await tops[0].wait()).error
            assert isinstance(error, RestartLimit)
            assert isinstance(error.__cause__, WouldDeadlock)
