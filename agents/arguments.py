"""The arguments of an agent and of its runs, checked where they are given.

A check answers in one line that names the argument and what to write. Types that a caller got wrong are TypeErrors,
values ValueErrors.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any, cast

from ..providers import Message, ModelSettings, Provider, connect
from .in_thread import ThreadSystem
from .system import System

#: Modules whose objects may stand for a type.
_TYPING = ("types", "typing", "typing_extensions", "collections.abc")


def expect(name: str, value: object, type: type, form: str) -> None:
    """Refuse an argument that is given and of another type."""
    if value is not None and not isinstance(value, type):
        raise TypeError(f"{name}= takes {form}, not {value!r}")


def check_deps_type(deps_type: object) -> None:
    """Refuse what is neither a type nor one of the forms that `typing` has for types."""
    if deps_type is None or isinstance(deps_type, type | str) or type(deps_type).__module__ in _TYPING:
        return
    raise TypeError(f"deps_type= takes a type, not {deps_type!r}: the value is deps=… when it runs")


def check_on_limit(on_limit: object) -> None:
    """Refuse an unknown word."""
    if on_limit not in ("raise", "return"):
        raise ValueError(f"on_limit={on_limit!r} is not one of 'raise', 'return'")


def check_system(system: object) -> None:
    """Refuse what is no System."""
    if isinstance(system, ThreadSystem):
        raise TypeError("system= takes a System of this event loop; with one in a thread, write system.run(agent, …)")
    if isinstance(system, type) or not isinstance(system, System):
        raise TypeError(f"system= takes an open System, from `async with System() as system:`, not {system!r}")


def check_prompts(what: str, prompts: object) -> None:
    """Refuse what is no list of prompts."""
    if isinstance(prompts, str | bytes | Mapping | Message):
        kind = type(cast("object", prompts)).__name__
        raise TypeError(f"{what} takes a list of prompts, not one {kind}: write agent.{what}([…])")
    if isinstance(prompts, AsyncIterable):
        raise TypeError(f"{what} takes a list of prompts; read the async iterable first: [each async for each in …]")
    if not isinstance(prompts, Iterable):
        raise TypeError(f"{what} takes a list of prompts, not {prompts!r}")


def check_turns(name: str, turns: object, least: int) -> None:
    """Refuse what is no number of turns, and not None."""
    if turns is None:
        return
    if not isinstance(turns, int) or isinstance(turns, bool):
        raise TypeError(f"{name}= takes a number of turns, at least {least}, or None, not {turns!r}")
    if turns < least:
        raise ValueError(f"{name}= must be at least {least} turns, or None to turn it off, not {turns!r}")


def check_words(name: str, words: object) -> None:
    """Refuse what is given and says nothing to a model."""
    expect(name, words, str, "text")
    if isinstance(words, str) and not words.strip():
        raise ValueError(f"{name}= must not be empty; leave it out for our own words")


def check_concurrency(concurrency: object) -> None:
    """Refuse what is no number of runs."""
    if not isinstance(concurrency, int) or isinstance(concurrency, bool):
        raise TypeError(f"concurrency must be a whole number, at least 1, not {concurrency!r}")
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, not {concurrency!r}")


#: What a function for instructions may say that it returns, and must not.
_NO_TEXT = (None, "None", int, "int", float, "float", bool, "bool", bytes, "bytes", list, "list", dict, "dict")


def check_instructions(instructions: object) -> None:
    """Refuse what gives no text for a RunContext, as far as it can be seen without calling it."""
    if instructions is None or isinstance(instructions, str):
        return
    if not callable(instructions) or isinstance(instructions, type):
        raise TypeError(f"instructions must be text or a function of RunContext, not {instructions!r}")
    name = getattr(instructions, "__name__", type(instructions).__name__)
    try:
        signature = inspect.signature(instructions)
    except (TypeError, ValueError):
        return  # written in C
    try:
        signature.bind(None)
    except TypeError:
        raise TypeError(
            f"instructions={name} must take one argument, the RunContext: def {name}(context): …, not {name}{signature}"
        ) from None
    returns = signature.return_annotation
    if returns in _NO_TEXT or inspect.isgeneratorfunction(instructions) or inspect.isasyncgenfunction(instructions):
        raise TypeError(f"instructions={name} must return text, not what {name}{signature} returns")


def read_settings(settings: object) -> ModelSettings | None:
    """The settings of model calls, from a record or a dictionary."""
    if settings is None or isinstance(settings, ModelSettings):
        return settings
    if not isinstance(settings, Mapping):
        raise TypeError(f"settings= takes ModelSettings(…) or a dictionary of its fields, not {settings!r}")
    settings = cast("Mapping[str, Any]", settings)
    for name in settings:
        if name not in ModelSettings.__struct_fields__:
            fields = ", ".join(ModelSettings.__struct_fields__)
            raise TypeError(f"settings= has no {name!r}: it takes {fields} (and extra= for what only one provider has)")
    return ModelSettings(**settings)


def read_model(model: Provider | str) -> Provider:
    """The provider, from itself or from a name."""
    if isinstance(model, str):
        return connect(model)
    if not isinstance(model, Provider):
        raise TypeError(f"model= takes a Provider or a string such as 'openai:gpt-5-mini', not {model!r}")
    return model
