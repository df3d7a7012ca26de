"""What of a conversation is sent when it is too long. Pure: messages in, messages out.

A conversation is made of *units*, which are never split: a message with tool calls and all its results, one answer in
the several messages that a provider has cut it into, or a single message. Some units always stay:

- the system messages at the beginning;
- what the model has to answer: the last unit, and the results of its last calls if only the user has spoken since;
- the last message of the user;
- the question that the first of what is kept belongs to: providers want a conversation to begin with the user.

Of all others the oldest go first. So the functions here may be called one after the other, in any order, and what comes
out is always a conversation that a strict provider takes. They mend what they are given first, as `repair` does.

`Outline` is the same for a conversation that grows: each message is looked at once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

import msgspec

from ..providers import Message, ToolResult
from ..providers.checks import is_whole
from ..providers.messages import Part, Text
from .repair import repaired
from .token_count import TextCounter, by_chars, count_message


class Outline:
    """The units of a conversation that grows.

    Attributes:
        starts: where each unit begins, as a position among the messages.
        length: how many messages there are.
        lead: how many units at the beginning are system messages.
    """

    __slots__ = ("_acted", "_models", "_role", "_roles", "_users", "lead", "length", "starts")

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self.starts: list[int] = []
        self.length = 0
        self.lead = 0
        self._role = ""  # of the last message
        self._roles: list[str] = []
        self._users: list[int] = []
        self._models: list[int] = []
        #: Units of the model that end with results.
        self._acted: set[int] = set()
        for message in messages:
            self.add(message)

    def __len__(self) -> int:
        return len(self.starts)

    def add(self, message: Message) -> None:
        """The conversation goes on."""
        role = message.role
        unit = len(self.starts) - 1
        of_model = unit >= 0 and self._roles[unit] == "assistant"
        if role == "tool" and of_model:
            self._acted.add(unit)
        elif not (role == "assistant" and self._role == "assistant"):
            unit += 1
            self.starts.append(self.length)
            self._roles.append(role)
            if role == "user":
                self._users.append(unit)
            elif role == "assistant":
                self._models.append(unit)
            elif role == "system" and self.lead == unit:
                self.lead += 1
        self._role = role
        self.length += 1

    def span(self, unit: int) -> tuple[int, int]:
        """The positions of a unit's first message, and of the one behind its last."""
        return self.starts[unit], self.end_of(unit)

    def end_of(self, unit: int) -> int:
        """The position behind the last message of a unit."""
        return self.starts[unit + 1] if unit + 1 < len(self.starts) else self.length

    def pins(self, end: int) -> list[int]:
        """Which of the units before `end` always stay, beside the system messages at the beginning; in order."""
        if end <= self.lead:
            return []
        pins = {end - 1}
        model = _last_before(self._models, end)
        if model in self._acted:
            pins.add(model)
        user = _last_before(self._users, end)
        if user >= 0:
            pins.add(user)
        first = min(pins)
        before = _last_before(self._users, first)
        if self._roles[first] != "user" and before >= 0:
            pins.add(before)
        return sorted(pins)

    def may_begin(self, unit: int) -> bool:
        """Whether what is kept may begin with this unit: it is the user's, or the question before it can be kept."""
        return not self._users or self._users[0] < unit or self._roles[unit] == "user"

    def kept(self, cut: int, end: int, pins: Sequence[int]) -> list[tuple[int, int]]:
        """The spans of messages that stay when the units before `cut` are left out."""
        kept = [pin for pin in pins if pin < cut]
        if not kept and self.lead < cut < end and self._roles[cut] != "user":
            question = _last_before(self._users, cut)
            kept = [question] if question >= 0 else []
        spans = [self.span(unit) for unit in kept]
        if self.lead:
            spans.insert(0, (0, self.end_of(self.lead - 1)))
        if cut < end:
            spans.append((self.starts[cut], self.end_of(end - 1)))
        return spans

    def next_cut(self, cut: int, end: int, fits: Callable[[int], bool]) -> int:
        """The first place from `cut` on where the rest may begin and fits; the last place if it never fits."""
        for place in range(cut, end):
            if (place == cut or self.may_begin(place)) and fits(place):
                return place
        return max(cut, end - 1)


def _last_before(units: Sequence[int], end: int) -> int:
    place = bisect_left(units, end) - 1
    return units[place] if place >= 0 else -1


# -- whole units


def keep_last(messages: Iterable[Message], count: int) -> list[Message]:
    """The last `count` messages, or a little fewer: units are not split. What always stays may be more.

    Raises:
        ValueError: a count that is no whole number, or below 1.
    """
    _check("keep_last(count)", count)
    return _cut_until(messages, lambda _: 1, count)


def keep_tokens(messages: Iterable[Message], tokens: int, *, count: TextCounter = by_chars) -> list[Message]:
    """The newest messages that have at most so many tokens together. What always stays may have more.

    Raises:
        ValueError: a number of tokens that is no whole number, or below 1.
    """
    _check("keep_tokens(tokens)", tokens)
    return _cut_until(messages, lambda message: count_message(message, count), tokens)


def drop_oldest(messages: Iterable[Message], units: int = 1) -> list[Message]:
    """The messages without the oldest units: at least so many, as long as there are some that may go.

    Raises:
        ValueError: a number of units that is no whole number, or below 1.
    """
    _check("drop_oldest(units)", units)
    valid = _valid(messages)
    outline = Outline(valid)
    end, lead = len(outline), outline.lead
    pins = outline.pins(end)

    def fits(cut: int) -> bool:
        before = len(outline.kept(cut, end, pins)) - (2 if lead else 1)
        return cut - lead - before >= units

    return _kept(valid, outline, outline.next_cut(lead, end, fits))


def _cut_until(messages: Iterable[Message], size: Callable[[Message], int], bound: int) -> list[Message]:
    valid = _valid(messages)
    outline = Outline(valid)
    end = len(outline)
    pins = outline.pins(end)
    sums = [0, *accumulate(size(message) for message in valid)]

    def fits(cut: int) -> bool:
        return sum([sums[stop] - sums[start] for start, stop in outline.kept(cut, end, pins)]) <= bound

    return _kept(valid, outline, outline.next_cut(outline.lead, end, fits))


def _kept(messages: Sequence[Message], outline: Outline, cut: int) -> list[Message]:
    end = len(outline)
    return [message for start, stop in outline.kept(cut, end, outline.pins(end)) for message in messages[start:stop]]


# -- parts of messages


def without_tool_calls(messages: Iterable[Message]) -> list[Message]:
    """The messages without the tool calls, and their results, of what was before the question at hand.

    What was said beside the calls stays. The question at hand is the last message of the user, or the one before it
    where the model has called tools in between and not answered.
    """
    valid = _valid(messages)
    outline = Outline(valid)
    pins = outline.pins(len(outline))
    now = outline.starts[pins[0]] if pins else 0
    spoken = [without_calls(message) for message in valid[:now]]
    return [*[message for message in spoken if message is not None], *valid[now:]]


def without_calls(message: Message) -> Message | None:
    """What was said in a message beside tool calls and their results; None if nothing was.

    Of a message of the model its text is left: reasoning that led to a call, and what the provider wants back with it,
    mean nothing without the call.
    """
    if message.role == "tool":
        return None
    if not message.tool_calls:
        return message
    said = tuple([Text(part.text) for part in message.parts if isinstance(part, Text) and part.text])
    return Message(message.role, said, message.partial) if said else None


#: What stands for the middle of a text that was cut.
CUT = "\n[… {count} characters left out …]\n"


def cap_messages(messages: Iterable[Message], tokens: int, *, count: TextCounter = by_chars) -> list[Message]:
    """The messages, each with at most so many tokens: the middle of longer texts is left out.

    Raises:
        ValueError: a number of tokens that is no whole number, or below 1.
    """
    _check("cap_messages(tokens)", tokens)
    return [cap_message(message, tokens, count) for message in messages]


def cap_message(message: Message, tokens: int, count: TextCounter = by_chars) -> Message:
    """The message with at most so many tokens, as far as that can be had by cutting texts and the results of tools.

    The longest ones are cut, to the same length. Arguments of calls, reasoning and attachments stay whole; however many
    tokens they have, half of `tokens` is left for the texts.
    """
    size = count_message(message, count)
    if size <= tokens:
        return message
    lengths = [count(_text_of(part)) for part in message.parts]
    room = max(tokens - (size - sum(lengths)), tokens // 2)
    most = _level(lengths, room)
    parts = [
        _with_text(part, cut_text(_text_of(part), most, count)) if length > most else part
        for part, length in zip(message.parts, lengths, strict=True)
    ]
    left = tuple([part for part in parts if not isinstance(part, Text) or part.text])
    return msgspec.structs.replace(message, parts=left or tuple(parts))


def cut_text(text: str, tokens: int, count: TextCounter = by_chars) -> str:
    """The beginning and the end of a text, with a note between; no more than so many tokens."""
    size = count(text)
    if size <= tokens:
        return text
    room = len(text) * tokens // size
    while room > 0:
        made = _shorten(text, room)
        size = count(made)
        if size <= tokens:
            return made
        room = min(room - 1, room * tokens // size)
    return ""


def _shorten(text: str, length: int) -> str:
    """At most so many characters of it; two thirds of what is kept are from its beginning."""
    note = CUT.replace("{count}", f"{len(text) - length:,}")
    kept = length - len(note)
    if kept <= 0:
        return text[:length]
    tail = kept // 3
    return text[: kept - tail] + note + (text[-tail:] if tail else "")


def _level(lengths: Sequence[int], room: int) -> int:
    """The length to which the longest have to be cut for all to fit."""
    left = room
    longest = sorted(lengths)
    for place, length in enumerate(longest):
        share = left // (len(longest) - place)
        if length > share:
            return share
        left -= length
    return room


def _text_of(part: Part) -> str:
    """The text of a part that may be cut."""
    return part.text if isinstance(part, Text) else part.content if isinstance(part, ToolResult) else ""


def _with_text(part: Part, text: str) -> Part:
    if isinstance(part, ToolResult):
        # `parts` is the same answer with its attachments.
        parts = (*([Text(text)] if text else []), *part.attachments) if part.parts is not None else None
        return msgspec.structs.replace(part, content=text, parts=parts)
    return msgspec.structs.replace(part, text=text) if isinstance(part, Text) else part


def _valid(messages: Iterable[Message]) -> Sequence[Message]:
    return repaired(messages if isinstance(messages, Sequence) else tuple(messages))


def _check(what: str, number: object) -> None:
    if not is_whole(number) or number < 1:
        raise ValueError(f"{what} must be a whole number, at least 1, not {number!r}")
