"""Research: a tool begins a subagent for each topic, side by side, within one budget for all."""

from __future__ import annotations

import anyio

from greenroom import Agent, Limits, RunContext, wait_all
from greenroom.providers import ModelRequest, Scripted, Usage, call


async def read(request: ModelRequest) -> str:
    """The model of the researchers."""
    await anyio.sleep(0.1)
    return f"{request.messages[-1].text} is well understood."


used = Usage(input_tokens=100, output_tokens=50)
researcher = Agent("researcher", Scripted(*[read] * 3, usage=used), settings={"max_tokens": 200})


async def research(topics: list[str], context: RunContext) -> str:
    """Have topics researched, all at once.

    Args:
        topics: what to find out about.
    """
    runs = [await context.spawn(researcher, topic) for topic in topics]
    await wait_all(*runs)  # however each of them ends
    print(f"{len(runs)} researchers are back, {context.remaining.total_tokens} tokens are left")
    return "\n".join([str(await run.result()) for run in runs if run.status == "completed"])


lead = Agent(
    "lead",
    Scripted([call("research", topics=["Tea", "Rain", "Moss"])], "All three are well understood.", usage=used),
    tools=[research],
    settings={"max_tokens": 200},  # so much is set aside before each request, so that calls do not overspend together
    limits=Limits(total_tokens=5_000, children=5, depth=1),  # of the lead and of all below it, together
)


async def main() -> None:
    result = await lead.run("Write about tea, rain and moss.")
    print(result)
    print(f"{result.usage.input_tokens} + {result.usage.output_tokens} tokens, the researchers' among them")


if __name__ == "__main__":
    anyio.run(main)
