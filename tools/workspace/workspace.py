"""A folder that an agent works in: ``tools=[Workspace("project")]``.

What a model may do there is chosen by name. Reading, searching and the list of tasks are there unless one chooses;
editing and the shell have to be named, since they change things. The tools of files keep to the folder whatever path
they are given (see `paths` and `root`). The shell does not: a command may do what this program may. It is no sandbox,
so what a stranger's text might make a model run belongs under an approval, or into a container.

All that a run has open (the folder, its shell, what can be undone, its list of tasks) is the run's own, and ends with
it. What is shared by the runs is the order in which they edit.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, nullcontext
from copy import copy
from functools import partial
from threading import Lock
from typing import Any, ClassVar, Literal, Self, TypeAlias, cast, get_args

from anyio import to_thread

from ...agents import ModelRetry
from ...agents.tool import DEFAULT_MAX_RESULT, Tool
from ...agents.tool_rules import Arguments
from ...agents.toolset import Scope, Toolkit, Toolset
from ...loops import RunningLoop
from ...providers.checks import is_number, is_whole
from .editing import Editor, check_edit, edit_file_with
from .paths import Refused
from .reading import read_file_in
from .root import Root, can_confine
from .running import Terms, environment, find_shell, run_once
from .search import search_in
from .session import Session, opened
from .shell import check_command, describe, read_timeout, shell_with
from .task_list import new_tasks

Name: TypeAlias = Literal["shell", "edit_file", "read_file", "search", "tasks"]
ShellKind: TypeAlias = Literal["one_shot", "persistent"]

NAMES: tuple[Name, ...] = get_args(Name)
#: Those that change nothing.
SAFE: tuple[Name, ...] = ("read_file", "search", "tasks")
#: Those that may be made to ask first.
ASKING: tuple[Name, ...] = ("shell", "edit_file")
#: Characters of a result beside what a command has printed: how it has ended.
BESIDE = 5000


class Workspace(Toolset):
    """A folder, and tools to work in it.

    ``Workspace(path)`` in an agent's ``tools=`` offers ``read_file``, ``search`` and ``tasks``;
    ``Workspace(path).tools("shell", "edit_file", "read_file", "search", "tasks")`` offers what is named. Each run has
    its own: its shell, its undo, its list of tasks.

    - ``read_file``: text with line numbers, images, what is in a folder.
    - ``search``: a regular expression in the files, or files by name; leaves out hidden files and what ``.gitignore``
      names.
    - ``tasks``: a list that the model keeps; each version is published as the progress of the call.
    - ``edit_file``: view, create, replace (exactly one match), insert, undo. Not in ``.git``.
    - ``shell``: a command, with all that it starts. What it prints is published as the progress of the call, too.

    Not on Windows.

    Args:
        path: the folder. The tools of files cannot leave it; the shell can.
        shell: ``one_shot`` runs each command in a shell of its own (default); ``persistent`` all of a run in one, which
            keeps working directory and variables.
        approve: the tools whose calls need an approval, of ``shell`` and ``edit_file`` (viewing never does); see
            `Run.approve`. A policy can ask too: they have the tags ``shell`` and ``write``, and the risks ``high`` and
            ``medium``.
        timeout: seconds of a command that asks for no other time (default 120).
        max_timeout: seconds that it may ask for (default 600, or `timeout` where that is more).
        grace: seconds between SIGTERM and SIGKILL for what a command leaves, and for a command that times out or is
            stopped (default 2).
        max_output: bytes that are kept of what a command prints: the first half and the last (default 30,000).
        max_file: bytes of a file that is read, searched or edited (default 10,000,000).
        env: further environment of commands. They have PATH, HOME, LANG, LC_ALL, TZ, USER, LOGNAME and TMPDIR of this
            program, and no other variable.
        hard_links: whether files are read that have several names. Another name may lie outside of the folder, so by
            default they are not; package managers that link files from a cache need it.
        name: tells two workspaces of one agent apart (default ``workspace``, after the prefix).
        prefix: goes before the names of its tools, where two workspaces of one agent offer the same (default none).

    Raises:
        TypeError, ValueError: an argument that cannot work; the message names it and the remedy.
        RuntimeError: this system cannot open files so that they are sure to be in the folder.
    """

    scope: ClassVar[Scope] = "run"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        shell: ShellKind = "one_shot",
        approve: Collection[Literal["shell", "edit_file"]] = (),
        timeout: float = 120.0,
        max_timeout: float | None = None,
        grace: float = 2.0,
        max_output: int = 30_000,
        max_file: int = 10_000_000,
        env: Mapping[str, str] | None = None,
        hard_links: bool = False,
        name: str | None = None,
        prefix: str = "",
    ) -> None:
        if not can_confine():
            raise RuntimeError("a workspace needs a POSIX system: this one cannot open a file within an open folder")
        if not isinstance(shell, str) or shell not in get_args(ShellKind):
            raise ValueError(f"shell={shell!r} is not one of {', '.join(map(repr, get_args(ShellKind)))}")
        for option, seconds in (("timeout", timeout), ("grace", grace)):
            _check_seconds(option, seconds)
        if max_timeout is not None:
            _check_seconds("max_timeout", max_timeout)
            if max_timeout < timeout:
                raise ValueError(f"max_timeout={max_timeout:g} is less than timeout={timeout:g}: raise it")
        for option, count in (("max_output", max_output), ("max_file", max_file)):
            if not is_whole(count) or count < 1:
                raise ValueError(f"{option} must be a number of bytes, at least 1, not {count!r}")
        if not isinstance(hard_links, bool):
            raise TypeError(f"hard_links must be True or False, not {hard_links!r}")
        if name is not None and (not isinstance(name, str) or not name.strip()):
            raise ValueError(f"name must be text, not {name!r}")
        if not isinstance(prefix, str) or not re.fullmatch(r"[a-zA-Z0-9_-]{0,32}", prefix):
            raise ValueError(f"prefix= takes at most 32 of a-z, A-Z, 0-9, '_' and '-', not {prefix!r}")
        self.path = _read_folder(path)
        self.name = name if name is not None else f"{prefix}workspace"
        self._prefix = prefix
        self._shell: ShellKind = shell
        self._approve = _read_names("approve=", approve, ASKING)
        self._timeout = float(timeout)
        self._longest = float(max_timeout) if max_timeout is not None else max(600.0, self._timeout)
        self._grace = float(grace)
        self._max_output = max_output
        self._max_file = max_file
        self._environment = _read_environment(env)
        self._hard_links = hard_links
        self._names: tuple[Name, ...] = SAFE
        self._program = find_shell(environment(self._environment)["PATH"])
        #: Its tools, whatever run they were made for first.
        self._made: dict[Name, Tool[..., Any]] = {}
        #: Held while any run edits.
        self._editing = Lock()

    def tools(self, *names: Name) -> Self:
        """The same workspace with these tools and no others.

        Raises:
            ValueError: a name that there is not, or none at all.
        """
        chosen = _read_names("tools()", names, NAMES)
        if not chosen:
            raise ValueError(f"tools() takes names: {', '.join(map(repr, NAMES))}")
        other = copy(self)
        other._names = cast("tuple[Name, ...]", tuple(each for each in NAMES if each in chosen))
        return other

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Toolkit]:
        """Open the folder for one run; its shell is started with the first command.

        Raises:
            OSError: the folder has gone, or may not be read.
        """
        loop = RunningLoop()
        root = await to_thread.run_sync(partial(Root, self.path, hard_links=self._hard_links))
        terms = Terms(root, environment(self._environment), self._timeout, self._longest, self._grace, self._max_output)
        stays = "shell" in self._names and self._shell == "persistent"
        try:
            async with opened(loop, self._program, terms) if stays else nullcontext() as session:
                names = self._names
                yield Toolkit([self._tool(name, self._function(name, loop, root, terms, session)) for name in names])
        finally:
            root.close()

    def _function(
        self, name: Name, loop: RunningLoop, root: Root, terms: Terms, session: Session | None
    ) -> Callable[..., Any]:
        """The function of a tool, for one run; `session` is that of a shell that stays."""
        match name:
            case "shell":
                run = session.run if session is not None else partial(run_once, loop, self._program, terms)
                return shell_with(run, terms, stays=session is not None)
            case "edit_file":
                return edit_file_with(Editor(root, self.path, self._max_file, self._editing))
            case "read_file":
                return read_file_in(root, self.path, self._max_file)
            case "search":
                return search_in(loop, terms, self.path, self._hard_links, self._max_file)
            case "tasks":
                return new_tasks()

    def _tool(self, name: Name, function: Callable[..., Any]) -> Tool[..., Any]:
        """A tool with this function. What is read of a signature costs a millisecond, and is the same for all runs."""
        made = self._made.get(name)
        if made is None:
            made = Tool(function, name=self._prefix + name, **self._options(name))
            del made.__dict__["__wrapped__"]  # which would keep what this run has open
            made.function = _of_no_run
            self._made[name] = made
        made = copy(made)
        made.function = function
        return made

    def _options(self, name: Name) -> dict[str, Any]:
        most = max(DEFAULT_MAX_RESULT, self._max_output + BESIDE)
        match name:
            case "shell":
                stays = self._shell == "persistent"
                words = describe(self._program, timeout=self._timeout, longest=self._longest, stays=stays)
                asks = self._ask_for_command if name in self._approve else False
                rules = {"needs_approval": asks, "risk": "high", "tags": ["workspace", "shell"]}
                return {"description": words, "max_result": most, **rules}
            case "edit_file":
                asks = self._ask_for_edit if name in self._approve else False
                return {"needs_approval": asks, "risk": "medium", "tags": ["workspace", "write"]}
            case _:
                tags = ["workspace", "read" if name != "tasks" else "tasks"]
                return {"replay": "safe", "max_result": most, "risk": "low", "tags": tags}

    def _ask_for_command(self, arguments: Arguments) -> bool | str:
        """The question before a command. What will be refused is nothing to ask about."""
        command: str = arguments["command"]
        try:
            check_command(command)
            limit = read_timeout(arguments.get("timeout"), self._timeout, self._longest)
        except ModelRetry:
            return False
        stays = self._shell == "persistent"
        where = f"the shell of {self.path}, wherever it is by now," if stays else self.path
        return f"Run in {where} for at most {limit:g} s: {_plain(command)}"

    def _ask_for_edit(self, arguments: Arguments) -> bool | str:
        """The question before an edit. What will be refused is nothing to ask about, and neither is to look."""
        command: str = arguments["command"]
        if command == "view":
            return False
        try:
            names = check_edit(arguments, self.path)
        except Refused:
            return False
        return f"May {self._prefix}edit_file {command} in {_plain('/'.join(names) or '.')}?"

    def __repr__(self) -> str:
        return f"<Workspace {self.path!r}: {', '.join(self._names)}>"


def _of_no_run(**_: Any) -> Any:
    raise AssertionError("the tool of a workspace that no run has opened")


def _plain(text: str) -> str:
    """A text of the model for somebody who has to judge it: nothing in it moves a cursor or turns the writing round."""
    return "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text)


# -- reading the arguments


def _read_folder(path: object) -> str:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"a workspace needs the path of its folder, not {path!r}")
    text: Any = os.fspath(cast("str | os.PathLike[str]", path))
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"a workspace needs the path of its folder, not {text!r}")
    folder = os.path.realpath(os.path.expanduser(text))
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise ValueError(f"{folder!r} is no folder: Workspace(…) takes the path of one")
    if not os.path.isdir(folder):
        raise ValueError(f"there is no folder {folder!r}: make it before Workspace(…)")
    return folder


def _read_names(what: str, names: object, allowed: tuple[str, ...]) -> frozenset[str]:
    if isinstance(names, str) or not isinstance(names, Collection):
        raise TypeError(f"{what} takes names, not {names!r}: {', '.join(map(repr, allowed))}")
    for each in cast("Collection[Any]", names):
        if each not in allowed:
            raise ValueError(f"{what} has no {each!r}: it takes {', '.join(map(repr, allowed))}")
    return frozenset(cast("Collection[str]", names))


def _read_environment(env: object) -> dict[str, str]:
    if env is None:
        return {}
    if not isinstance(env, Mapping):
        raise TypeError("env= takes a dictionary of texts")
    read: dict[str, str] = {}
    for name, value in cast("Mapping[Any, Any]", env).items():
        if not isinstance(name, str) or not name or "=" in name or not _can_be_given(name):
            raise ValueError(f"env= has a name that no variable can have: {name!r}")
        if not isinstance(value, str) or not _can_be_given(value):  # which may be a key, so it is not shown
            raise ValueError(f"env= takes texts without NUL and half surrogate pairs, and {name!r} has something else")
        read[name] = value
    return read


def _can_be_given(text: str) -> bool:
    """Whether the system can give a text to a program."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _check_seconds(name: str, seconds: object) -> None:
    if not is_number(seconds) or seconds <= 0:
        raise ValueError(f"{name} must be above 0 seconds, and finite, not {seconds!r}")
