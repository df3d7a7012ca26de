"""From ``"vendor:model"`` to a provider: the table of vendors that speak Chat Completions, and how they differ.

A vendor is data: where it lives, which environment variable holds its key, and its `Quirks`. A bare model name
is looked up by its beginning. What is unknown is one clear line with the nearest known name.
"""

from __future__ import annotations

import difflib
from typing import Any

import msgspec

from .dialects.openai_chat import Quirks
from .openai import OPENAI_URL, OpenAIChat
from .provider import Provider


class Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """Where a vendor's Chat Completions endpoint is. `key_variable` is None where no key is needed."""

    base_url: str
    key_variable: str | None
    quirks: Quirks = Quirks()


VENDORS: dict[str, Vendor] = {
    "openai": Vendor(
        base_url=OPENAI_URL,
        key_variable="OPENAI_API_KEY",
        quirks=Quirks(max_tokens_key="max_completion_tokens"),
    ),
    "groq": Vendor(
        base_url="https://api.groq.com/openai/v1",
        key_variable="GROQ_API_KEY",
        quirks=Quirks(max_tokens_key="max_completion_tokens"),
    ),
    "mistral": Vendor(
        base_url="https://api.mistral.ai/v1",
        key_variable="MISTRAL_API_KEY",
        # Mistral refuses fields that it does not know, and always sends usage.
        quirks=Quirks(stream_usage=False, seed_key="random_seed", required_word="any"),
    ),
    "deepseek": Vendor(
        base_url="https://api.deepseek.com",
        key_variable="DEEPSEEK_API_KEY",
        quirks=Quirks(thinking_key="reasoning_content", parallel_tool_calls=False),
    ),
    "openrouter": Vendor(base_url="https://openrouter.ai/api/v1", key_variable="OPENROUTER_API_KEY"),
    "together": Vendor(base_url="https://api.together.xyz/v1", key_variable="TOGETHER_API_KEY"),
    "cerebras": Vendor(
        base_url="https://api.cerebras.ai/v1",
        key_variable="CEREBRAS_API_KEY",
        quirks=Quirks(max_tokens_key="max_completion_tokens"),
    ),
    "huggingface": Vendor(base_url="https://router.huggingface.co/v1", key_variable="HF_TOKEN"),
    "perplexity": Vendor(
        base_url="https://api.perplexity.ai", key_variable="PERPLEXITY_API_KEY", quirks=Quirks(stream_usage=False)
    ),
    "zai": Vendor(
        base_url="https://api.z.ai/api/paas/v4",
        key_variable="ZAI_API_KEY",
        quirks=Quirks(thinking_key="reasoning_content", parallel_tool_calls=False),
    ),
    "ollama": Vendor(base_url="http://localhost:11434/v1", key_variable=None),
    "vllm": Vendor(base_url="http://localhost:8000/v1", key_variable=None),
    "lmstudio": Vendor(base_url="http://localhost:1234/v1", key_variable=None),
}

#: Vendors whose own wire format is not spoken here yet.
UNSPOKEN = {"anthropic": "Messages", "gemini": "generateContent", "google": "generateContent"}

_BARE = (
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("claude-", "anthropic"),
    ("gemini-", "gemini"),
    ("deepseek-", "deepseek"),
    ("mistral-", "mistral"),
    ("ministral-", "mistral"),
    ("codestral-", "mistral"),
    ("sonar", "perplexity"),
    ("glm-", "zai"),
)


def connect(model: str, **options: Any) -> Provider:
    """The provider for ``"vendor:model"``, or for a well-known bare name like ``"gpt-5-mini"``.

    Args:
        model: for example ``"openai:gpt-5-mini"``, ``"groq:openai/gpt-oss-120b"``, ``"ollama:llama3.2"``.
        options: as for `OpenAIChat`: ``base_url``, ``api_key``, ``client``, ``timeouts``, ``headers``.

    Raises:
        TypeError: it is not a string.
        ValueError: the vendor or the bare name is not known, or its wire format is not spoken yet.
    """
    if not isinstance(model, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"connect() takes a name like 'openai:gpt-5-mini', not {type(model).__name__}")
    model = model.strip()
    vendor, colon, name = (word.strip() for word in model.partition(":"))
    if not colon and model in VENDORS:
        raise ValueError(f"{model!r} is a vendor and names no model: write '{model}:model', like 'openai:gpt-5-mini'")
    if model not in UNSPOKEN and (
        not colon or (vendor not in VENDORS and vendor not in UNSPOKEN and _vendor_of(model) is not None)
    ):
        # A colon may also stand inside a bare name, as in "deepseek-r1:7b".
        vendor, name = _vendor_of(model) or "", model
    if vendor in UNSPOKEN:
        raise ValueError(
            f"model {model!r}: {vendor}'s own wire format ({UNSPOKEN[vendor]}) is not spoken yet; its models are "
            "reachable as 'openrouter:…'"
        )
    if vendor not in VENDORS:
        raise ValueError(_unknown(model, model.partition(":")[0], colon))
    if not name:
        raise ValueError(f"model {model!r} names no model: write it like 'openai:gpt-5-mini'")
    known = VENDORS[vendor]
    chosen: dict[str, Any] = {
        "name": vendor,
        "base_url": known.base_url,
        "key_variable": known.key_variable,
        "quirks": known.quirks,
        **options,
    }
    return OpenAIChat(name, **chosen)


def _vendor_of(model: str) -> str | None:
    return next((vendor for prefix, vendor in _BARE if model.startswith(prefix)), None)


def _unknown(model: str, vendor: str, colon: str) -> str:
    known = sorted({*VENDORS, *UNSPOKEN})
    near = difflib.get_close_matches(vendor, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    what = f"unknown vendor {vendor!r} in {model!r}" if colon else f"unknown model {model!r}"
    return f"{what}: write 'vendor:model' with a vendor of {', '.join(known)}{hint}"
