"""From the model's last message to the agent's output type.

Text is taken as it is. Any other type is asked for as JSON that follows its schema, and read with validation; a
pydantic model reads itself. What does not fit goes back to the model as text that says what to mend.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from ..providers import Message
from .machine import Rejected

#: The key that holds an output which is not an object itself: providers want an object at the top.
WRAPPED = "result"


class OutputType:
    """How one type is asked for and read. `schema` is None for text.

    Raises:
        TypeError: the type has no JSON schema.
    """

    __slots__ = ("_pydantic", "_read_as", "schema", "type")

    def __init__(self, type: Any) -> None:
        self.type = type
        self.schema: dict[str, Any] | None = None
        self._pydantic: Any = None
        self._read_as: Any = type
        if type is str:
            return
        if hasattr(type, "model_json_schema") and hasattr(type, "model_validate_json"):
            self._pydantic = type
            self.schema = type.model_json_schema()
            return
        try:
            schema = _inlined(msgspec.json.schema(type))
        except TypeError as error:
            name = getattr(type, "__name__", repr(type))
            raise TypeError(f"output={name} cannot be described to a model: {error}") from error
        if schema.get("type") != "object":
            definitions = schema.pop("$defs", None)
            schema = {"type": "object", "properties": {WRAPPED: schema}, "required": [WRAPPED]}
            if definitions is not None:
                schema["$defs"] = definitions
            self._read_as = msgspec.defstruct("Output", [(WRAPPED, type)])
        self.schema = schema

    def read(self, message: Message) -> Any:
        """The output in a message.

        Raises:
            Rejected: it does not fit; the text tells the model what to mend.
        """
        text = message.text
        if self.schema is None:
            return text
        try:
            if self._pydantic is not None:
                return self._pydantic.model_validate_json(_unfenced(text))
            value = msgspec.json.decode(_unfenced(text), type=self._read_as)
        except (ValueError, RecursionError) as error:
            raise Rejected(
                f"Your answer does not fit the required JSON schema: {error}. Answer with JSON only."
            ) from error
        return value if self._read_as is self.type else getattr(value, WRAPPED)


def _unfenced(text: str) -> str:
    """The text without a Markdown fence around it: models add one although they are told not to."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```"):
        return text[3:-3].removeprefix("json").strip()
    return text


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its top object in place instead of behind a reference."""
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    definitions = dict(cast("dict[str, Any]", schema.get("$defs", {})))
    name = reference.rsplit("/", 1)[-1]
    top = dict(definitions[name])
    if _mentions(top, reference) or any(
        _mentions(other, reference) for key, other in definitions.items() if key != name
    ):
        top["$defs"] = definitions  # the type refers to itself
    else:
        del definitions[name]
        if definitions:
            top["$defs"] = definitions
    return top


def _mentions(schema: Any, reference: str) -> bool:
    if isinstance(schema, dict):
        entries = cast("dict[str, Any]", schema)
        return entries.get("$ref") == reference or any(_mentions(value, reference) for value in entries.values())
    return isinstance(schema, list) and any(_mentions(value, reference) for value in cast("list[Any]", schema))
