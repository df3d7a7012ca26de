"""What model calls cost: a table of one's own, what the provider itself says, and list prices.

In this order, and each is right or says nothing: an unknown model, a usage that was not reported, a provider whose
counting leaves a doubt (`billing`), and anything that is billed beside tokens have the price None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from .billing import Billed, billed, is_plain, reported
from .checks import is_number
from .keywords import Keywords
from .provider import Provider
from .published import is_listed, library, list_price
from .vendors import VENDORS
from .vocabulary import ModelReply

_MILLION = 1_000_000
#: Who says what a call has cost.
_TELLING = {VENDORS[vendor].base_url: vendor for vendor in ("openrouter", "perplexity", "xai")}


class Price(msgspec.Struct, metaclass=Keywords, frozen=True, kw_only=True):
    """US dollars for a million tokens.

    Args:
        input: what the model reads.
        output: what it writes, its reasoning included: every provider bills that as output.
        cached_input: input that was read from a cache. Without it, a call that did so has no price.
        cache_write: input that was written to a cache, for five minutes where there is a choice. Without it likewise.
        cache_write_1h: the same for an hour.

    Raises:
        ValueError: a price that is not a number, or below zero.
    """

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            optional = name not in ("input", "output")
            if not (optional and value is None) and not (is_number(value) and value >= 0):
                raise ValueError(f"Price({name}=) must be dollars for a million tokens, 0 or more, not {value!r}")

    def of(self, counted: Billed) -> float | None:
        """What these tokens cost, in US dollars; None where a price for some of them is missing."""
        dollars = 0.0
        for name in self.__struct_fields__:
            count = getattr(counted, name)
            if count:
                price = getattr(self, name)
                if price is None:
                    return None
                dollars += count * price
        return dollars / _MILLION


class Prices:
    """Prices of models, for ``Agent(prices=…)``.

        Prices({"gpt-5-mini": Price(input=0.25, cached_input=0.025, output=2), "azure:mine": {"input": 1, "output": 4}})

    A key is a model's name as the provider reports it or as it was asked for, alone or behind the vendor's name and a
    colon. With a ``*`` at its end it stands for all names that begin so; the longest counts, and a whole name before
    it.

    Args:
        table: a `Price`, or a dictionary of its fields, for each name.
        published: whether models that the table does not know are looked up elsewhere: in what OpenRouter, Perplexity
            and xAI say of a call, then in `genai-prices` where it is installed.

    Raises:
        TypeError: a key that is no text, or a price of another type.
        ValueError: an empty name, or a price that cannot be one.
    """

    __slots__ = ("_begins", "_published", "_table")

    def __init__(
        self, table: Mapping[str, Price | Mapping[str, float]] | None = None, *, published: bool = True
    ) -> None:
        if table is not None and not isinstance(table, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"Prices takes a dictionary from models to prices, not {type(table).__name__}")
        read = {_checked_name(name): _read(name, price) for name, price in (table or {}).items()}
        self._table = {name: price for name, price in read.items() if not name.endswith("*")}
        begins = sorted((name[:-1] for name in read if name.endswith("*")), key=len, reverse=True)
        self._begins = [(begin, read[begin + "*"]) for begin in begins]
        self._published = bool(published)

    def prepare(self, provider: Provider) -> None:
        """Load what a price of this provider will need, so that no run waits for it."""
        if self._published and any(is_listed(getattr(each, "base_url", None)) for each in members(provider)):
            library()

    def cost(self, reply: ModelReply, provider: Provider, extra: Mapping[str, Any] | None = None) -> float | None:
        """What one call has cost, in US dollars, or None.

        Args:
            reply: its answer.
            provider: who has given it.
            extra: what the request held beside `ModelSettings`.
        """
        usage = reply.usage
        if usage is None:
            return None
        base_url: str | None = getattr(provider, "base_url", None)
        family: str | None = getattr(provider, "family", None)
        price = self._own(provider.name, [name for name in (reply.model, provider.model) if name])
        if price is None:
            if not self._published:
                return None
            told = reported(usage, _TELLING.get((base_url or "").rstrip("/")))
            if told is not None or not is_listed(base_url):
                return told
        if not is_plain(reply, extra):
            return None
        counted = billed(usage, family)
        if counted is None:
            return None
        return price.of(counted) if price is not None else list_price(base_url, reply.model or provider.model, counted)

    def most(self, provider: Provider, input: int, output: int) -> float | None:
        """What a call of this size costs at most, in US dollars; None if it cannot be told before it is made.

        Args:
            provider: who is asked; of several that may answer, the dearest counts.
            input, output: tokens. Input counts at the price of writing it to a cache, where that is dearer.
        """
        asked: list[float] = []
        for each in members(provider):
            price = self._own(each.name, [each.model])
            if price is not None:
                dearest = max(price.input, price.cache_write or 0.0, price.cache_write_1h or 0.0)
                asked.append((dearest * input + price.output * output) / _MILLION)
                continue
            listed = list_price(getattr(each, "base_url", None), each.model, Billed(input, output))
            if listed is None or not self._published:
                return None
            asked.append(listed)
        return max(asked)

    def _own(self, vendor: str, models: Sequence[str]) -> Price | None:
        if not self._table and not self._begins:
            return None
        names = [name for model in models for name in (f"{vendor}:{model}", model)]
        found = next((self._table[name] for name in names if name in self._table), None)
        if found is not None or not self._begins:
            return found
        for model in models:
            for begin, price in self._begins:
                if f"{vendor}:{model}".startswith(begin) or model.startswith(begin):
                    return price
        return None

    def __repr__(self) -> str:
        names = [*self._table, *(f"{begin}*" for begin, _ in self._begins)]
        return f"Prices({len(names)} of one's own{'' if self._published else ', published=False'})"


def members(provider: Provider) -> list[Provider]:
    """The providers that may answer: itself, or those that it asks in its turn."""
    asked: Any = getattr(provider, "providers", None)
    if not isinstance(asked, tuple):
        return [provider]
    return [member for each in cast("tuple[Provider, ...]", asked) for member in members(each)]


def answering(provider: Provider, told: tuple[str, str] | None) -> Provider | None:
    """Who has answered: the first of the providers that may, or who was told of by name and model; None in doubt."""
    found = members(provider)
    found = found[:1] if told is None else [each for each in found if (each.name, each.model) == told]
    places = {(getattr(each, "base_url", None), getattr(each, "family", None)) for each in found}
    return found[0] if len(places) == 1 else None


def read_prices(prices: Any) -> Prices:
    """The prices, from themselves or from a table.

    Raises:
        TypeError: neither.
    """
    if prices is None:
        return _DEFAULT
    if isinstance(prices, Mapping):
        return Prices(cast("Mapping[str, Price | Mapping[str, float]]", prices))
    if not isinstance(prices, Prices):
        raise TypeError(f"prices= takes Prices({{…}}) or such a dictionary, not {type(prices).__name__}")
    return prices


def _checked_name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a price belongs to the name of a model, not to {name!r}")
    if not name.strip(" *") and name != "*":
        raise ValueError(f"a price belongs to the name of a model, not to {name!r}")
    return name.strip()


def _read(name: str, price: Any) -> Price:
    if isinstance(price, Price):
        return price
    if not isinstance(price, Mapping):
        raise TypeError(f"the price of {name!r} must be Price(…) or a dictionary of its fields, not {price!r}")
    fields = cast("Mapping[str, Any]", price)
    unknown = [key for key in fields if key not in Price.__struct_fields__]
    missing = [key for key in ("input", "output") if key not in fields]
    if unknown or missing:
        known = ", ".join(Price.__struct_fields__)
        what = f"has no {missing[0]!r}" if missing else f"has an unknown key {unknown[0]!r}"
        raise ValueError(f"the price of {name!r} {what}; it takes {known}")
    return Price(**fields)


_DEFAULT = Prices()
