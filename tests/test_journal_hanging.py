"""A journal whose disk does not answer any more."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from greenroom import Agent, System
from greenroom.journal import JournalFailed, SqliteJournal, sqlite_writer
from greenroom.providers import Scripted

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.leaks("the thread ends when the disk answers again", "thread", "descriptor"),
]


class Disk:
    """Makes connections whose transactions hang at their end, once `hangs` is set, until `answers` is."""

    def __init__(self) -> None:
        self.hangs = False
        self.met = threading.Event()
        self.answers = threading.Event()

    def open(self, path: str, durability: str, busy_timeout: float) -> Any:
        return Connection(self, open_file(path, durability, busy_timeout))


open_file = sqlite_writer.open_file


class Connection:
    def __init__(self, disk: Disk, connection: sqlite3.Connection) -> None:
        self.disk = disk
        self.connection = connection

    def execute(self, statement: str, *values: Any) -> Any:
        if statement == "COMMIT" and self.disk.hangs:
            self.disk.met.set()
            self.disk.answers.wait(60)
        return self.connection.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    monkeypatch.setattr(sqlite_writer, "open_file", disk.open)
    yield disk
    disk.answers.set()
    for thread in threading.enumerate():
        if thread.name == "greenroom-journal":
            thread.join(10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.journal"


def test_a_wrong_time_for_the_disk_is_refused() -> None:
    for seconds in (-1, float("nan")):
        with pytest.raises(ValueError, match="disk_timeout is in seconds, 0 or more"):
            SqliteJournal("x", disk_timeout=seconds)


async def test_closing_gives_up_on_a_disk_that_hangs(path: Path, disk: Disk) -> None:
    """And says so. What the disk has taken by then is there; the rest comes when it answers."""
    journal = await SqliteJournal(path, busy_timeout=0, disk_timeout=0.2).__aenter__()
    claim = journal.create("r")
    journal.append(claim, b"a")
    await journal.durable(claim)
    disk.hangs = True
    journal.append(claim, b"b")
    with (
        anyio.fail_after(20),
        pytest.raises(JournalFailed, match=r"disk .*runs\.journal has not answered for 0\.2 sec"),
    ):
        await journal.__aexit__(None, None, None)
    assert not journal.is_open
    disk.hangs = False
    disk.answers.set()
    with anyio.fail_after(20):
        async with SqliteJournal(path) as journal:
            while await journal.read("r") != [b"a", b"b"]:
                await anyio.sleep(0.01)


async def test_closing_waits_for_a_slow_disk_as_long_as_it_gets_on(path: Path, disk: Disk) -> None:
    """Each transaction may take its time."""
    slow = threading.Event()
    disk.answers.wait = lambda timeout=None: slow.wait(0.15)  # type: ignore[method-assign]
    async with SqliteJournal(path, durability="sync", busy_timeout=0, disk_timeout=0.4) as journal:
        claim = journal.create("r")
        disk.hangs = True
        for number in range(6):
            journal.append(claim, b"%d" % number)
    async with SqliteJournal(path) as journal:
        disk.hangs = False
        assert len(await journal.read("r")) == 6


async def test_a_system_ends_although_its_disk_hangs(path: Path, disk: Disk) -> None:
    """Within its grace and the time that the journal gives to the disk."""
    agent = Agent("helper", Scripted("x"))
    journal = SqliteJournal(path, busy_timeout=0, disk_timeout=0.2)
    with anyio.fail_after(20):
        with pytest.raises(JournalFailed, match="has not answered"):
            async with System(journal=journal, grace=0.2) as system:
                await agent.run("Go")
                disk.hangs = True
                with anyio.move_on_after(0.1):
                    await system.start(agent, "Go", run_id="r")
                assert disk.met.is_set()
        assert not journal.is_open
