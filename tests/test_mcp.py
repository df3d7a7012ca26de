"""Servers of MCP as processes: what calls give, how servers end, and those that misbehave."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from mcp import types

from greenroom import Agent, RunContext, System, ToolFailed
from greenroom.agents import Toolkit
from greenroom.providers import Image, Scripted, ToolResult, call
from greenroom.testing import Interruption, interrupt_everywhere, run
from greenroom.tools import MCP, MCPServerError
from greenroom.tools.mcp import link as link_module
from greenroom.tools.mcp import session as session_module
from greenroom.tools.mcp.offered import offers
from greenroom.tools.mcp.server_process import ServerProcess
from greenroom.tools.mcp.session import Session
from greenroom.tools.mcp.stdio import receive_lines

from .mcp_calls import PIXEL, Ear, ask, children, kept, lives, named, plain, until_gone

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]


async def failure(kit: Toolkit, tool: str, **arguments: Any) -> str:
    with pytest.raises(ToolFailed) as raised:
        await ask(kit, tool, **arguments)
    return str(raised.value)


def results(messages: Any) -> list[ToolResult]:
    return [result for message in messages for result in message.tool_results]


# -- calls


async def test_a_tool_returns_what_the_server_says() -> None:
    async with plain().open() as kit:
        given = {"content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}
        assert await ask(kit, "give", result=given) == ToolResult("call_1", "one\ntwo", "give")
        picture = {"content": [{"type": "image", "data": PIXEL, "mimeType": "image/png"}]}
        result = await ask(kit, "give", result=picture)
        assert [type(part) for part in result.parts or ()] == [Image]


async def test_an_error_of_the_tool_is_one_for_the_model() -> None:
    async with plain().open() as kit:
        wrong = {"content": [{"type": "text", "text": "no such city"}], "isError": True}
        assert await failure(kit, "give", result=wrong) == "no such city"
        silent = {"content": [], "isError": True}
        assert await failure(kit, "give", result=silent) == "the tool failed, and says nothing of why"


USELESS: list[tuple[list[str], str]] = [
    (['{"jsonrpc": "2.0", "id": ID, "error": {"code": -32602, "message": "bad city"}}'], "failed: bad city"),
    (['{"jsonrpc": "2.0", "id": ID, "result": {"content": "text"}}'], "an answer of no use: content: Input"),
    (['{"jsonrpc": "2.0", "id": ID, "result": {}}'], "an answer of no use: content: Field required"),
    (['{"jsonrpc": "2.0", "id": ID, "error": "bad"}'], "an answer of no use: it is no message of JSON-RPC"),
    (
        ['{"jsonrpc": "2.0", "id": ID, "result": {"deep": ' + "[" * 2000 + "]" * 2000 + "}}"],
        "an answer of no use: ",
    ),
    (['{"jsonrpc": "2.0", "id": ID, "error": {"code": -3, "message": ""}}'], "and says nothing of why (code -3)"),
]


async def test_an_answer_of_no_use_says_so_and_the_session_goes_on() -> None:
    async with plain().open() as kit:
        for lines, says in USELESS:
            told = await failure(kit, "say", lines=lines, then=False)
            assert says in told
            assert told.startswith("tool 'say' of MCP server 'plain' ")
            assert (await ask(kit, "give")).content == "nothing"


async def test_what_is_no_message_or_no_answer_to_a_call_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    wrong_id = '{"jsonrpc": "2.0", "id": 4711, "result": {"content": []}}'
    no_message = '{"jsonrpc": "1.0"}'
    async with plain(options={"before": "Listening on stdio!\n\n"}).open() as kit:
        lines = ["", "{", "[1, 2]", "null", wrong_id, no_message, '{"jsonrpc": "2.0", "method": "notifications/news"}']
        assert (await ask(kit, "say", lines=lines)).content == "said"
        assert (await ask(kit, "give")).content == "nothing"
    ours = [record.getMessage() for record in caplog.records if record.name == "greenroom.mcp"]
    assert len(ours) == 1
    assert "Listening on stdio!" in ours[0]


async def test_structured_content_is_passed_on_and_held_to_its_schema() -> None:
    schema = {"type": "object", "properties": {"degrees": {"type": "number"}}, "required": ["degrees"]}
    tool = {"name": "give", "inputSchema": {"type": "object"}, "outputSchema": schema}
    async with plain(options={"tools": [tool]}).open() as kit:
        assert (await ask(kit, "give", result={"content": [], "structuredContent": {"degrees": 3}})).content == (
            '{"degrees":3}'
        )
        told = await failure(kit, "give", result={"content": [], "structuredContent": {"degrees": "warm"}})
        assert "returned something else than it says it does" in told
        assert "degrees" in told
        # What a server forgets is no reason to lose what it says.
        said = {"content": [{"type": "text", "text": "3 degrees"}]}
        assert (await ask(kit, "give", result=said)).content == "3 degrees"


async def test_progress_is_told_while_the_call_runs() -> None:
    progress = {"progressToken": "TOKEN", "progress": 1, "total": 4, "message": "a quarter"}
    line = json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress})
    ear = Ear()
    async with plain().open() as kit:
        await ask(kit, "say", ear, lines=[line.replace('"TOKEN"', "TOKEN")])
        foreign = line.replace('"TOKEN"', "4711")
        await ask(kit, "say", ear, lines=[foreign])
    assert ear.heard == [{"progress": 1.0, "total": 4.0, "message": "a quarter"}]


async def test_progress_that_comes_after_the_answer_comes_too_late() -> None:
    """A client whose answer overtakes what was said before."""
    ear = Ear()
    late: list[Any] = []

    class Client:
        async def send_request(self, request: Any, answers: Any, progress_callback: Any) -> Any:
            await progress_callback(1.0, None, None)
            late.append(progress_callback)
            return types.CallToolResult(content=[])

    client = Client()
    client.session = client  # type: ignore[attr-defined]
    terms: Any = plain()._terms
    session = Session(client, link_module.Link("x"), terms)
    (offer,) = offers([types.Tool(name="t", input_schema={})], "")
    assert await session.call(offer, {}, cast("RunContext[Any]", ear)) == ""
    await late[0](2.0, None, None)
    assert ear.heard == [{"progress": 1.0}]


async def test_log_messages_go_to_the_logger(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="greenroom.mcp")
    lines = [
        json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": level, "data": data}})
        for level, data in (("info", "at work"), ("emergency", {"disk": "full of sk-12345678"}), ("debug", "x"))
    ]
    async with plain(env={"KEY": "sk-12345678"}).open() as kit:
        await ask(kit, "say", lines=lines)
        await ask(kit, "give")
    said = {(record.levelname, record.getMessage()) for record in caplog.records if record.name == "greenroom.mcp"}
    assert said == {("INFO", "plain: at work"), ("ERROR", "plain: {'disk': 'full of [key]'}")}


REFUSED: list[tuple[str, dict[str, Any], int]] = [
    ("sampling/createMessage", {"messages": [], "maxTokens": 1}, -32600),
    ("elicitation/create", {"message": "Who?", "requestedSchema": {"type": "object", "properties": {}}}, -32600),
    ("roots/list", {}, -32600),
    ("made/up", {}, -32601),
]


async def test_what_a_server_asks_of_us_is_refused_and_a_ping_is_answered() -> None:
    async with plain().open() as kit:
        for method, params, code in REFUSED:
            answer = json.loads((await ask(kit, "ask", method=method, params=params)).content)
            assert answer["code"] == code
        assert (await ask(kit, "ask", method="ping")).content == "{}"


async def test_a_call_that_is_given_up_is_cancelled_at_the_server() -> None:
    async with plain().open() as kit:
        with anyio.move_on_after(0.2):
            await ask(kit, "hang")
        assert len(json.loads((await ask(kit, "cancelled")).content)) == 1


async def test_the_environment_of_a_server_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "sk-not-for-you")
    async with plain(env={"KEY": "for you"}).open() as kit:
        seen = json.loads((await ask(kit, "env")).content)
    assert seen["KEY"] == "for you"
    assert seen["PATH"] == os.environ["PATH"]
    assert "SECRET_OF_OURS" not in seen


async def test_a_server_has_the_folder_that_it_is_given(tmp_path: Path) -> None:
    async with plain(cwd=tmp_path).open() as kit:
        assert json.loads((await ask(kit, "env")).content).get("PWD", str(tmp_path))
        pid = json.loads((await ask(kit, "count")).content)["pid"]
        assert os.readlink(f"/proc/{pid}/cwd") == str(tmp_path)


# -- tools


async def test_tools_are_listed_page_by_page() -> None:
    tools = [{"name": f"t{number}", "inputSchema": {"type": "object"}} for number in range(7)]
    async with plain(options={"tools": tools, "pages": 3}).open() as kit:
        assert [tool.name for tool in kit.tools] == [f"t{number}" for number in range(7)]


async def test_tools_are_chosen_by_the_names_of_the_server() -> None:
    async with plain(only=["give", "say"], prefix="p_").open() as kit:
        assert [tool.name for tool in kit.tools] == ["p_give", "p_say"]
        assert (await ask(kit, "p_give")).content == "nothing"
    async with plain(exclude=["die", "flood"]).open() as kit:
        assert {tool.name for tool in kit.tools}.isdisjoint({"die", "flood"})
        assert named(kit, "give")


@pytest.mark.parametrize("option", ["only", "exclude"])
async def test_a_name_that_the_server_does_not_have_is_an_error(option: str) -> None:
    """A tool that was to be left out, and is there under another name, must not slip in."""
    with pytest.raises(
        MCPServerError, match=f"has no tool 'dei', which {option}= names; its tools are: ask, cancelled"
    ):
        async with plain(**{option: ["dei"]}).open():
            pass


async def test_a_list_that_changes_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "PAUSE", 0.05)
    async with plain().open() as kit:
        await ask(kit, "learn", names=["give", "learn", "new"])
        await names_become(kit, ["give", "learn", "new"])
        await ask(kit, "learn", names=["learn"], times=2_000)
        await names_become(kit, ["learn"])


async def names_become(kit: Toolkit, names: list[str]) -> None:
    with anyio.fail_after(10):
        while [tool.name for tool in kit.tools] != names:
            await anyio.sleep(0.005)


async def test_rules_and_hints_are_on_each_tool() -> None:
    hints = {"reads": {"readOnlyHint": True}, "repeats": {"idempotentHint": True}, "ends": {"destructiveHint": True}}
    tools = [{"name": each, "inputSchema": {"type": "object"}, "annotations": hints[each]} for each in hints]
    tools.append({"name": "plain", "inputSchema": {"type": "object"}})
    server = plain(options={"tools": tools}, tags=(each for each in ["ours"]), limit=3, timeout=7, max_result=50)
    async with server.open() as kit:
        assert {tool.name: tool.replay for tool in kit.tools} == {
            "reads": "safe",
            "repeats": "safe",
            "ends": "never",
            "plain": "never",
        }
        assert {tool.name: tool.rules.risk for tool in kit.tools} == {
            "reads": "low",
            "repeats": None,
            "ends": "high",
            "plain": None,
        }
        for tool in kit.tools:
            assert tool.rules.tags == {"ours", "mcp", "mcp:plain"}
            assert (tool.rules.limit, tool.timeout, tool.max_result) == (3, 7, 50)
    async with plain(options={"tools": tools}, replay="never", risk="medium").open() as kit:
        assert {(tool.replay, tool.rules.risk) for tool in kit.tools} == {("never", "medium")}


# -- how a server ends


async def test_a_server_that_dies_in_a_call_says_how_and_crashes_the_block() -> None:
    async with kept(plain(env={"KEY": "sk-12345678"})) as server, anyio.create_task_group() as group:
        others: list[str] = []

        async def other() -> None:
            others.append(await failure(server.kit, "hang"))

        group.start_soon(other)
        await anyio.wait_all_tasks_blocked()
        told = await failure(server.kit, "die", words="first\nout of memory, sk-12345678\n")
        assert told == (
            "no answer, and nobody knows whether it took effect: MCP server 'plain' ended with exit code 3. "
            "It last wrote:\nfirst\nout of memory, [key]"
        )
        assert (await failure(server.kit, "give")).startswith("not called: MCP server 'plain' ended with exit code 3")
        assert "ended with exit code 3" in await server.crash()
        assert "sk-12345678" not in repr(server.error)
    assert others == [told]


async def test_a_server_that_is_killed_says_by_what() -> None:
    async with kept(plain()) as server:
        assert "was killed by signal 9 (SIGKILL)" in await failure(server.kit, "die", signal=int(signal.SIGKILL))
        assert "was killed by signal 9 (SIGKILL)" in await server.crash()


async def test_a_server_whose_child_keeps_its_output_open_is_seen_to_die() -> None:
    async with kept(plain()) as server:
        child = int((await ask(server.kit, "spawn", keep=True)).content)
        assert "was killed" in await failure(server.kit, "die", signal=int(signal.SIGKILL))
        assert "was killed" in await server.crash()
    await until_gone(child)


async def test_nothing_survives_the_block() -> None:
    async with plain().open() as kit:
        child = int((await ask(kit, "spawn")).content)
        pid = json.loads((await ask(kit, "count")).content)["pid"]
        assert lives(child)
    assert not lives(pid)
    await until_gone(child)


async def test_a_stubborn_server_is_killed_with_its_children_though_everything_is_cancelled() -> None:
    pid = child = 0
    with anyio.CancelScope() as scope:
        async with plain(options={"stubborn": True}).open() as kit:
            child = int((await ask(kit, "spawn")).content)
            pid = json.loads((await ask(kit, "count")).content)["pid"]
            scope.cancel()
            began = time.monotonic()
            await anyio.sleep_forever()
    assert 2.5 < time.monotonic() - began < 6
    assert not lives(pid)
    await until_gone(child)


async def test_the_body_of_the_block_raises_what_it_raises() -> None:
    group = ExceptionGroup("ours", [ValueError("one"), LookupError("two")])
    for ours in (LookupError("ours"), MCPServerError("ours"), group):
        cause = OSError("why")
        with pytest.raises(type(ours)) as raised:
            async with plain().open():
                raise ours from cause
        assert raised.value is ours
        assert raised.value.__cause__ is cause


async def test_a_server_outlives_no_program_that_is_killed(tmp_path: Path) -> None:
    """Its standard input ends with us."""
    pid_file = tmp_path / "pid"
    options = json.dumps({"pid": str(pid_file)})
    server = str(Path(__file__).parent / "mcp_servers" / "plain_server.py")
    program = (
        "import anyio, sys\nfrom greenroom.tools import MCP\n"
        "async def main():\n"
        f"    async with MCP.stdio(sys.executable, {server!r}, {options!r}).open():\n"
        "        print('up', flush=True)\n        await anyio.sleep_forever()\n"
        "anyio.run(main)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.kill()
    await until_gone(int(pid_file.read_text()))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancellation_at_any_step_leaves_nothing(backend: str) -> None:
    async def scenario(interruption: Interruption) -> None:
        before = children()
        scope = anyio.CancelScope()
        interruption.arm(scope.cancel)
        with scope:
            async with plain().open() as kit:
                await ask(kit, "give")
        assert children() == before

    # How many steps there are depends on how the server's words come.
    assert interrupt_everywhere(scenario, backend=backend, limit=25, virtual_time=False) > 10


def test_a_native_cancellation_at_any_step_leaves_nothing() -> None:
    async def scenario(interruption: Interruption) -> None:
        before = children()

        async def body() -> None:
            async with plain().open() as kit:
                await ask(kit, "give")

        task = asyncio.ensure_future(body())
        interruption.arm(task.cancel)
        await asyncio.wait([task])
        assert children() == before

    assert interrupt_everywhere(scenario, limit=25, virtual_time=False) > 10


async def test_half_a_character_costs_no_answer() -> None:
    """A server sends it that cuts a text in the middle of a pair."""
    line = '{"jsonrpc": "2.0", "id": ID, "result": {"content": [{"type": "text", "text": "so \\ud83d"}]}}'
    async with plain().open() as kit:
        assert (await ask(kit, "say", lines=[line], then=False)).content == "so \ufffd"


async def test_one_odd_tool_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    tools = [
        {"name": "give", "inputSchema": {}},
        {"name": "text", "description": "Text.", "inputSchema": {"type": "string"}},
        {"name": "clash", "inputSchema": {"type": "object", "properties": {"context_of_the_run": {}}}},
        {"inputSchema": {"type": "object"}},
    ]
    async with plain(options={"tools": tools}).open() as kit:
        assert [tool.name for tool in kit.tools] == ["give", "text"]
        assert kit.tools[1].spec.description == 'Text.\n\nIts arguments, as JSON schema: {"type":"string"}'
        assert (await ask(kit, "give")).content == "nothing"
    assert "has a tool 'clash' that cannot be offered" in caplog.text


async def test_what_no_one_can_read_is_not_logged_by_the_library(caplog: pytest.LogCaptureFixture) -> None:
    notes = [
        {"method": "notifications/message", "params": {"level": "sk-secret-value", "data": 1}},
        {"method": "notifications/progress", "params": {"progressToken": "x", "progress": "sk-secret-value"}},
    ]
    lines = [json.dumps({"jsonrpc": "2.0", **note}) for note in notes]
    async with plain(env={"KEY": "sk-secret-value"}).open() as kit:
        assert (await ask(kit, "say", lines=lines)).content == "said"
    assert "sk-secret-value" not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# -- how a server does not start


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"start": "die"}, "ended with exit code 7. It last wrote:\nno such key: [key]"),
        ({"start": "version"}, "cannot be used: RuntimeError: Unsupported protocol version"),
        ({"endless": True}, "has a list of tools without an end"),
        ({"tools": [{"name": f"t{n}", "inputSchema": {"type": "object"}} for n in range(600)]}, "has 600 tools: name"),
        (
            {"start": "hang", "before": "Usage: server --port N\n"},
            "was not ready within 1.5 s. Its standard output must",
        ),
    ],
)
async def test_a_server_that_does_not_start_is_one_clear_error(
    options: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "MOST_LISTED", 1_000)
    quick = {"start_timeout": 1.5} if options.get("start") == "hang" else {}
    with pytest.raises(MCPServerError) as raised:
        async with plain(options=options, env={"KEY": "sk-secret-value"}, **quick).open():
            pytest.fail("it is open")
    assert str(raised.value).startswith("MCP server 'plain' ")
    assert says in str(raised.value)
    assert "sk-secret-value" not in str(raised.value)


async def test_a_command_that_there_is_not_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MCPServerError, match="MCP server 'x' cannot be started: there is no command 'no-such-command'"):
        async with MCP.stdio("no-such-command", name="x").open():
            pass
    with pytest.raises(MCPServerError, match="cannot be started: there is no folder '/no/such'"):
        async with MCP.stdio(sys.executable, name="x", cwd="/no/such").open():
            pass
    tmp_path.joinpath("text").write_text("")
    with pytest.raises(MCPServerError, match="text': Permission denied"):
        async with MCP.stdio(str(tmp_path / "text"), name="x").open():
            pass


# -- floods


async def test_a_line_without_an_end_ends_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.tools.mcp.stdio.MOST_MESSAGE", 3 * 1024**2)
    async with kept(plain()) as server:
        assert "sent a message of more than 3 MiB" in await failure(server.kit, "flood", megabytes=200, line=True)
        assert "sent a message of more than 3 MiB" in await server.crash()


async def test_lines_that_are_no_messages_cost_nothing_but_time() -> None:
    async with plain().open() as kit:
        assert (await ask(kit, "flood", megabytes=50)).content == "flooded"


async def test_others_go_on_while_a_server_floods() -> None:
    """Each piece that is read, and each message, lets everybody else go on."""
    note = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "debug", "data": "x"}})
    async with plain().open() as kit:
        assert await turns_during(ask(kit, "say", lines=[note] * 3_000)) > 3_000
        assert await turns_during(ask(kit, "flood", megabytes=50)) > 700


async def test_others_go_on_in_the_middle_of_a_piece_of_junk() -> None:
    class Junk:
        stdout = stderr = None

        def __init__(self) -> None:
            self.pieces = [b"\n{}\n" * 5_000, b""]

        async def read(self, file: object) -> bytes:
            return self.pieces.pop(0)

        def epitaph(self) -> str:
            return "ended"

        def drain(self, file: object) -> bytes:
            return b""

    send, receive = anyio.create_memory_object_stream[Any]()
    with receive:
        process = cast("ServerProcess", Junk())
        assert await turns_during(receive_lines(process, send, link_module.Link("junk"))) > 90


async def turns_during(work: Awaitable[object]) -> int:
    """How often another task has gone on meanwhile."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await anyio.sleep(0)
            turns += 1

    async with anyio.create_task_group() as group:
        group.start_soon(count)
        await work
        group.cancel_scope.cancel()
    return turns


async def test_a_server_that_says_much_on_its_standard_error_is_not_held_up() -> None:
    async with kept(plain()) as server:
        assert (await ask(server.kit, "stderr", words="words\n", times=200_000)).content == "said"
        assert (await ask(server.kit, "stderr", words="x" * 1_000_000)).content == "said"
        told = await failure(server.kit, "die", words="\n" + "y" * 5_000 + "\nlast\n")
    assert told.endswith("last")
    assert len(told) < 4_000


async def test_a_server_that_does_not_read_ends_the_link_and_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_module, "MOST_UNSENT", 5)
    async with kept(plain()) as server:
        pid = json.loads((await ask(server.kit, "count")).content)["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(failure, server.kit, "give")
                    # Each of these is given up at once, although nobody takes it.
                    with anyio.move_on_after(0.02), pytest.raises(ToolFailed):
                        await ask(server.kit, "give", result="y" * 100_000)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert "takes nothing of what it is sent" in await server.crash()


# -- runs


async def test_a_run_calls_the_tools_and_goes_on_with_a_server_that_was_started_again() -> None:
    script = Scripted([call("count")], [call("die", words="oh no\n")], [call("count")], "done")
    agent = Agent("helper", script, tools=[plain()])
    async with System() as system:
        result = await agent.run("Go", system=system)
        first, died, second = results(result.messages)
        assert "toolset" in str(system.tree())
    assert (died.is_error, died.cause) == (True, "failed")
    assert "ended with exit code 3. It last wrote:\noh no" in died.content
    before, after = json.loads(first.content), json.loads(second.content)
    assert before["served"] == after["served"] == 1
    assert before["pid"] != after["pid"]
    assert not lives(after["pid"])


async def test_a_hundred_runs_share_one_session() -> None:
    server = plain()

    async with System() as system:

        async def user() -> None:
            agent = Agent("helper", Scripted([call("count")], "done"), tools=[server])
            result = await agent.run("Go", system=system)
            pids.add(json.loads(results(result.messages)[0].content)["pid"])

        pids: set[int] = set()
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(user)
        assert len(pids) == 1
        assert str(system.tree()).count("toolset") == 1
    assert not lives(pids.pop())


async def test_a_stop_gives_up_the_call_at_once() -> None:
    agent = Agent("helper", Scripted([call("hang")], "done"), tools=[plain()])
    async with System() as system:
        run = await system.start(agent, "Go")
        async for event in run.events():
            if event.type == "tool.started":
                break
        began = time.monotonic()
        result = await run.stop("now")
        assert time.monotonic() - began < 2
    assert result.status == "stopped"
    assert results(result.messages)[0].cause == "cancelled"


async def test_a_call_that_takes_too_long_is_timed_out() -> None:
    agent = Agent("helper", Scripted([call("hang")], [call("cancelled")], "done"), tools=[plain(timeout=0.3)])
    result = await agent.run("Go")
    assert [each.cause for each in results(result.messages)] == ["timed_out", None]
    assert json.loads(results(result.messages)[1].content) != []


async def test_arguments_are_checked_before_the_server_is_asked() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = [{"name": "count", "inputSchema": schema}]
    script = Scripted([call("count", town="Oslo")], [call("count", city="Oslo")], "done")
    result = await Agent("helper", script, tools=[plain(options={"tools": tools})]).run("Go")
    wrong, right = results(result.messages)
    assert wrong.cause == "invalid"
    assert json.loads(right.content)["served"] == 1


async def test_a_tool_may_need_approval() -> None:
    async def no(call: Any) -> bool:
        return False

    agent = Agent("helper", Scripted([call("count")], "done"), tools=[plain(needs_approval=True)])
    result = await agent.run("Go", approve=no)
    assert results(result.messages)[0].cause == "denied"


async def test_a_server_that_does_not_start_fails_the_run_that_wants_it() -> None:
    agent = Agent("helper", Scripted("done"), tools=[plain(options={"start": "die"})])
    with pytest.raises(Exception, match="ended with exit code 7"):
        await agent.run("Go")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_virtual_time_stands_still_while_a_server_works(backend: str) -> None:
    """A start and a call that take real time use up none of theirs, and a stubborn process is no reason to wait."""

    async def scenario() -> None:
        script = Scripted([call("late", seconds=0.1)], [call("die")], [call("late", seconds=0.1)], "done")
        agent = Agent("helper", script, tools=[plain(start_timeout=0.01, timeout=0.01)])
        async with System() as system:
            result = await agent.run("Go", system=system)
            await anyio.sleep(3600)
        first, died, second = results(result.messages)
        assert first.content == second.content == "at last"
        assert "MCP server 'plain' ended with exit code 3" in died.content

    run(scenario, backend=backend)


# -- what is asked for


def test_a_wrong_argument_is_one_clear_line() -> None:
    for make, error, says in (
        (lambda: MCP.stdio("npx -y server"), ValueError, "takes the command and its arguments apart"),
        (lambda: MCP.stdio(""), ValueError, "takes the command and its arguments apart"),
        (lambda: MCP.stdio(["npx"]), TypeError, "takes a command, not \\['npx'\\]"),  # type: ignore[arg-type]
        (lambda: MCP.stdio("npx", 3), TypeError, "takes arguments that are text, not 3"),  # type: ignore[arg-type]
        (
            lambda: MCP.stdio("npx", env={"KEY": 3}),
            TypeError,
            "env= takes a dictionary of texts, and the value of 'KEY'",
        ),  # type: ignore[dict-item]
        (lambda: MCP.stdio("npx", env="KEY"), TypeError, "env= takes a dictionary of texts"),  # type: ignore[arg-type]
        (lambda: MCP.stdio("npx", name="a b"), ValueError, "name='a b' must be 1 to 64 characters"),
        (lambda: MCP.stdio("npx", name=3), TypeError, "name= takes text, not 3"),  # type: ignore[arg-type]
        (lambda: MCP.stdio("npx", timeout=0), ValueError, "timeout= must be above 0 seconds, or None"),
        (lambda: MCP.stdio("npx", start_timeout=None), ValueError, "start_timeout= must be above 0"),  # type: ignore[arg-type]
        (lambda: MCP.stdio("npx", prefix="a.b"), ValueError, "prefix= takes at most 32"),
        (lambda: MCP.stdio("npx", only="echo"), TypeError, "only= takes a list of the server's tool names"),
        (lambda: MCP.stdio("npx", exclude=[3]), TypeError, "exclude= takes a list of the server's tool names"),  # type: ignore[list-item]
        (lambda: MCP.stdio("npx", max_result=0), ValueError, "max_result= must be at least 1"),
        (lambda: MCP.stdio("npx", replay="always"), ValueError, "replay= must be 'never', 'keyed' or 'safe'"),  # type: ignore[arg-type]
        (lambda: MCP.stdio("npx", limit=0), ValueError, "limit must be"),
        (lambda: MCP.stdio("npx", "a\0"), ValueError, "takes words without a zero byte, and number 1 has one"),
        (lambda: MCP.stdio("/no/such folder/server"), ValueError, "and there is no program of that name"),
        (lambda: MCP.stdio("npx", env={"A=sk-1": ""}), ValueError, "env= has a name, 'A' …, that no variable can have"),
        (lambda: MCP.stdio("npx", env={"": "x"}), ValueError, "env= has a name, '' …, that no variable can have"),
        (lambda: MCP.stdio("npx", env={"A": "\0"}), ValueError, "env= has a value, that of 'A', with a zero byte"),
        (lambda: MCP.stdio("npx", env={"A": "\ud800"}), ValueError, "or half a surrogate pair in it"),
        (lambda: MCP.stdio("npx", cwd=5), TypeError, "cwd= takes the path of a folder, not 5"),  # type: ignore[arg-type]
        (
            lambda: MCP.stdio("npx", timeuot=1),
            TypeError,
            r"MCP.stdio\(\) has no option 'timeuot': did you mean timeout=",
        ),  # type: ignore[call-arg]
        (lambda: MCP.stdio("npx", headers={}), TypeError, r"stdio\(\) has no option 'headers': it takes cwd, env, "),  # type: ignore[call-arg]
        (lambda: MCP.http("http://h", token="sk-1"), TypeError, r"http\(\) has no option 'token': it takes exclude, h"),  # type: ignore[call-arg]
        (lambda: MCP.stdio("npx", description="x"), TypeError, "has no option 'description'"),  # type: ignore[call-arg]
        (lambda: MCP("npx"), TypeError, r"write MCP.stdio\('npx', '-y', 'package'\) or MCP.http"),
        (lambda: MCP.http("http://h:99999/mcp"), ValueError, "of the host 'h' has a port that is none"),
        (lambda: MCP.http("http://a b/mcp"), ValueError, "of the host 'a b' has white space in it"),
        (lambda: MCP.http("http://h", headers={"a b": "c"}), ValueError, "headers= has 'a b', which is no name of"),
        (
            lambda: MCP.http("http://h", headers={"Accept": "c"}),
            ValueError,
            "'Accept', which the protocol sets by itself",
        ),
        (lambda: MCP.http("ftp://host/x"), ValueError, "takes a URL that begins with http"),
        (lambda: MCP.http(3), TypeError, "takes a URL, not 3"),  # type: ignore[arg-type]
        (lambda: MCP.http("http://h", headers={"a": "b\r\nc: d"}), ValueError, "headers= has one, 'a', that is not"),
        (lambda: MCP.http("http://h", headers={"ä": "b"}), ValueError, "headers= has one, 'ä', that is not"),
    ):
        with pytest.raises(error, match=says) as raised:
            make()
        assert "\n" not in str(raised.value)
        assert "sk-1" not in str(raised.value)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("npx", "-y", "@modelcontextprotocol/server-everything@2026.8.31"), "server-everything"),
        (("uvx", "mcp-server-git", "--repository", "."), "mcp-server-git"),
        (("uv", "run", "server.py"), "server"),
        (("/usr/local/bin/my-server",), "my-server"),
        (("node", "/opt/files/index.js", "/data"), "index"),
        (("docker", "run", "-i", "--rm", "mcp/time"), "time"),
        (("docker", "run", "-i", "-e", "TOKEN", "ghcr.io/github/github-mcp-server:v1"), "github-mcp-server"),
        (("docker", "run", "-i", "-e", "TOKEN=sk-1", "mcp/time@sha256:12"), "time"),
        (("docker", "run", "--unheard-of", "sk-1", "mcp/time"), "docker"),
        (("docker", "run", "TOKEN=sk-1"), "docker"),
        (("python3.12", "-u", "-m", "my.server", "--key", "sk-1"), "my.server"),
        (("python", "-c", "key = 'sk-1'"), "python"),
        (("uvx", "--from", "git+https://u:sk-1@host/x", "mcp-x==1.2", "sk-1"), "mcp-x"),
        (("npx", "-y", "https://u:sk-1@host/x.tgz"), "npx"),
        (("uv", "--directory", "/srv", "run", "python", "-m", "srv"), "srv"),
        (("npx",), "npx"),
    ],
)
def test_a_server_is_named_after_what_it_is(words: tuple[str, ...], name: str) -> None:
    assert MCP.stdio(*words).name == name


def test_no_secret_shows() -> None:
    stdio = MCP.stdio("npx", "--key=sk-secret", env={"KEY": "sk-secret"}, name="x")
    http = MCP.http("https://user:sk-secret@host/mcp?key=sk-secret", headers={"X-Key": "Bearer sk-secret"})
    assert repr(stdio) == "MCP.stdio('npx', …, name='x')"
    assert repr(http) == "MCP.http('https://host/mcp', name='host')"
    for each in (stdio, http):
        assert "sk-secret" not in f"{each!r} {vars(each)!r}"


def test_nothing_of_the_sdk_is_loaded_before_a_server_is_asked_for() -> None:
    program = "import sys, greenroom.tools\nassert not {'mcp', 'pydantic', 'httpx2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_without_the_sdk_there_is_one_clear_error() -> None:
    program = (
        "import sys\nsys.modules['mcp'] = None\nfrom greenroom.tools import MCP\n"
        "try:\n    MCP.stdio('npx')\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "MCP needs the mcp package: pip install greenroom[mcp]\n"
