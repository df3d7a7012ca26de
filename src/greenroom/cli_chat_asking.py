"""What a run asks while it works, put to whoever sits at the terminal: may this call run, and questions of tools.

An answer comes from what was typed after the question stood there, never from what was typed ahead. Where nobody sits
(input or output is no terminal), calls are refused and questions are answered with just that, so that no run waits for
ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .agents import StaleApproval, StaleQuestion, events
from .agents.thread_run import ThreadRun
from .cli_chat_lines import LeftLine, Lines
from .cli_chat_screen import Screen, brief

NOBODY = "nobody is at a terminal to {}"
_YES, _NO, _ALWAYS = ("y", "yes"), ("n", "no"), ("a", "always")
_CHOICES = "[y]es, [n]o, [a]lways for {}, or no and why: "
STOP = "/stop"


class _StopAsked(Exception):
    """Instead of an answer, the run is to be stopped; `by_key`: by Ctrl-C."""

    def __init__(self, *, by_key: bool = False) -> None:
        super().__init__()
        self.by_key = by_key


class Asking:
    """Who answers what runs ask.

    Args:
        screen: where it is shown.
        lines: where answers are read; None where nobody sits.
        yes: whether every call is approved.

    Attributes:
        interrupted: whether the last answer to be stopped where something was asked was so by Ctrl-C.
    """

    def __init__(self, screen: Screen, lines: Lines | None, *, yes: bool = False) -> None:
        self._screen = screen
        self._lines = lines
        self._yes = yes
        #: Tools whose calls need no asking any more.
        self._always: set[str] = set()
        #: The run that was stopped instead of an answer: it asks nothing more.
        self._stopped: str | None = None
        self.interrupted = False

    def forget(self) -> None:
        """Ask again about every tool."""
        self._always.clear()

    def approve(self, run: ThreadRun[Any], asked: events.ApprovalRequested) -> None:
        """Have a call approved or refused."""
        who = asked.run_id
        if run.id == self._stopped:
            return
        if not any(call.call_id == asked.call_id and call.run_id == who for call in run.pending):
            return  # it expired while something else was asked
        reason: str | None = None
        if self._yes or asked.tool in self._always:
            pass
        elif self._lines is None:
            reason = NOBODY.format("approve it")
            self._screen.note(f"{asked.tool} is refused: {reason}; --yes approves every call")
        else:
            self._show(asked)
            try:
                reason = self._answer(asked.tool, self._lines)
            except _StopAsked as how:
                self._stop(run, how)
                return
        try:
            if reason is None:
                run.approve(asked.call_id, run_id=who, turn=asked.turn)
            else:
                run.deny(asked.call_id, reason, run_id=who, turn=asked.turn)
        except StaleApproval:
            self._screen.note(f"too late: {asked.tool} does not wait any more")

    def _show(self, asked: events.ApprovalRequested) -> None:
        named = asked.tool in asked.question
        self._screen.emphasise(asked.question if named else f"{asked.tool}: {asked.question or 'may it run?'}")
        for line in described(asked.arguments or {}):
            self._screen.say(f"  {line}")

    def _answer(self, tool: str, lines: Lines) -> str | None:
        """None: it may run. Else why not."""
        while True:
            try:
                said = lines.read(_CHOICES.format(brief(tool, 40)), fresh=True).strip()
            except EOFError:
                self._screen.say("")
                return "not approved"
            except LeftLine:
                self._screen.say("")
                raise _StopAsked(by_key=True) from None
            word, _, why = said.partition(" ")
            word = word.lower().rstrip(",.:;")
            if said == STOP:
                raise _StopAsked
            if word in _YES and not why:
                return None
            if word in _ALWAYS and not why:
                self._always.add(tool)
                return None
            if word in _NO:
                return why.strip() or "not approved"

    def reply(self, run: ThreadRun[Any], asked: events.QuestionAsked) -> None:
        """Have a question of a tool answered."""
        if run.id == self._stopped or not any(each.question_id == asked.question_id for each in run.questions):
            return
        if self._lines is None:
            self._screen.note(f"{asked.tool} asks, and {NOBODY.format('answer')}: {asked.question}")
            said = f"{NOBODY.format('answer')}; go on without asking"
        else:
            self._screen.emphasise(f"{asked.tool} asks: {asked.question}")
            try:
                said = self._said(self._lines)
            except _StopAsked as how:
                self._stop(run, how)
                return
        try:
            run.answer(asked.question_id, said)
        except StaleQuestion:
            self._screen.note("too late: the question is not open any more")

    def _said(self, lines: Lines) -> str:
        try:
            said = lines.read("answer: ", fresh=True)
        except (EOFError, LeftLine) as error:
            self._screen.say("")
            raise _StopAsked(by_key=isinstance(error, LeftLine)) from None
        if said.strip() == STOP:
            raise _StopAsked
        return said

    def _stop(self, run: ThreadRun[Any], how: _StopAsked) -> None:
        self._stopped, self.interrupted = run.id, how.by_key
        run.stop()


def described(arguments: Mapping[str, Any]) -> list[str]:
    """The arguments of a call, whole, as lines."""
    lines: list[str] = []
    for name, value in arguments.items():
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        first, *rest = text.split("\n")
        name = " ".join(name.split("\n"))  # or it could pass for another argument
        lines += [f"{name}: {first}"] if not rest else [f"{name}:", *[f"  {line}" for line in (first, *rest)]]
    return lines
