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
            held: Any = form.get("json_schema")
            asked: Any = cast("dict[str, Any]", held).get("schema") if isinstance(held, dict) else None
            fits = schema is not None and same_schema(asked, schema)
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
#: A schema that refers to itself is followed so deep.
_DEPTH = 32


def same_schema(left: Any, right: Any) -> bool:
    """Whether two schemas let the same objects through, as far as their words tell: titles and the like, the order of
    keys, and whether a part is written in its place or referred to, make no difference; nor does
    ``additionalProperties: false``, which some write always.
    """
    return isinstance(left, dict) and isinstance(right, dict) and _plain(left, left, 0) == _plain(right, right, 0)


def _plain(node: Any, root: Any, depth: int) -> Any:
    if isinstance(node, list):
        return [_plain(each, root, depth + 1) for each in cast("list[Any]", node)]
    if not isinstance(node, dict) or depth > _DEPTH:
        return cast("Any", node)
    held = cast("dict[str, Any]", node)
    target = held.get("$ref")
    if isinstance(target, str):
        found = _referred(target, root)
        if found is not None:
            return _plain(found, root, depth + 1)
    made: dict[str, Any] = {}
    for key, value in held.items():
        if key in _ANNOTATIONS or (key == "additionalProperties" and value is False):
            continue
        if key == "properties" and isinstance(value, dict):
            # Their names are data: a property may be called `title`.
            named = cast("dict[str, Any]", value)
            made[key] = {name: _plain(each, root, depth + 1) for name, each in named.items()}
        elif key in ("required", "enum", "type") and isinstance(value, list):
            made[key] = sorted(cast("list[Any]", value), key=repr)
        else:
            made[key] = _plain(value, root, depth + 1)
    return made


def _referred(target: str, root: Any) -> Any:
    """What a reference within the schema leads to, or None."""
    found = root
    if not target.startswith("#/"):
        return None
    for step in target[2:].split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        found = cast("dict[str, Any]", found).get(name) if isinstance(found, dict) else None
    return found
