# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "autogen-agentchat==0.7.5",
#     "autogen-ext[openai]==0.7.5",
#     "openai==3.52.0",
#     "httpx2==2.16.2",
#     "uvloop==0.23.0",
# ]
#
# [tool.peer]
# name = "autogen-agentchat"
# kind = "peer"
# backends = ["asyncio", "uvloop"]
# ///
"""An AssistantAgent holds one conversation, so each run has its own; the client and the tools are shared."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import TaskResult
from autogen_agentchat.messages import ModelClientStreamingChunkEvent
from autogen_core.models import ModelFamily, ModelInfo
from autogen_core.tools import FunctionTool
from autogen_ext.models.openai import OpenAIChatCompletionClient
from contender import Ask, Options, Said, serve
from openai import DefaultAsyncHttpxClient
from openai_client import TIMEOUT, limits
from weather_tools import INSTRUCTIONS, convert, weather


@asynccontextmanager
async def service(options: Options) -> AsyncGenerator[Ask]:
    client = OpenAIChatCompletionClient(
        model="simulated",
        base_url=options.base_url,
        api_key="none",
        model_info=ModelInfo(
            vision=False, function_calling=True, json_output=False, family=ModelFamily.UNKNOWN, structured_output=False
        ),
        http_client=DefaultAsyncHttpxClient(limits=limits(options), timeout=TIMEOUT),
        timeout=600.0,
    )
    # Made once: the schema of a bare function would be made again for each agent.
    tools = [FunctionTool(weather, "Current weather in a city."), FunctionTool(convert, "Celsius in Fahrenheit.")]

    def agent() -> AssistantAgent:
        return AssistantAgent(
            "weather",
            client,
            tools=tools,
            system_message=INSTRUCTIONS,
            max_tool_iterations=10,
            model_client_stream=options.stream,
        )

    async def run(prompt: str) -> Said:
        return Said((await agent().run(task=prompt)).messages[-1].to_text())

    async def stream(prompt: str) -> Said:
        pieces, text = 0, ""
        async for event in agent().run_stream(task=prompt):
            if isinstance(event, ModelClientStreamingChunkEvent):
                pieces += 1
            elif isinstance(event, TaskResult):
                text = event.messages[-1].to_text()
        return Said(text, pieces)

    yield stream if options.stream else run
    await client.close()


if __name__ == "__main__":
    serve(service)
