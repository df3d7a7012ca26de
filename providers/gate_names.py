"""The names by which limits are given to gates: a typing error must not be a limit that never applies. Pure.

Limits go by the name of a provider, which is its vendor's unless somebody chose another one (``name=``), or by a base
URL. So a name that nobody knows may be right, and is refused only where it is surely a mistake: another spelling of a
vendor, a model, or a name that looks like a known one and is none.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, cast

from .catalogue import ALIASES
from .gate_state import GateLimits
from .vendors import VENDORS

#: The names of providers that are not in `VENDORS`, by default.
_OTHERS = ("anthropic", "azure", "bedrock", "cohere", "gemini", "ollama", "vertex")
KNOWN = sorted({*VENDORS, *_OTHERS})
#: Words before a model's colon that are the name of no provider, and that name.
_MEANT = {**ALIASES, "openai-responses": "openai", "bedrock-anthropic": "bedrock"}
_ALIKE = 0.75


def check_gates(gates: Any) -> dict[str, GateLimits]:
    """Limits by provider name or base URL, as an option gives them.

    Raises:
        TypeError: it is something else.
        ValueError: a name is surely a mistake.
    """
    if gates is None:
        return {}
    if not isinstance(gates, Mapping):
        raise TypeError(f"gates= takes a dictionary like {{'openai': GateLimits(concurrency=20)}}, not {gates!r}")
    for name, limits in cast("Mapping[Any, Any]", gates).items():
        if not isinstance(name, str) or not isinstance(limits, GateLimits):
            raise TypeError(
                "gates= takes GateLimits(…) by the provider's name or base URL, like "
                f"{{'openai': GateLimits(concurrency=20)}}, not {name!r}: {limits!r}"
            )
        _check(name)
    return dict(cast("Mapping[str, GateLimits]", gates))


def _check(name: str) -> None:
    """Refuse a name that no provider has.

    Raises:
        ValueError: it is surely a mistake; names the nearest name.
    """
    if name in KNOWN or "://" in name:
        return
    lower = name.strip().lower()
    vendor, colon, _ = lower.partition(":")
    vendor = _MEANT.get(vendor, vendor)
    if vendor in KNOWN and colon:
        raise ValueError(
            f"gates= goes by the provider's name or base URL, not by a model: write {vendor!r}, not {name!r}"
        )
    if vendor not in KNOWN:
        near = difflib.get_close_matches(lower, KNOWN, n=1, cutoff=_ALIKE)
        vendor = near[0] if near and not _extends(lower, near[0]) else ""
    if vendor:
        raise ValueError(f"gates= has limits for {name!r}, but no provider has that name: did you mean {vendor!r}?")


def _extends(name: str, known: str) -> bool:
    """Whether somebody has made a name of his own of a known one, like ``openai-eu``."""
    return re.search(rf"(^|[^a-z]){re.escape(known)}([^a-z]|$)", name) is not None
