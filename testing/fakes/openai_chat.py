"""OpenAI's Chat Completions as a strict fake; what it refuses is in `openai_chat_rules`. Pure.

Source: https://platform.openai.com/docs/api-reference/chat. The thinking of a `Said` shows in the usage only, as with
OpenAI's own models.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import msgspec

from ...providers import OpenAIChat, Provider, Quirks
from .format import Refused, Said
from .openai_chat_rules import check
from .openai_values import Unacceptable

_encode = msgspec.json.Encoder().encode
_PIECE = 7
_instances = itertools.count(1)


class OpenAIChatFormat:
    """Chat Completions as OpenAI speaks it."""

    stream_type = "text/event-stream"
    key = "sk-fake-key-of-the-strict-server"

    #: Whether usage in a stream comes without being asked for.
    always_counts = False

    def __init__(self) -> None:
        self._instance = next(_instances)  # two servers never mint the same id
        self._calls = 0
        self._answers = 0

    def provider(self, url: str, model: str) -> Provider:
        """An `OpenAIChat` as it would talk to OpenAI itself."""
        quirks = Quirks(max_tokens_key="max_completion_tokens")
        return OpenAIChat(model, base_url=f"{url}/v1", api_key=self.key, quirks=quirks)

    def refuse(self, target: str, headers: Mapping[str, str], body: Any) -> Refused | None:
        """Why OpenAI would refuse the request, or None when it would not."""
        try:
            self.check(target, headers, body)
        except Unacceptable as wrong:
            return Refused(wrong.status, {"error": wrong.error}, {"x-request-id": "req_fake"})
        return None

    def check(self, target: str, headers: Mapping[str, str], body: Any) -> None:
        """Check path, key and body.

        Raises:
            Unacceptable: the endpoint would refuse the request.
        """
        if target.partition("?")[0] != "/v1/chat/completions":
            raise Unacceptable(f"Invalid URL (POST {target})", status=404)
        if "authorization" not in headers:
            raise Unacceptable("You didn't provide an API key.", status=401)
        if headers["authorization"] != f"Bearer {self.key}":
            raise Unacceptable("Incorrect API key provided.", code="invalid_api_key", status=401)
        self.check_body(body)

    def check_body(self, body: Mapping[str, Any]) -> None:
        """Check the body alone."""
        check(body)

    def call_id(self, number: int) -> str:
        """The id of the tool call with this number."""
        return f"call_{self._instance:08d}{number:016d}"

    def thinking(self, said: Said, calls: list[dict[str, Any]]) -> dict[str, str]:
        """What of an answer's thinking is shown beside its text; OpenAI shows none."""
        return {}

    def wants_stream(self, target: str, body: Any) -> bool:
        """Whether a streamed answer is asked for."""
        return body.get("stream") is True

    def answer(self, said: Said, body: Any) -> bytes:
        """A whole answer."""
        calls = self._minted(said)
        message: dict[str, Any] = {"role": "assistant", "content": said.text or None, **self.thinking(said, calls)}
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(said)}
        return _encode({**self._envelope(body, "chat.completion"), "choices": [choice], "usage": _usage(said)})

    def stream(self, said: Said, body: Any) -> list[bytes]:
        """A streamed answer, one event an item."""
        envelope = self._envelope(body, "chat.completion.chunk")
        calls = self._minted(said)
        deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
        for key, thought in self.thinking(said, calls).items():
            deltas += [({key: thought[at : at + _PIECE]}, None) for at in range(0, len(thought), _PIECE)]
        deltas += [({"content": said.text[at : at + _PIECE]}, None) for at in range(0, len(said.text), _PIECE)]
        for index, call in enumerate(calls):
            arguments: str = call["function"]["arguments"]
            opened = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
            deltas.append(({"tool_calls": [opened]}, None))
            for at in range(0, len(arguments), _PIECE):
                piece = {"index": index, "function": {"arguments": arguments[at : at + _PIECE]}}
                deltas.append(({"tool_calls": [piece]}, None))
        deltas.append(({}, _reason(said)))
        counted: dict[str, Any] = {"usage": None} if _wants_usage(body) or self.always_counts else {}
        events: list[Any] = []
        for delta, reason in deltas:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
            events.append({**envelope, **counted, "choices": [choice]})
        if counted:
            events.append({**envelope, "choices": [], "usage": _usage(said)})
        return [b"data: " + _encode(event) + b"\n\n" for event in events] + [b"data: [DONE]\n\n"]

    def _minted(self, said: Said) -> list[dict[str, Any]]:
        """The calls as they go on the wire, each with an id of its own."""
        minted: list[dict[str, Any]] = []
        for call in said.tool_calls:
            self._calls += 1
            identity = call.id or self.call_id(self._calls)
            minted.append(
                {"id": identity, "type": "function", "function": {"name": call.name, "arguments": call.raw or "{}"}}
            )
        return minted

    def _envelope(self, body: Any, kind: str) -> dict[str, Any]:
        self._answers += 1
        return {
            "id": f"chatcmpl-{self._answers:029d}",
            "object": kind,
            "created": 1_700_000_000,
            "model": body["model"],
            "service_tier": "default",
            "system_fingerprint": "fp_fake",
        }


def _reason(said: Said) -> str:
    return "tool_calls" if said.tool_calls else "stop"


def _wants_usage(body: Any) -> bool:
    options: Any = body.get("stream_options")
    return options is not None and options.get("include_usage") is True


def _usage(said: Said) -> dict[str, Any]:
    sent, made = said.usage
    thought = len(said.thinking) // 4
    return {
        "prompt_tokens": sent,
        "completion_tokens": made + thought,
        "total_tokens": sent + made + thought,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": thought, "audio_tokens": 0},
    }
