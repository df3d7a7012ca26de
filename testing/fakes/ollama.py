"""Ollama's ``/api/chat`` as a strict fake. Pure.

The real server is written in Go and lenient: it passes over fields that it does not know and takes any history. What it
refuses is a value of another type than it decodes into (arguments of a call as text, content as a list of parts), and
the few values that it checks. It streams unless it is told not to.

Source: https://github.com/ollama/ollama/blob/main/api/types.go
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from ...providers import Ollama, Provider, ToolCall
from .format import Refused, Said

_encode = msgspec.json.Encoder().encode
_PIECE = 7
_KINDS: tuple[tuple[type, str], ...] = (
    *((dict, "object"), (list, "array"), (str, "string")),
    *((bool, "bool"), (int, "number"), (float, "number")),
)
_ROLES = ("system", "user", "assistant", "tool")
_DURATION = re.compile(r"-?(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+|0")
_OPTIONS: dict[str, tuple[str, tuple[type, ...]]] = {
    "temperature": ("float32", (int, float)),
    "top_p": ("float32", (int, float)),
    "num_predict": ("integer", (int,)),
    "num_ctx": ("integer", (int,)),
    "seed": ("integer", (int,)),
    "top_k": ("integer", (int,)),
}


class _Unacceptable(Exception):
    """A request that the server answers with an error."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class OllamaFormat:
    """Ollama's chat as the server on a developer's machine speaks it, which asks for no key."""

    stream_type = "application/x-ndjson"

    def provider(self, url: str, model: str) -> Provider:
        """An `Ollama` as it would talk to a server of the user's."""
        return Ollama(model, base_url=url)

    def refuse(self, target: str, headers: Mapping[str, str], body: Any) -> Refused | None:
        """Why Ollama would refuse the request, or None when it would not."""
        try:
            if target.partition("?")[0] != "/api/chat":
                raise _Unacceptable("404 page not found", 404)
            _check(body)
        except _Unacceptable as wrong:
            return Refused(wrong.status, {"error": str(wrong)})
        return None

    def wants_stream(self, target: str, body: Any) -> bool:
        """Whether a streamed answer is asked for: it is, unless it is refused."""
        return body.get("stream") is not False

    def answer(self, said: Said, body: Any) -> bytes:
        """A whole answer."""
        message: dict[str, Any] = {"role": "assistant", "content": said.text}
        if said.thinking and body.get("think") is not False:
            message["thinking"] = said.thinking
        if said.tool_calls:
            message["tool_calls"] = [_call(call) for call in said.tool_calls]
        return _encode(_line(body, message, said))

    def stream(self, said: Said, body: Any) -> list[bytes]:
        """A streamed answer, one line an item."""
        pieces: list[dict[str, Any]] = []
        if body.get("think") is not False:
            pieces += [{"content": "", "thinking": piece} for piece in _cut(said.thinking)]
        pieces += [{"content": piece} for piece in _cut(said.text)]
        pieces += [{"content": "", "tool_calls": [_call(call)]} for call in said.tool_calls]
        lines = [_line(body, {"role": "assistant", **piece}, None) for piece in pieces]
        lines.append(_line(body, {"role": "assistant", "content": ""}, said))
        return [_encode(line) + b"\n" for line in lines]


def _line(body: Any, message: dict[str, Any], said: Said | None) -> dict[str, Any]:
    """A line, the last one of an answer if `said` is given."""
    line: dict[str, Any] = {"model": body["model"], "created_at": "2026-01-01T00:00:00.000000Z", "message": message}
    if said is None:
        return {**line, "done": False}
    sent, made = said.usage
    times = {"total_duration": 3_000_000, "load_duration": 1_000_000, "prompt_eval_duration": 1_000_000}
    counts = {"prompt_eval_count": sent, "eval_count": made, "eval_duration": 1_000_000}
    return {**line, "done_reason": "stop", "done": True, **times, **counts}


def _call(call: ToolCall) -> dict[str, Any]:
    held: dict[str, Any] = {"id": call.id} if call.id is not None else {}
    return {**held, "function": {"name": call.name, "arguments": call.arguments or {}}}


def _cut(text: str) -> list[str]:
    return [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]


def _check(body: Mapping[str, Any]) -> None:
    model = _typed(body, "model", "ChatRequest.model", str)
    if not model:
        raise _Unacceptable("model is required")
    _typed(body, "stream", "ChatRequest.stream", bool)
    form = body.get("format")
    if form is not None and form not in ("", "json") and not isinstance(form, dict):
        shown = _encode(form).decode()
        raise _Unacceptable(f'invalid format: {shown}; expected "json" or a valid JSON Schema object')
    think = body.get("think")
    if think is not None and not isinstance(think, bool) and think not in ("high", "medium", "low"):
        raise _Unacceptable(
            f'invalid think value: {_encode(think).decode()} (must be "high", "medium", "low", true, or false)'
        )
    keep: Any = body.get("keep_alive")
    if isinstance(keep, str) and not _DURATION.fullmatch(keep):
        raise _Unacceptable(f'time: invalid duration "{keep}"')
    if isinstance(keep, bool) or not isinstance(keep, (str, int, float, type(None))):
        raise _Unacceptable(f"Unsupported type: '{_encode(keep).decode()}'")
    _check_options(_fields(body, "options", "ChatRequest.options"))
    for tool in _typed(body, "tools", "ChatRequest.tools", list) or ():
        _check_tool(tool)
    for message in _typed(body, "messages", "ChatRequest.messages", list) or ():
        _check_message(message)


def _check_options(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        kind, types = _OPTIONS.get(name, ("", (object,)))
        if not isinstance(value, types) or (kind and isinstance(value, bool)):
            raise _Unacceptable(f'option "{name}" must be of type {kind}')
        if name == "stop":
            stops = cast("list[Any]", value) if isinstance(value, list) else [None]
            if not all(isinstance(stop, str) for stop in stops):
                raise _Unacceptable('option "stop" must be of an array of strings')


def _check_tool(given: Any) -> None:
    tool = _object(given, "Tool")
    _typed(tool, "type", "Tool.type", str)
    function = _fields(tool, "function", "Tool.function")
    for key in ("name", "description"):
        _typed(function, key, f"ToolFunction.function.{key}", str)
    parameters = _fields(function, "parameters", "ToolFunction.function.parameters")
    _typed(parameters, "properties", "ToolFunctionParameters.properties", dict)
    _typed(parameters, "required", "ToolFunctionParameters.required", list)


def _check_message(given: Any) -> None:
    message = _object(given, "Message")
    role = _typed(message, "role", "Message.messages.role", str)
    if role not in _ROLES:
        raise _Unacceptable(f'invalid role: "{role or ""}", must be one of {list(_ROLES)}')
    for key in ("content", "thinking", "tool_name", "tool_call_id"):
        _typed(message, key, f"Message.messages.{key}", str)
    for image in _typed(message, "images", "Message.messages.images", list) or ():
        try:
            base64.b64decode(image, validate=True)
        except (binascii.Error, ValueError, TypeError):
            raise _Unacceptable("illegal base64 data at input byte 0") from None
    for each in _typed(message, "tool_calls", "Message.messages.tool_calls", list) or ():
        call = _object(each, "ToolCall")
        function = _fields(call, "function", "ToolCall.messages.tool_calls.function")
        _typed(function, "name", "ToolCallFunction.messages.tool_calls.function.name", str)
        _typed(function, "arguments", "ToolCallFunction.messages.tool_calls.function.arguments", dict)


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(value, f"api.{name}")
    return cast("dict[str, Any]", value)


def _fields(held: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    return _typed(held, key, where, dict) or {}


def _typed(held: Mapping[str, Any], key: str, where: str, kind: type) -> Any:
    """The value of a key, which is of this kind or absent: nothing and null are its zero."""
    value = held.get(key)
    if value is not None and not isinstance(value, kind):
        raise _wrong(value, where)
    return value


def _wrong(value: Any, where: str) -> _Unacceptable:
    kind = next((word for each, word in _KINDS if isinstance(value, each)), "null")
    return _Unacceptable(f"json: cannot unmarshal {kind} into Go struct field {where}")
