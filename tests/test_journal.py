"""Journals: the one in memory, and whose a run is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from greenroom.journal import MemoryJournal, Owner, UnknownRun, owners
from greenroom.testing import JOURNAL_CHECKS

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("check", JOURNAL_CHECKS, ids=lambda check: check.__name__)
async def test_the_journal_in_memory_does_what_every_journal_must(check: Any) -> None:
    kept = MemoryJournal(keep=True)
    await check(lambda: kept)


async def test_a_journal_in_memory_works_without_being_opened() -> None:
    journal = MemoryJournal()
    claim = journal.create("r")
    assert [journal.append(claim, b"a"), journal.append(claim, b"b")] == [0, 1]
    await journal.durable(claim)
    assert await journal.read("r") == [b"a", b"b"]
    assert not journal.is_open
    assert (await journal.runs())[0].owner is None


async def test_a_journal_in_memory_forgets_what_its_owner_releases() -> None:
    """The former owner has nothing to release any more."""
    journal = MemoryJournal()
    old = journal.create("r")
    journal.append(old, b"a")
    new = await journal.claim("r")
    journal.release(old)
    assert await journal.read("r") == [b"a"]
    journal.release(new)
    assert len(journal) == 0
    with pytest.raises(UnknownRun):
        await journal.claim("r")


async def test_a_journal_in_memory_says_whether_it_keeps_runs() -> None:
    assert not MemoryJournal().survives
    assert MemoryJournal(keep=True).survives


async def test_a_finished_run_is_forgotten() -> None:
    """The journal in memory keeps a run only as long as it may be needed."""
    from greenroom import Agent, System
    from greenroom.providers import Scripted

    journal = MemoryJournal()
    async with System(journal=journal):
        await Agent("helper", Scripted("x")).run("Go")
        assert len(journal) == 0


# -- owners


def test_an_owner_is_a_process_and_an_opening() -> None:
    me = owners.opened()
    assert me.is_here
    assert me.is_running
    owners.closed(me)
    assert me.is_here
    assert not me.is_running


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def owner_of(pid: int, **changes: Any) -> Owner:
    me = owners.opened()
    owners.closed(me)
    return msgspec.structs.replace(me, **{"pid": pid, "started": owners._state_and_start(pid)[1], **changes})


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells all of it on Linux only")
def test_another_process_runs_until_it_is_stopped_or_ended(other: subprocess.Popen[bytes]) -> None:
    owner = owner_of(other.pid)
    assert not owner.is_here
    assert owner.is_running
    other.send_signal(signal.SIGSTOP)
    os.waitpid(other.pid, os.WUNTRACED)
    assert not owner.is_running
    other.send_signal(signal.SIGCONT)
    os.waitpid(other.pid, os.WCONTINUED)
    assert owner.is_running
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
    assert not owner.is_running
    other.wait()
    assert not owner.is_running


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells all of it on Linux only")
@pytest.mark.parametrize("changes", [{"started": 1}, {"boot": "another"}, {"namespace": "pid:[1]"}], ids=str)
def test_a_process_of_another_time_or_place_is_not_believed_to_run(
    other: subprocess.Popen[bytes], changes: dict[str, Any]
) -> None:
    assert not owner_of(other.pid, **changes).is_running
    assert not owner_of(os.getpid(), **changes).is_here


def test_where_only_numbers_are_known_a_process_of_that_number_runs(
    other: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners.sys, "platform", "darwin")
    assert owners._is_running(other.pid, 0)
    other.kill()
    other.wait()
    assert not owners._is_running(other.pid, 0)
    assert not owners._is_running(2**80, 0)
    monkeypatch.setattr(owners.sys, "platform", "win32")
    assert not owners._is_running(os.getpid(), 0)
