"""The machine of a run, as data: no event loop, no clock."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from greenroom.agents.machine import (
    Accepted,
    AnswerTool,
    Begin,
    CallModel,
    CallTools,
    CancelCheck,
    CancelModel,
    CancelTools,
    Check,
    CheckCut,
    CheckFailed,
    Effect,
    Fact,
    Finish,
    Machine,
    ModelCut,
    ModelFailed,
    Refused,
    Rejected,
    Replied,
    Rules,
    State,
    StopAsked,
    ToolDone,
    Unusable,
    with_distinct_ids,
)
from greenroom.agents.reminders import REPLAN_PROMPT, Repeating
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


def test_a_conversation_once_given_does_not_change_as_the_run_goes_on() -> None:
    """A request holds it without a copy, and a provider may look at it late."""
    run = machine()
    run.handle(Begin())
    first = run.messages
    run.handle(calls("look"))
    second = run.messages
    run.handle(done("id-0"))
    third = run.messages
    run.handle(says("hi"))
    assert [[message.role for message in given] for given in (first, second, third)] == [
        ["user"],
        ["user", "assistant"],
        ["user", "assistant", "tool"],
    ]


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


def read_call(call: ToolCall) -> str:
    if call.raw == "bad":
        raise Rejected("mend it")
    return call.raw


def with_tool(turns: int | None = None, *, checked: bool = False, retries: int = 1, **more: object) -> Machine:
    rules = {"answer_tool": AnswerTool("answer", read_call), "restore": str if checked else None}
    return machine(turns, output_retries=retries, **rules, **more)


def replied(*given: tuple[str, str], reason: StopReason | None = None) -> Replied:
    """A reply with calls: their names, and their arguments."""
    made = [ToolCall(f"id-{index}", name, {}, raw) for index, (name, raw) in enumerate(given)]
    return Replied(ModelReply(assistant(tool_calls=made), reason))


def causes(run: Machine) -> list[str | None]:
    return [result.cause for message in run.messages for result in message.tool_results]


def test_a_call_of_the_output_tool_is_the_answer() -> None:
    """It runs nothing, and has a result."""
    run = with_tool()
    run.handle(Begin())
    assert run.handle(replied(("answer", "7"))) == [Finish("completed", "answered", "7")]
    assert causes(run) == ["accepted"]


def test_an_answer_waits_for_the_other_calls() -> None:
    """Only they are run; a second answer is not read."""
    run = with_tool()
    run.handle(Begin())
    [effect] = run.handle(replied(("answer", "7"), ("a", "{}"), ("answer", "bad")))
    assert isinstance(effect, CallTools)
    assert [call.name for call in effect.calls] == ["a"]
    assert [call.name for call in run.open_calls] == ["a"]
    assert run.handle(done("id-1")) == [Finish("completed", "answered", "7")]
    assert causes(run) == ["accepted", None, "invalid"]


def test_an_answer_beside_a_call_that_failed_is_not_taken() -> None:
    """Whether that ran or was refused."""
    for other in ("a", "nope"):
        run = with_tool()
        run.handle(Begin())
        effects = run.handle(replied((other, "{}"), ("answer", "7")))
        if other == "a":
            effects = run.handle(ToolDone(ToolResult("id-0", "failed", "a", True, "failed")))
        assert effects == [CallModel()]
        assert (causes(run)[-1], run.output_retries) == ("invalid", 0)


def test_replies_in_which_nothing_could_run_are_counted_with_their_answers() -> None:
    """Else a model could go on so for ever."""
    run = machine(tool_retries=1, answer_tool=AnswerTool("answer", read_call))
    run.handle(Begin())
    run.handle(replied(("nope", "{}"), ("answer", "7")))
    [finish] = run.handle(replied(("nope", "{}"), ("answer", "7")))
    assert isinstance(finish, Finish)
    assert isinstance(finish.error, Unusable)


def test_a_bad_answer_goes_back_as_the_result_of_its_call() -> None:
    """So often as an answer in text would."""
    run = with_tool()
    run.handle(Begin())
    assert run.handle(replied(("answer", "bad"))) == [CallModel()]
    assert [result.content for message in run.messages for result in message.tool_results] == ["mend it"]
    [finish] = run.handle(replied(("answer", "bad")))
    assert isinstance(finish, Finish)
    assert (finish.status, causes(run)) == ("failed", ["invalid", "invalid"])


@pytest.mark.parametrize(("reason", "cause"), [("length", "invalid"), ("refusal", "invalid"), ("error", "invalid")])
def test_an_answer_that_was_cut_off_or_taken_back_is_none(reason: StopReason, cause: str) -> None:
    run = with_tool()
    run.handle(Begin())
    assert run.handle(replied(("answer", "7"), reason=reason)) == [CallModel()]
    assert causes(run) == [cause]


def test_an_answer_that_wins_the_race_against_a_stop_counts_by_a_tool_too() -> None:
    """Alone, or when its siblings had ended well; not beside one that the stop has cut."""
    run = with_tool()
    run.handle(Begin())
    run.handle(StopAsked("now", "user"))
    assert run.handle(replied(("answer", "7"))) == [Finish("completed", "answered", "7")]
    run = with_tool()
    run.handle(Begin())
    run.handle(replied(("answer", "7"), ("a", "{}")))
    assert run.handle(StopAsked("now", "user")) == [CancelTools()]
    assert run.handle(ToolDone(ToolResult("id-1", "cut", "a", True, "cancelled"))) == [Finish("stopped", "user")]
    assert causes(run) == ["cancelled", "cancelled"]


def test_an_answer_is_checked_before_it_counts() -> None:
    """What the check makes of it is the output; what it refuses goes back."""
    run = with_tool(checked=True, retries=2)
    run.handle(Begin())
    assert run.handle(replied(("answer", "7"))) == [Check("7")]
    assert run.handle(Refused(Rejected("more"))) == [CallModel()]
    assert run.handle(says("8")) == [Check("8")]
    assert run.handle(Refused(Rejected("still more"))) == [CallModel()]
    assert run.messages[-1] == user("still more")
    run.handle(replied(("answer", "9")))
    assert run.handle(Accepted(9)) == [Finish("completed", "answered", 9)]
    assert run.handle(Accepted(10)) == []
    assert causes(run) == ["invalid", "accepted"]


def test_a_check_that_fails_ends_the_run() -> None:
    run = with_tool(checked=True)
    run.handle(Begin())
    run.handle(replied(("answer", "7")))
    error = KeyError("x")
    assert run.handle(CheckFailed(error)) == [Finish("failed", "error", error=error)]
    assert causes(run) == ["cancelled"]


@pytest.mark.parametrize("early", [False, True])
def test_only_a_stop_now_cuts_a_check(early: bool) -> None:
    """One that was asked for before keeps it from beginning."""
    run = with_tool(checked=True)
    run.handle(Begin())
    if early:
        run.handle(StopAsked("now", "user"))
        assert run.handle(says("7")) == [Finish("stopped", "user")]
        return
    run.handle(replied(("answer", "7")))
    assert run.handle(StopAsked("after_tools", "user")) == []
    assert run.handle(StopAsked("now", "user")) == [CancelCheck()]
    assert run.handle(CheckCut()) == [Finish("stopped", "user")]
    assert causes(run) == ["cancelled"]


class MachinePrograms(RuleBasedStateMachine):
    """Any order of replies, endings, checks and stops keeps the history valid and the work bounded."""

    @initialize(
        turns=st.integers(0, 9),
        checked=st.booleans(),
        replan_every=st.one_of(st.none(), st.integers(1, 3)),
        stuck_after=st.one_of(st.none(), st.integers(2, 3)),
    )
    def begin(self, turns: int, checked: bool, replan_every: int | None, stuck_after: int | None) -> None:
        self.turns = turns
        self.replan_every = replan_every
        self.stuck_after = stuck_after
        self.run = with_tool(turns, checked=checked, retries=2, replan_every=replan_every, stuck_after=stuck_after)
        #: The turns after which the model was asked again, and the calls of the last reply with any.
        self.went_on: set[int] = set()
        self.last: tuple[list[str], str] | None = None
        self.checked = checked
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
                self.went_on.add(self.model_calls)
                self.model_calls += 1
            elif isinstance(effect, CallTools):
                assert not self.stopped_now
                self.open = {call.id or "" for call in effect.calls}
                assert "answer" not in {call.name for call in effect.calls}
            elif isinstance(effect, Check):
                assert self.checked
                assert not self.stopped_now
            elif isinstance(effect, Finish):
                self.finished.append(effect)
        return effects

    @property
    def stopped_now(self) -> bool:
        return getattr(self, "now", False)

    @precondition(lambda self: self.run.state is State.CALLING)
    @rule(names=st.lists(st.sampled_from(["a", "b", "nope", "answer"]), max_size=3), raw=st.sampled_from(["7", "bad"]))
    def reply(self, names: list[str], raw: str) -> None:
        self.counter += 1
        self.last = (names, raw) if names else self.last
        made = [ToolCall(f"{self.counter}-{index}", name, {}, raw) for index, name in enumerate(names)]
        self.take(Replied(ModelReply(assistant("text", tool_calls=made))))

    @precondition(lambda self: self.run.state is State.CALLING and self.last is not None)
    @rule(times=st.integers(1, 4))
    def the_same_again(self, times: int) -> None:
        for _ in range(times):
            if self.run.state is State.CALLING and self.last is not None:
                self.reply(*self.last)
                for call_id in sorted(self.open):
                    self.open.discard(call_id)
                    self.take(done(call_id))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def end_a_tool(self, data: st.DataObject) -> None:
        call_id = data.draw(st.sampled_from(sorted(self.open)))
        self.open.discard(call_id)
        self.take(done(call_id))

    @precondition(lambda self: self.run.state is State.CHECKING)
    @rule(accepted=st.booleans())
    def end_a_check(self, accepted: bool) -> None:
        self.take(Accepted("7") if accepted else Refused(Rejected("mend it")))

    @precondition(lambda self: self.run.state is not State.CHECKING)
    @rule(fact=st.sampled_from([Accepted("7"), Refused(Rejected("late")), CheckCut(), CheckFailed(KeyError())]))
    def a_stale_check(self, fact: Fact) -> None:
        before = self.run.messages
        assert self.take(fact) == []
        assert self.run.messages == before

    @rule(call_id=st.sampled_from(["1-0", "2-1", "7-0"]))
    def a_stale_result(self, call_id: str) -> None:
        answers = {call.id for message in self.run.messages for call in message.tool_calls if call.name == "answer"}
        if call_id not in self.open and call_id not in answers:  # the result of an answer is the machine's own
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
        if effects == [CancelCheck()]:
            self.take(CheckCut())

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
        if self.run.state not in (State.ACTING, State.CHECKING):
            assert asked == answered
        elif self.run.state is State.CHECKING:
            assert len(asked) - len(answered) in (0, 1)  # that of the answer itself

    @invariant()
    def the_model_is_reminded_when_it_is_due_and_not_otherwise(self) -> None:
        if not hasattr(self, "run"):
            return
        last, repeats, told = None, 0, 0
        for number, turn in enumerate(turns_of(self.run.messages), 1):
            said = [_reminder(message) for message in turn if _reminder(message)]
            made = {call.id: call.name for message in turn for call in message.tool_calls}
            results = [result for message in turn for result in message.tool_results]
            if not results or _is_read(results):
                last, repeats, told = None, 0, 0
                assert said == []
                continue
            look = sorted((made[result.call_id], result.content, result.is_error) for result in results)
            if look != last:
                last, repeats, told = look, 0, 0
            repeats += 1
            if number not in self.went_on:
                assert said == []
                continue
            assert not told or repeats - told < (self.stuck_after or 100)
            if self.stuck_after and not told and repeats >= self.stuck_after:
                assert said == ["stuck"]
                told = repeats
            else:
                assert said == (["replan"] if self.replan_every and number % self.replan_every == 0 else [])
        if self.finished and isinstance(self.finished[0].error, Repeating):
            assert repeats - told == self.stuck_after
            assert self.finished[0].error.repeats == repeats


def turns_of(messages: list[Message]) -> list[list[Message]]:
    """The replies of the model, each with what follows it."""
    turns: list[list[Message]] = []
    for message in messages:
        if message.role == "assistant":
            turns.append([])
        if turns:
            turns[-1].append(message)
    return turns


def _reminder(message: Message) -> str | None:
    if message.role != "user":
        return None
    return "replan" if message.text == REPLAN_PROMPT else "stuck" if "in the same way" in message.text else None


def _is_read(results: list[ToolResult]) -> bool:
    """Whether the answer among the results was read, whatever came of it."""
    beside = ("not taken", "not read", "cancelled")
    return any(result.name == "answer" and not result.content.startswith(beside) for result in results)


TestMachinePrograms = MachinePrograms.TestCase
TestMachinePrograms.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
