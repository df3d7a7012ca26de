"""The Responses dialect without any I/O: what servers send, and what they take back (scenarios 84 to 91)."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from typing import Any, cast

import msgspec
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
    OpenAIResponses,
    Overloaded,
    ProviderData,
    ProviderError,
    RateLimited,
    Refusal,
    RefusalDelta,
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
from greenroom.providers.dialects.openai_responses import ResponsesDialect
from greenroom.providers.dialects.strict_schema import obeys_strict_rules
from greenroom.providers.framing.sse import SSEParser

from .wire import completion, events, json_answer, serve, sse_answer

DIALECT = ResponsesDialect("gpt-5-mini")
FAMILY = "openai-responses/openai"


# What a server says.


def text_piece(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], **more}


def said(*texts: str, id: str = "msg_1", **more: Any) -> dict[str, Any]:
    content = [text_piece(text) for text in texts]
    return {"id": id, "type": "message", "status": "completed", "role": "assistant", "content": content, **more}


def called(arguments: Any = '{"city":"Oslo"}', id: str = "fc_1", **more: Any) -> dict[str, Any]:
    call = {"call_id": id.replace("fc", "call"), "name": "weather", "arguments": arguments}
    return {"id": id, "type": "function_call", "status": "completed", **call, **more}


def thought(*summary: str, id: str = "rs_1", sealed: str | None = "gAAA", **more: Any) -> dict[str, Any]:
    texts = [{"type": "summary_text", "text": text} for text in summary]
    return {"id": id, "type": "reasoning", "summary": texts, "encrypted_content": sealed, **more}


def searched(id: str = "ws_1") -> dict[str, Any]:
    return {"id": id, "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "rain"}}


def response(*output: Any, status: str = "completed", **more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "model": "gpt-5-mini-1", "status": status, "output": list(output), "error": None, **more}


def decode(*output: Any, **more: Any) -> ModelReply:
    return DIALECT.decode(json.dumps(response(*output, **more)).encode())


def event(kind: str, index: int | None = 0, **more: Any) -> dict[str, Any]:
    place = {} if index is None else {"output_index": index}
    return {"type": f"response.{kind}", **place, **more}


def told(*items: Any) -> list[Any]:
    """The events of whole items."""
    return [event("output_item.done", index, item=item) for index, item in enumerate(items)]


def play(*chunks: Any, done: bool = False, clean: bool = True) -> tuple[list[ModelEvent], ModelReply]:
    decoder, parser = DIALECT.decoder(), SSEParser()
    seen = [event for raw in parser.feed(events(*chunks, done=done)) for event in decoder.feed(raw)]
    assert decoder.done or not done
    return seen, decoder.finish(clean=clean)


def shown(seen: list[ModelEvent], kind: type[TextDelta | ThinkingDelta | RefusalDelta] = TextDelta) -> str:
    return "".join([each.text for each in seen if isinstance(each, kind)])


END = event("completed", None, response=response())


# Whole answers.


def test_a_whole_answer() -> None:
    """Items become parts in their order; what must go back with one is in its details."""
    reply = decode(thought("One.", "Two."), searched(), said("Rain ", "here.", phase="commentary"), called())
    thinking, search, first, second, call = reply.message.parts
    assert isinstance(thinking, Thinking)
    assert (thinking.text, thinking.signature) == ("One.\n\nTwo.", "gAAA")
    assert search == ServerItem("web_search_call", searched())
    assert isinstance(first, Text)
    assert isinstance(second, Text)
    assert first.details == {
        "item": {"id": "msg_1", "status": "completed", "phase": "commentary"},
        "part": {"annotations": []},
        "of": 2,
    }
    assert call == ToolCall(
        "call_1", "weather", {"city": "Oslo"}, '{"city":"Oslo"}', {"id": "fc_1", "status": "completed"}
    )
    assert reply.message.provider_data == ProviderData(FAMILY, "gpt-5-mini", ["rs_1", "ws_1", "msg_1", "fc_1"])
    assert (reply.message.text, reply.model, reply.response_id) == ("Rain here.", "gpt-5-mini-1", "resp_1")


def test_reasoning_without_a_summary_is_no_thinking() -> None:
    """It is kept for the way back, and nothing is shown."""
    message = decode(thought(), said("x")).message
    assert message.thinking is None
    assert message.server_items == (ServerItem("reasoning", thought()),)


def test_raw_reasoning_of_open_models() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    assert decode(item, said("x")).message.thinking == "hm"


def test_a_message_that_says_nothing_is_kept_for_its_reasoning() -> None:
    message = decode(thought(), said(""), called()).message
    assert (message.text, [item.kind for item in message.server_items]) == ("", ["reasoning", "message"])


def test_a_refusal() -> None:
    reply = decode({**said(), "content": [{"type": "refusal", "refusal": "No."}]})
    assert (reply.message.refusal, reply.message.text, reply.stop_reason) == ("No.", "", "refusal")


@pytest.mark.parametrize(
    ("body", "ours", "raw"),
    [
        (response(said("x")), "stop", "completed"),
        (response(said("x"), called()), "tool_calls", "completed"),
        (
            response(status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
            "length",
            "max_output_tokens",
        ),
        (
            response(status="incomplete", incomplete_details={"reason": "content_filter"}),
            "content_filter",
            "content_filter",
        ),
        (response(called(), status="incomplete", incomplete_details={"reason": "max_output_tokens"}), "length", None),
        (response(status="incomplete", incomplete_details={"reason": "novelty"}), None, "novelty"),
        (response(status="incomplete", incomplete_details=7), None, "incomplete"),
        (response(status="queued"), None, "queued"),
        (response(status="in_progress"), None, "in_progress"),
        ({"status": "queued"}, None, "queued"),
        ({"output": [said("x")]}, None, None),
    ],
)
def test_stop_reasons(body: Any, ours: str | None, raw: str | None) -> None:
    reply = DIALECT.decode(json.dumps(body).encode())
    assert reply.stop_reason == ours
    assert reply.stop_reason_raw == (raw or ("max_output_tokens" if ours == "length" else None))


def test_usage() -> None:
    raw = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 15,
    }
    usage = decode(said("x"), usage=raw).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (10, 5, 15)
    assert (usage.cached_input_tokens, usage.cache_write_tokens, usage.reasoning_tokens) == (4, 3, 2)
    assert usage.raw == raw
    bare = decode(said("x"), usage={"input_tokens": 1, "input_tokens_details": None, "output_tokens": True}).usage
    assert bare is not None
    assert (bare.input_tokens, bare.output_tokens, bare.cached_input_tokens) == (1, None, None)
    assert decode(said("x"), usage=None).usage is None


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        ('{"city":"Oslo"}', "completed", {"city": "Oslo"}),
        ({"city": "Oslo"}, "completed", {"city": "Oslo"}),
        ("", "completed", {}),
        (None, None, {}),
        ("{oops", "completed", None),
        ("[1]", "completed", None),
        ('{"city":"Os', "incomplete", None),
        ("", "incomplete", None),
        (" ", "in_progress", None),
    ],
)
def test_arguments(arguments: Any, status: str | None, expected: Any) -> None:
    """A call that was cut off before its arguments came is not a call without arguments."""
    (call,) = decode(called(arguments, status=status)).message.tool_calls
    assert call.arguments == expected


def test_items_of_other_servers() -> None:
    """No type, no call_id, content as text: what is meant is plain."""
    items = [
        {"role": "assistant", "content": "hello"},
        {"type": "function_call", "id": "c", "name": "f", "arguments": "{}"},
        {"id": "?"},
        7,
    ]
    message = decode(*items).message
    assert message.text == "hello"
    assert [(call.id, call.name) for call in message.tool_calls] == [("c", "f")]
    assert len(message.parts) == 2


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("server_error", Overloaded),
        ("rate_limit_exceeded", RateLimited),
        ("vector_store_timeout", Overloaded),
        ("invalid_prompt", InvalidRequest),
        ("image_too_large", InvalidRequest),
        ("failed_to_download_image", InvalidRequest),
        ("context_length_exceeded", ContextOverflow),
        ("image_content_policy_violation", ContentFiltered),
        ("cyber_policy", ContentFiltered),
        (None, Overloaded),
    ],
)
def test_a_failed_response(code: str | None, kind: type[ProviderError]) -> None:
    """Scenario 86: whole or streamed, its error is typed by its code; what it had said is kept."""
    body = response(said("half"), status="failed", error={"code": code, "message": "boom"})
    for run in (lambda: DIALECT.decode(json.dumps(body).encode()), lambda: play(event("failed", None, response=body))):
        with pytest.raises(ProviderError, match="boom") as caught:
            run()
        assert (type(caught.value), caught.value.code) == (kind, code)
        assert caught.value.retryable is (kind in (Overloaded, RateLimited))
        assert caught.value.partial == Message("assistant", (Text("half"),), True)


@pytest.mark.parametrize("error", [None, {}, "", 7, {"message": None}])
def test_a_failed_response_without_a_reason(error: Any) -> None:
    with pytest.raises(Overloaded, match="does not say why"):
        decode(status="failed", error=error)


def test_a_cancelled_response_is_no_answer() -> None:
    with pytest.raises(StreamInterrupted, match="cancelled") as caught:
        decode(said("half"), called(), status="cancelled")
    partial = caught.value.partial
    assert partial is not None
    assert (partial.text, partial.partial, partial.provider_data) == ("half", True, None)
    assert [call.arguments for call in partial.tool_calls] == [None]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", BadResponse),
        (b"<html>", BadResponse),
        (b"null", BadResponse),
        (b"[]", BadResponse),
        (b"{}", BadResponse),
        (b"[" * 5000, BadResponse),
        (json.dumps(completion()).encode(), BadResponse),
        (b'{"status": "completed"}', BadResponse),
        (b'{"output": "x"}', BadResponse),
        (b'{"status": "error", "message": "boom"}', Overloaded),
        (b'{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}', RateLimited),
        (b'{"detail": "boom"}', Overloaded),
        (b'{"error": "boom"}', Overloaded),
    ],
)
def test_what_is_no_response(body: bytes, kind: type[ProviderError]) -> None:
    """Scenarios 86 and 91."""
    with pytest.raises(ProviderError) as caught:
        DIALECT.decode(body)
    assert type(caught.value) is kind
    assert len(str(caught.value)) < 1000


# Streams.

REASONING = [
    event("output_item.added", 0, item={**thought(), "encrypted_content": "begun"}),
    event("reasoning_summary_part.added", 0, summary_index=0, part={"type": "summary_text", "text": ""}),
    event("reasoning_summary_text.delta", 0, summary_index=0, delta="On"),
    event("reasoning_summary_text.delta", 0, summary_index=0, delta="e."),
    event("reasoning_summary_text.done", 0, summary_index=0, text="One."),
    event("reasoning_summary_text.delta", 0, summary_index=1, delta="Two."),
    event("output_item.done", 0, item=thought("One.", "Two.")),
]
SPEAKING = [
    event("output_item.added", 1, item={**said(), "status": "in_progress"}),
    event("content_part.added", 1, content_index=0, part=text_piece("")),
    event("output_text.delta", 1, content_index=0, delta="Ra"),
    event("output_text.delta", 1, content_index=0, delta="in."),
    event("output_text.done", 1, content_index=0, text="Rain."),
    event("output_item.done", 1, item=said("Rain.")),
]
CALLING = [
    event("output_item.added", 2, item={**called(""), "status": "in_progress"}),
    event("function_call_arguments.delta", 2, delta='{"city":'),
    event("function_call_arguments.delta", 2, delta='"Oslo"}'),
    event("function_call_arguments.done", 2, arguments='{"city":"Oslo"}'),
    event("output_item.done", 2, item=called()),
]
OUTPUT = (thought("One.", "Two."), said("Rain."), called())
WHOLE = decode(*OUTPUT)
TERMINAL = event("completed", None, response=response(*OUTPUT))
OPENING = [event("created", None, response=response(status="in_progress")), event("in_progress", None)]


def without(chunks: list[Any], *kinds: str) -> list[Any]:
    return [each for each in chunks if each["type"].removeprefix("response.") not in kinds]


ALL = [*OPENING, *REASONING, *SPEAKING, *CALLING]
SETTLING = ("output_item.done", "output_text.done", "function_call_arguments.done", "reasoning_summary_text.done")
DELTAS = ("output_text.delta", "function_call_arguments.delta", "reasoning_summary_text.delta")


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([*ALL, TERMINAL], id="the standard"),
        pytest.param([*ALL, END], id="an empty output at the end"),
        pytest.param([*ALL, event("completed", None)], id="a terminal event without a body"),
        pytest.param([*without(ALL, *DELTAS), TERMINAL], id="no deltas"),
        pytest.param([*without(ALL, *DELTAS), END], id="no deltas, an empty output"),
        pytest.param([*told(*OUTPUT), END], id="whole items only"),
        pytest.param([TERMINAL], id="the terminal event only"),
        pytest.param([*without(ALL, "output_item.added"), TERMINAL], id="no item is opened"),
        pytest.param([*without(ALL, *SETTLING), TERMINAL], id="no item is settled"),
        pytest.param([*OPENING, *CALLING, *REASONING, *SPEAKING, TERMINAL], id="another order"),
        pytest.param(
            [*OPENING, *(each for trio in zip(REASONING, SPEAKING, CALLING, strict=False) for each in trio), TERMINAL],
            id="alternating",
        ),
        pytest.param(
            [*({key: value for key, value in each.items() if key != "output_index"} for each in SPEAKING), TERMINAL],
            id="no index",
        ),
        pytest.param([*ALL, TERMINAL, *ALL, {"type": "error"}], id="something behind the end"),
    ],
)
def test_streams(chunks: list[Any]) -> None:
    """Whatever a server leaves out, all of the answer is there, and each of it was shown once."""
    seen, reply = play(*chunks)
    assert reply.message == WHOLE.message
    assert (reply.stop_reason, reply.stop_reason_raw) == ("tool_calls", "completed")
    assert shown(seen) == "Rain."
    assert shown(seen, ThinkingDelta) == "One.\n\nTwo."
    calls = [each for each in seen if isinstance(each, ToolCallDelta)]
    assert "".join([each.arguments for each in calls]) == '{"city":"Oslo"}'
    assert [(each.index, each.id, each.name) for each in calls if each.name] == [(0, "call_1", "weather")]


def test_id_and_model_come_from_the_opening_where_the_end_has_none() -> None:
    _, reply = play(*ALL, event("completed", None, response={"status": "completed"}))
    assert (reply.response_id, reply.model) == ("resp_1", "gpt-5-mini-1")


def test_the_end_of_a_stream_is_what_counts() -> None:
    """An answer that goes on is shown to its end; one that says something else is not shown twice."""
    seen, reply = play(*SPEAKING, event("completed", None, response=response(said("Rain. Later sun."))))
    assert (shown(seen), reply.message.text) == ("Rain. Later sun.", "Rain. Later sun.")
    seen, reply = play(*SPEAKING, event("completed", None, response=response(said("Removed."))))
    assert (shown(seen), reply.message.text) == ("Rain.", "Removed.")
    seen, reply = play(*SPEAKING[:4], event("output_text.done", 1, content_index=0, text="Removed."), END)
    assert (shown(seen), reply.message.text) == ("Rain.", "Removed.")


def test_parallel_calls_are_told_apart_by_index() -> None:
    deltas = [
        event("output_item.added", 0, item=called("", "fc_1")),
        event("output_item.added", 1, item=called("", "fc_2")),
        event("function_call_arguments.delta", 1, delta='{"b":'),
        event("function_call_arguments.delta", 0, delta='{"a":'),
        event("function_call_arguments.delta", 1, delta="2}"),
        event("function_call_arguments.delta", 0, delta="1}"),
    ]
    seen, reply = play(*deltas, *told(called('{"a":1}', "fc_1"), called('{"b":2}', "fc_2")), END)
    pieces = ["", ""]
    for each in seen:
        assert isinstance(each, ToolCallDelta)
        pieces[each.index] += each.arguments
    assert pieces == [call.raw for call in reply.message.tool_calls] == ['{"a":1}', '{"b":2}']


def test_parallel_calls_are_told_apart_by_id_where_there_is_no_index() -> None:
    deltas = [
        event("output_item.added", 0, item=called("", "fc_1")),
        event("output_item.added", 1, item=called("", "fc_2")),
        event("function_call_arguments.delta", None, item_id="fc_1", delta="{}"),
    ]
    seen, _ = play(*deltas, event("completed", None, response=response(called("{}"), called("{}", "fc_2"))))
    assert [(each.index, each.arguments) for each in seen if isinstance(each, ToolCallDelta)] == [
        (0, ""),
        (1, ""),
        (0, "{}"),
        (1, "{}"),
    ]


def test_a_name_that_comes_late() -> None:
    seen, _ = play(event("function_call_arguments.delta", 0, delta="{}"), *told(called("{}")), END)
    assert seen == [ToolCallDelta(0, "{}"), ToolCallDelta(0, "", "call_1", "weather")]


def test_raw_reasoning_in_a_stream() -> None:
    """Open models show it; where a summary follows, it is not shown besides."""
    pieces = [event("reasoning_text.delta", 0, content_index=0, delta=piece) for piece in ("h", "m")]
    summary = event("reasoning_summary_text.delta", 0, summary_index=0, delta="Short.")
    seen, reply = play(*pieces, *SPEAKING, END)
    assert (shown(seen, ThinkingDelta), reply.message.thinking) == ("hm", "hm")
    assert shown(play(*pieces, summary, *SPEAKING, END)[0], ThinkingDelta) == "hm"


def test_refusals_in_a_stream() -> None:
    pieces = [event("refusal.delta", 0, content_index=0, delta=piece) for piece in ("N", "o")]
    seen, reply = play(*pieces, event("refusal.done", 0, content_index=0, refusal="No."), END)
    assert (shown(seen, RefusalDelta), reply.message.refusal, reply.stop_reason) == ("No.", "No.", "refusal")


def test_an_incomplete_answer_is_an_answer() -> None:
    body = response(status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    _, reply = play(*SPEAKING, event("incomplete", None, response=body))
    assert (reply.message.text, reply.stop_reason) == ("Rain.", "length")


def test_a_call_that_a_limit_cut_never_runs() -> None:
    """Scenario 87: it had no arguments yet, which is not the same as having none."""
    body = response(status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    _, reply = play(CALLING[0], event("incomplete", None, response=body))
    assert [call.arguments for call in reply.message.tool_calls] == [None]


@pytest.mark.parametrize("kind", ["web_search_call.searching", "novelty", "queued", "output_text.annotation.added"])
def test_unknown_events_are_passed_over(kind: str) -> None:
    strange: dict[str, Any] = {**event(kind, 0), "item": 7, "delta": [], "text": 1}
    assert play(*SPEAKING[:3], strange, *SPEAKING[3:], END)[1].message.text == "Rain."


def test_event_types_of_the_servers_own() -> None:
    data = b"event: ping\ndata: now\n\nevent: keepalive\ndata: {}\n\n" + events(*SPEAKING, END, done=False)
    decoder = DIALECT.decoder()
    for raw in SSEParser().feed(data):
        decoder.feed(raw)
    assert decoder.finish(clean=True).message.text == "Rain."


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("done", [True, False])
def test_only_a_terminal_event_makes_an_answer_whole(done: bool, clean: bool) -> None:
    """Scenario 87, however whole it looks."""
    with pytest.raises(StreamInterrupted) as caught:
        play(*ALL, done=done, clean=clean)
    partial = caught.value.partial
    assert partial is not None
    assert (partial.text, partial.thinking, partial.partial) == ("Rain.", "One.\n\nTwo.", True)
    assert (partial.provider_data, partial.server_items) == (None, ())
    assert [(call.name, call.arguments) for call in partial.tool_calls] == [("weather", None)]


def test_half_a_call_is_not_kept() -> None:
    decoder = DIALECT.decoder()
    for raw in SSEParser().feed(events(*SPEAKING, *CALLING[:-1], done=False)):
        decoder.feed(raw)
    partial = decoder.partial()
    assert partial is not None
    assert (partial.text, partial.tool_calls) == ("Rain.", ())
    assert DIALECT.decoder().partial() is None


@pytest.mark.parametrize(
    "failed",
    [
        {"type": "error", "code": "server_error", "message": "boom", "param": None, "sequence_number": 3},
        {"type": "error", "error": {"type": "server_error", "code": None, "message": "boom"}},
        {"error": {"message": "boom"}},
        {"error": "boom"},
        {"detail": "boom"},
        event("failed", None, response={"status": "failed", "error": {"code": "server_error", "message": "boom"}}),
        event("completed", None, response={"error": {"message": "boom"}}),
    ],
)
def test_an_error_inside_a_stream(failed: Any) -> None:
    """Scenario 86."""
    with pytest.raises(Overloaded, match="boom") as caught:
        play(*SPEAKING[:3], failed)
    assert caught.value.error_type != "error"
    assert caught.value.partial == Message("assistant", (Text("Ra"),), True)


def test_an_error_event_that_says_when_to_come_back() -> None:
    told = {"type": "error", "code": "rate_limit_exceeded", "message": "Please try again in 1.5s."}
    with pytest.raises(RateLimited) as caught:
        play(told)
    assert caught.value.retry_after == 1.5


@pytest.mark.parametrize(
    "data", [b"{", b"\xff", b"[" * 5000, b"null", b"7", b"hello", b"{}", b'{"choices": []}', b'{"type": 7']
)
def test_a_malformed_event(data: bytes) -> None:
    """Scenario 90."""
    decoder = DIALECT.decoder()
    with pytest.raises(BadResponse) as caught:
        for raw in SSEParser().feed(events(*SPEAKING[:3], done=False) + b"data: " + data + b"\n\n"):
            decoder.feed(raw)
    assert len(str(caught.value)) < 1000
    assert caught.value.partial == Message("assistant", (Text("Ra"),), True)


# Any bytes.


@given(st.lists(st.integers(1, 4000), max_size=12))
def test_any_chunks_give_the_same_reply(cuts: list[int]) -> None:
    """Scenario 90."""
    data = events(*ALL, TERMINAL, done=False)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    decoder, parser = DIALECT.decoder(), SSEParser()
    for start, end in pairwise(places):
        for raw in parser.feed(data[start:end]):
            decoder.feed(raw)
    assert decoder.finish(clean=True).message == WHOLE.message


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "id", "x"]), inner),
    max_leaves=5,
)


def spoiled(value: Any, dice: random.Random, wrong: Any) -> Any:
    """The value with something else, or nothing, at some of its places."""
    if dice.random() < 0.06:
        return wrong
    match value:
        case dict():
            held = cast("dict[str, Any]", value)
            return {key: spoiled(inner, dice, wrong) for key, inner in held.items() if dice.random() > 0.03}
        case list():
            return [spoiled(inner, dice, wrong) for inner in cast("list[Any]", value)]
        case _:
            return value


@given(st.integers(), JSON)
def test_spoiled_answers_are_replies_or_typed_errors(seed: int, wrong: Any) -> None:
    """Scenario 91: never a KeyError, and what was read can be sent again."""
    dice = random.Random(seed)
    body = spoiled(
        response(searched(), *OUTPUT, {**said("x"), "content": [{"type": "refusal", "refusal": "n"}]}), dice, wrong
    )
    try:
        reply = DIALECT.decode(json.dumps(body).encode())
        DIALECT.encode(ModelRequest([reply.message]), stream=False)
    except ProviderError:
        pass
    decoder = DIALECT.decoder()
    try:
        for raw in SSEParser().feed(events(*[spoiled(each, dice, wrong) for each in [*ALL, TERMINAL]], done=False)):
            decoder.feed(raw)
        DIALECT.encode(ModelRequest([decoder.finish(clean=True).message]), stream=False)
    except ProviderError:
        decoder.partial()


@given(st.binary(max_size=60))
def test_any_body_is_a_reply_or_a_typed_error(data: bytes) -> None:
    with pytest.raises(ProviderError):
        DIALECT.decode(data)
    DIALECT.read_error(500, {}, data, now=0.0)
    decoder = DIALECT.decoder()
    with pytest.raises(ProviderError):
        for raw in SSEParser().feed(b"data: " + data + b"\n\n"):
            decoder.feed(raw)
        decoder.finish(clean=True)


# Requests: settings.


def encode(request: ModelRequest, *, stream: bool = False, model: str = "gpt-5-mini") -> dict[str, Any]:
    encoded = ResponsesDialect(model).encode(request, stream=stream)
    assert encoded.path == "/responses"
    return json.loads(encoded.body)


def sent(*messages: Any, model: str = "gpt-5-mini") -> list[dict[str, Any]]:
    """Without what stands there when nothing of the conversation can be sent, since no items at all are refused."""
    items = encode(ModelRequest(messages), model=model)["input"]
    return [] if items == [{"role": "user", "content": "(empty)"}] else items


CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def test_a_whole_request() -> None:
    request = ModelRequest(
        [user("hi")],
        tools=[
            ToolSpec("f", "does", CLOSED),
            ToolSpec("g", "", {"type": "object"}),
            ToolSpec("h", "", {}, strict=True),
        ],
        instructions="be brief",
        settings={
            "temperature": 0,
            "top_p": 0.5,
            "max_tokens": 50,
            "tool_choice": "f",
            "parallel_tool_calls": False,
            "reasoning_effort": "low",
        },
        output_schema={"title": "My Answer!", **CLOSED},
    )
    body = encode(request, stream=True)
    empty: dict[str, Any] = {"type": "object", "properties": {}}
    assert body == {
        "model": "gpt-5-mini",
        "input": [{"role": "user", "content": "hi"}],
        "instructions": "be brief",
        "stream": True,
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "tools": [
            {"type": "function", "name": "f", "description": "does", "parameters": CLOSED, "strict": True},
            {"type": "function", "name": "g", "description": "", "parameters": empty, "strict": False},
            {"type": "function", "name": "h", "description": "", "parameters": empty, "strict": True},
        ],
        "tool_choice": {"type": "function", "name": "f"},
        "parallel_tool_calls": False,
        "text": {
            "format": {
                "type": "json_schema",
                "name": "My_Answer_",
                "schema": {"title": "My Answer!", **CLOSED},
                "strict": True,
            }
        },
        "reasoning": {"effort": "low", "summary": "auto"},
        "temperature": 0,
        "top_p": 0.5,
        "max_output_tokens": 50,
    }


def test_streaming_is_refused_explicitly() -> None:
    """Some servers stream unless they are told not to."""
    assert encode(ModelRequest([user("x")]))["stream"] is False


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        ("gpt-5", True),
        ("gpt-5.2-chat-latest", True),
        ("o3", True),
        ("openai/gpt-oss-120b", True),
        ("my-deployment", True),
        ("gpt-4o", False),
        ("gpt-4.1-mini", False),
        ("ft:gpt-4o:acme", False),
        ("openai/gpt-4o-mini", False),
        ("gpt-3.5-turbo", False),
        ("chatgpt-4o-latest", False),
        ("gpt-5-chat-latest", False),
    ],
)
def test_encrypted_reasoning_is_asked_of_models_that_reason(model: str, asked: bool) -> None:
    """To ask a model for it that does not reason is an error."""
    assert ("include" in encode(ModelRequest([user("x")]), model=model)) is asked


@pytest.mark.parametrize(("name", "value"), [("seed", 1), ("stop", "x")])
def test_settings_that_this_api_does_not_know(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"settings: {name} is unknown to the Responses API"):
        encode(ModelRequest([user("x")], settings={name: value}))


def test_no_summary_of_no_reasoning() -> None:
    assert encode(ModelRequest([user("x")], settings={"reasoning_effort": "none"}))["reasoning"] == {"effort": "none"}


def test_extra_is_added_to_what_the_request_says() -> None:
    extra = {
        "tools": [{"type": "web_search"}],
        "include": ["web_search_call.action.sources", "reasoning.encrypted_content"],
        "text": {"verbosity": "low"},
        "reasoning": {"summary": None},
        "service_tier": "flex",
        "store": True,
    }
    settings = {"reasoning_effort": "low", "extra": extra}
    body = encode(ModelRequest([user("x")], tools=[ToolSpec("f", "", CLOSED)], settings=settings, output_schema=CLOSED))
    assert [tool["type"] for tool in body["tools"]] == ["function", "web_search"]
    assert body["include"] == ["reasoning.encrypted_content", "web_search_call.action.sources"]
    assert (set(body["text"]), body["reasoning"]) == ({"format", "verbosity"}, {"effort": "low"})
    assert (body["service_tier"], body["store"]) == ("flex", True)
    none = encode(ModelRequest([user("x")], settings={"extra": {"include": []}}))
    assert "include" not in none
    hosted = {"tool_choice": "required", "extra": {"tools": [{"type": "web_search"}]}}
    assert encode(ModelRequest([user("x")], settings=hosted))["tool_choice"] == "required"


@pytest.mark.parametrize("key", ["input", "instructions"])
def test_extra_does_not_replace_the_conversation(key: str) -> None:
    with pytest.raises(ValueError, match=f"extra must not hold '{key}'"):
        encode(ModelRequest([user("x")], settings={"extra": {key: "y"}}))


def test_no_choice_without_tools() -> None:
    body = encode(ModelRequest([user("x")], settings={"tool_choice": "required", "parallel_tool_calls": True}))
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(body)


STRING = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (CLOSED, True),
        ({**CLOSED, "title": "T", "description": "d", "$defs": {"b": CLOSED}}, True),
        ({**CLOSED, "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": CLOSED}}, True),
        ({**CLOSED, "properties": {"a": {"type": ["string", "null"]}}}, True),
        ({**CLOSED, "properties": {"a": {"anyOf": [STRING, {"type": "array", "items": STRING}]}}}, True),
        ({**CLOSED, "properties": {"a": {"enum": ["x", 1]}}}, True),
        ({**CLOSED, "properties": {"a": {"type": "string", "format": "date", "pattern": "^x"}}}, True),
        ({}, False),
        ({"type": "object"}, False),
        ({"type": "array", "items": CLOSED}, False),
        ({**CLOSED, "required": []}, False),
        ({**CLOSED, "required": ["a", "b"]}, False),
        ({**CLOSED, "required": None}, False),
        ({**CLOSED, "required": [["a"]]}, False),
        ({**CLOSED, "additionalProperties": True}, False),
        ({**CLOSED, "anyOf": [CLOSED]}, False),
        ({**CLOSED, "$defs": {"x": {"type": "object"}}}, False),
        ({**CLOSED, "$defs": 7}, False),
        ({**CLOSED, "properties": {"a": {}}}, False),
        ({**CLOSED, "properties": {"a": True}}, False),
        ({**CLOSED, "properties": {"a": {"type": "string", "default": "x"}}}, False),
        ({**CLOSED, "properties": {"a": {"type": "string", "minLength": 1}}}, False),
        ({**CLOSED, "properties": {"a": {"type": "string", "format": "uri"}}}, False),
        ({**CLOSED, "properties": {"a": {"type": "string", "pattern": "^(?!x)"}}}, False),
        ({**CLOSED, "properties": {"a": {"oneOf": [STRING]}}}, False),
        ({**CLOSED, "properties": {"a": {"type": "array"}}}, False),
        ({**CLOSED, "properties": {"a": {"type": "array", "items": False}}}, False),
        ({**CLOSED, "properties": {"a": {"anyOf": 7}}}, False),
        ({**CLOSED, "properties": {"a": {"type": "date"}}}, False),
        ({**CLOSED, "properties": {"a": {"$ref": "#/$defs/b", "description": "d"}}}, False),
    ],
)
def test_a_schema_is_strict_only_where_it_already_is(schema: dict[str, Any], strict: bool) -> None:
    """A schema that is called strict and is not gets the request refused; one that is not called so is made so."""
    assert obeys_strict_rules(schema) is strict


def test_a_deep_schema_is_not_strict() -> None:
    schema: dict[str, Any] = CLOSED
    for _ in range(2000):
        schema = {**CLOSED, "properties": {"a": schema}}
    assert not obeys_strict_rules(schema)


# Requests: the conversation.


def reply_of(*output: Any) -> Message:
    return decode(*output).message


@pytest.mark.parametrize(
    "output",
    [
        (thought("One.", "Two."), said("Rain.", phase="commentary"), called()),
        (thought(), called(id="fc_1"), called(id="fc_2")),
        (thought(), said(""), called()),
        (said("x"),),
        (said("x", "y"), said("z", id="msg_2")),
        ({**said("x"), "content": [text_piece("x"), {"type": "refusal", "refusal": "n"}]},),
        (thought(), searched(), thought(id="rs_2"), {**said(), "content": [text_piece("x", logprobs=[])]}),
        ({**thought("s", sealed=None), "content": [{"type": "reasoning_text", "text": "hm"}]}, said("x")),
        ({"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"}, said("x")),
        ({"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "s", "tools": []}, said("x")),
        ({"type": "tool_search_call", "id": "ts_1", "call_id": None, "execution": "server"}, said("x")),
    ],
)
def test_what_the_provider_made_goes_back_unchanged(output: Any) -> None:
    """Reasoning with its encrypted content right before the item it belongs to, phases, ids, tools of the provider."""
    message = reply_of(*output)
    results = [tool_result(call.id or "", "ok") for call in message.tool_calls]
    items = sent(user("hi"), message, *results)
    expected = [{key: value for key, value in item.items() if value is not None} for item in output]
    assert items[1 : 1 + len(output)] == expected
    assert len(items) == 1 + len(output) + len(results)
    assert json.loads(json.dumps(items)) == items


def test_a_streamed_message_goes_back_like_a_whole_one() -> None:
    message = play(*ALL, TERMINAL)[1].message
    assert sent(message, tool_result("call_1", "ok")) == sent(WHOLE.message, tool_result("call_1", "ok"))


NEUTRAL = [{"role": "assistant", "content": "Rain."}]
CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city":"Oslo"}'}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "ok"}


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ((1, 2), [*NEUTRAL, CALL]),
        ((2,), [CALL]),
        ((0, 2), [CALL]),
        ((0, 1), NEUTRAL),
        ((1, 0, 2), [*NEUTRAL, CALL]),
        ((0,), []),
    ],
)
def test_of_a_trimmed_message_neither_reasoning_nor_ids_are_sent(keep: tuple[int, ...], expected: list[Any]) -> None:
    """Reasoning without its item is refused, and so is an item, named by its id, without its reasoning."""
    whole = reply_of(*OUTPUT)
    parts = tuple([whole.parts[index] for index in keep])
    message = Message("assistant", parts, False, whole.provider_data)
    results = [tool_result(call.id or "", "ok") for call in message.tool_calls]
    assert sent(message, *results) == [*expected, *([RESULT] if results else [])]


def test_trimmed_pieces_of_a_message() -> None:
    whole = reply_of(thought(), said("Ra", "in."))
    assert sent(Message("assistant", whole.parts[:2], False, whole.provider_data)) == [
        {"role": "assistant", "content": "Ra"}
    ]


def test_edited_thinking_and_added_parts() -> None:
    whole = reply_of(*OUTPUT[:2])
    mine = msgspec.structs.replace(whole.parts[0], text="Mine.")
    edited = Message("assistant", (mine, whole.parts[1]), False, whole.provider_data)
    added = Message("assistant", (*whole.parts, Text("And sun.")), False, whole.provider_data)
    assert sent(edited) == NEUTRAL
    assert sent(added) == [{"role": "assistant", "content": "Rain.And sun."}]


def test_reasoning_that_is_known_by_its_id_alone_is_not_sent() -> None:
    """Nothing is stored: its id means nothing."""
    assert sent(reply_of(thought(sealed=None), said("Rain."))) == NEUTRAL


def test_reasoning_at_the_end_of_a_cut_answer_is_not_sent() -> None:
    """A limit on tokens leaves it there, and it has no item to go with."""
    assert sent(reply_of(thought("One."))) == []
    assert sent(reply_of(said("Rain."), thought())) == [said("Rain.")]


def test_reasoning_that_was_never_told_whole_is_not_sent() -> None:
    """What is encrypted when an item opens is not yet all of it."""
    opened = event("output_item.added", 0, item={**thought(), "encrypted_content": "begun"})
    assert sent(play(opened, *SPEAKING, END)[1].message) == NEUTRAL


def test_reasoning_has_a_summary_be_it_empty() -> None:
    item = {"type": "reasoning", "id": "rs_1", "content": [{"type": "reasoning_text", "text": "hm"}]}
    assert sent(reply_of(item, said("x")))[0] == {**item, "summary": []}


@pytest.mark.parametrize(
    "other", [ResponsesDialect("gpt-5"), ResponsesDialect("gpt-5-mini", vendor="azure")], ids=["model", "vendor"]
)
def test_other_models_and_vendors_get_what_is_neutral(other: ResponsesDialect) -> None:
    """What one of them encrypted the other cannot read."""
    compacted = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"}
    request = ModelRequest([reply_of(compacted, searched(), *OUTPUT), tool_result("call_1", "ok")])
    body = json.loads(other.encode(request, stream=False).body)
    assert body["input"] == [*NEUTRAL, CALL, RESULT]


def test_details_without_a_stamp_are_not_opened() -> None:
    """A message of another family may look the same."""
    whole = reply_of(*OUTPUT)
    assert sent(Message("assistant", whole.parts), tool_result("call_1", "ok")) == [*NEUTRAL, CALL, RESULT]


def test_a_message_that_comes_twice_is_sent_once_with_its_ids() -> None:
    """An id that occurs twice is refused."""
    whole = reply_of(thought(), said("Rain."))
    assert sent(whole, whole) == [thought(), said("Rain."), *NEUTRAL]
    twins = reply_of(said("a"), said("b"))
    assert sent(twins) == [{"role": "assistant", "content": "ab"}]


def test_a_phase_survives_what_was_lost() -> None:
    whole = reply_of(thought(sealed=None), said("a", phase="commentary"), said("b", id="msg_2", phase="final_answer"))
    assert sent(whole) == [
        {"role": "assistant", "content": "a", "phase": "commentary"},
        {"role": "assistant", "content": "b", "phase": "final_answer"},
    ]


def test_a_compaction_survives_what_was_lost() -> None:
    """It stands for the conversation before it."""
    whole = reply_of(
        {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"}, thought(sealed=None), said("x")
    )
    assert sent(whole) == [
        {"type": "compaction", "encrypted_content": "gAAA"},
        {"role": "assistant", "content": "x"},
    ]


COMPUTER = {"type": "computer_call", "id": "cu_1", "call_id": "call_9", "action": {"type": "screenshot"}}
SEEN = {"type": "computer_call_output", "call_id": "call_9", "output": {"type": "computer_screenshot"}}
ASKING = {"type": "mcp_approval_request", "id": "mcpr_1", "name": "n", "arguments": "{}", "server_label": "s"}
GRANTED = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}


@pytest.mark.parametrize(("asked", "answer"), [(COMPUTER, SEEN), (ASKING, GRANTED)])
def test_calls_that_the_caller_answers_are_sent_with_their_answer_only(asked: Any, answer: Any) -> None:
    """One that nobody answers is refused."""
    message = reply_of(thought(), asked)
    stamp = message.provider_data
    for role in ("user", "tool"):
        answering = Message(role, (ServerItem(answer["type"], answer),), False, stamp)
        assert sent(message, answering) == [thought(), asked, answer]
    assert sent(message, user("never mind")) == [{"role": "user", "content": "never mind"}]
    foreign = (ServerItem(answer["type"], answer), Text("x"))
    assert sent(message, Message("tool", foreign)) == []
    assert sent(Message("user", foreign)) == [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]


def test_a_partial_message_is_text() -> None:
    """Its thinking was not signed, and its calls never ran."""
    parts = (Thinking("One."), Text("Ra"), ToolCall("c", "weather", None, '{"ci'))
    assert sent(Message("assistant", parts, True)) == [{"role": "assistant", "content": "Ra"}]
    items = sent(Message("assistant", parts, True), tool_result("c", "cancelled", is_error=True))
    assert [item.get("type") for item in items] == [None, "function_call", "function_call_output"]
    stamped = reply_of(*OUTPUT[:2])
    assert sent(Message("assistant", stamped.parts, True, stamped.provider_data)) == NEUTRAL


def test_messages_of_any_origin() -> None:
    """Instructions in the middle, silence, several results, calls without ids, refusals, bad arguments."""
    items = sent(
        system("Be kind."),
        user("a"),
        user("b"),
        assistant(Text("")),
        assistant(Text("x"), Text("y"), tool_calls=[ToolCall(None, "f", {"a": 1}, "")]),
        tool_result("", "one"),
        system(""),
        assistant(tool_calls=[ToolCall("k" * 70, "functions.f", None, "{oops"), ToolCall("c", "g", {}, "")]),
        tool_result("c", "two"),
        tool_result("k" * 70, "three", is_error=True),
        assistant(Text("So: "), Refusal("no.")),
    )
    first, second = items[4]["call_id"], items[6]["call_id"]
    assert len({first, second, "c"}) == 3
    assert len(second) <= 64
    assert items == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "xy"},
        {"type": "function_call", "call_id": first, "name": "f", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": first, "output": "one"},
        {
            "type": "function_call",
            "call_id": second,
            "name": "functions_f",
            "arguments": '{"invalid_arguments":"{oops"}',
        },
        {"type": "function_call", "call_id": "c", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "two"},
        {"type": "function_call_output", "call_id": second, "output": "three"},
        {
            "role": "assistant",
            "content": [{"type": "output_text", "text": "So: "}, {"type": "refusal", "refusal": "no."}],
        },
    ]


def test_images_and_documents() -> None:
    (item,) = sent(
        user(
            "Look:",
            image("https://x/a.png", detail="low"),
            image(b"ab", media_type="image/png"),
            document(b"ab", media_type="application/pdf", name="a.pdf"),
            document(b"ab", media_type="application/pdf"),
            document("https://x/a.pdf"),
        )
    )
    assert item["content"] == [
        {"type": "input_text", "text": "Look:"},
        {"type": "input_image", "image_url": "https://x/a.png", "detail": "low"},
        {"type": "input_image", "image_url": "data:image/png;base64,YWI=", "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,YWI="},
        {"type": "input_file", "filename": "document", "file_data": "data:application/pdf;base64,YWI="},
        {"type": "input_file", "file_url": "https://x/a.pdf"},
    ]
    assert sent(user()) == [{"role": "user", "content": ""}]
    with pytest.raises(ValueError, match="a user message cannot hold a part of type Thinking"):
        sent(user(Thinking("x")))


# Errors.


@pytest.mark.parametrize(
    ("param", "code", "hint"),
    [
        ("include", None, r"'include': \[\]"),
        ("reasoning.summary", "unsupported_value", "'summary': None"),
        (None, "invalid_encrypted_content", "another account"),
        ("model", None, None),
    ],
)
def test_errors_that_the_caller_can_mend_say_so(param: str | None, code: str | None, hint: str | None) -> None:
    """A model that does not reason, an organisation that is not verified, a key of another account."""
    body = {"error": {"message": "no", "type": "invalid_request_error", "param": param, "code": code}}
    error = DIALECT.read_error(400, {}, json.dumps(body).encode(), now=0.0)
    assert type(error) is InvalidRequest
    assert (error.hint is None) is (hint is None)
    if hint is not None:
        with pytest.raises(InvalidRequest, match=hint):
            raise error


def test_errors_are_read_as_elsewhere() -> None:
    """Scenario 85."""
    assert isinstance(DIALECT.read_error(401, {}, b"{}", now=0.0), AuthError)
    error = DIALECT.read_error(429, {"retry-after": "7"}, b'{"error":{"message":"x"}}', now=0.0)
    assert (type(error), error.retry_after) == (RateLimited, 7.0)


# The provider.


@pytest.mark.anyio
async def test_over_http() -> None:
    """Path, key and both kinds of answer."""
    answers = [json_answer(response(said("hello"))), sse_answer(events(*ALL, TERMINAL, done=False))]
    async with serve(*answers) as server:
        model = OpenAIResponses("gpt-5-mini", base_url=server.url + "/v1/responses", api_key="sk-secret")
        assert (await model.complete(ModelRequest([user("x")]))).message.text == "hello"
        async with model.stream(ModelRequest([user("x")])) as stream:
            seen = [each async for each in stream]
        assert stream.reply.message == WHOLE.message
        assert shown(seen) == "Rain."
        assert [request.target for request in server.requests] == ["/v1/responses"] * 2
        assert [request.json["stream"] for request in server.requests] == [False, True]
        assert server.requests[0].headers["authorization"] == "Bearer sk-secret"


@pytest.mark.anyio
async def test_a_signer_takes_the_place_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    async with serve(json_answer(response(said("hello")))) as server:
        model = OpenAIResponses("m", base_url=server.url, signer=lambda request: {"authorization": "Bearer fresh"})
        await model.complete(ModelRequest([user("x")]))
        assert server.requests[0].headers["authorization"] == "Bearer fresh"
    with pytest.raises(AuthError, match="OPENAI_API_KEY"):
        await OpenAIResponses("m").complete(ModelRequest([user("x")]))


@pytest.mark.parametrize(("model", "error"), [(None, TypeError), (" ", ValueError)])
def test_a_model_has_a_name(model: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="must be the model's name"):
        OpenAIResponses(model)
