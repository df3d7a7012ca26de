"""How long the journal in a file keeps finished runs."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import anyio
import pytest

from greenroom.journal import Damaged, Listed, SqliteJournal, sqlite_retention, sqlite_store, sqlite_writer

pytestmark = pytest.mark.anyio

DAY = 86_400.0


class Clock:
    """A clock that is set by hand."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.journal"


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def end(journal: SqliteJournal, *run_ids: str, parent_id: str | None = None) -> None:
    for run_id in run_ids:
        claim = journal.create(run_id, parent_id=parent_id)
        journal.append(claim, b"a", final=True)
        await journal.durable(claim)
        journal.release(claim)


async def ids(journal: SqliteJournal) -> list[str]:
    return [each.run_id for each in await journal.runs()]


@pytest.mark.parametrize("retention", [-1, float("nan"), float("inf")])
def test_a_retention_that_means_nothing_is_refused(retention: float) -> None:
    with pytest.raises(ValueError, match="retention is in seconds, 0 or more, or None to keep all runs, not"):
        SqliteJournal("x", retention=retention)


async def test_old_runs_are_forgotten_when_it_is_opened(path: Path, clock: Clock) -> None:
    async with SqliteJournal(path, clock=clock) as journal:
        await end(journal, "old")
        journal.append(journal.create("unfinished"), b"a")
        await end(journal, "unfinished.1", parent_id="unfinished")
        clock.now += 2 * DAY
        await end(journal, "young")
    async with SqliteJournal(path, clock=clock) as journal:
        assert await ids(journal) == ["old", "unfinished", "unfinished.1", "young"]
    async with SqliteJournal(path, clock=clock, retention=DAY) as journal:
        assert await ids(journal) == ["unfinished", "unfinished.1", "young"]


async def test_old_runs_are_forgotten_about_once_an_hour_while_it_is_used(path: Path, clock: Clock) -> None:
    async with SqliteJournal(path, clock=clock, retention=100) as journal:
        await end(journal, "r")
        clock.now += sqlite_retention.EVERY - 1
        assert await ids(journal) == ["r"]
        assert await ids(journal) == ["r"]
        clock.now += 1
        await ids(journal)
        assert await ids(journal) == []
        await end(journal, "s")
        assert await ids(journal) == ["s"]


async def test_a_clock_that_is_set_back_does_not_stop_it(path: Path, clock: Clock) -> None:
    async with SqliteJournal(path, clock=clock, retention=100) as journal:
        clock.now -= 100 * DAY
        await end(journal, "r")
        clock.now += sqlite_retention.EVERY
        await ids(journal)
        assert await ids(journal) == []


async def test_nobody_waits_for_more_than_one_step(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked meanwhile is answered between two; when nobody asks, it goes on by itself."""
    monkeypatch.setattr(sqlite_store, "PRUNED", 3)
    async with SqliteJournal(path, clock=clock) as journal:
        await end(journal, *map(str, range(30)))
    clock.now += 10
    gaps: list[int] = []
    original = sqlite_store.Store.prune

    def counted(self: Any, before: float, after: int) -> Any:
        gaps[-1] += 1
        return original(self, before, after)

    def answered(store: Any) -> None:
        gaps.append(0)

    monkeypatch.setattr(sqlite_store.Store, "prune", counted)
    gaps.append(0)
    journal = SqliteJournal(path, clock=clock, retention=5)
    async with journal:
        # All of them wait in the queue, one batch each: `single` is what "sync" has.
        journal._opened().queue._single = True
        calls = [sqlite_writer.Call(answered, writes=False) for _ in range(20)]
        batches = [journal._opened().queue.put(call) for call in calls]
        for batch in batches:
            await journal._opened().queue.wait(batch)
        assert await ids(journal) == []
    assert max(gaps[1:-1]) <= 1 or len(gaps) == 1
    assert sum(gaps) in (10, 11)


async def test_it_goes_on_by_itself_when_nobody_asks(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "PRUNED", 1)
    async with SqliteJournal(path, clock=clock) as journal:
        await end(journal, *map(str, range(10)))
    clock.now += 10
    done = anyio.Event()
    original = sqlite_retention.Retention.step

    def watched(self: Any, store: Any) -> None:
        original(self, store)
        if not self.is_at_work:
            anyio.from_thread.run_sync(done.set, token=token)

    token = anyio.lowlevel.current_token()
    monkeypatch.setattr(sqlite_retention.Retention, "step", watched)
    async with SqliteJournal(path, clock=clock, retention=5) as journal:
        with anyio.fail_after(20):
            await done.wait()
        assert await ids(journal) == []


async def test_a_damaged_run_is_passed_over_with_a_word(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with SqliteJournal(path, clock=clock) as journal:
        await end(journal, "a", "b", "c")
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE runs SET size = 7 WHERE id = 'b'")
    connection.close()
    clock.now += 10
    with caplog.at_level(logging.WARNING, "greenroom"):
        async with SqliteJournal(path, clock=clock, retention=5) as journal:
            with pytest.raises(Damaged, match="run 'b'") as caught:
                await journal.runs()
    assert caught.value.others == ()
    (record,) = caplog.records
    assert "not all old runs of the journal" in record.getMessage()
    assert "run 'b' is damaged" in record.getMessage()


async def test_another_process_that_has_the_file_puts_it_off(path: Path, clock: Clock) -> None:
    """Until the next time; nothing else is harmed."""
    async with SqliteJournal(path, clock=clock) as journal:
        await end(journal, "r")
    clock.now += 10
    journal = SqliteJournal(path, clock=clock, retention=5, busy_timeout=0)
    await journal.__aenter__()
    assert await ids(journal) == []
    await end(journal, "s")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    clock.now += sqlite_retention.EVERY
    for _ in range(3):
        assert await ids(journal) == ["s"]
    other.execute("COMMIT")
    other.close()
    assert await ids(journal) == ["s"]
    clock.now += sqlite_retention.EVERY
    await ids(journal)
    assert await ids(journal) == []
    await end(journal, "t")
    await journal.__aexit__(None, None, None)


KILLED = """
import os, signal, sys, anyio
from greenroom.journal import SqliteJournal, sqlite_store

sqlite_store.PRUNED = 10
left = int(sys.argv[2])
original = sqlite_store.Store._forget

def dies(self, rows):
    global left
    left -= 1
    for row in rows:
        original(self, [row])
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sqlite_store.Store._forget = dies

async def main(path):
    async with SqliteJournal(path, retention=0):
        await anyio.sleep_forever()

anyio.run(main, sys.argv[1])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
@pytest.mark.parametrize("step", [1, 3])
def test_a_kill_in_the_middle_loses_nothing_else(path: Path, step: int) -> None:
    """Scenario 83: steps are there or not, a run and its subagents together; the next opening does the rest."""

    async def fill() -> None:
        async with SqliteJournal(path, durability="none", clock=Clock()) as journal:
            for number in range(20):
                await end(journal, f"r{number}")
                await end(journal, f"r{number}.1", f"r{number}.2", parent_id=f"r{number}")
            journal.append(journal.create("u"), b"a")
            await end(journal, "u.1", parent_id="u")

    anyio.run(fill)
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), path, str(step)], timeout=60, check=False)
    assert process.returncode == -signal.SIGKILL

    async def look() -> None:
        async with SqliteJournal(path) as journal:
            listed: list[Listed] = await journal.runs()
            # Four roots of three go in each step.
            numbers = range(4 * (step - 1), 20)
            expected = [f"r{number}{which}" for number in numbers for which in ("", ".1", ".2")]
            assert [each.run_id for each in listed] == [*expected, "u", "u.1"]
            for each in listed:
                assert await journal.read(each.run_id) == [b"a"]
        async with SqliteJournal(path, retention=0) as journal:
            assert await ids(journal) == ["u", "u.1"]
            await end(journal, "new")
        assert not os.path.exists(f"{path}-wal")

    anyio.run(look)
