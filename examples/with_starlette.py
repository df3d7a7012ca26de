"""An agent behind Starlette: its answer as JSON, and its events as they happen, as NDJSON or as server-sent events.

Try it::

    uv run python examples/with_starlette.py
    curl "localhost:8000/answer?question=Hello"
    curl -N "localhost:8000/ndjson?question=Hello"

A stream is sent inside the block of its run, so the run ends with it, however the sending ends. A plain answer is
worked out to its end, although its client may have gone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from greenroom import Agent, System
from greenroom.providers import ModelRequest, Scripted


async def think(request: ModelRequest) -> str:
    await anyio.sleep(0.5)
    return f"You said: {request.messages[-1].text}"


agent = Agent("helper", Scripted(*[think] * 1000))  # a script has an end; a model's name in its place has none


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncGenerator[None]:
    async with System(max_running=100):  # all runs of this server live in it, and end with it
        yield


def asked(request: Request) -> str:
    return request.query_params.get("question", "Hello")


async def answer(request: Request) -> JSONResponse:
    return JSONResponse({"answer": str(await agent.run(asked(request)))})


async def ndjson(request: Request) -> ASGIApp:
    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        async with agent.stream(asked(request)) as run:  # a client that goes away ends its run
            lines = (event.to_json() + b"\n" async for event in run)
            await StreamingResponse(lines, media_type="application/x-ndjson")(scope, receive, send)

    return respond


async def sse(request: Request) -> ASGIApp:
    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        async with agent.stream(asked(request), on_exit="detach") as run:  # here the run goes on
            # A page closes its EventSource at run.completed and its kin; a browser that is left to itself asks again.
            frames = (f"event: {event.type}\ndata: {event.to_json().decode()}\n\n" async for event in run)
            await StreamingResponse(frames, media_type="text/event-stream")(scope, receive, send)

    return respond


app = Starlette(lifespan=lifespan, routes=[Route("/answer", answer), Route("/ndjson", ndjson), Route("/sse", sse)])

if __name__ == "__main__":
    uvicorn.run(app, timeout_graceful_shutdown=5)  # open streams hold up Ctrl-C for so many seconds
