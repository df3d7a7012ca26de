"""What ``greenroom load`` is asked for: from options as they were given to the arguments of `load_test`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from .agents.trace import printable
from .cli_run import Answering, Misuse, provider_for
from .load.durations import parse_seconds
from .load.latency import Latency
from .load.shares import parse_share
from .load.tester import Workload
from .load.tester.builtin import built_in
from .load.tester.demand import read_demand
from .load.tester.files import is_file, workload_in
from .load.tester.workloads import BadWorkload
from .providers import Provider

#: Seconds that are not measured where nothing is said: the first runs open connections and import what is used late.
WARM_UP = 1.0


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What ``greenroom load`` was asked for, as it was given; None where nothing was."""

    workload: str
    concurrency: int | None
    rate: float | None
    arrivals: Literal["poisson", "even"] | None
    ramp: str | None
    stages: str | None
    duration: str | None
    count: int | None
    warm_up: str | None
    max_in_flight: int | None
    drain: str | None
    connections: int | None
    steps: int | None
    subagents: int | None
    tokens: int | None
    pieces: int | None
    stream: bool
    base_url: str | None
    model: str | None
    key_variable: str | None
    latency: str | None
    faults: float | None
    seed: int
    backend: str
    json: str | None
    html: str | None
    max_errors: str | None
    max_p99: str | None


def read_workload(wanted: Wanted) -> Workload:
    """The workload that is asked for.

    Raises:
        Misuse: there is none, or it does not take an option.
    """
    names = ("steps", "subagents", "tokens", "pieces")
    options: dict[str, int] = {name: value for name in names if (value := getattr(wanted, name)) is not None}
    try:
        if not is_file(wanted.workload):
            return built_in(wanted.workload, options)
        if options:
            raise Misuse(f"--{next(iter(options))} is an option of a built-in workload, not of {wanted.workload}")
        return workload_in(wanted.workload)
    except BadWorkload as error:
        raise Misuse(str(error)) from None
    except ValueError as error:
        raise Misuse(_optioned(str(error), names)) from None


def read_arguments(wanted: Wanted) -> dict[str, Any]:
    """The arguments of `load_test`, but for the workload.

    Raises:
        Misuse: one cannot work, or two do not go together.
    """
    plain = wanted.count is None and wanted.stages is None
    load: dict[str, Any] = {
        "concurrency": wanted.concurrency,
        "rate": wanted.rate,
        "arrivals": wanted.arrivals,
        "ramp": read_time("--ramp", wanted.ramp) or 0.0,
        "stages": wanted.stages,
        "duration": read_time("--duration", wanted.duration),
        "count": wanted.count,
        "warm_up": (WARM_UP if plain else 0.0) if wanted.warm_up is None else read_time("--warm-up", wanted.warm_up),
        "max_in_flight": wanted.max_in_flight,
    }
    if wanted.drain is not None:
        load["drain"] = read_time("--drain", wanted.drain)
    try:
        read_demand(**load)
    except (TypeError, ValueError) as error:
        raise Misuse(_optioned(str(error), load)) from None
    arguments = {**load, "connections": wanted.connections, "streams": wanted.stream, "seed": wanted.seed}
    model = _model(wanted)
    if model is None:
        arguments |= {"latency": _latency(wanted.latency), "faults": wanted.faults}
    else:
        key = os.environ.get(wanted.key_variable or "", "").strip()
        arguments |= {"model": model, "secrets": (key,) if key else ()}
    return {**arguments, "options": _options(wanted)}


def _model(wanted: Wanted) -> Provider | None:
    """The model of the endpoint that is asked for; None for the simulated one."""
    if wanted.base_url is None and wanted.model is None:
        if wanted.key_variable is not None:
            raise Misuse("--key-variable is for an endpoint: give --model, or --base-url and --model")
        return None
    if wanted.model is None:
        raise Misuse("--base-url says where, --model what: give both")
    for option, value in (("--latency", wanted.latency), ("--faults", wanted.faults)):
        if value is not None:
            raise Misuse(f"{option} is of the simulated model: leave it out with --model")
    asked = Answering(prompt="", model=wanted.model, base_url=wanted.base_url, key_variable=wanted.key_variable)
    try:
        return provider_for(asked)
    except (TypeError, ValueError) as error:
        raise Misuse(" ".join(str(error).split())) from None


def _latency(text: str | None) -> Latency | None:
    try:
        return None if text is None else Latency.parse(text)
    except ValueError as error:
        raise Misuse(f"--latency: {error}") from None


def read_time(option: str, text: str | None) -> float | None:
    """Seconds; None for None.

    Raises:
        Misuse: it is no length of time.
    """
    try:
        return None if text is None else parse_seconds(text)
    except ValueError as error:
        raise Misuse(f"{option}: {error}; write 30s, 500ms or 1m30s") from None


def read_share(option: str, text: str | None) -> float | None:
    """A share of one; None for None.

    Raises:
        Misuse: it is none.
    """
    try:
        return None if text is None else parse_share(text)
    except ValueError as error:
        raise Misuse(f"{option}: {error}") from None


def check_place(option: str, place: str | None) -> None:
    """Refuse before the test a place that the report could not be written to after it.

    Raises:
        Misuse: the text says why.
    """
    if place is None or (place == "-" and option == "--json"):
        return
    if not place or place.startswith("-"):
        raise Misuse(f"{option} takes the name of a file, not {place or 'an empty text'}")
    folder = os.path.dirname(os.path.abspath(place))
    if os.path.isdir(place) or not os.path.isdir(folder):
        raise Misuse(f"{option} {place}: {'is a folder' if os.path.isdir(place) else f'there is no folder {folder}'}")
    if not os.access(place if os.path.exists(place) else folder, os.W_OK):
        raise Misuse(f"{option} {place}: must not be written")


def _optioned(words: str, names: Iterable[str]) -> str:
    """An error of ours with the names of arguments as options."""
    return re.sub(r"\b(" + "|".join(names) + r")\b", lambda found: "--" + found[1].replace("_", "-"), words)


def _options(wanted: Wanted) -> dict[str, Any]:
    """What was given, for the report; an address without what may be secret in it."""
    given = {
        name: printable(value) if isinstance(value, str) else value
        for name, value in msgspec.structs.asdict(wanted).items()
        if value not in (None, False)
    }
    if wanted.base_url is not None:
        parts = urlsplit(wanted.base_url)
        given["base_url"] = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return given
