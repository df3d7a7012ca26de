"""What a run says to its model by itself when it goes on for long: look at your plan; you are going round in circles.

A reminder is a user message between two turns. It stands after the results of the one and before the request of the
other, so it never parts a call from its result, and a run that is about to end has none.

The model goes round in circles when it makes the same calls and gets the same results, turn after turn. The order of
the calls does not matter, nor do their ids. It is told once; if it goes on for as many turns again, the run fails. A
turn that differs in anything begins a new count. The results count as much as the calls: a tool that is asked for the
same thing again and answers something new is making progress.

Here is arithmetic on facts, without a clock, so that a replay counts what was counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from ..providers import Message, ToolCall, ToolResult, user

Reason: TypeAlias = Literal["replan", "stuck"]

#: Turns in a row with the same calls and results before the model is told, and again before the run fails.
STUCK_AFTER = 10

#: What the model is told every so many turns, unless the agent has words of its own.
REPLAN_PROMPT = (
    "Before you go on, look at your plan. What was asked for, what have you found out or done so far, and what is "
    "still missing? Leave out steps that are no longer needed, add those that are, and go on with the next one. If "
    "nothing is missing, give your answer now."
)

#: What the model is told that goes round in circles.
STUCK_PROMPT = (
    "You have called {tools} in the same way {turns} turns in a row, with the same results each time. Doing it again "
    "will not change them. Try something else: other arguments, another tool or another way. If there is none, say "
    "what you know and what stands in your way."
)


class Reminder(msgspec.Struct, frozen=True):
    """A message that the run puts between two turns, and why.

    Of a model that goes round in circles: for how many turns, and with which tools.
    """

    why: Reason
    message: Message
    repeats: int = 0
    tools: tuple[str, ...] = ()


class Repeating(Exception):
    """The model was told that it goes round in circles, and went on. The text names the tools."""

    def __init__(self, repeats: int, tools: tuple[str, ...]) -> None:
        super().__init__(f"{repeats} turns in a row called {named(tools)} in the same way, with the same results")
        self.repeats = repeats
        self.tools = tools


class Streak:
    """How often in a row the same turn has come.

    Attributes:
        repeats: turns in a row, the first one included; 0 before any.
        told: how many of them there were when the model was told; 0 if it was not.
        tools: the names of what was called, without repetition, in order.
    """

    __slots__ = ("_last", "repeats", "told", "tools")

    def __init__(self) -> None:
        self._last: list[Any] | None = None
        self.repeats = 0
        self.told = 0
        self.tools: tuple[str, ...] = ()

    def count(self, calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> None:
        """Take the next turn with calls; the results are in the order of the calls."""
        turn = sorted(map(_looks, calls, results), key=_place)
        if turn != self._last:
            self.break_off()
            self._last = turn
            self.tools = tuple(dict.fromkeys([call.name for call in calls]))
        self.repeats += 1

    def break_off(self) -> None:
        """Something else has come."""
        self._last = None
        self.repeats = self.told = 0

    def tell(self) -> None:
        """The model is told now."""
        self.told = self.repeats

    def due(self, after: int) -> bool:
        """Whether the model is to be told."""
        return not self.told and self.repeats >= after

    def is_over(self, after: int) -> bool:
        """Whether it has gone on for long enough after it was told."""
        return self.told > 0 and self.repeats - self.told >= after


def _looks(call: ToolCall, result: ToolResult) -> tuple[Any, ...]:
    """What a call and its result are compared by: all but the id."""
    arguments = call.arguments if call.arguments is not None else call.raw
    return call.name, arguments, result.content, result.is_error, result.parts


def _place(look: tuple[Any, ...]) -> tuple[str, str, str]:
    # Arguments and parts cannot be ordered. Where only those tell two calls apart, their order counts after all.
    return look[0], str(look[1]), look[2]


def replanning(prompt: str | None) -> Reminder:
    """The reminder to look at the plan; None for our own words."""
    return Reminder("replan", user(prompt if prompt is not None else REPLAN_PROMPT))


def stuck(streak: Streak) -> Reminder:
    """The reminder for a model that goes round in circles."""
    text = STUCK_PROMPT.format(tools=named(streak.tools), turns=streak.repeats)
    return Reminder("stuck", user(text), streak.repeats, streak.tools)


def named(tools: Sequence[str]) -> str:
    """The names of tools in a sentence."""
    *first, last = [repr(name) for name in tools]
    return f"{', '.join(first)} and {last}" if first else last
