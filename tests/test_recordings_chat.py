"""Recorded answers of every vendor of this family, over real HTTP: our result must be exactly the recorded one."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from greenroom.providers import (
    BadResponse,
    ModelReply,
    ModelRequest,
    OpenAIChat,
    ProviderError,
    Stalled,
    StreamInterrupted,
    Timeouts,
    ToolCallDelta,
    connect,
    user,
)
from greenroom.providers.connect import VENDORS

from .wire import Answer, Server, serve

pytestmark = pytest.mark.anyio

FAMILY = [
    "openai-chat",
    "azure-openai-chat",
    "groq",
    "deepseek",
    "openrouter",
    "together",
    "cerebras",
    "huggingface",
    "perplexity",
    "ollama-openai",
    "zai",
    "mistral",
]
CLASSES = {
    "bad_request": {"invalid_request", "context_overflow"},
    "authentication": {"auth"},
    "rate_limit": {"rate_limit"},
    "other": {"content_filter"},
}
REQUEST = ModelRequest([user("hello")])


def answer_of(record: dict[str, Any]) -> Answer:
    response = record["response"]
    skipped = ("content-length", "transfer-encoding", "content-encoding", "connection")
    headers = {name: value for name, value in response["headers"].items() if name.lower() not in skipped}
    if "sse_text" in response:
        return Answer([response["sse_text"].encode()], response["status"], headers)
    return Answer([json.dumps(response["body"], ensure_ascii=False).encode()], response["status"], headers, "length")


def provider(vendor: str, server: Server, **options: Any) -> OpenAIChat:
    known = vendor if vendor in VENDORS else "openai"
    made = connect(f"{known}:m", base_url=server.url + "/v1", api_key="sk-secret-of-the-test", **options)
    assert isinstance(made, OpenAIChat)
    return made


async def call(vendor: str, server: Server, record: dict[str, Any], **options: Any) -> ModelReply:
    """The reply, by `complete` for a recorded body and by `stream` for a recorded stream."""
    made = provider(vendor, server, **options)
    if "sse_text" not in record["response"]:
        return await made.complete(REQUEST)
    text: list[str] = []
    thinking: list[str] = []
    calls: dict[int, str] = {}
    async with made.stream(REQUEST) as stream:
        async for event in stream:
            if isinstance(event, ToolCallDelta):
                calls[event.index] = calls.get(event.index, "") + event.arguments
            else:
                {"TextDelta": text, "ThinkingDelta": thinking}[type(event).__name__].append(event.text)
    reply = stream.reply
    assert "".join(text) == reply.message.text
    assert "".join(thinking) == (reply.message.thinking or "")
    assert [calls[index] for index in sorted(calls)] == [item.raw for item in reply.message.tool_calls]
    return reply


def check_reply(reply: ModelReply, expected: dict[str, Any]) -> None:
    message, usage = reply.message, reply.usage
    assert message.text == expected["text"]
    assert message.thinking == expected["thinking"]
    assert message.refusal == expected["refusal"]
    assert [(item.id, item.name, item.arguments, item.raw) for item in message.tool_calls] == [
        (item["id"], item["name"], item["arguments"], item["arguments_raw"]) for item in expected["tool_calls"]
    ]
    for name in ("stop_reason", "stop_reason_raw", "model", "response_id"):
        assert getattr(reply, name) == expected[name], name
    if expected["usage"] is None:
        assert usage is None
        return
    assert usage is not None
    names = ("input_tokens", "output_tokens", "total_tokens", "cached_input_tokens", "cache_write_tokens")
    for name in (*names, "reasoning_tokens", "raw"):
        assert getattr(usage, name) == expected["usage"][name], name


def check_error(error: ProviderError, expected: dict[str, Any]) -> None:
    code = expected["error_code"] if expected["error_code"] is not None else expected["error_type"]
    assert error.kind in CLASSES[expected["class"]]
    assert error.status == expected["http_status"]
    assert error.message == expected["message"]
    assert error.code == (None if code is None else str(code))
    assert error.param == expected["param"]
    assert error.retryable is expected["retryable"]
    waits = expected["retry_after"]
    assert error.retry_after == (None if waits is None else float(waits["retry-after"]))
    assert "sk-secret" not in str(error) + repr(error)


@pytest.mark.parametrize("vendor", FAMILY)
async def test_recorded_answers(recordings: Path, vendor: str) -> None:
    """Scenarios 84 to 86 on recorded traffic."""
    records = [json.loads(path.read_text()) for path in sorted((recordings / vendor).glob("*.json"))]
    assert records
    for record in records:
        expected = record["expected"]
        failures = (expected.get("stream") or {}).get("errors")
        async with serve(answer_of(record)) as server:
            if expected["kind"] == "error":
                with pytest.raises(ProviderError) as caught:
                    await call(vendor, server, record)
                if record["id"] != "azure-openai-chat-012":
                    check_error(caught.value, expected)
                else:
                    # Its recorded "type" is the status 400 from inside the body; ours is the body's own, null.
                    check_error(caught.value, {**expected, "error_type": None})
            elif failures:
                with pytest.raises(ProviderError) as caught:
                    await call(vendor, server, record)
                error, partial = caught.value, caught.value.partial
                assert error.message == failures[0]["error"]["message"]
                assert error.code == failures[0]["error"]["code"]
                assert partial is not None
                assert (partial.text, partial.thinking) == (expected["text"], expected["thinking"])
            else:
                check_reply(await call(vendor, server, record), expected)


def cases(recordings: Path, *mutations: str) -> list[tuple[dict[str, Any], dict[str, Any], str]]:
    """Recipes of derived faults with their base record and its vendor."""
    listed = json.loads((recordings / "stream_faults.json").read_text())["cases"]
    found = [case for case in listed if case["mutation"] in mutations and case["file"].split("/")[0] in FAMILY]
    assert found
    return [(case, json.loads((recordings / case["file"]).read_text()), case["file"].split("/")[0]) for case in found]


def mutated(case: dict[str, Any], text: str) -> list[bytes]:
    data = text.encode()
    match case["mutation"]:
        case "one_byte_chunks":
            return [data[index : index + 1] for index in range(len(data))]
        case "crlf_line_endings":
            return [data.replace(b"\n", b"\r\n")]
        case "utf8_bom_first":
            return [b"\xef\xbb\xbf" + data]
        case "comment_line_between_events":
            line = case["params"]["line"].encode()
            return [data.replace(b"\n\n", b"\n\n" + line + b"\n\n")]
        case "chunk_boundaries":
            dice = random.Random(case["params"]["seed"])
            cuts = sorted(dice.sample(range(1, len(data)), min(60, len(data) - 1)))
            return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        case "garbage_event_inserted":
            parts = data.split(b"\n\n")
            parts.insert(int(len(parts) * case["params"]["at_fraction"]), case["params"]["event"].strip().encode())
            return [b"\n\n".join(parts)]
        case other:
            raise AssertionError(other)


async def test_the_same_stream_in_other_bytes(recordings: Path) -> None:
    """Scenario 90: boundaries, line endings, marks and comments change nothing."""
    for case, record, vendor in cases(
        recordings,
        "one_byte_chunks",
        "crlf_line_endings",
        "utf8_bom_first",
        "comment_line_between_events",
        "chunk_boundaries",
    ):
        pieces = mutated(case, record["response"]["sse_text"])
        if len(pieces) > 20_000:
            pieces = [b"".join(pieces[start : start + 7]) for start in range(0, len(pieces), 7)]
        expected = record["expected"]
        if case["mutation"] == "utf8_bom_first" and record["response"]["sse_text"].startswith(" "):
            continue
        async with serve(Answer(pieces, 200, {"content-type": "text/event-stream"})) as server:
            check_reply(await call(vendor, server, record), expected)


async def test_cut_streams(recordings: Path) -> None:
    """Scenario 87: a cut stream is interrupted, keeps its text and runs no tool."""
    for case, record, vendor in cases(recordings, "connection_cut_at_byte"):
        params, expect = case["params"], case["expect"]
        data = record["response"]["sse_text"].encode()[: params["byte"]]
        fin = params["how"] == "clean FIN"
        answer = Answer(
            [data],
            200,
            {"content-type": "text/event-stream"},
            "close" if fin else "chunked",
            "fin" if fin else "rst",
        )
        async with serve(answer) as server:
            if expect["finish_reason_seen_before_cut"]:
                reply = await call(vendor, server, record)
                assert [item.name for item in reply.message.tool_calls] == expect["tool_calls_begun_not_to_be_executed"]
                continue
            with pytest.raises(StreamInterrupted) as caught:
                await call(vendor, server, record)
            error = caught.value
            assert error.retryable
            partial = error.partial
            assert (partial.text if partial else "") == expect["text_from_complete_events"], case["case"]
            begun = partial.tool_calls if partial else ()
            assert [item.name for item in begun] == expect["tool_calls_begun_not_to_be_executed"], case["case"]
            assert all(item.arguments is None for item in begun)


async def test_stalled_streams(recordings: Path) -> None:
    """Scenario 89: silence ends within the idle timeout, and the connection is closed."""
    for case, record, vendor in cases(recordings, "stall_forever_after_byte"):
        data = record["response"]["sse_text"].encode()[: case["params"]["byte"]]
        async with serve(Answer([data], 200, {"content-type": "text/event-stream"}, "chunked", "stall")) as server:
            with pytest.raises(Stalled, match="idle"):
                await call(vendor, server, record, timeouts=Timeouts(idle=0.05))


async def test_garbage_in_streams(recordings: Path) -> None:
    """Scenario 90: an event that is not JSON is a typed error with a bounded excerpt."""
    for case, record, vendor in cases(recordings, "garbage_event_inserted"):
        pieces = mutated(case, record["response"]["sse_text"])
        async with serve(Answer(pieces, 200, {"content-type": "text/event-stream"})) as server:
            with pytest.raises(BadResponse, match="truncated") as caught:
                await call(vendor, server, record)
            assert caught.value.provider == (vendor if vendor in VENDORS else "openai")
            assert len(str(caught.value)) < 800


async def test_html_instead_of_a_stream(recordings: Path) -> None:
    """Scenario 91: HTML with status 200."""
    for case, record, vendor in cases(recordings, "content_type_html"):
        body = case["params"]["body"].encode()
        async with serve(Answer([body], 200, {"content-type": "text/html"}, "length")) as server:
            with pytest.raises(BadResponse, match="gateway"):
                await call(vendor, server, record)
