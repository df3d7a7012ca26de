"""A workspace in an agent's `tools=`: what is offered, what asks first, what is shared, and what a stop leaves."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from greenroom import Agent, ModelRetry, PendingCall, RunResult, System, Tool, ask_before
from greenroom.events import ToolProgress
from greenroom.providers import Message, Scripted, ToolResult, call
from greenroom.testing import Interruption, interrupt_everywhere
from greenroom.tools import Workspace
from greenroom.tools.workspace import running, task_list, workspace
from greenroom.tools.workspace.root import can_confine
from greenroom.tools.workspace.task_list import Task, check_tasks
from greenroom.tools.workspace.workspace import NAMES

pytestmark = pytest.mark.skipif(not can_confine(), reason="this system has no workspaces")
backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def agent(given: Any, *turns: Any, **options: Any) -> Agent[Any, str]:
    return Agent("worker", Scripted(*turns, "done"), tools=[given], **options)


def told(messages: tuple[Message, ...]) -> list[ToolResult]:
    return [result for message in messages for result in message.tool_results]


async def tools_of(given: Workspace) -> dict[str, Tool[..., Any]]:
    async with given.open() as kit:
        return {each.name: each for each in kit.tools}


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# -- what is offered


@pytest.mark.anyio
async def test_only_what_changes_nothing_is_offered_until_more_is_named(tmp_path: Path) -> None:
    """Scenario 98: shell and write tools are off until enabled by name."""
    given = Workspace(tmp_path)
    assert list(await tools_of(given)) == ["read_file", "search", "tasks"]
    assert list(await tools_of(given.tools("shell"))) == ["shell"]
    assert list(await tools_of(given.tools("tasks", "edit_file", "tasks"))) == ["edit_file", "tasks"]
    assert list(await tools_of(given.tools(*NAMES))) == list(NAMES)
    assert list(await tools_of(given)) == ["read_file", "search", "tasks"]
    assert repr(given) == f"<Workspace {str(tmp_path)!r}: read_file, search, tasks>"


@pytest.mark.anyio
async def test_risks_tags_and_what_runs_again_after_a_crash(tmp_path: Path) -> None:
    found = await tools_of(Workspace(tmp_path).tools(*NAMES))
    assert {
        name: (each.rules.risk, sorted(each.rules.tags - {"workspace"}), each.replay) for name, each in found.items()
    } == {
        "shell": ("high", ["shell"], "never"),
        "edit_file": ("medium", ["write"], "never"),
        "read_file": ("low", ["read"], "safe"),
        "search": ("low", ["read"], "safe"),
        "tasks": ("low", ["tasks"], "safe"),
    }
    assert all("workspace" in each.rules.tags for each in found.values())
    assert {name: each.where for name, each in found.items() if each.where == "loop"}.keys() == {
        "shell",
        "search",
        "tasks",
    }


@pytest.mark.anyio
async def test_the_model_is_told_what_the_shell_is(tmp_path: Path) -> None:
    for kind, words in (("one_shot", "a shell of its own"), ("persistent", "All commands run in one shell")):
        given = Workspace(tmp_path, shell=kind, timeout=7, max_timeout=9).tools("shell")  # type: ignore[arg-type]
        spec = (await tools_of(given))["shell"].spec
        assert words in spec.description
        assert "after 7 seconds" in spec.description
        assert "at most 9" in spec.description


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"path": 3}, TypeError, "path of its folder"),
        ({"path": ""}, ValueError, "path of its folder"),
        ({"path": b"/tmp"}, TypeError, "path of its folder"),
        ({"path": "/nowhere/at/all"}, ValueError, "there is no folder '/nowhere/at/all'"),
        ({"path": "/etc/passwd"}, ValueError, "'/etc/passwd' is no folder: Workspace(…) takes the path of one"),
        ({"shell": "zsh"}, ValueError, "shell='zsh' is not one of 'one_shot', 'persistent'"),
        ({"shell": True}, ValueError, "shell=True"),
        ({"approve": "shell"}, TypeError, "approve= takes names"),
        ({"approve": ["read_file"]}, ValueError, "approve= has no 'read_file': it takes 'shell', 'edit_file'"),
        ({"approve": [["shell"]]}, ValueError, "approve= has no"),
        ({"timeout": 0}, ValueError, "timeout must be above 0"),
        ({"timeout": "1"}, ValueError, "timeout must be above 0"),
        ({"timeout": float("inf")}, ValueError, "timeout must be above 0 seconds, and finite, not inf"),
        ({"grace": -1}, ValueError, "grace must be above 0"),
        ({"timeout": 10, "max_timeout": 5}, ValueError, "max_timeout=5 is less than timeout=10"),
        ({"max_output": 0}, ValueError, "max_output must be"),
        ({"max_file": 1.5}, ValueError, "max_file must be"),
        ({"env": ["A=1"]}, TypeError, "env= takes a dictionary"),
        ({"env": {"A=": "x"}}, ValueError, "no variable can have: 'A='"),
        ({"env": {"A": 1}}, ValueError, "'A' has something else"),
        ({"env": {"A": "sk-secret\0"}}, ValueError, "'A' has something else"),
        ({"env": {"A": "sk-secret\ud800"}}, ValueError, "'A' has something else"),
        ({"env": {"A\ud800": "x"}}, ValueError, r"no variable can have: 'A\ud800'"),
        ({"hard_links": "yes"}, TypeError, "hard_links must be"),
        ({"name": " "}, ValueError, "name must be text"),
        ({"prefix": "a b"}, ValueError, "prefix= takes at most 32 of a-z, A-Z, 0-9, '_' and '-', not 'a b'"),
        ({"prefix": None}, ValueError, "prefix= takes at most 32"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        Workspace(**{"path": tmp_path, **options})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_unknown_tool_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no 'bash': it takes 'shell', 'edit_file', 'read_file', 'search', 'tasks'"):
        Workspace(tmp_path).tools("bash")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"tools\(\) takes names"):
        Workspace(tmp_path).tools()


def test_a_system_without_the_calls_for_it_has_no_workspaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "can_confine", lambda: False)
    with pytest.raises(RuntimeError, match="POSIX"):
        Workspace(tmp_path)


@pytest.mark.anyio
async def test_what_commands_are_given_is_in_no_repr(tmp_path: Path) -> None:
    given = Workspace(tmp_path, env={"KEY": "sk-secret"}).tools("shell")
    async with given.open() as kit:
        held = [cell.cell_contents for cell in kit.tools[0].function.__closure__ or ()]
        assert any("Terms(timeout=120" in repr(each) for each in held)
        assert "secret" not in repr((given, kit.tools, held))


# -- in a run


@pytest.mark.anyio
async def test_two_workspaces_of_one_agent_tell_their_tools_apart_by_a_prefix(tmp_path: Path) -> None:
    for name in ("code", "docs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)
    tools = [
        Workspace(tmp_path / "code").tools("read_file", "shell"),
        Workspace(tmp_path / "docs", prefix="docs_", approve=["shell", "edit_file"]).tools(*NAMES),
    ]
    assert [each.name for each in tools] == ["workspace", "docs_workspace"]
    assert list(await tools_of(tools[1])) == [f"docs_{name}" for name in NAMES]
    asked: list[PendingCall] = []

    def approve(pending: PendingCall) -> bool:
        asked.append(pending)
        return True

    turns = [
        [call("read_file", path="a"), call("docs_read_file", path="a"), call("docs_search", pattern="docs")],
        [call("shell", command="cat a"), call("docs_shell", command="cat a")],
        [call("docs_edit_file", command="create", path="./b", text="x")],
    ]
    worker = Agent("worker", Scripted(*turns, "done"), tools=tools)
    texts = [each.content for each in told((await worker.run("Go", approve=approve)).messages)]
    assert texts[:3] == ["     1\tcode", "     1\tdocs", "a:1:docs"]
    assert texts[3:] == ["code\n[exit status 0]", "docs\n[exit status 0]", "wrote 'b': 1 bytes"]
    assert [each.tool for each in asked] == ["docs_shell", "docs_edit_file"]
    assert asked[1].question == "May docs_edit_file create in b?"


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["one_shot", "persistent"])
async def test_what_a_command_prints_is_seen_while_it_runs(
    tmp_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "PAUSE", 0.01)
    command = (
        "echo begun; while [ ! -e go ]; do sleep 0.01; done; echo going on; while [ ! -e on ]; do sleep 0.01; done"
    )
    worker = agent(Workspace(tmp_path, shell=kind, timeout=20).tools("shell"), [call("shell", command=command)])
    seen = ""
    async with worker.stream("Go") as run:
        async for event in run.events():
            if isinstance(event, ToolProgress):
                assert event.tool == "shell"
                seen += event.progress
                (tmp_path / "go").touch()
                if "going on" in seen:
                    (tmp_path / "on").touch()
        result = await run.result()
    assert seen == "begun\ngoing on\n"
    assert told(result.messages)[0].content.startswith("begun\ngoing on\n[exit status 0")


@pytest.mark.anyio
async def test_how_a_command_ended_is_told_however_much_of_its_output_is_kept(tmp_path: Path) -> None:
    """A result of any tool is cut at 100,000 characters, unless the tool says otherwise."""
    worker = agent(
        Workspace(tmp_path, max_output=150_000).tools("shell"),
        [call("shell", command="head -c 200000 /dev/zero | tr '\\0' x; exit 3")],
    )
    content = told((await worker.run("Go")).messages)[0].content
    assert content.endswith("x\n[exit status 3]")
    assert "[50,000 bytes left out]" in content


@pytest.mark.anyio
async def test_an_agent_works_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    worker = agent(
        Workspace(tmp_path).tools(*NAMES),
        [call("search", pattern="x =")],
        [call("read_file", path="a.py"), call("read_file", path="../../etc/passwd")],
        [call("edit_file", command="replace", path="a.py", old="x = 1", text="x = 2")],
        [call("shell", command="cat a.py; exit 4")],
    )
    async with System() as system:
        result = await worker.run("Go", system=system)
    found, read, refused, edited, ran = told(result.messages)
    assert found.content == "a.py:1:x = 1"
    assert read.content == "     1\tx = 1"
    assert (refused.is_error, refused.cause, "'..'" in refused.content) == (True, "failed", True)
    assert edited.content.startswith("changed 'a.py'")
    assert ran.content == "x = 2\n[exit status 4]"
    assert result.output == "done"


@pytest.mark.anyio
async def test_each_run_has_its_own_shell_undo_and_tasks(tmp_path: Path) -> None:
    given = Workspace(tmp_path, shell="persistent").tools(*NAMES)
    task = {"id": "1", "text": "Work", "state": "pending"}
    first = agent(
        given,
        [call("shell", command="X=5"), call("tasks", tasks=[task])],
        [call("edit_file", command="create", path="a", text="mine")],
    )
    second = agent(
        given,
        [call("shell", command="echo \"'$X'\""), call("tasks"), call("edit_file", command="undo", path="a")],
    )
    async with System() as system:
        await first.run("Go", system=system)
        result = await second.run("Go", system=system)
    shell, tasks, undo = told(result.messages)
    assert shell.content == "''\n[exit status 0; it ran in a new shell]"
    assert tasks.content == "the list is empty"
    assert "no edit of this run to undo" in undo.content
    assert (tmp_path / "a").read_text() == "mine"


@pytest.mark.anyio
async def test_what_a_run_had_open_is_let_go(tmp_path: Path) -> None:
    """The tools are made once; what the first run of all had open must not be kept by them."""
    given = Workspace(tmp_path).tools("edit_file")
    async with given.open() as kit:
        kit.tools[0].function(command="create", path="a", text="x")
    (kept,) = given._made.values()
    with pytest.raises(AssertionError, match="no run has opened"):
        kept.function(command="view", path="a")
    assert not hasattr(kept, "__wrapped__")
    assert given.tools("edit_file", "shell")._made is given._made


@pytest.mark.anyio
async def test_a_folder_that_has_gone_fails_the_run_that_wants_it(tmp_path: Path) -> None:
    (tmp_path / "ws").mkdir()
    worker = agent(Workspace(tmp_path / "ws"))
    (tmp_path / "ws").rmdir()
    async with System() as system:
        with pytest.raises(Exception, match="No such file or directory"):
            await worker.run("Go", system=system)


# -- approvals


@pytest.mark.anyio
async def test_an_approval_shows_the_final_arguments(tmp_path: Path) -> None:
    """Scenario 98."""
    asked: list[PendingCall] = []

    def approve(pending: PendingCall) -> bool:
        asked.append(pending)
        return pending.tool == "edit_file"

    given = Workspace(tmp_path, approve=("shell", "edit_file"), timeout=5).tools("shell", "edit_file")
    worker = agent(
        given,
        [call("shell", command="touch evil\x1b[2K; true", timeout=3)],
        [call("edit_file", command="create", path="a\u00adb", text="x")],
        [call("edit_file", command="view", path="a\u00adb")],
    )
    result = await worker.run("Go", approve=approve)
    assert [each.question for each in asked] == [
        f"Run in {tmp_path} for at most 3 s: touch evil\\x1b[2K; true",
        "May edit_file create in a\\xadb?",
    ]
    assert asked[0].arguments == {"command": "touch evil\x1b[2K; true", "timeout": 3}
    denied, created, viewed = told(result.messages)
    assert denied.cause == "denied"
    assert created.content.startswith("wrote")
    assert viewed.content == "     1\tx"  # viewing asks nobody
    assert os.listdir(tmp_path) == ["a\u00adb"]


@pytest.mark.anyio
async def test_whoever_approves_is_told_that_a_shell_that_stays_may_be_elsewhere(tmp_path: Path) -> None:
    asked: list[str] = []

    def approve(pending: PendingCall) -> bool:
        asked.append(pending.question)
        return True

    given = Workspace(tmp_path, shell="persistent", approve=["shell"]).tools("shell")
    worker = agent(given, [call("shell", command="cd /")], [call("shell", command="pwd")])
    result = await worker.run("Go", approve=approve)
    where = f"Run in the shell of {tmp_path}, wherever it is by now, for at most 120 s"
    assert asked == [f"{where}: cd /", f"{where}: pwd"]
    assert told(result.messages)[1].content == "/\n[exit status 0]"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"command": " "}, "the command is empty"),
        ({"command": "true", "timeout": -5}, "timeout must be above 0"),
        ({"command": "true", "timeout": 700}, "at most 600"),
        ({"command": "create", "path": "/etc/passwd", "text": "x"}, "outside of the workspace"),
        ({"command": "create", "path": "a\nb", "text": "x"}, "control character"),
        ({"command": "create", "path": ".git/config", "text": "x"}, "Git's own files"),
        ({"command": "create", "path": "a"}, "create needs text"),
    ],
)
async def test_nobody_is_asked_about_what_is_refused_anyway(
    tmp_path: Path, arguments: dict[str, Any], words: str
) -> None:
    def approve(pending: PendingCall) -> bool:
        raise AssertionError(pending.question)

    given = Workspace(tmp_path, approve=["shell", "edit_file"]).tools("shell", "edit_file")
    worker = agent(given, [call("edit_file" if "path" in arguments else "shell", **arguments)])
    assert words in told((await worker.run("Go", approve=approve)).messages)[0].content


@pytest.mark.anyio
async def test_a_policy_can_ask_by_risk_and_tag(tmp_path: Path) -> None:
    given = Workspace(tmp_path).tools(*NAMES)
    for policy, waits in ((ask_before(risk="high"), ["shell"]), (ask_before(tags=["write"]), ["edit_file"])):
        worker = agent(
            given,
            [
                call("shell", command="true"),
                call("edit_file", command="view", path="."),
                call("read_file", path="."),
            ],
            policy=policy,
        )
        result = await worker.run("Go")
        assert [each.tool for each in result.pending] == waits


# -- tasks


@pytest.mark.anyio
async def test_the_list_of_tasks_is_shown_to_the_user(tmp_path: Path) -> None:
    first = [{"id": "1", "text": "Look", "state": "in_progress"}, {"id": "2", "text": "Mend\nit", "state": "pending"}]
    second = [{"id": "1", "text": "Look", "state": "done"}]
    seen: list[Any] = []
    worker = agent(
        Workspace(tmp_path),
        [call("tasks")],
        [call("tasks", tasks=first)],
        [call("tasks", tasks=second)],
        [call("tasks")],
    )

    def hear(event: Any) -> None:
        if isinstance(event, ToolProgress):
            seen.append(event.progress)

    result = await worker.run("Go", on_event=hear)
    assert seen == [{"tasks": []}, {"tasks": first}, {"tasks": second}, {"tasks": second}]
    assert [each.content for each in told(result.messages)] == [
        "the list is empty",
        "[>] 1: Look\n[ ] 2: Mend it\n0 of 2 done",
        "[x] 1: Look\n1 of 1 done",
        "[x] 1: Look\n1 of 1 done",
    ]


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([Task("1", "a", "done"), Task("1", "b", "done")], "two tasks have the id '1'"),
        ([Task(" ", "a", "done")], "needs an id"),
        ([Task("x" * 51, "a", "done")], "needs an id"),
        ([Task("1\n[x] 2", "a", "done")], "needs an id of 1 to 50 visible characters"),
        ([Task("1", " ", "done")], "needs a text"),
        ([Task("1", "x" * (task_list.LONGEST + 1), "done")], "needs a text"),
        ([Task(str(number), "a", "done") for number in range(task_list.MOST + 1)], "at most 100"),
    ],
)
def test_a_list_that_nobody_could_follow_is_refused(tasks: list[Task], words: str) -> None:
    with pytest.raises(ModelRetry, match=words):
        check_tasks(tasks)


@pytest.mark.anyio
async def test_a_list_that_does_not_fit_leaves_the_one_before(tmp_path: Path) -> None:
    good = [{"id": "1", "text": "Look", "state": "done"}]
    worker = agent(
        Workspace(tmp_path),
        [call("tasks", tasks=good)],
        [call("tasks", tasks=[*good, *good]), call("tasks", tasks=[{"id": "2", "text": "x", "state": "maybe"}])],
        [call("tasks")],
    )
    result = await worker.run("Go")
    _, twice, unknown, kept = told(result.messages)
    assert (twice.cause, unknown.cause) == ("invalid", "invalid")
    assert "in_progress" in unknown.content or "maybe" in unknown.content
    assert kept.content == "[x] 1: Look\n1 of 1 done"


# -- the end

DEAF = "setsid sh -c \"trap '' TERM HUP; echo \\$\\$ > deaf; while :; do sleep 0.05; done\" &\nwait"


async def pid_in(path: Path) -> int:
    with anyio.fail_after(10):
        while not path.exists() or not path.read_text().strip():
            await anyio.sleep(0.005)
    return int(path.read_text())


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["one_shot", "persistent"])
@pytest.mark.parametrize("how", ["stop", "close", "cancel"])
async def test_a_grandchild_that_is_deaf_to_sigterm_is_gone_within_the_grace(
    tmp_path: Path, kind: Any, how: str
) -> None:
    """Scenario 66, in a run that is stopped, cut short by the end of its System, or cancelled from outside."""
    worker = agent(Workspace(tmp_path, shell=kind, grace=0.3).tools("shell"), [call("shell", command=DEAF)])
    result: RunResult[str] | None = None
    began = 0.0
    with anyio.CancelScope() as scope:
        async with System() as system:
            run = await system.start(worker, "Go")
            pid = await pid_in(tmp_path / "deaf")
            assert lives(pid)
            began = time.monotonic()
            if how == "stop":
                result = await run.stop()
                assert time.monotonic() - began < 2.3
                assert not lives(pid)
            elif how == "cancel":
                scope.cancel()
    assert time.monotonic() - began < 4
    assert not lives(pid)
    if result is not None:
        assert (result.status, result.outlived) == ("stopped", ())
        assert told(result.messages)[0].cause == "cancelled"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@backends
def test_whatever_interrupts_a_run_with_a_shell_nothing_is_left(tmp_path: Path, backend: str) -> None:
    """The scenario's end looks for processes, descriptors and tasks."""
    given = Workspace(tmp_path, shell="persistent", grace=0.2).tools("shell", "read_file")

    async def scenario(interruption: Interruption) -> None:
        worker = agent(given, [call("shell", command="X=1"), call("read_file", path=".")])
        with anyio.CancelScope() as scope:
            async with System() as system:
                run = await system.start(worker, "Go")
                interruption.arm(scope.cancel)
                await run.result()

    assert interrupt_everywhere(scenario, backend=backend) > 10


@pytest.mark.anyio
async def test_a_thread_that_was_given_up_keeps_its_folder_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends while a read hangs; the descriptor must not become somebody else's under it."""
    (tmp_path / "a").touch()
    entered, go_on = threading.Event(), threading.Event()
    answers: list[list[str]] = []

    def slow(root: Any, *_: Any) -> Any:
        def read_file(path: str) -> str:
            with root.folder(()) as folder:
                entered.set()
                go_on.wait(10)
                answers.append(os.listdir(folder))
            return path

        return read_file

    monkeypatch.setattr(workspace, "read_file_in", slow)
    worker = agent(Workspace(tmp_path).tools("read_file"), [call("read_file", path="a")])
    with anyio.fail_after(20):
        try:
            async with System() as system:
                run = await system.start(worker, "Go")
                while not entered.is_set():
                    await anyio.sleep(0.005)
                result = await run.stop(grace=0.1)
                assert result.outlived != ()
        finally:
            go_on.set()
        while not answers:
            await anyio.sleep(0.005)
    assert answers == [["a"]]
