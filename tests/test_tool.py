"""Tools and output types: what they may be made of, and what becomes of values."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import pytest

from greenroom.agents import Agent, RunContext, System, tool
from greenroom.agents.machine import Rejected
from greenroom.agents.output import OutputType
from greenroom.agents.tool import Tool
from greenroom.providers import Scripted, ToolCall, assistant, call

pytestmark = pytest.mark.anyio


def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


async def fetch(a: int) -> int:
    return a + 1


@functools.wraps(fetch)
def waits(a: int) -> int:
    return asyncio.run(fetch(a))


@functools.wraps(fetch)
def hands_on(a: int) -> Any:
    return fetch(a)


class Asynchronous:
    async def __call__(self, a: int) -> int:
        return a + 1


async def test_where_a_function_runs_is_told_by_its_outermost_layer() -> None:
    assert tool(waits).where == "thread"
    assert tool(where="thread")(waits).where == "thread"
    assert tool(fetch).where == "loop"
    assert tool(functools.partial(fetch)).where == "loop"
    assert tool(Asynchronous()).where == "loop"
    for function in (waits, hands_on):
        provider = Scripted([call("fetch", a=1)], "done")
        async with System():
            result = await Agent("a", provider, tools=[function]).run("x")
        assert result.output == "done"
        assert provider.requests[1].messages[-1].tool_results[0].content == "2"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: tool(lambda: None), ValueError, r"cannot be called '<lambda>'.*@tool\(name=…\)"),
        (lambda: tool(name="add numbers")(add), ValueError, r"cannot be called 'add numbers'"),
        (lambda: tool(name=3)(add), ValueError, "cannot be called 3"),
        (lambda: tool(timeout="3")(add), ValueError, "timeout must be above 0"),
        (lambda: tool(timeout=math.nan)(add), ValueError, "timeout must be above 0"),
        (lambda: tool(max_result="3")(add), ValueError, "max_result must be at least 1"),
        (lambda: tool(3), TypeError, "made of a function, not of 3"),
    ],
)
def test_a_wrong_option_is_one_line(make: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def optional(context: RunContext | None, a: int) -> int:
    return a


def annotated(context: Annotated[RunContext[str], "mine"], a: int) -> int:
    return a


def twice(one: RunContext, two: RunContext | None) -> None:
    pass


def test_the_context_by_any_annotation() -> None:
    for function in (optional, annotated):
        made = Tool(function)
        assert made.context_parameter == "context"
        assert set(made.spec.parameters["properties"]) == {"a"}
    with pytest.raises(TypeError, match="'one' and 'two' both take the run's context"):
        Tool(twice)


@dataclass
class Fussy:
    name: str

    def __post_init__(self) -> None:
        raise KeyError(self.name)


class FussyStruct(msgspec.Struct):
    name: str

    def __post_init__(self) -> None:
        raise ZeroDivisionError("nothing")


def greet(who: Fussy) -> str:
    return who.name


async def test_an_argument_that_raises_is_told_to_the_model() -> None:
    with pytest.raises(ValueError, match="KeyError: 'x'"):
        Tool(greet).arguments(ToolCall("c", "greet", {"who": {"name": "x"}}, '{"who": {"name": "x"}}'))
    provider = Scripted([call("greet", who={"name": "x"})], "done")
    async with System():
        result = await Agent("a", provider, tools=[greet]).run("x")
    assert result.output == "done"
    told = provider.requests[1].messages[-1].tool_results[0]
    assert (told.is_error, told.cause) == (True, "invalid")


@pytest.mark.parametrize("kind", [Fussy, FussyStruct, list[FussyStruct]])
def test_an_output_that_raises_is_rejected(kind: Any) -> None:
    output = OutputType(kind)
    text = '{"name": "x"}' if kind != list[FussyStruct] else '{"result": [{"name": "x"}]}'
    with pytest.raises(Rejected, match=r"does not fit the required JSON schema: (KeyError|ZeroDivisionError)"):
        output.read(assistant(text))


class Plain:
    def __str__(self) -> str:
        return "a plain thing"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (None, "output=None says nothing about the answer: for text leave it out"),
        (Any, "output=Any says nothing"),
        (object, "output=object says nothing"),
        (bytes, "output=bytes says nothing .* output=str"),
        (complex, "output=complex cannot be described to a model: use str"),
        (Plain, "output=Plain cannot be described to a model: use str"),
        (list[complex], r"output=list\[complex\] cannot be described"),
        (3, "output=3 cannot be described"),
    ],
)
def test_an_output_type_that_cannot_be_is_one_line(kind: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words) as caught:
        OutputType(kind)
    assert "\n" not in str(caught.value)
    assert "msgspec.msgpack" not in str(caught.value)


class Secretive:
    def __str__(self) -> str:
        raise RuntimeError("no")


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "text"),
        (None, "null"),
        ({"a": None}, '{"a":null}'),
        (math.nan, '"NaN"'),
        ({"a": [math.inf, -math.inf, None, 1.5]}, '{"a":["Infinity","-Infinity",null,1.5]}'),
        ({"a": 1, "b": Plain()}, '{"a":1,"b":"a plain thing"}'),
        ([Plain(), math.nan], '["a plain thing","NaN"]'),
        (Plain(), "a plain thing"),
        (1 + 2j, "(1+2j)"),
        (2**70, str(2**70)),
        ({"a": Secretive()}, '{"a":"(a Secretive that cannot be shown: RuntimeError)"}'),
        (Secretive(), "(a Secretive that cannot be shown: RuntimeError)"),
        (LOOP, "[[...]]"),
    ],
)
def test_results_as_text(value: Any, text: str) -> None:
    assert Tool(add).result("c", value).content == text


def numbers() -> Iterator[int]:
    yield 1


async def later() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (numbers, "returned a generator: return a value or a list"),
        (later, "returned an async_generator: return a value or a list"),
        (lambda: map(str, [1]), "returned a map: return a value or a list"),
    ],
)
def test_a_generator_is_no_result(value: Callable[[], Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        Tool(add).result("c", value())


async def test_a_tool_that_returns_a_generator_has_failed() -> None:
    provider = Scripted([call("numbers")], "done")
    async with System():
        await Agent("a", provider, tools=[numbers]).run("x")
    told = provider.requests[1].messages[-1].tool_results[0]
    assert (told.is_error, told.cause) == (True, "failed")
    assert "returned a generator: return a value or a list" in told.content


def test_what_a_partial_has_filled_in_is_not_offered() -> None:
    made = tool(name="add")(functools.partial(add, b=5))
    assert set(made.spec.parameters["properties"]) == {"a"}
    assert made(**made.arguments(ToolCall("c", "add", {"a": 1}, '{"a": 1}'))) == 6
