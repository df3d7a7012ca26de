"""The demo's workload in virtual time: a few failed requests must cost little more than what they cost themselves.

Virtual time makes that exact: it passes only while everybody waits. So the length of a demo is the longest chain of
the model's delays, pauses and waits at the gate, whatever the machine is doing; a gate that lets runs in one after the
other is a demo of minutes here, though a small demo on a quick machine may hide it.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import anyio
import httpx
import pytest

from greenroom import System
from greenroom.agents import Sources
from greenroom.load import Faults, Latency
from greenroom.load.attempts import Attempts, Counted
from greenroom.load.demo import IN_A_ROW, LATENCY, TIMEOUTS
from greenroom.load.model import Ending, SimulatedModel
from greenroom.load.orders import Order, order_agent
from greenroom.load.tally import Tally
from greenroom.providers import OpenAIChat
from greenroom.testing import run

#: A quarter of the demo's faults.
SHARE = 0.0125


class Body(httpx.AsyncByteStream):
    """The bytes of a response, and how it ends."""

    def __init__(self, data: bytes, ending: Ending) -> None:
        self._data = data
        self._ending = ending

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._data
        if self._ending == "reset":
            raise httpx.ReadError("the connection was reset")
        if self._ending == "silence":
            await anyio.sleep_forever()


class Performing(httpx.AsyncBaseTransport):
    """The simulated model without its server: no socket, so that its delays are virtual too."""

    def __init__(self, model: SimulatedModel) -> None:
        self._model = model

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        performance = self._model.perform(await request.aread())
        await anyio.sleep(performance.delay)
        head, _, body = b"".join(performance.parts).partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        return httpx.Response(int(status.split()[1]), headers=headers, stream=Body(body, performance.ending))


async def play(runs: int, faults: Faults) -> tuple[float, Tally, Attempts]:
    """So many orders at once; how many seconds that takes, and what was counted."""
    tally, attempts = Tally(), Attempts()
    transport = Performing(SimulatedModel(1, faults, Latency.parse(LATENCY)))
    async with httpx.AsyncClient(transport=transport) as client:
        model = OpenAIChat("simulated", base_url="http://simulated/v1", client=client, timeouts=TIMEOUTS)
        agent = order_agent(Counted(model, attempts), tally)
        began = anyio.current_time()
        async with System(max_running=runs, sources=Sources(chance=random.Random(1).random)) as system:
            started = [await system.start(agent, each.prompt(), deps=each) for each in map(Order, range(runs))]
            for each in started:
                assert (await each.result()).status == "completed"
        return anyio.current_time() - began, tally, attempts


@pytest.mark.parametrize("runs", [20, 60, 300])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_brief_refusals_of_a_few_requests_do_not_hold_up_the_others(runs: int, backend: str) -> None:
    """A call in eighty is refused for 50 ms. All runs share the gate; none of them is to wait for seconds on end."""
    others = Faults(server_error=SHARE, reset=SHARE, stall=SHARE, in_a_row=IN_A_ROW)
    all_kinds = Faults(rate_limit=SHARE, server_error=SHARE, reset=SHARE, stall=SHARE, in_a_row=IN_A_ROW)
    without, _, quiet = run(play, runs, others, backend=backend)
    seconds, tally, attempts = run(play, runs, all_kinds, backend=backend)
    assert quiet.rate_limited == 0 < attempts.rate_limited
    assert seconds <= 1.5 * without
    # No call was made that was not needed: each run's own, and one for each failure.
    assert attempts.ok == tally.replies == 3 * runs + 6 * (runs // 10)
    assert attempts.total == attempts.ok + tally.retries
