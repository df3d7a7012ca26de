"""What a server is called where nobody says it: after the program that its command line runs, in a word. Pure.

The name shows in the tree, in logs and in errors, and a command line may hold a key. So a word becomes the name only
where it is known to be the program: the options of what runs it are known, with whether a value follows. Where there is
one that is not known, the server is called after what runs it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath

#: Characters of a name.
MOST = 64


def _options(valued: str, plain: str) -> Mapping[str, bool]:
    return {**dict.fromkeys(plain.split(), False), **dict.fromkeys(valued.split(), True)}


_CONTAINER = _options(
    "-e --env --env-file -v --volume --mount -p --publish --name --network --net -w --workdir -u --user --entrypoint "
    "--platform --pull --add-host -l --label -m --memory --cpus -h --hostname --tmpfs --cap-add --cap-drop "
    "--security-opt --ulimit --restart --gpus --device --dns --runtime --shm-size --pids-limit --log-driver --userns",
    "-i -t -it -ti --interactive --tty --rm --init --privileged --read-only -q --quiet -P --publish-all",
)
_NODE = _options(
    "-r --require --import --loader --experimental-loader --env-file -C --conditions",
    "--no-warnings --enable-source-maps --no-deprecation --experimental-strip-types",
)
_PYTHON = _options("-W -X", "-u -B -E -I -O -OO -s -S -P -q -v")
_UV = _options(
    "--from --with --with-editable --with-requirements -p --python --index-url --index --default-index "
    "--extra-index-url --directory --project --env-file --extra --group --package --no-group --no-extra --cache-dir",
    "-q --quiet -v --verbose --isolated --no-cache -n --no-project --no-sync --frozen --locked --refresh --offline "
    "--all-extras --no-dev --dev --active --no-config --managed-python -U --upgrade",
)
_NPX = _options(
    "-p --package -w --workspace --prefix --registry", "-y --yes -q --quiet --no --prefer-offline --offline"
)
_BUN = _options("--cwd -p --package -r --preload --env-file", "-b --bun --silent -y --no-install")
_DENO = _options(
    "-c --config --import-map --env-file --lock", "-A --allow-all -q --quiet --no-prompt --no-check --no-lock"
)

#: Programs that run another, whose name says more: their options, with whether a value follows.
_RUNNERS: Mapping[str, Mapping[str, bool]] = {
    **dict.fromkeys(("npx", "npm", "pnpm", "pnpx", "yarn"), _NPX),
    **dict.fromkeys(("bun", "bunx"), _BUN),
    **dict.fromkeys(("uv", "uvx"), _UV),
    "pipx": _options("--spec --python --pip-args", "-q --quiet -v --verbose --no-cache"),
    **dict.fromkeys(("python", "python3"), _PYTHON),
    "node": _NODE,
    "deno": _DENO,
    **dict.fromkeys(("docker", "podman"), _CONTAINER),
}
_VERBS = ("run", "exec", "x", "tool", "dlx")
#: A program, package or image. No word with an assignment, and no address: either may hold a key.
_PROGRAM = re.compile(r"[\w.@/\\:+ ~-]+")


def name_of(words: Sequence[str]) -> str:
    """What a command line runs, in a word: ``npx -y @scope/server-x@1 …`` is ``server-x``."""
    name = _base(words[0])
    left = list(words[1:])
    options = _options_of(name)
    while options is not None:
        found = _program(left, options)
        if found is None:
            break
        name = _base(found)
        options = _options_of(name)
    return name


def _options_of(name: str) -> Mapping[str, bool] | None:
    return _RUNNERS.get(re.sub(r"(?<=python3)\.\d+$", "", name))


def _program(left: list[str], options: Mapping[str, bool]) -> str | None:
    """The program in what is left of a command line, which is taken off it; None where it cannot be told."""
    while left:
        word = left.pop(0)
        if word == "-m" and options is _PYTHON:
            continue  # the module is as good as a program
        if word == "--" or word in _VERBS or (word.startswith("--") and "=" in word):
            continue
        if word.startswith("-"):
            if word not in options:
                return None
            if options[word]:
                del left[:1]
            continue
        word = re.sub(r":[^/]*$", "", word) if options is _CONTAINER else word.partition("==")[0]
        return word if _PROGRAM.fullmatch(word) and "://" not in word else None
    return None


def _base(word: str) -> str:
    last = re.split(r"[/\\]", word.rstrip("/\\"))[-1]
    last = last.partition("@")[0] or last
    stem = PurePath(last).stem if last.endswith((".py", ".js", ".mjs", ".cjs", ".ts", ".exe")) else last
    plain = re.sub(r"[^\w.:+-]", "-", stem)[:MOST]
    return plain or "mcp"
