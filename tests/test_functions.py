"""Functions as tools: schemas and validation."""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import Doc

from greenroom.providers import describe, validate
from greenroom.providers.openai_messages import parse_arguments


class Unit(enum.Enum):
    C = "celsius"
    F = "fahrenheit"


@dataclass
class Place:
    name: str
    zip: int | None = None


class Box(TypedDict):
    left: int


class Pair(NamedTuple):
    x: int
    y: int


class Context:
    pass


def weather(
    city: str,
    unit: Unit = Unit.C,
    days: Annotated[int, msgspec.Meta(ge=1, le=7)] = 1,
    tags: list[str] | None = None,
    mode: Literal["fast", "slow"] = "fast",
) -> str:
    """Current weather in a city.

    Slow on Mondays.

    Args:
        city: name of the city,
            in English.
        days: how many.

    Returns:
        prose.
    """
    return f"{city} {unit} {days} {tags} {mode}"


def test_a_schema() -> None:
    schema = describe(weather)
    assert schema.name == "weather"
    assert schema.description == "Current weather in a city.\n\nSlow on Mondays."
    parameters = schema.parameters
    assert "$ref" not in parameters
    assert "title" not in parameters
    assert (parameters["type"], parameters["additionalProperties"]) == ("object", False)
    assert parameters["required"] == ["city"]
    properties = parameters["properties"]
    assert properties["city"] == {"type": "string", "description": "name of the city, in English."}
    assert properties["days"]["maximum"] == 7
    assert properties["days"]["description"] == "how many."
    assert properties["mode"] == {"type": "string", "enum": ["fast", "slow"], "default": "fast"}


def numpy_style(a: int) -> int:
    """Numbers.

    Parameters
    ----------
    a : int
        the first.
    """
    return a


def rest_style(a: int) -> int:
    """Numbers.

    :param a: the first.
    """
    return a


@pytest.mark.parametrize("function", [numpy_style, rest_style])
def test_docstring_styles(function: Callable[..., Any]) -> None:
    schema = describe(function)
    assert schema.description == "Numbers."
    assert schema.parameters["properties"]["a"]["description"] == "the first."


def everything(
    place: Place, box: Box, pair: Pair, either: int | str, many: dict[str, list[float]], raw: Any = None
) -> None:
    pass


def test_nested_types_are_self_contained() -> None:
    schema = describe(everything)
    assert set(schema.parameters["$defs"]) == {"Place", "Box", "Pair"} or "Place" in schema.parameters["$defs"]
    given_ = {
        "place": {"name": "x"},
        "box": {"left": 1},
        "pair": [1, 2],
        "either": "a",
        "many": {"a": [1.5]},
    }
    arguments = validate(schema, given_)
    assert arguments["place"] == Place("x")
    assert arguments["pair"] == Pair(1, 2)
    assert arguments["raw"] is None
    assert validate(schema, msgspec.json.encode(given_)) == arguments


def with_context(context: Context, query: str, *, limit: int = 3) -> str:
    """Search."""
    return f"{context} {query} {limit}"


def test_the_context_is_not_for_the_model() -> None:
    schema = describe(with_context, is_context=lambda annotation: annotation is Context)
    assert schema.context_parameter == "context"
    assert set(schema.parameters["properties"]) == {"query", "limit"}
    skipped = describe(with_context, skip=("context",), name="search", description="d")
    assert (skipped.name, skipped.description, skipped.context_parameter) == ("search", "d", None)


class Methods:
    def act(self, a: int) -> int:
        """Act."""
        return a

    def __call__(self, b: str) -> str:
        """Called."""
        return b


def test_other_callables() -> None:
    assert set(describe(Methods().act).parameters["properties"]) == {"a"}
    assert describe(Methods()).name == "Methods"
    partial = functools.partial(weather, unit=Unit.F)
    assert describe(partial).name == "weather"
    assert describe(lambda: None, name="nothing").parameters["properties"] == {}


def bare(a) -> None:  # type: ignore[no-untyped-def]
    pass


def starred(*args: int) -> None:
    pass


def keyworded(**options: int) -> None:
    pass


def positional(a: int, /) -> None:
    pass


def callback(done: Callable[[], None]) -> None:
    pass


def custom(thing: Context) -> None:
    pass


def dangling(a: Missing) -> None:  # noqa: F821  # type: ignore[name-defined]
    pass


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (bare, r"bare\(\): parameter 'a' has no type: annotate it"),
        (starred, r"starred\(\): \*args .* list parameter"),
        (keyworded, r"keyworded\(\): \*\*options .* name each"),
        (positional, r"positional\(\): parameter 'a' is positional-only"),
        (callback, r"callback\(\): parameter 'done' .* no JSON form"),
        (custom, r"custom\(\): parameter 'thing' is annotated Context"),
        (dangling, r"dangling\(\): .*Missing.* import that name"),
    ],
)
def test_what_cannot_be_a_tool_says_so_in_one_line(function: Callable[..., Any], words: str) -> None:
    with pytest.raises(TypeError, match=words) as caught:
        describe(function)
    assert "\n" not in str(caught.value)


SCHEMA = describe(weather)


def test_arguments() -> None:
    assert validate(SCHEMA, '{"city": "Oslo", "unit": "fahrenheit", "tags": ["a"]}') == {
        "city": "Oslo",
        "unit": Unit.F,
        "days": 1,
        "tags": ["a"],
        "mode": "fast",
    }
    assert validate(describe(lambda: None, name="n"), "") == {}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("{}", r"weather: \$: 'city' is missing: expected a string$"),
        ('{"city": 3}', r"weather: \$\.city: expected a string, got an integer \(3\)$"),
        ('{"city": "x", "town": 1}', r"\$: there is no 'town'; there are city, unit, days, tags, mode$"),
        ('{"city": "x", "days": 9}', r"\$\.days: expected a number <= 7, got an integer \(9\)$"),
        ('{"city": "x", "days": "1"}', r"\$\.days: expected an integer, got a string \(\"1\"\)$"),
        ('{"city": "x", "tags": ["a", 2]}', r"\$\.tags\[1\]: expected a string, got an integer \(2\)$"),
        ('{"city": "x", "city": "y"}', "'city' is given twice"),
        ('{"city": "x", "c\\u0069ty": "y"}', "'city' is given twice"),
        ('{"city": NaN}', "not valid JSON"),
        ('{"city": "x"', "not valid JSON"),
        ("[1]", r"\$: expected an object, got an array of 1 item$"),
        ('{"city": "\\ud800"}', "not valid JSON"),
        ('{"city": "\ud800"}', "surrogate"),
        (b'{"city": "\xff"}', "not valid UTF-8"),
        ({"city": "\ud800"}, "surrogate"),
        ({"city": "x", "days": math.nan}, "not a JSON number"),
        ({"city": "x", "tags": "a"}, r"\$\.tags: expected an array or null, got a string \(\"a\"\)$"),
    ],
)
def test_what_a_model_must_mend(raw: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        validate(SCHEMA, raw)


def anything(value: Any) -> None:
    pass


@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_nesting_without_end(depth: int) -> None:
    schema = describe(anything)
    with pytest.raises(ValueError, match="nested too deeply"):
        validate(schema, '{"value": ' + "[" * depth + "]" * depth + "}")
    nested: Any = []
    for _ in range(depth):
        nested = [nested]
    with pytest.raises(ValueError, match="nested too deeply"):
        validate(schema, {"value": nested})


def test_keys_given_twice_below_the_top() -> None:
    with pytest.raises(ValueError, match="'a' is given twice"):
        validate(describe(anything), '{"value": {"a": 1, "a": 2}}')


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(raw=st.text() | st.binary() | st.dictionaries(st.text(), json_values, max_size=3))
def test_nothing_but_a_value_error(raw: Any) -> None:
    for schema in (SCHEMA, describe(anything)):
        try:
            validate(schema, raw)
        except ValueError:
            pass


# What a function may be.


def test_a_name_that_no_provider_takes() -> None:
    for function, name in ((lambda: None, None), (weather, "the weather"), (weather, ""), (weather, "x" * 65)):
        with pytest.raises(ValueError, match=r"a tool cannot be called .*@tool\(name=…\)") as caught:
            describe(function, name=name)
        assert "\n" not in str(caught.value)
    for wrong in (3, b"x"):
        with pytest.raises(ValueError, match="a tool cannot be called"):
            describe(weather, name=wrong)  # type: ignore[arg-type]


def dunder(__a: int) -> None:
    pass


def imaginary(a: complex) -> None:
    pass


def plain_object(a: object) -> None:
    pass


def inseparable(a: list[int] | set[str]) -> None:
    pass


def inner(a: dict[str, Callable[[], None]]) -> None:
    pass


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (dunder, r"dunder\(\): parameter '__a' begins with '__'"),
        (imaginary, r"imaginary\(\): parameter 'a' is annotated complex, which has no JSON form: use"),
        (inseparable, r"inseparable\(\): parameter 'a' .* cannot be told apart"),
        (inner, r"inner\(\): parameter 'a' .* no JSON form: use"),
        (plain_object, r"plain_object\(\): parameter 'a' is annotated object, which has no JSON form: use"),
        (Methods.act, r"act\(\): 'self' .* give the bound method, tools=\[obj.act\]"),
        (dangling, r"dangling\(\): the annotation Missing of parameter 'a' cannot be resolved"),
    ],
)
def test_what_cannot_be_an_argument_is_told_in_our_words(function: Callable[..., Any], words: str) -> None:
    with pytest.raises(TypeError, match=words) as caught:
        describe(function)
    assert "\n" not in str(caught.value)
    assert "msgspec." not in str(caught.value)


def unknown_return(a: int) -> Missing:  # noqa: F821  # type: ignore[name-defined]
    pass


def test_only_the_parameters_must_be_known() -> None:
    assert set(describe(unknown_return).parameters["properties"]) == {"a"}


def noted(
    a: Annotated[int, "the number"],
    b: Annotated[int, Doc("documented")],
    c: Annotated[int, msgspec.Meta(ge=1), "at least one"],
    d: Annotated[int, msgspec.Meta(description="meta")],
) -> None:
    """Note.

    Args:
        a: of the docstring.
        d: of the docstring.
    """


def test_descriptions_beside_the_type() -> None:
    properties = describe(noted).parameters["properties"]
    assert {name: held["description"] for name, held in properties.items()} == {
        "a": "the number",
        "b": "documented",
        "c": "at least one",
        "d": "meta",
    }
    assert properties["c"]["minimum"] == 1


def test_a_second_context_is_refused() -> None:
    def twice(one: Context, a: int, two: Context) -> None:
        pass

    twice.__annotations__ = {"one": Context, "a": int, "two": Context}
    with pytest.raises(TypeError, match=r"'one' and 'two' both take the run's context"):
        describe(twice, is_context=lambda annotation: annotation is Context)


def test_what_a_partial_has_filled_in_is_not_the_models() -> None:
    schema = describe(functools.partial(functools.partial(weather, unit=Unit.F), mode="slow"))
    assert set(schema.parameters["properties"]) == {"city", "days", "tags"}
    with pytest.raises(ValueError, match=r"there is no 'unit'; there are city, days, tags"):
        validate(schema, '{"city": "x", "unit": "celsius"}')
    assert validate(schema, '{"city": "x"}') == {"city": "x", "days": 1, "tags": None}


# What an argument may be.


@dataclass
class Strict:
    name: str

    def __post_init__(self) -> None:
        raise KeyError(self.name)


def strict(value: Strict) -> None:
    pass


@pytest.mark.parametrize("raw", ['{"value": {"name": "x"}}', {"value": {"name": "x"}}])
def test_whatever_an_argument_raises_goes_to_the_model(raw: Any) -> None:
    with pytest.raises(ValueError, match="invalid arguments for strict: KeyError: 'x'"):
        validate(describe(strict), raw)


def number(n: int, x: float = 0.0) -> None:
    pass


@pytest.mark.parametrize("digits", [20, 200, 4000, 5000, 100_000])
def test_integers_of_any_size(digits: int) -> None:
    for name in ("n", "x"):
        raw = '{"n": 1, "x": 1}'.replace(f'"{name}": 1', f'"{name}": {"9" * digits}')
        arguments = parse_arguments(raw)
        for given_ in (raw, arguments or {"n": 10**digits}):
            try:
                validate(describe(number), given_)
            except ValueError:
                pass
    assert validate(describe(number), '{"n": 123456789012345678901234567890}')["n"] == 123456789012345678901234567890
