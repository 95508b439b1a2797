"""The path of received events: which publishers are followed, which listener gets an event, and that none is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from helpers import MS, scaled, wait_until_async
from helpers.processes import OF_THE_MACHINE
from helpers.publishing import Connects, Hub, Listens, Publishes
from lightbus.core.partitions import partition_of
from lightbus.core.peers import PeerState
from lightbus.events.listening import delivery as delivery_module
from lightbus.events.listening import reading_pace as module
from lightbus.exceptions import TransportError
from lightbus.listener import OnError
from lightbus.message import EventMessage
from lightbus.service.api import Api, Event, Parameter, WildcardParameter
from lightbus.wire import envelope
from lightbus.wire.envelope import PARTITIONS, Drain, Events, Fetch, Join

A, B, C, D = "a" * 16, "b" * 16, "c" * 16, "d" * 16
Test = Callable[[Hub, Path], Awaitable[None]]


class Auth(Api):
    seen = Event([Parameter("n", int), Parameter("what", str, default="it")])
    keyed = Event(["key", "n"], key="key")
    loose = Event(["n"], delivery="best_effort")
    anything = Event(["n", WildcardParameter()])

    class Meta:
        name = "auth"


class Shop(Api):
    sold = Event(["n"])

    class Meta:
        name = "shop"


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Test], None]:
    """Return a function that runs a test on a loop, and closes the journals."""

    def start(test: Test) -> None:
        async def main() -> None:
            hub = Hub()
            try:
                await test(hub, tmp_path)
            finally:
                for publisher in list(hub.publishers.values()):
                    publisher.close()

        asyncio.run(main())

    return start


def numbers(messages: list[EventMessage]) -> list[int]:
    """Return the argument `n` of each."""
    return [message.kwargs["n"] for message in messages]


def test_a_listener_is_live_when_add_returns(run: Callable[[Test], None]) -> None:
    """From then on every published event arrives; only publishers of the API are waited for."""

    async def test(hub: Hub, path: Path) -> None:
        publisher, other = hub.publish(A, path / "a", Auth()), hub.publish(B, path / "b", Shop())
        listens = Listens(hub, C)
        seen = await listens.listen("seen")
        assert other.said == []
        assert hub.subs[0].prefixes[1:] == [b"auth\0seen\0"]  # behind its sign of presence
        await publisher.fire("seen", n=1)
        await wait_until_async(lambda: numbers(seen) == [1])
        await listens.stop()

    run(test)


def test_the_message_of_an_event(run: Callable[[Test], None]) -> None:
    """It has the event's names, arguments, id, version and time, its publisher, and its place."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, C)
        seen = await listens.listen("seen")
        fired = await publisher.fire("seen", n=1)
        await wait_until_async(lambda: seen)
        [message] = seen
        assert (message.api_name, message.event_name, message.kwargs) == ("auth", "seen", {"n": 1})
        assert (message.id, message.native_id, message.version) == ("id-1", fired.native_id, 1)
        assert (message.published_at, message.publisher, message.deliveries) == (1.5, A, 1)
        assert fired.native_id == f"{publisher.journals.own().id}-{publisher.journals.own().head}"
        await listens.stop()

    run(test)


def test_publishers_that_join_later(run: Callable[[Test], None]) -> None:
    """A new peer is followed, a known one not twice; a second API of it is followed, too."""

    async def test(hub: Hub, path: Path) -> None:
        listens = Listens(hub, C)
        seen = await listens.listen("seen")
        await listens.listen("sold", api="shop", name="seller")
        publisher = hub.publish(A, path / "a", Auth())
        for _ in range(2):
            listens.consumer.peer_is_up(publisher.peer)
        await wait_until_async(lambda: listens.consumer.is_live_at(A))
        assert len(hub.subs) == 1
        publisher.apis.add(Shop())
        listens.consumer.peer_is_up(publisher.peer)
        await wait_until_async(lambda: listens.consumer.is_live_at(A) and len(publisher.coordinator.groups) == 2)
        await publisher.fire("seen", n=1)
        await publisher.fire("sold", api="shop", n=2)
        await wait_until_async(lambda: seen and listens.seen["seller"])
        await listens.stop()

    run(test)


def test_all_events_of_an_api(run: Callable[[Test], None]) -> None:
    """`*` means every event of the API, including later ones."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, C)
        seen = await listens.listen("*")
        await publisher.fire("seen", n=1)
        await publisher.fire("loose", n=2)
        await wait_until_async(lambda: sorted(message.event_name for message in seen) == ["loose", "seen"])
        await listens.stop()

    run(test)


def test_two_listeners_are_independent(run: Callable[[Test], None]) -> None:
    """Each listener of a process is a separate group, and gets its own arguments."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, C)
        one = await listens.listen("anything")
        two = await listens.listen("anything", name="other", group="other")
        await publisher.fire("anything", n=1, more=[1])
        await wait_until_async(lambda: one and two)
        assert one[0].kwargs == two[0].kwargs
        assert one[0].kwargs["more"] is not two[0].kwargs["more"]
        await listens.stop()

    run(test)


def test_members_share_a_group(run: Callable[[Test], None]) -> None:
    """Of several processes with one group each event goes to one; all partitions are assigned."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        members = [Listens(hub, instance) for instance in (B, C, D)]
        seen = [await member.listen("seen") for member in members]
        await wait_until_async(lambda: all(member.consumer.is_live_at(A) for member in members))
        for n in range(600):
            await publisher.fire("seen", n=n)
        await wait_until_async(lambda: sum(map(len, seen)) >= 600)
        assert sorted(chain(*map(numbers, seen))) == list(range(600))
        assert all(seen)
        [group] = publisher.coordinator.groups.values()
        held = [group.membership.held_by(member) for member in (B, C, D)]
        assert sorted(chain(*held)) == list(range(envelope.PARTITIONS))
        for member in members:
            await member.stop()

    run(test)


def test_ten_groups_of_three(run: Callable[[Test], None]) -> None:
    """Each of ten groups handles every event of two publishers once, in one of its members."""

    async def test(hub: Hub, path: Path) -> None:
        publishers = [hub.publish(instance, path / instance, Auth()) for instance in (A, B)]
        members = {
            (group, number): Listens(hub, f"{group:015x}{number}", service=f"service-{group}")
            for group in range(10)
            for number in range(3)
        }
        seen = {who: await member.listen("keyed") for who, member in members.items()}
        await wait_until_async(
            lambda: all(m.consumer.is_live_at(A) and m.consumer.is_live_at(B) for m in members.values())
        )
        for n in range(100):
            for publisher in publishers:
                await publisher.fire("keyed", key=f"k{n % 7}", n=n)
        await wait_until_async(lambda: sum(map(len, seen.values())) >= 2000)
        for group in range(10):
            heard = sorted(chain(*(numbers(seen[group, number]) for number in range(3))))
            assert heard == sorted([*range(100), *range(100)])
        for member in members.values():
            await member.stop()

    run(test)


def test_a_new_journal_while_a_group_is_away(run: Callable[[Test], None]) -> None:
    """A publisher with a new journal learns of the group and keeps its events, and the group gets all of them."""

    async def test(hub: Hub, path: Path) -> None:
        first = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, C)
        await listens.listen("seen")
        await listens.stop()
        [info] = [group.info for group in first.coordinator.groups.values()]
        first.close()
        second = hub.publish(B, path / "b", Auth())
        second.coordinator.directory.merge(info)
        for n in range(20):
            await second.fire("seen", n=n)
        journal = second.journals.own()
        cursors = {topic: second.coordinator.progress.cursors_of(journal, topic) for topic in journal.topics.all()}
        journal.retention.trim(min_age=-86_400, max_events=10**6, max_bytes=10**9, cursors=cursors)
        again = Listens(hub, D)
        seen = await again.listen("seen")
        await wait_until_async(lambda: len(seen) >= 20)
        assert sorted(numbers(seen)) == list(range(20))
        await again.stop()

    run(test)


def test_events_fired_while_a_group_was_away(run: Callable[[Test], None]) -> None:
    """A group gets all events since it was created, once, and no earlier ones."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        await publisher.fire("seen", n=0)
        first = Listens(hub, B)
        seen = await first.listen("seen")
        await publisher.fire("seen", n=1)
        await wait_until_async(lambda: numbers(seen) == [1])
        await first.stop()
        for n in range(2, 3000):
            await publisher.fire("seen", n=n)
        second = Listens(hub, C)
        seen = await second.listen("seen")
        await publisher.fire("seen", n=3000)
        await wait_until_async(lambda: len(seen) >= 2999)
        assert sorted(numbers(seen)) == list(range(2, 3001))
        assert not any(message.redelivered for message in seen)
        await second.stop()

    run(test)


@pytest.mark.parametrize(("since", "expected"), [("0", [0, 1, 2]), ("$", [2]), ("id-0", [1, 2]), (None, [2])])
@pytest.mark.parametrize("group", ["{service_name}-x", None])
def test_starting_point_of_a_new_group(
    run: Callable[[Test], None], group: str | None, since: Any, expected: list[int]
) -> None:
    """With `since`, with a group and without: all stored events, new ones, or those after an event."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        for n in range(2):
            await publisher.fire("keyed", key="one", n=n)
        listens = Listens(hub, B)
        seen = await listens.listen("keyed", since=since, group=group)
        await publisher.fire("keyed", key="one", n=2)
        await wait_until_async(lambda: len(seen) >= len(expected))
        assert numbers(seen) == expected
        await listens.stop()

    run(test)


def test_no_sharing_without_a_group(run: Callable[[Test], None]) -> None:
    """With `group=None` each process gets all events while it is connected, and the publisher stores no cursor."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        members = [Listens(hub, instance) for instance in (B, C)]
        seen = [await member.listen("seen", group=None) for member in members]
        for n in range(100):
            await publisher.fire("seen", n=n)
        await wait_until_async(lambda: all(len(each) >= 100 for each in seen))
        assert all(sorted(numbers(each)) == list(range(100)) for each in seen)
        assert publisher.coordinator.groups == {}
        for member in members:
            await member.stop()

    run(test)


@pytest.mark.parametrize("since", ["0", "$", None])
def test_a_publisher_returns_to_a_listener_without_a_group(run: Callable[[Test], None], since: str | None) -> None:
    """The starting point is used once: the listener does not get the same events again."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        await publisher.fire("seen", n=0)
        listens = Listens(hub, B)
        seen = await listens.listen("seen", group=None, since=since)
        await wait_until_async(lambda: listens.consumer.is_live_at(A))
        for n in range(1, 40):
            await publisher.fire("seen", n=n)
        await wait_until_async(lambda: len(seen) == (40 if since == "0" else 39))
        publisher.close()
        listens.consumer.peer_left(A)
        again = hub.publish(C, path / "a", Auth())
        listens.consumer.peer_is_up(again.peer)
        await wait_until_async(lambda: listens.consumer.is_live_at(C))
        for n in range(40, 80):
            await again.fire("seen", n=n)
        await wait_until_async(lambda: numbers(seen)[-40:] and set(numbers(seen)) >= set(range(1, 80)))
        assert sorted(numbers(seen)) == list(range(since != "0", 80))
        await listens.stop()

    run(test)


def test_a_group_that_is_removed(run: Callable[[Test], None]) -> None:
    """It gets no old events; if it has members, it begins again with new events, at other publishers, too."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        gate = asyncio.Event()
        handled: list[int] = []

        async def handle(message: EventMessage) -> None:
            if message.kwargs["n"] >= 100:
                await gate.wait()
            handled.append(message.kwargs["n"])

        members = [Listens(hub, B), Listens(hub, C)]
        for member in members:
            await member.listen("seen", function=handle)
        for n in range(100):
            await publisher.fire("seen", n=n)
        await wait_until_async(lambda: len(handled) == 100)
        for n in range(100, 200):
            await publisher.fire("seen", n=n)
        assert publisher.coordinator.directory.forget("auth", "shop-greeter")
        await wait_until_async(lambda: ("auth", "shop-greeter") in publisher.coordinator.groups)
        gate.set()
        await wait_until_async(lambda: all(member.consumer.is_live_at(A) for member in members))
        await wait_until_async(lambda: len(publisher.coordinator.groups["auth", "shop-greeter"].connections) == 2)
        for n in range(200, 300):
            await publisher.fire("seen", n=n)
        await wait_until_async(lambda: set(handled) >= set(range(200, 300)))
        assert all(handled.count(n) == 1 for n in range(100))
        assert len(set(handled)) < 300  # of what waited, only what was at hand
        await asyncio.gather(*(member.stop() for member in members))

    run(test)


def test_all_listeners_of_an_ended_process(run: Callable[[Test], None]) -> None:
    """The end of a process is detected for each of its listeners, in all of their groups."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, B)
        for name in ("one", "two"):
            await listens.listen("seen", name=name, group=f"{{service_name}}-{name}")
        for sub in hub.subs:
            sub.close()
        await wait_until_async(lambda: publisher.coordinator.counts["lost"] == 2)
        assert not any(group.connections for group in publisher.coordinator.groups.values())
        await listens.stop()

    run(test)


def test_lost_frames_are_fetched(run: Callable[[Test], None]) -> None:
    """A lost event is detected by the next event or the next HEAD, and fetched."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, B)
        seen = await listens.listen("keyed")
        turn = iter(range(10**6))
        publisher.loses = lambda frame: b"keyed" in frame and next(turn) % 3 > 0
        for n in range(100):
            await publisher.fire("keyed", key=f"k{n % 5}", n=n)
        publisher.loses = lambda frame: False
        publisher.publisher.tick(asyncio.get_running_loop().time() + 10**6)  # every topic says which is its newest
        await wait_until_async(lambda: len(seen) >= 100)
        for key in range(5):
            assert numbers([m for m in seen if m.kwargs["key"] == f"k{key}"]) == list(range(key, 100, 5))
        assert any(isinstance(message, Fetch) for message in publisher.said)
        await listens.stop()

    run(test)


def test_a_lost_member(run: Callable[[Test], None]) -> None:
    """Its partitions go to the others, from its acknowledged position; possibly delivered events are marked."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        gate = asyncio.Event()

        async def stuck(message: EventMessage) -> None:
            await gate.wait()

        first, second = Listens(hub, B), Listens(hub, C)
        await first.listen("seen", function=stuck)
        seen = await second.listen("seen")
        await wait_until_async(lambda: first.consumer.is_live_at(A) and second.consumer.is_live_at(A))
        for n in range(200):
            await publisher.fire("seen", n=n)
        await wait_until_async(lambda: seen)
        first.vanish()  # as when its process is killed: the publisher sees its subscriptions end
        await wait_until_async(lambda: sorted(numbers(seen)) == list(range(200)), 20)
        assert any(message.redelivered for message in seen)
        assert publisher.coordinator.counts["lost"] == 1
        await second.stop()

    run(test)


def test_no_event_is_lost_after_many_rebalances(run: Callable[[Test], None], chaos: random.Random) -> None:
    """Members join, leave or vanish while events are fired; soon afterwards all events are handled."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        handled: set[int] = set()
        fired: set[int] = set()
        is_over = asyncio.Event()

        async def handle(message: EventMessage) -> None:
            await asyncio.sleep(0)
            handled.add(message.kwargs["n"])

        async def fire() -> None:
            while not is_over.is_set():
                n = len(fired)
                await publisher.fire("keyed", key=str(n % 97), n=n)
                fired.add(n)
                publisher.tick()
                await asyncio.sleep(0.001)

        async def come(number: int) -> Listens:
            member = Listens(hub, f"{number:016x}")
            await member.listen("keyed", function=handle)
            return member

        members = [await come(0)]
        firing = asyncio.create_task(fire())
        for number in range(1, scaled(200, least=20)):
            await asyncio.sleep(chaos.uniform(0.0, 0.05))
            if len(members) > 1 and (len(members) == 4 or chaos.random() < 0.5):
                member = members.pop(chaos.randrange(len(members)))
                if chaos.random() < 0.5:
                    await member.stop()
                else:
                    member.vanish()
            else:
                members.append(await come(number))
        is_over.set()
        await firing
        await wait_until_async(lambda: handled == fired, 10.0, what="all events are handled")
        for member in members:
            await member.stop()

    run(test)


def is_published(frame: bytes) -> bool:
    """Return whether a frame contains events or a head, and is no marker."""
    return not frame.startswith(envelope.MARKER_PREFIX)


@pytest.mark.parametrize("event", ["seen", "keyed"])
@pytest.mark.parametrize("group", ["{service_name}-greeter", None])
@pytest.mark.parametrize("trouble", ["", "catches up", "losses", "slow"])
def test_events_come_in_the_order_of_firing(run: Callable[[Test], None], event: str, group: str, trouble: str) -> None:
    """A single process that handles one event at a time gets them by sequence, across partitions, in any case."""
    chance = random.Random(7)
    handled: list[int] = []

    async def handle(message: EventMessage) -> None:
        handled.append(message.kwargs["n"])
        if trouble == "slow" and len(handled) % 5 == 0:
            await asyncio.sleep(0)

    def some(first: int, count: int) -> list[dict[str, Any]]:
        return [
            {"n": n, **({"key": chance.randrange(99)} if event == "keyed" else {})} for n in range(first, first + count)
        ]

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, B)
        if trouble == "losses":
            publisher.loses = lambda frame: is_published(frame) and chance.random() < 0.3
        if trouble != "catches up":
            await listens.listen(event, group=group, function=handle)
        for first in range(0, 1500, 30):
            await asyncio.gather(*(publisher.fire(event, **each) for each in some(first, 25)))
            for each in some(first + 25, 5):
                await publisher.fire(event, **each)
        if trouble == "catches up":
            await listens.listen(event, group=group, function=handle, since="0")
        publisher.loses = lambda frame: False
        await publisher.fire(event, **some(1500, 1)[0])
        await wait_until_async(lambda: len(handled) == 1501)
        assert handled == list(range(1501))
        await listens.stop()

    run(test)


def test_order_after_other_members_have_left(run: Callable[[Test], None]) -> None:
    """Once a process is the only member, later events are in order; and after a restart."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        first, second = Listens(hub, B), Listens(hub, C)
        await first.listen("seen")
        seen = await second.listen("seen")
        await wait_until_async(lambda: first.consumer.is_live_at(A) and second.consumer.is_live_at(A))
        for n in range(100):
            await publisher.fire("seen", n=n)
        await first.stop()
        await wait_until_async(lambda: len(seen) + len(first.seen["greeter"]) == 100)
        for n in range(100, 300):
            await publisher.fire("seen", n=n)
        await wait_until_async(lambda: len(seen) + len(first.seen["greeter"]) == 300)
        assert numbers(seen)[-200:] == list(range(100, 300))
        await second.stop()
        for n in range(300, 500):
            await publisher.fire("seen", n=n)
        third = Listens(hub, D)
        again = await third.listen("seen")
        await publisher.fire("seen", n=500)
        await wait_until_async(lambda: len(again) == 201)
        assert numbers(again) == list(range(300, 501))
        await third.stop()

    run(test)


def test_order_continues_past_a_retried_event(run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing event delays its partition, and no other; all others are in order."""
    monkeypatch.setattr(delivery_module, "FIRST_PAUSE", 1 * MS)
    handled: list[tuple[int, str]] = []

    async def handle(message: EventMessage) -> None:
        if message.kwargs["n"] == 20 and message.deliveries < 4:
            raise ValueError("not yet")
        handled.append((message.kwargs["n"], message.native_id))

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, B)
        await listens.listen("keyed", function=handle, on_error=OnError.RETRY)
        for n in range(200):
            await publisher.fire("keyed", n=n, key="late" if n == 20 else n % 7)
        await wait_until_async(lambda: len(handled) == 200)
        late = {
            n for n in range(200) if n == 20 or partition_of(str(n % 7), PARTITIONS) == partition_of("late", PARTITIONS)
        }
        rest = [n for n, _ in handled if n not in late]
        assert rest == sorted(rest)
        await listens.stop()

    run(test)


def test_a_member_whose_handler_fails(run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Only it leaves the group: others get its partitions, and the failed event becomes a dead letter."""
    monkeypatch.setattr(delivery_module, "FIRST_PAUSE", 1 * MS)

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())

        async def fail(message: EventMessage) -> None:
            raise ValueError("no luck")

        first, second = Listens(hub, B), Listens(hub, C)
        await first.listen("seen", function=fail, on_error=OnError.STOP_LISTENER, max_deliveries=2)
        other = await first.listen("anything", name="other", group="{service_name}-other")
        seen = await second.listen("seen")
        await wait_until_async(lambda: first.consumer.is_live_at(A) and second.consumer.is_live_at(A))
        for n in range(200):
            await publisher.fire("seen", n=n)
            await publisher.fire("anything", n=n)
        await wait_until_async(
            lambda: first.stopped and len(seen) + publisher.coordinator.counts["dead_lettered"] == 200
        )
        [group] = [each for (_, name), each in publisher.coordinator.groups.items() if name == "shop-greeter"]
        assert (group.membership.members.keys(), publisher.coordinator.counts["lost"]) == ({C}, 0)
        assert first.stopped == ["ValueError: no luck"]
        assert publisher.coordinator.counts["dead_lettered"] == 1
        await wait_until_async(lambda: len(other) == 200)
        late = hub.publish(D, path / "d", Auth())
        first.consumer.peer_is_up(late.peer)  # a publisher that comes later is not followed by it either
        second.consumer.peer_is_up(late.peer)
        await late.fire("seen", n=200)
        await wait_until_async(lambda: 200 in numbers(seen))
        await first.stop()
        await second.stop()

    run(test)


def test_a_member_that_hangs(run: Callable[[Test], None]) -> None:
    """After `member_timeout` of silence, its partitions go to others, and its acknowledgements are refused."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        first, second = Listens(hub, B), Listens(hub, C)
        await first.listen("seen")
        await second.listen("seen")
        [group] = publisher.coordinator.groups.values()
        now = asyncio.get_running_loop().time()
        group.membership.record_activity(C, now + 100)
        publisher.coordinator.tick(now + 100)
        assert set(group.membership.members) == {C}
        assert publisher.coordinator.counts["hung"] == 1
        for connection in first.consumer._connections.values():
            connection.tick()  # its beat is answered: not a member any more. It joins anew
        await wait_until_async(lambda: set(group.membership.members) == {B, C})
        await first.stop()
        await second.stop()

    run(test)


def test_a_publisher_that_returns(run: Callable[[Test], None]) -> None:
    """A publisher that continues a journal begins at the group's positions, even if acknowledgements were lost."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, C)
        seen = await listens.listen("seen")
        publisher.coordinator.cursors.save_soon = lambda: None  # what is acknowledged now is never stored
        for n in range(50):
            await publisher.fire("seen", n=n)
        await wait_until_async(lambda: len(seen) == 50)
        publisher.close()
        listens.consumer.peer_left(A)
        again = hub.publish(B, path / "a", Auth())
        listens.consumer.peer_is_up(again.peer)
        await wait_until_async(lambda: listens.consumer.is_live_at(B))
        await again.fire("seen", n=50)
        await wait_until_async(lambda: len(seen) >= 51)
        assert sorted(numbers(seen)) == list(range(51))
        await listens.stop()

    run(test)


def test_best_effort_is_live_only(run: Callable[[Test], None], caplog: pytest.LogCaptureFixture) -> None:
    """Events of best effort are neither stored nor fetched; lost ones are counted and logged."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, B)
        seen = await listens.listen("loose")
        publisher.loses = lambda frame: True
        turns = publisher.publisher.batcher._turns
        turns.topic = lambda *_: turns._make_topics("auth", "loose")[3]  # type: ignore[method-assign]
        await publisher.fire("loose", n=1)
        await asyncio.sleep(0)
        publisher.loses = lambda frame: False
        for n in (2, 3):
            await publisher.fire("loose", n=n)
            await asyncio.sleep(0)
        publisher.loses = lambda frame: True
        await publisher.fire("loose", n=4)
        await asyncio.sleep(0)
        publisher.loses = lambda frame: False
        await publisher.fire("loose", n=5)
        await wait_until_async(lambda: numbers(seen) == [2, 3, 5])
        assert listens.consumer.counts["gaps"] == 1
        assert listens.consumer.runners[0].queue.counts["dropped"] == 1
        assert "1 events of auth.loose from pub aaaa… on host h were lost in transit" in caplog.text
        assert publisher.journals.own().size == (0, 0)
        await listens.stop()

    run(test)


def test_best_effort_of_a_publisher_that_is_lost_and_found_again(run: Callable[[Test], None]) -> None:
    """Events published in the meantime count as missed, detected by the next event or head."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, B)
        seen = await listens.listen("loose")
        turns = publisher.publisher.batcher._turns
        turns.topic = lambda *_: turns._make_topics("auth", "loose")[3]  # type: ignore[method-assign]
        await publisher.fire("loose", n=1)
        await wait_until_async(lambda: numbers(seen) == [1])
        listens.consumer.peer_left(A)
        for n in (2, 3, 4):
            await publisher.fire("loose", n=n)
            await asyncio.sleep(0)
        listens.consumer.peer_is_up(publisher.peer)
        await wait_until_async(lambda: listens.consumer.is_live_at(A))
        await publisher.fire("loose", n=5)
        await wait_until_async(lambda: numbers(seen) == [1, 5])
        assert listens.consumer.runners[0].queue.counts["dropped"] == 3
        await listens.stop()

    run(test)


def test_a_draining_publisher_is_followed(run: Callable[[Test], None]) -> None:
    """Its further events arrive."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, B)
        seen = await listens.listen("seen")
        listens.consumer.peer_is_up(replace(publisher.peer, state=PeerState.DRAINING))
        await publisher.fire("seen", n=1)
        await wait_until_async(lambda: seen)
        assert len(hub.subs) == 1
        await listens.stop()

    run(test)


def test_unconfirmed_listeners_are_logged_in_one_line(
    run: Callable[[Test], None], caplog: pytest.LogCaptureFixture
) -> None:
    """A problem of a hundred listeners with one name is one line, and not a hundred."""

    async def test(hub: Hub, path: Path) -> None:
        hub.publish(A, path / "a", Auth()).is_deaf = True
        listens = Listens(hub, B)
        await listens.listen("seen")
        await listens.listen("seen")
        assert caplog.text.count("did not confirm the subscription of greeter of auth.seen within") == 1
        await listens.stop()

    run(test)


def test_a_publisher_that_moved(run: Callable[[Test], None]) -> None:
    """The same instance at another endpoint is followed there."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, B)
        await listens.listen("seen")
        listens.consumer.peer_is_up(replace(publisher.peer, event_endpoint="mem://elsewhere.pub"))
        assert [sub.closed for sub in hub.subs] == [True, False]
        await listens.stop()

    run(test)


def test_a_publisher_that_does_not_confirm(run: Callable[[Test], None], caplog: pytest.LogCaptureFixture) -> None:
    """After the setup timeout there is a warning, and retries; then everything works."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        publisher.is_deaf = True
        listens = Listens(hub, B)
        seen = await listens.listen("seen")
        assert "1 of 1 publishers did not confirm the subscription of greeter of auth.seen within" in caplog.text
        publisher.is_deaf = False
        for connection in listens.consumer._connections.values():
            connection._requests._loop = _Later(asyncio.get_running_loop())  # type: ignore[assignment]
            connection.tick()
        await wait_until_async(lambda: listens.consumer.is_live_at(A))
        assert any(isinstance(message, Join) for message in publisher.said)
        await publisher.fire("seen", n=1)
        await wait_until_async(lambda: seen)
        await listens.stop()

    run(test)


@pytest.mark.parametrize("socket", ["subscriber", "dealer"])
@pytest.mark.parametrize("is_late", [False, True], ids=["known", "late"])
@pytest.mark.parametrize("error", [TransportError("Is the address right?"), OSError("Too many open files")])
def test_a_publisher_that_cannot_be_connected_to(
    run: Callable[[Test], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    socket: str,
    is_late: bool,
    error: Exception,
) -> None:
    """The events of the others arrive; it is logged once, and tried again until it succeeds."""
    connect, tries = getattr(Connects, socket), 0

    def fails(self: Connects, endpoint: str, *given: Any, **more: Any) -> Any:
        nonlocal tries
        if endpoint.startswith(f"mem://{A}"):
            tries += 1
            raise error
        return connect(self, endpoint, *given, **more)

    async def test(hub: Hub, path: Path) -> None:
        broken, other = hub.publish(A, path / "a", Auth()), hub.publish(B, path / "b", Auth())
        listens = Listens(hub, C)
        with monkeypatch.context() as patched:
            patched.setattr(Connects, socket, fails)
            seen = await listens.listen("seen", to=[other] if is_late else None)
            if is_late:
                listens.consumer.peer_is_up(broken.peer)
            await other.fire("seen", n=1)
            await wait_until_async(lambda: numbers(seen) == [1])
            for count in (2, 3):
                tick(listens)
                assert tries == count
        assert [sub.closed for sub in hub.subs if sub._publisher is broken] == [True] * (
            0 if socket == "subscriber" else 3
        )
        tick(listens)
        await wait_until_async(lambda: listens.consumer.is_live_at(A))
        await broken.fire("seen", n=2)
        await wait_until_async(lambda: numbers(seen) == [1, 2])
        opened = len(hub.subs)
        tick(listens)
        assert len(hub.subs) == opened
        await listens.stop()

    run(test)
    assert caplog.text.count(f"cannot be connected to, which is tried again every 1 s. {error}") == 1


def test_a_publisher_that_leaves_unconnected(run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not tried again: neither after it has left, nor after the last listener to its events was removed."""
    tried: list[str] = []

    def fails(self: Connects, endpoint: str, *given: Any, **more: Any) -> Any:
        tried.append(endpoint)
        raise TransportError("Is the address right?")

    async def test(hub: Hub, path: Path) -> None:
        hub.publish(A, path / "a", Auth())
        hub.publish(B, path / "b", Auth())
        monkeypatch.setattr(Connects, "subscriber", fails)
        listens = Listens(hub, C)
        await listens.listen("seen")
        assert len(tried) == 2
        listens.consumer.peer_left(A)
        tick(listens)
        assert len(tried) == 3
        await listens.consumer.remove(listens.consumer.runners[0].listener)
        tick(listens)
        assert len(tried) == 3
        await listens.stop()

    run(test)


def tick(listens: Listens) -> None:
    """Do now what a consumer does each second."""
    listens.consumer._timer.cancel()
    listens.consumer._tick()


class _Later:
    """A loop whose clock is a minute ahead."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def time(self) -> float:
        return self._loop.time() + 60

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


# What comes is checked


def test_events_of_a_known_api_are_complete_and_checked(run: Callable[[Test], None]) -> None:
    """If the API is registered here too, defaults are filled in, and an invalid event stops no worker."""

    class Loose(Api):
        seen = Event(["n", WildcardParameter()])

        class Meta:
            name = "auth"

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Loose())
        listens = Listens(hub, B, Auth())
        seen = await listens.listen("seen", on_error=OnError.SHUTDOWN)
        for n in (1, "two", 3):
            await publisher.fire("seen", n=n)
        await publisher.fire("seen", n=4, more="of a later version")
        await wait_until_async(lambda: len(seen) == 3)
        assert sorted((message.kwargs["n"], message.kwargs["what"]) for message in seen) == [
            (1, "it"), (3, "it"), (4, "it")
        ]  # fmt: skip
        assert next(message for message in seen if message.kwargs["n"] == 4).kwargs["more"] == "of a later version"
        assert listens.fatal == []
        await listens.stop()

    run(test)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"garbage",
        envelope.event_topic("auth", "seen", 3) + b"garbage",
        envelope.encode_published(envelope.event_topic("auth", "seen", 3), Events("j", A, [7])),
        envelope.encode_published(envelope.event_topic("auth", "seen", 3), Events("j", A, [[1, 0]])),
        envelope.encode_published(envelope.event_topic("auth", "seen", 3), Events("j", A, [[1, "x", b""]])),
        envelope.encode_published(b"\xc3(\0seen\0" + b"03\0", Events("0" * 16, A, [])),
        envelope.encode_published(b"auth\0seen\0" + b"zz\0", Events("0" * 16, A, [])),
    ],
    ids=str,
)
def test_unreadable_frames_are_counted(run: Callable[[Test], None], frame: bytes) -> None:
    """Whatever a publisher sends, the next event arrives."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, B)
        seen = await listens.listen("seen")
        hub.subs[0]._on_message(frame)
        assert listens.consumer.counts["unreadable"] == 1
        await publisher.fire("seen", n=1)
        await wait_until_async(lambda: numbers(seen) == [1])
        await listens.stop()

    run(test)


def test_an_unreadable_record(run: Callable[[Test], None]) -> None:
    """A stored event that cannot be read is skipped, and later ones are handled."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, B)
        seen = await listens.listen("seen")
        topic = envelope.event_topic("auth", "seen", 3)
        hub.subs[0]._on_message(envelope.encode_published(topic, Events("0" * 16, A, [[1, 0, b"\xc1"]])))
        [runner] = listens.consumer.runners
        await wait_until_async(lambda: runner.queue.counts["invalid"] == 1)
        await publisher.fire("seen", n=1)
        await wait_until_async(lambda: numbers(seen) == [1])
        await listens.stop()

    run(test)


def test_other_messages_are_ignored(run: Callable[[Test], None]) -> None:
    """A published message that contains no events, marker or head has no effect."""

    async def test(hub: Hub, path: Path) -> None:
        hub.publish(A, path / "a", Auth())
        listens = Listens(hub, B)
        seen = await listens.listen("seen")
        hub.subs[0]._on_message(envelope.event_topic("auth", "seen", 3) + envelope.encode(Drain()))
        hub.subs[0]._on_message(
            envelope.encode_published(envelope.event_topic("auth", "seen", 3), Events("0" * 16, A, []))
        )
        assert (seen, dict(listens.consumer.counts)) == ([], {})
        await listens.stop()

    run(test)


# Reading no faster than the listeners handle


def test_a_slow_listener_does_not_delay_others(run: Callable[[Test], None]) -> None:
    """Reading continues after a moment; the slow listener gets its events from the journal later."""
    gate = asyncio.Event()
    slow: list[int] = []

    async def function(message: EventMessage, n: int) -> None:
        await gate.wait()
        slow.append(n)

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, B)
        await listens.listen("seen", function=function, name="slow", group="slow")
        quick = await listens.listen("seen", name="quick", group="quick")
        count = 20_000
        for start in range(0, count, 1000):
            await asyncio.gather(*(publisher.fire("seen", n=n) for n in range(start, start + 1000)))
        await wait_until_async(lambda: len(quick) == count, 30)
        held_up, _ = (runner.queue for runner in listens.consumer.runners)
        assert held_up.is_slow
        assert held_up.backlog < count  # the rest waits in the journal
        gate.set()
        await wait_until_async(lambda: len(slow) == count, 30)
        assert sorted(slow) == list(range(count))
        await listens.stop()

    run(test)


def test_reading_pauses_after_a_portion(run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """After a portion, nothing is read before the listeners have run; no timer outlives the consumer."""
    monkeypatch.setattr(module, "MAX_PAUSE", 60.0)  # or it would go on by itself, on a busy machine

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, B)
        await listens.listen("seen")
        await asyncio.gather(*(publisher.fire("seen", n=n) for n in range(2 * module.PORTION)))
        assert hub.subs[0].paused
        await listens.stop()

    run(test)


def test_stopping_without_listeners(run: Callable[[Test], None]) -> None:
    """An unused consumer stops at once, and may be stopped twice."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, B)
        listens.consumer.peer_is_up(publisher.peer)
        assert hub.subs == []
        await listens.stop()
        await listens.stop()

    run(test)


def test_a_stalled_loop_joins_its_groups_again(run: Callable[[Test], None], caplog: pytest.LogCaptureFixture) -> None:
    """After a stall longer than `member_timeout` all groups are joined again: others have the partitions by then."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, B)
        seen = await listens.listen("seen")
        listens.consumer._ticked_at -= 60
        listens.consumer._timer.cancel()
        listens.consumer._tick()
        await wait_until_async(lambda: publisher.coordinator.counts["joined"] == 2 and listens.consumer.is_live_at(A))
        assert listens.consumer.counts["standstills"] == 1
        assert "was blocked for long" in caplog.text
        assert OF_THE_MACHINE.search(caplog.text), "tests of programs leave it out"
        await publisher.fire("seen", n=1)
        await wait_until_async(lambda: numbers(seen) == [1])
        await listens.stop()

    run(test)


def test_an_unknown_event_name_is_logged(run: Callable[[Test], None], caplog: pytest.LogCaptureFixture) -> None:
    """A listener of an event that its API does not have causes one warning."""
    from lightbus.wire.api_info import ApiInfo

    async def test(hub: Hub, path: Path) -> None:
        publisher: Publishes = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, B)
        await listens.listen("sene", to=[])
        info = ApiInfo(name="auth", events=("seen",))
        told = replace(publisher.peer.announcement, apis=(info,), api_names=None)
        for _ in range(2):
            listens.consumer.peer_is_up(replace(publisher.peer, announcement=told))
        assert caplog.text.count("has no such event. Did you mean 'seen'?") == 1
        await listens.stop()

    run(test)


def test_a_removed_listener(run: Callable[[Test], None]) -> None:
    """Publishers send nothing more for it; others get theirs, and a listener like it uses the same connections."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        listens = Listens(hub, C)
        removed = await listens.listen("seen", "loose", name="removed", group=None)
        stays = await listens.listen("seen", name="stays", group=None)
        [listener] = [runner.listener for runner in listens.consumer.runners if runner.listener.name == "removed"]
        for n in (1, 2):
            await publisher.fire("seen", n=n)
        await wait_until_async(lambda: numbers(removed) == numbers(stays) == [1, 2])
        for _ in range(2):
            await listens.consumer.remove(listener)
        assert listens.consumer.runner_of(listener) is None
        assert hub.subs[0].prefixes[1:] == [b"auth\0seen\0"]
        await publisher.fire("seen", n=3)
        await publisher.fire("loose", n=4)
        await wait_until_async(lambda: numbers(stays) == [1, 2, 3])
        assert numbers(removed) == [1, 2]
        await listens.consumer.add(listener, [publisher.peer])
        await publisher.fire("loose", n=5)
        await wait_until_async(lambda: numbers(removed) == [1, 2, 5])
        assert len(hub.subs) == 1
        await listens.stop()

    run(test)


def test_a_removed_member_leaves_its_group(run: Callable[[Test], None]) -> None:
    """After its event in progress; the others get what is left."""

    async def test(hub: Hub, path: Path) -> None:
        publisher = hub.publish(A, path / "a", Auth())
        begun, goes_on, handled = asyncio.Event(), asyncio.Event(), 0

        async def slow(message: EventMessage, **kwargs: Any) -> None:
            nonlocal handled
            begun.set()
            await goes_on.wait()
            handled += 1

        listens, other = Listens(hub, C), Listens(hub, D)
        await listens.listen("seen", function=slow)
        for n in range(20):
            await publisher.fire("seen", n=n)
        await begun.wait()
        removing = asyncio.create_task(listens.consumer.remove(listens.consumer.runners[0].listener))
        seen = await other.listen("seen")
        goes_on.set()
        await removing
        await wait_until_async(lambda: handled + len(seen) == 20)
        assert handled == 1
        [group] = publisher.coordinator.groups.values()
        await wait_until_async(lambda: list(group.connections) == [D])
        await listens.stop()
        await other.stop()

    run(test)


def test_unused_connections_are_closed(run: Callable[[Test], None]) -> None:
    """Those of publishers at which nothing is subscribed; they are made again for the next listener."""

    async def test(hub: Hub, path: Path) -> None:
        first, second = hub.publish(A, path / "a", Auth()), hub.publish(B, path / "b", Shop())
        listens = Listens(hub, C)
        await listens.listen("seen", group=None)
        await listens.listen("sold", api="shop", name="seller", group=None)
        [listener] = [runner.listener for runner in listens.consumer.runners if runner.listener.api == "auth"]
        listens.consumer.close_unused()
        assert not any(sub.closed for sub in hub.subs)
        await listens.consumer.remove(listener)
        assert not any(sub.closed for sub in hub.subs)
        listens.consumer.close_unused()
        assert [sub.closed for sub in hub.subs] == [True, False]
        listens.consumer.peer_is_up(first.peer)
        assert len(hub.subs) == 2
        seen = await listens.listen("seen", group=None)
        await first.fire("seen", n=1)
        await second.fire("sold", api="shop", n=2)
        await wait_until_async(lambda: seen and listens.seen["seller"])
        assert len(hub.subs) == 3
        await listens.stop()

    run(test)
