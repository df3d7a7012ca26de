"""Structured concurrency: scenarios 45 to 51, for actors and for runs, and a whole tree interrupted at every step."""

from __future__ import annotations

import asyncio
import gc
import math
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint

from greenroom import Agent, Run, System
from greenroom.actors import (
    ActorDied,
    ActorEnded,
    ActorRef,
    ActorSystem,
    Backoff,
    ChildSpec,
    Context,
    RestartLimit,
    StartFailed,
    Supervisor,
    SupervisorRef,
    SystemClosed,
)
from greenroom.agents.events import TERMINAL
from greenroom.providers import Message, ModelRequest, Scripted, ToolResult, call
from greenroom.testing import Interruption, Probe, explore, interrupt_everywhere, run

from ..cast import Boom, child, hang, kind
from .cast import TICK, Moments, Troupe, Way, each_cancellation, rest, some, staged

each_backend = pytest.mark.parametrize("loop", ["asyncio", "trio"])


async def sleep_forever() -> str:
    """Wait for ever."""
    await anyio.sleep(math.inf)
    return "never"


def results_of(messages: tuple[Message, ...]) -> list[ToolResult]:
    """All results of tools, each with its call."""
    asked = [call.id for message in messages for call in message.tool_calls]
    results = [result for message in messages for result in message.tool_results]
    assert asked == [result.call_id for result in results]
    return results


# -- no orphan


def tasks_of_the_loop(loop: str) -> set[Any]:
    """All tasks there are, in the backend's own words."""
    if loop == "asyncio":
        return set(asyncio.all_tasks())
    root = trio.lowlevel.current_root_task()
    found: set[Any] = set()
    queue: list[Any] = [root]
    while queue:
        task = queue.pop()
        found.add(task)
        queue.extend(each for nursery in task.child_nurseries for each in nursery.child_tasks)
    return found


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("end", ["leave", "raise", "cancel", "give up", "kill all"])
def test_no_orphan_task(seeds: range, loop: str, end: str) -> None:
    """Scenario 45: whatever ends a System with actors, timers, runs, tools and a subagent, no task of it is left."""

    async def scenario() -> None:
        troupe = Troupe()
        before = tasks_of_the_loop(loop)
        expert = Agent("expert", Scripted([call("sleep_forever")]), tools=[sleep_forever])
        agent = Agent(
            "boss", Scripted([call("sleep_forever"), call("expert", prompt="?")]), tools=[sleep_forever, expert]
        )
        outcome: BaseException | None = None
        try:
            with anyio.CancelScope() as scope:
                async with System(intensity=0) as system:
                    inner = ChildSpec("inner", Supervisor(troupe.parts("bc"), strategy="one_for_all"))
                    group = Supervisor([troupe.part("a"), inner])
                    restart = "transient" if end == "give up" else "temporary"
                    top = await system.spawn(group, name="top", restart=restart)
                    system.send_after(100, child(top, "a"), "late")
                    await system.start(agent, "Go")
                    await rest()
                    assert len(tasks_of_the_loop(loop) - before) >= 9
                    if end == "raise":
                        raise Boom("of the block")
                    if end == "cancel":
                        scope.cancel()
                    if end == "give up":
                        for _ in range(4):
                            child(top, "a").tell_nowait(Boom())
                        await sleep_forever()
                    if end == "kill all":
                        for ref in (child(child(top, "inner"), "b"), child(top, "inner"), child(top, "a"), top):
                            ref.kill()
        except (Boom, RestartLimit) as error:
            outcome = error
        assert tasks_of_the_loop(loop) == before
        assert type(outcome) is {"raise": Boom}.get(end, type(None)) or (
            end == "give up" and isinstance(outcome, RestartLimit)
        )

    explore(scenario, seeds=some(seeds, 5), backends=(loop,))


# -- scopes


def assert_scopes_work(loop: str) -> None:
    """No scope of somebody else is open around the caller."""
    assert anyio.current_effective_deadline() == math.inf
    if loop == "asyncio":
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


def respond(runs: list[Run[str]]) -> AsyncIterator[str]:
    """A stream inside of an async generator, as a web framework has it; it never comes to its end."""
    model = Scripted(["a text of several pieces", call("sleep_forever")])

    async def pieces() -> AsyncIterator[str]:
        async with Agent("helper", model, tools=[sleep_forever]).stream("Go") as its_run:
            runs.append(its_run)
            async for piece in its_run.text():
                yield piece

    return pieces()


@each_backend
def test_a_half_read_stream_closed_from_another_task(seeds: range, loop: str) -> None:
    """Scenario 46: the run is stopped, nothing is left entered, and the caller's own scopes still work."""

    async def scenario() -> None:
        runs: list[Run[str]] = []
        generator: Any = respond(runs)

        async def take() -> None:
            with anyio.CancelScope():
                assert await anext(generator) == "a text o"
            assert_scopes_work(loop)

        async with System():
            for task in (take, generator.aclose):
                async with anyio.create_task_group() as group:
                    group.start_soon(task)
            assert (await runs[0].result()).reason == "abandoned"
            assert_scopes_work(loop)
            with anyio.move_on_after(1) as scope:
                await sleep_forever()
            assert scope.cancelled_caught

    explore(scenario, seeds=seeds, backends=(loop,))


@each_backend
@pytest.mark.filterwarnings("ignore:Async generator.*was garbage collected:ResourceWarning")
def test_a_half_read_stream_that_is_garbage(loop: str) -> None:
    """Scenario 46: collected in the middle, also in another scope than it was begun in. trio warns its user."""

    async def scenario() -> None:
        runs: list[Run[str]] = []
        async with System():
            generator: Any = respond(runs)
            with anyio.move_on_after(1):
                assert await anext(generator) == "a text o"
            with anyio.CancelScope() as other:
                del generator
                gc.collect()
                assert (await runs[0].result()).reason == "abandoned"
                assert not other.cancel_called
            assert_scopes_work(loop)
            with anyio.move_on_after(0.001) as scope:
                await sleep_forever()
            assert scope.cancelled_caught

    anyio.run(scenario, backend=loop)


def test_half_read_readers_hold_no_scope(seeds: range) -> None:
    """Scenario 46: readers of text and of events, left in the middle of a scope, dropped or read on in another."""

    async def scenario() -> None:
        async with System() as system:
            its_run = await system.start(Agent("helper", Scripted("a text of several pieces")), "Go")
            with anyio.move_on_after(5) as scope:
                text, happened = its_run.text(), its_run.events()
                assert await anext(text) == "a text o"
                assert (await anext(happened)).type == "run.started"
            assert not scope.cancel_called
            del text
            with anyio.move_on_after(1) as scope:
                await anext(happened)
                await sleep_forever()
            assert scope.cancelled_caught
            assert anyio.current_effective_deadline() == math.inf
            assert (await its_run.result()).output == "a text of several pieces"

    explore(scenario, seeds=seeds)


# -- the caller's timeout


async def run_it(agent: Agent[Any, Any]) -> None:
    """Run it."""
    await agent.run("Go")


async def stream_it(agent: Agent[Any, Any]) -> None:
    """Read it to its end."""
    async with agent.stream("Go") as its_run:
        async for _ in its_run.text():
            pass
        await its_run.result()


async def map_it(agent: Agent[Any, Any]) -> None:
    """Run it several times."""
    await agent.map(["Go", "Go"])


CALLS: dict[str, Callable[[Agent[Any, Any]], Awaitable[None]]] = {"run": run_it, "stream": stream_it, "map": map_it}


async def by_move_on_after(what: Awaitable[None]) -> None:
    """A scope that swallows."""
    with anyio.move_on_after(2) as scope:
        await what
    assert scope.cancelled_caught


async def by_fail_after(what: Awaitable[None]) -> None:
    """A scope that raises."""
    with pytest.raises(TimeoutError) as caught:
        with anyio.fail_after(2):
            await what
    assert type(caught.value) is TimeoutError


async def by_asyncio_timeout(what: Awaitable[None]) -> None:
    """asyncio's own block."""
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(2):
            await what
    assert type(caught.value) is TimeoutError


async def by_wait_for(what: Awaitable[None]) -> None:
    """asyncio's own function."""
    with pytest.raises(TimeoutError) as caught:
        await asyncio.wait_for(what, 2)
    assert type(caught.value) is TimeoutError


TIMEOUTS: list[tuple[str, Callable[[Awaitable[None]], Awaitable[None]]]] = [
    ("asyncio", by_move_on_after),
    ("asyncio", by_fail_after),
    ("asyncio", by_asyncio_timeout),
    ("asyncio", by_wait_for),
    ("trio", by_move_on_after),
    ("trio", by_fail_after),
]
each_timeout = pytest.mark.parametrize(("loop", "timeout"), TIMEOUTS, ids=[f"{f.__name__}-{b}" for b, f in TIMEOUTS])


@each_timeout
@pytest.mark.parametrize("how", CALLS)
def test_the_callers_timeout_around_a_run(
    seeds: range, loop: str, timeout: Callable[[Awaitable[None]], Awaitable[None]], how: str
) -> None:
    """Scenario 47: it ends the run to the instant, is caught by that scope, and is not turned into an error of ours.

    While the model answers and while a tool runs; inside and outside of a System.
    """

    async def scenario() -> None:
        async def attempt(where: str) -> None:
            ends: list[str] = []

            async def work() -> str:
                """Work."""
                try:
                    return await sleep_forever()
                finally:
                    ends.append("tool")

            async def answer(_request: ModelRequest) -> str:
                try:
                    return await sleep_forever()
                finally:
                    ends.append("model")

            script = Scripted(answer, answer) if where == "model" else Scripted([call("work")], [call("work")])
            heard: list[Any] = []
            agent = Agent("helper", script, tools=[work], hooks={"on_run_end": heard.append})
            clock = Moments()
            await timeout(CALLS[how](agent))
            assert clock.now == 2
            assert_scopes_work(loop)
            await rest()  # inside a System a stream only asks for the end of its run
            assert ends == [where] * (2 if how == "map" else 1)
            assert [event.type for event in heard] == ["run.stopped"] * len(ends)

        for where in ("model", "tool"):
            await attempt(where)
        async with System():
            await attempt("model")
            await attempt("tool")

    explore(scenario, seeds=some(seeds, 9), backends=(loop,))


@each_timeout
def test_the_callers_timeout_around_an_ask(
    seeds: range, loop: str, timeout: Callable[[Awaitable[None]], Awaitable[None]]
) -> None:
    """Scenario 47: ends the asking, not the actor; and around a start, a stop and the wait for an end."""

    async def scenario() -> None:
        async with ActorSystem() as system:
            troupe = Troupe()
            ref = await system.spawn(troupe.part("a").start, name="a")
            starting = partial(system.spawn, troupe.part("b", beginning=hang).start, name="b")

            async def stopping() -> None:
                await ref.stop()

            for attempt in (partial(ref.ask, hang), starting, ref.wait, stopping, ref.monitor().wait):
                clock = Moments()
                await timeout(attempt())
                assert clock.now == 2
                assert_scopes_work(loop)
                assert ref.alive
            assert system.actor("b") is None
            ref.kill()

    explore(scenario, seeds=some(seeds, 3), backends=(loop,))


@each_timeout
def test_the_callers_timeout_around_a_system(
    seeds: range, loop: str, timeout: Callable[[Awaitable[None]], Awaitable[None]]
) -> None:
    """Scenario 47: everything in the block ends, and the scope has its cancellation back."""

    async def scenario() -> None:
        troupe = Troupe()

        async def block() -> None:
            async with staged(troupe, troupe.parts("ab"), "one_for_all"):
                await sleep_forever()

        await timeout(block())
        assert_scopes_work(loop)
        assert not troupe.running()
        assert sorted(troupe.lines) == ["a gone", "a stops", "b gone", "b stops"]

    explore(scenario, seeds=some(seeds, 3), backends=(loop,))


# -- swallowing


async def swallow_once() -> str:
    """Make nothing of it."""
    try:
        await anyio.sleep(math.inf)
    except BaseException:
        return "fine"
    return "never"


async def swallow_and_fail() -> str:
    """Make an error of it."""
    try:
        await anyio.sleep(math.inf)
    except BaseException:
        raise Boom("because of that") from None
    return "never"


async def swallow_and_go_on() -> str:
    """Make nothing of it, three times, and then go on for a while."""
    for _ in range(3):
        try:
            await anyio.sleep(1000)
        except anyio.get_cancelled_exc_class():
            continue
    try:
        await checkpoint()
    except BaseException:
        pass
    return "fine"


SWALLOWERS = [swallow_once, swallow_and_fail, swallow_and_go_on]
each_swallower = pytest.mark.parametrize("swallow", SWALLOWERS, ids=[each.__name__ for each in SWALLOWERS])


@each_swallower
@pytest.mark.parametrize("mode", ["stop", "kill", "close"])
def test_a_tool_that_swallows_a_stop(seeds: range, swallow: Callable[[], Awaitable[str]], mode: str) -> None:
    """Scenario 48: its call is cancelled whatever it returns or raises; the run is stopped; the model is not asked."""

    async def scenario() -> None:
        model = Scripted([call(swallow.__name__)], "success")
        async with System() as system:
            its_run = await system.start(Agent("helper", model, tools=[swallow]), "Go")
            await rest()
            if mode == "stop":
                its_run.stop(reason="enough")
            elif mode == "kill":
                its_run._cell.kill()
            if mode != "close":
                await its_run.result()
        result = await its_run.result()
        assert result.status == "stopped"
        assert result.reason == {"stop": "enough", "kill": "cancelled", "close": "system"}[mode]
        assert [(found.cause, found.is_error) for found in results_of(result.messages)] == [("cancelled", True)]
        assert len(model.requests) == 1

    explore(scenario, seeds=some(seeds, 9))


@each_swallower
def test_a_tool_that_swallows_the_callers_cancellation(seeds: range, swallow: Callable[[], Awaitable[str]]) -> None:
    """Scenario 48: the caller's scope is cancelled all the same, and the run says that it was stopped."""

    async def scenario() -> None:
        heard: list[Any] = []
        model = Scripted([call(swallow.__name__)], "success")
        reached = False
        with anyio.move_on_after(1) as scope:
            await Agent("helper", model, tools=[swallow]).run("Go", on_event=heard.append)
            reached = True
        assert scope.cancelled_caught
        assert not reached
        assert [event.type for event in heard if isinstance(event, TERMINAL)] == ["run.stopped"]
        assert len(model.requests) == 1

    explore(scenario, seeds=some(seeds, 3))


@pytest.mark.parametrize("how", ["kill", "scope", "grace"])
@pytest.mark.parametrize("reply", ["return", "finish", "raise"])
def test_a_handler_that_swallows_its_cancellation(seeds: range, how: str, reply: str) -> None:
    """Scenario 48: an actor that catches it and returns, finishes or fails did not end normally; who asked is told."""

    async def swallow(context: Context) -> str:
        try:
            await anyio.sleep(math.inf)
        except BaseException:
            if reply == "raise":
                raise Boom("because of that") from None
            if reply == "finish":
                context.stop()
        return "fine"

    async def scenario() -> None:
        troupe = Troupe()
        asked: list[Any] = []

        async def ask(ref: ActorRef[Any]) -> None:
            try:
                asked.append(await ref.ask(swallow))
            except ActorEnded as error:
                asked.append(error)

        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                async with staged(troupe, [troupe.part("a", "temporary", shutdown=1)]) as top:
                    a = child(top, "a")
                    group.start_soon(ask, a)
                    await rest()
                    if how == "kill":
                        a.kill()
                    elif how == "scope":
                        scope.cancel()
                    else:
                        await top.stop()
                    await rest()
        assert kind(a) == ("crashed" if reply == "raise" else "killed")
        assert scope.cancelled_caught is (how == "scope")
        # The handler was at its end: what it answered was an answer.
        assert asked == ["fine"] if reply != "raise" else isinstance(asked[0], ActorDied)

    explore(scenario, seeds=some(seeds, 9))


# -- causes


def test_three_parallel_tools_fail(seeds: range) -> None:
    """Scenario 49: each failure is known with its tool, its call and its cause; a sibling's result is kept.

    There is no group: the design makes of each failure a result that the model reads, and the run goes on.
    """

    async def scenario() -> None:
        async def first() -> str:
            """First."""
            raise ValueError("one")

        async def second() -> str:
            """Second."""
            await checkpoint()
            raise KeyError("two")

        async def third() -> str:
            """Third."""
            await anyio.sleep(1)
            raise Boom("three")

        async def fine() -> str:
            """Fine."""
            await anyio.sleep(2)
            return "fine"

        heard: list[Any] = []
        names = ["first", "second", "third", "fine"]
        model = Scripted([call(name) for name in names], "done")
        agent = Agent("helper", model, tools=[first, second, third, fine])
        result = await agent.run("Go", on_event=heard.append)
        assert result.output == "done"
        found = results_of(result.messages)
        assert [(each.call_id, each.name, each.content, each.cause) for each in found] == [
            ("call_1", "first", "ValueError: one", "failed"),
            ("call_2", "second", "KeyError: 'two'", "failed"),
            ("call_3", "third", "Boom: three", "failed"),
            ("call_4", "fine", "fine", None),
        ]
        errored = [(event.call_id, event.tool, event.cause) for event in heard if event.type == "tool.failed"]
        assert sorted(errored) == [(f"call_{n}", name, "failed") for n, name in enumerate(names[:3], 1)]
        assert errored[-1][0] == "call_3"

    explore(scenario, seeds=seeds)


def test_a_single_failure_is_not_wrapped(seeds: range) -> None:
    """Scenario 49: what a block, a run or an actor raises is itself wherever somebody waits for it, in no group."""

    async def scenario() -> None:
        boom = Boom("bare")

        def refuse(_context: Any) -> str:
            raise boom

        with pytest.raises(Boom) as caught:
            async with System() as system:
                ref = await system.spawn(Troupe().part("a").start, restart="temporary")
                with pytest.raises(ActorDied) as died:
                    await ref.ask(boom)
                assert died.value.__cause__ is boom
                with pytest.raises(StartFailed) as failed:
                    await system.spawn(Troupe().part("b", beginning=refuse).start)
                assert failed.value.__cause__ is boom
                with pytest.raises(RestartLimit) as limit:
                    await Agent("helper", Scripted("x"), instructions=refuse).run("Go")
                assert limit.value.__cause__ is boom
                raise boom
        assert caught.value is boom

    explore(scenario, seeds=seeds)


async def quit_by_tool(error: type[BaseException]) -> None:
    """Three tools, one of which wants to end the process."""

    async def leave() -> str:
        """Leave."""
        await checkpoint()
        raise error

    agent = Agent("helper", Scripted([call("sleep_forever"), call("leave"), call("sleep_forever")]))
    await agent.with_(tools=[leave, sleep_forever]).run("Go")


async def quit_by_actor(error: type[BaseException]) -> None:
    """An actor that wants to end the process."""
    troupe = Troupe()
    async with staged(troupe, troupe.parts("abc"), "one_for_all") as top:
        child(top, "b").tell_nowait(error())
        await sleep_forever()


@each_backend
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("quit", [quit_by_tool, quit_by_actor])
def test_what_must_end_the_process_passes(
    loop: str, error: type[BaseException], quit: Callable[[type[BaseException]], Awaitable[None]]
) -> None:
    """Scenario 49: it is no failure of a tool or an actor, and leaves bare."""
    with pytest.raises(error) as caught:
        run(quit, error, backend=loop)
    assert type(caught.value) is error


# -- context variables

variable: ContextVar[str] = ContextVar("variable", default="unset")


def test_context_variables_of_runs(seeds: range) -> None:
    """Scenario 50: tools see the context of their run, in the loop and in threads; what they set stays theirs."""

    async def scenario() -> None:
        async def one(name: str) -> None:
            seen: list[tuple[str, str]] = []

            async def in_loop() -> str:
                """In the loop."""
                seen.append(("loop", variable.get()))
                variable.set("changed in the loop")
                await checkpoint()
                assert variable.get() == "changed in the loop"
                return "x"

            def in_thread() -> str:
                """In a thread."""
                seen.append(("thread" if threading.current_thread() is not main else "?", variable.get()))
                variable.set("changed in a thread")
                return "x"

            variable.set(name)
            script = Scripted([call("in_loop"), call("in_thread"), call("in_loop")], [call("in_loop")], "ok")
            await Agent("helper", script, tools=[in_loop, in_thread]).run("Go")
            assert sorted(seen) == [*[("loop", name)] * 3, ("thread", name)]
            assert variable.get() == name

        main = threading.current_thread()
        async with anyio.create_task_group() as group:
            for name in ("mine", "yours"):
                group.start_soon(one, name)
        assert variable.get() == "unset"

    explore(scenario, seeds=some(seeds, 20))


def test_context_variables_of_actors(seeds: range) -> None:
    """Scenario 50: what an actor sets is its incarnation's own; neither siblings nor the next one after it see it.

    Actors live in the context in which their system was opened, whoever spawns them or talks to them.
    """

    async def scenario() -> None:
        def put(value: str) -> Callable[[Context], object]:
            return lambda _context: variable.set(value)

        def get(_context: Context) -> str:
            return variable.get()

        variable.set("opened")
        troupe = Troupe()
        async with staged(troupe, troupe.parts("ab"), "one_for_all") as top:
            variable.set("later")
            late = await top.start_child(troupe.part("late"))
            a, b = child(top, "a"), child(top, "b")
            assert [await ref.ask(get) for ref in (a, b, late)] == ["opened"] * 3
            await a.ask(put("changed"))
            assert [await ref.ask(get) for ref in (a, b, late)] == ["changed", "opened", "opened"]
            b.tell_nowait(Boom())
            await rest()
            assert [await ref.ask(get) for ref in (a, b, late)] == ["opened"] * 3
            assert variable.get() == "later"

    explore(scenario, seeds=some(seeds, 4))


# -- cleanup


@pytest.mark.parametrize("how", ["kill", "scope"])
def test_level_cancellation_in_cleanup(seeds: range, how: str) -> None:
    """Scenario 51: an unshielded await in `finally` is cancelled again, each time; a shielded one is not.

    Cancelled from outside, `stopping` is shielded for as long as its actor has to stop. After a kill it does not run.
    """

    async def scenario() -> None:
        notes: list[str] = []
        clock = Moments()

        async def work(_context: Context) -> None:
            try:
                await anyio.sleep(math.inf)
            finally:
                for _ in range(2):
                    try:
                        await anyio.sleep(1)
                        notes.append("slept")
                    except anyio.get_cancelled_exc_class():
                        notes.append("again")
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(1)
                    notes.append(f"shielded until {clock.now - TICK}")

        async def clean_up(_context: Context) -> None:
            await anyio.sleep(1)
            notes.append("cleaned up")
            await anyio.sleep(math.inf)

        troupe = Troupe()
        with anyio.CancelScope() as scope:
            async with staged(troupe, [troupe.part("a", "temporary", shutdown=3, ending=clean_up)]) as top:
                a = child(top, "a")
                a.tell_nowait(work)
                clock = Moments()
                await rest()
                if how == "kill":
                    a.kill()
                    await a.wait()
                else:
                    scope.cancel()
        assert notes[:3] == ["again", "again", "shielded until 1.0"]
        assert notes[3:] == (["cleaned up"] if how == "scope" else [])
        assert clock.now - TICK == (1 if how == "kill" else 4)
        assert kind(a) == "killed"

    explore(scenario, seeds=some(seeds, 2))


# -- a whole tree, interrupted at every step


class Tree:
    """Supervisors of all strategies, three deep, in which everything happens at once.

    ::

        top   one_for_one   a (a timer), mid, x (in `stopping`), new (in `started`)
        mid   rest_for_one  b, c (linked), low, f (crashes once: it is restarted)
        low   one_for_all   d (waits for its backoff), e (is removed)

    Around it somebody asks b, somebody waits for the end of each, and a probe in a system of its own watches all.
    """

    LEAVES = "abcxdef"

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.troupe = Troupe()
        self.refs: dict[str, ActorRef[Any]] = {}
        #: What those who wait for something got.
        self.answers: dict[str, Any] = {}
        self.asked = 0
        self.ready = anyio.Event()
        self.leave = anyio.Event()
        #: Whether the interruption came while it could, and how many lines there were then.
        self.cut = False
        self.mark = 0
        self._over = False

    def description(self) -> Supervisor:
        """What is started."""
        troupe = self.troupe
        beside: list[ActorRef[Any]] = []

        def part(id: str, beginning: Callable[[Context], Any] | None = None, **options: Any) -> ChildSpec:
            return troupe.part(id, beginning=beginning, ending=_linger, **options)

        def link(context: Context) -> None:
            context.link(beside[-1])

        def remember(context: Context) -> None:
            beside.append(context.ref)

        def set_timers(context: Context) -> None:
            for delay in (0.25, 0.5, 60):
                context.send_after(delay, "tick")

        low = Supervisor([part("d", backoff=Backoff(1, jitter=0)), part("e")], strategy="one_for_all")
        mid = Supervisor(
            [part("b", remember), part("c", link), ChildSpec("low", low, restart="permanent"), part("f")],
            strategy="rest_for_one",
        )
        return Supervisor(
            [part("a", set_timers), ChildSpec("mid", mid, restart="permanent"), part("x", restart="transient")]
        )

    async def play(self) -> None:
        """Live, until told to leave."""
        try:
            async with ActorSystem(intensity=0) as system:
                top = await system.spawn(self.description(), name="top", restart="temporary")
                mid = child(top, "mid")
                low = child(mid, "low")
                self.refs.update({"top": top, "mid": mid, "low": low})
                for supervisor, ids in ((top, "ax"), (mid, "bcf"), (low, "de")):
                    self.refs.update({id: child(supervisor, id) for id in ids})
                for ref in self.refs.values():
                    self.probe.watch(ref)
                await rest()
                self.troupe.take()
                self.ready.set()
                await self.leave.wait()
                self._over = True
        except anyio.get_cancelled_exc_class():
            self.note()
            raise

    async def answer(self, name: str, asking: Callable[[], Awaitable[Any]]) -> None:
        """Have somebody wait for something, and note what it got."""
        self.asked += 1
        try:
            self.answers[name] = await asking()
        except Exception as error:
            self.answers[name] = error

    def disturb(self, act: Callable[[], object]) -> None:
        """What the interruption does, unless the play is over anyway."""
        if not self._over:
            self.cut = True
            self.note()
            act()

    def note(self) -> None:
        """What has happened so far is before the end."""
        self.mark = len(self.troupe.lines)

    async def act(self, group: anyio.abc.TaskGroup) -> None:
        """Have everything happen at once."""
        refs = self.refs
        top, low = refs["top"], refs["low"]
        assert isinstance(top, SupervisorRef)
        assert isinstance(low, SupervisorRef)
        refs["f"].tell_nowait(Boom())
        refs["d"].tell_nowait(Boom())
        refs["x"].stop()
        doings: dict[str, Callable[[], Awaitable[Any]]] = {
            "start": partial(top.start_child, self.troupe.part("new", beginning=_linger, ending=_linger)),
            "remove": partial(low.stop_child, "e"),
            "ask": partial(refs["b"].ask, _work),
            "stop": partial(_down, refs["x"]),
            **{f"end of {id}": ref.wait for id, ref in refs.items()},
            **{f"down of {id}": ref.monitor().wait for id, ref in refs.items()},
        }
        for name, doing in doings.items():
            group.start_soon(self.answer, name, doing)

    # -- what must be true afterwards

    async def check(self, system: ActorSystem) -> None:
        """Everybody who waited has an answer, each has ended once, each incarnation was cleaned up at most once."""
        assert len(self.answers) == self.asked
        answers = self.answers
        if self.asked:
            self.check_answers(answers)
        await rest()
        downs = [down.ref.name for down in self.probe.downs]
        assert sorted(downs) == sorted(ref.name for ref in self.refs.values())
        assert not self.troupe.running()
        for made in self.troupe.made.values():
            assert all(member.cleanups <= 1 for member in made)
        for id in (*self.LEAVES, "new"):
            words = [line.partition(" ")[2] for line in self.troupe.lines if line.startswith(f"{id} ")]
            life = "".join(_LETTERS[word] for word in words)
            # It is taken up where all were ready. A killed one has no cleanup, or one that was cut short.
            assert re.fullmatch("(PG?)?(S(R?PG?|R?))*", life), (id, life)

    def check_answers(self, answers: dict[str, Any]) -> None:
        """Each is an answer that the question can have."""
        start = answers["start"]
        assert isinstance(start, ActorRef | SystemClosed | StartFailed), start
        if isinstance(start, ActorRef):
            assert not start.alive
        assert answers["remove"] in (True, False) or isinstance(answers["remove"], SystemClosed)
        assert answers["ask"] == "worked" or isinstance(answers["ask"], ActorEnded)
        assert answers["stop"] is None
        for id, ref in self.refs.items():
            assert answers[f"end of {id}"] == ref.exit
            assert (answers[f"down of {id}"].ref, answers[f"down of {id}"].exit) == (ref, ref.exit)

    def check_order(self) -> None:
        """In an orderly stop those who do nothing of their own go from right to left, and nobody starts after it."""
        after = self.troupe.lines[self.mark :]
        started = [line for line in after if line.endswith("starts")]
        assert len(started) <= 2, after  # those who had been started, but had not run yet: f, and new
        moments = {line: moment for moment, line in enumerate(after)}
        for left, right in ("ab", "bc", "ac"):
            assert moments[f"{right} stops"] < moments[f"{right} gone"] < moments[f"{left} stops"], after


_LETTERS = {"starts": "S", "ready": "R", "stops": "P", "gone": "G"}


async def _linger(_context: Context) -> None:
    await checkpoint()
    await checkpoint()


async def _work(_context: Context) -> str:
    await anyio.sleep(0.75)
    return "worked"


async def _down(ref: ActorRef[Any]) -> None:
    await ref.stop()


async def watched(interruption: Interruption, way: Way | None, disturb: Callable[[Tree], object] | None) -> Tree:
    """A tree in a task that can be cancelled, disturbed as the interruption has it."""
    async with ActorSystem() as outside:
        tree = Tree(await Probe.spawn(outside))
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()
            task: asyncio.Task[None] | None = None

            async def play() -> None:
                with scope:
                    await tree.play()

            if way in (None, "scope"):
                group.start_soon(play)
            else:
                task = asyncio.create_task(play())
            await tree.ready.wait()

            def cancel() -> None:
                if task is None:
                    scope.cancel()
                    return
                task.cancel()
                if way == "twice":
                    asyncio.get_running_loop().call_soon(task.cancel)

            interruption.arm(partial(tree.disturb, partial(disturb, tree) if disturb is not None else cancel))
            await tree.act(group)
            await anyio.sleep(2)
            tree.leave.set()
            if task is not None:
                await asyncio.wait([task])
                assert task.cancelled() is tree.cut
        await tree.check(outside)
        if way is not None:
            assert kind(tree.refs["top"]) == ("killed" if tree.cut else "shutdown")
        return tree


@each_cancellation
def test_a_tree_that_is_cancelled_at_every_step(seeds: range, loop: str, way: Way) -> None:
    """Scenarios 45, 22: by a scope, by asyncio once and twice. Nothing is left, and nobody waits in vain."""

    async def scenario(interruption: Interruption) -> None:
        await watched(interruption, way, None)

    assert interrupt_everywhere(scenario, backend=loop, seed=1, limit=max(10, len(seeds) // 8)) > 9


ENDS: dict[str, Callable[[Tree], object]] = {
    "leave": lambda tree: tree.leave.set(),
    **{f"stop {level}": lambda tree, level=level: tree.refs[level].stop() for level in ("top", "mid", "low")},
    **{f"kill {level}": lambda tree, level=level: tree.refs[level].kill() for level in ("top", "mid", "low")},
}


@each_backend
@pytest.mark.parametrize("end", ENDS)
def test_a_tree_that_is_ended_at_every_step(seeds: range, loop: str, end: str) -> None:
    """Scenarios 36, 38, 45: the block left, and each level stopped or killed. What is stopped stops in order."""

    async def scenario(interruption: Interruption) -> None:
        tree = await watched(interruption, None, ENDS[end])
        if end in ("leave", "stop top") and tree.cut:
            tree.check_order()

    assert interrupt_everywhere(scenario, backend=loop, seed=1, limit=max(10, len(seeds) // 8)) > 9
