"""A scenario disturbed at every step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from greenroom import Agent, System
from greenroom.actors import Actor, ActorSystem, Context
from greenroom.providers import Scripted, call
from greenroom.testing import Interruption, Leak, interrupt_everywhere, run

each_backend = pytest.mark.parametrize("loop", ["asyncio", "trio"])


async def steps(count: int) -> None:
    for _ in range(count):
        await checkpoint()


@each_backend
def test_each_step_is_interrupted_once(loop: str) -> None:
    """First none, then the first, the second, and so on."""
    seen: list[tuple[bool, int | None]] = []

    async def scenario(interruption: Interruption) -> None:
        await steps(3)  # not counted yet
        with anyio.CancelScope() as scope:
            interruption.arm(scope.cancel)
            await steps(5)
        seen.append((interruption.fired, interruption.step))
        assert scope.cancel_called is interruption.fired

    assert interrupt_everywhere(scenario, backend=loop) == 5
    assert seen == [(False, None), *((True, step) for step in range(1, 6))]


@each_backend
def test_the_steps_of_all_tasks_count(loop: str) -> None:
    taken: list[int | None] = []

    async def scenario(interruption: Interruption) -> None:
        async with anyio.create_task_group() as group:
            interruption.arm(lambda: None)
            for _ in range(3):
                group.start_soon(steps, 4)
        taken.append(interruption.step)

    tried = interrupt_everywhere(scenario, backend=loop, seed=1)
    assert tried >= 3 * 5
    assert taken == [None, *range(1, tried + 1)]


@each_backend
def test_the_action_comes_just_before_the_step(loop: str) -> None:
    """Whatever state the others have got to."""
    log: list[str] = []

    async def scenario(interruption: Interruption) -> None:
        log.clear()
        interruption.arm(lambda: log.append("here"))
        for number in range(4):
            await checkpoint()
            log.append(str(number))
        if interruption.step is not None:
            expected = ["0", "1", "2", "3"]
            expected.insert(interruption.step - 1, "here")
            assert log == expected

    assert interrupt_everywhere(scenario, backend=loop) == 4


# -- planted bugs


class Store:
    """Something that is taken and must be given back."""

    def __init__(self) -> None:
        self.taken = 0

    async def use_safely(self) -> None:
        self.taken += 1
        try:
            await steps(2)
        finally:
            self.taken -= 1

    async def use(self) -> None:
        """Not given back if it is cancelled in the wrong moment: between the taking and the `try`."""
        await steps(3)
        self.taken += 1
        await checkpoint()
        try:
            await steps(3)
        finally:
            self.taken -= 1


def using(method: Callable[[Store], Any]) -> Any:
    async def scenario(interruption: Interruption) -> None:
        store = Store()
        with anyio.CancelScope() as scope:
            interruption.arm(scope.cancel)
            await method(store)
        assert store.taken == 0, "not given back"

    return scenario


@each_backend
def test_code_that_is_wrong_at_one_step_only_is_found(loop: str) -> None:
    with pytest.raises(AssertionError, match="not given back") as caught:
        interrupt_everywhere(using(Store.use), backend=loop)
    (note,) = caught.value.__notes__
    assert note in {f"interrupted at step {step} of 7 ({loop})" for step in (3, 4)}
    assert interrupt_everywhere(using(Store.use_safely), backend=loop) == 2


def test_the_note_has_the_seed() -> None:
    with pytest.raises(AssertionError) as caught:
        interrupt_everywhere(using(Store.use), backend="trio", seed=5)
    assert caught.value.__notes__[-1].endswith(" of 7 (trio, seed 5)")


def test_what_an_interrupted_run_leaves_is_a_leak() -> None:
    left: list[asyncio.Task[None]] = []

    async def scenario(interruption: Interruption) -> None:
        with anyio.CancelScope() as scope:
            interruption.arm(scope.cancel)
            left.append(asyncio.create_task(asyncio.sleep(100), name="helper"))
            await steps(2)
            left[-1].cancel()
            await steps(2)

    with pytest.raises(Leak, match="task 'helper'") as caught:
        interrupt_everywhere(scenario)
    # Its own first step is one of them; cancelled before its first step it is left, too.
    assert caught.value.__notes__[-1].startswith("interrupted at step 1 of ")


@pytest.mark.parametrize("way", ["native", "scope"])
def test_a_message_is_lost_between_its_handing_over_and_its_receipt(way: str) -> None:
    """asyncio cancels a task although what it waits for is there; a scope of anyio does not."""

    async def scenario(interruption: Interruption) -> None:
        box: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        received: list[str] = []

        async def receive() -> None:
            with anyio.CancelScope() as scopes[0]:
                received.append(await box)

        scopes = [anyio.CancelScope()]
        task = asyncio.create_task(receive())
        await steps(2)
        interruption.arm(task.cancel if way == "native" else scopes[0].cancel)
        await steps(2)
        if not box.done():  # a sender believes that it is received now
            box.set_result("message")
            await asyncio.wait([task])
            assert received == ["message"], "lost"
        await asyncio.wait([task])

    with pytest.raises(AssertionError, match="lost") if way == "native" else nullcontext():
        interrupt_everywhere(scenario)


# -- every kind of action


@pytest.mark.parametrize("times", [1, 2])
def test_asyncios_own_cancellation_once_and_twice(times: int) -> None:
    """A queue of the standard library is right in this; the second comes while the first is dealt with."""
    late: list[bool] = []

    async def scenario(interruption: Interruption) -> None:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        cleaned = False

        async def take() -> int:
            nonlocal cleaned
            try:
                return await queue.get()
            finally:
                try:
                    await steps(2)
                    cleaned = True
                except asyncio.CancelledError:
                    late.append(True)
                    raise

        task = asyncio.create_task(take())

        def cancel() -> None:
            task.cancel()
            if times == 2:
                loop.call_soon(task.cancel)

        interruption.arm(cancel)
        await steps(2)
        queue.put_nowait(1)
        await asyncio.wait([task])
        assert task.cancelled() or task.result() == 1
        assert cleaned or interruption.fired

    assert interrupt_everywhere(scenario) > 5
    assert bool(late)


class Echo(Actor):
    """Answers slowly, and cleans up."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    async def started(self, context: Context) -> None:
        self.log.append("started")

    async def receive(self, message: Any, context: Context) -> Any:
        await checkpoint()
        return message

    async def stopping(self, context: Context, exit: Any) -> None:
        self.log.append("stopping")


@each_backend
@pytest.mark.parametrize(("way", "kinds"), [("stop", {"normal", "shutdown"}), ("kill", {"normal", "killed"})])
def test_an_actor_is_stopped_and_killed_at_every_step(loop: str, way: str, kinds: set[str]) -> None:
    """Whoever asks gets an answer or the reason why not."""
    seen: set[str] = set()

    async def scenario(interruption: Interruption) -> None:
        log: list[str] = []
        async with ActorSystem() as system:
            ref = await system.spawn(partial(Echo, log))
            interruption.arm(getattr(ref, way))
            try:
                assert await ref.ask("hello") == "hello"
                answered = True
            except Exception:
                answered = False
            assert answered or interruption.fired
            await ref.stop()
            exit = await ref.wait()
        seen.add(exit.kind)
        assert log[0] == "started"

    assert interrupt_everywhere(scenario, backend=loop) > 5
    assert seen <= kinds | {"shutdown"}
    assert (way == "stop") or "killed" in seen


@each_backend
@pytest.mark.parametrize("mode", ["now", "after_tools", "after_turn"])
def test_a_run_is_stopped_at_every_step(loop: str, mode: Any) -> None:
    """With tools that sleep, which costs nothing."""

    async def sleep() -> str:
        """Sleep."""
        await anyio.sleep(60)
        return "slept"

    async def scenario(interruption: Interruption) -> None:
        agent = Agent("helper", Scripted([call("sleep"), call("sleep")], "ok"), tools=[sleep])
        async with System() as system:
            run = await system.start(agent, "Go")
            interruption.arm(partial(run.stop, mode))
            result = await run.result()
        assert result.status in ("stopped", "completed")
        assert interruption.fired or result.output == "ok"

    assert interrupt_everywhere(scenario, backend=loop) > 10


# -- the rest of the interface


@each_backend
def test_what_the_action_raises_fails_the_scenario(loop: str) -> None:
    async def scenario(interruption: Interruption) -> None:
        interruption.arm(lambda: 1 // 0)
        await steps(3)

    with pytest.raises(ZeroDivisionError) as caught:
        interrupt_everywhere(scenario, backend=loop)
    assert caught.value.__notes__ == [f"interrupted at step 1 of 3 ({loop})"]


@each_backend
def test_a_failure_of_the_undisturbed_run_says_so(loop: str) -> None:
    async def scenario(interruption: Interruption) -> None:
        raise ValueError("wrong anyway")

    with pytest.raises(ValueError, match="wrong anyway") as caught:
        interrupt_everywhere(scenario, backend=loop)
    assert caught.value.__notes__ == [f"undisturbed ({loop})"]


def test_a_scenario_must_arm_it_once() -> None:
    async def never(interruption: Interruption) -> None:
        await checkpoint()

    async def twice(interruption: Interruption) -> None:
        interruption.arm(int)
        interruption.arm(int)

    with pytest.raises(ValueError, match="must call interruption"):
        interrupt_everywhere(never)
    with pytest.raises(RuntimeError, match="armed already"):
        interrupt_everywhere(twice)


@each_backend
def test_a_run_that_ends_before_its_step(loop: str) -> None:
    """A scenario that takes fewer steps than the undisturbed run did is not counted, and the next ones are tried."""
    runs: list[int] = []

    async def scenario(interruption: Interruption) -> None:
        interruption.arm(int)
        runs.append(1)
        await steps(4 if len(runs) in (6, 7) else 10)

    assert interrupt_everywhere(scenario, backend=loop) == 10 - 2
    assert len(runs) == 1 + 10


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(1, [1]), (2, [1, 10]), (4, [1, 4, 7, 10]), (10, list(range(1, 11))), (99, list(range(1, 11)))],
)
def test_a_limit_spreads_the_steps(limit: int, expected: list[int]) -> None:
    seen: list[int | None] = []

    async def scenario(interruption: Interruption) -> None:
        interruption.arm(int)
        await steps(10)
        seen.append(interruption.step)

    assert interrupt_everywhere(scenario, limit=limit) == len(expected)
    assert seen == [None, *expected]
    with pytest.raises(ValueError, match="limit must be 1 or more"):
        interrupt_everywhere(scenario, limit=0)


@each_backend
def test_nothing_is_interrupted_after_the_scenario(loop: str) -> None:
    """The steps with which a loop ends are not counted."""

    async def scenario(interruption: Interruption) -> None:
        interruption.arm(int)

    assert interrupt_everywhere(scenario, backend=loop) == 0
    run(scenario, Interruption(None), backend=loop)
