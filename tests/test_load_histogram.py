"""The histogram of the load tester: its error is bounded, and adding two of them loses nothing."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from greenroom.load.tester.histogram import Histogram

SECONDS = st.one_of(
    st.floats(min_value=1e-9, max_value=1e6, allow_nan=False),
    st.sampled_from([1e-9, 0.5, 1.0, 2.0, 0.49999999, 0.9999999999, 1.0000000001, 1023.0, 1024.0]),
)
SHARES = [0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0]


def filled(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


def exact(values: list[float], share: float) -> float:
    return sorted(values)[min(max(ceil(share * len(values)), 1), len(values)) - 1]


@given(st.lists(SECONDS, min_size=1, max_size=200))
def test_a_quantile_is_at_most_one_percent_above_the_sample_that_it_stands_for(values: list[float]) -> None:
    histogram = filled(values)
    for share in SHARES:
        found = histogram.quantile(share)
        assert found is not None
        assert exact(values, share) <= found <= exact(values, share) * 1.01


@given(st.lists(SECONDS, min_size=1, max_size=100), st.lists(SECONDS, min_size=1, max_size=100))
def test_two_histograms_add_up_to_that_of_all_their_samples(left: list[float], right: list[float]) -> None:
    both, whole = filled(left), filled(left + right)
    both.add(filled(right))
    assert both.buckets() == whole.buckets()
    assert (both.count, both.minimum, both.maximum) == (whole.count, whole.minimum, whole.maximum)
    assert both.total == pytest.approx(whole.total)


@given(st.lists(SECONDS, min_size=1, max_size=200))
@example([1020.0, 1024.0])
def test_a_distribution_says_exactly_what_it_can(values: list[float]) -> None:
    found = filled(values).distribution()
    assert found is not None
    assert (found.count, found.minimum, found.maximum) == (len(values), min(values), max(values))
    assert found.minimum <= found.mean <= found.maximum
    assert found.mean == pytest.approx(sum(values) / len(values))
    assert found.minimum <= found.p50 <= found.p90 <= found.p95 <= found.p99 <= found.p999 <= found.maximum
    assert sum(count for _, count in found.buckets) == found.count
    bounds = [bound for bound, _ in found.buckets]
    assert bounds == sorted(set(bounds))
    assert bounds[-1] == found.maximum


@given(st.lists(SECONDS, min_size=1, max_size=200))
def test_each_bucket_holds_the_samples_up_to_its_bound_and_none_above(values: list[float]) -> None:
    counted = 0
    for bound, count in filled(values).buckets():
        counted += count
        # A sample that is just the bound of a bucket lies in the next one, if it is not the largest.
        assert sum(value < bound for value in values) <= counted <= sum(value <= bound for value in values)


def test_it_takes_a_few_thousand_buckets_whatever_it_is_given() -> None:
    histogram = Histogram()
    value = 1e-9
    while value < 3e7:
        histogram.record(value)
        value *= 1.0004
    assert histogram.count > 90_000
    assert len(histogram.buckets()) < 7_500


def test_zero_and_a_clock_that_was_set_back_count_as_zero() -> None:
    histogram = filled([0.0, -1.0])
    assert (histogram.count, histogram.minimum, histogram.maximum, histogram.total) == (2, 0.0, 0.0, 0.0)
    assert histogram.quantile(0.99) == 0.0


def test_without_samples_nothing_is_said() -> None:
    assert Histogram().quantile(0.5) is None
    assert Histogram().distribution() is None
    assert Histogram().buckets() == ()
