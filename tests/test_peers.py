"""The comparison with other libraries works, and a contender that lies, breaks or cannot be had is found out.

No package index and no environment of uv is needed here: contenders run in this environment, and those of other
libraries are only read. No figure is judged: machines differ.
"""

from __future__ import annotations

import ast
import importlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from greenroom.load import Latency, SimulatedServer, Stats, simulated_server

from .benchmark_modules import FOLDER as BENCHMARKS
from .benchmark_modules import load

PEERS = BENCHMARKS / "peers"
CONTENDERS = PEERS / "contenders"


scripts, turns, tables, compare = (load(name, PEERS) for name in ("peer_scripts", "peer_turn", "peer_table", "compare"))
contender = load("contender", CONTENDERS)
SCRIPTS = scripts.read_scripts()


# -- the scripts


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.path.stem)
def test_a_script_says_what_it_is_and_hands_over_to_the_loop(script: Any) -> None:
    tree = ast.parse(script.path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    assert isinstance(tree.body[-1], ast.If)
    assert ast.unparse(tree.body[-1]).splitlines()[1].strip() in ("serve(service)", "serve_threads(service)")
    threads = "serve_threads" in ast.unparse(tree.body[-1])
    assert (script.peer.backends == ("threads",)) is threads


def test_every_file_is_a_contender_or_a_part_of_them() -> None:
    parts = {"by_hand", "contender", "costs", "openai_client", "weather_tools"}
    assert {path.stem for path in CONTENDERS.glob("*.py")} == parts | {script.path.stem for script in SCRIPTS}


def test_no_two_rows_have_the_same_name() -> None:
    for stream in (False, True):
        titles = [row.title for row in scripts.rows_of(SCRIPTS, scripts.BACKENDS, stream)]
        assert len(titles) == len(set(titles))


def test_what_comes_from_this_checkout_is_this_checkout() -> None:
    for name in (compare.GREENROOM, compare.FLOOR):
        (script,) = [each for each in SCRIPTS if each.path.name == name]
        assert 'greenroom = { path = "../../..", editable = true }' in script.path.read_text(encoding="utf-8")
        assert (script.path.parent / "../../..").resolve() == PEERS.parents[1]


def written(folder: Path, dependencies: str = '["some==1.0"]', peer: str = "", body: str = "", **more: str) -> Path:
    """A contender's file."""
    tables = {"name": '"Some"', "kind": '"peer"', "backends": '["asyncio"]'} | more
    lines = ["requires-python = '>=3.11'", f"dependencies = {dependencies}", "", "[tool.peer]", peer]
    lines += [f"{name.replace('_', '-')} = {value}" for name, value in tables.items()]
    head = "\n".join(f"# {line}".rstrip() for line in lines)
    path = folder / "with_some.py"
    path.write_text(f'# /// script\n{head}\n# ///\n"""Some."""\n{body}', encoding="utf-8")
    return path


def test_a_head_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, '["some-thing[extra]==1.2.3", "other==4"]', streams="false", variants='["a", "b"]')
    script = scripts.read_script(path)
    assert script.packages == ("some-thing", "other")
    assert (script.peer.name, script.peer.streams, script.peer.variants) == ("Some", False, ("a", "b"))
    assert script.peer.environment == {}


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ({"dependencies": '["some"]'}, "asks for 'some'; pin it to one version"),
        ({"dependencies": '["some>=1"]'}, "asks for 'some>=1'"),
        ({"dependencies": '["some==1.*"]'}, "asks for 'some==1.*'"),
        ({"dependencies": "[]"}, "needs at least one dependency"),
        ({"backends": '["curio"]'}, "'curio'"),
        ({"kind": '"friend"'}, "'friend'"),
        ({"backends": "[]"}, "one backend"),
        ({"variants": "[]"}, "one variant"),
        ({"streems": "true"}, "streems"),
    ],
)
def test_a_head_that_is_not_right_is_refused(tmp_path: Path, head: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=r"^with_some\.py") as refused:
        scripts.read_script(written(tmp_path, **head))
    assert words in str(refused.value)


def test_a_script_without_a_head_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "with_none.py"
    path.write_text("print()\n")
    with pytest.raises(ValueError, match=r"^with_none\.py has 0 heads"):
        scripts.read_script(path)


# -- who has a row


def some(name: str, kind: str, backends: tuple[str, ...], **more: Any) -> Any:
    return scripts.Script(Path(f"{name}.py"), scripts.Peer(name, kind, backends, **more), (name,))


PEER = some("peer", "peer", ("asyncio", "uvloop"))
QUIET = some("quiet", "peer", ("threads",), streams=False)
OURS = some("ours", "ours", ("asyncio", "trio"), variants=("run", "start"), streaming_variants=("stream",))


def titles(backends: tuple[str, ...] = (), stream: bool = False) -> list[str]:
    return [row.title for row in scripts.rows_of([PEER, QUIET, OURS], backends, stream)]


def test_a_peer_has_one_row_and_ours_one_for_each_backend() -> None:
    runs = ["ours, run (asyncio)", "ours, run (trio)", "ours, start (asyncio)", "ours, start (trio)"]
    assert titles() == ["peer (asyncio)", "quiet (threads)", *runs]


def test_backends_that_are_asked_for_are_those_of_everybody_who_has_them() -> None:
    assert titles(("uvloop", "trio")) == ["peer (uvloop)", "ours, run (trio)", "ours, start (trio)"]


def test_who_cannot_stream_has_no_row_then() -> None:
    assert titles(stream=True) == ["peer (asyncio)", "ours, stream (asyncio)", "ours, stream (trio)"]


def test_the_two_that_others_are_divided_by_always_run() -> None:
    chosen = [row.title for row in compare.chosen_of(scripts.rows_of(SCRIPTS, (), False), ["haystack"])]
    assert chosen == [
        "by hand: httpx on our transport (asyncio)",
        "greenroom, agent.run (asyncio)",
        "haystack (asyncio)",
    ]


# -- environments


def fake_uv(folder: Path, program: str) -> str:
    path = folder / "uv"
    path.write_text(f"#!{sys.executable}\nimport sys\n{program}\n")
    path.chmod(0o755)
    return str(path)


def test_uv_is_asked_to_install_and_then_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = tmp_path / "said"
    uv = fake_uv(tmp_path, f"print('/env/python'); open({str(said)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')")
    monkeypatch.setenv("UV", uv)
    script = scripts.read_script(written(tmp_path))
    assert scripts.interpreter(script) == Path("/env/python")
    first, second = said.read_text().splitlines()
    assert first == f"sync --quiet --script {script.path} --python {Path(sys.executable).resolve()}"
    assert second == f"python find --script {script.path}"


def test_what_cannot_be_installed_says_why_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV", fake_uv(tmp_path, "sys.exit('warning: old\\n  x No solution\\n  because of some==9')"))
    with pytest.raises(scripts.Unusable, match=r"^not installed: x No solution because of some==9$"):
        scripts.interpreter(scripts.read_script(written(tmp_path)))


def test_without_uv_there_is_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(scripts.Unusable, match=r"^uv is not installed$"):
        scripts.interpreter(SCRIPTS[0])


# -- what counts as a valid pass


def passed(runs: int = 4, **figures: Any) -> Any:
    whole = {"cpu": 0.1, "wall": 0.2, "tool_calls": 3 * runs, "wrong": 0, "failed": 0, "pieces": 0, "reason": ""}
    return turns.Pass(**{"runs": runs, "rss": 0, **whole, **figures})


BEFORE = Stats(requests=100, ok=90, tool_calls=80, conversations_finished=30, runs_started=31)
AFTER = msgspec.structs.replace(
    BEFORE,
    requests=112,
    ok=102,
    tool_calls=92,
    conversations_finished=34,
    runs_started=35,
    connections=5,
)


def test_a_pass_whose_counts_are_right_is_valid() -> None:
    assert turns.complaints(BEFORE, AFTER, passed(), bound=4) == []
    assert turns.complaints(BEFORE, AFTER, passed(pieces=240), pieces=60, bound=4) == []


@pytest.mark.parametrize(
    ("count", "words"),
    [
        ("requests", "11 requests at the server instead of 12"),
        ("ok", "11 requests answered to the end instead of 12"),
        ("tool_calls", "11 tool calls asked for instead of 12"),
        ("conversations_finished", "3 conversations finished instead of 4"),
        ("runs_started", "3 different runs at the server instead of 4"),
    ],
)
def test_one_less_at_the_server_is_not_valid(count: str, words: str) -> None:
    after = msgspec.structs.replace(AFTER, **{count: getattr(AFTER, count) - 1})
    assert turns.complaints(BEFORE, after, passed()) == [words]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"tool_calls": 13}, ["13 tool calls made instead of 12"]),
        ({"wrong": 1, "reason": "answered 'no'"}, ["3 right answers instead of 4", "answered 'no'"]),
        ({"failed": 2, "reason": "E: x"}, ["2 right answers instead of 4", "E: x"]),
        ({"pieces": 239}, ["239 pieces of text instead of 240"]),
    ],
)
def test_a_contender_that_says_itself_that_it_was_wrong_is_not_valid(said: dict[str, Any], words: list[str]) -> None:
    assert turns.complaints(BEFORE, AFTER, passed(**{"pieces": 240} | said), pieces=60) == words


def test_two_of_very_many_runs_may_look_the_same_to_the_server() -> None:
    served = Stats(requests=12_000, ok=12_000, tool_calls=12_000, conversations_finished=4_000, runs_started=3_999)
    assert turns.complaints(Stats(), served, passed(4_000)) == []
    served = msgspec.structs.replace(served, runs_started=3_900)
    assert turns.complaints(Stats(), served, passed(4_000)) == ["3,900 different runs at the server instead of 4,000"]


def test_more_connections_than_runs_in_flight_are_not_valid_where_a_bound_is_promised() -> None:
    assert turns.complaints(BEFORE, AFTER, passed(), bound=3) == ["4 connections for at most 3 runs in flight"]
    assert turns.complaints(BEFORE, AFTER, passed(), bound=None) == []


def test_who_answers_by_a_call_makes_one_more_and_finishes_no_conversation() -> None:
    after = msgspec.structs.replace(AFTER, tool_calls=96, conversations_finished=30)
    assert turns.complaints(BEFORE, after, passed(), answers_by_call=True) == []
    assert len(turns.complaints(BEFORE, after, passed())) == 2
    assert len(turns.complaints(BEFORE, AFTER, passed(), answers_by_call=True)) == 2


# -- turns


pytestmark = pytest.mark.anyio
IN_FLIGHT = 2
MIB = 1024 * 1024


@pytest.fixture
async def server() -> AsyncIterator[SimulatedServer]:
    async with simulated_server(latency=Latency(0.0, 0.0)) as server:
        yield server


def options_of(server: SimulatedServer, **more: Any) -> str:
    options = {"base_url": server.base_url, "plan": compare.PLAN.prompt(), "answer": compare.ANSWER}
    return json.dumps({**options, "runs": 5, "in_flight": IN_FLIGHT, "packages": ["pytest"], **more})


async def turn_of(script: Path, server: SimulatedServer, repeats: int = 1, **more: Any) -> Any:
    command = [sys.executable, script, options_of(server, **more)]
    pieces = compare.CHUNKS if more.get("stream") else None
    path = {"PYTHONPATH": str(CONTENDERS)}
    return await turns.take_turn(
        command, server, repeats=repeats, timeout=60.0, pieces=pieces, bound=IN_FLIGHT, environment=path
    )


@pytest.mark.parametrize(
    ("name", "variant", "stream"),
    [
        ("with_greenroom.py", "agent.run", False),
        ("with_greenroom.py", "system.start", False),
        ("with_greenroom.py", "agent.stream", True),
        ("with_greenroom.py", "system.start, followed", True),
        ("floor_httpx_free_list.py", "", False),
        ("floor_httpx_free_list.py", "", True),
        ("floor_httpx.py", "", False),
        ("floor_httpx.py", "", True),
        ("floor_h11.py", "", False),
        ("floor_h11.py", "", True),
    ],
)
async def test_ours_and_the_floors_do_what_the_server_should_see(
    name: str, variant: str, stream: bool, anyio_backend: str, server: SimulatedServer
) -> None:
    turn = await turn_of(CONTENDERS / name, server, backend=anyio_backend, variant=variant, stream=stream)
    assert turn.complaints == ()
    (measured,) = turn.passes
    assert (measured.runs, measured.tool_calls) == (5, 15)
    assert measured.cpu > 0
    assert turn.ready.start > 0
    assert turn.ready.versions == {"pytest": pytest.__version__}
    assert turn.connections == (0,)  # they were opened before


async def test_each_pass_is_looked_at_by_itself(server: SimulatedServer) -> None:
    turn = await turn_of(CONTENDERS / "floor_h11.py", server, repeats=3, first=7)
    assert turn.complaints == ()
    assert [each.runs for each in turn.passes] == [5, 5, 5]
    # Two single runs, a wave of as many as are in flight, three passes: the server has seen each run once.
    stats = await server.stats()
    assert (stats.runs_finished, stats.conversations_finished) == (19, 19)


SERVICE = """
from contextlib import asynccontextmanager, contextmanager
import json, sys, urllib.request
from contender import Said, serve, serve_threads
from weather_tools import convert_blocking, weather_blocking, TOOL_SCHEMAS

@{decorator}
{keyword} service(options):
    {keyword} ask(prompt):
{ask}
    yield ask

{serve}(service)
"""
LIE = "        return Said(options.answer)"
AT_FIRST = "        return Said('no' if 'Run 0:' in prompt else options.answer)"
WRONG = "        return Said('Do not know.')"
BREAK = "        raise RuntimeError('out of\\n order')"
ALMOST = "        if 'Run 4' in prompt: raise RuntimeError('out of order')\n        return Said(options.answer)"
HANG = "        import asyncio; await asyncio.sleep(3600)"
BLOCKING = """
        messages = [{"role": "user", "content": prompt}]
        while True:
            body = json.dumps({"model": "m", "messages": messages, "tools": TOOL_SCHEMAS}).encode()
            request = urllib.request.Request(options.base_url + "/chat/completions", body)
            with urllib.request.urlopen(request) as reply:
                said = json.load(reply)["choices"][0]["message"]
            if not said.get("tool_calls"):
                return Said(said["content"])
            messages.append({"role": "assistant", "tool_calls": said["tool_calls"]})
            for call in said["tool_calls"]:
                tool = {"weather": weather_blocking, "convert": convert_blocking}[call["function"]["name"]]
                text = tool(**json.loads(call["function"]["arguments"]))
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})
"""


def service(folder: Path, ask: str, *, threads: bool = False) -> Path:
    decorator, keyword, serve = (
        ("contextmanager", "def", "serve_threads") if threads else ("asynccontextmanager", "async def", "serve")
    )
    body = SERVICE.format(decorator=decorator, keyword=keyword, serve=serve, ask=ask)
    return written(folder, body=body)


async def test_a_contender_that_never_asks_the_model_is_found_out(tmp_path: Path, server: SimulatedServer) -> None:
    turn = await turn_of(service(tmp_path, LIE), server)
    assert "0 requests at the server instead of 15" in turn.complaints
    assert "0 tool calls made instead of 15" in turn.complaints


async def test_a_run_that_fails_while_it_is_measured_is_told(tmp_path: Path, server: SimulatedServer) -> None:
    turn = await turn_of(service(tmp_path, ALMOST), server)
    assert "4 right answers instead of 5" in turn.complaints
    assert turn.complaints[-1] == "RuntimeError: out of order"


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (WRONG, "answered 'Do not know.'"),
        (AT_FIRST, "answered 'no'"),
        (BREAK, "RuntimeError: out of order"),
        ("  syntax", "Error"),
    ],
)
async def test_who_is_wrong_from_the_beginning_is_not_measured(
    ask: str, words: str, tmp_path: Path, server: SimulatedServer
) -> None:
    with pytest.raises(turns.Unmeasured) as refused:
        await turn_of(service(tmp_path, ask), server)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


async def test_who_takes_too_long_is_ended(
    tmp_path: Path, server: SimulatedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes: list[Any] = []
    opened = anyio.open_process

    async def opening(*arguments: Any, **options: Any) -> Any:
        processes.append(await opened(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(turns.anyio, "open_process", opening)
    command = [sys.executable, service(tmp_path, HANG), options_of(server)]
    with pytest.raises(turns.Unmeasured, match=r"^took more than 0 s$"):
        await turns.take_turn(command, server, repeats=1, timeout=0.2, environment={"PYTHONPATH": str(CONTENDERS)})
    assert [each.returncode for each in processes] == [-9]


async def test_runs_that_block_have_a_thread_each(tmp_path: Path) -> None:
    async with simulated_server(latency=Latency(0.02, 0.02)) as server:
        turn = await turns.take_turn(
            [sys.executable, service(tmp_path, BLOCKING, threads=True), options_of(server)],
            server,
            repeats=2,
            timeout=60.0,
            environment={"PYTHONPATH": str(CONTENDERS)},
        )
        assert turn.complaints == ()
        assert (await server.stats()).in_flight_max == IN_FLIGHT


async def test_what_a_library_prints_is_not_taken_for_figures(tmp_path: Path, server: SimulatedServer) -> None:
    turn = await turn_of(service(tmp_path, "        print('{}', flush=True)\n" + LIE), server)
    assert turn.passes[0].runs == 5


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not say")
async def test_what_imports_took_for_a_moment_is_not_memory_of_runs(tmp_path: Path, server: SimulatedServer) -> None:
    path = service(tmp_path, LIE)
    path.write_text(path.read_text().replace("import json,", "bytearray(300 * 2**20)\nimport json,"))
    turn = await turn_of(path, server)
    assert 5 * MIB < turn.ready.rss <= turn.passes[0].rss < 200 * MIB


# -- how many runs


@pytest.mark.parametrize(
    ("single", "wave", "in_wave", "in_pass"),
    [
        (0.001, 0.001, 100, 300),  # quick: all that was asked for
        (0.05, 0.05, 100, 200),  # slow: what the budget of ten seconds allows
        (0.05, 0.04, 100, 250),  # what many at once cost decides over a pass
        (0.001, 1.0, 100, 100),  # never fewer than are in flight
        (0.5, 0.5, 20, 100),  # but the first wave may be smaller
        (60.0, 60.0, 1, 100),
    ],
)
def test_who_is_slow_does_fewer_runs(single: float, wave: float, in_wave: int, in_pass: int) -> None:
    options = contender.Options(base_url="", plan="", answer="", runs=300, in_flight=100)
    assert contender._first_wave(options, contender.Pass(1, cpu=single)) == in_wave
    ready = contender._ready(options, 0.5, 7, contender.Pass(in_wave, cpu=wave * in_wave))
    assert (ready.runs, ready.start, ready.rss, ready.versions) == (in_pass, 0.5, 7, {})


# -- the table


def turned(*cpu: float, ready: int = 0, rss: int = 0, connections: int = 0, complaints: tuple[str, ...] = ()) -> Any:
    start = turns.Ready(runs=10, start=0.25, rss=ready, versions={})
    passes = tuple([passed(10, cpu=each, rss=rss) for each in cpu])
    return turns.Turn(start, passes, (connections,) * len(cpu), complaints)


ABOUT = tables.About("What?", "2026-01-01", "CPython 3", "a machine", {"in flight": "10"})
GREENROOM = tables.Row("greenroom", "ours", "0.1", (turned(0.03, 0.02), turned(0.025)))
FLOOR = tables.Row("floor", "floor", "1.0", (turned(0.01, ready=40 * MIB, rss=41 * MIB),))
DEAR = tables.Row("dear", "peer", "2.0", (turned(0.5, ready=50 * MIB, rss=80 * MIB, connections=7),))
LIAR = tables.Row("liar", "peer", "3.0", (turned(0.001, complaints=("0 requests instead of 30",)),))
GONE = tables.Row("gone", "peer", problem="not installed: no such package")


def lines_of(*rows: Any, **more: Any) -> dict[str, list[str]]:
    text = tables.table(ABOUT, rows, in_flight=10, greenroom=GREENROOM, floor=FLOOR, markdown=True, **more)
    lines = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines()[4:]]
    assert lines[0] == list(tables.COLUMNS)
    assert {len(line) for line in lines} == {len(tables.COLUMNS)}
    return {line[0]: line for line in lines[2:]}


def test_a_row_is_its_best_pass_and_how_far_it_is_from_ours() -> None:
    line = lines_of(GREENROOM, FLOOR, DEAR)
    assert line["greenroom"][1:7] == ["0.1", "10", "2.00", "2.00-3.00", "1.00", "2.00"]
    assert line["dear"][1:] == ["2.0", "10", "50.00", "50.00-50.00", "25.00", "50.00", "7", "0.25", "80", "3072", "yes"]


def test_rows_are_in_order_of_their_cost() -> None:
    assert list(lines_of(DEAR, GONE, GREENROOM, FLOOR)) == ["floor", "greenroom", "dear", "gone"]
    assert list(lines_of(DEAR, GREENROOM, FLOOR, by_memory=True)) == ["floor", "dear", "greenroom"]


def test_a_row_that_does_not_count_says_why_and_stays() -> None:
    line = lines_of(LIAR, GONE)
    assert line["liar"][-1] == "no: 0 requests instead of 30"
    assert line["gone"][3] == "-"
    assert line["gone"][-1] == "no: not installed: no such package"


def test_memory_that_is_not_known_is_not_given() -> None:
    assert lines_of(GREENROOM)["greenroom"][-3:] == ["-", "-", "yes"]


def test_a_table_for_the_eye_has_straight_columns() -> None:
    text = tables.table(ABOUT, [DEAR, FLOOR], in_flight=10)
    what, about, options, empty, head, *lines = text.splitlines()
    assert (what, about, options, empty) == ("What?", "2026-01-01, CPython 3, a machine", "in flight 10", "")
    assert {line.rindex("yes") for line in lines} == {head.index("valid")}


# -- the whole


def asked(monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["compare.py", *words])
    return compare.question_of(compare.arguments())


def test_the_options_say_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, memory = asked(monkeypatch), asked(monkeypatch, "--memory")
    assert (plain.runs, plain.in_flight, plain.repeats, plain.latency, plain.stream) == (300, 100, 2, 0.05, False)
    assert (memory.runs, memory.in_flight, memory.repeats, memory.latency) == (1000, 1000, 1, 0.5)
    assert asked(monkeypatch, "--in-flight", "1000", "--runs", "10").runs == 1000
    assert asked(monkeypatch, "--stream").stream


@pytest.mark.parametrize("words", [["--in-flight", "0"], ["--stream", "--memory"], ["--backend", "curio"]])
def test_options_that_make_no_sense_are_refused(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        asked(monkeypatch, *words)
    assert capsys.readouterr().err.splitlines()[-1].startswith("compare.py: error: argument --")


async def test_who_cannot_be_installed_has_a_row_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interpreter(script: Any) -> Path:
        if script.path.name == "with_some.py":
            raise scripts.Unusable("not installed: no such package")
        return Path(sys.executable)

    monkeypatch.setattr(compare, "interpreter", interpreter)
    gone = scripts.Contender(scripts.read_script(written(tmp_path)), "", "asyncio")
    ours = [row for row in scripts.rows_of(SCRIPTS, ("asyncio",), False) if row.variant == "agent.run"]
    ours = [
        msgspec.structs.replace(row, script=msgspec.structs.replace(row.script, packages=("anyio",))) for row in ours
    ]
    question = compare.Question(
        runs=4, in_flight=2, stream=False, repeats=1, rounds=2, budget=10.0, timeout=60.0, latency=0.0, pin=False
    )
    missing, measured = await compare.compare([gone, *ours], question)
    assert (missing.costs, missing.complaints) == ([], ["not installed: no such package"])
    assert (len(measured.turns), len(measured.costs), measured.complaints) == (2, 2, [])
    assert measured.version == importlib.metadata.version("anyio")
    assert json.loads(msgspec.json.encode([missing, measured]))[1]["turns"][1]["passes"][0]["runs"] == 4
