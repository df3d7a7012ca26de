"""A conversation that grows, with the sizes of its messages: what is kept of it at a cut, and how much that is. Pure.

Each message is weighed once. Sums over the messages make the size of what is kept a matter of a few subtractions, so
that looking for a cut does not look at the messages again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ..providers import Message
from .token_count import TextCounter, count_message
from .trimming import Outline, cap_message, without_calls

#: Spans of positions among the messages: from the first, up to the second.
Spans = Sequence[tuple[int, int]]


class Weighed(NamedTuple):
    """A message as it is sent, and what is left of it without tool calls and their results."""

    message: Message
    tokens: int
    spoken: Message | None
    spoken_tokens: int


class Size(NamedTuple):
    """How much something is."""

    messages: int
    tokens: int


def weigh(message: Message, most: int | None, keep_tool_calls: bool, count: TextCounter) -> Weighed:
    """Cut a message to the most tokens that it may have, and count it."""
    kept = cap_message(message, most, count) if most is not None else message
    tokens = count_message(kept, count)
    spoken = kept if keep_tool_calls else without_calls(kept)
    if spoken is kept:
        return Weighed(kept, tokens, kept, tokens)
    return Weighed(kept, tokens, spoken, count_message(spoken, count) if spoken is not None else 0)


class Tally:
    """The conversation.

    Args:
        keep_tool_calls: whether tool calls from before the question at hand are kept.

    Attributes:
        outline: its units.
    """

    __slots__ = ("_all_calls", "_messages", "_numbers", "_spoken", "_tokens", "_weighed", "outline")

    def __init__(self, keep_tool_calls: bool = True) -> None:
        self.outline = Outline()
        self._all_calls = keep_tool_calls
        self._weighed: list[Weighed] = []
        #: The messages as they are sent, None for those of which nothing is left; and sums over those before each.
        self._messages: list[Message | None] = []
        self._tokens = [0]
        self._numbers = [0]
        #: The position up to which tool calls are left out.
        self._spoken = 0

    def __len__(self) -> int:
        return len(self._weighed)

    def add(self, weighed: Iterable[Weighed]) -> int:
        """The conversation goes on; returns the first unit that is new or has grown."""
        outline = self.outline
        before, changed = len(outline), -1
        for each in weighed:
            outline.add(each.message)
            self._weighed.append(each)
            if changed < 0:
                changed = min(before, len(outline) - 1)
        self._sum_from(len(self._messages))
        return changed if changed >= 0 else before

    def _sum_from(self, position: int) -> None:
        del self._messages[position:], self._tokens[position + 1 :], self._numbers[position + 1 :]
        for place in range(position, len(self._weighed)):
            whole, tokens, spoken, spoken_tokens = self._weighed[place]
            if place < self._spoken:
                whole, tokens = spoken, spoken_tokens
            self._messages.append(whole)
            self._tokens.append(self._tokens[-1] + tokens)
            self._numbers.append(self._numbers[-1] + (whole is not None))

    def leave_calls_out(self, end: int) -> None:
        """Leave out the tool calls before the question that is at hand when the conversation ends with this unit."""
        if self._all_calls or end == 0:
            return
        pins = self.outline.pins(end)
        spoken = self.outline.starts[pins[0]] if pins else 0
        if spoken > self._spoken:
            before, self._spoken = self._spoken, spoken
            self._sum_from(before)

    def kept(self, cut: int, end: int) -> Spans:
        """What is kept of the units before `end` when those before `cut` are left out."""
        return self.outline.kept(max(cut, self.outline.lead), end, self.outline.pins(end))

    def size(self, spans: Spans) -> Size:
        """How much is in these spans."""
        numbers = sum([self._numbers[stop] - self._numbers[start] for start, stop in spans])
        return Size(numbers, sum([self._tokens[stop] - self._tokens[start] for start, stop in spans]))

    def messages(self, spans: Spans) -> list[Message]:
        """The messages in these spans."""
        return [each for start, stop in spans for each in self._messages[start:stop] if each is not None]

    @property
    def lead(self) -> int:
        """How many messages at the beginning are the system's."""
        return self.outline.end_of(self.outline.lead - 1) if self.outline.lead else 0

    def next_cut(self, cut: int, end: int, fits: Callable[[Size], bool]) -> int:
        """The first cut from this one on at which what is kept fits; the last possible one if it never does."""
        pins = self.outline.pins(end)
        first = max(cut, self.outline.lead)
        return self.outline.next_cut(first, end, lambda at: fits(self.size(self.outline.kept(at, end, pins))))
