"""What Cohere's chat refuses, in its own words as far as they are known. Pure.

Sources: https://docs.cohere.com/reference/chat and https://docs.cohere.com/reference/errors
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, cast

import msgspec

# fmt: off
_PARAMETERS = frozenset(
    (
        "citation_options", "documents", "frequency_penalty", "k", "logprobs", "max_tokens", "messages", "model", "p",
        "presence_penalty", "priority", "raw_prompting", "response_format", "safety_mode", "seed", "stop_sequences",
        "stream", "strict_tools", "temperature", "thinking", "tool_choice", "tools",
    )
)
# fmt: on
_KEYS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls", "tool_plan", "citations"},
    "tool": {"role", "content", "tool_call_id"},
}
_PARTS = {
    "system": ("text",),
    "user": ("text", "image_url"),
    "assistant": ("text", "thinking"),
    "tool": ("text", "document"),
}
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MOST_STOPS = 5


class Unacceptable(Exception):
    """A request that the endpoint answers with an error."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def check(body: Mapping[str, Any]) -> None:
    """Check a decoded request.

    Raises:
        Unacceptable: the endpoint would refuse it.
    """
    _only(body, _PARAMETERS, "")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise Unacceptable("invalid request: model is required")
    _check_settings(body)
    _check_tools(body)
    _check_format(body)
    thinks = _object(body.get("thinking") or {}, "thinking").get("type") != "disabled"
    _check_messages(_list(body.get("messages"), "messages"), thinks=thinks)


def _check_settings(body: Mapping[str, Any]) -> None:
    for key, low, high in (("p", 0.01, 0.99), ("temperature", 0, None), ("max_tokens", 1, None)):
        value = body.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Unacceptable(f"invalid request: {key} must be a number")
        if value < low or (high is not None and value > high):
            bounds = f"at least {low}" if high is None else f"between {low} and {high} inclusive"
            raise Unacceptable(f"invalid request: {key} must be {bounds}, the value provided was {value}")
    stops = _list(body.get("stop_sequences") or [], "stop_sequences")
    if len(stops) > _MOST_STOPS or not all(isinstance(stop, str) for stop in stops):
        raise Unacceptable(f"invalid request: stop_sequences must be up to {_MOST_STOPS} strings")
    thinking = body.get("thinking")
    if thinking is not None and _object(thinking, "thinking").get("type") not in ("enabled", "disabled"):
        raise Unacceptable("invalid request: thinking.type must be one of 'enabled', 'disabled'")
    if not isinstance(body.get("stream", False), bool):
        raise Unacceptable("invalid request: stream must be a boolean")


def _check_tools(body: Mapping[str, Any]) -> None:
    tools = _list(body.get("tools") or [], "tools")
    for index, given in enumerate(tools):
        tool = _object(given, f"tools[{index}]")
        if tool.get("type") != "function":
            raise Unacceptable(f"invalid request: tools[{index}].type must be 'function'")
        function = _object(tool.get("function"), f"tools[{index}].function")
        name = function.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise Unacceptable(f"invalid request: tools[{index}].function.name is not a valid name")
        schema = _object(function.get("parameters"), f"tools[{index}].function.parameters")
        if schema.get("type") != "object":
            raise Unacceptable(f"invalid request: tools[{index}].function.parameters must be of type 'object'")
    choice = body.get("tool_choice")
    if choice is not None and choice not in ("REQUIRED", "NONE"):
        raise Unacceptable("invalid request: tool_choice must be one of 'REQUIRED', 'NONE'")
    for key in ("tool_choice", "strict_tools"):
        if body.get(key) and not tools:
            raise Unacceptable(f"invalid request: {key} can only be specified together with tools")


def _check_format(body: Mapping[str, Any]) -> None:
    given = body.get("response_format")
    if given is None:
        return
    form = _object(given, "response_format")
    if form.get("type") not in ("text", "json_object"):
        raise Unacceptable("invalid request: response_format.type must be one of 'text', 'json_object'")
    if form["type"] == "json_object" and (body.get("tools") or body.get("documents")):
        raise Unacceptable("invalid request: response_format is not supported with tools or documents")
    if form["type"] == "text" and "json_schema" in form:
        raise Unacceptable("invalid request: json_schema must not be specified when the type is 'text'")


def _check_messages(messages: list[Any], *, thinks: bool) -> None:
    if not messages:
        raise Unacceptable("invalid request: messages must not be empty")
    asked: dict[str, bool] = {}  # the calls of the message before: whether each was answered
    for index, given in enumerate(messages):
        where = f"messages[{index}]"
        message = _object(given, where)
        role = message.get("role")
        if not isinstance(role, str) or role not in _KEYS:
            raise Unacceptable(f"invalid request: {where}.role must be one of {', '.join(_KEYS)}")
        _only(message, _KEYS[role], f"{where}.")
        if role == "tool":
            _check_answers(asked, message.get("tool_call_id"), where)
        else:
            _check_all_answered(asked, where)
            asked = {}
        texts = _check_content(message, role, where)
        if role == "assistant":
            asked = _check_calls(message, where)
            _check_assistant(message, texts, where, thinks=thinks)
        elif not any(text.strip() for text in texts):
            raise Unacceptable(f"invalid request: {where}: message must be at least 1 token long")
    _check_all_answered(asked, "messages")


def _check_assistant(message: Mapping[str, Any], texts: list[str], where: str, *, thinks: bool) -> None:
    said = any(text.strip() for text in texts)
    if not message.get("tool_calls"):
        if not said:
            raise Unacceptable("invalid request: all elements in history must have a message.")
        if message.get("tool_plan"):
            raise Unacceptable(f"invalid request: tool_plan requires tool_calls: '{where}'")
        return
    if said:
        raise Unacceptable(
            "text content is not allowed when tool_calls are provided. If you wish to pass a tool plan, either pass "
            f"thinking content (with thinking enabled) or use 'tool_plan': '{where}.content[0]'"
        )
    content: Any = message.get("content")
    if not thinks and isinstance(content, list) and content:
        raise Unacceptable(f"thinking content is not allowed when thinking is disabled: '{where}.content[0]'")


def _check_answers(asked: dict[str, bool], identity: Any, where: str) -> None:
    if not isinstance(identity, str) or identity not in asked:
        shown = msgspec.json.encode(identity).decode()
        raise Unacceptable(f"invalid request: tool call id {shown} not found in previous tool calls: '{where}'")
    if asked[identity]:
        raise Unacceptable(f"invalid request: duplicate tool call id \"{identity}\": '{where}'")
    asked[identity] = True


def _check_all_answered(asked: Mapping[str, bool], where: str) -> None:
    missing = [identity for identity, answered in asked.items() if not answered]
    if missing:
        raise Unacceptable(f"invalid request: missing tool results for tool call ids {', '.join(missing)}: '{where}'")


def _check_content(message: Mapping[str, Any], role: str, where: str) -> list[str]:
    """The texts of a message."""
    content = message.get("content")
    if content is None and role == "assistant":
        return []
    if isinstance(content, str):
        return [content]
    texts: list[str] = []
    for index, given in enumerate(_list(content, f"{where}.content")):
        place = f"{where}.content[{index}]"
        part = _object(given, place)
        kind = part.get("type")
        if not isinstance(kind, str) or kind not in _PARTS[role]:
            raise Unacceptable(f"invalid request: type {kind!r} is not valid for role {role!r}: '{place}'")
        held = part.get(kind)
        if kind == "image_url":
            url: Any = _object(held, f"{place}.image_url").get("url")
            if not isinstance(url, str) or not url.startswith(("http://", "https://", "data:image/")):
                raise Unacceptable(f"invalid request: invalid image url: '{place}'")
            texts.append(url)
        elif kind == "document":
            texts.append(msgspec.json.encode(_object(held, place)).decode())
        elif not isinstance(held, str):
            raise Unacceptable(f"invalid request: {kind} must be a string: '{place}'")
        elif kind == "text":
            texts.append(held)
    return texts


def _check_calls(message: Mapping[str, Any], where: str) -> dict[str, bool]:
    asked: dict[str, bool] = {}
    for index, given in enumerate(_list(message.get("tool_calls") or [], f"{where}.tool_calls")):
        place = f"{where}.tool_calls[{index}]"
        call = _object(given, place)
        identity = call.get("id")
        if not isinstance(identity, str) or not identity or identity in asked:
            raise Unacceptable(f"invalid request: tool call ids must be non-empty and unique: '{place}'")
        function = _object(call.get("function"), f"{place}.function")
        if call.get("type") != "function" or not isinstance(function.get("name"), str) or not function["name"]:
            raise Unacceptable(f"invalid request: a tool call must be a function with a name: '{place}'")
        try:
            arguments: Any = msgspec.json.decode(function.get("arguments") or "")
        except (msgspec.DecodeError, RecursionError, TypeError):
            arguments = None
        if not isinstance(arguments, dict):
            raise Unacceptable(f"invalid request: arguments must be a JSON object string: '{place}.function.arguments'")
        asked[identity] = False
    return asked


def _only(held: Mapping[str, Any], known: Collection[str], where: str) -> None:
    for key in held:
        if key not in known:
            raise Unacceptable(f"invalid request: unknown field: parameter '{where}{key}' is not a valid field.")


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Unacceptable(f"invalid type: parameter {where} is of type {type(value).__name__} but should be an object")
    return cast("dict[str, Any]", value)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise Unacceptable(f"invalid type: parameter {where} is of type {type(value).__name__} but should be an array")
    return cast("list[Any]", value)
