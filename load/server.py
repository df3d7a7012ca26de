"""The simulated model server: sockets around `model.SimulatedModel`.

It shares the machine with the client it is there to measure, so it is lean rather than general: an
`asyncio.Protocol` without a task per connection, at most one timer per response, and responses that are bytes
before the first is sent.

A connection serves one request at a time, in order; requests that arrive meanwhile (pipelining) wait in a
short queue, beyond which the socket is not read. Nothing new is begun while the client does not read what was
sent. A client that closes, or half-closes, ends its response: the usual servers behave so too.

    POST /v1/chat/completions    the simulated model, plain or streaming
    GET  /v1/models              one model, ``simulated``
    GET  /stats                  `Stats` as JSON
    GET  /answers                how many whole answers each turn of each run got, as JSON: ``{"run": [1, 1, 2]}``
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable

import msgspec

from . import wire
from .faults import Faults
from .http1 import BadRequest, Incoming, Request, RequestReader, response
from .latency import Latency
from .model import Performance, SimulatedModel
from .script import Habits
from .stats import Ledger

#: Requests of one connection that may wait behind the one being answered before its socket is left unread.
_PIPELINE = 32
#: Linger on, for zero seconds: closing the socket sends a reset.
_RESET = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a simulated server behaves; also the JSON that its process is started with.

    Args:
        port: TCP port on `host`; default 0 takes a free one.
        host: address to listen on; default 127.0.0.1.
        seed: another seed is another model: other ids, faults and delays. Default 0.
        faults: rates of injected failures; default none.
        latency: time to respond; default `Latency()`: 50 ms median, 200 ms at the 99th percentile.
        habits: what the model does without a plan; default one turn of one tool call.
        until_eof: end when standard input does, and ignore Ctrl-C; for a process started by another. Default
            False.
    """

    port: int = 0
    host: str = "127.0.0.1"
    seed: int = 0
    faults: Faults = Faults()
    latency: Latency = Latency()
    habits: Habits = Habits()
    until_eof: bool = False


class _Connection(asyncio.Protocol):
    __slots__ = (
        "_call_later",
        "_closing",
        "_connections",
        "_current",
        "_ledger",
        "_model",
        "_next_part",
        "_paused",
        "_reader",
        "_silent",
        "_timer",
        "_transport",
        "_waiting",
    )

    _transport: asyncio.Transport

    def __init__(
        self,
        model: SimulatedModel,
        ledger: Ledger,
        loop: asyncio.AbstractEventLoop,
        connections: set[asyncio.Transport],
    ) -> None:
        self._model = model
        self._ledger = ledger
        self._call_later = loop.call_later
        self._connections = connections  # of the whole server: where this one is entered while it is open
        self._reader = RequestReader()
        self._waiting: deque[Incoming] = deque()
        self._current: Performance | None = None
        self._next_part = 0
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False  # the client does not read
        self._silent = False  # an injected stall: nothing is sent any more
        self._closing = False  # the response at hand is the last

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(transport)
        counts = self._ledger.counts
        counts.connections += 1
        counts.connections_open += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self._transport)
        self._ledger.counts.connections_open -= 1
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._current is not None:
            self._current = None
            self._ledger.end("aborted")

    def data_received(self, data: bytes) -> None:
        self._ledger.counts.bytes_in += len(data)
        self._waiting.extend(self._reader.feed(data))
        self._serve()
        if len(self._waiting) > _PIPELINE:
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._serve()

    def _serve(self) -> None:
        waiting = self._waiting
        while waiting and not (self._current is not None or self._paused or self._silent or self._closing):
            incoming = waiting.popleft()
            if isinstance(incoming, BadRequest):
                self._ledger.counts.malformed += 1
                body = wire.error(incoming.reason, "invalid_request_error")
                self._write(response(incoming.status, body, close=True))
                self._close()
            elif incoming.target == "/v1/chat/completions" and incoming.method == "POST":
                self._begin(incoming)
            else:
                self._ledger.counts.other += 1
                self._write(_elsewhere(incoming, self._ledger))
                if not incoming.keep_alive:
                    self._close()
        if len(waiting) <= _PIPELINE and not self._transport.is_closing():
            self._transport.resume_reading()

    def _begin(self, request: Request) -> None:
        self._ledger.begin()
        performance = self._model.perform(request.body)
        if performance.starts:
            self._ledger.start_run(performance.run)
        self._current = performance
        self._next_part = 0
        self._closing = not request.keep_alive
        if performance.delay > 0.0:
            self._timer = self._call_later(performance.delay, self._on_timer)
        else:
            self._send()

    def _on_timer(self) -> None:
        self._timer = None
        self._send()
        self._serve()

    def _send(self) -> None:
        performance = self._current
        assert performance is not None
        parts = performance.parts
        if performance.gap > 0.0:
            self._write(parts[self._next_part])
            self._next_part += 1
            if self._next_part < len(parts):
                self._timer = self._call_later(performance.gap, self._on_timer)
                return
        else:
            self._write(parts[0] if len(parts) == 1 else b"".join(parts))
        self._finish(performance)

    def _finish(self, performance: Performance) -> None:
        self._current = None
        ledger = self._ledger
        ledger.end(performance.outcome)
        match performance.ending:
            case "reset":
                connection = self._transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                self._closing = True
                self._transport.abort()
                return
            case "silence":
                self._silent = True
                return
            case "done":
                ledger.counts.tool_calls += performance.tool_calls
                if performance.outcome == "ok":
                    ledger.answer(performance.run, performance.turn)
                if performance.finishes:
                    ledger.finish_run(performance.run)
        if self._closing:
            self._close()

    def _write(self, data: bytes) -> None:
        self._ledger.counts.bytes_out += len(data)
        self._transport.write(data)

    def _close(self) -> None:
        self._closing = True
        self._transport.close()


def _elsewhere(request: Request, ledger: Ledger) -> bytes:
    """The response to anything but a chat request."""
    path = request.target.partition("?")[0]
    close = not request.keep_alive
    if path in ("/stats", "/answers", "/v1/models"):
        if request.method != "GET":
            return _not(405, request, close)
        return response(200, _told(path, ledger), close=close)
    return _not(405 if path == "/v1/chat/completions" else 404, request, close)


def _told(path: str, ledger: Ledger) -> bytes:
    match path:
        case "/stats":
            return msgspec.json.encode(ledger.snapshot())
        case "/answers":
            return msgspec.json.encode(ledger.answered)
        case _:
            return wire.models()


def _not(status: int, request: Request, close: bool) -> bytes:
    body = wire.error(f"Invalid URL ({request.method} {request.target})", "invalid_request_error", "unknown_url")
    return response(status, body, close=close)


async def serve(options: Options, listening: Callable[[int], None], ended: asyncio.Event) -> None:
    """Serve until `ended` is set, then close every connection.

    `listening` is called once with the port.

    Raises:
        OSError: the address cannot be listened on.
    """
    loop = asyncio.get_running_loop()
    ledger = Ledger()
    connections: set[asyncio.Transport] = set()
    model = SimulatedModel(options.seed, options.faults, options.latency, options.habits)
    # A thousand runs connect at once; the usual queue of 100 would drop some and cost each a second of retry.
    server = await loop.create_server(
        lambda: _Connection(model, ledger, loop, connections), options.host, options.port, backlog=4096
    )
    try:
        listening(server.sockets[0].getsockname()[1])
        await ended.wait()
    finally:
        server.close()
        for connection in [*connections]:
            connection.abort()
