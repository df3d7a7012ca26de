"""From the model's last message to the agent's output type.

Text is taken as it is. Any other type is asked for as JSON that follows its schema, and read with validation; a
pydantic model reads itself. What does not fit goes back to the model as text that says what to mend.
"""

from __future__ import annotations

from types import NoneType
from typing import Any, cast, get_origin

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
        _refuse_useless(type)
        if hasattr(type, "model_json_schema") and hasattr(type, "model_validate_json"):
            self._pydantic = type
            try:
                self.schema = type.model_json_schema()
            except Exception as error:
                reason = (str(error).splitlines() or [_type_name(error)])[0]
                raise TypeError(f"output={_shown(type)} cannot be described to a model: {reason}") from None
            return
        try:
            schema = _inlined(msgspec.json.schema(type))
            msgspec.json.Decoder(type)
        except Exception:
            raise TypeError(
                f"output={_shown(type)} cannot be described to a model: use str, other builtin types, Literal, Enum, "
                "dataclasses, TypedDict, msgspec or pydantic types"
            ) from None
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
        if message.refusal is not None and not text:
            if self.schema is None:
                return message.refusal
            raise Rejected(f"the model refused to answer: {message.refusal}", final=True)
        if self.schema is None:
            return text
        try:
            if self._pydantic is not None:
                return self._pydantic.model_validate_json(_unfenced(text))
            value = msgspec.json.decode(_unfenced(text), type=self._read_as)
        except Exception as error:
            # A type of the user's may raise anything when it is made.
            known = isinstance(error, (ValueError, RecursionError))
            reason = str(error) if known else f"{_type_name(error)}: {error}"
            raise Rejected(
                f"Your answer does not fit the required JSON schema: {reason}. Answer with JSON only."
            ) from error
        return value if self._read_as is self.type else getattr(value, WRAPPED)


def _refuse_useless(type: Any) -> None:
    """Refuse types that tell a model nothing."""
    for useless, remedy in (
        (None, "for text leave it out, or write output=str"),
        (NoneType, "for text leave it out, or write output=str"),
        (Any, "for text write output=str, for any JSON object output=dict"),
        (object, "for text write output=str, for any JSON object output=dict"),
        (bytes, "a model answers with text: write output=str"),
        (bytearray, "a model answers with text: write output=str"),
    ):
        if type is useless:
            raise TypeError(f"output={_shown(type)} says nothing about the answer: {remedy}")


def _shown(type: Any) -> str:
    name = None if get_origin(type) is not None else getattr(type, "__name__", None)
    return name or repr(type)


def _type_name(error: Exception) -> str:
    return type(error).__name__


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
