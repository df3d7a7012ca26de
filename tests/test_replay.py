"""From a journal back to a machine: what is recorded is not done again, what was in flight follows its tool."""

from __future__ import annotations

import msgspec

from greenroom import tool
from greenroom.agents.machine import CallModel, CallTools, CancelModel, Effect, Machine, Rules, State
from greenroom.agents.replay import replay
from greenroom.agents.tool import Toolbox
from greenroom.journal import Answered, Began, Happened, Intended, Record, Replied, Stopping, encode
from greenroom.providers import ModelReply, ToolCall, ToolResult, assistant, user


@tool
async def charge() -> str:
    """Must not run twice."""
    return "charged"


@tool(replay="keyed")
async def pay() -> str:
    """May run again with the same key."""
    return "paid"


@tool(replay="safe")
async def look() -> str:
    """May run again."""
    return "seen"


TOOLS = Toolbox([charge, pay, look])


def machine() -> Machine:
    return Machine(Rules(TOOLS.refuse, lambda message: message.text), (), (user("Go"),))


def asked(*names: str) -> Record:
    calls = [ToolCall(f"id-{name}", name, {}, "{}") for name in names]
    return Replied(msgspec.to_builtins(ModelReply(assistant(tool_calls=calls))))


def happened(name: str) -> Record:
    return Happened(msgspec.to_builtins(ToolResult(f"id-{name}", "done", name)))


def records(*written: Record) -> list[bytes]:
    return [encode(record) for record in (Began("r", "helper", [], []), *written)]


def replayed(it: Machine, entries: list[bytes]) -> tuple[list[Effect], list[ToolResult]]:
    past = replay(it, entries, TOOLS)
    return past.effects, past.made_up


def test_a_recorded_reply_is_not_asked_for_again() -> None:
    """Scenario 74: the machine goes on behind it."""
    it = machine()
    effects, unknown = replayed(it, records(asked("look"), Intended("id-look"), happened("look")))
    assert (effects, unknown, it.turn) == ([CallModel()], [], 2)
    assert [message.role for message in it.messages] == ["user", "assistant", "tool"]


def test_what_was_in_flight_follows_the_replay_of_its_tool() -> None:
    """Scenario 72: one of unknown outcome is said to be so, the others run, and so does one that had not begun."""
    it = machine()
    written = [asked("charge", "pay", "look"), Intended("id-charge"), Intended("id-pay")]
    effects, unknown = replayed(it, records(*written))
    assert [(result.name, result.is_error, result.cause) for result in unknown] == [("charge", True, "outcome_unknown")]
    [effect] = effects
    assert isinstance(effect, CallTools)
    assert [call.name for call in effect.calls] == ["pay", "look"]
    assert it.state is State.ACTING


def test_an_intent_of_an_earlier_turn_says_nothing_of_this_one() -> None:
    """Providers repeat ids from turn to turn: a call that never began runs."""
    written = [asked("charge"), Intended("id-charge"), happened("charge"), asked("charge")]
    effects, unknown = replayed(machine(), records(*written))
    assert unknown == []
    [effect] = effects
    assert isinstance(effect, CallTools)


def test_an_answer_is_for_one_turn() -> None:
    """An approval that was given before a crash is not asked for again; a later call may have the same id."""

    def answers(*written: Record, given: dict[str, bool | str]) -> dict[str, bool | str]:
        return replay(machine(), records(*written), TOOLS, given).answers

    assert answers(Answered("id-charge", "no"), given={"id-pay": True}) == {"id-pay": True, "id-charge": "no"}
    assert answers(Answered("id-pay", True), asked("pay"), given={"id-pay": True}) == {}
    assert answers(asked("pay"), Answered("id-pay", True), given={}) == {"id-pay": True}


def test_calls_that_waited_go_on_beside_the_results_that_are_there() -> None:
    """What is recorded of them is not done again."""
    message = assistant(tool_calls=[ToolCall(f"id-{name}", name, {}, "{}") for name in ("pay", "look", "charge")])
    rules = Rules(TOOLS.refuse, lambda message: message.text)
    it = Machine(rules, (user("Go"), message), (), [ToolResult("id-look", "seen", "look")])
    effects, unknown = replayed(it, records(Intended("id-pay"), happened("pay")))
    [effect] = effects
    assert isinstance(effect, CallTools)
    assert ([call.name for call in effect.calls], unknown, it.turn) == (["charge"], [], 0)


def test_a_stop_that_was_to_cut_the_model_leaves_it_to_be_asked() -> None:
    """The run has died before the cut came to anything: what it stands at is the call, and the stop is still wanted."""
    it = machine()
    effects, _ = replayed(it, records(Stopping("now", "user")))
    assert effects == [CallModel()]
    assert it.cuts == [CancelModel()]
