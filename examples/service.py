"""Many runs in one System: started in the background, looked at while they work, ended in order."""

import anyio

from greenroom import Agent, System
from greenroom.providers import ModelRequest, Scripted, call


async def look_up(topic: str) -> str:
    """Look something up, slowly."""
    await anyio.sleep(0.2)
    return f"{topic} is interesting"


def answer(request: ModelRequest) -> str:
    return f"In short: {request.messages[-1].tool_results[0].content}."


def researcher(topic: str) -> Agent[None, str]:
    return Agent("researcher", Scripted([call("look_up", topic=topic)], answer), tools=[look_up])


async def main() -> None:
    async with System(max_running=100) as system:
        topics = ["tea", "rain", "moss"]
        runs = [await system.start(researcher(topic), f"What about {topic}?", user_id=topic) for topic in topics]
        await anyio.sleep(0.1)
        print(system.tree())
        await runs[-1].stop(reason="nobody asked for moss")
        for run in runs:
            result = await run.result()
            print(result.status, result.text or result.reason)


if __name__ == "__main__":
    anyio.run(main)
