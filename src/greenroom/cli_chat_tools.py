"""The ready-made tools that ``greenroom run`` takes by its options: MCP servers, and a folder to work in.

What changes anything asks first: the shell and the editor of a workspace, and each tool of a server that does not say
of itself that it only reads.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, get_args

from .agents import Allow, Ask, RunContext
from .agents.policy import Verdict
from .agents.toolset import Toolkit, Toolset
from .providers import ToolCall, ToolSpec
from .tools.mcp import MCP
from .tools.workspace import Workspace

#: Tools of a workspace that change something, and so have to be named.
Changing = Literal["shell", "edit_file"]


class Noted(Toolset):
    """A toolset whose tools can be looked at from outside of the event loop, once it was open."""

    def __init__(self, toolset: Toolset) -> None:
        self.name = toolset.name
        self.scope = toolset.scope  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
        self._toolset = toolset
        self._kit: Toolkit | None = None

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Toolkit]:
        """Open it."""
        async with self._toolset.open() as kit:
            self._kit = kit
            yield kit

    @property
    def specs(self) -> tuple[ToolSpec, ...] | None:
        """Its tools, at present or when it was open last; None before."""
        return tuple([tool.spec for tool in self._kit.tools]) if self._kit is not None else None


def read_mcp(given: Sequence[str]) -> list[Noted]:
    """The servers that ``--mcp`` names, each by its command line or its URL.

    Raises:
        ValueError: it is neither.
        ImportError: the SDK is not installed.
        RuntimeError: no programs can be servers on this system.
    """
    found: dict[str, Noted] = {}
    for text in given:
        options: Any = {}
        server = _server(text, options)
        if server.name in found:
            options["name"] = f"{server.name[:60]}-{len(found) + 1}"
            server = _server(text, options)
        found[server.name] = Noted(server)
    return [*found.values()]


def _server(text: str, options: Any) -> MCP:
    try:
        if text.startswith(("http://", "https://")):
            return MCP.http(text, **options)
        command, *args = shlex.split(text) or [""]
        return MCP.stdio(command, *args, **options)
    except ValueError as error:
        raise ValueError(f"--mcp: {error}") from None


def read_workspace(folder: str | None, allow: str | None) -> list[Noted]:
    """The tools of the folder that ``--workspace`` names, with those that ``--allow`` does.

    Raises:
        ValueError: no such folder or tool, or tools without a folder.
        RuntimeError: no folder can be confined to on this system.
    """
    if folder is None:
        if allow is not None:
            raise ValueError("--allow says what may be done in a folder: name one with --workspace")
        return []
    known: tuple[Changing, ...] = get_args(Changing)
    named = [each.strip() for each in (allow or "").split(",") if each.strip()]
    for each in named:
        if each not in known:
            raise ValueError(f"--allow takes {' and '.join(known)}, not {each!r}; what only reads is there without")
    if folder and not os.path.isdir(folder):
        raise ValueError(f"--workspace: there is no folder {folder!r}: make it, or name another one")
    changing: list[Changing] = [each for each in known if each in named]
    try:
        workspace = Workspace(folder, approve=changing).tools("read_file", "search", "tasks", *changing)
    except ValueError as error:
        raise ValueError(f"--workspace: {error}") from None
    return [Noted(workspace)]


def ask_before_changes(_call: ToolCall, context: RunContext[Any]) -> Verdict:
    """The policy: a tool of a server asks first, unless it is said to read alone."""
    rules = context.tool.rules if context.tool is not None else None
    return Ask() if rules is not None and "mcp" in rules.tags and rules.risk != "low" else Allow()
