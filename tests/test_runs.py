"""The life of a run: stopping it, cancelling around it, streaming it, finding its System. Nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from greenroom import Agent, NameTaken, Run, RunContext, System, SystemClosed, WouldDeadlock, tool
from greenroom.agents.errors import SeveralSystems
from greenroom.providers import Message, ModelReply, ModelRequest, Provider, Scripted, TextDelta, assistant, call
from greenroom.providers.http import shared_connections

pytestmark = pytest.mark.anyio


class Gate:
    """A place where the code under test waits, and says that it has come there."""

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self.when_reached: Callable[[], object] = lambda: None
        self.open = anyio.Event()
        self.cancelled = 0

    async def wait(self) -> None:
        self.reached.set()
        self.when_reached()
        try:
            await self.open.wait()
        except BaseException:
            self.cancelled += 1
            raise


def blocked_model(gate: Gate) -> Scripted:
    async def reply(request: ModelRequest) -> str:
        await gate.wait()
        return "late"

    return Scripted(reply, "later")


def blocked_tool(gate: Gate) -> Callable[[], Awaitable[str]]:
    async def wait() -> str:
        """Wait."""
        await gate.wait()
        return "waited"

    return wait


class Trickle(Provider):
    """Streams words, one at each call of `say`."""

    name, model = "trickle", "trickle"

    def __init__(self) -> None:
        self.words: list[str | None] = []
        self.more = anyio.Event()
        self.closed = 0

    def say(self, *words: str | None) -> None:
        self.words += words
        self.more.set()

    async def complete(self, request: ModelRequest) -> ModelReply:
        raise AssertionError("this one is for streaming")

    def stream(self, request: ModelRequest) -> Any:
        return _TrickleStream(self)


class _TrickleStream:
    def __init__(self, provider: Trickle) -> None:
        self.provider = provider
        self.text = ""

    @property
    def reply(self) -> ModelReply:
        return ModelReply(assistant(self.text), "stop")

    async def __aenter__(self) -> _TrickleStream:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.provider.closed += 1

    def __aiter__(self) -> _TrickleStream:
        return self

    async def __anext__(self) -> TextDelta:
        while not self.provider.words:
            self.provider.more = anyio.Event()
            await self.provider.more.wait()
        word = self.provider.words.pop(0)
        if word is None:
            raise StopAsyncIteration
        self.text += word
        return TextDelta(word)


def is_valid(messages: tuple[Message, ...]) -> bool:
    """Every tool call has exactly one result, right after it."""
    asked = [call.id for message in messages for call in message.tool_calls]
    answered = [result.call_id for message in messages for result in message.tool_results]
    return asked == answered


async def test_nothing_survives_a_run(anyio_backend_name: str) -> None:
    """Scenario 45: tasks before and after are the same; so are threads once their pool is idle."""
    before = len(anyio.get_running_tasks())

    def blocking() -> str:
        """Block."""
        return "ok"

    model = Scripted([call("blocking"), call("blocking")], "done")
    await Agent("helper", model, tools=[blocking]).run("Go")
    async with System() as system:
        run = await system.start(Agent("helper", Scripted("x")), "Go")
        await run.result()
    assert len(anyio.get_running_tasks()) == before


# -- stop


async def test_stop_now_during_the_model_call() -> None:
    """Scenario 52: the call is cancelled, the result says stopped, and the history can be continued."""
    gate = Gate()
    model = blocked_model(gate)
    agent = Agent("helper", model)
    async with System() as system:
        run = await system.start(agent, "Go")
        await gate.reached.wait()
        result = await run.stop("now", reason="user")
        assert (result.status, result.reason, gate.cancelled) == ("stopped", "user", 1)
        assert (await agent.run("Again", history=result)).output == "later"


async def test_stop_now_while_streaming_keeps_the_partial_text() -> None:
    """Scenario 53: what was received is kept and marked partial."""
    model = Trickle()
    async with System() as system:
        run = await system.start(Agent("helper", model), "Go")
        text = run.text()
        model.say("one ", "two ")
        assert [await anext(text), await anext(text)] == ["one ", "two "]
        result = await run.stop()
    assert (result.status, result.text, model.closed) == ("stopped", "one two ", 1)
    assert result.messages[-1].partial


async def test_stop_now_during_parallel_tools() -> None:
    """Scenario 54: one done, one running, one queued: each has its one result with its true cause."""
    gate = Gate()

    async def quick() -> str:
        """Be quick."""
        return "quick"

    model = Scripted([call("quick"), call("wait"), call("wait"), call("wait")], "done")
    agent = Agent("helper", model, tools=[quick, blocked_tool(gate)], parallel_tools=2)
    async with System() as system:
        run = await system.start(agent, "Go")
        await gate.reached.wait()
        await anyio.wait_all_tasks_blocked()
        result = await run.stop()
    found = [(r.content[:9], r.is_error, r.cause) for message in result.messages for r in message.tool_results]
    assert found == [("quick", False, None), *[("cancelled", True, "cancelled")] * 3]
    assert is_valid(result.messages)
    assert gate.cancelled == 2


async def test_one_stop_at_the_root_ends_three_levels() -> None:
    """Scenarios 22, 55: no descendant is alive, and leaves ended before their parents."""
    gate = Gate()
    ended: list[str] = []

    def watch(name: str) -> Callable[[Any], None]:
        return lambda event: ended.append(name)

    leaf = Agent("leaf", Scripted([call("wait")]), tools=[blocked_tool(gate)], hooks={"on_run_end": watch("leaf")})
    middle = Agent("middle", Scripted([call("leaf", prompt="go")]), tools=[leaf], hooks={"on_run_end": watch("middle")})
    root = Agent("root", Scripted([call("middle", prompt="go")]), tools=[middle], hooks={"on_run_end": watch("root")})
    async with System() as system:
        run = await system.start(root, "Go")
        await gate.reached.wait()
        assert str(run.tree()).count("(run)") == 3
        result = await run.stop()
    assert ended == ["leaf", "middle", "root"]
    assert (result.status, gate.cancelled) == ("stopped", 1)
    assert is_valid(result.messages)


async def test_stop_in_a_retry_pause_takes_effect_at_once() -> None:
    """Scenario 56."""
    from greenroom import Retry
    from greenroom.providers import RateLimited

    model = Scripted(RateLimited("slow", retry_after=1000.0), "never")
    agent = Agent("helper", model, retry=Retry(max_delay=1000.0))
    async with System() as system:
        run = await system.start(agent, "Go")
        async for event in run:
            if event.type == "model.retrying":
                break
        with anyio.fail_after(5):
            result = await run.stop()
    assert (result.status, len(model.requests)) == ("stopped", 1)


async def test_stop_is_idempotent_and_a_late_one_changes_nothing() -> None:
    """Scenario 23: a hundred stops are one, before, during and after."""
    gate = Gate()
    async with System() as system:
        run = await system.start(Agent("helper", blocked_model(gate)), "Go")
        outcomes: list[Any] = []

        async def stop() -> None:
            outcomes.append(await run.stop())

        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(stop)
        late = await run.stop("after_turn", reason="late")
    assert len(outcomes) == 100
    assert all(outcome is late for outcome in outcomes)
    assert late.reason == "user"


async def test_stop_before_the_first_step_makes_no_request() -> None:
    """Scenario 59: the run ends with a result all the same."""
    model = Scripted("never")
    async with System() as system:
        run = await system.start(Agent("helper", model), "Go")
        result = await run.stop()
    assert (result.status, model.requests) == ("stopped", [])


async def test_stop_from_another_thread() -> None:
    """`stop` is a plain function that requests at once, from anywhere."""
    gate = Gate()
    async with System() as system:
        run = await system.start(Agent("helper", blocked_model(gate)), "Go")
        await gate.reached.wait()
        thread = threading.Thread(target=lambda: run.stop(reason="thread"))
        thread.start()
        result = await run.result()
        thread.join()
    assert result.reason == "thread"


async def test_a_tool_that_swallows_the_stop_cannot_turn_it_into_success() -> None:
    """Scenario 48."""
    gate = Gate()

    async def stubborn() -> str:
        """Swallow."""
        try:
            await gate.wait()
        except BaseException:
            return "all is well"
        return ""

    async with System() as system:
        run = await system.start(Agent("helper", Scripted([call("stubborn")], "no"), tools=[stubborn]), "Go")
        await gate.reached.wait()
        result = await run.stop()
    assert result.status == "stopped"
    assert [r.cause for message in result.messages for r in message.tool_results] == ["cancelled"]


async def test_a_thread_that_ignores_the_stop_is_named_and_its_result_dropped() -> None:
    """Scenario 64."""
    release, running = threading.Event(), threading.Event()

    def blocking() -> str:
        """Block."""
        running.set()
        release.wait(30)
        return "late"

    try:
        async with System() as system:
            run = await system.start(Agent("helper", Scripted([call("blocking")], "no"), tools=[blocking]), "Go")
            await anyio.to_thread.run_sync(running.wait)
            with anyio.fail_after(5):
                result = await run.stop()
    finally:
        release.set()
    assert result.outlived == ("blocking:call_1",)
    assert "late" not in str(result.messages)


async def test_a_stray_cancelled_exception_from_a_tool_is_a_failure() -> None:
    """Scenario 34: raised by the tool itself, it ends neither its run nor its siblings."""

    async def stray() -> str:
        """Stray."""
        with anyio.CancelScope() as scope:
            scope.cancel()
            try:
                await checkpoint()
            except BaseException as error:
                kept.append(error)
        raise kept[0]

    kept: list[BaseException] = []

    async def fine() -> str:
        """Fine."""
        return "fine"

    result = await Agent("helper", Scripted([call("stray"), call("fine")], "ok"), tools=[stray, fine]).run("Go")
    assert [r.cause for message in result.messages for r in message.tool_results] == ["failed", None]
    assert result.output == "ok"


# -- the caller's own cancellation


@pytest.mark.parametrize("where", ["model", "tool"])
async def test_the_callers_scope_ends_the_run_and_catches_its_own(where: str) -> None:
    """Scenario 47: `move_on_after` around a run; no orphan, not our error."""
    gate = Gate()
    model = blocked_model(gate) if where == "model" else Scripted([call("wait")])
    agent = Agent("helper", model, tools=[blocked_tool(gate)] if where == "tool" else [])
    before = len(anyio.get_running_tasks())
    with anyio.move_on_after(60) as scope:
        gate.when_reached = lambda: setattr(scope, "deadline", anyio.current_time())
        await agent.run("Go")
    assert scope.cancelled_caught
    assert gate.cancelled == 1
    assert len(anyio.get_running_tasks()) == before
    await checkpoint()


@pytest.mark.parametrize("where", ["model", "tool"])
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncio_timeout_around_a_run(where: str, inside: bool) -> None:
    """Scenario 47: native cancellation too, in and outside a System."""
    gate = Gate()
    model = blocked_model(gate) if where == "model" else Scripted([call("wait")])
    agent = Agent("helper", model, tools=[blocked_tool(gate)] if where == "tool" else [])

    async def attempt() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60) as limit:
                gate.when_reached = lambda: limit.reschedule(asyncio.get_running_loop().time())
                await agent.run("Go")

    if inside:
        async with System():
            await attempt()
    else:
        await attempt()
    assert gate.cancelled == 1
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_natively_cancelled_caller_ends_its_run() -> None:
    """`Task.cancel`, twice: the run is over when the caller is."""
    gate = Gate()
    heard: list[str] = []
    agent = Agent("helper", Scripted([call("wait")]), tools=[blocked_tool(gate)])
    task = asyncio.create_task(agent.run("Go", on_event=lambda event: heard.append(event.type)))
    await gate.reached.wait()
    task.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.cancelled == 1
    assert [kind for kind in heard if kind in ("run.stopped", "run.completed", "run.failed")] == ["run.stopped"]


async def test_cancelling_the_wait_for_a_result_leaves_the_run_alone() -> None:
    """`await run.result()` is only waiting."""
    gate = Gate()
    async with System() as system:
        run = await system.start(Agent("helper", blocked_model(gate)), "Go")
        with anyio.move_on_after(0.01):
            await run.result()
        assert run.status == "running"
        gate.open.set()
        assert (await run.result()).output == "late"


async def test_the_blocks_own_exception_leaves_bare() -> None:
    """Out of a System and out of a stream, never wrapped in a group."""
    gate = Gate()
    agent = Agent("helper", blocked_model(gate))
    with pytest.raises(KeyError, match="mine"):
        async with System() as system:
            await system.start(agent, "Go")
            raise KeyError("mine")
    with pytest.raises(KeyError, match="mine"):
        async with agent.stream("Go"):
            raise KeyError("mine")


async def test_waiting_for_oneself_is_refused() -> None:
    """A tool that waits for its own run would wait for ever."""
    runs: list[Run[str]] = []
    caught: list[BaseException] = []

    async def wait_for_me() -> str:
        """Wait."""
        try:
            await runs[0].result()
        except WouldDeadlock as error:
            caught.append(error)
        return "x"

    async with System() as system:
        runs.append(
            await system.start(Agent("helper", Scripted([call("wait_for_me")], "ok"), tools=[wait_for_me]), "Go")
        )
        assert (await runs[0].result()).output == "ok"
    assert len(caught) == 1


# -- streams


@pytest.mark.parametrize("inside", [False, True])
async def test_a_stream_gives_text_events_and_the_result(inside: bool) -> None:
    """In and outside a System."""
    agent = Agent("helper", Scripted("Hello there, you", "Hello again"))

    async def follow() -> None:
        async with agent.stream("Go") as run:
            assert "".join([piece async for piece in run.text()]) == "Hello there, you"
            assert (await run.result()).output == "Hello there, you"
        async with agent.stream("Go") as run:
            kinds = [event.type async for event in run]
        assert kinds[0] == "run.started"
        assert kinds[-1] == "run.completed"
        assert "model.text_delta" in kinds

    if inside:
        async with System():
            await follow()
    else:
        await follow()


@pytest.mark.parametrize("inside", [False, True])
async def test_leaving_a_stream_early_stops_the_run(inside: bool) -> None:
    """`reason="abandoned"`; `on_exit="wait"` waits instead."""
    gate = Gate()
    agent = Agent("helper", blocked_model(gate))

    async def follow() -> None:
        async with agent.stream("Go") as run:
            await gate.reached.wait()
        assert (run.status, (await run.result()).reason) == ("stopped", "abandoned")
        async with agent.stream("Go", on_exit="wait") as run:
            pass
        assert (run.status, (await run.result()).output) == ("completed", "later")

    if inside:
        async with System():
            await follow()
    else:
        await follow()


async def test_a_detached_stream_goes_on_in_its_system() -> None:
    """And is refused where there is nothing to go on in."""
    gate = Gate()
    agent = Agent("helper", blocked_model(gate))
    with pytest.raises(RuntimeError, match="needs a System"):
        async with agent.stream("Go", on_exit="detach"):
            pass
    async with System():
        async with agent.stream("Go", on_exit="detach") as run:
            pass
        assert run.status == "running"
        gate.open.set()
        assert (await run.result()).output == "late"


async def test_a_stream_in_an_async_generator_may_be_closed_from_another_task() -> None:
    """Scenario 46: no cancel-scope error, the run is stopped, the caller's scopes still work."""
    model = Trickle()
    runs: list[Run[str]] = []

    async def respond() -> AsyncIterator[str]:
        async with Agent("helper", model).stream("Go") as run:
            runs.append(run)
            async for piece in run.text():
                yield piece

    generator = respond()

    async def take_first() -> None:
        model.say("first")
        assert await anext(generator) == "first"

    async def close() -> None:
        await generator.aclose()  # type: ignore[attr-defined]

    async with System():
        async with anyio.create_task_group() as group:
            group.start_soon(take_first)
        async with anyio.create_task_group() as group:
            group.start_soon(close)
        assert (await runs[0].result()).reason == "abandoned"
        with anyio.move_on_after(0) as scope:
            await anyio.sleep(1)
        assert scope.cancelled_caught
    assert model.closed == 1


async def test_abandoned_readers_cost_nothing() -> None:
    """Iterators left in the middle are forgotten, without a warning."""
    model = Trickle()
    async with System() as system:
        run = await system.start(Agent("helper", model), "Go")
        model.say("one", "two")
        reader = run.text()
        assert await anext(reader) == "one"
        del reader
        gc.collect()
        assert not run._cell.voice.log.followed
        model.say(None)
        assert (await run.result()).output == "onetwo"


def test_a_stream_is_a_block() -> None:
    """Iterating or awaiting it directly says so."""
    agent = Agent("helper", Scripted())

    async def iterate() -> None:
        async for _ in agent.stream("Go"):  # type: ignore[attr-defined]
            pass

    async def wait() -> None:
        await agent.stream("Go")  # type: ignore[misc]

    for wrong in (iterate, wait):
        with pytest.raises(TypeError, match=r"async with agent\.stream"):
            anyio.run(wrong)


# -- where a run lives


async def test_a_plain_run_finds_the_open_system_from_any_task() -> None:
    """A request handler finds the System that the application's lifespan opened."""
    gate = Gate()
    opened, close = anyio.Event(), anyio.Event()
    systems: list[System] = []

    async def lifespan() -> None:
        async with System() as system:
            systems.append(system)
            opened.set()
            await close.wait()

    async def handler() -> None:
        await Agent("helper", blocked_model(gate)).run("Go")

    async with anyio.create_task_group() as group:
        group.start_soon(lifespan)
        await opened.wait()
        group.start_soon(handler)
        await gate.reached.wait()
        assert "helper" in str(systems[0].tree())
        gate.open.set()
        await anyio.wait_all_tasks_blocked()
        assert "helper" not in str(systems[0].tree())
        close.set()


async def test_several_open_systems_must_be_told_apart() -> None:
    """The error says so; `system=` chooses."""
    agent = Agent("helper", Scripted("a", "b"))
    async with System(name="one") as one, System(name="two"):
        with pytest.raises(SeveralSystems, match="system="):
            await agent.run("Go")
        assert (await agent.run("Go", system=one)).output == "a"
    assert (await agent.run("Go")).output == "b"


async def test_gathered_runs_outside_any_system_share_one_set_of_connections() -> None:
    """A thousand runs, one owner, closed when the last ends."""
    seen: set[int] = set()

    async def look(request: ModelRequest) -> str:
        async with shared_connections() as connections:
            seen.add(id(connections))
            await checkpoint()
        return "ok"

    agent = Agent("helper", Scripted(*[look] * 1000))
    async with anyio.create_task_group() as group:
        for _ in range(1000):
            group.start_soon(agent.run, "Go")
    assert len(seen) == 1
    async with shared_connections() as connections:
        assert connections.users == 1


async def test_a_closed_system_refuses_runs() -> None:
    """Before it is opened, and after."""
    system = System()
    agent = Agent("helper", Scripted("a"))
    with pytest.raises(SystemClosed):
        await system.start(agent, "Go")
    async with system:
        pass
    with pytest.raises(SystemClosed):
        await agent.run("Go", system=system)
    with pytest.raises(TypeError, match="async with System"), system:
        pass


async def test_a_closing_system_stops_its_runs() -> None:
    """Whoever waits gets a result with the reason; nobody waits for ever."""
    gate = Gate()
    outcomes: list[Any] = []
    agent = Agent("helper", blocked_model(gate))
    async with anyio.create_task_group() as group, System() as system:
        run = await system.start(agent, "Go")

        async def wait() -> None:
            outcomes.append(await run.result())

        group.start_soon(wait)
        await gate.reached.wait()
    assert [(outcome.status, outcome.reason) for outcome in outcomes] == [("stopped", "system")]


async def test_a_system_that_cannot_have_its_connections_refuses_to_open() -> None:
    """`max_running` is the number of connections too: one line says what to lower or raise."""
    resource = pytest.importorskip("resource")
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] == resource.RLIM_INFINITY:
        pytest.skip("there is no hard limit here")
    with pytest.raises(OSError, match="lower max_running"):
        async with System(max_running=2**40):
            pass
    assert (await Agent("helper", Scripted("still fine")).run("Go")).output == "still fine"


async def test_run_ids_are_unique_among_live_runs() -> None:
    """A second live run with the same id is refused; later it may be used again."""
    gate = Gate()
    agent = Agent("helper", blocked_model(gate))
    async with System() as system:
        run = await system.start(agent, "Go", run_id="mine")
        with pytest.raises(NameTaken, match="mine"):
            await system.start(agent, "Go", run_id="mine")
        gate.open.set()
        await run.result()
        assert (await (await system.start(agent, "Go", run_id="mine")).result()).output == "later"


async def test_runs_beyond_max_running_wait_their_turn() -> None:
    """First come, first served; one that is stopped while it waits ends at once."""
    gate = Gate()
    agent = Agent("helper", blocked_model(gate))
    async with System(max_running=1) as system:
        first = await system.start(agent, "Go")
        await gate.reached.wait()
        second = await system.start(agent, "Go")
        third = await system.start(agent, "Go")
        await anyio.wait_all_tasks_blocked()
        result = await second.stop()
        assert (result.status, len(agent.provider.requests)) == ("stopped", 1)  # type: ignore[attr-defined]
        gate.open.set()
        assert (await first.result()).output == "late"
        assert (await third.result()).output == "later"


async def test_crashing_runs_never_stop_a_service() -> None:
    """The run pool does not escalate."""

    def instructions(context: RunContext[None]) -> str:
        raise RuntimeError("bug")

    broken = Agent("broken", Scripted(), instructions=instructions)
    async with System(intensity=0) as system:
        for _ in range(6):
            run = await system.start(broken, "Go")
            with pytest.raises(Exception, match="bug"):
                await run.result()
        assert (await Agent("fine", Scripted("ok")).run("Go")).output == "ok"


# -- subagents


async def test_an_agent_is_a_tool() -> None:
    """Its usage is counted in its parent, its events carry their path, its answer is the result."""
    from greenroom import Usage

    usage = Usage(input_tokens=1, output_tokens=1, total_tokens=2)
    expert = Agent("the expert", Scripted("42", usage=usage), description="Knows.")
    boss = Agent("boss", Scripted([call("the_expert", prompt="?")], "It is 42.", usage=usage), tools=[expert])
    heard: list[Any] = []
    result = await boss.run("Go", on_event=heard.append)
    assert (result.output, result.usage.total_tokens) == ("It is 42.", 6)
    assert boss.toolbox.specs[0].description == "Knows."
    child = next(event for event in heard if event.type == "run.started" and event.parent_id)
    assert child.path == (result.run_id, child.run_id)
    assert [event.seq for event in heard] == sorted({event.seq for event in heard})


async def test_an_agent_run_inside_a_tool_is_a_subagent() -> None:
    """Without anything passed along."""
    inner = Agent("inner", Scripted("inside"))

    @tool
    async def delegate() -> str:
        """Delegate."""
        return (await inner.run("Go")).output

    heard: list[Any] = []
    await Agent("outer", Scripted([call("delegate")], "ok"), tools=[delegate]).run("Go", on_event=heard.append)
    assert {event.path for event in heard if event.type == "run.completed"} == {
        (heard[0].run_id, next(event.run_id for event in heard if event.parent_id)),
        (heard[0].run_id,),
    }


async def test_a_failing_subagent_is_a_failing_tool() -> None:
    """The parent goes on."""
    from greenroom.providers import InvalidRequest

    expert = Agent("expert", Scripted(InvalidRequest("bad")))
    boss = Agent("boss", Scripted([call("expert", prompt="?")], "Sorry."), tools=[expert])
    result = await boss.run("Go")
    assert result.output == "Sorry."
    assert [r.content for message in result.messages for r in message.tool_results] == ["InvalidRequest: bad"]


async def test_context_variables_reach_tools_and_do_not_leak() -> None:
    """Scenario 50: tools see the caller's context; what they set stays theirs. In threads too."""
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="unset")
    seen: list[str] = []

    async def loop_tool() -> str:
        """In the loop."""
        seen.append(variable.get())
        variable.set("changed")
        return "x"

    def thread_tool() -> str:
        """In a thread."""
        seen.append(variable.get())
        variable.set("changed")
        return "x"

    variable.set("mine")
    model = Scripted([call("loop_tool"), call("thread_tool")], [call("loop_tool")], "ok")
    await Agent("helper", model, tools=[loop_tool, thread_tool]).run("Go")
    assert seen == ["mine", "mine", "mine"]
    assert variable.get() == "mine"


# -- what must not happen


class Panic(BaseException):
    """What a library raises that wants to get past ``except Exception``."""


async def test_a_tool_may_raise_anything_and_only_fails() -> None:
    """Scenario 62: its own error is told, not a stop that nobody asked for."""

    async def panic() -> str:
        """Panic."""
        raise Panic("boom")

    def panic_in_thread() -> str:
        """Panic in a thread."""
        raise Panic("boom")

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    async def mute() -> str:
        """Fail without words."""
        raise Mute

    async def leave() -> str:
        """Raise what closes generators."""
        raise GeneratorExit("boom")

    tools = [panic, panic_in_thread, mute, leave]
    model = Scripted([call(each.__name__) for each in tools], "calm")
    result = await Agent("helper", model, tools=tools).run("Go")
    found = [(r.content, r.cause) for message in result.messages for r in message.tool_results]
    assert [cause for _, cause in found] == ["failed"] * 4
    assert [text for text, _ in found] == [
        "Panic: boom",
        "Panic: boom",
        "Mute (its message cannot be shown)",
        "GeneratorExit: boom",
    ]
    assert (result.status, result.output) == ("completed", "calm")


@pytest.mark.parametrize("error", [Panic, asyncio.CancelledError])
async def test_a_run_that_raises_anything_takes_nobody_with_it(error: type[BaseException]) -> None:
    """The run fails, or goes on; its System and the other runs are not touched."""
    gate = Gate()

    def instructions(context: RunContext[None]) -> str:
        raise error("boom")

    async with System() as system:
        bystander = await system.start(Agent("bystander", blocked_model(gate)), "Go")
        broken = await system.start(Agent("broken", Scripted("x"), instructions=instructions), "Go")
        with pytest.raises(Exception, match=r"boom|cancelled"):
            await broken.result()
        assert broken.status == "failed"
        gate.open.set()
        assert (await bystander.result()).output == "late"


async def test_a_cancelled_run_is_forgotten_by_the_journal() -> None:
    """Its id may be used again, and finds nothing of the old conversation."""
    gate = Gate()
    agent = Agent("helper", Scripted([call("wait")], "second"), tools=[blocked_tool(gate)])
    async with System() as system:
        with anyio.CancelScope() as scope:
            gate.when_reached = scope.cancel
            await agent.run("First", run_id="job")
        assert len(system.stage.journal) == 0  # type: ignore[arg-type]
        result = await agent.run("Second", run_id="job")
    assert [message.text for message in result.messages] == ["Second", "second"]


async def test_stop_reaches_a_function_for_instructions() -> None:
    """Scenario 8: it takes effect at the next await, whatever the run is busy with."""
    gate = Gate()

    async def instructions(context: RunContext[None]) -> str:
        await gate.wait()
        return "late"

    async with System() as system:
        run = await system.start(Agent("helper", Scripted("x"), instructions=instructions), "Go")
        await gate.reached.wait()
        with anyio.fail_after(5):
            assert (await run.stop()).status == "stopped"


async def test_no_run_outlives_its_system() -> None:
    """Also where the System's own task is cancelled, and the run was called in another."""
    gate = Gate()
    agent = Agent("helper", Scripted([call("wait")], "after the System is gone"), tools=[blocked_tool(gate)])
    outcomes: list[Any] = []
    opened = anyio.Event()

    async def lifespan(scope: anyio.CancelScope) -> None:
        with scope:
            async with System():
                opened.set()
                await anyio.sleep_forever()

    async def handler() -> None:
        outcomes.append(await agent.run("Go"))

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(lifespan, scope)
        await opened.wait()
        group.start_soon(handler)
        await gate.reached.wait()
        scope.cancel()
    assert [(outcome.status, outcome.reason) for outcome in outcomes] == [("stopped", "system")]


async def test_no_subagent_outlives_the_run_that_it_works_for() -> None:
    """A tool may leave a task behind; the subagent in it ends with the run, before its last event."""
    gate = Gate()
    inner = Agent("inner", blocked_model(gate))
    heard: list[Any] = []
    async with anyio.create_task_group() as left_behind:

        async def leave() -> str:
            """Leave a task behind."""
            left_behind.start_soon(inner.run, "Go")
            await gate.reached.wait()
            return "left"

        result = await Agent("outer", Scripted([call("leave")], "done"), tools=[leave]).run("Go", on_event=heard.append)
        assert gate.cancelled == 1
    assert result.output == "done"
    assert heard[-1].type == "run.completed"
    assert [event.reason for event in heard if event.type == "run.stopped"] == ["abandoned"]


async def test_a_kill_keeps_the_reason_of_the_stop_before_it() -> None:
    """The grace ran out, the reason stays."""
    gate = Gate()
    async with System() as system:
        agent = Agent("helper", Scripted([call("wait")]), tools=[blocked_tool(gate)])
        run = await system.start(agent, "Go")
        await gate.reached.wait()
        result = await run.stop("after_tools", reason="budget", grace=0.01)
    assert (result.status, result.reason) == ("stopped", "budget")


async def test_ids_that_repeat_from_turn_to_turn_are_different_calls() -> None:
    """`idempotency_key` tells them apart."""
    keys: list[str] = []

    async def pay(context: RunContext[None], amount: int) -> str:
        """Pay."""
        keys.append(context.idempotency_key)
        return "paid"

    def asking(amount: int) -> ModelReply:
        from greenroom.providers import ToolCall

        return ModelReply(assistant(tool_calls=[ToolCall("call_0", "pay", {"amount": amount})]))

    await Agent("helper", Scripted(asking(1), asking(2), "done"), tools=[pay]).run("Go")
    assert len(set(keys)) == 2


async def test_what_the_journal_cannot_hold_as_it_is_breaks_no_run() -> None:
    """Integers beyond 64 bits come from models."""
    from greenroom.providers import ToolCall

    async def double(number: int) -> str:
        """Double."""
        return str(number * 2)

    huge = ToolCall("c", "double", {"number": 2**64}, f'{{"number": {2**64}}}')
    result = await Agent("helper", Scripted([huge], "done"), tools=[double]).run("Go")
    assert [r.content for message in result.messages for r in message.tool_results] == [str(2**65)]
