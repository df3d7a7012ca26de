"""What type checkers see of memories. Checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import Any, assert_type

from greenroom import Agent, LocalMemory, Memory, Note, SqliteMemory, Tool, memory_tools, recalled
from greenroom.providers import Scripted


class Own:
    """Whatever has the methods is a memory."""

    async def remember(self, text: str, *, scope: str | None) -> str:
        return text

    async def recall(self, query: str, *, scope: str | None, limit: int = 5) -> list[Note]:
        return [Note("1", query, 0.0)]

    async def forget(self, note_id: str, *, scope: str | None) -> bool:
        return False


async def memories() -> None:
    stores: list[Memory] = [LocalMemory(), SqliteMemory("notes.db"), Own()]
    agent = Agent("plain", model=Scripted(), memory=stores[0])
    assert_type(agent, Agent[None, str])
    assert_type(agent.memory, Memory | None)
    assert_type(memory_tools(Own()), list[Tool[..., Any]])
    assert_type(await recalled(Own(), "ada", "tea"), str | None)
    async with SqliteMemory("notes.db", max_notes=5) as memory:
        assert_type(memory, SqliteMemory)
        assert_type(await memory.recall("tea", scope=None), list[Note])
