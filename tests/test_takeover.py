"""Two processes, one run: only one of them may go on with it, and the other one is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from greenroom import Agent, Chronicle, Fenced, MemoryJournal, Recovery, Run, RunContext, SqliteJournal, System, tool
from greenroom.journal import Ended, Listed, RunFinished, decode
from greenroom.testing import run as play

from .crashes import owner
from .crashes.memory import Lines, RecordingJournal, check_told, story, virtual

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

#: Real seconds after which a process that should have ended is a failure.
PATIENCE = 30


@contextmanager
def owning(folder: Path, backend: str, number: int) -> Iterator[subprocess.Popen[str]]:
    """A process with runs at work."""
    with subprocess.Popen(
        [sys.executable, "-P", "-W", "error", owner.__file__, str(folder), backend, str(number)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        hurry = threading.Timer(PATIENCE, process.kill)
        hurry.start()
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
            yield process
        finally:
            hurry.cancel()
            hurry.join()
            process.kill()


def stop(process: subprocess.Popen[str]) -> None:
    """Stop a process, and wait until it is."""
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)


async def take_over(folder: Path, number: int, *, takeover: bool) -> None:
    """Go on with all runs, and have their results."""
    async with System(journal=folder / "runs.db") as system:
        recovery = await system.recover([owner.helper(None)], takeover=takeover)
        assert len(recovery) == number
        assert recovery.left == {}
        for run in recovery:
            assert (await run.result()).output == "The new owner's."


async def look_at(folder: Path, number: int, answer: str) -> None:
    """Each run has one end, and this answer."""
    async with SqliteJournal(folder / "runs.db") as journal:
        listed = await journal.runs()
        assert len(listed) == number
        for each in listed:
            entries = await journal.read(each.run_id)
            records = [record for entry in entries for record in decode(entry)]
            assert sum(isinstance(record, Ended) for record in records) == 1
            told = Chronicle(entries)
            assert (told.standing, told.messages[-1].text) == ("completed", answer)


@posix
@backends
def test_a_process_that_was_stopped_and_wakes_up(backend: str, tmp_path: Path) -> None:
    """Scenario 77: its appends are refused, each of its runs is told so, none reports success; the results stay."""
    number = 100
    with owning(tmp_path, backend, number) as process:
        stop(process)
        anyio.run(partial(take_over, tmp_path, number, takeover=False), backend=backend)
        anyio.run(look_at, tmp_path, number, "The new owner's.", backend=backend)
        (tmp_path / "go").touch()
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate()
    assert (out, err, process.returncode) == (f"[('Fenced', {number})] [('run.failed', {number})]\n", "", 0)
    anyio.run(look_at, tmp_path, number, "The new owner's.", backend=backend)


@posix
@backends
def test_the_runs_of_a_process_at_work_are_left_alone(backend: str, tmp_path: Path) -> None:
    """Scenario 77: it goes on with them as if nobody had looked."""

    async def look() -> None:
        async with System(journal=tmp_path / "runs.db") as system:
            recovery = await system.recover([owner.helper(None)])
            assert len(recovery) == 0
            assert set(recovery.left) == {f"r{index}" for index in range(10)}
            assert all(f"process {process.pid} is at work on it" in why for why in recovery.left.values())

    with owning(tmp_path, backend, 10) as process:
        anyio.run(look, backend=backend)
        (tmp_path / "go").touch()
        out, err = process.communicate()
    assert (out, err, process.returncode) == ("[('completed', 10)] [('run.completed', 10)]\n", "", 0)
    anyio.run(look_at, tmp_path, 10, "The former owner's.", backend=backend)


@posix
@backends
def test_they_are_taken_over_if_somebody_insists(backend: str, tmp_path: Path) -> None:
    """Scenario 77: from a process that runs and is well; it is told at its next step."""
    with owning(tmp_path, backend, 10) as process:
        anyio.run(partial(take_over, tmp_path, 10, takeover=True), backend=backend)
        (tmp_path / "go").touch()
        out, err = process.communicate()
    assert (out, err, process.returncode) == ("[('Fenced', 10)] [('run.failed', 10)]\n", "", 0)
    anyio.run(look_at, tmp_path, 10, "The new owner's.", backend=backend)


@posix
@backends
def test_a_dead_process_is_no_owner(backend: str, tmp_path: Path) -> None:
    """Scenario 77: nor is a zombie."""
    with owning(tmp_path, backend, 10) as process:
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on
        anyio.run(partial(take_over, tmp_path, 10, takeover=False), backend=backend)
    anyio.run(look_at, tmp_path, 10, "The new owner's.", backend=backend)


# -- in one process, at every moment


async def _race(journal: MemoryJournal, moment: float) -> tuple[Run[Any], Run[Any] | None]:
    """A run is taken over by another System on the same journal at a moment."""
    former = Agent("helper", Lines(["look"], "Former.", seconds=1.0), tools=[_look])
    later = Agent("helper", Lines(["look"], "Later.", seconds=1.0), tools=[_look])
    async with (
        System(journal=journal, sources=virtual(), name="a") as first,
        System(journal=journal, sources=virtual(), name="b") as second,
    ):
        run = await first.start(former, "Go", run_id="r")
        await anyio.sleep(moment)
        recovery = await second.recover([later], takeover=True)
        other = recovery[0] if recovery else None
        await anyio.sleep(100)
    return run, other


async def _look() -> str:
    await anyio.sleep(1)
    return "seen"


_look.__name__ = "look"


@backends
@pytest.mark.parametrize("moment", [0.0, 0.5, 1.5, 2.5, 3.5])
def test_taken_over_at_any_moment(moment: float, backend: str) -> None:
    """Scenario 77: the former owner fails as fenced, the later one has the say; nothing of the former is stored."""

    async def scenario() -> None:
        journal = RecordingJournal()
        run, other = await _race(journal, moment)
        if other is None:  # it was over
            assert (await run.result()).output == "Former."
            with pytest.raises(RunFinished):
                await journal.claim("r")
            return
        with pytest.raises(Fenced):
            await run.result()
        assert (run.status, run._cell.result.status) == ("failed", "failed")  # type: ignore[union-attr]
        result = await other.result()
        assert result.output == "Later."
        told = await check_told(journal, result)
        assert sum(isinstance(record, Ended) for record in told.records) == 1
        assert (await story(journal, "r")).standing == "completed"

    play(scenario, backend=backend)


@backends
def test_a_system_of_the_same_process_keeps_its_runs(tmp_path: Path, backend: str) -> None:
    """Two Systems on one file do not rob each other: nothing is done twice while both are open."""
    model = Lines("one", seconds=1)

    async def scenario() -> None:
        file = tmp_path / "runs.db"
        agent = Agent("a", model)
        async with System(journal=file, name="one") as one, System(journal=file, name="two") as two:
            run = await one.start(agent, "Go", run_id="r")
            recovery = await two.recover([agent])
            assert (list(recovery), list(recovery.left)) == ([], ["r"])
            assert "another System of this process" in recovery.left["r"]
            assert str(await run.result()) == "one"

    play(scenario, backend=backend)


class Meeting(RecordingJournal):
    """Two who list its unfinished runs at the same time find the same."""

    waits: anyio.Event | None = None

    async def runs(self, **asked: Any) -> list[Listed]:
        listed = await super().runs(**asked)
        if self.waits is None:
            self.waits = anyio.Event()
            await self.waits.wait()
        else:
            self.waits.set()
        return listed


@backends
def test_two_that_have_found_the_same_runs(backend: str) -> None:
    """Scenario 77: whoever comes too late leaves a run to the other one; none fails, nothing is done twice."""
    ids = [f"r{number}" for number in range(5)]
    ran: list[str] = []

    @tool(replay="safe")
    async def work(context: RunContext[Any]) -> str:
        """Work."""
        ran.append(context.run_id)
        await anyio.sleep(1)
        return "done"

    async def scenario() -> None:
        agent = Agent("helper", Lines(["work"], "Done."), tools=[work])
        journal = Meeting()
        async with System(journal=journal, sources=virtual()) as system:
            for run_id in ids:
                await system.start(agent, "Go", run_id=run_id)
            await anyio.sleep(0.5)
            died = journal.after(len(journal.written))
        ran.clear()
        recovered: dict[str, Recovery] = {}

        async def recover(system: System) -> None:
            recovered[system.name] = await system.recover([agent])

        async with (
            System(journal=died, sources=virtual(), name="a") as first,
            System(journal=died, sources=virtual(), name="b") as second,
        ):
            async with anyio.create_task_group() as group:
                group.start_soon(recover, first)
                group.start_soon(recover, second)
            a, b = recovered["a"], recovered["b"]
            assert {run.id for run in a} == set(b.left)
            assert {run.id for run in b} == set(a.left)
            assert sorted([run.id for run in a] + [run.id for run in b]) == ids
            assert all(why == "somebody else has claimed it meanwhile" for each in (a, b) for why in each.left.values())
            for run in [*a, *b]:
                await check_told(died, await run.result())
                assert (await story(died, run.id)).resumptions == 1
        assert sorted(ran) == ids

    play(scenario, backend=backend)


@backends
def test_a_run_that_crashes_after_it_was_taken_over(backend: str) -> None:
    """Scenario 77: it is not begun anew in its place, where it would take itself back."""

    attempts: list[str] = []

    async def crash(context: RunContext[Any]) -> str:
        attempts.append(context.run_id)
        await anyio.sleep(10)
        raise OSError("a bug")

    async def scenario() -> None:
        journal = RecordingJournal()
        former = Agent("helper", Lines("Former."), instructions=crash)
        later = Agent("helper", Lines("Later.", seconds=20))
        async with (
            System(journal=journal, sources=virtual(), name="a") as first,
            System(journal=journal, sources=virtual(), name="b") as second,
        ):
            run = await first.start(former, "Go", run_id="r")
            await anyio.sleep(5)
            [other] = await second.recover([later], takeover=True)
            with pytest.raises(Fenced):
                await run.result()
            result = await other.result()
        assert (run._cell.restarts, attempts) == (1, ["r"])
        assert result.output == "Later."
        told = await check_told(journal, result)
        assert told.resumptions == 1

    play(scenario, backend=backend)
