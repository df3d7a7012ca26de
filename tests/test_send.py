"""Messages into a running run: where they come to stand, who hears of them, and what becomes of those that do not."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import msgspec
import pytest

from greenroom import Agent, Limits, RunEnded, System, WouldDeadlock
from greenroom.agents.machine import (
    Asking,
    Begin,
    CallModel,
    CallTools,
    Finish,
    Machine,
    Replied,
    Rules,
    Sent,
    StopAsked,
    ToolDone,
)
from greenroom.agents.replay import replay
from greenroom.agents.tool import Toolbox
from greenroom.journal import Began, Delivered, encode
from greenroom.journal import Replied as RepliedRecord
from greenroom.journal import Sent as SentRecord
from greenroom.providers import (
    ModelReply,
    ModelRequest,
    Scripted,
    ToolCall,
    ToolResult,
    assistant,
    call,
    image,
    tool_result,
    user,
)
from greenroom.testing import FORMATS, Interruption, StrictServer, explore, interrupt_everywhere
from greenroom.testing import run as in_fresh_loop

pytestmark = pytest.mark.anyio
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def said(messages: Any) -> list[str]:
    """Who said what, in one word each."""
    return [f"{message.role}: {message.text}" if message.text else message.role for message in messages]


def working(seconds: float = 5) -> Callable[[], Awaitable[str]]:
    async def work() -> str:
        """Work."""
        await anyio.sleep(seconds)
        return "worked"

    return work


def slow(text: str, seconds: float = 5) -> Callable[[ModelRequest], Awaitable[str]]:
    async def reply(request: ModelRequest) -> str:
        await anyio.sleep(seconds)
        return text

    return reply


# -- where a message stands


@BACKENDS
def test_asap_comes_after_the_open_tool_calls(backend: str) -> None:
    """Behind their results, in the next request; those sent first come first."""

    async def scenario() -> None:
        heard: list[Any] = []
        hooked: list[str] = []
        model = Scripted([call("work"), call("work")], "Done.")
        agent = Agent("a", model, tools=[working()], hooks={"on_message": lambda event: hooked.append(event.text)})
        async with System() as system:
            run = await system.start(agent, "Go", on_event=heard.append)
            await anyio.sleep(1)
            first = run.send("also check Paris")
            second = run.send(["and this", image("https://x.test/a.png")], when="asap")
            run.send(user("and that"))
            assert not first.delivered
            await second
            assert first.delivered
            result = await run.result()
        own = ["user: Go", "assistant", "tool", "tool", "user: also check Paris", "user: and this", "user: and that"]
        assert said(model.requests[1].messages) == own
        assert said(result.messages) == [*own, "assistant: Done."]
        kinds = [(event.type, event.message_id) for event in heard if event.type.startswith("message.")]
        assert kinds == [(f"message.{word}", id) for word in ("queued", "delivered") for id in "123"]
        assert hooked == ["also check Paris", "and this", "and that"]
        assert result.output == "Done."

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_asap_comes_after_the_answer_that_is_under_way(backend: str) -> None:
    """The run goes on instead of completing."""

    async def scenario() -> None:
        model = Scripted(slow("Rain."), "Sun.")
        async with System() as system:
            run = await system.start(Agent("a", model), "Oslo?")
            await anyio.sleep(1)
            run.send("and Rome?")
            result = await run.result()
        assert said(result.messages) == ["user: Oslo?", "assistant: Rain.", "user: and Rome?", "assistant: Sun."]
        assert (result.output, result.status, len(model.requests)) == ("Sun.", "completed", 2)

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_idle_waits_until_the_run_would_be_over(backend: str) -> None:
    """Tools and urgent messages go before it, also those that are sent later."""

    async def scenario() -> None:
        model = Scripted([call("work")], slow("Rain."), "Sun.", "Snow.")
        async with System() as system:
            run = await system.start(Agent("a", model, tools=[working()]), "Oslo?")
            await anyio.sleep(1)
            run.send("then Bonn?", when="idle")
            await anyio.sleep(5)
            run.send("and Rome?")
            result = await run.result()
        assert said(result.messages)[3:] == [
            "assistant: Rain.",
            "user: and Rome?",
            "assistant: Sun.",
            "user: then Bonn?",
            "assistant: Snow.",
        ]

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_a_message_before_the_first_request_is_in_it(backend: str) -> None:
    """Sent to a run that has not begun, or waits for its turn."""

    async def scenario() -> None:
        model = Scripted(slow("first"), "Fine.")
        agent = Agent("a", model)
        async with System(max_running=1) as system:
            await system.start(agent, "first")
            run = await system.start(agent, "Go")
            run.send("at once")
            await anyio.sleep(1)
            run.send("while it waits")
            result = await run.result()
        assert said(result.messages) == ["user: Go", "user: at once", "user: while it waits", "assistant: Fine."]
        assert said(model.requests[1].messages) == ["user: Go", "user: at once", "user: while it waits"]

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_messages_from_another_thread_keep_their_order(backend: str) -> None:
    """`send` is a plain function, like `stop`."""

    async def scenario() -> None:
        release = threading.Event()

        def block() -> str:
            """Block."""
            release.wait(10)
            return "blocked"

        def send() -> None:
            for number in range(20):
                run.send(str(number))
            release.set()

        async with System() as system:
            run = await system.start(Agent("a", Scripted([call("block")], "Fine."), tools=[block]), "Go")
            thread = threading.Thread(target=send)
            thread.start()
            with anyio.fail_after(10):
                result = await run.result()
            thread.join()
        sent = [message.text for message in result.messages if message.role == "user"][1:]
        assert sent == [str(number) for number in range(20)]

    in_fresh_loop(scenario, backend=backend, virtual_time=False)


@pytest.mark.parametrize("when", ["asap", "idle"])
@pytest.mark.parametrize("family", sorted(FORMATS))
async def test_no_family_refuses_a_message_in_between(family: str, when: Any) -> None:
    """After tool results, and after an answer."""
    async with StrictServer(family, [[call("work")], "Rain.", "Sun."]) as server:
        agent = Agent("a", server.provider("some-model"), tools=[working(0)])

        def send(event: Any) -> None:
            if event.type == "tool.started":
                run.send("also Rome", when=when)
            elif event.type == "model.completed" and not event.tool_calls and len(server.requests) == 2:
                run.send("and Bonn", when=when)

        async with System() as system:
            run = await system.start(agent, "Go", on_event=send)
            result = await run.result()
        assert server.refusals == []
        assert [message.text for message in result.messages if message.role == "user"] == [
            "Go",
            "also Rome",
            "and Bonn",
        ]


# -- those that do not arrive


@BACKENDS
def test_a_run_that_has_ended_takes_no_message(backend: str) -> None:
    """The error carries it, ready to be sent to another run."""

    async def scenario() -> None:
        agent = Agent("a", Scripted("Fine.", "Sun."))
        async with System() as system:
            run = await system.start(agent, "Go")
            result = await run.result()
            with pytest.raises(RunEnded) as caught:
                run.send("and Rome?")
            assert caught.value.message == user("and Rome?")
            assert (await agent.run(caught.value.message, history=result)).output == "Sun."

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_a_message_that_the_run_did_not_get_to_is_given_back(backend: str) -> None:
    """Whoever awaits it is told; it is a dead letter in any case."""

    async def scenario() -> None:
        async with System() as system:
            run = await system.start(Agent("a", Scripted(slow("never"))), "Go")
            await anyio.sleep(1)
            letter = run.send("and Rome?")
            run.send("and Bonn?", when="idle")
            result = await run.stop()
            with pytest.raises(RunEnded) as caught:
                await letter
            assert caught.value.message.text == "and Rome?"
            assert [letter.message.text for letter in system.dead_letters] == ["and Rome?", "and Bonn?"]
        assert said(result.messages) == ["user: Go"]

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_a_run_with_no_turn_left_completes(backend: str) -> None:
    """Its answer counts; it is no limit that the run has reached by itself."""

    async def scenario() -> None:
        async with System() as system:
            run = await system.start(Agent("a", Scripted(slow("Rain."))), "Go", limits=Limits(turns=1))
            await anyio.sleep(1)
            letter = run.send("and Rome?")
            assert (await run.result()).output == "Rain."
            with pytest.raises(RunEnded):
                await letter

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_a_tool_may_send_to_its_run_but_not_wait_for_it(backend: str) -> None:
    """The message is delivered after the tool has ended."""

    async def scenario() -> None:
        async def whisper() -> str:
            """Whisper."""
            letter = run.send("from within")
            with pytest.raises(WouldDeadlock):
                await letter
            return "whispered"

        async with System() as system:
            run = await system.start(Agent("a", Scripted([call("whisper")], "Fine."), tools=[whisper]), "Go")
            result = await run.result()
        assert said(result.messages) == ["user: Go", "assistant", "tool", "user: from within", "assistant: Fine."]

    in_fresh_loop(scenario, backend=backend)


@pytest.mark.parametrize(
    ("message", "when", "error"),
    [
        ("Hello", "later", "when='later'"),
        (assistant("Hello"), "asap", "role 'assistant'"),
        (tool_result("1", "x"), "asap", "role 'tool'"),
        ([user("a"), user("b")], "asap", "one message, not 2"),
        (3, "asap", "not int"),
    ],
)
async def test_what_cannot_be_sent(message: Any, when: Any, error: str) -> None:
    """One clear line, and the run does not notice."""
    async with System() as system:
        run = await system.start(Agent("a", Scripted("Fine.")), "Go")
        with pytest.raises((TypeError, ValueError), match=error):
            run.send(message, when)
        assert len((await run.result()).messages) == 2


# -- every order, every moment


def test_a_message_in_every_order(seeds: range) -> None:
    """Nothing is lost or doubled, and the order is kept, whichever task runs first."""

    async def scenario() -> None:
        async with System() as system:
            model = Scripted([call("work")], *["Fine."] * 5)
            run = await system.start(Agent("a", model, tools=[working(0)]), "Go")

            async def send() -> None:
                for number in range(3):
                    await anyio.lowlevel.checkpoint()
                    try:
                        letters.append(run.send(str(number), when=("asap", "idle")[number % 2]))
                    except RunEnded:
                        return

            letters: list[Any] = []
            async with anyio.create_task_group() as group:
                group.start_soon(send)
                result = await run.result()
            texts = [message.text for message in result.messages if message.role == "user"][1:]
            assert sorted(texts) == [letter.message.text for letter in letters if letter.delivered]
            assert all(letter.delivered or letter.error for letter in letters)
            assert result.messages[-1].role == "assistant"

    explore(scenario, seeds=seeds[:60])


@BACKENDS
def test_a_message_at_every_step(backend: str) -> None:
    """Whenever it is sent, it is in the conversation once, or given back."""

    async def scenario(interruption: Interruption) -> None:
        letters: list[Any] = []

        def send() -> None:
            try:
                letters.append(run.send("in between"))
            except RunEnded:
                letters.append(None)

        model = Scripted([call("work")], "Rain.", "Sun.")
        async with System() as system:
            run = await system.start(Agent("a", model, tools=[working(0)]), "Go")
            interruption.arm(send)
            result = await run.result()
        texts = [message.text for message in result.messages if message.role == "user"]
        if letters and letters[0] is not None:
            assert letters[0].delivered is ("in between" in texts)
            assert letters[0].delivered or letters[0].error
        assert texts.count("in between") <= 1
        calls = [each.id for message in result.messages for each in message.tool_calls]
        position = next(number for number, message in enumerate(result.messages) if message.tool_calls)
        assert [each.call_id for each in result.messages[position + 1].tool_results] == calls
        assert result.status == "completed"

    assert interrupt_everywhere(scenario, backend=backend) > 10


@BACKENDS
def test_a_run_that_crashes_keeps_its_messages(backend: str) -> None:
    """Journalled when they are taken: one that was delivered is not lost, one that was queued not doubled."""

    async def scenario() -> None:
        crashes = 0

        def instructions(context: Any) -> str:
            nonlocal crashes
            crashes += 1
            if crashes in (2, 3):
                raise RuntimeError("a bug")
            return "Be brief."

        model = Scripted([call("work")], slow("Rain."), "Sun.")
        agent = Agent("a", model, tools=[working()], instructions=instructions)
        async with System() as system:
            run = await system.start(agent, "Go")
            run.send("zero")
            await anyio.sleep(1)
            letter = run.send("one")
            run.send("two", when="idle")
            await letter
            result = await run.result()
        first = ["user: Go", "user: zero", "assistant", "tool", "user: one"]
        assert said(result.messages) == [*first, "assistant: Rain.", "user: two", "assistant: Sun."]

    in_fresh_loop(scenario, backend=backend)


# -- the core


def machine(**rules: Any) -> Machine:
    return Machine(Rules(lambda each: None, lambda message: message.text, **rules), (), (user("Go"),))


def reply(text: str, *ids: str, stop_reason: Any = None) -> Replied:
    calls = [ToolCall(id, "work", {}, "{}") for id in ids]
    return Replied(ModelReply(assistant(text, tool_calls=calls), stop_reason))


def test_a_message_never_parts_a_call_from_its_result() -> None:
    """It waits in the machine until the next request is made."""
    run = machine()
    run.handle(Begin())
    run.handle(reply("", "1", "2"))
    assert run.handle(Sent("m", "asap", user("now"))) == []
    run.handle(Asking())  # no request is made now
    run.handle(ToolDone(ToolResult("2", "x")))
    assert run.handle(ToolDone(ToolResult("1", "x"))) == [CallModel()]
    assert [message.role for message in run.messages] == ["user", "assistant", "tool", "tool"]
    assert [sent.id for sent in run.due] == ["m"]
    run.handle(Asking())
    run.handle(Asking())
    assert [message.role for message in run.messages][4:] == ["user"]
    assert run.due == ()


def test_nothing_is_put_into_an_answer_that_the_provider_has_suspended() -> None:
    """It is sent back as it is; the message comes after its end."""
    run = machine()
    run.handle(Begin())
    run.handle(Sent("m", "asap", user("now")))
    run.handle(Asking())
    run.handle(Sent("n", "asap", user("later")))
    assert run.handle(reply("half", stop_reason="pause")) == [CallModel()]
    run.handle(Asking())
    assert [message.text for message in run.messages] == ["Go", "now", "half"]
    assert run.handle(reply("whole", stop_reason="stop")) == [CallModel()]
    run.handle(Asking())
    assert [message.text for message in run.messages][3:] == ["whole", "later"]


def test_a_run_that_is_to_stop_completes_all_the_same() -> None:
    """After its turn: the answer is there, and the message is not waited for."""
    run = machine()
    run.handle(Begin())
    run.handle(Sent("m", "asap", user("now")))
    run.handle(StopAsked("after_turn", "user"))
    assert run.handle(reply("done")) == [Finish("completed", "answered", "done")]
    run.handle(Sent("n", "asap", user("late")))
    assert [sent.id for sent in run.due] == ["m"]


def test_a_replayed_machine_knows_what_was_sent() -> None:
    """What was delivered stands where it stood; what was queued is still due."""
    records = [
        Began("r", "a", [], []),
        SentRecord("1", "asap", msgspec.to_builtins(user("one"))),
        Delivered(["1"]),
        SentRecord("2", "asap", msgspec.to_builtins(user("two"))),
        SentRecord("3", "idle", msgspec.to_builtins(user("three"))),
        RepliedRecord(msgspec.to_builtins(ModelReply(assistant("Rain.")))),
    ]
    run = machine()
    past = replay(run, [encode(record) for record in records], Toolbox([]))
    assert (past.effects, past.made_up, past.sent) == ([CallModel()], [], 3)
    assert said(run.messages) == ["user: Go", "user: one", "assistant: Rain."]
    assert [sent.message.text for sent in run.due] == ["two"]


def test_the_last_call_of_a_reply_that_was_cut_off_does_not_run() -> None:
    """Its arguments parse, and may be half of what the model meant: it is told so, and the others run."""
    run = machine()
    run.handle(Begin())
    effects = run.handle(reply("Let me see.", "1", "2", stop_reason="length"))
    assert [[each.id for each in effect.calls] for effect in effects if isinstance(effect, CallTools)] == [["1"]]
    assert run.handle(ToolDone(ToolResult("1", "x"))) == [CallModel()]
    [cut] = [each for message in run.messages for each in message.tool_results if each.call_id == "2"]
    assert (cut.is_error, cut.cause) == (True, "invalid")
    assert "limit on output tokens" in cut.content
    assert run.handle(reply("", "3", stop_reason="length")) == [CallModel()]
    ran = run.handle(reply("", "4", stop_reason="tool_calls"))
    assert isinstance(ran[0], CallTools)


async def test_a_cut_call_is_not_run() -> None:
    """In a whole run: it has no start, and one result."""
    ran: list[int] = []

    async def pay(amount: int) -> str:
        """Pay."""
        ran.append(amount)
        return "paid"

    def cut(request: ModelRequest) -> ModelReply:
        return ModelReply(assistant("", tool_calls=[ToolCall("1", "pay", {"amount": 10}, '{"amount": 10}')]), "length")

    heard: list[Any] = []
    result = await Agent("a", Scripted(cut, "Sorry."), tools=[pay]).run("Go", on_event=heard.append)
    assert (ran, result.output) == ([], "Sorry.")
    assert [each.cause for message in result.messages for each in message.tool_results] == ["invalid"]
    assert "tool.started" not in [event.type for event in heard]


# -- pauses


@BACKENDS
def test_a_paused_run_finishes_its_step_and_rests(backend: str) -> None:
    """No model call and no tool begins until it is resumed; the tree and the events say so."""

    async def scenario() -> None:
        heard: list[Any] = []
        model = Scripted([call("work"), call("work")], "Fine.")
        agent = Agent("a", model, tools=[working()], parallel_tools=1)
        async with System() as system:
            run = await system.start(agent, "Go", on_event=heard.append)
            await anyio.sleep(1)
            run.pause()
            run.pause()
            assert "pausing" in str(run.tree())
            await anyio.sleep(100)
            assert "paused" in str(run.tree())
            assert [event.type for event in heard][-2:] == ["tool.completed", "run.paused"]
            run.resume()
            await anyio.sleep(1)
            assert [event.type for event in heard][-2:] == ["run.resumed", "tool.started"]
            run.pause()
            await anyio.sleep(100)
            assert len(model.requests) == 1
            assert [event.type for event in heard][-2:] == ["turn.ended", "run.paused"]
            run.send("by the way")
            run.resume()
            run.resume()
            result = await run.result()
        assert said(result.messages)[-2:] == ["user: by the way", "assistant: Fine."]
        assert [event.type for event in heard].count("run.resumed") == 2

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
@pytest.mark.parametrize("mode", ["now", "after_tools", "after_turn"])
@pytest.mark.parametrize("at", ["model", "tool", "start"])
def test_a_paused_run_can_be_stopped(backend: str, at: str, mode: Any) -> None:
    """Scenario 57: at once, whatever the mode: there is nothing at work that it could wait for."""

    async def scenario() -> None:
        lines = [[call("work"), call("work")], "Fine."] if at == "tool" else [slow("Rain."), "no"]
        model = Scripted(*lines)
        async with System() as system:
            run = await system.start(Agent("a", model, tools=[working()], parallel_tools=1), "Go")
            if at != "start":
                await anyio.sleep(1)
            run.pause()
            if at == "model":
                run.send("and Rome?")
            await anyio.sleep(100)
            asked = len(model.requests)
            began = anyio.current_time()
            result = await run.stop(mode)
            assert anyio.current_time() == pytest.approx(began)
            assert (result.status, result.reason, len(model.requests)) == ("stopped", "user", asked)
        causes = [each.cause for message in result.messages for each in message.tool_results]
        assert causes == ([None, "cancelled"] if at == "tool" else [])

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
def test_a_pause_holds_for_subagents(backend: str) -> None:
    """Theirs is the same work; resuming the root resumes them all."""

    async def scenario() -> None:
        model = Scripted([call("work")], "Expertise.")
        expert = Agent("expert", model, tools=[working()])
        agent = Agent("boss", Scripted([call("expert", prompt="Go")], "Fine."), tools=[expert])
        async with System() as system:
            run = await system.start(agent, "Go")
            await anyio.sleep(1)
            run.pause()
            await anyio.sleep(100)
            assert len(model.requests) == 1
            assert "paused" in str(run.tree())
            thread = threading.Thread(target=run.resume)
            thread.start()
            thread.join()
            assert (await run.result()).output == "Fine."

    in_fresh_loop(scenario, backend=backend)


@BACKENDS
@pytest.mark.parametrize("then", ["resume", "stop"])
def test_a_pause_at_every_step(backend: str, then: str) -> None:
    """Whenever it comes, the run goes on afterwards, or can be stopped."""

    async def scenario(interruption: Interruption) -> None:
        model = Scripted([call("work"), call("work")], "Fine.")
        async with System() as system:
            run = await system.start(Agent("a", model, tools=[working(0)], parallel_tools=1), "Go")
            interruption.arm(run.pause)
            await anyio.sleep(1)
            assert (run.status == "completed") is not ("paused" in str(run.tree()))
            end = partial(run.stop, "after_turn") if then == "stop" else run.resume
            end()
            result = await run.result()
        assert result.status in ("completed", "stopped" if then == "stop" else "completed")

    assert interrupt_everywhere(scenario, backend=backend) > 10
