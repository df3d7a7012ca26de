"""Bedrock's Converse, as data, and its skin over real HTTP (scenarios 84 to 91)."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.providers import (
    AuthError,
    BadResponse,
    Bedrock,
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
    UnsignedRequest,
    assistant,
    document,
    image,
    system,
    tool_result,
    user,
)
from greenroom.providers.dialects.bedrock import ConverseDialect
from greenroom.providers.dialects.bedrock_messages import document_name
from greenroom.providers.dialects.rounds import schema_instruction

from .wire import Answer, json_answer, serve

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
DIALECT = ConverseDialect(CLAUDE)
OWN = ProviderData("bedrock-converse", CLAUDE)
WEATHER = ToolSpec("weather", "tells it", {"type": "object", "properties": {"city": {"type": "string"}}}, strict=True)
SCHEMA = {"title": "My Answer", "type": "object", "properties": {"a": {"type": "string"}}}
HISTORY = [user("hi")]
SERVER_USE = {"toolUse": {"toolUseId": "t1", "name": "nova_grounding", "type": "server_tool_use", "input": {"q": 1}}}
SERVER_RESULT = {"toolResult": {"toolUseId": "t1", "status": "success", "type": "x", "content": [{"text": "found"}]}}


def encode(*messages: Message, dialect: ConverseDialect = DIALECT, **more: Any) -> dict[str, Any]:
    return json.loads(dialect.encode(ModelRequest(messages or HISTORY, **more), stream=False).body)


def turns(*messages: Message, **more: Any) -> list[dict[str, Any]]:
    return encode(*messages, **more)["messages"]


def frame(event: str, payload: Any, kind: str = "event") -> bytes:
    """A message of the event stream."""
    name = {"event": ":event-type", "exception": ":exception-type", "error": ":error-code"}[kind]
    headers = b""
    for key, value in ((name, event), (":content-type", "application/json"), (":message-type", kind)):
        headers += bytes([len(key)]) + key.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(data), len(headers))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + data
    return body + struct.pack(">I", zlib.crc32(body))


def delta(index: int, **held: Any) -> bytes:
    return frame("contentBlockDelta", {"contentBlockIndex": index, "delta": held, "p": "abc"})


def start(index: int, **held: Any) -> bytes:
    return frame("contentBlockStart", {"contentBlockIndex": index, "start": held})


def stop(index: int) -> bytes:
    return frame("contentBlockStop", {"contentBlockIndex": index})


BEGIN = frame("messageStart", {"role": "assistant"})
USAGE = {"inputTokens": 7, "outputTokens": 2, "totalTokens": 9, "cacheReadInputTokens": 3, "cacheWriteInputTokens": 0}
METADATA = frame("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1}})


def end(reason: str | None = "end_turn") -> bytes:
    return frame("messageStop", {"stopReason": reason})


def play(*frames: bytes, clean: bool = True) -> tuple[list[Any], ModelReply]:
    framer, decoder = DIALECT.framer(), DIALECT.decoder()
    shown: list[Any] = []
    for event in framer.feed(b"".join(frames)):
        shown += decoder.feed(event)
    return shown, decoder.finish(clean=clean)


# Requests.


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("amazon.nova-lite-v1:0", "/model/amazon.nova-lite-v1%3A0/converse"),
        (
            "arn:aws:bedrock:eu-west-1:123:inference-profile/eu.x-v1:0",
            "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A123%3Ainference-profile%2Feu.x-v1%3A0/converse",
        ),
    ],
)
def test_the_model_is_in_the_path(model: str, path: str) -> None:
    dialect = ConverseDialect(model)
    assert dialect.encode(ModelRequest(HISTORY), stream=False).path == path
    assert dialect.encode(ModelRequest(HISTORY), stream=True).path == f"{path}-stream"


def test_a_whole_request() -> None:
    body = encode(
        system("in the middle"),
        user("hi"),
        tools=[WEATHER, ToolSpec("bare", "", {"type": "object"})],
        instructions="be brief",
        output_schema=SCHEMA,
        settings={
            "temperature": 0,
            "top_p": 0.5,
            "max_tokens": 5,
            "stop": ["x"],
            "seed": 1,
            "tool_choice": "required",
            "parallel_tool_calls": False,
            "reasoning_effort": "minimal",
            "extra": {
                "additionalModelRequestFields": {"top_k": 3},
                "inferenceConfig": {"maxTokens": 6},
                "toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]},
            },
        },
    )
    closed = '"properties":{"a":{"type":"string"}},"additionalProperties":false'
    schema = '{"title":"My Answer","type":"object",' + closed + "}"
    assert body == {
        "messages": [{"role": "user", "content": [{"text": "hi"}]}],
        "system": [{"text": "be brief"}, {"text": "in the middle"}],
        "inferenceConfig": {"maxTokens": 6, "temperature": 0, "topP": 0.5, "stopSequences": ["x"]},
        "toolConfig": {
            "tools": [
                {
                    "toolSpec": {
                        "name": "weather",
                        "description": "tells it",
                        "inputSchema": {"json": WEATHER.parameters},
                        "strict": True,
                    }
                },
                {"toolSpec": {"name": "bare", "inputSchema": {"json": {"type": "object"}}}},
                {"systemTool": {"name": "nova_grounding"}},
            ],
            "toolChoice": {"any": {}},
        },
        "outputConfig": {
            "textFormat": {
                "type": "json_schema",
                "structure": {"jsonSchema": {"name": "My_Answer", "schema": schema}},
            },
            "effort": "low",
        },
        "additionalModelRequestFields": {"top_k": 3},
    }
    assert encode(user("hi")) == {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}


@pytest.mark.parametrize(
    ("model", "schema", "sent"),
    [
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", SCHEMA, {**SCHEMA, "additionalProperties": False}),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", {"type": "object"}, None),
        ("anthropic.claude-3-5-haiku-20241022-v1:0", SCHEMA, None),
        ("amazon.nova-lite-v1:0", SCHEMA, None),
    ],
)
def test_a_schema_is_sent_as_few_models_take_it(model: str, schema: dict[str, Any], sent: Any) -> None:
    """Closed, as Anthropic wants it; where that cannot be, or to another model, it is told in words."""
    dialect = ConverseDialect(model)
    body = json.loads(dialect.encode(ModelRequest([user("x")], output_schema=schema), stream=False).body)
    if sent is None:
        assert "outputConfig" not in body
        assert body["system"] == [{"text": schema_instruction(schema)}]
    else:
        form = body["outputConfig"]["textFormat"]
        assert json.loads(form["structure"]["jsonSchema"]["schema"]) == sent
        assert (form["type"], form["structure"]["jsonSchema"]["name"]) == ("json_schema", "My_Answer")
        assert "system" not in body


@pytest.mark.parametrize(
    ("model", "last"),
    [("anthropic.claude-sonnet-5-v1:0", "user"), ("anthropic.claude-haiku-4-5-v1:0", "assistant")],
)
def test_a_model_that_does_not_go_on_with_an_answer_is_asked_to(model: str, last: str) -> None:
    body = json.loads(ConverseDialect(model).encode(ModelRequest([user("x"), assistant("y")]), stream=False).body)
    assert body["messages"][-1]["role"] == last


CALLED = (assistant(tool_calls=[ToolCall("a", "old", {})]), tool_result("a", "1"))


@pytest.mark.parametrize(
    ("choice", "history", "sent"),
    [
        (None, (), {"tools": ["weather"]}),
        ("auto", (), {"tools": ["weather"]}),
        ("required", (), {"tools": ["weather"], "toolChoice": {"any": {}}}),
        ("weather", (), {"tools": ["weather"], "toolChoice": {"tool": {"name": "weather"}}}),
        ("none", (), None),
        ("none", CALLED, {"tools": ["weather"]}),
    ],
)
def test_the_choice_of_a_tool(choice: str | None, history: tuple[Message, ...], sent: Any) -> None:
    body = encode(user("hi"), *history, tools=[WEATHER], settings={"tool_choice": choice})
    config = body.get("toolConfig")
    if config is not None:
        config["tools"] = [tool["toolSpec"]["name"] for tool in config["tools"]]
    assert config == sent


def test_tools_of_the_history_are_defined_where_the_request_has_none() -> None:
    """Converse refuses a conversation with calls and without a toolConfig."""
    server = Message("assistant", (ServerItem("toolUse", SERVER_USE), Text("so")), provider_data=OWN)
    body = encode(user("x"), *CALLED, *CALLED, server, settings={"tool_choice": "required"})
    assert body["toolConfig"] == {
        "tools": [
            {"toolSpec": {"name": "old", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
            {"systemTool": {"name": "nova_grounding"}},
        ]
    }
    own = {"tools": [{"systemTool": {"name": "nova_grounding"}}]}
    assert encode(server, settings={"extra": {"toolConfig": own}})["toolConfig"] == own


def test_images_and_documents() -> None:
    (turn,) = turns(
        user(
            image(b"x", media_type="image/jpg"),
            image("s3://bucket/a.png"),
            document(b"y", media_type="text/plain; charset=utf-8", name="my  report.final.txt"),
            document(b"z", media_type="application/octet-stream", name="sheet.xlsx"),
            document("s3://bucket/b.pdf"),
        )
    )
    assert turn["content"] == [
        {"image": {"format": "jpeg", "source": {"bytes": "eA=="}}},
        {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://bucket/a.png"}}}},
        {"document": {"format": "txt", "name": "my report-final-txt", "source": {"bytes": "eQ=="}}},
        {"document": {"format": "xlsx", "name": "sheet-xlsx", "source": {"bytes": "eg=="}}},
        {"document": {"format": "pdf", "name": "document", "source": {"s3Location": {"uri": "s3://bucket/b.pdf"}}}},
        {"text": "Read the document."},
    ]


@given(st.lists(st.one_of(st.none(), st.text(max_size=220), st.sampled_from(["a", "a (2)", "a" * 200])), max_size=6))
def test_names_of_documents(names: list[str | None]) -> None:
    """Letters, digits, single white space, hyphens and brackets; no name twice."""
    taken: set[str] = set()
    made = [document_name(name, taken) for name in names]
    assert len(set(made)) == len(made)
    for name in made:
        assert 1 <= len(name) <= 200
        assert all(char.isascii() and (char.isalnum() or char in " -()[]") for char in name)
        assert "  " not in name
        assert name == name.strip()


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (image("https://x/y.png"), "fetches no image"),
        (image("https://x/y"), "unknown type"),
        (image(b"x", media_type="image/tiff"), "image/tiff"),
        (document("https://x/y.pdf"), "fetches no document"),
        (document(b"x", media_type="application/zip"), "application/zip"),
        (Thinking("x"), "Thinking"),
    ],
)
def test_what_cannot_be_carried_is_said(part: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        encode(Message("user", (part,)))


def test_a_picture_that_another_model_made_is_left_out() -> None:
    """No answer can hold one here, and the conversation goes on."""
    drawn = Message("assistant", (Text("Look:"), image("https://x/y.png")))
    found = turns(user("Draw!"), drawn, user("And now?"))
    assert [turn["content"] for turn in found] == [[{"text": words}] for words in ("Draw!", "Look:", "And now?")]


def test_results_are_exactly_the_calls_of_the_turn_in_one_message() -> None:
    said = [ToolCall("a", "f", {"x": 1}), ToolCall("b", "g", None, "{x")]
    found = turns(
        user("x"),
        assistant("Let me.", tool_calls=said),
        tool_result("b", "no", is_error=True),
        tool_result("zzz", "orphan"),
        tool_result("a", ""),
        user("and?"),
    )
    assert found[1:] == [
        {
            "role": "assistant",
            "content": [
                {"text": "Let me."},
                {"toolUse": {"toolUseId": "a", "name": "f", "input": {"x": 1}}},
                {"toolUse": {"toolUseId": "b", "name": "g", "input": {"invalid_arguments": "{x"}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "a", "content": [{"text": "(empty)"}]}},
                {"toolResult": {"toolUseId": "b", "content": [{"text": "no"}], "status": "error"}},
                {"text": "and?"},
            ],
        },
    ]


def test_ids_and_names_of_others_are_made_to_fit() -> None:
    long = "x" * 70
    found = turns(
        user("x"),
        assistant(tool_calls=[ToolCall("functions.f:0", "functions.f", {}), ToolCall(long, "", {})]),
        tool_result("functions.f:0", "1"),
        tool_result(long, "2"),
        assistant(tool_calls=[ToolCall("functions.f:0", "f", {}), ToolCall(long, "f", {}), ToolCall(None, "f", {})]),
        tool_result("functions.f:0", "3"),
        tool_result(long, "4"),
        tool_result("made up", "5"),
    )
    uses = [block["toolUse"] for turn in found for block in turn["content"] if "toolUse" in block]
    results = [block["toolResult"] for turn in found for block in turn["content"] if "toolResult" in block]
    ids = [use["toolUseId"] for use in uses]
    assert [use["name"] for use in uses] == ["functions_f", "unnamed", "f", "f", "f"]
    assert ids[0] == "call_0"
    assert len(set(ids)) == 5
    assert all(len(each) <= 64 and each.replace("_", "").isalnum() for each in ids)
    assert [result["toolUseId"] for result in results] == ids
    assert [result["content"][0]["text"] for result in results] == ["1", "2", "3", "4", "5"]


def test_turns_alternate_and_begin_with_the_user() -> None:
    found = turns(
        assistant("hello"),
        user("a"),
        user(" "),
        assistant(" "),
        system("x"),
        user("b"),
        Message("assistant", (Text("ha"), ToolCall("x", "f", None, "{")), partial=True),
        assistant("so"),
        user(),
    )
    assert found == [
        {"role": "user", "content": [{"text": "(empty)"}]},
        {"role": "assistant", "content": [{"text": "hello"}]},
        {"role": "user", "content": [{"text": "a"}, {"text": "(empty)"}, {"text": "b"}]},
        {"role": "assistant", "content": [{"text": "ha"}, {"text": "so"}]},
        {"role": "user", "content": [{"text": "(empty)"}]},
    ]


def test_a_call_without_a_result_gets_one() -> None:
    found = turns(user("x"), assistant(tool_calls=[ToolCall("a", "f", {})]), user("y"))
    (result, text) = found[2]["content"]
    assert result["toolResult"]["status"] == "error"
    assert "outcome unknown" in result["toolResult"]["content"][0]["text"]
    assert text == {"text": "y"}


SIGNED = {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}}
HIDDEN = {"reasoningContent": {"redactedContent": "YQ=="}}


@pytest.mark.parametrize(
    ("stamp", "kept"),
    [
        (OWN, True),
        (ProviderData("bedrock-converse", "eu.anthropic.claude-opus-4"), True),
        (ProviderData("bedrock-converse", "amazon.nova-2-lite-v1:0"), False),
        (ProviderData("anthropic", CLAUDE), False),
        (None, False),
    ],
)
def test_thoughts_go_back_signed_and_to_their_own(stamp: ProviderData | None, kept: bool) -> None:
    parts = (Thinking("hm", "s"), ServerItem("redactedContent", HIDDEN), Thinking("unsigned"), Text("so"))
    (_, turn) = turns(user("x"), Message("assistant", parts, provider_data=stamp))
    assert turn["content"] == ([SIGNED, HIDDEN] if kept else []) + [{"text": "so"}]


def test_no_message_ends_with_a_thought() -> None:
    """An answer that was cut while the model thought, and one that was nothing else."""
    cut = Message("assistant", (Text("so"), Thinking("hm", "s"), ServerItem("redactedContent", HIDDEN)), True, OWN)
    only = Message("assistant", (Thinking("hm", "s"),), True, OWN)
    assert turns(user("x"), cut, user("y"))[1]["content"] == [{"text": "so"}]
    assert turns(user("x"), only, user("y")) == [{"role": "user", "content": [{"text": "x"}, {"text": "y"}]}]


def test_items_of_the_server_go_back_to_their_own_family_only() -> None:
    cited = {"content": [{"text": "so"}], "citations": [{"title": "t"}]}
    parts = (
        ServerItem("toolUse", SERVER_USE),
        ServerItem("toolResult", SERVER_RESULT),
        Text("so", {"citationsContent": cited}),
        ServerItem("citationsContent", {"citationsContent": {"citations": []}}),
    )
    (_, turn) = turns(user("x"), Message("assistant", parts, provider_data=OWN))
    assert turn["content"] == [
        SERVER_USE,
        SERVER_RESULT,
        {"citationsContent": cited},
        {"citationsContent": {"citations": []}},
    ]
    (_, turn) = turns(user("x"), Message("assistant", parts, provider_data=ProviderData("gemini", "m")))
    assert turn["content"] == [{"text": "so"}]


def test_a_call_of_the_server_that_was_cut_is_left_out() -> None:
    cut = Message("assistant", (Text("so"), ServerItem("toolUse", SERVER_USE)), True, OWN)
    assert turns(user("x"), cut)[1]["content"] == [{"text": "so"}]
    whole = Message("assistant", (*cut.parts, ServerItem("toolResult", SERVER_RESULT)), True, OWN)
    assert len(turns(user("x"), whole)[1]["content"]) == 3


# Answers.


def answer(*content: Any, reason: str | None = "end_turn", usage: Any = USAGE) -> bytes:
    message = {"role": "assistant", "content": list(content)}
    return json.dumps({"output": {"message": message}, "stopReason": reason, "usage": usage}).encode()


def test_a_stream() -> None:
    shown, reply = play(
        BEGIN,
        delta(0, reasoningContent={"text": "h"}),
        delta(0, reasoningContent={"text": "m"}),
        delta(0, reasoningContent={"signature": "s1"}),
        delta(0, reasoningContent={"signature": "s2"}),
        stop(0),
        delta(1, reasoningContent={"redactedContent": "YQ=="}),
        delta(1, reasoningContent={"redactedContent": "Yg=="}),
        stop(1),
        delta(2, text="Hel"),
        delta(2, text="lo"),
        delta(2, text=""),
        stop(2),
        start(3, toolUse={"toolUseId": "a", "name": "f"}),
        delta(3, toolUse={"input": '{"x"'}),
        start(4, toolUse={"toolUseId": "b", "name": "g", "type": "tool_use"}),
        delta(3, toolUse={"input": ":1}"}),
        delta(4, toolUse={"input": "{x"}),
        start(5, toolUse={"toolUseId": "c", "name": "h"}),
        stop(3),
        frame("newThing", {}),
        end("tool_use"),
        METADATA,
    )
    assert shown == [
        *(ThinkingDelta("h"), ThinkingDelta("m"), TextDelta("Hel"), TextDelta("lo")),
        *(ToolCallDelta(0, "", "a", "f"), ToolCallDelta(0, '{"x"'), ToolCallDelta(1, "", "b", "g")),
        *(ToolCallDelta(0, ":1}"), ToolCallDelta(1, "{x"), ToolCallDelta(2, "", "c", "h")),
    ]
    assert reply.message.parts == (
        Thinking("hm", "s1s2"),
        ServerItem("redactedContent", {"reasoningContent": {"redactedContent": "YWI="}}),
        Text("Hello"),
        ToolCall("a", "f", {"x": 1}, '{"x":1}'),
        ToolCall("b", "g", None, "{x"),
        ToolCall("c", "h", {}, ""),
    )
    assert reply.message.provider_data == OWN
    assert (reply.stop_reason, reply.stop_reason_raw) == ("tool_calls", "tool_use")
    usage = reply.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (7, 2, 9)
    assert (usage.cached_input_tokens, usage.cache_write_tokens, usage.raw) == (3, 0, USAGE)


CITATION = {"title": "t", "location": {"web": {"url": "https://x"}}}
CITED = {"citationsContent": {"content": [{"text": "so"}], "citations": [CITATION]}}


def test_a_whole_answer_is_the_streamed_one() -> None:
    whole = DIALECT.decode(
        answer(
            SERVER_USE,
            SERVER_RESULT,
            CITED,
            {"citationsContent": {"citations": [CITATION]}},
            {"image": {"format": "png", "source": {"bytes": "eA=="}}},
            {"text": "x"},
            SIGNED,
            HIDDEN,
            {"toolUse": {"toolUseId": "a", "name": "f", "type": "tool_use", "input": {"x": 1.0}}},
            {},
        )
    )
    shown, streamed = play(
        start(0, toolUse={key: SERVER_USE["toolUse"][key] for key in ("toolUseId", "name", "type")}),
        delta(0, toolUse={"input": '{"q":1}'}),
        start(1, toolResult={"toolUseId": "t1", "status": "success", "type": "x"}),
        delta(1, toolResult=[{"text": "found"}]),
        delta(2, text="so"),
        delta(2, citation=CITATION),
        delta(3, citation=CITATION),
        start(4, image={"format": "png"}),
        delta(4, image={"source": {"bytes": "eA=="}}),
        delta(5, text="x"),
        delta(6, reasoningContent={"text": "hm"}),
        delta(6, reasoningContent={"signature": "s"}),
        delta(7, reasoningContent={"redactedContent": "YQ=="}),
        start(8, toolUse={"toolUseId": "a", "name": "f"}),
        delta(8, toolUse={"input": '{"x":1.0}'}),
        end(),
        METADATA,
    )
    assert streamed == whole
    assert whole.stop_reason == "tool_calls"  # some models say end_turn all the same
    assert [item.kind for item in whole.message.server_items] == [
        *("toolUse", "toolResult", "citationsContent", "image", "redactedContent")
    ]
    assert whole.message.text == "sox"
    assert [each.name for each in whole.message.tool_calls] == ["f"]
    assert sum(isinstance(each, ToolCallDelta) for each in shown) == 2


@pytest.mark.parametrize(
    ("raw", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("tool_use", "tool_calls"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("malformed_model_output", "error"),
        ("malformed_tool_use", "error"),
        ("new", None),
    ],
)
def test_stop_reasons(raw: str, ours: str | None) -> None:
    assert DIALECT.decode(answer({"text": "x"}, reason=raw)) == play(delta(0, text="x"), end(raw), METADATA)[1]
    reply = DIALECT.decode(answer(reason=raw, usage=None))
    assert (reply.stop_reason, reply.stop_reason_raw, reply.usage) == (ours, raw, None)


@pytest.mark.parametrize("clean", [True, False])
def test_the_stop_reason_makes_an_answer_whole(clean: bool) -> None:
    """Scenario 87: without the metadata behind it the usage is not known, and nothing else is lost."""
    _, reply = play(BEGIN, delta(0, text="x"), end(), clean=clean)
    assert (reply.message.text, reply.usage) == ("x", None)


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("tail", [(), (METADATA,), (end(None), METADATA)])
def test_a_stream_without_a_stop_reason_is_no_answer(tail: tuple[bytes, ...], clean: bool) -> None:
    """Scenario 87. What only Bedrock can use is kept when it is whole."""
    with pytest.raises(StreamInterrupted) as caught:
        play(
            BEGIN,
            start(0, toolResult={"toolUseId": "t1"}),
            stop(0),
            delta(1, reasoningContent={"text": "hm"}),
            delta(2, text="half"),
            start(3, toolUse={"toolUseId": "a", "name": "f"}),
            delta(3, toolUse={"input": "{}"}),
            start(4, toolUse={"toolUseId": "s", "name": "g", "type": "server_tool_use"}),
            delta(5, reasoningContent={"redactedContent": "YQ=="}),
            *tail,
            clean=clean,
        )
    result = {"toolResult": {"toolUseId": "t1", "content": []}}
    assert caught.value.partial == Message(
        "assistant",
        (ServerItem("toolResult", result), Thinking("hm"), Text("half"), ToolCall("a", "f", None, "{}")),
        True,
        OWN,
    )
    with pytest.raises(StreamInterrupted) as caught:
        play(BEGIN, clean=clean)
    assert caught.value.partial is None


@pytest.mark.parametrize(
    ("name", "told", "kind", "retryable"),
    [
        ("throttlingException", {"message": "slow"}, RateLimited, True),
        ("modelStreamErrorException", {"message": "x", "originalStatusCode": 500}, Overloaded, True),
        ("modelStreamErrorException", {"message": "x", "originalStatusCode": 400}, InvalidRequest, False),
        ("validationException", {"message": "bad"}, InvalidRequest, False),
        ("validationException", {"message": "Input is too long for requested model."}, ContextOverflow, False),
        ("serviceUnavailableException", {"message": "x"}, Overloaded, True),
        ("internalServerException", {}, Overloaded, True),
        ("modelTimeoutException", {"Message": "x"}, Overloaded, True),
        ("newException", {"message": "x"}, Overloaded, True),
    ],
)
def test_an_exception_in_a_stream(name: str, told: Any, kind: type[ProviderError], retryable: bool) -> None:
    """Scenario 86."""
    with pytest.raises(ProviderError) as caught:
        play(BEGIN, delta(0, text="half"), frame(name, told, "exception"))
    error = caught.value
    assert (type(error), error.code, error.status, error.retryable) == (kind, name, 200, retryable)
    assert error.partial == Message("assistant", (Text("half"),), True)


def test_an_error_message_in_a_stream() -> None:
    with pytest.raises(Overloaded, match="boom") as caught:
        play(frame("InternalError", {"message": "boom"}, "error"))
    assert caught.value.code == "InternalError"


COM = ":http://internal.amazon.com/coral/com.amazon.bedrock/"


@pytest.mark.parametrize(
    ("status", "name", "message", "kind", "retryable"),
    [
        (400, f"ValidationException{COM}", "bad", InvalidRequest, False),
        (400, f"ValidationException{COM}", "Input Tokens Exceeded: Number of input tokens", ContextOverflow, False),
        (400, "ServiceQuotaExceededException", "quota", RateLimited, False),
        (403, "AccessDeniedException", "no", AuthError, False),
        (403, "ExpiredTokenException", "expired", AuthError, False),
        (400, "com.amazon.coral#IncompleteSignatureException", "no", AuthError, False),
        (404, "ResourceNotFoundException", "no model", InvalidRequest, False),
        (408, "ModelTimeoutException", "slow", Overloaded, True),
        (424, "ModelErrorException", "x", Overloaded, True),
        (429, "ThrottlingException", "Too many tokens, please wait before trying again.", RateLimited, True),
        (429, "ModelNotReadyException", "x", RateLimited, True),
        (401, "ValidationException", "no key", AuthError, False),
        (500, "InternalServerException", "x", Overloaded, True),
        (503, "ServiceUnavailableException", "x", Overloaded, True),
        (418, "New", "x", InvalidRequest, False),
    ],
)
def test_errors(status: int, name: str, message: str, kind: type[ProviderError], retryable: bool) -> None:
    """Scenarios 84 and 85."""
    headers = {"x-amzn-errortype": name, "x-amzn-requestid": "r1"}
    error = DIALECT.read_error(status, headers, json.dumps({"message": message}).encode(), now=0.0)
    assert (type(error), error.retryable, error.status, error.message) == (kind, retryable, status, message)
    assert (error.code, error.error_type, error.request_id) == (name, name, "r1")


def test_errors_without_the_header() -> None:
    error = DIALECT.read_error(400, {}, b'{"__type": "x#ThrottlingException", "Message": "slow"}', now=0.0)
    assert (type(error), error.message) == (RateLimited, "slow")
    error = DIALECT.read_error(502, {}, b"<html>Bad gateway", now=0.0)
    assert (type(error), error.message, error.code) == (Overloaded, "<html>Bad gateway", None)


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[" * 5000, b'{"output": 7}', b"null", b"hello", b"{}", b"<html>"])
def test_what_is_not_of_the_format(data: bytes) -> None:
    """Scenario 91."""
    with pytest.raises(BadResponse) as caught:
        DIALECT.decode(data)
    assert len(str(caught.value)) < 1000
    with pytest.raises(BadResponse) as caught:
        play(delta(0, text="half"), frame("contentBlockDelta", data))
    assert len(str(caught.value)) < 1000
    assert caught.value.partial is not None


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("text", "toolUse", "toolResult", "reasoningContent", "reasoningText", "redactedContent", "citationsContent")
MORE = ("content", "citations", "input", "name", "type", "toolUseId", "signature", "citation", "image")
BLOCKS: Any = st.recursive(
    JSON,
    lambda inner: st.dictionaries(st.sampled_from((*KEYS, *MORE)), inner) | st.lists(inner, max_size=3),
    max_leaves=12,
)
EVENTS = st.tuples(
    st.sampled_from(["contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"]),
    st.one_of(
        JSON,
        st.fixed_dictionaries(
            {"contentBlockIndex": st.integers(0, 2)}, optional={"delta": BLOCKS, "start": BLOCKS, "stopReason": JSON}
        ),
    ),
)


def test_a_null_beside_a_block_is_no_block() -> None:
    reply = DIALECT.decode(answer({"citationsContent": {"citations": []}, "toolUse": None}, {"text": None}))
    (item,) = reply.message.parts
    assert item == ServerItem("citationsContent", {"citationsContent": {"citations": []}})


@given(st.lists(BLOCKS, max_size=4), JSON)
def test_hostile_json_is_a_reply_or_a_typed_error(content: list[Any], usage: Any) -> None:
    for body in (answer(*content, usage=usage), json.dumps(usage).encode()):
        try:
            reply = DIALECT.decode(body)
        except ProviderError:
            continue
        encode(user("x"), reply.message, user("y"))
    assert isinstance(DIALECT.read_error(500, {}, json.dumps(usage).encode(), now=0.0), ProviderError)


@given(st.lists(EVENTS, max_size=8))
def test_hostile_events_are_a_reply_or_a_typed_error(events: list[tuple[str, Any]]) -> None:
    try:
        shown, reply = play(*[frame(name, payload) for name, payload in events], end())
    except ProviderError as error:
        encode(user("x"), *([error.partial] if error.partial else []), user("y"))
        return
    assert "".join(each.text for each in shown if isinstance(each, TextDelta)) == reply.message.text
    indices = {each.index for each in shown if isinstance(each, ToolCallDelta)}
    assert indices <= set(range(len(reply.message.tool_calls)))
    encode(user("x"), reply.message, user("y"))


# The skin.


@pytest.mark.parametrize(
    ("arguments", "variables", "url"),
    [
        ({"region": "eu-west-1"}, {"AWS_REGION": "us-west-2"}, "https://bedrock-runtime.eu-west-1.amazonaws.com"),
        ({}, {"AWS_REGION": "us-west-2"}, "https://bedrock-runtime.us-west-2.amazonaws.com"),
        ({}, {"AWS_DEFAULT_REGION": "us-west-2"}, "https://bedrock-runtime.us-west-2.amazonaws.com"),
        ({}, {}, "https://bedrock-runtime.us-east-1.amazonaws.com"),
        ({"model": "arn:aws:bedrock:ap-south-1:1:x/y"}, {}, "https://bedrock-runtime.ap-south-1.amazonaws.com"),
        ({"region": "cn-north-1"}, {}, "https://bedrock-runtime.cn-north-1.amazonaws.com.cn"),
        ({"base_url": "https://vpce.example/"}, {}, "https://vpce.example/"),
    ],
)
def test_where_it_is(
    arguments: dict[str, Any], variables: dict[str, str], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert Bedrock(**{"model": "m", **arguments}).base_url == url


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"model": 5}, TypeError),
        ({"model": " "}, ValueError),
        ({"base_url": 5}, TypeError),
        ({"region": 5}, TypeError),
        ({"region": "evil.example/"}, ValueError),
        ({"api_key": "k", "signer": lambda request: {}}, ValueError),
        ({"signer": 5}, TypeError),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        Bedrock(**{"model": "m", **arguments})


@pytest.mark.anyio
async def test_a_bearer_key_is_enough_and_a_signer_sees_what_is_sent() -> None:
    seen: list[UnsignedRequest] = []

    def sign(request: UnsignedRequest) -> dict[str, str]:
        seen.append(request)
        return {"Authorization": "AWS4-HMAC-SHA256 x", "X-Amz-Date": "20260101T000000Z"}

    reply = json_answer(json.loads(answer({"text": "hello"})))
    async with serve(reply) as server:
        got = await Bedrock("a.b:0", base_url=server.url, api_key="sk-key").complete(ModelRequest(HISTORY))
        await Bedrock("a.b:0", base_url=server.url, signer=sign).complete(ModelRequest(HISTORY))
    assert got.message.text == "hello"
    keyed, signed = server.requests
    assert (keyed.target, keyed.headers["authorization"]) == ("/model/a.b%3A0/converse", "Bearer sk-key")
    assert signed.headers["authorization"] == "AWS4-HMAC-SHA256 x"
    assert signed.headers["x-amz-date"] == "20260101T000000Z"
    (request,) = seen
    assert request.url == f"{server.url}/model/a.b%3A0/converse"
    assert request.body == signed.body


@pytest.mark.anyio
async def test_where_the_key_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    with pytest.raises(AuthError, match="set AWS_BEARER_TOKEN_BEDROCK or pass api_key= or signer="):
        await Bedrock("m", region="us-east-1").complete(ModelRequest(HISTORY))
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "from-the-environment")
    assert dict(Bedrock("m")._headers())[b"authorization"] == b"Bearer from-the-environment"
    # Not to strangers, and not beside a signature.
    assert b"authorization" not in dict(Bedrock("m", base_url="https://elsewhere.example")._headers())
    assert b"authorization" not in dict(Bedrock("m", signer=lambda request: {})._headers())


@pytest.mark.anyio
@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_a_stream_over_http(size: int) -> None:
    """Scenario 90."""
    data = b"".join([BEGIN, delta(0, text="Hel"), delta(0, text="lo"), stop(0), end(), METADATA])
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    headers = {"content-type": "application/vnd.amazon.eventstream"}
    async with (
        serve(Answer(pieces, 200, headers)) as server,
        Bedrock("m", base_url=server.url, api_key="sk-key").stream(ModelRequest(HISTORY)) as stream,
    ):
        events = [event async for event in stream]
    assert events == [TextDelta("Hel"), TextDelta("lo")]
    assert stream.reply.usage is not None
    assert server.requests[0].target == "/model/m/converse-stream"


@pytest.mark.anyio
@pytest.mark.parametrize("fault", [b"<html>gateway", METADATA[:-1] + b"\0"])
async def test_a_broken_stream_over_http(fault: bytes) -> None:
    """What came before the fault is told with it."""
    headers = {"content-type": "application/vnd.amazon.eventstream"}
    async with serve(Answer([BEGIN + delta(0, text="half") + fault], 200, headers)) as server:
        with pytest.raises(BadResponse, match="checksum") as caught:
            async with Bedrock("m", base_url=server.url, api_key="sk-key").stream(ModelRequest(HISTORY)) as stream:
                async for _ in stream:
                    pass
    assert caught.value.partial == Message("assistant", (Text("half"),), True)
    assert caught.value.provider == "bedrock"
