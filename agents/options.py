"""Keywords that other libraries use, and what they are called here.

A newcomer who types what another library taught gets one line with our word for it, not a bare ``TypeError``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, ParamSpec, TypeVar

from .errors import UnknownOption

P = ParamSpec("P")
R = TypeVar("R")

#: What others call it, and what to write here.
OURS: dict[str, str] = {
    "max_turns": "limits=Limits(turns={value})",
    "max_iterations": "limits=Limits(turns={value})",
    "max_steps": "limits=Limits(turns={value})",
    "max_iter": "limits=Limits(turns={value})",
    "recursion_limit": "limits=Limits(turns={value})",
    "usage_limits": "limits=Limits(…)",
    "output_type": "output={value}",
    "result_type": "output={value}",
    "response_format": "output={value}",
    "output_schema": "output={value}",
    "system_prompt": "instructions={value}",
    "system_message": "instructions={value}",
    "prompt": "instructions={value}",
    "model_settings": "settings={value}",
    "model_params": "settings={value}",
    "temperature": "settings=ModelSettings(temperature={value})",
    "max_tokens": "settings=ModelSettings(max_tokens={value})",
    "functions": "tools={value}",
    "llm": "model={value}",
    "retries": "output_retries={value}, or retry=Retry(attempts=…) for model calls",
    "retry_policy": "retry=Retry(…)",
    "max_retries": "retry=Retry(attempts={value})",
    "parallel_tool_calls": "parallel_tools={value}",
    "parallel_tool_execution": "parallel_tools={value}",
    "callbacks": "hooks={value}",
    "message_history": "history={value}",
    "messages": "history={value}",
    "session_id": "conversation_id={value}",
    "thread_id": "conversation_id={value}",
    "chat_id": "conversation_id={value}",
    "context": "deps={value}",
    "dependencies": "deps={value}",
}


def names_ours(function: Callable[P, R]) -> Callable[P, R]:
    """Answer an unknown keyword with the name that it has here."""
    known = frozenset(inspect.signature(function).parameters)
    options = [name for name in known if name != "self"]

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if not known.issuperset(kwargs):
            for name, value in kwargs.items():
                if name not in known:
                    raise UnknownOption(_advice(function.__qualname__, name, value, options))
        return function(*args, **kwargs)

    return checked


def _advice(function: str, name: str, value: Any, options: list[str]) -> str:
    what = f"{function.removesuffix('.__init__')}() has no option {name!r}"
    ours = OURS.get(name)
    if ours is not None and ours.partition("=")[0] in options:
        shown = repr(value) if isinstance(value, int | float | str) else getattr(value, "__name__", "…")
        return f"{what}: write {ours.format(value=shown if len(shown) <= 40 else '…')}"
    near = get_close_matches(name, options, 1)
    return f"{what}: did you mean {near[0]!r}?" if near else f"{what}; it takes {', '.join(sorted(options))}"
