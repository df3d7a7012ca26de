"""A Python function as a tool: signature and docstring to a JSON schema and a validator. Pure.

`describe` reads a function once: its type hints become the fields of a msgspec struct that refuses unknown
keys, its docstring (Google, NumPy or reST) the descriptions. The struct gives both the JSON schema that the
model sees and the decoder that checks what the model sends, so the two cannot disagree. The schema is
self-contained: the top object is inline, only nested types live under ``$defs``.

`describe_as` takes a JSON schema that somebody wrote, for a function whose signature says less.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Annotated, Any, Union, cast, get_origin, get_type_hints

import docstring_parser
import msgspec

from .function_arguments import FunctionSchema
from .function_schemas import closer_of, schema_of
from .function_types import described, foreign_schema, is_foreign, native, read_foreign
from .schema_reading import read_schema

#: The names that every provider takes.
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
#: From Python 3.14 on, annotations are made when they are asked for: how to ask for those that can be made.
_LENIENT: Any = importlib.import_module("annotationlib").Format.FORWARDREF if sys.version_info >= (3, 14) else None
_PLAIN = (str, int, float, bool, type(None))


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
    title = _checked_name(name if name is not None else _name_of(function))
    parameters = _signature(function, title)
    bound = _bound(function)
    hints = _hints(function, title, [parameter.name for parameter in parameters])
    doc = docstring_parser.parse(inspect.getdoc(_plain(function)) or "")
    told = {param.arg_name.lstrip("*"): param.description for param in doc.params if param.description}
    fields: list[tuple[str, Any, Any]] = []
    sources: dict[str, Any] = {}
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
        if _is_field_info(parameter.default):
            annotation = Annotated[annotation, parameter.default]
        sources[label] = annotation
        shown = _shown_default(parameter.default)
        fields.append((label, _field_type(title, label, annotation, told.get(label), shown), _default(parameter)))
    try:
        struct = msgspec.defstruct(title, fields, kw_only=True, forbid_unknown_fields=True)
        schema = schema_of(struct, sources)
    except Exception as error:
        raise TypeError(f"{title}(): its parameters cannot be a tool's arguments: {_first_line(error)}") from None
    return FunctionSchema(
        title,
        description if description is not None else _description(doc),
        schema,
        struct,
        context,
        msgspec.json.Decoder(struct, dec_hook=read_foreign),
        struct.__struct_fields__,
        tuple(b'"%s"' % field.encode() for field in struct.__struct_fields__),
        closer_of(schema),
        tuple([label for label, source in sources.items() if is_foreign(source)]),
    )


def describe_as(
    function: Callable[..., Any],
    *,
    name: str,
    description: str,
    parameters: Mapping[str, Any],
    is_context: Callable[[Any], bool] | None = None,
) -> FunctionSchema:
    """Describe a function by a JSON schema of its keyword arguments instead of its signature.

    Values are handed over as JSON has them. A schema that leaves open whether there may be further keys is closed,
    unless the function takes any (``**options``).

    Args:
        function: takes each property as a keyword argument.
        name, description: what the model is told.
        parameters: the JSON schema of an object.
        is_context: tells by its annotation which parameter takes the run's context.

    Raises:
        TypeError: the function cannot be called with what the schema allows; or the schema is no dictionary.
        ValueError: the name is none that a provider takes, or the schema holds something that cannot be checked.
    """
    title = _checked_name(name)
    try:
        schema = read_schema(parameters)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{title}(): {error}") from None
    signature = _signature(function, title)
    hints = _hints(function, title, [each.name for each in signature]) if is_context is not None else {}
    context = next((label for label, hint in hints.items() if is_context is not None and is_context(hint)), None)
    _check_fit(title, [each for each in signature if each.name != context], schema)
    if context in schema["properties"]:
        raise TypeError(f"{title}(): {context!r} takes the run's context, and is a property of the schema: rename one")
    if not any(each.kind is each.VAR_KEYWORD for each in signature) and "patternProperties" not in schema:
        schema.setdefault("additionalProperties", False)
    decoder = msgspec.json.Decoder(dict[str, Any])
    return FunctionSchema(title, description, schema, None, context, decoder, (), (), schema)


def _check_fit(title: str, signature: Sequence[inspect.Parameter], schema: dict[str, Any]) -> None:
    """Refuse a function that could not be called with arguments that fit the schema."""
    names = {each.name: each for each in signature if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    properties: dict[str, Any] = schema["properties"]
    takes_any = any(each.kind is each.VAR_KEYWORD for each in signature)
    for label in properties:
        if label not in names and not takes_any:
            raise TypeError(f"{title}(): the schema has {label!r}, which the function does not take: add a parameter")
    for parameter in signature:
        if parameter.kind is parameter.POSITIONAL_ONLY:
            _check_kind(title, parameter)
        if parameter.name in names and parameter.default is parameter.empty:
            if parameter.name not in properties:
                raise TypeError(f"{title}(): the schema has no {parameter.name!r}, which the function needs")
            if parameter.name not in schema.get("required", ()):
                raise TypeError(
                    f"{title}(): {parameter.name!r} is not required by the schema: give the parameter a default, or "
                    "add it to 'required'"
                )


def _checked_name(title: Any) -> str:
    if not isinstance(title, str) or not NAME.fullmatch(title):
        raise ValueError(
            f"a tool cannot be called {title!r}: providers take 1 to 64 of a-z, A-Z, 0-9, '_' and '-'; name it with "
            "@tool(name=…)"
        )
    return title


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


def _field_type(title: str, label: str, annotation: Any, told: str | None, shown: dict[str, Any]) -> Any:
    if label.startswith("__"):
        raise TypeError(f"{title}(): parameter {label!r} begins with '__', which no argument of a tool may: rename it")
    try:
        kind = native(annotation)
        msgspec.json.schema(kind, schema_hook=foreign_schema)
        msgspec.json.Decoder(kind)
    except Exception:
        why = "has no JSON form"
        if get_origin(annotation) in (Union, types.UnionType):
            why = "cannot be told apart in JSON, or has a member without a JSON form"
        remedy = "use builtin types, Literal, Enum, dataclasses, TypedDict or msgspec types"
        if is_foreign(annotation):
            why, remedy = "pydantic cannot read as a whole", "use types of pydantic alone, or none of it"
        raise TypeError(
            f"{title}(): parameter {label!r} is annotated {_shown(annotation)}, which {why}: {remedy}"
        ) from None
    text = described(annotation) or told
    if text is not None:
        kind = Annotated[kind, msgspec.Meta(description=" ".join(text.split()))]
    return Annotated[kind, msgspec.Meta(extra_json_schema=shown)] if shown else kind


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _shown(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _default(parameter: inspect.Parameter) -> Any:
    default = parameter.default
    if _is_field_info(default):
        if default.is_required():
            return msgspec.NODEFAULT
        return msgspec.field(default_factory=lambda: default.get_default(call_default_factory=True))
    if default is parameter.empty:
        return msgspec.NODEFAULT
    if isinstance(default, _PLAIN) and not (isinstance(default, float) and not isfinite(default)):
        return default
    # Given through a factory, for the function gets the very object that it would get in Python.
    return msgspec.field(default_factory=lambda: default)


def _shown_default(default: Any) -> dict[str, Any]:
    """What the schema says of a default that msgspec does not write there itself, as far as it has a JSON form."""
    if default is inspect.Parameter.empty or isinstance(default, _PLAIN) or _is_field_info(default):
        return {}
    try:
        return {"default": msgspec.json.decode(msgspec.json.encode(default))}
    except Exception:
        return {}


def _is_field_info(default: Any) -> bool:
    """Whether a default is what pydantic's ``Field(…)`` gives, which holds the default and more."""
    return type(default).__module__ == "pydantic.fields" and hasattr(default, "is_required")


def _description(doc: docstring_parser.Docstring) -> str:
    return "\n\n".join(text.strip() for text in (doc.short_description, doc.long_description) if text)
