"""``greenroom serve`` as real processes: what it serves, how it ends, and what it refuses to do.

Scenarios 42 (SIGTERM drains), 43 (SIGINT) and 100 (the HTTP service). SIGTERM with hundreds of clients is in
`test_service_load`.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from greenroom.cli import status_of
from greenroom.cli_serve import TOKEN_VARIABLE, read_token

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")

TOKEN = "a-token-of-this-test"
APP = """
import os, subprocess, sys, time
from pathlib import Path
import anyio
from greenroom import Actor, Agent, RunContext, System, tool
from greenroom.providers import Scripted, call
from greenroom.service import Service

async def gated(request):
    while not Path("go").exists():
        await anyio.sleep(0.01)
    return "Gone on."

@tool(replay="safe")
async def gate() -> str:
    "Wait."
    while not Path("go").exists():
        await anyio.sleep(0.01)
    return "open"

@tool(where="process")
def dig() -> str:
    "Dig in a process of its own, with a child that minds no signal."
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code])
    Path("pids").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(60)
    return "dug"

@tool
async def talk(context: RunContext[None]) -> str:
    "Say more than any buffer holds."
    for number in range(900):
        context.emit("x" * 20_000)
        await anyio.sleep(0)
    return "said"

talker = Agent("talker", Scripted([call("talk")], "Done."), tools=[talk])

class Fragile(Actor):
    async def started(self, context):
        context.send_after(0.01, "break")

    async def receive(self, message, context):
        raise RuntimeError("broken")

@tool
async def wreck() -> str:
    "Start what breaks down again and again."
    await service_system.spawn(Fragile, restart="permanent")
    await anyio.sleep(60)
    return "?"

service_system = System()
wrecker = Service(Agent("wrecker", Scripted([call("wreck")], "?"), tools=[wreck]), system=service_system)
too_many = System(agents=[Agent("a", Scripted("b"))], max_running=10**9)
quick = Agent("quick", Scripted(*["Hello."] * 99))
slow = Agent("slow", Scripted(*[gated] * 99))
steps = Agent("steps", Scripted([call("gate")], "After the gate."), tools=[gate])
later = Agent("steps", Scripted("After the gate."), tools=[gate])
digger = Agent("digger", Scripted([call("dig")], "Dug."), tools=[dig])
agents = [quick, slow, steps, digger]
system = System(agents=agents)
service = Service(agents, on_disconnect="stop")
nothing = 5
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def wait_until(happened: Callable[[], bool]) -> None:
    """Wait for something in another process."""
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


class Served:
    """A process that serves, and what it says on standard error."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        self.url = ""
        self._up = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip("\n"))
            found = re.search(r"on (http://\S+);", line)
            if found is not None:
                self.url = found[1]
                self._up.set()
        self._up.set()

    def wait_up(self) -> None:
        assert self._up.wait(30)
        assert self.url, self.said

    def wait_said(self, words: str) -> None:
        """Wait until it has said something."""
        wait_until(lambda: any(words in line for line in self.said))

    def end(self, timeout: float = 30) -> int:
        """Wait for its end; its status."""
        status = self.process.wait(timeout)
        self._reader.join(10)
        return status


@contextmanager
def serving(folder: Path, target: str = "app:agents", *options: str, **environment: str) -> Iterator[Served]:
    command = [sys.executable, "-P", "-X", "utf8", "-W", "error", "-m", "greenroom", "serve", target, "--port", "0"]
    with subprocess.Popen(
        [*command, *options], cwd=folder, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
    ) as process:
        served = Served(process)
        try:
            served.wait_up()
            yield served
        finally:
            process.kill()
            served._reader.join(10)


class Follower(threading.Thread):
    """A client that follows a run until its stream ends."""

    def __init__(self, url: str, body: dict[str, Any]) -> None:
        super().__init__()
        self.url = url
        self.body = body
        self.events: list[str] = []
        self.was_cut = False
        self.begun = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            with httpx.stream("POST", f"{self.url}/runs", json={**self.body, "stream": True}, timeout=30) as answer:
                for line in answer.iter_lines():
                    if line.startswith("event: "):
                        self.events.append(line.removeprefix("event: "))
                        self.begun.set()
        except httpx.TransportError:
            self.was_cut = True

    def ended(self) -> list[str]:
        self.join(30)
        assert not self.is_alive()
        assert not self.was_cut
        return self.events


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_drains(folder: Path, number: signal.Signals) -> None:
    """New work is refused in so many words, a run comes to its end, and whoever follows it hears that."""
    with serving(folder) as served:
        follower = Follower(served.url, {"agent": "slow", "prompt": "Hi", "run_id": "one"})
        watcher = threading.Thread(target=lambda: httpx.get(f"{served.url}/tree/events", timeout=30))
        watcher.start()
        assert follower.begun.wait(20)
        served.process.send_signal(number)
        served.wait_said("draining")
        refused = httpx.post(f"{served.url}/runs", json={"agent": "quick", "prompt": "Hi"})
        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "draining")
        assert int(refused.headers["retry-after"]) > 0
        assert httpx.get(f"{served.url}/ready").status_code == 503
        assert httpx.get(f"{served.url}/health").status_code == 200
        assert httpx.get(f"{served.url}/runs/one").json()["status"] == "running"
        (folder / "go").touch()
        assert served.end() == 0
        assert follower.ended()[-1] == "run.completed"
        watcher.join(10)
        assert not watcher.is_alive()
    assert len(served.said) == 2
    assert number.name in served.said[1]


def test_what_is_not_done_in_time_is_stopped(folder: Path) -> None:
    """Without a journal, and the process ends all the same: with status 0, soon after its time."""
    with serving(folder, "app:slow", "--drain", "0.2") as served:
        follower = Follower(served.url, {"prompt": "Hi"})
        assert follower.begun.wait(20)
        before = time.monotonic()
        served.process.terminate()
        assert served.end() == 0
        assert time.monotonic() - before < 10
        assert follower.ended()[-1] == "run.stopped"


def test_the_next_process_goes_on(folder: Path) -> None:
    """With a journal: at the deadline what is left is written down as resumable, and the next one finishes it."""
    asked = {"agent": "steps", "prompt": "Hi", "run_id": "one"}
    with serving(folder, "app:agents", "--journal", "runs.db", "--drain", "0.2") as served:
        follower = Follower(served.url, asked)
        assert follower.begun.wait(20)
        wait_until(lambda: "tool.started" in follower.events)
        served.process.terminate()
        assert served.end() == 0
        assert follower.ended()[-1] == "run.stopped"
    (folder / "go").touch()
    with serving(folder, "app:later", "--journal", "runs.db") as served:
        events = httpx.get(f"{served.url}/runs/one/events", timeout=30).text
        assert "event: run.completed" in events
        run = httpx.get(f"{served.url}/runs/one").json()
        assert (run["status"], run["output"]) == ("completed", "After the gate.")
        said = httpx.get(f"{served.url}/runs/one/messages").json()["messages"]
        assert said[2]["parts"][0]["content"] == "open"
        served.process.terminate()
        assert served.end() == 0


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT)])
def test_a_second_signal_ends_at_once(folder: Path, numbers: tuple[signal.Signals, signal.Signals]) -> None:
    """With the status that says so, and no flood of tracebacks; streams are cut."""
    with serving(folder, "app:slow", "--drain", "600") as served:
        follower = Follower(served.url, {"prompt": "Hi"})
        assert follower.begun.wait(20)
        served.process.send_signal(numbers[0])
        served.wait_said("draining")
        served.process.send_signal(numbers[1])
        before = time.monotonic()
        assert served.end() == 128 + numbers[1]
        assert time.monotonic() - before < 10
        follower.join(10)
        assert follower.was_cut
    assert not any("Traceback" in line for line in served.said), served.said


def test_a_client_that_does_not_read_is_cut(folder: Path) -> None:
    """When everything else has ended, and without a word: nobody waits for it for ever."""
    with serving(folder, "app:talker", "--drain", "0.2") as served:
        port = int(served.url.rpartition(":")[2])
        body = b'{"prompt": "Hi", "stream": true, "run_id": "one"}'
        head = "POST /runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", port)) as deaf:
            deaf.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            wait_until(lambda: httpx.get(f"{served.url}/runs/one").json().get("status") == "completed")
            served.process.terminate()
            assert served.end() == 0
    assert len(served.said) == 2, served.said


def test_no_process_of_a_tool_survives(folder: Path) -> None:
    """Nor a child of it that minds no signal: Ctrl-C in a terminal goes to all of them, SIGTERM to the server alone."""
    with serving(folder, "app:digger", "--drain", "0.2") as served:
        httpx.post(f"{served.url}/runs", json={"prompt": "Dig"}).raise_for_status()
        pids = folder / "pids"
        wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        served.process.terminate()
        assert served.end() == 0
        for pid in map(int, pids.read_text().split()):
            wait_until(partial(is_gone, pid))


@pytest.mark.parametrize(
    "arguments", [["app:quick"], ["app:agents", "--host", "127.0.0.2"], ["app:system"], ["app:service"]]
)
def test_what_can_be_served(folder: Path, arguments: list[str]) -> None:
    """An agent, a list, a System with agents, a Service; for programs and at the same time for nobody else's pages."""
    with serving(folder, *arguments) as served, httpx.Client(base_url=served.url) as client:
        answer = client.post("/runs?wait=20", json={"agent": "quick", "prompt": "Hi"})
        assert (answer.status_code, answer.json()["output"]) == (201, "Hello.")
        evil = {"Host": "evil.example"}
        assert client.get("/agents", headers=evil).status_code == 421
        page = {"Origin": "https://evil.example"}
        assert client.post("/runs", json={"agent": "quick", "prompt": "Hi"}, headers=page).status_code == 403
        assert client.get("/agents", headers={"X-Large": "a" * 40_000}).status_code == 431
        assert client.post("/runs", json={"prompt": "a" * 2_000_000}).status_code == 413
        assert client.get("/agents").status_code == 200
        served.process.terminate()
        assert served.end() == 0


def test_a_token_opens_the_house(folder: Path) -> None:
    """It may be reached by others then, and by nobody who does not show it. No child process has it."""
    (folder / "token").write_text(f"{TOKEN}\n")
    for options, environment in ((["--token-file", "token"], {}), ([], {TOKEN_VARIABLE: TOKEN})):
        with serving(folder, "app:quick", "--host", "0.0.0.0", *options, **environment) as served:
            url = served.url.replace("0.0.0.0", "127.0.0.1")
            assert httpx.get(f"{url}/agents").status_code == 401
            own = {"Authorization": f"Bearer {TOKEN}"}
            assert httpx.get(f"{url}/agents", headers={**own, "Host": "agents.example.com"}).status_code == 200
            assert httpx.get(f"{url}/health").status_code == 200
            served.process.terminate()
            assert served.end() == 0
            assert TOKEN not in "".join(served.said)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["app:quick", "--host", "0.0.0.0"], "can be reached by others, and there is no token"),
        (["app:quick", "--host", "::"], "can be reached by others, and there is no token"),
        (["app:service", "--host", "0.0.0.0"], "can be reached by others, and there is no token"),
        (["app:quick", "--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid"),
        (["app:quick", "--host", "a..b"], "--host a..b is no name of a machine"),
        (["app:quick", "--host", "a/b"], "cannot listen on a/b"),
        (["app:quick", "--host", ""], "cannot listen on"),
        (["app:quick", "--backend", "trio"], "uvicorn, which serves here, knows asyncio only"),
        (["app:quick", "--token-file", "nix"], "--token-file nix cannot be read"),
        (["app:quick", "--token-file", "empty"], "--token-file empty is empty"),
        (["app:quick", "--token-file", "short"], "--token-file short needs at least 16 characters"),
        (["app:system", "--journal", "runs.db"], "a System, which has a journal of its own"),
        (["app:service", "--journal", "runs.db"], "a Service, which has its own: leave out --journal"),
        (["app:service", "--token-file", "token"], "a Service, which has its own: leave out --token-file"),
        (["app:nothing"], "app:nothing cannot be served"),
        (["app:nix"], "has no"),
        (["nix:agent"], "there is no module 'nix'"),
        (["./parts/nix.py:agent"], "write the module's name, not its file's: parts.nix:agent"),
        (["app"], "write module:"),
        (["app:quick", "--port", "70000"], "port"),
        (["app:quick", "--drain", "-1"], "drain"),
    ],
)
def test_what_cannot_be_served(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """One line that says why, and status 2; a token is never in it."""
    for name, text in (("empty", " \n"), ("short", "abcdef"), ("token", TOKEN)):
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "app", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert status_of(["serve", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert words in said
    assert "abcdef" not in said
    assert TOKEN not in said
    monkeypatch.delitem(sys.modules, "app", raising=False)


def test_a_system_that_gives_up(folder: Path) -> None:
    """Its error is the last line, and the status 1."""
    with serving(folder, "app:wrecker") as served:
        httpx.post(f"{served.url}/runs", json={"prompt": "Go"}).raise_for_status()
        assert served.end() == 1
    assert served.said[-1].startswith("greenroom: ")
    assert "fragile" in served.said[-1]


def test_more_runs_than_descriptors(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "app", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert status_of(["serve", "app:too_many", "--port", "0"]) == 1
    assert "lower max_running" in capsys.readouterr().err


def test_a_port_that_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "app", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert status_of(["serve", "app:quick", "--port", str(port)]) == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in capsys.readouterr().err


def test_a_token_of_the_environment_is_taken_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """So no process of a tool inherits it."""
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert read_token(None) == TOKEN
    assert TOKEN_VARIABLE not in os.environ
    assert read_token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, "")
    assert read_token(None) is None


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_without_its_libraries(missing: str) -> None:
    """It says what to install; the rest of the command line works without them."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None; from greenroom.cli import status_of; "
        "assert status_of(['--help']) == 0; sys.exit(status_of(['serve', 'app:agent']))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        f"greenroom: greenroom serve needs {missing}: pip install greenroom[serve]\n",
    )
