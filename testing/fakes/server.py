"""A strict fake provider: a server on loopback that plays a script through a wire format.

    async with StrictServer("anthropic", [[call("weather", city="Oslo")], "Rain."]) as server:
        result = await Agent("a", server.provider("claude-sonnet-5"), tools=[weather]).run("Weather?")
    assert not server.refusals

Each request is first shown to the format, which refuses what the real provider refuses. The client gets the refusal as
that provider sends it, and it is kept in `refusals`. A request that passes takes the next line of the script; one that
comes when no line is left is refused too, with status 500. The order of the requests is the order of the lines, also
where several runs share the server.

The sockets are real, so whatever lies between an agent and the network is tested along. Runs on asyncio and trio.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, cast

import anyio
import anyio.abc
import msgspec
from anyio.streams.buffered import BufferedByteReceiveStream

from ...providers import Provider, ToolCall
from .failures import dry, failure
from .format import Format, Refused, Said
from .registry import FORMATS

HEAD_LIMIT = 64 * 1024
BODY_LIMIT = 64 * 1024 * 1024


class Unfinished(msgspec.Struct, frozen=True):
    """An answer that is begun and never ended: half of its wire events are sent, then silence, or the end of the
    connection.

    Of an answer in one piece, half of the bytes are sent.
    """

    said: Said
    ending: Literal["silence", "close"] = "silence"


Line: TypeAlias = "str | ToolCall | Sequence[ToolCall] | Said | Unfinished | int | Refused"


class StrictServer:
    """A fake provider for the length of an ``async with`` block.

    Args:
        format: a name of `FORMATS`, such as ``openai-chat``, or a `Format` of your own.
        script: what the model says, one line for each request: text, tool calls, a `Said`, an `Unfinished` answer, or
            a status from 400 to 599 or a `Refused` to fail with once.

    `requests` holds the decoded body of each request, `refusals` each answer that says that a request was wrong, in
    order. Failures that the script asked for are not refusals.

    Raises:
        ValueError: there is no format of that name, or a line holds a status that is no failure.
        TypeError: a line that cannot be played.
    """

    def __init__(self, format: str | Format, script: Iterable[Line] = ()) -> None:
        self._name = format if isinstance(format, str) else "openai-chat"
        if isinstance(format, str) and format not in FORMATS:
            raise ValueError(f"there is no format {format!r}; there are {', '.join(sorted(FORMATS))}")
        self.format: Format = FORMATS[format]() if isinstance(format, str) else format
        self.requests: list[Any] = []
        self.refusals: list[Refused] = []
        self.url = ""
        self._script = [_line(line, self._name) for line in script]
        self._played = 0
        self._listener: anyio.abc.Listener[anyio.abc.SocketStream] | None = None
        self._tasks: anyio.abc.TaskGroup | None = None

    @property
    def unplayed(self) -> int:
        """How many lines of the script are left."""
        return len(self._script) - self._played

    def provider(self, model: str = "fake-model") -> Provider:
        """One of our providers, connected to this server.

        Raises:
            RuntimeError: the server does not run.
        """
        if not self.url:
            raise RuntimeError("the server runs inside its block: async with StrictServer(…) as server")
        return self.format.provider(self.url, model)

    async def __aenter__(self) -> Self:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        self._listener = listener
        self._tasks = tasks = anyio.create_task_group()
        await tasks.__aenter__()
        tasks.start_soon(listener.serve, self._serve)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        tasks, listener = self._tasks, self._listener
        assert tasks is not None and listener is not None  # noqa: PT018 - both or none
        self._tasks = self._listener = None
        self.url = ""
        tasks.cancel_scope.cancel()
        try:
            # The error of the body leaves bare: it is not shown to the group, which would wrap it.
            await tasks.__aexit__(None, None, None)
        finally:
            await listener.aclose()

    async def _serve(self, socket: anyio.abc.SocketStream) -> None:
        """One connection: requests in order, until one of them ends it."""
        stream = BufferedByteReceiveStream(socket)
        async with socket:
            try:
                while (request := await _read(stream)) is not None:
                    if not await self._answer(socket, request):
                        return
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass  # the client left, as it may

    async def _answer(self, socket: anyio.abc.SocketStream, request: _Request) -> bool:
        """Answer one request; False when the connection is to be closed."""
        body, refused = _decoded(request)
        if refused is None:
            self.requests.append(body)
            refused = self.format.refuse(request.target, request.headers, body)
        if refused is None and not self.unplayed:
            refused = dry(self._name, self._played)
        if refused is not None:
            self.refusals.append(refused)
            await socket.send(_refusal(refused))
            return True
        line = self._script[self._played]
        self._played += 1
        if isinstance(line, Refused):
            await socket.send(_refusal(line))
            return True
        said = line.said if isinstance(line, Unfinished) else line
        if self.format.wants_stream(request.target, body):
            head, pieces, end = _stream_head(self.format.stream_type), self.format.stream(said, body), b"0\r\n\r\n"
            pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
        else:
            whole = self.format.answer(said, body)
            head, pieces, end = _head(200, len(whole), {}), [whole[: len(whole) // 2], whole[len(whole) // 2 :]], b""
        if isinstance(line, Unfinished):
            await socket.send(head + b"".join(pieces[: (len(pieces) + 1) // 2]))
            if line.ending == "silence":
                await _wait_for_the_end(socket)
            return False
        await socket.send(head)
        for piece in pieces:
            await socket.send(piece)
        await socket.send(end)
        return True


def _line(line: Any, name: str) -> Said | Unfinished | Refused:
    """A line of a script as what it stands for."""
    match line:
        case str():
            return Said(line)
        case ToolCall():
            return Said(tool_calls=(line,))
        case Said() | Unfinished() | Refused():
            return line
        case bool():
            pass
        case int():
            return failure(name, line)
        case list() | tuple():
            calls = cast("Sequence[Any]", line)
            if calls and all(isinstance(call, ToolCall) for call in calls):
                return Said(tool_calls=tuple(calls))
        case _:
            pass
    raise TypeError(
        f"a script cannot hold {line!r}: use text, tool calls made by call(), Said(…), Unfinished(…), a status or "
        "Refused(…)"
    )


class _Request(msgspec.Struct, frozen=True):
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


async def _read(stream: BufferedByteReceiveStream) -> _Request | None:
    """The next request of a connection, or None at its end."""
    try:
        head = await stream.receive_until(b"\r\n\r\n", HEAD_LIMIT)
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        pairs = [line.partition(":") for line in lines]
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        size = int(headers.get("content-length", "0"))
        body = await stream.receive_exactly(min(size, BODY_LIMIT)) if size else b""
    except (anyio.IncompleteRead, anyio.DelimiterNotFound, ValueError):
        return None  # not a request: whoever sent it gets no answer
    return _Request(method, target, headers, body)


def _decoded(request: _Request) -> tuple[Any, Refused | None]:
    """The JSON of a request, or why no provider would look at it."""

    def refused(status: int, words: str) -> tuple[None, Refused]:
        return None, Refused(status, {"error": {"message": words, "type": "invalid_request_error"}})

    if request.method != "POST":
        return refused(405, f"{request.method} is not allowed here: use POST")
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return refused(415, "the content type is not application/json")
    try:
        body: Any = msgspec.json.decode(request.body)
    except msgspec.DecodeError as error:
        return refused(400, f"the body is not JSON: {error}")
    return (cast("Any", body), None) if isinstance(body, dict) else refused(400, "the body is not a JSON object")


def _refusal(refused: Refused) -> bytes:
    body = refused.body if isinstance(refused.body, bytes) else msgspec.json.encode(refused.body)
    return _head(refused.status, len(body), refused.headers) + body


def _head(status: int, size: int, headers: Mapping[str, str]) -> bytes:
    fields = {"content-type": "application/json", **headers, "content-length": str(size)}
    lines = [f"HTTP/1.1 {status} Fake", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _stream_head(stream_type: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {stream_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode()


async def _wait_for_the_end(socket: anyio.abc.SocketStream) -> None:
    """Say nothing until the client leaves."""
    try:
        while True:
            await socket.receive()
    except anyio.EndOfStream:
        pass
