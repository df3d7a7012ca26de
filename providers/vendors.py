"""The vendors that speak Chat Completions, as data: where each lives, what holds its key, what it wants to be sent."""

from __future__ import annotations

import msgspec

from .dialects.openai_chat import Quirks
from .openai import OPENAI_URL


class Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """Where a vendor's Chat Completions endpoint is.

    `key_variables` are the environment variables that hold its key, the usual one first; none where no key is needed.
    """

    base_url: str
    key_variables: tuple[str, ...] = ()
    quirks: Quirks = Quirks()


_COMPLETION_TOKENS = Quirks(max_tokens_key="max_completion_tokens")
# Both know JSON, and no schema of it.
_REASONING_CONTENT = Quirks(thinking_key="reasoning_content", parallel_tool_calls=False, json_schemas="never")

VENDORS: dict[str, Vendor] = {
    "openai": Vendor(base_url=OPENAI_URL, key_variables=("OPENAI_API_KEY",), quirks=_COMPLETION_TOKENS),
    "groq": Vendor(
        base_url="https://api.groq.com/openai/v1",
        key_variables=("GROQ_API_KEY",),
        quirks=Quirks(max_tokens_key="max_completion_tokens", json_schemas="alone"),
    ),
    "mistral": Vendor(
        base_url="https://api.mistral.ai/v1",
        key_variables=("MISTRAL_API_KEY",),
        # Mistral refuses fields that it does not know, and always sends usage.
        quirks=Quirks(
            stream_usage=False,
            seed_key="random_seed",
            required_word="any",
            nine_letter_ids=True,
            answer_after_tools=True,
            empty_answers=False,
            documents="document_url",
        ),
    ),
    "deepseek": Vendor(
        base_url="https://api.deepseek.com", key_variables=("DEEPSEEK_API_KEY",), quirks=_REASONING_CONTENT
    ),
    "openrouter": Vendor(
        base_url="https://openrouter.ai/api/v1",
        key_variables=("OPENROUTER_API_KEY",),
        quirks=Quirks(documents="file_or_url"),
    ),
    "together": Vendor(
        base_url="https://api.together.xyz/v1", key_variables=("TOGETHER_API_KEY", "TOGETHERAI_API_KEY")
    ),
    "cerebras": Vendor(
        base_url="https://api.cerebras.ai/v1", key_variables=("CEREBRAS_API_KEY",), quirks=_COMPLETION_TOKENS
    ),
    "huggingface": Vendor(
        base_url="https://router.huggingface.co/v1",
        key_variables=("HF_TOKEN", "HUGGINGFACE_API_KEY", "HUGGING_FACE_HUB_TOKEN"),
    ),
    "perplexity": Vendor(
        base_url="https://api.perplexity.ai",
        key_variables=("PERPLEXITY_API_KEY", "PPLX_API_KEY"),
        quirks=Quirks(stream_usage=False, empty_answers=False, alternate=True),
    ),
    "zai": Vendor(
        base_url="https://api.z.ai/api/paas/v4",
        key_variables=("ZAI_API_KEY", "Z_AI_API_KEY"),
        quirks=_REASONING_CONTENT,
    ),
    "xai": Vendor(base_url="https://api.x.ai/v1", key_variables=("XAI_API_KEY",), quirks=_COMPLETION_TOKENS),
    "fireworks": Vendor(base_url="https://api.fireworks.ai/inference/v1", key_variables=("FIREWORKS_API_KEY",)),
    "vllm": Vendor(base_url="http://localhost:8000/v1"),
    "lmstudio": Vendor(base_url="http://localhost:1234/v1"),
    "ollama-openai": Vendor(base_url="http://localhost:11434/v1"),
}
