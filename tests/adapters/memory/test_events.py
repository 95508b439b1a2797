"""Events in memory: which are kept, and members whose loop is closed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from lightbus.adapters.memory.events import MemoryEventBackend, MemoryEventStore
from lightbus.ports.events import BackendContext, EventTopic, OutgoingEvent, SubscriptionRequest, TopicState

TOPIC = EventTopic("sold", 3)


class Inbox:
    """Records its calls."""

    def __init__(self) -> None:
        self.states: dict[EventTopic, TopicState] = {}
        self.revoked: set[int] = set()
        self.told = asyncio.Event()

    def follow(self, states: Sequence[TopicState]) -> None:
        """Record the heads of topics."""
        self.states.update({state.topic: state for state in states})
        self.told.set()

    def revoke(self, partitions: frozenset[int]) -> None:
        """Record the revoked partitions."""
        self.revoked |= partitions
        self.told.set()


def backend(bus: str, **options: object) -> MemoryEventBackend:
    """Return a backend of a process on a bus."""
    return MemoryEventBackend(BackendContext(bus=bus, instance="1" * 16, options=options))


def event(number: int, topic: EventTopic = TOPIC) -> OutgoingEvent:
    """Return an event."""
    return OutgoingEvent(api="shop", topic=topic, id=f"id-{number}", record=b"%d" % number, published_at=float(number))


def request(member: str, group: str = "mail") -> SubscriptionRequest:
    """Return what a member asks for."""
    return SubscriptionRequest(api="shop", events=("sold",), group=group, member=member, since="0")


async def until(inbox: Inbox, head: int) -> None:
    """Wait until the topic is reported up to a sequence."""
    while inbox.states.get(TOPIC, TopicState(TOPIC, 0, 0)).head < head:
        inbox.told.clear()
        await inbox.told.wait()


def test_oldest_events_are_deleted_and_reported_once() -> None:
    """Beyond `max_events` the oldest are deleted; a group that has not handled them learns how many it lost."""

    async def scenario() -> None:
        store = backend("trim", max_events=10)
        inbox = Inbox()
        subscription = await store.subscribe(request("a"), inbox)
        await store.publish([event(number) for number in range(1, 21)])
        await until(inbox, 20)
        page = await subscription.fetch(TOPIC, 0, 100)
        assert [kept.sequence for kept in page.events] == list(range(11, 21))
        assert (page.through, page.lost) == (20, 10)
        assert (await subscription.fetch(TOPIC, 0, 100)).lost == 0
        assert [group.lost for group in await store.groups("shop")] == [10]
        await store.stop()

    asyncio.run(scenario())


def test_republished_event_keeps_its_sequence() -> None:
    """Published again, it has the same sequence."""

    async def scenario() -> None:
        store = backend("once")
        assert await store.publish([event(1), event(2), event(1)]) == [1, 2, 1]
        assert len(await store.history("shop", "*", start=None, stop=None, limit=9)) == 2

    asyncio.run(scenario())


def test_pages_continue_each_other() -> None:
    """A page says up to where it reaches; a repeated request returns the same page."""

    async def scenario() -> None:
        store, inbox = backend("pages"), Inbox()
        await store.publish([event(number) for number in range(1, 6)])
        subscription = await store.subscribe(request("a"), inbox)
        await until(inbox, 5)
        first = await subscription.fetch(TOPIC, 0, 3)
        assert first == await subscription.fetch(TOPIC, 0, 3)
        rest = await subscription.fetch(TOPIC, first.through, 3)
        assert [kept.record for kept in (*first.events, *rest.events)] == [b"1", b"2", b"3", b"4", b"5"]
        assert rest.through == 5
        await store.stop()

    asyncio.run(scenario())


def test_partition_moves_after_its_release() -> None:
    """A revoked partition stays its owner's until it is released; for others nothing is recorded."""

    async def scenario() -> None:
        store, first, second = backend("moves"), Inbox(), Inbox()
        topics = [EventTopic("sold", partition) for partition in range(16)]
        await store.publish([event(topic.partition, topic) for topic in topics])
        one = await store.subscribe(request("a"), first)
        while len(first.states) < 16:
            await first.told.wait()
            first.told.clear()
        two = await store.subscribe(request("b"), second)
        while not first.revoked:
            await first.told.wait()
            first.told.clear()
        moving = EventTopic("sold", min(first.revoked))
        assert not (await two.fetch(moving, 0, 9)).events
        assert await two.begin(moving, 1, 1) == 0
        await one.ack({moving: moving.partition + 1})
        await one.release(frozenset(first.revoked))
        while moving not in second.states:
            second.told.clear()
            await second.told.wait()
        assert second.states[moving].cursor == moving.partition + 1
        await one.ack({moving: 99})
        assert await one.begin(moving, 1, 1) == 0
        await store.stop()

    asyncio.run(scenario())


def test_member_with_a_closed_loop_is_removed() -> None:
    """Events that it got and did not handle are reported to its successor as begun."""
    shared = MemoryEventStore.of_bus("gone")

    async def begins() -> None:
        store, inbox = backend("gone"), Inbox()
        subscription = await store.subscribe(request("a"), inbox)
        await store.publish([event(1)])
        await until(inbox, 1)
        await subscription.fetch(TOPIC, 0, 1)

    async def goes_on() -> None:
        store, inbox = backend("gone"), Inbox()
        await store.publish([event(2)])
        await store.subscribe(request("b"), inbox)
        await until(inbox, 2)
        assert inbox.states[TOPIC] == TopicState(TOPIC, 0, 2, begun=1)
        await store.stop()

    thread = threading.Thread(target=lambda: asyncio.run(begins()))
    thread.start()
    thread.join()
    asyncio.run(goes_on())
    with shared.lock:
        assert [list(group.state().members) for group in shared.groups["shop"].values()] == [[]]


def test_who_gives_up_waiting_is_forgotten() -> None:
    """A group may be stuck for ever: the callers that wait for it are not kept."""

    async def scenario() -> None:
        store = backend("waiting")
        [sequence] = await store.publish([event(1)])
        assert isinstance(sequence, int)
        await store.subscribe(request("1" * 16), Inbox())
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await store.when_handled("shop", sequence)
        assert store._memory._waiters["shop"] == []
        await store.stop()

    asyncio.run(scenario())


def test_store_is_gone_with_its_last_backend() -> None:
    """Two buses of one name share events; when both are closed, the events are gone."""

    async def published() -> Sequence[object]:
        return await backend("short").publish([event(1)])

    assert asyncio.run(published()) == [1]
    assert asyncio.run(published()) == [1]
    held = MemoryEventStore.of_bus("short")
    asyncio.run(published())
    with held.lock:
        assert held.log("shop").head == 1
