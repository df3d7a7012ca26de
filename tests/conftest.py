"""Fixtures for every test: the backend matrix, nothing left behind, and where the recorded provider traffic lies."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

import greenroom  # noqa: F401 - a clone without links says so once, here

# A change is tried with fewer schedules than a search for bugs: that is GREENROOM_SEEDS=1000, or --seeds 1000.
os.environ.setdefault("GREENROOM_SEEDS", "60")

# How long an example takes says more about what else the machine does.
hypothesis.settings.register_profile("greenroom", deadline=None)
hypothesis.settings.load_profile("greenroom")

pytest_plugins = ["greenroom.testing.plugin"]


def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: half of a test's time is a wait, for processes that it has started or for a clock."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def nothing_left(no_leaks: None) -> None:
    """Whatever a test starts has ended when it ends. What it may leave says its marker `leaks`."""


@pytest.fixture(autouse=True)
def logs_go_where_they_went() -> Generator[None]:
    """A test that turns the library's log off would have others wait for lines in vain."""
    log = logging.getLogger("greenroom")

    def state() -> tuple[object, ...]:
        return log.level, log.propagate, log.disabled, tuple(log.handlers), logging.root.manager.disable

    before = state()
    yield
    assert state() == before


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Every async test runs on both backends."""
    return request.param


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of recorded provider exchanges; tests that need it skip where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "recordings"
    folder = Path(os.environ.get("GREENROOM_RECORDINGS", default))
    if not (folder / "index.json").is_file():
        pytest.skip(f"no recordings at {folder} (set GREENROOM_RECORDINGS)")
    return folder
