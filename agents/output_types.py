"""The type of an answer: what a model is told of it, and what reads it. Pure.

msgspec does it for most types: Structs, dataclasses, `TypedDict`s, enums, literals, plain JSON. What it cannot read is
put into its place by a class of ours, at any depth of lists, dictionaries and unions, and read beside it:

- what pydantic made (a model, its dataclass, a type with its bounds) is read by pydantic. It is never imported here:
  whoever has such a type has imported it;
- a union that msgspec refuses, because JSON alone does not say which of its members is meant (two dataclasses, a model
  or a Struct), is told apart by name. Each member that is an object is described with one more property, ``type``,
  that holds the name of its class; the value says which it is, and nothing is guessed. The others are tried in the
  order in which they stand.

Providers want an object at the top: a type that is none is asked for as the property ``result`` of one.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, is_typeddict

import msgspec
from typing_extensions import TypeAliasType

from ..providers.function_types import Foreign, foreign_schema, is_foreign, native, read_foreign
from ..providers.schema_words import clipped

#: The key that holds an output which is not an object itself.
WRAPPED = "result"
#: What the property that names a member may be called: the first that no member has for itself.
_TAGS = ("type", "kind", "variant", "of_type")
_ALIASES: tuple[Any, ...] = (TypeAliasType, getattr(typing, "TypeAliasType", TypeAliasType))


class Ambiguous(TypeError):
    """A union whose members cannot be told apart; the text says how to mend that."""


class Form(msgspec.Struct, frozen=True):
    """How one type is asked for and read.

    `schema` is that of a JSON object, with its definitions under ``$defs``. `read` makes the value of JSON text and
    raises what msgspec, pydantic or the type itself raises; `write` makes the text of a value, as far as it can.
    `wrapped` says whether the value is the property ``result`` of the object.
    """

    schema: dict[str, Any]
    read: Callable[[str | bytes], Any]
    write: Callable[[Any], bytes]
    wrapped: bool


def form_of(kind: Any) -> Form:
    """The form of a type.

    Raises:
        Exception: whatever msgspec and pydantic raise for a type that has no JSON form.
    """
    kind = _taken(kind)
    decode = msgspec.json.Decoder(kind, dec_hook=_read).decode
    schema = _inlined(_lifted(msgspec.json.schema(kind, schema_hook=foreign_schema)))
    if schema.get("type") == "object":
        return Form(schema, decode, _write, wrapped=False)
    definitions = schema.pop("$defs", None)
    top: dict[str, Any] = {"type": "object", "properties": {WRAPPED: schema}, "required": [WRAPPED]}
    if definitions:
        top["$defs"] = definitions
    wrapper = msgspec.defstruct("Output", [(WRAPPED, kind)])
    unwrapped = msgspec.json.Decoder(wrapper, dec_hook=_read).decode
    return Form(
        top, lambda text: getattr(unwrapped(text), WRAPPED), lambda value: _write({WRAPPED: value}), wrapped=True
    )


# -- what msgspec cannot read


class _Transparent(type):
    """The class of a class that counts everything as its instance: so its place may hold a value of any type."""

    def __instancecheck__(cls, instance: object) -> bool:
        return True


class _Place(Foreign, metaclass=_Transparent):
    """Holds the place of a type that its `adapter` describes and reads."""


def _place(adapter: Any) -> Any:
    return _Transparent("Place", (_Place,), {"adapter": adapter})


def _read(kind: Any, value: Any) -> Any:
    return read_foreign(kind, value).value


def _write(value: Any) -> bytes:
    return msgspec.json.encode(value, enc_hook=_dumped)


def _dumped(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise NotImplementedError
    return dump(mode="json", by_alias=True)


class _Pydantic:
    """A type that pydantic describes and reads."""

    def __init__(self, kind: Any) -> None:
        adapter: Any = sys.modules["pydantic"].TypeAdapter(kind)
        self.validate_json = adapter.validate_json
        self.json_schema = adapter.json_schema


class _Choice:
    """A union whose members that are objects say by name which they are.

    Raises:
        TypeError: two of them have the same name.
    """

    def __init__(self, members: list[Any]) -> None:
        named = [member for member in members if _is_object(member)]
        others = [form_of(member) for member in members if not _is_object(member)]
        if len(named) == 1 and all(form.wrapped for form in others):
            others, named = [form_of(member) for member in members], []  # there is nothing to tell apart
        self._named = {_name(member): form_of(member) for member in named}
        if len(self._named) < len(named):
            raise Ambiguous("two members of a union have the same name: give one of the classes another")
        self._others = others
        taken = {key for form in self._named.values() for key in form.schema.get("properties", {})}
        self._tag = next(tag for tag in _TAGS if tag not in taken)

    def json_schema(self, ref_template: str) -> dict[str, Any]:
        """What a model is told."""
        described: list[dict[str, Any]] = []
        for name, form in self._named.items():
            tag = {self._tag: {"type": "string", "enum": [name]}}
            properties = tag | form.schema.get("properties", {})
            required = [self._tag, *form.schema.get("required", ())]
            described.append({**form.schema, "properties": properties, "required": required})
        for form in self._others:
            schema = form.schema
            if form.wrapped:
                schema = {**schema["properties"][WRAPPED]}
                if "$defs" in form.schema:
                    schema["$defs"] = form.schema["$defs"]
            described.append(schema)
        return {"anyOf": described}

    def validate_json(self, text: bytes) -> Any:
        """The value in a JSON text.

        Raises:
            ValueError: it is of no member.
        """
        value = msgspec.json.decode(text)
        said = cast("dict[str, Any]", value).pop(self._tag, None) if isinstance(value, dict) else None
        form = self._named.get(said) if isinstance(said, str) else None
        if form is not None:
            return form.read(msgspec.json.encode(value))
        wrong: list[str] = []
        for other in self._others:
            try:
                return other.read(b'{"%s":%s}' % (WRAPPED.encode(), text) if other.wrapped else text)
            except ValueError as error:
                wrong.append(clipped(str(error).removesuffix(f" - at `$.{WRAPPED}`"), 200))
        if self._named and (isinstance(value, dict) or not wrong):
            names = ", ".join(map(repr, self._named))
            wrong.append(f"an object must say with {self._tag!r} which it is: {names}")
        raise ValueError("; ".join(wrong))


def _taken(kind: Any) -> Any:
    """The type with a place for each part of it that msgspec cannot read."""
    while isinstance(kind, _ALIASES):
        kind = kind.__value__
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if _is_choice(kind, args):
            return _optional(_place(_Choice([each for each in args if each is not types.NoneType])), args)
        return Union[tuple(map(_taken, args))]  # noqa: UP007 - made of values
    if origin is Annotated:
        return _place(_Pydantic(kind)) if is_foreign(kind) else _annotated(_taken(args[0]), kind)
    if args and origin is not Literal and isinstance(origin, type) and not _is_object(kind):
        made = tuple(each if each is Ellipsis else _taken(each) for each in args)
        return kind if made == args else cast("Any", origin)[made]
    return _place(_Pydantic(kind)) if is_foreign(kind) else kind


def _annotated(base: Any, kind: Any) -> Any:
    first, *extras = get_args(kind)
    if base is first:
        return native(kind)
    for extra in extras:
        base = Annotated[base, extra]
    return base


def _optional(kind: Any, args: tuple[Any, ...]) -> Any:
    return kind | None if types.NoneType in args else kind


def _is_choice(kind: Any, members: tuple[Any, ...]) -> bool:
    """Whether JSON alone does not say which member of a union is meant."""
    if sum(map(_is_object, members)) > 1 and is_foreign(kind):
        return True
    try:
        msgspec.json.Decoder(Union[tuple(map(_taken, members))], dec_hook=_read)  # noqa: UP007 - made of values
    except TypeError:
        return True
    return False


def _is_object(kind: Any) -> bool:
    """Whether it is a class with named fields, an object in JSON."""
    bare: Any = get_origin(kind) or kind
    if not inspect.isclass(bare):
        return False
    if issubclass(bare, msgspec.Struct):
        return not bare.__struct_config__.array_like
    if dataclasses.is_dataclass(bare) or is_typeddict(bare) or hasattr(bare, "__attrs_attrs__"):
        return True
    fields: Any = getattr(bare, "model_fields", None)
    return isinstance(fields, dict) and "root" not in fields


def _name(kind: Any) -> str:
    return (get_origin(kind) or kind).__name__


# -- schemas


def _lifted(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with all definitions at the top, those of its parts included, where references look for them."""
    definitions: dict[str, Any] = {}

    def lifted(node: Any, names: dict[str, str]) -> Any:
        if isinstance(node, list):
            return [lifted(each, names) for each in cast("list[Any]", node)]
        if not isinstance(node, dict):
            return node
        held = dict(cast("dict[str, Any]", node))
        own: Any = held.pop("$defs", None)
        if isinstance(own, dict):
            own = cast("dict[str, Any]", own)
            names = {**names, **{name: _free(name, part, definitions) for name, part in own.items()}}
            for name, part in own.items():
                definitions.setdefault(names[name], part)
            for name, part in own.items():
                definitions[names[name]] = lifted(part, names)
        made = {key: lifted(value, names) for key, value in held.items()}
        reference = held.get("$ref")
        if isinstance(reference, str):
            name = reference.rpartition("/")[2]
            made["$ref"] = f"#/$defs/{names.get(name, name)}"
        return made

    made = lifted(schema, {})
    if definitions:
        made["$defs"] = definitions
    return made


def _free(name: str, part: Any, definitions: dict[str, Any]) -> str:
    """A name for a definition that no other one has."""
    while name in definitions and definitions[name] != part:
        name += "_"
    return name


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its top object in place instead of behind a reference."""
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    definitions = dict(cast("dict[str, Any]", schema.get("$defs", {})))
    name = reference.rsplit("/", 1)[-1]
    top = dict(definitions[name])
    if _mentions(top, reference) or any(
        _mentions(other, reference) for key, other in definitions.items() if key != name
    ):
        top["$defs"] = definitions  # the type refers to itself
    else:
        del definitions[name]
        if definitions:
            top["$defs"] = definitions
    return top


def _mentions(schema: Any, reference: str) -> bool:
    if isinstance(schema, dict):
        entries = cast("dict[str, Any]", schema)
        return entries.get("$ref") == reference or any(_mentions(value, reference) for value in entries.values())
    return isinstance(schema, list) and any(_mentions(value, reference) for value in cast("list[Any]", schema))
