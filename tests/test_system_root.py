"""The root of the tree: how a system opens, closes, gives up, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import math
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from greenroom.actors import (
    Actor,
    ActorSystem,
    BadChildSpec,
    ChildSpec,
    Context,
    DescriptorLimit,
    Exit,
    NameTaken,
    RestartLimit,
    Supervisor,
    SupervisorRef,
    SystemClosed,
    raise_descriptor_limit,
)
from greenroom.actors.cell import Cell

pytestmark = pytest.mark.anyio


async def settle() -> None:
    """Let everybody run until all wait. Nothing here depends on time, so a number of rounds is enough, and quick."""
    for _ in range(50):
        await checkpoint()


class Boom(Exception):
    """What crashes here."""


class Counter(Actor):
    """Counts what it is told, and raises what it is told to raise."""

    def __init__(self) -> None:
        self.count = 0

    async def receive(self, message: Any, _context: Context) -> int:
        """Count, raise, or hang."""
        if isinstance(message, BaseException):
            raise message
        if message == "hang":
            await anyio.sleep(math.inf)
        self.count += 1
        return self.count


class Worker(Cell):
    """A pooled child that works until it is asked to stop; a deaf one does not listen."""

    __slots__ = ("_deaf", "_done")

    kind = "worker"

    def __init__(self, name: str, system: ActorSystem, *, deaf: bool = False) -> None:
        super().__init__(name, name, system.pool, system)
        self._deaf = deaf
        self._done = anyio.Event()

    def request_stop(self, reason: str | None) -> None:
        """Stop working, unless deaf."""
        super().request_stop(reason)
        if not self._deaf:
            self._done.set()

    async def perform(self) -> None:
        """Work."""
        self.announce_started()
        await self._done.wait()


def pooled(system: ActorSystem, name: str, *, deaf: bool = False) -> Worker:
    """Start a worker in the system's pool."""
    worker = Worker(name, system, deaf=deaf)
    system.pool.adopt(worker)
    worker.spawn_in(system.group)
    return worker


@asynccontextmanager
async def no_task_left() -> AsyncIterator[None]:
    """Fail if the block leaves a task behind, or garbage that complains (every warning is an error here)."""
    before = {task.id for task in anyio.get_running_tasks()}
    try:
        yield
    finally:
        gc.collect()
        left = [task for task in anyio.get_running_tasks() if task.id not in before]
        assert not [task for task in left if "TestRunner" not in repr(task.coro)]  # that one is the plugin's


@pytest.fixture
async def leaves_nothing_behind(anyio_backend: str) -> AsyncIterator[None]:
    """Scenario 45: whatever a test does, no task survives it."""
    async with no_task_left():
        yield


@pytest.mark.usefixtures("leaves_nothing_behind")
class TestBody:
    """What happens to the block's own end."""

    async def test_an_exception_leaves_bare(self) -> None:
        """Scenario 49: not wrapped in a group, the same object, after the actors were stopped in order."""
        error = Boom("body")
        with pytest.raises(Boom) as caught:
            async with ActorSystem() as system:
                it = await system.spawn(Counter)
                raise error
        assert caught.value is error
        assert it.exit is not None
        assert it.exit.kind == "shutdown"

    @pytest.mark.parametrize("error", [StopIteration(), StopAsyncIteration(), ExceptionGroup("own", [Boom()])])
    async def test_exceptions_with_a_meaning_to_generators_leave_bare(self, error: Exception) -> None:
        """The block's exception is the caller's affair, whatever its type."""
        with pytest.raises(type(error)) as caught:
            async with ActorSystem():
                raise error
        assert caught.value is error

    async def test_a_deadline_around_it(self) -> None:
        """Scenario 47: the caller's scope ends the block, and catches what it caused; the actors were killed."""
        with anyio.move_on_after(0.001) as scope:
            async with ActorSystem() as system:
                it = await system.spawn(Counter)
                await anyio.sleep(math.inf)
        assert scope.cancelled_caught
        assert it.exit is not None
        assert it.exit.kind == "killed"

    async def test_a_deadline_while_it_shuts_down(self) -> None:
        """Scenario 47: an actor that does not stop is killed when the caller's time is over."""
        with anyio.move_on_after(0.01) as scope:
            async with ActorSystem() as system:
                it = await system.spawn(Counter, shutdown=60)
                it.tell_nowait("hang")
                await settle()
        assert scope.cancelled_caught
        assert str(it.exit) == "killed (shutdown)"

    async def test_it_is_opened_once(self) -> None:
        """A second opening is refused."""
        system = ActorSystem()
        async with system:
            assert system.is_open
        assert not system.is_open
        with pytest.raises(SystemClosed, match="opened once"):
            async with system:
                pytest.fail("open again")


@pytest.mark.usefixtures("leaves_nothing_behind")
class TestNativeCancellation:
    """Scenario 47 on asyncio, where a host may cancel without any scope."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Only asyncio has it."""
        return "asyncio"

    async def test_a_native_timeout(self) -> None:
        """`asyncio.timeout` around a system turns into its own TimeoutError."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                async with ActorSystem() as system:
                    it = await system.spawn(Counter)
                    await anyio.sleep(math.inf)
        assert it.exit is not None
        assert it.exit.kind == "killed"

    @pytest.mark.parametrize("times", [1, 2])
    async def test_a_cancelled_task(self, times: int) -> None:
        """Cancelled once, or again while it shuts down: the task ends cancelled, and so do its actors."""

        async def main() -> None:
            async with ActorSystem() as system:
                await system.spawn(Counter)
                await anyio.sleep(math.inf)

        task = asyncio.create_task(main())
        await settle()
        for _ in range(times):
            task.cancel()
            await checkpoint()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.usefixtures("leaves_nothing_behind")
class TestEscalation:
    """Too many restarts at the root."""

    async def test_it_cancels_the_block_and_raises_one_error(self) -> None:
        """After everything has ended; the last crash is the cause."""
        reached = False
        with pytest.raises(RestartLimit, match="'the system' gave up") as caught:
            async with ActorSystem(intensity=1) as system:
                it, other = await system.spawn(Counter, name="it"), await system.spawn(Counter)
                for _ in range(2):
                    await it.tell(Boom("x"))
                await anyio.sleep(math.inf)
                reached = True
        assert isinstance(caught.value.__cause__, Boom)
        assert (reached, it.alive, other.alive) == (False, False, False)

    async def test_a_block_that_swallows_its_cancellation(self) -> None:
        """It does not hide that the system gave up."""
        with pytest.raises(RestartLimit):
            async with ActorSystem(intensity=0) as system:
                it = await system.spawn(Counter)
                await it.tell(Boom("x"))
                try:
                    await anyio.sleep(math.inf)
                except BaseException:
                    pass

    async def test_a_block_that_answers_its_cancellation_with_an_error(self) -> None:
        """Nor does one that raises something else."""
        with pytest.raises(RestartLimit):
            async with ActorSystem(intensity=0) as system:
                it = await system.spawn(Counter)
                await it.tell(Boom("x"))
                try:
                    await anyio.sleep(math.inf)
                finally:
                    raise Boom("instead")

    async def test_giving_up_while_the_block_fails(self) -> None:
        """The block's error came first and leaves; the second is a note on it."""
        with pytest.raises(Boom, match="body") as caught:
            async with ActorSystem(intensity=0, grace=60) as system:
                it = await system.spawn(Counter)
                worker = pooled(system, "busy", deaf=True)
                worker.watch(lambda cell: it.tell_nowait(Boom("meanwhile")) if cell.exit is None else None)
                raise Boom("body")
        (note,) = caught.value.__notes__
        assert "while 'system' was shutting down" in note

    async def test_a_temporary_actor_never_escalates(self) -> None:
        """A hundred of them may crash."""
        async with ActorSystem(intensity=0) as system:
            for _ in range(100):
                it = await system.spawn(Counter, restart="temporary")
                await it.tell(Boom("x"))
            await settle()
            assert (await (await system.spawn(Counter)).ask("alive")) == 1


class TestInterrupt:
    """`KeyboardInterrupt` and `SystemExit` end the program, not an actor."""

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    @pytest.mark.parametrize("depth", [0, 2])
    def test_raised_in_an_actor_it_leaves_bare(
        self, anyio_backend: str, error: type[BaseException], depth: int
    ) -> None:
        """Scenario 49: through any number of supervisors, and not in a group."""
        start: Any = Counter
        for _ in range(depth):
            start = Supervisor([ChildSpec("inner", start)])

        async def main() -> None:
            async with ActorSystem() as system:
                await system.spawn(start, name="top")
                it = system.actor("/".join(["top", *["inner"] * depth]))
                assert it is not None
                await it.tell(error())
                await anyio.sleep(math.inf)

        with pytest.raises(error):
            anyio.run(main, backend=anyio_backend)

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_raised_in_the_block_it_leaves_bare(self, anyio_backend: str, error: type[BaseException]) -> None:
        """Everything is cancelled at once, and the interrupt is what the caller sees."""

        async def main() -> None:
            async with ActorSystem() as system:
                await system.spawn(Counter)
                raise error

        with pytest.raises(error):
            anyio.run(main, backend=anyio_backend)


@pytest.mark.usefixtures("leaves_nothing_behind")
class TestSpawn:
    """Names and refusals."""

    async def test_names(self) -> None:
        """Given, or made from the class and a number that no live actor has."""
        async with ActorSystem() as system:
            first = await system.spawn(Counter, name="counter-1")
            assert (await system.spawn(Counter)).name == "counter-2"
            with pytest.raises(NameTaken, match="'counter-1' is alive already"):
                await system.spawn(Counter, name="counter-1")
            await first.stop()
            assert (await system.spawn(Counter, name="counter-1")).alive

    async def test_looking_up(self) -> None:
        """By name, by path, and in vain."""
        async with ActorSystem() as system:
            await system.spawn(Supervisor([ChildSpec("a", Counter)]), name="top")
            plain = await system.spawn(Counter, name="plain")
            nested = system.actor("top/a")
            assert nested is not None
            assert nested.name == "top/a"
            assert system.actor("plain") == plain
            for absent in ("nobody", "top/nobody", "plain/child", ""):
                assert system.actor(absent) is None

    async def test_a_closed_system_takes_nobody(self) -> None:
        """Before it opens, while it closes, and afterwards."""
        system = ActorSystem()
        with pytest.raises(SystemClosed, match="is not open"):
            await system.spawn(Counter)
        async with system:
            pooled(system, "late").watch(lambda cell: refused.append(cell.stage.home.here and not system.is_open))
            refused: list[bool] = []
        assert refused[-1]
        with pytest.raises(SystemClosed):
            await system.spawn(Counter)
        with pytest.raises(SystemClosed):
            _ = system.group

    async def test_bad_arguments_are_refused(self) -> None:
        """With the same words as in a specification."""
        async with ActorSystem() as system:
            with pytest.raises(BadChildSpec, match="restart of child 'counter-1'"):
                await system.spawn(Counter, restart="never")  # type: ignore[call-overload]

    async def test_bad_arguments_are_refused_after_good_ones(self) -> None:
        """Arguments are checked once for actors that are alike, and True is not like 1."""
        async with ActorSystem() as system:
            await system.spawn(Counter, capacity=1, shutdown=0)
            with pytest.raises(BadChildSpec, match="capacity of child 'counter-2' must be at least 1, not True"):
                await system.spawn(Counter, capacity=True, shutdown=0)
            with pytest.raises(BadChildSpec, match="shutdown of child 'counter-3' must be seconds"):
                await system.spawn(Counter, capacity=1, shutdown=False)

    async def test_a_function_is_not_kept_longer_than_its_actor(self) -> None:
        """Nor is what it has in its closure."""
        async with ActorSystem() as system:
            start = partial(Counter)
            gone = weakref.ref(start)
            it = await system.spawn(start)
            del start
            await it.stop()
            del it
            await settle()
            gc.collect()
            assert gone() is None

    async def test_a_spawned_actor_has_the_systems_context(self) -> None:
        """Scenario 50: context variables are those of the system's opening, not of whoever spawned."""
        word: ContextVar[str] = ContextVar("word", default="unset")

        class Reader(Actor):
            async def receive(self, _message: Any, _context: Context) -> str:
                return word.get()

        word.set("at the opening")
        async with ActorSystem() as system:
            word.set("at the spawn")
            reader = await system.spawn(Reader)
            assert await reader.ask("?") == "at the opening"

    async def test_a_tight_loop_of_spawns_can_be_cancelled(self) -> None:
        """Scenario 47: spawning does not yield each time, but often enough."""
        async with ActorSystem() as system:
            with anyio.move_on_after(0.001) as scope:
                while True:
                    await system.spawn(Counter)
            assert scope.cancelled_caught

    async def test_many_actors(self) -> None:
        """A thousand come and go; nothing of them is kept."""
        async with ActorSystem() as system:
            for _ in range(1000):
                await (await system.spawn(Counter, restart="temporary")).stop()
            assert system.tree().children == ()


@pytest.mark.usefixtures("leaves_nothing_behind")
class TestPool:
    """Temporary children that stop together."""

    async def test_they_stop_in_parallel_and_the_killed_are_named(self) -> None:
        """Scenarios 39, 41: one grace for all; those that did not listen are killed and reported."""
        async with ActorSystem() as system:
            workers = [pooled(system, f"worker {n}", deaf=n % 2 == 0) for n in range(10)]
            await settle()
            with anyio.fail_after(5):
                killed = await system.pool.stop(0.01, "over")
            assert killed == tuple(f"worker {n}" for n in range(0, 10, 2))
            exits = {str(worker.exit) for worker in workers}
            assert exits == {"killed (over)", "shutdown (over)"}

    async def test_they_stop_before_the_actors(self) -> None:
        """Pooled children may use the actors until they have ended."""
        order: list[str] = []
        async with ActorSystem() as system:
            actor = await system.spawn(Counter)
            actor._cell.watch(lambda cell: order.append(f"actor {cell.state}"))
            pooled(system, "worker").watch(lambda cell: order.append(f"worker {cell.state}"))
        assert [line for line in order if line.endswith("ended")] == ["worker ended", "actor ended"]

    async def test_a_name_is_unique_among_the_live(self) -> None:
        """And free again after the end."""
        async with ActorSystem() as system:
            worker = pooled(system, "worker")
            with pytest.raises(NameTaken):
                system.pool.adopt(Worker("worker", system))
            worker.request_stop(None)
            await system.pool.wait_empty()
            assert len(system.pool) == 0

    async def test_all_who_wait_for_it_to_be_empty_are_told(self) -> None:
        """A drain and a close may wait at once."""
        async with ActorSystem() as system:
            worker = pooled(system, "worker")
            with anyio.fail_after(5):
                async with anyio.create_task_group() as tasks:
                    for _ in range(3):
                        tasks.start_soon(system.pool.wait_empty)
                    await settle()
                    worker.request_stop(None)

    async def test_a_crash_concerns_nobody(self) -> None:
        """A pooled child's end is final and escalates nothing."""

        class Crashing(Worker):
            async def perform(self) -> None:
                raise Boom("x")

        async with ActorSystem(intensity=0) as system:
            for n in range(10):
                cell = Crashing(f"worker {n}", system)
                system.pool.adopt(cell)
                cell.spawn_in(system.group)
            await system.pool.wait_empty()
            assert str(cell.exit) == "crashed: Boom: x"

    async def test_a_closing_pool_takes_nobody(self) -> None:
        """What would start after the stop would never be asked."""
        async with ActorSystem() as system:
            await system.pool.stop(0, "over")
            with pytest.raises(SystemClosed):
                pooled(system, "late")


@pytest.mark.usefixtures("leaves_nothing_behind")
class TestTree:
    """Scenario 18: what it shows is what is there."""

    async def test_as_text_and_as_dictionaries(self) -> None:
        """One line for each actor, drawn as a tree; the same as data."""
        async with ActorSystem(name="demo") as system:
            top = await system.spawn(Supervisor([ChildSpec("a", Counter), ChildSpec("b", Counter)]), name="top")
            b = top.child("b")
            assert b is not None
            await b.tell(Boom("x"))
            await b.tell("hang")
            await settle()
            await b.tell("waiting")
            pooled(system, "worker")
            await settle()
            tree = system.tree()
            assert [line.split(", ")[0] for line in str(tree).splitlines()] == [
                "demo (system) open",
                "├─ top (supervisor) running",
                "│  ├─ top/a (actor) running",
                "│  └─ top/b (actor) running",
                "└─ worker (worker) running",
            ]
            assert "1 waiting, 1 restarts" in str(tree)
            assert tree.to_dict()["children"][0]["children"][1]["restarts"] == 1
            b.kill()

    async def test_the_dead_are_not_in_it(self) -> None:
        """Ended actors leave the tree, and a closed system is empty."""
        async with ActorSystem() as system:
            it = await system.spawn(Counter)
            assert len(system.tree().children) == 1
            await it.stop()
            assert system.tree().children == ()
            await system.spawn(Supervisor([ChildSpec("a", Counter)]))
        assert system.tree().children == ()
        assert system.tree().state == "closed"

    async def test_before_the_opening(self) -> None:
        """A system that was never opened has an empty tree."""
        assert "closed" in str(ActorSystem().tree())


class TestEnds:
    """What the last moments leave."""

    async def test_the_exits_of_an_orderly_close(self) -> None:
        """Everybody was asked, in reverse order, and says so."""
        order: list[str] = []
        async with ActorSystem() as system:
            refs = [await system.spawn(Counter, name=f"{n}") for n in range(3)]
            for ref in refs:
                ref._cell.watch(lambda cell: order.append(cell.name) if cell.exit else None)
        assert order == ["2", "1", "0"]
        assert {ref.exit for ref in refs} == {Exit("shutdown", reason="shutdown")}

    async def test_a_supervisor_ref_after_the_end(self) -> None:
        """It answers like any other ref."""
        async with ActorSystem() as system:
            top = await system.spawn(Supervisor([ChildSpec("a", Counter)]))
        assert isinstance(top, SupervisorRef)
        assert (top.child("a"), top.alive) == (None, False)
        await top.stop()

    def test_a_loop_that_ends_without_closing(self, anyio_backend: str) -> None:
        """Scenario 44: a system that is cancelled with its loop is over like any other."""
        if anyio_backend == "trio":
            pytest.skip("trio's run does not end before its tasks")
        exits: list[Any] = []

        async def forgotten() -> None:
            async with ActorSystem() as system:
                exits.append(await system.spawn(Counter))
                await anyio.sleep(math.inf)

        async def main() -> None:
            exits.append(asyncio.create_task(forgotten()))
            await settle()

        anyio.run(main, backend=anyio_backend)
        gc.collect()
        assert not exits[1].alive


class TestDescriptors:
    """The soft limit of the process."""

    def test_more_than_the_hard_limit_is_refused(self) -> None:
        """The message says what to do."""
        resource = pytest.importorskip("resource")
        if resource.getrlimit(resource.RLIMIT_NOFILE)[1] == resource.RLIM_INFINITY:
            pytest.skip("there is no hard limit here")
        with pytest.raises(DescriptorLimit, match="lower max_running, or raise the hard limit"):
            raise_descriptor_limit(2**40)

    def test_a_soft_limit_is_raised_as_far_as_needed(self) -> None:
        """Only upwards, and by what was asked for."""
        resource = pytest.importorskip("resource")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
            raise_descriptor_limit(100)
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 256
            raise_descriptor_limit(300)
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 300
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_loop_of_refused_spawns_lets_the_system_close() -> None:
    """An actor that tries for ever to spawn into a closing system is killed after its grace like any other."""

    class Stubborn(Actor):
        async def receive(self, _message: Any, _context: Context) -> None:
            while True:
                try:
                    await system.spawn(Counter)
                except SystemClosed:
                    continue

    with anyio.fail_after(10):
        async with ActorSystem() as system:
            it = await system.spawn(Stubborn, shutdown=0.01)
            await it.tell("go")
            await anyio.sleep(0)
            system._closing = True
    assert it.exit is not None
    assert it.exit.kind == "killed"
