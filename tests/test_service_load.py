"""The whole service under many clients: 500 streams at once, half of which are left by their clients.

Half of them follow runs that go on without followers, half are answers of the OpenAI-compatible endpoint, whose runs
end with their clients. Clients are raw sockets: what is measured is the server.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import anyio
import anyio.lowlevel
import httpx
import msgspec
import pytest
import uvicorn
from anyio.abc import SocketStream

from greenroom import Agent
from greenroom.providers import Message, ModelEvent, ModelReply, ModelRequest, Provider, Text, TextDelta, Usage
from greenroom.service import Service
from greenroom.testing import run as play

from .openai_exchange import Exchange

#: Streams of each kind, and runs that are followed, each by several.
STREAMS = 250
FOLLOWED = 50
POLL = 0.05
#: What is asked of the OpenAI-compatible endpoint.
ASK: Any = {"model": "helper", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


class Held(Provider):
    """Begins its answer at once, and ends it when it is let go."""

    name, model = "held", "held-1"

    def __init__(self, is_let_go: Callable[[], bool]) -> None:
        self.is_let_go = is_let_go

    async def complete(self, request: ModelRequest) -> ModelReply:
        while not self.is_let_go():
            await anyio.sleep(POLL)
        return ModelReply(Message("assistant", (Text("Hello, you."),)), "stop", Usage(3, 4))

    def stream(self, request: ModelRequest) -> Any:
        return _HeldStream(self, request)


class _HeldStream:
    def __init__(self, provider: Held, request: ModelRequest) -> None:
        self._provider = provider
        self._request = request
        self._texts = ["you.", "Hello, "]
        self.reply: ModelReply

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ModelEvent:
        await anyio.lowlevel.checkpoint()
        if len(self._texts) == 1:
            self.reply = await self._provider.complete(self._request)
        if not self._texts:
            raise StopAsyncIteration
        return TextDelta(self._texts.pop())


class Client:
    """A stream, as its client has it: a socket, and what came of it so far."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self.got = b""

    @classmethod
    async def send(cls, port: int, method: str, path: str, body: Any = None) -> Self:
        """Ask for a stream."""
        content = msgspec.json.encode(body) if body is not None else b""
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: text/event-stream\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        stream = await anyio.connect_tcp("127.0.0.1", port)
        await stream.send(head.encode() + content)
        return cls(stream)

    async def until(self, mark: bytes) -> None:
        """Read until something has come; fails if the stream ends before."""
        while mark not in self.got:
            self.got += await self._stream.receive()

    async def to_its_end(self) -> bytes:
        """Read all that comes until the answer is over."""
        try:
            while not self.got.endswith(b"0\r\n\r\n"):
                self.got += await self._stream.receive()
        except anyio.EndOfStream:
            pass
        return self.got

    async def leave(self) -> None:
        """Go away."""
        await self._stream.aclose()


async def each(clients: list[Client], do: Callable[[Client], Awaitable[Any]]) -> None:
    """Do something with all of them at the same time."""
    async with anyio.create_task_group() as group:
        for client in clients:
            group.start_soon(do, client)


class Crowd:
    """All clients of a test: those that follow runs, and those that are answered."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.runs: list[str] = []
        self.followers: list[Client] = []
        self.answered: list[Client] = []

    async def come(self) -> None:
        """Start runs and follow them, ask for answers, and wait until each stream has begun."""
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}") as client:
            for _ in range(FOLLOWED):
                self.runs.append((await client.post("/runs", json={"prompt": "Hi"})).json()["id"])
        limit = anyio.Semaphore(50)  # as many at once as a listening socket holds for sure

        async def follow(number: int) -> None:
            async with limit:
                path = f"/runs/{self.runs[number % FOLLOWED]}/events"
                client = await Client.send(self.port, "GET", path)
                await client.until(b"event: run.started")
                self.followers.append(client)

        async def be_answered() -> None:
            async with limit:
                client = await Client.send(self.port, "POST", "/v1/chat/completions", ASK)
                await client.until(b'"content":"Hello, "')
                self.answered.append(client)

        async with anyio.create_task_group() as group:
            for number in range(STREAMS):
                group.start_soon(follow, number)
                group.start_soon(be_answered)

    async def halve(self) -> None:
        """Half of them go away."""
        for clients in (self.followers, self.answered):
            leaving = clients[: len(clients) // 2]
            del clients[: len(leaving)]
            await each(leaving, Client.leave)

    async def hear_the_end(self) -> None:
        """Read all streams to their ends."""
        await each([*self.followers, *self.answered], Client.to_its_end)

    async def leave(self) -> None:
        """All go away."""
        await each([*self.followers, *self.answered], Client.leave)


def descriptors(process: int) -> int:
    """How many files and sockets a process has open."""
    return len(os.listdir(f"/proc/{process}/fd"))


async def becomes(value: Callable[[], int], wanted: int) -> None:
    """Wait until something is so many, or fewer."""
    with anyio.move_on_after(20):
        while value() > wanted:
            await anyio.sleep(0.05)
    assert value() <= wanted


linux = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors in /proc")


class Watched:
    """A service behind uvicorn in a thread, and how it is doing."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.ends: list[tuple[str, str]] = []
        agent = Agent("helper", Held(self.let_go.is_set), hooks={"on_run_end": self._ended})
        self.service = Service(agent)
        self._loop: asyncio.AbstractEventLoop | None = None

    def _ended(self, event: Any) -> None:
        self.ends.append((event.type, event.reason))

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self._loop = asyncio.get_running_loop()
        await self.service(scope, receive, send)

    def tasks(self) -> int:
        """Tasks in the service's event loop."""
        assert self._loop is not None
        return len(asyncio.all_tasks(self._loop))

    @contextmanager
    def serving(self) -> Iterator[int]:
        """Its port."""
        with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
            options: dict[str, Any] = {"interface": "asgi3", "lifespan": "on", "log_level": "error", "loop": "asyncio"}
            server = uvicorn.Server(uvicorn.Config(self.app, **options))
            thread = threading.Thread(target=server.run, args=([listener],))
            thread.start()
            try:
                yield listener.getsockname()[1]
            finally:
                self.let_go.set()
                server.should_exit = True
                thread.join(30)
                assert not thread.is_alive()


@linux
def test_half_of_500_clients_leave() -> None:
    """Runs follow the policy, and nothing of the streams is left."""
    watched = Watched()

    async def scenario(port: int) -> None:
        service = watched.service
        # The first run that is stopped starts the timers of the System, which stay.
        first = await Client.send(port, "POST", "/v1/chat/completions", ASK)
        await first.until(b'"content":"Hello, "')
        await first.leave()
        await becomes(lambda: 1 - len(watched.ends), 0)
        watched.ends.clear()
        await becomes(lambda: service.meter.streams, 0)
        tasks, files = watched.tasks(), descriptors(os.getpid())
        crowd = Crowd(port)
        await crowd.come()
        assert service.meter.streams == 2 * STREAMS
        assert len(service.system.pool) == FOLLOWED + STREAMS

        await crowd.halve()
        await becomes(lambda: service.meter.streams, STREAMS)
        # An answer that nobody waits for is given up; a run that was followed goes on.
        await becomes(lambda: STREAMS // 2 - len(watched.ends), 0)
        assert set(watched.ends) == {("run.stopped", "abandoned")}
        assert len(service.system.pool) == FOLLOWED + STREAMS // 2

        watched.let_go.set()
        await crowd.hear_the_end()
        assert all(b"event: run.completed" in each.got for each in crowd.followers)
        assert all(b'"content":"you."' in each.got and b"[DONE]" in each.got for each in crowd.answered)
        await crowd.leave()
        assert watched.ends.count(("run.completed", "answered")) == FOLLOWED + STREAMS // 2
        assert len(watched.ends) == FOLLOWED + STREAMS

        await becomes(lambda: service.meter.streams, 0)
        await becomes(lambda: len(service.system.pool), 0)
        await becomes(watched.tasks, tasks)
        await becomes(lambda: descriptors(os.getpid()), files)

    async def in_time(port: int) -> None:
        with anyio.fail_after(60):
            await scenario(port)

    with watched.serving() as port:
        anyio.run(in_time, port)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_half_of_400_clients_leave_without_a_network(backend: str) -> None:
    """The same on both backends, where a task that is left behind fails the test."""
    ends: list[str] = []

    async def scenario() -> None:
        is_let_go = False
        agent = Agent("helper", Held(lambda: is_let_go), hooks={"on_run_end": lambda event: ends.append(event.reason)})
        async with Service(agent) as service, anyio.create_task_group() as group:
            started = await Exchange(service, {"prompt": "Hi"}, path="/runs").perform()
            events = f"/runs/{started.json['id']}/events"
            followers = [Exchange(service, b"", method="GET", path=events) for _ in range(200)]
            answers = [Exchange(service, ASK) for _ in range(200)]
            for each in (*followers, *answers):
                group.start_soon(each.perform)
            await anyio.sleep(1)
            assert service.meter.streams == 400
            for each in (*followers[:100], *answers[:100]):
                each.gone.set()
            await anyio.sleep(1)
            assert service.meter.streams == 200
            assert ends == ["abandoned"] * 100
            is_let_go = True
            await anyio.sleep(1)
            assert service.meter.streams == 0
            assert len(service.system.pool) == 0
            assert all(b"event: run.completed" in each.body for each in followers[100:])
            assert {each.said for each in answers[100:]} == {"Hello, you."}

    play(scenario, backend=backend)
    assert ends.count("answered") == 101


PROGRAM = """
from pathlib import Path

from greenroom import Agent
from tests.test_service_load import Held

flag = Path({flag!r})
helper = Agent("helper", Held(flag.exists))
"""


@contextmanager
def served(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """``greenroom serve`` as a process of its own, and its port."""
    (folder / "helping.py").write_text(PROGRAM.format(flag=str(folder / "flag")))
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-P", "-X", "utf8", "-W", "error", "-m", "greenroom", "serve", "helping:helper"]
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{folder}"}
    with subprocess.Popen(
        [*command, "--port", "0", *options], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        try:
            line = server.stderr.readline()
            assert " on http://127.0.0.1:" in line, line + server.stderr.read()
            yield server, int(line.partition("127.0.0.1:")[2].partition(";")[0])
        finally:
            if server.poll() is None:
                server.kill()


@linux
@pytest.mark.parametrize("journal", [False, True])
def test_sigterm_under_that_load(tmp_path: Path, journal: bool) -> None:
    """New work is refused, what is under way comes to its end or to where it can go on, and the process ends with 0."""

    async def scenario(server: subprocess.Popen[str], port: int) -> None:
        async with AsyncExitStack() as stack:
            stack.enter_context(anyio.fail_after(80))
            crowd = Crowd(port)
            await crowd.come()
            before = descriptors(server.pid)
            await crowd.halve()
            await becomes(lambda: descriptors(server.pid), before - STREAMS)
            server.send_signal(signal.SIGTERM)
            await refuses(port)
            (tmp_path / "flag").touch()
            await crowd.hear_the_end()
            await anyio.to_thread.run_sync(server.wait)
            await crowd.leave()
        assert all(b"event: run.completed" in each.got for each in crowd.followers)
        assert all(b"[DONE]" in each.got for each in crowd.answered)

    options = ["--drain", "60", *(["--journal", str(tmp_path / "runs.db")] if journal else [])]
    with served(tmp_path, *options) as (server, port):
        anyio.run(scenario, server, port)
        assert server.stderr is not None
        said = server.stderr.read()
    assert server.returncode == 0, said
    assert "Traceback" not in said
    assert "Warning" not in said


async def refuses(port: int) -> None:
    """Wait until the service takes nothing new."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        while True:
            try:
                answer = await client.post("/v1/chat/completions", json=ASK, timeout=1)
            except (httpx.ConnectError, httpx.ReadTimeout):
                await anyio.sleep(0.05)
                continue
            if answer.status_code == 503:
                assert answer.json()["error"]["code"] == "draining"
                assert int(answer.headers["retry-after"]) > 0
                return
            await anyio.sleep(0.05)
