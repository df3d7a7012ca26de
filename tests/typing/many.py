"""What type checkers see of several runs at once, and of a System in a thread. Checked, never run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

from greenroom import (
    Agent,
    Run,
    RunResult,
    System,
    ThreadRun,
    ThreadSystem,
    quorum,
    race,
    wait_all,
    wait_any,
)
from greenroom.agents import ThreadConversation
from greenroom.providers import Scripted


@dataclass
class Weather:
    city: str


@dataclass
class Service:
    units: str


plain = Agent("plain", model=Scripted())
typed = Agent("typed", model=Scripted(), output=Weather, deps_type=Service)


async def one() -> int:
    return 1


async def joint(system: System) -> None:
    assert_type(await race(plain.run("Hi"), plain.run("Ho")), RunResult[str])
    assert_type(await race(one(), one()), int)
    found = await quorum(
        typed.run("Hi", deps=Service("m")), typed.run("Ho", deps=Service("m")), need=1, agree=lambda each: each.output
    )
    assert_type(found, list[RunResult[Weather]])
    first, second = await system.start(plain, "Hi"), await system.start(plain, "Ho")
    assert_type(await wait_any(first, second), list[Run[str]])
    assert_type(await wait_all(first, second), list[Run[str]])


async def as_completed() -> None:
    async with typed.as_completed(["Hi"], deps=Service("m")) as results:
        async for index, result in results:
            assert_type(index, int)
            assert_type(result, RunResult[Weather] | Exception)
    async with plain.as_completed(["Hi"], on_error="raise", concurrency=3) as sure:
        async for _, each in sure:
            assert_type(each, RunResult[str])


def blocking() -> None:
    with System.in_thread(backend="trio", max_running=3, journal="runs.db") as system:
        assert_type(system, ThreadSystem)
        assert_type(system.run(plain, "Hi"), RunResult[str])
        assert_type(system.run(typed, "Hi", deps=Service("m"), user_id="u").output, Weather)
        assert_type(system.map(typed, ["Hi"]), list[RunResult[Weather] | Exception])
        assert_type(system.map(typed, ["Hi"], on_error="raise"), list[RunResult[Weather]])
        run = system.start(typed, "Hi", deps=Service("m"))
        assert_type(run, ThreadRun[Weather])
        assert_type(run.stop().result(timeout=3), RunResult[Weather])
        with system.stream(plain, "Hi") as streamed:
            assert_type(streamed, ThreadRun[str])
            for piece in streamed.text():
                assert_type(piece, str)
            for event in streamed:
                print(event.type)
        with system.as_completed(typed, ["Hi"]) as results:
            for index, result in results:
                assert_type(index, int)
                assert_type(result, RunResult[Weather] | Exception)
        chat = system.conversation(typed, "c1", user_id="u1")
        assert_type(chat, ThreadConversation[Weather])
        assert_type(chat.ask("Hi"), RunResult[Weather])
        assert_type(system.find("r1"), ThreadRun[Any] | None)
