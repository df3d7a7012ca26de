"""What a streamed answer has said, and what an event of its run adds to that. Pure.

A reader that is slow loses deltas, and gets an `EventsDropped` in their place. No text may be missing in an answer, so
from such a gap on nothing more is said until the run has ended. Then the whole text is known, and the rest of it is
said.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from ..agents import events
from .openai_answers import BETWEEN_TURNS, Delta

#: Events of tools, which a client may ask to see.
_OF_TOOLS = (
    events.ToolStarted,
    events.ToolProgress,
    events.ToolCompleted,
    events.ToolErrored,
    events.ToolRetrying,
)


class ToolNews(msgspec.Struct, frozen=True):
    """What a chunk has for `greenroom` that tells of a tool."""

    event: Any


class Saying:
    """What has been said of the answer of one run.

    Args:
        run_id: the run; what its subagents say is no part of its answer.
        at_the_end: whether nothing is said before the run has ended.
        include: what is shown beside the text: ``tools``, ``reasoning``.
    """

    __slots__ = ("_gap", "_pieces", "_reasoning", "_run_id", "_tools", "_turn")

    def __init__(self, run_id: str, at_the_end: bool, include: Collection[str] = ()) -> None:
        self._run_id = run_id
        self._gap = at_the_end
        self._tools = "tools" in include
        self._reasoning = "reasoning" in include
        self._pieces: list[str] = []
        self._turn = 0

    def take(self, event: events.Event) -> Delta | ToolNews | None:
        """What an event adds."""
        if isinstance(event, events.EventsDropped):
            self._gap = True
            return None
        if event.run_id != self._run_id:
            return None
        match event:
            case events.ModelTextDelta() if not self._gap and event.text:
                apart = BETWEEN_TURNS if self._pieces and event.turn != self._turn else ""
                self._turn = event.turn
                self._pieces.append(apart + event.text)
                return Delta(content=apart + event.text)
            case events.ModelThinkingDelta() if self._reasoning and event.text:
                return Delta(reasoning_content=event.text)
            case _:
                return ToolNews(event) if self._tools and isinstance(event, _OF_TOOLS) else None

    def lose(self) -> None:
        """Events are missing here, and nobody can tell which."""
        self._gap = True

    def rest(self, content: str) -> str:
        """What is still to be said, of all that there is to say."""
        said = "".join(self._pieces)
        return content[len(said) :] if content.startswith(said) else ""
