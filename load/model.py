"""The simulated model behind its HTTP skin: the body of a request in, the response as a performance out.

Pure but for one memory: how often each conversation has asked at the same place, which makes a repeated
request draw a new number for its faults. Draws depend on the seed, the conversation, the place in it and that
attempt, and on nothing else, so the same runs meet the same faults and delays in whatever order their
requests arrive.

A `Performance` is data: the parts to send, the delay before the first, the gap between them, and how it ends.
A fault in the middle is a list of parts cut in half with another ending; whoever sends it needs no special
case.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal, TypeAlias

import msgspec

from . import wire
from .faults import FaultKind, Faults
from .http1 import LAST_CHUNK, chunk, response, stream_head
from .latency import Latency
from .refusals import Refused, check
from .script import Habits, say
from .stats import Outcome

Ending: TypeAlias = Literal["done", "reset", "silence"]


class Performance(msgspec.Struct, frozen=True):
    """A response to be sent.

    Attributes:
        parts: bytes in order; at least one.
        outcome: what the request counts as once the parts have been sent.
        delay: seconds before the first part.
        gap: seconds between two parts; zero sends them together.
        ending: what follows the last part: nothing special, a reset of the connection, or silence.
        run: the key of the run.
        turn: the place in its conversation: replies before this one.
        starts: whether this is a good answer to a conversation's first turn.
        finishes: whether this is a final answer.
        tool_calls: the number of tool calls in it.
    """

    parts: list[bytes]
    outcome: Outcome
    delay: float = 0.0
    gap: float = 0.0
    ending: Ending = "done"
    run: str = ""
    turn: int = 0
    starts: bool = False
    finishes: bool = False
    tool_calls: int = 0


_OUTCOMES: dict[FaultKind, Outcome] = {
    "rate_limit": "rate_limited",
    "server_error": "server_errors",
    "reset": "resets",
    "stall": "stalled",
}


class SimulatedModel:
    """Answers chat requests.

    Args:
        seed: another seed is another model: other ids, faults and delays.
        faults: rates of injected failures; default none.
        latency: time to respond; default `Latency()`.
        habits: what it does without a plan; default one turn of one tool call.
    """

    def __init__(
        self,
        seed: int = 0,
        faults: Faults | None = None,
        latency: Latency | None = None,
        habits: Habits | None = None,
    ) -> None:
        self._seed = seed
        self._faults = faults or Faults()
        self._latency = latency or Latency()
        self._habits = habits or Habits()
        #: Conversation → its place and the number of earlier requests there; forgotten with the final answer.
        self._asked: dict[str, tuple[bytes, int]] = {}

    def perform(self, body: bytes) -> Performance:
        """The response to a chat request with this body. Never raises for what is in `body`."""
        try:
            request = wire.decode_request(body)
            check(request)
            run, conversation = _keys(request)
            place_digest = self._place_digest(conversation, request)
            place, reply = say(request, place_digest.hex()[:12], self._habits)
        except (Refused, msgspec.DecodeError) as error:
            refusal = wire.error(str(error), "invalid_request_error")
            return Performance([response(400, refusal)], "refused")

        attempt = self._count(conversation, place_digest)
        fault, delay = self._draw(place_digest, attempt)
        request_id = b"x-request-id: req_%b%d" % (place_digest.hex().encode(), attempt)
        if fault == "rate_limit":
            return Performance([self._rate_limited(request_id)], "rate_limited")
        if fault == "server_error":
            sorry = wire.error("The server had an error while processing your request.", "server_error")
            return Performance([response(500, sorry, request_id)], "server_errors", delay)

        parts = _parts(request, reply, "chatcmpl-" + place_digest.hex(), request_id)
        gap = self._latency.per_chunk
        if fault is not None:
            ending: Ending = "reset" if fault == "reset" else "silence"
            return Performance(_first_half(parts), _OUTCOMES[fault], delay, gap, ending, run)
        if not reply.calls:
            self._asked.pop(conversation, None)
        return Performance(
            parts,
            "ok",
            delay,
            gap,
            run=run,
            turn=place.turn,
            starts=place.turn == 0,
            finishes=not reply.calls,
            tool_calls=len(reply.calls),
        )

    def _place_digest(self, conversation: str, request: wire.ChatRequest) -> bytes:
        last = request.messages[-1]
        # The latest result's id is part of the place: a client that keeps a constant number of messages still
        # moves.
        place = f"{self._seed}\0{conversation}\0{len(request.messages)}\0{last.tool_call_id or last.text}"
        return blake2b(place.encode("utf-8", "replace"), digest_size=12).digest()

    def _count(self, conversation: str, place: bytes) -> int:
        before = self._asked.get(conversation)
        attempt = before[1] + 1 if before is not None and before[0] == place else 0
        self._asked[conversation] = (place, attempt)
        return attempt

    def _draw(self, place: bytes, attempt: int) -> tuple[FaultKind | None, float]:
        digest = blake2b(place + attempt.to_bytes(4, "big"), digest_size=16).digest()
        fault = self._faults.choose(_uniform(digest[:8]), attempt)
        return fault, self._latency.draw(_uniform(digest[8:]))

    def _rate_limited(self, request_id: bytes) -> bytes:
        wait = self._faults.retry_after
        body = wire.error("Rate limit reached for requests.", "requests", "rate_limit_exceeded")
        # Retry-After counts whole seconds by its standard; the second header is the one for shorter times.
        exact = b"retry-after-ms: %d" % round(wait * 1000)
        return response(429, body, f"Retry-After: {wait:g}".encode(), exact, request_id)


def _uniform(digest: bytes) -> float:
    """A number strictly between 0 and 1 from 8 bytes."""
    return ((int.from_bytes(digest, "big") >> 12) + 0.5) / 2**52


def _keys(request: wire.ChatRequest) -> tuple[str, str]:
    """The key of the run, and the key of the conversation, for a run may hold several (its subagents)."""
    first = ""
    for message in request.messages:
        if message.role == "user":
            first = message.text
            break
    mark = blake2b(first.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return (request.user, f"{request.user}:{mark}") if request.user else (mark, mark)


def _parts(request: wire.ChatRequest, reply: wire.Reply, reply_id: str, request_id: bytes) -> list[bytes]:
    usage = wire.estimate_usage(request, reply)
    if not request.stream:
        return [response(200, wire.completion(reply_id, request.model, reply, usage), request_id)]
    asked = request.stream_options is not None and request.stream_options.include_usage
    events = wire.stream_events(reply_id, request.model, reply, usage if asked else None)
    parts = [chunk(event) for event in events]
    parts[0] = stream_head(request_id) + parts[0]
    parts[-1] += LAST_CHUNK
    return parts


def _first_half(parts: list[bytes]) -> list[bytes]:
    """About half of a response, and always its head."""
    if len(parts) > 1:
        return parts[: len(parts) // 2]
    whole = parts[0]
    body = whole.index(b"\r\n\r\n") + 4
    return [whole[: (body + len(whole)) // 2]]
