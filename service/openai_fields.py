"""What the fields of a Chat Completions request mean to an agent. Pure.

An agent brings its own tools, settings and form of answer. So the fields of a request are of four kinds:

- those that an agent understands (`read_request` in `openai_request` reads them);
- those that only tune a model, such as `temperature`: they are accepted and do nothing, because many clients send them
  always; the answer lists them as `greenroom.unused`;
- those that would change what the answer is, such as `tools` or `stop`: they are refused by their name, unless their
  value asks for what comes anyway (``n: 1``, an empty list, null);
- all others, which nobody knows: refused, as OpenAI refuses them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from .openai_errors import ApiError, invalid

UNDERSTOOD = frozenset(
    {
        *("messages", "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "user", "metadata"),
        *("response_format", "greenroom"),
    }
)
#: They tune a model, a bill or a cache; what comes is an answer to the same question.
UNUSED = frozenset(
    {
        *("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty", "reasoning_effort", "verbosity"),
        *("service_tier", "store", "safety_identifier", "parallel_tool_calls", "prediction", "prompt_cache_key"),
        *("prompt_cache_options", "prompt_cache_retention"),
    }
)


def _is_one(value: Any) -> bool:
    return value == 1 and not isinstance(value, bool)


def _is_off(value: Any) -> bool:
    return value is False or (value == 0 and not isinstance(value, bool))


def _is_empty(value: Any) -> bool:
    return isinstance(value, list | dict | str) and not value


def _is_text_only(value: Any) -> bool:
    return value == ["text"]


def _is_left_to_the_agent(value: Any) -> bool:
    return value in ("auto", "none")


_OWN_TOOLS = "an agent has tools of its own, which run on the server"
#: What is refused: the values that ask for nothing, and why any other is.
REFUSED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "n": (_is_one, "an agent gives one answer"),
    "tools": (_is_empty, _OWN_TOOLS),
    "functions": (_is_empty, _OWN_TOOLS),
    "tool_choice": (_is_left_to_the_agent, _OWN_TOOLS),
    "function_call": (_is_left_to_the_agent, _OWN_TOOLS),
    "stop": (_is_empty, "an agent's answer is not cut at a word"),
    "logprobs": (_is_off, "an agent gives no probabilities"),
    "top_logprobs": (_is_off, "an agent gives no probabilities"),
    "logit_bias": (_is_empty, "an agent has settings of its own"),
    "modalities": (_is_text_only, "an agent answers with text"),
    "audio": (_is_empty, "an agent answers with text"),
    "moderation": (_is_empty, "there is no moderation here"),
    "web_search_options": (_is_empty, _OWN_TOOLS),
}


def check_fields(request: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the fields that are accepted and do nothing.

    Raises:
        ApiError: a field that is refused, or that nobody knows.
    """
    for name, value in request.items():
        if name in REFUSED:
            asks_nothing, why = REFUSED[name]
            if value is not None and not asks_nothing(value):
                raise invalid(f"{name!r} is not supported here: {why}; leave it out", name, "unsupported_parameter")
        elif name not in UNDERSTOOD and name not in UNUSED:
            raise invalid(f"unknown field {name!r}: leave it out", name, "unknown_parameter")
    return tuple([name for name, value in request.items() if name in UNUSED and value is not None])


def check_format(value: Any, model: str, schema: Mapping[str, Any] | None) -> None:
    """Refuse a form of answer that is not the agent's own.

    Args:
        value: what `response_format` has.
        model: the agent's name.
        schema: of its answers; None for text.

    Raises:
        ApiError: another form.
    """
    if value is None:
        return
    form = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    match form.get("type"):
        case "text":
            fits = True
        case "json_object":
            fits = schema is not None
        case "json_schema":
            given: Any = form.get("json_schema")
            held = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
            fits = schema is not None and same_schema(held.get("schema"), schema, strict=held.get("strict") is True)
        case _:
            raise invalid(
                '\'response_format\' must be {"type": "text"}, "json_object" or "json_schema"', "response_format"
            )
    if not fits:
        own = "text" if schema is None else "JSON of a schema of its own"
        raise _other_format(
            f"the agent {model!r} answers with {own}, whatever is asked for: leave 'response_format' out"
        )


def _other_format(message: str) -> ApiError:
    return invalid(message, "response_format", "unsupported_parameter")


#: Says nothing about what fits.
_ANNOTATIONS = frozenset({"title", "description", "default", "examples", "$schema", "$defs", "$id", "$comment"})
#: What holds schemas by names that are data: a property may be called `title`.
_NAMED = ("properties", "patternProperties")
#: What holds values, not schemas.
_VALUES = ("const", "enum", "required", "type")
#: Places of two schemas that are held against each other, references followed included. A client's may be written so
#: that there is no end of them; an agent's own has a few dozen.
_PLACES = 10_000


def same_schema(asked: Any, own: Any, *, strict: bool = False) -> bool:
    """Whether two schemas let the same objects through, as far as their words tell: titles and the like, the order of
    keys, and whether a part is written in its place or referred to, make no difference; nor does
    ``additionalProperties: false``, which some write always. In a strict form every property must be required, so
    libraries write that whatever the type says: there the client's may require more.

    The two are walked side by side, and no pair of places twice, so schemas that refer to themselves are compared too.

    Args:
        asked: the client's.
        own: the agent's.
        strict: whether the client's is a strict form.
    """
    if not isinstance(asked, dict) or not isinstance(own, dict):
        return False
    pairs: list[tuple[Any, Any]] = [(asked, own)]
    seen: set[tuple[int, int]] = set()
    left = _PLACES
    while pairs:
        (one, hops), (other, more_hops) = _target(pairs[-1][0], asked), _target(pairs[-1][1], own)
        del pairs[-1]
        left -= 1 + hops + more_hops
        if left < 0:
            return False
        if isinstance(one, dict) and isinstance(other, dict):
            here = (id(cast("Any", one)), id(cast("Any", other)))
            if here not in seen:
                seen.add(here)
                below = _below(cast("dict[str, Any]", one), cast("dict[str, Any]", other), strict)
                if below is None:
                    return False
                pairs.extend(below)
        elif isinstance(one, list) and isinstance(other, list):
            if len(cast("list[Any]", one)) != len(cast("list[Any]", other)):
                return False
            pairs.extend(zip(cast("list[Any]", one), cast("list[Any]", other), strict=True))
        elif one != other:
            return False
    return True


def _below(one: dict[str, Any], other: dict[str, Any], strict: bool) -> list[tuple[Any, Any]] | None:
    """What of two schemas is still to be compared; None where they differ already."""
    one, other = _telling(one), _telling(other)
    if strict and set(_names(other.get("required"))) <= set(_names(one.get("required"))):
        one.pop("required", None)
        other.pop("required", None)
    if one.keys() != other.keys():
        return None
    pairs: list[tuple[Any, Any]] = []
    for key, value in one.items():
        facing = other[key]
        if key in _VALUES:
            if not _same_values(value, facing):
                return None
        elif key in _NAMED and isinstance(value, dict) and isinstance(facing, dict):
            named, faced = cast("dict[str, Any]", value), cast("dict[str, Any]", facing)
            if named.keys() != faced.keys():
                return None
            pairs.extend((named[name], faced[name]) for name in named)
        else:
            pairs.append((cast("Any", value), facing))
    return pairs


def _telling(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without what says nothing about what fits."""
    return {
        key: value
        for key, value in schema.items()
        if key not in _ANNOTATIONS
        and not (key == "additionalProperties" and value is False)
        and not (key == "required" and value == [])
    }


def _names(required: Any) -> list[str]:
    return [each for each in cast("list[Any]", required) if isinstance(each, str)] if isinstance(required, list) else []


def _same_values(one: Any, other: Any) -> bool:
    """Whether two values are the same; of two lists of words the order tells nothing."""
    names, others = _names(one), _names(other)
    if names and others and (len(names), len(others)) == (len(one), len(other)):
        return sorted(names) == sorted(others)
    return one == other


def _target(node: Any, root: Any) -> tuple[Any, int]:
    """What a place of a schema leads to, by its references, and how many they were. One that leads nowhere, or around
    in a circle, stands for itself.
    """
    passed: set[int] = set()
    found = node
    while isinstance(found, dict) and isinstance(target := cast("dict[str, Any]", found).get("$ref"), str):
        if id(cast("Any", found)) in passed:
            return node, len(passed)
        passed.add(id(cast("Any", found)))
        found = _referred(target, root)
        if found is None:
            return node, len(passed)
    return cast("Any", found), len(passed)


def _referred(target: str, root: Any) -> Any:
    """What a reference within the schema leads to, or None."""
    if target == "#":
        return root
    if not target.startswith("#/"):
        return None
    found = root
    for step in target[2:].split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        found = cast("dict[str, Any]", found).get(name) if isinstance(found, dict) else None
    return found
