"""A thousand prompts, of which some fail: each result as it comes, the failed ones once more, and a summary."""

from __future__ import annotations

from collections import Counter

import anyio

from greenroom import Agent, RunResult
from greenroom.providers import ContentFiltered, ModelRequest, Scripted, Usage

PROMPTS = [f"Describe plant number {number}." for number in range(1000)]


async def describe(request: ModelRequest) -> str:
    """The model: it refuses every fiftieth plant."""
    prompt = request.messages[-1].text
    await anyio.sleep(0.01)
    if prompt.endswith("50.") or prompt.endswith("00."):
        raise ContentFiltered(f"no word about this: {prompt}")
    return "It is green."


used = Usage(input_tokens=12, output_tokens=4)
agent = Agent("botanist", Scripted(*[describe] * len(PROMPTS), usage=used))
bolder = agent.with_(model=Scripted(*["It may be poisonous."] * len(PROMPTS), usage=used))


async def main() -> None:
    done: dict[int, RunResult] = {}
    failed: dict[int, Exception] = {}
    async with agent.as_completed(PROMPTS, concurrency=100) as results:
        async for index, result in results:  # an error stands in the place of its result, and disturbs no other
            if isinstance(result, Exception):
                failed[index] = result
            else:
                done[index] = result
    print(f"{len(done)} answered, failed:", dict(Counter(type(error).__name__ for error in failed.values())))

    again = await bolder.map([PROMPTS[index] for index in failed], on_error="raise")  # in the order of the prompts
    done.update(zip(failed, again, strict=True))
    tokens = sum(result.usage.output_tokens or 0 for result in done.values())
    print(f"{len(done)} answered in the end, with {tokens} tokens of output")
    print(PROMPTS[50], done[50])


if __name__ == "__main__":
    anyio.run(main)
