"""An MCP server as a toolset: what is asked for, checked where it is written."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from importlib import metadata
from pathlib import PurePath
from typing import cast
from urllib.parse import unquote, urlsplit

from typing_extensions import Unpack

from ...agents import Toolkit, Toolset
from ...agents.tool import DEFAULT_MAX_RESULT, Replay
from ...agents.tool_rules import RuleOptions, read_rules
from ...providers.checks import is_number, is_whole
from .http import Endpoint, http_streams
from .link import load
from .opening import Transport, opened
from .server_process import Command
from .session import Terms
from .stdio import process_streams

#: Seconds for a call, and for a server to start. A first `npx` or `uvx` downloads.
TIMEOUT = 120.0
START_TIMEOUT = 60.0

#: Programs that run another, whose name says more.
_RUNNERS = ("npx", "npm", "bunx", "bun", "uvx", "uv", "pipx", "node", "deno", "python", "python3", "docker", "podman")
_VERBS = ("run", "exec", "x", "tool", "dlx")
_NAME = re.compile(r"[^\s/\\]{1,64}")


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

    def __init__(self, name: str, shown: str, terms: Terms, transport: Transport) -> None:
        """Use `stdio` or `http` instead."""
        self.name = name
        self._shown = shown
        self._terms = terms
        self._transport = transport

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
        for index, word in enumerate((command, *args)):
            if not isinstance(word, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                what = "a command" if index == 0 else "arguments that are text"
                raise TypeError(f"MCP.stdio() takes {what}, not {word!r}: MCP.stdio('npx', '-y', 'package')")
        if not command or (" " in command.strip() and not os.path.exists(command)):
            raise ValueError(f"MCP.stdio() takes the command and its arguments apart, 'npx', '-y', …, not {command!r}")
        given = _texts("env", env)
        folder = os.fspath(cwd) if cwd is not None else None
        terms = _terms(_program_of((command, *args)), options, tuple(given.values()))
        transport = functools.partial(process_streams, Command((command, *args), given, folder))
        return cls(terms.name, f"MCP.stdio({command!r}, …, name={terms.name!r})", terms, transport)

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
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("MCP.http() takes a URL that begins with http:// or https:// and names a host")
        given = _texts("headers", headers)
        for name, value in given.items():
            if not name.isascii() or not value.isascii() or not (name + value).isprintable():
                raise ValueError(f"headers= has one, {name!r}, that is not printable ASCII")
        queried = [pair.partition("=")[2] for pair in parts.query.split("&")]
        secrets = [*given.values(), *[each.rpartition(" ")[2] for each in given.values()], *queried]
        secrets += [*map(unquote, queried), parts.password or ""]
        endpoint = Endpoint(url, given)
        terms = _terms(parts.hostname[:64], options, tuple(secrets))
        return cls(
            terms.name,
            f"MCP.http({endpoint.shown!r}, name={terms.name!r})",
            terms,
            functools.partial(http_streams, endpoint),
        )

    def open(self) -> AbstractAsyncContextManager[Toolkit]:
        """Start the server, or connect to it. See `Toolset.open`.

        Raises:
            MCPServerError: it cannot be started or reached, or is gone.
        """
        return opened(self._terms, self._transport)

    def __repr__(self) -> str:
        return self._shown


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
            raise TypeError(f"{option}= takes a dictionary of texts, and {name!r} is none, or has a value that is none")
    return dict(given)


def _program_of(words: tuple[str, ...]) -> str:
    """What a command line runs, in a word: ``npx -y @scope/server-x@1 …`` is ``server-x``."""
    names = [word for word in words if not word.startswith("-")]
    while len(names) > 1 and (_base(names[0]) in _RUNNERS or names[0] in _VERBS):
        names.pop(0)
    return _base(names[0]) if names else _base(words[0])


def _base(word: str) -> str:
    last = word.rstrip("/").rpartition("/")[2]
    last = last.partition("@")[0] or last
    stem = PurePath(last).stem if last.endswith((".py", ".js", ".mjs", ".ts", ".exe")) else last
    plain = re.sub(r"[\s\\]", "-", stem)[:64]
    return plain or "mcp"
