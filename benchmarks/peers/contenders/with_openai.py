# /// script
# requires-python = ">=3.11"
# dependencies = ["openai==3.52.0", "httpx2==2.16.2", "uvloop==0.23.0"]
#
# [tool.peer]
# name = "openai SDK, a loop by hand"
# kind = "peer"
# backends = ["asyncio", "uvloop"]
# variants = ["100 connections kept alive", "all kept alive"]
# ///
"""OpenAI's own SDK and a loop around it: what most of the others stand on, and what their connections cost.

Others have the bound of the first variant, see `openai_client.py`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from contender import Ask, Options, Said, serve
from openai_client import KEPT_ALIVE, shared_client
from weather_tools import INSTRUCTIONS, TOOL_SCHEMAS, TOOLS


@asynccontextmanager
async def service(options: Options) -> AsyncGenerator[Ask]:
    kept_alive = options.in_flight if options.variant == "all kept alive" else KEPT_ALIVE
    async with shared_client(options, kept_alive) as client:

        async def whole(messages: list[Any]) -> tuple[str, list[Any], int]:
            reply = await client.chat.completions.create(model="simulated", messages=messages, tools=TOOL_SCHEMAS)
            message = reply.choices[0].message
            return message.content or "", message.tool_calls or [], 0

        async def streamed(messages: list[Any]) -> tuple[str, list[Any], int]:
            # The SDK has a helper that puts pieces together, at a fifth more; this is what it costs at least.
            texts: list[str] = []
            calls: list[Any] = []
            async for chunk in await client.chat.completions.create(
                model="simulated", messages=messages, tools=TOOL_SCHEMAS, stream=True
            ):
                for choice in chunk.choices:
                    if choice.delta.content:
                        texts.append(choice.delta.content)
                    for call in choice.delta.tool_calls or ():
                        if call.index == len(calls):
                            calls.append(call)
                        else:
                            calls[call.index].function.arguments += call.function.arguments
            return "".join(texts), calls, len(texts)

        turn = streamed if options.stream else whole

        async def ask(prompt: str) -> Said:
            messages: list[Any] = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": prompt}]
            while True:
                text, calls, pieces = await turn(messages)
                if not calls:
                    return Said(text, pieces)
                made = [
                    {
                        "id": call.id,
                        "type": "function",
                        "function": {"name": call.function.name, "arguments": call.function.arguments},
                    }
                    for call in calls
                ]
                messages.append({"role": "assistant", "content": None, "tool_calls": made})
                for call in calls:
                    result = await TOOLS[call.function.name](**json.loads(call.function.arguments))
                    messages.append({"role": "tool", "tool_call_id": call.id, "content": result})

        yield ask


if __name__ == "__main__":
    serve(service)
