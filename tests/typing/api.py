"""What type checkers see of the public names. Checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_type

from greenroom import Agent, Hooks, Limits, Run, RunContext, RunResult, System, Tool, events, tool
from greenroom.actors import Actor, ActorRef, ActorSystem, ChildSpec, Context, Exit, Supervisor, SupervisorRef
from greenroom.mailbox import MailboxStatistics
from greenroom.providers import (
    Message,
    ModelReply,
    ModelRequest,
    Provider,
    Scripted,
    ToolCall,
    Usage,
    assistant,
    call,
    connect,
    user,
)


@dataclass
class Weather:
    city: str
    degrees: float


@dataclass
class Service:
    units: str


@tool
async def look_up(city: str) -> str:
    return city


@tool(timeout=10)
def measure(context: RunContext[Service], city: str) -> float:
    assert_type(context.deps, Service)
    return float(len(city))


async def tools() -> None:
    assert_type(await look_up(city="Tokyo"), str)
    listed: list[Tool[..., Any]] = [look_up, measure]
    print(listed)
    assert_type(measure.name, str)


async def agents() -> None:
    plain = Agent("plain", model="openai:gpt-5-mini", tools=[look_up])
    assert_type(plain, Agent[None, str])
    assert_type(await plain.run("Hi"), RunResult[str])
    assert_type(plain.run_sync("Hi"), RunResult[str])
    assert_type((await plain.run("Hi")).output, str)

    typed = Agent("typed", model=Scripted(), output=Weather, deps_type=Service, tools=[measure], limits=Limits(turns=5))
    assert_type(typed, Agent[Service, Weather])
    assert_type((await typed.run("Hi", deps=Service("metric"))).output, Weather)
    assert_type(await typed.map(["Hi", "Ho"]), list[RunResult[Weather] | Exception])
    assert_type(await typed.map(["Hi", "Ho"], on_error="raise"), list[RunResult[Weather]])

    async with plain.stream("Hi") as run:
        assert_type(run, Run[str])
        async for piece in run.text():
            assert_type(piece, str)
        assert_type(await run.result(), RunResult[str])


def on_tool(event: events.ToolStarted) -> None:
    assert_type(event.tool, str)


async def on_end(
    event: events.RunCompleted | events.RunStopped | events.RunLimited | events.RunWaiting | events.RunFailed,
) -> None:
    assert_type(event.usage, Usage)


def hooks() -> None:
    listening = Hooks(on_tool_start=on_tool, on_run_end=on_end, on_stop=lambda event: print(event.outlived))
    assert_type(Agent("watched", Scripted(), hooks=listening), Agent[None, str])
    assert_type(Agent("watched", Scripted(), hooks={"on_tool_start": on_tool}), Agent[None, str])


async def systems() -> None:
    async with System(max_running=10) as system:
        assert_type(system, System)
        run = await system.start(Agent("plain", model=Scripted()), "Hi", user_id="u1")
        assert_type(run, Run[str])
        assert_type(await run.stop("after_turn"), RunResult[str])


class Counter(Actor):
    async def receive(self, message: int, context: Context) -> int:
        return message + context.restarts


async def actors() -> None:
    async with ActorSystem(name="typing") as system:
        ref = await system.spawn(Counter, name="counter")
        assert_type(await ref.ask(1, timeout=1.0), Any)
        assert_type(ref.statistics(), MailboxStatistics)
        assert_type(ref.exit, Exit | None)
        assert_type(system.actor("counter"), ActorRef[Any] | None)
        await ref.stop(grace=1.0)
        team = Supervisor([ChildSpec("counter", Counter, restart="transient")], strategy="rest_for_one")
        assert_type(await system.spawn(team), SupervisorRef)


class Echo(Provider):
    async def complete(self, request: ModelRequest) -> ModelReply:
        return ModelReply(assistant(request.messages[-1].text), "stop")


async def providers() -> None:
    assert_type(connect("openai:gpt-5-mini"), Provider)
    async with Scripted("Hello", [call("weather", city="Tokyo")], usage=Usage(input_tokens=1)) as provider:
        reply = await provider.complete(ModelRequest([user("Hi")]))
        assert_type(reply.message, Message)
        assert_type(reply.message.tool_calls, tuple[ToolCall, ...])
        async with provider.stream(ModelRequest([user("Hi")])) as events:
            async for event in events:
                print(event)
            assert_type(events.reply, ModelReply)


def messages() -> Sequence[Message]:
    return [user("Hi"), assistant("Hello")]


async def outputs_that_are_no_class() -> None:
    union: Agent[None, Any] = Agent("union", "openai:gpt-5-mini", output=Weather | None)
    assert_type(await union.run("Hi"), RunResult[Any])
    with_deps = Agent("union", "openai:gpt-5-mini", output=int | str, deps_type=Service)
    assert_type(with_deps, Agent[Service, Any])
    assert_type(await with_deps.run("Hi", deps=Service("metric")), RunResult[Any])
