"""The bytes of HTTP/1.1 without a socket: what a request looks like, and what is made of an answer.

h11 is the second opinion: however an answer is framed and cut, both must read the same head and the same body, and
agree on whether the connection may be used again. Of damaged bytes ours may refuse more, and never read something else.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, NamedTuple

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from greenroom.providers.http.answer import MAX_HEAD, Answer, Head
from greenroom.providers.http.failures import BrokenBody, NotHttp, Unsendable
from greenroom.providers.http.request import written

HOST = (b"host", b"models.example")


class Read(NamedTuple):
    """What was read of an answer."""

    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    reusable: bool


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """The data in pieces, cut at these places."""
    places = sorted({place % (len(data) + 1) for place in at} - {0, len(data)})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def ours(pieces: list[bytes], *, ends: bool, method: str = "POST") -> Read | None:
    """What we make of it; None for an answer that is not whole."""
    answer, head, body = Answer(method), None, b""
    for piece in pieces:
        answer.feed(piece)
        if head is None:
            head = answer.head()
        if head is not None:
            body += answer.take()
    if head is not None and ends and not answer.ended:
        answer.close()
    if head is None or not answer.ended:
        return None
    headers = [(name, b"chunked" if value == b"Chunked" else value) for name, value in head.headers]  # as h11 has it
    return Read(head.status, head.reason, headers, body, answer.is_clean and not answer.closes and not ends)


def theirs(pieces: list[bytes], *, ends: bool, method: str = "POST") -> Read | None:
    """What h11 makes of it; None for an answer that is not whole."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    connection.send(h11.Request(method=method, target="/", headers=[HOST]))
    connection.send(h11.EndOfMessage())
    head: h11.Response | None = None
    body, ended = b"", False
    for piece in [*pieces, *([b""] if ends else [])]:
        connection.receive_data(piece)
        while not ended:
            event: Any = connection.next_event()
            match event:
                case h11.Response():
                    head = event
                case h11.Data():
                    body += event.data
                case h11.EndOfMessage():
                    ended = True
                case h11.InformationalResponse():
                    pass
                case _:
                    break
    if head is None or not ended:
        return None
    reusable = connection.their_state is h11.DONE and not connection.trailing_data[0] and not ends
    return Read(head.status_code, head.reason, list(head.headers), body, reusable)


names = st.sampled_from([b"Content-Type", b"x-request-id", b"SERVER", b"x-a", b"retry-after"])
values = st.binary(max_size=12).filter(
    lambda value: not set(value) & set(b"\0\r\n\x0b\x0c") and value.strip(b" \t\x1c\x1d\x1e\x1f\x85\xa0") == value
)
fields = st.lists(st.tuples(names, values), max_size=5)
spaces = st.sampled_from([b"", b" ", b"  ", b"\t"])


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, bool]:
    """The bytes of an answer, and whether the connection ends behind it."""
    end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\n"]))
    body = draw(st.binary(max_size=60))
    framing = draw(st.sampled_from(["chunked", "length", "until the end", "none"]))
    status = draw(st.sampled_from([204, 304])) if framing == "none" else draw(st.sampled_from([200, 201, 429, 500]))
    lines = [b"HTTP/1.%d %d%b" % (draw(st.sampled_from([1, 1, 0])), status, draw(st.sampled_from([b"", b" OK", b" "])))]
    own = {"chunked": [(b"Transfer-Encoding", b"Chunked")], "length": [(b"content-length", b"%d" % len(body))]}
    told = [*draw(fields), *own.get(framing, []), *draw(st.sampled_from([[], [(b"Connection", b"close")]]))]
    for name, value in draw(st.permutations(told)):
        lines.append(name + b":" + draw(spaces) + value + draw(spaces))
    early = b"HTTP/1.1 103 Early Hints" + end + b"link: x" + end + end if draw(st.booleans()) else b""
    data = early + end.join(lines) + end + end
    if framing == "chunked":
        for piece in cut(body, draw(st.lists(st.integers(0, 60), max_size=4))) if body else []:
            extension = draw(st.sampled_from([b"", b";a=b", b" "]))
            data += b"%x%b\r\n%b\r\n" % (len(piece), extension, piece)
        data += b"0\r\n" + draw(st.sampled_from([b"", b"x-sum: 1\r\n"])) + b"\r\n"
    elif framing != "none":
        data += body
    return data, framing == "until the end" or draw(st.booleans())


@given(answers(), st.lists(st.integers(0, 2_000), max_size=8))
def test_an_answer_is_read_as_h11_reads_it(answer: tuple[bytes, bool], at: list[int]) -> None:
    data, ends = answer
    pieces = cut(data, at)
    found = ours(pieces, ends=ends)
    assert found is not None
    assert found == theirs(pieces, ends=ends)


@given(answers(), st.integers(0, 2_000), st.binary(max_size=3), st.integers(0, 3), st.lists(st.integers(0, 2_000)))
@example((b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxy", False), 0, b"", 0, [])
def test_damage_is_never_read_as_something_else(
    answer: tuple[bytes, bool], place: int, instead: bytes, length: int, at: list[int]
) -> None:
    data, ends = answer
    place %= len(data)
    data = data[:place] + instead + data[place + length :]
    try:
        found = ours(cut(data, at), ends=ends) if data else None
    except (NotHttp, BrokenBody):
        return
    try:
        known = theirs(cut(data, at), ends=ends) if data else None
    except h11.RemoteProtocolError:
        known = None
    if found is not None and known is not None:
        assert (found.status, found.body) == (known.status, known.body)
        assert known.reusable or not found.reusable


@given(answers(), st.integers(0, 2_000))
def test_what_is_cut_off_is_never_whole(answer: tuple[bytes, bool], at: int) -> None:
    """But for a body that lasts as long as its connection."""
    data, _ = answer
    data = data[: at % len(data)]
    found = ours([data], ends=False)
    try:
        ended = ours([data], ends=True)
    except BrokenBody:
        assert found is None
        return
    assert found is None
    assert ended is None or not ended.reusable


def head_of(*lines: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", b""])


def test_everything_that_is_there_is_one_piece() -> None:
    answer = Answer("POST")
    answer.feed(head_of(b"transfer-encoding: chunked") + b"3\r\none\r\n3\r\ntwo\r\n5\r\nth")
    assert answer.head() == Head(200, b"OK", b"1.1", [(b"transfer-encoding", b"chunked")])
    assert (answer.take(), answer.take(), answer.ended) == (b"onetwoth", b"", False)
    answer.feed(b"ree\r\n0\r\n\r\n")
    assert (answer.take(), answer.ended, answer.is_clean) == (b"ree", True, True)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "begins with b'SSH"),  # at once: nothing more will come
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", "begins with"),
        (b"HTTP/1.1 099 No\r\n\r\n", "damaged"),
        (b"HTTP/1.1 2000 No\r\n\r\n", "damaged"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "damaged"),
        (b"HTTP/1.1 200 OK\r\nna me: x\r\n\r\n", "damaged"),
        (b"HTTP/1.1 200 OK\r\nname : x\r\n\r\n", "damaged"),
        (b"HTTP/1.1 200 OK\r\nname: a\rb\r\n\r\n", "damaged"),
        (b"HTTP/1.1 200 OK\r\nname: a\0b\r\n\r\n", "damaged"),
        (head_of(b"content-length: 5", b"content-length: 6"), "length"),
        (head_of(b"content-length: 5, 6"), "length"),
        (head_of(b"content-length: -1"), "length"),
        (head_of(b"content-length: 1_0"), "length"),
        (head_of(b"content-length:"), "length"),
        (head_of(b"transfer-encoding: gzip, chunked"), "encoding"),
        (head_of(b"transfer-encoding: chunked", b"transfer-encoding: chunked"), "encoding"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", "another protocol"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * MAX_HEAD, "longer"),
        (head_of(b"x: " + b"y" * MAX_HEAD), "longer"),
    ],
)
def test_a_head_that_is_none(data: bytes, words: str) -> None:
    answer = Answer("POST")
    answer.feed(data)
    with pytest.raises(NotHttp, match=words):
        answer.head()


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n",
        b"\r\n",
        b"-1\r\n",
        b"0x2\r\nab",
        b"1_0\r\n",
        b"2\nab",
        b"2 x\r\nab",
        b"2\r\nabc",
        b"2\r\nab\n",
        b"2\r\nab\rx",
        b"1;" + b"x" * MAX_HEAD,
        b"f" * 21 + b"\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\nx: " + b"y" * MAX_HEAD,
    ],
)
def test_a_body_that_is_not_chunked_as_it_says(body: bytes) -> None:
    answer = Answer("POST")
    answer.feed(head_of(b"transfer-encoding: chunked") + body)
    assert answer.head() is not None
    with pytest.raises(BrokenBody):
        while answer.take():
            pass


@pytest.mark.parametrize("framing", [b"transfer-encoding: chunked", b"content-length: 4"])
@pytest.mark.parametrize("body", [b"", b"2\r\n", b"2\r\nab"])
def test_a_connection_that_ends_before_its_body(framing: bytes, body: bytes) -> None:
    answer = Answer("POST")
    answer.feed(head_of(framing) + body[:3])
    assert answer.head() is not None
    answer.take()
    with pytest.raises(BrokenBody, match="before the body"):
        answer.close()


WHOLE = [
    head_of(b"content-length: 5") + b"hello",
    head_of(b"transfer-encoding: chunked") + b"2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nx: y\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n5\r\nhello\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("data", WHOLE)
def test_where_it_is_cut_makes_no_difference(data: bytes) -> None:
    for pieces in [[data], [bytes([byte]) for byte in data], *[[data[:at], data[at:]] for at in range(1, len(data))]]:
        read = ours(pieces, ends=False)
        assert read is not None
        assert (read.status, read.body, read.reusable) == (200, b"hello", True)


@pytest.mark.parametrize("data", WHOLE)
def test_what_follows_an_answer_is_none_of_it(data: bytes) -> None:
    for at in range(1, len(data)):
        read = ours([data[:at], data[at:] + b"HTTP/1.1 200 OK\r\n"], ends=False)
        assert read is not None
        assert (read.body, read.reusable) == (b"hello", False)


def test_a_body_that_lasts_as_long_as_its_connection_is_its_last() -> None:
    answer = Answer("POST")
    answer.feed(head_of() + b"hel")
    assert answer.head() is not None
    assert (answer.take(), answer.ended, answer.closes) == (b"hel", False, True)
    answer.feed(b"lo")
    assert (answer.take(), answer.take()) == (b"lo", b"")
    answer.close()
    assert answer.ended


def test_folded_headers_are_one_line() -> None:
    read = ours([head_of(b"x: one", b"\ttwo  ", b"  three", b"content-length: 0")], ends=False)
    assert read is not None
    assert read.headers[0] == (b"x", b"one two   three")


@pytest.mark.parametrize(
    ("head", "rest"),
    [
        (b"", head_of(b"x: a", b" b" + b" " * 90_000 + b"c")),
        (b"", head_of(b"x: a" + b" " * 90_000 + b"\0")),
        (b"", head_of(b"x: a", *[b" "] * 30_000, b"\0")),
        (b"", head_of(*[b"x:"] * 20_000, b"no colon")),
        (head_of(b"transfer-encoding: chunked"), b"1;" + b" " * 90_000),
        (head_of(b"transfer-encoding: chunked"), b"1" + b" " * 90_000),
        (head_of(b"transfer-encoding: chunked"), b"0\r\n" + b"x: y\r\n" * 15_000 + b"no colon\r\n\r\n"),
    ],
)
def test_no_line_costs_the_square_of_its_length(head: bytes, rest: bytes) -> None:
    """Nothing else runs in the event loop meanwhile: 90 KB of blanks would take it for half a minute."""
    answer = Answer("POST")
    answer.feed(head + rest)
    began = time.process_time()
    with suppress(NotHttp, BrokenBody):
        if answer.head() is not None:
            answer.take()
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize("damage", [b"zz\r\n", b"2\r\nloo", b"0\r\nno colon\r\n\r\n", b"1;" + b"x" * MAX_HEAD])
def test_what_was_whole_before_the_damage_is_handed_out(damage: bytes) -> None:
    """However it came: what a user has seen of an answer must not depend on packets."""
    data = b"2\r\nhe\r\n1\r\nl\r\n" + damage
    for pieces in [[data], *[[data[:at], data[at:]] for at in range(1, 24)]]:
        answer, body = Answer("POST"), b""
        answer.feed(head_of(b"transfer-encoding: chunked"))
        assert answer.head() is not None
        with pytest.raises(BrokenBody):
            for piece in pieces:
                answer.feed(piece)
                while taken := answer.take():
                    body += taken
        assert body == (b"hello" if damage.startswith(b"2") else b"hel")


def test_a_body_whose_last_line_has_no_carriage_return() -> None:
    data = head_of(b"transfer-encoding: chunked") + b"5\r\nhello\r\n0\r\n\n"
    read = ours([data], ends=False)
    assert read == theirs([data], ends=False)
    assert read is not None
    assert (read.body, read.reusable) == (b"hello", True)


def test_an_answer_to_head_has_no_body() -> None:
    read = ours([head_of(b"content-length: 7")], ends=False, method="HEAD")
    assert read is not None
    assert (read.body, read.reusable) == (b"", True)


def test_a_body_that_is_framed_twice_costs_the_connection() -> None:
    """Somebody in between may have read the other frame, and would be one answer behind from here on."""
    data = head_of(b"content-length: 3", b"transfer-encoding: chunked") + b"2\r\nhi\r\n0\r\n\r\n"
    read = ours([data], ends=False)
    assert read is not None
    assert (read.body, read.reusable) == (b"hi", False)


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_a_large_chunk_is_handed_out_as_it_comes(size: int) -> None:
    """Nothing waits for the end of a chunk: it may be the whole answer."""
    answer = Answer("POST")
    answer.feed(head_of(b"transfer-encoding: chunked") + b"%x\r\n" % 10_000)
    assert answer.head() is not None
    for _ in range(10_000 // size):
        answer.feed(b"x" * size)
        assert len(answer.take()) == size


# -- requests


def test_the_bytes_of_a_request() -> None:
    request = written("POST", b"/v1?x=1", [HOST, (b"X-A", b""), (b"content-length", b"2")], b"hi")
    assert request.data == b"POST /v1?x=1 HTTP/1.1\r\nhost: models.example\r\nX-A: \r\ncontent-length: 2\r\n\r\nhi"
    assert not request.closes
    assert written("GET", b"/", [HOST, (b"Connection", b"Close")], b"").closes


@pytest.mark.parametrize(
    ("method", "path", "headers", "body"),
    [
        ("PO ST", b"/", [], b""),
        ("CONNECT", b"/", [], b""),
        ("POST", b"/a b", [], b""),
        ("POST", b"/a\r\nx: y", [], b""),
        ("POST", b"/\xc3\xa9", [], b""),
        ("POST", b"/", [(b"x", b"a\r\ny: z")], b""),
        ("POST", b"/", [(b"x", b"a\ny: z")], b""),
        ("POST", b"/", [(b"x", b"a\r\n\r\nGET / HTTP/1.1")], b""),
        ("POST", b"/", [(b"x", b"a\0")], b""),
        ("POST", b"/", [(b"x: y\r\nz", b"a")], b""),
        ("POST", b"/", [(b"", b"a")], b""),
        ("POST", b"/", [(b"a b", b"a")], b""),
        ("POST", b"/", [(b"Transfer-Encoding: chunked, x", b"a")], b""),
        ("POST", b"/", [(b"Host: other.example", b"a")], b""),
        ("POST", b"/", [HOST], b""),
        ("POST", b"/", [(b"content-length", b"1")], b""),
        ("POST", b"/", [(b"content-length", b"0"), (b"Content-Length", b"0")], b""),
        ("POST", b"/", [], b"a body without its length"),
        ("POST", b"/", [(b"Transfer-Encoding", b"chunked")], b""),
    ],
)
def test_a_request_that_nobody_may_send(
    method: str, path: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    with pytest.raises(Unsendable):
        written(method, path, [HOST, *headers], body)
    with pytest.raises(Unsendable, match="one Host"):
        written("POST", b"/", [(b"x", b"y")], b"")
