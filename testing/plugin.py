"""The plugin for pytest: ``pytest_plugins = ["greenroom.testing.plugin"]`` in the top ``conftest.py``.

Fixtures: `no_leaks` fails a test that leaves something behind, `seeds` holds the schedules to try. Option:
``--seeds N``, else the environment's ``GREENROOM_SEEDS``, else 200. Marker: ``@pytest.mark.leaks("why", "thread")``
allows a test to leave what its reason explains, of the kinds that are named, or of any.

`no_leaks` is set up after fixtures of modules and sessions, and before all others: a server that a module shares is no
leak, one that a test's own fixture leaves is. Threads, processes and descriptors are compared after all fixtures of the
test are gone. Tasks are compared around the function of an async test, in its event loop: the tasks of its fixtures
are still there then, and are none of its.

What pytest has found is hidden from the garbage collector (`gc.freeze`), which would spend most of a second in each
test of a suite of some ten thousand walking through it. What has become garbage since is let go every thousand tests.

A test that fails is not checked: what it leaves says nothing more. On asyncio, a task that a shared server starts
without anyio while a test runs is taken for the test's.
"""

from __future__ import annotations

import gc
import os
from argparse import ArgumentTypeError
from collections.abc import Callable, Coroutine, Generator, Mapping
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

import pytest

from .complaints import hide_what_is_there
from .leaks import Leak, running_tasks, snapshot

#: How many seeds there are unless an option or this variable says otherwise.
SEEDS = 200
VARIABLE = "GREENROOM_SEEDS"
#: What can be left behind.
KINDS = ("thread", "process", "descriptor", "task")
#: Tests between two looks for garbage among what is hidden from the collector.
LOOK_EVERY = 1_000

_passed = pytest.StashKey[bool]()
_tests = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("greenroom").addoption(
        "--seeds",
        type=_count,
        default=None,
        metavar="N",
        help=f"schedules that a test with the fixture `seeds` tries (default: ${VARIABLE}, else {SEEDS})",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"leaks(why, *kinds): what the test may leave behind; kinds, by default all: {', '.join(KINDS)}"
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    collects = gc.isenabled()
    gc.disable()
    try:
        return (yield)
    finally:
        if collects:
            gc.enable()
        hide_what_is_there()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    stash = item.config.stash
    stash[_tests] = stash.get(_tests, 0) + 1
    if stash[_tests] % LOOK_EVERY == 0:
        hide_what_is_there()


@pytest.fixture(scope="session")
def seeds(pytestconfig: pytest.Config) -> range:
    """The seeds to try a scenario with: ``explore(scenario, seeds=seeds)``."""
    return range(_number_of_seeds(pytestconfig.getoption("--seeds"), os.environ))


def _number_of_seeds(option: int | None, environment: Mapping[str, str]) -> int:
    if option is not None:
        return option
    try:
        return _count(environment.get(VARIABLE) or str(SEEDS))
    except ArgumentTypeError as error:
        raise pytest.UsageError(f"{VARIABLE} in the environment: {error}") from None


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ArgumentTypeError(f"a whole number above 0 is needed, not {text!r}")
    return int(text)


@pytest.fixture
def no_leaks(request: pytest.FixtureRequest) -> Generator[None]:
    """Fail the test with a `Leak` if it leaves a thread, a child process, a descriptor or a task behind."""
    node: pytest.Item = request.node
    allowed = _allowed(node)
    before = snapshot()
    yield
    if node.stash.get(_passed, False) and not allowed.issuperset(KINDS[:3]):
        _refuse(before.leaked(), allowed)


def _allowed(node: pytest.Item) -> set[str]:
    """The kinds that the test's marker allows."""
    mark = node.get_closest_marker("leaks")
    if mark is None:
        return set()
    why, *kinds = mark.args or ("",)
    if mark.kwargs or not isinstance(why, str) or not why or not set(kinds).issubset(KINDS):
        raise pytest.UsageError(f'write @pytest.mark.leaks("why", …) with kinds out of {", ".join(KINDS)}')
    return set(kinds or KINDS)


def _refuse(leaked: list[str], allowed: set[str]) -> None:
    leaked = [each for each in leaked if each.partition(" ")[0] not in allowed]
    if leaked:
        raise Leak(leaked)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    result = yield
    item.stash[_passed] = True
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Let anyio's plugin, which runs async tests, run the test and the look at its tasks as one function."""
    if "no_leaks" not in pyfuncitem.fixturenames or "anyio_backend" not in pyfuncitem.fixturenames:
        return (yield)
    allowed = _allowed(pyfuncitem)
    test: Any = pyfuncitem.obj
    hypothesis = getattr(test, "hypothesis", None)
    if hypothesis is not None:
        # Each example is a test. From the first backend on, what lies there is anyio's, and runs the function of ours.
        if iscoroutinefunction(hypothesis.inner_test):
            hypothesis.inner_test = _without_leaking_tasks(hypothesis.inner_test, allowed)
    elif iscoroutinefunction(test):
        pyfuncitem.obj = _without_leaking_tasks(test, allowed)
    try:
        return (yield)
    finally:
        if hypothesis is None:
            pyfuncitem.obj = test


def _without_leaking_tasks(
    test: Callable[..., Coroutine[Any, Any, Any]], allowed: set[str]
) -> Callable[..., Coroutine[Any, Any, Any]]:
    @wraps(test)
    async def checked(**arguments: Any) -> Any:
        before = running_tasks()
        result = await test(**arguments)
        _refuse(await before.settled(), allowed)
        return result

    return checked
