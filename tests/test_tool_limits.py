"""How many calls run at once, and which never do: limits, locks, and that neither can wait for itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import hypothesis.strategies as st
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings

from greenroom import Agent, RunResult, System, WouldDeadlock, tool
from greenroom.agents.tool_gate import Pass, ToolGate
from greenroom.providers import Scripted, call
from greenroom.testing import Interruption, explore, interrupt_everywhere, run

BACKENDS = ("asyncio", "trio")
each_backend = pytest.mark.parametrize("backend", BACKENDS)


class Busy:
    """Counts who is at work, and the most there were, by name."""

    def __init__(self) -> None:
        self.now: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.order: list[str] = []

    async def work(self, name: str, seconds: float = 1.0) -> str:
        self.order.append(name)
        self.now[name] = self.now.get(name, 0) + 1
        self.most[name] = max(self.most.get(name, 0), self.now[name])
        try:
            await anyio.sleep(seconds)
        finally:
            self.now[name] -= 1
        return name


def told(result: RunResult[Any]) -> list[str]:
    return [each.content for message in result.messages for each in message.tool_results]


def asks(name: str, times: int = 1, tools: Any = (), **options: Any) -> Agent[Any, str]:
    """An agent that calls one of its tools so many times in one reply, then answers."""
    return Agent(f"asks-{name}", Scripted(*([[call(name)] * times, "done"] * 50)), tools=tools, **options)


# -- limits


@each_backend
def test_a_limit_of_a_tool_holds_in_all_runs_of_a_system(backend: str) -> None:
    """Scenario 67: 1,000 calls of a tool, ten at a time, from ten runs; another tool is not held up."""

    async def scenario() -> None:
        busy = Busy()
        limited = tool(name="limited", limit=10)(partial(busy.work, "limited"))

        async def free() -> str:
            """Be free."""
            return await busy.work("free", 0.5)

        async with System() as system:
            runs = [await system.start(asks("limited", 100, [limited]), "Go") for _ in range(10)]
            await system.start(asks("free", 100, [free]), "Go")
            results = [await each.result() for each in runs]
        assert busy.most == {"limited": 10, "free": 100}
        assert anyio.current_time() == 100
        assert all(told(result) == ["limited"] * 100 for result in results)

    run(scenario, backend=backend)


@each_backend
def test_a_limit_of_a_system_holds_for_all_its_tools(backend: str) -> None:
    """Scenario 67: whatever the tools, threads among them."""

    async def scenario() -> None:
        busy = Busy()

        async def work() -> str:
            """Work."""
            return await busy.work("any")

        async def other() -> str:
            """Work elsewhere."""
            return await busy.work("any")

        async with System(max_tools=7) as system:
            runs = [await system.start(asks(each.__name__, 500, [each]), "Go") for each in (work, other)]
            for each in runs:
                await each.result()
        assert busy.most == {"any": 7}
        assert anyio.current_time() == math.ceil(1000 / 7)

    run(scenario, backend=backend)


@each_backend
@pytest.mark.parametrize("options", [{"limit": 1}, {"limit": 1, "lock": "one"}, {"lock": "one"}])
@pytest.mark.parametrize("most", [None, 1])
def test_a_tool_may_call_a_subagent_that_calls_it(backend: str, options: dict[str, Any], most: int | None) -> None:
    """Scenario 67: three deep, in two runs at once, and nobody waits for himself."""

    async def scenario() -> None:
        busy = Busy()

        @tool(**options)
        async def dig() -> str:
            """Dig."""
            if len(busy.order) < 6:
                await busy.work("dig")
                await asks("dig", 2, [dig]).run("deeper")
            return await busy.work("dig")

        async with System(max_tools=most) as system:
            runs = [await system.start(asks("dig", 2, [dig]), "Go") for _ in range(2)]
            for each in runs:
                result = await each.result()
                assert told(result) == ["dig", "dig"]
        assert busy.most == {"dig": 1}

    run(scenario, backend=backend)


@each_backend
def test_two_limits_taken_in_opposite_orders_do_not_deadlock(backend: str) -> None:
    """A call that waits for its subagent has no place: each of two finds the other's."""

    async def scenario() -> None:
        busy = Busy()

        def make(name: str, below: Callable[[], Any]) -> Any:
            async def act(leaf: bool = False) -> str:
                await busy.work(name)
                if not leaf:
                    inner = below()
                    script = Scripted([call(inner.name, leaf=True)], "done")
                    await Agent("inner", script, tools=[inner]).run("Go")
                return await busy.work(name)

            return tool(name=name, description=name, limit=1)(act)

        left = make("left", lambda: right)
        right = make("right", lambda: left)
        async with System() as system:
            runs = [await system.start(asks(each.name, 1, [each]), "Go") for each in (left, right)]
            assert [told(await each.result()) for each in runs] == [["left"], ["right"]]
        assert busy.most == {"left": 1, "right": 1}

    run(scenario, backend=backend)


@each_backend
def test_a_call_with_several_subagents_takes_its_place_once(backend: str) -> None:
    async def scenario() -> None:
        busy = Busy()

        async def leaf() -> str:
            """Be a leaf."""
            return await busy.work("leaf")

        @tool(limit=1)
        async def spread() -> str:
            """Spread."""
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(partial(asks("leaf", 1, [leaf]).run, "Go"))
            async with asks("leaf", 1, [leaf]).stream("Go") as inner:
                await inner.result()
            return await busy.work("spread")

        async with System() as system:
            run = await system.start(asks("spread", 4, [spread]), "Go")
            assert told(await run.result()) == ["spread"] * 4
            assert system.stage.gate._limits[spread].value == 1  # type: ignore[reportPrivateUsage]
        assert (busy.most["spread"], busy.most["leaf"]) == (1, 12)

    run(scenario, backend=backend)


@each_backend
def test_a_waiting_call_can_be_stopped_and_holds_nothing(backend: str) -> None:
    """One has the place, two wait; the run of those two is stopped, and the next one gets in."""

    async def scenario() -> None:
        busy = Busy()
        work = tool(name="work", limit=1, lock="key", timeout=3600)(partial(busy.work, "work", 10.0))
        async with System(max_tools=1) as system:
            first = await system.start(asks("work", 1, [work]), "Go")
            await anyio.sleep(1)
            heard: list[str] = []
            second = await system.start(asks("work", 2, [work]), "Go", on_event=lambda event: heard.append(event.type))
            await anyio.sleep(1)
            third = await system.start(asks("work", 1, [work]), "Go")
            await anyio.sleep(1)
            result = await second.stop()
            assert anyio.current_time() == 3
            assert told(result) == ["cancelled: the run was stopped before this call finished"] * 2
            assert "tool.started" not in heard
            await first.result()
            await third.result()
            assert anyio.current_time() == 20
            gate = system.stage.gate
            assert (gate._keys, gate._waiting) == ({}, {})  # type: ignore[reportPrivateUsage]
            assert gate.everyone is not None
            assert gate.everyone.value == 1

    run(scenario, backend=backend)


@each_backend
def test_the_time_of_a_call_counts_from_its_turn(backend: str) -> None:
    async def scenario() -> None:
        work = tool(name="work", limit=1, timeout=3)(partial(Busy().work, "work", 2.0))
        result = await asks("work", 5, [work]).run("Go")
        assert (told(result), anyio.current_time()) == (["work"] * 5, 10)

    run(scenario, backend=backend)


# -- locks


@each_backend
def test_calls_with_one_key_run_one_after_the_other(backend: str) -> None:
    """First come, first served, across runs and tools; other keys go on, and None is no key."""

    async def scenario() -> None:
        busy = Busy()
        order: list[int] = []

        @tool(lock=lambda arguments: arguments["key"])
        async def write(key: str | None, number: int) -> str:
            """Write."""
            order.append(number)
            return await busy.work(str(key))

        @tool(lock="a")
        async def clear() -> str:
            """Clear."""
            return await busy.work("a")

        async with System() as system:
            runs = []
            for number in range(4):
                script = Scripted(
                    [call("write", key=key, number=number) for key in ("a", "b", None, None)] + [call("clear")], "done"
                )
                runs.append(await system.start(Agent("writer", script, tools=[write, clear]), "Go"))
                await anyio.sleep(0.125)
            for each in runs:
                assert told(await each.result()) == ["a", "b", "None", "None", "a"]
        assert (busy.most["a"], busy.most["b"]) == (1, 1)
        assert busy.most["None"] == 8
        assert list(dict.fromkeys(order)) == [0, 1, 2, 3]
        assert anyio.current_time() == 8

    run(scenario, backend=backend)


@each_backend
def test_subagents_share_the_lock_of_the_call_above_them_one_at_a_time(backend: str) -> None:
    async def scenario() -> None:
        busy = Busy()

        @tool(lock="file")
        async def edit() -> str:
            """Edit."""
            return await busy.work("edit")

        @tool(lock="file")
        async def refactor() -> str:
            """Refactor."""
            await asks("edit", 3, [edit]).run("Go")
            return await busy.work("refactor")

        async with System() as system:
            runs = [await system.start(asks("refactor", 1, [refactor]), "Go") for _ in range(2)]
            for each in runs:
                await each.result()
        assert busy.most == {"edit": 1, "refactor": 1}
        assert busy.order == [*["edit"] * 3, "refactor"] * 2

    run(scenario, backend=backend)


@each_backend
def test_locks_taken_in_opposite_orders_are_refused_and_not_waited_for(backend: str) -> None:
    """The call that would close the circle has an error for a result; the other one goes on."""

    async def scenario() -> None:
        def make(key: str, other: str) -> Agent[Any, str]:
            @tool(lock=other)
            async def inner() -> str:
                """Be inside."""
                return "in"

            @tool(lock=key)
            async def outer() -> str:
                """Be outside."""
                await anyio.sleep(1)
                result = await asks("inner", 1, [inner]).run("Go")
                return told(result)[0]

            return asks("outer", 1, [outer])

        async with System() as system:
            runs = [await system.start(make(*keys), "Go") for keys in (("a", "b"), ("b", "a"))]
            results = sorted([told(await each.result())[0] for each in runs])
        assert results[1] == "in"
        assert results[0].startswith("WouldDeadlock: this call would wait for the lock")

    run(scenario, backend=backend)


@each_backend
def test_a_lock_that_cannot_be_told_is_an_error_of_the_call(backend: str) -> None:
    async def scenario() -> None:
        for lock, text in [
            (lambda arguments: arguments["nope"], "KeyError: 'nope'"),
            (lambda arguments: [], "TypeError: unhashable type: 'list'"),
        ]:
            work = tool(name="work", lock=lock)(partial(Busy().work, "work"))  # type: ignore[arg-type]
            assert told(await asks("work", 1, [work]).run("Go")) == [text]

    run(scenario, backend=backend)


# -- the gate by itself


def test_a_new_wait_that_closes_a_circle_is_refused() -> None:
    """Over three keys and three lines; a wait that only takes long is not."""

    async def scenario() -> None:
        gate = ToolGate()

        def make(key: str, above: Pass | None = None) -> Pass:
            return gate.make_pass(object(), None, key, above)

        tops = [make(key) for key in "abc"]
        for top in tops:
            await top.enter()
        below = [make(key, top) for key, top in zip("bca", tops, strict=True)]
        stranger = make("a")
        async with anyio.create_task_group() as group:
            group.start_soon(stranger.enter)
            await anyio.wait_all_tasks_blocked()
            for each in below[:2]:
                group.start_soon(each.enter)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(WouldDeadlock):
                await below[2].enter()
            tops[2].leave()
            await anyio.wait_all_tasks_blocked()
            assert below[1].entered.is_set()
            below[1].leave()
            tops[1].leave()
            await anyio.wait_all_tasks_blocked()
            assert below[0].entered.is_set()
            below[0].leave()
            assert not stranger.entered.is_set()
            tops[0].leave()
        assert stranger.entered.is_set()
        stranger.leave()
        stranger.leave()

    for backend in BACKENDS:
        run(scenario, backend=backend)


def programs(depth: int = 3) -> st.SearchStrategy[Any]:
    """Trees of calls: each has a key, the number of a tool with a limit of one, and those of its subagents."""
    leaf = st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from([0, 1, None]), st.just([]))
    if depth == 0:
        return leaf
    below = st.lists(programs(depth - 1), max_size=2)
    return st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from([0, 1, None]), below)


@each_backend
@given(
    trees=st.lists(programs(), min_size=1, max_size=4), seed=st.integers(0, 1000), most=st.sampled_from([1, 2, None])
)
@settings(max_examples=100, deadline=None)
def test_whatever_the_calls_all_of_them_end(backend: str, trees: list[Any], seed: int, most: int | None) -> None:
    """No order of keys, limits and subagents deadlocks (virtual time would say so), and every bound holds."""

    async def scenario() -> None:
        gate = ToolGate(most)
        tools = [Busy(), Busy()]
        busy: dict[Any, list[Pass]] = {}

        async def perform(tree: Any, above: Pass | None) -> None:
            key, number, below = tree
            limited = number is not None
            own = gate.make_pass(tools[number or 0], 1 if limited else None, key, above)
            try:
                await own.enter()
            except WouldDeadlock:
                return
            bounds = [(("tool", number), 1)] if limited else []
            if most is not None:
                bounds.append((("all", None), most))
            try:
                await code(own, bounds)
                if below:
                    async with anyio.create_task_group() as group:
                        for each in below:
                            own.lend()
                            group.start_soon(subagent, each, own)
                    await own.regain()
                await code(own, bounds)
            finally:
                own.leave()

        async def subagent(tree: Any, own: Pass) -> None:
            try:
                await perform(tree, own)
            finally:
                own.returned()

        async def code(own: Pass, bounds: list[Any]) -> None:
            above = set(own.line())
            if own.key is not None:
                assert all(other in above for other in busy.get(("key", own.key), ()))
            for name, most_at_once in [*bounds, (("key", own.key), 99)]:
                busy.setdefault(name, []).append(own)
                assert len(busy[name]) <= most_at_once
            await anyio.sleep(1)
            for name, _ in [*bounds, (("key", own.key), 99)]:
                busy[name].remove(own)

        async with anyio.create_task_group() as group:
            for tree in trees:
                group.start_soon(perform, tree, None)
        assert (gate._keys, gate._waiting) == ({}, {})  # type: ignore[reportPrivateUsage]
        assert gate.everyone is None or gate.everyone.value == most

    run(scenario, backend=backend, seed=seed)


@each_backend
def test_a_wait_at_the_gate_interrupted_at_every_step(backend: str) -> None:
    """INV1 to INV4, and afterwards the gate is as it was."""

    async def scenario(interruption: Interruption) -> None:
        @tool(limit=1, lock="key")
        async def work() -> str:
            """Work."""
            for _ in range(2):
                await checkpoint()
            return "worked"

        async with System(max_tools=1) as system:
            heard: list[Any] = []
            first = await system.start(asks("work", 2, [work]), "Go", on_event=heard.append)
            second = await system.start(asks("work", 2, [work]), "Go")
            interruption.arm(first.stop)
            results = [await first.result(), await second.result()]
            gate = system.stage.gate
            assert gate.everyone is not None
            assert (gate._keys, gate._waiting, gate.everyone.value) == ({}, {}, 1)  # type: ignore[reportPrivateUsage]
        assert told(results[1]) == ["worked"] * 2
        for result in results:
            calls = [each.id for message in result.messages for each in message.tool_calls]
            assert calls == [each.call_id for message in result.messages for each in message.tool_results]
        assert heard[-1].type in ("run.completed", "run.stopped")

    interrupt_everywhere(scenario, backend=backend)


def test_limits_and_locks_in_any_order_of_tasks(seeds: range) -> None:
    async def scenario() -> None:
        busy = Busy()
        work = tool(name="work", limit=2, lock=lambda arguments: None)(partial(busy.work, "work"))
        keyed = tool(name="keyed", lock="k")(partial(busy.work, "keyed"))
        async with System(max_tools=3) as system:
            runs = [
                await system.start(asks("work", 3, [work]), "Go"),
                await system.start(asks("keyed", 3, [keyed]), "Go"),
            ]
            for each in runs:
                await each.result()
        assert busy.most["work"] <= 2
        assert busy.most["keyed"] == 1

    explore(scenario, seeds=seeds[:20])
