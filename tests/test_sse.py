"""The server-sent events parser (scenario 90)."""

from __future__ import annotations

import json
import random
import re
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from itertools import pairwise
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.providers.errors import BadResponse
from greenroom.providers.framing import EventStreamFramer, Framer, NDJSONFramer, event_stream, ndjson, sse
from greenroom.providers.framing.sse import SSEParser, WireEvent

from .fuzzing import fuzz


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


@pytest.mark.parametrize("line", [b": " + b"x" * 200, b"other: " + b"x" * 200, b"data: 1\n: " + b"x" * 95])
def test_the_bound_does_not_depend_on_the_chunks(line: bytes) -> None:
    """A comment is bounded too, and what came before the fault is handed out, in one chunk or in many."""
    stream = b"data: a\n\n" + line + b"\n\ndata: b\n\n"
    for size in (1, 7, 1000):
        parser, events = SSEParser(max_event=100), list[WireEvent]()
        with pytest.raises(BadResponse, match="larger than 100 bytes"):
            for start in range(0, len(stream), size):
                events += parser.feed(stream[start : start + size])
            parser.close()
        assert events == [WireEvent(b"a")]
        for again in (lambda: parser.feed(b"data: c\n\n"), parser.close):  # noqa: B023 - called at once
            with pytest.raises(BadResponse, match="larger than 100 bytes"):
                again()


@pytest.mark.parametrize("size", [1, 2, 4096])
def test_an_endless_event_costs_no_more_than_its_bound(size: int) -> None:
    """Scenario 90: whatever the chunks, the memory is that of the bytes."""
    bound = 100_000
    parser, chunk = SSEParser(max_event=bound), b"x" * size
    tracemalloc.start()
    try:
        with pytest.raises(BadResponse):
            for _ in range(2 * bound // size):
                parser.feed(chunk)
        assert tracemalloc.get_traced_memory()[1] < 3 * bound
    finally:
        tracemalloc.stop()


# Against the standard's own words, and against chance.


def by_the_standard(stream: bytes) -> list[tuple[str, str, str]]:
    """Event, data and id of each event, as the standard's section on parsing an event stream spells it out."""
    text = stream.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    lines = re.split("\r\n|\n|\r", text)[:-1]
    found: list[tuple[str, str, str]] = []
    data = event = last_id = ""
    for line in lines:
        if not line:
            if data:
                found.append((event or "message", data.removesuffix("\n"), last_id))
            data = event = ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data += value + "\n"
        elif name == "event":
            event = value
        elif name == "id" and "\0" not in value:
            last_id = value
    return found


Outcome = tuple[list[WireEvent], WireEvent | None, bool]


def outcome(framer: Framer, chunks: Iterable[bytes]) -> Outcome:
    """All events, what was left at the end, and whether it was fault. No other error may come out."""
    events: list[WireEvent] = []
    try:
        for chunk in chunks:
            events += framer.feed(chunk)
        return events, framer.close(), False
    except BadResponse:
        return events, None, True


def cut(stream: bytes, dice: random.Random) -> list[bytes]:
    """The stream in chunks of any size, empty ones too."""
    places = sorted(dice.randint(0, len(stream)) for _ in range(dice.randint(0, 12)))
    return [stream[start:end] for start, end in pairwise([0, *places, len(stream)])]


def check_framing(make: Callable[[], Framer], stream: bytes, dice: random.Random) -> None:
    """However the bytes are cut, the outcome is the same."""
    whole = outcome(make(), [stream])
    assert outcome(make(), [stream[at : at + 1] for at in range(len(stream))]) == whole
    assert outcome(make(), cut(stream, dice)) == whole


def check_sse(stream: bytes, dice: random.Random) -> None:
    check_framing(SSEParser, stream, dice)
    check_framing(lambda: SSEParser(max_event=24), stream, dice)
    assert [(each.event, each.text, each.id) for each in parse(stream)] == by_the_standard(stream)


def check_ndjson(stream: bytes, dice: random.Random) -> None:
    check_framing(NDJSONFramer, stream, dice)
    check_framing(lambda: NDJSONFramer(max_event=24), stream, dice)


def check_event_stream(stream: bytes, dice: random.Random) -> None:
    """As it is, and with its checksums put right, so that more than the first check is reached."""
    for each in (stream, resealed(stream)):
        check_framing(EventStreamFramer, each, dice)
        check_framing(lambda: EventStreamFramer(max_event=90), each, dice)


def sealed(headers: bytes, payload: bytes) -> bytes:
    """A message of an AWS event stream."""
    prelude = pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + pack(">I", zlib.crc32(prelude)) + headers + payload
    return message + pack(">I", zlib.crc32(message))


def resealed(stream: bytes) -> bytes:
    """The messages of a broken stream, with the lengths that it says and checksums that fit."""
    made = b""
    while len(stream) >= 16:
        total = min(max(int.from_bytes(stream[:4]), 16), len(stream))
        size = min(int.from_bytes(stream[4:8]), total - 16)
        made += sealed(stream[12 : 12 + size], stream[12 + size : total - 4])
        stream = stream[total:]
    return made + stream


SSE_WORDS = b"data:|data: |event:|id: |retry: 1|:|\n|\r|\r\n|\n\n|\0|\xef\xbb\xbf|\xe2\x80\xa8|\xf0\x9f\x8e\xad".split(
    b"|"
)
HEADER = b"\x0d:message-type\x07\x00\x05event\x0b:event-type\x07\x00\x01a"
FUZZED = {
    "sse": (
        check_sse,
        sse.__file__,
        [b"data: a\n\n", b"\xef\xbb\xbfevent: x\r\nid: 1\r\ndata: b\r\ndata\r\n\r\n", b": c\n\nretry: 5\ndata:d\r\r"],
        SSE_WORDS,
    ),
    "ndjson": (
        check_ndjson,
        ndjson.__file__,
        [b"{}\n[]\r\n", b"\xef\xbb\xbf\n \n1", json.dumps("ł").encode() + b"\n"],
        [b"\n", b"\r\n", b"\r", b" ", b"\xef\xbb\xbf", b"{}", b"x" * 20],
    ),
    "event stream": (
        check_event_stream,
        event_stream.__file__,
        [sealed(HEADER, b"{}"), sealed(b"", b"") * 2, sealed(b"\x01a\x00\x01b\x04\0\0\0\1", b"x")],
        [sealed(HEADER, b"{}"), HEADER, b"\x07\x00\x01", b"\x0d:message-type", b"exception", b"error", b"\0\0\0\x10"],
    ),
}


@pytest.mark.parametrize("name", FUZZED)
def test_fuzzed_framings(name: str) -> None:
    """Inputs grown by the lines that they reach; GREENROOM_FUZZ=60 looks for a minute each."""
    check, file, examples, words = FUZZED[name]
    fuzzed = fuzz(check, examples=examples, words=words, files=[file])
    print(f"{name}: {fuzzed}")
    assert fuzzed.kept > len(examples)
