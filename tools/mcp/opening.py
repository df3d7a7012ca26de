"""A session with one server, opened for the length of a block, and everything that it needs with it.

All that stays open (the transport, the SDK's session, the tasks that watch it) is entered and left by `opened`, in the
task that runs it. The block crashes when the server is gone, so that whoever runs it opens it again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias, cast

import anyio

from ...actors.exits import sole
from ...agents import Tool, Toolkit
from ...loops import RunningLoop
from .link import Link, MCPServerError, Outbox, load
from .session import Session, Terms, text_of

#: Opens the way to a server: what the SDK reads from, and what it writes into.
Transport: TypeAlias = Callable[[Link], AbstractAsyncContextManager[tuple[Any, Outbox]]]

#: Why the link of a session ends that nothing went wrong with.
CLOSED = "is closed"


class Kit(Toolkit):
    """What is open of a server: of no use as soon as its link has ended."""

    def __init__(self, tools: Sequence[Tool[..., Any]], link: Link) -> None:
        super().__init__(tools)
        self._link = link

    @property
    def is_broken(self) -> bool:
        return self._link.why is not None


@asynccontextmanager
async def opened(terms: Terms, transport: Transport) -> AsyncGenerator[Toolkit]:
    """A session with a server, for the length of the block.

    Raises:
        MCPServerError: the server cannot be started or reached, or is gone.
    """
    link = Link(terms.name, terms.secrets)
    bodys: BaseException | None = None
    is_open = False
    try:
        # Its deadline is that of the start; nothing else in it is limited.
        with anyio.CancelScope(deadline=anyio.current_time() + terms.start_timeout) as patience:
            async with AsyncExitStack() as stack:
                with RunningLoop().outside:
                    session = await _connected(stack, terms, transport, link)
                    kit = Kit(await session.tools(first=True), link)
                patience.deadline = float("inf")
                is_open = True
                group = await stack.enter_async_context(anyio.create_task_group())
                for task in (session.watch, session.look, session.listen):
                    group.start_soon(task)
                group.start_soon(session.follow, kit)
                try:
                    yield kit
                except BaseException as error:
                    bodys = error
                    raise
                finally:
                    group.cancel_scope.cancel()
                    link.end(CLOSED)
    except Exception as errors:
        if isinstance(bodys, Exception):
            raise bodys from bodys.__cause__
        error = sole(cast("ExceptionGroup[Exception]", errors)) if isinstance(errors, ExceptionGroup) else errors
        if isinstance(error, MCPServerError):
            raise error from None
        raise MCPServerError(_failure(link, error, is_open)) from None
    except BaseExceptionGroup as errors:
        # It was cancelled as well, or must stop the process: what it crashed with at the same time counts no more.
        rest = errors.split(lambda error: isinstance(error, Exception) and error is not bodys)[1]
        raise rest if rest is not None else errors from None
    if patience.cancelled_caught:
        raise MCPServerError(link.sentence(f"was not ready within {terms.start_timeout:g} s"))


async def _connected(stack: AsyncExitStack, terms: Terms, transport: Transport, link: Link) -> Session:
    sdk = load("mcp")
    session: Session | None = None

    async def heed(message: Any) -> None:
        if session is not None:
            await session.heed(message)

    client = sdk.Client(
        transport(link),
        message_handler=heed,
        client_info=sdk.Implementation(name="greenroom", version=terms.version),
        cache=None,
    )
    session = Session(await stack.enter_async_context(client), link, terms)
    return session


def _failure(link: Link, error: BaseException, is_open: bool) -> str:
    if link.why not in (None, CLOSED):
        return link.epitaph()
    if is_open:
        return link.sentence(f"is gone: {text_of(error)}")
    if link.refused is not None:
        return link.sentence(f"cannot be reached: {link.refused}")
    return link.sentence(f"cannot be used: {text_of(error) or 'it refuses, and says nothing of why'}")
