"""A tool call that runs once more finds what it had begun, in whatever order it asks for it."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from greenroom import Agent, System, tool
from greenroom.providers import ModelReply, ModelRequest, Provider, Scripted, assistant, call

pytestmark = pytest.mark.anyio


class Upper(Provider):
    """Answers in capitals, and keeps what it was asked."""

    name = model = "upper"

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def complete(self, request: ModelRequest) -> ModelReply:
        text = request.messages[-1].text
        self.asked.append(text)
        return ModelReply(assistant(text.upper()))


@pytest.mark.parametrize(
    ("again", "new"),
    [(["b", "a", "c"], []), (["c", "c", "b", "a"], ["c"]), (["d", "c"], ["d"]), (["a", "b", "c"], [])],
    ids=["another order", "one of them twice", "one that is new", "the same"],
)
async def test_subagents_are_found_by_what_they_do(tmp_path: Path, again: list[str], new: list[str]) -> None:
    """Tasks that are started together run in any order, on trio by chance: none is done twice, none is confused."""
    model = Upper()
    worker = Agent("worker", model)
    orders = [["a", "b", "c"], again]
    rested, ended = anyio.Event(), anyio.Event()

    @tool(replay="safe")
    async def ask_all() -> str:
        """Ask."""
        order = orders.pop(0)
        answers = [(await worker.run(each)) for each in order]
        if orders:
            rested.set()
            await anyio.sleep_forever()
        ended.set()
        return " ".join(f"{each.run_id.rpartition('.')[2]}{each.output}" for each in answers)

    lead = Agent("lead", Scripted([call("ask_all")], "done"), tools=[ask_all])
    async with System(journal=tmp_path / "runs.db") as system:
        await system.start(lead, "go", run_id="r")
        await rested.wait()
    before = {"a": "1A", "b": "2B", "c": "3C"}
    assert model.asked == ["a", "b", "c"]
    model.asked.clear()
    async with System(journal=tmp_path / "runs.db") as system:
        (run,) = await system.recover([lead, worker])
        result = await run.result()
    told = result.messages[2].tool_results[0].content.split()
    assert model.asked == new
    once = dict.fromkeys(again)
    assert [each for each in told if each in before.values()] == [before[each] for each in once if each in before]
    assert len(set(told)) == len(again)
