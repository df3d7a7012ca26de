"""The type of a parameter, as a msgspec struct may hold it. Pure.

Most annotations are taken as they are. Three things are made of what other libraries have:

- what `annotated_types` says about a number or a length becomes `msgspec.Meta`, a text in ``Annotated`` a description;
- a type that pydantic made (a model, its dataclass, a constrained type) is read by pydantic: in the struct its place is
  held by a class of ours, and `read_foreign` hands the value over. Pydantic is never imported here: whoever has such a
  type has imported it;
- a date and time gets its ``format``, which msgspec leaves out where the time zone may be missing.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import sys
import types
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, Literal, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

import msgspec
from typing_extensions import TypeAliasType

from .schema_words import clipped, place

#: From Python 3.12 on there are two of them.
_ALIASES: tuple[Any, ...] = (TypeAliasType, getattr(typing, "TypeAliasType", TypeAliasType))
_BOUNDS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length")
#: The keywords of a JSON schema for the same bounds, of numbers and of texts.
_KEYWORDS = {
    "gt": "exclusiveMinimum",
    "ge": "minimum",
    "lt": "exclusiveMaximum",
    "le": "maximum",
    "multiple_of": "multipleOf",
}
#: What pydantic reads has one of these; a dataclass of pydantic's has only the second.
_MARKS = ("__get_pydantic_core_schema__", "__pydantic_validator__")
_FORMATS: dict[Any, str] = {datetime.datetime: "date-time", datetime.time: "time"}


class Foreign:
    """Holds the place of a type that pydantic reads; `adapter` is its ``TypeAdapter``. An instance holds a value."""

    adapter: ClassVar[Any]

    def __init__(self, value: Any) -> None:
        self.value = value


def native(annotation: Any) -> Any:
    """The annotation as msgspec takes it."""
    if is_foreign(annotation):
        adapter: Any = sys.modules["pydantic"].TypeAdapter(annotation)
        return type("Foreign", (Foreign,), {"adapter": adapter})
    return _translated(annotation)


def read_foreign(kind: Any, value: Any) -> Foreign:
    """The decoder's way out: a value for a type that is not its own.

    Raises:
        ValueError: pydantic refuses it.
    """
    if not (isinstance(kind, type) and issubclass(kind, Foreign)):
        raise NotImplementedError
    try:
        return kind(kind.adapter.validate_json(msgspec.json.encode(value)))
    except ValueError as error:
        listed: Any = getattr(error, "errors", None)
        if listed is None:
            raise
        told = [": ".join(filter(None, (place(each["loc"])[1:].lstrip("."), each["msg"]))) for each in listed()[:4]]
        raise ValueError(clipped("; ".join(told), 400)) from None


def foreign_schema(kind: Any) -> dict[str, Any]:
    """The JSON schema of such a type; its own definitions are in it, under ``$defs``."""
    if not (isinstance(kind, type) and issubclass(kind, Foreign)):
        raise NotImplementedError
    # For a type that may be anything it is empty, which msgspec takes for none.
    return kind.adapter.json_schema(ref_template="#/$defs/{model}") or {"title": ""}


def is_foreign(annotation: Any) -> bool:
    """Whether pydantic has to read it."""
    if "pydantic" not in sys.modules:
        return False
    return any(
        _by_pydantic(extra) or any(hasattr(extra, mark) for mark in _MARKS)
        for kind in _walk(annotation, set())
        for extra in (kind, *get_args(kind)[1:])
        if kind is extra or get_origin(kind) is Annotated
    )


def classes_of(annotation: Any) -> list[Any]:
    """The classes with fields, and the enums, that an annotation mentions, each once."""
    return [kind for kind in _walk(annotation, set()) if _has_fields(kind) or _is_enum(kind)]


def hints_of(kind: Any) -> dict[str, Any]:
    """The annotations of a class's fields, by the names that they have in JSON."""
    bare = get_origin(kind) or kind
    try:
        hints = get_type_hints(bare, include_extras=True)
    except Exception:
        return {}
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        return {
            shown: hints[name]
            for name, shown in zip(bare.__struct_fields__, bare.__struct_encode_fields__, strict=True)
            if name in hints
        }
    return hints


def described(annotation: Any) -> str | None:
    """The description beside a type: plain text, a `typing_extensions.Doc`, or that of a `msgspec.Meta`."""
    extras = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    metas = (extra.description for extra in extras if isinstance(extra, msgspec.Meta))
    return next((text for text in (*metas, *map(_text, extras)) if text), None)


def bounds_of(annotation: Any) -> dict[str, Any]:
    """What a field of a class, which is left as it is, says in the words of `annotated_types`, as JSON Schema."""
    if get_origin(annotation) is not Annotated:
        return {}
    base, *extras = get_args(annotation)
    sized = "Length" if base is str else "Items"
    found = _bounds([extra for extra in extras if not isinstance(extra, msgspec.Meta)])
    return {_KEYWORDS.get(name) or f"{name.removesuffix('_length')}{sized}": bound for name, bound in found.items()}


def _translated(annotation: Any) -> Any:
    if annotation in _FORMATS if isinstance(annotation, type) else False:
        return Annotated[annotation, msgspec.Meta(extra_json_schema={"format": _FORMATS[annotation]})]
    if isinstance(annotation, _ALIASES):
        return _translated(cast("Any", annotation).__value__)
    origin, args = get_origin(annotation), get_args(annotation)
    if not args or origin is Literal:
        return annotation
    if origin is Annotated:
        return _with_metas(_translated(args[0]), args[1:])
    if origin in (Union, types.UnionType):
        return Union[tuple(map(_translated, args))]  # noqa: UP007 - made of values
    made = tuple(map(_translated, args))
    if made == args or not isinstance(origin, type) or _has_fields(origin):
        return annotation
    return cast("Any", origin)[made]


def _with_metas(base: Any, extras: tuple[Any, ...]) -> Any:
    metas = [extra for extra in extras if isinstance(extra, msgspec.Meta)]
    bounds = _bounds([extra for extra in extras if not isinstance(extra, msgspec.Meta)])
    text = None if any(meta.description for meta in metas) else next(filter(None, map(_text, extras)), None)
    if bounds or text:
        metas.append(msgspec.Meta(description=text, **bounds))
    for meta in metas:
        base = Annotated[base, meta]
    return base


def _bounds(extras: list[Any]) -> dict[str, Any]:
    """What `annotated_types` says, also in groups such as ``Interval`` and ``Len``."""
    found: dict[str, Any] = {}
    for extra in extras:
        if type(extra).__module__.partition(".")[0] != "annotated_types":
            continue
        for each in (extra, *(extra if hasattr(extra, "__is_annotated_types_grouped_metadata__") else ())):
            for name in _BOUNDS:
                bound = getattr(each, name, None)
                if bound is not None and not (name == "min_length" and bound == 0):
                    found[name] = bound
    return found


def _text(extra: Any) -> str | None:
    text = extra if isinstance(extra, str) else getattr(extra, "documentation", None)
    return " ".join(text.split()) if isinstance(text, str) else None


def _by_pydantic(extra: Any) -> bool:
    module: Any = getattr(extra, "__module__", None)
    return isinstance(module, str) and module.partition(".")[0] in ("pydantic", "pydantic_core", "pydantic_extra_types")


def _walk(annotation: Any, seen: set[int]) -> Iterator[Any]:
    """An annotation and everything in it, through the fields of classes as well."""
    if id(annotation) in seen:
        return
    yield annotation
    if isinstance(annotation, _ALIASES):
        seen.add(id(annotation))
        yield from _walk(annotation.__value__, seen)
    if _has_fields(annotation):
        seen.add(id(annotation))
        for hint in hints_of(annotation).values():
            yield from _walk(hint, seen)
    if get_origin(annotation) is Literal:
        return
    args = get_args(annotation)
    for held in args[:1] if get_origin(annotation) is Annotated else args:
        yield from _walk(held, seen)


def _has_fields(kind: Any) -> bool:
    bare: Any = get_origin(kind) or kind
    return isinstance(bare, type) and any(tells(bare) for tells in _WITH_FIELDS)


def _is_struct(kind: Any) -> bool:
    return issubclass(kind, msgspec.Struct)


def _is_named_tuple(kind: Any) -> bool:
    return issubclass(kind, tuple) and "_fields" in dir(cast("Any", kind))


def _is_attrs(kind: Any) -> bool:
    return hasattr(kind, "__attrs_attrs__")


_WITH_FIELDS: tuple[Callable[[Any], bool], ...] = (
    *(_is_struct, _is_named_tuple, _is_attrs),
    *(dataclasses.is_dataclass, is_typeddict),
)


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)
