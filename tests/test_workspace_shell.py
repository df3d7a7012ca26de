"""The shell of a workspace: how a command comes out, and that nothing that it has started outlives it.

Scenario 66: whatever a command starts, also in sessions of its own and deaf to SIGTERM, is gone within the grace after
a timeout and a stop; pipes that it holds hang nobody; what it prints is bounded.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import ModelRetry, ToolFailed
from greenroom.testing import run as play
from greenroom.tools.workspace import Workspace, session
from greenroom.tools.workspace.command import MARK, marked, sweep
from greenroom.tools.workspace.output import MOST_NEWS, Output

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
Shell = Callable[..., Coroutine[Any, Any, str]]
GRACE = 0.3
KINDS = pytest.mark.parametrize("kind", ["one_shot", "persistent"])
#: Starts a process in a session of its own that is deaf to SIGTERM, holds the pipe, and would write later.
DEAF = "setsid sh -c \"trap '' TERM HUP; echo \\$\\$ > deaf; while :; do sleep 0.05; done; echo > late\" &\n"
WAIT_FOR_IT = "while [ ! -s deaf ]; do sleep 0.01; done\n"


@asynccontextmanager
async def shell_in(path: Path, kind: Any = "one_shot", **options: Any) -> AsyncGenerator[Shell]:
    options = {"grace": GRACE, "timeout": 20.0, **options}
    async with Workspace(path, shell=kind, **options).tools("shell").open() as kit:
        yield kit.tools[0]


def lives(pid: int) -> bool:
    """Whether a process runs; one that has only not been waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def pid_in(path: Path) -> int:
    with anyio.fail_after(10):
        while not path.exists() or not path.read_text().strip():
            await anyio.sleep(0.005)
    return int(path.read_text())


async def until(happened: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not happened():
            await anyio.sleep(0.005)


# -- output


@given(st.lists(st.binary(max_size=30), max_size=12), st.integers(2, 40))
def test_the_beginning_and_the_end_of_an_output_are_kept(pieces: list[bytes], most: int) -> None:
    output = Output(most)
    for piece in pieces:
        output.feed(piece)
    whole = b"".join(pieces)
    assert output.count == len(whole)
    if len(whole) <= most:
        assert output.text() == whole.decode(errors="replace")
        return
    head, tail = most // 2, most - most // 2
    assert f"\n[{len(whole) - most:,} bytes left out]\n" in output.text()
    assert bytes(output._head) == whole[:head]
    assert bytes(output._tail) == whole[-tail:]
    assert len(output._head) + len(output._tail) == most


def test_a_character_that_is_cut_in_two_is_left_out() -> None:
    output = Output(6)
    output.feed("ééééé".encode())
    assert output.text() == "é\n[4 bytes left out]\né"


@given(st.text(alphabet="aé€😀\n", max_size=60), st.data())
def test_what_has_come_since_the_last_look_is_shown_whole(text: str, data: st.DataObject) -> None:
    """However the bytes of a character are cut, and whenever somebody looks."""
    output, seen, rest = Output(10), "", text.encode()
    while rest:
        count = data.draw(st.integers(1, len(rest)))
        output.feed(rest[:count])
        rest = rest[count:]
        if data.draw(st.booleans()):
            seen += output.news()
    assert seen + output.news() == text
    assert output.news() == ""


def test_of_much_that_has_come_the_end_is_shown() -> None:
    half = MOST_NEWS // 2 - 1
    output = Output(10)
    output.feed(b"x" * 5000)
    output.feed("é".encode() * half + b"y")
    assert output.news() == f"[4,999 bytes left out]\nx{'é' * half}y"
    output.feed("é".encode() * MOST_NEWS + b"y")
    assert (
        output.news() == f"[{MOST_NEWS + 1:,} bytes left out]\n{'é' * half}y"
    )  # it begins in the middle of a character
    output.feed(b"\xff\xfe")
    output.feed(b"z")
    assert output.news() == "\ufffd\ufffdz"


def test_an_output_without_end_takes_no_memory() -> None:
    output = Output(1000)
    for _ in range(5000):
        output.feed(b"x" * 997)
    assert len(output._tail) <= 3 * 1000
    assert output.text().count("x") == 1000


# -- how a command comes out


@pytest.mark.anyio
@KINDS
async def test_output_and_exit_status_are_told_in_order(tmp_path: Path, kind: str) -> None:
    async with shell_in(tmp_path, kind) as shell:
        first = await shell("echo one; echo two >&2; echo three; (exit 3)")
        assert first.splitlines()[:3] == ["one", "two", "three"]
        assert first.splitlines()[3].startswith("[exit status 3")
        assert await shell("printf 'no newline'") == "no newline\n[exit status 0]"
        assert await shell("true") == "[exit status 0]"
        assert await shell("pwd") == f"{tmp_path}\n[exit status 0]"
        assert await shell("cat; read x; echo \"got '$x'\"") == "got ''\n[exit status 0]"  # standard input is empty
        assert await shell("echo one\necho 'two\nthree'") == "one\ntwo\nthree\n[exit status 0]"
        assert (await shell("nosuchprogram")).endswith("[exit status 127]")
        assert "syntax error" in await shell("if then (")
        assert (await shell("sh -c 'kill -9 $$'; echo $?")).endswith("137\n[exit status 0]")
        assert await shell("printf '\\377\\0x'") == "\N{REPLACEMENT CHARACTER}\0x\n[exit status 0]"


@pytest.mark.anyio
async def test_the_signal_that_has_ended_a_command_is_told(tmp_path: Path) -> None:
    async with shell_in(tmp_path) as shell:
        assert await shell("echo a; kill -SEGV $$") == "a\n[ended by signal 11 (SIGSEGV)]"
        assert await shell("kill -40 $$") == "[ended by signal 40]" or "SIGRT" in await shell("kill -40 $$")


@pytest.mark.anyio
@KINDS
async def test_the_environment_has_what_is_given_and_no_keys_of_ours(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("BASH_ENV", "/tmp/evil")
    workspace = Workspace(tmp_path, shell=kind, env={"TOKEN": "given", "TERM": "vt100"}).tools("shell")  # type: ignore[arg-type]
    async with workspace.open() as kit:
        told = await kit.tools[0].function(command="env")
    names = {line.partition("=")[0] for line in told.splitlines() if "=" in line}
    allowed = {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "TMPDIR", "TERM", "TOKEN", MARK}
    assert names - allowed <= {"PWD", "OLDPWD", "SHLVL", "_"}
    assert "TOKEN=given" in told.splitlines()
    assert "TERM=vt100" in told.splitlines()
    assert "secret" not in told
    assert "given" not in repr(workspace)


@pytest.mark.anyio
async def test_commands_have_no_descriptors_but_their_own_three(tmp_path: Path) -> None:
    with open(tmp_path / "open", "w"):
        async with shell_in(tmp_path) as shell:
            told = await shell("ls -l /proc/self/fd | wc -l; ls /proc/self/fd | tr '\\n' ' '")
            assert told.splitlines()[1].split() == ["0", "1", "2", "3"]  # the last one is that of ls
        async with shell_in(tmp_path, "persistent") as shell:
            told = await shell("ls /proc/self/fd | tr '\\n' ' '")
            assert told.splitlines()[0].split() == ["0", "1", "2", "3"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"command": " \n"}, "empty"),
        ({"command": "echo \0"}, "NUL"),
        ({"command": "echo \ud800"}, "surrogate"),
        ({"command": "x" * 200_000}, "200,000 bytes"),
        ({"command": "true", "timeout": 0}, "above 0"),
        ({"command": "true", "timeout": -1}, "above 0"),
        ({"command": "true", "timeout": 601}, "at most 600"),
        ({"command": "true", "timeout": float("nan")}, "above 0"),
    ],
)
async def test_what_cannot_be_run_is_refused(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    async with shell_in(tmp_path) as shell:
        with pytest.raises(ModelRetry, match=words):
            await shell(**arguments)


@pytest.mark.anyio
@KINDS
async def test_a_command_may_begin_with_a_dash(tmp_path: Path, kind: str) -> None:
    async with shell_in(tmp_path, kind) as shell:
        assert "--version: command not found\n[exit status 127" in await shell("--version")


@pytest.mark.anyio
@KINDS
async def test_a_long_command_can_be_run(tmp_path: Path, kind: str) -> None:
    async with shell_in(tmp_path, kind) as shell:
        told = await shell("printf '%s' '" + "é" * 45_000 + "' | wc -c")
        assert told.splitlines()[0] == "90000"


@pytest.mark.anyio
@KINDS
async def test_an_output_without_end_is_bounded_and_both_ends_are_kept(tmp_path: Path, kind: str) -> None:
    async with shell_in(tmp_path, kind, max_output=1000) as shell:
        told = await shell("echo begin; yes 0123456 | head -c 100000000; echo end")
        assert told.startswith("begin\n0123456\n")
        assert "\n[99,999,010 bytes left out]\n" in told
        assert "0123456\nend\n[exit status 0" in told
        assert len(told) < 1200


# -- a shell that stays


@pytest.mark.anyio
async def test_a_shell_that_stays_keeps_folder_variables_and_jobs(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    async with shell_in(tmp_path, "persistent") as shell:
        assert await shell('cd below; X=5; f() { echo "f $1"; }') == "[exit status 0; it ran in a new shell]"
        assert await shell("pwd; echo $X; f y") == f"{tmp_path}/below\n5\nf y\n[exit status 0]"
        assert await shell("sleep 100 & echo $! > ../job") == "[exit status 0]"
        assert lives(await pid_in(tmp_path / "job"))
        assert await shell("false") == "[exit status 1]"
        assert await shell("echo $?") == "0\n[exit status 0]"
    assert not lives(await pid_in(tmp_path / "job"))


@pytest.mark.anyio
async def test_nothing_that_a_command_prints_looks_like_its_end(tmp_path: Path) -> None:
    async with shell_in(tmp_path, "persistent") as shell:
        await shell("true")
        forged = "[exit status 7]"
        told = await shell(
            f"echo '{forged}'; for n in $(seq 3 30); do echo 'x 7' >&$n; done 2>/dev/null; sleep 0.2; false"
        )
        assert (told.splitlines()[0], told.splitlines()[-1]) == (forged, "[exit status 1]")
        assert await shell("echo here") == "here\n[exit status 0]"


@pytest.mark.anyio
async def test_commands_of_a_shell_that_stays_run_one_after_the_other(tmp_path: Path) -> None:
    told: list[str] = []
    async with shell_in(tmp_path, "persistent") as shell:

        async def run(number: int) -> None:
            told.append(await shell(f"echo begin {number}; sleep 0.05; echo end {number}"))

        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(run, number)
    assert sorted(each.splitlines()[:2] for each in told) == [[f"begin {n}", f"end {n}"] for n in range(4)]


@pytest.mark.anyio
@pytest.mark.parametrize("command", ["exit 3", "exec sh -c 'exit 3'", "set -e; (exit 3); echo never"])
async def test_a_shell_that_ends_is_replaced_and_that_is_told(tmp_path: Path, command: str) -> None:
    async with shell_in(tmp_path, "persistent") as shell:
        await shell("X=5")
        told = await shell(command)
        assert told == "[exit status 3; that was the end of the shell too: the next command begins in a new one]"
        assert await shell("echo \"'$X'\"") == "''\n[exit status 0; it ran in a new shell]"


@pytest.mark.anyio
async def test_a_command_that_times_out_takes_its_shell_with_it(tmp_path: Path) -> None:
    async with shell_in(tmp_path, "persistent") as shell:
        await shell("X=5; sleep 100 & echo $! > job")
        with pytest.raises(ToolFailed, match=r"^begun\n\[timed out after 0.5 s, and was ended .* in a new shell\]$"):
            await shell("echo begun; sleep 100", timeout=0.5)
        assert not lives(await pid_in(tmp_path / "job"))
        assert await shell("echo \"'$X'\"") == "''\n[exit status 0; it ran in a new shell]"


@pytest.mark.anyio
async def test_a_shell_that_was_ended_between_two_commands_is_replaced_before_the_second(tmp_path: Path) -> None:
    """Else the second would be told to have ended as the shell has, and had never run."""
    async with shell_in(tmp_path, "persistent") as shell:
        await shell("(while [ ! -e go ]; do sleep 0.01; done; echo last; kill -9 $$) & echo $$ > pid")
        (tmp_path / "go").touch()
        pid = await pid_in(tmp_path / "pid")
        await until(lambda: not lives(pid))
        told = await shell("echo here")
        assert (
            told == "last\nhere\n[exit status 0; the shell had ended since the command before; it ran in a new shell]"
        )
        await shell("(while [ ! -e again ]; do sleep 0.01; done; kill -9 $PPID) & echo $PPID > guard")
        (tmp_path / "again").touch()
        guard = await pid_in(tmp_path / "guard")
        await until(lambda: not lives(guard))
        assert "here\n[exit status 0; the shell had ended since" in await shell("echo here")


@pytest.mark.anyio
async def test_a_job_that_prints_much_goes_on_between_the_commands(tmp_path: Path) -> None:
    """More than a pipe holds, while no command runs that would read it."""
    async with shell_in(tmp_path, "persistent") as shell:
        await shell("(while [ ! -e go ]; do sleep 0.01; done; head -c 300000 /dev/zero | tr '\\0' x; touch done) &")
        (tmp_path / "go").touch()
        await until((tmp_path / "done").exists)
        told = await shell("echo here")
        assert told.startswith("xxx")
        assert "[270,005 bytes left out]" in told
        assert told.endswith("xxxhere\n[exit status 0]")
        assert await shell("echo here") == "here\n[exit status 0]"


@pytest.mark.anyio
async def test_jobs_that_print_without_end_wait_for_the_next_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they would keep the event loop busy for as long as the model thinks."""
    monkeypatch.setattr(session, "MOST_BETWEEN", 1500)
    ours, theirs = os.pipe()

    class Shell:
        output = ours

        async def read(self, fd: int) -> bytes:
            await anyio.wait_readable(fd)
            return os.read(fd, 1000)

    shell: Any = Shell()
    reader = session.Reader(shell, Output(10))
    os.write(theirs, b"x" * 5000)
    async with anyio.create_task_group() as group:
        group.start_soon(reader.run)
        await until(lambda: reader.output.count > 1000)
        await anyio.wait_all_tasks_blocked()
        assert reader.output.count == 2000
        reader.command.set()
        await until(lambda: reader.output.count == 5000)
        reader.stop()
    os.close(ours)
    os.close(theirs)


@pytest.mark.anyio
@pytest.mark.parametrize("program", ["bash", "sh"])
@pytest.mark.parametrize("command", ["echo 'it", 'echo "it', "echo $(it", "if true; then", "f() {", "cat <<E\nit"])
async def test_a_command_that_is_not_whole_spoils_no_other(tmp_path: Path, program: str, command: str) -> None:
    (tmp_path / "bin").mkdir()
    bash = shutil.which("bash")
    if program == "bash" and bash is not None:
        (tmp_path / "bin" / "bash").symlink_to(bash)
    async with shell_in(tmp_path, "persistent", env={"PATH": f"{tmp_path}/bin"}) as shell:
        await shell("cd bin; X=5")
        await shell(command)
        assert await shell("for n in 1 2; do echo $X$n; done; pwd") == f"51\n52\n{tmp_path}/bin\n[exit status 0]"


@pytest.mark.anyio
async def test_what_the_shell_is_told_beside_a_command_is_neither_shown_nor_in_the_way(tmp_path: Path) -> None:
    async with shell_in(tmp_path, "persistent") as shell:
        assert await shell("set -x") == "[exit status 0; it ran in a new shell]"
        assert await shell("true") == "+ command eval ' true'\n++ true\n[exit status 0]"
        await shell("set +x; eval() { :; }; printf() { :; }")
        assert await shell("echo here", timeout=5) == "here\n[exit status 0]"


@pytest.mark.anyio
async def test_what_leaves_the_block_leaves_it_as_it_was(tmp_path: Path) -> None:
    """And a shell that is closed is not started again."""
    with pytest.raises(ZeroDivisionError):
        async with shell_in(tmp_path, "persistent") as shell:
            await shell("true")
            raise ZeroDivisionError
    with pytest.raises(ToolFailed, match="the workspace is closed"):
        await shell("true")


@pytest.mark.anyio
async def test_a_loop_in_the_shell_itself_is_ended_too(tmp_path: Path) -> None:
    async with shell_in(tmp_path, "persistent") as shell:
        with pytest.raises(ToolFailed, match="timed out"):
            await shell("while :; do :; done", timeout=0.3)


@pytest.mark.anyio
async def test_what_a_job_prints_later_comes_with_the_next_command(tmp_path: Path) -> None:
    async with shell_in(tmp_path, "persistent") as shell:
        await shell("(sleep 0.1; echo late; touch done) &")
        with anyio.fail_after(10):
            while not (tmp_path / "done").exists():
                await anyio.sleep(0.01)
        assert await shell("echo here") == "late\nhere\n[exit status 0]"


@pytest.mark.anyio
async def test_without_bash_there_is_sh(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sleep", "cat"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    async with shell_in(tmp_path, "persistent", env={"PATH": str(programs)}) as shell:
        assert await shell("cd bin; X=5; echo $0") == "/bin/sh\n[exit status 0; it ran in a new shell]"
        assert await shell("echo $X; pwd") == f"5\n{programs}\n[exit status 0]"
        await shell("if then (")  # may be the end of such a shell
        assert "here" in await shell("echo here")


# -- nothing outlives a command


@pytest.mark.anyio
@KINDS
async def test_after_a_timeout_everything_is_gone_within_the_grace(tmp_path: Path, kind: str) -> None:
    """Scenario 66."""
    async with shell_in(tmp_path, kind) as shell:
        await shell("true")
        began = time.monotonic()
        with pytest.raises(ToolFailed, match=r"^begun\n\[timed out after 1 s"):
            await shell(f"echo begun; {DEAF}{WAIT_FOR_IT} trap '' TERM; while :; do sleep 0.05; done", timeout=1)
        assert GRACE < time.monotonic() - began - 1 < GRACE + 2
        assert not lives(int((tmp_path / "deaf").read_text()))
    assert not (tmp_path / "late").exists()


@pytest.mark.anyio
@KINDS
async def test_after_a_stop_everything_is_gone_within_the_grace(tmp_path: Path, kind: str) -> None:
    """Scenario 66. A stop of the run cancels the call."""
    async with shell_in(tmp_path, kind) as shell:
        async with anyio.create_task_group() as group:
            group.start_soon(shell, f"{DEAF} wait")
            pid = await pid_in(tmp_path / "deaf")
            began = time.monotonic()
            group.cancel_scope.cancel()
        assert time.monotonic() - began < GRACE + 2
        assert not lives(pid)


@pytest.mark.anyio
@KINDS
async def test_a_command_that_is_stopped_may_clean_up(tmp_path: Path, kind: str) -> None:
    async with shell_in(tmp_path, kind, grace=10.0) as shell:
        async with anyio.create_task_group() as group:
            group.start_soon(
                shell,
                "sh -c 'trap \"sleep 0.2; touch cleaned; exit\" TERM; echo $$ > pid; while :; do sleep 0.02; done'",
            )
            pid = await pid_in(tmp_path / "pid")
            group.cancel_scope.cancel()
        assert (tmp_path / "cleaned").exists()
        assert not lives(pid)


@pytest.mark.anyio
async def test_what_obeys_sigterm_is_not_waited_for_any_longer(tmp_path: Path) -> None:
    async with shell_in(tmp_path, grace=30.0) as shell:
        began = time.monotonic()
        with pytest.raises(ToolFailed, match=r"cleaned up\n\[timed out"):
            await shell("trap 'echo cleaned up; exit' TERM; while :; do sleep 0.02; done", timeout=0.5)
        assert time.monotonic() - began < 10


@pytest.mark.anyio
async def test_what_a_command_leaves_running_is_ended_with_it(tmp_path: Path) -> None:
    """The pipe that it holds hangs nobody."""
    async with shell_in(tmp_path) as shell:
        told = await shell(f"{DEAF}{WAIT_FOR_IT} sleep 100 & echo done")
        assert told.startswith("done\n[exit status 0; ")
        assert told.endswith("processes that it had left running were ended]")
        assert not lives(int((tmp_path / "deaf").read_text()))
        told = await shell("sleep 100 & echo done")
        assert told == "done\n[exit status 0; a process that it had left running was ended]"


@pytest.mark.anyio
async def test_a_daemon_that_forks_twice_and_clears_its_environment_is_found(tmp_path: Path) -> None:
    daemon = textwrap.dedent("""
        import os, signal, sys, time
        if os.fork(): os._exit(0)
        os.setsid()
        if os.fork(): os._exit(0)
        for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(each, signal.SIG_IGN)
        open("daemon", "w").write(str(os.getpid()))
        time.sleep(3600)
    """)
    (tmp_path / "daemon.py").write_text(daemon)
    async with shell_in(tmp_path) as shell:
        await shell(f"env -i {sys.executable} -I -S daemon.py; while [ ! -s daemon ]; do sleep 0.01; done")
        assert not lives(await pid_in(tmp_path / "daemon"))


@pytest.mark.anyio
async def test_a_process_that_is_stopped_is_ended_all_the_same(tmp_path: Path) -> None:
    async with shell_in(tmp_path, grace=30.0) as shell:
        began = time.monotonic()
        told = await shell("sleep 100 & echo $! > pid; kill -STOP $!; echo done")
        assert told.startswith("done\n")
        assert time.monotonic() - began < 10  # it had to be woken to hear that it shall end
        assert not lives(await pid_in(tmp_path / "pid"))


@pytest.mark.anyio
@KINDS
@pytest.mark.parametrize("number", ["KILL", "STOP", "TERM"])
async def test_a_command_that_turns_against_its_guard_gains_nothing(tmp_path: Path, kind: str, number: str) -> None:
    async with shell_in(tmp_path, kind, timeout=1.0) as shell:
        command = f"{DEAF}{WAIT_FOR_IT} kill -{number} $PPID; sleep 100"
        try:
            told = await shell(command)
        except ToolFailed as failure:
            told = str(failure)
        assert ("killed the process that watches over it" if number == "KILL" else "timed out after 1 s") in told
        assert not lives(await pid_in(tmp_path / "deaf"))
        assert "here" in await shell("echo here")


@pytest.mark.anyio
async def test_a_command_that_kills_its_guard_and_clears_its_environment_dies_with_it(tmp_path: Path) -> None:
    async with shell_in(tmp_path) as shell:
        await shell("exec env -i sh -c 'echo $$ > pid; kill -9 $PPID; while :; do :; done'", timeout=5)
        pid = await pid_in(tmp_path / "pid")
        await until(lambda: not lives(pid))  # the system does that, in its own time


@pytest.mark.anyio
async def test_at_the_end_of_a_run_its_shell_ends_with_all_that_is_in_it(tmp_path: Path) -> None:
    async with shell_in(tmp_path, "persistent") as shell:
        await shell(DEAF)
        pid = await pid_in(tmp_path / "deaf")
        began = time.monotonic()
    assert time.monotonic() - began < GRACE + 2
    assert not lives(pid)


@pytest.mark.anyio
async def test_a_shell_that_cannot_be_started_fails_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("one_shot", "persistent"):
        async with shell_in(tmp_path, kind) as shell:
            with monkeypatch.context() as patch:
                patch.setattr(sys, "executable", "/nowhere/python")
                with pytest.raises(ToolFailed, match=r"^the command could not be started: No such file"):
                    await shell("true")
            assert "here" in await shell("echo here")


@pytest.mark.anyio
async def test_the_working_directory_is_the_folder_that_was_opened(tmp_path: Path) -> None:
    """Also when another folder has its name by now."""
    (tmp_path / "ws").mkdir()
    (tmp_path / "other").mkdir()
    async with shell_in(tmp_path / "ws") as shell:
        (tmp_path / "ws").rename(tmp_path / "moved")
        (tmp_path / "ws").symlink_to("other")
        await shell("touch here")
    assert [each.name for each in (tmp_path / "moved").iterdir()] == ["here"]


PROGRAM = """
import sys
import anyio
from greenroom.tools import Workspace

async def main():
    async with Workspace(sys.argv[1], shell=sys.argv[2], grace=30).tools("shell").open() as kit:
        await kit.tools[0](sys.argv[3])

anyio.run(main, backend=sys.argv[4])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@KINDS
def test_when_this_program_is_killed_its_commands_are_too(tmp_path: Path, kind: str, backend: str) -> None:
    command = f"{DEAF} wait"
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path), kind, command, backend])
    try:
        pid = anyio.run(pid_in, tmp_path / "deaf")
        program.kill()
        program.wait()
        until = time.monotonic() + 5
        while lives(pid) and time.monotonic() < until:
            time.sleep(0.01)
        assert not lives(pid)
    finally:
        program.kill()
        program.wait()


def test_what_is_marked_is_found_and_killed() -> None:
    """What is left to do where a command has killed its guard."""
    mark = "a mark of this test"
    process = subprocess.Popen(["sleep", "100"], env={MARK: mark, "PATH": os.defpath})
    other = subprocess.Popen(["sleep", "100"], env={MARK: mark + "!", "PATH": os.defpath})
    try:
        until = time.monotonic() + 5
        while not marked(mark) and time.monotonic() < until:
            time.sleep(0.01)
        assert marked(mark) == [process.pid]
        assert sweep(mark) == ()
        assert process.wait(5) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for each in (process, other):
            each.kill()
            each.wait()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", ["one_shot", "persistent"])
def test_in_virtual_time_the_clock_stands_still_while_a_command_runs(tmp_path: Path, kind: str, backend: str) -> None:
    async def scenario() -> None:
        async with shell_in(tmp_path, kind) as shell:
            assert "done" in await shell("sleep 0.3; echo done", timeout=0.1)
        assert anyio.current_time() == 0

    play(scenario, backend=backend)
