"""Workloads of the load tester: how they are written, found in files, and given the model of the test."""

from __future__ import annotations

import gc
import json
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from greenroom import Agent, Hooks, tool
from greenroom.load import Iteration, Latency, Workload, load_test, workload
from greenroom.load.tester.builtin import BUILT_IN, built_in
from greenroom.load.tester.copies import Copies
from greenroom.load.tester.files import is_file, workload_in
from greenroom.load.tester.meter import Meter
from greenroom.load.tester.recorder import Recorder
from greenroom.load.tester.workloads import BadWorkload
from greenroom.providers import ModelReply, ModelRequest, Provider, Scripted, assistant, call
from greenroom.providers.notices import GateOpened, GateWaiting, listening

from .load_models import AGENT, Model, virtual

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Forbidden(Provider):
    """The model that an agent was made with, which a load test must not ask: it may cost money."""

    name = model = "forbidden"

    async def complete(self, request: ModelRequest) -> ModelReply:
        raise AssertionError("a load test asked the agent's own model")


class Obedient(Model):
    """Calls every tool that is offered, once, and then answers."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        await super().complete(request)
        if request.tools and request.messages[-1].role == "user":
            calls = [
                call(each.name, **({"prompt": "x"} if each.parameters["properties"] else {})) for each in request.tools
            ]
            return ModelReply(assistant(tool_calls=calls))
        return ModelReply(assistant("Done."))


# -- the meter


def test_the_meter_counts_what_nobody_waits_for() -> None:
    meter = Meter(0)
    meter.begin_run(1.0)
    meter.open(2.0)  # 1 second of our own
    meter.close(5.0)
    meter.end_run(5.5)  # half a second
    meter.begin_run(10.0)
    meter.end_run(10.25)  # what was between two runs is the workload's own
    assert meter.overhead == 1.75


def test_what_is_open_at_the_same_time_is_counted_once() -> None:
    meter = Meter(0)
    meter.begin_run(0.0)
    meter.open(1.0)
    meter.open(2.0)
    meter.close(3.0)
    meter.close(4.0)
    meter.end_run(6.0)
    assert meter.overhead == 3.0


def test_runs_side_by_side_are_one_stretch_of_time() -> None:
    meter = Meter(0)
    meter.begin_run(0.0)
    meter.begin_run(1.0)
    meter.open(2.0)
    meter.close(3.0)
    meter.end_run(4.0)
    meter.end_run(5.0)
    assert meter.overhead == 4.0


def test_a_pause_is_not_counted_but_what_comes_late_after_it_is() -> None:
    meter = Meter(0)
    meter.begin_run(0.0)
    meter.pause(1.0, 2.0)
    meter.open(3.5)
    meter.close(4.0)
    meter.end_run(4.0)
    assert meter.overhead == 1.5


def test_a_tool_that_never_ran_closes_nothing() -> None:
    meter = Meter(0)
    meter.begin_run(0.0)
    meter.begin_tool(1.0, "run", "a")
    meter.end_tool(2.0, "run", "b")  # it was refused
    meter.end_tool(3.0, "other", "a")
    meter.end_tool(5.0, "run", "a")
    meter.end_tool(6.0, "run", "a")
    meter.end_run(6.0)
    assert meter.overhead == 2.0


# -- agents get the model of the test


@backends
def test_subagents_and_handoffs_ask_the_model_of_the_test(backend: str) -> None:
    """Also those that were made tools by hand, and two that hand over to each other."""
    clerk = Agent("clerk", Forbidden())
    archivist = Agent("archivist", Forbidden(), description="Knows the archive.")
    billing = Agent("billing", Forbidden())
    triage = Agent("triage", Forbidden(), tools=[clerk, archivist.as_tool(name="ask_archive"), billing.as_handoff()])
    billing.tool(triage.as_handoff())
    names: list[list[str]] = []

    class Watched(Obedient):
        async def complete(self, request: ModelRequest) -> ModelReply:
            names.append([each.name for each in request.tools])
            return await super().complete(request)

    @workload
    async def work(it: Iteration) -> None:
        assert (await it.run(triage, "Go")).output == "Done."

    report = virtual(Watched(), what=work, backend=backend, concurrency=1, count=2)
    assert report.errors == ()
    assert report.runs == {"arrived": 2, "completed": 2}
    assert ["clerk", "ask_archive", "transfer_to_billing"] in names
    assert ["transfer_to_triage"] in names
    # Triage, the clerk and the archivist; then billing has the conversation.
    assert report.requests == {"ok": 8}
    assert report.tool_calls == 6


@backends
def test_an_agent_that_a_tool_runs_is_asked_for(backend: str) -> None:
    inner = Agent("inner", Forbidden())

    @workload
    async def work(it: Iteration) -> None:
        @tool
        async def ask_inner() -> str:
            """Ask the inner one."""
            return (await it.agent(inner).run("Go")).output

        await it.run(Agent("outer", it.model, tools=[ask_inner]), "Go")

    report = virtual(Obedient(), what=work, backend=backend, concurrency=1, count=1)
    assert report.requests == {"ok": 3}


@backends
def test_the_overhead_of_subagents_is_seen_although_a_tool_call_waits_for_them(backend: str) -> None:
    async def slow(context: Any) -> str:
        await anyio.sleep(0.5)
        return "Be slow."

    clerk = Agent("clerk", Forbidden(), instructions=slow)
    leader = Agent("leader", Forbidden(), tools=[clerk])

    @workload
    async def work(it: Iteration) -> None:
        await it.run(leader, "Go")

    report = virtual(Obedient(1.0), what=work, backend=backend, concurrency=1, count=1)
    assert report.overhead is not None
    assert report.overhead.p50 == pytest.approx(0.5, rel=0.01)


@backends
def test_the_hooks_of_an_agent_go_on_hearing(backend: str) -> None:
    heard: list[str] = []

    async def look() -> str:
        """Look."""
        return "seen"

    listening = Hooks(on_tool_start=lambda event: heard.append(event.tool))
    by_name: Any = {"on_run_end": lambda event: heard.append(event.type)}
    agents = [
        Agent("one", Forbidden(), tools=[look], hooks=listening),
        Agent("two", Forbidden(), tools=[look], hooks=by_name),
        Agent("both", Forbidden(), tools=[look], hooks=[listening, by_name]),
    ]

    @workload
    async def work(it: Iteration) -> None:
        for agent in agents:
            await it.run(agent, "Go")

    assert virtual(Obedient(), what=work, backend=backend, concurrency=1, count=1).tool_calls == 3
    assert heard == ["look", "run.completed", "look", "run.completed"]


def test_a_copy_is_made_once_and_kept_no_longer_than_its_agent() -> None:
    copies = Copies(Scripted(), Recorder(lambda: 0.0))
    agent = Agent("one", Forbidden())
    copy = copies.of(agent)
    assert copies.of(agent) is copy is copies.of(copy)
    assert copy.name == "one"
    gone = [weakref.ref(agent), weakref.ref(copy)]
    del agent, copy
    gc.collect()
    assert [each() for each in gone] == [None, None]


def test_an_agent_that_has_been_copied_takes_no_more_tools() -> None:
    """The copy would not have them."""
    agent = Agent("one", Forbidden())
    Copies(Scripted(), Recorder(lambda: 0.0)).of(agent)
    with pytest.raises(Exception, match="has run already"):
        agent.tool(lambda: None)


@backends
def test_what_is_no_agent_is_named(backend: str) -> None:
    @workload
    async def work(it: Iteration) -> None:
        await it.run("triage", "Go")  # type: ignore[arg-type]

    (error,) = virtual(Model(), what=work, backend=backend, count=1).errors
    assert (error.kind, error.example) == ("TypeError", "it.run(agent, prompt) takes an Agent, not 'triage'")


@backends
def test_iterations_are_numbered_and_have_random_numbers_of_their_own(backend: str) -> None:
    def drawn(seed: int) -> dict[int, float]:
        found: dict[int, float] = {}

        @workload
        async def work(it: Iteration) -> None:
            await anyio.sleep(0.5 - it.number / 10)
            found[it.number] = it.random.random()

        virtual(Model(), what=work, backend=backend, concurrency=3, count=4, seed=seed)
        return found

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert sorted(first) == [0, 1, 2, 3]
    assert first == again != other
    assert len(set(first.values())) == 4


# -- the decorator


def test_a_workload_says_what_it_is() -> None:
    @workload(name="orders", width=4)
    async def work(it: Iteration) -> None:
        """Somebody asks for an order.

        More words.
        """

    assert isinstance(work, Workload)
    assert (work.name, work.about, work.width) == ("orders", "Somebody asks for an order.", 4)
    assert repr(work) == "<workload 'orders'>"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: workload(lambda it: None), TypeError, "async def"),
        (lambda: workload(_nobody), TypeError, "must take one argument"),
        (lambda: workload(setup=5)(_work), TypeError, "setup= takes a function"),
        (lambda: workload(width=0)(_work), ValueError, "width= must be at least 1"),
        (lambda: workload(width="3")(_work), TypeError, "width= takes a whole number"),
    ],
)
def test_what_is_no_workload_is_refused(make: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        make()
    assert words in str(caught.value)


async def _nobody() -> None: ...


async def _work(it: Iteration) -> None: ...


# -- those that are built in


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "options", "requests", "tool_calls"),
    [
        ("chat", {}, 1, 0),
        ("tools", {"steps": 2}, 3, 2),
        ("fanout", {"subagents": 2}, 4, 2),
        ("context", {"tokens": 2_000}, 1, 0),
        ("stream", {"pieces": 20}, 1, 0),
    ],
)
async def test_a_built_in_workload_makes_the_requests_that_it_says(
    name: str, options: dict[str, int], requests: int, tool_calls: int
) -> None:
    what = built_in(name, options)
    report = await load_test(what, concurrency=3, count=4, latency=Latency(0.0, 0.0))
    assert report.runs == {"arrived": 4, "completed": 4}
    assert report.requests == {"ok": 4 * requests}
    assert report.tool_calls == 4 * tool_calls
    assert f"{requests} request" in what.about
    assert report.streamed == (name == "stream")
    if name == "context":
        assert report.tokens["input"] == pytest.approx(4 * 2_000, rel=0.1)
    if name == "stream":
        assert report.between_pieces is not None
        assert report.between_pieces.count == 4 * 19
    assert report.server is not None
    assert report.server["runs_finished"] == 4


@pytest.mark.anyio
async def test_there_are_connections_for_the_width_of_a_workload() -> None:
    report = await load_test(built_in("fanout", {"subagents": 4}), concurrency=2, count=6, latency=Latency(0.05, 0.05))
    assert report.connections is not None
    assert 2 < report.connections <= 8
    narrow = await load_test(built_in("fanout", {"subagents": 4}), count=6, connections=2, latency=Latency(0.05, 0.05))
    assert narrow.connections == 2
    assert narrow.runs == {"arrived": 6, "completed": 6}


@backends
@pytest.mark.parametrize("name", BUILT_IN)
def test_a_real_model_is_asked_in_plain_words(name: str, backend: str) -> None:
    prompts: list[str] = []

    class Real(Model):
        async def complete(self, request: ModelRequest) -> ModelReply:
            prompts.append(request.messages[0].text)
            assert request.settings.extra in (None, {})
            return await super().complete(request)

    virtual(Real(), what=built_in(name, {}), backend=backend, concurrency=1, count=1)
    assert "[[plan" not in "".join(prompts)
    assert all(prompt.strip() for prompt in prompts)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("nope", {}, "there is no workload 'nope': there are chat, tools"),
        ("chat", {"steps": 3}, "workload chat takes no steps: steps is an option of tools"),
        ("tools", {"nope": 3}, "there is no option 'nope'"),
        ("tools", {"steps": 0}, "steps must be a whole number, 1 or more"),
        ("stream", {"pieces": "many"}, "pieces must be a whole number"),
    ],
)
def test_an_option_that_a_workload_does_not_take_is_refused_by_name(name: str, options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=r"workload|option|whole number") as caught:
        built_in(name, options)
    assert words in str(caught.value)


# -- in files

ONE = """
from greenroom.load import Iteration, workload
import beside

@workload
async def support(it: Iteration) -> None:
    '''A customer asks.'''

again = support

async def helper(it): ...
"""
TWO = ONE + "\n@workload\nasync def sales(it: Iteration) -> None: ...\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    files = {
        "one.py": ONE,
        "two.py": TWO,
        "beside.py": "",
        "none.py": "async def support(it): ...\nnumber = 3\n",
        "broken.py": "import beside\n\ndef oops(:\n",
        "raising.py": "import beside\n\nraise OSError('no\\ndatabase')\n",
        "needing.py": "import no_such_module\n",
        "deep.py": "import deeper\n",
        "deeper.py": "\n\n1 / 0\n",
        "json.py": ONE,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_the_one_workload_of_a_file_is_found(folder: Path) -> None:
    found = workload_in("one.py")
    assert (found.name, found.about) == ("support", "A customer asks.")
    assert workload_in("two.py:sales").name == "sales"
    assert workload_in(str(folder / "one.py") + ":again").name == "support"
    # What it imports later is found too, but hides nothing.
    assert str(folder) in sys.path
    assert sys.path[0] != str(folder)


def test_a_file_may_be_called_as_a_module_is(folder: Path) -> None:
    assert workload_in("json.py").name == "support"
    assert json.dumps([1]) == "[1]"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("missing.py", "missing.py: there is no such file (looked in "),
        (
            "none.py",
            "has no workload, that is no `async def` with @workload above it; write @workload above support",
        ),
        ("two.py", "two.py has several workloads, support, again, sales: say which, as two.py:support"),
        ("two.py:sale", "two.py has no workload 'sale'; did you mean sales?"),
        ("one.py:helper", "one.py: helper is no workload; write @workload above it"),
        ("broken.py", "broken.py:3: "),
        ("raising.py", "raising.py cannot be imported: OSError: no database ("),
        ("needing.py", "needing.py cannot be imported: ModuleNotFoundError: No module named 'no_such_module' ("),
        ("deep.py", "deeper.py:3)"),
    ],
)
def test_a_file_without_a_workload_is_one_clear_line(folder: Path, text: str, words: str) -> None:
    with pytest.raises(BadWorkload) as caught:
        workload_in(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_line_that_raised_is_named(folder: Path) -> None:
    with pytest.raises(BadWorkload, match=r"\(.*raising\.py:3\)$"):
        workload_in("raising.py")


@pytest.mark.parametrize(("text", "expected"), [("chat", False), ("a.py", True), ("a.py:b", True), ("./x", True)])
def test_a_file_is_told_from_a_built_in_name(text: str, expected: bool) -> None:
    assert is_file(text) is expected


# -- what a run is told of goes on


@backends
def test_who_listens_to_the_gate_hears_it_through_the_measured_provider(backend: str) -> None:
    """A run is told of its wait, and the wait is measured apart from the request."""

    class Gated(Model):
        stream = Provider.stream

        async def complete(self, request: ModelRequest) -> ModelReply:
            listener = listening.get()
            if self.asked and listener is not None:
                await listener.hear(GateWaiting("test", "slow", "rate", 2.0, 0))
                await anyio.sleep(2.0)
                listener.note(GateOpened("test", "slow", 2.0))
            return await super().complete(request)

    told: list[str] = []

    @workload
    async def work(it: Iteration) -> None:
        await it.run(AGENT, "Go", on_event=lambda event: told.append(event.type))

    report = virtual(Gated(1.0), what=work, backend=backend, concurrency=1, count=1)
    assert {"gate.waiting", "gate.opened"} <= set(told)
    assert report.gate_waits == 1
    assert report.gate_wait is not None
    assert report.request_latency is not None
    assert (report.gate_wait.p50, report.request_latency.p50) == (pytest.approx(2.0), pytest.approx(1.0))
    assert report.overhead is not None
    assert report.overhead.p50 < 0.01
