"""The OpenAI-compatible endpoint as data: what a request is read into, what a run is written as, what an error says."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom import Agent, ModelRetry, RunResult, SystemBusy, SystemDraining, events
from greenroom.agents import (
    GuardFailed,
    LimitExceeded,
    Messages,
    OutputInvalid,
    PriceUnknown,
    RestartLimit,
    Stuck,
    ToolError,
    ToolsetFailed,
    ValidatorFailed,
)
from greenroom.providers import (
    AuthError,
    ContextOverflow,
    InvalidRequest,
    Message,
    Overloaded,
    ProviderError,
    RateLimited,
    Refusal,
    Scripted,
    Stalled,
    Text,
    ToolResult,
    Usage,
    assistant,
    call,
    tool_result,
    user,
)
from greenroom.service.openai_answers import (
    Answer,
    Delta,
    content_of,
    finish_reason_of,
    refusal_of,
    usage_of,
)
from greenroom.service.openai_errors import ApiError, is_for_the_log, of_failure, of_problem, of_stop
from greenroom.service.openai_fields import REFUSED, UNUSED, check_format, same_schema
from greenroom.service.openai_request import Asked, read_request
from greenroom.service.openai_saying import Saying, ToolNews
from greenroom.service.problems import Problem, problem_of

unhurried = settings(deadline=None)  # tests share their machine

HELLO = [{"role": "user", "content": "Hello"}]
PIXEL = b"\x89PNG\r\n"


def read(messages: Any = HELLO, model: Any = "helper", **fields: Any) -> Asked:
    """The request with these fields, read."""
    return read_request(msgspec.json.encode({"model": model, "messages": messages, **fields}))


def refused(*args: Any, **fields: Any) -> ApiError:
    """Why the request with these fields is refused."""
    with pytest.raises(ApiError) as caught:
        read(*args, **fields)
    assert caught.value.status == 400
    assert caught.value.body.type == "invalid_request_error"
    return caught.value


# -- the request


def test_the_least_request() -> None:
    asked = read()
    assert asked == Asked(model="helper", history=(), prompt=(user("Hello"),))


def test_a_conversation_is_parted_behind_its_last_answer() -> None:
    system, first, answer, second = (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "Two"},
    )
    note = {"role": "developer", "content": "Use digits."}
    asked = read([system, first, answer, note, second])
    assert [message.role for message in asked.history] == ["system", "user", "assistant"]
    assert asked.prompt is not None
    assert [(message.role, message.text) for message in asked.prompt] == [("system", "Use digits."), ("user", "Two")]

    asked = read([system])
    assert asked.history == ()
    assert asked.prompt is not None
    assert [message.role for message in asked.prompt] == ["system"]


def test_results_of_tools_end_a_conversation() -> None:
    """They belong to the history, and there is something to answer to."""
    called = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
    }
    asked = read([*HELLO, called, {"role": "tool", "tool_call_id": "a", "content": "nothing"}])
    assert asked.prompt is None
    assert asked.history[-1].tool_results == (ToolResult("a", "nothing"),)


def test_parts_of_a_message() -> None:
    data = f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": data, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}},
    ]
    asked = read([{"role": "user", "content": parts}])
    assert asked.prompt is not None
    text, image, remote, document = asked.prompt[0].parts
    assert text == Text("What is this?")
    assert (image.data, image.media_type, image.detail) == (PIXEL, "image/png", "low")  # type: ignore[union-attr]
    assert remote.url == "https://example.org/a.png"  # type: ignore[union-attr]
    assert (document.data, document.name) == (b"%PDF", "a.pdf")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Hello", "must be an object"),
        ({"role": "robot", "content": "Hi"}, "'role' must be one of"),
        ({"content": "Hi"}, "'role' must be one of"),
        ({"role": "user"}, "'content' must be a string or a list of parts, not None"),
        ({"role": "user", "content": 7}, "'content' must be a string or a list of parts"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "part of unknown type 'input_audio'"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}, "base64 data URL"),
        ({"role": "tool", "content": "x"}, "'tool_call_id' is missing"),
        ({"role": "assistant", "tool_calls": "none"}, "'tool_calls' must be a list"),
    ],
)
def test_a_message_that_cannot_be_read(message: Any, words: str) -> None:
    error = refused([*HELLO, message, *HELLO])
    assert words in error.body.message
    assert error.body.message.startswith("'messages[1]'")
    assert error.body.param == "messages[1]"


@pytest.mark.parametrize("messages", [None, [], {}, "Hello", 3])
def test_messages_that_are_none(messages: Any) -> None:
    assert refused(messages).body.param == "messages"


def test_a_conversation_that_ends_with_an_answer() -> None:
    error = refused([*HELLO, {"role": "assistant", "content": "Hi."}])
    assert (error.body.param, error.body.message) == (
        "messages",
        "the last of 'messages' is an answer: there is nothing to answer to",
    )


@pytest.mark.parametrize("body", [b"", b"{", b"nothing", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"a": NaN}'])
def test_a_body_that_is_no_object(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        read_request(body)
    assert (caught.value.status, caught.value.body.code) == (400, "invalid_json")


def test_a_character_that_was_cut_through_is_named() -> None:
    """As by a program that cuts text at so many units: what decodes it says something else."""
    for text in (rb"a\ud83d", rb"\uD83Dab"):
        with pytest.raises(ApiError, match="half of a pair") as caught:
            read_request(b'{"model": "helper", "messages": [{"role": "user", "content": "%s"}]}' % text)
        assert caught.value.body.code == "invalid_json"


@pytest.mark.parametrize("model", [None, "", 4, ["helper"]])
def test_a_model_that_is_no_name(model: Any) -> None:
    assert refused(model=model).body.param == "model"


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_an_agent_does_not_do_is_refused_by_its_name(name: str) -> None:
    values: dict[str, Any] = {
        "n": [2, 0, True, "1"],
        "tools": [[{"type": "function", "function": {"name": "f"}}]],
        "functions": [[{"name": "f"}]],
        "tool_choice": ["required", {"type": "function", "function": {"name": "f"}}],
        "function_call": [{"name": "f"}],
        "stop": ["END", ["END"]],
        "logprobs": [True],
        "top_logprobs": [3],
        "logit_bias": [{"50256": -100}],
        "modalities": [["text", "audio"], ["audio"]],
        "audio": [{"voice": "alloy", "format": "wav"}],
        "moderation": [{"model": "omni-moderation-latest"}],
        "web_search_options": [{"search_context_size": "low"}],
    }
    for value in values[name]:
        error = refused(**{name: value})
        assert (error.body.param, error.body.code) == (name, "unsupported_parameter")
        assert error.body.message.startswith(f"'{name}' is not supported here: ")


def test_a_value_that_asks_for_what_comes_anyway() -> None:
    for fields in (
        {"n": 1, "tools": [], "functions": [], "tool_choice": "none", "function_call": "auto", "stop": []},
        {"logprobs": False, "top_logprobs": 0, "logit_bias": {}, "modalities": ["text"], "web_search_options": {}},
        dict.fromkeys([*REFUSED, *UNUSED]),
    ):
        asked = read(**fields)
        assert asked == read()


def test_what_tunes_a_model_does_nothing_and_is_named() -> None:
    asked = read(temperature=0.2, top_p=1, seed=3, store=True, reasoning_effort=None, parallel_tool_calls=False)
    assert asked.unused == ("temperature", "top_p", "seed", "store", "parallel_tool_calls")


def test_an_unknown_field_is_refused() -> None:
    error = refused(temprature=1)
    assert (error.body.param, error.body.code) == ("temprature", "unknown_parameter")


def test_what_bounds_a_run() -> None:
    assert read(max_tokens=100).max_tokens == read(max_completion_tokens=100).max_tokens == 100
    for value in (0, -1, 1.5, "10", True):
        assert refused(max_tokens=value).body.param == "max_tokens"
        assert refused(max_completion_tokens=value).body.param == "max_completion_tokens"
    assert "give one of them" in refused(max_tokens=1, max_completion_tokens=1).body.message


def test_who_it_is_for() -> None:
    asked = read(user="u1", metadata={"topic": "maths"}, greenroom={"conversation_id": "c1"})
    assert (asked.user, asked.metadata, asked.conversation_id) == ("u1", {"topic": "maths"}, "c1")
    assert refused(user="").body.param == "user"
    assert refused(user=7).body.param == "user"
    assert refused(greenroom={"conversation_id": ""}).body.param == "greenroom.conversation_id"
    for metadata in ([], {"a": 1}, {"a" * 65: ""}, {"a": "b" * 513}, {str(n): "" for n in range(17)}):
        assert refused(metadata=metadata).body.param == "metadata"
    # Such names are the service's own: one of them says which key has started a run.
    assert "greenroom." in refused(metadata={"greenroom.key": "0" * 64}).body.message


def test_how_a_stream_is_asked_for() -> None:
    asked = read(stream=True, stream_options={"include_usage": True, "include_obfuscation": False})
    assert (asked.stream, asked.include_usage) == (True, True)
    assert read(stream=True, stream_options={}).include_usage is False
    assert refused(stream="yes").body.param == "stream"
    assert refused(stream_options={"include_usage": True}).body.param == "stream_options"
    assert refused(stream=True, stream_options=[]).body.param == "stream_options"
    assert refused(stream=True, stream_options={"include_usage": 1}).body.param == "stream_options.include_usage"
    assert refused(stream=True, stream_options={"usage": True}).body.param == "stream_options.usage"


def test_what_is_asked_of_us_alone() -> None:
    asked = read(greenroom={"include": ["tools", "reasoning"], "on_ask": "wait", "on_disconnect": "continue"})
    assert (asked.include, asked.on_ask, asked.on_disconnect) == ({"tools", "reasoning"}, "wait", "continue")
    assert (read().on_ask, read().on_disconnect) == ("end", "stop")
    assert read(greenroom={}) == read()
    assert refused(greenroom=[]).body.param == "greenroom"
    assert refused(greenroom={"run": 1}).body.param == "greenroom.run"
    assert refused(greenroom={"include": "tools"}).body.param == "greenroom.include"
    assert refused(greenroom={"include": [["tools"]]}).body.param == "greenroom.include"
    assert refused(greenroom={"on_ask": {}}).body.param == "greenroom.on_ask"
    assert refused(greenroom={"on_disconnect": "wait"}).body.param == "greenroom.on_disconnect"


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
a_field = st.sampled_from(
    [
        *("role", "content", "type", "text", "image_url", "url", "tool_calls", "function", "name", "arguments", "id"),
        *("tool_call_id", "refusal", "file", "file_data", "reasoning_content", "function_call"),
    ]
)
a_message = st.dictionaries(
    a_field,
    anything
    | st.sampled_from(["user", "assistant", "tool", "system", "text", "image_url", "data:a/b;base64,QQ=="])
    | st.lists(st.dictionaries(a_field, anything | st.sampled_from(["text", "image_url"]), max_size=3), max_size=3),
    max_size=5,
)


@unhurried
@given(st.lists(a_message | anything, max_size=5), st.dictionaries(st.sampled_from([*REFUSED, *UNUSED]), anything))
def test_any_request_is_read_or_refused(messages: list[Any], fields: dict[str, Any]) -> None:
    """Nothing but our own error leaves the reader, and what it gives can be given to a run."""
    body = msgspec.json.encode({"model": "helper", "messages": messages, **fields})
    try:
        asked = read_request(body)
    except ApiError:
        assert refused(messages, **fields).body.message
        return
    assert len(asked.history) + len(asked.prompt or ()) == len(messages)
    assert asked.prompt is None or {message.role for message in asked.prompt} <= {"user", "system"}
    assert asked.prompt or asked.history[-1].role == "tool"


@unhurried
@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text()), min_size=1, max_size=8))
def test_a_conversation_of_text_is_read_as_it_is(said: list[tuple[str, str]]) -> None:
    messages = [{"role": role, "content": text} for role, text in [*said, ("user", "?")]]
    asked = read(messages)
    assert asked.prompt
    found = [(message.role, message.text) for message in (*asked.history, *asked.prompt)]
    assert found == [*said, ("user", "?")]


@unhurried
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with pytest.raises(ApiError):
        read_request(body)


# -- the form of the answer


class Place(msgspec.Struct):
    """A place."""

    city: str
    title: str = ""


OBJECT = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def test_a_form_that_is_the_agents_own() -> None:
    for form in (None, {"type": "text"}):
        check_format(form, "helper", None)
        check_format(form, "helper", OBJECT)
    check_format({"type": "json_object"}, "helper", OBJECT)
    closed = {**OBJECT, "title": "Place", "additionalProperties": False}
    check_format({"type": "json_schema", "json_schema": {"name": "p", "schema": closed}}, "helper", OBJECT)


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        ({"type": "json_object"}, None),
        ({"type": "json_schema", "json_schema": {"schema": OBJECT}}, None),
        ({"type": "json_schema", "json_schema": {"schema": {**OBJECT, "required": []}}}, OBJECT),
        ({"type": "json_schema", "json_schema": {"name": "none"}}, OBJECT),
        ({"type": "json_schema"}, OBJECT),
        ({"type": "grammar"}, OBJECT),
        ({}, OBJECT),
        ("text", None),
        ([], None),
    ],
)
def test_a_form_that_is_not(form: Any, schema: Any) -> None:
    with pytest.raises(ApiError) as caught:
        check_format(form, "helper", schema)
    assert (caught.value.status, caught.value.body.param) == (400, "response_format")


def test_schemas_are_compared_by_what_they_let_through() -> None:
    inner = {"type": "object", "properties": {"title": {"type": ["string", "null"]}}, "required": ["title"]}
    referring = {
        "$defs": {"Inner": {**inner, "description": "…", "additionalProperties": False}},
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/Inner"}, "b": {"type": "array", "items": {"$ref": "#/$defs/Inner"}}},
        "required": ["b", "a"],
    }
    plain = {
        "type": "object",
        "properties": {"b": {"items": inner, "type": "array"}, "a": inner},
        "required": ["a", "b"],
    }
    assert same_schema(referring, plain)
    assert not same_schema(referring, {**plain, "required": ["a"]})
    assert not same_schema(plain, {**plain, "additionalProperties": True})
    # A property may have the name of an annotation.
    assert not same_schema(inner, {**inner, "properties": {}})
    assert not same_schema(None, plain)


def test_a_schema_that_refers_to_itself() -> None:
    tree = {"type": "object", "properties": {"next": {"$ref": "#"}, "all": {"$ref": "#/properties/all"}}}
    assert same_schema(tree, tree)
    assert not same_schema(tree, {**tree, "properties": {"next": {"$ref": "#/nowhere"}}})


def test_a_schema_that_is_written_out_and_one_that_refers_to_itself() -> None:
    tree = {"$ref": "#/$defs/Tree", "$defs": {"Tree": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}}}
    once = {"type": "array", "items": {"type": "array", "items": {"$ref": "#"}}}
    assert same_schema(tree, once)
    assert same_schema(once, tree)
    assert not same_schema(tree, {"type": "array", "items": {"type": "array", "items": {}}})


@pytest.mark.parametrize("wide", [2, 8, 100])
def test_a_schema_without_an_end_costs_no_more_than_another(wide: int) -> None:
    """A client may send any. Written out, these have more places than there is time for."""
    again = [{"$ref": "#/$defs/a"}] * wide
    evil = {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": again}}}
    two = {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}] * wide}, "b": {"anyOf": again}}}
    assert not same_schema(evil, OBJECT)
    assert same_schema(evil, two)


def test_a_client_makes_nobody_compare_for_ever() -> None:
    own = {"type": "array", "items": {"$ref": "#"}}
    long: dict[str, Any] = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(100_000)}
    assert not same_schema({"$ref": "#/$defs/d0", "$defs": long}, own)
    deep: Any = own
    for _ in range(20_000):
        deep = {"type": "array", "items": deep}
    assert not same_schema(deep, own)


@pytest.mark.parametrize("place", ["items", "enum", "required", "anyOf"])
def test_a_form_that_is_nested_deeply_is_refused(place: str) -> None:
    nested = msgspec.json.decode(b"[" * 900 + b"]" * 900)
    form = {"type": "json_schema", "json_schema": {"schema": {**OBJECT, place: nested}}}
    with pytest.raises(ApiError) as caught:
        check_format(form, "helper", OBJECT)
    assert caught.value.body.param == "response_format"


def test_a_strict_form_of_the_agents_own() -> None:
    """In it every property must be required, so libraries write that, whatever the type says."""
    properties = {"city": {"type": "string"}, "note": {"type": "string", "default": ""}}
    own = {**OBJECT, "properties": properties}

    def form(strict: Any, **changes: Any) -> dict[str, Any]:
        schema = {**own, "required": ["note", "city"], "additionalProperties": False, **changes}
        return {"type": "json_schema", "json_schema": {"name": "p", "strict": strict, "schema": schema}}

    check_format(form(True), "helper", own)
    for other in (form(False), form("true"), form(True, required=["note"]), form(True, properties={})):
        with pytest.raises(ApiError):
            check_format(other, "helper", own)


@unhurried
@given(anything, anything)
def test_any_two_values_are_compared(left: Any, right: Any) -> None:
    assert same_schema(left, left) is isinstance(left, dict)
    assert same_schema(left, right) == same_schema(right, left)


# -- the answer


def result(*messages: Message, **facts: Any) -> RunResult[Any]:
    """A result with these messages."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    known: dict[str, Any] = {
        "output": messages[-1].text if messages else None,
        "status": "completed",
        "reason": "answered",
        "usage": Usage(),
        "messages": Messages(messages),
        "new_messages": Messages(messages),
        "run_id": "r1",
        "agent": "helper",
        "started_at": now,
        "ended_at": now,
        "stop_reason": "stop",
    }
    return RunResult(**{**known, **facts})


HELPER: Agent[Any, Any] = Agent("helper", Scripted())


def test_the_content_is_all_that_was_said() -> None:
    asked = assistant("Let me look.", tool_calls=[msgspec.structs.replace(call("look"), id="a")])
    silent = assistant(tool_calls=[msgspec.structs.replace(call("look"), id="b")])
    done = result(user("?"), asked, tool_result("a", "4"), silent, tool_result("b", "5"), assistant("It is 5."))
    assert content_of(done, HELPER) == "Let me look.\n\nIt is 5."
    assert content_of(result(user("?")), HELPER) == ""


def test_a_typed_answer_is_its_json() -> None:
    typed: Agent[Any, Any] = Agent("helper", Scripted(), output=Place)
    said = assistant('```json\n{"city": "Oslo"}\n```')
    done = result(user("?"), assistant("Hm."), said, output=Place("Oslo"))
    assert msgspec.json.decode(content_of(done, typed)) == {"city": "Oslo", "title": ""}
    # Of an agent that took over, nothing is known but its text.
    assert content_of(msgspec_replace(done, agent="other"), typed) == said.text
    assert content_of(msgspec_replace(done, status="limited", output=None), typed) == said.text


def msgspec_replace(done: RunResult[Any], **changes: Any) -> RunResult[Any]:
    """A result with other facts."""
    return RunResult(**{name: getattr(done, name) for name in done.__slots__} | changes)


def test_a_validated_answer_is_what_was_made_of_it() -> None:
    def loud(output: str) -> str:
        if output == "no":
            raise ModelRetry("say yes")
        return output.upper()

    checked: Agent[Any, Any] = Agent("helper", Scripted(), validators=loud)
    done = result(user("?"), assistant("no"), user("say yes"), assistant("yes"), output="YES")
    assert content_of(done, checked) == "YES"


def test_a_refusal_has_a_place_of_its_own() -> None:
    done = result(user("?"), Message("assistant", (Refusal("No."),)), output="No.")
    assert refusal_of(done) == "No."
    assert refusal_of(result(user("?"), assistant("Yes."))) is None
    assert refusal_of(result()) is None
    message = decoded(Answer("r1", 5.5, "helper").whole(done, "", "stop"))["choices"][0]["message"]
    assert message == {"role": "assistant", "content": None, "refusal": "No."}


@pytest.mark.parametrize(
    ("status", "stop_reason", "finish_reason"),
    [
        ("completed", "stop", "stop"),
        ("completed", "refusal", "stop"),
        ("completed", None, "stop"),
        ("completed", "length", "length"),
        ("completed", "content_filter", "content_filter"),
        ("limited", "tool_calls", "length"),
    ],
)
def test_how_an_answer_ended(status: str, stop_reason: Any, finish_reason: str) -> None:
    assert finish_reason_of(result(status=status, stop_reason=stop_reason)) == finish_reason


def test_usage_is_told_where_it_is_known() -> None:
    assert usage_of(Usage()) is None
    assert usage_of(Usage(input_tokens=3)) is None
    told = usage_of(Usage(3, 4, 9, 1, None, 2))
    assert decoded(msgspec.json.encode(told)) == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert decoded(msgspec.json.encode(usage_of(Usage(3, 0)))) == {
        "prompt_tokens": 3,
        "completion_tokens": 0,
        "total_tokens": 3,
    }


def decoded(data: bytes) -> Any:
    """JSON, read."""
    return msgspec.json.decode(data)


def test_a_whole_answer_byte_by_byte() -> None:
    done = result(user("?"), assistant("Hi."), usage=Usage(3, 4), cost=0.5)
    answer = Answer("r1", 1_700_000_000.9, "helper", unused=("seed",))
    assert answer.whole(done, "Hi.", "stop") == (
        b'{"id":"chatcmpl-r1","created":1700000000,"model":"helper","choices":[{"message":{"role":"assistant",'
        b'"content":"Hi.","refusal":null},"finish_reason":"stop","index":0,"logprobs":null}],"usage":'
        b'{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7},"greenroom":{"run_id":"r1","status":"completed",'
        b'"reason":"answered","cost":0.5,"unused":["seed"]},"object":"chat.completion"}'
    )


def test_a_stream_byte_by_byte() -> None:
    head = b'data: {"id":"chatcmpl-r1","created":7,"model":"helper","choices":['
    tail = b'"object":"chat.completion.chunk"}\n\n'
    told = b'"greenroom":{"run_id":"r1","status":"completed","reason":"answered","cost":null,"unused":[]},'
    done = result(user("?"), assistant("Hi."), usage=Usage(3, 4))

    answer = Answer("r1", 7, "helper")
    assert answer.chunk(Delta(role="assistant", content="")) == (
        head + b'{"delta":{"role":"assistant","content":""},"finish_reason":null,"index":0,"logprobs":null}],' + tail
    )
    assert answer.chunk(Delta(content="Zeile\n\u2028")) == (
        head + '{"delta":{"content":"Zeile\\n\u2028"},"finish_reason":null,"index":0,"logprobs":null}],'.encode() + tail
    )
    assert answer.last_chunks(done, "stop") == (
        head + b'{"delta":{},"finish_reason":"stop","index":0,"logprobs":null}],' + told + tail + b"data: [DONE]\n\n"
    )

    answer = Answer("r1", 7, "helper", include_usage=True)
    assert b'"usage":null' in answer.chunk(Delta(content="Hi."))
    assert answer.last_chunks(done, "stop") == (
        head
        + b'{"delta":{},"finish_reason":"stop","index":0,"logprobs":null}],"usage":null,'
        + told
        + tail
        + head
        + b'],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7},'
        + tail
        + b"data: [DONE]\n\n"
    )


# -- what has been said


def delta(text: str, turn: int = 1, run_id: str = "r1") -> events.ModelTextDelta:
    """More text."""
    return events.ModelTextDelta(seq=1, time=0.0, run_id=run_id, path=("r1",), turn=turn, text=text)


def place(run_id: str = "r1", turn: int = 1) -> dict[str, Any]:
    """Where an event comes from."""
    return {"seq": 1, "time": 0.0, "run_id": run_id, "path": ("r1",), "turn": turn}


def test_text_is_said_as_it_comes() -> None:
    saying = Saying("r1", at_the_end=False)
    assert saying.take(delta("Let ")) == Delta(content="Let ")
    assert saying.take(delta("me look.")) == Delta(content="me look.")
    assert saying.take(delta("not mine", run_id="r2")) is None
    assert saying.take(delta("", turn=2)) is None
    assert saying.take(delta("It is 5.", turn=3)) == Delta(content="\n\nIt is 5.")
    assert saying.take(delta(" Yes.", turn=3)) == Delta(content=" Yes.")
    assert saying.rest("Let me look.\n\nIt is 5. Yes.") == ""
    assert saying.rest("Let me look.\n\nIt is 5. Yes. No.") == " No."


def test_from_a_gap_on_nothing_is_said_before_the_end() -> None:
    saying = Saying("r1", at_the_end=False)
    saying.take(delta("One "))
    assert saying.take(events.EventsDropped(**place(), count=3)) is None
    assert saying.take(delta("four")) is None
    assert saying.rest("One two three four") == "two three four"
    saying = Saying("r1", at_the_end=False)
    saying.lose()
    assert saying.take(delta("four")) is None


def test_what_counts_only_at_its_end() -> None:
    saying = Saying("r1", at_the_end=True)
    assert saying.take(delta('{"city"')) is None
    assert saying.rest('{"city":"Oslo"}') == '{"city":"Oslo"}'


def test_what_is_shown_beside_the_text() -> None:
    thought = events.ModelThinkingDelta(**place(), text="Hm.")
    begun = events.ToolStarted(**place(), call_id="a", tool="look")
    of_other = events.ToolStarted(**place("r2"), call_id="a", tool="look")
    ended = events.RunCompleted(**place(), agent="helper", reason="answered", usage=Usage())
    silent = Saying("r1", at_the_end=False)
    assert [silent.take(each) for each in (thought, begun, of_other, ended)] == [None] * 4
    telling = Saying("r1", at_the_end=False, include=("tools", "reasoning"))
    assert [telling.take(each) for each in (thought, begun, of_other, ended)] == [
        Delta(reasoning_content="Hm."),
        ToolNews(begun),
        None,
        None,
    ]
    chunk = decoded(Answer("r1", 7, "helper").chunk(Delta(), told=ToolNews(begun)).removeprefix(b"data: "))
    assert chunk["choices"][0]["delta"] == {}
    assert chunk["greenroom"]["event"]["type"] == "tool.started"


texts = st.lists(st.tuples(st.integers(1, 4), st.text(min_size=1, max_size=5)), max_size=10).map(
    lambda said: sorted(said, key=lambda each: each[0])
)


@unhurried
@given(texts, st.integers(0, 10))
def test_what_was_said_and_the_rest_are_the_whole(said: list[tuple[int, str]], gap: int) -> None:
    """Whatever is missing, and wherever: the pieces are the content in the end."""
    turns: dict[int, str] = {}
    for turn, text in said:
        turns[turn] = turns.get(turn, "") + text
    content = content_of(result(*[assistant(text) for text in turns.values()]), HELPER)
    saying = Saying("r1", at_the_end=False)
    pieces: list[str] = []
    for position, (turn, text) in enumerate(said):
        event = events.EventsDropped(**place(turn=turn), count=1) if position == gap else delta(text, turn)
        taken = saying.take(event)
        if isinstance(taken, Delta):
            pieces.append(taken.content or "")
    assert "".join(pieces) + saying.rest(content) == content


# -- errors


@pytest.mark.parametrize(
    ("error", "status", "code", "headers"),
    [
        (RateLimited("slow down", retry_after=1.2), 429, "rate_limit_exceeded", {"retry-after": "2"}),
        (RateLimited("no money", retryable=False), 429, "rate_limit_exceeded", {"x-should-retry": "false"}),
        (ContextOverflow("too long"), 400, "context_length_exceeded", {"x-should-retry": "false"}),
        (Overloaded("busy", status=529, retry_after=0.0), 503, "overloaded", {"retry-after": "1"}),
        (Stalled("silence"), 504, "stalled", {"x-should-retry": "true"}),
        (AuthError("bad key", status=401), 502, "auth", {"x-should-retry": "false"}),
        (InvalidRequest("wrong", status=400), 502, "invalid_request", {"x-should-retry": "false"}),
        (ProviderError("odd"), 502, "provider", {}),
        (OutputInvalid("no JSON"), 500, "output_invalid", {"x-should-retry": "false"}),
        (ToolError("look", "a", "no"), 500, "tool_failed", {"x-should-retry": "false"}),
        (Stuck("round", ("look",), 3), 500, "stuck", {}),
        (PriceUnknown("m", 0, 1), 500, "price_unknown", {}),
        (LimitExceeded("turns", 1, 1), 500, "run_failed", {}),
        (RestartLimit("crashed: sk-secret", "r1", "r1", 3, 60), 500, "restart_limit", {"x-should-retry": "false"}),
        (GuardFailed("look", "a", "sk-secret"), 500, "guard_failed", {"x-should-retry": "false"}),
        (ValidatorFailed("kind", "sk-secret"), 500, "validator_failed", {"x-should-retry": "false"}),
        (ToolsetFailed("docs", "sk-secret"), 500, "toolset_failed", {"x-should-retry": "false"}),
        (KeyError("sk-secret"), 500, "internal_error", {"x-should-retry": "false"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_why_a_run_has_failed(error: Exception, status: int, code: str, headers: dict[str, str]) -> None:
    made = of_failure(error)
    assert (made.status, made.body.code) == (status, code)
    assert headers.items() <= made.headers.items()
    told = decoded(made.json())
    assert list(told) == ["error"]
    assert sorted(told["error"]) == ["code", "message", "param", "type"]
    assert "sk-secret" not in told["error"]["message"]
    assert is_for_the_log(error) == ("log says why" in told["error"]["message"])


def test_what_somebody_has_sent_is_not_told_back_at_length() -> None:
    error = refused(**{"x" * 100_000: 1})
    assert len(error.json()) < 5_000
    assert error.body.message.startswith("unknown field 'xxx")


def test_the_type_says_whose_fault_it_is() -> None:
    types = {status: ApiError(status, "x", "…").body.type for status in (400, 401, 403, 404, 409, 413, 429, 500, 503)}
    assert types == {
        400: "invalid_request_error",
        401: "authentication_error",
        403: "authentication_error",
        404: "invalid_request_error",
        409: "invalid_request_error",
        413: "invalid_request_error",
        429: "rate_limit_error",
        500: "server_error",
        503: "server_error",
    }


@pytest.mark.parametrize("error", [SystemBusy(10, 5), SystemDraining()], ids=["full", "draining"])
def test_a_service_that_takes_nothing_more(error: Exception) -> None:
    problem = problem_of(error)
    assert problem is not None
    made = of_problem(problem)
    assert made.status == 503
    assert int(made.headers["retry-after"]) > 0
    assert "x-should-retry" not in made.headers


def test_arguments_have_the_names_that_the_client_knows() -> None:
    assert of_problem(Problem(422, "invalid_request", "…", "user_id")).body.param == "user"
    assert of_problem(Problem(409, "conversation_busy", "…")).headers == {"x-should-retry": "false"}
    assert of_problem(Problem(413, "too_large", "…", headers={"Connection": "close"})).headers == {
        "connection": "close"
    }


def test_why_a_run_was_stopped() -> None:
    assert of_stop(result(status="stopped", reason="user")).body.code == "run_stopped"
    assert of_stop(result(status="waiting", reason="approval")).body.code == "approval_required"
    closing = of_stop(result(status="stopped", reason="system"))
    assert (closing.status, closing.body.code) == (503, "draining")
    assert int(closing.headers["retry-after"]) > 0
