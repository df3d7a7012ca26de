"""One scenario in an event loop of its own, and the same scenario in many orders.

A scenario is a coroutine function. Whatever it leaves behind fails it: when it returns, nothing of it may be alive.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any, TypeVar, TypeVarTuple, cast
from weakref import WeakSet

import anyio

from .backends import options
from .complaints import complaints_into
from .deadlock import Deadlock
from .leaks import Leak, running_tasks, snapshot
from .observer import Observer

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

BACKENDS = ("asyncio", "trio")


def run(
    main: Callable[[*Ts], Awaitable[T]],
    *args: *Ts,
    backend: str = "asyncio",
    seed: int | None = None,
    virtual_time: bool = True,
) -> T:
    """Run `main(*args)` in a fresh event loop and see that it leaves nothing behind.

    Args:
        main: the scenario, a coroutine function.
        args: its positional arguments.
        backend: ``"asyncio"`` or ``"trio"``.
        seed: what the order of ready tasks follows from; None leaves it to the event loop.
        virtual_time: whether time jumps to the next deadline when nothing can run.

    Returns:
        What `main` returns.

    Raises:
        Leak: when `main` has returned there was a task, a thread, a child process or a descriptor more than before, an
            async generator that was not closed, an exception that nobody retrieved, a coroutine that nobody awaited, or
            anything else that Python only warns of.
        Deadlock: with virtual time, when no task could ever go on.
        BaseException: what `main` raises; a note says what it left, if anything.
    """
    return perform(main, args, backend, seed, virtual_time, Observer())


def perform(
    main: Callable[..., Awaitable[T]],
    args: tuple[Any, ...],
    backend: str,
    seed: int | None,
    virtual_time: bool,
    observer: Observer,
) -> T:
    """As `run`, for somebody who watches."""
    if seed is not None:
        check_seed(seed)
    if not callable(main):
        raise TypeError(f"a scenario is a coroutine function, given without calling it, not {main!r}")
    before = snapshot()
    left = observer.complaints
    performance = _Performance(main, args, observer)
    with complaints_into(left):
        try:
            value = anyio.run(
                performance.play,
                backend=backend,
                backend_options=options(backend, virtual_time, seed, observer),
            )
        except BaseException as error:
            if left:
                error.add_note(str(Leak(left)))
            raise
        finally:
            observer.before_step = observer.give_up = None
    left = [*left, *before.leaked()]
    if left:
        raise Leak(left)
    return value


class _Performance:
    """What runs in the event loop: the scenario, and a look around after it."""

    def __init__(self, main: Callable[..., Awaitable[Any]], args: tuple[Any, ...], observer: Observer) -> None:
        self._main = main
        self._args = args
        self._observer = observer
        self._scope: anyio.CancelScope | None = None
        self._deadlock: Deadlock | None = None

    async def play(self) -> Any:
        tasks = running_tasks()
        generators = _Generators(self._observer.complaints)
        self._observer.give_up = self._give_up
        try:
            with anyio.CancelScope() as self._scope:
                return await self._main(*self._args)
        finally:
            self._observer.before_step = self._observer.give_up = None
            self._observer.complaints += await tasks.settled()
            generators.check()
            if self._deadlock is not None:
                raise self._deadlock from None

    def _give_up(self, deadlock: Deadlock) -> bool:
        """Cancel what waits for ever, once. False if that was done already."""
        if self._scope is None or self._deadlock is not None:
            return False
        self._deadlock = deadlock
        self._scope.cancel()
        return True


class _Generators:
    """The async generators that are begun in this event loop: each is to be finished or closed by its user."""

    def __init__(self, complaints: list[str]) -> None:
        self._complaints = complaints
        self._alive: WeakSet[AsyncGenerator[Any, Any]] = WeakSet()
        self._first, self._last = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(self._begin, self._drop)

    def _begin(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._alive.add(generator)
        if self._first is not None:
            self._first(generator)

    def _drop(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._complain(generator)
        if self._last is not None:
            self._last(generator)

    def _complain(self, generator: Any) -> None:
        self._complaints.append(f"async generator {generator.__qualname__}: neither finished nor closed")

    def check(self) -> None:
        sys.set_asyncgen_hooks(self._first, self._last)
        for generator in self._alive:
            if getattr(generator, "ag_frame", None) is not None:
                self._complain(generator)


def explore(
    scenario: Callable[[], Awaitable[object]],
    *,
    seeds: int | Iterable[int] = 200,
    backends: Iterable[str] = BACKENDS,
    virtual_time: bool = True,
) -> None:
    """Run a scenario once for every backend and seed, each time in another order of its tasks.

    Args:
        scenario: a coroutine function without arguments.
        seeds: how many, from 0, or which.
        backends: which event loops.
        virtual_time: as in `run`.

    Raises:
        TypeError, ValueError: seeds or backends that would try nothing, or are none.
        BaseException: as `run` does, at the first failure, with a note that tells how to run that one alone.
    """
    seeds = _checked_seeds(seeds)
    if isinstance(backends, str):
        raise TypeError(f"backends takes a list of names: backends=[{backends!r}]")
    backends = tuple(backends)
    if not backends:
        raise ValueError("backends must name one at least")
    for backend in backends:
        for seed in seeds:
            try:
                run(scenario, backend=backend, seed=seed, virtual_time=virtual_time)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:
                name = getattr(scenario, "__name__", "scenario")
                real = "" if virtual_time else ", virtual_time=False"
                error.add_note(f"on {backend} with seed {seed}: run({name}, backend={backend!r}, seed={seed}{real})")
                raise


def _checked_seeds(seeds: object) -> tuple[int, ...]:
    found: list[object] = list(range(seeds)) if isinstance(seeds, int) else []
    if isinstance(seeds, Iterable) and not isinstance(seeds, str):
        found = list(cast("Iterable[object]", seeds))
    if not found:
        raise ValueError(f"seeds takes how many, 1 or more, or which, not {seeds!r}")
    return tuple(check_seed(each) for each in found)


def check_seed(seed: object) -> int:
    """Refuse what is no seed.

    Raises:
        TypeError: it is no whole number.
    """
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"a seed is a whole number, not {seed!r}")
    return seed
