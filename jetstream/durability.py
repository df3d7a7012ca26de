"""Whether a NATS server could lose what it said was stored.

By default a server says that a message is stored when its operating system has it; the disk gets it up to two minutes
later. A power cut in between loses it, unless two other servers hold it as well. So a stream is called durable here if
three servers hold it, or if each of those that do waits for its disk (``sync_interval: always``).

How many hold a stream, and which, is in the stream's own description. Whether a server waits for its disk is told by
its monitoring address, or over the connection where the system account exports it. Where neither can be asked nothing
is known, and what is not known is not durable.
"""

from __future__ import annotations

import json
import urllib.request
from functools import partial
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import anyio
from anyio import to_thread

from .errors import EngineRefused
from .link import Link
from .questions import TRY, status
from .settings import SAFE, Settings

#: Seconds in which the servers of a cluster answer a question to all of them.
ALL = 0.5
_ASK_ALL = "$SYS.REQ.SERVER.PING.VARZ"


async def check_durable(link: Link, settings: Settings, info: dict[str, Any]) -> None:
    """See that a stream is durable. On the far side.

    Args:
        link: the connection.
        settings: with the monitoring addresses.
        info: the stream's description.

    Raises:
        EngineRefused: it is not, or nothing can be learned about it.
    """
    config: dict[str, Any] = info["config"]
    name, replicas = config["name"], config["num_replicas"]
    if config.get("persist_mode", "default") == "async":
        raise EngineRefused(f"the stream {name} is not durable: it has the persist_mode 'async'; make it anew without")
    if replicas >= SAFE:
        return
    holders = _holders(info) or {"that holds it"}
    syncs = await _told_by_monitors(settings.monitors)
    if not holders <= set(syncs):
        syncs = {**await _told_by_all(link), **syncs}
    lazy = sorted(each for each in holders if syncs.get(each) is False)
    unknown = sorted(each for each in holders if each not in syncs)
    if lazy:
        raise EngineRefused(
            f"the stream {name} is not durable: the server {', '.join(lazy)} does not wait for its disk; set"
            " `jetstream { sync_interval: always }` there, or have replicas=3 in a cluster"
        )
    if unknown:
        raise EngineRefused(
            f"nobody tells whether the server {', '.join(unknown)} waits for its disk, so the stream {name} may not be"
            " durable: give its monitoring address, monitor='http://host:8222', or have replicas=3 in a cluster"
        )


def _holders(info: dict[str, Any]) -> set[str]:
    """The names of the servers that hold a stream; empty where it does not say."""
    cluster: dict[str, Any] = info.get("cluster") or {}
    replicas: list[dict[str, Any]] = cluster.get("replicas") or []
    return {name for name in [cluster.get("leader"), *(each.get("name") for each in replicas)] if name}


async def _told_by_all(link: Link) -> dict[str, bool]:
    """Whether servers wait for their disks, of those that tell over the connection."""
    told: dict[str, bool] = {}
    over = anyio.Event()

    def take(message: Any) -> None:
        if status(message):
            over.set()
        else:
            said: dict[str, Any] = json.loads(message.data)
            told.update(_told(said.get("data") or {}))

    inbox = link.new_inbox()
    listening = await link.listen(inbox, take)
    try:
        await link.say(_ASK_ALL, reply=inbox)
        with anyio.move_on_after(ALL):
            await over.wait()
    finally:
        await listening.stop()
    return told


async def _told_by_monitors(urls: tuple[str, ...]) -> dict[str, bool]:
    told: dict[str, bool] = {}
    for url in urls:
        try:
            told.update(_told(await to_thread.run_sync(partial(_varz, url), abandon_on_cancel=True)))
        except (OSError, ValueError) as error:
            raise EngineRefused(
                f"the monitoring address at {_place(url)} does not answer ({type(error).__name__}): see that the server"
                " has `http: 8222` in its configuration, and that monitor= is that address"
            ) from None
    return told


def _varz(url: str) -> dict[str, Any]:
    """It is an address of the house: whatever proxy the environment names is not asked."""
    straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with straight.open(f"{url.rstrip('/')}/varz", timeout=TRY) as answer:
            return json.load(answer)
    except HTTPError as error:
        error.close()
        raise


def _told(varz: dict[str, Any]) -> dict[str, bool]:
    jetstream: dict[str, Any] = varz.get("jetstream") or {}
    config: dict[str, Any] = jetstream.get("config") or {}
    return {varz["server_name"]: bool(config.get("sync_always"))} if "server_name" in varz else {}


def _place(url: str) -> str:
    """Without what may be a secret."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
