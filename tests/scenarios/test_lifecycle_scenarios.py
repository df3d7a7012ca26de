"""Scenarios 15 to 23: how actors start, end, clean up and hear of each other's end, in every order.

A scenario with many forms takes every second seed for each.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest
from anyio import create_task_group
from anyio.lowlevel import checkpoint

from greenroom import Agent, Run, System
from greenroom.actors import (
    Actor,
    ActorRef,
    ActorSystem,
    Backoff,
    BadChildSpec,
    ChildCount,
    ChildSpec,
    Context,
    Down,
    Exit,
    LinkBroken,
    LinkDown,
    NameTaken,
    Node,
    Restart,
    RestartLimit,
    StartFailed,
    Strategy,
    Supervisor,
    SupervisorRef,
)
from greenroom.agents.events import TERMINAL
from greenroom.providers import Scripted, call
from greenroom.testing import Interruption, explore, interrupt_everywhere

from ..cast import Boom, Player, child, kind
from .cast import STRATEGIES, Moments, Troupe, Victim, Way, each_cancellation, player, rest, staged, starts, stops

each_backend = pytest.mark.parametrize("loop", ["asyncio", "trio"])
ENDS = ["normal", "shutdown", "killed", "crashed"]


def sleep(seconds: float) -> Callable[[Context], Awaitable[None]]:
    """Something to do for a while."""
    return lambda _context: anyio.sleep(seconds)


async def end(ref: ActorRef[Any], how: str) -> None:
    """Have an actor end in this way."""
    if how == "shutdown":
        ref.stop(reason="enough")
    elif how == "killed":
        ref.kill()
    else:
        ref.tell_nowait("finish" if how == "normal" else Boom("crash"))
    await rest()


# -- 15 to 17: the start


def test_15_start_is_synchronous_and_ordered(seeds: range) -> None:
    """Scenario 15: each begins only after the one before has reported ready, also in a supervisor among them."""

    async def scenario() -> None:
        troupe, moments = Troupe(), Moments()
        inner = Supervisor(troupe.parts("bc", beginning=sleep(1)))
        children = [troupe.part("a", beginning=sleep(1)), ChildSpec("inner", inner), troupe.part("d")]
        async with ActorSystem() as system:
            top = await system.spawn(Supervisor(children), name="top")
            assert moments.now == 3
            assert troupe.take() == starts("abcd")
            assert troupe.onstage == [("a", ("a",)), ("b", tuple("ab")), ("c", tuple("abc")), ("d", tuple("abcd"))]
            assert top.count() == ChildCount(specs=3, active=3, supervisors=1, workers=2)
        assert troupe.take() == stops("dcba")

    explore(scenario, seeds=seeds)


async def fail_slowly(_context: Context) -> None:
    """Fail to start, after a second."""
    await anyio.sleep(1)
    raise Boom("b cannot")


def fail_to_make() -> Actor:
    """Fail to be made."""
    raise Boom("b cannot")


@pytest.mark.parametrize("how", ["raises", "is not made", "is killed", "is in a supervisor"])
def test_15_a_start_that_fails(how: str, seeds: range) -> None:
    """Scenario 15: if b fails to start, a is stopped, c never starts, and the error names b and its cause."""

    async def scenario() -> None:
        troupe = Troupe()
        b = troupe.part("b", beginning=fail_slowly)
        if how == "is not made":
            b = ChildSpec("b", fail_to_make)
        if how == "is killed":
            b = troupe.part("b", beginning=lambda context: context.ref.kill() and anyio.sleep(math.inf))
        if how == "is in a supervisor":
            b = ChildSpec("inner", Supervisor([b]))
        async with ActorSystem(intensity=0) as system:
            with pytest.raises(StartFailed) as caught:
                await system.spawn(Supervisor([troupe.part("a"), b, troupe.part("c")]), name="top")
            error: BaseException | None = caught.value
            names: list[str] = []
            while isinstance(error, StartFailed):
                names.append(error.name)
                error = error.__cause__
            assert names == ["top", "top/inner", "top/inner/b"] if how == "is in a supervisor" else ["top", "top/b"]
            assert f"{names[-1]!r} did not start" in str(caught.value)
            assert str(error) == ("None" if how == "is killed" else "b cannot")
            assert "c" not in troupe.made
            assert troupe.running() == []
            begun = {"is not made": [], "is killed": ["b starts"]}.get(how, ["b starts", *stops("b")])
            assert troupe.take() == [*starts("a"), *begun, *stops("a")]
            assert system.actor("top") is None
            assert system.tree().children == ()

    explore(scenario, seeds=seeds)


@each_cancellation
def test_15_a_start_that_is_cancelled_at_every_step(loop: str, way: Way, seeds: range) -> None:
    """Scenario 15: whoever waited for the start is gone, and so is what had started; nothing else starts."""
    outcomes: set[str] = set()

    async def scenario(interruption: Interruption) -> None:
        troupe = Troupe()
        beginning = [checkpoint, checkpoint]

        async def begin(_context: Context) -> None:
            for step in beginning:
                await step()

        supervisor = Supervisor(troupe.parts("abc", beginning=begin))
        async with ActorSystem(intensity=0) as system, create_task_group() as group:
            victim = Victim(group, way, partial(system.spawn, supervisor, name="top"))
            interruption.arm(victim.cancel)
            outcome = await victim.wait()
            await rest()
            begun = [line[0] for line in troupe.lines if line.endswith("starts")]
            assert "".join(begun) in ("", "a", "ab", "abc")
            gone = [line[0] for line in troupe.lines if line.endswith("gone")]
            if outcome == "returned":
                assert (begun, gone, sorted(troupe.running())) == (["a", "b", "c"], [], ["a", "b", "c"])
            else:
                assert sorted(gone) == begun
                assert troupe.running() == []
                again = await system.spawn(Supervisor(troupe.parts("abc")), name="top")
                assert again.count().active == 3
        outcomes.add(outcome)

    for seed in seeds[:5]:
        assert interrupt_everywhere(scenario, backend=loop, seed=seed) > 8
    assert outcomes == {"returned", "cancelled"}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_16_an_init_failure_is_no_restart_loop(strategy: Strategy, restart: Restart, seeds: range) -> None:
    """Scenario 16: one attempt, no restart is counted, nothing is reported, nobody else is touched."""

    async def scenario() -> None:
        troupe = Troupe()
        async with staged(troupe, troupe.parts("a"), strategy, intensity=0) as top:
            with pytest.raises(StartFailed) as caught:
                await top.start_child(troupe.part("b", restart, beginning=fail_slowly))
            assert (caught.value.name, str(caught.value.__cause__)) == ("top/b", "b cannot")
            await rest()
            assert troupe.take() == ["b starts", *stops("b")]
            assert (len(troupe.made["b"]), troupe.reports) == (1, [])
            assert top.count() == ChildCount(specs=1, active=1, supervisors=0, workers=1)
            assert (await top.start_child(troupe.part("b"))).alive

    explore(scenario, seeds=seeds[:50])


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: ChildSpec(start=Player), "id"),  # type: ignore[call-arg]
        (lambda: ChildSpec("", Player), "id"),
        (lambda: Supervisor([ChildSpec("a", Player), ChildSpec("a", Player)]), "id 'a'"),
        (lambda: ChildSpec("a", Player, shutdown=-1), "shutdown"),
        (lambda: ChildSpec("a", Player, shutdown=math.nan), "shutdown"),
        (lambda: ChildSpec("a", Player, restart="sometimes"), "restart"),  # type: ignore[arg-type]
        (lambda: Supervisor(strategy="some_for_one"), "strategy"),  # type: ignore[arg-type]
        (lambda: Supervisor(intensity=-1), "intensity"),
        (lambda: Supervisor(period=0), "period"),
    ],
)
def test_17_a_bad_child_specification_is_refused_early(make: Callable[[], object], key: str) -> None:
    """Scenario 17: at construction, and the error names what is wrong."""
    with pytest.raises((BadChildSpec, TypeError), match=key):
        make()


def test_17_an_id_that_is_taken(seeds: range) -> None:
    """Scenario 17: a duplicate that is added later is refused before anything of it starts."""

    async def scenario() -> None:
        troupe = Troupe()
        async with staged(troupe, troupe.parts("ab")) as top:
            for spec in troupe.parts("ab"):
                with pytest.raises(NameTaken, match=f"'top/{spec.id}'"):
                    await top.start_child(spec)
            assert troupe.take() == []
            assert [len(made) for made in troupe.made.values()] == [1, 1]

    explore(scenario, seeds=seeds[:20])


# -- 18: introspection


class Counted:
    """What the model knows of one child."""

    def __init__(self, restart: Restart, supervisor: bool, slow: bool) -> None:
        self.restart: Restart = restart
        self.supervisor = supervisor
        self.slow = slow
        self.down = False


class Census:
    """A supervisor whose children come and go at random, beside a model of it."""

    def __init__(self, seed: int, top: SupervisorRef) -> None:
        self.random = random.Random(seed)
        self.top = top
        self.model: dict[str, Counted] = {}
        self.began = 0

    def choose(self, spared: set[str]) -> Callable[[], Awaitable[object]]:
        """Change the model, and return what has the same effect on the supervisor; leave the spared alone."""
        known = [id for id, each in self.model.items() if not each.down and id not in spared]
        act = self.random.choice(["start", "start", "fail", "remove", *ENDS])
        if act in ("start", "fail") or not known:
            return self._start(fails=act == "fail")
        id = self.random.choice(known)
        spared.add(id)
        each = self.model[id]
        if act == "remove":
            del self.model[id]
            return partial(self._remove, id)
        if each.supervisor and act in ("crashed", "normal"):
            act = "killed"
        back = {"temporary": [], "transient": ["killed", "crashed"], "permanent": ENDS}[each.restart]
        if act in back:
            each.down = each.slow
        else:
            del self.model[id]
        return partial(end, child(self.top, id), act)

    def _start(self, fails: bool) -> Callable[[], Awaitable[object]]:
        self.began += 1
        id = f"child-{self.began}"
        if fails:
            return partial(self._fail_to_start, id)
        restart: Restart = self.random.choice(["permanent", "transient", "temporary"])
        each = self.model[id] = Counted(restart, self.random.random() < 0.3, self.random.random() < 0.3)
        start = Supervisor([ChildSpec("x", Player), ChildSpec("y", Player)]) if each.supervisor else Player
        backoff = Backoff(2.0, 2.0, jitter=0) if each.slow else None
        return partial(self.top.start_child, ChildSpec(id, start, restart=restart, backoff=backoff))

    async def _fail_to_start(self, id: str) -> None:
        with pytest.raises(StartFailed):
            await self.top.start_child(ChildSpec(id, fail_to_make))

    async def _remove(self, id: str) -> None:
        assert await self.top.stop_child(id)

    def check(self, tree: Node) -> None:
        """What is shown is what the model has."""
        supervisors = sum(each.supervisor for each in self.model.values())
        active = sum(not each.down for each in self.model.values())
        workers = len(self.model) - supervisors
        assert self.top.count() == ChildCount(len(self.model), active, supervisors, workers)
        (top,) = tree.children
        shown = {node.name: (node.kind, node.state, len(node.children)) for node in top.children}
        for id, each in self.model.items():
            word = "supervisor" if each.supervisor else "actor"
            state = "restarting" if each.down else "running"
            assert shown.pop(f"top/{id}") == (word, state, 2 if each.supervisor and not each.down else 0)
        assert shown == {}
        ids = {f"child-{n}" for n in range(1, self.began + 1)}
        assert {id for id in ids if self.top.child(id) is not None} == set(self.model)


async def take_a_census(seed: int) -> None:
    """Ten rounds of up to three changes at once, the model compared after each; a wait lets the slow ones return."""
    async with ActorSystem() as system:
        top = await system.spawn(Supervisor(intensity=1000), name="top")
        census = Census(seed, top)
        for _ in range(10):
            spared = {f"child-{census.began + n}" for n in range(1, 4)}  # what starts in this round
            async with create_task_group() as group:
                for _ in range(census.random.randint(1, 3)):
                    group.start_soon(census.choose(spared))
            await rest()
            census.check(system.tree())
            if census.random.random() < 0.3:
                await anyio.sleep(3)
                for each in census.model.values():
                    each.down = False
                census.check(system.tree())


def test_18_introspection_does_not_lie(seeds: range) -> None:
    """Scenario 18: children start, stop, crash and wait for restarts at random; all counts equal the model's."""
    for seed in seeds:
        explore(partial(take_a_census, seed), seeds=[seed])


# -- 19: cleanup

#: How an actor ends, what its cleanup then wrote, and how that is called.
CLEANUPS: dict[str, tuple[list[str], str]] = {
    "it returns": (stops("a"), "normal"),
    "it crashes": (stops("a"), "crashed"),
    "it is stopped": (stops("a"), "shutdown"),
    "it is killed after its grace": ([], "killed"),
    "its supervisor is stopped": (stops("a"), "shutdown"),
    "its supervisor is killed": (stops("a"), "killed"),
    "everything is cancelled": (stops("a"), "killed"),
    "the block fails": (stops("a"), "shutdown"),
}


@pytest.mark.parametrize("how", CLEANUPS)
def test_19_cleanup_always_runs_once(how: str, seeds: range) -> None:
    """Scenario 19: once however it ended, for as long as it needs within its time; not after a kill of its own."""
    written, called = CLEANUPS[how]

    async def scenario() -> None:
        troupe = Troupe()
        ends: list[float] = []
        refs: list[ActorRef[Any]] = []
        try:
            with anyio.CancelScope() as scope:
                part = troupe.part("a", "temporary", shutdown=2, ending=sleep(1.5))
                async with staged(troupe, [part], restart="temporary") as top:
                    a = child(top, "a")
                    refs.append(a)
                    a.tell_nowait("hang" if how == "it is killed after its grace" else "work")
                    await rest()
                    troupe.take()
                    moments = Moments()
                    a._cell.watch(lambda _cell: ends.append(moments.now))
                    match how:
                        case "it returns":
                            a.tell_nowait("finish")
                        case "it crashes":
                            a.tell_nowait(Boom("crash"))
                        case "it is stopped":
                            a.stop()
                        case "it is killed after its grace":
                            await a.stop(grace=3)
                        case "its supervisor is stopped":
                            top.stop()
                        case "its supervisor is killed":
                            top.kill()
                        case "everything is cancelled":
                            scope.cancel()
                        case _:
                            raise Boom("the block")
                    await a.wait()
        except Boom as error:
            failure = error
        else:
            failure = None
        assert str(failure) == ("the block" if how == "the block fails" else "None")
        assert troupe.take() == written
        assert kind(refs[0]) == called
        assert ends == [3.0 if how == "it is killed after its grace" else 1.5]

    explore(scenario, seeds=seeds[::2])


@pytest.mark.parametrize("how", ["its supervisor is stopped", "its supervisor is killed", "everything is cancelled"])
def test_19_cleanup_has_bounded_time(how: str, seeds: range) -> None:
    """Scenario 19: shielded against the end of its parent for two seconds, which is its shutdown time, no longer."""

    async def scenario() -> None:
        troupe = Troupe()
        with anyio.CancelScope() as scope:
            part = troupe.part("a", shutdown=2, ending=sleep(math.inf))
            async with staged(troupe, [part], restart="temporary") as top:
                a = child(top, "a")
                moments = Moments()
                if how == "its supervisor is stopped":
                    top.stop()
                elif how == "its supervisor is killed":
                    top.kill()
                else:
                    scope.cancel()
                await top.wait()
        assert moments.now == 2
        assert troupe.take() == ["a stops"]
        assert kind(a) == "killed"

    explore(scenario, seeds=seeds)


def test_19_a_crash_of_the_cleanup(seeds: range) -> None:
    """Scenario 19: it never hides the first cause, which gets a note; alone it is the crash."""

    async def fail(_context: Context) -> None:
        await checkpoint()
        raise Boom("second")

    async def scenario() -> None:
        troupe = Troupe()
        async with staged(troupe, troupe.parts("ab", "temporary", ending=fail)) as top:
            a, b = child(top, "a"), child(top, "b")
            first = Boom("first")
            a.tell_nowait(first)
            b.stop(reason="enough")
            await rest()
            assert a.exit == Exit("crashed", first)
            assert first.__notes__ == ["'top/a' also failed while stopping: Boom: second"]
            assert b.exit is not None
            assert (b.exit.kind, str(b.exit.error)) == ("crashed", "second")
            assert sorted(troupe.take()) == ["a stops", "b stops"]

    explore(scenario, seeds=seeds)


@pytest.mark.parametrize("way", ["stop", "kill", "stop twice", "scope", "native", "twice"])
@each_backend
def test_19_interrupted_at_every_step(loop: str, way: str, seeds: range) -> None:
    """Scenario 19: what has begun to start is cleaned up once, and to the end, unless it is killed."""
    if loop == "trio" and way in ("native", "twice"):
        pytest.skip("trio has no native cancellation")
    exits: set[str | None] = set()

    async def scenario(interruption: Interruption) -> None:
        lines: list[str] = []
        refs: list[ActorRef[Any]] = []
        spawned: list[ActorRef[Any]] = []

        async def begin(context: Context) -> None:
            refs.append(context.ref)
            await checkpoint()

        async def work(_context: Context) -> None:
            await checkpoint()

        async def finish(_context: Context) -> None:
            await checkpoint()
            await checkpoint()

        def disturb() -> None:
            if way in ("scope", "native", "twice"):
                victim.cancel()
            for ref in refs:
                if way == "kill":
                    ref.kill()
                if way.startswith("stop"):
                    ref.stop()
                if way == "stop twice":
                    ref.stop()

        async def play() -> None:
            make = partial(Player, "it", lines, beginning=begin, ending=finish)
            async with ActorSystem() as system:
                it = await system.spawn(make, restart="temporary")
                spawned.append(it)
                try:
                    await it.tell(work)
                except Exception:  # closed meanwhile
                    assert not it.alive
                await rest()
                await it.stop()

        async with create_task_group() as group:
            victim = Victim(group, way if way in ("scope", "native", "twice") else "scope", play)  # type: ignore[arg-type]
            interruption.arm(disturb)
            outcome = await victim.wait()
        exits.update(map(kind, refs))
        assert outcome == "returned" or interruption.fired
        begun, stopping, gone = (lines.count(f"it {word}") for word in ("starts", "stops", "gone"))
        assert begun <= 1
        assert not any(ref.alive for ref in refs)
        if way == "kill" or (way != "stop" and not spawned):  # whoever gives up waiting for a start kills the actor
            assert begun >= stopping >= gone
        else:
            assert begun == stopping == gone == 1

    for seed in seeds[:5]:
        assert interrupt_everywhere(scenario, backend=loop, seed=seed) > 8
    assert exits >= {"shutdown"} | ({"killed"} if not way.startswith("stop") else set())


# -- 20, 21: monitors and links


class Watcher(Player):
    """Notes each notice: whose end, and which exit."""

    def __init__(self, notices: list[tuple[type, str, Exit]], trap_exits: bool = False) -> None:
        super().__init__(trap_exits=trap_exits)
        self.notices = notices

    async def receive(self, message: Any, context: Context) -> Any:
        """Note it, or do as told."""
        if isinstance(message, Down | LinkDown):
            self.notices.append((type(message), message.ref.name, message.exit))
            return None
        return await super().receive(message, context)


@pytest.mark.parametrize("how", ENDS)
def test_20_monitor(how: str, seeds: range) -> None:
    """Scenario 20: one notice with the reason for each watcher, however it ended, and at once if it has ended."""

    async def scenario() -> None:
        before: list[Any] = []
        after: list[Any] = []
        async with player(restart="temporary") as (system, x, _lines):
            early = await system.spawn(partial(Watcher, before))
            late = await system.spawn(partial(Watcher, after))
            for _ in range(2):
                await early.ask(lambda context: context.monitor(x))
            monitors = [x.monitor(), x.monitor()]
            await rest()
            assert before == []
            await end(x, how)
            exit = x.exit
            assert exit is not None
            assert (exit.kind, exit.reason) == (how, "enough" if how == "shutdown" else None)
            assert str(exit.error) == ("crash" if how == "crashed" else "None")
            monitors.append(x.monitor())
            moment = anyio.current_time()
            assert [await monitor.wait() for monitor in monitors] == [Down(x, exit)] * 3
            await late.ask(lambda context: context.monitor(x))
            await late.ask("after the notice")
            assert anyio.current_time() == moment
            assert before == after == [(Down, "it", exit)]
            await rest()
            assert len(before) == len(after) == 1

    explore(scenario, seeds=seeds)


def test_20_a_restart_is_no_end(seeds: range) -> None:
    """Scenario 20: a monitor is on the address; the notice comes with the end for good."""

    async def scenario() -> None:
        notices: list[Any] = []
        async with player(restart="transient") as (system, x, _lines):
            watcher = await system.spawn(partial(Watcher, notices))
            await watcher.ask(lambda context: context.monitor(x))
            monitor = x.monitor()
            for how in ("crashed", "killed", "crashed"):
                await end(x, how)
                assert x.alive
                assert notices == []
            await end(x, "normal")
            assert [(name, exit.kind) for _, name, exit in notices] == [("it", "normal")]
            assert (await monitor.wait()).exit.kind == "normal"

    explore(scenario, seeds=seeds)


@pytest.mark.parametrize("how", ENDS)
def test_20_unmonitor_suppresses_a_queued_notice(how: str, seeds: range) -> None:
    """Scenario 20: also one that waits in the lane already; monitored again, the notice comes once."""

    async def scenario() -> None:
        notices: list[Any] = []
        async with player(restart="temporary") as (system, x, _lines):

            async def watch_and_forget(context: Context) -> None:
                context.monitor(x)
                await end(x, how)
                assert not x.alive
                assert watcher.statistics().control == 1
                context.unmonitor(x)

            watcher = await system.spawn(partial(Watcher, notices))
            await watcher.ask(watch_and_forget)
            await rest()
            assert (notices, watcher.statistics().control) == ([], 0)
            await watcher.ask(lambda context: context.monitor(x))
            await rest()
            assert [(name, exit.kind) for _, name, exit in notices] == [("it", how)]

    explore(scenario, seeds=seeds)


@pytest.mark.parametrize("how", ["stop", "kill"])
@each_backend
def test_20_the_end_of_the_watched_at_every_step(loop: str, how: str, seeds: range) -> None:
    """Scenario 20: whatever the watcher is doing: one notice if it watches, none if it has taken that back."""
    heard: set[int] = set()

    async def scenario(interruption: Interruption) -> None:
        notices: list[Any] = []
        forgotten: list[Any] = []

        async def watch(context: Context) -> None:
            await checkpoint()
            context.monitor(x)
            await checkpoint()

        async def forget(context: Context) -> None:
            context.monitor(x)
            await checkpoint()
            context.unmonitor(x)
            await checkpoint()

        async with player(restart="temporary") as (system, x, _lines):
            watcher = await system.spawn(partial(Watcher, notices))
            forgetful = await system.spawn(partial(Watcher, forgotten))
            interruption.arm(getattr(x, how))
            await watcher.tell(watch)
            await forgetful.tell(forget)
            await watcher.ask(checkpointed)
            await forgetful.ask(checkpointed)
            ended = interruption.fired
            await rest()
            heard.add(len(notices))
            assert [(cls, name) for cls, name, _ in notices] == [(Down, "it")] * ended
            await x.stop()
            await rest()
            assert (notices, forgotten) == ([(Down, "it", x.exit)], [])

    for seed in seeds[:5]:
        assert interrupt_everywhere(scenario, backend=loop, seed=seed) > 8
    assert heard == {0, 1}


async def checkpointed(_context: Context) -> str:
    """Something short to be asked."""
    await checkpoint()
    return "done"


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("backwards", [False, True])
def test_21_link(how: str, backwards: bool, seeds: range) -> None:
    """Scenario 21: a crash or a kill crashes the other, a stop stops it, a normal end is nobody else's.

    Whoever traps exits gets one message instead, and lives. It holds in both directions.
    """

    async def scenario() -> None:
        notices: list[Any] = []
        async with ActorSystem() as system:
            a = await system.spawn(Player, name="a", restart="temporary")
            b = await system.spawn(Player, name="b", restart="temporary")
            trapper = await system.spawn(partial(Watcher, notices, trap_exits=True), name="trapper")
            for other in (b, trapper):
                if backwards:
                    await other.ask(lambda context: context.link(a))
                else:
                    await a.ask(lambda context, other=other: context.link(other))
            await end(a, how)
            assert a.exit is not None
            assert notices == [(LinkDown, "a", a.exit)]
            assert await trapper.ask("alive") == "alive"
            if how == "normal":
                assert await b.ask("alive") == "alive"
                return
            assert b.exit is not None
            if how == "shutdown":
                assert (b.exit.kind, b.exit.reason) == ("shutdown", "linked to 'a'")
                return
            error = b.exit.error
            assert isinstance(error, LinkBroken)
            assert (b.exit.kind, error.name, error.peer, error.exit) == ("crashed", "b", "a", a.exit)
            assert error.__cause__ is a.exit.error

    explore(scenario, seeds=seeds[::2])


# -- 22: the subtree


def nest(troupe: Troupe, intensity: int) -> Supervisor:
    """Supervisors three deep, each with an actor on either side of the next one: a [b [c d e] f] g."""
    inner = Supervisor(troupe.parts("cde"), intensity=intensity)
    middle = [troupe.part("b"), ChildSpec("inner", inner), troupe.part("f")]
    return Supervisor(
        [troupe.part("a"), ChildSpec("middle", Supervisor(middle, intensity=intensity)), troupe.part("g")],
        intensity=intensity,
    )


def everything_below(ref: ActorRef[Any]) -> list[ActorRef[Any]]:
    """An address and all those below it."""
    if not isinstance(ref, SupervisorRef):
        return [ref]
    return [ref, *(each for cell in ref._cell.children() for each in everything_below(cell.ref))]


@pytest.mark.parametrize("how", ["stop", "kill", "escalation", "block cancelled", "block failed", "block over"])
def test_22_the_end_of_a_parent_ends_the_subtree(how: str, seeds: range) -> None:
    """Scenario 22: by any path nothing below is alive, and each was gone before what is above it; cleanups ran once."""

    async def scenario() -> None:
        troupe = Troupe()
        order: list[str] = []
        expected: dict[str, type[Exception]] = {"block failed": Boom}
        refs: list[ActorRef[Any]] = []
        try:
            with anyio.CancelScope() as scope:
                async with ActorSystem(intensity=0) as system:
                    top = await system.spawn(nest(troupe, intensity=0), name="top", restart="temporary")
                    refs += everything_below(top)
                    for ref in refs:
                        ref._cell.watch(lambda cell: order.append(cell.name) if cell.exit else None)
                    troupe.take()
                    if how in ("stop", "kill"):
                        await getattr(top, how)()
                        assert not any(ref.alive for ref in refs)
                        assert troupe.running() == []
                    elif how == "escalation":
                        await child(child(child(top, "middle"), "inner"), "d").tell(Boom("d"))
                        exit = await top.wait()
                        assert isinstance(exit.error, RestartLimit)
                        assert str(exit.error.__cause__).startswith("supervisor 'top/middle' gave up")
                    elif how == "block cancelled":
                        scope.cancel()
                        await checkpoint()
                    elif how == "block failed":
                        raise Boom("block")
        except Exception as error:
            failure = type(error)
        else:
            failure = None
        assert failure is expected.get(how)
        assert len(refs) == 10
        assert not any(ref.alive for ref in refs)
        assert troupe.running() == []
        assert sorted(order) == sorted(ref.name for ref in refs)
        for name in order:
            parent = name.rpartition("/")[0]
            assert not parent or order.index(name) < order.index(parent)
        happened = troupe.take()
        assert sorted(happened) == sorted(stops("abcdefg"))
        if how in ("stop", "block failed", "block over"):
            assert happened == stops("gfedcba")
        if how == "escalation":
            assert happened == stops("decfbga")

    explore(scenario, seeds=seeds[::2])


class Family:
    """A run with subagents three deep, the last of which hangs in a tool, and all its events."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.hanging = anyio.Event()

        async def hang() -> None:
            """Hang."""
            self.hanging.set()
            await anyio.sleep(math.inf)

        agent = Agent("leaf", Scripted([call("hang")], "never"), tools=[hang])
        for name in ("third", "second", "root"):
            agent = Agent(name, Scripted([call(agent.name, prompt="?")], "never"), tools=[agent])
        self.agent = agent

    async def start(self, system: System) -> Run[Any]:
        """Start it, and wait until it hangs."""
        run = await system.start(self.agent, "Go", on_event=self.heard.append)
        await self.hanging.wait()
        return run

    def check(self) -> None:
        """Each run began and ended once, and each ended before the one above it."""
        parents = {event.run_id: event.parent_id for event in self.heard if event.type == "run.started"}
        ended = [event.run_id for event in self.heard if isinstance(event, TERMINAL)]
        assert len(parents) == 4
        assert sorted(ended) == sorted(parents)
        for run, parent in parents.items():
            assert parent is None or ended.index(run) < ended.index(parent)


@pytest.mark.parametrize("how", ["stop", "stop with grace", "kill", "scope cancelled", "system over", "system failed"])
def test_22_the_end_of_a_run_ends_its_subagents(how: str, seeds: range) -> None:
    """Scenario 22: three deep, each run has one last event, and leaves have theirs before their parents.

    The history of the first one is valid: its call of the second has one result, which tells what became of it.
    """

    async def scenario() -> None:
        family = Family()
        try:
            async with System() as system:
                run = await family.start(system)
                if how == "stop":
                    run.stop("now")
                elif how == "stop with grace":
                    await run.stop("after_turn", grace=1)
                elif how == "kill":
                    run._cell.kill()
                elif how == "system failed":
                    raise Boom("block")
                if how.startswith("stop"):
                    assert (await run.result()).status == "stopped"
                    await rest()
                    assert system.tree().children == ()
        except* Boom:
            assert how == "system failed"
        assert run.status == "stopped"
        family.check()
        messages = (await run.result()).messages
        (asked,) = (call.id for message in messages for call in message.tool_calls)
        assert [result.call_id for message in messages for result in message.tool_results] == [asked]

    async def cancelled() -> None:
        family = Family()
        async with System() as system, create_task_group() as group:
            with anyio.CancelScope() as scope:
                group.start_soon(_cancel_when, family.hanging, scope)
                await family.agent.run("Go", system=system, on_event=family.heard.append)
            assert scope.cancelled_caught
            assert system.tree().children == ()
        family.check()

    explore(cancelled if how == "scope cancelled" else scenario, seeds=seeds[:50])


async def _cancel_when(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


# -- 23: idempotent stop


def test_23_idempotent_stop(seeds: range) -> None:
    """Scenario 23: a hundred stops while it starts, while it stops and after its end: one transition, one outcome."""

    async def scenario() -> None:
        troupe, moments = Troupe(), Moments()
        refs: list[ActorRef[Any]] = []
        exits: list[Exit | None] = []
        transitions: list[tuple[str, float]] = []

        def begin(context: Context) -> Awaitable[None]:
            refs.append(context.ref)
            context.ref._cell.watch(lambda cell: transitions.append((cell.state, moments.now)))
            return anyio.sleep(1)

        async def stop(n: int, when: float) -> None:
            await moments.at(when)
            assert not refs[0].alive or when < 3
            await refs[0].stop(reason=f"reason {n}")
            exits.append(refs[0].exit)

        async with ActorSystem() as system:
            async with create_task_group() as group:
                for n in range(100):
                    group.start_soon(stop, n, (0.5, 1.5, 3.0)[n % 3])
                make = partial(Player, "it", troupe.lines, beginning=begin, ending=sleep(1))
                ref = await system.spawn(make, name="it")
                assert moments.now == 1
            exit = ref.exit
            assert exit is not None
            assert exit.kind == "shutdown"
            assert exit.reason in {f"reason {n}" for n in range(0, 100, 3)}
            assert exits == [exit] * 100
            assert transitions == [("stopping", 1.0), ("ended", 2.0)]
            assert troupe.take() == ["it starts", "it ready", "it stops", "it gone"]
            assert (refs, moments.now, system.dead_letters.count) == ([ref], 3.0, 0)

    explore(scenario, seeds=seeds[:50])


def test_23_stops_and_kills_of_an_actor_that_has_ended(seeds: range) -> None:
    """Scenario 23: however it ended, neither changes anything, nor waits."""

    async def scenario() -> None:
        async with ActorSystem() as system:
            for how in ENDS:
                ref = await system.spawn(Player, name=how, restart="temporary")
                await end(ref, how)
                exit, moment = ref.exit, anyio.current_time()
                for _ in range(3):
                    await ref.stop(grace=0, reason="late")
                    await ref.kill()
                    assert await ref.wait() is exit
                assert anyio.current_time() == moment
                assert kind(ref) == how

    explore(scenario, seeds=seeds)


@each_backend
def test_23_a_second_stop_at_every_step(loop: str, seeds: range) -> None:
    """Scenario 23: from the first request to the end, another one has no effect, and waits for the same end."""

    async def scenario(interruption: Interruption) -> None:
        lines: list[str] = []

        async def finish(_context: Context) -> None:
            await checkpoint()

        async with ActorSystem() as system, create_task_group() as group:
            it = await system.spawn(partial(Player, "it", lines, ending=finish), restart="permanent")
            await it.tell(checkpointed)
            it.stop(reason="first")
            interruption.arm(lambda: it.stop(reason="second"))
            for _ in range(3):
                group.start_soon(it.wait)
            await it._cell.wait_down(0)
            await rest()
            it.stop(reason="last")
            await rest()
            group.cancel_scope.cancel()
        assert lines.count("it stops") == lines.count("it gone") == lines.count("it starts")

    for seed in seeds[:5]:
        assert interrupt_everywhere(scenario, backend=loop, seed=seed) > 3


def test_23_a_run_that_is_stopped_a_hundred_times(seeds: range) -> None:
    """Scenario 23: one result for all who stop it or wait, one last event."""

    async def scenario() -> None:
        heard: list[Any] = []
        results: list[Any] = []

        async def hang() -> None:
            """Hang."""
            await anyio.sleep(math.inf)

        async def stop(n: int) -> None:
            await anyio.sleep(n % 3)
            await run.stop("now", reason=f"reason {n}")
            results.append(await run.result())

        agent = Agent("patient", Scripted([call("hang")], "never"), tools=[hang])
        async with System() as system:
            run = await system.start(agent, "Go", on_event=heard.append)
            async with create_task_group() as group:
                for n in range(100):
                    group.start_soon(stop, n)
        assert results == [results[0]] * 100
        assert results[0].status == "stopped"
        assert results[0].reason in {f"reason {n}" for n in range(0, 100, 3)}
        assert len([event for event in heard if isinstance(event, TERMINAL)]) == 1

    explore(scenario, seeds=seeds[:20])
