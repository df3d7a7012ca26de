# /// script
# requires-python = ">=3.11"
# dependencies = ["strands-agents[openai]==1.62.0", "openai==2.54.0", "httpx==0.28.1", "uvloop==0.23.0"]
#
# [tool.peer]
# name = "strands"
# kind = "peer"
# backends = ["asyncio", "uvloop"]
# ///
"""An Agent holds one conversation, so each run has its own; the model, its client and the tools are shared.

Without a client of ours it would make a new one for each request, which costs several times as much. Replies are
streamed in either mode, as is its default.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
from contender import Ask, Options, Said, serve
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from strands import Agent, tool
from strands.models.openai import OpenAIModel
from weather_tools import INSTRUCTIONS, convert, weather


@asynccontextmanager
async def service(options: Options) -> AsyncGenerator[Ask]:
    limits = httpx.Limits(max_connections=options.in_flight, max_keepalive_connections=100, keepalive_expiry=60.0)
    http_client = DefaultAsyncHttpxClient(limits=limits, timeout=httpx.Timeout(600.0))
    async with AsyncOpenAI(base_url=options.base_url, api_key="none", http_client=http_client, timeout=600.0) as client:
        model = OpenAIModel(client=client, model_id="simulated")
        tools = [tool(weather), tool(convert)]

        def agent() -> Agent:
            return Agent(model=model, tools=tools, system_prompt=INSTRUCTIONS, callback_handler=None)

        async def run(prompt: str) -> Said:
            # Its text ends with a line break of its own.
            return Said(str(await agent().invoke_async(prompt)).removesuffix("\n"))

        async def stream(prompt: str) -> Said:
            pieces = [event["data"] async for event in agent().stream_async(prompt) if "data" in event]
            return Said("".join(pieces), len(pieces))

        yield stream if options.stream else run


if __name__ == "__main__":
    serve(service)
