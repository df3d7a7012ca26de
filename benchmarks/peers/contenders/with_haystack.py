# /// script
# requires-python = ">=3.11"
# dependencies = ["haystack-ai==3.4.0", "openai==3.52.0", "httpx2==2.16.2", "uvloop==0.23.0"]
#
# [tool.peer]
# name = "haystack"
# kind = "peer"
# backends = ["asyncio", "uvloop"]
# environment = { HAYSTACK_TELEMETRY_ENABLED = "False" }
# ///
"""One Agent for all runs, telemetry switched off.

Its setting for connections makes a client of the older httpx, whose pool is far dearer, so it is left alone: the SDK's
own bounds hold (100 kept alive), and with more runs in flight connections are opened again and again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from contender import Ask, Options, Said, serve
from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage, StreamingChunk
from haystack.tools import create_tool_from_function
from haystack.utils import Secret
from weather_tools import INSTRUCTIONS, convert, weather


@asynccontextmanager
async def service(options: Options) -> AsyncGenerator[Ask]:
    generator = OpenAIChatGenerator(
        api_key=Secret.from_token("none"), model="simulated", api_base_url=options.base_url, timeout=600.0
    )
    tools = [create_tool_from_function(weather), create_tool_from_function(convert)]
    agent = Agent(chat_generator=generator, tools=tools, system_prompt=INSTRUCTIONS)
    agent.warm_up()

    async def run(prompt: str) -> Said:
        result = await agent.run_async(messages=[ChatMessage.from_user(prompt)])
        return Said(result["last_message"].text)

    async def stream(prompt: str) -> Said:
        pieces = 0

        async def see(chunk: StreamingChunk) -> None:
            nonlocal pieces
            if chunk.content and not chunk.tool_call_result:
                pieces += 1

        result = await agent.run_async(messages=[ChatMessage.from_user(prompt)], streaming_callback=see)
        return Said(result["last_message"].text, pieces)

    yield stream if options.stream else run


if __name__ == "__main__":
    serve(service)
