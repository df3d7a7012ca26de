"""What one run is started with, beside its prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from .limits import Limits


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `Agent.run`, checked."""

    limits: Limits
    deps: Any = None
    user_id: str | None = None
    conversation_id: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = {}
    on_event: Callable[[Any], Any] | None = None
