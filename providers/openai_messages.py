"""OpenAI-style message dictionaries to our messages and back.

This is the shape that most programs already hold their conversations in, so it is read wherever messages are taken and
written by `message_to_openai`. Reading is strict about what would be lost: an unknown role or part is an error
that names the key. Argument text that is not a JSON object is kept as `raw` with `arguments=None`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard, cast

import msgspec

from .messages import (
    Document,
    Image,
    Message,
    Part,
    Refusal,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    kind_of,
    plain_text,
)

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_json = msgspec.json.Decoder()

#: What decoding JSON from elsewhere can raise: not JSON, nested too deeply, or not UTF-8.
UNDECODABLE = (msgspec.DecodeError, RecursionError, UnicodeError)


def parse_arguments(raw: str) -> dict[str, Any] | None:
    """The argument text of a tool call as a dictionary, or None when it is not a JSON object.

    Empty text is the empty object: servers send it for a tool without parameters.
    """
    if not raw or raw.isspace():
        return {}
    try:
        value = _json.decode(raw)
    except UNDECODABLE:
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def message_from_openai(message: Mapping[str, Any]) -> Message:
    """Read one OpenAI-style message.

    Raises:
        TypeError: a key holds a value of the wrong type.
        ValueError: a key is missing or holds a value that has no meaning here.
    """
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise ValueError(f"message key 'role' must be one of {', '.join(_ROLES)}, not {role!r}")
    ours = _ROLES[role]
    if ours == "tool":
        return Message("tool", (_tool_result(message, role),))
    parts: list[Part] = []
    if ours == "assistant":
        for key in ("reasoning_content", "reasoning"):
            thought = message.get(key)
            if isinstance(thought, str) and thought:
                parts.append(Thinking(plain_text(thought, f"message key {key!r}")))
                break
    parts += content_parts(message.get("content"), optional=ours == "assistant")
    if ours == "assistant":
        refusal = _optional_str(message, "refusal")
        if refusal:
            parts.append(Refusal(refusal))
        parts += _tool_calls(message)
    return Message(ours, tuple(parts))


def content_parts(content: Any, *, optional: bool = False) -> list[Part]:
    """Read the value of a ``content`` key: text, a list of parts, or (where `optional`) nothing."""
    if isinstance(content, str):
        return [Text(plain_text(content, "message key 'content'"))] if content or not optional else []
    if content is None and optional:
        return []
    if not _is_list(content):
        raise TypeError(f"message key 'content' must be a string or a list of parts, not {kind_of(content)}")
    return [_part(item) for item in content]


def _part(item: Any) -> Part:
    if isinstance(item, str):
        return Text(plain_text(item, "message key 'content'"))
    if not _is_mapping(item):
        raise TypeError(f"message key 'content' holds {kind_of(item)} where a part is expected")
    kind = item.get("type")
    match kind:
        case "text" | "input_text" | "output_text":
            return Text(_required_str(item, "text"))
        case "refusal":
            return Refusal(_required_str(item, "refusal"))
        case "thinking" | "reasoning":
            return Thinking(_thought(item))
        case "image_url" | "input_image":
            return _image(item)
        case "file" | "input_file":
            return _document(item)
        case _:
            raise ValueError(f"message key 'content' holds a part of unknown type {kind!r}")


def _thought(item: Mapping[str, Any]) -> str:
    value = item.get("thinking", item.get("text"))
    if isinstance(value, str):
        return plain_text(value, "part key 'thinking'")
    if _is_list(value):
        return "".join(str(piece.get("text", "")) for piece in value if _is_mapping(piece))
    raise TypeError(f"part key 'thinking' must be a string or a list, not {kind_of(value)}")


def _image(item: Mapping[str, Any]) -> Image:
    value: Any = item.get("image_url")
    detail: Any = item.get("detail")
    if _is_mapping(value):
        detail = value.get("detail", detail)
        value = value.get("url")
    if not isinstance(value, str):
        raise TypeError(f"part key 'image_url' must be a string or hold 'url', not {kind_of(value)}")
    if detail not in (None, "auto", "low", "high"):
        raise ValueError(f"part key 'detail' must be auto, low or high, not {detail!r}")
    if value.startswith("data:"):
        media_type, data = _data_url(value, "image_url")
        return Image(data=data, media_type=media_type, detail=detail)
    return Image(url=plain_text(value, "part key 'image_url'"), detail=detail)


def _document(item: Mapping[str, Any]) -> Document:
    file: Any = item.get("file", item)
    if not _is_mapping(file):
        raise TypeError(f"part key 'file' must be a dictionary, not {kind_of(file)}")
    source = file.get("file_data", file.get("file_url"))
    if not isinstance(source, str):
        raise ValueError("part key 'file' needs 'file_data' (uploaded file ids belong to one account only)")
    name = _optional_str(file, "filename")
    if source.startswith("data:"):
        media_type, data = _data_url(source, "file_data")
        return Document(data=data, media_type=media_type, name=name)
    return Document(url=source, name=name)


def _data_url(url: str, key: str) -> tuple[str, bytes]:
    head, comma, payload = url[5:].partition(",")
    if not comma or not head.endswith(";base64"):
        raise ValueError(f"part key {key!r} must be a base64 data URL, like data:image/png;base64,…")
    try:
        return head.removesuffix(";base64"), base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"part key {key!r} does not hold valid base64") from None


def _tool_calls(message: Mapping[str, Any]) -> list[ToolCall]:
    calls: list[ToolCall] = []
    listed: Any = message.get("tool_calls") or []
    if not _is_list(listed):
        raise TypeError(f"message key 'tool_calls' must be a list, not {kind_of(listed)}")
    for item in listed:
        if not _is_mapping(item):
            raise TypeError(f"message key 'tool_calls' holds {kind_of(item)} where a dictionary is expected")
        function: Any = item.get("function")
        if not _is_mapping(function):
            raise TypeError(f"tool call key 'function' must be a dictionary, not {kind_of(function)}")
        calls.append(_call(_optional_str(item, "id"), function))
    legacy: Any = message.get("function_call")
    if _is_mapping(legacy) and not calls:
        calls.append(_call(None, legacy))
    return calls


def _call(identity: str | None, function: Mapping[str, Any]) -> ToolCall:
    arguments: Any = function.get("arguments", "")
    text = isinstance(arguments, str)
    raw = plain_text(arguments, "tool call key 'arguments'") if text else msgspec.json.encode(arguments).decode()
    return ToolCall(identity, _required_str(function, "name"), parse_arguments(raw), raw)


def _tool_result(message: Mapping[str, Any], role: str) -> ToolResult:
    content = message.get("content")
    text = (
        plain_text(content, "message key 'content'")
        if isinstance(content, str)
        else Message("tool", tuple(content_parts(content))).text
    )
    if role == "function":
        name = _required_str(message, "name")
        return ToolResult(name, text, name)
    return ToolResult(_required_str(message, "tool_call_id"), text, _optional_str(message, "name"))


def message_to_openai(message: Message, *, thinking_key: str | None = None) -> list[dict[str, Any]]:
    """Write a message in OpenAI's style: one dictionary, or one per result of a message of role ``tool``.

    Args:
        message: the message.
        thinking_key: the key under which this server takes visible reasoning back (``reasoning_content``); None
            leaves the reasoning out.
    """
    if message.role == "tool":
        return [
            {"role": "tool", "tool_call_id": result.call_id, "content": result.content}
            for result in message.tool_results
        ]
    if message.role == "system":
        return [{"role": "system", "content": message.text}]
    if message.role == "user":
        return [{"role": "user", "content": _content(message.parts)}]
    written: dict[str, Any] = {"role": "assistant", "content": message.text or None}
    calls = message.tool_calls
    if calls:
        written["tool_calls"] = [
            {
                "id": call.id if call.id is not None else f"call_{index}",
                "type": "function",
                "function": {"name": call.name, "arguments": call_text(call)},
            }
            for index, call in enumerate(calls)
        ]
    refusal = message.refusal
    if refusal is not None:
        written["refusal"] = refusal
    elif not calls and written["content"] is None:
        written["content"] = ""
    if thinking_key is not None and message.thinking is not None:
        written[thinking_key] = message.thinking
    return [written]


def call_text(call: ToolCall) -> str:
    """The argument text of a call as it goes back to a model.

    Servers parse it, so text that is not a JSON object is sent as a JSON string inside an object.
    """
    if call.arguments is None:
        return msgspec.json.encode({"invalid_arguments": call.raw}).decode()
    return call.raw if call.raw and not call.raw.isspace() else msgspec.json.encode(call.arguments).decode()


def _content(parts: tuple[Part, ...]) -> str | list[dict[str, Any]]:
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    if not parts:
        return ""  # an empty list is refused
    written: list[dict[str, Any]] = []
    for part in parts:
        match part:
            case Text():
                written.append({"type": "text", "text": part.text})
            case Image():
                url: dict[str, Any] = {"url": _source(part)}
                if part.detail is not None:
                    url["detail"] = part.detail
                written.append({"type": "image_url", "image_url": url})
            case Document():
                file: dict[str, Any] = {"file_data": _source(part), "filename": part.name or "document"}
                written.append({"type": "file", "file": file})
            case _:
                raise ValueError(f"a user message cannot hold a part of type {type(part).__name__}")
    return written


def _source(part: Image | Document) -> str:
    if part.url is not None:
        return part.url
    payload = base64.b64encode(part.data or b"").decode()
    return f"data:{part.media_type or 'application/octet-stream'};base64,{payload}"


def _is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, (list, tuple))


def _required_str(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    if value is None:
        raise ValueError(f"key {key!r} is missing")
    return plain_text(value, f"key {key!r}")


def _optional_str(item: Mapping[str, Any], key: str) -> str | None:
    value = item.get(key)
    return None if value is None else plain_text(value, f"key {key!r}")
