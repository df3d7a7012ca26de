"""How an agent asks for a typed answer: as the model's text, held to a schema, or by a tool.

A provider that holds its model to a schema is sent the schema. From any other the answer comes by an *output tool*,
which the model calls with the answer as its arguments: models keep to the schema of a tool far better than to one that
they are told in words. The model may use the agent's other tools first, and is told to end with this one. Nothing is
forced by ``tool_choice``: some servers refuse that, and some models then cannot think.

A model that answers with text all the same is not refused for that: what fits is taken, and what does not is sent back
with the name of the tool. Likewise the call of an output tool counts where none was offered, so that a run goes on as
it was begun although its agent asks in another way today.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from ..providers import Message, Provider, ToolSpec
from .machine import AnswerTool

if TYPE_CHECKING:
    from .output import OutputType

OutputMode: TypeAlias = "Literal['auto', 'native', 'tool']"
MODES = ("auto", "native", "tool")

_NAME = "final_answer"
_DESCRIPTION = "Give your final answer: the arguments are the answer. Call this once, when nothing else is left to do."


def check_output_mode(mode: object, output: object) -> None:
    """Refuse an unknown word, and a tool for an answer that is text."""
    if not isinstance(mode, str):
        raise TypeError(f"output_mode= takes one of 'auto', 'native', 'tool', not {mode!r}")
    if mode not in MODES:
        raise ValueError(f"output_mode={mode!r} is not one of 'auto', 'native', 'tool'")
    if mode == "tool" and output is str:
        raise ValueError("output_mode='tool' needs an output type: give output=, or leave output_mode= out")


class Asking(msgspec.Struct, frozen=True):
    """How an agent asks for its answer, and what reads it.

    `schema` is what the provider is to hold the model to, `tool` the output tool, as it is offered; one of them is
    None, and both are for text. `read` reads an answer that is text, `called` one that is a call of the output tool,
    whether that was offered or not.
    """

    read: Callable[[Message], Any]
    schema: dict[str, Any] | None = None
    tool: ToolSpec | None = None
    called: AnswerTool | None = None

    def tools(self, specs: Sequence[ToolSpec]) -> Sequence[ToolSpec]:
        """The tools of a request."""
        return specs if self.tool is None else (*specs, self.tool)

    def instructions(self, instructions: str | None) -> str | None:
        """The system prompt of a request."""
        if self.tool is None:
            return instructions
        told = f"Give your final answer by calling the tool {self.tool.name}, not as text."
        return f"{instructions}\n\n{told}" if instructions else told


def asking_for(
    output: OutputType, mode: OutputMode, provider: Provider, tools: Sequence[ToolSpec], *, more: bool
) -> Asking:
    """How to ask `provider` for this output, beside these tools; `more` says that others will come."""
    schema = output.schema
    if schema is None:
        return Asking(output.read)
    name, taken = _NAME, {spec.name for spec in tools}
    while name in taken:
        name += "_"
    called = AnswerTool(name, output.read_call)
    if mode == "native" or (mode == "auto" and provider.takes_schema(schema, tools=more or bool(tools))):
        return Asking(output.read, schema=schema, called=called)
    read = partial(output.read, remedy=f"Call the tool {name} with your answer.")
    return Asking(read, tool=ToolSpec(name, _DESCRIPTION, schema), called=called)
