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
import importlib
import inspect
import json
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Annotated, Any, Union, cast, get_args, get_origin, get_type_hints

import docstring_parser
import msgspec

MAX_DEPTH = 200
#: The names that every provider takes.
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
#: From Python 3.14 on, annotations are made when they are asked for: how to ask for those that can be made.
_LENIENT: Any = importlib.import_module("annotationlib").Format.FORWARDREF if sys.version_info >= (3, 14) else None
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
        ValueError: the name is none that a provider takes.
    """
    title: Any = name if name is not None else _name_of(function)
    if not isinstance(title, str) or not NAME.fullmatch(title):
        raise ValueError(
            f"a tool cannot be called {title!r}: providers take 1 to 64 of a-z, A-Z, 0-9, '_' and '-'; name it with "
            "@tool(name=…)"
        )
    parameters = _signature(function, title)
    bound = _bound(function)
    hints = _hints(function, title, [parameter.name for parameter in parameters])
    doc = docstring_parser.parse(inspect.getdoc(_plain(function)) or "")
    told = {param.arg_name.lstrip("*"): param.description for param in doc.params if param.description}
    fields: list[tuple[str, Any, Any]] = []
    context: str | None = None
    for parameter in parameters:
        label = parameter.name
        if label in skip or label in bound:
            continue
        annotation = hints.get(label, parameter.annotation)
        if label in ("self", "cls") and annotation is parameter.empty and not fields and context is None:
            raise TypeError(
                f"{title}(): {label!r} would have to come from the model: give the bound method, "
                f"tools=[obj.{_name_of(function)}]"
            )
        _check_kind(title, parameter)
        if is_context is not None and annotation is not parameter.empty and is_context(annotation):
            if context is not None:
                raise TypeError(f"{title}(): {context!r} and {label!r} both take the run's context: keep one of them")
            context = label
            continue
        if annotation is parameter.empty:
            raise TypeError(f"{title}(): parameter {label!r} has no type: annotate it, for example {label}: str")
        fields.append((label, _field_type(title, label, annotation, told.get(label)), _default(parameter)))
    try:
        struct = msgspec.defstruct(title, fields, kw_only=True, forbid_unknown_fields=True)
    except Exception as error:
        raise TypeError(f"{title}(): its parameters cannot be a tool's arguments: {_first_line(error)}") from None
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
    except Exception as error:
        # What an argument's own type raises when it is made.
        raise ValueError(f"invalid arguments for {schema.name}: {type(error).__name__}: {error}") from error
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


def _bound(function: Callable[..., Any]) -> set[str]:
    """The parameters that a partial has filled in by name: the model neither sees nor sets them."""
    names: set[str] = set()
    while isinstance(function, functools.partial):
        names.update(function.keywords)
        function = cast("Callable[..., Any]", function.func)
    return names


def _signature(function: Callable[..., Any], title: str) -> Sequence[inspect.Parameter]:
    lenient: dict[str, Any] = {} if _LENIENT is None else {"annotation_format": _LENIENT}
    try:
        return tuple(inspect.signature(function, **lenient).parameters.values())
    except ValueError:
        raise TypeError(
            f"{title}() has no signature to read: wrap it in a function with annotated parameters"
        ) from None


def _hints(function: Callable[..., Any], title: str, labels: Sequence[str]) -> dict[str, Any]:
    """The types of the parameters. What the function returns is nobody's business here."""
    plain = _plain(function)
    raw = _annotations(plain)
    hints: dict[str, Any] = {}
    for label in labels:
        if label not in raw:
            continue
        held = types.SimpleNamespace(
            __annotations__={label: raw[label]}, __type_params__=getattr(plain, "__type_params__", ())
        )
        try:
            hints |= get_type_hints(held, getattr(plain, "__globals__", {}), include_extras=True)
        except Exception as error:
            shown = raw[label] if isinstance(raw[label], str) else _shown(raw[label])
            raise TypeError(
                f"{title}(): the annotation {shown} of parameter {label!r} cannot be resolved ({_first_line(error)}): "
                "import that name where the function is defined"
            ) from None
    return hints


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    if _LENIENT is None:
        return getattr(function, "__annotations__", {})
    lenient: dict[str, Any] = {"format": _LENIENT}
    try:
        return inspect.get_annotations(function, **lenient)
    except TypeError:
        return {}


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
    if label.startswith("__"):
        raise TypeError(f"{title}(): parameter {label!r} begins with '__', which no argument of a tool may: rename it")
    try:
        msgspec.json.schema(annotation)
        msgspec.json.Decoder(annotation)
    except Exception:
        why = "has no JSON form"
        if get_origin(annotation) in (Union, types.UnionType):
            why = "cannot be told apart in JSON, or has a member without a JSON form"
        raise TypeError(
            f"{title}(): parameter {label!r} is annotated {_shown(annotation)}, which {why}: "
            "use builtin types, Literal, Enum, dataclasses, TypedDict or msgspec types"
        ) from None
    extras = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    if any(isinstance(extra, msgspec.Meta) and extra.description for extra in extras):
        return annotation
    own = next((text for text in map(_described, extras) if text), told)
    return annotation if own is None else Annotated[annotation, msgspec.Meta(description=" ".join(own.split()))]


def _described(extra: Any) -> str | None:
    """The description in something beside a type: plain text, or a `typing_extensions.Doc`."""
    text = extra if isinstance(extra, str) else getattr(extra, "documentation", None)
    return text if isinstance(text, str) else None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


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
