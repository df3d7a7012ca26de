"""Records, and the bytes that they become."""

from __future__ import annotations

import pytest

from greenroom.journal import (
    BadRecord,
    Began,
    Ended,
    Happened,
    Intended,
    Record,
    Replied,
    Summarised,
    decode,
    encode,
)

RECORDS: list[Record] = [
    Began("r", "helper", [], [{"role": "user", "parts": []}]),
    Replied({"message": {"role": "assistant", "parts": []}}),
    Summarised(4, "a summary", 1.0, {"input_tokens": 3}, None),
    Intended("call_1"),
    Happened({"call_id": "call_1", "content": "x"}),
    Ended("completed", "answered"),
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_reads_back_as_it_was_written(record: Record) -> None:
    """Bytes in between, never code."""
    assert decode(encode(record)) == [record]


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x93\x01\x02", encode(RECORDS[0])[:-1], b"\x91" * 2000])
def test_damaged_bytes_are_refused(data: bytes) -> None:
    """Scenario 76: with a typed error."""
    with pytest.raises(BadRecord):
        decode(data)


def test_a_newer_format_is_refused_with_the_remedy() -> None:
    """Scenario 82."""
    with pytest.raises(BadRecord, match="upgrade greenroom"):
        decode(encode(Began("r", "helper", [], [], format=99)))
