"""A small coverage-guided fuzzer for pure code: inputs that reach something new are kept, and mutated further.

What counts as reached is a step from one line to the next in the watched files, and roughly how often it was taken.
There is nothing to install: lines are seen through `sys.settrace`. It is slow compared with instrumented C and quick
enough for parsers of a few hundred lines.

Without a flag a test runs a few hundred inputs, the same ones each time, so that it cannot rot. With the environment
variable ``GREENROOM_FUZZ`` it runs for so many seconds, with a seed of its own each time; a failure shows the input.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

#: Where most parsers have their borders.
_NUMBERS = (0, 1, 3, 7, 8, 9, 10, 13, 32, 34, 58, 91, 92, 123, 125, 127, 128, 191, 192, 239, 255)
_MAX_INPUT = 400
FLAG = "GREENROOM_FUZZ"


@dataclass
class Fuzzed:
    """What came of it: inputs tried, inputs kept, and steps from line to line that they took."""

    inputs: int
    kept: int
    steps: int


class Reached:
    """Which steps from line to line the watched files took during `call`."""

    def __init__(self, files: Iterable[str]) -> None:
        self._files = frozenset(files)
        self._counts: dict[tuple[str, int, int], int] = {}

    def call(self, function: Callable[[], None]) -> set[tuple[Any, ...]]:
        self._counts = {}
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            function()
        finally:
            sys.settrace(before)
        return {(*step, count.bit_length()) for step, count in self._counts.items()}

    def _enter(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        if code.co_filename not in self._files:
            return None
        name, last, counts = code.co_qualname, 0, self._counts

        def line(frame: FrameType, event: str, arg: Any) -> Any:
            nonlocal last
            if event == "line":
                step = (name, last, frame.f_lineno)
                counts[step] = counts.get(step, 0) + 1
                last = frame.f_lineno
            return line

        return line


def fuzz(
    check: Callable[[bytes, random.Random], None],
    *,
    examples: Sequence[bytes],
    words: Sequence[bytes],
    files: Iterable[str],
    inputs: int = 400,
) -> Fuzzed:
    """Look for an input for which `check` raises.

    Args:
        check: is given an input and a source of chance for choices of its own.
        examples: inputs to begin with.
        words: pieces that mean something to the parser.
        files: the source files to be covered.
        inputs: how many to try where the flag is not set.
    """
    seconds = float(os.environ.get(FLAG, 0))
    seed = random.SystemRandom().randrange(2**32) if seconds else 0
    dice = random.Random(seed)
    until = time.monotonic() + seconds
    reached, known, kept, tried = Reached(files), set[tuple[Any, ...]](), list[bytes](), 0

    def attempt(data: bytes) -> None:
        nonlocal tried
        tried += 1
        try:
            steps = reached.call(lambda: check(data, random.Random(seed + tried)))
        except BaseException as error:
            error.add_note(f"input {tried} of the fuzzer with seed {seed}: {data!r}")
            raise
        if not steps <= known:
            known.update(steps)
            kept.append(data)

    for example in examples:
        attempt(example)
    while time.monotonic() < until if seconds else tried < inputs:
        attempt(_mutated(dice.choice(kept), kept, words, dice))
    return Fuzzed(tried, len(kept), len({step[:3] for step in known}))


def _mutated(data: bytes, others: Sequence[bytes], words: Sequence[bytes], dice: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(1 << dice.randrange(4)):
        at, to = sorted((dice.randint(0, len(made)), dice.randint(0, len(made))))
        match dice.randrange(8):
            case 0:
                made[at:at] = dice.choice(words)
            case 1:
                del made[at:to]
            case 2:
                made[at:at] = made[at:to]
            case 3:
                other = dice.choice(others)
                made[at:] = other[dice.randint(0, len(other)) :]
            case 4:
                made[at:at] = bytes([dice.choice(_NUMBERS)])
            case 5 if made:
                made[dice.randrange(len(made))] = dice.choice(_NUMBERS)
            case 6 if made:
                made[dice.randrange(len(made))] ^= 1 << dice.randrange(8)
            case 7:
                made[at:to] = dice.choice(words) * dice.randint(1, 4)
            case _:
                pass
    return bytes(made[:_MAX_INPUT])
