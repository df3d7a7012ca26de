"""The strict fakes by name."""

from __future__ import annotations

from collections.abc import Callable

from .anthropic import AnthropicFormat
from .bedrock import BedrockFormat
from .chat_vendors import DeepSeekFormat, MistralFormat, PerplexityFormat
from .cohere import CohereFormat
from .format import Format
from .gemini import GeminiFormat
from .ollama import OllamaFormat
from .openai_chat import OpenAIChatFormat
from .openai_responses import OpenAIResponsesFormat

#: What `StrictServer` may be asked for; each makes a format with nothing in its memory.
FORMATS: dict[str, Callable[[], Format]] = {
    "anthropic": AnthropicFormat,
    "bedrock": BedrockFormat,
    "cohere": CohereFormat,
    "deepseek": DeepSeekFormat,
    "gemini": GeminiFormat,
    "mistral": MistralFormat,
    "ollama": OllamaFormat,
    "openai-chat": OpenAIChatFormat,
    "openai-responses": OpenAIResponsesFormat,
    "perplexity": PerplexityFormat,
}
