"""Delays and decisions of retries (scenarios 84, 85 and 92)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.agents import Limits, Supervision
from greenroom.providers import (
    AuthError,
    ConnectionFailed,
    ContextOverflow,
    InvalidRequest,
    Overloaded,
    ProviderError,
    RateLimited,
    Retry,
    Stalled,
    StreamInterrupted,
    delay,
    should_retry,
)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Retry(attempts="3"), r"Retry\(attempts=\) must be a whole number of tries"),  # type: ignore[arg-type]
        (lambda: Retry(attempts=1.5), r"Retry\(attempts=\)"),  # type: ignore[arg-type]
        (lambda: Retry(max_delay="3"), r"Retry\(max_delay=\) must be seconds"),  # type: ignore[arg-type]
        (lambda: Retry(base=None), r"Retry\(base=\) must be seconds"),  # type: ignore[arg-type]
        (lambda: Limits(turns=1.5), r"Limits\(turns=\) must be 0 or more whole turns"),  # type: ignore[arg-type]
        (lambda: Limits(turns=math.nan), r"Limits\(turns=\)"),  # type: ignore[arg-type]
        (lambda: Limits(turns="3"), r"Limits\(turns=\)"),  # type: ignore[arg-type]
        (lambda: Limits(turns=True), r"Limits\(turns=\)"),
        (lambda: Supervision(intensity="3"), r"Supervision\(intensity=\)"),  # type: ignore[arg-type]
        (lambda: Supervision(period=None), r"Supervision\(period=\)"),  # type: ignore[arg-type]
        (lambda: Supervision(period=math.nan), r"Supervision\(period=\)"),
    ],
)
def test_a_wrong_bound_names_its_field(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


POLICY = Retry(attempts=4, max_delay=30.0, base=0.5)


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (RateLimited("x"), True),
        (Overloaded("x"), True),
        (ConnectionFailed("x"), True),
        (StreamInterrupted("x"), True),
        (Stalled("x"), True),
        (AuthError("x"), False),
        (InvalidRequest("x"), False),
        (ContextOverflow("x"), False),
        (RateLimited("no quota", retryable=False), False),
        (ValueError("x"), False),
    ],
)
def test_which_errors_are_retried(error: Exception, retried: bool) -> None:
    assert should_retry(error, 1, POLICY) is retried
    assert should_retry(error, POLICY.attempts, POLICY) is False


@pytest.mark.parametrize(
    ("attempt", "retry_after", "jitter", "expected"),
    [
        (1, None, 0.0, 0.25),
        (2, None, 0.0, 0.5),
        (3, None, 0.0, 1.0),
        (1, 7.0, 0.0, 7.0),
        (1, 7.0, 0.5, 7.875),
        (1, 0.0, 0.0, 0.0),
        (1, 1e9, 0.9, 30.0),
        (4, None, 0.0, None),
        (4, 1.0, 0.0, None),
    ],
)
def test_delays(attempt: int, retry_after: float | None, jitter: float, expected: float | None) -> None:
    assert delay(attempt, retry_after=retry_after, jitter=jitter, policy=POLICY) == expected


@given(
    attempt=st.integers(1, 3),
    retry_after=st.none() | st.floats(0, 1e6),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_delays_are_bounded_and_never_early(attempt: int, retry_after: float | None, jitter: float) -> None:
    wait = delay(attempt, retry_after=retry_after, jitter=jitter, policy=POLICY)
    assert wait is not None
    assert 0 <= wait <= POLICY.max_delay
    if retry_after is not None:
        assert wait >= min(retry_after, POLICY.max_delay)


@pytest.mark.parametrize(
    "fields", [{"attempts": 0}, {"attempts": True}, {"attempts": 1.5}, {"max_delay": -1}, {"base": float("nan")}]
)
def test_a_policy_is_checked_when_it_is_made(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        Retry(**fields)


def test_many_tries_do_not_overflow() -> None:
    assert delay(5000, retry_after=None, jitter=0.0, policy=Retry(attempts=10_000)) == 15.0


def test_an_error_tells_its_facts() -> None:
    error = ProviderError("slow down", status=429, code="busy", retry_after=2.0, request_id="r1", provider="acme")
    assert str(error) == "acme: slow down (status 429, code busy, request id r1, retry after 2.0)"
