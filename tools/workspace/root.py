"""The folder of a workspace, open: files are reached from its descriptor, one name after the other.

A path that was checked and is then opened may have become another one in between. Here nothing is checked by path. Each
folder on the way is opened by its name within the one before, without following a link, and the file within the last of
them; all that is asked afterwards is asked of what is open. So a folder that is swapped for a link at any moment is
either the old folder or an error. Links are never followed, wherever they lead.

Only ordinary files are read: no device, pipe or socket, nothing that the kernel makes up (``/proc``), and no file that
has other names too, which may lie outside, unless told so. A file is replaced as a whole: its new content is written
beside it and takes its name in one step. That way a reader sees the old or the new content, a crash leaves one of them,
and other names of the old file keep what they have.

Blocking: call it in a thread. Needs the standard library alone, for the program that searches.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from secrets import token_hex
from threading import Lock
from typing import NamedTuple

from .paths import Refused, shown
from .refusals import explained, kind_of, not_a_folder

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
#: Opening a file must neither wait (a pipe) nor make a terminal ours.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | _FLAGS
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS
#: What the kernel makes up.
_PSEUDO = ("/proc", "/sys", "/dev")
#: What a file is called while it is written.
TEMPORARY = ".greenroom-"


class Stamp(NamedTuple):
    """What tells one content of a file from the next."""

    device: int
    inode: int
    changed: int
    size: int
    mode: int
    user: int
    group: int


class Entry(NamedTuple):
    """One name in a folder: ``file``, ``folder``, ``link`` or ``other``."""

    name: str
    kind: str
    size: int


def can_confine() -> bool:
    """Whether this system can open a file within an open folder without following links."""
    return {os.open, os.stat, os.mkdir, os.unlink, os.rename} <= os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")


class Root:
    """An open folder. Its methods take the names of `paths.read_path`, may be called from any thread, and raise
    `Refused` for whatever does not go.

    Args:
        path: the folder; itself it may be a link.
        hard_links: whether files are read that have further names.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str, *, hard_links: bool = False) -> None:
        self._hard_links = hard_links
        self._lock = Lock()
        self._users = 0
        self._closing = False
        self._fd = os.open(path, _FOLDER & ~getattr(os, "O_NOFOLLOW", 0))
        self._pseudo = _pseudo_devices()

    def close(self) -> None:
        """Close it, once the last of those has left who use it: a thread that was given up may still be at work."""
        with self._lock:
            self._closing = True
            if self._users == 0 and self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def duplicate(self) -> int:
        """A further descriptor of the folder, for whoever closes it."""
        with self._used() as root:
            return os.dup(root)

    @contextmanager
    def _used(self) -> Generator[int]:
        with self._lock:
            if self._closing:
                raise Refused("the workspace is closed")
            self._users += 1
        try:
            yield self._fd
        finally:
            with self._lock:
                self._users -= 1
            if self._closing:
                self.close()

    @contextmanager
    def folder(self, names: tuple[str, ...], *, make: bool = False) -> Generator[int]:
        """The descriptor of a folder, for the length of the block; `make` makes those that there are not."""
        with self._used() as root, explained(names):
            fd = os.open(".", _FOLDER, dir_fd=root)
            try:
                for depth, name in enumerate(names):
                    with explained(names[: depth + 1]):
                        below = self.open_folder(name, fd, make)
                    os.close(fd)
                    fd = below
                yield fd
            finally:
                os.close(fd)

    def open_folder(self, name: str, within: int, make: bool = False) -> int:
        """Open a folder by its name in another."""
        while True:
            try:
                fd = os.open(name, _FOLDER, dir_fd=within)
                break
            except FileNotFoundError:
                if not make:
                    raise
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENOTDIR):
                    raise not_a_folder(name, within) from None
                raise
            try:
                os.mkdir(name, dir_fd=within)
            except FileExistsError:  # somebody else has, or it is a link to nothing: the next look tells
                if stat.S_ISLNK(os.stat(name, dir_fd=within, follow_symlinks=False).st_mode):
                    raise Refused("it is a symbolic link, and links are not followed here") from None
        if os.fstat(fd).st_dev in self._pseudo:
            os.close(fd)
            raise Refused("it lies on a file system of the kernel's own, such as /proc, which is not read here")
        return fd

    def open_file(self, name: str, within: int) -> int:
        """Open a file by its name in a folder, for reading."""
        self._check(os.stat(name, dir_fd=within, follow_symlinks=False))  # to open a device may already do something
        fd = os.open(name, _READ, dir_fd=within)
        try:
            self._check(os.fstat(fd))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _check(self, about: os.stat_result) -> None:
        mode = about.st_mode
        if stat.S_ISLNK(mode):
            raise Refused("it is a symbolic link, and links are not followed here: name the file itself")
        if stat.S_ISDIR(mode):
            raise Refused("it is a folder")
        if not stat.S_ISREG(mode):
            raise Refused(f"it is {kind_of(mode)}, and only ordinary files are read")
        if about.st_dev in self._pseudo:
            raise Refused("it lies on a file system of the kernel's own, such as /proc, which is not read here")
        if about.st_nlink > 1 and not self._hard_links:
            raise Refused(
                f"it is a file with {about.st_nlink} names (hard links), and the others may lie outside of the "
                "workspace; only Workspace(hard_links=True) reads such files"
            )

    # -- whole files and folders

    def read(self, names: tuple[str, ...], most: int) -> tuple[bytes, Stamp]:
        """The content of a file of at most so many bytes, and its stamp."""
        if not names:
            raise Refused("it is a folder", shown("."))
        with self.folder(names[:-1]) as folder, explained(names):
            fd = self.open_file(names[-1], folder)
            with open(fd, "rb") as file:
                about = os.fstat(fd)
                data = file.read(most + 1) if about.st_size <= most else b""
            if about.st_size > most or len(data) > most:
                raise Refused(f"it has {max(about.st_size, len(data)):,} bytes, and at most {most:,} are read")
            return data, _stamp(about)

    def entries(self, names: tuple[str, ...], most: int) -> tuple[list[Entry], int]:
        """What is in a folder, by name, at most so many, and how many there are."""
        with self.folder(names) as folder, explained(names):
            found = sorted(scan(folder), key=lambda entry: entry.name)
            return found[:most], len(found)

    def is_folder(self, names: tuple[str, ...]) -> bool:
        """Whether it is a folder; a link to one is none."""
        if not names:
            return True
        with self.folder(names[:-1]) as folder, explained(names):
            return stat.S_ISDIR(os.stat(names[-1], dir_fd=folder, follow_symlinks=False).st_mode)

    def write(self, names: tuple[str, ...], data: bytes, seen: Stamp | None) -> Stamp:
        """Give a file this content, in one step.

        Args:
            names: the file; folders on the way to a new one are made.
            data: the whole content.
            seen: the stamp of the content that it replaces; None for a file that must not be there yet.

        Returns:
            The stamp of the new content.
        """
        if not names:
            raise Refused("it is a folder", shown("."))
        if seen is not None and not seen.mode & 0o222:
            raise Refused("it is read-only", shown("/".join(names)))
        with self.folder(names[:-1], make=seen is None) as folder, explained(names):
            temporary = f"{TEMPORARY}{token_hex(8)}"
            fd = os.open(temporary, _NEW, 0o666 if seen is None else 0o600, dir_fd=folder)
            try:
                with open(fd, "wb") as file:
                    file.write(data)
                    file.flush()
                    if seen is not None:
                        _give(fd, seen)
                        os.fchmod(fd, seen.mode & 0o777)
                    os.fsync(fd)
                    stamp = _stamp(os.fstat(fd))
                if seen is None:
                    _name_new(temporary, names[-1], folder)
                else:
                    _check_seen(names[-1], folder, seen)
                    os.rename(temporary, names[-1], src_dir_fd=folder, dst_dir_fd=folder)
            finally:
                try:
                    os.unlink(temporary, dir_fd=folder)
                except FileNotFoundError:  # it has its name
                    pass
            return stamp

    def remove(self, names: tuple[str, ...], seen: Stamp) -> None:
        """Remove a file that still has this content."""
        with self.folder(names[:-1]) as folder, explained(names):
            _check_seen(names[-1], folder, seen)
            os.unlink(names[-1], dir_fd=folder)


def scan(folder: int) -> list[Entry]:
    """What is in an open folder, in no order. It is opened once more: a descriptor has one place to read at."""
    own = os.open(".", _FOLDER, dir_fd=folder)
    try:
        with os.scandir(own) as found:
            return [_entry(each) for each in found]
    finally:
        os.close(own)


def _entry(found: os.DirEntry[str]) -> Entry:
    try:
        about = found.stat(follow_symlinks=False)
    except OSError:  # it has gone meanwhile
        return Entry(found.name, "other", 0)
    if stat.S_ISREG(about.st_mode):
        return Entry(found.name, "file", about.st_size)
    kind = "folder" if stat.S_ISDIR(about.st_mode) else "link" if stat.S_ISLNK(about.st_mode) else "other"
    return Entry(found.name, kind, 0)


def _name_new(temporary: str, name: str, folder: int) -> None:
    """Give a file that was written its name, unless there is something of that name."""
    try:
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: there the last step is two
        try:
            os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None


def _give(fd: int, seen: Stamp) -> None:
    """Give a new file to whom the old one belongs. Mostly only root can; else it is of who has written it."""
    about = os.fstat(fd)
    if (about.st_uid, about.st_gid) != (seen.user, seen.group):
        try:
            os.fchown(fd, seen.user, seen.group)
        except OSError:
            pass


def _check_seen(name: str, folder: int, seen: Stamp) -> None:
    if _stamp(os.stat(name, dir_fd=folder, follow_symlinks=False)) != seen:
        raise Refused("somebody has changed it meanwhile: look at it again")


def _stamp(about: os.stat_result) -> Stamp:
    return Stamp(
        about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size, about.st_mode, about.st_uid, about.st_gid
    )


def _pseudo_devices() -> frozenset[int]:
    found: set[int] = set()
    for path in _PSEUDO:
        try:
            found.add(os.stat(path).st_dev)
        except OSError:
            continue
    return frozenset(found - {os.stat("/").st_dev})
