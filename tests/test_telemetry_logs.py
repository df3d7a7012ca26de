"""Log lines with structlog: events as lines, and ids in the lines of others."""

from __future__ import annotations

import logging
from collections.abc import Iterator, MutableMapping
from typing import Any, get_args

import anyio
import pytest
import structlog
from anyio.lowlevel import checkpoint

from greenroom import Agent, Retry, System
from greenroom.events import AnyEvent, ModelTextDelta, RunStarted, ToolErrored
from greenroom.providers import InvalidRequest, Overloaded, Scripted, Usage, call
from greenroom.telemetry import bind_ids, log_events
from greenroom.telemetry.log_lines import _LEVELS

pytestmark = pytest.mark.anyio

SECRET = "a heron at noon"
Line = MutableMapping[str, Any]


@pytest.fixture
def lines() -> Iterator[list[Line]]:
    """What is logged, with the context variables merged in, as structlog's defaults do."""
    kept: list[Line] = []

    def keep(logger: Any, method: str, line: Line) -> Line:
        kept.append({**line, "level": method})
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, keep], cache_logger_on_first_use=False)
    yield kept
    structlog.configure(**before)


async def search(words: str) -> str:
    """Search."""
    structlog.get_logger().info("searching")
    await checkpoint()
    return f"found {words}"


def helper(*lines: Any, name: str = "helper", tools: Any = (search,), **options: Any) -> Agent[Any, Any]:
    return Agent(name, Scripted(*lines, usage=Usage(10, 4)), tools=tools, **options)


# -- events


async def test_each_event_is_a_line_with_its_ids(lines: list[Line]) -> None:
    async with System(on_event=log_events()) as system:
        run = await system.start(helper([call("search", words="x")], "Done."), "Go", user_id="u", conversation_id="c")
        await run.result()
    ours = [line for line in lines if line["event"] != "searching"]
    assert [(line["event"], line["level"]) for line in ours] == [
        ("run.started", "debug"),
        ("turn.started", "debug"),
        ("model.started", "debug"),
        ("model.completed", "info"),
        ("tool.started", "debug"),
        ("tool.completed", "info"),
        ("turn.ended", "debug"),
        ("turn.started", "debug"),
        ("model.started", "debug"),
        ("model.completed", "info"),
        ("turn.ended", "debug"),
        ("run.completed", "info"),
    ]
    ids = {"run_id": run.id, "path": run.id, "user_id": "u", "conversation_id": "c"}
    assert all(line.items() >= ids.items() for line in ours)
    tool = ours[5]
    assert (tool["call_id"], tool["tool"], tool["turn"]) == ("call_1", "search", 1)
    assert (ours[-1]["agent"], ours[-1]["input_tokens"], ours[-1]["output_tokens"]) == ("helper", 20, 8)
    assert not {"seq", "time", "type", "text", "arguments", "result", "parent_id"} & set().union(*ours)


async def test_a_subagents_lines_name_its_parent_and_never_the_call_above(lines: list[Line]) -> None:
    inner = helper([call("search", words="x")], "Inner.", name="inner")
    outer = helper([call("inner", prompt="?")], "Outer.", name="outer", tools=[inner])
    async with System(on_event=log_events(), instruments=[bind_ids()]):
        result = await outer.run("Go")
    below = [line for line in lines if line.get("parent_id") == result.run_id]
    assert {line["path"] for line in below} == {f"{result.run_id}/{below[0]['run_id']}"}
    assert {line["event"] for line in below if "call_id" in line} == {"tool.started", "tool.completed"}
    (searching,) = [line for line in lines if line["event"] == "searching"]
    assert searching["run_id"] == below[0]["run_id"]


def test_a_line_has_the_ids_of_its_event_whoever_tells_it(lines: list[Line]) -> None:
    """An event is told in the task of any run of its tree, where the ids of that one are bound."""
    ambient = {"run_id": "other", "call_id": "other", "user_id": "other", "conversation_id": "other", "request": "r1"}
    log = log_events()
    with structlog.contextvars.bound_contextvars(**ambient):
        log(RunStarted(seq=1, time=0.0, run_id="r", path=("r",), user_id="u", agent="a"))
        assert structlog.contextvars.get_contextvars() == ambient
    ids = {"run_id": "r", "path": "r", "user_id": "u", "request": "r1"}
    assert lines == [{"event": "run.started", "level": "debug", "agent": "a", "turn": 0, **ids}]


def test_a_logger_that_raises_leaves_the_ids_as_they_were() -> None:
    def fail(*_: Any) -> Any:
        raise ValueError("no")

    log = log_events(structlog.wrap_logger(None, processors=[fail]))
    with structlog.contextvars.bound_contextvars(call_id="other"):
        with pytest.raises(ValueError, match="no"):
            log(RunStarted(seq=1, time=0.0, run_id="r", path=("r",), agent="a"))
        assert structlog.contextvars.get_contextvars() == {"call_id": "other"}


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("info", ["model.completed", "tool.failed", "model.failed", "run.failed"]),
        ("warning", ["tool.failed", "model.failed", "run.failed"]),
        ("error", ["run.failed"]),
    ],
)
async def test_quieter_events_are_left_out(lines: list[Line], level: Any, told: list[str]) -> None:
    def fail() -> str:
        """Fail."""
        raise ValueError("no")

    async with System(on_event=log_events(level=level)):
        with pytest.raises(InvalidRequest):
            await helper([call("fail")], InvalidRequest("no"), tools=[fail]).run("Go")
    assert [line["event"] for line in lines] == told


async def test_failures_are_loud(lines: list[Line]) -> None:
    async with System(on_event=log_events(level="info")):
        await helper(Overloaded(SECRET), "Done.", retry=Retry(attempts=2, base=0.0)).run("Go")
        with pytest.raises(InvalidRequest):
            await helper(InvalidRequest(SECRET)).run("Go")
    told = [(line["event"], line["level"], line.get("kind"), line.get("error")) for line in lines]
    assert told == [
        ("model.retrying", "warning", "overloaded", None),
        ("model.completed", "info", None, None),
        ("run.completed", "info", None, None),
        ("model.failed", "warning", "invalid_request", None),
        ("run.failed", "error", None, "InvalidRequest"),
    ]


async def test_a_call_that_was_cancelled_is_no_warning(lines: list[Line]) -> None:
    facts: dict[str, Any] = {"seq": 1, "time": 0.0, "run_id": "r", "path": ("r",), "call_id": "c", "tool": "t"}
    log = log_events()
    log(ToolErrored(result="", cause="cancelled", **facts))
    log(ToolErrored(result="", cause="failed", **facts))
    log(ModelTextDelta(seq=1, time=0.0, run_id="r", path=("r",), text="never"))
    assert [line["level"] for line in lines] == ["info", "warning"]


async def test_contents_are_logged_only_where_they_are_asked_for(lines: list[Line]) -> None:
    def fail(words: str) -> str:
        """Fail."""
        raise ValueError(words)

    def agent() -> Agent[Any, Any]:
        asked = [call("search", words=SECRET), call("fail", words=SECRET)]
        return helper(asked, SECRET, tools=[search, fail], instructions=SECRET)

    async with System(on_event=log_events()):
        async with agent().stream(SECRET) as run:
            await run.result()
        with pytest.raises(InvalidRequest):
            await helper(InvalidRequest(SECRET)).run(SECRET)
    assert len(lines) > 10
    assert SECRET not in str(lines)

    lines.clear()
    async with System(on_event=log_events(contents=True)):
        await agent().run(SECRET)
    said = {line["event"]: line for line in lines}
    assert said["tool.started"]["arguments"] == {"words": SECRET}
    assert said["tool.completed"]["result"] == f"found {SECRET}"
    assert said["run.completed"]["text"] == SECRET


async def test_a_logger_of_ones_own_is_used(lines: list[Line]) -> None:
    async with System(on_event=log_events(structlog.get_logger().bind(service="shop"))):
        await helper("Done.").run("Go")
    assert {line["service"] for line in lines} == {"shop"}


def test_every_loud_event_exists() -> None:
    assert set(_LEVELS) <= set(get_args(AnyEvent))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"logger": logging.getLogger("x")}, TypeError, r"^log_events\(logger\) takes a logger of structlog"),
        ({"level": "loud"}, ValueError, r"^level='loud' is not one of 'debug', 'info', 'warning', 'error'"),
        ({"contents": 1}, TypeError, r"^contents= takes True or False, not 1"),
    ],
)
def test_wrong_arguments_are_refused(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        log_events(**given)


# -- ids in other lines


async def test_what_a_tool_logs_has_the_ids_of_its_run_and_call(lines: list[Line]) -> None:
    def compute() -> str:
        """Compute."""
        structlog.get_logger().info("computing")
        return ""

    agent = helper([call("search", words="x"), call("compute")], "Done.", tools=[search, compute])
    async with System(instruments=[bind_ids()]):
        result = await agent.run("Go", user_id="u", conversation_id="c")
    ids = {"run_id": result.run_id, "user_id": "u", "conversation_id": "c"}
    assert {line["event"]: line for line in lines} == {
        "searching": {"event": "searching", "level": "info", "call_id": "call_1", **ids},
        "computing": {"event": "computing", "level": "info", "call_id": "call_2", **ids},
    }


async def test_instructions_of_a_subagent_are_in_no_call(lines: list[Line]) -> None:
    def instructions(_: Any) -> str:
        structlog.get_logger().info("instructed")
        return ""

    inner = helper("Inner.", name="inner", instructions=instructions)
    async with System(instruments=[bind_ids()]):
        result = await helper([call("inner", prompt="?")], "Outer.", tools=[inner]).run("Go")
    (line,) = lines
    assert line["run_id"].startswith(f"{result.run_id}.")
    assert "call_id" not in line


async def test_what_was_bound_before_stays_and_comes_back(lines: list[Line]) -> None:
    with structlog.contextvars.bound_contextvars(request="r1", run_id="mine"):
        async with System(on_event=log_events(), instruments=[bind_ids()]):
            result = await helper([call("search", words="x")], "Done.").run("Go")
        structlog.get_logger().info("after")
    assert {line["request"] for line in lines} == {"r1"}
    assert {line["run_id"] for line in lines[:-1]} == {result.run_id}
    assert (lines[-1]["event"], lines[-1]["run_id"], "call_id" in lines[-1]) == ("after", "mine", False)


async def test_runs_at_the_same_time_keep_their_ids_apart(lines: list[Line]) -> None:
    async def look(number: int) -> str:
        """Look."""
        await anyio.sleep(0)
        structlog.get_logger().info("looking", number=number)
        return ""

    async with System(instruments=[bind_ids()]):
        agents = [helper([call("look", number=n)], "Done.", tools=[look]) for n in range(20)]
        async with anyio.create_task_group() as group:
            for n, agent in enumerate(agents):
                group.start_soon(lambda agent, n: agent.run("Go", run_id=f"run-{n}"), agent, n)
    assert sorted((line["number"], line["run_id"]) for line in lines) == [(n, f"run-{n}") for n in range(20)]
