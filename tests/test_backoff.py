"""Restarts that wait: how long, for what, and what ends the wait."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors import (
    ActorRef,
    ActorStopped,
    ActorSystem,
    Backoff,
    BadChildSpec,
    ChildSpec,
    Report,
    Restart,
    RestartLimit,
    Strategy,
    Supervisor,
    SupervisorRef,
)
from greenroom.actors.backoff import Pace
from greenroom.testing import backend, explore

from .cast import Boom, Player, child, hang, kind, settle

pytestmark = pytest.mark.anyio

MIDDLE = 0.5


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Time is virtual: a wait costs none, and ends when it should."""
    return backend(request.param)


class TestDelay:
    """`Backoff.delay`: no clock, no dice."""

    def test_it_grows_from_the_minimum_to_the_maximum(self) -> None:
        """Scenario 32: each delay is `factor` times the one before, up to the maximum."""
        backoff = Backoff(0.5, 10, factor=3, jitter=0)
        assert [backoff.delay(n, MIDDLE) for n in range(6)] == [0.5, 1.5, 4.5, 10.0, 10.0, 10.0]

    def test_the_defaults(self) -> None:
        """As the documentation says: 0.1 s, doubled, up to 30 s, within a fifth."""
        backoff = Backoff()
        assert [backoff.delay(n, MIDDLE) for n in range(4)] == pytest.approx([0.1, 0.2, 0.4, 0.8])
        assert backoff.delay(50, MIDDLE) == 30
        assert (backoff.delay(0, 0), backoff.delay(0, 1)) == pytest.approx((0.08, 0.12))
        assert (backoff.reset, repr(backoff)) == (60, "Backoff(0.1, 30, factor=2, jitter=0.2)")

    def test_the_band_of_the_jitter_exactly(self) -> None:
        """Scenario 32: from its low end at chance 0 to its high end at chance 1, also around the maximum."""
        backoff = Backoff(1, 4, jitter=0.25)
        for attempt, middle in enumerate([1.0, 2.0, 4.0, 4.0]):
            ends = backoff.delay(attempt, 0), backoff.delay(attempt, MIDDLE), backoff.delay(attempt, 1)
            assert ends == (0.75 * middle, middle, 1.25 * middle)

    def test_the_widest_band(self) -> None:
        """A jitter of 1 is anything between nothing and the double."""
        backoff = Backoff(2, 2, jitter=1)
        assert (backoff.delay(0, 0), backoff.delay(0, 1)) == (0, 4)

    @pytest.mark.parametrize("attempt", [63, 1024, 10_000, 10**12, 10**400])
    @pytest.mark.parametrize("factor", [1.0001, 2.0, 1e6])
    def test_huge_attempts(self, attempt: int, factor: float) -> None:
        """A child that has crashed for a year waits for the maximum: nothing overflows."""
        assert Backoff(1, 1.001, factor=factor, jitter=0).delay(attempt, MIDDLE) == pytest.approx(1.001, rel=1e-3)
        assert Backoff(0.001, 86_400, factor=factor, jitter=0).delay(10 * attempt + 10**6, MIDDLE) == 86_400

    @pytest.mark.parametrize("attempt", [0, 1, 1024, 10**12])
    def test_no_growth(self, attempt: int) -> None:
        """A factor of 1 waits for the minimum each time."""
        assert Backoff(3, 60, factor=1, jitter=0).delay(attempt, MIDDLE) == 3

    @given(
        minimum=st.floats(1e-6, 1e3),
        times=st.floats(1, 1e9),
        factor=st.floats(1, 1e6),
        jitter=st.floats(0, 1),
        attempt=st.integers(0, 10**6),
        chance=st.floats(0, 1),
    )
    def test_whatever_it_is_given(
        self, minimum: float, times: float, factor: float, jitter: float, attempt: int, chance: float
    ) -> None:
        """It stays in the band, never above the maximum's, and never falls from one attempt to the next."""
        backoff = Backoff(minimum, minimum * times, factor=factor, jitter=jitter)
        delay = backoff.delay(attempt, chance)
        assert minimum * (1 - jitter) * (1 - 1e-9) <= delay <= minimum * times * (1 + jitter) * (1 + 1e-9)
        assert delay <= backoff.delay(attempt + 1, chance) * (1 + 1e-9)


class TestPace:
    """Where a child stands: the quiet time that makes it begin again."""

    @staticmethod
    def delays(pace: Pace, *crashes: float) -> list[float]:
        """The delays after crashes at these times."""
        return [pace.next_delay(now, MIDDLE) for now in crashes]

    def test_a_quiet_time_resets(self) -> None:
        """Scenario 32: a child that has lived for `reset` seconds since its restart begins at the minimum again."""
        pace = Pace(Backoff(1, 100, jitter=0, reset=60))
        # It comes back at 1, 4 and 10: the last life lasts for a minute, to the second.
        assert self.delays(pace, 0, 2, 6, 10 + 60, 72) == [1, 2, 4, 1, 2]

    def test_a_little_less_does_not(self) -> None:
        pace = Pace(Backoff(1, 100, jitter=0, reset=60))
        assert self.delays(pace, 0, 2, 6, 10 + 59.9) == [1, 2, 4, 8]

    def test_the_wait_is_no_life(self) -> None:
        """The quiet time begins with the restart, not with the crash: a delay longer than it resets nothing."""
        pace = Pace(Backoff(100, 1000, jitter=0, reset=60))
        assert self.delays(pace, 0, 101, 302) == [100, 200, 400]

    def test_a_failing_start_is_no_life(self) -> None:
        """However long it took: only a child that was ready begins at the minimum again."""
        pace = Pace(Backoff(1, 100, jitter=0, reset=60))
        assert self.delays(pace, 0) == [1]
        assert pace.next_delay(500, MIDDLE, was_ready=False) == 2
        assert self.delays(pace, 1000) == [1]

    def test_the_first_crash_is_the_first(self) -> None:
        """However long or short the child had lived before."""
        assert self.delays(Pace(Backoff(1, 9, jitter=0)), 0) == [1]
        assert self.delays(Pace(Backoff(1, 9, jitter=0)), 1e9) == [1]


class TestBadBackoffs:
    """Scenario 17: refused where it is made, with the value named."""

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda: Backoff(0), "minimum of a backoff must be above 0, not 0"),
            (lambda: Backoff(-1), "minimum of a backoff must be above 0, not -1"),
            (lambda: Backoff(math.nan), "minimum of a backoff must be above 0, not nan"),
            (lambda: Backoff("1"), "minimum of a backoff must be above 0, not '1'"),
            (lambda: Backoff(True), "minimum of a backoff must be above 0, not True"),
            (lambda: Backoff(1, 0), "maximum of a backoff must be above 0, not 0"),
            (lambda: Backoff(1, math.inf), "maximum of a backoff must be above 0, not inf"),
            (lambda: Backoff(2, 1), "maximum of a backoff must not be below its minimum of 2 s, not 1"),
            (lambda: Backoff(factor=0.5), "factor of a backoff must be 1 or more, not 0.5"),
            (lambda: Backoff(factor=math.inf), "factor of a backoff must be 1 or more, not inf"),
            (lambda: Backoff(jitter=-0.1), "jitter of a backoff must be 0 or more, not -0.1"),
            (lambda: Backoff(jitter=1.1), "jitter of a backoff must be a share between 0 and 1, not 1.1"),
            (lambda: Backoff(reset=-1), "reset of a backoff must be 0 or more, not -1"),
            (lambda: Backoff(reset=None), "reset of a backoff must be 0 or more, not None"),
        ],
    )
    def test_refused(self, make: Callable[[], object], words: str) -> None:
        with pytest.raises(BadChildSpec, match=words):
            make()


class Clocked:
    """A group of children that note when they start and when they are gone."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def spec(
        self,
        id: str,
        *,
        restart: Restart = "transient",
        backoff: Backoff | None = None,
        beginning: Callable[[Any], Any] | None = None,
        **options: Any,
    ) -> ChildSpec:
        """The specification of such a child."""

        async def note(context: Any) -> None:
            self.lines.append(f"{anyio.current_time():g}: {id} starts")
            if beginning is not None:
                await beginning(context)

        def end(_context: Any) -> None:
            self.lines.append(f"{anyio.current_time():g}: {id} gone")

        return ChildSpec(
            id, lambda: Player(id, beginning=note, ending=end), restart=restart, backoff=backoff, **options
        )

    def starts(self, id: str) -> list[float]:
        """When the child started."""
        return [float(line.partition(":")[0]) for line in self.lines if line.endswith(f" {id} starts")]

    def take(self) -> list[str]:
        """What happened since the last look."""
        lines, self.lines = self.lines, []
        return lines


@asynccontextmanager
async def group(
    children: Sequence[ChildSpec],
    strategy: Strategy = "one_for_one",
    *,
    intensity: int = 100,
    reports: list[Report] | None = None,
    chance: Callable[[], float] = lambda: MIDDLE,
) -> AsyncIterator[SupervisorRef]:
    """A supervisor with these children, in a system of its own."""
    async with ActorSystem(chance=chance, on_report=(reports if reports is not None else []).append) as system:
        yield await system.spawn(
            Supervisor(children, strategy=strategy, intensity=intensity), name="top", restart="temporary"
        )


async def crash(top: ActorRef[Any], *ids: str) -> None:
    """Have children crash in one tick, and see them end."""
    for id in ids:
        child(top, id).tell_nowait(Boom(id))
    await settle()


EXACT = Backoff(1, 8, jitter=0)


class TestWaiting:
    """A crashed child with a backoff comes back later."""

    async def test_each_restart_waits_longer(self) -> None:
        """Scenario 32: 1, 2, 4, 8, 8 seconds after a crash at once; after the quiet time 1 again."""
        clocked = Clocked()
        async with group([clocked.spec("a", backoff=EXACT)]) as top:
            for _ in range(5):
                await crash(top, "a")
                assert child(top, "a")._cell.state == "restarting"
                await anyio.sleep(9)
            starts = clocked.starts("a")
            assert starts == [0, 1, 9 + 2, 18 + 4, 27 + 8, 36 + 8]
            await anyio.sleep(60 - 1)
            await crash(top, "a")
            await anyio.sleep(1.5)
            assert clocked.starts("a")[-1] == 45 + 59 + 1

    async def test_the_first_start_waits_for_nothing(self) -> None:
        clocked = Clocked()
        async with group([clocked.spec("a", backoff=Backoff(100, 1000))]):
            assert clocked.starts("a") == [0]

    @pytest.mark.parametrize("chance", [0.0, 0.25, 0.999])
    async def test_the_jitter_comes_from_the_system(self, chance: float) -> None:
        """Scenario 32: its chance is injected, and decides where in the band."""
        clocked = Clocked()
        async with group([clocked.spec("a", backoff=Backoff(10, 10, jitter=0.5))], chance=lambda: chance) as top:
            await crash(top, "a")
            await anyio.sleep(20)
            assert clocked.starts("a")[1] == pytest.approx(10 * (0.5 + chance))

    async def test_the_chance_is_drawn_once_for_each_delay(self) -> None:
        """Scenario 32: the same generator gives the same delays; crashes without a backoff draw nothing from it."""
        delays: list[list[float]] = []
        for bystanders in (0, 3):
            clocked, reports = Clocked(), list[Report]()
            specs = [clocked.spec("a", backoff=Backoff(1, 100)), clocked.spec("b")]
            async with group(specs, reports=reports, chance=random.Random(7).random) as top:
                for _ in range(5):
                    await crash(top, "a", *["b"] * bystanders)
                    await anyio.sleep(100)
            delays.append([report.delay for report in reports if report.child == "top/a"])
        assert len(set(delays[0])) == 5
        assert delays[0] == delays[1]

    async def test_a_system_of_its_own_differs_from_others(self) -> None:
        """By default two systems do not come back in the same instant."""
        found: list[float] = []
        for _ in range(2):
            reports: list[Report] = []
            async with ActorSystem(on_report=reports.append) as system:
                await (await system.spawn(Player, backoff=Backoff())).tell(Boom("x"))
                await settle()
            found.append(reports[0].delay)
        assert found[0] != found[1]
        assert all(0.08 <= delay <= 0.12 for delay in found)

    async def test_a_spawned_actor(self) -> None:
        """`spawn(backoff=)` does the same under the root."""
        async with ActorSystem(chance=lambda: MIDDLE) as system:
            player = await system.spawn(Player, backoff=EXACT)
            await player.tell(Boom("x"))
            await anyio.sleep(0.99)
            assert player._cell.state == "restarting"
            await anyio.sleep(0.02)
            assert await player.ask("alive") == "alive"

    async def test_spawned_actors_that_are_alike(self) -> None:
        """They share a description and nothing else: the second one's first crash is its first."""
        reports: list[Report] = []
        async with ActorSystem(chance=lambda: MIDDLE, on_report=reports.append, intensity=9) as system:
            one, other = [await system.spawn(Player, backoff=EXACT) for _ in range(2)]
            for player in (one, one, other):
                await player.tell(Boom("x"))
                await anyio.sleep(3)
        assert [(report.child, report.delay) for report in reports] == [
            ("player-1", 1),
            ("player-1", 2),
            ("player-2", 1),
        ]

    async def test_a_spawned_supervisor(self) -> None:
        """A group waits like an actor when it has given up."""
        clocked = Clocked()
        async with ActorSystem(chance=lambda: MIDDLE) as system:
            top = await system.spawn(Supervisor([clocked.spec("a")], intensity=0), name="top", backoff=EXACT)
            await crash(top, "a")
            assert top.child("a") is None
            await anyio.sleep(2)
            assert clocked.take() == ["0: a starts", "0: a gone", "1: a starts"]
            assert await child(top, "a").ask("alive") == "alive"

    async def test_messages_wait_with_it(self) -> None:
        """The address and the mailbox outlive the wait: an ask is answered by the next incarnation."""
        async with group([Clocked().spec("a", backoff=EXACT)]) as top:
            await crash(top, "a")
            assert await child(top, "a").ask("are you back?") == "are you back?"
            assert anyio.current_time() == 1

    async def test_a_permanent_child_that_returns(self) -> None:
        """Its restart waits as well; so does one after a kill."""
        clocked = Clocked()
        async with group([clocked.spec("a", restart="permanent", backoff=EXACT)]) as top:
            await child(top, "a").tell("finish")
            await anyio.sleep(1.5)
            child(top, "a").kill()
            await anyio.sleep(10)
            assert clocked.starts("a") == [0, 1, 1.5 + 2]

    async def test_a_temporary_child_never_comes_back(self) -> None:
        async with group([Clocked().spec("a", restart="temporary", backoff=EXACT)]) as top:
            await crash(top, "a")
            assert top.child("a") is None

    async def test_a_start_that_fails_again_and_again(self) -> None:
        """Scenario 31: each attempt is counted and waits longer, and in the end the supervisor gives up."""
        clocked = Clocked()

        async def fail(context: Any) -> None:
            if context.restarts:
                raise Boom("cannot")

        reports: list[Report] = []
        specs = [ChildSpec("inner", Supervisor([clocked.spec("a", backoff=EXACT, beginning=fail)], period=100))]
        async with group(specs, intensity=0, reports=reports) as top:
            await crash(child(top, "inner"), "a")
            await top.wait()
            assert clocked.starts("a") == [0, 1, 3, 7]
            assert top.exit is not None
            assert isinstance(top.exit.error, RestartLimit)
        assert [report.delay for report in reports] == [1, 2, 4, 0, 0, 0]

    async def test_it_does_not_loosen_the_intensity(self) -> None:
        """Scenario 29: the restart is counted when it is decided on, whatever it waits for."""
        async with group([Clocked().spec("a", backoff=EXACT), Clocked().spec("b")], intensity=1) as top:
            await crash(top, "a")
            await crash(top, "b")
            await top.wait()
            assert top.exit is not None
            assert isinstance(top.exit.error, RestartLimit)

    async def test_several_wait_at_once(self) -> None:
        """Scenario 35: each for its own time, and nobody waits for the others."""
        clocked = Clocked()
        specs = [clocked.spec(f"c{n}", backoff=Backoff(n, n, jitter=0)) for n in (3, 1, 2)]
        async with group([*specs, clocked.spec("d")]) as top:
            clocked.take()
            await crash(top, "c3", "c1", "c2", "d")
            assert await child(top, "d").ask("alive") == "alive"
            await anyio.sleep(5)
            returned = [line for line in clocked.take() if line.endswith("starts")]
            assert returned == ["0: d starts", "1: c1 starts", "2: c2 starts", "3: c3 starts"]

    async def test_many_that_fell_over_one_thing_come_back_one_by_one(self) -> None:
        """Scenario 32: their jitter spreads them over the band."""
        clocked = Clocked()
        specs = [clocked.spec(f"c{n}", backoff=Backoff(10, 10)) for n in range(100)]
        async with group(specs, chance=random.Random(1).random) as top:
            await crash(top, *(f"c{n}" for n in range(100)))
            await anyio.sleep(13)
            returned = [clocked.starts(f"c{n}")[1] for n in range(100)]
            assert all(8 <= when <= 12 for when in returned)
            assert len(set(returned)) == 100


class TestEndOfTheWait:
    """What ends the wait before its time."""

    async def test_a_stop_ends_a_transient_child_at_once(self) -> None:
        """Scenario 32: it does not come back, and whoever waits for its end or an answer hears of it."""
        clocked = Clocked()
        async with group([clocked.spec("a", backoff=EXACT)]) as top, anyio.create_task_group() as tasks:
            a = child(top, "a")
            await crash(top, "a")

            async def ask() -> None:
                with pytest.raises(ActorStopped):
                    await a.ask("question")

            tasks.start_soon(ask)
            await settle()
            await a.stop()
            assert ((await a.wait()).kind, top.child("a"), anyio.current_time()) == ("shutdown", None, 0)
            await anyio.sleep(5)
            assert clocked.starts("a") == [0]

    async def test_a_permanent_child_comes_back_all_the_same(self) -> None:
        """At its time: a stop of what is down neither hastens nor hinders it."""
        clocked = Clocked()
        async with group([clocked.spec("a", restart="permanent", backoff=EXACT)]) as top:
            await crash(top, "a")
            await child(top, "a").stop()
            await child(top, "a").kill()
            await anyio.sleep(5)
            assert clocked.starts("a") == [0, 1]
            assert child(top, "a").alive

    async def test_a_kill_has_nothing_to_kill(self) -> None:
        """A transient child comes back after a kill; so it does after one in the wait, at its time."""
        clocked = Clocked()
        async with group([clocked.spec("a", backoff=EXACT)]) as top:
            await crash(top, "a")
            await child(top, "a").kill()
            await anyio.sleep(5)
            assert clocked.starts("a") == [0, 1]
            assert await child(top, "a").ask("alive") == "alive"

    @pytest.mark.parametrize("restart", ["permanent", "transient"])
    async def test_the_end_of_the_supervisor(self, restart: Restart) -> None:
        """Scenario 36: its stop does not wait for the child, which has then ended for good."""
        clocked = Clocked()
        async with group([clocked.spec("a", restart=restart, backoff=EXACT), clocked.spec("b")]) as top:
            a = child(top, "a")
            await crash(top, "a")
            await top.stop()
            assert (anyio.current_time(), kind(a)) == (0, "shutdown")
            await anyio.sleep(5)
            assert clocked.starts("a") == [0]

    async def test_the_kill_of_the_supervisor(self) -> None:
        async with group([Clocked().spec("a", backoff=EXACT)]) as top:
            a = child(top, "a")
            await crash(top, "a")
            await top.kill()
            assert (kind(top), kind(a)) == ("killed", "killed")

    async def test_the_end_of_the_system(self) -> None:
        """It closes at once, and nothing comes back."""
        clocked = Clocked()
        async with group([clocked.spec("a", restart="permanent", backoff=EXACT)]) as top:
            a = child(top, "a")
            await crash(top, "a")
        assert (anyio.current_time(), kind(a), clocked.starts("a")) == (0, "shutdown", [0])

    async def test_a_restart_of_the_supervisor(self) -> None:
        """The timers of the last incarnation start nothing in the next one."""
        clocked = Clocked()
        inner = Supervisor([clocked.spec("a", backoff=EXACT), clocked.spec("b")], intensity=1)
        async with group([ChildSpec("inner", inner)]) as top:
            await crash(child(top, "inner"), "a")
            await anyio.sleep(0.5)
            await crash(child(top, "inner"), "b")
            await anyio.sleep(5)
            assert clocked.starts("a") == [0, 0.5]
            assert await child(child(top, "inner"), "a").ask("alive") == "alive"

    async def test_the_supervisor_goes_on_meanwhile(self) -> None:
        """Scenario 32: it starts and stops others while one waits."""
        clocked = Clocked()
        async with group([clocked.spec("a", backoff=EXACT)]) as top:
            await crash(top, "a")
            assert await (await top.start_child(clocked.spec("b"))).ask("alive") == "alive"
            assert await top.stop_child("b")
            assert anyio.current_time() == 0


class TestIdsThatWereFreed:
    """A child that is stopped for good while it waits leaves nothing behind that its successor would trip over."""

    @pytest.mark.parametrize("how", ["stop_child", "stop"])
    @pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
    @pytest.mark.parametrize("at", [0.5, 2.0])
    async def test_its_successor_is_restarted_when_it_crashes(self, strategy: Strategy, how: str, at: float) -> None:
        """Whether it takes the id before or after the time at which the first one was to come back."""
        clocked = Clocked()
        async with group([clocked.spec("a", backoff=EXACT)], strategy) as top:
            await crash(top, "a")
            if how == "stop":
                await child(top, "a").stop()
            else:
                assert await top.stop_child("a")
            await anyio.sleep(at)
            await top.start_child(clocked.spec("a"))
            await anyio.sleep(2)
            await crash(top, "a")
            with anyio.fail_after(10):
                assert await child(top, "a").ask("alive") == "alive"
            assert clocked.starts("a") == [0, at, at + 2]

    @pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
    async def test_a_sibling_that_was_to_come_back_with_it(self, strategy: Strategy) -> None:
        """The same for a child that is down because its group waits."""
        clocked = Clocked()
        async with group([clocked.spec("a", backoff=EXACT), clocked.spec("b")], strategy) as top:
            await crash(top, "a")
            assert await top.stop_child("b")
            await anyio.sleep(2)
            await top.start_child(clocked.spec("b"))
            await crash(top, "b")
            with anyio.fail_after(10):
                assert await child(top, "b").ask("alive") == "alive"


class TestGroups:
    """A backoff in a group: the group is down meanwhile."""

    async def test_one_for_all(self) -> None:
        """The others stop at once, in reverse; all come back in order when the time has come."""
        clocked = Clocked()
        specs = [clocked.spec("a"), clocked.spec("b", backoff=EXACT), clocked.spec("c")]
        async with group(specs, "one_for_all") as top:
            clocked.take()
            await crash(top, "b")
            assert [child(top, id)._cell.state for id in "abc"] == ["restarting"] * 3
            await anyio.sleep(3)
            assert clocked.take() == [
                *("0: b gone", "0: c gone", "0: a gone"),
                *("1: a starts", "1: b starts", "1: c starts"),
            ]

    async def test_rest_for_one(self) -> None:
        """Those started before it live on."""
        clocked = Clocked()
        specs = [clocked.spec("a"), clocked.spec("b", backoff=EXACT), clocked.spec("c")]
        async with group(specs, "rest_for_one") as top:
            clocked.take()
            await crash(top, "b")
            assert await child(top, "a").ask("alive") == "alive"
            await anyio.sleep(3)
            assert clocked.take() == ["0: b gone", "0: c gone", "1: b starts", "1: c starts"]

    async def test_a_temporary_bystander(self) -> None:
        """Scenario 28: it is forgotten at once, not when the others come back."""
        clocked = Clocked()
        specs = [clocked.spec("a", backoff=EXACT), clocked.spec("b", restart="temporary")]
        async with group(specs, "one_for_all") as top:
            b = child(top, "b")
            await crash(top, "a")
            assert (top.child("b"), b.alive) == (None, False)
            await anyio.sleep(2)
            assert clocked.starts("a") == [0, 1]

    async def test_an_earlier_sibling_crashes_meanwhile(self) -> None:
        """Its restart covers the one that waits: nothing starts twice, and what was planned before is off."""
        clocked = Clocked()
        specs = [clocked.spec("a"), clocked.spec("b", backoff=Backoff(5, 5, jitter=0)), clocked.spec("c")]
        async with group(specs, "rest_for_one") as top:
            await crash(top, "b")
            await anyio.sleep(1)
            clocked.take()
            await crash(top, "a")
            assert clocked.take() == ["1: a gone", "1: a starts", "1: b starts", "1: c starts"]
            await anyio.sleep(10)
            assert clocked.take() == []

    async def test_an_earlier_sibling_with_a_longer_wait(self) -> None:
        """All come back at the later time, the time of the one that comes first in the order."""
        clocked = Clocked()
        specs = [
            clocked.spec("a", backoff=Backoff(9, 9, jitter=0)),
            clocked.spec("b", backoff=Backoff(5, 5, jitter=0)),
        ]
        async with group(specs, "rest_for_one") as top:
            await crash(top, "b")
            await anyio.sleep(1)
            clocked.take()
            await crash(top, "a")
            await anyio.sleep(20)
            assert clocked.take() == ["1: a gone", "10: a starts", "10: b starts"]

    async def test_both_crash_in_one_tick(self) -> None:
        """Scenario 35: the second end is part of the first one's restart."""
        clocked = Clocked()
        async with group([clocked.spec(id, backoff=EXACT) for id in "ab"], "one_for_all") as top:
            clocked.take()
            await crash(top, "a", "b")
            await anyio.sleep(5)
            assert clocked.take()[2:] == ["1: a starts", "1: b starts"]

    @pytest.mark.parametrize("order", ["ab", "ba"])
    @pytest.mark.parametrize("others", ["", "c"])
    async def test_two_with_different_waits_crash_in_one_tick(self, order: str, others: str) -> None:
        """Scenario 35: none of those that come back with the earlier sibling starts before it."""
        clocked = Clocked()
        specs = [
            clocked.spec("a", backoff=Backoff(9, 9, jitter=0)),
            clocked.spec("b", backoff=EXACT),
            *(clocked.spec(id) for id in others),
        ]
        async with group(specs, "rest_for_one") as top:
            clocked.take()
            await crash(top, *order)
            await anyio.sleep(20)
            returned = [line for line in clocked.take() if line.endswith("starts")]
            assert returned == [f"9: {id} starts" for id in "ab" + others]

    async def test_a_child_that_is_added_meanwhile(self) -> None:
        """It is started at once, and is no part of the restart that was decided before it came."""
        clocked = Clocked()
        async with group([clocked.spec("a", backoff=EXACT)], "one_for_all") as top:
            await crash(top, "a")
            clocked.take()
            await top.start_child(clocked.spec("new"))
            await anyio.sleep(5)
            assert clocked.take() == ["0: new starts", "1: a starts"]

    async def test_two_restarts_that_do_not_concern_each_other(self) -> None:
        """A wait that is over while another part of the group comes back slowly keeps nobody down."""
        clocked = Clocked()

        async def slowly(context: Any) -> None:
            await anyio.sleep(1 if context.restarts else 0)

        async with group([clocked.spec("a", backoff=EXACT)], "rest_for_one") as top:
            await crash(top, "a")
            await top.start_child(clocked.spec("b", beginning=slowly))
            await top.start_child(clocked.spec("c"))
            await anyio.sleep(0.5)
            await crash(top, "b")
            await anyio.sleep(5)
            assert [child(top, id)._cell.state for id in "abc"] == ["running"] * 3
            assert [clocked.starts(id)[-1] for id in "abc"] == [1.5, 0.5, 1.5]

    async def test_a_group_that_hangs_on_its_way_down(self) -> None:
        """The time runs from the crash: what takes longer to stop is waited for, then all start."""
        clocked = Clocked()
        specs = [
            clocked.spec("a", backoff=EXACT),
            ChildSpec("slow", lambda: Player("slow", clocked.lines, ending=hang), shutdown=3),
        ]
        async with group(specs, "one_for_all") as top:
            await crash(top, "a")
            await anyio.sleep(2)
            assert clocked.starts("a") == [0]
            await anyio.sleep(2)
            assert clocked.starts("a") == [0, 3]


def test_random_crashes_in_any_schedule(seeds: range) -> None:
    """Scenarios 30, 35, 36: whatever crashes whenever, in the end each child runs once, or all is over."""
    for strategy in ("one_for_one", "one_for_all", "rest_for_one"):

        async def scenario(strategy: Strategy = strategy) -> None:
            dice = random.Random(11)
            living: list[str] = []

            def spec(id: str, backoff: Backoff | None) -> ChildSpec:
                def born(_context: Any) -> None:
                    assert id not in living
                    living.append(id)

                def gone(_context: Any) -> None:
                    living.remove(id)

                return ChildSpec(id, lambda: Player(id, beginning=born, ending=gone), backoff=backoff)

            specs = [
                spec(id, backoff) for id, backoff in zip("abcd", [EXACT, None, Backoff(0.3, 2), None], strict=True)
            ]
            async with group(specs, strategy, chance=dice.random) as top:
                for _ in range(12):
                    for id in dice.sample("abcd", dice.randint(1, 2)):
                        child(top, id).tell_nowait(Boom(id))
                    await anyio.sleep(dice.choice([0, 0.1, 1, 3]))
                await anyio.sleep(100)
                assert sorted(living) == list("abcd")
                assert [await child(top, id).ask(id) for id in "abcd"] == list("abcd")
            assert living == []

        explore(scenario, seeds=seeds[:20])
