"""Whether anything was lost or doubled when processes were killed, by three witnesses that know nothing of each other.

The *journal* says what each run has done, and when another process went on with it; the *sink* which effects tools have
had; the *server* how many whole answers each turn of each run got. What the process that was killed was just doing is
known from the journal: a tool call that has begun and has no result, or, with neither open call nor pause, a request to
the model. Only those may have happened twice, or by halves:

- A request that was in flight is asked again, and its turn may have been answered whole once more at the server, though
  nobody heard it. The same holds for a try that was given up and written down as failed. Anything that is answered
  beyond that was recorded, and asked for again all the same.
- A call of a tool whose contract is `never` was in flight: it may have had its effect or not, the model is told so,
  and it is not run again. Every other one has had its effect once.

Pure: journals, effects and counts in, numbers and one line for each disagreement out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from ..journal import Ended, Happened, Intended, Record, Replied, Resumed, Retrying, decode
from ..providers import ModelReply, ToolResult
from .crash_orders import CONTRACTS, TURNS, answer_of, name_of, run_id_of
from .sink import Effect

UNKNOWN = "outcome_unknown"


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """One process of the demo.

    Attributes:
        runs: how many it has begun or taken over.
        unfinished: how many it had to take over; of the first one, to begin.
        seconds: how long that took it.
        gap: seconds from the death of the process before it until then.
        answers: what the server had answered when it was killed; None for one that came to its end.
        refused: why it did not take a run over, by run.
    """

    runs: int
    unfinished: int
    seconds: float
    gap: float = 0.0
    answers: int | None = None
    refused: Mapping[str, str] = {}


class Story(msgspec.Struct):
    """What the journal of one run says.

    Attributes:
        ends: how often it has ended.
        status: how, in the end.
        answer: the text of the last reply.
        replies: answers of the model that are recorded.
        resumed: how often another process went on with it.
        asked_again: by turn, how often that was while the model was asked; `tries` failed tries.
        calls: tool calls that the model made, by id: the tool.
        results: what each of them came to, by id: the causes of errors, or None.
        in_flight: calls that were at work when a process was killed.
    """

    ends: int = 0
    status: str = ""
    answer: str = ""
    replies: int = 0
    resumed: int = 0
    asked_again: Counter[int] = msgspec.field(default_factory=Counter[int])
    tries: Counter[int] = msgspec.field(default_factory=Counter[int])
    calls: dict[str, str] = {}
    results: dict[str, list[str | None]] = {}
    in_flight: int = 0

    @property
    def is_regular(self) -> bool:
        """Whether each call has exactly one result."""
        return all(len(self.results.get(call, ())) == 1 for call in self.calls) and len(self.results) <= len(self.calls)


def story_of(entries: Sequence[bytes]) -> Story:
    """Read a run's journal."""
    story = Story()
    begun: set[str] = set()
    for record in [record for entry in entries for record in decode(entry)]:
        _read(story, record, begun)
    return story


def _read(story: Story, record: Record, begun: set[str]) -> None:
    match record:
        case Replied():
            message = msgspec.convert(record.reply, ModelReply).message
            story.replies += 1
            story.answer = message.text
            story.calls.update({call.id or "": call.name for call in message.tool_calls})
        case Intended():
            begun.add(record.call_id)
        case Happened():
            result = msgspec.convert(record.result, ToolResult)
            story.results.setdefault(result.call_id, []).append(result.cause if result.is_error else None)
        case Retrying():
            story.tries[story.replies] += 1
        case Resumed():
            story.resumed += 1
            story.asked_again[story.replies] += record.asking
            story.in_flight += len(begun - story.results.keys())
        case Ended():
            story.ends += 1
            story.status = record.status
        case _:
            pass


class Account(msgspec.Struct, kw_only=True):
    """What came of all runs.

    Attributes:
        runs: how many were asked for.
        statuses: how many ended so.
        lost: runs without an end, or that the journal does not know.
        doubled: runs with more than one.
        resumed: how often a run went on in another process.
        recorded: model calls whose replies are recorded.
        asked_again: model calls that were in flight when a process was killed.
        answered_twice: answers that nobody heard, or heard too late, so that the server had to give them again.
        repeated: model calls that were recorded and asked for again.
        tries: model calls that failed and were tried again.
        calls: tool calls, by contract.
        in_flight: tool calls that were at work when a process was killed.
        requests: requests that reached the sink, by contract; `effects` what they came to.
        unknown: calls of `never` tools whose outcome nobody knows; `took_effect` those of them that had it.
        disagreements: one line for each; empty when all is accounted for.
    """

    runs: int
    statuses: Counter[str] = msgspec.field(default_factory=Counter[str])
    lost: int = 0
    doubled: int = 0
    resumed: int = 0
    recorded: int = 0
    asked_again: int = 0
    answered_twice: int = 0
    repeated: int = 0
    tries: int = 0
    calls: Counter[str] = msgspec.field(default_factory=Counter[str])
    in_flight: int = 0
    requests: Counter[str] = msgspec.field(default_factory=Counter[str])
    effects: Counter[str] = msgspec.field(default_factory=Counter[str])
    unknown: int = 0
    took_effect: int = 0
    disagreements: list[str] = []


def account(
    runs: int,
    stories: Mapping[str, Story],
    effects: Sequence[Effect],
    answers: Mapping[str, Sequence[int]],
    lives: Sequence[Life],
) -> Account:
    """Compare what the witnesses say.

    Args:
        runs: how many were asked for.
        stories: the journal, by run id.
        effects: all requests that the sink got.
        answers: whole answers of the server, by order and turn.
        lives: the processes, in their order.
    """
    found = Account(runs=runs)
    done: dict[tuple[str, int], list[Effect]] = {}
    for effect in effects:
        done.setdefault((effect.tool, effect.order), []).append(effect)
    lines: list[str] = []
    for order in range(runs):
        story = stories.get(run_id_of(order), Story())
        lines += _end(found, order, story)
        lines += _model(found, order, story, answers.get(name_of(order), ()))
        lines += _tools(found, order, story, {tool: done.pop((tool, order), []) for tool in CONTRACTS})
    strangers = stories.keys() - {run_id_of(order) for order in range(runs)}
    lines += [f"run {name!r} is in the journal, nobody asked for it" for name in sorted(strangers)]
    lines += [f"{tool} of order {order} reached the sink, which no run called" for tool, order in done]
    lines += _lives(found, lives)
    found.disagreements = lines
    return found


def _end(found: Account, order: int, story: Story) -> Iterator[str]:
    """Each run has one end, the answer, and one result for each call."""
    found.lost += story.ends == 0
    found.doubled += story.ends > 1
    found.statuses[story.status or "lost"] += 1
    found.resumed += story.resumed
    if story.ends != 1:
        yield f"{run_id_of(order)} has {story.ends} ends"
    if not story.is_regular:
        yield f"{run_id_of(order)} has a tool call with no result or two"
    if story.status == "completed" and (story.replies, story.answer) != (TURNS, answer_of(order)):
        yield f"{run_id_of(order)} ended after {story.replies} replies with {story.answer!r}"


def _model(found: Account, order: int, story: Story, answers: Sequence[int]) -> Iterator[str]:
    """What is recorded was answered, and not asked for again."""
    found.recorded += story.replies
    found.asked_again += story.asked_again.total()
    found.tries += story.tries.total()
    for turn in range(max(story.replies, len(answers))):
        given = answers[turn] if turn < len(answers) else 0
        excuses = story.asked_again[turn] + story.tries[turn]
        heard = turn < story.replies
        if given < heard:
            yield f"{run_id_of(order)}: the reply of turn {turn + 1} is recorded, the server has not given it"
        repeated = max(given - heard - excuses, 0)
        found.answered_twice += max(given - 1, 0) - repeated
        found.repeated += repeated
        if repeated:
            yield f"{run_id_of(order)}: turn {turn + 1} was answered {given} times, {heard + excuses} would be right"


def _tools(found: Account, order: int, story: Story, done: Mapping[str, Sequence[Effect]]) -> Iterator[str]:
    """Each call has had its effect as its contract says."""
    found.in_flight += story.in_flight
    for tool, contract in CONTRACTS.items():
        called = [call for call, name in story.calls.items() if name == tool]
        causes = [cause for call in called for cause in story.results.get(call, ())]
        effects = len({effect.key for effect in done[tool]}) if contract == "keyed" else len(done[tool])
        found.calls[contract] += len(called)
        found.requests[contract] += len(done[tool])
        found.effects[contract] += effects
        unknown = contract == "never" and causes == [UNKNOWN]
        found.unknown += unknown
        found.took_effect += unknown and effects > 0
        exactly = effects == len(called) or (unknown and not effects)
        right = exactly or (contract == "safe" and effects > len(called))
        if not right or causes.count(None) + unknown != len(called):
            was = f"was called {len(called)} times, came to {causes}, had {effects} effects"
            yield f"{run_id_of(order)}: {tool} ({contract}) {was}"


def _lives(found: Account, lives: Sequence[Life]) -> Iterator[str]:
    """Every process went on with all that the one before it left."""
    for number, life in enumerate(lives, 1):
        if life.runs != life.unfinished:
            yield f"process {number} had {life.unfinished} runs to see to, and took {life.runs}"
        for run_id, why in sorted(life.refused.items()):
            yield f"process {number} did not go on with {run_id}: {why}"
    taken = sum(life.runs for life in lives[1:])
    if taken != found.resumed:
        yield f"runs taken over: {taken}, recorded as resumed: {found.resumed}"
