"""What the service counts, and how it is told to a collector: OpenMetrics, as text.

Nothing listens to a run for it: whoever listens has the run's model stream. A run is counted as ended when somebody
asks for the counts, or when the service lets go of its handle, whichever is first. A metric has few labels, so that it
stays small: names of agents, ways to end. What there is at this moment (runs at work, streams) is looked at when it is
asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .known_runs import KnownRun

#: Methods that are counted under their own names: others are made up by clients, without end.
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
MEDIA_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Meter:
    """The counts of one service."""

    __slots__ = ("answers", "ended", "input_tokens", "output_tokens", "restarts", "runs_started", "streams")

    def __init__(self) -> None:
        self.runs_started: Counter[str] = Counter()
        self.ended: Counter[tuple[str, str]] = Counter()
        self.input_tokens: Counter[str] = Counter()
        self.output_tokens: Counter[str] = Counter()
        self.restarts: Counter[str] = Counter()
        self.answers: Counter[tuple[str, str]] = Counter()
        #: Streams that are open.
        self.streams = 0

    def started(self, agent: str) -> None:
        """A run has been started."""
        self.runs_started[agent] += 1

    def answered(self, method: str, status: int) -> None:
        """A request has been answered."""
        self.answers[method if method in METHODS else "other", f"{status // 100}xx"] += 1

    def count(self, known: KnownRun) -> None:
        """Count a run that the service has the handle of, once it has ended."""
        if known.counted or not known.is_over:
            return
        known.counted = True
        usage = known.run.usage
        self.ended[known.agent, known.run.status] += 1
        self.restarts[known.agent] += known.run.tree().restarts
        self.input_tokens[known.agent] += usage.input_tokens or 0
        self.output_tokens[known.agent] += usage.output_tokens or 0

    def text(self, *, at_work: int, waiting: int, draining: bool) -> str:
        """All of it.

        Args:
            at_work: runs that have not ended.
            waiting: of them, those that wait for their turn.
            draining: whether the service takes no new runs.
        """
        lines: list[str] = []
        family = _Families(lines)
        family.gauge("greenroom_runs", "Runs that have not ended.", at_work)
        family.gauge("greenroom_runs_queued", "Runs that wait for their turn.", waiting)
        family.gauge("greenroom_streams", "Streams that clients follow.", self.streams)
        family.gauge("greenroom_draining", "1 where no new runs are taken.", int(draining))
        agent = ("agent",)
        started = _of_one(self.runs_started)
        family.counter("greenroom_runs_started", "Runs that were started.", agent, started)
        family.counter("greenroom_runs_ended", "Runs that have ended.", ("agent", "status"), self.ended.items())
        family.counter("greenroom_run_restarts", "Crashes that runs went on after.", agent, _of_one(self.restarts))
        family.counter("greenroom_input_tokens", "Input tokens of ended runs.", agent, _of_one(self.input_tokens))
        family.counter("greenroom_output_tokens", "Output tokens of ended runs.", agent, _of_one(self.output_tokens))
        answers = self.answers.items()
        family.counter("greenroom_http_answers", "Requests that were answered.", ("method", "status"), answers)
        return "\n".join([*lines, "# EOF", ""])


class _Families:
    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def gauge(self, name: str, about: str, value: int) -> None:
        self._lines += [f"# TYPE {name} gauge", f"# HELP {name} {about}", f"{name} {value}"]

    def counter(
        self, name: str, about: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], int]]
    ) -> None:
        self._lines += [f"# TYPE {name} counter", f"# HELP {name} {about}"]
        for key, value in sorted(values):
            pairs = ",".join(f'{label}="{escaped(word)}"' for label, word in zip(labels, key, strict=True))
            self._lines.append(f"{name}_total{{{pairs}}} {value}")


def _of_one(counts: Counter[str]) -> list[tuple[tuple[str, ...], int]]:
    return [((word,), count) for word, count in counts.items()]


def escaped(text: str) -> str:
    """A label's value as OpenMetrics writes it."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
