"""What every journal must do, as checks that any backend can run under its own tests.

A check is an async function that takes `make`: each call of it returns a journal that is not open yet, and all of them
work with the same store, which is empty when the check begins. Journals of one check are open one after the other.
They keep what is durable (`survives`). A check fails with an `AssertionError`, or with what the journal raised.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TypeAlias

import anyio

from ..journal import (
    Claim,
    Conflict,
    Fenced,
    Journal,
    JournalError,
    Listed,
    RunExists,
    RunFinished,
    UnknownRun,
)

#: Makes another journal with the same store.
Make: TypeAlias = Callable[[], Journal]

ODD_IDS = (" ", "a b", "o'hara", '"', "%_", "\\", "né", "日本語", "🎭", "a\x00b", "\n", "-- x", "x" * 500, "é" * 500)
AGES_AGO, IN_AGES = 0.0, 1e12


async def entries_are_read_in_order(make: Make) -> None:
    """Sequences count from zero."""
    async with make() as journal:
        claim = journal.create("r")
        assert [journal.append(claim, data) for data in (b"a", b"b", b"c")] == [0, 1, 2]
        assert claim.next == 3
        await journal.durable(claim)
        assert await journal.read("r") == [b"a", b"b", b"c"]
    async with make() as journal:
        assert await journal.read("r") == [b"a", b"b", b"c"]


async def reading_sees_what_was_appended(make: Make) -> None:
    """Durable or not."""
    async with make() as journal:
        claim = journal.create("r")
        journal.append(claim, b"a")
        assert await journal.read("r") == [b"a"]
        journal.append(claim, b"b")
        (listed,) = await journal.runs()
        assert (listed.length, listed.size) == (2, 2)


async def closing_stores_what_was_appended(make: Make) -> None:
    """Nobody need wait for it before."""
    async with make() as journal:
        claim = journal.create("r")
        journal.append(claim, b"a")
        journal.append(claim, b"b", final=True)
    async with make() as journal:
        assert await journal.read("r") == [b"a", b"b"]


async def a_claim_goes_on_where_the_run_was(make: Make) -> None:
    """And raises the epoch, also after another opening."""
    async with make() as journal:
        first = journal.create("r")
        assert (first.run_id, first.epoch, first.next) == ("r", 1, 0)
        journal.append(first, b"a")
        second = await journal.claim("r")
        assert (second.run_id, second.epoch, second.next) == ("r", 2, 1)
        assert journal.append(second, b"b") == 1
    async with make() as journal:
        third = await journal.claim("r")
        assert (third.epoch, third.next) == (3, 2)
        journal.append(third, b"c")
        await journal.durable(third)
        assert await journal.read("r") == [b"a", b"b", b"c"]


async def a_former_owner_is_refused(make: Make) -> None:
    """It is told so, again and again, and nothing of it is stored."""
    async with make() as journal:
        old = journal.create("r")
        journal.append(old, b"a")
        await journal.durable(old)
        new = await journal.claim("r")
        for _ in range(2):
            with refused(Fenced):
                journal.append(old, b"stale")
                await journal.durable(old)
        journal.append(new, b"fresh")
        journal.release(old)
        await journal.durable(new)
        assert await journal.read("r") == [b"a", b"fresh"]


async def a_former_owner_is_refused_after_another_opening(make: Make) -> None:
    """What decides lies in the store."""
    async with make() as journal:
        old = journal.create("r")
        journal.append(old, b"a")
    async with make() as journal:
        new = await journal.claim("r")
        journal.append(new, b"b")
    async with make() as journal:
        for stale in (old, Claim("r", 1, 1), Claim("r", 1, 2)):
            with refused(Fenced):
                journal.append(stale, b"stale")
                await journal.durable(stale)
        journal.append(Claim("r", 2, 2), b"c")
        assert await journal.read("r") == [b"a", b"b", b"c"]


async def whoever_has_found_a_run_too_early_does_not_get_it(make: Make) -> None:
    """A claim `after` an epoch is for the first who asks; whoever is refused has changed nothing."""
    async with make() as journal:
        old = journal.create("r")
        journal.append(old, b"a")
        (found,) = await journal.runs()
        journal.append(old, b"b")
        new = await journal.claim("r", after=found.epoch)
        assert (new.epoch, new.next) == (2, 2)
        for epoch in (found.epoch, 0, 3):
            with refused(Fenced):
                await journal.claim("r", after=epoch)
        with refused(UnknownRun):
            await journal.claim("unknown", after=1)
        journal.append(new, b"c")
        await journal.durable(new)
    async with make() as journal:
        with refused(Fenced):
            await journal.claim("r", after=found.epoch)
        (listed,) = await journal.runs()
        assert listed.epoch == 2
        third = await journal.claim("r", after=2)
        assert (third.epoch, third.next) == (3, 3)
        journal.append(third, b"d", final=True)
        for epoch in (2, 3):
            with refused(RunFinished):
                await journal.claim("r", after=epoch)
        await journal.durable(third)
        assert await journal.read("r") == [b"a", b"b", b"c", b"d"]


async def nothing_behind_a_refused_entry_is_stored(make: Make) -> None:
    """However the writer finds out."""
    async with make() as journal:
        old = journal.create("r")
        journal.append(old, b"a")
        await journal.durable(old)
        await journal.claim("r")
        stale = Claim("r", 1, 1)
        with refused(Fenced):
            for number in range(10):
                journal.append(stale, b"%d" % number)
            await journal.durable(stale)
        with refused(Fenced):
            await journal.durable(stale)
            journal.append(stale, b"more")
        assert await journal.read("r") == [b"a"]


async def a_repeated_entry_is_stored_once(make: Make) -> None:
    """Whoever does not know whether it arrived writes it again."""
    async with make() as journal:
        claim = journal.create("r")
        journal.append(claim, b"a")
        assert journal.append(claim, b"a", sequence=0) == 0
        await journal.durable(claim)
        assert journal.append(claim, b"a", sequence=0) == 0
        assert journal.append(claim, b"b", sequence=1) == 1
        assert claim.next == 2
        await journal.durable(claim)
        assert await journal.read("r") == [b"a", b"b"]


async def a_repeated_entry_is_known_after_another_opening(make: Make) -> None:
    """Under the claim that it was first written with, which may be made by hand, or under a new one."""
    async with make() as journal:
        claim = journal.create("r")
        for data in (b"a", b"b", b"c"):
            journal.append(claim, data)
    async with make() as journal:
        again = Claim("r", 1, 1)
        assert [journal.append(again, data) for data in (b"b", b"c", b"d")] == [1, 2, 3]
        await journal.durable(again)
        assert await journal.read("r") == [b"a", b"b", b"c", b"d"]
        new = await journal.claim("r")
        journal.append(new, b"d", sequence=3)
        journal.append(new, b"e", final=True)
        await journal.durable(new)
    async with make() as journal:
        again = Claim("r", 2, 4)
        journal.append(again, b"e", final=True)
        await journal.durable(again)
        assert await journal.read("r") == [b"a", b"b", b"c", b"d", b"e"]


async def another_entry_at_the_same_place_is_refused(make: Make) -> None:
    """Two writers that share a claim find out."""
    async with make() as journal:
        claim = journal.create("r")
        journal.append(claim, b"a")
        journal.append(claim, b"b")
        await journal.durable(claim)
        with refused(Conflict):
            journal.append(claim, b"x", sequence=1)
            await journal.durable(claim)
    async with make() as journal:
        for other in (Claim("r", 1, 0), Claim("r", 1, 1)):
            with refused(Conflict):
                journal.append(other, b"x")
                await journal.durable(other)
        assert await journal.read("r") == [b"a", b"b"]


async def no_entry_may_be_left_out(make: Make) -> None:
    """Neither by a sequence nor by a claim that is ahead of the store."""
    async with make() as journal:
        claim = journal.create("r")
        journal.append(claim, b"a")
        for sequence in (2, -1):
            with refused(ValueError):
                journal.append(claim, b"x", sequence=sequence)
        await journal.durable(claim)
        with refused(Conflict):
            ahead = Claim("r", 1, 5)
            journal.append(ahead, b"x")
            await journal.durable(ahead)
        assert await journal.read("r") == [b"a"]


async def a_new_run_needs_a_new_id(make: Make) -> None:
    """Told at the latest to whoever waits; the run that has the id is left alone."""
    async with make() as journal:
        first = journal.create("r")
        journal.append(first, b"a")
        await journal.durable(first)
        with refused(RunExists):
            twin = journal.create("r")
            journal.append(twin, b"x")
            await journal.durable(twin)
    async with make() as journal:
        twins: list[Claim] = []
        with refused(RunExists):
            twins.append(journal.create("r"))
            journal.append(twins[0], b"x")
            journal.append(twins[0], b"y")
            await journal.durable(twins[0])
        for twin in twins:
            with refused(RunExists):
                journal.append(twin, b"z")
                await journal.durable(twin)
        journal.append(Claim("r", 1, 1), b"b")
        assert await journal.read("r") == [b"a", b"b"]


async def an_unknown_run_is_empty_and_cannot_be_claimed(make: Make) -> None:
    """Nor can something be appended to it."""
    async with make() as journal:
        assert await journal.read("r") == []
        assert await journal.runs() == await journal.runs(run_id="r") == []
        with refused(UnknownRun):
            await journal.claim("r")
        with refused(UnknownRun):
            claim = Claim("r", 1, 0)
            journal.append(claim, b"x")
            await journal.durable(claim)
        assert await journal.read("r") == []


async def a_run_begins_with_its_first_entry(make: Make) -> None:
    """Nobody else sees that it was created."""
    async with make() as journal:
        claim = journal.create("r")
        await journal.durable(claim)
        assert await journal.runs() == []
        journal.append(claim, b"a")
        assert [each.run_id for each in await journal.runs()] == ["r"]


async def a_final_entry_ends_the_run(make: Make) -> None:
    """Nothing is appended behind it, and nobody claims the run."""
    async with make() as journal:
        claim = journal.create("r")
        journal.append(claim, b"a")
        journal.append(claim, b"b", final=True)
        with refused(RunFinished):
            journal.append(claim, b"c")
            await journal.durable(claim)
        with refused(RunFinished):
            await journal.claim("r")
        journal.release(claim)
        (listed,) = await journal.runs()
        assert (listed.finished, listed.length, listed.owner) == (True, 2, None)
    async with make() as journal:
        with refused(RunFinished):
            await journal.claim("r")
        with refused(RunFinished):
            late = Claim("r", 1, 2)
            journal.append(late, b"c")
            await journal.durable(late)
        assert await journal.read("r") == [b"a", b"b"]


async def runs_are_listed_as_they_are(make: Make) -> None:
    """In the order of their creation, and only those that were asked for."""
    async with make() as journal:
        first = journal.create("z", conversation_id="talk")
        journal.append(first, b"abc")
        second = journal.create("a", parent_id="z")
        journal.append(second, b"", final=True)
        third = journal.create("m", parent_id="z", conversation_id="talk")
        journal.append(third, b"1", final=True)
        journal.append(first, b"de")
        await journal.claim("z")
    async with make() as journal:
        listed = await journal.runs()
        assert ids(listed) == ["z", "a", "m"]
        assert [each.epoch for each in listed] == [2, 1, 1]
        assert [(each.length, each.size) for each in listed] == [(2, 5), (1, 0), (1, 1)]
        assert [each.finished for each in listed] == [False, True, True]
        assert [each.parent_id for each in listed] == [None, "z", "z"]
        assert [each.conversation_id for each in listed] == ["talk", None, "talk"]
        assert all(each.created_at <= each.changed_at for each in listed)
        assert ids(await journal.runs(unfinished=True)) == ["z"]
        assert ids(await journal.runs(conversation_id="talk")) == ["z", "m"]
        assert ids(await journal.runs(conversation_id="talk", unfinished=True)) == ["z"]
        assert ids(await journal.runs(conversation_id="")) == []
        assert ids(await journal.runs(parent_id="z")) == ["a", "m"]
        assert ids(await journal.runs(parent_id="z", conversation_id="talk")) == ["m"]
        assert ids(await journal.runs(parent_id="m")) == []
        assert ids(await journal.runs(run_id="a")) == ["a"]
        assert ids(await journal.runs(run_id="a", unfinished=True)) == []
        assert ids(await journal.runs(run_id="A")) == []


async def waiting_may_be_cancelled(make: Make) -> None:
    """What was appended is stored all the same."""
    async with make() as journal:
        claim = journal.create("r")
        journal.append(claim, b"a")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await journal.durable(claim)
        journal.append(claim, b"b")
        await journal.durable(claim)
        assert await journal.read("r") == [b"a", b"b"]


async def many_runs_write_at_the_same_time(make: Make) -> None:
    """And nothing is mixed up."""

    async def one(journal: Journal, number: int) -> None:
        claim = journal.create(f"run {number}")
        for each in range(5):
            journal.append(claim, b"%d/%d" % (number, each), final=each == 4)
            if (number + each) % 3:
                await journal.durable(claim)
        await journal.durable(claim)
        journal.release(claim)

    async with make() as journal, anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(one, journal, number)
    async with make() as journal:
        assert len(await journal.runs()) == 100
        for number in range(100):
            assert await journal.read(f"run {number}") == [b"%d/%d" % (number, each) for each in range(5)]


async def pruning_forgets_old_finished_runs(make: Make) -> None:
    """And only these."""
    async with make() as journal:
        for number in range(250):
            claim = journal.create(f"run {number}")
            journal.append(claim, b"a")
            journal.append(claim, b"b", final=number % 2 == 0)
            journal.release(claim)
        assert await journal.prune(AGES_AGO) == 0
        assert await journal.prune(IN_AGES) == 125
        assert await journal.prune(IN_AGES) == 0
        assert ids(await journal.runs()) == [f"run {number}" for number in range(1, 250, 2)]
        assert await journal.read("run 0") == []
        assert await journal.read("run 1") == [b"a", b"b"]
        anew = journal.create("run 0")
        journal.append(anew, b"new")
        await journal.durable(anew)
    async with make() as journal:
        assert await journal.read("run 0") == [b"new"]
        assert ids(await journal.runs())[-1] == "run 0"


async def subagents_are_forgotten_with_their_run(make: Make) -> None:
    """Only when that is over, which itself may be a subagent, and all of them are. What is not over stays."""
    async with make() as journal:
        top = journal.create("top")
        journal.append(top, b"a")
        for parent, run_id in (("top", "top.1"), ("top.1", "top.1.1"), ("top", "top.2")):
            claim = journal.create(run_id, parent_id=parent)
            journal.append(claim, b"x", final=True)
        left = journal.create("left")
        journal.append(left, b"a", final=True)
        orphan = journal.create("left.1", parent_id="left")
        journal.append(orphan, b"a")
        for number in range(120):
            claim = journal.create(f"many.{number}", parent_id="many" if number else None)
            journal.append(claim, b"x", final=True)
        kept = ["top", "top.1", "top.1.1", "top.2", "left", "left.1"]
        assert await journal.prune(IN_AGES) == 120
        assert ids(await journal.runs()) == kept
        journal.append(top, b"b", final=True)
        await journal.durable(top)
        assert await journal.prune(AGES_AGO) == 0
        assert await journal.prune(IN_AGES) == 4
        assert ids(await journal.runs()) == ["left", "left.1"]
        assert await journal.read("top.1") == []
    async with make() as journal:
        claim = await journal.claim("left.1")
        journal.append(claim, b"b", final=True)
        await journal.durable(claim)
        assert await journal.prune(IN_AGES) == 2
        assert await journal.runs() == []


async def a_parent_is_older_than_its_subagents(make: Make) -> None:
    """A run whose parent is unknown, younger, or itself is nobody's subagent."""
    async with make() as journal:
        for run_id, parent in (("self", "self"), ("first", "second"), ("second", "first"), ("alone", "unknown")):
            claim = journal.create(run_id, parent_id=parent)
            journal.append(claim, b"a", final=run_id != "second")
            await journal.durable(claim)
        assert await journal.prune(IN_AGES) == 2
        assert ids(await journal.runs()) == ["first", "second"]


async def a_released_run_has_no_owner(make: Make) -> None:
    """It stays, and may be claimed. Whoever has lost it releases nothing."""
    async with make() as journal:
        old = journal.create("r")
        journal.append(old, b"a")
        (listed,) = await journal.runs()
        assert listed.owner is not None
        assert listed.owner.is_here
        assert listed.owner.is_running
        new = await journal.claim("r")
        journal.release(old)
        (listed,) = await journal.runs()
        assert listed.owner is not None
        journal.release(new)
    async with make() as journal:
        (listed,) = await journal.runs()
        assert listed.owner is None
        claim = await journal.claim("r")
        assert (claim.epoch, claim.next) == (3, 1)
    async with make() as journal:
        (listed,) = await journal.runs()
        assert listed.owner is not None
        assert not listed.owner.is_running


async def a_run_may_be_released_at_once(make: Make) -> None:
    """What was appended is stored before; also under a claim that was made by hand."""
    async with make() as journal:
        claim = journal.create("r")
        journal.append(claim, b"a")
        journal.release(claim)
    async with make() as journal:
        (listed,) = await journal.runs()
        assert (listed.length, listed.owner) == (1, None)
        await journal.claim("r")
    async with make() as journal:
        journal.release(Claim("r", 1, 1))
        assert (await journal.runs())[0].owner is not None
        journal.release(Claim("r", 2, 1))
    async with make() as journal:
        assert (await journal.runs())[0].owner is None


async def entries_may_be_of_any_size(make: Make) -> None:
    """From nothing to a mebibyte."""
    entries = [b"", b"\x00", bytes(range(256)) * 4096, b"", b"x" * 4096, b"y" * 100_000]
    async with make() as journal:
        claim = journal.create("r")
        for entry in entries:
            journal.append(claim, entry)
        await journal.durable(claim)
    async with make() as journal:
        assert await journal.read("r") == entries
        assert (await journal.runs())[0].size == sum(map(len, entries))


async def ids_may_be_odd(make: Make) -> None:
    """Any text that can be encoded is another one than all others."""
    async with make() as journal:
        for number, run_id in enumerate(ODD_IDS):
            claim = journal.create(run_id, parent_id=run_id, conversation_id=run_id)
            journal.append(claim, b"%d" % number)
            await journal.durable(claim)
    async with make() as journal:
        assert ids(await journal.runs()) == list(ODD_IDS)
        for number, run_id in enumerate(ODD_IDS):
            assert await journal.read(run_id) == [b"%d" % number]
            assert ids(await journal.runs(conversation_id=run_id)) == [run_id]
            assert (await journal.claim(run_id)).next == 1


JOURNAL_CHECKS: tuple[Callable[[Make], Awaitable[None]], ...] = (
    entries_are_read_in_order,
    reading_sees_what_was_appended,
    closing_stores_what_was_appended,
    a_claim_goes_on_where_the_run_was,
    a_former_owner_is_refused,
    a_former_owner_is_refused_after_another_opening,
    whoever_has_found_a_run_too_early_does_not_get_it,
    nothing_behind_a_refused_entry_is_stored,
    a_repeated_entry_is_stored_once,
    a_repeated_entry_is_known_after_another_opening,
    another_entry_at_the_same_place_is_refused,
    no_entry_may_be_left_out,
    a_new_run_needs_a_new_id,
    an_unknown_run_is_empty_and_cannot_be_claimed,
    a_run_begins_with_its_first_entry,
    a_final_entry_ends_the_run,
    runs_are_listed_as_they_are,
    waiting_may_be_cancelled,
    many_runs_write_at_the_same_time,
    pruning_forgets_old_finished_runs,
    subagents_are_forgotten_with_their_run,
    a_parent_is_older_than_its_subagents,
    a_released_run_has_no_owner,
    a_run_may_be_released_at_once,
    entries_may_be_of_any_size,
    ids_may_be_odd,
)


def ids(listed: list[Listed]) -> list[str]:
    return [each.run_id for each in listed]


@contextmanager
def refused(kind: type[JournalError] | type[ValueError]) -> Generator[None]:
    """The block raises such an error."""
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")
