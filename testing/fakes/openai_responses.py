"""OpenAI's Responses API as a strict fake; what it refuses is in `openai_responses_rules` and `…_items`. Pure.

Source: https://platform.openai.com/docs/api-reference/responses. It stores nothing, whatever a request says. Thinking
becomes a reasoning item, for models that reason: encrypted if the request includes that, with a summary if it asks for
one. Reasoning is encrypted anew each time it is sent, as the provider does.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from ...providers import OpenAIResponses, Provider
from .format import Refused, Said
from .openai_responses_items import encrypt, make_id
from .openai_responses_rules import check, reasons
from .openai_values import Unacceptable

_encode = msgspec.json.Encoder().encode
_PIECE = 7


class OpenAIResponsesFormat:
    """The Responses API as OpenAI speaks it."""

    stream_type = "text/event-stream"
    key = "sk-fake-key-of-the-strict-server"

    def __init__(self) -> None:
        self._answers = 0

    def provider(self, url: str, model: str) -> Provider:
        """An `OpenAIResponses` as it would talk to OpenAI itself."""
        return OpenAIResponses(model, base_url=f"{url}/v1", api_key=self.key)

    def refuse(self, target: str, headers: Mapping[str, str], body: Any) -> Refused | None:
        """Why OpenAI would refuse the request, or None when it would not."""
        try:
            if target.partition("?")[0] != "/v1/responses":
                raise Unacceptable(f"Invalid URL (POST {target})", status=404)
            if "authorization" not in headers:
                raise Unacceptable("You didn't provide an API key.", status=401)
            if headers["authorization"] != f"Bearer {self.key}":
                raise Unacceptable("Incorrect API key provided.", code="invalid_api_key", status=401)
            check(body)
        except Unacceptable as wrong:
            return Refused(wrong.status, {"error": wrong.error}, {"x-request-id": "req_fake"})
        return None

    def wants_stream(self, target: str, body: Any) -> bool:
        """Whether a streamed answer is asked for."""
        return body.get("stream") is True

    def answer(self, said: Said, body: Any) -> bytes:
        """A whole answer."""
        key = self._key(said, body)
        return _encode(_response(key, said, body, _output(key, said, body, "whole")))

    def stream(self, said: Said, body: Any) -> list[bytes]:
        """A streamed answer, one event an item."""
        key = self._key(said, body)
        begun = {**_response(key, said, body, []), "status": "in_progress", "completed_at": None, "usage": None}
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": begun},
            {"type": "response.in_progress", "response": begun},
        ]
        for index, item in enumerate(_output(key, said, body, "done")):
            events += _item_events(index, item)
        whole = _response(key, said, body, _output(key, said, body, "completed"))
        events.append({"type": "response.completed", "response": whole})
        return [
            b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _encode({**event, "sequence_number": number}))
            for number, event in enumerate(events)
        ]

    def _key(self, said: Said, body: Any) -> str:
        """A key that no other response has: neither of this fake, nor of another in the same conversation."""
        self._answers += 1
        return blake2b(_encode([self._answers, said, body]), digest_size=8).hexdigest()


def _output(key: str, said: Said, body: Any, stage: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    thought = 0
    if said.thinking and reasons(body["model"]):
        thought = 1
        identity = make_id("rs", key, thought)
        asked: dict[str, Any] = body.get("reasoning") or {}
        summary = [{"type": "summary_text", "text": said.thinking}] if asked.get("summary") else []
        reasoning: dict[str, Any] = {"id": identity, "type": "reasoning", "content": [], "summary": summary}
        if "reasoning.encrypted_content" in (body.get("include") or ()):
            reasoning["encrypted_content"] = encrypt(identity, said.thinking, stage)
        items.append(reasoning)
    if said.text or not said.tool_calls:
        items.append(
            {
                "id": make_id("msg", key, len(items) + 1, thought),
                "type": "message",
                "status": "completed",
                "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": said.text}],
                "phase": "commentary" if said.tool_calls else "final_answer",
                "role": "assistant",
            }
        )
    for call in said.tool_calls:
        number = len(items) + 1
        items.append(
            {
                "id": make_id("fc", key, number, thought),
                "type": "function_call",
                "status": "completed",
                "arguments": call.raw or "{}",
                "call_id": call.id or f"call_{key}{number:08x}",
                "name": call.name,
            }
        )
    return items


def _response(key: str, said: Said, body: Any, output: list[dict[str, Any]]) -> dict[str, Any]:
    sent, made = said.usage
    thought = len(said.thinking) // 4
    return {
        "id": f"resp_{key}",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "completed",
        "background": False,
        "completed_at": 1_700_000_001,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "model": body["model"],
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": body.get("reasoning"),
        "store": body.get("store", True),
        "usage": {
            "input_tokens": sent,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": made + thought,
            "output_tokens_details": {"reasoning_tokens": thought},
            "total_tokens": sent + made + thought,
        },
    }


def _item_events(index: int, item: dict[str, Any]) -> list[dict[str, Any]]:
    """The events that tell one item, from its opening to its end."""
    place = {"item_id": item["id"], "output_index": index}
    opened: dict[str, Any] = {**item, "status": "in_progress"}
    told: list[dict[str, Any]] = []
    match item["type"]:
        case "message":
            opened["content"] = []
            part = item["content"][0]
            at = {**place, "content_index": 0}
            told = [
                {"type": "response.content_part.added", **at, "part": {**part, "text": ""}},
                *_pieces("response.output_text.delta", {**at, "logprobs": []}, part["text"]),
                {"type": "response.output_text.done", **at, "logprobs": [], "text": part["text"]},
                {"type": "response.content_part.done", **at, "part": part},
            ]
        case "function_call":
            opened["arguments"] = ""
            told = [
                *_pieces("response.function_call_arguments.delta", place, item["arguments"]),
                {"type": "response.function_call_arguments.done", **place, "arguments": item["arguments"]},
            ]
        case _:
            opened = {**item, "summary": []}
            for number, part in enumerate(item["summary"]):
                at = {**place, "summary_index": number}
                told += [
                    {"type": "response.reasoning_summary_part.added", **at, "part": {**part, "text": ""}},
                    *_pieces("response.reasoning_summary_text.delta", at, part["text"]),
                    {"type": "response.reasoning_summary_text.done", **at, "text": part["text"]},
                    {"type": "response.reasoning_summary_part.done", **at, "part": part},
                ]
    added = {"type": "response.output_item.added", "output_index": index, "item": opened}
    return [added, *told, {"type": "response.output_item.done", "output_index": index, "item": item}]


def _pieces(kind: str, place: dict[str, Any], text: str) -> list[dict[str, Any]]:
    return [{"type": kind, **place, "delta": text[at : at + _PIECE]} for at in range(0, len(text), _PIECE)]
