"""The tool `search`: looks for a regular expression in the files of the workspace, or for files by name.

The work is done by `search_program`, a process that is ended when its time is over or its call is given up, whatever
pattern it is at.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from ...agents import ToolFailed
from ...loops import RunningLoop
from .paths import Refused, read_path
from .running import Outcome, Terms, run_command
from .search_program import Request

#: Seconds of a search, and characters of a pattern.
TIMEOUT = 20.0
LONGEST = 2000

#: Puts packages in place that are empty, so that only what the program needs is imported, and not greenroom.
_BOOT = """
import sys, types
for name in ("greenroom", "greenroom.tools", "greenroom.tools.workspace"):
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = [sys.argv[1]] if name.endswith("workspace") else []
from greenroom.tools.workspace.search_program import main
sys.exit(main(sys.argv[2]))
"""


def search_in(
    loop: RunningLoop, terms: Terms, path: str, hard_links: bool, most: int
) -> Callable[..., Coroutine[Any, Any, str]]:
    """The function of the tool.

    Args:
        loop: the event loop.
        terms: what the program runs under.
        path: the absolute path of the folder.
        hard_links: whether files are looked into that have further names.
        most: bytes of a file that is looked into.
    """
    folder = path

    async def search(
        pattern: str = "",
        path: str = ".",
        glob: str | None = None,
        ignore_case: bool = False,
        literal: bool = False,
        names_only: bool = False,
    ) -> str:
        """Look for text in the files of the workspace, or for files by name. Each match is a line, path:number:text.

        Hidden files, and those that .gitignore names, are left out.

        Args:
            pattern: a regular expression (as of Python) to be found within a line; empty to list the files.
            path: the folder to look in, or the file.
            glob: which files, such as '*.py' or 'src/**/*.ts'.
            ignore_case: whether A and a are the same.
            literal: whether the pattern is the text itself and no regular expression.
            names_only: whether to show only the paths of the files that have a match.
        """
        if len(pattern) > LONGEST or len(glob or "") > LONGEST:
            raise ToolFailed(f"a pattern or glob has at most {LONGEST} characters")
        try:
            names = list(read_path(path, folder))
            request = Request(pattern, names, glob, ignore_case, literal, names_only, hard_links, most)
            arguments = [str(Path(__file__).parent), json.dumps(request._asdict())]
            program = [sys.executable, "-I", "-S", "-B", "-W", "ignore", "-c", _BOOT, *arguments]
            return read_outcome(await run_command(loop, program, terms, TIMEOUT))
        except Refused as error:
            raise ToolFailed(str(error)) from None
        except OSError as error:
            raise ToolFailed(f"the search could not be started: {error.strerror or error}") from None

    return search


def read_outcome(outcome: Outcome) -> str:
    """What a model is told.

    Raises:
        ToolFailed: nothing came of it.
    """
    text = outcome.text.strip("\n")
    if outcome.ended == "exit status 0":
        return text
    if outcome.ended is None:
        text = f"{text}\n" if text else ""
        raise ToolFailed(
            f"{text}[stopped after {TIMEOUT:g} s: a simpler pattern, or a smaller path or glob, is faster]"
        )
    raise ToolFailed(text or f"the search failed: {outcome.ended}")
