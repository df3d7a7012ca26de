"""Workloads in a user's file: ``my_load.py``, or ``my_load.py:name`` where it has several."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from difflib import get_close_matches
from types import ModuleType

from .workloads import BadWorkload, Workload, in_a_line, where


def is_file(text: str) -> bool:
    """Whether a workload's name means a file, rather than one that is built in."""
    path, _ = _split(text)
    return path.endswith(".py") or os.sep in path


def workload_in(text: str) -> Workload:
    """The workload in a file. What lies beside the file can be imported by it.

    Raises:
        BadWorkload: there is no such file, it cannot be run, or it is not clear which workload is meant.
    """
    path, name = _split(text)
    if not os.path.isfile(path):
        raise BadWorkload(f"{path}: there is no such file (looked in {os.getcwd()})")
    module = _load(path)
    found = {key: each for key, each in vars(module).items() if isinstance(each, Workload)}
    if name:
        return _named(path, name, module, found)
    different = {id(each): each for each in found.values()}
    if not different:
        functions = [key for key, each in vars(module).items() if inspect.iscoroutinefunction(each)]
        hint = f"; write @workload above {functions[0]}" if functions else ""
        raise BadWorkload(f"{path} has no workload, that is no `async def` with @workload above it{hint}")
    if len(different) > 1:
        raise BadWorkload(f"{path} has several workloads, {', '.join(found)}: say which, as {path}:{next(iter(found))}")
    return next(iter(different.values()))


def _split(text: str) -> tuple[str, str]:
    """The file, and the name behind its colon."""
    path, _, name = text.rpartition(":")
    return (path, name) if path.endswith(".py") else (text, "")


def _named(path: str, name: str, module: ModuleType, found: dict[str, Workload]) -> Workload:
    if name in found:
        return found[name]
    if hasattr(module, name):
        raise BadWorkload(f"{path}: {name} is no workload; write @workload above it")
    near = get_close_matches(name, found, 1)
    hint = f"; did you mean {near[0]}?" if near else f"; it has {', '.join(found)}" if found else ""
    raise BadWorkload(f"{path} has no workload {name!r}{hint}")


def _load(path: str) -> ModuleType:
    """The file as a module; it is listed, so that what it defines can be found by its module's name."""
    name = os.path.splitext(os.path.basename(path))[0]
    name = f"greenroom_load_{name}" if name in sys.modules else name
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadWorkload(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    folder = os.path.dirname(os.path.abspath(path))
    sys.path.insert(0, folder)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        del sys.modules[name]
        place = f"{error.filename}:{error.lineno}" if error.lineno is not None else path
        raise BadWorkload(f"{place}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise BadWorkload(f"{path} cannot be imported: {in_a_line(error)}{where(error)}") from None
    finally:
        # What it imports later is found too, but hides nothing any more.
        sys.path.remove(folder)
        sys.path.append(folder)
    return module
