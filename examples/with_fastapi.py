"""An agent behind FastAPI: its answer as JSON, and its events as they happen, as NDJSON or as server-sent events.

Try it::

    uv run python examples/with_fastapi.py
    curl "localhost:8000/answer?question=Hello"
    curl -N "localhost:8000/ndjson?question=Hello"

A run that is streamed is a dependency of its request, so it ends with it, however the request ends: `on_exit` says in
which way. A plain answer is worked out to its end, although its client may have gone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Literal

import anyio
import uvicorn
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse

from greenroom import Agent, Run, System
from greenroom.providers import ModelRequest, Scripted


async def think(request: ModelRequest) -> str:
    await anyio.sleep(0.5)
    return f"You said: {request.messages[-1].text}"


agent = Agent("helper", Scripted(*[think] * 1000))  # a script has an end; a model's name in its place has none


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    async with System(max_running=100):  # all runs of this server live in it, and end with it
        yield


async def started(question: str, on_exit: Literal["stop", "wait", "detach"] = "stop") -> AsyncIterator[Run]:
    """A client that goes away stops its run, has it waited for, or leaves it to the System."""
    async with agent.stream(question, on_exit=on_exit) as run:
        yield run


app = FastAPI(lifespan=lifespan)
Started = Annotated[Run, Depends(started)]


@app.get("/answer")
async def answer(question: str) -> dict[str, str]:
    return {"answer": str(await agent.run(question))}


@app.get("/ndjson")
async def ndjson(run: Started) -> StreamingResponse:
    return StreamingResponse((event.to_json() + b"\n" async for event in run), media_type="application/x-ndjson")


@app.get("/sse")
async def sse(run: Started) -> StreamingResponse:
    # A page closes its EventSource at run.completed and its kin; a browser that is left to itself asks again.
    frames = (f"event: {event.type}\ndata: {event.to_json().decode()}\n\n" async for event in run)
    return StreamingResponse(frames, media_type="text/event-stream")


if __name__ == "__main__":
    uvicorn.run(app, timeout_graceful_shutdown=5)  # open streams hold up Ctrl-C for so many seconds
