"""When runs of a load test arrive: a pure schedule."""

from __future__ import annotations

from itertools import islice, pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.load.durations import parse_seconds
from greenroom.load.tester.arrivals import Profile, arrivals, even, parse_stages, poisson, staged, steady, workers
from greenroom.load.tester.demand import read_demand
from greenroom.load.tester.results import Stage

STAGES = st.lists(
    st.tuples(st.floats(0.5, 20.0), st.integers(0, 40)).map(lambda each: Stage(each[0], float(each[1]))),
    min_size=1,
    max_size=5,
)


# -- open loop


def test_even_arrivals_are_one_over_the_rate_apart() -> None:
    moments = list(islice(arrivals(steady(4.0), even()), 5))
    assert moments == [0.125, 0.375, 0.625, 0.875, 1.125]


def test_in_a_ramp_the_rate_grows_in_a_straight_line() -> None:
    """From 0 to 10 a second within 10 seconds: 50 arrivals, a quarter of them in the first half."""
    moments = list(islice(arrivals(steady(10.0, ramp=10.0), even()), 100))
    assert sum(moment < 5 for moment in moments) == pytest.approx(12.5, abs=0.5)
    assert sum(moment < 10 for moment in moments) == 50
    assert all(later - earlier == pytest.approx(0.1) for earlier, later in pairwise(moments[51:]))


@given(STAGES)
def test_as_many_arrive_as_the_area_under_the_stages(stages: list[Stage]) -> None:
    profile = staged(stages)
    expected = sum(leg.area for leg in profile.legs)
    moments = list(arrivals(profile, even()))
    assert len(moments) == pytest.approx(expected, abs=0.51)
    assert moments == sorted(moments)
    assert all(0 <= moment <= sum(stage.seconds for stage in stages) for moment in moments)
    for number, moment in enumerate(moments):
        # So many had to arrive by then: the area under the line up to the moment.
        area = sum(leg.area for leg in profile.legs if leg.end <= moment)
        leg = next((leg for leg in profile.legs if leg.begin <= moment < leg.end), None)
        if leg is not None:
            area += (leg.first + leg.at(moment)) / 2 * (moment - leg.begin)
        assert area == pytest.approx(number + 0.5, abs=1e-6, rel=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.floats(1.0, 500.0))
def test_poisson_arrivals_have_the_rate_and_know_nothing_of_each_other(seed: int, rate: float) -> None:
    moments = list(islice(arrivals(steady(rate), poisson(Random(seed).random)), 4_000))
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(1 / rate, rel=0.1)
    # The deviation of exponential gaps is their mean; even ones would have none.
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert deviation == pytest.approx(mean, rel=0.15)
    neighbours = sum((a - mean) * (b - mean) for a, b in pairwise(gaps)) / len(gaps) / deviation**2
    assert abs(neighbours) < 0.1


def test_the_same_seed_gives_the_same_arrivals() -> None:
    def first(seed: int) -> list[float]:
        return list(islice(arrivals(steady(10.0), poisson(Random(seed).random)), 50))

    assert first(1) == first(1) != first(2)


# -- closed loop


def test_a_steady_loop_has_its_workers_at_once() -> None:
    assert list(workers(steady(5))) == [(0.0, 5)]


def test_a_ramp_adds_workers_one_by_one_and_the_first_at_once() -> None:
    assert list(workers(steady(4, ramp=8.0))) == [(0.0, 1), (2.0, 2), (4.0, 3), (6.0, 4)]


def test_workers_come_and_go_with_the_stages() -> None:
    stages, mode = parse_stages("4s:2,10s:2,4s:0")
    assert mode == "closed"
    assert list(workers(staged(stages))) == [(0.0, 1), (2.0, 2), (16.0, 1), (18.0, 0)]


@given(STAGES)
def test_the_number_of_workers_follows_the_line(stages: list[Stage]) -> None:
    profile = staged(stages)
    changes = list(workers(profile))
    assert [at for at, _ in changes] == sorted(at for at, _ in changes)
    assert all(earlier != later for (_, earlier), (_, later) in pairwise(changes))
    for (at, number), (until, _) in pairwise([*changes, (profile.legs[-1].end, 0)]):
        middle = profile.target((at + until) / 2)
        if until - at > 1e-6:
            assert middle <= number <= middle + 1


# -- the course


def test_the_target_and_whether_it_changes() -> None:
    profile = steady(10.0, ramp=4.0)
    assert [profile.target(at) for at in (0, 2, 4, 100)] == [0.0, 5.0, 10.0, 10.0]
    assert [profile.changes_at(at) for at in (0, 3.9, 4, 100)] == [True, True, False, False]
    assert (profile.peak, profile.ramps_until) == (10.0, 4.0)


def test_a_profile_stays_at_its_last_target() -> None:
    profile: Profile = staged([Stage(2.0, 6.0), Stage(2.0, 3.0)])
    assert [profile.target(at) for at in (1, 2, 3, 4, 9)] == [3.0, 6.0, 4.5, 3.0, 3.0]


# -- what is asked for


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("50ms", 0.05), ("2.5s", 2.5), ("10", 10.0), ("1m30s", 90.0), ("1h", 3600.0), ("1h 2m", 3720.0), (" 3us ", 3e-6)],
)
def test_a_length_of_time_is_read(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", " ", "soon", "5x", "-1s", "1s2", "1s1m", "1 2", "nan", "inf", "1e3"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_seconds(text)


def test_stages_with_rates_are_an_open_loop() -> None:
    stages, mode = parse_stages("500ms:50/s, 1m:0.5/s")
    assert (stages, mode) == ((Stage(0.5, 50.0), Stage(60.0, 0.5)), "open")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10s", "no colon"),
        ("soon:5", "'soon' is not a time"),
        ("10s:many", "could not convert"),
        ("10s:5,10s:5/s", "some are rates and some are not"),
        ("0s:5", "more than 0 seconds"),
        ("10s:-5", "0 or more"),
        ("10s:nan/s", "0 or more"),
        ("10s:1.5", "whole number"),
        ("10s:0,5s:0", "nothing would ever run"),
        ("", "no colon"),
    ],
)
def test_stages_that_make_no_load_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match="stages") as caught:
        parse_stages(text)
    assert words in str(caught.value)


def test_without_words_it_is_a_hundred_in_flight_for_ten_seconds() -> None:
    demand = read_demand()
    assert (demand.mode, demand.concurrency, demand.duration, demand.room, demand.ends) == (
        "closed",
        100,
        10.0,
        100,
        10,
    )
    assert demand.arrivals is None


def test_a_warm_up_comes_before_the_duration_and_is_part_of_the_stages() -> None:
    assert read_demand(duration=10, warm_up=2).ends == 12.0
    staged_demand = read_demand(stages="10s:50,30s:200", warm_up=5)
    assert (staged_demand.ends, staged_demand.duration, staged_demand.room) == (40.0, 35.0, 200)


def test_a_rate_is_an_open_loop_with_room() -> None:
    demand = read_demand(rate=50, count=10)
    assert (demand.mode, demand.arrivals, demand.room, demand.duration) == ("open", "poisson", 1_000, None)
    assert read_demand(rate=50, arrivals="even", max_in_flight=7).room == 7


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"concurrency": 0}, ValueError, "concurrency must be at least 1"),
        ({"concurrency": 1.5}, TypeError, "concurrency takes a whole number"),
        ({"concurrency": True}, TypeError, "concurrency"),
        ({"rate": 0}, ValueError, "rate must be above 0 runs per second"),
        ({"rate": float("nan")}, ValueError, "rate must be above 0"),
        ({"rate": "5"}, TypeError, "rate takes a number"),
        ({"duration": 0}, ValueError, "duration must be above 0 seconds"),
        ({"warm_up": -1}, ValueError, "warm_up must be 0 or more"),
        ({"ramp": float("inf")}, ValueError, "ramp"),
        ({"count": 0}, ValueError, "count"),
        ({"rate": 5, "concurrency": 5}, ValueError, "give one of them"),
        ({"arrivals": "even"}, ValueError, "arrivals is for an open loop"),
        ({"max_in_flight": 5}, ValueError, "max_in_flight is for an open loop"),
        ({"rate": 5, "arrivals": "odd"}, ValueError, "'poisson' or 'even'"),
        ({"stages": "5s:5", "duration": 3}, ValueError, "leave out duration"),
        ({"stages": "5s:5", "concurrency": 3}, ValueError, "leave out concurrency"),
        ({"stages": "5s:5", "warm_up": 5}, ValueError, "must be shorter than all stages"),
        ({"stages": []}, TypeError, "stages takes"),
        ({"stages": [5]}, TypeError, "pairs of seconds and target"),
        ({"stages": 5}, TypeError, "stages takes"),
    ],
)
def test_what_cannot_be_asked_for_is_one_clear_line(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        read_demand(**arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_list_of_pairs_is_stages() -> None:
    assert read_demand(stages=[(2, 5), Stage(3.0, 1.0)]).stages == (Stage(2.0, 5.0), Stage(3.0, 1.0))
