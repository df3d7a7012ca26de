# /// script
# requires-python = ">=3.11"
# dependencies = ["openai-agents==0.24.0", "openai==3.52.0", "httpx2==2.16.2", "uvloop==0.23.0"]
#
# [tool.peer]
# name = "openai-agents"
# kind = "peer"
# backends = ["asyncio", "uvloop"]
# ///
"""One Agent for all runs, over a shared client, tracing switched off."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from contender import Ask, Options, Said, serve
from openai_client import shared_client
from weather_tools import INSTRUCTIONS, convert, weather


@asynccontextmanager
async def service(options: Options) -> AsyncGenerator[Ask]:
    set_tracing_disabled(True)
    async with shared_client(options) as client:
        agent = Agent(
            name="weather",
            instructions=INSTRUCTIONS,
            model=OpenAIChatCompletionsModel(model="simulated", openai_client=client),
            tools=[function_tool(weather), function_tool(convert)],
        )

        async def run(prompt: str) -> Said:
            return Said((await Runner.run(agent, prompt)).final_output)

        async def stream(prompt: str) -> Said:
            result = Runner.run_streamed(agent, prompt)
            pieces = 0
            async for event in result.stream_events():
                if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                    pieces += 1
            return Said(result.final_output, pieces)

        yield stream if options.stream else run


if __name__ == "__main__":
    serve(service)
