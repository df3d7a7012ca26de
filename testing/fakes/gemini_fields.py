"""The fields of a generateContent request, and how Google refuses one that is not among them. Pure.

Google's endpoints read JSON into protocol buffers: a name that no message has and a value of the wrong type are refused
before anything is looked at, with the path in the names of the protocol. Names may be given in either case.

Source: https://ai.google.dev/api/generate-content and the discovery document of ``v1beta``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec


class Unacceptable(Exception):
    """A request that the endpoint answers with an error."""

    def __init__(
        self, message: str, *, status: str = "INVALID_ARGUMENT", code: int = 400, details: list[Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.error: dict[str, Any] = {"code": code, "message": message, "status": status}
        if details:
            self.error["details"] = details


#: Anything of the JSON type that is named, or a message, or a list of one of them.
Field = Any

_BLOB: dict[str, Field] = {"mimeType": str, "data": str, "displayName": str}
_PART: dict[str, Field] = {
    "text": str,
    "thought": bool,
    "thoughtSignature": str,
    "inlineData": _BLOB,
    "fileData": {"mimeType": str, "fileUri": str, "displayName": str},
    "functionCall": {"id": str, "name": str, "args": dict},
    "functionResponse": {
        "id": str,
        "name": str,
        "response": dict,
        "parts": [{"inlineData": _BLOB}],
        "willContinue": bool,
        "scheduling": str,
    },
    "executableCode": {"id": str, "language": str, "code": str},
    "codeExecutionResult": {"id": str, "outcome": str, "output": str},
    "toolCall": {"id": str, "toolType": str, "args": dict},
    "toolResponse": {"id": str, "toolType": str, "response": dict},
    "videoMetadata": dict,
    "partMetadata": dict,
    "mediaResolution": dict,
}
#: The fields of a part of which it has exactly one.
DATA = (
    *("text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode", "codeExecutionResult"),
    *("toolCall", "toolResponse"),
)
_CONTENT: dict[str, Field] = {"role": str, "parts": [_PART]}
_REQUEST: dict[str, Field] = {
    "model": str,
    "contents": [_CONTENT],
    "systemInstruction": _CONTENT,
    "tools": [
        {
            "functionDeclarations": [
                {
                    "name": str,
                    "description": str,
                    "behavior": str,
                    "parameters": dict,
                    "parametersJsonSchema": object,
                    "response": dict,
                    "responseJsonSchema": object,
                }
            ],
            "googleSearch": dict,
            "googleSearchRetrieval": dict,
            "codeExecution": dict,
            "urlContext": dict,
            "fileSearch": dict,
            "googleMaps": dict,
            "computerUse": dict,
            "mcpServers": list,
        }
    ],
    "toolConfig": {
        "functionCallingConfig": {"mode": str, "allowedFunctionNames": [str]},
        "retrievalConfig": dict,
        "includeServerSideToolInvocations": bool,
    },
    "safetySettings": [{"category": str, "threshold": str}],
    "generationConfig": {
        "temperature": float,
        "topP": float,
        "topK": int,
        "candidateCount": int,
        "maxOutputTokens": int,
        "stopSequences": [str],
        "seed": int,
        "presencePenalty": float,
        "frequencyPenalty": float,
        "responseMimeType": str,
        "responseSchema": dict,
        "responseJsonSchema": object,
        "responseModalities": [str],
        "responseLogprobs": bool,
        "logprobs": int,
        "mediaResolution": str,
        "speechConfig": dict,
        "imageConfig": dict,
        "enableEnhancedCivicAnswers": bool,
        "thinkingConfig": {"includeThoughts": bool, "thinkingBudget": int, "thinkingLevel": str},
    },
    "cachedContent": str,
    "serviceTier": str,
    "store": bool,
}
_TYPES: dict[Any, str] = {str: "TYPE_STRING", bool: "TYPE_BOOL", int: "TYPE_INT32", float: "TYPE_FLOAT"}
_SNAKE = re.compile(r"(?<!^)(?=[A-Z])")
_CAMEL = re.compile(r"_([a-z])")


def read(body: Any) -> Any:
    """The request with its names in camel case.

    Raises:
        Unacceptable: a name that is no field, or a value of the wrong type.
    """
    return _read(body, _REQUEST, "")


def _read(value: Any, field: Field, path: str) -> Any:
    if isinstance(field, dict):
        return _message(value, cast("dict[str, Field]", field), path)
    if isinstance(field, list):
        items = cast("list[Any]", value) if isinstance(value, list) else [value]
        return [_read(item, field[0], f"{path}[{index}]") for index, item in enumerate(items)]
    if field is object:
        return value
    fits: bool
    if field in (int, float):
        fits = isinstance(value, (int, float) if field is float else int) and not isinstance(value, bool)
    else:
        fits = isinstance(value, field)
    if not fits:
        raise _invalid(value, path, _TYPES.get(field, "type.googleapis.com/google.protobuf.Struct"))
    return value


def _message(value: Any, fields: Mapping[str, Field], path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _invalid(value, path, "type.googleapis.com/google.ai.generativelanguage.v1beta")
    found: dict[str, Any] = {}
    for given, held in cast("dict[str, Any]", value).items():
        name = _CAMEL.sub(lambda found: found[1].upper(), given)
        if name not in fields:
            where = f" at '{path}'" if path else ""
            raise _violation(path, f'Invalid JSON payload received. Unknown name "{given}"{where}: Cannot find field.')
        if held is not None:
            snake = _SNAKE.sub("_", name).lower()
            found[name] = _read(held, fields[name], f"{path}.{snake}" if path else snake)
    return found


def _invalid(value: Any, path: str, kind: str) -> Unacceptable:
    return _violation(path, f"Invalid value at '{path}' ({kind}), {msgspec.json.encode(value).decode()}")


def _violation(path: str, words: str) -> Unacceptable:
    violation = {"field": path, "description": words} if path else {"description": words}
    return Unacceptable(
        words, details=[{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}]
    )
