"""What a model may write for a path: names, one below the other, below the folder of a workspace. Pure.

This is the first of two lines of defence, and the one that explains. It turns text into plain names, so that nothing
but names reaches the operating system; that a name leads nowhere else is seen to in `root`, where it is opened.
"""

from __future__ import annotations

import unicodedata

#: Bytes of a path, and of one name in it: what file systems allow.
LONGEST_PATH = 4096
LONGEST_NAME = 255
#: Folders below each other.
DEEPEST = 100
#: Characters that turn the direction of text, so that a path looks like another one to whoever has to approve it.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Refused(Exception):
    """Something in the workspace that is not done; its text is for the model.

    Attributes:
        reason: why not.
        path: what it is about, where that is not in the reason.
    """

    def __init__(self, reason: str, path: str | None = None) -> None:
        super().__init__(f"{path}: {reason}" if path is not None else reason)
        self.reason = reason
        self.path = path


class AlreadyThere(Refused):
    """A file that was to be made has been there before."""


def read_path(text: str, root: str) -> tuple[str, ...]:
    """The names that a path consists of, from the folder of the workspace on; none for the folder itself.

    An absolute path is taken where it begins with that of the folder, for a shell shows such paths.

    Args:
        text: as the model wrote it.
        root: the absolute path of the folder.

    Raises:
        Refused: it leads out of the folder, or there can be no such file.
    """
    if not text:
        raise Refused("the path is empty: write '.' for the folder of the workspace")
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _TURNING:
            raise Refused(f"the path {shown(text)} has a control character: write the path without it")
    if len(text.encode()) > LONGEST_PATH:
        raise Refused(f"the path has {len(text.encode())} bytes, and there is none above {LONGEST_PATH}")
    if text.startswith("/"):
        below = root.rstrip("/") + "/"
        if not f"{text}/".startswith(below):
            raise Refused(f"{shown(text)} is outside of the workspace: write the path from the folder of the workspace")
        text = text[len(below) :]
    elif text.startswith("~"):
        raise Refused(f"{shown(text)}: '~' is not expanded here; a file of that name is './{text[:40]}'")
    names = tuple(name for name in text.split("/") if name not in ("", "."))
    if ".." in names:
        raise Refused(f"{shown(text)} has '..' in it: write the path from the folder of the workspace, without '..'")
    for name in names:
        if len(name.encode()) > LONGEST_NAME:
            raise Refused(f"a name in the path has {len(name.encode())} bytes, and there is none above {LONGEST_NAME}")
    if len(names) > DEEPEST:
        raise Refused(f"the path goes through {len(names)} folders, and at most {DEEPEST} are gone through")
    return names


def refuse_repository(names: tuple[str, ...]) -> None:
    """Refuse to write into a ``.git`` folder: what lies there is run by Git later, when nobody looks.

    Raises:
        Refused: one of the names is that of such a folder, on whatever file system.
    """
    for name in names:
        visible = "".join(each for each in name if unicodedata.category(each) != "Cf")
        if unicodedata.normalize("NFKC", visible).casefold().rstrip(". ") in (".git", "git~1"):
            raise Refused(f"{shown('/'.join(names))} belongs to Git's own files, which are not written here: use git")


def shown(path: str) -> str:
    """A path as messages have it: on one line, and not without end."""
    return repr(path if len(path) <= 200 else f"{path[:200]}…")
