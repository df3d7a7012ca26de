"""What Python says of objects that nobody cared for, collected while a block runs.

Coroutines that were never awaited, files and sockets that were never closed, exceptions in destructors: Python finds
these when an object goes, prints a warning and goes on. For a test they are failures. Objects in a cycle go when
garbage is collected; to make that cheap, and so that no one is blamed for garbage that lay there before, the collector
is made to forget everything older while the block runs.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

_NEVER_AWAITED = r"coroutine .* was never awaited"

_open_blocks = 0
#: Whether what a block hides from the collector stays hidden.
_stays_hidden = False


def hide_what_is_there() -> None:
    """Hide all objects there are from the collector, for good, once what is garbage among them is gone.

    For programs that hold much before the first of many blocks, such as a large suite of tests: after each block the
    collector would walk through all of it again. What has become garbage since it was hidden goes when this is called
    once more.
    """
    global _stays_hidden
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    _stays_hidden = True


@contextmanager
def complaints_into(said: list[str]) -> Generator[None]:
    """A block in which such warnings and exceptions are added to `said`, a line for each, and go no further.

    Other warnings do what they do outside. Meant for one thread at a time; blocks may nest. Objects that were hidden
    from the collector before (`gc.freeze`) are not after it, unless by `hide_what_is_there`.
    """
    global _open_blocks

    def unraisable(about: Any) -> None:
        # No more than words: holding the exception would bring its object back.
        words = about.err_msg or "exception ignored in"
        said.append(f"{words} {about.object!r}: {about.exc_value!r}")

    def show(message: Any, category: type[Warning], *rest: Any) -> None:
        if issubclass(category, (ResourceWarning, RuntimeWarning)):
            said.append(f"{category.__name__}: {message}")
        else:
            show_others(message, category, *rest)

    if _stays_hidden and not _open_blocks:
        gc.collect()  # what is garbage by now would be hidden for good
    gc.freeze()
    _open_blocks += 1
    before = sys.unraisablehook
    sys.unraisablehook = unraisable
    try:
        with warnings.catch_warnings():
            show_others = warnings.showwarning
            warnings.showwarning = show
            warnings.filterwarnings("always", category=ResourceWarning)
            warnings.filterwarnings("always", _NEVER_AWAITED, RuntimeWarning)
            try:
                yield
            finally:
                gc.collect()
    finally:
        sys.unraisablehook = before
        _open_blocks -= 1
        if not _open_blocks and not _stays_hidden:
            gc.unfreeze()
