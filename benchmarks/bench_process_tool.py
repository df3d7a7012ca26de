"""What does a tool call in a process cost the process that makes it, against a thread and anyio's processes?

Run: python benchmarks/bench_process_tool.py [--backend asyncio|trio] [--count 2000] [--json]

CPU time is that of this process; the time until the answer is there includes the other one's. The function is as good
as nothing. Calls follow each other; each has arguments that are checked on both sides.

- *process* is a call in a process that is there already, *new process* one that has to be started first and is ended
  afterwards (a twentieth of the calls).
- *anyio.to_process* keeps its processes too; it pickles, and knows no process groups.
"""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from time import perf_counter, process_time

from anyio import to_process
from runner import Contender, main

from greenroom import Tool
from greenroom.actors import Home
from greenroom.agents.processes import ProcessCall, Processes
from greenroom.agents.threads import ThreadCall, Threads
from greenroom.providers import ToolCall

PATH = "/somewhere/else"
CALL = ToolCall("call_1", "basename", {"p": PATH}, f'{{"p":"{PATH}"}}')
SCHEMA = {"type": "object", "properties": {"p": {"type": "string"}}, "required": ["p"]}
#: Calls for each new process that is started.
WARM_FOR_NEW = 20


async def _each(once: Callable[[], Awaitable[str]], count: int) -> dict[str, float]:
    """The figures of one call, the first of which does not count."""
    assert await once() == "else"
    began, cpu = perf_counter(), process_time()
    for _ in range(count):
        assert await once() == "else"
    cpu, took = process_time() - cpu, perf_counter() - began
    return {"CPU us": cpu / count * 1e6, "until the answer us": took / count * 1e6}


async def in_process(options: Mapping[str, int]) -> dict[str, float]:
    processes = Processes(Home(), 1)
    tool = Tool.from_schema("basename", "The last part.", SCHEMA, posixpath.basename, where="process")

    async def once() -> str:
        tool.arguments(CALL)
        return (await ProcessCall(processes, tool, CALL).run()).content

    try:
        return await _each(once, options["count"])
    finally:
        await processes.close()


async def in_new_process(options: Mapping[str, int]) -> dict[str, float]:
    processes = Processes(Home(), 1)
    tool = Tool.from_schema("basename", "The last part.", SCHEMA, posixpath.basename, where="process")

    async def once() -> str:
        result = await ProcessCall(processes, tool, CALL).run()
        await processes.idle.pop().kill()
        return result.content

    return await _each(once, max(1, options["count"] // WARM_FOR_NEW))


async def in_thread(options: Mapping[str, int]) -> dict[str, float]:
    threads = Threads(Home())
    tool = Tool.from_schema("basename", "The last part.", SCHEMA, posixpath.basename, where="thread")

    async def once() -> str:
        call = ThreadCall(partial(tool.function, **tool.arguments(CALL)))
        return tool.result(CALL.id or "", await threads.run(call, 0)).content

    try:
        return await _each(once, options["count"])
    finally:
        threads.close()


async def in_process_of_anyio(options: Mapping[str, int]) -> dict[str, float]:
    return await _each(partial(to_process.run_sync, posixpath.basename, PATH), options["count"])


CONTENDERS = [
    Contender("process", in_process),
    Contender("new process", in_new_process),
    Contender("thread", in_thread),
    Contender("anyio.to_process", in_process_of_anyio),
]

if __name__ == "__main__":
    main("Time of one tool call in a process", CONTENDERS, baseline="thread", count=2_000)
