"""The probe: it answers, it hands over what it was sent, and a failing test says what came instead."""

from __future__ import annotations

from typing import Any, NamedTuple

import anyio
import pytest

from greenroom import System
from greenroom.actors import Actor, ActorDied, ActorSystem, Context, NameTaken
from greenroom.testing.probe import SHOWN, WIDTH, Probe

pytestmark = pytest.mark.anyio


class Tick(NamedTuple):
    """A message."""

    n: int


class Forwarder(Actor):
    """Passes on what it gets."""

    def __init__(self, to: Probe) -> None:
        self.to = to

    async def receive(self, message: Any, context: Context) -> Any:
        """Pass it on, and its answer back."""
        if message == "boom":
            raise RuntimeError("boom")
        return await self.to.ref.ask(message)


async def test_it_hands_over_messages_in_order_with_their_senders() -> None:
    async with ActorSystem() as system:
        probe = await Probe.spawn(system)
        forwarder = await system.spawn(lambda: Forwarder(probe), name="forwarder")
        await probe.ref.tell("first")
        await forwarder.ask(Tick(2))
        await probe.ref.tell(Tick(3))
        assert await probe.receive() == "first"
        assert (await probe.receive(Tick)).n == 2
        await probe.expect(Tick(3))
        probe.expect_nothing()
        assert probe.received == ("first", Tick(2), Tick(3))
        assert probe.senders == (None, "forwarder", None)


@pytest.mark.parametrize("kind", [ActorSystem, System])
async def test_it_lives_in_a_tree_of_actors_and_in_a_system_of_agents(kind: type[ActorSystem]) -> None:
    async with kind() as system:
        named = await Probe.spawn(system, "billing", answer=42)
        first, second = await Probe.spawn(system), await Probe.spawn(system)
        assert [probe.ref.name for probe in (named, first, second)] == ["billing", "probe-1", "probe-2"]
        assert [node.name for node in system.tree().children] == ["billing", "probe-1", "probe-2"]
        assert await named.ref.ask("price?") == 42
        with pytest.raises(NameTaken):
            await Probe.spawn(system, "billing")
    assert named.ref.exit is not None
    assert named.ref.exit.kind == "shutdown"


async def test_it_answers_with_a_value_or_what_a_function_makes_of_the_message() -> None:
    async def slowly(message: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        return "slow", message

    async with ActorSystem() as system:
        probe = await Probe.spawn(system)
        assert await probe.ref.ask(1) is None
        probe.answer = "one"
        assert await probe.ref.ask(1) == "one"
        probe.answer = lambda message: message * 10
        assert await probe.ref.ask(2) == 20
        probe.answer = slowly
        assert await probe.ref.ask(3) == ("slow", 3)
        assert probe.received == (1, 1, 2, 3)


async def test_a_message_can_be_read_before_its_answer_is_there() -> None:
    answers = anyio.Event()

    async def later(message: Any) -> str:
        await answers.wait()
        return "done"

    async with ActorSystem() as system, anyio.create_task_group() as group:
        probe = await Probe.spawn(system, answer=later)
        asked: list[Any] = []

        async def ask() -> None:
            asked.append(await probe.ref.ask("work"))

        group.start_soon(ask)
        await probe.expect("work")
        assert asked == []
        answers.set()
    assert asked == ["done"]


async def test_an_answer_that_raises_is_its_crash_and_it_stays_down() -> None:
    def refuse(message: Any) -> None:
        raise ConnectionError("refused")

    async with ActorSystem() as system:
        probe = await Probe.spawn(system, answer=refuse)
        with pytest.raises(ActorDied) as caught:
            await probe.ref.ask("hello")
        assert isinstance(caught.value.__cause__, ConnectionError)
        assert probe.received == ("hello",)
        with anyio.fail_after(5):
            await probe.ref.wait()
        with pytest.raises(AssertionError, match=r"The probe itself has ended: crashed: ConnectionError: refused\."):
            await probe.expect("something else")
        with pytest.raises(AssertionError, match="has ended"):
            await probe.receive(timeout=0)


async def test_a_kill_is_for_good() -> None:
    async with ActorSystem() as system:
        probe = await Probe.spawn(system)
        await probe.ref.kill()
        assert not probe.ref.alive


async def test_waiting_in_vain_says_what_came_so_far() -> None:
    async with ActorSystem() as system:
        probe = await Probe.spawn(system, "inbox")
        with pytest.raises(AssertionError) as nothing:
            await probe.receive(Tick, timeout=0.01)
        await probe.ref.ask("hello")
        await probe.receive()
        with pytest.raises(AssertionError) as something:
            await probe.expect(Tick(1), timeout=0.01)
    assert str(nothing.value).splitlines() == [
        "probe 'inbox' waited 0.01 s for a Tick, but nothing came.",
        "  received so far: nothing",
    ]
    assert str(something.value).splitlines() == [
        "probe 'inbox' waited 0.01 s for Tick(n=1), but nothing came.",
        "  received so far (1, the first 1 of them read):",
        "    1. 'hello' from outside",
    ]


async def test_something_else_is_shown_beside_what_was_expected() -> None:
    async with ActorSystem() as system:
        probe = await Probe.spawn(system, "inbox")
        forwarder = await system.spawn(lambda: Forwarder(probe), name="forwarder")
        for message in ("hello", Tick(1), Tick(2)):
            await forwarder.ask(message)
        with pytest.raises(AssertionError) as type_differs:
            await probe.receive(Tick)
        with pytest.raises(AssertionError) as value_differs:
            await probe.expect(Tick(7))
        with pytest.raises(AssertionError) as one_more:
            probe.expect_nothing()
    assert str(type_differs.value).splitlines() == [
        "probe 'inbox' expected a Tick, but read 'hello'.",
        "  received so far (3, the first 1 of them read):",
        "    1. 'hello' from 'forwarder'",
        "    2. Tick(n=1) from 'forwarder'",
        "    3. Tick(n=2) from 'forwarder'",
    ]
    assert str(value_differs.value).startswith("probe 'inbox' expected Tick(n=7), but read Tick(n=1).\n")
    assert str(one_more.value).startswith("probe 'inbox' expected no message, but 1 wait to be read.\n")


async def test_nothing_means_its_mailbox_too() -> None:
    async with ActorSystem() as system:
        probe = await Probe.spawn(system)
        probe.ref.tell_nowait("queued")
        with pytest.raises(AssertionError, match=r"but 1 wait to be read(.|\n)*in its mailbox: 1 more"):
            probe.expect_nothing()
        await probe.expect("queued")
        probe.expect_nothing()


async def test_much_is_cut_short() -> None:
    async with ActorSystem() as system:
        probe = await Probe.spawn(system)
        for n in range(SHOWN + 5):
            await probe.ref.ask(f"{n}-{'x' * 1_000}")
        with pytest.raises(AssertionError) as caught:
            probe.expect_nothing()
    shown = str(caught.value).splitlines()[2:]
    assert shown[0] == "    … 5 more"
    assert shown[1].startswith("    6. '5-xxx")
    assert len(shown) == 1 + SHOWN
    assert max(map(len, shown)) < WIDTH + 40


async def test_cancelling_a_reader_loses_no_message() -> None:
    async with ActorSystem() as system:
        probe = await Probe.spawn(system)
        await probe.ref.ask("kept")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await probe.receive()
        assert scope.cancelled_caught
        await probe.expect("kept")
        async with anyio.create_task_group() as group:
            group.start_soon(probe.receive)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        await probe.ref.tell("next")
        await probe.expect("next")


async def test_two_readers_get_a_message_each_and_wait_in_silence() -> None:
    got: list[Any] = []

    async with ActorSystem() as system:
        probe = await Probe.spawn(system)

        async def read() -> None:
            got.append(await probe.receive())

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            group.start_soon(read)
            for message in ("a", "b"):
                with anyio.fail_after(5):
                    await anyio.wait_all_tasks_blocked()
                probe.ref.tell_nowait(message)
    assert got == ["a", "b"]


async def test_it_waits_for_an_end() -> None:
    async with ActorSystem() as system:
        probe, other = await Probe.spawn(system), await Probe.spawn(system)
        probe.watch(other.ref)
        kinds: list[str] = []

        async def wait() -> None:
            with anyio.fail_after(5):
                kinds.append((await probe.down(other.ref, timeout=None)).exit.kind)

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await probe.ref.tell("not this")
            await anyio.wait_all_tasks_blocked()
            assert kinds == []
            other.ref.kill()
        assert kinds == ["killed"]


async def test_it_watches_actors_and_keeps_their_ends_apart() -> None:
    async with ActorSystem() as system:
        probe = await Probe.spawn(system)
        stopped = await system.spawn(lambda: Forwarder(probe), restart="temporary")
        crashed = await system.spawn(lambda: Forwarder(probe), restart="temporary")
        probe.watch(stopped)
        probe.watch(crashed)
        await stopped.stop(reason="enough")
        await crashed.tell("boom")
        assert (await probe.down(crashed)).exit.kind == "crashed"
        down = await probe.down(stopped)
        assert (down.ref, down.exit.kind, down.exit.reason) == (stopped, "shutdown", "enough")
        assert await probe.down(stopped) is down
        assert {each.ref for each in probe.downs} == {stopped, crashed}
        assert probe.received == ()
        probe.expect_nothing()


async def test_it_watches_what_has_ended_already() -> None:
    async with ActorSystem() as system:
        probe, late = await Probe.spawn(system), await Probe.spawn(system)
        await late.ref.kill()
        probe.watch(late.ref)
        assert (await probe.down(late.ref)).exit.kind == "killed"


async def test_an_end_that_does_not_come_says_what_is_known() -> None:
    async with ActorSystem() as system:
        probe = await Probe.spawn(system, "watcher")
        alive, gone = await Probe.spawn(system, "alive"), await Probe.spawn(system, "gone")
        with pytest.raises(AssertionError, match=r"does not watch 'alive': call watch\(\) first"):
            await probe.down(alive.ref)
        probe.watch(alive.ref)
        probe.watch(gone.ref)
        await gone.ref.stop()
        await probe.down(gone.ref)
        with pytest.raises(AssertionError) as caught:
            await probe.down(alive.ref, timeout=0.01)
    assert str(caught.value).splitlines() == [
        "probe 'watcher' waited 0.01 s for the end of <ActorRef 'alive' running>.",
        "  received so far: nothing",
        "  ended: 'gone', shutdown",
    ]
