"""Anthropic's Messages API as a strict fake; what it refuses is in `anthropic_rules` and `anthropic_history`. Pure.

Ids and signatures are minted here. A thought must come back with its signature and its text, and as long as the model
thinks, the answer that called a tool must come back with all its thoughts.

Source: https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from ...providers import Anthropic, Provider
from .anthropic_history import Minted, signature_of
from .anthropic_rules import check
from .anthropic_values import Unacceptable
from .format import Refused, Said

_encode = msgspec.json.Encoder().encode
_PIECE = 7
_REQUEST_ID = "req_fake"


class AnthropicFormat:
    """The Messages API as Anthropic speaks it."""

    stream_type = "text/event-stream"
    key = "sk-ant-fake-key-of-the-strict-server"

    def __init__(self) -> None:
        self._minted = Minted()
        self._answers = 0
        self._calls = 0

    def provider(self, url: str, model: str) -> Provider:
        """An `Anthropic` as it would talk to Anthropic itself."""
        return Anthropic(model, base_url=url, api_key=self.key)

    def refuse(self, target: str, headers: Mapping[str, str], body: Any) -> Refused | None:
        """Why Anthropic would refuse the request, or None when it would not."""
        try:
            self.check(target, headers, body)
        except Unacceptable as wrong:
            error = {"type": wrong.kind, "message": str(wrong)}
            told = {"type": "error", "error": error, "request_id": _REQUEST_ID}
            return Refused(wrong.status, told, {"request-id": _REQUEST_ID})
        return None

    def check(self, target: str, headers: Mapping[str, str], body: Any) -> None:
        """Check path, key, version and body.

        Raises:
            Unacceptable: the endpoint would refuse the request.
        """
        if target.partition("?")[0] != "/v1/messages":
            raise Unacceptable("Not found", "not_found_error", 404)
        if "x-api-key" not in headers:
            raise Unacceptable("x-api-key header is required", "authentication_error", 401)
        if headers["x-api-key"] != self.key:
            raise Unacceptable("invalid x-api-key", "authentication_error", 401)
        if headers.get("anthropic-version") != "2023-06-01":
            raise Unacceptable("anthropic-version: header is required")
        if not isinstance(body, dict):
            raise Unacceptable("The request body is not an object")
        check(cast("dict[str, Any]", body), self._minted)

    def wants_stream(self, target: str, body: Any) -> bool:
        """Whether a streamed answer is asked for."""
        return body.get("stream") is True

    def answer(self, said: Said, body: Any) -> bytes:
        """A whole answer."""
        message = self._envelope(body)
        stopped = {"stop_reason": _reason(said), "stop_sequence": None}
        return _encode({**message, **stopped, "content": self._blocks(said), "usage": _usage(said)})

    def stream(self, said: Said, body: Any) -> list[bytes]:
        """A streamed answer, one event an item."""
        usage = {**_usage(said), "output_tokens": 1}
        stopped: dict[str, Any] = {"stop_reason": None, "stop_sequence": None}
        message: dict[str, Any] = {**self._envelope(body), "content": [], **stopped, "usage": usage}
        events: list[dict[str, Any]] = [{"type": "message_start", "message": message}, {"type": "ping"}]
        for index, block in enumerate(self._blocks(said)):
            opened, deltas = _in_pieces(block)
            events.append({"type": "content_block_start", "index": index, "content_block": opened})
            events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
            events.append({"type": "content_block_stop", "index": index})
        ended = {"stop_reason": _reason(said), "stop_sequence": None}
        events.append({"type": "message_delta", "delta": ended, "usage": {"output_tokens": said.usage[1]}})
        events.append({"type": "message_stop"})
        return [b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _encode(event)) for event in events]

    def _envelope(self, body: Any) -> dict[str, Any]:
        self._answers += 1
        return {
            "id": f"msg_fake{self._answers:020d}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
        }

    def _blocks(self, said: Said) -> list[dict[str, Any]]:
        """The blocks of an answer, with ids and signatures of their own."""
        thoughts: list[dict[str, Any]] = []
        if said.thinking:
            thoughts.append({"type": "thinking", "thinking": said.thinking, "signature": signature_of(said.thinking)})
        blocks = list(thoughts)
        if said.text:
            blocks.append({"type": "text", "text": said.text})
        for call in said.tool_calls:
            self._calls += 1
            identity = call.id or f"toolu_fake{self._calls:020d}"
            self._minted.thoughts[identity] = thoughts
            blocks.append({"type": "tool_use", "id": identity, "name": call.name, "input": call.arguments or {}})
        return blocks


def _in_pieces(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How a block begins, and what it grows by."""
    match block["type"]:
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": piece} for piece in _pieces(block["text"])]
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(block["thinking"])]
            signed = {"type": "signature_delta", "signature": block["signature"]}
            return {**block, "thinking": "", "signature": ""}, [*deltas, signed]
        case _:
            written = _encode(block["input"]).decode() if block["input"] else ""
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *_pieces(written)]]
            return {**block, "input": {}}, deltas


def _pieces(text: str) -> list[str]:
    return [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]


def _reason(said: Said) -> str:
    return "tool_use" if said.tool_calls else "end_turn"


def _usage(said: Said) -> dict[str, Any]:
    sent, made = said.usage
    return {
        "input_tokens": sent,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": made,
        "service_tier": "standard",
    }
