"""Tools that need something open to work with: a session with a server, a shell, a browser.

An entry of an agent's ``tools=``. What it opens lives in a task of its own, which is supervised: entered and left in
that one task, whoever uses the tools. See `Toolset`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Literal, TypeAlias

from .tool import Tool

#: Who shares what a toolset has opened: all runs of a System, or each run has its own.
Scope: TypeAlias = Literal["system", "run"]


class Toolkit:
    """What a toolset has open.

    Attributes:
        tools: its tools at present. May be set to others at any time, in the event loop; a run sees them from its next
            turn on.
    """

    def __init__(self, tools: Sequence[Tool[..., Any]] = ()) -> None:
        self.tools: tuple[Tool[..., Any], ...] = tuple(tools)

    @property
    def is_broken(self) -> bool:
        """Whether its tools are of no use any more, which may be known a little before the block has crashed.

        A turn that begins then waits for what is opened instead. False, unless a subclass knows better.
        """
        return False


class Toolset(ABC):
    """Tools that belong together, and what they need open. Subclass it, set `name`, write `open`.

    `open` is entered at the first use, in a task of its own, and left in the same task: at the end of the System, or of
    the run, or where a crash in it is supervised. An exception that leaves the block, also one that a task of its own
    raised while it was open, is a crash: it is opened again, after a pause that grows, and runs go on with the new one.
    An exception before it yields is a failure to start, which fails the run that wanted it.

    Attributes:
        name: unique among the toolsets of an agent; for the tree, the logs and errors.
        scope: ``"system"`` opens it once for all runs of a System (outside one, each run has its own), ``"run"`` once
            for each run.
    """

    name: str
    scope: ClassVar[Scope] = "run"

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Toolkit]:
        """Open what the tools need, for the length of the block."""
