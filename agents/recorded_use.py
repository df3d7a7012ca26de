"""What a run has used of its limits, as its journal says.

What a model call has come to stands in its record where the run was bounded in that; otherwise it is what the provider
has told. Of a call that was under way when its process died it is only known that there was one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from ..journal import Happened, Intended, Record, Replied, Resumed, Retrying, Returned, Spent, Summarised
from ..providers import ModelReply, Usage
from .ledger import Amount, nano


def used_in(records: Iterable[Record]) -> Amount:
    """What these records count for: those of one run, without what subagents of open calls have used."""
    total = Amount()
    begun: set[str] = set()
    for record in records:
        match record:
            case Replied():
                begun.clear()  # a new turn may use the same ids again
                usage = msgspec.convert(record.reply, ModelReply).usage if record.spent is None else None
                total += _of_call(record.spent, usage, record.cost)
            case Retrying() | Spent() | Summarised():
                total += _of_call(record.spent, record.usage, record.cost)
            case Intended():
                if record.call_id not in begun:  # one that runs once more counts once
                    begun.add(record.call_id)
                    total += Amount(tool_calls=1)
            case Happened() | Returned() if record.spent is not None:
                total += msgspec.convert(record.spent, Amount)
            case Resumed() if record.asking:
                total += Amount(requests=1)
            case _:
                pass
    return total


def _of_call(spent: Any, usage: Any, cost: float | None) -> Amount:
    if spent is not None:
        return msgspec.convert(spent, Amount)
    told = msgspec.convert(usage, Usage) if usage is not None else Usage()
    read, written = told.input_tokens or 0, told.output_tokens or 0
    total = told.total_tokens if told.total_tokens is not None else read + written
    return Amount(1, 0, 0, read, written, total, nano(cost or 0.0))
