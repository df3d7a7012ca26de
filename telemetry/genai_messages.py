"""Conversations in the form that OpenTelemetry's conventions have for them, as JSON.

Data of images and documents are not copied into spans: their part says what they are and how long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..providers import (
    Document,
    Image,
    Message,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
)

_encode = msgspec.json.Encoder(enc_hook=repr).encode


def text_of(value: Any) -> str:
    """Any value as JSON."""
    return _encode(value).decode()


def input_messages(messages: Sequence[Message]) -> str:
    """What is sent to the model."""
    return text_of([_message(message) for message in messages])


def output_messages(message: Message, stop_reason: str | None) -> str:
    """What the model has answered."""
    return text_of([_message(message) | {"finish_reason": stop_reason or "stop"}])


def instructions_text(instructions: str) -> str:
    """The system prompt."""
    return text_of([{"type": "text", "content": instructions}])


def tool_definitions(tools: Sequence[ToolSpec]) -> str:
    """The tools that the model may call."""
    return text_of(
        [
            {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters}
            for tool in tools
        ]
    )


def _message(message: Message) -> dict[str, Any]:
    return {"role": message.role, "parts": [_part(part) for part in message.parts]}


def _part(part: Any) -> dict[str, Any]:
    match part:
        case Text() | Refusal():
            return {"type": "text", "content": part.text}
        case Thinking():
            return {"type": "reasoning", "content": part.text}
        case ToolCall():
            arguments = part.arguments if part.arguments is not None else part.raw
            return {"type": "tool_call", "id": part.id, "name": part.name, "arguments": arguments}
        case ToolResult():
            return {"type": "tool_call_response", "id": part.call_id, "response": part.content}
        case Image() | Document():
            modality = "image" if isinstance(part, Image) else "document"
            if part.url is not None and not part.url.startswith("data:"):
                return {"type": "uri", "modality": modality, "mime_type": part.media_type, "uri": part.url}
            length = len(part.data if part.data is not None else part.url or "")
            return {"type": "attachment", "modality": modality, "mime_type": part.media_type, "length": length}
        case _:
            return {"type": "provider_item"}
