"""The server-sent events parser (scenario 90)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.providers.errors import BadResponse
from greenroom.providers.framing.sse import SSEParser, WireEvent


def parse(*chunks: bytes, **options: int) -> list[WireEvent]:
    parser = SSEParser(**options)
    return [event for chunk in chunks for event in parser.feed(chunk)]


def datas(*chunks: bytes) -> list[bytes]:
    return [event.data for event in parse(*chunks)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\r\n\r\n", [b"a"]),
        (b"data: a\r\r", [b"a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b"data:\n\n", [b""]),
        (b"data: a\n", []),
        (b"\n\n\n", []),
        (b": comment\n\ndata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
        (b" data: a\n\ndata: b\n\n", [b"b"]),
        (b"other: a\n\n", []),
        ("data: a\u2028b\u0085c\n\n".encode(), ["a\u2028b\u0085c".encode()]),
    ],
)
def test_lines_and_fields(stream: bytes, expected: list[bytes]) -> None:
    assert datas(stream) == expected


def test_event_and_id() -> None:
    first, second, third = parse(
        b"event: error\nid: 7\ndata: a\n\ndata: b\n\nid: x\0y\nevent:\nretry: 250\nretry: soon\ndata: c\n\n"
    )
    assert (first.event, first.id, first.data) == ("error", "7", b"a")
    assert (second.event, second.id) == ("message", "7")
    assert (third.event, third.id) == ("message", "7")


def test_retry_is_kept() -> None:
    parser = SSEParser()
    parser.feed(b"retry: 250\n\n")
    assert parser.retry == 250


def test_carriage_return_over_a_border() -> None:
    assert datas(b"data: a\r", b"\n\r", b"\ndata: b\r\n", b"\r\n") == [b"a", b"b"]


def test_characters_split_between_chunks() -> None:
    stream = "data: grüße 🎭\n\n".encode()
    parts = [stream[index : index + 1] for index in range(len(stream))]
    assert parse(*parts)[0].text == "grüße 🎭"


def test_bytes_that_are_not_utf8_become_replacements() -> None:
    assert parse(b"data: \xff\n\n")[0].text == "\ufffd"


def test_an_unfinished_event_is_told_apart() -> None:
    parser = SSEParser()
    assert parser.feed(b"data: a\n\ndata: b\ndata: c") == [WireEvent(b"a")]
    assert parser.close() == WireEvent(b"b\nc")
    assert parser.close() is None
    assert SSEParser().close() is None


@pytest.mark.parametrize(
    "stream", [b"data: " + b"x" * 200, b"data: xx\n" * 40, b"x" * 200 + b"\n", b"event: " + b"x" * 200]
)
@pytest.mark.parametrize("size", [1, 50, 10_000])
def test_an_event_is_bounded(stream: bytes, size: int) -> None:
    parts = [stream[start : start + size] for start in range(0, len(stream), size)]
    with pytest.raises(BadResponse, match="larger than 100 bytes"):
        parse(*parts, max_event=100)


def test_many_events_are_not_one_large_one() -> None:
    assert len(parse(b"data: 12345678\n\n" * 50, max_event=100)) == 50


@given(
    lines=st.lists(
        st.sampled_from(["data: a", "data: grüße 🎭", "data", ": c", "event: x", "id: 1", "", "", "junk", " data: z"]),
        max_size=30,
    ),
    endings=st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=1, max_size=5),
    mark=st.booleans(),
    cuts=st.lists(st.integers(0, 400), max_size=40),
)
def test_chunks_do_not_matter(lines: list[str], endings: list[str], mark: bool, cuts: list[int]) -> None:
    text = "".join(line + endings[index % len(endings)] for index, line in enumerate(lines))
    stream = (b"\xef\xbb\xbf" if mark else b"") + text.encode()
    places = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(places)]
    assert parse(*pieces) == parse(stream)
    by_bytes = SSEParser()
    assert [event for byte in stream for event in by_bytes.feed(bytes([byte]))] == parse(stream)


@given(st.binary(max_size=200))
def test_any_bytes_parse(stream: bytes) -> None:
    parser = SSEParser()
    whole = parser.feed(stream)
    again = SSEParser()
    assert [event for byte in stream for event in again.feed(bytes([byte]))] == whole
    assert parser.close() == again.close()
