"""Serving an application's requests with uvicorn, in an event loop and with signals that are ours.

The first SIGINT or SIGTERM drains: new work is refused with 503, runs finish the step that they are at or come to their
end, and whoever follows them hears it. Then the streams that have no end of their own are ended, the server closes, and
the System with it. A second signal ends everything at once.

uvicorn knows asyncio only. Its own signals are left out: they would close the server before anything has drained.
"""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import anyio
import uvicorn
from anyio import CancelScope
from anyio.lowlevel import checkpoint

from ..actors.descriptors import DescriptorLimit, raise_descriptor_limit
from .app import Service

#: Seconds that answers may take to be written when everything else has ended.
CLOSE_TIMEOUT = 5.0
#: Connections of clients for which there is to be room beside those to models.
CLIENTS = 2_000
#: Connections that may wait to be accepted.
BACKLOG = 2_048


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    def end_at_once(self) -> None:
        """Cut all connections, and close."""
        self.force_exit = self.should_exit = True
        self.cut()

    def cut(self) -> None:
        """Cut all connections: whoever serves them sees that the client has gone."""
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()


async def serve(
    service: Service,
    listeners: Sequence[socket.socket],
    *,
    drain: float,
    on_start: Callable[[], None],
    on_signal: Callable[[signal.Signals], None],
) -> signal.Signals | None:
    """Serve until a signal comes, then drain and close. On asyncio, in the main thread.

    Args:
        service: what answers; opened here.
        listeners: bound sockets; closed here.
        drain: seconds that runs have to finish their step, or to come to their end, after the first signal.
        on_start: called when requests are taken.
        on_signal: called at each of the first two signals.

    Returns:
        The second signal, if one came; None where everything has ended in order.
    """
    config = uvicorn.Config(
        service,
        interface="asgi3",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=2 * int(CLOSE_TIMEOUT),  # cuts them too, but with a traceback for each
    )
    server = _Server(config)
    insisted: signal.Signals | None = None

    async def watch() -> None:
        nonlocal insisted
        came = 0
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            on_start()
            async for number in signals:
                came += 1
                on_signal(number)
                if came == 1:
                    group.start_soon(wind_down)
                else:
                    insisted = number
                    server.end_at_once()
                    return

    async def wind_down() -> None:
        await service.system.drain(drain)
        service.end_streams()
        server.should_exit = True
        await anyio.sleep(CLOSE_TIMEOUT)
        server.cut()  # those that do not read what they were sent

    with CancelScope() as everything:
        async with service:
            try:
                raise_descriptor_limit(service.system.max_running + CLIENTS)
            except DescriptorLimit as error:
                logging.getLogger("greenroom").warning("not all clients may find room: %s", error)
            async with anyio.create_task_group() as group:
                group.start_soon(watch)
                await server.serve(list(listeners))
                group.cancel_scope.cancel()
            if insisted is not None:
                everything.cancel()  # the System is not given the time for an orderly end
                await checkpoint()
    return insisted


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to an address, one for each address that the name has.

    Raises:
        OSError: the name is unknown, or the port is taken.
    """
    listeners: list[socket.socket] = []
    try:
        for family, _, _, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            if port == 0 and listeners:  # the same port for all of them
                address = (address[0], listeners[0].getsockname()[1], *address[2:])
            listeners.append(_bound(family, address))
    except BaseException:
        for each in listeners:
            each.close()
        raise
    return listeners


def _bound(family: int, address: object) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)  # type: ignore[arg-type]
    except BaseException:
        listener.close()
        raise
    return listener
