"""Ctrl-C around runs, in real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

PROGRAM = """
    import signal
    import sys
    import anyio
    from greenroom import Agent, System
    from greenroom.providers import Scripted, call

    # A shell's background job inherits an ignored SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    backend, where = sys.argv[1:]

    async def hang():
        "Hang."
        try:
            print("ready", flush=True)
            await anyio.sleep_forever()
        finally:
            print("cleaned up", flush=True)

    async def reply(request):
        await hang()

    def told(event):
        if event.type.startswith("run."):
            print(event.type, flush=True)

    model = Scripted(reply) if where == "model" else Scripted([call("hang")])
    agent = Agent("helper", model, tools=[hang])

    async def main():
        if where == "system":
            async with System() as system:
                run = await system.start(agent, "Go", on_event=told)
                await run.result()
        else:
            await agent.run("Go", on_event=told)

    try:
        anyio.run(main, backend=backend)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.parametrize("where", ["model", "tool", "system"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c_ends_the_run_and_leaves_as_keyboard_interrupt(backend: str, where: str) -> None:
    """Scenario 43: the run's end is told, its clean-up runs, nothing is printed but what the program prints."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-X", "dev", "-W", "error", "-c", textwrap.dedent(PROGRAM), backend, where],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or lines[-1] != "ready":
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        lines.append(line.strip())
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert err == ""
    assert process.returncode == 0
    assert [*lines, *out.split("\n")] == [
        "run.started",
        "ready",
        "cleaned up",
        "run.stopped",
        "interrupted",
        "",
    ]
