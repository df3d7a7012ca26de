"""Notes in a file: what only a file, its thread and other processes can do wrong."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from greenroom import SqliteJournal
from greenroom.agents import memory_file, memory_sqlite
from greenroom.agents.memory import MemoryFailed, Note
from greenroom.agents.memory_file import NewerMemory, NotAMemory
from greenroom.agents.memory_sqlite import SqliteMemory
from greenroom.testing import run as in_fresh_loop

pytestmark = pytest.mark.anyio

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.db"


def texts(notes: list[Note]) -> list[str]:
    return [each.text for each in notes]


def locked(path: Path) -> sqlite3.Connection:
    """A connection that keeps everybody else from writing, until it is closed."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def memory_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "greenroom-memory"]


async def until(condition: Any) -> None:
    """Wait for what a thread does."""
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.001)


# -- opening and closing


async def test_it_is_opened_at_the_first_use_and_may_be_closed_and_used_again(path: Path) -> None:
    memory = SqliteMemory(path)
    await memory.close()
    assert not path.exists()
    assert memory_threads() == []
    await memory.remember("tea", scope=None)
    assert len(memory_threads()) == 1
    await memory.close()
    await memory.close()
    assert memory_threads() == []
    assert sorted(each.name for each in path.parent.iterdir()) == ["notes.db"]  # its log is in it
    async with memory:
        assert texts(await memory.recall("tea", scope=None)) == ["tea"]
    assert memory_threads() == []


async def test_the_file_belongs_to_its_user_alone(path: Path) -> None:
    async with SqliteMemory(path) as memory:
        await memory.remember("tea", scope=None)
        assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}


async def test_closing_comes_after_what_was_asked_before(path: Path) -> None:
    memory = SqliteMemory(path)
    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(lambda number=number: memory.remember(f"note {number}", scope=None))
        await anyio.wait_all_tasks_blocked()
        await memory.close()
    assert memory_threads() == []
    async with memory:
        assert len(await memory.recall("", scope=None, limit=100)) == 20


async def test_a_block_that_is_cancelled_closes_it_too(path: Path) -> None:
    with anyio.CancelScope() as scope:
        async with SqliteMemory(path) as memory:
            await memory.remember("tea", scope=None)
            scope.cancel()
            await anyio.sleep(1)
    assert scope.cancelled_caught
    assert memory_threads() == []


@BACKENDS
def test_a_store_that_nobody_has_any_more_leaves_nothing(backend: str, path: Path) -> None:
    """Neither a thread nor a descriptor: `run` would find them."""

    async def scenario() -> None:
        await SqliteMemory(path).remember("tea", scope=None)

    in_fresh_loop(scenario, backend=backend)
    assert path.exists()


@BACKENDS
def test_one_store_serves_one_event_loop_after_the_other(backend: str, path: Path) -> None:
    memory = SqliteMemory(path)

    async def use(number: int) -> None:
        await memory.remember(f"note {number}", scope=None)

    for number in range(3):
        anyio.run(use, number, backend=("trio", "asyncio")[number % 2])

    async def look() -> None:
        assert texts(await memory.recall("", scope=None)) == ["note 2", "note 1", "note 0"]
        await memory.close()

    anyio.run(look, backend=backend)


async def test_a_process_that_forked_gets_a_thread_of_its_own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads do not come along."""
    memory = SqliteMemory(path)
    await memory.remember("tea", scope=None)
    inherited = memory._worker
    assert inherited is not None
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        await memory.close()  # of what it has not opened there is nothing to close
        assert memory._worker is None
        memory._worker = inherited
        assert texts(await memory.recall("tea", scope=None)) == ["tea"]
        assert memory._worker is not inherited
        await memory.close()
    inherited.dismiss()
    inherited.thread.join()


# -- files that cannot be used


def make_other_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text TEXT)")
    connection.close()


def make_newer(path: Path) -> None:
    _change(path, "PRAGMA user_version = 2")


def make_incomplete(path: Path) -> None:
    _change(path, "DROP TABLE search")


def _change(path: Path, statement: str) -> None:
    file = memory_file.MemoryFile(str(path), 1.0, 10, time.time)
    file.remember("tea", "")
    file.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda path: path.write_bytes(b"tea\n" * 1000), NotAMemory, "is no database, it holds no notes"),
        (lambda path: path.write_bytes(b"tea"), NotAMemory, "it is too short for a database"),
        (make_other_database, NotAMemory, "is a database of something else, it holds no notes"),
        (make_newer, NewerMemory, "has format 2, this version reads up to 1: upgrade greenroom"),
        (make_incomplete, MemoryFailed, "their tables are not what was written"),
        (lambda path: path.mkdir(), MemoryFailed, "is a folder: give the path of a file in it"),
    ],
)
async def test_a_file_that_holds_no_notes_is_refused_and_left_as_it_is(
    make: Any, error: type[MemoryFailed], said: str, path: Path
) -> None:
    """Again and again, until it is mended."""
    make(path)
    before = path.read_bytes() if path.is_file() else None
    async with SqliteMemory(path) as memory:
        for _ in range(2):
            with pytest.raises(MemoryFailed, match=said) as caught:
                await memory.remember("tea", scope=None)
            assert type(caught.value) is error
            with pytest.raises(error):
                await memory.recall("tea", scope=None)
        if before is not None:
            assert path.read_bytes() == before
            path.unlink()
            await memory.remember("tea", scope=None)
            assert texts(await memory.recall("tea", scope=None)) == ["tea"]


async def test_a_journal_is_no_memory(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        journal.append(journal.create("r"), b"entry")
    async with SqliteMemory(path) as memory:
        with pytest.raises(NotAMemory, match="is a database of something else"):
            await memory.remember("tea", scope=None)


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with SqliteMemory(tmp_path / "none" / "notes.db") as memory:
        with pytest.raises(MemoryFailed, match=r"there is no folder .*none for the notes"):
            await memory.remember("tea", scope=None)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"path": 5}, TypeError, "path is a text or a Path, not 5"),
        ({"path": ""}, ValueError, "notes in this process are LocalMemory"),
        ({"path": ":memory:"}, ValueError, "notes in this process are LocalMemory"),
        ({"busy_timeout": -1}, ValueError, "busy_timeout= takes seconds, 0 or more, not -1"),
        ({"busy_timeout": "5"}, TypeError, "busy_timeout= takes a number of seconds, not '5'"),
        ({"busy_timeout": float("nan")}, TypeError, "busy_timeout= takes a number of seconds, not nan"),
    ],
)
def test_arguments_are_checked_at_once(arguments: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=f"{said}"):
        SqliteMemory(**{"path": "notes.db", **arguments})


async def test_a_python_without_full_text_search_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_file, "SCHEMA", ("CREATE VIRTUAL TABLE search USING fts99 (words)",))
    async with SqliteMemory(path) as memory:
        with pytest.raises(MemoryFailed, match=r"has no full-text search \(FTS5\): use LocalMemory\(\)"):
            await memory.remember("tea", scope=None)


async def test_a_full_disk_keeps_what_was_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = memory_file._opened

    def with_little_room(path: str, busy_timeout: float) -> sqlite3.Connection:
        connection = opened(path, busy_timeout)
        connection.execute("PRAGMA max_page_count = 40")
        return connection

    async with SqliteMemory(path) as memory:
        await memory.remember("tea", scope=None)
        await memory.close()
        with monkeypatch.context() as patch:
            patch.setattr(memory_file, "_opened", with_little_room)
            kept = 1
            with pytest.raises(MemoryFailed, match=r"^disk full: the notes .* could not be written$"):
                for number in range(200):
                    await memory.remember(f"{number} " + "word " * 300, scope=None)
                    kept += 1
            assert 1 < kept < 200
            assert len(await memory.recall("", scope=None, limit=1000)) == kept
        await memory.close()
        await memory.remember("cake", scope=None)
        assert len(await memory.recall("", scope=None, limit=1000)) == kept + 1
        assert texts(await memory.recall("cake", scope=None)) == ["cake"]


async def test_damage_is_told(path: Path) -> None:
    async with SqliteMemory(path) as memory:
        for number in range(200):
            await memory.remember(f"{number} " + "word " * 300, scope=None)
        await memory.close()
        data = bytearray(path.read_bytes())
        data[4096:] = b"\xff" * (len(data) - 4096)
        path.write_bytes(data)
        with pytest.raises(MemoryFailed, match=r"notes .* are damaged"):
            await memory.recall("word", scope=None)


async def test_an_index_that_was_tampered_with_gives_nobody_the_notes_of_another(path: Path) -> None:
    async with SqliteMemory(path) as memory:
        await memory.remember("tea for Ada", scope="ada")
        await memory.remember("a secret of Bob", scope="bob")
        await memory.close()
        connection = sqlite3.connect(path)
        connection.execute("INSERT INTO search (rowid, words) VALUES (2, '1xtea')")
        connection.commit()
        connection.close()
        assert texts(await memory.recall("tea", scope="ada")) == ["tea for Ada"]


# -- others at the same time


async def test_another_process_that_writes_is_waited_for(path: Path) -> None:
    async with SqliteMemory(path) as memory:
        await memory.remember("tea", scope=None)
        other = locked(path)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: memory.remember("cake", scope=None))
            await anyio.wait_all_tasks_blocked()
            assert texts(await _elsewhere(path, "")) == ["tea"]
            other.close()
        assert texts(await memory.recall("", scope=None)) == ["cake", "tea"]


async def test_one_that_writes_for_too_long_is_named(path: Path) -> None:
    async with SqliteMemory(path, busy_timeout=0.01) as memory:
        await memory.remember("tea", scope=None)
        other = locked(path)
        try:
            with pytest.raises(MemoryFailed, match=r"another process has locked the notes .* for too long"):
                await memory.remember("cake", scope=None)
            assert texts(await memory.recall("tea", scope=None)) == ["tea"]
        finally:
            other.close()
        await memory.remember("cake", scope=None)
        assert texts(await memory.recall("", scope=None)) == ["cake", "tea"]


async def test_who_is_cancelled_waits_no_longer(path: Path) -> None:
    """What has begun comes to its end or does not; what has not begun is never done."""
    async with SqliteMemory(path, busy_timeout=60) as memory:
        await memory.remember("tea", scope=None)
        worker = memory._worker
        assert worker is not None
        other = locked(path)
        try:
            with anyio.fail_after(10):
                async with anyio.create_task_group() as group:
                    group.start_soon(lambda: memory.remember("begun", scope=None))
                    await anyio.wait_all_tasks_blocked()
                    await until(worker.jobs.empty)
                    group.start_soon(lambda: memory.remember("not begun", scope=None))
                    await until(lambda: not worker.jobs.empty())
                    group.cancel_scope.cancel()
        finally:
            other.close()
        assert texts(await memory.recall("", scope=None)) in (["begun", "tea"], ["tea"])
        await memory.remember("cake", scope=None)
        assert texts(await memory.recall("cake", scope=None)) == ["cake"]


@BACKENDS
def test_virtual_time_stands_still_meanwhile(backend: str, path: Path) -> None:
    """A deadline of a test does not pass because a thread works."""

    async def scenario() -> None:
        async with SqliteMemory(path) as memory:
            await memory.remember("tea", scope=None)
            began = anyio.current_time()
            timer = threading.Timer(0.05, locked(path).close)
            timer.start()
            with anyio.fail_after(0.001):
                await memory.remember("cake", scope=None)
            assert anyio.current_time() == began
            timer.join()

    in_fresh_loop(scenario, backend=backend)


async def _elsewhere(path: Path, query: str) -> list[Note]:
    """What another opening of the file finds."""
    async with SqliteMemory(path) as memory:
        return await memory.recall(query, scope=None)


PROCESS = """
    import os, signal, sys, anyio
    from greenroom.agents.memory_sqlite import SqliteMemory

    async def main():
        memory = SqliteMemory(sys.argv[1], busy_timeout=30)
        for number in range(20):
            await memory.remember(f"note {number} of {sys.argv[2]}", scope="all")
            await memory.remember("the same", scope="all")
        os.kill(os.getpid(), signal.SIGKILL)

    anyio.run(main)
"""


async def test_processes_that_are_killed_have_remembered(path: Path) -> None:
    """Several begin at once, with a file that is not there yet."""
    command = [sys.executable, "-c", textwrap.dedent(PROCESS), str(path)]
    processes = [subprocess.Popen([*command, str(number)]) for number in range(3)]
    with anyio.fail_after(60):
        for process in processes:
            assert await anyio.to_thread.run_sync(process.wait) == -9
    async with SqliteMemory(path) as memory:
        found = texts(await memory.recall("", scope="all", limit=1000))
        assert sorted(found) == sorted(
            ["the same", *(f"note {number} of {process}" for number in range(20) for process in range(3))]
        )
        await memory.remember("one more", scope="all")
        assert texts(await memory.recall("one more", scope="all"))[0] == "one more"


async def test_a_disk_that_does_not_answer_holds_nobody_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_sqlite, "DISK_TIMEOUT", 0.01)
    hangs = threading.Event()
    memory = SqliteMemory(path, busy_timeout=0)
    await memory.remember("tea", scope=None)
    worker = memory._worker
    assert worker is not None
    monkeypatch.setattr(memory_file.MemoryFile, "recall", lambda *_: hangs.wait())
    with anyio.move_on_after(0.01):
        await memory.recall("tea", scope=None)
    with pytest.raises(MemoryFailed, match=r"has not answered for 0\.01 seconds"):
        await memory.close()
    hangs.set()
    worker.thread.join()
