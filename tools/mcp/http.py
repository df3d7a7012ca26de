"""A server at a URL: the SDK's transport for streamable HTTP, with an HTTP client of our own below it.

The client keeps to bounds: the bytes of an answer, and the time that the server has for what is no call: a
notification, an answer of ours, the end of the session. The SDK sends these one after the other, and calls after them,
so here they are sent aside: one that hangs holds up no call. A call itself has as long as its own timeout says.
Compressed answers are asked for by nobody and refused: few bytes could become many.

What goes wrong with one request is told to who waits for that request, as an answer of the protocol. To the SDK it
would be the end of everything that is under way.

The SDK follows no redirect to another host, so the headers, which hold the key, go to the URL's host alone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import msgspec
from anyio.abc import ObjectSendStream, TaskGroup

from .http_answer import Answer
from .link import MOST_MESSAGE, UNANSWERED, UNSENT, USELESS, Link, Outbox, load

#: Seconds to connect and to write; for the answer to what is no call; for the end of the session.
CONNECT = 30.0
SHORT = 10.0
LAST = 3.0

#: How often a stream may be cut in a row without anything new in it, and the longest pause before it is gone on with.
CUTS = 3
LONGEST_RETRY = 30.0

#: Messages without an answer that are on their way at once, and redirects within the server's host that each follows.
ASIDE = 100
REDIRECTS = 5

_SESSION = "mcp-session-id"
_VERSION = "mcp-protocol-version"
_READY = "notifications/initialized"
_EVENTS = "text/event-stream"
_JSON = "application/json"
REFUSED = -32_603


class Endpoint(msgspec.Struct, frozen=True):
    """Where a server is, and the headers that every request has."""

    url: str
    headers: Mapping[str, str]

    @property
    def shown(self) -> str:
        """The URL without what may be secret in it."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def __repr__(self) -> str:
        return f"Endpoint({self.shown!r})"


class _Head(msgspec.Struct):
    """What tells a call from other messages."""

    id: Any = None
    method: str | None = None

    @property
    def is_call(self) -> bool:
        return self.id is not None and self.method is not None


@asynccontextmanager
async def http_streams(endpoint: Endpoint, link: Link) -> AsyncGenerator[tuple[Any, Outbox]]:
    """Be ready to talk to a server, for the length of the block. Gives what the SDK reads from and writes into."""
    connect = load("mcp.client.streamable_http").streamable_http_client
    outbox = Outbox(link)
    arrived, incoming = anyio.create_memory_object_stream[Any](0)
    answers = anyio.create_task_group()
    try:
        async with _client(endpoint, link, arrived, answers) as client, answers:
            async with (
                connect(endpoint.url, http_client=client, max_sse_event_size=MOST_MESSAGE) as (heard, told),
                anyio.create_task_group() as group,
            ):
                group.start_soon(_tell, outbox, told)
                group.start_soon(_hear, heard, arrived, link)
                try:
                    yield incoming, outbox
                finally:
                    group.cancel_scope.cancel()
            # The SDK has ended the session, and nobody waits for an answer any more.
            answers.cancel_scope.cancel()
    finally:
        for each in (outbox, outbox.waiting, arrived, incoming):
            each.close()


async def _tell(outbox: Outbox, told: Any) -> None:
    try:
        async for item in outbox.waiting:
            await told.send(item)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return  # the SDK has given up, which `_hear` says


async def _hear(heard: Any, arrived: ObjectSendStream[Any], link: Link) -> None:
    try:
        async for item in heard:
            await arrived.send(item)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return  # the session has ended: what comes now is for nobody
    link.end("cannot be talked to any more")  # not while the block is open, unless the SDK has given up
    await arrived.aclose()


def _client(endpoint: Endpoint, link: Link, arrived: ObjectSendStream[Any], answers: TaskGroup) -> Any:
    """The HTTP client that the SDK sends through. What it returns is in memory, except for the server's own stream."""
    library = load("httpx2")
    unconnected = (library.ConnectError, library.ConnectTimeout, library.PoolTimeout, library.ProxyError)

    class Client(library.AsyncClient):
        aside = 0  # messages that are sent and not answered

        async def send(self, request: Any, **options: Any) -> Any:
            head = _head(request)
            request.extensions["timeout"] = _patience(request.method, head)
            if request.method == "POST" and not head.is_call and head.method != _READY and self.aside < ASIDE:
                answers.start_soon(self.send_aside, request)
                return library.Response(202, request=request)
            plain: Any = super()
            try:
                response = await plain.send(request, **options)
            except library.TransportError as error:
                return self.unsent(request, error)
            if request.method == "GET":
                return response
            if head.is_call and (response.status_code < 300 or response.status_code >= 400):
                return await self.answered(request, response, head)
            await response.aclose()
            bare = library.Response(response.status_code, headers=_kept(response, "location"), request=request)
            bare.next_request = response.next_request
            return bare

        async def send_aside(self, request: Any) -> None:
            """Send what has no answer. Where nobody takes it, calls will find that out."""
            plain: Any = super()
            follow = load("mcp.shared._httpx_utils").next_request_within_origin
            self.aside += 1
            try:
                for _ in range(REDIRECTS):
                    response = await plain.send(request, stream=True, follow_redirects=False)
                    await response.aclose()
                    request = follow(response)
                    if request is None:
                        break
            except library.TransportError:
                link.doubted.set()
            finally:
                self.aside -= 1

        def unsent(self, request: Any, error: Exception) -> Any:
            link.refused = _said(error)
            link.doubted.set()
            if request.method == "POST":
                # Whoever has no connection has sent nothing. Of the rest nobody knows how far it has come.
                return problem(request, 503, UNSENT if isinstance(error, unconnected) else UNANSWERED, link.refused)
            if request.method == "DELETE":  # there is no session to end any more
                return library.Response(204, request=request)
            raise error

        async def answered(self, request: Any, response: Any, head: _Head) -> Any:
            status = response.status_code
            if status >= 400:
                link.refused = f"HTTP {status} {response.reason_phrase}".strip()
                if _SESSION in request.headers:
                    if status == 404:
                        link.end("has forgotten the session")
                    link.doubted.set()
            in_events = status < 300 and _is(response, _EVENTS)
            is_compressed = response.headers.get("content-encoding", "identity").lower() != "identity"
            if is_compressed or not (in_events or _is(response, _JSON)):
                await response.aclose()
                if is_compressed:
                    return problem(request, 502, USELESS, "it is compressed, which nobody has asked for")
                if status >= 400:
                    return refusal(request, status)
                kind = response.headers.get("content-type")
                told = f"its content type is {kind[:100]}" if kind else f"HTTP {status} and no content type"
                return problem(request, 502, USELESS, f"{told}, and neither JSON nor events")
            found = Answer(head.id, arrived)
            await self.read(found, response, in_events)
            cuts = 0
            while in_events and found.message is None and found.fault is None and found.last_id and cuts < CUTS:
                before = found.last_id
                await anyio.sleep(min(1.0 if found.retry is None else found.retry / 1000, LONGEST_RETRY))
                rest = await self.rest(request, before)
                if rest is not None:
                    await self.read(found, rest, True)
                cuts = cuts + 1 if found.last_id == before else 0
            if status >= 400 and not found.is_error:
                return refusal(request, status)
            if found.message is None:
                code = UNANSWERED if found.fault is None else USELESS
                return problem(request, 502, code, found.fault or "the answer has broken off")
            headers = {"content-type": _JSON, **_kept(response, _SESSION)}
            return library.Response(status, content=found.message, headers=headers, request=request)

        async def read(self, found: Answer, response: Any, in_events: bool) -> None:
            found.begin()
            answers.start_soon(found.read, response, in_events, library.TransportError)
            try:
                await found.read_until.wait()
            except BaseException:
                found.scope.cancel()
                raise

        async def rest(self, request: Any, last_id: str) -> Any:
            """What comes after that event; None where the server does not say."""
            sent = {name: request.headers[name] for name in (_SESSION, _VERSION) if name in request.headers}
            headers = {**sent, "accept": _EVENTS, "last-event-id": last_id}
            asked = self.build_request("GET", request.url, headers=headers)
            try:
                response = await self.send(asked, stream=True, follow_redirects=False)
            except library.TransportError:
                return None
            if response.status_code == 200 and _is(response, _EVENTS):
                return response
            await response.aclose()
            return None

    def refusal(request: Any, status: int) -> Any:
        unknown = ", and nobody knows whether it took effect" if status >= 500 else ""
        return problem(request, status, REFUSED, f"the server answered {link.refused}{unknown}")

    def problem(request: Any, status: int, code: int, message: str) -> Any:
        told = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
        return library.Response(status, json=told, request=request)

    return Client(headers={**endpoint.headers, "accept-encoding": "identity"})


def _head(request: Any) -> _Head:
    if request.method == "POST":
        try:
            return msgspec.json.decode(request.content, type=_Head)
        except msgspec.DecodeError:
            pass  # what is no message is no call
    return _Head()


def _patience(method: str, head: _Head) -> dict[str, float | None]:
    """The seconds that a request may take."""
    if method == "DELETE":
        return dict.fromkeys(("connect", "read", "write", "pool"), LAST)
    read = SHORT if method == "POST" and not head.is_call else None
    return {"connect": CONNECT, "read": read, "write": CONNECT, "pool": None}


def _kept(response: Any, name: str) -> dict[str, str]:
    return {name: response.headers[name]} if name in response.headers else {}


def _is(response: Any, kind: str) -> bool:
    return response.headers.get("content-type", "").lower().startswith(kind)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
