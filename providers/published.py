"""List prices of well-known vendors, by the library `genai-prices` where it is installed (``greenroom[prices]``).

It is asked only for endpoints that are the vendor's own: at another address, behind a gateway, in a cloud or in a
region, the same model has another price. Its data come with it; nothing is fetched. What it does not know, or knows
only for some hours of the day, has no price here.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, cast

from .anthropic import ANTHROPIC_URL
from .billing import Billed
from .cohere import COHERE_URL
from .gemini import GEMINI_URL
from .vendors import VENDORS

_OURS = ("openai", "groq", "mistral", "deepseek", "together", "cerebras", "fireworks", "zai")
#: What the library calls the vendor that lives at a base URL.
_LISTED = {VENDORS[vendor].base_url: vendor for vendor in _OURS} | {
    VENDORS["xai"].base_url: "x-ai",
    ANTHROPIC_URL: "anthropic",
    GEMINI_URL: "google",
    COHERE_URL: "cohere",
}
_PRICED = (
    ("cached_input", "cache_read_mtok"),
    ("cache_write", "cache_write_mtok"),
    ("cache_write_1h", "cache_write_1h_mtok"),
)


@cache
def library() -> Any:
    """`genai-prices`, or None where it is not installed. Half a second of processor time, once."""
    try:
        return import_module("genai_prices")
    except ImportError:
        return None


def is_listed(base_url: str | None) -> bool:
    """Whether an endpoint has list prices at all."""
    return base_url is not None and base_url.rstrip("/") in _LISTED


def list_price(base_url: str | None, model: str, counted: Billed) -> float | None:
    """What these tokens cost at an endpoint by its list, in US dollars; None for what is not known."""
    vendor = _LISTED.get((base_url or "").rstrip("/"))
    prices = library() if vendor is not None else None
    if prices is None:
        return None
    read = counted.input + counted.cached_input + counted.cache_write + counted.cache_write_1h
    asked = {
        "input_tokens": read,
        "output_tokens": counted.output,
        "cache_read_tokens": counted.cached_input,
        "cache_write_tokens": counted.cache_write + counted.cache_write_1h,
        "cache_write_1h_tokens": counted.cache_write_1h,
    }
    usage = prices.Usage(**{key: count for key, count in asked.items() if count or key.startswith(("input", "output"))})
    try:
        found: Any = prices.calc_price(usage, model, provider_id=vendor)
        rates = found.model_price
        known = all(getattr(rates, rate, None) is not None for kind, rate in _PRICED if getattr(counted, kind))
        known = known and rates.input_mtok is not None and rates.output_mtok is not None
        if not known or getattr(rates, "requests_kcount", None) is not None or _by_the_hour(found.model):
            return None
        return float(found.total_price)
    except Exception:
        return None  # an unknown model, or counts that do not add up; its errors have no common class


def _by_the_hour(model: Any) -> bool:
    """Whether the price depends on the time of day, which the bill and our clock may read differently."""
    choices: Any = model.prices
    return isinstance(choices, list) and any(
        hasattr(getattr(each, "constraint", None), "start_time") for each in cast("list[Any]", choices)
    )
