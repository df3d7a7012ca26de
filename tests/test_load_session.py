"""A load test as it goes, on the virtual clock: when runs begin, what is measured of them, and how it ends."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import pytest

from greenroom import Agent, Limits
from greenroom.load import Faults, Iteration, Latency, load_test, workload
from greenroom.load.tester import Progress, read_report, write_report
from greenroom.load.tester.page import page
from greenroom.load.tester.workloads import BadWorkload
from greenroom.providers import (
    AuthError,
    ConnectionFailed,
    ModelReply,
    ModelRequest,
    Overloaded,
    RateLimited,
    Retry,
    Scripted,
)
from greenroom.providers.notices import GateOpened, listening
from greenroom.testing import run

from .load_models import AGENT, Model, ask, virtual

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])
ENDS = ("completed", "failed", "limited", "stopped", "cut", "never_begun")


def freezing(number: int, now: float) -> float:
    """10 ms, but for the second from 1 to 2, in which nobody is answered."""
    return 2.0 - now + 0.01 if 1.0 <= now < 2.0 else 0.01


# -- coordinated omission


@backends
def test_an_open_loop_charges_a_freeze_to_everybody_who_came_meanwhile(backend: str) -> None:
    report = virtual(Model(freezing), backend=backend, rate=100, arrivals="even", duration=4)
    assert report.runs == {"arrived": 400, "completed": 400}
    latency = report.run_latency
    assert latency is not None
    # A quarter of all came in the frozen second; they waited half a second on average.
    assert latency.p50 == pytest.approx(0.01, rel=0.02)
    assert latency.p90 == pytest.approx(0.61, rel=0.05)
    assert latency.p99 > 0.95
    assert sum(count for bound, count in latency.buckets if bound > 0.02) == pytest.approx(100, abs=2)


@backends
def test_runs_that_wait_for_room_are_charged_for_it(backend: str) -> None:
    """With room for one, the hundred that came meanwhile stand in line behind the one that was caught."""
    report = virtual(Model(freezing), backend=backend, rate=50, arrivals="even", duration=8, max_in_flight=1)
    assert report.runs == {"arrived": 400, "completed": 400}
    assert report.peak_in_flight == 1
    assert report.run_latency is not None
    assert report.run_latency.p99 > 0.9
    assert report.start_delay is not None
    assert report.start_delay.maximum > 0.9
    assert any("as many as may be" in warning for warning in report.warnings)
    assert max(moment.waiting for moment in report.timeline) > 30


@backends
def test_a_second_in_which_the_tester_itself_stands_still_is_charged_too(backend: str) -> None:
    """Something blocks the event loop, so nothing begins in time; the clock goes on."""
    blocked = 0.0

    @workload
    async def blocks_once(it: Iteration) -> None:
        nonlocal blocked
        await it.run(AGENT, "Go")
        if it.number == 99:
            blocked = 1.0

    async def scenario() -> Any:
        options: dict[str, Any] = {"rate": 100, "arrivals": "even", "duration": 4}
        return await load_test(blocks_once, model=Model(), clock=lambda: anyio.current_time() + blocked, **options)

    report = run(scenario, backend=backend)
    assert report.runs == {"arrived": 400, "completed": 400}
    assert report.run_latency is not None
    assert report.start_delay is not None
    assert sum(count for bound, count in report.start_delay.buckets if bound > 0.02) == pytest.approx(98, abs=3)
    assert report.run_latency.p99 > 0.9
    assert any("the tester is too slow" in warning for warning in report.warnings)
    assert any(re.search(r"the tester was [34]\d ms behind on average", warning) for warning in report.warnings)


@backends
def test_a_closed_loop_hides_the_freeze_and_says_what_it_is(backend: str) -> None:
    report = virtual(Model(freezing), backend=backend, concurrency=1, duration=4)
    assert report.mode == "closed"
    assert report.run_latency is not None
    assert report.run_latency.p99 == pytest.approx(0.01, rel=0.02)
    assert report.run_latency.maximum == pytest.approx(1.01, rel=0.05)


# -- the course of the load


@backends
def test_a_closed_loop_keeps_as_many_in_flight_as_were_asked_for(backend: str) -> None:
    model = Model(0.45)
    report = virtual(model, backend=backend, concurrency=7, duration=10)
    assert (model.at_once_most, report.peak_in_flight) == (7, 7)
    assert report.runs["completed"] == 7 * 23
    assert report.runs_per_second == pytest.approx(7 * 22 / 10)
    assert report.window == pytest.approx(10.0)
    assert (report.concurrency, report.rate, report.arrivals, report.duration) == (7, None, None, 10)
    assert report.ended_by == "duration"
    for moment in report.timeline:
        assert (moment.waiting, moment.failed, moment.retries) == (0, 0, 0)
        if moment.at < 9.99:
            assert (moment.in_flight, moment.target, moment.phase) == (7, 7.0, "steady")
        if moment.at > 10.01:
            assert (moment.target, moment.phase) == (None, "drain")
        if moment.ended:
            assert (moment.run_p50, moment.run_p99) == (pytest.approx(0.45), pytest.approx(0.45))
        else:
            assert (moment.run_p50, moment.run_p99) == (None, None)
        assert (moment.first_token_p50, moment.first_token_p99) == (None, None)
        assert moment.tokens == 5 * moment.requests
    assert sum(moment.started for moment in report.timeline) == sum(moment.ended for moment in report.timeline) == 161
    assert sum(moment.seconds for moment in report.timeline) == pytest.approx(report.timeline[-1].at)


@backends
def test_a_ramp_brings_the_workers_one_by_one(backend: str) -> None:
    model = Model(100.0)
    report = virtual(model, backend=backend, concurrency=5, ramp=10, duration=20, drain=200)
    assert model.moments == pytest.approx([0.0, 2.0, 4.0, 6.0, 8.0])
    phases = Counter(moment.phase for moment in report.timeline if moment.at < 20)
    assert phases["ramp"] > 10 < phases["steady"]
    assert report.runs == {"arrived": 5, "completed": 5}


@backends
def test_stages_raise_and_lower_the_number_in_flight(backend: str) -> None:
    report = virtual(Model(0.1), backend=backend, stages="4s:4,4s:4,4s:1,4s:1", drain=10)
    in_flight = {round(moment.at): moment.in_flight for moment in report.timeline}
    assert [in_flight[at] for at in (1, 7, 15)] == [2, 4, 1] or [in_flight[at] for at in (1, 7, 15)] == [1, 4, 1]
    assert report.peak_in_flight == 4
    assert report.seconds == pytest.approx(16.1, abs=0.2)
    assert (report.concurrency, report.duration, len(report.stages)) == (None, 16.0, 4)


@backends
def test_stages_of_rates_are_an_open_loop(backend: str) -> None:
    model = Model(0.01)
    report = virtual(model, backend=backend, stages="5s:10/s,5s:10/s", arrivals="even")
    assert len(model.moments) == 75
    assert sum(moment < 5 for moment in model.moments) == 25
    assert (report.mode, report.runs["completed"]) == ("open", 75)


@backends
def test_poisson_arrivals_follow_the_seed(backend: str) -> None:
    first, again, other = Model(), Model(), Model()
    for model, seed in ((first, 3), (again, 3), (other, 4)):
        virtual(model, backend=backend, rate=40, duration=10, seed=seed)
    assert first.moments == again.moments != other.moments
    assert len(first.moments) == pytest.approx(400, rel=0.2)


@backends
def test_a_warm_up_is_run_and_not_measured(backend: str) -> None:
    model = Model(lambda number, now: 1.0 if now < 2.0 else 0.1)
    report = virtual(model, backend=backend, concurrency=2, warm_up=3, duration=5)
    assert report.run_latency is not None
    assert report.run_latency.maximum == pytest.approx(0.1)
    assert report.runs["completed"] == pytest.approx(2 * 50, abs=2)
    assert report.window == pytest.approx(5.0)
    assert len(model.moments) > report.requests["ok"]
    assert [moment.phase for moment in report.timeline if moment.at <= 3.0] == ["warm-up"] * 12
    assert sum(moment.ended for moment in report.timeline) == len(model.moments)


# -- how it ends


@backends
@pytest.mark.parametrize("load", [{"concurrency": 3}, {"rate": 20, "arrivals": "even"}])
def test_a_count_ends_the_test_after_as_many_runs(backend: str, load: dict[str, Any]) -> None:
    model = Model(0.5)
    report = virtual(model, backend=backend, count=10, **load)
    assert report.runs == {"arrived": 10, "completed": 10}
    assert report.requests == {"ok": 10}
    assert (len(model.moments), report.ended_by, report.count, report.duration) == (10, "count", 10, None)
    # It is measured until the last one has ended.
    assert report.window == pytest.approx(report.seconds, abs=1e-6)
    assert report.runs_per_second * report.window == pytest.approx(10)


@backends
def test_with_a_count_and_a_duration_the_first_ends_it(backend: str) -> None:
    by_count = virtual(Model(1.0), backend=backend, concurrency=1, count=3, duration=100)
    assert (by_count.ended_by, by_count.runs["arrived"]) == ("count", 3)
    by_time = virtual(Model(1.0), backend=backend, concurrency=1, count=300, duration=4.5)
    assert (by_time.ended_by, by_time.runs["arrived"]) == ("duration", 5)


@backends
def test_runs_in_flight_at_the_end_are_followed_to_theirs(backend: str) -> None:
    report = virtual(Model(3.0), backend=backend, concurrency=4, duration=5)
    assert report.runs == {"arrived": 8, "completed": 8}
    assert (report.window, report.seconds) == (pytest.approx(5.0), pytest.approx(6.0))
    # Rates are of the window: four ended in it.
    assert report.runs_per_second == pytest.approx(0.8)
    assert {moment.phase for moment in report.timeline} == {"steady", "drain"}


@backends
def test_what_outlasts_the_drain_is_cut_and_missed(backend: str) -> None:
    report = virtual(Model(1000.0), backend=backend, rate=1, arrivals="even", duration=10, max_in_flight=4, drain=5)
    assert report.runs == {"arrived": 10, "cut": 4, "never_begun": 6}
    assert report.requests == {"cut": 4}
    assert report.run_latency is None
    assert report.seconds == pytest.approx(15.0, abs=0.2)
    assert any("10 runs had not ended" in warning for warning in report.warnings)


@backends
def test_a_test_that_is_interrupted_cuts_its_runs_and_reports(backend: str) -> None:
    model = Model(lambda number, now: 0.1 if number < 30 else 1000.0)

    async def scenario() -> Any:
        until = anyio.Event()
        async with anyio.create_task_group() as group:

            async def interrupt() -> None:
                await anyio.sleep(3.05)
                until.set()

            group.start_soon(interrupt)
            return await load_test(
                ask, model=model, concurrency=3, duration=60, drain=30, until=until, clock=anyio.current_time
            )

    report = run(scenario, backend=backend)
    assert report.ended_by == "interrupted"
    assert report.seconds == pytest.approx(3.0, abs=0.2)
    assert report.runs == {"arrived": 33, "completed": 30, "cut": 3}
    assert report.warnings[0].startswith("the test was interrupted")


@backends
@pytest.mark.parametrize("at", [0.0, 5.5])
def test_it_may_be_interrupted_before_anything_and_in_the_drain(backend: str, at: float) -> None:
    async def scenario() -> Any:
        until = anyio.Event()
        async with anyio.create_task_group() as group:

            async def interrupt() -> None:
                await anyio.sleep(at)
                until.set()

            if at:
                group.start_soon(interrupt)
            else:
                until.set()
            return await load_test(
                ask, model=Model(4.0), concurrency=2, duration=5, until=until, clock=anyio.current_time
            )

    report = run(scenario, backend=backend)
    assert report.ended_by == "interrupted"
    assert report.runs["arrived"] == sum(report.runs.get(end, 0) for end in ENDS)
    assert report.seconds == pytest.approx(at, abs=0.2)


@backends
def test_it_may_be_interrupted_while_the_endpoint_keeps_it_waiting(backend: str) -> None:
    class Mute(Model):
        async def complete(self, request: Any) -> Any:
            await anyio.sleep_forever()

    async def scenario() -> Any:
        until = anyio.Event()
        async with anyio.create_task_group() as group:

            async def interrupt() -> None:
                await anyio.sleep(7)
                until.set()

            group.start_soon(interrupt)
            return await load_test(ask, model=Mute(), until=until, clock=anyio.current_time)

    report = run(scenario, backend=backend)
    assert report.ended_by == "interrupted"
    assert (report.runs, report.peak_in_flight) == ({"arrived": 0}, 0), (
        "a load came upon an endpoint that had not answered"
    )


@backends
def test_cancelling_it_from_outside_leaves_nothing_behind(backend: str) -> None:
    """What is left would be a Leak of the scenario."""

    async def scenario() -> bool:
        with anyio.move_on_after(2.5) as scope:
            await load_test(ask, model=Model(1.0), concurrency=5, duration=60, clock=anyio.current_time)
        return scope.cancelled_caught

    assert run(scenario, backend=backend)


# -- what is measured


@backends
def test_what_the_runtime_adds_is_what_no_model_tool_or_pause_accounts_for(backend: str) -> None:
    async def slow_tool() -> str:
        """Wait."""
        await anyio.sleep(2.0)
        return "waited"

    lazy = Agent("lazy", Model(), tools=[slow_tool], instructions=_slow_instructions)

    @workload
    async def work(it: Iteration) -> None:
        await anyio.sleep(5.0)  # the workload's own time is nobody's overhead
        await it.run(lazy, "Go")

    report = virtual(Model(1.0), what=work, backend=backend, concurrency=1, count=3)
    assert report.overhead is not None
    assert (report.overhead.minimum, report.overhead.maximum) == (pytest.approx(0.25), pytest.approx(0.25))
    assert report.run_latency is not None
    assert report.run_latency.p50 == pytest.approx(6.25, rel=0.01)


async def _slow_instructions(context: Any) -> str:
    await anyio.sleep(0.25)
    return "Be quick."


@backends
def test_faults_are_counted_by_class_and_pauses_are_no_overhead(backend: str) -> None:
    def fails(number: int) -> BaseException | None:
        return {
            0: Overloaded("busy", status=503),
            1: RateLimited("slow down", status=429, retry_after=3.0),
            3: AuthError("who are you, sk-secret-12345?", status=401),
        }.get(number)

    patient = Agent("patient", Model(), retry=Retry(attempts=5, base=0.5))

    @workload
    async def work(it: Iteration) -> None:
        await it.run(patient, "Go")

    report = virtual(
        Model(1.0, fails=fails), what=work, backend=backend, concurrency=1, count=3, secrets=["sk-secret-12345"]
    )
    assert report.requests == {"server_errors": 1, "rate_limited": 1, "refused": 1, "ok": 2}
    assert report.runs == {"arrived": 3, "completed": 2, "failed": 1}
    assert report.retries == 2
    assert report.failures == pytest.approx(1 / 3)
    classes = {(each.where, each.kind, each.status): each for each in report.errors}
    assert set(classes) == {
        ("request", "overloaded", 503),
        ("request", "rate_limit", 429),
        ("request", "auth", 401),
        ("run", "auth", 401),
    }
    assert classes["run", "auth", 401].example == "who are you, [key]? (status 401)"
    assert report.overhead is not None
    assert report.overhead.maximum < 0.01
    assert report.run_latency is not None
    assert report.run_latency.maximum > 6.0
    assert any(warning.startswith("33.3 % of the runs failed") for warning in report.warnings)


@backends
def test_what_a_workload_raises_is_a_failure_with_an_example(backend: str) -> None:
    @workload
    async def careless(it: Iteration) -> None:
        if it.number % 2:
            raise ValueError("no\norder")
        await anyio.sleep(0.1)

    report = virtual(Model(), what=careless, backend=backend, concurrency=1, count=4)
    assert report.runs == {"arrived": 4, "completed": 2, "failed": 2}
    (error,) = report.errors
    assert (error.where, error.kind, error.status, error.count, error.example) == (
        "run",
        "ValueError",
        None,
        2,
        "no order",
    )


@backends
def test_errors_in_the_tasks_of_a_workload_are_told_by_their_own_name(backend: str) -> None:
    @workload
    async def many(it: Iteration) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(_raise, KeyError("sky"))

    (error,) = virtual(Model(), what=many, backend=backend, concurrency=1, count=2).errors
    assert (error.kind, error.count) == ("KeyError", 2)


async def _raise(error: Exception) -> None:
    await anyio.lowlevel.checkpoint()
    raise error


def test_a_cancellation_that_nobody_asked_for_is_a_failure_and_ends_no_worker() -> None:
    @workload
    async def confused(it: Iteration) -> None:
        await anyio.sleep(1)
        raise asyncio.CancelledError

    report = virtual(Model(), what=confused, concurrency=2, count=6)
    assert report.runs == {"arrived": 6, "failed": 6}
    assert report.peak_in_flight == 2
    assert [(error.kind, error.count) for error in report.errors] == [("CancelledError", 6)]


@backends
def test_a_thousand_kinds_of_errors_are_kept_in_bounds(backend: str) -> None:
    @workload
    async def inventive(it: Iteration) -> None:
        raise type(f"Error{it.number}", (Exception,), {})("x" * 10_000)

    errors = virtual(Model(), what=inventive, backend=backend, concurrency=2, count=100).errors
    assert len(errors) == 51
    assert sum(error.count for error in errors) == 100
    assert errors[0].kind == "others"
    assert max(len(error.example) for error in errors) == 300


@backends
def test_limits_and_stops_are_outcomes_of_their_own(backend: str) -> None:
    limited = Agent("limited", Model(), limits=Limits(requests=0))

    @workload
    async def mixed(it: Iteration) -> None:
        if it.number == 0:
            await it.run(limited, "Go")
        if it.number == 1:
            async with it.stream(AGENT, "Go") as run:
                run.stop()
        if it.number == 2:
            await it.run(limited, "Go", on_limit="return")

    report = virtual(Model(1.0), what=mixed, backend=backend, concurrency=1, count=4)
    assert report.runs == {"arrived": 4, "completed": 1, "limited": 2, "stopped": 1}
    assert report.failures == 0.0


@backends
def test_an_instant_workload_lets_others_have_their_turn(backend: str) -> None:
    """It never waits, so without a pause of its worker nothing else would run, not even the end of the test."""

    seen: set[int] = set()

    @workload
    async def nothing(it: Iteration) -> None:
        seen.add(anyio.get_current_task().id)

    report = virtual(Model(), what=nothing, backend=backend, concurrency=3, count=200)
    assert report.runs == {"arrived": 200, "completed": 200}
    assert len(seen) == 3


@backends
@pytest.mark.parametrize("load", [{"concurrency": 2}, {"rate": 1000.0, "max_in_flight": 2}])
def test_a_workload_that_blocks_the_event_loop_ends_with_the_test(backend: str, load: dict[str, Any]) -> None:
    """It takes long and never waits. Without a pause after each run the end of the test would never be noticed."""
    asked = 0

    async def scenario() -> Any:
        until = anyio.Event()

        @workload
        async def busy(it: Iteration) -> None:
            nonlocal asked
            asked += 1
            assert asked < 1_000, "the end of the test was not noticed"
            time.sleep(0.001)
            if asked == 20:
                until.set()

        return await load_test(busy, model=Model(), duration=60, until=until, **load)

    report = anyio.run(scenario, backend=backend)
    assert report.ended_by == "interrupted"
    assert report.failures == 0.0
    assert asked < 28, "others had to wait for their turn"


@backends
def test_a_workload_that_exits_has_failed_and_costs_no_report(backend: str) -> None:
    @workload
    async def leaving(it: Iteration) -> None:
        if it.number == 1:
            sys.exit(3)

    report = virtual(Model(), what=leaving, backend=backend, concurrency=2, count=4)
    assert report.runs == {"arrived": 4, "completed": 3, "failed": 1}
    assert [(error.kind, error.example) for error in report.errors] == [("SystemExit", "3")]


@backends
def test_what_no_encoding_knows_costs_no_report(backend: str) -> None:
    @workload(name="odd \ud800")
    async def odd(it: Iteration) -> None:
        raise ValueError("half a \ud83d character, \x1b[31mred")

    report = virtual(Model(), what=odd, backend=backend, concurrency=1, count=1)
    assert read_report(write_report(report)) == report
    assert page(report).encode()
    assert report.workload == "odd \N{REPLACEMENT CHARACTER}"
    assert [error.example for error in report.errors] == [
        "half a \N{REPLACEMENT CHARACTER} character, \N{REPLACEMENT CHARACTER}[31mred"
    ]


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="name= takes a text, not 5"):
        workload(name=cast("Any", 5))(ask.function)


@backends
def test_streamed_answers_have_a_first_token_and_time_per_token(backend: str) -> None:
    model = Model(0.5, pieces=4)
    report = virtual(model, backend=backend, concurrency=2, count=6, streams=True)
    assert report.streamed
    for spread, seconds, count in (
        (report.first_token, 0.5, 6),
        (report.between_pieces, 1.0, 18),
        (report.per_token, 0.75, 6),  # three seconds from first to last, five tokens
        (report.request_latency, 3.5, 6),
    ):
        assert spread is not None
        assert (spread.count, spread.p50) == (count, pytest.approx(seconds, rel=0.01))
    assert report.tokens == {"input": 60, "output": 30}
    first = [moment.first_token_p50 for moment in report.timeline]
    assert {round(each, 2) for each in first if each is not None} == {0.5}
    plain = virtual(Model(0.5), backend=backend, concurrency=2, count=6)
    assert (plain.streamed, plain.first_token, plain.per_token, plain.between_pieces) == (False, None, None, None)


class _Gated(Model):
    """Every other request waits 2 s at a gate, and says so, before the answer takes its 0.5 s."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        await self._wait()
        return await super().complete(request)

    @asynccontextmanager
    async def _streamed(self) -> AsyncGenerator[Any]:
        await self._wait()
        async with super()._streamed() as events:
            yield events

    async def _wait(self) -> None:
        if self.asked % 2:
            await anyio.sleep(2)
            if (listener := listening.get()) is not None:
                listener.note(GateOpened(self.name, self.model, 2.0))


@backends
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_what_a_request_waits_at_its_gate_is_counted_apart(backend: str, streamed: bool) -> None:
    report = virtual(_Gated(0.5), backend=backend, concurrency=1, count=10, streams=streamed)
    assert (report.gate_waits, report.requests) == (5, {"ok": 10})
    assert report.gate_wait is not None
    assert (report.gate_wait.count, report.gate_wait.maximum) == (5, pytest.approx(2.0))
    answer = 0.5 + 3.0 if streamed else 0.5  # three more pieces, a second each
    assert report.request_latency is not None
    assert report.request_latency.maximum == pytest.approx(answer)
    assert report.run_latency is not None
    assert report.run_latency.maximum == pytest.approx(answer + 2.0)
    if streamed:
        assert report.first_token is not None
        assert report.first_token.maximum == pytest.approx(0.5)


@backends
def test_tokens_that_the_endpoint_does_not_count_are_not_zero(backend: str) -> None:
    report = virtual(Scripted(*["Done."] * 10), backend=backend, concurrency=1, count=3)
    assert (report.tokens, report.tokens_per_second) == ({}, None)


# -- setup, watching, and what cannot be done


@backends
def test_a_setup_is_around_the_test_and_its_value_is_shared(backend: str) -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def prepare() -> AsyncGenerator[str]:
        seen.append("begun")
        yield "a database"
        seen.append("ended")

    @workload(setup=prepare)
    async def shares(it: Iteration) -> None:
        seen.append(it.shared)

    virtual(Model(), what=shares, backend=backend, concurrency=1, count=2)
    assert seen == ["begun", "a database", "a database", "ended"]


@backends
def test_a_setup_that_fails_is_said_and_one_whose_end_fails_costs_no_report(backend: str) -> None:
    @asynccontextmanager
    async def fails(at: str) -> AsyncGenerator[None]:
        if at == "begin":
            raise OSError("no database")
        yield
        raise OSError("it will not close")

    def work(at: str) -> Any:
        @workload(setup=lambda: fails(at))
        async def shares(it: Iteration) -> None:
            pass

        return shares

    with pytest.raises(BadWorkload, match=r"the setup of workload shares failed: OSError: no database \(.*py:\d+\)"):
        virtual(Model(), what=work("begin"), backend=backend, count=1)
    report = virtual(Model(), what=work("end"), backend=backend, count=1)
    assert report.runs == {"arrived": 1, "completed": 1}
    assert report.warnings[-1].startswith("the end of the workload's setup failed: OSError: it will not close")


@backends
def test_who_watches_sees_the_test_go_on(backend: str) -> None:
    seen: list[Progress] = []
    virtual(Model(0.1), backend=backend, concurrency=2, duration=5, watch=seen.append)
    assert len(seen) >= 40
    assert [each.at for each in seen] == sorted(each.at for each in seen)
    assert (seen[-1].ended, seen[-1].in_flight, seen[-1].ends) == (pytest.approx(98, abs=4), 2, 5.0)
    assert 0 < seen[10].share < seen[30].share <= 1.0
    assert seen[-1].p50 == pytest.approx(0.1, rel=0.01)


@backends
@pytest.mark.parametrize("error", [ConnectionFailed("no such name"), AuthError("no", status=401), Overloaded("down")])
def test_an_endpoint_that_does_not_answer_is_found_out_before(backend: str, error: Exception) -> None:
    class Down(Model):
        async def complete(self, request: Any) -> Any:
            self.asked += 1
            raise error

    model = Down()
    with pytest.raises(type(error)):
        virtual(model, backend=backend, count=1)
    assert model.asked == 1


@backends
def test_an_endpoint_that_is_busy_is_there(backend: str) -> None:
    class Busy(Model):
        async def complete(self, request: Any) -> Any:
            if not self.asked:
                self.asked += 1
                raise RateLimited("later", status=429)
            return await super().complete(request)

    assert virtual(Busy(), backend=backend, concurrency=1, count=2).runs["completed"] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": Model(), "latency": Latency()}, "leave out model"),
        ({"model": Model(), "faults": 0.1}, "leave out model"),
        ({"connections": 0}, "connections must be a whole number"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"faults": 2.0}, "between 0 and 1"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_started(arguments: dict[str, Any], words: str) -> None:
    async def scenario() -> None:
        await load_test(ask, **arguments)

    with pytest.raises(ValueError, match=words):
        run(scenario)


# -- the simulated model, on the real clock


@pytest.mark.anyio
async def test_client_and_simulated_server_count_the_same() -> None:
    faults = Faults(rate_limit=0.1, server_error=0.1, in_a_row=2)

    @workload
    async def work(it: Iteration) -> None:
        await it.run(AGENT, "The same words every time")

    report = await load_test(work, concurrency=10, count=60, latency=Latency(0.005, 0.02), faults=faults, seed=3)
    server = report.server
    assert server is not None
    assert report.runs == {"arrived": 60, "completed": 60}
    for ours, theirs in (("ok", "ok"), ("rate_limited", "rate_limited"), ("server_errors", "server_errors")):
        assert report.requests[ours] == server[theirs]
    assert report.retries == report.requests["rate_limited"] + report.requests["server_errors"] > 3
    assert sum(report.requests.values()) == server["requests"]
    # Each iteration is a conversation of its own there, although all of them have the same words.
    assert (server["runs_started"], server["runs_finished"]) == (60, 60)
    assert (report.target, report.model) == ("simulated", "simulated")
    assert report.connections is not None
    assert report.connections <= 10
    assert report.cpu_share > 0
    assert report.cpu_per_run is not None
    assert report.memory_per_run is not None
