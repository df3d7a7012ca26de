"""When runs arrive: the load as a line over time, and the moments that follow from it. Pure.

A `Profile` is a row of legs, on each of which the target goes in a straight line from one value to another; after the
last one it stays where it is. What the target counts depends on the mode:

- In a *closed loop* it is the number of runs in flight, as of so many users who each wait for their answer before they
  ask again. A system that becomes slow is asked less often, which hides what users of a busy site would have met.
- In an *open loop* it is arrivals per second, whatever became of those before. A run's latency counts from the moment
  at which it was to arrive, so a system that stands still for a second is charged for everybody who came meanwhile
  (no *coordinated omission*).

Arrivals of independent users are a Poisson process: the gaps between them are random, and bunches occur. With a target
that changes, the k-th arrival is where the area under the line reaches the sum of the first k gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from math import ceil, floor, inf, isfinite, log1p, sqrt

import msgspec

from ..durations import parse_seconds
from .results import Mode, Stage

_STAGES = "write 10s:50,30s:200 for runs in flight, or 10s:50/s,30s:200/s for runs per second"


class Leg(msgspec.Struct, frozen=True):
    """From `begin` seconds on, for `seconds`, the target goes from `first` to `last`."""

    begin: float
    seconds: float
    first: float
    last: float

    @property
    def end(self) -> float:
        """When it is over, in seconds since the test began."""
        return self.begin + self.seconds

    @property
    def area(self) -> float:
        """Arrivals that are expected on it, at a target of arrivals per second."""
        return (self.first + self.last) / 2 * self.seconds if self.seconds < inf else inf

    def at(self, moment: float) -> float:
        """The target at a moment of the leg; behind it, its last."""
        if self.first == self.last or moment >= self.end:
            return self.last
        return self.first + (self.last - self.first) * (moment - self.begin) / self.seconds

    def reaches(self, area: float) -> float:
        """The moment by which so many arrivals are expected, counted from the leg's begin."""
        slope = (self.last - self.first) / self.seconds
        # The stable form of the quadratic equation: a slope near 0 loses no digits.
        root = sqrt(max(self.first * self.first + 2 * slope * area, 0.0))
        return self.begin + 2 * area / (self.first + root) if self.first + root else self.end


class Profile(msgspec.Struct, frozen=True):
    """The load over time; made by `steady` or `staged`."""

    legs: tuple[Leg, ...]

    @property
    def peak(self) -> float:
        """The highest target."""
        return max(max(leg.first, leg.last) for leg in self.legs)

    @property
    def ramps_until(self) -> float:
        """Seconds from the beginning until the last leg that changes is over; 0 if none does."""
        return max((leg.end for leg in self.legs if leg.first != leg.last), default=0.0)

    def target(self, moment: float) -> float:
        """What is asked for at a moment, in seconds since the beginning."""
        return self._leg(moment).at(moment)

    def changes_at(self, moment: float) -> bool:
        """Whether the target changes at that moment."""
        leg = self._leg(moment)
        return leg.first != leg.last and moment < leg.end

    def _leg(self, moment: float) -> Leg:
        return next((leg for leg in self.legs if moment < leg.end), self.legs[-1])


def steady(target: float, ramp: float = 0.0) -> Profile:
    """From nothing to `target` within `ramp` seconds, and then that for ever."""
    hold = Leg(ramp, inf, target, target)
    return Profile((Leg(0.0, ramp, 0.0, target), hold) if ramp > 0 else (hold,))


def staged(stages: Iterable[Stage]) -> Profile:
    """From nothing through the targets of the stages, one after the other."""
    legs: list[Leg] = []
    begin, first = 0.0, 0.0
    for stage in stages:
        legs.append(Leg(begin, stage.seconds, first, stage.target))
        begin, first = begin + stage.seconds, stage.target
    return Profile(tuple(legs))


def parse_stages(text: str) -> tuple[tuple[Stage, ...], Mode]:
    """Read ``"10s:50,30s:200"``: within 10 seconds to 50 runs in flight, within the next 30 to 200; a closed loop.
    ``"10s:50/s,30s:200/s"`` are arrivals per second; an open loop.

    Raises:
        ValueError: `text` has another form, a stage takes no time, every target is 0, or only some have ``/s``.
    """
    stages: list[Stage] = []
    modes: set[Mode] = set()
    for piece in text.split(","):
        length, colon, target = piece.strip().partition(":")
        number = target.removesuffix("/s")
        modes.add("closed" if number == target else "open")
        try:
            if not colon:
                raise ValueError(f"{piece.strip()!r} has no colon")
            stages.append(Stage(parse_seconds(length), float(number)))
        except ValueError as error:
            raise ValueError(f"stages: {text!r} ({error}); {_STAGES}") from None
    if len(modes) > 1:
        raise ValueError(f"stages: {text!r} (some are rates and some are not); {_STAGES}")
    mode = modes.pop()
    check_stages(stages, mode)
    return tuple(stages), mode


def check_stages(stages: Sequence[Stage], mode: Mode) -> None:
    """Refuse stages that make no load.

    Raises:
        ValueError: the message says which.
    """
    for stage in stages:
        if not (isfinite(stage.seconds) and stage.seconds > 0):
            raise ValueError(f"stages: each takes more than 0 seconds, not {stage.seconds!r}")
        if not (isfinite(stage.target) and stage.target >= 0):
            raise ValueError(f"stages: a target must be 0 or more, not {stage.target!r}")
        if mode == "closed" and stage.target != int(stage.target):
            raise ValueError(
                f"stages: runs in flight are a whole number, not {stage.target!r}; a rate is written 0.5/s"
            )
    if not any(stage.target for stage in stages):
        raise ValueError("stages: every target is 0, so nothing would ever run")


def workers(profile: Profile) -> Iterator[tuple[float, int]]:
    """For a closed loop: the moments at which the number of runs in flight changes, and the number from there on.

    A target that grows is rounded up, so that the first run begins at once; one that falls too, so that the last one
    ends with it.
    """
    last = -1
    for leg in profile.legs:
        for moment, number in _steps(leg):
            if number != last:
                last = number
                yield moment, number


def _steps(leg: Leg) -> Iterator[tuple[float, int]]:
    if leg.first == leg.last:
        yield leg.begin, ceil(leg.first)
        return
    pace = leg.seconds / (leg.last - leg.first)
    if leg.first < leg.last:
        yield leg.begin, floor(leg.first) + 1
        for whole in range(floor(leg.first) + 1, ceil(leg.last)):
            yield min(leg.begin + pace * (whole - leg.first), leg.end), whole + 1
        return
    yield leg.begin, ceil(leg.first)
    for whole in range(ceil(leg.first) - 1, ceil(leg.last) - 1, -1):
        yield min(leg.begin + pace * (whole - leg.first), leg.end), whole


def arrivals(profile: Profile, gaps: Iterator[float]) -> Iterator[float]:
    """For an open loop: the moments at which runs arrive, in seconds since the beginning, for as long as the load is.

    Args:
        profile: arrivals per second over time.
        gaps: from one arrival to the next, in arrivals that would be expected meanwhile: `even` or `poisson`.
    """
    area = next(gaps)
    for leg in profile.legs:
        while area < leg.area:
            yield leg.reaches(area)
            area += next(gaps)
        area -= leg.area


def even() -> Iterator[float]:
    """Arrivals at equal distances, the first one in the middle of its share."""
    yield 0.5
    yield from repeat(1.0)


def poisson(chance: Callable[[], float]) -> Iterator[float]:
    """Arrivals that know nothing of each other; `chance` gives numbers from 0 up to and without 1."""
    while True:
        yield -log1p(-chance())
