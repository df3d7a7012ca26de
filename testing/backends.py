"""The event loops of tests, as options of `anyio.run`."""

from __future__ import annotations

from functools import partial
from typing import Any

from .asyncio_loop import Loop
from .observer import Observer
from .trio_schedule import Conductor


def backend(name: str, *, virtual_time: bool = True, seed: int | None = None) -> tuple[str, dict[str, Any]]:
    """An event loop for a test: what an `anyio_backend` fixture may return, and `anyio.run` takes.

    Args:
        name: ``"asyncio"`` or ``"trio"``.
        virtual_time: whether time jumps to the next deadline when nothing can run, so that no sleep costs any. It
            begins at 0 and stands still while a thread works that a task waits for, and in the block `hold_clock`.
        seed: what the order follows from in which ready tasks run; None leaves it to the event loop. What threads and
            sockets do has no seed.

    Returns:
        The name, and the options for this one run.
    """
    return name, options(name, virtual_time, seed, None)


def options(name: str, virtual_time: bool, seed: int | None, observer: Observer | None) -> dict[str, Any]:
    """The options alone, for somebody who watches."""
    if name == "asyncio":
        return {"loop_factory": partial(Loop, virtual_time=virtual_time, seed=seed, observer=observer)}
    if name == "trio":
        conductor = Conductor(virtual_time=virtual_time, seed=seed, observer=observer)
        return {"clock": conductor.clock, "instruments": [conductor]}
    raise ValueError(f"backend must be 'asyncio' or 'trio', not {name!r}")
