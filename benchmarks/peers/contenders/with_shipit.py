# /// script
# requires-python = ">=3.11"
# dependencies = ["shipit-agent[openai]==2.2.1", "openai==3.52.0", "httpx2==2.16.2"]
#
# [tool.peer]
# name = "shipit-agent"
# kind = "peer"
# backends = ["threads"]
# ///
"""Its client for OpenAI blocks, so runs have a thread each. An Agent serves one run at a time, so each run has its own.

It makes a new client of the SDK for each request; a shared HTTP client under them spares the connections.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from contender import AskThread, Options, Said, serve_threads
from openai import DefaultHttpxClient
from openai_client import TIMEOUT, limits
from shipit_agent import Agent, FunctionTool
from shipit_agent.llms import OpenAIChatLLM
from weather_tools import INSTRUCTIONS, convert_blocking, weather_blocking


@contextmanager
def service(options: Options) -> Generator[AskThread]:
    with DefaultHttpxClient(limits=limits(options), timeout=TIMEOUT) as http_client:
        llm = OpenAIChatLLM("simulated", "none", base_url=options.base_url, http_client=http_client)
        tools = [FunctionTool.from_callable(weather_blocking), FunctionTool.from_callable(convert_blocking)]

        def agent() -> Agent:
            return Agent(llm=llm, prompt=INSTRUCTIONS, tools=tools, observability=False, parallel_tool_execution=True)

        def run(prompt: str) -> Said:
            return Said(agent().run(prompt).output)

        def stream(prompt: str) -> Said:
            pieces = [event.payload["chunk"] for event in agent().stream(prompt) if event.type == "text_delta"]
            return Said("".join(pieces), len(pieces))

        yield stream if options.stream else run


if __name__ == "__main__":
    serve_threads(service)
