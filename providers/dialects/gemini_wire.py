"""What of a Gemini answer is read, as it lies on the wire, and how its tokens are counted. Pure.

Fields that may hold anything are `Any`; what is not named here is passed over. A part of an unknown kind has none of
these fields, and is read a second time by whoever wants it.

https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..vocabulary import Usage


class FunctionCall(msgspec.Struct, gc=False):
    name: str | None = None
    args: msgspec.Raw = msgspec.Raw()
    id: Any = None
    partialArgs: Any = None
    willContinue: Any = None


class WirePart(msgspec.Struct, gc=False):
    text: str | None = None
    thought: Any = None
    thoughtSignature: str | None = None
    functionCall: FunctionCall | None = None


class Content(msgspec.Struct, gc=False):
    parts: list[WirePart] | None = None


class Candidate(msgspec.Struct, gc=False):
    content: Content | None = None
    finishReason: str | None = None
    index: Any = None
    groundingMetadata: Any = None
    citationMetadata: Any = None
    urlContextMetadata: Any = None


class PromptFeedback(msgspec.Struct, gc=False):
    blockReason: str | None = None


class Chunk(msgspec.Struct, gc=False):
    """A chunk of a stream, or a whole answer."""

    candidates: list[Candidate] | None = None
    promptFeedback: PromptFeedback | None = None
    usageMetadata: dict[str, Any] | None = None
    modelVersion: str | None = None
    responseId: Any = None
    error: Any = None


decode_chunks = msgspec.json.Decoder(Chunk | list[Chunk]).decode


def make_usage(raw: dict[str, Any] | None) -> Usage | None:
    """Read a usage object; None for none. Thoughts are counted apart from the output, the cache inside the input."""
    if raw is None:
        return None
    return Usage(
        _count(raw, "promptTokenCount"),
        _count(raw, "candidatesTokenCount"),
        _count(raw, "totalTokenCount"),
        _count(raw, "cachedContentTokenCount"),
        None,
        _count(raw, "thoughtsTokenCount"),
        raw,
    )


def _count(raw: dict[str, Any], key: str) -> int | None:
    value = raw.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
