"""Who is restarted when a child ends: the whole of `decide`, without a task or a clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors import Exit, ExitKind, Restart, Strategy
from greenroom.actors.restart import Child, Forget, GiveUp, Intensity, RestartGroup, decide

CRASH = Exit("crashed", ValueError("boom"))

KINDS: list[ExitKind] = ["normal", "shutdown", "killed", "crashed"]
RESTARTED: dict[Restart, set[ExitKind]] = {
    "permanent": {"normal", "shutdown", "killed", "crashed"},
    "transient": {"killed", "crashed"},
    "temporary": set(),
}


def family(**restarts: Restart) -> list[Child]:
    """Children in start order, by id and restart type."""
    return [Child(id, restart) for id, restart in restarts.items()]


def plan_for(strategy: Strategy, children: list[Child], id: str, exit: Exit = CRASH) -> object:
    """What is decided for the end of the child `id`, with restarts to spare."""
    child = next(each for each in children if each.id == id)
    return decide(strategy, children, Intensity(10, 5.0), child, exit, 0.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("restart", RESTARTED)
def test_restart_type_by_exit(restart: Restart, kind: ExitKind) -> None:
    """Scenario 27: the whole table of restart type and exit."""
    plan = plan_for("one_for_one", family(a=restart), "a", Exit(kind))
    expected = RestartGroup((), ("a",)) if kind in RESTARTED[restart] else Forget()
    assert plan == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("restart", RESTARTED)
def test_a_dismissed_child(restart: Restart, kind: ExitKind) -> None:
    """Once it was asked to stop only a permanent child returns, even if it was killed or crashed over it."""
    child = Child("a", restart, dismissed=True)
    assert child.returns_after(Exit(kind)) is (restart == "permanent")


class TestStrategies:
    """Whom a restart concerns, and in which order."""

    def test_one_for_one(self) -> None:
        """Scenario 24: the child alone."""
        children = family(a="permanent", b="permanent", c="permanent")
        assert plan_for("one_for_one", children, "b") == RestartGroup((), ("b",))

    def test_one_for_all(self) -> None:
        """Scenario 25: the others stop in reverse start order, then all start in start order."""
        children = family(a="permanent", b="transient", c="permanent")
        assert plan_for("one_for_all", children, "b") == RestartGroup(("c", "a"), ("a", "b", "c"))

    def test_rest_for_one(self) -> None:
        """Scenario 26: those started after it stop in reverse order and start again with it."""
        children = family(a="permanent", b="permanent", c="permanent", d="permanent")
        assert plan_for("rest_for_one", children, "b") == RestartGroup(("d", "c"), ("b", "c", "d"))

    def test_a_temporary_bystander_stays_dead(self) -> None:
        """Scenario 28: it is stopped with the group, forgotten, and not started."""
        children = family(a="permanent", b="temporary", c="permanent")
        assert plan_for("one_for_all", children, "a") == RestartGroup(("c", "b"), ("a", "c"), forget=("b",))
        assert plan_for("rest_for_one", children, "c") == RestartGroup((), ("c",))

    def test_an_end_that_is_no_failure_leaves_the_group_alone(self) -> None:
        """A transient child that returned takes nobody with it and counts nothing."""
        intensity = Intensity(0, 5.0)
        children = family(a="transient", b="permanent")
        assert decide("one_for_all", children, intensity, children[0], Exit("normal"), 0.0) == Forget()
        assert not intensity.stamps


class TestIntensity:
    """Scenario 29: at most `intensity` restarts in a sliding window of `period` seconds."""

    @staticmethod
    def _decide(intensity: Intensity, now: float, id: str = "a") -> bool:
        child = Child(id, "permanent")
        return not isinstance(decide("one_for_one", (), intensity, child, CRASH, now), GiveUp)

    def test_one_more_than_allowed_gives_up(self) -> None:
        """R crashes inside the window restart, the next does not."""
        intensity = Intensity(3, 5.0)
        assert [self._decide(intensity, now) for now in (0.0, 1.0, 2.0, 3.0)] == [True, True, True, False]

    def test_the_boundary_belongs_to_the_window(self) -> None:
        """A restart exactly `period` seconds ago still counts; a moment later it does not."""
        at_the_boundary, after = Intensity(1, 5.0), Intensity(1, 5.0)
        assert [self._decide(at_the_boundary, now) for now in (0.0, 5.0)] == [True, False]
        assert [self._decide(after, now) for now in (0.0, 5.000001)] == [True, True]

    def test_the_window_slides(self) -> None:
        """Crashes that are spread out are restarted for ever."""
        intensity = Intensity(2, 5.0)
        assert all(self._decide(intensity, now * 2.6) for now in range(100))
        assert len(intensity.stamps) <= 2

    def test_zero_restarts_nothing(self) -> None:
        """Zero means zero."""
        assert not self._decide(Intensity(0, 5.0), 0.0)

    def test_it_is_the_supervisors_and_not_the_childs(self) -> None:
        """Scenario 30: different children that crash once each exceed it together."""
        intensity = Intensity(2, 5.0)
        assert [self._decide(intensity, 0.0, id) for id in ("a", "b", "c")] == [True, True, False]

    def test_a_group_restart_counts_once(self) -> None:
        """However many children it concerns."""
        intensity = Intensity(1, 5.0)
        children = family(a="permanent", b="permanent", c="permanent")
        decide("one_for_all", children, intensity, children[0], CRASH, 0.0)
        assert len(intensity.stamps) == 1

    @given(
        limit=st.integers(0, 4),
        period=st.sampled_from([1.0, 2.5]),
        gaps=st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.5, 3.0]), max_size=20),
    )
    def test_against_counting_by_hand(self, limit: int, period: float, gaps: list[float]) -> None:
        """Any history: allowed is what leaves at most `limit` restarts in the `period` before."""
        intensity, now, history = Intensity(limit, period), 0.0, list[float]()
        for gap in gaps:
            now += gap
            history.append(now)
            recent = [stamp for stamp in history if now - stamp <= period]
            assert intensity.allows(now) is (len(recent) <= limit)


@given(
    strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
    restarts=st.lists(st.sampled_from(["permanent", "transient", "temporary"]), min_size=1, max_size=6),
    data=st.data(),
)
def test_any_plan_is_in_order_and_complete(strategy: Strategy, restarts: list[Restart], data: st.DataObject) -> None:
    """Stops go from right to left, starts from left to right; who is stopped is started or forgotten; no one twice."""
    children = [Child(str(n), restart) for n, restart in enumerate(restarts)]
    child = data.draw(st.sampled_from(children))
    plan = decide(strategy, children, Intensity(1, 1.0), child, CRASH, 0.0)
    if child.restart == "temporary":
        assert plan == Forget()
        return
    assert isinstance(plan, RestartGroup)
    assert list(plan.stop) == sorted(plan.stop, reverse=True)
    assert list(plan.start) == sorted(plan.start)
    assert child.id in plan.start
    assert set(plan.stop) | {child.id} == set(plan.start) | set(plan.forget)
    assert not set(plan.start) & set(plan.forget)
