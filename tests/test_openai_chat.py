"""The Chat Completions dialect without any I/O: every habit of a server that was seen (scenarios 84 to 88)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.providers import (
    AuthError,
    BadResponse,
    ContentFiltered,
    ContextOverflow,
    InvalidRequest,
    Message,
    ModelEvent,
    ModelReply,
    ModelRequest,
    Overloaded,
    ProviderData,
    ProviderError,
    Quirks,
    RateLimited,
    StreamInterrupted,
    Text,
    Thinking,
    ToolCall,
    ToolCallDelta,
    ToolSpec,
    assistant,
    document,
    tool_result,
    user,
)
from greenroom.providers.dialects.openai_chat import ChatDialect
from greenroom.providers.dialects.rounds import matched
from greenroom.providers.framing.sse import SSEParser
from greenroom.providers.vendors import VENDORS

from .wire import completion, delta, events

DIALECT = ChatDialect("m")


def encode(request: ModelRequest, *, stream: bool = False, **quirks: Any) -> dict[str, Any]:
    return json.loads(ChatDialect("m", quirks=Quirks(**quirks)).encode(request, stream=stream).body)


def play(*chunks: Any, done: bool = True, clean: bool = True) -> tuple[list[ModelEvent], ModelReply]:
    decoder, parser = DIALECT.decoder(), SSEParser()
    seen = [event for raw in parser.feed(events(*chunks, done=done)) for event in decoder.feed(raw)]
    return seen, decoder.finish(clean=clean)


def fragment(index: int | None = None, id: str | None = None, name: str | None = None, arguments: Any = None) -> Any:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    held = {"index": index, "id": id}
    call = {**{key: value for key, value in held.items() if value is not None}, "function": function}
    return delta(tool_calls=[call])


def calls_of(*chunks: Any) -> list[tuple[str | None, str, Any]]:
    seen, reply = play(*chunks, delta("tool_calls"))
    pieces: dict[int, str] = {}
    for event in seen:
        assert isinstance(event, ToolCallDelta)
        pieces[event.index] = pieces.get(event.index, "") + event.arguments
    assert list(pieces.values()) == [call.raw for call in reply.message.tool_calls]
    return [(call.id, call.name, call.arguments) for call in reply.message.tool_calls]


# Tool calls in a stream.

OSLO, ROME = '{"city":"Oslo"}', '{"city":"Rome"}'
TWO = [("a", "w", {"city": "Oslo"}), ("b", "w", {"city": "Rome"})]
TWO_WITHOUT_ID = [(None, "w", {"city": "Oslo"}), (None, "w", {"city": "Rome"})]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param(
            [fragment(0, "a", "w", ""), fragment(0, None, None, OSLO[:5]), fragment(0, None, None, OSLO[5:])],
            TWO[:1],
            id="the standard",
        ),
        pytest.param(
            [
                fragment(0, "a", "w"),
                fragment(1, "b", "w"),
                fragment(0, None, None, OSLO[:5]),
                fragment(1, None, None, ROME),
                fragment(0, None, None, OSLO[5:]),
            ],
            TWO,
            id="interleaved by index",
        ),
        pytest.param([fragment(0, "a", "w", OSLO), fragment(0, "b", "w", ROME)], TWO, id="all with index 0, whole"),
        pytest.param(
            [
                fragment(0, "a", "w", OSLO[:5]),
                fragment(0, None, None, OSLO[5:]),
                fragment(0, "b", "w", ROME[:5]),
                fragment(0, None, None, ROME[5:]),
            ],
            TWO,
            id="all with index 0, in pieces",
        ),
        pytest.param(
            [fragment(None, "a", "w", OSLO[:5]), fragment(None, None, None, OSLO[5:]), fragment(None, "b", "w", ROME)],
            TWO,
            id="no index",
        ),
        pytest.param(
            [
                fragment(None, "a", "w", OSLO[:5]),
                fragment(None, "a", "w", OSLO[5:]),
                fragment(None, "b", "w", ROME[:5]),
                fragment(None, "b", "w", ROME[5:]),
            ],
            TWO,
            id="id and name repeated, no index",
        ),
        pytest.param(
            [fragment(0, "a", "w", OSLO[:5]), fragment(0, "a", "w", OSLO[5:])], TWO[:1], id="id and name repeated"
        ),
        pytest.param(
            [fragment(None, None, "w", OSLO), fragment(None, None, "w", ROME)], TWO_WITHOUT_ID, id="name only"
        ),
        pytest.param(
            [
                fragment(0, None, "w", OSLO[:5]),
                fragment(0, None, "w", OSLO[5:]),
                fragment(0, None, "w", ROME[:5]),
                fragment(0, None, "w", ROME[5:]),
            ],
            TWO_WITHOUT_ID,
            id="name repeated: whole arguments end a call",
        ),
        pytest.param(
            [fragment(0, None, "w", OSLO), fragment(0, None, "v", "{}")],
            [TWO_WITHOUT_ID[0], (None, "v", {})],
            id="another name begins another call",
        ),
        pytest.param(
            [
                delta(tool_calls=[fragment(0, "a", "w", OSLO)["choices"][0]["delta"]["tool_calls"][0]] * 1),
                fragment(1, "b", "w", ROME),
            ],
            TWO,
            id="one whole call for each chunk",
        ),
        pytest.param([fragment(0, "a", "w", {"city": "Oslo"})], TWO[:1], id="arguments as an object"),
        pytest.param([fragment(0, "a", "w")], [("a", "w", {})], id="no arguments at all"),
        pytest.param([fragment(0, "a", "w", "{oops")], [("a", "w", None)], id="arguments that are not JSON"),
        pytest.param([fragment(0, "a", "w", "[1]")], [("a", "w", None)], id="arguments that are no object"),
        pytest.param(
            [delta(function_call={"name": "w", "arguments": OSLO[:5]}), delta(function_call={"arguments": OSLO[5:]})],
            TWO_WITHOUT_ID[:1],
            id="the legacy function_call",
        ),
    ],
)
def test_tool_calls(chunks: list[Any], expected: list[Any]) -> None:
    assert calls_of(*chunks) == expected


def test_a_legacy_twin_is_not_a_second_call() -> None:
    """llama.cpp repeats id and name in every chunk, and sends the legacy form beside the new one."""
    chunks: list[Any] = []
    for piece in (OSLO[:5], OSLO[5:]):
        chunk = fragment(0, "a", "w", piece)
        chunk["choices"][0]["delta"]["function_call"] = {"name": "w", "arguments": piece}
        chunks.append(chunk)
    assert calls_of(*chunks) == TWO[:1]


# The end of a stream (scenario 87).


def test_a_finish_reason_makes_an_answer_whole() -> None:
    for done in (True, False):
        assert play(delta(content="x"), delta("stop"), done=done)[1].stop_reason == "stop"
    assert play(delta(content="x"), delta("length"), done=False, clean=False)[1].stop_reason == "length"


def test_no_finish_reason_and_no_marker_is_an_interruption() -> None:
    with pytest.raises(StreamInterrupted) as caught:
        play(delta(reasoning="hm"), delta(content="half"), fragment(0, "a", "w", OSLO), done=False)
    partial = caught.value.partial
    assert partial is not None
    assert partial.partial
    assert (partial.text, partial.thinking) == ("half", "hm")
    assert [(call.name, call.arguments, call.raw) for call in partial.tool_calls] == [("w", None, OSLO)]


@pytest.mark.parametrize(
    ("chunks", "clean", "whole"),
    [
        ([delta(content="x")], True, True),
        ([delta(content="x")], False, False),
        ([], True, False),
        ([delta(role="assistant")], True, False),
        ([fragment(0, "a", "w", OSLO)], True, True),
        ([fragment(0, "a", "w", OSLO[:5])], True, False),
    ],
)
def test_a_marker_without_a_finish_reason(chunks: list[Any], clean: bool, whole: bool) -> None:
    """A dropped answer looks like this too, with a broken body behind the marker."""
    if whole:
        assert play(*chunks, clean=clean)[1].stop_reason is None
    else:
        with pytest.raises(StreamInterrupted):
            play(*chunks, clean=clean)


@pytest.mark.parametrize(
    ("raw", "ours"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("eos", None),
    ],
)
def test_stop_reasons(raw: str, ours: str | None) -> None:
    reply = play(delta(content="x"), delta(raw))[1]
    assert (reply.stop_reason, reply.stop_reason_raw) == (ours, raw)


def test_a_refusal() -> None:
    reply = play(delta(refusal="I will"), delta(refusal=" not"), delta("stop"))[1]
    assert (reply.message.refusal, reply.message.text, reply.stop_reason) == ("I will not", "", "refusal")


# What else comes in a stream.


@pytest.mark.parametrize(
    "chunks",
    [
        [delta("stop"), {"id": "c1", "choices": [], "usage": {"prompt_tokens": 1}}],
        [{**delta("stop"), "usage": {"prompt_tokens": 1}}],
        [{**delta(content="x"), "usage": {"prompt_tokens": 0}}, {**delta("stop"), "usage": {"prompt_tokens": 1}}],
        [{**delta("stop"), "usage": None}, {"usage": {"prompt_tokens": 1}}],
    ],
)
def test_usage(chunks: list[Any]) -> None:
    usage = play(delta(content="x"), *chunks)[1].usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.raw) == (1, None, {"prompt_tokens": 1})


@pytest.mark.parametrize(
    "said",
    [
        {"reasoning": "hm"},
        {"reasoning_content": "hm"},
        {"reasoning": "hm", "reasoning_content": "hm"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
    ],
)
def test_reasoning_by_any_name(said: dict[str, Any]) -> None:
    assert play(delta(**said), delta(content="x"), delta("stop"))[1].message.thinking == "hm"
    body = completion("x")
    body["choices"][0]["message"] |= said
    assert DIALECT.decode(json.dumps(body).encode()).message.thinking == "hm"


def test_reasoning_details_go_back_unchanged_to_their_own_kind() -> None:
    details = [{"type": "reasoning.text", "text": "hm", "signature": "s", "index": 0}]
    pieces = [
        {"type": "reasoning.text", "text": "h", "index": 0},
        {"type": "reasoning.text", "text": "m", "index": 0},
        {"type": "reasoning.text", "signature": "s", "index": 0},
    ]
    ours = ChatDialect("m", vendor="openrouter")
    decoder = ours.decoder()
    chunks = [delta(reasoning_details=[piece]) for piece in pieces]
    for raw in SSEParser().feed(events(*chunks, delta("stop", content="x"))):
        decoder.feed(raw)
    message = decoder.finish(clean=True).message
    request = ModelRequest([message])
    assert json.loads(ours.encode(request, stream=False).body)["messages"][0]["reasoning_details"] == details
    assert "reasoning_details" not in encode(request)["messages"][0]


def test_other_candidates_and_unknown_fields_are_passed_over() -> None:
    second = delta(content="second")
    second["choices"][0]["index"] = 1
    reply = play({**delta(content="first"), "novelty": [1]}, second, delta("stop"))[1]
    assert reply.message == Message("assistant", (Text("first"),))


@pytest.mark.parametrize(
    "error", [{"message": "boom", "code": 500}, {"message": "boom", "type": "server_error"}, "boom"]
)
def test_an_error_inside_a_stream(error: Any) -> None:
    """Scenario 86."""
    with pytest.raises(Overloaded, match="boom") as caught:
        play(delta(content="half"), {"error": error})
    assert caught.value.partial is not None
    assert caught.value.partial.text == "half"


def test_an_error_inside_a_choice() -> None:
    """Scenario 86."""
    choice = {"index": 0, "finish_reason": "error", "error": {"code": 502, "message": "upstream"}}
    with pytest.raises(Overloaded, match="upstream"):
        DIALECT.decode(json.dumps({"id": "c", "choices": [{**choice, "message": {"content": ""}}]}).encode())
    with pytest.raises(Overloaded, match="upstream"):
        play({"id": "c", "choices": [{**choice, "delta": {"content": ""}}]})


def test_an_error_event() -> None:
    parser, decoder = SSEParser(), DIALECT.decoder()
    (raw,) = parser.feed(b'event: error\ndata: {"message": "too fast", "code": "rate_limit_exceeded"}\n\n')
    with pytest.raises(RateLimited, match="too fast"):
        decoder.feed(raw)


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[" * 5000, b'{"choices": 7}', b"null", b"hello"])
def test_a_malformed_event(data: bytes) -> None:
    decoder = DIALECT.decoder()
    (raw,) = SSEParser().feed(b"data: " + data + b"\n\n")
    with pytest.raises(BadResponse) as caught:
        decoder.feed(raw)
    assert len(str(caught.value)) < 1000


@given(st.binary(max_size=60))
def test_any_body_is_a_reply_or_a_typed_error(data: bytes) -> None:
    with pytest.raises(ProviderError):
        DIALECT.decode(data)
    DIALECT.read_error(500, {}, data, now=0.0)
    decoder = DIALECT.decoder()
    try:
        for raw in SSEParser().feed(b"data: " + data + b"\n\n"):
            decoder.feed(raw)
    except ProviderError:
        pass


# Requests.


def test_a_whole_request() -> None:
    request = ModelRequest(
        [
            user("hi"),
            assistant(tool_calls=assistant(tool_calls=()).tool_calls),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{x"}}],
            },
            tool_result("c", "bad arguments", is_error=True),
        ],
        tools=[ToolSpec("f", "does", {"type": "object"}, strict=True)],
        instructions="be brief",
        settings={
            "temperature": 0,
            "max_tokens": 5,
            "stop": ["x"],
            "seed": 1,
            "tool_choice": "f",
            "parallel_tool_calls": False,
            "reasoning_effort": "low",
            "extra": {"service_tier": "flex"},
        },
    )
    body = encode(request, stream=True)
    assert body["messages"][0] == {"role": "system", "content": "be brief"}
    sent = body["messages"][3]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(sent) == {"invalid_arguments": "{x"}
    assert body["messages"][4] == {"role": "tool", "tool_call_id": "c", "content": "bad arguments"}
    assert body["tools"][0]["function"] == {
        "name": "f",
        "description": "does",
        "parameters": {"type": "object", "properties": {}},
        "strict": True,
    }
    assert body["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert (body["temperature"], body["max_tokens"], body["stop"], body["seed"]) == (0, 5, ["x"], 1)
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert (body["parallel_tool_calls"], body["reasoning_effort"], body["service_tier"]) == (False, "low", "flex")


def test_quirks() -> None:
    request = ModelRequest(
        [user("x")], tools=[ToolSpec("f", "", {})], settings={"max_tokens": 5, "tool_choice": "required"}
    )
    body = encode(request, stream=True, max_tokens_key="max_completion_tokens", stream_usage=False, required_word="any")
    assert body["max_completion_tokens"] == 5
    assert "max_tokens" not in body
    assert "stream_options" not in body
    assert body["tool_choice"] == "any"


CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (CLOSED, True),
        ({**CLOSED, "required": []}, False),
        ({"type": "object", "properties": {}}, False),
        ({**CLOSED, "$defs": {"x": {"type": "object"}}}, False),
        ({**CLOSED, "properties": {"a": {"type": "string", "default": "x"}}}, False),
        ({**CLOSED, "properties": {"a": {"type": "string", "minLength": 1}}}, False),
        ({**CLOSED, "properties": {"a": {"type": "array", "items": {"type": "string"}, "uniqueItems": True}}}, False),
        ({**CLOSED, "properties": {"a": {"type": "array", "prefixItems": [], "items": False}}}, False),
        ({**CLOSED, "properties": {"a": {"anyOf": [CLOSED], "discriminator": {"propertyName": "a"}}}}, False),
    ],
)
def test_a_schema_is_strict_only_where_it_already_is(schema: dict[str, Any], strict: bool) -> None:
    body = encode(ModelRequest([user("x")], output_schema={"title": "My Answer!", **schema}))
    wrapped = body["response_format"]["json_schema"]
    assert wrapped["name"] == "My_Answer_"
    assert wrapped.get("strict", False) is strict
    assert wrapped["schema"] == {"title": "My Answer!", **schema}


@pytest.mark.parametrize("vendor", ["deepseek", "zai"])
def test_a_schema_is_told_in_words_where_none_is_known(vendor: str) -> None:
    """JSON is forced, but not beside tools, where the model also speaks between its calls."""
    dialect = ChatDialect("m", quirks=VENDORS[vendor].quirks)
    request = ModelRequest([user("x")], instructions="Be brief.", output_schema=CLOSED)
    body = json.loads(dialect.encode(request, stream=False).body)
    told = body["messages"][0]
    assert (told["role"], body["response_format"]) == ("system", {"type": "json_object"})
    assert told["content"].startswith("Be brief.\n\nYour final answer must be one JSON object")
    assert json.dumps(CLOSED, separators=(",", ":")) in told["content"]
    request = ModelRequest([user("x")], output_schema=CLOSED, tools=[ToolSpec("f", "", {})])
    body = json.loads(dialect.encode(request, stream=False).body)
    assert "response_format" not in body
    assert json.dumps(CLOSED, separators=(",", ":")) in body["messages"][0]["content"]


@pytest.mark.parametrize(
    ("stream", "tools", "forced"), [(False, False, True), (True, False, False), (False, True, False)]
)
def test_groq_takes_a_schema_without_tools_and_in_one_piece_only(stream: bool, tools: bool, forced: bool) -> None:
    dialect = ChatDialect("m", quirks=VENDORS["groq"].quirks)
    request = ModelRequest([user("x")], output_schema=CLOSED, tools=[ToolSpec("f", "", {})] if tools else [])
    body = json.loads(dialect.encode(request, stream=stream).body)
    assert ("response_format" in body) is forced
    assert ("JSON schema" in body["messages"][0]["content"]) is not forced


PDF, LINK = document(b"%PDF", media_type="application/pdf", name="a.pdf"), document("https://x.example/a.pdf", name="a")
DATA_URL = "data:application/pdf;base64,JVBERg=="


@pytest.mark.parametrize(
    ("vendor", "part", "sent"),
    [
        ("openai", PDF, {"type": "file", "file": {"file_data": DATA_URL, "filename": "a.pdf"}}),
        ("openrouter", LINK, {"type": "file", "file": {"file_data": "https://x.example/a.pdf", "filename": "a"}}),
        ("mistral", PDF, {"type": "document_url", "document_url": DATA_URL, "document_name": "a.pdf"}),
        ("mistral", LINK, {"type": "document_url", "document_url": "https://x.example/a.pdf", "document_name": "a"}),
    ],
)
def test_a_document_goes_as_the_server_takes_it(vendor: str, part: Any, sent: Any) -> None:
    dialect = ChatDialect("m", quirks=VENDORS[vendor].quirks)
    body = json.loads(dialect.encode(ModelRequest([user("Read:", part)]), stream=False).body)
    assert body["messages"][0]["content"] == [{"type": "text", "text": "Read:"}, sent]


def test_a_document_by_url_is_refused_before_openai_does() -> None:
    with pytest.raises(ValueError, match=r"fetches no document by URL: .* give document\(data"):
        encode(ModelRequest([user(LINK)]))


def test_a_name_in_pieces_is_one_name() -> None:
    chunks = [fragment(0, "a", "get_", ""), fragment(0, None, "weather", OSLO), delta("tool_calls")]
    seen, reply = play(*chunks)
    assert [(call.id, call.name, call.raw) for call in reply.message.tool_calls] == [("a", "get_weather", OSLO)]
    assert [event.name for event in seen if isinstance(event, ToolCallDelta)] == ["get_", "get_weather"]


def test_counts_may_be_written_as_decimals() -> None:
    usage = {"prompt_tokens": 5.0, "completion_tokens": 2.5, "total_tokens": 7}
    reply = DIALECT.decode(json.dumps({**completion("x"), "usage": usage}).encode())
    assert reply.usage is not None
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.total_tokens) == (5, None, 7)


def test_calls_without_an_id_get_one_on_the_way_back() -> None:
    message = assistant(tool_calls=play(fragment(0, None, "w", OSLO), delta("tool_calls"))[1].message.tool_calls)
    assert encode(ModelRequest([message]))["messages"][0]["tool_calls"][0]["id"] == "call_0"


# Conversations that not every server takes.


def messages_of(messages: list[Any], vendor: str = "x", **quirks: Any) -> list[dict[str, Any]]:
    dialect = ChatDialect("m", vendor=vendor, quirks=Quirks(**quirks))
    return json.loads(dialect.encode(ModelRequest(messages), stream=False).body)["messages"]


def ids_of(messages: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Of the calls and of the results."""
    calls = [call["id"] for message in messages for call in message.get("tool_calls", ())]
    return calls, [message["tool_call_id"] for message in messages if message["role"] == "tool"]


def called(*ids: str | None, name: str = "f") -> Message:
    return assistant(tool_calls=[ToolCall(id, name, {}, "{}") for id in ids])


@pytest.mark.parametrize(
    ("history", "calls", "results"),
    [
        ([called("a", "b"), tool_result("b", ""), tool_result("a", "")], ["a", "b"], ["b", "a"]),
        ([called(None, None), tool_result("", ""), tool_result("", "")], ["call_0", "call_1"], ["call_0", "call_1"]),
        ([called(None, "a"), tool_result("a", ""), tool_result("made-up", "")], ["call_0", "a"], ["a", "call_0"]),
        ([called("a"), tool_result("a", ""), called("a"), tool_result("a", "")], ["a", "call_1"], ["a", "call_1"]),
        ([called("a", "a"), tool_result("a", ""), tool_result("a", "")], ["a", "call_1"], ["a", "call_1"]),
        ([called(None), tool_result("", ""), called("call_0"), tool_result("call_0", "")], ["call_1", "call_0"], None),
        ([called("x" * 41), tool_result("x" * 41, "")], ["call_0"], ["call_0"]),
        ([called("a b", "\n", ""), *[tool_result(id, "") for id in ("", "\n", "a b")]], None, None),
        ([Message("assistant", (*called("a").parts, Text("half")), True), user("x")], [], []),
        ([Message("assistant", called("a").parts, True), tool_result("a", "")], ["a"], ["a"]),
        ([user("x"), called("a"), user("y")], ["a"], ["a"]),
        ([user("x"), tool_result("gone", "z"), user("y")], [], []),
        ([tool_result("gone", "z"), user("y")], [], []),
        ([called("a", "b"), tool_result("b", ""), user("x")], ["a", "b"], ["b", "a"]),
        ([called("a"), user("wait"), tool_result("a", "")], ["a"], ["a"]),
        ([called("a"), tool_result("a", ""), tool_result("a", "again")], ["a"], ["a"]),
        ([called("a"), assistant("b"), tool_result("a", "")], ["a"], ["a"]),
        ([called(None, None), tool_result("call_1", "")], ["call_0", "call_1"], ["call_1", "call_0"]),
    ],
)
def test_ids_fit_and_pair(history: list[Any], calls: list[str] | None, results: list[str] | None) -> None:
    """Whatever made them; and a longer conversation begins as the shorter one did."""
    written = messages_of(history)
    got = ids_of(written)
    assert calls in (None, got[0])
    assert (results or got[1]) == got[1]
    assert sorted(got[0]) == sorted(got[1])
    assert len(set(got[0])) == len(got[0])
    assert messages_of([*history, user("more"), called(None), tool_result("", "")])[: len(written)] == written
    nine = ids_of(messages_of(history, nine_letter_ids=True))
    assert all(len(id) == 9 and id.isalnum() for id in nine[0])
    assert sorted(nine[0]) == sorted(nine[1])


@pytest.mark.parametrize(("name", "sent"), [("functions.f", "functions_f"), ("", "unnamed"), ("é" * 90, "_" * 64)])
def test_a_name_that_a_model_made_up_is_sent_in_plain_letters(name: str, sent: str) -> None:
    """Or the whole conversation would be refused from then on."""
    (message, _) = messages_of([called("a", name=name), tool_result("a", "no such tool")])
    assert message["tool_calls"][0]["function"]["name"] == sent


def test_a_late_result_is_found_and_a_missing_one_is_told() -> None:
    """Behind what was said in between; the model hears nothing false."""
    history = [
        called("a", "b"),
        user("wait"),
        tool_result("b", "two"),
        user("go"),
        assistant("x"),
        tool_result("a", ""),
    ]
    _, found, missing, wait, go, _ = messages_of(history)
    assert found == {"role": "tool", "tool_call_id": "b", "content": "two"}
    assert missing["tool_call_id"] == "a"
    assert missing["content"].startswith("outcome unknown")
    assert [wait["content"], go["content"]] == ["wait", "go"]
    late = messages_of([called("a"), user("wait"), tool_result("a", "one")])
    assert [message.get("content") for message in late] == [None, "one", "wait"]


def test_what_fits_is_sent_as_it_is() -> None:
    """No copy is made of an ordinary conversation."""
    history = [user("x"), called("a"), tool_result("a", "", name="f"), assistant("y")]
    assert matched(history, fits=bool, make=str, named=str) is history


THOUGHT = (Thinking("hm"), Text("x"))


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        (Message("assistant", THOUGHT, False, ProviderData("chat-completions/x", "m")), "hm"),
        (Message("assistant", THOUGHT, False, ProviderData("anthropic", "m")), None),
        (Message("assistant", THOUGHT), "hm"),
        (Message("assistant", THOUGHT, True), None),
        (Message("assistant", (*THOUGHT, *called("a").parts), False, ProviderData("anthropic", "m")), ""),
        (called("a"), ""),
    ],
)
def test_reasoning_goes_back_to_who_wants_it(message: Message, sent: str | None) -> None:
    """To the family that made it; what others thought stays away, but the key must be there with tool calls."""
    assert messages_of([message], thinking_key="reasoning_content")[0].get("reasoning_content") == sent
    assert "reasoning_content" not in messages_of([message])[0]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_signature_of_a_call_goes_back(streamed: bool) -> None:
    """Gemini's endpoint of this format signs calls, and refuses the conversation without the signature."""
    extra = {"google": {"thought_signature": "c2ln"}}
    dialect = ChatDialect("gemini-3-pro", vendor="google")
    if streamed:
        chunk = fragment(0, "a", "w", OSLO)
        chunk["choices"][0]["delta"]["tool_calls"][0]["extra_content"] = extra
        decoder = dialect.decoder()
        for raw in SSEParser().feed(events(chunk, delta("tool_calls"))):
            decoder.feed(raw)
        message = decoder.finish(clean=True).message
    else:
        call = {"id": "a", "type": "function", "function": {"name": "w", "arguments": OSLO}, "extra_content": extra}
        message = dialect.decode(json.dumps(completion(None, tool_calls=[call])).encode()).message  # type: ignore[arg-type]
    history = [message, tool_result("a", "ok")]
    assert messages_of(history, "google")[0]["tool_calls"][0]["extra_content"] == extra
    assert "extra_content" not in messages_of(history, "x")[0]["tool_calls"][0]


def test_a_refusal_is_an_answer_elsewhere() -> None:
    """Only OpenAI knows the key."""
    message = {"role": "assistant", "content": None, "refusal": "no"}
    assert messages_of([message], "openai") == [message]
    assert messages_of([message]) == [{"role": "assistant", "content": "no"}]


IMAGE = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}


@pytest.mark.parametrize(
    ("history", "roles", "last"),
    [
        ([user("a"), user("b")], "user", "a\n\nb"),
        ([user("a"), {"role": "user", "content": [IMAGE]}], "user", [{"type": "text", "text": "a"}, IMAGE]),
        ([user("a"), assistant("b"), assistant(""), assistant("c"), user("d")], "user assistant user", "d"),
        ([assistant("a"), user("b")], "user assistant user", "b"),
        ([user("a"), {"role": "system", "content": "s"}, user("b")], "system user", "a\n\nb"),
        ([user("a"), called("c"), tool_result("c", "x"), user("b")], "user assistant tool assistant user", "b"),
        ([user("a"), assistant("half an")], "user assistant user", "Continue."),
    ],
)
def test_turns_where_a_server_insists_on_them(history: list[Any], roles: str, last: Any) -> None:
    """Nothing is lost: neighbours become one message, and what has to stand between stands there."""
    written = messages_of(history, alternate=True, empty_answers=False)
    assert " ".join(message["role"] for message in written) == roles
    assert written[-1]["content"] == last


@pytest.mark.parametrize("error", ["", {}, False, [], None])
def test_an_empty_error_is_none(error: Any) -> None:
    """Some servers put the key into every chunk."""
    assert play({**delta(content="x"), "error": error}, delta("stop"))[1].message.text == "x"
    assert DIALECT.decode(json.dumps({**completion("x"), "error": error}).encode()).message.text == "x"


# Errors.


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"message": "bad"}, InvalidRequest),
        (400, {"message": "x", "code": "context_length_exceeded"}, ContextOverflow),
        (400, {"message": "This model's maximum context length is 8 tokens"}, ContextOverflow),
        (413, {"message": "prompt is too long: 300 tokens"}, ContextOverflow),
        (400, {"message": "x", "code": "content_filter"}, ContentFiltered),
        (400, {"message": "wrong key", "code": "invalid_api_key"}, AuthError),
        (401, {"message": "x"}, AuthError),
        (403, {"message": "x"}, AuthError),
        (403, {"message": "x", "code": 403, "metadata": {"reasons": ["violence"]}}, ContentFiltered),
        (403, {"message": "x", "code": 403, "metadata": {"flagged_input": "y"}}, ContentFiltered),
        (403, {"message": "The model requires moderation and your input was flagged"}, ContentFiltered),
        (404, {"message": "no such model"}, InvalidRequest),
        (429, {"message": "Request too large for m on tokens per min (TPM): Limit 3, Requested 9."}, ContextOverflow),
        (429, {"message": "x"}, RateLimited),
        (500, {"message": "x"}, Overloaded),
        (503, {"message": "x"}, Overloaded),
        (529, {"message": "x"}, Overloaded),
    ],
)
def test_the_class_of_an_error(status: int, error: dict[str, Any], kind: type[ProviderError]) -> None:
    made = DIALECT.read_error(status, {}, json.dumps({"error": error}).encode(), now=0.0)
    assert type(made) is kind
    assert made.retryable is (kind in (RateLimited, Overloaded))


def test_a_spent_quota_is_not_worth_a_retry() -> None:
    error = DIALECT.read_error(429, {}, b'{"error":{"message":"x","code":"insufficient_quota"}}', now=0.0)
    assert (type(error), error.retryable) == (RateLimited, False)


@pytest.mark.parametrize(("status", "advice"), [(503, "false"), (409, "false"), (400, "true"), (503, "true")])
def test_the_server_may_say_whether_to_try_again(status: int, advice: str) -> None:
    error = DIALECT.read_error(status, {"x-should-retry": advice}, b'{"error":{"message":"x"}}', now=0.0)
    assert error.retryable is (advice == "true")


def test_an_error_of_fastapi_names_the_field() -> None:
    detail = [{"type": "x", "loc": ["body", "messages", 0, "name"], "msg": "Extra inputs are not permitted"}]
    error = DIALECT.read_error(422, {}, json.dumps({"detail": [*detail, {"msg": "and"}, "so on"]}).encode(), now=0.0)
    assert error.message == "messages.0.name: Extra inputs are not permitted; and; so on"


SENT = "Fri, 20 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "error", "expected"),
    [
        ({"retry-after": "7"}, {}, 7.0),
        ({"retry-after": "1.5"}, {}, 1.5),
        ({"retry-after": "0"}, {}, 0.0),
        ({"retry-after": "-3"}, {}, 0.0),
        ({"retry-after": "999999999"}, {}, 999999999.0),
        ({"retry-after": "soon"}, {}, None),
        ({"retry-after": "nan"}, {}, None),
        ({"retry-after-ms": "250"}, {}, 0.25),
        ({"retry-after": "1", "retry-after-ms": "0"}, {}, 1.0),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:30 GMT", "date": SENT}, {}, 30.0),
        ({"retry-after": "Fri, 20 Nov 2026 11:00:00 GMT", "date": SENT}, {}, 0.0),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:30 GMT"}, {}, 30.0),
        ({}, {"message": "Please try again in 1.5s."}, 1.5),
        ({}, {"message": "Please try again in 20ms."}, 0.02),
        ({}, {"message": "Please try again in 2m30s."}, 150.0),
        ({}, {"message": "Try again later."}, None),
        ({}, {"message": f"Please try again in {'9' * 400}s."}, None),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:30 -0000", "date": SENT}, {}, 30.0),
        ({"retry-after": "Fri, 20 Nov 2026 13:00:30 +0100", "date": SENT}, {}, 30.0),
        ({"retry-after": "Mon, 01 Jan 0001 00:00:00 GMT"}, {}, 0.0),
        ({"retry-after": "9" * 400}, {}, None),
        ({}, {"details": [{"@type": "x"}, {"retryDelay": "12s"}]}, 12.0),
        ({}, {"metadata": {"retry_after_seconds": 3}}, 3.0),
        ({}, {}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], error: dict[str, Any], expected: float | None) -> None:
    """Scenario 84."""
    noon = 1795176000.0
    made = DIALECT.read_error(429, headers, json.dumps({"error": {"message": "x", **error}}).encode(), now=noon)
    assert made.retry_after == expected
