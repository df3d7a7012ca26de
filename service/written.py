"""How a record is written as JSON, whatever text is in it.

Text of models, of tools and of files may hold half a character (a lone surrogate), which no encoding has. It is written
as U+FFFD: one such text must not make a list of runs unreadable, or end a stream in the middle.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

_encode = msgspec.json.Encoder().encode


def written(value: Any) -> bytes:
    """A record as JSON."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return _encode(_whole(msgspec.to_builtins(value, builtin_types=(msgspec.Raw,))))


def _whole(value: Any) -> Any:
    """The same, with whole characters only."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {_whole(key): _whole(each) for key, each in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_whole(each) for each in cast("list[Any]", value)]
    return value
