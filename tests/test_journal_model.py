"""Programs that hypothesis makes up, run on two journals with one file and on a dictionary."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import anyio.from_thread
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from greenroom.journal import (
    Claim,
    Conflict,
    Fenced,
    JournalError,
    MemoryJournal,
    RunExists,
    RunFinished,
    SqliteJournal,
    UnknownRun,
)

# A failure is shown as it was found: shrinking would open files for minutes.
PHASES = [phase for phase in Phase if phase is not Phase.shrink]
RUN_IDS = st.sampled_from(["a", "b", "c", "d"])
WHICH = st.integers(0, 1)
CONVERSATIONS = st.sampled_from(["t", "u"])
ENTRIES = st.binary(max_size=5) | st.sampled_from([5_000, 40_000]).map(bytes)


class Run:
    """What should be known of a run."""

    def __init__(self, parent_id: str | None, conversation_id: str | None) -> None:
        self.parent_id = parent_id
        self.conversation_id = conversation_id
        self.epoch = 1
        self.entries: list[bytes] = []
        self.finished = False


class Held:
    """A claim, with what the model thinks of it."""

    def __init__(
        self, claim: Claim, new: bool, parent_id: str | None = None, conversation_id: str | None = None
    ) -> None:
        self.claim = claim
        self.new = new
        self.parent_id = parent_id
        self.conversation_id = conversation_id


class Journals(RuleBasedStateMachine):
    """Both journals are open in one event loop, in another thread; `call` runs something there to its end."""

    durability: Any = "none"

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.model: dict[str, Run] = {}
        self.held: list[Held] = []
        self.clock = 1000.0
        self.finished_at: dict[str, float] = {}
        self.loop: AbstractContextManager[Any] = anyio.from_thread.start_blocking_portal()
        self.portal = self.loop.__enter__()
        self.journals: list[Any] = [None, None]

    def make(self) -> Any:
        return SqliteJournal(Path(self.folder.name) / "runs", durability=self.durability, clock=lambda: self.clock)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self.portal.call(function, *arguments)

    @initialize()
    def open_both(self) -> None:
        for which in range(2):
            self.reopen(which)

    def teardown(self) -> None:
        for journal in self.journals:
            if journal is not None and journal.is_open:
                self.call(journal.__aexit__, None, None, None)
        self.loop.__exit__(None, None, None)
        self.folder.cleanup()

    # -- what is done

    @rule(which=WHICH)
    def reopen(self, which: int) -> None:
        if self.journals[which] is not None:
            self.call(self.journals[which].__aexit__, None, None, None)
        self.journals[which] = self.make()
        self.call(self.journals[which].__aenter__)

    @rule(which=WHICH)
    def drop(self, which: int) -> None:
        """Nobody closes it. What was durable is there."""
        self.journals[which] = None
        self.reopen(which)

    @rule(which=WHICH, run_id=RUN_IDS, parent_id=st.none() | RUN_IDS, conversation_id=st.none() | CONVERSATIONS)
    def create(self, which: int, run_id: str, parent_id: str | None, conversation_id: str | None) -> None:
        async def create() -> Claim:
            return self.journals[which].create(run_id, parent_id=parent_id, conversation_id=conversation_id)

        try:
            claim = self.call(create)
        except RunExists:
            assert run_id in self.model
        else:
            self.held.append(Held(claim, True, parent_id, conversation_id))

    @rule(which=WHICH, run_id=RUN_IDS, ago=st.none() | st.integers(-1, 2))
    def claim(self, which: int, run_id: str, ago: int | None) -> None:
        """For its own sake, or by whoever has found the run so many claims ago."""
        run = self.model.get(run_id)
        after = None if ago is None else (run.epoch if run is not None else 1) - ago
        try:
            claim = self.call(partial(self.journals[which].claim, run_id, after=after))
        except UnknownRun:
            assert run is None
        except RunFinished:
            assert run is not None
            assert run.finished
        except Fenced:
            assert run is not None
            assert not run.finished
            assert ago not in (None, 0)
        else:
            assert run is not None
            assert not run.finished
            assert ago in (None, 0)
            run.epoch += 1
            assert (claim.epoch, claim.next) == (run.epoch, len(run.entries))
            self.held.append(Held(claim, False))

    @precondition(lambda self: self.held)
    @rule(
        which=WHICH,
        data=st.data(),
        entries=st.lists(ENTRIES, min_size=1, max_size=4),
        final=st.integers(0, 5).map(lambda number: number == 0),
    )
    def append(self, which: int, data: Any, entries: list[bytes], final: bool) -> None:
        held = data.draw(st.sampled_from(self.held))
        expected = self.expected(held, entries, final)

        async def append() -> None:
            for number, entry in enumerate(entries):
                self.journals[which].append(held.claim, entry, final=final and number == len(entries) - 1)
            await self.journals[which].durable(held.claim)

        self.outcome(held, expected, append)

    @precondition(lambda self: self.held)
    @rule(which=WHICH, data=st.data(), other=ENTRIES)
    def repeat(self, which: int, data: Any, other: bytes) -> None:
        """An entry of the claim's past, or another one in its place."""
        held = data.draw(st.sampled_from(self.held))
        run = self.model.get(held.claim.run_id)
        if run is None or not held.claim.next or held.new:
            return
        place = data.draw(st.integers(0, held.claim.next - 1))
        entry = run.entries[place] if place < len(run.entries) and data.draw(st.booleans()) else other
        expected: type[JournalError] | None = None
        if run.epoch != held.claim.epoch:
            expected = Fenced
        elif place >= len(run.entries) or run.entries[place] != entry:
            expected = RunFinished if run.finished else Conflict

        async def repeat() -> None:
            self.journals[which].append(held.claim, entry, sequence=place)
            await self.journals[which].durable(held.claim)

        self.outcome(held, expected, repeat)

    @precondition(lambda self: self.held)
    @rule(which=WHICH, data=st.data())
    def release(self, which: int, data: Any) -> None:
        held = data.draw(st.sampled_from(self.held))

        async def release() -> None:
            self.journals[which].release(held.claim)

        self.call(release)

    @rule(which=WHICH, run_id=RUN_IDS, epoch=st.integers(1, 3), following=st.integers(0, 6))
    def claim_by_hand(self, which: int, run_id: str, epoch: int, following: int) -> None:
        self.held.append(Held(Claim(run_id, epoch, following), False))

    @rule(seconds=st.integers(1, 10))
    def time_passes(self, seconds: int) -> None:
        self.clock += seconds

    @rule(which=WHICH, age=st.integers(0, 20))
    def prune(self, which: int, age: int) -> None:
        before = self.clock - age
        roots = {run_id: self.root_of(run_id) for run_id in self.model}
        kept = {root for run_id, root in roots.items() if not self.model[run_id].finished}
        kept |= {root for root in roots.values() if root not in kept and self.finished_at[root] >= before}
        old = [run_id for run_id, root in roots.items() if root not in kept]
        assert self.call(self.journals[which].prune, before) == len(old)
        for run_id in old:
            del self.model[run_id]
        # What is known of a claim's run is about the run that was there.
        self.held = [held for held in self.held if held.claim.run_id not in old]

    # -- what is expected

    def root_of(self, run_id: str) -> str:
        """The run that it works for in the end. A parent was there before its subagent."""
        order = list(self.model)
        while (parent := self.model[run_id].parent_id) in self.model and order.index(parent) < order.index(run_id):
            run_id = parent
        return run_id

    def expected(self, held: Held, entries: list[bytes], final: bool) -> type[JournalError] | None:
        """What becomes of entries that are appended under a claim; the model has them afterwards."""
        claim = held.claim
        run = self.model.get(claim.run_id)
        if held.new:
            if run is not None:
                return RunExists
            run = self.model[claim.run_id] = Run(held.parent_id, held.conversation_id)
            held.new = False
        if run is None:
            return UnknownRun
        if run.epoch != claim.epoch:
            return Fenced
        there = run.entries[claim.next : claim.next + len(entries)]
        if claim.next > len(run.entries):
            return Conflict
        if there != entries[: len(there)]:
            return RunFinished if run.finished else Conflict
        if run.finished and len(there) < len(entries):
            return RunFinished
        run.entries += entries[len(there) :]
        if final and len(there) < len(entries):
            run.finished = True
        self.finished_at[claim.run_id] = self.clock
        return None

    def outcome(self, held: Held, expected: type[JournalError] | None, function: Callable[[], Any]) -> None:
        try:
            self.call(function)
        except JournalError as error:
            if type(error) is not expected:
                raise
            self.held.remove(held)  # an owner that was refused stops
        else:
            assert expected is None, f"{expected.__name__} expected"

    @invariant()
    def both_know_what_is_known(self) -> None:
        for journal in self.journals:
            if journal is None:
                continue
            for talk in ("t", "u"):
                listed = self.call(partial(journal.runs, conversation_id=talk))
                assert [each.run_id for each in listed] == [
                    run_id for run_id, run in self.model.items() if run.conversation_id == talk
                ]
            listed = self.call(journal.runs)
            assert [each.run_id for each in listed] == list(self.model)
            for each in listed:
                run = self.model[each.run_id]
                assert (each.epoch, each.length, each.finished) == (run.epoch, len(run.entries), run.finished)
                assert each.parent_id == run.parent_id
                assert (each.size, each.conversation_id) == (sum(map(len, run.entries)), run.conversation_id)
                assert self.call(journal.read, each.run_id) == run.entries


class JournalsInGroups(Journals):
    durability = "group"


class MemoryJournals(Journals):
    """One journal under two names: nothing is reopened."""

    def make(self) -> Any:
        if not hasattr(self, "kept"):
            self.kept = MemoryJournal(keep=True, clock=lambda: self.clock)
        return self.kept


def finished_without_leaks(machine: type[Journals]) -> Any:
    case = machine.TestCase
    case.settings = settings(deadline=None, max_examples=30, stateful_step_count=25, phases=PHASES)
    return pytest.mark.leaks("threads of journals that were dropped end soon", "thread", "descriptor")(case)


TestJournals = finished_without_leaks(Journals)
TestJournalsInGroups = finished_without_leaks(JournalsInGroups)
TestMemoryJournals = finished_without_leaks(MemoryJournals)
