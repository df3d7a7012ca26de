"""The strict fake of Gemini: it refuses what Gemini refuses, and takes what our dialect sends. Without sockets."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from greenroom.providers import (
    AuthError,
    InvalidRequest,
    Message,
    ModelReply,
    ModelRequest,
    ProviderData,
    ServerItem,
    Text,
    Thinking,
    ToolCall,
    ToolSpec,
    assistant,
    image,
    system,
    tool_result,
    user,
)
from greenroom.providers.dialects.gemini import GeminiDialect
from greenroom.providers.framing.sse import SSEParser
from greenroom.testing.fakes.format import Refused, Said
from greenroom.testing.fakes.gemini import GeminiFormat

MODEL = "gemini-3.6-flash"
TARGET = f"/v1beta/models/{MODEL}:generateContent"
HEADERS = {"x-goog-api-key": GeminiFormat.key}
TOOLS = [
    ToolSpec("f", "does", {"type": "object", "properties": {"a": {"const": 1}}}),
    ToolSpec("g", "", {"type": "object"}),
]


class Wire:
    """A dialect and a format with nothing between them."""

    def __init__(self, model: str = MODEL, *, stream: bool = False, format: GeminiFormat | None = None) -> None:
        self.dialect = GeminiDialect(model)
        self.format = format or GeminiFormat()
        self.stream = stream
        self.body: Any = None

    def ask(self, messages: list[Message], said: Said | None = None, **more: Any) -> ModelReply:
        encoded = self.dialect.encode(ModelRequest(messages, tools=TOOLS, **more), stream=self.stream)
        self.body, target = json.loads(encoded.body), "/v1beta" + encoded.path
        refused = self.format.refuse(target, HEADERS, self.body)
        assert refused is None, refused
        assert self.format.wants_stream(target, self.body) is self.stream
        said = said or Said("done")
        if not self.stream:
            return self.dialect.decode(self.format.answer(said, self.body))
        decoder, parser = self.dialect.decoder(), SSEParser()
        for event in parser.feed(b"".join(self.format.stream(said, self.body))):
            decoder.feed(event)
        return decoder.finish(clean=True)


def calls(*names: str, **arguments: Any) -> Said:
    return Said("let me see", [ToolCall(None, name, arguments) for name in names], "hm, let me think", (7, 3))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("model", [MODEL, "gemini-2.5-flash", "gemini-flash-latest"])
def test_a_conversation_of_several_turns(model: str, ids: bool, stream: bool) -> None:
    """What is minted goes back, over two steps, a pause for the user and another step."""
    wire = Wire(model, stream=stream, format=GeminiFormat(ids=ids))
    settings = {"reasoning_effort": "low"}
    messages = [user("x")]
    for said in (calls("f", "g", a=1), calls("f", a=1)):
        reply = wire.ask(messages, said, instructions="be brief", settings=settings)
        assert (reply.message.text, reply.message.thinking) == ("let me see", "hm, let me think")
        assert [call.name for call in reply.message.tool_calls] == [call.name for call in said.tool_calls]
        assert all((call.id is not None) is ids for call in reply.message.tool_calls)
        assert (reply.stop_reason, reply.model) == ("tool_calls", model)
        assert reply.usage is not None
        assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.reasoning_tokens) == (7, 3, 4)
        messages += [reply.message]
        messages += [tool_result(call.id or "made-up", "done", name=call.name) for call in reply.message.tool_calls]
    reply = wire.ask(messages, Said("the end"), settings=settings)
    assert (reply.message.text, reply.message.thinking, reply.stop_reason) == ("the end", None, "stop")
    messages += [reply.message, user("again")]
    messages.append(wire.ask(messages, calls("g")).message)
    assert messages[-1].thinking is None
    messages.append(tool_result(messages[-1].tool_calls[0].id or "", "no", is_error=True))
    assert wire.ask(messages, settings=settings).message.text == "done"


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_that_began_elsewhere(stream: bool) -> None:
    """Scenario 92: another model, another vendor and half an answer have left their traces."""
    format = GeminiFormat()
    old = Wire("gemini-2.5-flash", stream=stream, format=format).ask([user("x")], calls("f", a=1)).message
    other = Message(
        "assistant",
        (
            Thinking("t", "sig"),
            ServerItem("reasoning", {"x": 1}),
            Text("so", {"id": "m"}),
            ToolCall("c|1", "bad name", None, "{"),
        ),
        False,
        ProviderData("responses", "gpt", {"x": 1}),
    )
    history = [
        assistant("hello"),
        system("s"),
        user("", image(b"x", media_type="image/png")),
        old,
        tool_result(old.tool_calls[0].id or "", "done"),
        other,
        tool_result("c|1", "bad arguments", is_error=True),
        tool_result("nobody", "asked"),
        Message("assistant", (Thinking("t"), Text("hal")), True),
        assistant(""),
        user("go on"),
        user(""),
        assistant(tool_calls=[ToolCall("a", "f", {}), ToolCall("b", "f", {})]),
        tool_result("b", "B"),
    ]
    for model in (MODEL, "gemini-2.5-flash", "gemini-3-pro"):
        wire = Wire(model, stream=stream, format=format)
        assert wire.ask(history).message.text == "done"
        assert wire.ask([*history, user("y")]).message.text == "done"


def test_every_setting_is_taken() -> None:
    settings = {"temperature": 0, "top_p": 1, "max_tokens": 5, "stop": ["x"], "seed": 1, "reasoning_effort": "high"}
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/A", "title": "t"}}, "$defs": {"A": {"const": 1}}}
    for model in (MODEL, "gemini-2.5-flash"):
        for choice in ("auto", "none", "required", "f"):
            Wire(model).ask([user("x")], settings={**settings, "tool_choice": choice}, output_schema=schema)


# What is refused.

FC: dict[str, Any] = {"functionCall": {"name": "f", "args": {}}}
MARKED = {**FC, "thoughtSignature": "skip_thought_signature_validator"}
FR: dict[str, Any] = {"functionResponse": {"name": "f", "response": {"output": "x"}}}


def said_by(role: str | None, *parts: Any) -> dict[str, Any]:
    return {"parts": list(parts)} if role is None else {"role": role, "parts": list(parts)}


USER = said_by("user", {"text": "x"})
TOOL = {"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object"}}]}


def refusal(body: Any, target: str = TARGET) -> str | None:
    refused = GeminiFormat().refuse(target, HEADERS, body)
    if refused is None:
        return None
    error = refused.body["error"]
    assert (refused.status, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    made = GeminiDialect(MODEL).read_error(refused.status, {}, json.dumps(refused.body).encode(), now=0.0)
    assert type(made) is InvalidRequest
    return made.message


@pytest.mark.parametrize(
    "given",
    [
        [USER],
        [said_by(None, {"text": "x"})],
        [USER, USER],
        [USER, said_by("model", MARKED), said_by("user", FR), said_by("model", {"text": "y"}), USER],
        [USER, said_by("model", FC), said_by("user", FR), USER],
        [USER, said_by("model", MARKED, FC), said_by("user", FR, FR), said_by("model", MARKED), said_by("user", FR)],
        [said_by("user", {"inline_data": {"mime_type": "image/png", "data": "AA=="}})],
    ],
)
def test_what_is_taken(given: list[Any]) -> None:
    assert refusal({"contents": given}) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "contents is not specified"),
        ([said_by("assistant", {"text": "x"})], "Please use a valid role: user, model."),
        ([said_by("function", {"text": "x"})], "Please use a valid role"),
        ([{"role": "user"}], "contents[0].parts: contents.parts must not be empty."),
        ([USER, said_by("model")], "contents[1].parts: contents.parts must not be empty."),
        ([said_by("user", {})], "contents[0].parts[0].data: required oneof field 'data'"),
        ([said_by("user", {"text": ""})], "required oneof field 'data'"),
        ([said_by("user", {"text": "x", "inlineData": {"mimeType": "a"}})], "oneof field 'data' is already set"),
        ([said_by("user", {"inlineData": {"data": "AA=="}})], "has no mimeType"),
        (
            [said_by("user", {"text": "x", "id": "i"})],
            "Unknown name \"id\" at 'contents[0].parts[0]': Cannot find field.",
        ),
        ([said_by("user", {"text": 5})], "Invalid value at 'contents[0].parts[0].text' (TYPE_STRING), 5"),
        ([{**USER, "content": "x"}], "Unknown name \"content\" at 'contents[0]'"),
        (["x"], "Invalid value at 'contents[0]'"),
        ([USER, said_by("model", {"functionCall": {"name": "f", "args": "{}"}}), USER], "function_call.args'"),
        ([USER, said_by("model", {"functionCall": {"args": {}}}), USER], "function_call.name: Name cannot be empty"),
        ([USER, said_by("model", MARKED)], "number of function response parts is equal"),
        ([USER, said_by("model", MARKED, FC), said_by("user", FR)], "number of function response parts is equal"),
        ([USER, said_by("model", MARKED), said_by("user", FR, FR)], "number of function response parts is equal"),
        ([USER, said_by("model", MARKED), USER, said_by("user", FR)], "number of function response parts is equal"),
        ([USER, said_by("user", FR)], "function response turn comes immediately after a function call turn"),
        ([said_by("model", MARKED), said_by("user", FR)], "function call turn comes immediately after a user turn"),
        ([USER, said_by("model", {"text": "x"}), said_by("model", MARKED), said_by("user", FR)], "function call turn"),
        ([said_by("user", FC), said_by("user", FR)], "of role model"),
        (
            [USER, said_by("model", MARKED), said_by("user", {"functionResponse": {"name": "g", "response": {}}})],
            "does not answer",
        ),
        (
            [
                USER,
                said_by("model", MARKED),
                said_by("user", {"functionResponse": {"name": "f", "id": "i", "response": {}}}),
            ],
            "does not answer",
        ),
        ([USER, said_by("model", FC), said_by("user", FR)], "missing a thought_signature in functionCall parts"),
        ([USER, said_by("model", FC, MARKED), said_by("user", FR, FR)], "call `default_api:f` , position 2"),
        (
            [USER, said_by("model", MARKED), said_by("user", FR), said_by("model", FC), said_by("user", FR)],
            "position 4",
        ),
        (
            [USER, said_by("model", {**FC, "thoughtSignature": "c2ln"}), said_by("user", FR)],
            "Corrupted thought signature",
        ),
        ([USER, said_by("model", {"text": "x", "thoughtSignature": "c2ln"}), USER], "Corrupted thought signature"),
    ],
)
def test_conversations_that_are_refused(given: list[Any], words: str) -> None:
    assert words in (refusal({"contents": given}) or "")


REFUSED_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, 'Unknown name "messages": Cannot find field.'),
    ({"stream": True}, 'Unknown name "stream"'),
    ({"generationConfig": {"max_tokens": 5}}, "Unknown name \"max_tokens\" at 'generation_config'"),
    ({"generationConfig": {"maxOutputTokens": "5"}}, "Invalid value at 'generation_config.max_output_tokens'"),
    ({"generationConfig": {"maxOutputTokens": 0}}, "max_output_tokens must be positive"),
    ({"generationConfig": {"temperature": 3}}, "has a temperature value of 3"),
    ({"generationConfig": {"stopSequences": list("abcdef")}}, "stop_sequences"),
    ({"generationConfig": {"responseJsonSchema": {}}}, "only allowed with application/json"),
    (
        {"generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW", "thinkingBudget": 1}}},
        "only set only one of thinking budget and thinking level",
    ),
    ({"generationConfig": {"thinkingConfig": {"thinkingLevel": "XHIGH"}}}, "thinking_level"),
    ({"systemInstruction": {"parts": []}}, "system_instruction.parts"),
    ({"systemInstruction": {"parts": [{"inlineData": {"mimeType": "a", "data": ""}}]}}, "only text"),
    ({"tools": [{"functionDeclarations": [{"name": "my tool"}]}]}, "Invalid function name"),
    ({"tools": [TOOL, TOOL]}, "Duplicate function declaration found: f"),
    ({"tools": [{"functionDeclarations": [{"name": "f", "strict": True}]}]}, 'Unknown name "strict"'),
    (
        {"tools": [{"functionDeclarations": [{"name": "f", "parameters": {}, "parametersJsonSchema": {}}]}]},
        "must not both be set",
    ),
    (
        {"tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object", "const": 1}}]}]},
        "const is not supported",
    ),
    ({"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}, "without function_declarations"),
    ({"tools": [TOOL], "toolConfig": {"functionCallingConfig": {"mode": "any"}}}, "Invalid value at"),
    (
        {"tools": [TOOL], "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["g"]}}},
        "g is not among",
    ),
    (
        {"tools": [TOOL], "toolConfig": {"functionCallingConfig": {"allowedFunctionNames": ["f"]}}},
        "must only be set when",
    ),
]


@pytest.mark.parametrize(("more", "words"), REFUSED_SETTINGS)
def test_settings_that_are_refused(more: dict[str, Any], words: str) -> None:
    assert words in (refusal({"contents": [USER], **more}) or "")


def test_what_an_old_model_refuses() -> None:
    target = TARGET.replace(MODEL, "gemini-2.5-flash")
    unsigned = [USER, said_by("model", FC), said_by("user", FR)]
    assert refusal({"contents": unsigned}, target) is None
    wanted = {"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}}
    assert refusal({"contents": [USER], "generationConfig": wanted}, target) is None
    both = {"contents": [USER], "tools": [TOOL], "generationConfig": wanted}
    assert "is unsupported" in (refusal(both, target) or "")
    assert refusal(both) is None
    level = {"thinkingConfig": {"thinkingLevel": "LOW"}}
    assert "not supported for this model" in (refusal({"contents": [USER], "generationConfig": level}, target) or "")


def refused(target: str = TARGET, headers: dict[str, str] = HEADERS) -> Refused:
    found = GeminiFormat().refuse(target, headers, {"contents": [USER]})
    assert found is not None
    return found


def test_keys_and_paths() -> None:
    for headers, status in (({}, 403), ({"authorization": "Bearer x"}, 403), ({"x-goog-api-key": "wrong"}, 400)):
        found = refused(headers=headers)
        made = GeminiDialect(MODEL).read_error(found.status, {}, json.dumps(found.body).encode(), now=0.0)
        assert (type(made), made.status) == (AuthError, status)
    assert refused("/v1/chat/completions").status == 404
    assert refused(f"/v1beta/models/{MODEL}:streamGenerateContent").status == 400


def _other_arguments(call: dict[str, Any], response: dict[str, Any]) -> None:
    call["functionCall"]["args"] = {"a": 2}


def _other_signature(call: dict[str, Any], response: dict[str, Any]) -> None:
    call["thoughtSignature"] += "x"


def _no_id(call: dict[str, Any], response: dict[str, Any]) -> None:
    del call["functionCall"]["id"], response["functionResponse"]["id"]


@pytest.mark.parametrize("change", [_other_arguments, _other_signature, _no_id])
def test_what_was_signed_comes_back_as_it_was(change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    wire = Wire()
    call = wire.ask([user("x")], Said(tool_calls=[ToolCall(None, "f", {"a": 1})])).message
    wire.ask([user("x"), call, tool_result(call.tool_calls[0].id or "", "done")])
    changed = copy.deepcopy(wire.body)
    change(changed["contents"][1]["parts"][0], changed["contents"][2]["parts"][0])
    for target, body in ((TARGET, changed), (TARGET.replace(MODEL, "gemini-3-pro"), wire.body)):
        found = wire.format.refuse(target, HEADERS, body)
        assert found is not None
        assert found.body["error"]["message"] == "Corrupted thought signature."
    assert wire.format.refuse(TARGET, HEADERS, wire.body) is None


def test_thoughts_show_only_where_they_are_asked_for() -> None:
    assert Wire().ask([user("x")], Said("a", thinking="hm")).message.thinking is None
    asked = {"reasoning_effort": "low"}
    assert Wire().ask([user("x")], Said("a", thinking="hm"), settings=asked).message.thinking == "hm"


def test_an_answer_that_says_nothing() -> None:
    for stream in (False, True):
        assert Wire(stream=stream).ask([user("x")], Said()).message.text == ""
