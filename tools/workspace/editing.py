"""The tool `edit_file`: view, create, replace, insert, undo.

An edit reads the file, makes the new text, and writes it as a whole if the file is still the one that was read. Edits
through one workspace are made one at a time, so two calls of one reply cannot lose each other's change; what others
change meanwhile, an editor or a shell, is noticed, and the edit is refused.

What an edit replaced is kept for `undo`, for the run, the last ones, up to a number of bytes. An undo is an edit
itself: it is refused where the file is not as the edit has left it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Annotated, Literal, NamedTuple, TypeAlias

import msgspec

from ...agents import ToolFailed
from ...agents.tool_rules import Arguments
from .edits import difference, insert, replace
from .paths import AlreadyThere, Refused, read_path, refuse_repository, shown
from .reading import list_folder
from .root import Root, Stamp
from .texts import Content, read_content, show_lines, write_content

Command: TypeAlias = Literal["view", "create", "replace", "insert", "undo"]
Names: TypeAlias = tuple[str, ...]

#: Edits that can be undone, and bytes that are kept for it.
MOST_KEPT = 50
MOST_KEPT_BYTES = 20_000_000

#: What each command needs, and what else it may have.
_NEEDS: Mapping[str, tuple[str, ...]] = {"create": ("text",), "replace": ("old", "text"), "insert": ("line", "text")}
_TAKES: Mapping[str, tuple[str, ...]] = {"view": ("line", "last"), "create": ("overwrite",)}


class Edit(NamedTuple):
    """One edit that can be undone: what the file was before, None for no file, and its stamp since."""

    names: Names
    before: bytes | None
    after: Stamp


class Editor:
    """Edits the files of one run.

    Args:
        root: the folder.
        path: its absolute path.
        most: bytes that a file has at most, before and after.
        lock: held while a file is read, changed and written.
    """

    def __init__(self, root: Root, path: str, most: int, lock: Lock) -> None:
        self._root = root
        self._path = path
        self._most = most
        self._lock = lock
        self._kept: deque[Edit] = deque()
        self._kept_bytes = 0

    def view(self, path: str, first: int | None, last: int | None) -> str:
        """Lines of a file, or what is in a folder."""
        names = read_path(path, self._path)
        if self._root.is_folder(names):
            return list_folder(self._root, names)
        _, content, _ = self._read(names)
        return show_lines(content.text, first, last)

    def create(self, path: str, text: str, overwrite: bool) -> str:
        """Write a whole file, which must not be there yet, unless told so."""
        names = writable(path, self._path)
        if path.endswith("/"):
            raise Refused(f"{shown(path)} is the path of a folder: folders are made with the files in them")
        data = self._written(names, Content(text))
        with self._lock:
            before, seen, unread = None, None, None
            if overwrite:
                try:
                    before, seen = self._root.read(names, self._most)
                except Refused as error:  # mostly there is none
                    unread = error
            try:
                after = self._root.write(names, data, seen)
            except AlreadyThere as error:
                if unread is not None:
                    raise unread from None
                self._root.read(names, self._most)  # what cannot be replaced says so
                raise Refused(f"{error.reason}: give overwrite=true to replace all of it", error.path) from None
            self._keep(Edit(names, before, after))
        return f"wrote {shown('/'.join(names))}: {len(data):,} bytes"

    def change(self, path: str, edit: Callable[[str], str]) -> str:
        """Change a file by a function of its text."""
        names = writable(path, self._path)
        with self._lock:
            before, content, seen = self._read(names)
            try:
                text = edit(content.text)
            except Refused as error:
                hint = "; its lines end in several ways, some with a carriage return" if content.mixed else ""
                raise Refused(error.reason + hint, shown("/".join(names))) from None
            after = self._root.write(names, self._written(names, content._replace(text=text)), seen)
            self._keep(Edit(names, before, after))
        return f"changed {shown('/'.join(names))}:\n{difference(content.text, text)}"

    def undo(self, path: str) -> str:
        """Take the last edit of a file back."""
        names = writable(path, self._path)
        with self._lock:
            edit = next((each for each in reversed(self._kept) if each.names == names), None)
            if edit is None:
                raise Refused("there is no edit of this run to undo", shown("/".join(names)))
            if edit.before is None:
                self._root.remove(names, edit.after)
                self._forget(edit)
                return f"removed {shown('/'.join(names))}, which the edit had made"
            after = self._root.write(names, edit.before, edit.after)
            self._forget(edit)
            self._follow(names, after)
        return f"undone: {shown('/'.join(names))} is as it was before the edit"

    def _read(self, names: Names) -> tuple[bytes, Content, Stamp]:
        data, seen = self._root.read(names, self._most)
        try:
            return data, read_content(data), seen
        except Refused as error:
            raise Refused(error.reason, shown("/".join(names))) from None

    def _written(self, names: Names, content: Content) -> bytes:
        data = write_content(content)
        if len(data) > self._most:
            raise Refused(f"it would have {len(data):,} bytes, and at most {self._most:,} are written", "/".join(names))
        return data

    def _keep(self, edit: Edit) -> None:
        self._kept.append(edit)
        self._kept_bytes += len(edit.before or b"")
        while len(self._kept) > MOST_KEPT or self._kept_bytes > MOST_KEPT_BYTES:
            self._forget(self._kept[0])

    def _forget(self, edit: Edit) -> None:
        self._kept.remove(edit)
        self._kept_bytes -= len(edit.before or b"")

    def _follow(self, names: Names, stamp: Stamp) -> None:
        """The edit before an undone one has left the file as the undo has."""
        for place in range(len(self._kept) - 1, -1, -1):
            if self._kept[place].names == names:
                self._kept[place] = self._kept[place]._replace(after=stamp)
                return


def edit_file_with(editor: Editor) -> Callable[..., str]:
    """The function of the tool."""

    def edit_file(
        command: Command,
        path: str,
        text: str | None = None,
        old: str | None = None,
        line: Annotated[int, msgspec.Meta(ge=0)] | None = None,
        last: Annotated[int, msgspec.Meta(ge=1)] | None = None,
        overwrite: bool | None = None,
    ) -> str:
        """View or change a text file of the workspace.

        view shows the lines from `line` to `last` with their numbers. create writes a new file with `text`. replace
        puts `text` in the place of `old`, which must be in the file exactly once. insert puts `text` as lines of its
        own after `line`, 0 for the beginning. undo takes your last edit of the file back.

        Args:
            command: what to do.
            path: the path from the folder of the workspace.
            text: create: the whole content; replace: what takes the place of old; insert: the new lines.
            old: replace: the exact text to replace, with its spaces and newlines and without line numbers.
            line: insert: the line after which to insert; view: the first line to show.
            last: view: the last line to show.
            overwrite: create: true to replace a file that is there.
        """
        given = {"text": text, "old": old, "line": line, "last": last, "overwrite": overwrite}
        try:
            check_given(command, {name for name, value in given.items() if value is not None})
            match command:
                case "view":
                    return editor.view(path, line or None, last)
                case "create":
                    return editor.create(path, text or "", bool(overwrite))
                case "replace":
                    return editor.change(path, lambda whole: replace(whole, _plain(whole, old), _plain(whole, text)))
                case "insert":
                    return editor.change(path, lambda whole: insert(whole, line or 0, _plain(whole, text)))
                case "undo":
                    return editor.undo(path)
        except Refused as error:
            raise ToolFailed(str(error)) from None

    return edit_file


def writable(path: str, folder: str) -> Names:
    """The names of a path that may be written.

    Raises:
        Refused: it leads out of the folder, or is Git's.
    """
    names = read_path(path, folder)
    refuse_repository(names)
    return names


def check_edit(arguments: Arguments, folder: str) -> Names:
    """The names of the file that a call of `edit_file` would change.

    Raises:
        Refused: the call will be refused by its arguments alone.
    """
    given = {name for name, value in arguments.items() if name not in ("command", "path") and value is not None}
    check_given(arguments["command"], given)
    return writable(arguments["path"], folder)


def check_given(command: str, given: set[str]) -> None:
    """Refuse a command without what it needs, or with what it does not take: the model means something else.

    Raises:
        Refused: it does.
    """
    needs, takes = _NEEDS.get(command, ()), _TAKES.get(command, ())
    for name in needs:
        if name not in given:
            raise Refused(f"{command} needs {name}")
    for name in sorted(given):
        if name not in needs and name not in takes:
            raise Refused(f"{command} takes no {name}: it takes {', '.join(('path', *needs, *takes))}")


def _plain(whole: str, text: str | None) -> str:
    """A text of the model, with newlines as the file's text has them."""
    return (text or "").replace("\r\n", "\n") if "\r" not in whole else text or ""
