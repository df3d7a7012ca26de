"""SIGINT and SIGTERM: the first asks for an orderly end, the second ends at once. In real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from greenroom import System
from greenroom.actors import ActorSystem, SystemClosed
from greenroom.testing import run

from .cast import Player, kind

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

PROLOGUE = """
    import logging
    import math
    import signal
    import sys
    import anyio
    from greenroom import Actor, Agent, ChildSpec, Supervisor, System, SystemClosed, tool
    from greenroom.actors import ActorSystem
    from greenroom.providers import Scripted, call

    # A shell's background job inherits an ignored SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.disable()

    def say(*words):
        print(*words, flush=True)

    class Tidy(Actor):
        name = "tidy"

        async def receive(self, message, context):
            say(self.name, "at work")
            await anyio.sleep(message)

        async def stopping(self, context, exit):
            say(self.name, "gone")

    class Deaf(Actor):
        async def receive(self, message, context):
            say("deaf")
            await anyio.sleep(math.inf)

    class Hanging(Actor):
        async def stopping(self, context, exit):
            say("hanging")
            await anyio.sleep(math.inf)
"""
EPILOGUE = """
    anyio.run(main, backend=sys.argv[1])
    say("the end")
"""

#: Real seconds after which a process that should have ended is a failure.
PATIENCE = 30


class Program:
    """A running script, and what it has printed so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    def until(self, line: str) -> None:
        """Read until it prints `line`."""
        assert self.process.stdout is not None
        while not self.lines or self.lines[-1] != line:
            read = self.process.stdout.readline()
            assert read, f"ended before {line!r}: {self.lines}, {self.process.communicate()[1]}"
            self.lines.append(read.rstrip("\n"))

    def send(self, sent: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.process.pid, sent)

    def end(self) -> tuple[list[str], int]:
        """Wait for its end: what it printed since the last look, and its exit code. It must not complain."""
        out, err = self.process.communicate()
        assert err == ""
        return out.splitlines(), self.process.returncode


@contextmanager
def program(folder: Path, backend: str, main: str) -> Iterator[Program]:
    """Run a script in a process of its own; it is killed if it takes too long, or still runs when the block ends."""
    script = folder / "script.py"
    script.write_text("".join(textwrap.dedent(part) for part in (PROLOGUE, main, EPILOGUE)))
    with subprocess.Popen(
        [sys.executable, "-P", "-X", "dev", "-W", "error", str(script), backend],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        hurry = threading.Timer(PATIENCE, process.kill)
        hurry.start()
        try:
            yield Program(process)
        finally:
            hurry.cancel()
            hurry.join()
            process.kill()


SIGNALS = [signal.SIGTERM, signal.SIGINT]
backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])
signals = pytest.mark.parametrize("sent", SIGNALS, ids=lambda sent: sent.name)


@backends
class TestFirst:
    """The first signal asks."""

    @signals
    def test_everything_ends_in_order(self, backend: str, sent: signal.Signals, tmp_path: Path) -> None:
        """Scenarios 42, 43: the block is cancelled, the actors stop in reverse order, the program goes on behind it."""
        main = """
            async def main():
                async with ActorSystem(signals=True) as system:
                    for name in ("a", "b"):
                        await system.spawn(type(name, (Tidy,), {"name": name}), name=name)
                    try:
                        say("ready")
                        await anyio.sleep(math.inf)
                    finally:
                        say("the block ends", system.is_open)
                    say("not here")
                say("behind the block", system.interrupted_by.name)
        """
        with program(tmp_path, backend, main) as script:
            script.until("ready")
            script.send(sent)
            assert script.end() == (
                ["the block ends False", "b gone", "a gone", f"behind the block {sent.name}", "the end"],
                0,
            )

    @signals
    def test_an_actor_at_work_finishes_its_message(self, backend: str, sent: signal.Signals, tmp_path: Path) -> None:
        """Scenario 42: what is at hand is finished within the time that the actor has."""
        main = """
            async def main():
                async with ActorSystem(signals=True) as system:
                    tidy = await system.spawn(Tidy)
                    await tidy.tell(0.1)
                    await anyio.sleep(math.inf)
                say(tidy.exit)
        """
        with program(tmp_path, backend, main) as script:
            script.until("tidy at work")
            script.send(sent)
            assert script.end() == (["tidy gone", "shutdown (shutdown)", "the end"], 0)

    def test_an_actor_that_does_not_listen_is_killed(self, backend: str, tmp_path: Path) -> None:
        """Scenario 42: after its shutdown, not before; the exit code is still 0."""
        main = """
            async def main():
                reports = []
                async with ActorSystem(signals=True, on_report=reports.append) as system:
                    deaf = await system.spawn(Deaf, shutdown=0.3)
                    await deaf.tell("x")
                    try:
                        await anyio.sleep(math.inf)
                    finally:
                        began = anyio.current_time()
                say(deaf.exit.kind, anyio.current_time() - began >= 0.29)
                say(*(report.kind for report in reports))
        """
        with program(tmp_path, backend, main) as script:
            script.until("deaf")
            script.send(signal.SIGTERM)
            assert script.end() == (["killed True", "shutdown_error", "the end"], 0)

    def test_new_work_is_refused(self, backend: str, tmp_path: Path) -> None:
        """Scenario 42: from the first signal on, while the block itself still cleans up."""
        main = """
            async def attempt(what, call):
                try:
                    await call()
                    say(what, "was accepted")
                except SystemClosed:
                    say(what, "was refused")

            async def main():
                async with System(signals=True) as system:
                    top = await system.spawn(Supervisor([]), name="top")
                    agent = Agent("helper", Scripted("ok"))
                    async def later():
                        system.send_after(1, top, "x")
                    try:
                        say("ready")
                        await anyio.sleep(math.inf)
                    finally:
                        with anyio.CancelScope(shield=True):
                            await attempt("an actor", lambda: system.spawn(Tidy))
                            await attempt("a run", lambda: system.start(agent, "Go"))
                            await attempt("a timer", later)
        """
        with program(tmp_path, backend, main) as script:
            script.until("ready")
            script.send(signal.SIGTERM)
            assert script.end() == (
                ["an actor was refused", "a run was refused", "a timer was refused", "the end"],
                0,
            )

    def test_a_group_takes_no_new_children_either(self, backend: str, tmp_path: Path) -> None:
        """Scenario 42: a supervisor that has not been asked to stop yet belongs to a system that is closing."""
        main = """
            async def main():
                async with ActorSystem(signals=True) as system:
                    top = await system.spawn(Supervisor([]), name="top")
                    try:
                        say("ready")
                        await anyio.sleep(math.inf)
                    finally:
                        with anyio.CancelScope(shield=True):
                            try:
                                say("accepted", await top.start_child(ChildSpec("late", Tidy)))
                            except SystemClosed:
                                say("refused")
        """
        with program(tmp_path, backend, main) as script:
            script.until("ready")
            script.send(signal.SIGTERM)
            assert script.end() == (["refused", "the end"], 0)

    def test_while_the_system_closes_already(self, backend: str, tmp_path: Path) -> None:
        """The block is over, an actor stops slowly: there is nothing more to ask for, and nothing is cut short."""
        main = """
            class Slow(Actor):
                async def stopping(self, context, exit):
                    say("stops")
                    await anyio.sleep(0.2)
                    say("gone")

            async def main():
                async with ActorSystem(signals=True) as system:
                    await system.spawn(Slow)
                say("behind the block", system.interrupted_by.name)
        """
        with program(tmp_path, backend, main) as script:
            script.until("stops")
            script.send(signal.SIGTERM)
            assert script.end() == (["gone", "behind the block SIGTERM", "the end"], 0)

    def test_afterwards_signals_are_what_they_were(self, backend: str, tmp_path: Path) -> None:
        """Scenario 43: behind the block Ctrl-C is Python's own again."""
        main = """
            async def main():
                async with ActorSystem(signals=True) as system:
                    say("open")
                    await anyio.sleep(math.inf)
                try:
                    say("behind the block")
                    await anyio.sleep(math.inf)
                finally:
                    say("interrupted again")

            run = anyio.run
            def quietly(*args, **options):
                try:
                    run(*args, **options)
                except KeyboardInterrupt:
                    say("KeyboardInterrupt")
            anyio.run = quietly
        """
        with program(tmp_path, backend, main) as script:
            script.until("open")
            script.send(signal.SIGINT)
            script.until("behind the block")
            script.send(signal.SIGINT)
            assert script.end() == (["interrupted again", "KeyboardInterrupt", "the end"], 0)

    @pytest.mark.parametrize("shutdown", ["orderly", "killed"])
    def test_no_child_process_is_left(self, backend: str, shutdown: str, tmp_path: Path) -> None:
        """Scenario 43: a process that an actor holds ends with the actor, whether that obeys or is killed."""
        main = f"""
            class Owner(Actor):
                async def receive(self, message, context):
                    async with await anyio.open_process(["sleep", "1000"], stdin=None, stdout=None) as process:
                        say(process.pid)
                        say("ready")
                        await {"anyio.sleep(math.inf)" if shutdown == "killed" else "stopped.wait()"}
                        process.terminate()

            async def main():
                global stopped
                stopped = anyio.Event()
                async with ActorSystem(signals=True) as system:
                    owner = await system.spawn(Owner, shutdown=0.1 if {shutdown == "killed"} else 10)
                    await owner.tell("go")
                    try:
                        await anyio.sleep(math.inf)
                    finally:
                        stopped.set()
                say(owner.exit.kind)
        """
        with program(tmp_path, backend, main) as script:
            script.until("ready")
            pid = int(script.lines[-2])
            os.kill(pid, 0)  # it is there
            script.send(signal.SIGINT)
            assert script.end() == (["killed" if shutdown == "killed" else "shutdown", "the end"], 0)
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


@backends
class TestSecond:
    """The second signal insists."""

    @pytest.mark.parametrize(
        ("first", "second"), [(one, other) for one in SIGNALS for other in SIGNALS], ids=lambda sent: sent.name
    )
    def test_it_ends_at_once(self, backend: str, first: signal.Signals, second: signal.Signals, tmp_path: Path) -> None:
        """Scenarios 42, 43: although a cleanup hangs; the exit code is that of the signal, and nothing is printed."""
        main = """
            async def main():
                async with ActorSystem(signals=True) as system:
                    await system.spawn(Hanging, shutdown=1000)
                    say("ready")
                    await anyio.sleep(math.inf)
                say("not here")
        """
        with program(tmp_path, backend, main) as script:
            script.until("ready")
            script.send(first)
            script.until("hanging")
            script.send(second)
            assert script.end() == ([], 128 + second)

    def test_deep_in_the_tree(self, backend: str, tmp_path: Path) -> None:
        """Several cleanups that hang, two supervisors down."""
        main = """
            async def main():
                async with ActorSystem(signals=True) as system:
                    inner = Supervisor([ChildSpec("x", Tidy), ChildSpec("y", Hanging, shutdown=1000)])
                    await system.spawn(Hanging, shutdown=1000)
                    await system.spawn(Supervisor([ChildSpec("inner", inner)]))
                    say("ready")
                    await anyio.sleep(math.inf)
        """
        with program(tmp_path, backend, main) as script:
            script.until("ready")
            script.send(signal.SIGTERM)
            script.until("hanging")
            script.send(signal.SIGTERM)
            assert script.end()[1] == 128 + signal.SIGTERM

    def test_an_actor_that_does_not_listen(self, backend: str, tmp_path: Path) -> None:
        """It is cancelled; the programs's own cleanup still runs."""
        main = """
            async def main():
                try:
                    async with ActorSystem(signals=True) as system:
                        deaf = await system.spawn(Deaf, shutdown=1000)
                        await deaf.tell("x")
                        try:
                            await anyio.sleep(math.inf)
                        finally:
                            say("the block ends")
                finally:
                    say("cleaned up", deaf.exit.kind, system.interrupted_by.name)
        """
        with program(tmp_path, backend, main) as script:
            script.until("deaf")
            script.send(signal.SIGTERM)
            script.until("the block ends")
            script.send(signal.SIGINT)
            assert script.end() == (["cleaned up killed SIGTERM"], 128 + signal.SIGINT)


@backends
class TestRuns:
    """Agents' runs in flight."""

    @signals
    @pytest.mark.parametrize(("where", "how"), [("tool", "start"), ("model", "run")])
    def test_they_end_stopped(self, backend: str, sent: signal.Signals, where: str, how: str, tmp_path: Path) -> None:
        """Scenarios 42, 43: in a tool or in a model call; each tells its end, and the process exits 0."""
        main = f"""
            async def wait():
                "Wait."
                try:
                    say("ready")
                    await anyio.sleep(math.inf)
                finally:
                    say("cleaned up")

            async def reply(request):
                await wait()

            def told(event):
                if event.type.startswith("run."):
                    say(event.type)

            model = Scripted(reply) if "{where}" == "model" else Scripted([call("wait")], "ok")
            agent = Agent("helper", model, tools=[wait])

            async def main():
                async with System(signals=True) as system:
                    if "{how}" == "start":
                        run = await system.start(agent, "Go", on_event=told)
                        await run.result()
                    else:
                        await agent.run("Go", on_event=told)
                say("behind the block", system.interrupted_by.name)
        """
        with program(tmp_path, backend, main) as script:
            script.until("ready")
            script.send(sent)
            assert script.end() == (["cleaned up", "run.stopped", f"behind the block {sent.name}", "the end"], 0)

    def test_many_at_work(self, backend: str, tmp_path: Path) -> None:
        """Scenario 42: all of them end, stopped, and are counted."""
        main = """
            started, ended = [], []

            async def reply(request):
                started.append(1)
                if len(started) == 200:
                    say("ready")
                await anyio.sleep(math.inf)

            def told(event):
                if event.type in ("run.stopped", "run.completed", "run.failed"):
                    ended.append(event.type)

            agent = Agent("helper", Scripted(*[reply] * 200))

            async def main():
                async with System(signals=True) as system:
                    for n in range(200):
                        await system.start(agent, "Go", on_event=told)
                    await anyio.sleep(math.inf)
                say(len(ended), *set(ended))
        """
        with program(tmp_path, backend, main) as script:
            script.until("ready")
            script.send(signal.SIGTERM)
            assert script.end() == (["200 run.stopped", "the end"], 0)


def mine(*_args: Any) -> None:
    """A signal action of the program's own."""


@pytest.fixture
def actions() -> Iterator[dict[signal.Signals, Any]]:
    """Actions of our own for both signals, for the time of a test."""
    former = {each: signal.signal(each, mine) for each in SIGNALS}
    yield dict.fromkeys(SIGNALS, mine)
    for each, action in former.items():
        signal.signal(each, action)


def current() -> dict[signal.Signals, Any]:
    """What happens at each signal now."""
    return {each: signal.getsignal(each) for each in SIGNALS}


@backends
class TestActions:
    """What the process did about signals before it does again afterwards."""

    @pytest.mark.parametrize("end", ["end of the block", "error", "cancellation", "signal"])
    def test_they_are_back(self, backend: str, end: str, actions: dict[signal.Signals, Any]) -> None:
        """However the block ends."""

        async def scenario() -> None:
            before = current()  # trio's own, for SIGINT
            try:
                with anyio.CancelScope() as scope:
                    async with ActorSystem(signals=True) as system:
                        assert all(now != actions[each] for each, now in current().items())
                        if end == "error":
                            raise RuntimeError("of the block")
                        if end == "cancellation":
                            scope.cancel()
                            await anyio.sleep(1)
                        if end == "signal":
                            os.kill(os.getpid(), signal.SIGTERM)
                            await anyio.sleep(10)
                            pytest.fail("not interrupted")
            except RuntimeError:
                assert end == "error"
            assert system.interrupted_by is (signal.SIGTERM if end == "signal" else None)
            assert current() == before

        run(scenario, backend=backend, virtual_time=False)
        assert current() == actions

    def test_without_signals_they_are_left_alone(self, backend: str, actions: dict[signal.Signals, Any]) -> None:
        """The default."""

        async def scenario() -> None:
            before = current()
            async with ActorSystem() as system:
                assert current() == before
                assert system.interrupted_by is None

        run(scenario, backend=backend)

    def test_one_system_after_the_other(self, backend: str) -> None:
        """Each may heed them in its time, also after one that could not open."""

        async def scenario() -> None:
            for _ in range(3):
                async with ActorSystem(signals=True) as system:
                    os.kill(os.getpid(), signal.SIGINT)
                    await anyio.sleep(10)
                assert system.interrupted_by is signal.SIGINT

        run(scenario, backend=backend, virtual_time=False)

    def test_two_at_once(self, backend: str) -> None:
        """A signal has one reader: the second system is refused in words, and the first one goes on heeding."""

        async def scenario() -> None:
            async with ActorSystem(signals=True) as system:
                with pytest.raises(RuntimeError, match="signals=True is for one system of a process"):
                    async with System(signals=True):
                        pytest.fail("it is open")
                os.kill(os.getpid(), signal.SIGTERM)
                await anyio.sleep(10)
            assert system.interrupted_by is signal.SIGTERM

        run(scenario, backend=backend, virtual_time=False)

    @pytest.mark.parametrize("system", [ActorSystem, System])
    def test_outside_the_main_thread(self, backend: str, system: type[ActorSystem]) -> None:
        """It is refused in words when the block is entered; nothing has started."""
        errors: list[BaseException] = []

        async def scenario() -> None:
            async with system(signals=True):
                pytest.fail("it is open")

        def elsewhere() -> None:
            try:
                anyio.run(scenario, backend=backend)
            except BaseException as error:
                errors.append(error)

        before = current()
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        (error,) = errors
        assert type(error) is RuntimeError
        assert str(error) == "signals=True needs the main thread; open the system there, or heed signals yourself"
        assert current() == before

    def test_a_block_that_answers_with_an_error(self, backend: str) -> None:
        """Its own error leaves bare after the orderly end; a signal hides nothing."""

        async def scenario() -> None:
            with pytest.raises(ZeroDivisionError):
                async with ActorSystem(signals=True) as system:
                    player = await system.spawn(Player)
                    os.kill(os.getpid(), signal.SIGTERM)
                    try:
                        await anyio.sleep(10)
                    finally:
                        with anyio.CancelScope(shield=True), pytest.raises(SystemClosed):
                            await system.spawn(Player)
                        _ = 1 / 0
            assert kind(player) == "shutdown"
            assert system.interrupted_by is signal.SIGTERM

        run(scenario, backend=backend, virtual_time=False)
