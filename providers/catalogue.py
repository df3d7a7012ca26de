"""What a name of a model says: other spellings of vendors, and whose a well-known bare name is. Pure."""

from __future__ import annotations

import re

#: Other spellings of a vendor's name.
ALIASES = {
    "google": "gemini",
    "z.ai": "zai",
    "z-ai": "zai",
    "zhipu": "zai",
    "x.ai": "xai",
    "grok": "xai",
    "hf": "huggingface",
    "lm-studio": "lmstudio",
    "mistralai": "mistral",
    "togetherai": "together",
    "together.ai": "together",
    "fireworks-ai": "fireworks",
    "openai-chat": "openai",
    "azure-openai": "azure",
    "google-vertex": "vertex",
    "vertexai": "vertex",
    "vertex-ai": "vertex",
}

# Where the weights are open and many serve them (Llama, Qwen, gpt-oss …) a bare name does not say whose it is meant.
_BARE = (
    (r"gpt-(?!oss)|chatgpt-|o[1-9](-|$)", "openai"),
    (r"claude-", "anthropic"),
    (r"gemini-", "gemini"),
    (r"deepseek-(chat|reasoner|v\d)", "deepseek"),
    (r"(mistral|ministral|magistral|codestral|devstral|pixtral|voxtral)-", "mistral"),
    (r"command-|c4ai-aya-", "cohere"),
    (r"grok-", "xai"),
    (r"sonar(-|$)", "perplexity"),
    (r"glm-", "zai"),
)
_PATTERNS = [(re.compile(pattern).match, vendor) for pattern, vendor in _BARE]


def vendor_of(model: str) -> str | None:
    """Whose model a bare name like ``gpt-5-mini`` is, or None for a name that could be anybody's.

    Capitals do not count, and a model that was tuned at OpenAI (``ft:gpt-4o:…``) is OpenAI's.
    """
    base = model.lower().removeprefix("ft:")
    return next((vendor for matches, vendor in _PATTERNS if matches(base)), None)


def well_known(model: str) -> str | None:
    """The bare name that is probably meant by one that is not known: ``gpt-5-mini`` by ``gpt5-mini``."""
    meant = re.sub(r"^([a-z]+)[ _]?(?=\d)", r"\1-", model.lower())
    return meant if vendor_of(meant) is not None else None


def canonical(vendor: str) -> str:
    """The name of a vendor here, from any spelling of it."""
    vendor = vendor.strip().lower()
    return ALIASES.get(vendor, vendor)
