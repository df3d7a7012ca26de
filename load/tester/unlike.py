"""What two load tests do not have in common.

Some differences are what a comparison is for: another version, another event loop. Others make the tests unlike:
another load, model or machine, after which two figures say nothing about a change in the code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from .asked import load_in_words, option_in_words
from .results import LoadReport
from .units import UNKNOWN, known, number, seconds

#: Options that are told in other words here, and those that say where the report goes and what it is held to.
_TOLD_OTHERWISE = (
    *("workload", "concurrency", "rate", "arrivals", "ramp", "stages", "duration", "count", "warm_up", "drain"),
    *("max_in_flight", "base_url", "model", "key_variable", "stream", "seed", "backend"),
    *("json", "html", "max_errors", "max_p99"),
)


class Difference(msgspec.Struct, frozen=True):
    """What two tests do not have in common.

    Attributes:
        name: what it is.
        a, b: what it was, in words.
        unlike: whether figures of such two tests may differ for this reason alone.
    """

    name: str
    a: str
    b: str
    unlike: bool


def differences(a: LoadReport, b: LoadReport) -> list[Difference]:
    """What the tests do not have in common, what matters most first."""
    return sorted(_differences(a, b), key=lambda each: not each.unlike)


def _differences(a: LoadReport, b: LoadReport) -> Iterator[Difference]:
    for name, read, unlike in _COMMON:
        if (in_a := read(a)) != (in_b := read(b)):
            yield Difference(name, in_a, in_b, unlike)
    for name in dict.fromkeys([*a.options, *b.options]):
        in_a, in_b = (option_in_words(each.options.get(name)) for each in (a, b))
        if name not in _TOLD_OTHERWISE and in_a != in_b:
            yield Difference(f"option {name}", _given(in_a), _given(in_b), True)
    for name in dict.fromkeys([*a.libraries, *b.libraries]):
        in_a, in_b = (each.libraries.get(name, UNKNOWN) for each in (a, b))
        if in_a != in_b:
            yield Difference(name, in_a, in_b, False)


def _given(value: str) -> str:
    return UNKNOWN if value == "null" else value


#: What tests have in common, or not: its name, its words, and whether figures differ for this reason alone.
_COMMON: tuple[tuple[str, Callable[[LoadReport], str], bool], ...] = (
    ("workload", lambda each: each.workload, True),
    ("load", load_in_words, True),
    ("max in flight", lambda each: known(number, each.max_in_flight), True),
    ("endpoint", lambda each: each.target, True),
    ("model", lambda each: each.model, True),
    ("streamed", lambda each: "yes" if each.streamed else "no", True),
    ("platform", lambda each: each.platform, True),
    ("cores", lambda each: number(each.cores), True),
    ("greenroom", lambda each: each.greenroom, False),
    ("python", lambda each: each.python, False),
    ("backend", lambda each: each.backend, False),
    ("seed", lambda each: str(each.seed), False),
    ("duration", lambda each: known(seconds, each.duration), False),
    ("count", lambda each: known(number, each.count), False),
    ("warm up", lambda each: seconds(each.warm_up), False),
)
