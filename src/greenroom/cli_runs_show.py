"""``greenroom runs show`` and ``tail``: one run of a journal's file, as a tree, and as it grows."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from .agents import Archive, Chronicle
from .agents.archive import read_chronicle
from .agents.trace import dollars, duration, printable, shortened, tokens_in
from .agents.tracer import Step, Tracer
from .cli_runs_find import columns_of_terminal, complain, find, line_for, local, print_json, status
from .journal import BadRecord, Began, Listed
from .providers import Message


async def show_run(file: str, given: str, *, as_json: bool, messages: bool) -> int:
    """Print one run; returns the exit status: 1 if a subagent of it is damaged."""
    async with Archive(file) as archive:
        listed = await find(archive, given)
        try:
            chronicle = await read_chronicle(archive, listed.run_id)
        except msgspec.ValidationError as error:
            raise BadRecord(line_for(error, listed.run_id)) from error
    if as_json and messages:
        print_json(chronicle.messages)
    elif as_json:
        print_json(chronicle.to_dict() | {"status": status(listed, chronicle), "trace": chronicle.trace()})
    elif messages:
        for message in chronicle.messages:
            print("\n".join(_spoken(message)))
    else:
        for label, value in _facts(listed, chronicle):
            print(f"{label:<13} {printable(value)}")
        print(f"\n{chronicle.trace().draw(columns_of_terminal() or 80)}")
    return complain(_unreadable(chronicle))


def _unreadable(chronicle: Chronicle) -> list[str]:
    return [*chronicle.unreadable.values(), *[why for child in chronicle.children for why in _unreadable(child)]]


def _facts(listed: Listed, chronicle: Chronicle) -> list[tuple[str, str]]:
    began, usage = chronicle.began, chronicle.usage
    stands: str = status(listed, chronicle)
    if stands == "running" and listed.owner is not None:
        stands += f" in process {listed.owner.pid}"
    elif stands == "interrupted":
        stands += ": its process has ended"
    elif chronicle.reason:
        stands += f" ({chronicle.reason})"
    facts = [("run", began.run_id), ("agent", began.agent), ("status", stands)]
    if chronicle.ended is not None and chronicle.ended.error:
        facts.append(("error", chronicle.ended.error))
    facts.append(("started", f"{local(began.at):%Y-%m-%d %H:%M:%S}"))
    if chronicle.ended is not None:
        took = duration(chronicle.ended.at - began.at)
        facts.append(("ended", f"{local(chronicle.ended.at):%Y-%m-%d %H:%M:%S}, after {took}"))
    else:
        facts.append(("last entry", f"{local(listed.changed_at):%Y-%m-%d %H:%M:%S}"))
    tokens = tokens_in(usage)
    counts = [(usage.input_tokens, "in"), (usage.output_tokens, "out"), (usage.cached_input_tokens, "cached")]
    parts = ", ".join(f"{count:,} {word}" for count, word in counts if count is not None)
    facts.append(("turns", f"{chronicle.turns:,}"))
    facts.append(("tokens", "unknown" if tokens is None else f"{tokens:,}" + (f" ({parts})" if parts else "")))
    facts.append(("cost", "unknown" if chronicle.cost is None else dollars(chronicle.cost)))
    if chronicle.resumptions:
        facts.append(("resumed", "once" if chronicle.resumptions == 1 else f"{chronicle.resumptions} times"))
    named = [("part of", began.parent_id), ("conversation", began.conversation_id), ("user", began.user_id)]
    facts += [(label, value) for label, value in named if value is not None]
    if began.tags:
        facts.append(("tags", ", ".join(began.tags)))
    if began.metadata:
        facts.append(("metadata", msgspec.json.encode(began.metadata).decode()))
    facts.append(("journal", f"{listed.length:,} entries, {listed.size:,} bytes"))
    return facts


def _spoken(message: Message) -> list[str]:
    """A message in full."""
    lines = [f"{message.role}{' (cut)' if message.partial else ''}:"]
    said = [message.text, message.refusal or ""]
    said += [
        f"calls {call.name} {call.raw or msgspec.json.encode(call.arguments).decode()}" for call in message.tool_calls
    ]
    for result in message.tool_results:
        how = f" ({(result.cause or 'failed').replace('_', ' ')})" if result.is_error else ""
        said.append(f"{result.name or result.call_id}{how}: {result.content}")
    for text in said:
        lines += [f"  {line}".rstrip() for line in printable(text, "\n\t").splitlines()]
    return lines


# -- tail


async def tail_run(file: str, given: str) -> int:
    """Print the steps of one run as they are written down, until it ends."""
    async with Archive(file) as archive:
        listed = await find(archive, given)
        tracer: Tracer | None = None
        room = columns_of_terminal()
        async for records in archive.follow(listed.run_id):
            for record in records:
                if isinstance(record, Began):
                    tracer = Tracer(record)
                    steps: Sequence[Step] = [
                        tracer.root,
                        *[each for each in tracer.root.children if isinstance(each, Step)],
                    ]
                else:
                    steps = tracer.read(record) if tracer is not None else ()
                for step in steps:
                    line = f"{local(record.at):%H:%M:%S}  {step.finished().line()}"
                    print(line if room is None else shortened(line, room))
            sys.stdout.flush()
    return 0
