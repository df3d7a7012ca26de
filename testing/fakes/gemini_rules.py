"""What Gemini's generateContent refuses besides unknown fields, in its own words. Pure.

The rules follow the API reference (https://ai.google.dev/api/generate-content), the guides on function calling and on
thought signatures (https://ai.google.dev/gemini-api/docs/thought-signatures), and what the endpoint was seen to answer.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from .gemini_fields import DATA, Unacceptable, read

#: What may stand for a signature of a call that another model made.
MARKERS = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")
_SINCE_3 = re.compile(r"gemini-(?:[3-9]|[1-9]\d|[a-z-]*latest)")
_MODES = ("AUTO", "ANY", "NONE", "VALIDATED")
_LEVELS = ("MINIMAL", "LOW", "MEDIUM", "HIGH")
_encode = msgspec.json.Encoder(order="deterministic").encode


def check(given: Any, model: str) -> None:
    """Check a decoded request to `model`.

    Raises:
        Unacceptable: the endpoint would refuse it.
    """
    body = read(given)
    contents: list[dict[str, Any]] = body.get("contents", [])
    if not contents:
        raise _wrong("contents", "contents is not specified")
    for index, content in enumerate(contents):
        if content.get("role", "user") not in ("user", "model"):
            raise Unacceptable("Please use a valid role: user, model.")
        _check_parts(content, f"contents[{index}]")
    _check_order(contents)
    _check_signatures(contents, model)
    system = body.get("systemInstruction")
    if system is not None:
        _check_parts(system, "system_instruction")
        if any("text" not in part for part in system["parts"]):
            raise _wrong("system_instruction", "only text is supported in system_instruction")
    names = _check_tools(body)
    _check_choice(body, names)
    _check_config(body.get("generationConfig", {}), model, bool(names))


def signature(model: str, part: Mapping[str, Any]) -> str:
    """The signature of a part, by which any fake of this format knows it again, as any machine of Google does."""
    held = {key: value for key, value in part.items() if key != "thoughtSignature"}
    return base64.b64encode(hashlib.sha512(_encode(["fake", model, held])).digest()).decode()


def _wrong(path: str, words: str) -> Unacceptable:
    return Unacceptable(f"* GenerateContentRequest.{path}: {words}\n")


# The conversation.


def _check_parts(content: Mapping[str, Any], where: str) -> None:
    parts: list[dict[str, Any]] = content.get("parts", [])
    if not parts:
        raise _wrong(f"{where}.parts", "contents.parts must not be empty.")
    for index, part in enumerate(parts):
        place = f"{where}.parts[{index}]"
        held = [name for name in DATA if name in part]
        # Text that is empty counts as none, but for one that is there to carry a signature.
        if not held or (held == ["text"] and not part["text"] and "thoughtSignature" not in part):
            raise _wrong(f"{place}.data", "required oneof field 'data' must have one initialized field")
        if len(held) > 1:
            raise Unacceptable(
                f"Invalid value at '{place}' (oneof), oneof field 'data' is already set. Cannot set '{held[1]}'"
            )
        for kind in ("functionCall", "functionResponse"):
            if kind in part and not part[kind].get("name"):
                snake = "function_call" if kind == "functionCall" else "function_response"
                raise _wrong(f"{place}.{snake}.name", "Name cannot be empty.")
        for kind, field in (("inlineData", "mimeType"), ("fileData", "fileUri")):
            if kind in part and not part[kind].get(field):
                raise Unacceptable(f"Unable to process input: {place} has no {field}.")


def _calls(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [part["functionCall"] for part in content["parts"] if "functionCall" in part]


def _responses(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [part["functionResponse"] for part in content["parts"] if "functionResponse" in part]


def _check_order(contents: Sequence[Mapping[str, Any]]) -> None:
    open_calls: list[dict[str, Any]] = []
    for index, content in enumerate(contents):
        model = content.get("role") == "model"
        calls, responses = _calls(content), _responses(content)
        if (calls and not model) or (responses and model):
            raise Unacceptable("Please ensure that function calls are of role model and responses of role user.")
        if responses and not open_calls:
            raise Unacceptable(
                "Please ensure that function response turn comes immediately after a function call turn."
            )
        if len(responses) != len(open_calls):
            raise Unacceptable(
                "Please ensure that the number of function response parts is equal to the number of function call "
                "parts of the function call turn."
            )
        for call, response in zip(open_calls, responses, strict=True):
            if call["name"] != response["name"] or call.get("id") != response.get("id"):
                raise Unacceptable(
                    f"Please ensure that function responses match the function calls: {_shown(response)} does not "
                    f"answer {_shown(call)}."
                )
        if calls and (index == 0 or contents[index - 1].get("role") == "model"):
            raise Unacceptable(
                "Please ensure that function call turn comes immediately after a user turn or after a function "
                "response turn."
            )
        open_calls = calls
    if open_calls:
        raise Unacceptable(
            "Please ensure that the number of function response parts is equal to the number of function call parts "
            "of the function call turn."
        )


def _shown(held: Mapping[str, Any]) -> str:
    return f"`{held['name']}` (id {held.get('id')})"


def _check_signatures(contents: Sequence[Mapping[str, Any]], model: str) -> None:
    turn = 0
    for index, content in enumerate(contents):
        for part in content["parts"]:
            given = part.get("thoughtSignature")
            if given is None or (given in MARKERS and "functionCall" in part):
                continue
            if given != signature(model, part):
                raise Unacceptable("Corrupted thought signature.")
        if content.get("role") != "model" and not _responses(content):
            turn = index
    if not _SINCE_3.search(model):
        return
    for index, content in enumerate(contents[turn:], turn):
        first = next((part for part in content["parts"] if "functionCall" in part), None)
        if first is not None and "thoughtSignature" not in first:
            raise Unacceptable(
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to "
                "work correctly, and missing thought_signature may lead to degraded model performance. Additional "
                f"data, function call `default_api:{first['functionCall']['name']}` , position {index + 1}. Please "
                "refer to https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
            )


# Tools and settings.


def _check_tools(body: Mapping[str, Any]) -> list[str]:
    names: list[str] = []
    for index, tool in enumerate(body.get("tools", [])):
        for position, declaration in enumerate(tool.get("functionDeclarations", [])):
            place = f"tools[{index}].function_declarations[{position}]"
            name = declaration.get("name", "")
            if not _NAME.fullmatch(name):
                raise _wrong(
                    f"{place}.name",
                    "Invalid function name. Must start with a letter or an underscore. Must be alphanumeric (a-z, A-Z, "
                    "0-9), underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of 128.",
                )
            if name in names:
                raise Unacceptable(f"Duplicate function declaration found: {name}")
            names.append(name)
            if "parameters" in declaration and "parametersJsonSchema" in declaration:
                raise Unacceptable(f"{place}: parameters and parameters_json_schema must not both be set.")
            schema = declaration.get("parametersJsonSchema", {"type": "object"})
            if not isinstance(schema, dict) or cast("dict[str, Any]", schema).get("type") != "object":
                raise _wrong(f"{place}.parameters_json_schema", "must describe an object")
            _check_schema(cast("Any", schema), f"{place}.parameters_json_schema")
    return names


def _check_schema(schema: Any, where: str) -> None:
    if isinstance(schema, list):
        for item in cast("list[Any]", schema):
            _check_schema(item, where)
    if not isinstance(schema, dict):
        return
    node = cast("dict[str, Any]", schema)
    if "const" in node:
        raise _wrong(where, "const is not supported")
    if "$ref" in node and any(not key.startswith("$") for key in node):
        raise _wrong(where, "if $ref is set on a sub-schema, no other properties may be set")
    for key, value in node.items():
        if key in ("properties", "$defs") and isinstance(value, dict):
            for name, inner in cast("dict[str, Any]", value).items():
                _check_schema(inner, f"{where}.{key}[{name}]")
        elif key in ("items", "anyOf", "oneOf", "prefixItems", "additionalProperties"):
            _check_schema(value, f"{where}.{key}")


def _check_choice(body: Mapping[str, Any], names: Sequence[str]) -> None:
    config = body.get("toolConfig", {}).get("functionCallingConfig")
    if config is None:
        return
    mode, allowed = config.get("mode", "AUTO"), config.get("allowedFunctionNames", [])
    place = "tool_config.function_calling_config"
    if mode not in _MODES:
        raise Unacceptable(f"Invalid value at '{place}.mode' (type.googleapis.com/…Mode), \"{mode}\"")
    if not names:
        raise Unacceptable("Function calling config is set without function_declarations.")
    if allowed and mode not in ("ANY", "VALIDATED"):
        raise _wrong(f"{place}.allowed_function_names", "must only be set when the mode is ANY or VALIDATED")
    for name in allowed:
        if name not in names:
            raise _wrong(f"{place}.allowed_function_names", f"{name} is not among the function_declarations")


def _check_config(config: Mapping[str, Any], model: str, tools: bool) -> None:
    new = _SINCE_3.search(model) is not None
    for key, low, high in (("temperature", 0, 2), ("topP", 0, 1)):
        value = config.get(key, low)
        if not low <= value <= high:
            raise Unacceptable(
                f"Unable to submit request because it has a {key} value of {value} but the supported range is from "
                f"{low} (inclusive) to {high} (inclusive). Update the value and try again."
            )
    if config.get("maxOutputTokens", 1) < 1:
        raise _wrong("generation_config.max_output_tokens", "max_output_tokens must be positive.")
    if len(config.get("stopSequences", ())) > 5:
        raise _wrong("generation_config.stop_sequences", "the list must contain at most 5 elements.")
    kind = config.get("responseMimeType", "text/plain")
    if kind == "application/json" and tools and not new:
        raise Unacceptable(f"Function calling with a response mime type: '{kind}' is unsupported")
    if "responseSchema" in config and "responseJsonSchema" in config:
        raise Unacceptable("response_schema and response_json_schema must not both be set.")
    if "responseJsonSchema" in config:
        if kind != "application/json":
            raise _wrong("generation_config.response_json_schema", "only allowed with application/json")
        _check_schema(config["responseJsonSchema"], "generation_config.response_json_schema")
    thinking = config.get("thinkingConfig", {})
    if "thinkingLevel" in thinking and "thinkingBudget" in thinking:
        raise Unacceptable("You can only set only one of thinking budget and thinking level.")
    if "thinkingLevel" in thinking:
        if thinking["thinkingLevel"].upper() not in _LEVELS:
            raise Unacceptable(
                "Invalid value at 'generation_config.thinking_config.thinking_level' "
                f'(type.googleapis.com/…ThinkingLevel), "{thinking["thinkingLevel"]}"'
            )
        if not new and "gemini-" in model:
            raise Unacceptable("Thinking level is not supported for this model.")
