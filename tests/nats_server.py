"""NATS servers for tests: real ones, each on free ports of this machine with a store of its own.

A test that only needs *a* server takes the fixture `nats_url` and a prefix of its own (`fresh_prefix`): starting one
takes a fifth of a second, but a session has hundreds of tests. One that kills it starts its own with `NatsServer`.

The program comes from the wheel beside this Python, from the PATH, or from ``$NATS_SERVER``. Where there is none, tests
are skipped; where the environment says that this is ``CI``, they fail.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

#: Seconds that a server has to be ready, on a machine that has much else to do.
PATIENCE = 20.0


def program() -> str:
    """The path of ``nats-server``."""
    for place in (Path(sys.executable).parent, *map(Path, os.environ.get("PATH", "").split(os.pathsep))):
        for name in ("nats-server", "nats-server.exe"):
            if (place / name).is_file():
                return str(place / name)
    if given := os.environ.get("NATS_SERVER"):
        return given
    why = "there is no nats-server: install it, or set NATS_SERVER"
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


def fresh_prefix() -> str:
    """A prefix that nobody else has on a shared server."""
    return f"t{secrets.token_hex(5)}"


class NatsServer:
    """One server, from the beginning to the end of the block; killed in between as often as a test likes.

    Args:
        folder: for its configuration, its log and its store.
        settings: more lines for its configuration, but for ``jetstream``.
        name: of the server, in a cluster.
        sync_always: whether it waits for the disk before it says that something is stored.
    """

    def __init__(self, folder: Path, settings: str = "", *, name: str = "alone", sync_always: bool = False) -> None:
        self.folder = folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self._settings = settings
        self._sync = "sync_interval: always" if sync_always else ""
        self._process: subprocess.Popen[bytes] | None = None
        self.port = -1
        self.monitor_port = -1

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def monitor(self) -> str:
        return f"http://127.0.0.1:{self.monitor_port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it; again on the same ports, with the same store."""
        ports = self.folder / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir()
        config = self.folder / "server.conf"
        config.write_text(
            f"server_name: {self.name}\nlisten: 127.0.0.1:{self.port}\nhttp: 127.0.0.1:{self.monitor_port}\n"
            f"jetstream {{ store_dir: {json.dumps(str(self.folder / 'store'))}, {self._sync} }}\n{self._settings}\n"
        )
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [program(), "-c", str(config), "--ports_file_dir", str(ports)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        found: dict[str, Any] = self._wait_for(lambda: _ports(ports))
        self.port = _port(found["nats"])
        self.monitor_port = _port(found["monitoring"])
        self._wait_for(self.is_ready)

    def is_ready(self) -> bool:
        """Whether it takes connections and has JetStream."""
        try:
            with urllib.request.urlopen(f"{self.monitor}/healthz?js-server-only=true", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def says(self, path: str) -> dict[str, Any]:
        """What its monitoring says, such as ``/varz``."""
        with urllib.request.urlopen(f"{self.monitor}{path}", timeout=2) as answer:
            return json.load(answer)

    def kill(self) -> None:
        """As a crash does."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop it in the middle of whatever it does; connections stay. It does nothing more when this returns."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self._wait_for(lambda: self._stands_still() or None)

    def _stands_still(self) -> bool:
        """Whether each of its threads has stopped: a busy machine takes its time with that."""
        assert self._process is not None
        threads = Path(f"/proc/{self._process.pid}/task").glob("*/stat")
        return all(thread.read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _wait_for(self, look: Any) -> Any:
        until = time.monotonic() + PATIENCE
        while True:
            if found := look():
                return found
            if time.monotonic() > until or (self._process is not None and self._process.poll() is not None):
                raise AssertionError(f"nats-server is not ready:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.01)


def _ports(folder: Path) -> dict[str, Any] | None:
    for path in folder.glob("*.ports"):
        try:
            return json.loads(path.read_text())
        except ValueError:  # half written
            return None
    return None


def _port(urls: list[str]) -> int:
    return int(urls[0].rpartition(":")[2])


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens at now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def cluster_of_three(folder: Path, settings: str = "") -> Iterator[list[NatsServer]]:
    """Three servers that hold the same streams, with a leader."""
    routes = free_ports(3)
    to_all = ", ".join(f"nats-route://127.0.0.1:{port}" for port in routes)
    servers = [
        NatsServer(
            folder,
            f"cluster {{ name: three, listen: 127.0.0.1:{port}, routes: [{to_all}] }}\n{settings}",
            name=f"server{number}",
        )
        for number, port in enumerate(routes)
    ]
    try:
        for server in servers:
            server.start()
        until = time.monotonic() + PATIENCE
        while not all(server.says("/jsz").get("meta_cluster", {}).get("leader") for server in servers):
            assert time.monotonic() < until, "the cluster has no leader"
            time.sleep(0.02)
        yield servers
    finally:
        for server in servers:
            server.kill()


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that the tests of this process share."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server.url
