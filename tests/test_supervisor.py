"""Groups of children: started in order, restarted by rule, stopped in reverse."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import anyio
import pytest
from anyio.lowlevel import checkpoint

from greenroom.actors import (
    Actor,
    ActorRef,
    ActorSystem,
    Backoff,
    BadChildSpec,
    ChildSpec,
    Context,
    NameTaken,
    Restart,
    RestartLimit,
    StartFailed,
    Strategy,
    Supervisor,
    SupervisorRef,
    SystemClosed,
    WouldDeadlock,
)

pytestmark = pytest.mark.anyio


class Boom(Exception):
    """What our children crash with."""


class Stage:
    """What happened to the children, in order; and what is to happen to them next."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        #: Children whose next starts fail.
        self.fail: dict[str, int] = {}
        #: Children that hang while they start, or while they stop.
        self.hang_starting: set[str] = set()
        self.hang_stopping: set[str] = set()

    def take(self) -> list[str]:
        """What happened since the last look."""
        lines, self.lines = self.lines, []
        return lines

    def child(
        self, id: str, restart: Restart = "permanent", shutdown: float | Literal["kill"] | None = None
    ) -> ChildSpec:
        """The specification of a child that writes down what happens to it."""
        return ChildSpec(id, lambda: Child(self, id), restart=restart, shutdown=shutdown)

    def children(self, ids: str, restart: Restart = "permanent") -> list[ChildSpec]:
        """One child for each letter."""
        return [self.child(id, restart) for id in ids]


class Child(Actor):
    """Notes its life, remembers what it is told, and crashes when it is told an exception."""

    def __init__(self, stage: Stage, id: str) -> None:
        self.stage = stage
        self.id = id
        self.memory: list[Any] = []

    async def started(self, _context: Context) -> None:
        """Start, slowly."""
        self.stage.lines.append(f"{self.id} starts")
        await checkpoint()
        if self.id in self.stage.hang_starting:
            await anyio.sleep(math.inf)
        if self.stage.fail.get(self.id, 0):
            self.stage.fail[self.id] -= 1
            raise Boom(f"{self.id} cannot start")
        self.stage.lines.append(f"{self.id} ready")

    async def receive(self, message: Any, context: Context) -> Any:
        """Crash, finish, call, or remember."""
        if isinstance(message, BaseException):
            raise message
        if message == "finish":
            context.stop()
        elif message == "hang":
            await anyio.sleep(math.inf)
        elif callable(message):
            return await message(context)
        else:
            self.memory.append(message)
        return list(self.memory)

    async def stopping(self, _context: Context, _exit: Any) -> None:
        """Stop, slowly."""
        self.stage.lines.append(f"{self.id} stops")
        if self.id in self.stage.hang_stopping:
            await anyio.sleep(math.inf)
        await checkpoint()
        self.stage.lines.append(f"{self.id} gone")


@asynccontextmanager
async def group(
    children: list[ChildSpec],
    strategy: Strategy = "one_for_one",
    intensity: int = 3,
    period: float = 5.0,
    restart: Restart = "transient",
) -> AsyncIterator[SupervisorRef]:
    """A running supervisor called "top", in a system of its own."""
    async with ActorSystem() as system:
        yield await system.spawn(
            Supervisor(children, strategy=strategy, intensity=intensity, period=period), name="top", restart=restart
        )


def child(ref: SupervisorRef, id: str) -> ActorRef[Any]:
    """A child that is expected to be there."""
    found = ref.child(id)
    assert found is not None
    return found


async def settle() -> None:
    """Let everybody run until all wait. Nothing here depends on time, so a number of rounds is enough, and quick."""
    for _ in range(50):
        await checkpoint()


class TestStart:
    """Scenarios 15, 16."""

    async def test_in_order_each_ready_before_the_next(self) -> None:
        """Scenario 15: b begins only after a has reported ready."""
        stage = Stage()
        async with group(stage.children("abc")):
            assert stage.lines == ["a starts", "a ready", "b starts", "b ready", "c starts", "c ready"]

    async def test_a_failing_start_undoes_the_earlier_ones(self) -> None:
        """Scenario 15: a is stopped, c never starts, the error names b and its cause."""
        stage = Stage()
        stage.fail["b"] = 1
        with pytest.raises(StartFailed, match="'top' did not start") as caught:
            async with group(stage.children("abc")):
                pytest.fail("the group is not there")
        inner = caught.value.__cause__
        assert isinstance(inner, StartFailed)
        assert inner.name == "top/b"
        assert isinstance(inner.__cause__, Boom)
        assert stage.lines == ["a starts", "a ready", "b starts", "b stops", "b gone", "a stops", "a gone"]

    async def test_a_child_that_ends_at_once_has_started(self) -> None:
        """Ready and over before the supervisor looks is no failure to start."""

        class Brief(Actor):
            async def started(self, context: Context) -> None:
                context.stop()

        stage = Stage()
        async with group([ChildSpec("brief", Brief), stage.child("next")]) as top:
            assert top.child("brief") is None
            assert child(top, "next").alive

    async def test_a_dynamic_child_that_fails_to_start(self) -> None:
        """Scenario 16: the caller gets the error; it counts no restart and leaves no child."""
        stage = Stage()
        async with group([], intensity=0) as top:
            stage.fail["a"] = 1
            with pytest.raises(StartFailed, match=r"'top/a' did not start.*a cannot start") as caught:
                await top.start_child(stage.child("a"))
            assert isinstance(caught.value.__cause__, Boom)
            assert top.child("a") is None
            assert await (await top.start_child(stage.child("a"))).ask(1) == [1]

    async def test_a_constructor_that_fails(self) -> None:
        """An actor that cannot even be made did not start, also when it has no `started` of its own."""

        class Unmakeable(Actor):
            def __init__(self) -> None:
                raise Boom("no")

        async with group([]) as top:
            with pytest.raises(StartFailed, match="Boom: no"):
                await top.start_child(ChildSpec("a", Unmakeable))

    async def test_an_id_is_unique_among_the_live(self) -> None:
        """A second child with the id is refused; after the end of the first the id is free."""
        stage = Stage()
        async with group([stage.child("a", "temporary")]) as top:
            with pytest.raises(NameTaken, match="'top/a' is alive already"):
                await top.start_child(stage.child("a"))
            await child(top, "a").stop()
            assert (await top.start_child(stage.child("a"))).alive

    async def test_a_caller_cancelled_while_the_child_starts(self) -> None:
        """Nobody holds the child, so it does not stay."""
        stage = Stage()
        stage.hang_starting.add("a")
        async with group([]) as top:
            with anyio.move_on_after(0.001):
                await top.start_child(stage.child("a"))
            await settle()
            assert top.child("a") is None

    async def test_a_caller_cancelled_while_the_supervisor_is_busy(self) -> None:
        """A child that was wanted meanwhile by somebody who is gone is not started at all."""
        stage, ready = Stage(), anyio.Event()

        class Slow(Actor):
            async def started(self, _context: Context) -> None:
                await ready.wait()

        async with ActorSystem() as system, anyio.create_task_group() as tasks:
            tasks.start_soon(self._spawn, system, Supervisor([ChildSpec("slow", Slow)]))
            await settle()
            top = system.actor("top")
            assert isinstance(top, SupervisorRef)
            with anyio.move_on_after(0.001) as scope:
                await top.start_child(stage.child("a"))
            assert scope.cancelled_caught
            ready.set()
            await settle()
            assert (top.child("a"), stage.lines) == (None, [])

    @staticmethod
    async def _spawn(system: ActorSystem, supervisor: Supervisor) -> None:
        await system.spawn(supervisor, name="top")

    async def test_children_wanted_while_the_supervisor_starts(self) -> None:
        """They start when the others are ready."""
        stage = Stage()

        async def want(context: Context) -> None:
            await refs[0].start_child(stage.child("late"))

        refs: list[SupervisorRef] = []

        class Wanting(Actor):
            async def started(self, context: Context) -> None:
                top = system.actor("top")
                assert isinstance(top, SupervisorRef)
                refs.append(top)
                tasks.start_soon(want, context)

        async with ActorSystem() as system, anyio.create_task_group() as tasks:
            await system.spawn(Supervisor([ChildSpec("w", Wanting), stage.child("a")]), name="top")
            await settle()
            assert stage.lines == ["a starts", "a ready", "late starts", "late ready"]

    async def test_a_stopping_supervisor_takes_no_children(self) -> None:
        """Not while it stops, and not afterwards."""
        stage = Stage()
        async with group([]) as top:
            ending = top.stop()
            with pytest.raises(SystemClosed):
                await top.start_child(stage.child("a"))
            await ending
            with pytest.raises(SystemClosed):
                await top.start_child(stage.child("a"))
        assert stage.lines == []


class TestStrategies:
    """Scenarios 24 to 28: whom a crash concerns."""

    async def test_one_for_one(self) -> None:
        """Scenario 24: only the crashed child is new; its sibling keeps its state."""
        stage = Stage()
        async with group(stage.children("ab")) as top:
            await child(top, "b").ask("memory")
            stage.take()
            await child(top, "a").tell(Boom("x"))
            await settle()
            assert stage.take() == ["a stops", "a gone", "a starts", "a ready"]
            assert await child(top, "b").ask("more") == ["memory", "more"]

    async def test_one_for_all(self) -> None:
        """Scenario 25: the others stop in reverse order, then all start in order."""
        stage = Stage()
        async with group(stage.children("abc"), "one_for_all") as top:
            stage.take()
            await child(top, "b").tell(Boom("x"))
            await settle()
            assert [line for line in stage.take() if not line.endswith("gone")] == [
                *("b stops", "c stops", "a stops"),
                *("a starts", "a ready", "b starts", "b ready", "c starts", "c ready"),
            ]

    async def test_rest_for_one(self) -> None:
        """Scenario 26: those after it stop in reverse order and start again with it; those before are untouched."""
        stage = Stage()
        async with group(stage.children("abcd"), "rest_for_one") as top:
            stage.take()
            await child(top, "b").tell(Boom("x"))
            await settle()
            assert [line for line in stage.take() if line.endswith(("stops", "ready"))] == [
                *("b stops", "d stops", "c stops"),
                *("b ready", "c ready", "d ready"),
            ]

    @pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
    async def test_addresses_and_mailboxes_are_kept(self, strategy: Strategy) -> None:
        """Scenario 14: whatever the strategy, refs stay valid and what waits in the mailboxes is handled."""
        stage = Stage()
        go_on = anyio.Event()

        async def busy(_context: Context) -> None:
            await go_on.wait()

        async with group(stage.children("ab"), strategy) as top:
            a, b = child(top, "a"), child(top, "b")
            for message in ("lost state", Boom("x"), "queued"):
                a.tell_nowait(message)
            b.tell_nowait(busy)
            await settle()
            b.tell_nowait("queued")
            go_on.set()
            assert await a.ask("after") == ["queued", "after"]
            assert await b.ask("after") == ["queued", "after"]
            assert (child(top, "a"), child(top, "b")) == (a, b)

    async def test_a_temporary_child_is_forgotten(self) -> None:
        """Scenario 27: after its crash there is no such child, and nothing was counted."""
        stage = Stage()
        async with group([stage.child("a", "temporary")], intensity=0) as top:
            await child(top, "a").tell(Boom("x"))
            await settle()
            assert top.child("a") is None

    async def test_a_temporary_bystander_stays_dead(self) -> None:
        """Scenario 28: stopped with the group, it is not started again, and its address has ended."""
        stage = Stage()
        async with group([stage.child("a"), stage.child("t", "temporary")], "one_for_all") as top:
            bystander = child(top, "t")
            stage.take()
            await child(top, "a").tell(Boom("x"))
            await settle()
            assert "t starts" not in stage.take()
            assert str(bystander.exit) == "shutdown (shutdown)"
            assert top.child("t") is None

    async def test_a_killed_permanent_child_returns(self) -> None:
        """A kill is no orderly end."""
        stage = Stage()
        async with group([stage.child("a")]) as top:
            await child(top, "a").kill()
            assert await child(top, "a").ask("new") == ["new"]

    async def test_a_transient_child_that_finished_stays_down(self) -> None:
        """Its siblings go on, and its name is free."""
        stage = Stage()
        async with group(stage.children("ab", "transient"), "one_for_all") as top:
            await child(top, "a").tell("finish")
            await settle()
            assert (top.child("a"), child(top, "b").alive) == (None, True)

    async def test_a_restarted_child_that_finishes_at_once(self) -> None:
        """The rest of its group is started all the same."""
        stage = Stage()
        lives = iter(("stay", "finish"))

        class Fickle(Actor):
            async def started(self, context: Context) -> None:
                if next(lives) == "finish":
                    context.stop()

            async def receive(self, message: Any, _context: Context) -> None:
                raise message

        async with group([ChildSpec("fickle", Fickle), stage.child("b")], "one_for_all") as top:
            await child(top, "fickle").tell(Boom("x"))
            await settle()
            assert await child(top, "b").ask("alive") == ["alive"]

    async def test_a_group_restart_is_overtaken_by_a_newer_one(self) -> None:
        """A child that hangs in its start, because an earlier one crashed again meanwhile, does not block the group."""
        stage = Stage()
        specs = [stage.child("a"), stage.child("b", shutdown=0.001), stage.child("c")]
        async with group(specs, "one_for_all") as top:
            stage.hang_starting.add("b")
            await child(top, "a").tell(Boom("first"))
            await settle()
            stage.hang_starting.clear()
            await child(top, "a").tell(Boom("second"))
            await settle()
            assert await child(top, "b").ask("alive") == ["alive"]
            assert await child(top, "c").ask("alive") == ["alive"]
            assert stage.lines.count("c starts") == 1 + 1


class TestIntensity:
    """Scenarios 29 to 31, 35: how many restarts are too many."""

    async def test_one_restart_too_many(self) -> None:
        """Scenario 29: after R restarts the next crash ends the supervisor, all children first."""
        stage = Stage()
        with pytest.raises(RestartLimit):
            async with group(stage.children("ab"), intensity=2, restart="permanent") as top:
                a = child(top, "a")
                for _ in range(2):
                    await a.tell(Boom("x"))
                    assert await a.ask("alive") == ["alive"]
                await anyio.sleep(0)
                while True:  # the outer levels restart it until they have had enough themselves
                    await child(top, "a").tell(Boom("x"))
                    await settle()
        assert stage.lines.count("b stops") == stage.lines.count("b gone") == stage.lines.count("b ready")

    async def test_different_children_count_together(self) -> None:
        """Scenario 30: three children that crash once each exceed an intensity of two."""
        stage = Stage()
        async with group(stage.children("abc"), intensity=2, restart="temporary") as top:
            for id in "abc":
                await child(top, id).tell(Boom(id))
                await settle()
            exit = await top.wait()
            assert isinstance(exit.error, RestartLimit)
            assert exit.error.child == "top/c"

    async def test_each_failed_restart_counts(self) -> None:
        """Scenario 31: a child that cannot start again uses up the restarts, and the supervisor gives up."""
        stage = Stage()
        async with group([stage.child("a")], intensity=3, restart="temporary") as top:
            stage.fail["a"] = 100
            await child(top, "a").tell(Boom("x"))
            exit = await top.wait()
            assert isinstance(exit.error, RestartLimit)
            assert str(exit.error.__cause__) == "a cannot start"
            assert stage.lines.count("a starts") == 1 + 3

    @pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
    async def test_each_failed_group_restart_counts(self, strategy: Strategy) -> None:
        """Scenario 31: under the group strategies too; the siblings wait for it meanwhile."""
        stage = Stage()
        async with group(stage.children("ab"), strategy, intensity=3, restart="temporary") as top:
            stage.fail["a"] = 2
            await child(top, "a").tell(Boom("x"))
            await settle()
            assert await child(top, "b").ask("alive") == ["alive"]
            assert stage.lines.count("a starts") == 1 + 3
            assert stage.lines.count("b starts") == 1 + 1

    @pytest.mark.parametrize(
        ("strategy", "survives"), [("one_for_one", False), ("one_for_all", True), ("rest_for_one", True)]
    )
    async def test_siblings_that_crash_together(self, strategy: Strategy, survives: bool) -> None:
        """Scenario 35: two restarts under one_for_one, one under the group strategies."""
        stage = Stage()
        async with group(stage.children("ab"), strategy, intensity=1, restart="temporary") as top:
            crash_of_a = anyio.Event()

            async def crash(_context: Context) -> None:
                crash_of_a.set()
                raise Boom("a")

            async def crash_too(_context: Context) -> None:
                await crash_of_a.wait()
                raise Boom("b")

            child(top, "b").tell_nowait(crash_too)
            child(top, "a").tell_nowait(crash)
            await settle()
            assert top.alive is survives

    async def test_a_stop_counts_nothing(self) -> None:
        """Scenario 34: children that their group or somebody else stopped are no restarts."""
        stage = Stage()
        async with group(stage.children("abc", "transient"), intensity=0) as top:
            for id in "abc":
                await child(top, id).stop()
            assert top.alive


class TestEscalation:
    """Scenario 33: giving up is a crash to the level above."""

    async def test_the_cause_is_chained_through_two_levels(self) -> None:
        """One error at the top, whose causes lead down to the first crash; leaves end before their parents."""
        stage = Stage()
        inner = Supervisor([stage.child("a")], intensity=0)
        outer = Supervisor([ChildSpec("inner", inner)], intensity=0)
        async with ActorSystem() as system:
            top = await system.spawn(outer, name="top", restart="temporary")
            a = system.actor("top/inner/a")
            assert a is not None
            await a.tell(Boom("deep down"))
            error = (await top.wait()).error
            names: list[str] = []
            while isinstance(error, RestartLimit):
                names.append(error.name)
                error = error.__cause__
            assert names == ["top", "top/inner"]
            assert str(error) == "deep down"

    async def test_the_level_above_applies_its_own_rule(self) -> None:
        """The inner supervisor is restarted with all its children; its sibling is not concerned."""
        stage = Stage()
        inner = Supervisor(stage.children("ab"), intensity=0)
        async with group([stage.child("sibling"), ChildSpec("inner", inner)]) as top:
            before = child(top, "inner")
            assert isinstance(before, SupervisorRef)
            await child(before, "a").tell(Boom("x"))
            await settle()
            assert child(top, "inner") == before
            assert await child(before, "b").ask("new") == ["new"]
            assert stage.lines.count("sibling starts") == 1

    async def test_a_restarted_supervisor_whose_child_cannot_start(self) -> None:
        """The failed start is a failed restart: it counts one level up, with the cause."""
        stage = Stage()
        inner = Supervisor([stage.child("a")], intensity=0)
        async with group([ChildSpec("inner", inner)], intensity=1, restart="temporary") as top:
            inner_ref = child(top, "inner")
            assert isinstance(inner_ref, SupervisorRef)
            stage.fail["a"] = 100
            await child(inner_ref, "a").tell(Boom("x"))
            error = (await top.wait()).error
            assert isinstance(error, RestartLimit)
            assert isinstance(error.__cause__, StartFailed)


class TestStop:
    """Scenarios 36, 38 to 40: the way down."""

    async def test_in_reverse_order(self) -> None:
        """Scenario 38: strictly from right to left, each gone before the next is asked."""
        stage = Stage()
        async with group(stage.children("abc")) as top:
            stage.take()
            await top.stop()
        assert stage.lines == ["c stops", "c gone", "b stops", "b gone", "a stops", "a gone"]

    async def test_grace_then_kill(self) -> None:
        """Scenario 39: who ignores the stop is killed after its grace; those who obeyed say shutdown."""
        stage = Stage()
        async with group([stage.child("good"), stage.child("deaf", shutdown=0.001)]) as top:
            good, deaf = child(top, "good"), child(top, "deaf")
            deaf.tell_nowait("hang")
            await settle()
            with anyio.fail_after(5):
                await top.stop()
            assert (str(good.exit), str(deaf.exit)) == ("shutdown (shutdown)", "killed (shutdown)")
            assert "deaf stops" not in stage.lines

    async def test_at_once(self) -> None:
        """With `"kill"` nobody is asked."""
        stage = Stage()
        async with group([stage.child("a", shutdown="kill")]) as top:
            a = child(top, "a")
            await top.stop()
            assert str(a.exit) == "killed"
        assert "a stops" not in stage.lines

    async def test_a_hanging_cleanup_is_killed_too(self) -> None:
        """The grace covers the `stopping` hook."""
        stage = Stage()
        stage.hang_stopping.add("a")
        async with group([stage.child("a", shutdown=0.001)]) as top:
            a = child(top, "a")
            with anyio.fail_after(5):
                await top.stop()
            assert a.exit is not None
            assert a.exit.kind == "killed"

    async def test_a_supervisor_waits_for_its_subtree(self) -> None:
        """Scenario 40: the default grace of a supervisor is what its children need."""
        stage = Stage()
        inner = Supervisor([stage.child("deaf", shutdown=0.05)])
        async with group([ChildSpec("inner", inner)]) as top:
            inner_ref = child(top, "inner")
            assert isinstance(inner_ref, SupervisorRef)
            child(inner_ref, "deaf").tell_nowait("hang")
            await top.stop()
            assert inner_ref.exit is not None
            assert inner_ref.exit.kind == "shutdown"

    async def test_during_a_restart(self) -> None:
        """Scenario 36: between stopping and starting children, a stop means that nothing new is started."""
        stage = Stage()
        stage.hang_stopping.add("c")
        specs = [stage.child("a"), stage.child("b"), stage.child("c", shutdown=0.05)]
        async with group(specs, "one_for_all") as top:
            stage.take()
            await child(top, "a").tell(Boom("x"))
            await settle()
            with anyio.fail_after(5):
                await top.stop()
            assert not [line for line in stage.lines if "starts" in line]

    async def test_a_plan_in_the_lane_before_the_stop(self) -> None:
        """Scenario 36: a restart that was decided, but not begun, before the stop is dropped."""
        stage = Stage()
        async with group(stage.children("ab"), "one_for_all") as top:
            a = child(top, "a")
            stage.take()
            a.monitor()._ref._cell.watch(lambda _cell: top.stop() and None)
            await a.tell(Boom("x"))
            await top.wait()
            assert not [line for line in stage.lines if "starts" in line]
            assert str(a.exit) == "shutdown"

    async def test_while_a_child_starts(self) -> None:
        """Scenario 31: the supervisor hears a stop while it waits for a start that never ends."""
        stage = Stage()
        async with group([stage.child("a", shutdown=0.001), stage.child("b")], "one_for_all") as top:
            stage.hang_starting.add("a")
            await child(top, "b").tell(Boom("x"))
            await settle()
            with anyio.fail_after(5):
                await top.stop()
            assert stage.lines.count("b starts") == 1

    async def test_of_a_child_that_waits_for_its_restart(self) -> None:
        """A transient child that is stopped between two incarnations does not come back."""
        stage = Stage()
        specs = [stage.child("a", "transient"), stage.child("b", shutdown=0.02)]
        async with group(specs, "one_for_all") as top:
            a = child(top, "a")
            stage.hang_stopping.add("b")
            await a.tell(Boom("x"))
            await settle()
            stage.hang_stopping.clear()
            a.stop()
            assert (await a.wait()).kind == "shutdown"
            await settle()
            assert (top.child("a"), stage.lines.count("a starts")) == (None, 1)
            assert await child(top, "b").ask("alive") == ["alive"]

    async def test_by_a_descendant(self) -> None:
        """An actor that awaits the end of its own supervisor would wait for itself."""

        async def stop_top(_context: Context) -> None:
            await refs[0].stop()

        stage, refs = Stage(), list[SupervisorRef]()
        async with group([ChildSpec("inner", Supervisor([stage.child("a", "temporary")]))]) as top:
            refs.append(top)
            inner = child(top, "inner")
            assert isinstance(inner, SupervisorRef)
            a = child(inner, "a")
            await a.tell(stop_top)
            await top.wait()
            assert a.exit is not None
            assert isinstance(a.exit.error, WouldDeadlock)

    async def test_the_end_of_the_top_ends_the_subtree(self) -> None:
        """Scenario 22: three levels deep, by a kill: no descendant is left, leaves are gone before their parents."""
        stage = Stage()
        inner = Supervisor([stage.child("leaf")])
        async with group([ChildSpec("middle", Supervisor([ChildSpec("inner", inner)]))], restart="temporary") as top:
            await top.kill()
            assert top.exit is not None
            assert top.exit.kind == "killed"
            assert stage.lines[-1] == "leaf gone"

    async def test_a_killed_supervisor_takes_no_more_children(self) -> None:
        """Asked in the tick of the kill, it refuses; no task is started in a group that is closing."""
        async with ActorSystem() as system:
            top = await system.spawn(Supervisor([]), name="top", restart="temporary")
            top.kill()
            with pytest.raises(SystemClosed):
                await top.start_child(ChildSpec("late", Child))


class TestBadSpecs:
    """Scenario 17: refused at construction, with the field named."""

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda: ChildSpec("", Actor), "id must be a name"),
            (lambda: ChildSpec("a/b", Actor), "id must be a name without a slash"),
            (lambda: ChildSpec("a", Actor()), "start of child 'a' is an actor, but a restart needs a new one"),
            (lambda: ChildSpec("a", 7), "start of child 'a' must be"),
            (lambda: ChildSpec("a", Actor, restart="always"), "restart of child 'a' must be one of permanent"),
            (lambda: ChildSpec("a", Actor, shutdown=-1), "shutdown of child 'a' must be seconds"),
            (lambda: ChildSpec("a", Actor, shutdown=math.nan), "shutdown of child 'a' must be seconds"),
            (lambda: ChildSpec("a", Actor, shutdown=True), "shutdown of child 'a' must be seconds"),
            (lambda: ChildSpec("a", Actor, capacity=0), "capacity of child 'a' must be at least 1"),
            (lambda: ChildSpec("a", Actor, capacity="many"), "capacity of child 'a' must be at least 1"),
            (lambda: ChildSpec("a", Actor, overflow="explode"), "overflow of child 'a' must be one of wait"),
            (lambda: ChildSpec("a", Actor, backoff=1.0), r"backoff of child 'a' must be a Backoff\(…\), not 1.0"),
            (lambda: ChildSpec("a", Actor, backoff=Backoff), "backoff of child 'a' must be a Backoff"),
            (lambda: ChildSpec("a", Actor, intensity=-1), "intensity of child 'a' must be 0 or more restarts, not -1"),
            (lambda: ChildSpec("a", Actor, intensity=True), "intensity of child 'a' must be 0 or more restarts"),
            (lambda: ChildSpec("a", Actor, intensity=1, period=0), "period of child 'a' must be above 0 seconds"),
            (lambda: ChildSpec("a", Actor, intensity=1, period=math.nan), "period of child 'a' must be above 0"),
            (lambda: ChildSpec("a", Actor, period=5), "intensity of child 'a' must be 0 or more restarts, not None"),
            (
                lambda: ChildSpec("a", Actor, restart="permanent", significant=True),
                "cannot be significant and permanent",
            ),
            (lambda: Supervisor([ChildSpec("a", Actor, significant=True)]), "'a' is significant, but nothing follows"),
            (lambda: Supervisor(auto_shutdown="any"), "auto_shutdown must be one of never, any_significant"),
            (lambda: Supervisor(ChildSpec("a", Actor)), "children must be a list of ChildSpecs: write Supervisor"),
            (lambda: Supervisor(7), "children must be a list of ChildSpecs, not 7"),
            (lambda: Supervisor([ChildSpec("a", Actor)] * 2), "two children have the id 'a'"),
            (lambda: Supervisor([Actor]), "children must be ChildSpecs"),
            (lambda: Supervisor(strategy="all"), "strategy must be one of one_for_one"),
            (lambda: Supervisor(intensity=-1), "intensity must be 0 or more"),
            (lambda: Supervisor(intensity=1.5), "intensity must be 0 or more"),
            (lambda: Supervisor(period=0), "period must be above 0"),
            (lambda: Supervisor(period=math.nan), "period must be above 0"),
        ],
    )
    def test_refused(self, make: Callable[[], object], words: str) -> None:
        """The message names the field and what it may be."""
        with pytest.raises(BadChildSpec, match=words):
            make()

    def test_a_spec_reads_well(self) -> None:
        """Its representation says what matters."""
        assert repr(ChildSpec("a", Actor, restart="permanent")) == "ChildSpec('a', restart='permanent')"
