"""The framings besides server-sent events: JSON lines and AWS event streams (scenario 90)."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.providers.errors import BadResponse
from greenroom.providers.framing import EventStreamFramer, Framer, NDJSONFramer, WireEvent

CUTS = st.lists(st.integers(0, 400), max_size=12)
STRING = 7


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data`, cut at these places."""
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def fed(framer: Framer, *chunks: bytes) -> list[WireEvent]:
    return [event for chunk in chunks for event in framer.feed(chunk)]


# JSON lines.


def lines(*chunks: bytes, **options: int) -> list[bytes]:
    return [event.data for event in fed(NDJSONFramer(**options), *chunks)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"\n \r\n\t\na\n\n", [b"a"]),
        (b"\xef\xbb\xbfa\n", [b"a"]),
        (b"\xef\xbb\xbf\nb\n", [b"b"]),
        (b"a\n\xef\xbb\xbfb\n", [b"a", b"\xef\xbb\xbfb"]),
        (b"a\rb\n", [b"a\rb"]),
        ("a\u2028b\u0085c\n".encode(), ["a\u2028b\u0085c".encode()]),
        (b"a", []),
        (b"", []),
    ],
)
def test_json_lines(stream: bytes, expected: list[bytes]) -> None:
    assert lines(stream) == expected
    assert lines(*[stream[at : at + 1] for at in range(len(stream))]) == expected


def test_the_unfinished_line_is_handed_out_at_the_end() -> None:
    framer = NDJSONFramer()
    assert [event.data for event in framer.feed(b"a\n{")] == [b"a"]
    assert framer.feed(b"}") == []
    assert framer.close() == WireEvent(b"{}")
    assert framer.close() is None
    framer = NDJSONFramer()
    framer.feed(b"\xef\xbb\xbf{}\r")
    assert framer.close() == WireEvent(b"{}")
    assert NDJSONFramer().close() is None


@pytest.mark.parametrize("stream", [[b"123456\n"], [b"123", b"456"], [b"12345\n", b"123456"], [b"1234", b"56\n"]])
def test_a_line_is_bounded(stream: list[bytes]) -> None:
    with pytest.raises(BadResponse, match="larger than 5 bytes"):
        lines(*stream, max_event=5)
    assert lines(b"12345\n12345\n", b"123", b"45\n", max_event=5) == [b"12345"] * 3


@pytest.mark.parametrize("last", [b"123456", b"123456\na\n"])
def test_lines_before_a_larger_one_are_handed_out(last: bytes) -> None:
    framer = NDJSONFramer(max_event=5)
    assert [event.data for event in framer.feed(b"a\nb\n" + last)] == [b"a", b"b"]
    for act in (lambda: framer.feed(b"a\n"), framer.close):
        with pytest.raises(BadResponse, match="larger than 5 bytes"):
            act()


@given(st.lists(st.text(), max_size=8), CUTS, st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_json_lines_in_any_chunks(texts: list[str], cuts: list[int], ending: bytes, mark: bool) -> None:
    data = b"".join([json.dumps(text, ensure_ascii=False).encode() + ending for text in texts])
    found = fed(NDJSONFramer(), *pieces(b"\xef\xbb\xbf" * mark + data, cuts))
    assert [json.loads(event.data) for event in found] == texts


@given(st.binary(max_size=300), CUTS)
def test_any_bytes_are_the_same_lines_in_any_chunks(data: bytes, cuts: list[int]) -> None:
    whole, cut = NDJSONFramer(), NDJSONFramer()
    assert fed(whole, data) == fed(cut, *pieces(data, cuts))
    assert whole.close() == cut.close()


# AWS event streams.


def header(name: str, value: bytes | str, kind: int = STRING) -> bytes:
    held = value.encode() if isinstance(value, str) else value
    size = struct.pack(">H", len(held)) if kind in (6, 7) else b""
    return bytes([len(name)]) + name.encode() + bytes([kind]) + size + held


def message(payload: bytes, headers: bytes = b"") -> bytes:
    """One message with right lengths and checksums."""
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return body + struct.pack(">I", zlib.crc32(body))


def named(payload: bytes, names: Mapping[str, str]) -> bytes:
    return message(payload, b"".join(header(f":{name}", value) for name, value in names.items()))


EVENT = named(b'{"a":1}', {"event-type": "chunk", "content-type": "application/json", "message-type": "event"})


@pytest.mark.parametrize(
    ("names", "payload", "expected"),
    [
        ({"message-type": "event", "event-type": "metadata"}, b"{}", WireEvent(b"{}", "metadata", "event")),
        ({"event-type": "metadata"}, b"{}", WireEvent(b"{}", "metadata", "event")),
        ({}, b"", WireEvent(b"", "", "event")),
        (
            {"message-type": "exception", "exception-type": "throttlingException"},
            b'{"message":"slow"}',
            WireEvent(b'{"message":"slow"}', "throttlingException", "exception"),
        ),
        (
            {"message-type": "error", "error-code": "InternalError", "error-message": 'a "word"'},
            b"",
            WireEvent(b'{"message":"a \\"word\\""}', "InternalError", "error"),
        ),
        (
            {"message-type": "error", "error-code": "InternalError", "error-message": "a"},
            b"{}",
            WireEvent(b"{}", "InternalError", "error"),
        ),
    ],
)
def test_what_a_message_becomes(names: dict[str, str], payload: bytes, expected: WireEvent) -> None:
    framer = EventStreamFramer()
    assert framer.feed(named(payload, names)) == [expected]
    framer.close()


def test_headers_of_every_type_are_stepped_over() -> None:
    sizes = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 6: 3, 8: 8, 9: 16}
    others = b"".join(header(f"h{kind}", b"\xff" * size, kind) for kind, size in sizes.items())
    made = message(b"{}", others + header(":event-type", "x") + others)
    assert fed(EventStreamFramer(), made) == [WireEvent(b"{}", "x", "event")]


@pytest.mark.parametrize(
    "headers",
    [
        header(":event-type", "x", 10),
        header(":event-type", "x" * 9)[:-1],
        header("n", b"\0" * 8, 5)[:-1],
        header("n", b"")[:-1],
        header("n", b"")[:2],
        b"\x01",
        b"\xff",
    ],
)
def test_broken_headers(headers: bytes) -> None:
    with pytest.raises(BadResponse, match="header"):
        EventStreamFramer().feed(message(b"", headers))


@pytest.mark.parametrize("at", range(len(EVENT)))
def test_a_changed_byte_is_noticed(at: int) -> None:
    broken = bytearray(EVENT)
    broken[at] ^= 0x20
    with pytest.raises(BadResponse, match="checksum"):
        EventStreamFramer().feed(bytes(broken))


def test_a_broken_prelude_is_not_waited_for() -> None:
    framer = EventStreamFramer()
    assert framer.feed(b"<html>Bad g") == []
    with pytest.raises(BadResponse, match="<html>Bad g"):
        framer.feed(b"a")


@pytest.mark.parametrize(("total", "headers"), [(0, 0), (15, 0), (16, 1), (100, 85)])
def test_impossible_lengths(total: int, headers: int) -> None:
    prelude = struct.pack(">II", total, headers)
    with pytest.raises(BadResponse, match="impossible length"):
        EventStreamFramer().feed(prelude + struct.pack(">I", zlib.crc32(prelude)))


def test_a_message_is_bounded() -> None:
    assert fed(EventStreamFramer(max_event=len(EVENT)), EVENT)
    with pytest.raises(BadResponse, match=f"larger than {len(EVENT) - 1} bytes"):
        EventStreamFramer(max_event=len(EVENT) - 1).feed(EVENT[:12])


def test_messages_before_a_fault_are_handed_out_and_the_fault_stays() -> None:
    framer = EventStreamFramer()
    assert len(framer.feed(EVENT + EVENT + b"x" * 12 + EVENT)) == 2
    for _ in range(2):
        with pytest.raises(BadResponse, match="checksum"):
            framer.feed(EVENT)
    with pytest.raises(BadResponse, match="checksum"):
        framer.close()


def test_a_message_that_did_not_end_is_dropped() -> None:
    framer = EventStreamFramer()
    assert len(framer.feed(EVENT + EVENT[:-1])) == 1
    framer.close()


@given(
    st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=40)), max_size=8),
    CUTS,
)
def test_messages_in_any_chunks(made: list[tuple[str, bytes]], cuts: list[int]) -> None:
    data = b"".join([named(payload, {"event-type": name}) for name, payload in made])
    framer = EventStreamFramer()
    assert [(event.event, event.data) for event in fed(framer, *pieces(data, cuts))] == made
    framer.close()


@given(st.binary(max_size=300), CUTS)
def test_any_bytes_give_the_same_messages_or_a_typed_error_in_any_chunks(data: bytes, cuts: list[int]) -> None:
    def outcome(chunks: list[bytes]) -> tuple[list[WireEvent], bool]:
        framer, events = EventStreamFramer(), list[WireEvent]()
        try:
            for chunk in chunks:
                events += framer.feed(chunk)
            framer.close()
        except BadResponse:
            return events, False
        return events, True

    assert outcome([EVENT + data]) == outcome(pieces(EVENT + data, cuts))


def test_recorded_streams(recordings: Path) -> None:
    found = 0
    for path in sorted(recordings.glob("bedrock-*/*.json")):
        record = json.loads(path.read_text())
        if "body_base64" not in record["response"]:
            continue
        found += 1
        data = base64.b64decode(record["response"]["body_base64"])
        events = fed(EventStreamFramer(), *[data[at : at + 7] for at in range(0, len(data), 7)])
        assert len(events) == record["expected"]["stream"]["events"]
        assert events[0].id == "event"
        assert all(isinstance(json.loads(event.data), dict) for event in events)
    assert found
