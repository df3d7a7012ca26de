"""Where the instruments of a System are entered and left: around a run, a model call, a tool call.

Each is entered and left by the same task, in a ``finally``, so however the work ends, what was entered is left, and
context variables are set back where they were set. Runs outside any System have no instruments, and work that has none
comes past here with one test.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from ..actors.crashes import is_crash
from ..providers import ModelRequest, ToolResult
from .instruments import Instruments, ModelSpan, RunSpan, ToolSpan
from .machine import Fact, Limited, ModelFailed, Replied

if TYPE_CHECKING:
    from .model_call import ModelCall
    from .run_cell import RunCell
    from .tool_cell import ToolCell

#: Around work that nobody watches.
NOTHING = nullcontext()


@contextmanager
def run_span(instruments: Instruments, run: RunCell) -> Generator[None]:
    """Enter the instruments around the life of a run."""
    provider = run.agent.provider
    span = RunSpan(
        run_id=run.name,
        path=run.voice.path,
        agent=run.agent.name,
        provider=provider.name,
        model=provider.model,
        prompt=run.prompt,
        description=run.agent.description,
        parent_id=run.run_parent.name if run.run_parent is not None else None,
        call_id=run.call_id,
        user_id=run.options.user_id,
        conversation_id=run.options.conversation_id,
    )
    now = run.stage.home.now
    began = now()
    entered = instruments.enter("run", span)
    ended = "failed"
    try:
        yield
    except BaseException as error:
        ended = "failed" if is_crash(error) else "stopped"
        raise
    finally:
        result = run.result
        span.seconds = now() - began
        span.status = "suspended" if run.suspended else result.status if result is not None else ended
        span.usage = run.spending.usage
        span.restarts = run.restarts
        span.result, span.error = result, run.error
        instruments.leave("run", entered)


async def in_model_span(instruments: Instruments, run: RunCell, call: ModelCall, request: ModelRequest) -> Fact:
    """Carry out a model call with the instruments around it."""
    provider = run.agent.provider
    span = ModelSpan(
        run_id=run.name,
        turn=run.voice.turn,
        agent=run.agent.name,
        provider=provider.name,
        model=provider.model,
        request=request,
        user_id=run.options.user_id,
        conversation_id=run.options.conversation_id,
    )
    now = run.stage.home.now
    began, retries = now(), run.retries
    entered = instruments.enter("model_call", span)
    fact: Fact | None = None
    try:
        fact = await call.perform()
        return fact
    finally:
        span.seconds = now() - began
        span.reply = fact.reply if isinstance(fact, Replied) else None
        span.error = fact.error if isinstance(fact, ModelFailed | Limited) else None
        span.cancelled = fact is None
        span.tries = 1 + run.retries - retries
        span.answered_by = call.answered_by
        span.streamed, span.first_chunk = call.streamed, call.first_chunk
        span.gate_wait = call.gate_wait
        span.cost = call.cost
        instruments.leave("model_call", entered)


async def in_tool_span(instruments: Instruments, call: ToolCell) -> ToolResult | None:
    """Carry out a tool call with the instruments around it."""
    run = call.run
    span = ToolSpan(
        run_id=run.name,
        turn=run.voice.turn,
        agent=run.agent.name,
        tool=call.tool.name,
        description=call.tool.spec.description,
        call_id=call.call_id,
        call=call.call,
        user_id=run.options.user_id,
        conversation_id=run.options.conversation_id,
    )
    now = run.stage.home.now
    began = now()
    entered = instruments.enter("tool_call", span)
    result: ToolResult | None = None
    try:
        result = await call.invoke()
        return result
    finally:
        span.seconds = now() - began
        # A tool that swallowed its cancellation does not turn a stop or a timeout into a success.
        cut = call.cut_by() or ("cancelled" if result is None else None)
        span.result = result if cut is None else None
        span.cause = cut or (result.cause or ("failed" if result.is_error else None) if result is not None else None)
        span.tries = call.attempt
        span.outlived = call.outlived
        instruments.leave("tool_call", entered)
