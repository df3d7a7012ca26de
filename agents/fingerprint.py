"""What an agent was like when a run of it began, in a few bytes: enough to say later what has changed.

A run that goes on in another process may find its agent changed: another prompt, a tool gone, other arguments. It goes
on, because services are deployed while runs are at work; but it says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

if TYPE_CHECKING:
    from .agent import Agent

_encode = msgspec.json.Encoder(order="deterministic").encode


class Fingerprint(msgspec.Struct, frozen=True, omit_defaults=True):
    """An agent's model by name, and checksums of what it says to it: of each tool (by name), instructions, output type.

    Instructions that a function makes have none.
    """

    model: str
    tools: dict[str, int] = {}
    instructions: int | None = None
    output: int | None = None


def fingerprint_of(agent: Agent[Any, Any], instructions: object) -> Fingerprint:
    """The fingerprint of an agent with these instructions."""
    return Fingerprint(
        f"{agent.provider.name}:{agent.provider.model}",
        {spec.name: crc32(_encode(spec)) for spec in agent.toolbox.specs},
        None if instructions is None or callable(instructions) else crc32(_encode(instructions)),
        crc32(_encode(agent.output_schema)) if agent.output_schema is not None else None,
    )


def changes(then: Any, now: Fingerprint) -> tuple[str, ...]:
    """What has become different since `then`, a fingerprint as it was read from a journal."""
    if then is None:
        return ()
    old = msgspec.convert(then, Fingerprint)
    found = [f"tool {name!r} is gone" for name in old.tools if name not in now.tools]
    found += [f"tool {name!r} is new" for name in now.tools if name not in old.tools]
    common = [name for name in old.tools if name in now.tools]
    found += [
        f"tool {name!r} has another description or arguments" for name in common if old.tools[name] != now.tools[name]
    ]
    if old.model != now.model:
        found.append(f"the model was {old.model}, and is {now.model}")
    if old.instructions != now.instructions:
        found.append("the instructions are others")
    if old.output != now.output:
        found.append("the output type is another")
    return tuple(found)
