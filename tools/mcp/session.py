"""A session with one server: its tools, the calls, and whether it is still there.

Calls come from the tasks of runs. They only write a request and wait for its answer, so they need nothing of the task
that has opened the session, and are over as soon as the link ends.

A process is gone when it has died or its output has ended. A server at a URL is gone when it does not know the session
any more; where a call could not be sent, or lost its answer, the server is asked for its tools, and is gone when it
does not answer.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

import anyio
import msgspec

from ...agents import RunContext, Tool, ToolFailed, Toolkit
from ...agents.tool import Replay
from ...loops import RunningLoop
from ...providers import ToolSpec
from . import offered, results
from .incoming import one_line
from .link import UNANSWERED, UNSENT, USELESS, Link, MCPServerError, load
from .offered import Offer

#: Tools of one server that are listed, and that are offered to a model.
MOST_LISTED = 10_000
MOST_OFFERED = 500
#: Seconds between two looks at a list of tools that keeps changing.
PAUSE = 1.0
#: Seconds that a server has to answer when it may be gone.
PROBE = 10.0

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "notice": logging.INFO, "warning": logging.WARNING}
_log = logging.getLogger("greenroom.mcp")


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for: see `MCP`."""

    name: str
    only: frozenset[str] | None
    exclude: frozenset[str]
    prefix: str
    timeout: float | None
    start_timeout: float
    max_result: int
    replay: Replay | None
    rules: Mapping[str, Any]
    version: str
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Terms(name={self.name!r})"


class Session:
    """What goes through the SDK's client of one server."""

    __slots__ = ("_answers", "_client", "_sdk", "_terms", "_waits", "changed", "link")

    def __init__(self, client: Any, link: Link, terms: Terms) -> None:
        self._client = client
        self._sdk = load("mcp")
        self._terms = terms
        self._waits = RunningLoop().outside
        types = self._sdk.types
        self._answers = load("pydantic").TypeAdapter(types.CallToolResult | types.InputRequiredResult)
        self.link = link
        self.changed = anyio.Event()

    # -- tools

    async def tools(self, *, first: bool) -> tuple[Tool[..., Any], ...]:
        """The tools that the server has now.

        Raises:
            MCPServerError: it has too many, or, the `first` time, not those that were named.
        """
        terms = self._terms
        listed = await self._listed()
        names = {tool.name for tool in listed}
        for option, wanted in (("only", terms.only or ()), ("exclude", terms.exclude)):
            missing = sorted(set(wanted) - names)
            if first and missing:
                has = ", ".join(sorted(names)) or "none"
                told = f"has no tool {missing[0]!r}, which {option}= names; its tools are: {has}"
                raise MCPServerError(self.link.sentence(told))
        chosen = offered.choose(listed, terms.only, terms.exclude)
        if len(chosen) > MOST_OFFERED:
            told = f"has {len(chosen)} tools: name those of use with only=[…], at most {MOST_OFFERED}"
            raise MCPServerError(self.link.sentence(told))
        made = [self._tool(offer) for offer in offered.offers(chosen, terms.prefix)]
        return tuple([tool for tool in made if tool is not None])

    async def _listed(self) -> list[Any]:
        found: list[Any] = []
        cursor: str | None = None
        cursors: set[str] = set()
        while True:
            page = await self._client.list_tools(cursor=cursor)
            found += page.tools
            if len(found) > MOST_LISTED:
                raise MCPServerError(self.link.sentence(f"lists more than {MOST_LISTED} tools"))
            cursor = page.next_cursor
            if not cursor:
                return found
            if cursor in cursors or len(cursors) >= MOST_LISTED:
                raise MCPServerError(self.link.sentence("has a list of tools without an end"))
            cursors.add(cursor)

    def _tool(self, offer: Offer) -> Tool[..., Any] | None:
        """A tool of ours for one of the server's; None, and a line in the log, for what cannot be one."""
        terms = self._terms
        if offer.doubt is not None:
            told = (
                f"describes its tool {offer.name!r} in a way that cannot be checked ({offer.doubt}): it takes anything"
            )
            _log.warning("MCP server %r %s", self.link.server, self.link.text(told))

        async def ask(context_of_the_run: RunContext[Any], **arguments: Any) -> results.Value:
            return await self.call(offer, arguments, context_of_the_run)

        rules = dict(terms.rules)
        rules["tags"] = {*rules.get("tags", ()), "mcp", f"mcp:{terms.name}"}
        rules["risk"] = rules.get("risk", offer.risk)
        try:
            tool = Tool.from_schema(
                offer.label,
                offer.description,
                offer.checked,
                ask,
                timeout=terms.timeout,
                max_result=terms.max_result,
                replay=terms.replay or ("safe" if offer.repeatable else "never"),
                **rules,
            )
        except (TypeError, ValueError) as error:
            told = f"has a tool {offer.name!r} that cannot be offered: {error}"
            _log.warning("MCP server %r %s", self.link.server, self.link.text(told))
            return None
        tool.spec = ToolSpec(offer.label, offer.description, offer.shown)
        return tool

    # -- calls

    async def call(self, offer: Offer, arguments: dict[str, Any], context: RunContext[Any]) -> results.Value:
        """Call a tool of the server, and wait for what it returns.

        Raises:
            ToolFailed: it has failed, or the server is gone; the text tells the model.
        """
        under_way = True

        async def report(progress: float, total: float | None, message: str | None) -> None:
            if under_way:  # what comes later comes too late
                told = {"progress": progress, "total": total, "message": message and self.link.text(message)}
                context.emit({key: value for key, value in told.items() if value is not None})

        try:
            result = await self._ask(offer.name, arguments, report)
        finally:
            under_way = False
        if result.is_error:
            raise ToolFailed(results.text_of(result) or "the tool failed, and says nothing of why")
        if result.structured_content is not None:
            mistakes = offered.mistakes_of(offer, result.structured_content)
            if mistakes:
                told = f"{self._called(offer.name)} returned something else than it says it does: {'; '.join(mistakes)}"
                raise ToolFailed(self.link.text(told))
        return results.value_of(result)

    async def _ask(self, name: str, arguments: dict[str, Any], report: Any) -> Any:
        sdk, link = self._sdk, self.link
        if link.why is not None:
            raise ToolFailed(f"not called: {link.epitaph()}")
        request = sdk.types.CallToolRequest(params=sdk.types.CallToolRequestParams(name=name, arguments=arguments))
        try:
            with self._waits:
                # Not `call_tool`, which checks results with a schema whose patterns a server may have made slow.
                result = await self._client.session.send_request(request, self._answers, progress_callback=report)
        except (sdk.MCPError, ValueError, RuntimeError) as error:
            raise ToolFailed(self._fault(name, error)) from None
        if isinstance(result, sdk.types.InputRequiredResult):
            raise ToolFailed(f"{self._called(name)} wants more input in the middle of a call, which is not supported")
        return result

    def _fault(self, name: str, error: Exception) -> str:
        """What the model is told of a call that has failed so."""
        link = self.link
        code = cast("Any", error).code if isinstance(error, self._sdk.MCPError) else USELESS
        said = link.text(text_of(error))
        if code == self._sdk.types.CONNECTION_CLOSED:
            link.doubted.set()
        if code == UNSENT:
            return f"not called: {link.sentence(f'cannot be reached: {said}')}"
        if link.why is not None:
            return f"no answer, and nobody knows whether it took effect: {link.epitaph()}"
        if code == UNANSWERED:
            return f"no answer, and nobody knows whether it took effect: {link.sentence(f'was lost: {said}')}"
        if code == USELESS:
            return f"{self._called(name)} gave an answer of no use: {said}"
        return f"{self._called(name)} failed" + (f": {said}" if said else f", and says nothing of why (code {code})")

    def _called(self, name: str) -> str:
        return f"tool {name!r} of MCP server {self.link.server!r}"

    # -- what the server says by itself

    async def heed(self, message: Any) -> None:
        """Heed a notification."""
        types = self._sdk.types
        if isinstance(message, types.ToolListChangedNotification):
            self.changed.set()
        elif isinstance(message, types.LoggingMessageNotification):
            said = message.params
            _log.log(_LEVELS.get(said.level, logging.ERROR), "%s: %s", self.link.server, self.link.text(said.data))

    # -- while it is open

    async def watch(self) -> None:
        """Crash when the server is gone."""
        await self.link.ended.wait()
        raise MCPServerError(self.link.epitaph())

    async def look(self) -> None:
        """Find out whether the server is gone, where a call went wrong."""
        link = self.link
        while True:
            await link.doubted.wait()
            link.doubted = anyio.Event()
            try:
                with anyio.fail_after(PROBE), self._waits:
                    await self._client.list_tools()
            except (self._sdk.MCPError, TimeoutError, ValueError, RuntimeError) as error:
                why = link.refused or text_of(error)
                link.end(f"does not answer any more: {why}")
                return

    async def follow(self, kit: Toolkit) -> None:
        """Have the kit's tools be those that the server has."""
        while True:
            await self.changed.wait()
            self.changed = anyio.Event()
            try:
                kit.tools = await self.tools(first=False)
            except (self._sdk.MCPError, MCPServerError, ValueError, RuntimeError) as error:
                told = f"has changed its tools, and does not say to what: {text_of(error)}"
                _log.warning("MCP server %r %s", self.link.server, self.link.text(told))
            await anyio.sleep(PAUSE)

    async def listen(self) -> None:
        """Ask a newer server to say when its tools change; an older one says so unasked."""
        client = self._client
        tools = client.server_capabilities.tools
        if client.session.discover_result is None or tools is None or not tools.list_changed:
            return
        try:
            async with client.listen(tools_list_changed=True) as events:
                async for _ in events:
                    self.changed.set()
        except (self._sdk.MCPError, RuntimeError) as error:
            _log.debug("MCP server %r does not say when its tools change: %s", self.link.server, error)


def text_of(error: BaseException) -> str:
    """What an error of the SDK, or of the library below it, says, in a line."""
    if type(error).__name__ == "MCPError":
        return str(cast("Any", error).message)
    return one_line(error) if hasattr(error, "errors") else f"{type(error).__name__}: {error}"
