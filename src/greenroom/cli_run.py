"""``greenroom run``: one agent, with a prompt for one answer, without one on a terminal for a conversation.

What is wrong before the run (a model's name, a tool) raises `Misuse`; what goes wrong in it is one line and status 1.
One answer goes to standard output as it comes, and notes of tool calls and retries to standard error, so that the
answer alone can be piped on. A conversation (`cli_chat`) has the terminal for both.
"""

from __future__ import annotations

import importlib
import os
import re
import secrets
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import anyio.from_thread
import msgspec

from .agents import Agent, AgentError, ConversationBusy, LimitExceeded, Limits, System, Tool
from .agents.blocking import Backend
from .agents.in_thread import ThreadSystem
from .cli_chat import Chat, Place
from .cli_chat_asking import Asking
from .cli_chat_lines import Lines
from .cli_chat_logs import shown_logs
from .cli_chat_screen import Screen
from .cli_chat_signals import Signals
from .cli_chat_tools import ask_before_changes, read_mcp, read_workspace
from .cli_chat_turn import TurnView
from .cli_loop import Interrupted
from .journal import JournalError
from .load import Latency, simulated_server
from .providers import AuthError, OpenAIChat, Provider, ProviderError, connect
from .providers.connect import names_vendor

#: The model that needs no key: a simulated one, which is started for the length of the command.
SIMULATED = "simulated"
#: How fast it answers: about as a real one does.
_PACE = "300ms-600ms+30ms"
#: Seconds that an answer has to end once it was stopped, before what does not is given up.
_GRACE = 3.0
#: Seconds that everything has to be closed at the end; and where somebody has pressed Ctrl-C twice, with those that
#: are left once it was cancelled.
_LAST, _AT_ONCE = (8.0,), (3.0, 1.0)
#: What is a text, and may come from the shell as bytes that are none.
_TEXTS = ("prompt", "model", "base_url", "key_variable", "tools", "mcp", "instructions", "conversation")
#: The folder that this library was imported from.
_OURS = os.path.dirname(__file__) + os.sep


class Misuse(Exception):
    """The command cannot be carried out as it was given; the text says why, in one line."""


class Answering(msgspec.Struct, frozen=True, kw_only=True):
    """What ``greenroom run`` was asked for."""

    prompt: str | None
    model: str
    base_url: str | None = None
    key_variable: str | None = None
    tools: tuple[str, ...] = ()
    mcp: tuple[str, ...] = ()
    workspace: str | None = None
    allow: str | None = None
    yes: bool = False
    instructions: str | None = None
    conversation: str | None = None
    journal: str | None = None
    turns: int = 50


def answer(asked: Answering, backend: Backend) -> int:
    """Run the agent and print its answer, or hold a conversation; returns the exit status.

    Raises:
        Misuse: unknown model, bad URL, a tool that cannot be found or described, no prompt and nobody to ask.
        Interrupted: a signal came.
        JournalError: the file of the conversation cannot be used.
    """
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise Misuse("standard output is closed: there is nowhere to write an answer to")
    asked = _checked(asked)
    is_chat = asked.prompt is None and _is_terminal(sys.stdin) and _is_terminal(sys.stdout)
    prompt = None if is_chat else _prompt_of(asked)
    file = _file_of(asked)
    signals = Signals()
    notes = sys.stdout if is_chat else sys.stderr
    screen = Screen(sys.stdout, notes)
    lines = Lines(signals, notes) if _is_terminal(sys.stdin) and _is_terminal(notes) else None
    asking = Asking(screen, lines, yes=asked.yes)
    with signals.installed(), _reachable(asked, backend) as asked:
        agent = _agent_for(asked)
        with System.in_thread(backend=backend, name="run", journal=file, grace=_GRACE) as system:
            try:
                if prompt is not None:
                    return _answer_once(system, agent, prompt, asked, screen, asking)
                assert lines is not None
                return _converse(Place(system, agent, screen, lines, signals, asking), asked, file)
            except Interrupted as interruption:
                signals.hurry(*(_AT_ONCE if interruption.by_key else _LAST))
                raise
            finally:
                signals.hurry(*_LAST)


def _checked(asked: Answering) -> Answering:
    """The same, of texts alone."""
    read = {name: _text_of(name, getattr(asked, name)) for name in _TEXTS}
    if asked.conversation is not None and not asked.conversation.strip():
        raise Misuse("--conversation takes an id, and it is empty")
    if asked.key_variable is not None and not asked.key_variable.strip():
        raise Misuse("--key-variable takes the name of an environment variable, and it is empty")
    if asked.journal is not None and (not asked.journal.strip() or asked.journal == ":memory:"):
        raise Misuse(f"--journal takes the path of a file, not {asked.journal!r}")
    return msgspec.structs.replace(asked, **read)


def _text_of(name: str, value: Any) -> Any:
    """What the shell gave, as text in UTF-8, whatever the encoding of the terminal."""
    if isinstance(value, tuple):
        return tuple([_text_of(name, each) for each in value])  # pyright: ignore[reportUnknownVariableType]
    try:
        return value if value is None else os.fsencode(value).decode()
    except UnicodeError:
        named = "the prompt" if name == "prompt" else f"--{name.replace('_', '-')}"
        raise Misuse(f"{named} is no text in UTF-8") from None


def _prompt_of(asked: Answering) -> str:
    """The prompt that was given, or piped in."""
    prompt = asked.prompt
    if prompt is None:
        if sys.stdin is None or _is_terminal(sys.stdin):  # pyright: ignore[reportUnnecessaryComparison]
            raise Misuse("there is no prompt: write one, or pipe one in; a conversation needs a terminal to write to")
        try:
            prompt = sys.stdin.buffer.read().decode()
        except UnicodeDecodeError:
            raise Misuse("the prompt on standard input is no text in UTF-8") from None
    if not prompt.strip():
        raise Misuse("the prompt is empty")
    return prompt


def _is_terminal(stream: Any) -> bool:
    return stream is not None and stream.isatty()


def _file_of(asked: Answering) -> str | None:
    """Where a conversation is kept; None where it is not."""
    if asked.journal is not None or asked.conversation is None:
        return asked.journal
    home = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_DATA_HOME")
    folder = (Path(home) if home and Path(home).is_absolute() else Path.home() / ".local" / "share") / "greenroom"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Misuse(f"{folder} cannot be made ({error.strerror}): say where with --journal FILE") from None
    return str(folder / "chats.db")


def _new_id() -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


@contextmanager
def _reachable(asked: Answering, backend: Backend) -> Generator[Answering]:
    """With the simulated model started, if it is asked for."""
    if asked.model != SIMULATED or asked.base_url is not None:
        yield asked
        return
    with (
        anyio.from_thread.start_blocking_portal(backend) as portal,
        portal.wrap_async_context_manager(simulated_server(latency=Latency.parse(_PACE))) as server,
    ):
        yield msgspec.structs.replace(asked, base_url=server.base_url)


def _agent_for(asked: Answering) -> Agent[Any, str]:
    """Raises:
    Misuse: a model or tools that cannot be.
    """
    tools = [find_tool(each) for each in asked.tools]
    try:
        return Agent(
            "greenroom",
            provider_for(asked),
            instructions=asked.instructions,
            tools=[*tools, *read_mcp(asked.mcp), *read_workspace(asked.workspace, asked.allow)],
            limits=Limits(turns=asked.turns),
            policy=ask_before_changes,
        )
    except (ImportError, RuntimeError) as error:  # what the ready-made tools need is not there
        raise Misuse(" ".join(str(error).split())) from None
    except (TypeError, ValueError) as error:
        near = get_close_matches(asked.model, [SIMULATED])
        hint = f"; did you mean {SIMULATED}?" if near and asked.base_url is None else ""
        raise Misuse(_line(error).replace("base_url must", "--base-url must") + hint) from None


def _answer_once(
    system: ThreadSystem, agent: Agent[Any, str], prompt: str, asked: Answering, screen: Screen, asking: Asking
) -> int:
    options: Any = {"conversation_id": asked.conversation} if asked.conversation is not None else {}
    try:
        with system.stream(agent, prompt, on_exit="detach" if options else "stop", **options) as run:
            result = TurnView(screen, asking, run, in_full=False).follow()
    except KeyboardInterrupt:
        raise Interrupted(signal.SIGINT) from None
    except (AgentError, ProviderError, ConversationBusy) as error:
        screen.complain(_words_for(error, asked, asked.conversation))
        return 1
    if asking.interrupted:
        raise Interrupted(signal.SIGINT)
    if result.status != "completed":
        screen.complain(f"there is no answer: the run was stopped ({result.reason})")
        return 1
    return 0


def _converse(place: Place, asked: Answering, file: str | None) -> int:
    id, screen = asked.conversation or _new_id(), place.screen
    screen.note(f"{asked.model}; /help lists commands, Ctrl-C stops an answer, Ctrl-D ends")
    if file is not None:
        screen.note(f"conversation {id} is kept in {file}")
    with shown_logs(screen) as logs:
        chat = Chat(
            place,
            logs,
            id,
            kept=file is not None,
            new_id=_new_id,
            words_for=lambda error, which: _words_for(error, asked, which),
        )
        try:
            chat.go_on()
        except ConversationBusy as error:
            screen.complain(_words_for(error, asked, id))
            return 1
        chat.converse()
    return 0


def _words_for(error: BaseException, asked: Answering, conversation: str | None) -> str:
    """An error of a conversation in one line, in terms of this command."""
    if isinstance(error, LimitExceeded):
        return f"no answer within --limit-turns {error.allowed:g}"
    if isinstance(error, ConversationBusy):
        place = f" --journal {shlex.quote(asked.journal)}" if asked.journal is not None else ""
        return (
            f"the last answer of conversation {conversation} has not ended: another process is at work on it, or "
            f"`greenroom run --conversation {shlex.quote(conversation or '')}{place}` on a terminal goes on with it"
        )
    words = _line(error)
    if isinstance(error, AuthError):
        # The command line takes no key: others could read it.
        words = re.sub(r" or pass api_key=( or \w+=)*", "", words)
        if asked.key_variable is None:
            words += f"; --model {SIMULATED} needs none"
    return words


def provider_for(asked: Answering) -> Provider:
    """The model that is asked: a vendor's, or that of any endpoint that speaks Chat Completions.

    Raises:
        TypeError, ValueError: an unknown model, or a URL that cannot be used.
    """
    given = {"base_url": asked.base_url, "key_variable": asked.key_variable}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if asked.base_url is None or names_vendor(asked.model):
        return connect(asked.model, **options)
    return OpenAIChat(asked.model, **options)


def find_tool(place: str) -> Any:
    """The tool that ``module:function`` names; the current directory can be imported from.

    Raises:
        Misuse: there is none, or it cannot be described to a model.
    """
    function = find_object(place, "--tools", "function", "weather:forecast")
    if isinstance(function, Tool | Agent):
        return function  # pyright: ignore[reportUnknownVariableType]
    if not callable(function):
        raise Misuse(f"--tools {place}: {place.partition(':')[2]} is of type {type(function).__name__}, not a function")
    try:
        return Tool(function)
    except (TypeError, ValueError) as error:
        raise Misuse(f"--tools {place}: {_line(error)}") from None


def find_object(place: str, option: str, what: str, example: str) -> Any:
    """What ``module:name`` names; the current directory can be imported from.

    Args:
        place: the text that was given.
        option: the option that it was given to.
        what: what it should be, in a word.
        example: one that would be right.

    Raises:
        Misuse: there is none.
    """
    module_name, colon, name = place.partition(":")
    if not colon or not module_name or not name:
        raise Misuse(f"{option} {place}: write module:{what}, for example {example}")
    if module_name.endswith(".py"):
        given = module_name.removesuffix(".py").removeprefix("./").replace("/", ".")
        raise Misuse(f"{option} {place}: write the module's name, not its file's: {given}:{name}")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        found = "there is no module" if module_name.startswith(missing) else f"{module_name} needs the module"
        raise Misuse(f"{option} {place}: {found} {missing!r} (looked in {here} and the installed packages)") from None
    except (Exception, SystemExit) as error:  # a program that runs when it is imported may end itself
        raise Misuse(f"{option} {place}: {module_name} cannot be imported: {_line(error)}{_where(error)}") from None
    finally:
        # What it imports later is found too, but hides nothing any more.
        sys.path.remove(here)
        sys.path.append(here)
    found = getattr(module, name, None)
    if found is None:
        near = get_close_matches(name, [each for each in vars(module) if not each.startswith("_")], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise Misuse(f"{option} {place}: {module_name} has no {what} {name!r}{hint}")
    return found


def _where(error: BaseException) -> str:
    """The place in the user's file that raised, or that called what did."""
    frames = traceback.extract_tb(error.__traceback__)
    last = next(
        (each for each in reversed(frames) if not each.filename.startswith(_OURS) and "importlib" not in each.filename),
        None,
    )
    return f" ({last.filename}:{last.lineno})" if last is not None else ""


#: Errors whose message alone says what is wrong.
_SPEAKING = (AgentError, ProviderError, JournalError, Misuse, TypeError, ValueError)


def _line(error: BaseException) -> str:
    words = " ".join(str(error).split())
    named = isinstance(error, _SPEAKING) and bool(words)
    return words if named else f"{type(error).__name__}: {words}".rstrip(": ")
