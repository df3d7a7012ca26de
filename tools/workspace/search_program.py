"""The program of the tool `search`: looks through the files of the folder that it is started in, and prints.

A regular expression may take longer than the universe lasts, and nothing in the thread that tries it can be stopped. So
the search is a program of its own, which is ended like any other. It prints a file when it is through with it; whoever
ends it early has what it had found so far.

It is started without greenroom (see `search`), and needs the standard library alone. Its one argument is the request as
JSON. Exit code 2: the pattern cannot be read.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .ignored import Glob, Rule, is_ignored, read_rules
from .paths import DEEPEST, Refused
from .root import TEMPORARY, Root, scan

#: Lines that are printed, of one file and of all; files that are looked at; characters of a line.
MOST_LINES = 300
MOST_LINES_OF_FILE = 50
MOST_NAMES = 1000
MOST_FILES = 200_000
MOST_OF_LINE = 300
#: Bytes that are looked at to tell text from anything else.
HEAD = 8192


class Request(NamedTuple):
    """What is searched for, and where; `Request(**json.loads(…))`."""

    pattern: str
    names: list[str]
    glob: str | None
    ignore_case: bool
    literal: bool
    names_only: bool
    hard_links: bool
    most: int


class Search:
    """One search. `root` is the folder of the workspace."""

    def __init__(self, request: Request, root: Root) -> None:
        self._request = request
        self._root = root
        self._glob = Glob(request.glob) if request.glob else None
        text = re.escape(request.pattern) if request.literal else request.pattern
        self._find: Callable[[str], re.Match[str] | None] = re.compile(
            text, re.IGNORECASE if request.ignore_case else 0
        ).search
        self._names_only = request.names_only or not request.pattern
        self.lines = self.files = self.looked_at = 0
        #: Files that were not looked into, by the reason.
        self.skipped: dict[str, int] = {}

    @property
    def is_full(self) -> bool:
        """Whether enough is found."""
        return self.lines >= (MOST_NAMES if self._names_only else MOST_LINES) or self.looked_at >= MOST_FILES

    def run(self) -> None:
        """Look, and print."""
        names = tuple(self._request.names)
        if names and not self._root.is_folder(names):
            with self._root.folder(names[:-1]) as folder:
                self._look_at(names, folder, asked_for=True)
        else:
            rules = [rule for depth in range(len(names)) for rule in self._rules(names[:depth])]
            with self._root.folder(names) as folder:
                self._walk(names, folder, rules)

    def _rules(self, names: tuple[str, ...]) -> list[Rule]:
        with self._root.folder(names) as folder:
            return self._rules_in(names, folder)

    def _rules_in(self, names: tuple[str, ...], folder: int) -> list[Rule]:
        try:
            with open(self._root.open_file(".gitignore", folder), "rb") as file:
                return read_rules(file.read(1_000_000).decode(errors="replace"), names)
        except (OSError, Refused):
            return []

    def _walk(self, names: tuple[str, ...], folder: int, rules: list[Rule]) -> None:
        rules = rules + self._rules_in(names, folder)
        for entry in sorted(scan(folder)):
            below = (*names, entry.name)
            if self.is_full:
                return
            if entry.name.startswith(".") or is_ignored(below, entry.kind == "folder", rules):
                continue
            if entry.kind == "file":
                self._look_at(below, folder)
            elif entry.kind == "folder" and len(below) <= DEEPEST:
                try:
                    fd = self._root.open_folder(entry.name, folder)
                except (OSError, Refused):
                    self._skip("may not be read")
                    continue
                try:
                    self._walk(below, fd, rules)
                finally:
                    os.close(fd)

    def _look_at(self, names: tuple[str, ...], folder: int, *, asked_for: bool = False) -> None:
        if self._glob is not None and not asked_for and not self._glob.fits(names):
            return
        if names[-1].startswith(TEMPORARY):
            return
        self.looked_at += 1
        path = path_of(names)
        if not self._request.pattern:
            self._print(path)
            self.files += 1
            return
        try:
            text = self._text(names[-1], folder)
        except Refused as refusal:
            if asked_for:
                raise Refused(refusal.reason, path) from None
            text = self._skip("hard links" if "hard links" in refusal.reason else "no ordinary files")
        if text is None:
            return
        if self._names_only:
            if any(True for _ in self._matches(text)):
                self.files += 1
                self._print(path)
            return
        found = 0
        for number, line, match in self._matches(text):
            found += 1
            if found <= MOST_LINES_OF_FILE and not self.is_full:
                self._print(f"{path}:{number}:{cut_around(line, match)}")
        self.files += found > 0
        if found > MOST_LINES_OF_FILE:
            self._print(f"[{path}: {found - MOST_LINES_OF_FILE} more lines]")
        sys.stdout.flush()

    def _text(self, name: str, folder: int) -> str | None:
        try:
            with open(self._root.open_file(name, folder), "rb") as file:
                if os.fstat(file.fileno()).st_size > self._request.most:
                    return self._skip(f"larger than {self._request.most:,} bytes")
                data = file.read(self._request.most)
        except OSError:
            return self._skip("may not be read")
        return self._skip("binary") if b"\0" in data[:HEAD] else data.decode(errors="replace")

    def _matches(self, text: str) -> Iterator[tuple[int, str, re.Match[str]]]:
        for number, line in enumerate(text.split("\n"), 1):
            match = self._find(line.removesuffix("\r"))
            if match is not None:
                yield number, line.removesuffix("\r"), match

    def _skip(self, why: str) -> None:
        self.skipped[why] = self.skipped.get(why, 0) + 1

    def _print(self, line: str) -> None:
        self.lines += 1
        print(line)

    def summary(self) -> str:
        """What there is to say at the end; nothing where the lines say it all."""
        notes: list[str] = []
        if not self.lines:
            notes.append(f"nothing found in {self.looked_at} files")
            if "\n" in self._request.pattern or ("\\n" in self._request.pattern and not self._request.literal):
                notes.append("a pattern is looked for within each line, and this one has a newline in it")
        if self.is_full:
            notes.append("there may be more: narrow the search with path or glob")
        if self.skipped:
            reasons = ", ".join(f"{count} {why}" for why, count in sorted(self.skipped.items()))
            notes.append(f"not looked into: {reasons}")
        return f"[{'; '.join(notes)}]" if notes else ""


def path_of(names: tuple[str, ...]) -> str:
    """A path on one line, whatever its names have in them."""
    path = "/".join(names)
    return path if path.isprintable() else ascii(path)


def cut_around(line: str, match: re.Match[str]) -> str:
    """A line, or what is around the match where it is long."""
    if len(line) <= MOST_OF_LINE:
        return line
    begin = max(0, min(match.start() - MOST_OF_LINE // 3, len(line) - MOST_OF_LINE))
    end = begin + MOST_OF_LINE
    return f"{'…' if begin else ''}{line[begin:end]}{'…' if end < len(line) else ''}"


def main(argument: str) -> int:
    """Search, and return the exit code."""
    stdout: Any = sys.stdout
    stdout.reconfigure(encoding="utf-8", errors="replace", line_buffering=False)
    request = Request(**json.loads(argument))
    root = Root(".", hard_links=request.hard_links)
    try:
        search = Search(request, root)
        search.run()
    except re.error as error:
        print(f"the pattern {request.pattern!r} cannot be read: {error}; literal=true looks for the text itself")
        return 2
    except OverflowError as error:
        print(f"the pattern {request.pattern!r} cannot be read: {error}")
        return 2
    except (ValueError, RecursionError, Refused) as error:
        print(error)
        return 2
    finally:
        root.close()
    print(search.summary())
    return 0
