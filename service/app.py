"""The application: agents over HTTP, to be mounted in another application or served.

::

    request ── guard (Host, Origin, token) ── routes ── operations ── System
                                                 ├── the OpenAI-compatible endpoint
                                                 └── the live page

An ASGI application made with Starlette, for any server and for asyncio and trio alike. It keeps no task of its own:
whatever waits, waits in the request that wants it. What it holds are handles of runs, a bounded number of them.

It is *open* while its System is. Served by itself, its lifespan opens both; mounted, it is given a System that is open,
or is opened with ``async with service:`` by whoever mounts it, because servers do not tell mounted applications.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self

import anyio
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ..agents import Agent
from ..agents.recovery_terms import Unfinished
from ..agents.system import System, check_seconds
from .abandoned import end_abandoned
from .arguments import Agents, OnDisconnect, check_deps_for, check_token, read_agents, read_hosts, read_origins
from .event_stream import KEEP_ALIVE
from .guard import ALWAYS, Guard, is_preflight, read_headers
from .known_runs import KnownRun, KnownRuns
from .live import live_routes
from .meter import Meter
from .openai_api import openai_routes, refusal_at
from .openapi import description_of
from .operations import routes
from .origin import Origin
from .problems import ANSWERS, Problem, draining, no_agent
from .run_views import known_of, without_own
from .table import DESCRIBED, OPERATIONS
from .tree_operations import tree_of
from .tree_watch import INTERVAL, TreeWatch

#: Bytes of a request's body.
MAX_BODY = 1_048_576

_log = logging.getLogger("greenroom")


class Service:
    """Agents over HTTP: ``app = Service([agent])``, for an ASGI server, or to be mounted in another application.

    Args:
        agents: an agent, a list of them, or a mapping by the names that clients use; may be left out where the System
            has agents.
        system: where the runs live (default: one of its own, opened with the service). One that is open stays open; one
            that is not is opened and closed with the service.
        token: what every request has to show, as ``Authorization: Bearer``; at least 16 characters (default: none, and
            the service answers to loopback names only).
        allowed_hosts: names, without ports, that the service is reached by (default: those of loopback without a token,
            any with one).
        allowed_origins: origins of other sites, such as ``https://example.com``, whose pages may use the service
            (default: none).
        on_disconnect: what becomes of a run whose stream, or wait, was asked for with its start, when its client has
            gone and nobody else follows: ``continue`` (default) or ``stop``.
        deps, deps_for: what the tools of its runs depend on: the same for all, or by a function of an `Origin`, called
            before each run.
        max_body: bytes of a request's body (default 1 MiB).
        keep: how many runs that are over stay readable without a journal that outlives the System (default 1,000).
        keep_alive: seconds without an event after which a stream shows that it lives (default 15).
        recover: whether to go on, when it opens its System, with what is unfinished in a journal that outlives it
            (default True).

    Raises:
        TypeError, ValueError: an argument that cannot work; the message names it and the remedy.
    """

    def __init__(
        self,
        agents: Agents | None = None,
        *,
        system: System | None = None,
        token: str | None = None,
        allowed_hosts: Collection[str] | None = None,
        allowed_origins: Collection[str] = (),
        on_disconnect: OnDisconnect = "continue",
        deps: Any = None,
        deps_for: Callable[[Origin], Any] | None = None,
        max_body: int = MAX_BODY,
        keep: int = 1_000,
        keep_alive: float = KEEP_ALIVE,
        recover: bool = True,
    ) -> None:
        if system is not None and not isinstance(system, System):
            raise TypeError(f"system= takes a System, not {system!r}")
        self.agents: Mapping[str, Agent[Any, Any]] = read_agents(agents, system)
        if token is not None:
            check_token(token)
        if on_disconnect not in ("continue", "stop"):
            raise ValueError(f"on_disconnect={on_disconnect!r} is not one of 'continue', 'stop'")
        if deps is not None and deps_for is not None:
            raise TypeError("give deps= for all runs or deps_for=, a function of each, not both")
        if deps_for is not None:
            check_deps_for(deps_for)
        for name, value, least in (("max_body", max_body, 1), ("keep", keep, 0)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name}= takes a whole number, not {value!r}")
            if value < least:
                raise ValueError(f"{name}= must be at least {least}, not {value!r}")
        check_seconds("keep_alive=", keep_alive)
        if keep_alive == 0:
            raise ValueError("keep_alive= must be above 0 seconds, not 0")
        if not isinstance(recover, bool):
            raise TypeError(f"recover= takes True or False, not {recover!r}")
        self._given = system
        self._system = system
        self._stack: AsyncExitStack | None = None
        self._recovers = recover
        self._deps_for: Callable[[Origin], Any] = deps_for if deps_for is not None else lambda _: deps
        self.on_disconnect: OnDisconnect = on_disconnect
        self.max_body = max_body
        self.keep_alive = keep_alive
        self.tree_interval = INTERVAL
        #: Stands before the numbers of events: they begin anew with each process.
        self.era = secrets.token_hex(3)
        #: What our own page shows where there is no token; another one in each process.
        self.page_token = secrets.token_urlsafe(24)
        self.guard = Guard(token, self.page_token, read_hosts(allowed_hosts, token), read_origins(allowed_origins))
        self.meter = Meter()
        self.known = KnownRuns(keep, self.meter.count)
        #: Keys whose runs are being started at this moment.
        self.beginning: dict[str, anyio.Event] = {}
        self._closing = False
        self._streams_end = False
        self._tree_watch: TreeWatch | None = None
        self._description: dict[str, Any] | None = None
        self._app = Starlette(
            routes=[*routes(self, OPERATIONS), *openai_routes(self), *live_routes(self)],
            exception_handlers=ANSWERS,
            lifespan=self._live,
        )
        self._app.router.redirect_slashes = False

    # -- life

    async def __aenter__(self) -> Self:
        """Open the service, and its System where that is not open.

        Raises:
            RuntimeError: it is open already.
        """
        if self._stack is not None:
            raise RuntimeError("this Service is open already")
        async with AsyncExitStack() as stack:
            self._closing = self._streams_end = False
            self._tree_watch = None
            self._system = self._given if self._given is not None else System()
            if not self._system.is_open:
                await stack.enter_async_context(self._system)
                if self._recovers and self._system.stage.journal.survives:
                    await self._recover(self._system)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        assert self._stack is not None
        self._closing = True
        stack, self._stack = self._stack, None
        try:
            return await stack.__aexit__(exc_type, exc, tb)
        finally:
            self._streams_end = True  # whoever watches the tree has seen the System close

    async def _recover(self, system: System) -> None:
        unfinished: dict[str, Unfinished] = {}

        def deps_for(run: Unfinished) -> Any:
            unfinished[run.run_id] = run
            metadata = without_own(dict(run.metadata))
            return self._deps_for(Origin(run.agent, run.user_id, run.conversation_id, run.tags, metadata))

        await end_abandoned(system)
        recovery = await system.recover(self.agents.values(), deps_for=deps_for)
        for run in recovery:
            self.known.add(known_of(run, unfinished.get(run.id)), len(system.pool))
        for run_id, why in {**recovery.parked, **recovery.left}.items():
            _log.warning("run %r does not go on here: %s", run_id, why)

    @asynccontextmanager
    async def _live(self, _: Starlette) -> AsyncGenerator[None]:
        if self._stack is not None:  # whoever serves it has opened it
            yield
            return
        async with self:
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cross: dict[str, str] = {}
        status = 500

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                there = {name.lower() for name, _ in message["headers"]}
                for name, value in {**ALWAYS, **cross}.items():
                    if name.lower().encode() not in there:
                        message["headers"] = [*message["headers"], (name.lower().encode(), value.encode("latin-1"))]
            await send(message)

        path = scope["path"].removeprefix(scope.get("root_path", ""))
        try:
            try:
                headers = read_headers(scope["headers"])
                cross = self.guard.cross_origin(headers)
                self.guard.check(scope["method"], path, headers)
            except Problem as problem:
                await refusal_at(path, problem)(scope, receive, send_guarded)
                return
            if is_preflight(scope["method"], headers):
                await Response(status_code=204, headers=self.guard.preflight(headers))(scope, receive, send_guarded)
                return
            await self._app(scope, receive, send_guarded)
        finally:
            self.meter.answered(scope["method"], status)

    # -- what its operations use

    @property
    def system(self) -> System:
        """Where its runs live.

        Raises:
            RuntimeError: the service was never opened.
            Problem: it is closed.
        """
        system = self._system
        if system is None or (not system.is_open and self._stack is None):
            raise draining() if self._closing else not_open()
        return system

    @property
    def is_draining(self) -> bool:
        """Whether no new runs are taken."""
        return not self.system.is_open or self._is_ending

    @property
    def _is_ending(self) -> bool:
        """Whether runs end because the service does, so that nobody else need end them."""
        system = self._system
        return self._closing or system is None or not system.is_open or system.stage.draining is not None

    @property
    def is_closing(self) -> bool:
        """Whether streams without an end of their own are to end."""
        if self._streams_end:
            return True
        system = self._system
        given = self._stack is None and not self._closing  # one that was given open is closed by whoever has opened it
        return given and system is not None and not system.is_open

    def end_streams(self) -> None:
        """End the streams that have no end of their own, because the server is about to close."""
        self._closing = self._streams_end = True

    def refuse_when_draining(self) -> None:
        """Refuse new work.

        Raises:
            Problem: the service ends.
        """
        if self.is_draining:
            raise draining()

    def agent(self, name: str | None) -> Agent[Any, Any]:
        """An agent by its name; without one the only agent there is.

        Raises:
            Problem: there is none of that name, or several and no name.
        """
        if name is None:
            if len(self.agents) != 1:
                raise Problem(422, "invalid_request", f"say which agent: {', '.join(self.agents)}", "agent")
            return next(iter(self.agents.values()))
        agent = self.agents.get(name)
        if agent is None:
            raise no_agent(name, self.agents)
        return agent

    def find(self, run_id: str) -> KnownRun | None:
        """A run that is at work here, or one of the last that were."""
        known = self.known.find(run_id)
        if known is None or known.is_over:  # where no journal remembers it, another run may have its id
            run = self.system.find(run_id)
            if run is not None and (known is None or run.status == "running"):
                known = self.known.add(known_of(run), len(self.system.pool))
        return known

    def deps_for(self, origin: Origin) -> Any:
        """What the tools of a run depend on."""
        return self._deps_for(origin)

    @contextmanager
    def following(self, known: KnownRun, *, ends_alone: bool = False) -> Generator[None]:
        """Follow a run for the length of the block, on behalf of a client.

        Args:
            known: the run.
            ends_alone: whether it is to be stopped when nobody follows it any more.
        """
        known.followers += 1
        known.ends_alone = known.ends_alone or ends_alone
        self.meter.streams += 1
        try:
            yield
        finally:
            known.followers -= 1
            self.meter.streams -= 1
            if known.ends_alone and not known.followers and not known.is_over and not self._is_ending:
                known.run.stop(reason="abandoned")

    @property
    def tree_watch(self) -> TreeWatch:
        """The tree, for those who watch it."""
        if self._tree_watch is None:
            self._tree_watch = TreeWatch(partial(tree_of, self, self.system), self.system.home.now, self.tree_interval)
        return self._tree_watch

    @property
    def description(self) -> dict[str, Any]:
        """The description of the service, as OpenAPI 3.1."""
        if self._description is None:
            self._description = description_of(DESCRIBED, with_token=self.guard.token is not None)
        return self._description

    def __repr__(self) -> str:
        state = "open" if self._stack is not None else "not open"
        return f"<Service of {', '.join(self.agents)}: {state}>"


def not_open() -> RuntimeError:
    """The error for a service that is used before it is open."""
    return RuntimeError(
        "the Service is not open: a server opens it by its lifespan; where it is mounted, give it system= with an open "
        "System, or open it in the lifespan of the application around it: async with service: …"
    )
