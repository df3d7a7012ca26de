"""Servers of MCP at a URL: answers whole and in streams, what breaks on the way, sessions that end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from greenroom import Agent, System, ToolFailed
from greenroom.agents import Toolkit
from greenroom.providers import Scripted, ToolResult, call
from greenroom.tools import MCP, MCPServerError
from greenroom.tools.mcp import http, http_answer

from .mcp_calls import SERVERS, Ear, ask, kept

pytestmark = pytest.mark.anyio


class Served:
    """A running server."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def mcp(self, **options: Any) -> MCP:
        return MCP.http(f"http://127.0.0.1:{self.port}/mcp", **{"name": "plain", "start_timeout": 20, **options})

    @property
    def log(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/log") as response:
            return json.load(response)

    @property
    def asked(self) -> list[str]:
        return [each["what"] for each in self.log]


@contextmanager
def serving(**options: Any) -> Iterator[Served]:
    command = [sys.executable, str(SERVERS / "plain_http.py"), json.dumps(options)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield Served(process, int(process.stdout.readline()))
        finally:
            process.kill()


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


async def do(kit: Toolkit, what: str, ear: Ear | None = None, **arguments: Any) -> str:
    return (await ask(kit, "do", ear, what=what, **arguments)).content


async def failure(kit: Toolkit, what: str, **arguments: Any) -> str:
    with pytest.raises(ToolFailed) as raised:
        await do(kit, what, **arguments)
    return str(raised.value)


async def test_answers_come_whole_and_in_streams_and_the_session_is_ended() -> None:
    with serving() as server:
        ear = Ear()
        async with server.mcp().open() as kit:
            assert await do(kit, "answer") == "here"
            assert await do(kit, "stream", ear) == "streamed"
            assert await do(kit, "another id") == "streamed"
            assert await do(kit, "pings") == "streamed"  # events of other types are none of ours
            wrong_id = {"jsonrpc": "2.0", "id": 4711, "result": {"content": [text("half \ud83d")]}}
            assert await do(kit, "body", body=json.dumps(wrong_id)) == "half \ufffd"
        assert ear.heard == [{"progress": 1.0}]
        assert server.asked[-1] == "DELETE"


async def test_headers_go_with_every_request_and_to_no_other_host() -> None:
    with serving() as server, serving() as other:
        async with server.mcp(headers={"Authorization": "Bearer sk-12345678"}).open() as kit:
            await do(kit, "answer")
            told = await failure(kit, "redirect", to=f"http://127.0.0.1:{other.port}/mcp")
            assert "not followed" in told
        assert {each["headers"].get("authorization") for each in server.log} == {"Bearer sk-12345678"}
        assert {each["headers"].get("accept-encoding") for each in server.log} == {"identity"}
        assert other.asked == []


UNKNOWN = "no answer, and nobody knows whether it took effect:"


FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("status", {"status": 502}, "failed: the server answered HTTP 502 Bad Gateway, and nobody knows whether"),
    ("status", {"status": 401}, "failed: the server answered HTTP 401 Unauthorized"),
    ("unauthorised", {}, "failed: the server answered HTTP 401 Unauthorized"),
    ("garbage", {}, "gave an answer of no use: Invalid JSON: "),
    ("body", {"body": "[]"}, "gave an answer of no use: it is no message of JSON-RPC"),
    ("body", {"body": '{"jsonrpc": "2.0", "method": "ping", "id": 1}'}, "gave an answer of no use: it is no answer"),
    ("body", {"body": '{"jsonrpc": "2.0", "id": null, "error": {"code": 1, "message": "no"}}'}, "failed: no"),
    ("drop", {}, f"{UNKNOWN} MCP server 'plain' was lost: the answer has broken off"),
    ("cut", {}, f"{UNKNOWN} MCP server 'plain' was lost: RemoteProtocolError: Server disconnected"),
    ("text", {}, "gave an answer of no use: its content type is text/plain, and neither JSON nor events"),
    ("zipped", {}, "gave an answer of no use: it is compressed, which nobody has asked for"),
]


async def test_what_goes_wrong_with_one_call_costs_no_other() -> None:
    with serving() as server:
        async with server.mcp().open() as kit, anyio.create_task_group() as group:
            late: list[str] = []

            async def other() -> None:
                late.append(await do(kit, "late", seconds=0.7))

            group.start_soon(other)
            for what, arguments, says in FAULTS:
                assert says in await failure(kit, what, **arguments)
                assert await do(kit, "answer") == "here"
        assert late == ["at last"]
        assert server.asked.count("initialize") == 1


async def test_a_call_that_could_not_be_sent_says_so() -> None:
    with serving() as server:
        async with kept(server.mcp()) as it:
            server.process.kill()
            server.process.wait()
            told = await failure(it.kit, "answer")
            assert told.startswith("not called: MCP server 'plain' cannot be reached: ConnectError: ")


async def test_a_password_of_the_url_is_sent_and_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with serving() as server:
        url = f"http://us%40er:sk-12345678@127.0.0.1:{server.port}/mcp"
        async with MCP.http(url).open() as kit:
            await do(kit, "answer")
        assert {each["headers"].get("authorization") for each in server.log} == {"Basic dXNAZXI6c2stMTIzNDU2Nzg="}
    assert "sk-12345678" not in caplog.text


@pytest.mark.parametrize("what", ["big", "big event"])
async def test_an_answer_is_bounded(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_MESSAGE", 1024**2)
    monkeypatch.setattr(http_answer, "MOST_MESSAGE", 1024**2)
    with serving() as server:
        async with server.mcp().open() as kit:
            assert len(await do(kit, what, size=90_000)) == 90_000
            assert "gave an answer of no use: " in await failure(kit, what, size=3 * 1024**2)
            assert await do(kit, "answer") == "here"


async def test_a_stream_that_was_cut_is_gone_on_with() -> None:
    with serving() as server:
        async with server.mcp().open() as kit:
            assert await do(kit, "resume") == "the rest"
        assert "resume" in server.asked


async def test_a_stream_that_goes_on_after_the_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_answer, "DRAIN", 0.2)
    with serving() as server:
        async with server.mcp().open() as kit:
            assert await do(kit, "linger") == "lingering"
            with anyio.fail_after(2):
                while "cut" not in server.asked:
                    await anyio.sleep(0.02)


async def test_a_stream_that_goes_on_after_the_answer_does_not_hold_up_the_end() -> None:
    with serving() as server:
        async with server.mcp().open() as kit:
            assert await do(kit, "linger") == "lingering"
            began = time.monotonic()
        assert time.monotonic() - began < 1


async def test_a_server_that_does_not_answer_a_cancellation_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LAST", 0.3)
    with serving(deaf=True) as server:
        began = time.monotonic()
        async with server.mcp().open() as kit:
            with anyio.move_on_after(0.2):
                await do(kit, "hang")
            assert await do(kit, "answer") == "here"
            with anyio.fail_after(3):
                while "notifications/cancelled" not in server.asked:
                    await anyio.sleep(0.01)
        assert time.monotonic() - began < 4
        assert server.asked[-1] == "DELETE"


async def test_a_session_that_was_forgotten_crashes_the_block() -> None:
    with serving() as server:
        async with kept(server.mcp()) as it:
            assert await do(it.kit, "forget") == "who are you?"
            assert "has forgotten the session" in await failure(it.kit, "answer")
            assert await it.crash() == "MCP server 'plain' has forgotten the session"


async def test_a_server_that_dies_in_a_call_crashes_the_block() -> None:
    with serving() as server:
        async with kept(server.mcp()) as it:
            assert "MCP server 'plain'" in await failure(it.kit, "die")
            assert "MCP server 'plain' does not answer any more: " in await it.crash()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"status": 401}, "cannot be reached: HTTP 401 Unauthorized"),
        (
            {"status": 500, "body": "{}", "kind": "application/json"},
            "cannot be reached: HTTP 500 Internal Server Error",
        ),
        ({"status": 200, "body": "hello"}, "cannot be used: its content type is text/plain, and neither JSON nor"),
        ({"status": 202}, "cannot be used: its content type"),
    ],
)
async def test_a_server_that_does_not_answer_as_one_is_one_clear_error(options: dict[str, Any], says: str) -> None:
    with serving(**options) as server:
        with pytest.raises(MCPServerError) as raised:
            async with server.mcp(headers={"x-key": "sk-12345678"}).open():
                pytest.fail("it is open")
        assert str(raised.value).startswith(f"MCP server 'plain' {says}")
        assert "sk-12345678" not in str(raised.value)


async def test_a_server_that_is_down_is_one_clear_error() -> None:
    with serving() as server:
        pass
    with pytest.raises(MCPServerError, match="MCP server 'plain' cannot be reached: ConnectError"):
        async with server.mcp().open():
            pytest.fail("it is open")


async def test_a_run_goes_on_with_a_server_that_was_started_again() -> None:
    with serving() as first:
        with serving_again(first) as again:
            script = Scripted(
                [call("do", what="answer")], [call("do", what="die")], [call("again")], [call("do")], "done"
            )
            agent = Agent("helper", script, tools=[first.mcp(), again])
            async with System() as system:
                result = await agent.run("Go", system=system)
        told: list[ToolResult] = [each for message in result.messages for each in message.tool_results]
        assert [each.content for each in told if not each.is_error] == ["here", "again", "here"]
        assert [each.cause for each in told] == [None, "failed", None, None]


@contextmanager
def serving_again(server: Served) -> Iterator[Any]:
    running: list[subprocess.Popen[bytes]] = []

    def again() -> str:
        """Start the server anew."""
        server.process.wait()
        command = [sys.executable, str(SERVERS / "plain_http.py"), json.dumps({"port": server.port})]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        running.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return "again"

    try:
        yield again
    finally:
        for process in running:
            process.kill()
            process.communicate()
