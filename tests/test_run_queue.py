"""How many runs are at work, how many may wait, and in which order their turns come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom import (
    Agent,
    MemoryJournal,
    NameTaken,
    RunContext,
    RunExists,
    SqliteJournal,
    System,
    SystemBusy,
    SystemClosed,
    SystemDraining,
    tool,
    wait_all,
)
from greenroom.agents.run_queue import RunQueue
from greenroom.journal import JournalError
from greenroom.testing import Interruption, interrupt_everywhere
from greenroom.testing import run as play

from .crashes.memory import Lines, RecordingJournal, virtual

each_backend = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def worker(seconds: float = 1.0, *lines: Any, **options: Any) -> Agent[Any, Any]:
    """An agent that takes its time."""
    return Agent("worker", Lines(*(lines or ("done",)), seconds=seconds), **options)


def counts(system: System) -> tuple[int, int]:
    """Runs that were let in, and places that are free."""
    queue = system.stage.queue
    assert queue is not None
    return queue._booked, queue._free


# -- refusing


@each_backend
def test_one_more_is_refused(backend: str) -> None:
    """However it is asked for, before anything is written; and as soon as one has ended there is room again."""

    async def scenario() -> None:
        journal = MemoryJournal(keep=True)
        async with System(journal=journal, max_running=1, max_queued=2, sources=virtual()) as system:
            agent = worker()
            first = await system.start(agent, "Go")
            waiting = [await system.start(agent, "Go") for _ in range(2)]
            before = len(await journal.runs())
            asks: list[Callable[[], Any]] = [
                lambda: system.start(agent, "Go"),
                lambda: agent.run("Go"),
                lambda: system.conversation(agent, "c1").ask("Go"),
                lambda: agent.run("Go", conversation_id="c1"),
                lambda: agent.stream("Go").__aenter__(),
            ]
            for ask in asks:
                with pytest.raises(SystemBusy) as caught:
                    await ask()
                assert (caught.value.max_running, caught.value.max_queued) == (1, 2)
                assert "max_running=1" in str(caught.value) or "1" in str(caught.value)
            assert len(await journal.runs()) == before
            await first.result()
            again = await system.start(agent, "Go")  # at once: its end counts when it can be seen
            await wait_all(again, *waiting)
            assert counts(system) == (0, 1)

    play(scenario, backend=backend)


@each_backend
def test_no_queue_at_all(backend: str) -> None:
    """`max_queued=0`: as many as work, and nobody waits."""

    async def scenario() -> None:
        async with System(max_running=2, max_queued=0) as system:
            runs = [await system.start(worker(), "Go") for _ in range(2)]
            with pytest.raises(SystemBusy):
                await system.start(worker(), "Go")
            await wait_all(*runs)
            await worker().run("Go")

    play(scenario, backend=backend)


@each_backend
def test_bad_arguments(backend: str) -> None:
    """One clear line each."""
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"max_running": 0}, ValueError, "max_running must be at least 1, not 0"),
        ({"max_running": "1"}, TypeError, "max_running takes a whole number, not '1'"),
        ({"max_queued": -1}, ValueError, "max_queued must be at least 0, not -1"),
        ({"max_queued": True}, TypeError, "max_queued takes a whole number, not True"),
        ({"fair": 1}, TypeError, "fair= takes True or False, not 1"),
        ({"require": "user_id"}, TypeError, "require= takes a list of 'user_id', 'conversation_id', not 'user_id'"),
        ({"require": ["deps"]}, ValueError, "require= takes 'user_id', 'conversation_id', not 'deps'"),
        ({"on_event": 3}, TypeError, "on_event= takes a function of one event, or a list of them, not 3"),
        ({"on_event": [print, None]}, TypeError, "on_event= takes a function"),
        ({"on_event": "print"}, TypeError, "on_event= takes a function"),
    ]
    for options, kind, text in wrong:
        with pytest.raises(kind) as caught:
            System(**options)
        assert str(caught.value).startswith(text)
    assert backend


@each_backend
def test_failures_to_start_do_not_count(backend: str) -> None:
    """A name that is taken, a journal that refuses, a cancellation, a drain: what did not begin is not counted."""

    async def scenario() -> None:
        journal = Refusing()
        async with System(journal=journal, max_running=5, sources=virtual(), require=("user_id",)) as system:
            run = await system.start(worker(), "Go", run_id="r", user_id="u")
            with pytest.raises((NameTaken, RunExists)):
                await system.start(worker(), "Go", run_id="r", user_id="u")
            with pytest.raises(ValueError, match="this System requires user_id=, and the run has none"):
                await system.start(worker(), "Go")
            with pytest.raises(ValueError, match="user_id"):
                await worker().run("Go")
            journal.refuses = True
            with pytest.raises(JournalError):
                await system.start(worker(), "Go", user_id="u")
            with pytest.raises(JournalError):
                await system.conversation(worker(), "c", user_id="u").ask("Go")
            journal.refuses = False
            with anyio.CancelScope() as scope:
                scope.cancel()
                await system.start(worker(), "Go", user_id="u")
            with anyio.CancelScope() as scope:
                scope.cancel()
                await worker().run("Go", user_id="u")
            await anyio.sleep(0)
            assert counts(system)[0] == 1
            await run.result()
            assert counts(system) == (0, 5)
            await system.drain()
            with pytest.raises(SystemDraining):
                await system.start(worker(), "Go", user_id="u")
            assert counts(system) == (0, 5)
        with pytest.raises(SystemClosed):
            await system.start(worker(), "Go", user_id="u")

    play(scenario, backend=backend)


class Refusing(MemoryJournal):
    """A journal that cannot store."""

    __slots__ = ("refuses",)

    def __init__(self) -> None:
        super().__init__(keep=True)
        self.refuses = False

    def create(self, *args: Any, **options: Any) -> Any:
        if self.refuses:
            raise JournalError("no room")
        return super().create(*args, **options)


@each_backend
def test_recovered_runs_are_never_refused(backend: str) -> None:
    """But they are counted: who comes later is refused because of them."""

    async def scenario() -> None:
        journal = RecordingJournal()
        async with System(journal=journal, sources=virtual()) as system:
            for _ in range(3):
                await system.start(worker(), "Go")
            await anyio.sleep(0.5)
            crashed = journal.after(len(journal.written))
        async with System(journal=crashed, max_running=1, max_queued=0, sources=virtual("y")) as system:
            recovery = await system.recover([worker()])
            assert len(recovery) == 3
            assert counts(system)[0] == 3
            with pytest.raises(SystemBusy):
                await system.start(worker(), "Go")
            await wait_all(*recovery)
            assert counts(system) == (0, 1)
            await worker().run("Go")

    play(scenario, backend=backend)


# -- order


@each_backend
@pytest.mark.parametrize("fair", [False, True])
def test_first_come_first_served_or_by_user(backend: str, fair: bool) -> None:
    """One with a thousand runs keeps nobody out where users take turns."""

    async def scenario() -> None:
        order: list[str] = []

        def hear(event: Any) -> None:
            if event.type == "run.completed":
                order.append(event.user_id)

        async with System(max_running=2, fair=fair, sources=virtual(), on_event=hear) as system:
            runs = [await system.start(worker(), "Go", user_id="many") for _ in range(1_000)]
            runs += [await system.start(worker(), "Go", user_id=user) for user in ("one", "two", "one")]
            await wait_all(*runs)
        places = [place for place, user in enumerate(order) if user != "many"]
        if fair:
            assert max(places) < 12
        else:
            assert places == [1_000, 1_001, 1_002]

    play(scenario, backend=backend)


@each_backend
def test_a_stop_in_the_queue(backend: str) -> None:
    """It takes effect at once, and the place goes to the next."""

    async def scenario() -> None:
        async with System(max_running=1, sources=virtual()) as system:
            first, second, third = [await system.start(worker(), "Go") for _ in range(3)]
            result = await second.stop()
            assert anyio.current_time() == 0.0
            assert (result.status, result.new_messages[-1].text) == ("stopped", "Go")
            second._cell.kill()
            await first.result()
            assert (await third.result()).output == "done"
            assert anyio.current_time() == 2.0
            assert counts(system) == (0, 1)

    play(scenario, backend=backend)


@each_backend
def test_subagents_need_no_place(backend: str) -> None:
    """Their run has one: a System with a single place does not wait for itself."""

    async def scenario() -> None:
        async def ask() -> str:
            """Ask."""
            return str((await worker().run("?")).output)

        async with System(max_running=1, max_queued=0) as system:
            result = await worker(0.1, ["ask"], "End", tools=[ask]).run("Go")
            assert result.output == "End"
            assert counts(system) == (0, 1)

    play(scenario, backend=backend)


@each_backend
def test_an_orphan_is_counted(backend: str) -> None:
    """A subagent that becomes the System's own is let in, and its end makes room."""

    async def scenario() -> None:
        @tool(name="detach")
        async def detach(context: RunContext[Any]) -> str:
            """Detach."""
            await context.spawn(worker(5.0), "?", orphan="detach")
            return "detached"

        async with System(max_running=1, max_queued=0) as system:
            await worker(0.1, ["detach"], "End", tools=[detach]).run("Go", run_id="r")
            assert counts(system) == (1, 1)
            with pytest.raises(SystemBusy):
                await worker().run("Go")
            child = system.find("r.1.0.1")
            assert child is not None
            await child.result()
            assert counts(system) == (0, 1)

    play(scenario, backend=backend)


@each_backend
@pytest.mark.parametrize("how", ["stop", "kill", "cancel"])
def test_interrupted_at_every_step(backend: str, how: str) -> None:
    """A place is never lost, and never given twice."""

    async def scenario(interruption: Interruption) -> None:
        at_work: list[int] = []
        most = 0

        @tool
        async def work() -> str:
            """Work."""
            nonlocal most
            at_work.append(1)
            most = max(most, len(at_work))
            try:
                await anyio.sleep(1)
            finally:
                at_work.pop()
            return "worked"

        agent = worker(0.1, ["work"], "done", tools=[work])
        async with System(max_running=1, sources=virtual()) as system:
            first = await system.start(agent, "Go")
            if how == "cancel":
                with anyio.CancelScope() as scope:
                    interruption.arm(scope.cancel)
                    await agent.run("Go")
            else:
                second = await system.start(agent, "Go")
                interruption.arm(second.stop if how == "stop" else second._cell.kill)
                await wait_all(second)
            third = await system.start(agent, "Go")
            await wait_all(first, third)
            assert (await third.result()).output == "done"
            assert counts(system) == (0, 1)
        assert most == 1

    assert interrupt_everywhere(scenario, backend=backend) > 10


@each_backend
def test_ten_thousand_in_the_queue(backend: str) -> None:
    """They are cheap, also to be stopped all at once, in whatever order."""

    async def scenario() -> None:
        queue = RunQueue(1)
        await queue.enter(None)
        waiting = [anyio.CancelScope() for _ in range(10_000)]
        async with anyio.create_task_group() as group:
            for scope in waiting:
                group.start_soon(wait_in, queue, scope)
            await anyio.wait_all_tasks_blocked()
            assert queue.waiting == 10_000
            began = time.perf_counter()
            for scope in reversed(waiting):
                scope.cancel()
        assert time.perf_counter() - began < 5.0
        assert queue.waiting == 0
        queue.leave()
        assert queue._free == 1

    play(scenario, backend=backend)


async def wait_in(queue: RunQueue, scope: anyio.CancelScope) -> None:
    """Wait for a place, for ever or until cancelled."""
    with scope:
        await queue.enter(None)


class Model:
    """What the queue is to do, said plainly: a list of waiters."""

    def __init__(self, running: int, fair: bool) -> None:
        self.free = running
        self.fair = fair
        self.waiting: list[tuple[int, str]] = []
        self.turns: list[str] = []
        self.at_work: set[int] = set()

    def enter(self, number: int, user: str) -> None:
        """One comes."""
        if self.free:
            self.free -= 1
            self.at_work.add(number)
            return
        if self._key(user) not in self.turns:
            self.turns.append(self._key(user))
        self.waiting.append((number, user))

    def _key(self, user: str) -> str:
        return user if self.fair else ""

    def go(self, number: int) -> None:
        """One goes, from work or from the queue."""
        if number not in self.at_work:
            user = next(user for each, user in self.waiting if each == number)
            self.waiting.remove((number, user))
            if all(self._key(other) != self._key(user) for _, other in self.waiting):
                self.turns.remove(self._key(user))
            return
        self.at_work.remove(number)
        if not self.waiting:
            self.free += 1
            return
        turn = self.turns.pop(0)
        found = next((each, user) for each, user in self.waiting if self._key(user) == turn)
        self.waiting.remove(found)
        self.at_work.add(found[0])
        if any(self._key(user) == turn for _, user in self.waiting):
            self.turns.append(turn)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.sampled_from("abc")),
        st.tuples(st.just("go"), st.integers(0, 30)),
        # The first of these goes while the others, in the same moment, are cancelled.
        st.tuples(st.just("go at once"), st.lists(st.integers(0, 30), min_size=2, max_size=4)),
    ),
    max_size=40,
)


@each_backend
@settings(max_examples=60, deadline=None)
@given(steps=STEPS, running=st.integers(1, 3), fair=st.booleans())
def test_any_order_of_coming_and_going(backend: str, steps: list[Any], running: int, fair: bool) -> None:
    """The queue does as a plain list would, whoever is cancelled at whatever moment."""

    async def scenario() -> None:
        queue, model = RunQueue(running, fair=fair), Model(running, fair)
        scopes: dict[int, anyio.CancelScope] = {}
        ends: dict[int, anyio.Event] = {}
        at_work: set[int] = set()

        async def one(number: int, user: str) -> None:
            with scopes[number]:
                await queue.enter(user)
                at_work.add(number)
                try:
                    await ends[number].wait()
                finally:
                    at_work.discard(number)
                    queue.leave()

        alive: list[int] = []
        async with anyio.create_task_group() as group:
            for number, (what, which) in enumerate(steps):
                if what == "enter":
                    scopes[number], ends[number] = anyio.CancelScope(), anyio.Event()
                    alive.append(number)
                    model.enter(number, which)
                    group.start_soon(one, number, which)
                elif alive and what == "go":
                    gone = alive.pop(which % len(alive))
                    model.go(gone)
                    (ends[gone].set if gone in at_work else scopes[gone].cancel)()
                elif alive:
                    for place in which[: len(alive)]:
                        gone = alive.pop(place % len(alive))
                        scopes[gone].cancel()
                        model.at_work.discard(gone)
                    # Which of them was woken first is the event loop's affair: what counts is that no place is lost.
                    await anyio.wait_all_tasks_blocked()
                    assert len(at_work) == min(running, len(alive))
                    assert queue._free == running - len(at_work)
                    break
                await anyio.wait_all_tasks_blocked()
                assert at_work == model.at_work
                assert queue.waiting == len(model.waiting)
                assert queue._free == model.free
            group.cancel_scope.cancel()
        assert (queue.waiting, queue._free) == (0, running)

    play(scenario, backend=backend)


def test_cancelled_when_the_place_is_handed_over() -> None:
    """asyncio takes from a task even what it was just given: then the place goes on to the next."""

    async def scenario() -> None:
        queue = RunQueue(1)
        await queue.enter(None)
        first, second = [asyncio.ensure_future(queue.enter(None)) for _ in range(2)]
        await checkpoint()
        assert queue.waiting == 2
        queue.leave()
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        await second
        assert (queue.waiting, queue._free) == (0, 0)
        third = asyncio.ensure_future(queue.enter(None))
        await checkpoint()
        queue.leave()
        third.cancel()
        await asyncio.wait([third])
        assert (queue.waiting, queue._free) == (0, 1)

    play(scenario)


# -- with a journal in a file


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_wait_does_not_count_as_work(backend: str, tmp_path: Any) -> None:
    """Who is refused leaves nothing in the file."""

    async def scenario() -> None:
        journal = SqliteJournal(tmp_path / f"{backend}.db")
        async with System(journal=journal, max_running=1, max_queued=0) as system:
            gate = anyio.Event()

            @tool
            async def wait() -> str:
                """Wait."""
                await gate.wait()
                return "done"

            run = await system.start(worker(0.0, ["wait"], "End", tools=[wait]), "Go", run_id="r")
            with pytest.raises(SystemBusy):
                await system.start(worker(0.0), "Go", run_id="s")
            gate.set()
            await run.result()
            assert [each.run_id for each in await journal.runs()] == ["r"]

    anyio.run(scenario, backend=backend)
