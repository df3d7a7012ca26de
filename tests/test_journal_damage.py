"""A journal's file in which bytes have changed: what was written, or an error that says where. Never anything else."""

from __future__ import annotations

import itertools
import logging
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.journal import (
    CannotOpen,
    Claim,
    Damaged,
    JournalError,
    Listed,
    NotAJournal,
    SqliteJournal,
    UnknownRun,
    sqlite_file,
    sqlite_tables,
)
from greenroom.journal.wal import FRAME, HEADER, Walk, walk

pytestmark = pytest.mark.anyio

RUNS = 12
STEP = FRAME + 4096


def data_of(run: int, place: int) -> bytes:
    return b"%d:%d." % (run, place) * (50 + 37 * run * place % 400)


async def fill(journal: SqliteJournal) -> None:
    """A transaction for each round: a few entries of each run."""
    claims = [journal.create(f"run {number}", conversation_id="talk") for number in range(RUNS)]
    for place in range(6):
        for number, claim in enumerate(claims):
            journal.append(claim, data_of(number, place), final=place == 5 and number % 2 == 0)
        await journal.durable(claims[-1])


class Files(NamedTuple):
    """A whole journal as bytes: after its end, and as a killed process leaves it."""

    closed: bytes
    file: bytes
    log: bytes


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("whole")
    path = folder / "runs.journal"

    async def make() -> tuple[bytes, bytes]:
        async with SqliteJournal(path):
            pass
        async with SqliteJournal(path) as journal:
            await fill(journal)
            return path.read_bytes(), path.with_name("runs.journal-wal").read_bytes()

    file, log = anyio.run(make)
    return Files(path.read_bytes(), file, log)


async def check(path: Path, *, tail: bool = False) -> str:
    """Read all of it; the first error, or "". With `tail`, the last transactions may be missing, but only as a whole.

    Raises:
        AssertionError: something wrong was told as if it were right.
    """
    errors: list[JournalError] = []
    try:
        async with SqliteJournal(path) as journal:
            try:
                listed = await journal.runs()
            except JournalError as error:
                errors.append(error)
                others: list[Listed] = [each for each in getattr(error, "others", ()) if isinstance(each, Listed)]
                for each in others:
                    assert_right(each, None)
            else:
                assert len(listed) == RUNS or tail
                assert len({each.length for each in listed}) <= 1
                for each in listed:
                    assert_right(each, None if tail else 6)
            lengths: set[int] = set()
            for number in range(RUNS):
                try:
                    entries = await journal.read(f"run {number}")
                except JournalError as error:
                    errors.append(error)
                    continue
                assert entries == [data_of(number, place) for place in range(len(entries))]
                assert len(entries) == 6 or tail
                lengths.add(len(entries))
            assert len(lengths) <= 1
            # What can be claimed goes on where it was.
            try:
                claim = await journal.claim("run 1")
                assert claim.next in (lengths or {6, claim.next})
                journal.append(claim, b"more")
                await journal.durable(claim)
                assert (await journal.read("run 1"))[-1] == b"more"
            except (Damaged, UnknownRun) as error:
                errors.append(error)
    except (Damaged, CannotOpen) as error:
        errors.append(error)
    for error in errors:
        assert isinstance(error, Damaged | CannotOpen) or (tail and isinstance(error, UnknownRun))
        assert str(path) in str(error) or isinstance(error, UnknownRun)
    return str(errors[0]) if errors else ""


def assert_right(listed: Listed, length: int | None) -> None:
    number = int(listed.run_id.removeprefix("run "))
    assert listed.run_id == f"run {number}"
    assert length is None or listed.length == length
    assert listed.size == sum(len(data_of(number, place)) for place in range(listed.length))
    assert listed.finished == (listed.length == 6 and number % 2 == 0)
    assert listed.conversation_id == "talk"
    assert listed.epoch == 1


def flipped(data: bytes, offset: int, bit: int = 0) -> bytes:
    return data[:offset] + bytes([data[offset] ^ (1 << bit)]) + data[offset + 1 :]


def places(data: bytes, count: int, seed: int) -> list[int]:
    """Offsets all over the data, and many near the beginnings of pages, where their structure lies."""
    dice = random.Random(seed)
    pages = [page + dice.randrange(64) for page in range(0, len(data) - 64, 4096)]
    return sorted({*range(0, 100, 7), *pages, *(dice.randrange(len(data)) for _ in range(count))})


# -- the file


def everywhere(tmp_path: Path, changed: Callable[[int], Files], offsets: list[int], tail: bool = False) -> list[str]:
    """What is said about each change."""
    said: list[str] = []

    async def try_all() -> None:
        for offset in offsets:
            path = tmp_path / f"{offset}.journal"
            after = changed(offset)
            path.write_bytes(after.file)
            if after.log:
                path.with_name(f"{path.name}-wal").write_bytes(after.log)
            try:
                said.append(await check(path, tail=tail))
            except BaseException as error:
                error.add_note(f"at byte {offset}")
                raise
            for each in tmp_path.glob(f"{offset}.*"):
                each.unlink()

    anyio.run(try_all)
    return said


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_bit_in_the_file_is_found_or_means_nothing(files: Files, tmp_path: Path, seed: int) -> None:
    def changed(offset: int) -> Files:
        return Files(b"", flipped(files.closed, offset, (offset + seed) % 8), b"")

    said = everywhere(tmp_path, changed, places(files.closed, 60, seed))
    assert sum("damaged" in each for each in said) > len(said) // 3


@pytest.mark.parametrize("fill", [b"\x00", b"\xff", b"a"])
def test_an_overwritten_piece_of_the_file_is_found_or_means_nothing(files: Files, tmp_path: Path, fill: bytes) -> None:
    def changed(offset: int) -> Files:
        return Files(b"", (files.closed[:offset] + fill * 512 + files.closed[offset + 512 :]), b"")

    said = everywhere(tmp_path, changed, list(range(0, len(files.closed) - 512, 1536)))
    assert sum("damaged" in each for each in said) > len(said) // 3


def test_a_file_of_a_few_bytes_is_left_alone(tmp_path: Path) -> None:
    """SQLite would take it for an empty one."""
    path = tmp_path / "notes"
    path.write_text("x")
    with pytest.raises(NotAJournal, match="too short"):
        anyio.run(SqliteJournal(path).__aenter__)
    assert path.read_text() == "x"


def test_a_file_that_was_cut_is_damaged(files: Files, tmp_path: Path) -> None:
    def changed(offset: int) -> Files:
        return Files(b"", files.closed[:offset], b"")

    offsets = [*range(1, 4096, 511), *range(4096, len(files.closed), 4096), len(files.closed) - 1]
    said = everywhere(tmp_path, changed, offsets)
    assert all(said)


def test_a_zeroed_tail_of_the_file_is_damaged(files: Files, tmp_path: Path) -> None:
    def changed(offset: int) -> Files:
        return Files(b"", files.closed[:offset] + bytes(len(files.closed) - offset), b"")

    said = everywhere(tmp_path, changed, list(range(4096, len(files.closed) - 4096, 4096)))
    assert all(said)


# -- its rows


@pytest.fixture
def path(files: Files, tmp_path: Path) -> Path:
    path = tmp_path / "runs.journal"
    path.write_bytes(files.closed)
    return path


def execute(path: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement, values)
    connection.close()


@pytest.mark.parametrize(
    "change",
    [
        *("epoch = epoch + 1", "length = length - 1", "size = 0", "finished = 0", "parent = 'x'", "parent = ''"),
        *("conversation = NULL", "created = created - 1", "changed = changed + 1", "owner = 1", "checksum = 0"),
        *("length = 'six'", "created = 'long ago'", "epoch = x'00'", "conversation = CAST(x'ff' AS TEXT)"),
    ],
)
async def test_a_changed_row_of_a_run_is_named(path: Path, change: str) -> None:
    """Everybody else's is not concerned."""
    execute(path, f"UPDATE runs SET {change} WHERE id = 'run 4'")
    async with SqliteJournal(path) as journal:
        with pytest.raises(Damaged, match=r"runs\.journal, run 'run 4' is damaged: its row is not what") as caught:
            await journal.runs()
        assert caught.value.run_id == "run 4"
        others = [each for each in caught.value.others if isinstance(each, Listed)]
        assert [each.run_id for each in others] == [f"run {number}" for number in range(RUNS) if number != 4]
        for question in (journal.read("run 4"), journal.claim("run 4"), journal.runs(run_id="run 4")):
            with pytest.raises(Damaged, match="run 'run 4'"):
                await question
        stale = Claim("run 4", 1, 6)
        journal.append(stale, b"x")
        good = Claim("run 5", 1, 6)
        journal.append(good, b"x")
        with pytest.raises(Damaged, match="run 'run 4'"):
            await journal.durable(stale)
        await journal.durable(good)
        assert len(await journal.read("run 5")) == 7
        assert len(await journal.runs(run_id="run 5")) == 1


@pytest.mark.parametrize(
    ("statement", "sequence", "text"),
    [
        ("DELETE FROM entries WHERE run = 5 AND sequence = 3", 3, "it is missing"),
        ("DELETE FROM entries WHERE run = 5 AND sequence = 5", 5, "6 entries were written, 5 are there"),
        ("UPDATE entries SET bytes = x'00' WHERE run = 5 AND sequence = 2", 2, "it is not what was written"),
        ("UPDATE entries SET bytes = 'text' WHERE run = 5 AND sequence = 2", 2, "it is not what was written"),
        ("UPDATE entries SET epoch = 2 WHERE run = 5 AND sequence = 2", 2, "it is not what was written"),
        ("UPDATE entries SET checksum = 'x' WHERE run = 5 AND sequence = 0", 0, "it is not what was written"),
        ("UPDATE entries SET sequence = 6 WHERE run = 5 AND sequence = 0", 0, "it is missing"),
        ("UPDATE entries SET run = 5, sequence = 6 WHERE run = 4 AND sequence = 0", 6, "it is not what was written"),
        (
            "INSERT INTO entries SELECT NULL, 5, 6, epoch, checksum, bytes FROM entries WHERE run = 5 AND sequence = 5",
            6,
            "it is not what was written",
        ),
    ],
)
async def test_a_changed_entry_is_named(path: Path, statement: str, sequence: int, text: str) -> None:
    execute(path, statement)
    async with SqliteJournal(path) as journal:
        with pytest.raises(Damaged, match=rf"run 'run 4', entry {sequence} is damaged: {text}") as caught:
            await journal.read("run 4")
        assert (caught.value.run_id, caught.value.sequence) == ("run 4", sequence)
        assert len(await journal.read("run 5")) == 6
        assert len(await journal.runs()) == RUNS


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("DELETE FROM runs WHERE id = 'run 4'", "12 runs were written, 11 are there"),
        ("UPDATE tally SET runs = 13", "the number of its runs is not what was written"),
        ("DELETE FROM tally", "the number of its runs is not what was written"),
    ],
)
async def test_a_run_that_vanished_is_missed(path: Path, statement: str, text: str) -> None:
    execute(path, statement)
    async with SqliteJournal(path) as journal:
        with pytest.raises(Damaged, match=text) as caught:
            await journal.runs()
        assert len(caught.value.others) == RUNS - ("DELETE FROM runs" in statement)
        for question in (journal.read("unknown"), journal.claim("unknown"), journal.runs(run_id="unknown")):
            with pytest.raises(Damaged):
                await question
        assert len(await journal.read("run 5")) == 6


@pytest.mark.parametrize("index", ["sqlite_autoindex_runs_1", "runs_of_conversation"])
@pytest.mark.parametrize(
    "change", [lambda byte: byte ^ 1, lambda byte: 0, lambda byte: 0xFF], ids=["bit", "low", "high"]
)
def test_a_changed_key_of_an_index_is_noticed_where_it_leads_astray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: str, change: Callable[[int], int]
) -> None:
    """Also in a file that has too many runs to look through all of them."""
    monkeypatch.setattr(sqlite_tables, "WALKED", 0)
    path = tmp_path / "runs.journal"
    column = "conversation" if "conversation" in index else "id"

    async def fill_it() -> None:
        async with SqliteJournal(path, durability="none") as journal:
            for number in range(400):
                journal.append(journal.create(f"run {number}", conversation_id=f"talk {number % 100}"), b"a")

    async def look() -> None:
        async with SqliteJournal(path) as journal:
            for number in range(400):
                with suppress(Damaged):
                    assert len(await journal.runs(run_id=f"run {number}")) == 1
            for number in range(100):
                with suppress(Damaged):
                    listed = await journal.runs(conversation_id=f"talk {number}")
                    assert [each.run_id for each in listed] == [f"run {number + each}" for each in range(0, 400, 100)]
            for value in ("run", "run 99x", "talk", "zzz", ""):
                with suppress(Damaged):
                    assert await journal.runs(run_id=value) == await journal.runs(conversation_id=value) == []

    anyio.run(fill_it)
    whole = path.read_bytes()
    connection = sqlite3.connect(path)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (index,)).fetchone()
    connection.close()
    # Keys of that index lie in its root, and in pages that hold nothing but such keys.
    begin = b"talk " if column == "conversation" else b"run "
    pages = [root - 1, *(page for page in range(len(whole) // 4096) if whole[page * 4096] in (2, 10))]
    tried = 0
    for page in sorted(set(pages)):
        content = whole[page * 4096 : (page + 1) * 4096]
        keys = [place for place in range(4096) if content.startswith(begin, place)]
        for place in keys[:: max(1, len(keys) // 6)]:
            offset = page * 4096 + place + len(begin)
            path.write_bytes(whole[:offset] + bytes([change(whole[offset])]) + whole[offset + 1 :])
            anyio.run(look)
            tried += 1
    assert tried > 10


async def test_a_doubled_run_is_found(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE other AS SELECT * FROM runs WHERE id = 'run 4'")
    connection.execute("UPDATE other SET number = 99, id = 'run 99'")
    connection.execute("INSERT INTO runs SELECT * FROM other")
    connection.execute("DROP TABLE other")
    connection.close()
    async with SqliteJournal(path) as journal:
        with pytest.raises(Damaged, match="run 'run 99' is damaged"):
            await journal.runs()


async def test_an_entry_in_the_way_is_damage_of_its_run_alone(path: Path) -> None:
    """The others of the batch are stored, new runs too."""
    execute(path, "INSERT INTO entries SELECT NULL, 6, 6, epoch, checksum, bytes FROM entries WHERE place = 1")
    async with SqliteJournal(path) as journal:
        good, bad, new = Claim("run 3", 1, 6), Claim("run 5", 1, 6), journal.create("new")
        for claim in (good, bad, new):
            journal.append(claim, b"a")
            journal.append(claim, b"b")
        with pytest.raises(Damaged, match="run 'run 5' is damaged"):
            await journal.durable(bad)
        await journal.durable(good)
        await journal.durable(new)
        assert (await journal.read("run 3"))[6:] == await journal.read("new") == [b"a", b"b"]
        assert [each.length for each in await journal.runs()] == [6, 6, 6, 8, *[6] * 8, 2]
        with pytest.raises(Damaged, match="run 'run 5', entry 6"):
            await journal.read("run 5")


async def test_without_a_tally_old_runs_go_on(path: Path) -> None:
    execute(path, "UPDATE tally SET runs = 0")
    async with SqliteJournal(path) as journal:
        good, new = Claim("run 3", 1, 6), journal.create("new")
        for claim in (good, new):
            journal.append(claim, b"a")
        with pytest.raises(Damaged, match="the number of its runs"):
            await journal.durable(new)
        await journal.durable(good)
        assert (await journal.read("run 3"))[6:] == [b"a"]


async def test_pruning_goes_round_a_damaged_run(path: Path) -> None:
    """And says so when it is done."""
    execute(path, "UPDATE runs SET size = 1 WHERE id = 'run 4'")
    async with SqliteJournal(path) as journal:
        with pytest.raises(Damaged, match="run 'run 4'") as caught:
            await journal.prune(1e12)
        assert caught.value.run_id == "run 4"
        with pytest.raises(Damaged) as caught:
            await journal.runs()
        left = [each.run_id for each in caught.value.others if isinstance(each, Listed)]
        assert left == [f"run {number}" for number in range(1, RUNS, 2)]


# -- the log


def with_log(files: Files, log: bytes) -> Files:
    return Files(b"", files.file, log)


def commits_of(log: bytes) -> list[int]:
    """Where transactions end."""
    return [
        offset + STEP for offset in range(HEADER, len(log), STEP) if int.from_bytes(log[offset + 4 : offset + 8], "big")
    ]


def test_a_walk_sees_what_is_there(files: Files) -> None:
    found = walk(files.log)
    assert found == Walk(len(files.log), (len(files.log) - HEADER) // STEP, None, 0, 0, 0)
    assert len(commits_of(files.log)) >= 6
    assert walk(b"") == Walk(0, 0, None, 0, 0, 0)
    assert walk(bytes(5)).left_out == 5
    assert not walk(bytes(40_000)).is_damaged


def test_zeroes_and_another_log_behind_the_last_frame_mean_nothing(files: Files) -> None:
    old = bytearray(files.log)
    for offset in range(HEADER, len(old), STEP):
        old[offset + 8 : offset + 16] = b"old salt"
    middle = commits_of(files.log)[2]
    for log in (files.log + bytes(100_000), files.log + old[HEADER:], files.log[:middle] + old[middle:]):
        found = walk(bytes(log))
        assert (found.bad, found.left_out) == (None, 0)
        assert found.end in (len(files.log), middle)


def test_each_changed_bit_of_the_log_is_seen(files: Files) -> None:
    last = commits_of(files.log)[-2]
    for offset in places(files.log, 200, 1):
        found = walk(flipped(files.log, offset))
        if offset >= HEADER and (offset - HEADER) % STEP < 8 and found.bad is None:
            pytest.fail(f"byte {offset} may be anything")
        assert found.bad == (0 if offset < HEADER else (offset - HEADER) // STEP + 1)
        assert found.is_damaged == (offset < last)
        assert found.end <= offset
        assert found.end + found.left_out == len(files.log)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.integers(0, 20_000), st.integers(0, 20_000))
def test_a_walk_through_anything_ends(noise: bytes, start: int, length: int) -> None:
    walk(noise)
    walk((noise * 100)[start : start + length])


@pytest.mark.parametrize("seed", range(2))
def test_a_changed_bit_in_the_log_loses_at_most_the_last_transaction(files: Files, tmp_path: Path, seed: int) -> None:
    last = commits_of(files.log)[-2]
    offsets = places(files.log, 40, seed)
    said = everywhere(
        tmp_path, lambda offset: with_log(files, flipped(files.log, offset, offset % 8)), offsets, tail=True
    )
    for offset, text in zip(offsets, said, strict=True):
        assert ("transactions from there on would be lost" in text) == (offset < last)


def test_damage_in_the_log_is_named_and_nothing_is_touched(files: Files, tmp_path: Path) -> None:
    path, log = tmp_path / "runs.journal", tmp_path / "runs.journal-wal"
    path.write_bytes(files.file)
    log.write_bytes(flipped(files.log, HEADER + 2 * STEP + 1000))
    commits = sum(end > HEADER + 2 * STEP for end in commits_of(files.log))
    with pytest.raises(
        Damaged, match=rf"frame 3, at byte {HEADER + 2 * STEP}; {commits} transactions from there on would be lost"
    ):
        anyio.run(SqliteJournal(path).__aenter__)
    assert path.read_bytes() == files.file
    assert log.read_bytes() == flipped(files.log, HEADER + 2 * STEP + 1000)


def test_a_torn_log_holds_all_before_it(files: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Cut anywhere, or cut and followed by zeroes or by old frames: a prefix of the transactions, and a word."""
    ends = [HEADER, *commits_of(files.log)]
    dice = random.Random(3)
    offsets = sorted({*ends, *(end - 1 for end in ends), *(dice.randrange(len(files.log)) for _ in range(30)), 0, 31})
    for zeroes in (0, 50_000):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "greenroom"):
            said = everywhere(
                tmp_path,
                lambda offset, zeroes=zeroes: with_log(files, files.log[:offset] + bytes(zeroes)),
                offsets,
                tail=True,
            )
        assert not any("lost" in text for text in said)
        warned = {int(record.args[0].rpartition("/")[2].partition(".")[0]): record.args[1] for record in caplog.records}  # type: ignore[union-attr, index]
        for offset in offsets:
            end = max((end for end in ends if end <= offset), default=0)
            whole = (offset - HEADER) // STEP * STEP + HEADER
            if offset > HEADER and offset != end and (zeroes == 0 or offset - whole >= 16 or whole > end):
                assert warned[offset] >= min(offset - end, 16)


def test_a_torn_end_is_met_once(files: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What follows is not mixed up with what was left of it."""
    path, log = tmp_path / "runs.journal", tmp_path / "runs.journal-wal"
    path.write_bytes(files.file)
    end = commits_of(files.log)[-2]
    log.write_bytes(flipped(files.log, end + 100))

    async def go_on() -> None:
        journal = await SqliteJournal(path).__aenter__()
        claim = await journal.claim("run 1")
        assert claim.next == 5
        journal.append(claim, b"new")
        await journal.durable(claim)
        shutil.copy(path, tmp_path / "copy.journal")
        shutil.copy(log, tmp_path / "copy.journal-wal")
        await journal.__aexit__(None, None, None)
        caplog.clear()
        async with SqliteJournal(tmp_path / "copy.journal") as journal:
            assert (await journal.read("run 1"))[-1] == b"new"

    with caplog.at_level(logging.WARNING, "greenroom"):
        anyio.run(go_on)
    assert caplog.records == []


def test_a_log_without_its_file_is_damage(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "runs.journal"
    for make in (lambda: None, path.touch):
        path.with_name("runs.journal-wal").write_bytes(files.log)
        make()
        with pytest.raises(Damaged, match="the file is empty, but its log"):
            anyio.run(SqliteJournal(path).__aenter__)
        assert path.with_name("runs.journal-wal").read_bytes() == files.log


def test_a_log_that_is_written_at_this_moment_is_looked_at_again(
    path: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torn and mixed up for a reader, and whole a moment later."""
    damaged = walk(flipped(files.log, HEADER + 100))
    assert damaged.is_damaged
    looks = itertools.chain([damaged, damaged], itertools.repeat(walk(b"")))
    monkeypatch.setattr(sqlite_file, "_walk", lambda path: next(looks))
    anyio.run(partial(check, path))
