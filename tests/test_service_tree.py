"""The tree over HTTP: whole once, then what has changed; cheap however many watch, and however slow they are."""

from __future__ import annotations

import json
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import Agent, System
from greenroom.actors import Node
from greenroom.providers import ModelRequest, Scripted
from greenroom.service import Service
from greenroom.service.tree_changes import WAVER, FlatNode, change, flat, settled
from greenroom.service.tree_watch import INTERVAL, KEPT, TreeWatch
from greenroom.testing import backend

from .asgi import Asgi, frames


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Time jumps where nothing else can go on."""
    return backend(request.param)


def node(name: str, *children: Node, state: str = "running", age: float = 0.0, **facts: Any) -> Node:
    return Node(name, "run", state, age, children=children, **facts)


class Client:
    """What a page makes of the messages."""

    def __init__(self) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}
        self.version = 0

    def hear(self, told: dict[str, Any]) -> None:
        if told["type"] == "tree":
            self.nodes = {}
        else:
            assert told["version"] == self.version + 1
            for id in told["gone"]:
                assert id in self.nodes
                self.nodes = {each: known for each, known in self.nodes.items() if not self._is_below(each, id)}
        self.version = told["version"]
        for each in told["nodes"]:
            assert each["parent"] is None or each["parent"] in self.nodes, "a child before its parent"
            self.nodes[each["id"]] = each

    def _is_below(self, each: str | None, id: str) -> bool:
        while each is not None:
            if each == id:
                return True
            each = self.nodes[each]["parent"]
        return False


names = st.sampled_from(["a", "b", "a/b", "a%2Fb", "", "a+"])
facts = {"state": st.sampled_from(["running", "paused"]), "depth": st.integers(0, 2), "detail": st.just({"turn": 1})}
leaves = st.builds(Node, names, st.just("tool"), age=st.just(0.0), **facts)
trees = st.recursive(
    leaves,
    lambda below: st.builds(
        Node, names, st.just("run"), age=st.just(0.0), children=st.lists(below, max_size=4).map(tuple), **facts
    ),
    max_leaves=12,
)


@given(
    st.lists(trees.map(lambda each: Node("system", "system", "open", 0.0, children=(each,))), min_size=1, max_size=6)
)
def test_whoever_applies_the_changes_has_the_tree(snapshots: list[Node]) -> None:
    """Whatever the trees are, and whatever their nodes are called."""
    now = 0.0

    def look() -> Node:
        return snapshots[0]

    watch = TreeWatch(look, lambda: now)
    client = Client()
    while snapshots:
        version, piece = watch.read(client.version)
        for frame in frames(piece):
            client.hear(json.loads(frame["data"]))
        assert client.version == version
        expected = [msgspec.to_builtins(each) for each in flat(snapshots[0], 0.0).values()]
        seen = [{**each, "began": 0.0} for each in client.nodes.values()]
        assert sorted(seen, key=str) == sorted(expected, key=str)
        assert len(expected) == str(snapshots[0]).count("\n") + 1
        snapshots.pop(0)
        now += INTERVAL


def test_the_same_tree_is_no_change() -> None:
    """Although everything in it has grown older, and clocks waver."""
    before = flat(node("system", node("a", age=5.0)), 100.0)
    for seconds, waver in ((7.0, 0.0), (7.0, WAVER - 0.1), (7.0, 0.1 - WAVER)):
        after = settled(
            before, flat(node("system", node("a", age=5.0 + seconds), age=seconds), 100.0 + seconds + waver)
        )
        assert change(before, after, 2, 0.0) is None
    other = settled(before, flat(node("system", node("a", age=1.0)), 100.0))
    found = change(before, other, 2, 0.0)
    assert found is not None
    assert [each.id for each in found.nodes] == ["system/a"]  # another one of that name


def test_what_is_below_what_is_gone_is_not_named() -> None:
    before = flat(node("system", node("a", node("b", node("c"))), node("d")), 0.0)
    found = change(before, flat(node("system", node("d")), 0.0), 2, 0.0)
    assert found is not None
    assert (found.gone, found.nodes) == (["system/a"], [])


def test_ids_tell_names_apart() -> None:
    tree = node("system", node("a/b"), node("a", node("b"), node("b"), node("b")))
    assert list(flat(tree, 0.0)) == [
        *("system", "system/a%2Fb", "system/a", "system/a/b", "system/a/b+", "system/a/b++"),
    ]


class Looking:
    """A tree whose state is the time, and how often it was looked at."""

    def __init__(self) -> None:
        self.now = 0.0
        self.looks = 0
        self.watch = TreeWatch(self.look, lambda: self.now)

    def look(self) -> Node:
        self.looks += 1
        return node("system", state=str(self.now))


def test_one_look_for_all_who_watch() -> None:
    """And none between two of them, however many ask."""
    looking = Looking()
    for _ in range(1_000):
        looking.watch.read(0)
    assert looking.looks == 1
    looking.now = INTERVAL
    pieces = {looking.watch.read(1) for _ in range(1_000)}
    assert (len(pieces), looking.looks) == (1, 2)
    looking.now = INTERVAL * 1.5
    assert looking.watch.read(2) == (2, b"")
    assert looking.looks == 2


def test_who_is_late_gets_all_changes_or_the_whole() -> None:
    """Those that are kept, one after the other; beyond them the tree as it is."""
    looking = Looking()
    looking.watch.read(0)
    for _ in range(KEPT):
        looking.now += INTERVAL
        looking.watch.read(looking.watch.read(0)[0])
    version, piece = looking.watch.read(1)
    assert [frame["event"] for frame in frames(piece)] == ["change"] * KEPT
    looking.now += INTERVAL
    version, piece = looking.watch.read(1)
    [frame] = frames(piece)
    assert (frame["event"], json.loads(frame["data"])["version"]) == ("tree", version)
    assert json.loads(frame["data"])["nodes"][0]["state"] == str(looking.now)


# -- over HTTP


async def think(_: ModelRequest) -> str:
    await anyio.sleep(100)
    return "I have thought."


@pytest.mark.anyio
async def test_the_tree_as_it_changes() -> None:
    """Runs come and go in it; while nothing changes, nothing is sent but a sign of life."""
    async with Service(Agent("helper", Scripted(*[think] * 9))) as service:
        client = Asgi(service)
        page = Client()
        async with client.stream("GET", "/tree/events") as stream:
            [frame] = frames(await stream.piece())
            page.hear(json.loads(frame["data"]))
            assert list(page.nodes) == ["system"]
            assert anyio.current_time() == 0
            await client.post("/runs", {"prompt": "Hi", "run_id": "one"})
            page.hear(json.loads(frames(await stream.piece())[0]["data"]))
            assert page.nodes["system/one"]["kind"] == "run"
            assert page.nodes["system/one"]["detail"]["agent"] == "helper"
            assert 0 < anyio.current_time() <= 2 * INTERVAL
            while "system/one" in page.nodes:
                for frame in frames(await stream.piece()):
                    page.hear(json.loads(frame["data"]))
            assert 100 <= anyio.current_time() <= 101
            await client.get("/health")
            assert await stream.piece() == b": keep-alive\n\n"


@pytest.mark.anyio
async def test_it_ends_with_the_service() -> None:
    """Because nothing else would end it."""
    service = Service(Agent("helper", Scripted()))
    async with service, Asgi(service).stream("GET", "/tree/events") as stream:
        await stream.piece()
        service.end_streams()
        [frame] = frames(await stream.rest())
    assert [node["state"] for node in json.loads(frame["data"])["nodes"]] == ["draining"]


@pytest.mark.anyio
@pytest.mark.parametrize("opened_before", [False, True])
async def test_it_goes_on_until_the_system_has_closed(opened_before: bool) -> None:
    """Whoever has opened that: a watcher sees the runs go. Then it ends, and nobody begins to watch."""
    system = System()
    service = Service(Agent("helper", Scripted(*[think] * 9)), system=system)
    client, page = Asgi(service), Client()
    seen = anyio.Event()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                async with client.stream("GET", "/tree/events") as stream:
                    while piece := await stream.piece():
                        for frame in frames(piece):
                            page.hear(json.loads(frame["data"]))
                        seen.set()

            async with system if opened_before else service:
                await client.post("/runs", {"prompt": "Hi", "run_id": "one"})
                group.start_soon(watch)
                await seen.wait()
                assert "system/one" in page.nodes
    assert "system/one" not in page.nodes
    assert anyio.current_time() <= 2 * INTERVAL
    if not opened_before:
        assert (await client.get("/tree/events")).status == 503


@pytest.mark.anyio
async def test_nobody_looks_where_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the last one has gone, the tree is left alone."""
    async with Service(Agent("helper", Scripted())) as service:
        looks = 0
        tree = service.system.tree

        def look() -> Node:
            nonlocal looks
            looks += 1
            return tree()

        monkeypatch.setattr(service.system, "tree", look)
        async with Asgi(service).stream("GET", "/tree/events") as stream:
            await stream.piece()
            with anyio.move_on_after(10):
                await stream.piece()
        seen = looks
        assert 10 <= seen <= 10 / INTERVAL + 2
        await anyio.sleep(100)
        assert looks == seen


def test_a_flat_node_says_everything() -> None:
    """What a node of the tree has, but for its age, which is told as a beginning."""
    said = set(FlatNode.__struct_fields__) - {"id", "parent", "began"}
    assert said == set(Node.__struct_fields__) - {"age", "children"}
