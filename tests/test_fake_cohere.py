"""What the strict fake of Cohere refuses, as data, and that our own requests and answers pass through it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.providers import (
    Message,
    ModelReply,
    ModelRequest,
    ServerItem,
    ToolCall,
    ToolSpec,
    assistant,
    call,
    image,
    tool_result,
    user,
)
from greenroom.providers.dialects.cohere import CohereDialect
from greenroom.testing import Refused, Said, StrictServer
from greenroom.testing.fakes.cohere import CohereFormat

HEADERS = {"authorization": f"Bearer {CohereFormat.key}"}
USER = {"role": "user", "content": "hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ASKED = {"role": "assistant", "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "ok"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
WEATHER = ToolSpec("weather", "tells it", {"type": "object", "properties": {}})
TEXT = [{"type": "text", "text": "x"}]
THOUGHT = [{"type": "thinking", "thinking": "x"}]


def refuse(**body: Any) -> Refused | None:
    return CohereFormat().refuse("/v2/chat", HEADERS, {"model": "m", "messages": [USER], **body})


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": [{"role": "system", "content": "x"}, USER, USER, {"role": "assistant", "content": TEXT}, USER]},
        {"messages": [USER, ASKED, RESULT]},
        {"messages": [USER, {**ASKED, "tool_plan": "so", "content": [*THOUGHT, {"type": "text", "text": ""}]}, RESULT]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}]},
        {"messages": [USER, ASKED, {**RESULT, "content": [{"type": "document", "document": {"data": {}}}]}]},
        {"tools": [TOOL], "tool_choice": "REQUIRED", "strict_tools": True},
        {"response_format": {"type": "json_object", "json_schema": {"type": "object"}}},
        {"p": 0.01, "temperature": 0, "max_tokens": 1, "stop_sequences": ["a"] * 5, "seed": 1, "stream": True},
        {"thinking": {"type": "disabled"}},
    ],
)
def test_what_is_right_passes(body: dict[str, Any]) -> None:
    """The bounds of the rules, from inside."""
    assert refuse(**body) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"novelty": 1}, "unknown field: parameter 'novelty'"),
        ({"model": ""}, "model is required"),
        ({"p": 1}, "p must be between 0.01 and 0.99"),
        ({"p": True}, "must be a number"),
        ({"temperature": -1}, "temperature must be at least 0"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop_sequences": ["a"] * 6}, "stop_sequences"),
        ({"stop_sequences": "a"}, "should be an array"),
        ({"thinking": {"type": "low"}}, "thinking.type"),
        ({"stream": "yes"}, "stream must be a boolean"),
        ({"tools": [{"type": "web"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "not a valid name"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": {}}}]}, "of type 'object'"),
        ({"tools": [TOOL], "tool_choice": "auto"}, "tool_choice must be one of"),
        ({"tool_choice": "NONE"}, "together with tools"),
        ({"strict_tools": True}, "together with tools"),
        ({"response_format": {"type": "json_schema"}}, "response_format.type"),
        ({"response_format": {"type": "json_object"}, "tools": [TOOL]}, "not supported with tools"),
        ({"response_format": {"type": "text", "json_schema": {}}}, "must not be specified"),
        # Messages.
        ({"messages": []}, "must not be empty"),
        ({"messages": "hi"}, "should be an array"),
        ({"messages": ["hi"]}, "should be an object"),
        ({"messages": [{"role": "developer", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{**USER, "name": "x"}]}, "messages[0].name"),
        ({"messages": [{"role": "user", "content": ""}]}, "at least 1 token long"),
        ({"messages": [{"role": "user", "content": [{"type": "file"}]}]}, "not valid for role 'user'"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "text must be a string"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "invalid image url",
        ),
        ({"messages": [USER, {"role": "assistant", "content": ""}]}, "must have a message"),
        ({"messages": [USER, {"role": "assistant"}]}, "must have a message"),
        ({"messages": [USER, {"role": "assistant", "content": "x", "tool_plan": "y"}]}, "requires tool_calls"),
        # Tools.
        ({"messages": [USER, {**ASKED, "content": TEXT}, RESULT]}, "text content is not allowed"),
        (
            {"messages": [USER, {**ASKED, "content": THOUGHT}, RESULT], "thinking": {"type": "disabled"}},
            "thinking is disabled",
        ),
        ({"messages": [USER, ASKED]}, "missing tool results for tool call ids c1"),
        ({"messages": [USER, ASKED, USER]}, "missing tool results"),
        ({"messages": [USER, RESULT]}, "not found in previous tool calls"),
        ({"messages": [USER, ASKED, {**RESULT, "tool_call_id": "c2"}]}, '"c2" not found'),
        ({"messages": [USER, ASKED, RESULT, RESULT]}, "duplicate"),
        ({"messages": [USER, ASKED, {**RESULT, "content": " "}]}, "at least 1 token"),
        ({"messages": [USER, {**ASKED, "tool_calls": [CALL, CALL]}]}, "unique"),
        ({"messages": [USER, {**ASKED, "tool_calls": [{**CALL, "id": ""}]}]}, "non-empty"),
        ({"messages": [USER, {**ASKED, "tool_calls": [{**CALL, "type": "x"}]}]}, "must be a function"),
        (
            {"messages": [USER, {**ASKED, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "x"}}]}]},
            "JSON object string",
        ),
    ],
)
def test_what_is_wrong_is_refused(body: dict[str, Any], words: str) -> None:
    refused = refuse(**body)
    assert refused is not None
    assert refused.status == 400
    assert words in refused.body["message"]


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [("/v1/chat", HEADERS, 404), ("/v2/chat", {}, 401), ("/v2/chat", {"authorization": "Bearer x"}, 401)],
)
def test_another_path_and_another_key(target: str, headers: dict[str, str], status: int) -> None:
    refused = CohereFormat().refuse(target, headers, {})
    assert refused is not None
    assert refused.status == status


JSON: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(("user", "assistant", "x")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("role", "content", "function", "arguments", "tool_calls", "type")), inner)
    ),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("messages", "tools", "p", "response_format", "thinking", "stop_sequences"), JSON)
    )
)
def test_any_body_is_taken_or_refused(body: dict[str, Any]) -> None:
    refuse(**body)


def converse(format: CohereFormat, history: list[Message], said: Said, *, stream: bool, **more: Any) -> ModelReply:
    """One turn, without a socket: the request must pass, and the answer is decoded."""
    dialect = CohereDialect("m")
    encoded = dialect.encode(ModelRequest(history, **more), stream=stream)
    body = json.loads(encoded.body)
    assert format.refuse(encoded.path, HEADERS, body) is None
    assert format.wants_stream(encoded.path, body) is stream
    if not stream:
        return dialect.decode(format.answer(said, body))
    framer, decoder = dialect.framer(), dialect.decoder()
    assert format.stream_type == dialect.stream_type
    for piece in format.stream(said, body):
        for event in framer.feed(piece):
            decoder.feed(event)
    assert decoder.done
    return decoder.finish(clean=True)


@pytest.mark.parametrize("stream", [True, False])
def test_several_turns(stream: bool) -> None:
    format, history = CohereFormat(), [user("weather?", image("https://x/y.png"))]
    first = Said("Let me see.", [call("weather", city="Oslo"), call("now")], "hm, weather")
    reply = converse(
        format,
        history,
        first,
        stream=stream,
        tools=[WEATHER],
        instructions="be brief",
        output_schema={"type": "object"},
        settings={"tool_choice": "weather", "top_p": 1, "reasoning_effort": "high"},
    )
    message = reply.message
    assert (message.text, message.thinking) == ("Let me see.", "hm, weather")
    assert [(each.name, each.arguments) for each in message.tool_calls] == [("weather", {"city": "Oslo"}), ("now", {})]
    assert len({each.id for each in message.tool_calls}) == 2
    assert reply.usage is not None
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.cached_input_tokens) == (10, 5, 0)
    message = msgspec.structs.replace(message, parts=(*message.parts, ServerItem("tool_plan", {"tool_plan": "Plan."})))
    one, two = (each.id or "" for each in message.tool_calls)
    history += [message, tool_result(one, "rain"), tool_result(two, "", is_error=True)]
    history += [assistant("Look:", tool_calls=[ToolCall(None, "f", None, "{x")]), tool_result("made up", "bad")]
    history += [assistant(""), Message("assistant", (*message.parts,), partial=True), user("")]
    last = converse(format, history, Said("It rains."), stream=stream, settings={"reasoning_effort": "none"})
    assert (last.message.text, last.stop_reason) == ("It rains.", "stop")
    history += [last.message, user("sure?")]
    assert converse(format, history, Said("Yes."), stream=stream, output_schema={"type": "object"}).message.text


@given(st.text(), st.text(), st.booleans())
def test_whatever_is_said_is_heard(text: str, thinking: str, stream: bool) -> None:
    reply = converse(CohereFormat(), [user("x")], Said(text, thinking=thinking), stream=stream)
    assert (reply.message.text, reply.message.thinking or "") == (text, thinking)


@pytest.mark.anyio
async def test_over_a_socket() -> None:
    async with StrictServer(CohereFormat(), ["hello"]) as server:
        reply = await server.provider("m").complete(ModelRequest([user("x")]))
    assert reply.message.text == "hello"
    assert not server.refusals
