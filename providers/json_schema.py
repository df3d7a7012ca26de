"""JSON Schema as a check of values: what does not fit is told in words that say what to mend. Pure.

`check` walks over a value and its schema side by side and collects what is wrong, each with its place in the value
(``$.stops[1].city``), what was expected and what was found. The keywords are those of draft 2020-12 and, where they
differ, of draft 7; `schema_reading.read_schema` refuses a schema that has more than is understood here. ``format`` and
the like are notes for the reader, as the standard has it.

A schema may come from a server that nobody here controls, and a value from a model. So the work is bounded: `STEPS`
for one check, whatever alternatives of alternatives a schema has.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final, cast

import msgspec

from .schema_reading import Schema, resolve
from .schema_words import expected, found, named, place

#: What is told at once; a model mends the first ones and hears of the rest.
MOST: Final = 8
#: Visits to a part of a value with a part of a schema that one check may take.
STEPS: Final = 300_000


def check(schema: Mapping[str, Any], value: Any) -> list[str]:
    """What is wrong with the value, at most `MOST` lines; empty if it fits.

    Raises:
        RecursionError: the value is nested too deeply.
    """
    walk = _Walk(schema, [STEPS])
    try:
        walk.visit(cast("Schema", schema), value, ())
    except _Exhausted:
        return [f"{place(())}: too large to be checked: send less"]
    return walk.problems[:MOST]


class _Exhausted(Exception):
    """The steps of a check are used up."""


class _Walk:
    """One check. `problems` are those of the value; alternatives are tried in walks of their own, on one budget."""

    __slots__ = ("_budget", "_top", "problems")

    def __init__(self, top: Mapping[str, Any], budget: list[int]) -> None:
        self._top = top
        self._budget = budget
        self.problems: list[str] = []

    def visit(self, schema: Schema, value: Any, path: tuple[str | int, ...]) -> None:
        self._budget[0] -= 1
        if self._budget[0] < 0:
            raise _Exhausted
        if len(self.problems) >= MOST:
            return
        if isinstance(schema, bool):
            if not schema:
                self._say(path, "nothing may stand here")
            return
        if "$ref" in schema:
            self.visit(resolve(self._top, schema["$ref"]), value, path)
        if not self._is_of_type(schema, value, path):
            return
        if isinstance(value, dict):
            self._object(schema, cast("dict[str, Any]", value), path)
        elif isinstance(value, list):
            self._array(schema, cast("list[Any]", value), path)
        elif isinstance(value, str):
            self._string(schema, value, path)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            self._number(schema, value, path)
        if not _COMBINING.isdisjoint(schema):
            self._combined(schema, value, path)

    def _say(self, path: tuple[str | int, ...], text: str) -> None:
        self.problems.append(f"{place(path)}: {text}")

    def _fits(self, schema: Schema, value: Any) -> bool:
        return not self._trial(schema, value, ())

    def _trial(self, schema: Schema, value: Any, path: tuple[str | int, ...]) -> list[str]:
        walk = _Walk(self._top, self._budget)
        walk.visit(schema, value, path)
        return walk.problems

    def _is_of_type(self, schema: dict[str, Any], value: Any, path: tuple[str | int, ...]) -> bool:
        kinds = schema.get("type")
        right = kinds is None or _is_a(value, kinds)
        if right and "enum" in schema:
            right = any(same(value, each) for each in schema["enum"])
        if right and "const" in schema:
            right = same(value, schema["const"])
        if not right:
            self._say(path, f"expected {expected(schema)}, got {found(value)}")
        return right

    def _object(self, schema: dict[str, Any], value: dict[str, Any], path: tuple[str | int, ...]) -> None:
        properties: dict[str, Schema] = schema.get("properties", {})
        patterns: dict[str, Schema] = schema.get("patternProperties", {})
        rest: Schema = schema.get("additionalProperties", True)
        names: Schema = schema.get("propertyNames", True)
        for name in schema.get("required", ()):
            if name not in value:
                what = expected(properties.get(name))
                self._say(path, f"{named(name)} is missing{': expected ' if what else ''}{what}")
        for name, held in value.items():
            if names is not True and not self._fits(names, name):
                self._say(path, f"{named(name)} is no name that is allowed here")
            part = properties.get(name)
            known = part is not None
            if part is not None and part is not True:
                self.visit(part, held, (*path, name))
            for pattern, other in patterns.items():
                if re.search(pattern, name):
                    known = True
                    self.visit(other, held, (*path, name))
            if known or rest is True:
                continue
            if rest is False:
                self._say(path, _unknown(name, properties, value))
            else:
                self.visit(rest, held, (*path, name))
        if not _COUNTING.isdisjoint(schema):
            self._counted(schema, value, path)

    def _counted(self, schema: dict[str, Any], value: dict[str, Any], path: tuple[str | int, ...]) -> None:
        self._size(schema, "Properties", len(value), "entries", path)
        for name, others in schema.get("dependentRequired", {}).items():
            missing = [other for other in others if other not in value] if name in value else []
            if missing:
                self._say(path, f"{named(name)} needs {', '.join(map(named, missing))} beside it")
        for name, part in schema.get("dependentSchemas", {}).items():
            if name in value:
                self.visit(part, value, path)

    def _array(self, schema: dict[str, Any], value: list[Any], path: tuple[str | int, ...]) -> None:
        items: Any = schema.get("items", True)
        first: list[Schema] = schema.get("prefixItems", [])
        if isinstance(items, list):  # draft 7
            first, items = cast("list[Schema]", items), schema.get("additionalItems", True)
        for index, held in enumerate(value):
            if len(self.problems) >= MOST:
                return
            if index < len(first):
                self.visit(first[index], held, (*path, index))
            elif items is False:
                self._say(path, f"expected at most {len(first)} items, got {len(value)}")
                break
            elif items is not True:
                self.visit(items, held, (*path, index))
        self._size(schema, "Items", len(value), "items", path)
        if schema.get("uniqueItems") is True and len({_key(held) for held in value}) < len(value):
            self._say(path, "holds the same item twice")
        if "contains" in schema:
            count = sum(self._fits(schema["contains"], held) for held in value)
            least, most = schema.get("minContains", 1), schema.get("maxContains")
            if count < least or (most is not None and count > most):
                what = expected(schema["contains"])
                bound = f"at least {least}" if count < least else f"at most {most}"
                self._say(path, f"expected {bound} items that are {what or 'as the schema says'}, got {count}")

    def _string(self, schema: dict[str, Any], value: str, path: tuple[str | int, ...]) -> None:
        self._size(schema, "Length", len(value), "characters", path)
        pattern = schema.get("pattern")
        if pattern is not None and not re.search(pattern, value):
            self._say(path, f"expected text that matches {pattern!r}, got {found(value)}")

    def _number(self, schema: dict[str, Any], value: float, path: tuple[str | int, ...]) -> None:
        for key, words, fits in _BOUNDS:
            if key in schema and not fits(value, schema[key]):
                self._say(path, f"expected a number {words} {schema[key]}, got {found(value)}")

    def _size(self, schema: dict[str, Any], noun: str, size: int, words: str, path: tuple[str | int, ...]) -> None:
        least, most = schema.get(f"min{noun}"), schema.get(f"max{noun}")
        if least is not None and size < least:
            self._say(path, f"expected at least {least} {words}, got {size}")
        if most is not None and size > most:
            self._say(path, f"expected at most {most} {words}, got {size}")

    def _combined(self, schema: dict[str, Any], value: Any, path: tuple[str | int, ...]) -> None:
        for part in schema.get("allOf", ()):
            self.visit(part, value, path)
        if "anyOf" in schema:
            self._any(schema, schema["anyOf"], value, path)
        if "oneOf" in schema and self._any(schema, schema["oneOf"], value, path):
            fitting = [part for part in schema["oneOf"] if self._fits(part, value)]
            if len(fitting) > 1:
                self._say(path, f"fits {len(fitting)} alternatives where exactly one is wanted")
        if "not" in schema and self._fits(schema["not"], value):
            self._say(path, f"must not be {expected(schema['not']) or found(value)}")
        if "if" in schema:
            then = "then" if self._fits(schema["if"], value) else "else"
            self.visit(schema.get(then, True), value, path)

    def _any(self, schema: dict[str, Any], parts: list[Schema], value: Any, path: tuple[str | int, ...]) -> bool:
        """Whether an alternative fits. If none does, tell of the one that was meant, as far as that can be seen."""
        meant: list[list[str]] = []
        here = f"{place(path)}: expected"
        for part in parts:
            problems = self._trial(part, value, path)
            if not problems:
                return True
            if not problems[0].startswith(here) and not self._is_tagged_otherwise(part, value):
                meant.append(problems)  # it is of the right kind, and something in it is wrong
        if len(meant) == 1:
            self.problems += meant[0]
        else:
            self._say(path, f"expected {expected(schema) or 'one of several forms'}, got {found(value)}")
        return False

    def _is_tagged_otherwise(self, part: Schema, value: Any) -> bool:
        """Whether the alternative wants another word in a key that tells the alternatives from each other."""
        while isinstance(part, dict) and "$ref" in part:
            part = resolve(self._top, part["$ref"])
        if not isinstance(part, dict) or not isinstance(value, dict):
            return False
        held = cast("dict[str, Any]", value)
        properties: dict[str, Any] = part.get("properties", {})
        return any(
            isinstance(wanted, dict)
            and name in held
            and ("const" in wanted or len(cast("dict[str, list[Any]]", wanted).get("enum", ())) == 1)
            and bool(self._trial(cast("dict[str, Any]", wanted), held[name], ()))
            for name, wanted in properties.items()
        )


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON: 1 is 1.0, and is not true."""
    if type(one) is str or type(other) is str:
        return one == other
    return _key(one) == _key(other)


def _key(value: Any) -> bytes:
    return msgspec.json.encode(_normal(value), order="deterministic")


def _normal(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        return {key: _normal(held) for key, held in cast("dict[str, Any]", value).items()}
    return [_normal(held) for held in cast("list[Any]", value)] if isinstance(value, list) else value


def _is_a(value: Any, kinds: str | list[str]) -> bool:
    return any(_IS[kind](value) for kind in ((kinds,) if isinstance(kinds, str) else kinds))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return value.is_integer() if isinstance(value, float) else isinstance(value, int) and not isinstance(value, bool)


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


_IS: Final[dict[str, Callable[[Any], bool]]] = {
    "string": _is(str),
    "boolean": _is(bool),
    "null": _is(type(None)),
    "array": _is(list),
    "object": _is(dict),
    "number": _is_number,
    "integer": _is_integer,
}


def _is_multiple(value: float, step: float) -> bool:
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    try:
        share = value / step
    except OverflowError:
        return False
    return abs(share - round(share)) < 1e-9 * max(1.0, abs(share)) if abs(share) < 1e300 else False


def _unknown(name: str, properties: Mapping[str, Schema], value: Mapping[str, Any]) -> str:
    near = get_close_matches(name[:100], [each for each in properties if each not in value], 1, 0.5)
    if near:
        return f"there is no {named(name)}; did you mean {named(near[0])}?"
    return f"there is no {named(name)}; there are {', '.join(list(properties)[:40]) or 'none'}"


_COMBINING: Final = frozenset(("allOf", "anyOf", "oneOf", "not", "if"))
_COUNTING: Final = frozenset(("minProperties", "maxProperties", "dependentRequired", "dependentSchemas"))
_BOUNDS: Final[tuple[tuple[str, str, Callable[[float, float], bool]], ...]] = (
    ("minimum", ">=", operator.ge),
    ("exclusiveMinimum", ">", operator.gt),
    ("maximum", "<=", operator.le),
    ("exclusiveMaximum", "<", operator.lt),
    ("multipleOf", "that is a multiple of", _is_multiple),
)
