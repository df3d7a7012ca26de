"""The contenders' scripts: what their heads say, and an environment for each.

A script's head is inline metadata (PEP 723), so `uv` gives each its own environment and no contender's dependencies
meet another's. Its table `[tool.peer]` is ours:

    name = "some-library"             # how tables call it
    kind = "peer"                     # peer; floor, written by hand; or ours
    backends = ["asyncio", "uvloop"]  # of asyncio, uvloop, trio and threads; a peer runs on the first by default
    streams = false                   # it cannot stream an answer after tools; default true
    variants = ["a", "b"]             # the ways that the script knows, each a row; default one without a name
    streaming-variants = ["c"]        # the same, for a streamed answer; default `variants`
    environment = { NO_TRACE = "1" }  # variables of its process; default none
    answers-by-call = true            # its answer is a call of a tool of its own, one more; default false

Every dependency is pinned to one version, except what comes from this checkout.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

FOLDER = Path(__file__).resolve().parent / "contenders"
BACKENDS = ("asyncio", "uvloop", "trio", "threads")
_HEAD = re.compile(r"^# /// script\n((?:#(?: .*)?\n)+?)# ///$", re.MULTILINE)
_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[A-Za-z0-9,_-]+\])?==[A-Za-z0-9.!+]+")
_INSTALL_TIMEOUT = 900.0


class Unusable(Exception):
    """A contender's environment cannot be had; the text says why, in one line."""


class Peer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """The table `[tool.peer]`, see the module."""

    name: str
    kind: Literal["peer", "floor", "ours"]
    backends: tuple[Literal["asyncio", "uvloop", "trio", "threads"], ...]
    streams: bool = True
    variants: tuple[str, ...] = ("",)
    streaming_variants: tuple[str, ...] | None = None
    environment: dict[str, str] = {}
    answers_by_call: bool = False


class Script(msgspec.Struct, frozen=True):
    """A contender's file: what it says of itself, and the packages it asks for, the compared one first."""

    path: Path
    peer: Peer
    packages: tuple[str, ...]


class Contender(msgspec.Struct, frozen=True):
    """One row: a script, one of its ways, and a backend."""

    script: Script
    variant: str
    backend: str

    @property
    def title(self) -> str:
        """For example `greenroom, agent.run (trio)`."""
        name = self.script.peer.name
        return f"{name}, {self.variant} ({self.backend})" if self.variant else f"{name} ({self.backend})"


def read_script(path: Path) -> Script:
    """A contender's file.

    Raises:
        ValueError: it has no head, a dependency is not pinned, or its `[tool.peer]` is not right.
    """
    heads = _HEAD.findall(path.read_text(encoding="utf-8"))
    if len(heads) != 1:
        raise ValueError(f"{path.name} has {len(heads)} heads between '# /// script' and '# ///', and needs one")
    head: dict[str, Any] = tomllib.loads("".join(line[2:] or "\n" for line in heads[0].splitlines(keepends=True)))
    tool = head.get("tool", {})
    ours = cast(dict[str, Any], tool.get("uv", {}).get("sources", {}))
    packages: list[str] = []
    for wanted in head.get("dependencies", []):
        pin = _PIN.fullmatch(wanted)
        if pin is None and wanted not in ours:
            raise ValueError(f"{path.name} asks for {wanted!r}; pin it to one version, as in 'name==1.2.3'")
        packages.append(pin[1] if pin else wanted)
    try:
        peer = msgspec.convert(tool.get("peer", {}), Peer)
    except msgspec.ValidationError as error:
        raise ValueError(f"{path.name}, [tool.peer]: {error}") from None
    if not packages or not peer.backends or not peer.variants:
        raise ValueError(f"{path.name} needs at least one dependency, one backend and one variant")
    return Script(path, peer, tuple(packages))


def read_scripts(folder: Path = FOLDER) -> list[Script]:
    """All contenders' files, those of floors first."""
    return [read_script(path) for path in sorted([*folder.glob("floor_*.py"), *folder.glob("with_*.py")])]


def rows_of(scripts: Sequence[Script], backends: Sequence[str], stream: bool) -> list[Contender]:
    """The contenders that a table has.

    Args:
        scripts: of whom.
        backends: on which of them, where a contender can; empty: peers on their first, floors and ours on all.
        stream: for streamed answers; who cannot has no row.
    """
    rows: list[Contender] = []
    for script in scripts:
        peer = script.peer
        if stream and not peer.streams:
            continue
        mine = peer.backends[:1] if peer.kind == "peer" else peer.backends
        on = [each for each in peer.backends if each in backends] if backends else mine
        variants = (peer.streaming_variants or peer.variants) if stream else peer.variants
        rows += [Contender(script, variant, backend) for variant in variants for backend in on]
    return rows


def interpreter(script: Script) -> Path:
    """Install what the script asks for, for the version of Python that runs this; the Python to run it with.

    Raises:
        Unusable: uv is not there, or could not install it.
    """
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        raise Unusable("uv is not installed")
    python = str(Path(sys.executable).resolve())
    _uv(uv, "sync", "--quiet", "--script", str(script.path), "--python", python)
    return Path(_uv(uv, "python", "find", "--script", str(script.path)).splitlines()[-1])


def _uv(*command: str) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unusable(f"uv took more than {_INSTALL_TIMEOUT:.0f} s") from None
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip() and not line.startswith("warning")]
        raise Unusable(f"not installed: {' '.join(said)[:300]}")
    return done.stdout
