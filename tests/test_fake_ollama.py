"""What the strict fake of Ollama refuses, as data, and that our own requests and answers pass through it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.providers import (
    Message,
    ModelReply,
    ModelRequest,
    ToolCall,
    ToolSpec,
    Usage,
    assistant,
    image,
    tool_result,
    user,
)
from greenroom.providers.dialects.ollama import OllamaDialect
from greenroom.testing.fakes import Said, StrictServer
from greenroom.testing.fakes.ollama import OllamaFormat

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "description": "", "parameters": {"type": "object"}}}
WEATHER = ToolSpec("weather", "tells it", {"type": "object", "properties": {}})


def refusal(**body: Any) -> str | None:
    refused = OllamaFormat().refuse("/api/chat", {}, {"model": "m", "messages": [USER], **body})
    assert refused is None or refused.status == 400
    return None if refused is None else refused.body["error"]


def call(**function: Any) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", **function}}]}]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {"messages": call(arguments={"a": 1})},
        {"messages": [{"role": "tool", "tool_name": "f", "content": "1"}, USER, USER, {"role": "system"}]},
        {"messages": [{**USER, "images": ["eA=="]}]},
        {"format": {"type": "object"}},
        {"format": "json"},
        {"think": "low"},
        {"think": False},
        {"keep_alive": "10m"},
        {"keep_alive": -1},
        {"keep_alive": 2.5},
        {"options": {"temperature": 0, "stop": ["x"], "num_ctx": 10, "new": object}},
        {"tools": [TOOL]},
        {"stream": True, "unknown": 1},
    ],
)
def test_what_is_right_passes(body: dict[str, Any]) -> None:
    assert refusal(**body) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"model": ""}, "model is required"),
        ({"model": None}, "model is required"),
        ({"model": 5}, "cannot unmarshal number into Go struct field ChatRequest.model"),
        ({"stream": "no"}, "ChatRequest.stream"),
        ({"messages": "hi"}, "cannot unmarshal string"),
        ({"messages": ["hi"]}, "api.Message"),
        ({"messages": [{"role": "developer", "content": "x"}]}, 'invalid role: "developer"'),
        ({"messages": [{"content": "x"}]}, "invalid role"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, "unmarshal array"),
        ({"messages": [{**USER, "images": ["https://x/y.png"]}]}, "illegal base64"),
        ({"messages": [{**USER, "images": [5]}]}, "illegal base64"),
        ({"messages": call(arguments="{}")}, "unmarshal string"),
        ({"messages": [{"role": "assistant", "tool_calls": ["x"]}]}, "api.ToolCall"),
        ({"format": "yaml"}, "invalid format"),
        ({"format": 5}, "invalid format"),
        ({"think": "max"}, "invalid think value"),
        ({"think": 5}, "invalid think value"),
        ({"keep_alive": "soon"}, "invalid duration"),
        ({"keep_alive": True}, "Unsupported type"),
        ({"options": {"num_ctx": "10"}}, "must be of type integer"),
        ({"options": {"seed": True}}, "must be of type integer"),
        ({"options": {"stop": "x"}}, "array of strings"),
        ({"options": []}, "unmarshal array"),
        ({"tools": [5]}, "api.Tool"),
        ({"tools": [{"function": {"name": 5}}]}, "name"),
        ({"tools": [{"function": {"parameters": {"required": "x"}}}]}, "required"),
    ],
)
def test_what_is_wrong_is_refused(body: dict[str, Any], words: str) -> None:
    told = refusal(**body)
    assert told is not None
    assert words in told


def test_another_path() -> None:
    refused = OllamaFormat().refuse("/v1/chat/completions", {}, {})
    assert refused is not None
    assert refused.status == 404


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("role", "content", "function", "arguments", "images", "stop", "x")), inner)
    ),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("messages", "options", "tools", "format", "think", "x"), JSON))
)
def test_any_body_is_taken_or_refused(body: dict[str, Any]) -> None:
    refusal(**body)


def converse(format: OllamaFormat, history: list[Message], said: Said, *, stream: bool, **more: Any) -> ModelReply:
    """One turn, without a socket: the request must pass, and the answer is decoded."""
    dialect = OllamaDialect("m")
    encoded = dialect.encode(ModelRequest(history, **more), stream=stream)
    body = json.loads(encoded.body)
    assert format.refuse(encoded.path, {}, body) is None
    assert format.wants_stream(encoded.path, body) is stream
    if not stream:
        return dialect.decode(format.answer(said, body))
    framer, decoder = dialect.framer(), dialect.decoder()
    assert format.stream_type == dialect.stream_type
    for piece in format.stream(said, body):
        for event in framer.feed(piece):
            decoder.feed(event)
    return decoder.finish(clean=True)


@pytest.mark.parametrize("stream", [True, False])
def test_several_turns(stream: bool) -> None:
    format, history = OllamaFormat(), [user("weather?", image(b"x", media_type="image/png"))]
    first = Said("Let me see.", [ToolCall(None, "weather", {"city": "Oslo"}), ToolCall(None, "now", {})], "hm, weather")
    reply = converse(format, history, first, stream=stream, tools=[WEATHER], instructions="be brief")
    assert (reply.message.text, reply.message.thinking) == (first.text, first.thinking)
    assert [(each.name, each.arguments) for each in reply.message.tool_calls] == [
        ("weather", {"city": "Oslo"}),
        ("now", {}),
    ]
    assert reply.usage == Usage(10, 5, raw={"prompt_eval_count": 10, "eval_count": 5})
    history += [reply.message, tool_result("a", "rain"), tool_result("b", "noon", is_error=True)]
    history.append(assistant(tool_calls=[ToolCall("x", "f", None, "{x")]))
    last = Said("It rains.", usage=(3, 4))
    reply = converse(format, history, last, stream=stream, output_schema={"type": "object"})
    assert (reply.message.text, reply.stop_reason) == ("It rains.", "stop")


def test_it_streams_unless_it_is_told_not_to() -> None:
    assert OllamaFormat().wants_stream("/api/chat", {"model": "m"})


@given(st.text(), st.text(), st.booleans())
def test_whatever_is_said_is_heard(text: str, thinking: str, stream: bool) -> None:
    reply = converse(OllamaFormat(), [user("x")], Said(text, thinking=thinking), stream=stream)
    assert (reply.message.text, reply.message.thinking or "") == (text, thinking)


@pytest.mark.anyio
async def test_over_a_socket() -> None:
    async with StrictServer(OllamaFormat(), ["hello", 503]) as server:
        reply = await server.provider("m").complete(ModelRequest([user("x")]))
    assert reply.message.text == "hello"
    assert not server.refusals
