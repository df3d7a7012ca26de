"""Tool calls as child actors: scenarios 61 to 65 and 67 to 70, on a virtual clock where time matters."""

from __future__ import annotations

import logging
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from greenroom import Agent, Deny, Hooks, RunResult, System, ToolError, tool
from greenroom.agents import tool_watch
from greenroom.agents.events import TERMINAL
from greenroom.providers import ModelRequest, Scripted, ToolCall, assistant, call
from greenroom.testing import Interruption, explore, interrupt_everywhere, run

BACKENDS = ("asyncio", "trio")
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def results(result: RunResult[Any]) -> list[tuple[str, str | None]]:
    return [(each.content, each.cause) for message in result.messages for each in message.tool_results]


def check(result: RunResult[Any]) -> None:
    """INV3: each call has exactly one result, in the order of the calls."""
    asked = [each.id for message in result.messages for each in message.tool_calls]
    assert asked == [each.call_id for message in result.messages for each in message.tool_results]


async def quick() -> str:
    """Be quick."""
    await checkpoint()
    return "quick"


@tool(timeout=30)
async def slow() -> str:
    """Be slow."""
    await anyio.sleep(3600)
    return "never"


async def fails() -> str:
    """Fail."""
    await checkpoint()
    raise ConnectionError("no route to host")


# -- 61


@each_backend
@pytest.mark.parametrize("policy", ["report", "fail"])
def test_a_call_that_takes_too_long(backend: str, policy: Any) -> None:
    """Scenario 61: the result says so, siblings go on, the run does not fail unless the policy says so."""

    async def scenario() -> None:
        script = Scripted([call("slow"), call("quick")], "done")
        agent = Agent("helper", script, tools=[slow, quick], on_tool_error=policy)
        if policy == "report":
            result = await agent.run("Go")
            assert result.output == "done"
        else:
            with pytest.raises(ToolError, match=r"^tool 'slow' failed: TimeoutError: timed out after 30 s$") as caught:
                await agent.run("Go")
            assert caught.value.result is not None
            result = caught.value.result
        assert results(result) == [("timed out after 30 s", "timed_out"), ("quick", None)]
        assert anyio.current_time() == 30
        check(result)

    run(scenario, backend=backend)


# -- 62


class Refused(Exception):
    """What our tools raise."""


def crashes(where: str) -> Any:
    @tool(name="crashes", where=where)  # type: ignore[arg-type]
    def crashes(token: str) -> str:
        """Crash, with a secret at hand."""
        password = f"hunter2-{token}"
        raise Refused(f"refused after {len(password)} characters")

    return crashes


@each_backend
@pytest.mark.parametrize("where", ["loop", "thread"])
@pytest.mark.parametrize("policy", ["report", "fail"])
def test_an_exception_is_told_without_what_was_at_hand(
    backend: str, where: str, policy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Scenario 62: type and message, no local variables and no traceback, in results, events, errors and the log."""
    caplog.set_level(logging.DEBUG, "greenroom")

    async def scenario() -> None:
        heard: list[Any] = []
        script = Scripted([call("crashes", token="t"), call("quick")], "done")
        agent = Agent("helper", script, tools=[crashes(where), quick], on_tool_error=policy)
        if policy == "report":
            result = await agent.run("Go", on_event=heard.append)
        else:
            with pytest.raises(
                ToolError, match=r"^tool 'crashes' failed: Refused: refused after 9 characters$"
            ) as caught:
                await agent.run("Go", on_event=heard.append)
            assert isinstance(caught.value.__cause__, Refused)
            assert caught.value.result is not None
            result = caught.value.result
        first, second = results(result)
        assert first == ("Refused: refused after 9 characters", "failed")
        assert second in [("quick", None), ("cancelled: another call of the same reply failed", "cancelled")]
        check(result)
        said = [*(event.to_json().decode() for event in heard), result.to_json().decode(), caplog.text]
        assert not any("hunter2" in each or "Traceback" in each for each in said)

    run(scenario, backend=backend)


# -- 63


@each_backend
@pytest.mark.parametrize("width", [True, 3])
def test_a_batch_of_which_some_fail(backend: str, width: Any) -> None:
    """Scenario 63: results in call order under the right ids, whatever the order of the endings."""

    async def scenario() -> None:
        async def after(seconds: float) -> str:
            """Wait."""
            await anyio.sleep(seconds)
            if seconds == 2:
                raise ConnectionError("at 2")
            return str(seconds)

        seconds = [5, 2, 4, 1, 3]
        script = Scripted([call("after", seconds=each) for each in seconds], "done")
        result = await Agent("helper", script, tools=[after], parallel_tools=width).run("Go")
        expected = [("ConnectionError: at 2", "failed") if each == 2 else (f"{each}.0", None) for each in seconds]
        assert results(result) == expected
        check(result)

    run(scenario, backend=backend)


@each_backend
def test_a_batch_that_ends_with_its_first_failure(backend: str) -> None:
    """Scenario 63: fail-fast cancels those that run and those that have not begun; what has ended stays."""

    async def scenario() -> None:
        script = Scripted([call("quick"), call("slow"), call("fails"), call("quick"), call("slow")], "done")
        agent = Agent("helper", script, tools=[quick, slow, fails], on_tool_error="cancel", parallel_tools=4)
        result = await agent.run("Go")
        assert (result.output, anyio.current_time()) == ("done", 0)
        found = results(result)
        given_up = ("cancelled: another call of the same reply failed", "cancelled")
        assert found[2] == ("ConnectionError: no route to host", "failed")
        assert (found[1], found[4]) == (given_up, given_up)
        assert {found[0], found[3]} <= {("quick", None), given_up}
        check(result)

    run(scenario, backend=backend)


# -- 64


@each_backend
@pytest.mark.parametrize("way", ["stop", "timeout"])
def test_a_thread_that_cannot_be_cancelled(backend: str, way: str, caplog: pytest.LogCaptureFixture) -> None:
    """Scenario 64: the call ends, the thread is named, and what it returns never reaches the history."""
    caplog.set_level(logging.WARNING, "greenroom")
    release, began = threading.Event(), threading.Event()
    ended: list[str] = []

    @tool(timeout=0.05 if way == "timeout" else None)
    def stubborn() -> str:
        """Heed nothing."""
        began.set()
        release.wait(10)
        ended.append("late")
        return "late"

    async def scenario() -> None:
        async with System() as system:
            agent = Agent("helper", Scripted([call("stubborn"), call("quick")], "done"), tools=[stubborn, quick])
            it = await system.start(agent, "Go")
            while not began.is_set():
                await anyio.sleep(0.001)
            result = await (it.stop() if way == "stop" else it.result())
            assert (result.status, ended) == ("stopped" if way == "stop" else "completed", [])
            assert result.outlived == ("stubborn:call_1",)
            release.set()
            while not ended:
                await anyio.sleep(0.001)
        cause = "cancelled" if way == "stop" else "timed_out"
        assert (results(result)[0][1], "late" in str(results(result))) == (cause, False)
        check(result)
        [line] = [each.getMessage() for each in caplog.records]
        assert line == (
            f"tool 'stubborn' goes on in its thread although its call was given up (call call_1 of run {it.id}); "
            "its result is dropped"
        )

    try:
        run(scenario, backend=backend, virtual_time=False)
    finally:
        release.set()
    for thread in threading.enumerate():
        if thread.name == "greenroom-tool":
            thread.join(5)


# -- 65


@each_backend
@pytest.mark.parametrize("before", [False, True])
def test_a_tool_that_blocks_the_loop_is_named(
    backend: str, before: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Scenario 65: once for each call, in the log and as an event; one that waits as it should is not."""
    caplog.set_level(logging.WARNING, "greenroom")
    now = 0.0  # a clock of the test's own: on a busy machine anybody may stand still for a while
    monkeypatch.setattr(tool_watch, "monotonic", lambda: now)

    @tool(where="loop")
    async def blocks() -> str:
        """Block, before or after a first pause."""
        nonlocal now
        if not before:
            await checkpoint()
        now += 0.75
        await checkpoint()
        now += 0.75
        return "done"

    async def waits() -> str:
        """Wait as it should."""
        await anyio.sleep(3600)
        return "done"

    async def scenario() -> None:
        heard: list[Any] = []
        told: list[Any] = []
        script = Scripted([call("blocks"), call("waits")], "done")
        agent = Agent("helper", script, tools=[blocks, waits], hooks=Hooks(on_tool_error=told.append))
        result = await agent.run("Go", run_id="r", on_event=heard.append)
        assert results(result) == [("done", None)] * 2
        assert [(each.tool, each.call_id, each.seconds) for each in told] == [("blocks", "call_1", 0.75)]
        assert [each.type for each in heard].count("tool.blocked") == 1

    run(scenario, backend=backend)
    [line] = [each.getMessage() for each in caplog.records]
    assert line.startswith("tool 'blocks' blocked the event loop for 0.75")
    assert "(call call_1 of run r)" in line


def test_a_plain_function_in_the_loop_is_watched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario 65."""
    monkeypatch.setattr("greenroom.agents.tool_watch.BLOCKED_AFTER", 0.02)

    @tool(where="loop")
    def blocks() -> str:
        """Block."""
        time.sleep(0.03)
        return "done"

    async def scenario() -> None:
        heard: list[str] = []
        await Agent("helper", Scripted([call("blocks")], "done"), tools=[blocks]).run(
            "Go", on_event=lambda event: heard.append(event.type)
        )
        assert "tool.blocked" in heard

    run(scenario)


@each_backend
def test_a_watched_tool_is_awaited_as_ever(backend: str) -> None:
    """Values, errors and cancellations go through, and what it holds is closed."""

    async def scenario() -> None:
        seen: list[Any] = []

        async def body() -> str:
            try:
                await anyio.sleep(5)
                raise LookupError("inside")
            except LookupError as error:
                seen.append(error.__context__)
                try:
                    await anyio.sleep_forever()
                finally:
                    seen.append("left")
            return "never"

        with anyio.move_on_after(10) as scope:
            await tool_watch.watched(body(), seen.append)
        assert (scope.cancelled_caught, seen) == (True, [None, "left"])

        @types.coroutine
        def pause() -> Any:
            yield

        async def closed() -> None:
            try:
                await pause()
            finally:
                seen.append("closed")

        async def value() -> int:
            await checkpoint()
            return 3

        assert await tool_watch.watched(value(), seen.append) == 3
        begun = tool_watch.watched(closed(), seen.append)
        begun.send(None)
        begun.close()
        assert seen[2:] == ["closed"]

    run(scenario, backend=backend)


# -- 68, 69


@each_backend
def test_calls_that_cannot_run_have_results_that_say_so(backend: str) -> None:
    """Scenarios 68, 69: not JSON, a wrong type, an unknown tool, a repeated id, none at all; nothing has run."""

    async def scenario() -> None:
        ran: list[int] = []

        async def add(number: int) -> str:
            """Add."""
            ran.append(number)
            return "added"

        calls = [
            ToolCall("x", "add", None, "{"),
            ToolCall("x", "add", {"number": "one"}, '{"number":"one"}'),
            ToolCall(None, "subtract", {}, "{}"),
            ToolCall(None, "add", {"number": 1}, '{"number":1}'),
            ToolCall("", "add", {}, "{}"),
        ]
        result = await Agent("helper", Scripted(assistant(tool_calls=calls), "done"), tools=[add]).run("Go")
        causes = [cause for _, cause in results(result)]
        assert causes == ["invalid", "invalid", "unknown_tool", None, "invalid"]
        assert (ran, result.output) == ([1], "done")
        ids = [each.id for message in result.messages for each in message.tool_calls]
        assert len(set(ids)) == len(ids) == 5
        assert all(ids)
        check(result)

    run(scenario, backend=backend)


# -- 70


@each_backend
@pytest.mark.parametrize("where", ["loop", "thread"])
def test_a_result_that_is_huge_or_has_no_form(backend: str, where: Any) -> None:
    """Scenario 70: cut with a note, or refused; the run goes on from its journal all the same."""

    async def scenario() -> None:
        cycle: list[Any] = []
        cycle.append(cycle)
        values = {"huge": "x" * 1_000_000, "cycle": cycle, "bytes": b"\xff\xfe", "generator": (n for n in range(3))}

        @tool(max_result=1_000, where=where)
        def give(what: str) -> Any:
            """Give."""
            return values[what]

        result = await Agent(
            "helper", Scripted([call("give", what=each) for each in values], "done"), tools=[give]
        ).run("Go")
        assert result.output == "done"
        texts = [text for text, _ in results(result)]
        assert all(len(text) < 1_100 for text in texts)
        assert "999000" in texts[0].replace(",", "")
        assert results(result)[3][1] == "failed"
        check(result)
        assert result.to_json()

    run(scenario, backend=backend)


# -- all of it at once


@each_backend
def test_a_thousand_calls_in_one_turn(backend: str) -> None:
    """Scenarios 61 to 63, 67, 68: one fails, one hangs, one is denied, one lies about its arguments: 996 results."""
    special = {137: "fails", 400: "hangs", 613: "denied", 871: "lies"}

    async def scenario() -> None:
        at_once = most = 0

        @tool(timeout=60, limit=100)
        async def work(number: int, how: str) -> int:
            """Work."""
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            try:
                await anyio.sleep(3600 if how == "hangs" else number % 7 / 10)
            finally:
                at_once -= 1
            if how == "fails":
                raise Refused("no")
            return number

        def policy(call: ToolCall, _context: Any) -> Deny | None:
            return Deny("not today") if call.arguments and call.arguments["how"] == "denied" else None

        def reply(request: ModelRequest) -> Any:
            return assistant(
                tool_calls=[
                    call(
                        "work", number="many" if special.get(number) == "lies" else number, how=special.get(number, "")
                    )
                    for number in range(1_000)
                ]
            )

        heard: list[Any] = []
        agent = Agent("helper", Scripted(reply, "done"), tools=[work], policy=policy)
        result = await agent.run("Go", on_event=heard.append)
        found = results(result)
        assert len(found) == 1_000
        assert [(text, cause) for number, (text, cause) in enumerate(found) if number not in special] == [
            (str(number), None) for number in range(1_000) if number not in special
        ]
        assert found[137] == ("Refused: no", "failed")
        assert found[400] == ("timed out after 60 s", "timed_out")
        assert found[613] == ("denied: not today", "denied")
        assert found[871][1] == "invalid"
        assert (result.output, most) == ("done", 100)
        check(result)
        kinds = [event.type for event in heard]
        assert (kinds.count("tool.started"), kinds.count("tool.completed"), kinds.count("tool.failed")) == (998, 996, 3)

    run(scenario, backend=backend)


class Scene:
    """A run whose calls are done, tried again, locked, limited, approved, in a thread, failing, and a subagent's."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        attempts: list[int] = []

        @tool(retries=1, retry_on=ConnectionError)
        async def flaky() -> str:
            """Work at the second try."""
            attempts.append(1)
            await checkpoint()
            if len(attempts) == 1:
                raise ConnectionError("first")
            return "second"

        @tool(limit=1, lock="key", needs_approval=True)
        async def guarded() -> str:
            """Be guarded."""
            await checkpoint()
            return "guarded"

        def block() -> str:
            """Block."""
            return "blocked"

        expert = Agent("expert", Scripted([call("guarded"), call("quick")], "expertise"), tools=[guarded, quick])
        calls = [call(name) for name in ("flaky", "guarded", "block", "fails")] + [call("expert", prompt="?")]
        self.agent: Agent[Any, str] = Agent(
            "boss",
            Scripted(calls, [call("guarded"), call("quick")], "done"),
            tools=[flaky, guarded, block, fails, quick, expert],
            policy=lambda call, context: call.name != "nothing",
            hooks={"on_tool_end": self.hear, "on_approval": self.hear},
        )

    async def hear(self, _event: Any) -> None:
        await checkpoint()

    def check(self, result: RunResult[Any]) -> None:
        check(result)
        assert len([each for each in self.heard if isinstance(each, TERMINAL) and each.parent_id is None]) == 1
        ended = [
            (each.run_id, each.turn, each.call_id)
            for each in self.heard
            if each.type in ("tool.completed", "tool.failed")
        ]
        assert len(ended) == len(set(ended))
        requested = [each for each in self.heard if each.type == "approval.requested"]
        resolved = [each for each in self.heard if each.type == "approval.resolved"]
        assert len(resolved) == len(requested)


async def approve(_call: Any) -> bool:
    await checkpoint()
    return True


@each_backend
@pytest.mark.parametrize("way", ["stop", "after_tools", "scope"])
def test_every_kind_of_call_interrupted_at_every_step(backend: str, way: str) -> None:
    """INV1 to INV4 over scenarios 58 and 61 to 67."""

    async def scenario(interruption: Interruption) -> None:
        scene = Scene()
        async with System(max_tools=4) as system:
            if way == "scope":
                result = None
                with anyio.CancelScope() as scope:
                    interruption.arm(scope.cancel)
                    result = await scene.agent.run("Go", on_event=scene.heard.append, approve=approve)
                if result is not None:
                    scene.check(result)
            else:
                it = await system.start(scene.agent, "Go", on_event=scene.heard.append, approve=approve)
                interruption.arm((lambda: it.stop()) if way == "stop" else (lambda: it.stop("after_tools")))
                result = await it.result()
                assert result.status in ("completed", "stopped")
                scene.check(result)
            gate = system.stage.gate
            assert gate.everyone is not None
            assert (gate._keys, gate._waiting, gate.everyone.value) == ({}, {}, 4)  # type: ignore[reportPrivateUsage]

    interrupt_everywhere(scenario, backend=backend, limit=150)


def test_every_kind_of_call_in_any_order(seeds: range) -> None:
    """Scenarios 61 to 67, in seeded orders of their tasks: the results are the same."""

    async def scenario() -> None:
        scene = Scene()
        async with System(max_tools=4) as system:
            it = await system.start(scene.agent, "Go", on_event=scene.heard.append, approve=approve)
            result = await it.result()
        scene.check(result)
        assert [text for text, _ in results(result)] == [
            *("second", "guarded", "blocked", "ConnectionError: no route to host", "expertise"),
            *("guarded", "quick"),
        ]

    explore(scenario, seeds=seeds[:20])


def test_hooks_know_whose_call_it_is() -> None:
    """The events of a tool carry the user, the conversation, the run and the call."""

    async def scenario() -> None:
        heard: list[Any] = []
        hooks: dict[str, Callable[[Any], Any]] = dict.fromkeys(
            ("on_tool_start", "on_tool_end", "on_tool_error"), heard.append
        )
        agent = Agent("helper", Scripted([call("quick"), call("fails")], "done"), tools=[quick, fails], hooks=hooks)
        await agent.run("Go", user_id="u", conversation_id="c", run_id="r")
        assert sorted(each.type for each in heard) == [
            *("tool.completed", "tool.failed", "tool.started", "tool.started"),
        ]
        assert {(each.user_id, each.conversation_id, each.run_id) for each in heard} == {("u", "c", "r")}
        assert {each.call_id for each in heard} == {"call_1", "call_2"}

    run(scenario)
