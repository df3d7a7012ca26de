"""A model of supervision after the documentation of Erlang/OTP's ``supervisor``, for tests to compare ours with.

A family is told as OTP tells it: a process that starts its children in order, each ready before the next, and then does
one thing at a time. Processes are generators that yield what they wait for; `World` runs whatever can go on and moves
the clock when nothing can. There is no event loop here, no task, and no code of greenroom.

Where greenroom means to differ from OTP, a comment begins with "Unlike OTP".

==============  ===========================================================================================
``starting``    its process runs and is not ready yet
``running``     it is ready; also while it ends of its own accord
``stopping``    it has been asked to stop
``restarting``  no process: it waits for its supervisor, or for its backoff
``ended``       it is no child any more; what is left is how it ended
==============  ===========================================================================================
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple, TypeAlias

Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
Verdict: TypeAlias = Literal["final", "wait", "again"]


# -- what is described


def written(record: Any) -> str:
    """A record as one would write it: without the fields that have their defaults."""
    given = [each for each in fields(record) if getattr(record, each.name) != each.default]
    return f"{type(record).__name__}({', '.join(f'{each.name}={getattr(record, each.name)!r}' for each in given)})"


@dataclass(frozen=True, repr=False)
class Backoff:
    """Delays without jitter: `minimum`, then `factor` times the last one, up to `maximum`."""

    minimum: float
    maximum: float
    factor: float = 2.0
    reset: float = 60.0

    __repr__ = written


@dataclass(frozen=True, repr=False)
class Spec:
    """One child: a worker, which takes `start` and `stop` seconds for that, or with `group` a supervisor."""

    id: str
    restart: Restart = "permanent"
    shutdown: float | Literal["kill"] | None = None
    start: float = 0.0
    stop: float = 0.0
    group: Group | None = None
    backoff: Backoff | None = None
    intensity: int | None = None
    period: float = 5.0
    significant: bool = False

    __repr__ = written

    @property
    def grace(self) -> float:
        """Seconds between the request to stop and the kill; and what the cleanup of a worker may take in any case."""
        if self.shutdown is None:
            return 5.0 if self.group is None else math.inf
        return 5.0 if self.shutdown == "kill" else self.shutdown


@dataclass(frozen=True, repr=False)
class Group:
    """The children of a supervisor, in start order, and its flags."""

    children: tuple[Spec, ...] = ()
    strategy: Strategy = "one_for_one"
    intensity: int = 3
    period: float = 5.0
    auto_shutdown: Literal["never", "any_significant", "all_significant"] = "never"

    __repr__ = written


class Exit(NamedTuple):
    """How a child ended: ``normal``, ``shutdown``, ``killed`` or ``crashed``; and the causes, the last one first."""

    kind: str
    causes: tuple[str, ...] = ()


class Count(NamedTuple):
    """What ``supervisor:count_children`` tells."""

    specs: int
    active: int
    supervisors: int
    workers: int


class Line(NamedTuple):
    """A worker did something: it "starts", is "ready", "stops", is "gone"."""

    time: float
    path: str
    what: str


class Snapshot(NamedTuple):
    """A child as it stands, and those below it."""

    path: str
    state: str
    restarts: int
    children: tuple[Snapshot, ...] = ()
    count: Count | None = None
    left: int | None = None


# -- processes and their time


class Cancelled(Exception):
    """Thrown into a process that is being ended from outside."""


class Crash(Exception):
    """A worker raises this; its text is the cause."""


@dataclass
class Wait:
    """What a process waits for: a condition, at most for so long. A shielded wait is not cancelled."""

    until: Callable[[], bool]
    deadline: float = math.inf
    shielded: bool = False


Life: TypeAlias = Generator[Wait, None, None]
Steps: TypeAlias = Generator[Wait, None, Any]


@dataclass(eq=False)
class Process:
    """A generator on its way."""

    life: Life
    wait: Wait | None = None
    cancelled: bool = False
    over: bool = False
    _told: bool = False

    def can_go_on(self, now: float) -> bool:
        """Whether what it waits for is there."""
        wait = self.wait
        if wait is None or wait.until() or now >= wait.deadline:
            return True
        return self.cancelled and not self._told and not wait.shielded

    def go_on(self) -> None:
        """Run it up to its next wait."""
        wait = self.wait
        try:
            if self.cancelled and not self._told and wait is not None and not wait.shielded:
                self._told = True
                self.wait = self.life.throw(Cancelled())
            else:
                self.wait = next(self.life)
        except StopIteration:
            self.over = True


@dataclass
class World:
    """All processes, the clock, and what happened. `failing` says how many of a worker's next starts fail."""

    now: float = 0.0
    lines: list[Line] = field(default_factory=list)
    failing: Counter[str] = field(default_factory=Counter)
    processes: list[Process] = field(default_factory=list)
    #: Times at which several went their own way at once, so that their order says nothing.
    unordered: set[float] = field(default_factory=set)
    #: Whether two supervisors did things at once that concern each other: what comes of it is up to the scheduler.
    raced: bool = False

    def spawn(self, life: Life) -> Process:
        """Begin a process."""
        process = Process(life)
        self.processes.append(process)
        return process

    def settle(self) -> None:
        """Run until nothing can go on at this time."""
        while ready := next((each for each in self.processes if each.can_go_on(self.now)), None):
            self.step(ready)

    def step(self, process: Process) -> None:
        """Run one process until it has to wait."""
        while not process.over and process.can_go_on(self.now):
            process.go_on()
        if process.over:
            self.processes.remove(process)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        self.settle()
        while (next_time := min((each.wait.deadline for each in self.processes if each.wait), default=end)) < end:
            self.now = next_time
            self.settle()
        self.now = end
        self.settle()

    def wait(self, until: Callable[[], bool], seconds: float = math.inf, *, shielded: bool = False) -> Wait:
        """What to yield, to go on when something is so or after some seconds."""
        return Wait(until, self.now + seconds, shielded)

    def pause(self, seconds: float) -> Iterator[Wait]:
        """What to yield from, to let some seconds pass; none is no wait at all."""
        if seconds > 0:
            yield self.wait(lambda: False, seconds)


@dataclass
class Request:
    """What somebody wants of a supervisor: ``start`` or ``stop`` a child. `answer` is None until there is one."""

    what: str
    spec: Spec | None = None
    id: str = ""
    answer: str | None = None


@dataclass(eq=False)
class Plan:
    """Children to stop, to forget and to start, in these orders; started when it is `due`."""

    stop: list[Child]
    start: list[Child]
    forget: list[Child]
    due: float


class Window:
    """At most `limit` restarts in any `period` seconds."""

    def __init__(self, limit: int, period: float) -> None:
        self.limit = limit
        self.period = period
        self.times: list[float] = []

    def count(self, now: float) -> bool:
        """Count one more. Whether that many are allowed."""
        self.times.append(now)
        return self.left(now) >= 0

    def left(self, now: float) -> int:
        """How many more are allowed at this time."""
        return self.limit - sum(now - time <= self.period for time in self.times)


# -- children


class Child:
    """One child of a supervisor, through all its incarnations."""

    def __init__(self, spec: Spec, parent: Family | None, world: World) -> None:
        self.spec = spec
        self.parent = parent
        self.world = world
        self.path = f"{parent.path}/{spec.id}" if parent is not None and parent.path else spec.id
        self.restarts = 0
        self.exit: Exit | None = None
        #: How the last incarnation ended.
        self.last = Exit("shutdown")
        #: Whether there ever was an incarnation that was ready.
        self.was_ready = False
        self.process: Process | None = None
        #: Of the child's own restarts, if it has a window of its own.
        self.window = Window(spec.intensity, spec.period) if spec.intensity is not None else None
        self.attempts = 0
        self.resumed = -math.inf
        self._begin()

    def _begin(self) -> None:
        """A new incarnation: not ready, and nobody has asked anything of it."""
        self.ready = self.asked = self.killed = self.dismissed = self.ending = False

    @property
    def is_down(self) -> bool:
        """Whether no process runs."""
        return self.process is None

    @property
    def is_child(self) -> bool:
        """Whether its supervisor still knows it."""
        return self.exit is None

    @property
    def state(self) -> str:
        """See the table at the top."""
        if self.exit is not None:
            return "ended"
        if self.process is None:
            return "restarting"
        if self.asked or self.ending:
            return "stopping"
        return "running" if self.ready else "starting"

    @property
    def has_settled(self) -> bool:
        """Whether its process is ready, or over: what a supervisor that started it waits for."""
        return self.ready or self.is_down

    def spawn(self, *, again: bool = False) -> None:
        """Start a process for the first, or the next, incarnation."""
        if again:
            self.restarts += 1
            self._begin()
        self.process = self.world.spawn(self._live())

    def _live(self) -> Life:
        while True:
            exit, in_place = yield from self.incarnation()
            self.last = exit
            verdict: Verdict = self.parent.child_down(self, exit, in_place) if self.parent is not None else "final"
            if verdict != "again":
                break
            self.restarts += 1
            self._begin()
        self.process = None
        if verdict == "final":
            self.end(exit)

    def incarnation(self) -> Generator[Wait, None, tuple[Exit, bool]]:
        """Live once. How it ended, and whether it could go on in the same process."""
        raise NotImplementedError

    def become_ready(self) -> None:
        """Say so."""
        self.ready = self.was_ready = True

    def end(self, exit: Exit) -> None:
        """Be no child any more."""
        self.exit = exit

    # what others do to it

    def stand_down(self) -> None:
        """Be asked to stop, by the supervisor."""
        self.asked = True

    def dismiss(self) -> None:
        """Be asked to stop, by anybody else: ``exit(Pid, shutdown)``."""
        if self.exit is not None:
            return
        self.dismissed = True
        if self.process is not None:
            self.stand_down()
        elif self.spec.restart == "transient" and self.parent is not None:
            # Unlike OTP, where a child that waits for its restart cannot be reached, a stop calls the restart off.
            self.parent.child_dismissed(self)

    def kill(self) -> None:
        """Be killed: ``exit(Pid, kill)``."""
        if self.process is not None:
            self.killed = True
            self.process.cancelled = True

    def cancel(self) -> None:
        """Go down with everything around: OTP's child of a supervisor that was killed."""
        if self.process is not None:
            self.process.cancelled = True

    def cut(self, at: float) -> None:
        """Have no more time than until then. A supervisor has those of its children to itself."""

    def snapshot(self) -> Snapshot:
        """How it stands."""
        return Snapshot(self.path, self.state, self.restarts)


class Worker(Child):
    """Starts, works, does what it is told, stops. Messages outlive incarnations, as the address does."""

    def __init__(self, spec: Spec, parent: Family | None, world: World) -> None:
        super().__init__(spec, parent, world)
        self.messages: deque[str] = deque()
        #: Whether it is waiting for a message, with nothing else to do.
        self.idle = False
        #: When its cleanup is cut off: its supervisor was killed while it waited for this child's end.
        self.cut_at = math.inf

    def _note(self, what: str) -> None:
        self.world.lines.append(Line(self.world.now, self.path, what))

    def incarnation(self) -> Generator[Wait, None, tuple[Exit, bool]]:
        crash: Crash | None = None
        kind = "normal"
        try:
            yield from self._work()
        except Crash as error:
            crash = error
        except Cancelled:
            kind = "killed"
        self.idle = False
        # OTP's terminate/2. Unlike OTP a child also cleans up when its supervisor has been killed.
        if not self.killed:
            self.ending = True
            yield from self._clean_up()
        assert self.process is not None
        if crash is not None:
            return Exit("crashed", (str(crash),)), not (self.asked or self.killed or self.process.cancelled)
        if self.killed:
            kind = "killed"
        elif kind == "normal" and self.asked:
            kind = "shutdown"
        elif kind == "normal" and self.process.cancelled:
            kind = "killed"  # unlike OTP: nobody can tell it from one that swallowed its cancellation
        return Exit(kind), kind == "normal"

    def cut(self, at: float) -> None:
        self.cut_at = at
        wait = self.process.wait if self.process is not None else None
        if wait is not None and wait.shielded:
            wait.deadline = min(wait.deadline, at)

    def _work(self) -> Steps:
        self._note("starts")
        yield from self.world.pause(self.spec.start)
        if self.world.failing[self.path]:
            self.world.failing[self.path] -= 1
            raise Crash(f"{self.path} cannot start")
        self._note("ready")
        self.become_ready()
        self.idle = True
        yield self.world.wait(lambda: self.asked or bool(self.messages))
        # A request to stop overtakes messages.
        if not self.asked and self.messages.popleft() == "crash":
            raise Crash(f"{self.path} crashes")

    def _clean_up(self) -> Steps:
        self._note("stops")
        if self.spec.stop > 0:
            done = self.world.now + self.spec.stop
            left = max(0.0, self.cut_at - self.world.now)
            yield self.world.wait(lambda: self.killed, min(self.spec.stop, self.spec.grace, left), shielded=True)
            if self.killed or self.world.now < done:
                self.killed = True  # cut short, by a kill or because it took longer than it may
                return
        self._note("gone")


class Family(Child):
    """A supervisor."""

    def __init__(self, spec: Spec, parent: Family | None, world: World) -> None:
        super().__init__(spec, parent, world)
        assert spec.group is not None
        self.group = spec.group
        self._forget_everything()

    def _forget_everything(self) -> None:
        self.children: list[Child] = []
        self.restarts_counted = Window(self.group.intensity, self.group.period)
        #: What it has been asked for, and what it has decided to do, in order.
        self.to_do: deque[Request | Plan] = deque()
        #: Plans that wait for their time.
        self.later: list[Plan] = []
        #: The children that it is stopping without stopping altogether.
        self.leaving: list[Child] = []
        self.busy = True
        self.failure: tuple[str, ...] = ()
        self.lost_significant = False

    @property
    def takes_no_more(self) -> bool:
        """Whether nothing is to be started or restarted any more."""
        assert self.process is not None
        return self.asked or self.process.cancelled or bool(self.failure)

    # the process

    def incarnation(self) -> Generator[Wait, None, tuple[Exit, bool]]:
        self._forget_everything()
        left = Exit("shutdown")
        try:
            yield from self._supervise()
        except Cancelled:
            self.world.unordered.add(self.world.now)
            for child in self.children:
                child.cancel()
            yield self.world.wait(lambda: all(child.is_down for child in self.children), shielded=True)
            left = Exit("killed")
        for child in tuple(self.children):
            self._forget(child, left)  # it waited for a restart that will not come
        for request in self.to_do:
            if isinstance(request, Request):
                request.answer = "SystemClosed"
        self.to_do.clear()
        self.later.clear()
        if left.kind == "killed":
            return left, False
        if self.failure:
            return Exit("crashed", self.failure), not self.asked
        return left, False

    def _supervise(self) -> Steps:
        yield from self._start_all()
        if not self.takes_no_more:
            if self.to_do or self.lost_significant:
                self.world.unordered.add(self.world.now)  # it goes on beside whoever waited for it
                self.world.raced |= self.parent is not None and self.parent.busy
            self.become_ready()
        if self.lost_significant:
            self.stand_down()
        while not self.takes_no_more:
            self.busy = False
            yield self.world.wait(lambda: self.takes_no_more or bool(self.to_do))
            self.busy = True
            if self.takes_no_more:
                break
            thing = self.to_do.popleft()
            if isinstance(thing, Plan):
                yield from self._restart(thing)
            elif thing.what == "start":
                self._launch_wanted(thing)
            else:
                yield from self._stop_wanted(thing)
        yield from self._stop_all(reversed(self.children))

    def _start_all(self) -> Steps:
        for spec in self.group.children:
            if self.takes_no_more:
                return
            child = self._launch(spec)
            yield self.world.wait(lambda child=child: child.has_settled or self.takes_no_more)
            if not child.was_ready and not child.is_child and not self.takes_no_more:
                self.failure = (f"StartFailed {child.path}", *child.last.causes)
                self.ending = True

    def _launch(self, spec: Spec) -> Child:
        child = (Worker if spec.group is None else Family)(spec, self, self.world)
        self.children.append(child)
        child.spawn()
        return child

    def _launch_wanted(self, request: Request) -> None:
        # Unlike OTP the supervisor does not wait for a dynamic child to be ready; whoever wanted it does.
        assert request.spec is not None
        if self.find(request.spec.id) is not None:
            request.answer = "NameTaken"
        else:
            self.world.unordered.add(self.world.now)
            self.world.spawn(self._tell_when_ready(self._launch(request.spec), request))

    def _tell_when_ready(self, child: Child, request: Request) -> Life:
        yield self.world.wait(lambda: child.was_ready or not child.is_child)
        request.answer = "started" if child.was_ready else f"StartFailed {child.path}"

    def _stop_wanted(self, request: Request) -> Steps:
        child = self.find(request.id)
        if child is not None:
            last = Exit("shutdown") if child.is_down else None
            self.leaving = [child]
            try:
                yield from self._stop_all(self.leaving)
            except Cancelled:
                request.answer = "SystemClosed"
                raise
            self.leaving = []
            if child.is_child:
                self._forget(child, last or child.last)
        request.answer = str(child is not None)

    def _stop_all(self, children: Iterable[Child]) -> Steps:
        """One after the other: ask, wait for the grace, kill, wait."""
        for child in tuple(children):
            if child.is_down:
                continue
            if child.spec.shutdown == "kill":
                child.kill()
            else:
                child.stand_down()
                wait = self.world.wait(lambda child=child: child.is_down, child.spec.grace)
                try:
                    yield wait
                except Cancelled:
                    child.cut(wait.deadline)  # its cleanup goes on, but has no more time than it was given
                    raise
                if not child.is_down:
                    child.kill()
            yield self.world.wait(lambda child=child: child.is_down)

    def _restart(self, plan: Plan) -> Steps:
        self.leaving = plan.stop
        yield from self._stop_all(plan.stop)
        self.leaving = []
        for child in plan.forget:
            if child.is_child:
                self._forget(child, child.last)
        if plan.due > self.world.now:
            if not self.takes_no_more and not self._is_overtaken(plan.start):
                self._put_off(Plan([], plan.start, [], plan.due))
            return
        for position, child in enumerate(plan.start):
            left = plan.start[position:]
            if self.takes_no_more or self._is_overtaken(left):
                return
            if child.state != "restarting":
                continue
            child.spawn(again=True)
            yield self.world.wait(
                lambda child=child, left=left: child.has_settled or self.takes_no_more or self._is_overtaken(left)
            )
            if child.state == "restarting":
                return  # it failed to start: that was decided on, and there is a new plan

    def _is_overtaken(self, left: list[Child]) -> bool:
        """Whether a newer plan starts all that this one has left to start.

        Unlike OTP, which finishes a restart before it looks at the next exit: a sibling that is to start next may ask
        the one that has crashed meanwhile.
        """
        left = [child for child in left if child.is_child]
        return any(isinstance(plan, Plan) and set(left) <= set(plan.start) for plan in self.to_do)

    def _put_off(self, plan: Plan) -> None:
        self.later.append(plan)
        self.world.spawn(self._wake_up_for(plan))

    def _wake_up_for(self, plan: Plan) -> Life:
        yield self.world.wait(lambda: plan not in self.later, plan.due - self.world.now)
        if plan in self.later:
            self.later.remove(plan)
            self.to_do.append(plan)

    # what it decides

    def child_down(self, child: Child, exit: Exit, in_place: bool) -> Verdict:
        """An incarnation of a child is over. Unlike OTP it is decided on at once, also while the supervisor is busy."""
        verdict = self._judge(child, exit, in_place)
        if verdict == "final":
            self.children.remove(child)
            self._lose(child)
        return verdict

    def _judge(self, child: Child, exit: Exit, in_place: bool) -> Verdict:
        if self.takes_no_more or not child.was_ready:
            return "final"  # a first start that failed concerns whoever wanted the child
        if self._is_leaving(child):
            # Unlike OTP siblings that crash together under a group strategy are one restart: the group's.
            return "final" if self._was_dismissed(child) else "wait"
        if not self._comes_back(child, exit):
            return "final"
        window = child.window or self.restarts_counted
        if not window.count(self.world.now):
            self.failure = (f"RestartLimit {self.path} {child.path}", *exit.causes)
            self.ending = True
            return "final"
        delay = self._next_delay(child)
        if self.group.strategy == "one_for_one":
            if in_place and not delay:
                # Unlike OTP a crashed child starts again by itself, so that its supervisor is free meanwhile.
                return "again"
            self._plan([], [child], [], delay)
            return "wait"
        affected = self.children[self.children.index(child) if self.group.strategy == "rest_for_one" else 0 :]
        self._plan(
            [each for each in reversed(affected) if each is not child],
            [each for each in affected if each.spec.restart != "temporary"],
            [each for each in affected if each.spec.restart == "temporary"],
            delay,
        )
        return "wait"

    def _plan(self, stop: list[Child], start: list[Child], forget: list[Child], delay: float) -> None:
        # A newer restart takes the place of those that wait for their time.
        self.later = [plan for plan in self.later if not set(plan.start) & set(start)]
        self.to_do.append(Plan(stop, start, forget, self.world.now + delay))

    def _is_leaving(self, child: Child) -> bool:
        plans = (plan.stop for plan in self.to_do if isinstance(plan, Plan))
        return child in self.leaving or any(child in stop for stop in plans)

    def _was_dismissed(self, child: Child) -> bool:
        # Unlike OTP a transient child that somebody asked to stop is forgotten however that ended.
        return child.dismissed and child.spec.restart == "transient"

    def _comes_back(self, child: Child, exit: Exit) -> bool:
        if child.spec.restart == "permanent":
            return True
        if child.spec.restart == "temporary" or self._was_dismissed(child):
            return False
        return exit.kind in ("crashed", "killed")

    def _next_delay(self, child: Child) -> float:
        """OTP has no backoff; see `Backoff`. A quiet time is counted from when the last restart was due.

        An incarnation that never was ready has not had one.
        """
        backoff = child.spec.backoff
        if backoff is None:
            return 0.0
        if child.ready and self.world.now - child.resumed >= backoff.reset:
            child.attempts = 0
        delay = min(backoff.maximum, backoff.minimum * backoff.factor**child.attempts)
        child.attempts += 1
        child.resumed = self.world.now + delay
        return delay

    def _lose(self, child: Child) -> None:
        """A child has ended of its own accord, or because somebody else wanted that. Does it take the rest with it?"""
        if not child.spec.significant or not child.was_ready or self.takes_no_more:
            return
        others = any(each.spec.significant for each in self.children)
        if self.group.auto_shutdown == "any_significant" or not others:
            if self.ready:
                self.stand_down()
            else:
                self.lost_significant = True  # the others are started first, as OTP does

    def _forget(self, child: Child, exit: Exit) -> None:
        self.children.remove(child)
        child.end(exit)

    def child_dismissed(self, child: Child) -> None:
        """A transient child that is down is not wanted back."""
        self._forget(child, Exit("shutdown"))
        self._lose(child)

    # what others ask of it

    def find(self, id: str) -> Child | None:
        """The child with this id."""
        return next((child for child in self.children if child.spec.id == id), None)

    def start_child(self, spec: Spec) -> Request:
        """``supervisor:start_child``."""
        request = Request("start", spec)
        self._ask(request)
        return request

    def stop_child(self, id: str) -> Request:
        """``supervisor:terminate_child``, and ``delete_child`` after it."""
        request = Request("stop", id=id)
        self._ask(request)
        return request

    def _ask(self, request: Request) -> None:
        if self.process is None or self.takes_no_more:
            request.answer = "SystemClosed"
        elif request.what == "start" and not self.busy:
            self._launch_wanted(request)
        else:
            self.to_do.append(request)

    def snapshot(self) -> Snapshot:
        """How it stands, and its children."""
        children = self.children
        families = sum(isinstance(child, Family) for child in children)
        count = Count(len(children), sum(not child.is_down for child in children), families, len(children) - families)
        left = None if self.is_down else self.restarts_counted.left(self.world.now)
        return Snapshot(
            self.path, self.state, self.restarts, tuple(child.snapshot() for child in children), count, left
        )
