"""What Anthropic's Messages API refuses in a request besides its conversation, in its own words. Pure.

Source: https://platform.claude.com/docs/en/api/messages/create, and the pages on thinking, effort, structured outputs
and tools; the words are those of the endpoint's errors as people have quoted them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from ...providers.dialects.anthropic_models import Abilities, abilities
from .anthropic_history import Minted, Rules, check_messages
from .anthropic_values import (
    Unacceptable,
    array,
    flag,
    fraction,
    mapping,
    matching,
    one_of,
    only,
    required,
    string,
    tag,
    whole,
)

_FIELDS = (
    *("model", "max_tokens", "messages", "system", "stream", "temperature", "top_p", "top_k", "stop_sequences"),
    *("tools", "tool_choice", "thinking", "output_config", "metadata", "service_tier", "container", "cache_control"),
    "inference_geo",
)
_TOOL_FIELDS = ("type", "name", "description", "input_schema", "strict", "cache_control", "input_examples")
_BOUNDS = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength"),
    *("maxItems", "uniqueItems", "minProperties", "maxProperties", "patternProperties", "propertyNames"),
)


def check(body: Mapping[str, Any], minted: Minted) -> None:
    """Check a body.

    Raises:
        Unacceptable: the endpoint would refuse it.
    """
    only(body, _FIELDS)
    for key in ("model", "max_tokens", "messages"):
        required(body, key)
    able = abilities(string(body["model"], "model"))
    limit = whole(body["max_tokens"], "max_tokens", 1)
    if "stream" in body:
        flag(body["stream"], "stream")
    _check_system(body.get("system", "You"))
    for index, text in enumerate(array(body.get("stop_sequences", []), "stop_sequences")):
        if not string(text, f"stop_sequences.{index}").strip():
            raise Unacceptable("stop_sequences: each stop sequence must contain non-whitespace")
    names = _check_tools(body.get("tools", []))
    forced = _check_choice(body, names)
    thinking = _check_thinking(body, able, limit, forced=forced)
    _check_sampling(body, able, thinks=thinking is not None)
    if "output_config" in body:
        _check_output(mapping(body["output_config"], "output_config"), able)
    prefill = able.prefill and thinking is None
    check_messages(body["messages"], Rules(minted, thinking=thinking, prefill=prefill, system_turns=able.system_turns))


def _check_system(value: Any) -> None:
    blocks: list[Any] = [{"type": "text", "text": value}] if isinstance(value, str) else array(value, "system")
    for index, block in enumerate(blocks):
        held = mapping(block, f"system.{index}")
        tag(held, ("text",), f"system.{index}")
        if not string(required(held, "text", f"system.{index}"), f"system.{index}.text").strip():
            raise Unacceptable("system: text content blocks must be non-empty")


def _check_tools(value: Any) -> list[str]:
    """The names of the tools."""
    names: list[str] = []
    for index, given in enumerate(array(value, "tools")):
        tool = mapping(given, f"tools.{index}")
        name = matching(required(tool, "name", f"tools.{index}"), "[a-zA-Z0-9_-]{1,128}", f"tools.{index}.custom.name")
        if name in names:
            raise Unacceptable("tools: Tool names must be unique.")
        names.append(name)
        if tool.get("type", "custom") != "custom":
            continue  # a tool of the provider's own
        where = f"tools.{index}.custom"
        only(tool, _TOOL_FIELDS, where)
        string(tool.get("description", ""), f"{where}.description")
        schema = mapping(required(tool, "input_schema", where), f"{where}.input_schema")
        one_of(required(schema, "type", f"{where}.input_schema"), ("object",), f"{where}.input_schema.type")
        for key in ("oneOf", "allOf", "anyOf"):
            if key in schema:
                raise Unacceptable(
                    f"{where}.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level"
                )
        if flag(tool.get("strict", False), f"{where}.strict"):
            _check_schema(schema, f"{where}")
    return names


def _check_choice(body: Mapping[str, Any], names: list[str]) -> bool:
    """Whether a tool must be called."""
    if "tool_choice" not in body:
        return False
    choice = mapping(body["tool_choice"], "tool_choice")
    kind = tag(choice, ("auto", "any", "tool", "none"), "tool_choice")
    known = ["type"] if kind == "none" else ["type", "disable_parallel_tool_use"]
    only(choice, [*known, "name"] if kind == "tool" else known, f"tool_choice.{kind}")
    if not names:
        raise Unacceptable("tool_choice may only be specified while providing tools.")
    if kind == "tool" and required(choice, "name", "tool_choice.tool") not in names:
        raise Unacceptable(f"Tool '{choice['name']}' not found in provided tools")
    return kind in ("any", "tool")


def _check_thinking(body: Mapping[str, Any], able: Abilities, limit: int, *, forced: bool) -> str | None:
    """The type of the request's thinking, or None when the model does not think."""
    if "thinking" not in body:
        return None
    thinking = mapping(body["thinking"], "thinking")
    kind = tag(thinking, ("enabled", "disabled", "adaptive"), "thinking")
    if kind == "disabled":
        return None
    only(thinking, ("type", "display", *(("budget_tokens",) if kind == "enabled" else ())), f"thinking.{kind}")
    if able.thinking == "none":
        raise Unacceptable("This model does not support thinking.")
    if kind == "adaptive" and able.thinking != "adaptive":
        raise Unacceptable("adaptive thinking is not supported on this model")
    if kind == "enabled":
        if not able.sampling:
            raise Unacceptable(
                '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and '
                '"output_config.effort" to control thinking behavior.'
            )
        budget = required(thinking, "budget_tokens", "thinking.enabled")
        if whole(budget, "thinking.enabled.budget_tokens", 1024) >= limit:
            raise Unacceptable("`max_tokens` must be greater than `thinking.budget_tokens`.")
    if forced:
        raise Unacceptable("Thinking may not be enabled when tool_choice forces tool use.")
    return kind


def _check_sampling(body: Mapping[str, Any], able: Abilities, *, thinks: bool) -> None:
    for key in ("temperature", "top_p"):
        if key in body:
            fraction(body[key], key)
            if not able.sampling:
                raise Unacceptable(f"`{key}` is deprecated for this model.")
    if "temperature" in body and "top_p" in body:
        raise Unacceptable("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
    if thinks and body.get("temperature", 1) != 1:
        raise Unacceptable("`temperature` may only be set to 1 when thinking is enabled or in adaptive mode.")
    if thinks and body.get("top_p", 1) < 0.95:
        raise Unacceptable("`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.")


def _check_output(output: Mapping[str, Any], able: Abilities) -> None:
    only(output, ("effort", "format", "task_budget"), "output_config")
    if "effort" in output:
        one_of(output["effort"], ("low", "medium", "high", "xhigh", "max"), "output_config.effort")
        if able.thinking != "adaptive":
            raise Unacceptable("This model does not support the effort parameter.")
    if "format" in output:
        form = mapping(output["format"], "output_config.format")
        tag(form, ("json_schema",), "output_config.format")
        only(form, ("type", "schema"), "output_config.format")
        if not able.structured:
            raise Unacceptable("output_config.format: this model does not support structured outputs")
        schema = mapping(required(form, "schema", "output_config.format"), "output_config.format.schema")
        _check_schema(schema, "output_config.format.schema")


def _check_schema(node: Any, where: str) -> None:
    if isinstance(node, list):
        for item in cast("list[Any]", node):
            _check_schema(item, where)
    if not isinstance(node, dict):
        return
    held = cast("dict[str, Any]", node)
    kind = held.get("type")
    if kind == "object" and held.get("additionalProperties") is not False:
        raise Unacceptable(f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to false")
    unknown = sorted(key for key in held if key in _BOUNDS)
    if unknown:
        raise Unacceptable(f"{where}: For '{kind}' type, properties {', '.join(unknown)} are not supported")
    for key, value in held.items():
        if key in ("properties", "$defs", "definitions") and isinstance(value, dict):
            for inner in cast("dict[str, Any]", value).values():
                _check_schema(inner, where)
        elif key not in ("enum", "const", "default", "required"):
            _check_schema(value, where)
