"""What a provider has counted while its answer still streams."""

from __future__ import annotations

from typing import Any

import pytest

from greenroom.providers import Fallback, ModelRequest, user
from greenroom.testing import StrictServer

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("format", "tells"), [("anthropic", True), ("gemini", True), ("openai-chat", False), ("openai-responses", False)]
)
@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_stream_tells_what_was_counted_so_far(format: str, tells: bool, wrapped: bool) -> None:
    """The input from the first piece on, where the format has it; also behind a fallback."""
    async with StrictServer(format, ["A long answer in pieces."]) as server:
        provider: Any = Fallback([server.provider()]) if wrapped else server.provider()
        request = ModelRequest([user("How long?")])
        seen: list[Any] = []
        async with provider.stream(request) as stream:
            seen.append(stream.usage)
            async for _ in stream:
                seen.append(stream.usage)
        whole = stream.reply.usage
    assert seen[0] is None
    assert whole is not None
    if tells:
        assert seen[1] is not None
        assert seen[1].input_tokens == whole.input_tokens
    else:
        assert seen[1] is None
