"""A vendor's SDK that blocks, as a provider: its calls run in threads, and a stop does not wait for them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import anyio

from greenroom import Agent
from greenroom.providers import ModelRequest, ThreadProvider


class Client:
    """Stands for the SDK: no `async`, and one piece of the answer after the other."""

    def chat(self, messages: list[tuple[str, str]]) -> Iterator[str]:
        for word in f"You have said: {messages[-1][1]}".split(" "):
            time.sleep(0.02)
            yield word + " "


class Legacy(ThreadProvider):
    name, model = "legacy", "legacy-1"

    def __init__(self) -> None:
        self.client = Client()

    def stream_sync(self, request: ModelRequest) -> Iterator[str]:
        return self.client.chat([(message.role, message.text) for message in request.messages])


agent = Agent("helper", Legacy())


async def main() -> None:
    async with agent.stream("Good morning!") as run:
        async for piece in run.text():
            print(piece, end="|", flush=True)
    print()
    start = time.monotonic()
    results = await agent.map([f"Hello from {each}" for each in range(20)], concurrency=20)
    print(f"{len(results)} calls, each in a thread: {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    anyio.run(main)
