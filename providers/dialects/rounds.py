"""Calls and their results matched, as every provider wants them, whoever made the conversation. Pure.

Histories come from runs, from other providers and from elsewhere, trimmed or put together by hand. So a call may have
no id, or one that another has too or that a provider refuses; a name that a model made up, like ``functions.weather``;
no result, or one behind something that the user said in between; and a result may belong to no call. Any of these gets
the whole conversation refused, for good. `matched` mends them on the way out:

- Each call has an id of its own, and its one result right behind its message. What fits stays as it is, and what does
  not is replaced in the call and in its result alike. The replacements depend on what came before only, so that a
  growing conversation keeps its beginning, and with it the provider's cache.
- A result is looked for up to the next answer of the model: that of the call's id, or else, for a call without one, a
  result whose id is no other call's.
- A call that has no result gets one that says so; one of a message whose stream was cut never ran and is left out.
- A result that belongs to no call is left out.

`rounds` is the same for formats that want each message together with what came of its calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import msgspec

from ..messages import Message, Part, ToolCall, ToolResult

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ODD = re.compile(r"[^a-zA-Z0-9_-]")
_NO_RESULT = "outcome unknown: the history has no result of this call"

#: What a format that refuses empty text is told where there is none.
NOTHING = "(empty)"


def matched(
    messages: Sequence[Message],
    *,
    fits: Callable[[str], object],
    make: Callable[[int], str],
    named: Callable[[str], str],
) -> Sequence[Message]:
    """The conversation with calls and results that match; the same list where all do.

    Args:
        messages: the conversation.
        fits: whether the provider accepts an id.
        make: an id that it accepts, for a number; other numbers give other ids.
        named: the name of a tool as the provider accepts it.
    """
    if _match_already(messages, fits, named):
        return messages
    taken = {call.id for message in messages for call in message.tool_calls}
    used: set[str] = set()
    number = -1
    written: list[Message] = []
    for answer, following in _turns(messages):
        results = [result for message in following for result in message.tool_results]
        if answer is not None:
            parts: list[Part] = []
            answers: list[tuple[int, ToolResult]] = []  # with their places among the results
            places = iter(_paired(answer.tool_calls, results))
            for part in answer.parts:
                if isinstance(part, ToolCall):
                    place = next(places)
                    if place is None and answer.partial:
                        continue
                    identity = part.id
                    number += 1
                    if not identity or identity in used or not fits(identity):
                        while (identity := make(number)) in taken or identity in used:
                            number += 1
                    used.add(identity)
                    part = msgspec.structs.replace(part, id=identity, name=named(part.name))
                    if place is None:
                        none = ToolResult(identity, _NO_RESULT, part.name, True, "outcome_unknown")
                        answers.append((len(results), none))
                    else:
                        answers.append((place, msgspec.structs.replace(results[place], call_id=identity)))
                parts.append(part)
            written.append(msgspec.structs.replace(answer, parts=tuple(parts)))
            if answers:
                answers.sort(key=lambda item: item[0])
                written.append(Message("tool", tuple([result for _, result in answers])))
        written += _without_results(following)
    return written


def fitting_name(name: str) -> str:
    """The name of a tool in letters that every provider takes; a name that fits stays as it is."""
    return name if _NAME.fullmatch(name) else _ODD.sub("_", name)[:64] or "unnamed"


def _match_already(messages: Sequence[Message], fits: Callable[[str], object], named: Callable[[str], str]) -> bool:
    seen: set[str] = set()
    unanswered: set[str] = set()
    for message in messages:
        if message.role == "tool":
            for part in message.parts:
                if type(part) is ToolResult:
                    if part.call_id not in unanswered:
                        return False
                    unanswered.remove(part.call_id)
            continue
        if unanswered:
            return False
        if message.role == "assistant":
            for part in message.parts:
                if type(part) is ToolCall:
                    identity = part.id
                    if not identity or identity in seen or not fits(identity) or named(part.name) != part.name:
                        return False
                    seen.add(identity)
                    unanswered.add(identity)
    return not unanswered


def _turns(messages: Iterable[Message]) -> Iterator[tuple[Message | None, list[Message]]]:
    """Each message of the model with what follows it; first what comes before any."""
    answer: Message | None = None
    following: list[Message] = []
    for message in messages:
        if message.role == "assistant":
            yield answer, following
            answer, following = message, []
        else:
            following.append(message)
    yield answer, following


def _paired(calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> list[int | None]:
    """For each call the place of its result, or None."""
    found: list[int | None] = [None] * len(calls)
    left = dict(enumerate(results))

    def take(index: int, fits: Callable[[ToolResult], bool]) -> None:
        place = next((place for place, result in left.items() if fits(result)), None)
        if place is not None:
            found[index] = place
            del left[place]

    for index, call in enumerate(calls):
        if call.id:
            take(index, lambda result, wanted=call.id: result.call_id == wanted)
    ids = {call.id for call in calls if call.id}
    nameless = [index for index, call in enumerate(calls) if not call.id]
    for index in nameless:  # the id that is usually made for a call of this place
        take(index, lambda result, usual=f"call_{index}": result.call_id == usual)
    for index in nameless:
        if found[index] is None:
            take(index, lambda result: result.call_id not in ids)
    return found


def _without_results(messages: Iterable[Message]) -> Iterator[Message]:
    for message in messages:
        if message.role == "tool":
            parts = tuple([part for part in message.parts if not isinstance(part, ToolResult)])
            if not parts:
                continue
            message = msgspec.structs.replace(message, parts=parts)
        yield message


class Answered(msgspec.Struct, frozen=True):
    """A tool call and its result, under the `id` that both have on the wire."""

    id: str
    call: ToolCall
    result: ToolResult


class Round(msgspec.Struct, frozen=True):
    """A message, and what came of its tool calls, in their order."""

    message: Message
    answers: Sequence[Answered] = ()


def rounds(messages: Sequence[Message]) -> list[Round]:
    """The rounds of a conversation; names stay as they are."""
    found: list[tuple[Message, dict[str, ToolResult]]] = []
    for message in matched(messages, fits=_NAME.fullmatch, make=_make_id, named=str):
        if message.role != "tool":
            found.append((message, {}))
        elif found:
            found[-1][1].update({result.call_id: result for result in message.tool_results})
    return [Round(message, _answers(message, results) if results else ()) for message, results in found]


def _answers(message: Message, results: dict[str, ToolResult]) -> tuple[Answered, ...]:
    ids = [(cast("str", call.id), call) for call in message.tool_calls]
    return tuple([Answered(identity, call, results[identity]) for identity, call in ids])


def _make_id(number: int) -> str:
    return f"call_{number}"


def schema_instruction(schema: dict[str, Any]) -> str:
    """What tells a model the schema of its answer, where the format cannot force it."""
    written = msgspec.json.encode(schema).decode()
    return f"Your final answer must be one JSON object, and nothing else, that follows this JSON schema:\n{written}"
