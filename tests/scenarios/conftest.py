"""Scenarios crash on purpose, thousands of times: what is logged of it is tested elsewhere, and costs too much here."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Log nothing."""
    log = logging.getLogger("greenroom")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    yield
    log.setLevel(level)
