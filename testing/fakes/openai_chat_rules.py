"""What OpenAI's Chat Completions endpoint refuses, in its own words. Pure.

A rule raises `Unacceptable` with the message, the parameter and the code of OpenAI's error object. The rules follow the
API reference (https://platform.openai.com/docs/api-reference/chat/create) and what the endpoint was seen to answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from .openai_values import (
    Unacceptable,
    array,
    check_strict,
    function_name,
    mapping,
    one_of,
    only,
    required,
    string,
    too_long,
    wrong_type,
)

# fmt: off
_PARAMETERS = frozenset(
    (
        "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs",
        "max_completion_tokens", "max_tokens", "messages", "metadata", "modalities", "model", "moderation", "n",
        "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_retention",
        "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "store",
        "stream", "stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user",
        "verbosity", "web_search_options",
    )
)
# fmt: on
_KEYS = {
    "system": {"role", "content", "name"},
    "developer": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {"role", "content", "name", "refusal", "tool_calls", "function_call", "audio", "annotations"},
    "tool": {"role", "content", "tool_call_id"},
    "function": {"role", "content", "name"},
}
_PARTS = {
    "system": ("text",),
    "developer": ("text",),
    "user": ("text", "image_url", "input_audio", "file"),
    "assistant": ("text", "refusal"),
    "tool": ("text",),
}
_INSTEAD_OF_CONTENT = ("tool_calls", "function_call", "refusal")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
_REASONING = re.compile(r"(o[1-9]|gpt-([5-9]|\d\d))(?!.*chat)")
_MAX_ID = 40
_PDF = "data:application/pdf;base64,"


def check(body: Mapping[str, Any]) -> None:
    """Check a decoded request.

    Raises:
        Unacceptable: the endpoint would refuse it.
    """
    for key in body:
        if key not in _PARAMETERS:
            raise Unacceptable(f"Unknown parameter: '{key}'.", key, "unknown_parameter")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise Unacceptable("you must provide a model parameter")
    _check_sampling(body, model)
    _check_tools(body)
    if "stream_options" in body and body.get("stream") is not True:
        raise Unacceptable("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    if body.get("response_format") is not None:
        _check_response_format(body["response_format"], body.get("messages"))
    _check_messages(array(body, "messages", "messages"))


# Settings.


def _check_sampling(body: Mapping[str, Any], model: str) -> None:
    reasons = _REASONING.match(model) is not None
    if reasons and body.get("max_tokens") is not None:
        raise Unacceptable(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
            "instead.",
            "max_tokens",
            "unsupported_parameter",
        )
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        raise Unacceptable("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.")
    for key, low, high in (("temperature", 0, 2), ("top_p", 0, 1)):
        value = body.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise wrong_type(key, "a decimal", value)
        if reasons and value != 1:
            raise Unacceptable(
                f"Unsupported value: '{key}' does not support {value} with this model. Only the default (1) value is "
                "supported.",
                key,
                "unsupported_value",
            )
        if not low <= value <= high:
            words, sign, bound = ("below min", ">=", low) if value < low else ("above max", "<=", high)
            raise Unacceptable(
                f"Invalid '{key}': decimal {words}imum value. Expected a value {sign} {bound}, but got {value}.",
                key,
                f"decimal_{words.replace(' ', '_')}_value",
            )
    for key in ("max_tokens", "max_completion_tokens"):
        value = body.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise wrong_type(key, "an integer", value)
        if isinstance(value, int) and value < 1:
            raise Unacceptable(
                f"Invalid '{key}': integer below minimum value. Expected a value >= 1, but got {value} instead.",
                key,
                "integer_below_min_value",
            )
    effort = body.get("reasoning_effort")
    if effort is not None:
        if not reasons:
            raise Unacceptable("Unrecognized request argument supplied: reasoning_effort")
        one_of("reasoning_effort", effort, _EFFORTS)
    stop = body.get("stop")
    if isinstance(stop, list) and not 1 <= len(cast("list[Any]", stop)) <= 4:
        raise Unacceptable(
            "Invalid 'stop': array of the wrong length. Expected an array with 1 to 4 items.", "stop", "invalid_array"
        )
    if stop is not None and not isinstance(stop, (str, list)):
        raise wrong_type("stop", "a string or an array of strings", stop)


def _check_tools(body: Mapping[str, Any]) -> None:
    if "tools" not in body:
        for key in ("tool_choice", "parallel_tool_calls"):
            if body.get(key) not in (None, "none"):
                raise Unacceptable(
                    f"Invalid value for '{key}': '{key}' is only allowed when 'tools' are specified.", key
                )
        return
    names: list[str] = []
    for index, tool in enumerate(array(body, "tools", "tools")):
        where = f"tools[{index}]"
        held = mapping(tool, where)
        one_of(f"{where}.type", required(held, "type", where), ("function", "custom"))
        function = mapping(required(held, "function", where), f"{where}.function")
        only(function, {"name", "description", "parameters", "strict"}, f"{where}.function")
        names.append(function_name(function, f"{where}.function"))
        _check_parameters(function, names[-1], where)
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping):
        named = cast("Mapping[str, Any]", choice)
        function = mapping(required(named, "function", "tool_choice"), "tool_choice.function")
        if function.get("name") not in names:
            raise Unacceptable(
                f"Invalid value for 'tool_choice': no function named '{function.get('name')}' was specified in the "
                "'tools' parameter.",
                "tool_choice",
            )
    elif choice is not None:
        one_of("tool_choice", choice, ("none", "auto", "required"))


def _check_parameters(function: Mapping[str, Any], name: str, where: str) -> None:
    param = f"{where}.function.parameters"
    schema = function.get("parameters")
    if schema is None:
        return
    kind = schema.get("type") if isinstance(schema, Mapping) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if kind != "object":
        raise Unacceptable(
            f"Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"', got 'type: "
            f'"{kind}"\'.',
            param,
            "invalid_function_parameters",
        )
    if "properties" not in schema:
        words = f"Invalid schema for function '{name}': In context=(), object schema missing properties."
        raise Unacceptable(words, param, "invalid_function_parameters")
    if function.get("strict") is True:
        check_strict(schema, f"function '{name}'", param, "invalid_function_parameters", ())


def _check_response_format(given: Any, messages: Any) -> None:
    held = mapping(given, "response_format")
    kind = one_of("response_format.type", required(held, "type", "response_format"), _FORMATS)
    if kind == "json_object" and "json" not in str(messages).lower():
        raise Unacceptable(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
            "messages",
        )
    if kind != "json_schema":
        return
    wrapped = mapping(required(held, "json_schema", "response_format"), "response_format.json_schema")
    only(wrapped, {"name", "description", "schema", "strict"}, "response_format.json_schema")
    name = function_name(wrapped, "response_format.json_schema")
    if wrapped.get("strict") is True:
        schema = wrapped.get("schema")
        if not isinstance(schema, dict) or cast("dict[str, Any]", schema).get("type") != "object":
            raise Unacceptable(
                f"Invalid schema for response_format '{name}': schema must be a JSON Schema of 'type: \"object\"'.",
                "response_format",
            )
        check_strict(cast("Any", schema), f"response_format '{name}'", "response_format", None, ())


_FORMATS = ("json_object", "json_schema", "text")


# Messages.


def _check_messages(messages: Sequence[Any]) -> None:
    expected: dict[str, bool] = {}  # the calls of the message before: whether each was answered
    asked_at = 0
    for index, given in enumerate(messages):
        where = f"messages[{index}]"
        message = mapping(given, where)
        role = one_of(f"{where}.role", required(message, "role", where), tuple(_KEYS))
        only(message, _KEYS[role], where)
        if role == "tool":
            identity = string(required(message, "tool_call_id", where), f"{where}.tool_call_id")
            _check_answers(expected, identity, index)
        else:
            _check_all_answered(expected, asked_at)
            expected = {}
        _check_content(message, role, where, index)
        if role == "assistant" and "tool_calls" in message:
            expected = _check_calls(message, where)
            asked_at = index
    _check_all_answered(expected, asked_at)


def _check_answers(expected: dict[str, bool], identity: str, index: int) -> None:
    if not expected:
        raise Unacceptable(
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
            "'tool_calls'.",
            f"messages.[{index}].role",
        )
    if identity not in expected:
        raise Unacceptable(
            f"Invalid parameter: 'tool_call_id' of '{identity}' not found in 'tool_calls' of previous message.",
            f"messages.[{index}].tool_call_id",
        )
    if expected[identity]:
        raise Unacceptable(
            f"Invalid parameter: duplicate tool message for 'tool_call_id' of '{identity}'.",
            f"messages.[{index}].tool_call_id",
        )
    expected[identity] = True


def _check_all_answered(expected: Mapping[str, bool], asked_at: int) -> None:
    missing = [identity for identity, answered in expected.items() if not answered]
    if missing:
        raise Unacceptable(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(missing)}",
            f"messages.[{asked_at}].role",
        )


def _check_content(message: Mapping[str, Any], role: str, where: str, index: int) -> None:
    content = message.get("content")
    if content is None:
        if role == "assistant" and any(
            message.get(key) is not None for key in ("tool_calls", "function_call", "refusal")
        ):
            return
        raise Unacceptable("Invalid value for 'content': expected a string, got null.", f"messages.[{index}].content")
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise wrong_type(f"{where}.content", "one of a string or array of objects", content)
    for position, given in enumerate(array(message, "content", f"{where}.content")):
        place = f"{where}.content[{position}]"
        part = mapping(given, place)
        kind = one_of(f"{place}.type", required(part, "type", place), _PARTS.get(role, ("text",)))
        held = required(part, kind, place)
        if kind in ("text", "refusal"):
            string(held, f"{place}.{kind}")
        elif kind == "image_url":
            image = mapping(held, f"{place}.image_url")
            url = string(required(image, "url", f"{place}.image_url"), f"{place}.image_url.url")
            if not url.startswith(("http://", "https://", "data:image/")):
                raise Unacceptable(
                    f"Invalid '{place}.image_url.url'. Expected a valid URL, but got a value with an invalid format.",
                    f"{place}.image_url.url",
                    "invalid_value",
                )
        elif kind == "file":
            file = mapping(held, f"{place}.file")
            only(file, {"file_data", "file_id", "filename"}, f"{place}.file")
            if not file.get("file_data", _PDF).startswith(_PDF):
                raise Unacceptable(
                    f"Invalid '{place}.file.file_data'. Expected a base64-encoded data URL with an application/pdf "
                    "MIME type.",
                    f"{place}.file.file_data",
                    "invalid_value",
                )


def _check_calls(message: Mapping[str, Any], where: str) -> dict[str, bool]:
    expected: dict[str, bool] = {}
    for position, given in enumerate(array(message, "tool_calls", f"{where}.tool_calls")):
        place = f"{where}.tool_calls[{position}]"
        call = mapping(given, place)
        identity = string(required(call, "id", place), f"{place}.id")
        if len(identity) > _MAX_ID:
            raise too_long(f"{place}.id", _MAX_ID, identity)
        if identity in expected or not identity:
            raise Unacceptable(
                f"Invalid '{place}.id': '{identity}' is empty or the id of another call of the message.",
                f"{place}.id",
                "invalid_value",
            )
        one_of(f"{place}.type", required(call, "type", place), ("function", "custom"))
        function = mapping(required(call, "function", place), f"{place}.function")
        function_name(function, f"{place}.function")
        string(required(function, "arguments", f"{place}.function"), f"{place}.function.arguments")
        expected[identity] = False
    return expected
