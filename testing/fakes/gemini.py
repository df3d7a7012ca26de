"""Gemini's generateContent as a strict fake; what it refuses is in `gemini_fields` and `gemini_rules`. Pure.

Source: https://ai.google.dev/api/generate-content. As with Gemini 3, each answer is signed in one place: on its first
function call, or else on its text, which in a stream is an empty text at the end. What was signed must come back as it
was. Thoughts show only where the request asks for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from ...providers import Gemini, Provider
from .format import Refused, Said
from .gemini_fields import Unacceptable
from .gemini_rules import check, signature

_encode = msgspec.json.Encoder().encode
_PIECE = 7
_TARGET = re.compile(r"/v1beta/models/([^/:?]+):(generateContent|streamGenerateContent)(?:\?(.*))?")


class GeminiFormat:
    """generateContent as the Gemini API speaks it.

    Args:
        ids: whether function calls get ids, as with Gemini 3; earlier models and Vertex AI give none.
    """

    stream_type = "text/event-stream"
    key = "AIza-fake-key-of-the-strict-server"

    def __init__(self, *, ids: bool = True) -> None:
        self._ids = ids
        self._model = ""  # of the last request that was looked at: it stands in the path, and answers are made for it
        self._made = 0

    def provider(self, url: str, model: str) -> Provider:
        """A `Gemini` as it would talk to Google itself."""
        return Gemini(model, base_url=f"{url}/v1beta", api_key=self.key)

    def refuse(self, target: str, headers: Mapping[str, str], body: Any) -> Refused | None:
        """Why Gemini would refuse the request, or None when it would not."""
        try:
            self.check(target, headers, body)
        except Unacceptable as wrong:
            return Refused(wrong.code, {"error": wrong.error})
        return None

    def check(self, target: str, headers: Mapping[str, str], body: Any) -> None:
        """Check path, key and body.

        Raises:
            Unacceptable: the endpoint would refuse the request.
        """
        if (key := headers.get("x-goog-api-key")) is None:
            raise Unacceptable(
                "Method doesn't allow unregistered callers (callers without established identity). Please use API Key "
                "or other form of API consumer identity to call this API.",
                status="PERMISSION_DENIED",
                code=403,
            )
        if key != self.key:
            info = {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "API_KEY_INVALID",
                "domain": "googleapis.com",
                "metadata": {"service": "generativelanguage.googleapis.com"},
            }
            raise Unacceptable("API key not valid. Please pass a valid API key.", details=[info])
        found = _TARGET.fullmatch(target)
        if found is None:
            raise Unacceptable(f"{target} was not found on this server.", status="NOT_FOUND", code=404)
        if found[2] == "streamGenerateContent" and found[3] != "alt=sse":
            raise Unacceptable("This fake streams server-sent events only: ask for alt=sse.")
        check(body, found[1])
        self._model = found[1]

    def wants_stream(self, target: str, body: Any) -> bool:
        """Whether a streamed answer is asked for."""
        return ":streamGenerateContent" in target

    def answer(self, said: Said, body: Any) -> bytes:
        """A whole answer."""
        parts = _thoughts(said, body)
        calls = self._calls(said)
        if said.text:
            text = {"text": said.text}
            parts.append(text if calls else self._signed(text))
        parts += calls
        return _encode(self._chunk(self._next_id(), parts, said, ended=True))

    def stream(self, said: Said, body: Any) -> list[bytes]:
        """A streamed answer, one event an item."""
        identity = self._next_id()
        calls = self._calls(said)
        rows = [[part] for part in _pieces(_thoughts(said, body)) + _pieces([{"text": said.text}])]
        rows += [[call] for call in calls]
        rows.append([{"text": ""} if calls else self._signed({"text": ""})])
        last = len(rows) - 1
        chunks = [self._chunk(identity, row, said, ended=index == last) for index, row in enumerate(rows)]
        return [b"data: " + _encode(chunk) + b"\r\n\r\n" for chunk in chunks]

    def _calls(self, said: Said) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        for call in said.tool_calls:
            self._made += 1
            function: dict[str, Any] = {"name": call.name, "args": call.arguments or {}}
            if self._ids:
                function["id"] = call.id or f"fake{self._made:04d}"
            part = {"functionCall": function}
            parts.append(part if parts else self._signed(part))
        return parts

    def _signed(self, part: dict[str, Any]) -> dict[str, Any]:
        return {**part, "thoughtSignature": signature(self._model, part)}

    def _next_id(self) -> str:
        self._made += 1
        return f"fake-response-{self._made}"

    def _chunk(self, identity: str, parts: list[dict[str, Any]], said: Said, *, ended: bool) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
        sent, made = said.usage
        thought = len(said.thinking) // 4
        usage: dict[str, Any] = {"promptTokenCount": sent, "totalTokenCount": sent}
        if ended:
            candidate["finishReason"] = "STOP"
            usage |= {"candidatesTokenCount": made, "totalTokenCount": sent + made + thought}
            if thought:
                usage["thoughtsTokenCount"] = thought
        return {
            "candidates": [candidate],
            "usageMetadata": usage,
            "modelVersion": self._model,
            "responseId": identity,
        }


def _thoughts(said: Said, body: Any) -> list[dict[str, Any]]:
    config: Any = body.get("generationConfig", {}).get("thinkingConfig", {})
    wanted = said.thinking and config.get("includeThoughts") is True
    return [{"text": said.thinking, "thought": True}] if wanted else []


def _pieces(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each part as several, with pieces of its text."""
    return [
        {**part, "text": part["text"][at : at + _PIECE]} for part in parts for at in range(0, len(part["text"]), _PIECE)
    ]
