"""The reference servers of MCP, which nobody here wrote: *everything* over stdio and HTTP, and *filesystem*."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from greenroom import Agent, System
from greenroom.providers import Image, Message, Scripted, ToolResult, call
from greenroom.tools import MCP

from .mcp_calls import children, reference

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]

#: What each tool is called with, and what its result has in it.
EVERYTHING: dict[str, tuple[dict[str, Any], str]] = {
    "echo": ({"message": "hello"}, "Echo: hello"),
    "get-annotated-message": ({"messageType": "error", "includeImage": True}, "Error: Operation failed"),
    "get-env": ({}, '"PATH"'),
    "get-resource-links": ({"count": 2}, "[resource demo://resource/dynamic/"),
    "get-resource-reference": ({"resourceType": "Text", "resourceId": 2}, "Resource 2: This is a plaintext resource"),
    "get-structured-content": ({"location": "New York"}, '"temperature"'),
    "get-sum": ({"a": 2, "b": 40}, "42"),
    "get-tiny-image": ({}, "[image: image/png, "),
    "gzip-file-as-resource": ({"name": "a.gz", "data": "data:text/plain,hello", "outputType": "resource"}, "a.gz"),
    "toggle-simulated-logging": ({}, "Started simulated"),
    "toggle-subscriber-updates": ({}, "Started simulated"),
    "trigger-long-running-operation": ({"duration": 0.2, "steps": 2}, "Duration: 0.2 seconds, Steps: 2"),
}


def results(messages: tuple[Message, ...]) -> dict[str, ToolResult]:
    return {result.call_id: result for message in messages for result in message.tool_results}


@asynccontextmanager
async def everything(transport: str) -> AsyncGenerator[MCP]:
    program = reference("everything")
    if transport == "stdio":
        yield MCP.stdio("node", program, "stdio", name="everything")
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PORT": str(port)}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(["node", program, "streamableHttp"], env=environment, stdout=quiet, stderr=quiet) as process:
        try:
            with anyio.fail_after(20):
                while True:
                    try:
                        await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
                        break
                    except OSError:
                        await anyio.sleep(0.02)
            yield MCP.http(f"http://127.0.0.1:{port}/mcp", name="everything")
        finally:
            process.kill()


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_every_tool_of_everything(transport: str) -> None:
    async with everything(transport) as server:
        agent = Agent(
            "helper", Scripted([call(each, **EVERYTHING[each][0]) for each in EVERYTHING], "done"), tools=[server]
        )
        async with System() as system:
            run = await system.start(agent, "Go")
            progress = [event.progress async for event in run.events() if event.type == "tool.progress"]
            result = await run.result()
        names = await offered(server)
    told = list(results(result.messages).values())
    assert {each.name for each in told} == set(EVERYTHING) == names
    for each in told:
        assert not each.is_error, each
        assert EVERYTHING[each.name or ""][1] in each.content
    pictures = {each.name for each in told if any(isinstance(part, Image) for part in each.attachments)}
    assert pictures == {"get-annotated-message", "get-tiny-image"}
    assert progress == [{"progress": 1.0, "total": 2.0}, {"progress": 2.0, "total": 2.0}]


async def offered(server: MCP) -> set[str]:
    async with server.open() as kit:
        return {tool.name for tool in kit.tools}


async def test_a_server_killed_in_a_call_is_started_again_and_nothing_survives() -> None:
    before = children()

    async def kill() -> str:
        """Kill the server."""
        await anyio.sleep(0.2)
        os.kill((children() - before).pop(), signal.SIGKILL)
        return "killed"

    long = call("trigger-long-running-operation", duration=30, steps=30)
    async with everything("stdio") as server:
        agent = Agent(
            "helper", Scripted([long, call("kill")], [call("echo", message="again")], "done"), tools=[server, kill]
        )
        async with System() as system:
            result = await agent.run("Go", system=system)
            assert len(children() - before) == 1
        cut, killed, echoed = results(result.messages).values()
    assert cut.cause == "failed"
    assert cut.content.startswith(
        "no answer, and nobody knows whether it took effect: MCP server 'everything' was killed by signal 9 (SIGKILL)."
    )
    assert killed.content == "killed"
    assert echoed.content == "Echo: again"
    assert children() == before


async def test_a_hundred_users_share_one_server() -> None:
    before = children()
    async with everything("stdio") as server, System() as system:
        echoed: list[str] = []

        async def user(number: int) -> None:
            script = Scripted([call("echo", message=f"I am {number}")], "done")
            result = await Agent("helper", script, tools=[server]).run("Go", system=system)
            echoed.append(next(iter(results(result.messages).values())).content)

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(user, number)
        assert sorted(echoed) == sorted(f"Echo: I am {number}" for number in range(100))
        assert len(children() - before) == 1
    assert children() == before


async def test_a_stop_gives_up_a_call_of_everything() -> None:
    async with everything("stdio") as server:
        script = Scripted([call("trigger-long-running-operation", duration=30, steps=30)], "done")
        async with System() as system:
            run = await system.start(Agent("helper", script, tools=[server]), "Go")
            async for event in run.events():
                if event.type == "tool.progress":
                    break
            with anyio.fail_after(5):
                result = await run.stop("now")
    assert next(iter(results(result.messages).values())).cause == "cancelled"


async def test_files_of_a_folder(tmp_path: Path) -> None:
    tmp_path.joinpath("note.txt").write_text("hello")
    server = MCP.stdio("node", reference("filesystem"), str(tmp_path), name="files", exclude=["move_file"])
    script = Scripted(
        [call("read_text_file", path=str(tmp_path / "note.txt")), call("list_directory", path=str(tmp_path))],
        [call("write_file", path=str(tmp_path / "new.txt"), content="new"), call("read_text_file", path="/etc/passwd")],
        [call("move_file", source="note.txt", destination="x"), call("read_text_file", path=3)],
        "done",
    )
    result = await Agent("helper", script, tools=[server]).run("Go")
    read, listed, written, refused, absent, wrong = results(result.messages).values()
    assert read.content == "hello"
    assert "[FILE] note.txt" in listed.content
    assert not written.is_error
    assert tmp_path.joinpath("new.txt").read_text() == "new"
    assert refused.is_error
    assert "outside allowed directories" in refused.content
    assert absent.cause == "unknown_tool"
    assert wrong.cause == "invalid"
    assert wrong.content.startswith("invalid arguments for read_text_file")
