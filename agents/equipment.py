"""The toolsets that one run uses: what they have open at present becomes the tools of its next turn.

Its own are kept in the task group that the run is in, and end with it; those that a System shares are kept there. A
tool that belongs to what is not open any more fails by itself, and tells the model why; the next turn has new ones.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from .errors import ToolsetFailed
from .events import ToolsetLost, ToolsetOpened
from .keepers import PATIENCE, Keeper, Keepers
from .tool import Tool, Toolbox
from .toolset import Toolkit, Toolset

if TYPE_CHECKING:
    from .agent import Agent
    from .run_cell import RunCell

_log = logging.getLogger("greenroom")


class Equipment:
    """What one run has of toolsets. Belongs to the event loop."""

    __slots__ = ("_heard", "_known", "_own", "_run", "_shared")

    def __init__(self, run: RunCell) -> None:
        self._run = run
        self._own: Keepers | None = None
        self._shared: set[Keeper] = set()
        #: What the present toolbox was made of.
        self._known: tuple[object, ...] = ()
        #: Which opening of each the run has heard of.
        self._heard: dict[Keeper, int] = {}

    async def equip(self) -> None:
        """Have the run's tools be those that its agent and the agent's toolsets have now.

        A toolset that has come to have a tool of a name that is taken does not end a run: that one keeps what it had.

        Raises:
            ToolsetFailed: one could not be opened, or, the first time, two tools have the same name.
        """
        run = self._run
        agent = run.agent
        keepers = [self._keeper(each) for each in agent.toolsets]  # all are opened side by side
        kits: list[tuple[Toolset, Toolkit]] = []
        for each in keepers:
            await self._mention_loss(each)
            kits.append((each.toolset, await each.wait_open(PATIENCE)))
            await self._mention_opening(each)
        known = (agent, *[_tools_of(*each) for each in kits])
        if run.equipped is None or len(known) != len(self._known) or any(map(_differ, known, self._known)):
            self._known = known
            try:
                run.equipped = _toolbox(agent, kits)
            except ToolsetFailed as error:
                if run.equipped is None:
                    raise
                _log.warning("run %s keeps the tools that it had: %s", run.name, error)
            if run.machine is not None:
                run.machine.rules = run.rules

    async def _mention_loss(self, keeper: Keeper) -> None:
        heard = self._heard.get(keeper)
        if heard is not None and not (keeper.is_open and keeper.openings == heard):
            del self._heard[keeper]
            await self._run.voice.say(ToolsetLost, toolset=keeper.toolset.name, error=keeper.trouble)

    async def _mention_opening(self, keeper: Keeper) -> None:
        if keeper.is_open and keeper not in self._heard:
            self._heard[keeper] = keeper.openings
            await self._run.voice.say(ToolsetOpened, toolset=keeper.toolset.name, again=keeper.openings - 1)

    def _keeper(self, toolset: Toolset) -> Keeper:
        shared = self._run.stage.keepers if toolset.scope == "system" else None
        if shared is None:
            if self._own is None:
                assert self._run.group is not None
                self._own = Keepers(self._run.stage, self._run.group, f"{self._run.name}/")
            return self._own.keeper(toolset)
        keeper = shared.keeper(toolset)
        if keeper not in self._shared:
            self._shared.add(keeper)
            keeper.join()
        return keeper

    def cells(self) -> tuple[Keeper, ...]:
        """The keepers of this run alone."""
        return self._own.cells() if self._own is not None else ()

    async def close(self, grace: float) -> None:
        """The run ends: close what is its own, and let go of what is shared."""
        self._leave()
        if self._own is not None:
            await self._own.close(grace)

    def kill(self) -> None:
        """The same, at once."""
        self._leave()
        if self._own is not None:
            self._own.kill()

    def _leave(self) -> None:
        shared, self._shared = self._shared, set()
        for keeper in shared:
            keeper.leave()


def _differ(one: object, other: object) -> bool:
    return one is not other


def _tools_of(toolset: Toolset, kit: Toolkit) -> tuple[Tool[..., Any], ...]:
    tools: Any = kit.tools
    if not isinstance(tools, tuple) or not all(isinstance(each, Tool) for each in cast("tuple[Any, ...]", tools)):
        raise ToolsetFailed(toolset.name, f"is no use: the tools of its Toolkit must be a tuple of Tool, not {tools!r}")
    return cast("tuple[Tool[..., Any], ...]", tools)


def _toolbox(agent: Agent[Any, Any], kits: list[tuple[Toolset, Toolkit]]) -> Toolbox:
    """The tools of an agent with what its toolsets have open."""
    owners = dict.fromkeys(agent.toolbox.names, "the agent has")
    answer = agent.asking.called
    if answer is not None:
        owners[answer.name] = "the tool that takes the answer is"
    tools: list[Tool[..., Any]] = []
    for toolset, kit in kits:
        for tool in kit.tools:
            if tool.name in owners:
                owner = owners[tool.name]
                raise ToolsetFailed(
                    toolset.name,
                    f"has a tool called {tool.name!r}, as {owner}: give the toolset a prefix, or leave one out",
                )
            owners[tool.name] = f"toolset {toolset.name!r} has"
        tools += kit.tools
    return agent.toolbox.beside(tools)
