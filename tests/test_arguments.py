"""What cannot work is refused where it is given, in one line that names the argument and the remedy."""

from __future__ import annotations

import builtins
import importlib
import inspect
import logging
import pydoc
import re
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NewType

import anyio
import pytest

from greenroom import (
    Actor,
    Agent,
    AgentFrozen,
    ChildSpec,
    Context,
    ContextWindow,
    Hooks,
    LimitExceeded,
    Limits,
    ModelSettings,
    Retry,
    RunContext,
    Supervision,
    Supervisor,
    System,
    UnknownOption,
    tool,
)
from greenroom.agents import stage as stages
from greenroom.agents import system as systems
from greenroom.agents.hooks import call_observer
from greenroom.cli import status_of
from greenroom.journal import MemoryJournal
from greenroom.providers import GateLimits, Message, Price, Scripted, Timeouts, assistant, call, tool_result, user

pytestmark = pytest.mark.anyio

ROOMS = ["actors", "agents", "events", "journal", "load", "mailbox", "providers"]


@pytest.mark.parametrize("place", ["greenroom", *(f"greenroom.{room}" for room in ROOMS)])
def test_help_explains_every_public_name(place: str) -> None:
    """`help()` evaluates signatures, also those of records whose types are only imported for type checkers."""
    module = importlib.import_module(place)
    assert pydoc.render_doc(module)
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if isinstance(value, type | types.FunctionType):
            assert pydoc.render_doc(value), name


@tool
async def weather(city: str) -> str:
    """Current weather in a city."""
    return f"sunny in {city}"


def helper(*script: Any, **options: Any) -> Agent[Any, Any]:
    return Agent("helper", Scripted(*(script or ("Hello!",))), **options)


def refused(make: Callable[[], Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught:
        make()
    text = str(caught.value)
    assert words in text
    assert "\n" not in text


# -- an agent


class Misspelt:
    """A namespace of things that are refused when they are made."""

    @staticmethod
    def hook() -> None:
        class Mine(Hooks):
            def on_tool_begin(self, event: Any) -> None: ...

    @staticmethod
    def class_for_hooks() -> Any:
        class Mine(Hooks): ...

        return helper(hooks=Mine)


def no_argument() -> str:
    return "Be kind."


def no_text(context: Any) -> None: ...


def generator(context: Any) -> Iterator[str]:
    yield "Be kind."


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"tools": None}, TypeError, "tools= takes a list, not None"),
        ({"tools": weather}, TypeError, "write tools=[weather]"),
        ({"tools": len}, TypeError, "write tools=[len]"),
        ({"tools": [int]}, TypeError, "int is a class"),
        ({"tools": 3}, TypeError, "tools= takes a list"),
        ({"tools": "weather"}, TypeError, "tools= takes a list"),
        ({"output_retries": "x"}, TypeError, "output_retries"),
        ({"output_retries": True}, TypeError, "output_retries"),
        ({"output_retries": -1}, ValueError, "output_retries"),
        ({"parallel_tools": "yes"}, TypeError, "parallel_tools"),
        ({"parallel_tools": 0}, ValueError, "parallel_tools"),
        ({"parallel_tools": None}, TypeError, "parallel_tools"),
        ({"description": 3}, TypeError, "description= takes text"),
        ({"settings": 3}, TypeError, "settings= takes ModelSettings"),
        ({"hooks": {3: print}}, TypeError, "there is no hook 3"),
        ({"hooks": {"on_tool_stat": print}}, TypeError, "did you mean 'on_tool_start'?"),
        ({"hooks": "on_tool_start"}, TypeError, "hooks= takes Hooks"),
        ({"hooks": 3}, TypeError, "hooks= takes Hooks"),
        ({"instructions": no_argument}, TypeError, "instructions=no_argument must take one argument"),
        ({"instructions": no_text}, TypeError, "instructions=no_text must return text"),
        ({"instructions": generator}, TypeError, "must return text"),
        ({"instructions": str}, TypeError, "instructions must be text or a function"),
        ({"api_key": "sk-secret"}, UnknownOption, "write model=OpenAIChat(…, api_key=…)"),
        ({"verbose": True}, UnknownOption, "write hooks="),
        ({"memory": 3}, TypeError, "memory= takes a store such as LocalMemory() or SqliteMemory('notes.db'), not 3"),
        ({"memory_store": 3}, UnknownOption, "write memory=3"),
        ({"top_p": 0.5}, UnknownOption, "write settings=ModelSettings(top_p=0.5)"),
        ({"handoffs": []}, UnknownOption, "write tools="),
        ({"response_model": int}, UnknownOption, "write output=int"),
        ({"deps": "x"}, UnknownOption, "write deps_type=str here, and deps=…"),
        ({"deps_type": 5}, TypeError, "deps_type= takes a type, not 5: the value is deps=… when it runs"),
        ({"deps_type": object()}, TypeError, "deps_type= takes a type"),
        ({"system": "Be kind."}, UnknownOption, "write instructions='Be kind.'"),
        ({"replan_prompt": "Think."}, ValueError, "replan_prompt= is for replan_every=: give both, or neither"),
    ],
)
def test_an_agent_refuses(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    refused(lambda: helper(**options), kind, words)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: Agent("a\nb", Scripted()), ValueError, "no control characters"),
        (lambda: Hooks(on_run_start=3), TypeError, "hook on_run_start must be a function"),  # type: ignore[arg-type]
        (Misspelt.hook, TypeError, "there is no hook 'on_tool_begin'"),
        (Misspelt.class_for_hooks, TypeError, "write hooks=Mine(…)"),
        (lambda: Supervisor(3), ValueError, "children must be a list"),  # type: ignore[arg-type]
        (lambda: Supervisor(ChildSpec("a", Actor)), ValueError, "write Supervisor([ChildSpec('a'"),  # type: ignore[arg-type]
    ],
)
def test_a_description_refuses(make: Callable[[], Any], kind: type[Exception], words: str) -> None:
    refused(make, kind, words)


@pytest.mark.parametrize(
    "kind", [dict[str, int], int | None, None, "Later", NewType("Id", int), Any, Callable[[], int]]
)
def test_an_agent_takes_whatever_stands_for_a_type(kind: Any) -> None:
    assert helper(deps_type=kind).with_(name="other").name == "other"


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: Limits(turn=3), TypeError, "Limits() has no option 'turn': did you mean 'turns'?"),  # type: ignore[call-arg]
        (lambda: Limits(zzz=3), TypeError, "Limits() has no option 'zzz': it takes turns, "),  # type: ignore[call-arg]
        (lambda: Limits(5), TypeError, "Limits() takes keywords: write Limits(turns=5)"),  # type: ignore[misc]
        (lambda: Limits(turns="x"), ValueError, "Limits(turns=)"),  # type: ignore[arg-type]
        (lambda: ContextWindow(token=3), TypeError, "ContextWindow() has no option 'token': did you mean 'tokens'?"),  # type: ignore[call-arg]
        (lambda: ContextWindow(5), TypeError, "write ContextWindow(tokens=5)"),  # type: ignore[misc]
        (lambda: Retry(attempt=3), TypeError, "Retry() has no option 'attempt': did you mean 'attempts'?"),  # type: ignore[call-arg]
        (lambda: Supervision(intensty=3), TypeError, "did you mean 'intensity'?"),  # type: ignore[call-arg]
        (lambda: ModelSettings(temprature=1), TypeError, "did you mean 'temperature'?"),  # type: ignore[call-arg]
        (lambda: GateLimits(concurency=1), TypeError, "did you mean 'concurrency'?"),  # type: ignore[call-arg]
        (lambda: Price(inputs=1.0), TypeError, "did you mean 'input'?"),  # type: ignore[call-arg]
        (lambda: Timeouts(conect=1.0), TypeError, "did you mean 'connect'?"),  # type: ignore[call-arg]
        (
            lambda: Hooks(on_tool_strat=print),  # type: ignore[call-arg]
            UnknownOption,
            "Hooks() has no option 'on_tool_strat': did you mean 'on_tool_start'?",
        ),
        (lambda: helper().as_tool(nam="x"), UnknownOption, "Agent.as_tool() has no option 'nam': did you mean 'name'?"),  # type: ignore[call-arg]
        (lambda: helper().as_handoff(nam="x"), UnknownOption, "did you mean 'name'?"),  # type: ignore[call-arg]
        (lambda: tool(description=5)(no_argument), TypeError, "tool 'no_argument': description takes text, not 5"),  # type: ignore[call-overload]
    ],
)
def test_a_wrong_word_of_a_record_is_answered_with_the_right_one(
    make: Callable[[], Any], kind: type[Exception], words: str
) -> None:
    refused(make, kind, words)


async def test_spawn_names_its_own_options() -> None:
    said: list[str] = []

    @tool
    async def begin(context: RunContext[Any]) -> str:
        """Begin something."""
        for wrong in ({"orphanx": "adopt"}, {"zzz": 1}):
            with pytest.raises(UnknownOption) as caught:
                await context.spawn(helper(), "x", **wrong)  # type: ignore[arg-type]
            said.append(str(caught.value))
        return "no"

    await helper([call("begin")], "Done.", tools=[begin]).run("Go")
    assert "did you mean 'orphan'?" in said[0]
    assert "deps" in said[1]
    assert "orphan" in said[1]


def test_an_api_key_is_not_repeated() -> None:
    with pytest.raises(UnknownOption) as caught:
        helper(api_key="sk-secret")
    assert "sk-secret" not in str(caught.value)


async def test_a_generator_is_read_once() -> None:
    """It was read twice, and the second reading found nothing."""
    model = Scripted([call("weather", city="Rome")], "done")
    agent = Agent("helper", model, tools=(each for each in [weather]))
    await agent.run("Go")
    assert [spec.name for spec in model.requests[0].tools] == ["weather"]
    assert len(agent.tools) == len(agent.with_(description="x").tools) == 1
    assert len(Supervisor(ChildSpec(name, Actor) for name in "ab").children) == 2


# -- a run


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"history": 3}, TypeError, "history= takes a result or a list of messages, not 3"),
        ({"history": user("x")}, TypeError, "write history=[…]"),
        ({"history": {"role": "user"}}, TypeError, "write history=[…]"),
        ({"history": [3]}, TypeError, "history= holds messages or OpenAI-style dictionaries, not 3"),
        ({"history": [None]}, TypeError, "history= holds messages"),
        ({"system": 3}, TypeError, "system= takes an open System"),
        ({"system": "main"}, TypeError, "system= takes an open System"),
        ({"system": System}, TypeError, "system= takes an open System"),
        ({"tags": "abc"}, TypeError, "write tags=['abc']"),
        ({"tags": ""}, TypeError, "tags="),
        ({"tags": 3}, TypeError, "tags= takes a list"),
        ({"tags": [3]}, TypeError, "3 is none"),
        ({"tags": {"a": 1}}, TypeError, "tags= takes a list"),
        ({"metadata": 3}, TypeError, "metadata= takes a dictionary"),
        ({"metadata": []}, TypeError, "metadata= takes a dictionary"),
        ({"user_id": 3}, TypeError, "write user_id='3'"),
        ({"user_id": ""}, ValueError, "user_id= must not be empty"),
        ({"conversation_id": 3}, TypeError, "conversation_id= takes text"),
        ({"run_id": 3}, TypeError, "run_id= takes text"),
        ({"run_id": ""}, ValueError, "run_id= must not be empty"),
        ({"run_id": "a/b"}, ValueError, "no slash"),
        ({"run_id": "a\ud800"}, ValueError, "run_id= must be text that UTF-8 can hold"),
        ({"user_id": "\ud800"}, ValueError, "user_id= must be text that UTF-8 can hold"),
        ({"conversation_id": "\ud800"}, ValueError, "conversation_id= must be text that UTF-8 can hold"),
        ({"on_event": 3}, TypeError, "on_event= takes a function"),
        ({"on_limit": "ignore"}, ValueError, "on_limit="),
        ({"verbose": True}, UnknownOption, "write on_event=print"),
        ({"timeout": 3}, UnknownOption, "anyio.fail_after(3)"),
        ({"stream": True}, UnknownOption, "async with agent.stream(…)"),
        ({"images": []}, UnknownOption, "image(…)"),
    ],
)
def test_a_run_refuses(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    refused(lambda: helper().run("Hi", **options), kind, words)
    if "run_id" not in options:
        refused(lambda: helper().map(["Hi"], **options), kind, words)


def test_a_run_needs_something_to_answer() -> None:
    refused(lambda: helper().run(history=[]), ValueError, "history is empty")
    refused(lambda: helper().run(tool_result("1", "sunny")), ValueError, "only results of tool calls")
    prompt = [{"role": "tool", "tool_call_id": "1", "content": "sunny"}]
    refused(lambda: helper().run(prompt), ValueError, "only results of tool calls")


async def test_a_history_of_results_names_the_remedy() -> None:
    result = await helper().run("Hi")
    refused(lambda: helper().run("Hi", history=[result]), TypeError, "give history=result")


class Markup(str):
    """Text that changes when it is put together, as template engines have it."""

    __slots__ = ()

    def __str__(self) -> str:
        return self


async def test_a_prompt_is_plain_text() -> None:
    model = Scripted("a", "b")
    agent = Agent("helper", model)
    await agent.run(Markup("Hi"))
    await agent.run([Markup("Hi")])
    for request in model.requests:
        (message,) = request.messages
        assert type(message.text) is str
        assert [type(getattr(part, "text", None)) for part in message.parts] == [str]


async def test_a_refused_call_does_not_freeze_the_agent() -> None:
    """Only a run that was really launched does."""
    agent = helper("a", "b")
    refused(lambda: agent.run("Hi", tags=3), TypeError, "tags=")
    agent.run("Hi").close()
    refused(lambda: agent.map("Hi"), TypeError, "map takes a list")
    agent.tool(weather.function)
    await agent.run("Hi")
    with pytest.raises(AgentFrozen):
        agent.tool(weather.function)


async def test_stop_and_ask_want_seconds() -> None:
    class Echo(Actor):
        async def receive(self, message: Any, context: Context) -> Any:
            return message

    async with System() as system:
        run = await system.start(helper(), "Hi")
        refused(lambda: run.stop(grace="x"), TypeError, "stop(grace=) takes seconds")  # type: ignore[arg-type]
        refused(lambda: run.stop(grace=-1), ValueError, "0 or more")
        refused(lambda: run.stop(reason=3), TypeError, "reason=")  # type: ignore[arg-type]
        await run.result()
        ref = await system.spawn(Echo)
        refused(lambda: ref.stop(grace="x"), TypeError, "stop(grace=) takes seconds")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"ask\(timeout=\) takes seconds"):
            await ref.ask(1, timeout="x")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="0 or more"):
            await ref.ask(1, timeout=float("nan"))
        assert await ref.ask(1, timeout=5) == 1


# -- map


async def numbers() -> AsyncIterator[str]:
    yield "1"


@pytest.mark.parametrize(
    ("prompts", "options", "kind", "words"),
    [
        ("Hi", {}, TypeError, "write agent.map([…])"),
        ({"a": 1}, {}, TypeError, "write agent.map([…])"),
        (user("Hi"), {}, TypeError, "write agent.map([…])"),
        (3, {}, TypeError, "map takes a list of prompts, not 3"),
        (numbers(), {}, TypeError, "read the async iterable first"),
        (["Hi"], {"concurrency": "x"}, TypeError, "concurrency must be a whole number"),
        (["Hi"], {"concurrency": 1.5}, TypeError, "concurrency must be a whole number"),
        (["Hi"], {"concurrency": 0}, ValueError, "concurrency must be at least 1"),
        (["Hi"], {"on_limit": "x"}, ValueError, "on_limit="),
        (["Hi"], {"on_eror": "raise"}, UnknownOption, "did you mean 'on_error'?"),
        (["Hi"], {"max_concurrency": 3}, UnknownOption, "write concurrency=3"),
        (["Hi"], {"return_exceptions": True}, UnknownOption, "write on_error='collect'"),
        (["Hi"], {"max_turns": 3}, UnknownOption, "write limits=Limits(turns=3)"),
        (["Hi"], {"run_id": "mine"}, TypeError, "map takes no run_id="),
        (["Hi"], {"limits": 3}, TypeError, "limits="),
    ],
)
def test_map_refuses_at_once(prompts: Any, options: dict[str, Any], kind: type[Exception], words: str) -> None:
    """Not as a result of each prompt."""
    refused(lambda: helper().map(prompts, **options), kind, words)


async def test_map_gives_every_run_the_whole_history() -> None:
    model = Scripted("a", "b")
    messages: list[Message] = [user("Hi"), assistant("Hello")]
    await Agent("helper", model).map(["1", "2"], history=(each for each in messages), concurrency=1, run_id=None)
    assert [len(request.messages) for request in model.requests] == [3, 3]


# -- a System


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"max_running": "x"}, TypeError, "max_running takes a whole number"),
        ({"max_running": 1.5}, TypeError, "max_running takes a whole number"),
        ({"max_running": 0}, ValueError, "max_running must be at least 1"),
        ({"grace": "x"}, TypeError, "grace takes a number of seconds"),
        ({"grace": -1}, ValueError, "grace must be 0 seconds or more"),
        ({"grace": float("inf")}, ValueError, "grace takes a finite number"),
        ({"intensity": "x"}, TypeError, "intensity takes a whole number"),
        ({"intensity": -1}, ValueError, "intensity must be at least 0"),
        ({"period": "x"}, TypeError, "period takes a number of seconds"),
        ({"period": 0}, ValueError, "period must be above 0"),
        ({"journal": MemoryJournal}, TypeError, "journal= takes a file's name or a Journal"),
        ({"drain_timeout": -1}, ValueError, "drain_timeout must be 0 seconds or more"),
        ({"journal": 3}, TypeError, "journal= takes a file's name or a Journal"),
        ({"sources": 3}, TypeError, "sources= takes Sources"),
        ({"name": 3}, TypeError, "name= takes text"),
        ({"name": ""}, ValueError, "name= must not be empty"),
        ({"signals": object()}, TypeError, "signals= takes True or False"),
        ({"signals": 1}, TypeError, "signals= takes True or False"),
    ],
)
def test_a_system_refuses(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    refused(lambda: System(**options), kind, words)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"takeover": "no"}, TypeError, "takeover= takes True or False, not 'no'"),
        ({"takeover": 1}, TypeError, "takeover= takes True or False, not 1"),
        ({"max_claims": 0}, ValueError, "max_claims must be a whole number, at least 1"),
        ({"max_claims": True}, ValueError, "max_claims must be a whole number"),
        ({"run_ids": "r"}, TypeError, "write run_ids=['r']"),
        ({"deps_for": 3}, TypeError, "deps_for= takes a function"),
        ({"deps": 1, "deps_for": print}, TypeError, "not both"),
        ({"on_event": 3}, TypeError, "on_event= takes a function"),
    ],
)
async def test_a_recovery_refuses(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    async with System() as system:
        with pytest.raises(kind, match=re.escape(words)):
            await system.recover([helper()], **options)


async def test_start_says_where_its_runs_live() -> None:
    async with System() as system:
        wrong: dict[str, Any] = {"system": system}
        with pytest.raises(UnknownOption, match=r"write system\.start\(…\), whose runs live in that System"):
            await system.start(helper(), "Hi", **wrong)


async def test_start_wants_an_agent_first() -> None:
    async with System() as system:
        for wrong in ("a", Agent, None):
            with pytest.raises(TypeError, match=r"system\.start\(agent, prompt\)"):
                await system.start(wrong, "q")  # type: ignore[arg-type]


async def test_a_system_that_cannot_open_is_closed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error leaves bare, and nothing of the System stays behind."""

    def broken(**options: Any) -> Any:
        raise OSError("no stage")

    with monkeypatch.context() as patch:
        patch.setattr(systems, "RunStage", broken)
        system = System()
        with anyio.fail_after(5), pytest.raises(OSError, match="no stage"):
            await system.__aenter__()
        assert not system.is_open
        assert stages.open_system() is None
    assert (await helper().run("Hi")).output == "Hello!"


async def test_a_system_of_another_loop_is_refused(anyio_backend: str) -> None:
    """From another thread's loop, and by `run_sync`, which would wait for itself for ever."""
    said: list[str] = []

    async with System(name="main") as system:

        async def elsewhere() -> None:
            for attempt in (
                lambda: helper().run("Hi", system=system),
                lambda: system.start(helper(), "Hi"),
                lambda: helper().stream("Hi", system=system).__aenter__(),
                lambda: helper().map(["Hi"], system=system),
            ):
                with pytest.raises(RuntimeError) as caught:
                    await attempt()
                said.append(str(caught.value))

        await anyio.to_thread.run_sync(lambda: anyio.run(elsewhere, backend=anyio_backend))
        assert len(said) == 4
        assert all("System 'main' lives in another event loop" in text for text in said)
        refused(lambda: helper().run_sync("Hi", system=system), ValueError, "lives in another event loop")
        refused(lambda: helper().run_sync("Hi", system=3), TypeError, "system= takes an open System")
        assert (await helper().run("Hi", system=system)).output == "Hello!"


async def test_a_system_of_an_earlier_loop_in_this_thread_is_refused() -> None:
    """The thread alone does not tell loops apart."""
    async with System(name="main") as system:
        system._loop = object()
        with pytest.raises(RuntimeError, match="another event loop"):
            await helper().run("Hi", system=system)


# -- observers


EVENT: Any = types.SimpleNamespace(type="run_started", run_id="run-1")


async def test_an_observer_may_return_anything(caplog: pytest.LogCaptureFixture) -> None:
    """`sys.stdout.write` returns a number, which was awaited."""
    with caplog.at_level(logging.ERROR, "greenroom"):
        assert (await helper().run("Hi", on_event=lambda event: sys.stdout.write(""))).output == "Hello!"
        assert (await helper(hooks=Hooks(on_run_start=lambda event: 3)).run("Hi")).output == "Hello!"  # type: ignore[arg-type,return-value]
    assert caplog.records == []


class Odd(BaseException):
    """No error, and no interrupt either."""


@pytest.mark.parametrize("kind", [Odd, GeneratorExit, "cancelled"])
@pytest.mark.parametrize("is_async", [False, True])
async def test_what_an_observer_raises_never_leaves(
    kind: Any, is_async: bool, anyio_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    def make() -> BaseException:
        if kind != "cancelled":
            return kind()
        cancelled = anyio.get_cancelled_exc_class()
        return cancelled._create() if anyio_backend == "trio" and hasattr(cancelled, "_create") else _raised(cancelled)

    def observe(event: Any) -> None:
        raise make()

    async def observe_async(event: Any) -> None:
        raise make()

    with caplog.at_level(logging.ERROR, "greenroom"):
        result = await helper().run("Hi", on_event=observe_async if is_async else observe)
    assert result.output == "Hello!"
    assert "an observer failed" in caplog.text


def _raised(kind: type[BaseException]) -> BaseException:
    try:
        return kind()
    except TypeError:  # trio makes its own
        pytest.skip("cannot be made by hand")


async def test_what_comes_from_outside_passes_an_observer() -> None:
    """A cancellation of the caller, an interrupt, and the closing of the coroutine."""

    async def wait(event: Any) -> None:
        await anyio.sleep_forever()

    with anyio.move_on_after(0.01) as scope:
        await call_observer(wait, EVENT)
    assert scope.cancelled_caught

    def interrupt(event: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await call_observer(interrupt, EVENT)

    class Suspended:
        def __await__(self) -> Iterator[None]:
            yield

    coroutine = call_observer(lambda event: Suspended(), EVENT)
    coroutine.send(None)
    coroutine.close()  # would be a RuntimeError if the closing were swallowed


# -- what was forgotten, and what is shown


async def test_a_forgotten_await_explains_itself() -> None:
    pending: Any = helper().run("Hi")
    for use in (len, list, lambda each: each[0], lambda each: "x" in each):
        with pytest.raises(TypeError, match=r"write `await agent\.run\(…\)`"):
            use(pending)
    with pytest.raises(TypeError, match=r"async with agent\.stream"):
        async with pending:
            pass
    with pytest.raises(TypeError, match=r"async with agent\.stream"):
        async for _ in pending:
            pass
    assert bool(pending)
    assert (await pending).output == "Hello!"
    stream: Any = helper().stream("Hi")
    with pytest.raises(TypeError, match="async with"), stream:
        pass


async def test_what_is_shown() -> None:
    system = System(name="main", max_running=3)
    assert repr(system) == "<System 'main': not open, max_running=3>"
    async with system:
        assert repr(system) == "<System 'main': open, max_running=3>"
        stream = helper().stream("Hi", run_id="mine")
        assert repr(stream) == "<stream of agent 'helper': not entered>"
        async with stream as run:
            assert repr(stream) == "<stream of agent 'helper': run 'mine'>"
            stopping = run.stop()
            assert "asked for" in repr(stopping)
            assert "mine" in repr(stopping)
    assert repr(system) == "<System 'main': closed, max_running=3>"
    assert repr(Hooks(on_run_start=print)) == "Hooks(on_run_start)"
    assert repr(Supervisor([ChildSpec("a", Actor)])).startswith("Supervisor([ChildSpec('a'")


async def test_a_shared_error_does_not_grow() -> None:
    """All who wait are given one object; its traceback is that of the last one."""

    def frames(error: BaseException) -> int:
        count, traceback = 0, error.__traceback__
        while traceback is not None:
            count, traceback = count + 1, traceback.tb_next
        return count

    async with System() as system:
        run = await system.start(helper(), "Hi", limits=Limits(turns=0))
        lengths: list[int] = []
        for _ in range(20):
            with pytest.raises(LimitExceeded) as caught:
                await run.result()
            lengths.append(frames(caught.value))
    assert len(set(lengths)) == 1


async def test_a_stream_that_waits_and_is_cancelled_stops_its_run() -> None:
    """Nobody else would see to the run's end."""
    began = anyio.Event()

    async def stuck() -> str:
        """Wait."""
        began.set()
        await anyio.sleep_forever()
        return ""

    async with System():
        agent = helper([call("stuck")], "done", tools=[stuck])
        with anyio.CancelScope() as scope:
            async with agent.stream("Go", on_exit="wait") as run:
                await began.wait()
                scope.cancel()
        assert scope.cancelled_caught
        with anyio.fail_after(5):
            result = await run.result()
        assert (result.status, result.reason) == ("stopped", "abandoned")


# -- the command line


def test_the_command_line_does_not_name_options_that_it_lacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert status_of(["run", "Hi", "--model", "openai:gpt-5-mini"]) in (1, 2)
    said = capsys.readouterr().err
    assert "OPENAI_API_KEY" in said
    assert "api_key=" not in said


def test_a_piped_table_has_no_blanks_at_its_ends(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(["demo", "--runs", "3", "--faults", "0", "--latency", "1ms-2ms"]) in (0, 1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 3
    assert [line for line in lines if line != line.rstrip()] == []


def raised_by(thing: Any) -> Iterator[str]:
    """The names of the errors that docstrings promise, of a function, or of a class and its methods."""
    methods = [getattr(each, "__func__", each) for each in vars(thing).values()] if isinstance(thing, type) else []
    for each in (thing, *filter(callable, methods)):
        _, _, section = (inspect.getdoc(each) or "").partition("Raises:\n")
        for names in re.findall(r"^ {4}((?:[A-Z]\w+(?:, )?)+):", section, re.MULTILINE):
            yield from names.split(", ")


def test_what_may_be_raised_can_be_caught_by_a_public_name() -> None:
    """At the front door, or at that of a room."""
    front = importlib.import_module("greenroom")
    doors = [builtins, front, *(importlib.import_module(f"greenroom.{room}") for room in ROOMS)]
    promised = {name for public in front.__all__ for name in raised_by(getattr(front, public))}
    assert {"SystemBusy", "LimitExceeded", "UnknownRun"} <= promised
    assert {name for name in promised if not any(hasattr(door, name) for door in doors)} == set()
    assert {"SystemBusy", "PriceUnknown", "SeveralSystems", "ConversationBusy"} <= set(front.__all__)
