"""A conversation in the background: what is said is sent, what comes of it is told to a function."""

from __future__ import annotations

import anyio

from greenroom import Agent, System, events
from greenroom.providers import Scripted, call


async def find_order(number: int) -> str:
    """Look an order up.

    Args:
        number: of the order.
    """
    await anyio.sleep(0.2)
    return f"order {number} is on its way"


model = Scripted([call("find_order", number=7)], "It is on its way, and I have noted the new address.", "Goodbye!")
agent = Agent("clerk", model, instructions="You work for a mail order house.", tools=[find_order])


def show(event: events.AnyEvent) -> None:
    if isinstance(event, events.ToolStarted):
        print(f"({event.tool} …)")
    elif isinstance(event, events.MessageDelivered):
        print("heard: ", event.text)
    elif isinstance(event, events.RunCompleted):
        print("clerk: ", event.text)


async def main() -> None:
    async with System() as system:
        chat = system.conversation(agent, "c1", user_id="ann", on_event=show)
        chat.send("Where is order 7?")  # begins a run, and returns at once
        await anyio.sleep(0.1)  # whoever types does something else meanwhile
        chat.send("And send it to my new address, please.")  # goes into the run that is at work
        await chat.ask("Thank you.")  # waits for its turn, and for the answer
        print(len(chat.messages), "messages, the last one:", chat.messages[-1].text)


if __name__ == "__main__":
    anyio.run(main)
