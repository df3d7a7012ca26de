"""Several runs at once: the first that completes, enough that agree, or a wait for handles.

`race` and `quorum` own what they are given: each awaitable runs in a task of its own, and when they return, whether
with an answer, an error or a cancellation, none of it runs any more. `wait_any` and `wait_all` own nothing: they look
on.

*Completed* means: it returned, and what it returned is no `RunResult` with another status than ``completed``. All else
is a loss. A loss is kept, since it is the cause when nobody wins; what a loser raises while it is cancelled is dropped.
An exception that must stop the process is no loss, and passes through at once.

**Ties.** Whoever waits is woken one round after the first end, and then sees all that have ended meanwhile, in the
order of the arguments. So what ends at the same moment does not depend on the order of tasks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import wraps
from inspect import CORO_CREATED, getcoroutinestate, iscoroutinefunction
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar, cast

import anyio
from anyio import create_task_group, get_cancelled_exc_class
from anyio.lowlevel import checkpoint

from ..actors.crashes import is_cancelled, is_ordinary_group, stray
from ..actors.exits import sole
from .errors import AgentError, NoneCompleted, NoQuorum
from .options import names_ours
from .pending import Pending
from .place import regain_places
from .result import RunResult
from .run import Run
from .run_cell import RunCell
from .run_stream import RunStream
from .waiting import waiting_for

T = TypeVar("T")
AnyRun = TypeVar("AnyRun", bound=Run[Any])
P = ParamSpec("P")
R = TypeVar("R")


def _closes(function: Callable[P, R]) -> Callable[P, R]:
    """Close the awaitables that a call is given with arguments that cannot work: nobody else would."""
    named = names_ours(function)

    @wraps(function)
    def checked(*args: P.args, **options: P.kwargs) -> R:
        try:
            return named(*args, **options)
        except BaseException:
            _close(args)
            raise

    return checked


@_closes
def race(*runs: Awaitable[T]) -> Coroutine[Any, Any, T]:
    """The result of the first that completes: ``winner = await race(fast.run(q), careful.run(q))``.

    The others are cancelled, and have ended when this returns. One that raises, or whose run was stopped, limited or
    waits, is out, and the others go on. Of several that complete at the same moment, the first argument wins.
    Cancelling the race cancels all.

    Args:
        runs: what to await: ``agent.run(…)``, ``run.result()``, any coroutine or awaitable.

    Raises:
        NoneCompleted: all lost; an exception group with one cause for each argument, in their order.
        TypeError, ValueError: what cannot be awaited, or nothing at all; coroutines among the arguments are closed.
    """
    _check("race", runs)
    return _Joint(_race(runs), "race", runs)


@_closes
def quorum(*runs: Awaitable[T], need: int, agree: Callable[[T], object] | None = None) -> Coroutine[Any, Any, list[T]]:
    """The first `need` results that complete, or that agree: ``await quorum(a.run(q), b.run(q), c.run(q), need=2)``.

    It ends as soon as there are enough, or as soon as there can no longer be enough: then the others are cancelled, and
    have ended when this returns. Losses are those of `race`. Cancelling it cancels all.

    Args:
        runs: what to await, as for `race`.
        need: how many, at least 1.
        agree: a plain function of a result; then `need` results are wanted for which it gives equal values, such as
            ``lambda result: result.output``. What it raises ends all, and is raised.

    Returns:
        `need` results, in the order of the arguments.

    Raises:
        NoQuorum: too few completed, or too few agree; it has the results and the causes.
        TypeError, ValueError: an argument that cannot work; coroutines among the arguments are closed.
    """
    _check("quorum", runs)
    if not isinstance(need, int) or isinstance(need, bool):
        raise TypeError(f"quorum(need=) takes a whole number, not {need!r}")
    if not 1 <= need <= len(runs):
        raise ValueError(f"quorum(need=) must be from 1 to {len(runs)}, the number of runs, not {need}")
    if agree is not None and (not callable(agree) or iscoroutinefunction(agree)):
        raise TypeError(f"quorum(agree=) takes a plain function of a result, not {agree!r}")
    return _Joint(_quorum(runs, need, agree), "quorum", runs)


@names_ours
async def wait_any(*runs: AnyRun) -> list[AnyRun]:
    """Wait until at least one of these runs has ended, however it ended; those that have, in the order given.

    Nothing is raised for a run that failed, and cancelling the wait leaves all runs alone.

    Args:
        runs: handles, as from `System.start`.

    Raises:
        TypeError, ValueError: what is no `Run`, or nothing at all.
        RuntimeError: a run lives in another thread.
        WouldDeadlock: a tool or subagent of one of the runs waits.
    """
    cells = _cells("wait_any", runs)
    if any(_is_over(cell) for cell in cells):
        await checkpoint()
    else:
        ended = anyio.Event()

        def look(_cell: object) -> None:
            if any(_is_over(cell) for cell in cells):
                ended.set()

        for cell in cells:
            cell.watch(look)
        try:
            async with waiting_for(cells):
                await ended.wait()
        finally:
            for cell in cells:
                cell.unwatch(look)
    return [run for run, cell in zip(runs, cells, strict=True) if _is_over(cell)]


@names_ours
async def wait_all(*runs: AnyRun) -> list[AnyRun]:
    """Wait until all of these runs have ended, however they ended; returns them in the order given. As `wait_any`."""
    cells = _cells("wait_all", runs)
    async with waiting_for(cells):
        for cell in cells:
            await cell.wait_over()
    return list(runs)


class _Joint(Pending[T], Generic[T]):
    """A coroutine over others: what closes it before it began closes them too."""

    __slots__ = ("_runs",)

    def __init__(self, coroutine: Coroutine[Any, Any, T], name: str, runs: Sequence[object]) -> None:
        super().__init__(coroutine, name)
        self._runs = runs

    def throw(self, *error: Any) -> Any:
        self._close_unstarted()
        return super().throw(*error)

    def close(self) -> None:
        self._close_unstarted()
        super().close()

    def _close_unstarted(self) -> None:
        if getcoroutinestate(cast("Any", self._coroutine)) == CORO_CREATED:
            _close(self._runs)


class _Ended(NamedTuple):
    """One that has ended: with a result, or with the cause why it lost."""

    number: int
    result: Any
    cause: Exception | None


async def _race(runs: Sequence[Awaitable[Any]]) -> Any:
    ended = await _run_until(runs, lambda each, _open: each.cause is None)
    winner = ended[-1]
    if winner.cause is None:
        return winner.result
    raise NoneCompleted(f"none of {len(runs)} completed", _causes(ended))


async def _quorum(runs: Sequence[Awaitable[Any]], need: int, agree: Callable[[Any], object] | None) -> list[Any]:
    camps: list[tuple[object, list[_Ended]]] = []

    def decided(each: _Ended, open: int) -> bool:
        if each.cause is None:
            key = agree(each.result) if agree is not None else None
            for other, camp in camps:
                if other is key or other == key:
                    camp.append(each)
                    break
            else:
                camps.append((key, [each]))
        most = max((len(camp) for _, camp in camps), default=0)
        return most >= need or most + open < need

    ended = await _run_until(runs, decided)
    for _, camp in camps:
        if len(camp) >= need:
            return [each.result for each in sorted(camp, key=_place)]
    completed = sorted([each for each in ended if each.cause is None], key=_place)
    causes = _causes(ended)
    said = f"{len(completed)} of {len(runs)} completed" + (f", with {len(camps)} different answers" if agree else "")
    said = f"{need} are needed, which can no longer be: {said}"
    error = NoQuorum(said, need, [each.result for each in completed], causes)
    raise error from (ExceptionGroup("those that did not complete", causes) if causes else None)


async def _run_until(runs: Sequence[Awaitable[Any]], decided: Callable[[_Ended, int], bool]) -> list[_Ended]:
    """Run all side by side until `decided(one that has ended, how many are open)`, and end the rest.

    Returns:
        Those that ended until then, in the order of their ends.
    """
    ended: list[_Ended] = []
    come: list[_Ended] = []
    news = anyio.Event()

    async def one(index: int, run: Awaitable[Any]) -> None:
        result, cause = None, None
        try:
            result = await run
            cause = _loss(result)
        except Exception as error:
            cause = error
        except get_cancelled_exc_class() as error:
            if is_cancelled():
                raise
            cause = cast("Exception", stray(f"argument {index + 1}", error))
        except BaseException as error:
            if is_ordinary_group(error) and is_cancelled():
                await checkpoint()  # the group would not know its cancellation among what its clean-up raised
            raise
        come.append(_Ended(index, result, cause))
        news.set()

    try:
        async with create_task_group() as group:
            for index, run in enumerate(runs):
                group.start_soon(one, index, run)
            while len(ended) < len(runs):
                await news.wait()
                news = anyio.Event()
                batch = sorted(come, key=_place)
                come.clear()
                if _judge(batch, ended, len(runs), decided):
                    break
            group.cancel_scope.cancel()
    except BaseExceptionGroup as errors:
        raise sole(errors) from None
    await regain_places()
    return ended


def _judge(batch: list[_Ended], ended: list[_Ended], count: int, decided: Callable[[_Ended, int], bool]) -> bool:
    for each in batch:
        ended.append(each)
        if decided(each, count - len(ended)):
            return True
    return False


def _place(each: _Ended) -> int:
    return each.number


def _causes(ended: Iterable[_Ended]) -> list[Exception]:
    return [each.cause for each in sorted(ended, key=_place) if each.cause is not None]


def _loss(result: object) -> Exception | None:
    """Why what was returned is no completion."""
    if not isinstance(result, RunResult) or result.status == "completed":
        return None
    of_run = cast("RunResult[Any]", result)
    error = AgentError(f"run {of_run.run_id!r} of {of_run.agent!r} is {of_run.status} ({of_run.reason})")
    error.result = of_run
    return error


def _check(name: str, runs: Sequence[object]) -> None:
    """Refuse what cannot be run side by side."""
    if not runs:
        raise ValueError(f"{name}() takes at least one awaitable: {name}(first.run(…), second.run(…))")
    seen: set[int] = set()
    for number, run in enumerate(runs, 1):
        if isinstance(run, Run):
            raise TypeError(
                f"{name}() awaits, and argument {number} is a handle: give it run.result(), or use wait_any(run, …)"
            )
        if isinstance(run, list | tuple | set):
            raise TypeError(f"{name}() takes its awaitables one by one: write {name}(*runs)")
        if isinstance(run, RunStream) or not isinstance(run, Awaitable):
            shown = cast("object", run)
            raise TypeError(f"{name}() takes awaitables such as agent.run(…); argument {number} is {shown!r}")
        if id(cast("object", run)) in seen:
            raise ValueError(f"{name}() takes each awaitable once; argument {number} is there twice")
        seen.add(id(cast("object", run)))


def _close(runs: Sequence[object]) -> None:
    """Close coroutines, so that none of them complains that nobody awaited it."""
    for run in runs:
        if isinstance(run, Coroutine):
            run.close()
        elif isinstance(run, list | tuple | set):
            _close(tuple(cast("Iterable[object]", run)))


def _is_over(cell: RunCell) -> bool:
    """Whether it has ended, or was given up."""
    return cell.exit is not None or cell.forsaken


def _cells(name: str, runs: Sequence[Run[Any]]) -> list[RunCell]:
    if not runs:
        raise ValueError(f"{name}() takes at least one run: {name}(first, second)")
    for number, run in enumerate(runs, 1):
        if not isinstance(run, Run):  # pyright: ignore[reportUnnecessaryIsInstance]
            _close(runs)
            raise TypeError(f"{name}() takes handles of runs, from system.start(…); argument {number} is {run!r}")
    cells = [run._cell for run in runs]
    for cell in cells:
        cell.stage.home.refuse_elsewhere(f"{name}()")
        cell.refuse_deadlock()
    return cells
