"""The page of features names tests that exist, and no row goes without one or says why."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PAGE = (TESTS.parent / "docs" / "features.md").read_text(encoding="utf-8")
SYSTEMS = ("shipit_agent", "aisuite Runner", "agentroute", "OpenHands SDK", "AsyncAgentic")
MARKS = ("*not built yet*",)
NAMED = re.compile(r"`((?:\w+/)*test_\w+\.py)::(\w+)`")


def rows() -> list[tuple[str, str, str, str]]:
    """System, feature, tests and difference of each row."""
    found: list[tuple[str, str, str, str]] = []
    system = ""
    for line in PAGE.splitlines():
        if line.startswith("|") and not line.startswith("| ---"):
            first, tests, difference = (cell.strip() for cell in line[1:-1].split("|"))
            if tests == "shown here by":
                system = first
            else:
                found.append((system, first, tests, difference))
    return found


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of the tests of a module."""
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    functions = [each for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    return frozenset(each.name for each in functions if each.name.startswith("test_"))


def test_each_system_has_a_table() -> None:
    """In the order of the page."""
    assert tuple(dict.fromkeys(system for system, *_ in rows())) == SYSTEMS


@pytest.mark.parametrize(("system", "feature", "shown_by", "difference"), rows(), ids=lambda each: each[:40])
def test_a_row_names_its_tests(system: str, feature: str, shown_by: str, difference: str) -> None:
    """Tests that exist, or one of the two marks; nothing else."""
    assert feature
    named = NAMED.findall(f"{shown_by} {difference}")
    for path, name in named:
        assert (TESTS / path).is_file(), path
        assert name in names_in(path), f"{path} has no {name}"
    assert shown_by in MARKS or re.fullmatch(rf"{NAMED.pattern}(, {NAMED.pattern})*", shown_by), shown_by
