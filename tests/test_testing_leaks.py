"""What is left behind: threads, child processes, descriptors and tasks are found, idle pools and garbage are not; and
the plugin for pytest that looks for them around every test."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import os
import re
import socket
import subprocess
import sys
import threading
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, NamedTuple

import anyio
import pytest
import trio
from anyio import to_thread
from anyio.lowlevel import checkpoint

from greenroom import Agent, System, tool
from greenroom.actors import Home
from greenroom.agents.threads import ThreadCall, Threads
from greenroom.providers import Scripted, call
from greenroom.testing import leaks, plugin
from greenroom.testing.leaks import Leak, running_tasks, snapshot

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="child processes are seen on Linux only")
SLEEPER = [sys.executable, "-c", "import sys; sys.stdin.read()"]


class Blocked(NamedTuple):
    """A function for a thread that lasts until it is released."""

    entered: threading.Event
    release: threading.Event

    def __call__(self) -> None:
        """Wait."""
        self.entered.set()
        self.release.wait(30)


@pytest.fixture
def blocked() -> Generator[Blocked]:
    """A function for a thread; whatever thread runs it comes back when the test is over."""
    function = Blocked(threading.Event(), threading.Event())
    yield function
    function.release.set()


def joined(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


# -- threads


def test_a_thread_is_found_until_it_ends(blocked: Blocked) -> None:
    before = snapshot()
    assert before.leaked() == []
    thread = threading.Thread(target=blocked, name="stray", daemon=True)
    thread.start()
    (line,) = before.leaked()
    assert re.fullmatch(r"thread 'stray' \(daemon\) in Blocked\.__call__ \(tests/test_testing_leaks\.py:\d+\)", line)
    assert snapshot().leaked() == []
    blocked.release.set()
    joined(thread)
    assert before.leaked() == []


def waiting_until(when: float, act: Callable[[], object]) -> Any:
    """A clock in the place of `time`, in which waiting takes no time. It calls `act` when it shows `when` seconds."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] - seconds < when <= now[0]:
            act()

    return SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)


def test_a_thread_that_is_about_to_end_is_waited_for(blocked: Blocked, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot()
    thread = threading.Thread(target=blocked)
    thread.start()

    def end() -> None:
        blocked.release.set()
        joined(thread)

    monkeypatch.setattr(leaks, "time", waiting_until(leaks.HASTE * 2, end))
    assert len(before.leaked()) == 1
    monkeypatch.setattr(leaks, "time", waiting_until(leaks.HASTE / 2, end))
    assert before.leaked() == []


@pytest.mark.anyio
async def test_a_thread_of_the_backends_pool_is_found_while_it_runs_a_job(blocked: Blocked) -> None:
    """Scenario INV1: idle it is kept for the next job; at work it is a thread like any other."""
    fresh = snapshot()
    await to_thread.run_sync(lambda: None)
    assert fresh.leaked() == []
    idle = snapshot()
    async with anyio.create_task_group() as group:
        group.start_soon(functools.partial(to_thread.run_sync, blocked, abandon_on_cancel=True))
        while not blocked.entered.is_set():
            await checkpoint()
        group.cancel_scope.cancel()
    for before in (fresh, idle):
        (line,) = before.leaked()
        assert "in Blocked.__call__ (" in line
    assert snapshot().leaked() == []
    blocked.release.set()
    assert idle.leaked() == []
    assert fresh.leaked() == []


@pytest.mark.anyio
async def test_a_job_in_c_is_a_job() -> None:
    """Such a job has no frame of its own."""
    lock = threading.Lock()
    lock.acquire()
    before = snapshot()
    async with anyio.create_task_group() as group:
        group.start_soon(functools.partial(to_thread.run_sync, lock.acquire, abandon_on_cancel=True))
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert len(before.leaked()) == 1
    lock.release()
    assert before.leaked() == []


def test_the_threads_of_a_loop_are_gone_with_it() -> None:
    async def main() -> None:
        inside = snapshot()
        await to_thread.run_sync(lambda: None)
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        assert inside.leaked() == []

    before = snapshot()
    asyncio.run(main())
    assert before.leaked() == []


def test_an_executor_that_was_not_shut_down_is_found() -> None:
    before = snapshot()
    executor = concurrent.futures.ThreadPoolExecutor(1)
    executor.submit(lambda: None).result()
    (line,) = before.leaked()
    assert line.startswith("thread 'ThreadPoolExecutor-")
    executor.shutdown()
    assert before.leaked() == []


@pytest.mark.anyio
async def test_a_tool_that_was_given_up_is_found_and_an_idle_thread_for_tools_is_not(blocked: Blocked) -> None:
    """Scenario INV1: no thread more than before, except one that was declared abandoned."""

    @tool(timeout=0.05)
    def hang() -> str:
        """Hang."""
        blocked()
        return "late"

    def quick() -> str:
        """Return."""
        return "quick"

    before = snapshot()
    async with System() as system:
        opened = snapshot()
        run = await system.start(Agent("a", Scripted([call("quick")], "ok"), tools=[quick]), "Go")
        await run.result()
        assert opened.leaked() == []
        run = await system.start(Agent("b", Scripted([call("hang")], "ok"), tools=[hang]), "Go")
        assert len((await run.result()).outlived) == 1
    (line,) = before.leaked()
    assert "in Blocked.__call__ (" in line
    blocked.release.set()
    assert before.leaked() == []


def test_a_thread_for_tools_that_outlives_its_loop_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle or not: nobody can give it a job any more. It has nothing to do but to end, so it has longer for that."""
    opened: list[Threads] = []

    async def main() -> None:
        inside = snapshot()
        opened.append(Threads(Home()))
        await opened[0].run(ThreadCall(lambda: None), 0)
        assert inside.leaked() == []

    def end() -> None:
        opened[0].close()
        joined(*(thread for thread in threading.enumerate() if thread.name == "greenroom-tool"))

    before = snapshot()
    asyncio.run(main())
    monkeypatch.setattr(leaks, "time", waiting_until(leaks.PATIENCE * 2, end))
    (line,) = before.leaked()
    assert line.startswith("thread 'greenroom-tool'")
    assert snapshot().leaked() == []
    monkeypatch.setattr(leaks, "time", waiting_until(leaks.PATIENCE / 2, end))
    assert before.leaked() == []


def test_the_thread_in_which_a_guest_run_of_trio_waits_is_none_of_a_test() -> None:
    """The event loop of a module's fixtures is one, and it may have come to wait meanwhile."""
    steps: SimpleQueue[Callable[[], object]] = SimpleQueue()
    ended: list[object] = []
    waits = threading.Event()
    end: list[Callable[[], None]] = []

    async def main() -> None:
        event, token = trio.Event(), trio.lowlevel.current_trio_token()
        end.append(lambda: token.run_sync_soon(event.set))
        waits.set()
        await event.wait()

    before = snapshot()
    trio.lowlevel.start_guest_run(main, run_sync_soon_threadsafe=steps.put, done_callback=ended.append)
    while not waits.is_set():
        steps.get()()
    assert [line for line in before.leaked() if line.startswith("thread")] == []
    assert "get_events" in {frame.f_code.co_name for frame in sys._current_frames().values()}
    end[0]()
    while not ended:
        steps.get()()
    assert before.leaked() == []


# -- processes


@LINUX
def test_a_child_process_is_found_until_somebody_waited_for_it() -> None:
    before = snapshot()
    child = subprocess.Popen(SLEEPER, stdin=subprocess.PIPE)
    assert child.stdin is not None
    process, pipe = before.leaked()
    assert process.startswith(f"process {child.pid}: {sys.executable} -c import sys;")
    assert pipe.startswith(f"descriptor {child.stdin.fileno()} pipe:")
    assert snapshot().leaked() == []
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert before.leaked() == [f"process {child.pid}: it has ended, but nobody waited for it"]
    child.wait()
    assert before.leaked() == []


@LINUX
def test_a_child_that_another_thread_started_is_found() -> None:
    """The kernel keeps a list for each thread."""
    before = snapshot()
    started: list[subprocess.Popen[bytes]] = []
    go_on = threading.Event()

    def start() -> None:
        started.append(subprocess.Popen(SLEEPER, stdin=subprocess.PIPE))
        go_on.wait(30)

    thread = threading.Thread(target=start)
    thread.start()
    while not started:
        time.sleep(0.001)
    found = before.leaked()
    go_on.set()
    joined(thread)
    with started[0]:
        assert [line.partition(" ")[0] for line in found] == ["thread", "process", "descriptor"]
    assert before.leaked() == []


# -- descriptors


def test_files_and_sockets_are_found_until_they_are_closed(tmp_path: Path) -> None:
    before = snapshot()
    path = tmp_path / "file"
    with path.open("w") as file, socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address) as client:
            found = before.leaked()
            expected = [
                f"descriptor {file.fileno()} {path}",
                f"descriptor {server.fileno()} socket:… ({address}, not connected)",
                f"descriptor {client.fileno()} socket:… ({client.getsockname()} to {address})",
            ]
    if sys.platform == "linux":
        assert sorted(re.sub(r"\[\d+]", "…", line) for line in found) == sorted(expected)
    else:
        assert len(found) == 3
    assert before.leaked() == []


def test_another_file_under_the_same_number_is_found() -> None:
    first, second = os.pipe()
    before = snapshot()
    os.close(first)
    assert before.leaked() == []
    third, fourth = os.pipe()
    try:
        assert third == first
        assert [int(line.split()[1]) for line in before.leaked()] == sorted([third, fourth])
    finally:
        for each in (second, third, fourth):
            os.close(each)


def test_where_descriptors_cannot_be_listed_none_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "_DESCRIPTORS", None)
    before = snapshot()
    assert before.descriptors == {}
    with open(os.devnull):
        assert before.leaked() == []


# -- garbage


class Owner:
    """Owns descriptors until it is freed, which only the collector does: it refers to itself."""

    def __init__(self) -> None:
        self.itself = self
        self.descriptors = os.pipe()

    def __del__(self) -> None:
        """Close them."""
        for each in self.descriptors:
            os.close(each)


@contextmanager
def no_collection() -> Iterator[list[Any]]:
    """The collector runs on demand only; the list grows with each run."""
    runs: list[Any] = []

    def note(phase: str, _: Any) -> None:
        runs.append(phase)

    gc.disable()
    gc.callbacks.append(note)
    try:
        yield runs
    finally:
        gc.callbacks.remove(note)
        gc.enable()


def test_garbage_is_no_leak_and_is_collected_only_when_something_seems_left() -> None:
    before = snapshot()
    with no_collection() as runs:
        assert before.leaked() == []
        assert runs == []
        Owner()
        assert before.leaked() == []
        assert runs == ["start", "stop"]


def test_a_leak_lists_what_was_left() -> None:
    leak = Leak(["thread 'a'", "descriptor 7"])
    assert isinstance(leak, AssertionError)
    assert str(leak) == "left behind:\n  thread 'a'\n  descriptor 7"
    assert leak.leaked == ("thread 'a'", "descriptor 7")


# -- tasks


async def rest() -> None:
    await anyio.sleep_forever()


@pytest.mark.anyio
@pytest.mark.leaks("a trio task of the system ends with the loop", "task")
async def test_a_task_that_belongs_to_nobody_here_is_found(anyio_backend_name: str) -> None:
    """Scenario INV1: no task that is neither an ancestor nor known from before."""
    async with anyio.create_task_group() as group:
        group.start_soon(rest, name="known")
        await anyio.wait_all_tasks_blocked()
        before = running_tasks()
        assert before.leaked() == []
        if anyio_backend_name == "asyncio":
            stray = asyncio.create_task(rest(), name="stray")
            cancel: Callable[[], object] = stray.cancel
        else:
            scope = trio.CancelScope()
            cancel = scope.cancel

            async def in_scope() -> None:
                with scope:
                    await rest()

            trio.lowlevel.spawn_system_task(in_scope, name="stray")
        await anyio.wait_all_tasks_blocked()
        (line,) = before.leaked()
        assert re.fullmatch(r"task 'stray' in rest \(tests/test_testing_leaks\.py:\d+\)", line)
        assert await before.settled() == [line]
        cancel()
        assert await before.settled() == []
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_the_caller_and_its_ancestors_are_no_leak() -> None:
    before = running_tasks()
    found: list[list[str]] = []

    async def inner() -> None:
        found.append(before.leaked())

    async def outer() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(inner)

    async with anyio.create_task_group() as group:
        group.start_soon(outer)
    assert found == [[]]


@pytest.mark.anyio
async def test_what_a_known_task_starts_is_no_leak_and_what_the_caller_starts_is() -> None:
    go_on = anyio.Event()

    async def server() -> None:
        async with anyio.create_task_group() as connections:
            await go_on.wait()
            connections.start_soon(rest, name="connection")

    async with anyio.create_task_group() as group:
        group.start_soon(server)
        await anyio.wait_all_tasks_blocked()
        before = running_tasks()
        go_on.set()
        await anyio.wait_all_tasks_blocked()
        assert "connection" in {info.name for info in anyio.get_running_tasks()}
        assert before.leaked() == []
        group.start_soon(rest, name="stray")
        (line,) = before.leaked()
        assert line.startswith("task 'stray'")
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_task_that_is_ending_gets_a_number_of_checkpoints_for_it() -> None:
    before = running_tasks()
    turns: list[int] = []

    async def wind_down() -> None:
        for turn in range(40):
            await checkpoint()
            turns.append(turn)

    async with anyio.create_task_group() as group:
        group.start_soon(wind_down)
        assert len(await before.settled(20)) == 1
        assert 15 < len(turns) < 40
        assert await before.settled() == []


# -- the plugin, in a process of its own

SUITE = """
import gc
import asyncio, gc, os, socket, subprocess, threading

import anyio
import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies

kept = []


@pytest.fixture(autouse=True)
def always(no_leaks):
    pass


@pytest.fixture(scope="module")
def module_pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture
async def server(anyio_backend):
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, anyio.aclose_forcefully)
        await anyio.wait_all_tasks_blocked()
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        group.cancel_scope.cancel()


def leave_a_thread():
    threading.Thread(target=threading.Event().wait, name="stray", daemon=True).start()


def leave_a_task(backend):
    if backend == "asyncio":
        kept.append(asyncio.create_task(anyio.sleep_forever(), name="stray"))
    else:
        import trio

        trio.lowlevel.spawn_system_task(trio.sleep_forever, name="stray")


def test_clean(module_pipe):
    left, right = socket.socketpair()
    left.close()
    right.close()


def test_thread():
    leave_a_thread()


def test_descriptor():
    kept.append(socket.socketpair())


def test_process():
    kept.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE))  # ends with its parent


def test_failing():
    leave_a_thread()
    assert False, "the test's own failure"


@pytest.mark.leaks("a thread that cannot be ended")
def test_declared():
    leave_a_thread()


@pytest.mark.leaks("a thread that cannot be ended", "thread")
def test_declared_otherwise():
    leave_a_thread()
    kept.append(os.pipe())


@pytest.mark.leaks("of no such kind", "thraed")
def test_misdeclared():
    pass


@pytest.mark.leaks
def test_undeclared():
    pass


@pytest.mark.anyio
async def test_async_clean(server):
    async with await anyio.connect_tcp("127.0.0.1", server):
        await anyio.to_thread.run_sync(lambda: None)


@pytest.mark.anyio
async def test_async_descriptor(server):
    kept.append(os.pipe())


@pytest.mark.anyio
async def test_async_task(anyio_backend):
    leave_a_task(anyio_backend)


@pytest.mark.anyio
@pytest.mark.leaks("it ends with the loop", "task")
async def test_async_declared(anyio_backend):
    leave_a_task(anyio_backend)


@pytest.mark.anyio
async def test_async_failing(anyio_backend):
    leave_a_task(anyio_backend)
    assert False, "the test's own failure"


@pytest.mark.anyio
@settings(database=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=strategies.integers())
async def test_async_examples(anyio_backend, number):
    leave_a_task(anyio_backend)


@pytest.mark.anyio
async def test_async_ending(anyio_backend):
    async def wind_down():
        for _ in range(20):
            await anyio.sleep(0)

    if anyio_backend == "asyncio":
        kept.append(asyncio.create_task(wind_down()))


def test_seeds(seeds):
    assert False, f"{seeds}"


def test_collector():
    # What the suite holds is hidden from it.
    assert gc.isenabled() and len(gc.get_objects()) < 10_000 < gc.get_freeze_count()
"""

SHARED = """
import anyio
import pytest

pytestmark = pytest.mark.anyio
kept = []


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture(scope="module")
async def port(anyio_backend):
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, anyio.aclose_forcefully)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        group.cancel_scope.cancel()


@pytest.mark.parametrize("time", range(5))
async def test_shared_server(no_leaks, port, time):
    async with await anyio.connect_tcp("127.0.0.1", port):
        await anyio.to_thread.run_sync(lambda: None)


async def test_shared_loop(no_leaks, port):
    kept.append(await anyio.connect_tcp("127.0.0.1", port))
"""


def suite(folder: Path, *arguments: str, **environment: str) -> str:
    """Run both in `folder`; return what pytest printed."""
    (folder / "conftest.py").write_text('pytest_plugins = ["greenroom.testing.plugin"]\n')
    (folder / "test_suite.py").write_text(SUITE)
    (folder / "test_shared.py").write_text(SHARED)
    options = ["-p", "no:cacheprovider", "--strict-markers", "-rA", "--tb=short", "-W", "error", *arguments]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a run of both printed."""
    return suite(tmp_path_factory.mktemp("suite"), GREENROOM_SEEDS="5")


BOTH = ("asyncio", "trio")


@pytest.mark.parametrize(
    ("name", "outcome", "words"),
    [
        ("test_clean", "PASSED", ""),
        ("test_thread", "PASSED ERROR", "thread 'stray' (daemon) in"),
        ("test_descriptor", "PASSED ERROR", "descriptor"),
        pytest.param("test_process", "PASSED ERROR", "process", marks=LINUX),
        ("test_failing", "FAILED", "the test's own failure"),
        ("test_declared", "PASSED", ""),
        ("test_declared_otherwise", "PASSED ERROR", "descriptor"),
        ("test_misdeclared", "ERROR", "with kinds out of thread, process, descriptor, task"),
        ("test_undeclared", "ERROR", '@pytest.mark.leaks("why", …)'),
        *((f"test_async_clean[{each}]", "PASSED", "") for each in BOTH),
        *((f"test_async_descriptor[{each}]", "PASSED ERROR", "descriptor") for each in BOTH),
        *((f"test_async_task[{each}]", "FAILED", "task 'stray' in") for each in BOTH),
        *((f"test_async_declared[{each}]", "PASSED", "") for each in BOTH),
        *((f"test_async_failing[{each}]", "FAILED", "the test's own failure") for each in BOTH),
        *((f"test_async_examples[{each}]", "FAILED", "task 'stray' in") for each in BOTH),
        *((f"test_async_ending[{each}]", "PASSED", "") for each in BOTH),
        *((f"test_shared_server[{each}-{time}]", "PASSED", "") for each in BOTH for time in range(5)),
        *((f"test_shared_loop[{each}]", "PASSED ERROR", "descriptor") for each in BOTH),
        ("test_seeds", "FAILED", "range(0, 5)"),
        ("test_collector", "PASSED", ""),
    ],
)
def test_the_plugin(printed: str, name: str, outcome: str, words: str) -> None:
    """A leak is an error after a test that passed; of a task, it is the test's failure."""
    summary = printed.partition("short test summary info")[2]
    outcomes = re.findall(rf"^(\w+) test_\w+\.py::{re.escape(name)}(?:$| - )", summary, re.MULTILINE)
    assert " ".join(outcomes) == outcome
    if words:
        said = re.search(rf"^_+ .*\b{re.escape(name)} _+$(.*?)(?=^_+ |^=+ )", printed, re.MULTILINE | re.DOTALL)
        assert said is not None
        assert words in said[1]
        assert ("left behind" in said[1]) == ("stray" in words or outcome == "PASSED ERROR")


def test_the_option_for_seeds_wins_over_the_environment(tmp_path: Path) -> None:
    assert "range(0, 7)" in suite(tmp_path, "-k", "seeds", "--seeds", "7", GREENROOM_SEEDS="5")


def test_there_are_200_seeds_unless_told_otherwise() -> None:
    assert plugin._number_of_seeds(None, {}) == 200
    assert plugin._number_of_seeds(None, {"GREENROOM_SEEDS": ""}) == 200
    assert plugin._number_of_seeds(None, {"GREENROOM_SEEDS": "5"}) == 5
    assert plugin._number_of_seeds(7, {"GREENROOM_SEEDS": "5"}) == 7


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_a_number_of_seeds_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=f"a whole number above 0 is needed, not '{text}'"):
        plugin._count(text)
    with pytest.raises(pytest.UsageError, match=f"GREENROOM_SEEDS in the environment: a whole .* not '{text}'"):
        plugin._number_of_seeds(None, {"GREENROOM_SEEDS": text})


def test_garbage_is_looked_for_again_now_and_then(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    monkeypatch.setattr(plugin, "hide_what_is_there", lambda: looks.append(1))
    monkeypatch.setattr(plugin, "LOOK_EVERY", 3)
    for _ in range(9):
        plugin.pytest_runtest_teardown(request.node)
    assert len(looks) == 3
