"""Crashes without processes: a journal in memory that can be had as it was after any of its entries."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import anyio
import msgspec
import pytest

from greenroom import Chronicle, MemoryJournal, RunResult
from greenroom.agents.sources import Sources
from greenroom.journal import Claim
from greenroom.providers import Message, ModelReply, ModelRequest, Price, Prices, Provider, Usage, assistant, call


class Written(NamedTuple):
    """An entry, and whose it is."""

    run_id: str
    entry: bytes
    final: bool
    parent_id: str | None
    conversation_id: str | None


class RecordingJournal(MemoryJournal):
    """A journal that keeps everything, in the order in which it came, over all runs."""

    __slots__ = ("written",)

    def __init__(self) -> None:
        super().__init__(keep=True)
        self.written: list[Written] = []

    def append(self, claim: Claim, entry: bytes, *, final: bool = False, sequence: int | None = None) -> int:
        names = claim.noted or (None, None)
        place = super().append(claim, entry, final=final, sequence=sequence)
        self.written.append(Written(claim.run_id, bytes(entry), final, *names))
        return place

    def after(self, number: int) -> Self:
        """A new journal with the first entries of this one, as if the process had died then."""
        made = type(self)()
        claims: dict[str, Claim] = {}
        for each in self.written[:number]:
            claim = claims.get(each.run_id)
            if claim is None:
                names = {"parent_id": each.parent_id, "conversation_id": each.conversation_id}
                claim = claims[each.run_id] = made.create(each.run_id, **names)
            made.append(claim, each.entry, final=each.final)
        return made


async def story(journal: MemoryJournal, run_id: str) -> Chronicle:
    """What a journal says of a run."""
    return Chronicle(await journal.read(run_id))


async def check_told(journal: MemoryJournal, result: RunResult[Any]) -> Chronicle:
    """The journal tells the same story as the result.

    But for what a suspension has cut short: the result closes it, so that it is valid, and counts what subagents of
    open calls, and in the background, have used so far; in the journal it is open, and they have journals of their own.
    """
    told = await story(journal, result.run_id)
    messages = list(result.messages)
    if told.standing == "suspended":
        messages = [message for message in messages if not message.partial and not _is_cut(message)]
    assert told.messages == tuple(messages), f"the journal says {told.messages}"
    if told.standing != "suspended" or not (told.open_calls or told.spawned.keys() - told.returned):
        assert told.usage == result.usage, f"the journal says {told.usage}, the result {result.usage}"
        cost = pytest.approx(result.cost) if result.cost is not None else None
        assert told.cost == cost, f"the journal says {told.cost}, the result {result.cost}"
    if told.standing != "suspended":
        assert (told.standing, told.reason) == (result.status, result.reason), f"the journal says {told.standing}"
    return told


def _is_cut(message: Message) -> bool:
    return any(each.cause == "cancelled" for each in message.tool_results)


class Lines(Provider):
    """A model that plays its lines by the number of replies in the conversation, for any number of runs and processes.

    A line is text, a list of calls (names, or names with arguments), or a whole reply. Each takes `seconds`, so that
    whoever has something to do meanwhile can do it.
    """

    name = "lines"
    model = "m"

    def __init__(self, *lines: Any, seconds: float = 0.001) -> None:
        self.lines = lines
        self.seconds = seconds
        #: The turns that were asked for, each as often as it was.
        self.asked: list[int] = []

    async def complete(self, request: ModelRequest) -> ModelReply:
        turn = sum(message.role == "assistant" for message in request.messages)
        self.asked.append(turn)
        await anyio.sleep(self.seconds)
        line = self.lines[turn]
        if isinstance(line, BaseException):
            raise line
        if isinstance(line, str):
            return ModelReply(assistant(line), "stop", USED, self.model, None, "stop")
        calls = [call(each) if isinstance(each, str) else call(each[0], **each[1]) for each in line]
        calls = [msgspec.structs.replace(each, id=f"c{turn}-{place}") for place, each in enumerate(calls)]
        return ModelReply(assistant(tool_calls=calls), "tool_calls", USED, self.model, None, "tool_calls")


#: What one reply of `Lines` has used, and what that costs.
USED = Usage(input_tokens=10, output_tokens=2)
PRICES = Prices({"m": Price(input=1.0, output=1.0)})
COST = 12e-6


def virtual(prefix: str = "x") -> Sources:
    """Sources whose wall clock is the event loop's, from 1,000 seconds on."""
    return Sources(clock=lambda: 1_000.0 + anyio.current_time(), chance=lambda: 0.5, prefix=prefix)
