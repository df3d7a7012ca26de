"""The tools `read_file` and `edit_file`: what a model is shown, what an edit does, and what it refuses."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import ToolFailed
from greenroom.providers import Image
from greenroom.tools.workspace import editing
from greenroom.tools.workspace.editing import Editor, edit_file_with
from greenroom.tools.workspace.edits import difference, insert, replace
from greenroom.tools.workspace.paths import Refused
from greenroom.tools.workspace.reading import MOST_ENTRIES, read_file_in
from greenroom.tools.workspace.root import Root, can_confine
from greenroom.tools.workspace.texts import (
    MOST_CHARACTERS,
    MOST_LINES,
    MOST_OF_LINE,
    Content,
    lines_of,
    read_content,
    show_lines,
    write_content,
)

pytestmark = pytest.mark.skipif(not can_confine(), reason="this system has no workspaces")
MOST = 100_000


class Files:
    """The two tools, in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = Root(str(path))
        self.editor = Editor(self.root, str(path), MOST, threading.Lock())
        self._read = read_file_in(self.root, str(path), MOST)
        self._edit = edit_file_with(self.editor)

    def read(self, *arguments: Any, **more: Any) -> Any:
        return self._read(*arguments, **more)

    def edit(self, command: str, path: str, **arguments: Any) -> str:
        return self._edit(command, path, **arguments)

    def put(self, name: str, data: bytes | str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def has(self, name: str) -> bytes:
        return (self.path / name).read_bytes()


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    files = Files(tmp_path)
    yield files
    files.root.close()


def refusal(function: Any, *arguments: Any, **more: Any) -> str:
    with pytest.raises(ToolFailed) as caught:
        function(*arguments, **more)
    return str(caught.value)


# -- text


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"", Content("")),
        (b"a\nb\n", Content("a\nb\n")),
        (b"a\r\nb\r\n", Content("a\nb\n", "\r\n")),
        (b"a\r\nb", Content("a\nb", "\r\n")),
        (b"\xef\xbb\xbfa\n", Content("a\n", mark=True)),
        (b"\xef\xbb\xbfa\r\n", Content("a\n", "\r\n", mark=True)),
        (b"a\r\nb\n", Content("a\r\nb\n", mixed=True)),
        (b"a\rb\r", Content("a\rb\r", mixed=True)),
        ("é\n".encode(), Content("é\n")),
    ],
)
def test_the_text_of_a_file_and_what_is_around_it_are_told_apart(data: bytes, content: Content) -> None:
    assert read_content(data) == content
    assert write_content(content) == data


@given(st.text(alphabet=st.sampled_from("ab\r\n\ufeffé"), max_size=12))
def test_a_text_that_is_read_and_written_is_the_same_bytes(text: str) -> None:
    data = text.encode()
    assert write_content(read_content(data)) == data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a\0b", "binary file of 3 bytes, which begins with 61 00 62"),
        (b"\xff\xfea\0", "UTF-16"),
        (b"caf\xe9", "binary"),
        (b"\x7fELF" + b"x" * 100, None),
    ],
)
def test_what_is_no_text_is_told_as_what_it_is(data: bytes, words: str | None) -> None:
    if words is None:
        assert read_content(data).text.startswith("\x7fELF")  # text, as far as anybody can tell
        return
    with pytest.raises(Refused, match=words):
        read_content(data)


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_what_no_text_file_can_have_is_not_written(text: str) -> None:
    with pytest.raises(Refused, match="cannot be written"):
        write_content(Content(text))


def test_lines_are_shown_with_their_numbers_and_in_part() -> None:
    text = "".join(f"line {number}\n" for number in range(1, 11))
    assert show_lines("a\nb", None, None) == "     1\ta\n     2\tb"
    assert show_lines(text, 9, None) == "     9\tline 9\n    10\tline 10\n[lines 9 to 10 of 10]"
    assert show_lines(text, None, 1) == "     1\tline 1\n[lines 1 to 1 of 10]"
    assert show_lines(text, 10, 500) == "    10\tline 10\n[lines 10 to 10 of 10]"
    assert show_lines("", None, None) == "[it is empty]"
    for first, last, words in ((11, None, "there is no line 11: it has 10"), (3, 2, "no range"), (0, None, "no range")):
        with pytest.raises(Refused, match=words):
            show_lines(text, first, last)


def test_what_is_shown_is_bounded_and_says_how_to_go_on() -> None:
    many = show_lines("x\n" * (MOST_LINES + 5), None, None).splitlines()
    assert many[-1] == f"[lines 1 to {MOST_LINES} of {MOST_LINES + 5}; go on with line {MOST_LINES + 1}]"
    assert len(many) == MOST_LINES + 1
    wide = show_lines(("y" * 1000 + "\n") * 200, 2, None)
    assert len(wide) < MOST_CHARACTERS + 100
    reached = int(wide.rpartition("go on with line ")[2].rstrip("]"))
    assert wide.count("\n") + 1 == reached - 2 + 1
    assert show_lines("z" * (MOST_OF_LINE + 7), None, None).endswith(" [cut: 7 more characters]")
    assert show_lines("z" * 10_000_000, 1, None, most=10).startswith("     1\tzzz")  # one line at least


# -- read_file


def test_a_file_and_a_folder_are_read(files: Files) -> None:
    files.put("a/b.txt", "first\nsecond\n")
    files.put("a/c.bin", b"\0" * 2000)
    (files.path / "a" / "link").symlink_to("b.txt")
    (files.path / "a" / "d").mkdir()
    assert files.read("a/b.txt") == "     1\tfirst\n     2\tsecond"
    assert files.read("a/b.txt", 2, 2) == "     2\tsecond\n[lines 2 to 2 of 2]"
    assert files.read(str(files.path / "a" / "b.txt"), first=2).startswith("     2\tsecond")
    assert files.read("a").splitlines() == [
        "b.txt  13 bytes",
        "c.bin  2,000 bytes",
        "d/",
        "link  [a symbolic link, not followed]",
    ]
    assert files.read("a/d") == "[it is empty]"
    assert files.read(".") == "a/"


def test_a_name_cannot_draw_lines_of_its_own(files: Files) -> None:
    files.put("a\nb  1 bytes", "")
    assert files.read(".") == "'a\\nb  1 bytes'  0 bytes"


def test_a_long_listing_says_how_many_there_are(files: Files) -> None:
    for number in range(MOST_ENTRIES + 3):
        files.put(f"{number:04}", "")
    assert files.read(".").splitlines()[-1] == "[3 more]"


@pytest.mark.parametrize(
    ("begin", "end", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\0\0\0\0IEND\xae\x42\x60\x82", "image/png"),
        (b"\xff\xd8\xff\xe0", b"\xff\xd9", "image/jpeg"),
        (b"GIF89a", b";", "image/gif"),
        (b"RIFF\x20\0\0\0WEBPVP8 ", b"\0" * 4, "image/webp"),
    ],
)
def test_an_image_is_given_as_one_if_it_is_whole(files: Files, begin: bytes, end: bytes, kind: str) -> None:
    """A provider refuses one that is cut off, and with it all that comes after it in the conversation."""
    data = begin + b"\0" * 20 + end
    files.put("cut", begin + b"\0" * 20)
    words = f"'cut': it begins as {kind}, and is cut off or damaged: {len(begin) + 20} bytes"
    assert refusal(files.read, "cut") == words
    files.put("picture", data)
    told, part = files.read("picture")
    assert told == f"'picture': an image, {kind}, {len(data)} bytes"
    assert part == Image(data=data, media_type=kind)


def test_what_cannot_be_read_is_told(files: Files) -> None:
    files.put("binary", b"\0\1\2")
    files.put("long", b"x" * (MOST + 1))
    assert refusal(files.read, "binary") == "'binary': it is a binary file of 3 bytes, which begins with 00 01 02"
    assert "at most 100,000 are read" in refusal(files.read, "long")
    assert "there is no such file" in refusal(files.read, "nothing")
    assert "there is no such file" in refusal(files.read, "nothing/below")
    assert "outside" in refusal(files.read, "/etc/passwd")
    assert "'..'" in refusal(files.read, "../x")
    files.put("two", "1\n2\n")
    assert refusal(files.read, "two", 3) == "'two': there is no line 3: it has 2 lines"


# -- edits, as text


def test_exactly_one_match_is_replaced() -> None:
    assert replace("a b c", "b", "x") == "a x c"
    assert replace("b", "b", "") == ""
    assert replace("a\nb\nc\n", "b\nc", "x") == "a\nx\n"


@pytest.mark.parametrize(
    ("text", "old", "words"),
    [
        ("a\na\nb\na\n", "a", "3 times, at lines 1, 2, 4: give more"),
        ("aaa", "aa", "2 times"),  # which of the two is meant?
        ("a", "", "old is empty"),
        ("", "a", "not there; look at the file first"),
        ("alpha\nbeta\n", "zzzzzzzzz", "nothing much like it"),
    ],
)
def test_no_match_and_several_are_refused(text: str, old: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        replace(text, old, "new")


def test_many_places_are_not_all_named() -> None:
    with pytest.raises(Refused, match="50 times, at lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and more"):
        replace("a\n" * 50, "a", "b")


def test_nothing_to_change_is_refused() -> None:
    with pytest.raises(Refused, match="the same"):
        replace("a", "a", "a")


def test_a_near_miss_is_shown() -> None:
    text = "def first():\n    return 1\n\ndef second():\n    return 2\n"
    with pytest.raises(Refused) as caught:
        replace(text, "def second():\n\treturn 2", "x")
    assert str(caught.value).splitlines()[1:] == ["     4\tdef second():"]
    with pytest.raises(Refused) as caught:
        replace(text, "def secnd(self):", "x")
    assert "     4\tdef second():" in str(caught.value).splitlines()


def test_a_near_miss_is_looked_for_in_a_bounded_time() -> None:
    text = "".join(f"def function_{number}(first, second, third): return {number}\n" for number in range(20_000))
    with pytest.raises(Refused, match="much like"):
        replace(text, "def function_1(first, second, thrd): return 1", "x")


@pytest.mark.parametrize(
    ("text", "line", "new", "after"),
    [
        ("a\nb\n", 0, "x\n", "x\na\nb\n"),
        ("a\nb\n", 1, "x", "a\nx\nb\n"),
        ("a\nb\n", 2, "x\ny\n", "a\nb\nx\ny\n"),
        ("a\nb", 2, "x", "a\nb\nx"),
        ("a\nb", 0, "x", "x\na\nb"),
        ("", 0, "x", "x\n"),
        ("a\n", 1, "", "a\n\n"),
        ("a\nb", 2, "x\n", "a\nb\nx\n"),
        ("a", 1, "", "a\n\n"),
    ],
)
def test_lines_are_inserted_after_a_line(text: str, line: int, new: str, after: str) -> None:
    assert insert(text, line, new) == after


@given(st.text("ab\n", max_size=12), st.integers(0, 12), st.text("xy\n", max_size=6))
def test_an_insertion_leaves_all_other_lines_as_they_are(text: str, line: int, new: str) -> None:
    lines = lines_of(text)
    if line > len(lines):
        with pytest.raises(Refused, match="there is no line"):
            insert(text, line, new)
        return
    after = lines_of(insert(text, line, new))
    count = len(after) - len(lines)
    assert count >= 1
    assert after[:line] + after[line + count :] == lines


def test_a_change_is_shown_with_what_is_around_it() -> None:
    before = "".join(f"{number}\n" for number in range(1, 21))
    after = before.replace("10\n", "ten\nTEN\n")
    assert difference(before, after).splitlines() == [
        "      7\t7",
        "      8\t8",
        "      9\t9",
        "-    10\t10",
        "+    10\tten",
        "+    11\tTEN",
        "     12\t11",
        "     13\t12",
        "     14\t13",
    ]
    assert difference("a\n", "a") == "only the newline at the end has changed"
    assert len(difference("", "x\n" * 5000).splitlines()) < 100


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_what_is_shown_of_a_change_is_what_has_changed(before: list[str], after: list[str]) -> None:
    shown = difference("".join(f"{each}\n" for each in before), "".join(f"{each}\n" for each in after))
    if before == after:
        return
    removed = [line.split("\t")[1] for line in shown.splitlines() if line.startswith("-")]
    added = [line.split("\t")[1] for line in shown.splitlines() if line.startswith("+")]
    assert len(after) - len(before) == len(added) - len(removed)
    begin = next(
        (n for n, (x, y) in enumerate(zip(before, after, strict=False)) if x != y), min(len(before), len(after))
    )
    assert before[begin : begin + len(removed)] == removed
    assert after[begin : begin + len(added)] == added


# -- edit_file


def test_a_file_is_created_changed_viewed_and_undone(files: Files) -> None:
    assert files.edit("create", "src/new.py", text="a = 1\nb = 2\n") == "wrote 'src/new.py': 12 bytes"
    assert files.edit("replace", "src/new.py", old="b = 2", text="b = 3").startswith("changed 'src/new.py':\n")
    assert files.edit("insert", "src/new.py", line=0, text="# head").splitlines()[1] == "+     1\t# head"
    assert files.edit("view", "src/new.py") == "     1\t# head\n     2\ta = 1\n     3\tb = 3"
    assert files.edit("view", "src/new.py", line=2, last=2) == "     2\ta = 1\n[lines 2 to 2 of 3]"
    assert files.edit("view", "src") == "new.py  19 bytes"
    assert files.edit("undo", "src/new.py") == "undone: 'src/new.py' is as it was before the edit"
    assert files.has("src/new.py") == b"a = 1\nb = 3\n"
    files.edit("undo", "src/new.py")
    assert files.has("src/new.py") == b"a = 1\nb = 2\n"
    assert files.edit("undo", "src/new.py") == "removed 'src/new.py', which the edit had made"
    assert not (files.path / "src" / "new.py").exists()
    assert "no edit of this run to undo" in refusal(files.edit, "undo", "src/new.py")


def test_what_is_there_is_replaced_only_when_that_is_said(files: Files) -> None:
    files.put("a", "old").chmod(0o755)
    assert "give overwrite=true" in refusal(files.edit, "create", "a", text="new")
    assert files.has("a") == b"old"
    files.edit("create", "a", text="new", overwrite=True)
    assert files.has("a") == b"new"
    assert (files.path / "a").stat().st_mode & 0o777 == 0o755
    files.edit("undo", "a")
    assert files.has("a") == b"old"
    files.edit("create", "b", text="new", overwrite=True)
    assert files.has("b") == b"new"
    (files.path / "link").symlink_to("a")
    assert "symbolic link" in refusal(files.edit, "create", "link", text="new", overwrite=True)
    assert "symbolic link" in refusal(files.edit, "create", "link", text="new")  # nor is it said that it could be
    assert "'c/' is the path of a folder" in refusal(files.edit, "create", "c/", text="new")
    assert "it is a folder" in refusal(files.edit, "create", ".", text="new", overwrite=True)


def test_ends_of_lines_and_the_mark_at_the_beginning_stay(files: Files) -> None:
    files.put("dos", b"\xef\xbb\xbfone\r\ntwo\r\nthree\r\n")
    files.edit("replace", "dos", old="one\ntwo", text="1\n2\n2b")
    assert files.has("dos") == b"\xef\xbb\xbf1\r\n2\r\n2b\r\nthree\r\n"
    files.edit("replace", "dos", old="1\r\n2\r\n", text="x\r\n")  # as a model may write them
    assert files.has("dos") == b"\xef\xbb\xbfx\r\n2b\r\nthree\r\n"
    files.edit("insert", "dos", line=3, text="end")
    assert files.has("dos").endswith(b"three\r\nend\r\n")


def test_lines_that_end_in_several_ways_are_left_alone(files: Files) -> None:
    files.put("mixed", b"one\r\ntwo\nthree\r\n")
    files.edit("replace", "mixed", old="two", text="2")
    assert files.has("mixed") == b"one\r\n2\nthree\r\n"
    assert "carriage return" in refusal(files.edit, "replace", "mixed", old="one\n2", text="x")


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("create", {}, "create needs text"),
        ("replace", {"text": "x"}, "replace needs old"),
        ("replace", {"old": "x"}, "replace needs text"),
        ("insert", {"text": "x"}, "insert needs line"),
        ("replace", {"old": "x", "text": "y", "line": 3}, "replace takes no line: it takes path, old, text"),
        ("undo", {"text": "x"}, "undo takes no text: it takes path"),
        ("view", {"overwrite": True}, "view takes no overwrite"),
    ],
)
def test_a_command_has_what_it_needs_and_nothing_else(
    files: Files, command: str, arguments: dict[str, Any], words: str
) -> None:
    files.put("a", "x")
    assert words in refusal(files.edit, command, "a", **arguments)
    assert files.has("a") == b"x"


def test_what_must_not_be_edited_is_refused(files: Files) -> None:
    files.put("binary", b"\0\1\2")
    files.put(".git/config", "[core]\n")
    files.put("full", b"x" * MOST)
    assert "binary" in refusal(files.edit, "replace", "binary", old="a", text="b")
    assert "Git" in refusal(files.edit, "replace", ".git/config", old="[core]", text="[core]\nfsmonitor=evil")
    assert "Git" in refusal(files.edit, "create", "sub/.GIT/hooks/pre-commit", text="evil")
    assert "at most 100,000" in refusal(files.edit, "insert", "full", line=1, text="more")
    assert "at most 100,000" in refusal(files.edit, "create", "new", text="y" * (MOST + 1))
    assert "outside" in refusal(files.edit, "create", "/tmp/evil", text="x")
    assert files.edit("view", ".git/config") == "     1\t[core]"
    assert files.has("full") == b"x" * MOST
    assert sorted(each.name for each in files.path.iterdir()) == [".git", "binary", "full"]


def test_an_edit_is_undone_only_while_the_file_is_as_the_edit_has_left_it(files: Files) -> None:
    files.put("a", "one\n")
    files.edit("replace", "a", old="one", text="two")
    files.put("a", "theirs\n")
    assert "changed it meanwhile" in refusal(files.edit, "undo", "a")
    assert files.has("a") == b"theirs\n"
    files.edit("create", "b", text="mine")
    files.put("b", "theirs")
    assert "changed it meanwhile" in refusal(files.edit, "undo", "b")
    assert files.has("b") == b"theirs"


def test_what_can_be_undone_is_bounded(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    files.put("a", "0")
    for number in range(editing.MOST_KEPT + 10):
        files.edit("create", "a", text=str(number + 1), overwrite=True)
    assert len(files.editor._kept) == editing.MOST_KEPT
    for _ in range(editing.MOST_KEPT):
        files.edit("undo", "a")
    assert files.has("a") == b"10"
    assert "no edit" in refusal(files.edit, "undo", "a")
    monkeypatch.setattr(editing, "MOST_KEPT_BYTES", 25)
    for number in range(5):
        files.edit("create", "a", text=f"{number:010}", overwrite=True)
    assert files.editor._kept_bytes <= 25
    assert len(files.editor._kept) == 2


def test_edits_of_one_file_at_the_same_time_lose_nothing(files: Files) -> None:
    """Two calls of one reply: each reads, changes and writes."""
    files.put("a", "".join(f"line {number}\n" for number in range(20)))
    failed: list[BaseException] = []

    def change(number: int) -> None:
        try:
            files.edit("replace", "a", old=f"line {number}\n", text=f"done {number}\n")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert files.has("a") == "".join(f"done {number}\n" for number in range(20)).encode()
