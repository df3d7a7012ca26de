"""The paths of a workspace: nothing outside is read or written, whatever a path says, leads to or becomes."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenroom.tools.workspace import root as root_module
from greenroom.tools.workspace.paths import (
    DEEPEST,
    LONGEST_NAME,
    LONGEST_PATH,
    AlreadyThere,
    Refused,
    read_path,
    refuse_repository,
)
from greenroom.tools.workspace.root import TEMPORARY, Root, can_confine

pytestmark = pytest.mark.skipif(not can_confine(), reason="this system has no workspaces")
SECRET = b"the secret of the neighbour"


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[Root]:
    root = Root(str(path), **options)
    try:
        yield root
    finally:
        root.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder for a workspace, beside which there is something to steal."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(SECRET)
    inside = tmp_path / "inside"
    inside.mkdir()
    return inside


def temporary_files(path: Path) -> list[Path]:
    return [each for each in path.rglob("*") if each.name.startswith(TEMPORARY)]


# -- what is written


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (".", ()),
        ("./", ()),
        ("a", ("a",)),
        ("a/b//c/./d/", ("a", "b", "c", "d")),
        ("./~name", ("~name",)),
        ("a/~", ("a", "~")),
        ("a b\\c", ("a b\\c",)),
        ("été/日本", ("été", "日本")),
        ("...", ("...",)),
        ("a..b", ("a..b",)),
        ("/work/place", ()),
        ("/work/place/a/b", ("a", "b")),
    ],
)
def test_a_path_is_the_names_that_it_consists_of(text: str, names: tuple[str, ...]) -> None:
    assert read_path(text, "/work/place") == names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("..", "'..'"),
        ("../a", "'..'"),
        ("a/../b", "'..'"),
        ("a/..", "'..'"),
        ("/work/place/../other", "'..'"),
        ("/", "outside"),
        ("/etc/passwd", "outside"),
        ("/work/places", "outside"),
        ("//work/place", "outside"),
        ("~", "'~'"),
        ("~/a", "'~'"),
        ("~root/a", "'~'"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("a\x1b[2Jb", "control"),
        ("a\x7f", "control"),
        ("a\u2028b", "control"),
        ("a\u202egpj.exe", "control"),
        ("a\ud800", "control"),
        ("a" * (LONGEST_NAME + 1), "bytes"),
        ("é" * (LONGEST_NAME // 2 + 1), "bytes"),
        ("a/" * (LONGEST_PATH // 2 + 1), "bytes"),
        ("a/" * (DEEPEST + 1), "folders"),
    ],
)
def test_a_path_that_leads_out_or_nowhere_is_refused(text: str, words: str) -> None:
    """Scenario 98."""
    with pytest.raises(Refused, match=words) as caught:
        read_path(text, "/work/place")
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def test_with_the_root_of_the_system_any_absolute_path_is_inside() -> None:
    assert read_path("/etc/passwd", "/") == ("etc", "passwd")


@given(st.text(max_size=40))
def test_what_is_not_refused_are_plain_names(text: str) -> None:
    try:
        names = read_path(text, "/work/place")
    except Refused:
        return
    assert all(name not in ("", ".", "..") and "/" not in name and "\0" not in name for name in names)


@pytest.mark.parametrize("name", [".git", ".GIT", ".Git", ".g\u200cit", ".git.", ".git ", "git~1", "\uff0egit"])
def test_git_s_own_files_are_not_written(name: str) -> None:
    """Git runs what is in there, later and without asking."""
    with pytest.raises(Refused, match="Git"):
        refuse_repository(("a", name, "hooks", "pre-commit"))
    refuse_repository((".gitignore", ".github", "git", "a.git"))


# -- what a path leads to


def test_a_file_is_read_and_listed(place: Path) -> None:
    (place / "a").mkdir()
    (place / "a" / "b").write_bytes(b"text")
    with opened(place) as root:
        data, stamp = root.read(("a", "b"), 10)
        assert (data, stamp.size) == (b"text", 4)
        assert root.entries((), 10) == ([("a", "folder", 0)], 1)
        assert root.entries(("a",), 10) == ([("b", "file", 4)], 1)
        assert (root.is_folder(()), root.is_folder(("a",)), root.is_folder(("a", "b"))) == (True, True, False)


def test_reading_is_bounded(place: Path) -> None:
    (place / "a").write_bytes(b"x" * 11)
    with opened(place) as root:
        with pytest.raises(Refused, match="11 bytes, and at most 10"):
            root.read(("a",), 10)
        assert len(root.read(("a",), 11)[0]) == 11


def test_a_file_that_grows_while_it_is_read_is_bounded_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "a").write_bytes(b"x" * 11)
    honest = os.fstat

    def small(fd: int) -> os.stat_result:
        about = honest(fd)
        return os.stat_result((*about[:6], min(about.st_size, 5), *about[7:])) if stat.S_ISREG(about[0]) else about

    with opened(place) as root:
        monkeypatch.setattr(root_module.os, "fstat", small)
        with pytest.raises(Refused, match="at most 10"):
            root.read(("a",), 10)


def test_a_listing_is_bounded(place: Path) -> None:
    for number in range(30):
        (place / f"{number:02}").touch()
    with opened(place) as root:
        entries, count = root.entries((), 7)
        assert ([entry.name for entry in entries], count) == ([f"{number:02}" for number in range(7)], 30)


@pytest.mark.parametrize(
    ("link", "target", "names"),
    [
        ("l", "../outside/secret", ("l",)),
        ("l", "../outside", ("l", "secret")),
        ("l", "/etc", ("l", "passwd")),
        ("l", "/etc/passwd", ("l",)),
        ("l", "/proc/self/root", ("l", "etc", "passwd")),
        ("a/l", "../../outside", ("a", "l", "secret")),
        ("a/b/l", "../../../outside/secret", ("a", "b", "l")),
        ("l", ".", ("l", "inner")),
        ("l", "inner", ("l",)),
        ("l", "l", ("l",)),
        ("l", "nothing", ("l",)),
    ],
)
def test_no_link_is_followed_in_any_place(place: Path, link: str, target: str, names: tuple[str, ...]) -> None:
    """Scenario 98: a symlink in any component."""
    (place / "inner").write_bytes(b"inside")
    (place / link).parent.mkdir(parents=True, exist_ok=True)
    (place / link).symlink_to(target)
    before = (place.parent / "outside" / "secret").read_bytes()
    with opened(place) as root:
        with pytest.raises(Refused, match="symbolic link"):
            root.read(names, 1000)
        with pytest.raises(Refused, match=r"symbolic link|there already"):
            root.write(names, b"mine", None)
        with pytest.raises(Refused, match=r"symbolic link|there already"):
            root.write((*names, "deeper", "new"), b"mine", None)
        with pytest.raises(Refused):
            root.entries(names, 10)
    assert (place / link).is_symlink()
    assert (place.parent / "outside" / "secret").read_bytes() == before
    assert os.listdir(place.parent / "outside") == ["secret"]
    assert temporary_files(place.parent) == []


def test_the_folder_itself_may_be_a_link(place: Path) -> None:
    (place / "a").write_bytes(b"text")
    (place.parent / "link").symlink_to("inside")
    with opened(place.parent / "link") as root:
        assert root.read(("a",), 10)[0] == b"text"


def test_what_is_no_ordinary_file_is_refused_without_opening_it(place: Path) -> None:
    """Scenario 98: devices, FIFOs, sockets. Opening a pipe for reading would wait for somebody who writes."""
    os.mkfifo(place / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place / "socket"))
        with opened(place) as root:
            for name, words in (("pipe", "a named pipe"), ("socket", "a socket")):
                with pytest.raises(Refused, match=words):
                    root.read((name,), 10)
                with pytest.raises(Refused, match=f"{words}, not a folder"):
                    root.read((name, "a"), 10)


def test_devices_and_what_the_kernel_makes_up_are_refused() -> None:
    with opened(Path("/")) as root:
        with pytest.raises(Refused, match=r"kernel's own|a device"):
            root.read(("dev", "null"), 10)
        for names in (("proc", "self", "environ"), ("proc", "cpuinfo"), ("proc", "1", "root", "etc", "passwd")):
            with pytest.raises(Refused, match="kernel's own"):
                root.read(names, 100_000)


def test_a_folder_or_nothing_is_no_file(place: Path) -> None:
    (place / "a").mkdir()
    (place / "f").touch()
    with opened(place) as root:
        for names, words in (
            ((), "it is a folder"),
            (("a",), "it is a folder"),
            (("f", "x"), "a file, not a folder"),
            (("b",), "there is no such"),
            (("b", "c"), "there is no such"),
        ):
            with pytest.raises(Refused, match=words):
                root.read(names, 10)
        with pytest.raises(Refused, match="it is a folder"):
            root.write((), b"", None)
        with pytest.raises(AlreadyThere):
            root.write(("a",), b"", None)


def test_a_file_with_other_names_is_read_only_where_that_is_allowed(place: Path) -> None:
    """Scenario 98: hard links."""
    os.link(place.parent / "outside" / "secret", place / "hard")
    with opened(place) as root, pytest.raises(Refused, match=r"hard_links=True"):
        root.read(("hard",), 1000)
    with opened(place, hard_links=True) as root:
        data, stamp = root.read(("hard",), 1000)
        assert data == SECRET
        root.write(("hard",), b"mine", stamp)
    assert (place / "hard").read_bytes() == b"mine"
    assert (place.parent / "outside" / "secret").read_bytes() == SECRET


# -- writing


def test_a_new_file_and_the_folders_on_its_way_are_made(place: Path) -> None:
    with opened(place) as root:
        stamp = root.write(("a", "b", "c"), b"text", None)
        assert root.read(("a", "b", "c"), 10) == (b"text", stamp)
        with pytest.raises(AlreadyThere, match="there already"):
            root.write(("a", "b", "c"), b"other", None)
    assert (place / "a" / "b" / "c").read_bytes() == b"text"
    assert temporary_files(place) == []
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((place / "a" / "b" / "c").stat().st_mode) == 0o666 & ~umask


def test_a_file_is_replaced_in_one_step_and_keeps_its_mode(place: Path) -> None:
    """Whoever has the old file open goes on reading the old content."""
    (place / "run").write_bytes(b"old")
    (place / "run").chmod(0o750)
    with open(place / "run", "rb") as reader, opened(place) as root:
        _, seen = root.read(("run",), 10)
        root.write(("run",), b"new", seen)
        assert reader.read() == b"old"
    assert (place / "run").read_bytes() == b"new"
    assert stat.S_IMODE((place / "run").stat().st_mode) == 0o750


def test_a_file_that_is_replaced_belongs_to_whom_it_did_where_the_system_lets_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when root in a container edits the files of the user outside."""
    given: list[tuple[int, int]] = []

    def chown(fd: int, user: int, group: int) -> None:
        given.append((user, group))
        raise PermissionError

    monkeypatch.setattr(os, "fchown", chown)
    (place / "a").write_bytes(b"old")
    with opened(place) as root:
        _, seen = root.read(("a",), 10)
        monkeypatch.setattr(root_module, "_check_seen", lambda *_: None)
        root.write(("a",), b"mine", seen)
        assert given == []  # it is ours
        root.write(("a",), b"theirs", seen._replace(user=seen.user + 1))
    assert given == [(seen.user + 1, seen.group)]
    assert (place / "a").read_bytes() == b"theirs"


def test_a_file_that_somebody_has_changed_is_not_overwritten(place: Path) -> None:
    (place / "a").write_bytes(b"old")
    with opened(place) as root:
        _, seen = root.read(("a",), 10)
        (place / "a").write_bytes(b"theirs")
        with pytest.raises(Refused, match="changed it meanwhile"):
            root.write(("a",), b"mine", seen)
        with pytest.raises(Refused, match="changed it meanwhile"):
            root.remove(("a",), seen)
    assert (place / "a").read_bytes() == b"theirs"
    assert temporary_files(place) == []


def test_a_read_only_file_stays_as_it_is(place: Path) -> None:
    (place / "a").write_bytes(b"old")
    (place / "a").chmod(0o444)
    with opened(place) as root:
        _, seen = root.read(("a",), 10)
        with pytest.raises(Refused, match="read-only"):
            root.write(("a",), b"new", seen)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    (place / "a").write_bytes(b"old")
    monkeypatch.setattr(root_module.os, "fsync", full)
    with opened(place) as root:
        _, seen = root.read(("a",), 10)
        with pytest.raises(Refused, match="'a': No space left"):
            root.write(("a",), b"new", seen)
        with pytest.raises(Refused, match="'b': No space left"):
            root.write(("b",), b"new", None)
    assert [each.name for each in place.iterdir()] == ["a"]
    assert (place / "a").read_bytes() == b"old"


def test_a_file_system_without_hard_links_can_be_written(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(root_module.os, "link", none)
    with opened(place) as root:
        root.write(("a",), b"text", None)
        with pytest.raises(AlreadyThere):
            root.write(("a",), b"other", None)
    assert (place / "a").read_bytes() == b"text"
    assert temporary_files(place) == []


# -- between check and use


class Swapped(threading.Thread):
    """Turns a folder into a link to what is outside and back, without end."""

    def __init__(self, place: Path, target: str) -> None:
        super().__init__()
        self._place, self._target, self.over = place, target, False
        self.turns = 0
        self.start()

    def run(self) -> None:
        real, aside = self._place / "a", self._place / "aside"
        link = self._place / "link"
        while not self.over:
            link.symlink_to(self._target)
            os.rename(real, aside)
            os.rename(link, real)
            os.unlink(real)
            os.rename(aside, real)
            self.turns += 1


def test_a_folder_that_is_swapped_for_a_link_at_any_moment_leads_nowhere(place: Path) -> None:
    """Scenario 98: swapped between check and use."""
    (place / "a").mkdir()
    (place / "a" / "secret").write_bytes(b"of the workspace")
    swapped = Swapped(place, "../outside")
    seen: set[bytes] = set()
    refused = 0
    try:
        with opened(place) as root:
            for _ in range(3000):
                try:
                    data, stamp = root.read(("a", "secret"), 1000)
                    seen.add(data)
                    root.write(("a", "secret"), b"of the workspace", stamp)
                except Refused:
                    refused += 1
    finally:
        swapped.over = True
        swapped.join()
    assert swapped.turns > 10
    assert seen == {b"of the workspace"}
    assert refused > 0
    assert os.listdir(place.parent / "outside") == ["secret"]
    assert (place.parent / "outside" / "secret").read_bytes() == SECRET


def after_looking(monkeypatch: pytest.MonkeyPatch, swap: Callable[[], None]) -> None:
    """Have `swap` done as soon as somebody has looked at a name in a folder."""
    honest = os.stat
    done: list[bool] = []

    def look(*arguments: Any, **options: Any) -> os.stat_result:
        about = honest(*arguments, **options)
        if options.get("dir_fd") is not None and not done:
            done.append(True)
            swap()
        return about

    monkeypatch.setattr(root_module.os, "stat", look)


@pytest.mark.parametrize("kind", ["link", "pipe", "hard link"])
def test_a_file_that_is_swapped_between_check_and_use_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Scenario 98."""
    secret = place.parent / "outside" / "secret"

    def swap() -> None:
        (place / "a").unlink()
        if kind == "link":
            (place / "a").symlink_to(secret)
        elif kind == "pipe":
            os.mkfifo(place / "a")
        else:
            os.link(secret, place / "a")

    (place / "a").write_bytes(b"inside")
    with opened(place) as root:
        after_looking(monkeypatch, swap)
        with pytest.raises(Refused):
            root.read(("a",), 1000)


def test_a_file_that_is_swapped_for_a_link_before_it_is_written_is_not_followed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swap() -> None:
        (place / "a").unlink()
        (place / "a").symlink_to("../outside/secret")

    (place / "a").write_bytes(b"inside")
    with opened(place) as root:
        _, seen = root.read(("a",), 1000)
        after_looking(monkeypatch, swap)
        root.write(("a",), b"mine", seen)
    assert (place.parent / "outside" / "secret").read_bytes() == SECRET
    assert (place / "a").read_bytes() == b"mine"
    assert not (place / "a").is_symlink()


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(tuple)
TARGETS = st.sampled_from([".", "..", "../..", "../outside", "../../outside", "/etc", "a", "b", "../outside/secret"])
TREE = st.lists(st.tuples(PATHS, st.sampled_from(["folder", "file", "link", "hard", "pipe"]), TARGETS), max_size=8)


def plant(place: Path, tree: list[tuple[tuple[str, ...], str, str]]) -> None:
    """Make what the tree says, as far as it can be made."""
    for names, kind, target in tree:
        path = place.joinpath(*names)
        try:
            if not Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(place)):
                continue  # through a link: whoever can do that has what is outside anyway
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "folder":
                path.mkdir()
            elif kind == "file":
                with open(path, "xb") as file:
                    file.write(b"inside")
            elif kind == "link":
                path.symlink_to(target)
            elif kind == "hard":
                os.link(place.parent / "outside" / "secret", path)
            else:
                os.mkfifo(path)
        except OSError:
            continue


class Mischief(threading.Thread):
    """Swaps names in the workspace for others while somebody works there."""

    def __init__(self, place: Path, swaps: list[tuple[tuple[str, ...], tuple[str, ...], str]]) -> None:
        super().__init__()
        self._place, self._swaps, self.over = place, swaps, False
        self.start()

    def run(self) -> None:
        while not self.over:
            for number, (one, other, target) in enumerate(self._swaps):
                aside = self._place / f"aside{number}"
                for step in (
                    lambda one=one, aside=aside: os.rename(self._place.joinpath(*one), aside),
                    lambda one=one, target=target: os.symlink(target, self._place.joinpath(*one)),
                    lambda one=one: os.unlink(self._place.joinpath(*one)),
                    lambda other=other, aside=aside: os.rename(aside, self._place.joinpath(*other)),
                ):
                    # What is outside is not to be changed by the mischief itself.
                    try:
                        step()
                    except OSError:
                        continue
            if not self._swaps:
                return


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tree=TREE,
    swaps=st.lists(st.tuples(NAMES.map(lambda name: (name,)), NAMES.map(lambda name: (name,)), TARGETS), max_size=3),
    wanted=st.lists(PATHS, min_size=1, max_size=6),
)
def test_whatever_is_planted_and_swapped_nothing_outside_is_read_or_written(
    tmp_path_factory: pytest.TempPathFactory, tree: Any, swaps: Any, wanted: Any
) -> None:
    """Scenario 98, with trees and swaps that nobody has thought of."""
    base = tmp_path_factory.mktemp("attack")
    outside, place = base / "outside", base / "inside"
    outside.mkdir()
    place.mkdir()
    (outside / "secret").write_bytes(SECRET)
    plant(place, tree)
    inode = (outside / "secret").stat().st_ino
    mischief = Mischief(place, swaps)
    try:
        with opened(place) as root:
            for _ in range(4):
                for names in wanted:
                    attempts = [
                        lambda names=names: root.read(names, 1000),
                        lambda names=names: root.read((*names, "secret"), 1000),
                        lambda names=names: root.read((*names, "passwd"), 1_000_000),
                    ]
                    for attempt in attempts:
                        try:
                            data, stamp = attempt()
                        except Refused:
                            continue
                        assert data in (b"inside", b"mine")
                        try:
                            root.write(names, b"mine", stamp)
                        except Refused:
                            continue
                    for names_of_new in (names, (*names, "new")):
                        try:
                            root.write(names_of_new, b"mine", None)
                        except Refused:
                            continue
                    try:
                        found, _ = root.entries(names, 1000)
                    except Refused:
                        continue
                    assert "secret" not in [entry.name for entry in found]
    finally:
        mischief.over = True
        mischief.join()
    assert os.listdir(outside) == ["secret"]
    assert (outside / "secret").read_bytes() == SECRET
    assert (outside / "secret").stat().st_ino == inode
    assert sorted(os.listdir(base)) == ["inside", "outside"]


# -- closing


def test_a_root_is_closed_when_the_last_of_its_users_has_left(place: Path) -> None:
    """A descriptor that was closed too early may be somebody else's file when the thread uses it."""
    (place / "a").mkdir()
    root = Root(str(place))
    fd = root._fd
    with root.folder(("a",)):
        root.close()
        assert os.fstat(fd).st_ino == place.stat().st_ino
        with pytest.raises(Refused, match="closed"):
            root.read(("a",), 10)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    root.close()
