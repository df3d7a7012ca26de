"""The strict fake servers: what they play, and whole agent runs against each of them, and from each to every other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import anyio
import httpx
import msgspec
import pytest

from greenroom import Agent, Limits, RunResult, tool
from greenroom.providers import (
    InvalidRequest,
    Message,
    ModelRequest,
    Overloaded,
    Provider,
    RateLimited,
    Retry,
    StreamInterrupted,
    Text,
    TextDelta,
    assistant,
    call,
    image,
    tool_result,
    user,
)
from greenroom.testing import FORMATS, Refused, Said, StrictServer, Unfinished

pytestmark = pytest.mark.anyio

REQUEST = ModelRequest([user("hello")])
QUICK = Retry(attempts=3, base=0.001, max_delay=0.01)
#: A name of each family whose rules are the strictest.
MODELS = {
    "anthropic": "claude-sonnet-5",
    "bedrock": "anthropic.claude-sonnet-5-v1:0",
    "cohere": "command-a-reasoning-08-2025",
    "gemini": "gemini-3-pro",
    "ollama": "qwen3",
    "openai-chat": "gpt-5-mini",
    "openai-responses": "gpt-5-mini",
}
FAMILIES = sorted(FORMATS)


def model(server: StrictServer, family: str) -> Provider:
    return server.provider(MODELS.get(family, "some-model"))


@tool
async def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


@tool
async def fare(city: str, day: int = 1) -> str:
    """What a ticket to a city costs."""
    raise ValueError(f"no trains to {city}")


TOOLS = [weather, fare]
#: A turn of thought, text and parallel calls, one of which fails; then one call alone, without text; then the end.
CONVERSATION: list[Any] = [
    Said(
        "Let me look.",
        [call("weather", city="Oslo"), call("fare", city="Rome", day=2), call("weather", city="Łódź 🎭")],
        "The user wants to know the weather.",
    ),
    [call("weather", city="Rome")],
    Said("It rains everywhere.", thinking="That is all."),
]
AND_NOW: list[Any] = [Said("", [call("weather", city="Bonn")], "Once more."), "Still raining."]


async def converse(agent: Agent[Any, str], prompt: str, streamed: bool, **options: Any) -> RunResult[str]:
    """Run to the end, watched closely or not at all."""
    if not streamed:
        return await agent.run(prompt, **options)
    async with agent.stream(prompt, **options) as run:
        shown = "".join([piece async for piece in run.text()])
        result = await run.result()
    assert result.text in shown
    return result


def roles(messages: Sequence[Message]) -> list[str]:
    return [message.role for message in messages]


# Whole runs.


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
async def test_a_conversation_of_many_turns(family: str, streamed: bool) -> None:
    """Parallel calls, a failing tool, thinking, an answer, and a second run that goes on from the first."""
    async with StrictServer(family, [*CONVERSATION, *AND_NOW]) as server:
        agent = Agent("traveller", model(server, family), tools=TOOLS, instructions="Be brief.")
        first = await converse(agent, "How is the weather?", streamed)
        assert server.refusals == []
        second = await converse(agent, "and now?", streamed, history=first)
        assert server.refusals == []
    assert (first.text, second.text) == ("It rains everywhere.", "Still raining.")
    assert roles(first.messages) == ["user", "assistant", "tool", "tool", "tool", "assistant", "tool", "assistant"]
    results = [result for message in first.messages for result in message.tool_results]
    assert [result.is_error for result in results] == [False, True, False, False]
    assert [result.content for result in results][::2] == ["rain in Oslo", "rain in Łódź 🎭"]
    assert "no trains to Rome" in results[1].content
    assert server.unplayed == 0
    assert len(server.requests) == 5
    assert first.usage.input_tokens is not None


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
async def test_bad_calls_do_not_break_a_conversation(family: str, streamed: bool) -> None:
    """An unknown tool, wrong arguments and the same call twice: each has its result, and the history stays valid."""
    calls = [call("teleport", city="Oslo"), call("weather", town=3), call("weather"), call("weather", city="Bonn")]
    async with StrictServer(family, [calls, [call("weather", city="Bonn")], "Done."]) as server:
        agent = Agent("traveller", model(server, family), tools=TOOLS)
        result = await converse(agent, "Go!", streamed)
        assert server.refusals == []
    results = [result for message in result.messages for result in message.tool_results]
    assert [item.is_error for item in results] == [True, True, True, False, False]


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_limited_run_can_be_continued(family: str) -> None:
    """It ends with results that the model has not seen; the next prompt comes right behind them."""
    async with StrictServer(family, [*CONVERSATION[:1], "Fine."]) as server:
        agent = Agent("traveller", model(server, family), tools=TOOLS)
        first = await agent.run("Go!", limits=Limits(turns=1), on_limit="return")
        assert roles(first.messages)[-1] == "tool"
        assert (await agent.run("and now?", history=first)).text == "Fine."
        assert server.refusals == []


async def stopped_run(family: str, said: Said) -> RunResult[str]:
    """A run that was stopped while its answer streamed."""
    async with StrictServer(family, [[call("weather", city="Oslo")], Unfinished(said)]) as server:
        agent = Agent("traveller", model(server, family), tools=TOOLS)
        async with agent.stream("How is the weather?") as run:
            async for event in run.events():
                if event.type in ("model.text_delta", "model.thinking_delta") and len(server.requests) == 2:
                    break
            result = await run.stop("now")
        assert server.refusals == []
    assert result.status == "stopped"
    return result


LONG = Said("A long answer about the rain in Oslo, and about more rain.", thinking="Rain again, it seems.")


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_stopped_run_can_be_continued(family: str) -> None:
    """What had streamed is in its history as a partial message, which the provider takes back."""
    stopped = await stopped_run(family, LONG)
    assert stopped.messages[-1].partial
    async with StrictServer(family, ["Fine."]) as server:
        agent = Agent("traveller", model(server, family), tools=TOOLS)
        assert (await agent.run("and now?", history=stopped)).text == "Fine."
        assert server.refusals == []


class Trip(msgspec.Struct):
    """A trip."""

    city: str
    days: list[int]
    by: Literal["train", "bus"] | None = None


@pytest.mark.parametrize("with_tools", [False, True])
@pytest.mark.parametrize(
    ("output", "answer", "expected"),
    [
        (Trip, '{"city": "Oslo", "days": [1, 2], "by": null}', Trip("Oslo", [1, 2])),
        (list[int], '{"result": [1, 2]}', [1, 2]),
        (dict[str, int], '{"a": 1}', {"a": 1}),
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
async def test_typed_output(family: str, output: Any, answer: str, expected: Any, with_tools: bool) -> None:
    """Its schema is one that the provider takes, with tools beside it and without."""
    script: list[Any] = [[call("weather", city="Oslo")], answer] if with_tools else [answer]
    async with StrictServer(family, script) as server:
        agent = Agent("planner", model(server, family), tools=TOOLS if with_tools else [], output=output)
        assert (await agent.run("Plan!")).output == expected
        assert server.refusals == []


async def nothing() -> str:
    """Without parameters."""
    return "done"


async def odd(
    a: int | None, b: dict[str, list[float]], c: Literal["x", 1] = "x", d: Any = None, e: tuple[int, str] = (1, "")
) -> str:
    """With parameters of every kind."""
    return "done"


@pytest.mark.parametrize(
    "settings",
    [
        {"max_tokens": 4000},
        {"tool_choice": "required"},
        {"tool_choice": "none"},
        {"tool_choice": "weather"},
        {"tool_choice": "auto", "parallel_tool_calls": False},
        {"max_tokens": 100, "parallel_tool_calls": True},
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
async def test_settings_and_tools_of_every_kind(family: str, settings: dict[str, Any]) -> None:
    """What we offer for all providers, each of them takes, in its own words."""
    async with StrictServer(family, [[call("nothing")], "Done."]) as server:
        agent = Agent("worker", model(server, family), tools=[*TOOLS, nothing, odd], settings=settings)
        assert (await agent.run("Go!")).text == "Done."
        assert server.refusals == []


# From one family to another.


@pytest.mark.parametrize("there", FAMILIES)
@pytest.mark.parametrize("here", FAMILIES)
async def test_a_conversation_moves_to_another_provider(here: str, there: str) -> None:
    """Signatures, items and ids of the first mean nothing to the second; and the way back is open too."""
    async with StrictServer(here, [*CONVERSATION, *AND_NOW]) as first, StrictServer(there, AND_NOW) as second:
        result = await Agent("traveller", model(first, here), tools=TOOLS).run("How is the weather?")
        elsewhere = Agent("traveller", model(second, there), tools=TOOLS)
        moved = await elsewhere.run("and now?", history=result)
        assert second.refusals == []
        assert moved.text == "Still raining."
        back = await Agent("traveller", model(first, here), tools=TOOLS).run("and now?", history=moved)
        assert first.refusals == []
        assert back.text == "Still raining."


@pytest.mark.parametrize("there", FAMILIES)
@pytest.mark.parametrize("here", FAMILIES)
async def test_a_stopped_conversation_moves_to_another_provider(here: str, there: str) -> None:
    """Half a thought has no signature, and half an answer is an answer all the same."""
    stopped = await stopped_run(here, LONG)
    async with StrictServer(there, AND_NOW) as server:
        agent = Agent("traveller", model(server, there), tools=TOOLS)
        assert (await agent.run("and now?", history=stopped)).text == "Still raining."
        assert server.refusals == []


#: Histories that no run of ours makes, and that callers bring.
STRANGE: dict[str, list[Any]] = {
    "calls without ids": [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
                {"function": {"name": "weather", "arguments": '{"city": "Rome"}'}},
            ],
        },
    ],
    "the same id in two turns": [
        {"role": "user", "content": "Weather?"},
        *[
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "call_1", "function": {"name": "weather", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        ]
        * 2,
    ],
    "a long id with odd characters": [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "tool_calls": [{"id": "fc:" + "x/+=" * 30, "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "fc:" + "x/+=" * 30, "content": ""},
    ],
    "two long ids with the same beginning": [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "x" * 70 + end, "function": {"name": "weather", "arguments": "{}"}} for end in ("a", "b")
            ],
        },
        {"role": "tool", "tool_call_id": "x" * 70 + "b", "content": "b"},
        {"role": "tool", "tool_call_id": "x" * 70 + "a", "content": "a"},
    ],
    "arguments that are not JSON": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "weather", "arguments": "{oops"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "bad arguments"},
    ],
    "empty answers": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "Well?"},
        {"role": "assistant", "content": None},
    ],
    "nothing but thinking": [
        user("Weather?"),
        {"role": "assistant", "content": None, "reasoning_content": "Rain?"},
    ],
    "several messages of the user": [user("One."), user("Two."), user("Three.")],
    "several messages of the assistant": [
        user("One."),
        {"role": "assistant", "content": "A."},
        {"role": "assistant", "content": "B."},
    ],
    "system messages in the middle": [
        {"role": "system", "content": "Be kind."},
        user("One."),
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": "A."},
        {"role": "developer", "content": "Be true."},
    ],
    "a system message alone": [{"role": "system", "content": "Be kind."}],
    "an answer first": [{"role": "assistant", "content": "Welcome!"}],
    "a refusal": [user("Do evil."), {"role": "assistant", "content": None, "refusal": "No."}],
    "empty texts": [user(""), {"role": "assistant", "content": "A."}, user()],
    "white space": [user(" \n"), {"role": "assistant", "content": "A.\n "}],
    "a call without a result": [
        user("Weather?"),
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "weather", "arguments": "{}"}}]},
        user("Well?"),
        {"role": "assistant", "content": "A."},
    ],
    "a result without a call": [user("Weather?"), tool_result("c", "rain"), {"role": "assistant", "content": "A."}],
    "a result first": [tool_result("c", "rain"), user("Weather?")],
    "one of two calls is answered": [
        user("Weather?"),
        {
            "role": "assistant",
            "tool_calls": [{"id": id, "function": {"name": "weather", "arguments": "{}"}} for id in ("c", "d")],
        },
        tool_result("d", "rain"),
        user("Well?"),
    ],
    "two results of one call": [
        user("Weather?"),
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "weather", "arguments": "{}"}}]},
        tool_result("c", "rain"),
        tool_result("c", "sun"),
    ],
    "the user speaks between call and result": [
        user("Weather?"),
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "weather", "arguments": "{}"}}]},
        user("Wait."),
        tool_result("c", "rain"),
    ],
    "a picture that a model made": [
        user("Draw!"),
        Message("assistant", (Text("Look:"), image(b"x", media_type="image/png"))),
    ],
    "a tool that is gone": [
        user("Weather?"),
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "old tool!", "arguments": "{}"}}]},
        tool_result("c", "rain"),
    ],
}


@pytest.mark.parametrize("with_tools", [True, False])
@pytest.mark.parametrize("history", STRANGE)
@pytest.mark.parametrize("family", FAMILIES)
async def test_histories_from_elsewhere(family: str, history: str, with_tools: bool) -> None:
    """A run takes what callers bring, and sends only what the provider accepts."""
    async with StrictServer(family, ["Fine."]) as server:
        agent = Agent("traveller", model(server, family), tools=TOOLS if with_tools else [])
        assert (await agent.run("and now?", history=STRANGE[history])).text == "Fine."
        assert server.refusals == []


@pytest.mark.parametrize("history", STRANGE)
@pytest.mark.parametrize("family", FAMILIES)
async def test_histories_from_elsewhere_without_a_run(family: str, history: str) -> None:
    """Nobody has mended them before they reach the provider."""
    async with StrictServer(family, ["Fine."]) as server:
        request = ModelRequest([*STRANGE[history], user("and now?")])
        assert (await model(server, family).complete(request)).message.text == "Fine."
        assert server.refusals == []


@pytest.mark.parametrize("history", [[], [*STRANGE["a system message alone"]], [user("One."), assistant("Two")]])
@pytest.mark.parametrize("family", FAMILIES)
async def test_conversations_that_ask_nothing(family: str, history: list[Any]) -> None:
    """Nothing at all, nothing of the user, or an answer last: the provider is asked all the same, in its own form."""
    async with StrictServer(family, ["Fine."]) as server:
        provider = model(server, family)
        assert (await provider.complete(ModelRequest(history))).message.text == "Fine."
        assert server.refusals == []


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_result_behind_the_users_word_is_not_lost(family: str) -> None:
    """It is told as the result that it is, and nothing else is."""
    async with StrictServer(family, ["Fine."]) as server:
        await model(server, family).complete(ModelRequest(STRANGE["the user speaks between call and result"]))
        assert server.refusals == []
    told = msgspec.json.encode(server.requests[0]).decode()
    assert "rain" in told
    assert "unknown" not in told


# The server itself.


async def test_lines_of_a_script() -> None:
    """Text, one call, calls, a `Said`, statuses and refusals, in order."""
    script = ["a", call("f", x=1), [call("f"), call("g")], Said("b", usage=(3, 4)), 503, Refused(429, {"error": "no"})]
    async with StrictServer("openai-chat", script) as server:
        provider = server.provider("gpt-5-mini")
        assert (await provider.complete(REQUEST)).message.text == "a"
        assert [item.arguments for item in (await provider.complete(REQUEST)).message.tool_calls] == [{"x": 1}]
        calls = (await provider.complete(REQUEST)).message.tool_calls
        assert [item.name for item in calls] == ["f", "g"]
        assert len({item.id for item in calls}) == 2
        reply = await provider.complete(REQUEST)
        assert reply.usage is not None
        assert (reply.message.text, reply.usage.input_tokens, reply.usage.output_tokens) == ("b", 3, 4)
        with pytest.raises(Overloaded):
            await provider.complete(REQUEST)
        with pytest.raises(RateLimited, match="no"):
            await provider.complete(REQUEST)
        assert (server.refusals, server.unplayed, len(server.requests)) == ([], 0, 6)
        assert server.requests[0] == {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hello"}]}


async def test_a_script_that_runs_dry_says_so() -> None:
    """With status 500, and kept as a refusal."""
    async with StrictServer("openai-chat", ["a"]) as server:
        provider = server.provider()
        await provider.complete(REQUEST)
        with pytest.raises(Overloaded, match="has 1 lines, and was asked for one more"):
            await provider.complete(REQUEST)
        assert [refused.status for refused in server.refusals] == [500]


async def test_a_refusal_uses_up_no_line() -> None:
    """The model was never asked."""
    wrong = ModelRequest([user("x")], settings={"extra": {"novelty": 1}})
    async with StrictServer("openai-chat", ["a"]) as server:
        provider = server.provider()
        with pytest.raises(InvalidRequest, match="Unknown parameter: 'novelty'"):
            await provider.complete(wrong)
        assert (len(server.refusals), len(server.requests), server.unplayed) == (1, 1, 1)
        assert (await provider.complete(REQUEST)).message.text == "a"


async def test_a_run_gets_over_scripted_failures() -> None:
    """They are no refusals: the request was right."""
    async with StrictServer("openai-chat", [500, 429, "a"]) as server:
        result = await Agent("a", server.provider(), retry=QUICK).run("x")
        assert (result.text, server.refusals, len(server.requests)) == ("a", [], 3)


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_unfinished_answer_is_cut(streamed: bool) -> None:
    """Half of the answer, then the end of the connection: never a success."""
    async with StrictServer("openai-chat", [Unfinished(Said("0123456789" * 3), "close")]) as server:
        provider = server.provider()
        shown = ""
        with pytest.raises(StreamInterrupted):
            if streamed:
                async with provider.stream(REQUEST) as stream:
                    async for event in stream:
                        assert isinstance(event, TextDelta)
                        shown += event.text
            else:
                await provider.complete(REQUEST)
        assert len(shown) == (28 if streamed else 0)


async def test_runs_share_a_server() -> None:
    """Each request takes the next line."""
    async with StrictServer("openai-chat", [str(number) for number in range(20)]) as server:
        answers: list[str] = []

        async def ask() -> None:
            answers.append((await server.provider().complete(REQUEST)).message.text)

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(ask)
        assert sorted(answers, key=int) == [str(number) for number in range(20)]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"method": "GET"}, 405),
        ({"method": "POST", "content": b"{}"}, 415),
        ({"method": "POST", "content": b"{", "headers": {"content-type": "application/json"}}, 400),
        ({"method": "POST", "json": [1]}, 400),
        ({"method": "POST", "json": {}}, 401),
    ],
)
async def test_what_is_no_request_of_a_client(request_: dict[str, Any], status: int) -> None:
    """It is refused before any format looks at it."""
    async with StrictServer("openai-chat", ["a"]) as server, httpx.AsyncClient() as client:
        response = await client.request(url=f"{server.url}/v1/chat/completions", **request_)
        assert response.status_code == status
        assert [refused.status for refused in server.refusals] == [status]


async def test_the_error_of_the_block_leaves_bare() -> None:
    """Not in a group."""
    with pytest.raises(KeyError):
        async with StrictServer("openai-chat", ["a"]) as server:
            await server.provider().complete(REQUEST)
            raise KeyError("k")


async def test_a_cancelled_block_ends() -> None:
    """As any other."""
    with anyio.move_on_after(0.05) as scope:
        async with StrictServer("openai-chat", [Unfinished(Said("x"))]) as server:
            await server.provider().complete(REQUEST)
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: StrictServer("chat", []), ValueError, "there is no format 'chat'; there are .*openai-chat"),
        (lambda: StrictServer("openai-chat", [None]), TypeError, "a script cannot hold None"),  # type: ignore[list-item]
        (lambda: StrictServer("openai-chat", [True]), TypeError, "a script cannot hold True"),
        (lambda: StrictServer("openai-chat", [[]]), TypeError, r"a script cannot hold \[\]"),
        (lambda: StrictServer("openai-chat", [["a"]]), TypeError, "a script cannot hold"),  # type: ignore[list-item]
        (lambda: StrictServer("openai-chat", [200]), ValueError, "a status from 400 to 599, not 200"),
        (lambda: StrictServer("openai-chat", []).provider(), RuntimeError, "runs inside its block"),
    ],
)
def test_wrong_use_gets_one_clear_line(make: Any, error: type[Exception], words: str) -> None:
    """The message names the remedy."""
    with pytest.raises(error, match=words):
        make()
