"""Images and documents that a tool returned, for formats whose tool results are text. Pure.

They are put into a message of the user behind the results of the turn, under the name of their tool. Where a format
cannot carry one at all, the line that stands for it in the result's text has to do: a conversation is never refused
because of what a tool once returned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..messages import Document, Image, Message, Part, Text, ToolResult


def results_apart(messages: Sequence[Message], takes: Callable[[Image | Document], bool]) -> Sequence[Message]:
    """The conversation with what tools returned beside text in messages of the user.

    Args:
        messages: the conversation.
        takes: whether a message of the user can carry this in the format.
    """
    if not any(result.parts for message in messages if message.role == "tool" for result in message.tool_results):
        return messages
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    written: list[Message] = []
    waiting: list[Part] = []
    for message in messages:
        if message.role != "tool" and waiting:
            written.append(Message("user", tuple(waiting)))
            waiting = []
        written.append(message)
        for result in message.tool_results if message.role == "tool" else ():
            waiting += _shown(result, names.get(result.call_id), takes)
    return [*written, Message("user", tuple(waiting))] if waiting else written


def _shown(result: ToolResult, name: str | None, takes: Callable[[Image | Document], bool]) -> list[Part]:
    shown = [part for part in result.attachments if takes(part) and (part.data or part.url)]
    return [Text(f"Returned by {result.name or name or 'a tool'}:"), *shown] if shown else []
