"""Supervisors against a model of OTP's: whatever is done to whatever tree at whatever time, both agree.

hypothesis draws a tree and a program. The program is played on the model (`otp.py`) and on real actors in virtual time,
step by step, and after each step, when everybody waits, the two are compared: who is there, in which order and state
and incarnation, how those ended that are not, what was written in which order and when, what requests were answered.

A failure is printed as a call of `play`, which can be copied into a file and run.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias
from zlib import crc32

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenroom import actors
from greenroom.actors import Actor, ActorRef, ActorSystem, ChildSpec, Context, Supervisor, SupervisorRef
from greenroom.testing import run

from .otp import (
    Backoff,
    Child,
    Count,
    Exit,
    Family,
    Group,
    Line,
    Request,
    Snapshot,
    Spec,
    Window,
    Worker,
    World,
    written,
)

#: Time that passes after each step. Both clocks move by whole multiples of it, so that sums are exact.
TICK = 2.0**-24
#: Longer than any tree needs to stop.
LONG = 4096.0


class Boom(Exception):
    """What workers crash with."""


# -- programs


@dataclass(frozen=True, repr=False)
class Crash:
    """A worker is told to crash."""

    path: str
    __repr__ = written


@dataclass(frozen=True, repr=False)
class CrashBoth:
    """Two siblings crash in one tick, this one first."""

    path: str
    other: str
    __repr__ = written


@dataclass(frozen=True, repr=False)
class Return:
    """A worker is told to return."""

    path: str
    __repr__ = written


@dataclass(frozen=True, repr=False)
class Stop:
    """Somebody asks a child to stop."""

    path: str
    __repr__ = written


@dataclass(frozen=True, repr=False)
class Kill:
    """Somebody kills a child."""

    path: str
    __repr__ = written


@dataclass(frozen=True, repr=False)
class FailStarts:
    """The next starts of a worker fail."""

    path: str
    times: int
    __repr__ = written


@dataclass(frozen=True, repr=False)
class StartChild:
    """A supervisor is asked for one more child."""

    path: str
    spec: Spec
    __repr__ = written


@dataclass(frozen=True, repr=False)
class StopChild:
    """A supervisor is asked to stop a child for good."""

    path: str
    id: str
    __repr__ = written


@dataclass(frozen=True, repr=False)
class Pass:
    """Time passes."""

    seconds: float
    __repr__ = written


Step: TypeAlias = Crash | CrashBoth | Return | Stop | Kill | FailStarts | StartChild | StopChild | Pass


@dataclass(frozen=True)
class View:
    """What can be seen at one moment when everybody waits."""

    tree: tuple[Snapshot, ...]
    exits: dict[str, Exit | None]
    answers: list[str | None]
    lines: list[Line]


# -- the model's side


class Model:
    """Plays a program on the model."""

    def __init__(self, group: Group, failing: dict[str, int]) -> None:
        self.world = World(failing=Counter(failing))
        self.top = Family(Spec("top", "temporary", group=group), None, self.world)
        self.requests: list[Request] = []
        self._seen: dict[str, Child] = {}
        self.top.spawn()
        self.world.advance(TICK)

    def all(self) -> list[Child]:
        """All children that there are, those above before those below."""
        found: list[Child] = [self.top] if self.top.is_child else []
        for child in found:
            if isinstance(child, Family):
                found += child.children
        return found

    def find(self, path: str) -> Any:
        """The child with this path."""
        return next((child for child in self.all() if child.path == path), None)

    def play(self, step: Step) -> None:
        """Play one step, and let a tick pass."""
        match step:
            case Crash(path):
                self.find(path).messages.append("crash")
            case Return(path):
                self.find(path).messages.append("return")
            case CrashBoth(path, other):
                self.world.unordered.add(self.world.now)
                for worker in (self.find(path), self.find(other)):
                    worker.messages.append("crash")
                    self.world.step(worker.process)
            case Stop(path):
                self.find(path).dismiss()
            case Kill(path):
                self.find(path).kill()
            case FailStarts(path, times):
                self.world.failing[path] += times
            case StartChild(path, spec):
                self.requests.append(self.find(path).start_child(spec))
            case StopChild(path, id):
                self.requests.append(self.find(path).stop_child(id))
            case Pass(seconds):
                self.world.advance(seconds)
        self.world.advance(TICK)

    def view(self) -> View:
        """What can be seen."""
        for child in self.all():
            if child not in self._seen.values():
                self._seen[_numbered(child.path, self._seen)] = child
        return View(
            tree=(self.top.snapshot(),) if self.top.is_child else (),
            exits={name: child.exit for name, child in self._seen.items()},
            answers=[request.answer for request in self.requests],
            lines=_in_order(self.world.lines, self.world.unordered),
        )


def _numbered(path: str, seen: dict[str, Any]) -> str:
    """A name for a child that tells it from earlier ones with the same path."""
    return f"{path} #{1 + sum(name.partition(' ')[0] == path for name in seen)}"


def _in_order(lines: list[Line], unordered: set[float]) -> list[Line]:
    """The lines, sorted by path where their order says nothing."""
    return sorted(lines, key=lambda line: (line.time, line.path if line.time in unordered else ""))


# -- the real side


class Stage:
    """What the real workers write, and what is to happen to them."""

    def __init__(self, failing: dict[str, int]) -> None:
        self.began = anyio.current_time()
        self.failing = Counter(failing)
        self.lines: list[Line] = []

    def write(self, path: str, what: str) -> None:
        self.lines.append(Line(anyio.current_time() - self.began, path, what))

    def spec(self, spec: Spec, above: str) -> ChildSpec:
        """The description of a real child."""
        path = f"{above}/{spec.id}"
        return ChildSpec(
            spec.id,
            partial(Body, self, spec, path) if spec.group is None else self.supervisor(spec.group, path),
            restart=spec.restart,
            shutdown=spec.shutdown,
            backoff=spec.backoff
            and actors.Backoff(
                spec.backoff.minimum,
                spec.backoff.maximum,
                factor=spec.backoff.factor,
                reset=spec.backoff.reset,
                jitter=0,
            ),
            intensity=spec.intensity,
            period=None if spec.intensity is None else spec.period,
            significant=spec.significant,
        )

    def supervisor(self, group: Group, path: str) -> Supervisor:
        """The description of a real supervisor."""
        return Supervisor(
            [self.spec(spec, path) for spec in group.children],
            strategy=group.strategy,
            intensity=group.intensity,
            period=group.period,
            auto_shutdown=group.auto_shutdown,
        )


class Body(Actor):
    """A real worker."""

    def __init__(self, stage: Stage, spec: Spec, path: str) -> None:
        self.stage = stage
        self.spec = spec
        self.path = path

    async def started(self, _context: Context) -> None:
        """Start, slowly or not, and perhaps in vain."""
        self.stage.write(self.path, "starts")
        if self.spec.start:
            await anyio.sleep(self.spec.start)
        if self.stage.failing[self.path]:
            self.stage.failing[self.path] -= 1
            raise Boom(f"{self.path} cannot start")
        self.stage.write(self.path, "ready")

    async def receive(self, message: Any, context: Context) -> None:
        """Crash, at once or when somebody else has, or return."""
        if message == "return":
            context.stop()
            return
        before, crashed = message
        if before is not None:
            await before.wait()
        if crashed is not None:
            crashed.set()
        raise Boom(f"{self.path} crashes")

    async def stopping(self, _context: Context, _exit: actors.Exit | None) -> None:
        """Stop, slowly or not."""
        self.stage.write(self.path, "stops")
        if self.spec.stop:
            await anyio.sleep(self.spec.stop)
        self.stage.write(self.path, "gone")


class Reality:
    """Plays a program on real actors."""

    def __init__(self, system: ActorSystem, stage: Stage, callers: anyio.abc.TaskGroup) -> None:
        self.system = system
        self.stage = stage
        self.callers = callers
        self.answers: list[str | None] = []
        self._seen: dict[str, ActorRef[Any]] = {}

    async def open(self, group: Group) -> None:
        """Start the tree."""
        supervisor = self.stage.supervisor(group, "top")
        self.callers.start_soon(self._open, supervisor)
        await anyio.sleep(TICK)

    async def _open(self, supervisor: Supervisor) -> None:
        try:
            await self.system.spawn(supervisor, name="top", restart="temporary")
        except actors.StartFailed:
            pass  # the model says so too: there is no tree

    async def play(self, step: Step) -> None:
        """Play one step, and let a tick pass: time passes when everybody waits, and not before."""
        match step:
            case Crash(path):
                self.find(path).tell_nowait((None, None))
            case Return(path):
                self.find(path).tell_nowait("return")
            case CrashBoth(path, other):
                crash = anyio.Event()
                self.find(other).tell_nowait((crash, None))
                self.find(path).tell_nowait((None, crash))
            case Stop(path):
                self.find(path).stop()
            case Kill(path):
                self.find(path).kill()
            case FailStarts(path, times):
                self.stage.failing[path] += times
            case StartChild(path, spec):
                self._request(path, "start_child", self.stage.spec(spec, path))
            case StopChild(path, id):
                self._request(path, "stop_child", id)
            case Pass(seconds):
                await anyio.sleep(seconds)
        await anyio.sleep(TICK)

    def find(self, path: str) -> ActorRef[Any]:
        """The actor with this path."""
        ref = self.system.actor(path)
        assert ref is not None, f"there is no {path}"
        return ref

    def _request(self, path: str, method: str, argument: Any) -> None:
        self.answers.append(None)
        self.callers.start_soon(self._ask, len(self.answers) - 1, getattr(self.find(path), method), argument)

    async def _ask(self, index: int, method: Any, argument: Any) -> None:
        try:
            value = await method(argument)
            self.answers[index] = "started" if isinstance(value, ActorRef) else str(value)
        except actors.StartFailed as error:
            self.answers[index] = f"StartFailed {error.name}"
        except actors.ActorError as error:
            self.answers[index] = type(error).__name__

    def view(self, unordered: set[float]) -> View:
        """What can be seen. The model knows at which times the order of lines says nothing."""
        tree = tuple(self._snapshot(node) for node in self.system.tree().children)
        return View(
            tree=tree,
            exits={name: _exit_of(ref) for name, ref in self._seen.items()},
            answers=list(self.answers),
            lines=_in_order(self.stage.lines, unordered),
        )

    def _snapshot(self, node: Any) -> Snapshot:
        ref = self.find(node.name)
        if ref not in self._seen.values():
            self._seen[_numbered(node.name, self._seen)] = ref
        if not isinstance(ref, SupervisorRef):
            return Snapshot(node.name, node.state, node.restarts)
        counted = ref.count()
        return Snapshot(
            node.name,
            node.state,
            node.restarts,
            tuple(map(self._snapshot, node.children)),
            Count(counted.specs, counted.active, counted.supervisors, counted.workers),
            None if node.state == "restarting" else self._left(ref),
        )

    @staticmethod
    def _left(ref: SupervisorRef) -> int:
        """How many restarts it has left, which nobody tells."""
        window = ref._cell._roster._intensity
        now = anyio.current_time()
        return window.limit - sum(now - stamp <= window.period for stamp in window.stamps)


def _exit_of(ref: ActorRef[Any]) -> Exit | None:
    if ref.exit is None:
        return None
    causes: list[str] = []
    error = ref.exit.error
    while error is not None:
        match error:
            case actors.RestartLimit():
                causes.append(f"RestartLimit {error.name} {error.child}")
            case actors.StartFailed():
                causes.append(f"StartFailed {error.name}")
            case _:
                causes.append(str(error))
        error = error.__cause__
    return Exit(ref.exit.kind, tuple(causes))


# -- both


def play(
    group: Group,
    steps: Sequence[Step],
    *,
    failing: dict[str, int] | None = None,
    backend: str = "asyncio",
    seed: int | None = None,
) -> None:
    """Play a program on the model and on real actors, and compare them after each step; stop the top at the end."""

    async def both() -> None:
        model = Model(group, failing or {})
        async with anyio.create_task_group() as callers, ActorSystem() as system:
            reality = Reality(system, Stage(failing or {}), callers)
            await reality.open(group)
            _compare(None, model, reality)
            for step in (*steps, Pass(LONG), Stop("top"), Pass(LONG)):
                if isinstance(step, Stop) and model.find(step.path) is None:
                    continue
                model.play(step)
                await reality.play(step)
                if model.world.raced:
                    return
                _compare(step, model, reality)

    log = logging.getLogger("greenroom")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)  # whatever crashes here does so on purpose
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "supervisor .* is killed", UserWarning)
            run(both, backend=backend, seed=seed)
    except Exception as failure:
        error: BaseException = failure
        while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        error.add_note(f"play({group!r}, {list(steps)!r}, {failing=}, {backend=}, {seed=})")
        if error is failure:
            raise
        raise error from None
    finally:
        log.setLevel(level)


def _compare(step: Step | None, model: Model, reality: Reality) -> None:
    expected = model.view()
    found = reality.view(model.world.unordered)
    for what in ("lines", "tree", "answers", "exits"):
        assert getattr(found, what) == getattr(expected, what), f"{what} after {step}"


# -- drawing programs

strategies = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])
backoffs = st.builds(
    Backoff, st.sampled_from([1.0, 2.0]), st.sampled_from([2.0, 8.0]), reset=st.sampled_from([4.0, 60.0])
)
rarely = st.integers(0, 5).map(lambda number: number == 5)


@st.composite
def specs(draw: st.DrawFn, id: str, depth: int, may_be_significant: bool) -> Spec:
    """One child, with a group of its own where there is room for one."""
    restart = draw(st.sampled_from(["permanent", "transient", "temporary"]))
    spec = Spec(
        id,
        restart,
        backoff=draw(backoffs) if draw(rarely) else None,
        significant=may_be_significant and restart != "permanent" and draw(st.booleans()),
    )
    if draw(rarely):
        spec = replace(spec, intensity=draw(st.integers(0, 2)), period=draw(st.sampled_from([2.0, 5.0])))
    if draw(rarely):
        spec = replace(spec, shutdown=draw(st.sampled_from(["kill", 1.0, 2.0])))
    if depth > 0 and draw(st.integers(0, 2)) == 2:
        return replace(spec, group=draw(groups(depth - 1)))
    seconds = st.sampled_from([0.0, 0.0, 0.0, 1.0, 3.0])
    return replace(spec, start=draw(seconds), stop=draw(seconds))


@st.composite
def groups(draw: st.DrawFn, depth: int = 2) -> Group:
    """Up to four children, and as many levels below them."""
    auto = draw(st.sampled_from(["never", "never", "any_significant", "all_significant"]))
    return Group(
        tuple(draw(specs(id, depth, auto != "never")) for id in "abcd"[: draw(st.integers(0 if depth < 2 else 1, 4))]),
        draw(strategies),
        draw(st.integers(0, 3)),
        draw(st.sampled_from([1.0, 5.0])),
        auto,
    )


def staggered(group: Group, path: str) -> Group:
    """The group with odd times: no two things happen at the same time unless one follows from the other."""
    children: list[Spec] = []
    for spec in group.children:
        children.append(_staggered(spec, f"{path}/{spec.id}"))
    return replace(group, children=tuple(children), period=_odd(group.period, path, "period"))


def _staggered(spec: Spec, path: str) -> Spec:
    if spec.group is not None:
        spec = replace(spec, group=staggered(spec.group, path))
    if spec.backoff is not None:
        backoff = replace(
            spec.backoff,
            minimum=_odd(spec.backoff.minimum, path, "minimum"),
            maximum=_odd(spec.backoff.maximum + 1, path, "maximum"),
            reset=_odd(spec.backoff.reset, path, "reset"),
        )
        spec = replace(spec, backoff=backoff)
    if isinstance(spec.shutdown, float):
        spec = replace(spec, shutdown=_odd(spec.shutdown, path, "shutdown"))
    if spec.intensity is not None:
        spec = replace(spec, period=_odd(spec.period, path, "own period"))
    return replace(spec, start=_odd(spec.start, path, "start"), stop=_odd(spec.stop, path, "stop"))


def _odd(seconds: float, path: str, what: str) -> float:
    """A little longer, by a time of its own; nothing stays nothing."""
    return seconds and seconds + (crc32(f"{path} {what}".encode()) % 2**18) / 2**20


MOVES = (
    *(["pass"] * 6 + ["crash"] * 6 + ["start"] * 2),
    *("return", "stop", "kill", "fail", "unwanted", "both", "stop family", "kill family"),
)


@st.composite
def programs(draw: st.DrawFn) -> tuple[Group, list[Step], dict[str, int]]:
    """A tree, and a program in which each step has something to act on."""
    group = staggered(draw(groups()), "top")
    failing = {}
    if draw(rarely):
        failing = {f"top/{spec.id}": 1 for spec in group.children[-1:]}
    model = Model(group, failing)
    steps: list[Step] = []
    while model.top.is_child and not model.world.raced and len(steps) < 40 and draw(st.integers(0, 99)):
        step = draw(steps_on(model))
        if step is not None:
            steps.append(step)
            model.play(step)
    return group, steps, failing


@st.composite
def steps_on(draw: st.DrawFn, model: Model) -> Step | None:
    """A step that makes sense now. None if there is nobody to do it to."""
    workers = [child for child in model.all() if isinstance(child, Worker)]
    families = [child for child in model.all() if isinstance(child, Family)]
    move = draw(st.sampled_from(MOVES))
    if move == "pass":
        return Pass(draw(st.sampled_from([0.25, 1.0, 2.5, 7.0, 64.0])))
    if move in ("stop family", "kill family", "start", "unwanted"):
        if not families:
            return None
        family = draw(st.sampled_from(families))
        if move == "start":
            id = draw(st.sampled_from("dexyz"))
            spec = draw(specs(id, 1, family.group.auto_shutdown != "never"))
            return StartChild(family.path, _staggered(spec, f"{family.path}/{id}"))
        if move == "unwanted":
            ids = [child.spec.id for child in family.children]
            return StopChild(family.path, draw(st.sampled_from([*ids, "nobody"])))
        if family is model.top and not draw(rarely):
            return None
        return Stop(family.path) if move == "stop family" else Kill(family.path)
    if not workers:
        return None
    worker = draw(st.sampled_from(workers))
    if move == "both":
        # One that is killed without being asked might be killed before it crashes.
        siblings = [each for each in workers if each.parent is worker.parent and each.idle]
        siblings = [each for each in siblings if each.spec.shutdown != "kill"]
        if len(siblings) < 2:
            return None
        first, second = sorted(draw(st.permutations(range(len(siblings))))[:2])
        return CrashBoth(siblings[first].path, siblings[second].path)
    if move == "fail":
        return FailStarts(worker.path, draw(st.integers(1, 3)))
    return {"crash": Crash, "return": Return, "stop": Stop, "kill": Kill}[move](worker.path)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_any_program(backend: str, seeds: range) -> None:
    """Scenarios 15 to 18, 24 to 40: both agree after every step of three programs for each of ``--seeds``."""

    @settings(max_examples=3 * len(seeds), deadline=None, suppress_health_check=list(HealthCheck), print_blob=False)
    @given(program=programs(), seed=st.none() | st.integers(0, 7))
    def agree(program: tuple[Group, list[Step], dict[str, int]], seed: int | None) -> None:
        group, steps, failing = program
        play(group, steps, failing=failing, backend=backend, seed=seed)

    agree()


#: Programs on which the two did not agree once, each shrunk to what matters.
ONE_DEEP = Group((Spec("a", group=Group((Spec("a", stop=1.0),), intensity=0)),), intensity=0)
FOUND: dict[str, tuple[Group, list[Step], dict[str, int]]] = {
    "a child that is asked to stop during its first start is waited for": (
        Group((Spec("a", start=1.2), Spec("b"))),
        [Stop("top/a"), StopChild("top", "nobody")],
        {},
    ),
    "a supervisor that goes down with the one above it restarts nothing": (
        Group((Spec("b", shutdown="kill", group=Group((Spec("a", group=Group((Spec("a"), Spec("b", stop=1.0)))),))),)),
        [],
        {},
    ),
    "nor does it take children": (
        Group((Spec("a"), Spec("b", shutdown="kill", group=ONE_DEEP)), intensity=0),
        [Crash("top/a"), StartChild("top/b/a", Spec("d"))],
        {},
    ),
    "nor restart a child that was cleaning up after a crash": (
        Group((Spec("a", group=Group((Spec("a", stop=1.0), Spec("b", stop=1.2)))),)),
        [Crash("top/a/a"), Pass(0.25), Kill("top"), Pass(1.0)],
        {},
    ),
    "a plan is overtaken although a child of it has gone meanwhile": (
        Group((Spec("a"), Spec("b", start=3.0)), "one_for_all", intensity=2),
        [
            Pass(7.0),
            StartChild("top", Spec("d", "transient")),
            Crash("top/a"),
            Pass(1.0),
            Stop("top/d"),
            Crash("top/a"),
        ],
        {},
    ),
    "a first start that fails while the group restarts is not repeated": (
        Group((Spec("a"), Spec("b")), "one_for_all"),
        [StartChild("top", Spec("d", start=1.2)), Crash("top/a"), Kill("top/d")],
        {},
    ),
    "also that of a child which belongs to the supervisor": (
        Group((Spec("a"), Spec("b", stop=1.0)), "one_for_all"),
        [Crash("top/a")],
        {"top/b": 1},
    ),
    "a significant child that is stopped while it is down ends its supervisor": (
        Group(
            (Spec("a", "transient", significant=True), Spec("b", stop=1.0)),
            "one_for_all",
            auto_shutdown="any_significant",
        ),
        [Crash("top/a"), Stop("top/a")],
        {},
    ),
    "a transient child that was asked to stop does not come back with its group": (
        Group((Spec("a"), Spec("b", "transient", stop=1.2)), "one_for_all"),
        [Stop("top/b"), Crash("top/a")],
        {},
    ),
    "a supervisor that is killed while it stops asks nobody any more": (
        Group((Spec("a", stop=1.0), Spec("b"), Spec("c", start=1.0)), intensity=0),
        [Crash("top/b"), Kill("top")],
        {},
    ),
    "a new child under an old id is no part of a restart decided before": (
        Group((Spec("a"), Spec("b")), "one_for_all"),
        [
            *(StartChild("top", Spec("d", stop=1.1)), StopChild("top", "d"), StartChild("top", Spec("d"))),
            Crash("top/a"),
        ],
        {},
    ),
    "a start that failed was no quiet time, however long its cleanup took": (
        Group((Spec("a", stop=4.5, backoff=Backoff(1.0, 8.0, reset=4.0)),)),
        [FailStarts("top/a", 2), Crash("top/a")],
        {},
    ),
}


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("program", FOUND.values(), ids=FOUND)
def test_programs_that_failed_once(
    program: tuple[Group, list[Step], dict[str, int]], backend: str, seed: int | None
) -> None:
    """Scenarios 15, 16, 28, 36 to 38: what the drawn programs have found."""
    group, steps, failing = program
    play(group, steps, failing=failing, backend=backend, seed=seed)


# -- the model itself


def _model(*children: Spec, **flags: Any) -> Model:
    """The model of a tree, which has started; what happened until then is not told."""
    model = Model(Group(children, **flags), {})
    model.world.lines.clear()
    return model


def _told(model: Model) -> list[str]:
    """What happened since the last look."""
    told = [f"{line.path.removeprefix('top/')} {line.what}" for line in model.world.lines]
    model.world.lines.clear()
    return told


def _stop_or_start(model: Model) -> list[str]:
    """The same, but only who stops and who is ready."""
    return [line for line in _told(model) if line.endswith(("stops", "ready"))]


AGAIN = ["a stops", "a gone", "a starts", "a ready"]


class TestTheModel:
    """What OTP does, by the names of the cases of its own ``supervisor_SUITE``."""

    @pytest.mark.parametrize(
        ("case", "restart", "step", "returns"),
        [
            ("permanent_normal", "permanent", Return("top/a"), True),
            ("permanent_shutdown", "permanent", Stop("top/a"), True),
            ("permanent_abnormal", "permanent", Crash("top/a"), True),
            ("transient_normal", "transient", Return("top/a"), False),
            ("transient_shutdown", "transient", Stop("top/a"), False),
            ("transient_abnormal", "transient", Crash("top/a"), True),
            ("temporary_normal", "temporary", Return("top/a"), False),
            ("temporary_shutdown", "temporary", Stop("top/a"), False),
            ("temporary_abnormal", "temporary", Crash("top/a"), False),
        ],
    )
    def test_restart_types(self, case: str, restart: Any, step: Step, returns: bool) -> None:
        """permanent_normal to temporary_abnormal: nine cases."""
        model = _model(Spec("a", restart), Spec("b"))
        model.play(step)
        assert _told(model) == (AGAIN if returns else AGAIN[:2]), case
        assert (model.find("top/a") is not None) is returns

    def test_one_for_one(self) -> None:
        """one_for_one, one_for_one_escalation: one child alone; once too often ends all, the last one first."""
        model = _model(Spec("a"), Spec("b"), intensity=1)
        model.play(Crash("top/a"))
        assert _told(model) == AGAIN
        model.play(Crash("top/b"))
        assert _stop_or_start(model) == ["b stops", "a stops"]
        assert model.top.exit == Exit("crashed", ("RestartLimit top top/b", "top/b crashes"))

    def test_one_for_all(self) -> None:
        """one_for_all: the others stop in reverse order, all start in order."""
        model = _model(Spec("a"), Spec("b"), Spec("c"), strategy="one_for_all")
        model.play(Crash("top/b"))
        assert _stop_or_start(model) == ["b stops", "c stops", "a stops", "a ready", "b ready", "c ready"]

    def test_one_for_all_escalation(self) -> None:
        """one_for_all_escalation: nobody starts again."""
        model = _model(Spec("a"), Spec("b"), strategy="one_for_all", intensity=0)
        model.play(Crash("top/a"))
        assert (_stop_or_start(model), model.top.state) == (["a stops", "b stops"], "ended")

    def test_one_for_all_other_child_fails_restart(self) -> None:
        """one_for_all_other_child_fails_restart: that counts as well, and those that are up stop again."""
        model = _model(Spec("a"), Spec("b"), Spec("c"), strategy="one_for_all", intensity=2)
        model.play(FailStarts("top/b", 1))
        model.play(Crash("top/a"))
        assert _told(model)[-13:] == [
            *("a starts", "a ready", "b starts", "b stops", "b gone", "a stops", "a gone"),
            *("a starts", "a ready", "b starts", "b ready", "c starts", "c ready"),
        ]
        assert model.top.restarts_counted.left(model.world.now) == 0

    def test_rest_for_one(self) -> None:
        """rest_for_one: those after it stop in reverse order and start with it; those before it are not concerned."""
        model = _model(*map(Spec, "abcd"), strategy="rest_for_one")
        model.play(Crash("top/b"))
        assert _stop_or_start(model) == ["b stops", "d stops", "c stops", "b ready", "c ready", "d ready"]

    def test_rest_for_one_escalation(self) -> None:
        """rest_for_one_escalation: those before it stop too."""
        model = _model(Spec("a"), Spec("b"), strategy="rest_for_one", intensity=0)
        model.play(Crash("top/b"))
        assert (_stop_or_start(model), model.top.state) == (["b stops", "a stops"], "ended")

    @pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
    def test_temporary_bystander(self, strategy: Any) -> None:
        """temporary_bystander: it stops with the group, and is forgotten."""
        model = _model(Spec("a"), Spec("b", "temporary"), strategy=strategy)
        model.play(Crash("top/a"))
        assert _stop_or_start(model) == ["a stops", "b stops", "a ready"]
        assert [child.path for child in model.all()] == ["top", "top/a"]

    def test_multiple_restarts(self) -> None:
        """multiple_restarts: the window slides; a restart counts as long as the period, to the very end."""
        model = _model(Spec("a"), intensity=2, period=5.0)
        for seconds in (0.0, 3.0, 2.0):
            model.play(Pass(seconds))
            model.play(Crash("top/a"))
        assert model.top.state == "running"
        model.play(Pass(2.0))
        model.play(Crash("top/a"))
        assert model.top.exit == Exit("crashed", ("RestartLimit top top/a", "top/a crashes"))

    def test_a_window_on_its_edge(self) -> None:
        """Two restarts exactly one period apart are within it."""
        window = Window(1, 5.0)
        assert [window.count(time) for time in (0.0, 5.0, 10.5)] == [True, False, True]

    def test_sup_start_fail(self) -> None:
        """sup_start_fail: those before it are stopped in reverse order, those after it never start."""
        model = Model(Group(tuple(map(Spec, "abcd"))), {"top/c": 1})
        assert _stop_or_start(model) == ["a ready", "b ready", "c stops", "b stops", "a stops"]
        assert model.top.exit == Exit("crashed", ("StartFailed top/c", "top/c cannot start"))

    def test_sup_stop_timeout(self) -> None:
        """sup_stop_timeout: in reverse order; who is not down in time is killed, and only then the next is asked."""
        model = _model(Spec("a"), Spec("b", shutdown=1.0, stop=3.0), Spec("c"))
        b = model.find("top/b")
        model.play(Stop("top"))
        model.play(Pass(2.0))
        assert [(line.time > 1.0, line.path, line.what) for line in model.world.lines] == [
            *((False, "top/c", "stops"), (False, "top/c", "gone"), (False, "top/b", "stops")),
            *((True, "top/a", "stops"), (True, "top/a", "gone")),
        ]
        assert (b.exit, model.top.exit) == (Exit("killed"), Exit("shutdown"))

    def test_sup_stop_brutal_kill(self) -> None:
        """sup_stop_brutal_kill: it is not asked."""
        model = _model(Spec("a"), Spec("b", shutdown="kill"))
        model.play(Stop("top"))
        assert _told(model) == ["a stops", "a gone"]

    def test_child_adm(self) -> None:
        """child_adm: children that are added and taken away; errors go to who asked."""
        model = _model(Spec("a"), intensity=0)
        model.play(StartChild("top", Spec("a")))
        model.play(FailStarts("top/b", 1))
        model.play(StartChild("top", Spec("b")))
        model.play(StartChild("top", Spec("b")))
        model.play(StopChild("top", "a"))
        model.play(StopChild("top", "a"))
        answers = [request.answer for request in model.requests]
        assert answers == ["NameTaken", "StartFailed top/b", "started", "True", "False"]
        assert [child.path for child in model.all()] == ["top", "top/b"]

    def test_count_children(self) -> None:
        """count_children: who waits for its restart is specified, and not active."""
        model = _model(Spec("a", backoff=Backoff(1.0, 8.0)), Spec("b"), Spec("c", group=Group()))
        model.play(Crash("top/a"))
        assert model.top.snapshot().count == Count(specs=3, active=2, supervisors=1, workers=2)

    def test_significant_transient(self) -> None:
        """significant_transient: a crash brings it back, an orderly end ends the supervisor in order."""
        model = _model(Spec("a", "transient", significant=True), Spec("b"), auto_shutdown="any_significant")
        model.play(Crash("top/a"))
        assert (_told(model), model.top.state) == (AGAIN, "running")
        model.play(Return("top/a"))
        assert (_stop_or_start(model), model.top.exit) == (["a stops", "b stops"], Exit("shutdown"))

    def test_significant_temporary(self) -> None:
        """significant_temporary: with ``all_significant`` the last of them counts, however it ends."""
        ones = (Spec("a", "temporary", significant=True), Spec("b", "temporary", significant=True), Spec("c"))
        model = _model(*ones, auto_shutdown="all_significant")
        model.play(Return("top/a"))
        assert model.top.state == "running"
        model.play(Crash("top/b"))
        assert (_stop_or_start(model), model.top.state) == (["a stops", "b stops", "c stops"], "ended")

    def test_significant_bystander(self) -> None:
        """significant_bystander: one that its supervisor stops, with the group or by itself, ends nothing."""
        ones = (Spec("a"), Spec("b", "temporary", significant=True), Spec("c", "transient", significant=True))
        model = _model(*ones, strategy="one_for_all", auto_shutdown="any_significant")
        model.play(Crash("top/a"))
        assert _stop_or_start(model) == ["a stops", "c stops", "b stops", "a ready", "c ready"]
        model.play(StopChild("top", "c"))
        assert (model.top.state, len(model.top.children)) == ("running", 1)

    def test_significant_escalation(self) -> None:
        """significant_escalation: a supervisor that ends so has ended with ``shutdown``, for the one above it."""
        ones = Group((Spec("x", "transient", significant=True),), auto_shutdown="any_significant")
        model = _model(Spec("a", "transient", group=ones), Spec("b", group=ones))
        model.play(Return("top/a/x"))
        model.play(Return("top/b/x"))
        assert _stop_or_start(model) == ["a/x stops", "b/x stops", "b/x ready"]
        assert [child.path for child in model.all()] == ["top", "top/b", "top/b/x"]

    def test_tree(self) -> None:
        """tree: what one level gives up is the next level's crash, with its causes."""
        inner = Group((Spec("x"), Spec("y")), intensity=0)
        model = _model(Spec("a", group=inner), Spec("b"), strategy="rest_for_one", intensity=1)
        model.play(Crash("top/a/x"))
        assert _stop_or_start(model) == ["a/x stops", "a/y stops", "b stops", "a/x ready", "a/y ready", "b ready"]
        model.play(Crash("top/a/y"))
        causes = ("RestartLimit top top/a", "RestartLimit top/a top/a/y", "top/a/y crashes")
        assert model.top.exit == Exit("crashed", causes)

    def test_hanging_restart_loop(self) -> None:
        """hanging_restart_loop: restarts that fail count, and the supervisor can be stopped meanwhile."""
        model = _model(Spec("a", start=1.0), intensity=3)
        model.play(Pass(1.0))
        model.play(FailStarts("top/a", 5))
        model.play(Crash("top/a"))
        model.play(Pass(1.5))
        assert (model.top.restarts_counted.left(model.world.now), model.find("top/a").state) == (1, "starting")
        model.play(Stop("top"))
        model.play(Pass(1.0))
        assert (model.top.exit, _told(model).count("a starts")) == (Exit("shutdown"), 2)

    def test_backoff(self) -> None:
        """OTP has none: 1, 2, 4 and again 4 seconds, and 1 after a quiet time."""
        model = _model(Spec("a", backoff=Backoff(1.0, 4.0, reset=10.0)), intensity=9)
        times: list[float] = []
        for life in (0.0, 0.0, 0.0, 0.0, 11.0):
            model.play(Pass(life))
            began = model.world.now
            model.play(Crash("top/a"))
            model.play(Pass(5.0))
            times.append(model.world.lines[-1].time - began)
        assert times == [1.0, 2.0, 4.0, 4.0, 1.0]
