"""What a load test is asked for, checked. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite
from typing import Any, Literal, TypeAlias, cast, get_args

import msgspec

from .arrivals import Profile, check_stages, parse_stages, staged, steady
from .results import Mode, Stage

Spacing: TypeAlias = Literal["poisson", "even"]

#: Runs in flight where nothing is said.
CONCURRENCY = 100
#: Seconds where neither a duration nor a count is given.
DURATION = 10.0
#: Runs in flight at most, in an open loop.
MAX_IN_FLIGHT = 1_000
#: Seconds that runs have to end once nothing arrives any more.
DRAIN = 30.0


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """The load of a test; the fields mean what they mean in `LoadReport`.

    Attributes:
        profile: the target over time.
        ends: seconds after which nothing arrives any more, the warm-up included; infinite where only a count is asked.
        room: runs in flight at most.
        drain: seconds that runs have then to end.
    """

    mode: Mode
    profile: Profile
    concurrency: int | None
    rate: float | None
    arrivals: Spacing | None
    ramp: float
    stages: tuple[Stage, ...]
    duration: float | None
    count: int | None
    warm_up: float
    ends: float
    room: int
    drain: float


def read_demand(
    *,
    concurrency: int | None = None,
    rate: float | None = None,
    arrivals: Spacing | None = None,
    ramp: float = 0.0,
    stages: str | Sequence[Stage | tuple[float, float]] | None = None,
    duration: float | None = None,
    count: int | None = None,
    warm_up: float = 0.0,
    max_in_flight: int | None = None,
    drain: float = DRAIN,
) -> Demand:
    """The load that these arguments of `load_test` describe.

    Raises:
        TypeError, ValueError: one of them cannot work, or two do not go together; the message names them.
    """
    _check_whole("concurrency", concurrency)
    _check_whole("count", count)
    _check_whole("max_in_flight", max_in_flight)
    for name, value in (("ramp", ramp), ("warm_up", warm_up), ("drain", drain)):
        _check_number(name, value, "seconds")
    for name, value, unit in (("rate", rate, "runs per second"), ("duration", duration, "seconds")):
        if value is not None:
            _check_number(name, value, unit, positive=True)
    if arrivals is not None and arrivals not in get_args(Spacing):
        raise ValueError(f"arrivals must be 'poisson' or 'even', not {arrivals!r}")
    if concurrency is not None and rate is not None:
        raise ValueError("concurrency and rate are two kinds of load: give one of them")
    legs, mode = _read_stages(stages, rate)
    if legs:
        for name, given in (("concurrency", concurrency), ("rate", rate), ("ramp", ramp), ("duration", duration)):
            if given:
                raise ValueError(f"stages say the whole course of the load: leave out {name}")
        total = sum(stage.seconds for stage in legs)
        if warm_up >= total:
            raise ValueError(f"warm_up ({warm_up:g} s) must be shorter than all stages together ({total:g} s)")
        duration = total - warm_up
    elif duration is None and count is None:
        duration = DURATION
    if mode == "closed":
        for name, given in (("arrivals", arrivals), ("max_in_flight", max_in_flight)):
            if given is not None:
                raise ValueError(f"{name} is for an open loop: give a rate, or stages with rates")
        if not legs and concurrency is None:
            concurrency = CONCURRENCY
    profile = staged(legs) if legs else steady(cast("float", rate if mode == "open" else concurrency), ramp)
    return Demand(
        mode=mode,
        profile=profile,
        concurrency=concurrency,
        rate=rate,
        arrivals=(arrivals or "poisson") if mode == "open" else None,
        ramp=float(ramp),
        stages=legs,
        duration=duration,
        count=count,
        warm_up=float(warm_up),
        ends=inf if duration is None else warm_up + duration,
        room=(max_in_flight or MAX_IN_FLIGHT) if mode == "open" else int(profile.peak),
        drain=float(drain),
    )


def _read_stages(stages: Any, rate: float | None) -> tuple[tuple[Stage, ...], Mode]:
    if stages is None:
        return (), "open" if rate is not None else "closed"
    if isinstance(stages, str):
        return parse_stages(stages)
    if not isinstance(stages, Sequence) or not stages:
        raise TypeError(f"stages takes text like '10s:50,30s:200', or a list of (seconds, target), not {stages!r}")
    legs: list[Stage] = []
    for each in cast("Sequence[Any]", stages):
        try:
            seconds, target = (each.seconds, each.target) if isinstance(each, Stage) else each
            legs.append(Stage(float(seconds), float(target)))
        except (TypeError, ValueError):
            raise TypeError(f"stages takes pairs of seconds and target, not {each!r}") from None
    check_stages(legs, "closed")
    return tuple(legs), "closed"


def _check_whole(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} takes a whole number, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value!r}")


def _check_number(name: str, value: object, unit: str, *, positive: bool = False) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} takes a number of {unit}, not {value!r}")
    if not isfinite(value) or value < 0 or (positive and value == 0):
        raise ValueError(f"{name} must be {'above 0' if positive else '0 or more'} {unit}, not {value!r}")
