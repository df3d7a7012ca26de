"""Notes: what every store does, and how they are found."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from greenroom.agents.memory import LocalMemory, Memory, Note, check_memory
from greenroom.agents.memory_file import MemoryFile
from greenroom.agents.memory_sqlite import SqliteMemory
from greenroom.agents.memory_words import ENDS, LONGEST, TERMS, ranked, terms_of, words_of
from greenroom.testing import MEMORY_CHECKS

pytestmark = pytest.mark.anyio

each_check = pytest.mark.parametrize("check", MEMORY_CHECKS, ids=lambda check: check.__name__)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.db"


@pytest.fixture(params=["local", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@asynccontextmanager
async def memory_of(kind: str, path: Path, **options: Any) -> AsyncIterator[Memory]:
    """A store of either kind."""
    if kind == "local":
        yield LocalMemory(**options)
    else:
        async with SqliteMemory(path, **options) as memory:
            yield memory


def texts(notes: list[Note]) -> list[str]:
    return [each.text for each in notes]


# -- what every store must do


@each_check
async def test_a_local_memory_does_what_every_memory_must(check: Any) -> None:
    memory = LocalMemory()

    @asynccontextmanager
    async def make() -> AsyncIterator[LocalMemory]:
        yield memory

    await check(make)


@each_check
async def test_a_memory_in_a_file_does_what_every_memory_must(check: Any, path: Path) -> None:
    await check(lambda: SqliteMemory(path))


@pytest.mark.parametrize(
    ("doctored", "check"),
    [
        ("leaks_scopes", "a_scope_has_its_own_notes"),
        ("keeps_twice", "the_same_text_is_the_same_note"),
        ("forgets_any", "an_unknown_id_is_none"),
        ("finds_nothing", "a_note_is_found_by_a_word_of_it"),
        ("reuses_ids", "what_is_forgotten_is_gone"),
    ],
)
async def test_the_checks_find_what_a_store_does_wrong(doctored: str, check: str) -> None:
    """Each of these stores fails the check that is about it."""

    class Wrong(LocalMemory):
        async def remember(self, text: str, *, scope: str | None) -> str:
            note_id = await super().remember(text, scope=None if doctored == "leaks_scopes" else scope)
            if doctored == "keeps_twice":
                await super().remember(f"{text} ", scope=scope)
                self._scopes[scope][f"{text} again"] = self._scopes[scope][text.strip()]
            if doctored == "reuses_ids":
                self._count = 0
            return note_id

        async def recall(self, query: str, *, scope: str | None, limit: int = 5) -> list[Note]:
            if doctored == "leaks_scopes":
                scope = None
            return [] if doctored == "finds_nothing" else await super().recall(query, scope=scope, limit=limit)

        async def forget(self, note_id: str, *, scope: str | None) -> bool:
            there = await super().forget(note_id, scope=scope)
            return True if doctored == "forgets_any" else there

    memory = Wrong()

    @asynccontextmanager
    async def make() -> AsyncIterator[Wrong]:
        yield memory

    (asked,) = (each for each in MEMORY_CHECKS if getattr(each, "__name__", "") == check)
    with pytest.raises(AssertionError):
        await asked(make)


operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("remember"),
            st.lists(st.sampled_from(["tea", "teas", "milk", "cake", "Tee", "日本", "日"]), min_size=1, max_size=4),
        ),
        st.tuples(st.just("recall"), st.lists(st.sampled_from(["tea", "milk", "cake", "日本", "?"]), max_size=3)),
        st.tuples(st.just("forget"), st.integers(1, 8)),
    ),
    max_size=20,
)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(["", "ada"]), operations), max_size=3))
def test_both_stores_say_the_same(steps: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same ids, the same notes, in the same order, whatever was kept, dropped for new ones and forgotten."""
    path = tmp_path_factory.mktemp("notes") / "notes.db"
    file = MemoryFile(str(path), 5.0, 4, lambda: 0.0)

    async def scenario() -> None:
        local = LocalMemory(max_notes=4, clock=lambda: 0.0)
        for scope, each in steps:
            for what, argument in each:
                user = scope or None
                match what:
                    case "remember":
                        text = " ".join(argument)
                        assert await local.remember(text, scope=user) == file.remember(text, scope)
                    case "recall":
                        query = " ".join(argument)
                        assert await local.recall(query, scope=user, limit=3) == file.recall(query, scope, 3)
                    case _:
                        assert await local.forget(f"n{argument}", scope=user) == file.forget(f"n{argument}", scope)

    try:
        anyio.run(scenario)
        file.remember("the last", "")
        connection = file._connection
        assert connection is not None
        connection.execute("INSERT INTO search (search, rank) VALUES ('integrity-check', 1)")
    finally:
        file.close()


async def test_among_equals_the_newest_comes_first(kind: str, path: Path) -> None:
    async with memory_of(kind, path) as memory:
        for text in ("tea one", "tea two", "tea three", "tea one"):
            await memory.remember(text, scope=None)
        assert texts(await memory.recall("tea", scope=None)) == ["tea one", "tea three", "tea two"]


# -- bounds


async def test_the_note_that_was_remembered_longest_ago_goes(kind: str, path: Path) -> None:
    """In its own scope alone. What is remembered again is new."""
    async with memory_of(kind, path, max_notes=3) as memory:
        await memory.remember("bread", scope="bob")
        ids = [await memory.remember(each, scope="ada") for each in ("one", "two", "three")]
        assert await memory.remember("one", scope="ada") == ids[0]
        await memory.remember("four", scope="ada")
        assert texts(await memory.recall("", scope="ada")) == ["four", "one", "three"]
        assert await memory.recall("two", scope="ada") == []
        assert not await memory.forget(ids[1], scope="ada")
        assert texts(await memory.recall("", scope="bob")) == ["bread"]


async def test_a_note_that_is_too_long_is_refused(kind: str, path: Path) -> None:
    """The spaces around it do not count."""
    async with memory_of(kind, path, max_length=10) as memory:
        await memory.remember(" " * 20 + "0123456789" + "\n" * 20, scope=None)
        with pytest.raises(ValueError, match=r"at most 10 characters, not 11: say it shorter"):
            await memory.remember("0123456789a", scope=None)
        assert texts(await memory.recall("", scope=None)) == ["0123456789"]
    async with memory_of(kind, path) as memory:
        await memory.remember("x" * 2000, scope=None)
        with pytest.raises(ValueError, match="at most 2,000 characters"):
            await memory.remember("x" * 2001, scope=None)


async def test_the_time_is_that_of_the_clock(kind: str, path: Path) -> None:
    """It may be set back: the order is that of remembering."""
    times = iter([100.0, 50.0, 25.0])
    async with memory_of(kind, path, clock=lambda: next(times)) as memory:
        await memory.remember("tea", scope=None)
        await memory.remember("cake", scope=None)
        await memory.remember("tea", scope=None)
        found = await memory.recall("", scope=None)
        assert [(each.text, each.at) for each in found] == [("tea", 25.0), ("cake", 50.0)]


@pytest.mark.parametrize("store", [LocalMemory, lambda **options: SqliteMemory("notes.db", **options)])
def test_bounds_leave_room(store: Any) -> None:
    for name in ("max_length", "max_notes"):
        for wrong in (0, -1):
            with pytest.raises(ValueError, match=f"^{name}= takes a whole number, at least 1, not {wrong}$"):
                store(**{name: wrong})
        for odd in (True, 1.5, "9", None):
            with pytest.raises(TypeError, match=f"^{name}= takes a whole number"):
                store(**{name: odd})


def test_what_is_no_store_is_refused() -> None:
    check_memory(LocalMemory())
    for wrong in (None, LocalMemory, {}, "notes.db"):
        with pytest.raises(TypeError, match=r"^memory= takes a store such as LocalMemory\(\) or SqliteMemory"):
            check_memory(wrong)


async def test_what_is_remembered_is_in_no_representation() -> None:
    memory = LocalMemory()
    await memory.remember("the password is tulip", scope="ada")
    assert "tulip" not in repr(memory)
    assert "ada" not in repr(memory)


async def test_a_scope_without_notes_takes_no_room() -> None:
    memory = LocalMemory()
    await memory.recall("tea", scope="ada")
    note = await memory.remember("tea", scope="bob")
    assert await memory.forget(note, scope="bob")
    assert repr(memory) == "<LocalMemory: notes in 0 scopes>"


# -- words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ada likes GREEN tea.", ["ada", "like", "green", "tea"]),
        ("Café-crème, naïve: ﬁne \uff37\uff49\uff44\uff45", ["cafe", "creme", "naive", "fine", "wide"]),
        ("Straße ΣΊΣΥΦΟΣ", ["strasse", "σισυφοσ"]),
        ("allergies cats classes boxes gas us his buses ideas", None),
        ("snake_case a.b@c.d 3.14 v2", ["snake", "case", "a", "b", "c", "d", "3", "14", "v2"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("مُحَمَّد", ["مُحَمَّد"]),
        ("🎭 ?! \x00 \ud800", []),
        ("", []),
    ],
)
def test_words_are_what_is_compared(text: str, words: list[str] | None) -> None:
    if words is None:
        words = ["allergy", "cat", "classe", "boxe", "gas", "us", "his", "buse", "idea"]
    assert words_of(text) == words
    assert terms_of(text) == list(dict.fromkeys(words))


async def test_text_without_spaces_is_found_by_two_characters(kind: str, path: Path) -> None:
    """And one character by itself, in any of the scripts."""
    async with memory_of(kind, path) as memory:
        for text in ("東京が好きです", "내 이름은 김철수입니다", "ฉันชอบดื่มชา", "我喜欢喝绿茶"):
            await memory.remember(text, scope=None)
        for query, text in (
            ("東京", "東京が好きです"),
            ("京", "東京が好きです"),
            ("김철수", "내 이름은 김철수입니다"),
            ("ดื่ม", "ฉันชอบดื่มชา"),
            ("绿茶?", "我喜欢喝绿茶"),
            ("我 tea", "我喜欢喝绿茶"),
        ):
            assert texts(await memory.recall(query, scope=None)) == [text], query
        assert await memory.recall("茶绿", scope=None) == []


def test_of_a_long_query_both_ends_count() -> None:
    assert terms_of("first " + "x " * 5000 + "last") == ["first", "x", "last"]
    many = [f"w{number}" for number in range(1000)]
    found = terms_of(" ".join(many[:300]))
    assert found == [*many[: TERMS // 2], *many[300 - TERMS // 2 : 300]]
    assert "middle" not in terms_of("a " * ENDS + "middle" + " a" * ENDS)
    (long,) = words_of("é" * 500)
    assert long == "e" * LONGEST
    assert words_of("e" * 500) == [long]


@given(st.text(max_size=60))
def test_every_word_of_a_text_is_found(text: str) -> None:
    """Whatever is looked for as a word of a note is one of its words, and is no syntax."""
    words = words_of(text)
    assert {*terms_of(text)} <= {*words}
    for word in words:
        assert not {*word} & {*"\"'*():^-+ \x00\n"}
        assert len(word) <= LONGEST


@given(st.text(max_size=60))
def test_case_and_accents_do_not_count(text: str) -> None:
    assert words_of(text.casefold()) == words_of(text)


def test_rare_words_and_short_notes_count_more() -> None:
    notes = [Counter(each.split()) for each in ("the tea", "the the the", "the cup", "the cup of very strong tea", "x")]
    assert ranked(["the", "tea"], notes, 5, 3.0) == [0, 3, 1, 2]
    assert ranked(["cup"], notes, 5, 3.0) == [2, 3]
    assert ranked(["cup"], notes[::-1], 5, 3.0) == [2, 1]
    assert ranked(["none"], notes, 5, 3.0) == []
    assert ranked([], [], 0, 0.0) == []
    # One by itself in a scope, and equals.
    assert ranked(["x"], [Counter("x")], 1, 1.0) == [0]
    assert ranked(["x"], [Counter("xa"), Counter("xb")], 2, 2.0) == [0, 1]
