"""Ollama's own wire format, as data, and its skin over real HTTP (scenarios 84 to 91)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.providers import (
    AuthError,
    BadResponse,
    ContextOverflow,
    InvalidRequest,
    Message,
    ModelReply,
    ModelRequest,
    Ollama,
    Overloaded,
    ProviderData,
    ProviderError,
    ServerItem,
    StreamInterrupted,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
    ToolSpec,
    UnsignedRequest,
    assistant,
    document,
    image,
    system,
    tool_result,
    user,
)
from greenroom.providers.dialects.ollama import OllamaDialect
from greenroom.providers.ollama import host_url

from .wire import Answer, json_answer, serve

DIALECT = OllamaDialect("m")
WEATHER = ToolSpec("weather", "tells it", {"type": "object", "properties": {"city": {"type": "string"}}})
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
HISTORY = [user("hi")]


def encode(*messages: Message, dialect: OllamaDialect = DIALECT, stream: bool = False, **more: Any) -> dict[str, Any]:
    encoded = dialect.encode(ModelRequest(messages or HISTORY, **more), stream=stream)
    assert encoded.path == "/api/chat"
    return json.loads(encoded.body)


def line(content: str = "", done: bool = False, **more: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": content}
    for key in ("thinking", "tool_calls"):
        if key in more:
            said[key] = more.pop(key)
    return {"model": "m", "created_at": "2026-01-01T00:00:00Z", "message": said, "done": done, **more}


def call(name: str, arguments: Any, **more: Any) -> dict[str, Any]:
    return {**more, "function": {"name": name, "arguments": arguments}}


END = line(done=True, done_reason="stop", prompt_eval_count=3, eval_count=4)


def play(*lines: Any, clean: bool = True) -> tuple[list[Any], ModelReply]:
    framer, decoder = DIALECT.framer(), DIALECT.decoder()
    events: list[Any] = []
    for event in framer.feed(b"".join(json.dumps(each).encode() + b"\n" for each in lines)):
        events += decoder.feed(event)
    return events, decoder.finish(clean=clean)


# Requests.


def test_a_whole_request() -> None:
    body = encode(
        user("hi"),
        dialect=OllamaDialect("m", context_length=8192, keep_alive="10m", think=True),
        tools=[WEATHER],
        instructions="be brief",
        settings={
            "temperature": 0,
            "top_p": 0.5,
            "max_tokens": 5,
            "stop": ["x"],
            "seed": 1,
            "extra": {"truncate": False, "options": {"top_k": 3}},
        },
    )
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        "stream": False,
        "tools": [
            {
                "type": "function",
                "function": {"name": "weather", "description": "tells it", "parameters": WEATHER.parameters},
            }
        ],
        "options": {
            "temperature": 0,
            "top_p": 0.5,
            "num_predict": 5,
            "stop": ["x"],
            "seed": 1,
            "num_ctx": 8192,
            "top_k": 3,
        },
        "think": True,
        "keep_alive": "10m",
        "truncate": False,
    }


def test_it_streams_unless_it_is_told_not_to() -> None:
    assert encode()["stream"] is False
    assert encode(stream=True)["stream"] is True
    assert set(encode()) == {"model", "messages", "stream"}


@pytest.mark.parametrize(
    ("effort", "own", "sent"),
    [
        (None, None, None),
        (None, "high", "high"),
        (None, False, False),
        ("low", "high", "low"),
        ("none", True, False),
        ("minimal", None, "low"),
    ],
)
def test_how_much_to_think(effort: str | None, own: Any, sent: Any) -> None:
    body = encode(dialect=OllamaDialect("m", think=own), settings={"reasoning_effort": effort})
    assert body.get("think") == sent
    assert ("think" in body) is (sent is not None)


def test_a_schema_forces_an_answer_unless_there_are_tools_to_call() -> None:
    """A model that is held to a format calls no tool, whatever it is offered."""
    assert encode(output_schema=SCHEMA)["format"] == SCHEMA
    body = encode(output_schema=SCHEMA, tools=[WEATHER], instructions="be brief")
    assert "format" not in body
    told = body["messages"][0]["content"]
    assert told.startswith("be brief\n\n")
    assert json.dumps(SCHEMA, separators=(",", ":")) in told
    assert "format" in encode(output_schema=SCHEMA, tools=[WEATHER], settings={"tool_choice": "none"})


@pytest.mark.parametrize(("choice", "offered"), [("none", 0), ("weather", 1), ("auto", 2), ("required", 2), (None, 2)])
def test_a_choice_of_tools_narrows_the_offer(choice: str | None, offered: int) -> None:
    body = encode(tools=[WEATHER, ToolSpec("other", "", {})], settings={"tool_choice": choice})
    assert len(body.get("tools", ())) == offered


def test_images_are_bare_base64() -> None:
    body = encode(user("see", image(b"\x89PNG", media_type="image/png"), "this"))
    assert body["messages"] == [
        {"role": "user", "content": "see\n\nthis", "images": [base64.b64encode(b"\x89PNG").decode()]}
    ]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (image("https://x/y.png"), "fetches no URL"),
        (document(b"x", media_type="text/plain"), "no documents"),
        (Thinking("x"), "Thinking"),
    ],
)
def test_what_cannot_be_carried_is_said(part: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        encode(Message("user", (part,)))


def test_calls_go_back_as_objects_and_results_by_name() -> None:
    said = [ToolCall("a", "weather", {"city": "Oslo"}, '{"city":"Oslo"}'), ToolCall("b", "broken", None, "{x")]
    body = encode(
        user("x"), assistant(tool_calls=said), tool_result("b", "no", is_error=True), tool_result("a", "rain")
    )
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"function": {"name": "weather", "arguments": {"city": "Oslo"}}},
                {"function": {"name": "broken", "arguments": {"invalid_arguments": "{x"}}},
            ],
        },
        # In the order of the calls: the place is what tells them apart.
        {"role": "tool", "tool_name": "weather", "content": "rain"},
        {"role": "tool", "tool_name": "broken", "content": "no"},
    ]


def test_thoughts_go_back_to_their_own_family_only() -> None:
    parts = (Thinking("hm"), Text("so"), ServerItem("x", {}))
    own = Message("assistant", parts, provider_data=ProviderData("ollama", "m"))
    foreign = Message("assistant", parts, provider_data=ProviderData("bedrock-converse", "m"))
    bare = Message("assistant", parts)
    assert encode(own)["messages"] == [{"role": "assistant", "content": "so", "thinking": "hm"}]
    assert encode(foreign)["messages"] == encode(bare)["messages"] == [{"role": "assistant", "content": "so"}]


def test_odd_histories() -> None:
    body = encode(
        user("a"),
        Message("assistant", (Text("ha"), ToolCall("x", "f", None, "{")), partial=True),
        user("b"),
        user("c"),
        system("now"),
        assistant(""),
        tool_result("gone", "orphan"),
        assistant(tool_calls=[ToolCall(None, "f", {}), ToolCall(None, "g", {})]),
        tool_result("call_0", "1"),
        tool_result("call_1", "2"),
        assistant(tool_calls=[ToolCall("z", "f", {})]),
        user("d"),
    )
    empty = {"function": {"name": "f", "arguments": {}}}
    lost = "outcome unknown: the history has no result of this call"
    assert body["messages"] == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "ha"},
        {"role": "user", "content": "b"},
        {"role": "user", "content": "c"},
        {"role": "system", "content": "now"},
        {"role": "assistant", "content": "", "tool_calls": [empty, {"function": {"name": "g", "arguments": {}}}]},
        {"role": "tool", "tool_name": "f", "content": "1"},
        {"role": "tool", "tool_name": "g", "content": "2"},
        {"role": "assistant", "content": "", "tool_calls": [empty]},
        {"role": "tool", "tool_name": "f", "content": lost},
        {"role": "user", "content": "d"},
    ]


# Answers.


def test_a_stream() -> None:
    events, reply = play(line("Hel"), line("lo"), line(""), END)
    assert events == [TextDelta("Hel"), TextDelta("lo")]
    assert reply.message == assistant("Hello")
    assert (reply.stop_reason, reply.stop_reason_raw, reply.model) == ("stop", "stop", "m")
    assert reply.usage is not None
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.total_tokens) == (3, 4, None)


def test_thinking_and_calls_in_a_stream() -> None:
    events, reply = play(
        line(thinking="h"),
        line(thinking="m"),
        line(tool_calls=[call("weather", {"city": "Oslo"}), call("weather", {"city": "Rom"}, id="call_7")]),
        line(tool_calls=[call("now", None)]),
        END,
    )
    assert events == [
        ThinkingDelta("h"),
        ThinkingDelta("m"),
        ToolCallDelta(0, '{"city":"Oslo"}', None, "weather"),
        ToolCallDelta(1, '{"city":"Rom"}', "call_7", "weather"),
        ToolCallDelta(2, "", None, "now"),
    ]
    assert reply.message.thinking == "hm"
    assert [(each.id, each.name, each.arguments) for each in reply.message.tool_calls] == [
        (None, "weather", {"city": "Oslo"}),
        ("call_7", "weather", {"city": "Rom"}),
        (None, "now", {}),
    ]
    assert (reply.stop_reason, reply.stop_reason_raw) == ("tool_calls", "stop")
    assert reply.message.provider_data == ProviderData("ollama", "m")


@pytest.mark.parametrize(
    ("arguments", "expected"), [('{"a":1}', {"a": 1}), ("", {}), ("{x", None), ([1], None), (5, None), ("5", None)]
)
def test_arguments_that_are_no_object(arguments: Any, expected: Any) -> None:
    _, reply = play(line(tool_calls=[call("f", arguments)]), END)
    (made,) = reply.message.tool_calls
    assert made.arguments == expected


@pytest.mark.parametrize(
    ("end", "stop", "usage"),
    [
        ({"done_reason": "length"}, "length", None),
        ({"done_reason": "load"}, None, None),
        ({}, None, None),
        ({"done_reason": "stop", "eval_count": 4}, "stop", (None, 4)),
        ({"done_reason": "stop", "prompt_eval_count": "3"}, "stop", None),
    ],
)
def test_how_an_answer_ends(end: dict[str, Any], stop: str | None, usage: Any) -> None:
    _, streamed = play(line("x"), line(done=True, **end))
    whole = DIALECT.decode(json.dumps(line("x", done=True, **end)).encode())
    assert streamed == whole
    assert whole.stop_reason == stop
    assert (whole.usage and (whole.usage.input_tokens, whole.usage.output_tokens)) == usage


@pytest.mark.parametrize("clean", [True, False])
def test_a_stream_without_its_last_line_is_no_answer(clean: bool) -> None:
    """Scenario 87."""
    with pytest.raises(StreamInterrupted) as caught:
        play(line("half", thinking="hm"), line(tool_calls=[call("f", {"a": 1})]), clean=clean)
    partial = caught.value.partial
    assert partial is not None
    assert (partial.text, partial.partial, partial.tool_calls[0].arguments) == ("half", True, None)
    assert partial.provider_data == ProviderData("ollama", "m")
    with pytest.raises(StreamInterrupted) as caught:
        play(clean=clean)
    assert caught.value.partial is None


def test_an_error_in_a_stream() -> None:
    """Scenario 86."""
    with pytest.raises(Overloaded, match="CUDA") as caught:
        play(line("half"), {"error": "CUDA error: out of memory"})
    assert caught.value.partial == Message("assistant", (Text("half"),), True)
    with pytest.raises(Overloaded, match="CUDA"):
        DIALECT.decode(b'{"error": "CUDA error: out of memory"}')


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (404, "model 'x' not found, try pulling it first", InvalidRequest),
        (400, "does not support tools", InvalidRequest),
        (400, "prompt too long; exceeded max context length by 4 tokens", ContextOverflow),
        (401, "unauthorized", AuthError),
        (500, "llama runner process has terminated", Overloaded),
        (503, "server busy, please try again.  maximum pending requests exceeded", Overloaded),
    ],
)
def test_errors(status: int, message: str, kind: type[ProviderError]) -> None:
    error = DIALECT.read_error(status, {}, json.dumps({"error": message}).encode(), now=0.0)
    assert (type(error), error.message, error.status) == (kind, message, status)


def test_a_stream_under_the_name_of_json() -> None:
    """A gateway that streams without saying so."""
    lines = [json.dumps(each).encode() + b"\n" for each in (line("Hel"), line("lo"), END)]
    assert DIALECT.decode(b"".join(lines)).message.text == "Hello"
    with pytest.raises(StreamInterrupted):
        DIALECT.decode(b"".join(lines[:2]))


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[" * 5000, b'{"message": 7}', b"null", b"hello", b"{}", b"<html>"])
def test_what_is_not_of_the_format(data: bytes) -> None:
    """Scenario 91."""
    with pytest.raises(BadResponse) as caught:
        DIALECT.decode(data)
    assert len(str(caught.value)) < 1000
    (event,) = DIALECT.framer().feed(data + b"\n")
    with pytest.raises(BadResponse):
        DIALECT.decoder().feed(event)


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("model", "message", "done", "done_reason", "error", "content", "thinking", "tool_calls", "function", "name")
SHAPED: Any = st.recursive(
    JSON,
    lambda inner: (
        st.dictionaries(st.sampled_from((*KEYS, "arguments", "id", "eval_count")), inner) | st.lists(inner, max_size=3)
    ),
    max_leaves=12,
)


@given(SHAPED)
def test_hostile_json_is_a_reply_or_a_typed_error(value: Any) -> None:
    data = json.dumps(value).encode()
    for read in (DIALECT.decode, lambda body: play(json.loads(body), END)):
        try:
            read(data)
        except ProviderError:
            pass
    assert isinstance(DIALECT.read_error(500, {}, data, now=0.0), ProviderError)


# The skin.


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://localhost:11434"),
        ("  ", "http://localhost:11434"),
        ("0.0.0.0", "http://localhost:11434"),
        ("0.0.0.0:1234", "http://localhost:1234"),
        ("[::]:1234", "http://localhost:1234"),
        (":1234", "http://localhost:1234"),
        ("gpu", "http://gpu:11434"),
        ("gpu:80", "http://gpu:80"),
        ("http://gpu", "http://gpu:80"),
        ("https://gpu", "https://gpu:443"),
        ("https://gpu:9/x/", "https://gpu:9/x"),
        ("'gpu'", "http://gpu:11434"),
        ("::1", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
    ],
)
def test_where_the_server_is(host: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert host_url(host) == url
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert Ollama("m").base_url == url
    assert Ollama("m", base_url="http://other:1/api/chat").base_url == "http://other:1"


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"model": 5}, TypeError),
        ({"model": " "}, ValueError),
        ({"context_length": 0}, ValueError),
        ({"context_length": 8.5}, ValueError),
        ({"keep_alive": []}, ValueError),
        ({"think": 5}, TypeError),
        ({"think": "lots"}, ValueError),
        ({"base_url": "gpu"}, ValueError),
        ({"base_url": 5}, TypeError),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        Ollama(**{"model": "m", **arguments})


@pytest.mark.anyio
async def test_no_key_is_needed_and_one_is_sent_where_given() -> None:
    async def sign(request: UnsignedRequest) -> dict[str, str]:
        return {"x-signed": request.method}

    async with serve(json_answer(line("hello", done=True))) as server:
        await Ollama("m", base_url=server.url).complete(ModelRequest(HISTORY))
        reply = await Ollama("m", base_url=server.url, api_key="sk-key", signer=sign).complete(ModelRequest(HISTORY))
    assert reply.message.text == "hello"
    bare, keyed = server.requests
    assert (bare.target, keyed.target) == ("/api/chat", "/api/chat")
    assert "authorization" not in bare.headers
    assert (keyed.headers["authorization"], keyed.headers["x-signed"]) == ("Bearer sk-key", "POST")


@pytest.mark.anyio
async def test_the_cloud_wants_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLLAMA_API_KEY", raising=False)
    with pytest.raises(AuthError, match="OLLAMA_API_KEY"):
        await Ollama("m", base_url="https://ollama.com").complete(ModelRequest(HISTORY))


@pytest.mark.anyio
@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/json", "application/x-ndjson; x=1"])
async def test_a_stream_over_http(content_type: str) -> None:
    """The last line may lack its end."""
    data = b"\r\n".join(json.dumps(each).encode() for each in (line("Hel"), line("lo"), END))
    answer = Answer([data[at : at + 9] for at in range(0, len(data), 9)], 200, {"content-type": content_type})
    async with serve(answer) as server, Ollama("m", base_url=server.url).stream(ModelRequest(HISTORY)) as stream:
        events = [event async for event in stream]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "Hello"
    assert stream.reply.stop_reason == "stop"
