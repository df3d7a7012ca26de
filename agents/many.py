"""One agent over many prompts: a run for each, so many at once.

The prompts are read as runs begin: the next one when a run has ended and its place is free. `map_over` waits for all
and gives the results in the order of the prompts; `Completed` gives each as soon as it is there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from heapq import heappop, heappush
from types import TracebackType
from typing import Any, Generic, NamedTuple, NoReturn, Self, TypeVar

import anyio
from anyio import create_task_group
from anyio.abc import TaskGroup

from ..actors.exits import sole
from .place import regain_places

T = TypeVar("T")


class Many(NamedTuple):
    """What is to be run, checked.

    Attributes:
        prepare: gives a function that makes the awaitable run of a prompt; called in the order of the prompts.
        prompts: any iterable.
        concurrency: runs at once.
        fail: whether the first error is raised, instead of standing in the place of its result.
        check: called before the first run, in the event loop; it raises where no run could begin.
    """

    prepare: Callable[[Any], Callable[[], Awaitable[Any]]]
    prompts: Iterable[Any]
    concurrency: int
    fail: bool
    check: Callable[[], object]


async def _run_each(many: Many, group: TaskGroup, tell: Callable[[int, Any], object]) -> None:
    """Start a task in `group` for each prompt; each tells its number, and its result or error. Raises what the iterable
    of the prompts raises.
    """
    slots = anyio.Semaphore(many.concurrency, fast_acquire=True)

    async def one(number: int, run: Callable[[], Awaitable[Any]]) -> None:
        try:
            outcome = await run()
        except Exception as error:
            outcome = error
        finally:
            slots.release()
        tell(number, outcome)

    for number, prompt in enumerate(many.prompts):
        await slots.acquire()
        group.start_soon(one, number, many.prepare(prompt))


async def map_over(many: Many) -> list[Any]:
    """The results, or errors, in the order of the prompts. To fail is to end the rest; so does an error of the prompts'
    iterable.
    """
    outcomes: dict[int, Any] = {}
    failures: list[Exception] = []

    def tell(number: int, outcome: Any) -> None:
        outcomes[number] = outcome
        if many.fail and isinstance(outcome, Exception):
            failures.append(outcome)
            group.cancel_scope.cancel()

    many.check()
    try:
        async with create_task_group() as group:
            await _run_each(many, group, tell)
    except BaseExceptionGroup as errors:
        raise sole(errors) from None  # of the iterable, or an interrupt: neither belongs in a group
    if failures:
        await regain_places()
        raise failures[0]
    return [outcomes[number] for number in range(len(outcomes))]


class Completed(AbstractAsyncContextManager["CompletedRuns[T]"], Generic[T]):
    """``async with agent.as_completed(…) as results: async for index, result in results: …``.

    Runs begin with the block. Leaving it early cancels those that are left; when it is left, none of them runs.
    """

    __slots__ = ("_many", "_results", "_stack")

    def __init__(self, many: Many) -> None:
        self._many = many
        self._results: CompletedRuns[T] | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> CompletedRuns[T]:
        if self._results is not None:
            raise RuntimeError("results are entered once; call agent.as_completed(…) again for other runs")
        self._many.check()
        group = await self._stack.enter_async_context(create_task_group())
        results = self._results = CompletedRuns[T](self._many, group)
        group.start_soon(results.perform)
        return results

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._results is not None
        self._results.close()
        ordinary = exc is None or isinstance(exc, Exception)
        try:
            # An ordinary error of the block is not the group's business: it leaves bare, when the runs have ended.
            await (self._stack.__aexit__(None, None, None) if ordinary else self._stack.__aexit__(exc_type, exc, tb))
        except BaseExceptionGroup as errors:
            if sole(errors) is not exc:
                raise sole(errors) from None
        if ordinary:
            await regain_places()

    def __aiter__(self) -> NoReturn:
        raise TypeError(
            "as_completed is a block: `async with agent.as_completed(…) as results:`, and in it "
            "`async for index, result in results:`"
        )

    def __await__(self) -> Generator[Any, Any, NoReturn]:
        raise TypeError("as_completed is a block: `async with agent.as_completed(…) as results:`, without await")

    def __enter__(self) -> NoReturn:
        raise TypeError("as_completed is an asynchronous block: `async with agent.as_completed(…) as results:`")

    def __exit__(self, *exc_info: object) -> None:
        return None


class CompletedRuns(AsyncIterator[tuple[int, T]], Generic[T]):
    """Iterates ``(index, result)`` as runs end; of those that wait to be taken, the earliest prompt first.

    Any number of tasks may iterate: each result goes to one of them.
    """

    __slots__ = ("_broken", "_closed", "_come", "_finished", "_group", "_many", "_wake")

    def __init__(self, many: Many, group: TaskGroup) -> None:
        self._many = many
        self._group = group
        self._come: list[tuple[int, Any]] = []
        self._wake = anyio.Event()
        self._finished = self._closed = False
        #: What the iterable of the prompts raised.
        self._broken: Exception | None = None

    async def perform(self) -> None:
        """Run them all."""
        async with create_task_group() as runs:
            try:
                await _run_each(self._many, runs, self._tell)
            except Exception as error:
                self._broken = error  # the runs that have begun go on
        self._finished = True
        self._wake.set()

    def close(self) -> None:
        """The block has ended: end what is left."""
        self._closed = True
        self._wake.set()
        self._group.cancel_scope.cancel()

    def _tell(self, number: int, outcome: Any) -> None:
        heappush(self._come, (number, outcome))
        self._wake.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, T]:
        while not self._come:
            if self._finished:
                if self._broken is not None:
                    raise self._broken.with_traceback(None)
                raise StopAsyncIteration
            if self._closed:
                break
            if self._wake.is_set():
                self._wake = anyio.Event()
            await self._wake.wait()
        if self._closed:
            raise RuntimeError("the block of agent.as_completed(…) has ended, and its runs with it")
        number, outcome = heappop(self._come)
        if self._many.fail and isinstance(outcome, Exception):
            raise outcome
        return number, outcome
