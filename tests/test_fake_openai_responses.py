"""The strict fake of the Responses API: what it refuses, and conversations of our dialect with it, without sockets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.agents.history import repaired
from greenroom.providers import (
    Message,
    ModelReply,
    ModelRequest,
    ServerItem,
    Thinking,
    ToolCall,
    ToolSpec,
    call,
    tool_result,
    user,
)
from greenroom.providers.dialects.openai_responses import ResponsesDialect
from greenroom.providers.framing.sse import SSEParser
from greenroom.testing.fakes.format import Said
from greenroom.testing.fakes.openai_responses import OpenAIResponsesFormat

TARGET = "/v1/responses"
HEADERS = {"authorization": f"Bearer {OpenAIResponsesFormat.key}"}
DIALECT = ResponsesDialect("gpt-5-mini")
TOOLS = [ToolSpec("weather", "", {"type": "object", "properties": {"city": {"type": "string"}}})]
TURN = Said("Let me look.", [call("weather", city="Oslo"), call("weather", city="Rome")], "Rain, I think.")


def body(request: ModelRequest, *, stream: bool = False, dialect: ResponsesDialect = DIALECT) -> dict[str, Any]:
    return json.loads(dialect.encode(request, stream=stream).body)


def ask(
    fake: OpenAIResponsesFormat,
    said: Said,
    messages: Sequence[Any],
    *,
    stream: bool = False,
    dialect: ResponsesDialect = DIALECT,
    **settings: Any,
) -> ModelReply:
    """One turn; the request must not be refused."""
    encoded = body(ModelRequest(messages, tools=TOOLS, settings=settings), stream=stream, dialect=dialect)
    assert fake.refuse(TARGET, HEADERS, encoded) is None
    assert fake.wants_stream(TARGET, encoded) is stream
    if not stream:
        return dialect.decode(fake.answer(said, encoded))
    decoder, parser = dialect.decoder(), SSEParser()
    for piece in fake.stream(said, encoded):
        (event,) = parser.feed(piece)
        decoder.feed(event)
    assert decoder.done
    return decoder.finish(clean=True)


def results(message: Message) -> list[Message]:
    return [tool_result(each.id or "", "rain") for each in message.tool_calls]


def refusal(encoded: Any, target: str = TARGET, headers: dict[str, str] = HEADERS) -> tuple[int, dict[str, Any]]:
    refused = OpenAIResponsesFormat().refuse(target, headers, encoded)
    assert refused is not None
    return refused.status, refused.body["error"]


# Conversations.


@pytest.mark.parametrize("settings", [{}, {"reasoning_effort": "low"}], ids=["hidden", "summarised"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation(stream: bool, settings: dict[str, Any]) -> None:
    """Reasoning comes back with the items it belongs to, over several turns, whole or streamed."""
    fake = OpenAIResponsesFormat()
    messages: list[Message] = [user("Weather?")]
    script = [
        TURN,
        Said("", [call("weather", city="Bonn")], "One more."),
        Said("Rain.", thinking="Done."),
        Said("Yes."),
    ]
    for said in script:
        reply = ask(fake, said, messages, stream=stream, **settings)
        assert (reply.message.text, reply.stop_reason) == (said.text, "tool_calls" if said.tool_calls else "stop")
        assert [each.name for each in reply.message.tool_calls] == [each.name for each in said.tool_calls]
        assert reply.message.thinking == ((said.thinking or None) if settings else None)
        assert reply.usage is not None
        assert reply.usage.total_tokens == 15 + len(said.thinking) // 4
        messages += [reply.message, *results(reply.message), user("and now?")]
    items = body(ModelRequest(messages))["input"]
    assert [item["type"] for item in items if "encrypted_content" in item] == ["reasoning"] * 3
    assert [item["phase"] for item in items if "phase" in item] == ["commentary", "final_answer", "final_answer"]


def test_a_model_that_does_not_reason() -> None:
    """It is asked for no reasoning, and makes none."""
    dialect = ResponsesDialect("gpt-4o")
    fake = OpenAIResponsesFormat()
    reply = ask(fake, TURN, [user("x")], dialect=dialect)
    assert [type(part).__name__ for part in reply.message.parts] == ["Text", "ToolCall", "ToolCall"]
    ask(fake, Said("Rain."), [user("x"), reply.message, *results(reply.message)], dialect=dialect)


def test_any_fake_knows_what_another_minted() -> None:
    """As every machine of the provider does; and no two mint the same."""
    here, there = OpenAIResponsesFormat(), OpenAIResponsesFormat()
    first = ask(here, Said("a", thinking="hm"), [user("x")])
    second = ask(there, Said("b", thinking="hm"), [user("x"), first.message, user("y")])
    ask(here, Said("c"), [user("x"), first.message, user("y"), second.message, user("z")])
    again = ask(here, Said("a", thinking="hm"), [user("x")])
    assert again.response_id != first.response_id


SAIDS = st.builds(
    Said,
    st.sampled_from(["", "Text."]),
    st.lists(
        st.sampled_from([call("weather", city="Oslo"), call("fly"), ToolCall(None, "f", None, "{oops")]), max_size=2
    ),
    st.sampled_from(["", "Thought."]),
)


@given(st.lists(SAIDS, min_size=1, max_size=4), st.booleans(), st.data())
def test_whatever_a_conversation_lost_it_is_accepted(script: list[Said], summarised: bool, data: st.DataObject) -> None:
    """Parts and messages may be dropped, edited, repeated or marked as cut: no half of a pair is ever sent."""
    fake = OpenAIResponsesFormat()
    settings: dict[str, Any] = {"reasoning_effort": "low"} if summarised else {}
    messages: list[Message] = [user("Weather?")]
    for said in script:
        reply = ask(fake, said, messages, **settings)
        messages += [reply.message, *results(reply.message)]
    lost: list[Message] = []
    for message in messages:
        keep = data.draw(st.lists(st.booleans(), min_size=len(message.parts), max_size=len(message.parts)))
        parts = tuple(
            [part for part, kept in zip(message.parts, keep, strict=True) if kept or data.draw(st.booleans())]
        )
        if message.role == "assistant":
            partial = data.draw(st.sampled_from([False, False, True]))
            message = msgspec.structs.replace(message, parts=parts, partial=partial)
        lost += [message] * data.draw(st.sampled_from([1, 1, 1, 2, 0]))
    ask(fake, Said("Fine."), [*repaired(lost), user("and now?")], **settings)


# What it refuses.


def kept(*places: int, stream: bool = False) -> tuple[OpenAIResponsesFormat, list[dict[str, Any]]]:
    """The input of a second turn, and of that the items at these places."""
    fake = OpenAIResponsesFormat()
    first = ask(fake, TURN, [user("x")], stream=stream)
    items = body(ModelRequest([user("x"), first.message, *results(first.message)]))["input"]
    assert [item.get("type") for item in items] == [
        *(None, "reasoning", "message", "function_call", "function_call", "function_call_output"),
        "function_call_output",
    ]
    return fake, [items[place] for place in places] or items


def plain(*items: Any, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-5-mini", "input": list(items), "store": False, **more}


MESSAGE = {"role": "user", "content": "x"}


def test_the_rules_of_reasoning() -> None:
    """Both directions of the pairing, and what cannot be known."""
    _, (question, reasoning, message, first, second, *answers) = kept()
    pairs: list[tuple[list[dict[str, Any]], str]] = [
        ([question, reasoning], "was provided without its required following item"),
        ([question, reasoning, question, message], "was provided without its required following item"),
        ([question, message, first, second, *answers], "'message' was provided without its required 'reasoning' item"),
        ([question, first, second, *answers], "'function_call' was provided without its required 'reasoning' item"),
        ([question, reasoning, message, question, first, second, *answers], "required 'reasoning' item: 'rs_"),
        ([question, {**reasoning, "encrypted_content": reasoning["encrypted_content"][:-8] + "AAAAAAA="}], "verified"),
        ([question, {**reasoning, "encrypted_content": "gAAAAA"}, message], "could not be verified"),
        ([question, {**reasoning, "id": message["id"].replace("msg", "rs")}, message], "not found"),
        ([question, {"type": "reasoning", "id": reasoning["id"], "summary": []}, message], "Items are not persisted"),
        ([question, {**reasoning, "id": "rs_1"}, message], "Item with id 'rs_1' not found"),
        ([question, {key: reasoning[key] for key in ("type", "encrypted_content")}, message], "input.1..summary"),
        ([question, {**reasoning, "status": "done", "text": ""}, message], "Unknown parameter: 'input.1..text'"),
    ]
    for items, words in pairs:
        status, error = refusal(plain(*items))
        assert (status, error["type"]) == (404 if "not found" in error["message"] else 400, "invalid_request_error")
        with pytest.raises(AssertionError, match=words):
            raise AssertionError(error["message"])
    fake = OpenAIResponsesFormat()
    bare = [{key: value for key, value in item.items() if key != "id"} for item in (message, first, second)]
    whole = [question, reasoning, message, first, second, *answers]
    for accepted in (whole, [question, *bare, *answers], [question, reasoning, *bare, *answers]):
        assert fake.refuse(TARGET, HEADERS, plain(*accepted)) is None
    other = {**plain(question, reasoning, message), "model": "gpt-4o"}
    assert "only be provided to a reasoning" in refusal(other)[1]["message"]


def test_reasoning_is_encrypted_anew_each_time() -> None:
    """What the end of a stream tells differs from what its item told, and either goes back."""
    fake = OpenAIResponsesFormat()
    encoded = body(ModelRequest([user("x")]), stream=True)
    stream = [json.loads(piece.split(b"data: ")[1]) for piece in fake.stream(Said("a", thinking="hm"), encoded)]
    told = next(event["item"] for event in stream if event["type"] == "response.output_item.done")
    ended = stream[-1]["response"]["output"]
    assert told["encrypted_content"] != ended[0]["encrypted_content"]
    for reasoning in (told, ended[0]):
        assert fake.refuse(TARGET, HEADERS, plain(MESSAGE, reasoning, ended[1])) is None
    assert [event["sequence_number"] for event in stream] == list(range(len(stream)))


def test_reasoning_that_was_not_asked_for_is_not_encrypted() -> None:
    answer = json.loads(OpenAIResponsesFormat().answer(Said("a", thinking="hm"), plain(MESSAGE)))
    assert "encrypted_content" not in answer["output"][0]


CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "x"}


def part(role: str, **given: Any) -> dict[str, Any]:
    return {"role": role, "content": [given]}


def tool(**given: Any) -> dict[str, Any]:
    return plain(MESSAGE, tools=[{"type": "function", "name": "f", "parameters": SCHEMA, **given}])


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
CLOSED = {**SCHEMA, "required": ["a"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("encoded", "words", "param", "code"),
    [
        # What is no parameter.
        (plain(MESSAGE, messages=[]), "Unknown parameter: 'messages'.", "messages", "unknown_parameter"),
        (plain(MESSAGE, seed=1), "Unknown parameter: 'seed'.", "seed", "unknown_parameter"),
        (plain(MESSAGE, stop="x"), "Unknown parameter: 'stop'.", "stop", "unknown_parameter"),
        ({"input": "x"}, "Missing required parameter: 'model'.", "model", "missing_required_parameter"),
        ({"model": "m"}, "Missing required parameter: 'input'.", "input", "missing_required_parameter"),
        (plain(), "empty array", "input", "empty_array"),
        (plain(MESSAGE, store="no"), "expected a boolean", "store", "invalid_type"),
        (plain(MESSAGE, instructions=7), "expected a string", "instructions", "invalid_type"),
        (
            plain(MESSAGE, previous_response_id="r"),
            "Previous response with id 'r' not found.",
            "previous_response_id",
            "previous_response_not_found",
        ),
        # Settings.
        (plain(MESSAGE, temperature=0.5), "'temperature' is not supported with this model", "temperature", None),
        (plain(MESSAGE, model="gpt-4o", top_p=2), "Expected a value <= 1", "top_p", "decimal_above_max_value"),
        (plain(MESSAGE, model="gpt-4o", top_p="1"), "expected a decimal", "top_p", "invalid_type"),
        (plain(MESSAGE, max_output_tokens=5), ">= 16", "max_output_tokens", "integer_below_min_value"),
        (plain(MESSAGE, max_output_tokens=5.5), "expected an integer", "max_output_tokens", "invalid_type"),
        (plain(MESSAGE, include=["x"]), "Invalid value: 'x'", "include[0]", "invalid_value"),
        (plain(MESSAGE, include="x"), "expected an array", "include", "invalid_type"),
        (
            plain(MESSAGE, model="gpt-4o", include=["reasoning.encrypted_content"]),
            "Encrypted content is not supported with this model.",
            "include",
            None,
        ),
        (
            plain(MESSAGE, model="gpt-4.1", reasoning={"effort": "low"}),
            "'reasoning.effort' is not supported with this model",
            "reasoning.effort",
            "unsupported_parameter",
        ),
        (plain(MESSAGE, reasoning={"effort": "big"}), "'big'", "reasoning.effort", "invalid_value"),
        (plain(MESSAGE, reasoning={"efort": "low"}), "Unknown parameter", "reasoning.efort", "unknown_parameter"),
        # Tools.
        (plain(MESSAGE, tools={}), "expected an array", "tools", "invalid_type"),
        (plain(MESSAGE, tools=[{"type": "x"}]), "'x'", "tools[0].type", "invalid_value"),
        (tool(function={}), "Unknown parameter", "tools[0].function", "unknown_parameter"),
        (tool(name="a b"), "does not match pattern", "tools[0].name", "invalid_value"),
        (
            tool(parameters={"type": "object"}),
            "missing properties",
            "tools[0].parameters",
            "invalid_function_parameters",
        ),
        (
            tool(parameters={"type": "array"}),
            "must be a JSON Schema",
            "tools[0].parameters",
            "invalid_function_parameters",
        ),
        (tool(strict=True), "'additionalProperties' is required", "tools[0].parameters", "invalid_function_parameters"),
        (
            tool(strict=True, parameters={**CLOSED, "properties": {"a": {"oneOf": []}}}),
            "'oneOf' is not permitted",
            "tools[0].parameters",
            "invalid_function_parameters",
        ),
        (plain(MESSAGE, tool_choice="required"), "Tool choice 'required' not found", "tool_choice", None),
        (plain(MESSAGE, tool_choice="any"), "'any'", "tool_choice", "invalid_value"),
        ({**tool(), "tool_choice": {"type": "function", "name": "g"}}, "not found in 'tools'", "tool_choice", None),
        # The shape of the answer.
        (plain(MESSAGE, text={"form": 1}), "Unknown parameter: 'text.form'.", "text.form", "unknown_parameter"),
        (
            plain(MESSAGE, text={"format": {"type": "json_schema", "schema": SCHEMA}}),
            "'text.format.name'",
            "text.format.name",
            "missing_required_parameter",
        ),
        (
            plain(MESSAGE, text={"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}}),
            "'additionalProperties' is required",
            "text.format.schema",
            "invalid_json_schema",
        ),
        (
            plain(MESSAGE, text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "array"}}}),
            "must be a JSON Schema of 'type: \"object\"'",
            "text.format.schema",
            "invalid_json_schema",
        ),
        # Messages.
        (plain({"content": "x"}), "'input[0].type'", "input[0].type", "missing_required_parameter"),
        (plain({"type": "x"}), "'x'", "input[0].type", "invalid_value"),
        (plain({**MESSAGE, "role": "tool"}), "'tool'", "input[0].role", "invalid_value"),
        (plain({**MESSAGE, "tool_calls": []}), "Unknown parameter", "input[0].tool_calls", "unknown_parameter"),
        (plain({**MESSAGE, "phase": "commentary"}), "Unknown parameter", "input[0].phase", "unknown_parameter"),
        (plain({"role": "assistant", "content": "x", "phase": "y"}), "'y'", "input[0].phase", "invalid_value"),
        (plain({**MESSAGE, "content": None}), "but got null", "input[0].content", "invalid_type"),
        (plain({**MESSAGE, "content": []}), "at least one content element", "input[0].content", None),
        (
            plain(part("assistant", type="input_text", text="x")),
            "Invalid value: 'input_text'. Supported values are: 'output_text', and 'refusal'.",
            "input[0].content[0]",
            "invalid_value",
        ),
        (plain(part("user", type="output_text", text="x")), "'output_text'", "input[0].content[0]", "invalid_value"),
        (plain(part("user", type="input_text")), "text", "input[0].content[0].text", "missing_required_parameter"),
        (
            plain(part("user", type="input_image", image_url="x")),
            "Expected a valid URL",
            "input[0].content[0].image_url",
            "invalid_value",
        ),
        (
            plain(part("user", type="input_file", filename="a", file_data="YQ==")),
            "Expected a base64-encoded data URL",
            "input[0].content[0].file_data",
            "invalid_value",
        ),
        (
            plain(part("user", type="input_file", file_data="data:x")),
            "filename",
            "input[0].content[0].filename",
            "missing_required_parameter",
        ),
        (plain(part("user", type="input_file")), "file_id", "input[0].content[0]", "missing_required_parameter"),
        # Ids.
        (plain({**MESSAGE, "id": None}), "but got null", "input[0].id", "invalid_type"),
        (plain({**MESSAGE, "id": "fc_1"}), "begins with 'msg'", "input[0].id", "invalid_value"),
        (plain({**MESSAGE, "id": "msg_" + "x" * 64}), "too long", "input[0].id", "string_above_max_length"),
        (plain({**MESSAGE, "id": "msg_1"}), "Item with id 'msg_1' not found", "input", None),
        (plain({"type": "item_reference", "id": "rs_1"}), "Item with id 'rs_1' not found", "input", None),
        (plain({"type": "web_search_call", "id": "ws_1"}), "Item with id 'ws_1' not found", "input", None),
        # Calls and their outputs.
        (plain(MESSAGE, CALL), "No tool output found for function call c.", "input", None),
        (plain(MESSAGE, OUTPUT), "No tool call found for function call output with call_id c.", "input", None),
        (plain(OUTPUT, CALL), "No tool call found", "input", None),
        (plain({**CALL, "call_id": ""}), "empty string", "input[0].call_id", "empty_string"),
        (plain({**CALL, "call_id": "x" * 65}), "maximum length 64", "input[0].call_id", "string_above_max_length"),
        (plain({**CALL, "name": "f.g"}), "does not match pattern", "input[0].name", "invalid_value"),
        (plain({**CALL, "arguments": {}}), "expected a string", "input[0].arguments", "invalid_type"),
        (plain(CALL, {**OUTPUT, "output": None}), "but got null", "input[1].output", "invalid_type"),
        (plain(CALL, {**OUTPUT, "is_error": True}), "Unknown parameter", "input[1].is_error", "unknown_parameter"),
    ],
)
def test_refusals(encoded: Any, words: str, param: str, code: str | None) -> None:
    """In the provider's words."""
    status, error = refusal(encoded)
    assert words in error["message"]
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error")
    assert status == (404 if "not found. Items" in error["message"] else 400)


def test_an_id_may_come_once() -> None:
    _, items = kept()
    error = refusal(plain(*items, items[1], items[2]))[1]
    assert error["message"].startswith(f"Duplicate item found with id {items[1]['id']}.")


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [("/v1/chat/completions", HEADERS, 404), (TARGET, {}, 401), (TARGET, {"authorization": "Bearer x"}, 401)],
)
def test_path_and_key(target: str, headers: dict[str, str], status: int) -> None:
    assert refusal(plain(MESSAGE), target, headers)[0] == status


@pytest.mark.parametrize(
    "encoded",
    [
        {"model": "m", "input": "x"},
        plain(MESSAGE, CALL, OUTPUT),
        plain(MESSAGE, {"role": "assistant", "content": "x"}, MESSAGE, temperature=None, text=None, tools=None),
        plain(part("user", type="input_image", image_url="https://x/a.png", detail="auto")),
        plain(part("user", type="input_file", filename="a", file_data="data:text/plain;base64,YQ==")),
        plain({**MESSAGE, "role": "developer"}, model="gpt-4o", temperature=0.5, max_output_tokens=16),
        {**tool(strict=True, parameters=CLOSED), "tool_choice": {"type": "function", "name": "f"}},
        {**tool(strict=None), "tool_choice": "auto", "parallel_tool_calls": False},
        plain(MESSAGE, tools=[{"type": "web_search"}], tool_choice={"type": "web_search"}),
        plain(MESSAGE, text={"format": {"type": "json_schema", "name": "n", "schema": CLOSED, "strict": True}}),
        plain(MESSAGE, reasoning={"effort": "low", "summary": "auto"}, include=["reasoning.encrypted_content"]),
    ],
)
def test_what_it_accepts(encoded: Any) -> None:
    """The documented forms."""
    assert OpenAIResponsesFormat().refuse(TARGET, HEADERS, encoded) is None


def test_thinking_is_seen_only_if_a_summary_was_asked_for() -> None:
    """As hidden reasoning it goes back all the same."""
    fake = OpenAIResponsesFormat()
    hidden = ask(fake, TURN, [user("x")]).message
    seen = ask(fake, TURN, [user("x")], reasoning_effort="low").message
    assert isinstance(hidden.parts[0], ServerItem)
    assert isinstance(seen.parts[0], Thinking)
    assert seen.thinking == "Rain, I think."
