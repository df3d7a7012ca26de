"""Actors that share their fate, and actors that hear of it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import anyio
import pytest

from greenroom import Agent, System
from greenroom.actors import (
    Actor,
    ActorRef,
    ActorSystem,
    Backoff,
    ChildSpec,
    Context,
    Down,
    LinkBroken,
    LinkDown,
    Report,
    Supervisor,
    SupervisorRef,
)
from greenroom.providers import Scripted
from greenroom.testing import backend, explore, interrupt_everywhere
from greenroom.testing.interruption import Interruption

from .cast import Boom, Player, child, kind, settle

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Time is virtual: a wait costs none, and ends when it should."""
    return backend(request.param)


class Trapper(Player):
    """Notes the ends of those it is linked to, and of those it monitors."""

    trap_exits = True

    def __init__(self, notices: list[Any], trap_exits: bool = True) -> None:
        super().__init__(trap_exits=trap_exits)
        self.notices = notices

    async def receive(self, message: Any, context: Context) -> Any:
        """Note it, or do as told."""
        if isinstance(message, Down | LinkDown):
            self.notices.append((type(message), message.ref.name, message.exit.kind))
            return None
        return await super().receive(message, context)


async def spawn(system: ActorSystem, name: str, **options: Any) -> ActorRef[Any]:
    """A player that stays down when it has ended."""
    return await system.spawn(lambda: Player(name), name=name, **{"restart": "temporary", **options})


async def link(one: ActorRef[Any], *others: ActorRef[Any]) -> None:
    """Have one link itself to others."""
    for other in others:
        await one.ask(lambda context, other=other: context.link(other))


async def unlink(one: ActorRef[Any], other: ActorRef[Any]) -> None:
    """Have one take back its link."""
    await one.ask(lambda context: context.unlink(other))


async def end(ref: ActorRef[Any], how: str) -> None:
    """Have an actor end in one of the four ways."""
    if how == "normal":
        await ref.tell("finish")
    elif how == "shutdown":
        ref.stop(reason="enough")
    elif how == "killed":
        ref.kill()
    else:
        await ref.tell(Boom("x"))
    await settle()


def links_of(*refs: ActorRef[Any]) -> list[set[str]]:
    """The names of those that each is linked to."""
    return [{cell.name for cell in ref._cell.links or ()} for ref in refs]


class TestFates:
    """What follows from the end of one for the other."""

    @pytest.mark.parametrize("ends", ["the one that linked", "the one that was linked to"])
    @pytest.mark.parametrize(
        ("how", "follows"),
        [("normal", None), ("shutdown", "shutdown"), ("killed", "crashed"), ("crashed", "crashed")],
    )
    async def test_in_both_directions(self, how: str, follows: str | None, ends: str) -> None:
        """Scenario 21: a normal end is nobody else's, a stop stops the other, a crash or a kill crashes it."""
        async with ActorSystem() as system:
            first, second = await spawn(system, "first"), await spawn(system, "second")
            await link(first, second)
            assert links_of(first, second) == [{"second"}, {"first"}]
            one, other = (first, second) if ends == "the one that linked" else (second, first)
            await end(one, how)
            assert (kind(one), kind(other)) == (how, follows)
            assert links_of(one, other) == [set(), set()]

    async def test_the_crash_is_chained(self) -> None:
        """Scenario 21: the error names both actors, and what the first one raised is its cause."""
        async with ActorSystem() as system:
            first, second = await spawn(system, "first"), await spawn(system, "second")
            await link(second, first)
            await end(first, "crashed")
            assert second.exit is not None
            error = second.exit.error
            assert isinstance(error, LinkBroken)
            assert str(error) == "actor 'second' ended with 'first', which it is linked to (crashed: Boom: x)"
            assert (error.name, error.peer, error.exit) == ("second", "first", first.exit)
            assert isinstance(error.__cause__, Boom)

    async def test_a_stop_says_by_whom(self) -> None:
        """Scenario 21: the reason is the link."""
        async with ActorSystem() as system:
            first, second = await spawn(system, "first"), await spawn(system, "second")
            await link(first, second)
            await end(first, "shutdown")
            assert str(second.exit) == "shutdown (linked to 'first')"

    async def test_the_message_at_hand_is_finished(self) -> None:
        """The other ends between two messages; what waits behind becomes dead letters."""
        async with ActorSystem() as system:
            first, second = await spawn(system, "first"), await spawn(system, "second")
            await link(second, first)
            done: list[str] = []

            async def work(_context: Context) -> None:
                await anyio.sleep(1)
                done.append("work")

            await second.tell(work)
            await settle()
            await second.tell("behind")
            await end(first, "crashed")
            assert (kind(second), done) == (None, [])
            await anyio.sleep(2)
            assert (kind(second), done) == ("crashed", ["work"])
            assert [each.message for each in system.dead_letters if each.recipient == "second"] == ["behind"]

    async def test_cleanup_runs_and_is_told_why(self) -> None:
        """`stopping` gets the broken link as the crash that it is."""
        exits: list[Any] = []

        class Careful(Player):
            async def stopping(self, context: Context, exit: Any) -> None:
                exits.append(exit)

        async with ActorSystem() as system:
            first = await spawn(system, "first")
            careful = await system.spawn(Careful, restart="temporary")
            await link(careful, first)
            await end(first, "killed")
            assert [type(exit.error) for exit in exits] == [LinkBroken]

    async def test_the_supervisors_judge_it_as_they_judge_crashes(self) -> None:
        """Scenario 21: a transient actor is restarted after a broken link, and not after a linked stop."""
        async with ActorSystem(intensity=10) as system:
            for how, alive, restarts in [("crashed", True, 1), ("shutdown", False, 0), ("normal", True, 0)]:
                first = await spawn(system, f"first-{how}")
                second = await spawn(system, f"second-{how}", restart="transient")
                await link(second, first)
                await end(first, how)
                assert (second.alive, second._cell.restarts) == (alive, restarts)

    async def test_a_permanent_actor_comes_back_from_a_linked_stop(self) -> None:
        async with ActorSystem() as system:
            first, second = await spawn(system, "first"), await spawn(system, "second", restart="permanent")
            await link(second, first)
            await end(first, "shutdown")
            assert (second.alive, second._cell.restarts) == (True, 1)

    async def test_links_end_with_the_incarnation(self) -> None:
        """A restarted actor has none, neither its own nor the other's; it links again in `started`."""
        async with ActorSystem(intensity=10) as system:
            plain = await spawn(system, "plain", restart="transient")
            notices: list[Any] = []
            trapper = await system.spawn(lambda: Trapper(notices), name="trapper")
            await link(trapper, plain)
            for _ in range(3):
                await end(plain, "crashed")
            assert notices == [(LinkDown, "plain", "crashed")]
            assert links_of(plain, trapper) == [set(), set()]

    def test_links_that_are_made_again(self, seeds: range) -> None:
        """A worker that links to its store in `started` crashes with each crash of it, and is there again."""

        async def scenario() -> None:
            async with ActorSystem(intensity=100) as system:
                store = await spawn(system, "store", restart="transient")
                worker = await system.spawn(
                    lambda: Player(beginning=lambda context: context.link(store)), name="worker"
                )
                for n in range(1, 4):
                    await store.tell(Boom("x"))
                    await anyio.sleep(1)
                    assert links_of(worker, store) == [{"store"}, {"worker"}]
                    assert worker._cell.restarts >= n
                    assert store._cell.restarts >= n

        explore(scenario, seeds=seeds[:20])


class TestTrapping:
    """`trap_exits`: a message instead."""

    @pytest.mark.parametrize("how", ["normal", "shutdown", "killed", "crashed"])
    async def test_whatever_the_end(self, how: str) -> None:
        """Scenario 21: a trapping actor gets one notice with the exit, and lives."""
        notices: list[Any] = []
        async with ActorSystem() as system:
            first = await spawn(system, "first")
            trapper = await system.spawn(lambda: Trapper(notices))
            await link(trapper, first)
            await end(first, how)
            assert notices == [(LinkDown, "first", how)]
            assert trapper.alive
            await end(trapper, "crashed")

    async def test_it_may_be_set_while_it_starts(self) -> None:
        """As the documentation says; a link in `started` to a dead actor is trapped too."""

        class Late(Trapper):
            async def started(self, context: Context) -> None:
                self.trap_exits = True
                context.link(first)

        notices: list[Any] = []
        async with ActorSystem() as system:
            first = await spawn(system, "first")
            await end(first, "crashed")
            await system.spawn(lambda: Late(notices, trap_exits=False))
            await settle()
            assert notices == [(LinkDown, "first", "crashed")]

    async def test_a_notice_overtakes_messages(self) -> None:
        """It is a control signal: a full mailbox does not keep it out."""
        order: list[Any] = []

        class Noting(Trapper):
            async def receive(self, message: Any, context: Context) -> Any:
                order.append(message if isinstance(message, str) else type(message))
                return await super().receive(message, context)

        async with ActorSystem() as system:
            first = await spawn(system, "first")
            trapper = await system.spawn(lambda: Noting([]), capacity=2)
            await link(trapper, first)
            order.clear()
            await trapper.tell(lambda _context: anyio.sleep(1))
            await settle()
            await trapper.tell("one")
            await trapper.tell("two")
            await end(first, "crashed")
            await anyio.sleep(2)
            assert order[1:] == [LinkDown, "one", "two"]

    async def test_its_own_end_is_no_trap_for_others(self) -> None:
        """Trapping is one-sided: the other shares the fate of the trapper."""
        async with ActorSystem() as system:
            plain = await spawn(system, "plain")
            trapper = await system.spawn(lambda: Trapper([]), restart="temporary")
            await link(trapper, plain)
            await end(trapper, "crashed")
            assert kind(plain) == "crashed"

    async def test_it_stops_when_it_is_asked_itself(self) -> None:
        """A stop is no exit signal: trapping does not make an actor deaf."""
        async with ActorSystem() as system:
            trapper = await system.spawn(lambda: Trapper([]))
            await trapper.stop()
            assert kind(trapper) == "shutdown"

    async def test_a_crash_over_the_notice(self) -> None:
        """Handling it is handling a message: what it raises is a crash."""

        class Clumsy(Trapper):
            async def receive(self, message: Any, context: Context) -> Any:
                if isinstance(message, LinkDown):
                    raise Boom("over the notice")
                return await super().receive(message, context)

        async with ActorSystem() as system:
            first = await spawn(system, "first")
            clumsy = await system.spawn(lambda: Clumsy([]), restart="temporary")
            await link(clumsy, first)
            await end(first, "normal")
            assert str(clumsy.exit) == "crashed: Boom: over the notice"


class TestLinking:
    """Odd moments to link and to unlink in."""

    @pytest.mark.parametrize(
        ("how", "follows"),
        [("normal", None), ("shutdown", "shutdown"), ("killed", "crashed"), ("crashed", "crashed")],
    )
    async def test_to_one_that_has_ended(self, how: str, follows: str | None) -> None:
        """It has the same effect at once."""
        async with ActorSystem() as system:
            first, second = await spawn(system, "first"), await spawn(system, "second")
            await end(first, how)
            await link(second, first)
            await settle()
            assert kind(second) == follows

    async def test_to_oneself(self) -> None:
        """Nothing comes of it; the end is reported once."""
        async with ActorSystem() as system:
            one = await spawn(system, "one")
            await link(one, one)
            assert links_of(one) == [set()]
            await unlink(one, one)
            await link(one, one)
            await end(one, "crashed")
            assert isinstance(one.exit and one.exit.error, Boom)

    async def test_twice_is_once(self) -> None:
        """From one side, or from both: one link, one notice, and one unlink takes it back."""
        notices: list[Any] = []
        async with ActorSystem() as system:
            first = await spawn(system, "first")
            trapper = await system.spawn(lambda: Trapper(notices), name="trapper")
            await link(trapper, first, first)
            await link(first, trapper)
            await unlink(first, trapper)
            assert links_of(first, trapper) == [set(), set()]
            await link(trapper, first, first)
            await link(first, trapper)
            await end(first, "crashed")
            assert notices == [(LinkDown, "first", "crashed")]

    @pytest.mark.parametrize("by", ["the one that linked", "the other"])
    async def test_unlinked_nobody_follows(self, by: str) -> None:
        async with ActorSystem() as system:
            first, second = await spawn(system, "first"), await spawn(system, "second")
            await link(first, second)
            await (unlink(first, second) if by == "the one that linked" else unlink(second, first))
            assert links_of(first, second) == [set(), set()]
            await end(first, "crashed")
            await end(second, "crashed")
            assert isinstance(second.exit and second.exit.error, Boom)

    async def test_unlinking_whom_one_is_not_linked_to(self) -> None:
        """It changes nothing, the dead included."""
        async with ActorSystem() as system:
            first, second, third = [await spawn(system, name) for name in ("first", "second", "third")]
            await link(first, second)
            await end(third, "crashed")
            await unlink(first, third)
            assert links_of(first, second) == [{"second"}, {"first"}]

    @pytest.mark.parametrize("trapping", [True, False])
    async def test_unlinking_takes_back_a_queued_notice(self, trapping: bool) -> None:
        """The other has ended while a message was handled: the notice waits already, and never comes."""
        notices: list[Any] = []
        async with ActorSystem() as system:
            first, other = await spawn(system, "first"), await spawn(system, "other")
            second = await system.spawn(lambda: Trapper(notices, trapping), name="second", restart="temporary")
            await link(second, first, other)

            async def outlive(context: Context) -> None:
                first.kill()
                other.stop()
                await settle()
                context.unlink(first)

            await second.tell(outlive)
            await anyio.sleep(1)
            if trapping:
                assert (notices, second.alive) == ([(LinkDown, "other", "shutdown")], True)
            else:
                assert str(second.exit) == "shutdown (linked to 'other')"

    async def test_a_stop_in_the_lane_survives_an_unlink(self) -> None:
        """Taking notices out of the control lane leaves everything else in it, in order."""
        async with ActorSystem() as system:
            first, second = await spawn(system, "first"), await spawn(system, "second")
            await link(second, first)

            async def outlive(context: Context) -> None:
                first.kill()
                second.stop(reason="asked")
                await settle()
                context.unlink(first)

            await second.tell(outlive)
            await anyio.sleep(1)
            assert str(second.exit) == "shutdown (asked)"

    async def test_a_link_and_a_monitor(self) -> None:
        """Scenarios 20, 21: both notices come, each once."""
        notices: list[Any] = []
        async with ActorSystem() as system:
            first = await spawn(system, "first")
            trapper = await system.spawn(lambda: Trapper(notices))

            def both(context: Context) -> None:
                context.link(first)
                context.monitor(first)

            await trapper.ask(both)
            await end(first, "crashed")
            assert sorted(notices, key=str) == [(Down, "first", "crashed"), (LinkDown, "first", "crashed")]

    async def test_a_monitor_survives_what_a_link_does_not(self) -> None:
        """A restart of the watched actor is the end of its links, and none of its monitors' business."""
        notices: list[Any] = []
        async with ActorSystem() as system:
            first = await spawn(system, "first", restart="transient")
            trapper = await system.spawn(lambda: Trapper(notices))
            await link(trapper, first)
            await trapper.ask(lambda context: context.monitor(first))
            await end(first, "crashed")
            await end(first, "shutdown")
            assert notices == [(LinkDown, "first", "crashed"), (Down, "first", "shutdown")]

    @pytest.mark.parametrize("how", ["stop", "stop_child", "the supervisor's stop"])
    async def test_to_one_between_two_incarnations_that_never_comes_back(self, how: str) -> None:
        """Linked while it waits for its restart: its end for good is the end of the link, and is told."""
        notices: list[Any] = []
        async with ActorSystem() as system:
            spec = ChildSpec("a", Player, backoff=Backoff(100, 100))
            top = await system.spawn(Supervisor([spec]), name="top")
            a = child(top, "a")
            trapper = await system.spawn(lambda: Trapper(notices), name="trapper")
            await end(a, "crashed")
            await link(trapper, a)
            if how == "stop":
                a.stop()
            elif how == "stop_child":
                await top.stop_child("a")
            else:
                await top.stop()
            await settle()
            assert not a.alive
            assert notices == [(LinkDown, "top/a", "shutdown")]
            assert links_of(trapper, a) == [set(), set()]

    async def test_to_one_between_two_incarnations_that_comes_back(self) -> None:
        """The link is one to the incarnation that comes."""
        notices: list[Any] = []
        async with ActorSystem(chance=lambda: 0.5) as system:
            a = await system.spawn(Player, name="a", backoff=Backoff(1, jitter=0))
            trapper = await system.spawn(lambda: Trapper(notices), name="trapper")
            await end(a, "crashed")
            await link(trapper, a)
            await anyio.sleep(2)
            assert (notices, links_of(trapper, a)) == ([], [{"a"}, {"trapper"}])
            await end(a, "crashed")
            assert notices == [(LinkDown, "a", "crashed")]

    async def test_while_stopping(self) -> None:
        """A link that is made at the very end is broken by that end."""
        notices: list[Any] = []
        async with ActorSystem() as system:
            trapper = await system.spawn(lambda: Trapper(notices), name="trapper")
            last = await system.spawn(
                lambda: Player(ending=lambda context: context.link(trapper)), name="last", restart="temporary"
            )
            await end(last, "shutdown")
            assert notices == [(LinkDown, "last", "shutdown")]
            assert links_of(trapper, last) == [set(), set()]


class TestMany:
    """More than two."""

    def test_a_cycle(self, seeds: range) -> None:
        """Scenario 21: each ends once, whoever begins and in whatever order the notices come."""
        names = ["a", "b", "c", "d"]

        async def scenario() -> None:
            async with ActorSystem() as system:
                refs = [await spawn(system, name) for name in names]
                for one, other in zip(refs, [*refs[1:], refs[0]], strict=True):
                    await link(one, other)
                await end(refs[2], "crashed")
                await anyio.sleep(1)
                assert [kind(ref) for ref in refs] == ["crashed"] * 4
                assert links_of(*refs) == [set()] * 4
                assert isinstance(refs[2].exit and refs[2].exit.error, Boom)

        explore(scenario, seeds=seeds[:20])

    async def test_a_chain_falls_to_its_end(self) -> None:
        """A stop goes along a chain of a hundred; each names the one before it."""
        async with ActorSystem() as system:
            refs = [await spawn(system, f"n{n}") for n in range(100)]
            for one, other in pairwise(refs):
                await link(one, other)
            await refs[0].stop()
            with anyio.fail_after(1):
                await refs[-1].wait()
            assert str(refs[-1].exit) == "shutdown (linked to 'n98')"

    async def test_one_with_many(self) -> None:
        """A thousand linked to one end with it, and each is a crash of its own."""
        async with ActorSystem() as system:
            hub = await spawn(system, "hub")
            refs = [await spawn(system, f"n{n}") for n in range(1000)]
            await link(hub, *refs)
            await end(hub, "crashed")
            await anyio.sleep(1)
            assert {kind(ref) for ref in refs} == {"crashed"}

    def test_both_ends_crash_in_one_tick(self, seeds: range) -> None:
        """Scenario 35: each is restarted once, for its own crash; neither is told of the other twice."""

        async def scenario() -> None:
            reports: list[Report] = []
            async with ActorSystem(on_report=reports.append) as system:
                first = await spawn(system, "first", restart="transient")
                second = await spawn(system, "second", restart="transient")
                await link(first, second)
                now = anyio.Event()

                async def crash(_context: Context) -> None:
                    await now.wait()
                    raise Boom("together")

                await first.tell(crash)
                await second.tell(crash)
                await settle()
                now.set()
                await anyio.sleep(1)
                assert (first._cell.restarts, second._cell.restarts) == (1, 1)
                assert sorted(report.child for report in reports) == ["first", "second"]
                assert [type(report.exit.error) for report in reports] == [Boom, Boom]
                assert await first.ask("alive") == await second.ask("alive") == "alive"

        explore(scenario, seeds=seeds[:20])

    async def test_siblings_of_one_group(self) -> None:
        """Linked children of a group that stops them all anyway count one restart."""
        reports: list[Report] = []
        async with ActorSystem(on_report=reports.append) as system:
            specs = [ChildSpec(id, Player) for id in "ab"]
            top = await system.spawn(Supervisor(specs, strategy="one_for_all", intensity=1), name="top")
            await link(child(top, "a"), child(top, "b"))
            await end(child(top, "a"), "crashed")
            assert [child(top, id)._cell.restarts for id in "ab"] == [1, 1]
            assert reports[0].child == "top/a"
            assert top.alive


class TestSupervisors:
    """A supervisor may be linked to; it cannot link itself."""

    @pytest.mark.parametrize(
        ("how", "follows"), [("normal", None), ("shutdown", "shutdown"), ("killed", "crashed"), ("crashed", "crashed")]
    )
    async def test_it_shares_the_actors_fate(self, how: str, follows: str | None) -> None:
        """With all its children, in order."""
        lines: list[str] = []
        async with ActorSystem() as system:
            specs = [ChildSpec(each, lambda name=each: Player(name, lines)) for each in "ab"]
            top = await system.spawn(Supervisor(specs), name="top", restart="temporary")
            one = await spawn(system, "one")
            await link(one, top)
            lines.clear()
            await end(one, how)
            assert (kind(top), top.alive) == (follows, follows is None)
            if follows is not None:
                assert lines == ["b stops", "b gone", "a stops", "a gone"]
            if follows == "crashed":
                error = top.exit and top.exit.error
                assert isinstance(error, LinkBroken)
                assert (error.name, error.peer) == ("top", "one")
                assert type(error.__cause__) is (Boom if how == "crashed" else type(None))

    async def test_its_parent_restarts_it(self) -> None:
        """A broken link is a crash of the supervisor: it comes back with fresh children."""
        async with ActorSystem() as system:
            top = await system.spawn(Supervisor([ChildSpec("a", Player)]), name="top")
            one = await spawn(system, "one")
            await link(one, top)
            before = child(top, "a")
            await end(one, "crashed")
            assert (top.alive, top._cell.restarts, links_of(top)) == (True, 1, [set()])
            assert child(top, "a") != before
            assert await child(top, "a").ask("alive") == "alive"

    async def test_the_actor_shares_its_fate(self) -> None:
        """A supervisor that gives up crashes those that are linked to it; one that is stopped stops them."""
        async with ActorSystem() as system:
            for how in ("crashed", "shutdown"):
                top = await system.spawn(
                    Supervisor([ChildSpec("a", Player)], intensity=0), name=f"top-{how}", restart="temporary"
                )
                one = await spawn(system, f"one-{how}")
                await link(one, top)
                await (end(child(top, "a"), how) if how == "crashed" else end(top, how))
                assert (kind(top), kind(one)) == (how, how)

    async def test_a_child_and_its_own_supervisor(self) -> None:
        """Its crash is the supervisor's, which stops the others and is restarted by its parent."""
        lines: list[str] = []
        async with ActorSystem() as system:
            specs = [ChildSpec(each, lambda name=each: Player(name, lines)) for each in "ab"]
            top = await system.spawn(Supervisor(specs), name="top")
            await link(child(top, "a"), top)
            lines.clear()
            await end(child(top, "a"), "crashed")
            assert lines == [
                *("a stops", "a gone", "b stops", "b gone"),
                *("a starts", "a ready", "b starts", "b ready"),
            ]
            await link(child(top, "a"), top)
            await top.stop()
            assert kind(top) == "shutdown"

    async def test_one_that_restarts_hears_of_nothing_old(self) -> None:
        """A link of the last incarnation does not reach the next one."""
        async with ActorSystem(intensity=10) as system:
            top = await system.spawn(Supervisor([ChildSpec("a", Player)], intensity=0), name="top")
            notices: list[Any] = []
            trapper = await system.spawn(lambda: Trapper(notices), name="trapper", restart="temporary")
            await link(trapper, top)
            await end(child(top, "a"), "crashed")
            assert notices == [(LinkDown, "top", "crashed")]
            await end(trapper, "crashed")
            assert (top.alive, top._cell.restarts) == (True, 1)


class TestTheEndOfTheSystem:
    """Links and the ends that have nothing to do with them."""

    async def test_in_order(self) -> None:
        """Each is stopped by the system; nothing is reported."""
        reports: list[Report] = []
        async with ActorSystem(on_report=reports.append) as system:
            refs = [await spawn(system, name, restart="permanent") for name in "abc"]
            await link(refs[0], *refs[1:])
        assert [kind(ref) for ref in refs] == ["shutdown"] * 3
        assert reports == []

    async def test_by_cancellation(self) -> None:
        """Scenario 34: all are killed; no broken link is reported, and nobody is restarted."""
        reports: list[Report] = []
        with anyio.CancelScope() as scope:
            async with ActorSystem(on_report=reports.append) as system:
                refs = [await spawn(system, name, restart="permanent") for name in "abc"]
                top = await system.spawn(Supervisor([ChildSpec("d", Player)]), name="top")
                await link(refs[0], *refs[1:], top)
                scope.cancel()
                await settle()
        assert [kind(ref) for ref in (*refs, top)] == ["killed"] * 4
        assert reports == []


class TestRuns:
    """Children of a pool: an agent's run is no actor of the tree, but has an address."""

    async def test_a_run_that_ends_is_told(self) -> None:
        """An actor that linked itself to a run hears how it ended."""
        notices: list[Any] = []
        async with System() as system:
            trapper = await system.spawn(lambda: Trapper(notices), name="trapper")
            run = await system.start(Agent("helper", Scripted("ok")), "Go", run_id="r1")
            cell = next(cell for cell in system.pool.cells() if cell.name == "r1")
            await link(trapper, cell.ref)
            assert (await run.result()).output == "ok"
            await settle()
            assert notices == [(LinkDown, "r1", "normal")]
            assert links_of(trapper) == [set()]

    async def test_a_run_goes_on_without_the_actor(self) -> None:
        """A run answers to its caller alone: the end of an actor that is linked to it is not its own."""
        async with System() as system:
            one = await spawn(system, "one")

            async def slowly(_request: Any) -> str:
                await anyio.sleep(5)
                return "ok"

            run = await system.start(Agent("helper", Scripted(slowly)), "Go", run_id="r1")
            cell = next(cell for cell in system.pool.cells() if cell.name == "r1")
            await link(one, cell.ref)
            await end(one, "crashed")
            assert (await run.result()).output == "ok"


def _linked_pair(interrupt: Callable[[ActorRef[Any], SupervisorRef], Callable[[], object]]) -> Any:
    """A scenario: a pair that links itself in `started`, one of which crashes, disturbed at every step."""

    async def scenario(interruption: Interruption) -> None:
        async with ActorSystem(intensity=1000) as system:

            class Second(Player):
                async def started(self, context: Context) -> None:
                    first = system.actor("pair/first")
                    assert first is not None
                    context.link(first)

            specs = [ChildSpec("first", Player), ChildSpec("second", Second)]
            pair = await system.spawn(Supervisor(specs, strategy="rest_for_one", intensity=1000), name="pair")
            interruption.arm(interrupt(child(pair, "first"), pair))
            first = pair.child("first")
            if first is not None and first.alive:
                first.tell_nowait(Boom("x"))
            await anyio.sleep(1)
            first, second = pair.child("first"), pair.child("second")
            if pair.alive and first is not None and second is not None:
                assert links_of(first, second) == [{"pair/second"}, {"pair/first"}]
        assert not pair.alive

    return scenario


@pytest.mark.parametrize("name", ["asyncio", "trio"])
@pytest.mark.parametrize("disturbance", ["kill", "stop the pair", "kill the pair"])
def test_at_every_step(name: str, disturbance: str) -> None:
    """Scenarios 21, 36: wherever a kill or a stop comes in between, nothing hangs and nothing is left."""

    def interrupt(first: ActorRef[Any], pair: SupervisorRef) -> Callable[[], object]:
        return {"kill": first.kill, "stop the pair": pair.stop, "kill the pair": pair.kill}[disturbance]

    assert interrupt_everywhere(_linked_pair(interrupt), backend=name, seed=3) > 10


def test_only_a_notice_that_is_for_an_actor_is_a_message() -> None:
    """The notice is a plain record; an actor that wants it as a message says so."""
    assert Actor.trap_exits is False
    assert not Actor().trap_exits
