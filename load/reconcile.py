"""Whether three independent counts of a demo agree: of the runs' events, of the provider's attempts, of the server.

Most numbers must be equal. What cannot be known from one side alone is bounded from the other, and nothing else is
allowed for:

- An attempt that the client *gave up* (a stop cut it, or a deadline passed) may meet any outcome at the server: it may
  have been answered whole a moment before. Everything else that the client has seen end, the server must have ended
  in the same way. So for each outcome the server has at least the client's number, and the sum is exact.
- A request on a reused connection that was reset before the first byte of an answer is sent once more by the transport
  (*resent*): two requests at the server, one attempt at the client.
- An answer that the server sent whole and the client gave up is *excess*: its tool calls and its final answer
  are the server's only.

Pure: numbers in, one line for each disagreement out.
"""

from __future__ import annotations

from collections.abc import Iterator

from .attempts import Attempts
from .stats import Stats
from .tally import Tally


def reconcile(tally: Tally, attempts: Attempts, resent: int, server: Stats, *, calls_at_once: int) -> list[str]:
    """The disagreements, each as a line that names the numbers; empty when all is accounted for.

    Args:
        tally: what the client counted from events and results.
        attempts: what its provider counted.
        resent: requests that its transport sent a second time.
        server: what the server counted, after all connections were closed.
        calls_at_once: the most tool calls of one reply.
    """
    excess = server.ok - attempts.ok
    return [
        *_runs(tally),
        *_requests(tally, attempts),
        *_served(attempts, resent, server),
        *_between("tool calls handed out by the server", server.tool_calls, tally.calls, excess * calls_at_once),
        *_between("final answers served", server.conversations_finished, tally.completed, excess),
        *_between("distinct runs finished at the server", server.runs_finished, tally.completed, excess),
        *_between("conversations started at the server", server.conversations_started, tally.first_replies, excess),
        *_between("distinct runs started at the server", server.runs_started, tally.first_replies, excess),
    ]


def _runs(tally: Tally) -> Iterator[str]:
    """Every run has one outcome and one end; every tool call one result; every crash one restart."""
    yield from _equal("runs asked for", tally.launched, "runs with exactly one outcome", tally.accounted)
    yield from _equal("runs asked for", tally.launched, "outcomes", tally.outcomes.total())
    for ending in ("completed", "stopped"):
        said = tally.said[ending]
        yield from _equal(f"runs that said they were {ending}", said, "runs with that result", tally.outcomes[ending])
    ended_once = sum(count == 1 for count in tally.ends.values())
    yield from _equal("runs and subagents begun", tally.begun, "ended exactly once", ended_once)
    yield from _equal("runs and subagents at work at the end", tally.in_flight, "expected", 0)
    yield from _equal("tool calls received", tally.calls, "started", tally.tools_started)
    results = tally.tools_done + tally.tools_failed
    yield from _equal("tool calls started", tally.tools_started, "tool results recorded", results)
    errors = tally.tool_crashes + tally.subagents_failed
    yield from _equal("tools crashed and subagents failed", errors, "error results recorded", tally.tools_failed)
    yield from _equal("crashes around runs", tally.run_crashes, "restarts", tally.restarts)
    yield from _equal("histories with a lost or doubled reply or result", tally.irregular, "expected", 0)


def _requests(tally: Tally, attempts: Attempts) -> Iterator[str]:
    """What runs said of their requests, and what the provider saw of them."""
    yield from _equal("requests that runs announced", tally.attempts, "attempts of the provider", attempts.total)
    yield from _equal("requests open at the end", attempts.open, "expected", 0)
    yield from _equal("replies that runs received", tally.replies, "answered attempts", attempts.ok)
    failed = attempts.total - attempts.ok - attempts.cut - attempts.open
    yield from _equal("failures that runs were told", tally.retries + tally.given_up, "failed attempts", failed)


def _served(attempts: Attempts, resent: int, server: Stats) -> Iterator[str]:
    """What the provider sent, and what the server received, by outcome."""
    sent = attempts.total - attempts.unconnected + resent
    yield from _equal("requests sent by the client", sent, "received by the server", server.requests)
    ended = server.ok + server.rate_limited + server.server_errors + server.resets + server.stalled
    ended += server.refused + server.aborted
    yield from _equal("requests received by the server", server.requests, "ended there", ended)
    yield from _equal("requests open at the server", server.in_flight, "expected", 0)
    yield from _equal("malformed requests", server.malformed, "expected", 0)
    slack = attempts.cut + attempts.stalled
    yield from _between("answers served (ok)", server.ok, attempts.ok, slack)
    yield from _between("429 served", server.rate_limited, attempts.rate_limited, slack)
    yield from _between("500 served", server.server_errors, attempts.server_errors, slack)
    yield from _between("connections reset by the server", server.resets, attempts.interrupted + resent, slack)
    yield from _between("requests refused by the server", server.refused, attempts.refused, slack)
    yield from _between("requests stalled or aborted at the server", server.stalled + server.aborted, 0, slack)


def _equal(what: str, number: int, other: str, other_number: int) -> Iterator[str]:
    if number != other_number:
        yield f"{what}: {number}, {other}: {other_number}"


def _between(what: str, number: int, client: int, slack: int) -> Iterator[str]:
    if not client <= number <= client + max(slack, 0):
        at_most = f" to {client + slack}" if slack > 0 else ""
        yield f"{what}: {number}, by the client's count: {client}{at_most}"
