"""An agent behind FastAPI: its answer as JSON, and its events as they happen, as NDJSON or as server-sent events.

    uv run python examples/with_fastapi.py
    curl "localhost:8000/answer?question=Hello"
    curl -N "localhost:8000/ndjson?question=Hello"
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import anyio
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from greenroom import Agent, System, events
from greenroom.providers import ModelRequest, Scripted


async def think(request: ModelRequest) -> str:
    await anyio.sleep(0.5)
    return f"You said: {request.messages[-1].text}."


agent = Agent("helper", Scripted(*[think] * 1000))  # a script has an end; a model's name in its place has none


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with System(max_running=100):  # all runs of this server live in it, and end with it
        yield


app = FastAPI(lifespan=lifespan)
OnExit = Literal["stop", "wait", "detach"]


async def follow(question: str, on_exit: OnExit) -> AsyncIterator[events.AnyEvent]:
    """A client that goes away ends its run, unless it is to be detached. Then it goes on in the System."""
    async with agent.stream(question, on_exit=on_exit) as run:
        async for event in run:
            yield event


@app.get("/answer")
async def answer(question: str) -> dict[str, str]:
    return {"answer": str(await agent.run(question))}


@app.get("/ndjson")
async def ndjson(question: str, on_exit: OnExit = "stop") -> StreamingResponse:
    lines = (event.to_json() + b"\n" async for event in follow(question, on_exit))
    return StreamingResponse(lines, media_type="application/x-ndjson")


@app.get("/sse")
async def sse(question: str, on_exit: OnExit = "stop") -> StreamingResponse:
    frames = (b"id: %d\ndata: %s\n\n" % (event.seq, event.to_json()) async for event in follow(question, on_exit))
    return StreamingResponse(frames, media_type="text/event-stream")


if __name__ == "__main__":
    uvicorn.run(app, timeout_graceful_shutdown=5)  # so long an open stream may hold up Ctrl-C
