"""What the strict fake of Bedrock refuses, as data, and that our own requests and answers pass through it."""

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
    ProviderData,
    Refusal,
    ServerItem,
    Text,
    Thinking,
    ToolCall,
    ToolSpec,
    Usage,
    assistant,
    call,
    document,
    image,
    system,
    tool_result,
    user,
)
from greenroom.providers.dialects.bedrock import ConverseDialect
from greenroom.testing import Refused, Said, StrictServer
from greenroom.testing.fakes.bedrock import BedrockFormat

TARGET = "/model/anthropic.m%3A0/converse"
HEADERS = {"authorization": f"Bearer {BedrockFormat.key}"}
USER = {"role": "user", "content": [{"text": "hi"}]}
SPEC = {"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}
TOOLS = {"toolConfig": {"tools": [SPEC]}}
USE = {"toolUse": {"toolUseId": "a", "name": "f", "input": {}}}
RESULT = {"toolResult": {"toolUseId": "a", "content": [{"text": "ok"}]}}
SERVER_USE = {"toolUse": {**USE["toolUse"], "type": "server_tool_use"}}
WEATHER = ToolSpec("weather", "tells it", {"type": "object", "properties": {}})


def turn(*blocks: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": list(blocks)}


def said(*blocks: Any) -> dict[str, Any]:
    return turn(*blocks, role="assistant")


def doc(name: str = "d", **more: Any) -> dict[str, Any]:
    return {"document": {"format": "pdf", "name": name, "source": {"bytes": "eA=="}, **more}}


def use(**more: Any) -> list[dict[str, Any]]:
    return [USER, said({"toolUse": {**USE["toolUse"], **more}}), turn(RESULT)]


def refuse(format: BedrockFormat | None = None, **body: Any) -> Refused | None:
    return (format or BedrockFormat()).refuse(TARGET, HEADERS, {"messages": [USER], **body})


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"system": [{"text": "x"}, {"cachePoint": {"type": "default"}}]},
        {"messages": [USER, said({"text": "x"}), USER]},
        {"messages": [USER, said({"text": "x"}, USE), turn(RESULT, {"text": "y"})], **TOOLS},
        {"messages": [USER, said(SERVER_USE, RESULT, {"text": "y"}), USER], **TOOLS},
        {"messages": [turn(doc("My file (2) [x-y]"), doc("e"), {"text": "y"})]},
        {"messages": [turn({"image": {"format": "png", "source": {"bytes": "eA=="}}})]},
        {"messages": [turn({"image": {"format": "png", "source": {"s3Location": {"uri": "s3://b/x"}}}})]},
        {"messages": [USER, said({"reasoningContent": {"redactedContent": "eA=="}}, {"text": "x"}), USER]},
        {"inferenceConfig": {"temperature": 1, "topP": 0, "maxTokens": 1, "stopSequences": ["x"]}},
        {"toolConfig": {"tools": [SPEC, {"systemTool": {"name": "g"}}], "toolChoice": {"tool": {"name": "f"}}}},
        {"outputConfig": {"effort": "low"}},
        {"additionalModelRequestFields": {"x": 1}},
    ],
)
def test_what_is_right_passes(body: dict[str, Any]) -> None:
    """The bounds of the rules, from inside."""
    assert refuse(**body) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        # Roles and text.
        ({"messages": []}, "at least one message"),
        ({"messages": "x"}, "LIST_VALUE expected at 'messages'"),
        ({"messages": ["x"]}, "STRUCTURE_VALUE expected at 'messages.0'"),
        ({"messages": [turn({"text": "x"}, role="system")]}, "enum value set"),
        ({"messages": [said({"text": "x"}), USER]}, "must start with a user message"),
        ({"messages": [USER, USER]}, "must alternate"),
        ({"messages": [USER, said({"text": "x"})]}, "must end with a user message"),
        ({"messages": [turn()]}, "messages.0 is empty"),
        ({"messages": [turn({"text": " \n"})]}, "messages.0.content.0 is blank"),
        ({"messages": [turn({"text": 5})]}, "STRING_VALUE"),
        ({"messages": [turn({"text": "x", "image": {}})]}, "Exactly one member"),
        ({"messages": [turn({"toolUse": {}})]}, "no member toolUse"),
        ({"system": [{"text": ""}]}, "system.0 is blank"),
        # Media.
        ({"messages": [turn({"image": {"format": "tiff", "source": {"bytes": "eA=="}}})]}, "image.format"),
        ({"messages": [turn({"image": {"format": "png", "source": {"bytes": "?"}}})]}, "base64"),
        ({"messages": [turn({"image": {"format": "png", "source": {"bytes": ""}}})]}, "base64"),
        ({"messages": [turn({"image": {"format": "png", "source": {"s3Location": {"uri": "https://x"}}}})]}, "S3"),
        ({"messages": [turn(doc("a.pdf"), {"text": "x"})]}, "name for DocumentBlock"),
        ({"messages": [turn(doc("a  b"), {"text": "x"})]}, "name for DocumentBlock"),
        ({"messages": [turn(doc("a" * 201), {"text": "x"})]}, "name for DocumentBlock"),
        ({"messages": [turn(doc(), doc(), {"text": "x"})]}, "more than once"),
        ({"messages": [turn(doc())]}, "document and no text"),
        # Calls and results.
        ({"messages": use()}, "toolConfig field must be defined"),
        ({"messages": use(toolUseId="a.b"), **TOOLS}, "toolUseId' failed to satisfy"),
        ({"messages": use(toolUseId="a" * 65), **TOOLS}, "toolUseId' failed to satisfy"),
        ({"messages": use(name="a.b"), **TOOLS}, "name' failed to satisfy"),
        ({"messages": use(input="{}"), **TOOLS}, "Provide a json object"),
        ({"messages": use(type="tool_use"), **TOOLS}, "server_tool_use"),
        ({"messages": [USER, said(USE), USER], **TOOLS}, "Expected toolResult blocks at messages.2.content"),
        ({"messages": [USER, said({"text": "x"}), turn(RESULT)], **TOOLS}, "exceeds the number of toolUse blocks"),
        ({"messages": [turn(RESULT)], **TOOLS}, "exceeds the number of toolUse blocks"),
        ({"messages": [USER, said(USE), turn(RESULT, RESULT)], **TOOLS}, "exceeds the number of toolUse blocks"),
        ({"messages": [USER, said(USE, USE), turn(RESULT)], **TOOLS}, "must be unique"),
        ({"messages": [USER, said(USE), turn(RESULT), said(USE), turn(RESULT)], **TOOLS}, "must be unique"),
        ({"messages": [USER, said(SERVER_USE, {"text": "x"}), USER], **TOOLS}, "stand together"),
        (
            {"messages": [USER, said(USE), turn({"toolResult": {**RESULT["toolResult"], "status": "bad"}})], **TOOLS},
            "success, error",
        ),
        (
            {"messages": [USER, said(USE), turn({"toolResult": {"toolUseId": "a", "content": [{"text": ""}]}})]},
            "is blank",
        ),
        # Thoughts.
        (
            {"messages": [USER, said({"reasoningContent": {"reasoningText": {"text": "x"}}}, {"text": "y"}), USER]},
            "signature: Field required",
        ),
        (
            {
                "messages": [
                    USER,
                    said({"reasoningContent": {"reasoningText": {"text": "x", "signature": "y"}}}, {"text": "y"}),
                    USER,
                ]
            },
            "Invalid `signature`",
        ),
        ({"messages": [USER, said({"reasoningContent": {"redactedContent": "?"}}, {"text": "y"}), USER]}, "base64"),
        (
            {"messages": [USER, said({"text": "y"}, {"reasoningContent": {"redactedContent": "eA=="}}), USER]},
            "final block",
        ),
        # Settings.
        ({"inferenceConfig": {"temperature": 1.5}}, "less than or equal to 1"),
        ({"inferenceConfig": {"maxTokens": 0}}, "greater than or equal to 1"),
        ({"inferenceConfig": {"topP": "1"}}, "NUMBER_VALUE"),
        ({"inferenceConfig": {"stopSequences": [""]}}, "non-empty strings"),
        ({"toolConfig": {"tools": []}}, "length greater than or equal to 1"),
        ({"toolConfig": {"tools": [SPEC, SPEC]}}, "must be unique"),
        ({"toolConfig": {"tools": [SPEC], "toolChoice": {"none": {}}}}, "no member none"),
        ({"toolConfig": {"tools": [SPEC], "toolChoice": {"tool": {"name": "g"}}}}, "not among"),
        ({"toolConfig": {"tools": [{"toolSpec": {**SPEC["toolSpec"], "name": "a b"}}]}}, "failed to satisfy"),
        ({"toolConfig": {"tools": [{"toolSpec": {**SPEC["toolSpec"], "description": ""}}]}}, "description"),
        ({"toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {}}}}]}}, "object"),
        ({"outputConfig": {"effort": "none"}}, "effort"),
        (
            {"outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": {}}}}}},
            "STRING_VALUE",
        ),
        (
            {
                "outputConfig": {
                    "textFormat": {
                        "type": "json_schema",
                        "structure": {"jsonSchema": {"schema": '{"anyOf": [{"type": "object"}]}'}},
                    }
                }
            },
            "must be explicitly set to false",
        ),
    ],
)
def test_what_is_wrong_is_refused(body: dict[str, Any], words: str) -> None:
    refused = refuse(**body)
    assert refused is not None
    assert refused.status == 400
    assert words in refused.body["message"]
    assert refused.headers["x-amzn-errortype"].partition(":")[0] in ("ValidationException", "SerializationException")


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("/model/a/invoke", HEADERS, 404),
        ("/model/a/b/converse", HEADERS, 404),
        (TARGET, {}, 403),
        (TARGET, {"authorization": "Bearer x"}, 403),
        (TARGET, {"authorization": "AWS4-HMAC-SHA256 x"}, 403),
        (TARGET, {"authorization": "AWS4-HMAC-SHA256 x", "x-amz-date": "x"}, None),
    ],
)
def test_other_paths_and_callers(target: str, headers: dict[str, str], status: int | None) -> None:
    refused = BedrockFormat().refuse(target, headers, {"messages": [USER]})
    assert (refused and refused.status) == status


KEYS = (
    "role",
    "content",
    "text",
    "toolUse",
    "toolResult",
    "reasoningContent",
    "document",
    "image",
    "toolUseId",
    "name",
)
JSON: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(("user", "assistant", "x")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from((*KEYS, "source", "format")), inner),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("messages", "system", "toolConfig", "inferenceConfig", "outputConfig"), JSON)
    )
)
def test_any_body_is_taken_or_refused(body: dict[str, Any]) -> None:
    refuse(**body)


def converse(
    format: BedrockFormat,
    history: list[Message],
    said: Said,
    *,
    stream: bool,
    model: str = "anthropic.m:0",
    **more: Any,
) -> ModelReply:
    """One turn, without a socket: the request must pass, and the answer is decoded."""
    dialect = ConverseDialect(model)
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
    format = BedrockFormat()
    history = [user("weather?", image(b"x", media_type="image/png"), document(b"y", media_type="text/csv", name="a.b"))]
    first = Said("Let me see.", [call("weather", city="Oslo"), call("now")], "hm, weather")
    reply = converse(
        format,
        history,
        first,
        stream=stream,
        tools=[WEATHER],
        instructions="be brief",
        output_schema={"type": "object"},
        settings={"tool_choice": "weather", "reasoning_effort": "minimal", "max_tokens": 5},
    )
    message = reply.message
    assert (message.text, message.thinking) == (first.text, first.thinking)
    assert [(each.name, each.arguments) for each in message.tool_calls] == [("weather", {"city": "Oslo"}), ("now", {})]
    assert isinstance(reply.usage, Usage)
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.total_tokens) == (10, 5, 15)
    one, two = (each.id or "" for each in message.tool_calls)
    history += [message, tool_result(one, "rain"), tool_result(two, "", is_error=True)]
    # Without tools of its own, and after other hands have written in the history.
    history += [
        assistant("Look:", tool_calls=[ToolCall(None, "a.b", None, "{x"), ToolCall(one, "f", {})]),
        tool_result("made up", "bad"),
        tool_result(one, "again"),
        Message("assistant", (Thinking("foreign", "sig"), Text("hm")), provider_data=ProviderData("anthropic", "m")),
        Message("assistant", (*message.parts,), True, message.provider_data),
        system("now"),
        assistant(""),
        Message("assistant", (Refusal("no"),)),
        user(""),
        user("go on", document(b"z", media_type="text/csv", name="a.b")),
    ]
    last = converse(format, history, Said("It rains.", thinking="so"), stream=stream)
    assert (last.message.text, last.stop_reason) == ("It rains.", "stop")
    cut = Message("assistant", last.message.parts[:1], True, last.message.provider_data)
    history += [last.message, user("sure?"), cut, user("and?")]
    converse(format, history, Said("Yes."), stream=stream, model="us.anthropic.other:1")
    converse(format, history, Said("Yes."), stream=stream, model="amazon.nova")


def test_a_thought_that_was_changed_is_refused() -> None:
    format = BedrockFormat()
    reply = converse(format, [user("x")], Said("y", thinking="hm"), stream=False)
    changed = Message("assistant", (Thinking("ha", "x"), Text("y")), provider_data=reply.message.provider_data)
    encoded = ConverseDialect("anthropic.m:0").encode(ModelRequest([user("x"), changed, user("z")]), stream=False)
    refused = format.refuse(TARGET, HEADERS, json.loads(encoded.body))
    assert refused is not None
    assert "signature" in refused.body["message"]


def test_items_of_the_server_come_back() -> None:
    parts = (ServerItem("toolUse", SERVER_USE), ServerItem("toolResult", RESULT), Text("y"))
    message = Message("assistant", parts, provider_data=ProviderData("bedrock-converse", "anthropic.m:0"))
    converse(BedrockFormat(), [user("x"), message, user("z")], Said("y"), stream=False)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXTS, TEXTS, st.booleans())
def test_whatever_is_said_is_heard(text: str, thinking: str, stream: bool) -> None:
    format = BedrockFormat()
    reply = converse(format, [user("x")], Said(text, thinking=thinking), stream=stream)
    assert (reply.message.text, reply.message.thinking or "") == (text, thinking)
    converse(format, [user("x"), reply.message, user("y")], Said("z"), stream=stream)


@pytest.mark.anyio
async def test_over_a_socket() -> None:
    async with (
        StrictServer(BedrockFormat(), ["hello"]) as server,
        server.provider("anthropic.m:0").stream(ModelRequest([user("x")])) as stream,
    ):
        async for _ in stream:
            pass
    assert stream.reply.message.text == "hello"
    assert not server.refusals
