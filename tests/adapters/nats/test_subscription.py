"""A listener at a JetStream: which partitions it holds, and in which order topics are reported."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lightbus.adapters.nats import subscription as module
from lightbus.adapters.nats.api_stream import ALL, ApiStream
from lightbus.adapters.nats.event_counts import EventCounts
from lightbus.adapters.nats.places import StreamPlaces, digest
from lightbus.adapters.nats.subscription import GroupStart, NatsSubscription
from lightbus.exceptions import EventBackendError
from lightbus.ports.events import EventTopic, SubscriptionRequest, TopicState

FIRST, SECOND, THIRD = EventTopic("sold", 1), EventTopic("sold", 2), EventTopic("opened", 3)


class Records:
    """What is on record of groups, in this process."""

    def __init__(self) -> None:
        self.records: dict[str, Any] = {}

    def observe(self, changed: Callable[[str], None]) -> Callable[[], None]:
        """Notify no observer."""
        return lambda: None


class Stream:
    """The events of an API: only the states of their topics."""

    def __init__(self) -> None:
        self.records = Records()
        self.counts = SimpleNamespace(events=EventCounts(StreamPlaces("home", "shop")))
        self.events: list[EventTopic] = []
        self.fails = 0
        self.while_asked: Callable[[], None] = lambda: None
        self._followers: list[Callable[[EventTopic | None, int], None]] = []

    def follow(self, news: Callable[[EventTopic | None, int], None]) -> Callable[[], None]:
        """Notify of new events."""
        self._followers.append(news)
        return lambda: self._followers.remove(news)

    @property
    def is_followed(self) -> bool:
        """Whether there is an observer."""
        return bool(self._followers)

    def publish(self, topic: EventTopic | None) -> None:
        """Store an event, and notify of it."""
        if topic is not None:
            self.events.append(topic)
        for follower in self._followers:
            follower(topic, len(self.events))

    async def head(self) -> int:
        """Return the newest sequence."""
        if self.fails:
            self.fails -= 1
            raise EventBackendError("It is away.")
        return len(self.events)

    async def topics(self) -> set[EventTopic]:
        """Return the topics that have events; others are added in the meantime."""
        found = {*self.events}
        self.while_asked()
        return found


class Inbox:
    """Records its calls."""

    def __init__(self) -> None:
        self.told: list[dict[EventTopic, int]] = []

    def follow(self, states: Sequence[TopicState]) -> None:
        """Record the heads of topics."""
        self.told.append({state.topic: state.head for state in states})

    def revoke(self, partitions: frozenset[int]) -> None:
        """Take no notice."""


def run(test: Callable[[NatsSubscription, Stream, Inbox], Awaitable[None]], stream: Stream) -> None:
    """Run a test with a listener without a group."""

    async def main() -> None:
        inbox = Inbox()
        request = SubscriptionRequest(api="shop", events=("*",), group="", member="1" * 16)
        subscription = NatsSubscription(cast(ApiStream, stream), request, inbox, GroupStart(0), 10.0)
        await test(subscription, stream, inbox)
        await subscription.close()
        assert not stream.is_followed

    asyncio.run(main())


def test_news_wait_until_all_topics_are_reported() -> None:
    """An event that arrives during the request for topics is reported with them: others may have earlier ones."""
    stream = Stream()
    stream.events = [FIRST, SECOND]

    async def test(subscription: NatsSubscription, stream: Stream, inbox: Inbox) -> None:
        stream.while_asked = lambda: stream.publish(THIRD)
        await subscription.open()
        assert inbox.told == [{FIRST: 2, SECOND: 2, THIRD: 3}]
        stream.publish(FIRST)
        assert inbox.told[1:] == [{FIRST: 4}]

    run(test, stream)


def test_possibly_missed_news_are_requested() -> None:
    """Until that is answered nothing is reported, however often it is requested."""
    stream = Stream()

    async def test(subscription: NatsSubscription, stream: Stream, inbox: Inbox) -> None:
        await subscription.open()
        assert inbox.told == [{}]
        stream.events += [FIRST, SECOND]
        stream.fails = 2
        stream.publish(None)
        stream.publish(THIRD)
        while len(inbox.told) < 2:
            await asyncio.sleep(0)
        assert inbox.told[1:] == [{FIRST: 3, SECOND: 3, THIRD: 3}]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TICK", 0.001)
        run(test, stream)


def test_topics_without_kept_events() -> None:
    """They are reported if they had events for us: only a fetch shows that these are gone."""
    stream = Stream()
    stream.counts.events.take_all([((FIRST, ALL), 1), ((SECOND, ALL), 2)])
    stream.events = [THIRD] * 3

    async def test(subscription: NatsSubscription, stream: Stream, inbox: Inbox) -> None:
        subscription._begins = GroupStart(1)
        await subscription.open()
        assert inbox.told == [{SECOND: 3, THIRD: 3}]

    run(test, stream)


@pytest.mark.parametrize(
    ("key", "is_looked_at"),
    [("info", True), ("dead.7", False), ("member.2222", True), ("part.1", True)],
)
def test_changed_records_wake_the_balancing(key: str, is_looked_at: bool) -> None:
    """Those of this group, its members and owners; not of dead letters, nor those of other groups."""

    async def main() -> None:
        request = SubscriptionRequest(api="shop", events=("*",), group="mail", member="1" * 16)
        subscription = NatsSubscription(cast(ApiStream, Stream()), request, Inbox(), GroupStart(0), 10.0)
        kind, *which = key.split(".")
        for group, expected in (("other", False), ("mail", is_looked_at)):
            subscription._on_record(".".join([kind, digest(group), *which]))
            assert subscription._wake.is_set() is expected

    asyncio.run(main())
