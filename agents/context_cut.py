"""Where a conversation is cut, and what stands in front of what is kept. Pure.

What is sent is told by a *cut*, a place between two units (see `trimming`), and by what stands for the units before it:
a note, a summary, or what somebody has put in the place of all that was. A cut only moves forward, so making room comes
to an end, and it moves far enough to hold for a while: a provider's cache needs the same beginning.

Where old messages are dropped, the cut depends on the conversation alone: it is found by going through the units as if
each had been a request. So a run that was recovered, and the next run of a conversation, cut where the ones before did.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..providers import Message, user
from .context_tally import Size, Spans, Tally, Weighed
from .context_window import ContextWindow
from .token_count import TextCounter, count_message

#: The share of the window to which a conversation is cut that has outgrown it, and the share of that which is kept word
#: for word where the rest is for a summary.
SHARE = 0.75
KEPT = 2 / 3

_HEADING = "[Summary of the earlier conversation]\n"


def summary_message(text: str) -> Message:
    """The message that a summary is sent in."""
    return user(_HEADING + text)


class SummaryPlan(NamedTuple):
    """What a summary is to replace: the units up to `cut`. It may have `most` tokens."""

    cut: int
    messages: list[Message]
    most: int


class ContextCut:
    """How the conversation of one run is cut.

    Args:
        window: the agent's.

    Attributes:
        tally: the conversation.
        earlier: the summary of what is before the cut; empty if there is none.
    """

    __slots__ = (
        *("_cut", "_earlier_tokens", "_from", "_lost", "_note_tokens", "_replaced", "_replaced_tokens", "_walked"),
        *("_window", "earlier", "tally"),
    )

    def __init__(self, window: ContextWindow) -> None:
        self._window = window
        self.tally = Tally(window.keep_tool_calls)
        self._note_tokens = 0
        self._cut = 0
        #: How many units have been gone through to find the cut.
        self._walked = 0
        #: A summary, and how many messages were left out beside it.
        self.earlier = ""
        self._earlier_tokens = 0
        self._lost = 0
        #: What has been put in the place of the messages before a position.
        self._replaced: list[Message] | None = None
        self._replaced_tokens = 0
        self._from = 0

    def add(self, weighed: Iterable[Weighed]) -> None:
        """The conversation goes on."""
        self._walked = min(self._walked, self.tally.add(weighed))

    def count_note(self, count: TextCounter) -> None:
        """Find out how much a note on what is left out has at most."""
        self._note_tokens = sum([count_message(each, count) for each in self._note(1_000_000)])

    # -- what is sent, and how much it is

    @property
    def _end(self) -> int:
        return len(self.tally.outline)

    def _spans(self) -> Spans:
        if self._replaced is not None:
            return [(self._from, len(self.tally))]
        return self.tally.kept(self._cut, self._end)

    @property
    def size(self) -> Size:
        """How much is sent. A note and a summary are no messages of the conversation."""
        messages, tokens = self.tally.size(self._spans())
        if self._replaced is not None:
            return Size(messages + len(self._replaced), tokens + self._replaced_tokens)
        return Size(messages, tokens + self._tokens_in_front(self._cut))

    def _tokens_in_front(self, cut: int) -> int:
        noted = self._lost or (not self.earlier and cut > self.tally.outline.lead)
        return self._earlier_tokens + (self._note_tokens if noted else 0)

    @property
    def messages(self) -> list[Message]:
        """What is sent."""
        tally, spans = self.tally, self._spans()
        if self._replaced is not None:
            return [*self._replaced, *tally.messages(spans)]
        lead = spans[: 1 if tally.outline.lead else 0]
        left_out = self._lost
        if not self.earlier:
            left_out = tally.size([(0, len(tally))]).messages - tally.size(spans).messages
        summary = [summary_message(self.earlier)] if self.earlier else []
        note = self._note(left_out) if left_out else ()
        return [*tally.messages(lead), *summary, *note, *tally.messages(spans[len(lead) :])]

    def _note(self, count: int) -> Sequence[Message]:
        note = self._window.dropped_note
        return (user(note.replace("{count}", f"{count:,}")),) if note else ()

    def most_messages(self, end: int | None = None) -> int | None:
        """The bound on messages; what the model has to answer may be more."""
        most, end = self._window.messages, end if end is not None else self._end
        return max(most, self.tally.size(self.tally.kept(end - 1, end)).messages) if most is not None else None

    def is_over(self, room: int | None) -> bool:
        """Whether too much would be sent."""
        self.tally.leave_calls_out(self._end)
        (messages, tokens), most = self.size, self.most_messages()
        return (room is not None and tokens > room) or (most is not None and messages > most)

    # -- cutting

    def walked(self, room: int | None) -> int:
        """The cut, found by going through the units that are new; it is not made yet."""
        tally, cut = self.tally, self._cut
        goal = int(room * SHARE) if room is not None else None
        while self._walked < self._end:
            self._walked += 1
            end = self._walked
            tally.leave_calls_out(end)
            (messages, tokens), most = tally.size(tally.kept(cut, end)), self.most_messages(end)
            tokens += self._tokens_in_front(cut)
            if (room is not None and tokens > room) or (most is not None and messages > most):
                cut = self._next_cut(cut, end, goal, self._note_tokens)
        return cut

    def cut_at(self, cut: int) -> bool:
        """Cut there; False if it is cut there already."""
        before, self._cut = self._cut, cut
        return cut != before

    def drop(self, goal: int | None) -> None:
        """Leave the oldest out, to come down to these tokens as far as that can be had."""
        tally = self.tally
        before = tally.size(tally.kept(self._cut, self._end)).messages
        self._cut = self._next_cut(self._cut, self._end, goal, self._earlier_tokens + self._note_tokens)
        if self.earlier:
            self._lost += before - tally.size(tally.kept(self._cut, self._end)).messages
            if goal is not None and self.size.tokens > goal:
                self.earlier, self._earlier_tokens, self._lost = "", 0, 0  # gives way to what must be sent

    def _next_cut(self, cut: int, end: int, goal: int | None, front: int) -> int:
        """Where what is kept, and `front` tokens before it, come down to the goal."""
        most = max(1, int(self._window.messages * SHARE)) if self._window.messages is not None else None

        def fits(size: Size) -> bool:
            return (goal is None or size.tokens + front <= goal) and (most is None or size.messages <= most)

        return self.tally.next_cut(cut, end, fits)

    # -- a summary, a replacement

    def plan_summary(self, goal: int | None, room: int | None, count: TextCounter) -> SummaryPlan | None:
        """What is to be summarised for the whole to come down to the goal; None where nothing is left out."""
        tally = self.tally
        front = count_message(summary_message(""), count)
        cut = self._next_cut(self._cut, self._end, int(goal * KEPT) if goal is not None else None, front)
        if cut == self._cut:
            return None
        kept = tally.size(tally.kept(cut, self._end)).tokens
        most = (self.size.tokens - kept - 1) // 2
        if goal is not None and room is not None:
            most = min(most, max(goal - kept, (room - kept) // 2))
        starts = tally.outline.starts
        old = tally.messages([(max(starts[self._cut], tally.lead), starts[cut])])
        return SummaryPlan(cut, old, most - front)

    def summarise(self, cut: int, text: str, count: TextCounter) -> int:
        """Have a summary for the units before the cut; returns how many messages these have."""
        self._cut, self._lost = cut, 0
        self.earlier, self._earlier_tokens = text, count_message(summary_message(text), count)
        return self.tally.outline.starts[cut]

    def restore(self, position: int, text: str, count: TextCounter) -> None:
        """The same for the messages before a position, if the conversation can be cut there."""
        starts = self.tally.outline.starts
        cut = bisect_left(starts, position)
        if cut < len(starts) and starts[cut] == position:
            self.summarise(cut, text, count)

    def replace(self, messages: list[Message], tokens: int) -> None:
        """Have these in the place of all that there is."""
        self._replaced, self._replaced_tokens, self._from = messages, tokens, len(self.tally)
