"""Policies: who may call what, and what becomes of a call that may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from greenroom import (
    Agent,
    Allow,
    Ask,
    Deny,
    GuardFailed,
    RunContext,
    System,
    ToolError,
    UnknownOption,
    allow_only,
    ask_before,
    deny_all,
    tool,
)
from greenroom.providers import Retry, Scripted, ToolCall, call

pytestmark = pytest.mark.anyio

ran: list[str] = []


@pytest.fixture(autouse=True)
def nothing_has_run() -> None:
    ran.clear()


@tool(tags=["read"])
async def look() -> str:
    """Look."""
    ran.append("look")
    return "seen"


@tool(tags=["write"], risk="high")
async def remove(path: str) -> str:
    """Remove a file."""
    ran.append(f"remove {path}")
    return f"removed {path}"


def calling(policy: Any = None, **options: Any) -> Agent[Any, str]:
    script = Scripted([call("look"), call("remove", path="a")], "done")
    return Agent("helper", script, tools=[look, remove], policy=policy, **options)


def told(result: Any) -> list[tuple[str, str | None]]:
    return [(each.content, each.cause) for message in result.messages for each in message.tool_results]


SEEN, REMOVED = ("seen", None), ("removed a", None)


async def later(verdict: Any) -> Any:
    await anyio.lowlevel.checkpoint()
    return verdict


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Allow(), [SEEN, REMOVED]),
        (True, [SEEN, REMOVED]),
        (None, [SEEN, REMOVED]),
        (Deny("not on Sundays"), [SEEN, ("denied: not on Sundays", "denied")]),
        (False, [SEEN, ("denied: not allowed", "denied")]),
    ],
)
async def test_a_policy_is_asked_before_each_call(verdict: Any, expected: list[Any], asynchronous: bool) -> None:
    asked: list[tuple[str, str, str | None]] = []

    def policy(call: ToolCall, context: RunContext[None]) -> Any:
        asked.append((call.name, context.agent, context.user_id))
        answer = verdict if call.name == "remove" else None
        return later(answer) if asynchronous else answer

    result = await calling(policy).run("Go", user_id="u1")
    assert told(result) == expected
    assert sorted(asked) == [("look", "helper", "u1"), ("remove", "helper", "u1")]
    assert sorted(ran) == ["look", *(["remove a"] if expected[1] is REMOVED else [])]


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        (allow_only("look"), ["look"]),
        (allow_only(tags=["write"]), ["remove a"]),
        (allow_only("look", tags={"write"}), ["look", "remove a"]),
        (deny_all(), []),
    ],
)
async def test_ready_made_policies(policy: Any, names: list[str]) -> None:
    await calling(policy).run("Go")
    assert sorted(ran) == names


@pytest.mark.parametrize(
    "policy", [ask_before("remove"), ask_before(tags=["write"]), ask_before(risk="medium"), ask_before(risk="high")]
)
async def test_a_policy_that_asks_holds_one_call_up(policy: Any) -> None:
    result = await calling(policy).run("Go")
    assert (result.status, result.reason, ran) == ("waiting", "approval", ["look"])
    assert [each.tool for each in result.pending] == ["remove"]


async def test_of_several_policies_the_strictest_holds() -> None:
    """The agent's own, and that of the run, which holds for its subagents too."""
    asks: Any = lambda call, context: Ask(f"{call.name}?")  # noqa: E731
    for first, second, status, names in [
        (deny_all(), asks, "completed", []),
        (asks, deny_all(), "completed", []),
        (None, asks, "waiting", []),
        (asks, allow_only("look", "remove"), "waiting", []),
        (allow_only("look"), allow_only("look", "remove"), "completed", ["look"]),
    ]:
        ran.clear()
        result = await calling(first).run("Go", policy=second)
        assert (result.status, sorted(ran)) == (status, names)
    boss = Agent("boss", Scripted([call("helper", prompt="?")], "done"), tools=[calling()])
    ran.clear()
    result = await boss.run("Go", policy=lambda call, context: call.name != "remove")
    assert (result.status, ran) == ("completed", ["look"])


async def raises(call: ToolCall, context: RunContext[None]) -> bool:
    raise LookupError("no rule book")


@pytest.mark.parametrize(
    ("policy", "cause", "words"),
    [
        (raises, LookupError, "LookupError: no rule book"),
        (lambda call, context: "yes", TypeError, r"a policy returns Allow\(\), Deny\(…\), Ask\(…\)"),
    ],
)
async def test_a_policy_that_fails_fails_the_run(policy: Any, cause: type[Exception], words: str) -> None:
    """A call that nobody could judge does not run, and neither does the conversation go on; it stays valid."""
    script = Scripted([call("remove", path="a")], "never")
    with pytest.raises(GuardFailed, match=words) as caught:
        await Agent("helper", script, tools=[remove], policy=policy).run("Go")
    assert isinstance(caught.value.__cause__, cause)
    assert (caught.value.tool, ran, len(script.requests)) == ("remove", [], 1)
    result = caught.value.result
    assert result is not None
    assert result.status == "failed"
    assert [cause for _, cause in told(result)] == ["denied"]


async def test_arguments_are_checked_before_anybody_judges_them() -> None:
    judged: list[ToolCall] = []
    script = Scripted([call("remove"), call("nope")], "done")
    await Agent("helper", script, tools=[remove], policy=lambda call, context: judged.append(call)).run("Go")
    assert (judged, ran) == ([], [])


async def test_a_slow_policy_holds_up_no_sibling() -> None:
    hangs = anyio.Event()

    async def policy(call: ToolCall, context: RunContext[None]) -> None:
        if call.name == "remove":
            await hangs.wait()

    async with System() as system:
        run = await system.start(calling(policy), "Go")
        async for event in run:
            if event.type == "tool.completed":
                break
        result = await run.stop()
    assert told(result) == [SEEN, ("cancelled: the run was stopped before this call finished", "cancelled")]
    assert ran == ["look"]


# -- what a failing tool does


@tool
async def fails() -> str:
    """Fail."""
    raise ConnectionError("no route")


@tool(timeout=1)
async def hangs() -> str:
    """Hang."""
    await anyio.sleep_forever()
    return "never"


@pytest.mark.parametrize("failing", [fails, hangs])
async def test_a_tool_may_fail_its_run(failing: Any, anyio_backend: Any) -> None:
    """Scenario 62: the policy may fail the run; the siblings are given up and the history is valid."""
    strict = tool(on_error="fail", timeout=failing.timeout and 0.01)(failing.function)
    script = Scripted([call(strict.name), call("rest")], "never")

    async def rest() -> str:
        """Rest."""
        await anyio.sleep_forever()
        return "never"

    with pytest.raises(ToolError) as caught:
        await Agent("helper", script, tools=[strict, rest]).run("Go")
    assert isinstance(caught.value.__cause__, (ConnectionError, TimeoutError))
    assert (caught.value.tool, len(script.requests)) == (strict.name, 1)
    assert caught.value.result is not None
    first, second = told(caught.value.result)
    assert first[1] in ("failed", "timed_out")
    assert second == ("cancelled: another call of the same reply failed", "cancelled")


async def test_a_failing_tool_may_end_its_siblings() -> None:
    """Scenario 63: fail-fast, where it is chosen, cancels and fills in the rest; the model goes on."""

    async def rest() -> str:
        """Rest."""
        await anyio.sleep_forever()
        return "never"

    script = Scripted([call("look"), call("rest"), call("fails"), call("rest")], "done")
    agent = Agent("helper", script, tools=[look, fails, rest], on_tool_error="cancel", parallel_tools=3)
    result = await agent.run("Go")
    assert result.output == "done"
    given_up = ("cancelled: another call of the same reply failed", "cancelled")
    assert told(result) == [SEEN, given_up, ("ConnectionError: no route", "failed"), given_up]


# -- trying again


@pytest.mark.parametrize("where", ["loop", "thread"])
async def test_a_tool_that_raises_is_tried_again(where: Any) -> None:
    """One call: one start, one end, the same key; what went wrong before is told as it happens."""
    seen: list[tuple[int, str]] = []
    types: list[Any] = []

    def flaky(context: RunContext[None]) -> str:
        """Work at the third try."""
        seen.append((context.attempt, context.idempotency_key))
        if len(seen) < 3:
            raise ConnectionError(f"try {len(seen)}")
        return "at last"

    agent = Agent(
        "helper",
        Scripted([call("flaky")], "done"),
        tools=[tool(where=where, retries=Retry(attempts=4, base=0.0))(flaky)],
        hooks={"on_tool_error": types.append},
    )
    result = await agent.run("Go", on_event=lambda event: types.append(event.type))
    assert told(result) == [("at last", None)]
    assert [attempt for attempt, _ in seen] == [1, 2, 3]
    assert len({key for _, key in seen}) == 1
    about = [each for each in types if isinstance(each, str) and each.startswith("tool.")]
    assert about == ["tool.started", "tool.retrying", "tool.retrying", "tool.completed"]
    heard = [each for each in types if not isinstance(each, str)]
    assert [(each.attempt, each.error) for each in heard] == [
        (1, "ConnectionError: try 1"),
        (2, "ConnectionError: try 2"),
    ]


@pytest.mark.parametrize(
    ("options", "error", "tries"),
    [
        ({"retries": 2}, ValueError("x"), 3),
        ({"retries": 1, "retry_on": (OSError, LookupError)}, KeyError("x"), 2),
        ({"retries": 1, "retry_on": OSError}, KeyError("x"), 1),
        ({"retries": 0}, OSError("x"), 1),
        ({"retries": Retry(attempts=1)}, OSError("x"), 1),
    ],
)
async def test_what_is_tried_again(
    options: dict[str, Any], error: Exception, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from greenroom.agents import tool_cell

    async def at_once(seconds: float) -> None:
        assert 0.25 <= seconds <= 1.0

    monkeypatch.setattr(tool_cell.anyio, "sleep", at_once)
    attempts: list[int] = []

    @tool(**options)
    async def work() -> str:
        """Work."""
        attempts.append(1)
        raise error

    result = await Agent("helper", Scripted([call("work")], "done"), tools=[work]).run("Go")
    assert len(attempts) == tries
    assert told(result) == [(f"{type(error).__name__}: {error}", "failed")]


async def test_what_the_model_is_to_mend_is_not_tried_again() -> None:
    from greenroom import ModelRetry, ToolFailed

    attempts: list[int] = []

    @tool(retries=5)
    async def work(hint: bool) -> str:
        """Work."""
        attempts.append(1)
        raise ModelRetry("later") if hint else ToolFailed("never")

    script = Scripted([call("work", hint=True), call("work", hint=False)], "done")
    result = await Agent("helper", script, tools=[work]).run("Go")
    assert told(result) == [("later", "invalid"), ("never", "failed")]
    assert len(attempts) == 2


# -- wrong options


def one(**rules: Any) -> Callable[[], Any]:
    return lambda: tool(**rules)(look.function)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (one(retries=-1), ValueError, "retries must be a whole number"),
        (one(retries=True), ValueError, "retries must be a whole number"),
        (one(retries=1, retry_on="OSError"), TypeError, "retry_on must be a class of exceptions"),
        (one(retries=1, retry_on=()), TypeError, "retry_on must be a class of exceptions"),
        (one(retries=1, retry_on=KeyboardInterrupt), TypeError, "retry_on must be a class of exceptions"),
        (one(retry_on=OSError), ValueError, "give retries= too"),
        (one(timeot=3), TypeError, "did you mean 'timeout'"),
        (lambda: Deny(5), TypeError, "takes text for the model, not 5"),  # type: ignore[arg-type]
        (one(limit=0), ValueError, "limit must be a number of calls at once"),
        (one(lock=""), ValueError, "lock must be a key"),
        (one(lock=3), ValueError, "lock must be a key"),
        (one(needs_approval="yes"), TypeError, "needs_approval must be True, False or a function"),
        (one(on_error="ignore"), ValueError, "on_error must be one of 'report', 'cancel', 'fail'"),
        (one(risk="huge"), ValueError, "risk must be one of 'low', 'medium', 'high'"),
        (one(tags="read"), TypeError, r"write tags=\['read'\]"),
        (one(tags=[1]), TypeError, "tags takes a list of texts"),
        (one(tags=3), TypeError, "tags takes a list of texts"),
        (one(retrys=3), UnknownOption, "did you mean 'retries'"),
        (lambda: calling("deny"), TypeError, "policy= takes a function"),
        (lambda: calling(lambda call: True), TypeError, r"def policy\(call, context\)"),
        (lambda: calling(on_tool_error="stop"), ValueError, "on_tool_error='stop' is not one of"),
        (lambda: calling(approval_timeout=0), ValueError, "approval_timeout must be above 0 seconds"),
        (lambda: allow_only(tags="read"), TypeError, "takes names, not 'read'"),
        (lambda: ask_before(risk="huge"), ValueError, "ask_before"),  # type: ignore[arg-type]
        (lambda: System(max_tools=0), ValueError, "max_tools must be at least 1"),
    ],
)
def test_a_wrong_option_is_one_line(make: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)
