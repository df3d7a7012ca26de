"""The journal on NATS: what every journal must do, and what happens when servers stall, die, or say yes to nobody."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

from greenroom import Agent, System, tool
from greenroom.jetstream import EngineAway, JetStreamJournal, Line, Settings, journal_store, questions
from greenroom.jetstream.frames import HEADER, meta_text
from greenroom.jetstream.journal_jobs import Entry, Hold
from greenroom.jetstream.journal_store import Store
from greenroom.jetstream.link import Link
from greenroom.jetstream.run_writer import Desk, RunWriter
from greenroom.journal import (
    CannotOpen,
    Claim,
    Conflict,
    Damaged,
    Fenced,
    JournalClosed,
    JournalFailed,
    RunExists,
    UnknownRun,
    owners,
)
from greenroom.providers import Scripted, call
from greenroom.testing import JOURNAL_CHECKS

from .nats_server import NatsServer, cluster_of_three, fresh_prefix, nats_url

pytestmark = pytest.mark.anyio
__all__ = ["nats_url"]


@pytest.mark.parametrize("check", JOURNAL_CHECKS, ids=lambda check: check.__name__)
async def test_it_does_what_every_journal_must(check: Any, nats_url: str) -> None:
    settings = Settings(prefix=fresh_prefix())
    await check(lambda: JetStreamJournal(Line(nats_url), settings))


@pytest.fixture
def settings() -> Settings:
    return Settings(prefix=fresh_prefix())


Ask = Callable[[], Awaitable[Any]]


def intercept(patch: pytest.MonkeyPatch, around: Callable[[Ask, Link, str], Awaitable[Any]]) -> None:
    """Let `around` stand between us and the server: it gets what asks truly, the connection and the subject."""
    true = Link.ask

    async def ask(link: Link, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None) -> Any:
        return await around(lambda: true(link, subject, payload, headers), link, subject)

    patch.setattr(Link, "ask", ask)


async def overtake(link: Link, settings: Settings, run_id: str) -> None:
    """Create a run as another process would. On the far side."""
    store = Store(link, settings.prefix, f"{settings.prefix}_JOURNAL", 5.0)
    other = RunWriter(run_id, Desk(store, owners.opened(), time.time, lambda: "other", lambda function, *args: None))
    hold = Hold(run_id, 1, None)
    hold.is_new = True
    await other._append(hold, [Entry(hold, 0, b"theirs", False)])
    assert hold.failed is None


async def steal(link: Link, settings: Settings, run_id: str) -> None:
    """Claim a run as another process would. On the far side."""
    store = Store(link, settings.prefix, f"{settings.prefix}_JOURNAL", 5.0)
    thief = RunWriter(run_id, Desk(store, owners.opened(), time.time, lambda: "thief", lambda function, *args: None))
    await thief._look()
    await thief._claim(None)


# -- frames on their way


async def test_what_comes_while_a_frame_is_on_its_way_is_one_frame(nats_url: str, settings: Settings) -> None:
    async with Line(nats_url) as line, JetStreamJournal(line, settings) as journal:
        claim = journal.create("r")
        for number in range(100):
            journal.append(claim, b"%d" % number)
        await journal.durable(claim)
        info = await line.call(line.link.ask_json, f"$JS.API.STREAM.INFO.{settings.prefix}_JOURNAL")
        assert info["state"]["messages"] <= 2
        assert await journal.read("r") == [b"%d" % number for number in range(100)]


async def test_an_answer_that_is_lost_stores_nothing_twice(
    nats_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither entries nor a claim; every first answer is lost, so each frame is sent again."""
    count = 0

    async def lossy(ask: Ask, link: Link, subject: str) -> Any:
        nonlocal count
        answer = await ask()
        if subject == f"{settings.prefix}.journal.r":
            count += 1
            if count % 2:
                raise EngineAway("lost")
        return answer

    async with JetStreamJournal(Line(nats_url), settings) as journal:
        intercept(monkeypatch, lossy)
        claim = journal.create("r")
        for number in range(5):
            journal.append(claim, b"%d" % number)
            await journal.durable(claim)
        second = await journal.claim("r")
        assert (second.epoch, second.next) == (2, 5)
        journal.append(second, b"end", final=True)
        await journal.durable(second)
        assert count == 14
        assert await journal.read("r") == [b"0", b"1", b"2", b"3", b"4", b"end"]
        (listed,) = await journal.runs()
        assert (listed.epoch, listed.length, listed.finished) == (2, 6, True)


@pytest.mark.parametrize("arrived", [True, False], ids=["arrived", "lost"])
async def test_a_lost_answer_does_not_hide_that_the_run_was_lost(
    nats_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, arrived: bool
) -> None:
    """Between two tries of an entry somebody else claims the run."""
    tries = 0

    async def lossy(ask: Ask, link: Link, subject: str) -> Any:
        nonlocal tries
        if subject != f"{settings.prefix}.journal.r":
            return await ask()
        tries += 1
        if tries == 1:
            if arrived:
                await ask()
            monkeypatch.undo()
            await steal(link, settings, "r")
            raise EngineAway("lost")
        return await ask()

    async with JetStreamJournal(Line(nats_url), settings) as journal:
        claim = journal.create("r")
        journal.append(claim, b"0")
        await journal.durable(claim)
        intercept(monkeypatch, lossy)
        journal.append(claim, b"1")
        for _ in range(2):
            with pytest.raises(Fenced):
                await journal.durable(claim)
        with pytest.raises(Fenced):
            journal.append(claim, b"2")
        assert tries == 1
        assert await journal.read("r") == ([b"0", b"1"] if arrived else [b"0"])
        assert (await journal.runs())[0].epoch == 2


async def test_two_openings_write_under_one_claim_and_find_out(nats_url: str, settings: Settings) -> None:
    """What is the same is there once; what differs is refused to whoever comes second."""
    async with JetStreamJournal(Line(nats_url), settings) as one, JetStreamJournal(Line(nats_url), settings) as two:
        claim = one.create("r")
        one.append(claim, b"0")
        await one.durable(claim)
        twin = Claim("r", 1, 1)
        two.append(twin, b"1")
        await two.durable(twin)
        one.append(claim, b"1")
        one.append(claim, b"2")
        await one.durable(claim)
        two.append(twin, b"other")
        with pytest.raises(Conflict):
            await two.durable(twin)
        assert await two.read("r") == [b"0", b"1", b"2"]


async def test_two_that_create_the_same_run_at_once(nats_url: str, settings: Settings) -> None:
    async with JetStreamJournal(Line(nats_url), settings) as one, JetStreamJournal(Line(nats_url), settings) as two:
        first, second = one.create("r"), two.create("r")
        one.append(first, b"one")
        await one.durable(first)
        two.append(second, b"two")
        with pytest.raises(RunExists):
            await two.durable(second)
        assert await two.read("r") == [b"one"]


async def test_two_owners_that_race_lose_nothing_and_mix_nothing(nats_url: str, settings: Settings) -> None:
    """Each claims the run again and again and appends; what one was told is durable stays, in its place."""
    told: dict[int, bytes] = {}

    async def own(journal: JetStreamJournal, name: bytes) -> None:
        for turn in range(12):
            claim = await journal.claim("r")
            for number in range(3):
                entry = b"%s %d %d" % (name, turn, number)
                try:
                    place = journal.append(claim, entry)
                    await journal.durable(claim)
                except Fenced:
                    break
                assert told.setdefault(place, entry) == entry

    async with JetStreamJournal(Line(nats_url), settings) as one, JetStreamJournal(Line(nats_url), settings) as two:
        claim = one.create("r")
        one.append(claim, b"first")
        await one.durable(claim)
        async with anyio.create_task_group() as group:
            group.start_soon(own, one, b"one")
            group.start_soon(own, two, b"two")
        entries = await one.read("r")
        assert entries == await two.read("r")
        assert {place: entries[place] for place in told} == told
        assert len(set(entries)) == len(entries)
        assert (await two.runs(run_id="r"))[0].epoch == 25


async def test_a_cancelled_claim_is_given_back(
    nats_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it was: before the server has it, or after."""
    scope = anyio.CancelScope()

    async with JetStreamJournal(Line(nats_url), settings) as journal, Line(nats_url) as line:
        claim = journal.create("r")
        journal.append(claim, b"0")
        await journal.durable(claim)
        for epoch, after in ((1, False), (2, True)):
            with monkeypatch.context() as patch, anyio.CancelScope() as scope:

                async def cancelling(ask: Ask, link: Link, subject: str, after: bool = after) -> Any:
                    answer = await ask() if after else None
                    if subject == f"{settings.prefix}.journal.r":
                        patch.undo()
                        journal._line.home(scope.cancel)
                        await anyio.sleep(0.05)
                    return answer if after else await ask()

                intercept(patch, cancelling)
                await journal.claim("r")
            assert scope.cancelled_caught
            (listed,) = await journal.runs()
            assert (listed.epoch, listed.owner) == (epoch + 1, None)
        third = await journal.claim("r")
        journal.append(third, b"1")
        await journal.durable(third)
        assert line.is_open


# -- large entries


async def test_a_server_with_little_room_for_a_message_takes_large_entries(tmp_path: Path) -> None:
    """Each goes into as many frames as it needs, together with small ones where there is room."""
    with NatsServer(tmp_path, "max_payload: 4096") as server:
        entries = [
            bytes([number]) * size for number, size in enumerate((1, 5000, 0, 100_000, 3000, 3000, 10, 20, 4096))
        ]
        async with JetStreamJournal(Line(server.url)) as journal:
            claim = journal.create("r" * 100)
            for entry in entries:
                journal.append(claim, entry)
            await journal.durable(claim)
            assert await journal.read(claim.run_id) == entries
            again = Claim(claim.run_id, 1, 1)
            for entry in [*entries[1:], b"new" * 5000]:
                journal.append(again, entry)
            await journal.durable(again)
        async with JetStreamJournal(Line(server.url)) as journal:
            assert await journal.read(claim.run_id) == [*entries, b"new" * 5000]
            (listed,) = await journal.runs()
            assert (listed.length, listed.size) == (10, sum(map(len, entries)) + 15_000)
            long = journal.create("x" * 5000)
            journal.append(long, b"0")
            with pytest.raises(JournalFailed, match="max_payload"):
                await journal.durable(long)


@pytest.mark.parametrize("first", [False, True], ids=["a later entry", "the first entry"])
async def test_half_an_entry_is_none(
    nats_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """Its writer dies between two of its frames: whoever comes next goes on behind the entry before it."""
    large = b"x" * 3_000_000
    async with JetStreamJournal(Line(nats_url), settings, patience=0.0) as dying:
        claim = dying.create("r")
        if not first:
            dying.append(claim, b"0")
            await dying.durable(claim)
        frames = 0

        async def dead_after_one(ask: Ask, link: Link, subject: str) -> Any:
            nonlocal frames
            if subject == f"{settings.prefix}.journal.r":
                frames += 1
                if frames > 1:
                    raise EngineAway("dead")
            return await ask()

        with monkeypatch.context() as patch:
            intercept(patch, dead_after_one)
            dying.append(claim, large)
            with pytest.raises(JournalFailed):
                await dying.durable(claim)
        assert frames == 2
    async with JetStreamJournal(Line(nats_url), settings) as journal:
        if first:
            assert await journal.read("r") == await journal.runs() == await journal.runs(run_id="r") == []
            with pytest.raises(UnknownRun):
                await journal.claim("r")
            new = journal.create("r", conversation_id="talk")
        else:
            assert await journal.read("r") == [b"0"]
            again = Claim("r", 1, 1)
            journal.append(again, large)
            await journal.durable(again)
            assert await journal.read("r") == [b"0", large]
            new = await journal.claim("r")
            assert (new.epoch, new.next) == (2, 2)
        journal.append(new, b"end", final=True)
        await journal.durable(new)
        assert await journal.read("r") == ([b"end"] if first else [b"0", large, b"end"])
        (listed,) = await journal.runs()
        assert (listed.epoch, listed.conversation_id) == ((1, "talk") if first else (2, None))


async def test_a_run_that_has_half_an_entry_may_be_begun_by_another(
    nats_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is none yet. Whoever had begun it hears that there is a run."""
    frames = 0

    async def between(ask: Ask, link: Link, subject: str) -> Any:
        nonlocal frames
        if subject == f"{settings.prefix}.journal.r":
            frames += 1
            if frames == 2:
                monkeypatch.undo()
                await overtake(link, settings, "r")
        return await ask()

    async with JetStreamJournal(Line(nats_url), settings) as journal:
        intercept(monkeypatch, between)
        claim = journal.create("r")
        journal.append(claim, b"x" * 3_000_000)
        with pytest.raises(RunExists):
            await journal.durable(claim)
        assert await journal.read("r") == [b"theirs"]


# -- many runs


async def test_many_runs_are_listed_in_parts(
    nats_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of a listing is left on the server."""
    monkeypatch.setattr(journal_store, "HEADERS", 7)
    monkeypatch.setattr(journal_store, "BATCH", 3)
    async with Line(nats_url) as line, JetStreamJournal(line, settings) as journal:
        claims = [journal.create(f"run {number}") for number in range(30)]
        for claim in claims:
            for number in range(10):
                journal.append(claim, b"%d" % number)
                if number % 3 == 0:
                    await journal.durable(claim)
        listed = await journal.runs()
        assert [each.run_id for each in listed] == [claim.run_id for claim in claims]
        assert [each.length for each in listed] == [10] * 30
        assert await journal.read("run 7") == [b"%d" % number for number in range(10)]
        assert (await line.call(line.link.ask_json, f"$JS.API.CONSUMER.NAMES.{settings.prefix}_JOURNAL"))["total"] == 0


async def test_a_server_that_lags_behind_is_asked_again(
    nats_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several that hold the stream, one may not have all of it yet. What the leader has is what there is."""
    lags: list[str] = []
    true = Link.ask_for_many

    async def lagging_list(ask: Ask, link: Link, subject: str) -> Any:
        answer = await ask()
        if "CONSUMER.CREATE" in subject and "list" not in lags:
            lags.append("list")
            answer.data = answer.data.replace(b'"num_pending":3', b'"num_pending":0')
        return answer

    async def lagging_read(link: Link, *args: Any) -> Any:
        answers = await true(link, *args)
        lags.append("read")
        return (
            [answers[0], answers[-1]]
            if lags.count("read") == 1
            else answers[-1:]
            if lags.count("read") == 2
            else answers
        )

    async with JetStreamJournal(Line(nats_url), settings) as journal:
        for run_id in ("r", "s", "t"):
            claim = journal.create(run_id)
            for number in range(3):
                journal.append(claim, b"%d" % number, final=number == 2)
                await journal.durable(claim)
        intercept(monkeypatch, lagging_list)
        monkeypatch.setattr(Link, "ask_for_many", lagging_read)
        assert await journal.read("r") == [b"0", b"1", b"2"]
        assert lags == ["read"] * 3
        assert len(await journal.runs()) == 3
        assert lags[-1] == "list"
        monkeypatch.undo()
        assert await journal.prune(1e12) == 3
        assert await journal.runs() == []


async def test_what_is_over_is_not_kept_here(nats_url: str, settings: Settings) -> None:
    async with JetStreamJournal(Line(nats_url), settings) as journal:
        for number in range(20):
            claim = journal.create(f"run {number}")
            journal.append(claim, b"a", final=number % 2 == 0)
            await journal.durable(claim)
            if number % 3:
                journal.release(claim)
        await journal.runs()
        assert journal._opening is not None
        assert len(journal._opening.writers) == len([each for each in range(20) if each % 2 and not each % 3])


async def test_pruning_that_is_cut_short_goes_on_the_next_time(
    nats_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Subagents are forgotten before the runs that they worked for."""
    monkeypatch.setattr(journal_store, "PURGES", 1)
    async with JetStreamJournal(Line(nats_url), settings, patience=0.0) as journal:
        for run_id, parent in (("top", None), ("top.1", "top"), ("top.1.1", "top.1"), ("alone", None)):
            claim = journal.create(run_id, parent_id=parent)
            journal.append(claim, b"a", final=True)
            await journal.durable(claim)
        purges = 0

        async def dead_after_one(ask: Ask, link: Link, subject: str) -> Any:
            nonlocal purges
            if "PURGE" in subject:
                purges += 1
                if purges > 1:
                    raise EngineAway("dead")
            return await ask()

        with monkeypatch.context() as patch:
            intercept(patch, dead_after_one)
            with pytest.raises(JournalFailed, match="dead"):
                await journal.prune(1e12)
        assert purges == 2
        left = {each.run_id for each in await journal.runs()}
        assert left in ({"top", "top.1", "alone"}, {"top", "top.1.1", "alone"})
        assert await journal.prune(1e12) == 3
        assert await journal.runs() == []


async def test_what_nobody_has_written_is_found(nats_url: str, settings: Settings) -> None:
    """A run that cannot be read does not hide the others, and nothing is forgotten beside it."""
    async with Line(nats_url) as line, JetStreamJournal(line, settings) as journal:
        claim = journal.create("good")
        journal.append(claim, b"a", final=True)
        await journal.durable(claim)
        frame = await line.call(journal._opening.store.last, "good")  # type: ignore[union-attr]
        assert frame is not None
        headers = {HEADER: meta_text(frame.meta)}
        for run_id, body, header in (
            ("no-header", b"x", None),
            ("bad-header", b"x", {HEADER: "{"}),
            ("another", b"x", headers),
        ):
            await line.call(line.link.ask, f"{settings.prefix}.journal.{run_id}", body, header)
            with pytest.raises(Damaged):
                await journal.read(run_id)
            with pytest.raises(Damaged):
                await journal.claim(run_id)
        await line.call(line.link.ask, f"{settings.prefix}.journal.good", b"not msgpack", headers)
        with pytest.raises(Damaged, match="good"):
            await journal.read("good")
        with pytest.raises(Damaged) as caught:
            await journal.runs()
        assert {each.run_id for each in caught.value.others} == {"good"}
        with pytest.raises(Damaged):
            await journal.prune(1e12)
        assert (await journal.runs(run_id="good"))[0].length == 1


# -- servers that stall and die


async def appends(journal: JetStreamJournal, run_id: str, count: int, waits: list[float]) -> None:
    """A run of so many entries, each durable before the next one."""
    claim = journal.create(run_id)
    for number in range(count):
        journal.append(claim, b"%s %d" % (run_id.encode(), number), final=number == count - 1)
        began = time.monotonic()
        await journal.durable(claim)
        waits.append(time.monotonic() - began)


async def test_a_server_that_dies_and_comes_back_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Whoever waits goes on waiting, and is told soon after it is back."""
    waits: list[float] = []
    with NatsServer(tmp_path) as server:
        async with JetStreamJournal(Line(server.url)) as journal, anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(appends, journal, f"run{number}", 60, waits)
            while len(waits) < 50:
                await anyio.sleep(0.001)
            server.kill()
            await anyio.sleep(0.1)  # for what had been answered
            at = len(waits)
            await anyio.sleep(0.2)
            assert len(waits) == at
            began = time.monotonic()
            await to_thread.run_sync(server.start)
            up = time.monotonic()
            while len(waits) < at + 10:
                await anyio.sleep(0.005)
            assert time.monotonic() - up < 2.0
        assert max(waits) < 2.0 + (up - began) + 0.3
        async with JetStreamJournal(Line(server.url)) as journal:
            for number in range(10):
                assert await journal.read(f"run{number}") == [b"run%d %d" % (number, each) for each in range(60)]


async def test_a_server_that_stalls_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """For longer than a try: what was sent again is there once."""
    waits: list[float] = []
    with NatsServer(tmp_path) as server:
        async with JetStreamJournal(Line(server.url)) as journal:
            async with anyio.create_task_group() as group:
                for number in range(3):
                    group.start_soon(appends, journal, f"run{number}", 30, waits)
                while len(waits) < 15:
                    await anyio.sleep(0.001)
                server.pause()
                try:
                    await anyio.sleep(2.5)
                finally:
                    server.go_on()
            assert len(waits) == 90
            for number in range(3):
                assert await journal.read(f"run{number}") == [b"run%d %d" % (number, each) for each in range(30)]


async def test_a_server_that_does_not_come_back_fails_the_claim_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what was asked. Nobody waits for ever, and closing says what was not stored."""
    monkeypatch.setattr(questions, "TRY", 0.2)
    with NatsServer(tmp_path) as server:
        with pytest.raises(JournalFailed, match="has not stored all"):
            async with JetStreamJournal(Line(server.url), patience=0.2, close_timeout=0.1) as journal:
                claim = journal.create("r")
                journal.append(claim, b"0")
                await journal.durable(claim)
                server.kill()
                journal.append(claim, b"1")
                with pytest.raises(JournalFailed, match=r"does not answer|broke"):
                    await journal.durable(claim)
                with pytest.raises(JournalFailed):
                    journal.append(claim, b"2")
                for question in (journal.read("r"), journal.runs(), journal.claim("r"), journal.prune(0.0)):
                    with pytest.raises(JournalFailed):
                        await question
                other = journal.create("s")
                journal.append(other, b"0")
        with pytest.raises(JournalFailed, match="closed"):
            await journal.durable(other)
        server.start()
        async with JetStreamJournal(Line(server.url)) as journal:
            assert await journal.read("r") == [b"0"]
            assert await journal.read("s") == []


async def test_whoever_waits_when_the_journal_is_closed_is_told(tmp_path: Path) -> None:
    """Also behind what is on its way."""
    told: list[str] = []

    async def claim() -> None:
        with pytest.raises(JournalFailed, match="closed"):
            await journal.claim("r")
        told.append("claim")

    async def read() -> None:
        with pytest.raises((JournalFailed, JournalClosed)):
            await journal.read("r")
        told.append("read")

    async def durable(claim: Claim) -> None:
        with pytest.raises(JournalFailed, match="closed"):
            await journal.durable(claim)
        told.append("durable")

    with NatsServer(tmp_path) as server, anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            with pytest.raises(JournalFailed, match="has not stored all"):
                async with JetStreamJournal(Line(server.url), close_timeout=0.1) as journal:
                    first = journal.create("r")
                    journal.append(first, b"0")
                    await journal.durable(first)
                    server.pause()
                    journal.append(first, b"1")
                    await anyio.sleep(0.02)
                    second = Claim("r", 1, 2)
                    journal.append(second, b"2")
                    for function, *args in ((durable, first), (durable, second), (claim,), (read,)):
                        group.start_soon(function, *args)
                    await anyio.sleep(0.02)
        assert sorted(told) == ["claim", "durable", "durable", "read"]


async def test_the_error_of_the_block_is_not_replaced_by_one_of_closing(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        with pytest.raises(ZeroDivisionError):
            async with JetStreamJournal(Line(server.url), close_timeout=0.05) as journal:
                server.kill()
                journal.append(journal.create("r"), b"0")
                raise ZeroDivisionError
        assert not journal.is_open


async def test_a_block_that_is_cancelled_stores_what_was_appended(nats_url: str, settings: Settings) -> None:
    with anyio.CancelScope() as scope:
        async with JetStreamJournal(Line(nats_url), settings) as journal:
            journal.append(journal.create("r"), b"0")
            scope.cancel()
            await anyio.sleep(1)
    assert scope.cancelled_caught
    async with JetStreamJournal(Line(nats_url), settings) as journal:
        assert await journal.read("r") == [b"0"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_leader_of_three_servers_dies(tmp_path: Path) -> None:
    """And stays dead: the others go on. What was durable is there, once, whoever is asked."""
    waits: list[float] = []
    with cluster_of_three(tmp_path) as servers:
        urls = [server.url for server in servers]
        three = Settings(replicas=3, durable=True)
        async with Line(urls) as line, JetStreamJournal(line, three) as journal:
            async with anyio.create_task_group() as group:
                for number in range(5):
                    group.start_soon(appends, journal, f"run{number}", 20, waits)
                while len(waits) < 30:
                    await anyio.sleep(0.001)
                info = await line.call(line.link.ask_json, "$JS.API.STREAM.INFO.greenroom_JOURNAL")
                (leader,) = [each for each in servers if each.name == info["cluster"]["leader"]]
                leader.kill()
            assert len(waits) == 100
            for number in range(5):
                assert await journal.read(f"run{number}") == [b"run%d %d" % (number, each) for each in range(20)]
            assert len(await journal.runs()) == 5


WRITER = """
import sys, anyio
from greenroom.jetstream import JetStreamJournal, Line, Settings

async def main(url, prefix):
    async with JetStreamJournal(Line(url), Settings(prefix=prefix)) as journal:
        claim = journal.create("r")
        for number in range(100_000):
            journal.append(claim, b"%d" % number)
            await journal.durable(claim)
            print(number, flush=True)

anyio.run(main, *sys.argv[1:3], backend=sys.argv[3])
"""


async def test_a_writer_that_is_killed_leaves_all_that_was_durable(
    nats_url: str, settings: Settings, anyio_backend: str
) -> None:
    """In order and once, and its run has an owner that is gone."""

    def write() -> int:
        command = [sys.executable, "-c", WRITER, nats_url, settings.prefix, anyio_backend]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line == "100\n":
                    break
            process.kill()
            return max(map(int, process.stdout.read().split()), default=100)

    told = await to_thread.run_sync(write)
    async with JetStreamJournal(Line(nats_url), settings) as journal:
        (listed,) = await journal.runs(unfinished=True)
        assert listed.owner is not None
        assert not listed.owner.is_running
        claim = await journal.claim("r", after=1)
        assert claim.next > told >= 100
        assert await journal.read("r") == [b"%d" % number for number in range(claim.next)]


# -- with agents


async def test_a_system_writes_its_runs_there_and_takes_them_up_again(nats_url: str, settings: Settings) -> None:
    """From another process, as it were: the second System has only the server."""
    reached = anyio.Event()

    @tool(replay="safe")
    async def look() -> str:
        """Look around."""
        if not reached.is_set():
            reached.set()
            await anyio.sleep_forever()
        return "all quiet"

    agent = Agent("helper", Scripted([call("look")], "done"), tools=[look])
    async with System(journal=JetStreamJournal(Line(nats_url), settings)) as system:
        await system.start(agent, "Go", run_id="r")
        await reached.wait()
    async with System(journal=JetStreamJournal(Line(nats_url), settings)) as system:
        (run,) = await system.recover([agent])
        assert (await run.result()).output == "done"
        chronicle = await system.chronicle("r")
        assert (chronicle.standing, chronicle.messages[-1].text) == ("completed", "done")


# -- what is refused


async def test_a_journal_that_cannot_be_opened_says_why(nats_url: str, settings: Settings) -> None:
    with pytest.raises(CannotOpen, match=r"no NATS server answers at 127\.0\.0\.1:1 within 0\.1 s"):
        async with JetStreamJournal(Line("nats://user:secret@127.0.0.1:1", connect_timeout=0.1)):
            pass
    async with Line(nats_url) as line:
        with pytest.raises(CannotOpen, match="monitor="):
            async with JetStreamJournal(line, Settings(prefix=fresh_prefix(), durable=True)):
                pass
        assert line.is_open
        await line.call(
            line.link.ask_json,
            f"$JS.API.STREAM.CREATE.{settings.prefix}_JOURNAL",
            {
                "name": f"{settings.prefix}_JOURNAL",
                "subjects": [f"{settings.prefix}.journal.*"],
                "storage": "memory",
            },
        )
        with pytest.raises(CannotOpen, match="storage 'memory' instead of 'file'"):
            async with JetStreamJournal(line, settings):
                pass


async def test_a_journal_that_is_not_open_is_of_no_use(nats_url: str, settings: Settings) -> None:
    journal = JetStreamJournal(Line(nats_url), settings)
    assert settings.prefix in repr(journal)
    claim = Claim("r", 1, 0)
    journal.release(claim)
    await journal.durable(claim)
    with pytest.raises(JournalClosed):
        journal.create("r")
    with pytest.raises(JournalClosed):
        journal.append(claim, b"")
    for question in (journal.claim("r"), journal.read("r"), journal.runs(), journal.prune(0.0)):
        with pytest.raises(JournalClosed):
            await question
    async with journal:
        with pytest.raises(RuntimeError, match="open already"):
            await journal.__aenter__()
        with pytest.raises(TypeError):
            journal.append(journal.create("r"), "text")  # type: ignore[arg-type]
        with pytest.raises(UnicodeEncodeError):
            journal.create("\ud800")
        with pytest.raises(TypeError, match="before="):
            await journal.prune("yesterday")  # type: ignore[arg-type]

        def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="another thread"):
                journal.create("r")

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    async with Line(nats_url) as line:
        async with JetStreamJournal(line, settings) as borrowing:
            claim = borrowing.create("r")
        assert line.is_open


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("nats://localhost",), TypeError, "line="),
        ((Line("localhost"), "greenroom"), TypeError, "settings="),
    ],
)
def test_arguments_that_cannot_work(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        JetStreamJournal(*arguments)


@pytest.mark.parametrize("name", ["patience", "close_timeout"])
@pytest.mark.parametrize(
    ("value", "error"), [("1", TypeError), (True, TypeError), (-1, ValueError), (float("nan"), ValueError)]
)
def test_times_that_are_none(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"{name}="):
        JetStreamJournal(Line("localhost"), **{name: value})
