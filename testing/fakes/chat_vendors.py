"""Vendors that speak Chat Completions by stricter rules than OpenAI's: Mistral, DeepSeek and Perplexity. Pure.

Sources: https://docs.mistral.ai/api, https://api-docs.deepseek.com/guides/thinking_mode and
https://docs.perplexity.ai/api-reference, and the errors that the three are known for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, cast

from ...providers import Provider, connect
from .format import Said
from .openai_chat import OpenAIChatFormat
from .openai_values import Unacceptable

_NINE = re.compile(r"[a-zA-Z0-9]{9}")
# fmt: off
_MISTRAL_KEYS = frozenset(
    (
        "frequency_penalty", "max_tokens", "messages", "metadata", "model", "n", "parallel_tool_calls", "prediction",
        "presence_penalty", "prompt_mode", "random_seed", "response_format", "safe_prompt", "stop", "stream",
        "temperature", "tool_choice", "tools", "top_p",
    )
)
# fmt: on
_MESSAGE_KEYS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls", "prefix"},
    "tool": {"role", "content", "tool_call_id", "name"},
}
_MISTRAL_PARTS = ("text", "image_url", "document_url", "input_audio", "reference", "thinking")
#: Who may come next.
_AFTER = {
    "system": {"system", "user", "assistant"},
    "user": {"system", "user", "assistant"},
    "assistant": {"user", "assistant", "tool"},
    "tool": {"assistant", "tool"},
}


class MistralFormat(OpenAIChatFormat):
    """Mistral's own endpoint: no unknown field, ids of nine letters, and an order of roles."""

    always_counts = True

    def provider(self, url: str, model: str) -> Provider:
        return connect(f"mistral:{model}", base_url=f"{url}/v1", api_key=self.key)

    def check_body(self, body: Mapping[str, Any]) -> None:
        for key in body:
            if key not in _MISTRAL_KEYS:
                raise Unacceptable(f"Extra inputs are not permitted: {key}", key, "extra_forbidden", 422)
        before: str | None = None
        asked: list[str] = []
        for message in body["messages"]:
            role: str = message["role"]
            odd = set(message) - _MESSAGE_KEYS[role]
            if odd:
                raise Unacceptable(f"Extra inputs are not permitted: {min(odd)}", None, "extra_forbidden", 422)
            content = message.get("content")
            for part in cast("list[Any]", content) if isinstance(content, list) else ():
                if part["type"] not in _MISTRAL_PARTS:
                    words = f"Input tag '{part['type']}' found using 'type' does not match any of the expected tags"
                    raise Unacceptable(words, None, "union_tag_invalid", 422)
            if before is not None and role not in _AFTER[before]:
                raise Unacceptable(f"Unexpected role '{role}' after role '{before}'", None, "3230")
            if role != "tool" and asked:
                raise Unacceptable("Not the same number of function calls and responses", None, "3230")
            if role == "assistant":
                asked = [call["id"] for call in message.get("tool_calls") or ()]
                if not message.get("content") and not asked:
                    words = "Assistant message must have either content or tool_calls, but not none."
                    raise Unacceptable(words, None, "3240")
            if role == "tool":
                if message["tool_call_id"] not in asked:
                    raise Unacceptable("Unexpected tool call id in tool results", None, "3230")
                asked.remove(message["tool_call_id"])
            self._check_ids(message)
            before = role
        if before == "assistant":
            words = "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant"
            raise Unacceptable(words, None, "3230")

    def _check_ids(self, message: Mapping[str, Any]) -> None:
        ids = [call["id"] for call in message.get("tool_calls") or ()]
        for identity in (*ids, message.get("tool_call_id")):
            if identity is not None and _NINE.fullmatch(identity) is None:
                words = f"Tool call id was {identity} but must be a-z, A-Z, 0-9, with a length of 9."
                raise Unacceptable(words, None, "3280")

    def call_id(self, number: int) -> str:
        return f"m{self._instance:04d}{number:04d}"[:9]


class DeepSeekFormat(OpenAIChatFormat):
    """DeepSeek's thinking mode: reasoning is shown, and wanted back unchanged with the tool calls that it led to."""

    def __init__(self) -> None:
        super().__init__()
        self._thoughts: dict[str, str] = {}  # by the id of a call

    def provider(self, url: str, model: str) -> Provider:
        return connect(f"deepseek:{model}", base_url=f"{url}/v1", api_key=self.key)

    def check_body(self, body: Mapping[str, Any]) -> None:
        form: Any = body.get("response_format") or {"type": "text"}
        if form["type"] == "json_schema":
            raise Unacceptable("This response_format type is unavailable now", None, "invalid_request_error")
        plain: list[Any] = []
        for index, message in enumerate(body["messages"]):
            thought = message.get("reasoning_content")
            for call in message.get("tool_calls") or ():
                if thought is None or self._thoughts.get(call["id"], thought) != thought:
                    words = f"Missing `reasoning_content` field in the assistant message at message index {index}."
                    raise Unacceptable(words, None, "invalid_request_error")
            plain.append({key: value for key, value in message.items() if key != "reasoning_content"})
        super().check_body({**body, "messages": plain})

    def thinking(self, said: Said, calls: list[dict[str, Any]]) -> dict[str, str]:
        for call in calls:
            self._thoughts[call["id"]] = said.thinking
        return {"reasoning_content": said.thinking} if said.thinking else {}


class PerplexityFormat(OpenAIChatFormat):
    """Perplexity: the system first, then user and assistant in turns."""

    always_counts = True

    def provider(self, url: str, model: str) -> Provider:
        return connect(f"perplexity:{model}", base_url=f"{url}/v1", api_key=self.key)

    def check_body(self, body: Mapping[str, Any]) -> None:
        super().check_body(body)
        roles = [message["role"] for message in body["messages"]]
        while roles and roles[0] == "system":
            del roles[0]
        turns = ["assistant" if role == "assistant" else "user" for role in roles]
        again = [(one, two) for one, two in pairwise(roles) if one == two != "tool"]
        if not roles or roles[0] != "user" or "system" in roles or again or turns[-1] == "assistant":
            raise Unacceptable(
                "After the (optional) system message(s), user or tool message(s) should alternate with assistant "
                "message(s).",
                None,
                "400",
            )
