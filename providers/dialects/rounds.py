"""A conversation as rounds: each message with the answers to its tool calls, for formats that want them matched. Pure.

Histories come from runs, from other providers and from elsewhere. So calls may have no id, ids may repeat from turn to
turn or hold characters that a provider refuses, and the result of a call may be missing. A `Round` is a message that is
not of role ``tool``, with its calls in order, each under an id that no other call of the conversation has, and each
with exactly one result:

- a result belongs to the call of the round before it with its id, or else to the first call without an id;
- a call that has no result gets one that says so, because providers refuse a call without; one of a message whose
  stream was cut never ran and is left out;
- a result that belongs to no call is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ..messages import Message, ToolCall, ToolResult
from .call_ids import fitting_name

_LONGEST = 64

#: What a format that refuses empty text is told where there is none.
NOTHING = "(empty)"


class Answered(msgspec.Struct, frozen=True):
    """A tool call and its result, under the `id` that both have on the wire."""

    id: str
    call: ToolCall
    result: ToolResult


class Round(msgspec.Struct, frozen=True):
    """A message, and what came of its tool calls, in their order."""

    message: Message
    answers: Sequence[Answered] = ()

    def answer_to(self, call: ToolCall) -> Answered | None:
        """The answer to a call of this message; None for a call that is left out."""
        return next((answer for answer in self.answers if answer.call is call), None)


def rounds(messages: Iterable[Message]) -> list[Round]:
    """The rounds of a conversation."""
    found: list[Round] = []
    taken: set[str] = set()
    message: Message | None = None
    results: list[ToolResult] = []
    for each in messages:
        if each.role == "tool":
            results += each.tool_results
            continue
        if message is not None:
            found.append(_round(message, results, taken))
        message, results = each, []
    if message is not None:
        found.append(_round(message, results, taken))
    return found


def _round(message: Message, results: list[ToolResult], taken: set[str]) -> Round:
    calls = message.tool_calls
    if not calls:
        return Round(message)
    left = list(results)
    ids = {call.id for call in calls}
    nameless = [result for result in left if result.call_id not in ids]
    answers: list[Answered] = []
    for index, call in enumerate(calls):
        if call.id is not None:
            result = next((each for each in left if each.call_id == call.id), None)
        else:
            result = nameless.pop(0) if nameless else None
        if result is not None:
            left = [each for each in left if each is not result]
        elif message.partial:
            continue
        else:
            text = "outcome unknown: the history has no result of this call"
            result = ToolResult(call.id or "", text, call.name, True, "outcome_unknown")
        answers.append(Answered(_own_id(call.id or f"call_{index}", taken), call, result))
    return Round(message, tuple(answers))


def _own_id(wanted: str, taken: set[str]) -> str:
    """An id that every provider accepts and that no call before has."""
    base = fitting_name(wanted)
    made, number = base, 1
    while made in taken:
        number += 1
        suffix = f"_{number}"
        made = base[: _LONGEST - len(suffix)] + suffix
    taken.add(made)
    return made


def schema_instruction(schema: dict[str, Any]) -> str:
    """What tells a model the schema of its answer, where the format cannot force it beside tools."""
    written = msgspec.json.encode(schema).decode()
    return f"Your final answer must be one JSON object, and nothing else, that follows this JSON schema:\n{written}"
