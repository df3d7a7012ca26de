"""A conversation from elsewhere, made valid. Pure.

Our own histories are valid as they are written. In one from elsewhere, a result may be missing, come twice, stand
before its call or behind a later message, or belong to nothing; calls may have no id, or the same one; a message may
have been cut off in the middle of a call. Nothing that is known is thrown away: a result is moved to its call, and only
what belongs to no call is left out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from ..providers import Message, ToolCall, ToolResult
from ..providers.messages import ServerItem
from .machine import with_distinct_ids


def repaired(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages with exactly one result for each tool call, right after it, in the order of the calls."""
    answers = _Answers(messages)
    valid: list[Message] = []
    for position, message in enumerate(messages):
        if message.role == "tool":
            continue  # its results come with their calls
        found = [answers.to(call, position) for call in message.tool_calls]
        kept = _without_remains(message, [result is not None for result in found])
        if kept is None:
            continue
        if message.partial:
            found = [result for result in found if result is not None]
        kept = with_distinct_ids(kept, position)
        valid.append(kept)
        for call, result in zip(kept.tool_calls, found, strict=True):
            result = result or _unknown(call)
            if result.call_id != call.id:
                result = msgspec.structs.replace(result, call_id=call.id or "")
            valid.append(Message("tool", (result,)))
    return tuple(valid)


class _Answers:
    """The results of a conversation, by the call that each belongs to: the last one before it with its id.

    A result that stands before all calls with its id belongs to the first of them, if that has no other.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        asked: dict[str, list[int]] = {}
        for position, message in enumerate(messages):
            for id in dict.fromkeys(call.id or "" for call in message.tool_calls):
                asked.setdefault(id, []).append(position)
        self._found: dict[tuple[str, int], list[ToolResult]] = {}
        early: dict[tuple[str, int], list[ToolResult]] = {}
        for position, message in enumerate(messages):
            for result in (part for part in message.parts if isinstance(part, ToolResult)):
                places = asked.get(result.call_id)
                if places is not None:
                    before = bisect_right(places, position)
                    found = self._found if before else early
                    found.setdefault((result.call_id, places[max(before - 1, 0)]), []).append(result)
        self._found = {**early, **self._found}
        for key, results in self._found.items():
            # What stood for a result while its call waited for an approval gives way to the result.
            settled = [result for result in results if result.cause != "pending"]
            self._found[key] = (settled or results)[::-1]

    def to(self, call: ToolCall, position: int) -> ToolResult | None:
        """The result of a call in the message at this position; of several with the same id, one after the other."""
        results = self._found.get((call.id or "", position))
        return results.pop() if results else None


def _without_remains(message: Message, answered: Sequence[bool]) -> Message | None:
    """The message without what belongs elsewhere or was never finished; None if nothing of it is left.

    Of a message that was cut off, a call that nobody has answered never ran, and an item of the provider's own may be
    half of what it was to be.
    """
    parts = [part for part in message.parts if not isinstance(part, ToolResult)]
    if message.partial:
        runs = iter(answered)
        parts = [part for part in parts if (next(runs) if isinstance(part, ToolCall) else True)]
        parts = [part for part in parts if not isinstance(part, ServerItem)]
    if len(parts) == len(message.parts):
        return message
    return msgspec.structs.replace(message, parts=tuple(parts)) if parts else None


def _unknown(call: ToolCall) -> ToolResult:
    text = "outcome unknown: the history has no result of this call"
    return ToolResult(call.id or "", text, call.name, True, "outcome_unknown")
