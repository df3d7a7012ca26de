"""The tree as a flat list of nodes, and what has become different between two of them. Pure.

A tree of a thousand runs is a few hundred kilobytes, and most of it is the same half a second later. So whoever watches
gets it whole once and then the nodes that are new or different, by their ids; an age is told as the moment at which it
was 0, which does not change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from ..actors import Node

#: Seconds by which the moment of a node's beginning may seem to move without being another one.
WAVER = 0.5


class FlatNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """One actor of the tree.

    Attributes:
        id: its name behind those of the actors above it, with slashes; unique.
        parent: the id of the actor above; None of the System.
        name, kind, state, depth, restarts, detail: as in the tree.
        began: when it was made, in seconds since the epoch.
    """

    id: str
    parent: str | None
    name: str
    kind: str
    state: str
    began: float
    depth: int = 0
    restarts: int = 0
    detail: dict[str, Any] = {}


class Snapshot(msgspec.Struct, frozen=True, tag="tree"):
    """The whole tree. `version` counts the changes; `time` is in seconds since the epoch."""

    version: int
    time: float
    nodes: list[FlatNode]


class Change(msgspec.Struct, frozen=True, tag="change"):
    """What has become different since the version before: nodes that are new or not as they were, and ids of those
    that are gone, with all below them.
    """

    version: int
    time: float
    nodes: list[FlatNode]
    gone: list[str]


def flat(root: Node, time: float) -> dict[str, FlatNode]:
    """The nodes of a tree by their ids, each behind the one above it."""
    found: dict[str, FlatNode] = {}
    for node in _walk(root, None, time, found):
        found[node.id] = node
    return found


def _walk(node: Node, parent: str | None, time: float, taken: Mapping[str, FlatNode]) -> Iterator[FlatNode]:
    id = node.name.replace("/", "%2F") if parent is None else f"{parent}/{node.name.replace('/', '%2F')}"
    while id in taken:
        id += "+"  # two calls of one id, as some providers make them
    began = round(time - node.age, 1)
    yield FlatNode(id, parent, node.name, node.kind, node.state, began, node.depth, node.restarts, node.detail)
    for child in node.children:
        yield from _walk(child, id, time, taken)


def settled(before: Mapping[str, FlatNode], after: Mapping[str, FlatNode]) -> dict[str, FlatNode]:
    """The nodes as they are, but for beginnings that only seem to have moved: clocks and roundings waver."""
    nodes: dict[str, FlatNode] = {}
    for id, node in after.items():
        known = before.get(id)
        if known is not None and known.began != node.began and abs(known.began - node.began) <= WAVER:
            node = msgspec.structs.replace(node, began=known.began)
        nodes[id] = known if known == node and known is not None else node
    return nodes


def change(before: Mapping[str, FlatNode], after: Mapping[str, FlatNode], version: int, time: float) -> Change | None:
    """What has become different; None if nothing has."""
    nodes = [node for id, node in after.items() if before.get(id) is not node and before.get(id) != node]
    gone = [
        id
        for id, node in before.items()
        if id not in after and (node.parent is None or node.parent in after)  # what is below it goes with it
    ]
    return Change(version, time, nodes, gone) if nodes or gone else None
