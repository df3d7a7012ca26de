"""Talking to models: what a request and an answer are, who answers, and what can go wrong. Knows no actor and no agent.

Read `vocabulary` and `messages` for the words, `provider` for the seam, `errors` for the tree of failures.
`dialect` is the sans-IO half of a provider, `http` the only place that knows an HTTP library.
"""

from __future__ import annotations

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
    Stalled,
    StreamInterrupted,
)
from .functions import FunctionSchema, describe, validate
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
from .openai import OpenAIChat
from .openai_messages import message_from_openai, message_to_openai
from .provider import ModelStream, Provider
from .retry import Retry, delay, should_retry
from .scripted import Scripted, ScriptExhausted, call
from .signing import Signer, UnsignedRequest
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
    "AuthError",
    "BadResponse",
    "ConnectionFailed",
    "Connections",
    "ContentFiltered",
    "ContextOverflow",
    "Dialect",
    "Document",
    "Encoded",
    "FunctionSchema",
    "Image",
    "InvalidRequest",
    "Message",
    "ModelEvent",
    "ModelReply",
    "ModelRequest",
    "ModelSettings",
    "ModelStream",
    "OpenAIChat",
    "Overloaded",
    "Part",
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
    "Timeouts",
    "ToolCall",
    "ToolCallDelta",
    "ToolResult",
    "ToolSpec",
    "UnsignedRequest",
    "Usage",
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
