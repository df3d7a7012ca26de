"""What the tests of MCP share: servers that do as they are told, and calls of their tools without a run around them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from greenroom import RunContext, Tool
from greenroom.agents import Toolkit
from greenroom.providers import ToolResult
from greenroom.tools import MCP, MCPServerError

SERVERS = Path(__file__).parent / "mcp_servers"
#: Where `npm install` puts the reference servers: in the checkout, or where the environment says.
NPM = Path(os.environ.get("GREENROOM_NPM", Path(__file__).parents[1] / ".npm")) / "node_modules"
#: A picture of one pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def plain(*, options: dict[str, Any] | None = None, **ours: Any) -> MCP:
    """The server in plain Python, told to behave so; `ours` is for `MCP.stdio`."""
    ours = {"name": "plain", "start_timeout": 20, **ours}
    return MCP.stdio(sys.executable, str(SERVERS / "plain_server.py"), json.dumps(options or {}), **ours)


def reference(name: str) -> str:
    """The path of a reference server's program. Without it the test is skipped, and fails where nothing may be."""
    program = NPM / "@modelcontextprotocol" / f"server-{name}" / "dist" / "index.js"
    if not program.is_file():
        told = f"no {program}: npm install --prefix .npm @modelcontextprotocol/server-{name}@2026.8.31"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(told)
    return str(program)


class Ear:
    """A context that keeps what is emitted."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def emit(self, progress: Any) -> None:
        self.heard.append(progress)


def named(kit: Toolkit, name: str) -> Tool[..., Any]:
    return next(tool for tool in kit.tools if tool.name == name)


async def ask(kit: Toolkit, tool: str, /, ear: Ear | None = None, **arguments: Any) -> ToolResult:
    """Call a tool as a run would, without its rules."""
    found = named(kit, tool)
    assert found.context_parameter is not None
    context = cast("RunContext[Any]", ear or Ear())
    with anyio.fail_after(20):
        return found.result("call_1", await found.function(**{found.context_parameter: context}, **arguments))


class Kept:
    """A server that is kept open by a task of its own, as runs have it: a crash of it is nobody else's."""

    def __init__(self) -> None:
        self.kit = Toolkit()
        self.error: MCPServerError | None = None
        self.over = anyio.Event()

    async def crash(self) -> str:
        """What the block crashed with."""
        with anyio.fail_after(10):
            await self.over.wait()
        assert self.error is not None
        return str(self.error)


@asynccontextmanager
async def kept(server: MCP) -> AsyncGenerator[Kept]:
    it, opened = Kept(), anyio.Event()

    async def keep() -> None:
        try:
            async with server.open() as kit:
                it.kit = kit
                opened.set()
                await anyio.sleep_forever()
        except MCPServerError as error:
            it.error = error
            opened.set()
        finally:
            it.over.set()

    async with anyio.create_task_group() as group:
        group.start_soon(keep)
        await opened.wait()
        yield it
        group.cancel_scope.cancel()


def state_of(pid: int) -> str:
    """A letter, X for a process that there is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def lives(pid: int) -> bool:
    return state_of(pid) not in "ZX"


async def until_gone(pid: int) -> None:
    """A killed process that is not our child is waited for by somebody else, soon."""
    with anyio.fail_after(5):
        while lives(pid):
            await anyio.sleep(0.002)


def children() -> set[int]:
    """The processes that we have started and that live."""
    listed = [Path(f"/proc/self/task/{task}/children").read_text().split() for task in os.listdir("/proc/self/task")]
    return {int(pid) for pids in listed for pid in pids if lives(int(pid))}
