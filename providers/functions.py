"""A Python function as a tool: signature and docstring to a JSON schema and a validator. Pure.

`describe` reads a function once: its type hints become the fields of a msgspec struct that refuses unknown
keys, its docstring (Google, NumPy or reST) the descriptions. The struct gives both the JSON schema that the
model sees and the decoder that checks what the model sends, so the two cannot disagree. The schema is
self-contained: the top object is inline, only nested types live under ``$defs``.

`validate` turns what a model sent into keyword arguments. Whatever is wrong with it (a type, a key that is
unknown, missing or given twice, NaN, nesting without end, half a surrogate pair) is one ValueError whose text
tells the model what to mend.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

import docstring_parser
import msgspec

MAX_DEPTH = 200
_PLAIN = (str, int, float, bool, type(None))


class FunctionSchema(msgspec.Struct, frozen=True):
    """A function as a tool: what the model is told, and what checks its arguments.

    `context_parameter` names the parameter that the caller fills in himself; it is not in the schema.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    arguments: type[msgspec.Struct]
    context_parameter: str | None
    decoder: msgspec.json.Decoder[Any]
    fields: tuple[str, ...]
    keys: tuple[bytes, ...]


def describe(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    description: str | None = None,
    skip: tuple[str, ...] = (),
    is_context: Callable[[Any], bool] | None = None,
) -> FunctionSchema:
    """Read the signature and the docstring of `function`.

    Args:
        function: any callable with annotated parameters.
        name: the tool's name; by default the function's.
        description: the tool's description; by default the docstring without its sections.
        skip: parameters that the caller fills in; they stay out of the schema.
        is_context: tells by its annotation which parameter takes the run's context.

    Raises:
        TypeError: a parameter cannot be a tool's argument; the line names it and the remedy.
    """
    title = name if name is not None else _name_of(function)
    hints = _hints(function, title)
    doc = docstring_parser.parse(inspect.getdoc(_plain(function)) or "")
    told = {param.arg_name.lstrip("*"): param.description for param in doc.params if param.description}
    fields: list[tuple[str, Any, Any]] = []
    context: str | None = None
    for parameter in inspect.signature(function).parameters.values():
        label = parameter.name
        if label in skip:
            continue
        annotation = hints.get(label, parameter.annotation)
        if context is None and is_context is not None and annotation is not parameter.empty and is_context(annotation):
            context = label
            continue
        _check_kind(title, parameter)
        if annotation is parameter.empty:
            raise TypeError(f"{title}(): parameter {label!r} has no type: annotate it, for example {label}: str")
        fields.append((label, _field_type(title, label, annotation, told.get(label)), _default(parameter)))
    struct = msgspec.defstruct(title, fields, kw_only=True, forbid_unknown_fields=True)
    return FunctionSchema(
        title,
        description if description is not None else _description(doc),
        _parameters(struct),
        struct,
        context,
        msgspec.json.Decoder(struct),
        struct.__struct_fields__,
        tuple(b'"%s"' % field.encode() for field in struct.__struct_fields__),
    )


def validate(schema: FunctionSchema, raw: bytes | str | Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments in `raw`, which is JSON text or a dictionary decoded from it. Costs about 2 µs.

    Raises:
        ValueError: they do not fit; the text says where and what was expected.
    """
    try:
        if isinstance(raw, (str, bytes)):
            data = raw.encode() if isinstance(raw, str) else raw
            if not data or data.isspace():
                data = b"{}"
            arguments = schema.decoder.decode(data)
            if data.count(b"{") > 1 or b"\\" in data or any(data.count(key) > 1 for key in schema.keys):
                json.loads(data, object_pairs_hook=_refuse_twice)
        else:
            _check_values(raw)
            arguments = msgspec.convert(raw, schema.arguments)
    except msgspec.ValidationError as error:
        raise ValueError(f"invalid arguments for {schema.name}: {error}") from None
    except msgspec.DecodeError as error:
        raise ValueError(f"the arguments for {schema.name} are not valid JSON: {error}") from None
    except RecursionError:
        raise ValueError(f"the arguments for {schema.name} are nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError(f"the arguments for {schema.name} are not valid UTF-8") from None
    except UnicodeEncodeError:
        raise ValueError(f"the arguments for {schema.name} hold half a surrogate pair: send valid Unicode") from None
    except _Unfit as error:
        raise ValueError(f"invalid arguments for {schema.name}: {error}") from None
    return {field: getattr(arguments, field) for field in schema.fields}


class _Unfit(Exception):
    """Something that the decoder lets pass and a tool must not see."""


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise _Unfit(f"the key {twice!r} is given twice")
    return made


def _check_values(top: Mapping[str, Any]) -> None:
    """Refuse what JSON cannot hold, in a dictionary that may not have come from JSON. Iterative: depth is data."""
    pending: list[tuple[Any, int]] = [(top, 0)]
    while pending:
        value, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise RecursionError
        if isinstance(value, float):
            if not isfinite(value):
                raise _Unfit(f"{value} is not a JSON number")
        elif isinstance(value, str):
            if not value.isascii():
                value.encode()
        elif isinstance(value, Mapping):
            for key, held in cast("Mapping[Any, Any]", value).items():
                pending += [(key, depth + 1), (held, depth + 1)]
        elif isinstance(value, (list, tuple)):
            pending += [(held, depth + 1) for held in cast("list[Any]", value)]


def _name_of(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = cast("Callable[..., Any]", function.func)
    return getattr(function, "__name__", None) or type(function).__name__


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function whose annotations and docstring count."""
    while isinstance(function, functools.partial):
        function = cast("Callable[..., Any]", function.func)
    function = inspect.unwrap(function)
    if inspect.isroutine(function):
        return function
    return function.__init__ if inspect.isclass(function) else type(function).__call__


def _hints(function: Callable[..., Any], title: str) -> dict[str, Any]:
    try:
        return get_type_hints(_plain(function), include_extras=True)
    except NameError as error:
        raise TypeError(
            f"{title}(): an annotation cannot be resolved ({error}): import that name where the function is defined"
        ) from None


def _check_kind(title: str, parameter: inspect.Parameter) -> None:
    if parameter.kind is parameter.VAR_POSITIONAL:
        raise TypeError(f"{title}(): *{parameter.name} cannot be a tool's argument: take a list parameter instead")
    if parameter.kind is parameter.VAR_KEYWORD:
        raise TypeError(f"{title}(): **{parameter.name} cannot be a tool's argument: name each parameter")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise TypeError(
            f"{title}(): parameter {parameter.name!r} is positional-only, but a model names its arguments: "
            "remove the '/'"
        )


def _field_type(title: str, label: str, annotation: Any, told: str | None) -> Any:
    try:
        msgspec.json.schema(annotation)
        msgspec.json.Decoder(annotation)
    except (TypeError, RuntimeError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise TypeError(
            f"{title}(): parameter {label!r} is annotated {_shown(annotation)}, which has no JSON form ({reason}): "
            "use builtin types, Literal, Enum, dataclasses, TypedDict or msgspec types"
        ) from None
    if told is None or _has_description(annotation):
        return annotation
    return Annotated[annotation, msgspec.Meta(description=" ".join(told.split()))]


def _has_description(annotation: Any) -> bool:
    extras = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return any(isinstance(extra, msgspec.Meta) and extra.description for extra in extras)


def _shown(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _default(parameter: inspect.Parameter) -> Any:
    default = parameter.default
    if default is parameter.empty:
        return msgspec.NODEFAULT
    if isinstance(default, _PLAIN) and not (isinstance(default, float) and not isfinite(default)):
        return default
    # Given through a factory, a default stays out of the schema: it may have no JSON form. The function gets the very
    # object that it would get in Python.
    return msgspec.field(default_factory=lambda: default)


def _description(doc: docstring_parser.Docstring) -> str:
    return "\n\n".join(text.strip() for text in (doc.short_description, doc.long_description) if text)


def _parameters(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The schema of the struct with the top object inline and no name of ours in it."""
    schema = msgspec.json.schema(struct)
    definitions: dict[str, Any] = schema.get("$defs", {})
    top: dict[str, Any] = definitions.pop(schema["$ref"].rpartition("/")[2])
    top.pop("title", None)
    top.pop("description", None)
    if definitions:
        top["$defs"] = definitions
    return top
