"""The order of a shutdown and the time it takes: scenarios 38 to 41 and 44, on a virtual clock."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint

from greenroom import Agent, System
from greenroom.actors import (
    Actor,
    ActorRef,
    ActorSystem,
    ChildSpec,
    Context,
    Exit,
    Strategy,
    Supervisor,
    SupervisorRef,
)
from greenroom.providers import Scripted, call
from greenroom.testing import explore

from ..cast import Boom, child, hang, kind
from .cast import STRATEGIES, TICK, Moments, Troupe, rest, some, staged, starts, stops

each_strategy = pytest.mark.parametrize("strategy", STRATEGIES)

# -- the order


def nested(troupe: Troupe) -> list[ChildSpec]:
    """a, (b, c), d, (e, (f, g)), h: each takes a time of its own to stop, the later ones longer than some earlier."""

    def part(id: str) -> ChildSpec:
        async def ending(_context: Context) -> None:
            await anyio.sleep({"a": 1, "b": 0.5, "c": 2, "d": 0, "e": 3, "f": 0.25, "g": 1, "h": 2}[id])

        return troupe.part(id, ending=ending)

    innermost = ChildSpec("fg", Supervisor([part("f"), part("g")]), restart="permanent")
    return [
        part("a"),
        ChildSpec("bc", Supervisor([part("b"), part("c")]), restart="permanent"),
        part("d"),
        ChildSpec("efg", Supervisor([part("e"), innermost], strategy="one_for_all"), restart="permanent"),
        part("h"),
    ]


def test_a_stop_goes_from_right_to_left(seeds: range) -> None:
    """Scenario 38: each is gone before the next is asked, through nested supervisors too; it takes as long as all."""

    async def scenario() -> None:
        troupe = Troupe()
        async with staged(troupe, nested(troupe)) as top:
            clock = Moments()
            await top.stop()
            assert troupe.take() == stops("hgfedcba")
            assert clock.now == 9.75
            assert not troupe.running()

    explore(scenario, seeds=seeds)


def test_the_end_of_the_block_goes_from_right_to_left(seeds: range) -> None:
    """Scenario 38: the children of the root are asked in reverse order of their start, groups among them."""

    async def scenario() -> None:
        troupe = Troupe()
        async with ActorSystem() as system:
            for id in "ab":
                await system.spawn(troupe.part(id).start, name=id)
            await system.spawn(Supervisor(nested(troupe)[1:4]), name="group")
            await system.spawn(troupe.part("z").start, name="z")
            troupe.take()
        assert troupe.take() == stops("zgfedcb") + stops("ba")

    # Two actors are called b: one of the root's, one in the group.
    explore(scenario, seeds=seeds)


@each_strategy
def test_one_child_of_several_is_stopped_alone(seeds: range, strategy: Strategy) -> None:
    """Scenario 38: `stop_child` of a supervisor stops its subtree in that order, and nobody else."""

    async def scenario() -> None:
        troupe = Troupe()
        async with staged(troupe, nested(troupe), strategy) as top:
            assert await top.stop_child("efg")
            assert troupe.take() == stops("gfe")
            assert sorted(troupe.running()) == ["a", "b", "c", "d", "h"]

    explore(scenario, seeds=some(seeds, 3))


@pytest.mark.parametrize(
    ("strategy", "first", "stopped", "started"),
    [
        ("one_for_one", "d", "d", "d"),
        ("one_for_all", "a", "ahgfedcb", "abcdefgh"),
        ("one_for_all", "d", "dhgfecba", "abcdefgh"),
        ("one_for_all", "h", "hgfedcba", "abcdefgh"),
        ("rest_for_one", "a", "ahgfedcb", "abcdefgh"),
        ("rest_for_one", "d", "dhgfe", "defgh"),
        ("rest_for_one", "h", "h", "h"),
    ],
)
def test_a_group_restart_goes_from_right_to_left(
    seeds: range, strategy: Strategy, first: str, stopped: str, started: str
) -> None:
    """Scenario 38: the crashed one is gone, then the others from the right, then all start from the left."""

    async def scenario() -> None:
        troupe = Troupe()
        async with staged(troupe, nested(troupe), strategy) as top:
            child(top, first).tell_nowait(Boom())
            await anyio.sleep(20)
            assert troupe.take() == [*stops(stopped), *starts(started)]
            assert sorted(troupe.running()) == list("abcdefgh")

    explore(scenario, seeds=some(seeds, 7))


@each_strategy
@pytest.mark.parametrize("level", ["top", "inner"])
def test_an_escalation_goes_from_right_to_left(seeds: range, strategy: Strategy, level: str) -> None:
    """Scenario 38: who gives up stops its children in order, and then its parent goes on in order."""

    async def scenario() -> None:
        troupe = Troupe()
        children = nested(troupe)
        children[3] = ChildSpec("efg", Supervisor(children[3].start.children, intensity=0))  # type: ignore[union-attr]
        async with staged(troupe, children, strategy, intensity=0, restart="temporary") as top:
            ref = child(top, "d") if level == "top" else child(child(top, "efg"), "e")
            ref.tell_nowait(Boom())
            await top.wait()
            assert kind(top) == "crashed"
            assert troupe.take() == stops("dhgfecba" if level == "top" else "egfhdcba")

    explore(scenario, seeds=some(seeds, 6))


def test_the_second_is_not_asked_while_the_first_is_busy(seeds: range) -> None:
    """Scenario 38: what counts is the end, not the request: a handler that works on delays all that is left of it."""

    async def scenario() -> None:
        troupe = Troupe()
        async with staged(troupe, troupe.parts("abc")) as top:
            clock = Moments()

            async def work(_context: Context) -> None:
                await anyio.sleep(3)
                troupe.lines.append(f"c done at {clock.now}")

            child(top, "c").tell_nowait(work)
            await rest()
            top.stop()
            await clock.at(3 - TICK)
            assert troupe.lines == []
            assert await child(top, "b").ask(1) == 1  # it has not heard of it
            await top.wait()
            assert troupe.take() == ["b: 1", "c done at 3.0", *stops("cba")]

    explore(scenario, seeds=seeds)


# -- the grace


async def deafen(ref: ActorRef[Any]) -> None:
    """Have an actor hear nothing any more."""
    ref.tell_nowait(hang)
    await rest()


class Clocked(Troupe):
    """A troupe that is told when each of its actors has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Moments()
        self.ends: list[tuple[str, str, float]] = []

    def watch(self, *refs: ActorRef[Any]) -> None:
        """Count the time from now, and note the ends of these: id, how, when."""
        self.clock = Moments()
        for ref in refs:
            ref._cell.watch(self._look)

    def _look(self, cell: Any) -> None:
        if cell.exit is not None:
            self.ends.append((cell.id, cell.exit.kind, self.clock.now))


#: How long each of a, b, c may take, who does not listen, and when each has ended, from the right to the left.
GRACES: dict[str, tuple[tuple[float, float, float], str, tuple[float, float, float]]] = {
    "nobody obeys": ((1, 2, 4), "abc", (4, 6, 7)),
    "the later ones have less": ((4, 2, 1), "abc", (1, 3, 7)),
    "only the first does not": ((4, 2, 1), "a", (0, 0, 4)),
    "only the last does not": ((1, 2, 4), "c", (4, 4, 4)),
    "only the middle does not": ((1, 0.5, 4), "b", (0, 0.5, 0.5)),
    "no time at all": ((0, 0, 0), "abc", (0, 0, 0)),
    "all obey": ((1, 1, 1), "", (0, 0, 0)),
}


@pytest.mark.parametrize("deaf_in", ["receive", "stopping"])
def test_grace_then_kill(seeds: range, deaf_in: str) -> None:
    """Scenario 39: who ignores the stop is killed when its grace is over, to the instant; who obeyed says shutdown.

    Also where it is the cleanup that hangs, and where the earlier child has more time, or less, than the later one.
    """

    async def scenario() -> None:
        async def act(name: str) -> None:
            graces, deaf, moments = GRACES[name]
            troupe = Clocked()
            children = [
                troupe.part(id, shutdown=grace, ending=hang if id in deaf and deaf_in == "stopping" else None)
                for id, grace in zip("abc", graces, strict=True)
            ]
            async with staged(troupe, children) as top:
                refs = [child(top, id) for id in "abc"]
                for ref in refs:
                    if ref.name[-1] in deaf and deaf_in == "receive":
                        await deafen(ref)
                troupe.watch(*refs)
                await top.stop()
                assert troupe.ends == [
                    (id, "killed" if id in deaf else "shutdown", moment)
                    for id, moment in zip("cba", moments, strict=True)
                ], name
                assert troupe.told() == [
                    ("shutdown_error", f"top/{id}", "killed (shutdown)") for id in "cba" if id in deaf
                ], name
                assert kind(top) == "shutdown"
                gone = [line for line in troupe.lines if line.endswith("gone")]
                assert gone == [f"{id} gone" for id in "cba" if id not in deaf], name

        for name in GRACES:
            await act(name)

    explore(scenario, seeds=some(seeds, 2))


def test_a_child_has_all_of_its_grace(seeds: range) -> None:
    """Scenario 39: one that obeys in the last moment has stopped in order; one tick later it is too late.

    The grace is one for the handler at hand and the cleanup together.
    """

    async def scenario() -> None:
        for late in (False, True):
            troupe = Clocked()

            async def clean_up(_context: Context, late: bool = late) -> None:
                await anyio.sleep(1 + TICK if late else 1 - TICK)

            async def work(_context: Context) -> None:
                await anyio.sleep(1)

            children = [troupe.part("a"), troupe.part("b", shutdown=2, ending=clean_up)]
            async with staged(troupe, children) as top:
                a, b = child(top, "a"), child(top, "b")
                troupe.watch(a, b)
                b.tell_nowait(work)
                while b.statistics().depth:
                    await checkpoint()
                await top.stop()
                moment = 2 if late else 2 - TICK
                assert troupe.ends == [("b", "killed" if late else "shutdown", moment), ("a", "shutdown", moment)]
                assert ("b gone" in troupe.lines) is not late

    explore(scenario, seeds=seeds)


def test_the_grace_of_a_child_begins_when_it_is_asked(seeds: range) -> None:
    """Scenario 39: not while those after it take their time; one with a long grace that obeys costs nobody else's."""

    async def scenario() -> None:
        troupe = Clocked()

        async def slow(_context: Context) -> None:
            await anyio.sleep(3)

        children = [troupe.part("a", shutdown=2), troupe.part("b", shutdown=0.5), troupe.part("c", ending=slow)]
        async with staged(troupe, children) as top:
            refs = [child(top, id) for id in "abc"]
            for ref in refs[:2]:
                await deafen(ref)
            troupe.watch(*refs)
            await top.stop()
            assert troupe.ends == [("c", "shutdown", 3), ("b", "killed", 3.5), ("a", "killed", 5.5)]

    explore(scenario, seeds=seeds)


def test_killed_without_a_grace(seeds: range) -> None:
    """Scenario 39: ``shutdown="kill"`` cancels at once, without cleanup, also one that listens, and reports nothing."""

    async def scenario() -> None:
        troupe = Clocked()
        children = [troupe.part("a"), troupe.part("b", shutdown="kill"), troupe.part("c", shutdown="kill")]
        async with staged(troupe, children) as top:
            refs = [child(top, id) for id in "abc"]
            await deafen(refs[1])
            troupe.watch(*refs)
            await top.stop()
            assert troupe.ends == [("c", "killed", 0), ("b", "killed", 0), ("a", "shutdown", 0)]
            assert troupe.take() == stops("a")
            assert troupe.told() == []

    explore(scenario, seeds=seeds)


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_grace_in_a_group_restart(seeds: range, strategy: Strategy) -> None:
    """Scenario 39: a sibling that does not stop with its group is killed after its grace, then all start."""

    async def scenario() -> None:
        troupe = Troupe()
        children = [troupe.part("a"), troupe.part("b", shutdown=2), troupe.part("c")]
        async with staged(troupe, children, strategy, intensity=1) as top:
            await deafen(child(top, "b"))
            clock = Moments()
            child(top, "a").tell_nowait(Boom())
            await clock.at(2 - TICK)
            assert troupe.take() == stops("ac")
            await clock.at(2 + TICK)
            assert troupe.take() == starts("abc")
            assert [(report.kind, report.exit.kind) for report in troupe.reports] == [
                ("child_ended", "crashed"),
                ("shutdown_error", "killed"),
            ]

    explore(scenario, seeds=some(seeds, 2))


def test_the_grace_of_a_stop_that_is_awaited(seeds: range) -> None:
    """Scenario 39: ``await ref.stop(grace=…)`` kills to the instant, and not one that obeys meanwhile."""

    async def scenario() -> None:
        async with ActorSystem() as system:
            troupe = Clocked()
            a = await system.spawn(troupe.part("a").start, name="a")
            b = await system.spawn(troupe.part("b").start, name="b")
            await deafen(a)
            troupe.watch(a, b)
            async with anyio.create_task_group() as group:
                for ref in (a, b):
                    group.start_soon(_stop, ref, 2)
            # A kill is no orderly end: a transient actor comes back only if nobody had asked it to go.
            assert troupe.ends == [("b", "shutdown", 0), ("a", "killed", 2)]

    explore(scenario, seeds=seeds)


async def _stop(ref: ActorRef[Any], grace: float) -> None:
    await ref.stop(grace=grace)


def test_the_cleanup_of_a_cancelled_tree_is_bounded(seeds: range) -> None:
    """Scenario 39: cancelled from outside, all clean up at once, and what hangs is cut off after its own grace."""

    async def scenario() -> None:
        troupe = Troupe()
        seen: list[list[str]] = []

        async def look(clock: Moments) -> None:
            for moment in (TICK, 1 - TICK, 1 + TICK, 4 - TICK, 4 + TICK):
                await clock.at(moment)
                seen.append(sorted(troupe.running()))

        graces = {"a": 4.0, "b": 1.0, "c": 2.0}
        children = [troupe.part(id, shutdown=grace, ending=hang if id != "c" else None) for id, grace in graces.items()]
        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                async with staged(troupe, children) as top:
                    refs = [top, *(child(top, id) for id in "abc")]
                    clock = Moments()
                    group.start_soon(look, clock)
                    scope.cancel()
                    await anyio.sleep(math.inf)
            assert scope.cancelled_caught
            assert clock.now == 4
        assert seen == [["a", "b"], ["a", "b"], ["a"], ["a"], []]
        assert [kind(ref) for ref in refs] == ["killed"] * 4
        assert all(len(made) == 1 for made in troupe.made.values())

    explore(scenario, seeds=seeds)


# -- supervisors, and pools


def test_a_supervisor_waits_for_its_subtree(seeds: range) -> None:
    """Scenario 40: by default it has as long as its children need together; nobody is killed early, or left."""

    async def scenario() -> None:
        troupe = Clocked()

        async def slow(_context: Context) -> None:
            await anyio.sleep(4)

        inner = Supervisor(troupe.parts("bcde", ending=slow))
        async with staged(troupe, [troupe.part("a"), ChildSpec("inner", inner)]) as top:
            group = child(top, "inner")
            assert isinstance(group, SupervisorRef)
            troupe.watch(child(top, "a"), group, *(child(group, id) for id in "bcde"))
            await top.stop()
            assert troupe.ends == [
                ("e", "shutdown", 4),
                ("d", "shutdown", 8),
                ("c", "shutdown", 12),
                ("b", "shutdown", 16),
                ("inner", "shutdown", 16),
                ("a", "shutdown", 16),
            ]

    explore(scenario, seeds=some(seeds, 2))


def test_a_supervisor_with_too_short_a_grace(seeds: range) -> None:
    """Scenario 40: saying so warns; and then it is killed with all that is left of its subtree, none is orphaned."""

    async def scenario() -> None:
        troupe = Clocked()

        async def slow(_context: Context) -> None:
            await anyio.sleep(4)

        with pytest.warns(UserWarning, match="its children may take 10 s"):
            inner = ChildSpec("inner", Supervisor(troupe.parts("bc", ending=slow)), shutdown=6)
        async with staged(troupe, [troupe.part("a"), inner]) as top:
            group = child(top, "inner")
            troupe.watch(child(top, "a"), group, *(child(group, id) for id in "bc"))
            await top.stop()
            # b was asked at 4, when c was gone. Its cleanup is shielded from the end of its parent.
            assert troupe.ends == [
                ("c", "shutdown", 4),
                ("b", "shutdown", 8),
                ("inner", "killed", 8),
                ("a", "shutdown", 8),
            ]
            assert not troupe.running()

    explore(scenario, seeds=some(seeds, 2))


def test_a_pool_stops_in_parallel() -> None:
    """Scenario 41: a thousand runs with a second of cleanup each have stopped after one second. Two seeds: it is big.

    Runs are what is dynamic here; the children of a supervisor stop one after the other.
    """

    async def scenario() -> None:
        busy = 0
        clean = 0

        async def work() -> str:
            """Work."""
            nonlocal busy, clean
            busy += 1
            try:
                await anyio.sleep(math.inf)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(1)
                    clean += 1
            return "never"

        agent = Agent("worker", Scripted(*[[call("work")]] * 1000), tools=[work])
        async with System(max_running=1000) as system:
            runs = [await system.start(agent, "Go") for _ in range(1000)]
            await rest()
            assert busy == 1000
            clock = Moments()
        assert clock.now == 1
        assert clean == 1000
        for run in runs:
            result = await run.result()
            assert (result.status, result.reason) == ("stopped", "system")

    explore(scenario, seeds=1)


# -- the end of the loop


class Cleaning(Actor):
    """Cleans up."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    async def receive(self, message: Any, context: Context) -> None:
        """Be busy for ever."""
        self.lines.append("busy")
        await anyio.sleep(math.inf)

    async def stopping(self, context: Context, exit: Exit | None) -> None:
        """Clean up."""
        await checkpoint()
        self.lines.append("clean")


async def _abandoned(lines: list[str], ready: Callable[[], object]) -> None:
    """A system that its host forgets, with an actor and a run at work."""

    async def work() -> str:
        """Work."""
        lines.append("busy")
        try:
            await anyio.sleep(math.inf)
        finally:
            lines.append("clean")
        return "never"

    async with System() as system:
        ref = await system.spawn(lambda: Cleaning(lines))
        ref.tell_nowait("work")
        await system.start(Agent("worker", Scripted([call("work")]), tools=[work]), "Go")
        while lines != ["busy", "busy"]:
            await checkpoint()
        ready()
        await anyio.sleep(math.inf)


def test_the_loop_ends_around_a_system_asyncio(caplog: pytest.LogCaptureFixture) -> None:
    """Scenario 44: `asyncio.run` cancels what its main function has left: all is cleaned up, nothing complains."""
    lines: list[str] = []

    async def main() -> None:
        ready = asyncio.Event()
        main.task = asyncio.create_task(_abandoned(lines, ready.set))  # type: ignore[attr-defined]
        await ready.wait()

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert lines == ["busy", "busy", "clean", "clean"]
    assert main.task.cancelled()  # type: ignore[attr-defined]
    assert caplog.records == []


def test_the_loop_ends_around_a_system_trio(caplog: pytest.LogCaptureFixture) -> None:
    """Scenario 44: a system task is what trio ends by itself when the main function returns."""
    lines: list[str] = []

    async def main() -> None:
        ready = trio.Event()
        trio.lowlevel.spawn_system_task(_abandoned, lines, ready.set)
        await ready.wait()

    with caplog.at_level(logging.WARNING):
        trio.run(main)
    assert lines == ["busy", "busy", "clean", "clean"]
    assert caplog.records == []
