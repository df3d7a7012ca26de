"""Bedrock's Converse and ConverseStream as a strict fake; what they refuse is in `bedrock_rules`. Pure.

A thought is signed; with its signature it must come back as it was said. Calls get ids of their own.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import struct
from collections.abc import Mapping
from typing import Any
from zlib import crc32

import msgspec

from ...providers import Bedrock, Provider
from .bedrock_rules import Unacceptable, check
from .format import Refused, Said

_encode = msgspec.json.Encoder().encode
_PIECE = 7
_TARGET = re.compile(r"/model/[^/?]+/converse(-stream)?")
_instances = itertools.count(1)


class BedrockFormat:
    """Converse as Bedrock speaks it for a model of Claude's, with a Bedrock API key or a signature of AWS."""

    stream_type = "application/vnd.amazon.eventstream"
    key = "bedrock-fake-key-of-the-strict-server"

    def __init__(self) -> None:
        self._instance = next(_instances)  # two servers never mint the same id
        self._calls = 0

    def provider(self, url: str, model: str) -> Provider:
        """A `Bedrock` as it would talk to AWS itself."""
        return Bedrock(model, base_url=url, api_key=self.key)

    def refuse(self, target: str, headers: Mapping[str, str], body: Any) -> Refused | None:
        """Why Bedrock would refuse the request, or None when it would not."""
        try:
            if not _TARGET.fullmatch(target.partition("?")[0]):
                raise Unacceptable("Unable to determine service/operation name", "UnknownOperationException", 404)
            self._check_caller(headers)
            check(body, self.signature)
        except Unacceptable as wrong:
            told = {"x-amzn-errortype": f"{wrong.kind}:http://internal.amazon.com/coral/com.amazon.bedrock/"}
            return Refused(wrong.status, {"message": str(wrong)}, told)
        return None

    def _check_caller(self, headers: Mapping[str, str]) -> None:
        given = headers.get("authorization")
        if given is None:
            raise Unacceptable("Missing Authentication Token", "MissingAuthenticationTokenException", 403)
        if given.startswith("AWS4-HMAC-SHA256 "):
            if "x-amz-date" not in headers:
                raise Unacceptable("The request has no x-amz-date.", "IncompleteSignatureException", 403)
        elif given != f"Bearer {self.key}":
            raise Unacceptable("Authentication failed: invalid API key", "AccessDeniedException", 403)

    def signature(self, thought: str) -> str:
        """The signature of a thought, the same for every account."""
        return base64.b64encode(hashlib.sha256(f"signed: {thought}".encode()).digest()).decode()

    def wants_stream(self, target: str, body: Any) -> bool:
        """Whether a streamed answer is asked for."""
        return target.partition("?")[0].endswith("/converse-stream")

    def answer(self, said: Said, body: Any) -> bytes:
        """A whole answer."""
        message = {"role": "assistant", "content": self._blocks(said)}
        ended = {"stopReason": _reason(said), "usage": _usage(said), "metrics": {"latencyMs": 1}}
        return _encode({"output": {"message": message}, **ended})

    def stream(self, said: Said, body: Any) -> list[bytes]:
        """A streamed answer, one message of the event stream an item."""
        events: list[tuple[str, Any]] = [("messageStart", {"role": "assistant"})]
        for index, block in enumerate(self._blocks(said)):
            place = {"contentBlockIndex": index, "p": "abc"}
            if "toolUse" in block:
                use = block["toolUse"]
                start = {"toolUse": {"toolUseId": use["toolUseId"], "name": use["name"]}}
                events.append(("contentBlockStart", {**place, "start": start}))
            events += [("contentBlockDelta", {**place, "delta": delta}) for delta in _deltas(block)]
            events.append(("contentBlockStop", place))
        events.append(("messageStop", {"stopReason": _reason(said)}))
        events.append(("metadata", {"usage": _usage(said), "metrics": {"latencyMs": 1}}))
        return [frame(name, _encode(payload)) for name, payload in events]

    def _blocks(self, said: Said) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = []
        if said.thinking:
            thought = {"text": said.thinking, "signature": self.signature(said.thinking)}
            blocks.append({"reasoningContent": {"reasoningText": thought}})
        if said.text:
            blocks.append({"text": said.text})
        for call in said.tool_calls:
            self._calls += 1
            identity = call.id or f"tooluse_fake{self._instance}x{self._calls}"
            blocks.append({"toolUse": {"toolUseId": identity, "name": call.name, "input": call.arguments or {}}})
        return blocks


def _deltas(block: dict[str, Any]) -> list[dict[str, Any]]:
    if "text" in block:
        return [{"text": piece} for piece in _cut(block["text"])]
    if "toolUse" in block:
        return [{"toolUse": {"input": piece}} for piece in _cut(_encode(block["toolUse"]["input"]).decode())]
    thought = block["reasoningContent"]["reasoningText"]
    pieces = [{"reasoningContent": {"text": piece}} for piece in _cut(thought["text"])]
    return [*pieces, {"reasoningContent": {"signature": thought["signature"]}}]


def frame(name: str, payload: bytes, kind: str = "event") -> bytes:
    """A message of an AWS event stream; `kind` is ``event`` or ``exception``."""
    headers = b"".join(
        [
            bytes([len(key)]) + key.encode() + b"\x07" + struct.pack(">H", len(value.encode())) + value.encode()
            for key, value in (
                (f":{kind}-type", name),
                (":content-type", "application/json"),
                (":message-type", kind),
            )
        ]
    )
    opening = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    body = opening + struct.pack(">I", crc32(opening)) + headers + payload
    return body + struct.pack(">I", crc32(body))


def _cut(text: str) -> list[str]:
    return [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]


def _reason(said: Said) -> str:
    return "tool_use" if said.tool_calls else "end_turn"


def _usage(said: Said) -> dict[str, Any]:
    sent, made = said.usage
    counts = {"inputTokens": sent, "outputTokens": made, "totalTokens": sent + made}
    return {**counts, "cacheReadInputTokens": 0, "cacheWriteInputTokens": 0}
