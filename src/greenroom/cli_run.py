"""``greenroom run``: one agent, any OpenAI-compatible endpoint, text on standard output as it comes.

What is wrong before the run (a model's name, a tool) raises `Misuse`; what goes wrong in it is one line and status 1.
Tool calls and retries are noted on standard error, dimmed on a terminal, so that the answer alone can be piped on.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from difflib import get_close_matches
from functools import partial
from typing import Any

import msgspec

from .agents import Agent, AgentError, LimitExceeded, Limits, Tool, events
from .cli_loop import run_interruptible
from .providers import OpenAIChat, Provider, ProviderError, connect
from .providers.connect import names_vendor


class Misuse(Exception):
    """The command cannot be carried out as it was given; the text says why, in one line."""


class Answering(msgspec.Struct, frozen=True, kw_only=True):
    """What ``greenroom run`` was asked for."""

    prompt: str
    model: str
    base_url: str | None = None
    key_variable: str | None = None
    tools: tuple[str, ...] = ()
    instructions: str | None = None
    turns: int = 50


def answer(asked: Answering, backend: str) -> int:
    """Run the agent and print its answer; returns the exit status.

    Raises:
        Misuse: unknown model, bad URL, a tool that cannot be found or described.
    """
    if not asked.prompt.strip():
        raise Misuse("the prompt is empty")
    try:
        agent = Agent(
            "greenroom",
            provider_for(asked),
            instructions=asked.instructions,
            tools=[find_tool(each) for each in asked.tools],
            limits=Limits(turns=asked.turns),
        )
    except (TypeError, ValueError) as error:
        raise Misuse(_line(error)) from None
    try:
        run_interruptible(partial(_stream, agent, asked.prompt), backend)
    except LimitExceeded as error:
        print(f"greenroom: no answer within --limit-turns {error.allowed:g}", file=sys.stderr)
        return 1
    except (AgentError, ProviderError) as error:
        words = _line(error).replace(" or pass api_key=", "")  # the command line takes no key: others could read it
        print(f"greenroom: {words}", file=sys.stderr)
        return 1
    return 0


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


async def _stream(agent: Agent[Any, str], prompt: str) -> None:
    wrote = ""
    try:
        async with agent.stream(prompt) as run:
            async for event in run.events():
                if isinstance(event, events.ModelTextDelta) and event.run_id == run.id:
                    wrote = event.text or wrote
                    sys.stdout.write(event.text)
                    sys.stdout.flush()
                else:
                    wrote = _note(event, wrote)
    finally:
        if wrote and not wrote.endswith("\n"):
            print(flush=True)


def _note(event: events.Event, wrote: str) -> str:
    """Say on standard error what the run does beside talking; returns what the answer's line ends with now."""
    words = words_for(event)
    if words is None:
        return wrote
    if wrote and not wrote.endswith("\n"):
        print(flush=True)  # the note must not stand in the middle of a line of the answer
    print_note(words)
    return ""


def words_for(event: events.Event) -> str | None:
    """What is noted of an event, if anything."""
    match event:
        case events.ToolStarted(tool=name, arguments=arguments):
            shown = ", ".join(f"{key}={value!r}" for key, value in (arguments or {}).items())
            return f"{name}({shown})"
        case events.ToolErrored(tool=name, result=result):
            return f"{name} failed: {result}"
        case events.ModelRetrying(delay=delay, error=error):
            return f"trying again in {delay:.1f} s: {error}"
        case events.RunRestarted(error=error):
            return f"the run crashed and goes on: {error}"
        case _:
            return None


def print_note(words: str) -> None:
    """A line on standard error, dimmed on a terminal."""
    words = _shortened(words)
    print(f"\x1b[2m{words}\x1b[0m" if sys.stderr.isatty() else words, file=sys.stderr, flush=True)


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
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        found = "there is no module" if module_name.startswith(missing) else f"{module_name} needs the module"
        raise Misuse(f"{option} {place}: {found} {missing!r} (looked in {here} and the installed packages)") from None
    except Exception as error:
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


def _where(error: Exception) -> str:
    """The place in the user's file that raised."""
    frames = traceback.extract_tb(error.__traceback__)
    last = next(
        (frame for frame in reversed(frames) if frame.filename != __file__ and "importlib" not in frame.filename), None
    )
    return f" ({last.filename}:{last.lineno})" if last is not None else ""


def _line(error: BaseException) -> str:
    words = " ".join(str(error).split())
    named = isinstance(error, (AgentError, ProviderError, Misuse, TypeError, ValueError)) and bool(words)
    return words if named else f"{type(error).__name__}: {words}".rstrip(": ")


def _shortened(words: str, limit: int = 200) -> str:
    words = " ".join(words.split())
    return words if len(words) <= limit else words[: limit - 1] + "…"
