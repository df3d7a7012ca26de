"""A thousand prompts, of which some fail: each result as it comes, the failed ones once more, and a summary."""

from __future__ import annotations

from collections import Counter

import anyio

from greenroom import Agent, RunResult
from greenroom.providers import ContentFiltered, ModelRequest, Scripted, Usage

PROMPTS = [f"Describe plant number {number}." for number in range(1000)]


async def describe(request: ModelRequest) -> str:
    """The model: it will not talk about ten of the plants."""
    await anyio.sleep(0.01)
    prompt = request.messages[-1].text
    if prompt.endswith("50."):
        raise ContentFiltered(f"not this one: {prompt}")
    return "It is green."


used = Usage(input_tokens=12, output_tokens=4)
agent = Agent("botanist", Scripted(*[describe] * 1000, usage=used))
bolder = agent.with_(model=Scripted(*["It is poisonous."] * 10, usage=used))


def summary(outcomes: dict[int, RunResult | Exception]) -> str:
    kinds = Counter(each.status if isinstance(each, RunResult) else type(each).__name__ for each in outcomes.values())
    tokens = sum(each.usage.output_tokens or 0 for each in outcomes.values() if isinstance(each, RunResult))
    return ", ".join(f"{number} {kind}" for kind, number in kinds.items()) + f", {tokens} tokens of output"


async def main() -> None:
    outcomes: dict[int, RunResult | Exception] = {}
    async with agent.as_completed(PROMPTS, concurrency=100) as results:
        async for index, outcome in results:  # an error stands in the place of its result, and disturbs no other
            outcomes[index] = outcome
            if len(outcomes) % 250 == 0:
                print(f"{len(outcomes)} of {len(PROMPTS)}")
    print(summary(outcomes))

    failed = [index for index, outcome in outcomes.items() if isinstance(outcome, Exception)]
    again = await bolder.map([PROMPTS[index] for index in failed])  # results in the order of the prompts
    outcomes.update(zip(failed, again, strict=True))
    print(summary(outcomes))


if __name__ == "__main__":
    anyio.run(main)
