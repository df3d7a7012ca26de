# /// script
# requires-python = ">=3.11"
# dependencies = ["aisuite[openai]==0.2.0", "openai==1.109.1", "httpx==0.28.1", "uvloop==0.23.0"]
#
# [tool.peer]
# name = "aisuite"
# kind = "peer"
# backends = ["asyncio", "uvloop"]
# streams = false
# ///
"""One Client for all runs. It refuses to stream while it runs tools, so it has no row for streamed answers.

Its options for the provider go to a blocking client too, so no HTTP client can be given, and the SDK's bounds hold.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aisuite
from contender import Ask, Options, Said, serve
from weather_tools import INSTRUCTIONS, convert, weather


@asynccontextmanager
async def service(options: Options) -> AsyncGenerator[Ask]:
    client = aisuite.Client({"openai": {"base_url": options.base_url, "api_key": "none", "timeout": 600.0}})
    tools = [weather, convert]

    async def ask(prompt: str) -> Said:
        messages = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": prompt}]
        reply = await client.chat.completions.acreate(
            model="openai:simulated", messages=messages, tools=tools, max_turns=10
        )
        # A tool's text reaches the model as a JSON string, so the answer that repeats it has quotes in it.
        return Said(reply.choices[0].message.content.replace('"', ""))

    yield ask


if __name__ == "__main__":
    serve(service)
