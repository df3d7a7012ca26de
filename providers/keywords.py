"""Records that users write with keywords: a wrong one is answered in one line that names the right one."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import msgspec


class Keywords(type(msgspec.Struct)):  # type: ignore[misc]  # the metaclass has a public name in newer versions only
    """The metaclass of such a record: ``class Limits(msgspec.Struct, metaclass=Keywords)``."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except TypeError:
            fields: tuple[str, ...] = cls.__struct_fields__  # type: ignore[attr-defined]
            wrong = next((name for name in kwargs if name not in fields), None)
            if wrong is not None:
                near = get_close_matches(wrong, fields, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(fields)}"
                raise TypeError(f"{cls.__name__}() has no option {wrong!r}: {hint}") from None
            if args:
                first = f"{fields[0]}={args[0]!r}"
                raise TypeError(f"{cls.__name__}() takes keywords: write {cls.__name__}({first})") from None
            raise
