# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "langchain==1.4.7",
#     "langgraph==1.2.22",
#     "langchain-openai==1.7.3",
#     "openai==3.52.0",
#     "httpx2==2.16.2",
#     "uvloop==0.23.0",
# ]
#
# [tool.peer]
# name = "langgraph (langchain's create_agent)"
# kind = "peer"
# backends = ["asyncio", "uvloop"]
# environment = { LANGSMITH_TRACING = "false" }
# ///
"""The agent that langchain makes of a langgraph graph, which took the place of langgraph's own `create_react_agent`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from contender import Ask, Options, Said, serve
from langchain.agents import create_agent
from langchain_core.messages import AIMessageChunk
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import DefaultAsyncHttpxClient
from openai_client import TIMEOUT, limits
from weather_tools import INSTRUCTIONS, convert, weather


@asynccontextmanager
async def service(options: Options) -> AsyncGenerator[Ask]:
    async with DefaultAsyncHttpxClient(limits=limits(options), timeout=TIMEOUT) as http_client:
        model = ChatOpenAI(
            model="simulated",
            base_url=options.base_url,
            api_key="none",
            http_async_client=http_client,
            timeout=600.0,
            use_responses_api=False,
        )
        agent = create_agent(model, tools=[tool(weather), tool(convert)], system_prompt=INSTRUCTIONS)

        async def run(prompt: str) -> Said:
            state = await agent.ainvoke({"messages": [("user", prompt)]})
            return Said(state["messages"][-1].content)

        async def stream(prompt: str) -> Said:
            pieces: list[str] = []
            async for chunk, _ in agent.astream({"messages": [("user", prompt)]}, stream_mode="messages"):
                if isinstance(chunk, AIMessageChunk) and chunk.content:
                    pieces.append(chunk.text)
            return Said("".join(pieces), len(pieces))

        yield stream if options.stream else run


if __name__ == "__main__":
    serve(service)
