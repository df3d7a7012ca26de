"""Virtual time: it jumps when nothing can run, and stands still while something outside is waited for."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import anyio
import pytest
from anyio import from_thread, to_thread

from greenroom import Agent, RunContext, System, tool
from greenroom.providers import Scripted, call
from greenroom.testing import Deadlock, backend, hold_clock, run

LONG = 1e6  # virtual seconds that no test has for real

each_backend = pytest.mark.parametrize("loop", ["asyncio", "trio"])


@each_backend
def test_deadlines_come_in_order_at_their_exact_times_and_cost_nothing(loop: str) -> None:
    log: list[tuple[str, float]] = []

    async def sleep(name: str, seconds: float) -> None:
        await anyio.sleep(seconds)
        log.append((name, anyio.current_time()))

    async def main() -> None:
        assert anyio.current_time() == 0.0
        async with anyio.create_task_group() as group:
            group.start_soon(sleep, "day", 86_400.0)
            group.start_soon(sleep, "long", LONG)
            group.start_soon(sleep, "tick", 0.25)
            with anyio.move_on_after(60) as scope:
                await anyio.sleep(LONG)
            log.append(("minute", anyio.current_time()))
            assert scope.cancelled_caught

    began = time.monotonic()
    run(main, backend=loop)
    assert log == [("tick", 0.25), ("minute", 60.0), ("day", 86_400.0), ("long", LONG)]
    assert time.monotonic() - began < 60


@each_backend
@pytest.mark.parametrize("seconds", [1e-9, 0.1, 86_400.0, 86_400.5, 4e7 / 3, 1e9, 1e12 / 7])
def test_time_is_exact_however_late_it_is(loop: str, seconds: float) -> None:
    async def main() -> float:
        await anyio.sleep(seconds)
        with anyio.move_on_after(seconds):
            await anyio.sleep_forever()
        return anyio.current_time()

    assert run(main, backend=loop) == pytest.approx(2 * seconds, rel=1e-12)


@each_backend
def test_time_stands_still_while_code_runs(loop: str) -> None:
    async def main() -> float:
        time.sleep(0.01)
        await anyio.sleep(0)
        return anyio.current_time()

    assert run(main, backend=loop) == 0.0


@each_backend
def test_real_time_is_real(loop: str) -> None:
    async def main() -> float:
        began = anyio.current_time()
        await anyio.sleep(0.02)
        with hold_clock():  # which cannot be held
            await anyio.sleep(0.02)
        return anyio.current_time() - began

    began = time.monotonic()
    assert run(main, backend=loop, virtual_time=False) >= 0.039
    assert time.monotonic() - began >= 0.039


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return backend(request.param)


@pytest.mark.anyio
async def test_a_backend_serves_as_a_fixture() -> None:
    """The plugin of anyio takes what `backend` returns."""
    with anyio.fail_after(LONG):
        await anyio.sleep(LONG - 1)
    with anyio.fail_after(0.01):
        assert await to_thread.run_sync(work) == "worked"


# -- what holds the clock


def work() -> str:
    time.sleep(0.03)
    return "worked"


async def in_a_thread() -> Any:
    return await to_thread.run_sync(work)


async def with_a_limiter_of_its_own() -> Any:
    return await to_thread.run_sync(work, limiter=anyio.CapacityLimiter(1))


async def inside_an_async_generator() -> Any:
    async def produce() -> Any:
        yield await to_thread.run_sync(work)

    async for each in produce():
        assert each == "worked"
    return "worked"


async def in_an_executor() -> Any:
    return await asyncio.to_thread(work)


@pytest.mark.parametrize(
    ("loop", "wait"),
    [
        ("asyncio", in_a_thread),
        ("asyncio", with_a_limiter_of_its_own),
        ("asyncio", inside_an_async_generator),
        ("asyncio", in_an_executor),
        ("trio", in_a_thread),
        ("trio", with_a_limiter_of_its_own),
        ("trio", inside_an_async_generator),
    ],
)
def test_a_thread_holds_the_clock(loop: str, wait: Callable[[], Awaitable[Any]]) -> None:
    """No deadline passes while a task waits for a thread."""

    async def main() -> float:
        with anyio.fail_after(1):
            assert await wait() == "worked"
        assert anyio.current_time() == 0.0
        await anyio.sleep(5)
        return anyio.current_time()

    assert run(main, backend=loop) == 5.0


@each_backend
@pytest.mark.parametrize("abandon", [False, True])
def test_a_thread_that_waits_for_a_task_does_not(loop: str, abandon: bool) -> None:
    """Or neither would ever go on."""

    async def sleep() -> float:
        await anyio.sleep(100)
        await to_thread.run_sync(work)
        await anyio.sleep(100)
        return anyio.current_time()

    def ask() -> float:
        time.sleep(0.01)
        return from_thread.run(sleep)

    async def main() -> float:
        return await to_thread.run_sync(ask, abandon_on_cancel=abandon)

    assert run(main, backend=loop) == 200.0


@each_backend
def test_a_thread_that_was_given_up_does_not(loop: str) -> None:
    """Nobody waits for it any more."""
    release = threading.Event()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                group.start_soon(anyio.lowlevel.checkpoint)
                give_up = anyio.from_thread.run_sync

                def hang() -> None:
                    give_up(scope.cancel)
                    release.wait(30)

                await to_thread.run_sync(hang, abandon_on_cancel=True)
            assert scope.cancelled_caught
            await anyio.sleep(100)
            assert not release.is_set()
            release.set()

    run(main, backend=loop)


@each_backend
def test_a_tool_in_a_thread_holds_the_clock(loop: str) -> None:
    """Its timeout does not pass while it works for real; that of a coroutine passes at once."""

    @tool(timeout=1)
    def in_thread() -> str:
        """Work."""
        return work()

    @tool(timeout=1000)
    async def in_loop() -> str:
        """Sleep."""
        await anyio.sleep(100)
        return "slept"

    @tool(timeout=1)
    async def too_long() -> str:
        """Sleep."""
        await anyio.sleep(100)
        return "never"

    @tool
    def asks() -> str:
        """Let a coroutine sleep, and wait for it."""
        from_thread.run(anyio.sleep, 100)
        return "asked"

    agent = Agent(
        "helper",
        Scripted([call("in_thread")], [call("in_loop"), call("too_long"), call("asks")], "ok"),
        tools=[in_thread, in_loop, too_long, asks],
    )

    async def main() -> tuple[list[Any], float]:
        async with System() as system:
            result = await (await system.start(agent, "Go")).result()
        return [each.content for message in result.messages for each in message.tool_results], anyio.current_time()

    told, now = run(main, backend=loop)
    assert told == ["worked", "slept", "timed out after 1 s", "asked"]
    assert now == 100.0


@each_backend
def test_a_tool_gets_its_timeout_in_virtual_time_while_others_run_in_threads(loop: str) -> None:
    """The clock goes on as soon as the thread is through."""

    @tool(timeout=2)
    async def late(context: RunContext[None]) -> str:
        """Sleep."""
        await anyio.sleep(3)
        return "never"

    agent = Agent("helper", Scripted([call("late"), call("worker")], "ok"), tools=[late, tool(work, name="worker")])

    async def main() -> float:
        result = await agent.run("Go")
        assert [each.content for message in result.messages for each in message.tool_results][1] == "worked"
        return anyio.current_time()

    assert run(main, backend=loop) == 2.0


@each_backend
@pytest.mark.parametrize(("block", "in_time"), [(hold_clock, True), (nullcontext, False)])
def test_the_clock_can_be_held(loop: str, block: Callable[[], AbstractContextManager[None]], in_time: bool) -> None:
    """For a plain thread, which it cannot see. Holds nest."""

    async def main() -> None:
        done = anyio.Event()
        token = anyio.lowlevel.current_token()

        def plain() -> None:
            work()
            from_thread.run_sync(done.set, token=token)

        with anyio.move_on_after(1) as scope, block():
            with block():
                threading.Thread(target=plain).start()
            await done.wait()
        assert scope.cancelled_caught is not in_time
        assert anyio.current_time() == (0.0 if in_time else 1.0)
        with hold_clock():
            await done.wait()

    run(main, backend=loop)


def test_nothing_holds_a_clock_outside_of_a_loop() -> None:
    with pytest.raises(anyio.NoEventLoopError):
        hold_clock()


@each_backend
def test_another_process_is_waited_for_under_a_hold(loop: str) -> None:
    async def main() -> bytes:
        with anyio.fail_after(1), hold_clock():
            done = await anyio.run_process([sys.executable, "-c", "print('here')"])
        return done.stdout.strip()

    assert run(main, backend=loop) == b"here"


@each_backend
def test_what_a_socket_holds_comes_before_a_deadline(loop: str) -> None:
    """A connection within the process needs no hold."""

    async def serve(stream: Any) -> None:
        async with stream:
            await stream.send(await stream.receive())

    async def main() -> float:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            with anyio.fail_after(0.001):
                port: int = listener.extra(anyio.abc.SocketAttribute.local_port)
                async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                    await stream.send(b"ping")
                    assert await stream.receive() == b"ping"
            group.cancel_scope.cancel()
        return anyio.current_time()

    assert run(main, backend=loop) == 0.0


@each_backend
def test_what_is_there_already_comes_before_a_deadline(loop: str) -> None:
    """The loop looks before it lets time pass."""

    async def main() -> float:
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.send(b"x")
            with anyio.fail_after(1):
                await anyio.wait_readable(left)
        return anyio.current_time()

    assert run(main, backend=loop) == 0.0


# -- when nothing can happen any more


@each_backend
def test_a_deadlock_is_said_and_by_whom(loop: str) -> None:
    """Instead of hanging for ever."""

    async def main() -> None:
        first, second = anyio.Event(), anyio.Event()

        async def wait_for(mine: anyio.Event, other: anyio.Event) -> None:
            await other.wait()
            mine.set()

        async with anyio.create_task_group() as group:
            group.start_soon(wait_for, first, second, name="one")
            group.start_soon(wait_for, second, first, name="two")
            await anyio.sleep(10)

    with pytest.raises(Deadlock) as caught:
        run(main, backend=loop)
    words = str(caught.value)
    assert "task 'one' in test_a_deadlock_is_said_and_by_whom.<locals>.main.<locals>.wait_for" in words
    assert "task 'two'" in words


@each_backend
def test_to_sleep_for_ever_is_a_deadlock(loop: str) -> None:
    async def main() -> None:
        with anyio.move_on_after(1):
            await anyio.sleep_forever()
        await anyio.sleep_forever()

    with pytest.raises(Deadlock, match="for_ever_is_a_deadlock"):
        run(main, backend=loop)


@each_backend
def test_a_deadlock_that_cannot_be_cancelled_is_said_too(loop: str) -> None:
    async def main() -> None:
        with anyio.CancelScope(shield=True):
            await anyio.Event().wait()

    with pytest.raises(Deadlock):
        run(main, backend=loop)


@each_backend
def test_a_thread_that_may_yet_call_is_no_deadlock(loop: str) -> None:
    async def main() -> None:
        done = anyio.Event()
        token = anyio.lowlevel.current_token()

        def plain() -> None:
            work()
            from_thread.run_sync(done.set, token=token)

        threading.Thread(target=plain).start()
        await done.wait()

    run(main, backend=loop)


@each_backend
def test_the_main_thread_may_always_call(loop: str) -> None:
    tokens: list[Any] = []
    ready = threading.Event()

    async def main() -> None:
        done = anyio.Event()
        tokens.extend((anyio.lowlevel.current_token(), done.set))
        ready.set()
        await done.wait()

    failed: list[BaseException] = []

    def perform() -> None:
        try:
            run(main, backend=loop)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=perform)
    thread.start()
    assert ready.wait(10)
    thread.join(0.05)
    assert not failed
    from_thread.run_sync(tokens[1], token=tokens[0])
    thread.join(10)
    assert not failed


@each_backend
def test_a_thread_that_ends_without_a_word_is_one(loop: str) -> None:
    async def main() -> None:
        threading.Thread(target=work).start()
        await anyio.Event().wait()

    with pytest.raises(Deadlock):
        run(main, backend=loop)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@each_backend
def test_waiting_for_a_signal_is_no_deadlock(loop: str) -> None:
    async def main() -> None:
        with anyio.open_signal_receiver(signal.SIGALRM) as signals:
            signal.setitimer(signal.ITIMER_REAL, 0.03)
            async for _ in signals:
                break

    run(main, backend=loop)


@each_backend
def test_waiting_until_all_wait_is_no_deadlock(loop: str) -> None:
    async def main() -> None:
        event = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(event.wait)
            await anyio.wait_all_tasks_blocked()
            event.set()

    run(main, backend=loop)
