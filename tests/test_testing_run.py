"""One scenario in a loop of its own: what comes out, and what it must not leave behind."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Generator
from typing import Any
from weakref import ref

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint

from greenroom.testing import Leak, backend, complaints, explore, run

each_backend = pytest.mark.parametrize("loop", ["asyncio", "trio"])


@each_backend
def test_it_returns_what_the_scenario_returns(loop: str) -> None:
    async def main(left: int, right: str) -> tuple[int, str]:
        await checkpoint()
        return left, right

    assert run(main, 1, "2", backend=loop) == (1, "2")


@each_backend
def test_it_raises_what_the_scenario_raises(loop: str) -> None:
    """And says what is left besides, because that may be why."""

    async def main() -> None:
        never: Any = checkpoint()
        del never
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad") as caught:
        run(main, backend=loop)
    assert caught.value.__notes__ == ["left behind:\n  RuntimeWarning: coroutine 'checkpoint' was never awaited"]


@each_backend
def test_a_clean_scenario_passes(loop: str) -> None:
    """Tasks, threads, sockets and processes that have ended are no leaks; nor is what was there before."""
    threading.Thread(target=anyio.Event, name="before").start()

    async def numbers() -> Any:
        for number in range(3):
            await checkpoint()
            yield number

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0.01)
            await anyio.to_thread.run_sync(int)
        assert [number async for number in numbers()] == [0, 1, 2]
        generator = numbers()
        assert await generator.__anext__() == 0
        await generator.aclose()
        left, right = os.pipe()
        os.close(left)
        os.close(right)

    run(main, backend=loop)
    run(main, backend=loop, seed=3)
    run(main, backend=loop, virtual_time=False)


@pytest.mark.parametrize("option", ["backend", "name"])
def test_an_unknown_backend_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match="'asyncio' or 'trio', not 'twisted'"):
        run(checkpoint, backend="twisted") if option == "backend" else backend("twisted")


# -- planted leaks

kept: list[Any] = []


class Raises:
    """What cannot be dropped in peace."""

    def __del__(self) -> None:
        raise ZeroDivisionError("dropped")


async def leak_a_file() -> None:
    open(os.devnull)  # noqa: SIM115


async def leak_a_descriptor() -> None:
    kept.append(os.open(os.devnull, os.O_RDONLY))


async def leak_a_coroutine() -> None:
    never: Any = checkpoint()
    del never


async def leak_in_a_cycle() -> None:
    """Nobody holds it, but it is not gone before garbage is collected."""
    cycle: list[Any] = [checkpoint()]
    cycle.append(cycle)


async def leak_an_exception_in_a_destructor() -> None:
    Raises()


async def leak_a_thread() -> None:
    release = threading.Event()
    kept.append(release.set)
    threading.Thread(target=release.wait, args=(30,), name="forgotten").start()


async def leak_a_process() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    kept.append(process)


async def leak_a_generator_by_keeping_it() -> None:
    async def numbers() -> Any:
        yield 1
        yield 2

    kept.append(numbers())
    await kept[-1].__anext__()


async def leak_a_generator_by_dropping_it() -> None:
    async def numbers() -> Any:
        yield 1
        yield 2

    async for _ in numbers():
        break


@pytest.fixture(autouse=True)
def _clean_up() -> Any:
    yield
    for each in kept:
        if isinstance(each, int):
            os.close(each)
        elif isinstance(each, subprocess.Popen):
            each.communicate()
        elif callable(each):
            each()
    kept.clear()


@each_backend
@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        (leak_a_file, "ResourceWarning: unclosed file"),
        (leak_a_descriptor, "descriptor "),
        (leak_a_coroutine, "coroutine 'checkpoint' was never awaited"),
        (leak_in_a_cycle, "coroutine 'checkpoint' was never awaited"),
        (leak_an_exception_in_a_destructor, "Raises.__del__"),
        (leak_an_exception_in_a_destructor, "ZeroDivisionError('dropped')"),
        (leak_a_thread, "thread 'forgotten'"),
        pytest.param(
            leak_a_process,
            "process ",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="children are listed on Linux alone"),
        ),
        (leak_a_generator_by_keeping_it, "numbers: neither finished nor closed"),
        (leak_a_generator_by_dropping_it, "numbers: neither finished nor closed"),
    ],
)
def test_a_leak_fails_the_scenario(loop: str, scenario: Any, words: str) -> None:
    with pytest.raises(Leak) as caught:
        run(scenario, backend=loop)
    assert words in str(caught.value)


def test_a_task_that_is_left_is_a_leak() -> None:
    async def main() -> None:
        kept.append(asyncio.create_task(asyncio.sleep(10), name="forgotten"))

    with pytest.raises(Leak, match=r"task 'forgotten' in .*sleep"):
        run(main)


def test_a_system_task_that_is_left_is_a_leak() -> None:
    async def main() -> None:
        trio.lowlevel.spawn_system_task(trio.sleep, 10, name="forgotten")

    with pytest.raises(Leak, match="task 'forgotten'"):
        run(main, backend="trio")


def test_a_task_that_is_about_to_end_is_none() -> None:
    async def main() -> None:
        kept.append(asyncio.create_task(asyncio.sleep(0)))

    run(main)


@pytest.mark.parametrize("held", [True, False])
def test_an_exception_that_nobody_retrieves_is_a_leak(held: bool) -> None:
    """Whether its task is gone already, or goes with the loop."""

    async def fail() -> None:
        raise ValueError("nobody asked")

    async def main() -> None:
        task = asyncio.create_task(fail())
        await asyncio.sleep(1)
        if held:  # in a cycle
            task.add_done_callback(lambda _: task)

    with pytest.raises(Leak, match="Task exception was never retrieved: ValueError"):
        run(main)


def test_an_exception_in_a_callback_is_a_leak() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(int, "x")
        await asyncio.sleep(1)

    with pytest.raises(Leak, match=r"Exception in callback .*invalid literal"):
        run(main)


def test_a_handler_of_the_scenarios_own_deals_with_them() -> None:
    async def main() -> list[str]:
        heard: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: heard.append(context["message"]))
        loop.call_soon(int, "x")
        await asyncio.sleep(1)
        return heard

    assert [message.split("(")[0] for message in run(main)] == ["Exception in callback int"]


@each_backend
def test_other_warnings_do_what_they_do(loop: str) -> None:
    """Here they are errors. What the scenario catches itself is its own affair."""

    async def deprecated() -> None:
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    async def caught() -> None:
        with pytest.warns(ResourceWarning):
            open(os.devnull)  # noqa: SIM115

    with pytest.raises(DeprecationWarning, match="old"):
        run(deprecated, backend=loop)
    run(caught, backend=loop)


@each_backend
def test_all_is_as_before_afterwards(loop: str) -> None:
    """Filters, hooks, and the collector."""

    def state() -> list[Any]:
        return [list(warnings.filters), warnings.showwarning, sys.unraisablehook, sys.get_asyncgen_hooks()]

    before = state()
    run(checkpoint, backend=loop)
    with pytest.raises(Leak):
        run(leak_a_file, backend=loop)
    assert state() == before


@pytest.fixture
def nothing_hidden(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """The collector knows all there is, as it does where nobody has hidden anything."""
    gc.unfreeze()
    monkeypatch.setattr(complaints, "_stays_hidden", False)
    yield
    gc.freeze()


@each_backend
def test_the_collector_knows_everything_again_afterwards(loop: str, nothing_hidden: None) -> None:
    run(checkpoint, backend=loop)
    with pytest.raises(Leak):
        run(leak_a_file, backend=loop)
    assert gc.get_freeze_count() == 0


@each_backend
def test_what_is_hidden_for_good_stays_so(loop: str, nothing_hidden: None) -> None:
    """But for what is garbage by then."""
    complaints.hide_what_is_there()
    hidden = gc.get_freeze_count()
    cycle: list[Any] = [Mine()]
    cycle.append(cycle)
    gone = ref(cycle[0])
    del cycle
    run(checkpoint, backend=loop)
    assert gc.get_freeze_count() > hidden / 2 > 0
    assert gone() is None
    later: list[Any] = [Mine()]
    later.append(later)
    gc.freeze()
    gone = ref(later[0])
    del later
    complaints.hide_what_is_there()
    assert gone() is None


class Mine:
    """Something that can be referred to weakly."""


@each_backend
def test_a_run_within_a_run_blames_nobody_else(loop: str, nothing_hidden: None) -> None:
    """As a scenario that tests the tests may have it, in a thread."""

    def inner() -> str:
        with pytest.raises(Leak, match="never awaited"):
            run(leak_in_a_cycle, backend=loop)
        run(anyio.sleep, 1, backend=loop)
        return "through"

    async def main() -> None:
        hidden = gc.get_freeze_count()
        assert await anyio.to_thread.run_sync(inner) == "through"
        assert gc.get_freeze_count() > hidden > 0

    run(main, backend=loop)
    assert gc.get_freeze_count() == 0


@each_backend
def test_old_garbage_is_not_blamed_on_the_scenario(loop: str, nothing_hidden: None) -> None:
    gc.collect()
    gc.disable()
    try:
        cycle: list[Any] = [checkpoint()]
        cycle.append(cycle)
        del cycle
        run(anyio.sleep, 1, backend=loop)
        with pytest.warns(RuntimeWarning, match="never awaited"):
            gc.collect()
    finally:
        gc.enable()


def test_a_leak_in_some_order_is_found_with_its_seed() -> None:
    async def scenario() -> None:
        queue: list[int] = []

        async def put() -> None:
            queue.append(1)

        async def take() -> None:
            if not queue:
                kept.append(asyncio.create_task(asyncio.sleep(10)))

        async with anyio.create_task_group() as group:
            group.start_soon(put)
            group.start_soon(take)

    with pytest.raises(Leak, match=r"task .*sleep") as caught:
        explore(scenario, backends=["asyncio"])
    assert "on asyncio with seed " in caught.value.__notes__[-1]


PROGRAM = """
    import anyio
    from greenroom.testing import Leak, run

    async def clean():
        await anyio.sleep(1000)
        return "clean"

    async def leaky():
        open("/dev/null")

    for backend in ("asyncio", "trio"):
        print(run(clean, backend=backend, seed=1))
        try:
            run(leaky, backend=backend)
        except Leak as leak:
            print("found")
"""


def test_it_works_outside_of_pytest() -> None:
    """Where warnings are errors, and where they are not shown."""
    for option in ("error", "ignore"):
        command = [sys.executable, "-W", option, "-c", textwrap.dedent(PROGRAM)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert (done.stdout.split(), done.stderr) == (["clean", "found"] * 2, "")


async def nothing() -> None:
    """Do nothing."""
    await checkpoint()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"seeds": 0}, ValueError, "seeds takes how many, 1 or more, or which, not 0"),
        ({"seeds": []}, ValueError, "seeds takes how many"),
        ({"seeds": "12"}, ValueError, "seeds takes how many"),
        ({"seeds": [1.5]}, TypeError, "a seed is a whole number, not 1.5"),
        ({"backends": ()}, ValueError, "backends must name one"),
        ({"backends": "trio"}, TypeError, r"backends=\['trio'\]"),
        ({"backends": ["twisted"]}, ValueError, "backend must be 'asyncio' or 'trio', not 'twisted'"),
    ],
)
def test_an_exploration_of_nothing_is_refused(options: dict[str, Any], error: type[Exception], words: str) -> None:
    """It would pass without having tried anything."""
    with pytest.raises(error, match=words):
        explore(nothing, **options)


def test_a_scenario_that_was_called_is_refused() -> None:
    """It is given without parentheses."""
    coroutine: Any = nothing()
    with pytest.raises(TypeError, match="given without calling it"):
        run(coroutine)
    coroutine.close()
