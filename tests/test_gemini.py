"""Gemini's generateContent: requests, answers and errors without any I/O, then keys and paths over loopback."""

from __future__ import annotations

import base64
import json
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.providers import (
    AuthError,
    BadResponse,
    ContextOverflow,
    Gemini,
    Image,
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
    ToolSpec,
    UnsignedRequest,
    Vertex,
    assistant,
    document,
    image,
    system,
    tool_result,
    user,
)
from greenroom.providers.dialects.gemini import GeminiDialect, generation
from greenroom.providers.dialects.gemini_messages import FOREIGN_SIGNATURE
from greenroom.providers.dialects.gemini_schema import readable
from greenroom.providers.framing.sse import SSEParser
from greenroom.providers.vocabulary import events_of

from .wire import events, json_answer, serve, sse_answer

MODEL = "gemini-3.6-flash"
DIALECT = GeminiDialect(MODEL)
OLD = GeminiDialect("gemini-2.5-flash")


def encode(request: ModelRequest, dialect: GeminiDialect = DIALECT) -> dict[str, Any]:
    return json.loads(dialect.encode(request, stream=False).body)


def contents(*messages: Message, dialect: GeminiDialect = DIALECT) -> list[dict[str, Any]]:
    return encode(ModelRequest(messages), dialect)["contents"]


def chunk(*parts: Any, finish: str | None = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "modelVersion": "v", "responseId": "r", **more}


def calling(name: str = "f", signature: str | None = None, **more: Any) -> dict[str, Any]:
    part: dict[str, Any] = {"functionCall": {"name": name, "args": {}, **more}}
    return part if signature is None else {**part, "thoughtSignature": signature}


def play(*chunks: Any, clean: bool = True, dialect: GeminiDialect = DIALECT) -> tuple[list[ModelEvent], ModelReply]:
    decoder = dialect.decoder()
    framed = SSEParser().feed(events(*chunks, done=False))
    seen = [event for raw in framed for event in decoder.feed(raw)]
    return seen, decoder.finish(clean=clean)


def decode(body: Any) -> ModelReply:
    return DIALECT.decode(json.dumps(body, ensure_ascii=False).encode())


# Requests.


def test_a_whole_request() -> None:
    request = ModelRequest(
        [user("hi"), assistant("hello"), user("again")],
        tools=[ToolSpec("f", "does", {"type": "object"}), ToolSpec("g", "", {"type": "object"})],
        instructions="be brief",
        settings={
            "temperature": 0,
            "top_p": 0.5,
            "max_tokens": 5,
            "stop": ["x"],
            "seed": 1,
            "tool_choice": "f",
            "parallel_tool_calls": False,
            "reasoning_effort": "low",
        },
    )
    assert encode(request) == {
        "contents": [
            {"role": "user", "parts": [{"text": "hi"}]},
            {"role": "model", "parts": [{"text": "hello"}]},
            {"role": "user", "parts": [{"text": "again"}]},
        ],
        "systemInstruction": {"parts": [{"text": "be brief"}]},
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "f", "description": "does", "parametersJsonSchema": {"type": "object"}},
                    {"name": "g", "parametersJsonSchema": {"type": "object"}},
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        "generationConfig": {
            "temperature": 0,
            "topP": 0.5,
            "maxOutputTokens": 5,
            "stopSequences": ["x"],
            "seed": 1,
            "thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": True},
        },
    }


def test_a_small_request_holds_nothing_else() -> None:
    assert encode(ModelRequest([user("hi")])) == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


@pytest.mark.parametrize(("choice", "mode"), [("auto", "AUTO"), ("none", "NONE"), ("required", "ANY")])
def test_tool_choices(choice: str, mode: str) -> None:
    request = ModelRequest([user("x")], tools=[ToolSpec("f", "", {})], settings={"tool_choice": choice})
    assert encode(request)["toolConfig"] == {"functionCallingConfig": {"mode": mode}}
    assert "toolConfig" not in encode(ModelRequest([user("x")], settings={"tool_choice": choice}))


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-3.6-flash", "/models/gemini-3.6-flash"),
        ("models/gemini-3.6-flash", "/models/gemini-3.6-flash"),
        ("tunedModels/mine", "/tunedModels/mine"),
    ],
)
def test_the_model_and_the_stream_are_in_the_path(model: str, path: str) -> None:
    request = ModelRequest([user("x")])
    assert GeminiDialect(model).encode(request, stream=False).path == f"{path}:generateContent"
    assert GeminiDialect(model).encode(request, stream=True).path == f"{path}:streamGenerateContent?alt=sse"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gemini-2.5-flash", 2),
        ("gemini-3-pro-preview", 3),
        ("gemini-4-argon", 4),
        ("gemini-12.1-x", 12),
        ("gemini-flash-latest", 99),
        ("gemini-flash-lite-latest", 99),
        ("publishers/google/models/gemini-3-flash", 3),
        ("gemini-exp-1206", None),
        ("gemma-4-31b-it", None),
        ("m", None),
    ],
)
def test_generations(model: str, expected: int | None) -> None:
    assert generation(model) == expected


@pytest.mark.parametrize(
    ("dialect", "effort", "expected"),
    [
        (DIALECT, "minimal", {"thinkingLevel": "MINIMAL", "includeThoughts": True}),
        (DIALECT, "high", {"thinkingLevel": "HIGH", "includeThoughts": True}),
        (DIALECT, "xhigh", {"thinkingLevel": "HIGH", "includeThoughts": True}),
        (DIALECT, "none", {"thinkingLevel": "MINIMAL"}),
        (OLD, "low", {"thinkingBudget": 1024, "includeThoughts": True}),
        (OLD, "medium", {"thinkingBudget": 8192, "includeThoughts": True}),
        (OLD, "high", {"thinkingBudget": 24576, "includeThoughts": True}),
        (OLD, "none", {"thinkingBudget": 0}),
        (GeminiDialect("gemini-2.5-pro"), "none", {"thinkingBudget": 128}),  # it cannot be without thoughts
        (GeminiDialect("gemini-2.0-flash"), "high", None),
        (GeminiDialect("gemini-1.5-pro"), "none", None),
    ],
)
def test_reasoning_effort(dialect: GeminiDialect, effort: str, expected: dict[str, Any]) -> None:
    """A level and a budget together are refused, and each generation knows one of them."""
    body = encode(ModelRequest([user("x")], settings={"reasoning_effort": effort}), dialect)
    assert body.get("generationConfig", {}).get("thinkingConfig") == expected


def test_an_effort_without_a_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="reasoning_effort must be one of none, minimal"):
        encode(ModelRequest([user("x")], settings={"reasoning_effort": "utmost"}), OLD)
    with pytest.raises(ValueError, match="reasoning_effort must be one of none, minimal"):
        encode(ModelRequest([user("x")], settings={"reasoning_effort": "utmost"}))


def test_extra_is_merged_into_what_is_there() -> None:
    extra: dict[str, Any] = {
        "generationConfig": {"topK": 3, "thinkingConfig": {"includeThoughts": False}},
        "tools": [{"googleSearch": {}}],
        "cachedContent": "cachedContents/1",
    }
    settings: dict[str, Any] = {"temperature": 1, "reasoning_effort": "low", "extra": extra}
    body = encode(ModelRequest([user("x")], tools=[ToolSpec("f", "", {})], settings=settings))
    assert body["generationConfig"] == {
        "temperature": 1,
        "topK": 3,
        "thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": False},
    }
    assert [next(iter(tool)) for tool in body["tools"]] == ["functionDeclarations", "googleSearch"]
    assert body["cachedContent"] == "cachedContents/1"


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "const": {"$ref": "#/$defs/A"},
        "$ref": {"$ref": "#/$defs/A", "description": "with words beside it"},
        "kind": {"const": "a"},
        "list": {"type": "array", "items": {"anyOf": [{"const": 1}, {"type": "null"}]}},
    },
    "additionalProperties": False,
    "required": ["kind"],
    "$defs": {"A": {"type": "object", "properties": {}, "additionalProperties": {"const": 2}}},
}


def test_extra_replaces_what_it_cannot_be_merged_with() -> None:
    extra: dict[str, Any] = {
        "generationConfig": {"thinkingConfig": None},
        "tools": {"googleSearch": {}},
        "toolConfig": {"x": 1},
        "y": [2],
    }
    settings: dict[str, Any] = {"reasoning_effort": "low", "extra": extra}
    body = encode(ModelRequest([user("x")], tools=[ToolSpec("f", "", {})], settings=settings))
    assert {key: body[key] for key in extra} == extra


def test_schemas_keep_their_meaning() -> None:
    """References, definitions and closed objects survive; what the API does not know is said in its words."""
    assert readable(SCHEMA) == {
        **SCHEMA,
        "properties": {
            "const": {"$ref": "#/$defs/A"},
            "$ref": {"anyOf": [{"$ref": "#/$defs/A"}], "description": "with words beside it"},
            "kind": {"enum": ["a"]},
            "list": {"type": "array", "items": {"anyOf": [{"enum": [1]}, {"type": "null"}]}},
        },
        "$defs": {"A": {"type": "object", "properties": {}, "additionalProperties": {"enum": [2]}}},
    }
    body = encode(ModelRequest([user("x")], tools=[ToolSpec("f", "", SCHEMA)], output_schema=SCHEMA))
    assert body["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"] == readable(SCHEMA)
    assert body["generationConfig"]["responseJsonSchema"] == readable(SCHEMA)
    assert SCHEMA["properties"]["kind"] == {"const": "a"}


@pytest.mark.parametrize("schema", [True, {"properties": 7, "anyOf": 7, "items": True}, {"enum": [{"const": 1}]}])
def test_odd_schemas_go_as_they_are(schema: Any) -> None:
    assert readable(schema) == schema


def test_a_reference_with_an_any_of_beside_it_still_demands_both() -> None:
    schema = {"$ref": "#/$defs/A", "anyOf": [{"type": "string"}], "description": "d"}
    assert readable(schema) == {
        "description": "d",
        "allOf": [{"$ref": "#/$defs/A"}, {"anyOf": [{"type": "string"}]}],
    }


def test_an_answer_by_a_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    tools = [ToolSpec("f", "", {"type": "object"})]
    for dialect, held in ((DIALECT, tools), (DIALECT, []), (OLD, [])):
        config = encode(ModelRequest([user("x")], tools=held, output_schema=schema), dialect)["generationConfig"]
        assert config == {"responseMimeType": "application/json", "responseJsonSchema": schema}


SEARCH: dict[str, Any] = {"tools": [{"googleSearch": {}}]}


@pytest.mark.parametrize(("tools", "extra"), [([ToolSpec("f", "", {})], None), ([], SEARCH)])
def test_an_old_model_with_tools_is_asked_for_a_schema_in_words(tools: list[ToolSpec], extra: Any) -> None:
    """The API answers "Function calling with a response mime type: 'application/json' is unsupported"."""
    schema = {"type": "object", "title": "Marked"}
    request = ModelRequest([user("x")], tools=tools, settings={"extra": extra}, output_schema=schema)
    body = encode(request, OLD)
    assert "generationConfig" not in body
    assert '"title":"Marked"' in body["systemInstruction"]["parts"][-1]["text"]


# Messages.


def test_system_messages_stand_together() -> None:
    request = ModelRequest([system("a"), user("x"), system("b"), assistant("y"), user("z")], instructions="be brief")
    body = encode(request)
    assert [part["text"] for part in body["systemInstruction"]["parts"]] == ["be brief", "a", "b"]
    assert [content["role"] for content in body["contents"]] == ["user", "model", "user"]


def test_a_system_message_between_a_call_and_its_result() -> None:
    call = ToolCall("c", "f", {})
    sent = contents(user("x"), assistant(tool_calls=[call]), system("s"), tool_result("c", "done"))
    assert sent[2]["parts"][0]["functionResponse"]["response"] == {"output": "done"}


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (image(b"\x89", media_type="image/png"), {"inlineData": {"mimeType": "image/png", "data": "iQ=="}}),
        (image("https://h/a.JPG?x=1"), {"fileData": {"fileUri": "https://h/a.JPG?x=1", "mimeType": "image/jpeg"}}),
        (image("data:image/gif;base64,AAAA"), {"inlineData": {"mimeType": "image/gif", "data": "AAAA"}}),
        (image("data:,plain"), {"fileData": {"fileUri": "data:,plain"}}),
        (image("data:image/gif;base64"), {"fileData": {"fileUri": "data:image/gif;base64"}}),
        (image("data:;base64,QQ=="), {"inlineData": {"mimeType": "text/plain", "data": "QQ=="}}),
        (document("gs://b/a.pdf"), {"fileData": {"fileUri": "gs://b/a.pdf", "mimeType": "application/pdf"}}),
        (document("https://youtu.be/abc"), {"fileData": {"fileUri": "https://youtu.be/abc"}}),
        (
            document("https://h/a", media_type="text/plain"),
            {"fileData": {"fileUri": "https://h/a", "mimeType": "text/plain"}},
        ),
        (Image(data=b""), {"inlineData": {"mimeType": "application/octet-stream", "data": ""}}),
    ],
)
def test_media(part: Any, expected: dict[str, Any]) -> None:
    assert contents(user("see", part))[0]["parts"] == [{"text": "see"}, expected]


def test_a_part_that_a_user_cannot_send() -> None:
    with pytest.raises(ValueError, match="cannot hold a part of type ToolCall"):
        contents(user(ToolCall("c", "f", {})))
    with pytest.raises(ValueError, match="Image has neither a url nor data"):
        contents(user(Image()))


@pytest.mark.parametrize(
    ("messages", "roles"),
    [
        ([user("a"), user("b")], ["user", "user"]),
        ([user("a"), assistant("b"), assistant("c"), user("d")], ["user", "model", "user"]),
        ([user("a"), assistant(""), user("d")], ["user", "user"]),
        ([user("a"), Message("assistant", ()), user("d")], ["user", "user"]),
        ([user("a"), assistant(Thinking("t", "sig")), user("d")], ["user", "user"]),
        ([assistant("b"), user("d")], ["user", "model", "user"]),
        ([system("only")], ["user"]),
        ([], ["user"]),
        ([user("")], ["user"]),
        ([user("a"), tool_result("x", "orphan")], ["user"]),
    ],
)
def test_the_order_of_roles(messages: list[Message], roles: list[str]) -> None:
    """A call of the model must follow on a user, and nothing may be empty."""
    sent = contents(*messages)
    assert [content["role"] for content in sent] == roles
    assert all(part.get("text", "-") for content in sent for part in content["parts"])
    assert all(content["parts"] for content in sent)


def test_neighbouring_messages_of_the_model_are_one_turn() -> None:
    """The call must not follow on words of the model; an empty message beside it changes nothing."""
    call = ToolCall("c", "f", {})
    sent = contents(user("a"), assistant(""), assistant("b"), assistant("c", tool_calls=[call]), tool_result("c", "d"))
    assert [content["role"] for content in sent] == ["user", "model", "user"]
    assert [part.get("text") for part in sent[1]["parts"]] == ["b", "c", None]
    assert [content["role"] for content in contents(user("a"), user("b"), assistant(""))] == ["user", "user"]


def test_a_picture_of_the_model() -> None:
    sent = contents(user("a"), assistant("b", image("https://h/a.png")), user("c"))
    assert sent[1]["parts"] == [{"text": "b"}, {"fileData": {"fileUri": "https://h/a.png", "mimeType": "image/png"}}]


def responses(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [part["functionResponse"] for part in content["parts"]]


def test_results_of_a_turn_are_one_content_in_the_order_of_the_calls() -> None:
    calls = [ToolCall("a", "f", {"x": 1}), ToolCall("b", "g", {})]
    sent = contents(
        user("x"), assistant("hm", tool_calls=calls), tool_result("b", "B", is_error=True), tool_result("a", "A")
    )
    assert [part.get("functionCall") for part in sent[1]["parts"][1:]] == [
        {"name": "f", "args": {"x": 1}},
        {"name": "g", "args": {}},
    ]
    assert responses(sent[2]) == [
        {"name": "f", "response": {"output": "A"}},
        {"name": "g", "response": {"error": "B"}},
    ]


def test_each_call_has_one_result() -> None:
    """A count that differs is refused, for this request and every one that follows."""
    calls = [ToolCall("a", "f", {}), ToolCall("b", "g", {})]
    sent = contents(user("x"), assistant(tool_calls=calls), tool_result("b", "B"), tool_result("c", "C"), user("y"))
    told = responses(sent[2])
    assert [each["name"] for each in told] == ["f", "g"]
    assert "outcome unknown" in told[0]["response"]["error"]
    assert told[1]["response"] == {"output": "B"}
    assert "outcome unknown" in responses(contents(user("x"), assistant(tool_calls=calls))[2])[0]["response"]["error"]


def test_calls_without_an_id() -> None:
    """Scenario 69: parallel calls of one tool without ids, answered under ids that the caller made."""
    calls = [ToolCall(None, "f", {"n": 1}), ToolCall(None, "f", {"n": 2})]
    sent = contents(
        user("x"), assistant(tool_calls=calls), tool_result("m1", "A", name="f"), tool_result("m2", "B", name="f")
    )
    assert [each["response"] for each in responses(sent[2])] == [{"output": "A"}, {"output": "B"}]


def test_only_the_ids_of_the_model_go_back() -> None:
    """Our runtime gives an id to a call that has none; the model knows nothing of it."""
    _, reply = play(chunk(calling(id="theirs"), calling(), finish="STOP"))
    first, second = reply.message.tool_calls
    made = msgspec.structs.replace(second, id="call-1-1")
    message = msgspec.structs.replace(reply.message, parts=(first, made))
    sent = contents(user("x"), message, tool_result("theirs", "A"), tool_result("call-1-1", "B"))
    assert [part["functionCall"].get("id") for part in sent[1]["parts"]] == ["theirs", None]
    assert [each.get("id") for each in responses(sent[2])] == ["theirs", None]
    other = contents(user("x"), message, tool_result("theirs", "A"), tool_result("call-1-1", "B"), dialect=OLD)
    assert "id" not in json.dumps(other)


def test_a_name_that_nobody_accepts() -> None:
    """The model made it up; unmended, the conversation would be refused from here on."""
    sent = contents(user("x"), assistant(tool_calls=[ToolCall("a", "my tool", {})]), tool_result("a", "no such tool"))
    assert sent[1]["parts"][0]["functionCall"]["name"] == responses(sent[2])[0]["name"] == "my_tool"
    sent = contents(user("x"), assistant(tool_calls=[ToolCall("a", "", {}), ToolCall("b", "a.b:c", {})]))
    assert [each["name"] for each in responses(sent[2])] == ["unnamed", "a.b:c"]


def test_arguments_that_are_no_object() -> None:
    sent = contents(user("x"), assistant(tool_calls=[ToolCall("a", "f", None, "{x")]), tool_result("a", "bad"))
    assert sent[1]["parts"][0]["functionCall"]["args"] == {"invalid_arguments": "{x"}


def test_half_an_answer() -> None:
    """Text that was shown stays; thoughts and calls of it never were whole."""
    stamp = ProviderData("generate-content/gemini", MODEL)
    parts = (Thinking("t", "s"), Text("half", {"thoughtSignature": "s"}), ToolCall("c", "f", None, "{"))
    sent = contents(user("x"), Message("assistant", parts, True, stamp), user("go on"))
    assert sent[1] == {"role": "model", "parts": [{"text": "half"}]}
    assert len(sent) == 3


# Signatures.


def test_signed_parts_come_back_as_they_were() -> None:
    """Google wants each signature on the part that brought it; joining signed parts with others voids them."""
    received: list[dict[str, Any]] = [
        {"text": "first", "thought": True, "thoughtSignature": "s0"},
        {"text": "plain"},
        {"text": "signed", "thoughtSignature": "s1"},
        {"text": "plain again"},
        calling("f", "s2", id="i1"),
        calling("g", id="i2"),
        {"thoughtSignature": "s3", "toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "args": {}, "id": "q"}},
        {"toolResponse": {"toolType": "GOOGLE_SEARCH_WEB", "response": {"x": [1]}, "id": "q"}},
        {"text": "", "thought": True, "thoughtSignature": "s4"},
        {"text": "", "thoughtSignature": "s5"},
    ]
    for reply in (
        decode(chunk(*received, finish="STOP")),
        play(*[chunk(part) for part in received], chunk(finish="STOP"))[1],
    ):
        sent = contents(user("x"), reply.message, tool_result("i1", "A"), tool_result("i2", "B"), user("y"))
        assert sent[1]["parts"] == received
        assert reply.message.text == "plainsignedplain again"
        assert reply.message.thinking == "first"
        assert [item.kind for item in reply.message.server_items] == ["toolCall", "toolResponse", "text"]


def test_unsigned_text_is_joined() -> None:
    _, reply = play(
        chunk({"text": "a"}), chunk({"text": "b"}), chunk({"text": "", "thoughtSignature": "s"}, finish="STOP")
    )
    assert reply.message.parts == (Text("ab"), Text("", {"thoughtSignature": "s"}))


def test_a_signature_without_anything_else() -> None:
    _, reply = play(chunk({"text": "a"}), chunk({"thoughtSignature": "s"}), chunk({}, finish="STOP"))
    assert reply.message.parts == (Text("a"), Text("", {"thoughtSignature": "s"}))


@pytest.mark.parametrize(
    "dialect", [GeminiDialect("gemini-3-flash"), GeminiDialect(MODEL, vendor="vertex"), GeminiDialect("gemini-2.5-pro")]
)
def test_signatures_belong_to_the_model_that_minted_them(dialect: GeminiDialect) -> None:
    """Another model, and the same one elsewhere, refuses them; what anybody may read goes there all the same."""
    _, reply = play(
        chunk({"text": "t", "thought": True}, {"text": "hm", "thoughtSignature": "s1"}, calling("f", "s2", id="i")),
        chunk({"executableCode": {"code": "1"}}, finish="STOP"),
    )
    sent = contents(user("x"), reply.message, tool_result("i", "A"), dialect=dialect)
    call: dict[str, Any] = {"functionCall": {"name": "f", "args": {}}}
    if dialect.model != "gemini-2.5-pro":
        call["thoughtSignature"] = FOREIGN_SIGNATURE
    assert sent[1]["parts"] == [{"text": "hm"}, call]


def test_calls_from_elsewhere_are_marked_where_it_is_checked() -> None:
    """On the first call of each step of the current turn; the marker costs quality, so nowhere else."""

    def step(*ids: str) -> list[Message]:
        calls = [ToolCall(id, "f", {}) for id in ids]
        return [assistant(tool_calls=calls), *(tool_result(id, "done") for id in ids)]

    history = [user("x"), *step("a"), assistant("so"), user("y"), *step("b", "c"), *step("d")]

    def marks(dialect: GeminiDialect) -> list[str | None]:
        sent = contents(*history, dialect=dialect)
        return [part.get("thoughtSignature") for each in sent for part in each["parts"] if "functionCall" in part]

    assert marks(DIALECT) == [None, FOREIGN_SIGNATURE, None, FOREIGN_SIGNATURE]
    assert marks(GeminiDialect("gemini-flash-latest")) == [None, FOREIGN_SIGNATURE, None, FOREIGN_SIGNATURE]
    assert marks(OLD) == [None] * 4


def test_a_real_signature_is_never_replaced() -> None:
    _, reply = play(chunk(calling("f", "real", id="i"), finish="STOP"))
    sent = contents(user("x"), reply.message, tool_result("i", "A"))
    assert sent[1]["parts"][0]["thoughtSignature"] == "real"


def test_plain_answers_carry_no_stamp() -> None:
    assert play(chunk({"text": "x"}, calling(), finish="STOP"))[1].message.provider_data is None
    for part in (calling(id="i"), {"text": "x", "thoughtSignature": "s"}, {"inlineData": {"data": "AA=="}}):
        stamp = play(chunk(part, finish="STOP"))[1].message.provider_data
        assert stamp == ProviderData("generate-content/gemini", MODEL)


# Answers.


@pytest.mark.parametrize(
    ("raw", "ours"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("SPII", "content_filter"),
        ("IMAGE_SAFETY", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "error"),
        ("UNEXPECTED_TOOL_CALL", "error"),
        ("MISSING_THOUGHT_SIGNATURE", "error"),
        ("LANGUAGE", "error"),
        ("OTHER", "error"),
        ("SOMETHING_NEW", None),
    ],
)
def test_stop_reasons(raw: str, ours: str | None) -> None:
    for reply in (decode(chunk({"text": "x"}, finish=raw)), play(chunk({"text": "x"}), chunk(finish=raw))[1]):
        assert (reply.stop_reason, reply.stop_reason_raw) == (ours, raw)


def test_a_stop_with_calls_is_for_the_calls() -> None:
    assert decode(chunk(calling(), finish="STOP")).stop_reason == "tool_calls"
    assert decode(chunk(calling(), finish="MAX_TOKENS")).stop_reason == "length"
    seen, reply = play(chunk({"text": "hm"}, calling("f", args={"x": 1})), chunk({"text": ""}, finish="STOP"))
    assert reply.stop_reason == "tool_calls"
    assert seen == [TextDelta("hm"), ToolCallDelta(0, '{"x": 1}', None, "f")]


def test_a_blocked_prompt() -> None:
    body = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}, "modelVersion": "v"}
    for reply in (decode(body), play(body)[1]):
        assert (reply.stop_reason, reply.stop_reason_raw, reply.message.parts) == ("content_filter", None, ())
        assert reply.usage is not None
        assert reply.usage.input_tokens == 3


@pytest.mark.parametrize("content", [{}, {"content": {}}, {"content": {"role": "model"}}, {"content": None}])
def test_an_answer_without_content(content: dict[str, Any]) -> None:
    """All tokens were spent on thinking, or the answer was filtered."""
    body = {"candidates": [{**content, "finishReason": "MAX_TOKENS"}]}
    for reply in (decode(body), play(body)[1]):
        assert (reply.message.parts, reply.stop_reason) == ((), "length")


def test_a_call_without_a_name() -> None:
    """It runs no tool, and the conversation can go on."""
    message = decode(chunk({"functionCall": {"args": {}}}, finish="STOP")).message
    assert [(call.name, call.arguments) for call in message.tool_calls] == [("", {})]
    assert responses(contents(user("x"), message)[2])[0]["name"] == "unnamed"


def test_usage_grows_and_the_last_holds() -> None:
    last = {
        "promptTokenCount": 9,
        "candidatesTokenCount": 3,
        "totalTokenCount": 20,
        "cachedContentTokenCount": 4,
        "thoughtsTokenCount": 5,
        "toolUsePromptTokenCount": 3,
    }
    _, reply = play(
        chunk({"text": "x"}, usageMetadata={"promptTokenCount": 99}),
        chunk(finish="STOP", usageMetadata=last),
        {"candidates": []},
    )
    usage = reply.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (9, 3, 20)
    assert (usage.cached_input_tokens, usage.cache_write_tokens, usage.reasoning_tokens) == (4, None, 5)
    assert usage.raw == last
    late = play(chunk({"text": "x"}, finish="STOP"), {"usageMetadata": {"promptTokenCount": 1}})[1].usage
    assert late is not None
    assert (late.input_tokens, late.output_tokens) == (1, None)
    assert decode(chunk(finish="STOP")).usage is None


def test_thoughts() -> None:
    seen, reply = play(
        chunk({"text": "a", "thought": True}), chunk({"text": "b", "thought": True}, {"text": "c"}, finish="STOP")
    )
    assert seen == [ThinkingDelta("a"), ThinkingDelta("b"), TextDelta("c")]
    assert reply.message.parts == (Thinking("ab"), Text("c"))


def test_parts_of_other_kinds_are_kept_as_they_came() -> None:
    part = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}, "partMetadata": {"x": 1}, "novelty": None}
    body = chunk({"text": "look"}, part, finish="STOP")
    for reply in (decode(body), decode([body]), play(body)[1]):
        assert reply.message.parts == (Text("look"), ServerItem("inlineData", part))
        assert events_of(reply) == [TextDelta("look")]


@pytest.mark.parametrize("key", ["groundingMetadata", "citationMetadata", "urlContextMetadata"])
def test_sources_are_kept_beside_the_message(key: str) -> None:
    body = chunk({"text": "x"}, finish="STOP")
    body["candidates"][0][key] = {"webSearchQueries": ["q"]}
    message = play(chunk({"text": "y"}), body)[1].message
    assert message.provider_data is not None
    assert message.provider_data.items == {key: {"webSearchQueries": ["q"]}}
    assert contents(user("q"), message)[1]["parts"] == [{"text": "yx"}]


def test_other_candidates_are_passed_over() -> None:
    second = {"content": {"parts": [{"text": "second"}]}, "index": 1, "finishReason": "SAFETY"}
    body = chunk({"text": "first"}, finish="STOP")
    body["candidates"].append(second)
    assert (decode(body).message.text, decode(body).stop_reason) == ("first", "stop")


@pytest.mark.parametrize(
    ("args", "arguments", "raw"),
    [
        ({}, {}, "{}"),
        ({"args": None}, {}, "{}"),
        ({"args": {"a": "é"}}, {"a": "é"}, '{"a": "é"}'),
        ({"args": [1]}, None, "[1]"),
        ({"args": "x"}, None, '"x"'),
    ],
)
def test_arguments(args: dict[str, Any], arguments: Any, raw: str) -> None:
    part = {"functionCall": {"name": "f", **args}}
    call = decode(chunk(part, finish="STOP")).message.tool_calls[0]
    assert (call.id, call.name, call.arguments, call.raw) == (None, "f", arguments, raw)


@pytest.mark.parametrize("more", [{"willContinue": True}, {"partialArgs": [{"jsonPath": "$.a", "stringValue": "x"}]}])
def test_arguments_in_pieces_are_an_error_and_never_a_call(more: dict[str, Any]) -> None:
    with pytest.raises(BadResponse, match="streamFunctionCallArguments"):
        play(chunk({"functionCall": {"name": "f", **more}}), chunk({"functionCall": {}}, finish="STOP"))


# The end of a stream (scenario 87).


def test_no_finish_reason_is_an_interruption() -> None:
    parts = [
        {"text": "hm", "thought": True},
        {"text": "ha"},
        {"text": "lf", "thoughtSignature": "s"},
        calling("f", "s"),
    ]
    for clean in (True, False):
        with pytest.raises(StreamInterrupted) as caught:
            play(chunk(*parts, {"inlineData": {}}), chunk(finish="FINISH_REASON_UNSPECIFIED"), clean=clean)
        partial = caught.value.partial
        assert partial is not None
        assert partial == Message(
            "assistant", (Thinking("hm"), Text("ha"), Text("lf"), ToolCall(None, "f", None, "{}")), True
        )
    for nothing in ([], [{"promptFeedback": {"blockReason": None}}], [chunk(finish="")]):
        with pytest.raises(StreamInterrupted) as caught:
            play(*nothing)
        assert caught.value.partial is None


def test_what_is_left_of_a_stream_that_was_cut() -> None:
    signed = [{"text": "hm", "thought": True, "thoughtSignature": "s"}, {"text": "", "thoughtSignature": "s"}]
    for clean, words in ((True, "without a finish reason"), (False, "was cut")):
        with pytest.raises(StreamInterrupted, match=words) as caught:
            play(chunk(*signed), clean=clean)
        assert caught.value.partial == Message("assistant", (Thinking("hm"),), True)


def test_a_cut_behind_the_finish_reason_is_whole() -> None:
    assert play(chunk({"text": "x"}, finish="STOP"), clean=False)[1].stop_reason == "stop"


def test_an_array_of_chunks() -> None:
    """A server that streams without ``alt=sse``; an array without a finish reason was cut."""
    chunks = [chunk({"text": "a"}), chunk({"executableCode": {"code": "1"}}), chunk({"text": "b"}, finish="STOP")]
    reply = decode(chunks)
    assert reply == play(*chunks)[1] == play(chunks)[1]
    assert reply.message.parts == (
        Text("a"),
        ServerItem("executableCode", {"executableCode": {"code": "1"}}),
        Text("b"),
    )
    with pytest.raises(StreamInterrupted):
        decode(chunks[:2])
    with pytest.raises(Overloaded, match="busy"):
        decode([chunks[0], {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}, {}])


@pytest.mark.parametrize("body", [{}, {"name": "batches/1", "metadata": {"state": "BATCH_STATE_PENDING"}}])
def test_an_answer_that_says_nothing(body: dict[str, Any]) -> None:
    """What a batch answers with when it is begun."""
    reply = decode(body)
    assert (reply.message.parts, reply.stop_reason, reply.usage, reply.model) == ((), None, None, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b"<html>",
        b'{"choices": []}',
        b'{"hello": 1}',
        b'{"name": "x", "hello": 1}',
        b'{"done": true}',
        b'{"candidates": 1}',
        b"\xff",
        b"[" * 9999,
    ],
)
def test_a_body_of_somebody_else(body: bytes) -> None:
    """Scenario 91."""
    with pytest.raises(BadResponse, match="not one of Gemini") as caught:
        DIALECT.decode(body)
    assert len(str(caught.value)) < 800
    assert body or "an empty body" in str(caught.value)


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[" * 5000, b'{"candidates": 7}', b"null", b"hello"])
def test_a_malformed_event(data: bytes) -> None:
    decoder = DIALECT.decoder()
    (raw,) = SSEParser().feed(b"data: " + data + b"\n\n")
    with pytest.raises(BadResponse) as caught:
        decoder.feed(raw)
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize(
    "body", [{"promptFeedback": {}}, {"usageMetadata": {"promptTokenCount": 1}}, {"candidates": []}]
)
def test_an_answer_that_says_little(body: dict[str, Any]) -> None:
    assert decode(body).message.parts == ()


@pytest.mark.parametrize(
    "body",
    [
        {"candidates": 1, "error": {"code": 503, "message": "boom", "status": "UNAVAILABLE"}},
        {"message": "boom"},
        {"detail": "boom"},
        {"errors": ["boom"]},
    ],
)
def test_an_error_of_a_gateway(body: dict[str, Any]) -> None:
    """Scenario 86: in a 200, and in the shape of somebody else."""
    with pytest.raises(Overloaded, match="boom"):
        decode(body)


@pytest.mark.parametrize("error", [7, [], "", True, {}])
def test_an_error_of_any_shape(error: Any) -> None:
    """Scenario 91: it says nothing, and is an error all the same."""
    with pytest.raises(ProviderError) as caught:
        play(chunk({"text": "half"}), {"error": error})
    assert caught.value.partial is not None
    with pytest.raises(ProviderError):
        decode({"error": error})


def test_an_error_of_a_gateway_in_a_stream() -> None:
    with pytest.raises(Overloaded, match="boom") as caught:
        play(chunk({"text": "half"}), {"candidates": 1, "error": "boom"})
    assert caught.value.partial is not None


def test_the_first_name_of_the_model_and_the_answer_hold() -> None:
    _, reply = play(
        {**chunk({"text": "a"}), "modelVersion": "", "responseId": None},
        chunk({"text": "b"}),
        {**chunk(finish="STOP"), "modelVersion": "other", "responseId": "other"},
    )
    assert (reply.model, reply.response_id) == ("v", "r")
    assert decode({**chunk(finish="STOP"), "responseId": 7}).response_id == "7"


def test_the_marker_of_another_format_is_passed_over() -> None:
    decoder = DIALECT.decoder()
    for raw in SSEParser().feed(events(chunk({"text": "x"}, finish="STOP"), done=True)):
        decoder.feed(raw)
    assert decoder.finish(clean=True).message.text == "x"


# Errors.

OVERFLOW = "The input token count (1250074) exceeds the maximum number of tokens allowed (1048576)."
KEY_INVALID = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}, InvalidRequest),
        (400, {"code": 400, "message": "location", "status": "FAILED_PRECONDITION"}, InvalidRequest),
        (400, {"code": 400, "message": OVERFLOW, "status": "INVALID_ARGUMENT"}, ContextOverflow),
        (
            400,
            {"code": 400, "message": "Unable … because the input token count is 9 but model only supports up to 8."},
            ContextOverflow,
        ),
        (400, {"code": 400, "message": "API key not valid.", "details": [KEY_INVALID]}, AuthError),
        (401, {"code": 401, "message": "x", "status": "UNAUTHENTICATED"}, AuthError),
        (403, {"code": 403, "message": "x", "status": "PERMISSION_DENIED"}, AuthError),
        (404, {"code": 404, "message": "no such model", "status": "NOT_FOUND"}, InvalidRequest),
        (429, {"code": 429, "message": "x", "status": "RESOURCE_EXHAUSTED"}, RateLimited),
        (500, {"code": 500, "message": "x", "status": "INTERNAL"}, Overloaded),
        (503, {"code": 503, "message": "x", "status": "UNAVAILABLE"}, Overloaded),
        (504, {"code": 504, "message": "x", "status": "DEADLINE_EXCEEDED"}, Overloaded),
    ],
)
def test_the_class_of_an_error(status: int, error: dict[str, Any], kind: type[ProviderError]) -> None:
    """The same object, bare or in an array, with its status or inside a 200 (scenarios 84 to 86)."""
    for body in ({"error": error}, [{"error": error}]):
        data = json.dumps(body).encode()
        made = DIALECT.read_error(status, {}, data, now=0.0)
        assert (type(made), made.message, made.status) == (kind, error["message"], status)
        assert (made.code, made.error_type) == (str(status), error.get("status"))
        assert made.retryable is (kind in (RateLimited, Overloaded))
        with pytest.raises(kind) as caught:
            DIALECT.decode(data)
        assert type(caught.value) is kind
        with pytest.raises(kind) as caught:
            play(chunk({"text": "half"}), body)
        assert caught.value.partial is not None
        assert caught.value.partial.text == "half"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "x", "status": "RESOURCE_EXHAUSTED"}, RateLimited),
        ({"message": "x", "status": "UNAVAILABLE", "code": 14}, Overloaded),
        ({"message": "x", "status": "INVALID_ARGUMENT"}, InvalidRequest),
        ({"message": "x", "status": "UNAUTHENTICATED"}, AuthError),
    ],
)
def test_an_error_that_has_a_word_and_no_status(error: dict[str, Any], kind: type[ProviderError]) -> None:
    with pytest.raises(kind) as caught:
        decode({"error": error})
    assert type(caught.value) is kind


def test_a_call_that_the_provider_cancelled_may_be_tried_again() -> None:
    error = {"error": {"code": 499, "message": "The operation was cancelled.", "status": "CANCELLED"}}
    assert DIALECT.read_error(499, {}, json.dumps(error).encode(), now=0.0).retryable


def test_how_long_to_wait() -> None:
    """Scenario 84: the delay stands in the body."""
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}]
    error = {"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED", "details": details}}
    assert DIALECT.read_error(429, {}, json.dumps(error).encode(), now=0.0).retry_after == 34.5


@pytest.mark.parametrize("details", [7, [7], [{"reason": 7}], [{"reason": ["API_KEY_INVALID"]}], {"reason": "x"}])
def test_details_of_any_shape(details: Any) -> None:
    error = {"error": {"code": 400, "message": "x", "status": 7, "details": details}}
    assert type(DIALECT.read_error(400, {}, json.dumps(error).encode(), now=0.0)) is InvalidRequest


# Anything from the wire.

SAMPLES: list[Any] = [
    chunk({"text": "a", "thought": True}, {"text": "b", "thoughtSignature": "s"}, calling("f", "s", id="i")),
    chunk(
        {"executableCode": {"language": "PYTHON", "code": "1"}, "thoughtSignature": "s"}, calling("g", args={"x": [1]})
    ),
    chunk({"text": "c"}, finish="STOP", usageMetadata={"promptTokenCount": 1, "thoughtsTokenCount": 2}),
    {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {}},
    {"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "1s"}]}},
]
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def mutants(draw: st.DrawFn) -> Any:
    """A row of chunks in which some values are replaced by anything."""

    def mutated(value: Any) -> Any:
        if draw(st.integers(0, 11)) == 0:
            return draw(ANY)
        if isinstance(value, dict):
            held = cast("dict[str, Any]", value)
            return {key: mutated(each) for key, each in held.items() if draw(st.integers(0, 19))}
        if isinstance(value, list):
            return [mutated(each) for each in cast("list[Any]", value)]
        return value

    return [mutated(each) for each in draw(st.lists(st.sampled_from(SAMPLES), min_size=1, max_size=3))]


@given(mutants())
def test_mutated_answers_are_replies_or_typed_errors(chunks: list[Any]) -> None:
    """Scenario 91. A reply that was read can be written again."""
    for body in (chunks, chunks[0]):
        data = json.dumps(body).encode()
        DIALECT.read_error(500, {}, data, now=0.0)
        try:
            reply = DIALECT.decode(data)
        except ProviderError:
            continue
        encode(ModelRequest([user("x"), reply.message]))
    decoder = DIALECT.decoder()
    try:
        for raw in SSEParser().feed(events(*chunks, done=False)):
            decoder.feed(raw)
        decoder.finish(clean=True)
    except ProviderError:
        decoder.partial()


@given(st.binary(max_size=60))
def test_any_body_is_a_reply_or_a_typed_error(data: bytes) -> None:
    try:
        assert DIALECT.decode(data).message.parts == ()
    except ProviderError:
        pass
    DIALECT.read_error(500, {}, data, now=0.0)


def _part(kind: str, text: str) -> dict[str, Any]:
    made: dict[str, dict[str, Any]] = {
        "t": {"text": text},
        "T": {"text": text, "thought": True},
        "s": {"text": text, "thoughtSignature": "s"},
        "c": calling("f", "s", args={"x": text}),
        "x": {"executableCode": {"code": text}},
    }
    return made[kind]


@given(
    st.lists(
        st.tuples(st.sampled_from("tTscx"), st.text(st.sampled_from('aé\U0001f30d\u2028\r\n\\"'), max_size=5)),
        max_size=8,
    ),
    st.lists(st.integers(1, 60), min_size=1),
    st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_however_it_is_cut_the_reply_is_the_same(
    said: list[tuple[str, str]], sizes: list[int], splits: list[bool]
) -> None:
    """Scenario 90: the parts of an answer whole, over chunks, and over bytes."""
    parts = [_part(kind, text) for kind, text in said]
    groups: list[list[Any]] = [[]]
    for part, split in zip(parts, splits, strict=False):
        if split:
            groups.append([])
        groups[-1].append(part)
    chunks = [chunk(*group) for group in groups]
    chunks[-1]["candidates"][0]["finishReason"] = "STOP"
    data = b"".join(b"data: " + json.dumps(each, ensure_ascii=False).encode() + b"\n\n" for each in chunks)
    whole = decode(chunk(*parts, finish="STOP"))
    decoder, parser, seen, position = DIALECT.decoder(), SSEParser(), list[ModelEvent](), 0
    while position < len(data):
        size = sizes[position % len(sizes)]
        for raw in parser.feed(data[position : position + size]):
            seen += decoder.feed(raw)
        position += size
    assert decoder.finish(clean=True) == whole == decode(chunks)
    assert "".join(each.text for each in seen if isinstance(each, TextDelta)) == whole.message.text
    assert "".join(each.text for each in seen if isinstance(each, ThinkingDelta)) == (whole.message.thinking or "")
    assert [each.index for each in seen if isinstance(each, ToolCallDelta)] == list(
        range(len(whole.message.tool_calls))
    )


# Over loopback.

KEY = "AIza-secret-of-the-test"
ANSWER = chunk({"text": "hello"}, finish="STOP")
HELLO = ModelRequest([user("x")])


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.anyio
async def test_the_key_has_a_header_of_its_own() -> None:
    async with serve(json_answer(ANSWER)) as server:
        reply = await Gemini(MODEL, base_url=server.url + "/v1beta/models/", api_key=KEY).complete(HELLO)
    assert reply.message.text == "hello"
    (seen,) = server.requests
    assert seen.target == f"/v1beta/models/{MODEL}:generateContent"
    assert seen.headers["x-goog-api-key"] == KEY
    assert "authorization" not in seen.headers


@pytest.mark.anyio
async def test_a_stream() -> None:
    async with serve(
        sse_answer(events(chunk({"text": "hel"}), chunk({"text": "lo"}, finish="STOP"), done=False))
    ) as server:
        async with Gemini(MODEL, base_url=server.url, api_key=KEY).stream(HELLO) as stream:
            seen = [event async for event in stream]
        assert seen == [TextDelta("hel"), TextDelta("lo")]
        assert stream.reply.stop_reason == "stop"
    assert server.requests[0].target == f"/models/{MODEL}:streamGenerateContent?alt=sse"


@pytest.mark.anyio
async def test_a_stream_that_is_an_array() -> None:
    answer = json_answer([chunk({"text": "hel"}), chunk({"text": "lo"}, finish="STOP")])
    async with serve(answer) as server, Gemini(MODEL, base_url=server.url, api_key=KEY).stream(HELLO) as stream:
        assert [event async for event in stream] == [TextDelta("hello")]


@pytest.mark.anyio
async def test_a_wrong_key_is_told_by_its_variable(no_keys: pytest.MonkeyPatch) -> None:
    """Scenario 85: the variable is named, the key never is."""
    error = {
        "code": 400,
        "message": f"API key {KEY} not valid.",
        "status": "INVALID_ARGUMENT",
        "details": [KEY_INVALID],
    }
    no_keys.setenv("MY_KEY", KEY)
    async with serve(json_answer({"error": error}, 400)) as server:
        with pytest.raises(AuthError, match="MY_KEY") as caught:
            await Gemini(MODEL, base_url=server.url, key_variable="MY_KEY").complete(HELLO)
    assert KEY not in str(caught.value) + repr(caught.value)
    assert not caught.value.retryable


@pytest.mark.anyio
async def test_a_missing_key_names_both_variables(no_keys: pytest.MonkeyPatch) -> None:
    with pytest.raises(AuthError, match="set GEMINI_API_KEY or GOOGLE_API_KEY or pass api_key="):
        await Gemini(MODEL).complete(HELLO)


def keys_of(provider: Gemini) -> str | None:
    headers = dict(provider._headers())  # pyright: ignore[reportPrivateUsage]
    return headers[b"x-goog-api-key"].decode()


def test_where_the_key_is_looked_for(no_keys: pytest.MonkeyPatch) -> None:
    no_keys.setenv("GOOGLE_API_KEY", "second-key")
    assert keys_of(Gemini(MODEL)) == "second-key"
    no_keys.setenv("GEMINI_API_KEY", "first-key")
    assert keys_of(Gemini(MODEL)) == "first-key"
    assert keys_of(Gemini(MODEL, api_key="third-key")) == "third-key"


@pytest.mark.anyio
async def test_vertex_is_signed_and_has_its_own_path() -> None:
    asked: list[UnsignedRequest] = []

    def signer(request: UnsignedRequest) -> dict[str, str]:
        asked.append(request)
        return {"Authorization": "Bearer token-of-the-hour"}

    async with serve(json_answer(ANSWER)) as server:
        vertex = Vertex(MODEL, project="p", location="europe-west4", base_url=server.url + "/v1", signer=signer)
        assert (await vertex.complete(HELLO)).message.text == "hello"
    (seen,) = server.requests
    path = f"/v1/projects/p/locations/europe-west4/publishers/google/models/{MODEL}:generateContent"
    assert seen.target == path
    assert seen.headers["authorization"] == "Bearer token-of-the-hour"
    assert "x-goog-api-key" not in seen.headers
    assert asked[0].url == server.url + path


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("global", "aiplatform.googleapis.com"),
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_hosts_of_vertex(location: str, host: str) -> None:
    assert Vertex(MODEL, project="p", location=location, api_key="k").base_url == f"https://{host}/v1"


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-3-flash", "/projects/p/locations/global/publishers/google/models/gemini-3-flash"),
        ("endpoints/12", "/projects/p/locations/global/endpoints/12"),
        ("publishers/google/models/g", "/projects/p/locations/global/publishers/google/models/g"),
        ("projects/q/locations/us/endpoints/1", "/projects/q/locations/us/endpoints/1"),
    ],
)
@pytest.mark.anyio
async def test_names_of_models_on_vertex(model: str, path: str) -> None:
    async with serve(json_answer(ANSWER)) as server:
        await Vertex(model, project="p", base_url=server.url, api_key="k").complete(HELLO)
    assert server.requests[0].target == f"{path}:generateContent"


def test_arguments_that_have_no_meaning() -> None:
    with pytest.raises(ValueError, match=r"Vertex needs signer="):
        Vertex(MODEL, project="p")
    with pytest.raises(ValueError, match=r"Vertex\(project=\) must be"):
        Vertex(MODEL, project=" ", api_key="k")
    for location in ("evil.example/", "evil.example#", "Europe", "a b"):
        with pytest.raises(ValueError, match=r"Vertex\(location=\) must be a location"):
            Vertex(MODEL, project="p", location=location, api_key="k")
    for name in ("../../x", "x/../y", ".."):
        with pytest.raises(ValueError, match="lead elsewhere"):
            Gemini(name)
    with pytest.raises(ValueError, match=r"like 'gemini-3\.8-flash'"):
        Gemini(" ")
    with pytest.raises(TypeError, match=r"like 'gemini-3\.8-flash'"):
        Vertex(cast("Any", 7), project="p")
    assert Vertex(MODEL, project="p", headers={"Authorization": "Bearer x"}).name == "vertex"


def test_a_picture_goes_as_it_is() -> None:
    picture = bytes(range(256))
    sent = contents(user(image(picture, media_type="image/png")))[0]["parts"][0]["inlineData"]["data"]
    assert base64.b64decode(sent) == picture
