"""For whom a run works: what a function is told that says what the run's tools depend on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Origin(msgspec.Struct, frozen=True):
    """What a run was asked for with: by its first request, or by the journal of one that goes on."""

    agent: str
    user_id: str | None
    conversation_id: str | None
    tags: tuple[str, ...]
    metadata: Mapping[str, Any]
