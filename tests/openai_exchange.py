"""For tests of the OpenAI-compatible endpoint: a model that trickles, and requests as an ASGI server passes them on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Self

import anyio
import anyio.lowlevel
import msgspec

from greenroom.providers import (
    Message,
    ModelEvent,
    ModelReply,
    ModelRequest,
    Provider,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    Usage,
)
from greenroom.service import Service

USED = Usage(input_tokens=10, output_tokens=2)


class Trickle(Provider):
    """A model that says its replies piece by piece, one reply for each call.

    A reply is a list of what happens in it: text and thoughts that are said, calls, seconds that pass, an error.
    """

    name, model = "trickle", "trickle-1"

    def __init__(self, *replies: list[Any], usage: Usage | None = USED) -> None:
        self._replies = list(replies)
        self._usage = usage
        self.requests: list[ModelRequest] = []
        #: How each call was made: ``complete`` or ``stream``.
        self.forms: list[str] = []

    def begin(self, form: str, request: ModelRequest) -> list[Any]:
        """What happens in the next reply."""
        self.forms.append(form)
        self.requests.append(request)
        return self._replies.pop(0)

    def reply(self, happened: list[Any]) -> ModelReply:
        """The whole reply."""
        parts = [Text(each) if isinstance(each, str) else each for each in happened if not isinstance(each, float)]
        calls = any(isinstance(each, ToolCall) for each in parts)
        reason = "tool_calls" if calls else "stop"
        return ModelReply(Message("assistant", tuple(parts)), reason, self._usage, self.model)  # type: ignore[arg-type]

    async def complete(self, request: ModelRequest) -> ModelReply:
        await anyio.lowlevel.checkpoint()
        happens = self.begin("complete", request)
        for each in happens:
            await _happen(each)
        return self.reply(happens)

    def stream(self, request: ModelRequest) -> _Stream:
        return _Stream(self, self.begin("stream", request))


async def _happen(each: Any) -> None:
    if isinstance(each, float):
        await anyio.sleep(each)
    elif isinstance(each, BaseException):
        raise each


class _Stream:
    def __init__(self, provider: Trickle, happens: list[Any]) -> None:
        self._provider = provider
        self._happens = happens
        self._place = 0

    @property
    def reply(self) -> ModelReply:
        return self._provider.reply(self._happens)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ModelEvent:
        await anyio.lowlevel.checkpoint()
        while self._place < len(self._happens):
            each = self._happens[self._place]
            self._place += 1
            await _happen(each)
            if isinstance(each, str):
                return TextDelta(each)
            if isinstance(each, Thinking):
                return ThinkingDelta(each.text)
        raise StopAsyncIteration


class Exchange:
    """One request, and what came back.

    Args:
        service: who is asked.
        body: what is sent as JSON; bytes as they are.
        method, path, headers: of the request.
        take: waited for before each message that the application sends, as a server waits for a slow client.
    """

    def __init__(
        self,
        service: Service,
        body: Any = None,
        *,
        method: str = "POST",
        path: str = "/v1/chat/completions",
        headers: Mapping[str, str] | None = None,
        take: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint,
    ) -> None:
        self._service = service
        self._body = body if isinstance(body, bytes) else msgspec.json.encode(body)
        self._method = method
        self.path = path
        self._headers = {"host": "localhost", "content-type": "application/json", **(headers or {})}
        self._take = take
        self.status = 0
        self.headers: dict[str, str] = {}
        #: What came back, with the moment at which each piece came.
        self.pieces: list[tuple[float, bytes]] = []
        self.over = False
        #: Set by a test for a client that goes away.
        self.gone = anyio.Event()
        self._unread = True

    @property
    def body(self) -> bytes:
        """All of it."""
        return b"".join(piece for _, piece in self.pieces)

    @property
    def json(self) -> Any:
        """All of it, read."""
        return msgspec.json.decode(self.body)

    @property
    def frames(self) -> list[str]:
        """The server-sent events and comments."""
        *frames, rest = self.body.decode().split("\n\n")
        assert rest == ""
        return frames

    @property
    def chunks(self) -> list[Any]:
        """What the events say; the mark of the end is a text."""
        data = [frame.removeprefix("data: ") for frame in self.frames if frame.startswith("data: ")]
        return [each if each == "[DONE]" else msgspec.json.decode(each) for each in data]

    @property
    def said(self) -> str:
        """The text of a stream."""
        choices = [choice for chunk in self.chunks if "choices" in chunk for choice in chunk["choices"]]
        return "".join(choice["delta"].get("content") or "" for choice in choices)

    async def perform(self) -> Self:
        """Send the request, and take what comes."""
        raw = [(name.lower().encode(), value.encode()) for name, value in self._headers.items()]
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
        }
        scope |= {"method": self._method, "path": self.path, "raw_path": self.path.encode(), "query_string": b""}
        scope |= {"root_path": "", "scheme": "http", "headers": raw, "server": ("localhost", 80), "client": None}
        await self._service(scope, self._receive, self._send)
        return self

    async def _receive(self) -> dict[str, Any]:
        if self._unread:
            self._unread = False
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        await self._take()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        if message.get("body"):
            self.pieces.append((anyio.current_time(), message["body"]))
        self.over = not message.get("more_body", False)


def chat(*said: str, model: str = "helper", **fields: Any) -> dict[str, Any]:
    """A request: what the user and the agent said in turns, the user last."""
    roles = ["assistant", "user"] if len(said) % 2 == 0 else ["user", "assistant"]
    messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(said)]
    return {"model": model, "messages": messages, **fields}
