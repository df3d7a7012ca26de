"""Views of journals: chronicles, traces, archives; and what ends a run without its agent."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import sys
import textwrap
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from greenroom import Agent, Archive, Chronicle, Fenced, MemoryJournal, RunContext, SqliteJournal, System, tool
from greenroom.agents.closure import end_run
from greenroom.journal import (
    Answered,
    Asked,
    BadRecord,
    Began,
    CannotOpen,
    Damaged,
    Delivered,
    Ended,
    Happened,
    Held,
    Intended,
    JournalClosed,
    Listed,
    NewerFormat,
    NotAJournal,
    Parked,
    Record,
    Replied,
    Resumed,
    Retrying,
    RunFinished,
    Said,
    Sent,
    Slept,
    Spent,
    Stopping,
    Suspended,
    UnknownRun,
    encode,
)
from greenroom.providers import (
    Message,
    ModelReply,
    Scripted,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    assistant,
    call,
    user,
)
from greenroom.testing import Interruption, interrupt_everywhere

pytestmark = pytest.mark.anyio

# -- the records of a run in which everything happens


def replied(*content: Any, at: float, tokens: int | None = None, cost: float | None = 0.0, **facts: Any) -> Replied:
    texts = [part for part in content if isinstance(part, str)]
    calls = [part for part in content if isinstance(part, ToolCall)]
    usage = Usage(total_tokens=tokens) if tokens is not None else None
    return Replied(ModelReply(assistant(*texts, tool_calls=calls), usage=usage, **facts), at, cost)


EVENTFUL: list[list[Record]] = [
    [Began("r1", "clerk", [user("Hi."), assistant("Hello.")], [user("Pay Ann\nand Bob.")], 1000.0)],
    [Retrying(1, 1004.0, 1002.0, Usage(total_tokens=5), 0.25)],
    [
        replied(
            "Let me see.",
            ToolCall("c1", "pay", {"to": "Ann", "note": "x" * 50}),
            ToolCall("c2", "ask", {"prompt": "who is Bob?"}),
            ToolCall("c3", "nap", None, '{"broken'),
            at=1006.0,
            tokens=1200,
            cost=0.5,
        ),
        Happened(ToolResult("c3", "arguments are no JSON", "nap", True, "invalid"), 1006.0),
    ],
    [Asked("c1", 1066.0, 1006.0)],
    [Intended("c2", 1006.0)],
    [Sent("m1", "asap", user("Be quick."), 1006.5), Answered("c1", True, 1007.0)],
    [Intended("c1", 1007.0)],
    [Slept("c1", 1, 1017.0, 1007.0)],
    [Held(True, 1008.0), Held(False, 1008.5)],
    [Resumed(True, False, ["the model was a:b, and is a:c"], 2000.0)],
    [Intended("c2", 2000.0)],
    [Happened(ToolResult("c1", "outcome unknown: it may have", "pay", True, "outcome_unknown"), 2000.0)],
    [Happened(ToolResult("c2", "a man", "ask"), 2001.5, Usage(total_tokens=70), 0.0)],
    [Delivered(["m1"], 2001.5), replied("Bob is\ta man\x1b[2J.", at=2003.5, tokens=100, stop_reason="length")],
    [Said(user("not a number"), 2003.5)],
    [Said(Message("assistant", (Text("So"),), partial=True), 2004.0)],
    [Stopping("after_turn", "enough", 2004.0)],
    [Suspended(2004.5), Parked("its process died 3 times", 2004.6)],
    [Ended("failed", "error", 2005.0, "BadResponse: nothing came")],
]
CHILD: list[list[Record]] = [
    [Began("r1.1.1.1", "helper", [], [user("who is Bob?")], 1006.0, parent_id="r1", call_id="c2")],
    [replied("a man", at=1006.25, tokens=70), Ended("completed", "answered", 1006.25)],
]

TREE = """\
run r1 of agent clerk, failed (error), 1,375 tokens, $0.7500, 16 min 45 s
├─ after 2 messages
├─ user: Pay Ann and Bob.
├─ try 1 of the model call failed, 5 tokens, $0.2500: again after 2.0 s
├─ turn 1, 1,200 tokens, $0.5000, 2.0 s
│  ├─ assistant: Let me see.
│  ├─ pay(to='Ann', note='xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…), outcome unknown, 16…
│  │  ├─ waits for an approval: for 60.0 s
│  │  ├─ approved
│  │  └─ sleeps, 10.0 s
│  ├─ ask(prompt='who is Bob?'), 2 tries, 70 tokens, 1.5 s: a man
│  │  └─ run r1.1.1.1 of agent helper, completed (answered), 70 tokens, 250 ms
│  │     ├─ user: who is Bob?
│  │     ├─ turn 1, 70 tokens, 250 ms
│  │     │  └─ assistant: a man
│  │     └─ completed (answered)
│  ├─ nap({"broken), invalid: arguments are no JSON
│  ├─ message sent (asap): Be quick.
│  ├─ paused
│  ├─ pause is over
│  └─ goes on in another process: its process had died; the model was a:b, and …
├─ message delivered: Be quick.
├─ turn 2, length, 100 tokens, 2.0 s
│  ├─ assistant: Bob is a man�[2J.
│  ├─ user: not a number
│  └─ assistant, cut: So
├─ stop asked for (after_turn): enough
├─ suspended, to go on in another process
├─ parked: its process died 3 times
└─ failed (error): BadResponse: nothing came"""


def entries_of(groups: Sequence[Sequence[Record]]) -> list[bytes]:
    return [encode(*records) for records in groups]


async def test_a_trace_tells_everything_that_happened() -> None:
    child = Chronicle(entries_of(CHILD))
    trace = Chronicle(entries_of(EVENTFUL), children=[child]).trace()
    assert str(trace) == TREE
    assert max(map(len, str(trace).splitlines())) == 80
    assert "note='xxxxxxxxxx" in trace.draw(500)
    assert "16 min 33 s: outcome unknown: it may have" in trace.draw(500)


async def test_a_trace_can_be_drawn_at_every_moment() -> None:
    """Whatever prefix of the journal is there: the tree has its steps, and grows."""
    lengths = [len(Chronicle(entries_of(EVENTFUL[:end])).trace().draw(500)) for end in range(1, len(EVENTFUL) + 1)]
    assert lengths[0] < lengths[-1]
    first = str(Chronicle(entries_of(EVENTFUL[:1])).trace())
    assert first == "run r1 of agent clerk, unfinished\n├─ after 2 messages\n└─ user: Pay Ann and Bob."


async def test_a_trace_is_plain_data() -> None:
    trace = Chronicle(entries_of(EVENTFUL)).trace()
    assert json.loads(trace.to_json()) == trace.to_dict()
    turn = next(child for child in trace.to_dict()["children"] if child["kind"] == "turn")
    assert (turn["name"], turn["at"], turn["seconds"], turn["tokens"], turn["cost"]) == (
        "turn 1",
        1004.0,
        2.0,
        1200,
        0.5,
    )
    assert [each["kind"] for each in turn["children"]][:4] == ["message", "call", "call", "call"]


async def test_ids_of_calls_that_come_again_are_told_apart_by_the_turn() -> None:
    """A subagent stands in the call that it worked for, also where a later turn uses the same call id."""
    asks = [ToolCall("c", "ask", {})]
    records: list[list[Record]] = [[Began("r", "a", [], [user("Go")], 1.0)]]
    children: list[Chronicle] = []
    for turn in (1, 2):
        at = float(turn * 10)
        records += [
            [replied(*asks, at=at), Intended("c", at)],
            [Happened(ToolResult("c", f"answer {turn}", "ask"), at)],
        ]
        began = Began(f"r.{turn}.0.1", "b", [], [user(f"question {turn}")], at, parent_id="r", call_id="c")
        children.append(Chronicle([encode(began)]))
    own = Began("my-own", "b", [], [user("question 3")], 20.0, parent_id="r", call_id="c")
    children.append(Chronicle([encode(own)]))
    trace = Chronicle(entries_of(records), children=children).trace()
    first, second = (child for child in trace.children if child.kind == "turn")
    assert [run.name for run in first.children[0].children] == ["run r.1.0.1 of agent b"]
    assert [run.name for run in second.children[0].children] == ["run r.2.0.1 of agent b", "run my-own of agent b"]


async def test_what_a_call_without_a_reply_has_used_is_part_of_the_trace() -> None:
    records: list[Record] = [Began("r", "a", [], [user("Go")], 1.0), Spent(3.0, Usage(total_tokens=7), 0.5)]
    trace = Chronicle([encode(*records)]).trace()
    assert (trace.tokens, trace.cost) == (7, 0.5)
    assert str(trace).splitlines()[2] == "└─ a model call without a reply, 7 tokens, $0.5000"


async def test_calls_that_waited_for_an_approval_are_part_of_the_trace() -> None:
    history = [
        user("Pay"),
        assistant(tool_calls=[ToolCall("a", "pay", {"to": "Ann"}), ToolCall("b", "pay", {"to": "Bob"})]),
    ]
    began = Began("r", "clerk", history, [], 1.0, kept=[ToolResult("a", "paid", "pay")], answers={"b": "no money"})
    done = Happened(ToolResult("b", "denied: no money", "pay", True, "denied"), 2.0)
    trace = Chronicle([encode(began), encode(done), encode(replied("Only Ann.", at=4.0))]).trace()
    assert str(trace).splitlines()[1:] == [
        "├─ after 2 messages",
        "├─ calls that waited",
        "│  ├─ pay(to='Ann'): paid",
        "│  └─ pay(to='Bob'), denied: denied: no money",
        "│     └─ denied: no money",
        "└─ turn 1, 2.0 s",
        "   └─ assistant: Only Ann.",
    ]


async def test_a_chronicle_is_plain_data_too() -> None:
    chronicle = Chronicle(
        entries_of(EVENTFUL), children=[Chronicle(entries_of(CHILD))], unreadable={"r1.9": "is damaged"}
    )
    story = chronicle.to_dict()
    assert story == json.loads(chronicle.to_json())
    assert (story["run_id"], story["agent"], story["status"], story["reason"]) == ("r1", "clerk", "failed", "error")
    assert (story["error"], story["turns"], story["resumptions"]) == ("BadResponse: nothing came", 2, 1)
    assert story["started_at"] == "1970-01-01T00:16:40Z"
    assert story["usage"]["total_tokens"] == 1375
    assert [message["role"] for message in story["messages"]][:3] == ["user", "assistant", "user"]
    assert [child["run_id"] for child in story["children"]] == ["r1.1.1.1"]
    assert "run r1.9 cannot be read: is damaged" in str(chronicle.trace())


# -- in a System


@tool(replay="safe")
async def look(what: str) -> str:
    """Look something up."""
    return f"{what} is fine"


def team(*replies: Any) -> Agent[Any, str]:
    helper = Agent("helper", Scripted([call("look", what="Bob")], "Bob is fine."), tools=[look])
    return Agent("clerk", Scripted(*replies), tools=[look, helper.as_tool()])


TALK = ([call("look", what="Ann"), call("helper", prompt="And Bob?")], "Both are fine.")


def timeless(text: str) -> str:
    return re.sub(r"\d+(\.\d)? (ms|s)\b", "T", text)


async def test_a_system_tells_the_story_of_a_run() -> None:
    """Its messages, usage and cost are those of the result; its subagents are below it."""
    async with System(journal=MemoryJournal(keep=True)) as system:
        run = await system.start(team(*TALK), "Are they fine?", run_id="r")
        result = await run.result()
        chronicle = await system.chronicle("r")
    assert (chronicle.messages, chronicle.usage, chronicle.cost) == (result.messages, result.usage, result.cost)
    assert [child.agent for child in chronicle.children] == ["helper"]
    assert chronicle.ended_at is not None
    assert chronicle.started_at <= chronicle.ended_at
    assert timeless(str(chronicle.trace())) == textwrap.dedent("""\
        run r of agent clerk, completed (answered), T
        ├─ user: Are they fine?
        ├─ turn 1, T
        │  ├─ look(what='Ann'), T: Ann is fine
        │  └─ helper(prompt='And Bob?'), T: Bob is fine.
        │     └─ run r.1.1.1 of agent helper, completed (answered), T
        │        ├─ user: And Bob?
        │        ├─ turn 1, T
        │        │  └─ look(what='Bob'), T: Bob is fine
        │        ├─ turn 2, T
        │        │  └─ assistant: Bob is fine.
        │        └─ completed (answered)
        ├─ turn 2, T
        │  └─ assistant: Both are fine.
        └─ completed (answered)""")
    assert timeless(str(result.trace())) == textwrap.dedent("""\
        run r of agent clerk, completed (answered), T
        ├─ user: Are they fine?
        ├─ turn 1
        │  ├─ look(what='Ann'): Ann is fine
        │  └─ helper(prompt='And Bob?'): Bob is fine.
        └─ turn 2
           └─ assistant: Both are fine.""")


async def test_a_run_at_work_has_a_story_already_and_an_unknown_one_has_none() -> None:
    reached, gate = anyio.Event(), anyio.Event()

    @tool
    async def wait() -> str:
        """Wait."""
        reached.set()
        await gate.wait()
        return "waited"

    async with System() as system:
        run = await system.start(Agent("a", Scripted([call("wait")], "Done."), tools=[wait]), "Go", run_id="r")
        await reached.wait()
        chronicle = await system.chronicle("r")
        assert (chronicle.standing, len(chronicle.at_work), chronicle.turns) == ("unfinished", 1, 1)
        assert [call.name for call in chronicle.open_calls] == ["wait"]
        gate.set()
        await run.result()
        with pytest.raises(UnknownRun, match=r"in memory forgets it at its end; System\(journal='runs\.db'\) keeps it"):
            await system.chronicle("r")


# -- archives


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


async def write(path: Path, *stories: Sequence[Sequence[Record]], leave_open: Sequence[str] = ()) -> None:
    """A journal with these runs; a run is released unless it is to look as if its process had died."""
    async with SqliteJournal(path) as journal:
        for story in stories:
            began = story[0][0]
            assert isinstance(began, Began)
            claim = journal.create(began.run_id, parent_id=began.parent_id, conversation_id=began.conversation_id)
            for records in story:
                journal.append(claim, encode(*records), final=isinstance(records[-1], Ended))
            await journal.durable(claim)
            if began.run_id not in leave_open:
                journal.release(claim)


async def test_an_archive_reads_runs_without_system_and_agents(path: Path) -> None:
    await write(path, EVENTFUL, CHILD)
    async with Archive(path) as archive:
        assert [each.run_id for each in await archive.runs()] == ["r1", "r1.1.1.1"]
        assert await archive.runs(unfinished=True) == []
        assert [each.length for each in await archive.runs(run_id="r1.1.1.1")] == [2]
        assert await archive.read("nobody") == []
        chronicle = await archive.chronicle("r1")
        assert str(chronicle.trace()) == TREE
        with pytest.raises(UnknownRun, match="nobody"):
            await archive.chronicle("nobody")
    with pytest.raises(JournalClosed, match="async with"):
        await archive.runs()


async def test_an_archive_reads_beside_a_system_that_writes(path: Path) -> None:
    """It sees what is durable, and neither waits for the other."""
    async with System(journal=path) as system, Archive(path) as archive:
        for number in range(5):
            run = await system.start(team(*TALK), "Are they fine?", run_id=f"r{number}")
            assert (await archive.chronicle(f"r{number}")).agent == "clerk"
            result = await run.result()
            chronicle = await archive.chronicle(f"r{number}")
            assert (chronicle.messages, chronicle.standing) == (result.messages, "completed")
            assert [child.standing for child in chronicle.children] == ["completed"]
    async with Archive(path) as archive:
        assert len(await archive.runs()) == 10


async def test_an_archive_changes_nothing(path: Path) -> None:
    """Also where the process that wrote has died and left a log behind."""
    program = f"""
        import anyio, os, signal
        from greenroom.journal import Began, SqliteJournal, encode
        async def main():
            async with SqliteJournal({str(path)!r}) as journal:
                claim = journal.create("r")
                journal.append(claim, encode(Began("r", "a", [], [])))
                await journal.durable(claim)
                os.kill(os.getpid(), signal.SIGKILL)
        anyio.run(main)
    """
    await anyio.run_process([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert path.with_name("runs.db-wal").stat().st_size > 0

    def digests() -> list[str]:
        return [hashlib.sha256(path.with_name(name).read_bytes()).hexdigest() for name in ("runs.db", "runs.db-wal")]

    before = digests()
    async with Archive(path) as archive:
        (listed,) = await archive.runs()
        assert listed.owner is not None
        assert not listed.owner.is_running
        assert (await archive.chronicle("r")).standing == "unfinished"
    assert digests() == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs to become another user")
async def test_an_archive_may_lie_in_a_folder_that_is_read_only(tmp_path: Path) -> None:
    """A backup, a file of another user: no file can be made beside it."""
    program = """
        import os, tempfile, anyio, shutil
        from greenroom import Archive, SqliteJournal
        from greenroom.journal import Began, encode
        async def write(path):
            async with SqliteJournal(path) as journal:
                journal.append(journal.create("r"), encode(Began("r", "a", [], [])))
        async def read(path):
            async with Archive(path) as archive:
                print((await archive.chronicle("r")).agent)
        folder = tempfile.mkdtemp(dir="/tmp")
        try:
            path = os.path.join(folder, "runs.db")
            anyio.run(write, path)
            os.chmod(path, 0o644)
            os.chmod(folder, 0o755)
            if os.fork() == 0:
                os.setuid(65534)
                anyio.run(read, path)
                os._exit(0)
            os.wait()
        finally:
            shutil.rmtree(folder)
    """
    done = await anyio.run_process([sys.executable, "-u", "-c", textwrap.dedent(program)], check=False)
    assert (done.returncode, done.stdout.decode()) == (0, "a\n"), done.stderr.decode()


def make_empty(path: Path) -> None:
    path.touch()


def make_text(path: Path) -> None:
    path.write_text("dear diary " * 100)


def make_short(path: Path) -> None:
    path.write_bytes(b"SQLite")


def make_foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE things (x)")
    connection.close()


def make_folder(path: Path) -> None:
    path.mkdir()


def make_nothing(path: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (make_nothing, CannotOpen, "there is no file"),
        (make_folder, CannotOpen, "is a folder"),
        (make_empty, NotAJournal, "is empty"),
        (make_short, NotAJournal, "too short"),
        (make_text, NotAJournal, "not a journal"),
        (make_foreign, NotAJournal, "something else"),
    ],
)
async def test_what_is_no_journal_is_refused(path: Path, make: Any, error: type[Exception], words: str) -> None:
    make(path)
    with pytest.raises(error, match=words):
        async with Archive(path):
            pass
    assert path.exists() is (make is not make_nothing)


async def test_a_journal_of_a_later_version_is_refused_with_the_remedy(path: Path) -> None:
    """Scenario 82."""
    await write(path, CHILD)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(NewerFormat, match="upgrade greenroom"):
        async with Archive(path):
            pass


async def test_a_run_of_a_later_version_does_not_hide_the_others(path: Path) -> None:
    """Scenario 82."""
    await write(path, [[Began("new", "a", [], [], format=99)]], CHILD)
    async with Archive(path) as archive:
        with pytest.raises(BadRecord, match="upgrade greenroom"):
            await archive.chronicle("new")
        assert (await archive.chronicle("r1.1.1.1")).standing == "completed"


def spoil(path: Path, run_id: str) -> None:
    """Change a byte in the first entry of a run."""
    connection = sqlite3.connect(path)
    connection.execute(
        "UPDATE entries SET bytes = x'00' || substr(bytes, 2) WHERE sequence = 0 AND run ="
        " (SELECT number FROM runs WHERE id = ?)",
        (run_id,),
    )
    connection.commit()
    connection.close()


async def test_a_damaged_subagent_is_named_and_does_not_hide_the_run(path: Path) -> None:
    """Scenario 76."""
    await write(path, EVENTFUL, CHILD)
    spoil(path, "r1.1.1.1")
    async with Archive(path) as archive:
        chronicle = await archive.chronicle("r1")
        assert chronicle.children == ()
        assert "entry 0 is damaged" in chronicle.unreadable["r1.1.1.1"]
        assert "run r1.1.1.1 cannot be read" in str(chronicle.trace())
        with pytest.raises(Damaged, match=r"runs\.db, run 'r1\.1\.1\.1', entry 0"):
            await archive.chronicle("r1.1.1.1")


async def test_a_row_that_was_changed_hides_no_other_run(path: Path) -> None:
    """Scenario 76."""
    await write(path, EVENTFUL, CHILD, [[Began("other", "a", [], [])]])
    connection = sqlite3.connect(path)
    connection.execute("UPDATE runs SET length = 7 WHERE id = 'r1.1.1.1'")
    connection.commit()
    connection.close()
    async with Archive(path) as archive:
        with pytest.raises(Damaged) as caught:
            await archive.runs()
        others = [each.run_id for each in caught.value.others if isinstance(each, Listed)]
        assert others == ["r1", "other"]
        assert (await archive.chronicle("other")).standing == "unfinished"
        assert list((await archive.chronicle("r1")).unreadable) == ["r1.1.1.1"]


async def test_an_archive_says_what_its_arguments_must_be(path: Path) -> None:
    with pytest.raises(TypeError, match="path is a text or a Path"):
        Archive(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is empty"):
        Archive("")
    with pytest.raises(ValueError, match="busy_timeout"):
        Archive(path, busy_timeout=-1)
    await write(path, CHILD)
    async with Archive(path) as archive:
        with pytest.raises(RuntimeError, match="open already"):
            await archive.__aenter__()


async def test_a_run_is_followed_to_its_end(path: Path) -> None:
    gate = anyio.Event()

    @tool
    async def wait() -> str:
        """Wait."""
        await gate.wait()
        return "waited"

    agent = Agent("a", Scripted([call("wait")], "Done."), tools=[wait])
    kinds: list[str] = []
    async with System(journal=path) as system, Archive(path) as archive:
        run = await system.start(agent, "Go", run_id="r")
        async for records in archive.follow("r"):
            kinds += [type(record).__name__ for record in records]
            if "Intended" in kinds:
                gate.set()
        await run.result()
        assert kinds == ["Began", "Replied", "Intended", "Happened", "Replied", "Ended"]
        with pytest.raises(UnknownRun):
            await anext(archive.follow("nobody"))


async def test_a_run_that_ends_while_it_is_read_is_followed_to_its_end(path: Path) -> None:
    """What comes between two looks at the file is neither missed nor told twice, nor is the end."""
    async with SqliteJournal(path) as journal:
        claim = journal.create("r")
        journal.append(claim, encode(Began("r", "a", [], [])))
        await journal.durable(claim)

        class Late(Archive):
            """The run ends between the look at its row and that at its entries."""

            async def read(self, run_id: str) -> list[bytes]:
                journal.append(claim, encode(Held(True), Held(False)))
                journal.append(claim, encode(Ended("completed", "answered")), final=True)
                await journal.durable(claim)
                return await super().read(run_id)

        async with Late(path) as archive:
            with anyio.fail_after(20):
                told = [[type(record).__name__ for record in records] async for records in archive.follow("r")]
    assert told == [["Began", "Held", "Held", "Ended"]]


async def test_following_notices_a_run_that_is_forgotten(path: Path) -> None:
    async with SqliteJournal(path) as journal, Archive(path) as archive:
        claim = journal.create("r")
        journal.append(claim, encode(Began("r", "a", [], [])))
        await journal.durable(claim)
        following = archive.follow("r")
        assert len(await anext(following)) == 1
        journal.append(claim, encode(Ended("completed", "answered")), final=True)
        await journal.prune(float("inf"))
        with pytest.raises(UnknownRun):
            await anext(following)


def test_an_archive_is_closed_wherever_it_is_cancelled(path: Path) -> None:
    """The descriptors of the file are none of what a test may leave behind."""
    anyio.run(write, path, EVENTFUL, CHILD)
    for backend in ("asyncio", "trio"):

        async def scenario(interruption: Interruption) -> None:
            archive = Archive(path)
            with anyio.CancelScope() as scope:
                interruption.arm(scope.cancel)
                async with archive:
                    assert (await archive.chronicle("r1")).children
            assert repr(archive).endswith("not open>")

        assert interrupt_everywhere(scenario, backend=backend) > 3


# -- ending a run without its agent


def test_ending_a_run_may_be_cancelled_and_done_again() -> None:
    """Whenever that is: the run has one end, and its subagents have theirs."""
    for backend in ("asyncio", "trio"):

        async def scenario(interruption: Interruption) -> None:
            journal = MemoryJournal(keep=True)
            for name, parent in (("r", None), ("r.0.1", "r")):
                claim = journal.create(name, parent_id=parent)
                journal.append(claim, encode(Began(name, "x", [], [user("Go")], parent_id=parent)))
            with anyio.CancelScope() as scope:
                interruption.arm(scope.cancel)
                await anyio.lowlevel.checkpoint()
                await end_run(journal, "r", "why")
            for name in ("r", "r.0.1"):
                try:
                    await end_run(journal, name, "why")
                except RunFinished:
                    pass
                chronicle = Chronicle(await journal.read(name))
                assert chronicle.standing == "stopped"
                assert sum(isinstance(record, Ended) for record in chronicle.records) == 1

        assert interrupt_everywhere(scenario, backend=backend) > 0


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[SqliteJournal]:
    async with SqliteJournal(path) as journal:
        yield journal


def causes(chronicle: Chronicle) -> list[str | None]:
    return [result.cause for message in chronicle.messages for result in message.tool_results]


async def test_a_run_that_is_ended_from_its_journal_has_a_valid_and_truthful_history(journal: SqliteJournal) -> None:
    """A call that had begun has an unknown outcome, one that had not is cancelled; subagents end too."""
    calls = [ToolCall("a", "pay", {}), ToolCall("b", "pay", {}), ToolCall("c", "pay", {})]
    records: list[Record] = [Began("r", "x", [], [user("Go")]), replied(*calls, at=1.0), Intended("a"), Intended("b")]
    claim = journal.create("r")
    journal.append(claim, encode(*records))
    journal.append(claim, encode(Happened(ToolResult("a", "paid", "pay"))))
    for child, parent in (("r.1.1.1", "r"), ("r.1.1.1.1.0.1", "r.1.1.1"), ("other", "q")):
        journal.append(journal.create(child, parent_id=parent), encode(Began(child, "y", [], [], parent_id=parent)))
    assert await end_run(journal, "r", "too dear") == 2
    chronicle = Chronicle(await journal.read("r"))
    assert (chronicle.standing, chronicle.reason) == ("stopped", "too dear")
    assert chronicle.cost is None  # nor what its subagent's may have, below
    assert [message.tool_results[0].cause for message in chronicle.messages[2:]] == [
        None,
        "outcome_unknown",
        "cancelled",
    ]
    children = [Chronicle(await journal.read(child)) for child in ("r.1.1.1", "r.1.1.1.1.0.1", "other")]
    assert [(child.standing, child.reason) for child in children[:2]] == [("stopped", "abandoned")] * 2
    assert children[0].cost is None  # it may have asked a model, and nobody knows what that has cost
    assert children[2].standing == "unfinished"
    with pytest.raises(RunFinished):
        await end_run(journal, "r", "again")
    with pytest.raises(UnknownRun):
        await end_run(journal, "nobody", "why")


async def test_an_owner_whose_run_is_ended_by_another_is_told_at_its_next_step(path: Path) -> None:
    """Scenario 77: nothing of it is stored any more."""
    reached, gate = anyio.Event(), anyio.Event()

    @tool
    async def wait(context: RunContext) -> str:
        """Wait."""
        reached.set()
        await gate.wait()
        return "waited"

    agent = Agent("a", Scripted([call("wait")], "Done."), tools=[wait])
    async with System(journal=path) as system:
        run = await system.start(agent, "Go", run_id="r")
        await reached.wait()
        async with SqliteJournal(path) as other:
            await end_run(other, "r", "operator")
        gate.set()
        with pytest.raises(Fenced):
            await run.result()
    async with Archive(path) as archive:
        chronicle = await archive.chronicle("r")
    assert (chronicle.standing, chronicle.reason) == ("stopped", "operator")
    assert [message.tool_results[0].cause for message in chronicle.messages if message.role == "tool"] == [
        "outcome_unknown"
    ]


def test_the_tree_fits_the_width_that_is_asked_for() -> None:
    trace = Chronicle(entries_of(EVENTFUL)).trace()
    assert max(map(len, trace.draw(40).splitlines())) == 40
