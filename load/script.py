"""What the simulated model says, as a function of the conversation alone.

The model keeps nothing between requests. It finds its place by looking at the messages: the *origin* is the
latest user message that carries a plan still being played, else the latest user message; the *turn* is the
number of replies it has given since. So a request sent twice gets the same answer, a run continued by another
process after a crash goes on where it was, and a message sent into the middle of a planned run does not start
the plan again.

With a plan it plays the plan. Without one it calls offered tools for some turns with made-up arguments and
then answers with the last result; with nothing to call it repeats what it was told.

Ids of tool calls hold the turn (``call_<digest>_<turn>_<n>``). A client that drops old messages to save
tokens thereby does not throw the model back to an earlier turn.
"""

from __future__ import annotations

import re
from typing import Any, cast

import msgspec

from .plan import Call, Plan, Turn, find_plan
from .refusals import Refused, forced_tool
from .wire import ChatMessage, ChatRequest, FunctionCall, Reply, Tool, ToolCall

_CALL_ID = re.compile(r"call_[0-9a-f]+_(\d+)_\d+")


class Habits(msgspec.Struct, frozen=True):
    """What the model does without a plan when tools are offered.

    Args:
        turns: replies that call tools, before the answer; default 1.
        calls: tool calls in each of them, of the first so many offered tools; default 1.

    Raises:
        ValueError: `turns` is negative, or `calls` below 1.
    """

    turns: int = 1
    calls: int = 1

    def __post_init__(self) -> None:
        if self.turns < 0 or self.calls < 1:
            raise ValueError(f"turns must be 0 or more and calls 1 or more, not {self.turns!r} and {self.calls!r}")


class Place(msgspec.Struct, frozen=True):
    """Where a conversation is: the plan in force (None: habits), and the replies given to it so far."""

    plan: Plan | None
    turn: int


def find_place(messages: list[ChatMessage]) -> Place:
    """The place of a conversation.

    Raises:
        Refused: a plan cannot be read.
    """
    since = 0  # replies after the message at hand, looking backwards
    latest = -1  # the turn that the ids of the latest calls tell
    answered = False
    default: Place | None = None
    for message in reversed(messages):
        if message.role == "assistant":
            since += 1
            if not message.tool_calls:
                answered = True
            elif latest < 0 and (match := _CALL_ID.fullmatch(message.tool_calls[0].id)):
                latest = int(match[1])
        elif message.role == "user":
            here = Place(_plan_of(message), max(since, latest + 1))
            default = default or Place(None, here.turn)
            if here.plan is not None:
                # A plan that has given its answer is over; what the user said after it is a new, unplanned
                # question.
                return default if answered else here
    return default or Place(None, max(since, latest + 1))


def _plan_of(message: ChatMessage) -> Plan | None:
    try:
        return find_plan(message.text)
    except ValueError as error:
        raise Refused(str(error)) from None


def say(request: ChatRequest, digest: str, habits: Habits) -> tuple[Place, Reply]:
    """The reply to a request that `refusals.check` passed; `digest` (hexadecimal) makes its call ids.

    Raises:
        Refused: a plan cannot be read.
    """
    place = find_place(request.messages)
    tools = request.tools or []
    choice = request.tool_choice
    planned = _planned_turn(request, place, habits) if tools and choice != "none" else None
    if planned is None and tools and (choice == "required" or isinstance(choice, dict)):
        planned = Turn((Call(forced_tool(request)),))
    if planned is not None:
        made = [_make(call, n, place.turn, tools, digest) for n, call in enumerate(planned.calls)]
        return place, Reply(planned.text, tuple(made), (planned.text,) if planned.text else ())
    text = _answer(request, place)
    return place, Reply(text, (), cut(text, place.plan.chunks if place.plan else None))


def _planned_turn(request: ChatRequest, place: Place, habits: Habits) -> Turn | None:
    if place.plan is None:
        if place.turn >= habits.turns:
            return None
        turns: tuple[Turn, ...] = (Turn((Call(),) * min(habits.calls, len(request.tools or ()))),) * habits.turns
    else:
        turns = place.plan.turns
    if request.parallel_tool_calls is False:
        turns = tuple([Turn((call,), turn.text) for turn in turns for call in turn.calls])
    return turns[place.turn] if place.turn < len(turns) else None


def _make(call: Call, n: int, turn: int, tools: list[Tool], digest: str) -> ToolCall:
    name = call.tool or tools[n % len(tools)].function.name
    if isinstance(call.arguments, str):
        arguments = call.arguments
    else:
        made = call.arguments
        if made is None:
            made = _arguments_for(name, tools)
        arguments = msgspec.json.encode(made).decode()
    return ToolCall(f"call_{digest}_{turn}_{n}", "function", FunctionCall(name, arguments))


def _arguments_for(name: str, tools: list[Tool]) -> dict[str, Any]:
    for tool in tools:
        if tool.function.name == name:
            schema = msgspec.json.decode(tool.function.parameters)
            return make_up({"type": "object", **schema}) if isinstance(schema, dict) else {}
    return {}


def _answer(request: ChatRequest, place: Place) -> str:
    last = request.messages[-1]
    if place.plan is not None:
        answer = place.plan.answer
        if "{result}" in answer:
            results = [message.text for message in request.messages if message.role == "tool"]
            answer = answer.replace("{result}", results[-1] if results else "")
        return answer
    match request.response_format:
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return msgspec.json.encode(make_up(schema)).decode()
        case {"type": "json_object"}:
            return msgspec.json.encode({"text": last.text}).decode()
        case _:
            return f"The tool said: {last.text}" if last.role == "tool" else f"You said: {last.text}"


def cut(text: str, chunks: int | None) -> tuple[str, ...]:
    """`text` in `chunks` nearly equal pieces (at most one for each character); None: one for each word."""
    if chunks is None:
        return tuple(re.findall(r"\s*\S+|\s+", text))
    size = len(text)
    count = min(chunks, size)
    return tuple([text[size * n // count : size * (n + 1) // count] for n in range(count)])


def make_up(schema: Any, root: Any = None, depth: int = 0) -> Any:
    """A small value that follows a JSON schema: required properties only, the first of an `enum` or a union.

    Strings are ``"text"``, numbers are the minimum or 1. Local references are followed, to a depth of 32.
    """
    if not isinstance(schema, dict) or depth > 32:
        return None
    spec = cast(dict[str, Any], schema)
    root = spec if root is None else root
    if "$ref" in spec:
        return make_up(_resolve(spec["$ref"], root), root, depth + 1)
    if "const" in spec:
        return spec["const"]
    for options in (spec.get("enum"), spec.get("examples")):
        if options:
            return options[0]
    for union in ("anyOf", "oneOf", "allOf"):
        if spec.get(union):
            return make_up(spec[union][0], root, depth + 1)
    kind: Any = spec.get("type", "object" if "properties" in spec else "string")
    match cast(list[Any], kind)[0] if isinstance(kind, list) else kind:
        case "object":
            properties: dict[str, Any] = spec.get("properties", {})
            required: list[str] = spec.get("required", [])
            return {name: make_up(properties.get(name, {}), root, depth + 1) for name in required}
        case "array":
            item: Any = spec.get("items", {})
            return [make_up(item, root, depth + 1) for _ in range(spec.get("minItems", 0))]
        case "integer" | "number":
            return spec.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "text"


def _resolve(reference: str, root: Any) -> Any:
    found = root
    for name in reference.removeprefix("#").strip("/").split("/"):
        found = found.get(name) if isinstance(found, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return cast(Any, found)
