"""What OpenAI's Responses endpoint refuses, in its own words. Pure.

A rule raises `Unacceptable` with the message, the parameter and the code of OpenAI's error object. The rules follow the
API reference (https://platform.openai.com/docs/api-reference/responses/create) and what the endpoint was seen to
answer.
The fake stores nothing: it holds every request to the rules of ``store: false``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from .openai_responses_items import check_items
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
    wrong_type,
)

# fmt: off
_PARAMETERS = frozenset(
    (
        "background", "context_management", "conversation", "include", "input", "instructions", "max_output_tokens",
        "max_tool_calls", "metadata", "model", "parallel_tool_calls", "previous_response_id", "prompt",
        "prompt_cache_key", "prompt_cache_retention", "reasoning", "safety_identifier", "service_tier", "store",
        "stream", "stream_options", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p",
        "truncation", "user",
    )
)
_INCLUDABLE = (
    "file_search_call.results", "web_search_call.results", "web_search_call.action.sources",
    "message.input_image.image_url", "computer_call_output.output.image_url", "code_interpreter_call.outputs",
    "reasoning.encrypted_content", "message.output_text.logprobs",
)
# fmt: on
_TOOLS = (
    *("function", "custom", "file_search", "web_search", "web_search_preview", "computer_use_preview", "mcp"),
    *("code_interpreter", "image_generation", "local_shell", "shell", "apply_patch"),
)
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
_WITHOUT_REASONING = re.compile(r"gpt-3\.5|gpt-4|chatgpt-|gpt-5-chat")
_MIN_TOKENS = 16


def reasons(model: Any) -> bool:
    """Whether a model of this name reasons; one that is not OpenAI's does."""
    return isinstance(model, str) and _WITHOUT_REASONING.match(model) is None


def check(body: Mapping[str, Any]) -> None:
    """Check a decoded request.

    Raises:
        Unacceptable: the endpoint would refuse it.
    """
    for key in body:
        if key not in _PARAMETERS:
            raise Unacceptable(f"Unknown parameter: '{key}'.", key, "unknown_parameter")
    if "model" not in body:
        raise Unacceptable("Missing required parameter: 'model'.", "model", "missing_required_parameter")
    string(body["model"], "model")
    for key in ("store", "stream", "parallel_tool_calls", "background"):
        if not isinstance(body.get(key, False), (bool, type(None))):
            raise wrong_type(key, "a boolean", body[key])
    if body.get("instructions") is not None:
        string(body["instructions"], "instructions")
    previous = body.get("previous_response_id")
    if previous is not None:
        raise Unacceptable(
            f"Previous response with id '{previous}' not found.", "previous_response_id", "previous_response_not_found"
        )
    _check_sampling(body)
    _check_include(body)
    _check_reasoning(body)
    _check_tools(body)
    if body.get("text") is not None:
        _check_text(mapping(body["text"], "text"))
    if body.get("input") is None:
        raise Unacceptable("Missing required parameter: 'input'.", "input", "missing_required_parameter")
    if not isinstance(body["input"], str):
        check_items(array(body, "input", "input"), reasons=reasons(body["model"]))


def _check_sampling(body: Mapping[str, Any]) -> None:
    for key, high in (("temperature", 2), ("top_p", 1)):
        value = body.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise wrong_type(key, "a decimal", value)
        if reasons(body["model"]) and value != 1:
            raise Unacceptable(f"Unsupported parameter: '{key}' is not supported with this model.", key)
        if not 0 <= value <= high:
            words, sign, bound = ("below min", ">=", 0) if value < 0 else ("above max", "<=", high)
            raise Unacceptable(
                f"Invalid '{key}': decimal {words}imum value. Expected a value {sign} {bound}, but got {value}.",
                key,
                f"decimal_{words.replace(' ', '_')}_value",
            )
    value = body.get("max_output_tokens")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise wrong_type("max_output_tokens", "an integer", value)
    if isinstance(value, int) and value < _MIN_TOKENS:
        raise Unacceptable(
            f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= {_MIN_TOKENS}, but got "
            f"{value} instead.",
            "max_output_tokens",
            "integer_below_min_value",
        )


def _check_include(body: Mapping[str, Any]) -> None:
    include = body.get("include")
    if include is None:
        return
    if not isinstance(include, list):
        raise wrong_type("include", "an array", include)
    for index, wanted in enumerate(cast("list[Any]", include)):
        known = one_of(f"include[{index}]", wanted, _INCLUDABLE)
        if known == "reasoning.encrypted_content" and not reasons(body["model"]):
            raise Unacceptable("Encrypted content is not supported with this model.", "include")


def _check_reasoning(body: Mapping[str, Any]) -> None:
    given = body.get("reasoning")
    if given is None:
        return
    reasoning = mapping(given, "reasoning")
    only(reasoning, {"effort", "summary", "generate_summary", "context", "mode"}, "reasoning")
    for key, known in (("effort", _EFFORTS), ("summary", ("auto", "concise", "detailed"))):
        value = reasoning.get(key)
        if value is None:
            continue
        if not reasons(body["model"]):
            raise Unacceptable(
                f"Unsupported parameter: 'reasoning.{key}' is not supported with this model.",
                f"reasoning.{key}",
                "unsupported_parameter",
            )
        one_of(f"reasoning.{key}", value, known)


def _check_tools(body: Mapping[str, Any]) -> None:
    names: list[Any] = []
    tools = body.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise wrong_type("tools", "an array of objects", tools)
    for index, given in enumerate(cast("list[Any]", tools or [])):
        where = f"tools[{index}]"
        tool = mapping(given, where)
        kind = one_of(f"{where}.type", required(tool, "type", where), _TOOLS)
        names.append(tool.get("name") if kind in ("function", "custom") else kind)
        if kind == "function":
            only(tool, {"type", "name", "description", "parameters", "strict"}, where)
            function_name(tool, where)
            _check_parameters(tool, where)
    choice = body.get("tool_choice")
    if choice is None:
        return
    if not isinstance(choice, dict):
        one_of("tool_choice", choice, ("none", "auto", "required"))
        named = choice == "none" or not (tools == [] or tools is None)
    else:
        held = cast("Mapping[str, Any]", choice)
        kind = string(required(held, "type", "tool_choice"), "tool_choice.type")
        named = (held.get("name") if kind in ("function", "custom") else kind) in names or kind == "allowed_tools"
    if not named:
        shown = choice if isinstance(choice, str) else cast("Any", choice)["type"]
        raise Unacceptable(f"Tool choice '{shown}' not found in 'tools' parameter.", "tool_choice")


def _check_parameters(tool: Mapping[str, Any], where: str) -> None:
    what, param, code = f"function '{tool['name']}'", f"{where}.parameters", "invalid_function_parameters"
    if tool.get("parameters") is None:
        required(tool, "parameters", where)
        return
    schema = mapping(tool["parameters"], param)
    if schema.get("type") != "object":
        raise Unacceptable(
            f"Invalid schema for {what}: schema must be a JSON Schema of 'type: \"object\"', got 'type: "
            f'"{schema.get("type")}"\'.',
            param,
            code,
        )
    if "properties" not in schema:
        raise Unacceptable(f"Invalid schema for {what}: In context=(), object schema missing properties.", param, code)
    if tool.get("strict") is True:
        check_strict(schema, what, param, code, ())


def _check_text(text: Mapping[str, Any]) -> None:
    only(text, {"format", "verbosity"}, "text")
    if text.get("format") is None:
        return
    held = mapping(text["format"], "text.format")
    kind = one_of("text.format.type", required(held, "type", "text.format"), ("json_object", "json_schema", "text"))
    if kind != "json_schema":
        return
    only(held, {"type", "name", "description", "schema", "strict"}, "text.format")
    name = function_name(held, "text.format")
    schema = mapping(required(held, "schema", "text.format"), "text.format.schema")
    what = f"response_format '{name}'"
    if schema.get("type") != "object":
        raise Unacceptable(
            f"Invalid schema for {what}: schema must be a JSON Schema of 'type: \"object\"', got 'type: "
            f'"{schema.get("type")}"\'.',
            "text.format.schema",
            "invalid_json_schema",
        )
    if held.get("strict") is True:
        check_strict(schema, what, "text.format.schema", "invalid_json_schema", ())
