"""An agent's main job: a prompt goes in, a result comes out, tools are called on the way."""

from __future__ import annotations

import asyncio
import enum
import json
import threading
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import anyio
import msgspec
import pytest

from greenroom import (
    Agent,
    AgentFrozen,
    LimitExceeded,
    Limits,
    ModelRetry,
    ModelSettings,
    OutputInvalid,
    RestartLimit,
    Retry,
    RunContext,
    Supervision,
    ToolFailed,
    UnknownOption,
    tool,
)
from greenroom.providers import (
    BadResponse,
    ContentFiltered,
    InvalidRequest,
    ModelReply,
    Overloaded,
    RateLimited,
    Refusal,
    Scripted,
    ToolCall,
    Usage,
    assistant,
    call,
    user,
)

pytestmark = pytest.mark.anyio


@tool
async def weather(city: str) -> str:
    """Current weather in a city."""
    return f"sunny in {city}"


def add(left: int, right: int) -> int:
    """Add two numbers.

    Args:
        left: the first.
        right: the second.
    """
    return left + right


def results(messages: Any) -> list[tuple[str, bool, str | None]]:
    return [(r.content, r.is_error, r.cause) for message in messages for r in message.tool_results]


async def test_a_prompt_gets_an_answer() -> None:
    """The shortest run there is."""
    result = await Agent("helper", Scripted("Hello!")).run("Hi")
    assert (result.output, str(result), result.status, result.reason) == ("Hello!", "Hello!", "completed", "answered")
    assert [message.role for message in result.messages] == ["user", "assistant"]
    assert result.agent == "helper"
    assert result.ended_at >= result.started_at


async def test_tools_are_called_and_their_results_go_back() -> None:
    """Async and sync tools, in one reply, with checked arguments."""
    model = Scripted([call("weather", city="Tokyo"), call("add", left=1, right=2)], "Sunny, and 3.")
    result = await Agent("helper", model, tools=[weather, add]).run("Go")
    assert results(result.messages) == [("sunny in Tokyo", False, None), ("3", False, None)]
    assert [spec.name for spec in model.requests[0].tools] == ["weather", "add"]
    assert model.requests[1].messages[-1].tool_results[0].content == "3"


async def test_tools_of_one_reply_run_side_by_side() -> None:
    """Two tools that wait for each other both finish."""
    first, second = anyio.Event(), anyio.Event()

    async def left() -> str:
        """Left."""
        first.set()
        await second.wait()
        return "left"

    async def right() -> str:
        """Right."""
        second.set()
        await first.wait()
        return "right"

    model = Scripted([call("left"), call("right")], "done")
    with anyio.fail_after(5):
        result = await Agent("helper", model, tools=[left, right]).run("Go")
    assert [text for text, _, _ in results(result.messages)] == ["left", "right"]


@pytest.mark.parametrize(("parallel", "most"), [(False, 1), (1, 1), (2, 2), (True, 4)])
async def test_parallel_tools_bounds_how_many_run_at_once(parallel: Any, most: int) -> None:
    """`parallel_tools` is a switch or a number."""
    running = seen = 0

    async def work() -> str:
        """Work."""
        nonlocal running, seen
        running += 1
        seen = max(seen, running)
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        running -= 1
        return "ok"

    model = Scripted([call("work") for _ in range(4)], "done")
    await Agent("helper", model, tools=[work], parallel_tools=parallel).run("Go")
    assert seen == most


async def test_a_failing_tool_is_reported_and_its_siblings_finish() -> None:
    """Scenarios 62, 63: an exception becomes an error result with type and message."""

    async def broken() -> str:
        """Break."""
        raise LookupError("no such thing")

    model = Scripted([call("broken"), call("weather", city="Rome")], "sorry")
    result = await Agent("helper", model, tools=[broken, weather]).run("Go")
    assert results(result.messages) == [
        ("LookupError: no such thing", True, "failed"),
        ("sunny in Rome", False, None),
    ]
    assert result.status == "completed"


async def test_a_tool_may_steer_the_model() -> None:
    """`ModelRetry` and `ToolFailed` reach the model as their text alone."""

    async def picky(date: str) -> str:
        """Pick."""
        raise ModelRetry("use an ISO date") if date == "today" else ToolFailed("closed on that day")

    model = Scripted([call("picky", date="today")], [call("picky", date="2026-01-01")], "ok")
    result = await Agent("helper", model, tools=[picky]).run("Go")
    assert results(result.messages) == [("use an ISO date", True, "invalid"), ("closed on that day", True, "failed")]


async def test_a_tool_over_its_time_is_given_up() -> None:
    """Scenario 61: the model hears of it, siblings go on, the run does not fail."""

    @tool(timeout=0.01)
    async def slow() -> str:
        """Slow."""
        await anyio.sleep_forever()
        return "never"

    model = Scripted([call("slow"), call("weather", city="Rome")], "ok")
    result = await Agent("helper", model, tools=[slow, weather]).run("Go")
    assert results(result.messages)[0] == ("timed out after 0.01 s", True, "timed_out")
    assert result.status == "completed"


@pytest.mark.parametrize(
    "raw",
    [
        '{"city": ',
        '"Tokyo"',
        '{"town": "x"}',
        "{}",
        '{"city": 5}',
        '{"city": "x", "extra": 1}',
        '{"city": NaN}',
        "[" * 1000 + "]" * 1000,
    ],
)
async def test_bad_arguments_never_run_a_tool(raw: str) -> None:
    """Scenario 68: the model gets an error that says what to mend."""
    ran = False

    async def find(city: str) -> str:
        """Find."""
        nonlocal ran
        ran = True
        return city

    try:
        arguments = json.loads(raw)
    except (ValueError, RecursionError):
        arguments = None
    bad = ToolCall("c1", "find", arguments if isinstance(arguments, dict) else None, raw)
    result = await Agent("helper", Scripted([bad], "ok"), tools=[find]).run("Go")
    [(text, is_error, cause)] = results(result.messages)
    assert (is_error, cause, ran) == (True, "invalid", False)
    assert "find" in text


async def test_an_unknown_tool_is_named_with_those_there_are() -> None:
    """Scenario 69."""
    result = await Agent("helper", Scripted([call("nope")], "ok"), tools=[weather]).run("Go")
    assert results(result.messages) == [("there is no tool 'nope'; the tools are: weather", True, "unknown_tool")]


async def test_a_long_result_is_cut_with_a_note() -> None:
    """Scenario 70."""

    @tool(max_result=10)
    async def long() -> str:
        """Long."""
        return "x" * 25

    result = await Agent("helper", Scripted([call("long")], "ok"), tools=[long]).run("Go")
    assert results(result.messages)[0][0] == "x" * 10 + "\n[cut: 15 more characters]"


async def test_any_return_value_becomes_text() -> None:
    """Scenario 70: what has no JSON is shown as text; nothing breaks the run."""

    class Odd:
        def __repr__(self) -> str:
            return "<odd>"

    values: list[Any] = [None, {"a": 1}, [1, 2], True, b"\xff", Odd(), "\ud800"]

    async def give() -> Any:
        """Give."""
        return values.pop(0)

    model = Scripted(*[[call("give")] for _ in values], "ok")
    result = await Agent("helper", model, tools=[give]).run("Go")
    texts = [text for text, _, _ in results(result.messages)]
    assert texts[:4] == ["null", '{"a":1}', "[1,2]", "true"]
    assert texts[5:] == ["<odd>", "?"]


async def test_a_tool_gets_the_context_that_it_asks_for() -> None:
    """Dependencies and ids, typed."""
    seen: list[Any] = []

    async def who(context: RunContext[dict[str, str]], name: str) -> str:
        """Say who."""
        seen.append((context.deps["db"], context.user_id, context.conversation_id, context.call_id, context.agent))
        seen.append((context.run_id, context.idempotency_key, context.attempt, context.tags, context.metadata))
        return name

    agent = Agent("helper", Scripted([call("who", name="x")], "ok"), tools=[who], deps_type=dict)
    result = await agent.run(
        "Go", deps={"db": "main"}, user_id="u", conversation_id="c", tags=["t"], metadata={"k": 1}, run_id="mine"
    )
    assert seen == [
        ("main", "u", "c", "call_1", "helper"),
        ("mine", "mine:1:call_1", 1, ("t",), {"k": 1}),
    ]
    assert (result.run_id, result.conversation_id) == ("mine", "c")
    assert "context" not in json.dumps(agent.toolbox.specs[0].parameters)


async def test_sync_tools_run_in_threads() -> None:
    """A plain function does not block the event loop."""
    names: list[int] = []

    def blocking() -> str:
        """Block."""
        names.append(threading.get_ident())
        return "ok"

    await Agent("helper", Scripted([call("blocking")], "ok"), tools=[blocking]).run("Go")
    assert names != [threading.get_ident()]


async def test_instructions_may_be_a_function_of_the_context() -> None:
    """They are asked before each model call; sync or async."""

    async def instructions(context: RunContext[None]) -> str:
        return f"You help {context.user_id}."

    model = Scripted([call("weather", city="x")], "ok")
    await Agent("helper", model, instructions=instructions, tools=[weather]).run("Go", user_id="Ann")
    assert [request.instructions for request in model.requests] == ["You help Ann."] * 2


async def test_settings_reach_the_request() -> None:
    """As a record or a dictionary."""
    model = Scripted("a", "b")
    await Agent("helper", model, settings={"temperature": 0.5, "max_tokens": 9}).run("Go")
    await Agent("helper", model, settings=ModelSettings(seed=1)).run("Go")
    assert [request.settings.temperature for request in model.requests] == [0.5, None]
    assert [request.settings.seed for request in model.requests] == [None, 1]


async def test_a_conversation_goes_on_from_a_result() -> None:
    """`history=` takes a result, messages, or OpenAI-style dictionaries."""
    model = Scripted("one", "two", "three")
    agent = Agent("helper", model)
    first = await agent.run("1")
    second = await agent.run("2", history=first)
    assert [message.text for message in second.messages] == ["1", "one", "2", "two"]
    assert [message.text for message in second.new_messages] == ["2", "two"]
    third = await agent.run("3", history=[{"role": "user", "content": "0"}, assistant("zero")])
    assert third.messages.simplified() == [
        {"role": "user", "content": "0"},
        {"role": "assistant", "content": "zero"},
        {"role": "user", "content": "3"},
        {"role": "assistant", "content": "three"},
    ]


async def test_history_from_elsewhere_is_repaired_in_both_directions() -> None:
    """A missing result is added as an error, an orphaned one is left out."""
    history = [
        user("hi"),
        {"role": "tool", "tool_call_id": "ghost", "content": "boo"},
        assistant(tool_calls=[ToolCall("a", "weather", {"city": "x"}, '{"city":"x"}')]),
    ]
    model = Scripted("ok")
    await Agent("helper", model).run("Go", history=history)
    sent = model.requests[0].messages
    assert [message.role for message in sent] == ["user", "assistant", "tool", "user"]
    assert sent[2].tool_results[0].cause == "outcome_unknown"


async def test_the_result_shows_itself_as_plain_data() -> None:
    """Dictionaries, JSON, OpenAI messages."""
    model = Scripted([call("weather", city="x")], "ok", usage=Usage(input_tokens=3, output_tokens=4, total_tokens=7))
    result = await Agent("helper", model, tools=[weather]).run("Go")
    assert result.usage.total_tokens == 14
    assert json.loads(result.to_json())["messages"] == result.to_dict()["messages"]
    assert [entry["role"] for entry in result.messages.to_openai()] == ["user", "assistant", "tool", "assistant"]


# -- limits and failures


async def test_a_limit_raises_with_the_result_so_far() -> None:
    """The history of the limited run is valid and can be continued."""
    model = Scripted(*[[call("weather", city="x")]] * 3, "after all")
    agent = Agent("helper", model, tools=[weather], limits=Limits(turns=2))
    with pytest.raises(LimitExceeded) as caught:
        await agent.run("Go")
    error = caught.value
    assert (error.limit, error.used, error.allowed) == ("turns", 2, 2)
    assert error.result is not None
    assert (error.result.status, error.result.reason) == ("limited", "turns")
    assert len(results(error.result.messages)) == 2
    result = await agent.run("Go on", history=error.result, limits=Limits(turns=5))
    assert result.output == "after all"


async def test_a_limit_may_be_returned_instead() -> None:
    """`on_limit="return"`; zero turns make no request at all."""
    model = Scripted()
    result = await Agent("helper", model).run("Go", limits=Limits(turns=0), on_limit="return")
    assert (result.status, result.reason, result.output, model.requests) == ("limited", "turns", None, [])


async def test_a_model_call_is_tried_again_when_that_may_help() -> None:
    """429 and 5xx are; the run does not notice."""
    model = Scripted(RateLimited("slow down", status=429, retry_after=0.0), Overloaded("busy", status=503), "ok")
    result = await Agent("helper", model, retry=Retry(attempts=3, base=0.0)).run("Go")
    assert (result.output, len(model.requests)) == ("ok", 3)


async def test_a_model_call_that_cannot_succeed_fails_at_once() -> None:
    """The provider's own error is raised, with the result so far."""
    model = Scripted(InvalidRequest("no such model", status=404))
    with pytest.raises(InvalidRequest) as caught:
        await Agent("helper", model).run("Go")
    assert caught.value.result.status == "failed"
    assert len(model.requests) == 1


async def test_a_reply_that_says_nothing_because_of_an_error_is_tried_again() -> None:
    """Some providers answer in order, with an empty message and an error for a stop reason."""
    nothing = ModelReply(assistant(), "error", Usage(5, 1, 6), stop_reason_raw="MALFORMED_FUNCTION_CALL")
    result = await Agent("helper", Scripted(nothing, "fine"), retry=Retry(max_delay=0)).run("hello")
    assert result.output == "fine"
    assert result.usage.total_tokens == 6
    with pytest.raises(BadResponse, match="MALFORMED_FUNCTION_CALL"):
        await Agent("helper", Scripted(nothing), retry=Retry(attempts=1)).run("hello")


async def test_an_answer_that_the_filter_withheld_is_no_answer() -> None:
    withheld = ModelReply(assistant(), "content_filter", stop_reason_raw="SAFETY")
    with pytest.raises(ContentFiltered, match="SAFETY") as caught:
        await Agent("helper", Scripted(withheld)).run("hello")
    assert caught.value.result.status == "failed"
    half = ModelReply(assistant("so far"), "content_filter")
    assert (await Agent("helper", Scripted(half)).run("hello")).output == "so far"


async def test_a_refusal_is_the_answer_or_the_error() -> None:
    """As text it is what the model said; it is no value of another type, and the model is not asked again for one."""
    refusal = ModelReply(assistant(Refusal("I cannot help with that.")), "refusal")
    result = await Agent("helper", Scripted(refusal)).run("hello")
    assert (result.output, result.stop_reason) == ("I cannot help with that.", "refusal")
    with pytest.raises(OutputInvalid, match="I cannot help with that"):
        await Agent("helper", Scripted(refusal), output=int).run("hello")


async def test_the_result_tells_why_the_model_ended() -> None:
    result = await Agent("helper", Scripted(ModelReply(assistant("half an ans"), "length"))).run("hello")
    assert (result.status, result.stop_reason) == ("completed", "length")


async def test_attempts_are_bounded() -> None:
    """The last failure is the one that is raised."""
    model = Scripted(*[Overloaded(f"busy {number}") for number in range(5)])
    with pytest.raises(Overloaded, match="busy 1"):
        await Agent("helper", model, retry=Retry(attempts=2, base=0.0)).run("Go")


async def test_a_crash_around_the_run_goes_on_from_the_journal() -> None:
    """What is recorded is not asked again: neither the reply nor the tool's outcome."""
    ran = 0
    crashes = [RuntimeError("bug")]

    async def count() -> str:
        """Count."""
        nonlocal ran
        ran += 1
        return "counted"

    def instructions(context: RunContext[None]) -> str:
        if ran and crashes:
            raise crashes.pop()
        return "be good"

    model = Scripted([call("count")], "done")
    heard: list[Any] = []
    agent = Agent("helper", model, tools=[count], instructions=instructions)
    result = await agent.run("Go", on_event=heard.append)
    assert (result.output, ran, len(model.requests)) == ("done", 1, 2)
    assert [message.role for message in model.requests[1].messages] == ["user", "assistant", "tool"]
    assert results(result.messages) == [("counted", False, None)]
    [restarted] = [event for event in heard if event.type == "run.restarted"]
    assert (restarted.restarts, restarted.error) == (1, "RuntimeError: bug")


async def test_a_run_that_keeps_crashing_fails_with_its_last_crash() -> None:
    """The restart budget is the run's own."""

    def instructions(context: RunContext[None]) -> str:
        raise KeyError("template")

    agent = Agent("helper", Scripted(), instructions=instructions, supervision=Supervision(intensity=1))
    with pytest.raises(RestartLimit, match="KeyError: 'template'") as caught:
        await agent.run("Go")
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.result is not None
    assert caught.value.result.status == "failed"


# -- typed output


@dataclass
class Forecast:
    city: str
    degrees: float


class Sky(enum.Enum):
    CLEAR = "clear"
    GREY = "grey"


class Report(msgspec.Struct):
    sky: Sky
    wind: Annotated[int, msgspec.Meta(ge=0)]
    kind: Literal["day", "night"] = "day"
    parts: list[Forecast] = []


@pytest.mark.parametrize(
    ("output", "answer", "expected"),
    [
        (Forecast, '{"city": "Rome", "degrees": 20.5}', Forecast("Rome", 20.5)),
        (Report, '```json\n{"sky": "clear", "wind": 3}\n```', Report(Sky.CLEAR, 3)),
        (list[int], '{"result": [1, 2]}', [1, 2]),
        (bool, '{"result": true}', True),
    ],
)
async def test_output_has_the_type_that_was_asked_for(output: Any, answer: str, expected: Any) -> None:
    """Structs, dataclasses and plain types; the schema goes out with the request."""
    model = Scripted(answer)
    result = await Agent("helper", model, output=output).run("Go")
    assert result.output == expected
    schema = model.requests[0].output_schema
    assert schema is not None
    assert schema["type"] == "object"


async def test_an_answer_that_does_not_fit_goes_back_once() -> None:
    """The model is told what to mend; then the run fails."""
    model = Scripted("cold", '{"city": "Rome", "degrees": 1}', "cold", "colder")
    agent = Agent("helper", model, output=Forecast)
    assert (await agent.run("Go")).output == Forecast("Rome", 1)
    assert "JSON" in model.requests[1].messages[-1].text
    with pytest.raises(OutputInvalid):
        await agent.run("Go")


async def test_a_pydantic_model_is_read_by_itself() -> None:
    """Where pydantic is installed."""
    pydantic = pytest.importorskip("pydantic")
    Point = pydantic.create_model("Point", x=(int, ...))
    result = await Agent("helper", Scripted('{"x": 4}'), output=Point).run("Go")
    assert result.output.x == 4


# -- many runs


async def test_map_keeps_the_order_and_collects_errors() -> None:
    """Errors stand where their results would."""
    model = Scripted("one", InvalidRequest("bad"), "three")
    found = await Agent("helper", model).map(["a", "b", "c"], concurrency=1)
    assert [str(each) for each in found] == ["one", "bad", "three"]
    assert isinstance(found[1], InvalidRequest)


async def test_map_bounds_its_concurrency() -> None:
    """Never more than `concurrency` runs at once, and as many as that."""
    running = most = 0

    async def reply(request: Any) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        running -= 1
        return "ok"

    await Agent("helper", Scripted(*[reply] * 20)).map([str(number) for number in range(20)], concurrency=4)
    assert most == 4


async def test_map_may_raise_the_first_error_and_cancel_the_rest() -> None:
    """One error, bare, and no run is left."""

    async def never(request: Any) -> str:
        await anyio.sleep_forever()
        return ""

    model = Scripted(never, InvalidRequest("bad"))
    with anyio.fail_after(5), pytest.raises(InvalidRequest, match="bad"):
        await Agent("helper", model).map(["a", "b"], on_error="raise")


def test_run_sync_works_with_and_without_a_running_loop() -> None:
    """In a script, and inside a notebook's loop, on either backend."""
    agent = Agent("helper", Scripted("a", "b", "c"))
    assert agent.run_sync("Go").output == "a"
    assert agent.run_sync("Go", backend="trio").output == "b"

    async def notebook() -> str:
        return agent.run_sync("Go").output

    assert asyncio.run(notebook()) == "c"


def test_run_sync_raises_what_run_raises() -> None:
    """Also out of the thread of its own."""
    agent = Agent("helper", Scripted(InvalidRequest("bad"), InvalidRequest("bad")))
    with pytest.raises(InvalidRequest):
        agent.run_sync("Go")

    async def notebook() -> None:
        agent.run_sync("Go")

    with pytest.raises(InvalidRequest):
        asyncio.run(notebook())


# -- configuration


async def test_an_agent_is_frozen_by_its_first_run() -> None:
    """Before it, tools may be added; afterwards `with_` makes a changed copy."""
    agent = Agent("helper", Scripted("a", "b"))

    @agent.tool(timeout=3)
    async def early() -> str:
        """Early."""
        return "x"

    assert [spec.name for spec in agent.toolbox.specs] == ["early"]
    await agent.run("Go")
    with pytest.raises(AgentFrozen, match="with_"):
        agent.tool(add)
    copy = agent.with_(name="copy", tools=[*agent.tools, add])
    assert [spec.name for spec in copy.toolbox.specs] == ["early", "add"]
    assert (await copy.run("Go")).agent == "copy"


def untyped(a, b=1):  # type: ignore[no-untyped-def]
    """No annotations."""


def starred(*args: int) -> None:
    """Star."""


class NoSchema:
    pass


def odd(x: NoSchema) -> None:
    """A parameter that no JSON can hold."""


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Agent("", Scripted()), ValueError, "needs a name"),
        (lambda: Agent("a", 5), TypeError, "model= takes a Provider or a string"),
        (lambda: Agent("a", "opnai:gpt-5"), ValueError, "did you mean 'openai'"),
        (lambda: Agent("a", Scripted(), tools=[add, add]), ValueError, "two tools are called 'add'"),
        (lambda: Agent("a", Scripted(), tools=["add"]), TypeError, "tools= takes functions"),
        (lambda: Agent("a", Scripted(), tools=[untyped]), TypeError, "'a' has no type"),
        (lambda: Agent("a", Scripted(), tools=[odd]), TypeError, "'x'"),
        (lambda: Agent("a", Scripted(), tools=[starred]), TypeError, "args"),
        (lambda: Agent("a", Scripted(), max_turns=5), UnknownOption, r"write limits=Limits\(turns=5\)"),
        (lambda: Agent("a", Scripted(), output_type=int), UnknownOption, "write output=int"),
        (lambda: Agent("a", Scripted(), system_prompt="Be"), UnknownOption, "write instructions='Be'"),
        (lambda: Agent("a", Scripted(), tolls=[]), UnknownOption, "did you mean 'tools'"),
        (lambda: Agent("a", Scripted(), limits=5), TypeError, "limits="),
        (lambda: Agent("a", Scripted(), settings={"temprature": "hot"}), TypeError, "settings="),
        (lambda: Agent("a", Scripted(), settings={"temperature": "hot"}), ValueError, "settings: temperature"),
        (lambda: Agent("a", Scripted(), parallel_tools=0), ValueError, "parallel_tools"),
        (lambda: Agent("a", Scripted(), hooks={"on_tol_start": print}), TypeError, "did you mean 'on_tool_start'"),
        (lambda: Agent("a", Scripted(), instructions=5), TypeError, "instructions"),
        (lambda: Limits(turns=-1), ValueError, "turns"),
        (lambda: tool(timeout=0)(add), ValueError, "timeout"),
        (lambda: tool(where="moon")(add), ValueError, "where"),
        (lambda: Agent("a", Scripted()).run(), TypeError, "prompt"),
        (lambda: Agent("a", Scripted()).run(5), TypeError, "a prompt is text"),
        (lambda: Agent("a", Scripted()).run("x", max_turns=3), UnknownOption, r"limits=Limits\(turns=3\)"),
        (lambda: Agent("a", Scripted()).run("x", message_history=[]), UnknownOption, "write history="),
        (lambda: Agent("a", Scripted()).run("x", on_limit="panic"), ValueError, "on_limit"),
        (lambda: Agent("a", Scripted()).run("x", history="no"), TypeError, "history="),
        (lambda: Agent("a", Scripted()).map([], concurrency=0), ValueError, "concurrency"),
        (lambda: Agent("a", Scripted()).run_sync("x", backend="curio"), ValueError, "backend"),
        (lambda: Agent("a", Scripted()).stream("x", on_exit="panic"), ValueError, "on_exit"),
    ],
)
def test_wrong_use_gets_one_clear_line(make: Any, error: type[Exception], words: str) -> None:
    """The message names the argument and the remedy."""
    with pytest.raises(error, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_a_forgotten_await_explains_itself() -> None:
    """Neither 'coroutine has no attribute' nor silence."""
    forgotten = Agent("a", Scripted("x")).run("Go")
    with pytest.raises(AttributeError, match=r"write `await agent.run\(…\)`"):
        forgotten.output  # type: ignore[attr-defined]  # noqa: B018
    assert "not awaited" in repr(forgotten)
    forgotten.close()


async def test_a_run_may_be_scheduled_like_any_coroutine(anyio_backend_name: str) -> None:
    """In task groups of either backend, and as an asyncio task."""
    agent = Agent("helper", Scripted("a", "b", "c"))
    found: list[str] = []

    async def collect() -> None:
        found.append((await agent.run("Go")).output)

    async with anyio.create_task_group() as group:
        group.start_soon(collect)
        group.start_soon(agent.run, "Go")
    if anyio_backend_name == "asyncio":
        found.append((await asyncio.create_task(agent.run("Go"))).output)
    assert len(agent.provider.requests) == (3 if anyio_backend_name == "asyncio" else 2)  # type: ignore[attr-defined]


async def test_a_reply_without_ids_still_pairs_calls_and_results() -> None:
    """Some servers give calls no id."""
    reply = ModelReply(assistant(tool_calls=[ToolCall(None, "weather", {"city": "x"}, '{"city":"x"}')]))
    model = Scripted(lambda request: reply, "ok")
    model._with_id = lambda item: item  # type: ignore[method-assign]
    result = await Agent("helper", model, tools=[weather]).run("Go")
    [asked] = [c.id for message in result.messages for c in message.tool_calls]
    [answered] = [r.call_id for message in result.messages for r in message.tool_results]
    assert asked == answered
    assert asked
