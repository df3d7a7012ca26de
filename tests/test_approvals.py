"""Approvals: a call that waits for somebody's word, who may give it, and what becomes of a word that comes too late."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from greenroom import (
    Agent,
    GuardFailed,
    PendingCall,
    Run,
    RunContext,
    RunResult,
    StaleApproval,
    System,
    tool,
)
from greenroom.agents import tool_batch
from greenroom.providers import Scripted, ToolCall, call
from greenroom.testing import FORMATS, Interruption, StrictServer, interrupt_everywhere, run

pytestmark = pytest.mark.anyio


class Stage:
    """A fresh agent with a tool that needs an approval and one that does not, and what they did."""

    def __init__(self, *script: Any, **options: Any) -> None:
        self.ran: list[str] = []

        @tool(needs_approval=True)
        async def remove(path: str) -> str:
            """Remove a file."""
            self.ran.append(path)
            return f"removed {path}"

        async def look() -> str:
            """Look."""
            self.ran.append("look")
            return "seen"

        self.script = Scripted(*(script or ([call("remove", path="a"), call("look")], "done", "again")))
        self.agent: Agent[Any, str] = Agent("helper", self.script, tools=[remove, look], **options)


def told(result: RunResult[Any]) -> list[str]:
    return [each.content for message in result.messages for each in message.tool_results]


def is_valid(result: RunResult[Any]) -> bool:
    asked = [call.id for message in result.messages for call in message.tool_calls]
    return asked == [each.call_id for message in result.messages for each in message.tool_results]


async def asked(run: Run[Any], kind: str = "approval.requested") -> Any:
    """The next event of this kind."""
    async for event in run:
        if event.type == kind:
            return event
    raise AssertionError(f"no {kind}")


WAITS = "not run yet: this call waits for an approval"

# -- by handle


async def test_the_one_call_waits_while_its_siblings_go_on() -> None:
    stage = Stage()
    async with System() as system:
        run = await system.start(stage.agent, "Go")
        event = await asked(run)
        assert (event.tool, event.arguments, event.question) == ("remove", {"path": "a"}, "May remove run?")
        await asked(run, "tool.completed")
        assert (stage.ran, run.status) == (["look"], "running")
        assert run.pending == (
            PendingCall(event.call_id, "remove", {"path": "a"}, "May remove run?", run.id, event.turn),
        )
        run.approve(event.call_id)
        assert run.pending == ()
        result = await run.result()
    assert (result.output, told(result), stage.ran) == ("done", ["removed a", "seen"], ["look", "a"])


async def test_a_denied_call_tells_the_model_why() -> None:
    for reason, text in [(("not that one",), "denied: not that one"), ((), "denied: not approved")]:
        stage = Stage()
        async with System() as system:
            run = await system.start(stage.agent, "Go")
            run_deny: Callable[..., None] = run.deny
            run_deny((await asked(run)).call_id, *reason)
            result = await run.result()
        assert (told(result), stage.ran, result.status) == ([text, "seen"], ["look"], "completed")


async def test_calls_one_by_one_do_not_wait_for_an_approval() -> None:
    """A call that waits gives its turn away, and gets it back before those that have not begun."""
    stage = Stage([call("remove", path="a"), call("look"), call("remove", path="b"), call("look")], "done")
    agent = stage.agent.with_(parallel_tools=False)
    async with System() as system:
        run = await system.start(agent, "Go")
        while len(stage.ran) < 2:
            await checkpoint()
        await anyio.wait_all_tasks_blocked()
        first, second = run.pending
        run.approve(second.call_id)
        run.approve(first.call_id)
        result = await run.result()
    assert (stage.ran[:2], sorted(stage.ran[2:])) == (["look", "look"], ["a", "b"])
    assert told(result) == ["removed a", "seen", "removed b", "seen"]


async def test_an_answer_for_a_turn_is_for_no_other_one() -> None:
    """Of a model that gives its calls the same id in each turn."""
    calls = [ToolCall("call_0", "remove", {"path": path}, f'{{"path": "{path}"}}') for path in "ab"]
    stage = Stage([calls[0]], [calls[1]], "done")
    async with System() as system:
        run = await system.start(stage.agent, "Go")
        first = await asked(run)
        run.approve(first.call_id, turn=first.turn)
        while not run.pending or run.pending[0].turn == first.turn:
            await checkpoint()
        (second,) = run.pending
        for answer in (run.approve, run.deny):
            with pytest.raises(StaleApproval):
                answer(first.call_id, turn=first.turn)
        assert run.pending == (second,)
        run.approve(second.call_id, turn=second.turn)
        await run.result()
    assert stage.ran == ["a", "b"]


async def test_from_any_thread() -> None:
    stage = Stage()
    answers: list[Any] = []
    async with System() as system:
        run = await system.start(stage.agent, "Go")
        id = (await asked(run)).call_id

        def answer() -> None:
            for _ in range(2):
                try:
                    run.approve(id)
                    answers.append("taken")
                except StaleApproval as error:
                    answers.append(error.call_id)

        threads = [threading.Thread(target=answer) for _ in range(8)]
        for thread in threads:
            thread.start()
        result = await run.result()
        for thread in threads:
            thread.join()
    assert told(result) == ["removed a", "seen"]
    assert sorted(answers) == sorted(["taken", *[id] * 15])


async def test_stale_answers_are_refused_and_run_nothing() -> None:
    """Scenario 58: unknown, answered twice, of a call that is over, of a run that is over."""
    stage = Stage()
    async with System() as system:
        run = await system.start(stage.agent, "Go")
        with pytest.raises(StaleApproval, match="no call 'call_1' waits"):
            run.approve("call_1")
        id = (await asked(run)).call_id
        with pytest.raises(StaleApproval, match="no call 'nobody' waits"):
            run.approve("nobody")
        run.deny(id, "no")
        for answer in (run.approve, run.deny):
            with pytest.raises(StaleApproval):
                answer(id)
        result = await run.result()
        with pytest.raises(StaleApproval):
            run.approve(id)
    assert (stage.ran, told(result)) == (["look"], ["denied: no", "seen"])
    with pytest.raises(TypeError, match="reason="):
        run.deny(id, 3)  # type: ignore[arg-type]


async def test_a_stop_while_it_waits_withdraws_the_question() -> None:
    """Scenario 58: the request is withdrawn, a later approval is refused as stale and runs nothing."""
    stage = Stage()
    heard: list[Any] = []
    async with System() as system:
        run = await system.start(stage.agent, "Go", on_event=heard.append)
        id = (await asked(run)).call_id
        stopping = run.stop()
        with pytest.raises(StaleApproval):
            run.approve(id)
        result = await stopping
        assert (await stage.agent.run("And now?", history=result)).output == "done"
    assert (result.status, stage.ran) == ("stopped", ["look"])
    assert told(result)[0] == "cancelled: the run was stopped before this call finished"
    assert is_valid(result)
    assert [event.answer for event in heard if event.type == "approval.resolved"] == ["withdrawn"]


async def test_a_stop_comes_before_an_approval_that_was_given() -> None:
    stage = Stage()
    async with System() as system:
        run = await system.start(stage.agent, "Go")
        id = (await asked(run)).call_id
        await anyio.wait_all_tasks_blocked()
        run.approve(id)
        result = await run.stop()
    assert (result.status, stage.ran) == ("stopped", ["look"])


def test_a_question_expires() -> None:
    """The call counts as denied; an answer after that is stale."""

    async def scenario() -> None:
        stage = Stage(approval_timeout=30)
        heard: list[Any] = []
        async with System() as system:
            run = await system.start(stage.agent, "Go", on_event=heard.append)
            id = (await asked(run)).call_id
            result = await run.result()
            assert anyio.current_time() == 30
            with pytest.raises(StaleApproval):
                run.approve(id)
        assert told(result) == ["denied: expired: nobody has approved this call within 30 s", "seen"]
        assert [each.cause for message in result.messages for each in message.tool_results] == ["denied", None]
        assert [event.answer for event in heard if event.type == "approval.resolved"] == ["expired"]

    for backend in ("asyncio", "trio"):
        run(scenario, backend=backend)


def test_an_approver_that_is_too_late_approves_nothing() -> None:
    """Also where it shields itself from being told so."""

    async def late(call: PendingCall) -> bool:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(40)
        return True

    async def scenario() -> None:
        stage = Stage(approval_timeout=30)
        result = await stage.agent.run("Go", approve=late)
        assert (told(result)[0], stage.ran) == ("denied: expired: nobody has approved this call within 30 s", ["look"])

    for backend in ("asyncio", "trio"):
        run(scenario, backend=backend)


def test_the_time_of_a_tool_counts_from_its_approval() -> None:
    async def scenario() -> None:
        deadlines: list[float | None] = []

        @tool(needs_approval=True, timeout=5)
        async def work(context: RunContext[None]) -> str:
            """Work."""
            deadlines.append(context.deadline)
            await anyio.sleep(4)
            return "done"

        async with System() as system:
            run = await system.start(Agent("helper", Scripted([call("work")], "ok"), tools=[work]), "Go")
            id = (await asked(run)).call_id
            await anyio.sleep(60)
            run.approve(id)
            assert told(await run.result()) == ["done"]
        assert deadlines == [65]

    for backend in ("asyncio", "trio"):
        run(scenario, backend=backend)


# -- who is asked, and what


@pytest.mark.parametrize(
    ("needs", "question"),
    [
        (lambda arguments: arguments["path"] != "a", None),
        (lambda arguments: arguments["path"] == "a", "May remove run?"),
        (lambda arguments: f"Remove {arguments['path']}?", "Remove a?"),
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_function_of_the_arguments_says_whether(
    needs: Callable[[dict[str, Any]], Any], question: str | None, asynchronous: bool
) -> None:
    async def later(arguments: dict[str, Any]) -> Any:
        await checkpoint()
        return needs(arguments)

    @tool(needs_approval=later if asynchronous else needs)
    async def remove(path: str) -> str:
        """Remove."""
        return "removed"

    result = await Agent("helper", Scripted([call("remove", path="a")], "done"), tools=[remove]).run("Go")
    assert [each.question for each in result.pending] == ([question] if question else [])


@pytest.mark.parametrize("needs", [lambda arguments: 1 / 0, lambda arguments: None])
async def test_a_function_that_cannot_say_fails_the_run(needs: Any) -> None:
    @tool(needs_approval=needs)
    async def remove() -> str:
        """Remove."""
        raise AssertionError("must not run")

    with pytest.raises(GuardFailed):
        await Agent("helper", Scripted([call("remove")]), tools=[remove]).run("Go")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (True, "removed a"),
        (False, "denied: not approved"),
        ("too late", "denied: too late"),
        ("", "denied: not approved"),
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_function_answers(answer: Any, expected: str, asynchronous: bool) -> None:
    stage = Stage()
    calls: list[PendingCall] = []

    def approve(call: PendingCall) -> Any:
        calls.append(call)
        return later() if asynchronous else answer

    async def later() -> Any:
        await checkpoint()
        return answer

    result = await stage.agent.run("Go", approve=approve)
    assert (result.status, told(result)) == ("completed", [expected, "seen"])
    assert [(each.tool, each.arguments) for each in calls] == [("remove", {"path": "a"})]


@pytest.mark.parametrize("approve", [lambda call: 1 / 0, lambda call: None])
async def test_an_approver_that_fails_fails_the_run(approve: Any) -> None:
    stage = Stage()
    with pytest.raises(GuardFailed) as caught:
        await stage.agent.run("Go", approve=approve)
    assert caught.value.result is not None
    assert (is_valid(caught.value.result), "a" in stage.ran) == (True, False)
    with pytest.raises(TypeError, match="approve="):
        stage.agent.run("Go", approve=True)  # type: ignore[arg-type]


async def test_handle_and_approver_whoever_is_first() -> None:
    hung: list[str] = []

    async def approve(call: PendingCall) -> bool:
        try:
            await anyio.sleep_forever()
        finally:
            hung.append(call.tool)
        return False

    stage = Stage()
    async with System() as system:
        run = await system.start(stage.agent, "Go", approve=approve)
        run.approve((await asked(run)).call_id)
        assert told(await run.result()) == ["removed a", "seen"]
    assert hung == ["remove"]


async def test_hooks_hear_of_it() -> None:
    heard: list[Any] = []
    stage = Stage(hooks={"on_approval": heard.append})
    await stage.agent.run("Go", approve=lambda call: True, user_id="u", conversation_id="c")
    assert [each.type for each in heard] == ["approval.requested", "approval.resolved"]
    assert {(each.user_id, each.conversation_id, each.call_id) for each in heard} == {("u", "c", "call_1")}


# -- subagents


def above(stage: Stage) -> Agent[Any, str]:
    return Agent("boss", Scripted([call("helper", prompt="?")], "ok"), tools=[stage.agent])


async def test_the_handle_of_the_root_answers_for_its_subagents() -> None:
    stage = Stage()
    async with System() as system:
        run = await system.start(above(stage), "Go")
        event = await asked(run)
        assert event.run_id != run.id
        assert [each.run_id for each in run.pending] == [event.run_id]
        run.approve(event.call_id)
        assert (await run.result()).output == "ok"
    assert stage.ran == ["look", "a"]


async def test_two_subagents_that_ask_of_the_same_id() -> None:
    stages = [Stage(), Stage()]
    boss = Agent(
        "boss",
        Scripted([call("one", prompt="?"), call("two", prompt="?")], "ok"),
        tools=[stage.agent.as_tool(name=name) for stage, name in zip(stages, ("one", "two"), strict=True)],
    )
    async with System() as system:
        run = await system.start(boss, "Go")
        while len(run.pending) < 2:
            await checkpoint()
        first, second = run.pending
        with pytest.raises(ValueError, match="say which with run_id="):
            run.approve(first.call_id)
        run.approve(first.call_id, run_id=first.run_id)
        run.deny(second.call_id, run_id=second.run_id)
        await run.result()
    assert sorted("a" in stage.ran for stage in stages) == [False, True]


async def test_an_approver_answers_for_subagents_too() -> None:
    stage = Stage()
    assert (await above(stage).run("Go", approve=lambda call: True)).output == "ok"
    assert "a" in stage.ran


async def test_a_subagent_that_nobody_can_approve_says_so_to_the_run_above() -> None:
    stage = Stage()
    result = await above(stage).run("Go")
    assert (told(result), "a" in stage.ran) == (["helper was waiting (approval)"], False)


# -- with nobody there: the run ends, and goes on later


async def test_a_run_ends_waiting_and_goes_on_with_exactly_those_calls() -> None:
    heard: list[Any] = []
    stage = Stage()
    first = await stage.agent.run("Go", on_event=heard.append)
    assert (first.status, first.reason, stage.ran) == ("waiting", "approval", ["look"])
    assert [(each.tool, each.arguments) for each in first.pending] == [("remove", {"path": "a"})]
    assert (told(first), is_valid(first)) == ([WAITS, "seen"], True)
    assert (heard[-1].type, heard[-1].pending) == ("run.waiting", ("call_1",))
    second = await stage.agent.run(history=first, approvals={"call_1": True})
    assert (second.output, stage.ran, len(stage.script.requests)) == ("done", ["look", "a"], 2)
    assert told(second) == ["removed a", "seen"]
    assert is_valid(second)
    assert [message.role for message in second.new_messages] == ["tool", "tool", "assistant"]
    with pytest.raises(StaleApproval):
        stage.agent.run(history=second, approvals={"call_1": True})
    with pytest.raises(StaleApproval):
        stage.agent.run(history=first, approvals={"call_2": True})
    assert stage.ran == ["look", "a"]


async def test_calls_without_an_answer_wait_on() -> None:
    stage = Stage([call("remove", path="a"), call("remove", path="b"), call("remove", path="c")], "done", "done")
    first = await stage.agent.run("Go")
    assert [each.call_id for each in first.pending] == ["call_1", "call_2", "call_3"]
    second = await stage.agent.run(history=first, approvals={"call_2": True})
    assert (second.status, told(second)) == ("waiting", [WAITS, "removed b", WAITS])
    third = await stage.agent.run(history=second, approvals={"call_1": "no", "call_3": False})
    assert (third.status, told(third)) == ("completed", ["denied: no", "removed b", "denied: not approved"])
    assert stage.ran == ["b"]
    async with System() as system:
        run = await system.start(stage.agent, history=second, approvals={"call_1": True})
        run.approve((await asked(run)).call_id)
        await run.result()
    assert sorted(stage.ran) == ["a", "b", "c"]


async def test_what_waits_may_be_stored_and_read_again() -> None:
    """As JSON, in another process."""
    stage = Stage()
    stored = (await stage.agent.run("Go")).to_json()
    data = json.loads(stored)
    [pending] = data["pending"]
    assert (pending["call_id"], pending["tool"], pending["arguments"]) == ("call_1", "remove", {"path": "a"})
    assert pending["question"] == "May remove run?"
    result = await stage.agent.run(history=data["messages"], approvals={pending["call_id"]: True})
    assert (result.output, stage.ran) == ("done", ["look", "a"])
    with pytest.raises(TypeError, match="no message of ours"):
        stage.agent.run("x", history=[{"role": "user", "parts": 3}])


async def test_an_approval_is_for_one_turn() -> None:
    """Providers repeat ids: an approval must not let a later call through."""
    stage = Stage([call("remove", path="a")], [ToolCall("call_1", "remove", {"path": "b"}, '{"path":"b"}')], "done")
    first = await stage.agent.run("Go")
    second = await stage.agent.run(history=first, approvals={"call_1": True})
    assert (second.status, stage.ran) == ("waiting", ["a"])
    assert [(each.call_id, each.arguments) for each in second.pending] == [("call_1", {"path": "b"})]


async def test_a_result_takes_the_place_of_what_stood_for_it() -> None:
    """Who keeps the new messages of every run has both; a provider must get the later one."""
    stage = Stage()
    first = await stage.agent.run("Go")
    second = await stage.agent.run(history=first, approvals={"call_1": True})
    third = await stage.agent.run("More", history=[*first.new_messages, *second.new_messages])
    assert told(third) == ["removed a", "seen"]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"approvals": {}}, TypeError, "needs a prompt"),
        ({"prompt": "x", "approvals": {}, "history": []}, TypeError, "give the prompt to the next run"),
        ({"history": "waiting", "approvals": [1]}, TypeError, "approvals= takes a dictionary"),
        ({"history": "waiting", "approvals": {"call_1": 1}}, TypeError, "an approval is True, False"),
        ({"history": [{"role": "user", "content": "x"}], "approvals": {}}, ValueError, "no call waits"),
    ],
)
async def test_wrong_approvals_are_one_line(options: dict[str, Any], error: type[Exception], words: str) -> None:
    stage = Stage()
    if options.get("history") == "waiting":
        options = {**options, "history": await stage.agent.run("Go")}
    with pytest.raises(error, match=words):
        stage.agent.run(**options)
    assert "a" not in stage.ran


@pytest.mark.parametrize("family", sorted(FORMATS))
async def test_a_strict_provider_takes_the_history_of_a_run_that_waits(family: str) -> None:
    """Scenario 60: continued by a plain new prompt, and by an approval."""
    stage = Stage()
    calls = [call("remove", path="a"), call("look")]
    async with StrictServer(family, [calls, "Fine.", "Done."]) as server:
        agent = stage.agent.with_(model=server.provider("some-model"))
        first = await agent.run("Go")
        assert first.status == "waiting"
        assert (await agent.run("Never mind", history=first)).output == "Fine."
        answers = {each.call_id: True for each in first.pending}
        assert (await agent.run(history=first, approvals=answers)).output == "Done."
        assert server.refusals == []
    assert stage.ran == ["look", "a"]


# -- after a crash, and whatever comes in between


async def test_an_approval_outlives_a_crash_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written down before the call begins, so nobody is asked twice."""
    stage = Stage()
    crashes = [RuntimeError("bug")]
    begin = tool_batch.ToolBatch._begin

    async def crash_once(batch: Any, *cells: Any) -> None:
        if crashes and any(cell.tool.name == "remove" for cell in cells):
            raise crashes.pop()
        await begin(batch, *cells)

    monkeypatch.setattr(tool_batch.ToolBatch, "_begin", crash_once)
    heard: list[str] = []
    async with System() as system:
        run = await system.start(stage.agent, "Go", on_event=lambda event: heard.append(event.type))
        run.approve((await asked(run)).call_id)
        result = await run.result()
    assert (result.output, told(result)) == ("done", ["removed a", "seen"])
    assert (heard.count("run.restarted"), heard.count("approval.requested")) == (1, 1)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("way", ["handle", "approver", "nobody"])
def test_interrupted_at_every_step(backend: str, way: str) -> None:
    """INV1 to INV4: one outcome, one last event, a valid history, nothing left, whatever the moment of a stop."""

    async def scenario(interruption: Interruption) -> None:
        stage = Stage()
        heard: list[Any] = []

        async def approve(call: PendingCall) -> bool:
            await checkpoint()
            return True

        async with System() as system:
            options: dict[str, Any] = {"approve": approve} if way == "approver" else {}
            run = await system.start(stage.agent, "Go", on_event=heard.append, **options)
            interruption.arm(partial(run.stop, reason="enough"))
            if way == "handle":
                try:
                    run.approve((await asked(run)).call_id)
                except (StaleApproval, AssertionError):
                    assert interruption.fired
            elif way == "nobody":
                with suppress(AssertionError):
                    await asked(run)
                run.stop(reason="enough")
            result = await run.result()
        assert is_valid(result)
        assert heard[-1].type in ("run.completed", "run.stopped")
        assert len([event for event in heard if event.type.startswith("run.")]) <= 2
        requested = [event for event in heard if event.type == "approval.requested"]
        resolved = [event for event in heard if event.type == "approval.resolved"]
        assert len(resolved) == len(requested)
        if "a" in stage.ran:
            assert [event.answer for event in resolved] == ["approved"]
        with pytest.raises(StaleApproval):
            run.approve("call_1")

    interrupt_everywhere(scenario, backend=backend)


async def test_a_stop_before_the_first_step_of_a_resumed_run_keeps_the_calls_waiting() -> None:
    stage = Stage()
    first = await stage.agent.run("Go")
    async with System() as system:
        run = await system.start(stage.agent, history=first, approvals={"call_1": True})
        result = await run.stop()
    assert (result.status, told(result), "a" in stage.ran) == ("stopped", [WAITS, "seen"], False)
    assert (await stage.agent.run(history=result, approvals={"call_1": True})).output == "done"
    assert stage.ran == ["look", "a"]


async def test_a_resumed_run_that_crashes_goes_on_with_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The siblings' results and the answers are those of its beginning; what it has done since is in its journal."""
    stage = Stage([call("remove", path="a"), call("remove", path="b"), call("look")], "done")
    first = await stage.agent.run("Go")
    done = tool_batch.ToolBatch._ended
    crashes = [RuntimeError("bug")]

    async def crash_once(batch: Any, cell: Any) -> Any:
        effects = await done(batch, cell)
        if crashes and cell.call_id == "call_1":
            raise crashes.pop()
        return effects

    monkeypatch.setattr(tool_batch.ToolBatch, "_ended", crash_once)
    second = await stage.agent.run(history=first, approvals={"call_1": True, "call_2": "no"})
    assert crashes == []
    assert second.output == "done"
    assert told(second) == ["removed a", "denied: no", "seen"]
    assert stage.ran.count("a") == stage.ran.count("look") == 1


async def test_nothing_begins_in_a_pause() -> None:
    """An approval is taken, and the call begins when the run is resumed."""
    stage = Stage([call("remove", path="a")], "done")
    heard: list[str] = []
    async with System() as system:
        run = await system.start(stage.agent, "Go", on_event=lambda event: heard.append(event.type))
        id = (await asked(run)).call_id
        run.pause()
        run.approve(id)
        await anyio.wait_all_tasks_blocked()
        assert ("approval.resolved" in heard, stage.ran) == (True, [])
        run.resume()
        assert told(await run.result()) == ["removed a"]
    assert heard.count("tool.started") == 1


async def test_a_run_whose_calls_all_wait_comes_to_rest_when_it_is_paused() -> None:
    stage = Stage([call("remove", path="a")], "done")
    heard: list[str] = []
    async with System() as system:
        run = await system.start(stage.agent, "Go", on_event=lambda event: heard.append(event.type))
        await asked(run)
        run.pause()
        await anyio.wait_all_tasks_blocked()
        assert (heard.count("run.paused"), run.tree().state) == (1, "paused")
        result = await run.stop("after_tools")
        assert (result.status, stage.ran) == ("stopped", [])


@pytest.mark.parametrize("mode", ["after_tools", "after_turn"])
async def test_a_gentle_stop_does_not_wait_for_an_approval(mode: Any) -> None:
    """A call that waits for one does not run, so it would not end by itself."""
    stage = Stage()
    async with System() as system:
        run = await system.start(stage.agent, "Go")
        id = (await asked(run)).call_id
        result = await run.stop(mode)
        assert (result.status, stage.ran) == ("stopped", ["look"])
        assert [each.cause for message in result.messages for each in message.tool_results] == ["cancelled", None]
        with pytest.raises(StaleApproval):
            run.approve(id)


async def test_an_approver_that_minds_being_told_that_it_is_too_late() -> None:
    """The handle has answered; what the approver raises then fails nothing."""

    async def approve(call: PendingCall) -> bool:
        try:
            await anyio.sleep_forever()
        finally:
            raise RuntimeError("nasty")

    stage = Stage([call("remove", path="a")], "done")
    async with System() as system:
        run = await system.start(stage.agent, "Go", approve=approve)
        run.approve((await asked(run)).call_id)
        assert told(await run.result()) == ["removed a"]
