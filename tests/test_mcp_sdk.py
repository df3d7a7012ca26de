"""A server that speaks the newest protocol, made with the SDK: over stdio and HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest

from greenroom import ToolFailed
from greenroom.agents import Toolkit
from greenroom.tools import MCP

from .mcp_calls import SERVERS, Ear, ask

pytestmark = pytest.mark.anyio

PROGRAM = str(SERVERS / "sdk_server.py")


@asynccontextmanager
async def opened(transport: str) -> AsyncGenerator[Toolkit]:
    if transport == "stdio":
        async with MCP.stdio(sys.executable, PROGRAM, name="sdk").open() as kit:
            yield kit
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = subprocess.DEVNULL
    with subprocess.Popen([sys.executable, PROGRAM, str(port)], stdout=quiet, stderr=quiet) as process:
        try:
            with anyio.fail_after(20):
                while True:
                    try:
                        await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
                        break
                    except OSError:
                        await anyio.sleep(0.02)
            async with MCP.http(f"http://127.0.0.1:{port}/mcp", name="sdk").open() as kit:
                yield kit
        finally:
            process.kill()


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_the_newest_protocol(transport: str) -> None:
    async with opened(transport) as kit:
        assert (await ask(kit, "version")).content == "2026-07-28"
        assert (await ask(kit, "add", a=1, b=2)).content == "3"
        ear = Ear()
        assert (await ask(kit, "work", ear)).content == "worked"
        assert ear.heard == [{"progress": 1.0, "total": 2.0, "message": "half"}]
        with pytest.raises(ToolFailed, match="tool 'who' of MCP server 'sdk' failed: "):
            await ask(kit, "who")
        with pytest.raises(ToolFailed, match="wants more input in the middle of a call, which is not supported"):
            await ask(kit, "more")
        await ask(kit, "grow")
        with anyio.fail_after(10):
            while kit.tools[-1].name != "new":
                await anyio.sleep(0.005)
        assert (await ask(kit, "new")).content == "new"
