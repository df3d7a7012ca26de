"""What happened in a run, as a tree that can be printed: ``print(chronicle.trace())``.

A trace is plain data. Each node is one step: a turn, a tool call, a retry, a message, a subagent's run; in it is what
happened during it. It is drawn within a width, each step in one line that is cut where it is too long; whole texts are
in the messages of a chronicle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..providers import Usage

#: Columns that a trace is drawn in, unless somebody asks for others.
WIDTH = 80
#: Characters that the arguments of a call have in its line, together and each.
ARGUMENTS, ARGUMENT = 60, 32


class Trace(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of a run, and what happened in it. `str(trace)` draws the tree.

    Attributes:
        kind: ``run``, ``history``, ``message``, ``turn``, ``call``, ``retry``, ``spent``, ``sleep``, ``approval``,
            ``sent``, ``delivered``, ``stop``, ``pause``, ``suspended``, ``handoff``, ``resumed``, ``parked``,
            ``unreadable`` or ``end``.
        name: what it is, shortened.
        text: what came of it, in one line, shortened.
        at: when it began, in seconds since 1970; 0.0 where that is not known.
        seconds: how long it took. Of a turn: from the moment when the model could be asked to its reply, so a wait for
            a turn of its own counts. Of a call: its last try, with the time in which no process was at work.
        status: why it came to no ordinary end, or how a run stands.
        tries: of a call: how often it has begun, if more than once.
        tokens: used by it and below it.
        cost: US dollars.
        children: what happened in it, in order.
    """

    kind: str
    name: str
    text: str = ""
    at: float = 0.0
    seconds: float | None = None
    status: str | None = None
    tries: int | None = None
    tokens: int | None = None
    cost: float | None = None
    children: tuple[Trace, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The tree as plain dictionaries and lists."""
        return msgspec.json.decode(self.to_json())

    def to_json(self) -> bytes:
        """The tree as JSON."""
        return msgspec.json.encode(self)

    def line(self) -> str:
        """This step alone, as one line."""
        facts = [self.name]
        if self.status is not None:
            facts.append(self.status)
        if self.tries is not None:
            facts.append(f"{self.tries} tries")
        if self.tokens:
            facts.append(f"{self.tokens:,} tokens")
        if self.cost:
            facts.append(dollars(self.cost))
        if self.seconds is not None:
            facts.append(duration(self.seconds))
        return printable(", ".join(facts) + (f": {self.text}" if self.text else ""))

    def draw(self, width: int = WIDTH) -> str:
        """The tree as text of at most so many columns."""
        return "\n".join(shortened(line, width) for line in _draw(self, "", ""))

    def __str__(self) -> str:
        return self.draw()


def _draw(node: Trace, first: str, rest: str) -> list[str]:
    lines = [first + node.line()]
    for index, child in enumerate(node.children):
        last = index == len(node.children) - 1
        lines += _draw(child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))
    return lines


# -- words


def shortened(text: str, width: int) -> str:
    """The text in one line of at most `width` characters."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def printable(text: str, keep: str = "") -> str:
    """The text without what would move a terminal's cursor, but for the characters to `keep`."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in keep else "\N{REPLACEMENT CHARACTER}" for each in text)


def one_line(text: str, width: int = 500) -> str:
    """The text, or how it begins, in one line and printable."""
    return shortened(printable(" ".join(text[: width * 4].split())), width)


def call_name(tool: str, arguments: Mapping[str, Any] | None, raw: str = "") -> str:
    """A call as one would write it."""
    if arguments is None:
        return f"{one_line(tool)}({one_line(raw, ARGUMENTS)})"
    said = [f"{one_line(key, ARGUMENT)}={one_line(repr(value), ARGUMENT)}" for key, value in arguments.items()]
    return f"{one_line(tool)}({shortened(', '.join(said), ARGUMENTS)})"


def duration(seconds: float) -> str:
    """Words for a length of time."""
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"


def dollars(cost: float) -> str:
    """Words for a number of US dollars."""
    return f"${cost:,.2f}" if cost >= 1 else f"${cost:.4f}" if cost >= 0.0001 else f"${cost:.2g}"


def tokens_in(usage: Usage | None) -> int | None:
    """All tokens, as far as they are known."""
    if usage is None or usage.total_tokens is not None:
        return None if usage is None else usage.total_tokens
    parts = [each for each in (usage.input_tokens, usage.output_tokens) if each is not None]
    return sum(parts) if parts else None
