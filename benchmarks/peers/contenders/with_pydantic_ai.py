# /// script
# requires-python = ">=3.11"
# dependencies = ["pydantic-ai-slim[openai]==2.68.0", "openai==3.52.0", "httpx2==2.16.2", "uvloop==0.23.0"]
#
# [tool.peer]
# name = "pydantic-ai"
# kind = "peer"
# backends = ["asyncio", "uvloop"]
# ///
"""One Agent for all runs, over a shared client. It is not instrumented unless asked to be."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from contender import Ask, Options, Said, serve
from openai_client import shared_client
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from weather_tools import INSTRUCTIONS, convert, weather


@asynccontextmanager
async def service(options: Options) -> AsyncGenerator[Ask]:
    async with shared_client(options) as client:
        model = OpenAIChatModel("simulated", provider=OpenAIProvider(openai_client=client))
        agent = Agent(model, instructions=INSTRUCTIONS, tools=[weather, convert])

        async def run(prompt: str) -> Said:
            return Said((await agent.run(prompt)).output)

        async def stream(prompt: str) -> Said:
            async with agent.run_stream(prompt) as result:
                # By default pieces are held back for 100 ms and put together.
                pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
                return Said("".join(pieces), len(pieces))

        yield stream if options.stream else run


if __name__ == "__main__":
    serve(service)
