"""The Messages dialect without any I/O: what it sends, what it reads, and every trap of the format."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.providers import (
    Anthropic,
    AuthError,
    BadResponse,
    BedrockAnthropic,
    ContextOverflow,
    Document,
    InvalidRequest,
    Message,
    ModelEvent,
    ModelReply,
    ModelRequest,
    Overloaded,
    ProviderData,
    ProviderError,
    RateLimited,
    ServerItem,
    StreamInterrupted,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    ToolSpec,
    assistant,
    document,
    image,
    system,
    tool_result,
    user,
)
from greenroom.providers.dialects.anthropic import AnthropicDialect
from greenroom.providers.dialects.anthropic_bedrock import BedrockAnthropicDialect
from greenroom.providers.dialects.anthropic_models import abilities
from greenroom.providers.dialects.anthropic_schema import fitted_schema
from greenroom.providers.framing import SSEParser, WireEvent

from .wire import Answer, json_answer, serve

FAMILY = "anthropic-messages/anthropic"
STAMP = ProviderData(FAMILY, "claude-haiku-4-5")
NEW, OLD = "claude-opus-5", "claude-haiku-4-5"
WEATHER = ToolSpec("weather", "Rain or sun", {"type": "object", "properties": {"city": {"type": "string"}}})


def encode(
    messages: Sequence[Message | dict[str, Any]], *, model: str = OLD, stream: bool = False, **more: Any
) -> dict[str, Any]:
    encoded = AnthropicDialect(model).encode(ModelRequest(messages, **more), stream=stream)
    assert encoded.path == "/messages"
    return json.loads(encoded.body)


def sent(*messages: Message, model: str = OLD) -> list[dict[str, Any]]:
    return encode(messages, model=model)["messages"]


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def call(identity: str | None, name: str = "weather", **arguments: Any) -> ToolCall:
    return ToolCall(identity, name, arguments, json.dumps(arguments))


def own(*parts: Any, items: Any = None) -> Message:
    return Message("assistant", parts, False, ProviderData(FAMILY, "claude-haiku-4-5", items))


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode()) for event in events
    )


def start(**more: Any) -> dict[str, Any]:
    usage = {"input_tokens": 5, "output_tokens": 1}
    return {"type": "message_start", "message": {"id": "msg_1", "model": "m", "content": [], "usage": usage, **more}}


def opened(index: int, kind: str, **more: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **more}}


def grown(index: int, kind: str, **more: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **more}}


def closed(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def ended(reason: str | None = "end_turn", usage: Any = None, **more: Any) -> dict[str, Any]:
    delta = {"stop_reason": reason, "stop_sequence": None, **more}
    return {"type": "message_delta", "delta": delta, "usage": usage if usage is not None else {"output_tokens": 7}}


STOP = {"type": "message_stop"}
HELLO = [start(), opened(0, "text", text=""), grown(0, "text_delta", text="hel"), grown(0, "text_delta", text="lo")]


def play(*events: dict[str, Any], clean: bool = True) -> tuple[list[ModelEvent], ModelReply]:
    decoder, parser = AnthropicDialect(OLD).decoder(), SSEParser()
    seen = [event for raw in parser.feed(sse(*events)) for event in decoder.feed(raw)]
    return seen, decoder.finish(clean=clean)


def decode(*blocks: Any, **more: Any) -> ModelReply:
    body = {"id": "msg_1", "type": "message", "model": "m", "content": blocks, "stop_reason": "end_turn", **more}
    return AnthropicDialect(OLD).decode(json.dumps(body).encode())


# What is sent.


def test_the_smallest_request() -> None:
    assert encode([user("hi")]) == {
        "model": OLD,
        "max_tokens": 16_384,
        "messages": [{"role": "user", "content": [text("hi")]}],
    }
    assert encode([user("hi")], stream=True)["stream"] is True


def test_the_api_wants_a_limit_and_older_models_refuse_a_high_one() -> None:
    assert AnthropicDialect(OLD, max_tokens=99).body(ModelRequest([user("x")]))["max_tokens"] == 99
    assert encode([user("x")], settings={"max_tokens": 7})["max_tokens"] == 7
    limits = {"claude-3-haiku-20240307": 4_096, "claude-3-5-haiku-latest": 8_192, "claude-3-7-sonnet": 16_384}
    for model, limit in limits.items():
        assert encode([user("x")], model=model)["max_tokens"] == limit


def test_instructions_and_leading_system_messages_are_the_system_prompt() -> None:
    body = encode([system("two"), system(" "), user("hi")], instructions="one")
    assert body["system"] == "one\n\ntwo"
    assert [message["role"] for message in body["messages"]] == ["user"]
    assert "system" not in encode([user("hi")], instructions="  ")


def test_a_system_message_inside_the_conversation_is_told_in_the_users_turn() -> None:
    assert sent(user("a"), system("be brief"), user("b")) == [
        {"role": "user", "content": [text("a"), text("<system>\nbe brief\n</system>"), text("b")]}
    ]


def test_a_model_that_knows_system_turns_gets_them_where_they_may_stand() -> None:
    assert sent(user("a"), system("be brief"), system("be kind"), user("b"), assistant("c"), user("d"), model=NEW) == [
        {"role": "user", "content": [text("a"), text("b")]},
        {"role": "system", "content": "be brief\n\nbe kind"},
        {"role": "assistant", "content": [text("c")]},
        {"role": "user", "content": [text("d")]},
    ]
    # It may not follow an answer.
    assert sent(user("a"), assistant("b"), system("s"), model=NEW)[-1] == {
        "role": "user",
        "content": [text("<system>\ns\n</system>")],
    }


def test_pictures_and_documents() -> None:
    content = sent(
        user(
            image("https://x/a.png"),
            image(b"png", media_type="image/jpg"),
            image("data:image/gif;base64,R0lG"),
            document("https://x/a.pdf", name="a"),
            document(b"%PDF", media_type="application/pdf"),
            document("größe".encode(), media_type="text/csv; charset=utf-8", name="t.csv"),
            document(b"png", media_type="image/png"),
        )
    )[0]["content"]
    assert content == [
        {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "cG5n"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "R0lG"}},
        {"type": "document", "source": {"type": "url", "url": "https://x/a.pdf"}, "title": "a"},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}},
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "größe"},
            "title": "t.csv",
        },
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "cG5n"}},
    ]


@pytest.mark.parametrize(
    "part",
    [
        Document(data=b"x", media_type="application/msword"),
        Document(data=b"\xff", media_type="text/plain"),
        Document(url="data:text/plain,hello"),
        Thinking("hm"),
    ],
)
def test_what_the_format_cannot_carry_is_a_value_error(part: Any) -> None:
    with pytest.raises(ValueError, match=r"document|data URL|Thinking"):
        sent(Message("user", (part,)))


def test_tools_and_the_choice_among_them() -> None:
    bare = ToolSpec("now", "", {"properties": {}}, strict=True)
    body = encode([user("x")], tools=[WEATHER, bare])
    assert body["tools"] == [
        {"name": "weather", "description": "Rain or sun", "input_schema": WEATHER.parameters},
        {"name": "now", "input_schema": {"type": "object", "properties": {}}, "strict": True},
    ]
    assert "tool_choice" not in body


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": "weather"}, {"type": "tool", "name": "weather"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"tool_choice": "required", "parallel_tool_calls": False},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
        ({"parallel_tool_calls": True}, None),
    ],
)
def test_tool_choice(settings: dict[str, Any], expected: Any) -> None:
    assert encode([user("x")], tools=[WEATHER], settings=settings).get("tool_choice") == expected
    assert "tool_choice" not in encode([user("x")], settings=settings)


def test_settings_that_the_api_has_no_field_for_or_refuses() -> None:
    body = encode([user("x")], settings={"seed": 1, "stop": ["END", " \n"], "temperature": 1.5, "top_p": 0.5})
    assert (body["stop_sequences"], body["temperature"]) == (["END"], 1.0)
    assert not body.keys() & {"seed", "stop", "top_p"}
    assert encode([user("x")], settings={"top_p": 0.5})["top_p"] == 0.5
    assert "stop_sequences" not in encode([user("x")], settings={"stop": " "})
    newest = encode([user("x")], model="claude-opus-4-7", settings={"temperature": 0.5, "top_p": 0.5})
    assert not newest.keys() & {"temperature", "top_p"}


def test_effort_is_what_the_model_takes() -> None:
    def effort(model: str, effort: str = "high", **settings: Any) -> tuple[Any, Any]:
        body = encode([user("x")], model=model, settings={"reasoning_effort": effort, **settings}, tools=[WEATHER])
        return body.get("thinking"), body.get("output_config")

    adaptive = {"type": "adaptive"}
    assert effort("claude-opus-4-6") == (adaptive, {"effort": "high"})
    assert effort("claude-sonnet-5", "minimal") == (adaptive, {"effort": "low"})
    assert effort("some-later-model", "xhigh") == (adaptive, {"effort": "xhigh"})
    assert effort(OLD) == ({"type": "enabled", "budget_tokens": 8_192}, None)
    assert effort(OLD, "low", max_tokens=3_000) == ({"type": "enabled", "budget_tokens": 1_500}, None)
    # The smallest budget is 1,024 tokens; a model that must call a tool cannot think; others never can.
    assert effort(OLD, max_tokens=2_000) == (None, None)
    assert effort(OLD, tool_choice="required") == (None, None)
    assert effort("claude-sonnet-5", tool_choice="weather") == (None, {"effort": "high"})
    assert effort("claude-3-5-haiku-latest") == (None, None)
    assert effort("claude-sonnet-5", "none") == (None, None)
    # The caller's own word on thinking holds.
    asked = {"type": "adaptive", "display": "summarized"}
    assert effort("claude-sonnet-5", extra={"thinking": asked}) == (asked, {"effort": "high"})


def test_a_model_that_thinks_has_no_temperature() -> None:
    for settings in ({"reasoning_effort": "low"}, {"extra": {"thinking": {"type": "enabled", "budget_tokens": 1024}}}):
        assert "temperature" not in encode([user("x")], settings={"temperature": 0.5, **settings})


def test_a_turn_that_began_without_a_thought_goes_on_without_budget() -> None:
    """In the middle of a turn that another provider began, a budget of thinking is refused."""
    history = [user("x"), assistant(tool_calls=[call("a")]), tool_result("a", "sun")]
    settings = {"reasoning_effort": "high"}
    assert "thinking" not in encode(history, settings=settings)
    assert "thinking" in encode([*history, assistant("done"), user("more")], settings=settings)
    history[1] = own(Thinking("hm", "sig"), call("a"))
    assert "thinking" in encode(history, settings=settings)


def test_structured_output() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
    body = encode([user("x")], output_schema=schema, settings={"extra": {"output_config": {"effort": "low"}}})
    form = body["output_config"].pop("format")
    assert body["output_config"] == {"effort": "low"}
    assert form["type"] == "json_schema"
    assert form["schema"] == {
        "type": "object",
        "properties": {"n": {"type": "integer", "description": '{"minimum":1}'}},
        "required": ["n"],
        "additionalProperties": False,
    }
    assert schema["properties"] == {"n": {"type": "integer", "minimum": 1}}
    for model, asked in (
        ("claude-3-5-haiku-latest", schema),
        (OLD, {"type": "object", "additionalProperties": {"type": "string"}}),
    ):
        body = encode([user("x")], model=model, output_schema=asked, instructions="Be brief.")
        assert "output_config" not in body
        assert json.dumps(asked, separators=(",", ":")) in body["system"]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "string", "format": "regex"}, {"type": "string", "description": '{"format":"regex"}'}),
        (
            {"oneOf": [{"type": "string"}], "discriminator": {"propertyName": "k"}},
            {"anyOf": [{"type": "string"}]},
        ),
        (
            {"type": "array", "items": {"type": "object", "properties": {}}, "minItems": 2, "description": "Two"},
            {
                "type": "array",
                "items": {"type": "object", "properties": {}, "additionalProperties": False},
                "description": 'Two {"minItems":2}',
            },
        ),
        (
            {"$ref": "#/$defs/A", "$defs": {"A": {"enum": [1]}}},
            {"$ref": "#/$defs/A", "$defs": {"A": {"enum": [1]}}},
        ),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"items": {"$ref": "#/$defs/A"}}}}, None),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}}, None),
        ({"$ref": "https://x/schema"}, None),
        ({"not": {"type": "string"}}, None),
        ({"items": True}, None),
        # Closed, these could only be empty.
        ({"type": "object"}, None),
        ({"type": ["object", "null"]}, None),
        ({"type": "object", "properties": {"meta": {"type": "object"}}}, None),
        ({"type": "object", "additionalProperties": {}}, None),
        ({"type": "object", "additionalProperties": False}, {"type": "object", "additionalProperties": False}),
    ],
)
def test_a_schema_within_the_rules(schema: dict[str, Any], expected: Any) -> None:
    assert fitted_schema(schema) == expected


def test_extra_is_merged_and_its_tools_are_added() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    extra = {"tools": [search], "cache_control": {"type": "ephemeral"}, "temperature": 0.1}
    body = encode([user("x")], tools=[WEATHER], settings={"extra": extra, "temperature": 0.9})
    assert [tool["name"] for tool in body["tools"]] == ["weather", "web_search"]
    assert (body["cache_control"], body["temperature"]) == ({"type": "ephemeral"}, 0.1)
    body = encode([user("x")], settings={"extra": {"tools": [search]}, "tool_choice": "required"})
    assert body["tool_choice"] == {"type": "any"}


def test_names_of_models() -> None:
    for model, form, structured, turns in (
        ("claude-3-haiku-20240307", "none", False, False),
        ("claude-3-7-sonnet-20250219", "budget", False, False),
        ("claude-sonnet-4-20250514", "budget", False, False),
        ("claude-opus-4-1-20250805", "budget", True, False),
        ("claude-haiku-4-5@20251001", "budget", True, False),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "budget", True, False),
        ("claude-sonnet-4-6", "adaptive", True, False),
        ("us.anthropic.claude-opus-4-8", "adaptive", True, True),
        ("claude-opus-5-5", "adaptive", True, True),
        ("claude-sonnet-5", "adaptive", True, False),
        ("claude-fable-5-1", "adaptive", True, True),
        ("claude-mythos-preview", "adaptive", True, False),
        ("somebodys-model", "adaptive", True, False),
    ):
        able = abilities(model)
        assert (able.thinking, able.structured, able.system_turns) == (form, structured, turns), model


# Histories.


def test_results_of_a_turn_are_one_message_and_come_first() -> None:
    calls = [call("a", city="Oslo"), call("b", city="Rome")]
    assert sent(
        user("x"), assistant("wait", tool_calls=calls), user("hurry"), tool_result("b", "sun"), tool_result("a", "")
    )[1:] == [
        {
            "role": "assistant",
            "content": [
                text("wait"),
                {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "b", "name": "weather", "input": {"city": "Rome"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a"},
                {"type": "tool_result", "tool_use_id": "b", "content": "sun"},
                text("hurry"),
            ],
        },
    ]


def results(*messages: Message) -> list[dict[str, Any]]:
    return [block for message in sent(*messages) for block in message["content"] if block["type"] == "tool_result"]


def test_an_error_says_something() -> None:
    told = results(user("x"), assistant(tool_calls=[call("a")]), tool_result("a", " ", is_error=True))
    assert told == [{"type": "tool_result", "tool_use_id": "a", "content": "error", "is_error": True}]


def test_a_call_without_a_result_gets_one_and_a_second_result_is_left_out() -> None:
    told = results(
        user("x"),
        assistant(tool_calls=[call("a"), call("b")]),
        tool_result("b", "one"),
        tool_result("b", "two"),
        assistant(tool_calls=[call("c")]),
    )
    assert [(block["tool_use_id"], block.get("is_error", False)) for block in told] == [
        ("a", True),
        ("b", False),
        ("c", True),
    ]
    assert told[1]["content"] == "one"


def test_a_result_that_answers_nothing_is_left_out() -> None:
    assert sent(user("x"), tool_result("gone", "sun")) == [{"role": "user", "content": [text("x")]}]


def test_calls_without_an_id_and_ids_that_the_api_refuses() -> None:
    history = [
        user("x"),
        assistant(tool_calls=[call(None), call(None)]),
        tool_result("call_0", "one"),
        tool_result("call_1", "two"),
        assistant(tool_calls=[call(None), call("b"), call(None)]),
        tool_result("made-up", "three"),
        tool_result("b", "b"),
        tool_result("b", "again"),
        tool_result("", "last"),
        assistant(tool_calls=[ToolCall("functions.weather:0", "functions.weather", {})]),
        tool_result("functions.weather:0", "four"),
    ]
    messages = sent(*history)
    made = [block["id"] for message in messages for block in message["content"] if block["type"] == "tool_use"]
    told = results(*history)
    assert made == [block["tool_use_id"] for block in told]
    assert made == ["call_0", "call_1", "call_0-2", "b", "call_2", "functions_weather_0"]
    assert [block["content"] for block in told] == ["one", "two", "three", "b", "last", "four"]
    assert messages[5]["content"][0]["name"] == "functions_weather"


def test_the_same_id_in_every_turn() -> None:
    turn = [assistant(tool_calls=[call("call_0")]), tool_result("call_0", "r")]
    assert [block["tool_use_id"] for block in results(user("x"), *turn, *turn)] == ["call_0", "call_0-2"]


def test_arguments_that_are_no_object_are_shown_as_they_were() -> None:
    wrong = ToolCall("a", "weather", None, '{"city": "Os')
    block = sent(user("x"), assistant(tool_calls=[wrong]), tool_result("a", "no"))[1]["content"][0]
    assert block["input"] == {"invalid_arguments": '{"city": "Os'}


def test_turns_alternate_and_none_is_empty() -> None:
    assert sent(user("a"), user("b"), assistant(""), user(" "), assistant("c"), assistant("d"), user("e")) == [
        {"role": "user", "content": [text("a"), text("b")]},
        {"role": "assistant", "content": [text("c"), text("d")]},
        {"role": "user", "content": [text("e")]},
    ]
    placeholder = {"role": "user", "content": [text("(no message)")]}
    assert sent() == sent(system("s")) == sent(user("")) == [placeholder]
    assert sent(assistant("a"), user("b"))[0] == placeholder
    assert sent(user("a"), assistant("b"), user(" "))[-1] == placeholder


def test_the_beginning_of_an_answer() -> None:
    history = [user("a"), assistant("The answer is \n")]
    assert sent(*history, model="claude-sonnet-4-5")[-1] == {"role": "assistant", "content": [text("The answer is")]}
    # Newer models refuse it, and others while they think.
    thinking = encode(history, model="claude-sonnet-4-5", settings={"reasoning_effort": "low"})
    assert thinking["messages"][-1] == {"role": "user", "content": [text("Continue.")]}
    assert sent(*history, model=NEW)[-1] == {"role": "user", "content": [text("Continue.")]}


THOUGHT = Thinking("hm", "sig", {"extra": 1})
HIDDEN = ServerItem("redacted_thinking", {"type": "redacted_thinking", "data": "xyz"})
SEARCH = ServerItem("server_tool_use", {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}})
FOUND = ServerItem(
    "web_search_tool_result", {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"x": "y"}]}
)
CITED = Text("so", {"citations": [{"type": "char_location", "cited_text": "s"}]})


def test_what_the_family_minted_goes_back_unchanged_and_in_place() -> None:
    message = own(
        HIDDEN, THOUGHT, SEARCH, FOUND, CITED, THOUGHT, ToolCall("a", "w", {}, "", {"caller": {"type": "direct"}})
    )
    blocks = sent(user("x"), message, tool_result("a", "r"))[1]["content"]
    thought = {"extra": 1, "type": "thinking", "thinking": "hm", "signature": "sig"}
    assert blocks == [
        HIDDEN.data,
        thought,
        SEARCH.data,
        FOUND.data,
        {"citations": [{"type": "char_location", "cited_text": "s"}], "type": "text", "text": "so"},
        thought,
        {"caller": {"type": "direct"}, "type": "tool_use", "id": "a", "name": "w", "input": {}},
    ]


@pytest.mark.parametrize(
    ("stamp", "partial"),
    [
        (None, False),
        (ProviderData("chat-completions/openai"), False),
        (ProviderData("anthropic-messages/other"), False),
        (STAMP, True),
    ],
)
def test_nobody_elses_items_are_opened(stamp: ProviderData | None, partial: bool) -> None:
    parts = (HIDDEN, THOUGHT, SEARCH, CITED, ToolCall("a", "w", {}, "", {"caller": 1}), THOUGHT)
    messages = sent(user("x"), Message("assistant", parts, partial, stamp), tool_result("a", "r"))
    call_block = {"type": "tool_use", "id": "a", "name": "w", "input": {}}
    assert messages[1]["content"] == [text("so")] + ([] if partial else [call_block])


def test_unsigned_thinking_and_thinking_at_the_end_are_left_out() -> None:
    assert sent(user("x"), own(Thinking("hm"), Text("a"), THOUGHT, HIDDEN), user("y"))[1]["content"] == [text("a")]
    assert [m["role"] for m in sent(user("x"), own(THOUGHT), user("y"))] == ["user"]


def test_the_providers_own_calls_go_with_their_results() -> None:
    """Either alone is refused, unless the call is still at work."""
    assert sent(user("x"), own(SEARCH, Text("a")), user("y"))[1]["content"] == [text("a")]
    assert sent(user("x"), own(FOUND, Text("a")), user("y"))[1]["content"] == [text("a")]
    waiting = [user("x"), own(SEARCH, call("a")), tool_result("a", "r")]
    assert SEARCH.data in sent(*waiting)[1]["content"]
    assert SEARCH.data in sent(*waiting, own(FOUND, Text("b")), user("y"))[1]["content"]


def test_a_paused_turn_is_sent_back_as_it_was() -> None:
    reply = decode({"type": "text", "text": "a"}, SEARCH.data, stop_reason="pause_turn")
    assert reply.stop_reason == "pause"
    for model in (OLD, NEW):
        assert sent(user("x"), reply.message, model=model)[-1] == {
            "role": "assistant",
            "content": [text("a"), SEARCH.data],
        }


def test_the_container_of_waiting_code_is_named() -> None:
    waiting = {"type": "tool_use", "id": "a", "name": "w", "input": {}}
    caller = {"caller": {"type": "code_execution_20260120", "tool_id": "s1"}}
    for more, expected in ((caller, "c1"), ({"caller": {"type": "direct"}}, None)):
        message = decode({**waiting, **more}, container={"id": "c1", "expires_at": "…"}).message
        assert encode([user("x"), message, tool_result("a", "r")]).get("container") == expected


# What is read.


def test_a_whole_answer() -> None:
    usage = {
        "input_tokens": 1,
        "output_tokens": 2,
        "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": 4,
        "output_tokens_details": {"thinking_tokens": 5},
    }
    reply = decode(
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        HIDDEN.data,
        {"type": "text", "text": "so", "citations": CITED.details["citations"] if CITED.details else None},
        {"type": "text", "text": "then", "citations": None},
        {"type": "tool_use", "id": "a", "name": "w", "input": {"n": 1}, "caller": {"type": "direct"}},
        {"type": "of_the_future", "x": [1]},
        usage=usage,
        stop_reason="tool_use",
    )
    assert reply.message == Message(
        "assistant",
        (
            Thinking("hm", "sig"),
            HIDDEN,
            CITED,
            Text("then"),
            ToolCall("a", "w", {"n": 1}, '{"n":1}', {"caller": {"type": "direct"}}),
            ServerItem("of_the_future", {"type": "of_the_future", "x": [1]}),
        ),
        False,
        ProviderData(FAMILY, "m"),
    )
    assert (reply.stop_reason, reply.stop_reason_raw, reply.model, reply.response_id) == (
        "tool_calls",
        "tool_use",
        "m",
        "msg_1",
    )
    counted = reply.usage
    assert counted is not None
    assert (counted.input_tokens, counted.output_tokens, counted.total_tokens) == (1, 2, None)
    assert (counted.cached_input_tokens, counted.cache_write_tokens, counted.reasoning_tokens) == (3, 4, 5)
    assert counted.raw == usage


def test_plain_text_carries_no_stamp_and_empty_text_is_nothing() -> None:
    assert decode({"type": "text", "text": "hi"}, {"type": "text", "text": ""}).message == assistant("hi")


def test_thinking_whose_text_is_kept_back_shows_nothing_and_goes_back() -> None:
    block = {"type": "thinking", "thinking": "", "signature": "sig"}
    streamed = play(
        start(),
        opened(0, "thinking", thinking="", signature=""),
        grown(0, "signature_delta", signature="sig"),
        closed(0),
        opened(1, "text", text="a"),
        ended(),
    )[1]
    for message in (decode(block, {"type": "text", "text": "a"}).message, streamed.message):
        assert message.thinking is None
        assert sent(user("x"), message, user("y"))[1]["content"] == [block, text("a")]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("pause_turn", "pause"),
        ("refusal", "refusal"),
        ("compaction", "compaction"),
        ("of_the_future", None),
        (None, None),
    ],
)
def test_stop_reasons(raw: str | None, expected: str | None) -> None:
    reply = decode({"type": "text", "text": "x"}, stop_reason=raw)
    assert (reply.stop_reason, reply.stop_reason_raw) == (expected, raw)
    if raw is not None:
        assert play(*HELLO, ended(raw), STOP)[1].stop_reason == expected


def test_a_refusals_details_are_kept() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "no"}
    streamed = play(start(), ended("refusal", stop_details=details), STOP)[1]
    for reply in (decode(stop_reason="refusal", stop_details=details), streamed):
        assert reply.message.provider_data == ProviderData(FAMILY, "m", {"stop_details": details})


# Streams.


def test_a_stream() -> None:
    seen, reply = play(
        start(),
        {"type": "ping"},
        opened(0, "thinking", thinking="", signature=""),
        grown(0, "thinking_delta", thinking="hm"),
        grown(0, "thinking_delta", thinking=""),
        grown(0, "signature_delta", signature="sig"),
        closed(0),
        {"type": "of_the_future", "delta": "text", "index": "x"},
        opened(1, "text", text=""),
        grown(1, "text_delta", text="so"),
        grown(1, "citations_delta", citation={"n": 1}),
        grown(1, "citations_delta", citation={"n": 2}),
        closed(1),
        opened(2, "tool_use", id="a", name="w", input={}),
        grown(2, "input_json_delta", partial_json=""),
        grown(2, "input_json_delta", partial_json='{"n"'),
        grown(2, "input_json_delta", partial_json=": 1}"),
        closed(2),
        opened(3, "tool_use", id="b", name="v", input={}),
        closed(3),
        ended("tool_use", {"output_tokens": 9, "input_tokens": None, "server_tool_use": {"x": 1}}),
        STOP,
    )
    assert seen == [
        ThinkingDelta("hm"),
        TextDelta("so"),
        ToolCallDelta(0, "", "a", "w"),
        ToolCallDelta(0, '{"n"'),
        ToolCallDelta(0, ": 1}"),
        ToolCallDelta(1, "", "b", "v"),
        ToolCallDelta(1, "{}"),
    ]
    assert reply.message.parts == (
        Thinking("hm", "sig"),
        Text("so", {"citations": [{"n": 1}, {"n": 2}]}),
        ToolCall("a", "w", {"n": 1}, '{"n": 1}'),
        ToolCall("b", "v", {}, "{}"),
    )
    assert reply.usage is not None
    assert reply.usage.raw == {"input_tokens": 5, "output_tokens": 9, "server_tool_use": {"x": 1}}


def test_server_items_of_a_stream() -> None:
    _, reply = play(
        start(),
        opened(0, "redacted_thinking", data="xyz"),
        closed(0),
        opened(1, "server_tool_use", id="s1", name="web_search", input={}),
        grown(1, "input_json_delta", partial_json='{"query":'),
        grown(1, "input_json_delta", partial_json='"x"}'),
        closed(1),
        {"type": "content_block_start", "index": 2, "content_block": FOUND.data},
        closed(2),
        opened(3, "compaction", content=None),
        grown(3, "compaction_delta", content="a summary", encrypted_content=None),
        closed(3),
        opened(4, "of_the_future", text="a", list=[1]),
        grown(4, "text_delta", text="b"),
        grown(4, "some_delta", list=[2], more=True),
        ended(),
        STOP,
    )
    assert reply.message.server_items == (
        HIDDEN,
        ServerItem("server_tool_use", {**SEARCH.data, "input": {"query": "x"}}),
        FOUND,
        ServerItem("compaction", {"type": "compaction", "content": "a summary"}),
        ServerItem("of_the_future", {"type": "of_the_future", "text": "ab", "list": [1, 2], "more": True}),
    )
    assert reply.message.provider_data == ProviderData(FAMILY, "m")


def test_arguments_that_are_cut_off_never_run() -> None:
    _, reply = play(
        start(),
        opened(0, "tool_use", id="a", name="w", input={}),
        grown(0, "input_json_delta", partial_json='{"path": "/'),
        closed(0),
        ended("max_tokens"),
        STOP,
    )
    assert reply.message.tool_calls == (ToolCall("a", "w", None, '{"path": "/'),)
    _, reply = play(start(), opened(0, "tool_use", id="a", name="w", input={}), ended("max_tokens"), STOP)
    assert reply.message.tool_calls == (ToolCall("a", "w", None, ""),)


def test_what_gateways_make_of_it() -> None:
    """Arguments whole at the beginning, no beginning of a block, no index, ``[DONE]`` at the end."""
    seen, reply = play(start(), opened(0, "tool_use", id="a", name="w", input={"n": 1}), closed(0), ended("tool_use"))
    assert reply.message.tool_calls == (ToolCall("a", "w", {"n": 1}, '{"n":1}'),)
    assert seen[-1] == ToolCallDelta(0, '{"n":1}')
    unopened = [grown(0, "thinking_delta", thinking="hm"), grown(1, "text_delta", text="hi")]
    assert play(start(), *unopened, ended())[1].message.parts == (Thinking("hm"), Text("hi"))
    bare = {"type": "content_block_start", "content_block": {"type": "text", "text": "a"}}
    more = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "b"}}
    assert play(start(), bare, more, ended())[1].message.text == "ab"
    decoder = AnthropicDialect(OLD).decoder()
    assert [decoder.feed(event) for event in SSEParser().feed(sse(*HELLO, ended()) + b"data: [DONE]\n\n")][-1] == []
    assert decoder.finish(clean=True).message.text == "hello"


def test_a_cut_stream_is_interrupted() -> None:
    """Scenario 87."""
    events = [
        *HELLO,
        opened(1, "thinking", thinking="", signature=""),
        grown(1, "signature_delta", signature="sig"),
        opened(2, "tool_use", id="a", name="w", input={}),
        grown(2, "input_json_delta", partial_json="{}"),
        closed(2),
    ]
    for clean in (True, False):
        with pytest.raises(StreamInterrupted) as caught:
            play(*events, clean=clean)
        partial = caught.value.partial
        assert partial is not None
        assert (partial.partial, partial.text) == (True, "hello")
        assert partial.tool_calls == (ToolCall("a", "w", None, "{}"),)
        assert partial.provider_data is not None
        assert [message["role"] for message in sent(user("x"), partial, user("y"))] == ["user", "assistant", "user"]
    with pytest.raises(StreamInterrupted) as caught:
        play(clean=True)
    assert caught.value.partial is None


def test_a_stop_reason_or_the_end_makes_an_answer_whole() -> None:
    assert play(*HELLO, ended("end_turn"), clean=False)[1].stop_reason == "stop"
    assert play(*HELLO, STOP, clean=False)[1].stop_reason is None
    assert play(*HELLO, ended(), STOP, grown(0, "text_delta", text="!"))[1].message.text == "hello"


@pytest.mark.parametrize(
    ("kind", "made", "retryable"),
    [
        ("overloaded_error", Overloaded, True),
        ("api_error", Overloaded, True),
        ("timeout_error", Overloaded, True),
        ("rate_limit_error", RateLimited, True),
        ("invalid_request_error", InvalidRequest, False),
        ("permission_error", AuthError, False),
        ("billing_error", InvalidRequest, False),
        ("of_the_future", Overloaded, True),
    ],
)
def test_an_error_inside_a_success(kind: str, made: type[ProviderError], retryable: bool) -> None:
    """Scenario 86."""
    error = {"type": "error", "error": {"type": kind, "message": "Oh"}, "request_id": "req_1"}
    with pytest.raises(made) as caught:
        play(*HELLO, error)
    streamed = caught.value
    assert streamed.partial is not None
    assert streamed.partial.text == "hello"
    with pytest.raises(made) as caught:
        AnthropicDialect(OLD).decode(json.dumps(error).encode())
    for found in (streamed, caught.value):
        assert (found.message, found.code, found.status, found.request_id) == ("Oh", kind, 200, "req_1")
        assert found.retryable is retryable


@pytest.mark.parametrize(
    ("status", "kind", "made", "retryable"),
    [
        (400, "invalid_request_error", InvalidRequest, False),
        (401, "authentication_error", AuthError, False),
        (402, "billing_error", InvalidRequest, False),
        (403, "permission_error", AuthError, False),
        (404, "not_found_error", InvalidRequest, False),
        (409, "conflict_error", InvalidRequest, True),
        (413, "request_too_large", InvalidRequest, False),
        (429, "rate_limit_error", RateLimited, True),
        (500, "api_error", Overloaded, True),
        (504, "timeout_error", Overloaded, True),
        (529, "overloaded_error", Overloaded, True),
    ],
)
def test_errors(status: int, kind: str, made: type[ProviderError], retryable: bool) -> None:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": "Oh"}, "request_id": "req_1"}).encode()
    error = AnthropicDialect(OLD).read_error(status, {"retry-after": "3"}, body, now=0.0)
    assert type(error) is made
    assert (error.status, error.code, error.message, error.request_id) == (status, kind, "Oh", "req_1")
    assert (error.retryable, error.retry_after) == (retryable, 3.0)
    for advice in (True, False):
        headers = {"x-should-retry": str(advice).lower()}
        assert AnthropicDialect(OLD).read_error(status, headers, body, now=0.0).retryable is advice


def test_a_prompt_that_is_too_long_and_money_that_is_spent() -> None:
    def read(status: int, **error: Any) -> ProviderError:
        body = json.dumps({"type": "error", "error": error}).encode()
        return AnthropicDialect(OLD).read_error(status, {}, body, now=0.0)

    for message in (
        "prompt is too long: 200001 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
    ):
        assert isinstance(read(400, type="invalid_request_error", message=message), ContextOverflow)
    spent = read(429, type="rate_limit_error", message="x", details={"error_code": "enforced_spend_limit_reached"})
    assert isinstance(spent, RateLimited)
    assert not spent.retryable


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"null", b"{}", b'{"content": 1}', b'{"content": [1]}', b'{"content": [{}]}', b"\xff", b"<html>"),
        *(b'{"content": [{"type": "text", "text": 1}]}', b'{"content": [{"type": "thinking"}]}', b"[" * 100_000),
    ],
)
def test_a_body_that_is_no_message(body: bytes) -> None:
    with pytest.raises(BadResponse, match="not a message"):
        AnthropicDialect(OLD).decode(body)


@pytest.mark.parametrize(
    "data",
    [
        b'{"truncated": ',
        b'{"type": "content_block_delta", "index": {}, "delta": {}}',
        b'{"type": "content_block_delta", "index": 9, "delta": {"type": "input_json_delta", "partial_json": "x"}}',
        b'{"type": "content_block_start", "index": 0, "content_block": {"type": 1}}',
        b'{"type": "message_delta", "delta": {"stop_reason": 1}}',
        b'{"type": "message_start", "message": []}',
        b"[1]",
    ],
)
def test_an_event_that_is_not_of_the_format(data: bytes) -> None:
    decoder = AnthropicDialect(OLD).decoder()
    with pytest.raises(BadResponse) as caught:
        decoder.feed(WireEvent(data))
    assert len(str(caught.value)) < 800


def test_an_error_without_the_usual_shape() -> None:
    for data in (
        b'{"error": {"message": "Oh"}}',
        b'{"type": "error", "error": "Oh"}',
        b'{"error": "Oh", "index": "x"}',
    ):
        with pytest.raises(Overloaded, match="Oh"):
            AnthropicDialect(OLD).decoder().feed(WireEvent(data))
    with pytest.raises(ProviderError, match="Oh"):
        AnthropicDialect(OLD).decoder().feed(WireEvent(b"Oh", "error"))


# Hostile input.

RECORDED = sse(
    start(),
    opened(0, "thinking", thinking="", signature=""),
    grown(0, "thinking_delta", thinking="hm, größer"),
    grown(0, "signature_delta", signature="sig"),
    closed(0),
    opened(1, "text", text=""),
    grown(1, "text_delta", text="ça va"),
    grown(1, "citations_delta", citation={"n": 1}),
    closed(1),
    opened(2, "tool_use", id="a", name="w", input={}),
    grown(2, "input_json_delta", partial_json='{"n": 1}'),
    closed(2),
    ended("tool_use"),
    STOP,
)


@given(st.lists(st.integers(1, len(RECORDED) - 1), max_size=30))
def test_any_chunking_gives_the_same_reply(cuts: list[int]) -> None:
    """Scenario 90."""
    whole = AnthropicDialect(OLD).decoder()
    expected = [event for raw in SSEParser().feed(RECORDED) for event in whole.feed(raw)]
    decoder, parser = AnthropicDialect(OLD).decoder(), SSEParser()
    edges = [0, *sorted(cuts), len(RECORDED)]
    seen: list[ModelEvent] = []
    for begin, end in pairwise(edges):
        for raw in parser.feed(RECORDED[begin:end]):
            seen += decoder.feed(raw)
    assert seen == expected
    assert decoder.finish(clean=True) == whole.finish(clean=True)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something could be put instead."""
    found = [path]
    if isinstance(value, dict):
        for key in value:
            found += places(value[key], (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += places(item, (*path, index))
    return found


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


BODY = {
    "id": "msg",
    "model": "m",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "x", "citations": [{}]},
        {"type": "tool_use", "id": "a", "name": "w", "input": {"n": 1}, "caller": {"type": "x"}},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
    ],
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 1, "output_tokens_details": {"thinking_tokens": 1}},
    "container": {"id": "c"},
}


@given(st.data())
def test_a_mutated_body_is_a_reply_or_a_typed_error(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(places(BODY)))
    body = replaced(BODY, path, data.draw(ANYTHING))
    try:
        reply = AnthropicDialect(OLD).decode(json.dumps(body).encode())
    except ProviderError:
        return
    # Whatever came can be sent back.
    AnthropicDialect(OLD).encode(ModelRequest([user("x"), reply.message]), stream=False)


@given(st.data())
def test_a_mutated_stream_is_a_reply_or_a_typed_error(data: st.DataObject) -> None:
    raw = SSEParser().feed(RECORDED)
    index = data.draw(st.integers(0, len(raw) - 1))
    event = json.loads(raw[index].data)
    mutated = replaced(event, data.draw(st.sampled_from(places(event))), data.draw(ANYTHING))
    named = data.draw(st.sampled_from(["message", "error", raw[index].event]))
    raw[index] = WireEvent(json.dumps(mutated).encode(), named)
    decoder = AnthropicDialect(OLD).decoder()
    try:
        for each in raw:
            decoder.feed(each)
        reply = decoder.finish(clean=True)
    except ProviderError:
        decoder.partial()
        return
    AnthropicDialect(OLD).encode(ModelRequest([user("x"), reply.message]), stream=False)


@given(
    st.integers(400, 599), st.binary(max_size=50) | ANYTHING.map(lambda value: json.dumps({"error": value}).encode())
)
def test_any_error_body_is_a_typed_error(status: int, body: bytes) -> None:
    for dialect in (AnthropicDialect(OLD), BedrockAnthropicDialect(OLD)):
        assert isinstance(dialect.read_error(status, {}, body, now=0.0), ProviderError)


PARTS = st.one_of(
    st.builds(Text, st.sampled_from(["", " ", "a", "b \n"])),
    st.builds(Thinking, st.sampled_from(["", "hm"]), st.sampled_from([None, "sig"])),
    st.builds(ToolCall, st.sampled_from([None, "", "a", "b", "ä:1"]), st.sampled_from(["w", "", "a.b"]), st.just({})),
    st.sampled_from([HIDDEN, SEARCH, FOUND]),
)
RESULTS = st.builds(ToolResult, st.sampled_from(["", "a", "b", "call_0", "zz"]), st.sampled_from(["", "r"]))
ANSWERS = st.builds(
    Message,
    st.just("assistant"),
    st.lists(PARTS, max_size=5).map(tuple),
    st.booleans(),
    st.sampled_from([None, STAMP, ProviderData("other")]),
)
OTHERS = st.one_of(
    st.sampled_from([user("u"), user(""), system("s"), system(" ")]),
    st.lists(RESULTS, max_size=3).map(lambda parts: Message("tool", tuple(parts))),
)


@given(st.lists(ANSWERS | OTHERS, max_size=8), st.sampled_from([OLD, NEW]))
def test_any_history_becomes_one_that_the_api_accepts(history: list[Message], model: str) -> None:
    """The rules of the strict fake hold for whatever a caller keeps."""
    messages = AnthropicDialect(model).body(ModelRequest(history))["messages"]
    check_history(messages, model)


def check_history(messages: list[dict[str, Any]], model: str) -> None:
    roles = [message["role"] for message in messages]
    assert roles[0] == "user"
    assert all(before != after and (after != "system" or before == "user") for before, after in pairwise(roles))
    seen: set[str] = set()
    open_calls: list[str] = []
    for message in messages:
        content = message["content"]
        blocks = content if isinstance(content, list) else [text(content)]
        assert blocks
        answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        assert [block["type"] for block in blocks[: len(answered)]] == ["tool_result"] * len(answered)
        assert sorted(answered) == sorted(open_calls)
        open_calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        assert not seen & set(open_calls)
        assert len(set(open_calls)) == len(open_calls)
        seen |= set(open_calls)
        assert all(block["text"].strip() for block in blocks if block["type"] == "text")
        assert all(block["signature"] for block in blocks if block["type"] == "thinking" and block["thinking"])
        assert blocks[-1]["type"] not in ("thinking", "redacted_thinking")
    assert not open_calls
    if model == NEW:
        assert roles[-1] != "assistant"


# Bedrock.


def frame(payload: bytes, **headers: str) -> bytes:
    """A message of an AWS event stream."""
    block = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in ((f":{key.replace('_', '-')}", value) for key, value in headers.items())
    )
    prelude = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + block + payload
    return body + struct.pack(">I", zlib.crc32(body))


def chunk(event: Any) -> bytes:
    held = {"bytes": base64.b64encode(json.dumps(event).encode()).decode(), "p": "abc"}
    return frame(json.dumps(held).encode(), message_type="event", event_type="chunk")


def test_bedrock_names_the_model_in_the_path() -> None:
    dialect = BedrockAnthropicDialect("us.anthropic.claude-haiku-4-5-20251001-v1:0")
    encoded = dialect.encode(ModelRequest([user("x")]), stream=True)
    assert encoded.path == "/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/invoke-with-response-stream"
    body = json.loads(encoded.body)
    assert body["anthropic_version"] == "bedrock-2023-05-31"
    assert not body.keys() & {"model", "stream"}
    assert dialect.encode(ModelRequest([user("x")]), stream=False).path.endswith("/invoke")
    assert dialect.family == FAMILY


def test_a_stream_of_bedrock() -> None:
    dialect = BedrockAnthropicDialect(OLD)
    decoder, framer = dialect.decoder(), dialect.framer()
    data = b"".join(
        [
            *map(chunk, HELLO),
            frame(b"{}", message_type="event", event_type="ofTheFuture"),
            *map(chunk, [ended(), {**STOP, "amazon-bedrock-invocationMetrics": {}}]),
        ]
    )
    assert [event for raw in framer.feed(data) for event in decoder.feed(raw)] == [TextDelta("hel"), TextDelta("lo")]
    assert decoder.done
    assert decoder.finish(clean=True).message.text == "hello"


@pytest.mark.parametrize(
    ("exception", "made", "retryable"),
    [
        ("throttlingException", RateLimited, True),
        ("modelStreamErrorException", Overloaded, True),
        ("modelTimeoutException", Overloaded, True),
        ("internalServerException", Overloaded, True),
        ("validationException", InvalidRequest, False),
        ("ofTheFuture", Overloaded, True),
    ],
)
def test_an_exception_in_a_stream_of_bedrock(exception: str, made: type[ProviderError], retryable: bool) -> None:
    dialect = BedrockAnthropicDialect(OLD)
    decoder, framer = dialect.decoder(), dialect.framer()
    data = chunk(HELLO[0]) + frame(b'{"message": "Oh"}', message_type="exception", exception_type=exception)
    with pytest.raises(made, match="Oh") as caught:
        for raw in framer.feed(data):
            decoder.feed(raw)
    assert (caught.value.code, caught.value.retryable) == (exception, retryable)


def test_a_chunk_without_bytes() -> None:
    for payload in (b"", b"[]", b'{"bytes": 1}', b'{"bytes": "?"}'):
        with pytest.raises(BadResponse, match="chunk"):
            BedrockAnthropicDialect(OLD).decoder().feed(WireEvent(payload, "chunk", "event"))


def test_errors_of_bedrock_name_their_type_in_a_header() -> None:
    headers = {"x-amzn-errortype": "ThrottlingException:http://x", "x-amzn-requestid": "r1"}
    error = BedrockAnthropicDialect(OLD).read_error(429, headers, b'{"message": "Oh"}', now=0.0)
    assert isinstance(error, RateLimited)
    assert (error.message, error.code, error.request_id) == ("Oh", headers["x-amzn-errortype"], "r1")
    assert BedrockAnthropicDialect(OLD).read_error(424, {}, b"{}", now=0.0).retryable


# The skins.


@pytest.mark.anyio
async def test_keys_versions_and_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn"}
    async with serve(json_answer(body)) as server:
        for base in ("", "/v1", "/v1/", "/v1/messages"):
            provider = Anthropic("m", base_url=server.url + base, api_key="sk-ant-1234567")
            assert (await provider.complete(ModelRequest([user("x")]))).message.text == "hi"
        await Anthropic("m", base_url=server.url + "/anthropic").complete(ModelRequest([user("x")]))
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-key")
        await BedrockAnthropic("a:b", base_url=server.url).complete(ModelRequest([user("x")]))
        signed = BedrockAnthropic("a", base_url=server.url, signer=lambda request: {"authorization": "AWS4"})
        await signed.complete(ModelRequest([user("x")]))
    seen = server.requests
    assert [request.target for request in seen] == [
        *["/v1/messages"] * 4,
        "/anthropic/v1/messages",
        "/model/a%3Ab/invoke",
        "/model/a/invoke",
    ]
    assert seen[0].headers["x-api-key"] == "sk-ant-1234567"
    assert seen[0].headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in seen[0].headers
    assert "x-api-key" not in seen[4].headers
    assert "authorization" not in seen[5].headers  # the environment's key is for AWS's own hosts
    assert seen[5].headers["accept"] == "application/json"
    assert seen[6].headers["authorization"] == "AWS4"


@pytest.mark.anyio
async def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider, variable in (
        (Anthropic("m"), "ANTHROPIC_API_KEY"),
        (BedrockAnthropic("m"), "AWS_BEARER_TOKEN_BEDROCK"),
    ):
        monkeypatch.delenv(variable, raising=False)
        with pytest.raises(AuthError, match=variable):
            await provider.complete(ModelRequest([user("x")]))


@pytest.mark.anyio
async def test_an_overloaded_stream_before_its_first_word() -> None:
    """529 comes as an event of a stream with status 200."""
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    async with serve(Answer([sse(error)], 200, {"content-type": "text/event-stream"})) as server:
        provider = Anthropic("m", base_url=server.url, api_key="sk-ant-1234567")
        with pytest.raises(Overloaded, match="Overloaded") as caught:
            async with provider.stream(ModelRequest([user("x")])) as events:
                async for _ in events:
                    pass
    assert (caught.value.provider, caught.value.retryable, caught.value.partial) == ("anthropic", True, None)


def test_where_bedrock_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert BedrockAnthropic("m").base_url == "https://bedrock-runtime.us-east-1.amazonaws.com"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert BedrockAnthropic("m").base_url == "https://bedrock-runtime.eu-west-1.amazonaws.com"
    assert BedrockAnthropic("m", region="ap-south-1").base_url.startswith("https://bedrock-runtime.ap-south-1.")
    assert Anthropic("m").base_url == "https://api.anthropic.com/v1"


@pytest.mark.parametrize("make", [Anthropic, BedrockAnthropic])
def test_arguments_that_have_no_meaning(make: Any) -> None:
    for wrong in ("", " "):
        with pytest.raises(ValueError, match="model's name"):
            make(wrong)
    with pytest.raises(TypeError, match="model's name"):
        make(None)
    for limit in (0, "9", True, 1.5):
        with pytest.raises(ValueError, match="max_tokens"):
            make("m", max_tokens=limit)
    with pytest.raises(ValueError, match="region"):
        BedrockAnthropic("m", region="evil.example/")
    with pytest.raises(TypeError, match="region"):
        BedrockAnthropic("m", region=1)  # type: ignore[arg-type]
