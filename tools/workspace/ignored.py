"""Which files a search looks at: glob patterns, and the rules of ``.gitignore`` files. Pure.

A pattern without a slash is for names, wherever they are; one with a slash is for paths from its folder on. ``*`` and
``?`` stop at a slash, ``**`` goes on through folders, ``{a,b}`` is either. A rule of a ``.gitignore`` file holds in its
folder and below; the last one that fits has the say, those of a deeper folder after those above it. What lies in a
folder that is left out is never looked at, so no rule brings it back.

The rules may be a stranger's, so no rule may take a time that explodes: once a ``*`` or ``**/`` has found what follows
it, up to the next one, it never looks for another place. That loses nothing, for the next one takes what is left.

Needs the standard library alone, for the program that searches.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

#: Rules that are read of one file.
MOST_RULES = 1000

_STAR = "[^/]*"


class Rule(NamedTuple):
    """One line of a ``.gitignore`` file in the folder `base`, as the names above it."""

    base: tuple[str, ...]
    pattern: re.Pattern[str]
    by_path: bool
    folders_only: bool
    keeps: bool


def read_rules(text: str, base: tuple[str, ...]) -> list[Rule]:
    """The rules of a ``.gitignore`` file. A line that is no pattern is left out, as Git leaves it out."""
    rules: list[Rule] = []
    for line in text.splitlines()[:MOST_RULES]:
        rule = _read_rule(line, base)
        if rule is not None:
            rules.append(rule)
    return rules


def _read_rule(line: str, base: tuple[str, ...]) -> Rule | None:
    line = line.rstrip()
    if not line or line.startswith("#"):
        return None
    keeps = line.startswith("!")
    line = line.removeprefix("!").removeprefix("\\")
    folders_only = line.endswith("/")
    line = line.rstrip("/")
    by_path = "/" in line
    line = line.removeprefix("/")
    try:
        pattern = re.compile(_rule_as_regex(line), re.DOTALL)
    except re.error:
        return None
    return Rule(base, pattern, by_path, folders_only, keeps) if line else None


def is_ignored(names: tuple[str, ...], is_folder: bool, rules: Sequence[Rule]) -> bool:
    """Whether the rules leave a file or folder out; all above it were not."""
    for rule in reversed(rules):
        if rule.folders_only and not is_folder:
            continue
        subject = "/".join(names[len(rule.base) :]) if rule.by_path else names[-1]
        if rule.pattern.fullmatch(subject):
            return not rule.keeps
    return False


class Glob:
    """A glob pattern that says which files are meant.

    Raises:
        ValueError: it is none.
    """

    def __init__(self, pattern: str) -> None:
        text = pattern.removeprefix("./").removeprefix("/")
        self._by_path = "/" in text
        try:
            self._pattern = re.compile(_as_regex(text), re.DOTALL)
        except re.error as error:
            raise ValueError(f"the glob {pattern!r} cannot be read: {error}") from None

    def fits(self, names: tuple[str, ...]) -> bool:
        """Whether a file is meant, by the names of its path."""
        return self._pattern.fullmatch("/".join(names) if self._by_path else names[-1]) is not None


def _rule_as_regex(rule: str) -> str:
    """A rule as a regular expression."""
    parts: list[list[str]] = [[]]
    *names, last = rule.split("/")
    for name in names:
        if name != "**":
            parts[-1].append(_name_as_regex(name))
        elif parts[-1] or len(parts) == 1:  # one after the other are as one
            parts.append([])
    first, *rest = parts
    out = "".join(f"{name}/" for name in first)
    for names in rest[:-1]:
        out += f"(?>(?:[^/]+/)*?{''.join(f'{name}/' for name in names)})"
    if rest:
        out += "(?:[^/]+/)*" + "".join(f"{name}/" for name in rest[-1])
    return out + (".*" if last == "**" else _name_as_regex(last))


def _name_as_regex(name: str) -> str:
    """One name of a rule as a regular expression."""
    pieces = [""]
    place = 0
    while place < len(name):
        place, piece = _next(name, place)
        if piece != _STAR:
            pieces[-1] += piece
        elif pieces[-1] or len(pieces) == 1:
            pieces.append("")
    first, *rest = pieces
    return first + "".join(f"(?>[^/]*?{each})" for each in rest[:-1]) + (f"[^/]*{rest[-1]}" if rest else "")


def _next(glob: str, place: int) -> tuple[int, str]:
    """What the character at a place stands for, as a regular expression, and where the next one is."""
    character = glob[place]
    place += 1
    if character == "*":
        return place, _STAR
    if character == "?":
        return place, "[^/]"
    if character == "[" and (end := glob.find("]", place + (2 if glob[place : place + 1] in "!^" else 1))) > 0:
        inner = glob[place:end]
        negated = inner[:1] in ("!", "^")
        return end + 1, f"[{'^/' if negated else ''}{re.escape(inner[negated:]).replace(chr(92) + '-', '-')}]"
    if character == "\\" and place < len(glob):
        return place + 1, re.escape(glob[place])
    return place, re.escape(character)


def _as_regex(glob: str) -> str:
    """A glob pattern as a regular expression."""
    out: list[str] = []
    depth = place = 0
    while place < len(glob):
        rest = glob[place:]
        if rest.startswith("**/") and (place == 0 or glob[place - 1] == "/"):
            out.append("(?:[^/]+/)*")
            place += 3
        elif rest.startswith("**"):
            out.append(".*")
            place += 2
        elif rest[0] == "{" and "}" in rest:
            out.append("(?:")
            depth += 1
            place += 1
        elif depth and rest[0] in "},":
            out.append(")" if rest[0] == "}" else "|")
            depth -= rest[0] == "}"
            place += 1
        else:
            place, piece = _next(glob, place)
            out.append(piece)
    return "".join(out) + ")" * depth
