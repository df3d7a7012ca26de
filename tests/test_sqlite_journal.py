"""The journal in a file: what every journal must do, and what only a file can do wrong."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from contextlib import nullcontext
from datetime import date, timedelta
from functools import partial
from math import nan
from pathlib import Path
from typing import Any

import anyio
import pytest

from greenroom.journal import (
    CannotOpen,
    Claim,
    Damaged,
    Fenced,
    JournalClosed,
    JournalFailed,
    MemoryJournal,
    NewerFormat,
    NotAJournal,
    RunExists,
    RunFinished,
    SqliteJournal,
    UnknownRun,
    sqlite,
    sqlite_batch,
    sqlite_file,
    sqlite_store,
    sqlite_tables,
    sqlite_writer,
)
from greenroom.journal.sqlite_batch import Call, Entry, Queue, RunState
from greenroom.testing import JOURNAL_CHECKS, run

pytestmark = pytest.mark.anyio

DURABILITIES = ("sync", "group", "none")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.journal"


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("check", JOURNAL_CHECKS, ids=lambda check: check.__name__)
async def test_it_does_what_every_journal_must(check: Any, durability: Any, path: Path) -> None:
    await check(lambda: SqliteJournal(path, durability=durability))


@pytest.mark.parametrize("check", JOURNAL_CHECKS, ids=lambda check: check.__name__)
async def test_it_does_so_too_where_it_has_very_many_runs(
    check: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_tables, "WALKED", 0)
    await check(lambda: SqliteJournal(path, durability="none"))


async def test_very_many_runs_are_not_looked_through_for_a_few(path: Path) -> None:
    """Neither for a conversation nor for a run that is not there."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 10
        return 0

    async with SqliteJournal(path, durability="none") as journal:
        for number in range(sqlite_tables.WALKED + 1):
            journal.append(journal.create(f"run {number}", conversation_id=f"talk {number // 2}"), b"a")
        await journal.read("run 0")
        await in_thread(journal, lambda store: store.connection.set_progress_handler(count, 10))
        assert [each.run_id for each in await journal.runs(conversation_id="talk 7")] == ["run 14", "run 15"]
        assert await journal.runs(conversation_id="talk") == await journal.runs(run_id="run") == []
        assert await journal.read("run") == await journal.runs(run_id="") == await journal.runs(run_id="z") == []
        with pytest.raises(UnknownRun):
            await journal.claim("run x")
        assert steps < 1000
        await journal.runs()
        assert steps > sqlite_tables.WALKED


# -- arguments


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"path": 7}, TypeError, "path is a text or a Path, not 7"),
        ({"path": ""}, ValueError, "path is that of a file"),
        ({"path": ":memory:"}, ValueError, r"MemoryJournal\(keep=True\)"),
        ({"durability": "batch"}, ValueError, "durability is one of sync, group, none, not 'batch'"),
        ({"busy_timeout": -1}, ValueError, "busy_timeout is in seconds, 0 or more"),
        ({"busy_timeout": float("nan")}, ValueError, "busy_timeout is in seconds"),
    ],
)
def test_a_wrong_argument_is_refused_with_what_would_be_right(
    arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        SqliteJournal(**{"path": "x", **arguments})


async def test_text_that_cannot_be_encoded_is_no_id(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        for arguments in ({"run_id": "\ud800"}, {"run_id": "r", "parent_id": "\ud800"}):
            with pytest.raises(ValueError, match="surrogates"):
                journal.create(**arguments)
        for question in (journal.claim("\ud800"), journal.read("\ud800"), journal.runs(conversation_id="\ud800")):
            with pytest.raises(ValueError, match="surrogates"):
                await question
        assert await journal.runs() == []


async def test_an_entry_has_a_largest_size(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LARGEST", 10)
    async with SqliteJournal(path) as journal:
        claim = journal.create("r")
        journal.append(claim, bytes(10))
        with pytest.raises(ValueError, match="at most 10 bytes, not 11"):
            journal.append(claim, bytes(11))
        assert claim.next == 1


async def test_an_entry_is_bytes(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        claim = journal.create("r")
        entry = bytearray(b"a")
        journal.append(claim, entry)  # type: ignore[arg-type]
        entry[:] = b"b"
        with pytest.raises(TypeError, match="bytes"):
            journal.append(claim, "text")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="bytes"):
            journal.append(claim, 3)  # type: ignore[arg-type]
        assert await journal.read("r") == [b"a"]


# -- opening and closing


async def test_the_file_is_its_users_alone(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        journal.append(journal.create("r"), b"a")
        await journal.read("r")
        assert len(os.listdir(path.parent)) == 3
        for name in os.listdir(path.parent):
            assert stat.S_IMODE(path.with_name(name).stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [path.name]


async def test_a_folder_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(CannotOpen, match="is a folder: give the path of a file in it"):
        await SqliteJournal(tmp_path).__aenter__()
    with pytest.raises(CannotOpen, match=r"there is no folder .*missing for the journal .*: make it first"):
        await SqliteJournal(tmp_path / "missing" / "runs.journal").__aenter__()


async def test_a_file_of_another_kind_is_left_alone(path: Path) -> None:
    path.write_text("Dear diary, " * 1000)
    before = path.read_bytes()
    with pytest.raises(NotAJournal, match="is not a journal"):
        await SqliteJournal(path).__aenter__()
    assert path.read_bytes() == before


async def test_a_database_of_somebody_else_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE runs (id)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(NotAJournal, match="is a database of something else"):
        await SqliteJournal(path).__aenter__()
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


async def test_a_file_of_a_later_version_is_refused_with_the_remedy(path: Path) -> None:
    async with SqliteJournal(path):
        pass
    execute(path, "PRAGMA user_version = 2")
    with pytest.raises(NewerFormat, match="has format 2, this version reads up to 1: upgrade greenroom"):
        await SqliteJournal(path).__aenter__()


@pytest.mark.parametrize("statement", ["DROP TABLE tally", "CREATE TABLE more (x)", "PRAGMA user_version = 0"])
async def test_other_tables_than_those_of_a_journal_are_damage(path: Path, statement: str) -> None:
    async with SqliteJournal(path):
        pass
    execute(path, statement)
    with pytest.raises(Damaged, match="its tables are not what was written"):
        await SqliteJournal(path).__aenter__()


async def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    path.touch()
    async with SqliteJournal(path) as journal:
        assert await journal.runs() == []


async def test_it_works_only_while_it_is_open(path: Path) -> None:
    """And says how to open it. It may be opened again; a claim goes on."""
    journal = SqliteJournal(path)
    assert journal.survives
    for _ in range(2):
        assert not journal.is_open
        with pytest.raises(JournalClosed, match="enter it with `async with`"):
            journal.create("r")
        with pytest.raises(JournalClosed):
            await journal.claim("r")
        with pytest.raises(JournalClosed):
            journal.append(Claim("r", 1, 0), b"x")
        with pytest.raises(JournalClosed):
            await journal.read("r")
        with pytest.raises(JournalClosed):
            await journal.runs()
        with pytest.raises(JournalClosed):
            await journal.prune(0)
        journal.release(Claim("r", 1, 0))
        async with journal:
            assert journal.is_open
            with pytest.raises(RuntimeError, match="is open already"):
                await journal.__aenter__()
    async with journal:
        claim = journal.create("r")
        journal.append(claim, b"a")
    with pytest.raises(JournalClosed):
        journal.append(claim, b"x")
    await journal.durable(claim)
    async with journal:
        journal.append(claim, b"b")
        await journal.durable(claim)
        assert await journal.read("r") == [b"a", b"b"]


async def test_closing_waits_for_the_file_even_when_it_is_cancelled(path: Path) -> None:
    with anyio.CancelScope() as scope:
        async with SqliteJournal(path) as journal:
            claim = journal.create("r")
            journal.append(claim, b"a")
            scope.cancel()
    assert not [each for each in threading.enumerate() if each.name == "greenroom-journal"]
    async with SqliteJournal(path) as journal:
        assert await journal.read("r") == [b"a"]


async def test_who_is_cancelled_while_it_opens_leaves_nothing(path: Path) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await SqliteJournal(path).__aenter__()
    gc.collect()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_journal_that_nobody_closed_ends_by_itself(path: Path, backend: str) -> None:
    """When the event loop is gone and nobody has the journal; what was appended is there."""

    async def forgets() -> None:
        journal = await SqliteJournal(path).__aenter__()
        claim = journal.create("r")
        journal.append(claim, b"a")
        await journal.durable(claim)
        journal.append(claim, b"b")

    anyio.run(forgets, backend=backend)
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "greenroom-journal":
            thread.join(10)

    async def reads() -> list[bytes]:
        async with SqliteJournal(path) as journal:
            (listed,) = await journal.runs()
            assert listed.owner is not None
            assert not listed.owner.is_running
            return await journal.read("r")

    assert anyio.run(reads) == [b"a", b"b"]


def test_a_virtual_clock_stands_still_while_the_file_is_at_work(path: Path) -> None:
    async def waits() -> None:
        with anyio.fail_after(1):
            async with SqliteJournal(path) as journal:
                claim = journal.create("r")
                for number in range(20):
                    journal.append(claim, b"%d" % number)
                    await journal.durable(claim)
        assert anyio.current_time() < 1

    for backend in ("asyncio", "trio"):
        run(waits, backend=backend)
        path.unlink()


# -- waiting


async def test_what_came_together_is_one_transaction(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    original = sqlite_store.Store.run

    def watched(self: Any, jobs: Any) -> None:
        batches.append(len(jobs))
        original(self, jobs)

    monkeypatch.setattr(sqlite_store.Store, "run", watched)
    async with SqliteJournal(path) as journal:
        claims = [journal.create(f"run {number}") for number in range(50)]
        gate = hold(journal)
        for claim in claims:
            journal.append(claim, b"a")
            journal.append(claim, b"b")
        gate.set()
        for claim in claims:
            await journal.durable(claim)
    assert max(batches) >= 99
    batches.clear()
    async with SqliteJournal(path, durability="sync") as journal:
        claim = journal.create("r")
        for _ in range(10):
            journal.append(claim, b"a")
        await journal.durable(claim)
    assert max(batches) == 1
    assert len(batches) >= 10


async def test_waiting_for_nothing_does_not_wait(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        claim = journal.create("r")
        journal.append(claim, b"a")
        await journal.durable(claim)
        for _ in range(3):
            with pytest.raises(StopIteration):
                journal.durable(claim).send(None)


async def test_a_claim_that_nobody_waited_for_is_let_go(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        claim = journal.create("r")
        journal.append(claim, b"a")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await journal.claim("r")
        await journal.read("r")
        await anyio.wait_all_tasks_blocked()
        (listed,) = await journal.runs()
        assert listed.epoch == 2
        assert listed.owner is None


async def test_one_refused_claim_fails_alone(path: Path) -> None:
    """All the others of its batch are stored, whatever it is refused for."""
    async with SqliteJournal(path) as journal:
        for name in ("fenced", "finished", "exists", "good"):
            claim = journal.create(name)
            journal.append(claim, b"0", final=name == "finished")
            await journal.durable(claim)
            journal.release(claim)
        fenced, good = Claim("fenced", 1, 1), Claim("good", 1, 1)
        await journal.claim("fenced")
        gate = hold(journal)
        twin, new = journal.create("exists"), journal.create("new")
        finished, unknown = Claim("finished", 1, 1), Claim("unknown", 1, 0)
        for claim in (fenced, twin, good, finished, new, unknown):
            journal.append(claim, b"1")
        gate.set()
        for claim, error in ((fenced, Fenced), (twin, RunExists), (finished, RunFinished), (unknown, UnknownRun)):
            for _ in range(2):
                with pytest.raises(error):
                    await journal.durable(claim)
            with pytest.raises(error):
                journal.append(claim, b"2")
        await journal.durable(good)
        await journal.durable(new)
        assert await journal.read("good") == [b"0", b"1"]
        assert await journal.read("new") == [b"1"]
        assert [each.run_id for each in await journal.runs()] == ["fenced", "finished", "exists", "good", "new"]


# -- several processes


async def test_two_journals_share_a_file(path: Path) -> None:
    async with SqliteJournal(path) as here, SqliteJournal(path) as there:
        old = here.create("r")
        here.append(old, b"a")
        await here.durable(old)
        new = await there.claim("r")
        there.append(new, b"b")
        await there.durable(new)
        here.append(old, b"stale")
        with pytest.raises(Fenced):
            await here.durable(old)
        assert await here.read("r") == await there.read("r") == [b"a", b"b"]
        here.release(old)
        twin = here.create("r")
        here.append(twin, b"x")
        with pytest.raises(RunExists):
            await here.durable(twin)


async def test_a_lock_that_is_kept_for_too_long_fails_what_waits_for_it(path: Path) -> None:
    """Reading goes on, and so does everything afterwards."""
    async with SqliteJournal(path, busy_timeout=0.01) as journal:
        claim = journal.create("r")
        journal.append(claim, b"a")
        await journal.durable(claim)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        journal.append(claim, b"b")
        with pytest.raises(JournalFailed, match=r"another process has locked the journal .* for too long"):
            await journal.durable(claim)
        with pytest.raises(JournalFailed):
            journal.append(claim, b"c")
        with pytest.raises(JournalFailed, match="another process"):
            await journal.claim("r")
        assert await journal.read("r") == [b"a"]
        assert len(await journal.runs()) == 1
        other.close()
        claim = await journal.claim("r")
        journal.append(claim, b"b")
        await journal.durable(claim)
        assert await journal.read("r") == [b"a", b"b"]


async def test_no_transaction_is_open_while_nothing_happens(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        journal.append(journal.create("r"), b"a")
        await journal.runs()
        execute(path, "BEGIN EXCLUSIVE", "COMMIT")


def python(script: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Another process with our modules."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


SEVERAL = """
import sys, anyio
from greenroom.journal import SqliteJournal

async def main(path, name):
    async with SqliteJournal(path, busy_timeout=60) as journal:
        async def one(number):
            claim = journal.create(f"{name} {number}")
            for each in range(4):
                journal.append(claim, b"%d" % each, final=each == 3)
                await journal.durable(claim)
            journal.release(claim)
        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(one, number)

anyio.run(main, *sys.argv[1:])
"""


def test_several_processes_make_and_fill_one_file(path: Path) -> None:
    processes = [python(SEVERAL, path, name) for name in "abcd"]
    for process in processes:
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 0

    async def check() -> None:
        async with SqliteJournal(path) as journal:
            listed = await journal.runs()
            assert len(listed) == 200
            for each in listed:
                assert await journal.read(each.run_id) == [b"0", b"1", b"2", b"3"]

    anyio.run(check)


KILLED = """
import sys, anyio
from greenroom.journal import SqliteJournal

async def main(path, durability):
    async with SqliteJournal(path, durability=durability) as journal:
        async def one(number):
            claim = journal.create(f"run {number}")
            for each in range(100_000):
                journal.append(claim, b"%d" % each + b"." * (each % 2000))
                await journal.durable(claim)
                print(number, each, flush=True)
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(one, number)

anyio.run(main, *sys.argv[1:])
"""


@pytest.mark.parametrize("durability", DURABILITIES)
def test_what_was_durable_is_there_after_kill_9(path: Path, durability: str) -> None:
    process = python(KILLED, path, durability)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(500)]
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()  # `communicate` would pass over what is buffered here
    assert process.communicate(timeout=30)[1] == ""
    durable: dict[str, int] = {}
    for line in [*said, *rest.splitlines(keepends=True)]:
        if line.endswith("\n"):
            number, each = line.split()
            durable[f"run {number}"] = int(each)

    async def check() -> None:
        async with SqliteJournal(path) as journal:
            listed = await journal.runs(unfinished=True)
            assert len(listed) == 10
            for each in listed:
                entries = await journal.read(each.run_id)
                assert entries == [b"%d" % place + b"." * (place % 2000) for place in range(len(entries))]
                assert len(entries) > durable[each.run_id]
                assert each.owner is not None
                assert each.owner.pid == process.pid
                assert not each.owner.is_here
                assert not each.owner.is_running
                claim = await journal.claim(each.run_id)
                assert claim.next == len(entries)

    anyio.run(check)


# -- what cannot be written


def execute(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def hold(journal: SqliteJournal) -> threading.Event:
    """Keep the writer thread busy until the event is set."""
    gate, entered = threading.Event(), threading.Event()

    def wait(store: Any) -> None:
        entered.set()
        assert gate.wait(10)

    journal._opened().queue.put(sqlite_writer.Call(wait, writes=False))
    assert entered.wait(10)
    return gate


async def in_thread(journal: SqliteJournal, function: Any) -> Any:
    """Call a function with the store, in the writer thread."""
    return await journal._opened().queue.ask(sqlite_writer.Call(function, writes=False))


async def test_a_full_disk_fails_those_who_were_writing(path: Path) -> None:
    """Who comes later may have more luck."""
    async with SqliteJournal(path) as journal:
        small = journal.create("small")
        journal.append(small, b"a")
        await journal.durable(small)
        (pages,) = await in_thread(journal, lambda store: store.connection.execute("PRAGMA page_count").fetchone())
        await in_thread(journal, lambda store: store.connection.execute(f"PRAGMA max_page_count = {pages + 3}"))
        big = journal.create("big")
        journal.append(big, b"x" * 100_000)
        for _ in range(2):
            with pytest.raises(JournalFailed, match=r"disk full.*claim the run again when there is room"):
                await journal.durable(big)
        with pytest.raises(JournalFailed, match="disk full"):
            journal.append(big, b"y")
        journal.append(small, b"b")
        await journal.durable(small)
        assert await journal.read("small") == [b"a", b"b"]
        assert [each.run_id for each in await journal.runs()] == ["small"]
        await in_thread(journal, lambda store: store.connection.execute("PRAGMA max_page_count = 100000"))
        again = journal.create("big again")
        journal.append(again, b"x" * 100_000)
        await journal.durable(again)
    async with SqliteJournal(path) as journal:
        assert [each.length for each in await journal.runs()] == [2, 1]


LIMITED = """
import resource, signal, sys, anyio
from greenroom.journal import JournalFailed, SqliteJournal

async def main(path):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    journal = await SqliteJournal(path).__aenter__()
    claim = journal.create("r")
    journal.append(claim, b"a")
    await journal.durable(claim)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    journal.append(claim, b"x" * 200_000)
    for attempt in (journal.durable(claim), journal.read("r"), journal.runs(), journal.claim("r"), journal.prune(0)):
        try:
            await attempt
        except JournalFailed as error:
            print(type(error).__name__, error)
    try:
        journal.append(claim, b"b")
    except JournalFailed as error:
        print(type(error).__name__, error)
    new = journal.create("new")
    journal.append(new, b"b")
    try:
        await journal.__aexit__(None, None, None)
    except JournalFailed as error:
        print("closing", error)

anyio.run(main, *sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_a_write_that_fails_breaks_the_journal_as_a_whole(path: Path) -> None:
    """A limit of the file's size looks like an error of the disk."""
    process = python(LIMITED, path)
    said, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    lines = said.splitlines()
    assert len(lines) == 7
    assert all("cannot be written any more" in line and str(path) in line for line in lines)

    async def check() -> None:
        async with SqliteJournal(path) as journal:
            assert await journal.read("r") == [b"a"]
            assert await journal.read("new") == []

    anyio.run(check)


FAILING = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int fails(void) { return access(getenv("FAILING"), F_OK) == 0; }
static int calls;

int fsync(int fd) {
    if (fails()) { calls++; errno = EIO; return -1; }
    return ((int (*)(int)) dlsym(RTLD_NEXT, "fsync"))(fd);
}
int fdatasync(int fd) {
    if (fails()) { calls++; errno = EIO; return -1; }
    return ((int (*)(int)) dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
int failed_calls(void) { return calls; }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t place) {
    const char *full = getenv("FULL");
    if (full && access(full, F_OK) == 0) { errno = ENOSPC; return -1; }
    return ((ssize_t (*)(int, const void *, size_t, off64_t)) dlsym(RTLD_NEXT, "pwrite64"))(fd, data, size, place);
}
"""


@pytest.fixture(scope="session")
def failing_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that lets fsync and writes fail while certain files exist."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler")
    folder = tmp_path_factory.mktemp("failing")
    folder.joinpath("failing.c").write_text(FAILING)
    library = folder / "failing.so"
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(folder / "failing.c"), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


UNSYNCED = """
import ctypes, os, sys, anyio
from pathlib import Path
from greenroom.journal import JournalFailed, SqliteJournal

failed_calls = ctypes.CDLL(None).failed_calls

async def main(path, when):
    journal = await SqliteJournal(path).__aenter__()
    claim = journal.create("r")
    journal.append(claim, b"a")
    await journal.durable(claim)
    if when == "checkpoint":
        while os.path.getsize(path + "-wal") < 3_000_000:
            journal.append(claim, b"x" * 200_000)
            await journal.durable(claim)
    Path(os.environ["FAILING"]).touch()
    try:
        if when == "commit":
            journal.append(claim, b"lost")
            await journal.durable(claim)
        else:
            await journal.__aexit__(None, None, None)
    except JournalFailed as error:
        print(error)
    print(failed_calls())
    Path(os.environ["FAILING"]).unlink()
    if when == "commit":
        try:
            await journal.claim("r")
        except JournalFailed as error:
            print(error)
        try:
            await journal.__aexit__(None, None, None)
        except JournalFailed as error:
            print(error)

anyio.run(main, *sys.argv[1:])
"""


def test_an_fsync_that_failed_is_not_tried_again(path: Path, failing_disk: Path, tmp_path: Path) -> None:
    environment = os.environ | {"LD_PRELOAD": str(failing_disk), "FAILING": str(tmp_path / "fails")}
    process = python(UNSYNCED, path, "commit", env=environment)
    said, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    first, calls, *more = said.splitlines()
    assert "cannot be written any more (disk I/O error)" in first
    assert int(calls) == 1
    assert more == [first, first]
    assert anyio.run(entries_of, path, "r")[0] == b"a"


def test_a_checkpoint_that_fails_loses_nothing(path: Path, failing_disk: Path, tmp_path: Path) -> None:
    environment = os.environ | {"LD_PRELOAD": str(failing_disk), "FAILING": str(tmp_path / "fails")}
    process = python(UNSYNCED, path, "checkpoint", env=environment)
    said, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert said.split() == ["1"]
    assert path.with_name(path.name + "-wal").exists()
    assert len(anyio.run(entries_of, path, "r")) >= 15


async def entries_of(path: Path, run_id: str) -> list[bytes]:
    async with SqliteJournal(path) as journal:
        return await journal.read(run_id)


FULL = """
import os, sys, anyio
from pathlib import Path
from greenroom.journal import JournalFailed, SqliteJournal

async def main(path):
    async with SqliteJournal(path) as journal:
        claim = journal.create("r")
        journal.append(claim, b"a")
        await journal.durable(claim)
        Path(os.environ["FULL"]).touch()
        journal.append(claim, b"b")
        try:
            await journal.durable(claim)
        except JournalFailed as error:
            print(error)
        assert await journal.read("r") == [b"a"]
        Path(os.environ["FULL"]).unlink()
        claim = await journal.claim("r")
        journal.append(claim, b"c")
        await journal.durable(claim)

anyio.run(main, *sys.argv[1:])
"""


def test_a_disk_that_has_room_again_is_used_again(path: Path, failing_disk: Path, tmp_path: Path) -> None:
    full = {"FAILING": str(tmp_path / "fails"), "FULL": str(tmp_path / "full")}
    process = python(FULL, path, env=os.environ | {"LD_PRELOAD": str(failing_disk)} | full)
    said, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert said.startswith("disk full: ")
    assert anyio.run(entries_of, path, "r") == [b"a", b"c"]


OPENED = """
import encodings.ascii, os, sys, anyio
from greenroom.journal import JournalError, SqliteJournal

async def main(path):
    try:
        async with SqliteJournal(path):
            print("open")
    except JournalError as error:
        print(type(error).__name__, error)

anyio.run(anyio.sleep, 0)  # imports what it needs
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
anyio.run(main, *sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="other permissions")
def test_what_may_not_be_written_says_so_when_it_is_opened(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = Path("/tmp") if os.getuid() == 0 else tmp_path_factory.mktemp("permissions")
    folder = folder / f"greenroom-permissions-{os.getpid()}"
    path = folder / "runs.journal"
    folder.mkdir(mode=0o755)
    try:
        anyio.run(entries_of, path, "r")
        folder.chmod(0o777)
        path.chmod(0o444)
        assert "is read-only for this user: let it read and write the file" in said_by(OPENED, path)
        path.chmod(0o666)
        folder.chmod(0o555)
        assert "lies in a folder that is read-only for this user" in said_by(OPENED, path)
        folder.chmod(0o777)
        assert said_by(OPENED, path) == "open"
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def said_by(script: str, *arguments: object) -> str:
    said, errors = python(script, *arguments).communicate(timeout=30)
    assert errors == ""
    return said.strip()


async def test_an_error_of_ours_in_the_thread_hangs_nobody(path: Path) -> None:
    def fails(store: Any) -> None:
        raise ZeroDivisionError

    async with SqliteJournal(path) as journal:
        claim = journal.create("r")
        journal.append(claim, b"a")
        with pytest.raises(JournalFailed, match="ZeroDivisionError"):
            await in_thread(journal, fails)
        with pytest.raises(JournalFailed, match="ZeroDivisionError"):
            await journal.runs()
        with pytest.raises(JournalFailed, match="ZeroDivisionError"):
            await journal.__aexit__(None, None, None)


@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_a_file_that_is_gone_takes_no_more(path: Path, how: str) -> None:
    """What nobody will find again is not called durable."""
    with pytest.raises(JournalFailed, match="deleted, moved or replaced"):
        async with SqliteJournal(path) as journal:
            claim = journal.create("r")
            journal.append(claim, b"one")
            await journal.durable(claim)
            path.unlink()
            if how == "replaced":
                path.write_bytes(b"")
            journal.append(claim, b"two")
            await journal.durable(claim)


@pytest.mark.parametrize("before", ["30d", b"x", None, True, date(2020, 1, 1), timedelta(days=30), nan, 10**400])
async def test_what_is_no_moment_forgets_nothing(path: Path, before: Any) -> None:
    """SQLite would take any text for later than every number."""
    async with SqliteJournal(path) as journal:
        journal.append(journal.create("r"), b"x", final=True)
        for each in (journal, MemoryJournal()):
            with pytest.raises(TypeError, match="seconds since 1970"):
                await each.prune(before)
        assert [listed.run_id for listed in await journal.runs()] == ["r"]


@pytest.mark.parametrize("elsewhere", ["asyncio", "trio"])
async def test_another_event_loop_is_refused(path: Path, elsewhere: str) -> None:
    """At once, with the remedy; the loop that has opened the journal goes on with it."""

    async def ask(question: Callable[[], Any]) -> None:
        with anyio.fail_after(10), pytest.raises(RuntimeError, match=r"belongs to the event loop .* in another thread"):
            answer = question()
            await answer

    async with SqliteJournal(path) as journal:
        claim = journal.create("r")
        journal.append(claim, b"a")
        await journal.durable(claim)
        questions: list[Callable[[], Any]] = [
            lambda: journal.create("s"),
            lambda: journal.append(claim, b"b"),
            lambda: journal.claim("r"),
            lambda: journal.read("r"),
            lambda: journal.runs(),
            lambda: journal.prune(1.0),
        ]
        for question in questions:
            await anyio.to_thread.run_sync(partial(anyio.run, ask, question, backend=elsewhere))
        journal.append(claim, b"c")
        await journal.durable(claim)
        assert await journal.read("r") == [b"a", b"c"]


class Taken:
    """What a thread takes out of a queue."""

    def __init__(self, queue: Queue) -> None:
        self.jobs: list[Any] = []
        self._queue = queue
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        batch = self._queue.take()
        assert batch is not None
        self.jobs = batch.jobs

    def count(self) -> int:
        """How many jobs it took, once it has."""
        self._thread.join(10)
        assert not self._thread.is_alive()
        return len(self.jobs)


def entry_for(queue: Queue) -> Entry:
    return Entry(RunState("r", 1, queue), 0, b"x", False)


@pytest.mark.parametrize(("crowd", "wanted"), [(0, 1), (1, 1), (20, 10), (1000, 64)])
def test_a_batch_waits_for_as_many_as_the_crowd_will_bring(
    monkeypatch: pytest.MonkeyPatch, crowd: int, wanted: int
) -> None:
    """Half as many entries as runs are at work, at most 64; a run that is alone waits for nobody."""
    monkeypatch.setattr(sqlite_batch, "GATHER", 60)
    queue = Queue(False, nullcontext(), lambda: crowd)
    taken = Taken(queue)
    for _ in range(wanted):
        queue.put(entry_for(queue))
    assert taken.count() == wanted


@pytest.mark.parametrize("why", ["time", "question before", "question", "end"])
def test_a_batch_waits_no_longer_than_it_has_to(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """Not when its time is over, nor when somebody asks something, nor at the end."""
    monkeypatch.setattr(sqlite_batch, "GATHER", 0 if why == "time" else 60)
    queue = Queue(False, nullcontext(), lambda: 1000)
    queue.put(entry_for(queue))
    if why == "question before":
        queue.put(Call(lambda store: None, writes=False))
    taken = Taken(queue)
    if why == "question":
        queue.put(Call(lambda store: None, writes=False))
    elif why == "end":
        queue.close()
    assert taken.count() == (2 if why.startswith("question") else 1)


def test_a_file_that_another_process_makes_at_this_moment_is_a_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks at it while it is made sees all of that, or nothing."""
    path = str(tmp_path / "runs.db")
    others: list[threading.Thread] = []

    class Watched(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if sql == "PRAGMA user_version" and not others:
                monkeypatch.undo()
                other = threading.Thread(target=lambda: sqlite_file.open_file(path, "none", 10.0).close())
                others.append(other)
                other.start()
                other.join(0.2)
            return super().execute(sql, *parameters)

    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite_file.sqlite3, "connect", lambda *args, **options: connect(*args, **options, factory=Watched)
    )
    sqlite_file.open_file(path, "none", 10.0).close()
    (other,) = others
    other.join(10)
    sqlite_file.open_file(path, "none", 10.0).close()
