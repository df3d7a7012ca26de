"""What every memory must do, as checks that any store can run under its own tests.

A check is an async function that takes `make`: each call of it returns a block that opens another door to the same
store, as another process would have; the store is empty when the check begins. What only one process has may be the
same object behind all doors. A check fails with an `AssertionError`, or with what the store raised.

What a store is free in, such as how long a note may be and which of two fitting ones is the better, is not checked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeAlias

import anyio
from anyio.to_thread import run_sync

from ..agents.memory import Memory, Note
from .journals import ODD_IDS

#: Opens another door to the same store.
MakeMemory: TypeAlias = Callable[[], AbstractAsyncContextManager[Memory]]

#: What would mean something to SQL, to a query language, to a pattern or to a format.
ODD_TEXTS = (
    *('"', "'", "*", "(", ")", ":", "-", "^", "+", "\\", "%", "_", "?", "{}", "[", "--", ";", ","),
    *("AND", "OR", "NOT", "NEAR", "NEAR(a b)", "a AND", "OR b", "NOT c", '"open', "tea*", "(tea", "scope:tea", "-tea"),
    *("tea) OR (1", "'; DROP TABLE notes; --", "{tea}", "%tea%", "a\x00b", "\n", "\u2028", "\ud800", "🎭", "é́", "ß"),
)


async def a_note_is_found_by_a_word_of_it(make: MakeMemory) -> None:
    """Whatever its case, and whatever else is looked for."""
    async with make() as memory:
        tea = await memory.remember("Ada drinks green tea", scope="ada")
        await memory.remember("Her brother plays the tuba", scope="ada")
        for query in ("tea", "TEA", "which tea, and when?", "unheard of: tea"):
            found = await memory.recall(query, scope="ada")
            assert [(each.id, each.text) for each in found] == [(tea, "Ada drinks green tea")], query
        assert await memory.recall("coffee", scope="ada") == []


async def the_better_note_comes_first(make: MakeMemory) -> None:
    """One that has more of the words, all of which are equally rare."""
    async with make() as memory:
        await memory.remember("apple one two", scope=None)
        await memory.remember("apple pear plum", scope=None)
        await memory.remember("one apple pear", scope=None)
        await memory.remember("nothing of these", scope=None)
        assert texts(await memory.recall("apple pear plum", scope=None)) == [
            "apple pear plum",
            "one apple pear",
            "apple one two",
        ]


async def a_scope_has_its_own_notes(make: MakeMemory) -> None:
    """None is one of them; nobody finds, counts or forgets those of another."""
    scopes = (None, "ada", "Ada", "ada ", "bob", "None", "0", *ODD_IDS)
    async with make() as memory, make() as other:
        ids = {scope: await memory.remember(f"tea for {number}", scope=scope) for number, scope in enumerate(scopes)}
        assert len({*ids.values()}) == len(scopes)
        for number, scope in enumerate(scopes):
            for door in (memory, other):
                for query in ("tea", ""):
                    assert texts(await door.recall(query, scope=scope, limit=100)) == [f"tea for {number}"], scope
        for scope in scopes[1:]:
            assert not await memory.forget(ids[None], scope=scope)
            assert not await memory.forget(ids[scope], scope=None)
        assert texts(await memory.recall("tea", scope=None)) == ["tea for 0"]
        assert await memory.recall("tea", scope="nobody") == []


async def the_same_text_is_the_same_note(make: MakeMemory) -> None:
    """As new as if it had been remembered now. In another scope it is another one."""
    async with make() as memory, make() as other:
        first = await memory.remember("tea", scope="ada")
        second = await memory.remember("cake", scope="ada")
        await memory.remember("tea", scope="bob")
        assert await other.remember("  tea\n", scope="ada") == first
        found = await memory.recall("", scope="ada")
        assert [each.id for each in found] == [first, second]
        assert found[0].at >= found[1].at
        assert texts(await memory.recall("tea", scope="ada")) == ["tea"]
        assert texts(await memory.recall("", scope="bob")) == ["tea"]


async def without_a_word_the_newest_are_recalled(make: MakeMemory) -> None:
    """As many as were asked for, the newest first."""
    async with make() as memory:
        for number in range(8):
            await memory.remember(f"note {number}", scope=None)
        for query in ("", " \n", "?!"):
            assert texts(await memory.recall(query, scope=None)) == [f"note {number}" for number in (7, 6, 5, 4, 3)]
        assert texts(await memory.recall("", scope=None, limit=2)) == ["note 7", "note 6"]
        assert len(await memory.recall("note", scope=None, limit=3)) == 3
        assert len(await memory.recall("note", scope=None, limit=10**9)) == 8


async def what_is_forgotten_is_gone(make: MakeMemory) -> None:
    """For every door. Its id never comes again."""
    async with make() as memory, make() as other:
        first = await memory.remember("tea", scope="ada")
        await memory.remember("tea with milk", scope="ada")
        assert await other.forget(first, scope="ada")
        assert not await memory.forget(first, scope="ada")
        assert texts(await memory.recall("tea", scope="ada")) == ["tea with milk"]
        again = await memory.remember("tea", scope="ada")
        assert again != first
        assert not await memory.forget(first, scope="ada")
        assert sorted(texts(await memory.recall("tea", scope="ada"))) == ["tea", "tea with milk"]


async def an_unknown_id_is_none(make: MakeMemory) -> None:
    """Whatever it looks like."""
    async with make() as memory:
        note = await memory.remember("tea", scope=None)
        for unknown in (
            "",
            "n",
            "n0",
            "-1",
            "n999999",
            "9" * 50,
            "n" + "9" * 50,
            f" {note}",
            f"{note} ",
            f"{note}0",
            "n\u0661",
        ):
            assert await memory.forget(unknown, scope=None) is False, unknown
        for odd in ODD_TEXTS:
            assert await memory.forget(odd, scope=None) is False, odd
        assert texts(await memory.recall("tea", scope=None)) == ["tea"]


async def a_query_is_text_and_nothing_else(make: MakeMemory) -> None:
    """It comes from models and users: nothing in it is syntax."""
    async with make() as memory:
        await memory.remember("one cup of tea", scope=None)
        await memory.remember("black coffee", scope=None)
        for odd in ODD_TEXTS:
            await memory.recall(odd, scope=None)
            found = texts(await memory.recall(f"coffee {odd}", scope=None))
            assert "black coffee" in found, odd
            assert len(found) == (2 if "tea" in odd else 1), odd
        long = "word " * 100_000
        assert texts(await memory.recall(f"{long} coffee", scope=None)) == ["black coffee"]
        assert texts(await memory.recall(f"coffee {long}", scope=None)) == ["black coffee"]


async def a_note_is_kept_as_it_is(make: MakeMemory) -> None:
    """Or refused with a ValueError. Only the spaces around it do not count."""
    async with make() as memory, make() as other:
        kept: list[str] = []
        for text in (*ODD_TEXTS, "two\n\nlines", "日本語のお茶", "x" * 1000, "x" * 1_000_000):
            try:
                await memory.remember(text, scope=None)
            except ValueError:
                assert not text.strip() or text == "\ud800" or len(text) > 1000, text
            else:
                kept.append(text)
        found = await other.recall("", scope=None, limit=1000)
        assert texts(found) == kept[::-1]
        for each in found:
            assert await other.forget(each.id, scope=None)
        assert await memory.recall("", scope=None) == []


async def what_makes_no_sense_is_refused(make: MakeMemory) -> None:
    """With a TypeError or a ValueError; nothing is kept."""
    async with make() as memory:
        untyped: Any = memory
        for nothing in ("", "  ", "\n"):
            with refused(ValueError):
                await memory.remember(nothing, scope=None)
        for wrong in (None, 1, b"tea", ["tea"]):
            with refused(TypeError):
                await untyped.remember(wrong, scope=None)
            with refused(TypeError):
                await untyped.recall(wrong, scope=None)
            with refused(TypeError):
                await untyped.forget(wrong, scope=None)
        for scope, error in (("", ValueError), (1, TypeError), (b"ada", TypeError), ("\ud800", ValueError)):
            with refused(error):
                await untyped.remember("tea", scope=scope)
            with refused(error):
                await untyped.recall("tea", scope=scope)
            with refused(error):
                await untyped.forget("n1", scope=scope)
        for limit, error in ((0, ValueError), (-1, ValueError), (True, TypeError), (1.5, TypeError), ("5", TypeError)):
            with refused(error):
                await untyped.recall("tea", scope=None, limit=limit)
        assert await memory.recall("", scope=None) == []


async def many_use_it_at_once(make: MakeMemory) -> None:
    """Through two doors: nothing is lost, doubled or mixed up."""
    async with make() as memory, make() as other:

        async def work(user: int) -> None:
            for number in range(5):
                door = (memory, other)[(user + number) % 2]
                await door.remember(f"tea {number} of {user}", scope=f"u{user}")
                await door.remember("the same", scope="all")

        async with anyio.create_task_group() as group:
            for user in range(10):
                group.start_soon(work, user)
        for user in range(10):
            found = await memory.recall("tea", scope=f"u{user}")
            assert sorted(texts(found)) == [f"tea {number} of {user}" for number in range(5)]
        assert texts(await memory.recall("", scope="all")) == ["the same"]


async def several_event_loops_use_it_at_once(make: MakeMemory) -> None:
    """Each in a thread of its own, the same object."""
    async with make() as memory:

        async def work(thread: int) -> None:
            for number in range(10):
                await memory.remember(f"tea {number} of {thread}", scope="all")
                assert await memory.recall("tea", scope="all")

        async with anyio.create_task_group() as group:
            for thread, backend in enumerate(("asyncio", "trio", "asyncio")):
                group.start_soon(
                    run_sync, lambda thread=thread, backend=backend: anyio.run(work, thread, backend=backend)
                )
        assert len(await memory.recall("tea", scope="all", limit=100)) == 30


async def a_cancelled_call_does_no_harm(make: MakeMemory) -> None:
    """It has happened or it has not; the store goes on."""
    async with make() as memory:
        for steps in range(6):

            async def remember(number: int = steps) -> None:
                await memory.remember(f"tea {number}", scope=None)

            async with anyio.create_task_group() as group:
                group.start_soon(remember)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            await memory.remember(f"cake {steps}", scope=None)
            found = texts(await memory.recall("", scope=None, limit=100))
            assert f"cake {steps}" in found
            assert len(found) == len({*found})
        with anyio.CancelScope() as scope:
            scope.cancel()
            await memory.remember("never", scope=None)
        assert await memory.recall("never", scope=None) == []


MEMORY_CHECKS: tuple[Callable[[MakeMemory], Awaitable[None]], ...] = (
    a_note_is_found_by_a_word_of_it,
    the_better_note_comes_first,
    a_scope_has_its_own_notes,
    the_same_text_is_the_same_note,
    without_a_word_the_newest_are_recalled,
    what_is_forgotten_is_gone,
    an_unknown_id_is_none,
    a_query_is_text_and_nothing_else,
    a_note_is_kept_as_it_is,
    what_makes_no_sense_is_refused,
    many_use_it_at_once,
    several_event_loops_use_it_at_once,
    a_cancelled_call_does_no_harm,
)


def texts(notes: list[Note]) -> list[str]:
    return [each.text for each in notes]


@contextmanager
def refused(kind: type[Exception]) -> Generator[None]:
    """The block raises such an error."""
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")
