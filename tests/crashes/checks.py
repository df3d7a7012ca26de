"""What must hold of runs that were killed, however often and wherever, compared with the same runs undisturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .programs import noted, sunk

UNKNOWN = "outcome unknown: the run crashed while this call was running; it may or may not have taken effect"


def check_lives(folder: Path, undisturbed: Path, told: dict[str, Any], expected: dict[str, Any]) -> None:
    """All of it, of the lives in a folder, of which the last one was not killed.

    Args:
        folder: of these lives.
        undisturbed: the folder of an undisturbed life.
        told, expected: what came of the runs here and there.
    """
    lives: list[dict[str, Any]] = [life for (life,) in noted(folder, "lives")]
    lost = {run_id for (run_id,) in noted(folder, "lost")}
    unknown = check_stories(told, expected, lives, lost)
    check_effects(folder, undisturbed, unknown)
    check_nothing_is_done_again(folder, lives)


def check_stories(
    stories: dict[str, Any], expected: dict[str, Any], lives: list[dict[str, Any]], lost: set[str]
) -> set[str]:
    """Each run has ended as it would have, but for what nobody can know; the calls of unknown outcome."""
    unknown = set[str]()
    assert stories.keys() == expected.keys()
    asking, perhaps = (
        {run_id for life in lives for run_id, facts in life["runs"].items() if facts["asking"][when]} for when in (0, 1)
    )
    for run_id, due in expected.items():
        story = stories[run_id]
        assert (story["status"], story["reason"]) == (due["status"], due["reason"])
        in_flight = {call for life in lives for call in life["runs"].get(run_id, {}).get("at_work", ())}
        for message in story["messages"]:
            for part in message["parts"]:
                if part.get("cause") == "outcome_unknown":
                    assert (part["name"], part["content"]) == ("charge", UNKNOWN)
                    assert part["call_id"] in in_flight
                    unknown.add(f"{run_id}:{part['call_id']}")
        if run_id in lost:
            continue
        known = [_known(message, unknown, run_id) for message in story["messages"]]
        wanted = [_known(message, unknown, run_id) for message in due["messages"]]
        assert known == wanted, f"{run_id}: {known} instead of {wanted}"
        assert story["usage"] == due["usage"]
        if _among(run_id, asking):
            assert story["cost"] is None
        elif due["cost"] is not None and not _among(run_id, perhaps):
            assert story["cost"] == due["cost"]
    return unknown


def _among(run_id: str, others: set[str]) -> bool:
    """Whether a run is one of these, or a subagent of it is."""
    return any(each == run_id or each.startswith(f"{run_id}.") for each in others)


def _known(message: dict[str, Any], unknown: set[str], run_id: str) -> dict[str, Any]:
    """A message without the results that are of unknown outcome."""
    parts = [part for part in message["parts"] if f"{run_id}:{part.get('call_id')}" not in unknown]
    return {**message, "parts": parts}


def check_effects(folder: Path, undisturbed: Path, unknown: set[str]) -> None:
    """At most once, exactly once at the sink, at least once; with the keys of the undisturbed run."""
    expected = {tuple(each) for each in noted(undisturbed, "done")}
    done = [tuple(each) for each in noted(folder, "done")]
    assert set(done) <= expected, f"done with other keys: {set(done) - expected}"
    for each in expected - set(done):
        name, key = each
        run_id, _, call_id = key.split(":")
        assert (name, f"{run_id}:{call_id}" in unknown) == ("charge", True), key
    charged = [key for name, key in done if name == "charge"]
    assert len(charged) == len(set(charged))
    assert sunk(folder) == sunk(undisturbed), "the sink has taken other keys"


def check_nothing_is_done_again(folder: Path, lives: list[dict[str, Any]]) -> None:
    """What the journal had when a life began was neither asked for nor done again."""
    asked, done = noted(folder, "asked"), noted(folder, "done")
    for life in lives:
        runs = life["runs"]
        for (key,) in asked[life["asked"] :]:
            who, first, turn = key.split("/")
            run_id = first.removeprefix("Go: ")
            of = [run_id] if who != "expert" else [each for each in runs if each.startswith(f"{run_id}.")]
            assert all(int(turn) >= runs[each]["turns"] for each in of if each in runs), key
        for _, key in done[life["done"] :]:
            run_id, _, call_id = key.split(":")
            assert run_id not in runs or call_id not in runs[run_id]["happened"], key
