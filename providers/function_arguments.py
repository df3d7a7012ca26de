"""What a model sent for a function: checked, and turned into keyword arguments. Pure.

The decoder of msgspec does nearly all of it in one pass. What it lets pass and a tool must not see is looked for
afterwards, and only where it can be: keys given twice, nesting without end, keys that a class of the user's does not
have. Whatever is wrong is one ValueError whose text tells the model what to mend: for that, and only then, the value
is laid beside the JSON schema, which finds all mistakes at once and their places.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Final, cast

import msgspec

from .function_types import Foreign, read_foreign
from .json_schema import check
from .schema_words import clipped

MAX_DEPTH: Final = 200
#: Bytes of the arguments of one call. What a model can write in one answer is far less.
MAX_SIZE: Final = 4_000_000
#: Characters that a message to the model has for one mistake.
LINE: Final = 500


class FunctionSchema(msgspec.Struct, frozen=True):
    """A function as a tool: what the model is told, and what checks its arguments.

    `context_parameter` names the parameter that the caller fills in himself; it is not in the schema. `arguments` is
    None where the schema was given and not read from the function. `closer` is what the decoder does not check,
    `foreign` the fields that pydantic reads.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    arguments: type[msgspec.Struct] | None
    context_parameter: str | None
    decoder: msgspec.json.Decoder[Any]
    fields: tuple[str, ...]
    keys: tuple[bytes, ...]
    closer: dict[str, Any] | None = None
    foreign: tuple[str, ...] = ()


def validate(schema: FunctionSchema, raw: bytes | str | Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments in `raw`, which is JSON text or a dictionary decoded from it. Costs some microseconds.

    Raises:
        ValueError: they do not fit; the text says where and what was expected.
    """
    try:
        arguments = _from_text(schema, raw) if isinstance(raw, (str, bytes)) else _from_values(schema, raw)
    except msgspec.ValidationError as error:
        raise ValueError(_refusal(schema, _mistakes(schema, raw) or [str(error)])) from None
    except msgspec.DecodeError as error:
        raise ValueError(f"the arguments for {schema.name} are not valid JSON: {clipped(str(error), LINE)}") from None
    except RecursionError:
        raise ValueError(f"the arguments for {schema.name} are nested too deeply: at most {MAX_DEPTH} levels") from None
    except UnicodeDecodeError:
        raise ValueError(f"the arguments for {schema.name} are not valid UTF-8") from None
    except UnicodeEncodeError:
        raise ValueError(f"the arguments for {schema.name} hold half a surrogate pair: send valid Unicode") from None
    except _Unfit as error:
        raise ValueError(_refusal(schema, error.args)) from None
    except Exception as error:
        # What an argument's own type raises when it is made.
        raise ValueError(_refusal(schema, [f"{type(error).__name__}: {error}"])) from error
    if schema.arguments is None:
        return arguments
    values = {field: getattr(arguments, field) for field in schema.fields}
    for field in schema.foreign:
        if isinstance(values[field], Foreign):
            values[field] = values[field].value
    return values


def _from_text(schema: FunctionSchema, raw: str | bytes) -> Any:
    data = raw.encode() if isinstance(raw, str) else raw
    if len(data) > MAX_SIZE:
        raise _too_large(len(data))
    if not data or data.isspace():
        data = b"{}"
    arguments = schema.decoder.decode(data)
    if schema.closer is not None or data.count(b"{") > 1 or b"\\" in data or _repeats(data, schema.keys):
        value = json.loads(data, object_pairs_hook=_refuse_twice)
        if data.count(b"{") + data.count(b"[") > MAX_DEPTH:
            _check_values(value)
        _look_closer(schema, value)
    elif data.count(b"[") > MAX_DEPTH:
        _check_values(msgspec.json.decode(data))
    return arguments


def _repeats(data: bytes, keys: Sequence[bytes]) -> bool:
    """Whether a key may be there twice."""
    for key in keys:  # noqa: SIM110 - a generator costs twice as much, in every call of a tool
        if data.count(key) > 1:
            return True
    return False


def _from_values(schema: FunctionSchema, raw: Mapping[str, Any]) -> Any:
    _check_values(raw)
    _look_closer(schema, raw)
    if schema.arguments is None:
        return dict(raw)
    return msgspec.convert(raw, schema.arguments, dec_hook=read_foreign)


def _look_closer(schema: FunctionSchema, value: Any) -> None:
    if schema.closer is not None:
        mistakes = check(schema.closer, value)
        if mistakes:
            # The whole schema says more about each of them.
            raise _Unfit(*(check(schema.parameters, value) or mistakes))


def _mistakes(schema: FunctionSchema, raw: bytes | str | Mapping[str, Any]) -> list[str]:
    """What does not fit the JSON schema; nothing where it is only the decoder, or the user's own type, that refuses."""
    try:
        return check(schema.parameters, raw if isinstance(raw, Mapping) else msgspec.json.decode(raw))
    except RecursionError:
        return [f"nested too deeply: at most {MAX_DEPTH} levels"]


def _refusal(schema: FunctionSchema, mistakes: tuple[Any, ...] | list[str]) -> str:
    lines = [clipped(str(mistake), LINE) for mistake in mistakes]
    told = lines[0] if len(lines) == 1 else "".join(f"\n- {line}" for line in lines)
    return f"invalid arguments for {schema.name}:{' ' if len(lines) == 1 else ''}{told}"


class _Unfit(Exception):
    """Something that the decoder lets pass and a tool must not see: one line for each mistake."""


def _too_large(size: int) -> _Unfit:
    return _Unfit(f"{size} bytes are too much: at most {MAX_SIZE}")


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Unfit(f"the key {clipped(key, 80)!r} is given twice")
            seen.add(key)
    return made


def _check_values(top: Any) -> None:
    """Refuse what JSON cannot hold, in values that may not have come from JSON. Iterative: depth is data."""
    pending: list[tuple[Any, int]] = [(top, 0)]
    size = 0
    while pending:
        value, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise RecursionError
        if isinstance(value, float):
            if not isfinite(value):
                raise _Unfit(f"{value} is not a JSON number")
        elif isinstance(value, str):
            size += len(value)
            if not value.isascii():
                value.encode()
        elif isinstance(value, Mapping):
            for key, held in cast("Mapping[Any, Any]", value).items():
                pending += [(key, depth + 1), (held, depth + 1)]
        elif isinstance(value, (list, tuple)):
            pending += [(held, depth + 1) for held in cast("list[Any]", value)]
    if size > MAX_SIZE:
        raise _too_large(size)
