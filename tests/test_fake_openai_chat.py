"""What the strict fake of Chat Completions refuses, as data, and that what it says is the wire format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from greenroom.providers import (
    ModelRequest,
    Quirks,
    TextDelta,
    ToolCallDelta,
    Usage,
    assistant,
    call,
    tool_result,
    user,
)
from greenroom.providers.dialects.openai_chat import ChatDialect
from greenroom.providers.framing import SSEParser
from greenroom.testing import Refused, Said
from greenroom.testing.fakes import OpenAIChatFormat
from greenroom.testing.fakes.chat_vendors import DeepSeekFormat, MistralFormat, PerplexityFormat

TARGET = "/v1/chat/completions"
HEADERS = {"authorization": f"Bearer {OpenAIChatFormat.key}"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TWIN = {**CALL, "id": "c2"}
ASKED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "ok"}
USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def refuse(body: dict[str, Any], format: OpenAIChatFormat | None = None) -> Refused | None:
    return (format or OpenAIChatFormat()).refuse(TARGET, HEADERS, {"model": "gpt-4o", "messages": [USER], **body})


def without(key: str, held: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in held.items() if name != key}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": [{"role": "system", "content": "x"}, USER, {"role": "assistant", "content": ""}, USER]},
        {"messages": [USER, ASKED, RESULT, USER]},
        {"messages": [USER, {**ASKED, "tool_calls": [CALL, TWIN]}, {**RESULT, "tool_call_id": "c2"}, RESULT]},
        {"messages": [USER, ASKED, RESULT, ASKED, RESULT]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}]},
        {"messages": [USER, {"role": "assistant", "content": None, "refusal": "no"}]},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}, "parallel_tool_calls": False},
        {"tools": [{**TOOL, "function": {"name": "f", "parameters": CLOSED, "strict": True}}]},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"max_tokens": 5, "temperature": 0.5, "top_p": 1, "stop": ["a", "b"], "seed": 1},
        {"model": "gpt-5-mini", "max_completion_tokens": 5, "reasoning_effort": "low", "temperature": 1},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": CLOSED, "strict": True}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}},
    ],
)
def test_what_is_right_passes(body: dict[str, Any]) -> None:
    """The bounds of the rules, from inside."""
    assert refuse(body) is None


@pytest.mark.parametrize(
    ("body", "code", "param", "words"),
    [
        ({"novelty": 1}, "unknown_parameter", "novelty", "Unknown parameter: 'novelty'"),
        ({"model": ""}, None, None, "must provide a model"),
        # Messages.
        ({"messages": []}, "empty_array", "messages", "empty array"),
        ({"messages": "hi"}, "invalid_type", "messages", "expected an array of objects, but got a string"),
        ({"messages": ["hi"]}, "invalid_type", "messages[0]", "expected an object"),
        ({"messages": [{"content": "x"}]}, "missing_required_parameter", "messages[0].role", "messages[0].role"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "invalid_value", "messages[0].role", "'bot'"),
        ({"messages": [{**USER, "mood": 1}]}, "unknown_parameter", "messages[0].mood", "mood"),
        ({"messages": [{**USER, "tool_calls": [CALL]}]}, "unknown_parameter", "messages[0].tool_calls", "tool_calls"),
        ({"messages": [{"role": "user", "content": None}]}, None, "messages.[0].content", "got null"),
        ({"messages": [{"role": "user"}]}, None, "messages.[0].content", "got null"),
        ({"messages": [{"role": "user", "content": 3}]}, "invalid_type", "messages[0].content", "an integer"),
        ({"messages": [{"role": "user", "content": []}]}, "empty_array", "messages[0].content", "empty array"),
        ({"messages": [{**USER, "content": [{"type": "x"}]}]}, "invalid_value", "messages[0].content[0].type", "'x'"),
        (
            {"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}]},
            "invalid_value",
            "messages[0].content[0].type",
            "Supported values are: 'text'",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x.png"}}]}]},
            "invalid_value",
            "messages[0].content[0].image_url.url",
            "a valid URL",
        ),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, None, "messages.[1].content", "got null"),
        # Tool calls and their results.
        ({"messages": [USER, RESULT]}, None, "messages.[1].role", "must be a response to a preceeding message"),
        ({"messages": [USER, ASKED]}, None, "messages.[1].role", "did not have response messages: c1"),
        ({"messages": [USER, ASKED, USER, RESULT]}, None, "messages.[1].role", "did not have response messages: c1"),
        ({"messages": [USER, ASKED, RESULT, RESULT]}, None, "messages.[3].tool_call_id", "duplicate"),
        (
            {"messages": [USER, ASKED, {**RESULT, "tool_call_id": "c2"}]},
            None,
            "messages.[2].tool_call_id",
            "'c2' not found",
        ),
        (
            {"messages": [USER, ASKED, without("tool_call_id", RESULT)]},
            "missing_required_parameter",
            "messages[2].tool_call_id",
            "tool_call_id",
        ),
        ({"messages": [USER, {**ASKED, "tool_calls": []}]}, "empty_array", "messages[1].tool_calls", "empty array"),
        (
            {"messages": [USER, {**ASKED, "tool_calls": [CALL, CALL]}, RESULT]},
            "invalid_value",
            "messages[1].tool_calls[1].id",
            "another call",
        ),
        (
            {"messages": [USER, {**ASKED, "tool_calls": [{**CALL, "id": "x" * 41}]}]},
            "string_above_max_length",
            "messages[1].tool_calls[0].id",
            "maximum length 40",
        ),
        (
            {"messages": [USER, {**ASKED, "tool_calls": [without("id", CALL)]}]},
            "missing_required_parameter",
            "messages[1].tool_calls[0].id",
            "id",
        ),
        (
            {"messages": [USER, {**ASKED, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": {}}}]}]},
            "invalid_type",
            "messages[1].tool_calls[0].function.arguments",
            "expected a string, but got an object",
        ),
        (
            {"messages": [USER, {**ASKED, "tool_calls": [{**CALL, "function": {"name": "a.b", "arguments": ""}}]}]},
            "invalid_value",
            "messages[1].tool_calls[0].function.name",
            "does not match pattern",
        ),
        # Tools.
        ({"tools": []}, "empty_array", "tools", "empty array"),
        ({"tool_choice": "auto"}, None, "tool_choice", "only allowed when 'tools' are specified"),
        ({"parallel_tool_calls": True}, None, "parallel_tool_calls", "only allowed when 'tools'"),
        ({"tools": [TOOL], "tool_choice": "any"}, "invalid_value", "tool_choice", "'any'"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            None,
            "tool_choice",
            "no function named 'g'",
        ),
        (
            {"tools": [{**TOOL, "function": {"name": "f g"}}]},
            "invalid_value",
            "tools[0].function.name",
            "does not match pattern",
        ),
        (
            {"tools": [{**TOOL, "function": {"name": "f" * 65}}]},
            "string_above_max_length",
            "tools[0].function.name",
            "maximum length 64",
        ),
        (
            {"tools": [{**TOOL, "function": {"name": "f", "parameters": {}}}]},
            "invalid_function_parameters",
            "tools[0].function.parameters",
            "must be a JSON Schema of 'type: \"object\"'",
        ),
        (
            {"tools": [{**TOOL, "function": {"name": "f", "strict": True, "parameters": without("required", CLOSED)}}]},
            "invalid_function_parameters",
            "tools[0].function.parameters",
            "Missing 'a'",
        ),
        # Settings.
        ({"stream_options": {"include_usage": True}}, None, "stream_options", "only allowed when 'stream' is enabled"),
        ({"model": "o3", "max_tokens": 5}, "unsupported_parameter", "max_tokens", "Use 'max_completion_tokens'"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, None, None, "at the same time"),
        ({"max_tokens": 0}, "integer_below_min_value", "max_tokens", ">= 1, but got 0"),
        ({"max_tokens": "5"}, "invalid_type", "max_tokens", "an integer"),
        ({"model": "gpt-5", "temperature": 0}, "unsupported_value", "temperature", "Only the default"),
        ({"temperature": 3}, "decimal_above_max_value", "temperature", "<= 2, but got 3"),
        ({"top_p": -1}, "decimal_below_min_value", "top_p", ">= 0, but got -1"),
        ({"temperature": "hot"}, "invalid_type", "temperature", "a decimal"),
        ({"reasoning_effort": "low"}, None, None, "reasoning_effort"),
        ({"model": "o3", "reasoning_effort": "much"}, "invalid_value", "reasoning_effort", "'much'"),
        ({"stop": ["a"] * 5}, "invalid_array", "stop", "1 to 4"),
        ({"stop": 3}, "invalid_type", "stop", "a string or an array"),
        ({"response_format": {"type": "yaml"}}, "invalid_value", "response_format.type", "'yaml'"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": CLOSED}}},
            "missing_required_parameter",
            "response_format.json_schema.name",
            "name",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "strict": True, "schema": without("additionalProperties", CLOSED)},
                }
            },
            None,
            "response_format",
            "'additionalProperties' is required",
        ),
        *[
            (
                {
                    "response_format": {
                        "type": "json_schema",
                        "json_schema": {
                            "name": "x",
                            "strict": True,
                            "schema": {**CLOSED, "properties": {"a": {"type": "string", keyword: value}}},
                        },
                    }
                },
                None,
                "response_format",
                f"'{keyword}' is not permitted",
            )
            for keyword, value in (("minLength", 1), ("uniqueItems", True), ("default", "x"), ("discriminator", {}))
        ],
        ({"response_format": {"type": "json_object"}}, None, "messages", "must contain the word 'json'"),
        (
            {"tools": [{**TOOL, "function": {"name": "f", "parameters": {"type": "object"}}}]},
            "invalid_function_parameters",
            "tools[0].function.parameters",
            "missing properties",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_data": "https://x/y.pdf"}}]}]},
            "invalid_value",
            "messages[0].content[0].file.file_data",
            "base64-encoded data URL",
        ),
    ],
)
def test_what_is_wrong_is_refused_in_openais_words(
    body: dict[str, Any], code: str | None, param: str | None, words: str
) -> None:
    """With OpenAI's error object."""
    refused = refuse(body)
    assert refused is not None
    error = refused.body["error"]
    assert (refused.status, error["type"], error["code"], error["param"]) == (400, "invalid_request_error", code, param)
    assert words in error["message"]


@pytest.mark.parametrize(
    ("target", "headers", "status", "code"),
    [
        ("/v1/completions", HEADERS, 404, None),
        (TARGET, {}, 401, None),
        (TARGET, {"authorization": "Bearer sk-other"}, 401, "invalid_api_key"),
    ],
)
def test_path_and_key(target: str, headers: dict[str, str], status: int, code: str | None) -> None:
    """Before anything else is looked at."""
    refused = OpenAIChatFormat().refuse(target, headers, {})
    assert refused is not None
    assert (refused.status, refused.body["error"]["code"]) == (status, code)


SAID = Said("Hi, you two!", [call("f", a=1), call("g")], "Two at once.", (7, 3))


@pytest.mark.parametrize("format", [OpenAIChatFormat, MistralFormat, DeepSeekFormat, PerplexityFormat])
@pytest.mark.parametrize("streamed", [False, True])
def test_what_is_said_is_read_as_it_was_meant(format: type[OpenAIChatFormat], streamed: bool) -> None:
    """By our own dialect, whole and streamed; ids are new each time."""
    fake, dialect = format(), ChatDialect("m")
    seen: set[str | None] = set()
    for _ in range(2):
        body = json.loads(dialect.encode(ModelRequest([user("x")]), stream=streamed).body)
        if streamed:
            decoder, parser = dialect.decoder(), SSEParser()
            pieces = fake.stream(SAID, body)
            shown = [event for piece in pieces for raw in parser.feed(piece) for event in decoder.feed(raw)]
            assert len([event for event in shown if isinstance(event, TextDelta)]) == 2
            assert len([event for event in shown if isinstance(event, ToolCallDelta)]) >= 2
            reply = decoder.finish(clean=True)
        else:
            reply = dialect.decode(fake.answer(SAID, body))
        assert reply.message.text == "Hi, you two!"
        assert [(item.name, item.arguments) for item in reply.message.tool_calls] == [("f", {"a": 1}), ("g", {})]
        assert reply.message.thinking == ("Two at once." if format is DeepSeekFormat else None)
        assert (reply.stop_reason, reply.model) == ("tool_calls", "m")
        assert isinstance(reply.usage, Usage)
        assert (reply.usage.input_tokens, reply.usage.reasoning_tokens) == (7, 3)
        seen |= {item.id for item in reply.message.tool_calls}
    assert len(seen) == 4


def test_usage_in_a_stream_must_be_asked_for() -> None:
    """As at OpenAI's."""
    fake = OpenAIChatFormat()
    asked = {"model": "m", "stream": True, "stream_options": {"include_usage": True}}
    assert b'"prompt_tokens"' in b"".join(fake.stream(SAID, asked))
    assert b'"prompt_tokens"' not in b"".join(fake.stream(SAID, {"model": "m", "stream": True}))


# Vendors that are stricter than OpenAI.


def sent(messages: list[Any], vendor: str = "x", **quirks: Any) -> dict[str, Any]:
    """Our request for a conversation."""
    dialect = ChatDialect("m", vendor=vendor, quirks=Quirks(**quirks))
    return json.loads(dialect.encode(ModelRequest(messages, instructions="Be brief."), stream=False).body)


ROUND = [user("a"), assistant(tool_calls=[call("f")]), tool_result("", "ok")]
MIXED = [user("a"), {"role": "system", "content": "s"}, user("b"), assistant("c"), {"role": "system", "content": "t"}]


@pytest.mark.parametrize(
    ("format", "quirks", "messages", "words"),
    [
        (MistralFormat, {"answer_after_tools": True}, ROUND, "Tool call id was call_0 but must be"),
        (MistralFormat, {"nine_letter_ids": True}, [*ROUND, user("b")], "Unexpected role 'user' after role 'tool'"),
        (MistralFormat, {}, [*MIXED, user("b")], "Unexpected role 'system' after role 'assistant'"),
        (MistralFormat, {}, [user("a"), assistant(), user("b")], "either content or tool_calls"),
        (DeepSeekFormat, {}, ROUND, "Missing `reasoning_content`"),
        (PerplexityFormat, {}, [user("a"), user("b")], "should alternate"),
        (PerplexityFormat, {}, [assistant("a"), user("b")], "should alternate"),
        (PerplexityFormat, {}, [*MIXED, user("b")], "should alternate"),
    ],
)
def test_a_stricter_vendor_refuses_what_openai_takes(
    format: type[OpenAIChatFormat], quirks: dict[str, Any], messages: list[Any], words: str
) -> None:
    """And takes the same conversation when it is sent by that vendor's own rules."""
    assert OpenAIChatFormat().refuse(TARGET, HEADERS, sent(messages)) is None
    refused = format().refuse(TARGET, HEADERS, sent(messages, **quirks))
    assert refused is not None
    assert words in refused.body["error"]["message"]
    provider: Any = format().provider("http://localhost", "m")
    body = json.loads(provider._dialect.encode(ModelRequest(messages), stream=False).body)
    assert format().refuse(TARGET, HEADERS, body) is None
