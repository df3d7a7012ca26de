"""What a tool call had begun before a crash, when it runs once more: its subagents are found again by what they do.

Their ids are numbered in the order in which they began, and that need not be the order of the second time: tasks that
are started together run in any order. So a subagent goes on with any run of the call that has the same agent and the
same messages, and only one that has none is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from ..journal import Damaged
from ..providers import Message
from .chronicle import Chronicle
from .lost_runs import UNREADABLE
from .resumption import bytes_of, input_of

if TYPE_CHECKING:
    from .tool_cell import ToolCell

_Work: TypeAlias = tuple[str, bytes]


class Begun:
    """The subagents of one call that ended with an answer, or have not ended, and have not gone on yet."""

    __slots__ = ("_found", "_known")

    def __init__(self) -> None:
        self._found: dict[_Work, dict[str, Sequence[bytes]]] = {}
        self._known: set[str] = set()

    @classmethod
    async def of(cls, caller: ToolCell) -> Begun:
        """What the journal has of them."""
        begun = cls()
        run, shelf = caller.run, caller.run.stage.journal
        place = f"{run.place_of(caller)}."
        try:
            listed = await shelf.runs(parent_id=run.name)
        except Damaged as damaged:
            listed = list(damaged.others)  # type: ignore[arg-type]
        for each in sorted(listed, key=lambda each: (len(each.run_id), each.run_id)):
            if each.run_id.startswith(place):
                begun._known.add(each.run_id)
                begun._add(each.run_id, await shelf.read(each.run_id), caller.call_id)
        return begun

    def _add(self, run_id: str, entries: Sequence[bytes], call_id: str) -> None:
        try:
            told = Chronicle(entries)
        except UNREADABLE:
            return  # it is begun anew
        if told.began.call_id == call_id and (told.ended is None or told.ended.status == "completed"):
            work = told.began.agent, bytes_of(input_of(told))
            self._found.setdefault(work, {})[run_id] = entries

    def take(
        self, agent: str, history: Sequence[Message], prompt: Sequence[Message], run_id: str
    ) -> tuple[str, Sequence[bytes]] | None:
        """The id and the entries of one that does this, of that id if there is one; nobody else is given it."""
        found = self._found.get((agent, bytes_of((tuple(history), tuple(prompt)))), {})
        id = run_id if run_id in found else next(iter(found), None)
        return (id, found.pop(id)) if id is not None else None

    def knows(self, run_id: str) -> bool:
        """Whether the journal has a run of that id."""
        return run_id in self._known
