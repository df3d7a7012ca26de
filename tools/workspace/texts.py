"""The text of a file: its lines, how they end, and how a model is shown some of them. Pure.

A file is text where it is UTF-8 and has no NUL; anything else is told as what it is, and never changed. A byte order
mark and the way in which lines end are facts of the file and not of its text: a model sees and writes plain newlines,
and both are put back when the file is written.
"""

from __future__ import annotations

from typing import NamedTuple

from .paths import Refused

#: Lines and characters that a model is shown at once, and characters of one line.
MOST_LINES = 2000
MOST_CHARACTERS = 50_000
MOST_OF_LINE = 2000

_MARK = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class Content(NamedTuple):
    """The text of a file, with plain newlines, and what was around it.

    Attributes:
        text: what it says.
        newline: how most of its lines end.
        mark: whether it begins with a byte order mark.
        mixed: whether its lines end in several ways, so that writing it would change lines that nobody meant.
    """

    text: str
    newline: str = "\n"
    mark: bool = False
    mixed: bool = False


def read_content(data: bytes) -> Content:
    """The text of a file.

    Raises:
        Refused: it is no text.
    """
    if data.startswith(_UTF_16):
        raise Refused("it is text in UTF-16, and only UTF-8 is read")
    mark = data.startswith(_MARK)
    if b"\0" in data:
        raise Refused(what_binary(data))
    try:
        text = data[len(_MARK) if mark else 0 :].decode()
    except UnicodeDecodeError:
        raise Refused(what_binary(data)) from None
    both, returns, feeds = text.count("\r\n"), text.count("\r"), text.count("\n")
    if not returns:
        return Content(text, "\n", mark)
    if returns == both == feeds:
        return Content(text.replace("\r\n", "\n"), "\r\n", mark)
    # Mixed ends stay as they are: each "\r" is a character of its line.
    return Content(text, "\n", mark, mixed=True)


def write_content(content: Content) -> bytes:
    """The bytes of a file that says this.

    Raises:
        Refused: there are characters in it that no file can have.
    """
    text = content.text
    if content.newline == "\r\n":
        text = text.replace("\r\n", "\n").replace("\n", "\r\n")
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise Refused(f"half a surrogate pair at character {error.start} cannot be written") from None
    if b"\0" in data:
        raise Refused("a NUL character cannot be written into a text")
    return _MARK + data if content.mark else data


def what_binary(data: bytes) -> str:
    """What a model is told about a file that is no text."""
    return f"it is a binary file of {len(data):,} bytes, which begins with {data[:8].hex(' ')}"


def lines_of(text: str) -> list[str]:
    """The lines of a text, without their ends; a newline at the end begins no further line."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return lines


def show_lines(text: str, first: int | None, last: int | None, most: int = MOST_CHARACTERS) -> str:
    """Lines `first` to `last` with their numbers, as many as may be shown, and how to see the rest.

    Args:
        text: the whole text.
        first: the first line, from 1 (default 1).
        last: the last one (default the last that there is).
        most: characters.

    Raises:
        Refused: there are no such lines.
    """
    lines = lines_of(text)
    begin = 1 if first is None else first
    if begin < 1 or (last is not None and last < begin):
        raise Refused(
            f"lines {begin} to {last} are no range: the first line is 1, and the last is not before the first"
        )
    if not lines and begin == 1:
        return "[it is empty]"
    if begin > len(lines):
        raise Refused(f"there is no line {begin}: it has {len(lines)} lines")
    end = min(len(lines), last if last is not None else len(lines))
    shown: list[str] = []
    size = 0
    for number in range(begin, min(end, begin + MOST_LINES - 1) + 1):
        line = numbered(number, lines[number - 1])
        size += len(line) + 1
        if size > most and shown:
            break
        shown.append(line)
    reached = begin + len(shown) - 1
    if reached < end:
        shown.append(f"[lines {begin} to {reached} of {len(lines)}; go on with line {reached + 1}]")
    elif begin > 1 or reached < len(lines):
        shown.append(f"[lines {begin} to {reached} of {len(lines)}]")
    return "\n".join(shown)


def numbered(number: int, line: str) -> str:
    """A line with its number before it."""
    return f"{number:>6}\t{cut_line(line, MOST_OF_LINE)}"


def cut_line(line: str, most: int) -> str:
    """A line, at most so many characters of it, with a note of what is missing."""
    return line if len(line) <= most else f"{line[:most]} [cut: {len(line) - most} more characters]"
