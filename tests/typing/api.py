"""What type checkers see of the public names. Checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_type

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
