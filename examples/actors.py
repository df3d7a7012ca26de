"""The actors that runs are made of: a counter that crashes, and is there again."""

import logging

import anyio

from greenroom import Actor, ActorDied, Context, System


class Counter(Actor):
    """Counts. Its state is new after a restart, its address is not."""

    def __init__(self) -> None:
        self.count = 0

    async def receive(self, message: str, context: Context) -> int:
        if message == "crash":
            raise RuntimeError("as you wish")
        self.count += 1
        return self.count


async def main() -> None:
    logging.getLogger("greenroom").setLevel(logging.CRITICAL)  # it would log the crash, which is on purpose here
    async with System(on_report=print) as system:
        counter = await system.spawn(Counter, name="counter")
        print("counted", await counter.ask("count"), await counter.ask("count"))
        try:
            await counter.ask("crash")
        except ActorDied as death:
            print(death)
        print("counted", await counter.ask("count"))
        print(system.tree())


if __name__ == "__main__":
    anyio.run(main)
