"""From the model's last message to the agent's output.

Text is taken as it is. Any other type is asked for as JSON that follows its schema, in the answer itself or as the
arguments of an output tool (`output_tool`), and read with validation (`output_types`). What does not fit goes back to
the model as text that says what to mend. So does what the type itself refuses with `ModelRetry`, in its own words.
"""

from __future__ import annotations

from types import NoneType
from typing import Any, get_origin

import msgspec

from ..providers import Message, ToolCall
from .errors import ModelRetry
from .machine import Rejected
from .output_types import WRAPPED, Ambiguous, Form, form_of

__all__ = ["WRAPPED", "OutputType"]


class OutputType:
    """How one type is asked for and read. `schema` is None for text.

    Raises:
        TypeError: the type has no JSON schema.
    """

    __slots__ = ("_form", "type")

    def __init__(self, type: Any) -> None:
        self.type = type
        self._form: Form | None = None
        if type is str:
            return
        _refuse_useless(type)
        try:
            self._form = form_of(type)
        except Ambiguous as error:
            raise TypeError(f"output={_shown(type)} cannot be described to a model: {error}") from None
        except Exception as error:
            remedy = "use str, other builtin types, Literal, Enum, dataclasses, TypedDict, msgspec or pydantic types"
            raise TypeError(f"output={_shown(type)} cannot be described to a model: {remedy}") from error

    @property
    def name(self) -> str:
        """What the type is called."""
        return _shown(self.type)

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON schema of the answer, an object; None for text."""
        return self._form.schema if self._form is not None else None

    @property
    def wrapped(self) -> bool:
        """Whether the output is the property ``result`` of that object."""
        return self._form is not None and self._form.wrapped

    def read(self, message: Message, remedy: str = "Answer with JSON only.") -> Any:
        """The output in a message.

        Args:
            message: the model's answer.
            remedy: what to tell the model to do where it does not fit.

        Raises:
            Rejected: it does not fit; the text tells the model what to mend.
        """
        text = message.text
        if message.refusal is not None and not text:
            if self._form is None:
                return message.refusal
            raise Rejected(f"the model refused to answer: {message.refusal}", final=True)
        return text if self._form is None else self._read(self._form, _unfenced(text), remedy)

    def read_call(self, call: ToolCall) -> Any:
        """The output in the arguments of a call of the output tool.

        Raises:
            Rejected: they do not fit; the text tells the model what to mend.
        """
        assert self._form is not None
        text = call.raw or msgspec.json.encode(call.arguments or {})
        return self._read(self._form, text, f"Call {call.name} again.")

    def _read(self, form: Form, text: str | bytes, remedy: str) -> Any:
        try:
            return form.read(text)
        except ModelRetry as retry:
            raise Rejected(str(retry) or f"Your answer was not accepted. {remedy}") from retry
        except Exception as error:
            # A type of the user's may raise anything when it is made.
            known = isinstance(error, (ValueError, RecursionError))
            reason = str(error) if known else f"{_type_name(error)}: {error}"
            text = f"Your answer does not fit the required JSON schema: {reason}. {remedy}"
            raise Rejected(text, reason=reason) from error

    def write(self, output: Any) -> str | None:
        """The output as text that `restore` makes the same of, or None where there is no such text."""
        try:
            text = output if self._form is None else self._form.write(output).decode()
            return text if isinstance(text, str) and self.restore(text) == output else None
        except Exception:
            return None  # whatever it is, it is no JSON

    def restore(self, text: str) -> Any:
        """The output that was written as this text."""
        return text if self._form is None else self._form.read(text)


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
