"""``greenroom demo --live``: the supervision tree of the demo in the terminal, as it lives, with keys that hurt it.

The picture is drawn in the event loop of the runs, beside them: a few times in a second, and down to once where drawing
takes long, so that it costs few hundredths of the processor. The terminal is as it was afterwards, whatever
ends the demo. What the library logs meanwhile stands in the picture.
"""

from __future__ import annotations

import sys
import time
from collections import deque

import anyio
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from .actors import Node
from .agents import System, events
from .cli_chat_logs import logs_to
from .cli_chat_screen import moves
from .cli_live_keys import has_keys, pressed, single_keys
from .cli_live_tree import lines_of
from .load.attempts import Attempts
from .load.carriers import CARRIERS, NAMES
from .load.tally import Tally

#: Seconds between two pictures: the least, the most; in between, so that drawing takes that share of the processor.
INTERVAL, LONGEST = 0.25, 1.0
_SHARE = 0.05
#: Seconds that rates are told of.
_WINDOW = 2.0
#: Lines about what has happened.
_NEWS = 4
_KEYS = " k kill a carrier   s stop a run   q stop all and end"


def is_possible() -> bool:
    """Whether there is a terminal to draw on and to read keys from."""
    if sys.stdin is None or sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        return False
    return moves(sys.stdout) and has_keys(sys.stdin.fileno())


class LiveDemo:
    """Draws the demo and does what keys ask for; what goes on beside its runs.

    Attributes:
        by_hand: runs that were stopped by a key.
    """

    def __init__(self, runs: int, backend: str, console: Console) -> None:
        self.by_hand = 0
        self._runs = runs
        self._backend = backend
        self._console = console
        self._news: deque[str] = deque(maxlen=_NEWS)
        self._tokens = 0
        self._parcels = 0
        self._system: System | None = None
        self._is_ending = False
        self._began = time.monotonic()
        #: When, requests begun and tokens until then.
        self._past: deque[tuple[float, int, int]] = deque()

    # -- what happens

    def heard(self, event: events.Event) -> None:
        """Count, and hand parcels to the carriers."""
        if isinstance(event, events.ModelCompleted) and event.usage is not None:
            self._tokens += event.usage.total_tokens or 0
        elif isinstance(event, events.ToolCompleted) and event.tool == "ship" and self._system is not None:
            carrier = self._system.actor(f"carriers/{NAMES[self._parcels % len(NAMES)]}")
            self._parcels += 1
            if carrier is not None and carrier.alive:
                carrier.tell_nowait(event.result)

    def _tell(self, words: str) -> None:
        self._news.append(f"{time.strftime('%H:%M:%S')}  {words}")

    async def attend(self, system: System, tally: Tally, attempts: Attempts) -> None:
        """Draw, and listen to keys, until cancelled."""
        await system.spawn(CARRIERS, name="carriers")
        self._system = system
        fd = sys.stdin.fileno()
        with (
            single_keys(fd),
            Live(console=self._console, screen=True, auto_refresh=False) as live,
            logs_to(self._tell),
        ):
            async with anyio.create_task_group() as group:
                group.start_soon(self._listen, fd, system)
                while True:
                    began = time.thread_time()
                    live.update(self.picture(system.tree(), tally, attempts), refresh=True)
                    took = time.thread_time() - began
                    if self._is_ending:
                        self._stop_all(system)
                    await anyio.sleep(min(max(INTERVAL, took / _SHARE), LONGEST))

    # -- keys

    async def _listen(self, fd: int, system: System) -> None:
        async for key in pressed(fd):
            match key.lower():
                case "k":
                    self._kill_one(system)
                case "s":
                    self._stop_one(system)
                case "q":
                    self._is_ending = True
                    self._stop_all(system)
                case _:
                    pass

    def _kill_one(self, system: System) -> None:
        """Kill the carrier that has been killed least."""
        supervisor = next((node for node in system.tree().children if node.name == "carriers"), None)
        carriers = supervisor.children if supervisor is not None else ()
        live = sorted((node for node in carriers if node.state == "running"), key=lambda node: node.restarts)
        carrier = system.actor(live[0].name) if live else None
        if carrier is None:
            self._tell("all carriers are away; wait a moment")
        else:
            carrier.kill()

    def _stop_one(self, system: System) -> None:
        """Stop the oldest run that is not being stopped."""
        for node in system.tree().children:
            run = system.find(node.name) if node.kind == "run" and node.state == "running" else None
            if run is not None and run.status == "running":
                run.stop(reason="user")
                self.by_hand += 1
                self._tell(f"{node.name} is stopped")
                return

    def _stop_all(self, system: System) -> None:
        for node in system.tree().children:
            run = system.find(node.name) if node.kind == "run" and node.state != "stopping" else None
            if run is not None and run.status == "running":
                run.stop(reason="user")
                self.by_hand += 1

    # -- the picture

    def picture(self, tree: Node, tally: Tally, attempts: Attempts) -> Group:
        """What the window shows, in as many lines as it has."""
        height = self._console.size.height
        head = self._head(tally, attempts)
        foot = [Text(line, "yellow") for line in self._news]
        foot.append(Text(" ending …" if self._is_ending else _KEYS, "reverse"))
        rows = max(1, height - len(head) - len(foot))
        lines = lines_of(tree, rows)
        lines += [Text()] * (rows - len(lines))
        whole = [*head, *lines, *foot][-height:]
        for line in whole:
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(*whole)

    def _head(self, tally: Tally, attempts: Attempts) -> list[Text]:
        now, ended = time.monotonic(), tally.said.total()
        self._past.append((now, attempts.total, self._tokens))
        while now - self._past[0][0] > _WINDOW and len(self._past) > 2:
            self._past.popleft()
        since, requests, tokens = self._past[0]
        seconds = max(now - since, 1e-9)
        failed = attempts.total - attempts.ok - attempts.open - attempts.cut
        return [
            Text("greenroom demo", "bold")
            + Text(f"   {ended:,} of {self._runs:,} runs ended", "")
            + Text(f"   {now - self._began:.0f} s on {self._backend}", "dim"),
            Text(
                f"requests {(attempts.total - requests) / seconds:,.0f}/s ({attempts.total:,}, {failed:,} failed)"
                f"   spend {self._tokens:,} tokens, {(self._tokens - tokens) / seconds:,.0f}/s"
                f"   runs restarted {tally.run_crashes:,}"
            ),
            Text(),
        ]
