"""Ids and names of tool calls as a provider accepts them, whoever made them. Pure.

A conversation may hold calls of another provider, whose ids are longer or hold other characters; calls without an id,
whose results carry one that the caller made up; one id in several turns; names that a model made up, like
``functions.weather``; calls of an answer that was cut, which never ran. Any of these gets the whole conversation
refused, for good. `fitted` mends them on the way out: what fits stays as it is, and what does not is replaced in the
call and in its result alike. The replacements depend on what came before only, so that a growing conversation keeps its
beginning, and with it the provider's cache.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec

from ..messages import Message, Part, ToolCall, ToolResult

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ODD = re.compile(r"[^a-zA-Z0-9_-]")


def fitted(
    messages: Sequence[Message], *, fits: Callable[[str], object], make: Callable[[int], str]
) -> Sequence[Message]:
    """The conversation with ids and names that fit; the same list where all do.

    Args:
        messages: the conversation.
        fits: whether the provider accepts an id.
        make: an id that it accepts, for a number; other numbers give other ids.
    """
    if _fit_already(messages, fits):
        return messages
    messages = _without_cut_calls(messages)
    taken = {call.id for message in messages for call in message.tool_calls}
    used: set[str] = set()
    number = -1
    open_calls: list[tuple[str | None, str]] = []  # of the last message with calls: its ids before and after
    written: list[Message] = []
    for message in messages:
        if message.role == "assistant":
            open_calls = []
        parts: list[Part] = []
        for part in message.parts:
            if isinstance(part, ToolCall):
                identity = part.id
                number += 1
                if not identity or identity in used or not fits(identity):
                    while (identity := make(number)) in taken or identity in used:
                        number += 1
                used.add(identity)
                open_calls.append((part.id, identity))
                part = msgspec.structs.replace(part, id=identity, name=fitting_name(part.name))
            elif isinstance(part, ToolResult):
                identity = _answered(open_calls, part.call_id)
                name = None if part.name is None else fitting_name(part.name)
                part = msgspec.structs.replace(part, call_id=identity, name=name)
            parts.append(part)
        written.append(msgspec.structs.replace(message, parts=tuple(parts)))
    return written


def fitting_name(name: str) -> str:
    """The name of a tool in letters that every provider takes; a name that fits stays as it is."""
    return name if _NAME.fullmatch(name) else _ODD.sub("_", name)[:64] or "unnamed"


def _fit_already(messages: Sequence[Message], fits: Callable[[str], object]) -> bool:
    """Whether every call has an id of its own and a name that fit, and none may be cut."""
    seen: set[str] = set()
    for message in messages:
        if message.role == "assistant":
            for part in message.parts:
                if type(part) is ToolCall:
                    identity = part.id
                    if not identity or identity in seen or message.partial:
                        return False
                    if not fits(identity) or not _NAME.fullmatch(part.name):
                        return False
                    seen.add(identity)
    return True


def _without_cut_calls(messages: Sequence[Message]) -> list[Message]:
    """Without the calls of answers that were cut: they never ran and have no results."""
    kept: list[Message] = []
    for index, message in enumerate(messages):
        followed = index + 1 < len(messages) and messages[index + 1].role == "tool"
        if message.partial and message.tool_calls and not followed:
            parts = tuple([part for part in message.parts if not isinstance(part, ToolCall)])
            message = msgspec.structs.replace(message, parts=parts)
        kept.append(message)
    return kept


def _answered(open_calls: list[tuple[str | None, str]], given: str) -> str:
    """The id of the call that a result belongs to: of that id, or else the first without an id; taken off the list."""
    for wanted in (given, None, ""):
        for position, (before, after) in enumerate(open_calls):
            if before == wanted:
                del open_calls[position]
                return after
    return given
