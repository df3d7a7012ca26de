"""Threads of tools: how many, how they are given up, and that they never hold the process."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any

import anyio
import pytest
from anyio import from_thread
from anyio.lowlevel import checkpoint

from greenroom import Agent, System, tool
from greenroom.actors import Home
from greenroom.agents import blocking, threads
from greenroom.agents.threads import ThreadCall, Threads
from greenroom.providers import Scripted, call


async def until(condition: Callable[[], object]) -> None:
    """Let the others work until it is so."""
    with anyio.fail_after(5):
        while not condition():
            await anyio.sleep(0.001)


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "greenroom-tool"]


def join_ours() -> None:
    for thread in ours():
        thread.join(5)
    assert ours() == []


@pytest.mark.anyio
async def test_a_hanging_thread_keeps_its_slot_until_its_function_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that are given up cannot pile up threads; those that find none say what they waited for."""
    monkeypatch.setattr(threads, "THREADS", 2)
    release, hanging = threading.Event(), []

    @tool(timeout=0.1)
    def hang() -> str:
        """Hang."""
        hanging.append(threading.current_thread())
        release.wait(30)
        return "late"

    def quick() -> str:
        """Return."""
        return "at last"

    agent = Agent("helper", Scripted([call("hang")] * 6, [call("quick")], "ok"), tools=[hang, quick])
    try:
        async with System() as system:
            run = await system.start(agent, "Go")
            await until(lambda: len(agent.provider.requests) == 2)  # type: ignore[attr-defined]
            assert len(hanging) == 2
            release.set()
            result = await run.result()
    finally:
        release.set()
    told = [each.content for message in result.messages for each in message.tool_results]
    assert sorted(told[:6]) == ["timed out after 0.1 s"] * 2 + ["timed out after 0.1 s waiting for a free thread"] * 4
    assert told[6] == "at last"
    assert len(result.outlived) == 2
    join_ours()


@pytest.mark.anyio
async def test_threads_that_wait_for_subagents_leave_them_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there are slots, each with a subagent that needs threads itself, three deep."""
    monkeypatch.setattr(threads, "THREADS", 2)

    def look() -> str:
        """Look."""
        return "seen"

    def ask_low() -> str:
        """Ask."""
        return from_thread.run(Agent("low", Scripted([call("look")] * 3, "low"), tools=[look]).run, "Go").output

    def ask_middle() -> str:
        """Ask."""
        middle = Agent("middle", Scripted([call("ask_low")] * 3, "middle"), tools=[ask_low])
        return from_thread.run(middle.run, "Go").output

    with anyio.fail_after(10):
        result = await Agent("top", Scripted([call("ask_middle")] * 3, "top"), tools=[ask_middle]).run("Go")
    told = [each.content for message in result.messages for each in message.tool_results]
    assert told == ["middle"] * 3
    join_ours()


@pytest.mark.anyio
async def test_the_threads_of_all_depths_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deep down there is one slot for each depth: enough to go on."""
    monkeypatch.setattr(threads, "DEEP", 1)
    stage = Threads(Home())
    release, running = threading.Event(), []

    def block() -> None:
        running.append(1)
        release.wait(30)

    async with anyio.create_task_group() as group:
        calls = [ThreadCall(block) for _ in range(3)]
        for each in calls:
            group.start_soon(stage.run, each, 1)
        await until(lambda: running)
        await anyio.wait_all_tasks_blocked()
        assert sorted(each.waits for each in calls) == [False, True, True]
        release.set()
    assert len(running) == 3
    stage.close()
    join_ours()


@pytest.mark.anyio
async def test_a_call_counts_as_running_from_the_moment_it_is_handed_over() -> None:
    """So a stop in between names it; not if it is withdrawn before the thread has begun."""
    ran: list[int] = []
    withdrawn = ThreadCall(lambda: ran.append(1))
    assert (withdrawn.waits, withdrawn.runs) == (True, False)
    withdrawn.runs = True
    withdrawn.give_up()
    withdrawn.perform()
    assert not withdrawn.runs
    assert not ran


class Unmoved:
    """A thread that has not got to its jobs yet."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[Any] = SimpleQueue()


@pytest.mark.anyio
@pytest.mark.parametrize("begun", [False, True])
async def test_a_stop_within_the_hand_over_names_exactly_what_will_run(begun: bool, anyio_backend: str) -> None:
    """The thread has the call but has not begun with it, or just has."""
    if anyio_backend == "trio":
        pytest.skip("trio keeps its own threads")
    stage = Threads(Home())
    worker: Any = Unmoved()
    stage._idle.append(worker)
    ran: list[int] = []
    call = ThreadCall(lambda: ran.append(1))
    async with anyio.create_task_group() as group:
        group.start_soon(stage.run, call, 0)
        await until(lambda: not worker.jobs.empty())
        assert call.runs
        if begun:
            call._claim.acquire()
        group.cancel_scope.cancel()
    assert call.runs is begun
    job, _, ended = worker.jobs.get()
    job.perform()
    ended()
    assert not ran
    assert stage._slots[0].value == threads.THREADS
    assert stage._idle == [worker]
    stage.close()


@pytest.mark.anyio
async def test_a_call_that_is_cancelled_before_its_thread_takes_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor runs. While it waits for a slot, too."""
    monkeypatch.setattr(threads, "THREADS", 1)
    stage = Threads(Home())
    ran: list[str] = []
    release = threading.Event()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await stage.run(ThreadCall(lambda: ran.append("cancelled")), 0)
    async with anyio.create_task_group() as group:
        holding = ThreadCall(lambda: release.wait(30))
        group.start_soon(stage.run, holding, 0)
        await until(lambda: not holding.waits)
        async with anyio.create_task_group() as waiting:
            late = ThreadCall(lambda: ran.append("late"))
            waiting.start_soon(stage.run, late, 0)
            await anyio.wait_all_tasks_blocked()
            assert late.waits
            waiting.cancel_scope.cancel()
        release.set()
    await stage.run(ThreadCall(lambda: ran.append("free")), 0)
    assert ran == ["free"]
    stage.close()
    join_ours()


variable: ContextVar[str] = ContextVar("variable", default="nothing")


@pytest.mark.anyio
async def test_a_function_finds_its_context_and_the_way_back_to_the_loop() -> None:
    """Context variables, `anyio.from_thread` without a token; what it sets stays its own."""
    variable.set("ours")
    loop_thread = threading.get_ident()

    async def back() -> tuple[int, str]:
        await checkpoint()
        return threading.get_ident(), variable.get()

    def work() -> Any:
        """Work."""
        from_thread.check_cancelled()
        found = variable.get()
        variable.set("theirs")
        return found, from_thread.run(back), from_thread.run_sync(threading.get_ident), threading.get_ident()

    stage = Threads(Home())
    found, there, ident, thread = await stage.run(ThreadCall(work), 0)
    assert (found, there, ident) == ("ours", (loop_thread, "theirs"), loop_thread)
    assert thread != loop_thread
    assert variable.get() == "ours"
    stage.close()
    join_ours()


@pytest.mark.anyio
async def test_what_a_function_raises_is_the_calls_result() -> None:
    """Also what a coroutine cannot raise; and the thread is good for more."""
    errors: list[BaseException] = [ValueError("bad"), StopIteration("stop")]

    def fail() -> str:
        """Fail."""
        raise errors.pop(0)

    agent = Agent("helper", Scripted([call("fail")], [call("fail")], "ok"), tools=[fail])
    result = await agent.run("Go")
    told = [each.content for message in result.messages for each in message.tool_results]
    assert told[0] == "ValueError: bad"
    assert "StopIteration" in told[1]
    join_ours()


@pytest.mark.anyio
async def test_threads_are_used_again_and_end_with_their_stage(anyio_backend: str) -> None:
    """One after the other needs one thread."""
    if anyio_backend == "trio":
        pytest.skip("trio keeps its own threads")

    def who() -> str:
        """Say who."""
        return str(threading.get_ident())

    lines: list[Any] = [[call("who")]] * 5
    async with System() as system:
        run = await system.start(Agent("helper", Scripted(*lines, "ok"), tools=[who]), "Go")
        result = await run.result()
        assert len(ours()) == 1
        assert ours()[0].daemon
    assert len({each.content for message in result.messages for each in message.tool_results}) == 1
    join_ours()


PROGRAM = """
    import sys, threading, time
    import anyio
    from greenroom import Agent, tool
    from greenroom.providers import Scripted, call

    @tool(timeout=0.05)
    def hang() -> str:
        "Hang."
        time.sleep(60)

    async def main():
        result = await Agent("helper", Scripted([call("hang")], "ok"), tools=[hang]).run("Go")
        print(result.output, result.outlived)

    anyio.run(main, backend=sys.argv[1])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_thread_that_was_left_does_not_keep_the_process(backend: str) -> None:
    """It ends with the process, not the other way round."""
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout.split() == ["ok", "('hang:call_1',)"], done.stderr
    assert done.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_interrupt_of_run_sync_ends_the_run_in_its_thread(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a running loop: Ctrl-C while the caller waits cancels the inner run, whose tools clean up."""
    monkeypatch.setattr(blocking, "_loop_is_running", lambda: True)
    main = threading.main_thread().ident
    assert main is not None
    seen: list[Any] = []

    async def hang() -> str:
        """Hang."""
        seen.append(threading.current_thread())
        signal.pthread_kill(main, signal.SIGINT)
        try:
            await anyio.sleep(20)
        finally:
            seen.append("cleaned up")
        return ""

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            Agent("helper", Scripted([call("hang")], "ok"), tools=[hang]).run_sync("Go", backend=backend)
    finally:
        signal.signal(signal.SIGINT, before)
    thread = seen[0]
    assert thread.daemon
    thread.join(5)
    assert not thread.is_alive()
    assert seen[1:] == ["cleaned up"]


@pytest.mark.anyio
async def test_a_thread_that_exits_is_a_failed_call() -> None:
    """As everywhere in Python: `sys.exit` ends a thread and no program. Parsers of command lines call it."""

    def parse() -> str:
        """Parse."""
        sys.exit(2)

    async def beside() -> str:
        """Go on."""
        return "went on"

    script = Scripted([call("parse"), call("beside")], "done")
    result = await Agent("helper", script, tools=[parse, beside]).run("Go")
    failed, fine = (each.tool_results[0] for each in result.messages if each.role == "tool")
    assert (failed.cause, failed.content) == ("failed", "SystemExit: 2")
    assert fine.content == "went on"


@pytest.mark.anyio
async def test_the_tree_of_a_run_belongs_to_its_loop() -> None:
    async with System() as system:
        run = await system.start(Agent("helper", Scripted("done")), "Go")
        await run.result()
        assert run.tree().state == "ended"
        with pytest.raises(RuntimeError, match=r"tree\(\) belongs to the system's event loop"):
            await anyio.to_thread.run_sync(run.tree)
