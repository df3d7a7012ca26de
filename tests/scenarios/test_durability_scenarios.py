"""Services that are asked to end while a run is at some step, in real processes, with a journal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from greenroom import Chronicle, SqliteJournal, System

from ..crashes import service

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])

#: Real seconds after which a process that should have ended is a failure.
PATIENCE = 30
#: Steps that a drain need not wait for: nothing is at work.
AT_REST = ("retry", "ship")


@contextmanager
def at_step(folder: Path, backend: str, step: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A service whose run is at a step."""
    program = f"import sys; sys.path.insert(0, {str(Path(service.__file__).parent)!r}); import service; service.begin("
    with subprocess.Popen(
        [sys.executable, "-P", "-W", "error", "-c", f"{program}{backend!r}, {step!r})"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "FOLDER": str(folder), **environment},
    ) as process:
        hurry = threading.Timer(PATIENCE, process.kill)
        hurry.start()
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "at it\n", process.communicate()[1]
            yield process
        finally:
            hurry.cancel()
            hurry.join()
            process.kill()


async def standing(folder: Path) -> str:
    """How the journal says that the run stands."""
    async with SqliteJournal(folder / "runs.db") as journal:
        return Chronicle(await journal.read("r")).standing


async def go_on(folder: Path, step: str) -> Chronicle:
    """Recover the run and have it come to its end."""
    async with System(journal=folder / "runs.db") as system:
        recovery = await system.recover([service.AGENT])
        assert (recovery.left, recovery.parked) == ({}, {})
        [run] = recovery
        if step == "ship":
            async for event in run.events():
                if event.type == "approval.requested":
                    run.approve(event.call_id)
        assert (await run.result()).output == "Done."
        return await system.chronicle("r")


def check_no_orphans(folder: Path) -> None:
    """Every process that has worked is gone."""
    for line in (folder / "processes").read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(line), 0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What goes on here takes no time."""
    monkeypatch.setattr(service, "SECONDS", 0.0)
    monkeypatch.setattr(service, "FOLDER", tmp_path)
    monkeypatch.setenv("FOLDER", str(tmp_path))
    monkeypatch.setenv("SECONDS", "0")


@pytest.mark.usefixtures("quick")
@backends
@pytest.mark.parametrize("step", service.STEPS)
def test_sigterm_lets_a_step_finish(step: str, backend: str, tmp_path: Path) -> None:
    """Scenario 42: new work is refused, the step comes to its end, the run can be gone on with; exit code 0."""
    seconds = "30" if step in AT_REST else "0.3"
    with at_step(tmp_path, backend, step, SIGNALS="1", DRAIN="20", SECONDS=seconds) as process:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    lines = ["the block ends", "behind the block SIGTERM", "the end"]
    if step not in AT_REST:  # else the block may be over before it has tried
        lines.insert(0, "new work was refused")
    assert (out.splitlines()[-len(lines) :], err, process.returncode) == (lines, "", 0)
    check_no_orphans(tmp_path)
    assert anyio.run(standing, tmp_path, backend=backend) == ("completed" if step == "model" else "suspended")
    if step in ("model", "retry"):
        return  # it has its answer, or half a minute to wait
    told = anyio.run(go_on, tmp_path, step, backend=backend)
    results = [each for message in told.messages for each in message.tool_results]
    assert all(each.cause is None for each in results)


@pytest.mark.usefixtures("quick")
@backends
@pytest.mark.parametrize("step", ["model", "work", "process", "nap", "expert"])
def test_what_takes_too_long_is_stopped_and_can_be_gone_on_with(step: str, backend: str, tmp_path: Path) -> None:
    """Scenario 42: at the deadline; a call that must not run twice has an unknown outcome."""
    with at_step(tmp_path, backend, step, SIGNALS="1", DRAIN="0.1", SECONDS="60") as process:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    assert (out.splitlines()[-2:], err, process.returncode) == (["behind the block SIGTERM", "the end"], "", 0)
    check_no_orphans(tmp_path)
    assert anyio.run(standing, tmp_path, backend=backend) == "suspended"
    if step == "nap":
        return  # it has a minute to sleep
    told = anyio.run(go_on, tmp_path, step, backend=backend)
    causes = [each.cause for message in told.messages for each in message.tool_results]
    assert causes == {"model": [], "expert": [None]}.get(step, ["outcome_unknown"])


@pytest.mark.usefixtures("quick")
@backends
def test_a_second_signal_ends_it_at_once(backend: str, tmp_path: Path) -> None:
    """Scenario 42: what was at work is left as by a crash."""
    with at_step(tmp_path, backend, "work", SIGNALS="1", DRAIN="60", SECONDS="60") as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert process.stdout.readline() == "new work was refused\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    assert (out in ("", "the block ends\n"), err, process.returncode) == (True, "", 128 + signal.SIGTERM)
    assert anyio.run(standing, tmp_path, backend=backend) in ("suspended", "unfinished")
    told = anyio.run(go_on, tmp_path, "work", backend=backend)
    assert [each.cause for message in told.messages for each in message.tool_results] == ["outcome_unknown"]


@pytest.mark.usefixtures("quick")
@backends
@pytest.mark.parametrize(
    ("step", "signals"),
    [*((step, False) for step in service.STEPS), ("model", True), ("expert", True)],
)
def test_ctrl_c_amid_a_step(step: str, signals: bool, backend: str, tmp_path: Path) -> None:
    """Scenario 43: the program ends in time, says nothing of its own, leaves no process, and the run can be gone on
    with.
    """
    environment = {"SIGNALS": "1", "DRAIN": "0.1"} if signals else {}
    with at_step(tmp_path, backend, step, SECONDS="60", **environment) as process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    lines = out.splitlines()
    assert (lines[-2:], err, process.returncode) == (
        ["behind the block SIGINT" if signals else "interrupted", "the end"],
        "",
        0,
    )
    check_no_orphans(tmp_path)
    assert anyio.run(standing, tmp_path, backend=backend) in ("suspended", "unfinished")
    if step in ("retry", "nap"):
        return  # it has a minute to wait
    told = anyio.run(go_on, tmp_path, step, backend=backend)
    assert told.standing == "completed"


TEARDOWNS = {
    "asyncio": """
        loop = asyncio.new_event_loop()
        loop.create_task(service.main("work"))
        while not (service.FOLDER / "at it").exists():
            loop.run_until_complete(asyncio.sleep(0.01))
        loop.run_until_complete(asyncio.sleep(0.05))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.2))
        loop.close()
        print("the end")
    """,
    "trio": """
        async def main():
            with trio.move_on_after(1):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(service.main, "work")
                    while not (service.FOLDER / "at it").exists():
                        await trio.sleep(0.01)
                    await trio.sleep(0.05)
                    nursery.cancel_scope.cancel()
        trio.run(main)
        print("the end")
    """,
}


@pytest.mark.usefixtures("quick")
@backends
def test_a_loop_that_ends_without_asking(backend: str, tmp_path: Path) -> None:
    """Scenario 44: the host cancels everything and closes its loop; no complaint, and the run can be gone on with."""
    import textwrap

    program = f"import asyncio, sys, trio; sys.path.insert(0, {str(Path(service.__file__).parent)!r}); import service\n"
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", program + textwrap.dedent(TEARDOWNS[backend])],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "FOLDER": str(tmp_path), "SECONDS": "60"},
    )
    assert (done.stdout.splitlines()[-1], done.stderr, done.returncode) == ("the end", "", 0)
    assert anyio.run(standing, tmp_path, backend=backend) in ("suspended", "unfinished")
    told = anyio.run(go_on, tmp_path, "work", backend=backend)
    assert told.standing == "completed"
