"""Instruments: what is around the work of a System's runs, for traces and measurements.

An observer (`on_event`) hears of moments, in whatever task tells them. An instrument is entered and left *in the task
that does the work*: around a run, around each model call with all its tries, and around each tool call. So what it puts
into context variables is there for the code inside, for the tasks that this code starts, and for its threads:

    class Timing(Instrument):
        @contextmanager
        def tool_call(self, span):
            yield
            print(span.tool, span.seconds, span.cause or "ok")

The same `span` is given at the beginning, with what is known then, and has the outcome when the block is left. A block
is always left in order, without an exception, however the work has ended: what comes after the ``yield`` runs, and
`span` says why. An instrument that raises is logged once and skipped; nothing that it does can fail a run.

Where the work is entered and left is in `spans`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias, cast

import msgspec

from ..providers import Message, ModelReply, ModelRequest, ToolCall, ToolResult, Usage
from .result import RunResult

_log = logging.getLogger("greenroom")


class RunSpan(msgspec.Struct, kw_only=True):
    """One run, from the beginning of its task to its end; its wait for a turn (`max_running`) is part of it.

    From the beginning: `run_id`, `path` (the ids from the root to this run), `parent_id` and `call_id` (of a subagent:
    the run and the tool call that it works for), `agent`, `description`, `provider` and `model` that it is to ask,
    `user_id`, `conversation_id` and `prompt`.

    At the end: `seconds`, by the event loop's clock; `status`, of the result, or ``suspended`` for a run that is to go
    on elsewhere; `usage`; `restarts` after crashes; `result`, None if there is none; `error`, what those get who wait
    for the run, or None.
    """

    run_id: str
    path: tuple[str, ...]
    agent: str
    provider: str
    model: str
    prompt: Sequence[Message]
    description: str | None = None
    parent_id: str | None = None
    call_id: str | None = None
    user_id: str | None = None
    conversation_id: str | None = None
    seconds: float = 0.0
    status: str | None = None
    usage: Usage = Usage()
    restarts: int = 0
    result: RunResult[Any] | None = None
    error: BaseException | None = None


class ModelSpan(msgspec.Struct, kw_only=True):
    """One model call of a run, with all its tries, its pauses between them and its waits at the gate.

    From the beginning: `run_id`, `turn`, `agent`, `provider` and `model` that are asked, `user_id`, `conversation_id`
    and `request`.

    At the end: `seconds`; `reply`, None if there is none; `error`, the provider's or the limit's, or None; `cancelled`,
    whether the call was cut short; `tries`; `answered_by`, the name of the provider that a `Fallback` has gone over to,
    or None; `streamed`; `first_chunk`, seconds from the asking to the first piece, of a streamed try; `gate_wait`,
    seconds; `cost`, in US dollars, if that is known.
    """

    run_id: str
    turn: int
    agent: str
    provider: str
    model: str
    request: ModelRequest
    user_id: str | None = None
    conversation_id: str | None = None
    seconds: float = 0.0
    reply: ModelReply | None = None
    error: BaseException | None = None
    cancelled: bool = False
    tries: int = 1
    answered_by: str | None = None
    streamed: bool = False
    first_chunk: float | None = None
    gate_wait: float = 0.0
    cost: float | None = None


class ToolSpan(msgspec.Struct, kw_only=True):
    """One tool call that runs, with all its tries. The wait for an approval or a free place comes before.

    From the beginning: `run_id`, `turn`, `agent`, `tool`, `description`, `call_id`, `call`, `user_id` and
    `conversation_id`.

    At the end: `seconds`; `result`, None for a call that was cut short; `cause`, None for a call that returned, else
    ``failed``, ``invalid``, ``timed_out`` or ``cancelled``; `tries`; `outlived`, whether its thread or process still
    runs although the call was given up.
    """

    run_id: str
    turn: int
    agent: str
    tool: str
    description: str
    call_id: str
    call: ToolCall
    user_id: str | None = None
    conversation_id: str | None = None
    seconds: float = 0.0
    result: ToolResult | None = None
    cause: str | None = None
    tries: int = 1
    outlived: bool = False


Span: TypeAlias = RunSpan | ModelSpan | ToolSpan
Block: TypeAlias = AbstractContextManager[object, bool | None]
#: A method of an instrument, and what it has entered.
Method: TypeAlias = Callable[[Any], Block | None]
Entered: TypeAlias = tuple[Method, Block]


class Instrument:
    """What is entered around the work of runs. Subclass it, write the methods that are wanted, and give it to a System:
    ``System(instruments=[…])``. Each method returns a context manager, or None for none; both are synchronous and must
    not block.
    """

    def run(self, span: RunSpan) -> Block | None:
        """Around a run, subagents included, in the run's task."""
        return None

    def model_call(self, span: ModelSpan) -> Block | None:
        """Around a model call with its retries, in the run's task."""
        return None

    def tool_call(self, span: ToolSpan) -> Block | None:
        """Around a tool call that runs, in its own task."""
        return None


class Instruments:
    """The instruments of one System. They are entered in the order in which they were given, and left in the other."""

    __slots__ = ("_by_kind", "_logged")

    def __init__(self, each: Sequence[Instrument]) -> None:
        self._by_kind: dict[str, tuple[Method, ...]] = {
            kind: tuple(getattr(one, kind) for one in each if getattr(type(one), kind) is not getattr(Instrument, kind))
            for kind in ("run", "model_call", "tool_call")
        }
        self._logged: set[tuple[str, str]] = set()

    def enter(self, kind: str, span: Span) -> list[Entered]:
        """Enter a block of each; returns those that have been entered."""
        entered: list[Entered] = []
        for method in self._by_kind[kind]:
            try:
                block = method(span)
                if block is not None:
                    block.__enter__()
                    entered.append((method, block))
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt | SystemExit):
                    self.leave(kind, entered)
                    raise
                self._log_once(kind, method, error)
        return entered

    def leave(self, kind: str, entered: list[Entered]) -> None:
        """Leave the blocks, the last one first."""
        while entered:
            method, block = entered.pop()
            try:
                block.__exit__(None, None, None)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt | SystemExit):
                    self.leave(kind, entered)
                    raise
                self._log_once(kind, method, error)

    def _log_once(self, kind: str, method: Method, error: BaseException) -> None:
        owner = type(getattr(method, "__self__", method)).__qualname__
        if (kind, owner) in self._logged:
            return
        self._logged.add((kind, owner))
        # Not the message: it may hold what the span holds.
        _log.error("an instrument failed at %s and is skipped there (%s): %s", kind, owner, type(error).__name__)


def read_instruments(given: object) -> Instruments | None:
    """The instruments of a System; None for none.

    Raises:
        TypeError: not a list of instruments.
    """
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise TypeError(f"instruments= takes a list of instruments: instruments=[…], not {given!r}")
    each = cast("Sequence[Any]", given)
    for one in each:
        if not isinstance(one, Instrument):
            hint = f"{one.__name__}(…)" if isinstance(one, type) and issubclass(one, Instrument) else "an Instrument"
            raise TypeError(f"instruments= takes a list of instruments; write {hint}, not {one!r}")
    return Instruments(each) if each else None
