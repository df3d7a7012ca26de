"""The tool `search`: what it finds, what it leaves out, and that no pattern keeps it going."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import ToolFailed
from greenroom.tools.workspace import Workspace, search
from greenroom.tools.workspace.ignored import Glob, is_ignored, read_rules
from greenroom.tools.workspace.root import can_confine
from greenroom.tools.workspace.search_program import (
    MOST_LINES,
    MOST_LINES_OF_FILE,
    MOST_NAMES,
    MOST_OF_LINE,
    cut_around,
)

pytestmark = pytest.mark.skipif(not can_confine(), reason="this system has no workspaces")

Search = Callable[..., Coroutine[Any, Any, str]]


@asynccontextmanager
async def searching(path: Path, **options: Any) -> AsyncGenerator[Search]:
    async with Workspace(path, **options).tools("search").open() as kit:
        yield kit.tools[0]


def put(path: Path, **files: str) -> None:
    """Write files; ``__`` in a name is a slash, ``_dot_`` a dot at the beginning."""
    for name, text in files.items():
        file = path / name.replace("_dot_", ".").replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


# -- globs and rules


@pytest.mark.parametrize(
    ("glob", "fits", "others"),
    [
        ("*.py", ["a.py", "d/e/b.py"], ["a.pyc", "py", "d.py/x"]),
        ("a?c", ["abc", "x/abc"], ["ac", "a/c"]),
        ("src/*.py", ["src/a.py"], ["src/d/a.py", "x/src/a.py", "a.py"]),
        ("src/**/*.py", ["src/a.py", "src/d/e/a.py"], ["a.py", "xsrc/a.py"]),
        ("**/test_*.py", ["test_a.py", "x/y/test_b.py"], ["atest_a.py"]),
        ("docs/**", ["docs/a", "docs/b/c"], ["adocs/a", "docs"]),
        ("*.{ts,tsx}", ["a.ts", "b/c.tsx"], ["a.js", "a.tsx2"]),
        ("[ab].c", ["a.c", "b.c"], ["c.c", "ab.c"]),
        ("[!ab].c", ["c.c"], ["a.c"]),
        ("[a-c]1", ["b1"], ["d1"]),
        ("a[", ["a["], ["a"]),
        ("a{b", ["a{b"], ["ab"]),
        ("./x/y", ["x/y"], ["y"]),
        ("a.b+c", ["a.b+c"], ["aXb+c", "a.bbc"]),
        (r"\*", ["*"], ["a"]),
    ],
)
def test_a_glob_says_which_files_are_meant(glob: str, fits: list[str], others: list[str]) -> None:
    pattern = Glob(glob)
    assert [path for path in fits + others if pattern.fits(tuple(path.split("/")))] == fits


@pytest.mark.parametrize(
    ("text", "ignored", "kept"),
    [
        ("*.log\n", ["a.log", "d/b.log"], ["a.txt"]),
        ("# *.txt\n\n  \n", [], ["a.txt", "# *.txt"]),
        ("build/\n", ["build/", "d/build/"], ["build"]),
        ("/build\n", ["build", "build/"], ["d/build"]),
        ("a/b\n", ["a/b"], ["x/a/b"]),
        ("*.log\n!keep.log\n", ["a.log"], ["keep.log", "d/keep.log"]),
        ("!keep.log\n*.log\n", ["keep.log"], []),
        ("\\#x\n\\!y\n", ["#x", "!y"], []),
        ("**/cache\n", ["cache", "a/b/cache"], ["cached"]),
        ("trailing   \n", ["trailing"], []),
        ("a{b,c}\n", ["a{b,c}"], ["ab"]),
    ],
)
def test_the_rules_of_a_gitignore_file(text: str, ignored: list[str], kept: list[str]) -> None:
    rules = read_rules(text, ())

    def out(path: str) -> bool:
        return is_ignored(tuple(path.rstrip("/").split("/")), path.endswith("/"), rules)

    assert [path for path in ignored + kept if out(path)] == ignored


def fits(rule: list[str], path: list[str]) -> bool:
    """Whether a rule fits a path, by looking at all that can be."""
    if not rule:
        return not path
    if rule[0] == "**":
        return any(fits(rule[1:], path[place:]) for place in range(len(path))) or (rule == ["**"] and bool(path))
    return bool(path) and fnmatchcase(path[0], rule[0]) and fits(rule[1:], path[1:])


@given(
    st.lists(
        st.sampled_from(["**", "a", "b", "*", "?", "a*b", "*a", "*a*", "*a*b*", "a**b", "[!a]*"]),
        min_size=2,
        max_size=6,
    ),
    st.lists(st.sampled_from(["a", "b", "ab", "ba", "aab", "abab"]), min_size=1, max_size=6),
)
def test_a_rule_fits_what_it_says(rule: list[str], path: list[str]) -> None:
    assert is_ignored(tuple(path), False, read_rules("/".join(rule), ())) == fits(rule, path)


def test_no_rule_of_a_stranger_takes_long() -> None:
    """Each of these would look at more places than there is time for."""
    began = time.process_time()
    for text, path in (
        ("*a" * 30 + "*b", ("a" * 250,)),
        ("a**" * 30 + "b", ("a" * 250,)),
        ("**/a/" * 30 + "b", ("a",) * 100),
        ("**/*a*a*a*a/" * 10 + "b", ("a" * 20,) * 100),
    ):
        assert not is_ignored(path, False, read_rules(text, ()))
    assert time.process_time() - began < 1


def test_rules_hold_below_their_folder_and_the_deeper_ones_have_the_say() -> None:
    above = read_rules("*.log\n/x\n", ())
    below = above + read_rules("!a.log\n/y\n", ("d",))
    assert is_ignored(("a.log",), False, above)
    assert not is_ignored(("d", "a.log"), False, below)
    assert is_ignored(("d", "b.log"), False, below)
    assert is_ignored(("d", "y"), False, below)
    assert not is_ignored(("d", "e", "y"), False, below)
    assert not is_ignored(("d", "x"), False, below)


@given(
    st.text(alphabet=st.sampled_from("ab*?[]{},!\\/^-. "), max_size=12),
    st.text(alphabet="ab/.", min_size=1, max_size=8),
)
def test_no_text_breaks_a_glob_or_a_rule(text: str, path: str) -> None:
    names = tuple(name for name in path.split("/") if name) or ("a",)
    try:
        assert Glob(text).fits(names) in (True, False)
    except ValueError:
        pass
    assert is_ignored(names, False, read_rules(text, ())) in (True, False)


def test_of_a_long_line_what_is_around_the_match_is_shown() -> None:
    import re

    line = "x" * 5000 + "needle" + "y" * 5000
    match = re.search("needle", line)
    assert match is not None
    shown = cut_around(line, match)
    assert "needle" in shown
    assert len(shown) == MOST_OF_LINE + 2
    assert (shown[0], shown[-1]) == ("…", "…")
    assert cut_around("short", match) == "short"


# -- searches


@pytest.mark.anyio
async def test_lines_are_found_with_path_and_number(tmp_path: Path) -> None:
    put(tmp_path, a="one\ntwo\n", d__b="Two\nthree\r\n", d__c="none")
    async with searching(tmp_path) as find:
        assert await find("t[wh]") == "a:2:two\nd/b:2:three"
        assert await find("two", ignore_case=True) == "a:2:two\nd/b:1:Two"
        assert await find("e$") == "a:1:one\nd/b:2:three\nd/c:1:none"
        assert await find("o", names_only=True) == "a\nd/b\nd/c"
        assert await find("two", "d", ignore_case=True) == "d/b:1:Two"
        assert await find("t", "d/b", glob="*.py") == "d/b:2:three"
        assert await find("t", glob="b") == "d/b:2:three"
        assert await find() == "a\nd/b\nd/c"
        assert await find(glob="d/*") == "d/b\nd/c"
        assert await find("nowhere") == "[nothing found in 3 files]"


@pytest.mark.anyio
async def test_a_text_is_found_as_it_is(tmp_path: Path) -> None:
    put(tmp_path, a="f(x)\nfx\n")
    async with searching(tmp_path) as find:
        assert await find("f(x)", literal=True) == "a:1:f(x)"
        with pytest.raises(ToolFailed, match=r"cannot be read: missing .*literal=true"):
            await find("f(x")


@pytest.mark.anyio
async def test_hidden_ignored_and_binary_files_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, a="x", _dot_hidden="x", _dot_git__config="x", b__c="x", b__d="x", e__f="x")
    put(tmp_path, _dot_gitignore="/b/d\n", e___dot_gitignore="*\n")
    (tmp_path / "binary").write_bytes(b"x\0")
    (tmp_path / "latin").write_bytes(b"x caf\xe9")
    async with searching(tmp_path) as find:
        assert await find("x") == "a:1:x\nb/c:1:x\nlatin:1:x caf\N{REPLACEMENT CHARACTER}\n[not looked into: 1 binary]"
        assert await find("x", "e") == "[nothing found in 0 files]"
        assert await find("x", ".git/config") == ".git/config:1:x"  # asked for by its name


@pytest.mark.anyio
async def test_a_search_keeps_to_the_folder(tmp_path: Path) -> None:
    """Scenario 98: links, hard links and pipes are not looked into."""
    put(tmp_path, out__secret="the secret", ws__a="no secret")
    ws = tmp_path / "ws"
    (ws / "link").symlink_to("../out/secret")
    (ws / "folder").symlink_to("../out")
    (ws / ".gitignore").symlink_to("/etc/passwd")
    os.link(tmp_path / "out" / "secret", ws / "hard")
    os.mkfifo(ws / "pipe")
    async with searching(ws) as find:
        assert await find("secret") == "a:1:no secret\n[not looked into: 1 hard links]"
        for path, words in (
            ("folder", "symbolic link"),
            ("folder/secret", "symbolic link"),
            ("..", "'..'"),
            ("/etc", "outside"),
            ("nothing", "there is no such"),
        ):
            with pytest.raises(ToolFailed, match=words):
                await find("secret", path)
    async with searching(ws, hard_links=True) as find:
        assert await find("secret") == "a:1:no secret\nhard:1:the secret"


@pytest.mark.anyio
async def test_a_name_is_one_line_whatever_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a\nb:1:forged").write_text("x")
    os.close(os.open(os.fsencode(tmp_path) + b"/caf\xe9", os.O_CREAT | os.O_WRONLY))
    async with searching(tmp_path) as find:
        assert await find("x") == "'a\\nb:1:forged':1:x"
        assert await find() == "'a\\nb:1:forged'\n'caf\\udce9'"


@pytest.mark.anyio
async def test_what_is_found_is_bounded(tmp_path: Path) -> None:
    for number in range(20):
        put(tmp_path, **{f"f{number:02}": "x\n" * 100})
    async with searching(tmp_path, max_output=100_000) as find:
        lines = (await find("x")).splitlines()
        assert lines[:MOST_LINES_OF_FILE] == [f"f00:{number}:x" for number in range(1, MOST_LINES_OF_FILE + 1)]
        assert lines[MOST_LINES_OF_FILE] == "[f00: 50 more lines]"
        assert MOST_LINES <= len(lines) <= MOST_LINES + 2
        assert lines[-1] == "[there may be more: narrow the search with path or glob]"
    for number in range(MOST_NAMES + 10):
        (tmp_path / f"g{number}").touch()
    async with searching(tmp_path, max_output=100_000) as find:
        assert len((await find()).splitlines()) == MOST_NAMES + 1


@pytest.mark.anyio
async def test_a_large_file_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, large="x" * 1001, small="x" * 1000)
    async with searching(tmp_path, max_file=1000) as find:
        assert await find("x", names_only=True) == "small\n[not looked into: 1 larger than 1,000 bytes]"


@pytest.mark.anyio
async def test_a_pattern_that_takes_for_ever_is_ended_and_what_was_found_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The regular expression backtracks without end in the second file."""
    monkeypatch.setattr(search, "TIMEOUT", 1.0)
    put(tmp_path, a="aa!", b="a" * 40 + "?")
    async with searching(tmp_path) as find:
        began = time.monotonic()
        with pytest.raises(ToolFailed, match=r"(?s)^a:1:aa!\n.*stopped after 1 s: a simpler pattern"):
            await find("^(a+)+!$")
        assert time.monotonic() - began < 10


@pytest.mark.anyio
async def test_a_search_that_is_given_up_is_ended(tmp_path: Path) -> None:
    put(tmp_path, b="a" * 40 + "?")
    async with searching(tmp_path) as find:
        began = time.monotonic()
        with anyio.move_on_after(0.5) as scope:
            await find("^(a+)+!$")
        assert scope.cancelled_caught
        assert time.monotonic() - began < 10  # and the leak check sees that no process is left


@pytest.mark.anyio
async def test_a_pattern_is_bounded_and_argument_errors_are_told(tmp_path: Path) -> None:
    async with searching(tmp_path) as find:
        for arguments in ({"pattern": "x" * 3000}, {"glob": "x" * 3000}):
            with pytest.raises(ToolFailed, match="at most 2000"):
                await find(**arguments)
        with pytest.raises(ToolFailed, match="cannot be read"):
            await find("(?P<n>a)(?P<n>b)")
        with pytest.raises(ToolFailed, match="glob"):
            await find("x", glob="[b-a]")
        with pytest.raises(
            ToolFailed, match=r"the pattern 'a\{9+\}' cannot be read: the repetition number is too large"
        ):
            await find("a{99999999999}")


@pytest.mark.anyio
async def test_that_nothing_is_found_over_several_lines_is_said(tmp_path: Path) -> None:
    put(tmp_path, a="one\ntwo\n")
    async with searching(tmp_path) as find:
        for arguments in ({"pattern": "one\ntwo"}, {"pattern": r"one\n"}, {"pattern": "one\n", "literal": True}):
            assert "within each line, and this one has a newline in it" in await find(**arguments)
        assert await find(r"x\n", literal=True) == "[nothing found in 1 files]"


@pytest.mark.anyio
async def test_without_an_interpreter_a_search_fails_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    async with searching(tmp_path) as find:
        with pytest.raises(ToolFailed, match="could not be started: No such file"):
            await find("x")
