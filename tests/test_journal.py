"""Runs written down: records, claims, fencing."""

from __future__ import annotations

import pytest

from greenroom.journal import (
    BadRecord,
    Began,
    Ended,
    Fenced,
    Happened,
    Intended,
    MemoryJournal,
    Record,
    Replied,
    decode,
    encode,
)

pytestmark = pytest.mark.anyio

RECORDS: list[Record] = [
    Began("r", "helper", [], [{"role": "user", "parts": []}]),
    Replied({"message": {"role": "assistant", "parts": []}}),
    Intended("call_1"),
    Happened({"call_id": "call_1", "content": "x"}),
    Ended("completed", "answered"),
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_reads_back_as_it_was_written(record: Record) -> None:
    """Bytes in between, never code."""
    assert decode(encode(record)) == record


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x93\x01\x02", encode(RECORDS[0])[:-1], b"\x91" * 2000])
def test_damaged_bytes_are_refused(data: bytes) -> None:
    """Scenario 76: with a typed error."""
    with pytest.raises(BadRecord):
        decode(data)


def test_a_newer_format_is_refused_with_the_remedy() -> None:
    """Scenario 82."""
    with pytest.raises(BadRecord, match="upgrade greenroom"):
        decode(encode(Began("r", "helper", [], [], format=99)))


async def test_records_are_read_in_the_order_in_which_they_were_appended() -> None:
    """Sequences count from zero and go on after a new claim."""
    journal = MemoryJournal()
    first = await journal.claim("r")
    assert [journal.append(first, b"a"), journal.append(first, b"b")] == [0, 1]
    second = await journal.claim("r")
    assert journal.append(second, b"c") == 2
    assert await journal.read("r") == [b"a", b"b", b"c"]
    assert await journal.read("unknown") == []


async def test_a_former_owner_is_fenced_off() -> None:
    """Scenario 77: it is refused, told so, and nothing of it is stored."""
    journal = MemoryJournal()
    old = await journal.claim("r")
    new = await journal.claim("r")
    with pytest.raises(Fenced, match="claimed again"):
        journal.append(old, b"stale")
    journal.append(new, b"fresh")
    journal.release(old)
    assert await journal.read("r") == [b"fresh"]
    journal.release(new)
    assert len(journal) == 0


async def test_a_finished_run_is_forgotten() -> None:
    """The journal in memory keeps a run only as long as it may be needed."""
    from greenroom import Agent, System
    from greenroom.providers import Scripted

    journal = MemoryJournal()
    async with System(journal=journal):
        await Agent("helper", Scripted("x")).run("Go")
        assert len(journal) == 0
