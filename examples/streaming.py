"""Following a run as it happens, and stopping it in the middle."""

import anyio

from greenroom import Agent
from greenroom.providers import Scripted

agent = Agent("storyteller", Scripted("Once upon a time there was a mailbox that was never full. " * 5))


async def main() -> None:
    async with agent.stream("Tell me a story") as run:
        heard = 0
        async for piece in run.text():
            print(piece, end="", flush=True)
            heard += len(piece)
            if heard > 60:
                break
        result = await run.stop(reason="bored")
    print(f"\n{result.status}, because: {result.reason}")
    print("kept:", result.messages[-1].text)


if __name__ == "__main__":
    anyio.run(main)
