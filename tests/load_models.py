"""Models for tests of the load tester, on the virtual clock: slow ones, ones that freeze, ones that fail."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio

from greenroom import Agent
from greenroom.load import Iteration, LoadReport, load_test, workload
from greenroom.providers import ModelEvent, ModelReply, ModelRequest, Provider, TextDelta, Usage, assistant
from greenroom.testing import run


class Model(Provider):
    """Answers after so many seconds, or after as many as `seconds` says for its request's number and the present time.

    Args:
        seconds: to an answer.
        fails: what is raised instead of an answer, by the request's number, if anything.
        pieces: of a streamed answer, which come evenly.
    """

    name = "test"
    model = "slow"

    def __init__(
        self,
        seconds: float | Callable[[int, float], float] = 0.01,
        *,
        fails: Callable[[int], BaseException | None] | None = None,
        pieces: int = 4,
    ) -> None:
        self._seconds = seconds
        self._fails = fails
        self._pieces = pieces
        self.asked = 0
        self.at_once = 0
        self.at_once_most = 0
        #: When each request came, in seconds of the event loop's clock.
        self.moments: list[float] = []

    async def complete(self, request: ModelRequest) -> ModelReply:
        number, seconds = self._take()
        self.at_once += 1
        self.at_once_most = max(self.at_once_most, self.at_once)
        try:
            await anyio.sleep(seconds)
        finally:
            self.at_once -= 1
        if number >= 0 and self._fails is not None and (error := self._fails(number)) is not None:
            raise error
        return self._reply()

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[Any]:
        return self._streamed()

    @asynccontextmanager
    async def _streamed(self) -> AsyncGenerator[_Stream]:
        _, seconds = self._take()
        yield _Stream(seconds, self._pieces, self._reply())

    def _take(self) -> tuple[int, float]:
        """The number of a request, -1 for the probe, which is answered at once, and what it takes."""
        number, self.asked = self.asked - 1, self.asked + 1
        now = anyio.current_time()
        if number < 0:
            return number, 0.0
        self.moments.append(now)
        return number, self._seconds(number, now) if callable(self._seconds) else self._seconds

    def _reply(self) -> ModelReply:
        return ModelReply(assistant("Done."), usage=Usage(input_tokens=10, output_tokens=self._pieces + 1))


class _Stream:
    """`pieces` pieces: the first after `seconds`, and then one after each further second."""

    def __init__(self, seconds: float, pieces: int, reply: ModelReply) -> None:
        self._seconds = seconds
        self._left = pieces
        self._pieces = pieces
        self.reply = reply

    def __aiter__(self) -> _Stream:
        return self

    async def __anext__(self) -> ModelEvent:
        if not self._left:
            raise StopAsyncIteration
        await anyio.sleep(self._seconds if self._left == self._pieces else 1.0)
        self._left -= 1
        return TextDelta("Done."[-1] if self._left else "Done")


AGENT = Agent("asker", Model())


@workload
async def ask(it: Iteration) -> None:
    """One question."""
    await it.run(AGENT, f"Question {it.number}")


def virtual(model: Provider, *, what: Any = ask, backend: str = "asyncio", **options: Any) -> LoadReport:
    """The report of a test on the virtual clock."""

    async def scenario() -> LoadReport:
        return await load_test(what, model=model, clock=anyio.current_time, **options)

    return run(scenario, backend=backend)
