"""Scenarios 47, 48, 50 and 52 to 60: a stop at every moment of a run, and the conversation that goes on afterwards.

Each scene brings a run to one moment and leaves it there. It is stopped at that moment, and measured; once more at
every step from there to the stop's end; in many orders of its tasks; and the history that is left is continued with
the strict fake provider of every family, which refuses what the real one refuses.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from greenroom import Agent, Retry, Run, RunResult, StaleApproval, System, tool
from greenroom.agents.events import TERMINAL
from greenroom.providers import (
    Message,
    ModelReply,
    ModelRequest,
    OpenAIChat,
    Provider,
    RateLimited,
    Scripted,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    call,
)
from greenroom.testing import FORMATS, Interruption, StrictServer, explore, interrupt_everywhere
from greenroom.testing import run as in_fresh_loop

from .cast import some

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
#: Seconds that a stop may take.
SOON = 0.1


# -- the scenes


class Scene:
    """A run on its way to one moment. `reached` is set when it is there; it stays until it is stopped."""

    #: How many of its runs may be at work.
    room = 10

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self.heard: list[Any] = []
        self.cleanups: list[str] = []
        self.agent = self.make()

    def make(self) -> Agent[Any, Any]:
        """The agent of the scene."""
        raise NotImplementedError

    async def enter(self, system: System) -> Run[Any]:
        """Start the run."""
        return await system.start(self.agent, "How is the weather?", on_event=self.hear)

    def hear(self, event: Any) -> None:
        """Keep every event."""
        self.heard.append(event)

    async def stay(self, name: str = "it") -> str:
        """Stand still until cancelled."""
        self.reached.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.cleanups.append(name)
        raise AssertionError

    def check(self, result: RunResult[Any]) -> None:
        """What must be true of the result, besides what is true of every stop."""

    def check_invariants(self, result: RunResult[Any]) -> None:
        """INV2 and INV3: each run has one last event, each call one result, right after it and in order."""
        started = [event.run_id for event in self.heard if event.type == "run.started"]
        ended = [event.run_id for event in self.heard if isinstance(event, TERMINAL)]
        assert len(ended) == len(set(ended))
        assert set(started) <= set(ended)
        assert [event.seq for event in self.heard] == sorted({event.seq for event in self.heard})
        check_history(result.messages)


def check_history(messages: tuple[Message, ...]) -> None:
    asked = [each.id for message in messages for each in message.tool_calls]
    answered = [each.call_id for message in messages for each in message.tool_results]
    assert asked == answered
    assert not any(message.partial and message.tool_calls for message in messages)


def causes(result: RunResult[Any]) -> list[str | None]:
    return [each.cause for message in result.messages for each in message.tool_results]


class InTheRequest(Scene):
    """52: before the first byte."""

    def make(self) -> Agent[Any, Any]:
        async def reply(request: ModelRequest) -> str:
            return await self.stay()

        self.model = Scripted(reply, "no retry")
        return Agent("a", self.model)

    def check(self, result: RunResult[Any]) -> None:
        assert len(self.model.requests) <= 1
        assert result.usage.input_tokens is None
        assert result.usage.output_tokens is None


class _Half:
    """A stream that gives its events and then stands still."""

    def __init__(self, scene: Scene, events: tuple[Any, ...]) -> None:
        self.scene = scene
        self.events = list(events)

    @property
    def reply(self) -> ModelReply:
        raise AssertionError

    async def __aenter__(self) -> _Half:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.scene.cleanups.append("stream")

    def __aiter__(self) -> _Half:
        return self

    async def __anext__(self) -> Any:
        await checkpoint()
        return self.events.pop(0) if self.events else await self.scene.stay()


class HalfStream(Provider):
    """Calls a tool, then streams half an answer."""

    name, model = "half", "half-1"

    def __init__(self, scene: Scene, *events: Any) -> None:
        self.scene = scene
        self.events = events
        self.first = Scripted([call("quick")])

    def stream(self, request: ModelRequest) -> Any:
        if not self.first.requests:
            return self.first.stream(request)
        return _Half(self.scene, self.events)


async def quick() -> str:
    """Be quick."""
    return "quick"


class InTheText(Scene):
    """53: while text streams."""

    events: tuple[Any, ...] = (ThinkingDelta("Let me see. "), TextDelta("It rains "), TextDelta("in "))
    kept: tuple[str, str | None] = ("It rains in ", "Let me see. ")

    def make(self) -> Agent[Any, Any]:
        return Agent("a", HalfStream(self, *self.events), tools=[quick])

    def check(self, result: RunResult[Any]) -> None:
        if "it" in self.cleanups:
            last = result.messages[-1]
            assert (last.role, last.partial, last.text, last.thinking) == ("assistant", True, *self.kept)
        assert len(causes(result)) <= 1


class InTheThinking(InTheText):
    """53: while it thinks."""

    events = (ThinkingDelta("Let me "), ThinkingDelta("see"))
    kept = ("", "Let me see")


class InTheArguments(InTheText):
    """53: in the middle of a tool call, which never runs."""

    events = (TextDelta("Once more."), ToolCallDelta(0, '{"ci', "call_9", "quick"), ToolCallDelta(0, 'ty": "Os'))
    kept = ("Once more.", None)


class InTheTools(Scene):
    """54: one done, one running, one queued."""

    def make(self) -> Agent[Any, Any]:
        async def work() -> str:
            """Work."""
            return await self.stay()

        async def later() -> str:
            """Never begins."""
            raise AssertionError

        script = Scripted(["Let me see.", call("quick"), call("work"), call("later")], "never")
        return Agent("a", script, tools=[quick, work, later], parallel_tools=1)

    def check(self, result: RunResult[Any]) -> None:
        if self.cleanups:
            assert causes(result) == [None, "cancelled", "cancelled"]
        assert not any("success" in each.content for message in result.messages for each in message.tool_results)


class ThreeLevelsDeep(Scene):
    """55: in a tool of a subagent's subagent's subagent."""

    def make(self) -> Agent[Any, Any]:
        async def work() -> str:
            """Work."""
            return await self.stay()

        agent = Agent("level-3", Scripted([call("work")]), tools=[work])
        for level in (2, 1, 0):
            name = agent.name
            agent = Agent(f"level-{level}", Scripted([call(name, prompt="Go")]), tools=[agent])
        return agent

    def check(self, result: RunResult[Any]) -> None:
        ended = [event for event in self.heard if isinstance(event, TERMINAL)]
        assert [event.agent for event in ended] == sorted((event.agent for event in ended), reverse=True)
        assert {event.reason for event in ended} == {result.reason}


class InTheBackoff(Scene):
    """56: in the pause before the next attempt."""

    def make(self) -> Agent[Any, Any]:
        self.model = Scripted(RateLimited("slow down", retry_after=1000.0), "never")
        return Agent("a", self.model, retry=Retry(max_delay=1000.0))

    def hear(self, event: Any) -> None:
        super().hear(event)
        if event.type == "model.retrying":
            self.reached.set()

    def check(self, result: RunResult[Any]) -> None:
        assert len(self.model.requests) <= 1


class InTheQueue(Scene):
    """57: waiting for its turn, behind another run."""

    room = 1

    def make(self) -> Agent[Any, Any]:
        self.model = Scripted("never")
        return Agent("a", self.model)

    async def enter(self, system: System) -> Run[Any]:
        async def reply(request: ModelRequest) -> str:
            return await self.stay("first")

        first = await system.start(Agent("first", Scripted(reply)), "Go")
        await self.reached.wait()
        run = await super().enter(system)
        self.heard.clear()
        self.first = first
        return run

    def check(self, result: RunResult[Any]) -> None:
        assert self.model.requests == []
        self.first.stop()


class InAPause(Scene):
    """57: paused, with a tool call and a message that wait."""

    def make(self) -> Agent[Any, Any]:
        self.run: Run[Any] | None = None
        script = Scripted([call("quick"), call("quick")], "never")
        return Agent("a", script, tools=[quick], parallel_tools=1)

    def hear(self, event: Any) -> None:
        super().hear(event)
        if event.type == "tool.started" and self.run is not None:
            self.run.pause()
            self.run.send("By the way", when="idle")
        elif event.type == "run.paused":
            self.reached.set()

    async def enter(self, system: System) -> Run[Any]:
        self.run = await super().enter(system)
        return self.run

    def check(self, result: RunResult[Any]) -> None:
        if self.reached.is_set():
            assert causes(result) == [None, "cancelled"]


class InAnApproval(Scene):
    """58: waiting for somebody to approve a call; a late approval runs nothing."""

    def make(self) -> Agent[Any, Any]:
        self.run: Run[Any] | None = None

        @tool(needs_approval=True)
        async def pay() -> str:
            """Never runs."""
            raise AssertionError

        return Agent("a", Scripted([call("quick"), call("pay")], "never"), tools=[quick, pay])

    def hear(self, event: Any) -> None:
        super().hear(event)
        if event.type == "approval.requested":
            self.reached.set()

    async def enter(self, system: System) -> Run[Any]:
        self.run = await super().enter(system)
        return self.run

    def check(self, result: RunResult[Any]) -> None:
        if self.reached.is_set():
            assert self.run is not None
            assert causes(result)[1:] == ["cancelled"]
            assert [event.answer for event in self.heard if event.type == "approval.resolved"] == ["withdrawn"]
            with pytest.raises(StaleApproval):
                self.run.approve("call_2")


SCENES = [
    InTheRequest,
    InTheText,
    InTheThinking,
    InTheArguments,
    InTheTools,
    ThreeLevelsDeep,
    InTheBackoff,
    InTheQueue,
    InAPause,
    InAnApproval,
]
EACH = pytest.mark.parametrize("scene_type", SCENES, ids=lambda each: each.__name__)


# -- a stop at that moment


async def stopped(scene: Scene, system: System, mode: Any = "now") -> RunResult[Any]:
    run = await scene.enter(system)
    await scene.reached.wait()
    await anyio.wait_all_tasks_blocked()
    return await run.stop(mode, reason="enough")


@EACH
@BACKENDS
def test_a_stop_is_over_soon(backend: str, scene_type: type[Scene]) -> None:
    """Scenarios 52 to 58: stopped, with the reason given, within 100 ms of real time; what had come is kept."""

    async def scenario() -> None:
        scene = scene_type()
        async with System(max_running=scene.room) as system:
            run = await scene.enter(system)
            await scene.reached.wait()
            await anyio.wait_all_tasks_blocked()
            began = time.process_time()  # the processor's: a busy machine is not our doing
            result = await run.stop(reason="enough")
            took = time.process_time() - began
            assert (result.status, result.reason, result.outlived) == ("stopped", "enough", ())
            scene.check_invariants(result)
            scene.check(result)
        assert took < SOON
        assert all(scene.cleanups.count(each) == 1 for each in scene.cleanups)

    in_fresh_loop(scenario, backend=backend, virtual_time=False)


@EACH
@BACKENDS
def test_a_stop_at_every_step(backend: str, scene_type: type[Scene]) -> None:
    """Scenarios 52 to 58: from its start to that moment, whenever the stop comes."""

    async def scenario(interruption: Interruption) -> None:
        scene = scene_type()
        async with System(max_running=scene.room) as system:
            run = await scene.enter(system)
            interruption.arm(partial(run.stop, reason="enough"))
            await anyio.sleep(0.001)  # the clock moves on when everybody waits
            assert interruption.fired or scene.reached.is_set()
            began = anyio.current_time()
            result = await run.stop(reason="enough")
            assert anyio.current_time() - began < SOON
            assert (result.status, result.reason) == ("stopped", "enough")
            scene.check_invariants(result)
            scene.check(result)

    assert interrupt_everywhere(scenario, backend=backend, limit=80) > 2


@EACH
def test_a_stop_in_every_order(seeds: range, scene_type: type[Scene]) -> None:
    """Scenarios 52 to 58: whichever task runs first."""

    async def scenario() -> None:
        scene = scene_type()
        async with System(max_running=scene.room) as system:
            result = await stopped(scene, system)
            assert (result.status, result.reason) == ("stopped", "enough")
            scene.check_invariants(result)
            scene.check(result)

    explore(scenario, seeds=some(seeds, 10))


# -- and then


@EACH
@BACKENDS
def test_the_conversation_goes_on(backend: str, scene_type: type[Scene]) -> None:
    """Scenario 60: no family refuses what a stop has left."""

    async def scenario() -> None:
        scene = scene_type()
        async with System(max_running=scene.room) as system:
            result = await stopped(scene, system)
            scene.check(result)
        for family in sorted(FORMATS):
            async with StrictServer(family, ["Fine."]) as server:
                agent = scene.agent.with_(model=server.provider("some-model"))
                assert (await agent.run("And now?", history=result)).text == "Fine."
                assert server.refusals == []

    in_fresh_loop(scenario, backend=backend, virtual_time=False)


@BACKENDS
def test_the_connection_of_a_stopped_request_is_closed(backend: str) -> None:
    """Scenario 52: the server sees it, and nobody asks it again."""

    async def scenario() -> None:
        requests: list[bytes] = []
        asked, closed = anyio.Event(), anyio.Event()

        async def serve(socket: anyio.abc.SocketStream) -> None:
            async with socket:
                try:
                    while True:
                        requests.append(await socket.receive())
                        asked.set()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    closed.set()

        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            async with System() as system:
                model = OpenAIChat("m", base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
                run = await system.start(Agent("a", model), "Go")
                await asked.wait()
                result = await run.stop()
                with anyio.fail_after(5):
                    await closed.wait()
            assert (result.status, result.usage.input_tokens) == ("stopped", None)
            assert b"".join(requests).count(b"POST ") == 1
            group.cancel_scope.cancel()

    in_fresh_loop(scenario, backend=backend, virtual_time=False)


def test_a_stop_ends_a_thousand_subagents_leaves_first() -> None:
    """Scenario 55: ten times ten times ten of them, three levels deep; all have ended within a second."""

    async def scenario() -> None:
        waiting = 0
        cancelled = 0
        heard: list[Any] = []
        all_there = anyio.Event()

        async def work() -> str:
            """Work."""
            nonlocal waiting, cancelled
            waiting += 1
            if waiting == 1000:
                all_there.set()
            try:
                await anyio.sleep_forever()
            finally:
                cancelled += 1
            return ""

        def ask(name: str, lines: int) -> Scripted:
            return Scripted(*[[call(name, prompt="Go") for _ in range(10)]] * lines)

        leaf = Agent("leaf", Scripted(*[[call("work")]] * 1000), tools=[work])
        middle = Agent("middle", ask("leaf", 100), tools=[leaf])
        top = Agent("top", ask("middle", 10), tools=[middle])
        root = Agent("root", ask("top", 1), tools=[top])
        async with System() as system:
            run = await system.start(root, "Go", on_event=heard.append)
            await all_there.wait()
            assert str(run.tree()).count("(run)") == 1111
            began = time.process_time()  # the processor's: a busy machine is not our doing
            result = await run.stop(reason="enough")
            took = time.process_time() - began
        assert cancelled == 1000
        assert (result.reason, result.outlived) == ("enough", ())
        ended = [event for event in heard if isinstance(event, TERMINAL)]
        assert len({event.run_id for event in ended}) == len(ended) == 1111
        depths = {event.run_id: number for number, event in enumerate(ended)}
        assert all(depths[event.run_id] < depths[event.parent_id] for event in ended if event.parent_id)
        print(f"1,111 runs ended in {took:.3f} s")
        assert took < 1

    for backend in ("asyncio", "trio"):
        in_fresh_loop(scenario, backend=backend, virtual_time=False)


# -- before the start, and racing with the end


@BACKENDS
@pytest.mark.parametrize("mode", ["now", "after_tools", "after_turn"])
def test_a_stop_before_the_start_makes_no_request(backend: str, mode: Any) -> None:
    """Scenario 59."""

    async def scenario() -> None:
        model = Scripted("never")
        async with System() as system:
            run = await system.start(Agent("a", model), "Go")
            result = await run.stop(mode, reason="early")
        assert (result.status, result.reason, model.requests) == ("stopped", "early", [])

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
@pytest.mark.parametrize("mode", ["now", "after_tools", "after_turn"])
def test_a_stop_that_races_with_the_end_leaves_one_outcome(backend: str, mode: Any) -> None:
    """Scenario 59: at every step of a whole run, its end included."""

    async def scenario(interruption: Interruption) -> None:
        heard: list[Any] = []
        told: list[Any] = []

        async def tell(event: Any) -> None:
            await checkpoint()
            told.append(event)

        agent = Agent("a", Scripted([call("quick")], "Done."), tools=[quick], hooks={"on_run_end": tell})
        async with System() as system:
            run = await system.start(agent, "Go", on_event=heard.append)
            interruption.arm(partial(run.stop, mode, reason="race"))
            results = [await run.result(), await run.result()]
        assert results[0] is results[1]
        assert (results[0].status, results[0].reason) in (("stopped", "race"), ("completed", "answered"))
        assert [event.type for event in heard if isinstance(event, TERMINAL)] == [f"run.{results[0].status}"]
        assert len(told) == 1
        check_history(results[0].messages)

    assert interrupt_everywhere(scenario, backend=backend) > 10


# -- cancellation from outside


@BACKENDS
@pytest.mark.parametrize("way", ["move_on_after", "fail_after", "asyncio.timeout"])
def test_the_callers_timeout_works(backend: str, way: str) -> None:
    """Scenario 47: it is caught by its own scope, and is not turned into an error of ours."""
    if way == "asyncio.timeout" and backend == "trio":
        pytest.skip("asyncio's own")

    async def scenario() -> None:
        cleanups: list[str] = []

        async def work() -> str:
            """Work."""
            try:
                await anyio.sleep_forever()
            finally:
                cleanups.append("work")
            return ""

        agent = Agent("a", Scripted([call("work")]), tools=[work])
        if way == "move_on_after":
            with anyio.move_on_after(1) as scope:
                await agent.run("Go")
            assert scope.cancelled_caught
        elif way == "fail_after":
            with pytest.raises(TimeoutError), anyio.fail_after(1):
                await agent.run("Go")
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await agent.run("Go")
        assert cleanups == ["work"]
        await anyio.sleep(0)  # the scope around us is not cancelled

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
@pytest.mark.parametrize("caught", [BaseException, "cancelled"])
def test_nothing_swallows_a_cancellation(backend: str, caught: Any) -> None:
    """Scenario 48: neither that of the caller nor a stop becomes a success."""

    async def scenario() -> None:
        kinds = anyio.get_cancelled_exc_class() if caught == "cancelled" else caught

        async def work() -> str:
            """Work."""
            try:
                await anyio.sleep_forever()
            except kinds:
                return "all is well"
            return ""

        agent = Agent("a", Scripted([call("work")], "no"), tools=[work])
        with anyio.move_on_after(1) as scope:
            await agent.run("Go")
        assert scope.cancelled_caught
        agent = agent.with_(model=Scripted([call("work")], "no"))
        async with System() as system:
            run = await system.start(agent, "Go")
            await anyio.sleep(1)
            result = await run.stop()
        assert (result.status, causes(result)) == ("stopped", ["cancelled"])

    in_fresh_loop(scenario, backend=backend)


word: ContextVar[str] = ContextVar("word", default="nothing")


@BACKENDS
def test_context_variables(backend: str) -> None:
    """Scenario 50: a tool sees its run's context, in a thread too, and what it changes stays its own."""

    async def scenario() -> None:
        seen: list[tuple[str, str, bool]] = []
        loop_thread = threading.get_ident()

        async def in_loop() -> str:
            """Look."""
            seen.append(("loop", word.get(), threading.get_ident() == loop_thread))
            word.set("changed in the loop")
            await anyio.sleep(0)
            return word.get()

        def in_thread() -> str:
            """Look."""
            seen.append(("thread", word.get(), threading.get_ident() == loop_thread))
            word.set("changed in a thread")
            return word.get()

        word.set("the caller's")
        script = Scripted([call("in_loop"), call("in_thread"), call("in_loop"), call("in_thread")], "done")
        await Agent("a", script, tools=[in_loop, in_thread]).run("Go")
        assert sorted(seen) == [("loop", "the caller's", True)] * 2 + [("thread", "the caller's", False)] * 2
        assert word.get() == "the caller's"

    in_fresh_loop(scenario, backend=backend)
