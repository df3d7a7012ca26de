# /// script
# requires-python = ">=3.11"
# dependencies = ["agno==3.1.10", "openai==3.52.0", "httpx2==2.16.2", "uvloop==0.23.0"]
#
# [tool.peer]
# name = "agno"
# kind = "peer"
# backends = ["asyncio", "uvloop"]
# environment = { AGNO_TELEMETRY = "false" }
# ///
"""One Agent for all runs, telemetry switched off.

Its parameter for an HTTP client takes one of the older httpx only, whose pool is far dearer; a whole client of the SDK
can be given, and is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from agno.agent import Agent
from agno.models.openai.like import OpenAILike
from agno.run.agent import RunEvent
from contender import Ask, Options, Said, serve
from openai_client import shared_client
from weather_tools import INSTRUCTIONS, convert, weather


@asynccontextmanager
async def service(options: Options) -> AsyncGenerator[Ask]:
    async with shared_client(options) as client:
        model = OpenAILike(id="simulated", base_url=options.base_url, api_key="none", async_client=client)
        agent = Agent(model=model, tools=[weather, convert], instructions=INSTRUCTIONS, telemetry=False)

        async def run(prompt: str) -> Said:
            return Said((await agent.arun(prompt)).content)

        async def stream(prompt: str) -> Said:
            pieces = [
                event.content
                async for event in agent.arun(prompt, stream=True)
                if event.event == RunEvent.run_content.value and event.content
            ]
            return Said("".join(pieces), len(pieces))

        yield stream if options.stream else run


if __name__ == "__main__":
    serve(service)
