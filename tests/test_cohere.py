"""Cohere's own wire format, as data, and its skin over real HTTP (scenarios 84 to 91)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.providers import (
    AuthError,
    BadResponse,
    Cohere,
    ContextOverflow,
    InvalidRequest,
    Message,
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
    ToolSpec,
    assistant,
    document,
    image,
    system,
    tool_result,
    user,
)
from greenroom.providers.dialects.cohere import CohereDialect

from .wire import json_answer, serve

DIALECT = CohereDialect("m")
WEATHER = ToolSpec("weather", "tells it", {"type": "object", "properties": {"city": {"type": "string"}}}, strict=True)
OTHER = ToolSpec("other", "", {"type": "object", "properties": {}})
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
CITATION = {"start": 0, "end": 2, "text": "so", "sources": [{"type": "tool", "id": "x:0"}]}
HISTORY = [user("hi")]
OWN = ProviderData("cohere", "m")


def encode(*messages: Message, stream: bool = False, **more: Any) -> dict[str, Any]:
    encoded = DIALECT.encode(ModelRequest(messages or HISTORY, **more), stream=stream)
    assert encoded.path == "/v2/chat"
    return json.loads(encoded.body)


def event(kind: str, index: int | None = None, **message: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"type": kind, "delta": {"message": message}}
    return made if index is None else {**made, "index": index}


START = {"type": "message-start", "id": "r1", "delta": {"message": {"role": "assistant", "content": []}}}
USAGE = {"billed_units": {"input_tokens": 1}, "tokens": {"input_tokens": 7, "output_tokens": 2.0}, "cached_tokens": 4}


def end(reason: str | None = "COMPLETE", **more: Any) -> dict[str, Any]:
    return {"type": "message-end", "delta": {"finish_reason": reason, "usage": USAGE, **more}}


def text(content: str, index: int = 0) -> dict[str, Any]:
    return event("content-delta", index, content={"text": content})


def play(*events: Any, clean: bool = True) -> tuple[list[Any], ModelReply]:
    framer, decoder = DIALECT.framer(), DIALECT.decoder()
    lines = [each if isinstance(each, str) else json.dumps(each) for each in events]
    shown: list[Any] = []
    for each in framer.feed("".join(f"data: {line}\n\n" for line in lines).encode()):
        shown += decoder.feed(each)
    return shown, decoder.finish(clean=clean)


# Requests.


def test_a_whole_request() -> None:
    body = encode(
        user("hi"),
        tools=[WEATHER],
        instructions="be brief",
        settings={
            "temperature": 0,
            "top_p": 0.5,
            "max_tokens": 5,
            "stop": ["x"],
            "seed": 1,
            "tool_choice": "required",
            "reasoning_effort": "low",
            "extra": {"safety_mode": "OFF"},
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
        "tool_choice": "REQUIRED",
        "strict_tools": True,
        "temperature": 0,
        "p": 0.5,
        "max_tokens": 5,
        "stop_sequences": ["x"],
        "seed": 1,
        "thinking": {"type": "enabled"},
        "safety_mode": "OFF",
    }


@pytest.mark.parametrize(("asked", "sent"), [(0, 0.01), (1, 0.99), (0.3, 0.3)])
def test_p_stays_in_its_bounds(asked: float, sent: float) -> None:
    assert encode(settings={"top_p": asked})["p"] == sent


@pytest.mark.parametrize(
    ("choice", "sent", "offered"),
    [
        (None, None, ["weather", "other"]),
        ("auto", None, ["weather", "other"]),
        ("none", "NONE", ["weather", "other"]),
        ("required", "REQUIRED", ["weather", "other"]),
        ("other", "REQUIRED", ["other"]),
    ],
)
def test_the_choice_of_a_tool(choice: str | None, sent: str | None, offered: list[str]) -> None:
    """Only some tool can be demanded: for one by name, the others are not offered."""
    body = encode(tools=[WEATHER, OTHER], settings={"tool_choice": choice})
    assert body.get("tool_choice") == sent
    assert [tool["function"]["name"] for tool in body["tools"]] == offered
    assert "strict_tools" not in body


def test_a_schema_is_told_and_is_forced_where_there_are_no_tools() -> None:
    """The API refuses a format beside tools, and a model that is not told of JSON may write blanks for ever."""
    body = encode(output_schema=SCHEMA)
    assert body["response_format"] == {"type": "json_object", "json_schema": SCHEMA}
    assert "JSON" in body["messages"][0]["content"]
    body = encode(output_schema=SCHEMA, tools=[WEATHER])
    assert "response_format" not in body
    assert json.dumps(SCHEMA, separators=(",", ":")) in body["messages"][0]["content"]


def test_images() -> None:
    body = encode(user("see", image("https://x/y.png", detail="low"), image(b"x", media_type="image/gif"), " "))
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/gif;base64,eA=="}},
    ]


@pytest.mark.parametrize(
    ("part", "words"), [(document(b"x", media_type="text/plain"), "no document"), (Thinking("x"), "Thinking")]
)
def test_what_cannot_be_carried_is_said(part: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        encode(Message("user", (part,)))


def test_calls_and_results() -> None:
    said = [ToolCall("a", "weather", {"city": "Oslo"}, '{"city": "Oslo"}'), ToolCall("b", "broken", None, "{x")]
    body = encode(assistant(tool_calls=said), tool_result("b", "no", is_error=True), tool_result("a", " "))
    assert body["messages"] == [
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": "a",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
                },
                {
                    "id": "b",
                    "type": "function",
                    "function": {"name": "broken", "arguments": '{"invalid_arguments":"{x"}'},
                },
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "(empty)"},
        {"role": "tool", "tool_call_id": "b", "content": "no"},
    ]


def test_text_beside_calls_is_a_plan() -> None:
    """The API refuses text content in a message with calls."""
    foreign = assistant("Let me look.", tool_calls=[ToolCall("a", "f", {})])
    (written, _) = encode(foreign, tool_result("a", "1"))["messages"]
    assert (written["tool_plan"], "content" in written) == ("Let me look.", False)


def test_a_plan_goes_back_with_its_calls_to_its_own_family_only() -> None:
    parts = (ServerItem("tool_plan", {"tool_plan": "I will look."}), Thinking("hm"), ToolCall("a", "f", {}))
    own = Message("assistant", parts, provider_data=OWN)
    (written, _) = encode(own, tool_result("a", "1"))["messages"]
    assert written["tool_plan"] == "I will look."
    assert written["content"] == [{"type": "thinking", "thinking": "hm"}]
    other = Message("assistant", parts, provider_data=ProviderData("ollama", "m"))
    (written, _) = encode(other, tool_result("a", "1"))["messages"]
    assert set(written) == {"role", "tool_calls"}


def test_thoughts_and_citations_go_back_to_their_own_family_only() -> None:
    parts = (Thinking("hm"), Text("so"), ServerItem("citation", CITATION))
    own = Message("assistant", parts, provider_data=OWN)
    said = {"type": "text", "text": "so"}
    thought = {"type": "thinking", "thinking": "hm"}
    assert encode(own)["messages"] == [{"role": "assistant", "content": [thought, said], "citations": [CITATION]}]
    assert encode(Message("assistant", parts))["messages"] == [{"role": "assistant", "content": [said]}]
    (written,) = encode(Message("assistant", parts, provider_data=ProviderData("cohere", "other")))["messages"]
    assert written == {"role": "assistant", "content": [said], "citations": [CITATION]}
    # Thoughts are taken only while thinking is not switched off.
    (written,) = encode(own, settings={"reasoning_effort": "none"})["messages"]
    assert written["content"] == [said]


def test_odd_histories() -> None:
    """Blank messages, cut answers, orphans, calls without an id and ids that come twice."""
    body = encode(
        user(""),
        Message("assistant", (Thinking("hm"), ToolCall("x", "f", None, "{")), True, OWN),
        user("b"),
        system(" "),
        system("now"),
        assistant(""),
        tool_result("gone", "orphan"),
        assistant(tool_calls=[ToolCall(None, "f", {}), ToolCall(None, "g", {})]),
        tool_result("made-0", "1"),
        tool_result("made-1", "2"),
        assistant(tool_calls=[ToolCall("call_0", "f", {})]),
        tool_result("call_0", "3"),
        assistant(tool_calls=[ToolCall("call_0", "f", {})]),
    )
    assert [message["role"] for message in body["messages"]] == [
        *("user", "user", "system"),
        *("assistant", "tool", "tool"),
        *("assistant", "tool"),
        *("assistant", "tool"),
    ]
    assert body["messages"][0]["content"] == "(empty)"
    ids = [call["id"] for message in body["messages"] for call in message.get("tool_calls", ())]
    assert len(set(ids)) == 4
    results = [message for message in body["messages"] if message["role"] == "tool"]
    assert [result["tool_call_id"] for result in results] == ids
    assert [result["content"] for result in results[:3]] == ["1", "2", "3"]
    assert "outcome unknown" in results[3]["content"]


# Answers.


def test_a_stream() -> None:
    shown, reply = play(
        START,
        event("content-start", 0, content={"type": "thinking", "thinking": ""}),
        event("content-delta", 0, content={"thinking": "hm"}),
        {"type": "content-end", "index": 0},
        event("content-start", 1, content={"type": "text", "text": ""}),
        text("Hel", 1),
        event("citation-start", 0, citations=CITATION),
        {"type": "citation-end", "index": 0},
        text("lo", 1),
        {"type": "content-end", "index": 1},
        {"type": "debug", "prompt": "x"},
        end(),
        "[DONE]",
    )
    assert shown == [ThinkingDelta("hm"), TextDelta("Hel"), TextDelta("lo")]
    assert reply.message.parts == (Thinking("hm"), Text("Hello"), ServerItem("citation", CITATION))
    assert reply.message.provider_data == OWN
    assert (reply.response_id, reply.stop_reason, reply.model) == ("r1", "stop", None)
    usage = reply.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens, usage.raw) == (7, 2, 4, USAGE)


def test_a_plan_and_calls_in_a_stream() -> None:
    def call(kind: str, index: int | None, **function: Any) -> dict[str, Any]:
        held: dict[str, Any] = {"function": function}
        if kind == "tool-call-start":
            held["id"] = f"id{index}"
        return event(kind, index, tool_calls=held)

    shown, reply = play(
        START,
        event("tool-plan-delta", tool_plan="I "),
        event("tool-plan-delta", tool_plan="look."),
        call("tool-call-start", 0, name="f", arguments=""),
        call("tool-call-delta", 0, arguments='{"a"'),
        call("tool-call-start", 1, name="g", arguments=""),
        call("tool-call-delta", 0, arguments=":1}"),
        {"type": "tool-call-end", "index": 0},
        call("tool-call-delta", None, arguments="{x"),
        end("TOOL_CALL"),
    )
    assert shown == [
        ToolCallDelta(0, "", "id0", "f"),
        ToolCallDelta(0, '{"a"'),
        ToolCallDelta(1, "", "id1", "g"),
        ToolCallDelta(0, ":1}"),
        ToolCallDelta(1, "{x"),
    ]
    assert reply.message.parts == (
        ServerItem("tool_plan", {"tool_plan": "I look."}),
        ToolCall("id0", "f", {"a": 1}, '{"a":1}'),
        ToolCall("id1", "g", None, "{x"),
    )
    assert reply.stop_reason == "tool_calls"


def test_a_whole_answer_is_the_streamed_one() -> None:
    body = {
        "id": "r1",
        "message": {
            "role": "assistant",
            "tool_plan": "I look.",
            "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "so"}],
            "citations": [CITATION],
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        "finish_reason": "TOOL_CALL",
        "usage": USAGE,
    }
    _, streamed = play(
        START,
        event("content-delta", 0, content={"thinking": "hm"}),
        text("so"),
        event("tool-plan-delta", tool_plan="I look."),
        event("citation-start", 0, citations=CITATION),
        event("tool-call-start", 0, tool_calls={"id": "a", "function": {"name": "f", "arguments": "{}"}}),
        end("TOOL_CALL"),
    )
    assert DIALECT.decode(json.dumps(body).encode()) == streamed


@pytest.mark.parametrize(
    ("raw", "ours"),
    [
        ("COMPLETE", "stop"),
        ("STOP_SEQUENCE", "stop"),
        ("MAX_TOKENS", "length"),
        ("TOOL_CALL", "tool_calls"),
        ("ERROR", "error"),
        ("TIMEOUT", "error"),
        ("NEW", None),
    ],
)
def test_finish_reasons(raw: str, ours: str | None) -> None:
    _, reply = play(START, text("x"), end(raw))
    assert (reply.stop_reason, reply.stop_reason_raw) == (ours, raw)


def test_billed_units_are_counted_where_there_is_nothing_else() -> None:
    body = {"message": {"content": []}, "usage": {"billed_units": {"input_tokens": 3, "output_tokens": True}}}
    usage = DIALECT.decode(json.dumps(body).encode()).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (3, None)


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("tail", [(), ("[DONE]",), (end(None),)])
def test_a_stream_without_a_finish_reason_is_no_answer(tail: tuple[Any, ...], clean: bool) -> None:
    """Scenario 87."""
    call = event("tool-call-start", 0, tool_calls={"id": "a", "function": {"name": "f", "arguments": "{}"}})
    with pytest.raises(StreamInterrupted) as caught:
        play(START, text("half"), call, *tail, clean=clean)
    partial = caught.value.partial
    assert partial is not None
    assert (partial.text, partial.partial, partial.tool_calls[0].arguments) == ("half", True, None)
    with pytest.raises(StreamInterrupted) as caught:
        play(START, clean=clean)
    assert caught.value.partial is None


def test_an_error_in_a_stream() -> None:
    """Scenario 86."""
    with pytest.raises(Overloaded, match="boom") as caught:
        play(START, text("half"), end("ERROR", error="boom"))
    assert caught.value.partial == Message("assistant", (Text("half"),), True)
    with pytest.raises(ProviderError, match="boom") as caught:
        play(START, text("half"), {"message": "boom", "id": "e"})
    assert caught.value.partial == Message("assistant", (Text("half"),), True)


def test_an_event_of_a_proxy_is_passed_over() -> None:
    decoder = DIALECT.decoder()
    (strange, broken) = DIALECT.framer().feed(
        b"event: proxy.notice\ndata: hello\n\nevent: content-delta\ndata: hello\n\n"
    )
    assert decoder.feed(strange) == []
    with pytest.raises(BadResponse):
        decoder.feed(broken)


def test_an_error_inside_a_success() -> None:
    """Scenario 86."""
    with pytest.raises(ProviderError, match="boom"):
        DIALECT.decode(b'{"message": "boom", "id": "x"}')
    body = {"message": {"content": [{"type": "text", "text": "half"}]}, "finish_reason": "ERROR", "error": "boom"}
    with pytest.raises(Overloaded, match="boom") as caught:
        DIALECT.decode(json.dumps(body).encode())
    assert caught.value.partial == Message("assistant", (Text("half"),), True)


@pytest.mark.parametrize(
    ("status", "body", "kind", "retryable"),
    [
        (400, {"message": "invalid request", "id": "e1"}, InvalidRequest, False),
        (400, {"message": "too many tokens: limit", "error_type": "TOO_MANY_TOKENS"}, ContextOverflow, False),
        (401, {"message": "invalid api token"}, AuthError, False),
        (404, {"message": "model 'x' not found"}, InvalidRequest, False),
        (422, {"message": "bad"}, InvalidRequest, False),
        (429, {"message": "limited to 20 API calls / minute"}, RateLimited, True),
        (429, {"message": "limited to 1000 API calls / month"}, RateLimited, False),
        (498, {"message": "invalid token"}, AuthError, False),
        (499, {"message": "client closed request"}, InvalidRequest, True),
        (500, {"message": "oops"}, Overloaded, True),
        (504, {}, Overloaded, True),
    ],
)
def test_errors(status: int, body: Any, kind: type[ProviderError], retryable: bool) -> None:
    """Scenario 84 and 85."""
    error = DIALECT.read_error(status, {"retry-after": "2"}, json.dumps(body).encode(), now=0.0)
    assert (type(error), error.retryable, error.status) == (kind, retryable, status)
    assert error.retry_after == 2.0
    assert error.request_id == body.get("id")
    assert error.error_type == body.get("error_type")


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[" * 5000, b'{"message": 7}', b"null", b"hello", b"{}", b"<html>"])
def test_what_is_not_of_the_format(data: bytes) -> None:
    """Scenario 91."""
    with pytest.raises(BadResponse) as caught:
        DIALECT.decode(data)
    assert len(str(caught.value)) < 1000
    (raw,) = DIALECT.framer().feed(b"data: " + data + b"\n\n")
    with pytest.raises(ProviderError):
        DIALECT.decoder().feed(raw)


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = (
    "type",
    "message",
    "delta",
    "content",
    "text",
    "thinking",
    "tool_calls",
    "tool_plan",
    "citations",
    "usage",
    "id",
)
TYPES = ("message-start", "content-delta", "tool-call-start", "tool-call-delta", "citation-start", "message-end")
SHAPED: Any = st.recursive(
    JSON | st.sampled_from(TYPES),
    lambda inner: (
        st.dictionaries(st.sampled_from((*KEYS, "function", "arguments", "index", "error", "finish_reason")), inner)
        | st.lists(inner, max_size=3)
    ),
    max_leaves=12,
)


@given(SHAPED)
def test_hostile_json_is_a_reply_or_a_typed_error(value: Any) -> None:
    data = json.dumps(value).encode()
    for read in (DIALECT.decode, lambda _: play(START, text("x"), value, end())):
        try:
            read(data)
        except ProviderError:
            pass
    assert isinstance(DIALECT.read_error(500, {}, data, now=0.0), ProviderError)


# The skin.


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [({"model": 5}, TypeError), ({"model": " "}, ValueError), ({"base_url": 5}, TypeError)],
)
def test_wrong_arguments(arguments: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        Cohere(**{"model": "m", **arguments})


@pytest.mark.parametrize("path", ["", "/", "/v2", "/v2/chat"])
@pytest.mark.anyio
async def test_the_path_and_the_key(path: str) -> None:
    answer = {"id": "r", "message": {"content": [{"type": "text", "text": "hello"}]}, "finish_reason": "COMPLETE"}
    async with serve(json_answer(answer)) as server:
        reply = await Cohere("m", base_url=server.url + path, api_key="sk-key").complete(ModelRequest(HISTORY))
        await Cohere("m", base_url=server.url + path).complete(ModelRequest(HISTORY))
    assert reply.message.text == "hello"
    keyed, bare = server.requests
    assert (keyed.target, keyed.headers["authorization"]) == ("/v2/chat", "Bearer sk-key")
    assert "authorization" not in bare.headers


@pytest.mark.anyio
async def test_where_the_key_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("COHERE_API_KEY", "CO_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    made = Cohere("m")
    with pytest.raises(AuthError, match="COHERE_API_KEY"):
        await made.complete(ModelRequest(HISTORY))
    monkeypatch.setenv("CO_API_KEY", "second")
    assert dict(made._headers())[b"authorization"] == b"Bearer second"
    monkeypatch.setenv("COHERE_API_KEY", "first")
    assert dict(made._headers())[b"authorization"] == b"Bearer first"
    assert dict(Cohere("m", key_variable="CO_API_KEY")._headers())[b"authorization"] == b"Bearer second"
