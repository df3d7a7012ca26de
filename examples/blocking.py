"""A program without `async`: a System in a thread of its own, used from as many threads as there are."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from greenroom import Agent, System, ThreadSystem
from greenroom.providers import Scripted, call


def look_up(plant: str) -> str:
    """Look a plant up in the catalogue.

    Args:
        plant: its name.
    """
    time.sleep(0.01)  # a plain function runs in a thread, and may block
    return f"{plant}: likes shade"


def gardener() -> Agent[None, str]:
    return Agent("gardener", model=Scripted([call("look_up", plant="fern")], "Put it in the shade."), tools=[look_up])


def serve(system: ThreadSystem, visitor: str) -> str:
    """What a thread of a web server would do for one request."""
    return f"{visitor}: {system.run(gardener(), 'Where does a fern go?', user_id=visitor)}"


def main() -> None:
    with System.in_thread() as system:
        with ThreadPoolExecutor(4) as pool:
            print(*pool.map(partial(serve, system), ["Ann", "Bob", "Cleo"]), sep="\n")

        with system.stream(gardener(), "And what does it look like?") as run:
            for event in run:
                if event.type in ("tool.started", "tool.completed"):
                    print(event)
        print(run.result())

        run = system.start(gardener(), "Once more")
        print(run.result(timeout=10).status)


if __name__ == "__main__":
    main()
