"""An MCP server as a toolset: what is asked for, checked where it is written."""

from __future__ import annotations

import base64
import functools
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from difflib import get_close_matches
from importlib import metadata
from typing import cast
from urllib.parse import unquote, urlsplit

from typing_extensions import Unpack

from ...agents import Toolkit, Toolset
from ...agents.errors import UnknownOption
from ...agents.tool import DEFAULT_MAX_RESULT, Replay
from ...agents.tool_rules import RuleOptions, read_rules
from ...providers.checks import is_number, is_whole
from .http import Endpoint, http_streams
from .link import load
from .naming import name_of
from .opening import Transport, opened
from .server_process import Command
from .session import Terms
from .stdio import process_streams

#: Seconds for a call, and for a server to start. A first `npx` or `uvx` downloads.
TIMEOUT = 120.0
START_TIMEOUT = 60.0

_NAME = re.compile(r"[^\s/\\]{1,64}")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OF_THE_PROTOCOL = {
    *("accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type"),
    *("last-event-id", "mcp-protocol-version", "mcp-session-id", "transfer-encoding"),
}


class MCPOptions(RuleOptions, total=False):
    """The options of `MCP.stdio` and `MCP.http` that are the same for both."""

    name: str | None
    only: Iterable[str] | None
    exclude: Iterable[str]
    prefix: str
    timeout: float | None
    start_timeout: float
    max_result: int
    replay: Replay | None


class MCP(Toolset):
    """The tools of an MCP server: ``tools=[MCP.stdio("npx", "-y", "@scope/server-x"), MCP.http("https://…")]``.

    All runs of a System share one session with it, which is opened when the first of them wants it. A server that dies
    is started again; the calls in flight fail, and tell the model why. It ends with the System, and with it all
    processes that it has started.

    Options of both `stdio` and `http`:

    - ``name``: of the server, in errors, in the tree and in logs (default: what the command or the URL says). Two
      servers of one agent need different ones.
    - ``only``: names of the tools that are offered (default: all); ``exclude``: names of those that are not. The
      server's names; one that it does not have is an error.
    - ``prefix``: goes before the names of its tools, where two servers have some of the same name (default none).
    - ``timeout``: seconds for a call (default 120; None for no limit). A call that is given up is cancelled at the
      server too.
    - ``start_timeout``: seconds until it must be ready (default 60).
    - ``max_result``: characters of a result that the model gets (default 100,000).
    - ``replay``: what becomes of a call that was in flight when its run crashed, as of `tool` (default: ``safe`` for
      tools that the server says only read or are idempotent, ``never`` for others).
    - ``needs_approval``, ``limit``, ``lock``, ``on_error``, ``tags``, ``risk``: for each of its tools, as of `tool`.
      Every tool has the tags ``mcp`` and ``mcp:NAME`` too, and the risk ``low`` or ``high`` where the server says that
      it only reads, or that it destroys.

    Sampling, elicitation and roots are not supported; a server that asks for them is told so.
    """

    scope = "system"

    _shown: str
    _terms: Terms
    _transport: Transport

    def __init__(self, *args: object, **options: object) -> None:
        """Use `stdio` or `http` instead."""
        raise TypeError("write MCP.stdio('npx', '-y', 'package') or MCP.http('https://…')")

    @classmethod
    def _of(cls, shown: str, terms: Terms, transport: Transport) -> MCP:
        made = cls.__new__(cls)
        made.name, made._terms, made._transport = terms.name, terms, transport
        made._shown = f"{shown}, name={terms.name!r})"
        return made

    @classmethod
    def stdio(
        cls,
        command: str,
        *args: str,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        **options: Unpack[MCPOptions],
    ) -> MCP:
        """A server that is a program, which is started and talked to through its standard input and output.

        Args:
            command: the program, as a path or a name on the PATH.
            args: its arguments.
            env: what its environment has besides HOME, PATH, LANG, TERM, USER and the like. It has nothing else of
                ours: name the keys that it needs.
            cwd: its folder (default: ours).
            options: those of the class.

        Raises:
            ImportError: the SDK is not installed.
            TypeError, ValueError: an argument that cannot work.
            RuntimeError: on Windows.
        """
        if os.name != "posix":
            raise RuntimeError("MCP.stdio() needs a POSIX system: start the server yourself, and use MCP.http(…)")
        _refuse_unknown("MCP.stdio", options, ("cwd", "env"))
        for index, word in enumerate((command, *args)):
            if not isinstance(word, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                what = "a command" if index == 0 else "arguments that are text"
                raise TypeError(f"MCP.stdio() takes {what}, not {word!r}: MCP.stdio('npx', '-y', 'package')")
            if not _is_fit(word):
                raise ValueError(f"MCP.stdio() takes words without a zero byte, and number {index} has one")
        if not command or (" " in command.strip() and not os.path.exists(command)):
            told = "MCP.stdio() takes the command and its arguments apart, 'npx', '-y', …"
            raise ValueError(f"{told}, not {command!r}; and there is no program of that name")
        given = _texts("env", env)
        for key, value in given.items():
            if not key or "=" in key or not _is_fit(key):
                raise ValueError(f"env= has a name, {key.partition('=')[0]!r} …, that no variable can have")
            if not _is_fit(value):
                raise ValueError(f"env= has a value, that of {key!r}, with a zero byte or half a surrogate pair in it")
        if cwd is not None and not isinstance(cwd, str | os.PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"cwd= takes the path of a folder, not {cwd!r}")
        folder = os.fspath(cwd) if cwd is not None else None
        terms = _terms(name_of((command, *args)), options, tuple(given.values()))
        transport = functools.partial(process_streams, Command((command, *args), given, folder))
        return cls._of(f"MCP.stdio({command!r}, …", terms, transport)

    @classmethod
    def http(cls, url: str, *, headers: Mapping[str, str] | None = None, **options: Unpack[MCPOptions]) -> MCP:
        """A server at a URL, which is talked to by streamable HTTP.

        Args:
            url: where it is, ``https://mcp.example.com/mcp``.
            headers: what every request has besides, ``{"Authorization": "Bearer …"}``. They go to the URL's host alone.
            options: those of the class.

        Raises:
            ImportError: the SDK is not installed.
            TypeError, ValueError: an argument that cannot work.
        """
        if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"MCP.http() takes a URL, not {url!r}")
        _refuse_unknown("MCP.http", options, ("headers",))
        given = _texts("headers", headers)
        for name, value in given.items():
            if not name.isascii() or not value.isascii() or not (name + value).isprintable():
                raise ValueError(f"headers= has one, {name!r}, that is not printable ASCII")
            if not _HEADER.fullmatch(name) or name.lower() in _OF_THE_PROTOCOL:
                why = "the protocol sets by itself" if name.lower() in _OF_THE_PROTOCOL else "is no name of a header"
                raise ValueError(f"headers= has {name!r}, which {why}")
        endpoint = _endpoint(url, given)
        values = [*given.values(), *[each.rpartition(" ")[2] for each in given.values()]]
        terms = _terms((urlsplit(url).hostname or "")[:64], options, (*values, *_secrets_of(url)))
        return cls._of(f"MCP.http({endpoint.shown!r}", terms, functools.partial(http_streams, endpoint))

    def open(self) -> AbstractAsyncContextManager[Toolkit]:
        """Start the server, or connect to it. See `Toolset.open`.

        Raises:
            MCPServerError: it cannot be started or reached, or is gone.
        """
        return opened(self._terms, self._transport)

    def __repr__(self) -> str:
        return self._shown


def _refuse_unknown(function: str, given: Iterable[str], own: Iterable[str]) -> None:
    """Refuse a keyword that there is not. Its value is not shown, it may be a key."""
    known = sorted({*own, *MCPOptions.__annotations__, *RuleOptions.__annotations__})
    for each in given:
        if each not in known:
            near = get_close_matches(each, known, 1)
            remedy = f"did you mean {near[0]}=?" if near else f"it takes {', '.join(known)}"
            raise UnknownOption(f"{function}() has no option {each!r}: {remedy}")


def _is_fit(text: str) -> bool:
    """Whether a program can be given this text."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _endpoint(url: str, headers: Mapping[str, str]) -> Endpoint:
    """Where a server is. A user and password go into a header, because HTTP libraries log URLs."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("MCP.http() takes a URL that begins with http:// or https:// and names a host")
    try:
        has_port = parts.port != 0
    except ValueError:
        has_port = False
    if not has_port or re.search(r"[\s\x00-\x20]", url):
        what = "white space in it" if has_port else "a port that is none"
        raise ValueError(f"MCP.http() takes a URL, and this one of the host {parts.hostname!r} has {what}")
    credentials, at, host = parts.netloc.rpartition("@")
    if at and not any(name.lower() == "authorization" for name in headers):
        token = base64.b64encode(unquote(credentials).encode()).decode()
        headers = {**headers, "Authorization": f"Basic {token}"}
    return Endpoint(parts._replace(netloc=host).geturl(), headers)


def _secrets_of(url: str) -> tuple[str, ...]:
    """What of a URL must not show: its password, and the values of its query."""
    parts = urlsplit(url)
    credentials = parts.netloc.rpartition("@")[0]
    token = base64.b64encode(unquote(credentials).encode()).decode()
    queried = [pair.partition("=")[2] for pair in parts.query.split("&")]
    return (*queried, *map(unquote, queried), token, parts.password or "", unquote(parts.password or ""))


def _terms(name: str, options: MCPOptions, secrets: tuple[str, ...]) -> Terms:
    load("mcp")
    given = dict(options)
    named = given.pop("name", None)
    if named is not None:
        name = cast("str", named)
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"name= takes text, not {name!r}")
    if not _NAME.fullmatch(name):
        raise ValueError(f"name={name!r} must be 1 to 64 characters without spaces and slashes")
    timeout, start_timeout = given.pop("timeout", TIMEOUT), given.pop("start_timeout", START_TIMEOUT)
    if timeout is not None and (not is_number(timeout) or timeout <= 0):
        raise ValueError(f"timeout= must be above 0 seconds, or None, not {timeout!r}")
    if not is_number(start_timeout) or start_timeout <= 0:
        raise ValueError(f"start_timeout= must be above 0 seconds, not {start_timeout!r}")
    prefix = given.pop("prefix", "")
    if not isinstance(prefix, str) or not re.fullmatch(r"[a-zA-Z0-9_-]{0,32}", prefix):
        raise ValueError(f"prefix= takes at most 32 of a-z, A-Z, 0-9, '_' and '-', not {prefix!r}")
    max_result = given.pop("max_result", DEFAULT_MAX_RESULT)
    if not is_whole(max_result) or max_result < 1:
        raise ValueError(f"max_result= must be at least 1 character, not {max_result!r}")
    replay = given.pop("replay", None)
    if replay not in (None, "never", "keyed", "safe"):
        raise ValueError(f"replay= must be 'never', 'keyed' or 'safe', not {replay!r}")
    only, exclude = given.pop("only", None), given.pop("exclude", ())
    given["tags"] = read_rules(name, given).tags
    return Terms(
        name=name,
        only=None if only is None else _names("only", only),
        exclude=_names("exclude", exclude),
        prefix=prefix,
        timeout=timeout,
        start_timeout=start_timeout,
        max_result=max_result,
        replay=replay,
        rules=given,
        version=metadata.version("greenroom"),
        secrets=secrets,
    )


def _names(option: str, names: object) -> frozenset[str]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"{option}= takes a list of the server's tool names, not {names!r}")
    listed = tuple(cast("Iterable[object]", names))
    for each in listed:
        if not isinstance(each, str):
            raise TypeError(f"{option}= takes a list of the server's tool names, not of {each!r}")
    return frozenset(cast("tuple[str, ...]", listed))


def _texts(option: str, given: Mapping[str, str] | None) -> dict[str, str]:
    """A dictionary of texts. What is wrong is named without its value, which may be a key."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{option}= takes a dictionary of texts")
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            what = f"the value of {name!r}" if isinstance(name, str) else repr(name)  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"{option}= takes a dictionary of texts, and {what} is no text")
    return dict(given)
