"""Talking to models: what a request and an answer are, who answers, and what can go wrong. Knows no actor and no agent.

Read `vocabulary` and `messages` for the words, `provider` for the seam, `errors` for the tree of failures.
`dialect` is the sans-IO half of a provider, `http` the only place that knows an HTTP library.
"""

from __future__ import annotations

from .anthropic import Anthropic, BedrockAnthropic
from .azure import AzureOpenAIChat
from .bedrock import Bedrock
from .cohere import Cohere
from .connect import connect
from .dialect import Dialect, Encoded, StreamDecoder
from .dialects.openai_chat import Quirks
from .errors import (
    AuthError,
    BadResponse,
    ConnectionFailed,
    ContentFiltered,
    ContextOverflow,
    InvalidRequest,
    Overloaded,
    ProviderError,
    RateLimited,
    SdkFailed,
    Stalled,
    StreamInterrupted,
)
from .fallback import Fallback
from .function_arguments import FunctionSchema, validate
from .functions import describe
from .gate_state import GateLimits
from .gemini import Gemini, Vertex
from .http import Connections, Timeouts, shared_connections
from .messages import (
    Document,
    Image,
    Message,
    Part,
    ProviderData,
    Refusal,
    Role,
    ServerItem,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    assistant,
    document,
    image,
    system,
    tool_result,
    user,
)
from .ollama import Ollama
from .openai import OpenAIChat
from .openai_messages import message_from_openai, message_to_openai
from .openai_responses import OpenAIResponses
from .prices import Price, Prices
from .provider import ModelStream, Provider
from .retry import Retry, delay, should_retry
from .scripted import Scripted, ScriptExhausted, call
from .signing import Signer, UnsignedRequest
from .threaded import ThreadProvider
from .vocabulary import (
    ModelEvent,
    ModelReply,
    ModelRequest,
    ModelSettings,
    RefusalDelta,
    StopReason,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolSpec,
    Usage,
    tool_spec,
)

__all__ = [
    "Anthropic",
    "AuthError",
    "AzureOpenAIChat",
    "BadResponse",
    "Bedrock",
    "BedrockAnthropic",
    "Cohere",
    "ConnectionFailed",
    "Connections",
    "ContentFiltered",
    "ContextOverflow",
    "Dialect",
    "Document",
    "Encoded",
    "Fallback",
    "FunctionSchema",
    "GateLimits",
    "Gemini",
    "Image",
    "InvalidRequest",
    "Message",
    "ModelEvent",
    "ModelReply",
    "ModelRequest",
    "ModelSettings",
    "ModelStream",
    "Ollama",
    "OpenAIChat",
    "OpenAIResponses",
    "Overloaded",
    "Part",
    "Price",
    "Prices",
    "Provider",
    "ProviderData",
    "ProviderError",
    "Quirks",
    "RateLimited",
    "Refusal",
    "RefusalDelta",
    "Retry",
    "Role",
    "ScriptExhausted",
    "Scripted",
    "SdkFailed",
    "ServerItem",
    "Signer",
    "Stalled",
    "StopReason",
    "StreamDecoder",
    "StreamInterrupted",
    "Text",
    "TextDelta",
    "Thinking",
    "ThinkingDelta",
    "ThreadProvider",
    "Timeouts",
    "ToolCall",
    "ToolCallDelta",
    "ToolResult",
    "ToolSpec",
    "UnsignedRequest",
    "Usage",
    "Vertex",
    "assistant",
    "call",
    "connect",
    "delay",
    "describe",
    "document",
    "image",
    "message_from_openai",
    "message_to_openai",
    "shared_connections",
    "should_retry",
    "system",
    "tool_result",
    "tool_spec",
    "user",
    "validate",
]
