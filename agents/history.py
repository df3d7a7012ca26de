"""Conversations from elsewhere: read in any of the accepted shapes, and made valid.

A provider refuses a history in which a tool call has no result, or a result no call; one such gap makes a conversation
unusable for good. Our own histories have none; what comes from elsewhere is mended (`repair`).
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import msgspec

from ..providers import Message, Part, Text, message_from_openai, user
from ..providers.messages import Document, Image
from .repair import repaired
from .result import RunResult

#: One user message (text, parts), or whole messages, ours or OpenAI-style dictionaries.
Prompt: TypeAlias = "str | Message | Part | Sequence[str | Part] | Sequence[Message | Mapping[str, Any]]"
History: TypeAlias = "RunResult[Any] | Iterable[Message | Mapping[str, Any]]"


def read_prompt(prompt: Prompt) -> tuple[Message, ...]:
    """The messages of a prompt.

    Raises:
        TypeError: it has none of the accepted shapes.
    """
    if isinstance(prompt, str):
        return (user(_plain(prompt)),)
    if isinstance(prompt, Message):
        return (prompt,)
    if isinstance(prompt, Text | Image | Document):
        return (user(prompt),)
    if isinstance(prompt, Sequence):
        items: list[Any] = list(prompt)
        if items and all(isinstance(item, str | Text | Image | Document) for item in items):
            return (user(*(_plain(item) if isinstance(item, str) else item for item in items)),)
        if items and all(isinstance(item, Message | Mapping) for item in items):
            return _read_messages(items, "a prompt")
    raise TypeError(
        "a prompt is text, parts such as image(…), a Message, or a list of messages or OpenAI-style dictionaries, "
        f"not {type(prompt).__name__}"
    )


def read_conversation(
    history: History | None, prompt: Prompt | None
) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """What was before a run, and what starts it; repaired where a provider would refuse it.

    Raises:
        TypeError: one of them has none of the accepted shapes.
        ValueError: there is nothing to answer in them.
    """
    before = _read_history(history) if history is not None else ()
    start = read_prompt(prompt) if prompt is not None else ()
    if any(message.role == "tool" for message in start):
        # Results of calls in the history: only together do they make a valid whole.
        before, start = (*before, *start), ()
        if not repaired(before):
            raise ValueError(
                "the prompt holds only results of tool calls, and no message that asks for them: "
                "give what was before as history="
            )
    before = repaired(before)
    if not before and not start:
        raise ValueError("the history is empty, so there is nothing to answer: give a prompt too")
    return before, start


def _read_history(history: History) -> tuple[Message, ...]:
    if isinstance(history, RunResult):
        return tuple(history.messages)
    given = cast("object", history)
    if isinstance(given, Message | Mapping):
        kind = type(cast("object", given)).__name__
        raise TypeError(f"history= takes a list of messages: write history=[…], not one {kind}")
    if isinstance(given, AsyncIterable):
        raise TypeError("history= takes a list of messages; read the async iterable first: [each async for each in …]")
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise TypeError(f"history= takes a result or a list of messages, not {_shown(given)}")
    return _read_messages(history, "history=")


def _read_messages(messages: Iterable[Message | Mapping[str, Any]], what: str) -> tuple[Message, ...]:
    return tuple(_read_message(each, what) for each in messages)


def _read_message(each: Message | Mapping[str, Any], what: str) -> Message:
    if isinstance(each, Message):
        return each
    if isinstance(each, Mapping):
        return _from_ours(each) if "parts" in each else message_from_openai(each)
    if isinstance(each, RunResult):
        raise TypeError(f"{what} holds a result: give history=result, or its messages, [*result.messages, …]")
    raise TypeError(f"{what} holds messages or OpenAI-style dictionaries, not {_shown(each)}")


def _from_ours(each: Mapping[str, Any]) -> Message:
    """A message as `RunResult.to_dict` and `to_json` write it."""
    try:
        return msgspec.convert(each, Message)
    except msgspec.ValidationError as error:
        raise TypeError(f"a dictionary with parts is no message of ours: {error}") from None


def _plain(text: str) -> str:
    """The text without what a subclass adds: markup, an enumeration."""
    return text if type(text) is str else str.__str__(text)


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else type(value).__name__
