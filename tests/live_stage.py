"""The service that the live page is tested with: a process of its own, whose model does what a run's prompt says.

    python tests/live_stage.py PORT [--runs N] [--journal FILE] [--token TOKEN] [--bare]

SIGUSR1 drains it: for two seconds, and then it ends. A prompt's first word is the part that the run plays; see `PARTS`.
The model keeps nothing between requests: it finds its place by the replies that a conversation has.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import uvicorn

from greenroom import Agent, Retry, RunContext, System, Toolkit, Toolset, tool
from greenroom.actors import Actor, ChildSpec, Context, Supervisor
from greenroom.providers import (
    ModelReply,
    ModelRequest,
    Overloaded,
    Price,
    Prices,
    Provider,
    TextDelta,
    ToolCall,
    Usage,
    assistant,
    call,
)
from greenroom.providers.vocabulary import ModelEvent, events_of
from greenroom.service import Service

#: What must be shown, and never be obeyed.
HOSTILE = (
    "<script>window.hit = 1</script><img src=x onerror='window.hit = 2'>"
    "</script><style>*{display:none}</style> \u202egnp.exe\u202c \x00 \U0001f600 {{7*7}} javascript:window.hit=3"
)
WORDS = "The quick brown fox jumps over the lazy dog while the band plays on and nobody minds the rain at all. "


#: Seconds before an answer begins.
PACE = 0.15


def read(page: str, seconds: float) -> ToolCall:
    return call("read_page", url=f"https://example.com/{page}", seconds=round(seconds, 1))


def talk(turn: int, argument: str) -> Any:
    """A model streams where somebody follows, so the page comes first and lets it begin."""
    return approve(turn, argument) if turn == 0 else WORDS * 400


def think(turn: int, _: str) -> Any:
    return None


def look(turn: int, argument: str) -> Any:
    return read(argument or "lisbon", 9_000) if turn == 0 else "It is sunny."


def rounds(turn: int, argument: str) -> Any:
    """Turns of tools for as long as somebody looks."""
    return [read(f"page-{turn}", 0.4 + 0.1 * (turn % 5)), call("search", words=f"topic {turn}")]


def slowly(turn: int, argument: str) -> Any:
    """The same, for a thousand of them."""
    return read(f"page-{turn}", 3.0 + 0.5 * (turn % 5))


def survey(turn: int, _: str) -> Any:
    """A bit of everything, for a picture."""
    match turn:
        case 0:
            return [call("search", words="supervision trees"), read("actors", 0.9), read("restarts", 0.6)]
        case 1:
            return [call("reader", prompt="sections 1 to 3"), read("mailboxes", 1.3)]
        case 2:
            return call("delete_file", path="/srv/reports/draft.md")
    return WORDS * 400


def sections(turn: int, _: str) -> Any:
    return read(f"section-{turn + 1}", 0.4 + 0.2 * turn) if turn < 3 else "Three sections, all read."


def approve(turn: int, argument: str) -> Any:
    return call("delete_file", path=argument or "/tmp/report.txt") if turn == 0 else "The file is gone."


def pay(turn: int, _: str) -> Any:
    return call("pay", account=12345678901234567890, cents=-9007199254740993) if turn == 0 else "It is paid."


def same(turn: int, _: str) -> Any:
    """Calls with one id, as some models make them."""
    return call("delete_file", path=f"/srv/{turn}.txt") if turn < 2 else "The files are gone."


def tear(turn: int, _: str) -> Any:
    return call("tear", page="seven") if turn == 0 else "It is torn."


def ask(turn: int, argument: str) -> Any:
    return call("ask", question=argument or "Which city do you mean?") if turn == 0 else "Thank you."


def team(turn: int, argument: str) -> Any:
    return [call("reader", prompt=f"{argument or 'rounds'} below")] if turn == 0 else "The team is done."


def hostile(turn: int, _: str) -> Any:
    return [call("echo", words=HOSTILE), call("delete_file", path=HOSTILE)] if turn == 0 else HOSTILE


def huge(turn: int, _: str) -> Any:
    return call("echo", words="x" * 1_000_000) if turn == 0 else "y" * 1_000_000


def brief(turn: int, argument: str) -> Any:
    return f"Done: {argument}"


def retry(turn: int, argument: str) -> Any:
    return f"Answered at last: {argument}"


#: What a run can be asked to play: what its model says in a turn (None: nothing, for ever).
PARTS: dict[str, Callable[[int, str], Any]] = {
    part.__name__: part
    for part in (
        *(talk, think, look, rounds, slowly, survey, sections, approve, pay, same, ask, team, tear),
        *(hostile, huge, brief, retry),
    )
}


class Player(Provider):
    """A model that plays the part in the prompt, at a pace that one can watch."""

    name = "stage"
    model = "player-1"

    def __init__(self) -> None:
        self._failed: set[str] = set()

    async def complete(self, request: ModelRequest) -> ModelReply:
        prompts = [message.text for message in request.messages if message.role == "user"]
        part, _, argument = prompts[0].partition(" ")
        turn = sum(message.role == "assistant" for message in request.messages)
        if part in ("retry", "survey") and prompts[0] not in self._failed:
            self._failed.add(prompts[0])
            raise Overloaded("the model is overloaded", retry_after=1.0)
        said = PARTS.get(part, brief)(turn, argument)
        if said is None:
            await anyio.sleep_forever()
        if len(prompts) > 1 and isinstance(said, str) and part != "talk":
            said = f"{said} You also said: {prompts[-1]}"
        await anyio.sleep(PACE)
        calls = [said] if isinstance(said, ToolCall) else said if isinstance(said, list) else []
        words = said if isinstance(said, str) else f"I look into it, in turn {turn + 1}."
        number = 0 if part == "same" else turn
        named = [msgspec.structs.replace(each, id=f"call_{number}_{place}") for place, each in enumerate(calls)]
        usage = Usage(120 + 30 * turn, 45, 165 + 30 * turn)
        reason = "tool_calls" if calls else "stop"
        return ModelReply(assistant(words, tool_calls=named), reason, usage, self.model)

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncIterator[Any]:  # type: ignore[override]
        yield Pieces(await self.complete(request))


class Pieces:
    """An answer, word by word."""

    def __init__(self, reply: ModelReply) -> None:
        self.reply = reply
        self._events = self._read()

    async def _read(self) -> AsyncIterator[ModelEvent]:
        for event in events_of(self.reply):
            if not isinstance(event, TextDelta) or len(event.text) > 200_000:
                yield event
                continue
            for start in range(0, len(event.text), 24):
                yield TextDelta(event.text[start : start + 24])
                await anyio.sleep(PACE / 5)

    def __aiter__(self) -> AsyncIterator[ModelEvent]:
        return self._events

    async def __anext__(self) -> ModelEvent:
        return await anext(self._events)


@tool
async def search(words: str) -> str:
    """Search."""
    await anyio.sleep(PACE)
    return f"3 pages about {words}"


@tool
async def read_page(url: str, seconds: float) -> str:
    """Read a page, which takes so many seconds."""
    await anyio.sleep(seconds)
    return f"the text of {url}"


@tool
async def echo(words: str) -> str:
    """Say it again."""
    return words


@tool(needs_approval=True)
async def delete_file(path: str) -> str:
    """Delete a file."""
    return f"deleted {path}"


@tool(needs_approval=True)
async def pay(account: int, cents: int) -> str:
    """Pay."""
    return f"{cents} to {account}"


@tool
async def ask(question: str, context: RunContext) -> str:
    """Ask the user."""
    return await context.ask_user(question)


class Library(Toolset):
    """Is open for all runs, until somebody tears a page."""

    name = "library"
    scope = "system"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Toolkit]:
        torn = anyio.Event()

        @tool
        async def tear(page: str) -> str:
            """Tear a page."""
            torn.set()
            return f"page {page} is torn"

        async def watch() -> None:
            await torn.wait()
            raise RuntimeError("a page was torn")

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            yield Toolkit([tear])
            group.cancel_scope.cancel()


class Clerk(Actor):
    """Crashes at whatever it is told."""

    async def receive(self, message: Any, context: Context) -> None:
        raise RuntimeError(message)


TOOLS = [search, read_page, echo, delete_file, pay, ask]
COST = Prices({"player*": Price(input=3.0, output=15.0)})
player = Player()
reader = Agent("reader", player, tools=TOOLS, retry=Retry(attempts=4), prices=COST)
researcher = Agent(
    "researcher", player, tools=[*TOOLS, reader.as_tool(description="Reads.")], retry=Retry(attempts=4), prices=COST
)
writer = Agent("writer", player, tools=TOOLS, retry=Retry(attempts=4), prices=COST)
librarian = Agent("librarian", player, tools=[Library()])


async def play(port: int, runs: int, journal: str | None, token: str | None, bare: bool) -> None:
    """Serve until a signal comes."""
    system = System(name="stage", journal=journal, max_running=5_000)
    service = Service([researcher, writer, reader, librarian], system=system, token=token)
    server = uvicorn.Server(
        uvicorn.Config(service, port=port, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
    )

    async def drain_when_told() -> None:
        with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
            async for _ in signals:
                await system.drain(2)
                service.end_streams()
                server.should_exit = True

    async with service, anyio.create_task_group() as group:
        group.start_soon(drain_when_told)
        if not bare:
            two = Supervisor([ChildSpec("index", Clerk), ChildSpec("mail", Clerk)])
            clerks = await system.spawn(two, name="clerks")
            mail = clerks.child("mail")
            assert mail is not None
            await mail.tell("crash")
        for number in range(runs):
            agent = (researcher, writer)[number % 2]
            await system.start(agent, f"slowly {number}", run_id=f"run-{number:04}")
        await server.serve()
        group.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--runs", type=int, default=0, help="that are at work from the beginning")
    parser.add_argument("--journal")
    parser.add_argument("--token")
    parser.add_argument("--bare", action="store_true")
    given = parser.parse_args()
    anyio.run(play, given.port, given.runs, given.journal, given.token, given.bare)
