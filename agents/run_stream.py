"""A run that is followed in a block: ``async with agent.stream(…) as run``."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Literal, NoReturn, TypeAlias, get_args

from anyio import create_task_group

from ..actors.exits import sole
from .execution import discarded_on_error
from .launch import Launch
from .result import OutputT
from .run import Run
from .stage import common_stage

if TYPE_CHECKING:
    from .run_cell import RunCell

OnExit: TypeAlias = Literal["stop", "wait", "detach"]


class RunStream(Generic[OutputT]):
    """``async with agent.stream(…) as run``: starts a run at the block's beginning, and sees to its end.

    Inside a System the block only subscribes: it holds no cancel scope, so it may be used in an async generator and
    closed from another task. Elsewhere (in a tool, or outside any System) the run is a child of the block.
    """

    __slots__ = ("_cell", "_launch", "_on_exit", "_stack")

    def __init__(self, launch: Launch, on_exit: OnExit) -> None:
        if on_exit not in get_args(OnExit):
            raise ValueError(f"on_exit={on_exit!r} is not one of {', '.join(map(repr, get_args(OnExit)))}")
        self._launch = launch
        self._on_exit: OnExit = on_exit
        self._stack: AsyncExitStack | None = None
        self._cell: RunCell | None = None

    async def __aenter__(self) -> Run[OutputT]:
        if self._cell is not None:
            raise RuntimeError("a stream is entered once; call agent.stream(…) again for another run")
        parent = self._launch.parent()
        system = self._launch.found_system() if parent is None else None
        if system is not None:
            cell = self._cell = await self._launch.cell(system.stage, None, followable=True, detached=True)
            with discarded_on_error(cell):
                cell.start_in(system.group)
            self._launch.agent.freeze()
        elif self._on_exit == "detach":
            raise RuntimeError("on_exit='detach' needs a System for the run to go on in: async with System(): …")
        else:
            async with AsyncExitStack() as stack:
                stage = parent[0].stage if parent is not None else await stack.enter_async_context(common_stage())
                group = await stack.enter_async_context(create_task_group())
                cell = self._cell = await self._launch.cell(stage, parent, followable=True)
                with discarded_on_error(cell):
                    cell.start_in(group)
                self._launch.agent.freeze()
                self._stack = stack.pop_all()
        return Run(cell)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        cell, stack = self._cell, self._stack
        assert cell is not None
        if cell.exit is None and (self._on_exit == "stop" or (self._on_exit == "wait" and exc is not None)):
            cell.stop_run("now", "abandoned")
        if stack is None:
            if self._on_exit == "detach":
                return
            try:
                await cell.wait_over()
            except BaseException:
                # Cancelled while it waited: nobody else sees to the run's end.
                if cell.exit is None:
                    cell.stop_run("now", "abandoned")
                raise
            return
        ordinary = exc is None or isinstance(exc, Exception)
        try:
            # An ordinary error of the block is not the group's business: it leaves bare, when the run has ended.
            await (stack.__aexit__(None, None, None) if ordinary else stack.__aexit__(exc_type, exc, tb))
        except BaseExceptionGroup as errors:
            if sole(errors) is not exc:
                raise sole(errors) from None
        if cell.run_parent is not None:
            await cell.run_parent.regain(cell.call_id or "")

    def __aiter__(self) -> NoReturn:
        raise TypeError(
            "a stream is a block: `async with agent.stream(…) as run:`, and in it `async for event in run:`"
        )

    def __await__(self) -> NoReturn:
        raise TypeError("a stream is a block: `async with agent.stream(…) as run:`, without await")

    def __enter__(self) -> NoReturn:
        raise TypeError("a stream is an asynchronous block: `async with agent.stream(…) as run:`")

    def __exit__(self, *exc_info: object) -> None:
        return None

    def __repr__(self) -> str:
        state = f"run {self._cell.name!r}" if self._cell is not None else "not entered"
        return f"<stream of agent {self._launch.agent.name!r}: {state}>"
