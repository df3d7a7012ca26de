"""Processes of tools: what comes back from them, and that they can always be ended, with all they have started."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from greenroom import Agent, RunContext, System, Tool, tool
from greenroom.actors import Home
from greenroom.agents import process_worker, processes
from greenroom.agents.processes import ProcessCall, ProcessError, Processes
from greenroom.providers import Message, Retry, Scripted, ToolCall, ToolResult, call
from greenroom.testing import Interruption, interrupt_everywhere, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
FOLDER = str(Path(__file__).parent / "elsewhere")
SCENARIO_66 = ("timeout", "stop", "kill")


@pytest.fixture(autouse=True)
def import_path() -> Iterator[None]:
    """The functions lie in modules that a process can import."""
    sys.path.insert(0, FOLDER)
    try:
        yield
    finally:
        sys.path.remove(FOLDER)


def there(name: str, **options: Any) -> Tool[..., Any]:
    """One of the functions as a tool with a process."""
    function = getattr(importlib.import_module("process_functions"), name)
    return tool(where="process", **options)(function)


def agent(tools: Any, *turns: Any, **options: Any) -> Agent[Any, str]:
    tools = tools if isinstance(tools, list) else [tools]
    return Agent("helper", Scripted(*turns, "done"), tools=tools, **options)


def told(messages: tuple[Message, ...]) -> list[ToolResult]:
    return [result for message in messages for result in message.tool_results]


async def ask(given: Any, **arguments: Any) -> ToolResult:
    """Call one tool, in the System that is open, if one is."""
    result = await agent(given, [call(given.name, **arguments)]).run("Go")
    assert result.outlived == ()
    return told(result.messages)[0]


def state_and_group(pid: int) -> tuple[str, int]:
    """A letter, X for a process that there is not, and the id of its group."""
    try:
        state, _, group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return "X", 0
    return state, int(group)


def lives(pid: int) -> bool:
    """Whether a process runs; one that has only not been waited for does not."""
    return state_and_group(pid)[0] not in "ZX"


def group_of(pid: int) -> list[int]:
    """The processes that live in the group that this one leads."""
    found = [int(each) for each in os.listdir("/proc") if each.isdecimal()]
    return [each for each in found if state_and_group(each)[1] == pid and lives(each)]


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.002)


async def pid_in(path: Path) -> int:
    """What a hanging function has written there."""
    await until(path.exists)
    return int(path.read_text())


# -- what comes back


@pytest.mark.anyio
@pytest.mark.parametrize(
    "name",
    [
        *("text", "nothing", "number", "not a number", "list", "record", "date", "object", "objects", "bytes"),
        *("surrogate", "bad bytes", "generator"),
    ],
)
async def test_a_result_is_what_a_tool_in_a_thread_would_give(name: str) -> None:
    """Arbitrary values, made text where they are."""
    function = importlib.import_module("process_functions").value
    assert await ask(there("value"), name=name) == await ask(tool(where="thread")(function), name=name)


@pytest.mark.anyio
async def test_arguments_arrive_as_the_function_wants_them() -> None:
    """Classes, dates, enums; a default is the very object."""
    result = await ask(there("types"), point={"x": 1}, day="2026-01-02", colour="red")
    assert result.content == "Point(x=1, y=0.5) datetime.date(2026, 1, 2) <Colour.RED: 'red'> True"


@pytest.mark.anyio
async def test_a_given_schema_gets_its_arguments_as_json() -> None:
    schema = {"type": "object", "properties": {"day": {"type": "string"}}}
    function = importlib.import_module("process_functions").as_given
    given = Tool.from_schema("as_given", "As given.", schema, function, where="process")
    assert (await ask(given, day="2026-01-02")).content == '{"day":"2026-01-02"}'


@pytest.mark.anyio
async def test_a_decorated_function_is_called_by_its_own_name() -> None:
    """Also one in a class; and images come as images, though their class is made in the other process."""
    tools = importlib.import_module("process_tools")
    assert (await ask(tools.decorated, text="up")).content == "UP"
    box = importlib.import_module("process_functions").Box
    assert (await ask(tool(where="process")(box.add), a=1, b=2)).content == "3"
    parts = (await ask(tools.picture)).parts
    assert parts is not None
    assert [type(part).__name__ for part in parts] == ["Text", "Image"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("value", "ValueError: bad"),
        ("custom", "Custom: refused"),
        ("exit", "SystemExit: 3"),
        ("interrupt", "KeyboardInterrupt: "),
        ("mute", "Mute: (its message cannot be shown)"),
        ("long", f"ValueError: {'x' * 88}\n[cut: 412 more characters]"),
    ],
)
async def test_what_a_function_raises_is_told(kind: str, text: str) -> None:
    """Whatever it is, and the process is good for more."""
    result = await ask(there("raises", max_result=100), kind=kind)
    assert (result.content, result.is_error, result.cause) == (text, True, "failed")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("how", "text", "cause"),
    [
        ("retry:use another", "use another", "invalid"),
        ("retry:", "try again with other arguments", "invalid"),
        ("failed:no such thing", "no such thing", "failed"),
        ("failed:", "the tool failed", "failed"),
    ],
)
async def test_what_steers_a_run_keeps_its_meaning(how: str, text: str, cause: str) -> None:
    result = await ask(importlib.import_module("process_tools").steer, how=how)
    assert (result.content, result.is_error, result.cause) == (text, True, cause)


@pytest.mark.anyio
async def test_something_to_be_awaited_is_no_result() -> None:
    result = await ask(there("waits_for_it"))
    assert result.content == "TypeError: returned something to be awaited: a process needs a plain def"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("how", "text"),
    [
        (str(signal.SIGSEGV.value), "the process was killed by signal 11 (SIGSEGV) before the call returned"),
        (str(signal.SIGKILL.value), "the process was killed by signal 9 (SIGKILL) before the call returned"),
        ("40", "the process was killed by signal 40 before the call returned"),
        ("exit", "the process ended with exit code 3 before the call returned"),
    ],
)
async def test_a_process_that_dies_fails_its_call_alone(how: str, text: str) -> None:
    """The next call gets another one."""
    tools = [there("die"), there("pid")]
    async with System(processes=1):
        result = await agent(tools, [call("die", how=how), call("pid")]).run("Go")
    died, alive = told(result.messages)
    assert (died.content, died.is_error, died.cause) == (text, True, "failed")
    assert not alive.is_error


@pytest.mark.anyio
async def test_large_results_and_arguments_get_through() -> None:
    """More than any buffer holds, both ways; what is longer than the tool allows is cut over there."""
    big, length = there("big", max_result=3_000_000), there("length")
    assert len((await ask(big, characters=3_000_000)).content) == 3_000_000
    assert (await ask(big, characters=50_000_000)).content.endswith("x\n[cut: 47000000 more characters]")
    assert (await ask(length, text="x" * 3_000_000)).content == "3000000"


@pytest.mark.anyio
async def test_what_a_function_prints_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    """It goes where errors go; there is nothing to read on standard input."""
    assert (await ask(there("prints"))).content == ""
    output, errors = capfd.readouterr()
    assert output == ""
    assert sorted(errors.splitlines()) == ["by a child", "into the descriptor", "on standard output"]


@pytest.mark.anyio
async def test_a_copy_of_the_process_does_not_answer(capfd: pytest.CaptureFixture[str]) -> None:
    """A function that forks returns twice."""
    assert (await ask(there("fork_and_return"))).content == "parent"
    assert capfd.readouterr().err == ""


@pytest.mark.anyio
async def test_arguments_without_a_json_form_are_refused() -> None:
    """No provider gives such; what was made by hand may be."""
    made = ToolCall("call_1", "pid", {"it": object()})
    with pytest.raises(ValueError, match="the arguments of pid cannot be sent to a process: Encoding objects of type"):
        ProcessCall(Processes(Home()), there("pid"), made)


@pytest.mark.anyio
async def test_a_failure_is_tried_again_by_the_kind_that_was_raised() -> None:
    """A class that only the process has made an object of; and the death of a process is an error too."""
    patient = Retry(attempts=3, base=0.0)
    run_of = partial(Agent[None, str].run, prompt="Go")
    for retry_on, tries in ((ConnectionError, 3), (ValueError, 1), (Exception, 3), (ProcessError, 3)):
        heard: list[Any] = []
        given = there("raises", retries=patient, retry_on=retry_on)
        await run_of(agent(given, [call("raises", kind="custom")]), on_event=heard.append)
        assert 1 + [event.type for event in heard].count("tool.retrying") == tries, retry_on
    heard = []
    given = there("die", retries=patient)
    await run_of(agent(given, [call("die", how="exit")]), on_event=heard.append)
    assert [event.type for event in heard].count("tool.retrying") == 2


# -- how it is ended


async def ended_by(how: str, given: Tool[..., Any], started: Path, **arguments: Any) -> tuple[Any, float]:
    """The run of a hanging call that something ends, and the seconds from then to its end."""
    began = time.monotonic()

    async with System() as system:
        run = await system.start(agent(given, [call(given.name, started=str(started), **arguments)]), "Go")
        pid = await pid_in(started)
        if how == "stop":
            began = time.monotonic()
            run.stop()
        elif how == "kill":
            began = time.monotonic()
            run._cell.kill()
        result = await run.result()
        took = time.monotonic() - began
        assert not lives(pid)
        await until(lambda: group_of(pid) == [])  # they have been sent the signal that nobody survives
    assert result.outlived == ()
    return result, took


@pytest.mark.anyio
@pytest.mark.parametrize("how", SCENARIO_66)
async def test_a_tool_ends_with_its_process_group(how: str, tmp_path: Path) -> None:
    """Scenario 66: a shell command with a background grandchild, both of which ignore SIGTERM and write later."""
    sentinel = tmp_path / "sentinel"
    given = there("with_grandchild", timeout=1 if how == "timeout" else None)
    result, _ = await ended_by(how, given, tmp_path / "started", sentinel=str(sentinel))
    expected = "timed_out" if how == "timeout" else "cancelled"
    assert [each.cause for each in told(result.messages)] == [expected]
    assert not sentinel.exists()


@pytest.mark.anyio
async def test_a_stopped_call_is_over_at_once_and_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM is raised in the function."""
    monkeypatch.setattr(process_worker, "GRACE", 30.0)  # on a busy machine the function may be slow to clean up
    cleaned = tmp_path / "cleaned"
    given = there("hang_and_clean_up")
    result, took = await ended_by("stop", given, tmp_path / "started", cleaned=str(cleaned))
    assert cleaned.read_text() == "clean"
    assert took < process_worker.GRACE
    assert result.status == "stopped"


@pytest.mark.anyio
async def test_a_call_that_ignores_its_stop_is_over_after_the_grace(tmp_path: Path) -> None:
    """Scenario 66, of the process itself."""
    result, took = await ended_by("stop", there("hang_deaf"), tmp_path / "started")
    assert process_worker.GRACE <= took < process_worker.GRACE + 1
    assert told(result.messages)[0].cause == "cancelled"


@pytest.mark.anyio
async def test_a_run_that_is_killed_during_the_grace_cuts_it_short(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So a stop with a short grace is kept. The event loop is not kept waiting for the process all the same."""
    monkeypatch.setattr(process_worker, "GRACE", 30.0)
    buried_alive: list[bool] = []
    bury = process_worker.Worker.bury

    def watched(worker: process_worker.Worker) -> None:
        buried_alive.append(not worker.is_buried and worker.is_ready)
        bury(worker)

    monkeypatch.setattr(process_worker.Worker, "bury", watched)
    started = tmp_path / "started"
    async with System() as system:
        run = await system.start(agent(there("hang_deaf"), [call("hang_deaf", started=str(started))]), "Go")
        pid = await pid_in(started)
        with anyio.fail_after(5):
            result = await run.stop(grace=0.05)
        assert not lives(pid)
    assert result.outlived == ()
    assert buried_alive == [False]


@pytest.mark.anyio
async def test_a_run_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    """A timeout of the caller: the call has its grace, and the process is dead when the run has ended."""
    started, cleaned = tmp_path / "started", tmp_path / "cleaned"
    helper = agent(there("hang_and_clean_up"), [call("hang_and_clean_up", started=str(started), cleaned=str(cleaned))])
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(helper.run, "Go")
            pid = await pid_in(started)
            scope.cancel()
    assert not lives(pid)
    assert cleaned.exists()


@pytest.mark.anyio
async def test_asyncios_own_cancellation_may_come_twice(anyio_backend_name: str, tmp_path: Path) -> None:
    """A shield does not hold it off."""
    if anyio_backend_name != "asyncio":
        pytest.skip("trio has no such thing")
    started = tmp_path / "started"
    task = asyncio.create_task(agent(there("hang_deaf"), [call("hang_deaf", started=str(started))]).run("Go"))
    pid = await pid_in(started)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.01)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not lives(pid)


@pytest.mark.anyio
@pytest.mark.parametrize(("how", "look"), [("fork_and_die", 60.0), ("spawn_and_die", 60.0), ("copy_and_die", 0.05)])
async def test_a_grandchild_that_holds_the_socket_keeps_nobody_waiting(
    how: str, look: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario 66: the death of a process is seen, whoever has copies of what it had."""
    monkeypatch.setattr(process_worker, "LOOK", look)
    with anyio.fail_after(5):
        result = await ask(there(how))
    assert result.content == "the process was killed by signal 9 (SIGKILL) before the call returned"


@pytest.mark.anyio
async def test_what_cannot_be_killed_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """As a process that is stuck in the kernel."""
    started = tmp_path / "started"
    with monkeypatch.context() as patch:
        patch.setattr(process_worker, "GRACE", 0.01)
        patch.setattr(process_worker, "LAST", 0.01)
        patch.setattr(process_worker.Worker, "_signal", lambda *_: None)
        async with System() as system:
            run = await system.start(agent(there("hang"), [call("hang", started=str(started))]), "Go")
            pid = await pid_in(started)
            result = await run.stop()
    assert len(result.outlived) == 1
    assert result.outlived[0].startswith("hang:")
    await until(lambda: not lives(pid))  # its own end of the socket tells it that it has been left
    for process in tuple(subprocess._active):  # type: ignore[attr-defined]
        process.wait()


def test_a_run_may_be_interrupted_at_every_step(anyio_backend_name: str) -> None:
    """Whatever the moment: a valid history, no process, no descriptor."""
    given = [there("nap"), there("pid")]

    async def scenario(interruption: Interruption) -> None:
        helper = agent(given, [call("nap", seconds=0.0), call("pid")], [call("pid")])
        with anyio.CancelScope() as scope:
            interruption.arm(scope.cancel)
            result = await helper.run("Go")
            asked = [each.id for message in result.messages for each in message.tool_calls]
            assert [each.call_id for each in told(result.messages)] == asked

    assert interrupt_everywhere(scenario, backend=anyio_backend_name, limit=40) > 10


def test_a_stop_may_come_at_every_step(anyio_backend_name: str) -> None:
    given = [there("nap"), there("pid")]

    async def scenario(interruption: Interruption) -> None:
        async with System(processes=1) as system:
            run = await system.start(agent(given, [call("nap", seconds=0.0), call("pid")], [call("pid")]), "Go")
            interruption.arm(run.stop)
            result = await run.result()
            asked = [each.id for message in result.messages for each in message.tool_calls]
            assert [each.call_id for each in told(result.messages)] == asked
            assert result.outlived == ()

    assert interrupt_everywhere(scenario, backend=anyio_backend_name, limit=40) > 10


# -- the pool


@pytest.mark.anyio
async def test_fifty_calls_share_two_processes() -> None:
    async with System(processes=2):
        result = await agent(there("nap", timeout=30), [call("nap")] * 50).run("Go")
    assert len({each.content for each in told(result.messages)}) == 2
    assert not any(each.is_error for each in told(result.messages))


@pytest.mark.anyio
async def test_a_process_is_used_again() -> None:
    """One after the other needs one, also in another run; it is started when it is needed."""
    async with System() as system:
        assert system.stage.processes.idle == []
        pids = {
            each.content
            for _ in range(3)
            for each in told((await agent(there("pid"), [call("pid")], [call("pid")]).run("Go")).messages)
        }
    assert len(pids) == 1
    assert not lives(int(pids.pop()))


@pytest.mark.anyio
async def test_a_process_whose_tool_leaves_a_child_is_not_used_again() -> None:
    """And the child is killed."""
    async with System(processes=1):
        left = told((await agent(there("leave_child"), [call("leave_child")]).run("Go")).messages)[0]
        process, child = map(int, left.content.split())
        await until(lambda: not lives(child))
        assert not lives(process)
        assert (await ask(there("pid"))).content != str(process)


@pytest.mark.anyio
async def test_a_process_whose_tool_leaves_a_thread_is_not_used_again() -> None:
    """What the thread does would go on unseen."""
    async with System(processes=1):
        process = int((await ask(there("leave_thread"))).content)
        await until(lambda: not lives(process))
        assert (await ask(there("pid"))).content != str(process)


@pytest.mark.anyio
async def test_a_process_that_died_in_its_sleep_is_replaced() -> None:
    async with System(processes=1) as system:
        first = int((await ask(there("pid"))).content)
        os.kill(first, signal.SIGKILL)
        worker = system.stage.processes.idle[0]
        await until(lambda: not worker.is_ready)
        assert int((await ask(there("pid"))).content) != first


@pytest.mark.anyio
async def test_a_call_that_times_out_before_it_has_a_process_says_so(tmp_path: Path) -> None:
    """And takes nothing."""
    started = tmp_path / "started"
    async with System(processes=1) as system:
        run = await system.start(agent(there("hang"), [call("hang", started=str(started))]), "Go")
        await pid_in(started)
        waited = await ask(there("pid", timeout=0.05))
        assert waited.content == "timed out after 0.05 s waiting for a free process"
        await run.stop()
        assert not (await ask(there("pid"))).is_error


@pytest.mark.anyio
async def test_processes_end_in_order_with_their_system(tmp_path: Path) -> None:
    """What the tools' modules have registered is carried out; one that will not end is killed."""
    sentinel = tmp_path / "sentinel"
    async with System(processes=2):
        tools = [there("at_exit"), there("leave_thread")]
        result = await agent(tools, [call("at_exit", sentinel=str(sentinel)), call("leave_thread")]).run("Go")
    assert sentinel.read_text() == "in order"
    assert not lives(int(told(result.messages)[1].content))


@pytest.mark.anyio
async def test_processes_end_in_order_with_a_system_that_is_cancelled(tmp_path: Path) -> None:
    sentinel = tmp_path / "sentinel"
    with anyio.CancelScope() as scope:
        async with System():
            await ask(there("at_exit"), sentinel=str(sentinel))
            scope.cancel()
    assert sentinel.read_text() == "in order"


@pytest.mark.anyio
async def test_a_process_starts_without_greenroom_as_a_whole() -> None:
    """Only a tool's module that imports it does that."""
    assert (await ask(there("loaded"), name="greenroom.agents.process_child")).content == "true"
    assert (await ask(there("loaded"), name="greenroom.agents.tool")).content == "false"
    assert (await ask(there("loaded"), name="anyio")).content == "false"


@pytest.mark.anyio
async def test_a_process_that_cannot_be_started_fails_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async with System(processes=1):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", "/nowhere/python")
            result = await ask(there("pid"))
        assert result.content.startswith("no process could be started for the tool: ")
        assert result.cause == "failed"
        assert not (await ask(there("pid"))).is_error


@pytest.mark.anyio
async def test_a_module_that_a_process_cannot_import_fails_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    given = there("pid")
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != FOLDER])
    result = await ask(given)
    assert result.content == "ModuleNotFoundError: No module named 'process_functions'"


def test_virtual_time_stands_still_while_a_process_works(anyio_backend_name: str) -> None:
    """So a deadline does not pass, though nothing can run here."""

    async def scenario() -> None:
        assert not (await ask(there("nap", timeout=0.1), seconds=0.3)).is_error

    run(scenario, backend=anyio_backend_name)


PROGRAM = """
    import os, sys, time
    sys.path.insert(0, {folder!r})
    import anyio, process_functions
    from greenroom import Agent, System, tool
    from greenroom.providers import Scripted, call

    async def main():
        tools = [tool(where="process")(process_functions.pid), tool(where="process")(process_functions.hang)]
        async with System() as system:
            idle = await Agent("a", Scripted([call("pid"), call("pid")], ""), tools=tools).run("Go")
            copy = os.fork()
            if not copy:
                time.sleep(60)
            print(copy, *(each.tool_results[0].content for each in idle.messages[2:4]), flush=True)
            await Agent("a", Scripted([call("hang", started={started!r})], ""), tools=tools).run("Go")

    anyio.run(main, backend={backend!r})
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_no_process_outlives_its_system(number: signal.Signals, anyio_backend_name: str, tmp_path: Path) -> None:
    """Scenario 43 and worse: those that sleep and those that work end with the program, whatever ends that.

    Also where a copy of the program goes on, which has whatever the program had open.
    """
    started = tmp_path / "started"
    program = textwrap.dedent(PROGRAM.format(folder=FOLDER, started=str(started), backend=anyio_backend_name))
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout is not None
        copy, *pids = [int(pid) for pid in parent.stdout.readline().split()]
        deadline = time.monotonic() + 10
        while not started.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        pids.append(int(started.read_text()))
        parent.send_signal(number)
        parent.wait(10)
    deadline = time.monotonic() + 5
    while any(map(lives, pids)) and time.monotonic() < deadline:
        time.sleep(0.005)
    left = [pid for pid in pids if lives(pid)]
    os.kill(copy, signal.SIGKILL)
    assert left == []


# -- what is refused


def defined_inside() -> Any:
    def inner() -> None:
        """Do."""

    return inner


def in_main() -> None:
    """Do."""


in_main.__module__ = "__main__"


class Holder:
    def method(self) -> None:
        """Do."""


class Callable_:
    def __call__(self) -> None:
        """Do."""


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda: None, "a lambda has no name there"),
        (defined_inside(), "is made anew by each call of the function around it"),
        (Holder().method, "Holder.method is a method of an object that is here"),
        (in_main, "to import this program would run it again"),
        (Callable_(), "needs a plain def at the top of a module"),
        (partial(in_main), "needs a plain def at the top of a module"),
    ],
)
def test_a_function_that_no_process_can_find_is_no_such_tool(function: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why) as raised:
        tool(name="it", where="process")(function)
    assert str(raised.value).startswith("tool 'it': where='process' ")


def replaced() -> None:
    """Do."""


original, replaced = replaced, None  # type: ignore[assignment]


def test_a_function_that_is_not_where_it_says_is_no_such_tool() -> None:
    """Seen when an agent takes it: while its decorator works, it is nowhere yet."""
    given = tool(where="process")(original)
    with pytest.raises(ValueError, match=r"looks for its function at .*replaced, and finds nothing there: put @tool"):
        agent(given)


def test_what_belongs_to_this_process_is_refused() -> None:
    def with_context(context: RunContext) -> None:
        """Do."""

    with_context.__qualname__ = "with_context"
    with pytest.raises(TypeError, match="'context' takes the run's context, which is no use in another process"):
        tool(where="process")(with_context)

    async def waits() -> None:
        """Wait."""

    with pytest.raises(ValueError, match="where='process' needs a plain def"):
        tool(where="process")(waits)
    with pytest.raises(ValueError, match="where must be 'loop', 'thread' or 'process'"):
        tool(where="elsewhere")(waits)  # type: ignore[call-overload]


@pytest.mark.parametrize("number", [0, -1, True, "2", 1.5])
def test_a_number_of_processes_is_a_whole_one(number: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="processes"):
        System(processes=number)


def test_there_are_enough_processes_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert processes.default_number() == 64
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processes.default_number() == 4
