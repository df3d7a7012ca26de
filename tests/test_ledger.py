"""The arithmetic of what a tree of runs may use: no event loop, no clock."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from greenroom import Limits
from greenroom.agents.ledger import BOUNDS, Alert, Amount, Ledger, Refusal, nano

_NANO = 1_000_000_000


def limits(**bounds: Any) -> Limits:
    return Limits(warn_at=None, **bounds)


def test_what_is_set_aside_is_not_left_and_comes_back() -> None:
    """A limit holds for what is used and what is set aside together."""
    ledger = Ledger(limits(total_tokens=100), "r")
    need = Amount(total_tokens=60)
    assert ledger.refusal(need) is None
    ledger.take(need)
    assert ledger.left("total_tokens") == 40
    assert ledger.left("total_tokens", returned=True) == 100
    assert ledger.refusal(need) == Refusal("total_tokens", 0, 100, "r", waits=True)
    ledger.settle(need, Amount(total_tokens=50))
    assert (ledger.left("total_tokens"), ledger.set_aside) == (50, Amount())
    assert ledger.refusal(need) == Refusal("total_tokens", 50, 100, "r", waits=False)
    assert ledger.refusal(Amount(total_tokens=50)) is None


@pytest.mark.parametrize("name", BOUNDS)
def test_so_many_and_no_more(name: Any) -> None:
    """Of each limit: as many as are allowed, none beyond, and of zero none; other amounts are not its business."""
    one = Amount(**{name: _NANO if name == "cost" else 1})
    ledger = Ledger(limits(**{name: 2}), "r")
    for _ in range(2):
        assert ledger.refusal(one) is None
        ledger.enter(one)
    assert ledger.refusal(one) == Refusal(name, 2, 2, "r", waits=False)
    assert ledger.spent(name) == Refusal(name, 2, 2, "r", waits=False)
    others = Amount(**{other: 10**12 for other in BOUNDS if other != name})
    assert ledger.refusal(others) is None
    none = Ledger(limits(**{name: 0}), "r")
    assert none.refusal(one) == Refusal(name, 0, 0, "r", waits=False)
    assert none.refusal(Amount()) is None


def test_a_limit_holds_for_the_whole_tree_below_it() -> None:
    """What a run takes is entered in all ledgers above; the least that is left of them counts."""
    root = Ledger(limits(requests=3, cost=1.0), "root")
    left, right = Ledger(limits(requests=2), "left", root), Ledger(limits(), "right", root)
    one = Amount(requests=1)
    left.enter(one)
    right.take(one)
    assert (root.used, root.set_aside) == (one, one)
    assert [each.left("requests") for each in (root, left, right)] == [1, 1, 1]
    left.enter(one)
    assert left.refusal(one) == Refusal("requests", 2, 2, "left", waits=False)
    assert right.refusal(one) == Refusal("requests", 2, 3, "root", waits=True)
    assert left.bounds("cost")
    assert not left.bounds("children")
    assert (left.left("cost"), left.left("children")) == (_NANO, None)
    assert left.spent("requests").owner == "left"
    assert right.spent("requests").owner == "root"
    with pytest.raises(KeyError):
        right.spent("children")


def test_what_no_waiting_would_change_goes_before_what_waiting_would() -> None:
    """Somebody who can never have what it needs is not to wait for another limit."""
    root = Ledger(limits(requests=1), "root")
    below = Ledger(limits(total_tokens=10), "below", root)
    root.take(Amount(requests=1))
    refusal = below.refusal(Amount(requests=1, total_tokens=11))
    assert refusal == Refusal("total_tokens", 0, 10, "below", waits=False)
    root.enter(Amount(total_tokens=5))
    found = below.refusal(Amount(requests=1, total_tokens=10))
    assert found is not None
    assert found.waits


def test_an_amount_beyond_what_was_taken_is_entered_all_the_same() -> None:
    """The truth is written down; nothing is left then, and never less than nothing."""
    ledger = Ledger(limits(output_tokens=10), "r")
    ledger.take(Amount(output_tokens=10))
    ledger.settle(Amount(output_tokens=10), Amount(output_tokens=25))
    assert ledger.used == Amount(output_tokens=25)
    assert ledger.left("output_tokens") == 0
    assert ledger.refusal(Amount(output_tokens=1)) == Refusal("output_tokens", 25, 10, "r", waits=False)


@pytest.mark.parametrize(
    ("dollars", "billionths"),
    [(0.57, 570_000_000), (0.29, 290_000_000), (1.1, 1_100_000_000), (3e-10, 1), (0.1 * 3, 300_000_000), (0.0, 0)],
)
def test_money_is_exact(dollars: float, billionths: int) -> None:
    """A price that is no binary fraction is still what it says; what is less than a billionth counts as one."""
    assert nano(dollars) == billionths


@given(st.integers(1, 300), st.integers(1, 10_000))
def test_as_many_calls_as_the_dollars_pay_for(calls: int, millicents: int) -> None:
    """A limit of n times a price takes n calls at that price, and not one more."""
    price = millicents / 100_000
    ledger = Ledger(limits(cost=calls * millicents / 100_000), "r")
    for _ in range(calls):
        assert ledger.refusal(Amount(cost=nano(price))) is None
        ledger.enter(Amount(cost=nano(price)))
    assert ledger.refusal(Amount(cost=1)) is not None


def test_a_limit_is_warned_of_once() -> None:
    """When it is used up to the share that its run wants to know of; each run of its own limits. Zero is no news."""
    root = Ledger(Limits(requests=30, tool_calls=0, warn_at=0.1), "root")
    below = Ledger(Limits(requests=2, cost=0.5, warn_at=None), "below", root)
    below.enter(Amount(requests=2))
    assert (root.alerts, below.alerts) == ([], [])
    below.enter(Amount(requests=1))
    assert root.alerts == [Alert("requests", 3, 30)]
    below.enter(Amount(requests=27, cost=_NANO))
    assert (root.alerts, below.alerts) == ([Alert("requests", 3, 30)], [])
    exact = Ledger(Limits(cost=2.0, warn_at=1.0), "r")
    exact.enter(Amount(cost=2 * _NANO - 1))
    assert exact.alerts == []
    exact.enter(Amount(cost=1))
    assert exact.alerts == [Alert("cost", 2.0, 2.0)]


def test_an_amount_is_a_sum_field_by_field() -> None:
    """Each field has its own place."""
    one = Amount(*range(1, 8))
    assert one + one == Amount(*range(2, 16, 2))
    assert one - one == Amount()
    assert [getattr(one, name) for name in BOUNDS] == list(range(1, 8))


_amounts = st.builds(
    Amount,
    requests=st.integers(0, 2),
    tool_calls=st.integers(0, 2),
    children=st.integers(0, 1),
    input_tokens=st.integers(0, 9),
    output_tokens=st.integers(0, 9),
    total_tokens=st.integers(0, 18),
    cost=st.integers(0, 9),
)
_limits = st.builds(
    Limits,
    **{name: st.none() | st.integers(0, 40) for name in BOUNDS if name != "cost"},
    cost=st.none() | st.integers(0, 40).map(lambda units: units / _NANO),
)


class Tree(RuleBasedStateMachine):
    """Whatever a tree of ledgers is asked for in whatever order, no limit is passed, and every count is the true one.

    The model is a list of what each ledger has open and has used.
    """

    @initialize(own=_limits)
    def begin(self, own: Limits) -> None:
        self.ledgers = [Ledger(own, "0")]
        self.limits = [own]
        self.parents: list[int | None] = [None]
        self.open: list[tuple[int, Amount]] = []
        self.used: list[list[Amount]] = [[]]
        self.over = False

    def above(self, at: int) -> list[int]:
        found: list[int] = []
        each: int | None = at
        while each is not None:
            found.append(each)
            each = self.parents[each]
        return found

    @rule(own=_limits, data=st.data())
    @precondition(lambda self: len(self.ledgers) < 6)
    def grow(self, own: Limits, data: st.DataObject) -> None:
        parent = data.draw(st.integers(0, len(self.ledgers) - 1))
        self.ledgers.append(Ledger(own, str(len(self.ledgers)), self.ledgers[parent]))
        self.limits.append(own)
        self.parents.append(parent)
        self.used.append([])

    @rule(need=_amounts, data=st.data())
    def take(self, need: Amount, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.ledgers) - 1))
        ledger = self.ledgers[at]
        refusal = ledger.refusal(need)
        fits = all(
            not getattr(need, name) or (left := ledger.left(name)) is None or getattr(need, name) <= left
            for name in BOUNDS
        )
        would = all(
            not getattr(need, name) or (left := ledger.left(name, returned=True)) is None or getattr(need, name) <= left
            for name in BOUNDS
        )
        assert (refusal is None) == fits
        if refusal is None:
            ledger.take(need)
            self.open.append((at, need))
        else:
            assert refusal.waits == would
            owner = self.ledgers[int(refusal.owner)]
            assert int(refusal.owner) in self.above(at)
            assert getattr(self.limits[int(refusal.owner)], refusal.limit) == pytest.approx(refusal.allowed)
            unit = _NANO if refusal.limit == "cost" else 1
            assert refusal.used == getattr(owner.used, refusal.limit) / unit

    @precondition(lambda self: self.open)
    @rule(data=st.data(), more=st.booleans())
    def settle(self, data: st.DataObject, more: bool) -> None:
        at, taken = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        parts = {name: data.draw(st.integers(0, getattr(taken, name))) for name in BOUNDS}
        came_to = Amount(**parts)
        if more and data.draw(st.integers(0, 9)) == 0:
            came_to += Amount(output_tokens=5, total_tokens=5)
            self.over = True
        self.ledgers[at].settle(taken, came_to)
        for each in self.above(at):
            self.used[each].append(came_to)

    @invariant()
    def the_books_are_right(self) -> None:
        for at, ledger in enumerate(getattr(self, "ledgers", ())):
            aside = sum([taken for where, taken in self.open if at in self.above(where)], start=Amount())
            assert ledger.set_aside == aside
            assert ledger.used == sum(self.used[at], start=Amount())
            for name in BOUNDS:
                allowed = getattr(self.limits[at], name)
                if allowed is not None and not self.over:
                    most = round(allowed * _NANO) if name == "cost" else allowed
                    assert getattr(ledger.used, name) + getattr(aside, name) <= most

    def teardown(self) -> None:
        """With everything given back nothing is set aside."""
        while getattr(self, "open", ()):
            at, taken = self.open.pop()
            self.ledgers[at].settle(taken, Amount())
        for ledger in getattr(self, "ledgers", ()):
            assert ledger.set_aside == Amount()
        super().teardown()


TestTree = Tree.TestCase
TestTree.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
