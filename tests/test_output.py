"""Typed output: every kind of type, both ways of asking for it, and following it while it is written."""

from __future__ import annotations

import enum
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict

import anyio
import msgspec
import pytest

from greenroom import Agent, ModelRetry, OutputInvalid, UnknownOption, tool
from greenroom.agents.output import OutputType
from greenroom.providers import (
    Anthropic,
    Fallback,
    Message,
    ModelReply,
    ModelRequest,
    ModelStream,
    Provider,
    Scripted,
    StreamInterrupted,
    TextDelta,
    ThreadProvider,
    ToolCall,
    ToolCallDelta,
    assistant,
    call,
    connect,
)
from greenroom.providers.messages import Refusal
from greenroom.providers.vocabulary import ModelEvent

pytestmark = pytest.mark.anyio


@dataclass
class Rain:
    """It rains."""

    millimetres: float


@dataclass
class Snow:
    millimetres: float
    type: str = "powder"


class Sun(TypedDict):
    hours: int


class Fog(TypedDict):
    hours: int


class Wind(msgspec.Struct, tag=True):
    knots: Annotated[int, msgspec.Meta(ge=0)]


class Calm(msgspec.Struct, tag=True):
    pass


class Bare(msgspec.Struct):
    value: int


class Tree(msgspec.Struct):
    name: str
    children: list[Tree] = []


class Pair(NamedTuple):
    left: int
    right: str


class Sky(enum.Enum):
    CLEAR = "clear"
    GREY = "grey"


def read(kind: Any, text: str) -> Any:
    return OutputType(kind).read(assistant(text))


def schema(kind: Any) -> dict[str, Any]:
    found = OutputType(kind).schema
    assert found is not None
    return found


# -- types


KINDS: list[tuple[Any, str, Any]] = [
    (Rain, '{"millimetres": 2}', Rain(2.0)),
    (Sun, '{"hours": 3}', {"hours": 3}),
    (Wind, '{"type": "Wind", "knots": 3}', Wind(3)),
    (Pair, '{"result": [1, "x"]}', Pair(1, "x")),
    (Tree, '{"name": "a", "children": [{"name": "b"}]}', Tree("a", [Tree("b")])),
    (list[Tree], '{"result": [{"name": "b"}]}', [Tree("b")]),
    (int, '{"result": 3}', 3),
    (list[int], '{"result": [1, 2]}', [1, 2]),
    (dict[str, int], '{"a": 1}', {"a": 1}),
    (dict, '{"a": 1}', {"a": 1}),
    (Literal["day", "night"], '{"result": "day"}', "day"),
    (Sky, '{"result": "grey"}', Sky.GREY),
    (Optional[Rain], '{"result": null}', None),  # noqa: UP045 - as people write it
    (int | str | None, '{"result": "x"}', "x"),
    (Annotated[int, msgspec.Meta(gt=0)], '{"result": 3}', 3),
    (Wind | Calm, '{"result": {"type": "Calm"}}', Calm()),
    (Rain | Snow, '{"result": {"kind": "Snow", "millimetres": 1}}', Snow(1.0)),
    (Rain | Snow, '{"result": {"kind": "Rain", "millimetres": 1}}', Rain(1.0)),
    (Rain | Snow | None, '{"result": null}', None),
    (Sun | Fog, '{"result": {"type": "Fog", "hours": 1}}', {"hours": 1}),
    (Bare | Rain | int, '{"result": {"type": "Bare", "value": 1}}', Bare(1)),
    (Bare | Rain | int, '{"result": 4}', 4),
    (list[Rain | Snow], '{"result": [{"kind": "Rain", "millimetres": 1}]}', [Rain(1.0)]),
    (dict[str, Rain | Snow], '{"a": {"kind": "Rain", "millimetres": 1}}', {"a": Rain(1.0)}),
    (dict[str, int] | Rain, '{"result": {"type": "Rain", "millimetres": 1}}', Rain(1.0)),
    (dict[str, int] | Rain, '{"result": {"a": 1}}', {"a": 1}),
    (list[int] | list[str], '{"result": ["x"]}', ["x"]),
    (list[int] | Rain, '{"result": {"millimetres": 1}}', Rain(1.0)),
    (Rain, '```json\n{"millimetres": 2}\n```', Rain(2.0)),
]


@pytest.mark.parametrize(("kind", "text", "output"), KINDS)
async def test_every_kind_is_read(kind: Any, text: str, output: Any) -> None:
    """As text, and as the arguments of an output tool; the schema is an object for both."""
    made = ToolCall(None, "final_answer", {}, text.removeprefix("```json\n").removesuffix("\n```"))
    for mode, line in (("native", text), ("tool", [made])):
        model = Scripted(line)
        result = await Agent("helper", model, output=kind, output_mode=mode).run("Go")
        assert (result.output, type(result.output)) == (output, type(output))
    assert schema(kind)["type"] == "object"


@pytest.mark.parametrize(
    ("kind", "text", "complaint"),
    [
        (Rain, '{"millimetres": "x"}', "millimetres"),
        (Wind, '{"type": "Wind", "knots": -1}', "knots"),
        (list[int], '{"result": [1, "x"]}', "[1]"),
        (int, "3", "object"),
        (Rain | Snow, '{"result": {"millimetres": 1}}', "must say with 'kind' which it is: 'Rain', 'Snow'"),
        (Rain | Snow, '{"result": {"kind": "Hail", "millimetres": 1}}', "'Rain', 'Snow'"),
        (Rain | Snow, '{"result": {"kind": "Snow", "millimetres": "x"}}', "millimetres"),
        (Rain | Snow, '{"result": 3}', "'Rain', 'Snow'"),
        (list[int] | list[str], '{"result": [1.5]}', "Expected `int`"),
        (Rain, "none", "JSON"),
        (Rain, "", "JSON"),
    ],
)
async def test_what_does_not_fit_goes_back(kind: Any, text: str, complaint: str) -> None:
    """The model hears what to mend; the error says so too."""
    model = Scripted(text, text)
    with pytest.raises(OutputInvalid, match="does not fit the output type"):
        await Agent("helper", model, output=kind).run("Go")
    assert complaint in model.requests[1].messages[-1].text


async def test_the_error_is_for_who_wrote_the_agent() -> None:
    """It names the type and the remedy; what the model was told is not repeated."""
    with pytest.raises(OutputInvalid) as caught:
        await Agent("helper", Scripted("none", "none"), output=Rain).run("Go")
    said = str(caught.value)
    assert said.startswith("the answer does not fit the output type Rain: ")
    assert said.endswith("; raise output_retries=, or say in instructions= what is wanted")
    assert "Your answer" not in said
    assert "JSON only" not in said


def test_a_union_that_json_does_not_tell_apart_says_by_name() -> None:
    """The property has a name that no member has; definitions are where references look for them."""
    found = schema(list[Rain | Snow | Tree])
    members = found["properties"]["result"]["items"]["anyOf"]
    assert [each["properties"]["kind"]["enum"] for each in members] == [["Rain"], ["Snow"], ["Tree"]]
    assert all("kind" in each["required"] for each in members)
    assert members[0]["description"] == "It rains."
    assert list(found["$defs"]) == ["Tree"]
    assert found["$defs"]["Tree"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}


def test_two_members_of_one_name_are_refused() -> None:
    other = dataclass(type("Rain", (), {"__annotations__": {"drops": int}}))
    with pytest.raises(TypeError, match="the same name"):
        OutputType(Rain | other)


@pytest.mark.parametrize("kind", [lambda: 1, object(), complex, "Rain"])
def test_what_is_no_type_is_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match="cannot be described to a model"):
        Agent("helper", Scripted(), output=kind)


class Even(msgspec.Struct):
    value: int

    def __post_init__(self) -> None:
        if self.value % 2:
            raise ModelRetry("use an even number")


@pytest.mark.parametrize("mode", ["native", "tool"])
async def test_a_type_refuses_in_its_own_words(mode: Any) -> None:
    """What it raises as ModelRetry goes back with its text alone."""
    model = Scripted([call("final_answer", value=1)], [call("final_answer", value=2)])
    if mode == "native":
        model = Scripted('{"value": 1}', '{"value": 2}')
    result = await Agent("helper", model, output=Even, output_mode=mode).run("Go")
    last = model.requests[1].messages[-1]
    told = last.tool_results[0].content if mode == "tool" else last.text
    assert (result.output, told) == (Even(2), "use an even number")


# -- pydantic


async def test_types_of_pydantic() -> None:
    """Models, their dataclasses, bounds, unions, with plain types and with Structs."""
    pydantic = pytest.importorskip("pydantic")
    Field = pydantic.Field

    class Point(pydantic.BaseModel):
        x: int = Field(gt=0)
        next: Optional[Point] = None  # noqa: UP045 - resolved at run time

        @pydantic.field_validator("x")
        @classmethod
        def small(cls, x: int) -> int:
            if x > 100:
                raise ModelRetry("use a small one")
            return x

    Point.model_rebuild(_types_namespace={"Point": Point, "Optional": Optional})

    class Spot(pydantic.BaseModel):
        x: int

    @pydantic.dataclasses.dataclass
    class Line:
        length: int = Field(gt=3)

    Holder = make_dataclass("Holder", [("point", Point)])
    many = pydantic.create_model("Many", __base__=pydantic.RootModel[list[int]])
    for kind, good, output, bad, complaint in (
        (Point, '{"x": 1, "next": {"x": 2}}', Point(x=1, next=Point(x=2)), '{"x": 0}', "x: Input should be greater"),
        (list[Point], '{"result": [{"x": 1}]}', [Point(x=1)], '{"result": [{"x": 0}]}', "$.result[0]"),
        (Optional[Point], '{"result": null}', None, '{"result": 3}', "object"),  # noqa: UP045
        (dict[str, Point], '{"a": {"x": 1}}', {"a": Point(x=1)}, '{"a": 1}', "object"),
        (Line, '{"length": 4}', Line(4), '{"length": 3}', "length: Input should be greater"),
        (Holder, '{"point": {"x": 1}}', Holder(Point(x=1)), '{"point": {"x": 0}}', "point.x"),
        (many, '{"result": [1]}', many([1]), '{"result": ["x"]}', "integer"),
        (Annotated[int, Field(gt=4)], '{"result": 5}', 5, '{"result": 4}', "greater than 4"),
        (Point | Spot, '{"result": {"type": "Spot", "x": 1}}', Spot(x=1), '{"result": {"x": 1}}', "'Point', 'Spot'"),
        (Point | Rain | Wind | int, '{"result": {"kind": "Point", "x": 1}}', Point(x=1), '{"result": "x"}', "int"),
        (Point | Rain | Wind | int, '{"result": {"kind": "Wind", "knots": 1}}', Wind(1), '{"result": "x"}', "int"),
        (Point | int, '{"result": {"x": 1}}', Point(x=1), '{"result": "x"}', "int"),
        (dict[pydantic.PositiveInt, str], '{"1": "x"}', {1: "x"}, '{"0": "x"}', ">= 1"),
        (dict[Annotated[str, Field(min_length=2)], int], '{"ab": 1}', {"ab": 1}, '{"a": 1}', "at least 2"),
    ):
        model = Scripted(good, bad, bad)
        agent = Agent("helper", model, output=kind)
        found = (await agent.run("Go")).output
        assert (found, type(found)) == (output, type(output)), kind
        with pytest.raises(OutputInvalid) as caught:
            await agent.run("Go")
        assert complaint in str(caught.value), kind
        assert_references(schema(kind))
    model = Scripted('{"x": 101}', '{"x": 1}')
    await Agent("helper", model, output=Point).run("Go")
    assert model.requests[1].messages[-1].text == "use a small one"

    with pytest.raises(TypeError, match="cannot be described"):
        OutputType(msgspec.defstruct("Mixed", [("point", Point)]))


def assert_references(schema: dict[str, Any]) -> None:
    """Each reference leads to a definition at the top."""

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            reference = node.get("$ref")
            assert reference is None or reference.removeprefix("#/$defs/") in schema["$defs"]
            assert node is schema or "$defs" not in node
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for each in node:
                walk(each)

    walk(schema)


def test_pydantic_is_not_imported_for_others() -> None:
    program = (
        "import sys; from dataclasses import dataclass\n"
        "@dataclass\nclass A:\n  a: int\n"
        "@dataclass\nclass B:\n  a: int\n"
        "from greenroom import Agent; from greenroom.providers import Scripted\n"
        "Agent('a', Scripted(), output=list[A | B]); assert 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-P", "-c", program], check=True, timeout=60)


# -- the output tool


@tool
async def look(at: str) -> str:
    """Look."""
    if at == "the sun":
        raise ValueError("too bright")
    return f"saw {at}"


def answer(millimetres: Any) -> ToolCall:
    return call("final_answer", millimetres=millimetres)


def helper(*lines: Any, **options: Any) -> tuple[Agent[Any, Any], Scripted]:
    model = Scripted(*lines)
    return Agent("helper", model, output=Rain, output_mode="tool", tools=[look], **options), model


def results(request_or_result: Any) -> list[tuple[str | None, str, str | None]]:
    messages = request_or_result.messages
    return [(each.name, each.content, each.cause) for message in messages for each in message.tool_results]


async def test_the_answer_comes_by_a_tool_after_others() -> None:
    """It is offered beside the agent's, nothing is forced, and its call has a result."""
    agent, model = helper([call("look", at="it")], [answer(3)], instructions="Be brief.")
    result = await agent.run("Go")
    assert (result.output, result.status, len(model.requests)) == (Rain(3.0), "completed", 2)
    request = model.requests[0]
    assert [spec.name for spec in request.tools] == ["look", "final_answer"]
    assert request.tools[-1].parameters == agent.output_schema
    assert (request.output_schema, request.settings.tool_choice) == (None, None)
    assert request.instructions is not None
    assert request.instructions.startswith("Be brief.\n\n")
    assert "final_answer" in request.instructions
    assert results(result) == [("look", "saw it", None), ("final_answer", "accepted", "accepted")]
    assert (result.text, str(result)) == ('{"millimetres":3}', '{"millimetres":3}')


async def test_an_answer_beside_other_calls_waits_for_them() -> None:
    """They run first; it counts when none of them has failed, and one of several answers counts."""
    agent, model = helper([call("look", at="it"), answer(1), answer(2)])
    result = await agent.run("Go")
    assert (result.output, len(model.requests)) == (Rain(1.0), 1)
    told = [("look", "saw it", None), ("final_answer", "accepted", "accepted")]
    assert results(result)[:2] == told
    assert results(result)[2][1].startswith("not read")


@pytest.mark.parametrize("bad", [call("look", at="the sun"), call("nope"), call("look", wrong=1)])
async def test_an_answer_beside_a_call_that_failed_is_not_taken(bad: ToolCall) -> None:
    """The model wrote it before it knew. It does not count as an answer that was sent back."""
    agent, model = helper([answer(1), bad], [answer(2)], output_retries=0)
    result = await agent.run("Go")
    assert (result.output, len(model.requests)) == (Rain(2.0), 2)
    first = model.requests[1].messages[-2].tool_results[0]
    assert (first.name, first.cause, first.content.startswith("not taken")) == ("final_answer", "invalid", True)


async def test_bad_arguments_are_the_result_of_the_call() -> None:
    """Within output_retries; then the run fails, with a valid history."""
    agent, model = helper([answer("x")], [ToolCall("b", "final_answer", None, '{"mill')], output_retries=1)
    with pytest.raises(OutputInvalid) as caught:
        await agent.run("Go")
    assert "millimetres" in results(model.requests[1])[0][1]
    assert caught.value.result is not None
    assert [cause for _, _, cause in results(caught.value.result)] == ["invalid", "invalid"]
    assert caught.value.result.messages[-1].role == "tool"


async def test_an_answer_in_text_is_taken_or_sent_back_with_the_tools_name() -> None:
    """Models say things although they have a tool."""
    agent, model = helper("It rains.", '{"millimetres": 4}')
    result = await agent.run("Go")
    assert (result.output, result.text) == (Rain(4.0), '{"millimetres": 4}')
    assert "Call the tool final_answer" in model.requests[1].messages[-1].text


async def test_a_refusal_ends_the_run() -> None:
    agent, _ = helper(Message("assistant", (Refusal("no"),)))
    with pytest.raises(OutputInvalid, match="refused to answer"):
        await agent.run("Go")


async def test_a_call_that_was_cut_off_is_no_answer() -> None:
    """Its arguments may parse and still be half of it."""
    cut = ModelReply(assistant(tool_calls=[msgspec.structs.replace(answer(1), id="a")]), "length")
    agent, model = helper(cut, [answer(2)])
    assert (await agent.run("Go")).output == Rain(2.0)
    assert "cut off" in results(model.requests[1])[0][1]


async def test_the_output_tool_gives_way_to_a_tool_of_its_name() -> None:
    """Also to one that is added later."""
    model = Scripted([call("final_answer")], [call("final_answer_", millimetres=1)])
    agent = Agent("helper", model, output=Rain, output_mode="tool")
    assert agent.asking.tool is not None

    @agent.tool
    async def final_answer() -> str:
        """Mine."""
        return "mine"

    result = await agent.run("Go")
    assert results(result) == [("final_answer", "mine", None), ("final_answer_", "accepted", "accepted")]


async def test_the_history_of_a_tool_answer_goes_on() -> None:
    agent, model = helper([answer(1)], [answer(2)])
    first = await agent.run("Go")
    second = await agent.run("Again", history=first)
    assert second.output == Rain(2.0)
    assert [message.role for message in model.requests[1].messages] == ["user", "assistant", "tool", "user"]


async def test_an_answer_waits_for_an_approval_with_its_siblings() -> None:
    """Nobody is there to ask: the run ends, goes on with the answer, and then takes it."""
    careful = tool(needs_approval=True)(look.function)
    model = Scripted([call("look", at="it"), answer(1)])
    agent = Agent("helper", model, output=Rain, output_mode="tool", tools=[careful])
    waiting = await agent.run("Go")
    assert (waiting.status, [each.tool for each in waiting.pending]) == ("waiting", ["look"])
    result = await agent.run(history=waiting, approvals={waiting.pending[0].call_id: True})
    assert (result.status, result.output, len(model.requests)) == ("completed", Rain(1.0), 1)


async def test_a_subagent_answers_by_a_tool() -> None:
    expert = Agent("expert", Scripted([answer(5)]), output=Rain, output_mode="tool")
    boss = Agent("boss", Scripted([call("expert", prompt="?")], "Done."), tools=[expert])
    assert results(await boss.run("Go")) == [("expert", '{"millimetres":5.0}', None)]


# -- which way


class Own(Provider):
    """Says nothing of schemas."""


class Threads(ThreadProvider):
    """Neither."""


def asks_by_tool(model: Any, *tools: Any, kind: Any = Rain, mode: Any = "auto") -> bool:
    return Agent("helper", model, output=kind, output_mode=mode, tools=tools).asking.tool is not None


KEYS = {"api_key": "k"}


@pytest.mark.parametrize(
    ("model", "alone", "beside_tools"),
    [
        ("openai:gpt-5-mini", False, False),
        ("openai-chat:gpt-5-mini", False, False),
        ("groq:llama-3.3-70b-versatile", True, True),
        ("deepseek:deepseek-chat", True, True),
        ("mistral:mistral-large-latest", False, False),
        ("anthropic:claude-sonnet-4-5", False, False),
        ("anthropic:claude-3-5-haiku-latest", True, True),
        ("gemini:gemini-2.5-flash", False, True),
        ("gemini:gemini-3-flash-preview", False, False),
        ("cohere:command-a-03-2025", False, True),
        ("ollama:qwen3", False, True),
        ("bedrock:amazon.nova-lite-v1:0", True, True),
        ("bedrock:eu.anthropic.claude-sonnet-4-5-20250929-v1:0", False, False),
    ],
)
def test_the_way_follows_the_provider(model: str, alone: bool, beside_tools: bool) -> None:
    """A tool where the provider cannot hold the model to a schema."""
    try:
        provider = connect(model)
    except ValueError:
        pytest.skip(f"no {model}")
    assert (asks_by_tool(provider), asks_by_tool(provider, look)) == (alone, beside_tools)


def test_the_way_of_other_providers() -> None:
    good, bad = connect("openai:gpt-5-mini"), connect("deepseek:deepseek-chat")
    assert not asks_by_tool(Scripted())
    assert asks_by_tool(Own())
    assert asks_by_tool(Threads())
    assert not asks_by_tool(Fallback([good, good]))
    assert asks_by_tool(Fallback([good, bad]))
    assert not asks_by_tool(bad, mode="native")
    assert asks_by_tool(good, mode="tool")
    # What Anthropic's structured outputs cannot be told: a type that holds itself, an open dictionary.
    claude = Anthropic("claude-sonnet-4-5", api_key="k")
    assert asks_by_tool(claude, kind=Tree)
    assert asks_by_tool(claude, kind=dict[str, int])
    assert not Agent("helper", bad).asking.instructions(None)


async def test_the_way_is_chosen_again_when_a_tool_is_added() -> None:
    agent = Agent("helper", connect("cohere:command-a-03-2025"), output=Rain)
    assert agent.asking.schema is not None
    agent.tool(look)
    assert agent.asking.tool is not None


async def test_a_native_run_takes_the_call_of_an_output_tool() -> None:
    """One that was begun by an agent that offered it goes on where it stands."""
    agent = Agent("helper", Scripted([answer(1)]), output=Rain, output_mode="native")
    assert (await agent.run("Go")).output == Rain(1.0)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"output_mode": "json"}, ValueError, "output_mode='json' is not one of"),
        ({"output_mode": None}, TypeError, "output_mode= takes one of"),
        ({"output_mode": "tool", "output": str}, ValueError, "needs an output type"),
        ({"output_validator": 1}, UnknownOption, "validators="),
        ({"structured_output": 1}, UnknownOption, "output="),
    ],
)
def test_bad_options(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Agent("helper", Scripted(), **{"output": Rain, **options})


# -- following it


class Pieces(Provider):
    """Streams the pieces of one reply after the other; a piece that is an error is raised, one that is called waits."""

    name = model = "pieces"
    structured_output = True

    def __init__(self, *replies: Sequence[Any]) -> None:
        self.replies = list(replies)

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[ModelStream]:
        stream: Any = PieceStream(self.replies.pop(0))
        return stream


class PieceStream:
    def __init__(self, pieces: Sequence[Any]) -> None:
        self.pieces = list(pieces)
        self.text = ""
        self.calls: dict[int, tuple[str, str]] = {}

    async def __aenter__(self) -> PieceStream:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    @property
    def reply(self) -> ModelReply:
        made = [ToolCall(f"c{at}", name, msgspec.json.decode(raw), raw) for at, (name, raw) in self.calls.items()]
        return ModelReply(assistant(self.text, tool_calls=made) if made else assistant(self.text))

    def __aiter__(self) -> PieceStream:
        return self

    async def __anext__(self) -> ModelEvent:
        for _ in range(5):  # so that whoever follows has read the piece before
            await anyio.lowlevel.checkpoint()
        while self.pieces and callable(self.pieces[0]):
            await self.pieces.pop(0)()
        if not self.pieces:
            raise StopAsyncIteration
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        if isinstance(piece, str):
            self.text += piece
            return TextDelta(piece)
        name, text = self.calls.get(piece.index, (piece.name, ""))
        self.calls[piece.index] = (name, text + piece.arguments)
        return piece


def args(text: str, index: int = 0, name: str | None = None) -> ToolCallDelta:
    return ToolCallDelta(index, text, f"c{index}" if name else None, name)


async def follow(agent: Agent[Any, Any]) -> list[Any]:
    async with agent.stream("Go") as run:
        return [found async for found in run.objects()]


async def test_objects_grow_to_the_output() -> None:
    model = Pieces(['{"city": "Ro', 'me", "millimetres"', ": 2", "0.5}"])
    found = await follow(Agent("helper", model, output=dict[str, Any]))
    assert found == [
        {"city": "Ro"},
        {"city": "Rome"},
        {"city": "Rome", "millimetres": 20.5},
        {"city": "Rome", "millimetres": 20.5},
    ]


async def test_objects_are_unwrapped_and_end_with_the_type() -> None:
    model = Pieces(['{"resu', 'lt": [{"kind": "Rain", ', '"millimetres": 1', "}]", "}"])
    found = await follow(Agent("helper", model, output=list[Rain | Snow]))
    assert found == [[{"kind": "Rain"}], [{"kind": "Rain", "millimetres": 1}], [Rain(1.0)]]


async def test_objects_of_an_output_tool() -> None:
    """Only its arguments, not those of other tools, nor what is said beside it; an answer sent back gives way."""
    model = Pieces(
        [args('{"at"', 0, "look"), args(': "it"}')],
        ["{Let me", args('{"millim', 0, "final_answer"), args('etres": ["x"'), args("]}")],
        [args("{}", 0, "nope"), args('{"mill', 1, "final_answer"), args('imetres": 7 ', 1), args("}", 1)],
        [args('{"millimetres": 8', 0, "final_answer"), args("}")],
    )
    agent = Agent("helper", model, output=Rain, output_mode="tool", tools=[look])
    assert await follow(agent) == [
        {},
        {"millimetres": ["x"]},
        {},
        {"millimetres": 7},
        {},
        {"millimetres": 8},
        Rain(8.0),
    ]


async def test_objects_of_a_call_that_is_asked_for_again() -> None:
    """Nothing was shown as text, so the reply is tried again; the arguments begin anew."""
    model = Pieces(
        [args('{"millimetres": [1, ', 0, "final_answer"), StreamInterrupted("cut")],
        [args('{"millimetres": ', 0, "final_answer"), args("2 "), args("}")],
    )
    agent = Agent("helper", model, output=Rain, output_mode="tool", retry=None)
    assert await follow(agent) == [{"millimetres": [1]}, {}, {"millimetres": 2}, Rain(2.0)]


async def test_a_slow_reader_gets_the_latest_and_a_late_one_the_output() -> None:
    gate = anyio.Event()
    model = Pieces(['{"a": [1', ", 2", ", 3", gate.wait, ", 4]}"])
    agent = Agent("helper", model, output=dict[str, Any])
    async with agent.stream("Go") as run:
        objects = run.objects()
        await anyio.wait_all_tasks_blocked()
        assert await anext(objects) == {"a": [1, 2]}
        late = run.objects()
        assert await anext(late) == {"a": [1, 2]}
        gate.set()
        result = await run.result()
        assert [found async for found in objects] == [result.output]
        assert [found async for found in late] == [result.output]
        assert [found async for found in run.objects()] == [{"a": [1, 2, 3, 4]}]
        with pytest.raises(StopAsyncIteration):
            await anext(late)


async def test_objects_of_a_run_that_is_stopped_or_fails() -> None:
    """A stopped one has no output; a failed one raises its error."""
    gate = anyio.Event()
    agent = Agent("helper", Pieces(['{"a": 1, ', gate.wait]), output=dict[str, Any])
    async with agent.stream("Go") as run:
        objects = run.objects()
        assert await anext(objects) == {"a": 1}
        run.stop()
        assert [found async for found in objects] == []
    agent = Agent("helper", Pieces(['{"a": ', '"b"}']), output=dict[str, int], output_retries=0)
    async with agent.stream("Go") as run:
        found: list[Any] = []
        with pytest.raises(OutputInvalid):
            async for each in run.objects():
                found.append(each)
        assert found == [{}, {"a": "b"}]


async def test_objects_need_an_output_type() -> None:
    async with Agent("helper", Scripted("Hi.")).stream("Go") as run:
        with pytest.raises(TypeError, match=r"use run\.text\(\)"):
            run.objects()
        await run.result()


async def test_objects_are_held_weakly() -> None:
    """A reader that is forgotten costs nothing."""
    agent = Agent("helper", Pieces(['{"a": 1}']), output=dict[str, int])
    async with agent.stream("Go") as run:
        objects = run.objects()
        assert run._cell.voice.log.followed
        del objects
        assert not run._cell.voice.log.followed
        run.stop()


@pytest.mark.parametrize("text", ["", "Well: "])
async def test_the_text_of_a_tool_answer_comes_whole(text: str) -> None:
    """Behind what was said beside it."""
    pieces = [*([text] if text else []), args('{"millim', 0, "final_answer"), args('etres":1}')]
    agent = Agent("helper", Pieces(pieces), output=Rain, output_mode="tool")
    async with agent.stream("Go") as run:
        assert [each async for each in run.text()] == [*([text] if text else []), '{"millimetres":1}']
        assert (await run.result()).text == '{"millimetres":1}'


async def test_the_last_event_names_the_tool() -> None:
    heard: list[Any] = []
    agent, _ = helper([answer(1)])
    await agent.run("Go", on_event=heard.append)
    assert (heard[-1].output_tool, heard[-1].text) == ("final_answer", '{"millimetres":1}')
    assert not [event for event in heard if event.type.startswith("tool.")]
