"""A summary of what a context window leaves out: asked of the agent's own model, in a run below the run.

That run has one turn, no tools and a time limit. It is a part of the step at hand: its events carry its path, what it
costs is the run's, and a stop of the run ends it. It has no journal of its own: what came of it is written in the
run's. So a summary that is there is not made again after a crash, and one that was being made is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import anyio
from anyio import CancelScope

from .. import journal
from ..providers import Message, ToolCall, ToolResult, Usage, user
from ..providers.messages import Document, Image, Refusal, Text, attachment_line
from .ledger import Amount
from .stop_ladder import FAREWELL
from .token_count import TextCounter
from .trimming import cut_text

if TYPE_CHECKING:
    from .run_cell import RunCell

#: Seconds that a summary may take.
TIME = 120.0


class Summary(NamedTuple):
    """A summary, and what it has used and counts for against limits. Without text there is none: `error` says why."""

    text: str
    usage: Usage | None
    cost: float | None
    spent: Amount | None
    error: str = ""


def rendered(messages: Sequence[Message], earlier: str, tokens: int, count: TextCounter) -> str:
    """What is to be summarised, as one text of at most so many tokens."""
    said = [f"earlier summary: {earlier}"] if earlier else []
    lines = "\n".join([*said, *[line for message in messages for line in _lines(message)]])
    frame = "<conversation>\n{}\n</conversation>\n\nSummarise this conversation."
    return frame.format(cut_text(lines, max(0, tokens - count(frame)), count))


def _lines(message: Message) -> list[str]:
    lines: list[str] = []
    for part in message.parts:
        match part:
            case Text(text) | Refusal(text) if text:
                lines.append(f"{message.role}: {text}")
            case ToolCall():
                lines.append(f"{message.role} calls {part.name}({part.raw})")
            case ToolResult():
                lines.append(f"{part.name or 'tool'} {'fails' if part.is_error else 'returns'}: {part.content}")
            case Image() | Document():
                lines.append(f"{message.role}: {attachment_line(part)}")
            case _:
                pass  # reasoning, and what means something to its provider only
    return lines


async def summarise(run: RunCell, text: str, name: str) -> Summary:
    """Have the run's model summarise a text; what goes wrong is told in the summary.

    Args:
        run: for whom.
        text: as `rendered` gives it.
        name: the id of the run that does it.

    When this is cancelled, what was used is in the run's diary.
    """
    cell = run.helper(run.agent.summariser, (user(text),), name)
    try:
        with anyio.move_on_after(TIME):
            await cell.wait_over()
        if cell.exit is None:
            cell.stop_run("now", "timeout")
            await cell.wait_over()
    except BaseException:
        cell.stop_run("now", "abandoned")
        with CancelScope(shield=True, deadline=anyio.current_time() + FAREWELL):
            await cell.wait_over()
        run.diary.hold(*_spent(run, _used(cell)))
        raise
    run.outlived += tuple([f"{cell.name}/{each}" for each in cell.outlived])
    result, used = cell.result, _used(cell)
    if result is None or result.status != "completed":
        why = f"{type(cell.error).__name__}: {cell.error}" if cell.error is not None else result and result.reason
        return used._replace(error=why or "it has not ended")
    said = result.text.strip()
    return used._replace(text=said, error="" if said else "it is empty")


def write_spent(run: RunCell, made: Summary) -> None:
    """Write down what a summary has used that came to nothing.

    Raises:
        JournalError: it cannot be stored.
    """
    # At once: an entry that holds a reply begins with it.
    run.write(*_spent(run, made))


def _spent(run: RunCell, made: Summary) -> list[journal.Record]:
    if made.usage is None and made.cost == 0.0 and not made.spent:
        return []
    return [journal.Spent(run.diary.clock(), made.usage, made.cost, made.spent)]


def _used(cell: RunCell) -> Summary:
    spending = cell.spending
    usage = spending.usage if spending.usage != Usage() else None
    return Summary("", usage, spending.cost, spending.ledger.used if spending.ledger is not None else None)
