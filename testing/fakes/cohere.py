"""Cohere's ``/v2/chat`` as a strict fake; what it refuses is in `cohere_rules`. Pure.

Text beside tool calls is sent as text, where the models themselves would make it a plan, so that a script says the same
on every wire. What comes back may hold it as a plan only. Thinking shows unless the request switches it off.

Source: https://docs.cohere.com/reference/chat
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import msgspec

from ...providers import Cohere, Provider
from .cohere_rules import Unacceptable, check
from .format import Refused, Said

_encode = msgspec.json.Encoder().encode
_PIECE = 7
_instances = itertools.count(1)


class CohereFormat:
    """Cohere's chat as its own endpoint speaks it."""

    stream_type = "text/event-stream"
    key = "cohere-fake-key-of-the-strict-server"

    def __init__(self) -> None:
        self._instance = next(_instances)  # two servers never mint the same id
        self._calls = 0
        self._answers = 0

    def provider(self, url: str, model: str) -> Provider:
        """A `Cohere` as it would talk to Cohere itself."""
        return Cohere(model, base_url=url, api_key=self.key)

    def refuse(self, target: str, headers: Mapping[str, str], body: Any) -> Refused | None:
        """Why Cohere would refuse the request, or None when it would not."""
        try:
            if target.partition("?")[0] != "/v2/chat":
                raise Unacceptable("404 page not found", 404)
            if "authorization" not in headers:
                raise Unacceptable("no api key supplied", 401)
            if headers["authorization"] != f"Bearer {self.key}":
                raise Unacceptable("invalid api token", 401)
            check(body)
        except Unacceptable as wrong:
            return Refused(wrong.status, {"id": f"fake-{self._instance}", "message": str(wrong)})
        return None

    def wants_stream(self, target: str, body: Any) -> bool:
        """Whether a streamed answer is asked for."""
        return body.get("stream") is True

    def answer(self, said: Said, body: Any) -> bytes:
        """A whole answer."""
        message: dict[str, Any] = {"role": "assistant"}
        content: list[dict[str, Any]] = []
        if said.thinking and _thinks(body):
            content.append({"type": "thinking", "thinking": said.thinking})
        calls = self._minted(said)
        if calls:
            message["tool_calls"] = calls
        if said.text or not calls:
            content.append({"type": "text", "text": said.text})
        if content:
            message["content"] = content
        return _encode({"id": self._id(), "message": message, "finish_reason": _reason(said), "usage": _usage(said)})

    def stream(self, said: Said, body: Any) -> list[bytes]:
        """A streamed answer, one event an item."""
        opened: dict[str, Any] = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": []}
        events: list[dict[str, Any]] = [{"id": self._id(), "type": "message-start", "delta": {"message": opened}}]
        blocks = [("thinking", said.thinking)] if said.thinking and _thinks(body) else []
        calls = self._minted(said)
        if said.text or not calls:
            blocks.append(("text", said.text))
        for index, (kind, text) in enumerate(blocks):
            events.append(_event("content-start", index, content={"type": kind, kind: ""}))
            events += [_event("content-delta", index, content={kind: piece}) for piece in _cut(text)]
            events.append({"type": "content-end", "index": index})
        for index, call in enumerate(calls):
            function = call["function"]
            begun = {**call, "function": {**function, "arguments": ""}}
            events.append(_event("tool-call-start", index, tool_calls=begun))
            for piece in _cut(function["arguments"]):
                events.append(_event("tool-call-delta", index, tool_calls={"function": {"arguments": piece}}))
            events.append({"type": "tool-call-end", "index": index})
        ended = {"finish_reason": _reason(said), "usage": _usage(said)}
        events.append({"type": "message-end", "delta": ended})
        framed = [b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _encode(event)) for event in events]
        return [*framed, b"data: [DONE]\n\n"]

    def _minted(self, said: Said) -> list[dict[str, Any]]:
        """The calls as they go on the wire, each with an id of its own."""
        minted: list[dict[str, Any]] = []
        for call in said.tool_calls:
            self._calls += 1
            identity = call.id or f"{call.name}_fake{self._instance}x{self._calls}"
            function = {"name": call.name, "arguments": call.raw or "{}"}
            minted.append({"id": identity, "type": "function", "function": function})
        return minted

    def _id(self) -> str:
        self._answers += 1
        return f"fake-{self._instance}-{self._answers}"


def _event(kind: str, index: int, **message: Any) -> dict[str, Any]:
    return {"type": kind, "index": index, "delta": {"message": message}}


def _thinks(body: Any) -> bool:
    thinking: Any = body.get("thinking")
    return thinking is None or thinking.get("type") != "disabled"


def _cut(text: str) -> list[str]:
    return [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]


def _reason(said: Said) -> str:
    return "TOOL_CALL" if said.tool_calls else "COMPLETE"


def _usage(said: Said) -> dict[str, Any]:
    sent, made = said.usage
    counts = {"input_tokens": sent, "output_tokens": made}
    return {"billed_units": counts, "tokens": counts, "cached_tokens": 0}
