"""Agents as tools of an agent: their runs are children of its run, and their events come with the path to them."""

import anyio

from greenroom import Agent, events
from greenroom.providers import Scripted, call

poet = Agent("poet", Scripted("Roses are red."), description="Writes one line of verse.")
critic = Agent("critic", Scripted("I have read worse."), description="Judges verse.")
editor = Agent(
    "editor",
    Scripted(
        [call("poet", prompt="A line about flowers")],
        [call("critic", prompt="Roses are red.")],
        "Print it.",
    ),
    tools=[poet, critic],
)


def show(event: events.AnyEvent) -> None:
    if isinstance(event, events.RunStarted | events.RunCompleted | events.ToolCompleted):
        print("  " * (len(event.path) - 1) + event.type, getattr(event, "agent", getattr(event, "tool", "")))


async def main() -> None:
    print(await editor.run("Make a poem", on_event=show))


if __name__ == "__main__":
    anyio.run(main, backend="trio")
