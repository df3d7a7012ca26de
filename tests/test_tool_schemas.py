"""Schemas of tools and what is accepted for them: types, docstrings, schemas that were given, and hostile arguments."""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import json
import re
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, Required, TypedDict, TypeVar

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given
from typing_extensions import TypeAliasType

from greenroom import Agent, RunContext, System, Tool, ToolCallInvalid, tool
from greenroom.agents.machine import UNUSABLE, Begin, Finish, Machine, Replied, Rules, StopAsked
from greenroom.providers import (
    FunctionSchema,
    ModelReply,
    Scripted,
    ToolCall,
    ToolResult,
    assistant,
    call,
    describe,
    user,
    validate,
)
from greenroom.providers.function_arguments import MAX_SIZE
from greenroom.providers.json_schema import check
from greenroom.providers.schema_reading import read_schema
from greenroom.testing import FORMATS, StrictServer

pytestmark = pytest.mark.anyio

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Node:
    """A node of a tree.

    Attributes:
        value: what it holds.
        children: those below it.
    """

    value: Annotated[int, msgspec.Meta(ge=0)]
    children: list[Node] = field(default_factory=list)


class Options(TypedDict, total=False):
    """How to do it."""

    level: Required[int]
    label: Annotated[str, "what to call it", msgspec.Meta(max_length=3)]


class Full(TypedDict):
    a: int
    b: NotRequired[int]


class Point(NamedTuple):
    x: int
    y: int = 0


class Box(msgspec.Struct, Generic[T], rename="camel"):
    the_item: T


def everything(
    node: Node,
    options: Options,
    full: Full,
    point: Point,
    box: Box[int],
    when: datetime.datetime,
    day: datetime.date,
    key: uuid.UUID,
    price: decimal.Decimal,
    raw: bytes,
    numbers: list[Annotated[int, msgspec.Meta(gt=0)]],
    names: Annotated[list[str], msgspec.Meta(min_length=1, max_length=2), "one name or two"],
    pair: tuple[int, str],
    share: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.5,
    *,
    either: int | str | None = None,
    twins: tuple[int, int] = (1, 2),
    color: Color = Color.RED,
    anything: list | None = None,  # type: ignore[type-arg]
    level: Literal["low", "high"] = "low",
) -> None:
    """Do everything.

    Args:
        node: where to begin.
        color: which colour,
            as a word.
    """


GOOD: dict[str, Any] = {
    "node": {"value": 1, "children": [{"value": 2}]},
    "options": {"level": 1},
    "full": {"a": 1},
    "point": [1],
    "box": {"theItem": 1},
    "when": "2026-01-02T03:04:05",
    "day": "2026-01-02",
    "key": "12345678-1234-5678-1234-567812345678",
    "price": "1.50",
    "raw": "YWJj",
    "numbers": [1],
    "names": ["a"],
    "pair": [1, "a"],
}
EVERYTHING = describe(everything)


def test_every_type_is_described() -> None:
    """Constraints, descriptions and formats of all the types; what is nested is under ``$defs``."""
    schema = EVERYTHING.parameters
    shown = schema["properties"]
    assert list(shown) == list(everything.__annotations__)[:-1]
    assert schema["required"] == list(GOOD)
    assert shown["node"] == {"$ref": "#/$defs/Node", "description": "where to begin."}
    assert shown["when"] == {"type": "string", "format": "date-time"}
    assert shown["day"] == {"type": "string", "format": "date"}
    assert shown["key"] == {"type": "string", "format": "uuid"}
    assert shown["raw"] == {"type": "string", "contentEncoding": "base64"}
    assert shown["numbers"] == {"type": "array", "items": {"type": "integer", "exclusiveMinimum": 0}}
    assert shown["names"] == {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "maxItems": 2,
        "description": "one name or two",
    }
    assert shown["share"] == {"type": "number", "minimum": 0, "exclusiveMaximum": 1, "default": 0.5}
    assert shown["twins"] == {
        "type": "array",
        "items": {"type": "integer"},
        "minItems": 2,
        "maxItems": 2,
        "default": [1, 2],
    }
    assert shown["color"] == {"$ref": "#/$defs/Color", "description": "which colour, as a word.", "default": "red"}
    assert shown["anything"] == {"anyOf": [{"type": "array", "items": {}}, {"type": "null"}], "default": None}
    assert shown["level"] == {"type": "string", "enum": ["high", "low"], "default": "low"}
    assert shown["pair"]["prefixItems"] == [{"type": "integer"}, {"type": "string"}]
    assert shown["pair"]["items"] == {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    assert schema["$defs"]["Color"] == {"type": "string", "enum": ["blue", "red"]}
    assert schema["$defs"]["Node"] == {
        "type": "object",
        "description": "A node of a tree.",
        "properties": {
            "value": {"type": "integer", "minimum": 0, "description": "what it holds."},
            "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}, "description": "those below it."},
        },
        "required": ["value"],
        "additionalProperties": False,
    }
    assert schema["$defs"]["Options"] == {
        "type": "object",
        "description": "How to do it.",
        "properties": {
            "level": {"type": "integer"},
            "label": {"type": "string", "maxLength": 3, "description": "what to call it"},
        },
        "required": ["level"],
        "additionalProperties": False,
    }
    assert schema["$defs"]["Full"]["required"] == ["a"]


def subschemas(schema: Any) -> list[dict[str, Any]]:
    if isinstance(schema, list):
        return [found for each in schema for found in subschemas(each)]
    if not isinstance(schema, dict):
        return []
    return [schema, *(found for each in schema.values() for found in subschemas(each))]


def test_schemas_are_what_providers_accept() -> None:
    """Objects are closed, arrays say what they hold, enums of what type they are; no titles, no foreign references."""
    found = subschemas(EVERYTHING.parameters)
    assert all(part.get("additionalProperties") is False for part in found if part.get("type") == "object")
    assert all("items" in part for part in found if part.get("type") == "array")
    assert all("type" in part for part in found if "enum" in part)
    assert not any(isinstance(part.get("title"), str) for part in found)
    references = {part["$ref"] for part in found if "$ref" in part}
    assert references == {f"#/$defs/{name}" for name in EVERYTHING.parameters["$defs"]}
    assert read_schema(EVERYTHING.parameters) == EVERYTHING.parameters


def test_a_schema_is_the_same_in_every_process() -> None:
    """Caches of prompts work by their beginning, so the order is fixed."""
    lines = (
        "import json, typing\n"
        "from greenroom.providers import describe\n"
        "def f(a: typing.Literal['x', 'b', 'c'], b: set[int] | str | None, c: dict[str, list[int]]): ...\n"
        "print(json.dumps(describe(f).parameters))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", lines], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outputs) == 1
    assert outputs.pop().startswith("{")


@pytest.mark.parametrize("family", sorted(FORMATS))
async def test_every_provider_accepts_every_schema(family: str) -> None:
    """A strict server of each family takes the schema of all types, and the arguments come back as their types."""
    seen: list[Any] = []

    @functools.wraps(everything)
    def noted(**arguments: Any) -> str:
        seen.append(arguments)
        return "done"

    made = tool(name="everything")(noted)
    async with StrictServer(family, [[call("everything", **GOOD)], "fine"]) as server:
        result = await Agent("a", server.provider(), tools=[made]).run("go")
    assert (result.output, server.refusals) == ("fine", [])
    [arguments] = seen
    assert arguments["node"] == Node(1, [Node(2)])
    assert arguments["point"] == Point(1, 0)
    assert arguments["when"] == datetime.datetime.fromisoformat(GOOD["when"])
    assert (arguments["price"], arguments["raw"]) == (decimal.Decimal("1.50"), b"abc")
    assert (arguments["color"], arguments["twins"]) == (Color.RED, (1, 2))


def told(schema: FunctionSchema, **changes: Any) -> str:
    """What the model is told; the same for text and for values."""
    arguments = {**GOOD, **changes} if schema is EVERYTHING else changes
    texts: list[str] = []
    for raw in (json.dumps(arguments), arguments):
        with pytest.raises(ValueError, match=f"^invalid arguments for {schema.name}:") as caught:
            validate(schema, raw)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    return texts[0].removeprefix(f"invalid arguments for {schema.name}:").strip()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"node": {"value": -1}}, "$.node.value: expected a number >= 0, got an integer (-1)"),
        ({"node": {"value": 1, "childs": []}}, "$.node: there is no 'childs'; did you mean 'children'?"),
        ({"options": {}}, "$.options: 'level' is missing: expected an integer"),
        ({"options": {"level": 1, "label": "long"}}, "$.options.label: expected at most 3 characters, got 4"),
        ({"full": {"a": 1, "c": 2}}, "$.full: there is no 'c'; there are a, b"),
        ({"point": []}, "$.point: expected at least 1 items, got 0"),
        ({"box": {"the_item": 1, "theItem": 2}}, "$.box: there is no 'the_item'; there are theItem"),
        ({"names": []}, "$.names: expected at least 1 items, got 0"),
        ({"numbers": [1, 0]}, "$.numbers[1]: expected a number > 0, got an integer (0)"),
        ({"pair": [1]}, "$.pair: expected at least 2 items, got 1"),
        ({"color": "rd"}, '$.color: expected one of "blue", "red", got a string ("rd")'),
        ({"either": []}, "$.either: expected an integer, a string or null, got an empty array"),
        ({"level": None}, '$.level: expected one of "high", "low", got null'),
        ({"share": True}, "$.share: expected a number, got true"),
        ({"colour": "red"}, "$: there is no 'colour'; did you mean 'color'?"),
        ({"when": "today"}, "Invalid RFC3339 encoded datetime - at `$.when`"),
        ({"key": "x"}, "Invalid UUID - at `$.key`"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_was_wanted(changes: dict[str, Any], words: str) -> None:
    """Scenario 68: path, what was expected, what was found, the nearest name."""
    assert told(EVERYTHING, **changes) == words


def test_all_mistakes_are_told_at_once_and_no_novel() -> None:
    """A model mends in one turn what it is told in one; the text stays short, whatever was sent."""
    text = told(EVERYTHING, node={"value": "x"}, numbers=["a"], pair=3, nodes="y" * 5000)
    assert [line.partition(":")[0] for line in text.splitlines()] == [
        "- $.node.value",
        "- $.numbers[0]",
        "- $.pair",
        "- $",
    ]
    assert len(told(EVERYTHING, numbers=["z" * 9000] * 100, **{"k" * 9000: 1, "w" * 9000: 2})) < 3000


# annotated_types and pydantic, where they are installed.


def test_constraints_of_annotated_types() -> None:
    """They hold at the top, inside of collections, and in the fields of a class, alone and in groups."""
    at = pytest.importorskip("annotated_types")

    @dataclass
    class Held:
        code: Any
        count: Any

    def keep(held: Any, names: Any, share: Any, numbers: Any = None) -> None:
        """Keep."""

    Held.__annotations__ = {"code": Annotated[str, at.MaxLen(2)], "count": Annotated[int, at.Ge(1), at.MultipleOf(2)]}
    keep.__annotations__ = {
        "held": Held,
        "names": Annotated[list[str], at.Len(1, 2), "one or two"],
        "share": Annotated[float, at.Interval(ge=0, lt=1)],
        "numbers": dict[str, Annotated[int, at.Gt(0)]] | None,
    }
    schema = describe(keep)
    shown = schema.parameters["properties"]
    assert schema.parameters["$defs"]["Held"]["properties"] == {
        "code": {"type": "string", "maxLength": 2},
        "count": {"type": "integer", "minimum": 1, "multipleOf": 2},
    }
    assert (shown["names"]["minItems"], shown["names"]["maxItems"], shown["names"]["description"]) == (
        1,
        2,
        "one or two",
    )
    assert shown["share"] == {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
    assert shown["numbers"]["anyOf"][0]["additionalProperties"] == {"type": "integer", "exclusiveMinimum": 0}
    good: dict[str, Any] = {"held": {"code": "ab", "count": 2}, "names": ["a"], "share": 0.5, "numbers": {"a": 1}}
    assert validate(schema, json.dumps(good))["held"] == Held("ab", 2)
    for changes, words in (
        ({"held": {"code": "abc", "count": 2}}, "$.held.code: expected at most 2 characters, got 3"),
        ({"held": {"code": "ab", "count": 3}}, "$.held.count: expected a number that is a multiple of 2"),
        ({"names": []}, "$.names: expected at least 1 items"),
        ({"share": 1}, "$.share: expected a number < 1"),
        ({"numbers": {"a": 0}}, "$.numbers.a: expected a number > 0"),
    ):
        assert words in told(schema, **{**good, **changes})


def test_pydantic_reads_its_own_types() -> None:
    """Models, constrained types and ``Field``, in annotations and as defaults; definitions are with the others."""
    pydantic = pytest.importorskip("pydantic")

    class Part(pydantic.BaseModel):  # type: ignore[name-defined, misc]
        """A part."""

        number: int = pydantic.Field(ge=1, description="its number")
        below: list[Part] = pydantic.Field(default_factory=list)
        code: str = "a"

        @pydantic.field_validator("code")
        @classmethod
        def short(cls, code: str) -> str:
            assert len(code) < 3, "the code is too long"
            return code

    deep = pydantic.Field(2, description="how deep")

    def build(part: Any, parts: Any, count: Any, size: Any = 1, depth: Any = deep) -> None:
        """Build.

        Args:
            part: the first part.
        """

    build.__annotations__ = {
        "part": Part,
        "parts": dict[str, Part] | None,
        "count": pydantic.PositiveInt,
        "size": Annotated[int, pydantic.Field(le=9, description="how large")],
        "depth": int,
    }
    namespace = {"Part": Part}
    Part.model_rebuild(_types_namespace=namespace)
    schema = describe(build)
    shown = schema.parameters["properties"]
    assert shown["part"] == {"$ref": "#/$defs/Part", "description": "the first part."}
    assert shown["count"] == {"type": "integer", "exclusiveMinimum": 0}
    assert shown["size"] == {"type": "integer", "maximum": 9, "description": "how large", "default": 1}
    assert shown["depth"] == {"type": "integer", "description": "how deep", "default": 2}
    assert schema.parameters["required"] == ["part", "parts", "count"]
    found = schema.parameters["$defs"]["Part"]
    assert found["properties"]["number"] == {"type": "integer", "minimum": 1, "description": "its number"}
    assert (found["additionalProperties"], "title" in found) == (False, False)
    good: dict[str, Any] = {"part": {"number": 1, "below": [{"number": 2}]}, "parts": {"a": {"number": 3}}, "count": 4}
    for raw in (good, json.dumps(good)):
        made = validate(schema, raw)
        assert made == {
            "part": Part(number=1, below=[Part(number=2)]),
            "parts": {"a": Part(number=3)},
            "count": 4,
            "size": 1,
            "depth": 2,
        }
        assert type(made["part"]) is Part
    for changes, words in (
        ({"part": {"number": 0}}, "$.part.number: expected a number >= 1, got an integer (0)"),
        ({"part": {"numbr": 1}}, "$.part: 'number' is missing: expected an integer"),
        ({"part": {"number": 1, "x": 2}}, "$.part: there is no 'x'; there are number, below, code"),
        ({"size": 10}, "$.size: expected a number <= 9, got an integer (10)"),
        ({"part": {"number": 1, "code": "abc"}}, "code: Assertion failed, the code is too long"),
    ):
        assert words in told(schema, **{**good, **changes})


def test_types_of_pydantic_and_msgspec_do_not_mix() -> None:
    pydantic = pytest.importorskip("pydantic")
    made = pydantic.create_model("Made", n=(int, ...))

    def mixed(a: Any) -> None:
        """Mixed."""

    mixed.__annotations__ = {"a": dict[str, made | Box[int]]}
    with pytest.raises(TypeError, match=r"mixed\(\): parameter 'a' .* pydantic cannot read as a whole: use types of"):
        describe(mixed)


def test_pydantic_is_not_imported_for_it() -> None:
    lines = (
        "import sys\nfrom greenroom import tool\n"
        "@tool\ndef f(a: int, b: list[str] | None = None):\n    'F.'\n"
        "print('pydantic' in sys.modules, 'jsonschema' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["False", "False"]


# Schemas that were given.

SEARCH: dict[str, Any] = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "minLength": 1},
        "limit": {"type": "integer", "minimum": 1, "maximum": 50},
        "filter": {"$ref": "#/$defs/Filter"},
    },
    "required": ["query"],
    "$defs": {
        "Filter": {
            "oneOf": [
                {"type": "object", "properties": {"tag": {"type": "string"}}, "required": ["tag"]},
                {
                    "type": "object",
                    "properties": {"all": {"type": "array", "items": {"$ref": "#/$defs/Filter"}}},
                    "required": ["all"],
                },
            ]
        }
    },
}


def search(query: str, limit: int = 10, filter: Any = None) -> str:
    return f"{query} {limit} {filter}"


async def test_a_given_schema_is_sent_as_it_is_and_checked() -> None:
    """The function gets keyword arguments, as JSON has them; nothing runs that does not fit."""
    given_ = json.loads(json.dumps(SEARCH))
    made = Tool.from_schema("search", "Search.", SEARCH, search, timeout=3, where="loop", max_result=500)
    assert made.spec.parameters == {**SEARCH, "additionalProperties": False}
    assert given_ == SEARCH
    assert (made.name, made.spec.description, made.timeout, made.where, made.max_result) == (
        "search",
        "Search.",
        3,
        "loop",
        500,
    )
    provider = Scripted(
        [call("search", query="x", filter={"all": [{"tag": "a"}]}), call("search", query="", limit=99, lmit=3)], "done"
    )
    async with System():
        await Agent("a", provider, tools=[made]).run("go")
    first, second = (message.tool_results[0] for message in provider.requests[1].messages[-2:])
    assert first.content == "x 10 {'all': [{'tag': 'a'}]}"
    assert (second.cause, second.content.splitlines()[1:]) == (
        "invalid",
        [
            "- $.query: expected at least 1 characters, got 0",
            "- $.limit: expected a number <= 50, got an integer (99)",
            "- $: there is no 'lmit'; there are query, limit, filter",
        ],
    )


def test_a_given_schema_and_the_context() -> None:
    def act(context: RunContext[str], **options: Any) -> str:
        return context.deps + str(options)

    made = Tool.from_schema("act", "", {"properties": {"a-b": {"type": "integer"}}}, act)
    assert made.context_parameter == "context"
    assert made.spec.parameters == {"type": "object", "properties": {"a-b": {"type": "integer"}}}
    assert made.arguments(ToolCall("c", "act", {"a-b": 1}, '{"a-b": 1, "more": 2}')) == {"a-b": 1, "more": 2}
    with pytest.raises(ValueError, match="'a-b' is given twice"):
        made.arguments(ToolCall("c", "act", {"a-b": 1}, '{"a-b": 1, "a-b": 2}'))


def positional(query: str, /) -> None:
    pass


def needs(query: str, other: int) -> None:
    pass


def contextual(query: RunContext[None]) -> None:
    pass


@pytest.mark.parametrize(
    ("schema", "function", "error", "words"),
    [
        ([], search, TypeError, r"search\(\): a JSON schema is a dictionary, not \[\]"),
        ({"a": object()}, search, TypeError, "something that JSON does not have"),
        ({"type": "array"}, search, ValueError, "must be that of an object, with 'type': 'object', not 'array'"),
        ({"properties": []}, search, ValueError, "'properties' must be a dictionary"),
        ({"properties": {"query": 3}}, search, ValueError, "#/properties/query of the JSON schema must be a schema"),
        ({"properties": {"query": {"type": "text"}}}, search, ValueError, "the type 'text'; the types are string"),
        ({"properties": {"query": {"minLength": "1"}}}, search, ValueError, "minLength .* must be a whole number"),
        ({"properties": {"query": {"pattern": "("}}}, search, ValueError, "a pattern that Python does not know"),
        ({"properties": {"query": {"anyOf": {}}}}, search, ValueError, "anyOf of the JSON schema must be a list"),
        ({"properties": {"query": {"$ref": "#/$defs/X"}}}, search, ValueError, "'#/\\$defs/X' points at nothing"),
        ({"properties": {"query": {"$ref": "https://x/y"}}}, search, ValueError, "leads out of the JSON schema"),
        (
            {"properties": {"query": {"$ref": "#/$defs/X"}}, "$defs": {"X": {"$ref": "#/$defs/X"}}},
            search,
            ValueError,
            "leads back to itself",
        ),
        ({"unevaluatedProperties": False}, search, ValueError, "'unevaluatedProperties', which cannot be checked"),
        ({"properties": {"town": {}}}, search, TypeError, "the schema has 'town', which the function does not take"),
        ({"properties": {"query": {}}}, search, TypeError, "'query' is not required by the schema: give the parameter"),
        ({"properties": {"query": {}}, "required": ["query"]}, needs, TypeError, "has no 'other', which the function"),
        ({"properties": {}}, positional, TypeError, "'query' is positional-only"),
        ({"properties": {"query": {}}}, contextual, TypeError, "the schema has 'query', which the function does not"),
    ],
)
def test_a_schema_that_cannot_work_says_so_when_the_tool_is_made(
    schema: Any, function: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        Tool.from_schema("search", "Search.", schema, function)
    assert "\n" not in str(caught.value)


def test_options_and_names_of_a_given_schema() -> None:
    with pytest.raises(ValueError, match="cannot be called 'my search'"):
        Tool.from_schema("my search", "", SEARCH, search)
    with pytest.raises(ValueError, match="cannot be called ''"):
        Tool.from_schema("", "", SEARCH, search)
    with pytest.raises(TypeError, match="made of a function, not of 3"):
        Tool.from_schema("search", "", SEARCH, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timeout must be above 0"):
        Tool.from_schema("search", "", SEARCH, search, timeout=0)


# The check of values.

KEYWORDS: list[tuple[dict[str, Any] | bool, list[Any], list[Any]]] = [
    ({"type": ["string", "null"]}, ["a", None], [1, [], {}]),
    ({"type": "integer"}, [1, 1.0], [1.5, True, "1"]),
    ({"const": {"a": [1]}}, [{"a": [1.0]}], [{"a": [True]}, {}]),
    ({"enum": [1, "a", None]}, [1.0, "a", None], [True, "b", 0]),
    ({"multipleOf": 0.1}, [0.3, 2, "x"], [0.35]),
    ({"multipleOf": 3}, [9, -3], [10]),
    ({"exclusiveMinimum": 1, "exclusiveMaximum": 3}, [2], [1, 3]),
    ({"pattern": "^a+$", "maxLength": 2}, ["a", "aa", 3], ["b", "aaa"]),
    ({"uniqueItems": True}, [[1, True, "1"]], [[1, 1.0], [{"a": 1}, {"a": 1}]]),
    ({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, [["a", 1], []], [[1], ["a", "b"]]),
    ({"items": [{"type": "string"}], "additionalItems": False}, [["a"]], [["a", 1], [1]]),
    ({"contains": {"const": 1}, "maxContains": 2}, [[1, 0], [1, 1]], [[], [0], [1, 1, 1]]),
    ({"propertyNames": {"pattern": "^[a-z]+$"}, "minProperties": 1}, [{"a": 1}], [{}, {"A": 1}]),
    (
        {"patternProperties": {"^n": {"type": "integer"}}, "additionalProperties": False},
        [{"n1": 1}],
        [{"n": "x"}, {"m": 1}],
    ),
    ({"additionalProperties": {"type": "integer"}, "properties": {"a": {}}}, [{"a": "x", "b": 1}], [{"b": "x"}]),
    ({"dependentRequired": {"a": ["b"]}}, [{"a": 1, "b": 2}, {}], [{"a": 1}]),
    ({"dependentSchemas": {"a": {"required": ["c"]}}}, [{"a": 1, "c": 2}, {}], [{"a": 1}]),
    ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, [1, 2], [0, 3]),
    ({"oneOf": [{"multipleOf": 2}, {"multipleOf": 3}]}, [2, 3], [1, 6]),
    ({"not": {"type": "string"}}, [1], ["a"]),
    ({"if": {"type": "string"}, "then": {"minLength": 2}, "else": {"minimum": 5}}, ["ab", 5], ["a", 4]),
    (True, [1, None], []),
    (False, [], [1, None]),
]


@pytest.mark.parametrize(("schema", "good", "bad"), KEYWORDS)
def test_each_keyword(schema: Any, good: list[Any], bad: list[Any]) -> None:
    top = read_schema({"properties": {"v": schema}})
    assert [value for value in good if check(top, {"v": value})] == []
    assert [value for value in bad if not check(top, {"v": value})] == []
    assert all(line.startswith("$.v") for value in bad for line in check(top, {"v": value}))


def test_of_alternatives_the_one_that_was_meant_is_told() -> None:
    top = read_schema(
        {"properties": {"v": {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]}}}
    )
    assert check(top, {"v": [1, "a"]}) == ['$.v[1]: expected an integer, got a string ("a")']
    assert check(top, {"v": "a"}) == ['$.v: expected an array or null, got a string ("a")']


def keep_any(value: Any) -> None:
    """Keep anything."""


@pytest.mark.parametrize("depth", [190, 300])
@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_the_depth_is_bounded_the_same_for_text_and_values(depth: int, begin: str, end: str) -> None:
    """Scenario 68: whatever the decoder of the day can bear, and however deep the stack is already."""
    times = depth // (2 if len(end) == 2 else 1)
    raw = f'{{"value": {begin * times}1{end * times}}}'
    for one in (raw, json.loads(raw)):
        if depth < 200:
            assert validate(describe(keep_any), one)
        else:
            with pytest.raises(ValueError, match="nested too deeply: at most 200 levels"):
                validate(describe(keep_any), one)


@dataclass
class Talkative:
    name: str

    def __post_init__(self) -> None:
        raise LookupError(self.name * 100)


def test_what_a_type_says_when_it_refuses_is_clipped() -> None:
    def keep(it: Any) -> None:
        """Keep."""

    keep.__annotations__ = {"it": Talkative}
    assert len(told(describe(keep), it={"name": "x" * 100})) < 600


class Cat(msgspec.Struct, tag="cat"):
    lives: int


class Dog(msgspec.Struct, tag="dog"):
    name: str


Pets = TypeAliasType("Pets", list[Cat | Dog] | None)


def test_keys_of_alternatives_are_closed_and_told_by_their_tag() -> None:
    """A union that may be null does not open the objects in it, and an alias stands for what it means."""

    def keep(pets: Any, one: Any = None, other: Any = None) -> None:
        """Keep."""

    keep.__annotations__ = {"pets": Pets, "one": Cat | Dog | None, "other": Color | Node}
    schema = describe(keep)
    assert validate(schema, {"pets": [{"type": "cat", "lives": 9}], "one": None})["pets"] == [Cat(9)]
    assert told(schema, pets=None, other={"value": 1, "extra": 2}).startswith("$.other: there is no 'extra'")
    assert validate(schema, {"pets": None, "other": "red"})["other"] is Color.RED
    extra = {"type": "dog", "name": "a", "lives": 1}
    assert told(schema, pets=[extra]) == "$.pets[0]: there is no 'lives'; there are type, name"
    assert told(schema, pets=None, one=extra) == "$.one: there is no 'lives'; there are type, name"
    assert told(schema, pets=None, one={"type": "cat"}) == "$.one: 'lives' is missing: expected an integer"


def test_a_check_is_bounded() -> None:
    """Alternatives of alternatives would double the work with every level: it ends, and the value is refused."""
    inner = {"anyOf": [{"properties": {"a": {"$ref": "#/$defs/n"}}}, {"properties": {"a": {"$ref": "#/$defs/n"}}}]}
    top = read_schema({"properties": {"v": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "object", **inner}}})
    value: Any = 3
    for _ in range(60):
        value = {"a": value}
    assert check(top, {"v": value}) == ["$: too large to be checked: send less"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*GOOD, "either", "nobody"]), json_values, max_size=4))
def test_the_schema_and_the_decoder_agree(changes: dict[str, Any]) -> None:
    """What is accepted fits the schema. Some texts fit it and are refused, being no date, UUID or base64."""
    arguments = {**GOOD, **changes}
    try:
        validate(EVERYTHING, json.dumps(arguments))
    except ValueError:
        return
    if not isinstance(arguments["price"], int | float):  # a decimal may come as a number too
        assert check(EVERYTHING.parameters, arguments) == []


GIVEN = Tool.from_schema("search", "", SEARCH, search)


@given(st.text() | st.dictionaries(st.sampled_from(["query", "limit", "filter", "x"]), json_values, max_size=3))
def test_a_given_schema_raises_nothing_but_a_value_error(raw: Any) -> None:
    """Whatever a model sends, it is told in bounded words."""
    text, values = (raw, None) if isinstance(raw, str) else (json.dumps(raw), raw)
    for one in (ToolCall("c", "search", values, text), ToolCall("c", "search", values)):
        try:
            GIVEN.arguments(one)
        except ValueError as error:
            told_ = str(error)
            assert 0 < len(told_) < 5000


# Whole runs.


def write(path: str, text: str = "", mode: Literal["w", "a"] = "w") -> str:
    """Write a file."""
    raise AssertionError("nothing may run")


def raw_call(raw: str) -> ToolCall:
    try:
        arguments = json.loads(raw)
    except (ValueError, RecursionError):
        arguments = None
    return ToolCall("c", "write", arguments if isinstance(arguments, dict) else None, raw)


HOSTILE: Mapping[str, tuple[str, str]] = {
    "no JSON": ('{"path": ', "are not valid JSON"),
    "no object": ("[1]", "expected an object, got an array of 1 item"),
    "wrong type": ('{"path": 3}', r"\$.path: expected a string, got an integer \(3\)"),
    "extra key": ('{"path": "x", "pth": 1}', "there is no 'pth'; there are path, text, mode"),
    "typo": ('{"pathh": "x"}', "there is no 'pathh'; did you mean 'path'?"),
    "missing key": ("{}", "'path' is missing: expected a string"),
    "NaN": ('{"path": NaN}', "are not valid JSON"),
    "Infinity": ('{"path": "x", "text": -Infinity}', "are not valid JSON"),
    "lone surrogate": ('{"path": "\\ud800"}', "are not valid JSON"),
    "half a pair": ('{"path": "\ud800"}', "hold half a surrogate pair"),
    "10 MB": (json.dumps({"path": "x" * 10_000_000}), "10000012 bytes are too much: at most 4000000"),
    "depth 1,000": ('{"path": ' + "[" * 1000 + "]" * 1000 + "}", "(nested too deeply|expected a string)"),
    "keys twice": ('{"path": "a", "path": "b"}', "the key 'path' is given twice"),
    "wrong choice": ('{"path": "a", "mode": "x"}', 'expected one of "a", "w", got a string'),
}


@pytest.mark.parametrize("given_schema", [False, True])
@pytest.mark.parametrize("kind", HOSTILE)
async def test_hostile_arguments_never_run_a_tool(kind: str, given_schema: bool) -> None:
    """Scenario 68: no call; one error result for the model that says what to mend, bounded; the run goes on."""
    raw, words = HOSTILE[kind]
    made = Tool.from_schema("write", "", describe(write).parameters, write) if given_schema else tool(write)
    provider = Scripted(assistant(tool_calls=[raw_call(raw)]), "sorry")
    async with System():
        result = await Agent("a", provider, tools=[made]).run("go")
    [answer] = provider.requests[1].messages[-1].tool_results
    assert (result.output, answer.cause, answer.is_error) == ("sorry", "invalid", True)
    assert len(answer.content) < 1000
    assert re.search(words, answer.content)


def test_values_that_did_not_come_as_text_are_bounded_as_well() -> None:
    """A format that sends objects has no text to measure."""
    with pytest.raises(ValueError, match=f"4000005 bytes are too much: at most {MAX_SIZE}"):
        tool(write).arguments(ToolCall("c", "write", {"path": "x" * (MAX_SIZE + 1)}))
    with pytest.raises(ValueError, match="not a JSON object"):
        tool(write).arguments(ToolCall("c", "write", None, ""))


@pytest.mark.parametrize("retries", [0, 3])
async def test_calls_that_cannot_run_are_bounded(retries: int) -> None:
    """Scenario 68: the count of such retries is bounded; the history is whole and the error says what was wrong."""
    wrong = [call("write", path=3), call("nobody")]
    provider = Scripted(*[wrong] * 10)
    agent = Agent("a", provider, tools=[write], tool_retries=retries)
    async with System():
        with pytest.raises(
            ToolCallInvalid, match=rf"{retries + 1} turns in a row: raise tool_retries=.*no tool"
        ) as caught:
            await agent.run("go")
    assert len(provider.requests) == retries + 1
    result = caught.value.result
    assert result is not None
    assert (result.status, result.reason) == ("failed", "error")
    asked = [part.id for message in result.messages for part in message.tool_calls]
    assert asked == [part.call_id for message in result.messages for part in message.tool_results]


async def test_a_call_that_runs_makes_good_for_those_before_it() -> None:
    """Only turns in a row count, and only those in which nothing could run; a stop is not overruled."""

    def fine() -> str:
        """Fine."""
        return "ok"

    wrong = [call("write", path=3)]
    provider = Scripted(wrong, [call("write", path=3), call("fine")], wrong, "done")
    async with System():
        result = await Agent("a", provider, tools=[write, fine], tool_retries=1).run("go")
    assert result.output == "done"


def test_a_stop_is_not_overruled_by_calls_that_cannot_run() -> None:
    """Who asked for the end gets it, with its own reason."""

    def refuse(call: ToolCall) -> ToolResult:
        return ToolResult(call.id or "", "no", call.name, True, "invalid")

    machine = Machine(Rules(refuse, lambda message: message.text, tool_retries=0), (), (user("x"),))
    machine.handle(Begin())
    machine.handle(StopAsked("after_turn", "user"))
    [finish] = machine.handle(Replied(ModelReply(assistant(tool_calls=[ToolCall("c", "f", {}, "{}")]))))
    assert finish == Finish("stopped", "user")


@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), (True, TypeError), ("3", TypeError)])
def test_tool_retries_must_be_a_number(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="tool_retries must be"):
        Agent("a", Scripted("x"), tool_retries=value)
    assert set(UNUSABLE) == {"invalid", "unknown_tool"}
