"""Why the operating system does not do something in a workspace, in words for a model, with the path that it is about.

Needs the standard library alone, for the program that searches.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager

from .paths import AlreadyThere, Refused, shown


def not_a_folder(name: str, within: int) -> Refused:
    """Why something could not be opened as a folder."""
    try:
        mode = os.stat(name, dir_fd=within, follow_symlinks=False).st_mode
    except OSError:
        return Refused("it was changed meanwhile")
    if stat.S_ISLNK(mode):
        return Refused("it is a symbolic link, and links are not followed here")
    return Refused(f"it is {kind_of(mode)}, not a folder")


_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISREG, "a file"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind_of(mode: int) -> str:
    """What something is that is neither a link nor a folder, by its mode."""
    return next((words for is_kind, words in _KINDS if is_kind(mode)), "something else")


@contextmanager
def explained(names: tuple[str, ...]) -> Generator[None]:
    """Errors of the operating system, and our own, as the model is told them: with the path, once."""
    path = shown("/".join(names) or ".")
    try:
        yield
    except Refused as error:
        raise error if error.path is not None else Refused(error.reason, path) from None
    except FileNotFoundError:
        raise Refused("there is no such file or folder in the workspace", path) from None
    except FileExistsError:
        raise AlreadyThere("it is there already", path) from None
    except PermissionError:
        raise Refused("permission denied", path) from None
    except OSError as error:
        raise Refused(error.strerror or str(error), path) from None
