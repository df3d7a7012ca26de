"""Following an answer that is an object while it is written: the part of it that is there.

The reader takes the text of the run's own answer, or the arguments of its output tool, and reads them when it is asked
for the next object, not when they come: whoever is slow misses the objects in between and gets the latest. It keeps
only the text that it has not read, and is never detached.

Every turn begins anew, so an answer that was sent back gives way to the next one. So does the call of an output tool
whose reply was cut off and is asked for again; text that was shown is never asked for again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from .events import Event, ModelStarted, ModelTextDelta, ModelToolArgsDelta
from .partial_json import ABSENT, PartialJson
from .readers import DELTA_BOUND, EventLog, Reader


class ObjectReader(Reader):
    """Iterates the answer of one run as it grows, and at last its output; raises the run's error at the end.

    What grows are plain dictionaries, lists and texts, to be treated as read-only. The output is that of the result;
    of a run that was stopped there is none.

    Args:
        log: the run's log.
        run_id: the run.
        tool: the name of the output tool.
        key: the key whose value is the output, where it is wrapped in an object.
        output: gives whether the run has completed, and its output.
        shown, turn: what has been streamed of the turn at hand before this reader came.
    """

    __slots__ = ("_call", "_json", "_key", "_last", "_output", "_over", "_pieces", "_run_id", "_tool", "_turn")

    def __init__(
        self,
        log: EventLog,
        run_id: str,
        tool: str,
        key: str | None,
        output: Callable[[], tuple[bool, Any]],
        shown: str = "",
        turn: int = 0,
    ) -> None:
        super().__init__(log)
        self._run_id = run_id
        self._tool = tool
        self._key = key
        self._output = output
        self._turn = turn
        #: Where the call of the output tool stands in the reply that comes.
        self._call: int | None = None
        self._json = PartialJson()
        #: What has come and is not read.
        self._pieces: list[str] = [shown] if shown else []
        self._last: Any = ABSENT
        self._over = False
        self.log.join(self, 0)

    def push(self, event: Event) -> None:
        """Take what belongs to the answer; never waits."""
        if event.run_id != self._run_id:
            return
        if event.turn > self._turn:
            self._turn = event.turn
            self._begin()
        if isinstance(event, ModelStarted):
            if self._call is not None:
                self._begin()
        elif isinstance(event, ModelTextDelta):
            if self._call is None:
                self._append(event.text)
        elif isinstance(event, ModelToolArgsDelta):
            if event.name == self._tool and self._call is None:
                self._begin()  # what was said beside the answer is none
                self._call = event.index
            if event.index == self._call:
                self._append(event.arguments)

    def _begin(self) -> None:
        self._call = None
        self._json = PartialJson()
        self._pieces.clear()

    def _append(self, text: str) -> None:
        if text:
            if len(self._pieces) >= DELTA_BOUND:
                self._pieces = ["".join(self._pieces)]
            self._pieces.append(text)
            self._tell()

    def _partial(self) -> Any:
        """The answer as far as it is there, or ABSENT where there is nothing new worth showing."""
        text = "".join(self._pieces)
        self._pieces.clear()
        self._json.feed(text)
        if not self._json.due:
            return ABSENT
        found = self._json.snapshot()
        if self._key is not None and found is not ABSENT:
            found = cast("dict[str, Any]", found).get(self._key, ABSENT) if isinstance(found, dict) else ABSENT
        return ABSENT if found == self._last else found

    async def __anext__(self) -> Any:
        while not self._over:
            if self._finished:
                self.log.raise_error()
                self._over = True
                completed, output = self._output()
                if completed:
                    return output
                break
            if self._pieces:
                found = self._partial()
                if found is not ABSENT:
                    self._last = found
                    return found
            await self._more()
        raise StopAsyncIteration
