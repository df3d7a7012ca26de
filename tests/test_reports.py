"""What supervisors report: which ends and which not, to whom, and how often that is logged."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from greenroom import System
from greenroom.actors import (
    ActorRef,
    ActorSystem,
    Backoff,
    ChildSpec,
    Exit,
    Report,
    RestartLimit,
    StartFailed,
    Strategy,
    Supervisor,
    SupervisorRef,
)
from greenroom.actors.reports import LOGGED, WINDOW, Reports
from greenroom.testing import backend, explore

from .cast import Boom, Player, child, hang, kind, settle

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Time is virtual: a wait costs none, and ends when it should."""
    return backend(request.param)


def player(id: str, **options: Any) -> ChildSpec:
    """The specification of a player; `beginning` and `ending` are its own."""
    own = {name: options.pop(name) for name in ("beginning", "ending") if name in options}
    return ChildSpec(id, lambda: Player(id, **own), **options)


@asynccontextmanager
async def group(
    children: Sequence[ChildSpec], reports: list[Report], strategy: Strategy = "one_for_one", intensity: int = 100
) -> AsyncIterator[SupervisorRef]:
    """A supervisor with these children, in a system that reports to a list."""
    async with ActorSystem(on_report=reports.append, chance=lambda: 0.5) as system:
        yield await system.spawn(
            Supervisor(children, strategy=strategy, intensity=intensity), name="top", restart="temporary"
        )


def words(reports: list[Report]) -> list[str]:
    """The reports, by kind, supervisor and child."""
    return [f"{report.kind} {report.supervisor} {report.child}" for report in reports]


async def crash(top: ActorRef[Any], *ids: str) -> None:
    """Have children crash in one tick, and see them end."""
    for id in ids:
        child(top, id).tell_nowait(Boom(id))
    await settle()


class TestWhichEnds:
    """Each bad end is one report; an orderly one is none."""

    async def test_a_crash_that_is_repaired(self) -> None:
        """It says who, whose child, how, and that it is started again."""
        reports: list[Report] = []
        async with group([player("a")], reports) as top:
            await crash(top, "a")
        (report,) = reports
        assert isinstance(report.exit.error, Boom)
        assert report == Report("child_ended", "top", "top/a", report.exit, restarts=True, delay=0.0)

    async def test_a_crash_that_waits_for_its_restart(self) -> None:
        """It says for how long."""
        reports: list[Report] = []
        async with group([player("a", backoff=Backoff(4, jitter=0))], reports) as top:
            await crash(top, "a")
        assert [(report.restarts, report.delay) for report in reports] == [(True, 4.0)]

    async def test_a_crash_that_is_final(self) -> None:
        reports: list[Report] = []
        async with group([player("a", restart="temporary")], reports) as top:
            await crash(top, "a")
        assert [(report.kind, report.child, report.restarts) for report in reports] == [("child_ended", "top/a", False)]

    @pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
    async def test_a_kill(self, restart: Any) -> None:
        """Somebody killed it: that is no order."""
        reports: list[Report] = []
        async with group([player("a", restart=restart)], reports) as top:
            await child(top, "a").kill()
            await settle()
        assert [(report.kind, report.exit.kind, report.restarts) for report in reports] == [
            ("child_ended", "killed", restart != "temporary")
        ]

    async def test_a_permanent_child_that_returns(self) -> None:
        """It was not to end at all."""
        reports: list[Report] = []
        async with group([player("a", restart="permanent")], reports) as top:
            await child(top, "a").tell("finish")
            await settle()
        assert [(report.kind, report.exit.kind, report.restarts) for report in reports] == [
            ("child_ended", "normal", True)
        ]

    @pytest.mark.parametrize(
        ("restart", "how"),
        [("transient", "finish"), ("temporary", "finish"), *((each, "stop") for each in ("permanent", "transient"))],
    )
    async def test_an_orderly_end(self, restart: Any, how: str) -> None:
        """A return of one that may, and a stop that somebody asked for: nothing to report."""
        reports: list[Report] = []
        async with group([player("a", restart=restart)], reports) as top:
            if how == "stop":
                await child(top, "a").stop()
            else:
                await child(top, "a").tell("finish")
            await settle()
        assert reports == []

    async def test_the_stop_of_a_tree(self) -> None:
        """Stopping everything, with groups in groups, reports nothing."""
        reports: list[Report] = []
        inner = Supervisor([player(id, restart="permanent") for id in "xyz"], strategy="one_for_all")
        async with group([player("a", restart="permanent"), ChildSpec("inner", inner)], reports) as top:
            await top.stop()
        assert reports == []

    async def test_children_that_are_killed_as_agreed(self) -> None:
        """``shutdown="kill"`` is how that child is stopped, also with its group."""
        reports: list[Report] = []
        async with group([player("a"), player("b", shutdown="kill")], reports, "one_for_all") as top:
            await crash(top, "a")
            await top.stop_child("b")
            await top.stop()
        assert words(reports) == ["child_ended top top/a"]

    async def test_a_child_that_does_not_listen(self) -> None:
        """Scenario 39: it had to be killed while it was being stopped; those that obeyed are no news."""
        reports: list[Report] = []
        async with group([player("a"), player("b", ending=hang, shutdown=1)], reports) as top:
            await top.stop()
        assert words(reports) == ["shutdown_error top top/b"]
        assert (reports[0].exit.kind, reports[0].restarts) == ("killed", False)

    async def test_a_child_that_crashes_while_it_is_stopped(self) -> None:
        def fail(_context: Any) -> None:
            raise Boom("at the end")

        reports: list[Report] = []
        async with group([player("a", ending=fail, restart="permanent")], reports) as top:
            await top.stop()
        assert words(reports) == ["shutdown_error top top/a"]
        assert str(reports[0].exit) == "crashed: Boom: at the end"

    async def test_too_many_restarts(self) -> None:
        """Scenario 33: the supervisor that gives up says over whom, its parent says what it makes of that."""
        reports: list[Report] = []
        inner = Supervisor([player("a"), player("b")], intensity=1)
        async with group([ChildSpec("inner", inner)], reports) as top:
            for id in "ab":
                await crash(child(top, "inner"), id)
        assert words(reports) == [
            "child_ended top/inner top/inner/a",
            "gave_up top/inner top/inner/b",
            "child_ended top top/inner",
        ]
        assert [report.restarts for report in reports] == [True, False, True]
        error = reports[2].exit.error
        assert isinstance(error, RestartLimit)
        assert error.__cause__ is reports[1].exit.error

    async def test_the_system_gives_up(self) -> None:
        """Its root has no name."""
        reports: list[Report] = []
        with pytest.raises(RestartLimit):
            async with ActorSystem(on_report=reports.append, intensity=0, name="shop") as system:
                await (await system.spawn(Player, name="a")).tell(Boom("x"))
                await anyio.sleep(1)
        assert words(reports) == ["gave_up the system a"]

    async def test_a_child_that_did_not_start(self) -> None:
        """Whoever wanted it gets the error; a restart that fails is reported, for nobody else hears of it."""

        def fail(context: Any) -> None:
            if context.restarts == wrong[0]:
                raise Boom("cannot")

        wrong = [0]
        reports: list[Report] = []
        async with group([], reports) as top:
            with pytest.raises(StartFailed):
                await top.start_child(player("a", beginning=fail))
            assert reports == []
            wrong[0] = 1
            await top.start_child(player("a", beginning=fail))
            await crash(top, "a")
            assert [str(report.exit) for report in reports] == ["crashed: Boom: a", "crashed: Boom: cannot"]
            assert child(top, "a").alive


class TestTogether:
    """Scenario 35: several ends in one tick."""

    def test_in_one_group(self, seeds: range) -> None:
        """Scenario 35: the first is the crash, the second happened while it was to be stopped; both are told."""

        async def scenario() -> None:
            reports: list[Report] = []
            async with group([player(id) for id in "abc"], reports, "one_for_all", intensity=1) as top:
                now = anyio.Event()

                async def fail(_context: Any) -> None:
                    await now.wait()
                    raise Boom("together")

                for id in "ac":
                    child(top, id).tell_nowait(fail)
                await settle()
                now.set()
                await anyio.sleep(1)
                assert sorted(report.child for report in reports) == ["top/a", "top/c"]
                assert [report.kind for report in reports] == ["child_ended", "shutdown_error"]
                assert all(isinstance(report.exit.error, Boom) for report in reports)
                assert [child(top, id)._cell.restarts for id in "abc"] == [1, 1, 1]

        explore(scenario, seeds=seeds[:20])

    async def test_one_for_one(self) -> None:
        """Scenario 35: each is a crash of its own, and each restart counts."""
        reports: list[Report] = []
        async with group([player(id) for id in "abc"], reports, intensity=2) as top:
            await crash(top, "a", "c")
            assert words(reports) == ["child_ended top top/a", "child_ended top top/c"] or words(reports) == [
                "child_ended top top/c",
                "child_ended top top/a",
            ]
            await crash(top, "b")
            assert kind(top) == "crashed"

    async def test_beside_the_one_that_is_too_many(self) -> None:
        """Scenario 35: what crashes after the supervisor has given up is reported too."""
        reports: list[Report] = []
        async with group([player(id) for id in "abc"], reports, intensity=0) as top:
            await crash(top, "a", "b", "c")
        assert sorted(report.child for report in reports[:3]) == ["top/a", "top/b", "top/c"]
        assert [report.kind for report in reports] == ["gave_up", "shutdown_error", "shutdown_error", "child_ended"]


class TestCancellation:
    """Scenario 34: what is cancelled with everything around it has not failed."""

    @pytest.mark.parametrize("intensity", [0, 100])
    async def test_of_the_block(self, intensity: int) -> None:
        """Scenario 34: no report, no restart, no giving up; the cancellation is what leaves the block."""
        reports: list[Report] = []
        with anyio.CancelScope() as scope:
            async with group([player(id, restart="permanent") for id in "abc"], reports, intensity=intensity) as top:
                refs = [child(top, id) for id in "abc"]
                await refs[0].tell("hang")
                await settle()
                scope.cancel()
                await settle()
        assert scope.cancelled_caught
        assert reports == []
        assert [kind(ref) for ref in (*refs, top)] == ["killed"] * 4

    async def test_of_a_supervisor_that_was_killed(self) -> None:
        """The kill is reported once, of the supervisor; its children went with it."""
        reports: list[Report] = []
        async with group([player(id, restart="permanent") for id in "abc"], reports) as top:
            await top.kill()
        assert words(reports) == ["child_ended the system top"]

    async def test_of_the_one_that_asked(self) -> None:
        """Scenario 34: a timeout around an `ask` concerns the asker alone."""
        reports: list[Report] = []
        async with group([player("a")], reports) as top:
            with anyio.move_on_after(1):
                await child(top, "a").ask(lambda _context: anyio.sleep(2))
            await anyio.sleep(2)
            assert child(top, "a")._cell.restarts == 0
        assert reports == []

    async def test_raised_without_a_scope(self, anyio_backend_name: str) -> None:
        """Scenario 34: an actor that raises the backend's cancelled exception by itself has crashed."""
        reports: list[Report] = []

        async def stray(_context: Any) -> None:
            with anyio.CancelScope() as scope:
                scope.cancel()
                try:
                    await anyio.sleep(1)
                except BaseException as error:
                    caught.append(error)
                    raise
            raise caught[0]

        caught: list[BaseException] = []
        async with group([player("a")], reports) as top:
            await child(top, "a").tell(stray)
            await settle()
            assert await child(top, "a").ask("alive") == "alive"
        assert [(report.kind, report.exit.kind, report.restarts) for report in reports] == [
            ("child_ended", "crashed", True)
        ]


class TestTelling:
    """`on_report=`."""

    async def test_one_that_raises(self, caplog: pytest.LogCaptureFixture) -> None:
        """What it raises is logged; the supervisor does its work."""

        def tell(report: Report) -> None:
            told.append(report)
            raise RuntimeError("deaf")

        told: list[Report] = []
        async with ActorSystem(on_report=tell) as system:
            player = await system.spawn(Player)
            await player.tell(Boom("x"))
            assert await player.ask("alive") == "alive"
        assert len(told) == 1
        failures = [record for record in caplog.records if record.getMessage() == "on_report= raised"]
        assert [str(record.exc_info[1]) for record in failures if record.exc_info] == ["deaf"]

    async def test_of_an_agents_system(self) -> None:
        """`System` passes it on, and refuses what is no function."""
        reports: list[Report] = []
        async with System(on_report=reports.append) as system:
            await (await system.spawn(Player, name="a")).tell(Boom("x"))
            await settle()
        assert words(reports) == ["child_ended the system a"]
        with pytest.raises(TypeError, match="on_report= takes a plain function, not 7"):
            System(on_report=7)  # type: ignore[arg-type]

    async def test_it_may_use_the_system(self) -> None:
        """It is called in the event loop: sending a message is what it is good for."""
        seen: list[str] = []

        def tell(report: Report) -> None:
            watcher.tell_nowait(report.child)

        class Watcher(Player):
            async def receive(self, message: Any, context: Any) -> None:
                seen.append(message)

        async with ActorSystem(on_report=tell) as system:
            watcher = await system.spawn(Watcher)
            await (await system.spawn(Player, name="a")).tell(Boom("x"))
            await settle()
        assert seen == ["a"]

    async def test_it_is_told_of_all(self) -> None:
        """The limit is the log's."""
        reports: list[Report] = []
        async with group([player("a")], reports) as top:
            for _ in range(50):
                await crash(top, "a")
        assert len(reports) == 50


class TestLog:
    """Reports in the log, whether somebody is told or not."""

    async def test_a_line_says_what_happened_and_what_follows(self, caplog: pytest.LogCaptureFixture) -> None:
        """With the crash and its traceback."""
        async with ActorSystem() as system:
            a = await system.spawn(Player, name="a", backoff=Backoff(2, jitter=0))
            await a.tell(Boom("x"))
            await settle()
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert (record.name, record.getMessage()) == (
            "greenroom",
            "'a' ended (crashed: Boom: x); it is started again in 2 s",
        )
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], Boom)
        assert "Boom: x" in caplog.text

    async def test_causes_are_in_it(self, caplog: pytest.LogCaptureFixture) -> None:
        """The traceback shows the chain: why a supervisor gave up is the crash of a child."""
        inner = Supervisor([player("a")], intensity=0)
        async with group([ChildSpec("inner", inner)], []) as top:
            await crash(child(top, "inner"), "a")
        last = caplog.text[caplog.text.index("'top/inner' ended (") :]
        assert last.index("cast.Boom: a") < last.index("The above exception was the direct cause")
        assert "RestartLimit: supervisor 'top/inner' gave up" in last

    @pytest.mark.parametrize(
        ("report", "line"),
        [
            (Report("child_ended", "s", "c", Exit("killed")), "'c' ended (killed); it is not started again"),
            (Report("child_ended", "s", "c", Exit("normal"), True), "'c' ended (normal); it is started again"),
            (
                Report("child_ended", "s", "c", Exit("killed"), True, 1.23456),
                "'c' ended (killed); it is started again in 1.23 s",
            ),
            (
                Report("shutdown_error", "s", "c", Exit("killed", reason="shutdown")),
                "'c' did not stop in order (killed (shutdown)); it is not started again",
            ),
            (
                Report("gave_up", "s", "c", Exit("crashed", Boom("x"))),
                "'c' ended once too often (crashed: Boom: x); the supervisor gives up",
            ),
        ],
    )
    def test_the_words(self, report: Report, line: str, caplog: pytest.LogCaptureFixture) -> None:
        """One line for each kind of end and what follows."""
        assert str(report) == line
        Reports().add(report, 0.0)
        assert [record.getMessage() for record in caplog.records] == [line]

    def test_no_more_than_ten_in_a_second(self, caplog: pytest.LogCaptureFixture) -> None:
        """The next one that is logged says how many were not, and so on; all are told."""
        told: list[Report] = []
        reports = Reports(told.append)
        for n in range(35):
            reports.add(Report("child_ended", "s", f"c{n}", Exit("killed")), 100.0 + n / 100)
        assert [record.getMessage().partition(" ")[0] for record in caplog.records] == [
            f"'c{n}'" for n in range(LOGGED)
        ]
        caplog.clear()
        reports.add(Report("child_ended", "s", "later", Exit("killed")), 100.0 + WINDOW)
        reports.add(Report("child_ended", "s", "last", Exit("killed")), 100.0 + WINDOW)
        assert [record.getMessage() for record in caplog.records] == [
            "'later' ended (killed); it is not started again (25 reports before it were not logged)",
            "'last' ended (killed); it is not started again",
        ]
        assert len(told) == 37

    async def test_a_tight_loop_of_crashes(self, caplog: pytest.LogCaptureFixture) -> None:
        """A thousand crashes in no time are ten lines; a second later there are lines again."""
        reports: list[Report] = []
        async with group([player("a")], reports, intensity=2000) as top:
            for _ in range(1000):
                await child(top, "a").tell(Boom("x"))
            await anyio.sleep(WINDOW)
            await crash(top, "a")
        lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert len(reports) == 1001
        assert len(lines) == LOGGED + 1
        assert lines[-1].endswith("(990 reports before it were not logged)")

    async def test_an_error_without_words(self, caplog: pytest.LogCaptureFixture) -> None:
        """An error that cannot even say what it is is a crash like another."""

        class Mute(Exception):
            def __str__(self) -> str:
                raise ValueError("no words")

        reports: list[Report] = []
        async with group([player("a")], reports) as top:
            await child(top, "a").tell(Mute())
            assert await child(top, "a").ask("alive") == "alive"
        assert isinstance(reports[0].exit.error, Mute)
        assert "Mute" in str(reports[0])
        assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
            str(reports[0])
        ]


class TestActingOnTheSpot:
    """Whoever hears of an end may do something about it at once."""

    @pytest.mark.parametrize("backoff", [None, Backoff(1.0, jitter=0)])
    async def test_a_stop_of_what_has_just_crashed(self, backoff: Backoff | None) -> None:
        """It is meant for the next incarnation, which it ends or calls off."""
        refs: list[ActorRef[Any]] = []

        def stop_it(report: Report) -> None:
            refs[0].stop(reason="enough")

        async with ActorSystem(on_report=stop_it) as system:
            refs.append(await system.spawn(Player, backoff=backoff))
            await refs[0].tell(Boom("x"))
            exit = await refs[0].wait()
            assert exit.kind == "shutdown"
            assert anyio.current_time() == 0.0

    async def test_a_second_crash_in_a_group_says_that_the_child_returns(self) -> None:
        """Scenario 35: it is an error of the shutdown, but not the end of the child."""
        reports: list[Report] = []

        def fail(_context: Any) -> None:
            raise Boom("too")

        async with group([player("a"), player("b", ending=fail)], reports, "one_for_all") as top:
            await child(top, "a").tell(Boom("x"))
            await settle()
            said = [str(report) for report in reports]
            assert said[1] == "'top/b' did not stop in order (crashed: Boom: too); it is started again with its group"


async def test_nothing_goes_unsaid(caplog: pytest.LogCaptureFixture) -> None:
    """What was not logged in a storm is counted at the end, and giving up is always logged."""
    reports: list[Report] = []
    async with group([player("a")], reports, intensity=20) as top:
        for _ in range(21):
            await child(top, "a").tell(Boom("x"))
        await top.wait()
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert [line for line in lines if "the supervisor gives up (10 reports before it were not logged)" in line]
    async with group([player("a")], reports, intensity=20) as top:
        for _ in range(15):
            await child(top, "a").tell(Boom("x"))
        assert await child(top, "a").ask("alive") == "alive"
    assert caplog.records[-1].getMessage() == "5 more reports of supervisors were not logged"
