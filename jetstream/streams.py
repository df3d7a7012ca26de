"""Streams: made on first use, looked at when they are there."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple

import anyio

from .durability import check_durable
from .errors import EngineAway, EngineRefused
from .link import Link
from .settings import Settings

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: Seconds between two tries: the first pause, doubled each time, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
#: What a server says that will pass: whatever has this code, such as that there is no leader yet, but for these two
#: (the stream is full; the account has no JetStream); and that too few servers of the cluster are there.
PASSING, FINAL, TOO_FEW = 503, (10077, 10039), 10005
#: The server's number for a stream that is there with another configuration.
DIFFERENT = 10058

_COMPARED = ("subjects", "retention", "storage", "discard", "max_msgs_per_subject", "max_age", "allow_direct")


async def persist(within: float, ask: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
    """Try until there is an answer, for at most so many seconds and one try. On the far side.

    It must not matter whether something is done twice.

    Raises:
        EngineAway, EngineRefused: as the last try.
    """
    until = anyio.current_time() + within
    pause = FIRST_PAUSE
    while True:
        try:
            return await ask(*args)
        except EngineRefused as error:
            if not _passes(error) or anyio.current_time() >= until:
                raise
        except EngineAway:
            if anyio.current_time() >= until:
                raise
        await anyio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def _passes(error: EngineRefused) -> bool:
    return error.error == TOO_FEW or (error.code == PASSING and error.error not in FINAL)


async def make_stream(link: Link, settings: Settings, config: dict[str, Any], within: float) -> dict[str, Any]:
    """Make a stream, or see that the one that is there is as it should be. Its configuration as the server has it.

    Args:
        link: the connection. On the far side.
        settings: how many replicas, and whether it has to be durable (that is, if it is stored in files).
        config: the configuration, by the server's own names; the replicas are added.
        within: seconds for trying.

    Raises:
        EngineError: it cannot be made; it is not as it should be; the server does not answer.
    """
    name: str = config["name"]
    wanted = {**config, "num_replicas": settings.replicas}
    try:
        said = await persist(within, link.ask_json, f"$JS.API.STREAM.CREATE.{name}", wanted)
    except EngineRefused as error:
        if error.error != DIFFERENT:
            raise EngineRefused(f"the stream {name} cannot be made: {error}", error.code, error.error) from None
        said = await persist(within, link.ask_json, f"$JS.API.STREAM.INFO.{name}")
    found: dict[str, Any] = said["config"]
    _check_same(name, wanted, found)
    if settings.durable and found["storage"] == "file":
        said = await persist(within, link.ask_json, f"$JS.API.STREAM.INFO.{name}")
        await check_durable(link, settings, said)
    return found


def _check_same(name: str, wanted: dict[str, Any], found: dict[str, Any]) -> None:
    """More replicas than wanted are as good."""
    wrong = [
        f"{key} {found.get(key)!r} instead of {wanted[key]!r}"
        for key in _COMPARED
        if key in wanted and found.get(key) != wanted[key]
    ]
    if found["num_replicas"] < wanted["num_replicas"]:
        wrong.append(f"{found['num_replicas']} replicas instead of {wanted['num_replicas']}")
    if wrong:
        raise EngineRefused(
            f"the stream {name} is there with {', '.join(wrong)}: change it with `nats stream edit {name}`,"
            " or give another prefix="
        )
