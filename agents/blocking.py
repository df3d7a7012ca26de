"""A run from code that does not await: in an event loop of its own, in this thread or in another one."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal, TypeAlias, TypeVar, get_args

import anyio
import sniffio
from anyio import CancelScope

from ..actors import Home
from .place import current_place

T = TypeVar("T")
Backend: TypeAlias = Literal["asyncio", "trio"]

#: Seconds that a run in a thread of its own has to end when whoever waits for it is interrupted.
FAREWELL = 5.0


def check_backend(backend: object) -> None:
    """Refuse an unknown event loop.

    Raises:
        ValueError: it is neither asyncio nor trio.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend={backend!r} is not one of 'asyncio', 'trio'")


def run_blocking(main: Callable[[], Awaitable[T]], backend: Backend) -> T:
    """Run `main` in an event loop of its own and wait for it.

    In a thread whose own loop is running, the new loop gets a thread of its own.

    Raises:
        ValueError: an unknown backend.
    """
    check_backend(backend)

    async def start() -> T:
        current_place.set(None)  # another event loop: not a subagent of whatever called this
        return await main()

    if not _loop_is_running():
        return anyio.run(start, backend=backend)
    return _in_thread_of_its_own(start, backend)


def _in_thread_of_its_own(main: Callable[[], Awaitable[T]], backend: Backend) -> T:
    """Run `main` in another thread. Whoever is interrupted while it waits, by Ctrl-C for example, cancels it."""
    outcome: list[T] = []
    failure: list[BaseException] = []
    cancel: list[Callable[[], None]] = []
    interrupted = False
    ended = threading.Event()  # not thread.join(): in Python 3.11, a join that is interrupted calls the thread dead

    async def cancellable() -> None:
        with CancelScope() as scope:
            cancel.append(partial(Home().run, scope.cancel))
            if interrupted:
                scope.cancel()
            outcome.append(await main())

    def in_thread() -> None:
        try:
            anyio.run(cancellable, backend=backend)
        except BaseException as error:
            failure.append(error)
        finally:
            ended.set()

    # A daemon: what does not heed its cancellation must not keep the process from ending.
    thread = threading.Thread(target=in_thread, name="greenroom-run-sync", daemon=True)
    try:
        thread.start()
        ended.wait()
    except BaseException:
        interrupted = True
        for each in cancel:
            each()
        if thread.ident is not None:
            ended.wait(FAREWELL)
        raise
    if failure:
        raise failure[0]
    return outcome[0]


def _loop_is_running() -> bool:
    try:
        sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        return False
    return True
