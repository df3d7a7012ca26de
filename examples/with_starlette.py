"""An agent behind Starlette: its answer as JSON, its events as NDJSON, its text as server-sent events.

    uv run python examples/with_starlette.py
    curl "localhost:8000/answer?question=Hello"
    curl -N "localhost:8000/ndjson?question=Hello"
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from greenroom import Agent, System
from greenroom.providers import ModelRequest, Scripted


async def think(request: ModelRequest) -> str:
    await anyio.sleep(0.5)
    return f"You said: {request.messages[-1].text}."


agent = Agent("helper", Scripted(*[think] * 1000))  # a script has an end; a model's name in its place has none


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with System(max_running=100):  # all runs of this server live in it, and end with it
        yield


async def answer(request: Request) -> Response:
    return JSONResponse({"answer": str(await agent.run(request.query_params["question"]))})


async def ndjson(request: Request) -> Response:
    async def lines() -> AsyncIterator[bytes]:
        async with agent.stream(request.query_params["question"]) as run:  # a client that goes away ends its run
            async for event in run:
                yield event.to_json() + b"\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


async def sse(request: Request) -> Response:
    async def frames() -> AsyncIterator[str]:
        async with agent.stream(request.query_params["question"], on_exit="detach") as run:  # here the run goes on
            async for piece in run.text():
                yield f"data: {json.dumps(piece)}\n\n"  # a piece may hold line breaks, which would end a frame
            yield "event: end\ndata:\n\n"  # a browser would ask again otherwise

    return StreamingResponse(frames(), media_type="text/event-stream")


app = Starlette(lifespan=lifespan, routes=[Route("/answer", answer), Route("/ndjson", ndjson), Route("/sse", sse)])

if __name__ == "__main__":
    uvicorn.run(app, timeout_graceful_shutdown=5)  # so long an open stream may hold up Ctrl-C
