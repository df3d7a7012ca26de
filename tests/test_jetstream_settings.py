"""What is agreed about streams, and whether a server may be called durable."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from greenroom.jetstream import EngineAway, EngineRefused, Line, Settings
from greenroom.jetstream.durability import check_durable
from greenroom.jetstream.streams import make_stream, persist

from .nats_server import NatsServer, cluster_of_three, fresh_prefix, nats_url

pytestmark = pytest.mark.anyio
__all__ = ["nats_url"]


def test_settings_have_defaults() -> None:
    settings = Settings()
    assert (settings.prefix, settings.replicas, settings.durable, settings.monitors) == ("greenroom", 1, False, ())
    assert Settings(monitor="http://a:1").monitors == ("http://a:1",)
    assert Settings(monitor=["http://a:1", "https://b"]).monitors == ("http://a:1", "https://b")


@pytest.mark.parametrize(
    ("fields", "error", "name"),
    [
        ({"prefix": "a.b"}, ValueError, "prefix="),
        ({"prefix": 1}, TypeError, "prefix="),
        ({"replicas": 0}, ValueError, "replicas="),
        ({"replicas": 6}, ValueError, "replicas="),
        ({"replicas": True}, TypeError, "replicas="),
        ({"replicas": "3"}, TypeError, "replicas="),
        ({"durable": 1}, TypeError, "durable="),
        ({"monitor": "localhost:8222"}, ValueError, "monitor="),
        ({"monitor": "nats://user:secret@host:8222"}, ValueError, "monitor="),
        ({"monitor": "http://user:secret@host:8222"}, ValueError, "monitor="),
        ({"monitor": "http://"}, ValueError, "monitor="),
        ({"monitor": "http://secret@host:no"}, ValueError, "monitor="),
        ({"monitor": ["http://a", 1]}, TypeError, "monitor="),
        ({"monitor": 8222}, TypeError, "monitor="),
    ],
)
def test_settings_that_cannot_work(fields: dict[str, Any], error: type[Exception], name: str) -> None:
    with pytest.raises(error, match=name) as caught:
        Settings(**fields)
    assert "secret" not in str(caught.value)


# -- streams


def config(prefix: str, **more: Any) -> dict[str, Any]:
    return {"name": f"{prefix}_X", "subjects": [f"{prefix}.x.*"], "storage": "file", "discard": "new"} | more


async def test_a_stream_is_made_once_and_then_looked_at(nats_url: str) -> None:
    prefix = fresh_prefix()
    settings = Settings(prefix=prefix)
    async with Line(nats_url) as line:

        async def make(**more: Any) -> dict[str, Any]:
            return await line.call(make_stream, line.link, settings, config(prefix, **more), 1.0)

        for _ in range(2):
            assert (await make())["discard"] == "new"
        assert (await make(max_msgs=5))["max_msgs"] == -1  # not compared: it may be changed at any time
        with pytest.raises(EngineRefused, match=f"{prefix}_X is there with discard 'new' instead of 'old'.*prefix="):
            await make(discard="old")
        with pytest.raises(EngineRefused, match="storage 'file' instead of 'memory'"):
            await make(storage="memory")
        with pytest.raises(EngineRefused, match=r"other_X cannot be made: .*overlap"):
            await make(name="other_X")


async def test_replicas_need_a_cluster(nats_url: str) -> None:
    prefix = fresh_prefix()
    async with Line(nats_url) as line:
        with pytest.raises(EngineRefused, match="non-clustered"):
            await line.call(make_stream, line.link, Settings(prefix=prefix, replicas=3), config(prefix), 1.0)


@pytest.mark.parametrize(
    ("errors", "tries"),
    [
        ([EngineAway("a"), EngineRefused("no leader", 503, 10008), EngineRefused("few", 400, 10005)], 4),
        ([EngineRefused("no", 400, 10071)], 1),
        ([EngineRefused("full", 503, 10077)], 1),
        ([EngineRefused("no JetStream", 503, 10039)], 1),
        ([EngineAway("a")] * 100, 3),
    ],
)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_passes_is_tried_again(errors: list[Exception], tries: int) -> None:
    """For as long as was said."""
    tried = 0

    async def ask(answer: str) -> str:
        nonlocal tried
        tried += 1
        if errors:
            raise errors.pop(0)
        return answer

    within = 0.05 if len(errors) > 50 else 5.0
    if tries == 4:
        assert await persist(within, ask, "yes") == "yes"
    else:
        with pytest.raises((EngineAway, EngineRefused)):
            await persist(within, ask, "yes")
    assert tried == tries


# -- durability


async def stream_on(line: Line, settings: Settings, **more: Any) -> dict[str, Any]:
    return await line.call(make_stream, line.link, settings, config(settings.prefix, **more), 10.0)


async def test_a_server_that_does_not_wait_for_its_disk_is_not_durable(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        async with Line(server.url) as line:
            with pytest.raises(EngineRefused, match=r"alone does not wait .*sync_interval: always.*replicas=3"):
                await stream_on(line, Settings(durable=True, monitor=server.monitor))
            with pytest.raises(
                EngineRefused, match=r"nobody tells whether the server alone .*monitor='http://host:8222'"
            ):
                await stream_on(line, Settings(durable=True))
            await stream_on(line, Settings(durable=True), name="M", subjects=["m"], storage="memory")


async def test_a_server_that_waits_for_its_disk_is_durable(tmp_path: Path) -> None:
    with NatsServer(tmp_path, sync_always=True) as server:
        async with Line(server.url) as line:
            await stream_on(line, Settings(durable=True, monitor=f"{server.monitor}/"))
            with pytest.raises(EngineRefused, match="nobody tells"):
                await stream_on(line, Settings(durable=True))
            info = await line.call(line.link.ask_json, "$JS.API.STREAM.INFO.greenroom_X")
            for damaged in (
                info | {"config": info["config"] | {"persist_mode": "async"}},
                info | {"cluster": {"leader": "another"}},
                info | {"cluster": None},
            ):
                with pytest.raises(EngineRefused, match=r"async|another|that holds it"):
                    await line.call(check_durable, line.link, Settings(monitor=server.monitor), damaged)


ACCOUNTS = """
accounts {
  SYS: { users: [{user: sys, password: pw}], exports: [{service: "$SYS.REQ.SERVER.PING.VARZ", accounts: [A]}] }
  A: {
    jetstream: enabled
    users: [{user: a, password: "p@w"}]
    imports: [{service: {account: SYS, subject: "$SYS.REQ.SERVER.PING.VARZ"}}]
  }
}
system_account: SYS
"""


async def test_a_system_account_may_tell(tmp_path: Path) -> None:
    """Where it exports what is asked; then no monitoring address is needed."""
    with NatsServer(tmp_path, ACCOUNTS, sync_always=True) as server:
        async with Line(server.url.replace("//", "//a:p%40w@")) as line:
            await stream_on(line, Settings(durable=True))
    with NatsServer(tmp_path / "lazy", ACCOUNTS) as server:
        async with Line(server.url.replace("//", "//a:p%40w@")) as line:
            with pytest.raises(EngineRefused, match="alone does not wait"):
                await stream_on(line, Settings(durable=True))


class Strange(http.server.BaseHTTPRequestHandler):
    """No monitoring."""

    def do_GET(self) -> None:
        self.send_response(200 if "json" in self.path else 404)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def strange() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Strange) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_a_monitoring_address_that_is_none(nats_url: str, strange: str) -> None:
    prefix = fresh_prefix()
    async with Line(nats_url) as line:
        for monitor in ("http://127.0.0.1:1", strange, f"{strange}/json"):
            with pytest.raises(EngineRefused, match=r"the monitoring address at 127\.0\.0\.1:\d+ does not answer"):
                await stream_on(line, Settings(prefix=prefix, durable=True, monitor=monitor))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_three_servers_are_durable(tmp_path: Path) -> None:
    """One of them alone is not, and a stream with more replicas than wanted is as good."""
    with cluster_of_three(tmp_path) as servers:
        async with Line([server.url for server in servers]) as line:
            assert (await stream_on(line, Settings(replicas=3, durable=True)))["num_replicas"] == 3
            assert (await stream_on(line, Settings(replicas=1, durable=True)))["num_replicas"] == 3
            with pytest.raises(EngineRefused, match="3 replicas instead of 5"):
                await stream_on(line, Settings(replicas=5))
            lone = Settings(durable=True, monitor=[server.monitor for server in servers])
            with pytest.raises(EngineRefused, match=r"server\d does not wait"):
                await stream_on(line, lone, name="lone", subjects=["lone"])
