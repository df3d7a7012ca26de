"""Functions that shorten a conversation, under their public address: `greenroom.trimming`."""

from .agents.token_count import count_message, count_messages
from .agents.trimming import (
    cap_message,
    cap_messages,
    cut_text,
    drop_oldest,
    keep_last,
    keep_tokens,
    without_tool_calls,
)

__all__ = [
    "cap_message",
    "cap_messages",
    "count_message",
    "count_messages",
    "cut_text",
    "drop_oldest",
    "keep_last",
    "keep_tokens",
    "without_tool_calls",
]
