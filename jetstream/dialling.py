"""How a client of NATS connects, and how it is told to come back. On the far side."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import nats.errors
from nats.aio.client import Client

from .errors import EngineRefused
from .servers import Servers

#: Seconds between attempts to connect again: the first pause, doubled each time, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
#: Seconds between two signs of life; two that are not answered are the end of a connection.
SIGN_OF_LIFE = 5
#: The first version of the server that has what is used here.
NEEDED = (2, 12)


async def dial(
    client: Client,
    servers: Servers,
    options: dict[str, Any],
    on_lost: Callable[[], Awaitable[None]],
    on_back: Callable[[], Awaitable[None]],
    on_closed: Callable[[], Awaitable[None]],
) -> None:
    """Connect a new client to one of these servers, whichever answers first; from then on it comes back by itself.

    Raises:
        OSError, nats.errors.Error: one was there, and it did not work. Hang up.
        EngineRefused: it is too old.
    """
    await client.connect(
        servers=list(servers.urls),
        user=servers.user,
        password=servers.password,
        token=servers.token,
        error_cb=_ignore,
        disconnected_cb=on_lost,
        reconnected_cb=on_back,
        closed_cb=on_closed,
        allow_reconnect=False,  # an attempt that fails is to say so, and to be closed
        max_reconnect_attempts=-1,
        reconnect_time_wait=FIRST_PAUSE,  # type: ignore[arg-type]
        reconnect_to_server_handler=_next_server,
        connect_timeout=2,
        ping_interval=SIGN_OF_LIFE,
        **options,
    )
    client.options["allow_reconnect"] = True
    version = client.connected_server_version
    if (version.major, version.minor) < NEEDED:
        raise EngineRefused(
            f"the NATS server at {servers.names} has version {version.major}.{version.minor}:"
            f" version {NEEDED[0]}.{NEEDED[1]} or a later one is needed"
        )


async def hang_up(client: Client) -> None:
    """Close whatever it has open."""
    try:
        await client.close()
    except (AssertionError, OSError, nats.errors.Error):  # it was broken already, or never begun
        return


def is_about_us(error: Exception) -> bool:
    """Whether the server is there, and does not let us in."""
    return any(word in str(error).lower() for word in ("authorization", "authentication"))


async def _ignore(_error: Exception) -> None:
    """What the client library has met. Whoever asked for something is told, and `_on_lost` says what matters."""


def _next_server(servers: list[Any], _info: dict[str, Any]) -> tuple[Any, float]:
    """The one that was tried least, after a pause that grows with the tries."""
    server = min(servers, key=lambda each: each.reconnects)
    pause = min(FIRST_PAUSE * 2 ** min(server.reconnects, 10), LONGEST_PAUSE)
    return server, pause * (0.5 + random.random())
