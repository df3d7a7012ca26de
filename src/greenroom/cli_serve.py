"""``greenroom serve``: agents over HTTP.

Read here are the arguments, the token and the object that is to be served; the serving is done in the room `service`,
which is loaded only for this command, because its libraries are an extra.

A service that others can reach needs a token; without one, nothing but loopback is bound.
"""

from __future__ import annotations

import importlib
import ipaddress
import os
import re
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import anyio
from cyclopts import Parameter
from cyclopts.validators import Number

from .actors.descriptors import DescriptorLimit
from .agents import RestartLimit, System
from .cli_loop import Interrupted
from .cli_run import Misuse, find_object

if TYPE_CHECKING:
    from .service import Service

Port = Annotated[int, Parameter(validator=Number(gte=0, lte=65_535))]
Seconds = Annotated[float, Parameter(validator=Number(gte=0, lte=86_400))]

#: Where a token is looked for that was not given as a file.
TOKEN_VARIABLE = "GREENROOM_TOKEN"

#: What can be a name or an address of a machine, as far as its characters go.
_NAME = re.compile(r"[\w.:-]+")


def serve(
    target: str,
    /,
    *,
    host: str = "127.0.0.1",
    port: Port = 8000,
    token_file: Path | None = None,
    journal: str | None = None,
    drain: Seconds = 30.0,
    backend: Literal["asyncio", "trio"] = "asyncio",
) -> int:
    """Serve agents over HTTP: runs, their events, an OpenAI-compatible endpoint and a live page of the tree.

    Ctrl-C or SIGTERM drains: new work is refused, runs finish the step they are at. A second one ends at once.

    Args:
        target: module:attribute, from the current directory or installed: an Agent, a list of them, a System with
            agents, or a Service.
        host: The address to listen on. One that others can reach needs a token.
        port: The port; 0 takes a free one.
        token_file: A file with the token that every request must show, as "Authorization: Bearer …". By default it is
            taken from the environment variable GREENROOM_TOKEN, if that is set.
        journal: A file that runs are written to. At the next start they go on from it.
        drain: Seconds that runs have at the end to finish their step, or without a journal to come to their end.
        backend: The event loop. Only asyncio can be served from here.
    """
    if backend == "trio":
        raise Misuse(
            "--backend trio: uvicorn, which serves here, knows asyncio only; a greenroom.service.Service is an ASGI "
            "application that runs on trio too: hypercorn --worker-class trio module:service"
        )
    try:
        room = importlib.import_module("greenroom.service")
        arguments = importlib.import_module("greenroom.service.arguments")
        server = importlib.import_module("greenroom.service.server")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("starlette", "uvicorn"):
            raise
        raise Misuse(f"greenroom serve needs {missing}: pip install greenroom[serve]") from None
    token = read_token(token_file)
    if token is not None:
        try:
            arguments.check_token(token, TOKEN_VARIABLE if token_file is None else f"--token-file {token_file}")
        except ValueError as error:
            raise Misuse(str(error)) from None
    names = [*arguments.LOOPBACK, _in_address(host)] if _NAME.fullmatch(host) else arguments.LOOPBACK
    service = _service_of(room.Service, target, token, journal, names)
    try:
        listeners: list[socket.socket] = server.listen(host, port)
    except OSError as error:
        raise Misuse(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    except UnicodeError:
        raise Misuse(f"--host {host} is no name of a machine: a part of it is empty, or too long") from None
    try:
        _refuse_open(service, host, listeners)
        say = partial(_say_where, service, listeners)
        work = partial(server.serve, service, listeners, drain=drain, on_start=say, on_signal=_Signals(drain))
        insisted = anyio.run(work)
    except (DescriptorLimit, RestartLimit) as error:
        _say(str(error))
        return 1
    finally:
        for each in listeners:
            each.close()
    if insisted is not None:
        raise Interrupted(insisted)
    return 0


def _in_address(name: str) -> str:
    """A host as it stands in an address."""
    return f"[{name}]" if ":" in name else name


def _service_of(
    kind: type[Service], target: str, token: str | None, journal: str | None, names: Sequence[str]
) -> Service:
    """The service of an object; where it is made here, and has no token, it is reached by these names only."""
    found = find_object(target, "serve", "agent", "weather:agent")
    given: Any = found
    if isinstance(given, kind):
        for option, value in (("--token-file or GREENROOM_TOKEN", token), ("--journal", journal)):
            if value is not None:
                raise Misuse(f"{target} is a Service, which has its own: leave out {option}, and give it there")
        return given
    hosts = names if token is None else None
    try:
        if isinstance(given, System):
            if journal is not None:
                raise Misuse(f"{target} is a System, which has a journal of its own: leave out --journal")
            return kind(system=given, token=token, allowed_hosts=hosts)
        return kind(given, system=System(journal=journal), token=token, allowed_hosts=hosts)
    except (TypeError, ValueError) as error:
        raise Misuse(f"{target} cannot be served: {error}") from None


def read_token(file: Path | None) -> str | None:
    """The token, if one is given. Taken out of the environment, so that no tool's process has it.

    Raises:
        Misuse: the file cannot be read, or is empty.
    """
    of_environment = os.environ.pop(TOKEN_VARIABLE, None)
    if file is None:
        return of_environment or None
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise Misuse(f"--token-file {file} cannot be read: {why}") from None
    if not token:
        raise Misuse(f"--token-file {file} is empty")
    return token


def _refuse_open(service: Service, host: str, listeners: Sequence[socket.socket]) -> None:
    """Refuse an address that others can reach, where nothing keeps them out."""
    if service.guard.token is not None:
        return
    if not all(ipaddress.ip_address(each.getsockname()[0].partition("%")[0]).is_loopback for each in listeners):
        raise Misuse(
            f"--host {host} can be reached by others, and there is no token: give --token-file FILE or "
            f"{TOKEN_VARIABLE}, or stay on 127.0.0.1"
        )


def _say_where(service: Service, listeners: Sequence[socket.socket]) -> None:
    name, port = listeners[0].getsockname()[:2]
    _say(f"serving {', '.join(service.agents)} on http://{_in_address(name)}:{port}; Ctrl-C drains and ends")


class _Signals:
    """Says what a signal leads to."""

    def __init__(self, drain: float) -> None:
        self._drain = drain
        self._came = False

    def __call__(self, number: signal.Signals) -> None:
        if self._came:
            _say("ending at once")
        else:
            self._came = True
            _say(f"draining for {self._drain:g} seconds at most; {number.name} once more ends at once")


def _say(words: str) -> None:
    print(f"greenroom: {words}", file=sys.stderr, flush=True)
