"""What a call is billed for, out of what a provider has counted. Pure.

Providers count alike and mean different things. Anthropic and Bedrock count what was read from a cache, or written to
one, beside the input; the others inside it. Gemini counts thoughts beside the output; the others inside, but for xAI,
where only the total tells. Cohere bills other units than it counts. Here all of them become `Billed`, in which every
token is in one place, or None where the counting leaves a doubt: a price must be right or not be there.

A few providers say themselves what a call has cost (`reported`); nobody knows better.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from .checks import is_number
from .errors import ProviderError
from .messages import ServerItem
from .vocabulary import ModelReply, Usage

_TICK = 1e-10  # of a dollar, at xAI
#: Tiers that are billed at the list price. Another one is cheaper (batch, flex) or dearer (priority).
_USUAL_TIERS = ("", "default", "standard", "auto", "on_demand", "standard_only")
_USUAL_PLACES = (None, "", "global", "not_available")
#: Items of a provider that cost nothing beside their tokens. Others are its own tools, which have prices of their own.
_FREE_ITEMS = {
    *("thinking", "redacted_thinking", "reasoning", "reasoningContent", "redactedContent", "tool_plan"),
    *("citation", "citationsContent", "message", "text"),
}
#: Failures of a call that had perhaps been carried out; what it has cost then, nobody says.
MAY_BE_BILLED = ("provider", "interrupted", "stalled", "bad_response", "sdk")
#: What a request may hold beside `ModelSettings` and be billed for apart, or at another price.
_DEAR = ("tools", "web_search_options", "plugins", "speed", "inference_geo", "toolConfig", "cachedContent")
#: Where a request asks for a tier; Bedrock puts its name into an object.
_TIER_KEYS = ("service_tier", "serviceTier")
#: Where an answer counts what its provider's own tools did; and every key of its usage that may speak of another price.
_TOOL_KEYS = ("server_tool_use", "server_tool_use_details", "serverToolUsage", "num_sources_used", "search_units")
_TELLING_KEYS = frozenset((*_TIER_KEYS, *_TOOL_KEYS, "trafficType", "speed", "inference_geo"))


class Billed(msgspec.Struct, frozen=True):
    """Tokens, each counted once. `input` is neither read from a cache nor written to one; `output` holds reasoning."""

    input: int
    output: int
    cached_input: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0


def billed(usage: Usage, family: str | None) -> Billed | None:
    """The tokens that a call is billed for, or None where that cannot be told.

    Args:
        usage: of one call, with the provider's own object in `raw`.
        family: that of the dialect that has read it; None for a provider that is none of ours.
    """
    raw = usage.raw or {}
    if not _is_usual(raw):
        return None
    match (family or "").partition("/")[0]:
        case "chat-completions" | "openai-responses":
            return _openai(usage, raw)
        case "anthropic-messages":
            return _anthropic(usage, raw)
        case "bedrock-converse":
            return _bedrock(usage, raw)
        case "generate-content":
            return _gemini(usage, raw)
        case "cohere":
            return _cohere(raw)
        case _:
            doubtful = usage.cached_input_tokens or usage.cache_write_tokens or usage.reasoning_tokens
            if doubtful or usage.input_tokens is None or usage.output_tokens is None:
                return None
            return Billed(usage.input_tokens, usage.output_tokens)


def reported(usage: Usage, vendor: str | None) -> float | None:
    """What the provider says that the call has cost, in US dollars, or None.

    Args:
        usage: of one call.
        vendor: whose endpoint it was, if it was one that says so: ``openrouter``, ``perplexity`` or ``xai``.
    """
    raw = usage.raw or {}
    told: Any = None
    match vendor:
        case "openrouter" if not raw.get("is_byok"):  # with a key of one's own, the upstream sends a bill of its own
            told = raw.get("cost")
        case "perplexity":
            told = _mapping(raw.get("cost")).get("total_cost")
        case "xai":
            ticks = raw.get("cost_in_usd_ticks")
            told = ticks * _TICK if is_number(ticks) else None
        case _:
            pass
    return float(told) if is_number(told) and told >= 0 else None


def is_plain(reply: ModelReply, extra: Mapping[str, Any] | None) -> bool:
    """Whether nothing but tokens at the usual price is billed, as far as request and answer show it."""
    for part in reply.message.parts:
        if type(part) is ServerItem and part.kind not in _FREE_ITEMS:
            return False
    if reply.service_tier is not None and _is_dear(reply.service_tier):
        return False
    return not extra or not (any(extra.get(key) for key in _DEAR) or any(map(_is_dear, _tiers(extra))))


def _tiers(told: Mapping[str, Any]) -> list[Any]:
    return [told.get(key) for key in _TIER_KEYS]


def _is_dear(tier: Any) -> bool:
    """Whether a tier, in any form, is not the usual one."""
    named = _mapping(tier).get("type") if isinstance(tier, Mapping) else tier
    return not (named is None or (isinstance(named, str) and named.lower() in _USUAL_TIERS))


def is_unbilled(error: ProviderError) -> bool:
    """Whether a failed call has surely cost nothing: it was refused, or never sent."""
    if error.causes:
        return all(is_unbilled(each) for each in error.causes)
    if error.status is not None and error.status >= 400:
        return True
    return error.status is None and error.partial is None and error.kind not in MAY_BE_BILLED


def _is_usual(raw: Mapping[str, Any]) -> bool:
    if _TELLING_KEYS.isdisjoint(raw):
        return True
    if any(_is_dear(tier) for tier in (*_tiers(raw), raw.get("trafficType"))):
        return False
    if raw.get("speed") not in (None, "standard") or raw.get("inference_geo") not in _USUAL_PLACES:
        return False
    return not any(_any(raw.get(key)) for key in _TOOL_KEYS)


def _openai(usage: Usage, raw: Mapping[str, Any]) -> Billed | None:
    """Caches are inside the input, reasoning is inside the output unless the total says otherwise."""
    read, written = usage.input_tokens, usage.output_tokens
    if read is None or written is None:
        return None
    asked = _first(raw, "prompt_tokens_details", "input_tokens_details")
    answered = _first(raw, "completion_tokens_details", "output_tokens_details")
    if any(_any(held.get(key)) for held in (asked, answered) for key in ("audio_tokens", "video_tokens")):
        return None
    if _any(answered.get("image_tokens")):
        return None
    if usage.cached_input_tokens is None and (_any(raw.get("cached_tokens")) or _any(raw.get("num_cached_tokens"))):
        return None
    total, thought = usage.total_tokens, usage.reasoning_tokens or 0
    if total is None:
        if thought:
            return None
    elif total != read + written:
        if not thought or total != read + written + thought:
            return None
        written += thought
    cached, kept = usage.cached_input_tokens or 0, usage.cache_write_tokens or 0
    return _checked(Billed(read - cached - kept, written, cached, kept))


def _anthropic(usage: Usage, raw: Mapping[str, Any]) -> Billed | None:
    """Caches are beside the input."""
    steps: Any = raw.get("iterations")
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    if isinstance(steps, list) and len(cast("list[Any]", steps)) > 1:
        return None  # a summary was made on the way, which the sums leave out
    kept = usage.cache_write_tokens or 0
    hour = _mapping(raw.get("cache_creation")).get("ephemeral_1h_input_tokens") or 0
    if not isinstance(hour, int):
        return None
    cached = usage.cached_input_tokens or 0
    return _checked(Billed(usage.input_tokens, usage.output_tokens, cached, kept - hour, hour))


def _bedrock(usage: Usage, raw: Mapping[str, Any]) -> Billed | None:
    """Caches are beside the input, and the total holds everything."""
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    cached, kept = usage.cached_input_tokens or 0, usage.cache_write_tokens or 0
    total = usage.input_tokens + usage.output_tokens + cached + kept
    if usage.total_tokens is not None and usage.total_tokens != total:
        return None
    details: Any = raw.get("cacheDetails")
    hour = 0
    for each in map(_mapping, cast("list[Any]", details) if isinstance(details, list) else []):
        if each.get("ttl") == "1h":
            count = each.get("inputTokens")
            if not isinstance(count, int):
                return None
            hour += count
    return _checked(Billed(usage.input_tokens, usage.output_tokens, cached, kept - hour, hour))


def _gemini(usage: Usage, raw: Mapping[str, Any]) -> Billed | None:
    """The cache is inside the input, thoughts are beside the output; a count of zero is left out."""
    if usage.input_tokens is None or _any(raw.get("toolUsePromptTokenCount")):
        return None
    sides = (("promptTokensDetails", ("AUDIO",)), ("candidatesTokensDetails", ("AUDIO", "IMAGE", "VIDEO")))
    for key, dear in sides:
        details: Any = raw.get(key)
        if isinstance(details, list) and any(_mapping(e).get("modality") in dear for e in cast("list[Any]", details)):
            return None
    output = (usage.output_tokens or 0) + (usage.reasoning_tokens or 0)
    if usage.total_tokens is None:
        if usage.output_tokens is None:
            return None
    elif usage.total_tokens != usage.input_tokens + output:
        return None
    cached = usage.cached_input_tokens or 0
    return _checked(Billed(usage.input_tokens - cached, output, cached))


def _cohere(raw: Mapping[str, Any]) -> Billed | None:
    """What is billed is told apart from what was counted."""
    units = _mapping(raw.get("billed_units"))
    read, written = units.get("input_tokens"), units.get("output_tokens")
    if any(_any(value) for key, value in units.items() if key not in ("input_tokens", "output_tokens")):
        return None
    if not is_number(read) or not is_number(written) or int(read) != read or int(written) != written:
        return None
    return _checked(Billed(int(read), int(written)))


def _checked(counted: Billed) -> Billed | None:
    return counted if all(count >= 0 for count in msgspec.structs.astuple(counted)) else None


def _first(raw: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    return _mapping(next((raw[key] for key in keys if key in raw), None))


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _any(value: Any) -> bool:
    """Whether a count, or any count in an object, is not zero."""
    if isinstance(value, Mapping):
        return any(_any(each) for each in cast("Mapping[Any, Any]", value).values())
    return bool(value)
