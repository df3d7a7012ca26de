"""JSON that is still coming: what is shown is a beginning of what comes, and nothing raises."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import Any, cast

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from greenroom.agents.partial_json import ABSENT, DEEPEST, PartialJson

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(st.text(max_size=5), values, max_size=4)


def is_beginning(early: Any, late: Any) -> bool:
    """Whether `late` may come of `early`."""
    if early is ABSENT:
        return True
    if type(early) is not type(late):
        return False
    if isinstance(early, str):
        return late.startswith(early)
    if isinstance(early, list):
        shown = cast("list[Any]", early)
        closed = shown[:-1] == late[: len(shown) - 1] if shown else True
        return len(shown) <= len(late) and closed and all(map(is_beginning, shown, late))
    if isinstance(early, dict):
        held = cast("dict[str, Any]", early)
        assert list(held) == list(late)[: len(held)]
        return all(is_beginning(value, late[key]) for key, value in held.items())
    return early == late


def shown(text: str) -> Any:
    partial = PartialJson()
    partial.feed(text)
    return partial.snapshot()


def after_each_character(text: str) -> list[Any]:
    partial = PartialJson()
    found: list[Any] = []
    for character in text:
        partial.feed(character)
        found.append(partial.snapshot())
    return found


@given(value=objects | st.lists(values), ascii=st.booleans(), indent=st.sampled_from([None, 2]))
@settings(max_examples=150, deadline=None)
def test_every_prefix_shows_a_beginning_of_what_follows(value: Any, ascii: bool, indent: int | None) -> None:
    """Of the next one, and so of the last one; and however the text is cut, the same is shown."""
    text = json.dumps(value, ensure_ascii=ascii, indent=indent)
    found = after_each_character(text)
    assert found[-1] == value
    for early, late in pairwise(found):
        assert is_beginning(early, late), (early, late)
    for end in range(0, len(text), 1 + len(text) // 100):
        assert shown(text[: end + 1]) == found[end] or shown(text[: end + 1]) is found[end] is ABSENT


@given(text=st.text(st.sampled_from('{}[]":,\\ntrueu0d8-1.e+ `js\n'), max_size=60) | st.text(max_size=60))
@settings(max_examples=500, deadline=None)
def test_nothing_raises_and_whatever_is_valid_is_read(text: str) -> None:
    found = after_each_character(text)
    try:
        value = json.loads(text)
    except ValueError:
        return
    if isinstance(value, dict | list) and "\\ud" not in text.lower():
        assert found[-1] == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ABSENT),
        ("  \n", ABSENT),
        ("{", {}),
        ('{"a', {}),
        ('{"a"', {}),
        ('{"a":', {}),
        ('{"a": "', {"a": ""}),
        ('{"a": "so f', {"a": "so f"}),
        ('{"a": [', {"a": []}),
        ('{"a": tru', {}),
        ('{"a": true', {"a": True}),
        ('{"a": null, "b": [1, 2', {"a": None, "b": [1]}),
        ("[-", []),
        ("[1.", []),
        ("[1e", []),
        ("[12", []),
        ("[12 ", [12]),
        ("[12,", [12]),
        ("[1e2]", [100.0]),
        (r'["a\n', ["a\n"]),
        ('["a\\', ["a"]),
        (r'["a\u00', ["a"]),
        (r'["a\u00e4', ["aä"]),
        (r'["\ud83d', [""]),
        (r'["\ud83d\u', [""]),
        (r'["\ud83d\ude0', [""]),
        (r'["\ud83d\ude00', ["😀"]),
        (r'["\ud83d.', ["\ufffd."]),
        (r'["\ude00.', ["\ufffd."]),
        (r'["\uzzzz"', ["\ufffdzzzz"]),
        ('```json\n{"a": 1,', {"a": 1}),
        ('```\n{"a": 1}\n```', {"a": 1}),
        ("```js", ABSENT),
        ('{"a": 1} and that is it', {"a": 1}),
        ("Let me see {", ABSENT),
        ('{"a": 1, b', {"a": 1}),
        ('{"a": 1]', {"a": 1}),
        ('{"a" 1', {}),
        ("[1, nothing, 2]", [1]),
        ("[01, 2]", []),
        ("[" + "9" * 6_000 + "]", []),
        ('"so f', "so f"),
        ("[,", []),
        ("``{", ABSENT),
    ],
)
def test_what_is_shown(text: str, value: Any) -> None:
    """In one piece, and character by character."""
    for found in (shown(text), after_each_character(text)[-1] if text else ABSENT):
        assert found is value if value is ABSENT else found == value


def test_nesting_has_an_end() -> None:
    """What is deeper than any answer is no answer, and costs no stack."""
    partial = PartialJson()
    partial.feed("[" * 100_000)
    depth, value = 0, partial.snapshot()
    while value:
        depth, value = depth + 1, value[0]
    assert (partial.broken, depth + 1) == (True, DEEPEST)


def test_a_snapshot_is_not_changed_by_what_comes() -> None:
    partial = PartialJson()
    partial.feed('{"a": [1, {"b": "x')
    early = partial.snapshot()
    partial.feed('y"}, 2], "c": 3}')
    assert early == {"a": [1, {"b": "x"}]}
    assert partial.snapshot() == {"a": [1, {"b": "xy"}, 2], "c": 3}
    assert partial.whole


def test_snapshots_of_a_long_text_are_due_in_proportion_to_it() -> None:
    """A short text is shown piece by piece; of a long one all snapshots together copy a multiple of it."""
    partial = PartialJson()
    partial.feed('{"a": "')
    copied = taken = 0
    for _ in range(100_000):
        partial.feed("ten chars ")
        if partial.due:
            taken += 1
            copied += len(partial.snapshot()["a"])
    assert copied < 300 * partial.size
    assert 1_000 < taken < 3_000


@pytest.mark.parametrize("part", ['{"name": "x", "n": [1, 2.5, true]}, ', '"\\u00e4\\n", ', "1234567890" * 400 + ", "])
def test_reading_is_linear(part: str) -> None:
    """Twice the text takes about twice the time, fed in pieces of eight characters; never four times."""

    def seconds(text: str) -> float:
        best = 1e9
        for _ in range(3):
            partial = PartialJson()
            began = time.perf_counter()
            for start in range(0, len(text), 8):
                partial.feed(text[start : start + 8])
                if partial.due:
                    partial.snapshot()
            best = min(best, time.perf_counter() - began)
            assert not partial.broken
        return best

    short = "[" + part * (100_000 // len(part))
    assert seconds("[" + short[1:] * 4) < 10 * seconds(short) + 0.01
