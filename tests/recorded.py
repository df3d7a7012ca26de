"""Recorded exchanges with providers, as the tests use them: played by a server on loopback, compared field by field.

`FAMILIES` says which provider of ours speaks to which vendor's recordings.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from greenroom.providers import (
    Bedrock,
    Cohere,
    ModelReply,
    ModelRequest,
    Ollama,
    OpenAIChat,
    OpenAIResponses,
    Provider,
    ProviderError,
    RefusalDelta,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    connect,
    user,
)
from greenroom.providers.anthropic import Anthropic, BedrockAnthropic
from greenroom.providers.connect import VENDORS
from greenroom.providers.gemini import Gemini, Vertex

from .wire import Answer, Server

KEY = "sk-secret-of-the-test"


def chat(vendor: str) -> Callable[[Server, dict[str, Any]], Provider]:
    """A maker of the Chat Completions provider for `vendor`."""
    known = vendor if vendor in VENDORS else "openai"

    def make(server: Server, options: dict[str, Any]) -> Provider:
        made = connect(f"{known}:m", base_url=server.url + "/v1", api_key=KEY, **options)
        assert isinstance(made, OpenAIChat)
        return made

    return make


def responses(server: Server, options: dict[str, Any]) -> Provider:
    """The Responses provider."""
    return OpenAIResponses("m", base_url=server.url + "/v1", api_key=KEY, **options)


#: The vendors that speak Chat Completions.
CHAT = (
    *("openai-chat", "azure-openai-chat", "groq", "deepseek", "openrouter", "together", "cerebras", "huggingface"),
    *("perplexity", "ollama-openai", "zai", "mistral"),
)
FAMILIES: dict[str, Callable[[Server, dict[str, Any]], Provider]] = {
    "bedrock-converse": lambda server, options: Bedrock("m", base_url=server.url, api_key=KEY, **options),
    "cohere": lambda server, options: Cohere("m", base_url=server.url, api_key=KEY, **options),
    "ollama": lambda server, options: Ollama("m", base_url=server.url, api_key=KEY, **options),
    **{vendor: chat(vendor) for vendor in CHAT},
    "openai-responses": responses,
    "anthropic": lambda server, options: Anthropic("m", base_url=server.url, api_key=KEY, **options),
    "bedrock-anthropic": lambda server, options: BedrockAnthropic("m", base_url=server.url, api_key=KEY, **options),
    "gemini": lambda server, options: Gemini("m", base_url=server.url + "/v1beta", api_key=KEY, **options),
    "gemini-vertex": lambda server, options: Vertex(
        "m", project="p", base_url=server.url + "/v1", api_key=KEY, **options
    ),
}

CLASSES = {
    "bad_request": {"invalid_request", "context_overflow"},
    "authentication": {"auth"},
    "permission": {"auth"},
    "rate_limit": {"rate_limit"},
    "not_found": {"invalid_request"},
    "other": {"content_filter"},
}
REQUEST = ModelRequest([user("hello")])


def records(recordings: Path, vendor: str) -> list[dict[str, Any]]:
    """All exchanges with a vendor."""
    return [_corrected(json.loads(path.read_text())) for path in sorted((recordings / vendor).glob("*.json"))]


def _corrected(record: dict[str, Any]) -> dict[str, Any]:
    """Calls of Bedrock's own tools are listed with the caller's in three records; nobody but Bedrock may run them."""
    calls = record["expected"].get("tool_calls") or ()
    if record["provider"] == "bedrock-converse" and calls:
        record["expected"]["tool_calls"] = [call for call in calls if not call["name"].startswith("nova_")]
    return record


def stream_of(record: dict[str, Any]) -> bytes | None:
    """The body of a recorded stream, or None for an answer in one piece."""
    response = record["response"]
    for key in ("sse_text", "ndjson_text"):
        if key in response:
            return response[key].encode()
    return base64.b64decode(response["body_base64"]) if "body_base64" in response else None


def answer_of(record: dict[str, Any]) -> Answer:
    """The recorded response, for the server to play."""
    response = record["response"]
    skipped = ("content-length", "transfer-encoding", "content-encoding", "connection")
    headers = {name: value for name, value in response["headers"].items() if name.lower() not in skipped}
    stream = stream_of(record)
    if stream is not None:
        return Answer([stream], response["status"], headers)
    if "text" in response:
        return Answer([response["text"].encode()], response["status"], headers, "length")
    return Answer([json.dumps(response["body"], ensure_ascii=False).encode()], response["status"], headers, "length")


async def call(vendor: str, server: Server, record: dict[str, Any], **options: Any) -> ModelReply:
    """The reply, by `complete` for a recorded body and by `stream` for a recorded stream."""
    made = FAMILIES[vendor](server, options)
    if stream_of(record) is None:
        return await made.complete(REQUEST)
    shown: dict[type, list[str]] = {TextDelta: [], ThinkingDelta: [], RefusalDelta: []}
    calls: dict[int, str] = {}
    async with made.stream(REQUEST) as stream:
        async for event in stream:
            if isinstance(event, ToolCallDelta):
                calls[event.index] = calls.get(event.index, "") + event.arguments
            else:
                shown[type(event)].append(event.text)
    message = stream.reply.message
    assert "".join(shown[TextDelta]) == message.text
    assert "".join(shown[ThinkingDelta]) == (message.thinking or "")
    assert "".join(shown[RefusalDelta]) == (message.refusal or "")
    assert [calls[index] for index in sorted(calls)] == [item.raw for item in message.tool_calls]
    return stream.reply


def check_reply(reply: ModelReply, expected: dict[str, Any]) -> None:
    """Our reply must be exactly the recorded one."""
    message, usage = reply.message, reply.usage
    assert message.text == expected["text"]
    assert message.thinking == expected["thinking"]
    assert message.refusal == expected["refusal"]
    assert [(item.id, item.name, item.arguments) for item in message.tool_calls] == [
        (item["id"], item["name"], item["arguments"]) for item in expected["tool_calls"]
    ]
    for item, told in zip(message.tool_calls, expected["tool_calls"], strict=True):
        if told["arguments_raw"] is None:  # sent as an object, not as text
            assert json.loads(item.raw) == told["arguments"]
        else:
            assert item.raw == told["arguments_raw"]
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
    """Our error must say what the recorded one says."""
    code = expected["error_code"] if expected["error_code"] is not None else expected["error_type"]
    assert error.kind in CLASSES[expected["class"]]
    assert error.status == expected["http_status"]
    assert error.message == expected["message"]
    assert error.code == (None if code is None else str(code))
    assert error.param == expected["param"]
    assert error.retryable is expected["retryable"]
    waits = expected["retry_after"]
    assert error.retry_after == (None if waits is None else float(waits["retry-after"]))
    assert KEY not in str(error) + repr(error)


def cases(recordings: Path, *mutations: str) -> list[tuple[dict[str, Any], dict[str, Any], str]]:
    """Recipes of derived faults with their base record and its vendor."""
    listed = json.loads((recordings / "stream_faults.json").read_text())["cases"]
    found = [case for case in listed if case["mutation"] in mutations and case["file"].split("/")[0] in FAMILIES]
    assert found
    return [(case, json.loads((recordings / case["file"]).read_text()), case["file"].split("/")[0]) for case in found]


def mutated(case: dict[str, Any], data: bytes) -> list[bytes]:
    """A recorded stream with a recipe's fault in it, as the pieces to send."""
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
