"""What an edit makes of a text, and what the model is shown of it. Pure.

A replacement names the text that it takes the place of, and that text must be there exactly once: a model that sees an
old version of the file, or only a part of it, finds out by an error and not by damage. The error helps: it says where
the several are, or where something much like the text is.
"""

from __future__ import annotations

import difflib
from itertools import islice

from .paths import Refused
from .texts import cut_line, lines_of, numbered

#: Lines around a change that are shown, and lines that are shown of a change at most.
AROUND = 3
MOST_SHOWN = 60
#: Places that are named of a text that is there several times, or nearly.
MOST_PLACES = 10
#: How alike a line must be to be shown as one that may have been meant.
ALIKE = 0.6
#: Lines that are looked at for what may have been meant.
MOST_COMPARED = 5000


def replace(text: str, old: str, new: str) -> str:
    """The text with `old`, which is in it exactly once, replaced.

    Raises:
        Refused: it is not there, or several times.
    """
    if not old:
        raise Refused("old is empty: give the exact text to replace")
    if old == new:
        raise Refused("old and text are the same: nothing would change")
    places = _places(text, old)
    if len(places) > 1:
        lines = [str(text.count("\n", 0, place) + 1) for place in places[:MOST_PLACES]]
        more = " and more" if len(places) > MOST_PLACES else ""
        raise Refused(
            f"old is there {len(places)} times, at lines {', '.join(lines)}{more}: give more of the text around the "
            "one that is meant"
        )
    if not places:
        raise Refused(f"old is not there{_near(text, old)}")
    return text[: places[0]] + new + text[places[0] + len(old) :]


def insert(text: str, line: int, new: str) -> str:
    """The text with `new` after a line, 0 for the beginning. What is inserted is whole lines.

    Raises:
        Refused: there is no such line.
    """
    lines = lines_of(text)
    if not 0 <= line <= len(lines):
        raise Refused(f"there is no line {line}: it has {len(lines)} lines, and 0 is the beginning")
    ends = not text or text.endswith("\n") or (line == len(lines) and (not new or new.endswith("\n")))
    end = "\n" if ends else ""
    return "\n".join([*lines[:line], new.removesuffix("\n"), *lines[line:]]) + end


def difference(before: str, after: str) -> str:
    """What has changed: lines with ``-`` and ``+`` before them and some unchanged ones around, with their numbers."""
    old, new = lines_of(before), lines_of(after)
    begin = 0
    while begin < min(len(old), len(new)) and old[begin] == new[begin]:
        begin += 1
    end = 0
    while end < min(len(old), len(new)) - begin and old[-1 - end] == new[-1 - end]:
        end += 1
    gone, come = old[begin : len(old) - end], new[begin : len(new) - end]
    if not gone and not come:
        return "only the newline at the end has changed"
    lines = [f" {numbered(number, new[number - 1])}" for number in range(max(1, begin + 1 - AROUND), begin + 1)]
    lines += _some("-", begin, gone)
    lines += _some("+", begin, come)
    after_it = begin + len(come)
    lines += [
        f" {numbered(number, new[number - 1])}" for number in range(after_it + 1, min(len(new), after_it + AROUND) + 1)
    ]
    return "\n".join(lines)


def _some(sign: str, begin: int, lines: list[str]) -> list[str]:
    shown = [f"{sign}{numbered(begin + 1 + index, line)}" for index, line in enumerate(lines[:MOST_SHOWN])]
    return shown if len(lines) <= MOST_SHOWN else [*shown, f"{sign} [{len(lines) - MOST_SHOWN} more lines]"]


def _places(text: str, old: str) -> list[int]:
    """Where `old` begins in a text, overlapping ones too: replacing either of two would be a guess."""
    places: list[int] = []
    place = text.find(old)
    while place >= 0 and len(places) < 1000:
        places.append(place)
        place = text.find(old, place + 1)
    return places


def _near(text: str, old: str) -> str:
    """What may have been meant by a text that is not there."""
    lines = lines_of(text)
    wanted = next((line for line in lines_of(old) if line.strip()), "")
    if not wanted or not lines:
        return "; look at the file first"
    same = [number for number, line in enumerate(lines, 1) if line.strip() == wanted.strip()]
    if same:
        what = "its first line is there, with other spaces or other lines after it"
        return f"; {what}:\n" + "\n".join(numbered(number, lines[number - 1]) for number in same[:3])
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(wanted.strip()[:300])
    best: list[tuple[float, int]] = []
    for number, line in enumerate(islice(lines, MOST_COMPARED), 1):
        matcher.set_seq1(line.strip()[:300])
        if matcher.real_quick_ratio() >= ALIKE and matcher.quick_ratio() >= ALIKE and matcher.ratio() >= ALIKE:
            best.append((matcher.ratio(), number))
    if not best:
        return ", and nothing much like it; look at the file first"
    best.sort(key=lambda each: (-each[0], each[1]))
    shown = "\n".join(numbered(number, cut_line(lines[number - 1], 300)) for _, number in best[:3])
    return f"; much like its first line are:\n{shown}"
