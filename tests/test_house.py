"""The house: who may import whom, what the doors show, how the rooms hang together, and what is shipped.

The tables below are the rules; a test walks over the package's source and compares. To allow a room a new library
or a new neighbour, change its line and say why in the commit.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import pkgutil
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tomllib
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import greenroom

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "greenroom"


# -- the rules


class Floor(NamedTuple):
    """What one room may import: rooms of ours, and libraries besides the standard one."""

    rooms: str
    libraries: str


GROUND = "loops mailbox actors providers journal exchange"
FLOORS = {
    "loops": Floor(rooms="", libraries="anyio"),
    "mailbox": Floor(rooms="", libraries="anyio msgspec"),
    "actors": Floor(rooms="loops mailbox", libraries="anyio msgspec"),
    "providers": Floor(rooms="loops", libraries="anyio docstring_parser msgspec sniffio"),
    "journal": Floor(rooms="loops", libraries="anyio msgspec"),
    "exchange": Floor(rooms="loops mailbox", libraries="anyio"),
    "jetstream": Floor(rooms="loops journal exchange", libraries="anyio msgspec nats"),
    "agents": Floor(rooms=GROUND, libraries="anyio msgspec sniffio"),
    "tools": Floor(rooms=f"{GROUND} agents", libraries="anyio mcp msgspec"),
    "load": Floor(rooms=f"{GROUND} agents", libraries="anyio msgspec sniffio"),
    "service": Floor(rooms=f"{GROUND} agents", libraries="anyio msgspec starlette uvicorn"),
    "telemetry": Floor(rooms=f"{GROUND} agents", libraries="anyio msgspec opentelemetry structlog"),
    "testing": Floor(
        rooms=f"{GROUND} jetstream agents tools load service telemetry",
        libraries="anyio hypothesis msgspec pytest trio",
    ),
}
DOOR = "the front door"  # the modules that lie in src/greenroom itself; no room imports them
DOOR_FLOOR = Floor(rooms=f"{GROUND} agents tools load service", libraries="anyio cyclopts msgspec rich trio")
EVERYWHERE = {"typing_extensions"}

# The HTTP library has one place, so that another can take it.
HTTP_LIBRARIES = {"h11", "httpcore", "httpx"}
HTTP_PLACE = "greenroom.providers.http"

# Pure cores: no await, no clock, no randomness, no I/O.
PURE_MODULES = {
    "greenroom.providers.dialects.chat_messages",
    "greenroom.actors.backoff",
    "greenroom.actors.restart",
    "greenroom.agents.machine",
    "greenroom.agents.output_types",
    "greenroom.agents.partial_json",
    "greenroom.agents.memory_words",
    "greenroom.tools.mcp.offered",
    "greenroom.tools.mcp.results",
    "greenroom.tools.workspace.edits",
    "greenroom.tools.workspace.ignored",
    "greenroom.tools.workspace.output",
    "greenroom.tools.workspace.paths",
    "greenroom.tools.workspace.texts",
    "greenroom.exchange.inboxes",
    "greenroom.exchange.jobs",
    "greenroom.exchange.meter",
    "greenroom.exchange.topics",
    "greenroom.jetstream.errors",
    "greenroom.jetstream.feed",
    "greenroom.jetstream.frames",
    "greenroom.jetstream.hands",
    "greenroom.jetstream.journal_lists",
    "greenroom.jetstream.left",
    "greenroom.jetstream.servers",
    "greenroom.jetstream.settings",
    "greenroom.jetstream.shares",
    "greenroom.jetstream.subjects",
    "greenroom.agents.reminders",
    "greenroom.agents.repair",
    "greenroom.agents.context_cut",
    "greenroom.agents.context_tally",
    "greenroom.agents.tool_results",
    "greenroom.agents.trimming",
    "greenroom.providers.dialects.attachments",
    "greenroom.providers.dialects.tool_bytes",
    "greenroom.providers.function_arguments",
    "greenroom.providers.function_schemas",
    "greenroom.providers.function_types",
    "greenroom.providers.functions",
    "greenroom.providers.json_schema",
    "greenroom.providers.schema_reading",
    "greenroom.providers.schema_words",
    "greenroom.load.durations",
    "greenroom.load.shares",
    "greenroom.load.tester.asked",
    "greenroom.load.tester.compare",
    "greenroom.load.tester.compare_page",
    "greenroom.load.tester.figures",
    "greenroom.load.tester.markup",
    "greenroom.load.tester.noise",
    "greenroom.load.tester.page",
    "greenroom.load.tester.page_style",
    "greenroom.load.tester.page_tables",
    "greenroom.load.tester.plots",
    "greenroom.load.tester.scales",
    "greenroom.load.tester.units",
    "greenroom.load.tester.unlike",
    "greenroom.load.tester.verdict",
    "greenroom.load.tester.arrivals",
    "greenroom.load.tester.demand",
    "greenroom.load.tester.doubts",
    "greenroom.load.tester.histogram",
    "greenroom.load.tester.meter",
    "greenroom.load.tester.summary",
    "greenroom.journal.errors",
    "greenroom.journal.sqlite_rows",
    "greenroom.journal.wal",
    "greenroom.mailbox.state",
    "greenroom.providers.dialects.anthropic",
    "greenroom.providers.dialects.anthropic_answer",
    "greenroom.providers.dialects.anthropic_bedrock",
    "greenroom.providers.dialects.anthropic_messages",
    "greenroom.providers.dialects.anthropic_models",
    "greenroom.providers.dialects.anthropic_parts",
    "greenroom.providers.dialects.anthropic_schema",
    "greenroom.providers.dialects.anthropic_stream",
    "greenroom.providers.dialects.chat_stream",
    "greenroom.providers.dialects.chat_wire",
    "greenroom.providers.billing",
    "greenroom.providers.catalogue",
    "greenroom.providers.dialect",
    "greenroom.providers.dialects.bedrock",
    "greenroom.providers.dialects.bedrock_blocks",
    "greenroom.providers.dialects.bedrock_errors",
    "greenroom.providers.dialects.bedrock_messages",
    "greenroom.providers.dialects.bedrock_stream",
    "greenroom.providers.dialects.cohere",
    "greenroom.providers.dialects.cohere_errors",
    "greenroom.providers.dialects.cohere_stream",
    "greenroom.providers.dialects.ollama",
    "greenroom.providers.dialects.ollama_stream",
    "greenroom.providers.dialects.rounds",
    "greenroom.providers.framing.event",
    "greenroom.providers.framing.event_stream",
    "greenroom.providers.framing.ndjson",
    "greenroom.providers.dialects.gemini",
    "greenroom.providers.dialects.gemini_errors",
    "greenroom.providers.dialects.gemini_messages",
    "greenroom.providers.dialects.gemini_schema",
    "greenroom.providers.dialects.gemini_stream",
    "greenroom.providers.dialects.gemini_wire",
    "greenroom.providers.dialects.openai_chat",
    "greenroom.providers.dialects.openai_responses",
    "greenroom.providers.dialects.responses_input",
    "greenroom.providers.dialects.responses_items",
    "greenroom.providers.dialects.responses_stream",
    "greenroom.providers.dialects.strict_schema",
    "greenroom.providers.gate_meters",
    "greenroom.providers.gate_names",
    "greenroom.providers.gate_state",
    "greenroom.providers.health",
    "greenroom.providers.rate_headers",
    "greenroom.providers.openai_messages",
    "greenroom.providers.retry",
    "greenroom.providers.sdk_errors",
    "greenroom.providers.secrets",
    "greenroom.providers.framing.sse",
    "greenroom.providers.http.answer",
    "greenroom.providers.http.request",
    "greenroom.service.openai_answers",
    "greenroom.service.openai_errors",
    "greenroom.service.openai_fields",
    "greenroom.service.openai_request",
    "greenroom.service.openai_saying",
}
IMPURE_LIBRARIES = HTTP_LIBRARIES | {
    *("anyio", "asyncio", "io", "os", "random", "secrets", "select", "socket", "sqlite3", "ssl", "structlog"),
    *("subprocess", "threading", "time", "trio", "uuid"),
}

WAITING = (ast.AsyncFor, ast.AsyncFunctionDef, ast.AsyncWith, ast.Await)

LOOSE_TASKS = {"create_task", "ensure_future", "gather"}
EMPTY_WORDS = {"engine", "engines", "handler", "handlers", "manager", "managers", "util", "utils"}


# -- reading the source


class Module(NamedTuple):
    """One source file of the package, under the name that it is imported by."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]

    @property
    def room(self) -> str:
        return room_of(self.name)


class Import(NamedTuple):
    """One module that a module imports."""

    target: str
    line: int
    relative: bool
    deferred: bool


def room_of(name: str) -> str:
    """The room that a dotted name beginning with `greenroom` lies in."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else DOOR


def source_files() -> Iterator[Path]:
    for folder, folders, files in os.walk(PACKAGE, followlinks=True):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        yield from (Path(folder, name) for name in sorted(files) if name.endswith(".py"))


def read(path: Path) -> Module:
    parts = list(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return Module(".".join(parts), path, ast.parse(path.read_text(encoding="utf-8"), filename=str(path)))


def imports(module: Module) -> Iterator[Import]:
    """Everything that `module` imports, wherever in the file it says so."""

    def walk(node: ast.AST, deferred: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, child.lineno, False, deferred)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    above = module.package.split(".")[: len(module.package.split(".")) - child.level + 1]
                    base = ".".join([*above, base] if base else above)
                # `from .. import actors` names a module, `from ..actors import Actor` one of its names.
                targets = [f"{base}.{alias.name}" for alias in child.names] if base == "greenroom" else [base]
                for target in targets:
                    yield Import(target, child.lineno, child.level > 0, deferred)
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, deferred or function)

    return walk(module.tree, False)


MODULES = {module.name: module for module in map(read, source_files())}
ROOMS = [room for room in FLOORS if (ROOT / room / "__init__.py").is_file()]


def floor_of(module: Module) -> Floor:
    return DOOR_FLOOR if module.room == DOOR else FLOORS[module.room]


def libraries_of(module: Module) -> set[str]:
    allowed = {*floor_of(module).libraries.split(), *EVERYWHERE}
    return allowed | HTTP_LIBRARIES if f"{module.name}.".startswith(f"{HTTP_PLACE}.") else allowed


# -- floors


def test_a_room_imports_only_the_rooms_above_it() -> None:
    assert [
        f"{module.path}:{found.line} imports {found.target}"
        for module in MODULES.values()
        for found in imports(module)
        if found.target.split(".")[0] == "greenroom"
        if room_of(found.target) not in {module.room, *floor_of(module).rooms.split()}
    ] == []


def test_a_room_imports_only_its_libraries() -> None:
    assert [
        f"{module.path}:{found.line} imports {found.target}"
        for module in MODULES.values()
        for found in imports(module)
        if not found.relative and found.target.split(".")[0] not in libraries_of(module) | sys.stdlib_module_names
    ] == []


def test_our_own_modules_are_imported_relatively_and_at_the_top() -> None:
    """An absolute import would find a folder of the checkout; a deferred one hides a missing floor."""
    assert [
        f"{module.path}:{found.line} imports {found.target}"
        for module in MODULES.values()
        for found in imports(module)
        if (found.deferred if found.relative else found.target.split(".")[0] in {"greenroom", *FLOORS})
    ] == []


def test_the_floors_have_no_cycle_and_nothing_imports_testing() -> None:
    above: set[str] = set()
    for room, floor in FLOORS.items():
        assert set(floor.rooms.split()) <= above, f"{room} may import a room that is not above it in the table"
        above.add(room)
    assert list(FLOORS)[-1] == "testing"
    assert "testing" not in DOOR_FLOOR.rooms.split()


@pytest.mark.parametrize("name", sorted(PURE_MODULES))
def test_a_pure_core_neither_waits_nor_looks_outside(name: str) -> None:
    module = MODULES[name]
    assert [found for found in imports(module) if found.target.split(".")[0] in IMPURE_LIBRARIES] == []
    assert [node.lineno for node in ast.walk(module.tree) if isinstance(node, WAITING)] == []


def test_every_library_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [project["dependencies"], *project.get("optional-dependencies", {}).values()]
    declared = {re.split(r"[^\w.-]", text)[0].lower().replace("-", "_") for texts in wanted for text in texts}
    declared = {{"opentelemetry_api": "opentelemetry", "nats_py": "nats"}.get(name, name) for name in declared}
    used = {
        found.target.split(".")[0]
        for module in MODULES.values()
        if module.room != "testing"  # where tests run, pytest and hypothesis are there already
        for found in imports(module)
        if not found.relative
    }
    assert used - sys.stdlib_module_names <= declared


# -- what a module looks like


def test_every_module_says_what_it_is() -> None:
    assert [str(module.path) for module in MODULES.values() if not ast.get_docstring(module.tree)] == []


def test_every_module_is_named_after_its_subject() -> None:
    assert [name for name in MODULES if not EMPTY_WORDS.isdisjoint(re.split(r"[._]", name))] == []


def test_every_task_belongs_to_a_group() -> None:
    """No task is started on the bare event loop: nobody would own it."""

    def loose(node: ast.AST) -> bool:
        if isinstance(node, ast.ImportFrom) and node.module == "asyncio":
            return not LOOSE_TASKS.isdisjoint(alias.name for alias in node.names)
        if isinstance(node, ast.Attribute) and node.attr in LOOSE_TASKS:
            return any(word in ast.unparse(node.value) for word in ("asyncio", "loop"))
        return False

    assert [
        f"{module.path}:{node.lineno}"
        for module in MODULES.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom | ast.Attribute) and loose(node)
    ] == []


# -- doors


def in_door_order(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions; the order that ruff keeps too."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("door", ["greenroom", *(f"greenroom.{room}" for room in ROOMS)])
def test_a_door_shows_exactly_what_it_lists(door: str) -> None:
    module = importlib.import_module(door)
    listed: list[str] = module.__all__
    assert listed == sorted(set(listed), key=in_door_order)
    assert [name for name in listed if name.startswith("_")] == []
    assert [name for name in listed if not hasattr(module, name)] == []
    shown = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and (name in listed or not isinstance(value, types.ModuleType))
    }
    assert shown - {"annotations"} == set(listed)


# -- links and names


def test_every_room_has_a_relative_link_in_the_package() -> None:
    links = {path.name: os.readlink(path) for path in PACKAGE.iterdir() if path.is_symlink()}
    assert links == {room: f"../../{room}" for room in ROOMS}
    assert all((PACKAGE / room).is_dir() for room in ROOMS)


def test_the_type_checker_looks_into_every_room() -> None:
    """It follows no link to a folder on its own."""
    pyright = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pyright"]
    assert {"src/greenroom", *(f"src/greenroom/{room}" for room in ROOMS)} <= set(pyright["include"])


ATTENDANCE = """
import importlib.util, json, pkgutil, sys
import greenroom
absent = {"__main__"} if importlib.util.find_spec("pytest") else {"__main__", "plugin"}  # the plugin is pytest's
extras = {name for name in ("mcp", "nats", "starlette", "uvicorn") if importlib.util.find_spec(name) is None}
for found in pkgutil.walk_packages(greenroom.__path__, "greenroom."):
    if found.name.rpartition(".")[2] not in absent:
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] not in extras:
                raise
import mailbox
print(json.dumps({name: getattr(module, "__file__", None) for name, module in sys.modules.items()}))
"""


def strangers(files: dict[str, str | None]) -> list[str]:
    """Modules of ours that were loaded under a name which is not theirs."""
    ours = [PACKAGE, *(ROOT / room for room in ROOMS)]
    return [
        f"{name} from {file}"
        for name, file in files.items()
        if file and any(Path(file).resolve().is_relative_to(folder) for folder in ours)
        if name != "greenroom" and not name.startswith("greenroom.")
    ]


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command away from the checkout and its environment; returns what it printed, fails with it."""
    inherited = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=inherited | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


def test_no_module_is_loaded_under_another_name(tmp_path: Path) -> None:
    """`import mailbox` finds the standard library's, also after every module of ours has been imported."""
    files = json.loads(run(sys.executable, "-W", "error", "-c", ATTENDANCE, cwd=tmp_path))
    assert strangers(files) == []
    assert Path(files["mailbox"]).parent == Path(os.__file__).parent
    assert set(MODULES) - set(files) == {name for name in MODULES if name.endswith("__main__")}


def test_these_tests_load_no_module_under_another_name() -> None:
    for found in pkgutil.iter_modules(greenroom.__path__):
        importlib.import_module(f"greenroom.{found.name}")
    assert strangers({name: getattr(module, "__file__", None) for name, module in sys.modules.items()}) == []


@pytest.fixture
def clone_without_links(tmp_path: Path) -> Path:
    """What git leaves of the package where it may not make links: text files that hold the links' targets."""
    package = tmp_path / "src" / "greenroom"
    package.mkdir(parents=True)
    for path in PACKAGE.iterdir():
        if path.is_symlink():
            (package / path.name).write_text(os.readlink(path))
        elif path.suffix == ".py":
            shutil.copy(path, package)
    return tmp_path


@pytest.mark.parametrize(
    ("program", "first_words"),
    [
        pytest.param("import greenroom", "ImportError: ", id="a program"),
        pytest.param("import greenroom.mailbox", "ImportError: ", id="a program that wants a room"),
        pytest.param("import sys; sys.argv[0] = '/usr/bin/greenroom'; import greenroom.cli", "", id="the command"),
    ],
)
def test_a_clone_without_links_says_so_in_one_line(clone_without_links: Path, program: str, first_words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(clone_without_links / "src")},
        cwd=clone_without_links,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 1
    assert lines[-1].startswith(f"{first_words}greenroom: this clone holds text files where links should be")
    assert lines[-1].endswith("git config core.symlinks true && git checkout -- src/greenroom")
    assert first_words or len(lines) == 1


# -- documents

DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_link_leads_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
    assert [name for name in targets if "://" not in name and not (document.parent / name).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_an_example_is_python_and_imports_what_exists(document: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        tree = compile(block, document.name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "greenroom":
                module = importlib.import_module(node.module or "")
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


# -- what is shipped


class Distributions(NamedTuple):
    """What a build made of a copy of the checkout."""

    tree: Path
    sdist: Path
    wheel: Path
    direct_wheel: Path
    said: str


@pytest.fixture(scope="session")
def uv() -> str:
    """The path of uv; it says itself where it is to whatever it runs."""
    found = os.environ.get("UV") or shutil.which("uv")
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "uv is not installed; run the tests with `uv run pytest`"
        )
    return found


@pytest.fixture(scope="session")
def distributions(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The sdist, the wheel made from it, and the wheel made from the checkout. Built in a copy: builds leave traces."""
    folder = tmp_path_factory.mktemp("distributions")
    traces = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    tree = shutil.copytree(ROOT, folder / "tree", symlinks=True, ignore=traces)
    said = run(uv, "build", "--out-dir", folder / "both", tree, cwd=folder)
    said += run(uv, "build", "--wheel", "--out-dir", folder / "direct", tree, cwd=folder)
    (sdist,) = (folder / "both").glob("*.tar.gz")
    (wheel,) = (folder / "both").glob("*.whl")
    (direct_wheel,) = (folder / "direct").glob("*.whl")
    return Distributions(tree, sdist, wheel, direct_wheel, said)


def shipped_modules(tree: Path) -> set[str]:
    paths = {path.relative_to(tree / "src").as_posix() for path in (tree / "src" / "greenroom").glob("*.py")}
    for room in ROOMS:
        paths |= {f"greenroom/{path.relative_to(tree).as_posix()}" for path in (tree / room).rglob("*.py")}
    paths |= {f"greenroom/{path.relative_to(tree).as_posix()}" for path in (tree / "service" / "live").iterdir()}
    return paths


@pytest.mark.packaging
def test_the_sdist_holds_the_rooms_as_real_files(distributions: Distributions) -> None:
    with tarfile.open(distributions.sdist) as archive:
        members = {member.name.partition("/")[2]: member for member in archive}
    assert [name for name, member in members.items() if not (member.isreg() or member.isdir())] == []
    expected = {f"src/{name}" for name in shipped_modules(distributions.tree)}
    expected |= {"src/greenroom/py.typed", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "docs/design.md"}
    assert expected - set(members) == set()


@pytest.mark.packaging
@pytest.mark.parametrize("built_from", ["wheel", "direct_wheel"])
def test_the_wheel_holds_the_rooms_as_real_files(distributions: Distributions, built_from: str) -> None:
    with zipfile.ZipFile(getattr(distributions, built_from)) as archive:
        members = {member.filename: member for member in archive.infolist()}
    assert [name for name, member in members.items() if stat.S_ISLNK(member.external_attr >> 16)] == []
    package = {name for name in members if ".dist-info/" not in name}
    assert package == shipped_modules(distributions.tree) | {"greenroom/py.typed"}


@pytest.mark.packaging
def test_the_build_warns_of_nothing(distributions: Distributions) -> None:
    lines = [line for line in distributions.said.splitlines() if "byte-compiling is disabled" not in line]
    assert [line for line in lines if re.search(r"\wWarning|no (files|directories) found", line)] == []


def test_the_service_says_what_to_install() -> None:
    code = "import sys; sys.modules['starlette'] = None; from greenroom.service import Service"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    said = "ModuleNotFoundError: greenroom.service needs starlette: pip install greenroom[serve]"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, said)


@pytest.mark.packaging
def test_the_wheel_works_in_an_empty_environment(uv: str, distributions: Distributions, tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    exported = ("export", "--frozen", "--no-dev", "--no-emit-project", "--no-hashes", "--quiet")
    run(uv, *exported, "--output-file", constraints, cwd=distributions.tree)
    run(uv, "venv", "--python", sys.executable, tmp_path / "env", cwd=tmp_path)
    python = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(uv, "pip", "install", "--python", python, "-c", constraints, distributions.wheel, cwd=tmp_path)
    files = json.loads(run(python, "-W", "error", "-c", ATTENDANCE, cwd=tmp_path))
    assert Path(files["greenroom"]).is_relative_to(tmp_path / "env")
    assert strangers(files) == []
    assert "demo" in run(python.with_name("greenroom"), "--help", cwd=tmp_path, PYTHONWARNINGS="error")
