"""The machine of a run, as data: no event loop, no clock."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from greenroom.agents.machine import (
    Begin,
    CallModel,
    CallTools,
    CancelModel,
    CancelTools,
    Effect,
    Fact,
    Finish,
    Machine,
    ModelCut,
    ModelFailed,
    Rejected,
    Replied,
    Rules,
    State,
    StopAsked,
    ToolDone,
    with_distinct_ids,
)
from greenroom.providers import Message, ModelReply, StopReason, Text, ToolCall, ToolResult, assistant, user


def text_of(message: Message) -> str:
    return message.text


def allow(call: ToolCall) -> ToolResult | None:
    return ToolResult(call.id or "", "no such tool", call.name, True, "unknown_tool") if call.name == "nope" else None


def machine(turns: int | None = None, **rules: object) -> Machine:
    return Machine(Rules(allow, text_of, turns, **rules), (), (user("hello"),))  # type: ignore[arg-type]


def says(text: str) -> Replied:
    return Replied(ModelReply(assistant(text)))


def calls(*names: str) -> Replied:
    made = [ToolCall(f"id-{index}", name, {}, "{}") for index, name in enumerate(names)]
    return Replied(ModelReply(assistant(tool_calls=made)))


def done(call_id: str, text: str = "ok") -> ToolDone:
    return ToolDone(ToolResult(call_id, text))


def test_an_answer_ends_the_run() -> None:
    """One model call, one answer."""
    run = machine()
    assert run.handle(Begin()) == [CallModel()]
    assert run.handle(says("hi")) == [Finish("completed", "answered", "hi")]
    assert [message.role for message in run.messages] == ["user", "assistant"]


@pytest.mark.parametrize("reason", ["pause", "compaction"])
def test_an_answer_that_the_provider_suspended_goes_on(reason: StopReason) -> None:
    """What it had said goes back to it; it is no answer yet, and costs a turn like any other call."""
    run = machine(turns=2)
    run.handle(Begin())
    assert run.handle(Replied(ModelReply(assistant("so far"), reason))) == [CallModel()]
    assert [text_of(message) for message in run.messages] == ["hello", "so far"]
    assert run.handle(Replied(ModelReply(assistant("still"), reason))) == [Finish("limited", "turns")]


@pytest.mark.parametrize("reason", ["refusal", "content_filter", "error"])
def test_calls_of_a_reply_that_was_taken_back_do_not_run(reason: StopReason) -> None:
    run = machine()
    run.handle(Begin())
    reply = ModelReply(assistant("I will", tool_calls=[ToolCall("a", "pay", {})]), reason)
    assert run.handle(Replied(reply)) == [CallModel()]
    (result,) = run.messages[-1].tool_results
    assert (result.call_id, result.is_error, result.cause) == ("a", True, "invalid")
    assert reason in result.content


def test_a_final_rejection_does_not_go_back() -> None:
    def refused(message: Message) -> str:
        raise Rejected("the model refused to answer: no", final=True)

    run = Machine(Rules(allow, refused), (), (user("hello"),))
    run.handle(Begin())
    (finish,) = run.handle(says("no"))
    assert isinstance(finish, Finish)
    assert (finish.status, str(finish.error)) == ("failed", "the model refused to answer: no")


def test_results_go_back_in_the_order_of_the_calls() -> None:
    """Scenario 63: endings come in any order, results are sent in call order."""
    run = machine()
    run.handle(Begin())
    [effect] = run.handle(calls("a", "b"))
    assert isinstance(effect, CallTools)
    assert [call.name for call in effect.calls] == ["a", "b"]
    assert run.handle(done("id-1", "second")) == []
    assert run.handle(done("id-0", "first")) == [CallModel()]
    assert [result.content for message in run.messages for result in message.tool_results] == ["first", "second"]


def test_a_refused_call_is_answered_and_never_runs() -> None:
    """Scenario 69: an unknown tool gets a result; its siblings run."""
    run = machine()
    run.handle(Begin())
    [effect] = run.handle(calls("nope", "a"))
    assert isinstance(effect, CallTools)
    assert [call.name for call in effect.calls] == ["a"]
    run.handle(done("id-1"))
    assert [result.cause for message in run.messages for result in message.tool_results] == ["unknown_tool", None]


def test_a_reply_of_refused_calls_alone_goes_straight_back() -> None:
    """With nothing to run, the model is asked again at once."""
    run = machine()
    run.handle(Begin())
    assert run.handle(calls("nope")) == [CallModel()]


def test_late_and_repeated_results_change_nothing() -> None:
    """Only the first result of an open call counts."""
    run = machine()
    run.handle(Begin())
    run.handle(calls("a", "b"))
    run.handle(done("id-0", "first"))
    assert run.handle(done("id-0", "again")) == []
    assert run.handle(done("id-9")) == []
    run.handle(done("id-1"))
    run.handle(says("end"))
    before = run.messages
    assert run.handle(done("id-1", "late")) == []
    assert run.messages == before


@pytest.mark.parametrize(("turns", "requests"), [(0, 0), (1, 1), (2, 2)])
def test_the_turn_limit_holds(turns: int, requests: int) -> None:
    """Zero means zero: no model call is made beyond the limit."""
    run = machine(turns=turns)
    effects = run.handle(Begin())
    made = 0
    while effects == [CallModel()]:
        made += 1
        effects = run.handle(calls("nope"))
    assert made == requests
    assert effects == [Finish("limited", "turns")]


def test_stop_now_cuts_the_model_call() -> None:
    """What had been received is kept and marked partial; half a tool call is not."""
    run = machine()
    run.handle(Begin())
    assert run.handle(StopAsked("now", "user")) == [CancelModel()]
    half = Message("assistant", (Text("so fa"), ToolCall("x", "a", None, '{"ci')))
    assert run.handle(ModelCut(half)) == [Finish("stopped", "user")]
    last = run.messages[-1]
    assert (last.text, last.partial, last.tool_calls) == ("so fa", True, ())


def test_stop_now_cancels_tools_and_waits_for_their_results() -> None:
    """Scenario 54: every call has its one result before the run is over."""
    run = machine()
    run.handle(Begin())
    run.handle(calls("a", "b"))
    run.handle(done("id-0"))
    assert run.handle(StopAsked("now", "user")) == [CancelTools()]
    assert run.handle(done("id-1", "cancelled")) == [Finish("stopped", "user")]


def test_stop_after_tools_lets_them_finish() -> None:
    """No further model call is made."""
    run = machine()
    run.handle(Begin())
    run.handle(calls("a"))
    assert run.handle(StopAsked("after_tools", "user")) == []
    assert run.handle(done("id-0")) == [Finish("stopped", "user")]


def test_stop_after_turn_lets_the_reply_and_its_tools_finish() -> None:
    """The turn in progress is the last one."""
    run = machine()
    run.handle(Begin())
    assert run.handle(StopAsked("after_turn", "user")) == []
    [effect] = run.handle(calls("a"))
    assert isinstance(effect, CallTools)
    assert run.handle(done("id-0")) == [Finish("stopped", "user")]


def test_a_more_urgent_stop_wins_and_a_weaker_one_changes_nothing() -> None:
    """Stopping twice is one stop, of the more urgent kind."""
    run = machine()
    run.handle(Begin())
    run.handle(calls("a"))
    run.handle(StopAsked("after_turn", "first"))
    assert run.handle(StopAsked("now", "second")) == [CancelTools()]
    assert run.handle(StopAsked("after_tools", "third")) == []
    assert run.handle(done("id-0")) == [Finish("stopped", "second")]


def test_a_reply_that_wins_the_race_against_a_stop_counts() -> None:
    """Scenario 59: a stop in the tick of the answer yields one outcome, the answer."""
    run = machine()
    run.handle(Begin())
    run.handle(StopAsked("now", "user"))
    assert run.handle(says("just in time")) == [Finish("completed", "answered", "just in time")]


def test_tool_calls_that_arrive_after_a_stop_do_not_run() -> None:
    """They are answered as cancelled, so that the history stays valid."""
    run = machine()
    run.handle(Begin())
    run.handle(StopAsked("now", "user"))
    assert run.handle(calls("a")) == [Finish("stopped", "user")]
    assert [result.cause for message in run.messages for result in message.tool_results] == ["cancelled"]


def test_stop_before_the_start_makes_no_request() -> None:
    """Scenario 59: a stopped run that has not begun is over."""
    assert machine().handle(StopAsked("now", "user")) == [Finish("stopped", "user")]


def test_a_failed_model_call_ends_the_run_with_what_was_received() -> None:
    """The partial message stays in the history."""
    run = machine()
    run.handle(Begin())
    error = OSError("gone")
    assert run.handle(ModelFailed(error, assistant("half"))) == [Finish("failed", "error", error=error)]
    assert run.messages[-1].partial


def test_an_answer_that_does_not_fit_goes_back_a_limited_number_of_times() -> None:
    """The model is told what to mend, then the run fails."""

    def reject(message: Message) -> str:
        raise Rejected(f"not a number: {message.text}")

    run = Machine(Rules(allow, reject, None, 1), (), (user("count"),))
    run.handle(Begin())
    assert run.handle(says("many")) == [CallModel()]
    assert run.messages[-1] == user("not a number: many")
    [finish] = run.handle(says("lots"))
    assert isinstance(finish, Finish)
    assert (finish.status, type(finish.error)) == ("failed", Rejected)


def test_missing_and_repeated_ids_are_made_distinct() -> None:
    """Scenario 69: providers leave ids out, or repeat them."""
    message = assistant(tool_calls=[ToolCall(None, "a", {}), ToolCall("x", "b", {}), ToolCall("x", "c", {})])
    ids = [call.id for call in with_distinct_ids(message, 3).tool_calls]
    assert len(set(ids)) == 3
    assert None not in ids


def test_a_made_up_id_never_meets_a_given_one() -> None:
    """However a provider names its calls."""
    message = assistant(tool_calls=[ToolCall(id, "a", {}) for id in ("x-1-2", "x", "x", "x-1-1", "x")])
    ids = [call.id for call in with_distinct_ids(message, 1).tool_calls]
    assert len(set(ids)) == 5
    assert ids[:2] == ["x-1-2", "x"]


class MachinePrograms(RuleBasedStateMachine):
    """Any order of replies, endings and stops keeps the history valid and the work bounded."""

    @initialize(turns=st.integers(0, 6))
    def begin(self, turns: int) -> None:
        self.turns = turns
        self.run = machine(turns=turns)
        self.model_calls = 0
        self.open: set[str] = set()
        self.stopped = False
        self.finished: list[Finish] = []
        self.counter = 0
        self.take(Begin())

    def take(self, fact: Fact) -> list[Effect]:
        effects = self.run.handle(fact)
        for effect in effects:
            if isinstance(effect, CallModel):
                assert not self.stopped
                self.model_calls += 1
            elif isinstance(effect, CallTools):
                assert not self.stopped_now
                self.open = {call.id or "" for call in effect.calls}
            elif isinstance(effect, Finish):
                self.finished.append(effect)
        return effects

    @property
    def stopped_now(self) -> bool:
        return getattr(self, "now", False)

    @precondition(lambda self: self.run.state is State.CALLING)
    @rule(names=st.lists(st.sampled_from(["a", "b", "nope"]), max_size=3))
    def reply(self, names: list[str]) -> None:
        self.counter += 1
        made = [ToolCall(f"{self.counter}-{index}", name, {}, "{}") for index, name in enumerate(names)]
        self.take(Replied(ModelReply(assistant("text", tool_calls=made))))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def end_a_tool(self, data: st.DataObject) -> None:
        call_id = data.draw(st.sampled_from(sorted(self.open)))
        self.open.discard(call_id)
        self.take(done(call_id))

    @rule(call_id=st.sampled_from(["1-0", "2-1", "7-0"]))
    def a_stale_result(self, call_id: str) -> None:
        if call_id not in self.open:
            before = self.run.messages
            assert self.take(done(call_id, "stale")) == []
            assert self.run.messages == before

    @rule(mode=st.sampled_from(["now", "after_tools", "after_turn"]))
    def stop(self, mode: str) -> None:
        effects = self.take(StopAsked(mode, "user"))  # type: ignore[arg-type]
        if self.run.state is not State.DONE:
            self.stopped = True
            self.now = self.stopped_now or mode == "now"
        if effects == [CancelModel()]:
            self.take(ModelCut(None))

    @invariant()
    def work_is_bounded(self) -> None:
        if hasattr(self, "run"):
            assert self.model_calls <= self.turns
            assert len(self.finished) <= 1
            assert (self.run.state is State.DONE) == bool(self.finished)

    @invariant()
    def every_call_is_answered_once_before_the_next_request(self) -> None:
        if not hasattr(self, "run"):
            return
        messages = self.run.messages
        asked = [call.id for message in messages for call in message.tool_calls]
        answered = [result.call_id for message in messages for result in message.tool_results]
        assert len(answered) == len(set(answered))
        assert set(answered) <= set(asked)
        if self.run.state is not State.ACTING:
            assert asked == answered


TestMachinePrograms = MachinePrograms.TestCase
TestMachinePrograms.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
