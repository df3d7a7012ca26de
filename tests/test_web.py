"""The examples of web frameworks: behind a real server with a real client, and on both backends as ASGI applications.

uvicorn knows only asyncio. What a server does when a client goes away, it says to the application, so the same is
tested once more without one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
import uvicorn

from greenroom import Hooks, events
from greenroom.providers import InvalidRequest, ModelRequest, Scripted

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
#: What happens in order where a client goes away, by `on_exit`. The model is let go before its run can complete.
STORIES = {
    "stop": ["asked", "gone", "run.stopped", "left"],
    "wait": ["asked", "gone", "run.completed", "left"],
    "detach": ["asked", "gone", "left", "run.completed"],
}
STREAMS = [
    *[
        ("with_fastapi", f"/{form}?question=Hi&on_exit={on_exit}", STORIES[on_exit])
        for form in ("ndjson", "sse")
        for on_exit in STORIES
    ],
    ("with_starlette", "/ndjson?question=Hi", STORIES["stop"]),
    ("with_starlette", "/sse?question=Hi", STORIES["detach"]),
]
BOTH = pytest.mark.parametrize("name", ["with_fastapi", "with_starlette"])


class Example:
    """An example with a model that begins its answer when it is asked, and ends it when it is let go.

    Attributes:
        told: what happens, in order: the model is ``asked``, the client is ``gone``, the run has ended (the event's
            type), the application has ``left`` the request.
        ends: the last events of the runs.
    """

    def __init__(self, name: str) -> None:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        self.module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        self.told: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.ends: list[events.Event] = []
        self._let_go: Callable[[], object] | None = None
        self.play(*[self._hold] * 9)

    def play(self, *lines: Any) -> None:
        """Have the model play a script."""
        self.module.agent = self.module.agent.with_(model=Scripted(*lines), hooks=Hooks(on_run_end=self._ended))

    def _ended(self, event: events.Event) -> None:
        self.ends.append(event)
        self.told.put(event.type)

    async def _hold(self, request: ModelRequest) -> str:
        gate = anyio.Event()
        token = anyio.lowlevel.current_token()
        self._let_go = lambda: anyio.from_thread.run_sync(gate.set, token=token)
        self.told.put("asked")
        await gate.wait()
        return "Hello, you."

    def let_go(self) -> None:
        """Have the model answer. From a thread."""
        assert self._let_go is not None
        self._let_go()

    async def app(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """The application, watched."""

        async def watched() -> Any:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.told.put("gone")
            return message

        try:
            await self.module.app(scope, watched, send)
        finally:
            if scope["type"] == "http":
                self.told.put("left")


@contextmanager
def serving(example: Example) -> Iterator[str]:
    """uvicorn in a thread, on a free port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # uvloop, where it is installed, would keep a pipe of the process for ever.
        options: dict[str, Any] = {"interface": "asgi3", "lifespan": "on", "log_level": "critical", "loop": "asyncio"}
        server = uvicorn.Server(uvicorn.Config(example.app, **options))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@BOTH
def test_an_answer_and_both_streams(name: str) -> None:
    """Whole, in the form that their media type promises."""
    example = Example(name)
    example.play(*["Hello,\nyou."] * 3)
    with serving(example) as url, httpx.Client(base_url=url) as client:
        assert client.get("/answer", params={"question": "Hi"}).json() == {"answer": "Hello,\nyou."}

        answer = client.get("/ndjson", params={"question": "Hi"})
        assert answer.headers["content-type"] == "application/x-ndjson"
        told = [json.loads(line) for line in answer.text.splitlines()]
        assert [told[0]["type"], told[-1]["type"]] == ["run.started", "run.completed"]
        assert [each["seq"] for each in told] == sorted(each["seq"] for each in told)
        assert "".join(each["text"] for each in told if each["type"] == "model.text_delta") == "Hello,\nyou."

        answer = client.get("/sse", params={"question": "Hi"})
        assert answer.headers["content-type"].startswith("text/event-stream")
        *frames, rest = answer.text.split("\n\n")
        assert rest == ""
        fields = [dict(line.split(":", 1) for line in frame.split("\n")) for frame in frames]
        assert [json.loads(each["data"])["type"] for each in fields] == [each["event"].strip() for each in fields]
        assert fields[-1]["event"] == " run.completed"


@pytest.mark.parametrize(("name", "path", "story"), STREAMS)
def test_a_client_that_goes_away(name: str, path: str, story: list[str]) -> None:
    """In the middle of a stream, while the model is busy: its run is stopped, waited for, or goes on by itself."""
    example = Example(name)
    with serving(example) as url, httpx.Client(base_url=url) as client:
        with client.stream("GET", path) as answer:
            assert answer.status_code == 200
            assert example.told.get(timeout=20) == "asked"
        for each in story[1:]:
            if each == "run.completed":
                assert example.told.empty()
                example.let_go()
            assert example.told.get(timeout=20) == each
    [end] = example.ends
    assert not isinstance(end, events.RunStopped) or end.reason == "abandoned"


@BOTH
def test_a_server_that_ends(name: str) -> None:
    """The System ends with it, and the runs that nobody follows any more."""
    example = Example(name)
    with serving(example) as url, httpx.Client(base_url=url) as client:
        with client.stream("GET", "/sse?question=Hi&on_exit=detach"):
            assert example.told.get(timeout=20) == "asked"
        assert [example.told.get(timeout=20), example.told.get(timeout=20)] == ["gone", "left"]
    assert example.told.get(timeout=20) == "run.stopped"
    assert isinstance(example.ends[0], events.RunStopped)
    assert example.ends[0].reason == "system"


@BOTH
def test_a_run_that_fails(name: str) -> None:
    """A stream says so in its last line, and is cut; the next request is served."""
    example = Example(name)
    example.play(InvalidRequest("no such model"), "Fine.")
    with serving(example) as url, httpx.Client(base_url=url) as client:
        told: list[str] = []
        with client.stream("GET", "/ndjson?question=Hi") as answer, pytest.raises(httpx.RemoteProtocolError):
            for line in answer.iter_lines():
                told.append(json.loads(line)["type"])
        assert told[-1] == "run.failed"
        assert client.get("/answer?question=Hi").json() == {"answer": "Fine."}


@BOTH
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_it_runs_as_it_is(name: str) -> None:
    """As a program, until SIGTERM, with nothing to complain of."""
    program = (
        "import runpy, uvicorn; run = uvicorn.run; uvicorn.run = lambda app, **more: run(app, port=0, **more); "
        f"runpy.run_path({str(EXAMPLES / name)!r} + '.py', run_name='__main__')"
    )
    command = [sys.executable, "-P", "-X", "utf8", "-W", "error", "-c", program]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as server:
        assert server.stderr is not None
        said = ""
        try:
            while "running on" not in said:
                line = server.stderr.readline()
                assert line, said
                said += line
            found = re.search(r"running on (http://\S+)", said)
            assert found is not None
            assert httpx.get(f"{found[1]}/answer", params={"question": "Hi"}).json() == {"answer": "You said: Hi"}
            server.send_signal(signal.SIGTERM)
            said += server.communicate(timeout=30)[1]
        except BaseException:
            server.kill()
            raise
    assert server.returncode in (0, -signal.SIGTERM)
    assert "shutdown complete" in said
    assert not re.search(r"Traceback|Error|Warning", said), said


# -- as ASGI applications, on both backends


async def request(example: Example, target: str, gone: anyio.Event, send: Callable[..., Awaitable[None]]) -> None:
    """One request, as a server passes it on; the client goes away when it is told to."""
    path, _, query = target.partition("?")
    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "headers": []}

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    await example.app({**scope, "method": "GET", "path": path, "query_string": query.encode()}, receive, send)


async def hear(example: Example) -> str:
    """What is told next."""
    return await anyio.to_thread.run_sync(partial(example.told.get, timeout=20))


# Starlette leaves a generator half read where it is cancelled while it sends; trio says so. It holds nothing.
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
@pytest.mark.anyio
@pytest.mark.parametrize("busy", ["waits", "sends"])
@pytest.mark.parametrize(("name", "path", "story"), STREAMS)
async def test_a_client_that_goes_away_on_both_backends(name: str, path: str, story: list[str], busy: str) -> None:
    """While the server waits for the run, and while it waits until the client takes what was sent."""
    example = Example(name)
    gone = anyio.Event()

    async def send(message: MutableMapping[str, Any]) -> None:
        if busy == "sends" and message.get("body"):
            await anyio.sleep_forever()

    async with example.module.lifespan(example.module.app), anyio.create_task_group() as group:
        group.start_soon(request, example, path, gone, send)
        assert await hear(example) == "asked"
        gone.set()
        for each in story[1:]:
            if each == "run.completed":
                assert example.told.empty()
                await anyio.to_thread.run_sync(example.let_go)
            assert await hear(example) == each
