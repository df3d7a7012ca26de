"""``greenroom run`` without a prompt: a conversation on a terminal.

It blocks in the main thread, where lines are typed and Ctrl-C arrives; the System with its runs lives in a thread
beside it. One thread reads and writes the terminal, so nothing that is shown is torn apart.

Ctrl-C stops an answer, and the conversation goes on from what was said; a second one ends the program. While a line
is typed it drops the line. At an empty one it takes two, because one may have been meant for the answer that has just
ended; Ctrl-D ends at once. What goes wrong with an answer is one line.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from .actors import SystemClosed
from .agents import Agent, AgentError, ConversationBusy, RunResult
from .agents.in_thread import ThreadSystem
from .agents.thread_run import ThreadRun
from .cli_chat_asking import Asking
from .cli_chat_lines import LeftLine, Lines
from .cli_chat_logs import Logs
from .cli_chat_screen import Screen, brief
from .cli_chat_signals import Signals
from .cli_chat_tools import Noted
from .cli_chat_turn import Spent, TurnView, summary
from .cli_loop import Interrupted
from .providers import Message, ProviderError

PROMPT = "> "
#: What an OSError has where the terminal is gone.
_GONE = (errno.EIO, errno.EPIPE, errno.EBADF, errno.ENXIO)
_ONCE_MORE = "\nCtrl-C once more, or Ctrl-D, ends the program"
#: Characters of a message in the history that `/history` shows.
_SHOWN = 2_000


class Place(msgspec.Struct, frozen=True):
    """Where a conversation is held.

    Attributes:
        system: where its runs live.
        agent: who answers.
        screen, lines, signals: the terminal.
        asking: who answers what runs ask.
    """

    system: ThreadSystem
    agent: Agent[Any, str]
    screen: Screen
    lines: Lines
    signals: Signals
    asking: Asking


class Chat:
    """A conversation at a terminal.

    Args:
        place: where it is held.
        logs: what the library has to say meanwhile.
        id: which one it is.
        kept: whether the System's journal keeps it; else it is remembered here.
        new_id: makes the id of another one.
        words_for: an error in one line, in the conversation of this id.
    """

    def __init__(
        self,
        place: Place,
        logs: Logs,
        id: str,
        *,
        kept: bool,
        new_id: Callable[[], str],
        words_for: Callable[[BaseException, str], str],
    ) -> None:
        self._system = place.system
        self._agent = place.agent
        self._screen = place.screen
        self._lines = place.lines
        self._signals = place.signals
        self._asking = place.asking
        self._logs = logs
        self._new_id = new_id
        self._words_for = words_for
        self._id = id
        self._kept = kept
        #: What was said, where that is not kept elsewhere.
        self._said: Sequence[Message] = ()
        self._spent = Spent()
        self._over = False

    # -- the conversation

    def go_on(self) -> None:
        """Take up what was said before, and the answer that was cut short with its process."""
        if not self._kept:
            return
        talk = self._system.conversation(self._agent, self._id)
        try:
            said = talk.load()
        except ConversationBusy as error:
            recovery = self._system.recover([self._agent], run_ids=[error.run_id])
            if not recovery.runs:
                raise
            for run in recovery.runs:
                run.resume()
                self._answer(lambda run=run: self._followed(run))
            said = talk.load()
        for message in said:
            if message.role == "user":
                self._lines.remember(message.text)
        if said:
            self._screen.note(f"{len(said)} messages so far; /history shows them")

    def converse(self) -> None:
        """Read, answer, and again, until somebody has enough."""
        leaving = False  # Ctrl-C was pressed, and nothing said since
        while not self._over:
            try:
                self._logs.show()
                text = self._lines.read(PROMPT, style=self._screen.prompt_style).strip()
                leaving = leaving and not text
                if text:
                    self._lines.remember(text)
                    self._heed(text)
            except EOFError:
                self._screen.say("")
                return
            except LeftLine as left:
                if leaving and not left.typed:
                    self._screen.say("")
                    return
                leaving = not left.typed
                self._screen.say("" if left.typed else _ONCE_MORE)
            except KeyboardInterrupt:  # between an answer and the prompt, or in a command
                leaving = True
                self._screen.say(_ONCE_MORE)

    def _heed(self, text: str) -> None:
        command = command_in(text)
        if command is None:
            self._answer(lambda: self._asked(text))
        elif command in _COMMANDS:
            with self._complaining():
                _COMMANDS[command][1](self)
        else:
            self._screen.complain(f"there is no command {command}; /help lists them")

    def _answer(self, turn: Callable[[], RunResult[Any]]) -> None:
        with self._complaining():
            try:
                with self._lines.unseen():
                    result = turn()
            except (AgentError, ProviderError) as error:
                self._end(error.result)
                raise
            self._end(result)
            self._screen.note(summary(result))

    def _end(self, result: RunResult[Any] | None) -> None:
        if result is not None:
            self._said = result.messages
            self._spent += result

    @contextmanager
    def _complaining(self) -> Generator[None]:
        """What goes wrong in the block is one line, and the conversation goes on; unless its ground is gone."""
        try:
            yield
        except (Interrupted, SystemClosed):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _GONE:
                raise
            self._screen.complain(self._words_for(error, self._id))

    def _asked(self, text: str) -> RunResult[Any]:
        self._screen.status("waiting")
        where: Any = {"conversation_id": self._id} if self._kept else {"history": self._said}
        stop = _Stop(self._screen)
        with (
            self._signals.instead(stop),
            # Who leaves in a hurry leaves the run to the System: what is in a file goes on when somebody comes back.
            self._system.stream(self._agent, text, on_exit="detach", **where) as run,
        ):
            stop.of(run)
            return TurnView(self._screen, self._asking, run, in_full=True).follow()

    def _followed(self, run: ThreadRun[Any]) -> RunResult[Any]:
        stop = _Stop(self._screen)
        with self._signals.instead(stop):
            stop.of(run)
            return TurnView(self._screen, self._asking, run, in_full=True).follow()

    # -- commands

    def help(self) -> None:
        """Say what can be typed."""
        for name, (words, _) in _COMMANDS.items():
            self._screen.say(f"{name:<9} {words}")
        self._screen.say("Ctrl-C stops an answer, or drops the line that is typed; Ctrl-D, or Ctrl-C twice, ends.")

    def stop(self) -> None:
        """There is nothing to stop where this is read."""
        self._screen.say("nothing is at work; /stop ends an answer where you are asked something, Ctrl-C anywhere")

    def tools(self) -> None:
        """List the tools."""
        specs = [*self._agent.toolbox.specs]
        unknown: list[str] = []
        for toolset in self._agent.toolsets:
            known = toolset.specs if isinstance(toolset, Noted) else None
            specs += known or ()
            if known is None:
                unknown.append(toolset.name)
        for spec in specs:
            self._screen.say(f"{brief(spec.name, 64):<20} {brief(spec.description, 100)}")
        if unknown:
            self._screen.say(f"and those of {', '.join(unknown)}, which are known once the first answer has begun")
        elif not specs:
            self._screen.say("there are no tools; --tools, --mcp and --workspace give some")

    def usage(self) -> None:
        """Say what was used since the program began."""
        count = self._spent.answers
        self._screen.say(f"{count} answer{'' if count == 1 else 's'}: {self._spent.line()}")

    def history(self) -> None:
        """Show what was said."""
        messages = self._system.conversation(self._agent, self._id).load() if self._kept else self._said
        for message in messages:
            for line in spoken(message):
                self._screen.say(line)
        if not messages:
            self._screen.say("nothing was said yet")

    def new(self) -> None:
        """Begin another conversation."""
        self._id, self._said = self._new_id(), ()
        self._asking.forget()
        self._screen.say(f"a new conversation: {self._id}" if self._kept else "a new conversation")

    def exit(self) -> None:
        """End."""
        self._over = True


_COMMANDS: dict[str, tuple[str, Callable[[Chat], None]]] = {
    "/help": ("this list", Chat.help),
    "/tools": ("the tools that the model may call", Chat.tools),
    "/usage": ("tokens and dollars so far", Chat.usage),
    "/history": ("what was said", Chat.history),
    "/new": ("begin another conversation", Chat.new),
    "/stop": ("stop the answer, where you are asked something", Chat.stop),
    "/exit": ("end", Chat.exit),
}


def command_in(text: str) -> str | None:
    """The command that a line is; None for one that is a message. A path is no command."""
    return text.lower() if text.startswith("/") and text[1:].isalpha() else None


def spoken(message: Message) -> list[str]:
    """A message as lines."""
    who = {"user": "you", "assistant": "model"}.get(message.role, message.role)
    said = [message.text] if message.text else []
    said += [f"calls {call.name}" for call in message.tool_calls]
    said += [f"{result.name}: {brief(result.content)}" for result in message.tool_results]
    text = "\n".join(said)
    text = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    first, *rest = text.split("\n")
    return [f"{who}: {first}", *[f"  {line}" for line in rest]]


class _Stop:
    """What Ctrl-C does while an answer is on its way: stop it, at once or as soon as it has begun; then, end."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._run: ThreadRun[Any] | None = None
        self._wanted = False

    def of(self, run: ThreadRun[Any]) -> None:
        """This is the run."""
        self._run = run
        if self._wanted:
            run.stop()

    def __call__(self) -> None:
        if self._wanted:
            raise Interrupted(signal.SIGINT)
        self._wanted = True  # before anything else: the next one may come in the middle
        if self._run is not None:
            self._run.stop()
        self._screen.interrupt("stopping; Ctrl-C once more ends the program")  # a terminal may hold up what is written
