"""One connection to NATS, for everything of one process that goes over it, on asyncio and trio alike.

The client library needs asyncio, so whatever talks to the server runs on the *far side* (`far_side.py`): in this event
loop on asyncio, in a thread of its own on trio. The `Line` is the door to it. Its `link` (`link.py`) is used on the far
side alone.

The line stays open through losses of the server: it connects again for as long as it takes. What is tried meanwhile
fails with `EngineAway`, after `TRY` seconds at the latest, and may be tried again.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar, TypeVarTuple

from anyio import CancelScope, to_thread

from .credentials import check_credentials
from .errors import EngineError
from .far_side import FarSide, far_side
from .link import Link
from .servers import servers_at

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Line:
    """A connection to NATS: ``async with Line("nats://localhost:4222") as line:``.

    Args:
        servers: the address of a server, or those of several of one cluster. It may hold a user and a password, or a
            token: ``nats://user:password@host:4222``, ``nats://token@host``.
        credentials: the path of a file with credentials (``.creds``), where the servers want one.
        tls: how to check the server's certificate, and our own one, for ``tls://`` and ``wss://``.
        connect_timeout: seconds that opening may take (default 5).

    Raises:
        TypeError, ValueError: an argument that cannot work.
    """

    __slots__ = ("_far", "_is_open", "_link", "_options", "_within", "servers")

    def __init__(
        self,
        servers: str | Sequence[str],
        *,
        credentials: str | os.PathLike[str] | None = None,
        tls: ssl.SSLContext | None = None,
        connect_timeout: float = 5.0,
    ) -> None:
        self.servers = servers_at(servers)
        if credentials is not None and not isinstance(credentials, str | os.PathLike):
            raise TypeError(f"credentials= takes the path of a file, not {type(credentials).__name__}")
        if tls is not None and not isinstance(tls, ssl.SSLContext):
            raise TypeError(f"tls= takes an ssl.SSLContext, not {type(tls).__name__}")
        if not isinstance(connect_timeout, int | float) or isinstance(connect_timeout, bool):
            raise TypeError(f"connect_timeout= is a number of seconds, not {connect_timeout!r}")
        if not 0 < connect_timeout < float("inf"):
            raise ValueError(f"connect_timeout= is in seconds, above 0, not {connect_timeout!r}")
        self._options: dict[str, Any] = {}
        if credentials is not None:
            self._options["user_credentials"] = os.fspath(credentials)
        if tls is not None:
            self._options["tls"] = tls
        self._within = connect_timeout
        self._far: FarSide | None = None
        self._is_open = False
        self._link: Link | None = None

    def __repr__(self) -> str:
        return f"<Line to NATS at {self.servers.names}, {'open' if self.is_open else 'closed'}>"

    @property
    def is_open(self) -> bool:
        """Whether it is between the beginning and the end of ``async with``."""
        return self._is_open

    @property
    def link(self) -> Link:
        """The connection itself: for the far side.

        Raises:
            EngineError: the line is not open.
        """
        if self._link is None:
            raise self._not_open()
        return self._link

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            EngineAway: no server answers in time.
            EngineRefused: it does not let us in, or is too old.
        """
        if self._far is not None or self._is_open:
            raise RuntimeError(f"{self!r} is open already")
        far = far_side()
        await far.open()
        try:
            self._link = await far.call(self._open, far)
        except BaseException:
            await far.close()
            raise
        self._far, self._is_open = far, True
        return self

    async def _open(self, far: FarSide) -> Link:
        credentials = self._options.get("user_credentials")
        if credentials is not None:
            await to_thread.run_sync(check_credentials, credentials)
        link = Link(self.servers, self._options, far.start)
        await link.open(self._within)
        return link

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection; what is on its way fails. Cancelled, it does so all the same."""
        far, link = self._far, self._link
        if far is None or link is None or not self._is_open:
            return
        self._is_open = False
        with CancelScope(shield=True):
            try:
                await far.call(link.close)
            finally:
                await far.close()
                self._far = self._link = None

    async def borrow(self, prepare: Callable[[], Coroutine[Any, Any, None]]) -> AsyncExitStack:
        """Have something prepared on the far side; what is returned closes the line again if this has opened it.

        Raises:
            EngineError: it cannot be opened, or that cannot be prepared.
        """
        async with AsyncExitStack() as stack:
            if not self.is_open:
                await stack.enter_async_context(self)
            await self.call(prepare)
            return stack.pop_all()

    async def call(self, function: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
        """Await ``function(*args)`` on the far side: its result, or its error.

        Cancelled, it is cancelled there, and this waits until it has ended there; what it returns all the same is
        returned.

        Raises:
            EngineError: the line is not open, or was closed meanwhile.
        """
        return await self._opened().call(function, *args)

    def post(self, function: Callable[[*Ts], object], *args: *Ts) -> None:
        """Call a function on the far side, soon and in order. Never waits. On asyncio it is called now.

        Raises:
            EngineError: the line is not open.
        """
        self._opened().post(function, *args)

    def home(self, function: Callable[[*Ts], object], *args: *Ts) -> None:
        """On the far side: call a function in the loop where the line was opened, soon and in order."""
        far = self._far
        if far is not None:
            far.home(function, *args)

    def start(self, function: Callable[[*Ts], Coroutine[Any, Any, object]], *args: *Ts) -> None:
        """On the far side: start a task. It is cancelled when the line is closed, and by nothing else."""
        far = self._far
        if far is not None:
            far.start(function, *args)

    def _opened(self) -> FarSide:
        if self._far is None or not self._is_open:
            raise self._not_open()
        return self._far

    def _not_open(self) -> EngineError:
        return EngineError(f"{self!r}: open it with `async with`")
