"""Messages for later: when they come, in which order, to whom, and what ends them."""

from __future__ import annotations

import logging
import math
from typing import Any, Literal

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from greenroom import System
from greenroom.actors import Actor, ActorSystem, Backoff, ChildSpec, Context, Supervisor, SystemClosed, Timer
from greenroom.actors.timers import TimerGroup, TimerQueue
from greenroom.mailbox import Overflow
from greenroom.testing import Probe, backend, explore, run

from .cast import Boom, Player, child, hang, kind, settle

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Time is virtual: a wait costs none, and ends when it should."""
    return backend(request.param)


class Diary(Player):
    """Writes down when each message came, and who sent it."""

    def __init__(self, entries: list[Any]) -> None:
        super().__init__()
        self.entries = entries

    async def receive(self, message: Any, context: Context) -> Any:
        """Write, unless told to do something."""
        if callable(message) or isinstance(message, BaseException) or message in ("hang", "finish"):
            return await super().receive(message, context)
        self.entries.append((round(anyio.current_time(), 6), message, context.sender))
        return None


class TestSending:
    """`Context.send_after`, `ActorSystem.send_after`."""

    async def test_it_comes_when_it_is_due_and_not_before(self) -> None:
        entries: list[Any] = []
        async with ActorSystem() as system:
            diary = await system.spawn(lambda: Diary(entries), name="diary")
            timer = system.send_after(2.5, diary, "later")
            assert (timer.deadline - anyio.current_time(), timer.active) == (2.5, True)
            await anyio.sleep(2.499)
            assert entries == []
            await anyio.sleep(0.002)
            assert (entries, timer.active) == ([(2.5, "later", None)], False)

    async def test_an_actor_sends_itself(self) -> None:
        """The sender is the actor."""
        entries: list[Any] = []
        async with ActorSystem() as system:
            diary = await system.spawn(lambda: Diary(entries), name="diary")
            timer = await diary.ask(lambda context: context.send_after(3, "mine"))
            assert isinstance(timer, Timer)
            await anyio.sleep(4)
            assert entries == [(3.0, "mine", "diary")]

    async def test_the_sender_is_whoever_set_it(self) -> None:
        """An actor that uses the system's own function is named too."""
        entries: list[Any] = []
        async with ActorSystem() as system:
            diary = await system.spawn(lambda: Diary(entries), name="diary")
            clerk = await system.spawn(Player, name="clerk")
            await clerk.ask(lambda _context: system.send_after(1, diary, "note"))
            await anyio.sleep(2)
            assert entries == [(1.0, "note", "clerk")]

    async def test_deadlines_decide_the_order_and_then_who_was_first(self) -> None:
        """An earlier one that is set later comes first; those of one deadline come as they were set."""
        entries: list[Any] = []
        async with ActorSystem() as system:
            diary = await system.spawn(lambda: Diary(entries), name="diary")
            system.send_after(5, diary, "last")
            for n in range(20):
                system.send_after(2, diary, n)
            await settle()
            system.send_after(1, diary, "first")
            await anyio.sleep(6)
            assert [message for _, message, _ in entries] == ["first", *range(20), "last"]
            assert [when for when, _, _ in entries] == [1.0, *[2.0] * 20, 5.0]

    async def test_no_delay_at_all(self) -> None:
        """It comes at once, but behind what waits already."""
        entries: list[Any] = []
        async with ActorSystem() as system:
            diary = await system.spawn(lambda: Diary(entries), name="diary")
            diary.tell_nowait("before")
            system.send_after(0, diary, "now")
            await settle()
            assert [message for _, message, _ in entries] == ["before", "now"]

    async def test_it_queues_behind_what_waits(self) -> None:
        """A timer is no control signal: it overtakes nothing."""
        probe_lines: list[Any] = []
        async with ActorSystem() as system:
            diary = await system.spawn(lambda: Diary(probe_lines), name="diary")
            system.send_after(1, diary, "timer")
            await diary.tell(lambda _context: anyio.sleep(2))
            await diary.tell("told")
            await anyio.sleep(3)
            assert [message for _, message, _ in probe_lines] == ["told", "timer"]

    async def test_a_periodic_actor(self) -> None:
        """An actor that sets its next timer whenever one comes keeps its beat."""

        class Clock(Actor):
            async def started(self, context: Context) -> None:
                context.send_after(10, "tick")

            async def receive(self, message: Any, context: Context) -> None:
                beats.append(anyio.current_time())
                context.send_after(10, "tick")

        beats: list[float] = []
        async with ActorSystem() as system:
            await system.spawn(Clock)
            await anyio.sleep(101)
        assert beats == pytest.approx([10.0 * n for n in range(1, 11)])

    async def test_a_very_late_one(self) -> None:
        """A deadline beyond any clock's is as good as none, and keeps no earlier one waiting."""
        entries: list[Any] = []
        async with ActorSystem() as system:
            diary = await system.spawn(lambda: Diary(entries), name="diary")
            far = system.send_after(1e300, diary, "far")
            system.send_after(1, diary, "near")
            await anyio.sleep(1_000_000)
            assert ([message for _, message, _ in entries], far.active) == (["near"], True)

    @pytest.mark.parametrize("delay", [-0.001, -math.inf, math.inf, math.nan])
    async def test_a_delay_that_is_none(self, delay: float) -> None:
        """Refused where it is set, on both ways; nothing is queued."""
        async with ActorSystem() as system:
            player = await system.spawn(Player)
            with pytest.raises(ValueError, match="a delay of 0 seconds or more, and a finite one, not"):
                system.send_after(delay, player, "x")

            def send(context: Context) -> None:
                with pytest.raises(ValueError, match="a delay of 0 seconds or more, and a finite one, not"):
                    context.send_after(delay, "x")

            await player.ask(send)
            assert len(system.timers) == 0

    @pytest.mark.parametrize("delay", ["1", None, True])
    async def test_a_delay_that_is_no_number(self, delay: Any) -> None:
        async with ActorSystem() as system:
            player = await system.spawn(Player)
            with pytest.raises(TypeError, match="takes a delay in seconds, not"):
                system.send_after(delay, player, "x")

    async def test_of_an_agents_system(self) -> None:
        """`System` inherits it."""
        async with System() as system:
            probe = await Probe.spawn(system)
            system.send_after(1, probe.ref, "later")
            await probe.expect("later")


class TestCancelling:
    """`Timer.cancel`, `Timer.active`."""

    async def test_it_never_comes(self) -> None:
        """The first cancel says True, each further one False."""
        async with ActorSystem() as system:
            probe = await Probe.spawn(system)
            timer = system.send_after(1, probe.ref, "never")
            assert (timer.cancel(), timer.active, timer.cancel()) == (True, False, False)
            system.send_after(2, probe.ref, "end")
            await probe.expect("end")

    async def test_after_it_came(self) -> None:
        """There is nothing left to cancel."""
        async with ActorSystem() as system:
            probe = await Probe.spawn(system)
            timer = system.send_after(1, probe.ref, "came")
            await probe.expect("came")
            assert (timer.cancel(), repr(timer).endswith("over>")) == (False, True)

    async def test_the_one_that_the_queue_waits_for(self) -> None:
        """The next one still comes at its own time."""
        entries: list[Any] = []
        async with ActorSystem() as system:
            diary = await system.spawn(lambda: Diary(entries), name="diary")
            first = system.send_after(1, diary, "first")
            system.send_after(2, diary, "second")
            await settle()
            first.cancel()
            await anyio.sleep(3)
            assert entries == [(2.0, "second", None)]

    async def test_in_the_tick_in_which_it_is_due(self) -> None:
        """Whoever cancels before it was sent, even at its very deadline, is told so and it does not come."""
        async with ActorSystem() as system:
            probe = await Probe.spawn(system)
            timers = [system.send_after(1, probe.ref, n) for n in range(10)]
            await anyio.sleep(1)
            cancelled = [timer.cancel() for timer in timers]
            await settle()
            assert [n for n in range(10) if not cancelled[n]] == list(probe.received)

    async def test_a_hundred_thousand_set_and_cancelled(self) -> None:
        """The queue does not grow with them, and neither does what their actor keeps of them."""
        async with ActorSystem() as system:
            player = await system.spawn(Player)

            async def churn(context: Context) -> int:
                most = 0
                for n in range(50_000):
                    context.send_after(1000 + n, "never").cancel()
                    if n % 1000 == 0:
                        most = max(most, len(system.timers._queue._heap))
                        await checkpoint()
                cell: Any = player._cell
                return max(most, len(cell.timers._timers))

            assert await player.ask(churn) <= 200
            for n in range(50_000):
                system.send_after(1000 + n, player, "never").cancel()
            assert (len(system.timers), len(system.timers._queue._heap) <= 200) == (0, True)

    def test_dead_entries_beside_live_ones(self) -> None:
        """At most half of the queue is dead, however many there are and whichever were cancelled."""
        queue = TimerQueue()
        timers = [queue.add(float(n % 97), print, ()) for n in range(10_000)]
        for timer in timers[::2] + timers[1::4]:
            timer.cancel()
            assert len(queue._heap) <= 2 * len(queue) + 65
        order = []
        while (timer := queue.pop_due(100.0)) is not None:
            order.append((timer.deadline, timers.index(timer)))
        assert order == sorted(order)
        assert len(order) == 2500


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 20)),
            st.tuples(st.just("cancel"), st.integers(0, 300)),
            st.tuples(st.just("pass"), st.integers(0, 5)),
        ),
        max_size=300,
    )
)
def test_the_queue_against_a_list(steps: list[tuple[str, int]]) -> None:
    """Whatever is set, cancelled and due in whatever order: the queue does what a sorted list would."""
    queue, fired = TimerQueue(), list[int]()
    made: list[Timer] = []
    model: dict[int, float] = {}
    due: list[int] = []
    now = 0.0
    for step, number in steps:
        if step == "add":
            index = len(made)
            made.append(queue.add(now + number, fired.append, (index,)))
            model[index] = now + number
        elif step == "cancel" and made:
            index = number % len(made)
            assert made[index].cancel() is (model.pop(index, None) is not None)
        elif step == "pass":
            now += number
            while (timer := queue.pop_due(now)) is not None:
                timer.fire()
            ready = sorted((at, index) for index, at in model.items() if at <= now)
            due += [index for _, index in ready]
            for _, index in ready:
                del model[index]
        assert len(queue) == len(model)
        assert queue.next_deadline() == min(model.values(), default=math.inf)
        assert [timer.active for timer in made] == [index in model for index in range(len(made))]
    assert fired == due


def test_the_timers_of_an_owner_do_not_pile_up() -> None:
    """A group lets go of what is over, and keeps what is not."""
    queue, group = TimerQueue(), TimerGroup()
    kept = queue.add(5.0, print, ())
    group.add(kept)
    for _ in range(1000):
        timer = queue.add(1.0, print, ())
        group.add(timer)
        timer.cancel()
    assert len(group._timers) <= 32
    group.cancel()
    assert (kept.active, len(queue)) == (False, 0)


class TestIncarnations:
    """A context's timer ends with the incarnation that set it; a system's does not."""

    @pytest.mark.parametrize("end", [Boom("x"), "finish", "stop", "kill"])
    async def test_an_actors_own_timer_ends_with_it(self, end: Any) -> None:
        """However it ended, the next incarnation gets nothing of the last one's plans."""
        lines: list[str] = []
        async with ActorSystem() as system:
            player = await system.spawn(lambda: Player("p", lines), restart="permanent")
            timer = await player.ask(lambda context: context.send_after(5, "old"))
            if end == "stop":
                player.stop()
            elif end == "kill":
                player.kill()
            else:
                await player.tell(end)
            await settle()
            assert (timer.active, len(system.timers)) == (False, 0)
            await player.ask(lambda context: context.send_after(6, "new"))
            await anyio.sleep(10)
            assert [line for line in lines if line.startswith("p:")] == ["p: new"]

    async def test_a_timer_that_is_set_while_stopping_ends_too(self) -> None:
        """`stopping` is the last thing the incarnation does, but it is its own."""
        lines: list[str] = []

        def plan(context: Context) -> None:
            context.send_after(5, "from before")

        async with ActorSystem() as system:
            player = await system.spawn(lambda: Player("p", lines, ending=plan))
            await player.tell(Boom("x"))
            await anyio.sleep(10)
            assert player.alive
            assert "p: from before" not in lines

    async def test_a_systems_timer_outlives_incarnations(self) -> None:
        """It is for the actor, whichever incarnation takes it."""
        lines: list[str] = []
        async with ActorSystem() as system:
            player = await system.spawn(lambda: Player("p", lines))
            system.send_after(5, player, "for you")
            await player.tell(Boom("x"))
            await anyio.sleep(6)
            assert lines[-1] == "p: for you"

    async def test_between_two_incarnations(self) -> None:
        """It waits in the mailbox for the next one."""
        lines: list[str] = []
        async with ActorSystem() as system:
            player = await system.spawn(lambda: Player("p", lines), backoff=Backoff(10, jitter=0))
            system.send_after(5, player, "for you")
            await player.tell(Boom("x"))
            await anyio.sleep(6)
            assert (lines[-1], player.statistics().depth) == ("p gone", 1)
            await anyio.sleep(5)
            assert lines[-1] == "p: for you"

    async def test_for_an_actor_that_has_ended(self) -> None:
        """It is a dead letter, with its sender."""
        async with ActorSystem() as system:
            player = await system.spawn(Player, name="p")
            clerk = await system.spawn(Player, name="clerk")
            await clerk.ask(lambda _context: system.send_after(5, player, "too late"))
            await player.stop()
            await anyio.sleep(4)
            assert len(system.dead_letters) == 0
            await anyio.sleep(2)
            letters = [(each.message, each.recipient, each.sender, each.reason) for each in system.dead_letters]
            assert letters == [("too late", "p", "clerk", "closed")]


class TestFullMailbox:
    """A message whose time has come and that finds no room."""

    @staticmethod
    async def _at_a_full_mailbox(overflow: Overflow, system: ActorSystem) -> list[str]:
        """Three timers for an actor that is busy until 2, has room for two messages, and has got two."""
        lines: list[str] = []
        player = await system.spawn(lambda: Player("p", lines), name="p", capacity=2, overflow=overflow)
        await player.tell(lambda _context: anyio.sleep(2))
        await settle()
        await player.tell("told 1")
        await player.tell("told 2")
        for n in (1, 2, 3):
            system.send_after(1, player, f"timer {n}")
        await anyio.sleep(1.5)
        lines.append(f"{player.statistics().waiting_senders} wait, {player.statistics().depth} in the mailbox")
        await anyio.sleep(1)
        lines.append(f"{player.statistics().dropped} dropped")
        return lines[2:]

    async def test_under_wait_they_wait_like_senders(self) -> None:
        """Nothing is lost, the order is kept, and the bound holds meanwhile."""
        async with ActorSystem() as system:
            assert await self._at_a_full_mailbox("wait", system) == [
                "3 wait, 2 in the mailbox",
                *("p: told 1", "p: told 2", "p: timer 1", "p: timer 2", "p: timer 3"),
                "0 dropped",
            ]
            assert len(system.dead_letters) == 0

    @pytest.mark.parametrize("overflow", ["fail", "drop_newest"])
    async def test_under_fail_and_drop_newest_they_are_dropped(self, overflow: Literal["fail", "drop_newest"]) -> None:
        """There is nobody to raise at: each is a dead letter, and counted."""
        async with ActorSystem() as system:
            assert await self._at_a_full_mailbox(overflow, system) == [
                "0 wait, 2 in the mailbox",
                *("p: told 1", "p: told 2"),
                "3 dropped",
            ]
            assert [(each.message, each.reason) for each in system.dead_letters] == [
                (f"timer {n}", "dropped") for n in (1, 2, 3)
            ]

    async def test_under_drop_oldest_they_take_the_place_of_the_oldest(self) -> None:
        async with ActorSystem() as system:
            assert await self._at_a_full_mailbox("drop_oldest", system) == [
                "0 wait, 2 in the mailbox",
                *("p: timer 2", "p: timer 3"),
                "3 dropped",
            ]
            assert [each.message for each in system.dead_letters] == ["told 1", "told 2", "timer 1"]

    async def test_waiting_for_room_when_the_actor_ends(self) -> None:
        """They are dead letters, all of them."""
        async with ActorSystem() as system:
            player = await system.spawn(Player, name="p", capacity=1, restart="temporary")
            await player.tell("hang")
            await settle()
            await player.tell("told")
            for n in (1, 2):
                system.send_after(1, player, f"timer {n}")
            await anyio.sleep(2)
            await player.kill()
            assert sorted(str(each.message) for each in system.dead_letters) == ["hang", "timer 1", "timer 2", "told"]

    async def test_a_sender_and_a_timer_wait_in_one_queue(self) -> None:
        """First come, first served; a sender behind a timer does not starve."""
        lines: list[str] = []
        async with ActorSystem() as system, anyio.create_task_group() as tasks:
            player = await system.spawn(lambda: Player("p", lines), name="p", capacity=1)
            await player.tell(lambda _context: anyio.sleep(5))
            await settle()
            await player.tell("in the mailbox")
            for n in range(3):
                tasks.start_soon(player.tell, f"sender {n}")
                await settle()
                system.send_after(0, player, f"timer {n}")
                await settle()
            assert player.statistics().waiting_senders == 6
            await anyio.sleep(6)
            told = [line for line in lines if line.startswith("p: ")]
            expected = ["in the mailbox", *(f"{who} {n}" for n in range(3) for who in ("sender", "timer"))]
            assert told == [f"p: {each}" for each in expected]


class TestFairness:
    """The task that waits for deadlines leaves room for others."""

    def test_a_storm_without_delay_starves_nobody(self, seeds: range) -> None:
        """Two actors that send themselves a message for now whenever one comes, and a third that works."""

        async def scenario() -> None:
            class Storm(Actor):
                async def receive(self, message: Any, context: Context) -> None:
                    if not over:
                        context.send_after(0, "again")

            over: list[str] = []
            async with ActorSystem() as system:
                for name in ("one", "two"):
                    await (await system.spawn(Storm, name=name)).tell("go")
                worker = await system.spawn(Player, name="worker")
                for n in range(200):
                    assert await worker.ask(n) == n
                over.append("calm")

        explore(scenario, seeds=seeds[:20])

    async def test_beside_deadlines_of_others(self) -> None:
        """A timer that is due comes although another actor sends itself one after the other."""
        entries: list[Any] = []

        class Storm(Actor):
            async def receive(self, message: Any, context: Context) -> None:
                context.send_after(0.001, "again")

        async with ActorSystem() as system:
            storm = await system.spawn(Storm)
            diary = await system.spawn(lambda: Diary(entries), name="diary")
            await storm.tell("go")
            system.send_after(1, diary, "in time")
            await anyio.sleep(2)
        assert entries == [(1.0, "in time", None)]

    async def test_many_at_one_moment(self) -> None:
        """Ten thousand with one deadline: all come, in order."""
        async with ActorSystem() as system:
            probe = await Probe.spawn(system)
            for n in range(10_000):
                system.send_after(1, probe.ref, n)
            assert len(system.timers) == 10_000
            await anyio.sleep(2)
            assert probe.received == tuple(range(10_000))
            assert len(system.timers) == 0


class TestTheEnd:
    """What is still to come when the system closes never will."""

    async def test_of_the_block(self) -> None:
        """The close does not wait for it, and it is no dead letter; a closed system takes none."""
        async with ActorSystem() as system:
            player = await system.spawn(Player)
            timer = system.send_after(1000, player, "never")
            began = anyio.current_time()
        assert anyio.current_time() == began
        assert (timer.active, timer.cancel(), len(system.timers), len(system.dead_letters)) == (False, False, 0, 0)
        with pytest.raises(SystemClosed, match="is not open"):
            system.send_after(1, player, "x")

    async def test_while_it_closes(self) -> None:
        """An actor that stops slowly may not set new ones through the system; those that are due still come."""
        lines: list[str] = []
        errors: list[BaseException] = []

        async def end(_context: Context) -> None:
            try:
                system.send_after(1, other, "refused")
            except SystemClosed as error:
                errors.append(error)
            await anyio.sleep(2)

        async with ActorSystem() as system:
            other = await system.spawn(lambda: Player("other", lines), name="other")
            await system.spawn(lambda: Player("slow", lines, ending=end), name="slow")
            system.send_after(1, other, "due")
        assert len(errors) == 1
        assert lines[4:] == ["slow stops", "other: due", "slow gone", "other stops", "other gone"]

    async def test_of_a_block_that_is_cancelled(self) -> None:
        with anyio.CancelScope() as scope:
            async with ActorSystem() as system:
                player = await system.spawn(Player)
                timer = system.send_after(1000, player, "never")
                await settle()
                scope.cancel()
                await checkpoint()
        assert (timer.active, len(system.timers)) == (False, 0)

    async def test_before_the_system_opens(self) -> None:
        async with ActorSystem() as open_one:
            player = await open_one.spawn(Player)
            with pytest.raises(SystemClosed, match="is not open"):
                ActorSystem().send_after(1, player, "x")

    def test_nothing_is_left(self) -> None:
        """Of a system with timers to come no task is left, whatever state they are in."""

        async def scenario() -> None:
            async with ActorSystem() as system:
                player = await system.spawn(Player)
                system.send_after(1000, player, "never")
                await player.ask(lambda context: context.send_after(1000, "never"))
                system.send_after(1, player, "soon").cancel()

        for name in ("asyncio", "trio"):
            run(scenario, backend=name)


async def test_a_systems_timers_do_not_start_a_task_before_they_are_used(anyio_backend_name: str) -> None:
    """A system without timers and backoffs pays nothing for them."""
    async with ActorSystem() as system:
        await system.spawn(Player)
        assert not system.timers._started


async def test_backoffs_and_messages_share_the_queue(caplog: pytest.LogCaptureFixture) -> None:
    """One queue for all deadlines of a system: each comes at its own time."""
    caplog.set_level(logging.CRITICAL, "greenroom")
    entries: list[Any] = []
    async with ActorSystem() as system:
        top = await system.spawn(Supervisor([ChildSpec("d", lambda: Diary(entries), backoff=Backoff(2, jitter=0))]))
        system.send_after(1, child(top, "d"), "one")
        system.send_after(3, child(top, "d"), "three")
        await child(top, "d").tell(Boom("x"))
        await anyio.sleep(5)
        assert entries == [(2.0, "one", None), (3.0, "three", None)]


async def test_a_cleanup_in_an_ordered_stop_that_is_cancelled() -> None:
    """Scenario 19: the supervisor watched its time; when that is cancelled, the time is still watched."""
    began = anyio.current_time()
    with anyio.move_on_after(1):
        async with ActorSystem() as system:
            player = await system.spawn(lambda: Player(ending=hang), shutdown=4.0)
    assert anyio.current_time() - began == 4.0
    assert kind(player) == "killed"
