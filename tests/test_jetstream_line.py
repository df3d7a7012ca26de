"""The line to a NATS server: calls across to the far side, requests, subscriptions, and coming back."""

from __future__ import annotations

import contextvars
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import nats.errors
import pytest
from anyio import to_thread

from greenroom.jetstream import EngineAway, EngineError, EngineRefused, Line, NobodyAnswers, link, questions
from greenroom.jetstream.far_side import LoopInThread, SameLoop, far_side

from .nats_server import NatsServer, fresh_prefix, nats_url

pytestmark = pytest.mark.anyio
__all__ = ["nats_url"]


@pytest.fixture
def subject() -> str:
    """Nobody else's."""
    return fresh_prefix()


async def until(what: Any) -> None:
    """Wait until it is so."""
    with anyio.fail_after(5):
        while not what():
            await anyio.sleep(0.002)


# -- the far side


async def test_the_far_side_is_this_loop_on_asyncio_and_a_thread_elsewhere(anyio_backend: str) -> None:
    assert isinstance(far_side(), SameLoop if anyio_backend == "asyncio" else LoopInThread)


async def test_a_call_gives_the_result_or_the_error_of_its_function(nats_url: str) -> None:
    async def give(value: int, *, fails: bool = False) -> int:
        await anyio.sleep(0)
        if value < 0:
            raise KeyError(value)
        return value + 1

    async with Line(nats_url) as line:
        assert await line.call(give, 1) == 2
        for _ in range(2):
            with pytest.raises(KeyError, match="-1"):
                await line.call(give, -1)


async def test_a_cancelled_call_is_cancelled_there_and_has_ended(nats_url: str) -> None:
    told: list[str] = []

    async def sleep() -> None:
        told.append("began")
        line.home(scope.cancel)
        try:
            await anyio.sleep(60)
        except BaseException:
            told.append("cancelled")
            raise

    async with Line(nats_url) as line:
        for _ in range(2):
            with anyio.CancelScope() as scope:
                await line.call(sleep)
            assert scope.cancelled_caught
        assert told == ["began", "cancelled"] * 2
        with anyio.CancelScope() as scope:
            scope.cancel()
            await line.call(anyio.sleep, 60)
        assert scope.cancelled_caught


async def test_what_a_cancelled_call_returns_all_the_same_is_not_lost(nats_url: str) -> None:
    """Cancelled too late: somebody may need it, to give it back."""

    async def shielded() -> str:
        line.home(scope.cancel)
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.02)
        return "done"

    async with Line(nats_url) as line:
        result = ""
        with anyio.CancelScope() as scope:
            result = await line.call(shielded)
        assert result == "done"


async def test_posts_and_calls_keep_their_order(nats_url: str) -> None:
    told: list[int] = []

    async def tell(number: int) -> None:
        told.append(number)

    async with Line(nats_url) as line:
        for number in range(0, 300, 3):
            line.post(told.append, number)
            line.post(told.append, number + 1)
            await line.call(tell, number + 2)
        assert told == [*range(300)]


async def test_the_way_home_keeps_its_order_and_ends_at_home(nats_url: str) -> None:
    told: list[tuple[int, int]] = []

    def tell(number: int) -> None:
        told.append((number, threading.get_ident()))

    async def go() -> None:
        for number in range(100):
            line.home(tell, number)

    async with Line(nats_url) as line:
        await line.call(go)
        await until(lambda: len(told) == 100)
        assert told == [(number, threading.get_ident()) for number in range(100)]


async def test_one_post_that_fails_stops_no_other(
    nats_url: str, anyio_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In a thread nobody is there to be told but the log."""
    told: list[int] = []
    async with Line(nats_url) as line:
        if anyio_backend == "asyncio":
            with pytest.raises(ZeroDivisionError):
                line.post(divmod, 1, 0)
        else:
            line.post(divmod, 1, 0)
        line.post(told.append, 1)
        await until(lambda: told)
    assert ("ZeroDivisionError" in caplog.text) == (anyio_backend == "trio")


async def test_a_task_of_the_far_side_outlives_scopes_and_ends_with_the_line(
    nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    async def live(name: str) -> None:
        told.append(f"{name} began")
        try:
            await anyio.sleep(60)
        finally:
            told.append(f"{name} ended")

    async def fail() -> None:
        raise ZeroDivisionError

    with anyio.CancelScope() as outer:
        async with Line(nats_url) as line:
            with anyio.CancelScope() as inner:
                line.post(line.start, live, "a")
                line.post(line.start, fail)
                inner.cancel()
                await until(lambda: "a began" in told)
            await until(lambda: "ZeroDivisionError" in caplog.text)
            outer.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.02)
            assert told == ["a began"]
            line.post(line.start, live, "b")
    assert sorted(told) == ["a began", "a ended", "b began", "b ended"]


async def test_a_task_that_is_started_while_the_line_closes_does_not_keep_it_open(nats_url: str) -> None:
    told: list[str] = []

    async def last() -> None:
        told.append("never")

    async def live() -> None:
        try:
            await anyio.sleep(60)
        finally:
            line.start(last)
            told.append("ended")

    with anyio.fail_after(5):
        async with Line(nats_url) as line:
            line.post(line.start, live)
    assert told == ["ended"]


async def test_a_task_has_begun_before_it_is_cancelled() -> None:
    """So it can tell whoever waits for it."""
    told: list[str] = []

    async def live() -> None:
        try:
            await anyio.sleep(60)
        finally:
            told.append("ended")

    far = far_side()
    await far.open()
    far.post(far.start, live)
    await far.close()
    assert told == ["ended"]


async def test_the_far_side_has_a_context_of_its_own(nats_url: str, anyio_backend: str) -> None:
    """In the thread: what is set at home would outlive whoever has set it."""
    name = contextvars.ContextVar("name", default="nobody")
    seen: list[str] = []
    async with Line(nats_url) as line:
        name.set("somebody")
        line.post(lambda: seen.append(name.get()))
        await until(lambda: seen)
    assert seen == ["somebody" if anyio_backend == "asyncio" else "nobody"]


async def test_a_line_that_is_not_open_says_so(nats_url: str) -> None:
    line = Line(nats_url)
    for _ in range(2):
        assert not line.is_open
        assert "closed" in repr(line)
        with pytest.raises(EngineError, match="open it with `async with`"):
            await line.call(anyio.sleep, 0)
        with pytest.raises(EngineError):
            line.post(print)
        with pytest.raises(EngineError):
            _ = line.link
        line.home(print)
        async with line as same:
            assert same is line
            assert line.is_open
            with pytest.raises(RuntimeError, match="open already"):
                await line.__aenter__()


async def test_the_error_of_the_block_leaves_it_as_it_is(nats_url: str) -> None:
    with pytest.raises(ZeroDivisionError):
        async with Line(nats_url):
            raise ZeroDivisionError


async def test_a_line_may_be_closed_under_another_scope_than_it_was_opened_under(nats_url: str) -> None:
    """As whoever closes everything in a shielded block does."""
    line = Line(nats_url)
    with anyio.CancelScope():
        await line.__aenter__()
    with anyio.CancelScope(shield=True), anyio.CancelScope():
        await line.__aexit__(None, None, None)
    assert not line.is_open


async def test_what_is_on_its_way_when_the_line_is_closed_fails(nats_url: str, subject: str) -> None:
    failed: list[EngineError] = []

    async def ask() -> None:
        try:
            await line.call(line.link.ask, subject)
        except EngineError as error:
            failed.append(error)

    async with anyio.create_task_group() as group, Line(nats_url) as line:
        await line.call(line.link.listen, subject, lambda message: None)
        group.start_soon(ask)
        await anyio.sleep(0.05)
    assert len(failed) == 1
    assert not isinstance(failed[0], EngineAway)
    assert "closed here" in str(failed[0])


# -- opening


async def test_nobody_there_is_told_in_time() -> None:
    began = time.monotonic()
    with pytest.raises(
        EngineAway, match=r"no NATS server answers at 127\.0\.0\.1:1, .* within 0\.2 s.*nats-server -js"
    ):
        async with Line(["nats://me:secret@127.0.0.1:1", "127.0.0.1:2"], connect_timeout=0.2):
            pass
    assert time.monotonic() - began < 2


async def test_a_server_that_comes_up_late_is_waited_for(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        server.kill()
        async with anyio.create_task_group() as group:
            group.start_soon(to_thread.run_sync, server.start)
            async with Line(server.url) as line:
                assert line.is_open


async def test_opening_may_be_cancelled() -> None:
    with anyio.move_on_after(0.05) as scope:
        async with Line("127.0.0.1:1"):
            pass
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    ("rule", "secret", "wrong"),
    [
        ('user: "me", password: "se@cret"', "me:se%40cret@", "me:bad-secret@"),
        ('token: "tok/en"', "tok%2Fen@", "bad-secret@"),
    ],
    ids=["password", "token"],
)
async def test_a_server_that_asks_who_we_are(tmp_path: Path, rule: str, secret: str, wrong: str) -> None:
    """It is told, and whoever it does not know is told so at once."""
    with NatsServer(tmp_path, f"authorization {{ {rule} }}") as server:
        place = server.url.removeprefix("nats://")
        async with Line(f"nats://{secret}{place}") as line:
            await line.call(line.link.ask_json, "$JS.API.INFO")
            assert "secret" not in repr(line)
        began = time.monotonic()
        for user in ("", wrong):
            with pytest.raises(EngineRefused, match="does not let us in") as caught:
                async with Line(f"nats://{user}{place}"):
                    pass
            assert "secret" not in str(caught.value)
            assert caught.value.__cause__ is None
        assert time.monotonic() - began < 2


class Pretender:
    """Answers a connection with these lines, whatever it is told."""

    def __init__(self, *lines: bytes) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._lines = lines
        self.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                for line in self._lines:
                    connection.sendall(line)
                    connection.recv(10_000)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()


@pytest.fixture
def old_server() -> Iterator[int]:
    info = {"version": "2.11.9", "headers": True, "max_payload": 1048576, "server_id": "X", "proto": 1}
    pretender = Pretender(b"INFO %s\r\n" % json.dumps(info).encode(), b"PONG\r\n", b"")
    yield pretender.port
    pretender.close()


async def test_a_server_that_is_too_old(old_server: int) -> None:
    with pytest.raises(EngineRefused, match=r"has version 2\.11: version 2\.12 or a later one is needed"):
        async with Line(f"127.0.0.1:{old_server}"):
            pass


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ({"servers": 1}, TypeError, "servers="),
        ({"credentials": 1}, TypeError, "credentials="),
        ({"tls": True}, TypeError, "tls="),
        ({"connect_timeout": 0}, ValueError, "connect_timeout="),
        ({"connect_timeout": float("nan")}, ValueError, "connect_timeout="),
        ({"connect_timeout": "5"}, TypeError, "connect_timeout="),
    ],
)
def test_arguments_that_cannot_work(arguments: dict[str, Any], error: type[Exception], name: str) -> None:
    with pytest.raises(error, match=name):
        Line(**{"servers": "localhost"} | arguments)


async def test_credentials_that_are_none(tmp_path: Path, nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at before anybody connects: the client library would read a file without them for ever."""
    monkeypatch.setattr("greenroom.jetstream.credentials.find_spec", lambda name: name)
    path = tmp_path / "user.creds"
    for text, why in ((None, "cannot be read"), ("secret", "is no file of NATS credentials")):
        if text is not None:
            path.write_text(text)
        with pytest.raises(EngineRefused, match=why) as caught:
            async with Line(nats_url, credentials=path, tls=ssl.create_default_context()):
                pass
        assert "secret" not in str(caught.value)
    monkeypatch.setattr("greenroom.jetstream.credentials.find_spec", lambda name: None)
    with pytest.raises(EngineRefused, match="install `nkeys`"):
        async with Line(nats_url, credentials=str(path)):
            pass


# -- requests


async def test_requests_are_answered_each_by_its_own_answer(nats_url: str, subject: str) -> None:
    async with Line(nats_url) as line:
        there = line.link

        def answer(message: Any) -> None:
            line.start(there.say, message.reply, message.data * 2)

        async def ask(number: int) -> None:
            message = await line.call(there.ask, subject, b"%d" % number)
            assert message.data == b"%d%d" % (number, number)

        listening = await line.call(there.listen, subject, answer)
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(ask, number)
        await line.call(listening.stop)
        with pytest.raises(NobodyAnswers, match=subject):
            await line.call(there.ask, subject)
        assert there._inbox._asked == {}


async def test_an_answer_that_does_not_come_is_waited_for_as_long_as_a_try(
    nats_url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "TRY", 0.1)
    async with Line(nats_url) as line:
        asked: list[Any] = []
        await line.call(line.link.listen, subject, asked.append)
        began = time.monotonic()
        with pytest.raises(EngineAway, match="does not answer") as caught:
            await line.call(line.link.ask, subject)
        assert not isinstance(caught.value, NobodyAnswers)
        assert 0.1 <= time.monotonic() - began < 1
        await line.call(line.link.say, asked[0].reply, b"too late")
        info = await line.call(line.link.ask_json, "$JS.API.INFO")
        assert info["type"].endswith("account_info_response")


async def test_a_request_may_have_many_answers(nats_url: str, subject: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a try counts from the last of them."""
    monkeypatch.setattr(questions, "TRY", 0.3)
    async with Line(nats_url) as line:

        async def answer(message: Any) -> None:
            for number in range(4):
                await line.link.say(message.reply, b"%d" % number)
                await anyio.sleep(0.12)
            if message.data:
                await line.link.client.publish(message.reply, b"", "", {"Status": "204"})

        await line.call(line.link.listen, subject, lambda message: line.start(answer, message))
        answers = await line.call(line.link.ask_for_many, subject, b"end")
        assert [each.data for each in answers] == [b"0", b"1", b"2", b"3", b""]
        assert questions.status(answers[-1]) == "204"
        with pytest.raises(EngineAway):
            await line.call(line.link.ask_for_many, subject)
        with pytest.raises(NobodyAnswers):
            await line.call(line.link.ask_for_many, f"{subject}.nobody")


async def test_what_the_server_refuses_is_told_with_its_number(nats_url: str) -> None:
    async with Line(nats_url) as line:
        with pytest.raises(EngineRefused, match="stream not found") as caught:
            await line.call(line.link.ask_json, "$JS.API.STREAM.INFO.nowhere")
        assert (caught.value.code, caught.value.error) == (404, 10059)


async def test_a_message_that_is_too_large_is_refused_here(nats_url: str, subject: str) -> None:
    """The server would close the connection. Headers count."""
    got: list[Any] = []
    async with Line(nats_url) as line:
        await line.call(line.link.listen, subject, got.append)
        headers = {"Name": "é" * 50}
        room = 1_048_576 - questions.header_size(headers)
        await line.call(line.link.say, subject, b"x" * room, headers)
        for data, more in ((b"x" * (room + 1), headers), (b"x" * 1_048_577, None)):
            with pytest.raises(EngineRefused, match="takes 1,048,576: raise its max_payload"):
                await line.call(line.link.ask, subject, data, more)
        await until(lambda: got)
        await line.call(line.link.ask_json, "$JS.API.INFO")
        assert [(len(each.data), each.headers) for each in got] == [(room, headers)]
        assert line.link.client.stats["reconnects"] == 0


# -- subscriptions


async def test_a_subscription_that_fails_on_one_message_gets_the_next(
    nats_url: str, subject: str, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[bytes] = []

    def take(message: Any) -> None:
        got.append(message.data)
        assert message.data != b"1"

    async with Line(nats_url) as line:
        await line.call(line.link.listen, f"{subject}.*", take)
        for number in range(3):
            await line.call(line.link.say, f"{subject}.x", b"%d" % number)
        await until(lambda: len(got) == 3)
        assert got == [b"0", b"1", b"2"]
    assert f"{subject}.x was not understood" in caplog.text


async def test_a_subscription_that_is_drained_has_had_all_that_was_on_its_way(nats_url: str, subject: str) -> None:
    got: list[bytes] = []
    async with Line(nats_url) as line, Line(nats_url) as other:
        listening = await line.call(line.link.listen, subject, lambda message: got.append(message.data))
        await line.call(line.link.ask_json, "$JS.API.INFO")
        for number in range(200):
            await other.call(other.link.say, subject, b"%d" % number)
        await other.call(other.link.ask_json, "$JS.API.INFO")
        await line.call(listening.drain)
        assert got == [b"%d" % number for number in range(200)]
        await other.call(other.link.say, subject, b"late")
        await line.call(line.link.ask_json, "$JS.API.INFO")
        await line.call(listening.stop)
        assert got[200:] in ([], [b"late"])  # on a busy server what is late may still come; nothing is lost or doubled


async def test_a_drain_that_is_cancelled_does_no_harm(nats_url: str, subject: str) -> None:
    """The server's answer to it comes to nobody, and the next ones to those who asked."""
    async with Line(nats_url) as line:
        listening = await line.call(line.link.listen, subject, lambda message: None)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await line.call(listening.drain)
        with anyio.move_on_after(0.0001):
            await line.call((await line.call(line.link.listen, subject, lambda message: None)).drain)
        for _ in range(3):
            await line.call(line.link.ask_json, "$JS.API.INFO")
        assert line.link.client.stats["reconnects"] == 0


# -- coming back


async def test_the_line_comes_back_with_its_subscriptions(
    tmp_path: Path, subject: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What was on its way fails at once, what is asked meanwhile waits, and whoever watches is told."""
    got: list[bytes] = []
    back: list[str] = []
    caplog.set_level(logging.INFO, "greenroom")
    with NatsServer(tmp_path) as server:
        async with Line(server.url.replace("//", "//me:secret@")) as line, anyio.create_task_group() as group:
            there = line.link
            await line.call(there.listen, subject, lambda message: got.append(message.data))
            unwatch = there.watch(lambda: back.append("a"))
            there.watch(lambda: back.append("b"))
            failed: list[float] = []

            async def ask() -> None:
                with pytest.raises(EngineAway, match="broke before the answer came"):
                    await line.call(there.ask, subject)
                failed.append(time.monotonic())

            group.start_soon(ask)
            await until(lambda: got)
            killed = time.monotonic()
            server.kill()
            await until(lambda: failed)
            assert failed[0] - killed < 1
            assert not there.is_connected
            async with anyio.create_task_group() as starting:
                starting.start_soon(to_thread.run_sync, server.start)
                with anyio.fail_after(5):
                    await line.call(there.until_connected)
            await line.call(there.say, subject, b"again")
            await until(lambda: len(got) == 2)
            assert (got, back) == ([b"", b"again"], ["a", "b"])
            unwatch()
            server.kill()
            await until(lambda: not there.is_connected)
            await to_thread.run_sync(server.start)
            await until(lambda: len(back) == 3)
            assert back[2] == "b"
    assert caplog.text.count("cannot be reached; trying again") == 2
    assert caplog.text.count("is there again") == 2
    assert "secret" not in caplog.text


async def test_a_server_that_is_away_fails_what_is_asked_after_a_try(
    tmp_path: Path, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the line can be closed."""
    monkeypatch.setattr(questions, "TRY", 0.1)
    monkeypatch.setattr(link, "TRY", 0.1)
    with NatsServer(tmp_path) as server:
        async with Line(server.url) as line:
            server.kill()
            await until(lambda: not line.link.is_connected)
            for _ in range(2):
                with pytest.raises(EngineAway, match="see that it runs"):
                    await line.call(line.link.ask, subject)


async def test_what_begins_while_a_client_gives_up_begins_with_the_next_one(
    nats_url: str, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def closed(*_: Any, **__: Any) -> None:
        raise nats.errors.ConnectionClosedError

    got: list[bytes] = []
    back: list[int] = []
    async with Line(nats_url) as line:
        there = line.link
        there.watch(lambda: back.append(1))
        monkeypatch.setattr(there.client, "subscribe", closed)
        await line.call(there.listen, subject, lambda message: got.append(message.data))
        await line.call(there.client._process_err, "'Maximum Subscriptions Exceeded'")
        await until(lambda: back)
        await line.call(there.say, subject, b"here")
        await until(lambda: got)


async def test_a_client_that_gives_up_is_replaced(nats_url: str, subject: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server closes a connection for good on some mistakes; subscriptions begin again, once each."""
    got: list[bytes] = []
    back: list[int] = []
    async with Line(nats_url) as line:
        there = line.link
        former = there.client
        await line.call(there.listen, subject, lambda message: got.append(message.data))
        there.watch(lambda: back.append(1))
        await line.call(former._process_err, "'Maximum Subscriptions Exceeded'")
        late = await line.call(there.listen, f"{subject}.late", lambda message: got.append(message.data))
        await until(lambda: back)
        assert there.client is not former
        assert there.is_connected
        for each in (subject, f"{subject}.late"):
            await line.call(there.say, each, each.encode())
        await until(lambda: len(got) == 2)
        await line.call(there.ask_json, "$JS.API.INFO")
        assert got == [subject.encode(), f"{subject}.late".encode()]
        await line.call(late.stop)
        await line.call(late.drain)
        assert back == [1]
