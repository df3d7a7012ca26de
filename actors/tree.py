"""The supervision tree as data: one snapshot, readable as text or as dictionaries."""

from __future__ import annotations

from typing import Any

import msgspec


class Node(msgspec.Struct, frozen=True):
    """One actor in a snapshot of the tree.

    `age` is in seconds since the actor was made, `depth` the messages waiting, `detail` what the kind of actor adds
    (a run: its turn and its spend). `str(node)` draws the subtree.
    """

    name: str
    kind: str
    state: str
    age: float
    depth: int = 0
    restarts: int = 0
    detail: dict[str, Any] = {}
    children: tuple[Node, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The subtree as plain dictionaries and lists."""
        return msgspec.to_builtins(self)

    def line(self) -> str:
        """This node alone, as one line."""
        facts = [self.state, f"{self.age:.1f}s"]
        if self.depth:
            facts.append(f"{self.depth} waiting")
        if self.restarts:
            facts.append(f"{self.restarts} restarts")
        facts += [f"{key} {value}" for key, value in self.detail.items()]
        return f"{self.name} ({self.kind}) {', '.join(facts)}"

    def __str__(self) -> str:
        return "\n".join(_draw(self, "", ""))


def _draw(node: Node, first: str, rest: str) -> list[str]:
    lines = [first + node.line()]
    for index, child in enumerate(node.children):
        last = index == len(node.children) - 1
        lines += _draw(child, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))
    return lines
