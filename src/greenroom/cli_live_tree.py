"""A supervision tree as lines of a terminal: each actor on a line, and many runs of one kind as a group.

Pure: a snapshot (`Node`) and a size in, lines out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from rich.text import Text

from .actors import Node
from .agents.trace import dollars, duration

#: Runs of one agent that are shown one by one; of more, how many do what.
FEW = 5
#: The oldest runs of a group, which are shown with all that is below them.
OLDEST = 2
_BAR = 24

Doing: TypeAlias = Literal["asking the model", "using tools", "waiting", "ending"]
_STYLES: dict[Doing, tuple[str, str]] = {
    "asking the model": ("█", "cyan"),
    "using tools": ("▓", "yellow"),
    "waiting": ("░", "dim"),
    "ending": ("▒", "magenta"),
}
_STATES = {"restarting": "bold red", "stopping": "magenta", "paused": "yellow", "starting": "dim"}


def doing(run: Node) -> Doing:
    """What a run is at."""
    if run.state in ("stopping", "ended"):
        return "ending"
    if any(child.kind == "tool" for child in run.children):
        return "using tools"
    return "waiting" if run.state != "running" or not run.detail.get("turn") else "asking the model"


def lines_of(tree: Node, rows: int) -> list[Text]:
    """The tree in at most so many lines; what has no room is counted in the last one."""
    lines = [_line(tree, "", "bold"), *_below(tree.children, "")]
    if len(lines) <= rows:
        return lines
    return [*lines[: max(0, rows - 1)], Text(f"… {len(lines) - rows + 1} more lines", "dim")][:rows]


def _below(nodes: Sequence[Node], indent: str) -> Iterator[Text]:
    """The lines of siblings: actors first, then runs by agent."""
    runs: dict[str, list[Node]] = {}
    blocks: list[list[Node]] = []
    for node in nodes:
        if node.kind != "run":
            blocks.append([node])
        else:
            runs.setdefault(str(node.detail.get("agent", "")), []).append(node)
    for alike in runs.values():
        blocks += [[node] for node in alike] if len(alike) <= FEW else [alike]
    for index, block in enumerate(blocks):
        last = index == len(blocks) - 1
        first, rest = indent + ("└─ " if last else "├─ "), indent + ("   " if last else "│  ")
        if len(block) == 1:
            yield _line(block[0], first)
            yield from _below(block[0].children, rest)
        else:
            yield from _group(block, first, rest)


def _group(runs: Sequence[Node], first: str, rest: str) -> Iterator[Text]:
    """Many runs of one agent."""
    counts = Counter[Doing](doing(run) for run in runs)
    restarts = sum(run.restarts for run in runs)
    agent = str(runs[0].detail.get("agent", ""))
    head = Text(first, "dim") + Text(f"{len(runs):,} runs of {agent}", "bold")
    if restarts:
        head += Text(f", {restarts:,} restart{'' if restarts == 1 else 's'}", "red")
    yield head
    yield Text(f"{rest}  ", "dim") + _bar(counts, len(runs))
    tools = Counter(child.name.partition(":")[0] for run in runs for child in run.children if child.kind == "tool")
    below = Counter(str(each.detail.get("agent", "")) for run in runs for each in _runs_below(run))
    facts = [f"turn {turn}: {count:,}" for turn, count in sorted(_turns(runs).items())]
    facts += [f"tool {name}: {count:,}" for name, count in tools.most_common(4)]
    facts += [f"subagents {name}: {count:,}" for name, count in below.most_common(2)]
    yield Text(f"{rest}  {'   '.join(facts)}", "dim")
    for node in sorted(runs, key=lambda run: -run.age)[:OLDEST]:
        yield _line(node, rest + "├─ ")
        yield from _below(node.children, rest + "│  ")
    yield Text(f"{rest}└─ … {len(runs) - OLDEST:,} younger", "dim")


def _bar(counts: Counter[Doing], whole: int) -> Text:
    bar, words = Text(), Text()
    for what, (block, style) in _STYLES.items():
        count = counts[what]
        if count:
            bar.append(block * max(1, round(_BAR * count / whole)), style)
            words.append(f"  {count:,} {what}", style)
    return bar + words


def _turns(runs: Sequence[Node]) -> Counter[int]:
    return Counter(int(run.detail.get("turn", 0)) for run in runs if run.detail.get("turn"))


def _runs_below(node: Node) -> Iterator[Node]:
    for child in node.children:
        if child.kind == "run":
            yield child
        yield from _runs_below(child)


def _line(node: Node, first: str, style: str = "") -> Text:
    """One actor."""
    line = Text(first, "dim")
    line.append(node.name.rpartition("/")[2], style)
    line.append(f" {node.detail['agent']}" if "agent" in node.detail else f" {node.kind}", "dim")
    line.append(f"  {node.state}", _STATES.get(node.state, "green"))
    facts = [duration(node.age)]
    if node.detail.get("turn"):
        facts.append(f"turn {node.detail['turn']}")
    if node.depth:
        facts.append(f"{node.depth:,} waiting")
    if node.detail.get("tokens"):
        facts.append(f"{node.detail['tokens']:,} tokens")
    if node.detail.get("cost"):
        facts.append(dollars(node.detail["cost"]))
    line.append("  " + "  ".join(facts), "dim")
    if node.restarts:
        line.append(f"  {node.restarts} restart{'' if node.restarts == 1 else 's'}", "red")
    return line
