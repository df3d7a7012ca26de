"""What is known of the way to one server, while it is open and after: above all, why it has ended.

The transport, the session and the calls share one `Link`. Whoever finds out that the server is gone says so, once, in
words for the model and for the log; everybody else reads them. Only then are the calls in flight given up, so that
each can say what has happened.

A call must never wait for a server that does not read. So what is sent goes into an `Outbox`, which takes it at once,
and a task of the transport takes it from there. A call that is cancelled has told the server so when it ends, and what
is too much for the outbox ends the link.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from importlib import import_module
from types import TracebackType
from typing import Any, Self

import anyio

#: Bytes of one message of a server, and of one answer over HTTP.
MOST_MESSAGE = 32 * 1024 * 1024
#: Messages that a server has not taken yet.
MOST_UNSENT = 10_000
#: Lines of standard error that are kept for an error's text, and the characters of each.
LAST_LINES = 10
LINE = 300
#: Bytes of an unfinished line of it that are kept.
MOST_LINE = 65_536
#: Characters of what a server or a library says, in an error.
TEXT = 1_000

#: Codes of errors that are made here, in the place of an answer: the call was not sent; it was, and there is no answer;
#: the answer is of no use.
UNSENT, UNANSWERED, USELESS = -32_090, -32_091, -32_092

_SHORTEST_SECRET = 6


class MCPServerError(Exception):
    """An MCP server could not be started or reached, or is gone. The text says which, why, and what it last wrote."""


def load(module: str) -> Any:
    """A module of the SDK.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError("MCP needs the mcp package: pip install greenroom[mcp]", name=error.name) from None


class Link:
    """What is known of the way to one server. Make it in the event loop.

    Args:
        server: the server's name.
        secrets: what must not show in any text.

    Attributes:
        why: why it has ended, as the end of a sentence that begins with the server; None while it is open.
        ended: set with `why`.
        doubted: set when a call went wrong in a way that the server may be gone. Who looks into it takes a new one.
    """

    __slots__ = ("_begun", "_last_lines", "_secrets", "_strange", "doubted", "ended", "refused", "server", "why")

    def __init__(self, server: str, secrets: Iterable[str] = ()) -> None:
        self.server = server
        self.why: str | None = None
        self.ended = anyio.Event()
        self.doubted = anyio.Event()
        #: What the last refusal over HTTP was.
        self.refused: str | None = None
        # One of several lines comes back in lines.
        parts = {part for each in secrets for part in (each, *each.splitlines()) if len(part) >= _SHORTEST_SECRET}
        self._secrets = sorted(parts, key=len, reverse=True)
        self._begun = b""
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._strange: str | None = None

    def end(self, why: str) -> None:
        """It has ended. The first to say so is believed."""
        if self.why is None:
            self.why = why
            self.ended.set()

    def heard(self, data: bytes) -> None:
        """What the server wrote to its standard error."""
        *complete, begun = (self._begun + data).split(b"\n")
        self._begun = begun[:MOST_LINE]
        for line in complete[-LAST_LINES:]:
            self._keep(line)

    def _keep(self, line: bytes) -> None:
        shown = self._without_secrets(line.decode("utf-8", "replace")).strip()
        if shown:
            self._last_lines.append(shown[:LINE])

    def is_strange(self, line: bytes) -> bool:
        """Keep the first line of its standard output that is no message; True for that one."""
        if self._strange is not None or not line.strip():
            return False
        self._strange = self._without_secrets(line[:MOST_LINE].decode("utf-8", "replace")).strip()[:LINE]
        return True

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[key]")
        return text

    def text(self, text: object) -> str:
        """What somebody else says, fit for an error: bounded, and without secrets."""
        # Taken out before anything is cut off, or half a secret would stay.
        shown = self._without_secrets(str(text)[:MOST_LINE].encode("utf-8", "replace").decode())
        return shown if len(shown) <= TEXT else f"{shown[:TEXT]} …"

    def sentence(self, what: str) -> str:
        """The server, what there is to say of it, and what it last wrote."""
        told = [f"MCP server {self.server!r} {self.text(what)}"]
        if self._strange is not None:
            told.append(f"Its standard output must hold messages and nothing else, and has: {self._strange}")
        if self._begun:
            self._keep(self._begun)
            self._begun = b""
        if self._last_lines:
            told.append("It last wrote:\n" + "\n".join(self._last_lines))
        return ". ".join(told)

    def epitaph(self) -> str:
        """Why it has ended, in a sentence."""
        return self.sentence(self.why or "is gone")


class Outbox:
    """What is to be sent to a server. Takes any message at once; the SDK's stream to write into.

    Attributes:
        waiting: where the transport takes them from; it ends when the outbox is closed.
    """

    __slots__ = ("_link", "_send", "waiting")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._send, self.waiting = anyio.create_memory_object_stream[Any](MOST_UNSENT)

    async def send(self, item: Any, /) -> None:
        """Have it sent.

        Raises:
            BrokenResourceError, ClosedResourceError: the server is gone.
        """
        try:
            self._send.send_nowait(item)
        except anyio.WouldBlock:
            self._link.end("takes nothing of what it is sent")
            raise anyio.BrokenResourceError from None

    async def aclose(self) -> None:
        """Send nothing more."""
        self.close()

    def close(self) -> None:
        """The same, at once."""
        self._send.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
