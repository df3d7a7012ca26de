# /// script
# requires-python = ">=3.11"
# dependencies = ["asyncagentic==0.2.2", "openai==2.54.0", "httpx==0.28.1", "uvloop==0.23.0"]
#
# [tool.peer]
# name = "AsyncAgentic"
# kind = "peer"
# backends = ["asyncio", "uvloop"]
# streams = false
# ///
"""An agent serves one message at a time and has a client of its own, so there are as many as runs in flight.

They are kept and used again, a new conversation each time. It asks the Responses API first; the simulated model
does not have it and says so once to each agent, which then uses chat completions. It does not stream.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from AsyncAgentic.Agents import AsyncOpenAISimpleAgent, LLMProviderConfig
from AsyncAgentic.logging import configure_logging
from contender import Ask, Options, Said, serve
from weather_tools import INSTRUCTIONS, TOOL_SCHEMAS, TOOLS


def _with_identity(function: Any) -> Any:
    """It tells each tool who asks."""

    async def call(user_id: str, chat_id: str, agent_name: str, **arguments: Any) -> str:  # noqa: ARG001
        return await function(**arguments)

    return call


@asynccontextmanager
async def service(options: Options) -> AsyncGenerator[Ask]:
    configure_logging("ERROR")
    tools = [
        {"name": name, "function_schema": schema["function"], "func": _with_identity(TOOLS[name])}
        for schema in TOOL_SCHEMAS
        for name in [schema["function"]["name"]]
    ]
    idle: list[AsyncOpenAISimpleAgent] = []

    def agent() -> AsyncOpenAISimpleAgent:
        provider = LLMProviderConfig("simulated", "simulated", "none", base_url=options.base_url)
        return AsyncOpenAISimpleAgent(
            "weather",
            "Knows the weather.",
            [provider],
            tool_registry=tools,
            user_id="user",
            chat_id="chat",
            system_prompt=INSTRUCTIONS,
        )

    async def ask(prompt: str) -> Said:
        mine = idle.pop() if idle else agent()
        reply = await mine.send_message(prompt)
        idle.append(mine)
        return Said(reply["output"])

    yield ask
    for each in idle:
        await each.close()


if __name__ == "__main__":
    serve(service)
