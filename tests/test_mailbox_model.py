"""The lanes against a model of plain lists: whatever is done in whatever order, both agree."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from greenroom.mailbox import Envelope, Lanes


class LanesMachine(RuleBasedStateMachine):
    """Senders, a receiver and the runtime at one mailbox, each step chosen by hypothesis."""

    @initialize(capacity=st.integers(1, 4))
    def make(self, capacity: int) -> None:
        """An empty mailbox, and an empty model of it."""
        self.lanes = Lanes(capacity)
        self.capacity = capacity
        self.data: list[int] = []
        self.control: list[int] = []
        self.waiting: list[str] = []
        self.admitted: list[str] = []
        self.count = 0
        self.taken: list[int] = []

    def _next(self) -> int:
        self.count += 1
        return self.count

    def _is_full(self) -> bool:
        return len(self.data) + len(self.admitted) >= self.capacity

    @precondition(lambda self: not self.lanes.closed)
    @rule()
    def send(self) -> None:
        """A sender offers a message and waits if it is declined."""
        message = self._next()
        expected = not self._is_full() and not self.waiting
        assert self.lanes.offer(Envelope(message)) is expected
        if expected:
            self.data.append(message)
        else:
            ticket = f"ticket {message}"
            self.lanes.wait(ticket)
            self.waiting.append(ticket)

    @precondition(lambda self: not self.lanes.closed)
    @rule()
    def signal(self) -> None:
        """The runtime sends a signal, which is always taken."""
        signal = self._next()
        self.lanes.signal(signal)
        self.control.append(signal)

    @rule()
    def receive(self) -> None:
        """The receiver takes the next thing and lets the oldest ticket in."""
        if self.lanes.control:
            assert self.lanes.control.popleft() == self.control.pop(0)
        elif self.lanes.data:
            message = self.lanes.data.popleft().message
            assert message == self.data.pop(0)
            self.taken.append(message)
            self._admit()

    def _admit(self) -> None:
        expected: Any = self.waiting[0] if self.waiting and not self._is_full() else None
        assert self.lanes.admit() == expected
        if expected is not None:
            self.admitted.append(self.waiting.pop(0))

    @rule()
    def park(self) -> None:
        """The receiver parks, with or without anything waiting."""
        self.lanes.rest()

    @precondition(lambda self: self.admitted)
    @rule(data=st.data())
    def redeem(self, data: st.DataObject) -> None:
        """An admitted sender wakes, in whatever order the loop wakes them, and uses its place unless it is closed."""
        self.admitted.remove(data.draw(st.sampled_from(self.admitted)))
        if self.lanes.closed:
            self.lanes.forgo()
            return
        message = self._next()
        self.lanes.redeem(Envelope(message))
        self.data.append(message)

    @precondition(lambda self: self.admitted)
    @rule(data=st.data())
    def cancel_admitted(self, data: st.DataObject) -> None:
        """An admitted sender is cancelled before it woke: its place goes to the next."""
        self.admitted.remove(data.draw(st.sampled_from(self.admitted)))
        self.lanes.forgo()
        self._admit()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel_waiting(self, data: st.DataObject) -> None:
        """A waiting sender gives up."""
        ticket = data.draw(st.sampled_from(self.waiting))
        self.lanes.withdraw(ticket)
        self.waiting.remove(ticket)

    @precondition(lambda self: self.count > 8)
    @rule()
    def close(self) -> None:
        """The actor ends; everybody who waits is woken and will find it closed."""
        undelivered, tickets = self.lanes.close()
        assert [envelope.message for envelope in undelivered] == self.data
        assert tickets == self.waiting
        self.admitted += self.waiting
        self.data, self.waiting = [], []

    @invariant()
    def both_agree(self) -> None:
        """Contents, queue, places and bound are those of the model."""
        assert [envelope.message for envelope in self.lanes.data] == self.data
        assert list(self.lanes.control or ()) == self.control
        assert list(self.lanes.tickets or ()) == self.waiting
        assert self.lanes.reserved == len(self.admitted)
        assert self.lanes.accepted >= len(self.taken) + len(self.data)
        assert len(self.data) <= self.capacity

    @invariant()
    def nobody_waits_beside_a_free_place(self) -> None:
        """Scenario 4: if there is room, no sender is left waiting."""
        assert not self.waiting or self._is_full()


TestLanesAgainstAModel = LanesMachine.TestCase
TestLanesAgainstAModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
