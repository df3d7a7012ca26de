# /// script
# requires-python = ">=3.11"
# dependencies = ["greenroom", "anyio==4.16.0", "httpx==0.28.1", "msgspec==0.22.0", "trio==0.35.0", "uvloop==0.23.0"]
#
# [tool.uv.sources]
# greenroom = { path = "../../..", editable = true }
#
# [tool.peer]
# name = "greenroom"
# kind = "ours"
# backends = ["asyncio", "uvloop", "trio"]
# variants = ["agent.run", "system.start"]
# streaming-variants = ["agent.stream", "system.start, followed"]
# ///
"""greenroom as a service uses it: one System, one Agent, as many runs at a time as there are to be in flight."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from contender import Ask, Options, Said, serve
from weather_tools import INSTRUCTIONS, convert, weather

from greenroom import Agent, System
from greenroom.events import ModelTextDelta
from greenroom.providers import OpenAIChat


@asynccontextmanager
async def service(options: Options) -> AsyncGenerator[Ask]:
    model = OpenAIChat("simulated", base_url=options.base_url, api_key="none")
    agent = Agent("weather", model, instructions=INSTRUCTIONS, tools=[weather, convert])
    async with System(max_running=options.in_flight) as system:

        async def run(prompt: str) -> Said:
            return Said((await agent.run(prompt)).output)

        async def start(prompt: str) -> Said:
            return Said((await (await system.start(agent, prompt)).result()).output)

        async def stream(prompt: str) -> Said:
            async with agent.stream(prompt) as running:
                pieces = len([piece async for piece in running.text()])
                return Said((await running.result()).output, pieces)

        async def follow(prompt: str) -> Said:
            running = await system.start(agent, prompt)
            pieces = len([event async for event in running if isinstance(event, ModelTextDelta)])
            return Said((await running.result()).output, pieces)

        yield {"agent.run": run, "system.start": start, "agent.stream": stream, "system.start, followed": follow}[
            options.variant
        ]


if __name__ == "__main__":
    serve(service)
