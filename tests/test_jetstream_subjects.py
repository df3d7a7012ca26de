"""Names of subjects, addresses of servers, and frames: what is pure."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.jetstream.frames import (
    HEADER,
    Frame,
    Meta,
    Unreadable,
    entries_of,
    fillings,
    listed,
    meta_text,
    read_meta,
)
from greenroom.jetstream.journal_lists import Found, known_runs, old_families
from greenroom.jetstream.servers import servers_at
from greenroom.jetstream.subjects import check_prefix, stream, subject, token
from greenroom.journal import Listed, Owner

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


# -- subjects


@given(TEXTS)
def test_any_text_has_a_token(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_%-]{1,200}", token(text))


@given(TEXTS, TEXTS)
def test_no_two_texts_have_the_same_token(one: str, two: str) -> None:
    assert (token(one) == token(two)) == (one == two)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run-1_A", "run-1_A"),
        ("", "%"),
        ("%", "%25"),
        ("a.b c*>", "a%2Eb%20c%2A%3E"),
        ("é", "%C3%A9"),
        ("\x00\n", "%00%0A"),
        ("x" * 200, "x" * 200),
    ],
)
def test_a_token_is_readable_where_it_can_be(text: str, expected: str) -> None:
    assert token(text) == expected


@pytest.mark.parametrize("text", ["x" * 201, "." * 67, "é" * 34])
def test_a_long_text_is_known_by_its_hash(text: str) -> None:
    assert re.fullmatch(r"%%[0-9a-f]{64}", token(text))


def test_half_a_character_has_no_token() -> None:
    with pytest.raises(UnicodeEncodeError):
        token("\ud800")


def test_names_begin_with_the_prefix() -> None:
    assert subject("greenroom", "journal", "a.b") == "greenroom.journal.a%2Eb"
    assert stream("greenroom", "journal") == "greenroom_JOURNAL"


@pytest.mark.parametrize("prefix", ["greenroom", "a", "0", "a-b_C", "x" * 100])
def test_prefixes(prefix: str) -> None:
    assert check_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["", ".", "a.b", "*", "-a", "_a", "a b", "é", "x" * 101, "a\n"])
def test_prefixes_that_no_server_takes(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix="):
        check_prefix(prefix)


@pytest.mark.parametrize("prefix", [None, 1, b"a"])
def test_prefixes_that_are_no_text(prefix: Any) -> None:
    with pytest.raises(TypeError, match="prefix="):
        check_prefix(prefix)


# -- servers


@pytest.mark.parametrize(
    ("given", "urls", "names"),
    [
        ("localhost", ("nats://localhost:4222",), "localhost:4222"),
        ("host:1", ("nats://host:1",), "host:1"),
        ("nats://host", ("nats://host:4222",), "host:4222"),
        ("tls://host:9/", ("tls://host:9",), "host:9"),
        ("wss://host:443", ("wss://host:443",), "host:443"),
        ("nats://[::1]:5", ("nats://[::1]:5",), "[::1]:5"),
        (["a", "tls://b:2"], ("nats://a:4222", "tls://b:2"), "a:4222, b:2"),
    ],
)
def test_addresses_of_servers(given: Any, urls: tuple[str, ...], names: str) -> None:
    servers = servers_at(given)
    assert (servers.urls, servers.names) == (urls, names)
    assert (servers.user, servers.password, servers.token) == (None, None, None)


def test_secrets_are_taken_out_of_addresses() -> None:
    """In plain text, and shown nowhere."""
    servers = servers_at(["nats://me:se%40cret@a", "nats://me:se%40cret@b:1", "nats://c"])
    assert (servers.user, servers.password, servers.token) == ("me", "se@cret", None)
    assert servers.urls == ("nats://a:4222", "nats://b:1", "nats://c:4222")
    assert "cret" not in repr(servers)
    servers = servers_at("tls://to%2Fken@host:1")
    assert (servers.user, servers.password, servers.token) == (None, None, "to/ken")
    assert repr(servers) == "<NATS at host:1>"


@pytest.mark.parametrize(
    "given",
    [
        [],
        "",
        "http://user:secret@host",
        "nats://",
        "nats://user:secret@",
        "nats://user:secret@host:no",
        "nats://user:secret@host:99999",
        "nats://host:0",
        "nats://user:secret@host/path",
        "nats://host?tls=secret",
        "nats://user:secret @host",
        ["nats://a", "ws://b"],
        ["nats://user:secret@a", "nats://user:secret2@b"],
    ],
)
def test_addresses_that_are_none(given: Any) -> None:
    with pytest.raises(ValueError, match="servers=") as caught:
        servers_at(given)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("given", [None, 4222, b"localhost", [1], ["a", b"b"], {"a"}])
def test_addresses_of_a_wrong_type(given: Any) -> None:
    with pytest.raises(TypeError, match="servers="):
        servers_at(given)


# -- frames

OWNER = Owner(1, 2, "boot", "pid:[1]", "opening")


def meta(run: str = "r", **fields: Any) -> Meta:
    return Meta(
        **{"run": run, "frame": "f", "epoch": 1, "length": 0, "size": 0, "created": 1.0, "changed": 2.0} | fields
    )


@given(TEXTS, st.none() | TEXTS, st.none() | TEXTS, st.booleans())
def test_a_header_is_ascii_and_comes_back(run: str, parent: str | None, talk: str | None, final: bool) -> None:
    one = meta(run, parent=parent, conversation=talk, final=final, owner=OWNER)
    text = meta_text(one)
    assert text.isascii()
    assert text.isprintable()
    assert read_meta(text) == one


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"run": 1}', "\ufffd"])
def test_a_header_that_is_none(text: str | None) -> None:
    with pytest.raises(Unreadable, match="header"):
        read_meta(text)


def frames_of(batches: list[list[bytes]], room: int) -> list[Frame]:
    """As a writer would make them."""
    frames: list[Frame] = []
    now = meta()
    for batch in batches:
        for each in fillings(batch, room):
            assert len(each.body) <= room
            now = meta(
                length=now.length + each.ended,
                size=now.size + each.size,
                count=each.ended,
                continues=each.continues,
                more=each.more,
            )
            frames.append(Frame(len(frames) + 1, now, each.body))
    return frames


@given(st.lists(st.lists(st.binary(max_size=120), max_size=6), max_size=4), st.integers(16, 100))
def test_entries_come_out_of_frames_as_they_went_in(batches: list[list[bytes]], room: int) -> None:
    entries = [entry for batch in batches for entry in batch]
    assert entries_of(frames_of(batches, room)) == entries


def test_small_entries_share_a_frame_with_the_end_of_a_large_one() -> None:
    found = [*fillings([b"a", b"b" * 150, b"c"], 100)]
    assert [(each.ended, each.continues, each.more) for each in found] == [
        (1, False, False),
        (0, False, True),
        (2, True, False),
    ]


def test_a_frame_that_does_not_continue_makes_what_was_unfinished_void() -> None:
    """Another owner's claim, or another try of the same entry."""
    whole, half, rest = frames_of([[b"a"], [b"b" * 150]], 100)
    claim = Frame(4, meta(epoch=2, length=1, size=1), b"")
    assert entries_of([whole, half, claim]) == [b"a"]
    assert entries_of([whole, half]) == [b"a"]
    assert entries_of([whole, half, half, rest]) == [b"a", b"b" * 150]
    again = frames_of([[b"a"], [b"x"]], 100)[1]
    assert entries_of([whole, half, again]) == [b"a", b"x"]


def test_frames_that_nobody_has_written() -> None:
    whole, half, rest = frames_of([[b"a"], [b"b" * 150]], 100)
    end = frames_of([[b"a"], [b"c"]], 100)[1]
    for damaged in (
        [whole, rest],
        [half],
        [end],
        [whole, half, rest._replace(body=b"\xc1")],
        [whole._replace(body=b"")],
        [whole._replace(body=half.body)],
    ):
        with pytest.raises(Unreadable, match="entr"):
            entries_of(damaged)


def test_the_last_frame_tells_about_the_run() -> None:
    frame = Frame(9, meta(length=3, size=30, parent="p", conversation="c", owner=OWNER, born=4), b"")
    assert listed(frame) == Listed("r", 1, 3, 30, False, "p", "c", 1.0, 2.0, OWNER)
    assert frame.born == 4
    over = Frame(9, meta(length=3, final=True, owner=OWNER), b"")
    assert (listed(over).finished, listed(over).owner, over.born) == (True, None, 9)


def test_runs_are_in_the_order_in_which_they_began() -> None:
    """Whatever came last; one without a whole entry is none."""
    found = [
        Found(7, "s.b", meta_text(meta("b", length=1))),
        Found(8, "s.a", meta_text(meta("a", length=2, born=3))),
        Found(9, "s.c", meta_text(meta("c", length=0, more=True))),
    ]
    known = known_runs(found, "here")
    assert [each.run_id for each in known.listed] == ["a", "b"]
    assert [each.subject for each in known.found] == ["s.a", "s.b"]
    assert known.damage is None
    known = known_runs([*found, Found(10, "s.x", "{"), Found(11, "s.y", None)], "here")
    assert [each.run_id for each in known.listed] == ["a", "b"]
    assert known.damage is not None
    assert re.match(r"here is damaged: .*message 10 of s\.x", str(known.damage))


def test_families_are_forgotten_as_a_whole() -> None:
    def run(name: str, parent: str | None = None, changed: float = 1.0, finished: bool = True) -> Listed:
        return Listed(name, 1, 1, 1, finished, parent, None, 0.0, changed, None)

    runs = [
        run("old"),
        run("old.1", "old", 99.0),
        run("old.1.1", "old.1"),
        run("young", changed=10.0),
        run("young.1", "young"),
        run("open"),
        run("open.1", "open", finished=False),
        run("orphan", "nobody"),
        run("early", "late"),
        run("late", changed=10.0),
    ]
    below, tops = old_families(runs, 10.0)
    assert [runs[place].run_id for place in below] == ["old.1", "old.1.1"]
    assert [runs[place].run_id for place in tops] == ["old", "orphan", "early"]
    assert HEADER.isascii()
