r"""JSON that is still coming: the value as far as it is there. Pure.

A model writes its answer character by character, and whoever shows it wants what is there by now. A `PartialJson` is
fed the text as it comes and gives, whenever it is asked, a *beginning* of the final value:

- a text grows, and is shown as far as it has come; an escape that is cut (``\u26``, half a surrogate pair) is not
  shown yet;
- a list and an object grow; a key is there once its value has begun;
- a number is there once something comes after it, because 1 is no beginning of 12; ``true``, ``false`` and ``null``
  once they are whole.

So what was shown is never taken back: of two values, the later one has the earlier one for its beginning. (Of a key
that is given twice, the second value replaces the first.) Text that is no JSON never raises: the value stays as it was
where the text went wrong. White space and a Markdown fence before the value are passed over, and so is all that follows
it.

Each character is read once. A snapshot copies the containers that are open and shares those that are closed, so it
costs as much as the open ones are long. Whoever takes one for each piece of a long text pays the square of its length:
`due` says when the text has grown enough since the last snapshot that all of them together cost a multiple of it.
"""

from __future__ import annotations

import re
from typing import Any, Final, cast

#: Levels of nesting, beyond which it counts as no JSON.
DEEPEST: Final = 200
#: By which part of itself the text has grown when the next snapshot is due.
SHARE: Final = 256

_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_BARE = re.compile(r"[-+.0-9A-Za-z]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
#: What a model may put before its answer, with the word or without.
_FENCE = "```json"
#: Characters of a number.
_LONGEST: Final = 5_000
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_BROKEN = "\ufffd"


class _Absent:
    """Stands where there is no value."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()


class PartialJson:
    """The value of a JSON text that comes in pieces.

    Attributes:
        size: characters that were fed.
        whole: whether the value is there to its end.
        broken: whether the text is no JSON from here on.
    """

    __slots__ = ("_expect", "_key", "_open", "_rest", "_root", "_seen", "_string", "broken", "size", "whole")

    def __init__(self) -> None:
        self.size = 0
        self.whole = False
        self.broken = False
        #: What was fed and cannot be read before more comes.
        self._rest = ""
        #: What comes next: ``start``, ``value``, ``first`` (a value, or the end of a list), ``key``, ``first_key``,
        #: ``colon``, ``next`` (a comma or an end), or ``string`` and ``key_string`` inside one.
        self._expect = "start"
        self._root: Any = ABSENT
        self._open: list[Any] = []  # the containers that we are in
        self._key: list[str] = []  # for each object that we are in, the key of the value that comes
        self._string: list[str] = []
        self._seen = 0  # the size at the last snapshot

    def feed(self, text: str) -> None:
        """Take more of the text."""
        self.size += len(text)
        if self.broken or self.whole:
            return
        text = self._rest + text
        place = 0
        while place < len(text) and not (self.broken or self.whole):
            reached = self._step(text, place)
            if reached < 0:
                break
            place = reached
        self._rest = text[place:] if not (self.broken or self.whole) else ""

    @property
    def due(self) -> bool:
        """Whether the text has grown enough for another snapshot."""
        return self.size - self._seen > self.size // SHARE

    def snapshot(self) -> Any:
        """The value as far as it is there, as plain dictionaries, lists and so on; `ABSENT` before there is any.

        What is closed is shared between snapshots: treat them as read-only.
        """
        self._seen = self.size
        text: Any = ABSENT
        if self._expect == "string":
            text = "".join(self._string)
            self._string = [text]
        if not self._open:
            return self._root if text is ABSENT else text
        keys = list(self._key)
        made: Any = text
        for container in reversed(self._open):
            copied = container.copy()
            if type(container) is dict:
                key = keys.pop()
                if made is not ABSENT:
                    copied[key] = made
            elif made is not ABSENT:
                cast("list[Any]", copied).append(made)
            made = copied
        return made

    # -- reading; each step gives the place that it has come to, or -1 where it needs more

    def _step(self, text: str, place: int) -> int:
        expect = self._expect
        if expect in ("string", "key_string"):
            return self._read_string(text, place)
        if expect == "start":
            return self._start(text, place)
        found = _SPACE.match(text, place)
        assert found is not None
        place = found.end()
        if place == len(text):
            return place
        mark = text[place]
        if expect in ("value", "first"):
            if mark == "]" and expect == "first":
                self._close()
                return place + 1
            return self._value(text, place, mark)
        if expect in ("key", "first_key"):
            if mark == '"':
                self._expect = "key_string"
            elif mark == "}" and expect == "first_key":
                self._close()
            else:
                self.broken = True
            return place + 1
        if expect == "colon":
            self._expect = "value"
            self.broken = mark != ":"
            return place + 1
        inside = self._open[-1]
        if mark == ",":
            self._expect = "key" if type(inside) is dict else "value"
        elif mark == ("}" if type(inside) is dict else "]"):
            self._close()
        else:
            self.broken = True
        return place + 1

    def _start(self, text: str, place: int) -> int:
        found = _SPACE.match(text, place)
        assert found is not None
        place = found.end()
        begun = text[place : place + len(_FENCE)]
        if begun.startswith("`"):
            if _FENCE.startswith(begun) and begun != _FENCE:
                return -1  # it is all there is
            place += len(_FENCE) if begun == _FENCE else 3
            self.broken = not begun.startswith("```")
        if begun:
            self._expect = "value"
        return place

    def _value(self, text: str, place: int, mark: str) -> int:
        if mark in "{[":
            if len(self._open) == DEEPEST:
                self.broken = True
                return place
            self._open.append({} if mark == "{" else [])
            if mark == "{":
                self._key.append("")
            self._expect = "first_key" if mark == "{" else "first"
            return place + 1
        if mark == '"':
            self._expect = "string"
            return place + 1
        found = _BARE.match(text, place)
        assert found is not None
        word = found.group()
        if word in _WORDS:
            self._take(_WORDS[word])
            return found.end()
        if found.end() == len(text) and (not word or word[0] in "-0123456789" or _begins_a_word(word)):
            self.broken = len(word) > _LONGEST
            return -1
        self._take(_number(word))
        return found.end()

    def _read_string(self, text: str, place: int) -> int:
        found = _PLAIN.match(text, place)
        assert found is not None
        end = found.end()
        if end > place:
            self._string.append(found.group())
            return end
        mark = text[end]
        if mark == "\\":
            return self._escape(text, end)
        if mark != '"':
            self._string.append(mark)  # a line break that should have been escaped
            return end + 1
        value = "".join(self._string)
        self._string.clear()
        if self._expect == "key_string":
            self._key[-1] = value
            self._expect = "colon"
        else:
            self._take(value)
        return end + 1

    def _escape(self, text: str, place: int) -> int:
        """Read the escape here; of a surrogate pair, both halves. What is cut waits where it is."""
        if len(text) < place + 2:
            return -1
        mark = text[place + 1]
        if mark != "u":
            self._string.append(_ESCAPES.get(mark, _BROKEN))
            return place + 2
        if len(text) < place + 6:
            return -1
        code = _code(text, place)
        if code < 0:
            self._string.append(_BROKEN)
            return place + 2
        if 0xD800 <= code < 0xDC00:
            begun = text[place + 6 : place + 12]
            if len(begun) < 6 and "\\u".startswith(begun[:2]):
                return -1
            low = _code(text, place + 6) if begun.startswith("\\u") else 0
            if 0xDC00 <= low < 0xE000:
                self._string.append(chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)))
                return place + 12
        self._string.append(_BROKEN if 0xD800 <= code < 0xE000 else chr(code))
        return place + 6

    # -- what was read

    def _take(self, value: Any) -> None:
        """Put a whole value where it belongs."""
        if value is ABSENT:
            self.broken = True
        elif not self._open:
            self._root, self.whole = value, True
        else:
            inside = self._open[-1]
            if type(inside) is dict:
                inside[self._key[-1]] = value
            else:
                inside.append(value)
            self._expect = "next"

    def _close(self) -> None:
        closed = self._open.pop()
        if type(closed) is dict:
            self._key.pop()
        self._expect = "next"
        self._take(closed)


def _code(text: str, place: int) -> int:
    """The number of an escape ``\\uXXXX``, or -1."""
    found = _HEX.match(text, place + 2)
    return int(found.group(), 16) if found is not None else -1


def _begins_a_word(word: str) -> bool:
    return any(each.startswith(word) for each in _WORDS)


def _number(word: str) -> Any:
    found = _NUMBER.fullmatch(word)
    if found is None:
        return ABSENT
    try:
        return float(word) if found.group(1) or found.group(2) else int(word)
    except ValueError:
        return ABSENT  # more digits than Python reads
