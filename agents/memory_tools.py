"""What a model has of a memory: the tools `remember`, `recall` and `forget`.

The scope is the user that the run works for; a model can neither see nor name another one. All three may run again
after a crash: what is there already is not kept twice, and what is gone stays gone.

A note is shown to a model as one line of JSON text, so that nothing in it looks like the lines around it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from .context import RunContext
from .errors import ModelRetry
from .memory import LIMIT, Memory, Note, check_memory
from .tool import Tool

#: Notes that a model gets at once at most.
MOST = 50
#: What ends a line in the eyes of some readers, and is left as it is by JSON.
_LINE_ENDS = {ord(each): f"\\u{ord(each):04x}" for each in "\x85\u2028\u2029"}


def memory_tools(memory: Memory) -> list[Tool[..., Any]]:
    """The tools `remember`, `recall` and `forget` for these notes. ``Agent(memory=…)`` adds them by itself.

    They have the tag ``memory``, for policies.

    Raises:
        TypeError: it is no store.
    """
    check_memory(memory)

    async def remember(text: str, context: RunContext[Any]) -> str:
        """Keep a note for later conversations: a fact, a preference or a decision that will matter again.

        Write it so that it can be understood by itself. To correct a note, forget it and write a new one.

        Args:
            text: one short statement.
        """
        try:
            note_id = await memory.remember(text, scope=context.user_id)
        except ValueError as error:
            raise ModelRetry(str(error)) from error
        return f"kept as note {note_id}"

    async def recall(
        query: str, context: RunContext[Any], limit: Annotated[int, msgspec.Meta(ge=1, le=MOST)] = LIMIT
    ) -> str:
        """Look for notes from earlier conversations.

        Args:
            query: words to look for, any of which may be in the note; empty for the newest notes.
            limit: how many at most.
        """
        notes = await memory.recall(query, scope=context.user_id, limit=limit)
        return "\n".join(map(line_of, notes)) if notes else "no note fits; look for other words, or for none"

    async def forget(note_id: str, context: RunContext[Any]) -> str:
        """Drop a note that is wrong, out of date or no longer wanted.

        Args:
            note_id: the id in the square brackets before the note.
        """
        there = await memory.forget(note_id, scope=context.user_id)
        return f"note {note_id} is forgotten" if there else f"there is no note {note_id}"

    return [_made(remember), _made(recall), _made(forget)]


def _made(function: Callable[..., Any]) -> Tool[..., Any]:
    return Tool(function, replay="safe", tags=["memory"])


def line_of(note: Note) -> str:
    """A note as a model sees it."""
    return f"[{note.id}] {json.dumps(note.text, ensure_ascii=False).translate(_LINE_ENDS)}"
