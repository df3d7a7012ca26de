"""Keywords that other libraries use, and what they are called here.

A newcomer who types what another library taught gets one line with our word for it, not a bare ``TypeError``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import Any, ParamSpec, TypeVar

from .errors import UnknownOption

P = ParamSpec("P")
R = TypeVar("R")

#: What others call it, and what to write here: the first form whose own keyword the function has. A form without a
#: keyword always fits.
OURS: dict[str, str | tuple[str, ...]] = {
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
    "structured_output": "output={value}",
    "structured_outputs": "output={value}",
    "result_validators": "validators={value}",
    "output_validators": "validators={value}",
    "output_validator": "validators={value}",
    "output_guardrails": "validators={value}",
    "guardrails": "validators={value}",
    "output_format": "output={value}",
    "output_tool": "output_mode='tool'",
    "tool_output": "output_mode='tool'",
    "native_output": "output_mode='native'",
    "system_prompt": "instructions={value}",
    "system_message": "instructions={value}",
    "system": ("instructions={value}", "system.{function}(…), whose runs live in that System"),
    "prompt": "instructions={value}",
    "model_settings": "settings={value}",
    "model_params": "settings={value}",
    "temperature": "settings=ModelSettings(temperature={value})",
    "max_tokens": "settings=ModelSettings(max_tokens={value})",
    "functions": "tools={value}",
    "llm": "model={value}",
    "retries": "tool_retries={value}, output_retries={value}, or retry=Retry(attempts=…) for model calls",
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
    "context_window": "context=ContextWindow(tokens={value})",
    "context_window_tokens": "context=ContextWindow(tokens={value})",
    "max_context_tokens": "context=ContextWindow(tokens={value})",
    "max_messages": "context=ContextWindow(messages={value})",
    "history_processors": "context=ContextWindow(overflow={value})",
    "trim_messages": "context=ContextWindow(tokens=…)",
    "truncation": "context=ContextWindow(tokens=…)",
    "condenser": "context=ContextWindow(tokens=…, overflow='summarise')",
    "compaction": "context=ContextWindow(tokens=…, overflow='summarise')",
    "dependencies": "deps={value}",
    "deps": "deps_type={type} here, and deps=… when it runs",
    "api_key": "model=OpenAIChat(…, api_key=…)",
    "base_url": "model=OpenAIChat(…, base_url=…)",
    "verbose": ("on_event=print", "hooks=Hooks(on_tool_start=print, …)"),
    "memory": "history=result to go on from an earlier run; notes for later runs are the agent's, Agent(…, memory=…)",
    "memory_store": ("memory={value}", "Agent(…, memory=…)"),
    "long_term_memory": ("memory={value}", "Agent(…, memory=…)"),
    "top_p": "settings=ModelSettings(top_p={value})",
    "seed": "settings=ModelSettings(seed={value})",
    "timeout": ("model=OpenAIChat(…, timeouts=…)", "with anyio.fail_after({value}): …"),
    "handoffs": "tools={value}; an agent may be a tool",
    "response_model": "output={value}",
    "stream": "async with agent.stream(…) as run: …",
    "images": "agent.run([text, image(…)])",
    "max_concurrency": "concurrency={value}",
    "replan_interval": "replan_every={value}",
    "planning_interval": "replan_every={value}",
    "stuck_detection": "stuck_after=10, or stuck_after=None to turn it off",
    "loop_detection": "stuck_after=10, or stuck_after=None to turn it off",
    "max_consecutive_repeats": "stuck_after={value}",
    "max_consecutive_tool_calls": "stuck_after={value} for repeated calls, or limits=Limits(turns={value})",
    "max_consecutive_errors": "tool_retries={value}",
    "max_consecutive_auto_reply": "limits=Limits(turns={value})",
    "human_in_the_loop": "await context.ask_user(…) in a tool, or needs_approval=True on one",
    "human_input": "await context.ask_user(…) in a tool, or needs_approval=True on one",
    "human_input_mode": "await context.ask_user(…) in a tool, or needs_approval=True on one",
    "cancellation_token": "stop=StopToken()",
    "cancel_token": "stop=StopToken()",
    "abort_signal": "stop=StopToken()",
    "should_stop": "stop_when={value}",
    "check_for_stop_signal": "stop_when={value}",
    "return_exceptions": "on_error='collect', or on_error='raise'",
}
#: Words whose value does not belong in a message.
_SECRET = {"api_key"}


def names_ours(function: Callable[P, R]) -> Callable[P, R]:
    """Answer an unknown keyword with the name that it has here."""
    return _checked(function, ())


def names_ours_in(keywords: type) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """The same for a function that takes its keywords as a ``TypedDict``."""
    return lambda function: _checked(function, keywords.__annotations__)


def _checked(function: Callable[P, R], keywords: Collection[str]) -> Callable[P, R]:
    parameters = inspect.signature(function).parameters.values()
    by_place = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    known = {*keywords, *(each.name for each in parameters if each.kind not in by_place)}
    options = known - {"self"}

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if not known.issuperset(kwargs):
            refuse_unknown(function.__qualname__, kwargs, options)
        return function(*args, **kwargs)

    return checked


def refuse_unknown(function: str, given: Mapping[str, Any], options: Collection[str]) -> None:
    """Refuse keywords that are not among `options`.

    Raises:
        UnknownOption: with our name for the first of them.
    """
    for name, value in given.items():
        if name not in options:
            raise UnknownOption(_advice(function, name, value, options))


def _advice(function: str, name: str, value: Any, options: Collection[str]) -> str:
    what = f"{function.removesuffix('.__init__')}() has no option {name!r}"
    forms = OURS.get(name, ())
    for form in (forms,) if isinstance(forms, str) else forms:
        keyword, equals, _ = form.partition("=")
        if not equals or not keyword.isidentifier() or keyword in options:
            shown = repr(value) if isinstance(value, int | float | str) else getattr(value, "__name__", "…")
            shown = "…" if len(shown) > 40 or name in _SECRET else shown
            method = function.rpartition(".")[2]
            return f"{what}: write {form.format(value=shown, type=type(value).__name__, function=method)}"
    near = get_close_matches(name, options, 1)
    return f"{what}: did you mean {near[0]!r}?" if near else f"{what}; it takes {', '.join(sorted(options))}"
