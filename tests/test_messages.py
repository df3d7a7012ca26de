"""Messages, OpenAI-style dictionaries, requests, the script and the names of models."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from greenroom.agents import Agent, System
from greenroom.agents.errors import RestartLimit
from greenroom.providers import (
    Message,
    ModelReply,
    ModelRequest,
    ModelSettings,
    Overloaded,
    Provider,
    Refusal,
    Scripted,
    ScriptExhausted,
    Text,
    TextDelta,
    Thinking,
    ToolCall,
    ToolSpec,
    Usage,
    assistant,
    call,
    document,
    image,
    message_from_openai,
    message_to_openai,
    system,
    tool_result,
    user,
)

REQUEST = ModelRequest([])
TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}


@pytest.mark.parametrize(
    "written",
    [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]},
        {"role": "assistant", "content": "let me see", "tool_calls": [TOOL_CALL, {**TOOL_CALL, "id": "c2"}]},
        {"role": "assistant", "content": None, "refusal": "no"},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what is this?"},
                {"type": "image_url", "image_url": {"url": "https://x.example/a.png", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAEC"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAEC", "filename": "a.pdf"}},
            ],
        },
    ],
)
def test_there_and_back(written: dict[str, Any]) -> None:
    assert message_to_openai(message_from_openai(written)) == [written]


def test_what_is_read() -> None:
    message = message_from_openai(
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            "reasoning_content": "hm",
            "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{oops"}}],
        }
    )
    assert (message.text, message.thinking) == ("ab", "hm")
    assert message.tool_calls == (ToolCall("c1", "f", None, "{oops"),)
    assert message_from_openai({"role": "developer", "content": "x"}) == system("x")
    legacy = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}}
    assert message_from_openai(legacy).tool_calls == (ToolCall(None, "f", {}, ""),)


@pytest.mark.parametrize(
    ("bad", "error", "key"),
    [
        ({}, ValueError, "role"),
        ({"role": "robot", "content": "x"}, ValueError, "role"),
        ({"role": "user"}, TypeError, "content"),
        ({"role": "user", "content": 7}, TypeError, "content"),
        ({"role": "user", "content": [{"type": "smell"}]}, ValueError, "content"),
        ({"role": "user", "content": [{"type": "text"}]}, ValueError, "text"),
        ({"role": "user", "content": [{"type": "image_url"}]}, TypeError, "image_url"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}}]},
            ValueError,
            "image_url",
        ),
        ({"role": "user", "content": [{"type": "file", "file": {"file_id": "f1"}}]}, ValueError, "file"),
        ({"role": "assistant", "content": None, "tool_calls": "x"}, TypeError, "tool_calls"),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}, TypeError, "function"),
        ({"role": "assistant", "content": None, "tool_calls": [{"function": {}}]}, ValueError, "name"),
        ({"role": "tool", "content": "x"}, ValueError, "tool_call_id"),
    ],
)
def test_a_bad_dictionary_names_its_key(bad: dict[str, Any], error: type[Exception], key: str) -> None:
    with pytest.raises(error, match=key):
        message_from_openai(bad)


def test_several_results_are_several_dictionaries() -> None:
    message = Message("tool", (*tool_result("a", "1").parts, *tool_result("b", "2").parts))
    assert [item["tool_call_id"] for item in message_to_openai(message)] == ["a", "b"]


def test_reasoning_goes_back_only_where_asked_for() -> None:
    message = Message("assistant", (Thinking("hm"), Text("yes")))
    assert message_to_openai(message) == [{"role": "assistant", "content": "yes"}]
    assert message_to_openai(message, thinking_key="reasoning_content")[0]["reasoning_content"] == "hm"


def test_builders() -> None:
    message = user("look", image(b"\0", media_type="image/png"), document("https://x.example/a.pdf"))
    assert [type(part).__name__ for part in message.parts] == ["Text", "Image", "Document"]
    assert assistant("x", Refusal("no"), tool_calls=[call("f", a=1)]).refusal == "no"
    for build in (image, document):
        with pytest.raises(ValueError, match="media_type"):
            build(b"x")


def test_messages_survive_a_journal() -> None:
    message = Message("assistant", (Thinking("t", "sig"), Text("x"), ToolCall("c", "f", {"a": [1]}, '{"a":[1]}')))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=Message) == message
    assert msgspec.json.decode(msgspec.json.encode(message), type=Message) == message


def test_usage_adds_up_and_nothing_is_not_zero() -> None:
    total = Usage(1, 2, 3, raw={"x": 1}) + Usage(10, None, 5, 0)
    assert total == Usage(11, 2, 8, 0)
    assert (Usage() + Usage()).total_tokens is None


# Requests.


def lookup(city: str, days: int = 1) -> str:
    """Look up the weather.

    Args:
        city: where.
    """
    return city * days


def test_a_request_takes_dictionaries_and_functions() -> None:
    class WithSpec:
        spec = ToolSpec("mine", "d", {"type": "object"})

    bare = {"name": "bare", "description": "b", "parameters": {"type": "object", "properties": {}}}
    request = ModelRequest(
        [{"role": "user", "content": "hi"}, assistant("yo")],
        tools=[lookup, WithSpec(), bare, {"type": "function", "function": {**bare, "strict": True}}],
        settings={"temperature": 0.5, "stop": ["x"]},
    )
    assert request.messages == [user("hi"), assistant("yo")]
    assert [tool.name for tool in request.tools] == ["lookup", "mine", "bare", "bare"]
    assert request.tools[0].parameters["properties"]["city"] == {"type": "string", "description": "where."}
    assert request.tools[3].strict is True
    assert request.settings == ModelSettings(temperature=0.5, stop=("x",))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"messages": [7]}, TypeError, "message"),
        ({"messages": [], "tools": [7]}, TypeError, "tool"),
        ({"messages": [], "tools": [{"description": "x"}]}, ValueError, "name"),
        ({"messages": [], "tools": [{"name": "x", "parameters": 3}]}, ValueError, "parameters"),
        ({"messages": [], "settings": {"temperature": "hot"}}, ValueError, "temperature"),
        ({"messages": [], "settings": {"temprature": 1}}, ValueError, "temprature"),
    ],
)
def test_a_bad_request_says_why(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ModelRequest(**arguments)


# The script.


@pytest.mark.anyio
async def test_a_script_plays_every_kind_of_line() -> None:
    async def later(request: ModelRequest) -> str:
        return f"echo {request.messages[0].text}"

    script = Scripted(
        "text",
        [call("f", a=1), call("g")],
        assistant("message"),
        ModelReply(assistant("reply"), "length"),
        later,
        lambda _: call("h"),
        Overloaded("busy"),
    )
    request = ModelRequest([user("x")])
    assert (await script.complete(request)).message.text == "text"
    reply = await script.complete(request)
    assert reply.stop_reason == "tool_calls"
    assert [(item.id, item.name, item.arguments) for item in reply.message.tool_calls] == [
        ("call_1", "f", {"a": 1}),
        ("call_2", "g", {}),
    ]
    assert (await script.complete(request)).message.text == "message"
    assert (await script.complete(request)).stop_reason == "length"
    assert (await script.complete(request)).message.text == "echo x"
    assert (await script.complete(request)).message.tool_calls[0].id == "call_3"
    with pytest.raises(Overloaded):
        await script.complete(request)
    with pytest.raises(ScriptExhausted, match="7 replies and was asked for number 8"):
        await script.complete(request)
    assert len(script.requests) == 8


@pytest.mark.anyio
async def test_a_script_streams_in_chunks() -> None:
    script = Scripted("a longer text", chunk=4)
    async with script.stream(ModelRequest([user("x")])) as stream:
        assert [event async for event in stream] == [TextDelta(text) for text in ("a lo", "nger", " tex", "t")]
    assert stream.reply.message.text == "a longer text"


@pytest.mark.anyio
async def test_complete_is_enough_for_a_provider() -> None:
    class Mine(Provider):
        async def complete(self, request: ModelRequest) -> ModelReply:
            assert request.messages == []
            return ModelReply(assistant("whole", tool_calls=[call("f")]), "tool_calls")

    async with Mine() as provider, provider.stream(ModelRequest([])) as stream:
        with pytest.raises(RuntimeError, match="read to their end"):
            _ = stream.reply
        assert len([event async for event in stream]) == 2
    assert stream.reply.message.text == "whole"


class Markup(str):
    """As a template library makes."""


def test_what_is_only_like_a_string_becomes_one() -> None:
    text = Markup("hi")
    made = [
        user(text),
        system(text),
        assistant(text),
        message_from_openai({"role": "user", "content": text}),
        message_from_openai({"role": "user", "content": [text, {"type": "text", "text": text}]}),
        message_from_openai({"role": "assistant", "content": text, "reasoning_content": text}),
    ]
    assert {type(part.text) for message in made for part in message.parts if isinstance(part, Text | Thinking)} == {str}
    result = tool_result(text, text, name=text).tool_results[0]
    assert {type(result.call_id), type(result.content), type(result.name)} == {str}
    assert type(image(Markup("http://x/y.png")).url) is str
    assert image(bytearray(b"x"), media_type="image/png") == image(b"x", media_type="image/png")


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: user(3), TypeError, r"user\(\) takes texts and parts made by image\(\).*, not a value of type int"),
        (lambda: user(["a"]), TypeError, r"user\(\) takes texts"),
        (lambda: user(None), TypeError, r"user\(\) takes texts .* not None"),
        (lambda: assistant(3), TypeError, r"assistant\(\) takes texts"),
        (lambda: assistant(tool_calls=[3]), TypeError, r"takes ToolCalls, not a value of type int"),
        (lambda: system(3), TypeError, r"the text of system\(\) must be a string, not a value of type int"),
        (lambda: tool_result(3, "x"), TypeError, r"the call_id of tool_result\(\) must be a string"),
        (lambda: tool_result("c", {"a": 1}), TypeError, r"the content of tool_result\(\) must be a string"),
        (lambda: image(Path("x.png")), TypeError, r"image\(path.read_bytes\(\), media_type='image/png'\)"),
        (lambda: image(""), ValueError, r"image\(\) takes a URL or bytes, and this is empty"),
        (lambda: image(b"x"), ValueError, "an image given as bytes needs media_type="),
        (lambda: image("http://x", detail="huge"), ValueError, "detail="),
        (lambda: document(None), TypeError, r"document\(\) takes a URL or bytes, not None"),
        (lambda: document(b"x"), ValueError, "a document given as bytes needs media_type="),
        (lambda: user("a\ud800"), ValueError, "not valid Unicode: half a surrogate pair at position 1"),
        (lambda: system("\ud800"), ValueError, "half a surrogate pair at position 0"),
        (lambda: tool_result("c", "\ud800"), ValueError, "half a surrogate pair"),
        (lambda: message_from_openai({"role": "user", "content": "\ud800"}), ValueError, "'content' is not valid Uni"),
        (
            lambda: message_from_openai({"role": "user", "content": [{"type": "text", "text": "\ud800"}]}),
            ValueError,
            "key 'text' is not valid Unicode",
        ),
    ],
)
def test_a_builder_refuses_in_one_line(make: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temperature": "hot"}, "temperature must be a number"),
        ({"temperature": -1}, "temperature must be a number, 0 or more"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 1.5}, "top_p must be a number from 0 to 1"),
        ({"max_tokens": 0}, "max_tokens must be a whole number, at least 1"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"stop": 3}, "stop must be text"),
        ({"stop": [3]}, "stop must be text"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"tool_choice": 3}, "tool_choice"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls must be True or False"),
        ({"extra": [1]}, "extra must be a dictionary"),
        ({"extra": {"stream": False}}, "extra must not hold 'stream'"),
        ({"extra": {"messages": []}}, "extra must not hold 'messages'"),
        ({"extra": {"model": "x"}}, "extra must not hold 'model'"),
    ],
)
def test_settings_are_checked_when_they_are_made(settings: dict[str, Any], words: str) -> None:
    for make in (lambda: ModelSettings(**settings), lambda: ModelRequest([], settings=settings)):
        with pytest.raises(ValueError, match=words) as caught:
            make()
        assert "\n" not in str(caught.value)


def test_stop_words_in_any_form() -> None:
    assert ModelSettings(stop="END").stop == ModelSettings(stop=["END"]).stop == ("END",)
    assert ModelRequest([], settings={"stop": "END"}).settings.stop == ("END",)


@pytest.mark.parametrize("line", [3, None, {"a": 1}, ValueError, [3], ["a", {"b": 1}]])
def test_a_line_that_cannot_be_played_is_refused_at_once(line: Any) -> None:
    with pytest.raises(TypeError, match="a script cannot hold"):
        Scripted("a", line)


@pytest.mark.anyio
async def test_a_line_that_crashes_is_not_used_up() -> None:
    def broken(request: ModelRequest) -> str:
        raise KeyError("k")

    provider = Scripted(ValueError("boom"), "never")
    for _ in range(3):
        with pytest.raises(ValueError, match="boom"):
            await provider.complete(REQUEST)
    assert len(provider.requests) == 3
    for line in (broken, lambda request: 3):
        provider = Scripted("first", line, "never")
        await provider.complete(REQUEST)
        for _ in range(2):
            with pytest.raises((KeyError, TypeError)):
                await provider.complete(REQUEST)


@pytest.mark.anyio
async def test_a_failure_of_the_provider_is_used_up() -> None:
    provider = Scripted(Overloaded("busy"), "then")
    with pytest.raises(Overloaded):
        await provider.complete(REQUEST)
    assert (await provider.complete(REQUEST)).message.text == "then"


@pytest.mark.anyio
async def test_the_true_error_ends_a_run() -> None:
    async with System():
        with pytest.raises(RestartLimit, match="ValueError: boom"):
            await Agent("a", Scripted(ValueError("boom"), "never")).run("x")


# -- what they cost


@pytest.mark.parametrize(
    "record",
    [
        Text("a"),
        Thinking("a"),
        ToolCall("1", "add", {"a": [1]}, '{"a": [1]}'),
        tool_result("1", "2"),
        user("a"),
        assistant("a", tool_calls=[call("add", a=1)]),
        TextDelta("a"),
        Usage(input_tokens=1),
        ModelReply(assistant("a")),
    ],
    ids=lambda record: type(record).__name__,
)
def test_the_cyclic_collector_does_not_walk_through_conversations(record: object) -> None:
    """They are held in hundreds of thousands, and cannot be part of a cycle."""
    assert not gc.is_tracked(record)
